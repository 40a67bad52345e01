"""The estimators against published results (mpdta, R ``did`` 2.5.1) and against an independent package (csdid)."""

from __future__ import annotations

import contextlib
import io
import warnings
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

from ingestion.declarations import PROJECT
from orchestration.impact import linear as lin
from orchestration.impact.estimators import callaway, imputation
from orchestration.impact.interface import Estimand, Panel
from orchestration.impact.preparation import Sample, prepare
from tests.panels import World, build, declare, national

REFERENCE = PROJECT.parent / "shared" / "reference"
published = pytest.mark.skipif(
    not REFERENCE.is_dir(), reason=f"les résultats publiés ne sont pas à côté du projet (../shared/{REFERENCE.name})"
)
WHOLE = declare(horizon=9)
WITH_LPOP = declare(horizon=9, covariables=("lpop",))


def mpdta() -> Panel:
    frame = pl.read_csv(REFERENCE / "mpdta.csv").rename(
        {"countyreal": "unite", "year": "annee", "lemp": "valeur", "first.treat": "cohorte"}
    )
    return Panel(frame.with_columns(poids=pl.col("lpop").exp()))


def study(estimand: Estimand, weighting: str = "unite", **more: Any) -> tuple[Sample, Any]:
    sample = prepare(mpdta(), estimand)
    defaults = {"method": "dr", "anticipation": 0, "controls": "never_treated", "base": "varying"}
    return sample, callaway(sample, weights=lin.weights_of(sample, weighting), **{**defaults, **more})


def small_sample(clusters: int) -> float:
    """What turns a clustered error (one cluster per unit here) into the unclustered one that R prints."""
    return ((clusters - 1) / clusters) ** 0.5


@published
def test_the_twelve_group_time_effects_of_mpdta() -> None:
    sample, found = study(WHOLE)
    expected = pd.read_csv(REFERENCE / "mpdta_att_gt_expected.csv")
    assert len(expected) == len(found.cells) == 12
    for row in expected.itertuples():
        effect, error = found.cells[row.group, row.time]
        assert round(effect, 4) == row.att_published
        assert round(error * small_sample(500), 4) == row.se_analytic
    assert len(sample.unites) == 500


@published
def test_the_aggregates_of_mpdta_and_their_analytic_errors() -> None:
    sample, found = study(WHOLE)
    factor = small_sample(500)
    got: dict[tuple[str, str], tuple[float, float]] = {}
    effect, error, _ = found.headline(9)
    got["simple", "overall"] = effect, error * factor
    variance = np.sqrt(np.diag(found.vcov)) * factor
    got |= {("dynamic", str(e)): (a, s) for e, a, s in zip(found.delais, found.effets, variance, strict=True)}
    post = np.where(found.delais >= 0, 1 / (found.delais >= 0).sum(), 0.0)
    got["dynamic", "overall"] = float(post @ found.effets), float(np.sqrt(post @ found.vcov @ post)) * factor
    balanced = study(WHOLE, balance=1)[1]
    got |= {("dynamic_balance_e1", str(e)): (a, np.nan) for e, a in zip(balanced.delais, balanced.effets, strict=True)}
    got["dynamic_balance_e1", "overall"] = float(balanced.effets[np.isin(balanced.delais, [0, 1])].mean()), np.nan
    # By cohort and over cohorts: each cohort's years count for one, as « group » does; by our own influence functions.
    one = lin.headline(sample, 9, 0)
    years = one.cells.copy()
    by_group = lin.Contrast("overall", one.coef / years[:, None], np.ones(len(years)))
    alone = [
        lin.Contrast(str(g), np.where(np.arange(len(years))[:, None] == i, by_group.coef, 0.0), (np.arange(len(years)) == i) * 1.0)
        for i, g in enumerate(sample.cohortes)
    ]
    line = lin.estimate_linear(sample, [by_group, *alone])
    got |= {("group", nom): (line.at(nom)[0], line.at(nom)[1] * factor) for nom in line.noms}
    expected = pd.read_csv(REFERENCE / "mpdta_aggregates_expected.csv")
    assert len(expected) == 18
    for row in expected.itertuples():
        effect, error = got[row.aggregation, str(row.key)]
        assert round(effect, 4) == row.att_published, (row.aggregation, row.key)
        if not np.isnan(row.se_analytic):
            assert round(error, 4) == row.se_analytic, (row.aggregation, row.key)


@published
def test_weighted_by_population_and_doubly_robust_mpdta() -> None:
    assert round(study(WHOLE, "habitant")[1].headline(9)[0], 4) == -0.0184
    effect, error, _ = study(WITH_LPOP)[1].headline(9)
    assert round(effect, 4) == -0.0418
    assert round(error * small_sample(500), 4) == 0.0115


@published
def test_the_imputation_of_mpdta() -> None:
    sample = prepare(mpdta(), WHOLE)
    effect, _ = imputation(sample, weights=lin.weights_of(sample, "unite"), horizon=9, anticipation=0)
    assert round(effect, 4) == -0.0477


