"""``make bench``: the full job against a bare lower bound, in one run, on a simulated year panel.

Three measures, each in its own process, from its start to its exit:

- **fixed cost**: ``dk run`` on the communes alone and a panel of almost no rows;
- **full job**: ``dk run`` on the panel, from an empty home: fetch, snapshot, read, gate, land, dbt build with its tests,
  candidate, audit, release;
- **lower bound**: one DuckDB connection that reads the same panel files with a bare typed ``read_csv``, runs the same
  compiled SQL of the same models, writes the same Parquet by the same statements and computes the same metrics.

The bound does nothing that the job could go without: no hash nor copy of the files, no gate, no reject, no dbt test,
no expectation, no DuckDB file of the release; all that is not the panel is taken already landed. The Parquet that it
writes must be that of the release, byte for byte: a bound that did other work would be none.

``--volume`` and ``--records`` measure other things instead: see ``tests/bench_volume.py``.

The panel is added to a copy of the project in a temporary folder: real commune codes of the embedded vintages, random
figures, « simulé » in every row and label. It has the shape of the large real files: a row per commune and year, two
measures in a row, successive vintages of the COG, holes. Nothing is written in the checkout.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent
PARTS = ("dbt_project", "expectations", "ingestion", "notebooks", "orchestration")
OBSERVATIONS = 7_000_000
MAX_RATIO = 2.0
YEARS = range(2016, 2026)
# A count, and what stands beside it in the same row: (nature, calculation that makes an indicator of it), in turn.
SECONDS = (
    ("effectif", "ratio"), ("effectif", "somme"), ("moyenne", "moyenne_ponderee"), ("effectif", "ratio"), ("mediane", "valeur"),
)  # fmt: skip
SOURCES = 2 * len(SECONDS)
MEASURES = 2 * SOURCES
EMPTY = 0.02
LATE = 3  # exit code of « dk run » when it published and some source was not there: here, all but the panel and the communes


# --- the simulated panel ----------------------------------------------------------------------------------------


def copy_project(folder: Path) -> None:
    """The project's code, models and catalogue, without the state that a checkout may hold."""
    for part in PARTS:
        shutil.copytree(PROJECT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))


def extract_communes(mirror: Path) -> dict[int, list[str]]:
    """Puts the embedded files in ``mirror`` under their declared names; returns the communes of each COG vintage."""
    from ingestion.declarations import load_sources
    from ingestion.fetch import ARCHIVE

    with tarfile.open(ARCHIVE, "r:xz") as archive:
        archive.extractall(mirror, filter="data")
    vintages: dict[int, list[str]] = {}
    for source in load_sources().values():
        for livraison in source.meta.livraisons if source.meta.embarque == "defaut" else ():
            path = mirror / livraison.chemin
            if not path.exists():
                path.with_name(path.name.removesuffix(".gz")).rename(path)
            if source.source_id == "etalab__communes" and livraison.cog_annee:
                rows = json.loads(path.read_text(encoding="utf-8"))
                vintages[livraison.cog_annee] = sorted(r["code"] for r in rows if r["type"] == "commune-actuelle")
    return vintages


def vintage_of(year: int, vintages: dict[int, list[str]]) -> int:
    """The COG in which a producer publishes the figures of a year: the first in hand that is not older than it."""
    return min(cog for cog in vintages if cog >= year)


def _measures(rank: int) -> list[tuple[str, str]]:
    """(identifier, nature) of the two measures of source ``rank``."""
    return [(f"simule_{rank:02}_a", "effectif"), (f"simule_{rank:02}_b", SECONDS[rank % len(SECONDS)][0])]


def _chemin(rank: int, year: int) -> str:
    return f"simule/panel_{rank:02}_{year}.csv"


