"""One estimate from one panel: ``estimate`` chooses the route by rule, measures what must be known first, then estimates.

- ``did_echelonne`` with at least 30 treated and 30 control clusters: Callaway and Sant'Anna (2021), doubly robust, controls
  not yet treated, errors clustered; imputation beside it.
- ``did_apparie``: the same on matched units, never-treated controls, regression on what matching left.
- either of them with fewer clusters: the same contrasts by regression, all inference by reassigning the treatment (R-INF).
- ``sdid_permutation``: synthetic difference-in-differences, all inference by permutation over the donors.

The order inside each route is that of the protocol: placebo error and minimum detectable effect on controls alone first,
then the effect, then what speaks against it. ``decision`` alone turns these into a status.
"""

from __future__ import annotations

import hashlib
import math
import zlib
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestration.impact import callaway as ca
from orchestration.impact import diagnostics as diag
from orchestration.impact import inference as inf
from orchestration.impact import linear as lin
from orchestration.impact.decision import correct, decide
from orchestration.impact.interface import (
    ALPHA,
    GRAPPES_MIN,
    SOUS_GROUPE_MIN,
    Asymptotique,
    Choix,
    Diagnostics,
    Equilibre,
    Estimand,
    Estimation,
    Evenement,
    Intervalle,
    NonEstimable,
    Panel,
)
from orchestration.impact.preparation import Sample, enough, prepare

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

__all__ = ["correct", "estimate", "fingerprint"]

MODULES = (
    "interface", "preparation", "linear", "callaway", "imputation", "matching", "synthetic", "inference", "diagnostics",
    "decision", "engine",
)  # fmt: skip
PACKAGES = ("diff-diff", "numpy", "pandas", "polars", "scipy")
ENSEMBLES_MAX = 499  # random sets of donors for several units under a synthetic control: each takes a fit of its own
TAILLE_TIRAGES = 200  # placebos of a synthetic control for its dated placebo and the power of its test
PRINCIPAL = "principal"
VOISINS, MELES = "voisins parmi les témoins", "témoins d'un autre programme admis"
ANNEES_COVID = (2020, 2021)
SANS_COVID = f"sans les années {' et '.join(map(str, ANNEES_COVID))}"
SANS_AVANT = "une seule période avant le début : rien ne dit que les deux groupes évoluaient de la même façon"


# --- what an estimate is made of ---------------------------------------------------------------------------------


@cache
def versions() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in PACKAGES}


@cache
def code_fingerprint() -> str:
    digest = hashlib.sha256()
    for name in MODULES:
        digest.update(name.encode() + (Path(__file__).resolve().parent / f"{name}.py").read_bytes())
    return digest.hexdigest()


def fingerprint(panel: Panel, estimand: Estimand, seed: int, draws: int = 999) -> str:
    """All that decides the numbers: panel, declaration, code, versions, seed. Unchanged, nothing need be estimated again."""
    parts = [panel.empreinte, estimand.declaration(), code_fingerprint(), str(sorted(versions().items())), f"{seed} {draws}"]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


class _Run:
    """What the steps of one estimate share: its declaration and a source of chance of its own for each step."""

    def __init__(self, estimand: Estimand, seed: int, draws: int) -> None:
        self.estimand, self.seed, self.draws = estimand, seed, draws
        self.horizon, self.anticipation = estimand.horizon, estimand.anticipation

    def rng(self, step: str) -> np.random.Generator:
        """The same numbers for the same seed and step, whatever the other steps drew."""
        import numpy as np

        return np.random.default_rng([self.seed, zlib.crc32(step.encode())])


def estimate(panel: Panel, estimand: Estimand, seed: int, draws: int = 999) -> Estimation:
    """The estimation of ``estimand`` on ``panel``, with its status before the corrections over the warehouse (``correct``).

    Bad input never raises: the status is then « non estimable » and its reason is in French. Equal arguments give equal
    numbers. A large-sample error with few clusters cannot come out; it would raise AsymptotiqueInterdite.
    """
    import numpy as np

    run = _Run(estimand, seed, draws)
    identity = {
        "estimand": estimand, "graine": seed, "versions": versions(), "empreinte_panel": panel.empreinte,
        "empreinte_code": code_fingerprint(), "empreinte": fingerprint(panel, estimand, seed, draws),
    }  # fmt: skip
    try:
        sample = prepare(panel, estimand)
        route = _synthetic if estimand.methode == "sdid_permutation" else _differences
        return decide(Estimation(statut="non concluant", **identity, **route(sample, run)))
    except NonEstimable as reason:
        return Estimation(statut="non estimable", motif=str(reason), **identity)
    except (np.linalg.LinAlgError, FloatingPointError) as error:
        cause = "redondantes ou constantes chez les unités comparées" if isinstance(error, np.linalg.LinAlgError) else "hors des limites du calcul"
        return Estimation(statut="non estimable", motif=f"le calcul n'aboutit pas sur ce panel : variables {cause}", **identity)


