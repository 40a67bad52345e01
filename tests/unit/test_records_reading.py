"""Landing of sanitised records: what is read of a Parquet, what becomes a reject, what is never there."""

from __future__ import annotations

import datetime as dt
import hashlib
from pathlib import Path

import polars as pl
import pytest

from ingestion.reading import Reading, ReadingError, read_file, table_schema
from ingestion.records.check import Known, check
from ingestion.records.layout import kinds
from ingestion.snapshots import Snapshot
from tests.records_samples import conventions, frame, judged, row


def land(kind: str, path: Path, millesime: str = "registre") -> Reading:
    source = kinds()[kind]
    snapshot = Snapshot(
        source_id=source.source_id, millesime=millesime, chemin=f"{kind}/essai.parquet", transport="registre", url="registre:x",
        obtenu_le="2026-01-02T08:00:00+00:00", statut_http=None, etag=None, last_modified=None, content_type=None,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(), octets=path.stat().st_size, licence="usage interne", connue_le="2026-01-02",
    )  # fmt: skip
    return read_file(source, source.livraison(millesime), snapshot, path)


def sanitised(tmp_path: Path, kind: str, *rows: dict[str, str | None]) -> Path:
    path = tmp_path / "essai.parquet"
    judged(**{kind: rows})[kind].sanitised().write_parquet(path)
    return path


def test_good_rows_are_typed_and_wrong_ones_become_rejects_of_the_line_they_stood_on(tmp_path: Path) -> None:
    wrong = row("convention", convention_id="08-F", date_fin="31/02/2026", statut="Signee")
    reading = land("convention", sanitised(tmp_path, "convention", *conventions(5), wrong))
    assert (reading.lignes_lues, reading.lignes_gardees, reading.lignes_rejetees) == (6, 5, 1)
    first = reading.table.row(0, named=True)
    assert first["date_signature"] == dt.date(2021, 3, 15)
    assert (first["signataires_nb"], first["chef_de_projet_en_poste"], first["_ligne"], first["_millesime"]) == (4, True, 2, "registre")
    (reject,) = reading.rejets.to_dicts()
    assert (reject["ligne"], reject["colonne"], reject["valeur"]) == (7, "date_fin", "31/02/2026")
    assert reject["motif"] == "Date de fin : n'est pas une date qui existe ; Statut : valeur hors de la liste"


@pytest.mark.parametrize("kind", list(kinds()))
def test_every_kind_lands_from_its_own_examples_without_a_personal_column(tmp_path: Path, kind: str) -> None:
    tables = {name: [row(name)] for name in kinds()}
    frames = {name: frame(name, rows) for name, rows in tables.items()}
    known = Known.load(None, frames)
    checked = {name: check(name, table, known) for name, table in frames.items()}[kind]
    path = tmp_path / "essai.parquet"
    checked.sanitised().write_parquet(path)
    reading = land(kind, path, "demonstration")
    assert (reading.lignes_gardees, reading.lignes_rejetees) == (1, 0)
    personal = {c.name for c in kinds()[kind].columns if c.meta.personnelle}
    assert reading.table.columns == list(table_schema(kinds()[kind])) and not personal & set(reading.table.columns)
    values = reading.table.row(0, named=True)
    filled = [c.name for c in kinds()[kind].saisies if c.name not in personal and c.meta.saisie.exemple and c.name != "repris_par"]
    assert [name for name in filled if values[name] is None] == []


def test_a_personal_column_that_slipped_into_a_file_is_not_read(tmp_path: Path) -> None:
    path = sanitised(tmp_path, "convention", row("convention"))
    pl.read_parquet(path).with_columns(referent_nom=pl.lit("Jeanne Durand")).write_parquet(path)
    reading = land("convention", path)
    assert "referent_nom" not in reading.table.columns
    assert not any("Durand" in str(line) for line in reading.table.rows())


def test_a_file_of_an_older_layout_lacks_columns_but_not_those_that_must_be_filled_in(tmp_path: Path) -> None:
    path = sanitised(tmp_path, "demande_ingenierie", row("demande_ingenierie"))
    table = pl.read_parquet(path)
    table.drop("voie", "interlocuteur_nom_pseudonyme").write_parquet(path)
    assert land("demande_ingenierie", path).table["voie"].to_list() == [None]
    table.drop("theme").write_parquet(path)
    with pytest.raises(ReadingError, match="theme"):
        land("demande_ingenierie", path)


def test_a_file_without_any_good_row_or_without_any_row_lands_empty(tmp_path: Path) -> None:
    reading = land("convention", sanitised(tmp_path, "convention", row("convention", statut="faux")))
    assert (reading.lignes_lues, reading.lignes_gardees) == (1, 0)
    reading = land("convention", sanitised(tmp_path, "convention"))
    assert (reading.lignes_lues, reading.table.height) == (0, 0)


def test_a_damaged_parquet_and_nested_columns_are_refused_in_french(tmp_path: Path) -> None:
    path = sanitised(tmp_path, "convention", *conventions(50))
    path.write_bytes(path.read_bytes()[:400])
    with pytest.raises(ReadingError, match="Parquet illisible"):
        land("convention", path)
    pl.DataFrame({"convention_id": [["a"]], "_ligne": [2]}).write_parquet(path)
    with pytest.raises(ReadingError, match="ne sont pas des valeurs simples"):
        land("convention", path)


def test_a_register_may_shrink_and_a_producer_may_not() -> None:
    from expectations.landing import checks
    from ingestion.declarations import load_sources

    def floor(source) -> float | None:
        return next(c for c in checks(source, source.meta.livraisons[0]) if c.nom == "effondrement").arguments["min_value"]

    assert floor(kinds()["convention"]) == 0
    assert floor(load_sources()["etalab__communes"]) == 0.9
