"""Write, audit, publish: from the built warehouse to one immutable release, or to a refusal that says why.

The candidate is written aside, audited, and its evidence stored with the hash of what was audited. Publishing trusts
nothing it is told: it recomputes the hash and re-reads the evidence, so that launching it alone after a failed check
refuses just the same. ``releases/current`` is a link switched in one step; readers are never blocked.

One candidate makes two folders of the same id: ``releases/<id>``, open to everybody, and ``evaluateurs/<id>``, whole, for
those whom the administrator lets in (see ``orchestration.diffusion`` for what differs). The public one is the reference:
an evaluators' folder without its public twin never was published, and the next publication or rollback sets it right.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ingestion.declarations import PROJECT
from ingestion.paths import Home
from orchestration import diffusion
from orchestration.diffusion import (
    evaluators_folder,
    is_public,
    public_folder,
    public_node,
)

AUDIT_TABLE = "audit_controle"
WITHDRAWN = "retirees"  # file of the releases folder: ids that a rollback took out of service, one per line
RELEASE_ID = re.compile(r"(?:demo-)?(\d{4}-\d{2}-\d{2})-(\d+)")
AUDIT_COLUMNS = ("etape", "cible", "controle", "resultat", "bloquant", "observe", "detail", "pourquoi")


class PublicationRefused(RuntimeError):
    """The candidate may not be published; the French message says which evidence failed, is missing or lies."""


class ReleaseError(RuntimeError):
    """A release cannot be found or opened; the French message says which ones exist."""


def sha256_file(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def inputs_fingerprint(where: Home) -> str:
    """Hash of all that decides a release: the landed data, the rules and the code, the versions of the engines."""
    from importlib.metadata import version

    digest = hashlib.sha256()
    for state in sorted((where.landing / "etats").glob("*.json")):
        content = json.loads(state.read_text(encoding="utf-8"))
        digest.update(json.dumps([content["cle"], content["etats"]], sort_keys=True).encode())
    for folder in ("dbt_project", "expectations", "ingestion", "orchestration"):
        for path in sorted((PROJECT / folder).rglob("*")):
            if path.suffix in {".sql", ".yml", ".py"} and "__pycache__" not in path.parts:
                digest.update(path.relative_to(PROJECT).as_posix().encode() + path.read_bytes())
    for package in ("duckdb", "dbt-core", "dbt-duckdb", "polars", "great-expectations", "scipy"):
        digest.update(version(package).encode())
    return digest.hexdigest()


# --- what the manifest says of the published tables -------------------------------------------------------------


def load_manifest(where: Home) -> dict[str, Any]:
    path = where.work / "dbt" / "manifest.json"
    if not path.exists():
        raise PublicationRefused("aucun manifeste dbt : l'entrepôt n'a jamais été construit ; lancer « dk run »")
    return json.loads(path.read_text(encoding="utf-8"))


def published_models(manifest: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Nodes of the tables that a release holds: the models of the ``marts`` folder."""
    return {
        node["name"]: node
        for node in manifest["nodes"].values()
        if node["resource_type"] == "model" and node["fqn"][1] == "marts"
    }


def tables_of(manifest: dict[str, Any], public: bool) -> dict[str, dict[str, Any]]:
    """Nodes of all tables of a release, as its readers see them, those that the release step writes included."""
    nodes = published_models(manifest) | {
        node["name"]: node for node in manifest["sources"].values() if node["source_name"] == "publication"
    }
    if not public:
        return nodes
    return {name: public_node(node) for name, node in nodes.items() if is_public(node)}


def keys_of(manifest: dict[str, Any]) -> dict[str, list[str]]:
    """Key of each published table, read from the ``cle_unique`` test that guards it; empty when it has none."""
    keys: dict[str, list[str]] = {name: [] for name in published_models(manifest)}
    for node in manifest["nodes"].values():
        meta = node.get("test_metadata") or {}
        if node["resource_type"] == "test" and meta.get("name") == "cle_unique":
            table = node["attached_node"].rsplit(".", 1)[1]
            if table in keys:
                keys[table] = list(meta["kwargs"]["colonnes"])
    return keys


def expected_dbt_tests(manifest: dict[str, Any]) -> list[str]:
    return sorted(
        uid for uid, node in manifest["nodes"].items() if node["resource_type"] == "test"
    ) + sorted(manifest.get("unit_tests", {}))


# --- candidate --------------------------------------------------------------------------------------------------


