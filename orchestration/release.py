"""Write, audit, publish: from the built warehouse to one immutable release, or to a refusal that says why.

The candidate is written aside, audited, and its evidence stored with the hash of what was audited. Publishing trusts
nothing it is told: it recomputes the hash and makes the evidence again, from the results of the build and from the candidate
itself, so that launching it alone after a failed check refuses just the same, and so does evidence that someone edited.
``releases/current`` is a link switched in one step; readers are never blocked.

One candidate makes two folders of the same id: ``releases/<id>``, open to everybody, and ``evaluateurs/<id>``, whole, for
those whom the administrator lets in (see ``orchestration.diffusion`` for what differs). The public one is the reference:
an evaluators' folder without its public twin is of no release, and the next publication or rollback sets it right.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import json
import logging
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ingestion.declarations import LICENCES, PROJECT
from ingestion.paths import Home, read_json
from orchestration import diffusion
from orchestration.diffusion import evaluators_folder, is_public, public_folder, public_node
from orchestration.notes import changes

LOG = logging.getLogger("dk")
AUDIT_TABLE = "audit_controle"
BUILD = "construction.json"  # below work: what the last finished build was made from
WITHDRAWN = "retirees"  # file of the releases folder: ids that a rollback took out of service, one per line
SUMS = "SHA256SUMS"
DATABASE = "dernier_kilometre.duckdb"
RELEASE_ID = re.compile(r"(?:demo-)?([0-9]{4}-[0-9]{2}-[0-9]{2})-([0-9]+)")
AUDIT_COLUMNS = ("etape", "cible", "controle", "resultat", "bloquant", "observe", "detail", "pourquoi")


class PublicationRefused(RuntimeError):
    """The candidate may not be published; the French message says which evidence failed, is missing or lies.

    ``alerte`` says the same without what was seen in the tables: it leaves the machine.
    """

    def __init__(self, message: str, alerte: str | None = None) -> None:
        super().__init__(message)
        self.alerte = alerte or message


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
        content = read_json(state) or {}  # damaged, it is written anew by the next collection
        digest.update(json.dumps([content.get("cle"), content.get("etats")], sort_keys=True).encode())
    for folder in ("dbt_project", "expectations", "ingestion", "orchestration"):
        for path in sorted((PROJECT / folder).rglob("*")):
            if path.suffix in {".sql", ".yml", ".py"} and "__pycache__" not in path.parts:
                digest.update(path.relative_to(PROJECT).as_posix().encode() + path.read_bytes())
    for package in ("duckdb", "dbt-core", "dbt-duckdb", "polars", "great-expectations", "scipy"):
        digest.update(version(package).encode())
    return digest.hexdigest()


# --- the build that a candidate is made of -----------------------------------------------------------------------


@dataclass(frozen=True)
class Build:
    """The last finished build of the warehouse: what it was made from, and what its tests said."""

    empreinte: str
    entrees: str
    resultats: dict[str, Any]
    arrivee: list[dict[str, Any]]


def build(where: Home) -> dict[str, Any]:
    """Builds the warehouse and writes down what it was built from; returns dbt's results. The caller holds the lock.

    ``work/construction.json`` binds together the inputs, as they were when the build began, the warehouse, the manifest, the
    results of the tests and the verdicts on the deliveries. It goes first and comes last: a build that died left none.
    Raises BuildFailed when dbt broke, or when an input changed while it was reading.
    """
    import polars as pl

    from orchestration import dbt as dbt_runner

    (where.work / BUILD).unlink(missing_ok=True)
    inputs = inputs_fingerprint(where)
    arrival = pl.read_parquet(where.landing / "registre" / "controles.parquet").to_dicts()
    results = dbt_runner.build(where)
    if inputs_fingerprint(where) != inputs:
        raise dbt_runner.BuildFailed("des données, des règles ou du code ont changé pendant la construction ; relancer « dk run »")
    record_build(where, inputs, arrival)
    return results


def record_build(where: Home, inputs: str, arrival: list[dict[str, Any]]) -> None:
    """Writes down what the files of a build that just ended are, so that another one's are told from them."""
    record = {
        "empreinte_entrees": inputs, "entrepot": _mark(where.warehouse), "arrivee": arrival,
        **{name: sha256_file(where.work / "dbt" / f"{name}.json") for name in ("manifest", "run_results")},
    }  # fmt: skip
    temporary = where.work / f".{BUILD}.tmp"
    temporary.write_text(json.dumps(record, ensure_ascii=False), encoding="utf-8")
    os.replace(temporary, where.work / BUILD)