def _facts(sample: Sample, run: _Run) -> dict[str, Any]:
    """What describes the sample behind an estimate; each route adds its own notes."""
    import numpy as np

    treated, free = sample.groups()
    delays = []
    for g in sample.cohortes:
        window = sample.cell(g, run.horizon, run.anticipation)[1]
        starts = sample.debut[sample.cohorte == g]
        delays.extend((sample.annees[i] - starts).mean() * np.ones(len(starts)) for i in window)
    return {
        "unites_traitees": int(sample.traitee.sum()), "unites_temoins": int(sample.temoin.sum()), "grappes_traitees": treated,
        "grappes_temoins": free, "periodes": len(sample.annees), "delai_moyen": float(np.concatenate(delays).mean()),
        "part_retenue": int(sample.traitee.sum()) / sample.traitees_panel, "ecartees": dict(sample.ecartees),
    }  # fmt: skip


def _overlap(sample: Sample) -> float | None:
    """Share of treated units where another programme began within two years (R-SUP); null when this is not known."""
    return float(sample.autre[sample.traitee].mean()) if sample.autre_connu else None


def _mix(sample: Sample, whole: Sample) -> tuple[str, ...]:
    """Notes on other programmes: the effect is that of the observed mix (R-SUP a), against controls without any."""
    share, aside = _overlap(sample), int(whole.mele.sum())
    if share is None:
        return ("les autres programmes ne sont pas suivis à ce niveau",)
    notes = []
    if share > 0:
        notes.append(f"effet avec les programmes qui l'accompagnent : {100 * share:.0f} % des unités traitées en ont un autre commencé à moins de deux ans")
    if aside:
        notes.append(f"{aside} témoins laissés de côté : un autre programme y a commencé")
    return tuple(notes)


# --- difference in differences -----------------------------------------------------------------------------------


def _differences(sample: Sample, run: _Run) -> dict[str, Any]:
    """Matching where it is declared, then the route that the number of clusters allows."""
    from orchestration.impact.matching import match

    matched = run.estimand.methode == "did_apparie"
    weights = {"unite": lin.weights_of(sample, "unite")}
    if sample.poids is not None:
        weights["habitant"] = lin.weights_of(sample, "habitant")
    if matched:
        pairs = {name: match(sample, w) for name, w in weights.items()}
        whole, sample = sample, enough(pairs["unite"][0]).informative()
        weights = {name: w / w.mean() for name, (_, w) in pairs.items()}
    else:
        whole = sample
    if sample.traitee.sum() == 1:
        raise NonEstimable(
            "une seule unité traitée : une différence de différences n'a pas d'erreur ; déclarer un contrôle synthétique"
        )
    if min(sample.groups()) < GRAPPES_MIN:
        return _by_permutation(sample, whole, weights, run)
    return _asymptotic(sample, whole, weights, run)


