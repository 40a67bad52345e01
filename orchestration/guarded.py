"""One release read under guard, for questions that people write: nothing is written, nothing outside it is read, and time
and memory are bounded.

DuckDB enforces the first two (read-only file, no external access, locked configuration) and its own share of memory; what it
hands over is counted here, batch by batch, because it holds no limit on rows that left it.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orchestration.terminal import FAILED

if TYPE_CHECKING:
    import polars as pl

GRACE = 10.0  # seconds that DuckDB gets to stop when told; after that the process ends
LOT = 20_000  # rows of a batch
PLAIN = {
    "BIGINT", "BOOLEAN", "DATE", "DECIMAL", "DOUBLE", "FLOAT", "INTEGER", "SMALLINT", "TIMESTAMP", "TINYINT", "UBIGINT", "UINTEGER", "VARCHAR",
}  # fmt: skip


class QueryError(ValueError):
    """DuckDB refuses the question; the message is its own, and what to change is in the question."""


class LimitError(RuntimeError):
    """The question asks for more time or memory than allowed; the French message says which option says how much."""


class _Watch(threading.Thread):
    """Interrupts a connection when its time is up, again and again: a query may be between two interruptible steps."""

    def __init__(self, con: Any, seconds: float) -> None:
        super().__init__(daemon=True)
        self.con, self.seconds, self.done, self.expired = con, seconds, threading.Event(), False

    def told(self) -> str:
        return (
            f"requête arrêtée après {self.seconds:g} s (--timeout) : elle ne finit peut-être jamais. "
            "La restreindre (jointure sans condition ?), ou lui donner plus de temps"
        )

    def run(self) -> None:
        if self.done.wait(self.seconds):
            return
        self.expired, end = True, time.monotonic() + GRACE
        while not self.done.wait(0.1):
            self.con.interrupt()
            if time.monotonic() > end:
                click.secho(f"Erreur : {self.told()}", fg="red", err=True)
                os._exit(FAILED)  # nothing is open for writing but a temporary file


class Guarded:
    """A connection to one release. ``con`` gives relations; ``batches`` and ``frame`` read them."""

    def __init__(self, con: Any, megabytes: int, watch: _Watch) -> None:
        self.con, self.megabytes, self._watch = con, megabytes, watch
        self._streams: list[Iterator[pl.DataFrame]] = []

    def batches(self, relation: Any) -> Iterator[pl.DataFrame]:
        """Rows of a relation, ``LOT`` at a time and in order; at least one batch, empty when there is no row."""
        import polars as pl

        lazy = pl.scan_arrow_c_stream(relation)
        stream = iter(lazy.collect_batches(chunk_size=LOT))
        self._streams.append(stream)
        any_row = False
        for batch in stream:
            any_row = True
            # When time is up the stream ends by itself, with an error; left halfway it would keep the connection busy.
            if not self._watch.expired:
                yield batch
        self._streams.remove(stream)
        if self._watch.expired:
            raise LimitError(self._watch.told())
        if not any_row:
            yield pl.DataFrame(schema=lazy.collect_schema())

    def stop(self) -> None:
        """Ends the streams whose reader gave up."""
        import polars as pl

        while self._streams:
            with suppress(pl.exceptions.ComputeError):
                self.con.interrupt()
                for _ in self._streams.pop():
                    self.con.interrupt()

    def frame(self, sql: str) -> pl.DataFrame:
        """Rows that a text of SQL gives, in a form that every format can write: one name per column, no nested nor exotic type.

        Raises LimitError when they weigh more than ``megabytes``.
        """
        import polars as pl

        relation = self.con.sql(sql)
        if relation is None:
            return pl.DataFrame()
        wide = [str(kind) == "HUGEINT" for kind in relation.types]
        frames, size = [], 0
        for batch in self.batches(_plain(relation)):
            size += batch.estimated_size()
            if size > self.megabytes * 1e6:
                raise LimitError(_heavy(self.megabytes))
            frames.append(batch)
        frame = pl.concat(frames)
        # Sums of integers are of 128 bits, which Polars and JSON do not hold: shorter ones are numbers again.
        narrow = {n: frame[n].str.to_integer(strict=False) for n, is_wide in zip(frame.columns, wide, strict=True) if is_wide}
        return frame.with_columns(s.alias(n) for n, s in narrow.items() if s.null_count() == frame[n].null_count())


def _heavy(megabytes: int) -> str:
    return (
        f"requête arrêtée : elle demande plus de {megabytes} Mo de mémoire (--memory). La restreindre ou l'agréger, sortir une table "
        "entière par « dk export », ou lui donner plus de mémoire"
    )


def _plain(relation: Any) -> Any:
    """The relation with one name per column, and as text the columns whose type not every format can write."""
    names: list[str] = []
    for name in relation.columns:
        rank = sum(other.rsplit("_", 1)[0] == name or other == name for other in names)
        names.append(f"{name}_{rank + 1}" if name in names else name)
    odd = [str(kind).split("(")[0] not in PLAIN or "[]" in str(kind) for kind in relation.types]
    if names == relation.columns and not any(odd):
        return relation
    places = [f"c{rank}" for rank in range(len(names))]
    shown = ", ".join(
        (f"cast({place} as varchar)" if is_odd else place) + ' as "' + name.replace('"', '""') + '"'
        for place, name, is_odd in zip(places, names, odd, strict=True)
    )
    return relation.query("resultat", f"select {shown} from resultat as resultat({', '.join(places)})")


@contextmanager
def opened(folder: Path, seconds: float, megabytes: int) -> Iterator[Guarded]:
    """The tables of a release for the time of a question. ``seconds`` and ``megabytes`` bound it: the latter once for the
    engine, which never spills to the disk, and once for the rows that it gives.

    Raises QueryError and LimitError; any other error of DuckDB means that the file is not as published.
    """
    import duckdb
    import polars as pl

    from orchestration.release import faults

    config = {"memory_limit": f"{megabytes}MB", "temp_directory": ""}
    with duckdb.connect(str(folder / "dernier_kilometre.duckdb"), read_only=True, config=config) as con:
        # Read-only means the outside too: no file, no extension, no network from a query.
        con.execute("set enable_external_access = false")
        con.execute("set lock_configuration = true")
        watch = _Watch(con, seconds)
        reader = Guarded(con, megabytes, watch)
        watch.start()
        try:
            yield reader
        # Once rows flow, Polars carries what DuckDB says.
        except (duckdb.Error, pl.exceptions.ComputeError) as error:
            text = str(error).removeprefix("got external error: ")
            if watch.expired:
                raise LimitError(watch.told()) from error
            if text.startswith("Out of Memory"):
                raise LimitError(_heavy(megabytes)) from error
            if not isinstance(error, duckdb.ProgrammingError) and faults(folder):
                raise  # the question is not what is wrong
            raise QueryError(text) from error
        finally:
            reader.stop()
            watch.done.set()
            watch.join()
