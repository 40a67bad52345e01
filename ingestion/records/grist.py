"""A table of a Grist document, through Grist's REST API.

Documentation: https://support.getgrist.com/api/ (listColumns, listRecords, bearer authentication),
https://support.getgrist.com/code/modules/GristData/ (cell values). ``GET /docs/{docId}/tables/{tableId}/records`` gives
the whole table: it can be limited but not paged, nor asked for what changed, so a collection replaces all the rows. The
columns are asked before and after the records: if they differ, the records may mix two layouts and nothing is taken.
Too many requests on a document are answered 429, at times without Retry-After; the waits of ``Http`` then apply.
"""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

EN_ERREUR = "#VALUE!"  # how the checks know a formula that failed

if TYPE_CHECKING:
    from ingestion.fetch import Http
    from ingestion.records.connectors import Grist, Lot


def read(connecteur: Grist, http: Http, jeton: str, etat: dict[str, Any], into: Path, now: dt.datetime) -> Lot:
    """All the records of the table, as strings by declared column; ``_ligne`` is Grist's record id.

    Raises ConnectorError when a configured column is missing or unusable, FetchError when Grist cannot be read.
    """
    import polars as pl

    from ingestion.records.connectors import Lot, ask_json, schema_change

    place = f"/api/docs/{quote(connecteur.document, safe='')}/tables/{quote(connecteur.table, safe='')}"

    def columns() -> dict[str, dict[str, Any]]:
        answer = ask_json(connecteur, http, jeton, f"{place}/columns", into)
        return {column["id"]: column["fields"] for column in answer["columns"]}

    before = columns()
    found = _resolve(connecteur, before, etat)
    records = ask_json(connecteur, http, jeton, f"{place}/records?sort=id", into)["records"]
    after = columns()
    if {name: fields["type"] for name, fields in after.items()} != {name: fields["type"] for name, fields in before.items()}:
        gone = [source for source in connecteur.sources if _find(source, after) is None]
        raise schema_change(
            connecteur,
            gone or sorted(set(before) - set(after)) or ["type d'une colonne"],
            sorted(set(after) - set(before)),
            "la table a changé pendant la lecture, colonnes",
        )
    for source, name in found.items():
        # A record without the column was read from another layout than the one both answers described.
        if any(name not in record["fields"] for record in records):
            raise schema_change(connecteur, [source], [], "la table a changé pendant la lecture, colonnes")
    data: dict[str, list[str | None]] = {}
    for column, source in connecteur.colonnes.items():
        if source == "@id":
            data[column] = [str(record["id"]) for record in records]
        else:
            name = found[source]
            kind = before[name]["type"]
            data[column] = [_text(record["fields"][name], kind, record.get("errors", {}).get(name)) for record in records]
    frame = pl.DataFrame(
        {**data, "_ligne": [record["id"] for record in records]},
        schema={**dict.fromkeys(data, pl.String), "_ligne": pl.Int64},
    ).with_columns(**{name: pl.lit(value) for name, value in connecteur.constantes.items()})
    memory = {"colonnes": sorted(before), "le": now.isoformat(timespec="seconds")}
    return Lot(frame.sort("_ligne"), None, memory, lues=frame.height)


def _find(source: str, columns: dict[str, dict[str, Any]]) -> list[str] | None:
    """Identifiers of the columns that a configured source names: its identifier, else its label; None when none does."""
    if source in columns:
        return [source]
    return [name for name, fields in columns.items() if fields.get("label") == source] or None


def _resolve(connecteur: Grist, columns: dict[str, dict[str, Any]], etat: dict[str, Any]) -> dict[str, str]:
    """Column identifier of each configured source. Raises ConnectorError when one is missing, ambiguous or a reference."""
    from ingestion.records.connectors import ConnectorError, schema_change

    candidates = {source: _find(source, columns) for source in connecteur.sources}
    missing = [source for source, names in candidates.items() if names is None]
    if missing:
        used = {name for names in candidates.values() if names for name in names}
        known = set(etat.get("colonnes", ()))
        raise schema_change(connecteur, missing, sorted(set(columns) - known - used), "colonnes")
    found = {}
    for source, names in candidates.items():
        assert names is not None
        if len(names) > 1:
            raise ConnectorError(
                f"{connecteur.label} : plusieurs colonnes ont le libellé « {source} » ; écrire l'identifiant de la colonne"
            )
        kind = columns[names[0]]["type"].partition(":")[0]
        if kind in ("Ref", "RefList", "Attachments"):
            raise ConnectorError(
                f"{connecteur.label} : la colonne « {source} » est une référence, qui ne donne qu'un numéro de ligne ; "
                "ajouter à la table une colonne formule qui en donne le code, et la citer"
            )
        found[source] = names[0]
    return found


def _text(value: Any, kind: str, error: str | None) -> str | None:
    """A cell value as a person would have typed it.

    A formula in error is shown as such: the checks then refuse the row. Grist keeps in any column what does not fit its
    type (text in a column of dates); it is given as it is, for the checks to refuse as well.
    """
    from ingestion.records.connectors import day, number

    if error is not None:
        return EN_ERREUR
    if value is None or value == "":
        return None
    name, _, zone = kind.partition(":")
    if isinstance(value, bool):
        return "oui" if value else "non"
    if isinstance(value, int | float):
        if name == "Date":
            return day(value)
        if name == "DateTime":
            return day(value, zone or "UTC")
        return number(value)
    if isinstance(value, list):
        code, *rest = value or [""]
        if code == "L":
            return ", ".join(map(str, rest))
        if code in ("d", "D") and rest:
            return day(rest[0], rest[1] if code == "D" and len(rest) > 1 else "UTC")
        return EN_ERREUR
    return str(value)
