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
from orchestration.impact import callaway as ca
from orchestration.impact import linear as lin
from orchestration.impact.imputation import imputation
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


def cells(estimand: Estimand, weighting: str = "unite", **more: Any) -> tuple[Sample, ca.GroupTime]:
    sample = prepare(mpdta(), estimand)
    defaults = {"method": "dr", "anticipation": 0, "controls": "never_treated", "base": "varying"}
    return sample, ca.group_time(sample, weights=lin.weights_of(sample, weighting), **{**defaults, **more})


def small_sample(clusters: int) -> float:
    """What turns a clustered error (one cluster per unit here) into the unclustered one that R prints."""
    return ((clusters - 1) / clusters) ** 0.5


@published
def test_the_twelve_group_time_effects_of_mpdta() -> None:
    sample, found = cells(WHOLE)
    expected = pd.read_csv(REFERENCE / "mpdta_att_gt_expected.csv")
    assert len(expected) == len(found.paires) == 12
    for row in expected.itertuples():
        k = found.paires.index((row.group, row.time))
        assert round(found.effets[k], 4) == row.att_published
        assert round(found.cell_error(k) * small_sample(500), 4) == row.se_analytic
    assert len(sample.unites) == 500


@published
def test_the_aggregates_of_mpdta_and_their_analytic_errors() -> None:
    sample, found = cells(WHOLE)
    curve, balanced = ca.event_study(found), ca.event_study(found, balance=1)
    got: dict[tuple[str, str], tuple[float, float]] = {}
    simple = ca.headline(found, 9)
    got["simple", "overall"] = simple.effet, simple.erreur_type
    variance = np.sqrt(np.diag(curve.vcov))
    got |= {("dynamic", str(e)): (a, s) for e, a, s in zip(curve.delais, curve.effets, variance, strict=True)}
    post = np.where(curve.delais >= 0, 1 / (curve.delais >= 0).sum(), 0.0)
    got["dynamic", "overall"] = float(post @ curve.effets), float(np.sqrt(post @ curve.vcov @ post))
    got |= {("dynamic_balance_e1", str(e)): (a, np.nan) for e, a in zip(balanced.delais, balanced.effets, strict=True)}
    got["dynamic_balance_e1", "overall"] = float(balanced.effets[balanced.delais >= 0].mean()), np.nan
    # « group »: the years of a cohort count together for one.
    after = [(g, t) for g, t in found.paires if t >= g]
    by_group = found.aggregate({(g, t): 1 / sum(o == g for o, _ in after) for g, t in after})
    got["group", "overall"] = by_group.effet, by_group.erreur_type
    for g in sample.cohortes:
        alone = ca.by_cohort(found, g, 9)
        assert alone is not None
        got["group", str(g)] = alone.effet, alone.erreur_type
    expected = pd.read_csv(REFERENCE / "mpdta_aggregates_expected.csv")
    assert len(expected) == 18
    for row in expected.itertuples():
        effect, error = got[row.aggregation, str(row.key)]
        assert round(effect, 4) == row.att_published, (row.aggregation, row.key)
        if not np.isnan(row.se_analytic):
            assert round(error * small_sample(500), 4) == row.se_analytic, (row.aggregation, row.key)


@published
def test_weighted_by_population_and_doubly_robust_mpdta() -> None:
    assert round(ca.headline(cells(WHOLE, "habitant")[1], 9).effet, 4) == -0.0184
    robust = ca.headline(cells(WITH_LPOP)[1], 9)
    assert round(robust.effet, 4) == -0.0418
    assert round(robust.erreur_type * small_sample(500), 4) == 0.0115


@published
def test_the_imputation_of_mpdta() -> None:
    sample = prepare(mpdta(), WHOLE)
    effect, _ = imputation(sample, weights=lin.weights_of(sample, "unite"), horizon=9, anticipation=0)
    assert round(effect, 4) == -0.0477


