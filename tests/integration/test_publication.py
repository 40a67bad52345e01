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
from orchestration.diffusion import redacted
from orchestration.notes import REVISION
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


def _add_a_file(where: Home) -> None:
    (where.candidate / "parquet" / "LISEZMOI.txt").write_text("rien à voir")


def _link_a_table(where: Home) -> None:
    """Same bytes today, and tomorrow those that the owner of the other file wants."""
    path = where.candidate / "parquet" / "dim_source.parquet"
    path.rename(where.work / "ailleurs.parquet")
    path.symlink_to(where.work / "ailleurs.parquet")


def _add_a_public_file(where: Home) -> None:
    (release.public_folder(where) / "parquet" / "LISEZMOI.txt").write_text("rien à voir")


def _link_a_public_table(where: Home) -> None:
    path = release.public_folder(where) / "parquet" / "dim_source.parquet"
    path.rename(where.work / "ailleurs.parquet")
    path.symlink_to(where.work / "ailleurs.parquet")


def _link_the_public_side(where: Home) -> None:
    """It would be a link that is put into releases/."""
    folder = release.public_folder(where)
    folder.rename(where.work / "ailleurs")
    folder.symlink_to(where.work / "ailleurs")


def _link_the_evidence(where: Home) -> None:
    path = where.candidate / "checks.json"
    path.rename(where.work / "ailleurs.json")
    path.symlink_to(where.work / "ailleurs.json")


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
        controls = evidence_of(where)["controles"]
        shown = redacted(controls, release.published_models(release.load_manifest(where)))
        for folder, rows in ((where.candidate, controls), (release.public_folder(where), shown)):
            _write_audit(folder / "parquet" / "audit_controle.parquet", rows)

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
        (_remove_control_everywhere("arrivee"), "1 contrôles attendus n'ont pas été faits"),
        (_add_a_file, r"fichiers que rien ne déclare.*LISEZMOI\.txt"),
        (_link_a_table, r"fichiers que rien ne déclare.*dim_source\.parquet"),
        (_add_a_public_file, r"fichiers que rien ne déclare.*LISEZMOI\.txt"),
        (_link_a_public_table, r"fichiers que rien ne déclare.*dim_source\.parquet"),
        (_link_the_public_side, r"fichiers que rien ne déclare.*candidat_public"),
        (_link_the_evidence, r"fichiers que rien ne déclare.*checks\.json"),
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


# --- evidence and candidate changed together --------------------------------------------------------------------


def forge(where: Home, change: Callable[[list[dict[str, Any]]], None] = lambda controls: None, **more: Any) -> None:
    """Whoever can write in work/ makes all of the stored evidence agree with itself and with both sides of the candidate."""
    evidence = evidence_of(where)
    change(evidence["controles"])
    models = release.published_models(release.load_manifest(where))
    for folder, shown in ((where.candidate, evidence["controles"]), (release.public_folder(where), redacted(evidence["controles"], models))):
        _write_audit(folder / "parquet" / "audit_controle.parquet", shown)
    evidence["empreinte_candidat"] = release.candidate_fingerprint(where.candidate)
    evidence["empreinte_publique"] = release.candidate_fingerprint(release.public_folder(where))
    store(where, evidence | more)


def where_hidden(where: Home) -> Path:
    """The exact observations of the candidate, of which the public side hides some."""
    path = where.candidate / "parquet" / "fct_observation.parquet"
    public = release.public_folder(where) / "parquet" / path.name
    assert pl.scan_parquet(public).filter(pl.col("statut_valeur") == "secret").select(pl.len()).collect().item() > 100
    return path


def _all_passed(controls: list[dict[str, Any]]) -> None:
    for control in controls:
        control["resultat"], control["detail"] = "réussi", ""


def _nothing_blocks(controls: list[dict[str, Any]]) -> None:
    for control in controls:
        control["bloquant"] = False


def _an_undeclared_check(controls: list[dict[str, Any]]) -> None:
    controls.append(controls[-1] | {"controle": "tout_va_bien"})


