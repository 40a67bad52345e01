"""Errors, permutations, sensitivity and multiplicity: each against what is known of it."""

from __future__ import annotations

import itertools
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize
from scipy.stats import t as student

from orchestration.impact import inference as inf
from orchestration.impact import linear as lin
from orchestration.impact import synthetic as syn
from orchestration.impact.engine import estimate
from orchestration.impact.interface import Asymptotique, AsymptotiqueInterdite, Estimation, Intervalle, NonEstimable
from orchestration.impact.preparation import Sample, prepare
from tests.panels import build, declare, departments, national

# --- R-INF: no asymptotic error with few clusters ------------------------------------------------------------------


@pytest.mark.parametrize(("treated", "controls"), [(1, 95), (5, 91), (29, 400), (400, 29)])
def test_an_asymptotic_error_cannot_be_made_with_few_clusters(treated: int, controls: int) -> None:
    with pytest.raises(AsymptotiqueInterdite, match="R-INF"):
        Asymptotique(0.1, treated, controls, 95)
    good = Asymptotique(0.1, 30, 30, 59)
    with pytest.raises(AsymptotiqueInterdite, match="R-INF"):
        replace(good, grappes_traitees=treated, grappes_temoins=controls)


@pytest.mark.parametrize("where", ["effet", "imputation", "ponderations", "inference"])
def test_an_estimation_cannot_carry_one_either(where: str) -> None:
    wrong = Intervalle(0.1, 0.0, 0.2, 0.04, erreur_type=0.05)
    right = Intervalle(0.1, 0.0, 0.2, 0.04)
    one = Estimation(declare(), "non concluant", effet=right, inference="permutation", grappes_traitees=5, grappes_temoins=91)
    more: dict[str, Any] = {"ponderations": {"unite": wrong}} if where == "ponderations" else {where: wrong}
    if where == "inference":
        more = {"inference": "asymptotique"}
    with pytest.raises(AsymptotiqueInterdite):
        replace(one, **more)
    enough = replace(one, grappes_traitees=40)
    assert replace(enough, **more).grappes_traitees == 40


@pytest.mark.parametrize("methode", ["did_echelonne", "sdid_permutation"])
def test_five_treated_departements_are_judged_by_permutation_alone(methode: str) -> None:
    """The five pacts: no error of any kind comes out, in the row, its bands, its range nor its tests."""
    world = departments(4, treated=5, effect=1.0)
    found = estimate(world.panel, declare(methode, horizon=4, reference=2017), seed=1, draws=199)
    row = found.ligne()
    assert found.effet is not None
    assert (row["inference"], row["erreur_type"], found.effet.erreur_type) == ("permutation", None, None)
    assert all(one.erreur_type is None for one in found.ponderations.values())
    assert found.imputation is not None
    assert (found.imputation.bas, found.imputation.erreur_type, found.imputation.p) == (None, None, None)
    assert found.diagnostics.tendance_lineaire is None
    assert found.effet.p is not None
    assert found.effet.p >= 1 / (1 + found.tirages)


def test_thirty_clusters_of_few_units_are_enough_and_twenty_nine_are_not() -> None:
    for clusters, route in [(30, "asymptotique"), (29, "permutation")]:
        rng = np.random.default_rng(0)
        grappe = np.repeat(np.arange(2 * clusters), 4)
        cohorte = np.where(grappe < clusters, 2018, 0)
        y = rng.normal(size=(len(grappe), 8))
        world = build(y, cohorte, np.arange(2014, 2022), grappe=grappe, poids=np.ones(len(grappe)))
        found = estimate(world.panel, declare(), seed=1, draws=199)
        assert found.inference == route
        assert (found.grappes_traitees, found.grappes_temoins) == (clusters, clusters)


# --- permutation ---------------------------------------------------------------------------------------------------


def brute_force(sample: Sample, contrasts: list[lin.Contrast], assigned: lin.Assignments, draw: int) -> Any:
    """The estimate of one random treatment by the ordinary way: a sample in which it is the real one."""
    cohorte = np.zeros(len(sample.unites), int)
    for g, matrix in zip(assigned.cohortes, assigned.matrices, strict=True):
        cohorte[np.isin(assigned.item, matrix[draw].indices)] = g
    return lin.estimate_linear(replace(sample, cohorte=cohorte), contrasts).effet


