"""diff-diff behind a small wall: what goes in, what comes out, and what of it is never let through.

Defects of diff-diff 3.13.0 that were measured, and what is done about each (impact.md 2.3 and tests):

- it clips propensities at 0.01 by default: with 300 treated among 35,000 units all are clipped, and the doubly robust
  estimate silently becomes a mere regression. ``PSCORE_TRIM`` is set so low that it binds nowhere; R ``did`` and csdid agree;
- it falls back to an unconditional estimate when a covariate is missing, to pairwise differences when the panel has holes,
  and drops collinear covariates: ``preparation`` leaves it none of these, and a warning that says so is an error here;
- ``TwoStageDiD`` takes 9.7 GiB, its relative-magnitudes intervals are too narrow, its smoothness intervals are empty beyond
  some M, ``load_mpdta`` falls back to synthetic data, ``ImputationDiD(horizon_max)`` does not limit its overall effect:
  none of these is called here.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from orchestration.impact.interface import NonEstimable

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from orchestration.impact.preparation import Sample

    Array = np.ndarray[Any, Any]

PSCORE_TRIM = 1e-8
EVENEMENTS_PAR_COVARIABLE = 10  # treated units per covariate under which a cohort's propensity is not fitted
FATAL = (
    "Falling back",
    "failed",
    "Rank-deficient",
    "non-finite",
    "near-singular",
    "could not be estimated",
    "nbalanced",
    "did not converge",
)
SEPARATION = ("Logistic regression did not converge",)
BENIGN = (
    "pweight weights normalized",
    "Propensity scores for",
    "Events Per Variable",
    "Near-separation",
    "Large coefficients",
)  # the balance and the effective number of controls judge these


class Separation(Exception):
    """Covariates tell treated from controls so well that no propensity score can be fitted."""


@dataclass(frozen=True)
class EventStudy:
    """Effects by delay with their covariance, the base year (effect 0, no variance) left out.

    ``delais`` (K,) increasing, ``effets`` (K,), ``vcov`` (K, K) clustered, ``traitees`` (K,) treated units seen at each,
    ``masses`` (K,) their weights. ``cells``: (cohort, year) → (effect, standard error), the base years left out.
    """

    delais: Array
    effets: Array
    vcov: Array
    traitees: Array
    masses: Array
    cells: dict[tuple[int, int], tuple[float, float]]
    simple: tuple[float, float] | None

    def headline(self, horizon: int) -> tuple[float, float, Array]:
        """(effect, standard error, weights (K,)): mean over the treated unit-years from 0 to ``horizon``.

        When the horizon takes all years after, this is the « simple » aggregate of R ``did``, with the error due to the
        sizes of the cohorts. Otherwise these sizes, which are facts and not draws, are held fixed.
        """
        import numpy as np

        weights = np.where((self.delais >= 0) & (self.delais <= horizon), self.masses, 0.0)
        weights = weights / weights.sum()
        if self.simple is not None and horizon >= self.delais.max():
            return *self.simple, weights
        return float(weights @ self.effets), float(np.sqrt(weights @ self.vcov @ weights)), weights


def doubly_robust(sample: Sample) -> bool:
    """Whether each cohort can bear a propensity score of its own: enough treated units, both values of each category.

    Otherwise the adjustment is by regression alone, which needs no such model of the treated.
    """
    if not sample.noms:
        return True
    for g in sample.cohortes:
        mine = sample.x[sample.cohorte == g]
        if len(mine) < EVENEMENTS_PAR_COVARIABLE * len(sample.noms) or (mine.std(axis=0) == 0).any():
            return False
    return True


def callaway(
    sample: Sample, *, weights: Array, method: Literal["dr", "reg", "ipw"], anticipation: int,
    controls: Literal["not_yet_treated", "never_treated"] = "not_yet_treated",
    base: Literal["universal", "varying"] = "universal", balance: int | None = None,
) -> EventStudy:  # fmt: skip
    """Callaway and Sant'Anna (2021) on the treated and the controls of the main run, clustered, analytic errors.

    ``balance``: keep only the cohorts seen at all delays from 0 to it, so that the curve compares the same units.
    Raises NonEstimable when the engine cannot fit what it was asked, rather than fit something else, and Separation when
    it finds no propensity score.
    """
    import diff_diff
    import numpy as np

    used = sample.keep(sample.traitee | sample.temoin)
    w = weights[sample.traitee | sample.temoin]
    flat = bool(np.allclose(w, w[0]))
    fitted = _fit(
        diff_diff.CallawaySantAnna(
            control_group=controls, anticipation=anticipation, estimation_method=method, cluster="grappe", base_period=base,
            pscore_trim=PSCORE_TRIM,
        ),
        _long(used, w),
        covariates=list(_names(used)) or None,
        survey_design=None if flat else diff_diff.SurveyDesign(weights="poids", psu="grappe"),
    )  # fmt: skip
    table = (
        fitted.aggregate("event_study", balance_e=balance) if balance is not None else fitted.aggregate("event_study")
    )
    order = [list(table.event_time).index(e) for e in table.vcov_index]
    seen = {int(e): [g for g in used.cohortes if g + e in set(used.annees)] for e in table.vcov_index}
    if balance is not None:
        whole = [g for g in used.cohortes if all(g + e in set(used.annees) for e in range(balance + 1))]
        seen = {e: [g for g in who if g in whole] for e, who in seen.items()}
    units = {g: int((used.cohorte == g).sum()) for g in used.cohortes}
    masses = {g: float(w[used.cohorte == g].sum()) for g in used.cohortes}
    cells = {
        (int(g), int(t)): (float(cell["effect"]), float(cell["se"]))
        for (g, t), cell in fitted.group_time_effects.items()
        if cell["skip_reason"] is None and np.isfinite(cell["se"])
    }
    result = EventStudy(
        np.array(table.vcov_index, dtype=int), np.asarray(table.att)[order], np.asarray(table.vcov),
        np.array([sum(units[g] for g in seen[int(e)]) for e in table.vcov_index]),
        np.array([sum(masses[g] for g in seen[int(e)]) for e in table.vcov_index]), cells,
        (float(fitted.overall_att), float(fitted.overall_se)) if anticipation == 0 and balance is None else None,
    )  # fmt: skip
    if not (np.isfinite(result.effets).all() and np.isfinite(result.vcov).all()):
        raise NonEstimable("le moteur ne trouve pas d'effet à chaque délai : trop peu d'unités comparables")
    return result


def imputation(
    sample: Sample, *, weights: Array, horizon: int, anticipation: int, covariates: bool = True
) -> tuple[float, float]:
    """(effect, standard error) of Borusyak, Jaravel and Spiess (2024), over the same treated unit-years as the headline.

    Covariates enter by year, as the doubly robust estimate allows a trend of its own to each value of them; without that
    the two would not answer the same question. Years beyond the horizon of the treated are left out of the panel.
    """
    import diff_diff
    import numpy as np

    mask = sample.traitee | sample.temoin
    used, w = sample.keep(mask), weights[mask]
    # Its iterations stop at an absolute gap: the outcome is brought to a scale of one.
    centre, scale = float(used.y.mean()), float(used.y.std())
    frame = _long(replace(used, y=(used.y - centre) / scale), w)
    late = (frame["cohorte"] > 0) & (frame["annee"] > frame["cohorte"] + horizon)
    frame = frame[~late].reset_index(drop=True)
    names = []
    for name in _names(used) if covariates else ():
        for year in used.annees[1:]:
            names.append(f"{name}_{year}")
            frame[names[-1]] = np.where(frame["annee"] == year, frame[name], 0.0)
    flat = bool(np.allclose(w, w[0]))
    fitted = _fit(
        diff_diff.ImputationDiD(anticipation=anticipation, cluster="grappe"), frame, covariates=names or None,
        survey_design=None if flat else diff_diff.SurveyDesign(weights="poids", psu="grappe"), tolerated=("nbalanced",),
    )  # fmt: skip
    return scale * float(fitted.overall_att), scale * float(fitted.overall_se)


def _names(sample: Sample) -> tuple[str, ...]:
    return tuple(f"x{rank}" for rank in range(len(sample.noms)))


def _long(sample: Sample, weights: Array) -> pd.DataFrame:
    """The frame that diff-diff takes: one row per unit and period, cohort 0 for controls."""
    import numpy as np
    import pandas as pd

    units, periods = sample.y.shape
    columns = {
        "unite": np.repeat(np.arange(units), periods), "annee": np.tile(sample.annees, units), "valeur": sample.y.ravel(),
        "cohorte": np.repeat(sample.cohorte, periods), "grappe": np.repeat(sample.grappe, periods),
        "poids": np.repeat(weights, periods),
    }  # fmt: skip
    for rank, name in enumerate(_names(sample)):
        columns[name] = np.repeat(sample.x[:, rank], periods)
    return pd.DataFrame(columns)


def _fit(estimator: Any, frame: pd.DataFrame, tolerated: tuple[str, ...] = (), **more: Any) -> Any:
    """Fits, and takes for a failure any warning that the engine did something else than what it was asked."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            fitted = estimator.fit(frame, outcome="valeur", unit="unite", time="annee", first_treat="cohorte", **more)
        except ValueError as error:
            raise NonEstimable(f"le moteur refuse ce panel ({str(error).split('. ')[0]})") from error
    for warning in caught:
        text = str(warning.message)
        if any(word in text for word in BENIGN) or any(word in text for word in tolerated):
            continue
        if any(word in text for word in SEPARATION):
            raise Separation(text)
        if any(word in text for word in FATAL):
            raise NonEstimable(f"le moteur n'a pas pu ajuster ce qui est déclaré ({text.split('. ')[0]})")
        warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    return fitted


