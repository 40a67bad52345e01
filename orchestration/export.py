"""``dk export``: one table of a public release, taken away in a file that still says where it comes from.

Each file carries its dictionary (columns, units, definitions), the release it was taken from, its date, the mention that marks
demonstration data, and the licence and citation of every source behind the table: as sheets of a workbook, as metadata of a
Parquet file, as a second file beside a CSV. Rows pass in batches, so that a big table costs no more memory than a small one.
"""

from __future__ import annotations

import datetime as dt
import difflib
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ingestion.declarations import LICENCES
from ingestion.paths import read_json
from orchestration.guarded import Guarded, QueryError

if TYPE_CHECKING:
    import polars as pl

FORMATS = ("csv", "xlsx", "parquet", "ods")
FEUILLE_MAX = 1_048_576  # rows of a sheet, its header included, in Excel and in LibreOffice
CELLULE_MAX = 32_767  # characters of a cell in Excel
ENTIER_MAX = 2**53  # whole numbers beyond lose digits in a spreadsheet
# Texts that a spreadsheet opening a CSV would take for a number or a date: 01001, 1E5, 3/4, 1.5, figures beyond 15 digits.
DEGUISE = "^(?:0[0-9]+|[0-9]{16,}|[0-9]+[eE][0-9]+|[0-9]{1,4}(?:[-/.][0-9]{1,4}){1,2})$"
METADONNEE = "dernier_kilometre"  # key of the Parquet metadata
TYPES = {"varchar": "texte", "integer": "entier", "bigint": "entier", "double": "nombre", "date": "date", "boolean": "oui ou non"}


class ExportError(ValueError):
    """The table cannot be taken out as asked; the French message says what to ask instead."""


@dataclass(frozen=True)
class Notice:
    """What goes with the rows: ``a_propos`` (rubrique, texte), ``colonnes`` and ``sources``, as Polars frames of text."""

    titre: str
    mention: str | None
    a_propos: pl.DataFrame
    colonnes: pl.DataFrame
    sources: pl.DataFrame

    def sheets(self) -> dict[str, pl.DataFrame]:
        return {"Dictionnaire": self.colonnes, "À propos": self.a_propos, "Sources": self.sources}

    def long(self) -> pl.DataFrame:
        """The three of them in one table of text: rubrique, nom, type, unite, texte."""
        import polars as pl

        void = pl.lit(None, pl.String)
        about = self.a_propos.select(rubrique=pl.lit("À propos"), nom="rubrique", type=void, unite=void, texte="texte")
        columns = self.colonnes.select(rubrique=pl.lit("Colonne"), nom="colonne", type="type", unite="unite", texte="definition")
        cited = pl.format("{} Licence : {}. {}", "citation", "licence", pl.col("adresse").fill_null(""))
        sources = self.sources.select(rubrique=pl.lit("Source"), nom="source", type=void, unite=void, texte=cited.str.strip_chars())
        return pl.concat([about, columns, sources])


def check_table(folder: Path, table: str) -> None:
    """Raises ExportError, with the nearest names, when the public release has no such table."""
    tables = sorted(path.stem for path in (folder / "parquet").glob("*.parquet"))
    if table in tables:
        return
    near = difflib.get_close_matches(table, tables, n=3, cutoff=0.6)
    raise ExportError(
        f"la publication {folder.name} n'a pas de table publique « {table} »"
        + (f" ; s'en approchent : {', '.join(near)}" if near else "")
        + ". La liste : dk query \"show tables\". Une table réservée aux évaluateurs habilités ne s'exporte pas."
    )


