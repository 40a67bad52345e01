"""dbt inside this process: parsing, building, and its results. No Dagster here.

A second interpreter would cost several seconds per call, and two processes cannot share a DuckDB file.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ingestion.declarations import PROJECT
from ingestion.paths import Home, read_json

DBT_DIR = PROJECT / "dbt_project"


class BuildFailed(RuntimeError):
    """dbt could not build or parse the project; the message carries the first errors."""


def environment(where: Home) -> dict[str, str]:
    """Environment that the dbt project reads: paths only, never a secret."""
    return {
        "DK_HOME": str(where.root),
        # It goes between quotes in SQL, after dbt-duckdb took it for a Python format.
        "DK_LANDING": str(where.landing).replace("'", "''").replace("{", "{{").replace("}", "}}"),
        "DK_WAREHOUSE": str(where.warehouse),
        "DBT_TARGET_PATH": str(where.work / "dbt"),
        "DBT_LOG_PATH": str(where.work / "dbt"),
        "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
        "DO_NOT_TRACK": "1",
    }


def invoke(where: Home, *arguments: str, on_event: Any = None) -> Any:
    """Runs one dbt command in process and returns its ``dbtRunnerResult``.

    ``on_event`` is called with each structured event, for progress.
    """
    os.environ.update(environment(where))
    from dbt.cli.main import dbtRunner

    runner = dbtRunner(callbacks=[on_event] if on_event else [])
    return runner.invoke(
        [
            *arguments, "--project-dir", str(DBT_DIR), "--profiles-dir", str(DBT_DIR),
            "--log-level", "none", "--log-level-file", "info", "--no-version-check", "--no-use-colors",
        ]
    )  # fmt: skip


def _newest(folder: Path) -> float:
    return max(p.stat().st_mtime for p in folder.rglob("*") if p.suffix in {".sql", ".yml"})


def ensure_manifest(where: Home) -> Path:
    """Path of the project's manifest, parsed anew when a file of the project is younger, or when it cannot be read.

    Raises BuildFailed when the project does not parse.
    """
    manifest = where.work / "dbt" / "manifest.json"
    if read_json(manifest) is None or manifest.stat().st_mtime < _newest(DBT_DIR):
        result = invoke(where, "parse")
        if not result.success:
            raise BuildFailed(f"le projet dbt ne se lit pas : {result.exception}")
    return manifest


def build(where: Home, on_event: Any = None) -> dict[str, Any]:
    """Builds and tests everything in a fresh work database; returns dbt's run results as a document.

    Raises BuildFailed only when dbt itself broke; failed models and tests are in the results.
    """
    path = where.work / "dbt" / "run_results.json"
    # Results go with the warehouse that they speak of: a build that dies leaves neither.
    for leftover in (where.warehouse, where.warehouse.with_suffix(".duckdb.wal"), path):
        leftover.unlink(missing_ok=True)
    result = invoke(where, "build", on_event=on_event)
    _close()
    if result.exception is not None or not path.exists():
        raise BuildFailed(f"dbt s'est arrêté : {result.exception}")
    return json.loads(path.read_text(encoding="utf-8"))


def _close() -> None:
    # In one process dbt would keep the file open; the candidate is read from it next.
    from dbt.adapters.duckdb.connections import DuckDBConnectionManager

    DuckDBConnectionManager.close_all_connections()


def build_errors(run_results: dict[str, Any]) -> list[str]:
    """Why some model is not there, each cause with dbt's reason; empty when all of them were built.

    A failed test skips the models behind it: the test is the reason, they are not.
    """
    results = run_results["results"]
    if all(r["status"] == "success" for r in results if r["unique_id"].startswith("model.")):
        return []
    causes = [r for r in results if r["status"] not in ("success", "pass", "skipped")] or results
    return [
        f"{r['unique_id'].split('.', 2)[-1]} : {' '.join((r.get('message') or r['status']).split())[:400]}"
        for r in causes
        if r["status"] not in ("success", "pass")
    ]
