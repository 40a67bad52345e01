"""The yearly report that each délégué territorial owes, as one workbook per département, from the evaluators' release."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars as pl

TABLE = "mart_consolidation_annuelle"
PLACE = ("departement_code", "territoire_code")


class ConsolidationError(RuntimeError):
    """No report can be written; the French message says what is missing."""


def write_reports(folder: Path, year: int, departement: str | None, out: Path) -> list[Path]:
    """Writes ``consolidation_<année>_<département>.xlsx`` below ``out`` for one département or for all; returns the paths.

    ``folder``: the evaluators' side of a release. Equal releases give equal bytes. Raises ConsolidationError when the
    release has no such report.
    """
    import polars as pl

    path = folder / "parquet" / f"{TABLE}.parquet"
    if not path.exists():
        raise ConsolidationError(f"la publication {folder.name} n'a pas de consolidation annuelle ({TABLE})")
    frame = pl.read_parquet(path)
    place = next(name for name in PLACE if name in frame.columns)
    years = sorted(frame["annee"].unique().to_list())
    frame = frame.filter(pl.col("annee") == year)
    if departement:
        frame = frame.filter(pl.col(place) == departement)
    if not frame.height:
        who = f" pour le département {departement}" if departement else ""
        raise ConsolidationError(f"aucune consolidation{who} en {year} ; années disponibles : {', '.join(map(str, years)) or 'aucune'}")
    package = json.loads((folder / "datapackage.json").read_text(encoding="utf-8"))
    fields = next(r for r in package["resources"] if r["name"] == TABLE)["schema"]["fields"]
    names = _names(folder)
    out.mkdir(mode=0o700, parents=True, exist_ok=True)
    written = []
    for (code,), rows in sorted(frame.partition_by(place, as_dict=True, maintain_order=True).items()):
        target = out / f"consolidation_{year}_{code}.xlsx"
        temporary = target.with_name(f".{target.name}.tmp")
        try:
            _write(temporary, rows, fields, f"{names.get(code, code)} ({code})", year, folder.name)
            temporary.chmod(0o600)  # values under statistical secrecy: for their reader only
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
        written.append(target)
    return written


def _names(folder: Path) -> dict[str, str]:
    import polars as pl

    places = pl.scan_parquet(folder / "parquet" / "dim_territoire.parquet").filter(
        (pl.col("territoire_niveau") == "departement") & pl.col("est_pivot")
    )
    return dict(places.select("territoire_code", "territoire_nom").collect().iter_rows())


def _write(path: Path, rows: pl.DataFrame, fields: list[dict[str, Any]], place: str, year: int, release_id: str) -> None:
    """One workbook: the report, one line per figure when the year has one row, else one line per row; then definitions."""
    import datetime as dt

    import xlsxwriter

    # Text is written as text: nothing that a délégué typed is ever a formula.
    with xlsxwriter.Workbook(str(path), {"strings_to_formulas": False, "strings_to_urls": False, "strings_to_numbers": False}) as book:
        book.set_properties({"title": f"Consolidation annuelle {year} : {place}", "created": dt.datetime(year, 12, 31)})
        style = {
            "title": book.add_format({"bold": True, "font_size": 14}),
            "mark": book.add_format({"bold": True, "font_color": "#B00020"}),
            "head": book.add_format({"bold": True, "bg_color": "#DDE3F0", "text_wrap": True, "valign": "top", "border": 1}),
            "text": book.add_format({"text_wrap": True, "valign": "top"}),
            "date": book.add_format({"num_format": "dd/mm/yyyy", "valign": "top"}),
            "number": book.add_format({"num_format": "#,##0.##", "valign": "top"}),
        }
        sheet = book.add_worksheet("Consolidation")
        sheet.write_string(0, 0, f"Consolidation annuelle {year}", style["title"])
        sheet.write_string(1, 0, place)
        mark = next((str(m) for m in rows.get_column("mention", default=None) or [] if m), None)
        if mark:
            sheet.write_string(2, 0, f"{mark.capitalize()} : aucune de ces valeurs n'est réelle", style["mark"])
        sheet.write_string(3, 0, f"Publication {release_id}, version pour évaluateurs : contient des valeurs sous secret statistique")
        shown = [f for f in fields if f["name"] in rows.columns and f["name"] != "mention"]
        if rows.height == 1:
            _down(sheet, 5, rows.row(0, named=True), shown, style)
        else:
            _across(sheet, 5, rows, shown, style)
        definitions = book.add_worksheet("Définitions")
        definitions.set_column(0, 0, 34)
        definitions.set_column(1, 1, 90)
        for column, title in enumerate(("Colonne", "Définition", "Unité")):
            definitions.write_string(0, column, title, style["head"])
        for line, field in enumerate(shown, 1):
            definitions.write_string(line, 0, label(field["name"]), style["text"])
            definitions.write_string(line, 1, field["description"], style["text"])
            definitions.write_string(line, 2, field.get("unit", ""), style["text"])


def label(name: str) -> str:
    """A column name as a reader wants it: « part_reponse_locale » is « Part reponse locale »."""
    return name.replace("_", " ").capitalize()


def _down(sheet: Any, line: int, row: dict[str, Any], fields: list[dict[str, Any]], style: dict[str, Any]) -> None:
    sheet.set_column(0, 0, 44)
    sheet.set_column(1, 1, 24)
    sheet.set_column(2, 2, 18)
    sheet.set_column(3, 3, 80)
    for column, title in enumerate(("Rubrique", "Valeur", "Unité", "Définition")):
        sheet.write_string(line, column, title, style["head"])
    sheet.freeze_panes(line + 1, 1)
    for offset, field in enumerate(fields, 1):
        sheet.write_string(line + offset, 0, label(field["name"]), style["text"])
        _cell(sheet, line + offset, 1, row[field["name"]], style)
        sheet.write_string(line + offset, 2, field.get("unit", ""), style["text"])
        sheet.write_string(line + offset, 3, field["description"], style["text"])


def _across(sheet: Any, line: int, rows: pl.DataFrame, fields: list[dict[str, Any]], style: dict[str, Any]) -> None:
    sheet.set_column(0, len(fields), 20)
    for column, field in enumerate(fields):
        sheet.write_string(line, column, label(field["name"]), style["head"])
    sheet.freeze_panes(line + 1, 0)
    for offset, values in enumerate(rows.select([f["name"] for f in fields]).rows(), 1):
        for column, value in enumerate(values):
            _cell(sheet, line + offset, column, value, style)
    sheet.autofilter(line, 0, line + rows.height, len(fields) - 1)


def _cell(sheet: Any, line: int, column: int, value: Any, style: dict[str, Any]) -> None:
    import datetime as dt

    if value is None:
        sheet.write_blank(line, column, None)
    elif isinstance(value, bool):
        sheet.write_string(line, column, "oui" if value else "non", style["text"])
    elif isinstance(value, (int, float)):
        sheet.write_number(line, column, value, style["number"])
    elif isinstance(value, dt.date):
        sheet.write_datetime(line, column, dt.datetime(value.year, value.month, value.day), style["date"])
    else:
        sheet.write_string(line, column, str(value), style["text"])
