"""Grist and Démarches simplifiées against local servers that answer as their documentation says, and as it does not."""

from __future__ import annotations

import datetime as dt
import json
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pytest

from ingestion.fetch import Http
from ingestion.paths import Home
from ingestion.records import connectors
from ingestion.records.connectors import Collecte, ConnectorError, collect, load
from tests.records_server import FakeDemarches, FakeGrist, as_json, champ
from tests.server import Request, Response, Server

JETON_GRIST, JETON_DS = "grist-4f1c0a9e77b2d6", "ds-A9Knc34tPzzQ8=="
NOW = dt.datetime(2026, 11, 25, 6, 0, tzinfo=dt.UTC)
COURRIEL, TELEPHONE, NOM = "jeanne.durand@example.org", "06 39 98 12 34", "Jeanne Durand-Lefèvre"

CONVENTIONS = {
    "convention_id": "Identifiant", "intervention_id": "Programme", "departement_code": "Dep", "territoire_niveau": "Niveau",
    "territoire_code": "Code", "date_signature": "Signee_le", "statut": "Statut", "chef_de_projet_en_poste": "En_poste",
    "signataires_nb": "Signataires", "referent_nom": "Referent", "referent_courriel": "Courriel",
}  # fmt: skip
GRIST_TYPES = {
    "Identifiant": "Text", "Programme": "Choice", "Dep": "Text", "Niveau": "Choice", "Code": "Text", "Signee_le": "Date",
    "Statut": "Choice", "En_poste": "Bool", "Signataires": "Int", "Referent": "Text", "Courriel": "Text",
}  # fmt: skip
DEMANDES = {
    "demande_id": "@numero", "departement_code": "Département", "territoire_niveau": "Échelon", "territoire_code": "Commune",
    "collectivite_fragile": "Collectivité fragile", "date_demande": "Date de la demande", "theme": "Thème",
    "objet": "Objet du projet", "contact_courriel": "Courriel",
}  # fmt: skip
CHAMPS = {label: f"Q2hhbXAt{rank}" for rank, label in enumerate(v for v in DEMANDES.values() if not v.startswith("@"))}


def convention(rank: int, **changed: object) -> dict[str, object]:
    return {
        "Identifiant": f"23-PVD-{rank:03d}", "Programme": "petites_villes_de_demain", "Dep": "23", "Niveau": "commune",
        "Code": "23096", "Signee_le": 1609459200 + 86400 * rank, "Statut": "signée", "En_poste": True, "Signataires": 3,
        "Referent": NOM, "Courriel": COURRIEL,
    } | changed  # fmt: skip


def demande(**changed: object) -> dict[str, object]:
    return {
        "Département": "23", "Échelon": "commune", "Commune": ("Guéret", "23096"), "Collectivité fragile": True,
        "Date de la demande": dt.date(2025, 11, 3), "Thème": "habitat", "Objet du projet": f"voir {NOM}", "Courriel": COURRIEL,
    } | changed  # fmt: skip


@pytest.fixture
def where(tmp_path: Path) -> Home:
    return Home(tmp_path / "dk").ensure()


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        yield running


@pytest.fixture
def waits() -> list[float]:
    return []


@pytest.fixture
def http(waits: list[float]) -> Http:
    return Http(sleep=waits.append, random=lambda: 1.0, now=lambda: NOW, connect=2, read=2)


@pytest.fixture(autouse=True)
def _tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DK_GRIST_JETON", JETON_GRIST)
    monkeypatch.setenv("DK_DS_JETON", JETON_DS)
    monkeypatch.delenv("DK_CLE_PSEUDONYMES", raising=False)


def configure(where: Home, *entries: dict[str, object]) -> None:
    where.connecteurs.write_text(json.dumps({"connecteurs": list(entries)}, ensure_ascii=False), encoding="utf-8")


def grist_entry(server: Server, **changed: object) -> dict[str, object]:
    return {
        "type": "grist", "nom": "conventions_pvd", "base": server.url, "document": "9mD3ZYvG7p", "table": "Conventions",
        "kind": "convention", "colonnes": CONVENTIONS,
    } | changed  # fmt: skip


def demarche_entry(server: Server, **changed: object) -> dict[str, object]:
    return {
        "type": "demarches_simplifiees", "nom": "demandes", "base": server.url, "demarche": 12345,
        "kind": "demande_ingenierie", "colonnes": DEMANDES,
    } | changed  # fmt: skip


