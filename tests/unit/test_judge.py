"""The judge: one verdict per row and check, named for the row that earned it; what could not be judged is « cassé »."""

from __future__ import annotations

import polars as pl

from expectations.runner import Check, judge

BETWEEN = "ExpectColumnValuesToBeBetween"
LIGNES = Check("lignes", BETWEEN, "lignes", "assez de lignes", {"min_value": 10})
PART = Check("part", BETWEEN, "part", "peu de rejets", {"min_value": 0, "max_value": 0.1}, bloquant=False)


def test_each_row_gets_its_own_verdict_in_the_order_of_the_checks() -> None:
    verdicts = judge(pl.DataFrame({"part": [0.0, 0.5, 0.1], "lignes": [10, 9, 1000]}), [LIGNES, PART])
    assert [[(v.check.nom, v.resultat) for v in row] for row in verdicts] == [
        [("lignes", "réussi"), ("part", "réussi")],
        [("lignes", "échoué"), ("part", "échoué")],
        [("lignes", "réussi"), ("part", "réussi")],
    ]
    assert verdicts[1][0].observe == "9"
    assert verdicts[1][0].detail == "hors de l'attendu : 9"
    assert [v.refuse for v in verdicts[1]] == [True, False]


def test_a_metric_without_value_was_not_measured() -> None:
    """GX passes over nulls, so an empty metric would count as a success."""
    for hole in (None, float("nan")):
        verdicts = judge(pl.DataFrame({"lignes": [12.0, hole]}), [LIGNES])
        assert [row[0].resultat for row in verdicts] == ["réussi", "cassé"]
        assert verdicts[1][0].refuse


def test_a_check_that_cannot_be_made_is_broken_and_the_others_are_judged() -> None:
    unknown = Check("inventé", "ExpectWhatNobodyWrote", "lignes", "?")
    absent = Check("absent", BETWEEN, "colonne_absente", "?", {"min_value": 0})
    absurd = Check("absurde", BETWEEN, "lignes", "?", {"min_value": 3, "max_value": 1})
    verdicts = judge(pl.DataFrame({"lignes": [12, 5]}), [unknown, LIGNES, absent, absurd])
    assert [[v.resultat for v in row] for row in verdicts] == [
        ["cassé", "réussi", "cassé", "cassé"],
        ["cassé", "échoué", "cassé", "cassé"],
    ]
    assert "ExpectWhatNobodyWrote" in verdicts[0][0].detail
    assert all(v.detail for row in verdicts for v in row if v.resultat != "réussi")


def test_nothing_to_judge() -> None:
    assert judge(pl.DataFrame({"lignes": [1, 2]}), []) == [[], []]
    assert judge(pl.DataFrame({"lignes": []}, schema={"lignes": pl.Int64}), [LIGNES]) == []
