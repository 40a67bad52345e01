"""From the numbers to the status, by rules written in one place (R-INF, R-SEL).

**non estimable**: a reason says why no number exists. **non crédible**: a number exists and one of the tests of its
identification fails; the test is said, the sign is not. **positif**, **négatif**: the effect is told from zero after the
correction for all effects looked for, in the favourable direction of the indicator or against it, and withstands what a
conclusion must withstand. **non concluant**: the rest, which is never « no effect ».
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from orchestration.impact.inference import benjamini_hochberg, holm
from orchestration.impact.interface import ALPHA, Estimation

PLACEBO_TAILLE_MAX = 0.07  # R-INF: random treatments are called effects in 5 % of cases, with two points of tolerance
SMD_AJUSTE_MAX = 0.25  # Imbens and Rubin 2015: beyond it the adjustment extrapolates
SMD_APPARIE_MAX = 0.10
SMD_BRUT_MAX = 1.0  # the two groups are hardly of the same kind
TEMOINS_EQUIVALENTS_MIN = 30


def _without_number(e: Estimation) -> list[tuple[str, str]]:
    """Tests that fail whatever the effect is: (name, French reason)."""
    d, found = e.diagnostics, []
    if d.tendance_p is None:
        found.append(
            (
                "tendance",
                d.tendance_motif or "rien ne dit que les deux groupes évoluaient de la même façon avant le début",
            )
        )
    elif d.tendance_p < ALPHA:
        found.append(("tendance", "traités et témoins n'évoluaient déjà pas de la même façon avant le début"))
    if d.placebo_date_p is not None and d.placebo_date_p < ALPHA:
        found.append(("placebo_date", "la même comparaison trouve un effet à une date où rien n'avait commencé"))
    if d.anticipation_p is not None and d.anticipation_p < ALPHA:
        found.append(("anticipation", "l'indicateur bougeait déjà à la veille du début"))
    if d.placebo_taille is not None and d.placebo_taille > PLACEBO_TAILLE_MAX:
        found.append(("placebo_taille", "l'épreuve prend trop souvent des traitements fictifs pour des effets"))
    unlike = unlike_controls(e)
    if unlike:
        found.append(("equilibre", f"les témoins ne ressemblent pas aux traités ({', '.join(unlike)})"))
    if d.temoins_equivalents is not None and d.temoins_equivalents < TEMOINS_EQUIVALENTS_MIN:
        found.append(("temoins", "trop peu de témoins comparables portent la comparaison"))
    if d.rupture_annee is not None:
        found.append(
            ("rupture", f"la série saute en {d.rupture_annee} chez les témoins, comme après un changement de méthode")
        )
    if any(c.bas is not None and c.bas > 0 for c in e.choix) and any(
        c.haut is not None and c.haut < 0 for c in e.choix
    ):
        found.append(
            ("choix", "des choix aussi raisonnables les uns que les autres mènent à des conclusions contraires")
        )
    return found


def unlike_controls(e: Estimation) -> list[str]:
    """What makes the controls unlike the treated. A synthetic control is judged on the path before instead.

    Covariates count after the adjustment, which must bring them together, or as they are when there is none. The level of
    the outcome counts both ways, as no adjustment is made on it, save for matched units: the others are no longer there.
    """
    if e.estimand.methode == "sdid_permutation":
        return []
    matched = e.estimand.methode == "did_apparie"
    limit = SMD_APPARIE_MAX if matched else SMD_AJUSTE_MAX
    found = []
    for row in e.diagnostics.equilibre:
        after = row.smd_brut if row.smd_ajuste is None else row.smd_ajuste
        if row.nature == "covariable":
            bad = abs(after) > (SMD_BRUT_MAX if row.smd_ajuste is None else limit)
        else:
            worst = abs(after) if matched else max(abs(row.smd_brut), abs(after))
            bad = row.nature == "niveau" and worst > SMD_BRUT_MAX
        if bad:
            found.append(row.variable)
    return found


def _of_a_conclusion(e: Estimation) -> list[tuple[str, str]]:
    """What an effect that is told from zero must still withstand."""
    assert e.effet is not None
    d, found = e.diagnostics, []
    line = d.tendance_lineaire
    if line is not None and line.bas is not None and line.haut is not None and line.bas <= 0 <= line.haut:
        found.append(("lissage", "l'effet ne résiste pas à une tendance déjà présente avant le début"))
    against = [c.choix for c in e.choix if c.effet * e.effet.effet <= 0]
    if against:
        found.append(("choix", f"la conclusion change avec d'autres choix raisonnables ({', '.join(against)})"))
    return found


def decide(e: Estimation) -> Estimation:
    """The estimation with its status, its reason and the tests that failed. ``q``, once known, counts as well as ``p``."""
    if e.effet is None or e.effet.p is None:
        return e
    failed = _without_number(e)
    told = e.effet.p < ALPHA and (e.q is None or e.q < ALPHA)
    if told:
        failed += _of_a_conclusion(e)
    if failed:
        motif = " ; ".join(dict.fromkeys(text for _, text in failed))
        return replace(e, statut="non crédible", motif=motif, echecs=tuple(dict.fromkeys(name for name, _ in failed)))
    if not told:
        alone = e.effet.p < ALPHA
        motif = "l'écart n'est plus distinct du hasard une fois corrigé du nombre d'effets cherchés" if alone else None
        return replace(e, statut="non concluant", motif=motif, echecs=())
    good = (e.effet.effet > 0) != (e.estimand.sens_favorable == "baisse")
    return replace(e, statut="positif" if good else "négatif", motif=None, echecs=())


def correct(found: Sequence[Estimation]) -> list[Estimation]:
    """All estimations of the warehouse, with Holm inside each intervention, q-values over all, and their final status.

    The family is every effect that could be claimed: those whose identification failed claim nothing.
    """
    fresh = [decide(replace(e, q=None, p_holm=None)) for e in found]
    claims = [
        i for i, e in enumerate(fresh) if e.effet is not None and e.effet.p is not None and not _without_number(e)
    ]
    p = {i: float(fresh[i].effet.p) for i in claims}  # type: ignore[union-attr, arg-type]
    q = dict(zip(claims, benjamini_hochberg([p[i] for i in claims]), strict=True))
    inside: dict[int, float] = {}
    for name in {fresh[i].estimand.intervention_id for i in claims}:
        mine = [i for i in claims if fresh[i].estimand.intervention_id == name]
        inside |= dict(zip(mine, holm([p[i] for i in mine]), strict=True))
    return [decide(replace(e, q=q[i], p_holm=inside[i])) if i in q else e for i, e in enumerate(fresh)]