@pytest.fixture
def grist(server: Server, where: Home) -> FakeGrist:
    found = FakeGrist(server, JETON_GRIST)
    found.table("9mD3ZYvG7p", "Conventions", GRIST_TYPES, [convention(rank) for rank in range(1, 11)])
    configure(where, grist_entry(server))
    return found


@pytest.fixture
def demarches(server: Server, where: Home) -> FakeDemarches:
    found = FakeDemarches(server, JETON_DS, 12345, dict(CHAMPS))
    for number in range(1, 26):
        found.dossier(number, demande(), f"2026-01-{number:02d}T08:00:00+01:00")
    configure(where, demarche_entry(server, taille_page=10))
    return found


def one(where: Home, http: Http, now: dt.datetime = NOW) -> Collecte:
    (result,) = collect(where, http=http, now=lambda: now)
    return result


def taken(where: Home, http: Http, now: dt.datetime = NOW) -> Collecte:
    result = one(where, http, now)
    assert result.erreur is None and result.admission is not None, result.erreur
    assert not result.admission.refusee, result.admission
    return result


def failed(where: Home, http: Http) -> str:
    """The message of a collection that took nothing, having checked that nothing was written but the state before."""
    before = everything(where)
    result = one(where, http)
    assert result.erreur is not None and result.admission is None
    assert everything(where) == before
    assert JETON_GRIST not in result.erreur and JETON_DS not in result.erreur
    return result.erreur


def rows(where: Home, kind: str, nom: str) -> pl.DataFrame:
    return pl.read_parquet(where.registre / kind / f"{nom}.parquet")


def everything(where: Home) -> dict[str, bytes]:
    return {str(p.relative_to(where.root)): p.read_bytes() for p in sorted(where.root.rglob("*")) if p.is_file()}


# --- configuration ------------------------------------------------------------------------------------------------


def test_no_file_means_no_connector(where: Home, http: Http) -> None:
    assert load(where) == [] and collect(where, http=http) == []


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"base": "http://grist.exemple.gouv.fr"}, "base : le jeton passerait en clair"),
        ({"base": "https://moi:secret@grist.exemple.gouv.fr"}, "base : une adresse sans identifiant"),
        ({"base": "ftp://grist.exemple.gouv.fr"}, "base : écrire une adresse en https://"),
        ({"jeton": "grist-secret"}, "jeton : clé inconnue"),
        ({"kind": "conventions"}, "type de relevé « conventions » inconnu ; les types : convention, action"),
        ({"colonnes": {**CONVENTIONS, "couleur": "Couleur"}}, "colonnes que « convention » n'a pas : couleur"),
        ({"colonnes": {"convention_id": "Identifiant"}}, "colonnes obligatoires de « convention » sans source : intervention_id"),
        ({"constantes": {"departement_code": "23"}}, "à la fois par colonnes et par constantes : departement_code"),
        ({"colonnes": {**CONVENTIONS, "convention_id": "@numero"}}, "sources inconnues : @numero ; celles qui existent : @id"),
        ({"document": "../../api"}, "document : n'a pas la forme attendue"),
        ({"nom": "Conventions PVD"}, "nom : n'a pas la forme attendue"),
        ({"type": "airtable"}, "type inconnu : écrire grist ou demarches_simplifiees"),
        ({"table": None}, "table : un texte est attendu"),
    ],
)
def test_a_wrong_entry_is_told_in_french_by_its_place_and_not_by_its_value(
    where: Home, change: dict[str, object], expected: str
) -> None:
    with Server() as server:
        configure(where, grist_entry(server) | change)
    with pytest.raises(ConnectorError) as caught:
        load(where)
    message = str(caught.value)
    assert message.startswith("connecteurs.yml : connecteurs.1") and expected in message
    assert "secret" not in message


def test_two_connectors_may_not_share_a_name(where: Home, server: Server) -> None:
    configure(where, grist_entry(server), grist_entry(server, table="Autres"))
    with pytest.raises(ConnectorError, match="deux connecteurs portent le nom conventions_pvd"):
        load(where)


def test_an_unreadable_file_tells_its_line(where: Home) -> None:
    where.connecteurs.write_text("connecteurs:\n  - nom: [\n", encoding="utf-8")
    with pytest.raises(ConnectorError, match=r"connecteurs\.yml, ligne 3 : YAML illisible"):
        load(where)


