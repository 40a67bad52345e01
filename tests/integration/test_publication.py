"""Publishing trusts nothing it is told, never leaves readers without a release, and says what changed."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest

from ingestion.declarations import load_sources
from ingestion.paths import Home
from orchestration import release
from tests.integration.conftest import DK, Revision, Run, dk, environment, private_copy, succeeded, unpublish


def assert_whole(folder: Path) -> None:
    """A release is whole: its sums name every other file of it and are true, and its DuckDB file opens."""
    sums = dict(reversed(line.split("  ", 1)) for line in (folder / "SHA256SUMS").read_text().splitlines())
    files = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert set(sums) == files - {"SHA256SUMS"}
    for name, expected in sums.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == expected, name
    with duckdb.connect(str(folder / "dernier_kilometre.duckdb"), read_only=True) as con:
        (rows,) = con.execute("select count(*) from fct_observation").fetchone() or (0,)
    assert rows == pl.scan_parquet(folder / "parquet" / "fct_observation.parquet").select(pl.len()).collect().item()


def current(where: Home) -> Path:
    folder = release.current_release(where)
    assert folder is not None
    return folder


def closed(where: Home) -> Path:
    """The evaluators' side of the current release, by its own link."""
    folder = (release.evaluators_folder(where) / "current").resolve()
    assert folder.name == current(where).name
    return folder


def evidence_of(where: Home) -> dict[str, Any]:
    return json.loads((where.candidate / "checks.json").read_text(encoding="utf-8"))


def store(where: Home, evidence: dict[str, Any]) -> None:
    (where.candidate / "checks.json").write_text(json.dumps(evidence, ensure_ascii=False), encoding="utf-8")


def assert_refused(where: Home, reason: str) -> None:
    """Publishing alone refuses for that reason, and readers see what they saw."""
    roots = (where.releases, release.evaluators_folder(where))
    before, names = current(where), [sorted(os.listdir(root)) for root in roots]
    with pytest.raises(release.PublicationRefused, match=reason):
        release.publish(where)
    assert current(where) == before and [sorted(os.listdir(root)) for root in roots] == names
    assert_whole(before)
    assert_whole(closed(where))


# --- the untouched candidate ------------------------------------------------------------------------------------


def test_sound_candidate_is_published_once(candidat: Home) -> None:
    old = current(candidat)
    name, new = release.publish(candidat)
    assert new and current(candidat).name == name != old.name
    assert_whole(current(candidat))
    assert_whole(closed(candidat))
    assert_whole(old)
    assert not candidat.candidate.exists() and not release.public_folder(candidat).exists()
    # Same evidence on both sides, but for what closed files and failing rows would tell.
    open_side, closed_side = (json.loads((f / "checks.json").read_text(encoding="utf-8")) for f in (current(candidat), closed(candidat)))
    assert {k: v for k, v in open_side.items() if k != "controles"} == {k: v for k, v in closed_side.items() if k != "controles"}
    assert [(c["cible"], c["controle"], c["resultat"]) for c in open_side["controles"]] == [
        (c["cible"], c["controle"], c["resultat"]) for c in closed_side["controles"]
    ]


# --- refusals ---------------------------------------------------------------------------------------------------


def _flip_a_byte(where: Home) -> None:
    path = where.candidate / "parquet" / "dim_territoire.parquet"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _flip_a_public_byte(where: Home) -> None:
    path = release.public_folder(where) / "parquet" / "mart_couverture.parquet"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _publish_the_exact_table(where: Home) -> None:
    """The table that the public side must not hold, put there by hand."""
    shutil.copy(where.candidate / "parquet" / "secret_cellule.parquet", release.public_folder(where) / "parquet")


def _remove_public_audit_row(where: Home) -> None:
    path = release.public_folder(where) / "parquet" / "audit_controle.parquet"
    pl.read_parquet(path).slice(1).write_parquet(path)


def _remove_the_public_side(where: Home) -> None:
    shutil.rmtree(release.public_folder(where))


def _remove_a_table(where: Home) -> None:
    (where.candidate / "parquet" / "mart_couverture.parquet").unlink()


def _add_a_table(where: Home) -> None:
    shutil.copy(where.candidate / "parquet" / "dim_source.parquet", where.candidate / "parquet" / "intrus.parquet")


