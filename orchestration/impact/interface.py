"""What goes into an estimate and what comes out of it: the panel, the declared estimand, the estimation.

Names of methods and papers are in the modules that use them. Effects are in the unit of the outcome as given (log points
when the plan says ``log``); no sign is turned here: whether an effect is good is decided once, in ``decision``.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import polars as pl

Statut = Literal["positif", "négatif", "non concluant", "non crédible", "non estimable"]
Ponderation = Literal["unite", "habitant"]

GRAPPES_MIN = 30  # R-INF: treated clusters, and control clusters, under which no asymptotic error exists
SOUS_GROUPE_MIN = 11  # R-INF, R-SEC: treated units under which no subgroup (cohort, event time) is shown
ALPHA = 0.05


class NonEstimable(Exception):
    """No estimate can be made from this panel; the message is the published French reason."""


class AsymptotiqueInterdite(RuntimeError):
    """An asymptotic error was asked for with too few clusters (R-INF): a fault of the code, never a published reason."""


@dataclass(frozen=True)
class Estimand:
    """One effect looked for, declared before any result: the row of ``estimations.yml`` that it comes from.

    ``horizon``: the headline averages the treated unit-years from 0 to ``horizon`` years after the start.
    ``anticipation``: years before the start in which an effect is already possible; they serve neither before nor after.
    ``covariables``: columns of the panel from before the treatment; texts are taken as categories.
    ``reference``: year at which the levels of the two groups are compared. ``ruptures``: first years of a new series.
    ``mesure``: how one unit of the effect is called in a sentence; a log outcome is always said in per cent.
    """

    estimation_id: str
    intervention_id: str
    indicateur_id: str
    methode: Literal["did_echelonne", "did_apparie", "sdid_permutation"]
    horizon: int
    fixe_le: dt.date
    rang: Literal["primaire", "secondaire"] = "primaire"
    unite: str = "commune"
    transformation: Literal["niveau", "log"] = "niveau"
    annees: tuple[int, ...] = ()
    reference: int | None = None
    anticipation: int = 0
    covariables: tuple[str, ...] = ()
    ponderation: Ponderation = "unite"
    sens_favorable: Literal["hausse", "baisse", "sans_objet"] = "hausse"
    ruptures: tuple[int, ...] = ()
    mesure: str = "unité"

    @classmethod
    def from_row(cls, row: Mapping[str, Any], **more: Any) -> Estimand:
        """From a row of ``int_estimation`` (lists written « a ; b »); keys that are not declared here are left out."""
        known = {**row, **more}
        values = {name: known[name] for name in cls.__dataclass_fields__ if known.get(name) is not None}
        for name, kind in (("annees", int), ("covariables", str), ("ruptures", int)):
            if isinstance(values.get(name), str):
                values[name] = tuple(kind(part) for part in values[name].split(" ; ") if part)
        return cls(**values)

    def declaration(self) -> str:
        """All that is declared, as one stable text: part of what decides whether an estimate must be made again."""
        return json.dumps(
            {name: getattr(self, name) for name in self.__dataclass_fields__}, default=str, sort_keys=True
        )


@dataclass(frozen=True)
class Panel:
    """Unit × year outcomes of one estimand, one row each, already transformed and with nothing filled in.

    ``frame`` (polars): ``unite`` text, ``annee`` integer (any regular index of periods), ``valeur`` number, ``cohorte`` year
    of the first treatment (0 or null: never). Optional: ``poids`` baseline population, ``grappe`` cluster (the unit itself
    when absent), ``anneau`` true for a neighbour of treated units, ``anneau_annee`` year since which it is one,
    ``autre_programme`` true for a treated unit where another programme began within two years of its own start (null
    everywhere: not known at this level), ``mixte`` true for a unit where one began during the panel or just before it, which
    is then no control, and the covariates, constant in each unit.
    """

    frame: pl.DataFrame

    @classmethod
    def of(cls, valeurs: pl.DataFrame, unites: pl.DataFrame) -> Panel:
        """From the outcomes (unite, annee, valeur) and one row per unit that holds the other columns."""
        return cls(
            valeurs.select("unite", "annee", "valeur").join(unites, on="unite", how="inner", maintain_order="left")
        )

    @cached_property
    def empreinte(self) -> str:
        """Hash of the content, whatever the order of its units, periods and columns."""
        frame = self.frame.select(sorted(self.frame.columns))
        digest = hashlib.sha256()
        order = [name for name in ("unite", "annee") if name in frame.columns] or frame.columns
        frame.sort(order).write_csv(_Sink(digest), include_header=True)
        return digest.hexdigest()


class _Sink:
    """A file that only hashes what is written to it."""

    def __init__(self, digest: Any) -> None:
        self.digest = digest

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        return len(data)


@dataclass(frozen=True)
class Intervalle:
    """An effect with its 95 % interval; ``erreur_type`` is null when the interval comes from permutations."""

    effet: float
    bas: float | None = None
    haut: float | None = None
    p: float | None = None
    erreur_type: float | None = None


@dataclass(frozen=True)
class Asymptotique:
    """A large-sample error. It cannot be made under 30 treated or 30 control clusters: there, only permutation (R-INF)."""

    erreur_type: float
    grappes_traitees: int
    grappes_temoins: int
    ddl: int

    def __post_init__(self) -> None:
        if min(self.grappes_traitees, self.grappes_temoins) < GRAPPES_MIN:
            raise AsymptotiqueInterdite(
                f"{self.grappes_traitees} grappes traitées et {self.grappes_temoins} témoins : sous {GRAPPES_MIN}, "
                "seule la permutation est permise (R-INF)"
            )

    def around(self, effet: float) -> Intervalle:
        """The interval and p-value of ``effet`` by Student's law with one degree of freedom less than clusters."""
        from scipy.stats import t

        if not (math.isfinite(self.erreur_type) and self.erreur_type > 0 and math.isfinite(effet)):
            raise NonEstimable("l'erreur type ne peut pas être calculée : l'indicateur ne varie pas assez entre unités")
        half = float(t.ppf(1 - ALPHA / 2, self.ddl)) * self.erreur_type
        p = float(2 * t.sf(abs(effet) / self.erreur_type, self.ddl))
        return Intervalle(effet, effet - half, effet + half, p, self.erreur_type)


