"""Lists of comparable territories: nearest neighbours within a class, on characteristics from before any treatment.

The lists are fixed and published (rule R-SEL): they use no value that an intervention could have moved, and none of the
indicator that is read through them, so that a territory is compared with the same others whatever is looked at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

VOISINS = 10
CARACTERISTIQUES = ("log_population", "log_revenu", "croissance")


def nearest(territoires: pl.DataFrame, voisins: int = VOISINS) -> pl.DataFrame:
    """The ``voisins`` nearest territories of each one, within its level and class.

    ``territoires``: one row per (territoire_niveau, territoire_code) with ``classe`` and the numeric characteristics, each
    of which is divided by its standard deviation within the class so that none weighs by its unit. A territory without
    one of them has no list: it is compared with nobody rather than with anybody. A class of fewer than three gives none.

    Returns (territoire_niveau, territoire_code, comparable_code, rang from 1, distance in standard deviations), in the
    order of these columns; ties are settled by code, so that equal inputs give equal lists.
    """
    import numpy as np
    import polars as pl
    from scipy.spatial import cKDTree

    schema = {
        "territoire_niveau": pl.String, "territoire_code": pl.String, "comparable_code": pl.String, "rang": pl.Int64,
        "distance": pl.Float64,
    }  # fmt: skip
    complete = territoires.drop_nulls(["classe", *CARACTERISTIQUES]).sort("territoire_niveau", "classe", "territoire_code")
    parts = []
    for (niveau, _), groupe in complete.group_by("territoire_niveau", "classe", maintain_order=True):
        if groupe.height < 3:
            continue
        values = groupe.select(CARACTERISTIQUES).to_numpy()
        spread = values.std(axis=0)
        # Rounded: two territories at the same place are then truly tied, on every machine.
        scaled = np.round(values / np.where(spread > 0, spread, 1), 9)
        wanted = min(voisins, groupe.height - 1)
        # One more than wanted, for oneself, and some more so that ties at the border are settled by code.
        asked = min(groupe.height, wanted + 6)
        distance, place = cKDTree(scaled).query(scaled, k=asked)
        codes = groupe["territoire_code"].to_numpy()
        rows = pl.DataFrame(
            {
                "territoire_code": np.repeat(codes, asked), "comparable_code": codes[place.ravel()],
                "distance": np.round(distance.ravel(), 9),
            }
        )  # fmt: skip
        rows = rows.filter(pl.col("territoire_code") != pl.col("comparable_code")).sort(
            "territoire_code", "distance", "comparable_code"
        )
        rank = pl.int_range(1, pl.len() + 1, dtype=pl.Int64).over("territoire_code")
        parts.append(
            rows.with_columns(territoire_niveau=pl.lit(niveau), rang=rank).filter(pl.col("rang") <= wanted).select(schema.keys())
        )
    return pl.concat(parts) if parts else pl.DataFrame(schema=schema)
