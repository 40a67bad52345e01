"""Bytes of one delivery to typed frames, by the declaration and by nothing else.

Every file becomes a Polars frame of strings first; types, missing marks and codes come from the declaration.
A row that cannot be read becomes a reject with its reason; a file that cannot be read raises ReadingError.

A CSV or Parquet file above ``ENTIER_MAX_MO`` or ``ENTIER_MAX_LIGNES`` is read in pieces of ``MORCEAU`` rows, by the same
rules: memory holds one piece, the rows whose keys are not unique, and nothing else of the file. Other formats are read
whole, and their size is bounded.
"""

from __future__ import annotations

import bisect
import csv
import difflib
import gzip
import math
import os
import re
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ingestion.declarations import Column, Format, Livraison, Source, origin_names

if TYPE_CHECKING:
    import polars as pl

    from ingestion.snapshots import Snapshot

MOIS = {
    "janvier": "01", "février": "02", "fevrier": "02", "mars": "03", "avril": "04", "mai": "05", "juin": "06",
    "juillet": "07", "août": "08", "aout": "08", "septembre": "09", "octobre": "10", "novembre": "11",
    "décembre": "12", "decembre": "12",
}  # fmt: skip

CODE_PATTERNS = {
    "code_commune": (r"^(?:\d{2}|2[AB])\d{3}$", "un code commune a cinq caractères, zéro de tête compris (01001, 2A004)"),
    "code_departement": (r"^(?:0[1-9]|[1-8]\d|9[0-5]|2[AB]|97\d|98\d)$", "un code département s'écrit 01, 2A ou 971"),
    "code_region": (r"^\d{2}$", "un code région a deux chiffres, zéro de tête compris"),
    "code_epci": (r"^\d{9}$", "un EPCI se désigne par son SIREN de neuf chiffres"),
    "code_qpv": (r"^Q[PN][0-9A-Z]{6}$", "un code de quartier s'écrit QP ou QN suivi de six caractères"),
}

STATUTS = {"observe": "observé", "estime": "estimé", "provisoire": "provisoire"}
# A larger file is read in pieces of so many rows: what lies between is on the disk, and DuckDB has so much memory to sort it.
ENTIER_MAX_MO = 64  # of a CSV
ENTIER_MAX_LIGNES = 200_000  # of a Parquet file
MORCEAU = 100_000
MEMOIRE_DUCKDB = "192MB"
ENSEMBLE_MAX_CELLULES = 20_000_000  # of all that is kept of a source: more is put together on the disk, in three times as long
DOUBLONS_MAX = 1_000_000  # rows whose key is not unique, in one file: they alone are held together
# A file is unpacked only up to this size unless its declaration says otherwise (guards against gzip bombs).
TAILLE_MAX_MO = 2048


class ReadingError(RuntimeError):
    """The file cannot be read as declared; the French message names the file, the place and the remedy."""


TABLES = ("table", "mesures", "listes", "rejets")  # what reading a file gives


@dataclass(frozen=True)
class Reading:
    """What one file gave. Frames hold declared columns plus ``_millesime``, ``_ligne``, ``_snapshot_sha256``,
    ``_connue_le``; ``lignes_*`` count records of the file, whatever each record was unfolded into."""

    table: pl.DataFrame
    mesures: pl.DataFrame
    listes: pl.DataFrame
    rejets: pl.DataFrame
    lignes_lues: int
    lignes_rejetees: int
    lignes_hors_tableau: int

    @property
    def lignes_gardees(self) -> int:
        return self.lignes_lues - self.lignes_rejetees - self.lignes_hors_tableau

    def part_remplie(self, column: str) -> float:
        """Share of the rows of the table that have a value in ``column``; 0 for a table without rows."""
        return 1 - self.table[column].null_count() / self.table.height if self.table.height else 0.0

    def write(self, folder: Path) -> None:
        """Writes the four frames to ``folder``, each as ``<name>.parquet``."""
        folder.mkdir(parents=True, exist_ok=True)
        for name in TABLES:
            path = folder / f"{name}.parquet"
            getattr(self, name).write_parquet(path.with_suffix(".tmp"), compression="zstd", statistics=True)
            os.replace(path.with_suffix(".tmp"), path)


@dataclass(frozen=True)
class ReadingInPieces:
    """What reading a large file gave: the four tables lie in files, and only these facts are in memory."""

    lignes_lues: int
    lignes_rejetees: int
    lignes_hors_tableau: int
    rangees: int
    remplies: dict[str, int]

    @property
    def lignes_gardees(self) -> int:
        return self.lignes_lues - self.lignes_rejetees - self.lignes_hors_tableau

    def part_remplie(self, column: str) -> float:
        """As ``Reading.part_remplie``."""
        return self.remplies[column] / self.rangees if self.rangees else 0.0


def polars_type(data_type: str) -> Any:
    import polars as pl

    return {
        "varchar": pl.String, "bigint": pl.Int64, "double": pl.Float64, "date": pl.Date, "boolean": pl.Boolean,
    }[data_type]  # fmt: skip


def technical_schema() -> dict[str, Any]:
    import polars as pl

    return {
        "_millesime": pl.String, "_ligne": pl.Int64, "_cog_annee": pl.Int64, "_publie_le": pl.Date,
        "_snapshot_sha256": pl.String, "_connue_le": pl.Date,
    }  # fmt: skip


def table_schema(source: Source) -> dict[str, Any]:
    """Polars schema of the landed table of a source; what is declared personal is not in it."""
    return {column.name: polars_type(column.data_type) for column in source.conservees} | technical_schema()


def rejets_schema() -> dict[str, Any]:
    import polars as pl

    return {
        "source_id": pl.String, "millesime": pl.String, "snapshot_sha256": pl.String, "chemin": pl.String,
        "ligne": pl.Int64, "colonne": pl.String, "valeur": pl.String, "motif": pl.String, "ligne_gardee": pl.Boolean,
    }  # fmt: skip


def mesures_schema() -> dict[str, Any]:
    import polars as pl

    return {
        "mesure_id": pl.String, "nature": pl.String, "territoire_niveau": pl.String, "territoire_code": pl.String,
        "cog_annee": pl.Int64, "periode_debut": pl.Date, "periode_fin": pl.Date, "valeur": pl.Float64,
        "statut_valeur": pl.String, "source_id": pl.String, "millesime": pl.String, "snapshot_sha256": pl.String,
        "connue_le": pl.Date, "ligne": pl.Int64,
    }  # fmt: skip


def listes_schema() -> dict[str, Any]:
    import polars as pl

    return {
        "intervention_id": pl.String, "etat_date": pl.Date, "niveau_declare": pl.String, "code_origine": pl.String,
        "cog_annee": pl.Int64, "projet_id": pl.String, "projet_nom": pl.String, "date_debut": pl.Date,
        "source_id": pl.String, "millesime": pl.String, "snapshot_sha256": pl.String, "ligne": pl.Int64,
        "liste_id": pl.String, "connue_le": pl.Date,
    }  # fmt: skip


# --- bytes to strings ------------------------------------------------------------------------------------------


