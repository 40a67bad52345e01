"""Lists of comparable territories, worked by hand."""

from __future__ import annotations

import polars as pl

from orchestration.impact.comparables import CARACTERISTIQUES, nearest


def territoires(rows: list[tuple[str, str, str | None, float | None]]) -> pl.DataFrame:
    """Territories told apart by one characteristic; the others are equal, so they weigh nothing."""
    first, *others = CARACTERISTIQUES
    frame = pl.DataFrame(
        rows, orient="row",
        schema={"territoire_niveau": pl.String, "territoire_code": pl.String, "classe": pl.String, first: pl.Float64},
    )  # fmt: skip
    return frame.with_columns(pl.lit(1.0).alias(name) for name in others)


def peers(found: pl.DataFrame, code: str) -> list[str]:
    return found.filter(pl.col("territoire_code") == code).sort("rang")["comparable_code"].to_list()


def test_the_nearest_of_the_class_come_first_and_never_oneself() -> None:
    found = nearest(territoires([("commune", c, "a", x) for c, x in (("A", 1.0), ("B", 2.0), ("C", 4.0), ("D", 8.0))]), 2)
    assert peers(found, "A") == ["B", "C"]
    assert peers(found, "D") == ["C", "B"]
    assert not found.filter(pl.col("territoire_code") == pl.col("comparable_code")).height


def test_ties_are_settled_by_code_whatever_the_order_of_the_rows() -> None:
    rows = [("commune", c, "a", x) for c, x in (("M", 0.0), ("Z", 1.0), ("B", -1.0), ("C", 1.0))]
    assert peers(nearest(territoires(rows), 2), "M") == ["B", "C"]
    assert nearest(territoires(rows), 2).equals(nearest(territoires(rows[::-1]), 2))


def test_levels_and_classes_never_mix() -> None:
    rows = [("commune", f"{c}{n}", c, float(n)) for c in "ab" for n in range(4)] + [("epci", f"e{n}", "a", float(n)) for n in range(4)]
    found = nearest(territoires(rows))
    assert (found["territoire_code"].str.head(1) == found["comparable_code"].str.head(1)).all()
    assert found.group_by("territoire_code").len()["len"].unique().to_list() == [3]


def test_a_territory_without_a_characteristic_or_a_tiny_class_has_no_list() -> None:
    rows = [("commune", "A", "a", 1.0), ("commune", "B", "a", 2.0), ("commune", "C", "a", 3.0), ("commune", "X", "a", None),
            ("commune", "Y", "seule", 1.0), ("commune", "Z", None, 1.0)]  # fmt: skip
    found = nearest(territoires(rows))
    assert set(found["territoire_code"]) == {"A", "B", "C"}


def test_the_unit_of_a_characteristic_does_not_weigh() -> None:
    rows = [("commune", c, "a", x) for c, x in (("A", 1.0), ("B", 2.0), ("C", 4.0), ("D", 8.0))]
    frame = territoires(rows).with_columns(pl.Series(CARACTERISTIQUES[1], [1.0, 5.0, 2.0, 9.0]))
    scaled = frame.with_columns(pl.col(CARACTERISTIQUES[1]) * 1000)
    assert nearest(frame).equals(nearest(scaled))