def _asymptotic(sample: Sample, whole: Sample, weights: Mapping[str, Array], run: _Run) -> dict[str, Any]:
    import numpy as np

    matched = run.estimand.methode == "did_apparie"
    small = [g for g in sample.cohortes if (sample.cohorte == g).sum() < SOUS_GROUPE_MIN]
    mask = ~np.isin(sample.cohorte, small)
    sample = enough(sample.keep(mask, f"cohorte de moins de {SOUS_GROUPE_MIN} unités")).informative()
    weights = {name: w[mask] for name, w in weights.items()}
    treated, free = sample.groups()
    clusters = len(set(sample.grappe[sample.traitee | sample.temoin]))
    if min(treated, free) < GRAPPES_MIN:
        return _by_permutation(sample, whole, weights, run)
    own = run.estimand.ponderation
    w = weights[own]
    headline = lin.headline(sample, run.horizon, run.anticipation)

    # First, on controls alone: the error to expect, the effect that could be seen, the size of the test.
    odds = diag.odds(sample, w)
    equivalents = diag.effective((w if matched else w * odds)[sample.temoin])
    drawn, statistics = lin.random_controls(sample, headline, w, odds, run.draws, run.rng("placebo"), equivalents)
    drawn, statistics = drawn[np.isfinite(drawn)], statistics[np.isfinite(statistics)]
    error = Asymptotique(1.0, treated, free, clusters - 1)
    limit = error.around(0.0).haut
    assert limit is not None
    spread = float(drawn.std())
    emd = inf.EMD_FACTEUR * spread

    # Then the effect, under both weightings.
    method = "dr" if ca.doubly_robust(sample) and not matched else "reg"
    controls = "never_treated" if matched else "not_yet_treated"
    notes = [*sample.notes, *_mix(sample, whole)]

    def cells(how: Any) -> dict[str, ca.GroupTime]:
        return {
            name: ca.group_time(sample, weights=value, method=how, anticipation=run.anticipation, controls=controls)
            for name, value in weights.items()
        }

    try:
        found = cells(method)
    except ca.Separation:
        notes.append("les covariables séparent traités et témoins : ajustement par régression")
        method = "reg"
        found = cells(method)
    shown = {}
    for name, one in found.items():
        mean = ca.headline(one, run.horizon)
        shown[name] = replace(error, erreur_type=mean.erreur_type).around(mean.effet)
    effet, study = shown[own], ca.event_study(found[own])
    beside = _imputation(sample, w, run, error)

    # Then what speaks against it.
    before, dated = lin.before_start(sample, run.horizon, run.anticipation)
    tests = [one for one in (headline, before, dated) if one is not None]
    line = lin.estimate_linear(sample, tests, weights=w)

    def p_of(contrast: lin.Contrast | None) -> float | None:
        if contrast is None:
            return None
        value, se = line.at(contrast.nom)
        return replace(error, erreur_type=se).around(value).p

    known = Diagnostics(
        emd=emd, erreur_placebo=spread, placebo_taille=float((np.abs(statistics) > limit).mean()),
        anticipation_p=p_of(before), placebo_date_p=p_of(dated),
        temoins_equivalents=equivalents,
        equilibre=_balance(sample, whole, w, run, None if matched else w * odds), rupture_annee=diag.break_year(sample),
        **_trend(study, sample, run, emd, clusters, error), **_neighbours(sample, whole, w, run, headline),
    )  # fmt: skip
    label = {"dr": "doublement robuste", "reg": "par régression"}[method] if sample.noms else "sans covariable"
    start = "appariement, puis " if matched else ""
    return {
        **_facts(sample, run), "effet": effet, "ponderations": shown, "imputation": beside, "inference": "asymptotique",
        "estimateur": f"{start}Callaway-Sant'Anna {label}", "tirages": run.draws, "diagnostics": known,
        "evenements": _curve(found[own], sample, run, clusters),
        "choix": _choices(sample, whole, weights, run, effet, shown, beside),
        "cohortes": _cohorts(found[own], sample, run), "notes": tuple(notes),
    }  # fmt: skip


def _imputation(sample: Sample, w: Array, run: _Run, error: Asymptotique | None) -> Intervalle | None:
    """Borusyak-Jaravel-Spiess beside the main estimate; without ``error`` its own is never read (R-INF)."""
    from orchestration.impact.imputation import imputation

    try:
        value, se = imputation(sample, weights=w, horizon=run.horizon, anticipation=run.anticipation)
        return Intervalle(value) if error is None else replace(error, erreur_type=se).around(value)
    except NonEstimable:
        return None


def _trend(study: ca.EventStudy, sample: Sample, run: _Run, emd: float, clusters: int, error: Asymptotique) -> dict[str, Any]:
    """The years before: joint test, its power against a trend that would give the MDE, the effect once trends are allowed.

    Delays seen by fewer than 11 treated units are left out, of the test as of the curve.
    """
    import numpy as np

    distance = _distance(study.delais, sample, run)
    pre = np.flatnonzero((study.delais < -run.anticipation) & (study.traitees >= SOUS_GROUPE_MIN) & (distance < 0))
    post = np.flatnonzero((study.delais >= 0) & (study.delais <= run.horizon))
    if not len(pre):
        return {"tendance_motif": SANS_AVANT}
    p, number = inf.joint_test(study.effets[pre], study.vcov[np.ix_(pre, pre)], clusters)
    weights = study.weights(run.horizon)[post]
    slope = emd / float(weights @ distance[post])
    both = np.r_[pre, post]
    smooth = inf.Smoothness(
        study.effets[pre], study.effets[post], study.vcov[np.ix_(both, both)], distance[both], weights, error.ddl
    )
    low, high, centre, se = smooth.interval(0.0)
    result = {
        "tendance_p": p, "tendance_coefficients": number,
        "tendance_puissance": inf.joint_power(slope * distance[pre], study.vcov[np.ix_(pre, pre)], clusters),
        "tendance_lineaire": replace(replace(error, erreur_type=se).around(centre), bas=low, haut=high),
    }  # fmt: skip
    if smooth.regular and len(pre) >= 2:
        seen = np.r_[study.effets[pre], 0.0]
        scale = float(np.abs(np.diff(seen, 2)).max())
        grid = (0.0, scale / 2, scale, 2 * scale)
        result["lissage"] = tuple((m, *smooth.interval(m)[:2]) for m in grid)
        result["lissage_m_rupture"] = smooth.breakdown(10 * scale)
    return result


