"""A new published file becomes an observation by declaring it: one YAML for the source, one entry in the catalogue."""

from __future__ import annotations

import filecmp
import os
import shutil
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from ingestion.declarations import PROJECT, load_sources
from ingestion.paths import Home
from tests.integration.conftest import dk, environment, succeeded

LEFT_OUT = (".git", ".venv", "var", ".ci", "__pycache__", ".ruff_cache", "*.egg-info")

# What this file invents is the source itself: a test cannot wait for a producer to open a new one.
PUBLISHED = """\
dep;nom;annee;points
01;Ain;2024;12
01;Ain;2025;14
23;Creuse;2024;1 034
23;Creuse;2025;NA
2A;Corse-du-Sud;2025;7
"""

DECLARATION = """\
version: 2
sources:
  - name: essai
    schema: landing
    description: Producteur inventé par un test.
    config:
      meta:
        producteur: Producteur d'essai
        external_location: "read_parquet('{{ env_var('DK_LANDING', '../var/work/landing') }}/{identifier}.parquet')"
    tables:
      - name: points
        identifier: essai__points
        description: Points d'essai par département et par année.
        config:
          meta:
            titre: Points d'essai, départements
            licence: LO-2.0
            citation: Producteur d'essai, Points, 2025
            confidentialite: publique
            cadence: annuelle
            fraicheur_jours: 460
            regle_millesime: La dernière année portée par le fichier.
            grain: un département et une année
            cle: [_millesime, departement_code, annee]
            format: {type: csv, separateur: ;, encodage: utf-8}
            mesures: {niveau: departement, code: departement_code, periode: annee}
            attendus: {lignes_min: 1, lignes_max: 300}
            livraisons:
              - {millesime: '2025', chemin: essai/points.csv, publie_le: '2026-02-01', cog_annee: 2025}
        columns:
          - name: departement_code
            data_type: varchar
            description: Code du département.
            config: {meta: {origine: dep, type: code_departement}}
          - name: annee
            data_type: bigint
            description: Année.
            config: {meta: {origine: annee, type: entier}}
          - name: points
            data_type: bigint
            description: Points d'essai.
            config: {meta: {origine: points, type: entier, unite: points, mesure: {id: essai_points, nature: effectif}}}
"""

INDICATOR = """\
  - indicateur_id: essai_nombre_points
    libelle: Nombre de points d'essai
    portee: politique_publique
    type: realisation
    domaine: null
    unite: points
    sens_favorable: hausse
    maille: departement
    formule: points du département
    sources: [essai__points]
    frequence: annuelle
    contrefactuel:
      pertinent: false
      methode: aucune
    agregation: somme
    confiance_donnee: haute
    note: ''
    calcul:
      type: somme
      numerateur: essai_points
    motif_sans_valeur: null

"""


def changed_files(copy: Path) -> list[str]:
    """Files of the copy that the original has not, or has otherwise."""
    found = []
    for path in copy.rglob("*"):
        name = path.relative_to(copy)
        if path.is_file() and "__pycache__" not in name.parts:
            original = PROJECT / name
            if not original.is_file() or not filecmp.cmp(path, original, shallow=False):
                found.append(name.as_posix())
    return sorted(found)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    return Path(shutil.copytree(PROJECT, tmp_path / "projet", ignore=shutil.ignore_patterns(*LEFT_OUT)))


