"""The producers' interfaces, spoken by a local server over TLS under their real names: what is collected, and what is said
when a producer replaces, renames, removes, slows down or breaks."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ingestion.declarations import Source
from ingestion.fetch import FetchError, Http, Live, MirrorFolder
from ingestion.landing import Landing, land
from ingestion.paths import Home
from ingestion.snapshots import SnapshotStore
from tests.producers import Producers
from tests.server import Response

ROWS = "CODGEO;ANNEE;POP{aa}\n" + "".join(f"010{rank:02};{{aaaa}};{rank * 10}\n" for rank in range(1, 40))
GOUV = {"protocole": "data_gouv", "jeu": "population", "fichier": "pop{millesime}.csv", "confiance": "B"}
STATIC = "static.data.gouv.fr"


def rows(year: int, name: str = "POP{aa}") -> str:
    return ROWS.replace("POP{aa}", name).replace("{aaaa}", str(year)).replace("{aa}", str(year)[2:])


def a_source(live: dict | None = None, vintages: tuple[str, ...] = ("2021",), rule: dict | None = None, **meta: object) -> Source:
    """One table, one file a vintage, a column renamed each year."""
    return Source(
        source_id="essai__population", groupe="essai", nom="population", producteur="Essai", description="d", fichier="essai.yml",
        meta={
            "titre": "t", "licence": "LO-2.0", "citation": "c", "confidentialite": "publique", "cadence": "annuelle",
            "regle_millesime": "r", "grain": "g", "cle": ("_millesime", "commune_code"), "format": {"type": "csv", "separateur": ";"},
            "mesures": {"niveau": "commune", "code": "commune_code", "periode": "annee"}, "attendus": {"lignes_min": 30},
            "livraisons": [
                {"millesime": name, "chemin": f"pop/pop{name}.csv", "publie_le": dt.date(2022, 6, 1), "cog_annee": 2022} for name in vintages
            ],
            "live": live, "nouvelles_livraisons": rule,
        } | meta,
        columns=[
            {"name": "commune_code", "data_type": "varchar", "description": "d", "meta": {"origine": "CODGEO", "type": "code_commune"}},
            {"name": "annee", "data_type": "bigint", "description": "d", "meta": {"origine": "ANNEE", "type": "entier"}},
            {"name": "population", "data_type": "bigint", "description": "d",
             "meta": {"origine": "POP{aa}", "type": "entier", "mesure": {"id": "population_essai", "nature": "effectif"}}},
        ],
    )  # fmt: skip


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    folder = tmp_path / "miroir"
    (folder / "pop").mkdir(parents=True)
    for year in (2021, 2022):
        (folder / "pop" / f"pop{year}.csv").write_text(rows(year), encoding="utf-8")
    return folder


@pytest.fixture
def waits() -> list[float]:
    return []


Start = Callable[..., Producers]


@pytest.fixture
def start(mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Starts the producers of some sources; the environment of this process then leads to them."""
    running: list[Producers] = []

    def starting(*sources: Source, hosts: tuple[str, ...] = ()) -> Producers:
        producers = Producers(mirror, tmp_path, sources, hosts)
        for name, value in producers.environment.items():
            monkeypatch.setenv(name, value)
        running.append(producers.__enter__())
        return producers

    yield starting
    for producers in running:
        producers.__exit__()


@pytest.fixture
def live(waits: list[float]) -> Live:
    return Live(Http(sleep=waits.append, random=lambda: 0.0, connect=5, read=2))


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "dk").ensure()


def years(home: Home) -> list[int]:
    """Years of the landed rows, in order."""
    import polars as pl

    return sorted(set(pl.read_parquet(home.landing / "essai__population.parquet")["annee"].to_list()))


def states(result: Landing) -> dict[str, str]:
    return {etat.millesime: etat.statut_collecte for etat in result.etats}


# --- what each interface gives -----------------------------------------------------------------------------------