def declare_panel(project: Path, vintages: dict[int, list[str]]) -> None:
    """Adds the simulated sources and their indicators to the declarations of the copied project."""
    import yaml

    tables = [
        {
            "name": f"panel_{rank:02}", "identifier": f"simule__panel_{rank:02}",
            "description": "Données simulées pour le banc d'essai : ces chiffres ne disent rien d'aucune commune.",
            "config": {
                "meta": {
                    "titre": f"Panel simulé {rank:02}", "licence": "LO-2.0", "citation": "simulé par tests/bench.py",
                    "confidentialite": "publique", "cadence": "close", "regle_millesime": "simulé : l'année du panel",
                    "grain": "une commune et une année", "cle": ["commune_code", "annee"],
                    "format": {"type": "csv", "separateur": ";"},
                    "mesures": {"niveau": "commune", "code": "commune_code", "periode": "annee"},
                    "attendus": {"lignes_min": 1, "rejets_part_max": 0.0, "remplies": {"commune_code": 1.0}},
                    "livraisons": [
                        {
                            "millesime": f"{year} (simulé)", "chemin": _chemin(rank, year), "publie_le": f"{year + 1}-06-30",
                            "cog_annee": vintage_of(year, vintages),
                        }
                        for year in YEARS
                    ],
                }
            },
            "columns": [
                {"name": "commune_code", "data_type": "varchar", "description": "Code de la commune.",
                 "config": {"meta": {"origine": "CODGEO", "type": "code_commune"}}},
                {"name": "annee", "data_type": "bigint", "description": "Année simulée.",
                 "config": {"meta": {"origine": "ANNEE", "type": "entier"}}},
                *(
                    {"name": name, "data_type": "double", "description": "Mesure simulée.",
                     "config": {"meta": {"origine": name.upper(), "type": "nombre", "mesure": {"id": name, "nature": nature}}}}
                    for name, nature in _measures(rank)
                ),
            ],
        }
        for rank in range(SOURCES)
    ]  # fmt: skip
    group = {"name": "simule", "schema": "landing", "description": "Panel simulé.", "tables": tables,
             "config": {"meta": {"producteur": "simulé (tests/bench.py)"}}}  # fmt: skip
    path = project / "dbt_project" / "models" / "sources" / "simule.yml"
    path.write_text(yaml.safe_dump({"version": 2, "sources": [group]}, allow_unicode=True), encoding="utf-8")
    catalogue = project / "ingestion" / "catalogue" / "indicateurs_communs.yml"
    entries = [
        {
            "indicateur_id": name, "libelle": f"Indicateur simulé {name}", "portee": "vie_quotidienne", "type": "resultat",
            "domaine": "cadre_de_vie", "unite": "simulé", "sens_favorable": "sans_objet", "maille": "commune",
            "formule": "simulé", "sources": [], "frequence": "annuelle",
            "contrefactuel": {"pertinent": False, "methode": "aucune"}, "confiance_donnee": "basse", "note": "simulé",
            "agregation": {"ratio": "ratio_num_den", "valeur": "non_agregeable"}.get(kind, kind),
            "calcul": {"type": kind, "numerateur": name}
            | ({"denominateur": first, "facteur": 100} if kind == "ratio" else {})
            | ({"poids": first} if kind == "moyenne_ponderee" else {}),
            "motif_sans_valeur": None,
        }
        for rank in range(SOURCES)
        for first, kinds in [(_measures(rank)[0][0], ("somme", SECONDS[rank % len(SECONDS)][1]))]
        for (name, _), kind in zip(_measures(rank), kinds, strict=True)
    ]  # fmt: skip
    with catalogue.open("a", encoding="utf-8") as stream:
        stream.write("\n" + yaml.safe_dump(entries, allow_unicode=True, sort_keys=False))


def write_panel(mirror: Path, observations: int, vintages: dict[int, list[str]]) -> int:
    """Writes one CSV per source and year; returns the values they hold, holes included (nearest to ``observations``)."""
    import numpy as np
    import polars as pl

    shutil.rmtree(mirror / "simule", ignore_errors=True)
    (mirror / "simule").mkdir()
    wanted = max(1, round(observations / (len(YEARS) * MEASURES)))
    values = 0
    for year in YEARS:
        known = vintages[vintage_of(year, vintages)]
        # Spread over the country, so that a small panel meets every département too.
        codes = [known[i] for i in np.linspace(0, len(known) - 1, min(wanted, len(known))).astype(int)]
        for rank in range(SOURCES):
            random = np.random.default_rng([year, rank])
            size = len(codes)
            base = random.integers(20, 20_000, size)
            second = base // random.integers(2, 20, size) if rank % 2 else np.round(random.uniform(5, 5_000, size), 1)
            cells = {name.upper(): column for (name, _), column in zip(_measures(rank), (base, second), strict=True)}
            frame = pl.DataFrame({"CODGEO": codes, "ANNEE": [year] * size, **cells, "MENTION": ["simulé"] * size})
            holes = [pl.when(pl.Series(random.random(size) >= EMPTY)).then(pl.col(name)).alias(name) for name in cells]
            frame.with_columns(holes).write_csv(mirror / _chemin(rank, year), separator=";")
            values += size * 2
    return values


