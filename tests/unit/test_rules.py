"""The process that reads the rules and judges them beside a run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ingestion.declarations import PROJECT
from ingestion.paths import Home
from orchestration import dbt, rules

PASSED = [{"unique_id": "unit_test.p.m.cas", "status": "pass"}]


@pytest.fixture
def read(tmp_path: Path) -> Home:
    """A home whose project was read: a manifest younger than the project, and no verdict."""
    where = Home(tmp_path / "dk").ensure()
    (where.work / "dbt").mkdir()
    (where.work / "dbt" / "manifest.json").write_text("{}", encoding="utf-8")
    return where


def told(where: Home, results: list[dict[str, str]], by: str | None = None) -> None:
    document = {"regles": by or dbt.rules_fingerprint(), "resultats": results}
    (where.work / "dbt" / rules.VERDICTS).write_text(json.dumps(document), encoding="utf-8")


def no_process(*_: object, **__: object) -> None:
    raise AssertionError("aucun processus n'est à lancer")


def test_rules_that_passed_are_not_judged_again(read: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "Popen", no_process)
    told(read, PASSED)
    rules.begin(read)
    assert rules.verdicts(read) == PASSED


FAILED = [*PASSED, {"unique_id": "unit_test.p.m.autre", "status": "fail"}]


@pytest.mark.parametrize(("results", "by"), [(PASSED, "d'autres règles"), (FAILED, None), ([], None)])
def test_a_failed_verdict_one_on_other_rules_and_an_empty_one_are_no_verdict(
    read: Home, monkeypatch: pytest.MonkeyPatch, results: list[dict[str, str]], by: str | None
) -> None:
    monkeypatch.setattr(subprocess, "Popen", no_process)
    told(read, results, by)
    with pytest.raises(AssertionError, match="aucun processus"):
        rules.begin(read)


def interpreter(read: Home, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    """Has the process of the rules run this shell command instead."""
    script = read.root / "python"
    script.write_text(f"#!/bin/sh\n{command}\n", encoding="utf-8")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))


def test_rules_that_cannot_be_judged_stop_the_build_and_name_the_log(read: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    interpreter(read, monkeypatch, "echo 'MemoryError: plus de mémoire' >&2; exit 1")
    told(read, FAILED)  # what an earlier process found is not what this one did
    with pytest.raises(dbt.BuildFailed, match=r"plus de mémoire.*regles\.log"):
        rules.verdicts(read)


def test_one_that_never_ends_is_stopped(read: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    interpreter(read, monkeypatch, "exec sleep 60")
    monkeypatch.setattr(rules, "PATIENCE_S", 0.2)
    with pytest.raises(dbt.BuildFailed, match="sortie -9"):
        rules.verdicts(read)


def test_a_unit_test_that_failed_is_why_the_warehouse_is_not_right() -> None:
    results = [{"unique_id": "model.p.m", "status": "success"}, {"unique_id": "unit_test.p.m.cas", "status": "fail", "message": "autre chose"}]
    assert dbt.build_errors({"results": results}) == ["m.cas : autre chose"]
    assert dbt.build_errors({"results": results[:1]}) == []


def test_the_process_ends_when_the_one_that_began_it_is_killed(tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from ingestion.paths import Home; from orchestration import rules; "
        "where = Home(Path(sys.argv[1])).ensure(); rules.begin(where); print(rules._begun[where].pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "dk")], cwd=PROJECT, stdout=subprocess.PIPE, text=True)
    assert parent.stdout
    child = int(parent.stdout.readline())
    os.kill(child, 0)
    parent.kill()
    parent.wait()
    for _ in range(200):
        # Nobody may be there to take note of its death: it then stays as « Z ».
        state = subprocess.run(["ps", "-o", "stat=", "-p", str(child)], capture_output=True, text=True).stdout.strip()
        if state[:1] in ("", "Z"):
            return
        time.sleep(0.1)
    os.kill(child, signal.SIGKILL)
    pytest.fail("le processus des règles survit à celui qui l'a lancé")
