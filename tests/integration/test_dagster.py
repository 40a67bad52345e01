"""Dagster alone, without ``dk run``: its jobs and schedules on an installation where nothing was ever collected."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ingestion.declarations import load_sources
from ingestion.paths import Home
from orchestration import release
from tests.integration.conftest import Run, environment

# Each job as its schedule launches it, but for the origin: no test asks the producers.
JOBS = """
import json, sys
import dagster as dg
import polars as pl
from orchestration.definitions import WHERE, defs
COMMUNES = WHERE.landing / "etalab__communes.parquet"
embedded = {"resources": {"origin": {"config": {"depuis": "embedded"}}}}
told = []
with dg.DagsterInstance.ephemeral() as instance:
    for name in sys.argv[1:]:
        job, _, partition = name.partition(":")
        done = defs.resolve_job_def(job).execute_in_process(
            instance=instance, raise_on_error=False, run_config=embedded, partition_key=partition or None
        )
        failed = [e for e in done.all_events if e.is_step_failure]
        told.append({
            "steps": sorted({e.step_key for e in done.all_events if e.is_step_success}),
            "failed": [e.step_key for e in failed],
            "vintages": sorted(pl.read_parquet(COMMUNES)["_millesime"].value_counts().rows()),
            "why": [d.user_failure_data.description if d.user_failure_data else d.error.message for e in failed for d in [e.step_failure_data]],
        })
