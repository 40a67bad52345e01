"""Matched units (``did_apparie``): the treated that have a like, and their likes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestration.impact.interface import NonEstimable

if TYPE_CHECKING:
    import numpy as np

    from orchestration.impact.preparation import Sample

    Array = np.ndarray[Any, Any]

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
