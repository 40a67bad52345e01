"""What can be judged of the rules before any data are here: the dbt project read, and its unit tests run on empty tables.

Both keep one core busy for some fifteen seconds, and neither needs what is being collected meanwhile: they have a process
of their own beside the run. Its verdicts hold for as long as the rules do. No Dagster here.
"""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import sys
import threading
from typing import Any

from ingestion.declarations import PROJECT
from ingestion.paths import Home, home, read_json
from orchestration import dbt

VERDICTS = "unites.json"
PATIENCE_S = 900
_begun: dict[Home, subprocess.Popen[str]] = {}


def begin(where: Home) -> None:
    """Starts the process, unless it is at work or its verdicts are known.

    ``wait_for_manifest`` and ``verdicts`` wait for it. It ends with this one, however this one ends.
    """
    if (where in _begun and _begun[where].poll() is None) or (not dbt.is_stale(where) and _known(where, dbt.rules_fingerprint())):
        return
    (where.work / "dbt").mkdir(parents=True, exist_ok=True)
    with (where.work / "dbt" / "regles.log").open("w") as log:
        _begun[where] = subprocess.Popen(
            [sys.executable, "-m", "orchestration.rules"], cwd=PROJECT, env=os.environ | {"DK_HOME": str(where.root)},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
        )  # fmt: skip
    atexit.register(_begun[where].kill)


def wait_for_manifest(where: Home) -> None:
    """Returns once the process has read the project, failed to, or was never begun."""
    if where in _begun:
        _begun[where].stdout.readline()


def verdicts(where: Home) -> list[dict[str, Any]]:
    """dbt's result for each unit test under the rules of today. Raises dbt.BuildFailed when they cannot be run."""
    rules = dbt.rules_fingerprint()
    if known := _known(where, rules):
        return known
    if where not in _begun:  # one that has finished may have found the failure that is asked for
        begin(where)
    if (process := _begun.pop(where, None)) is None:  # another run has just found out
        return verdicts(where)
    try:
        process.wait(PATIENCE_S)  # its input stays open until then: closed, it would take this process for gone
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdin.close()
    process.stdout.close()
    document = read_json(where.work / "dbt" / VERDICTS) or {}
    if process.returncode or document.get("regles") != rules or not document.get("resultats"):
        log = where.work / "dbt" / "regles.log"
        last = (log.read_text(encoding="utf-8", errors="replace").strip().splitlines() or [f"sortie {process.returncode}"])[-1]
        raise dbt.BuildFailed(f"les tests unitaires des modèles n'ont pas pu être passés ({last}) ; voir {log}")
    return document["resultats"]


def _known(where: Home, rules: str) -> list[dict[str, Any]] | None:
    """What was found under these rules, when all of it passed."""
    document = read_json(where.work / "dbt" / VERDICTS) or {}
    found = document.get("resultats") or []
    return found if document.get("regles") == rules and found and all(r["status"] == "pass" for r in found) else None


def judge(where: Home, bare: Home, manifest: Any) -> list[dict[str, Any]]:
    """Runs every unit test in the empty home ``bare``, where each source has its declared columns and no row."""
    from ingestion.declarations import load_sources
    from ingestion.fetch import Package
    from ingestion.landing import land, write_registry

    sources = list(load_sources().values())
    for source in sources:
        land(source, Package(), bare, frozenset())
    write_registry(sources, bare)
    here, there = (dbt.environment(place)["DK_LANDING"] for place in (where, bare))
    for node in manifest.sources.values():
        # dbt wrote the place of the landed files in what it read.
        for held in (node.meta, node.config.extra):
            if "external_location" in held:
                held["external_location"] = held["external_location"].replace(here, there)
    results = dbt.run(bare, ["build", "--exclude-resource-type", "test"], {}, None, manifest)
    broken = next(iter(dbt.build_errors(results)), "")
    judged = [r for r in results["results"] if r["unique_id"].startswith("unit_test.")]
    return [r | {"message": r.get("message") or broken} for r in judged]


def main() -> None:
    """Reads the project, says so on the standard output, then judges the rules; nothing that is known is done again."""
    from filelock import FileLock

    said, sys.stdout = sys.stdout, sys.stderr
    # The pipe closes when the process that began this one is no more.
    threading.Thread(target=lambda: (sys.stdin.read(), os._exit(1)), daemon=True).start()
    where = home().ensure()
    place, bare = where.work / "dbt", Home(where.work / "regles")
    with FileLock(place / "regles.verrou"):
        rules = dbt.rules_fingerprint()
        shutil.rmtree(bare.root, ignore_errors=True)
        try:
            bare.ensure()
            manifest = dbt.read_project(where, bare.work / "dbt")
            if dbt.is_stale(where):  # else someone may be reading it
                for name in ("partial_parse.msgpack", "manifest.json"):
                    os.replace(bare.work / "dbt" / name, place / name)
            print("lu", file=said, flush=True)
            if _known(where, rules) is None:
                dbt.write(place / VERDICTS, {"regles": rules, "resultats": judge(where, bare, manifest)})
        finally:
            shutil.rmtree(bare.root, ignore_errors=True)


if __name__ == "__main__":
    main()
