"""Panels whose true effects are known, for the tests of the estimators and their benchmark. Nothing in them is real.

``national`` is the panel on which the research measured estimators (impact.md 2.2): communes, four cohorts, an effect that
grows and differs by cohort, autocorrelated noise, a shock of each département and year, levels that select. ``departments``
is a panel of 96 units in the manner of unemployment rates, for few treated units.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import polars as pl

from orchestration.impact.interface import Estimand, Panel

Array = np.ndarray[Any, Any]
COHORTES = {2018: 0.15, 2019: 0.20, 2020: 0.25, 2021: 0.40}


@dataclass(frozen=True)
class World:
    """A panel with what is true of it: ``tau`` (N, T) is the effect on each unit and year, 0 where there is none."""

    panel: Panel
    tau: Array
    cohorte: Array
    annees: Array

    def truth(self, horizon: int) -> float:
        """Mean true effect over the treated unit-years from 0 to ``horizon`` years after the start."""
        delay = self.annees[None, :] - self.cohorte[:, None]
        seen = (self.cohorte[:, None] > 0) & (delay >= 0) & (delay <= horizon)
        return float(self.tau[seen].mean())


def build(y: Array, cohorte: Array, annees: Array, tau: Array | None = None, **columns: Array) -> World:
    """The long panel of ``y`` (N, T) + ``tau``; ``columns`` (N,) are constant in each unit."""
    n, t = y.shape
    tau = np.zeros((n, t)) if tau is None else tau
    values = pl.DataFrame(
        {
            "unite": np.repeat([f"{i:05}" for i in range(n)], t), "annee": np.tile(annees, n), "valeur": (y + tau).ravel(),
            "cohorte": np.repeat(cohorte, t), **{name: np.repeat(column, t) for name, column in columns.items()},
        }
    )  # fmt: skip
    return World(Panel(values), tau, cohorte, annees)


def national(
    seed: int, units: int = 35_000, treated: int = 1_600, *, effect: float = 1.0, selection: float = 0.0, trend: float = 0.0,
    departements: int = 96, first: int = 2015, years: int = 10,
) -> World:  # fmt: skip
    """``effect`` scales the true effects (0: none). ``selection`` of the treated on a covariate x and ``trend`` of the
    outcome in x make the comparison without x wrong; levels select a little in any case."""
    rng = np.random.default_rng(seed)
    annees = np.arange(first, first + years)
    grappe, x, level = rng.integers(0, departements, units), rng.normal(size=units), rng.normal(size=units)
    score = rng.gumbel(size=units) + selection * x + 0.3 * level
    chosen = rng.permutation(np.argsort(-score)[:treated])
    cohorte = np.zeros(units, int)
    sizes = np.floor(np.array(list(COHORTES.values())) * treated).astype(int)
    sizes[-1] = treated - sizes[:-1].sum()
    cohorte[chosen] = np.repeat(list(COHORTES), sizes)
    noise = rng.normal(size=(units, years))
    for t in range(1, years):
        noise[:, t] = 0.4 * noise[:, t - 1] + np.sqrt(1 - 0.4**2) * noise[:, t]
    shock = rng.normal(0, 0.15, (departements, years))
    y = level[:, None] + 0.1 * np.arange(years) + trend * x[:, None] * np.arange(years) + noise + shock[grappe]
    delay = annees[None, :] - cohorte[:, None]
    tau = np.where((cohorte[:, None] > 0) & (delay >= 0), effect * (0.5 + 0.1 * delay + 0.05 * (cohorte[:, None] - 2018)), 0.0)
    poids = np.exp(rng.normal(6.5, 1, units))
    return build(y, cohorte, annees, tau, grappe=grappe, poids=poids, x=x)


def departments(seed: int, treated: int = 1, *, effect: float = 0.0, units: int = 96, years: int = 20, first: int = 2005) -> World:
    """Two national cycles that units follow more or less, and a noise that lasts; the treated start in 2018."""
    rng = np.random.default_rng(seed)
    annees = np.arange(first, first + years)
    cycles = np.cumsum(rng.normal(0, 0.3, (years, 2)), axis=0)
    noise = rng.normal(0, 0.25, (units, years))
    for t in range(1, years):
        noise[:, t] += 0.7 * noise[:, t - 1]
    y = rng.normal(8, 2, (units, 1)) + rng.normal(1, 0.4, (units, 2)) @ cycles.T + noise
    cohorte = np.zeros(units, int)
    cohorte[:treated] = 2018
    tau = np.where((cohorte[:, None] > 0) & (annees[None, :] >= 2018), effect, 0.0)
    return build(y, cohorte, annees, tau, poids=np.exp(rng.normal(13, 0.5, units)))


def declare(methode: str = "did_echelonne", horizon: int = 3, **more: Any) -> Estimand:
    """A declared plan; its names are of no consequence."""
    values = {"estimation_id": "essai", "intervention_id": "essai", "indicateur_id": "essai", "fixe_le": dt.date(2026, 1, 1)}
    return Estimand(**{**values, "methode": methode, "horizon": horizon, **more})


@cache
def _conventions() -> pl.DataFrame:
    from ingestion.catalogue_schema import load_catalogue
    from ingestion.demonstration import GRAINE, records, world

    catalogue = load_catalogue()
    return records.conventions(GRAINE, world.territoires(), catalogue, world.besoins(catalogue))


@dataclass(frozen=True)
class Demonstration:
    """Simulated outcomes of one seed with their truth, as the warehouse would give them to the estimators.

    ``values``: commune_code, annee and the four outcomes. ``truth``: resultat, commune_code, annee, intervention_id (null for
    a commune never treated), cohorte, effet.
    """

    values: pl.DataFrame
    truth: pl.DataFrame

    @classmethod
    def drawn(cls, seed: int) -> Demonstration:
        """Who is treated and when stays that of the demonstration; levels, shocks, noise and effects follow ``seed``."""
        from ingestion.demonstration import outcomes, world

        values, truth = outcomes.outcomes(seed, _conventions(), world.territoires())
        return cls(values, truth.filter(pl.col("grain") == "commune"))

    def panel(self, intervention_id: str, resultat: str) -> Panel:
        """Controls: all others. Neighbours share an EPCI with a treated commune, other programmes are the other two."""
        from ingestion.demonstration import world

        units = self.truth.filter(pl.col("resultat") == resultat, pl.col("annee") == 2014)
        units = units.join(world.territoires().communes, left_on="commune_code", right_on="code")
        mine = pl.col("intervention_id").eq_missing(pl.lit(intervention_id))
        start = pl.when(mine).then("cohorte").min().over("epci_code")
        units = units.select(
            unite="commune_code", grappe="departement_code", poids="population", cohorte=pl.when(mine).then("cohorte").otherwise(0),
            anneau=start.is_not_null() & pl.col("epci_code").is_not_null() & ~mine, anneau_annee=pl.when(~mine).then(start),
            mixte=pl.col("intervention_id").is_not_null() & ~mine,
        )  # fmt: skip
        return Panel.of(self.values.select(unite="commune_code", annee="annee", valeur=resultat), units)

    def effect(self, intervention_id: str, resultat: str, horizon: int) -> float:
        """Mean true effect over the treated commune-years from 0 to ``horizon`` years after the start."""
        delay = pl.col("annee") - pl.col("cohorte")
        mine = self.truth.filter(pl.col("intervention_id") == intervention_id, pl.col("resultat") == resultat, delay.is_between(0, horizon))
        return float(mine["effet"].mean())  # type: ignore[arg-type]
