"""``dk explain`` on the embedded release: every step of the chain is checked against what it speaks of."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from ingestion.declarations import PROJECT
from tests.integration.conftest import Run, dk, succeeded


def chain(embedded: Run, *arguments: str) -> dict:
    return json.loads(succeeded(dk(embedded.home.root, "explain", *arguments, "--format", "json")))


def test_a_published_population_leads_to_its_line_and_its_bytes(embedded: Run) -> None:
    found = chain(embedded, "population_municipale", "commune:08105")
    assert found["territoire"] == {"niveau": "commune", "code": "08105", "nom": "Charleville-Mézières"}
    assert found["calcul"]["redonne_la_valeur"] is True
    blob = Path(found["instantane"]["fichier_local"])
    assert hashlib.sha256(blob.read_bytes()).hexdigest() == found["valeur"]["snapshot_sha256"] == found["instantane"]["sha256"]
    [line] = found["lignes"]["lignes"]
    # The line is the rank of the record in the published file: it holds the published figure.
    record = json.loads(blob.read_bytes())[line["ligne"] - 1]
    assert record["code"] == "08105" and record["population"] == found["valeur"]["valeur"] == line["valeur"]
    assert found["lignes"]["colonnes"][0]["colonne_origine"] == ["population"]
    assert found["source"]["licence"] and found["instantane"]["obtenu_le"]


def test_an_aggregate_names_the_members_that_add_up_to_it(embedded: Run) -> None:
    found = chain(embedded, "population_municipale", "departement:08")
    members = found["membres"]
    assert members["nombre"] == members["renseignes"] > 400
    epci = chain(embedded, "population_municipale", "epci:240800920")["membres"]
    assert epci["principaux"][0]["territoire_code"] == "08490"
    text = succeeded(dk(embedded.home.root, "explain", "population_municipale", "departement:08"))
    assert f"{members['renseignes']} renseignés sur {members['nombre']}" in text


def test_models_climb_to_the_sources_and_show_their_sql(embedded: Run) -> None:
    models = chain(embedded, "population_municipale", "departement:08", "--sql")["modele"]["amont"]
    assert models[0]["nom"] == "fct_observation" and "int_agregat" in [m["nom"] for m in models]
    for model in models:
        assert model["sql"] == (PROJECT / model["fichier"]).read_text(encoding="utf-8")


def test_the_checks_that_let_it_through_are_all_told(embedded: Run) -> None:
    checks = chain(embedded, "population_municipale", "departement:08")["controles"]
    assert {c["etape"] for c in checks} == {"arrivee", "entrepot", "candidat", "diffusion"}
    assert all(c["resultat"] == "réussi" for c in checks)


def test_the_date_chooses_the_period(embedded: Run) -> None:
    assert chain(embedded, "population_municipale", "departement:08", "--date", "2020-01-01")["valeur"]["periode_debut"] == "2020-01-01"


def test_bad_questions_get_a_clear_answer(embedded: Run) -> None:
    def refused(*arguments: str) -> str:
        done = dk(embedded.home.root, "explain", *arguments)
        assert done.returncode == 2 and "Traceback" not in done.stderr
        return done.stderr

    assert "population_municipale" in refused("population_municipal", "08105")
    assert "aucun territoire ne porte le code 99999" in refused("population_municipale", "99999")
    assert "ancien millésime" in refused("population_municipale", "commune:01039")
    assert "n'est pas un niveau" in refused("population_municipale", "ville:08105")
    assert "la série va du" in refused("population_municipale", "departement:08", "--date", "1999-01-01")
    assert "AAAA-MM-JJ" in refused("population_municipale", "departement:08", "--date", "hier")
    assert "préciser l'un de" in refused("population_municipale", "76")