# --- the three measures -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Measured:
    """Wall seconds and peak resident memory (MB) of one process, and what it printed."""

    seconds: float
    peak_mb: float
    output: str


class BenchFailed(RuntimeError):
    """A measured process failed: there is nothing to compare."""


def measure(command: list[str], project: Path, accepted: tuple[int, ...] = (0,), **environment: str) -> Measured:
    """Runs one command in the copied project. Raises BenchFailed with the end of its output when it fails."""
    with tempfile.TemporaryFile("w+", encoding="utf-8") as output:
        start = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=project, stdout=output, stderr=subprocess.STDOUT, env=os.environ | environment | {"PYTHONPATH": str(project)}
        )
        # wait4 gives the peak of this child alone; RUSAGE_CHILDREN would give the largest of all of them.
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        text = output.read()
    if process.returncode not in accepted:
        raise BenchFailed(f"{' '.join(command[1:4])} : code de sortie {process.returncode}\n{text[-3000:]}")
    unit = 1e6 if sys.platform == "darwin" else 1e3
    return Measured(seconds, usage.ru_maxrss / unit, text)


def full_job(project: Path, mirror: Path, home: Path) -> Measured:
    return measure(
        [sys.executable, "-m", "orchestration.cli", "run", "--from", f"mirror:{mirror}"], project, (0, LATE), DK_HOME=str(home)
    )


def bound_statements(home: Path, mirror: Path, target: Path) -> list[tuple[str, str]]:
    """(stage, SQL) of the bound, in order, from the manifest that the full job left."""
    from expectations.release import facts_of, metrics_sql
    from ingestion.declarations import load_sources
    from ingestion.paths import Home
    from orchestration import release

    where = Home(home)
    manifest = release.load_manifest(where)
    landed = sorted(p.as_posix() for p in (where.landing / "mesures").glob("*.parquet") if not p.name.startswith("simule__"))
    states = {
        (etat["source_id"], etat["chemin"]): etat
        for path in (where.landing / "etats").glob("simule__*.json")
        for etat in json.loads(path.read_text(encoding="utf-8"))["etats"]
    }
    found = [
        ("lecture", f"attach '{where.warehouse.as_posix()}' as complet (read_only)"),
        ("lecture", f"create table mesures as select * from read_parquet({landed})"),
    ]
    for source in load_sources().values():
        if source.groupe != "simule":
            continue
        measures = {c.name: c.meta.mesure for c in source.columns if c.meta.mesure}
        types = {"CODGEO": "VARCHAR", "ANNEE": "INTEGER", **{name.upper(): "DOUBLE" for name in measures}, "MENTION": "VARCHAR"}
        natures = " ".join(f"when '{name}' then '{mesure.nature}'" for name, mesure in measures.items())
        for livraison in source.meta.livraisons:
            facts = states[source.source_id, livraison.chemin]
            # The line (the header is the first) joins the two measures of a row again and names it in the rejects.
            found.append((
                "lecture",
                f"""
                with brut as (
                    select *, row_number() over () + 1 as ligne
                    from read_csv('{(mirror / livraison.chemin).as_posix()}', columns = {types}, header = true, delim = ';',
                        auto_detect = false)
                )
                insert into mesures by name
                select
                    lower(mesure) as mesure_id, case lower(mesure) {natures} end as nature, 'commune' as territoire_niveau,
                    CODGEO as territoire_code, {livraison.cog_annee} as cog_annee, make_date(ANNEE, 1, 1) as periode_debut,
                    make_date(ANNEE, 12, 31) as periode_fin, valeur,
                    case when valeur is null then 'manquant' else 'observé' end as statut_valeur,
                    '{source.source_id}' as source_id, '{livraison.millesime}' as millesime,
                    '{facts["snapshot_sha256"]}' as snapshot_sha256, date '{facts["connue_le"]}' as connue_le, ligne,
                    true as actuelle
                from brut unpivot include nulls (valeur for mesure in ({', '.join(name.upper() for name in measures)}))
                """,
            ))  # fmt: skip
    models = {uid: node for uid, node in manifest["nodes"].items() if node["resource_type"] == "model"}
    panel = f"read_parquet('{(where.landing / 'mesures').as_posix()}/*.parquet')"
    if not any(panel in node["compiled_code"] for node in models.values()):
        raise BenchFailed(f"aucun modèle ne lit {panel} : la borne ne saurait pas où mettre le panel")
    done: set[str] = set()
    while len(done) < len(models):
        ready = [uid for uid in models if uid not in done and done.issuperset(d for d in models[uid]["depends_on"]["nodes"] if d in models)]
        for uid in ready:
            node = models[uid]
            kind = {"table": "table", "view": "view"}[node["config"]["materialized"]]
            code = node["compiled_code"].replace(panel, "mesures")
            if node["language"] == "python":  # no SQL to run: the bound gets for nothing what the job computed
                code = f"select * from complet.{node['schema']}.{node['name']}"
            found.append((node["name"], f"create {kind} {node['relation_name']} as {code}"))
            done.add(uid)
    keys = release.keys_of(manifest)
    for name, node in sorted(release.published_models(manifest).items()):
        found.append(("parquet", release.copy_sql(node, keys[name], target)))
    for name in sorted(keys):
        path = (target / f"{name}.parquet").as_posix()
        found.append(("contrôles", f"create or replace view candidat as select * from read_parquet('{path}')"))
        found.append(("contrôles", metrics_sql(facts_of(name, keys[name]))))
    return found