@published
def test_the_numpy_contrasts_equal_the_engine() -> None:
    """Estimates and errors of the contrasts that diagnostics and permutations are made of, to the last digits."""
    for weighting in ("unite", "habitant"):
        sample, found = study(WITH_LPOP, weighting, method="reg", base="universal")
        events = lin.events(sample, 0)
        line = lin.estimate_linear(sample, [lin.headline(sample, 9, 0), *events], weights=lin.weights_of(sample, weighting))
        assert line.at("effet") == pytest.approx(found.headline(9)[:2], abs=1e-12)
        assert [int(one.nom) for one in events] == list(found.delais)
        assert line.effet[1:] == pytest.approx(found.effets, abs=1e-12)
        assert np.sqrt(np.diag(line.vcov))[1:] == pytest.approx(np.sqrt(np.diag(found.vcov)), abs=1e-12)


# --- the independent package -------------------------------------------------------------------------------------


def by_csdid(
    panel: Panel, horizon: int, *, covariates: tuple[str, ...] = (), weight: str | None = None, controls: str, method: str = "dr"
) -> float:
    """The same headline from csdid's group-time effects: mean over treated unit-years from 0 to ``horizon``."""
    from csdid.att_gt import ATTgt

    frame = pd.DataFrame(panel.frame.to_dict(as_series=False))
    frame["unite"] = pd.factorize(frame["unite"])[0]
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = ATTgt(
            yname="valeur", gname="cohorte", idname="unite", tname="annee", data=frame, control_group=[controls],
            xformla=f"valeur ~ {' + '.join(covariates)}" if covariates else None, weights_name=weight,
        ).fit(est_method=method, bstrap=False)  # fmt: skip
    cells = fitted.results
    units = frame.drop_duplicates("unite")
    mass = units.groupby("cohorte")[weight].sum() if weight else units.groupby("cohorte").size()
    kept = [
        (mass[g], float(att))
        for g, t, att in zip(cells["group"], cells["year"], cells["att"], strict=True)
        if 0 <= t - g <= horizon
    ]
    return sum(m * a for m, a in kept) / sum(m for m, _ in kept)


@published
@pytest.mark.parametrize("controls", ["nevertreated", "notyettreated"])
@pytest.mark.parametrize("covariates", [(), ("lpop",)])
@pytest.mark.parametrize("weight", [None, "poids"])
def test_mpdta_agrees_with_csdid(controls: str, covariates: tuple[str, ...], weight: str | None) -> None:
    ours = {"nevertreated": "never_treated", "notyettreated": "not_yet_treated"}[controls]
    for horizon in (1, 9):
        estimand = declare(horizon=horizon, covariables=covariates)
        found = study(estimand, "habitant" if weight else "unite", controls=ours, base="universal")[1]
        other = by_csdid(mpdta(), horizon, covariates=covariates, weight=weight, controls=controls)
        assert found.headline(horizon)[0] == pytest.approx(other, abs=0.0005)


def curved(seed: int) -> World:
    """Treatment rare (under 1 % in each cohort) and chosen on x, an outcome whose trend is not linear in x."""
    world = national(seed, units=12_000, treated=160, selection=1.0, years=8)
    x = world.panel.frame["x"].to_numpy().reshape(-1, 8)[:, 0]
    rng = np.random.default_rng(seed + 1)
    y = 0.3 * np.maximum(x, 0)[:, None] ** 2 * np.arange(8) + rng.normal(0, 0.3, (len(x), 8))
    return build(y, world.cohorte, world.annees, world.tau, x=x)


def test_a_rare_treatment_keeps_its_propensity_score() -> None:
    """diff-diff clips propensities at 0.01 by default, which makes the doubly robust estimate a mere regression."""
    import diff_diff

    world = curved(5)
    sample = prepare(world.panel, declare(horizon=3, covariables=("x",)))
    ones = lin.weights_of(sample, "unite")
    other = by_csdid(world.panel, 3, covariates=("x",), controls="notyettreated")
    robust = callaway(sample, weights=ones, method="dr", anticipation=0).headline(3)[0]
    assert robust == pytest.approx(other, abs=0.0005)
    frame = pd.DataFrame(world.panel.frame.to_dict(as_series=False))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        clipped = diff_diff.CallawaySantAnna(control_group="not_yet_treated").fit(
            frame, outcome="valeur", unit="unite", time="annee", first_treat="cohorte", covariates=["x"]
        )
    simple = float(clipped.overall_att)
    ours = callaway(sample, weights=ones, method="dr", anticipation=0).headline(9)[0]
    assert abs(simple - ours) > 0.01, "the default no longer clips: PSCORE_TRIM and its note can go"


@pytest.mark.parametrize("covariates", [(), ("x",)])
@pytest.mark.parametrize("weight", [None, "poids"])
def test_a_clustered_panel_agrees_with_csdid(covariates: tuple[str, ...], weight: str | None) -> None:
    world = national(3, units=3_000, treated=400, selection=0.5, trend=0.05)
    sample = prepare(world.panel, declare(covariables=covariates))
    weights = lin.weights_of(sample, "habitant" if weight else "unite")
    found = callaway(sample, weights=weights, method="dr", anticipation=0).headline(3)[0]
    other = by_csdid(world.panel, 3, covariates=covariates, weight=weight, controls="notyettreated")
    assert found == pytest.approx(other, abs=0.0005)