def write_candidate(where: Home, manifest: dict[str, Any]) -> dict[str, int]:
    """Copies the published tables to ``work/candidat/parquet``, each in the order of its key, and derives the public ones.

    Returns the rows of each exact table. Equal data give equal bytes: no clock, a total order, one writer thread per file.
    Raises PublicationRefused when a table cannot be made public safely.
    """
    import duckdb

    shutil.rmtree(where.candidate, ignore_errors=True)
    target = where.candidate / "parquet"
    target.mkdir(parents=True)
    rows: dict[str, int] = {}
    with duckdb.connect(str(where.warehouse)) as con:
        # Strings carry the memory of a big table while it is sorted; a spill folder keeps it bounded.
        con.execute("set temp_directory = ?", [str(where.work / "tmp")])
        keys = keys_of(manifest)
        for name, node in sorted(published_models(manifest).items()):
            count = con.execute(copy_sql(node, keys[name], target)).fetchone()
            rows[name] = int(count[0]) if count else 0
        diffusion.export_cells(con, manifest, where)
    try:
        diffusion.derive(where, published_models(manifest), keys)
    except diffusion.SecretError as error:
        raise PublicationRefused(str(error)) from error
    return rows


def copy_sql(node: dict[str, Any], key: list[str], folder: Path) -> str:
    """Statement that writes one published table to ``folder/<name>.parquet`` in the order of its key, or of all columns."""
    order = ", ".join(f"{column} nulls last" for column in key or node["columns"])
    path = (folder / f"{node['name']}.parquet").as_posix().replace("'", "''")
    return (
        f"copy (select * from {node['schema']}.{node['name']} order by {order}) "
        f"to '{path}' (format parquet, compression zstd, row_group_size 122880)"
    )


def candidate_fingerprint(folder: Path) -> str:
    """Hash of the data tables of a candidate or release (the audit table speaks of it, so it is left out)."""
    digest = hashlib.sha256()
    for path in sorted((folder / "parquet").glob("*.parquet")):
        if path.stem != AUDIT_TABLE:
            digest.update(f"{path.name}:{sha256_file(path)}\n".encode())
    return digest.hexdigest()


def dbt_controls(manifest: dict[str, Any], run_results: dict[str, Any]) -> list[dict[str, Any]]:
    """dbt's verdicts as rows of ``audit_controle``. An errored test is ``cassé``, a skipped one too: it proved nothing."""
    verdicts = {"pass": "réussi", "success": "réussi", "fail": "échoué", "warn": "échoué"}
    rows = []
    for result in run_results["results"]:
        uid = result["unique_id"]
        if not uid.startswith(("test.", "unit_test.")):
            continue
        node = manifest["nodes"].get(uid) or manifest["unit_tests"].get(uid)
        attached = (node.get("attached_node") or node.get("model") or "").rsplit(".", 1)[-1] or "entrepot"
        severity = str(node.get("config", {}).get("severity") or "error").lower()
        resultat = verdicts.get(result["status"], "cassé")
        rows.append(
            {
                "etape": "entrepot", "cible": attached, "controle": uid,
                "resultat": resultat, "bloquant": severity == "error",
                "observe": "" if result.get("failures") is None else str(result["failures"]),
                "detail": "" if resultat == "réussi" else (result.get("message") or "")[:500],
                "pourquoi": node.get("description") or _first_comment(node.get("raw_code") or ""), "exemples": [],
            }
        )  # fmt: skip
    return rows


def _first_comment(sql: str) -> str:
    lines = []
    for line in sql.strip().splitlines():
        if not line.startswith("--"):
            break
        lines.append(line.removeprefix("--").strip())
    return " ".join(lines)


def audit_candidate(where: Home, manifest: dict[str, Any], run_results: dict[str, Any]) -> list[dict[str, Any]]:
    """Audits the candidate and stores the evidence beside it: ``checks.json`` and the table ``audit_controle``."""
    import polars as pl

    from expectations.release import audit, audit_public

    public = public_folder(where)
    arrival = pl.read_parquet(where.landing / "registre" / "controles.parquet").to_dicts()
    controls = (
        [row | {"exemples": []} for row in arrival]
        + dbt_controls(manifest, run_results)
        + audit(where.candidate, keys_of(manifest))
        + audit_public(where.candidate, public, _public_tables(manifest))
    )
    for folder, shown in ((where.candidate, controls), (public, diffusion.redacted(controls, published_models(manifest)))):
        frame = pl.DataFrame(
            [{name: row[name] for name in AUDIT_COLUMNS} for row in shown],
            schema={name: (pl.Boolean if name == "bloquant" else pl.String) for name in AUDIT_COLUMNS},
        ).sort("etape", "cible", "controle")
        frame.write_parquet(folder / "parquet" / f"{AUDIT_TABLE}.parquet", compression="zstd")
    evidence = {
        "empreinte_candidat": candidate_fingerprint(where.candidate),
        "empreinte_publique": candidate_fingerprint(public),
        "empreinte_entrees": inputs_fingerprint(where),
        "mention": mention_of(public),
        "secret": diffusion.shares(where.candidate),
        "controles": controls,
    }
    (where.candidate / "checks.json").write_text(json.dumps(evidence, ensure_ascii=False, indent=1), encoding="utf-8")
    return controls


