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
    """The folders of one installation. ``work`` can be rebuilt from ``snapshots``; ``releases`` are immutable."""

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

    def ensure(self) -> Home:
        for folder in (self.snapshots, self.landing / "mesures", self.releases, self.dagster):
            folder.mkdir(parents=True, exist_ok=True)
        return self


def home() -> Home:
    """The installation's home, from ``DK_HOME`` when it is set."""
    return Home(Path(os.environ.get("DK_HOME") or PROJECT / "var").expanduser().resolve())
