"""dbt inside this process: parsing, building, and its results. No Dagster here.

A second interpreter would cost several seconds per call, and two processes cannot share a DuckDB file.
"""

from __future__ import annotations

import hashlib
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


REFERENTIELS = ("etalab__communes", "etalab__epci")


def variables(where: Home) -> list[str]:
    """Options of dbt that the landed data decide: the pivot vintage, once communes and EPCI of a younger COG have landed."""
    import yaml

    default = int(yaml.safe_load((DBT_DIR / "dbt_project.yml").read_text(encoding="utf-8"))["vars"]["cog_pivot"])
    newest = []
    for name in REFERENTIELS:
        # Cut or altered, it is written again by the landing that comes before the next build.
        etats = (read_json(where.landing / "etats" / f"{name}.json") or {"etats": []})["etats"]
        newest.append(max((etat["cog_annee"] or 0 for etat in etats if etat["snapshot_sha256"]), default=0))
    return ["--vars", json.dumps({"cog_pivot": min(newest)})] if min(newest) > default else []


def invoke(where: Home, *arguments: str, on_event: Any = None, manifest: Any = None) -> Any:
    """Runs one dbt command in process and returns its ``dbtRunnerResult``.

    ``on_event`` is called with each structured event, for progress. With ``manifest``, the project is not read again.
    """
    os.environ.update(environment(where))
    from dbt.cli.main import dbtRunner

    runner = dbtRunner(manifest=manifest, callbacks=[on_event] if on_event else [])
    return runner.invoke(
        [
            *arguments, *variables(where), "--project-dir", str(DBT_DIR), "--profiles-dir", str(DBT_DIR),
            "--log-level", "none", "--log-level-file", "info", "--no-version-check", "--no-use-colors",
        ]
    )  # fmt: skip


def _newest(folder: Path) -> float:
    return max(p.stat().st_mtime for p in folder.rglob("*") if p.suffix in {".sql", ".yml"})


def is_stale(where: Home) -> bool:
    """Whether the manifest cannot be read, or is older than some file of the project."""
    manifest = where.work / "dbt" / "manifest.json"
    return read_json(manifest) is None or manifest.stat().st_mtime < _newest(DBT_DIR)


def ensure_manifest(where: Home) -> Path:
    """Path of the project's manifest, read anew when it is stale; another process may be doing it already (``rules``).

    Raises BuildFailed when the project does not parse.
    """
    from orchestration import rules

    if is_stale(where):
        rules.wait_for_manifest(where)
    if is_stale(where):
        read_project(where)
    return where.work / "dbt" / "manifest.json"


def read_project(where: Home, target: Path | None = None) -> Any:
    """dbt's manifest of the project as an object, also written to ``target``, by default ``work/dbt``.

    Raises BuildFailed when the project does not parse.
    """
    result = invoke(where, "parse", "--target-path", str(target or where.work / "dbt"))
    if not result.success:
        raise BuildFailed(f"le projet dbt ne se lit pas : {result.exception}")
    return result.result


def build(where: Home, on_event: Any = None) -> dict[str, Any]:
    """Builds and tests the work database; returns dbt's run results, one for each model and test, as a document.

    What is there already from the same rules and the same inputs is kept, with the verdicts on it: the rows of a partial
    build are those of a full one. Raises BuildFailed only when dbt itself broke; failed models and tests are in the results.
    """
    from orchestration import rules

    rules.begin(where)
    fingerprint, inputs = rules_fingerprint(), inputs_content(where)
    kept = _kept(where, fingerprint)
    tracked = {"DK_REGLES": fingerprint, "DK_ENTREES": json.dumps(inputs)}
    if kept is None:
        for leftover in (where.warehouse, where.warehouse.with_suffix(".duckdb.wal")):
            leftover.unlink(missing_ok=True)
    (where.work / "dbt" / VERDICTS).unlink(missing_ok=True)
    _prepare(where)
    results = run(where, ["build", "--exclude-resource-type", "unit_test"] if kept is None else ["run"], tracked, on_event)
    if kept is not None and not build_errors(results):
        results = _judge_changed(where, results, kept, inputs, tracked, on_event)
    if not build_errors(results):
        size = where.warehouse.stat().st_size
        write(where.work / "dbt" / VERDICTS, {"regles": fingerprint, "entrees": inputs, "resultats": results["results"], "octets": size})
    results["results"] += rules.verdicts(where)
    write(where.work / "dbt" / "run_results.json", results)
    return results


