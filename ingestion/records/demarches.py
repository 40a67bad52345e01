"""Dossiers of a démarche of Démarches simplifiées, through its GraphQL API.

Documentation: https://doc.demarches-simplifiees.fr/api-graphql/ , in particular its pages ``les-queries/getdemarche``
(the fields asked here), ``pagination`` (cursors), ``pagination-synchroniser-une-demarche-a-forte-volumetrie`` (at most
100 dossiers an answer; ``updatedSince`` filters and orders by date of change), ``gestion-des-erreurs`` (any error at the
root, though with status 200, is fatal) and ``jeton-dauthentification``. Deleted dossiers are told apart by ``number``,
since their ``id`` is another object's (github.com/demarche-numerique/demarche.numerique.gouv.fr issue 10669).

A collection asks what changed since the last date of change it saw; rows are merged by dossier number. From time to
time, and whenever the configuration changed, all dossiers are read again: that mends what the increments cannot see
(a row that was refused because another record was not there yet, a dossier that came back from the bin).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ingestion.fetch import Http
    from ingestion.records.connectors import Demarche, Lot

CHEMIN = "/api/v2/graphql"
# Always a date: without one the API orders by date of creation, and a dossier changed during the reading is missed.
DEPUIS_TOUJOURS = "2015-01-01T00:00:00Z"
PAGES_MAX = 100_000
CODES = {
    "unauthorized": "accès refusé",
    "not_found": "démarche inconnue",
    "bad_request": "requête refusée",
    "graphql_parse_error": "requête refusée",
    "invalid_null": "réponse incomplète",
    "internal_server_error": "panne du service",
    "timeout": "le service a mis trop de temps",
}

# stringValue writes a date in words and a commune by its name: typed fields give what the layouts ask.
CHAMP = """
fragment ChampFragment on Champ {
  __typename
  id
  label
  stringValue
  ... on DateChamp { date }
  ... on DatetimeChamp { datetime }
  ... on CheckboxChamp { checked: value }
  ... on DecimalNumberChamp { decimalNumber: value }
  ... on IntegerNumberChamp { integerNumber: value }
  ... on CommuneChamp { commune { code } }
  ... on EpciChamp { epci { code } }
  ... on DepartementChamp { departement { code } }
  ... on RegionChamp { region { code } }
}
"""
DOSSIERS = (
    """