def _a_check_twice(controls: list[dict[str, Any]]) -> None:
    controls.append(controls[-1])


def _not_one_on_arrival(controls: list[dict[str, Any]]) -> None:
    controls[:] = [c for c in controls if c["etape"] != "arrivee"]


def test_forging_nothing_is_published(candidat: Home) -> None:
    forge(candidat)
    assert release.publish(candidat)[1]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_nothing_blocks, r"un nouvel examen trouve : .* y est « réussi » \(non bloquant\), l'examen dit « réussi » \(bloquant\)"),
        (_an_undeclared_check, "1 contrôles que rien ne déclare, dont (candidat|diffusion) / .* / tout_va_bien"),
        (_a_check_twice, "1 contrôles que rien ne déclare"),
        (_not_one_on_arrival, r"\d+ contrôles attendus n'ont pas été faits"),
    ],
)
def test_forged_evidence_of_a_sound_candidate_is_refused(change: Callable[[list], None], reason: str, candidat: Home) -> None:
    forge(candidat, change)
    assert_refused(candidat, reason)


@pytest.mark.parametrize(
    "marks", [{"mention": None}, {"mention": "données réelles"}, {"secret": {"cellules": 0, "part_primaire": 0.0, "part_secondaire": 0.0, "niveaux": {}}}]
)
def test_forged_mention_or_share_of_the_secret_is_refused(marks: dict[str, Any], candidat: Home) -> None:
    """They give the release its name and its notes: a demonstration that does not say so would be taken for real."""
    forge(candidat, **marks)
    assert_refused(candidat, "ne disent plus sa mention ou la part de son secret")


@pytest.mark.parametrize("change", [lambda controls: None, _all_passed, _nothing_blocks])
def test_public_side_that_shows_a_hidden_cell_with_forged_evidence_is_refused(change: Callable[[list], None], candidat: Home) -> None:
    exact = where_hidden(candidat)
    shutil.copyfile(exact, release.public_folder(candidat) / "parquet" / exact.name)
    forge(candidat, change)
    assert_refused(candidat, "ne sont pas ce qu'un nouvel examen trouve")


@pytest.mark.parametrize("table", ["mart_couverture", "dim_territoire", "audit_secret"])
def test_public_table_that_the_secret_does_not_give_is_refused(table: str, candidat: Home) -> None:
    """No check of its own speaks of these: only making the public side again tells."""
    path = release.public_folder(candidat) / "parquet" / f"{table}.parquet"
    pl.read_parquet(path).reverse().write_parquet(path)
    forge(candidat)
    assert_refused(candidat, f"la version publique n'est pas celle .* : {table} ;")


@pytest.mark.parametrize("change", [lambda controls: None, _all_passed, _nothing_blocks])
def test_bad_candidate_with_forged_evidence_is_refused(change: Callable[[list], None], candidat: Home) -> None:
    """The verdicts of the sound candidate, then better ones, stand beside a candidate that was changed since."""
    _same_row_twice(candidat)
    forge(candidat, change)
    assert_refused(candidat, "ne sont pas ce qu'un nouvel examen trouve")


@pytest.mark.parametrize("change", [_all_passed, _nothing_blocks])
def test_failed_check_forged_into_another_is_refused(
    change: Callable[[list], None], candidat: Home, audit_again: Callable[[], list[dict]]
) -> None:
    _same_row_twice(candidat)
    assert [c["controle"] for c in release.blocking_failures(audit_again())] == ["cles_en_double"]
    forge(candidat, change)
    assert_refused(candidat, "ne sont pas ce qu'un nouvel examen trouve")


def test_failed_dbt_test_forged_into_a_passed_one_is_refused(candidat: Home, audit_again: Callable[[], list[dict]]) -> None:
    path = candidat.work / "dbt" / "run_results.json"
    results = json.loads(path.read_text(encoding="utf-8"))
    test = next(r for r in results["results"] if r["unique_id"].startswith("test."))
    test["status"] = "fail"
    path.write_text(json.dumps(results), encoding="utf-8")
    audit_again()
    forge(candidat, _all_passed)
    assert_refused(candidat, re.escape(test["unique_id"]) + r" y est « réussi » \(bloquant\), l'examen dit « échoué »")


