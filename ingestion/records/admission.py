"""The door: from what a person sends to rows that may be kept, with an answer, and nothing personal past it.

A file in ``DK_HOME/depot`` is read once it no longer changes. It is first moved to the restricted zone, then checked;
its answer goes to ``retours``, its sanitised rows to ``registre/<kind>/<emetteur>.parquet``, one line to the journal, and
its original stays in the restricted zone for the days that the retention allows. In that order, each step atomic and
giving the same bytes again: after a crash at any point, the next round finds the file where it was and does it over.

``emetteur`` names who sent: the file name without its extension, or the connector. A later file of the same name
replaces, for each kind of record that it holds (with or without rows), the rows of the earlier one; kinds that it does
not hold stay. The snapshots of the landing keep what was replaced.

Nothing written here outside ``restreint`` and ``retours``, nor said to a log, holds a value of a file: the journal has
hashes, kinds, times and counts.
"""

from __future__ import annotations

import atexit
import datetime as dt
import hashlib
import json
import logging
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import time
import traceback
import unicodedata
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ingestion.declarations import PROJECT

if TYPE_CHECKING:
    import polars as pl

    from ingestion.paths import Home
    from ingestion.records.check import Checked, Known
    from ingestion.records.files import Sheet

LOG = logging.getLogger("dk")

REPOS_S = 5.0  # a file that changed less than that ago is still being written
INCOMPLET_MIN = 30  # minutes after which a file whose end is missing is no longer awaited
RETENTION_JOURS = 30  # originals and answers; DK_RETENTION_JOURS overrides it

ADMIS, PARTIEL, REFUSE, ILLISIBLE, DEJA_RECU, PANNE = (
    "admis", "admis en partie", "refusé", "illisible", "déjà reçu", "panne",
)  # fmt: skip
TEMPORAIRES = (".part", ".partial", ".filepart", ".tmp", ".crdownload", ".download", ".swp")
HORODATAGE = "%Y-%m-%dT%H%M%SZ"
BLOCK = 1 << 20


class AdmissionError(RuntimeError):
    """A defect of the product met a file; the French message says where, and holds no value of the file."""


@dataclass(frozen=True)
class Bilan:
    """What became of the rows of one kind. ``changee``: the rows kept are not those that were there before."""

    kind: str
    lues: int
    gardees: int
    rejetees: int
    refusee: bool
    changee: bool


@dataclass
class Admission:
    """What became of one file or of one collection of a connector. ``retours``: the answers, for the sender only."""

    emetteur: str
    empreinte: str
    statut: str
    bilans: list[Bilan] = field(default_factory=list)
    retours: list[Path] = field(default_factory=list)
    origine: str = "depot"

    @property
    def refusee(self) -> bool:
        return self.statut in (REFUSE, ILLISIBLE, PANNE)

    @property
    def gardees(self) -> int:
        return 0 if self.refusee else sum(bilan.gardees for bilan in self.bilans)

    @property
    def rejetees(self) -> int:
        return sum(bilan.rejetees for bilan in self.bilans)


def utc_now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


# --- writing so that a crash or a umask does no harm ------------------------------------------------------------


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _put(path: Path, write: Callable[[Path], Any], mode: int) -> None:
    """Writes a file in one step: whole, on the disk, with exactly these permission bits, or not at all."""
    path.parent.mkdir(mode=0o700 if mode == 0o600 else 0o755, parents=True, exist_ok=True)
    temporary = path.with_name(f".{uuid.uuid4().hex}{path.suffix}")
    try:
        os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode))
        write(temporary)
        temporary.chmod(mode)  # the umask may have taken bits off, and a writer may have made the file anew
        _sync(temporary)
        os.replace(temporary, path)
        _sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(document: Any, path: Path) -> None:
    """Writes a small JSON document atomically; it must hold nothing personal."""
    text = json.dumps(document, ensure_ascii=False, indent=1, sort_keys=True)
    _put(path, lambda temporary: temporary.write_text(text, encoding="utf-8"), 0o640)