def _remove_the_audit_table(where: Home) -> None:
    (where.candidate / "parquet" / "audit_controle.parquet").unlink()


def _remove_checks(where: Home) -> None:
    (where.candidate / "checks.json").unlink()


def _cut_checks(where: Home) -> None:
    path = where.candidate / "checks.json"
    path.write_bytes(path.read_bytes()[:-200])


def _empty_checks(where: Home) -> None:
    store(where, {})


def _remove_control(etape: str) -> Callable[[Home], None]:
    def remove(where: Home) -> None:
        evidence = evidence_of(where)
        gone = next(c for c in evidence["controles"] if c["etape"] == etape)
        evidence["controles"].remove(gone)
        store(where, evidence)

    return remove


def _remove_control_everywhere(etape: str) -> Callable[[Home], None]:
    """The control is gone from both copies of the evidence: only what is expected can tell."""

    def remove(where: Home) -> None:
        _remove_control(etape)(where)
        for folder in (where.candidate, release.public_folder(where)):
            _write_audit(folder / "parquet" / "audit_controle.parquet", evidence_of(where)["controles"])

    return remove


def _write_audit(path: Path, controls: list[dict[str, Any]]) -> None:
    frame = pl.read_parquet(path)
    pl.DataFrame([{n: c[n] for n in frame.columns} for c in controls], schema=frame.schema).write_parquet(path)


def _remove_audit_row(where: Home) -> None:
    path = where.candidate / "parquet" / "audit_controle.parquet"
    pl.read_parquet(path).slice(1).write_parquet(path)


@pytest.mark.parametrize(
    ("tamper", "reason"),
    [
        (_flip_a_byte, "ses octets ont changé"),
        (_flip_a_public_byte, "ses octets ont changé"),
        (_publish_the_exact_table, "ses octets ont changé"),
        (_remove_the_public_side, "ses octets ont changé"),
        (_remove_public_audit_row, "preuves du candidat se contredisent"),
        (_remove_control("diffusion"), "preuves du candidat se contredisent"),
        (_remove_control_everywhere("diffusion"), "1 contrôles attendus n'ont pas été faits"),
        (_remove_a_table, "ses octets ont changé"),
        (_add_a_table, "ses octets ont changé"),
        (_remove_the_audit_table, "audit_controle"),
        (_remove_checks, "aucun candidat audité"),
        (_cut_checks, "preuves du candidat sont illisibles"),
        (_empty_checks, "preuves du candidat sont illisibles"),
        (_remove_control("arrivee"), "preuves du candidat se contredisent"),
        (_remove_control("entrepot"), "preuves du candidat se contredisent"),
        (_remove_control("candidat"), "preuves du candidat se contredisent"),
        (_remove_audit_row, "preuves du candidat se contredisent"),
        (_remove_control_everywhere("entrepot"), "1 contrôles attendus n'ont pas été faits"),
        (_remove_control_everywhere("candidat"), "1 contrôles attendus n'ont pas été faits"),
    ],
    ids=lambda value: getattr(value, "__qualname__", "").replace(".<locals>", "") or None,
)
def test_tampered_candidate_is_refused(tamper: Callable[[Home], None], reason: str, candidat: Home) -> None:
    tamper(candidat)
    assert_refused(candidat, reason)


def spoil(where: Home, table: str, change: Callable[[pl.DataFrame], pl.DataFrame]) -> None:
    path = where.candidate / "parquet" / f"{table}.parquet"
    change(pl.read_parquet(path)).write_parquet(path)


def _same_row_twice(where: Home) -> None:
    spoil(where, "fct_observation", lambda f: pl.concat([f, f.head(1)]))


def test_failed_check_refuses_publication_alone_and_cannot_be_edited_away(
    candidat: Home, audit_again: Callable[[], list[dict]]
) -> None:
    _same_row_twice(candidat)
    controls = audit_again()
    failed = [(c["cible"], c["controle"], c["resultat"]) for c in controls if c["resultat"] != "réussi"]
    assert failed == [("fct_observation", "cles_en_double", "échoué")]
    assert next(c for c in controls if c["resultat"] == "échoué")["exemples"], "les lignes en cause sont montrées"
    assert_refused(candidat, r"1 contrôle\(s\) bloquant\(s\) non réussi\(s\).*fct_observation / cles_en_double échoué")
    evidence = evidence_of(candidat)
    for control in evidence["controles"]:
        control["resultat"] = "réussi"
    store(candidat, evidence)
    assert_refused(candidat, "preuves du candidat se contredisent")