@published
@pytest.mark.parametrize("weighting", ["unite", "habitant"])
def test_the_contrasts_of_diagnostics_equal_the_estimates(weighting: str) -> None:
    """What permutations and placebos are made of is what is published, to the last digits, errors included."""
    sample, found = cells(WITH_LPOP, weighting, method="reg", base="universal")
    events, curve = lin.events(sample, 0), ca.event_study(found)
    line = lin.estimate_linear(sample, [lin.headline(sample, 9, 0), *events], weights=lin.weights_of(sample, weighting))
    mean = ca.headline(found, 9)
    assert line.at("effet") == pytest.approx((mean.effet, mean.erreur_type), abs=1e-12)
    assert [int(one.nom) for one in events] == list(curve.delais)
    assert line.effet[1:] == pytest.approx(curve.effets, abs=1e-12)
    assert line.vcov[1:, 1:] == pytest.approx(curve.vcov, abs=1e-12)
    assert curve.weights(9) @ curve.effets == pytest.approx(mean.effet)


@published
@pytest.mark.parametrize("weighting", ["unite", "habitant"])
@pytest.mark.parametrize("controls", ["never_treated", "not_yet_treated"])
def test_regression_equals_diff_diff(controls: Any, weighting: str) -> None:
    """The second package agrees where it estimates the same thing: effects, clustered errors and covariances by delay."""
    import diff_diff

    _, found = cells(WITH_LPOP, weighting, method="reg", base="universal", controls=controls)
    frame = pd.DataFrame(mpdta().frame.to_dict(as_series=False))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = diff_diff.CallawaySantAnna(
            control_group=controls, estimation_method="reg", base_period="universal", cluster="unite"
        ).fit(
            frame, outcome="valeur", unit="unite", time="annee", first_treat="cohorte", covariates=["lpop"],
            survey_design=diff_diff.SurveyDesign(weights="poids", psu="unite") if weighting == "habitant" else None,
        )  # fmt: skip
    mean, curve, table = ca.headline(found, 9), ca.event_study(found), theirs.aggregate("event_study")
    assert (mean.effet, mean.erreur_type) == pytest.approx((theirs.overall_att, theirs.overall_se), abs=1e-10)
    assert list(table.vcov_index) == list(curve.delais)
    assert curve.vcov == pytest.approx(np.asarray(table.vcov), abs=1e-10)


# --- the independent package -------------------------------------------------------------------------------------


def by_csdid(
    panel: Panel, horizon: int, *, covariates: tuple[str, ...] = (), weight: str | None = None, controls: str, method: str = "dr"
) -> float:
    """The same headline from csdid's group-time effects: mean over treated unit-years from 0 to ``horizon``.

    A unit not yet treated where another programme began (``mixte``) is no control: csdid does not know that, and is given
    each cohort with its own controls.
    """
    from csdid.att_gt import ATTgt

    frame = pd.DataFrame(panel.frame.to_dict(as_series=False))
    frame["unite"] = pd.factorize(frame["unite"])[0]
    units = frame.drop_duplicates("unite")
    mass = units.groupby("cohorte")[weight].sum() if weight else units.groupby("cohorte").size()
    cohorts = sorted(g for g in units["cohorte"].unique() if g > 0)
    mixed = frame["mixte"] & (frame["cohorte"] > 0) if "mixte" in frame else np.zeros(len(frame), bool)
    kept = []
    for mine in [[g] for g in cohorts] if mixed.any() else [cohorts]:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fitted = ATTgt(
                yname="valeur", gname="cohorte", idname="unite", tname="annee", data=frame[frame["cohorte"].isin(mine) | ~mixed],
                control_group=[controls], xformla=f"valeur ~ {' + '.join(covariates)}" if covariates else None, weights_name=weight,
            ).fit(est_method=method, bstrap=False)  # fmt: skip
        cells = fitted.results
        kept += [
            (mass[g], float(att))
            for g, t, att in zip(cells["group"], cells["year"], cells["att"], strict=True)
            if 0 <= t - g <= horizon and g in mine
        ]
    return sum(m * a for m, a in kept) / sum(m for m, _ in kept)