@dataclass(frozen=True)
class Evenement:
    """Effect ``delai`` years after the start (negative: before), with a band that holds for all delays at once."""

    delai: int
    effet: float | None
    bas: float | None
    haut: float | None
    traitees: int
    est_reference: bool = False
    composition: Literal["toutes", "équilibrée"] = "toutes"


@dataclass(frozen=True)
class Equilibre:
    """Means of treated and controls before the treatment, and their differences in standard deviations (SMD)."""

    variable: str
    nature: Literal["covariable", "niveau", "évolution"]
    moyenne_traitees: float
    moyenne_temoins: float
    smd_brut: float
    smd_ajuste: float | None


@dataclass(frozen=True)
class Choix:
    """The same effect under another reasonable choice, declared in ``engine``."""

    choix: str
    effet: float
    bas: float | None = None
    haut: float | None = None


@dataclass(frozen=True)
class Diagnostics:
    """What is known for or against the estimate; null where a test cannot be made."""

    emd: float | None = None  # minimum detectable effect, 2.8 × the placebo error, computed before the estimate
    erreur_placebo: float | None = None
    placebo_taille: float | None = None  # share of random treatments among the controls that the test calls an effect
    tendance_p: float | None = None  # joint test of the years before
    tendance_puissance: float | None = None  # its power against a linear trend that would give the MDE by itself
    tendance_coefficients: int = 0
    tendance_motif: str | None = None  # why no test of the years before exists
    anticipation_p: float | None = None  # the last year before the start against the one before it
    placebo_date_p: float | None = None  # the same comparison at a date before any treatment
    tendance_lineaire: Intervalle | None = (
        None  # the effect once any linear trend of the years before is allowed (M = 0)
    )
    lissage: tuple[tuple[float, float, float], ...] = ()  # (M, low, high) of Rambachan-Roth smoothness
    lissage_m_rupture: float | None = None  # smallest M whose interval holds zero
    equilibre: tuple[Equilibre, ...] = ()
    temoins_equivalents: float | None = None  # effective number of controls behind the weights
    rupture_annee: int | None = None  # year at which the controls jump as series do when their method changes
    debordement_indice: float | None = None  # effect with the ring among the controls minus the effect without it
    debordement_p: float | None = None
    anneau_effet: Intervalle | None = None  # effect on the ring itself
    anneau_unites: int = 0
    chevauchement_part: float | None = None  # share of treated units where another programme began within two years