def notice(reader: Guarded, folder: Path, table: str, where: str | None, rows: int, day: dt.date) -> Notice:
    """What goes with ``rows`` rows of a table taken out on ``day``. Raises ExportError when the release holds no dictionary."""
    import polars as pl

    package, dictionary = (read_json(folder / name) for name in ("datapackage.json", "dictionnaire.json"))
    if package is None or dictionary is None:
        raise ExportError(f"{folder.name} n'a pas de dictionnaire lisible (publication ancienne ?) ; en exporter une plus récente : dk releases")
    facts = dictionary["tables"][table]
    created = dt.datetime.fromisoformat(package["created"]).date()
    mention = next((word for word in package["keywords"] if "démonstration" in word), None)
    citation = f"Dernier kilomètre, publication {package['id']} du {created:%d/%m/%Y}, table {table}."
    sources = reader.con.sql(
        "select source_id as source, titre, producteur, licence, citation, page as adresse from dim_source "
        "where list_contains(?, source_id) order by source_id", params=[facts["sources"]],
    )  # fmt: skip
    text = dict.fromkeys(sources.columns, pl.String)
    cited = pl.DataFrame(sources.fetchall(), schema=text, orient="row")
    licences = sorted({name for cell in cited["licence"].drop_nulls() for name in cell.split(" ; ")})
    about = [
        ("Titre", package["title"]),
        *([("Mention", f"{mention.capitalize()} : aucune de ces valeurs n'est réelle.")] if mention else []),
        ("Publication", package["id"]), ("Date de la publication", created.isoformat()), ("Exporté le", day.isoformat()),
        ("Table", table), ("Définition", facts["description"]), ("Clé", ", ".join(facts["cle"]) or "aucune"),
        ("Lignes", str(rows)), ("Filtre", where or "aucun"), ("Portée", package["description"]), ("Citation", citation),
        ("Licences des sources", " ; ".join(LICENCES.get(name, (name, ""))[0] for name in licences) or "aucune source extérieure"),
        ("D'une valeur à ses octets", "dk explain INDICATEUR TERRITOIRE"),
    ]  # fmt: skip
    columns = pl.DataFrame(
        [(c["nom"], TYPES.get(c["type"], c["type"]), c["unite"], "oui" if c["nom"] in facts["cle"] else None, c["description"]) for c in facts["colonnes"]],
        schema=dict.fromkeys(("colonne", "type", "unite", "cle", "definition"), pl.String), orient="row",
    )  # fmt: skip
    return Notice(f"{table} ({package['id']})", mention, pl.DataFrame(about, schema={"rubrique": pl.String, "texte": pl.String}, orient="row"), columns, cited)


def export(reader: Guarded, folder: Path, table: str, form: str, out: Path, where: str | None = None, french: bool = False, day: dt.date | None = None) -> tuple[int, list[Path]]:
    """Writes the rows of a table, those for which the SQL expression ``where`` is true, to ``out``; returns their number and
    the files written. ``french``: a CSV with semicolons, decimal commas and a byte order mark.

    ``where`` is one expression and nothing else: DuckDB parses it as such, so that no statement can follow it.
    Raises ExportError, QueryError when ``where`` is wrong, LimitError; nothing is left behind then, nor overwritten.
    """
    import duckdb

    check_table(folder, table)
    relation = reader.con.table(table)
    columns = relation.columns
    if where is not None:
        try:
            relation = relation.filter(where)
            rows = relation.aggregate("count(*)").fetchall()[0][0]
        except (duckdb.ParserException, duckdb.BinderException, duckdb.CatalogException) as error:
            raise QueryError(
                f"{str(error).splitlines()[0]}\n--where est une condition SQL sur les colonnes de {table} : {', '.join(columns)}"
            ) from error
    else:
        rows = relation.aggregate("count(*)").fetchall()[0][0]
    if form in ("xlsx", "ods") and rows >= FEUILLE_MAX:
        raise ExportError(
            f"{rows} lignes ne tiennent pas dans une feuille de calcul ({FEUILLE_MAX - 1} au plus) ; en garder moins par --where, ou --format parquet ou csv"
        )
    told = notice(reader, folder, table, where, rows, day or dt.date.today())
    write: dict[str, Callable[..., None]] = {"csv": _csv, "xlsx": _xlsx, "ods": _ods, "parquet": _parquet}
    beside = out.with_name(f"{out.stem}_dictionnaire.csv")
    files = [out, beside] if form == "csv" else [out]
    if there := next((path for path in files if path.exists()), None):
        raise ExportError(f"{there} existe déjà : le déplacer, ou donner un autre nom par --out")
    with _whole(files) as parts:
        write[form](parts[0], reader, relation, told, french)
        if form == "csv":
            with parts[1].open("wb") as stream:
                _csv_rows(stream, [told.long()], french)
    return rows, files