def _distance(delais: Array, sample: Sample, run: _Run) -> Array:
    """Years between the base and each delay, averaged over the cohorts that see it (they differ on a panel with gaps)."""
    import numpy as np

    base = {g: sample.annees[sample.cell(g, run.horizon, run.anticipation)[0]] for g in sample.cohortes}
    size = {g: int((sample.cohorte == g).sum()) for g in sample.cohortes}
    seen = set(sample.annees.tolist())
    found = []
    for e in delais:
        rows = [(g + e - base[g], size[g]) for g in sample.cohortes if g + e in seen]
        found.append(sum(d * n for d, n in rows) / sum(n for _, n in rows))
    return np.array(found, dtype=float)


def _base_delay(sample: Sample, run: _Run) -> int | None:
    """Delay of the base year, when it is the same for all cohorts (it may not be on a panel with gaps)."""
    found = {int(sample.annees[sample.cell(g, 0, run.anticipation)[0]]) - g for g in sample.cohortes}
    return found.pop() if len(found) == 1 else None


def _curve(found: ca.GroupTime, sample: Sample, run: _Run, clusters: int) -> tuple[Evenement, ...]:
    """Effects by delay with simultaneous bands, and again on the cohorts seen over the whole horizon when they differ."""
    import numpy as np

    curves = [("toutes", ca.event_study(found))]
    seen = set(sample.annees.tolist())
    whole = [g for g in sample.cohortes if all(g + e in seen for e in range(run.horizon + 1))]
    few = not whole or min(sample.keep(np.isin(sample.cohorte, [0, *whole])).groups()) < GRAPPES_MIN
    if run.horizon and len(whole) < len(sample.cohortes) and not few:
        curves.append(("équilibrée", ca.event_study(found, run.horizon)))
    rows = []
    for composition, one in curves:
        keep = np.flatnonzero(one.traitees >= SOUS_GROUPE_MIN)
        reach = inf.sup_t(one.vcov[np.ix_(keep, keep)], clusters - 1, run.draws, run.rng(f"bande {composition}"))
        for k, e in enumerate(one.delais):
            half = reach * float(one.vcov[k, k]) ** 0.5
            value = float(one.effets[k])
            numbers = (value, value - half, value + half) if k in keep else (None, None, None)
            rows.append(Evenement(int(e), *numbers, int(one.traitees[k]), composition=composition))
        base = _base_delay(sample, run)
        if base is not None:
            rows.append(Evenement(base, 0.0, 0.0, 0.0, int(one.traitees.max()), True, composition))
    return tuple(sorted(rows, key=lambda row: (row.composition != "toutes", row.delai)))


def _cohorts(found: ca.GroupTime, sample: Sample, run: _Run) -> tuple[dict[str, Any], ...]:
    """Effect of each cohort over its years of the horizon; each has 11 units at least (R-INF)."""
    rows = []
    for g in sample.cohortes:
        mean = ca.by_cohort(found, g, run.horizon)
        rows.append({"cohorte": g, "unites": int((sample.cohorte == g).sum()), "effet": mean and mean.effet})
    return tuple(rows)


def _balance(sample: Sample, whole: Sample, w: Array, run: _Run, adjusted: Array | None) -> tuple[Equilibre, ...]:
    """The two groups before the treatment; for matched units, before matching (``whole``) and after."""
    if run.estimand.methode != "did_apparie":
        return diag.balance(sample, w, adjusted, run.estimand.reference)
    first = diag.balance(whole, lin.weights_of(whole, run.estimand.ponderation), None, run.estimand.reference)
    after = {row.variable: row for row in diag.balance(sample, w, None, run.estimand.reference)}
    return tuple(replace(row, smd_ajuste=after[row.variable].smd_brut) for row in first if row.variable in after)