@pytest.mark.parametrize("clustered", [True, False])
def test_random_treatments_in_one_product_equal_those_made_one_by_one(clustered: bool) -> None:
    rng = np.random.default_rng(1)
    grappe = np.repeat(np.arange(24), 5)
    cohorte = np.select([grappe < 3, grappe < 6], [2017, 2018], 0)
    if not clustered:
        cohorte = np.where(np.arange(120) % 5 == 0, cohorte, 0)
    y = rng.normal(size=(120, 8))
    world = build(y, cohorte, np.arange(2013, 2021), grappe=grappe, x=rng.normal(size=120), z=rng.normal(size=120))
    sample = prepare(world.panel, declare(covariables=("x", "z")))
    assigned = lin.reassign(sample, 20, np.random.default_rng(2))
    assert assigned.niveau == ("grappe" if clustered else "unité")
    contrasts = [lin.headline(sample, 3, 0), *lin.events(sample, 0)]
    fast = lin.permuted(sample, contrasts, assigned)
    for draw in range(20):
        assert fast[draw] == pytest.approx(brute_force(sample, contrasts, assigned, draw), abs=1e-10)
    sizes = [(sample.cohorte == g).sum() for g in sample.cohortes]
    assert [int(m[3].sum()) * (5 if clustered else 1) for m in assigned.matrices] == sizes


def test_units_change_places_within_their_cluster_only() -> None:
    grappe = np.repeat(np.arange(10), 10)
    cohorte = np.where((np.arange(100) % 10 < 3) & (grappe < 4), 2017, 0)
    world = build(np.random.default_rng(0).normal(size=(100, 6)), cohorte, np.arange(2014, 2020), grappe=grappe)
    sample = prepare(world.panel, declare())
    assigned = lin.reassign(sample, 50, np.random.default_rng(3))
    for draw in range(50):
        chosen = np.isin(assigned.item, assigned.matrices[0][draw].indices)
        assert np.bincount(grappe[chosen], minlength=10).tolist() == [3, 3, 3, 3, 0, 0, 0, 0, 0, 0]


def test_too_few_arrangements_are_no_test() -> None:
    world = departments(1, treated=2, units=6)
    found = estimate(world.panel, declare(), seed=1, draws=99)
    assert found.statut == "non estimable"
    assert found.motif == "trop peu de grappes pour une permutation : 15 affectations possibles, il en faut 20"


def test_the_interval_holds_the_effects_that_the_test_does_not_refuse() -> None:
    """Inversion against its definition: shift the treated by an effect, test again."""
    world = departments(2, treated=5, effect=0.4)
    sample = prepare(world.panel, declare(horizon=4))
    headline = lin.headline(sample, 4, 0)
    assigned = lin.reassign(sample, 199, np.random.default_rng(5))
    on = ((sample.cohorte[:, None] > 0) & (sample.annees >= sample.cohorte[:, None])).astype(float)
    real = float(lin.estimate_linear(sample, [headline]).effet[0])
    draws = lin.permuted(sample, [headline], assigned)[:, 0]
    low, high = inf.invert(real, draws, lin.permuted(sample, [headline], assigned, outcome=on)[:, 0])
    assert low < real < high
    for effect, kept in [(low - 0.01, False), (low + 0.01, True), (real, True), (high - 0.01, True), (high + 0.01, False)]:
        moved = replace(sample, y=sample.y - effect * on)
        again = lin.permuted(moved, [headline], assigned)[:, 0]
        p = inf.permutation_p(float(lin.estimate_linear(moved, [headline]).effet[0]), again)
        assert (p > 0.05) == kept, effect


def test_nineteen_draws_at_least_make_an_interval() -> None:
    assert inf.invert(0.0, np.linspace(-1, 1, 18), np.zeros(18)) == (-np.inf, np.inf)
    low, high = inf.invert(5.0, np.linspace(-1, 1, 19), np.zeros(19))
    assert (low, high) == (4.0, 6.0)
    world = departments(1, units=19)
    found = estimate(world.panel, declare("sdid_permutation"), seed=1)
    assert (found.statut, found.motif) == ("non estimable", "18 donneurs seulement : il en faut 19 pour une permutation")


