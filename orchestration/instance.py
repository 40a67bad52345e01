"""Dagster's instance below ``DK_HOME``, shared by the command line and the web interface, and the one-writer lock."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

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
event_log_storage:
  module: orchestration.history
  class: History
  config:
    foyer: {env: DAGSTER_HOME}
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