def _neighbours(sample: Sample, whole: Sample, w: Array, run: _Run, headline: lin.Contrast) -> dict[str, Any]:
    """Spillover: the effect with the ring among the controls against the effect without, and the effect on the ring (R-DEB).

    Also the share of treated units where another programme began within two years (R-SUP).
    """
    import numpy as np

    result: dict[str, Any] = {"chevauchement_part": _overlap(sample)}
    ring = whole.anneau & (whole.anneau_cohorte > 0) & ~whole.mixte
    result["anneau_unites"] = int(ring.sum())
    if sample.voisin.any():
        without = lin.estimate_linear(sample, [headline], weights=w)
        within = lin.estimate_linear(sample, [headline], weights=w, controls=sample.temoin | sample.voisin)
        result["debordement_indice"] = float(within.effet[0] - without.effet[0])
    mask = ring | whole.temoin
    touched = replace(whole, cohorte=np.where(ring, whole.anneau_cohorte, 0), anneau=np.zeros(len(ring), bool)).keep(
        mask
    )
    w_ring = lin.weights_of(whole, run.estimand.ponderation)[mask]
    cells = {g: touched.cell(g, run.horizon, run.anticipation) for g in touched.cohortes}
    visible = ~np.isin(touched.cohorte, [g for g, (base, window) in cells.items() if base < 0 or not window])
    touched, w_ring = touched.keep(visible).informative(), w_ring[visible]
    groups = touched.groups()
    if min(groups) >= GRAPPES_MIN:
        contrast = lin.headline(touched, run.horizon, run.anticipation)
        value, se = lin.estimate_linear(touched, [contrast], weights=w_ring).at("effet")
        seen = Asymptotique(se, *groups, len(set(touched.grappe)) - 1).around(value)
        result["anneau_effet"], result["debordement_p"] = seen, seen.p
    return result


def _choices(
    sample: Sample, whole: Sample, weights: Mapping[str, Array], run: _Run, effet: Intervalle,
    shown: Mapping[str, Intervalle], beside: Intervalle | None,
) -> tuple[Choix, ...]:  # fmt: skip
    """The declared range: control pool, covariates, weights, estimator, overlap with other programmes.

    Under matching a wider pool gives other pairs, made again from ``whole``.
    """
    import numpy as np

    from orchestration.impact.matching import match

    own = run.estimand.ponderation
    w = weights[own]
    rows = [Choix(PRINCIPAL, effet.effet, effet.bas, effet.haut)]

    def add(nom: str, part: Sample, weight: Array, **more: Any) -> None:
        treated, free = part.groups()
        clusters = len(set(part.grappe[part.traitee | part.temoin]))
        if min(treated, free) < GRAPPES_MIN:
            return
        part = part.informative()
        contrast = lin.headline(part, run.horizon, run.anticipation)
        value, se = lin.estimate_linear(part, [contrast], weights=weight, **more).at("effet")
        seen = Asymptotique(se, treated, free, clusters - 1).around(value)
        rows.append(Choix(nom, seen.effet, seen.bas, seen.haut))

    add("régression sur les témoins jamais traités", sample, w)
    if math.isclose(rows[-1].effet, effet.effet, rel_tol=1e-9):
        del rows[1:]  # the main estimate is that one already
    if sample.noms:
        add("sans covariables", sample, w, adjust=False)
    matched = run.estimand.methode == "did_apparie"
    base = whole if matched else sample
    for nom, admitted, flag in ((VOISINS, base.voisin, "anneau"), (MELES, base.mele, "mixte")):
        if admitted.any():
            wider = replace(base, **{flag: np.zeros_like(admitted)})
            add(nom, *(match(wider, lin.weights_of(wider, own)) if matched else (wider, w)))
    if sample.autre[sample.traitee].any() and (sample.traitee & ~sample.autre).sum() >= SOUS_GROUPE_MIN:
        add("sans les unités d'un autre programme", sample.keep(~sample.autre), w[~sample.autre])
    calm = _without_covid(sample, run)
    if calm is not None:
        part, mask = calm
        if part.traitee.sum() >= SOUS_GROUPE_MIN:
            add(SANS_COVID, part, w[mask])
    rows.extend(_other_weighting(shown, own))
    if beside is not None:
        rows.append(Choix("imputation", beside.effet, beside.bas, beside.haut))
    return tuple(rows)


def _without_covid(sample: Sample, run: _Run) -> tuple[Sample, Array] | None:
    """(sample, units kept (N,)) without the years of the epidemic and the cohorts that can then not be seen; or None."""
    import numpy as np

    keep = ~np.isin(sample.annees, ANNEES_COVID)
    if keep.all() or keep.sum() < 2:
        return None
    part = replace(sample, annees=sample.annees[keep], y=sample.y[:, keep])
    cells = {g: part.cell(g, run.horizon, run.anticipation) for g in part.cohortes}
    mask = ~np.isin(part.cohorte, [g for g, (base, window) in cells.items() if base < 0 or not window])
    part = part.keep(mask)
    return (part, mask) if part.traitee.any() else None


def _other_weighting(shown: Mapping[str, Intervalle], own: str) -> list[Choix]:
    names = {"unite": "effet pour l'unité moyenne", "habitant": "effet pour l'habitant moyen"}
    return [Choix(names[name], one.effet, one.bas, one.haut) for name, one in shown.items() if name != own]