def test_new_source_and_indicator_take_at_most_three_files(checkout: Path, copie: Home, tmp_path: Path) -> None:
    assert changed_files(checkout) == []
    (checkout / "dbt_project" / "models" / "sources" / "essai.yml").write_text(DECLARATION, encoding="utf-8")
    catalogue = checkout / "ingestion" / "catalogue" / "interventions" / "plan_creuse.yml"
    head, tail = catalogue.read_text(encoding="utf-8").split("indicateurs_partages:")
    catalogue.write_text(f"{head}{INDICATOR}indicateurs_partages:{tail}", encoding="utf-8")
    touched = changed_files(checkout)
    assert len(touched) <= 3
    assert touched == ["dbt_project/models/sources/essai.yml", "ingestion/catalogue/interventions/plan_creuse.yml"]

    mirror = tmp_path / "miroir"
    (mirror / "essai").mkdir(parents=True)
    (mirror / "essai" / "points.csv").write_text(PUBLISHED, encoding="utf-8")
    own_code = {"PYTHONPATH": str(checkout)}
    where_from = subprocess.run(
        [sys.executable, "-c", "import ingestion, expectations, orchestration as o; print(ingestion.__file__, expectations.__file__, o.__file__)"],
        env=environment(copie.root, **own_code), cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert all(Path(name).is_relative_to(checkout) for name in where_from.stdout.split())

    # Only what changed is collected: the mirror of this test holds one file.
    output = succeeded(
        dk(copie.root, "run", "--from", f"mirror:{mirror}", "--only", "essai__*", "--only", "catalogue__*", **own_code)
    )
    assert "essai__points : 5 lignes, 0 rejets" in output and "(nouvelle)" in output
    assert changed_files(checkout) == touched, "un passage ne change pas le projet"
    assert "essai__points" not in load_sources() and not (PROJECT / "dbt_project/models/sources/essai.yml").exists()

    with duckdb.connect(os.fspath(copie.releases / "current" / "dernier_kilometre.duckdb"), read_only=True) as con:
        observed = con.execute(
            "select territoire_niveau, territoire_code, year(periode_debut), valeur, unite, statut_valeur, provenance, source_id "
            "from fct_observation where indicateur_id = 'essai_nombre_points' and territoire_niveau = 'departement' order by 2, 3"
        ).fetchall()
        assert observed == [
            ("departement", "01", 2024, 12.0, "points", "observé", "publié", "essai__points"),
            ("departement", "01", 2025, 14.0, "points", "observé", "publié", "essai__points"),
            ("departement", "23", 2024, 1034.0, "points", "observé", "publié", "essai__points"),
            ("departement", "23", 2025, None, "points", "manquant", "publié", "essai__points"),
            ("departement", "2A", 2025, 7.0, "points", "observé", "publié", "essai__points"),
        ]
        # A region known by one of its departments is refused with its reason, never summed.
        refused = con.execute(
            "select territoire_niveau, territoire_code, valeur, motif from fct_observation where indicateur_id = 'essai_nombre_points' "
            "and territoire_niveau = 'region' and year(periode_debut) = 2025 order by 2"
        ).fetchall()
        assert [r[:3] for r in refused] == [("region", code, None) for code in ("75", "84", "94")]
        assert all(r[3].startswith("agrégat refusé") for r in refused)
        assert con.execute(
            "select titre, producteur, licence, fichier_declaration from dim_source where source_id = 'essai__points'"
        ).fetchall() == [
            ("Points d'essai, départements", "Producteur d'essai", "LO-2.0", "dbt_project/models/sources/essai.yml")
        ]
        assert con.execute(
            "select statut, dernier_millesime, lignes_lues, lignes_gardees from mart_fraicheur where source_id = 'essai__points'"
        ).fetchall() == [("à jour", "2025", 5, 5)]
        assert con.execute(
            "select intervention_id, portee from bridge_intervention_indicateur where indicateur_id = 'essai_nombre_points'"
        ).fetchall() == [("plan_creuse", "politique_publique")]
    assert "essai__points" in succeeded(dk(copie.root, "sources", **own_code))


def test_a_changed_rule_that_its_worked_example_contradicts_publishes_nothing(checkout: Path, copie: Home) -> None:
    path = checkout / "dbt_project" / "models" / "marts" / "mart_avancement.sql"
    sql = path.read_text(encoding="utf-8")
    assert "when taux < 0 then 0" in sql
    path.write_text(sql.replace("when taux < 0 then 0", ""), encoding="utf-8")
    before = (copie.releases / "current").resolve()
    done = dk(copie.root, "run", "--only", "catalogue__*", PYTHONPATH=str(checkout))
    assert done.returncode == 1
    assert "mart_avancement.taux_avancement" in done.stderr and f"{before.name} reste en place" in done.stderr
    assert (copie.releases / "current").resolve() == before
    assert [p.name for p in copie.releases.iterdir() if p.is_dir() and not p.is_symlink()] == [before.name]
