"""The job on the real published files, when they are beside the project: the figures that must come out of it.

Every expected figure is either the producer's own, as SOURCES.md of the mirror records it, or counted here from the
published bytes without the product's reader.
"""

from __future__ import annotations

import csv
import datetime as dt
import gzip
import hashlib
import json
import shutil
from pathlib import Path

import polars as pl

from ingestion.catalogue_schema import load_catalogue, sort_files
from ingestion.declarations import load_sources
from tests.mirror.conftest import MIRROR, Ask, Run, landed, run

MAYOTTE = 256_518  # its population of 2017, frozen in every vintage since 2019 and left out of the totals of SOURCES.md
COLLECTIVITES = ("975", "977", "978", "98")


# --- the job ----------------------------------------------------------------------------------------------------


def test_it_fits_in_time_and_memory_and_then_has_nothing_to_do(first: Run) -> None:
    """Other tests run meanwhile: seconds of a processor are counted."""
    assert first.cpu <= 240
    assert first.peak_gib <= 4
    releases = sorted(p.name for p in (first.home / "releases").iterdir())
    again = run(first.home)
    assert again.cpu <= 30
    assert "inchangée" in again.output
    assert sorted(p.name for p in (first.home / "releases").iterdir()) == releases


def test_an_embedded_run_on_top_of_a_mirror_revises_nothing_and_makes_nothing_late(first: Run, tmp_path: Path) -> None:
    """The embedded archive packs four of the same files otherwise, and was asked for no other; the demonstration comes beside."""

    def observed(folder: Path) -> pl.DataFrame:
        return pl.read_parquet(folder / "parquet" / "fct_observation.parquet").filter(pl.col("mention").is_null())

    home = Path(shutil.copytree(first.home, tmp_path / "home", symlinks=True))
    before = (home / "releases" / "current").resolve()
    output = run(home, "embedded").output
    after = (home / "releases" / "current").resolve()
    assert "En retard" not in output and after.name.startswith("demo-")
    assert observed(after).equals(observed(before))


def test_every_value_leads_to_published_bytes(first: Run, ask: Ask) -> None:
    shas = [row[0] for row in ask("select distinct snapshot_sha256 from fct_observation")]
    assert len(shas) > 30
    stored = {p.name: p for p in (first.home / "snapshots").rglob("*") if p.is_file() and len(p.name) == 64}
    assert set(shas) <= stored.keys()
    for sha in shas:
        assert hashlib.sha256(stored[sha].read_bytes()).hexdigest() == sha
    # … and those bytes are those of the mirror, by its own inventory.
    with (MIRROR / "INVENTAIRE.csv").open(encoding="utf-8") as stream:
        published = {row["sha256"] for row in csv.DictReader(stream, delimiter=";")}
    assert len(published & set(shas)) == len(shas)


def test_no_row_is_lost(ask: Ask) -> None:
    rows = ask("select source_id, lignes_lues, lignes_gardees, lignes_rejetees, lignes_hors_tableau, statut from mart_fraicheur")
    assert len(rows) == len(load_sources()) == 104
    for source_id, lues, gardees, rejetees, hors, statut in rows:
        if source_id.startswith(("interne__", "demonstration__")):  # nothing of theirs is in a mirror
            assert (lues, statut) == (0, "non fournie"), source_id
            continue
        assert lues > 0 and lues == gardees + rejetees + hors, source_id
        assert statut == "à jour", source_id


# --- who was treated where --------------------------------------------------------------------------------------


def test_petites_villes_de_demain(ask: Ask) -> None:
    assert ask(
        "select count(*), count(date_debut) from fct_intervention_territoire "
        "where intervention_id = 'petites_villes_de_demain' and statut = 'actif'"
    ) == [(1645, 1637)]


def test_action_coeur_de_ville_conventions(ask: Ask) -> None:
    assert ask(
        "select count(date_debut), min(date_debut), max(date_debut) from fct_intervention_territoire "
        "where intervention_id = 'action_coeur_de_ville'"
    ) == [(235, dt.date(2018, 6, 8), dt.date(2019, 9, 24))]


def test_france_services_tells_antennas_apart(first: Run, ask: Ask) -> None:
    sites = landed(first, "anct__france_services").filter(pl.col("_millesime") == "2024-08-01")
    assert sites.height == 2845
    assert dict(sites["type_site"].value_counts().rows()) == {"Antenne": 124, "Principal": 2721}
    national = dict(
        ask(
            "select indicateur_id, valeur from fct_observation where territoire_niveau = 'national' and est_derniere_version "
            "and indicateur_id in ('fs_sites', 'fs_antennes') and periode_debut = date '2024-08-01'"
        )
    )
    assert national == {"fs_sites": 2719, "fs_antennes": 124}
    # « France » is its départements: what it lacks against the list is Saint-Martin, which its own level shows.
    beyond = sites.filter((pl.col("type_site") == "Principal") & pl.col("commune_code").str.starts_with("978")).height
    assert (beyond, national["fs_sites"] + beyond) == (2, 2721)
    everywhere = (
        "select sum(valeur), sum(valeur) filter (territoire_code = '978') from fct_observation where est_derniere_version "
        "and indicateur_id = 'fs_sites' and territoire_niveau = 'departement' and periode_debut = date '2024-08-01'"
    )
    assert ask(everywhere) == [(2721, 2)]