def _by_permutation(sample: Sample, whole: Sample, weights: Mapping[str, Array], run: _Run) -> dict[str, Any]:
    """The same contrasts when clusters are too few for a large-sample error: every interval, band and test by reassignment."""
    import numpy as np

    own = run.estimand.ponderation
    w = weights[own]
    if sample.x.shape[1] + 2 > sample.temoin.sum():
        raise NonEstimable("moins de témoins que de covariables")
    headline = lin.headline(sample, run.horizon, run.anticipation)
    drawn, _ = lin.random_controls(sample, headline, w, np.ones(len(w)), run.draws, run.rng("placebo"))
    spread = float(np.nanstd(drawn))
    assigned = lin.reassign(sample, run.draws, run.rng("permutation"))
    curve = lin.events(sample, run.anticipation)
    before, dated = lin.before_start(sample, run.horizon, run.anticipation)
    tests = [headline, *curve, *(one for one in (before, dated) if one is not None)]
    names = [one.nom for one in tests]
    real = lin.estimate_linear(sample, tests, weights=w).effet
    draws = lin.permuted(sample, tests, assigned, weights=w)
    on = ((sample.cohorte[:, None] > 0) & (sample.annees[None, :] >= sample.cohorte[:, None])).astype(float)

    def interval(value: float, column: Array, weight: Array) -> Intervalle:
        shift = lin.permuted(sample, [headline], assigned, weights=weight, outcome=on)[:, 0]
        low, high = inf.invert(value, column, shift)
        return Intervalle(value, low, high, inf.permutation_p(value, column))

    shown = {}
    for name, value in weights.items():
        if name == own:
            shown[name] = interval(float(real[0]), draws[:, 0], value)
        else:
            other = float(lin.estimate_linear(sample, [headline], weights=value).effet[0])
            shown[name] = interval(other, lin.permuted(sample, [headline], assigned, weights=value)[:, 0], value)
    effet = shown[own]

    def p_of(contrast: lin.Contrast | None) -> float | None:
        if contrast is None:
            return None
        k = names.index(contrast.nom)
        return inf.permutation_p(float(real[k]), draws[:, k])

    pre = [k for k, one in enumerate(tests) if one in curve and int(one.nom) < -run.anticipation]
    emd = inf.EMD_FACTEUR * spread
    trend: dict[str, Any] = {"tendance_motif": SANS_AVANT}
    if pre:
        delais = np.array([int(tests[k].nom) for k in pre])
        post = np.array([int(one.nom) for one in curve if 0 <= int(one.nom) <= run.horizon])
        slope = emd / float(_distance(post, sample, run).mean())
        p, power = inf.joint_permutation(real[pre], draws[:, pre], slope * _distance(delais, sample, run))
        trend = {"tendance_p": p, "tendance_puissance": power, "tendance_coefficients": len(pre)}
    places = list(range(1, 1 + len(curve)))
    low, high = inf.max_band(real[places], draws[:, places])
    size = {
        int(one.nom): int(
            sum((sample.cohorte == g).sum() for g, n in zip(sample.cohortes, one.cells, strict=True) if n)
        )
        for one in curve
    }
    total = int(sample.traitee.sum())
    rows = [
        Evenement(int(one.nom), float(real[k]), float(low[i]), float(high[i]), size[int(one.nom)])
        if size[int(one.nom)] in (total, *range(SOUS_GROUPE_MIN, total))
        else Evenement(int(one.nom), None, None, None, size[int(one.nom)])
        for i, (k, one) in enumerate(zip(places, curve, strict=True))
    ]
    base = _base_delay(sample, run)
    if base is not None:
        rows.append(Evenement(base, 0.0, 0.0, 0.0, total, True))
    beside = _imputation(sample, w, run, None)
    choices = [Choix(PRINCIPAL, effet.effet, effet.bas, effet.haut)]

    def add(nom: str, part: Sample, weight: Array, **more: Any) -> None:
        part = part.informative()
        contrast = lin.headline(part, run.horizon, run.anticipation)
        choices.append(Choix(nom, float(lin.estimate_linear(part, [contrast], weights=weight, **more).effet[0])))

    if sample.noms:
        add("sans covariables", sample, w, adjust=False)
    neighbours: dict[str, Any] = {"anneau_unites": int(sample.voisin.sum()), "chevauchement_part": _overlap(sample)}
    if sample.voisin.any():
        add(VOISINS, sample, w, controls=sample.temoin | sample.voisin)
        neighbours["debordement_indice"] = choices[-1].effet - float(real[0])
    if sample.mele.any():
        add(MELES, sample, w, controls=sample.temoin | sample.mele)
    alone = sample.keep(~sample.autre)
    if sample.autre.any() and alone.traitee.any() and alone.temoin.sum() > sample.x.shape[1] + 1:
        add("sans les unités d'un autre programme", alone, w[~sample.autre])
    calm = _without_covid(sample, run)
    if calm is not None:
        add(SANS_COVID, calm[0], w[calm[1]])
    choices.extend(_other_weighting(shown, own))
    if beside is not None:
        choices.append(Choix("imputation", beside.effet))
    known = Diagnostics(
        emd=emd, erreur_placebo=spread, anticipation_p=p_of(before), placebo_date_p=p_of(dated),
        equilibre=_balance(sample, whole, w, run, None), rupture_annee=diag.break_year(sample), **trend, **neighbours,
    )  # fmt: skip
    start = "appariement, puis " if run.estimand.methode == "did_apparie" else ""
    return {
        **_facts(sample, run), "effet": effet, "ponderations": shown, "imputation": beside, "inference": "permutation",
        "estimateur": f"{start}Callaway-Sant'Anna par régression, témoins jamais traités", "tirages": assigned.number,
        "diagnostics": known, "evenements": tuple(sorted(rows, key=lambda row: row.delai)), "choix": tuple(choices),
        "cohortes": tuple({"cohorte": g, "unites": int((sample.cohorte == g).sum()), "effet": None} for g in sample.cohortes),
        "notes": (*sample.notes, *_mix(sample, whole), f"permutation par {assigned.niveau}"),
    }  # fmt: skip