def test_a_stable_id_leads_to_the_file_of_the_day(start: Start, live: Live, home: Home, mirror: Path) -> None:
    source = a_source({"protocole": "data_gouv", "ressource": "r-1", "confiance": "A"})
    producers = start(source)
    assert states(land(source, live, home)) == {"2021": "à jour"}
    (snapshot,) = SnapshotStore(home.snapshots).history(source.source_id)
    assert snapshot.url == "https://www.data.gouv.fr/api/1/datasets/r/r-1"
    # Nothing changed: the file is not sent again.
    land(source, Live(live.http), home)
    assert len(SnapshotStore(home.snapshots).history(source.source_id)) == 1
    # The producer puts another file under the same id: its address changes, the identifier that is followed does not.
    new = mirror / "pop" / "autre.csv"
    new.write_text(rows(2021).replace(";100\n", ";101\n"), encoding="utf-8")
    producers.publish("jeu-r-1", "pop-2021-corrige.csv", new, "r-1", "20250601-101010")
    result = land(source, Live(live.http), home)
    assert states(result) == {"2021": "à jour"}
    before, after = SnapshotStore(home.snapshots).history(source.source_id)
    assert before.connue_le == "2022-06-01" < after.connue_le and before.url == after.url
    assert producers.asked(STATIC)[-1] == "/resources/jeu-r-1/20250601-101010/pop-2021-corrige.csv"


def test_a_data_set_is_read_page_by_page_and_the_youngest_namesake_wins(start: Start, live: Live, home: Home, mirror: Path) -> None:
    source = a_source(GOUV)
    producers = start(source)
    for rank in range(120):
        producers.publish("population", f"notice-{rank:03}.pdf", mirror / "pop" / "pop2022.csv", stamp="20260101-000000")
    old = mirror / "pop" / "vieux.csv"
    old.write_text("CODGEO;ANNEE;POP21\n", encoding="utf-8")
    producers.publish("population", "pop2021.csv", old, "ancienne", "20200101-000000")
    assert states(land(source, live, home)) == {"2021": "à jour"}
    pages = [request.query for request in producers.requests if request.path.endswith("/resources/")]
    assert [query.split("&")[0] for query in pages] == ["page=1", "page=2", "page=3"]


def test_an_export_of_opendatasoft_asks_what_the_declaration_says(start: Start, live: Live, home: Home) -> None:
    source = a_source(
        {"protocole": "opendatasoft", "portail": "https://opendata.caissedesdepots.fr", "jeu": "territoires", "libelles": True,
         "filtre": 'annee="{aaaa}"', "confiance": "B"}
    )  # fmt: skip
    producers = start(source)
    assert states(land(source, live, home)) == {"2021": "à jour"}
    (request,) = producers.requests
    assert request.path == "/api/explore/v2.1/catalog/datasets/territoires/exports/csv"
    assert request.query == "use_labels=true&where=annee%3D%222021%22"


def test_an_attached_file_of_a_portal(start: Start, live: Live, home: Home) -> None:
    source = a_source(
        {"protocole": "opendatasoft", "portail": "data.drees.solidarites-sante.gouv.fr", "jeu": "530_apl", "piece": "apl_{aaaa}_csv", "confiance": "B"}
    )
    producers = start(source)
    assert states(land(source, live, home)) == {"2021": "à jour"}
    assert producers.asked("data.drees.solidarites-sante.gouv.fr") == ["/api/explore/v2.1/catalog/datasets/530_apl/attachments/apl_2021_csv"]


def test_melodi_tells_its_products_and_asks_to_slow_down(start: Start, live: Live, home: Home, waits: list[float], mirror: Path) -> None:
    source = a_source({"protocole": "melodi", "jeu": "DS_RP", "fichier": "DS_RP_{aaaa}_CSV_FR", "confiance": "B"})
    producers = start(source)
    place = "/melodi/file/DS_RP/DS_RP_2021_CSV_FR"
    producers.say("api.insee.fr", place, [Response(status=429, headers={"Retry-After": "7"}), Response(body=(mirror / "pop" / "pop2021.csv").read_bytes())])
    assert states(land(source, live, home)) == {"2021": "à jour"}
    assert waits == [7.0]
    assert producers.asked("api.insee.fr") == ["/melodi/catalog/DS_RP", place, place]