def _unpack(path: Path, chemin: str, fmt: Format, folder: Path) -> Path:
    """The file itself: gunzipped or taken out of its zip, within the declared size."""
    limit = (fmt.taille_max_mo or TAILLE_MAX_MO) * 1_000_000
    with path.open("rb") as stream:
        magic = stream.read(4)
    if magic[:2] == b"\x1f\x8b":
        source: Any = gzip.open(path, "rb")  # noqa: SIM115 (closed below, with the target)
    elif magic == b"PK\x03\x04" and fmt.membre:
        try:
            archive = zipfile.ZipFile(path)
        except zipfile.BadZipFile as error:
            raise ReadingError(f"{chemin} : archive tronquée ou abîmée ({error}) ; la redemander au producteur") from error
        if fmt.membre not in archive.namelist():
            raise ReadingError(
                f"{chemin} : l'archive ne contient pas {fmt.membre!r} mais {', '.join(archive.namelist()[:5])} ; "
                "corriger « membre » dans la déclaration"
            )
        source = archive.open(fmt.membre)
    else:
        if path.stat().st_size > limit:
            raise ReadingError(f"{chemin} : fichier au-delà de {limit // 1_000_000} Mo ; relever taille_max_mo")
        return path
    target = folder / "deplie"
    size = 0
    try:
        with source, target.open("wb") as out:
            while block := source.read(1 << 20):
                size += len(block)
                if size > limit:
                    raise ReadingError(
                        f"{chemin} : se déplie au-delà de {limit // 1_000_000} Mo (bombe de compression ?) ; "
                        "si le fichier est sain, relever taille_max_mo dans sa déclaration"
                    )
                out.write(block)
    except (EOFError, zlib.error, zipfile.BadZipFile, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise ReadingError(f"{chemin} : archive tronquée ou abîmée ({error}) ; la redemander au producteur") from error
    return target


# What the first bytes of a file of each declared type say.
NATURES = {
    "csv": {"texte"}, "yaml": {"texte"}, "json": {"json"}, "xlsx": {"classeur"}, "ods": {"classeur"}, "xls": {"ole", "classeur"},
    "parquet": {"parquet"},
}  # fmt: skip


def _nature(path: Path) -> str:
    """What the first bytes of a file (gunzipped) say that it is: zip, classeur, ole, parquet, json, script or texte."""
    with path.open("rb") as stream:
        head = stream.read(512)
    if head[:2] == b"\x1f\x8b":
        try:
            with gzip.open(path, "rb") as unpacked:
                head = unpacked.read(512)
        except (EOFError, OSError, zlib.error):
            return "texte"
    if head.startswith(b"PK\x03\x04"):
        # A workbook is a zip archive too; it says so in its first member.
        return "classeur" if b"[Content_Types].xml" in head or b"mimetypeapplication/vnd.oasis" in head else _archive_nature(path)
    if head.startswith(b"\xd0\xcf\x11\xe0"):
        return "ole"
    if head.startswith(b"PAR1"):
        return "parquet"
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if re.match(rb"(?:var|let|const)\s+\w+\s*=", start):
        return "script"
    return "json" if start[:1] in (b"{", b"[") else "texte"


def _archive_nature(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            return "classeur" if "[Content_Types].xml" in archive.namelist() else "zip"
    except zipfile.BadZipFile:
        return "zip"


def _as_served(path: Path, live: Format, copy: Format) -> Format:
    """The layout of a file obtained from its producer: that of ``live``, unless its first bytes are of the type of ``copy``.

    A producer publishes one list under several forms (a map layer, a table), and changes the one that a stable link leads to.
    """
    nature = _nature(path)

    def suits(fmt: Format) -> bool:
        wanted = {"zip"} if fmt.membre else NATURES.get(fmt.type or "", set()) | ({"script"} if fmt.type == "json" and fmt.dans_texte else set())
        return nature in wanted

    return copy if suits(copy) and not suits(live) else live


def _header_names(cells: list[Any]) -> list[str]:
    """Header cells to unique names; nameless columns become ``_vide_n`` and are never read."""
    names: list[str] = []
    for rank, cell in enumerate(cells):
        name = re.sub(r"[\s\u00a0\u202f]+", " ", str(cell or "").replace("\ufeff", "")).strip()
        if not name:
            name = f"_vide_{rank}"
        while name in names:
            name += "_bis"
        names.append(name)
    return names


def _read_csv(
    path: Path, chemin: str, fmt: Format, entier: bool = True, into: Path | None = None
) -> tuple[pl.DataFrame, list[dict[str, Any]]]:
    """All-text frame of a CSV with ``_ligne``, and the lines whose shape is wrong.

    ``entier``: a last record cut short stops the reading, for what followed it is lost. ``into``: the records go to that
    Parquet file as they are read, without ``_ligne``, and the frame has no row.
    """
    import duckdb
    import polars as pl

    encoding = fmt.encodage or "utf-8"
    skip = (fmt.ligne_entete or 1) - 1
    quote = fmt.guillemet or '"'
    separator = fmt.separateur or ","
    try:
        with path.open("r", encoding="utf-8-sig" if encoding == "utf-8" else encoding, newline="") as stream:
            for _ in range(skip):
                stream.readline()
            header = next(csv.reader(stream, delimiter=separator, quotechar=quote), None)
    except UnicodeDecodeError as error:
        raise ReadingError(
            f"{chemin} : n'est pas en {encoding} (octet {error.start}) ; vérifier l'encodage auprès du producteur "
            "ou corriger « encodage » dans la déclaration"
        ) from error
    if not header:
        raise ReadingError(f"{chemin} : aucun en-tête en ligne {skip + 1} ; le fichier est vide ou tronqué")
    names = _header_names(header)
    # The longest line bounds what is held; a large file is taken in buffers of twice that, a small one as DuckDB sees fit.
    buffers = "" if into is None else ", buffer_size = 32000000"
    types = ", ".join(f"{_literal(name)}: 'VARCHAR'" for name in names)
    records = (
        f"select * from read_csv({_literal(str(path))}, columns = {{{types}}}, "
        f"auto_detect = false, header = true, skip = {skip}, delim = {_literal(separator)}, quote = {_literal(quote)}, "
        f"escape = {_literal(quote)}, encoding = {_literal(encoding)}, store_rejects = true, rejects_limit = 0, strict_mode = true, "
        f"max_line_size = 16000000{buffers})"
    )
    with _database().cursor() if into is None else duckdb.connect() as con:
        try:
            if into is None:
                frame = pl.DataFrame(con.sql(records))
                height = frame.height
            else:
                frame = pl.DataFrame(schema=dict.fromkeys(names, pl.String))
                _bounded(con, into.parent)
                height = _one_row(con, f"copy ({records}) to {_literal(str(into))} (format parquet, compression snappy)")[0]
            bad = con.execute(
                "select line, left(any_value(csv_line), 200), string_agg(distinct error_type::varchar, ', '), "
                "coalesce(length(any_value(csv_line)) - length(replace(any_value(csv_line), ?, '')), 0) "
                "from reject_errors group by line order by line",
                [quote],
            ).fetchall()
        except (duckdb.Error, pl.exceptions.PolarsError) as error:
            # DuckDB names the file as it lies here, below a folder of this run; Polars, which takes the rows, passes it on.
            reason = str(error).splitlines()[0].removeprefix("got external error: ").replace(str(path), chemin)
            raise ReadingError(f"{chemin} : CSV illisible ({reason}) ; le redemander au producteur") from error
    reasons = {
        "MISSING COLUMNS": "ligne incomplète : moins de champs que l'en-tête (fichier tronqué ?)",
        "TOO MANY COLUMNS": "ligne trop longue : plus de champs que l'en-tête (séparateur dans une valeur ?)",
        "UNQUOTED VALUE": "guillemet jamais refermé",
        "LINE SIZE OVER MAXIMUM": "ligne démesurée",
        "INVALID ENCODING": f"caractères qui ne sont pas en {encoding}",
    }
    if any("INVALID ENCODING" in kinds for _, _, kinds, _ in bad):
        line = next(line for line, _, kinds, _ in bad if "INVALID ENCODING" in kinds)
        raise ReadingError(
            f"{chemin} : n'est pas en {encoding} (ligne {line}) ; vérifier l'encodage auprès du producteur "
            "ou corriger « encodage » dans la déclaration"
        )
    rejects = [
        {"ligne": int(line), "colonne": None, "valeur": text,
         "motif": " ; ".join(reasons.get(kind, kind.lower()) for kind in kinds.split(", "))}
        for line, text, kinds, _ in bad
    ]  # fmt: skip
    if entier and bad and bad[-1][0] >= skip + 1 + height + len(bad):
        line, _, kinds, quotes = bad[-1]
        _check_whole(path, chemin, line, kinds, quotes)
    return frame.with_columns(_line_numbers(fmt, rejects, 0, frame.height)), rejects


def _line_numbers(fmt: Format, rejects: list[dict[str, Any]], start: int, count: int) -> pl.Series:
    """Numbers of ``count`` records of a CSV from the ``start``-th that was read: each counts the header as the first, and the
    refused records in between."""
    import numpy as np
    import polars as pl

    refused = np.array(sorted({reject["ligne"] for reject in rejects}), dtype=np.int64)
    numbers = np.arange(start, start + count, dtype=np.int64) + (fmt.ligne_entete or 1) + 1
    # A refused record pushes all those that stand after it one further.
    numbers += np.searchsorted(refused - np.arange(len(refused)), numbers, side="right")
    return pl.Series("_ligne", numbers)


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


@cache
def _database() -> Any:
    """One database in memory for the small files of a process: opening one takes ten times as long as reading such a file.
    What a cursor refuses stays its own."""
    import duckdb

    return duckdb.connect(config={"threads": 2})


def _one_row(con: Any, sql: str) -> tuple[Any, ...]:
    return con.execute(sql).fetchall()[0]  # fetching one would leave the result open, and the connection busy


def _bounded(con: Any, scratch: Path) -> None:
    """Keeps a DuckDB connection within ``MEMOIRE_DUCKDB``; beyond, it writes to ``scratch``."""
    con.execute(f"set memory_limit = '{MEMOIRE_DUCKDB}'")
    con.execute(f"set temp_directory = {_literal(str(scratch / 'duckdb'))}")
    con.execute("set threads = 2")


def _check_whole(path: Path, chemin: str, line: int, kinds: str, quotes: int) -> None:
    """Raises ReadingError when the last record, which is refused, was cut short: what followed it is lost.

    A last line that is short but ended is a note below the table. One that is whole by chance cannot be told from a cut.
    """
    with path.open("rb") as stream:
        stream.seek(-1, 2)
        ended = stream.read(1) in (b"\n", b"\r")
    if "UNQUOTED VALUE" in kinds and quotes % 2:
        what = f"le guillemet ouvert à la ligne {line} n'est jamais refermé"
    elif "MISSING COLUMNS" in kinds and not ended:
        what = f"la ligne {line} n'a pas tous ses champs"
    else:
        return
    raise ReadingError(f"{chemin} : fichier coupé au milieu d'une ligne ({what}) ; le redemander au producteur")


def _records(document: Any, path: str) -> Iterator[tuple[Any, ...]]:
    """Chains of nested records (outermost first) reached by a dotted path where ``*`` walks a list."""

    def walk(node: Any, steps: list[str], chain: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
        if not steps:
            yield (*chain, node)
            return
        step, rest = steps[0], steps[1:]
        if step == "*":
            for item in node or []:
                # Only records that hold others count as « enclosing »; a mere wrapper does not.
                if rest:
                    yield from walk(item, rest, (*chain, item) if "*" in rest else chain)
                else:
                    yield (*chain, item)
        else:
            yield from walk(node.get(step) if isinstance(node, dict) else None, rest, chain)

    steps = [step for step in path.split(".") if step]
    return walk(document, steps, (document,) if steps and isinstance(document, dict) else ())


def _text(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, list):
        return " ; ".join(_text(item) or "" for item in value)
    return str(value)


def _field(chain: tuple[Any, ...], origin: str) -> tuple[bool, Any]:
    """(present, value) of a declared origin: ``^`` climbs to the enclosing record, dots enter nested objects."""
    climb = len(origin) - len(origin.lstrip("^"))
    if climb >= len(chain):
        return False, None
    node, name = chain[-1 - climb], origin.lstrip("^")
    if not isinstance(node, dict):
        return name == "valeur", node
    if name in node:
        return True, node[name]
    for part in name.split("."):
        if not isinstance(node, dict) or part not in node:
            return False, None
        node = node[part]
    return True, node


def _read_records(document: Any, chemin: str, fmt: Format, origins: list[str], may_be_empty: bool) -> pl.DataFrame:
    import polars as pl

    path = fmt.enregistrements if fmt.enregistrements is not None else "*"
    if path == "*" and isinstance(document, list):  # the common case, and that of the largest files
        chains = [(record,) for record in document if record is not None]
    else:
        chains = [chain for chain in _records(document, path) if chain[-1] is not None]
    if not chains and not may_be_empty:
        raise ReadingError(
            f"{chemin} : aucun enregistrement sous « {path} » ; le producteur a changé la structure, "
            "revoir « enregistrements » dans la déclaration"
        )
    flat = all(isinstance(chain[-1], dict) for chain in chains)
    columns: dict[str, list[str | None]] = {}
    for origin in origins:
        # Most columns are plain members of flat records: a big list is worth the shorter way.
        if flat and any(origin in chain[-1] for chain in chains):
            columns[origin] = [value if type(value := chain[-1].get(origin)) is str else _text(value) for chain in chains]
            continue
        cells = [_field(chain, origin) for chain in chains]
        if any(present for present, _ in cells):
            columns[origin] = [_text(value) for _, value in cells]
    if not chains:
        columns = {origin: [] for origin in origins}
    if not columns:
        known = sorted({key for chain in chains[:50] if isinstance(chain[-1], dict) for key in chain[-1]})
        raise ReadingError(f"{chemin} : aucune des colonnes déclarées ; le fichier porte {', '.join(known[:20])}")
    frame = pl.DataFrame(columns, schema={name: pl.String for name in columns})
    return frame.with_columns(_ligne=pl.int_range(1, frame.height + 1, dtype=pl.Int64))


def _load_json(path: Path, chemin: str, fmt: Format) -> Any:
    import orjson

    raw = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    if fmt.dans_texte:
        starts = [place for place in (raw.find(b"{"), raw.find(b"[")) if place >= 0]
        if not starts:
            raise ReadingError(f"{chemin} : aucun objet JSON dans le fichier")
        raw = raw[min(starts) : max(raw.rfind(b"}"), raw.rfind(b"]")) + 1]
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise ReadingError(f"{chemin} : JSON illisible (ligne {error.lineno}, {error.msg}) ; fichier tronqué ?") from error


def _read_excel(path: Path, chemin: str, fmt: Format) -> pl.DataFrame:
    import fastexcel
    import polars as pl

    try:
        book = fastexcel.read_excel(path)
        if fmt.feuille and fmt.feuille not in book.sheet_names:
            raise ReadingError(
                f"{chemin} : pas de feuille {fmt.feuille!r} mais {', '.join(book.sheet_names)} ; "
                "corriger « feuille » dans la déclaration"
            )
        # Without skip_rows, empty rows at the top would be dropped and every line number shifted.
        frame = book.load_sheet(fmt.feuille or 0, header_row=None, skip_rows=0, dtypes="string").to_polars()
    except fastexcel.FastExcelError as error:
        raise ReadingError(f"{chemin} : classeur illisible ({str(error).splitlines()[0].replace(str(path), chemin)})") from error
    rank = (fmt.ligne_entete or 1) - 1
    if frame.height <= rank:
        raise ReadingError(f"{chemin} : pas d'en-tête en ligne {rank + 1} ; le classeur est vide ou tronqué")
    names = _header_names(list(frame.row(rank)))
    frame = frame.slice(rank + 1)
    frame.columns = names
    return frame.with_columns(_ligne=pl.int_range(rank + 2, rank + 2 + frame.height, dtype=pl.Int64))


def _read_parquet(path: Path, chemin: str, piece: tuple[int, int] | None = None, wanted: set[str] | None = None) -> tuple[pl.DataFrame, list[dict[str, Any]]]:
    """All-text frame of a Parquet file whose columns bear their declared names, and the rows refused before it was written.

    Those have a ``_motif``, with the ``_colonne`` and ``_valeur`` that it is about; ``_ligne`` is where each row came from.
    ``piece``: (first row, how many), without the columns that are not ``wanted``.
    """
    import polars as pl

    try:
        scan = pl.scan_parquet(path)
        schema = scan.collect_schema()
        if "_ligne" not in schema:
            scan = scan.with_row_index("_ligne", offset=1)
        if piece is not None:
            names = [name for name in schema if name.startswith("_") or wanted is None or name in wanted]
            scan = scan.slice(*piece).select(list(dict.fromkeys(["_ligne", *names])))
        nested = [name for name, dtype in schema.items() if dtype.is_nested() or dtype == pl.Binary]
        if nested:
            raise ReadingError(f"{chemin} : colonnes qui ne sont pas des valeurs simples ({', '.join(nested)}) ; les écrire en texte")
        frame = scan.collect()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise ReadingError(f"{chemin} : Parquet illisible ({str(error).splitlines()[0]}) ; fichier tronqué ?") from error
    frame = frame.with_columns(pl.col("_ligne").cast(pl.Int64), pl.exclude("_ligne").cast(pl.String))
    rejects: list[dict[str, Any]] = []
    if "_motif" in frame.columns:
        refused = frame.filter(pl.col("_motif").is_not_null())
        found = {"colonne": "_colonne", "valeur": "_valeur"}
        rejects = refused.select(
            pl.col("_ligne").alias("ligne"), pl.col("_motif").alias("motif"),
            *((pl.col(n) if n in frame.columns else pl.lit(None, pl.String)).alias(key) for key, n in found.items()),
        ).to_dicts()  # fmt: skip
        frame = frame.filter(pl.col("_motif").is_null())
    return frame, rejects


# --- strings to typed rows -------------------------------------------------------------------------------------


def _lookalikes(wanted: list[str], present: list[str]) -> str:
    close = [match for name in wanted for match in difflib.get_close_matches(name, present, n=2, cutoff=0.5)]
    return f" ; lui ressemble : {', '.join(dict.fromkeys(close))}" if close else ""


def _rename(
    frame: pl.DataFrame, source: Source, livraison: Livraison, chemin: str, optional: set[str], declared: bool
) -> pl.DataFrame:
    """Declared names in place of the producer's; undeclared and personal columns are dropped, constants added.

    ``declared``: the file may bear the declared names, as a register that the project wrote, not those of its producer.
    """
    import polars as pl

    present = [name for name in frame.columns if not name.startswith("_")]
    picked: list[Any] = [pl.col("_ligne")]
    missing: list[tuple[str, list[str]]] = []
    for column in source.conservees:
        if column.name in livraison.constantes:
            picked.append(pl.lit(livraison.constantes[column.name], pl.String).alias(column.name))
            continue
        names = [column.name] if declared and column.name in frame.columns else origin_names(column, livraison)
        found = [name for name in names if name in frame.columns]
        if found:
            value = pl.coalesce(found)
            if column.meta.vide is not None:  # here, where an empty cell still differs from a column that is not there
                value = pl.when(value.fill_null("") != "").then(value).otherwise(pl.lit(column.meta.vide))
            picked.append(value.alias(column.name))
        elif column.name in optional or column.meta.facultative:
            picked.append(
                pl.col(column.name) if column.name in frame.columns else pl.lit(None, pl.String).alias(column.name)
            )
        else:
            missing.append((column.name, names))
    if missing:
        lines = [
            f"la colonne « {' » ou « '.join(names) or name} » (déclarée {name}) manque{_lookalikes(names, present)}"
            for name, names in missing
        ]
        known = {name for column in source.columns for name in origin_names(column, livraison)}
        new = [name for name in present if name not in known][:8]
        raise ReadingError(
            f"{chemin} : {' ; '.join(lines)}. Colonnes non déclarées du fichier : {', '.join(new) or 'aucune'}. "
            f"Remède : ajouter le nouveau nom à « origine » dans {source.fichier}"
        )
    return frame.select(picked)


def _unpivot(frame: pl.DataFrame, source: Source, chemin: str) -> pl.DataFrame:
    import polars as pl

    rule = source.meta.depivot
    assert rule is not None
    pattern = re.compile(rule.motif)
    hits = {name: m.groupdict() for name in frame.columns if (m := pattern.fullmatch(name))}
    if not hits:
        raise ReadingError(
            f"{chemin} : aucune colonne ne suit le motif « {rule.motif} » ; colonnes vues : "
            f"{', '.join(c for c in frame.columns if not c.startswith('_'))[:200]}"
        )
    index = [name for name in frame.columns if name not in hits]
    groups = [name for name in pattern.groupindex if name != "colonne"]
    long = frame.unpivot(on=list(hits), index=index, variable_name="_origine", value_name="_valeur")
    for group in pattern.groupindex:
        mapping = {name: rule.remplacer.get(group, {}).get(found[group], found[group]) for name, found in hits.items()}
        long = long.with_columns(pl.col("_origine").replace_strict(mapping, return_dtype=pl.String).alias(f"_g_{group}"))
    if "colonne" in pattern.groupindex:
        targets = sorted({rule.remplacer.get("colonne", {}).get(f["colonne"], f["colonne"]) for f in hits.values()})
        long = long.group_by([*index, *[f"_g_{g}" for g in groups]], maintain_order=True).agg(
            pl.col("_valeur").filter(pl.col("_g_colonne") == target).first().alias(target) for target in targets
        )
        if rule.ignorer_vides:
            long = long.filter(pl.any_horizontal(pl.col(target).fill_null("") != "" for target in targets))
    else:
        if rule.ignorer_vides:
            long = long.filter(pl.col("_valeur").fill_null("") != "")
        long = long.rename({"_valeur": rule.valeur or "valeur"}).drop("_origine")
    return long.rename({f"_g_{group}": group for group in groups})


def _typed(column: Column) -> pl.Expr:
    """Typed value of a stripped string column; null where the text is not of the declared type."""
    import polars as pl

    meta, value = column.meta, pl.col(column.name)
    kind = meta.type
    if kind in ("entier", "nombre"):
        text = value.str.replace_all(r"[\s\u00a0\u202f]", "")
        if meta.decimale == ",":
            text = text.str.replace(",", ".", literal=True)
        number = text.cast(pl.Float64, strict=False)
        number = pl.when(number.is_finite()).then(number)
        if kind == "nombre":
            return number
        return pl.when(number == number.round(0)).then(number).cast(pl.Int64, strict=False)
    if kind == "date":
        tries = []
        for pattern in meta.formats_date or ("%Y-%m-%d",):
            if pattern == "JJ mois AAAA":
                text = value.str.to_lowercase().str.replace("1er", "1", literal=True)
                text = text.str.replace_many(list(MOIS), list(MOIS.values())).str.replace_all(r"[\s\u00a0]+", " ")
                tries.append(text.str.strptime(pl.Date, "%d %m %Y", strict=False))
            elif pattern == "MM/AAAA":
                tries.append(
                    (pl.lit("01/") + value.str.extract(r"^(\d{1,2}/\d{4})$")).str.strptime(pl.Date, "%d/%m/%Y", strict=False)
                )
            else:
                tries.append(value.str.strptime(pl.Date, pattern, strict=False))
        return pl.coalesce(tries)
    if kind == "booleen":
        low = value.str.to_lowercase()
        return (
            pl.when(low.is_in(["true", "oui", "1", "vrai"])).then(True)
            .when(low.is_in(["false", "non", "0", "faux"])).then(False)
        )  # fmt: skip
    if kind in CODE_PATTERNS:
        return pl.when(value.str.contains(CODE_PATTERNS[kind][0])).then(value)
    return value


EXPLANATIONS = {
    "entier": "n'est pas un nombre entier",
    "nombre": "n'est pas un nombre",
    "date": "n'est pas une date au format déclaré",
    "booleen": "n'est ni oui ni non",
} | {kind: text for kind, (_, text) in CODE_PATTERNS.items()}


class _Rejects:
    """Rejected rows of one file, gathered as they are found."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def take(self, frame: pl.DataFrame, mask: pl.Expr, colonne: str | None, motif: str) -> pl.DataFrame:
        """Rows of ``frame`` outside ``mask``; the others are written down with their reason."""
        import polars as pl

        bad = frame.filter(mask)
        if bad.height:
            value = pl.col(colonne) if colonne in bad.columns else pl.lit(None, pl.String)
            self.rows += bad.select(
                ligne="_ligne", colonne=pl.lit(colonne), valeur=value.cast(pl.String), motif=pl.lit(motif)
            ).to_dicts()
            frame = frame.filter(~mask)
        return frame


def _correct(frame: pl.DataFrame, source: Source, livraison: Livraison, rejects: _Rejects) -> pl.DataFrame:
    import polars as pl

    for rule in source.meta.corrections:
        if rule.livraison not in (None, livraison.millesime):
            continue
        hit = pl.col(rule.colonne).eq_missing(pl.lit(rule.valeur))
        if rule.rejeter:
            frame = rejects.take(frame, hit, rule.colonne, f"erreur connue du producteur : {rule.motif}")
        else:
            frame = frame.with_columns(
                pl.when(hit).then(pl.lit(rule.remplacer_par)).otherwise(pl.col(rule.colonne)).alias(rule.colonne)
            )
    return frame


def _period(source: Source, livraison: Livraison) -> tuple[pl.Expr, pl.Expr]:
    """First and last day of the period of each row, as the declaration tells it."""
    import polars as pl

    rule = source.meta.mesures
    assert rule is not None
    if rule.periode == "livraison":
        day = pl.lit(livraison.periode or livraison.publie_le)
        return day, day
    if rule.periode == "date":
        return pl.col(rule.date), pl.col(rule.date)
    if rule.periode == "intervalle":
        # Censuses are dated 1 January: « 2008-2013 » ends on the eve of the second one; a single year is a whole year.
        first = pl.col(rule.annee).str.extract(r"^(\d{4})").cast(pl.Int32)
        last = pl.col(rule.annee).str.extract(r"^\d{4}-(\d{4})$").cast(pl.Int32).sub(1).fill_null(first)
        return pl.date(first, 1, 1), pl.date(last, 12, 31)
    year = pl.col(rule.annee).cast(pl.Int32)
    if rule.periode == "annee":
        return pl.date(year, 1, 1), pl.date(year, 12, 31)
    first = pl.date(year, (pl.col(rule.trimestre).cast(pl.Int32) - 1) * 3 + 1, 1)
    return first, first.dt.offset_by("3mo").dt.offset_by("-1d")


MESURE_CLE = ("mesure_id", "territoire_niveau", "territoire_code", "periode_debut", "periode_fin")
ADDITIVES = ("effectif", "stock", "montant")


def _mesures(
    rows: pl.DataFrame, source: Source, livraison: Livraison, snapshot: Snapshot, absent: set[str] | None = None
) -> pl.DataFrame:
    """Long measures of the kept rows: one row per territory, period and measure column, with its status.

    ``absent``: optional columns that the file lacks, when the rows are a part of it.
    """
    import polars as pl

    rule = source.meta.mesures
    wanted = [column for column in source.columns if column.meta.mesure]
    if rule is None or not wanted:
        return pl.DataFrame(schema=mesures_schema())
    first, last = _period(source, livraison)
    level = pl.lit(rule.niveau) if rule.niveau else pl.col(rule.niveau_colonne or "")
    if rule.selon:
        rows = rows.drop_nulls(rule.selon)
    parts = []
    for column in wanted:
        mesure = column.meta.mesure
        assert mesure is not None
        empty = column.name in absent if absent is not None else rows[f"_brut_{column.name}"].null_count() == rows.height
        if column.meta.facultative and empty:
            continue  # a column that this vintage does not have says nothing: neither zero nor missing
        raw = pl.col(f"_brut_{column.name}")
        statut = (
            pl.when(pl.col(column.name).is_not_null()).then(pl.lit(STATUTS[mesure.statut]))
            .when(raw.is_in(list(source.meta.secrets))).then(pl.lit("secret"))
            .when(raw.is_in(list(source.meta.non_diffuses))).then(pl.lit("non diffusé"))
            .otherwise(pl.lit("manquant"))
        )  # fmt: skip
        name = pl.lit(mesure.id)
        if rule.selon:
            name = pl.concat_str(name, pl.lit("_"), pl.col(rule.selon))
        parts.append(
            rows.select(
                mesure_id=name, nature=pl.lit(mesure.nature), territoire_niveau=level,
                territoire_code=pl.col(rule.code), cog_annee=pl.lit(livraison.cog_annee, pl.Int64),
                periode_debut=first, periode_fin=last, valeur=pl.col(column.name).cast(pl.Float64),
                statut_valeur=statut, source_id=pl.lit(source.source_id), millesime=pl.lit(livraison.millesime),
                snapshot_sha256=pl.lit(snapshot.sha256), connue_le=pl.lit(snapshot.connue_le).str.to_date(),
                ligne=pl.col("_ligne"),
            )
        )  # fmt: skip
    if not parts:
        return pl.DataFrame(schema=mesures_schema())
    long = pl.concat(parts)
    key = list(MESURE_CLE)
    if long.select(pl.struct(key).is_duplicated().any()).item():
        # Several rows of one territory and period (posts by structure) add up, where the measure may be added.
        additive = pl.col("nature").is_in(list(ADDITIVES))
        sums = long.filter(additive).group_by(key, maintain_order=True).agg(
            pl.when(pl.col("valeur").is_not_null().all()).then(pl.col("valeur").sum()).first().alias("valeur"),
            # A sum that lacks a part has the status of the part it lacks.
            pl.col("statut_valeur").sort_by(pl.col("valeur").is_not_null(), maintain_order=True).first(),
            pl.exclude("valeur", "statut_valeur").first(),
        )  # fmt: skip
        long = pl.concat([sums.select(long.columns), long.filter(~additive)])
    # A row without level (a delegated commune in a list of communes) is no territory of its own.
    return long.drop_nulls("territoire_niveau").match_to_schema(pl.Schema(mesures_schema()))


def _listes(rows: pl.DataFrame, source: Source, livraison: Livraison, snapshot: Snapshot) -> pl.DataFrame:
    """Treated territories of one state of a list: one row per intervention, project and code."""
    import polars as pl

    rule = source.meta.liste
    if rule is None:
        return pl.DataFrame(schema=listes_schema())
    for name, values in rule.garder.items():
        rows = rows.filter(pl.col(name).is_in(values))

    def column(name: str | None) -> pl.Expr:
        return pl.col(name) if name else pl.lit(None)

    frame = rows.select(
        etat_date=pl.lit(livraison.publie_le),
        niveau_declare=pl.coalesce(column(rule.niveau_colonne), pl.lit(rule.niveau)),
        code_origine=column(rule.code).cast(pl.String), cog_annee=pl.lit(livraison.cog_annee, pl.Int64),
        projet_id=column(rule.projet).cast(pl.String), projet_nom=column(rule.nom).cast(pl.String),
        date_debut=column(rule.date).cast(pl.Date), source_id=pl.lit(source.source_id),
        millesime=pl.lit(livraison.millesime), snapshot_sha256=pl.lit(snapshot.sha256), ligne=pl.col("_ligne"),
        liste_id=pl.lit(rule.etats_de or source.source_id), connue_le=pl.lit(snapshot.connue_le).str.to_date(),
    )  # fmt: skip
    parts = [frame.with_columns(intervention_id=pl.lit(name)) for name in rule.interventions]
    for value, names in rule.par_valeur.items():
        chosen = frame.filter(rows[rule.selon] == value)
        parts += [chosen.with_columns(intervention_id=pl.lit(name)) for name in names if name not in rule.interventions]
    return pl.concat(parts).match_to_schema(pl.Schema(listes_schema()))


def _refuse_html(path: Path, chemin: str) -> None:
    with path.open("rb") as stream:
        start = stream.read(512).removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html")):
        raise ReadingError(f"{chemin} : c'est une page HTML, non un CSV (page de maintenance ?) ; réessayer plus tard")


def _load_raw(path: Path, chemin: str, fmt: Format, origins: list[str], may_be_empty: bool) -> tuple[pl.DataFrame, list[dict[str, Any]]]:
    if fmt.type == "csv":
        _refuse_html(path, chemin)
        return _read_csv(path, chemin, fmt)
    if fmt.type in ("xlsx", "xls"):
        return _read_excel(path, chemin, fmt), []
    if fmt.type == "json":
        return _read_records(_load_json(path, chemin, fmt), chemin, fmt, origins, may_be_empty), []
    if fmt.type == "parquet":
        return _read_parquet(path, chemin)
    if fmt.type == "yaml":
        import yaml

        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        try:
            document = yaml.load(path.read_text(encoding="utf-8"), Loader=loader)
        except yaml.YAMLError as error:
            raise ReadingError(f"{chemin} : YAML illisible ({error})") from error
        return _read_records(document, chemin, fmt, origins, may_be_empty), []
    raise ReadingError(f"{chemin} : la déclaration ne dit pas le format (csv, json, xlsx, xls, yaml ou parquet)")


@dataclass
class _File:
    """One file being read, and what was counted of it so far."""

    source: Source
    livraison: Livraison
    snapshot: Snapshot
    fmt: Format
    lues: int = 0
    hors_tableau: int = 0
    rejetees: int = 0
    finie: bool = False  # past the row that ends the table

    @property
    def chemin(self) -> str:
        return self.snapshot.chemin

    @property
    def may_be_empty(self) -> bool:
        return self.source.attendus_de(self.livraison).lignes_min == 0

    @property
    def origins(self) -> list[str]:
        return [name for column in self.source.columns for name in origin_names(column, self.livraison)]


def _opened(source: Source, livraison: Livraison, snapshot: Snapshot, blob: Path) -> _File:
    fmt = livraison.format.over(source.meta.format)
    if snapshot.transport == "live" and livraison.live:
        fmt = _as_served(blob, livraison.live.format.over(fmt), fmt)
    return _File(source, livraison, snapshot, fmt)


def read_file(source: Source, livraison: Livraison, snapshot: Snapshot, blob: Path) -> Reading:
    """Typed rows, measures and rejects of one snapshot of one declared file, in memory.

    Raises ReadingError when the file as a whole is not what was declared. Every record of the file is accounted for:
    kept, rejected with a reason, or outside the table (notes below it).
    """
    file = _opened(source, livraison, snapshot, blob)
    with tempfile.TemporaryDirectory(prefix="dk-") as folder:
        return _whole(file, _unpacked(file, blob, Path(folder)))


def read_into(source: Source, livraison: Livraison, snapshot: Snapshot, blob: Path, folder: Path) -> Reading | ReadingInPieces:
    """As ``read_file``, and writes what it gives to ``folder``, each table as ``<name>.parquet``.

    A large CSV or Parquet file goes through memory in pieces.
    """
    file = _opened(source, livraison, snapshot, blob)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".lecture-", dir=folder) as scratch:
        path = _unpacked(file, blob, Path(scratch))
        if _is_large(file, path):
            return _in_pieces(file, path, Path(scratch), folder)
        reading = _whole(file, path)
        reading.write(folder)
        return reading


def _unpacked(file: _File, blob: Path, scratch: Path) -> Path:
    path = _unpack(blob, file.chemin, file.fmt, scratch)
    if path.stat().st_size == 0:
        raise ReadingError(f"{file.chemin} : fichier vide ; le redemander au producteur")
    return path


def _is_large(file: _File, path: Path) -> bool:
    """Whether a file is read in pieces. Parquet packs repeated values so well that its size says nothing of its rows."""
    if file.fmt.type == "parquet":
        return _parquet_rows(path, file.chemin) > ENTIER_MAX_LIGNES
    return file.fmt.type == "csv" and path.stat().st_size > ENTIER_MAX_MO * 1_000_000


def _parquet_rows(path: Path, chemin: str) -> int:
    import polars as pl

    try:
        return pl.scan_parquet(path).select(pl.len()).collect().item()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise ReadingError(f"{chemin} : Parquet illisible ({str(error).splitlines()[0]}) ; fichier tronqué ?") from error


def _whole(file: _File, path: Path) -> Reading:
    frame, shape_rejects = _load_raw(path, file.chemin, file.fmt, file.origins, file.may_be_empty)
    _refuse_empty(file, frame.height + len(shape_rejects))
    rejects = _Rejects()
    frame = _check_rows(file, frame, shape_rejects, rejects)
    table = frame.with_columns(**_technical(file))
    return Reading(
        table=table.select(list(table_schema(file.source))),
        mesures=_mesures(table, file.source, file.livraison, file.snapshot),
        listes=_listes(table, file.source, file.livraison, file.snapshot),
        rejets=_reject_frame(file, rejects, frame),
        lignes_lues=file.lues,
        lignes_rejetees=file.rejetees,
        lignes_hors_tableau=file.hors_tableau,
    )


def _refuse_empty(file: _File, rows: int) -> None:
    if rows == 0 and not file.may_be_empty:
        raise ReadingError(f"{file.chemin} : un en-tête et aucune ligne ; le redemander au producteur")


def _technical(file: _File) -> dict[str, pl.Expr]:
    import polars as pl

    livraison, snapshot = file.livraison, file.snapshot
    return {
        "_millesime": pl.lit(livraison.millesime), "_snapshot_sha256": pl.lit(snapshot.sha256),
        "_connue_le": pl.lit(snapshot.connue_le).str.to_date(), "_publie_le": pl.lit(livraison.publie_le),
        "_cog_annee": pl.lit(livraison.cog_annee, pl.Int64),
    }  # fmt: skip


def _reject_frame(file: _File, rejects: _Rejects, kept: pl.DataFrame) -> pl.DataFrame:
    """Rejects of some rows in their final shape, in order; ``kept``: those of these rows that were kept."""
    import polars as pl

    schema = rejets_schema()
    found = pl.DataFrame(rejects.rows, schema={k: schema[k] for k in ("ligne", "colonne", "valeur", "motif")})
    lines = kept["_ligne"].unique()
    found = found.with_columns(
        source_id=pl.lit(file.source.source_id), millesime=pl.lit(file.livraison.millesime),
        snapshot_sha256=pl.lit(file.snapshot.sha256), chemin=pl.lit(file.chemin), ligne_gardee=pl.col("ligne").is_in(lines.implode()),
    ).select(list(schema))  # fmt: skip
    return found.sort("ligne", "colonne", nulls_last=True)


def _check_rows(
    file: _File, frame: pl.DataFrame, shape_rejects: list[dict[str, Any]], rejects: _Rejects, keys: bool = True
) -> pl.DataFrame:
    """The rows to keep of those just read, typed; what is wrong goes to ``rejects``, and what they are is counted in ``file``.

    ``keys`` is False when the rows are a part of the file: whether their keys are unique is told elsewhere.
    """
    import polars as pl

    source, livraison, fmt, chemin, meta = file.source, file.livraison, file.fmt, file.chemin, file.source.meta
    rejects.rows += shape_rejects
    file.lues += frame.height + len({r["ligne"] for r in shape_rejects})
    frame = frame.with_columns(
        pl.col(name).str.strip_chars(" \t\r\n\u00a0\u202f") for name in frame.columns if name != "_ligne"
    )
    if fmt.arret_si_vide:
        if fmt.arret_si_vide not in frame.columns:
            raise ReadingError(f"{chemin} : la colonne d'arrêt « {fmt.arret_si_vide} » manque")
        empty = frame[fmt.arret_si_vide].fill_null("") == ""
        end = 0 if file.finie else empty.arg_max() if empty.any() else frame.height
        file.finie |= end < frame.height
        file.hors_tableau += frame.height - end
        frame = frame.head(end)
    optional: set[str] = set()
    if meta.depivot:
        frame = _unpivot(frame, source, chemin)
        pattern = re.compile(meta.depivot.motif)
        optional = {c.name for c in source.columns if not c.meta.origines and c.name in frame.columns}
        optional |= set(pattern.groupindex)
    # A file written before a column was added to its layout has no such column, unless it always had to be filled in.
    optional |= {c.name for c in source.columns if c.meta.saisie and not c.meta.saisie.obligatoire}
    optional |= {f"{c.name}_pseudonyme" for c in source.columns if c.meta.pseudonyme}
    frame = _rename(frame, source, livraison, chemin, optional, fmt.type == "parquet")
    lines_before = set(frame["_ligne"].to_list())
    if meta.eclatement:
        rule = meta.eclatement
        found = pl.col(rule.colonne).str.extract_all(rule.motif)
        frame = rejects.take(
            frame, pl.col(rule.colonne).is_null() | (found.list.len() == 0), rule.colonne, "aucun code dans ce texte"
        )
        frame = frame.with_columns(found.list.unique(maintain_order=True)).explode(rule.colonne)
        frame = frame.with_columns(pl.col(rule.colonne).str.extract(rule.motif))
    produites = frame.height + len(rejects.rows) - len(shape_rejects)
    frame = _correct(frame, source, livraison, rejects)
    frame = _type_rows(frame, source, rejects)
    if meta.mesures and meta.mesures.selon:
        known = pl.col(meta.mesures.selon).is_in(list(source.modalites)).fill_null(True)
        frame = rejects.take(frame, ~known, meta.mesures.selon, "modalité que la déclaration ne nomme pas (remplacer)")
    if meta.mesures and meta.mesures.periode in ("annee", "trimestre"):
        # « 26 » for 2026 would be a year of the first century, and nobody would see it.
        year = pl.col(meta.mesures.annee).cast(pl.Int64, strict=False)
        frame = rejects.take(frame, ~year.is_between(1800, 2200).fill_null(True), meta.mesures.annee, "n'est pas une année à quatre chiffres")
    frame = _check_keys(frame, source, livraison, rejects, keys)
    if produites != frame.height + len(rejects.rows) - len(shape_rejects):
        raise ReadingError(f"{chemin} : des lignes se sont perdues entre lecture et typage ; défaut du lecteur à signaler")
    kept = set(frame["_ligne"].to_list())
    rejected = {row["ligne"] for row in rejects.rows} - kept
    if lines_before - kept - rejected:
        raise ReadingError(f"{chemin} : {len(lines_before - kept - rejected)} lignes ni gardées ni rejetées")
    file.rejetees += len(rejected)
    return frame


# --- large files -------------------------------------------------------------------------------------------------


def _raw_pieces(file: _File, path: Path, scratch: Path) -> Iterator[tuple[pl.DataFrame, list[dict[str, Any]]]]:
    """All-text frames of ``MORCEAU`` rows at most, in order, each with its rows refused before typing; the first has none."""
    import polars as pl

    fmt, chemin = file.fmt, file.chemin
    shape_rejects: list[dict[str, Any]] = []
    records = path
    if fmt.type == "csv":
        _refuse_html(path, chemin)
        records = scratch / "textes.parquet"
        _, shape_rejects = _read_csv(path, chemin, fmt, into=records)
    rows = _parquet_rows(records, chemin)
    _refuse_empty(file, rows + len(shape_rejects))

    def piece(start: int, count: int, wanted: set[str] | None) -> tuple[pl.DataFrame, list[dict[str, Any]]]:
        if fmt.type == "parquet":
            return _read_parquet(records, chemin, (start, count), wanted)
        scan = pl.scan_parquet(records)
        names = [name for name in scan.collect_schema() if wanted is None or name in wanted]
        frame = scan.slice(start, count).select(names).collect()
        return frame.with_columns(_line_numbers(fmt, shape_rejects, start, frame.height)), []

    # All columns of no row first: what is missing or new among them is told at once, and the rest need not be read.
    yield piece(0, 0, None)
    wanted = {name for column in file.source.columns for name in (column.name, *origin_names(column, file.livraison))} | {fmt.arret_si_vide or ""}
    passed = 0
    for start in range(0, rows or 1, MORCEAU):
        frame, refused = piece(start, MORCEAU, None if file.source.meta.depivot else wanted)
        if fmt.type == "csv":
            # A refused line goes with the records that it stands before; those left, with the last ones.
            upto = frame["_ligne"].max() if start + MORCEAU < rows else math.inf
            given = bisect.bisect_right(shape_rejects, upto, lo=passed, key=lambda reject: reject["ligne"])
            refused, passed = shape_rejects[passed:given], given
        yield frame, refused


def _in_pieces(file: _File, path: Path, scratch: Path, folder: Path) -> ReadingInPieces:
    """Reads a large file piece by piece into ``folder``, and what is checked or added up across the whole of it (keys, measures
    of one territory in several rows) by DuckDB, whose memory is bounded, on the typed pieces left in ``scratch``."""
    import duckdb
    import polars as pl

    source = file.source
    rows, refused = 0, 0
    for rank, (frame, shape_rejects) in enumerate(_raw_pieces(file, path, scratch)):
        rejects = _Rejects()
        kept = _check_rows(file, frame, shape_rejects, rejects, keys=False)
        _part(_reject_frame(file, rejects, kept), scratch, "rejets", rank)
        kept = kept.with_columns(**_technical(file), _rang=pl.int_range(rows, rows + kept.height, dtype=pl.Int64))
        _part(kept, scratch, "rangees", rank)
        rows, refused = rows + kept.height, refused + len(rejects.rows)
    with duckdb.connect() as con:
        _bounded(con, scratch)
        con.execute(f"create view rangees as select * from read_parquet({_literal(str(scratch / 'rangees-*.parquet'))})")
        lost = _repeated_keys(con, file, scratch, rank + 1)
        _copy(con, f"select {', '.join(map(_name, table_schema(source)))} from rangees", folder / "table.parquet")
        absent = _absent(con, source)
        for part in range(rank + 1):
            typed = pl.read_parquet(scratch / f"rangees-{part:06}.parquet")
            _part(_mesures(typed, source, file.livraison, file.snapshot, absent), scratch, "mesures", part)
            _part(_listes(typed, source, file.livraison, file.snapshot), scratch, "listes", part)
        _added_up(con, file, scratch, folder)
        _copy(con, f"select * from read_parquet({_literal(str(scratch / 'listes-*.parquet'))})", folder / "listes.parquet")
        still = f" and ligne not in (select ligne from read_parquet({_literal(str(scratch / 'perdues.parquet'))}))" if lost else ""
        _copy(
            con,
            f"select * replace (ligne_gardee{still} as ligne_gardee) from read_parquet({_literal(str(scratch / 'rejets-*.parquet'))}) "
            "order by ligne, colonne nulls last, motif, valeur",
            folder / "rejets.parquet",
        )
        filled = list(source.attendus_de(file.livraison).remplies)
        counted = ", ".join(["count(*)", *(f"count({_name(column)})" for column in filled)])
        counts = _one_row(con, f"select {counted} from read_parquet({_literal(str(folder / 'table.parquet'))})")
    return ReadingInPieces(file.lues, file.rejetees, file.hors_tableau, counts[0], dict(zip(filled, counts[1:], strict=True)))


def _name(column: str) -> str:
    return '"' + column.replace('"', '""') + '"'


def _part(frame: pl.DataFrame, scratch: Path, name: str, rank: int) -> None:
    frame.write_parquet(scratch / f"{name}-{rank:06}.parquet", compression="lz4", statistics=False)


def _copy(con: Any, query: str, path: Path) -> None:
    """Writes the rows of a query, in its order, to a Parquet file that appears whole or not at all."""
    temporary = path.with_suffix(".tmp")
    con.execute(f"copy ({query}) to {_literal(str(temporary))} (format parquet, compression zstd)")
    os.replace(temporary, path)


def join(parts: list[tuple[Path, bool]], columns: list[str], flag: str | None, path: Path) -> None:
    """Writes to ``path`` the ``columns`` of all rows of some Parquet files, in order, in bounded memory; ``flag`` names a column
    that takes the value given with each file."""
    import duckdb

    path.parent.mkdir(parents=True, exist_ok=True)
    names = ", ".join(map(_name, columns))
    rows = [f"select {names}{f', {value} as {_name(flag)}' if flag else ''} from read_parquet({_literal(str(part))})" for part, value in parts]
    with tempfile.TemporaryDirectory(prefix=".jonction-", dir=path.parent) as scratch, duckdb.connect() as con:
        _bounded(con, Path(scratch))
        try:
            _copy(con, " union all ".join(rows), path)
        except duckdb.Error as error:
            raise OSError(str(error).splitlines()[0]) from error


def _repeated_keys(con: Any, file: _File, scratch: Path, rank: int) -> bool:
    """Judges the rows of ``rangees`` whose key is not unique, as ``_check_keys`` does, and takes out those that it rejects.

    Returns whether there are any: ``perdues.parquet`` then names the records of which no row is left.

    Keys are compared by their hash first: eight bytes a row, that DuckDB may leave on the disk. Raises ReadingError when more
    than ``DOUBLONS_MAX`` rows share their key.
    """
    import polars as pl

    key = _key_of(file.source)
    if key == ["_ligne"]:
        return False  # told within a piece
    hashed = f"hash({', '.join(map(_name, key))})"
    con.execute(f"create temp table repetees as select {hashed} as h from rangees group by h having count(*) > 1")
    alike = f"from rangees where {hashed} in (select h from repetees)"
    count = _one_row(con, f"select count(*) {alike}")[0]
    if count > DOUBLONS_MAX:
        raise ReadingError(
            f"{file.chemin} : {count} lignes partagent leur clé ({', '.join(key)}) avec une autre ; la clé déclarée n'est pas celle du fichier"
        )
    rows = pl.DataFrame(con.sql(f"select * {alike} order by _rang"))
    rejects = _Rejects()
    kept = _check_keys(rows, file.source, file.livraison, rejects)
    if not rejects.rows:
        return False
    gone = rows.filter(~pl.col("_rang").is_in(kept["_rang"].implode())).select("_rang", ligne="_ligne")
    gone.write_parquet(scratch / "ecartees.parquet")
    for path in sorted(scratch.glob("rangees-*.parquet")):
        part = pl.read_parquet(path)
        left = part.filter(~pl.col("_rang").is_in(gone["_rang"].implode()))
        if left.height < part.height:
            left.write_parquet(path, compression="lz4", statistics=False)
    # A record that was unfolded into several rows is kept as long as one of them is.
    alive = pl.DataFrame(
        con.sql(f"select distinct _ligne from rangees where _ligne in (select ligne from read_parquet({_literal(str(scratch / 'ecartees.parquet'))}))")
    )
    lost = gone.select("ligne").unique().join(alive, left_on="ligne", right_on="_ligne", how="anti")
    lost.write_parquet(scratch / "perdues.parquet")
    _part(_reject_frame(file, rejects, alive), scratch, "rejets", rank)
    file.rejetees += lost.height
    return True


def _absent(con: Any, source: Source) -> set[str]:
    """Optional columns of measures that the file does not have, or leaves empty throughout."""
    names = [c.name for c in source.columns if c.meta.mesure and c.meta.facultative]
    if not names:
        return set()
    counted = ", ".join(f"count({_name('_brut_' + name)})" for name in names)
    counts = _one_row(con, f"select {counted} from rangees")
    return {name for name, count in zip(names, counts, strict=True) if not count}


def _added_up(con: Any, file: _File, scratch: Path, folder: Path) -> None:
    """Joins the measures of all pieces: what adds up within a piece (``_mesures``) adds up between them, by the same rule."""
    source, livraison, snapshot = file.source, file.livraison, file.snapshot
    constant = {
        "cog_annee": f"cast({'null' if livraison.cog_annee is None else livraison.cog_annee} as bigint)", "source_id": _literal(source.source_id),
        "millesime": _literal(livraison.millesime), "snapshot_sha256": _literal(snapshot.sha256), "connue_le": f"date {_literal(snapshot.connue_le)}",
    }  # fmt: skip
    own = [name for name in mesures_schema() if name not in constant]
    con.execute(f"create view mesures as select {', '.join(own)} from read_parquet({_literal(str(scratch / 'mesures-*.parquet'))})")
    key, additive = ", ".join(MESURE_CLE), f"nature in ({', '.join(map(_literal, ADDITIVES))})"
    rows = "mesures"
    if _one_row(con, f"select count(*) from (select hash({key}) as h from mesures where {additive} group by h having count(*) > 1)")[0]:
        summed = {
            "nature": "any_value(nature)", "ligne": "min(ligne)", "valeur": "case when count(valeur) = count(*) then sum(valeur) end",
            "statut_valeur": "coalesce(arg_min(statut_valeur, ligne) filter (where valeur is null), arg_min(statut_valeur, ligne))",
        }  # fmt: skip
        rows = (
            f"(select {', '.join(f'{summed.get(name, name)} as {name}' for name in own)} from mesures where {additive} group by {key} "
            f"union all select {', '.join(own)} from mesures where not {additive}) order by ligne, {key}"
        )
    columns = ", ".join(f"{constant.get(name, name)} as {name}" for name in mesures_schema())
    _copy(con, f"select {columns} from {rows}", folder / "mesures.parquet")


def _type_rows(frame: pl.DataFrame, source: Source, rejects: _Rejects) -> pl.DataFrame:
    """Types every column as declared; a row with a cell of another type is rejected with that cell."""
    import polars as pl

    meta = source.meta
    marks = {*meta.manquants, *meta.secrets, *meta.non_diffuses}
    prepared = []
    for column in source.conservees:
        value = pl.col(column.name)
        if column.meta.remplacer:
            value = value.replace(column.meta.remplacer)
        prepared.append(pl.when(~value.is_in(list(marks))).then(value).alias(column.name))
        if column.meta.mesure:
            prepared.append(pl.col(column.name).alias(f"_brut_{column.name}"))
    frame = frame.with_columns(prepared)
    steps = []
    for column in source.conservees:
        value = pl.col(column.name)
        if column.meta.extraire:
            value = value.str.extract(column.meta.extraire)
        if column.meta.completer:
            value = pl.when(value.str.contains(r"^[0-9A-Z]+$")).then(value.str.zfill(column.meta.completer)).otherwise(value)
        if column.meta.siecle:
            value = pl.when(value.str.contains(r"^\d{2}$")).then(pl.concat_str(pl.lit(column.meta.siecle), value)).otherwise(value)
        if column.meta.extraire or column.meta.completer or column.meta.siecle:
            steps.append(value.alias(column.name))
    extracted = frame.with_columns(steps) if steps else frame
    typed = extracted.with_columns(_typed(column).alias(f"_type_{column.name}") for column in source.conservees)
    # The reject shows what the producer wrote, so the masks look at the texts as published.
    typed = typed.with_columns(frame[column.name].alias(column.name) for column in source.conservees)
    for column in source.conservees:
        wrong = pl.col(column.name).is_not_null() & pl.col(f"_type_{column.name}").is_null()
        reason = EXPLANATIONS.get(column.meta.type, "aucune valeur au motif déclaré dans ce texte")
        typed = rejects.take(typed, wrong, column.name, reason)
    return typed.with_columns(pl.col(f"_type_{c.name}").alias(c.name) for c in source.conservees).drop(
        f"_type_{c.name}" for c in source.conservees
    )


def _key_of(source: Source) -> list[str]:
    return [name for name in source.meta.cle if not name.startswith("_")] or ["_ligne"]


def _check_keys(frame: pl.DataFrame, source: Source, livraison: Livraison, rejects: _Rejects, whole: bool = True) -> pl.DataFrame:
    """Empty and duplicate keys become rejects; the first of a duplicate set is kept unless what is measured differs.

    Texts may differ: labels are written in more than one way. Unless ``whole``, other rows may bear the same keys: only
    those of one line are then compared.
    """
    import polars as pl

    key = _key_of(source)
    for name in key:
        frame = rejects.take(frame, pl.col(name).is_null(), name, "clé vide")
    if not whole and key != ["_ligne"]:
        return frame
    rank = pl.int_range(pl.len()).over(key)
    if frame.select(rank.max() > 0).item() if frame.height else False:
        values = [c.name for c in source.conservees if c.name not in key and c.meta.type != "texte"]
        if source.meta.doublons == "rejeter_si_differents" and values:
            differ = pl.any_horizontal(pl.col(v).n_unique().over(key) > 1 for v in values)
            frame = rejects.take(frame, differ, key[-1], f"clé en double ({', '.join(key)}) aux valeurs différentes : aucune n'est gardée")
        frame = rejects.take(frame, rank > 0, key[-1], f"clé en double ({', '.join(key)}) : la première ligne est gardée")
    return frame