def test_permutation_of_five_treated_has_its_size() -> None:
    """A true null is refused in 5 % of cases; the marked benchmark does it on more draws and for one treated unit."""
    p = []
    for seed in range(200):
        sample = prepare(departments(1000 + seed, treated=5).panel, declare(horizon=4))
        headline = [lin.headline(sample, 4, 0)]
        assigned = lin.reassign(sample, 199, np.random.default_rng(seed))
        p.append(inf.permutation_p(float(lin.estimate_linear(sample, headline).effet[0]), lin.permuted(sample, headline, assigned)[:, 0]))
    rejected = np.mean(np.array(p) < 0.05)
    assert 0.01 <= rejected <= 0.09
    assert abs(np.mean(p) - 0.5) < 0.08


# --- synthetic control ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("treated", [1, 5])
def test_the_synthetic_estimate_is_the_engine_s(treated: int) -> None:
    import diff_diff

    world = departments(7, treated=treated, effect=0.6)
    sample = prepare(world.panel, declare("sdid_permutation", horizon=9))
    ones = np.ones(len(sample.unites))
    found = syn.synthetic(
        sample.y, sample.annees, syn.roles_of(sample, ones), np.flatnonzero(sample.temoin), 9, 0, syn.delays(sample, 9, 0)
    )
    frame = pd.DataFrame(world.panel.frame.to_dict(as_series=False))
    frame["traitee"] = (frame["cohorte"] > 0).astype(int)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = diff_diff.SyntheticDiD(variance_method="placebo", n_bootstrap=2, seed=1).fit(
            frame, outcome="valeur", treatment="traitee", unit="unite", time="annee", post_periods=list(range(2018, 2025))
        )
    assert found.effet == pytest.approx(fitted.att, abs=1e-10)
    assert found.donneurs.sum() == pytest.approx(1)
    post = syn.delays(sample, 9, 0) >= 0
    assert found.chemin[post].mean() == pytest.approx(found.effet)


def test_several_starts_are_averaged_over_treated_unit_years() -> None:
    world = departments(8, treated=3)
    cohorte = world.cohorte.copy()
    cohorte[:3] = [2016, 2019, 2019]
    frame = world.panel.frame.to_dict(as_series=False)
    sample = prepare(build(np.array(frame["valeur"]).reshape(96, 20), cohorte, world.annees).panel, declare("sdid_permutation"))
    donors, delais = np.flatnonzero(sample.temoin), syn.delays(sample, 3, 0)
    roles = syn.roles_of(sample, np.ones(96))
    both = syn.synthetic(sample.y, sample.annees, roles, donors, 3, 0, delais).effet
    apart = [syn.synthetic(sample.y, sample.annees, [role], donors, 3, 0, delais).effet for role in roles]
    assert both == pytest.approx((apart[0] + 2 * apart[1]) / 3)


def test_a_unit_that_no_donor_follows_is_told() -> None:
    world = departments(9, effect=0.0)
    y = np.array(world.panel.frame["valeur"]).reshape(96, 20)
    y[0] += 0.6 * np.arange(20) * np.sin(np.arange(20))
    found = estimate(build(y, world.cohorte, world.annees).panel, declare("sdid_permutation", horizon=4), seed=1)
    assert found.statut == "non crédible"
    assert "tendance" in found.echecs


# --- bands, trends, sensitivity ------------------------------------------------------------------------------------


def test_simultaneous_bands_hold_together() -> None:
    rng = np.random.default_rng(0)
    root = rng.normal(size=(6, 6))
    vcov = root @ root.T / 6
    reach = inf.sup_t(vcov, 95, 20_000, np.random.default_rng(1))
    draws = np.random.default_rng(2).standard_normal((40_000, 6)) @ np.linalg.cholesky(vcov).T
    draws /= np.sqrt(np.random.default_rng(3).chisquare(95, 40_000) / 95)[:, None]
    held = (np.abs(draws) <= reach * np.sqrt(np.diag(vcov))).all(axis=1).mean()
    assert abs(held - 0.95) < 0.006
    assert inf.sup_t(np.eye(1), 95, 100_000, np.random.default_rng(1)) == pytest.approx(student.ppf(0.975, 95), abs=0.03)