def test_territoires_industrie_keeps_its_departures(first: Run, ask: Ask) -> None:
    lists = landed(first, "anct__territoires_industrie").unique(["_millesime", "projet_id"])
    assert dict(lists["_millesime"].value_counts().rows()) == {"2024": 183, "2026": 149}
    assert landed(first, "anct__territoires_industrie_2023")["projet_id"].n_unique() == 149
    rows = ask(
        "select statut, count(*), count(date_fin) from fct_intervention_territoire "
        "where intervention_id = 'territoires_industrie' group by 1 order by 1"
    )
    assert rows == [("actif", 149, 0), ("sorti", 38, 38)]


def test_a_list_that_shrinks_is_a_departure_not_a_loss(ask: Ask) -> None:
    """1,645 communes are in the last list of PVD; the 19 that an earlier one held are kept, with the date they left by."""
    rows = ask(
        "select statut, count(*), count(date_fin) from fct_intervention_territoire "
        "where intervention_id = 'petites_villes_de_demain' group by 1 order by 1"
    )
    assert rows == [("actif", 1645, 0), ("sorti", 19, 19)]


# --- measures ---------------------------------------------------------------------------------------------------


def test_population_totals_are_the_published_ones(ask: Ask) -> None:
    found = dict(
        ask(
            "select extract(year from periode_debut), valeur from fct_observation where indicateur_id = 'population_municipale' "
            "and territoire_niveau = 'national' and est_derniere_version"
        )
    )
    totals = {2019: 66_988_403, 2020: 67_162_154, 2021: 67_391_791, 2022: 67_760_573, 2023: 68_094_280}
    assert {year: found[year] - MAYOTTE for year in totals} == totals
    assert found[2016] == 66_361_658
    folder = MIRROR / "etalab_decoupage_administratif"
    for year, edition in ((2016, "pop2016_v0.3.0"), (2023, "pop2023_v6.0.0")):
        communes = json.loads(gzip.decompress((folder / edition / "communes.json.gz").read_bytes()))
        # Arrondissements of Paris, Lyon and Marseille have a type of their own: added, they would count twice.
        # Collectivités d'outre-mer stand in the files of some vintages and in no national total.
        assert found[year] == sum(
            c.get("population", 0) for c in communes if c["type"] == "commune-actuelle" and not c["code"].startswith(COLLECTIVITES)
        )


def test_thirty_four_interventions_at_least_have_observed_values(ask: Ask) -> None:
    """At the level where they act, or at an enclosing level that is labelled so."""
    ((interventions, labelled),) = ask(
        "select count(*), sum(case when observes_au_niveau_action + observes_territoire_englobant > 0 then 1 else 0 end) "
        "from mart_couverture where observations > 0"
    )
    assert interventions == labelled >= 37


def test_sixty_indicators_at_least_have_values_at_two_dates(ask: Ask) -> None:
    """Those that the catalogue links to an intervention; many on both sides of its start, where it has one."""
    linked = (
        "select pont.intervention_id, pont.indicateur_id, min(o.periode_debut) as premiere, max(o.periode_fin) as derniere "
        "from bridge_intervention_indicateur as pont inner join fct_observation as o on o.indicateur_id = pont.indicateur_id "
        "where o.valeur is not null and o.statut_valeur in ('observé', 'provisoire') and o.est_derniere_version "
        "group by 1, 2 having count(distinct o.periode_debut) >= 2"
    )
    assert ask(f"select count(distinct indicateur_id) from ({linked})")[0][0] >= 115
    both_sides = ask(
        f"select count(distinct lien.indicateur_id), count(distinct lien.intervention_id) from ({linked}) as lien inner join "
        "(select intervention_id, min(date_debut) as debut from fct_intervention_territoire group by 1 having min(date_debut) is not null) "
        "as traite on traite.intervention_id = lien.intervention_id and lien.premiere < traite.debut and lien.derniere > traite.debut"
    )
    assert both_sides[0][0] >= 20 and both_sides[0][1] >= 8


def test_no_file_of_the_mirror_is_silent() -> None:
    """Each is a declared delivery, or is left out with a written reason; and no reason speaks of nothing."""
    with (MIRROR / "INVENTAIRE.csv").open(encoding="utf-8") as stream:
        names = [row["fichier"] for row in csv.DictReader(stream, delimiter=";")]
    assert len(names) == 413
    assert sort_files(names, load_catalogue(), load_sources()) == ([], [])
    families = {path.name for path in MIRROR.iterdir() if path.is_dir()}
    assert families == {name.split("/")[0] for name in names}


# --- perimeters of the pacts ------------------------------------------------------------------------------------