def test_a_product_that_melodi_does_not_have_is_told_with_those_it_has(start: Start, live: Live, home: Home) -> None:
    source = a_source({"protocole": "melodi", "jeu": "DS_RP", "fichier": "DS_RP_{aaaa}_CSV_FR", "confiance": "B"})
    producers = start(source)
    producers.products["DS_RP"] = {"DS_RP_2024_CSV_FR": Path("x")}
    (problem,) = land(source, live, home).problemes
    assert "« DS_RP_2021_CSV_FR »" in problem and "il y a DS_RP_2024_CSV_FR" in problem


def test_a_repository_is_read_at_its_revision(start: Start, live: Live, home: Home) -> None:
    source = a_source({"protocole": "depot", "depot": "anct-carto/essai", "revision": "0123abcdef", "fichier": "data/{nom}", "confiance": "A"})
    producers = start(source)
    assert states(land(source, live, home)) == {"2021": "à jour"}
    assert producers.asked("github.com") == ["/anct-carto/essai/raw/0123abcdef/data/pop2021.csv"]
    assert producers.asked("raw.githubusercontent.com") == ["/anct-carto/essai/0123abcdef/data/pop2021.csv"]


def test_the_form_that_a_link_leads_to_may_be_either_of_those_declared(start: Start, live: Live, home: Home, mirror: Path) -> None:
    """A list published as a table, whose copy in the mirror is a map layer: the link may lead to one or the other."""
    layer = {"format": {"type": "json", "enregistrements": "features.*.properties"}}
    declared = {"protocole": "data_gouv", "ressource": "r-1", "confiance": "A", "format": {"type": "csv", "separateur": ";"}}
    features = [{"properties": {"CODGEO": f"010{rank:02}", "ANNEE": 2021, "POP21": rank}} for rank in range(1, 40)]
    (mirror / "pop" / "pop2021.csv").write_text(json.dumps({"features": features}), encoding="utf-8")
    source = a_source(declared, **layer)
    producers = start(source)
    assert states(land(source, live, home)) == {"2021": "à jour"}
    table = mirror / "pop" / "table.csv"
    table.write_text(rows(2021), encoding="utf-8")
    producers.publish("jeu-r-1", "liste.csv", table, "r-1", "20250601-101010")
    assert states(land(source, Live(live.http), home)) == {"2021": "à jour"}
    assert len(SnapshotStore(home.snapshots).history(source.source_id)) == 2


# --- what a producer does wrong ----------------------------------------------------------------------------------

BROKEN = [
    (Response(body=b"<!DOCTYPE html><html>Maintenance</html>"), "page web"),
    (Response(status=503), "HTTP 503"),
    (Response(body=rows(2021).encode(), cut_after=200), "coupé"),
    (Response(reset=True), "ne répond pas"),
    (Response(body=rows(2021).encode(), delay=4), "délai"),
    (Response(body=b""), "fichier vide"),
    (Response.redirect("https://ailleurs.example/pop.csv"), "hôte non prévu (ailleurs.example)"),
    (Response(status=404), "absente ou retirée (HTTP 404)"),
    (Response(status=410), "absente ou retirée (HTTP 410)"),
]


@pytest.mark.parametrize(("answer", "reason"), BROKEN, ids=[reason for _, reason in BROKEN])
def test_a_broken_producer_leaves_the_last_good_version(
    start: Start, live: Live, home: Home, waits: list[float], answer: Response, reason: str
) -> None:
    source = a_source(GOUV)
    producers = start(source)
    assert states(land(source, live, home)) == {"2021": "à jour"}
    (resource,) = producers.resources.values()
    producers.say(STATIC, resource.place, [answer])
    result = land(source, Live(live.http), home)
    assert states(result) == {"2021": "dernière bonne version conservée"}
    (problem,) = result.problemes
    assert reason in problem and "pop/pop2021.csv" in problem and " ; " in problem  # the file, and what to do
    assert years(home) == [2021]


