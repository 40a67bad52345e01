"""What an estimate says, in one French sentence written from its numbers by rule, with no word that they do not bear."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestration.impact.interface import Estimation, Intervalle

FINE = "\u202f"
UNITES = {"commune": "communes", "epci": "intercommunalités", "zone_emploi": "zones d'emploi", "departement": "départements"}


def number(value: float, decimals: int) -> str:
    """A figure as French prose writes it; one that rounds to nothing has no sign."""
    text = f"{value:,.{decimals}f}".replace(",", FINE).replace(".", ",")
    return text.lstrip("-") if not text.strip("-0,") else text.replace("-", "−")


def amount(effect: float, transformation: str, mesure: str, *, sign: bool = False) -> str:
    """An effect in words: per cent for a log outcome (exact, not the log point), else the unit of the indicator.

    ``sign`` writes the plus of a positive effect. A rate moves by points, not by per cent.
    """
    if transformation == "log":
        value, unit = 100 * math.expm1(effect), "%"
    else:
        value, unit = effect, "point" if mesure == "%" else mesure
    decimals = 0 if abs(value) >= 100 else 1 if abs(value) >= 1 else 2
    text = number(value, decimals)
    if unit == "point" and abs(value) >= 2:
        unit = "points"
    plus = f"+{FINE}" if sign and value > 0 and text.strip("0,") else ""
    return f"{plus}{text} {unit}"


def interval(one: Intervalle, transformation: str, mesure: str) -> str:
    assert one.bas is not None and one.haut is not None
    return f"intervalle à 95 % : de {amount(one.bas, transformation, mesure, sign=True)} à {amount(one.haut, transformation, mesure, sign=True)}"


def sentence(one: Estimation) -> str:
    """The result of a plan: its status first, then what bears it. A result that is not credible tells no sign."""
    plan, detectable = one.estimand, one.diagnostics.emd
    if one.statut in ("non estimable", "non crédible"):
        return f"{one.statut} : {one.motif}"
    assert one.effet is not None
    shown = "" if one.effet.bas is None else f" ({interval(one.effet, plan.transformation, plan.mesure)})"
    if one.statut == "non concluant":
        least = (
            f"l'effet minimal détectable est de {amount(detectable, plan.transformation, plan.mesure)}"
            if detectable is not None
            else "l'intervalle contient zéro"
        )
        return f"non concluant : {least}{shown}"
    years = "l'année du début" if plan.horizon == 0 else f"les {plan.horizon + 1} premières années"
    units = f"{number(one.unites_traitees, 0)} {UNITES.get(plan.unite, plan.unite)}"
    return f"{one.statut} : {amount(one.effet.effet, plan.transformation, plan.mesure, sign=True)} en moyenne sur {years}, pour {units}{shown}"