@dataclass(frozen=True)
class Estimation:
    """One estimate, or the reason why there is none. ``ligne`` is what may be published of it; nothing else is."""

    estimand: Estimand
    statut: Statut
    motif: str | None = None
    echecs: tuple[str, ...] = ()  # identification tests that failed, by name
    effet: Intervalle | None = None  # under the declared weighting
    ponderations: Mapping[str, Intervalle] = field(default_factory=dict)
    imputation: Intervalle | None = None
    inference: Literal["asymptotique", "permutation"] | None = None
    estimateur: str | None = None
    tirages: int = 0
    graine: int = 0
    q: float | None = None  # Benjamini-Hochberg over the warehouse
    p_holm: float | None = None  # Holm inside the intervention
    evenements: tuple[Evenement, ...] = ()
    choix: tuple[Choix, ...] = ()
    diagnostics: Diagnostics = field(default_factory=Diagnostics)
    cohortes: tuple[Mapping[str, Any], ...] = ()
    unites_traitees: int = 0
    unites_temoins: int = 0
    grappes_traitees: int = 0
    grappes_temoins: int = 0
    periodes: int = 0
    delai_moyen: float | None = (
        None  # real mean delay behind the headline: on a panel with gaps, not that of its points
    )
    part_retenue: float | None = None  # share of the treated units of the panel that enter the estimate
    ecartees: Mapping[str, int] = field(default_factory=dict)  # treated units left out, by French reason
    notes: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    empreinte_panel: str | None = None
    empreinte_code: str | None = None
    empreinte: str | None = None

    def __post_init__(self) -> None:
        """R-INF again, on whatever is about to leave: no error that few clusters cannot bear, by any path."""
        shown = [self.effet, self.imputation, self.diagnostics.tendance_lineaire, *self.ponderations.values()]
        errors = [one for one in shown if one is not None and one.erreur_type is not None]
        if (errors or self.inference == "asymptotique") and min(
            self.grappes_traitees, self.grappes_temoins
        ) < GRAPPES_MIN:
            raise AsymptotiqueInterdite("une erreur asymptotique accompagne moins de 30 grappes (R-INF)")
        if self.statut in ("positif", "négatif", "non concluant") and self.effet is None:
            raise ValueError("un statut qui conclut demande un effet")

    @property
    def montre(self) -> bool:
        """Whether numbers that carry a sign may be shown."""
        return self.statut in ("positif", "négatif", "non concluant")

    def ligne(self) -> dict[str, Any]:
        """Row of ``mart_impact``. When the estimate is not credible nothing that tells its sign is in it."""
        e, d = self.estimand, self.diagnostics
        shown = self.montre

        def bounds(prefix: str, one: Intervalle | None) -> dict[str, Any]:
            seen = one if shown else None
            return {
                prefix: seen and seen.effet, f"{prefix}_bas": seen and seen.bas, f"{prefix}_haut": seen and seen.haut,
            }  # fmt: skip

        spread = [c.effet for c in self.choix] if shown else []
        return {
            "estimation_id": e.estimation_id, "intervention_id": e.intervention_id, "indicateur_id": e.indicateur_id,
            "rang": e.rang, "unite": e.unite, "methode": e.methode, "transformation": e.transformation,
            "ponderation": e.ponderation, "horizon": e.horizon, "fixe_le": e.fixe_le,
            "statut": self.statut, "motif": self.motif, "echecs": " ; ".join(self.echecs) or None,
            **bounds("effet", self.effet),
            "erreur_type": self.effet.erreur_type if shown and self.effet else None,
            "p": self.effet.p if shown and self.effet else None, "q": self.q if shown else None,
            "p_holm": self.p_holm if shown else None,
            **bounds("effet_unite", self.ponderations.get("unite")),
            **bounds("effet_habitant", self.ponderations.get("habitant")),
            **bounds("effet_imputation", self.imputation),
            **bounds("effet_tendance", d.tendance_lineaire),
            "choix_bas": min(spread, default=None), "choix_haut": max(spread, default=None), "choix_nombre": len(self.choix),
            "emd": d.emd, "erreur_placebo": d.erreur_placebo, "placebo_taille": d.placebo_taille,
            "tendance_p": d.tendance_p, "tendance_puissance": d.tendance_puissance, "anticipation_p": d.anticipation_p,
            "placebo_date_p": d.placebo_date_p, "lissage_m_rupture": d.lissage_m_rupture if shown else None,
            "temoins_equivalents": d.temoins_equivalents, "rupture_annee": d.rupture_annee,
            "debordement_indice": d.debordement_indice if shown else None, "debordement_p": d.debordement_p,
            "anneau_unites": d.anneau_unites, "chevauchement_part": d.chevauchement_part,
            "estimateur": self.estimateur, "inference": self.inference, "tirages": self.tirages, "graine": self.graine,
            "unites_traitees": self.unites_traitees, "unites_temoins": self.unites_temoins,
            "grappes_traitees": self.grappes_traitees, "grappes_temoins": self.grappes_temoins,
            "periodes": self.periodes, "delai_moyen": self.delai_moyen, "part_retenue": self.part_retenue,
            "ecartees": json.dumps(dict(self.ecartees), ensure_ascii=False, sort_keys=True),
            "notes": " ; ".join(self.notes) or None, "versions": json.dumps(dict(self.versions), sort_keys=True),
            "empreinte_panel": self.empreinte_panel, "empreinte_code": self.empreinte_code, "empreinte": self.empreinte,
        }  # fmt: skip

    def lignes_evenement(self) -> list[dict[str, Any]]:
        """Rows of ``mart_impact_evenement``: the years before are the evidence and stay; those after follow the status."""
        rows = []
        for one in self.evenements:
            shown = self.montre or (self.statut == "non crédible" and one.delai < 0)
            rows.append(
                {
                    "estimation_id": self.estimand.estimation_id, "composition": one.composition, "delai": one.delai,
                    "effet": one.effet if shown else None, "bas": one.bas if shown else None,
                    "haut": one.haut if shown else None, "traitees": one.traitees, "est_reference": one.est_reference,
                }
            )  # fmt: skip
        return rows

    def lignes_equilibre(self) -> list[dict[str, Any]]:
        """Rows of ``mart_equilibre``."""
        names = Equilibre.__dataclass_fields__
        return [
            {"estimation_id": self.estimand.estimation_id, **{name: getattr(row, name) for name in names}}
            for row in self.diagnostics.equilibre
        ]

    def lignes_choix(self) -> list[dict[str, Any]]:
        """The range over reasonable choices, one row each; empty when no sign may be shown."""
        names = Choix.__dataclass_fields__
        return [
            {"estimation_id": self.estimand.estimation_id, **{name: getattr(row, name) for name in names}}
            for row in (self.choix if self.montre else ())
        ]
