"""Admitted records as a source like any other: register and demonstration, snapshots of each correction, no false lateness."""

from __future__ import annotations

import datetime as dt
import functools
import json
from pathlib import Path

import polars as pl
import pytest

from ingestion.declarations import Source, load_sources
from ingestion.fetch import Embedded, Live, MirrorFolder, Transport
from ingestion.landing import A_JOUR, ABSENTE, CONSERVEE, Etat, Landing, land
from ingestion.paths import Home
from ingestion.records import admission
from ingestion.snapshots import SnapshotStore
from tests.integration.test_records_admission import around, convention, workbook

SOURCE: Source = load_sources()["interne__convention"]


@pytest.fixture
def where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.delenv("DK_CLE_PSEUDONYMES", raising=False)
    return Home(tmp_path / "dk").ensure()


@pytest.fixture
def small_world(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A demonstration world of three conventions, and how many times it was generated."""
    import ingestion.demonstration as world

    made: list[int] = []

    def generate() -> dict[str, pl.DataFrame]:
        made.append(1)
        rows = [
            {k: str(v) for k, v in convention(rank, convention_id=f"DEMO-{rank}").items()} | {"_ligne": rank + 1}
            for rank in range(1, 4)
        ]
        return {"convention": pl.DataFrame(rows, schema_overrides={"_ligne": pl.Int64})}

    monkeypatch.setattr(world, "generate", generate)
    monkeypatch.setattr(world, "resultats", lambda: pl.DataFrame({"commune_code": ["01001"], "_ligne": [2]}))
    return made


def deposit(where: Home, *rows: dict[str, object], name: str = "creuse") -> None:
    workbook(where.depot / f"{name}.xlsx", convention=list(rows))
    assert [a.refusee for a in around(where)] == [False]


def states(landing: Landing) -> dict[str, Etat]:
    return {etat.millesime: etat for etat in landing.etats}


def table(where: Home) -> pl.DataFrame:
    return pl.read_parquet(where.landing / "interne__convention.parquet")


@pytest.mark.parametrize("transport", [Live(), MirrorFolder(Path("/nonexistent"))], ids=["live", "mirror"])
def test_the_register_is_read_whatever_the_transport(where: Home, transport: Transport) -> None:
    deposit(where, convention(1), convention(2))
    landing = land(SOURCE, transport, where)
    assert landing.problemes == []
    etat = states(landing)["registre"]
    assert (etat.statut_collecte, etat.chemin, etat.lignes_gardees) == (A_JOUR, "convention/creuse.parquet", 2)
    assert etat.connue_le == dt.datetime.now(dt.UTC).date().isoformat(), "known when it was obtained: nobody published it"
    (snapshot,) = SnapshotStore(where.snapshots).history("interne__convention")
    assert (snapshot.transport, snapshot.url) == ("registre", "registre:convention/creuse.parquet")
    found = table(where)
    assert found["convention_id"].to_list() == ["23-PVD-001", "23-PVD-002"]
    assert set(found["_millesime"]) == {"registre"} and found["_ligne"].to_list() == [2, 3]
    assert found["date_signature"].to_list() == [dt.date(2021, 3, 15)] * 2


def test_an_empty_register_is_nobody_s_fault(where: Home) -> None:
    landing = land(SOURCE, Live(), where)
    assert landing.problemes == [] and table(where).height == 0
    for etat in landing.etats:
        assert (etat.statut_collecte, etat.demandee) == (ABSENTE, False)
    assert states(landing)["registre"].motif == "aucun fichier reçu"


def test_a_corrected_file_replaces_its_rows_and_keeps_their_history(where: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is known is known to the day: the correction comes the day after."""
    deposit(where, convention(1), convention(2))
    land(SOURCE, Live(), where)
    tomorrow = dt.datetime.now(dt.UTC) + dt.timedelta(1)
    monkeypatch.setattr("ingestion.landing.SnapshotStore", functools.partial(SnapshotStore, now=lambda: tomorrow))
    deposit(where, convention(1, statut="achevée"))
    landing = land(SOURCE, Live(), where)
    assert landing.problemes == [] and states(landing)["registre"].versions == 2
    found = table(where)
    assert found.filter(pl.col("_actuelle"))["statut"].to_list() == ["achevée"]
    assert found.filter(~pl.col("_actuelle"))["convention_id"].to_list() == ["23-PVD-001", "23-PVD-002"]
    assert len(SnapshotStore(where.snapshots).history("interne__convention")) == 2
    assert not land(SOURCE, Live(), where).changed


def test_the_same_file_again_leaves_the_landed_bytes_as_they_are(where: Home) -> None:
    path = workbook(where.depot / "creuse.xlsx", convention=[convention(1)])
    content = path.read_bytes()
    around(where)
    land(SOURCE, Live(), where)
    before = (where.landing / "interne__convention.parquet").read_bytes()
    path.write_bytes(content)
    around(where)
    assert not land(SOURCE, Live(), where).changed
    assert (where.landing / "interne__convention.parquet").read_bytes() == before
    assert len(SnapshotStore(where.snapshots).history("interne__convention")) == 1


def test_wrong_rows_are_rejects_with_their_line_and_no_value_that_tells_anybody(where: Home) -> None:
    wrong = [convention(8, territoire_code="99999"), convention(9, statut="Jeanne Durand, 06 39 98 12 34")]
    deposit(where, *map(convention, range(20, 30)), *wrong)
    landing = land(SOURCE, Live(), where)
    assert (landing.rows, landing.rejets) == (10, 2)
    rejects = pl.read_parquet(where.landing / "rejets" / "interne__convention.parquet").sort("ligne")
    assert rejects["ligne"].to_list() == [12, 13]
    assert "99999" in str(rejects.row(0)) and "Durand" not in str(rejects.rows()) and "06 39" not in str(rejects.rows())


def test_a_file_of_the_register_that_vanishes_is_told_and_its_rows_stay(where: Home) -> None:
    deposit(where, convention(1))
    land(SOURCE, Live(), where)
    (where.registre / "convention" / "creuse.parquet").unlink()
    etat = states(land(SOURCE, Live(), where))["registre"]
    assert etat.statut_collecte == CONSERVEE and table(where)["convention_id"].to_list() == ["23-PVD-001"]


def test_the_demonstration_comes_with_the_embedded_transport_and_is_generated_once(
    where: Home, small_world: list[int]
) -> None:
    deposit(where, convention(1))
    landing = land(SOURCE, Embedded(), where)
    assert landing.problemes == []
    etat = states(landing)["demonstration"]
    declared = SOURCE.livraison("demonstration").publie_le
    assert (etat.statut_collecte, etat.lignes_gardees, etat.connue_le) == (A_JOUR, 3, declared.isoformat())
    assert dict(table(where).group_by("_millesime").len().iter_rows()) == {"registre": 1, "demonstration": 3}
    assert not land(SOURCE, Embedded(), where).changed
    assert small_world == [1]


def test_with_any_other_transport_the_demonstration_is_not_provided_and_none_of_it_is_read(
    where: Home, small_world: list[int]
) -> None:
    deposit(where, convention(1))
    land(SOURCE, Embedded(), where)
    for transport in (Live(), MirrorFolder(Path("/nonexistent"))):
        landing = land(SOURCE, transport, where)
        etat = states(landing)["demonstration"]
        assert (etat.statut_collecte, etat.demandee, etat.versions, etat.snapshot_sha256) == (ABSENTE, False, 0, None)
        assert set(table(where)["_millesime"]) == {"registre"}
        assert landing.problemes == []
    back = states(land(SOURCE, Embedded(), where))["demonstration"]
    assert (back.statut_collecte, back.versions) == (A_JOUR, 1), "the same world: no new version"
    assert small_world == [1]


def test_the_demonstration_is_made_anew_only_when_what_decides_it_changes(
    where: Home, small_world: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = admission.demonstration(where)
    assert admission.demonstration(where) == first and small_world == [1]
    monkeypatch.setattr(admission, "_demonstration_key", lambda: "autre")
    second = admission.demonstration(where)
    assert second != first and small_world == [1, 1] and not first.exists()
    assert (second / "convention.parquet").exists() and (second / "resultats.parquet").exists()


def test_the_demonstration_depends_neither_on_the_register_nor_on_the_installation(
    tmp_path: Path, small_world: list[int]
) -> None:
    plain, used = Home(tmp_path / "a").ensure(), Home(tmp_path / "b").ensure()
    deposit(used, convention(1, convention_id="DEMO-1"))
    found = [(admission.demonstration(home) / "convention.parquet").read_bytes() for home in (plain, used)]
    assert found[0] == found[1]


def test_a_crash_while_the_demonstration_is_made_leaves_nothing_that_is_taken_for_it(
    where: Home, small_world: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    import ingestion.demonstration as world

    def crash() -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(world, "resultats", crash)
        with pytest.raises(KeyboardInterrupt):
            admission.demonstration(where)
    folder = admission.demonstration(where)
    assert (folder / "resultats.parquet").exists()
    assert [p for p in folder.parent.iterdir() if p.is_dir()] == [folder]


def test_no_personal_column_is_landed(where: Home) -> None:
    deposit(where, convention(1))
    land(SOURCE, Live(), where)
    personal = {column.name for column in SOURCE.columns if column.meta.personnelle}
    assert personal and personal.isdisjoint(table(where).columns)
    state = json.loads((where.landing / "etats" / "interne__convention.json").read_text(encoding="utf-8"))
    assert "Durand" not in json.dumps(state, ensure_ascii=False)