def run_bound(statements: Path, work: Path) -> None:
    """The process of the bound: every statement in one connection, with the job's settings; prints seconds by stage."""
    import duckdb

    spent: dict[str, float] = {}
    config = {"threads": 2, "memory_limit": os.environ.get("DK_MEMORY", "3GB"), "temp_directory": str(work / "tmp")}
    with duckdb.connect(str(work / "entrepot.duckdb"), config=config) as con:
        for stage, sql in json.loads(statements.read_text(encoding="utf-8")):
            start = time.perf_counter()
            con.execute(sql).fetchall()
            spent[stage] = spent.get(stage, 0.0) + time.perf_counter() - start
    print(json.dumps(spent, ensure_ascii=False))


def lower_bound(project: Path, mirror: Path, home: Path, work: Path) -> Measured:
    """Measures the bound; its statements are written beforehand, so that it does not pay for reading a manifest."""
    target = work / "parquet"
    target.mkdir(parents=True)
    statements = work / "borne.json"
    script = "import json, sys; from pathlib import Path; from tests import bench; " \
             "print(json.dumps(bench.bound_statements(*map(Path, sys.argv[1:]))))"  # fmt: skip
    planned = measure([sys.executable, "-c", script, str(home), str(mirror), str(target)], project)
    statements.write_text(planned.output.splitlines()[-1], encoding="utf-8")
    return measure([sys.executable, "-m", "tests.bench", "--bound", str(statements), str(work)], project)


def same_bytes(home: Path, work: Path) -> list[str]:
    """Tables whose Parquet differs between the exact side of the release and the bound; an empty list proves equal work."""
    from ingestion.paths import Home
    from orchestration.diffusion import evaluators_folder
    from orchestration.release import sha256_file

    published = evaluators_folder(Home(home)) / "current" / "parquet"
    return [p.name for p in sorted((work / "parquet").glob("*.parquet")) if sha256_file(p) != sha256_file(published / p.name)]


