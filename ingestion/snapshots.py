"""What was obtained, byte for byte: immutable files named by their sha256, and a manifest per source.

Layout below the root: ``blobs/<2>/<sha256>`` (read-only files, shared by all sources), ``<source_id>/manifest.jsonl``
(one line per snapshot, append only) and ``<source_id>/verifie.json`` (when each file was last checked unchanged).
A row of the manifest is written after its blob is durable, so a row never names bytes that are not there.
"""

from __future__ import annotations

import datetime as dt
import errno
import gzip
import hashlib
import json
import logging
import os
import re
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ingestion.declarations import Livraison, Source
    from ingestion.fetch import Fetched

LOG = logging.getLogger(__name__)
FULL = {errno.ENOSPC, errno.EDQUOT}
BLOCK = 1 << 20


class SnapshotError(RuntimeError):
    """The store cannot keep or give back a file; the French message names the file and the remedy.

    ``motif`` is what may be published of it: it does not say where this installation keeps its files.
    """

    def __init__(self, message: str, motif: str | None = None) -> None:
        super().__init__(message)
        self.motif = motif or message


@dataclass(frozen=True)
class Snapshot:
    """One file of one delivery as it was obtained once. ``url`` holds no credential; dates are ISO 8601, UTC."""

    source_id: str
    millesime: str
    chemin: str
    transport: str
    url: str
    obtenu_le: str
    statut_http: int | None
    etag: str | None
    last_modified: str | None
    content_type: str | None
    sha256: str
    octets: int
    licence: str
    connue_le: str


def _utc_now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _write_all(handle: int, data: bytes) -> None:
    while data:
        data = data[os.write(handle, data) :]