@pytest.mark.parametrize("value", ["", "   ", "deux mots", "retour\nligne", "accentué"])
def test_a_token_that_is_none_is_asked_by_the_name_of_its_variable(
    grist: FakeGrist, where: Home, http: Http, server: Server, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("DK_GRIST_JETON", value)
    message = failed(where, http)
    assert "DK_GRIST_JETON" in message and (not value.strip() or value not in message)
    assert server.requests == []


# --- Grist --------------------------------------------------------------------------------------------------------


def test_grist_records_are_admitted_as_if_typed(grist: FakeGrist, where: Home, http: Http, server: Server) -> None:
    result = taken(where, http)
    assert (result.lues, result.admission.gardees, result.admission.rejetees) == (10, 10, 0)
    found = rows(where, "convention", "conventions_pvd")
    first = found.row(0, named=True)
    assert first["convention_id"] == "23-PVD-001" and first["date_signature"] == "2021-01-02"
    assert (first["chef_de_projet_en_poste"], first["signataires_nb"], first["_ligne"]) == ("oui", "3", 1)
    assert "referent_nom" not in found.columns and "referent_courriel" not in found.columns
    place = "/api/docs/9mD3ZYvG7p/tables/Conventions"
    assert server.paths == [f"{place}/columns", f"{place}/records", f"{place}/columns"]
    assert {request.headers["authorization"] for request in server.requests} == {f"Bearer {JETON_GRIST}"}


def test_grist_columns_are_found_by_label_too(server: Server, where: Home, http: Http) -> None:
    fake = FakeGrist(server, JETON_GRIST)
    labels = {"Identifiant": "Identifiant de la convention"}
    fake.table("9mD3ZYvG7p", "Conventions", GRIST_TYPES, [convention(1)], labels)
    configure(where, grist_entry(server, colonnes={**CONVENTIONS, "convention_id": "Identifiant de la convention"}))
    assert taken(where, http).admission.gardees == 1


def test_the_same_table_again_changes_no_byte_and_adds_no_line(grist: FakeGrist, where: Home, http: Http) -> None:
    taken(where, http)
    before = everything(where)
    assert one(where, http).admission.statut == "déjà reçu"
    assert everything(where) == before


def test_rows_that_left_the_grist_table_leave_the_register(grist: FakeGrist, where: Home, http: Http) -> None:
    taken(where, http)
    grist.records["9mD3ZYvG7p", "Conventions"].pop(4)
    assert taken(where, http).admission.gardees == 9
    assert "23-PVD-005" not in rows(where, "convention", "conventions_pvd")["convention_id"].to_list()


def test_a_cell_that_does_not_fit_its_grist_column_is_refused_with_its_row(grist: FakeGrist, where: Home, http: Http) -> None:
    records = grist.records["9mD3ZYvG7p", "Conventions"]
    records[2]["fields"]["Signee_le"] = "à définir"  # Grist keeps in a Date column the text that was typed
    records[6]["fields"]["Signee_le"] = None
    records[6]["errors"] = {"Signee_le": "ValueError"}
    result = taken(where, http)
    assert (result.admission.statut, result.admission.gardees, result.admission.rejetees) == ("admis en partie", 8, 2)
    wrong = rows(where, "convention", "conventions_pvd").filter(pl.col("_motif").is_not_null())
    assert wrong["_ligne"].to_list() == [3, 7] and wrong["_colonne"].to_list() == ["date_signature"] * 2
    assert {path.name for path in where.retours.iterdir()} == {"conventions_pvd.reponse.txt", "conventions_pvd.annote.xlsx"}


def test_a_reference_column_is_refused_since_it_gives_a_row_number(server: Server, where: Home, http: Http) -> None:
    fake = FakeGrist(server, JETON_GRIST)
    fake.table("9mD3ZYvG7p", "Conventions", GRIST_TYPES | {"Programme": "Ref:Programmes"}, [convention(1, Programme=4)])
    configure(where, grist_entry(server))
    assert "la colonne « Programme » est une référence" in failed(where, http)


def test_a_column_that_grist_no_longer_has_stops_the_collection_and_names_both(
    grist: FakeGrist, where: Home, http: Http
) -> None:
    taken(where, http)
    columns = grist.columns["9mD3ZYvG7p", "Conventions"]
    columns["Etat"] = columns.pop("Statut") | {"label": "État"}
    message = failed(where, http)
    assert "colonnes introuvables : « Statut » ; nouveaux : « Etat »" in message
    assert rows(where, "convention", "conventions_pvd").height == 10


def test_a_column_gone_while_the_table_is_read_stops_the_collection(grist: FakeGrist, where: Home, http: Http) -> None:
    taken(where, http)

    def rename(request: Request) -> None:
        if request.path.endswith("/records"):
            columns = grist.columns["9mD3ZYvG7p", "Conventions"]
            columns["Etat"] = columns.pop("Statut") | {"label": "État"}
            for record in grist.records["9mD3ZYvG7p", "Conventions"]:
                record["fields"]["Etat"] = record["fields"].pop("Statut")

    grist.before = rename
    message = failed(where, http)
    assert "la table a changé pendant la lecture, colonnes introuvables : « Statut » ; nouveaux : « Etat »" in message


# --- Démarches simplifiées ----------------------------------------------------------------------------------------


def test_dossiers_come_page_by_page_with_typed_values(
    demarches: FakeDemarches, where: Home, http: Http, server: Server
) -> None:
    result = taken(where, http)
    assert (result.lues, result.admission.gardees) == (25, 25)
    found = rows(where, "demande_ingenierie", "demandes")
    assert found["_ligne"].to_list() == list(range(1, 26))
    first = found.row(0, named=True)
    assert (first["demande_id"], first["date_demande"], first["territoire_code"]) == ("1", "2025-11-03", "23096")
    assert first["collectivite_fragile"] == "oui"
    assert [asked["first"] for asked in demarches.asked] == [10, 10, 10]
    assert demarches.asked[0]["after"] is None and demarches.asked[1]["after"] != demarches.asked[2]["after"]
    assert {request.headers["authorization"] for request in server.requests} == {f"Bearer {JETON_DS}"}
    assert {(request.method, request.path) for request in server.requests} == {("POST", "/api/v2/graphql")}


def test_only_what_changed_is_asked_the_second_time_and_merged_by_dossier(
    demarches: FakeDemarches, where: Home, http: Http
) -> None:
    taken(where, http)
    demarches.asked.clear()
    demarches.dossier(4, demande(Thème="santé"), "2026-02-01T10:00:00+01:00")
    demarches.dossier(26, demande(), "2026-02-02T10:00:00+01:00")
    result = taken(where, http)
    assert demarches.asked[0]["updatedSince"] == "2026-01-25T08:00:00+01:00"
    assert result.lues == 3, "the last one seen, the changed one, the new one"
    found = rows(where, "demande_ingenierie", "demandes")
    assert found["_ligne"].to_list() == list(range(1, 27))
    themes = dict(zip(found["_ligne"], found["theme"], strict=True))
    assert themes[4] == "santé" and themes[5] == "habitat"


def test_nothing_new_changes_nothing(demarches: FakeDemarches, where: Home, http: Http) -> None:
    taken(where, http)
    before = {name: body for name, body in everything(where).items() if "connecteurs/" not in name}
    one(where, http, NOW + dt.timedelta(hours=1))
    assert {name: body for name, body in everything(where).items() if "connecteurs/" not in name} == before


def test_deleted_dossiers_are_withdrawn_whether_in_the_bin_or_gone(demarches: FakeDemarches, where: Home, http: Http) -> None:
    taken(where, http)
    demarches.delete(7, "2026-02-01T10:00:00+01:00")
    del demarches.dossiers[9]
    demarches.pending[9] = "2026-02-01T11:00:00+01:00"
    assert taken(where, http).admission.gardees == 23
    assert {7, 9}.isdisjoint(rows(where, "demande_ingenierie", "demandes")["_ligne"])


def test_a_dossier_whose_state_is_not_wanted_is_withdrawn(
    demarches: FakeDemarches, where: Home, http: Http, server: Server
) -> None:
    configure(where, demarche_entry(server, etats=["en_instruction", "accepte"]))
    taken(where, http)
    demarches.dossier(3, demande(), "2026-02-01T10:00:00+01:00", state="sans_suite")
    taken(where, http)
    assert 3 not in rows(where, "demande_ingenierie", "demandes")["_ligne"].to_list()


def test_a_dossier_that_changes_while_pages_are_read_is_kept_once_as_it_became(
    demarches: FakeDemarches, where: Home, http: Http
) -> None:
    def change(request: Request) -> None:
        if len(demarches.asked) == 2 and demarches.dossiers[2].change.startswith("2026-01"):
            demarches.dossier(2, demande(Thème="tourisme"), "2026-02-01T10:00:00+01:00")

    demarches.before = change
    taken(where, http)
    found = rows(where, "demande_ingenierie", "demandes")
    assert found["_ligne"].to_list() == list(range(1, 26))
    assert found.filter(pl.col("_ligne") == 2)["theme"].to_list() == ["tourisme"]


def test_a_dossier_that_leaves_the_wanted_states_while_pages_are_read_is_not_taken(
    demarches: FakeDemarches, where: Home, http: Http, server: Server
) -> None:
    configure(where, demarche_entry(server, taille_page=10, etats=["en_instruction"]))

    def change(request: Request) -> None:
        if len(demarches.asked) == 2:
            demarches.dossier(2, demande(), "2026-02-01T10:00:00+01:00", state="sans_suite")

    demarches.before = change
    taken(where, http)
    assert rows(where, "demande_ingenierie", "demandes")["_ligne"].to_list() == [1, *range(3, 26)]


def test_everything_is_read_again_after_some_days_or_another_configuration(
    demarches: FakeDemarches, where: Home, http: Http, server: Server
) -> None:
    taken(where, http)
    demarches.asked.clear()
    taken(where, http, NOW + dt.timedelta(days=8))
    assert demarches.asked[0]["updatedSince"] == "2015-01-01T00:00:00Z"
    demarches.asked.clear()
    configure(where, demarche_entry(server, taille_page=50))
    one(where, http, NOW + dt.timedelta(days=8))
    assert demarches.asked[0]["updatedSince"] == "2015-01-01T00:00:00Z"


def test_a_field_whose_label_is_corrected_is_still_found_in_older_dossiers(
    demarches: FakeDemarches, where: Home, http: Http, server: Server
) -> None:
    # The descriptor keeps its identifier: dossiers deposited before show the former label.
    demarches.anciens["Thème"] = demarches.champs["Thème du projet"] = demarches.champs.pop("Thème")
    configure(where, demarche_entry(server, colonnes={**DEMANDES, "theme": "Thème du projet"}))
    taken(where, http)
    assert set(rows(where, "demande_ingenierie", "demandes")["theme"]) == {"habitat"}


def test_a_field_that_disappears_between_two_pages_stops_the_collection(
    demarches: FakeDemarches, where: Home, http: Http
) -> None:
    taken(where, http)
    for number in range(1, 26):
        demarches.dossier(number, demande(), f"2026-03-{number:02d}T08:00:00+01:00")
    demarches.asked.clear()

    def republish(request: Request) -> None:
        if len(demarches.asked) == 1 and "Thème" in demarches.champs:
            demarches.champs["Thématique"] = "Q2hhbXAt99"
            del demarches.champs["Thème"]

    demarches.before = republish
    message = failed(where, http)
    assert "champs introuvables : « Thème » ; nouveaux : « Thématique »" in message
    assert "Rien n'est pris" in message
    assert rows(where, "demande_ingenierie", "demandes").height == 25
    demarches.asked.clear()
    assert "« Thème »" in failed(where, http), "the date is not moved on: nothing is skipped the next time"
    assert demarches.asked[0]["updatedSince"] == "2026-01-25T08:00:00+01:00"


def test_two_fields_with_the_same_label_are_told_apart_by_identifier(
    demarches: FakeDemarches, where: Home, http: Http, server: Server
) -> None:
    demarches.annotations["Thème"] = "Q2hhbXAt77"
    assert "plusieurs champs ont le libellé « Thème »" in failed(where, http)
    configure(where, demarche_entry(server, colonnes={**DEMANDES, "theme": CHAMPS["Thème"]}))
    assert taken(where, http).admission.gardees == 25


def test_too_many_wrong_rows_refuse_the_increment_whole_and_it_is_asked_again(
    demarches: FakeDemarches, where: Home, http: Http
) -> None:
    taken(where, http)
    before = rows(where, "demande_ingenierie", "demandes")
    for number in range(1, 11):
        demarches.dossier(number, demande(Thème="magie"), f"2026-03-{number:02d}T08:00:00+01:00")
    result = one(where, http)
    assert result.admission.refusee
    assert rows(where, "demande_ingenierie", "demandes").equals(before)
    demarches.asked.clear()
    one(where, http)
    assert demarches.asked[0]["updatedSince"] == "2026-01-25T08:00:00+01:00"


def test_a_few_wrong_rows_of_a_small_increment_do_not_refuse_it(demarches: FakeDemarches, where: Home, http: Http) -> None:
    taken(where, http)
    demarches.dossier(4, demande(Thème="magie"), "2026-03-01T08:00:00+01:00")
    result = taken(where, http)
    assert (result.admission.statut, result.admission.gardees, result.admission.rejetees) == ("admis en partie", 24, 1)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("unauthorized", "accès refusé (unauthorized) ; vérifier le jeton donné par DK_DS_JETON"),
        ("not_found", "démarche inconnue (not_found) ; vérifier « demarche »"),
        ("graphql_parse_error", "requête refusée (graphql_parse_error) ; l'interface a dû changer"),
        ("internal_server_error", "panne du service (internal_server_error) ; réessayer plus tard"),
        ("autre", "la requête a échoué ; réessayer plus tard"),
    ],
)
def test_errors_in_an_answer_200_are_fatal_and_the_message_of_the_server_is_not_repeated(
    demarches: FakeDemarches, where: Home, http: Http, code: str, expected: str
) -> None:
    taken(where, http)
    demarches.hiccups.append(demarches.error(code, f"refusé : {JETON_DS} {COURRIEL}"))
    message = failed(where, http)
    assert expected in message and COURRIEL not in message


