"""Evidence about the comparison itself, from before the treatment or from the controls: balance, overlap, breaks.

Standardised differences as in Imbens and Rubin (2015): difference of means over the mean of the two standard deviations.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestration.impact.interface import Equilibre

if TYPE_CHECKING:
    import numpy as np

    from orchestration.impact.preparation import Sample

    Array = np.ndarray[Any, Any]

RUPTURE_ECARTS = 6.0  # usual spreads of the yearly move of the median control
RUPTURE_PART = 0.5  # usual yearly move of one control


def odds(sample: Sample, weights: Array) -> Array:
    """Odds of being treated given the covariates (N,), by a logit on treated and controls of the main run; 1 without.

    A light ridge keeps it finite when a category holds hardly any treated unit.
    """
    import numpy as np

    used = sample.traitee | sample.temoin
    result = np.ones(len(sample.unites))
    if not sample.noms:
        return result
    x, d, w = np.column_stack([np.ones(used.sum()), sample.x[used]]), sample.traitee[used].astype(float), weights[used]
    beta, ridge = np.zeros(x.shape[1]), np.diag([0.0, *np.full(len(sample.noms), 1e-3 * d.sum())])
    share = float((w * d).sum() / w.sum())
    beta[0] = np.log(share / (1 - share))
    for _ in range(50):
        p = 1 / (1 + np.exp(-np.clip(x @ beta, -30, 30)))
        step = np.linalg.solve((x * (w * p * (1 - p))[:, None]).T @ x + ridge, x.T @ (w * (d - p)) - ridge @ beta)
        beta = beta + step
        if np.abs(step).max() < 1e-10:
            break
    result[used] = np.exp(np.clip(x @ beta, -30, 30))
    return result


def effective(weights: Array) -> float:
    """Number of equally weighted controls that would be as precise (Kish)."""
    return float(weights.sum() ** 2 / (weights**2).sum())


def balance(sample: Sample, weights: Array, adjusted: Array | None, reference: int | None) -> tuple[Equilibre, ...]:
    """One row per covariate, for the level of the outcome at ``reference`` and for its change since the first period.

    ``weights`` (N,) of the comparison as it is; ``adjusted`` (N,) those of the controls once they are made alike, or null
    when no such weights exist. The reference is brought back to the last period that no treatment can have touched.
    """
    import numpy as np

    treated, free = sample.traitee, sample.temoin
    last = min(sample.cohortes)
    before = [i for i, t in enumerate(sample.annees) if t < last and (reference is None or t <= reference)]
    place = before[-1] if before else 0
    original = sample.x * sample.ecarts + sample.moyennes
    columns = [(name, "covariable", original[:, i]) for i, name in enumerate(sample.noms)]
    columns.append((f"indicateur en {sample.annees[place]}", "niveau", sample.y[:, place]))
    if place > 0:
        change = sample.y[:, place] - sample.y[:, 0]
        columns.append((f"évolution de {sample.annees[0]} à {sample.annees[place]}", "évolution", change))

    def spread(values: Array, w: Array) -> float:
        mean = np.average(values, weights=w)
        return float(np.average((values - mean) ** 2, weights=w))

    rows = []
    for name, nature, values in columns:
        mean = float(np.average(values[treated], weights=weights[treated]))
        other = float(np.average(values[free], weights=weights[free]))
        sides = [spread(values[free], weights[free])]
        if treated.sum() > 1:
            sides.append(spread(values[treated], weights[treated]))
        scale = float(np.sqrt(np.mean(sides))) or 1.0
        near = None
        if adjusted is not None:
            near = (mean - float(np.average(values[free], weights=adjusted[free]))) / scale
        rows.append(Equilibre(name, nature, mean, other, (mean - other) / scale, near))
    return tuple(rows)


def break_year(sample: Sample) -> int | None:
    """Year in which the controls jump as a series does when its method changes, not as places do; null when none.

    The median control moves, from one period to the next and by year between them, both far more than it does at other
    times (``RUPTURE_ECARTS`` usual spreads) and as much as half of the usual move of one control. It is an alarm beside the
    declared breaks (``ruptures``), which need no such luck.
    """
    import numpy as np

    moves = np.diff(sample.y[sample.temoin], axis=1) / np.diff(sample.annees)
    if moves.shape[1] < 4:
        return None
    middle = np.median(moves, axis=0)
    usual = np.median(middle)
    spread = 1.4826 * np.median(np.abs(middle - usual))
    own = np.median(np.subtract(*np.percentile(moves, [75, 25], axis=0))) / 1.349
    far = np.abs(middle - usual)
    worst = int(far.argmax())
    return (
        int(sample.annees[worst + 1])
        if far[worst] > max(RUPTURE_ECARTS * spread, RUPTURE_PART * own) and own > 0
        else None
    )