def test_failed_check_refuses_the_publication_job_of_dagster(candidat: Home, audit_again: Callable[[], list[dict]]) -> None:
    _same_row_twice(candidat)
    audit_again()
    before = current(candidat)
    script = (
        "from orchestration.definitions import defs\n"
        "done = defs.resolve_job_def('publication').execute_in_process(raise_on_error=False)\n"
        "print('SUCCES' if done.success else 'ECHEC')\n"
        "print(*(e.step_failure_data.error.message for e in done.all_events if e.is_step_failure))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment(candidat.root), capture_output=True, text=True, timeout=120
    )
    assert done.stdout.splitlines()[0] == "ECHEC", done.stdout + done.stderr[-2000:]
    assert "fct_observation / cles_en_double échoué" in done.stdout
    assert current(candidat) == before and len(release.release_ids(candidat)) == 1


def test_broken_check_refuses(candidat: Home, audit_again: Callable[[], list[dict]]) -> None:
    spoil(candidat, "mart_couverture", lambda f: f.drop("indicateurs_vie_quotidienne"))
    broken = [c for c in audit_again() if c["resultat"] == "cassé"]
    assert {c["cible"] for c in broken} == {"mart_couverture"} and len(broken) >= 2
    assert_refused(candidat, r"mart_couverture / \w+ cassé \(ni bon ni mauvais\)")


@pytest.mark.parametrize(("status", "verdict"), [("error", "cassé"), ("skipped", "cassé"), ("fail", "échoué")])
def test_dbt_test_that_did_not_pass_refuses(
    status: str, verdict: str, candidat: Home, audit_again: Callable[[], list[dict]]
) -> None:
    path = candidat.work / "dbt" / "run_results.json"
    results = json.loads(path.read_text(encoding="utf-8"))
    test = next(r for r in results["results"] if r["unique_id"].startswith("test."))
    test["status"] = status
    path.write_text(json.dumps(results), encoding="utf-8")
    assert [(c["controle"], c["resultat"]) for c in audit_again() if c["resultat"] != "réussi"] == [(test["unique_id"], verdict)]
    assert_refused(candidat, re.escape(test["unique_id"]) + f" {verdict}")


@pytest.mark.parametrize(
    ("text", "kind", "shown"),
    [
        ("voir avec lea.dupont@exemple.fr", "une adresse électronique", "•••.••••••@•••••••.••"),
        ("rappeler le 06 12 34 56 78", "un numéro de téléphone", "•• •• •• •• ••"),
        ("assurée 2 85 05 78 006 048 22", "un numéro de sécurité sociale", "• •• •• •• ••• ••• ••"),
    ],
)
def test_personal_data_in_any_table_refuses_and_is_not_repeated(
    text: str, kind: str, shown: str, candidat: Home, audit_again: Callable[[], list[dict]]
) -> None:
    spoil(candidat, "dim_source", lambda f: f.with_columns(pl.when(pl.int_range(pl.len()) == 3).then(pl.lit(text)).otherwise("description").alias("description")))
    failed = [c for c in audit_again() if c["resultat"] != "réussi"]
    assert [(c["cible"], c["controle"], c["etape"]) for c in failed] == [
        ("dim_source", "donnees_personnelles", "candidat"), ("dim_source", "donnees_personnelles", "diffusion"),
    ]  # fmt: skip
    assert failed[0]["detail"] == f"description : {kind} : « {shown} »"
    assert text.split()[-1] not in json.dumps(failed, ensure_ascii=False)
    assert_refused(candidat, rf"dim_source / donnees_personnelles échoué.*description : {kind}")