# --- synthetic control -------------------------------------------------------------------------------------------


def _synthetic(sample: Sample, run: _Run) -> dict[str, Any]:
    """Synthetic difference-in-differences; nothing here has an error, only ranks among the placebos."""
    import numpy as np

    from orchestration.impact import synthetic as syn

    horizon, anticipation = run.horizon, run.anticipation
    delais = syn.delays(sample, horizon, anticipation)
    donors, y, annees = np.flatnonzero(sample.temoin), sample.y, sample.annees
    own = run.estimand.ponderation
    weights = {"unite": lin.weights_of(sample, "unite")}
    if sample.poids is not None:
        weights["habitant"] = lin.weights_of(sample, "habitant")
    roles = syn.roles_of(sample, weights[own])
    drawn = syn.draw_roles(donors, roles, min(run.draws, ENSEMBLES_MAX), run.rng("permutation"))
    fake = syn.placebos(y, annees, drawn, donors, horizon, anticipation, delais)
    spread = float(fake.effets.std())
    emd = inf.EMD_FACTEUR * spread

    def read(value: float, draws: Array) -> Intervalle:
        low, high = inf.invert(value, draws, np.zeros(len(draws)))
        return Intervalle(value, low, high, inf.permutation_p(value, draws))

    real = syn.synthetic(y, annees, roles, donors, horizon, anticipation, delais)
    effet = read(real.effet, fake.effets)
    shown = {}
    for name, weight in weights.items():
        if name == own or len(np.flatnonzero(sample.traitee)) == 1:
            shown[name] = effet  # a single treated unit is both the average unit and where the average inhabitant lives
            continue
        others = syn.roles_of(sample, weight)
        again = syn.draw_roles(donors, others, min(run.draws, TAILLE_TIRAGES), run.rng("permutation"))
        draws = syn.placebos(y, annees, again, donors, horizon, anticipation, delais).effets
        shown[name] = read(syn.synthetic(y, annees, others, donors, horizon, anticipation, delais).effet, draws)

    trend, dated_p, eve_p = _synthetic_trend(sample, run, roles, drawn, donors, delais, real, fake, emd)
    low, high = inf.max_band(real.chemin, fake.chemins)
    total = int(sample.traitee.sum())
    rows = [
        Evenement(int(e), float(v), float(a), float(b), total)
        for e, v, a, b in zip(delais, real.chemin, low, high, strict=True)
    ]

    choices = [Choix(PRINCIPAL, effet.effet, effet.bas, effet.haut)]
    plain = syn.synthetic(y, annees, roles, donors, horizon, anticipation, delais, uniform=True)
    choices.append(Choix("poids égaux (double différence)", plain.effet))
    first = donors[int(real.donneurs.argmax())]
    without = syn.synthetic(y, annees, roles, donors[donors != first], horizon, anticipation, delais)
    choices.append(Choix("sans le premier donneur", without.effet))
    neighbours: dict[str, Any] = {"anneau_unites": int(sample.voisin.sum()), "chevauchement_part": _overlap(sample)}
    if sample.voisin.any():
        larger = np.flatnonzero(sample.temoin | sample.voisin)
        near = syn.synthetic(y, annees, roles, larger, horizon, anticipation, delais)
        choices.append(Choix("voisins parmi les donneurs", near.effet))
        neighbours["debordement_indice"] = near.effet - real.effet
    if sample.mele.any():
        larger = np.flatnonzero(sample.temoin | sample.mele)
        choices.append(Choix(MELES, syn.synthetic(y, annees, roles, larger, horizon, anticipation, delais).effet))
    quiet = _without_covid(sample, run)
    if quiet is not None and quiet[1].all():
        part = quiet[0]
        short = syn.delays(part, horizon, anticipation)
        choices.append(
            Choix(SANS_COVID, syn.synthetic(part.y, part.annees, roles, donors, horizon, anticipation, short).effet)
        )
    choices.extend(_other_weighting(shown, own) if total > 1 else ())
    beside = _imputation(sample, weights[own], run, None)
    if beside is not None:
        choices.append(Choix("imputation", beside.effet))
    omega = np.zeros(len(sample.unites))
    omega[donors] = real.donneurs
    known = Diagnostics(
        emd=emd, erreur_placebo=spread, anticipation_p=eve_p, placebo_date_p=dated_p, rupture_annee=diag.break_year(sample),
        equilibre=diag.balance(sample, weights[own], omega, run.estimand.reference), **trend, **neighbours,
    )  # fmt: skip
    return {
        **_facts(sample, run), "effet": effet, "ponderations": shown, "imputation": beside, "inference": "permutation",
        "estimateur": "double différence synthétique", "tirages": len(fake.effets), "diagnostics": known,
        "evenements": tuple(rows), "choix": tuple(choices),
        "cohortes": tuple({"cohorte": g, "unites": int((sample.cohorte == g).sum()), "effet": None} for g in sample.cohortes),
        "notes": (*sample.notes, *_mix(sample, sample), f"{int((real.donneurs > 1e-6).sum())} donneurs de poids non nul sur {len(donors)}"),
    }  # fmt: skip