VERDICTS = "verdicts.json"  # what the last complete build found, beside the database that it speaks of


def write(path: Path, document: Any) -> None:
    """Writes a JSON document whole or not at all."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(document), encoding="utf-8")
    os.replace(temporary, path)


def run(where: Home, arguments: list[str], tracked: dict[str, str], on_event: Any, manifest: Any = None) -> dict[str, Any]:
    """Runs one dbt command that leaves results, with these environment variables, and returns them as a document.

    Raises BuildFailed when dbt stopped before it wrote them.
    """
    path = where.work / "dbt" / "run_results.json"
    path.unlink(missing_ok=True)
    os.environ.update(tracked)
    try:
        result = invoke(where, *arguments, on_event=on_event, manifest=manifest)
    finally:
        _close()
        for name in tracked:
            os.environ.pop(name, None)
    if result.exception is not None or not path.exists():
        raise BuildFailed(f"dbt s'est arrêté : {result.exception}")
    return json.loads(path.read_text(encoding="utf-8"))


def rules_fingerprint() -> str:
    """Hash of what turns landed files into tables: the code, the memory setting left out, and the engines."""
    from importlib.metadata import version

    digest = hashlib.sha256()
    for folder in ("dbt_project", "orchestration", "ingestion"):
        for path in sorted((PROJECT / folder).rglob("*")):
            # Declarations and the catalogue reach the models by the landed files only, but for the YAML that dbt reads.
            if path.suffix in {".sql", ".yml", ".py"} and "__pycache__" not in path.parts:
                digest.update(path.relative_to(PROJECT).as_posix().encode() + b"\0" + path.read_bytes())
    for package in ("duckdb", "dbt-core", "dbt-duckdb", "polars", "diff-diff", "scipy", "numpy"):
        digest.update(f"{package}={version(package)}".encode())
    return digest.hexdigest()


def inputs_content(where: Home) -> dict[str, str]:
    """Hash of the landed files that each dbt source reads, by its identifier in the manifest."""
    manifest = json.loads(ensure_manifest(where).read_text(encoding="utf-8"))
    found = {}
    for uid, node in manifest["sources"].items():
        group, name = node["source_name"], node["identifier"]
        place = {"registre": f"registre/{name}.parquet", "arrivee": f"{name}/*.parquet"}.get(group, f"{name}.parquet")
        digest = hashlib.sha256()
        for path in sorted(where.landing.glob(place)):
            with path.open("rb") as stream:
                digest.update(path.name.encode() + hashlib.file_digest(stream, "sha256").digest())
        found[uid] = digest.hexdigest()
    return found


def _kept(where: Home, rules: str) -> dict[str, Any] | None:
    """What the last build left, when it was complete, made by these rules, and its database can still be read."""
    import duckdb

    path = where.work / "dbt" / VERDICTS
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        # DuckDB opens a file that was cut as long as what it lists is there, and fails on the tables that are not.
        if kept["regles"] != rules or where.warehouse.stat().st_size != kept["octets"]:
            return None
        kept["contenus"] = _contents(where)
    except (OSError, ValueError, KeyError, duckdb.Error):
        return None
    return kept


def _contents(where: Home) -> dict[str, str]:
    """Hash of the rows of each table of the work database, as the build noted it."""
    import duckdb

    with duckdb.connect(str(where.warehouse)) as con:
        return dict(con.execute("select modele, contenu from main.empreinte_modele").fetchall())


def _prepare(where: Home) -> None:
    import duckdb

    with duckdb.connect(str(where.warehouse)) as con:
        con.execute("create table if not exists main.empreinte_modele (modele varchar, cle varchar, contenu varchar)")


def _judge_changed(
    where: Home, built: dict[str, Any], kept: dict[str, Any], inputs: dict[str, str], tracked: dict[str, str], on_event: Any
) -> dict[str, Any]:
    """The results of a partial build with a verdict for every data test: anew where what it reads was built again, else as kept."""
    manifest = json.loads((where.work / "dbt" / "manifest.json").read_text(encoding="utf-8"))
    now = _contents(where)
    moved = {uid for uid, node in manifest["nodes"].items() if now.get(node["name"]) != kept["contenus"].get(node["name"])}
    # A view holds nothing: it says something else only when what it reads does.
    parents = {uid: set(node["depends_on"]["nodes"]) for uid, node in manifest["nodes"].items()}
    views = {uid for uid, node in manifest["nodes"].items() if node["config"].get("materialized") == "view"}
    moved |= {uid for uid, content in inputs.items() if kept["entrees"].get(uid) != content}
    while more := {uid for uid in views - moved if parents[uid] & moved}:
        moved |= more
    tests = {uid: node for uid, node in manifest["nodes"].items() if node["resource_type"] == "test"}
    before = {r["unique_id"]: r for r in kept["resultats"] if r["unique_id"] in tests}
    again = [uid for uid in tests if parents[uid] & moved or (before.get(uid) or {}).get("status") != "pass"]
    results = list(built["results"])
    if again:
        names = [tests[uid]["name"] for uid in again]
        results += run(where, ["test", "--select", *names, "--indirect-selection", "empty"], tracked, on_event)["results"]
    judged = {r["unique_id"] for r in results}
    results += [result for uid, result in before.items() if uid not in judged]
    return built | {"results": results}


def failing_rows(where: Home, manifest: dict[str, Any], results: dict[str, Any], limit: int = 10) -> dict[str, list[dict[str, str]]]:
    """Up to ``limit`` rows that each failed data test found, as text, by the test's identifier.

    A test that reads anything made from records that people sent gives none: these rows go to a screen that is not closed
    as those records are. Without records here, all that is in the warehouse was published by its producer.
    """
    import duckdb

    failed = {
        r["unique_id"]: r["compiled_code"]
        for r in results["results"]
        if r["unique_id"].startswith("test.") and r["status"] in ("fail", "warn") and r.get("compiled_code")
    }
    closed = {
        uid
        for uid, node in manifest["sources"].items()
        if node["source_name"] in ("registre", "arrivee", "publication") or node["meta"].get("confidentialite") != "publique"
    }
    if records_here(where, manifest):
        failed = {uid: sql for uid, sql in failed.items() if not _ancestors(manifest, uid) & closed}
    if not failed:
        return {}
    found: dict[str, list[dict[str, str]]] = {}
    with duckdb.connect(str(where.warehouse), read_only=True) as con:
        for uid, sql in failed.items():
            try:
                rows = con.execute(f"select * from ({sql.strip().rstrip(';')}) as lignes limit {limit}")
            except duckdb.Error:
                continue  # its message is dbt's, and is told with the verdict
            names = [column[0] for column in rows.description]
            found[uid] = [dict(zip(names, map(str, row), strict=True)) for row in rows.fetchall()]
    return found


def records_here(where: Home, manifest: dict[str, Any]) -> bool:
    """Whether anything that people sent, the demonstration left out, is in the landed data."""
    for node in manifest["sources"].values():
        if node["meta"].get("confidentialite", "publique") == "publique":
            continue
        state = read_json(where.landing / "etats" / f"{node['identifier']}.json") or {}
        if any(etat["snapshot_sha256"] and etat["millesime"] != "demonstration" for etat in state.get("etats", [])):
            return True
    return False


def _ancestors(manifest: dict[str, Any], uid: str) -> set[str]:
    found: set[str] = set()
    pending = [uid]
    while pending:
        for parent in manifest["parent_map"].get(pending.pop(), []):
            if parent not in found:
                found.add(parent)
                pending.append(parent)
    return found


def _close() -> None:
    # In one process dbt would keep the file open; the candidate is read from it next.
    from dbt.adapters.duckdb.connections import DuckDBConnectionManager

    DuckDBConnectionManager.close_all_connections()


def build_errors(run_results: dict[str, Any]) -> list[str]:
    """Why some model is not there or not right, each cause with dbt's reason; empty when all were built as their examples say.

    A failed test skips the models behind it: the test is the reason, they are not.
    """
    results = run_results["results"]
    if all(r["status"] in ("success", "pass") for r in results if r["unique_id"].startswith(("model.", "unit_test."))):
        return []
    causes = [r for r in results if r["status"] not in ("success", "pass", "skipped")] or results
    return [
        f"{r['unique_id'].split('.', 2)[-1]} : {' '.join((r.get('message') or r['status']).split())[:400]}"
        for r in causes
        if r["status"] not in ("success", "pass")
    ]