query getDemarche($demarcheNumber: Int!, $first: Int, $after: String, $updatedSince: ISO8601DateTime) {
  demarche(number: $demarcheNumber) {
    activeRevision {
      champDescriptors { id label }
      annotationDescriptors { id label }
    }
    dossiers(first: $first, after: $after, updatedSince: $updatedSince) {
      pageInfo { hasNextPage endCursor }
      nodes {
        number
        state
        dateDepot
        dateDerniereModification
        dateTraitement
        champs { ...ChampFragment }
        annotations { ...ChampFragment }
      }
    }
  }
}
"""
    + CHAMP
)
SUPPRIMES = """
query getDemarche($demarcheNumber: Int!, $first: Int, $after: String, $deletedSince: ISO8601DateTime) {
  demarche(number: $demarcheNumber) {
    CONNEXION(first: $first, after: $after, deletedSince: $deletedSince) {
      pageInfo { hasNextPage endCursor }
      nodes { number }
    }
  }
}
"""


def read(connecteur: Demarche, http: Http, jeton: str, etat: dict[str, Any], into: Path, now: dt.datetime) -> Lot:
    """The dossiers that changed since ``etat``, or all of them, as strings by declared column; ``_ligne`` is the number.

    A dossier deleted, or whose state is no longer among ``etats``, is withdrawn. Raises ConnectorError when a field is
    missing, when the service says it failed or answers otherwise than documented; FetchError when it cannot be reached.
    """
    import polars as pl

    from ingestion.records.connectors import Lot

    complete = _complete(connecteur, etat, now)
    since = DEPUIS_TOUJOURS if complete else etat["depuis"]
    dossiers: dict[int, dict[str, str | None]] = {}
    touched: set[int] = set()
    latest, seen, labels = since, 0, set()
    for demarche in _pages(connecteur, http, jeton, into, DOSSIERS, "dossiers", {"updatedSince": since}):
        fields = _resolve(connecteur, demarche["activeRevision"], etat)
        labels |= {label for label, _ in _descriptors(demarche["activeRevision"])}
        for dossier in demarche["dossiers"]["nodes"]:
            number = int(dossier["number"])
            seen += 1
            touched.add(number)
            latest = max(latest, dossier["dateDerniereModification"], key=_instant)
            # One that changed during the reading comes again at the end: the last one is the one that counts.
            dossiers.pop(number, None)
            if dossier["state"] in connecteur.etats:
                dossiers[number] = _row(connecteur, dossier, fields)
    if not complete:
        for connexion in ("deletedDossiers", "pendingDeletedDossiers"):
            query = SUPPRIMES.replace("CONNEXION", connexion)
            for demarche in _pages(connecteur, http, jeton, into, query, connexion, {"deletedSince": since}):
                # One that the same collection gave is there: it came back from the bin.
                touched |= {int(node["number"]) for node in demarche[connexion]["nodes"]}
    columns = list(connecteur.colonnes)
    frame = pl.DataFrame(
        {
            **{column: [row[column] for row in dossiers.values()] for column in columns},
            "_ligne": list(dossiers),
        },
        schema={**dict.fromkeys(columns, pl.String), "_ligne": pl.Int64},
    ).with_columns(**{name: pl.lit(value) for name, value in connecteur.constantes.items()})
    memory = {
        "depuis": latest,
        "complete_le": now.isoformat(timespec="seconds") if complete else etat["complete_le"],
        "le": now.isoformat(timespec="seconds"),
        "libelles": sorted(labels),
    }
    return Lot(frame.sort("_ligne"), None if complete else sorted(touched), memory, lues=seen)


def _complete(connecteur: Demarche, etat: dict[str, Any], now: dt.datetime) -> bool:
    if not etat.get("depuis") or not etat.get("complete_le"):
        return True
    return now - _instant(etat["complete_le"]) >= dt.timedelta(days=connecteur.relecture_jours)


def _instant(text: str) -> dt.datetime:
    found = dt.datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=dt.UTC)


def _pages(
    connecteur: Demarche, http: Http, jeton: str, into: Path, query: str, connexion: str, variables: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """The démarche, once per page of one of its connections, until the server says that there is no next page."""
    from ingestion.records.connectors import unexpected

    size, cursor, cursors = connecteur.taille_page, None, set()
    for _ in range(PAGES_MAX):
        demarche, size = _query(
            connecteur, http, jeton, into, query, {**variables, "demarcheNumber": connecteur.demarche, "after": cursor}, size
        )
        page = demarche[connexion]["pageInfo"]
        yield demarche
        if not page["hasNextPage"]:
            return
        cursor = page["endCursor"]
        if not cursor or cursor in cursors:  # the next page would be one that was read: it would never end
            raise unexpected(connecteur)
        cursors.add(cursor)
    raise unexpected(connecteur)


def _query(
    connecteur: Demarche, http: Http, jeton: str, into: Path, query: str, variables: dict[str, Any], size: int
) -> tuple[dict[str, Any], int]:
    """One answer, and the size of page it was given for: a page that the service cannot make in time is asked halved."""
    from ingestion.records.connectors import ConnectorError, ask_json

    while True:
        body = {"query": query, "operationName": "getDemarche", "variables": {**variables, "first": size}}
        answer = ask_json(connecteur, http, jeton, CHEMIN, into, body)
        errors = answer.get("errors")
        if not errors:
            return answer["data"]["demarche"], size
        codes = [(error.get("extensions") or {}).get("code") for error in errors]
        if "timeout" in codes and size > 1:
            size //= 2
            continue
        # The message of the service is not repeated: it may quote what it was sent.
        code = next((c for c in codes if c in CODES), None)
        reason = f"{CODES[code]} ({code})" if code else "la requête a échoué"
        if code == "unauthorized":
            remedy = f"vérifier le jeton donné par {connecteur.variable} et ses droits sur cette démarche"
        elif code == "not_found":
            remedy = "vérifier « demarche » dans connecteurs.yml"
        elif code in ("bad_request", "graphql_parse_error"):
            remedy = "l'interface a dû changer ; le signaler à l'équipe"
        else:
            remedy = "réessayer plus tard ; les lignes déjà admises restent"
        raise ConnectorError(f"{connecteur.label} : {reason} ; {remedy}")


def _descriptors(revision: dict[str, Any]) -> list[tuple[str, str]]:
    """(label, identifier) of each field and annotation of a revision."""
    return [(d["label"], d["id"]) for d in (*revision["champDescriptors"], *revision["annotationDescriptors"])]


def _resolve(connecteur: Demarche, revision: dict[str, Any], etat: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """(identifier, label) of the field that each configured source names. Raises ConnectorError when one is missing.

    A field keeps its identifier when its label is corrected; dossiers of an older revision are then still understood.
    """
    from ingestion.records.connectors import ConnectorError, schema_change

    described = _descriptors(revision)
    by_id = {identifier: label for label, identifier in described}
    found: dict[str, tuple[str, str]] = {}
    missing = []
    for source in connecteur.sources:
        named = [(source, by_id[source])] if source in by_id else [(i, label) for label, i in described if label == source]
        if not named:
            missing.append(source)
        elif len(named) > 1:
            raise ConnectorError(
                f"{connecteur.label} : plusieurs champs ont le libellé « {source} » ; écrire l'identifiant du champ"
            )
        else:
            found[source] = named[0]
    if missing:
        used, known = {label for _, label in found.values()}, set(etat.get("libelles", ()))
        new = list(dict.fromkeys(label for label, _ in described if label not in used and label not in known))
        raise schema_change(connecteur, missing, new, "champs")
    return found


def _row(connecteur: Demarche, dossier: dict[str, Any], fields: dict[str, tuple[str, str]]) -> dict[str, str | None]:
    """The values of one dossier by declared column; a field that the dossier does not show is empty."""
    implicit = {
        "@numero": str(dossier["number"]),
        "@etat": dossier["state"],
        "@date_depot": _day(dossier.get("dateDepot")),
        "@date_derniere_modification": _day(dossier["dateDerniereModification"]),
        "@date_traitement": _day(dossier.get("dateTraitement")),
    }
    champs = [*dossier["champs"], *dossier["annotations"]]
    by_id = {champ["id"]: champ for champ in champs}
    by_label = {champ["label"]: champ for champ in champs}
    row = {}
    for column, source in connecteur.colonnes.items():
        if source in implicit:
            row[column] = implicit[source]
        else:
            identifier, label = fields[source]
            champ = by_id.get(identifier) or by_label.get(label)
            row[column] = _text(champ) if champ else None
    return row


def _day(text: str | None) -> str | None:
    """The date of an instant, in France."""
    from zoneinfo import ZoneInfo

    return _instant(text).astimezone(ZoneInfo("Europe/Paris")).date().isoformat() if text else None


def _text(champ: dict[str, Any]) -> str | None:
    """The value of a field as a person would type it: ISO date, code of a territory, oui or non."""
    for name in ("commune", "epci", "departement", "region"):
        if champ.get(name):
            return champ[name]["code"]
    if champ.get("date"):
        return champ["date"]
    if champ.get("datetime"):
        return _day(champ["datetime"])
    for name in ("decimalNumber", "integerNumber"):
        if champ.get(name) is not None:
            from ingestion.records.connectors import number

            value = champ[name]
            return number(value) if isinstance(value, int | float) else str(value)
    if isinstance(champ.get("checked"), bool):
        return "oui" if champ["checked"] else "non"
    return champ["stringValue"] or None
