"""Tests, bands, sensitivity and multiplicity: small functions on numbers, without knowledge of panels.

Simultaneous bands by the plug-in sup-t method (Montiel Olea and Plagborg-Møller 2019); joint test of the years before as a
Hotelling statistic on clusters, with its power in the manner of Roth (2022); smoothness sensitivity by the optimal
fixed-length interval of Rambachan and Roth (2023), written here because diff-diff's own is empty beyond some M; intervals
by inversion of permutation tests; Holm (1979) and Benjamini-Hochberg (1995).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from orchestration.impact.interface import ALPHA

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

EMD_FACTEUR = 2.8  # two-sided 5 % test, 80 % power
DONNEURS_MIN = 19  # under it, no permutation can reach 5 %


def sup_t(vcov: Array, ddl: int, draws: int, rng: np.random.Generator) -> float:
    """The number of standard errors that makes the bands of all effects of ``vcov`` (K, K) hold at once in 95 %."""
    import numpy as np

    scale = np.sqrt(np.diag(vcov))
    values, vectors = np.linalg.eigh(vcov / np.outer(scale, scale))
    root = vectors * np.sqrt(np.maximum(values, 0))
    normal = rng.standard_normal((draws, len(scale))) @ root.T
    student = np.abs(normal).max(axis=1) / np.sqrt(rng.chisquare(ddl, draws) / ddl)
    return float(np.quantile(student, 1 - ALPHA))


def joint_test(effets: Array, vcov: Array, grappes: int) -> tuple[float, int]:
    """(p-value, coefficients) of the hypothesis that all ``effets`` (K,) are null; with fewer clusters, a wider law."""
    from scipy.stats import f

    statistic, q = _hotelling(effets, vcov, grappes)
    return float(f.sf(statistic, q, max(grappes - q, 1))), q


def joint_power(shift: Array, vcov: Array, grappes: int) -> float:
    """Chance that ``joint_test`` at 5 % sees the years before when their true values are ``shift`` (K,)."""
    from scipy.stats import f, ncf

    statistic, q = _hotelling(shift, vcov, grappes)
    below = max(grappes - q, 1)
    noncentral = statistic * q * (grappes - 1) / below
    return float(ncf.sf(f.ppf(1 - ALPHA, q, below), q, below, noncentral))


def _hotelling(effets: Array, vcov: Array, grappes: int) -> tuple[float, int]:
    import numpy as np

    values, vectors = np.linalg.eigh(vcov)
    seen = values > values.max() * 1e-10
    score = (vectors[:, seen].T @ effets) / np.sqrt(values[seen])
    q = int(seen.sum())
    return float(score @ score) * max(grappes - q, 1) / (q * (grappes - 1)), q


# --- permutation ---------------------------------------------------------------------------------------------------


def permutation_p(observed: float, draws: Array) -> float:
    """Two-sided: share of the draws, the real treatment among them, at least as far from zero."""
    import numpy as np

    return float((1 + (np.abs(draws) >= abs(observed) - 1e-12).sum()) / (1 + len(draws)))


def invert(observed: float, draws: Array, shift: Array) -> tuple[float, float]:
    """Bounds of the effects that the permutation test does not refuse at 5 %.

    Under a true effect τ, draw p has the statistic ``draws[p] - τ shift[p]`` and the real treatment ``observed - τ``:
    ``shift`` (P,) is the statistic of each draw on the effect itself (0 when placebos leave the treated out).
    """
    import numpy as np

    with np.errstate(divide="ignore", invalid="ignore"):
        one, two = (observed - draws) / (1 - shift), (observed + draws) / (1 + shift)
    # As far as the real treatment whatever the effect: the same treatment again, or one that an effect moves even more.
    always = np.isnan(one) | np.isnan(two) | (np.abs(shift) > 1)
    low = np.sort(np.where(always, -math.inf, np.minimum(one, two)))
    high = np.sort(np.where(always, math.inf, np.maximum(one, two)))[::-1]
    rank = math.floor(ALPHA * (1 + len(draws)))  # refused as soon as fewer draws than this are as far
    if rank < 1:
        return -math.inf, math.inf
    return float(low[rank - 1]), float(high[rank - 1])


def _spread(draws: Array) -> Array:
    """Standard deviation of each column (P, K) → (K,); 1 for one that no draw moves, which then weighs nothing."""
    import numpy as np

    spread = draws.std(axis=0)
    return np.where(spread > 0, spread, 1.0)


def max_band(observed: Array, draws: Array) -> tuple[Array, Array]:
    """(low, high) (K,) bands that hold for all K effects at once, each in units of its spread over the draws (P, K)."""
    import numpy as np

    spread = _spread(draws)
    reach = np.sort((np.abs(draws) / spread).max(axis=1))[::-1][max(math.floor(ALPHA * (1 + len(draws))) - 1, 0)]
    return observed - reach * spread, observed + reach * spread


def joint_permutation(observed: Array, draws: Array, shift: Array | None = None) -> tuple[float, float | None]:
    """(p-value, power) of the years before: their sum of squares in units of spread, among the draws (P, K).

    The power is the share of draws that the test would refuse if ``shift`` (K,) were added to them.
    """
    import numpy as np

    spread = _spread(draws)
    statistic = ((draws / spread) ** 2).sum(axis=1)
    real = float(((observed / spread) ** 2).sum())
    p = float((1 + (statistic >= real - 1e-12).sum()) / (1 + len(draws)))
    if shift is None:
        return p, None
    moved = (((draws + shift) / spread) ** 2).sum(axis=1)
    limit = np.sort(statistic)[::-1][max(math.floor(ALPHA * (1 + len(draws))) - 1, 0)]
    return p, float((moved > limit).mean())


# --- sensitivity ---------------------------------------------------------------------------------------------------


class Smoothness:
    """Optimal fixed-length intervals of Rambachan and Roth (2023) for all bends of the trend at once.

    ``avant`` (A,), ``apres`` (B,) effects with joint ``vcov`` (A + B,), at ``delais`` (A + B,) counted from the base year
    (negative before, 0 absent); ``weights`` (B,) of the headline; ``ddl`` widens by Student's law.

    The estimator is affine: the headline plus weights v on the years before, such that no straight line biases it. With
    c_j = Σ_{k>j} v_k (k - j) the weight of the bend j years before the base, c_0 is fixed by the straight line, the bias
    under bends of at most m is m·Σ|c_j| plus what the years after add, and the best v for each m lies on the path of a
    least squares penalised by Σ|c_j|: it is followed once, from the straight line alone to no penalty.
    """

    def __init__(
        self, avant: Array, apres: Array, vcov: Array, delais: Array, weights: Array, ddl: int | None = None
    ) -> None:
        import numpy as np
        from scipy.stats import norm
        from scipy.stats import t as student

        a = len(avant)
        if a == 0:
            raise ValueError("smoothness needs a year before the base")
        distance, after = -np.asarray(delais[:a], float), np.asarray(delais[a:], float)
        aim = float(weights @ after)
        own, cross, rest = vcov[:a, :a], vcov[:a, a:] @ weights, float(weights @ vcov[a:, a:] @ weights)
        self.width = 1.0 if ddl is None else float(student.ppf(1 - ALPHA / 2, ddl) / norm.ppf(1 - ALPHA / 2))
        order = np.argsort(distance)
        self.regular = bool((distance[order] == np.arange(1, a + 1)).all())
        if self.regular:
            steps = distance[order]
            forward = np.array([[max(k - j, 0.0) for k in steps] for j in range(a)])
            back = np.linalg.inv(forward)
            quad, line = back.T @ own[np.ix_(order, order)] @ back, back.T @ cross[order]
            path = _penalised_path(quad[1:, 1:], line[1:] + quad[1:, 0] * aim)
            bends = np.column_stack([np.full(len(path), aim), path])
            v = np.empty((len(path), a))
            v[:, order] = bends @ back.T
            late = sum(abs(float(weights @ np.maximum(after - j, 0))) for j in range(1, int(after.max())))
            self.bias = np.abs(bends).sum(axis=1) + late
        else:
            inverse = np.linalg.pinv(own)
            u, z = inverse @ distance, inverse @ cross
            v = (-z + u * (aim + distance @ z) / (distance @ u))[None, :]
            self.bias = np.full(1, math.inf)
        self.sd = np.sqrt(np.einsum("ij,jk,ik->i", v, own, v) + 2 * v @ cross + rest)
        self.centre = v @ avant + float(weights @ apres)

    def interval(self, m: float) -> tuple[float, float, float, float]:
        """(low, high, centre, standard error) when the trend bends by at most ``m`` a year; 0 allows any straight line.

        Above 0 the years before must follow each other (``regular``).
        """
        import numpy as np

        if m > 0 and not self.regular:
            raise ValueError("a bend has no measure on years that do not follow each other")
        half = self.sd * self.width * _folded(self.bias * m / self.sd if m > 0 else np.zeros(len(self.sd)))
        best = int(half.argmin())
        centre = float(self.centre[best])
        return centre - float(half[best]), centre + float(half[best]), centre, float(self.sd[best])

    def breakdown(self, top: float) -> float | None:
        """Smallest bend, up to ``top``, whose interval holds zero; None when even ``top`` does not."""

        def holds(m: float) -> bool:
            low, high, _, _ = self.interval(m)
            return low <= 0 <= high

        if holds(0.0):
            return 0.0
        if not holds(top):
            return None
        low, high = 0.0, top
        for _ in range(40):
            middle = (low + high) / 2
            low, high = (low, middle) if holds(middle) else (middle, high)
        return high


def _penalised_path(quad: Array, line: Array) -> Array:
    """Minima (L, K) of ½c'Qc + l'c + λ·Σ|c| for λ from where all vanish to 0, with points between its turns (homotopy)."""
    import numpy as np

    size = len(line)
    c = np.zeros(size)
    found = [c.copy()]
    level = float(np.abs(line).max(initial=0.0))
    active: list[int] = [int(np.abs(line).argmax())] if level > 0 else []
    for _ in range(50 * size):
        if level <= 0 or not active:
            break
        signs = -np.sign(quad[active] @ c + line[active])
        slope = np.zeros(size)
        slope[active] = np.linalg.solve(quad[np.ix_(active, active)], signs)  # dc as λ falls by one
        gradient, change = quad @ c + line, quad @ slope
        step, turn = level, None
        for j in range(size):
            if j in active:
                reach = -c[j] / slope[j] if slope[j] * c[j] < 0 else math.inf
                if 1e-15 < reach < step:
                    step, turn = reach, ("out", j)
            else:
                # |gradient_j + s·change_j| meets λ - s, from above or below.
                for sign in (1.0, -1.0):
                    speed = 1 + sign * change[j]
                    reach = (level - sign * gradient[j]) / speed if speed > 1e-15 else math.inf
                    if 1e-15 < reach < step:
                        step, turn = reach, ("in", j)
        found.extend(c + slope * step * part for part in np.linspace(0, 1, 101)[1:])
        c, level = c + slope * step, level - step
        if turn is None:
            break
        if turn[0] == "in":
            active.append(turn[1])
        else:
            c[turn[1]] = 0.0
            active.remove(turn[1])
    return np.array(found)


def _folded(bias: Array) -> Array:
    """95 % quantile of |N(bias, 1)|, element by element."""
    import numpy as np
    from scipy.special import ndtr

    low, high = np.asarray(bias, float), np.asarray(bias, float) + 2.0
    for _ in range(50):
        middle = (low + high) / 2
        short = ndtr(middle - bias) - ndtr(-middle - bias) < 1 - ALPHA
        low, high = np.where(short, middle, low), np.where(short, high, middle)
    return high


# --- multiplicity --------------------------------------------------------------------------------------------------


def holm(p: Sequence[float]) -> list[float]:
    """Holm-adjusted p-values: an effect kept at 5 % keeps the chance of any false one in the family at 5 %."""
    order = sorted(range(len(p)), key=lambda i: p[i])
    adjusted, highest = [0.0] * len(p), 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(p) - rank) * p[i]))
        adjusted[i] = highest
    return adjusted


def benjamini_hochberg(p: Sequence[float]) -> list[float]:
    """q-values: among the effects kept at 5 %, 5 % at most are expected to be false."""
    order = sorted(range(len(p)), key=lambda i: p[i], reverse=True)
    adjusted, lowest = [1.0] * len(p), 1.0
    for rank, i in enumerate(order):
        lowest = min(lowest, p[i] * len(p) / (len(p) - rank))
        adjusted[i] = lowest
    return adjusted
