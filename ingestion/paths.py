"""Where state lives: one folder, ``var/`` of the checkout or ``DK_HOME``, and nothing outside it."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ingestion.declarations import PROJECT


class DamagedFile(RuntimeError):
    """A file of the installation cannot be read; the French message names it and says what to do."""


def read_json(path: Path) -> dict[str, Any] | None:
    """The JSON object in a file; None when there is no file, or when it was cut or altered."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def whole_parquet(path: Path) -> bool:
    """Whether a Parquet file is there to its end, where its table of contents is: one that was cut has none."""
    try:
        with path.open("rb") as stream:
            stream.seek(-4, os.SEEK_END)
            return stream.read() == b"PAR1"
    except OSError:
        return False


@dataclass(frozen=True)
class Home:
    """The folders of one installation. ``work`` can be rebuilt from ``snapshots``; ``releases`` are immutable.

    Records that people send come in by ``depot``; their originals and what is answered to them hold personal data and
    stay in ``restreint`` and ``retours``, for the days that the retention allows; what was admitted of them, which
    holds none, is in ``registre``.
    """

    root: Path

    @property
    def snapshots(self) -> Path:
        return self.root / "snapshots"

    @property
    def work(self) -> Path:
        return self.root / "work"

    @property
    def landing(self) -> Path:
        return self.work / "landing"

    @property
    def releases(self) -> Path:
        return self.root / "releases"

    @property
    def dagster(self) -> Path:
        return self.root / "dagster"

    @property
    def warehouse(self) -> Path:
        return self.work / "entrepot.duckdb"

    @property
    def candidate(self) -> Path:
        return self.work / "candidat"

    @property
    def depot(self) -> Path:
        return self.root / "depot"

    @property
    def registre(self) -> Path:
        return self.root / "registre"

    @property
    def restreint(self) -> Path:
        return self.root / "restreint"

    @property
    def retours(self) -> Path:
        return self.root / "retours"

    @property
    def connecteurs(self) -> Path:
        """The connectors that this installation configured; the file need not exist."""
        return self.root / "connecteurs.yml"

    def ensure(self) -> Home:
        for folder in (self.snapshots, self.landing / "mesures", self.releases, self.dagster):
            folder.mkdir(parents=True, exist_ok=True)
        self.registre.mkdir(mode=0o750, exist_ok=True)
        # Exact values of internal records pass through these two: closed at birth, like what is made of them.
        for folder in (self.work, self.snapshots):
            if folder.stat().st_mode & 0o077 and not any(self.releases.iterdir()):
                folder.chmod(0o700)
        if not self.depot.exists():
            # Closed at birth; whoever lets a group or an SFTP account deposit files opens it, and it stays so.
            self.depot.mkdir(mode=0o700)
        for folder in (self.restreint, self.retours):
            folder.mkdir(mode=0o700, exist_ok=True)
            # Whatever the umask was, and whatever someone did since: nobody else reads these.
            if folder.stat().st_mode & 0o777 != 0o700:
                folder.chmod(0o700)
        return self


def home() -> Home:
    """The installation's home, from ``DK_HOME`` when it is set."""
    return Home(Path(os.environ.get("DK_HOME") or PROJECT / "var").expanduser().resolve())
