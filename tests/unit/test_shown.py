"""What Dagster shows of a source at eight in the morning: materialised for real, then read back from the instance."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from ingestion.fetch import MirrorFolder
from ingestion.landing import EXEMPLES, land
from orchestration import alerts, shown
from tests.unit.test_landing import Producteur, chez, declarer  # noqa: F401  (a fixture)

ATTENDUS = {"lignes_min": 2, "rejets_part_max": 0.5}


def materialise(producer: Producteur, instance: dg.DagsterInstance) -> None:
    source, key = producer.source, dg.AssetKey(producer.source.asset_key)

    @dg.asset(key=key, check_specs=[dg.AssetCheckSpec(n, asset=key) for n in ("collecte", "porte_arrivee", "livraisons_declarees")])
    def landing() -> dg.MaterializeResult:
        result = land(source, MirrorFolder(producer.folder), producer.where)
        return dg.MaterializeResult(metadata=shown.landed(source, result), check_results=shown.landing_checks(source, result))

    assert dg.materialize([landing], instance=instance).success


def seen(producer: Producteur, instance: dg.DagsterInstance) -> dict[str, Any]:
    """The last evaluation of each check of the source, as the interface reads it."""
    key = dg.AssetKey(producer.source.asset_key)
    keys = [dg.AssetCheckKey(key, n) for n in ("collecte", "porte_arrivee", "livraisons_declarees")]
    latest = instance.event_log_storage.get_latest_asset_check_execution_by_key(keys)
    return {k.name: record.event.dagster_event.asset_check_evaluation_data for k, record in latest.items()}


def rows(evaluation: Any, name: str) -> list[dict[str, Any]]:
    return [record.data for record in evaluation.metadata[name].records]


def test_a_file_that_changed_shape_is_shown_with_what_is_missing(chez: Any) -> None:  # noqa: F811
    producer = chez(declarer())
    with dg.DagsterInstance.ephemeral() as instance:
        producer.publish({"01001": 1, "01002": 5})
        materialise(producer, instance)
        assert all(e.passed for e in seen(producer, instance).values())
        (producer.folder / "points.json").write_text('[{"code": "01001", "annee": 2023, "total_points": 1}]')
        materialise(producer, instance)
        found = seen(producer, instance)
        assert found["collecte"].passed and not found["porte_arrivee"].passed
        (row,) = rows(found["porte_arrivee"], "controles")
        assert row["fichier"] == "points.json" and row["controle"] == "forme déclarée" and "points" in row["detail"]
        event = instance.get_latest_materialization_event(dg.AssetKey(producer.source.asset_key))
        facts = event.asset_materialization.metadata
        assert facts["dagster/row_count"].value == 2 and facts["millesime"].value == "2024"
        # … and the alert names the source, the rows that stay and the remedy that the reader gives.
        alertes, _ = alerts.pending(instance, None, [], [dg.AssetCheckKey(dg.AssetKey(producer.source.asset_key), "porte_arrivee")])
        assert len(alertes) == 1 and alertes[0].texte.startswith("essai__points : 1 refus") and "2 lignes restent en place" in alertes[0].texte
        assert row["detail"][:80] in alertes[0].texte


def test_a_refused_delivery_is_shown_with_its_failing_rows(chez: Any) -> None:  # noqa: F811
    producer = chez(declarer(attendus=ATTENDUS))
    with dg.DagsterInstance.ephemeral() as instance:
        producer.publish({"01001": 1, "01002": 5, "01003": 6})
        materialise(producer, instance)
        producer.publish({"01001": 1, "01002": 5} | {f"010{n:02}": "néant" for n in range(10, 40)})
        materialise(producer, instance)
        gate = seen(producer, instance)["porte_arrivee"]
        assert not gate.passed
        assert {row["fichier"] for row in rows(gate, "controles")} == {"points.json"}
        failing = rows(gate, "lignes_en_cause")
        assert len(failing) == EXEMPLES and all(row["valeur"] == "néant" and row["colonne"] == "points" for row in failing)


def test_a_file_that_did_not_come_is_late_and_not_refused(chez: Any) -> None:  # noqa: F811
    producer = chez(declarer())
    with dg.DagsterInstance.ephemeral() as instance:
        producer.publish({"01001": 1})
        materialise(producer, instance)
        (producer.folder / "points.json").unlink()
        materialise(producer, instance)
        found = seen(producer, instance)
        assert not found["collecte"].passed and found["porte_arrivee"].passed
        assert rows(found["collecte"], "fichiers")[0]["statut"] == "dernière bonne version conservée"


def test_rows_of_what_people_sent_are_not_shown(chez: Any) -> None:  # noqa: F811
    producer = chez(declarer(attendus=ATTENDUS, confidentialite="interne"))
    with dg.DagsterInstance.ephemeral() as instance:
        producer.publish({"01001": 1} | {f"010{n:02}": "Durand" for n in range(10, 40)})
        materialise(producer, instance)
        found = seen(producer, instance)
        assert not found["porte_arrivee"].passed
        told = str([e.metadata for e in found.values()])
        assert "Durand" not in told and not {"controles", "lignes_en_cause"} & found["porte_arrivee"].metadata.keys()
        assert "le détail est réservé" in found["porte_arrivee"].metadata["alerte"].value


def test_a_published_release_is_shown_with_its_rows_and_its_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "2026-01-02-1" / "parquet").mkdir(parents=True)
    folder = tmp_path / "2026-01-02-1"
    pl.DataFrame({"a": [1, 2, 3]}).write_parquet(folder / "parquet" / "dim_source.parquet")
    (folder / "changes.md").write_text("# Publication\n" + "x" * 9000)
    facts = shown.published(folder)
    assert facts["dagster/row_count"] == 3 and facts["tables"].records[0].data == {"table": "dim_source", "lignes": 3}
    assert facts["pages"].value == str(folder / "pages" / "index.html") and len(facts["changements"].value) == 4000
    monkeypatch.setenv("DK_ADRESSE_PAGES", "https://pages.exemple.fr/")
    assert shown.published(folder)["pages"].value == "https://pages.exemple.fr/2026-01-02-1/pages/index.html"


# --- vintages ---------------------------------------------------------------------------------------------------


def test_a_past_vintage_asked_for_alone_arrives_beside_the_newer_one(chez: Any) -> None:  # noqa: F811
    livraisons = [
        {"millesime": m, "chemin": f"points-{m}.json", "publie_le": f"{m}-06-30", "cog_annee": 2024} for m in ("2022", "2023")
    ]
    producer = chez(declarer(livraisons=livraisons))
    producer.publish({"01001": 9, "01002": 8}, "points-2023.json")
    states = producer.land()
    assert [(e.millesime, e.statut_collecte) for e in states] == [("2022", "non fournie"), ("2023", "à jour")]
    before = producer.landed("").filter(_millesime="2023")
    producer.publish({"01001": 1, "01002": 2, "01003": 3}, "points-2022.json")
    (producer.folder / "points-2023.json").unlink()  # nobody asks for it: it is not missed
    result = land(producer.source, MirrorFolder(producer.folder), producer.where, frozenset({"2022"}))
    assert not result.problemes and result.changed
    after = producer.landed("")
    assert dict(after["_millesime"].value_counts().rows()) == {"2022": 3, "2023": 2}
    assert after.filter(_millesime="2023").equals(before) and after["_actuelle"].all()
    assert [(e.millesime, e.statut_collecte) for e in result.etats] == [("2022", "à jour"), ("2023", "à jour")]


# --- rows of failed tests ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("vintage", [None, "demonstration", "registre"])
def test_failing_rows_of_a_dbt_test_are_shown_unless_records_are_in_them(vintage: str | None, tmp_path: Path) -> None:
    import json

    import duckdb

    from ingestion.paths import Home
    from orchestration import dbt

    where = Home(tmp_path).ensure()
    with duckdb.connect(str(where.warehouse)) as con:
        con.execute("create table mart as select n as code, 'Durand' as nom from range(30) as t(n)")
    source = {"identifier": "insee__rp", "source_name": "insee", "meta": {"confidentialite": "publique"}}
    record = {"identifier": "interne__demande", "source_name": "interne", "meta": {"confidentialite": "interne"}}
    manifest = {
        "sources": {"source.insee": source, "source.interne": record},
        "parent_map": {"test.ouvert": ["model.a"], "model.a": ["source.insee"], "test.ferme": ["model.b"], "model.b": ["model.a", "source.interne"]},
    }  # fmt: skip
    failed = {"status": "fail", "compiled_code": "select * from mart where code > 3;"}
    results = {
        "results": [
            failed | {"unique_id": "test.ouvert"}, failed | {"unique_id": "test.ferme"}, {"unique_id": "test.bon", "status": "pass", "compiled_code": "select 1"},
            failed | {"unique_id": "test.casse", "compiled_code": "select * from absente"},
        ]
    }  # fmt: skip
    if vintage:
        etats = {"etats": [{"snapshot_sha256": "0" * 64, "millesime": vintage}]}
        (where.landing / "etats").mkdir()
        (where.landing / "etats" / "interne__demande.json").write_text(json.dumps(etats))
    found = dbt.failing_rows(where, manifest, results)
    assert found.keys() == ({"test.ouvert"} if vintage == "registre" else {"test.ouvert", "test.ferme"})
    assert len(found["test.ouvert"]) == 10 and found["test.ouvert"][0] == {"code": "4", "nom": "Durand"}