def test_errors_beside_data_are_fatal_too(demarches: FakeDemarches, where: Home, http: Http) -> None:
    partial = {"data": {"demarche": {"dossiers": {"nodes": []}}}, "errors": [{"extensions": {"code": "invalid_null"}}]}
    demarches.hiccups.append(as_json(partial))
    assert "réponse incomplète (invalid_null)" in failed(where, http)


def test_a_page_that_the_service_cannot_make_in_time_is_asked_halved(
    demarches: FakeDemarches, where: Home, http: Http
) -> None:
    demarches.hiccups += [demarches.error("timeout", "10 s"), demarches.error("timeout", "10 s")]
    assert taken(where, http).admission.gardees == 25
    assert {asked["first"] for asked in demarches.asked} == {2}


def test_a_cursor_that_does_not_move_ends_the_collection(demarches: FakeDemarches, where: Home, http: Http) -> None:
    page = {
        "activeRevision": {"champDescriptors": [{"id": i, "label": n} for n, i in CHAMPS.items()], "annotationDescriptors": []},
        "dossiers": {"pageInfo": {"hasNextPage": True, "endCursor": "X"}, "nodes": []},
    }
    demarches.hiccups += [as_json({"data": {"demarche": page}})] * 3
    assert "n'a pas la forme que sa documentation décrit" in failed(where, http)
    assert len(demarches.hiccups) == 1