def _synthetic_trend(
    sample: Sample, run: _Run, roles: Any, drawn: Any, donors: Array, delais: Array, real: Any, fake: Any, emd: float
) -> tuple[dict[str, Any], float | None, float | None]:
    """(test of the path before, p of the dated placebo, p of the eve): ranks of the treated among the placebos.

    The path before is judged by its distance to the synthetic one: a treated unit that no donors can follow, more than
    95 % of the placebos, has no counterfactual. Power: placebos to which a trend that would give the MDE is added.
    """
    import numpy as np

    from orchestration.impact import synthetic as syn

    annees, y, horizon, anticipation = sample.annees, sample.y, run.horizon, run.anticipation
    pre = delais[delais < -anticipation]
    first = min(sample.cohortes)
    if len(pre) < 2:
        return {"tendance_motif": SANS_AVANT}, None, None
    p = float((1 + (fake.ecarts >= real.ecart - 1e-12).sum()) / (1 + len(fake.ecarts)))
    few = drawn[:TAILLE_TIRAGES]
    middle = float(np.mean(delais[delais >= 0])) + 1 + anticipation
    moved = syn.placebos(y, annees, few, donors, horizon, anticipation, delais, slope=emd / middle)
    limit = np.sort(fake.ecarts)[::-1][max(int(ALPHA * (1 + len(fake.ecarts))) - 1, 0)]
    trend = {
        "tendance_p": p,
        "tendance_puissance": float((moved.ecarts > limit).mean()),
        "tendance_coefficients": len(pre),
    }
    eve = [int(np.flatnonzero(delais == e)[0]) for e in pre[-2:]]
    eve_p = inf.permutation_p(
        float(real.chemin[eve[1]] - real.chemin[eve[0]]), fake.chemins[:, eve[1]] - fake.chemins[:, eve[0]]
    )
    calm = annees[annees + anticipation < first]
    length = min(len(calm) // 2, horizon + 1)
    dated_p = None
    if len(calm) >= 4:
        date, width = int(calm[-length]), len(calm)
        span = int(calm[-1]) - date
        old = syn.delays(replace(sample, annees=calm, cohorte=np.where(sample.traitee, date, 0)), span, 0)
        y_old = y[:, :width]

        def at(parts: Any) -> list[Any]:
            return [syn.Role(date, role.rows, role.poids) for role in parts]

        there = syn.synthetic(y_old, calm, at(roles), donors, span, 0, old).effet
        elsewhere = syn.placebos(y_old, calm, [at(parts) for parts in few], donors, span, 0, old).effets
        dated_p = inf.permutation_p(there, elsewhere)
    return trend, dated_p, eve_p