@published
@pytest.mark.parametrize("method", ["dr", "reg"])
@pytest.mark.parametrize("controls", ["nevertreated", "notyettreated"])
@pytest.mark.parametrize("covariates", [(), ("lpop",)])
@pytest.mark.parametrize("weight", [None, "poids"])
def test_mpdta_agrees_with_csdid(method: Any, controls: str, covariates: tuple[str, ...], weight: str | None) -> None:
    ours = {"nevertreated": "never_treated", "notyettreated": "not_yet_treated"}[controls]
    weighting = "habitant" if weight else "unite"
    found = cells(declare(covariables=covariates), weighting, method=method, controls=ours, base="universal")[1]
    for horizon in (1, 9):
        other = by_csdid(mpdta(), horizon, covariates=covariates, weight=weight, controls=controls, method=method)
        assert ca.headline(found, horizon).effet == pytest.approx(other, abs=1e-8)


def curved(seed: int) -> World:
    """Treatment rare (under 1 % in each cohort) and chosen on x, an outcome whose trend is not linear in x."""
    world = national(seed, units=12_000, treated=160, selection=1.0, years=8)
    x = world.panel.frame["x"].to_numpy().reshape(-1, 8)[:, 0]
    rng = np.random.default_rng(seed + 1)
    y = 0.3 * np.maximum(x, 0)[:, None] ** 2 * np.arange(8) + rng.normal(0, 0.3, (len(x), 8))
    return build(y, world.cohorte, world.annees, world.tau, x=x)


def unlike(seed: int) -> World:
    """Towns of middle size are treated, and a few controls are far larger than any: a logit cannot tell that well."""
    rng = np.random.default_rng(seed)
    x = np.exp(rng.normal(0, 0.8, 2_000))
    cohorte = np.where((x > 1) & (x < 4) & (rng.uniform(size=2_000) < 0.3), 2018, 0)
    y = rng.normal(0, 0.2, (2_000, 6)) + 0.3 * x[:, None] ** 1.5 * np.arange(6)
    return build(y, cohorte, np.arange(2015, 2021), x=x)


@pytest.mark.parametrize(("world", "trim"), [(curved(5), 0.01), (unlike(5), 1e-8)], ids=["clip", "normalisation"])
def test_the_doubly_robust_estimate_is_csdid_s_and_not_diff_diff_s(world: World, trim: float) -> None:
    """Why the estimator is our own. diff-diff clips propensities at 0.01 unless told otherwise, which is above those of any
    rare treatment; and it divides the weighted residuals of controls by the treated, not by the sum of their weights."""
    import diff_diff

    sample = prepare(world.panel, declare(horizon=9, covariables=("x",)))
    ones = lin.weights_of(sample, "unite")
    ours = ca.headline(ca.group_time(sample, weights=ones, method="dr", anticipation=0), 9).effet
    assert ours == pytest.approx(by_csdid(world.panel, 9, covariates=("x",), controls="notyettreated"), abs=1e-6)
    frame = pd.DataFrame(world.panel.frame.to_dict(as_series=False))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = diff_diff.CallawaySantAnna(control_group="not_yet_treated", pscore_trim=trim).fit(
            frame, outcome="valeur", unit="unite", time="annee", first_treat="cohorte", covariates=["x"]
        )
    assert abs(float(fitted.overall_att) - ours) > 0.0005, "diff-diff now agrees: it could be taken again"


@pytest.mark.parametrize("covariates", [(), ("x",)])
@pytest.mark.parametrize("weight", [None, "poids"])
def test_a_clustered_panel_agrees_with_csdid(covariates: tuple[str, ...], weight: str | None) -> None:
    world = national(3, units=3_000, treated=400, selection=0.5, trend=0.05)
    sample = prepare(world.panel, declare(covariables=covariates))
    weights = lin.weights_of(sample, "habitant" if weight else "unite")
    found = ca.headline(ca.group_time(sample, weights=weights, method="dr", anticipation=0), 3).effet
    other = by_csdid(world.panel, 3, covariates=covariates, weight=weight, controls="notyettreated")
    assert found == pytest.approx(other, abs=1e-6)


