"""The declared layouts: what they hold together, and that their own examples pass their own checks."""

from __future__ import annotations

import re

import duckdb
import pytest
import yaml

from ingestion.declarations import SOURCES_DIR, DeclarationError, Source, load_file
from ingestion.records.layout import (
    header,
    interventions,
    key_of,
    kind_named,
    kinds,
    kinds_of,
    labels,
    normalise,
)
from tests.records_samples import judged, row, rules

KINDS = [
    "convention", "action", "engagement_financier", "demande_ingenierie", "evenement_demande", "convention_operateur",
    "formation", "concertation", "incubation", "critere", "objectif",
]  # fmt: skip
PERSONNELLES = {
    "convention": {"intitule", "signataires", "referent_nom", "referent_courriel", "referent_telephone"},
    "action": {"commentaire"},
    "engagement_financier": {"referent_nom"},
    "demande_ingenierie": {"objet", "interlocuteur_nom", "contact_courriel", "contact_telephone"},
    "evenement_demande": {"auteur_nom"},
    "convention_operateur": set(),
    "formation": {"formateur_nom"},
    "concertation": {"animateur_nom"},
    "incubation": {"parties_prenantes"},
    "critere": set(),
    "objectif": {"auteur_nom"},
}  # fmt: skip


def test_the_eleven_kinds_come_in_the_order_in_which_they_refer_to_each_other() -> None:
    assert list(kinds()) == KINDS
    for kind, source in kinds().items():
        for column in source.saisies:
            reference = column.meta.saisie.reference or ""
            if "." in reference:
                assert KINDS.index(reference.split(".")[0]) <= KINDS.index(kind), (kind, column.name)


def test_personal_columns_are_these_and_no_other_is_kept_under_their_names() -> None:
    assert {k: {c.name for c in s.columns if c.meta.personnelle} for k, s in kinds().items()} == PERSONNELLES
    kept = {c.name for s in kinds().values() for c in s.conservees}
    assert [n for n in kept if re.search("nom$|courriel|telephone|signataires$", n)] == []
    assert "interlocuteur_nom_pseudonyme" in kept


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_tells_a_person_who_sends_it_and_how_to_fill_each_column(kind: str) -> None:
    source = kinds()[kind]
    assert "departement_code" in {c.name for c in source.saisies}
    assert source.meta.confidentialite == "interne"
    assert [item.millesime for item in source.meta.livraisons] == ["registre", "demonstration"]
    assert set(key_of(source)) <= {c.name for c in source.conservees if c.meta.saisie and c.meta.saisie.obligatoire}
    headers = [normalise(label) for label in labels(kind).values()]
    assert len(headers) == len(set(headers)), "deux en-têtes que l'on ne distinguerait pas"
    for column in source.saisies:
        assert column.meta.saisie.exemple, f"{kind}.{column.name} : pas d'exemple"
        assert column.description.endswith("."), column.name
        assert header(column) == labels(kind)[column.name]
        if column.meta.saisie.obligatoire:
            assert not column.meta.personnelle, "on ne peut exiger ce que l'on jette"


@pytest.mark.parametrize("kind", KINDS)
def test_a_rule_over_a_row_is_a_condition_that_duckdb_understands_over_kept_columns(kind: str) -> None:
    source = kinds()[kind]
    columns = ", ".join(f"null::{c.data_type} as {c.name}" for c in source.conservees)
    for rule in source.meta.regles:
        found = duckdb.sql(f"select ({rule.condition}) as verdict from (select {columns})")
        assert [str(t) for t in found.types] == ["BOOLEAN"], rule.nom
        assert found.fetchall()[0][0] is not False, f"{rule.nom} : une ligne vide serait refusée par cette règle"


def test_the_declared_examples_together_make_a_file_without_anomaly() -> None:
    checked = judged(**{kind: [row(kind)] for kind in KINDS})
    assert {kind: rules(result) for kind, result in checked.items() if result.fausses} == {}
    assert all(not result.refused for result in checked.values())


def test_a_kind_answers_to_its_name_and_title_however_they_are_typed() -> None:
    assert kind_named("Demandes d’INGENIERIE") == "demande_ingenierie"
    assert kind_named("evenement demande") == kind_named("Événements des demandes") == "evenement_demande"
    assert kind_named("Mode d'emploi") is None


def test_an_intervention_is_offered_the_kinds_that_serve_it() -> None:
    assert kinds_of("sur_mesure") == ["convention", "action", "demande_ingenierie", "evenement_demande", "objectif"]
    assert "critere" in kinds_of("pacte_ardennes") and "critere" not in kinds_of("formation_elus")
    assert "formation" in kinds_of("formation_elus")
    assert "convention_operateur" in kinds_of("op_cerema")
    for name in interventions():
        assert {"action", "objectif"} <= set(kinds_of(name)), name
    with pytest.raises(KeyError):
        kinds_of("inconnue")


def broken(tmp_path, kind: str, change) -> str:
    """The message with which a declaration, changed in one way, is refused."""
    document = yaml.safe_load((SOURCES_DIR / "interne.yml").read_text(encoding="utf-8"))
    table = next(t for t in document["sources"][0]["tables"] if t["name"] == kind)
    change(table)
    path = tmp_path / "interne.yml"
    path.write_text(yaml.safe_dump(document, allow_unicode=True), encoding="utf-8")
    with pytest.raises(DeclarationError) as error:
        load_file(path)
    return str(error.value)


def column(table, name: str):
    return next(c for c in table["columns"] if c["name"] == name)["config"]["meta"]


def test_a_personal_column_can_be_neither_key_nor_named_by_a_rule(tmp_path) -> None:
    def key(table):
        column(table, "convention_id")["confidentialite"] = "personnelle"

    def rule(table):
        table["config"]["meta"]["regles"][0]["colonne"] = "referent_nom"

    assert "convention_id est une donnée personnelle" in broken(tmp_path, "convention", key)
    assert "fin_apres_signature" in broken(tmp_path, "convention", rule)


def test_a_pseudonym_needs_a_personal_column_and_a_column_of_its_own(tmp_path) -> None:
    def alone(table):
        table["columns"] = [c for c in table["columns"] if c["name"] != "interlocuteur_nom_pseudonyme"]

    def public(table):
        column(table, "theme")["pseudonyme"] = True

    assert "interlocuteur_nom_pseudonyme" in broken(tmp_path, "demande_ingenierie", alone)
    assert "pseudonyme ne vaut que" in broken(tmp_path, "demande_ingenierie", public)


def test_an_impossible_way_to_fill_a_column_is_refused(tmp_path) -> None:
    def bounds(table):
        column(table, "note_avant")["saisie"]["min"] = 20

    def example(table):
        column(table, "public")["saisie"]["exemple"] = "enfants"

    def origin(table):
        table["config"]["meta"]["livraisons"][0]["demonstration"] = True

    assert "min dépasse max" in broken(tmp_path, "formation", bounds)
    assert "« enfants » n'est pas une des valeurs" in broken(tmp_path, "formation", example)
    assert "pas des deux" in broken(tmp_path, "formation", origin)


def test_the_kept_columns_of_a_source_of_producers_are_all_its_columns() -> None:
    from ingestion.declarations import load_sources

    others: list[Source] = [s for s in load_sources().values() if s.groupe != "interne"]
    assert len(others) > 40 and all(s.conservees == s.columns and not s.saisies for s in others)
