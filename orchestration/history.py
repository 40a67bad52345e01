"""Dagster's event history in SQLite, with connections that stay open. ``dagster.yaml`` names it; Dagster alone uses it.

Dagster's own storage makes an engine, opens a file, waits for the disk and closes it again for each of the thousands of events
of a run: a fifth of an embedded run. The files, their tables and who may read them meanwhile are the same.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dagster import StringSource
from dagster._core.storage.event_log.sqlite.sqlite_event_log import INDEX_SHARD_NAME, SqliteEventLogStorage
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS
from sqlalchemy import Connection, Engine, create_engine, event, inspect

OPEN = 4  # shards: the index, and the runs in hand


class History(SqliteEventLogStorage):
    """``SqliteEventLogStorage`` below ``<foyer>/history/runs``, as Dagster lays it out by default."""

    def __init__(self, base_dir: str, inst_data: Any = None) -> None:
        self._engines: dict[str, Engine] = {}
        super().__init__(base_dir, inst_data)

    @classmethod
    def config_type(cls) -> Any:
        return {"foyer": StringSource}

    @classmethod
    def from_config_value(cls, inst_data: Any, config_value: Any) -> History:
        return cls(os.path.join(config_value["foyer"], "history", "runs"), inst_data)

    def _engine(self, shard: str) -> Engine:
        if shard in self._engines:
            self._engines[shard] = self._engines.pop(shard)  # the last used comes last
            return self._engines[shard]
        while len(self._engines) >= OPEN:
            oldest = next(name for name in self._engines if name != INDEX_SHARD_NAME)
            self._engines.pop(oldest).dispose()
        engine = create_engine(self.conn_string_for_shard(shard), connect_args={"timeout": SQLITE_BUSY_TIMEOUT_SECONDS})

        # With the write-ahead log that Dagster sets up, this can damage no file: should the machine lose its power, the last
        # events are missing from the history, and nothing of what they tell is.
        @event.listens_for(engine, "connect")
        def unhurried(connection: Any, _: Any) -> None:
            connection.execute("pragma synchronous = normal")

        self._engines[shard] = engine
        return engine

    @contextmanager
    def _connect(self, shard: str) -> Iterator[Connection]:
        with self._db_lock:
            engine = self._engine(shard)
            if shard not in self._initialized_dbs:
                self._initdb(engine)
                self._initialized_dbs.add(shard)
            with engine.connect() as connection, connection.begin():
                yield connection

    def has_table(self, table_name: str) -> bool:
        # Asked for while a connection is held, and its lock with it.
        with self._engine(INDEX_SHARD_NAME).connect() as connection:
            return inspect(connection).has_table(table_name)

    def dispose(self) -> None:
        super().dispose()
        while self._engines:
            self._engines.popitem()[1].dispose()
