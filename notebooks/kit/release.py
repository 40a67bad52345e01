"""The published release, as notebooks read it: read-only, resolved once, and nothing else."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars as pl

    from notebooks.kit.page import Page

DEMONSTRATION = "données de démonstration"


@dataclass(frozen=True)
class Release:
    """One immutable release on disk. Notebooks select rows of its tables and never compute what a mart should."""

    folder: Path
    threads: int = 2
    name: str = ""  # identifier of a release whose folder does not bear it yet: it is being published

    @cached_property
    def _con(self) -> Any:
        import duckdb

        con = duckdb.connect(str(self.folder / "dernier_kilometre.duckdb"), read_only=True, config={"threads": self.threads})
        con.execute("set enable_external_access = false")
        return con

    @cached_property
    def _package(self) -> dict[str, Any]:
        return json.loads((self.folder / "datapackage.json").read_text(encoding="utf-8"))

    @property
    def id(self) -> str:
        return self.name or self.folder.name

    @property
    def created(self) -> dt.date:
        return dt.datetime.fromisoformat(self._package["created"]).date()

    @property
    def demonstration(self) -> bool:
        """True when some row of the release is a demonstration one: its identifier says so."""
        return self.id.startswith("demo-")

    @cached_property
    def tables(self) -> frozenset[str]:
        return frozenset(resource["name"] for resource in self._package["resources"])

    def has(self, table: str) -> bool:
        """True when the release holds that table and it has rows."""
        return table in self.tables and self.query(f"select 1 from {table} limit 1").height == 1

    def dictionary(self) -> dict[str, Any]:
        """``dictionnaire.json`` of the release: what is declared of its tables and of the sources behind them."""
        return json.loads((self.folder / "dictionnaire.json").read_text(encoding="utf-8"))

    def query(self, sql: str, *parameters: Any) -> pl.DataFrame:
        """Rows of a query as a Polars frame; ``?`` stands for each parameter."""
        import polars as pl

        return pl.DataFrame(self._con.sql(sql, params=list(parameters)))

    def close(self) -> None:
        """Lets go of the file; the next query opens it again."""
        if "_con" in self.__dict__:
            self.__dict__.pop("_con").close()

    def one(self, sql: str, *parameters: Any) -> dict[str, Any]:
        """The only row of a query. Raises LookupError when there is none or several."""
        rows = self.query(sql, *parameters).to_dicts()
        if len(rows) != 1:
            raise LookupError(f"{len(rows)} lignes au lieu d'une pour {parameters}")
        return rows[0]

    def page(self, title: str, root: str = ".", name: str = "") -> Page:
        """An empty page of this release."""
        from notebooks.kit.page import Page

        return Page(title, self.id, self.created, self.demonstration, root=root, name=name)

    def citations(self, source_ids: list[str]) -> list[str]:
        """How to cite the sources named, each with the delivery in use, ready for the foot of a page."""
        from notebooks.kit.page import day

        rows = self.query(
            "select titre, citation, licence, dernier_millesime, dernier_publie_le, statut from dim_source "
            "inner join mart_fraicheur using (source_id) where list_contains(?, source_id) order by titre",
            source_ids,
        )
        return [
            f"{r['citation']} ({r['titre']}, livraison {r['dernier_millesime'] or 'aucune'}"
            f"{', publiée le ' + day(r['dernier_publie_le']) if r['dernier_publie_le'] else ''}, {r['licence']}"
            f"{', ' + r['statut'] if r['statut'] != 'à jour' else ''})"
            for r in rows.to_dicts()
        ]


def open_release(where: str | Path | None = None) -> Release:
    """The release in that folder, or the current one of the installation, resolved once so that no reader sees a mix.

    Raises FileNotFoundError, in French, before the first publication.
    """
    from ingestion.paths import home

    folder = Path(where) if where else home().releases / "current"
    if not (folder / "datapackage.json").exists():
        raise FileNotFoundError(f"aucune publication dans {folder} ; lancer « dk run »")
    return Release(folder.resolve())