# --- HTTP, for both -----------------------------------------------------------------------------------------------


@pytest.fixture(params=["grist", "demarches"])
def service(request: pytest.FixtureRequest) -> FakeGrist | FakeDemarches:
    return request.getfixturevalue(request.param)


def test_429_waits_as_long_as_the_server_asks(
    service: FakeGrist | FakeDemarches, where: Home, http: Http, waits: list[float]
) -> None:
    service.hiccups.append(Response(status=429, headers={"Retry-After": "7"}))
    taken(where, http)
    assert waits == [7.0]


def test_429_that_asks_for_too_long_says_when_to_come_back(
    service: FakeGrist | FakeDemarches, where: Home, http: Http, waits: list[float]
) -> None:
    service.hiccups.append(Response(status=429, headers={"Retry-After": "3600"}))
    assert "relancer après le 25/11/2026 à 07:00 UTC" in failed(where, http)
    assert waits == []


def test_5xx_and_cut_connections_are_tried_again_with_growing_waits(
    service: FakeGrist | FakeDemarches, where: Home, http: Http, waits: list[float]
) -> None:
    service.hiccups += [Response(status=503, body=b"x"), as_json({"records": []}), Response(reset=True)]
    service.hiccups[1] = Response(body=b'{"records": [' + b" " * 4000, cut_after=500, headers={"Content-Type": "application/json"})
    taken(where, http)
    assert waits == [2, 4, 8]