@contextmanager
def _whole(files: list[Path]) -> Iterator[list[Path]]:
    """Paths to write to, that become the files asked for once all is written; otherwise nothing stays."""
    parts = [path.with_name(f".{path.name}.{os.getpid()}") for path in files]
    try:
        yield parts
        for part, path in zip(parts, files, strict=True):
            os.replace(part, path)
    finally:
        for part in parts:
            part.unlink(missing_ok=True)


# --- CSV and Parquet --------------------------------------------------------------------------------------------


def _csv(path: Path, reader: Guarded, relation: Any, told: Notice, french: bool) -> None:
    with path.open("wb") as stream:
        _csv_rows(stream, reader.batches(relation), french)


def _csv_rows(stream: IO[bytes], batches: Iterable[pl.DataFrame], french: bool) -> None:
    """Frames as one CSV. Dates stay AAAA-MM-JJ in both: it is the one form that a spreadsheet of any language takes for a date."""
    from ingestion.records.formula import neutralise

    dialect: dict[str, Any] = {"separator": ";", "decimal_comma": True, "line_terminator": "\r\n", "quote_style": "never"} if french else {}
    for rank, batch in enumerate(batches):
        safe = neutralise(batch)
        (_for_spreadsheet(safe) if french else safe).write_csv(stream, include_header=not rank, include_bom=french and not rank, **dialect)


def _for_spreadsheet(frame: pl.DataFrame) -> pl.DataFrame:
    """Cells as a French spreadsheet takes them for what they are; text comes out quoted where it must be.

    A code such as 01001 is written ="01001": Excel and LibreOffice then keep it as text, but only when nothing is quoted around.
    """
    import polars as pl
    import polars.selectors as cs

    text = cs.string()
    quoted = pl.lit('"') + text.str.replace_all('"', '""', literal=True) + pl.lit('"')
    return frame.with_columns(
        cs.boolean().cast(pl.String).replace({"true": "VRAI", "false": "FAUX"}),
        pl.when(text.str.contains(DEGUISE)).then(pl.lit('="') + text + pl.lit('"'))
        .when(text.str.contains('[;"\r\n]')).then(quoted)
        .otherwise(text).name.keep(),
    )  # fmt: skip


def _parquet(path: Path, reader: Guarded, relation: Any, told: Notice, french: bool) -> None:
    import polars as pl

    facts = {name: frame.to_dicts() for name, frame in (("colonnes", told.colonnes), ("sources", told.sources))}
    about = {row["rubrique"]: row["texte"] for row in told.a_propos.to_dicts()}
    metadata = {METADONNEE: json.dumps({"a_propos": about} | facts, ensure_ascii=False)}
    try:
        pl.scan_arrow_c_stream(relation).sink_parquet(path, compression="zstd", metadata=metadata)
    except pl.exceptions.ComputeError as error:
        if str(error).startswith("got external error"):  # DuckDB's, which gives the rows
            raise
        raise OSError(0, str(error)) from error


# --- workbooks --------------------------------------------------------------------------------------------------


def _name(told: Notice) -> str:
    """Name of the sheet of the rows: the first thing seen of a workbook, so it bears the mention."""
    return told.mention.capitalize() if told.mention else "Données"