@contextmanager
def _scratch(folder: Path) -> Iterator[None]:
    """Temporary files of libraries stay in the restricted zone: they hold what the file holds, and a crash leaves them."""
    before = tempfile.tempdir
    tempfile.tempdir = str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = before


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _without_values(what: str, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Calls, and lets nothing of a file out by an exception.

    A defect becomes an AdmissionError that tells its type and place only, since a message of Polars quotes cells; an
    OSError loses its file name. Neither has what it replaces as its cause or context, which Dagster would store: both are
    raised once it is handled.
    """
    try:
        return call(*args, **kwargs)
    except AdmissionError:
        raise
    except OSError as error:
        fault: Exception = OSError(error.errno or 0, f"{what} : {error.strerror or type(error).__name__}")
    except BaseException as error:
        # A panic of Polars on a malformed file is no Exception, and must not stop the other files either.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename.startswith(f"{PROJECT}{os.sep}")]
        own = [f for f in frames if f"{os.sep}.venv{os.sep}" not in f.filename]
        place = f"{Path(own[-1].filename).name}:{own[-1].lineno}" if own else "?"
        fault = AdmissionError(
            f"{what} : panne interne ({type(error).__name__}, {place}), rien n'en est admis ; le signaler à l'équipe, le "
            "fichier sera repris à la prochaine exécution"
        )
    raise fault


# --- the drop folder --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Depose:
    """A file of the drop folder as it was seen once; times are nanoseconds since 1970."""

    path: Path
    octets: int
    modifie_ns: int
    change_ns: int

    @property
    def age(self) -> float:
        """Seconds since it was last written or moved here. Negative when a file server's clock is ahead."""
        return time.time() - self.change_ns / 1e9

    @property
    def complet(self) -> bool:
        """False when its format has an end and the end is not there: a copy is under way, or was cut."""
        import zipfile

        suffix = self.path.suffix.lower()
        try:
            if suffix in (".xlsx", ".ods", ".xlsm"):
                with zipfile.ZipFile(self.path):
                    return True
            if suffix == ".parquet":
                with self.path.open("rb") as stream:
                    stream.seek(-4, os.SEEK_END)
                    return stream.read() == b"PAR1"
        except (zipfile.BadZipFile, OSError, ValueError):
            return False
        return self.octets > 0

    @property
    def prete(self) -> bool:
        """True when it may be read, as far as its content tells: complete, or no longer awaited."""
        return self.complet or self.age > INCOMPLET_MIN * 60


def _temporary(name: str) -> bool:
    return name.startswith((".", "~$")) or name.lower().endswith(TEMPORAIRES)


def deposited(where: Home) -> list[Depose]:
    """Files of the drop folder, oldest first. Temporary files of editors and copies, links and folders are left out."""
    found = []
    try:
        entries = list(os.scandir(where.depot))
    except FileNotFoundError:
        return []
    for entry in entries:
        if _temporary(entry.name):
            continue
        with suppress(FileNotFoundError):  # taken back by its owner meanwhile
            facts = entry.stat(follow_symlinks=False)
            if stat.S_ISREG(facts.st_mode):
                found.append(Depose(Path(entry.path), facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns))
    return sorted(found, key=lambda d: (d.modifie_ns, d.path.name))


def strays(where: Home) -> int:
    """How many folders and links lie in the drop folder: nothing in them is read, and who put them there believes it is."""
    try:
        return sum(not _temporary(entry.name) and not entry.is_file(follow_symlinks=False) for entry in os.scandir(where.depot))
    except FileNotFoundError:
        return 0


def settled(where: Home, repos: float = REPOS_S, sleep: Callable[[float], None] = time.sleep) -> list[Depose]:
    """Files of the drop folder that did not change for ``repos`` seconds and may be read.

    Waits at most once, and only when some file is younger than that; what changed while it waited is left.
    """
    first = deposited(where)
    # The age may be wrong where files lie on a server with another clock; two looks apart are not.
    young = [d for d in first if not d.age >= repos]
    if young and repos > 0:
        sleep(repos)
        again = {d.path: d for d in deposited(where)}
        first = [d for d in first if d not in young or again.get(d.path) == d]
    return [d for d in first if d.prete]


def watch(where: Home, cursor: str | None, repos: float = REPOS_S) -> tuple[str | None, str]:
    """For a sensor: a key that stands for what is now to be admitted, or None, and the cursor of the next look.

    The same files give the same key, which is given once: a file that stays there does not ask again, one that changed,
    came back or is no longer awaited does. A file is seen to rest when it is old enough by this machine's clock, or was
    the same ``repos`` seconds ago. Names are hashed: the cursor is stored by Dagster.
    """
    try:
        memory = json.loads(cursor or "{}")
    except ValueError:
        memory = {}
    now, seen, ready = time.time(), {}, []
    for file in deposited(where):
        name = hashlib.sha256(os.fsencode(file.path.name)).hexdigest()[:16]
        facts = f"{name}:{file.octets}:{file.modifie_ns}:{file.change_ns}"
        seen[facts] = memory.get("vus", {}).get(facts, now)
        if file.prete and (file.age >= repos or now - seen[facts] >= repos):
            ready.append(facts)
    # Files that a crash left halfway wait elsewhere, and would else wait for the next deposit.
    ready += sorted(p.name for p in (where.restreint / "en_cours").glob("*"))
    key = hashlib.sha256("\n".join(sorted(ready)).encode()).hexdigest() if ready else None
    asked = memory.get("demande")
    return key if key != asked else None, json.dumps({"vus": seen, "demande": key or asked}, sort_keys=True)


def _printable(name: str) -> str:
    """A file name as it can be shown: whatever is no text of it becomes « ? »."""
    text = unicodedata.normalize("NFC", os.fsencode(name).decode("utf-8", "replace"))
    return "".join(c if c.isprintable() and c != "\ufffd" else "?" for c in text)


def _stem(name: str) -> str:
    """A file name without its extension, nor what the annotated copy of an answer adds."""
    return re.sub(r"(?:[ ._-]+annot[ée]e?(?:[ ._-]*\(?[0-9]{1,2}\)?)?)+$", "", Path(_printable(name)).stem, flags=re.IGNORECASE)


def emetteur_of(name: str) -> str:
    """Who sent a file, from its name: lower-case ASCII letters, digits and underscores, 60 at most.

    The annotated copy of an answer, mended and sent back, is from the sender of the file it answers. A name that holds an address or a number of a person names nobody: a hash stands for it.
    """
    from ingestion.records.personal import telling

    stem = _stem(name)
    digest = hashlib.sha256(stem.encode()).hexdigest()
    if telling(stem) or telling(stem.replace("_", " ")):
        return f"fichier_{digest[:12]}"
    plain = unicodedata.normalize("NFKD", stem.lower()).encode("ascii", "ignore").decode()
    slug = re.sub(r"[^a-z0-9]+", "_", plain).strip("_")
    if not slug:
        return f"fichier_{digest[:12]}"
    return slug if len(slug) <= 60 else f"{slug[:47]}_{digest[:12]}"


# --- the journal ------------------------------------------------------------------------------------------------


def journal(where: Home) -> list[dict[str, Any]]:
    """Lines of the journal, oldest first; a line that a crash left half-written is no line."""
    try:
        lines = (where.registre / "journal.jsonl").read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    found = []
    for line in lines:
        with suppress(ValueError):
            entry = json.loads(line)
            if isinstance(entry, dict):
                found.append(entry)
    return found


def _note(where: Home, now: dt.datetime, **entry: Any) -> None:
    """Appends one line to the journal, on the disk before it returns."""
    line = json.dumps({"le": now.isoformat(timespec="seconds"), **entry}, ensure_ascii=False).encode() + b"\n"
    where.registre.mkdir(parents=True, exist_ok=True)
    path = where.registre / "journal.jsonl"
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o640)
    try:
        size = os.fstat(handle).st_size
        if size and os.pread(handle, 1, size - 1) != b"\n":
            line = b"\n" + line  # a crash cut the last line: it stays alone on its own
        while line:
            line = line[os.write(handle, line) :]
        os.fsync(handle)
    finally:
        os.close(handle)


