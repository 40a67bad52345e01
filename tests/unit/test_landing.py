"""Landing one source: which versions of a file stand, what the gate asks of each delivery, what a run leaves as it was.

The producer is a folder of this test, the days are those it sets; every figure is a fixture.
"""

from __future__ import annotations

import datetime as dt
import functools
import json
import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from ingestion import landing
from ingestion.declarations import SOURCES_DIR, DeclarationError, Source, load_sources
from ingestion.fetch import MirrorFolder, Package
from ingestion.landing import A_JOUR, ABSENTE, CONSERVEE, Etat, is_landed, land, write_registry
from ingestion.paths import DamagedFile, Home
from ingestion.snapshots import SnapshotStore

PUBLIE = dt.date(2024, 6, 30)
JOUR = dt.date(2025, 1, 10)
MESURE = {"id": "essai_points", "nature": "effectif"}
COLUMNS = [
    {"name": "code", "data_type": "varchar", "description": "d", "meta": {"origine": "code", "type": "code_commune"}},
    {"name": "annee", "data_type": "bigint", "description": "d", "meta": {"origine": "annee", "type": "entier"}},
    {"name": "points", "data_type": "bigint", "description": "d", "meta": {"origine": "points", "type": "entier", "mesure": MESURE}},
]


def declarer(nom: str = "points", **meta: Any) -> Source:
    return Source(
        source_id=f"essai__{nom}", groupe="essai", nom=nom, producteur="essai", description="essai", fichier="essai.yml",
        columns=COLUMNS,
        meta={
            "titre": "t", "licence": "LO-2.0", "citation": "c", "confidentialite": "publique", "cadence": "annuelle",
            "regle_millesime": "r", "grain": "g", "cle": ("_millesime", "code"), "format": {"type": "json"},
            "mesures": {"niveau": "commune", "code": "code", "periode": "annee"},
            "livraisons": [{"millesime": "2024", "chemin": "points.json", "publie_le": PUBLIE, "cog_annee": 2024}],
        } | meta,
    )  # fmt: skip