def test_5xx_that_stays_ends_after_four_tries_with_everything_in_place(
    service: FakeGrist | FakeDemarches, where: Home, http: Http, server: Server
) -> None:
    taken(where, http)
    asked = len(server.requests)
    service.hiccups += [Response(status=502, body=b"x")] * 4
    assert "HTTP 502, après 4 essais" in failed(where, http)
    assert len(server.requests) == asked + 4


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_access_names_the_variable_and_is_not_tried_again(
    service: FakeGrist | FakeDemarches, where: Home, http: Http, server: Server, waits: list[float], status: int
) -> None:
    body = json.dumps({"error": f"Invalid API key {JETON_GRIST} {JETON_DS}"}).encode()
    service.hiccups.append(Response(status=status, body=body))
    message = failed(where, http)
    variable = "DK_GRIST_JETON" if isinstance(service, FakeGrist) else "DK_DS_JETON"
    assert f"accès refusé (HTTP {status})" in message and variable in message
    assert len(server.requests) == 1 and waits == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirection_is_followed_so_that_the_token_goes_nowhere_else(
    service: FakeGrist | FakeDemarches, where: Home, http: Http, server: Server, status: int
) -> None:
    with Server() as other:
        service.hiccups.append(Response.redirect(f"{other.url}/vol", status))
        assert "redirection refusée" in failed(where, http)
        assert other.requests == []
    assert len(server.requests) == 1


