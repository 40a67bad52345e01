"""Synthetic difference-in-differences for few treated units, with permutation over the donors as its only inference.

Arkhangelsky, Athey, Hirshberg, Imbens and Wager (2021): weights on donors that follow the treated before the start, and
weights on the years before that resemble those after. The weights are diff-diff's (its estimate is reproduced to the last
digit, tests); its errors are never read. Several dates of start: one estimate per cohort, averaged over treated unit-years
(Clarke, Pailañir, Athey and Imbens 2023). Each donor in turn, or each set of as many donors as there are treated units,
plays the treated among the other donors, the real treated left out (Abadie, Diamond and Hainmueller 2010).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orchestration.impact.interface import NonEstimable

if TYPE_CHECKING:
    import numpy as np

    from orchestration.impact.preparation import Sample

    Array = np.ndarray[Any, Any]

PRECISION = 1e-5  # of the noise level, as R synthdid stops


@dataclass(frozen=True)
class Synthetic:
    """``effet``: mean over treated unit-years of the horizon. ``chemin`` (D,): effect at each delay of ``delais``, the
    years before included, each against the weighted years before. ``ecart``: root mean square of the path before, after
    its own mean. ``donneurs``: weight of each donor, averaged over treated unit-years."""

    effet: float
    chemin: Array
    ecart: float
    donneurs: Array


def delays(sample: Sample, horizon: int, anticipation: int) -> Array:
    """Delays that each cohort sees, years of the anticipation left out."""
    import numpy as np

    common: set[int] | None = None
    for g in sample.cohortes:
        seen = {int(t) - g for t in sample.annees if t + anticipation < g or g <= t <= g + horizon}
        common = seen if common is None else common & seen
    return np.array(sorted(common or ()))


@dataclass(frozen=True)
class Role:
    """Rows of the panel that start at ``cohorte``, and the weight of each in the effect."""

    cohorte: int
    rows: Array
    poids: Array


def synthetic(
    y: Array, annees: Array, roles: Sequence[Role], donors: Array, horizon: int, anticipation: int, delais: Array,
    *, uniform: bool = False,
) -> Synthetic:  # fmt: skip
    """The estimate when the units of ``roles`` are treated and ``donors`` (rows of ``y``) are free.

    ``y`` (N, T). ``uniform``: equal weights on donors and years, that is plain difference-in-differences.
    """
    import numpy as np
    from diff_diff.utils import compute_sdid_unit_weights, compute_time_weights

    total, effet, chemin, square, donneurs = 0.0, 0.0, np.zeros(len(delais)), 0.0, np.zeros(len(donors))
    mass = sum(float(role.poids.sum()) for role in roles)
    for role in roles:
        g, share = role.cohorte, float(role.poids.sum()) / mass
        before, after = annees + anticipation < g, (annees >= g) & (annees <= g + horizon)
        free_before, free_after = y[donors][:, before].T, y[donors][:, after].T
        mine = role.poids @ y[role.rows] / role.poids.sum()
        noise = float(np.std(np.diff(free_before, axis=0), ddof=1)) if free_before.shape[0] > 2 else 0.0
        if uniform or noise == 0 or before.sum() < 2:
            omega, lam = np.full(len(donors), 1 / len(donors)), np.full(before.sum(), 1 / before.sum())
        else:
            zeta = (len(role.rows) * int(after.sum())) ** 0.25 * noise
            omega = compute_sdid_unit_weights(free_before, mine[before], zeta, min_decrease=PRECISION * noise)
            lam = compute_time_weights(free_before, free_after, 1e-6 * noise, min_decrease=PRECISION * noise)
        gap = mine - omega @ y[donors]
        gap = gap - lam @ gap[before]
        years = share * int(after.sum())
        effet += years * float(gap[after].mean())
        total += years
        places = {int(t) - g: i for i, t in enumerate(annees)}
        chemin += share * gap[[places[int(e)] for e in delais]]
        square += share * float(np.var(gap[before]))
        donneurs += years * omega
    return Synthetic(effet / total, chemin, square**0.5, donneurs / total)


@dataclass(frozen=True)
class Placebos:
    """The same estimate on donors alone: ``effets`` (P,), ``chemins`` (P, D), ``ecarts`` (P,)."""

    effets: Array
    chemins: Array
    ecarts: Array


def roles_of(sample: Sample, weights: Array) -> list[Role]:
    import numpy as np

    rows = {g: np.flatnonzero(sample.cohorte == g) for g in sample.cohortes}
    return [Role(g, mine, weights[mine]) for g, mine in rows.items()]


def draw_roles(donors: Array, roles: list[Role], draws: int, rng: np.random.Generator) -> list[list[Role]]:
    """Who plays the treated in each placebo: each donor once for a single treated unit, else random sets of donors.

    The weight of each treated unit goes to whoever plays it. Raises NonEstimable when too few donors are left to play
    and to be compared with.
    """
    from orchestration.impact.inference import DONNEURS_MIN

    size = sum(len(role.rows) for role in roles)
    least = max(DONNEURS_MIN, 3 * size)
    if len(donors) < least:
        raise NonEstimable(f"{len(donors)} donneurs seulement : il en faut {least} pour une permutation")
    if size == 1:
        return [[Role(roles[0].cohorte, donors[i : i + 1], roles[0].poids)] for i in range(len(donors))]
    found = []
    for _ in range(draws):
        chosen, start = rng.choice(donors, size, replace=False), 0
        drawn = []
        for role in roles:
            drawn.append(Role(role.cohorte, chosen[start : start + len(role.rows)], role.poids))
            start += len(role.rows)
        found.append(drawn)
    return found


def placebos(
    y: Array, annees: Array, tirages: list[list[Role]], donors: Array, horizon: int, anticipation: int, delais: Array,
    *, slope: float = 0.0,
) -> Placebos:  # fmt: skip
    """Estimates of all ``tirages``; ``slope`` adds that much a year to those who play the treated, from the last year before."""
    import numpy as np

    results = []
    for roles in tirages:
        moved = y
        if slope:
            moved = y.copy()
            for role in roles:
                moved[role.rows] += slope * (annees - role.cohorte + 1 + anticipation)
        playing = np.concatenate([role.rows for role in roles])
        others = donors[~np.isin(donors, playing)]
        results.append(synthetic(moved, annees, roles, others, horizon, anticipation, delais))
    return Placebos(
        np.array([r.effet for r in results]),
        np.array([r.chemin for r in results]),
        np.array([r.ecart for r in results]),
    )
