"""Release notes: each way in which a figure can move is told with its cause, from two small releases."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from orchestration import notes

DAY = dt.date(2024, 1, 1)


def release(folder: Path, values: list[dict[str, Any]], labels: dict[str, str], sources: dict[str, str], effects: dict[str, str]) -> Path:
    """A release of four tables. ``values``: observations, with what every one has in common left out; ``sources``: bytes by source."""
    (folder / "parquet").mkdir(parents=True)
    common = {"territoire_niveau": "commune", "territoire_code": "23096", "periode_debut": DAY, "periode_fin": DAY, "est_derniere_version": True,
              "statut_valeur": "observé", "source_id": "s", "millesime": "2024", "snapshot_sha256": sources["s"]}  # fmt: skip
    tables = {
        "fct_observation": pl.DataFrame([common | row for row in values], schema_overrides={"valeur": pl.Float64}),
        "dim_indicateur": pl.DataFrame([{"indicateur_id": k, "libelle": k.title(), "formule": v, "unite": "habitants"} for k, v in labels.items()]),
        "mart_fraicheur": pl.DataFrame(
            [{"source_id": k, "dernier_millesime": "2024", "statut": "à jour", "motif": None, "snapshot_sha256": v} for k, v in sources.items()],
            schema_overrides={"motif": pl.String},
        ),
        "mart_impact": pl.DataFrame([{"estimation_id": k, "intervention_id": "fs", "indicateur_id": "a", "statut": v} for k, v in effects.items()]),
    }  # fmt: skip
    for name, frame in tables.items():
        frame.write_parquet(folder / "parquet" / f"{name}.parquet")
    return folder


def pair(tmp_path: Path, before: dict[str, Any], after: dict[str, Any]) -> tuple[Path, Path]:
    whole: dict[str, Any] = {"values": [], "labels": {"a": "a / b"}, "sources": {"s": "f1"}, "effects": {"e": "non concluant"}}
    return release(tmp_path / "avant", **whole | before), release(tmp_path / "apres", **whole | after)


def row(value: float | None, **more: Any) -> dict[str, Any]:
    return {"indicateur_id": "a", "valeur": value, **more}


@pytest.mark.parametrize(
    ("before", "after", "sens", "cause"),
    [
        ([row(1)], {"values": [row(2)], "sources": {"s": "f2"}}, "révisée", notes.REVISION),
        ([row(1)], {"values": [row(2, millesime="2025")], "sources": {"s": "f2"}}, "révisée", notes.LIVRAISON),
        ([row(1)], {"values": [row(2)]}, "révisée", notes.REGLE),
        ([row(1)], {"values": [row(2)], "labels": {"a": "a / c"}}, "révisée", notes.DEFINITION_CHANGEE),
        ([row(1)], {"values": [row(2)], "sources": {"s": "f1", "autre": "f9"}}, "révisée", f"{notes.AUTRE} (autre)"),
        ([row(1)], {"values": [row(None, statut_valeur="secret")], "sources": {"s": "f2"}}, "révisée", notes.SECRET),
        ([row(1)], {"values": [row(1), row(5, territoire_code="23001", snapshot_sha256="f2")]}, "ajoutée", notes.NOUVEAU_FICHIER),
        ([row(1)], {"values": [row(1), row(5, territoire_code="23001")]}, "ajoutée", notes.REGLE),
        ([row(1)], {"values": [row(1), row(5, indicateur_id="b")], "labels": {"a": "a / b", "b": "b"}}, "ajoutée", notes.NOUVEL_INDICATEUR),
        ([row(1), row(2, territoire_code="23001")], {"values": [row(1, snapshot_sha256="f2")], "sources": {"s": "f2"}}, "retirée", notes.ABSENTE),
        ([row(1), row(2, territoire_code="23001")], {"values": [row(1)]}, "retirée", notes.REGLE),
    ],
)  # fmt: skip
def test_each_figure_that_moved_has_its_cause(before: list, after: dict, sens: str, cause: str, tmp_path: Path) -> None:
    old, new = pair(tmp_path, {"values": before}, after)
    [(_, _, way, why, number)] = notes.compare(old, new)["mouvements"]
    assert (way, why, number) == (sens, cause, 1)
    text = notes.changes(old, new, "2026-01-01-2")
    assert f": {cause} (1)." in text.split("## Valeurs")[0] and "Aucune valeur" not in text


def test_a_withdrawn_indicator_and_a_changed_conclusion_are_named(tmp_path: Path) -> None:
    old, new = pair(
        tmp_path,
        {"values": [row(1), row(7, indicateur_id="b")], "labels": {"a": "a / b", "b": "b"}},
        {"values": [row(1)], "effects": {"e": "positif"}},
    )
    text = notes.changes(old, new, "2026-01-01-2")
    assert f"- 1 valeur retirée, dans 1 indicateur : {notes.RETIRE} (1)." in text
    assert "- Indicateur retiré : b." in text and "- B (`b`) : retiré du catalogue" in text
    assert f"- b, commune 23096, 2024-01-01 : 7 (s ; {notes.RETIRE})" in text
    assert "- fs, a : non concluant → positif" in text and "1 effet d'intervention a une autre conclusion" in text


def test_a_changed_definition_shows_both(tmp_path: Path) -> None:
    old, new = pair(tmp_path, {"values": [row(1)]}, {"values": [row(1)], "labels": {"a": "a / c"}})
    text = notes.changes(old, new, "2026-01-01-2")
    assert "- A (`a`), formule : a / b → a / c" in text and "- Définition changée : a." in text


def test_the_strongest_revisions_come_first_and_the_rest_is_counted(tmp_path: Path) -> None:
    many = [row(0, territoire_code=f"{i:05}") for i in range(30)]
    old, new = pair(tmp_path, {"values": many}, {"values": [r | {"valeur": float(i)} for i, r in enumerate(many)], "sources": {"s": "f2"}})
    text = notes.changes(old, new, "2026-01-01-2")
    shown = [line for line in text.splitlines() if line.startswith("- a, commune")]
    assert len(shown) == notes.MONTREES and "commune 00029, 2024-01-01 : 0 → 29 " in shown[0]
    assert "Les 20 plus fortes" in text and "- 29 valeurs déjà publiées ont changé" in text


def test_nothing_changed_is_said(tmp_path: Path) -> None:
    old, new = pair(tmp_path, {"values": [row(1)]}, {"values": [row(1)]})
    text = notes.changes(old, new, "2026-01-01-2")
    assert "- Aucune valeur, aucune source et aucune définition n'a changé." in text and "Aucune valeur n'a changé." in text


def test_a_release_without_a_table_is_still_compared(tmp_path: Path) -> None:
    old, new = pair(tmp_path, {"values": [row(1)]}, {"values": [row(2)]})
    (old / "parquet" / "mart_impact.parquet").unlink()
    (new / "parquet" / "mart_fraicheur.parquet").unlink()
    text = notes.changes(old, new, "2026-01-01-2")
    assert notes.REGLE in text and "ou retirée : mart_fraicheur" in text