def _note_admission(where: Home, now: dt.datetime, admission: Admission) -> None:
    _note(
        where, now, origine=admission.origine, emetteur=admission.emetteur, empreinte=admission.empreinte,
        statut=admission.statut, regles=rules_version(),
        relevés={
            b.kind: {"lues": b.lues, "gardées": b.gardees, "rejetées": b.rejetees, "refusé": b.refusee, "changé": b.changee}
            for b in admission.bilans
        },
    )  # fmt: skip


@cache
def _code_version() -> str:
    digest = hashlib.sha256()
    for name in ("check", "known", "files", "personal", "layout"):
        digest.update((PROJECT / "ingestion" / "records" / f"{name}.py").read_bytes())
    digest.update((PROJECT / "dbt_project" / "models" / "sources" / "interne.yml").read_bytes())
    return digest.hexdigest()[:16]


def rules_version() -> str:
    """Changes when the same file could give other rows: rules, layouts, or the key of the pseudonyms.

    Raises ValueError when that key is unusable.
    """
    import hmac

    from ingestion.records.personal import pseudonym_key

    key = pseudonym_key()
    return _code_version() + ("-" + hmac.new(key, b"version", hashlib.sha256).hexdigest()[:8] if key else "")


# --- one file ---------------------------------------------------------------------------------------------------


@dataclass
class _Recu:
    """A file of the restricted zone about to be checked. ``faute``: why it cannot be, in French, for its sender."""

    path: Path
    emetteur: str
    empreinte: str
    sheets: list[Sheet] = field(default_factory=list)
    faute: str = ""

    @property
    def rang(self) -> int:
        """Position of its first kind in the order of declaration, in which a kind follows those that it refers to."""
        from ingestion.records.layout import kinds

        order = list(kinds())
        return min((order.index(sheet.kind) for sheet in self.sheets), default=len(order))


