"""Imputation beside the main estimate, by diff-diff behind a wall: what of the engine is used, and what is let through.

diff-diff 3.13.0 gives the imputation estimate and the weights of synthetic controls (``synthetic``). What was measured
against it (impact.md 2.3, tests) and never reaches a number here:

- its doubly robust Callaway-Sant'Anna is neither R's nor csdid's (``callaway`` says why and takes its place);
- it falls back to something else than what it was asked when covariates are missing or collinear, or when iterations do not
  end: ``preparation`` leaves it no such panel, the outcome is brought to a scale of one, and such a warning is an error;
- ``TwoStageDiD`` takes 9.7 GiB; its relative-magnitudes intervals are too narrow, its smoothness intervals empty beyond some
  M (``inference`` has its own); ``load_mpdta`` falls back to synthetic data; ``ImputationDiD(horizon_max)`` does not limit
  its overall effect (the years beyond the horizon are taken off the panel instead); its placebo errors are not read.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from orchestration.impact.interface import NonEstimable

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from orchestration.impact.preparation import Sample

    Array = np.ndarray[Any, Any]

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
SANS_SUITE = "pweight weights normalized"


def imputation(
    sample: Sample, *, weights: Array, horizon: int, anticipation: int, covariates: bool = True
) -> tuple[float, float]:
    """(effect, standard error) of Borusyak, Jaravel and Spiess (2024), over the same treated unit-years as the headline.

    Covariates enter by year, as the doubly robust estimate allows a trend of its own to each value of them; without that
    the two would not answer the same question. Years of the treated beyond the horizon, or of the anticipation, are left out of the panel.
    """
    import diff_diff
    import numpy as np

    mask = sample.traitee | sample.temoin
    used, w = sample.keep(mask), weights[mask]
    # Its iterations stop at an absolute gap: the outcome is brought to a scale of one.
    centre, scale = float(used.y.mean()), float(used.y.std())
    frame = _long(replace(used, y=(used.y - centre) / scale), w)
    delay = frame["annee"] - frame["cohorte"]
    aside = (frame["cohorte"] > 0) & ((delay > horizon) | ((delay < 0) & (delay >= -anticipation)))
    frame = frame[~aside].reset_index(drop=True)
    names = []
    for name in _names(used) if covariates else ():
        for year in used.annees[1:]:
            names.append(f"{name}_{year}")
            frame[names[-1]] = np.where(frame["annee"] == year, frame[name], 0.0)
    flat = bool(np.allclose(w, w[0]))
    fitted = _fit(
        diff_diff.ImputationDiD(anticipation=anticipation, cluster="grappe"), frame, covariates=names or None,
        survey_design=None if flat else diff_diff.SurveyDesign(weights="poids", psu="grappe"), tolerated=("nbalanced", SANS_SUITE),
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
        if any(word in text for word in tolerated):
            continue
        if any(word in text for word in FATAL):
            raise NonEstimable(f"le moteur n'a pas pu ajuster ce qui est déclaré ({text.split('. ')[0]})")
        warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    return fitted
