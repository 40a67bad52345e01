"""Group-time effects as linear contrasts of the outcome, in numpy: what diagnostics and permutations are made of.

Callaway and Sant'Anna (2021) with never-treated controls and outcome regression (Sant'Anna and Zhao 2020): each contrast
is a mean over cohorts of « change of the treated minus the change that the controls of same covariates had ». Estimates
and influence functions equal those of ``callaway`` and of diff-diff (tests); here all contrasts come out of one pass, with
their covariance, and thousands of reassignments of the treatment out of one sparse product.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orchestration.impact.interface import ALPHA, NonEstimable

if TYPE_CHECKING:
    import numpy as np

    from orchestration.impact.preparation import Sample

    Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Contrast:
    """``coef`` (G, T): what each cohort's outcome is multiplied by, period by period. ``cells`` (G,): how many group-time
    cells that sums, so that the estimate is their mean over treated units (0: the cohort has no part in it)."""

    nom: str
    coef: Array
    cells: Array


@dataclass(frozen=True)
class Linear:
    """``effet`` (K,), in the order of ``noms``; ``psi`` (clusters, K): influence functions, summed in each cluster."""

    noms: tuple[str, ...]
    effet: Array
    psi: Array

    @property
    def vcov(self) -> Array:
        clusters = len(self.psi)
        return self.psi.T @ self.psi * clusters / (clusters - 1)

    def at(self, nom: str) -> tuple[float, float]:
        """Estimate and standard error of one contrast."""
        k = self.noms.index(nom)
        return float(self.effet[k]), float(self.vcov[k, k] ** 0.5)


# --- contrasts ---------------------------------------------------------------------------------------------------


def _build(sample: Sample, nom: str, rows: dict[int, dict[int, float]], cells: dict[int, int]) -> Contrast | None:
    import numpy as np

    cohortes = sample.cohortes
    coef, number = np.zeros((len(cohortes), len(sample.annees))), np.zeros(len(cohortes))
    for rank, g in enumerate(cohortes):
        for place, value in rows.get(g, {}).items():
            coef[rank, place] += value
        number[rank] = cells.get(g, 0)
    return Contrast(nom, coef, number) if number.any() else None


def headline(sample: Sample, horizon: int, anticipation: int) -> Contrast:
    """Mean effect over treated unit-years from 0 to ``horizon`` years after the start."""
    rows, cells = {}, {}
    for g in sample.cohortes:
        base, window = sample.cell(g, horizon, anticipation)
        rows[g] = {**{i: 1.0 for i in window}, base: -float(len(window))}
        cells[g] = len(window)
    built = _build(sample, "effet", rows, cells)
    assert built is not None
    return built


def events(sample: Sample, anticipation: int) -> list[Contrast]:
    """One contrast per delay seen by some cohort, against its base year (universal base), the base itself left out."""
    cohortes = sample.cohortes
    bases = {g: sample.cell(g, 0, anticipation)[0] for g in cohortes}
    delays = sorted({int(t) - g for g in cohortes for i, t in enumerate(sample.annees) if i != bases[g]})
    found = []
    for e in delays:
        rows, cells = {}, {}
        for g in cohortes:
            place = [i for i, t in enumerate(sample.annees) if t - g == e and i != bases[g]]
            if place:
                rows[g], cells[g] = {place[0]: 1.0, bases[g]: -1.0}, 1
        built = _build(sample, str(e), rows, cells)
        if built is not None:
            found.append(built)
    return found


def last_year_before(sample: Sample, anticipation: int) -> Contrast | None:
    """The base year against the one before it: what moves just before the start betrays an anticipation."""
    rows, cells = {}, {}
    for g in sample.cohortes:
        base = sample.cell(g, 0, anticipation)[0]
        if base >= 1:
            rows[g], cells[g] = {base: 1.0, base - 1: -1.0}, 1
    return _build(sample, "anticipation", rows, cells)


def placebo_date(sample: Sample, horizon: int, anticipation: int) -> Contrast | None:
    """The headline at a date before any treatment: the later half of the untouched years against the year before them."""
    rows, cells = {}, {}
    for g in sample.cohortes:
        base = sample.cell(g, 0, anticipation)[0]
        length = min((base + 1) // 2, horizon + 1)
        if base >= 1 and length:
            window = range(base + 1 - length, base + 1)
            rows[g] = {**{i: 1.0 for i in window}, window[0] - 1: -float(length)}
            cells[g] = length
    return _build(sample, "placebo_date", rows, cells)


def before_start(sample: Sample, horizon: int, anticipation: int) -> tuple[Contrast | None, Contrast | None]:
    """(the eve, the dated placebo); with two years before the start they are one comparison, kept as the latter."""
    before, dated = last_year_before(sample, anticipation), placebo_date(sample, horizon, anticipation)
    if before is not None and dated is not None and (before.coef == dated.coef).all():
        before = None
    return before, dated


# --- estimate ----------------------------------------------------------------------------------------------------


def weights_of(sample: Sample, ponderation: str) -> Array:
    """Ones, or baseline populations; of mean one."""
    import numpy as np

    if ponderation == "habitant" and sample.poids is not None:
        return sample.poids / sample.poids.mean()
    return np.ones(len(sample.unites))


def estimate_linear(
    sample: Sample, contrasts: list[Contrast], *, weights: Array | None = None, controls: Array | None = None,
    adjust: bool = True,
) -> Linear:  # fmt: skip
    """Estimates and influence functions of ``contrasts``; ``controls`` (N,) defaults to those of the main run.

    ``adjust`` false leaves the covariates out. The influence of estimated cohort sizes is included, as in R ``did``.
    """
    import numpy as np

    w = np.ones(len(sample.unites)) if weights is None else weights
    free = sample.temoin if controls is None else controls
    design = np.column_stack([np.ones(len(w)), sample.x]) if adjust else np.ones((len(w), 1))
    cohortes, cells = sample.cohortes, np.array([c.cells for c in contrasts])
    masses = np.array([w[sample.cohorte == g].sum() for g in cohortes])
    total = cells @ masses
    coef = np.stack([c.coef for c in contrasts])
    xc, wc = design[free], w[free]
    inverse = np.linalg.inv((xc * wc[:, None]).T @ xc)
    theta, parts = np.zeros((len(cohortes), len(contrasts))), []
    psi = np.zeros((len(w), len(contrasts)))
    for rank, g in enumerate(cohortes):
        mine = sample.cohorte == g
        beta = inverse @ (xc * wc[:, None]).T @ (sample.y[free] @ coef[:, rank].T)
        gap = sample.y[mine] @ coef[:, rank].T - design[mine] @ beta
        theta[rank] = w[mine] @ gap / masses[rank]
        lever = design[free] @ (inverse @ (w[mine] @ design[mine])) / masses[rank]
        left = sample.y[free] @ coef[:, rank].T - xc @ beta
        psi[free] -= (lever * wc)[:, None] * left * (masses[rank] / total)
        parts.append((mine, gap))
    effet = masses @ theta / total
    for rank, (mine, gap) in enumerate(parts):
        size = theta[rank] - effet * cells[:, rank]
        psi[mine] += w[mine][:, None] * (gap - theta[rank] + size) / total
    used = sample.traitee | free
    codes = np.unique(sample.grappe[used], return_inverse=True)[1]
    sums = np.zeros((codes.max() + 1, len(contrasts)))
    np.add.at(sums, codes, psi[used])
    return Linear(tuple(c.nom for c in contrasts), effet, sums)


# --- random treatments -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Assignments:
    """P random treatments: for each cohort, a sparse (P, items) matrix of ones where the item plays it.

    An item is a unit, or a whole cluster when the treatment never divides one; ``item`` (N,) is the one of each unit of
    the treated and controls, -1 elsewhere. ``niveau`` says which.
    """

    item: Array
    cohortes: tuple[int, ...]
    matrices: list[Any]
    niveau: str

    @property
    def number(self) -> int:
        return int(self.matrices[0].shape[0])


def whole_clusters(sample: Sample) -> bool:
    """Whether each cluster is treated all at once or not at all: the cluster is then what was treated."""
    import numpy as np

    used = sample.traitee | sample.temoin
    pairs = np.unique(np.column_stack([sample.grappe[used], sample.cohorte[used]]), axis=0)
    return len(np.unique(pairs[:, 0])) == len(pairs)


def reassign(sample: Sample, draws: int, rng: np.random.Generator) -> Assignments:
    """``draws`` random treatments like the real one, among treated and controls.

    Clusters treated as a whole change places with clusters. Otherwise units change places within their cluster, where
    the shocks of the cluster fall on all alike. Raises NonEstimable when neither gives enough different treatments.
    """
    import numpy as np
    from scipy.sparse import csr_matrix

    used = np.flatnonzero(sample.traitee | sample.temoin)
    clusters, code = np.unique(sample.grappe[used], return_inverse=True)
    if whole_clusters(sample):
        niveau, item_of = "grappe", code
        labels = np.zeros(len(clusters), int)
        labels[code] = sample.cohorte[used]
        orders = rng.random((draws, len(labels))).argsort(axis=1)
        possible = _arrangements(labels)
    else:
        niveau, item_of = "unité", np.arange(len(used))
        by_cluster = np.argsort(code, kind="stable")
        labels = sample.cohorte[used][by_cluster]
        sorted_code = code[by_cluster]
        possible = float(
            np.prod([_arrangements(labels[sorted_code == c]) for c in np.unique(code[sample.traitee[used]])])
        )
        orders = np.empty((draws, len(used)), dtype=np.int64)
        step = max(1, 4_000_000 // len(used))
        for first in range(0, draws, step):
            keys = sorted_code + rng.random((min(step, draws - first), len(used)))
            orders[first : first + step] = by_cluster[keys.argsort(axis=1)]
    if possible * ALPHA < 1:
        raise NonEstimable(
            f"trop peu de grappes pour une permutation : {possible:.0f} affectations possibles, il en faut {1 / ALPHA:.0f}"
        )
    item = np.full(len(sample.unites), -1)
    item[used] = item_of
    matrices = []
    for g in sample.cohortes:
        chosen = orders[:, labels == g]
        rows = np.repeat(np.arange(draws), chosen.shape[1])
        size = (draws, int(item_of.max()) + 1)
        matrices.append(csr_matrix((np.ones(chosen.size), (rows, chosen.ravel())), shape=size))
    return Assignments(item, tuple(sample.cohortes), matrices, niveau)


def _arrangements(labels: Array) -> float:
    """How many different ways there are to hand out ``labels``."""
    import numpy as np
    from scipy.special import gammaln

    counts = np.unique(labels, return_counts=True)[1]
    return float(np.exp(min(gammaln(len(labels) + 1) - gammaln(counts + 1).sum(), 700)))


def permuted(
    sample: Sample, contrasts: list[Contrast], assigned: Assignments, *, weights: Array | None = None, adjust: bool = True,
    outcome: Array | None = None,
) -> Array:  # fmt: skip
    """The estimates of ``contrasts`` (P, K) under each random treatment, the regression on the controls made again.

    ``outcome`` (N, T) replaces the panel's own: the effects of a shift of the treated are read this way.
    """
    import numpy as np

    used = assigned.item >= 0
    item = assigned.item[used]
    w = (np.ones(len(sample.unites)) if weights is None else weights)[used]
    y = (sample.y if outcome is None else outcome)[used]
    design = np.column_stack([np.ones(len(w)), sample.x[used]]) if adjust else np.ones((len(w), 1))
    k, width = design.shape[1], len(contrasts)
    number = int(item.max()) + 1
    coef = np.stack([c.coef for c in contrasts])
    cells = np.array([c.cells for c in contrasts])
    masses = np.array([w[sample.cohorte[used] == g].sum() for g in assigned.cohortes])
    share = masses[:, None] / (cells @ masses)[None, :]

    def per_item(values: Array) -> Array:
        return np.stack([np.bincount(item, weights=column, minlength=number) for column in values.T], axis=1)

    wx = w[:, None] * design
    gram = per_item((wx[:, :, None] * design[:, None, :]).reshape(len(w), k * k))
    ones = [m @ np.ones(number) for m in assigned.matrices]
    treated_gram = sum(m @ gram for m in assigned.matrices)
    controls_gram = (gram.sum(axis=0) - treated_gram).reshape(assigned.number, k, k)
    result = np.zeros((assigned.number, width))
    for rank in range(len(assigned.cohortes)):
        column = y @ coef[:, rank].T
        moment = per_item((wx[:, :, None] * column[:, None, :]).reshape(len(w), k * width))
        controls = moment.sum(axis=0) - sum(m @ moment for m in assigned.matrices)
        beta = np.linalg.solve(controls_gram, controls.reshape(assigned.number, k, width))
        mine = (assigned.matrices[rank] @ moment).reshape(assigned.number, k, width)
        means = (assigned.matrices[rank] @ gram).reshape(assigned.number, k, k)[:, 0, :]
        gap = mine[:, 0, :] - np.einsum("pk,pkw->pw", means, beta)
        result += gap / means[:, :1] * share[rank]
        assert ones[rank].min() > 0
    return result


def random_controls(
    sample: Sample,
    contrast: Contrast,
    weights: Array,
    odds: Array,
    draws: int,
    rng: np.random.Generator,
    equivalents: float | None = None,
) -> tuple[Array, Array]:
    """Random treatments of the controls alone, with the estimator and the clustered error of ``estimate_linear``.

    Nothing of what happened to the treated is looked at, so that the error is known before the estimate. As many controls
    as there are treated units (at most half of them) play their part, whole clusters when the treatment divides none,
    drawn by their ``odds`` (N,) of being treated, that they may be like them. Returns (estimates, t statistics), (P,),
    the estimates brought back to the real number of treated and to the ``equivalents`` controls that the adjustment leaves
    (all of them by default); not a number where a draw lost a whole cohort.
    """
    import numpy as np

    free = np.flatnonzero(sample.temoin)
    w, design = weights[free], np.column_stack([np.ones(len(free)), sample.x[free]])
    cluster = np.unique(sample.grappe[free], return_inverse=True)[1]
    cohortes = sample.cohortes
    masses = np.array([weights[sample.cohorte == g].sum() for g in cohortes])
    share = masses / (contrast.cells @ masses)
    change = sample.y[free] @ contrast.coef.T  # (controls, G)
    wx = w[:, None] * design
    change = change - design @ np.linalg.solve(wx.T @ design, wx.T @ change)
    number = int(cluster.max()) + 1
    clustered = whole_clusters(sample)
    item = cluster if clustered else np.arange(len(free))
    items = int(item.max()) + 1
    size = np.bincount(item, weights=w, minlength=items)
    sums = np.stack([np.bincount(item, weights=w * column, minlength=items) for column in change.T], axis=1)
    home = np.arange(number) if clustered else cluster
    if clustered:
        real = np.array([len(set(sample.grappe[sample.cohorte == g])) for g in cohortes])
        chance = np.ones(items)
    else:
        real = np.array([(sample.cohorte == g).sum() for g in cohortes])
        chance = odds[free]
    wanted = np.maximum(1, np.floor(real * min(1.0, items / 2 / real.sum()))).astype(int)
    pattern = np.repeat(np.arange(len(cohortes)), wanted)
    if 2 * len(pattern) > items or number < 3:
        raise NonEstimable("trop peu de témoins pour mesurer d'avance l'erreur à attendre")
    estimates, statistics = np.empty(draws), np.empty(draws)
    whole = np.stack([np.bincount(home, weights=column, minlength=number) for column in sums.T], axis=1)
    whole_size = np.bincount(home, weights=size, minlength=number)
    step = max(1, 8_000_000 // (number * len(cohortes) + items))
    for first in range(0, draws, step):
        block = min(step, draws - first)
        row, chosen, plays = _draw(block, pattern, chance, rng)
        flat = row * len(cohortes) + plays
        count = np.bincount(flat, weights=size[chosen], minlength=block * len(cohortes)).reshape(block, -1)
        own = sums[chosen, plays]
        mean = _over(np.bincount(flat, weights=own, minlength=count.size).reshape(count.shape), count)
        taken = np.stack(
            [np.bincount(row, weights=sums[chosen, g], minlength=block) for g in range(len(cohortes))], axis=1
        )
        left = (size.sum() - count.sum(axis=1))[:, None]
        control = (sums.sum(axis=0) - taken) / left
        estimates[first : first + block] = ((mean - control) * share).sum(axis=1)
        # Influence of each cluster: its treated items around their cohort's mean, its controls around theirs.
        place = row * number + home[chosen]
        treated = (own - size[chosen] * mean[row, plays]) * _over(share[plays], count[row, plays])
        psi = np.bincount(place, weights=treated, minlength=block * number).reshape(block, number)
        gone_size = np.bincount(place, weights=size[chosen], minlength=psi.size).reshape(psi.shape)
        for g in range(len(cohortes)):
            gone = np.bincount(place, weights=sums[chosen, g], minlength=psi.size).reshape(psi.shape)
            psi -= share[g] / left * (whole[:, g] - gone - (whole_size - gone_size) * control[:, g, None])
        error = np.sqrt((psi**2).sum(axis=1) * number / (number - 1))
        statistics[first : first + block] = _over(estimates[first : first + block], error)
    real_treated, real_controls = weights[sample.traitee].sum(), weights[sample.temoin].sum()
    if equivalents is not None:
        real_controls = min(real_controls, float(equivalents) * weights[sample.temoin].mean())
    played = size.mean() * wanted.sum()
    ratio = (1 / real_treated + 1 / real_controls) / (1 / played + 1 / (size.sum() - played))
    if np.isfinite(estimates).sum() < draws / 2:
        raise NonEstimable("trop peu de témoins pour mesurer d'avance l'erreur à attendre")
    return estimates * float(np.sqrt(ratio)), statistics


def _over(values: Array, by: Array) -> Array:
    """Quotient, not a number where ``by`` is null."""
    import numpy as np

    return np.divide(values, by, out=np.full(np.shape(by), np.nan), where=by != 0)


def _draw(block: int, pattern: Array, chance: Array, rng: np.random.Generator) -> tuple[Array, Array, Array]:
    """(draw, item, cohort) of the items that play the treated in each draw, none twice in a draw.

    Few items: exact draws without replacement (Gumbel keys). Many: with replacement, the few doubles left out.
    """
    import numpy as np

    items, wanted = len(chance), len(pattern)
    plays = np.tile(pattern, block)
    row = np.repeat(np.arange(block), wanted)
    if items <= 2000 or wanted > items / 10:
        keys = np.log(np.maximum(chance, 1e-300)) + rng.gumbel(size=(block, items))
        chosen = np.argpartition(-keys, wanted - 1, axis=1)[:, :wanted]
        chosen = rng.permuted(chosen, axis=1).ravel()
        return row, chosen, plays
    edges = np.cumsum(chance / chance.sum())
    chosen = np.minimum(np.searchsorted(edges, rng.random(block * wanted)), items - 1)
    _, first = np.unique(row * items + chosen, return_index=True)
    return row[first], chosen[first], plays[first]