def _stamp(now: dt.datetime) -> str:
    return now.astimezone(dt.UTC).strftime(HORODATAGE)


def _claim(path: Path, where: Home, now: dt.datetime) -> Path | None:
    """Moves a file to the restricted zone, in a folder of its own below ``en_cours``; None when it is gone.

    From then on nobody else can write to it by its name, and a crash leaves it where the next round looks.
    """
    folder = where.ensure().restreint / "en_cours" / f"{_stamp(now)}-{uuid.uuid4().hex[:8]}"
    folder.parent.mkdir(mode=0o700, exist_ok=True)
    folder.mkdir(mode=0o700)
    target = folder / _printable(path.name)  # libraries refuse a name that is no text
    try:
        try:
            os.rename(path, target)
            if not stat.S_ISREG(target.lstat().st_mode):  # became a link since it was seen: to what is not known
                target.unlink()
                folder.rmdir()
                return None
            target.chmod(0o600)
        except FileNotFoundError:
            folder.rmdir()
            return None
        except OSError:
            # Another file system, or a file that belongs to an account that only deposits: a copy of our own.
            source = target if target.exists() else path
            copy = folder / ".copie"
            with source.open("rb") as stream, os.fdopen(os.open(copy, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as out:
                shutil.copyfileobj(stream, out, BLOCK)
            _sync(copy)
            os.replace(copy, target)
            if source != target:
                source.unlink()
        _sync(folder)
        return target
    except BaseException:
        with suppress(OSError):
            if not target.exists():
                (folder / ".copie").unlink(missing_ok=True)
                folder.rmdir()
        raise


def _left_over(where: Home) -> list[Path]:
    """Files that a crash left in the middle of their admission, oldest first; empty folders are removed."""
    found = []
    for folder in sorted(p for p in (where.restreint / "en_cours").glob("*") if p.is_dir()):
        for left in folder.iterdir():
            if left.is_dir():
                shutil.rmtree(left)
            elif left.name == ".copie":
                left.unlink()
        inside = sorted(folder.iterdir())
        if not inside:
            folder.rmdir()
        found += inside
    return found


def _archive(path: Path, where: Home, empreinte: str, now: dt.datetime) -> None:
    """Last step: the original leaves ``en_cours`` for ``originaux``, dated by its admission (retention counts from it)."""
    folder = where.restreint / "originaux" / f"{_stamp(now)}-{empreinte[:12]}-{uuid.uuid4().hex[:4]}"
    folder.parent.mkdir(mode=0o700, exist_ok=True)
    os.rename(path.parent, folder)
    _sync(folder.parent)


def _receive(path: Path, where: Home) -> _Recu:
    """Reads a claimed file; what is wrong with it as a file is kept for its sender, not raised."""
    from ingestion.records import connectors
    from ingestion.records.files import RecordError, read

    recu = _Recu(path, emetteur_of(path.name), _sha256(path))
    if recu.emetteur in connectors.names(where):
        recu.faute = (
            "ce nom de fichier est celui d'un connecteur de l'installation, dont il remplacerait les lignes ; renommer le "
            "fichier puis le déposer à nouveau"
        )
        return recu
    try:
        with _scratch(path.parent):
            recu.sheets = read(path)
    except RecordError as error:
        recu.faute = str(error)
    return recu


def _unchanged(recu: _Recu, where: Home) -> bool:
    """True when this very file is the one in place for its sender, and all its rows were taken by the rules of today.

    One with rejected rows is checked again: what it refers to may have come since.
    """
    for entry in reversed(journal(where)):
        if entry.get("emetteur") != recu.emetteur or entry.get("statut") not in (ADMIS, PARTIEL):
            continue
        if (entry.get("empreinte"), entry["statut"], entry.get("regles")) != (recu.empreinte, ADMIS, rules_version()):
            return False
        return all((where.registre / kind / f"{recu.emetteur}.parquet").exists() for kind in entry["relevés"])
    return False


def admit(path: Path, where: Home, *, now: dt.datetime | None = None) -> Admission:
    """Admits one file: moves it to the restricted zone, checks it, answers, keeps its good rows.

    Never raises for what the file holds; raises FileNotFoundError when it is not there, OSError (no file name in it) for
    the disk, AdmissionError for a defect of the product, ValueError for an unusable key of pseudonyms. Whatever is raised
    past the first, the file waits: in the drop folder or in the restricted zone.
    """
    now = now or utc_now()
    path = Path(path)
    rules_version()
    if path.parent.parent != where.restreint / "en_cours":
        claimed = _without_values("fichier déposé", _claim, path, where, now)
        if claimed is None:
            raise FileNotFoundError("le fichier à admettre n'est plus là")
        path = claimed
    recu = _without_values("fichier déposé", _receive, path, where)
    return _without_values(f"fichier de {recu.emetteur}", _admit, recu, where, now)


def _admit(recu: _Recu, where: Home, now: dt.datetime) -> Admission:
    admission = Admission(recu.emetteur, recu.empreinte, ADMIS)
    if recu.faute:
        admission.statut = ILLISIBLE
        admission.retours = _answer(where, recu.path.name, admission, now, recu.faute)
    elif _unchanged(recu, where):
        admission.statut = DEJA_RECU
    else:
        with _scratch(recu.path.parent):
            _check_and_keep(recu, where, admission, now)
    _note_admission(where, now, admission)
    _archive(recu.path, where, recu.empreinte, now)
    LOG.log(
        logging.WARNING if admission.refusee or admission.rejetees else logging.INFO,
        "relevés de %s : %s, %d lignes prises, %d rejetées",
        admission.emetteur, admission.statut, admission.gardees, admission.rejetees,
    )  # fmt: skip
    return admission


def _check_and_keep(recu: _Recu, where: Home, admission: Admission, now: dt.datetime) -> None:
    from ingestion.records.check import Known

    batch = {sheet.kind: sheet.frame for sheet in recu.sheets}
    checked = _check_all(batch, Known.load(where, batch, recu.emetteur))
    refused = any(c.refused for c in checked.values())
    frames = {kind: c.sanitised() for kind, c in checked.items()}
    # An unused sheet of a template is no news; one emptied since the last time takes its rows back.
    frames = {k: f for k, f in frames.items() if f.height or _present(where, k, recu.emetteur) is not None}
    admission.bilans = [_bilan(kind, frame, checked[kind].refused, where, recu.emetteur) for kind, frame in frames.items()]
    wrong = any(bilan.rejetees for bilan in admission.bilans)
    admission.statut = REFUSE if refused else PARTIEL if wrong else ADMIS
    admission.retours = _answer(where, recu.path.name, admission, now, sheets=recu.sheets, checked=checked)
    if not refused:
        for kind, frame in frames.items():
            keep(frame, kind, recu.emetteur, where)
        if not any(bilan.changee for bilan in admission.bilans) and _last(where, recu) == recu.empreinte:
            admission.statut = DEJA_RECU


def _last(where: Home, recu: _Recu) -> str | None:
    """Hash of the last file that was admitted for this sender."""
    entries = [e for e in journal(where) if e.get("emetteur") == recu.emetteur and e.get("statut") in (ADMIS, PARTIEL)]
    return entries[-1].get("empreinte") if entries else None


def _check_all(batch: dict[str, pl.DataFrame], known: Known) -> dict[str, Checked]:
    """Checks the tables of one sender, in the order in which kinds are declared: one may cite the good rows of another."""
    from ingestion.records.check import check
    from ingestion.records.layout import kinds

    return {kind: check(kind, batch[kind], known) for kind in kinds() if kind in batch}


def _bilan(kind: str, frame: pl.DataFrame, refused: bool, where: Home, emetteur: str) -> Bilan:
    wrong = frame["_motif"].is_not_null().sum()
    changed = _parquet(frame) != _present(where, kind, emetteur)
    return Bilan(kind, frame.height, frame.height - wrong, wrong, refused, changed and not refused)


def _parquet(frame: pl.DataFrame) -> bytes:
    import io

    stream = io.BytesIO()
    frame.write_parquet(stream, compression="zstd", statistics=True)
    return stream.getvalue()


def _present(where: Home, kind: str, emetteur: str) -> bytes | None:
    try:
        return (where.registre / kind / f"{emetteur}.parquet").read_bytes()
    except FileNotFoundError:
        return None


def keep(frame: pl.DataFrame, kind: str, emetteur: str, where: Home) -> None:
    """Puts sanitised rows in the register, in place of those of the same sender; equal rows change no byte."""
    content = _parquet(frame)
    if content != _present(where, kind, emetteur):
        path = where.registre / kind / f"{emetteur}.parquet"
        _put(path, lambda temporary: temporary.write_bytes(content), 0o640)


# --- what a connector brings ------------------------------------------------------------------------------------


def admit_frame(
    kind: str,
    frame: pl.DataFrame,
    emetteur: str,
    where: Home,
    *,
    remplace: list[int] | None = None,
    now: dt.datetime | None = None,
) -> Admission:
    """Admits rows that a connector read: strings named by declared columns, and ``_ligne``.

    ``remplace`` lists the ``_ligne`` that they replace or withdraw among the rows of this sender, None replaces them all.
    The declared share of wrong rows is counted on the rows as they would stand, not on those that just changed. Journal
    and answer are written only when something changed or is refused. Raises as ``admit``.
    """
    now = now or utc_now()
    rules_version()
    with tempfile.TemporaryDirectory(prefix="collecte-", dir=where.ensure().restreint) as folder, _scratch(Path(folder)):
        return _without_values(f"connecteur {emetteur}", _admit_frame, kind, frame, emetteur, where, remplace, now)


def _admit_frame(
    kind: str, frame: pl.DataFrame, emetteur: str, where: Home, remplace: list[int] | None, now: dt.datetime
) -> Admission:
    import polars as pl

    from ingestion.records.check import Known
    from ingestion.records.files import Sheet
    from ingestion.records.layout import kinds

    path = where.registre / kind / f"{emetteur}.parquet"
    columns = [column.name for column in kinds()[kind].saisies]
    frame = frame.select("_ligne", *(pl.col(c) if c in frame.columns else pl.lit(None, pl.String).alias(c) for c in columns))
    checked = _check_all({kind: frame}, Known.load(where, {kind: frame}, emetteur, remplace))[kind]
    rows, refused = checked.sanitised(), checked.refused
    if remplace is not None and path.exists():
        rows = pl.concat([pl.read_parquet(path).filter(~pl.col("_ligne").is_in(remplace)), rows]).sort("_ligne")
        wrong = rows["_motif"].is_not_null().sum()
        refused = wrong > kinds()[kind].meta.attendus.rejets_part_max * rows.height
    bilan = _bilan(kind, rows, refused, where, emetteur)
    content = _parquet(rows)
    statut = REFUSE if refused else PARTIEL if bilan.rejetees else ADMIS
    admission = Admission(
        emetteur, hashlib.sha256(content).hexdigest(), statut, [bilan], origine="connecteur"
    )
    if not refused and not bilan.changee:
        admission.statut = DEJA_RECU
        return admission
    places = {column: place for place, column in enumerate(columns)}
    sheet = Sheet(kind, kinds()[kind].meta.titre, frame, [], places)
    admission.retours = _answer(where, f"{emetteur}.xlsx", admission, now, sheets=[sheet], checked={kind: checked})
    if not refused:
        keep(rows, kind, emetteur, where)
    _note_admission(where, now, admission)
    LOG.log(
        logging.WARNING if refused else logging.INFO,
        "connecteur %s : %s, %d lignes en place, %d rejetées", emetteur, statut, admission.gardees, admission.rejetees,
    )  # fmt: skip
    return admission


# --- the answer -------------------------------------------------------------------------------------------------


def _answer(
    where: Home,
    name: str,
    admission: Admission,
    now: dt.datetime,
    faute: str = "",
    sheets: list[Sheet] | None = None,
    checked: dict[str, Checked] | None = None,
) -> list[Path]:
    """Writes the answer to the sender: a French note, and the annotated copy when some row came back."""
    from ingestion.records.layout import kinds

    stem, shown = _stem(name), _printable(name)
    if len(stem.encode()) > 180:  # room for what is added to it
        stem = f"{stem.encode()[:160].decode('utf-8', 'ignore')}-{hashlib.sha256(stem.encode()).hexdigest()[:12]}"
    lines = [f"Fichier « {shown} », reçu le {now.astimezone().strftime('%d/%m/%Y à %H:%M')}, empreinte {admission.empreinte[:12]}.", ""]
    if faute:
        lines += [f"Il n'a pas pu être pris : {faute.rstrip('.')}.", "", "Rien de ce qui était déjà en place n'a changé."]
    elif admission.statut == REFUSE:
        lines += ["Il est refusé en entier : trop de lignes sont fausses.", "Rien de ce qui était déjà en place n'a changé."]
    else:
        lines += ["Ses lignes justes sont prises ; elles remplacent celles de l'envoi précédent du même nom."]
    lines.append("")
    for bilan in admission.bilans:
        source = kinds()[bilan.kind]
        lines.append(
            f"- {source.meta.titre} : {_count(bilan.lues, 'ligne lue', 'lignes lues')}, {_count(bilan.gardees, 'juste', 'justes')}, "
            f"{_count(bilan.rejetees, 'fausse', 'fausses')}"
        )
        if bilan.refusee:
            share = f"{source.meta.attendus.rejets_part_max:.0%}".replace("%", " %")
            lines[-1] += f" ; au-delà de {share} de lignes fausses, tout le fichier est refusé"
    lines += [f"- feuille « {sheet.name} » : {problem}" for sheet in sheets or () for problem in sheet.problems]
    if checked and admission.statut != REFUSE and admission.origine == "depot":
        lines += [
            f"- {source.meta.titre} : absent de ce fichier, les lignes de l'envoi précédent restent ; pour les retirer, envoyer la "
            "feuille vide sous son en-tête"
            for kind, source in kinds().items()
            if kind not in checked and (where.registre / kind / f"{admission.emetteur}.parquet").exists()
        ]
    note, annotated = where.retours / f"{stem}.reponse.txt", where.retours / f"{stem}.annote.xlsx"
    written = [note]
    if checked and any(c.anomalies.height for c in checked.values()):
        from ingestion.records.workbook import write_annotated

        anomalies = {kind: c.anomalies for kind, c in checked.items()}
        lines += [
            "",
            f"« {annotated.name} » montre chaque cellule fausse et comment la corriger. Une fois corrigé, renvoyer ce classeur, ou "
            "le fichier d'origine sous le même nom.",
        ]
        _put(annotated, lambda temporary: write_annotated(temporary, sheets, anomalies), 0o600)
        written.append(annotated)
    else:
        annotated.unlink(missing_ok=True)
    text = "\n".join(lines) + "\n"
    _put(note, lambda temporary: temporary.write_text(text, encoding="utf-8"), 0o600)
    return written


def _count(number: int, one: str, many: str) -> str:
    return f"{number:_} {many if number > 1 else one}".replace("_", " ")


# --- a round ----------------------------------------------------------------------------------------------------


def process_drop_folder(
    where: Home,
    *,
    repos: float = REPOS_S,
    now: Callable[[], dt.datetime] = utc_now,
    sleep: Callable[[float], None] = time.sleep,
) -> list[Admission]:
    """Admits every file of the drop folder that is there whole, and those that a crash left in the middle.

    Senders of one round are taken in the order of the kinds they hold, so that a convention comes before its actions
    whichever was sent first, and the files of a sender oldest first, so that the last one sent stays. A file on which the
    product breaks stays in the restricted zone for the next round, and does not stop the others. Raises OSError for the
    disk, ValueError for an unusable key of pseudonyms. The caller holds the installation (``single_writer``).
    """
    rules_version()
    found: list[Admission] = []
    received: list[_Recu] = []

    def broke(error: AdmissionError, emetteur: str, empreinte: str) -> None:
        LOG.error("%s", error)
        found.append(Admission(emetteur, empreinte, PANNE))
        _note_admission(where, now(), found[-1])

    waiting = _without_values("dossier de dépôt", _left_over, where)
    claimed = [_without_values("dossier de dépôt", _claim, d.path, where, now()) for d in settled(where, repos, sleep)]
    for path in [*waiting, *filter(None, claimed)]:
        try:
            received.append(_without_values("fichier déposé", _receive, path, where))
        except AdmissionError as error:
            broke(error, emetteur_of(path.name), "")
    rang: dict[str, int] = {}
    for recu in received:
        rang[recu.emetteur] = min(recu.rang, rang.get(recu.emetteur, recu.rang))
    for recu in sorted(received, key=lambda r: rang[r.emetteur]):
        try:
            found.append(_without_values(f"fichier de {recu.emetteur}", _admit, recu, where, now()))
        except AdmissionError as error:
            broke(error, recu.emetteur, recu.empreinte)
        recu.sheets = []  # a million rows of one file need not wait for the last file
    return found


# --- retention --------------------------------------------------------------------------------------------------


def retention_jours() -> int:
    """Days for which originals and answers are kept. Raises ValueError when DK_RETENTION_JOURS is no number of days."""
    text = os.environ.get("DK_RETENTION_JOURS", "").strip()
    if not text:
        return RETENTION_JOURS
    if not re.fullmatch(r"[0-9]{1,4}", text):
        raise ValueError("DK_RETENTION_JOURS : écrire un nombre de jours, de 0 à 9999")
    return int(text)


def purge(where: Home, now: dt.datetime | None = None) -> int:
    """Deletes originals and answers older than the retention; returns how many files went.

    A file never admitted (a defect, a copy cut for ever) goes as well: the retention is a promise made to people. What
    was admitted stays in the register, which holds nothing personal. Raises ValueError when the retention is misspelt.
    """
    now = now or utc_now()
    limit = now - dt.timedelta(days=retention_jours())
    gone = {"originaux": 0, "en_cours": 0, "retours": 0, "depot": 0}
    for name in ("originaux", "en_cours"):
        for folder in sorted((where.restreint / name).glob("*")):
            if _dated(folder) < limit:
                gone[name] += sum(p.is_file() for p in folder.rglob("*"))
                shutil.rmtree(folder)
    for folder in where.restreint.glob("collecte-*"):  # left by a crash of a connector
        if _dated(folder) < min(limit, now - dt.timedelta(hours=12)):
            shutil.rmtree(folder)
    for path in where.retours.glob("*"):
        if _dated(path) < limit:
            path.unlink()
            gone["retours"] += 1
    with suppress(FileNotFoundError):
        for entry in list(os.scandir(where.depot)):
            # What no round will ever take: an editor's lock, a copy that was abandoned.
            if _temporary(entry.name) and entry.is_file(follow_symlinks=False) and _dated(Path(entry.path)) < limit:
                os.unlink(entry.path)
                gone["depot"] += 1
    total = sum(gone.values())
    if total:
        _note(where, now, origine="purge", statut="purgé", jours=retention_jours(), fichiers=gone)
        LOG.info("zone restreinte : %d fichier(s) de plus de %d jours supprimé(s)", total, retention_jours())
    return total


def _dated(path: Path) -> dt.datetime:
    """When a file or folder of ours came: the time in its name, else its own."""
    with suppress(ValueError):
        return dt.datetime.strptime(path.name[:18], HORODATAGE).replace(tzinfo=dt.UTC)
    return dt.datetime.fromtimestamp(path.lstat().st_mtime, dt.UTC)


# --- demonstration ----------------------------------------------------------------------------------------------


@cache
def _demonstration_key() -> str:
    """Changes with whatever decides the demonstration files: seed and generator, checks, layouts, territories."""
    from ingestion.fetch import ARCHIVE

    digest = hashlib.sha256()
    code = [p for f in ("demonstration", "records", "catalogue") for p in (PROJECT / "ingestion" / f).rglob("*")]
    code += [PROJECT / "dbt_project" / "models" / "sources" / "interne.yml"]
    for path in sorted(p for p in code if p.suffix in (".py", ".yml") and p.is_file()):
        digest.update(path.relative_to(PROJECT).as_posix().encode() + b"\0" + path.read_bytes())
    digest.update(_sha256(ARCHIVE).encode())
    return digest.hexdigest()[:24]


def demonstration(where: Home) -> Path:
    """Folder of the files of the demonstration world: one sanitised ``<kind>.parquet`` per kind, and ``resultats.parquet``.

    Generated and checked only when its key changed (seed, generator, checks, layouts, embedded archive). Neither the
    register nor the landed tables are looked at: the same files come out in any installation.
    """
    folder = where.work / "demonstration" / _demonstration_key()
    if folder.is_dir():
        return folder
    from filelock import FileLock

    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.parent / ".verrou"):
        if not folder.is_dir():  # another process was making it
            _make_demonstration(folder)
    return folder


def _make_demonstration(folder: Path) -> None:
    from ingestion.demonstration import generate, resultats
    from ingestion.records.check import Known
    from ingestion.records.personal import CLE_DEMONSTRATION

    for left in folder.parent.glob("*"):
        if left.is_dir():
            shutil.rmtree(left)
    building = folder.parent / f".{uuid.uuid4().hex}"
    building.mkdir()
    frames = generate()
    for kind, checked in _check_all(frames, Known.load(None, frames, cle=CLE_DEMONSTRATION)).items():
        if checked.refused:
            raise AdmissionError(f"démonstration : les lignes « {kind} » sont refusées en entier ; corriger le générateur")
        (building / f"{kind}.parquet").write_bytes(_parquet(checked.sanitised()))
    (building / "resultats.parquet").write_bytes(_parquet(resultats()))
    os.rename(building, folder)


def begin_demonstration(where: Home) -> None:
    """Makes the demonstration world in a process of its own, while this one loads what else it needs; nothing when it is there.

    ``demonstration`` waits for it, and makes the world itself when that process failed. It ends with this one.
    """
    if (where.work / "demonstration" / _demonstration_key()).is_dir():
        return
    code = "from ingestion.paths import home; from ingestion.records.admission import demonstration; demonstration(home())"
    quiet = subprocess.DEVNULL
    # From the project's folder: « -c » looks for modules where it is started first.
    child = subprocess.Popen(
        [sys.executable, "-c", code], cwd=PROJECT, env=os.environ | {"DK_HOME": str(where.root)}, stdin=quiet, stdout=quiet, stderr=quiet
    )
    atexit.register(child.kill)
