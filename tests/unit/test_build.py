"""What a build may keep of the one before it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import duckdb
import pytest

from ingestion.paths import Home
from orchestration import dbt


@pytest.fixture
def built(tmp_path: Path) -> Home:
    """A home whose work database holds more than a header, and the verdicts that stand beside it."""
    where = Home(tmp_path / "dk").ensure()
    with duckdb.connect(str(where.warehouse)) as con:
        con.execute("create table main.empreinte_modele as select 'fct' as modele, 'k' as cle, 'c' as contenu")
        con.execute("create table fct as select i, hash(i) as h from range(2000000) as t(i)")
    folder = where.work / "dbt"
    folder.mkdir(parents=True, exist_ok=True)
    verdicts = {"regles": "r", "entrees": {}, "resultats": [], "octets": where.warehouse.stat().st_size}
    (folder / dbt.VERDICTS).write_text(json.dumps(verdicts), encoding="utf-8")
    return where


def test_a_whole_database_is_kept_under_the_same_rules_only(built: Home) -> None:
    kept = dbt._kept(built, "r")
    assert kept is not None and kept["contenus"] == {"fct": "c"}
    assert dbt._kept(built, "autres") is None


@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_a_database_that_was_cut_is_not_kept_whatever_can_still_be_opened_of_it(built: Home, share: float) -> None:
    os.truncate(built.warehouse, int(built.warehouse.stat().st_size * share))
    assert dbt._kept(built, "r") is None


def test_a_database_that_is_gone_is_not_kept(built: Home) -> None:
    built.warehouse.unlink()
    assert dbt._kept(built, "r") is None