def _xlsx(path: Path, reader: Guarded, relation: Any, told: Notice, french: bool) -> None:
    import tempfile

    import xlsxwriter
    from xlsxwriter.exceptions import FileCreateError

    # Rows leave memory as they are written, for files beside the one to be; text is a string, never a formula nor a link.
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f"{path.name}.") as aside:
        options = {"constant_memory": True, "strings_to_formulas": False, "strings_to_urls": False, "tmpdir": aside}
        book = xlsxwriter.Workbook(str(path), options)
        _xlsx_sheets(book, reader, relation, told)
        try:
            book.close()
        except FileCreateError as error:
            raise OSError(0, str(error)) from error


def _xlsx_sheets(book: Any, reader: Guarded, relation: Any, told: Notice) -> None:
    import polars as pl

    book.set_properties({"title": told.titre, "subject": told.mention or "", "comments": told.a_propos.filter(rubrique="Citation")["texte"][0]})
    bold, day = book.add_format({"bold": True, "bottom": 1}), book.add_format({"num_format": 14})  # 14: the reader's own short date
    sheet = book.add_worksheet(_name(told))
    _print(sheet, told)
    line = 0
    for batch in reader.batches(relation):
        if line == 0:
            for place, name in enumerate(batch.columns):
                longest = batch[name].str.len_chars().max() if batch[name].dtype == pl.String else None
                sheet.set_column(place, place, min(max(len(name) + 2, 11, longest or 0), 50))
                sheet.write_string(0, place, name, bold)
        put = [_xlsx_cell(sheet, kind, day) for kind in batch.dtypes]
        for row in batch.iter_rows():
            line += 1
            for place, value in enumerate(row):
                if value is not None:
                    put[place](line, place, value)
    if line:
        sheet.autofilter(0, 0, line, len(put) - 1)
    for title, frame in told.sheets().items():
        sheet = book.add_worksheet(title)
        _print(sheet, told)
        text = _xlsx_text(sheet)
        for place, name in enumerate(frame.columns):
            # Not wrapped: rows are already written when their heights would be known, and lines would cover each other.
            sheet.set_column(place, place, 90 if name in ("definition", "texte", "citation", "adresse") else 28)
        for rank, row in enumerate([tuple(frame.columns), *frame.rows()]):
            for place, value in enumerate(row):
                if value is not None:
                    text(rank, place, value, *([bold] if rank == 0 else []))


def _print(sheet: Any, told: Notice) -> None:
    """The header stays in sight, on the screen and on each printed page, whose foot says what it is."""
    sheet.freeze_panes(1, 0)
    sheet.set_landscape()
    sheet.repeat_rows(0)
    sheet.set_footer(f"&L{told.titre}&C{told.mention or ''}&R&P / &N")


def _xlsx_text(sheet: Any) -> Callable[..., None]:
    def text(line: int, place: int, value: str, *form: Any) -> None:
        if sheet.write_string(line, place, value, *form):
            raise ExportError(
                f"la ligne {line} a une cellule de {len(value)} caractères, Excel n'en garde que {CELLULE_MAX} ; --format ods, csv ou parquet"
            )

    return text


def _xlsx_cell(sheet: Any, kind: pl.DataType, day: Any) -> Callable[[int, int, Any], None]:
    """How a value of a column's type is written; what a spreadsheet would round or refuse is written as text."""
    import polars as pl

    text, number = _xlsx_text(sheet), sheet.write_number
    if kind == pl.Boolean:
        return sheet.write_boolean
    if kind.is_temporal():
        return lambda line, place, value: sheet.write_datetime(line, place, value, day)
    if kind.is_float():
        return lambda line, place, value: number(line, place, value) if math.isfinite(value) else text(line, place, str(value))
    if kind.is_numeric():
        return lambda line, place, value: number(line, place, value) if abs(value) <= ENTIER_MAX else text(line, place, str(value))
    return lambda line, place, value: text(line, place, value)


def _ods(path: Path, reader: Guarded, relation: Any, told: Notice, french: bool) -> None:
    from orchestration.ods import write_ods

    write_ods(path, {_name(told): reader.batches(relation)} | {name: [frame] for name, frame in told.sheets().items()}, told.titre, told.mention)
