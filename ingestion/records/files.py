"""Files that people send, as frames of text: XLSX, ODS, CSV, Parquet.

What a file is, its content tells; its name only helps to say what a CSV holds. Formulas are never evaluated: a workbook
is read by the values that the spreadsheet stored beside them, and a formula without one is an error of that cell.
Nothing is typed nor judged here beyond what is needed to find the tables in the file.
"""

from __future__ import annotations

import csv
import difflib
import re
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ingestion.records.layout import ANOMALIES, EXTRAIT, LISTES, MODE_EMPLOI, header, kind_named, kinds, normalise

if TYPE_CHECKING:
    import polars as pl

TAILLE_MAX_MO = 2048  # of a file, and of what it unfolds to
LIGNES_MAX = 3_000_000
ENTETE_MAX = 10  # rows in which a header is looked for: people add titles above it
MARGES = " \t\r\n\u00a0\u202f"
FORMULE = "#FORMULE!"  # stands for a formula whose value was never stored
# How an error of a formula reads once it is text, in the spreadsheets of the administration.
ERREURS = r"^(?:#(?:N/A|REF!|VALUE!|DIV/0!|NAME\?|NUM!|NULL!|SPILL!|CALC!|GETTING_DATA|FORMULE!)|(?:Err|Erreur)\s?:\s?[0-9]{3})$"
ANNEXES = frozenset(map(normalise, (MODE_EMPLOI, LISTES, ANOMALIES)))
REDEMANDER = "l'ouvrir dans le tableur, l'enregistrer à nouveau en .xlsx, .ods ou .csv puis le renvoyer"


class RecordError(ValueError):
    """The file as a whole cannot be taken; the French message says why and what to do, and holds no value of a cell."""


@dataclass
class Sheet:
    """One table of records of a file.

    ``frame``: every column of the kind that a person fills in, as text, absent ones null; ``_ligne`` (Int64), the line in
    the sheet; and, for lines that could not be cut into columns, ``_defaut`` (why) and ``_brut`` (the line). Blank lines are
    left out. ``problems``: what is odd about the sheet, in French. ``places``: 0-based column of each column in the sheet.
    ``autres``: columns that the layout does not know, by their place, with their header.
    """

    kind: str
    name: str
    frame: pl.DataFrame
    problems: list[str]
    places: dict[str, int] = field(default_factory=dict)
    autres: dict[int, tuple[str, pl.Series]] = field(default_factory=dict)
    ligne_entete: int = 1