# --- matching ----------------------------------------------------------------------------------------------------

VOISINS = 3
CALIPER = 0.25  # standard deviations, on each covariate


def match(sample: Sample, weights: Array) -> tuple[Sample, Array]:
    """The treated units that have a like among the controls, and these: (sample, weights (N,)).

    Nearest neighbours with replacement (Abadie and Imbens 2006), up to ``VOISINS`` each, on the standardised covariates,
    the same category wherever one is declared, no covariate farther than ``CALIPER``. Only covariates from before the
    treatment count, and never the outcome: matching on it would make the groups converge by themselves afterwards.
    """
    import numpy as np
    from scipy.spatial import cKDTree

    if not sample.noms:
        raise NonEstimable("un appariement demande au moins une covariable déclarée")
    treated, free = np.flatnonzero(sample.traitee), np.flatnonzero(sample.temoin)
    x = sample.x / CALIPER
    asked = min(VOISINS, len(free))
    distance, place = cKDTree(x[free]).query(x[treated], k=range(1, asked + 1), p=np.inf, distance_upper_bound=1.0)
    near = np.isfinite(distance)
    found = near.sum(axis=1)
    result = np.zeros(len(sample.unites))
    has = found > 0
    result[treated[has]] = weights[treated[has]]
    rows, columns = np.nonzero(near)
    share = weights[treated[rows]] / found[rows]
    np.add.at(result, free[place[rows, columns]], share)
    kept = sample.keep(result > 0, f"aucun témoin semblable (à {CALIPER:g} écart-type près)".replace(".", ","))
    return kept, result[result > 0]
