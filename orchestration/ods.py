"""A workbook of OpenDocument (ISO/IEC 26300), written as its rows come.

Libraries that write this format (odfpy, odfdo, pandas through them) hold the whole document as a tree of objects, some
kilobytes for a cell: a table of a million rows does not fit in memory. Here Polars turns each batch of rows into XML text, column
by column, and the text goes straight into the archive.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape, quoteattr

if TYPE_CHECKING:
    import polars as pl

MIME = "application/vnd.oasis.opendocument.spreadsheet"
SPACES = " ".join(
    f'xmlns:{name}="urn:oasis:names:tc:opendocument:xmlns:{where}:1.0"'
    for name, where in (("office", "office"), ("table", "table"), ("text", "text"), ("style", "style"), ("number", "datastyle"), ("fo", "xsl-fo-compatible"), ("meta", "meta"))
)
HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n'
STYLES = (
    '<office:automatic-styles><number:date-style style:name="N1"><number:day number:style="long"/><number:text>/</number:text>'
    '<number:month number:style="long"/><number:text>/</number:text><number:year number:style="long"/></number:date-style>'
    '<style:style style:name="large" style:family="table-column"><style:table-column-properties style:column-width="4.5cm"/></style:style>'
    '<style:style style:name="jour" style:family="table-cell" style:data-style-name="N1"/>'
    '<style:style style:name="tete" style:family="table-cell"><style:text-properties fo:font-weight="bold"/></style:style>'
    "</office:automatic-styles>"
)
INTERDITS = "[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]"  # what XML 1.0 cannot hold, not even escaped


def write_ods(path: Path, sheets: Mapping[str, Iterable[pl.DataFrame]], title: str, subject: str | None = None) -> None:
    """Writes a workbook: by name of sheet, the frames whose rows follow each other below one header.

    Numbers, dates and booleans are typed cells; text is a string, never a formula. Whole numbers beyond 2^53, and numbers
    that are not finite, are text.
    """
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=4) as archive:
        # First and as it is: by this the format is told.
        archive.writestr(zipfile.ZipInfo("mimetype"), MIME, zipfile.ZIP_STORED)
        files = {"content.xml": "text/xml", "styles.xml": "text/xml", "meta.xml": "text/xml"}
        entries = "".join(f'<manifest:file-entry manifest:full-path="{name}" manifest:media-type="{kind}"/>' for name, kind in {"/": MIME, **files}.items())
        archive.writestr(
            "META-INF/manifest.xml",
            f'{HEAD}<manifest:manifest xmlns:manifest="urn:oasis:names:tc:opendocument:xmlns:manifest:1.0" manifest:version="1.3">{entries}</manifest:manifest>',
        )
        archive.writestr("styles.xml", f'{HEAD}<office:document-styles {SPACES} office:version="1.3"/>')
        archive.writestr(
            "meta.xml",
            f'{HEAD}<office:document-meta {SPACES} xmlns:dc="http://purl.org/dc/elements/1.1/" office:version="1.3"><office:meta>'
            f"<dc:title>{escape(title)}</dc:title><dc:subject>{escape(subject or '')}</dc:subject></office:meta></office:document-meta>",
        )
        with archive.open("content.xml", "w", force_zip64=True) as stream:
            stream.write(f'{HEAD}<office:document-content {SPACES} office:version="1.3">{STYLES}<office:body><office:spreadsheet>'.encode())
            for name, frames in sheets.items():
                stream.write(f"<table:table table:name={quoteattr(name)}>".encode())
                for rank, frame in enumerate(frames):
                    if rank == 0:
                        stream.write(f'<table:table-column table:style-name="large" table:number-columns-repeated="{max(frame.width, 1)}"/>{_header(frame.columns)}'.encode())
                    stream.write(_rows(frame))
                stream.write(b"</table:table>")
            stream.write(b"</office:spreadsheet></office:body></office:document-content>")


def _header(names: list[str]) -> str:
    cells = "".join(f'<table:table-cell table:style-name="tete" office:value-type="string"><text:p>{escape(n)}</text:p></table:table-cell>' for n in names)
    return f"<table:table-header-rows><table:table-row>{cells}</table:table-row></table:table-header-rows>"


def _rows(frame: pl.DataFrame) -> bytes:
    import polars as pl

    if frame.is_empty():
        return b""
    cells = [_cell(pl.col(name), kind).fill_null("<table:table-cell/>") for name, kind in frame.schema.items()]
    rows = frame.select(pl.concat_str([pl.lit("<table:table-row>"), *cells, pl.lit("</table:table-row>")]).alias("xml"))["xml"]
    return "\n".join(rows.to_list()).encode()


def _cell(value: pl.Expr, kind: pl.DataType) -> pl.Expr:
    """XML of the cells of a column; null where there is no value."""
    import polars as pl

    def typed(name: str, attribute: str, shown: pl.Expr, more: str = "") -> pl.Expr:
        return pl.format(f'<table:table-cell{more} office:value-type="{name}" office:{attribute}="{{}}"/>', shown)

    if kind == pl.Boolean:
        return typed("boolean", "boolean-value", value.cast(pl.String))
    if kind.is_temporal():
        return typed("date", "date-value", value.dt.to_string("iso:strict"), ' table:style-name="jour"')
    text = _text(value.cast(pl.String))
    if kind.is_float():
        return pl.when(value.is_finite()).then(typed("float", "value", value.cast(pl.String))).otherwise(text)
    if kind.is_numeric():
        return pl.when(value.cast(pl.Int128).abs() <= 2**53).then(typed("float", "value", value.cast(pl.String))).otherwise(text)
    return text


def _text(value: pl.Expr) -> pl.Expr:
    """Text as paragraphs; runs of spaces, which the format folds, and tabs are written as its own elements."""
    import polars as pl

    marks: dict[str, Any] = {
        "&": "&amp;", "<": "&lt;", ">": "&gt;", "\r\n": "</text:p><text:p>", "\n": "</text:p><text:p>", "\r": "</text:p><text:p>",
        "\t": "<text:tab/>", "  ": " <text:s/>",
    }  # fmt: skip
    safe = value.str.replace_all(INTERDITS, "").str.replace_many(list(marks), list(marks.values()), leftmost=True)
    return pl.format('<table:table-cell office:value-type="string"><text:p>{}</text:p></table:table-cell>', safe.str.replace("^ ", "<text:s/>"))
