"""Simulated outcomes whose true effect is known, commune by commune and year by year.

Four outcomes over 2014-2025, for the communes that have a convention of one of three programmes (signed from 2018 to
2022) and for communes that never have one. All four share what a real panel has: treated communes start from another
level (selection on levels), départements have yearly shocks, and the noise of a commune lasts (AR(1)). They differ by
what matters to an evaluation:

- ``demo_resultat_1``: parallel trends, effect growing with time, unequal between programmes, cohorts and communes;
- ``demo_resultat_2``: parallel trends, a fall (the favourable direction), fast then fading;
- ``demo_resultat_3``: treated communes were already growing faster (selection on trends): a pre-trend test must fail;
- ``demo_resultat_4``: parallel trends, no effect at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ingestion.demonstration.world import COHORTES, Territoires, chance, pick

if TYPE_CHECKING:
    import polars as pl

PANEL = tuple(range(2014, 2026))
TEMOINS = 9_000
RHO, CHOC, BRUIT = 0.4, 0.15, 1.0
RESULTATS = ("demo_resultat_1", "demo_resultat_2", "demo_resultat_3", "demo_resultat_4")


@dataclass(frozen=True)
class Dessin:
    """How one outcome is made: mean level, gap of treated communes, common yearly change, extra yearly change of
    treated communes, and effect: by programme (order of COHORTES), by years since treatment, by later cohort."""

    niveau: float
    ecart: float
    tendance: float
    selection: float
    effets: tuple[float, float, float]
    horizon: tuple[float, ...]
    cohorte: float = 0.0


DESSINS = (
    Dessin(14.0, -0.8, 0.05, 0.0, (1.2, 0.8, 0.5), (0.35, 0.6, 0.85, 1.0, 1.1, 1.15, 1.2, 1.2), cohorte=-0.1),
    Dessin(24.0, 1.5, -0.08, 0.0, (-0.6, -0.9, -1.1), (1.0, 0.95, 0.8, 0.65, 0.5, 0.4, 0.35, 0.3), cohorte=0.05),
    Dessin(50.0, 2.0, 0.10, 0.22, (0.3, 0.3, 0.3), (1.0,) * 8),
    Dessin(9.0, -0.5, 0.03, 0.0, (0.0, 0.0, 0.0), (1.0,) * 8),
)


def outcomes(seed: int, conventions: pl.DataFrame, where: Territoires) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(resultats, verite) from the clean conventions.

    resultats: commune_code, annee (Int64), the four outcomes (Float64, three decimals), one row per commune and year.
    verite: grain « commune » holds for each outcome, commune and year the true effect ``effet`` and the value without
    noise nor shock ``attendu``; cohorte and intervention_id are null for a commune never treated, horizon counts years
    since the cohort (negative before). Other grains hold the true average effect on the treated ``effet`` and the
    number of treated commune-years ``effectif``: « cohorte_horizon », « horizon », « cohorte » and « ensemble », by
    intervention and outcome.
    """
    import numpy as np
    import polars as pl

    treated = conventions.filter(
        pl.col("intervention_id").is_in(COHORTES), pl.col("date_signature").is_not_null()
    ).select(
        commune_code="territoire_code",
        intervention_id="intervention_id",
        cohorte=pl.col("date_signature").dt.year().cast(pl.Int64),
    )
    towns = where.communes.select("departement_code", "population", commune_code="code")
    never = pick(
        chance(seed, "témoins"),
        towns.filter(pl.col("population").is_between(300, 60_000)).join(treated, on="commune_code", how="anti", maintain_order="left"),
        TEMOINS, each=5,
    )  # fmt: skip
    units = pl.concat(
        [
            treated.join(towns, on="commune_code", maintain_order="left"),
            never.with_columns(intervention_id=None, cohorte=None),
        ],
        how="diagonal_relaxed",
    ).sort("commune_code")
    n, t = units.height, len(PANEL)
    rank = {name: k for k, name in enumerate(COHORTES)}
    programme = units["intervention_id"].replace_strict(rank, default=-1, return_dtype=pl.Int64).to_numpy()
    cohort = units["cohorte"].fill_null(9999).to_numpy()
    home = (units["departement_code"].rank("dense") - 1).to_numpy().astype(np.int64)
    is_treated = programme >= 0
    years = np.array(PANEL)
    lag = years[None, :] - cohort[:, None]
    size = np.log(units["population"].to_numpy().astype(float) / 3000)

    observed, expected, effects = [], [], []
    for name, made in zip(RESULTATS, DESSINS, strict=True):
        rng = chance(seed, name)
        fixed = made.niveau + made.ecart * is_treated + 0.4 * size + rng.normal(0, 1.2, n)
        common = made.tendance * (years - PANEL[0]) + 0.15 * np.sin(years - PANEL[0])
        extra = made.selection * is_treated[:, None] * (years - PANEL[0])[None, :]
        own = np.exp(rng.normal(0, 0.35, n) - 0.35**2 / 2)
        scale = (
            np.where(is_treated, np.array(made.effets)[programme], 0.0)
            * (1 + made.cohorte * (np.minimum(cohort, 2025) - 2018))
            * own
        )
        path = np.array(made.horizon)[np.clip(lag, 0, len(made.horizon) - 1)]
        effect = np.where(lag >= 0, scale[:, None] * path, 0.0)
        shocks = rng.normal(0, CHOC, (int(home.max()) + 1, t))[home]
        noise = np.empty((n, t))
        noise[:, 0] = rng.normal(0, BRUIT, n)
        innovation = rng.normal(0, BRUIT * np.sqrt(1 - RHO**2), (n, t))
        for k in range(1, t):
            noise[:, k] = RHO * noise[:, k - 1] + innovation[:, k]
        clean = fixed[:, None] + common[None, :] + extra + effect
        observed.append((clean + shocks + noise).round(3))
        expected.append(clean)
        effects.append(effect)

    long = units.select(
        pl.col("commune_code", "intervention_id", "cohorte").repeat_by(t).explode(empty_as_null=True)
    ).with_columns(annee=pl.Series(np.tile(years, n)), horizon=pl.Series(lag.ravel()))  # fmt: skip
    resultats = long.select("commune_code", "annee", **{
        name: pl.Series(values.ravel()) for name, values in zip(RESULTATS, observed, strict=True)
    })  # fmt: skip
    units_truth = pl.concat([
        long.select(
            grain=pl.lit("commune"), resultat=pl.lit(name), intervention_id="intervention_id", cohorte="cohorte",
            horizon=pl.when(pl.col("cohorte").is_not_null()).then("horizon"), commune_code="commune_code",
            annee="annee",
            effet=pl.Series(effect.ravel()), attendu=pl.Series(clean.ravel()),
        )
        for name, effect, clean in zip(RESULTATS, effects, expected, strict=True)
    ])  # fmt: skip
    return resultats, pl.concat([units_truth, *_averages(units_truth)], how="diagonal")


def _averages(truth: pl.DataFrame) -> list[pl.DataFrame]:
    """The true average effects on the treated, at each grain that an evaluation publishes."""
    import polars as pl

    after = truth.filter(pl.col("horizon") >= 0)
    grains = {
        "cohorte_horizon": ["cohorte", "horizon"], "horizon": ["horizon"], "cohorte": ["cohorte"], "ensemble": [],
    }  # fmt: skip
    return [
        after.group_by("resultat", "intervention_id", *keys)
        .agg(pl.col("effet").mean(), effectif=pl.len().cast(pl.Int64))
        .sort("resultat", "intervention_id", *keys)
        .with_columns(grain=pl.lit(grain))
        for grain, keys in grains.items()
    ]