def test_the_joint_test_of_the_years_before_has_its_size_and_its_power() -> None:
    rng = np.random.default_rng(1)
    clusters, q, shift = 40, 4, np.array([0.5, 0.3, 0.2, 0.1])
    seen: dict[str, list[float]] = {"size": [], "power": []}
    for _ in range(3_000):
        psi = rng.normal(size=(clusters, q))
        vcov = np.cov(psi.T) / clusters
        mean = psi.mean(axis=0)
        seen["size"].append(inf.joint_test(mean, vcov, clusters)[0])
        seen["power"].append(inf.joint_test(mean + shift, vcov, clusters)[0])
    assert abs(np.mean(np.array(seen["size"]) < 0.05) - 0.05) < 0.013
    expected = inf.joint_power(shift, np.eye(q) / clusters, clusters)
    assert 0.3 < expected < 0.95
    assert abs(np.mean(np.array(seen["power"]) < 0.05) - expected) < 0.03


def worst_bias(v: Any, weights: Any, before: int, after: int, m: float) -> float:
    """By definition: the largest bias over trends whose second differences are at most m in absolute value."""
    from scipy.optimize import linprog

    size = before + 1 + after
    second = np.array([[1.0 if k == i else -2.0 if k == i + 1 else 1.0 if k == i + 2 else 0.0 for k in range(size)] for i in range(size - 2)])
    aim = np.r_[v, 0.0, weights]
    fixed = np.eye(size)[before : before + 1]
    found = linprog(-aim, np.r_[second, -second], np.full(2 * (size - 2), m), fixed, [0.0], bounds=(None, None))
    return float("inf") if not found.success else -found.fun


@pytest.mark.parametrize("m", [0.0, 0.01, 0.05, 0.3])
def test_smoothness_intervals_are_the_shortest_of_their_kind(m: float) -> None:
    """Against a direct search over all affine estimators, the bias of each found by linear programming."""
    rng = np.random.default_rng(3)
    before, after = 3, 3
    root = rng.normal(size=(6, 6)) * 0.05
    vcov, weights = root @ root.T + 0.001 * np.eye(6), np.array([0.5, 0.3, 0.2])
    effects = np.r_[rng.normal(0, 0.03, before), rng.normal(0.4, 0.03, after)]
    times = np.array([-3.0, -2.0, -1.0, 1.0, 2.0, 3.0])
    smooth = inf.Smoothness(effects[:3], effects[3:], vcov, times, weights)
    low, high, _, _ = smooth.interval(m)

    def half(free: Any) -> float:
        v = np.r_[0.0, free]
        v[0] = (weights @ times[3:] + v[1:] @ times[1:3]) / 3  # no straight line biases it
        whole = np.r_[v, weights]
        sd = float(np.sqrt(whole @ vcov @ whole))
        return sd * float(inf._folded(np.array([worst_bias(v, weights, before, after, m) / sd]))[0])

    best = min(
        minimize(half, start, method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-9, "maxiter": 800}).fun
        for start in ([0.0, 0.0], [0.5, -0.5], [-1.0, 1.0])
    )
    assert (high - low) / 2 == pytest.approx(best, rel=2e-3)