def test_personal_data_in_the_files_around_the_tables_refuses(candidat: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    real = release.changes
    monkeypatch.setattr(release, "changes", lambda *a, **k: real(*a, **k) + "Contact : lea.dupont@exemple.fr\n")
    assert_refused(candidat, r"donnée personnelle dans changes.md : une adresse électronique : « •••\.••••••@•••••••\.•• »")
    monkeypatch.undo()
    assert release.publish(candidat)[1]


def test_codes_and_hashes_are_not_taken_for_personal_data() -> None:
    from expectations.release import masked
    from ingestion.records.personal import telling

    plain = ["552100554", "55210055400013", "0e1b2c3d" * 8, "QP093028", "2A004", "2026-11-25", "N0612345678", "12,0612345678", "0.0612345678"]
    assert [text for text in plain if telling(text)] == []
    assert masked("06 12 34 56 78").startswith("un numéro de téléphone")


# --- a disk that fills, a process that dies ---------------------------------------------------------------------


def _full(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("where_it_fails", ["os.rename", "_fsync", "datapackage", "changes", "point_current", "Path.write_text"])
def test_full_disk_leaves_the_release_in_place(
    where_it_fails: str, candidat: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = current(candidat)
    target = {"os.rename": (release.os, "rename"), "Path.write_text": (Path, "write_text")}.get(
        where_it_fails, (release, where_it_fails)
    )
    with monkeypatch.context() as patch:
        patch.setattr(*target, _full)
        with pytest.raises(release.PublicationRefused, match=r"No space left.*publication précédente reste en place"):
            release.publish(candidat)
    assert current(candidat) == before
    assert_whole(before)
    if where_it_fails == "point_current":
        # The release is on disk, whole, and nobody was pointed to it: a rollback to it is all that is missing.
        (orphan,) = {*release.release_ids(candidat)} - {before.name}
        assert closed(candidat).name == before.name
        assert release.rollback(candidat, orphan) == orphan
    else:
        name, new = release.publish(candidat)
        assert new and current(candidat).name == name
    assert_whole(current(candidat))
    assert_whole(closed(candidat))


FILE_LIMIT = """
import resource, sys
from pathlib import Path
from ingestion.paths import Home
from orchestration import release
resource.setrlimit(resource.RLIMIT_FSIZE, (4 << 20, 4 << 20))
try:
    release.publish(Home(Path(sys.argv[1])))
except release.PublicationRefused as refusal:
    print(refusal)
    sys.exit(7)
"""


def test_write_that_fails_inside_duckdb_leaves_the_release_in_place(candidat: Home) -> None:
    before = current(candidat)
    done = subprocess.run(
        [sys.executable, "-c", FILE_LIMIT, str(candidat.root)], env=environment(candidat.root), capture_output=True, text=True
    )
    assert done.returncode == 7, done.stderr
    assert "écriture impossible pendant la publication" in done.stdout
    assert current(candidat) == before
    assert_whole(before)
    assert release.publish(candidat)[1]
    assert_whole(current(candidat))


DIE = """
import os, signal, sys
from pathlib import Path
from ingestion.paths import Home
from orchestration import release
point, root = sys.argv[1:]
def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)
def half_written(folder, manifest, public):
    real(folder, manifest, public)
    path = folder / "dernier_kilometre.duckdb"
    os.truncate(path, path.stat().st_size // 2)
    Path(str(path) + ".wal").write_bytes(b"journal d'un processus mort")
    die()
real = release._write_duckdb
def second_time(what):
    calls = []
    def call(*arguments):
        calls.append(1)
        return die() if len(calls) == 2 else what(*arguments)
    return call
owner, name, what = {
    "avant le fichier DuckDB": (release, "_write_duckdb", die),
    "au milieu du fichier DuckDB": (release, "_write_duckdb", half_written),
    "après le fichier DuckDB": (release, "datapackage", die),
    "avant le renommage": (release.os, "rename", die),
    "entre les deux renommages": (release.os, "rename", second_time(os.rename)),
    "entre le renommage et la bascule": (release, "point_current", die),
    "au milieu de la bascule": (release.os, "replace", die),
    "entre les deux bascules": (release.os, "replace", second_time(os.replace)),
    "après la bascule": (release, "_fsync", lambda path: die() if path.name == "releases" else None),
}[point]
setattr(owner, name, what)
release.publish(Home(Path(root)))
"""
BEFORE_RENAME = [
    "avant le fichier DuckDB", "au milieu du fichier DuckDB", "après le fichier DuckDB", "avant le renommage", "entre les deux renommages",
]  # fmt: skip
AFTER_RENAME = ["entre le renommage et la bascule", "au milieu de la bascule", "entre les deux bascules", "après la bascule"]


def killed_at(point: str, where: Home) -> None:
    done = subprocess.run(
        [sys.executable, "-c", DIE, point, str(where.root)], env=environment(where.root), capture_output=True, text=True
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.mark.parametrize("point", BEFORE_RENAME + AFTER_RENAME)
def test_killed_publication_leaves_the_old_or_the_new_release(point: str, candidat: Home) -> None:
    old = current(candidat)
    killed_at(point, candidat)
    now = current(candidat)
    assert (now != old) == (point == "après la bascule")
    for name in release.release_ids(candidat):
        assert_whole(candidat.releases / name)
        assert_whole(release.release_folder(candidat, name, evaluators=True))
    # Whatever the links say, a reader who asks for the current release gets the same one on both sides.
    assert release.release_folder(candidat, "current", evaluators=True).name == now.name
    release.reconcile(candidat)
    assert closed(candidat).name == now.name
    if point in BEFORE_RENAME:
        assert release.publish(candidat) == (current(candidat).name, True)
        assert_whole(current(candidat))
        assert_whole(closed(candidat))


@pytest.mark.parametrize("point", ["entre les deux renommages", "entre les deux bascules"])
def test_next_run_recovers_from_a_killed_publication(point: str, revision: Revision, tmp_path: Path) -> None:
    where = private_copy(revision.home.root, tmp_path / "dk")
    unpublish(where)
    old = current(where)
    killed_at(point, where)
    assert current(where) == old
    output = succeeded(dk(where.root, "run", "--from", f"mirror:{revision.mirror}", "--only", "etalab__communes"))
    new = current(where)
    assert new != old and f"Publication {new.name} (nouvelle)" in output
    assert_whole(new)
    published = {p.name: release.sha256_file(p) for p in (new / "parquet").iterdir()}
    expected = {p.name: release.sha256_file(p) for p in (revision.home.releases / "current" / "parquet").iterdir()}
    assert published == expected


# --- rollback and readers ---------------------------------------------------------------------------------------


@pytest.fixture
def deux(revision: Revision, tmp_path: Path) -> Home:
    """A private installation with two releases."""
    assert revision.code == 0, revision.output
    return private_copy(revision.home.root, tmp_path / "dk", "work", "snapshots", "dagster")


def test_rollback_puts_the_first_release_back_and_forth(deux: Home) -> None:
    first, second = release.release_ids(deux)
    assert current(deux).name == second
    assert succeeded(dk(deux.root, "rollback", first)) == f"Publication courante : {first}\n"
    assert current(deux).name == first and os.readlink(deux.releases / "current") == first
    assert os.readlink(release.evaluators_folder(deux) / "current") == first
    population = "select valeur from fct_observation where territoire_code = '23096' and est_derniere_version and year(periode_debut) = 2023"
    back = succeeded(dk(deux.root, "query", population, "--format", "csv"))
    ahead = succeeded(dk(deux.root, "query", population, "--format", "csv", "--release", second))
    assert float(ahead.split()[1]) - float(back.split()[1]) == 7
    assert release.rollback(deux, second) == second == current(deux).name


def test_nothing_brings_back_by_itself_what_a_rollback_withdrew(revision: Revision, tmp_path: Path) -> None:
    deux = private_copy(revision.home.root, tmp_path / "dk")
    first, second = release.release_ids(deux)
    succeeded(dk(deux.root, "rollback", first))
    assert [line.endswith("retirée") for line in succeeded(dk(deux.root, "releases")).splitlines()] == [False, True]
    run = succeeded(dk(deux.root, "run", "--from", f"mirror:{revision.mirror}", "--only", "etalab__communes"))
    assert "rien de neuf" in run and f"dk rollback {second}" in run
    assert current(deux).name == first and release.release_ids(deux) == [first, second]
    # A build of the same data, by another way than « dk run », is refused at the last step.
    shutil.copytree(release.evaluators_folder(deux) / second / "parquet", deux.candidate / "parquet")
    shutil.copyfile(release.evaluators_folder(deux) / second / "checks.json", deux.candidate / "checks.json")
    shutil.copytree(deux.releases / second / "parquet", release.public_folder(deux) / "parquet")
    assert_refused(deux, f"sont celles de {second}, retirée du service")
    # Putting it back is as explicit as withdrawing it was.
    succeeded(dk(deux.root, "rollback", second))
    assert release.withdrawn(deux) == []
    assert release.publish(deux) == (second, False)


def test_rollback_waits_for_nobody(deux: Home) -> None:
    from orchestration.instance import single_writer

    first, second = release.release_ids(deux)
    with single_writer(deux, 0):
        done = dk(deux.root, "rollback", first)
    assert done.returncode == 75 and "une exécution est en cours" in done.stderr
    assert current(deux).name == second


@pytest.mark.parametrize("damage", ["changed", "missing", "without sums"])
def test_rollback_refuses_a_release_that_is_not_what_was_published(damage: str, deux: Home) -> None:
    first, second = release.release_ids(deux)
    path = deux.releases / first / ("SHA256SUMS" if damage == "without sums" else "parquet/dim_source.parquet")
    content = path.read_bytes()
    path.unlink()
    if damage == "changed":
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    done = dk(deux.root, "rollback", first)
    assert done.returncode == 1
    assert done.stderr.startswith(f"Erreur : {first} : ") and path.name in done.stderr and "Traceback" not in done.stderr
    assert current(deux).name == second


@pytest.mark.parametrize("damage", ["changed", "missing"])
def test_rollback_refuses_a_damaged_evaluators_side(damage: str, deux: Home) -> None:
    first, second = release.release_ids(deux)
    path = release.evaluators_folder(deux) / first / "parquet" / "secret_cellule.parquet"
    content = path.read_bytes()
    path.unlink()
    if damage == "changed":
        path.write_bytes(content + b"x")
    with pytest.raises(release.ReleaseError, match=rf"{first} \(version pour évaluateurs\) : parquet/secret_cellule.parquet"):
        release.rollback(deux, first)
    assert current(deux).name == closed(deux).name == second


@pytest.mark.parametrize("unknown", ["2000-01-01-1", "../work", "", ".."])
def test_rollback_refuses_an_unknown_release(unknown: str, deux: Home) -> None:
    before = current(deux)
    with pytest.raises(release.ReleaseError, match="pas de publication"):
        release.rollback(deux, unknown)
    assert current(deux) == before


def test_readers_of_the_old_release_keep_it_during_a_switch(candidat: Home) -> None:
    link = candidat.releases / "current"
    sql = "select sum(valeur) from fct_observation where territoire_niveau = 'national' and est_derniere_version"
    with (
        duckdb.connect(str(link / "dernier_kilometre.duckdb"), read_only=True) as con,
        (link / "parquet" / "fct_observation.parquet").open("rb") as stream,
    ):
        before = con.execute(sql).fetchone()
        start = stream.read(1000)
        assert release.publish(candidat)[1]
        after = con.execute(sql).fetchone()
        rest = hashlib.sha256(start + stream.read()).hexdigest()
        old = release.release_ids(candidat)[0]
        assert after == before
        assert f"{rest}  parquet/fct_observation.parquet" in (candidat.releases / old / "SHA256SUMS").read_text()
    with duckdb.connect(str(link / "dernier_kilometre.duckdb"), read_only=True) as con:
        assert con.execute(sql).fetchone()[0] == before[0] + 7


# --- what a release holds ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def publiee(embedded: Run) -> Path:
    assert embedded.code == 0, embedded.output
    return current(embedded.home)


def test_release_files_are_read_only_and_summed(publiee: Path) -> None:
    assert_whole(publiee)
    files = [p for p in publiee.rglob("*") if p.is_file()]
    beside = sorted(p.relative_to(publiee).as_posix() for p in files if p.relative_to(publiee).parts[0] not in ("parquet", "pages"))
    assert beside == ["SHA256SUMS", "changes.md", "checks.json", "datapackage.json", "dernier_kilometre.duckdb", "dictionnaire.json"]
    tables = json.loads((publiee / "datapackage.json").read_text(encoding="utf-8"))["resources"]
    assert {p.stem for p in (publiee / "parquet").iterdir()} == {table["name"] for table in tables}
    assert {p.name: oct(p.stat().st_mode & 0o777) for p in files} == {p.name: "0o444" for p in files}


NUMERIC = {pl.Int32: "integer", pl.Int64: "integer", pl.Float64: "number"}
TYPES = NUMERIC | {pl.String: "string", pl.Date: "date", pl.Boolean: "boolean"}


def test_datapackage_describes_every_table_and_tells_the_truth(publiee: Path) -> None:
    package = json.loads((publiee / "datapackage.json").read_text(encoding="utf-8"))
    assert package["id"] == publiee.name
    assert package["licenses"][0]["name"] == "LO-2.0"
    tables = {p.stem: p for p in (publiee / "parquet").glob("*.parquet")}
    assert [r["name"] for r in package["resources"]] == sorted(tables)
    for resource in package["resources"]:
        path = tables[resource["name"]]
        assert publiee / resource["path"] == path
        assert (resource["bytes"], resource["hash"]) == (path.stat().st_size, f"sha256:{release.sha256_file(path)}")
        assert len(resource["description"]) > 20
        frame = pl.read_parquet(path)
        fields = resource["schema"]["fields"]
        assert [(f["name"], f["type"]) for f in fields] == [(n, TYPES[type(t)]) for n, t in frame.schema.items()], path.stem
        assert [f["name"] for f in fields if not f["description"].strip()] == []
        assert [f["name"] for f in fields if f["type"] in ("integer", "number") and not f.get("unit")] == [], path.stem
        if key := resource["schema"].get("primaryKey"):
            assert frame.select(key).is_duplicated().sum() == 0, path.stem
    assert sum("primaryKey" in r["schema"] for r in package["resources"]) >= 10
    declared = load_sources()
    assert {s["source_id"]: (s["licence"], s["title"]) for s in package["sources"]} == {
        name: (s.meta.licence, s.meta.citation) for name, s in declared.items()
    }


def test_checks_are_complete_and_true(publiee: Path, embedded: Run) -> None:
    evidence = json.loads((publiee / "checks.json").read_text(encoding="utf-8"))
    assert evidence["empreinte_publique"] == release.candidate_fingerprint(publiee)
    assert evidence["empreinte_candidat"] == release.candidate_fingerprint(closed(embedded.home))
    controls = evidence["controles"]
    manifest = release.load_manifest(embedded.home)
    assert {c["controle"] for c in controls if c["etape"] == "entrepot"} == set(release.expected_dbt_tests(manifest))
    from expectations.release import expected_checks

    expected = set(expected_checks(release.keys_of(manifest)))
    assert {(c["cible"], c["controle"]) for c in controls if c["etape"] == "candidat"} == expected
    from expectations.release import expected_public_checks

    scanned = {p.stem for p in (publiee / "parquet").glob("*.parquet")} - {"audit_controle"}
    assert {(c["cible"], c["controle"]) for c in controls if c["etape"] == "diffusion"} == set(expected_public_checks(sorted(scanned)))
    arrived = {c["cible"].split(":")[0] for c in controls if c["etape"] == "arrivee"}
    assert arrived == {s.source_id for s in load_sources().values() if s.meta.embarque != "non"}
    assert {c["resultat"] for c in controls} == {"réussi"}
    # What a check says it observed is what the table holds.
    by_name = {(c["cible"], c["controle"]): c["observe"] for c in controls}
    assert by_name["dim_intervention", "interventions"] == "46"
    for table in ("dim_indicateur", "mart_couverture", "dim_source"):
        rows = pl.read_parquet(publiee / "parquet" / f"{table}.parquet").height
        assert by_name[table, "lignes"] == str(rows)
    audit = pl.read_parquet(publiee / "parquet" / "audit_controle.parquet")
    assert sorted(audit.rows()) == sorted(tuple(c[n] for n in audit.columns) for c in controls)


def test_first_release_notes_count_its_rows(publiee: Path) -> None:
    notes = (publiee / "changes.md").read_text(encoding="utf-8")
    assert notes.startswith(f"# Publication {publiee.name}\n\nPremière publication.\n")
    for path in (publiee / "parquet").glob("*.parquet"):
        assert f"| {path.stem} | 0 | {pl.scan_parquet(path).select(pl.len()).collect().item()} |" in notes


# --- two runs at once, two homes --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def autre(tmp_path_factory: pytest.TempPathFactory) -> tuple[Home, dict[str, subprocess.CompletedProcess[str]]]:
    """A second embedded installation, during whose run two others are tried: one at once, one that waits."""
    where = Home(tmp_path_factory.mktemp("autre") / "dk")
    started = {}
    done = {}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    started["premier"] = subprocess.Popen([str(DK), "run"], env=environment(where.root), **pipes)
    limit = time.monotonic() + 60
    while not (where.work / "verrou").exists():
        assert started["premier"].poll() is None and time.monotonic() < limit
        time.sleep(0.05)
    done["pressé"] = dk(where.root, "run")
    assert started["premier"].poll() is None, "le premier devait encore tourner"
    started["patient"] = subprocess.Popen([str(DK), "run", "--wait", "200"], env=environment(where.root), **pipes)
    for name, process in started.items():
        out, err = process.communicate(timeout=200)
        done[name] = subprocess.CompletedProcess([], process.returncode, out, err)
    return where, done


def test_second_run_at_once_is_told_to_wait(autre: tuple[Home, dict[str, subprocess.CompletedProcess[str]]]) -> None:
    where, done = autre
    assert done["pressé"].returncode == 75
    assert done["pressé"].stderr == (
        f"Erreur : une autre exécution tient {where.root} ; attendre qu'elle finisse, ou lancer « dk run --wait 600 » pour patienter\n"
    )
    assert "(nouvelle)" in succeeded(done["premier"])


def test_run_that_waits_has_its_turn(autre: tuple[Home, dict[str, subprocess.CompletedProcess[str]]]) -> None:
    where, done = autre
    assert f"Publication {current(where).name} (inchangée)" in succeeded(done["patient"])
    assert len(release.release_ids(where)) == 1


def test_same_snapshots_give_the_same_bytes(
    autre: tuple[Home, dict[str, subprocess.CompletedProcess[str]]], embedded: Run, publiee: Path
) -> None:
    where, done = autre
    succeeded(done["premier"])
    blobs = [{p.name for p in (h.snapshots / "blobs").rglob("*") if p.is_file()} for h in (where, embedded.home)]
    assert blobs[0] == blobs[1] and len(blobs[0]) > 50
    sums = [{p.name: release.sha256_file(p) for p in (f / "parquet").iterdir()} for f in (current(where), publiee)]
    assert len(sums[0]) == 25 and sums[0] == sums[1]


# --- a producer that changes a value without a word -------------------------------------------------------------


def test_silent_revision_is_published_with_both_values(revision: Revision) -> None:
    assert revision.code == 0, revision.output
    notes = (revision.home.releases / "current" / "changes.md").read_text(encoding="utf-8")
    assert (
        f"- population_municipale, commune {revision.commune}, 2023-01-01 : {revision.avant} → {revision.apres} (etalab__communes)"
        in notes
    )
    assert "| population_municipale | 0 | 0 | 7 |" in notes, "la commune et les six territoires qui l'englobent"
    assert re.search(r"national FR, 2023-01-01 : 68350798 → 68350805 ", notes)


def test_old_version_of_a_revised_value_is_kept(revision: Revision) -> None:
    first, second = release.release_ids(revision.home)
    key = ["indicateur_id", "territoire_niveau", "territoire_code", "periode_debut", "periode_fin"]
    before, after = (
        pl.read_parquet(revision.home.releases / name / "parquet" / "fct_observation.parquet") for name in (first, second)
    )
    versions = after.filter(
        territoire_niveau="commune", territoire_code=revision.commune, periode_debut=pl.date(2023, 1, 1)
    ).sort("connue_le", "est_derniere_version")
    assert versions["valeur"].to_list() == [revision.avant, revision.apres]
    assert versions["est_derniere_version"].to_list() == [False, True]
    old, new = versions.to_dicts()
    assert old["connue_le"] < new["connue_le"] and old["snapshot_sha256"] != new["snapshot_sha256"]
    assert (revision.home.snapshots / "blobs" / old["snapshot_sha256"][:2] / old["snapshot_sha256"]).is_file()
    # Append-only: whatever the first release said is still there, and each key has one last version.
    said = [*key, "valeur", "statut_valeur", "snapshot_sha256", "connue_le"]
    assert before.join(after, on=said, how="anti", nulls_equal=True).height == 0
    assert after.height == before.height + 7
    last = after.filter("est_derniere_version")
    assert last.height == before.height and last.select(key).is_duplicated().sum() == 0
