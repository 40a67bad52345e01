"""Dagster's instance below ``DK_HOME``, shared by the command line and the web interface, and the one-writer lock."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any

from ingestion.paths import Home

CONFIG = """\
telemetry:
  enabled: false
nux:
  enabled: false
concurrency:
  pools:
    default_limit: 1
python_logs:
  managed_python_loggers: [dk]
  python_log_level: INFO
"""


class Busy(RuntimeError):
    """Another run holds the installation; the French message says what to do."""


def prepare(where: Home) -> None:
    """Points Dagster at this home and gives it its settings (kept if someone edited them)."""
    where.ensure()
    os.environ["DAGSTER_HOME"] = str(where.dagster)
    os.environ["DK_HOME"] = str(where.root)
    settings = where.dagster / "dagster.yaml"
    if not settings.exists():
        settings.write_text(CONFIG, encoding="utf-8")


@contextmanager
def single_writer(where: Home, wait: float) -> Iterator[None]:
    """Holds the installation for one run, or for one step of a run that Dagster launched by itself.

    Raises Busy when another process holds it for longer than ``wait`` seconds. The lock dies with its process, and a
    process that holds it may take it again: ``dk run`` holds it around steps that each ask for it.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(where.work / "verrou", is_singleton=True, thread_local=False)
    try:
        lock.acquire(timeout=wait)
    except Timeout as error:
        raise Busy(
            f"une autre exécution tient {where.root} ; attendre qu'elle finisse, ou lancer « dk run --wait 600 » pour patienter"
        ) from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def new_run(where: Home, instance: Any) -> Iterator[str]:
    """Identifier of a run about to be executed in this process, whose history stays open meanwhile.

    Dagster opens and closes its SQLite files at every event, and SQLite flushes a file when its last connection closes:
    one that waits spares it (an eighth of an embedded run). With another storage there is no such file, and no cost.
    Nor does each event wait for the disk, which costs as much again: should the machine lose its power, the last events
    of the history are lost, and nothing of what they tell.
    """
    import sqlite3
    import uuid

    from sqlalchemy import Engine, event

    def unhurried(connection: Any, _: Any) -> None:
        if isinstance(connection, sqlite3.Connection):
            connection.execute("pragma synchronous = normal")  # with Dagster's write-ahead log, no file can be damaged by it

    run_id = str(uuid.uuid4())
    instance.event_log_storage.get_logs_for_run(run_id)  # makes Dagster create the file
    with ExitStack() as stack:
        event.listen(Engine, "connect", unhurried)
        stack.callback(event.remove, Engine, "connect", unhurried)
        for name in ("index", run_id):
            path = where.dagster / "history" / "runs" / f"{name}.db"
            if path.exists():
                connection = stack.enter_context(closing(sqlite3.connect(path)))
                connection.execute("select count(*) from sqlite_master").fetchone()
        yield run_id