def _content_sha256(path: Path) -> str | None:
    """sha256 of the content, gunzipped when it is gzip; None when the gzip is damaged."""
    digest = hashlib.sha256()
    with path.open("rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        try:
            stream = gzip.GzipFile(fileobj=raw) if packed else raw
            while block := stream.read(BLOCK):
                digest.update(block)
        except (EOFError, gzip.BadGzipFile, zlib.error):
            return None
    return digest.hexdigest()


class SnapshotStore:
    """The snapshots of one installation, below ``root``. ``now`` gives the UTC time (tests pass their own)."""

    def __init__(self, root: Path, *, now: Callable[[], dt.datetime] = _utc_now) -> None:
        self.root = Path(root)
        self._now = now

    # --- reading -----------------------------------------------------------------------------------------------

    def blob(self, sha256: str) -> Path:
        """Where the bytes of that hash are (or would be). Raises SnapshotError when it is not a sha256."""
        if not re.fullmatch(r"[0-9a-f]{64}", sha256):
            raise SnapshotError(f"« {sha256} » n'est pas une empreinte sha256 ; corriger le manifeste qui la cite")
        return self.root / "blobs" / sha256[:2] / sha256

    def history(self, source_id: str) -> list[Snapshot]:
        """Snapshots of a source, oldest first.

        A last line that a crash left half-written is ignored and logged. Any other unreadable line raises
        SnapshotError: the manifest was altered.
        """
        path = self._folder(source_id) / "manifest.jsonl"
        try:
            lines = path.read_bytes().splitlines(keepends=True)
        except FileNotFoundError:
            return []
        found = []
        for rank, line in enumerate(lines, 1):
            try:
                found.append(Snapshot(**json.loads(line)))
            except (ValueError, TypeError) as error:
                if rank == len(lines) and not line.endswith(b"\n"):
                    LOG.warning(
                        "%s : ligne %d inachevée (arrêt brutal), ignorée ; le fichier sera redemandé", path, rank
                    )
                    continue
                raise SnapshotError(
                    f"{path}, ligne {rank} : manifeste altéré, ligne illisible ; restaurer ce fichier depuis une sauvegarde, ou à "
                    "défaut le mettre de côté : la collecte redemande alors les fichiers, sans leurs révisions passées"
                ) from error
        return found

    def latest(self, source_id: str, millesime: str, chemin: str) -> Snapshot | None:
        """The last snapshot of one file, whether or not its bytes are still there."""
        wanted = (millesime, chemin)
        return next((s for s in reversed(self.history(source_id)) if (s.millesime, s.chemin) == wanted), None)

    def reusable(self, source_id: str, millesime: str, chemin: str) -> Snapshot | None:
        """The last snapshot of one file if its bytes are there and intact: what a conditional request may rely on.

        With a lost or damaged blob, a producer that answers « not modified » would leave it lost for ever.
        """
        snapshot = self.latest(source_id, millesime, chemin)
        try:
            if snapshot:
                self.verify(snapshot.sha256)
        except SnapshotError as error:
            LOG.warning("%s", error)
            return None
        return snapshot

    def verify(self, sha256: str) -> Path:
        """The blob, once its content is checked against its name. Raises SnapshotError when lost or altered."""
        path = self.blob(sha256)
        remedy = "relancer la collecte de la source le redemandera, ou le restaurer depuis une sauvegarde"
        try:
            found = _sha256(path)
        except FileNotFoundError:
            raise SnapshotError(
                f"instantané {sha256} absent de {path.parent} ; {remedy}", f"instantané {sha256} absent ; {remedy}"
            ) from None
        except OSError as error:
            raise SnapshotError(
                f"instantané {sha256} illisible ({error.strerror}) ; vérifier le disque puis {remedy}"
            ) from error
        if found != sha256:
            raise SnapshotError(f"instantané {sha256} altéré : son contenu a l'empreinte {found} ; {remedy}")
        return path

    def verified_at(self, source_id: str, millesime: str | None = None, chemin: str | None = None) -> str | None:
        """When the source (or one file of it) was last obtained or found unchanged; ISO UTC, None when never."""
        times = [t for (m, c), t in self._verified(source_id).items() if millesime in (None, m) and chemin in (None, c)]
        times += [
            s.obtenu_le
            for s in self.history(source_id)
            if millesime in (None, s.millesime) and chemin in (None, s.chemin)
        ]
        return max(times, default=None)

    # --- writing -----------------------------------------------------------------------------------------------

    def add(
        self, fetched: Fetched, source: Source, livraison: Livraison, chemin: str, transport: str
    ) -> tuple[Snapshot, bool]:
        """Keeps a fetched file; gives its snapshot and whether it is new. Consumes ``fetched.path`` in every case.

        Bytes equal to the latest snapshot of the same (source, millesime, chemin) add nothing but a ``touch``; so
        do the same bytes gzipped or gunzipped, because a mirror's packing is not a revision by the producer.
        Rule R-REV: the first snapshot is known on ``livraison.publie_le``, or for a file of the register, which nobody
        published, on the UTC date it was obtained; a different one is a silent revision, known on the UTC date it was
        obtained and never before the one that it replaces.

        Raises SnapshotError (hash not as announced, disk full, folder not writable) with the store as it was.
        """
        source_id = source.source_id
        if fetched.path is None:
            previous = self.latest(source_id, livraison.millesime, chemin)
            if previous is None:
                raise SnapshotError(
                    f"{source_id}, {chemin} : annoncé inchangé alors qu'aucun instantané n'existe ; relancer"
                )
            self.touch(source_id, livraison.millesime, chemin)
            return previous, False
        staged = fetched.path
        try:
            with self._explained(f"{source_id}, {chemin}", fetched.octets):
                if (found := _sha256(fetched.path)) != fetched.sha256:
                    raise SnapshotError(
                        f"{source_id}, {chemin} : le fichier reçu a changé avant d'être rangé "
                        f"(empreinte {found} au lieu de {fetched.sha256}) ; relancer la collecte"
                    )
                self.root.mkdir(parents=True, exist_ok=True)
                staged = self._stage(fetched.path)
                with self._lock():
                    return self._record(staged, fetched, source, livraison, chemin, transport)
        finally:
            for left in (staged, fetched.path):
                left.unlink(missing_ok=True)

    def touch(self, source_id: str, millesime: str = "", chemin: str = "") -> None:
        """Records that the source (or one file of it) was checked now and is unchanged. Raises SnapshotError."""
        with self._explained(source_id, 0):
            self.root.mkdir(parents=True, exist_ok=True)
            with self._lock():
                self._touch(source_id, millesime, chemin)

    # --- inside ------------------------------------------------------------------------------------------------

    def _folder(self, source_id: str) -> Path:
        if not re.fullmatch(r"[a-z0-9_]+", source_id) or source_id == "blobs":
            raise SnapshotError(f"« {source_id} » n'est pas un identifiant de source ; voir « dk sources »")
        return self.root / source_id

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """One writer at a time: sources collected at once share blobs, and a row depends on the row before."""
        from filelock import FileLock, Timeout

        try:
            with FileLock(self.root / ".verrou", timeout=120):
                yield
        except Timeout:
            raise SnapshotError(
                f"{self.root} : un autre traitement écrit depuis plus de deux minutes ; attendre sa fin puis relancer",
                "un autre traitement tient les instantanés ; relancer",
            ) from None

    @contextmanager
    def _explained(self, what: str, octets: int) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno in FULL:
                raise SnapshotError(
                    f"{what} : disque plein, rien n'a été enregistré ; libérer au moins {max(1, octets // 1_000_000)} Mo "
                    f"sur le disque de {self.root} puis relancer",
                    f"{what} : disque plein, rien n'a été enregistré ; relancer",
                ) from error
            raise SnapshotError(
                f"{what} : écriture impossible dans {self.root} ({error.strerror or error}), rien n'a été enregistré ; "
                "vérifier les droits et le disque puis relancer",
                f"{what} : écriture impossible, rien n'a été enregistré ; relancer",
            ) from error

    def _stage(self, path: Path) -> Path:
        """The file, on the disk of the store: ``os.replace`` is atomic only within one file system."""
        if path.stat().st_dev == self.root.stat().st_dev:
            return path
        handle, name = tempfile.mkstemp(prefix=".depot-", dir=self.root)
        staged = Path(name)
        try:
            with os.fdopen(handle, "wb") as target, path.open("rb") as stream:
                shutil.copyfileobj(stream, target, BLOCK)
        except BaseException:
            staged.unlink(missing_ok=True)
            raise
        return staged

    def _record(
        self, staged: Path, fetched: Fetched, source: Source, livraison: Livraison, chemin: str, transport: str
    ) -> tuple[Snapshot, bool]:
        source_id, sha256, now = source.source_id, fetched.sha256, self._now().astimezone(dt.UTC)
        previous = self.latest(source_id, livraison.millesime, chemin)
        if previous and (previous.sha256 == sha256 or self._repacked(previous, staged)):
            if previous.sha256 == sha256:
                self._place(staged, sha256)  # brings back a blob that was lost or damaged
            self._touch(source_id, livraison.millesime, chemin)
            return previous, False
        today = now.date().isoformat()
        if previous:
            connue_le = max(today, previous.connue_le)
        else:
            connue_le = today if livraison.registre else livraison.publie_le.isoformat()
        snapshot = Snapshot(
            source_id=source_id,
            millesime=livraison.millesime,
            chemin=chemin,
            transport=fetched.transport or transport,
            url=fetched.url,
            obtenu_le=now.isoformat(timespec="seconds"),
            statut_http=fetched.statut_http,
            etag=fetched.etag,
            last_modified=fetched.last_modified,
            content_type=fetched.content_type,
            sha256=sha256,
            octets=fetched.octets,
            licence=source.licence_de(livraison),
            connue_le=connue_le,
        )
        existed = self.blob(sha256).exists()
        try:
            self._place(staged, sha256)
            self._append(snapshot)
        except OSError:
            if not existed:
                self.blob(sha256).unlink(missing_ok=True)
            raise
        return snapshot, True

    def _repacked(self, previous: Snapshot, staged: Path) -> bool:
        """True when both files hold the same content and differ only by gzip."""
        try:
            old = self.verify(previous.sha256)
        except SnapshotError:
            return False
        for path in (old, staged):
            with path.open("rb") as stream:
                if stream.read(2) == b"\x1f\x8b":
                    content = _content_sha256(staged)
                    return content is not None and content == _content_sha256(old)
        return False

    def _place(self, staged: Path, sha256: str) -> None:
        target = self.blob(sha256)
        target.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(staged, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
        staged.chmod(0o444)
        os.replace(staged, target)
        _sync_folder(target.parent)

    def _append(self, snapshot: Snapshot) -> None:
        folder = self._folder(snapshot.source_id)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "manifest.jsonl"
        line = json.dumps(asdict(snapshot), ensure_ascii=False).encode() + b"\n"
        before = path.read_bytes() if path.exists() else b""
        torn = before[before.rfind(b"\n") + 1 :]
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            # A row cut by a crash was never a row: it gives way. A whole one that only lacks its end of line stays.
            end = len(before)
            if torn:
                try:
                    json.loads(torn)
                    line = b"\n" + line
                except ValueError:
                    end -= len(torn)
            try:
                os.lseek(handle, end, os.SEEK_SET)
                _write_all(handle, line)
                os.ftruncate(handle, end + len(line))
                os.fsync(handle)
                _sync_folder(folder)
            except OSError:
                os.ftruncate(handle, end)
                raise
        finally:
            os.close(handle)

    def _verified(self, source_id: str) -> dict[tuple[str, str], str]:
        path = self._folder(source_id) / "verifie.json"
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            return {(m, c): str(time) for m, files in document.items() for c, time in files.items()}
        except FileNotFoundError:
            return {}
        except (ValueError, AttributeError):
            # Only tells when a check was last made: the next check writes it anew.
            LOG.warning("%s : illisible, ignoré ; la prochaine vérification le réécrira", path)
            return {}

    def _touch(self, source_id: str, millesime: str, chemin: str) -> None:
        folder = self._folder(source_id)
        times = self._verified(source_id)
        times[millesime, chemin] = self._now().astimezone(dt.UTC).isoformat(timespec="seconds")
        document: dict[str, dict[str, str]] = {}
        for (vintage, name), time in sorted(times.items()):
            document.setdefault(vintage, {})[name] = time
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / "verifie.json.tmp"
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        try:
            try:
                _write_all(handle, json.dumps(document, ensure_ascii=False, indent=1).encode())
                os.fsync(handle)
            finally:
                os.close(handle)
            os.replace(temporary, folder / "verifie.json")
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