def test_smoothness_equals_the_engine_s_where_the_engine_has_one() -> None:
    import diff_diff

    world = national(1, units=3_000, treated=600)
    frame = pd.DataFrame(world.panel.frame.to_dict(as_series=False))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = diff_diff.CallawaySantAnna(control_group="not_yet_treated", base_period="universal").fit(
            frame, outcome="valeur", unit="unite", time="annee", first_treat="cohorte"
        )
        table = fitted.aggregate("event_study")
        order = [list(table.event_time).index(e) for e in table.vcov_index]
        effects, times = np.asarray(table.att)[order], np.asarray(table.vcov_index) + 1
        after = times > 0
        weights = np.full(after.sum(), 1 / after.sum())
        smooth = inf.Smoothness(effects[~after], effects[after], np.asarray(table.vcov), times, weights)
        for m, tolerance in [(0.0, 1e-9), (0.005, 0.002)]:
            theirs = diff_diff.HonestDiD(method="smoothness", M=m, l_vec=weights).fit(table)
            low, high, _, _ = smooth.interval(m)
            assert (high - low) == pytest.approx(theirs.ci_ub - theirs.ci_lb, rel=tolerance)
    edge = smooth.breakdown(1.0)
    assert edge is not None
    assert smooth.interval(edge)[0] <= 0 < smooth.interval(edge * 0.999)[0]


def test_a_straight_line_needs_no_regular_years() -> None:
    """Census points: one coefficient before; the trend seen there is carried on, with its error."""
    vcov = np.diag([0.04, 0.01])
    smooth = inf.Smoothness(np.array([0.2]), np.array([1.0]), vcov, np.array([-4.0, 5.0]), np.array([1.0]))
    low, high, centre, se = smooth.interval(0.0)
    assert centre == pytest.approx(1.0 + 0.2 * 5 / 4)
    assert se == pytest.approx(np.sqrt(0.01 + 0.04 * (5 / 4) ** 2))
    assert high - low == pytest.approx(2 * 1.959964 * se, rel=1e-5)
    with pytest.raises(ValueError, match="bend"):
        smooth.interval(0.1)


# --- multiplicity --------------------------------------------------------------------------------------------------


def test_holm_and_benjamini_hochberg_by_hand() -> None:
    p = [0.01, 0.04, 0.03, 0.005]
    assert inf.holm(p) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert inf.benjamini_hochberg(p) == pytest.approx([0.02, 0.04, 0.04, 0.02])
    assert inf.holm([]) == inf.benjamini_hochberg([]) == []


def test_adjusted_values_keep_the_order_and_agree_with_scipy() -> None:
    from scipy.stats import false_discovery_control

    p = np.random.default_rng(0).uniform(size=40) ** 2
    assert inf.benjamini_hochberg(list(p)) == pytest.approx(false_discovery_control(p))
    adjusted = inf.holm(list(p))
    order = np.argsort(p)
    assert all(a <= b for a, b in itertools.pairwise(np.array(adjusted)[order]))
    assert all(a >= b for a, b in zip(adjusted, p, strict=True))


def test_placebos_on_controls_are_those_made_one_by_one() -> None:
    """Estimate and clustered t statistic of each random treatment of the controls, against the ordinary way."""
    world = national(2, units=1_500, treated=120, effect=0.0)
    sample = prepare(world.panel, declare())
    headline = lin.headline(sample, 3, 0)
    ones = np.ones(len(sample.unites))
    drawn: list[Any] = []
    original = lin._draw

    def spy(*arguments: Any) -> Any:
        drawn.append(original(*arguments))
        return drawn[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lin, "_draw", spy)
        estimates, statistics = lin.random_controls(sample, headline, ones, ones, 5, np.random.default_rng(4))
    rows, chosen, plays = drawn[0]
    free = np.flatnonzero(sample.temoin)
    alone = sample.keep(sample.temoin)
    for draw in range(5):
        cohorte = np.zeros(len(free), int)
        cohorte[chosen[rows == draw]] = np.array(sample.cohortes)[plays[rows == draw]]
        line = lin.estimate_linear(replace(alone, cohorte=cohorte), [headline])
        effect, error = line.at("effet")
        ratio = np.sqrt((1 / 120 + 1 / len(free)) / (1 / 120 + 1 / (len(free) - 120)))
        assert estimates[draw] == pytest.approx(effect * ratio, abs=1e-10)
        assert statistics[draw] == pytest.approx(effect / error, rel=0.05)  # cohort sizes are held fixed here


def test_a_standard_error_of_nothing_is_a_reason() -> None:
    with pytest.raises(NonEstimable, match="erreur type"):
        Asymptotique(0.0, 40, 40, 79).around(0.0)
