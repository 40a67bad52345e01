"""Files of records as people send them: rows made from the declared examples, in every accepted format."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from ingestion.records.check import Checked, Known, check
from ingestion.records.layout import kinds, labels

Row = dict[str, Any]


def row(kind: str, **changed: Any) -> Row:
    """A row whose every column holds its declared example, but for what is changed; ``repris_par`` needs another row."""
    source = kinds()[kind]
    values = {c.name: c.meta.saisie.exemple or None for c in source.saisies if c.meta.saisie and c.name != "repris_par"}
    assert changed.keys() <= {*labels(kind)}, changed.keys()
    return values | changed


def conventions(size: int, **changed: Any) -> list[Row]:
    """Good conventions, so many that one wrong row beside them does not have the file refused."""
    return [row("convention", convention_id=f"08-X-{rank:03d}", **changed) for rank in range(size)]


def frame(kind: str, rows: Sequence[Row]) -> pl.DataFrame:
    """What the reader gives of such rows."""
    names = list(labels(kind))
    table = pl.DataFrame({name: [r.get(name) for r in rows] for name in names}, schema=dict.fromkeys(names, pl.String))
    return table.with_columns(_ligne=pl.int_range(2, len(rows) + 2, dtype=pl.Int64))


def judged(known: Known | None = None, **tables: Sequence[Row]) -> dict[str, Checked]:
    """The judgement of tables sent together, kind → rows."""
    frames = {kind: frame(kind, tables[kind]) for kind in kinds() if kind in tables}
    known = known or Known.load(None, frames)
    return {kind: check(kind, table, known) for kind, table in frames.items()}


def rules(checked: Checked) -> list[tuple[int, str | None, str]]:
    return checked.anomalies.select("ligne", "colonne", "regle").rows()


def workbook(path: Path, tables: Mapping[str, Sequence[Row]], titles: Mapping[str, str] | None = None, above: int = 0) -> Path:
    """An .xlsx with one sheet per kind, named by its title; ints, floats, dates and booleans are written as such."""
    import xlsxwriter

    with xlsxwriter.Workbook(path, {"default_date_format": "dd/mm/yyyy", "strings_to_formulas": False}) as book:
        for kind, rows in tables.items():
            sheet = book.add_worksheet((titles or {}).get(kind, kinds()[kind].meta.titre))
            for place, (name, label) in enumerate(labels(kind).items()):
                sheet.write_string(above, place, label)
                for line, values in enumerate(rows, above + 1):
                    if values.get(name) is not None:
                        sheet.write(line, place, values[name])
    return path


def ods(path: Path, kind: str, rows: Sequence[Row]) -> Path:
    """An .ods whose cells are all text."""
    from odf.opendocument import OpenDocumentSpreadsheet
    from odf.table import Table, TableCell, TableRow
    from odf.text import P

    document, table = OpenDocumentSpreadsheet(), Table(name=kinds()[kind].meta.titre)
    for values in [list(labels(kind).values()), *([r.get(name) for name in labels(kind)] for r in rows)]:
        line = TableRow()
        for value in values:
            cell = TableCell() if value is None else TableCell(valuetype="string")
            if value is not None:
                cell.addElement(P(text=str(value)))
            line.addElement(cell)
        table.addElement(line)
    document.spreadsheet.addElement(table)
    document.save(str(path))
    return path


def text(kind: str, rows: Sequence[Row], separator: str = ";", names: bool = False) -> str:
    """A CSV, with French headers or declared names."""
    stream = io.StringIO()
    writer = csv.writer(stream, delimiter=separator, lineterminator="\r\n")
    writer.writerow(labels(kind) if names else labels(kind).values())
    writer.writerows([r.get(name) for name in labels(kind)] for r in rows)
    return stream.getvalue()


def saved(path: Path, out: Path, cells: Mapping[tuple[str, str], Any]) -> Path:
    """The workbook as someone saves it after typing into some cells, given by (sheet, « C5 »); None empties one."""
    import fastexcel
    import xlsxwriter

    book = fastexcel.read_excel(path)
    with xlsxwriter.Workbook(out, {"strings_to_formulas": False, "default_date_format": "dd/mm/yyyy"}) as target:
        for name in book.sheet_names:
            sheet = target.add_worksheet(name)
            for line, values in enumerate(book.load_sheet(name, header_row=None, skip_rows=0, dtypes="string").to_polars().rows()):
                for place, value in enumerate(values):
                    if value is not None:
                        sheet.write_string(line, place, value)
            for (where, cell), value in cells.items():
                if where == name:
                    sheet.write(cell, *(() if value is None else (value,)))
    return out