@pytest.mark.parametrize("name", ["run_results", "manifest"])
def test_results_of_another_build_are_refused(name: str, candidat: Home) -> None:
    path = candidat.work / "dbt" / f"{name}.json"
    path.write_text(path.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    assert_refused(candidat, f"{name}.json n'est plus celui de la dernière construction")


def test_candidate_of_an_older_build_is_refused(candidat: Home) -> None:
    record = json.loads((candidat.work / release.BUILD).read_text(encoding="utf-8"))
    release.record_build(candidat, "0" * 64, record["arrivee"])
    assert_refused(candidat, "ce candidat vient d'une autre construction que la dernière")
    forge_inputs = evidence_of(candidat) | {"empreinte_construction": release.last_build(candidat).empreinte}
    store(candidat, forge_inputs)
    # The inputs that it says are not those of that build: the next run would think them published.
    assert_refused(candidat, "ce candidat vient d'une autre construction que la dernière")


def test_build_that_died_leaves_nothing_to_publish(candidat: Home) -> None:
    (candidat.work / release.BUILD).unlink()
    assert_refused(candidat, r"aucune construction achevée \(construction\.json manque\)")
    with pytest.raises(release.PublicationRefused, match="aucune construction achevée"):
        release.write_candidate(candidat, release.load_manifest(candidat))


def test_warehouse_that_changed_since_its_tests_makes_no_candidate(candidat: Home) -> None:
    candidat.warehouse.write_bytes(b"un autre")
    with pytest.raises(release.PublicationRefused, match=r"entrepot\.duckdb a changé depuis que ses tests ont passé"):
        release.write_candidate(candidat, release.load_manifest(candidat))
    assert (candidat.candidate / "checks.json").exists()


def test_inputs_are_those_at_the_start_of_the_build(candidat: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """A delivery that lands after the build is not in the candidate: its evidence must not say so."""
    from orchestration import dbt as dbt_runner

    before = release.inputs_fingerprint(candidat)
    results = json.loads((candidat.work / "dbt" / "run_results.json").read_text(encoding="utf-8"))
    monkeypatch.setattr(dbt_runner, "build", lambda where: results)
    assert release.build(candidat) == results
    state = next((candidat.landing / "etats").glob("*.json"))
    content = json.loads(state.read_text(encoding="utf-8"))
    state.write_text(json.dumps(content | {"cle": "une autre livraison"}), encoding="utf-8")
    release.audit_candidate(candidat, release.load_manifest(candidat))
    assert evidence_of(candidat)["empreinte_entrees"] == before != release.inputs_fingerprint(candidat)
    assert release.publish(candidat)[1]
    # … so that the next run builds it.
    assert not release.already_published(candidat, release.inputs_fingerprint(candidat))


def test_inputs_that_change_during_the_build_refuse_it(candidat: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    from orchestration import dbt as dbt_runner

    def build(where: Home) -> dict[str, Any]:
        state = next((where.landing / "etats").glob("*.json"))
        content = json.loads(state.read_text(encoding="utf-8"))
        state.write_text(json.dumps(content | {"cle": "une autre livraison"}), encoding="utf-8")
        return {"results": []}

    monkeypatch.setattr(dbt_runner, "build", build)
    with pytest.raises(dbt_runner.BuildFailed, match="ont changé pendant la construction"):
        release.build(candidat)
    assert_refused(candidat, "aucune construction achevée")


@pytest.mark.parametrize("flip", [_flip_a_byte, _flip_a_public_byte])
def test_candidate_that_changes_during_publication_is_refused(
    flip: Callable[[Home], None], candidat: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = release.changes

    def late(*arguments: Any) -> str:
        if arguments[1] == (candidat.candidate if flip is _flip_a_byte else release.public_folder(candidat)):
            flip(candidat)
        return real(*arguments)

    monkeypatch.setattr(release, "changes", late)
    assert_refused(candidat, "le candidat a changé pendant sa publication")


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
        [sys.executable, "-c", script], env=environment(candidat.root), capture_output=True, text=True, timeout=400
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
    assert release.release_ids(candidat) == [before.name]
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
def half_written(folder, nodes):
    real(folder, nodes)
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
        assert_whole(release.evaluators_folder(candidat) / name)
    # Whatever the links say, a reader who asks for the current release gets the same one on both sides.
    assert release.release_folder(candidat, "current", evaluators=True).name == now.name
    # What nobody was pointed to is not listed, cannot be asked for, and bears no id twice.
    assert release.release_ids(candidat) == list(dict.fromkeys([old.name, now.name]))
    roots = (candidat.releases, release.evaluators_folder(candidat))
    left, twins = ({p.name for p in root.iterdir() if p.is_dir() and not p.is_symlink()} - {old.name, now.name} for root in roots)
    assert len(left) == (point in AFTER_RENAME[:3])
    assert len(twins) == (point in ["entre les deux renommages", *AFTER_RENAME[:3]])
    for name in left:
        assert name not in succeeded(dk(candidat.root, "releases"))
        for side in ([], ["--evaluateurs"]):
            assert dk(candidat.root, "query", "select 1", "--release", name, *side).returncode == 1
    release.reconcile(candidat)
    assert closed(candidat).name == now.name and release.orphans(candidat) == []
    if point != "après la bascule":
        assert release.publish(candidat) == (current(candidat).name, True)
        assert current(candidat) != old and (not left or {current(candidat).name} == left)
        assert_whole(current(candidat))
        assert_whole(closed(candidat))


def test_first_publication_killed_before_its_switch_is_ended_by_the_next(candidat: Home) -> None:
    only = current(candidat)
    for root in (candidat.releases, release.evaluators_folder(candidat)):
        (root / "current").unlink()
        shutil.rmtree(root / only.name)
    killed_at("entre le renommage et la bascule", candidat)
    assert release.current_release(candidat) is None and release.release_ids(candidat) == []
    name, new = release.publish(candidat)
    assert new and release.release_ids(candidat) == [name] == [current(candidat).name] == [closed(candidat).name]


def spare(where: Home) -> Callable[[], None]:
    """Keeps a copy of both sides of the candidate; what it returns puts them back."""
    sides = (where.candidate, release.public_folder(where))
    for folder in sides:
        shutil.copytree(folder, where.work / f"autre_{folder.name}")

    def give_back() -> None:
        for folder in sides:
            (where.work / f"autre_{folder.name}").rename(folder)

    return give_back


def test_candidate_made_since_a_killed_publication_comes_after_it(candidat: Home) -> None:
    old = current(candidat)
    give_back = spare(candidat)
    killed_at("entre le renommage et la bascule", candidat)
    give_back()
    # Same data as what was left: that is put in service, and the candidate teaches nothing.
    name, new = release.publish(candidat)
    assert not new and current(candidat).name == name != old.name
    assert release.release_ids(candidat) == [old.name, name]


@pytest.mark.parametrize("damage", ["public", "évaluateurs", "sans évaluateurs", "évaluateurs d'une autre"])
def test_leftover_that_is_not_whole_goes(damage: str, candidat: Home) -> None:
    old = current(candidat)
    give_back = spare(candidat)
    killed_at("entre le renommage et la bascule", candidat)
    (left,) = release.unfinished(candidat)
    twin = release.evaluators_folder(candidat) / left
    if damage == "public":
        (candidat.releases / left / "changes.md").unlink()
    elif damage == "évaluateurs":
        (twin / "parquet" / "secret_cellule.parquet").unlink()
    else:
        shutil.rmtree(twin)
    if damage == "évaluateurs d'une autre":
        shutil.copytree(closed(candidat), twin)
    give_back()
    assert release.publish(candidat) == (left, True), "son numéro est libre"
    assert release.release_ids(candidat) == [old.name, left]
    assert_whole(current(candidat))
    assert_whole(closed(candidat))


def test_rollback_drops_what_a_killed_publication_left(deux: Home) -> None:
    first, second = release.release_ids(deux)
    day, rank = second.rsplit("-", 1)
    left = f"{day}-{int(rank) + 1}"
    roots = (deux.releases, release.evaluators_folder(deux))
    for root in roots:
        shutil.copytree(root / second, root / left)
    assert release.unfinished(deux) == [left]
    assert dk(deux.root, "rollback", left).returncode == 1
    succeeded(dk(deux.root, "rollback", first))
    assert release.release_ids(deux) == [first, second] and release.withdrawn(deux) == [second]
    assert not any((root / left).exists() for root in roots) and closed(deux).name == first


def test_releases_that_a_rollback_withdrew_are_not_taken_for_leftovers(deux: Home) -> None:
    first, second = release.release_ids(deux)
    release.rollback(deux, first)
    assert release.unfinished(deux) == [] and release.recover(deux) is None
    assert current(deux).name == first and release.release_ids(deux) == [first, second]


def test_rollback_that_died_after_writing_its_list_changes_nothing(deux: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = release.release_ids(deux)
    with monkeypatch.context() as patch:
        patch.setattr(release, "point_current", _full)
        with pytest.raises(OSError):
            release.rollback(deux, first)
    assert current(deux).name == second and release.withdrawn(deux) == []
    assert release.release_ids(deux) == [first, second]


def test_ids_grow_even_when_the_clock_goes_back(candidat: Home) -> None:
    import datetime as dt

    old = current(candidat)
    day = dt.date.fromisoformat(old.name.removeprefix("demo-").rsplit("-", 1)[0])
    name, new = release.publish(candidat, day - dt.timedelta(days=30))
    assert (name, new) == (f"demo-{day}-2", True)
    assert release.unfinished(candidat) == [] and release.release_ids(candidat) == [old.name, name]


# --- names that are not those of releases -----------------------------------------------------------------------

ODD = ["2026-01-01-abc", "2026-01-01", "copie-2026-01-01-1", "2026-01-01-1.bak", "a-b-c-d", "2026-1-1-1", "２026-01-01-1", "2026-01-01-1 "]


@pytest.fixture
def encombree(deux: Home) -> Home:
    for root in (deux.releases, release.evaluators_folder(deux)):
        for name in ODD:
            shutil.copytree(root / release.release_ids(deux)[0], root / name)
    (deux.releases / "2000-01-01-1").write_text("un fichier")
    (deux.releases / "2000-01-01-2").symlink_to(release.release_ids(deux)[0])
    return deux


def test_folders_with_other_names_are_nobodys_releases(encombree: Home) -> None:
    first, second = release.release_ids(encombree)
    assert [line.split()[0].strip("*") or line.split()[1] for line in succeeded(dk(encombree.root, "releases")).splitlines()] == [first, second]
    for name in [*ODD, "2000-01-01-1", "2000-01-01-2", "retirees", f"{first}/../{second}", f"./{first}"]:
        for command in (["rollback", name], ["diff", name], ["diff", first, name], ["query", "select 1", "--release", name],
                        ["explain", "population_municipale", "23096", "--release", name]):  # fmt: skip
            done = dk(encombree.root, *command)
            assert done.returncode in (1, 2) and f"pas de publication « {name} »" in done.stderr, (command, done.stderr)
            assert "Traceback" not in done.stderr
        assert dk(encombree.root, "query", "select 1", "--evaluateurs", "--release", name).returncode == 1
    assert current(encombree).name == second
    # What is nobody's release is nobody's to remove.
    release.reconcile(encombree)
    assert {p.name for p in release.evaluators_folder(encombree).iterdir()} == {*ODD, first, second, "current"}


def test_releases_with_and_without_demonstration_are_in_one_order(deux: Home) -> None:
    first, second = release.release_ids(deux)
    assert first.startswith("demo-") and second.startswith("demo-")
    real = first.removeprefix("demo-")
    for root in (deux.releases, release.evaluators_folder(deux)):
        (root / first).rename(root / real)
    assert release.release_ids(deux) == [real, second]
    assert release.rollback(deux, real) == real == current(deux).name == closed(deux).name
    assert release.withdrawn(deux) == [second]


@pytest.mark.parametrize("point", ["au milieu du fichier DuckDB", "entre les deux renommages", "au milieu de la bascule", "entre les deux bascules"])
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


@pytest.mark.parametrize("damage", ["changed", "missing", "whole side missing", "that of another release"])
def test_rollback_refuses_a_damaged_evaluators_side(damage: str, deux: Home) -> None:
    first, second = release.release_ids(deux)
    twin = release.evaluators_folder(deux) / first
    path = twin / "parquet" / "secret_cellule.parquet"
    content, told = path.read_bytes(), "parquet/secret_cellule.parquet"
    path.unlink()
    if damage == "changed":
        path.write_bytes(content + b"x")
    elif damage != "missing":
        shutil.rmtree(twin)
        told = "le dossier manque"
    if damage == "that of another release":
        shutil.copytree(closed(deux), twin)
        told = "ce sont les octets d'une autre publication"
    with pytest.raises(release.ReleaseError, match=rf"{first} \(version pour évaluateurs\) : {told}"):
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
    sql = (
        "select sum(valeur) from fct_observation where indicateur_id = 'population_municipale' "
        "and territoire_niveau = 'national' and est_derniere_version"
    )
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
    assert {item["name"] for item in package["licenses"]} == {
        name.replace(" ", "-") for s in load_sources().values() for name in s.licences
    }
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
        name: (" ; ".join(s.licences), s.meta.citation) for name, s in declared.items()
    }
    # A source has a path or none at all, never an empty one.
    assert {s["source_id"]: s["path"] for s in package["sources"] if "path" in s} == {
        name: s.meta.page for name, s in declared.items() if s.meta.page
    }


# What the Data Package, Data Resource and Table Schema specifications (v1) ask of each property that may stand in ours:
# https://specs.frictionlessdata.io. Their own text of it needs a package that is not in the lock; these are its rules.
_NAME = {"type": "string", "pattern": "^[-a-z0-9._/]+$"}
_TEXT = {"type": "string", "minLength": 1}
_PATH = {"type": "string", "pattern": r"^(?=^[^./~])(^((?!\.{2}).)*$).*$"}
_TYPES = [
    "string", "number", "integer", "boolean", "object", "array", "date", "time", "datetime", "year", "yearmonth", "duration",
    "geopoint", "geojson", "any",
]  # fmt: skip
_LICENCE = {
    "type": "object",
    "properties": {"name": {"type": "string", "pattern": "^[-a-zA-Z0-9._]+$"}, "path": _PATH, "title": _TEXT},
    "anyOf": [{"required": ["name"]}, {"required": ["path"]}],
}
_SOURCE = {
    "type": "object", "required": ["title"], "properties": {"title": _TEXT, "path": _PATH, "email": {"type": "string", "format": "email"}},
}  # fmt: skip
_FIELD = {
    "type": "object", "required": ["name"],
    "properties": {"name": _TEXT, "type": {"enum": _TYPES}, "title": _TEXT, "description": _TEXT, "format": _TEXT},
}  # fmt: skip
_RESOURCE = {
    "type": "object", "required": ["name", "path"], "not": {"required": ["data"]},
    "properties": {
        "name": _NAME, "path": _PATH, "profile": _TEXT, "title": _TEXT, "description": _TEXT, "format": _TEXT,
        "mediatype": {"type": "string", "pattern": "^(.+)/(.+)$"}, "encoding": _TEXT, "bytes": {"type": "integer", "minimum": 0},
        "hash": {"type": "string", "pattern": "^([^:]+:[a-fA-F0-9]+|[a-fA-F0-9]{32}|)$"},
        "schema": {
            "type": "object", "required": ["fields"],
            "properties": {
                "fields": {"type": "array", "minItems": 1, "items": _FIELD, "uniqueItems": True},
                "primaryKey": {"type": "array", "minItems": 1, "uniqueItems": True, "items": _TEXT},
                "missingValues": {"type": "array", "items": {"type": "string"}},
            },
        },
    },
}  # fmt: skip
DATA_PACKAGE = {
    "$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object", "required": ["resources"],
    "properties": {
        "profile": {"enum": ["data-package", "tabular-data-package"]}, "name": _NAME, "id": _TEXT, "title": _TEXT, "version": _TEXT,
        "created": {
            "type": "string", "pattern": r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?(Z|[+-]\d{2}:\d{2})$",
        },
        "licenses": {"type": "array", "minItems": 1, "items": _LICENCE}, "sources": {"type": "array", "minItems": 1, "items": _SOURCE},
        "resources": {"type": "array", "minItems": 1, "items": _RESOURCE},
    },
}  # fmt: skip


def breaches(package: dict[str, Any]) -> list[str]:
    """Where a descriptor departs from the standard, the uniqueness and references that a JSON schema cannot say included."""
    from jsonschema import Draft202012Validator

    found = [f"{error.json_path} : {error.message}" for error in Draft202012Validator(DATA_PACKAGE).iter_errors(package)]
    names = [resource["name"] for resource in package["resources"]]
    found += [f"{name} deux fois" for name in set(names) if names.count(name) > 1]
    for resource in package["resources"]:
        fields = [field["name"] for field in resource["schema"]["fields"]]
        found += [f"{resource['name']} : {key} n'est pas un champ" for key in resource["schema"].get("primaryKey", []) if key not in fields]
    return found


def test_datapackage_follows_the_standard(publiee: Path) -> None:
    package = json.loads((publiee / "datapackage.json").read_text(encoding="utf-8"))
    assert breaches(package) == []
    # … as it would say of a descriptor that does not.
    for change, where in (
        ({"sources": [{"title": "t", "path": None}]}, "$.sources[0].path"), ({"licenses": [{"title": "t"}]}, "$.licenses[0]"),
        ({"resources": [*package["resources"], package["resources"][0]]}, "deux fois"), ({"created": "hier"}, "$.created"),
    ):  # fmt: skip
        assert [line for line in breaches(package | change) if where in line], where


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
    demonstration = {name for name in load_sources() if name.startswith(("interne__", "demonstration__"))}
    assert arrived == {s.source_id for s in load_sources().values() if s.meta.embarque != "non"} | demonstration
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
    assert notes.startswith(f"# Publication {publiee.name}\n\n**Données de démonstration**") and "\nPremière publication.\n" in notes
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
    assert len(sums[0]) > 25 and sums[0] == sums[1]


# --- a producer that changes a value without a word -------------------------------------------------------------


def test_silent_revision_is_published_with_both_values(revision: Revision) -> None:
    assert revision.code == 0, revision.output
    notes = (revision.home.releases / "current" / "changes.md").read_text(encoding="utf-8")
    assert (
        f"- population_municipale, commune {revision.commune}, 2023-01-01 : {revision.avant} → {revision.apres} (etalab__communes ; {REVISION})"
        in notes
    )
    # What rests on the population of the commune moved too; only what its producer published is said to be revised by it.
    [brief] = [line for line in notes.splitlines() if "déjà publiées ont changé" in line]
    assert f"{REVISION} (7)" in brief
    assert f"| Population municipale (`population_municipale`) | 0 | 0 | 7 | {REVISION} |" in notes, "la commune et les six territoires qui l'englobent"
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
    lost = before.join(after, on=said, how="anti", nulls_equal=True)
    # But for what internal records cover, which is counted on the population that stands (int_fait_interne): what it was is
    # in the release before and in the notes of this one.
    assert set(lost["indicateur_id"]) == {"ct_taux_couverture", "ct_population_action_livree"}
    moved = lost.join(after, on=key, how="inner")
    assert moved.height == lost.height and (moved["denominateur"] != moved["denominateur_right"]).all()
    assert after.height == before.height + 7
    last = after.filter("est_derniere_version")
    assert last.height == before.height and last.select(key).is_duplicated().sum() == 0