@pytest.mark.parametrize("covariates", [(), ("x",)])
def test_units_of_another_programme_are_no_controls_even_before_their_own_start(covariates: tuple[str, ...]) -> None:
    world = national(4, units=3_000, treated=600, selection=0.5, trend=0.05)
    other = pl.col("unite").cast(pl.Int64) % 3 == 0
    moved = pl.col("valeur") + pl.when(other & (pl.col("annee") >= 2019)).then(2.0).otherwise(0.0)
    panel = Panel(world.panel.frame.with_columns(mixte=other, valeur=moved))
    sample = prepare(panel, declare(covariables=covariates))
    used = Panel(panel.frame.filter((pl.col("cohorte") > 0) | ~other))
    weights = lin.weights_of(sample, "unite")
    found = ca.headline(ca.group_time(sample, weights=weights, method="dr", anticipation=0), 3).effet
    assert found == pytest.approx(by_csdid(used, 3, covariates=covariates, controls="notyettreated"), abs=1e-6)
    naive = by_csdid(Panel(used.frame.drop("mixte")), 3, covariates=covariates, controls="notyettreated")
    assert abs(naive - found) > 0.01  # later cohorts of another programme would have been controls


def test_the_analytic_error_of_the_doubly_robust_estimate_is_csdid_s() -> None:
    """On unclustered units; the clustered error sums the same influences in each cluster."""
    from csdid.att_gt import ATTgt

    world = national(3, units=3_000, treated=400, selection=0.5, trend=0.05)
    frame = pd.DataFrame(world.panel.frame.drop("grappe").to_dict(as_series=False))
    sample = prepare(Panel(world.panel.frame.drop("grappe")), declare(horizon=9, covariables=("x",)))
    mean = ca.headline(ca.group_time(sample, weights=lin.weights_of(sample, "unite"), method="dr", anticipation=0), 9)
    frame["unite"] = pd.factorize(frame["unite"])[0]
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = ATTgt(
            yname="valeur", gname="cohorte", idname="unite", tname="annee", data=frame, control_group=["notyettreated"],
            xformla="valeur ~ x",
        ).fit(est_method="dr", bstrap=False).aggte("simple", bstrap=False)  # fmt: skip
    assert mean.effet == pytest.approx(fitted.atte["overall_att"], abs=1e-6)
    assert mean.erreur_type * small_sample(3_000) == pytest.approx(float(fitted.atte["overall_se"]), rel=1e-4)
    clustered = ca.headline(
        ca.group_time(
            prepare(world.panel, declare(horizon=9, covariables=("x",))), weights=lin.weights_of(sample, "unite"), method="dr",
            anticipation=0,
        ), 9,
    )  # fmt: skip
    assert clustered.effet == pytest.approx(mean.effet)
    assert clustered.erreur_type != pytest.approx(mean.erreur_type, rel=1e-3)


def test_likely_treated_controls_are_trimmed_and_sure_ones_refused_as_in_r() -> None:
    """A control whose propensity passes 0.995 does not count; from 0.999 on there is no common support."""
    rng = np.random.default_rng(2)
    x, chance = rng.normal(size=1_500), rng.uniform(size=1_500)
    y = rng.normal(size=(1_500, 4)) + 0.2 * (x**2)[:, None] * np.arange(4)
    cohorte = np.where((chance < 1 / (1 + np.exp(-(3 * x - 3)))) & (x < 3.0), 2018, 0)
    for outcome in ("trimmed", "refused"):
        seen = np.where((x == x[cohorte > 0].max()) & (outcome == "refused"), 6.0, np.clip(x, None, 3.0))
        world = build(y, cohorte, np.arange(2016, 2020), x=seen)
        sample = prepare(world.panel, declare(horizon=1, covariables=("x",)))
        ones, other = lin.weights_of(sample, "unite"), by_csdid(world.panel, 1, covariates=("x",), controls="nevertreated")
        if outcome == "refused":
            assert np.isnan(other)
            with pytest.raises(ca.Separation):
                ca.group_time(sample, weights=ones, method="dr", anticipation=0)
        else:
            mean = ca.headline(ca.group_time(sample, weights=ones, method="dr", anticipation=0), 1).effet
            assert mean == pytest.approx(other, abs=1e-6)
            p = ca._propensity(np.column_stack([np.ones(1_500), sample.x]), (sample.cohorte > 0) * 1.0, ones)[0]
            assert ((p >= ca.TRIM) & (sample.cohorte == 0)).sum() == 3