def _mark(path: Path) -> list[int] | None:
    """Size and time of a file: it is too big to be hashed at every step, and what is made of it is hashed."""
    return [(facts := path.stat()).st_size, facts.st_mtime_ns] if path.exists() else None


def last_build(where: Home) -> Build:
    """The last finished build. Raises PublicationRefused when there is none, or when its files are no longer its own."""
    again = "relancer « dk run »"
    try:
        content = (where.work / BUILD).read_bytes()
        record = json.loads(content)
        for name in ("manifest", "run_results"):
            if sha256_file(where.work / "dbt" / f"{name}.json") != record[name]:
                raise PublicationRefused(f"{name}.json n'est plus celui de la dernière construction ; {again}")
        results = json.loads((where.work / "dbt" / "run_results.json").read_text(encoding="utf-8"))
        return Build(hashlib.sha256(content).hexdigest(), record["empreinte_entrees"], results, record["arrivee"])
    except FileNotFoundError as error:
        raise PublicationRefused(f"aucune construction achevée ({Path(error.filename).name} manque) ; {again}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise PublicationRefused(f"{where.work / BUILD} est illisible ; {again}") from error


# --- what the manifest says of the published tables -------------------------------------------------------------


def load_manifest(where: Home) -> dict[str, Any]:
    path = where.work / "dbt" / "manifest.json"
    if not path.exists():
        raise PublicationRefused("aucun manifeste dbt : l'entrepôt n'a jamais été construit ; lancer « dk run »")
    if (manifest := read_json(path)) is None:
        raise PublicationRefused(f"{path} est illisible ; lancer « dk run », qui le refait")
    return manifest


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
    Raises PublicationRefused when the warehouse is not the one that the last build tested, or when a table cannot be made
    public safely.
    """
    import duckdb

    last_build(where)
    if _mark(where.warehouse) != json.loads((where.work / BUILD).read_text(encoding="utf-8"))["entrepot"]:
        raise PublicationRefused(f"{where.warehouse} a changé depuis que ses tests ont passé ; relancer « dk run »")

    shutil.rmtree(where.candidate, ignore_errors=True)
    target = where.candidate / "parquet"
    target.mkdir(parents=True)
    rows: dict[str, int] = {}
    with duckdb.connect(str(where.warehouse), read_only=True) as con:
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


def file_sums(folder: Path) -> dict[str, str]:
    """SHA-256 of every file of a candidate or release but SHA256SUMS, by its relative name, in order."""
    return {
        path.relative_to(folder).as_posix(): sha256_file(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != SUMS
    }


def candidate_fingerprint(folder: Path, sums: dict[str, str] | None = None) -> str:
    """Hash of the data tables of a candidate or release (the audit table speaks of it, so it is left out).

    ``sums`` spares reading the files again when they were just summed.
    """
    digest = hashlib.sha256()
    for name, found in (file_sums(folder) if sums is None else sums).items():
        table = PurePosixPath(name)
        if table.parent.name == "parquet" and table.suffix == ".parquet" and table.stem != AUDIT_TABLE:
            digest.update(f"{table.name}:{found}\n".encode())
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


def failing_rows(where: Home, manifest: dict[str, Any], failures: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Up to ten rows for each failed check of the candidate, read on its public side: ``cible``, ``controle``, ``ligne`` (the
    row as text). What the exact tables hold is looked at on the machine, by who may."""
    from expectations.release import examples

    keys, public = keys_of(manifest), public_folder(where)
    return [
        {"cible": table, "controle": check, "ligne": row}
        for table, check in dict.fromkeys((c["cible"], c["controle"]) for c in failures if c["etape"] == "candidat")
        if (public / "parquet" / f"{table}.parquet").exists() and table in keys
        for row in examples(public, table, keys[table], check)
    ]


def _first_comment(sql: str) -> str:
    lines = []
    for line in sql.strip().splitlines():
        if not line.startswith("--"):
            break
        lines.append(line.removeprefix("--").strip())
    return " ".join(lines)


def controls_of(where: Home, manifest: dict[str, Any], built: Build) -> list[dict[str, Any]]:
    """Every check of a candidate, made now: what was found on arrival and in the build, and the tables of its two sides measured.

    What blocks is told by the declarations (severity in the manifest, rules in the code), never by what is stored.
    """
    from expectations.release import audit, audit_public

    return [
        *(row | {"exemples": []} for row in built.arrivee),
        *dbt_controls(manifest, built.resultats),
        *audit(where.candidate, keys_of(manifest)),
        *audit_public(where.candidate, public_folder(where), _public_tables(manifest)),
    ]


def audit_candidate(where: Home, manifest: dict[str, Any]) -> list[dict[str, Any]]:
    """Audits the candidate and stores the evidence beside it: ``checks.json`` and the table ``audit_controle``."""
    import polars as pl

    built = last_build(where)
    public = public_folder(where)
    controls = controls_of(where, manifest, built)
    for folder, shown in ((where.candidate, controls), (public, diffusion.redacted(controls, published_models(manifest)))):
        frame = pl.DataFrame(
            [{name: row[name] for name in AUDIT_COLUMNS} for row in shown],
            schema={name: (pl.Boolean if name == "bloquant" else pl.String) for name in AUDIT_COLUMNS},
        ).sort("etape", "cible", "controle")
        frame.write_parquet(folder / "parquet" / f"{AUDIT_TABLE}.parquet", compression="zstd")
    evidence = {
        "empreinte_candidat": candidate_fingerprint(where.candidate),
        "empreinte_publique": candidate_fingerprint(public),
        "empreinte_entrees": built.entrees,
        "empreinte_construction": built.empreinte,
        **_marks(where),
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


def _marks(where: Home) -> dict[str, Any]:
    """What the name, the title and the notes of a release say of it, read in the tables of its candidate."""
    return {"mention": mention_of(public_folder(where)), "secret": diffusion.shares(where.candidate)}


def _audit_rows(folder: Path) -> Counter[tuple[Any, ...]] | None:
    """Rows of ``audit_controle`` in ``AUDIT_COLUMNS`` order; None when the table cannot be read."""
    import polars as pl

    try:
        frame = pl.read_parquet(folder / "parquet" / f"{AUDIT_TABLE}.parquet", columns=list(AUDIT_COLUMNS))
    except (pl.exceptions.PolarsError, OSError):
        return None
    return Counter(frame.rows())


def blocking_failures(controls: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Blocking checks of the build and of the candidate that did not pass.

    A refused delivery is not here: it was kept out of the data, and the last good one is in.
    """
    return [c for c in controls if c["bloquant"] and c["resultat"] != "réussi" and c["etape"] != "arrivee"]


def refusal(failures: list[dict[str, Any]]) -> PublicationRefused:
    """Why blocking checks that did not pass stop a publication: how many, and the first in full."""
    first = failures[0]
    kinds = "cassé (ni bon ni mauvais)" if first["resultat"] == "cassé" else "échoué"
    told = f"{len(failures)} contrôle(s) bloquant(s) non réussi(s). Premier : {first['cible']} / {first['controle']} {kinds} : {first['pourquoi']}"
    return PublicationRefused(f"{told} (observé : {first['observe'] or '-'} ; {first['detail'] or '-'})", told)


def _told(control: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(control[name] for name in AUDIT_COLUMNS)


def verify_evidence(where: Home, manifest: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str], dict[str, str]]:
    """Makes the evidence again, from both sides of the candidate as they lie on the disk and from its build; returns what is
    stored, and the sums of the files that it speaks of, exact then public.

    Raises PublicationRefused when a check is missing, undeclared, failed or broken, when what is stored is not what is found,
    or when the files are not exactly those audited.
    """
    public, path = public_folder(where), where.candidate / "checks.json"
    if not path.exists():
        raise PublicationRefused("aucun candidat audité : lancer « dk run »")
    try:
        evidence = json.loads(path.read_text(encoding="utf-8"))
        controls = evidence["controles"]
        audited = evidence["empreinte_candidat"], evidence["empreinte_publique"]
        origin = evidence["empreinte_construction"], evidence["empreinte_entrees"]
        marks = {"mention": evidence["mention"], "secret": evidence["secret"]}
        stored = Counter(map(_told, controls))
        redacted = Counter(map(_told, diffusion.redacted(controls, published_models(manifest))))
    except (ValueError, TypeError, KeyError) as error:
        raise PublicationRefused(f"les preuves du candidat sont illisibles ({path.name}) ; relancer « dk run »") from error
    sums = _audited_sums(where.candidate, path.name), _audited_sums(public)
    if (candidate_fingerprint(where.candidate, sums[0]), candidate_fingerprint(public, sums[1])) != audited:
        raise PublicationRefused("le candidat n'est plus celui qui a été audité : ses octets ont changé ; relancer « dk run »")
    for folder, inside, is_public_side in ((where.candidate, [path], False), (public, [], True)):
        _same_files(folder, inside, {f"{name}.parquet" for name in tables_of(manifest, is_public_side)})
    # The same evidence lies in three files: a verdict changed or removed in one of them shows.
    if stored != _audit_rows(where.candidate) or redacted != _audit_rows(public):
        raise PublicationRefused("les preuves du candidat se contredisent : checks.json et audit_controle diffèrent ; relancer « dk run »")
    built = last_build(where)
    if origin != (built.empreinte, built.entrees):
        raise PublicationRefused("ce candidat vient d'une autre construction que la dernière ; relancer « dk run »")
    again = controls_of(where, manifest, built)
    _same_controls(stored, Counter(map(_told, again)), manifest)
    failures = blocking_failures(again)
    if failures:
        raise refusal(failures)
    _same_public_side(where, manifest, sums[1])
    if marks != _marks(where):
        raise PublicationRefused("les preuves du candidat ne disent plus sa mention ou la part de son secret ; relancer « dk run »")
    return evidence, *sums


def _same_public_side(where: Home, manifest: dict[str, Any], sums: dict[str, str]) -> None:
    """Raises PublicationRefused unless the public tables are, byte for byte, what the exact ones and the decided secret give.

    What the secret decides is not decided again here: that costs more than all the rest of the examination.
    """
    import duckdb

    again = where.work / "candidat_public_refait"
    try:
        diffusion.show(where, published_models(manifest), keys_of(manifest), again)
        made = file_sums(again) | {name: found for name, found in sums.items() if Path(name).stem == AUDIT_TABLE}
    except diffusion.SecretError as error:
        raise PublicationRefused(str(error)) from error
    except (OSError, duckdb.IOException) as error:
        raise _unwritable(error) from error
    finally:
        shutil.rmtree(again, ignore_errors=True)
    if odd := sorted(Path(name).stem for name in made.keys() | sums.keys() if made.get(name) != sums.get(name)):
        raise PublicationRefused(
            f"la version publique n'est pas celle que donnent le candidat et le secret statistique : {', '.join(odd)} ; relancer « dk run »"
        )


def _unwritable(error: Exception) -> PublicationRefused:
    return PublicationRefused(
        f"écriture impossible pendant la publication ({getattr(error, 'strerror', None) or error}) ; la publication précédente reste en place. "
        "Libérer de la place sur le disque puis relancer « dk run »"
    )


def _audited_sums(folder: Path, *beside: str) -> dict[str, str]:
    """Sums of the tables of one side of a candidate, and of the files named ``beside`` them."""
    return {name: found for name, found in file_sums(folder).items() if name.startswith("parquet/") or name in beside}


def _same_files(folder: Path, beside: list[Path], expected: set[str]) -> None:
    """Raises PublicationRefused unless the tables of one side of a candidate are the ``expected`` files, and no link."""
    tables = list((folder / "parquet").iterdir())
    found = {path.name for path in tables}
    if missing := expected - found:
        raise PublicationRefused(f"tables absentes du candidat : {', '.join(sorted(missing))}")
    # A link would let the published bytes change later.
    links = {path.name for path in (folder, folder / "parquet", *beside, *tables) if path.is_symlink()}
    if odd := found - expected | links | {path.name for path in tables if not path.is_file()}:
        raise PublicationRefused(f"fichiers que rien ne déclare dans le candidat : {', '.join(sorted(odd))} ; relancer « dk run »")


def _same_controls(stored: Counter[tuple[Any, ...]], again: Counter[tuple[Any, ...]], manifest: dict[str, Any]) -> None:
    """Raises PublicationRefused unless the stored checks are exactly those that are declared, with what they now find."""
    names = [Counter(row[:3] for row in rows.elements()) for rows in (stored, again)]
    done = {row[2] for row in again if row[0] == "entrepot"}
    absent = [name for _, _, name in names[1] - names[0]] + [uid for uid in expected_dbt_tests(manifest) if uid not in done]
    if absent:
        raise PublicationRefused(f"{len(absent)} contrôles attendus n'ont pas été faits, dont {', '.join(absent[:3])}")
    if odd := list(names[0] - names[1]):
        raise PublicationRefused(f"{len(odd)} contrôles que rien ne déclare, dont {' / '.join(odd[0])} ; relancer « dk run »")
    if wrong := list(stored - again):
        _, cible, controle, resultat, *_ = wrong[0]
        now = next(row for row in again if row[:3] == wrong[0][:3])
        raise PublicationRefused(
            f"les preuves du candidat ne sont pas ce qu'un nouvel examen trouve : {cible} / {controle} y est « {resultat} » "
            f"({'bloquant' if wrong[0][4] else 'non bloquant'}), l'examen dit « {now[3]} » ({'bloquant' if now[4] else 'non bloquant'}) ; "
            "relancer « dk run »"
        )


# --- releases ---------------------------------------------------------------------------------------------------


def on_disk(where: Home) -> list[str]:
    """Ids of all folders that bear the name of a release, oldest first; any other name is nobody's business here."""
    return sorted((p.name for p in where.releases.glob("*") if RELEASE_ID.fullmatch(p.name) and p.is_dir() and not p.is_symlink()), key=_age)


def _age(release_id: str) -> tuple[str, int]:
    match = RELEASE_ID.fullmatch(release_id)
    assert match
    return match.group(1), int(match.group(2))


def unfinished(where: Home) -> list[str]:
    """Ids of the folders that a publication, killed before it switched ``current``, left behind: nobody was pointed to them.

    Ids only grow, a publication always switches, and a rollback writes down what it withdraws: so a later release than the
    current one, that was not withdrawn, was never published.
    """
    link = where.releases / "current"
    current = Path(os.readlink(link)).name if link.is_symlink() else ""
    last = _age(current) if RELEASE_ID.fullmatch(current) else ("", 0)
    listed = _withdrawn_names(where)
    return [name for name in on_disk(where) if _age(name) > last and name not in listed]


def release_ids(where: Home) -> list[str]:
    """Ids of the published releases on disk, oldest first."""
    left = set(unfinished(where))
    return [name for name in on_disk(where) if name not in left]


def current_release(where: Home) -> Path | None:
    """The folder that ``releases/current`` points to, resolved once, or None before the first publication."""
    link = where.releases / "current"
    return link.resolve() if link.exists() else None


def release_folder(where: Home, release_id: str, evaluators: bool = False) -> Path:
    """The folder of a published release on one of its two sides; ``current`` is what the public link says, for both.

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


def faults(folder: Path) -> list[str]:
    """What is no longer as published in a release: one French sentence per file, none when all is whole."""
    try:
        text = (folder / SUMS).read_text(encoding="utf-8")
        if not text.endswith("\n"):
            raise ValueError("cut")
        expected = {name: found for found, name in (line.split("  ", 1) for line in text.splitlines())}
    except FileNotFoundError:
        return [f"{SUMS} manque, rien ne prouve les octets"]
    except (OSError, ValueError):
        return [f"{SUMS} est illisible, rien ne prouve les octets"]
    try:
        found = file_sums(folder)
    except OSError as error:
        return [f"{Path(error.filename or folder).name} est illisible ({error.strerror})"]
    return [
        *(f"{name} manque" for name in expected if name not in found),
        *(f"{name} n'a plus les octets publiés" for name in expected if found.get(name, expected[name]) != expected[name]),
        *(f"{name} n'a pas été publié" for name in found if name not in expected),
    ]


def twin_faults(where: Home, name: str) -> list[str]:
    """What is no longer as published in the evaluators' side of a release, as ``faults`` says it.

    None for a release made before there were two sides. Raises PermissionError when this user may not read that side.
    """
    folder, told = evaluators_folder(where) / name, read_json(where.releases / name / "checks.json") or {}
    try:
        os.listdir(folder)
    except FileNotFoundError:
        return ["le dossier manque"] if "empreinte_publique" in told else []
    if wrong := faults(folder):
        return wrong
    own = read_json(folder / "checks.json") or {}
    same = not told or all(own.get(key) == told.get(key) for key in ("empreinte_candidat", "empreinte_publique"))
    return [] if same else ["ce sont les octets d'une autre publication"]


def is_whole(where: Home, name: str) -> bool:
    """Whether both sides of a release are as published; that of evaluators, as far as this user may read it."""
    try:
        return not faults(where.releases / name) and not twin_faults(where, name)
    except PermissionError:
        return True


def remedy(where: Home, name: str) -> str:
    """How to mend a release that is no longer as published, in French: it is made again, under another id."""
    others = [other for other in release_ids(where) if other != name and is_whole(where, other)]
    current = current_release(where)
    back = f"« dk rollback {others[-1]} », " if others and current and current.name == name else ""
    folders = [where.releases / name, *(twin for twin in [evaluators_folder(where) / name] if os.path.isdir(twin))]
    return f"{back}supprimer {' et '.join(map(str, folders))}, puis « dk run » : les mêmes données sont publiées à nouveau"


def recover(where: Home) -> str | None:
    """Ends what a publication killed before its last step began; returns the id that it put in service, or None.

    Its release had passed the gate and was complete: when the bytes of its two sides still are, only the switch is missing.
    One that is not whole was never anybody's, and goes, unless nothing tells what is current: then nothing is touched.
    """
    reconcile(where)
    for name in reversed(unfinished(where)):
        if not faults(where.releases / name) and not twin_faults(where, name):
            point_current(where, name)
            return name
        if current_release(where):
            _remove(where, name)
    return None


def _remove(where: Home, name: str) -> None:
    """Removes both sides of a release that nobody was pointed to; the public one, which names it, goes last."""
    for root in (evaluators_folder(where), where.releases):
        if (root / name).is_dir():
            shutil.rmtree(root / name)


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


def orphans(where: Home) -> list[Path]:
    """Folders of the evaluators' side whose public twin is not there: a publication was killed between the two, or somebody
    removed the public one."""
    root, known = evaluators_folder(where), set(on_disk(where))
    if not root.is_dir():
        return []
    return [p for p in sorted(root.iterdir()) if RELEASE_ID.fullmatch(p.name) and p.name not in known and p.is_dir() and not p.is_symlink()]


def reconcile(where: Home) -> None:
    """Sets the evaluators' side in accord with the public one, after a publication or a rollback that died between the two.

    A folder whose public twin is not there is of no release. Later than all of them, it is what a publication killed between
    its two renames left: it becomes the candidate again, unless there is a younger one. Any other goes.
    """
    last = max(map(_age, on_disk(where)), default=("", 0))
    for folder in orphans(where):
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o700 if path.is_dir() else 0o600)
        if where.candidate.exists() or _age(folder.name) < last:
            shutil.rmtree(folder)
        else:
            os.rename(folder, where.candidate)
    current, link = current_release(where), evaluators_folder(where) / "current"
    if current and RELEASE_ID.fullmatch(current.name):
        wanted = current.name if (link.parent / current.name).is_dir() else None
        if wanted != (os.readlink(link) if link.is_symlink() else None):
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


def _withdrawn_names(where: Home) -> set[str]:
    record = where.releases / WITHDRAWN
    return set(record.read_text(encoding="utf-8", errors="replace").split()) if record.exists() else set()


def withdrawn(where: Home) -> list[str]:
    """Ids of the releases that a rollback took out of service, oldest first: no run brings them back by itself."""
    listed, current = _withdrawn_names(where), current_release(where)
    # A rollback that died halfway had written its list, and switched nothing.
    return [name for name in on_disk(where) if name in listed and not (current and name == current.name)]


def _fingerprints(where: Home, name: str) -> tuple[str | None, tuple[str, str]]:
    """(hash of the inputs, hashes of the exact and of the public data) that a release was published with.

    With damaged evidence its inputs are not known, and its data are summed again.
    """
    public, twin = where.releases / name, evaluators_folder(where) / name
    try:
        evidence = json.loads((public / "checks.json").read_text(encoding="utf-8"))
        return evidence["empreinte_entrees"], _data(evidence)
    except (OSError, ValueError, TypeError, KeyError):
        LOG.warning("%s est illisible : « dk doctor » dit comment y remédier", public / "checks.json")
        return None, (candidate_fingerprint(twin if twin.is_dir() else public), candidate_fingerprint(public))


def _data(evidence: dict[str, Any]) -> tuple[str, str]:
    return evidence["empreinte_candidat"], evidence.get("empreinte_publique", evidence["empreinte_candidat"])


def already_published(where: Home, fingerprint: str) -> bool:
    """True when these inputs would teach nothing: the current release was built from them, or a withdrawn one was, or
    the last candidate was and its data turned out to be the current ones."""
    current = current_release(where)
    if current is None:
        return False
    if any(_fingerprints(where, name)[0] == fingerprint for name in (current.name, *withdrawn(where))):
        return True
    try:
        audited = json.loads((where.candidate / "checks.json").read_text(encoding="utf-8"))
        return (
            audited["empreinte_entrees"] == fingerprint
            and _data(audited) == _fingerprints(where, current.name)[1]
            and not blocking_failures(audited["controles"])
        )
    except (OSError, ValueError, TypeError, KeyError):
        return False


def publish(where: Home, today: dt.date | None = None) -> tuple[str, bool]:
    """Publishes the audited candidate on both sides; returns (release id, True when it is new).

    Raises PublicationRefused when the evidence does not hold. Whatever fails, ``current`` still points where it did.
    """
    import duckdb

    recovered = recover(where)
    if recovered and not where.candidate.exists():
        return recovered, True
    manifest = load_manifest(where)
    evidence, exact_sums, public_sums = verify_evidence(where, manifest)
    current = current_release(where)
    if current and _fingerprints(where, current.name)[1] == _data(evidence):
        return current.name, False
    for name in withdrawn(where):
        if _fingerprints(where, name)[1] == _data(evidence):
            raise PublicationRefused(
                f"ces données sont celles de {name}, retirée du service ; corriger ce qui l'a fait retirer, "
                f"ou la remettre avec « dk rollback {name} »"
            )
    release_id = _next_id(where, today or dt.datetime.now(dt.UTC).date(), evidence["mention"])
    before = evaluators_folder(where) / current.name if current else None
    try:
        root = ensure_evaluators(where)
        shown = diffusion.redacted(evidence["controles"], published_models(manifest))
        sides = (
            (where.candidate, before if before and before.is_dir() else None, False, exact_sums, evidence),
            (public_folder(where), current, True, public_sums, evidence | {"controles": shown}),
        )
        for folder, _, public, *_ in sides:
            _clean(folder, ("parquet",) if public else ("parquet", "checks.json"))
        _write_databases(where, manifest, exact_sums, public_sums)
        with ThreadPoolExecutor(len(sides)) as pool:  # other processes render the pages of the public one
            list(pool.map(lambda side: _prepare(manifest, release_id, *side), sides))
        _close(where.candidate, root)
        os.rename(where.candidate, root / release_id)
        os.rename(public_folder(where), where.releases / release_id)
        point_current(where, release_id)
    except (OSError, duckdb.IOException) as error:
        with contextlib.suppress(OSError):
            reconcile(where)
        raise _unwritable(error) from error
    return release_id, True


def _next_id(where: Home, today: dt.date, mention: str | None) -> str:
    """Id of the next release: later than all those on disk, even when the clock went back since the last one."""
    link = where.releases / "current"
    pointed = [Path(os.readlink(link)).name] if link.is_symlink() else []  # a folder removed by hand had its id
    day, rank = max((_age(name) for name in (*on_disk(where), *pointed) if RELEASE_ID.fullmatch(name)), default=("", 0))
    release_id = f"{day}-{rank + 1}" if day >= today.isoformat() else f"{today.isoformat()}-1"
    return f"demo-{release_id}" if mention else release_id


def _clean(folder: Path, kept: tuple[str, ...]) -> None:
    """Removes what an earlier attempt, stopped by a crash or a full disk, left beside the audited files."""
    for path in folder.iterdir():
        if path.name in kept:
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def _prepare(
    manifest: dict[str, Any], release_id: str, folder: Path, old: Path | None, public: bool, audited_sums: dict[str, str],
    evidence: dict[str, Any],
) -> None:
    """Writes beside the tables and the DuckDB file of one side all that makes them a release, down to its sums.

    ``audited_sums``: sums of the files that the evidence speaks of. Raises PublicationRefused when they are no longer those,
    or when a file written around them tells of a person.
    """
    mention = evidence["mention"]
    (folder / "datapackage.json").write_text(
        json.dumps(datapackage(folder, manifest, release_id, public, mention), ensure_ascii=False, indent=1), encoding="utf-8"
    )
    (folder / "changes.md").write_text(_notes(old, folder, release_id, mention, evidence["secret"]), encoding="utf-8")
    if public:
        (folder / "checks.json").write_text(json.dumps(evidence, ensure_ascii=False, indent=1), encoding="utf-8")
        write_pages(folder, manifest, release_id)
    _refuse_personal_data(folder)
    sums = file_sums(folder)
    around = {DATABASE, "datapackage.json", "changes.md", "checks.json", "dictionnaire.json"} - audited_sums.keys()
    if {name: found for name, found in sums.items() if name not in around and not name.startswith("pages/")} != audited_sums:
        raise PublicationRefused("le candidat a changé pendant sa publication ; relancer « dk run »")
    (folder / SUMS).write_text("".join(f"{found}  {name}\n" for name, found in sums.items()), encoding="utf-8")
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


def _write_databases(where: Home, manifest: dict[str, Any], exact_sums: dict[str, str], public_sums: dict[str, str]) -> None:
    """The DuckDB file of both sides; the tables that they hold alike are written once, and copied with their file.

    ``exact_sums`` and ``public_sums``: sums of the tables' Parquet, by path.
    """
    exact, public = tables_of(manifest, False), tables_of(manifest, True)
    alike = {
        name: node for name, node in public.items()
        if exact_sums[f"parquet/{name}.parquet"] == public_sums[f"parquet/{name}.parquet"] and _comments(name, node) == _comments(name, exact[name])
    }  # fmt: skip
    first, second = public_folder(where), where.candidate
    _write_duckdb(first, alike)
    shutil.copyfile(first / DATABASE, second / DATABASE)
    with ThreadPoolExecutor(2) as pool:
        own = [(folder, {k: v for k, v in nodes.items() if k not in alike}) for folder, nodes in ((first, public), (second, exact))]
        list(pool.map(lambda side: _write_duckdb(*side), own))


def _comments(name: str, node: dict[str, Any]) -> list[str]:
    quoted = lambda text: "'" + text.replace("'", "''") + "'"  # noqa: E731
    columns = [f"comment on column {name}.{column} is {quoted(facts['description'])}" for column, facts in node["columns"].items()]
    return [f"comment on table {name} is {quoted(node['description'])}", *columns]


def _write_duckdb(folder: Path, nodes: dict[str, dict[str, Any]]) -> None:
    """Adds tables and their comments to the read-only convenience file of one side; Parquet stays the durable format.

    It is written as DuckDB 1.0 reads it: what evaluators have (R, DBeaver, a command line) is often older than the engine here.
    """
    import duckdb

    with duckdb.connect(str(folder / DATABASE), config={"threads": 2, "storage_compatibility_version": "v1.0.0"}) as con:
        con.execute("begin")  # one for all: each comment by itself would wait for the disk
        for name, node in sorted(nodes.items()):
            path = (folder / "parquet" / f"{name}.parquet").as_posix().replace("'", "''")
            con.execute(f"create table {name} as select * from read_parquet('{path}')")
            for comment in _comments(name, node):
                con.execute(comment)
        con.execute("commit")


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


def _licence(name: str) -> dict[str, str]:
    """A licence as the standard writes it: an identifier without spaces, with its title and text when they are known."""
    title, path = LICENCES.get(name, (name, ""))
    return {"name": re.sub(r"[^A-Za-z0-9._-]+", "-", name), "title": title} | ({"path": path} if path else {})


FRICTIONLESS = {"varchar": "string", "bigint": "integer", "integer": "integer", "double": "number", "date": "date", "boolean": "boolean"}


def datapackage(folder: Path, manifest: dict[str, Any], release_id: str, public: bool, mention: str | None) -> dict[str, Any]:
    """Frictionless data package of one side of a release: tables, columns, keys, licences and sources."""
    import polars as pl

    keys = keys_of(manifest)
    rows = pl.read_parquet(folder / "parquet" / "dim_source.parquet").sort("source_id").to_dicts()
    licences = sorted({name for row in rows for name in row["licence"].split(" ; ")})
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
        "licenses": [_licence(name) for name in licences],
        # The standard wants a path to be a text: a source that has no page has no path.
        "sources": [
            {"title": row["citation"], "source_id": row["source_id"], "licence": row["licence"]} | ({"path": row["page"]} if row["page"] else {})
            for row in rows
        ],
        "resources": resources,
    }  # fmt: skip


# --- what changed -----------------------------------------------------------------------------------------------


def _notes(old: Path | None, folder: Path, release_id: str, mention: str | None, secret: dict[str, Any]) -> str:
    """``changes`` of the release to be, which damage to the one before must not prevent."""
    import duckdb

    try:
        return changes(old, folder, release_id, mention, secret)
    except duckdb.Error:
        wrong = faults(old) if old else []
        if not old or not wrong:
            raise
        LOG.warning("publication %s endommagée (%s) : les changements depuis elle ne sont pas comptés", old.name, wrong[0])
        without = f"Comparaison impossible avec {old.name}, endommagée depuis sa publication : {wrong[0]}."
        return changes(None, folder, release_id, mention, secret, without)


def rollback(where: Home, release_id: str) -> str:
    """Points ``current`` back to a release on disk, on both sides, after checking its sums; returns its id.

    The later ones are written down as withdrawn, else the next run would publish the same data again. What a killed
    publication left was never in service: it goes.
    Raises ReleaseError when it does not exist or its bytes are no longer those published.
    """
    folder = release_folder(where, release_id)
    for title, wrong in ((folder.name, faults(folder)), (f"{folder.name} (version pour évaluateurs)", twin_faults(where, folder.name))):
        if wrong:
            raise ReleaseError(f"{title} : {wrong[0]} ; choisir une autre publication")
    for name in unfinished(where):
        _remove(where, name)
    reconcile(where)
    ids = release_ids(where)
    later = ids[ids.index(folder.name) + 1 :]
    out = [name for name in ids if name in {*withdrawn(where), *later} and name != folder.name]
    temporary = where.releases / f".{WITHDRAWN}.tmp"
    temporary.write_text("".join(f"{name}\n" for name in out), encoding="utf-8")
    os.replace(temporary, where.releases / WITHDRAWN)
    point_current(where, folder.name)
    return folder.name