def main() -> int:
    from tests import bench_volume

    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Le travail complet contre sa borne basse, en une exécution.")
    parser.add_argument("--observations", type=int, default=OBSERVATIONS, help="valeurs simulées (défaut : %(default)s)")
    parser.add_argument("--max-ratio", type=float, default=MAX_RATIO, help="rapport au-delà duquel la commande échoue (défaut : %(default)s)")
    parser.add_argument("--details", action="store_true", help="montrer aussi les durées par étape")
    parser.add_argument("--keep", type=Path, help="dossier vide où garder tout ce qui est fait, au lieu d'un dossier temporaire")
    parser.add_argument("--volume", type=int, nargs="?", const=bench_volume.BASE, metavar="LIGNES",
                        help="mesurer plutôt la lecture de très gros fichiers, à 1, 4 et 16 fois tant de lignes (défaut : %(const)s)")  # fmt: skip
    parser.add_argument("--shapes", nargs="+", choices=sorted(bench_volume.SHAPES), default=sorted(bench_volume.SHAPES),
                        help="avec --volume : quels fichiers (défaut : tous)")  # fmt: skip
    parser.add_argument("--factors", nargs="+", type=int, default=bench_volume.FACTORS, help="avec --volume : combien de fois (défaut : 1 4 16)")
    parser.add_argument("--records", type=int, nargs="?", const=bench_volume.REQUESTS, metavar="LIGNES",
                        help="mesurer plutôt le contrôle et l'arrivée de tant de demandes d'ingénierie (défaut : %(const)s)")  # fmt: skip
    parser.add_argument("--bound", nargs=2, type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.bound:
        run_bound(*options.bound)
        return 0
    with tempfile.TemporaryDirectory(prefix="dk-bench-") as temporary:
        try:
            if options.volume:
                return bench_volume.report(options.volume, options.shapes, list(options.factors))
            if options.records:
                return bench_volume.report_records(options.records)
            return report(options, options.keep or Path(temporary))
        except BenchFailed as failure:
            print(f"Erreur : {failure}", file=sys.stderr)
            return 1


def report(options: Any, folder: Path) -> int:
    """Prepares, measures and prints; 0 when the bound did the same work and the ratio holds, else 1."""
    import duckdb

    project, mirror, home, work = (folder / name for name in ("projet", "miroir", "etat", "borne"))
    for path in (project, mirror, work):
        path.mkdir(parents=True)
    copy_project(project)
    (project / "tests").mkdir()
    for name in ("bench.py", "bench_volume.py"):
        shutil.copyfile(Path(__file__).with_name(name), project / "tests" / name)
    vintages = extract_communes(mirror)
    declare_panel(project, vintages)
    write_panel(mirror, 0, vintages)
    print("Panel simulé : codes de communes réels, chiffres tirés au hasard.", flush=True)
    fixed = full_job(project, mirror, folder / "etat_fixe")
    values = write_panel(mirror, options.observations, vintages)
    size = sum(p.stat().st_size for p in (mirror / "simule").iterdir())
    full = full_job(project, mirror, home)
    bound = lower_bound(project, mirror, home, work)
    observations = duckdb.execute(
        "select count(*) from read_parquet(?)", [str(home / "releases" / "current" / "parquet" / "fct_observation.parquet")]
    ).fetchone()
    different = same_bytes(home, work)
    ratio = full.seconds / bound.seconds
    if options.details:
        print(f"\nTravail complet :\n{full.output}\nBorne (s) :")
        stages = json.loads(bound.output)
        print("\n".join(f"  {seconds:6.2f}  {stage}" for stage, seconds in sorted(stages.items(), key=lambda item: -item[1])))
    print(f"{values:,} valeurs simulées ({size / 1e6:.0f} Mo de CSV) ; {observations[0]:,} lignes dans fct_observation".replace(",", " "))
    for label, measured in (("coût fixe", fixed), ("travail complet", full), ("borne basse", bound)):
        print(f"{label:<16}{measured.seconds:8.1f} s   mémoire {measured.peak_mb:6.0f} Mo")
    print(f"{'rapport':<16}{ratio:8.2f}     (au plus {options.max_ratio:g})")
    print("La borne lit les mêmes CSV (read_csv typé), exécute le même SQL compilé, écrit les mêmes Parquet et fait les mêmes mesures")
    print("des contrôles en une connexion DuckDB ; elle ne fait ni empreintes, ni portes, ni tests dbt, ni estimations d'impact (elle copie")
    print("leurs tables), ni secret statistique, ni pages, ni base DuckDB de publication.")
    if different:
        print(f"Erreur : la borne n'a pas fait le même travail, {', '.join(different)} diffèrent", file=sys.stderr)
    return int(ratio > options.max_ratio or bool(different))


if __name__ == "__main__":
    sys.exit(main())