def secret_shares(where: Home) -> dict[str, Any]:
    """Cells of the candidate and shares of them hidden in its public side."""
    return diffusion.shares(where.candidate)


def _public_tables(manifest: dict[str, Any]) -> list[str]:
    return sorted(set(tables_of(manifest, public=True)) - {AUDIT_TABLE})


def mention_of(folder: Path) -> str | None:
    """The mention that some published row bears (« données de démonstration »), or None: it then marks the whole release."""
    import duckdb

    with duckdb.connect() as con:
        for path in sorted((folder / "parquet").glob("*.parquet")):
            source = f"read_parquet('{path.as_posix().replace(chr(39), chr(39) * 2)}')"
            columns = {row[0] for row in con.execute(f"describe select * from {source}").fetchall()}
            if "mention" in columns and (row := con.execute(f"select max(mention) from {source}").fetchone()) and row[0]:
                return str(row[0])
    return None


def _audit_rows(folder: Path) -> list[list[Any]] | None:
    """Rows of ``audit_controle`` in ``AUDIT_COLUMNS`` order, sorted; None when the table cannot be read."""
    import polars as pl

    try:
        frame = pl.read_parquet(folder / "parquet" / f"{AUDIT_TABLE}.parquet", columns=list(AUDIT_COLUMNS))
    except (pl.exceptions.PolarsError, OSError):
        return None
    return sorted(map(list, frame.rows()))


