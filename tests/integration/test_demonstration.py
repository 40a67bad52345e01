"""The demonstration world in a real run: what is landed of it, what is rejected, what is published, what never is."""

from __future__ import annotations

import json
from pathlib import Path

import duckdb
import polars as pl
import pytest

from ingestion import demonstration
from ingestion.catalogue_schema import famille_de, load_catalogue
from ingestion.demonstration import world
from ingestion.records.layout import kinds
from orchestration.release import evaluators_folder
from tests.integration.conftest import Run


@pytest.fixture(scope="module")
def monde() -> demonstration.Monde:
    return demonstration.monde()


@pytest.fixture(scope="module")
def release(embedded: Run) -> Path:
    """Tables of the evaluators' release: nothing in it is masked."""
    assert embedded.code == 0, embedded.output
    return evaluators_folder(embedded.home) / "current" / "parquet"


def ask(release: Path, sql: str) -> list[tuple]:
    with duckdb.connect() as con:
        for path in release.glob("*.parquet"):
            con.read_parquet(str(path)).create_view(path.stem)
        return con.execute(sql).fetchall()


def test_every_clean_row_is_landed_and_every_bad_one_rejected_with_its_line(
    embedded: Run, monde: demonstration.Monde
) -> None:
    landing = embedded.home.landing
    for kind in kinds():
        rows = pl.read_parquet(landing / f"interne__{kind}.parquet")
        assert set(rows["_millesime"]) == {"demonstration"} and rows["_actuelle"].all()
        assert rows.height == monde.clean[kind].height, kind
        rejected = pl.read_parquet(landing / "rejets" / f"interne__{kind}.parquet")
        planted = monde.dirt.filter(pl.col("kind") == kind)["ligne"]
        assert sorted(set(rejected["ligne"])) == planted.sort().to_list(), kind
        state = json.loads((landing / "etats" / f"interne__{kind}.json").read_text(encoding="utf-8"))
        assert [e["lignes_rejetees"] for e in state["etats"] if e["millesime"] == "demonstration"] == [len(planted)]


def test_simulated_outcomes_are_published_as_they_were_drawn_and_their_truth_is_not(
    embedded: Run, release: Path
) -> None:
    published = pl.DataFrame(
        ask(
            release,
            "select territoire_code, extract(year from periode_debut)::bigint, indicateur_id, valeur from fct_observation "
            "where indicateur_id like 'demo_%' and territoire_niveau = 'commune'",
        ),
        schema={"commune_code": pl.String, "annee": pl.Int64, "resultat": pl.String, "valeur": pl.Float64},
        orient="row",
    )
    drawn, truth = demonstration.panel()
    long = drawn.unpivot(index=["commune_code", "annee"], variable_name="resultat", value_name="tire")
    both = long.join(published, on=["commune_code", "annee", "resultat"])
    assert both.height == long.height == published.height
    assert (both["tire"] == both["valeur"]).all()
    assert not [p for p in embedded.home.root.rglob("*verite*")]
    for path in [*embedded.home.root.rglob("*.parquet")]:
        assert not set(truth.columns) <= set(pl.read_parquet_schema(path)), path


def test_the_warehouse_finds_exactly_the_breaches_that_were_planted(release: Path, monde: demonstration.Monde) -> None:
    found: dict[str, set[str]] = {}
    for regle, demande in ask(release, "select regle, demande_id from audit_protocole"):
        found.setdefault(regle, set()).add(demande)
    # Nobody plants a request that sleeps: those that nobody answered do.
    asleep = found.pop("demande_dormante")
    answered = monde.clean["evenement_demande"].filter(pl.col("type_evenement").str.starts_with("clôture"))
    assert len(asleep) > 300 and not asleep & set(answered["demande_id"])
    planted = {name: set(group["demande_id"]) for (name,), group in monde.manquements.group_by("manquement")}
    assert found == planted


# Events of one moment only: mergers follow the end of the rural contracts, who is in post is known of today.
D_UN_MOMENT = {"ct_contrats_fusionnes", "pvd_chefs_de_projet"}


def test_every_internal_indicator_has_values_in_most_departements_and_years(release: Path) -> None:
    """Pacts, massifs and incubations have theirs where they are; a rate needs something to divide by that year."""
    wanted = {
        i.indicateur_id: item.intervention_id
        for item in load_catalogue().interventions.values()
        for i in item.indicateurs
        if i.calcul and famille_de(i.calcul.numerateur)
    }
    assert len(wanted) > 90
    found = {
        name: (cells, years)
        for name, cells, years in ask(
            release,
            "select indicateur_id, count(distinct (territoire_code, periode_fin)), count(distinct periode_fin) "
            "from fct_observation where valeur is not null and est_derniere_version and territoire_niveau = 'departement' "
            "and extract(year from periode_fin) between 2020 and 2025 group by indicateur_id",
        )
    }
    assert wanted.keys() <= found.keys()
    few = {}
    for name, owner in wanted.items():
        cells, years = found[name]
        local = owner in (*world.PACTES, "montagne", "incubation_coconstruction")
        if not local and name not in D_UN_MOMENT and (years < 3 or cells < 0.55 * 101 * years):
            few[name] = (cells, years)
    assert not few, few
