"""Renders the notebooks of a release into static pages: one process per core, each page the notebook run for one subject.

A page that cannot be rendered raises: what leaders read is part of a release, so publishing refuses without it.
"""

from __future__ import annotations

import importlib
import os
import tempfile
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from multiprocessing import forkserver, get_context
from pathlib import Path
from typing import Any

from notebooks.kit.release import Release

SETTINGS = ("XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME", "MPLCONFIGDIR")
NOTEBOOKS = ("sommaire", "tableau_de_bord", "intervention", "territoire", "sur_mesure", "qualite_et_methode", "dictionnaire")

# The eighteen régions and their départements, and the overseas collectivities of which the release knows something.
TERRITOIRES = """
select territoire_niveau, territoire_code, territoire_nom, case when length(region_code) = 2 then region_code end as region_code
from dim_territoire
where est_pivot and (
    (territoire_niveau = 'region' and length(territoire_code) = 2)
    or (territoire_niveau = 'departement' and (length(region_code) = 2 or territoire_code in (
        select territoire_code from fct_observation where territoire_niveau = 'departement' and valeur is not null)))
)
order by territoire_niveau desc, territoire_nom, territoire_code
"""


class RenderError(RuntimeError):
    """A page cannot be made; the French message names it and says why."""


@dataclass(frozen=True)
class Sheet:
    """One page to make: its notebook, the variables given to it, and its file below the folder of pages."""

    notebook: str
    given: tuple[tuple[str, Any], ...]
    path: str


def sheets(release: Release) -> list[Sheet]:
    """Every page of a release: the single ones, one per intervention, région and département, and the dictionary."""
    found = [
        Sheet("sommaire", (), "index.html"),
        Sheet("tableau_de_bord", (("choix", None), ("formes", _column(release, "select distinct forme from mart_tableau_de_bord order by 1"))), "tableau_de_bord.html"),
        Sheet("sur_mesure", (), "sur_mesure.html"),
        Sheet("qualite_et_methode", (), "qualite_et_methode.html"),
    ]  # fmt: skip
    for name in _column(release, "select intervention_id from dim_intervention order by 1"):
        found.append(Sheet("intervention", (("choix", None), ("intervention_id", name)), f"interventions/{name}.html"))
    facts = release.dictionary()
    found.append(Sheet("dictionnaire", (("choix", None), ("sujet", "")), "dictionnaire/index.html"))
    found += [Sheet("dictionnaire", (("choix", None), ("sujet", f"table:{name}")), f"dictionnaire/{name}.html") for name in facts["tables"]]
    for group in sorted({source["groupe"] for source in facts["sources"].values()}):
        found.append(Sheet("dictionnaire", (("choix", None), ("sujet", f"sources:{group}")), f"dictionnaire/sources-{group}.html"))
    found += [territory(*place) for place in release.query(TERRITOIRES).select("territoire_niveau", "territoire_code").iter_rows()]
    return found


def territory(level: str, code: str) -> Sheet:
    """The page of one territory; ``level`` is region, departement, epci or commune."""
    return Sheet("territoire", (("choix", None), ("niveau", level), ("code", code)), f"territoires/{level}-{code}.html")


def territory_of(release: Release, place: str) -> Sheet:
    """The page of the territory written ``niveau:code``. Raises LookupError, in French, when the release has none such."""
    level, _, code = place.partition(":")
    known = release.query(
        "select 1 from dim_territoire where est_pivot and territoire_niveau = ? and territoire_code = ? and territoire_niveau in ('commune', 'epci', 'departement', 'region')",
        level, code,
    )  # fmt: skip
    if known.height != 1:
        older = release.query("select max(cog_annee) as annee from dim_territoire where territoire_niveau = ? and territoire_code = ?", level, code)["annee"][0]
        why = f" ; ce code a eu cours jusqu'en {older}, chercher celui qui lui succède" if older else " ; écrire niveau:code, par exemple commune:23096"
        raise LookupError(f"pas de territoire « {place} » dans la géographie de la publication{why}")
    return territory(level, code)


def _column(release: Release, sql: str, *parameters: Any) -> list[Any]:
    return release.query(sql, *parameters).to_series().to_list()


def preload() -> None:
    """Imports what every page needs, once, before the processes part."""
    import duckdb  # noqa: F401
    import polars  # noqa: F401

    for name in NOTEBOOKS:
        importlib.import_module(f"notebooks.{name}")


@cache
def _opened(folder: str, name: str) -> Release:
    return Release(Path(folder), threads=1, name=name)


def _render(job: tuple[str, str, str, list[Sheet]]) -> dict[str, int]:
    """Renders some pages of one release in this process; returns their sizes in bytes, by file."""
    folder, name, target, some = job
    sizes = {}
    for sheet in some:
        app = importlib.import_module(f"notebooks.{sheet.notebook}").app
        try:
            _, defs = app.run(defs={"release": _opened(folder, name), **dict(sheet.given)})
            sizes[sheet.path] = defs["feuille"].write(Path(target) / sheet.path)
        except Exception as error:
            raise RenderError(f"la page {sheet.path} ne peut pas être faite : {type(error).__name__} : {str(error)[:300]}") from None
    return sizes


def render(folder: Path, target: Path, only: Iterable[Sheet] | None = None, name: str = "", processes: int | None = None) -> dict[str, int]:
    """Renders the release of a folder into ``target``; returns the size of each page in bytes, by file.

    ``name`` is the identifier of a release whose folder does not bear it yet. Raises RenderError for the first page that
    cannot be made. Equal releases give equal bytes, whatever the number of processes.
    """
    release = Release(folder, name=name)
    every = list(sheets(release) if only is None else only)
    release.close()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    count = min(processes or cores, len(every))
    jobs = [(str(folder), release.id, str(target), every[part : part + 12]) for part in range(0, len(every), 12)]
    warm()
    sizes: dict[str, int] = {}
    with ProcessPoolExecutor(count, mp_context=get_context("forkserver")) as pool:
        for done in pool.map(_render, jobs):
            sizes |= done
    return sizes


def warm() -> None:
    """Starts the process that workers are forked from, unless it runs: it imports what pages need while this one goes on.

    A clean process, since this one has threads of Polars and DuckDB, which do not survive a fork. marimo keeps settings
    and logs where a person's programs do; here they end with this process.
    """
    scratch = _scratch().name
    before = {name: os.environ.get(name) for name in SETTINGS}
    os.environ.update(dict.fromkeys(SETTINGS, scratch))
    try:
        forkserver.set_forkserver_preload(["notebooks.kit.preloaded"])
        forkserver.ensure_running()
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)


@cache
def _scratch() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="dk-pages-", ignore_cleanup_errors=True)
