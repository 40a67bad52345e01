"""From a long panel to balanced matrices, or to the French reason why no estimate can be made from it.

Units that cannot serve are set aside and counted by reason; when fewer than half of the treated units are left, the
estimate would speak of others than those declared and is refused (R-GEO 5 sets the same half for merged territories).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from orchestration.impact.interface import Estimand, NonEstimable, Panel

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

    Array = np.ndarray[Any, Any]

PART_RETENUE_MIN = 0.5
NIVEAU_MIN = 2  # units of each side that a category must hold; under it the category compares nobody


@dataclass(frozen=True)
class Sample:
    """N units × T periods, balanced. ``cohorte`` is 0 for units that nothing treats inside the panel.

    ``y`` (N, T); ``annees`` (T,) increasing; ``debut`` (N,) the true start, ``cohorte`` the one that the panel can see (see
    ``_visible``); ``x`` (N, k) standardised covariates without intercept, named by ``noms``; ``poids`` (N,) baseline
    population or null; ``moyennes``, ``ecarts`` (k,) of the covariates before they were standardised; ``grappe`` (N,) codes; ``anneau``, ``autre`` and ``mixte`` (N,)
    flags (see ``Panel``); ``anneau_cohorte`` (N,) as ``cohorte``; ``autre_connu`` whether ``autre`` was given at all.
    """

    unites: Array
    annees: Array
    y: Array
    cohorte: Array
    debut: Array
    poids: Array | None
    grappe: Array
    x: Array
    noms: tuple[str, ...]
    moyennes: Array
    ecarts: Array
    anneau: Array
    anneau_cohorte: Array
    autre: Array
    mixte: Array
    traitees_panel: int
    ecartees: Counter[str] = field(default_factory=Counter)
    notes: tuple[str, ...] = ()
    autre_connu: bool = True

    @property
    def traitee(self) -> Array:
        return self.cohorte > 0

    @property
    def temoin(self) -> Array:
        """Controls of the main run: never treated in the panel, out of the ring (R-DEB), without other programme (R-SUP)."""
        return (self.cohorte == 0) & ~self.anneau & ~self.mixte

    @property
    def voisin(self) -> Array:
        """Controls that the ring alone keeps out of the main run."""
        return (self.cohorte == 0) & self.anneau & ~self.mixte

    @property
    def mele(self) -> Array:
        """Controls that another programme alone keeps out of the main run."""
        return (self.cohorte == 0) & ~self.anneau & self.mixte

    @cached_property
    def cohortes(self) -> list[int]:
        import numpy as np

        return [int(g) for g in np.unique(self.cohorte) if g > 0]

    def keep(self, mask: Array, motif: str | None = None) -> Sample:
        """The units of ``mask``; treated units that leave are counted under ``motif``."""
        lost = int((self.traitee & ~mask).sum())
        ecartees = self.ecartees + Counter({motif: lost}) if motif and lost else self.ecartees
        per_unit = ("unites", "y", "cohorte", "debut", "grappe", "x", "anneau", "anneau_cohorte", "autre", "mixte")
        values = {name: getattr(self, name)[mask] for name in per_unit}
        return replace(self, **values, poids=None if self.poids is None else self.poids[mask], ecartees=ecartees)

    def informative(self) -> Sample:
        """Covariates standardised on these units, those that are constant or repeat others left out and said."""
        import numpy as np

        if not self.noms:
            return self
        names, kept, means, spreads, notes = [], [], [], [], list(self.notes)
        for name, column in zip(self.noms, (self.x * self.ecarts + self.moyennes).T, strict=True):
            mean, spread = float(column.mean()), float(column.std())
            trial = [*kept, (column - mean) / spread] if spread > 1e-12 * (1 + abs(mean)) else None
            if trial and np.linalg.matrix_rank(np.column_stack([np.ones(len(column)), *trial])) == len(trial) + 1:
                names.append(name)
                means.append(mean)
                spreads.append(spread)
                kept = trial
            else:
                notes.append(f"covariable sans information propre, laissée de côté : {name}")
        x = np.column_stack(kept) if kept else np.zeros((len(self.unites), 0))
        return replace(
            self, x=x, noms=tuple(names), moyennes=np.array(means), ecarts=np.array(spreads), notes=tuple(notes)
        )

    def groups(self) -> tuple[int, int]:
        """Clusters that hold a treated unit, and those that hold a control."""
        return len(set(self.grappe[self.traitee])), len(set(self.grappe[self.temoin]))

    def cell(self, g: int, horizon: int, anticipation: int) -> tuple[int, list[int]]:
        """Positions of the base year of cohort ``g`` (the last that nothing can have touched) and of its headline years."""
        before = [i for i, t in enumerate(self.annees) if t + anticipation < g]
        window = [i for i, t in enumerate(self.annees) if g <= t <= g + horizon]
        return (before[-1] if before else -1), window


def prepare(panel: Panel, estimand: Estimand) -> Sample:
    """Raises NonEstimable with the reason that stops the estimate, the first that applies.

    The frame is never modified. Units enter in the order of their code, so that equal panels give equal numbers whatever
    the order of their rows.
    """
    import numpy as np
    import polars as pl

    frame = _checked(panel.frame, estimand)
    units = frame.unique("unite", keep="first", maintain_order=True).sort("unite")
    treated = units.filter(pl.col("cohorte") > 0)
    if treated.is_empty():
        raise NonEstimable("aucune unité traitée dans le panel")
    if treated.height == units.height:
        raise NonEstimable("aucun témoin : toutes les unités du panel sont traitées")
    frame, annees, notes = _periods(frame, estimand)
    kept = units.join(frame.group_by("unite").len().filter(pl.col("len") == len(annees)), on="unite", how="semi")
    kept = kept.sort("unite")
    started = (pl.col("cohorte") > 0) & (pl.col("cohorte") - estimand.anticipation <= int(annees[-1]))
    inside = treated.filter(started).height
    if not inside:
        raise NonEstimable("aucune unité traitée ne peut être comparée : le traitement commence après le panel")
    if inside < treated.height:
        notes.append(f"{treated.height - inside} unités traitées après le panel y sont des témoins")
    lost = inside - kept.filter(started).height
    ecartees = Counter({"l'indicateur manque à certaines périodes": lost} if lost else {})
    if kept.is_empty():
        raise NonEstimable("aucune unité n'a de valeur à toutes les périodes du panel")
    y = frame.join(kept.select("unite"), on="unite", how="semi").sort("unite", "annee")["valeur"].to_numpy()
    y = y.reshape(kept.height, len(annees)).astype(float)
    debut = kept["cohorte"].to_numpy().astype(int)
    poids = kept["poids"].to_numpy().astype(float)
    missing = ~(np.isfinite(poids) & (poids > 0))
    if missing.any():
        if estimand.ponderation == "habitant":
            raise NonEstimable("la population de référence manque : pas d'effet pour l'habitant moyen")
        notes.append("population de référence incomplète : pas d'effet pour l'habitant moyen")
    anneau = kept["anneau"].to_numpy() & (debut == 0)
    since = np.where(anneau, kept["anneau_annee"].fill_null(int(treated["cohorte"].min())).to_numpy(), 0)
    sample = Sample(
        unites=kept["unite"].to_numpy(), annees=annees, y=y, cohorte=_visible(debut, annees, estimand.anticipation),
        debut=debut, poids=None if missing.any() else poids, grappe=_codes(kept["grappe"].to_numpy()),
        x=np.zeros((kept.height, 0)), noms=(), moyennes=np.zeros(0), ecarts=np.zeros(0), anneau=anneau,
        anneau_cohorte=_visible(since, annees, estimand.anticipation), autre=kept["autre_programme"].fill_null(False).to_numpy(),
        mixte=kept["mixte"].to_numpy(), autre_connu=kept["autre_programme"].null_count() < kept.height, traitees_panel=inside, ecartees=ecartees, notes=tuple(notes),
    )  # fmt: skip
    sample = enough(_treatable(sample, estimand))
    return enough(_covariates(sample, kept, estimand))


def enough(sample: Sample) -> Sample:
    """Refuses a sample without treated unit or control, or that lost more than half of its treated units."""
    main = max(sample.ecartees, key=lambda motif: sample.ecartees[motif], default=None)
    left = int(sample.traitee.sum())
    if left == 0:
        raise NonEstimable(f"aucune unité traitée ne peut être comparée : {main}")
    if left < PART_RETENUE_MIN * sample.traitees_panel:
        raise NonEstimable(
            f"moins de la moitié des unités traitées peuvent être comparées ({left} sur {sample.traitees_panel}) : {main}"
        )
    if sample.mele.any() and not sample.temoin.any():
        raise NonEstimable("aucun témoin : un autre programme a commencé chez tous ceux qui ont une valeur à toutes les périodes")
    if not sample.temoin.any():
        raise NonEstimable("aucun témoin hors de l'anneau des unités traitées n'a de valeur à toutes les périodes")
    if float(sample.y.std()) == 0 or float((sample.y - sample.y.mean(axis=0)).std()) == 0:
        raise NonEstimable("l'indicateur est constant : il ne distingue aucune unité")
    if float(sample.y[sample.temoin].std(axis=1).max()) == 0:
        raise NonEstimable("l'indicateur ne varie dans le temps chez aucun témoin")
    return sample


def _checked(frame: pl.DataFrame, estimand: Estimand) -> pl.DataFrame:
    """The rows with a value, all optional columns present; refuses what no estimate could mend."""
    import polars as pl

    absent = [name for name in ("unite", "annee", "valeur", "cohorte") if name not in frame.columns]
    if absent:
        raise NonEstimable(f"le panel n'a pas de colonne {', '.join(absent)}")
    absent = [n for n in estimand.covariables if n not in frame.columns or frame[n].null_count() == frame.height]
    if absent:
        raise NonEstimable(f"covariable absente du panel : {', '.join(absent)}")
    double = frame.height - frame.select("unite", "annee").unique().height
    if double:
        raise NonEstimable(f"{double} lignes en double : une unité a plusieurs valeurs pour une même période")
    defaults = {
        "poids": pl.lit(None, pl.Float64), "grappe": pl.col("unite").cast(pl.String), "anneau": pl.lit(False),
        "anneau_annee": pl.lit(None, pl.Int64), "autre_programme": pl.lit(False), "mixte": pl.lit(False),
    }  # fmt: skip
    frame = frame.with_columns(**{name: value for name, value in defaults.items() if name not in frame.columns})
    frame = frame.with_columns(
        pl.col("unite").cast(pl.String), pl.col("annee").cast(pl.Int64), pl.col("valeur").cast(pl.Float64),
        pl.col("cohorte").cast(pl.Int64).fill_null(0), pl.col("poids").cast(pl.Float64),
        pl.col("grappe").cast(pl.String).fill_null(pl.col("unite").cast(pl.String)), pl.col("anneau").fill_null(False),
        pl.col("anneau_annee").cast(pl.Int64), pl.col("autre_programme").cast(pl.Boolean), pl.col("mixte").fill_null(False),
    )  # fmt: skip
    frame = frame.filter(pl.col("valeur").is_finite())
    if estimand.annees:
        frame = frame.filter(pl.col("annee").is_in(estimand.annees))
    if frame.is_empty():
        raise NonEstimable("l'indicateur n'a aucune valeur sur les périodes du panel")
    fixed = ["cohorte", "poids", "grappe", "anneau", "anneau_annee", "autre_programme", "mixte", *estimand.covariables]
    units = frame["unite"].n_unique()
    if frame.select("unite", *fixed).unique().height > units:
        moving = [name for name in fixed if frame.select("unite", name).unique().height > units]
        raise NonEstimable(f"doit être constant dans chaque unité, et ne l'est pas : {', '.join(moving)}")
    return frame


def _periods(frame: pl.DataFrame, estimand: Estimand) -> tuple[pl.DataFrame, Array, list[str]]:
    """The periods that most treated units have, and the rows on them; a period that few have would empty the panel."""
    import polars as pl

    treated = frame.filter(pl.col("cohorte") > 0)
    wanted = PART_RETENUE_MIN * treated["unite"].n_unique()
    seen = treated.group_by("annee").len().filter(pl.col("len") >= wanted)["annee"]
    annees = seen.sort().to_numpy()
    if len(annees) < 2:
        raise NonEstimable("une seule période : il faut au moins une valeur avant et une après le début")
    for first in estimand.ruptures:
        if annees[0] < first <= annees[-1]:
            raise NonEstimable(f"rupture de série en {first} : les valeurs d'avant et d'après ne se comparent pas")
    dropped = sorted(set(frame["annee"].unique()) - set(annees.tolist()))
    notes = [f"périodes trop peu couvertes, laissées de côté : {', '.join(map(str, dropped))}"] if dropped else []
    return frame.filter(pl.col("annee").is_in(annees.tolist())), annees, notes


def _visible(debut: Array, annees: Array, anticipation: int) -> Array:
    """The cohorts that the panel can tell apart: a start between two periods becomes the next period.

    On a yearly panel nothing changes. On census points (2012, 2016, 2021), starts of 2017 to 2021 form one cohort, seen
    in 2021. A start after the last period (and its anticipation) is no treatment inside the panel: 0, a control, and the
    best one (R-SEL). A period of the anticipation window keeps the true start, so that it stays on no side.
    """
    import numpy as np

    place = np.minimum(np.searchsorted(annees, debut), len(annees) - 1)
    nearest = annees[place]
    inside = np.searchsorted(annees, debut) > np.searchsorted(annees, debut - anticipation)
    seen = np.where(inside | (debut > annees[-1]), debut, nearest)
    return np.where((debut <= 0) | (debut - anticipation > annees[-1]), 0, seen).astype(int)


def _treatable(sample: Sample, estimand: Estimand) -> Sample:
    """Sets aside the cohorts without a year before, or without a year after."""
    import numpy as np

    early, late = [], []
    for g in sample.cohortes:
        base, window = sample.cell(g, estimand.horizon, estimand.anticipation)
        if base < 0:
            early.append(g)
        elif not window:
            late.append(g)
    sample = sample.keep(~np.isin(sample.cohorte, early), "le traitement a commencé avant le panel")
    return sample.keep(~np.isin(sample.cohorte, late), "aucune période après le début dans l'horizon déclaré")


def _covariates(sample: Sample, units: pl.DataFrame, estimand: Estimand) -> Sample:
    """Adds the covariates, standardised; sets aside the units that lack one or whose category compares nobody."""
    import numpy as np
    import polars as pl

    if not estimand.covariables:
        return sample
    table = units.select("unite", *estimand.covariables).join(
        pl.DataFrame({"unite": sample.unites.tolist()}), on="unite", how="right", maintain_order="right"
    )
    holes = table.select(
        pl.any_horizontal(
            pl.col(name).is_null() | (~pl.col(name).is_finite() if table[name].dtype.is_float() else False)
            for name in estimand.covariables
        )
    ).to_series()
    whole = ~holes.to_numpy()
    sample, table = sample.keep(whole, "une covariable manque"), table.filter(~holes)
    columns: dict[str, Array] = {}
    for name in estimand.covariables:
        values = table[name]
        if values.dtype.is_numeric():
            columns[name] = values.to_numpy().astype(float)
            continue
        levels = values.cast(pl.String).to_numpy()
        found = sorted(set(levels))
        both = [
            v for v in found if min((levels == v)[side].sum() for side in (sample.traitee, sample.temoin)) >= NIVEAU_MIN
        ]
        common = np.isin(levels, both)
        sample, table = sample.keep(common, f"aucun témoin de même {name}"), table.filter(pl.Series(common))
        columns = {other: column[common] for other, column in columns.items()}
        if not sample.traitee.any():
            return sample
        for level in sorted(both, key=lambda v: -int((levels == v).sum()))[1:]:
            columns[f"{name} {level}"] = (levels[common] == level).astype(float)
    if not columns:
        return sample
    return replace(
        sample, x=np.column_stack(list(columns.values())), noms=tuple(columns), moyennes=np.zeros(len(columns)),
        ecarts=np.ones(len(columns)),
    ).informative()  # fmt: skip


def _codes(labels: Array) -> Array:
    import numpy as np

    return np.unique(labels.astype(str), return_inverse=True)[1]
