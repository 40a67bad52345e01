"""One run of the job on the real published files, shared by the tests of this folder; they skip, and say so, without them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ingestion.declarations import PROJECT
from tests.once import once

MIRROR = PROJECT.parent / "shared" / "opendata"
DK = Path(sys.executable).parent / "dk"
Ask = Callable[..., list[tuple[Any, ...]]]
HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    absent = pytest.mark.skip(reason=f"les fichiers publiés ne sont pas à côté du projet (../shared/{MIRROR.name})")
    for item in items:
        if not MIRROR.is_dir() and item.path.is_relative_to(HERE):
            item.add_marker(absent)


@dataclass(frozen=True)
class Run:
    home: Path
    cpu: float  # seconds of a processor: other tests run meanwhile
    peak_gib: float
    output: str


def run(home: Path, origin: str = f"mirror:{MIRROR}", **environment: str) -> Run:
    env = {k: v for k, v in os.environ.items() if not k.startswith(("DK_", "DBT_", "DAGSTER_"))} | {"DK_HOME": str(home)} | environment
    log = home.parent / f"{home.name}.log"
    with log.open("w") as out:
        process = subprocess.Popen([str(DK), "run", "--from", origin], env=env, stdout=out, stderr=out)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    output = log.read_text(encoding="utf-8")
    assert process.returncode == 0, output[-3000:]
    return Run(home, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024**2, output)


@pytest.fixture(scope="session")
def first(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return once(tmp_path_factory, "miroir", lambda root: run(root / "home"))


@pytest.fixture(scope="session")
def ask(first: Run) -> Iterator[Ask]:
    import duckdb

    with duckdb.connect(str(first.home / "releases" / "current" / "dernier_kilometre.duckdb"), read_only=True) as con:
        yield lambda sql, *values: con.execute(sql, list(values)).fetchall()


def landed(first: Run, source_id: str) -> Any:
    import polars as pl

    return pl.read_parquet(first.home / "work" / "landing" / f"{source_id}.parquet")
