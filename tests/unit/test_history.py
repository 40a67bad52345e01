"""Dagster's history with connections that stay open: what it holds is what Dagster's own storage reads, and writes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.storage.event_log.sqlite.sqlite_event_log import SqliteEventLogStorage
from sqlalchemy import text

from ingestion.paths import Home
from orchestration import instance
from orchestration.history import OPEN, History


@pytest.fixture
def dagster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    for name in ("DAGSTER_HOME", "DK_HOME"):
        monkeypatch.setenv(name, "")  # prepared for this home, and put back
    instance.prepare(Home(tmp_path / "dk"))
    with dg.DagsterInstance.get() as found:
        yield found


@dg.asset(check_specs=[dg.AssetCheckSpec("juste", asset="chose")])
def chose() -> dg.MaterializeResult:
    return dg.MaterializeResult(metadata={"lignes": 3}, check_results=[dg.AssetCheckResult(check_name="juste", passed=True)])


@dg.asset
def panne() -> None:
    raise ValueError("comme prévu")


def run(dagster: dg.DagsterInstance, asset: Any, ok: bool = True) -> str:
    result = dg.materialize([asset], instance=dagster, raise_on_error=False)
    assert result.success is ok
    return result.run_id


def theirs(dagster: dg.DagsterInstance) -> SqliteEventLogStorage:
    """Dagster's own storage on the files that ours wrote."""
    return SqliteEventLogStorage(str(Path(dagster.root_directory) / "history" / "runs"))


def test_the_instance_uses_it_and_dagsters_own_storage_reads_what_it_wrote(dagster: dg.DagsterInstance) -> None:
    assert isinstance(dagster.event_log_storage, History)
    good, bad = run(dagster, chose), run(dagster, panne, ok=False)
    other = theirs(dagster)
    for run_id in (good, bad):
        mine = [str(e) for e in dagster.all_logs(run_id)]
        assert len(mine) > 5 and [str(e) for e in other.get_logs_for_run(run_id)] == mine
    event = other.get_latest_materialization_events([dg.AssetKey("chose")])[dg.AssetKey("chose")]
    assert event and event.run_id == good and event.asset_materialization.metadata["lignes"].value == 3
    [check] = other.get_asset_check_execution_history(dg.AssetCheckKey(dg.AssetKey("chose"), "juste"), limit=5)
    assert check.run_id == good and check.status.value == "SUCCEEDED"


def test_it_reads_what_dagsters_own_storage_wrote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home made before this storage, or after someone took it out of ``dagster.yaml``."""
    home = Home(tmp_path / "dk").ensure()
    (home.dagster / "dagster.yaml").write_text("telemetry:\n  enabled: false\n", encoding="utf-8")
    with dg.DagsterInstance.from_config(str(home.dagster)) as plain:
        run_id = run(plain, chose)
        told = [str(e) for e in plain.all_logs(run_id)]
    ours = History.from_config_value(None, {"foyer": str(home.dagster)})
    assert [str(e) for e in ours.get_logs_for_run(run_id)] == told
    ours.dispose()


def test_connections_stay_open_but_never_more_than_a_few(dagster: dg.DagsterInstance) -> None:
    runs = [run(dagster, chose) for _ in range(OPEN + 2)]
    storage = dagster.event_log_storage
    assert isinstance(storage, History) and len(storage._engines) == OPEN
    engines = dict(storage._engines)
    for _ in range(2):
        with storage.run_connection(runs[-1]) as connection:
            assert connection.engine is engines[runs[-1]]
    # A run whose file was closed is read again from its file.
    assert runs[0] not in storage._engines and len(dagster.all_logs(runs[0])) > 5
    dagster.event_log_storage.dispose()
    assert not storage._engines


def test_what_fails_half_way_leaves_nothing(dagster: dg.DagsterInstance) -> None:
    run_id = run(dagster, chose)
    storage = dagster.event_log_storage
    before = len(dagster.all_logs(run_id))
    with pytest.raises(RuntimeError), storage.run_connection(run_id) as connection:
        connection.execute(text("delete from event_logs"))
        raise RuntimeError("coupé")
    assert len(dagster.all_logs(run_id)) == before
    with storage.run_connection(run_id) as connection:
        assert connection.execute(text("pragma journal_mode")).scalar() == "wal"


def test_a_reader_in_another_process_sees_events_while_connections_are_open(dagster: dg.DagsterInstance) -> None:
    import subprocess
    import sys

    run_id = run(dagster, chose)
    code = (
        "import sys; from dagster._core.storage.event_log.sqlite.sqlite_event_log import SqliteEventLogStorage as S; "
        "print(len(S(sys.argv[1]).get_logs_for_run(sys.argv[2])))"
    )
    folder = str(Path(dagster.root_directory) / "history" / "runs")
    done = subprocess.run([sys.executable, "-c", code, folder, run_id], capture_output=True, text=True, check=True, timeout=60)
    assert int(done.stdout) == len(dagster.all_logs(run_id))