def test_the_mining_basin_is_its_eight_groupings_and_says_that_it_is_approximate(ask: Ask) -> None:
    ((name, communes, people),) = ask(
        "select p.territoire_nom, count(distinct c.territoire_code), sum(c.population) from dim_territoire as p "
        "inner join bridge_territoire as m on m.parent_niveau = 'perimetre' and m.parent_code = p.territoire_code "
        "inner join dim_territoire as c on c.territoire_niveau = 'commune' and c.est_pivot and c.epci_code = m.membre_code "
        "where p.territoire_code = 'bassin_minier_epci' group by 1"
    )
    # 250 communes and 1.2 million people by the agency: whole groupings overrun them, and the name says so.
    assert (communes, people) == (336, 1_255_036) and "approché" in name
    assert ask("select date_debut, statut from fct_intervention_territoire where intervention_id = 'bassin_minier'") == [
        (dt.date(2017, 3, 7), "actif")
    ]
    years = ask("select count(*) from fct_observation where territoire_code = 'bassin_minier_epci' and indicateur_id = 'population_municipale' and valeur is not null")
    assert years == [(8,)]


def test_sambre_avesnois_thierache_has_the_communes_of_its_pact(ask: Ask) -> None:
    ((communes, people),) = ask(
        "select count(*), sum(c.population) from dim_territoire as c inner join bridge_territoire as m on m.parent_niveau = 'perimetre' "
        "and m.parent_code = 'pacte_sambre_avesnois_thierache' and m.membre_code = c.arrondissement_code "
        "where c.territoire_niveau = 'commune' and c.est_pivot"
    )
    assert 300 <= communes <= 311 and 290_000 <= people <= 305_000  # 311 communes and 305,000 people when it was signed


def test_pacts_are_dated_to_the_day(ask: Ask) -> None:
    assert dict(
        ask("select intervention_id, date_debut from fct_intervention_territoire where source_id = 'catalogue__perimetres' order by 2")
    ) == {
        "bassin_minier": dt.date(2017, 3, 7), "pacte_sambre_avesnois": dt.date(2018, 11, 7), "pacte_nievre": dt.date(2019, 2, 15),
        "pacte_ardennes": dt.date(2019, 3, 15), "plan_creuse": dt.date(2019, 4, 5),
    }  # fmt: skip


def test_progress_rates_are_those_of_the_ditp(ask: Ask) -> None:
    """impact.md 1.2: the published ``indic_ta``, from the barometer's own initial, current and target values (R-TA)."""
    ((compared, close, unbounded),) = ask(
        "select count(*), count(*) filter (where abs(taux_avancement_borne - taux_publie) <= 1), "
        "count(*) filter (where taux_avancement > 100 and taux_avancement_borne = 100) "
        "from mart_avancement where taux_publie is not null and taux_avancement is not null"
    )
    assert compared == 6980
    assert close >= 6973
    assert unbounded > 0
    others = ask(
        "select distinct indicateur_id from mart_avancement where taux_avancement is not null "
        "and abs(taux_avancement_borne - taux_publie) > 1"
    )
    assert others == [("ditp_ind_337",)]


# --- traps of SOURCES.md ----------------------------------------------------------------------------------------


def test_duplicate_keys_of_the_barometer_are_told(ask: Ask) -> None:
    """Rows that repeat (indicator, département, date), 1,159 in the 2023 file, are rejected one by one with their line."""
    repeated = {}
    for path in (MIRROR / "etalab_barometre_2017_2022").glob("barometre-resultats-detail-departemental_*.csv.gz"):
        with gzip.open(path, "rt", encoding="utf-8-sig", newline="") as stream:
            keys = [(row["id_indicateur"], row["code_departement"], row["date"]) for row in csv.DictReader(stream)]
        repeated[path.name.split("_")[1][:10]] = len(keys) - len(set(keys))
    assert repeated["2023-01-19"] == 1159
    rejected = ask(
        "select millesime, count(*), count(distinct ligne) from audit_rejet "
        "where source_id = 'etalab__barometre_departements' and motif like 'clé en double%' group by 1"
    )
    assert {millesime: lines for millesime, _, lines in rejected} == {k: n for k, n in repeated.items() if n}
    assert all(rows == lines for _, rows, lines in rejected)


def test_a_break_starts_a_new_series(ask: Ask) -> None:
    """DVF volumes double in 2019 and LOVAC changes its method in 2025: one series never spans such a date."""
    starts = {}
    for indicateur, start in ask(
        "select indicateur_id, min(periode_debut) from fct_observation where territoire_niveau = 'departement' "
        "and indicateur_id in ('dvf_mutations', 'dvf_prix_m2', 'lovac_taux_vacance', 'lovac_taux_vacance_2ans') "
        "group by indicateur_id, serie order by 1, 2"
    ):
        starts.setdefault(indicateur, []).append(start.year)
    assert starts == {
        "dvf_mutations": [2014, 2019],
        "dvf_prix_m2": [2014],
        "lovac_taux_vacance": [2020, 2023, 2025],
        "lovac_taux_vacance_2ans": [2020, 2025],
    }