def test_a_netrc_file_does_not_replace_the_token(
    grist: FakeGrist, where: Home, http: Http, tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login autre password autre\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    taken(where, http)
    assert {request.headers["authorization"] for request in server.requests} == {f"Bearer {JETON_GRIST}"}


def test_a_proxy_does_not_see_a_token_meant_for_this_machine(
    grist: FakeGrist, where: Home, http: Http, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Server() as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        taken(where, http)
        assert proxy.requests == []


@pytest.mark.parametrize(
    "body", [b"[]", b"{}", b'{"records": 3, "columns": 4}', b'{"data": {"demarche": null}}', b'"texte"', b"null"]
)
def test_an_answer_of_another_shape_is_refused_without_being_quoted(
    service: FakeGrist | FakeDemarches, where: Home, http: Http, body: bytes
) -> None:
    service.hiccups.append(Response(body=body, headers={"Content-Type": "application/json"}))
    assert "n'a pas la forme que sa documentation décrit" in failed(where, http)


def test_an_answer_that_is_no_json_is_told(service: FakeGrist | FakeDemarches, where: Home, http: Http) -> None:
    service.hiccups.append(Response(body=b"pas du json", headers={"Content-Type": "application/json"}))
    assert "n'est pas du JSON" in failed(where, http)
    service.hiccups.append(Response(body=b"<!doctype html><html>connexion</html>", headers={"Content-Type": "text/html"}))
    assert "c'est une page web" in failed(where, http)


def test_one_connector_that_fails_does_not_stop_the_other(
    grist: FakeGrist, demarches: FakeDemarches, where: Home, http: Http, server: Server
) -> None:
    configure(where, grist_entry(server), demarche_entry(server))
    grist.hiccups.append(Response(status=403))
    first, second = collect(where, http=http, now=lambda: NOW)
    assert first.erreur and second.admission and second.admission.gardees == 25


def test_a_crash_between_rows_and_state_reads_the_same_records_again(
    demarches: FakeDemarches, where: Home, http: Http, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken(where, http)
    demarches.dossier(4, demande(Thème="santé"), "2026-02-01T10:00:00+01:00")
    from ingestion.records import admission

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(admission, "write_json", crash)
        with pytest.raises(KeyboardInterrupt):
            one(where, http)
    after_crash = rows(where, "demande_ingenierie", "demandes")
    demarches.asked.clear()
    assert one(where, http).admission.statut == "déjà reçu"
    assert demarches.asked[0]["updatedSince"] == "2026-01-25T08:00:00+01:00"
    assert rows(where, "demande_ingenierie", "demandes").equals(after_crash)


def test_no_token_and_nothing_personal_is_written_or_logged(
    grist: FakeGrist,
    demarches: FakeDemarches,
    where: Home,
    http: Http,
    server: Server,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    configure(where, grist_entry(server), demarche_entry(server))
    grist.records["9mD3ZYvG7p", "Conventions"][3]["fields"]["Statut"] = f"{NOM} {COURRIEL} {TELEPHONE}"
    told: list[str] = []
    with caplog.at_level(logging.DEBUG):
        for hiccup in (
            None, Response(status=401, body=JETON_GRIST.encode()), demarches.error("unauthorized", JETON_DS),
            Response(status=500, body=JETON_DS.encode()), Response(body=b"[]", headers={"X-Jeton": JETON_GRIST}),
        ):  # fmt: skip
            if hiccup is not None:
                grist.hiccups.append(hiccup)
                demarches.hiccups.append(hiccup)
            told += [repr(result) for result in collect(where, http=http, now=lambda: NOW)]
    output = capfd.readouterr()
    seen = "\n".join([*told, caplog.text, output.out, output.err]).encode()
    for secret in (JETON_GRIST, JETON_DS):
        assert secret.encode() not in seen
        assert not [name for name, body in everything(where).items() if secret.encode() in body]
    for personal in (NOM, COURRIEL, TELEPHONE):
        assert personal.encode() not in seen
        outside = {n: b for n, b in everything(where).items() if not n.startswith(("restreint/", "retours/"))}
        assert not [name for name, body in outside.items() if personal.encode() in body]
    assert not list(where.restreint.glob("collecte-*")), "what came from the network does not stay"


def test_the_token_does_not_show_where_a_request_is_shown() -> None:
    from ingestion.fetch import Ask, _Bearer

    ask = Ask("x", "https://exemple.fr", 1, "y", jeton=JETON_DS, body=COURRIEL.encode())
    assert JETON_DS not in repr(ask) and COURRIEL not in repr(ask) and JETON_DS not in repr(_Bearer(JETON_DS))
    assert JETON_DS not in str(ask.error("refusé"))


@pytest.mark.parametrize("rank", range(6))
def test_numbers_and_dates_are_written_as_one_would_type_them(rank: int) -> None:
    cases: list[tuple[Callable[[], str], str]] = [
        (lambda: connectors.number(3.0), "3"),
        (lambda: connectors.number(1234567.25), "1234567.25"),
        (lambda: connectors.number(1e-7), "0.0000001"),
        (lambda: connectors.number(-12), "-12"),
        (lambda: connectors.day(1704844800), "2024-01-10"),
        (lambda: connectors.day(1704841200, "Europe/Paris"), "2024-01-10"),
    ]
    compute, expected = cases[rank]
    assert compute() == expected


@pytest.mark.parametrize(
    ("value", "kind", "error", "expected"),
    [
        (1704844800, "Date", None, "2024-01-10"),
        (1704841200, "DateTime:Europe/Paris", None, "2024-01-10"),
        (12.5, "Numeric", None, "12.5"),
        (False, "Bool", None, "non"),
        ("", "Text", None, None),
        (None, "Date", None, None),
        (["L", "a", "b"], "ChoiceList", None, "a, b"),
        (["d", 1704844800], "Any", None, "2024-01-10"),
        (["D", 1704841200, "Europe/Paris"], "Any", None, "2024-01-10"),
        (["P"], "Text", None, "#VALUE!"),
        (None, "Int", "ZeroDivisionError", "#VALUE!"),
    ],
)
def test_grist_cells_are_read_by_their_documented_codes(value: object, kind: str, error: str | None, expected: str | None) -> None:
    from ingestion.records import grist

    assert grist._text(value, kind, error) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (("Guéret", "23096"), "23096"),
        (dt.date(2025, 3, 9), "2025-03-09"),
        (1234, "1234"),
        (12.5, "12.5"),
        (True, "oui"),
        (False, "non"),
        ("habitat", "habitat"),
        ("", None),
        (None, None),
    ],
)
def test_champs_are_read_by_their_typed_fields(value: object, expected: str | None) -> None:
    from ingestion.records import demarches

    assert demarches._text(champ("Q1", "Libellé", value)) == expected


def test_a_connector_no_longer_configured_still_keeps_its_name(grist: FakeGrist, where: Home, http: Http) -> None:
    taken(where, http)
    where.connecteurs.unlink()
    assert connectors.names(where) == {"conventions_pvd"}


def test_a_defect_met_on_one_connector_is_told_without_its_values(
    grist: FakeGrist, where: Home, http: Http, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ingestion.records import admission

    def broken(*_: object) -> None:
        raise ValueError(COURRIEL)

    monkeypatch.setattr(admission, "_check_all", broken)
    message = failed(where, http)
    assert "panne interne (ValueError" in message and COURRIEL not in message


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_the_register_keeps_its_permissions_whatever_the_umask(
    grist: FakeGrist, where: Home, http: Http, umask: int
) -> None:
    old = os.umask(umask)
    try:
        taken(where, http)
    finally:
        os.umask(old)
    assert (where.registre / "convention" / "conventions_pvd.parquet").stat().st_mode & 0o777 == 0o640
    assert (where.retours / "conventions_pvd.reponse.txt").stat().st_mode & 0o777 == 0o600
