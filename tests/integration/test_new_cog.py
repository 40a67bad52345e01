"""A COG that does not exist yet, added by its files and their declaration: counts follow the communes, no code changes."""

from __future__ import annotations

import csv
import gzip
import json
import os
from pathlib import Path

import duckdb
import pytest

from ingestion.paths import Home
from tests.integration.conftest import EMBEDDED_COMMUNES, dk
from tests.integration.test_add_source import changed_files, checkout  # noqa: F401 (a fixture)

NEW = "etalab_decoupage_administratif/pop2024_v7.0.0"
DELIVERY = """
              - {{millesime: '2024', chemin: {new}/{table}.json.gz, publie_le: '2027-01-02', cog_annee: 2027}}"""
MOVES = """
              - {millesime: '2027', chemin: insee_cog/v_mvt_commune_2027.csv, publie_le: '2027-01-02', cog_annee: 2027, attendus: {lignes_min: 1}}"""
COLUMNS = ("MOD", "DATE_EFF", "TYPECOM_AV", "COM_AV", "LIBELLE_AV", "TYPECOM_AP", "COM_AP", "LIBELLE_AP")
# Ajain joins Ahun; Anzême is split, two thirds and one; Alleyrat changes its code for one of another département's making.
EVENTS = [
    ("32", "23001", "23001"), ("32", "23002", "23001"), ("21", "23004", "23004"), ("21", "23004", "23998"), ("41", "23003", "23999"),
]  # fmt: skip


@pytest.fixture
def mirror(archive: Path, tmp_path: Path) -> Path:
    """The files of the new vintage, and nothing else."""
    folder = tmp_path / "miroir"
    communes = json.loads((archive / EMBEDDED_COMMUNES).read_bytes())
    places = {c["code"]: c for c in communes if c["type"] == "commune-actuelle"}
    ahun, ajain, anzeme, alleyrat = (places[code] for code in ("23001", "23002", "23004", "23003"))
    ahun["population"] += ajain["population"]
    ajain |= {"type": "commune-deleguee", "chefLieu": "23001"}
    ajain.pop("population")
    communes.append(anzeme | {"code": "23998", "nom": "Anzême-le-Neuf", "population": 200, "siren": "212399988"})
    anzeme["population"] = 400
    alleyrat["code"] = "23999"
    epci = json.loads((archive / EMBEDDED_COMMUNES).with_name("epci.json").read_bytes())
    for group in epci:
        codes = {m["code"]: m for m in group["membres"]}
        if "23002" in codes:
            group["membres"].remove(codes["23002"])
        if "23003" in codes:
            codes["23003"]["code"] = "23999"
        if "23004" in codes:
            group["membres"].append(codes["23004"] | {"code": "23998", "nom": "Anzême-le-Neuf"})
    (folder / NEW).mkdir(parents=True)
    for name, content in (("communes", communes), ("epci", epci)):
        (folder / NEW / f"{name}.json.gz").write_bytes(gzip.compress(json.dumps(content, ensure_ascii=False).encode(), 1))
    (folder / "insee_cog").mkdir()
    with (folder / "insee_cog" / "v_mvt_commune_2027.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(COLUMNS)
        writer.writerows([kind, "2027-01-01", "COM", before, before, "COM", after, after] for kind, before, after in EVENTS)
    return folder


def add(path: Path, table: str, delivery: str) -> None:
    """Adds a delivery to the declaration of one table."""
    head, tail = path.read_text(encoding="utf-8").split(f"      - name: {table}\n", 1)
    before, after = tail.split("\n            livraisons:", 1)
    path.write_text(f"{head}      - name: {table}\n{before}\n            livraisons:{delivery}{after}", encoding="utf-8")


def test_a_new_cog_is_added_by_its_files(checkout: Path, copie: Home, mirror: Path) -> None:  # noqa: F811
    sources = checkout / "dbt_project" / "models" / "sources"
    for table in ("communes", "epci"):
        add(sources / "etalab.yml", table, DELIVERY.format(new=NEW, table=table))
    add(sources / "insee.yml", "mouvements", MOVES)
    assert changed_files(checkout) == ["dbt_project/models/sources/etalab.yml", "dbt_project/models/sources/insee.yml"]
    with duckdb.connect(os.fspath(copie.releases / "current" / "dernier_kilometre.duckdb"), read_only=True) as con:
        people = dict(con.execute(
            "select territoire_code, valeur from fct_observation where indicateur_id = 'population_municipale' and est_derniere_version "
            "and territoire_niveau = 'commune' and territoire_code in ('23001', '23002', '23003', '23004') and year(periode_debut) = 2023"
        ).fetchall())  # fmt: skip
        totals = con.execute(
            "select year(periode_debut), valeur from fct_observation where indicateur_id = 'population_municipale' "
            "and est_derniere_version and territoire_niveau = 'departement' and territoire_code = '23' order by 1"
        ).fetchall()
    done = dk(
        copie.root, "run", "--from", f"mirror:{mirror}", "--only", "etalab__communes", "--only", "etalab__epci", "--only", "insee__mouvements",
        PYTHONPATH=str(checkout),
    )  # fmt: skip
    # 3: published, and the older vintages, which this mirror does not hold, are said to be late.
    assert done.returncode == 3 and "(nouvelle)" in done.stdout, done.stdout[-3000:] + done.stderr[-3000:]
    with duckdb.connect(os.fspath(copie.releases / "current" / "dernier_kilometre.duckdb"), read_only=True) as con:
        pivot = con.execute("select distinct cog_annee from dim_territoire where est_pivot").fetchall()
        now = {
            row[0]: row[1:]
            for row in con.execute(
                "select territoire_code, valeur, statut_valeur, cog_annee, provenance from fct_observation "
                "where indicateur_id = 'population_municipale' and est_derniere_version and territoire_niveau = 'commune' "
                "and territoire_code in ('23001', '23002', '23003', '23004', '23998', '23999') and year(periode_debut) = 2023"
            ).fetchall()
        }
        after = con.execute(
            "select year(periode_debut), valeur from fct_observation where indicateur_id = 'population_municipale' "
            "and est_derniere_version and territoire_niveau = 'departement' and territoire_code = '23' and year(periode_debut) < 2024 order by 1"
        ).fetchall()
    assert pivot == [(2027,)]
    assert now.keys() == {"23001", "23004", "23998", "23999"}  # what no longer exists has no figure of its own
    # A fusion: counts are summed, and remain observed.
    assert now["23001"][:3] == (people["23001"] + people["23002"], "observé", 2027)
    # A change of code: the figure follows.
    assert now["23999"][:3] == (people["23003"], "observé", 2027)
    # A split: shared out by the first population known after it (400 and 200), and said to be estimated.
    assert now["23004"][:3] == (pytest.approx(people["23004"] * 2 / 3), "estimé", 2027)
    assert now["23998"][:3] == (pytest.approx(people["23004"] / 3), "estimé", 2027)
    # Nobody was lost or counted twice on the way.
    assert after == [(year, pytest.approx(value)) for year, value in totals]