class Producteur:
    """A source, the folder where its producer publishes, and the installation that collects it day after day."""

    def __init__(self, root: Path, source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.where, self.source, self.day = root / "miroir", Home(root / "dk").ensure(), source, JOUR
        self.folder.mkdir()
        now = lambda: dt.datetime.combine(self.day, dt.time(12), dt.UTC)  # noqa: E731
        monkeypatch.setattr(landing, "SnapshotStore", functools.partial(SnapshotStore, now=now))

    def publish(self, points: dict[str, int], chemin: str = "points.json", **ignored: Any) -> None:
        rows = [{"code": code, "annee": 2023, "points": n} | ignored for code, n in points.items()]
        (self.folder / chemin).write_text(json.dumps(rows), encoding="utf-8")

    def land(self, transport: Any = None) -> list[Etat]:
        self.last = land(self.source, transport or MirrorFolder(self.folder), self.where)
        return self.last.etats

    def landed(self, name: str) -> pl.DataFrame:
        return pl.read_parquet(self.where.landing / name / f"{self.source.source_id}.parquet")

    def known(self) -> list[tuple[Any, ...]]:
        """What is known of each territory, since when, and whether it stands."""
        return sorted(self.landed("mesures").select("territoire_code", "connue_le", "valeur", "actuelle").rows())


@pytest.fixture
def chez(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    return lambda source: Producteur(tmp_path, source, monkeypatch)


# --- which versions stand ---------------------------------------------------------------------------------------


def test_of_the_versions_of_one_day_the_last_stands(chez: Any) -> None:
    """A producer that corrects twice in a day: two rows of one key known the same day would refuse every build after it."""
    producer = chez(declarer())
    for points in ({"01001": 1, "01002": 5}, {"01001": 2, "01002": 5}, {"01001": 3, "01002": 6}):
        producer.publish(points)
        (etat,) = producer.land()
    first = [("01001", PUBLIE, 1, False), ("01002", PUBLIE, 5, False)]
    assert producer.known() == sorted([*first, ("01001", JOUR, 3, True), ("01002", JOUR, 6, True)])
    assert (etat.versions, etat.connue_le, etat.statut_collecte) == (2, JOUR.isoformat(), A_JOUR)
    producer.day += dt.timedelta(1)
    producer.publish({"01001": 4, "01002": 6})
    assert producer.land()[0].versions == 3
    assert [row[2:] for row in producer.known() if row[0] == "01001"] == [(1, False), (3, False), (4, True)]


def test_what_comes_back_within_the_day_changed_nothing(chez: Any) -> None:
    producer = chez(declarer())
    for points in ({"01001": 1}, {"01001": 2}, {"01001": 1}):
        producer.publish(points)
        (etat,) = producer.land()
    assert producer.known() == [("01001", PUBLIE, 1, True)]
    assert (etat.versions, etat.connue_le) == (1, PUBLIE.isoformat())


def test_a_correction_published_on_its_first_day_is_the_first_version(chez: Any) -> None:
    producer = chez(declarer())
    producer.day = PUBLIE
    for points in ({"01001": 1}, {"01001": 2}):
        producer.publish(points)
        producer.land()
    assert producer.known() == [("01001", PUBLIE, 2, True)]


def test_the_same_rows_in_other_bytes_are_no_revision(chez: Any) -> None:
    """The embedded archive holds the declared keys of each file, a mirror holds the file: none is a revision of the other."""
    producer = chez(declarer())
    producer.publish({"01001": 1, "01002": 5})
    producer.land()
    before = {p: p.read_bytes() for p in producer.where.landing.rglob("*.parquet")}
    for rank in range(3):
        producer.day += dt.timedelta(1)
        producer.publish({"01001": 1, "01002": 5}, **({} if rank % 2 else {"lu_par_personne": rank}))
        (etat,) = producer.land()
        assert (etat.versions, etat.connue_le, producer.last.changed) == (1, PUBLIE.isoformat(), False)
    assert before == {p: p.read_bytes() for p in producer.where.landing.rglob("*.parquet")}
    # A true revision after them is one.
    producer.publish({"01001": 1, "01002": 7}, lu_par_personne=9)
    assert producer.land()[0].versions == 2


def test_replaced_versions_say_when_and_by_which_file(chez: Any) -> None:
    livraison = {"millesime": "2024", "chemin": "p*.json", "publie_le": PUBLIE, "cog_annee": 2024}
    producer = chez(declarer(livraisons=[livraison]))
    producer.publish({"01001": 1}, "p1.json")
    producer.publish({"01002": 2}, "p2.json")
    producer.land()
    producer.publish({"01003": 3}, "p2.json")
    producer.land()
    versions = producer.landed("versions").sort("chemin", "connue_le")
    assert versions.select("chemin", "connue_le", "remplacee_le").rows() == [
        ("p1.json", PUBLIE, None), ("p2.json", PUBLIE, JOUR), ("p2.json", JOUR, None),
    ]  # fmt: skip
    mesures = producer.landed("mesures")
    assert versions.join(mesures, on=["source_id", "millesime", "snapshot_sha256", "connue_le"]).height == mesures.height == 3


def test_a_revised_list_keeps_the_state_it_replaces(chez: Any) -> None:
    liste = {"interventions": ("pvd",), "niveau": "commune", "code": "code"}
    producer = chez(declarer(liste=liste, attendus={"part_precedente_min": 0.5}))
    for points in ({"01001": 1, "01002": 1}, {"01001": 1}):
        producer.publish(points)
        producer.land()
    rows = producer.landed("listes").select("code_origine", "etat_date", "connue_le", "actuelle", "liste_id").rows()
    name = "essai__points"
    assert sorted(rows) == [
        ("01001", PUBLIE, PUBLIE, False, name), ("01001", PUBLIE, JOUR, True, name), ("01002", PUBLIE, PUBLIE, False, name),
    ]  # fmt: skip


def test_two_sources_may_hold_states_of_one_list(chez: Any) -> None:
    liste = {"interventions": ("ti",), "niveau": "perimetre", "projet": "code", "etats_de": "essai__suite"}
    producer = chez(declarer(liste=liste))
    producer.publish({"01001": 1})
    producer.land()
    assert producer.landed("listes")["liste_id"].to_list() == ["essai__suite"]


@pytest.mark.parametrize("named", ["anct__inconnue", "anct__acv2", "anct__territoires_industrie_2023"])
def test_a_list_whose_first_source_has_no_list_of_its_own_is_refused(named: str, tmp_path: Path) -> None:
    text = (SOURCES_DIR / "anct.yml").read_text(encoding="utf-8")
    (tmp_path / "anct.yml").write_text(text.replace("etats_de: anct__territoires_industrie", f"etats_de: {named}"), encoding="utf-8")
    with pytest.raises(DeclarationError, match=f"anct.territoires_industrie_2023 : liste.etats_de cite '{named}'"):
        load_sources(tmp_path)


# --- the gate ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "livraison", "accepted"),
    [
        ({}, None, False),
        ({"part_precedente_min": 0.5}, None, True),
        ({"part_precedente_min": 0.5}, {"part_precedente_min": 0.9}, False),
        ({}, {"part_precedente_min": 0}, True),
        ({"part_precedente_min": 0.5}, {"lignes_min": 9}, False),
        ({"lignes_min": 9}, {"lignes_min": 1, "part_precedente_min": 0.8}, True),
    ],
)
def test_a_file_that_comes_back_much_shorter_is_refused(
    table: dict[str, Any], livraison: dict[str, Any] | None, accepted: bool, chez: Any
) -> None:
    """Eight lines in place of ten, by what is declared of the table and of this delivery."""
    delivery = {"millesime": "2024", "chemin": "points.json", "publie_le": PUBLIE, "cog_annee": 2024, "attendus": livraison}
    producer = chez(declarer(attendus=table, livraisons=[delivery]))
    ten = {f"010{rank:02}": rank for rank in range(10)}
    producer.publish(ten)
    assert producer.land()[0].statut_collecte == A_JOUR
    producer.publish(dict(list(ten.items())[:8]))
    (etat,) = producer.land()
    assert (etat.lignes_gardees, etat.statut_collecte) == ((8, A_JOUR) if accepted else (10, CONSERVEE))
    assert accepted or "points.json : livraison refusée par" in etat.motif


def test_deliveries_of_different_sizes_have_each_their_floor(chez: Any) -> None:
    floors = {"2023": 1, "2024": 3}
    deliveries = [
        {"millesime": m, "chemin": f"{m}.json", "publie_le": PUBLIE, "cog_annee": 2024, "attendus": {"lignes_min": n}}
        for m, n in floors.items()
    ]
    producer = chez(declarer(livraisons=deliveries))
    for millesime in floors:
        producer.publish({"01001": 1}, f"{millesime}.json")
    assert {e.millesime: e.statut_collecte for e in producer.land()} == {"2023": A_JOUR, "2024": ABSENTE}


# --- what a run leaves as it was --------------------------------------------------------------------------------


def test_a_file_that_nobody_asked_for_keeps_its_state(chez: Any) -> None:
    livraisons = [
        {"millesime": m, "chemin": f"{m}.json", "publie_le": PUBLIE, "cog_annee": 2024} for m in ("2022", "2023", "2024")
    ]
    producer = chez(declarer(livraisons=livraisons))
    for millesime in ("2022", "2023"):
        producer.publish({"01001": 1}, f"{millesime}.json")
    producer.land()
    (producer.folder / "2023.json").unlink()
    before = producer.land()
    assert [(e.statut_collecte, e.demandee) for e in before] == [(A_JOUR, True), (CONSERVEE, True), (ABSENTE, True)]
    assert producer.land(Package()) == before and not producer.last.changed and not producer.last.problemes
    # What the producer gives again is up to date again.
    producer.publish({"01001": 1}, "2023.json")
    assert [e.statut_collecte for e in producer.land()] == [A_JOUR, A_JOUR, ABSENTE]


def test_a_source_never_asked_for_is_absent_and_not_late(chez: Any) -> None:
    producer = chez(declarer())
    (etat,) = producer.land(Package())
    assert (etat.statut_collecte, etat.demandee, etat.motif) == (ABSENTE, False, "jamais collectée")
    assert producer.landed("mesures").is_empty()
    producer.publish({"01001": 1})
    assert [(e.statut_collecte, e.demandee) for e in producer.land()] == [(A_JOUR, True)]


def test_the_published_reason_says_nothing_of_this_machine(chez: Any) -> None:
    producer = chez(declarer())
    (etat,) = producer.land()
    assert "fichier absent" in etat.motif and str(producer.folder) not in etat.motif
    assert str(producer.folder) in producer.last.problemes[0], "le journal, lui, dit où"


def test_bytes_that_were_lost_are_read_once_they_are_back(chez: Any) -> None:
    producer = chez(declarer())
    producer.publish({"01001": 1})
    (etat,) = producer.land()
    blob = SnapshotStore(producer.where.snapshots).blob(etat.snapshot_sha256)
    for path in (producer.where.work / "lectures").rglob("*.json"):
        path.unlink()
    content = blob.read_bytes()
    blob.unlink()
    (lost,) = producer.land(Package())
    assert lost.snapshot_sha256 is None and "instantané" in lost.motif and str(producer.where.root) not in lost.motif
    blob.write_bytes(content)
    assert producer.land(Package()) == [etat]


def test_the_registry_does_without_sources_never_landed(chez: Any) -> None:
    producer = chez(declarer())
    other = declarer("autre")
    producer.publish({"01001": 1})
    producer.land()
    write_registry([producer.source, other], producer.where)
    registre = producer.where.landing / "registre"
    assert pl.read_parquet(registre / "sources.parquet")["source_id"].to_list() == ["essai__autre", "essai__points"]
    assert pl.read_parquet(registre / "livraisons.parquet").select("source_id", "demandee").rows() == [("essai__points", True)]


def test_a_source_is_landed_by_one_reader_and_one_declaration(chez: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    producer = chez(declarer())
    assert not is_landed(producer.source, producer.where)
    producer.land(Package())
    assert is_landed(producer.source, producer.where)
    assert not is_landed(declarer(attendus={"lignes_min": 2}), producer.where)
    monkeypatch.setattr(landing, "_reader_version", lambda: "autre")
    assert not is_landed(producer.source, producer.where)


def test_a_declared_file_that_follows_the_rule_is_not_a_second_vintage(chez: Any) -> None:
    """A vintage named by its day, in a file whose name also follows the rule: the second collection must not take it up again."""
    livraison = {"millesime": "2022-12-01", "chemin": "points-20221201.json", "publie_le": PUBLIE, "cog_annee": 2024}
    rule = {"chemin": "points-{millesime}.json", "millesime": r"\d{8}", "publie_apres_jours": 0, "cog_ecart": 1, "format": {"type": "json"}}
    producer = chez(declarer(livraisons=[livraison], nouvelles_livraisons=rule))
    producer.publish({"01001": 1, "01002": 5}, "points-20221201.json")
    assert [e.millesime for e in producer.land()] == ["2022-12-01"]
    assert [e.millesime for e in producer.land()] == ["2022-12-01"] and not producer.last.changed
    producer.publish({"01001": 2, "01002": 5}, "points-20240801.json")
    assert [e.millesime for e in producer.land()] == ["2022-12-01", "20240801"]
    assert [e.millesime for e in producer.land(Package())] == ["2022-12-01", "20240801"], "taken up once, it stays"


def test_of_many_rows_the_damaged_version_is_the_one_named(chez: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Past what memory holds, versions are joined without passing through memory: the engine alone meets the damage."""
    monkeypatch.setattr("ingestion.reading.ENSEMBLE_MAX_CELLULES", 1)
    producer = chez(declarer())
    for points in ({"01001": 1, "01002": 5}, {"01001": 2, "01002": 5}):
        producer.publish(points)
        producer.land()
        producer.day += dt.timedelta(1)
    first, second = sorted(producer.where.work.glob("lectures/*/*/table.parquet"), key=lambda path: path.stat().st_mtime_ns)
    content = bytearray(second.read_bytes())
    content[4:60] = bytes(56)  # the data, not the table of contents at the end
    second.write_bytes(content)
    (producer.where.landing / f"{producer.source.source_id}.parquet").unlink()
    with pytest.raises(DamagedFile, match=re.escape(str(second.parent))) as damaged:
        producer.land()
    assert str(first.parent) not in str(damaged.value)