print(json.dumps(told))
"""
VINTAGES = ("rattrapage:etalab__communes@2023", "rattrapage:etalab__communes@2016")
# A step that the interface launched, while another process holds the installation.
TURN = """
import subprocess, sys
import dagster as dg
from orchestration import definitions
hold = "import sys; from filelock import FileLock\\nwith FileLock(sys.argv[1]): print('pris', flush=True); sys.stdin.read()"
other = subprocess.Popen([sys.executable, "-c", hold, str(definitions.WHERE.work / "verrou")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
other.stdout.readline()
definitions.ATTENTE_S = 0.2
job = definitions.defs.resolve_job_def("collecte_catalogue")
with dg.DagsterInstance.ephemeral() as instance:
    done = job.execute_in_process(instance=instance, raise_on_error=False)
    told = [e.step_failure_data.user_failure_data.description for e in done.all_events if e.is_step_failure]
    other.communicate("")
    again = job.execute_in_process(instance=instance, raise_on_error=False)
import json
print(json.dumps([done.success, told, again.success]))
"""
# The last two steps of the graph on the verdict that is given; what they do with files is told by test_publication.
REFUSED = """
import json, sys
import dagster as dg
from orchestration import alerts, cli, definitions, release
control = {"etape": "candidat", "cible": "dim_source", "controle": "cles_en_double", "resultat": sys.argv[1], "bloquant": True,
           "observe": "2", "detail": "hors de l'attendu", "pourquoi": "la clé désigne une seule ligne"}
release.write_candidate = lambda where, manifest: {"dim_source": 3}
release.audit_candidate = lambda where, manifest: [control]
release.failing_rows = lambda where, manifest, failures: [{"cible": c["cible"], "controle": c["controle"], "ligne": "source_id = a"} for c in failures]
release.secret_shares = lambda where: {"cellules": 0}
release.publish = lambda where: ("2026-01-01-1", True)
def evidence(where, manifest):
    raise release.refusal([control])
release.verify_evidence = evidence
definitions.shown.published = lambda folder: {"pages": folder.name}
keys = [dg.AssetKey(["release", "candidat"]), dg.AssetKey(["release", "publication"])]
checks = [dg.AssetCheckKey(keys[0], "porte_de_publication")]
with dg.DagsterInstance.ephemeral() as instance:
    _, cursor = alerts.pending(instance, None, [], checks)
    done = definitions.defs.resolve_job_def("construction").execute_in_process(instance=instance, raise_on_error=False, asset_selection=keys)
    (check,) = done.get_asset_check_evaluations()
    told, after = alerts.pending(instance, cursor, [], checks)
    event = instance.get_latest_materialization_event(keys[1])
    print(json.dumps({
        "success": done.success, "passed": check.passed, "alerts": [str(a) for a in told], "again": alerts.pending(instance, after, [], checks)[0],
        "tables": {name: [r.data for r in value.records] for name, value in check.metadata.items() if isinstance(value, dg.TableMetadataValue)},
        "said": None if done.success else cli._refusal(definitions.WHERE, done),
        "published": event and {k: v.value for k, v in event.asset_materialization.metadata.items()},
    }))
"""
SCHEDULED = """
import json, os
os.environ["DK_ORIGINE"] = "mirror:/srv/miroir"
from orchestration.definitions import defs
jobs = [s.job_name for s in defs.schedules]
collected = [defs.resolve_job_def(name) for name in jobs if name.startswith("cadence_")]
print(json.dumps({
    "sources": sorted({"__".join(key.path[1:]) for job in collected for key in job.asset_layer.selected_asset_keys}),
    "origins": sorted({job.run_config["resources"]["origin"]["config"]["depuis"] for job in collected}),
    "interface": defs.resources["origin"].depuis,
}))
"""


def run(home: Path, script: str, *arguments: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], env=environment(home), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def seul(tmp_path_factory: pytest.TempPathFactory) -> tuple[Home, list[dict[str, Any]]]:
    home = Home(tmp_path_factory.mktemp("dagster") / "dk")
    return home, run(home.root, JOBS, "construction", *VINTAGES, "cadence_irreguliere", "collecte_etalab", "collecte_demonstration", "construction")


def test_a_build_before_any_collection_is_refused_and_not_broken(seul: tuple[Home, list[dict[str, Any]]]) -> None:
    """Closed and packaged sources, and those of other cadences, were never landed: their tables are there, and empty."""
    first = seul[1][0]
    assert "registre" in first["steps"] and "landing__catalogue__interventions" in first["steps"]
    # There is no commune yet: what is missing is said, and nothing is published.
    assert first["failed"] and not any("No such file" in why or "FileNotFound" in why for why in first["why"]), first


def test_schedules_then_build_publish_what_dk_run_publishes(seul: tuple[Home, list[dict[str, Any]]], embedded: Run) -> None:
    home, jobs = seul
    assert not any(job["failed"] for job in jobs[1:]) and len(jobs) == 7, jobs
    current, other = release.current_release(home), release.current_release(embedded.home)
    for table in ("fct_observation", "dim_territoire", "mart_couverture", "fct_intervention_territoire"):
        name = f"parquet/{table}.parquet"
        assert release.sha256_file(current / name) == release.sha256_file(other / name), table


def test_a_past_vintage_arrives_by_its_partition_and_replaces_nothing(seul: tuple[Home, list[dict[str, Any]]]) -> None:
    before, newest, both = (job["vintages"] for job in seul[1][:3])
    assert before == [] and [name for name, _ in newest] == ["2023"] and newest[0][1] > 30_000
    assert [name for name, _ in both] == ["2016", "2023"] and both[1] == newest[0] and both[0][1] > 30_000


def test_a_step_of_the_interface_waits_its_turn_and_says_whom_it_waited_for(seul: tuple[Home, list[dict[str, Any]]]) -> None:
    success, told, again = run(seul[0].root, TURN)
    assert not success and told and all(text.startswith(f"une autre exécution tient {seul[0].root}") for text in told)
    assert again


def test_a_refused_candidate_shows_its_checks_and_rows_and_is_told_once(seul: tuple[Home, list[dict[str, Any]]]) -> None:
    found = run(seul[0].root, REFUSED, "échoué")
    assert not found["success"] and not found["passed"] and found["published"] is None
    assert found["tables"]["controles"][0]["controle"] == "cles_en_double"
    assert found["tables"]["lignes_en_cause"] == [{"cible": "dim_source", "controle": "cles_en_double", "ligne": "source_id = a"}]
    assert found["said"].startswith("1 contrôle(s) bloquant(s) non réussi(s). Premier : dim_source / cles_en_double échoué : la clé désigne")
    (alerte,) = found["alerts"]
    assert "Dagster" not in alerte
    assert alerte.startswith("Publication refusée : construction. ") and "1 contrôle(s) bloquant(s) : dim_source / cles_en_double" in alerte
    assert "source_id = a" not in alerte and "la publication précédente reste en place" in alerte and found["again"] == []


def test_a_publication_shows_what_it_published(seul: tuple[Home, list[dict[str, Any]]]) -> None:
    found = run(seul[0].root, REFUSED, "réussi")
    assert found["success"] and found["passed"] and found["alerts"] == [] and found["tables"] == {}
    assert found["published"] == {"publication": "2026-01-01-1", "nouvelle": True, "pages": "2026-01-01-1"}


def test_every_source_is_on_some_schedule_and_comes_from_where_the_installation_says(seul: tuple[Home, list[dict[str, Any]]]) -> None:
    # What was deposited is let in before it is landed.
    assert run(seul[0].root, SCHEDULED) == {
        "sources": sorted([*load_sources(), "admission"]), "origins": ["mirror:/srv/miroir"], "interface": "mirror:/srv/miroir",
    }  # fmt: skip
