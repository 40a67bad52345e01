"""Files that were cut or altered since: each command names the file and what to do, and what a run can make again it does."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from ingestion.paths import Home
from orchestration import release
from tests.integration.conftest import Revision, Run, dk, private_copy, succeeded
from tests.integration.test_publication import assert_whole, closed, current


def cut(path: Path) -> None:
    """What a full disk or a killed copy leaves: the first half."""
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.fixture
def deux(revision: Revision, tmp_path: Path) -> Home:
    assert revision.code == 0, revision.output
    return private_copy(revision.home.root, tmp_path / "dk")


EXPLAIN = ("explain", "population_municipale", "23096")
# File of the current release: the commands that read it, and so must refuse and name it. The others go on.
READ_BY = {
    "dernier_kilometre.duckdb": {"query", "explain"},
    "datapackage.json": {"releases", "explain"},
    "parquet/fct_observation.parquet": {"diff"},
    "parquet/mart_fraicheur.parquet": {"diff"},
    "checks.json": set(),
    "changes.md": set(),
    "SHA256SUMS": set(),
}


@pytest.mark.parametrize("name", READ_BY)
def test_damaged_file_of_a_release_is_named_with_its_remedy(name: str, deux: Home) -> None:
    first, second = release.release_ids(deux)
    cut(deux.releases / second / name)
    commands = {
        "releases": ["releases"], "sources": ["sources"], "diff": ["diff", first, second], "explain": [*EXPLAIN],
        "query": ["query", "select count(*) from fct_observation where valeur > 1"],
    }  # fmt: skip
    for command, arguments in commands.items():
        done = dk(deux.root, *arguments)
        assert "Traceback" not in done.stdout + done.stderr, (command, done.stderr)
        if command in READ_BY[name]:
            assert done.returncode == 1, (command, done.stdout, done.stderr)
            assert name in done.stderr and f"Remède : « dk rollback {first} », supprimer {deux.releases / second}" in done.stderr, done.stderr
        else:
            assert done.returncode == 0, (command, done.stderr)
    doctor = dk(deux.root, "doctor")
    assert doctor.returncode == 1
    assert re.search(rf"MANQUE  octets de {second} altérés : {re.escape(name)} .*\n +remède : « dk rollback {first} »", doctor.stdout), doctor.stdout
    # Nobody rolls forward to it either.
    succeeded(dk(deux.root, "rollback", first))
    back = dk(deux.root, "rollback", second)
    assert back.returncode == 1 and f"Erreur : {second} : {name} " in back.stderr and "Traceback" not in back.stderr
    assert current(deux).name == first


# What an authorised evaluator reads: the commands that must refuse, and name the file.
CLOSED_READ_BY = {"dernier_kilometre.duckdb": {"query"}, "parquet/fct_observation.parquet": {"diff"}, "parquet/secret_cellule.parquet": {"diff"}}


@pytest.mark.parametrize("name", CLOSED_READ_BY)
def test_damaged_file_of_the_evaluators_side_is_named_with_its_remedy(name: str, deux: Home) -> None:
    first, second = release.release_ids(deux)
    twin = release.evaluators_folder(deux) / second
    cut(twin / name)
    commands = {
        "diff": ["diff", first, second, "--evaluateurs"],
        "query": ["query", "select count(*) from fct_observation where valeur > 1", "--evaluateurs"],
    }
    for command, arguments in commands.items():
        done = dk(deux.root, *arguments)
        assert "Traceback" not in done.stdout + done.stderr, (command, done.stderr)
        if command in CLOSED_READ_BY[name]:
            assert done.returncode == 1, (command, done.stdout, done.stderr)
            assert name in done.stderr
            assert f"Remède : « dk rollback {first} », supprimer {deux.releases / second} et {twin}" in done.stderr, done.stderr
        else:
            assert done.returncode == 0, (command, done.stderr)
    # Nothing is wrong with what everybody reads.
    for arguments in (["releases"], ["diff", first, second], commands["query"][:-1]):
        succeeded(dk(deux.root, *arguments))
    doctor = dk(deux.root, "doctor")
    assert doctor.returncode == 1 and f"bon     octets de {second} conformes" in doctor.stdout, doctor.stdout
    told = rf"MANQUE  version pour évaluateurs de {second} : altérés : {re.escape(name)} .*\n +remède : « dk rollback {first} », supprimer "
    assert re.search(told, doctor.stdout), doctor.stdout
    succeeded(dk(deux.root, "rollback", first))
    assert dk(deux.root, "rollback", second).returncode == 1 and current(deux).name == first


def test_a_wrong_query_is_not_taken_for_damage(deux: Home) -> None:
    cut(current(deux) / "changes.md")
    done = dk(deux.root, "query", "select nimporte_quoi from fct_observation")
    assert done.returncode == 2 and "requête refusée par DuckDB" in done.stderr


def test_files_added_to_a_release_show_too(deux: Home) -> None:
    (current(deux) / "parquet" / "intrus.parquet").write_bytes(b"PAR1")
    assert release.faults(current(deux)) == ["parquet/intrus.parquet n'a pas été publié"]
    assert "parquet/intrus.parquet n'a pas été publié" in dk(deux.root, "doctor").stdout


@pytest.mark.parametrize("side", ["public", "évaluateurs"])
def test_the_remedy_that_doctor_gives_mends(side: str, deux: Home, revision: Revision) -> None:
    first, second = release.release_ids(deux)
    published = release.candidate_fingerprint(deux.releases / second)
    cut((deux.releases if side == "public" else release.evaluators_folder(deux)) / second / "dernier_kilometre.duckdb")
    succeeded(dk(deux.root, "rollback", first))
    shutil.rmtree(deux.releases / second)
    if side == "évaluateurs":
        shutil.rmtree(release.evaluators_folder(deux) / second)
    succeeded(dk(deux.root, "run", "--from", f"mirror:{revision.mirror}", "--only", "etalab__communes"))
    assert current(deux).name != first and release.candidate_fingerprint(current(deux)) == published
    assert_whole(current(deux))
    assert_whole(closed(deux))
    assert "MANQUE" not in succeeded(dk(deux.root, "doctor"))


def test_current_that_leads_nowhere_is_told(deux: Home) -> None:
    first, second = release.release_ids(deux)
    shutil.rmtree(deux.releases / second)
    doctor = dk(deux.root, "doctor")
    assert doctor.returncode == 1 and re.search(rf"mène à {second}, qui n'y est plus\n +remède : « dk rollback {first} »", doctor.stdout)
    assert f"{release.evaluators_folder(deux) / second} : rien de public ne lui répond" in doctor.stdout
    assert dk(deux.root, "query", "select 1").returncode == 1
    assert succeeded(dk(deux.root, "releases")).split()[0] == first
    succeeded(dk(deux.root, "rollback", first))
    assert "MANQUE" not in succeeded(dk(deux.root, "doctor"))


# --- what a run makes again -------------------------------------------------------------------------------------


def one(paths: list[Path]) -> Path:
    assert paths
    return sorted(paths)[0]


def work_files(where: Home) -> list[Path]:
    """One of each kind of file that work/ keeps from one run to the next."""
    lectures = where.work / "lectures" / "etalab__communes"
    return [
        where.landing / "etats" / "etalab__epci.json",
        where.landing / "etalab__regions.parquet",
        where.landing / "mesures" / "etalab__communes.parquet",
        where.landing / "versions" / "etalab__communes.parquet",
        where.landing / "registre" / "livraisons.parquet",
        one(list(lectures.glob("*/lecture.json"))),
        one(list(lectures.glob("*/table.parquet"))),
        where.work / "dbt" / "manifest.json",
        where.work / "dbt" / "run_results.json",
        where.work / "dbt" / "partial_parse.msgpack",
        where.work / release.BUILD,
        where.work / "entrepot.duckdb",
    ]


def test_run_makes_again_what_was_cut_below_work(embedded: Run, copie: Home) -> None:
    expected = {p.name: release.sha256_file(p) for p in (current(embedded.home) / "parquet").iterdir()}
    files = work_files(copie)
    for path in files:
        cut(path)
    told = dk(copie.root, "doctor")
    assert told.returncode == 1 and "Traceback" not in told.stderr
    for path in (files[0], *files[1:4], *files[7:9]):
        assert re.search(rf"MANQUE  {re.escape(str(path))} est illisible\n +remède : « dk run » le refait", told.stdout), told.stdout
    explained = succeeded(dk(copie.root, *EXPLAIN))
    assert f"{files[2]} est illisible" in explained and f"{files[7]} est illisible" in explained
    # The current release is damaged too: it is made again beside it, and its successor is not compared with it.
    old = current(copie)
    for name in ("checks.json", "parquet/fct_observation.parquet"):
        cut(old / name)
    output = succeeded(dk(copie.root, "run"))
    assert f"{old / 'checks.json'} est illisible" in output and "Traceback" not in output
    new = current(copie)
    assert new != old
    assert {p.name: release.sha256_file(p) for p in (new / "parquet").iterdir()} == expected
    assert f"Comparaison impossible avec {old.name}" in (new / "changes.md").read_text(encoding="utf-8")
    assert_whole(new)
    assert "MANQUE" not in succeeded(dk(copie.root, "doctor"))


def test_run_after_damage_to_nothing_published_stays_quiet(copie: Home) -> None:
    """What was cut is made again from the same snapshots: no release comes of it."""
    before = current(copie)
    for path in work_files(copie)[:7]:
        cut(path)
    output = succeeded(dk(copie.root, "run"))
    assert "rien de neuf" in output and f"{before.name} (inchangée)" in output
    assert "MANQUE" not in succeeded(dk(copie.root, "doctor"))


def test_reading_cache_altered_in_its_middle_is_named(copie: Home) -> None:
    folder = copie.work / "lectures" / "etalab__regions"
    path = one(list(folder.glob("*/table.parquet")))
    content = bytearray(path.read_bytes())
    content[4:-8] = bytes(len(content) - 12)
    path.write_bytes(content)
    (copie.landing / "etats" / "etalab__regions.json").unlink()
    done = dk(copie.root, "run")
    assert done.returncode == 1 and "Traceback" not in done.stdout + done.stderr
    assert f"{path} est illisible" in done.stderr and f"supprimer le dossier {path.parent}" in done.stderr and "reste en place" in done.stderr
    shutil.rmtree(path.parent)
    succeeded(dk(copie.root, "run"))


def test_stored_verdicts_cut_in_the_candidate_do_not_stop_the_next_run(candidat: Home) -> None:
    cut(candidat.candidate / "checks.json")
    fingerprint = json.loads((current(candidat) / "checks.json").read_text(encoding="utf-8"))["empreinte_entrees"]
    assert release.already_published(candidat, fingerprint)
    assert not release.already_published(candidat, "autre")


# --- what it cannot make again ----------------------------------------------------------------------------------


def test_altered_manifest_of_snapshots_is_named(copie: Home) -> None:
    path = copie.snapshots / "etalab__communes" / "manifest.jsonl"
    before = current(copie)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0][:40] + b"\n" + b"".join(lines[1:]))
    wanted = f"{path}, ligne 1 : manifeste altéré"
    for arguments in (["sources"], ["run"]):
        done = dk(copie.root, *arguments)
        assert done.returncode == 1 and "Traceback" not in done.stdout + done.stderr
        assert wanted in done.stderr and "restaurer ce fichier depuis une sauvegarde" in done.stderr, done.stderr
    assert "etalab__regions" in dk(copie.root, "sources").stdout
    doctor = dk(copie.root, "doctor")
    assert doctor.returncode == 1 and re.search(rf"MANQUE  {re.escape(wanted)}.*\n +remède : restaurer", doctor.stdout)
    assert wanted in succeeded(dk(copie.root, *EXPLAIN))
    assert current(copie) == before
    # Without a backup, the other remedy: the files are asked for again.
    path.rename(path.with_suffix(".mis_de_cote"))
    succeeded(dk(copie.root, "run"))
    assert "MANQUE" not in succeeded(dk(copie.root, "doctor"))


def test_manifest_of_snapshots_cut_in_its_last_line_is_made_whole_again(copie: Home) -> None:
    path = copie.snapshots / "etalab__communes" / "manifest.jsonl"
    content = path.read_bytes()
    path.write_bytes(content[:-150])
    succeeded(dk(copie.root, "sources"))
    succeeded(dk(copie.root, "run"))
    assert len(path.read_bytes().splitlines()) == len(content.splitlines())
    assert all(json.loads(line) for line in path.read_bytes().splitlines())
