"""A large file goes through memory in pieces: four times the rows, hardly any more memory (``make bench ARGS=--volume`` for more)."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import polars as pl
import pytest

from tests import bench, bench_volume

# What is large is made small, so that the measure lasts seconds: the same code reads the same way, in smaller pieces.
PROCESS = """
import sys
from ingestion import reading
from tests import bench_volume
reading.ENTIER_MAX_MO, reading.ENTIER_MAX_LIGNES, reading.MORCEAU = (0, 0, {piece}) if {large} else (10_000, 10**9, 0)
reading.ENSEMBLE_MAX_CELLULES = 0 if {large} else 10**9
bench_volume.land_file(bench_volume.SHAPES[sys.argv[1]], int(sys.argv[2]), *map(bench_volume.Path, sys.argv[3:]))
"""
ROWS = 150_000


def landed(shape: str, rows: int, folder: Path, *, large: bool = True) -> tuple[float, pl.DataFrame]:
    """Peak memory in MB of the process that lands so many rows of a shape, and the landed table."""
    mirror, home = folder / "miroir", folder / "etat"
    bench_volume.write_file(bench_volume.SHAPES[shape], rows, mirror)
    script = PROCESS.format(large=large, piece=20_000)
    done = bench.measure([sys.executable, "-c", script, shape, str(rows), str(mirror), str(home)], bench.PROJECT)
    facts = json.loads(next(line for line in done.output.splitlines() if line.startswith("{")))
    assert (facts["lignes"], facts["rejets"], facts["problemes"]) == (rows, 0, [])
    return done.peak_mb, pl.read_parquet(home / "work" / "landing" / f"simule__{shape}.parquet")


@pytest.mark.parametrize("shape", ["arcep", "sirene"])
def test_memory_does_not_follow_the_file(shape, tmp_path):
    one, table = landed(shape, ROWS, tmp_path / "un")
    four, larger = landed(shape, 4 * ROWS, tmp_path / "quatre")
    assert four < 1.3 * one, f"{one:.0f} Mo pour {ROWS} lignes, {four:.0f} Mo pour quatre fois plus"
    columns = [name for name in table.columns if name not in ("_snapshot_sha256",)]
    assert larger.head(ROWS).select(columns).equals(table.select(columns))


def test_a_file_in_pieces_gives_what_it_gives_whole(tmp_path):
    _, pieces = landed("dvf", 50_000, tmp_path / "morceaux")
    _, whole = landed("dvf", 50_000, tmp_path / "entier", large=False)
    assert pieces.equals(whole)
    measures = [
        pl.read_parquet(tmp_path / name / "etat" / "work" / "landing" / "mesures" / "simule__dvf.parquet").sort(
            "mesure_id", "territoire_code", "periode_debut"
        )
        for name in ("morceaux", "entier")
    ]
    assert measures[0].height < 100_000, "aucune somme à faire : l'essai ne dirait rien"
    assert measures[0].equals(measures[1])