def test_a_cut_transfer_is_tried_again(start: Start, live: Live, home: Home, waits: list[float]) -> None:
    source = a_source(GOUV)
    producers = start(source)
    (resource,) = producers.resources.values()
    body = resource.body.read_bytes()
    producers.say(STATIC, resource.place, [Response(body=body, cut_after=100), Response(reset=True), Response(body=body)])
    assert states(land(source, live, home)) == {"2021": "à jour"}
    assert len(waits) == 2


def test_a_file_that_is_not_the_one_announced_is_refused(start: Start, live: Live, home: Home, waits: list[float]) -> None:
    source = a_source(GOUV)
    producers = start(source)
    (resource,) = producers.resources.values()
    resource.checksum = "0" * 40
    (problem,) = land(source, live, home).problemes
    assert "empreinte sha1" in problem and len(waits) == 3


def test_a_resource_withdrawn_from_its_data_set_is_told_with_what_the_data_set_holds(start: Start, live: Live, home: Home) -> None:
    source = a_source(GOUV)
    producers = start(source)
    assert states(land(source, live, home)) == {"2021": "à jour"}
    (resource,) = producers.resources.values()
    resource.title = "population-des-communes.csv"
    (problem,) = land(source, Live(live.http), home).problemes
    assert "« population »" in problem and "« pop2021.csv »" in problem and "population-des-communes.csv" in problem
    assert years(home) == [2021]


def test_a_catalogue_in_maintenance_does_not_stop_a_stable_id(start: Start, live: Live, home: Home) -> None:
    source = a_source({"protocole": "data_gouv", "ressource": "r-1", "confiance": "A"})
    producers = start(source)
    producers.say("www.data.gouv.fr", "/api/2/datasets/resources/r-1/", [Response(body=b"<html>maintenance</html>")])
    assert states(land(source, live, home)) == {"2021": "à jour"}


def test_nothing_but_declared_hosts_is_reached(start: Start, live: Live, home: Home) -> None:
    source = a_source({"protocole": "https", "url": "https://www.insee.fr/pop{aaaa}.csv", "confiance": "B"})
    producers = start(source)
    producers.say("www.insee.fr", "/pop2021.csv", [Response.redirect("https://autre.example/x")])
    assert "hôte non prévu (autre.example), refusée" in land(source, live, home).problemes[0]
    assert producers.strangers == []


# --- vintages that nobody declared --------------------------------------------------------------------------------

YEARLY = {"chemin": "pop/pop{millesime}.csv", "publie_apres_jours": 500, "cog_ecart": 1}
QUARTERLY = {"chemin": "pop/taux_{millesime}.csv", "millesime": r"20\d\dT[1-4]", "publie_apres_jours": 92, "cumulative": True}


@pytest.mark.parametrize("way", ["live", "mirror"])
def test_a_new_year_is_taken_up_by_itself(start: Start, live: Live, home: Home, mirror: Path, way: str) -> None:
    """The same dates and codes by either way: what is known from when must not depend on the transport."""
    source = a_source(GOUV, rule=YEARLY)
    producers = start(source)
    producers.publish("population", "pop2022.csv", mirror / "pop" / "pop2022.csv")
    result = land(source, live if way == "live" else MirrorFolder(mirror), home)
    assert states(result) == {"2021": "à jour", "2022": "à jour"} and not result.non_declarees
    assert years(home) == [2021, 2022]
    new = result.etats[1]
    assert (new.chemin, new.publie_le, new.cog_annee, new.connue_le) == ("pop/pop2022.csv", "2024-05-14", 2023, "2024-05-14")
    # A run that cannot list keeps it.
    assert states(land(source.model_copy(), MirrorFolder(mirror.parent / "vide"), home)) == {
        "2021": "dernière bonne version conservée", "2022": "dernière bonne version conservée",
    }  # fmt: skip