def read(path: Path) -> list[Sheet]:
    """The tables of records of one file, in its order; at most one per kind, with or without rows.

    Raises RecordError when the file is not one of the accepted formats, is damaged or protected, holds no table of
    records, or lacks a column that must be filled in.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            start = stream.read(4096)
    except FileNotFoundError as error:
        raise RecordError("ce fichier n'existe pas ; vérifier son nom et son dossier") from error
    except OSError as error:
        raise RecordError(f"fichier impossible à ouvrir ({error.strerror}) ; vérifier son chemin et ses droits") from error
    if not size or not start.strip(b"\0 \t\r\n\xef\xbb\xbf"):
        raise RecordError("le fichier est vide ; vérifier que la copie est allée au bout")
    if size > TAILLE_MAX_MO * 1_000_000:
        raise RecordError(f"le fichier dépasse {TAILLE_MAX_MO} Mo ; l'envoyer en plusieurs fichiers")
    if start.startswith(b"PK\x03\x04"):
        sheets = _read_workbook(path)
    elif start.startswith(b"PAR1"):
        sheets = [_read_parquet(path)]
    elif start.startswith(b"\xd0\xcf\x11\xe0"):
        raise RecordError(
            "classeur protégé par un mot de passe, ou dans l'ancien format .xls ; retirer le mot de passe et l'enregistrer "
            "en .xlsx ou .ods"
        )
    elif re.match(rb"(?:\xef\xbb\xbf)?\s*<(?:!doctype|html|\?xml)", start, re.IGNORECASE):
        raise RecordError(f"c'est une page web ou du XML, non un tableau ; {REDEMANDER}")
    elif start.startswith(b"%PDF"):
        raise RecordError("c'est un PDF ; envoyer le tableau lui-même (.xlsx, .ods ou .csv)")
    else:
        sheets = [_read_csv(path)]
    for sheet in sheets:
        if sheet.frame.height > LIGNES_MAX:
            raise RecordError(f"plus de {LIGNES_MAX:_} lignes ; l'envoyer en plusieurs fichiers".replace("_", " "))
    return sheets


# --- which kind, which column -----------------------------------------------------------------------------------


def _names(kind: str) -> dict[str, str]:
    """Normalised header or declared name → declared name."""
    found = {}
    for column in kinds()[kind].saisies:
        for name in (*column.meta.origines, column.name):
            found[normalise(name)] = column.name
    return found


def _places(kind: str, cells: list[str]) -> dict[str, list[int]]:
    """Places in a row of headers of each declared column that it names."""
    names, found = _names(kind), {}
    for place, cell in enumerate(cells):
        column = names.get(normalise(cell)) if cell else None
        if column:
            found.setdefault(column, []).append(place)
    return found


def _missing(kind: str, cells: list[str]) -> list[str]:
    """Headers of the columns that must be filled in and that a row of headers lacks."""
    present = _places(kind, cells)
    return [
        header(c) for c in kinds()[kind].saisies if c.meta.saisie and c.meta.saisie.obligatoire and c.name not in present
    ]


def _kind_of(cells: list[str], hint: str | None) -> str | None:
    """The kind that a row of headers is of: the one all of whose obligatory columns are there, and most of the others."""
    whole = [kind for kind in kinds() if not _missing(kind, cells)]
    if hint in whole or not whole:
        return hint if hint in whole else None
    scores = {kind: len(_places(kind, cells)) for kind in whole}
    return max(whole, key=lambda kind: (scores[kind], -len(kinds()[kind].saisies)))


def _nearest(cells: list[str]) -> tuple[str, int]:
    """The kind that most headers of a row name, and how many do."""
    scores = {kind: len(_places(kind, cells)) for kind in kinds()}
    best = max(scores, key=lambda kind: scores[kind])
    return best, scores[best]


def _lacks(name: str, kind: str, cells: list[str]) -> RecordError:
    """What to say of a table that lacks obligatory columns."""
    lost, known = _missing(kind, cells), _names(kind)
    odd = [cell for cell in cells if cell and normalise(cell) not in known]
    parts = []
    for label in lost:
        near = {normalise(cell): cell for cell in odd}
        close = difflib.get_close_matches(normalise(label), list(near), n=1, cutoff=0.6)
        parts.append(f"« {label} »" + (f" (est-ce « {near[close[0]]} » ?)" if close else ""))
    plural = "s" if len(lost) > 1 else ""
    return RecordError(
        f"{name} : colonne{plural} obligatoire{plural} absente{plural} pour « {kinds()[kind].meta.titre} » : {', '.join(parts)} ; "
        f"reprendre l'en-tête du modèle (dk records template {kind})"
    )


def _sheet(
    frame: pl.DataFrame, cells: list[str], kind: str, name: str, lines: pl.Series, ligne_entete: int
) -> Sheet:
    """A table cut from its file: ``frame`` has one text column per header cell, in order."""
    import polars as pl

    places = _places(kind, cells)
    problems = []
    by_name = {column.name: column for column in kinds()[kind].saisies}
    for column, several in places.items():
        if len(several) > 1:
            raise RecordError(f"{name} : la colonne « {header(by_name[column])} » est écrite {len(several)} fois ; n'en garder qu'une")
    known = {header(column): column.name for column in by_name.values()}
    taken = {several[0] for several in places.values()}
    blank = pl.repeat(True, frame.height, dtype=pl.Boolean, eager=True)
    for series in frame.iter_columns():
        if not blank.any():
            break
        blank &= (series.str.strip_chars(MARGES) == "").fill_null(True)
    if blank.any():
        frame, lines = frame.filter(~blank), lines.filter(~blank)
    autres = {}
    for place, cell in enumerate(cells):
        series = frame.to_series(place)
        if place in taken or not (cell or series.is_not_null().any()):
            continue
        autres[place] = (cell, series)
        if cell:
            free = [label for label, column in known.items() if column not in places]
            close = difflib.get_close_matches(cell, free, n=1, cutoff=0.75)
            problems.append(
                f"la colonne « {cell} » n'est pas du modèle, elle est ignorée" + (f" (est-ce « {close[0]} » ?)" if close else "")
            )
        else:
            problems.append(f"une colonne sans en-tête ({letter(place)}) est ignorée")
    absent = [header(column) for name_, column in by_name.items() if name_ not in places]
    if absent:
        problems.append(f"colonnes facultatives absentes, lues comme vides : {', '.join(absent)}")
    columns = [
        frame.to_series(places[n][0]).alias(n) if n in places else pl.Series(n, [None] * frame.height, dtype=pl.String)
        for n in by_name
    ]
    table = pl.DataFrame([*columns, lines.alias("_ligne")]) if columns else pl.DataFrame({"_ligne": lines})
    return Sheet(kind, name, table, problems, {n: several[0] for n, several in places.items()}, autres, ligne_entete)


def letter(place: int) -> str:
    """Spreadsheet name of a 0-based column: 0 is A, 26 is AA."""
    text = ""
    place += 1
    while place:
        place, rest = divmod(place - 1, 26)
        text = chr(65 + rest) + text
    return text


def _clean(cell: Any) -> str:
    return re.sub(r"[\s\u00a0\u202f]+", " ", str(cell or "").replace("\ufeff", "")).strip()


# --- workbooks --------------------------------------------------------------------------------------------------


def _read_workbook(path: Path) -> list[Sheet]:
    import fastexcel

    try:
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
            unfolded = sum(item.file_size for item in archive.infolist())
            if unfolded > TAILLE_MAX_MO * 1_000_000:
                raise RecordError(f"le classeur se déplie au-delà de {TAILLE_MAX_MO} Mo ; l'envoyer en plusieurs fichiers")
            ods = "mimetype" in names and archive.read("mimetype").startswith(b"application/vnd.oasis.opendocument.spreadsheet")
            if not ods and "xl/workbook.xml" not in names:
                raise RecordError(f"archive qui n'est ni un classeur .xlsx ni un classeur .ods ; {REDEMANDER}")
            if ods and b"encryption-data" in archive.read("META-INF/manifest.xml"):
                raise RecordError("classeur protégé par un mot de passe ; le retirer puis renvoyer le fichier")
    except (zipfile.BadZipFile, KeyError, EOFError) as error:
        raise RecordError("classeur tronqué ou abîmé (copie interrompue ?) ; le renvoyer") from error
    suffix = ".ods" if ods else ".xlsx"
    with tempfile.TemporaryDirectory(prefix="dk-") as folder:
        book_path = path
        if path.suffix.lower() != suffix:
            # The library goes by the extension; the content is what counts.
            book_path = Path(folder) / f"classeur{suffix}"
            book_path.symlink_to(path.resolve())
        try:
            book = fastexcel.read_excel(book_path)
            sheets, leftovers = _tables(book, _formula_errors_ods(path) if ods else _formula_errors(path))
        except fastexcel.FastExcelError as error:
            raise RecordError(f"classeur illisible ; {REDEMANDER}") from error
    twice = sorted({s.kind for s in sheets if [other.kind for other in sheets].count(s.kind) > 1})
    if twice:
        titles = ", ".join(f"« {kinds()[kind].meta.titre} »" for kind in twice)
        raise RecordError(f"plusieurs feuilles du même type ({titles}) ; les réunir en une seule")
    if not sheets:
        raise RecordError(
            f"aucune feuille ne suit un modèle de relevé (feuilles : {', '.join(book.sheet_names)}) ; partir d'un modèle "
            "(dk records template) et garder son en-tête"
        )
    sheets[0].problems += [f"feuille « {name} » sans en-tête de modèle, ignorée" for name in leftovers]
    return sheets


def _tables(book: Any, errors: dict[str, list[tuple[int, int, str]]]) -> tuple[list[Sheet], list[str]]:
    """Sheets of records of a workbook, and the names of the others that hold something."""
    import polars as pl

    sheets: list[Sheet] = []
    leftovers: list[str] = []
    for name in book.sheet_names:
        if normalise(name) in ANNEXES:
            continue
        if normalise(name).startswith(normalise(EXTRAIT) + " "):
            raise RecordError(
                f"la feuille « {name} » n'est qu'un extrait des lignes fausses ; corriger le fichier d'origine et le renvoyer"
            )
        # Without skip_rows, empty rows at the top would be dropped and every line number shifted.
        frame = book.load_sheet(name, header_row=None, skip_rows=0, dtypes="string").to_polars()
        if not frame.width or not frame.height:
            if kind_named(name):
                raise RecordError(f"feuille « {name} » : vide, même son en-tête ; la rétablir d'après le modèle, ou la supprimer")
            continue
        frame = _with_errors(frame, errors.get(name, []))
        label = f"feuille « {name} »"
        hint = kind_named(name)
        rows = [[_clean(cell) for cell in row] for row in frame.head(ENTETE_MAX).rows()]
        found = next(((rank, kind) for rank, cells in enumerate(rows) if (kind := _kind_of(cells, hint))), None)
        if found is None:
            best = max(rows, key=lambda cells: _nearest(cells)[1])
            nearest, hits = _nearest(best)
            if hint or hits >= 3:
                raise _lacks(label, hint or nearest, best)
            leftovers.append(name)
            continue
        rank, kind = found
        body = frame.slice(rank + 1)
        lines = pl.int_range(rank + 2, rank + 2 + body.height, dtype=pl.Int64, eager=True)
        sheets.append(_sheet(body, rows[rank], kind, name, lines, rank + 1))
    return sheets, leftovers


def _with_errors(frame: pl.DataFrame, errors: list[tuple[int, int, str]]) -> pl.DataFrame:
    """The cells whose formula failed, which the library reads as empty, given back as text."""
    import polars as pl

    by_column: dict[int, list[tuple[int, str]]] = {}
    for row, column, text in errors:
        if row < frame.height and column < frame.width:
            by_column.setdefault(column, []).append((row, text))
    for column, cells in by_column.items():
        series = frame.to_series(column)
        rows, texts = zip(*cells, strict=True)
        frame = frame.with_columns(series.scatter(list(rows), pl.Series(texts, dtype=pl.String)))
    return frame


_PLACE = re.compile(rb'\br="([A-Z]{1,3})([0-9]+)"')
_VALUE = re.compile(rb"<v[^>]*>([^<]*)</v>")


def _formula_errors(path: Path) -> dict[str, list[tuple[int, int, str]]]:
    """(row, column, text), from 0, of the cells of each sheet whose formula failed or has no stored value."""
    import xml.etree.ElementTree as ET

    found: dict[str, list[tuple[int, int, str]]] = {}
    with zipfile.ZipFile(path) as archive:
        try:
            book = ET.fromstring(archive.read("xl/workbook.xml"))
            links = ET.fromstring(archive.read("xl/_rels/workbook.xml.rels"))
        except (ET.ParseError, KeyError) as error:
            raise RecordError(f"classeur abîmé ; {REDEMANDER}") from error
        targets = {link.get("Id"): link.get("Target", "") for link in links}
        space = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}id"
        for sheet in (node for node in book.iter() if node.tag.endswith("}sheet")):
            target = targets.get(sheet.get(space) or next((v for k, v in sheet.attrib.items() if k.endswith("}id")), ""), "")
            member = target.lstrip("/") if target.startswith("/") else f"xl/{target}"
            if member not in archive.namelist():
                continue
            cells = []
            for attributes, content in _cells_with_formula(archive, member):
                place = _PLACE.search(attributes)
                failed = b't="e"' in attributes
                if place is None or not (failed or b"<v" not in content):
                    continue
                column = 0
                for char in place.group(1):
                    column = column * 26 + char - 64
                value = _VALUE.search(content)
                text = value.group(1).decode("utf-8", "replace") if failed and value else FORMULE
                cells.append((int(place.group(2)) - 1, column - 1, text))
            found[sheet.get("name", "")] = cells
    return found


def _cells_with_formula(archive: zipfile.ZipFile, member: str) -> Iterator[tuple[bytes, bytes]]:
    """(attributes, content) of the cells of a worksheet that hold a formula or an error, read block by block."""
    rest = b""
    with archive.open(member) as stream:
        while block := stream.read(1 << 20):
            text = rest + block
            if b"<f" not in text and b't="e"' not in text:
                # What may be the start of a cell stays: its formula is perhaps in the next block.
                rest = text[text.rfind(b"<c ") :] if b"<c " in text else text[-64:]
                continue
            end = text.rfind(b"</row>")
            end = text.rfind(b"<c ") if end < 0 else end
            if end < 0:
                rest = text
                continue
            yield from _formulas(text[:end])
            rest = text[end:]
    yield from _formulas(rest)


def _formulas(text: bytes) -> Iterator[tuple[bytes, bytes]]:
    # Cut at the cells, and not matched whole: a damaged sheet costs no more than a sound one.
    for cell in text.split(b"<c ")[1:]:
        attributes, _, content = cell.partition(b">")
        if attributes.endswith(b"/"):
            continue
        content = content.partition(b"</c>")[0]
        if b"<f" in content or b't="e"' in attributes:
            yield b" " + attributes, content


_TABLE = "{urn:oasis:names:tc:opendocument:xmlns:table:1.0}"
_TYPE_CALC = "{urn:org:documentfoundation:names:experimental:calc:xmlns:calcext:1.0}value-type"


def _formula_errors_ods(path: Path) -> dict[str, list[tuple[int, int, str]]]:
    """As ``_formula_errors``, for an .ods: LibreOffice stores a failed formula as an empty text and says so beside it."""
    import xml.etree.ElementTree as ET

    found: dict[str, list[tuple[int, int, str]]] = {}
    with zipfile.ZipFile(path) as archive:
        if not _contains(archive, "content.xml", b'"error"'):
            return found
        name, row, column = "", 0, 0
        with archive.open("content.xml") as stream:
            try:
                for event, node in ET.iterparse(stream, ("start", "end")):
                    if event == "start" and node.tag == f"{_TABLE}table":
                        name, row = node.get(f"{_TABLE}name", ""), 0
                        found[name] = []
                    elif event == "start" and node.tag == f"{_TABLE}table-row":
                        column = 0
                    elif event == "end" and node.tag in (f"{_TABLE}table-cell", f"{_TABLE}covered-table-cell"):
                        if node.get(_TYPE_CALC) == "error":
                            text = "".join(node.itertext()).strip()
                            found[name].append((row, column, text if re.match(ERREURS, text) else FORMULE))
                        column += int(node.get(f"{_TABLE}number-columns-repeated", "1"))
                    elif event == "end" and node.tag == f"{_TABLE}table-row":
                        row += int(node.get(f"{_TABLE}number-rows-repeated", "1"))
                        node.clear()
            except (ET.ParseError, ValueError) as error:
                raise RecordError(f"classeur abîmé ; {REDEMANDER}") from error
    return found


def _contains(archive: zipfile.ZipFile, member: str, wanted: bytes) -> bool:
    rest = b""
    with archive.open(member) as stream:
        while block := stream.read(1 << 20):
            if wanted in rest + block:
                return True
            rest = block[-len(wanted) :]
    return False


# --- CSV --------------------------------------------------------------------------------------------------------


def _encoding(path: Path) -> str:
    """utf-8 (with or without BOM) or cp1252, by strict decoding of the whole file. Raises RecordError for any other."""
    import codecs

    with path.open("rb") as stream:
        start = stream.read(4)
        if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in start:
            raise RecordError("texte en UTF-16 (« Texte Unicode » d'Excel) ; l'enregistrer en « CSV UTF-8 » puis le renvoyer")
        stream.seek(0)
        decoder, bytes_seen, utf8 = codecs.getincrementaldecoder("utf-8")("strict"), 0, True
        single: set[int] = set()
        while block := stream.read(1 << 20):
            if b"\0" in block:
                raise RecordError("le fichier n'est ni du texte ni un classeur ; envoyer un .xlsx, .ods, .csv ou .parquet")
            if utf8:
                try:
                    decoder.decode(block)
                except UnicodeDecodeError:
                    utf8 = False
            single |= set(block)
            bytes_seen += len(block)
        if utf8:
            try:
                decoder.decode(b"", final=True)
                return "utf-8"
            except UnicodeDecodeError:
                pass
    # These bytes are no character of Windows nor of Latin-1 text: the file is in neither.
    if single & {0x81, 0x8D, 0x8F, 0x90, 0x9D} or start.startswith(codecs.BOM_UTF8):
        raise RecordError("encodage inconnu : ni UTF-8, ni Windows (cp1252) ; l'enregistrer en « CSV UTF-8 » puis le renvoyer")
    return "cp1252"


def _first_lines(path: Path, encoding: str) -> list[str]:
    lines = []
    with path.open("r", encoding="utf-8-sig" if encoding == "utf-8" else encoding, newline="") as stream:
        for _ in range(ENTETE_MAX):
            line = stream.readline(1 << 16)
            if not line:
                break
            lines.append(line)
    return lines


def _read_csv(path: Path) -> Sheet:
    import polars as pl

    from ingestion.declarations import Format
    from ingestion.reading import ReadingError
    from ingestion.reading import _read_csv as read_declared

    encoding = _encoding(path)
    lines = _first_lines(path, encoding)
    hint = _kind_of_name(path)
    best: tuple[int, int, str, list[str]] = (-1, 0, ";", [])
    for rank, line in enumerate(lines):
        for separator in (";", ",", "\t"):
            cells = [_clean(cell) for cell in next(csv.reader([line], delimiter=separator), [])]
            score = max(_nearest(cells)[1], len(_places(hint, cells)) if hint else 0)
            if score > best[0]:
                best = (score, rank, separator, cells)
    score, rank, separator, cells = best
    kind = _kind_of(cells, hint)
    if kind is None:
        if hint or score >= 3:
            raise _lacks("le fichier", hint or _nearest(cells)[0], cells)
        titles = ", ".join(f"{name} ({source.meta.titre})" for name, source in kinds().items())
        raise RecordError(
            f"l'en-tête n'est celui d'aucun type de relevé ; garder celui du modèle (dk records template). Types : {titles}"
        )
    with tempfile.TemporaryDirectory(prefix="dk-") as folder:
        source = path
        if encoding == "cp1252":
            source = Path(folder) / "releve.csv"
            with path.open("r", encoding=encoding, newline="") as stream, source.open("w", encoding="utf-8", newline="") as out:
                while text := stream.read(1 << 20):
                    out.write(text)
        fmt = Format(type="csv", encodage="utf-8", separateur=separator, ligne_entete=rank + 1)
        try:
            frame, shape = read_declared(source, "le fichier", fmt, entier=False)  # a torn line goes back, the others are taken
        except ReadingError as error:
            raise RecordError("CSV illisible : guillemets ou fins de ligne abîmés ; l'enregistrer à nouveau depuis le tableur") from error
    numbers = frame["_ligne"]
    sheet = _sheet(frame.drop("_ligne"), cells, kind, kinds()[kind].meta.titre, numbers, rank + 1)
    torn = [item for item in shape if str(item["valeur"] or "").strip(f"{separator} \t\r\n\"")]
    if torn:
        bad = pl.DataFrame(
            {"_ligne": [i["ligne"] for i in torn], "_defaut": [i["motif"] for i in torn], "_brut": [i["valeur"].strip("\r\n") for i in torn]},
            schema={"_ligne": pl.Int64, "_defaut": pl.String, "_brut": pl.String},
        )
        sheet.frame = pl.concat([sheet.frame, bad], how="diagonal")
        sheet.autres = {
            place: (name, series.extend_constant(None, bad.height)) for place, (name, series) in sheet.autres.items()
        }
    return sheet


def _kind_of_name(path: Path) -> str | None:
    """The kind that a file name starts with, its longest name first (« convention_operateur » before « convention »)."""
    stem = normalise(path.stem)
    names = {normalise(n): kind for kind, source in kinds().items() for n in (kind, source.meta.titre)}
    hits = [name for name in names if stem == name or stem.startswith(name + " ")]
    return names[max(hits, key=len)] if hits else None


# --- Parquet ----------------------------------------------------------------------------------------------------


def _read_parquet(path: Path) -> Sheet:
    import polars as pl

    try:
        frame = pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise RecordError("Parquet tronqué ou abîmé ; le renvoyer") from error
    cells = [_clean(name) for name in frame.columns]
    hint = _kind_of_name(path)
    kind = _kind_of(cells, hint)
    if kind is None:
        raise _lacks("le fichier", hint or _nearest(cells)[0], cells)
    lines = pl.int_range(2, frame.height + 2, dtype=pl.Int64, eager=True)
    if not frame.width:
        raise RecordError("Parquet sans colonne ; le refaire d'après le modèle")
    return _sheet(frame.select(_as_text(name, dtype) for name, dtype in frame.schema.items()), cells, kind, kinds()[kind].meta.titre, lines, 1)


def _as_text(name: str, dtype: pl.DataType) -> pl.Expr:
    """A typed column as a person would have typed it. Raises RecordError for a nested or binary type."""
    import polars as pl

    cell = pl.col(name)
    if dtype == pl.Boolean:
        return pl.when(cell).then(pl.lit("oui")).when(~cell).then(pl.lit("non")).alias(name)
    if dtype.is_nested() or dtype == pl.Binary or dtype == pl.Object:
        raise RecordError(f"la colonne « {name} » est d'un type ({dtype}) que rien ne permet de lire ; l'écrire en texte")
    if isinstance(dtype, pl.Datetime):
        return cell.dt.to_string("%Y-%m-%d %H:%M:%S")
    return cell.cast(pl.String)