def blocking_failures(controls: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Blocking checks of the build and of the candidate that did not pass.

    A refused delivery is not here: it was kept out of the data, and the last good one is in.
    """
    return [c for c in controls if c["bloquant"] and c["resultat"] != "réussi" and c["etape"] != "arrivee"]


def verify_evidence(where: Home, manifest: dict[str, Any]) -> dict[str, Any]:
    """Re-reads the stored evidence against the candidate as it lies on the disk.

    Raises PublicationRefused when a check is missing, failed or broken, or when the bytes are not those audited.
    """
    from expectations.release import expected_checks, expected_public_checks

    public = public_folder(where)
    path = where.candidate / "checks.json"
    if not path.exists():
        raise PublicationRefused("aucun candidat audité : lancer « dk run »")
    try:
        evidence = json.loads(path.read_text(encoding="utf-8"))
        controls, audited, audited_public = evidence["controles"], evidence["empreinte_candidat"], evidence["empreinte_publique"]
        rows = sorted([c[name] for name in AUDIT_COLUMNS] for c in controls)
    except (ValueError, TypeError, KeyError) as error:
        raise PublicationRefused(f"les preuves du candidat sont illisibles ({path.name}) ; relancer « dk run »") from error
    if candidate_fingerprint(where.candidate) != audited or candidate_fingerprint(public) != audited_public:
        raise PublicationRefused("le candidat n'est plus celui qui a été audité : ses octets ont changé ; relancer « dk run »")
    missing = {
        name
        for folder, expected in ((where.candidate, tables_of(manifest, False)), (public, tables_of(manifest, True)))
        for name in {*expected} - {path.stem for path in (folder / "parquet").glob("*.parquet")}
    }
    if missing:
        raise PublicationRefused(f"tables absentes du candidat : {', '.join(sorted(missing))}")
    # The same evidence lies in two files: a verdict changed or removed in one of them shows.
    shown = diffusion.redacted(controls, published_models(manifest))
    if rows != _audit_rows(where.candidate) or sorted([c[n] for n in AUDIT_COLUMNS] for c in shown) != _audit_rows(public):
        raise PublicationRefused("les preuves du candidat se contredisent : checks.json et audit_controle diffèrent ; relancer « dk run »")
    done = {c["controle"] for c in controls if c["etape"] == "entrepot"}
    absent = [uid for uid in expected_dbt_tests(manifest) if uid not in done]
    done_candidate = {(c["cible"], c["controle"]) for c in controls if c["etape"] == "candidat"}
    absent += [f"{t}.{n}" for t, n in expected_checks(keys_of(manifest)) if (t, n) not in done_candidate]
    done_public = {(c["cible"], c["controle"]) for c in controls if c["etape"] == "diffusion"}
    absent += [f"{t}.{n}" for t, n in expected_public_checks(_public_tables(manifest)) if (t, n) not in done_public]
    if absent:
        raise PublicationRefused(f"{len(absent)} contrôles attendus n'ont pas été faits, dont {', '.join(absent[:3])}")
    failures = blocking_failures(controls)
    if failures:
        first = failures[0]
        kinds = "cassé (ni bon ni mauvais)" if first["resultat"] == "cassé" else "échoué"
        raise PublicationRefused(
            f"{len(failures)} contrôle(s) bloquant(s) non réussi(s). Premier : {first['cible']} / {first['controle']} {kinds} : "
            f"{first['pourquoi']} (observé : {first['observe'] or '-'} ; {first['detail'] or '-'})"
        )
    return evidence


# --- releases ---------------------------------------------------------------------------------------------------


def release_ids(where: Home) -> list[str]:
    """Ids of the releases on disk, oldest first, those of demonstration among the others."""
    found = [p.name for p in where.releases.glob("*-*-*-*") if p.is_dir() and not p.is_symlink() and RELEASE_ID.fullmatch(p.name)]
    return sorted(found, key=_age)


def _age(release_id: str) -> tuple[str, int]:
    day, rank = RELEASE_ID.fullmatch(release_id).groups()  # type: ignore[union-attr]
    return day, int(rank)


def current_release(where: Home) -> Path | None:
    """The folder that ``releases/current`` points to, resolved once, or None before the first publication."""
    link = where.releases / "current"
    return link.resolve() if link.exists() else None


def release_folder(where: Home, release_id: str, evaluators: bool = False) -> Path:
    """The folder of a release on one of its two sides; ``current`` is what the public link says, for both.

    Raises ReleaseError when there is no such release, or when this user may not read that side of it.
    """
    if release_id == "current" and (current := current_release(where)):
        release_id = current.name
    if release_id not in release_ids(where):
        known = ", ".join(release_ids(where)[-5:]) or "aucune"
        raise ReleaseError(f"pas de publication « {release_id} » ; les dernières : {known}")
    if not evaluators:
        return where.releases / release_id
    folder = evaluators_folder(where) / release_id
    try:
        folder.stat()
        os.listdir(folder)
    except PermissionError as error:
        raise ReleaseError(
            f"la version pour évaluateurs de {release_id} est réservée : demander à l'administrateur l'accès à {evaluators_folder(where)}"
        ) from error
    except OSError as error:
        raise ReleaseError(f"{release_id} n'a pas de version pour évaluateurs dans {evaluators_folder(where)}") from error
    return folder


def point_current(where: Home, release_id: str) -> None:
    """Switches both ``current`` links to a release, each in one atomic step (publication and rollback alike).

    The evaluators' one goes first: a crash between the two leaves the public one, which rules, where it was.
    """
    for root in (evaluators_folder(where), where.releases):
        if not (root / release_id).is_dir():
            (root / "current").unlink(missing_ok=True)  # a release made before there were two sides
            continue
        temporary = root / ".current.tmp"
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(release_id, target_is_directory=True)
        os.replace(temporary, root / "current")
        _fsync(root)


def reconcile(where: Home) -> None:
    """Sets the evaluators' side in accord with the public one, after a publication that died between the two.

    A folder whose public twin is not there was never published: it becomes the candidate again, or goes.
    """
    root = evaluators_folder(where)
    if not root.is_dir():
        return
    ids = set(release_ids(where))
    for folder in sorted(root.iterdir()):
        if folder.is_symlink() or not folder.is_dir() or folder.name in ids:
            continue
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o700 if path.is_dir() else 0o600)
        if where.candidate.exists() or not RELEASE_ID.fullmatch(folder.name):
            shutil.rmtree(folder)
        else:
            os.rename(folder, where.candidate)
    current, link = current_release(where), root / "current"
    if current and link.is_symlink() and os.readlink(link) != current.name:
        point_current(where, current.name)


def ensure_evaluators(where: Home) -> Path:
    """The evaluators' folder, closed to everybody but its owner when it is made, whatever the umask.

    An administrator may give it to a group and open it to 0750: releases follow its group and its mode.
    """
    root = evaluators_folder(where)
    if not root.is_dir():
        root.mkdir(mode=0o700, parents=True)
        root.chmod(0o700)
    if root.stat().st_mode & 0o027:
        root.chmod(root.stat().st_mode & 0o7750)
    return root


def _close(folder: Path, root: Path) -> None:
    """Gives a folder about to be published to evaluators the group and the mode of their root folder."""
    facts = root.stat()
    group = bool(facts.st_mode & 0o050)
    for path in (folder, *folder.rglob("*")):
        if path.stat().st_gid != facts.st_gid:
            os.chown(path, -1, facts.st_gid)
        path.chmod((0o750 if group else 0o700) if path.is_dir() else (0o440 if group else 0o400))


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def withdrawn(where: Home) -> list[str]:
    """Ids of the releases that a rollback took out of service, oldest first: no run brings them back by itself."""
    record = where.releases / WITHDRAWN
    listed = set(record.read_text(encoding="utf-8").split()) if record.exists() else set()
    return [name for name in release_ids(where) if name in listed]


def _fingerprints(folder: Path) -> tuple[str, tuple[str, str]]:
    """(hash of the inputs, hashes of the exact and of the public data) that a release was published with."""
    evidence = json.loads((folder / "checks.json").read_text(encoding="utf-8"))
    return evidence["empreinte_entrees"], _data(evidence)


def _data(evidence: dict[str, Any]) -> tuple[str, str]:
    return evidence["empreinte_candidat"], evidence.get("empreinte_publique", evidence["empreinte_candidat"])


def already_published(where: Home, fingerprint: str) -> bool:
    """True when these inputs would teach nothing: the current release was built from them, or a withdrawn one was, or
    the last candidate was and its data turned out to be the current ones."""
    current = current_release(where)
    if current is None:
        return False
    if any(_fingerprints(folder)[0] == fingerprint for folder in (current, *(where.releases / name for name in withdrawn(where)))):
        return True
    last = where.candidate / "checks.json"
    if not last.exists():
        return False
    audited = json.loads(last.read_text(encoding="utf-8"))
    return (
        audited["empreinte_entrees"] == fingerprint
        and _data(audited) == _fingerprints(current)[1]
        and not blocking_failures(audited["controles"])
    )


def publish(where: Home, today: dt.date | None = None) -> tuple[str, bool]:
    """Publishes the audited candidate on both sides; returns (release id, True when it is new).

    Raises PublicationRefused when the evidence does not hold. Whatever fails, ``current`` still points where it did.
    """
    import duckdb

    manifest = load_manifest(where)
    reconcile(where)
    evidence = verify_evidence(where, manifest)
    current = current_release(where)
    if current and _fingerprints(current)[1] == _data(evidence):
        return current.name, False
    for name in withdrawn(where):
        if _fingerprints(where.releases / name)[1] == _data(evidence):
            raise PublicationRefused(
                f"ces données sont celles de {name}, retirée du service ; corriger ce qui l'a fait retirer, "
                f"ou la remettre avec « dk rollback {name} »"
            )
    day = (today or dt.datetime.now(dt.UTC).date()).isoformat()
    taken = [rank for date, rank in map(_age, release_ids(where)) if date == day]
    release_id = f"{'demo-' if evidence['mention'] else ''}{day}-{max(taken, default=0) + 1}"
    before = evaluators_folder(where) / current.name if current else None
    try:
        root = ensure_evaluators(where)
        for folder, old, public in (
            (where.candidate, before if before and before.is_dir() else None, False),
            (public_folder(where), current, True),
        ):
            _clean(folder, ("parquet",) if public else ("parquet", "checks.json"))
            shown = diffusion.redacted(evidence["controles"], published_models(manifest)) if public else evidence["controles"]
            _prepare(folder, old, manifest, evidence | {"controles": shown}, release_id, public)
        _close(where.candidate, root)
        os.rename(where.candidate, root / release_id)
        os.rename(public_folder(where), where.releases / release_id)
        point_current(where, release_id)
    except (OSError, duckdb.IOException) as error:
        with contextlib.suppress(OSError):
            reconcile(where)
        raise PublicationRefused(
            f"écriture impossible pendant la publication ({getattr(error, 'strerror', None) or error}) ; la publication précédente reste en place. "
            "Libérer de la place sur le disque puis relancer « dk run »"
        ) from error
    return release_id, True


def _clean(folder: Path, kept: tuple[str, ...]) -> None:
    """Removes what an earlier attempt, stopped by a crash or a full disk, left beside the audited files."""
    for path in folder.iterdir():
        if path.name in kept:
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def _prepare(folder: Path, old: Path | None, manifest: dict[str, Any], evidence: dict[str, Any], release_id: str, public: bool) -> None:
    """Writes beside the tables of one side all that makes them a release, down to its sums; the last thing it does is read
    those files for personal data. Raises PublicationRefused when one of them tells of a person."""
    _write_duckdb(folder, manifest, public)
    mention = evidence["mention"]
    (folder / "datapackage.json").write_text(
        json.dumps(datapackage(folder, manifest, release_id, public, mention), ensure_ascii=False, indent=1), encoding="utf-8"
    )
    (folder / "changes.md").write_text(changes(old, folder, release_id, mention, evidence["secret"]), encoding="utf-8")
    if public:
        (folder / "checks.json").write_text(json.dumps(evidence, ensure_ascii=False, indent=1), encoding="utf-8")
        write_pages(folder, manifest, release_id)
    _refuse_personal_data(folder)
    sums = [f"{sha256_file(p)}  {p.relative_to(folder).as_posix()}" for p in sorted(folder.rglob("*")) if p.is_file() and p.name != "SHA256SUMS"]
    (folder / "SHA256SUMS").write_text("\n".join(sums) + "\n", encoding="utf-8")
    for path in folder.rglob("*"):
        if path.is_file():
            _fsync(path)
            path.chmod(0o444)


def _refuse_personal_data(folder: Path) -> None:
    """The tables were scanned with the other checks of the candidate; these are the files written around them."""
    from expectations.release import masked
    from ingestion.records.personal import telling

    for name in ("changes.md", "datapackage.json", "checks.json"):
        text = (folder / name).read_text(encoding="utf-8")
        for line in text.splitlines():
            if telling(line):
                raise PublicationRefused(f"donnée personnelle dans {name} : {masked(line)} ; rien n'est publié. Retirer ce texte de sa source")


def _write_duckdb(folder: Path, manifest: dict[str, Any], public: bool) -> None:
    """One read-only convenience file with the tables and their comments; Parquet stays the durable format."""
    import duckdb

    path = folder / "dernier_kilometre.duckdb"
    quoted = lambda text: "'" + text.replace("'", "''") + "'"  # noqa: E731
    with duckdb.connect(str(path), config={"threads": 2}) as con:
        for name, node in sorted(tables_of(manifest, public).items()):
            con.execute(f"create table {name} as select * from read_parquet({quoted(str(folder / 'parquet' / (name + '.parquet')))})")
            con.execute(f"comment on table {name} is {quoted(node['description'])}")
            for column, facts in node["columns"].items():
                con.execute(f"comment on column {name}.{column} is {quoted(facts['description'])}")


def write_pages(folder: Path, manifest: dict[str, Any], release_id: str) -> None:
    """The dictionary and the pages that leaders read, below ``pages``: part of the release, so that they never change.

    Raises PublicationRefused when one of them cannot be made: what a leader cannot read is not published.
    """
    from notebooks.kit.render import RenderError, render
    from orchestration.dictionary import DictionaryError, dictionary

    try:
        facts = dictionary(manifest)
        (folder / "dictionnaire.json").write_text(json.dumps(facts, ensure_ascii=False, indent=1), encoding="utf-8")
        render(folder, folder / "pages", name=release_id)
    except (RenderError, DictionaryError) as error:
        raise PublicationRefused(str(error)) from error


FRICTIONLESS = {"varchar": "string", "bigint": "integer", "integer": "integer", "double": "number", "date": "date", "boolean": "boolean"}


def datapackage(folder: Path, manifest: dict[str, Any], release_id: str, public: bool, mention: str | None) -> dict[str, Any]:
    """Frictionless data package of one side of a release: tables, columns, keys, licences and sources."""
    import polars as pl

    keys = keys_of(manifest)
    sources = pl.read_parquet(folder / "parquet" / "dim_source.parquet")
    resources = []
    for name, node in sorted(tables_of(manifest, public).items()):
        path = folder / "parquet" / f"{name}.parquet"
        schema: dict[str, Any] = {
            "fields": [
                {"name": column, "type": FRICTIONLESS[facts["data_type"]], "description": facts["description"]}
                | ({"unit": unit} if (unit := facts.get("config", {}).get("meta", {}).get("unite")) else {})
                for column, facts in node["columns"].items()
            ]
        }
        if keys.get(name):
            schema["primaryKey"] = keys[name]
        resources.append(
            {
                "name": name, "path": f"parquet/{name}.parquet", "format": "parquet", "mediatype": "application/vnd.apache.parquet",
                "description": node["description"], "bytes": path.stat().st_size, "hash": f"sha256:{sha256_file(path)}",
                "schema": schema,
            }
        )  # fmt: skip
    return {
        "profile": "data-package", "name": "dernier-kilometre", "id": release_id, "version": release_id,
        "title": "Dernier kilomètre : ce que change chaque intervention de l'ANCT" + (f" ({mention})" if mention else ""),
        "description": (f"{mention.capitalize()} : aucune de ces valeurs n'est réelle. " if mention else "")
        + (
            "Version publique : les valeurs que le secret statistique protège sont vides, avec le statut « secret »."
            if public
            else "Version réservée aux évaluateurs habilités : elle contient des valeurs couvertes par le secret statistique."
        ),
        "keywords": ["ANCT", "cohésion des territoires", "politiques publiques", *([mention] if mention else [])],
        "created": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "licenses": [
            {"name": "LO-2.0", "title": "Licence Ouverte 2.0 (Etalab)", "path": "https://www.etalab.gouv.fr/licence-ouverte-open-licence/"}
        ],
        "sources": [
            {"title": row["citation"], "path": row["page"], "source_id": row["source_id"], "licence": row["licence"]}
            for row in sources.sort("source_id").to_dicts()
        ],
        "resources": resources,
    }  # fmt: skip


# --- what changed -----------------------------------------------------------------------------------------------


def compare(old: Path | None, new: Path) -> dict[str, Any]:
    """Differences between two releases: rows by table, observations added, withdrawn, revised, by indicator.

    A producer's silent revision is a new version of a value whose period and territory were already known.
    """
    import duckdb

    tables = {p.stem: p for p in sorted((new / "parquet").glob("*.parquet"))}
    found: dict[str, Any] = {"tables": {}, "indicateurs": [], "revisions": [], "sources": []}
    with duckdb.connect(config={"threads": 2}) as con:

        def count(path: Path) -> int:
            row = con.execute("select count(*) from read_parquet(?)", [str(path)]).fetchone()
            return int(row[0]) if row else 0

        for name, path in tables.items():
            before = old / "parquet" / path.name if old else None
            found["tables"][name] = (count(before) if before and before.exists() else 0, count(path))
        if old is None or not (old / "parquet" / "fct_observation.parquet").exists():
            return found
        for side, folder in (("avant", old), ("apres", new)):
            path = str(folder / "parquet" / "fct_observation.parquet").replace("'", "''")
            con.execute(
                f"create view {side} as select indicateur_id, territoire_niveau, territoire_code, periode_debut, periode_fin, "
                f"valeur, statut_valeur, source_id from read_parquet('{path}') where est_derniere_version"
            )
        on = "using (indicateur_id, territoire_niveau, territoire_code, periode_debut, periode_fin)"
        con.execute(
            "create table paires as select coalesce(apres.source_id, avant.source_id) as source_id, indicateur_id, territoire_niveau, "
            "territoire_code, periode_debut, avant.valeur as ancienne, apres.valeur as nouvelle, avant.statut_valeur as ancien_statut, "
            f"apres.statut_valeur as nouveau_statut from avant full join apres {on} "
            "where avant.valeur is distinct from apres.valeur or avant.statut_valeur is distinct from apres.statut_valeur"
        )
        found["indicateurs"] = con.execute(
            "select indicateur_id, count(*) filter (where ancien_statut is null) as ajoutees, "
            "count(*) filter (where nouveau_statut is null) as retirees, "
            "count(*) filter (where ancien_statut is not null and nouveau_statut is not null) as revisees "
            "from paires group by 1 order by 1"
        ).fetchall()
        found["revisions"] = con.execute(
            "select indicateur_id, territoire_niveau, territoire_code, periode_debut, ancienne, nouvelle, source_id from paires "
            "where ancien_statut is not null and nouveau_statut is not null "
            "order by abs(coalesce(nouvelle, 0) - coalesce(ancienne, 0)) desc, 1, 2, 3, 4 limit 20"
        ).fetchall()
        found["sources"] = con.execute(
            "select source_id, a.dernier_millesime, n.dernier_millesime, a.statut, n.statut, n.motif "
            "from read_parquet(?) a full join read_parquet(?) n using (source_id) "
            "where a.snapshot_sha256 is distinct from n.snapshot_sha256 or a.statut is distinct from n.statut order by 1",
            [str(old / "parquet" / "mart_fraicheur.parquet"), str(new / "parquet" / "mart_fraicheur.parquet")],
        ).fetchall()
    return found


def changes(old: Path | None, new: Path, title: str, mention: str | None = None, secret: dict[str, Any] | None = None) -> str:
    """Release notes in French Markdown, from ``compare``."""
    facts = compare(old, new)
    lines = [f"# Publication {title}", ""]
    if mention:
        lines += [f"**{mention.capitalize()}** : aucune valeur qui en porte la mention n'est réelle.", ""]
    lines.append(f"Comparée à {old.name}." if old else "Première publication.")
    if secret and secret["cellules"]:
        lines += ["", "## Secret statistique (R-SEC)", ""]
        lines.append(
            f"{secret['cellules']} cellules tirées de relevés internes ; masquées dans la version publique : {_share(secret['part_primaire'])} "
            f"parce qu'elles sont sensibles, {_share(secret['part_secondaire'])} pour qu'aucune différence ne les rende."
        )
        if secret["sans_preuve"]:
            lines += ["", f"{secret['sans_preuve']} d'entre elles ont été montrées par une publication antérieure : rien ne peut plus les protéger."]
        lines += ["", "| niveau | cellules | masquées |", "| --- | ---: | ---: |"]
        lines += [f"| {name} | {level['cellules']} | {_share(level['part_masquee'])} |" for name, level in secret["niveaux"].items()]
    lines += ["", "## Tables", "", "| table | lignes avant | lignes après |", "| --- | ---: | ---: |"]
    lines += [f"| {name} | {before} | {after} |" for name, (before, after) in facts["tables"].items()]
    if old:
        lines += ["", "## Sources dont la livraison ou l'état a changé", ""]
        lines += [
            f"- {source} : {before or 'rien'} → {after or 'rien'} ; {was or '-'} → {now or '-'}{f' ({why})' if why else ''}"
            for source, before, after, was, now, why in facts["sources"]
        ] or ["Aucune."]
        lines += ["", "## Valeurs", ""]
        if facts["indicateurs"]:
            lines += ["| indicateur | ajoutées | retirées | révisées |", "| --- | ---: | ---: | ---: |"]
            lines += [f"| {name} | {a} | {r} | {v} |" for name, a, r, v in facts["indicateurs"]]
        else:
            lines.append("Aucune valeur n'a changé.")
        if facts["revisions"]:
            lines += ["", "## Révisions : valeurs déjà publiées que leur producteur ou une règle a changées", ""]
            lines += ["Les vingt plus fortes, en écart absolu.", ""]
            lines += [
                f"- {name}, {niveau} {code}, {jour} : {_number(before)} → {_number(after)} ({source})"
                for name, niveau, code, jour, before, after, source in facts["revisions"]
            ]
    return "\n".join(lines) + "\n"


def _share(value: float) -> str:
    return f"{100 * value:.1f} %".replace(".", ",")


def _number(value: float | None) -> str:
    return "sans valeur" if value is None else f"{value:.12g}".replace(".", ",")


def rollback(where: Home, release_id: str) -> str:
    """Points ``current`` back to a release on disk, on both sides, after checking its sums; returns its id.

    The later ones are written down as withdrawn, else the next run would publish the same data again.
    Raises ReleaseError when it does not exist or its bytes are no longer those published.
    """
    folder = release_folder(where, release_id)
    reconcile(where)
    _verify_sums(folder, release_id)
    twin = evaluators_folder(where) / folder.name
    if twin.is_dir():
        _verify_sums(twin, f"{release_id} (version pour évaluateurs)")
    ids = release_ids(where)
    later = ids[ids.index(folder.name) + 1 :]
    out = [name for name in ids if name in {*withdrawn(where), *later} and name != folder.name]
    temporary = where.releases / f".{WITHDRAWN}.tmp"
    temporary.write_text("".join(f"{name}\n" for name in out), encoding="utf-8")
    os.replace(temporary, where.releases / WITHDRAWN)
    point_current(where, folder.name)
    return folder.name


def _verify_sums(folder: Path, title: str) -> None:
    sums = folder / "SHA256SUMS"
    if not sums.is_file():
        raise ReleaseError(f"{title} : SHA256SUMS manque, rien ne prouve ses octets ; choisir une autre publication")
    for line in sums.read_text(encoding="utf-8").splitlines():
        expected, name = line.split("  ", 1)
        if not (folder / name).is_file() or sha256_file(folder / name) != expected:
            raise ReleaseError(f"{title} : {name} n'a plus les octets publiés ; choisir une autre publication")