def test_a_new_year_with_an_unknown_column_stops_with_its_name_and_what_looks_like_it(
    start: Start, live: Live, home: Home, mirror: Path
) -> None:
    source = a_source(GOUV, rule=YEARLY)
    producers = start(source)
    renamed = mirror / "pop" / "renomme.csv"
    renamed.write_text(rows(2022, "POPMUN{aa}"), encoding="utf-8")
    producers.publish("population", "pop2022.csv", renamed)
    result = land(source, live, home)
    assert states(result) == {"2021": "à jour", "2022": "non fournie"}
    (problem,) = result.problemes
    for part in ("pop/pop2022.csv", "« POP22 »", "déclarée population", "POPMUN22", "« origine » dans essai.yml"):
        assert part in problem
    assert years(home) == [2021]


def test_the_next_quarter_is_found_at_its_address_and_replaces_the_last(start: Start, live: Live, home: Home, mirror: Path) -> None:
    url = {"protocole": "https", "url": "https://www.insee.fr/fr/statistiques/fichier/2012804/taux_{millesime}.csv", "confiance": "B"}
    declared = {"millesime": "2021T3", "chemin": "pop/taux_2021T3.csv", "publie_le": dt.date(2022, 1, 1)}
    source = a_source(url, rule=QUARTERLY, livraisons=[declared])
    (mirror / "pop" / "taux_2021T3.csv").write_text(rows(2021), encoding="utf-8")
    producers = start(source)
    assert states(land(source, live, home)) == {"2021T3": "à jour"}
    # The producer publishes two quarters more, and withdraws the first file.
    for name in ("2021T4", "2022T1"):
        file = mirror / "pop" / f"taux_{name}.csv"
        file.write_text(rows(2021, f"POP{name[2:4]}") + "01099;2021;7\n", encoding="utf-8")
        producers.serve("www.insee.fr", f"/fr/statistiques/fichier/2012804/taux_{name}.csv", file)
    del producers.files["www.insee.fr", "/fr/statistiques/fichier/2012804/taux_2021T3.csv"]
    result = land(source, Live(live.http), home)
    assert states(result) == {"2021T3": "à jour", "2021T4": "à jour", "2022T1": "à jour"} and not result.problemes
    assert [etat.publie_le for etat in result.etats] == ["2022-01-01", "2022-04-02", "2022-07-01"]


def test_a_two_digit_year_that_nobody_foresaw_is_not_a_year_of_antiquity(home: Home, mirror: Path) -> None:
    (mirror / "pop" / "pop2021.csv").write_text(rows(2021).replace(";2021;", ";21;"), encoding="utf-8")
    (problem,) = land(a_source(), MirrorFolder(mirror), home).problemes
    assert "« rejets »" in problem
    column = a_source().columns[1]
    whole = a_source().model_copy(update={"columns": (a_source().columns[0], column.model_copy(update={"meta": column.meta.model_copy(update={"siecle": "20"})}), a_source().columns[2])})
    assert states(land(whole, MirrorFolder(mirror), home)) == {"2021": "à jour"}
    assert years(home) == [2021]


def test_a_glob_needs_a_data_set(live: Live) -> None:
    source = a_source({"protocole": "https", "url": "https://www.insee.fr/x.csv", "confiance": "B"}, livraisons=[
        {"millesime": "2021", "chemin": "pop/*.csv", "publie_le": dt.date(2022, 1, 1)}
    ])  # fmt: skip
    assert not live.provides(source, source.meta.livraisons[0])
    with pytest.raises(FetchError, match="sert un seul fichier"):
        live.list_files(source, source.meta.livraisons[0])
