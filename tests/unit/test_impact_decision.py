"""From numbers to a status: the rules one by one, then worlds in which a fault was planted that its diagnostic must catch."""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import replace
from typing import Any

import polars as pl
import pytest

from orchestration.impact.decision import correct, decide
from orchestration.impact.engine import MODULES, code_fingerprint, estimate, fingerprint
from orchestration.impact.interface import (
    Choix,
    Diagnostics,
    Equilibre,
    Estimand,
    Estimation,
    Evenement,
    Intervalle,
    Panel,
)
from tests.panels import World, declare, departments, national

PLAN = declare()
SURE = Intervalle(0.5, 0.4, 0.6, 0.001, erreur_type=0.05)
VAGUE = Intervalle(0.05, -0.05, 0.15, 0.3, erreur_type=0.05)
SOUND = Diagnostics(
    emd=0.14, erreur_placebo=0.05, placebo_taille=0.05, tendance_p=0.6, tendance_puissance=0.8, anticipation_p=0.5,
    placebo_date_p=0.4, tendance_lineaire=Intervalle(0.5, 0.2, 0.8), temoins_equivalents=400.0,
    equilibre=(Equilibre("x", "covariable", 1.0, 0.0, 0.9, 0.05), Equilibre("y", "niveau", 1.0, 0.0, 0.4, 0.3)),
)  # fmt: skip


def made(effet: Intervalle = SURE, diagnostics: Diagnostics = SOUND, plan: Estimand = PLAN, **more: Any) -> Estimation:
    values: dict[str, Any] = {
        "effet": effet, "diagnostics": diagnostics, "grappes_traitees": 90, "grappes_temoins": 96, "inference": "asymptotique",
        "choix": (Choix("principal", effet.effet, effet.bas, effet.haut),),
    }  # fmt: skip
    return decide(Estimation(plan, "non concluant", **{**values, **more}))


# --- rules ---------------------------------------------------------------------------------------------------------


def test_a_sound_effect_is_said_in_the_favourable_direction() -> None:
    assert made().statut == "positif"
    assert made(plan=replace(PLAN, sens_favorable="baisse")).statut == "négatif"
    down = Intervalle(-0.5, -0.6, -0.4, 0.001, erreur_type=0.05)
    against = replace(SOUND, tendance_lineaire=Intervalle(-0.5, -0.8, -0.2))
    assert made(down, against).statut == "négatif"
    assert made(down, against, replace(PLAN, sens_favorable="baisse")).statut == "positif"


def test_an_effect_not_told_from_zero_is_inconclusive_with_its_least_effect() -> None:
    found = made(VAGUE)
    assert (found.statut, found.motif, found.ligne()["emd"]) == ("non concluant", None, 0.14)


FAULTS: list[tuple[str, dict[str, Any]]] = [
    ("tendance", {"tendance_p": 0.04}),
    ("tendance", {"tendance_p": None}),
    ("placebo_date", {"placebo_date_p": 0.03}),
    ("anticipation", {"anticipation_p": 0.01}),
    ("placebo_taille", {"placebo_taille": 0.08}),
    ("equilibre", {"equilibre": (Equilibre("x", "covariable", 1.0, 0.0, 0.9, 0.26),)}),
    ("equilibre", {"equilibre": (Equilibre("x", "covariable", 1.0, 0.0, 1.1, None),)}),
    ("equilibre", {"equilibre": (Equilibre("y", "niveau", 1.0, 0.0, -1.1, 0.2),)}),
    ("equilibre", {"equilibre": (Equilibre("y", "niveau", 1.0, 0.0, 0.2, -1.1),)}),
    ("temoins", {"temoins_equivalents": 29.0}),
    ("rupture", {"rupture_annee": 2019}),
]


@pytest.mark.parametrize("effet", [SURE, VAGUE])
@pytest.mark.parametrize(("name", "change"), FAULTS)
def test_each_failed_test_of_the_identification_is_said_whatever_the_effect(name: str, change: dict[str, Any], effet: Intervalle) -> None:
    found = made(effet, replace(SOUND, **change))
    assert (found.statut, found.echecs) == ("non crédible", (name,))
    assert found.motif


@pytest.mark.parametrize(
    "change",
    [
        {"tendance_p": 0.05}, {"placebo_date_p": None}, {"anticipation_p": None}, {"placebo_taille": 0.07}, {"placebo_taille": None},
        {"equilibre": (Equilibre("x", "covariable", 1.0, 0.0, 3.0, -0.25), Equilibre("d", "évolution", 1.0, 0.0, 2.0, 2.0))},
        {"temoins_equivalents": 30.0}, {"temoins_equivalents": None},
    ],
)  # fmt: skip
def test_what_stays_within_the_limits_is_kept(change: dict[str, Any]) -> None:
    assert made(diagnostics=replace(SOUND, **change)).statut == "positif"


def test_matched_units_must_be_closer() -> None:
    plan = declare("did_apparie")
    near = replace(SOUND, equilibre=(Equilibre("x", "covariable", 1.0, 0.0, 0.9, 0.11),))
    assert made(diagnostics=near, plan=plan).echecs == ("equilibre",)
    assert made(diagnostics=near).statut == "positif"
    left_out = replace(SOUND, equilibre=(Equilibre("y", "niveau", 1.0, 0.0, 1.5, 0.2),))
    assert made(diagnostics=left_out, plan=plan).statut == "positif"
    assert made(diagnostics=left_out).echecs == ("equilibre",)


def test_a_conclusion_must_withstand_a_trend_and_other_choices() -> None:
    weak = replace(SOUND, tendance_lineaire=Intervalle(0.5, -0.01, 1.0))
    assert made(diagnostics=weak).echecs == ("lissage",)
    assert made(VAGUE, weak).statut == "non concluant"
    other = (Choix("principal", 0.5, 0.4, 0.6), Choix("imputation", -0.01, -0.05, 0.03))
    found = made(choix=other)
    assert found.echecs == ("choix",)
    assert found.motif == "la conclusion change avec d'autres choix raisonnables (imputation)"
    assert made(VAGUE, choix=other).statut == "non concluant"
    opposed = (Choix("principal", 0.05, -0.05, 0.15), Choix("a", 0.2, 0.1, 0.3), Choix("b", -0.2, -0.3, -0.1))
    assert made(VAGUE, choix=opposed).echecs == ("choix",)


def test_what_is_not_credible_shows_no_sign() -> None:
    """Nothing that may be published of it differs when all its signs are turned."""

    def rows(sign: int) -> list[Any]:
        def turned(one: Intervalle) -> Intervalle:
            low, high = sorted([sign * (one.bas or 0.0), sign * (one.haut or 0.0)])
            return replace(one, effet=sign * one.effet, bas=low, haut=high)

        one = made(
            turned(SURE), replace(SOUND, tendance_p=0.01, debordement_indice=sign * 0.1, tendance_lineaire=turned(SURE)),
            ponderations={"unite": turned(SURE), "habitant": turned(VAGUE)}, imputation=turned(SURE),
            choix=(Choix("principal", sign * 0.5, sign * 0.5 - 0.1, sign * 0.5 + 0.1),),
            evenements=(Evenement(-2, 0.1, 0.0, 0.2, 90), Evenement(0, sign * 0.5, sign * 0.5 - 0.1, sign * 0.5 + 0.1, 90)),
        )  # fmt: skip
        assert one.statut == "non crédible"
        return [one.ligne(), one.lignes_evenement(), one.lignes_choix(), one.motif]

    assert rows(1) == rows(-1)
    assert rows(1)[1][0]["effet"] == 0.1  # the years before are the evidence
    assert rows(1)[1][1]["effet"] is None


def test_an_effect_is_corrected_for_all_those_looked_for() -> None:
    """One p of 0.03 among twenty is no discovery; the q-values count what could be claimed and nothing else."""
    lucky = made(Intervalle(0.11, 0.01, 0.21, 0.03, erreur_type=0.05), replace(SOUND, tendance_lineaire=Intervalle(0.11, 0.01, 0.2)))
    assert lucky.statut == "positif"
    others = [made(replace(VAGUE, p=0.05 + 0.045 * i), plan=replace(PLAN, intervention_id=f"i{i}")) for i in range(19)]
    broken = made(replace(SURE, p=1e-9), replace(SOUND, tendance_p=0.001))
    none = Estimation(PLAN, "non estimable", "aucun témoin")
    found = correct([lucky, *others, broken, none])
    assert found[0].q == pytest.approx(min(0.03 * 20, 0.05 * 20 / 2))
    assert (found[0].statut, found[0].p_holm) == ("non concluant", 0.03)
    assert found[0].motif == "l'écart n'est plus distinct du hasard une fois corrigé du nombre d'effets cherchés"
    assert (found[-2].statut, found[-2].q) == ("non crédible", None)
    assert (found[-1].statut, found[-1].q, found[-1].motif) == ("non estimable", None, "aucun témoin")
    assert correct(found) == found
    real = correct([made(), *others])
    assert (real[0].statut, real[0].q) == ("positif", pytest.approx(0.02))


def test_holm_is_taken_inside_an_intervention() -> None:
    one, two = made(replace(SURE, p=0.01)), made(replace(SURE, p=0.02))
    alone = made(replace(SURE, p=0.03), plan=replace(PLAN, intervention_id="autre"))
    assert [e.p_holm for e in correct([one, two, alone])] == [0.02, 0.02, 0.03]


def test_a_conclusion_without_effect_cannot_be_written() -> None:
    with pytest.raises(ValueError, match="demande un effet"):
        Estimation(PLAN, "positif")


# --- planted faults ------------------------------------------------------------------------------------------------


def world(**more: Any) -> World:
    return national(12, **{"units": 6_000, "treated": 900, **more})


def spoilt(base: World, change: Any) -> Panel:
    return Panel(base.panel.frame.with_columns(valeur=change))


def run(panel: Panel, **plan: Any) -> Estimation:
    return estimate(panel, declare(**{"reference": 2017, **plan}), seed=3)


def test_a_sound_world_gives_its_true_effect_and_a_null_one_none() -> None:
    base = world()
    found = run(base.panel)
    assert found.statut == "positif", found.motif
    assert found.effet is not None
    assert found.effet.bas is not None
    assert found.effet.haut is not None
    assert found.effet.bas < base.truth(3) < found.effet.haut
    assert found.diagnostics.emd == pytest.approx(2.8 * found.effet.erreur_type, rel=0.35)
    nothing = run(world(effect=0.0).panel)
    assert nothing.statut == "non concluant", nothing.motif
    assert nothing.effet is not None
    assert nothing.effet.effet != 0


def test_a_planted_anticipation_is_caught_and_its_declaration_mends_it() -> None:
    base = world()
    eve = (pl.col("cohorte") > 0) & (pl.col("annee") == pl.col("cohorte") - 1)
    panel = spoilt(base, pl.col("valeur") + pl.when(eve).then(0.3).otherwise(0.0))
    found = run(panel)
    assert (found.statut, "anticipation" in found.echecs) == ("non crédible", True)
    mended = run(panel, anticipation=1)
    assert mended.statut == "positif", mended.motif
    assert mended.effet is not None
    assert mended.effet.bas is not None
    assert mended.effet.haut is not None
    assert mended.effet.bas < base.truth(3) < mended.effet.haut


def test_a_planted_trend_is_caught() -> None:
    drift = pl.when(pl.col("cohorte") > 0).then(0.08 * (pl.col("annee") - 2015)).otherwise(0.0)
    found = run(spoilt(world(effect=0.0), pl.col("valeur") + drift))
    assert (found.statut, "tendance" in found.echecs) == ("non crédible", True)


@pytest.mark.parametrize("planted", [0.0, 0.4])
def test_a_planted_spillover_is_caught_and_kept_out(planted: float) -> None:
    """Neighbours of treated units gain too: the effect is found without them, and the index says what they would hide."""
    base = world()
    ring = (pl.col("cohorte") == 0) & (pl.col("unite").cast(pl.Int64) % 4 == 0)
    frame = base.panel.frame.with_columns(anneau=ring, anneau_annee=pl.when(ring).then(2021))
    moved = frame.with_columns(valeur=pl.col("valeur") + pl.when(ring & (pl.col("annee") >= 2021)).then(planted).otherwise(0.0))
    found = run(Panel(moved))
    assert found.statut == "positif", found.motif
    assert found.effet is not None
    assert found.effet.bas is not None
    assert found.effet.haut is not None
    assert found.effet.bas < base.truth(3) < found.effet.haut
    d = found.diagnostics
    assert d.debordement_p is not None
    assert d.debordement_indice is not None
    assert (d.debordement_p < 0.001) == bool(planted)
    assert (d.debordement_indice < -0.03) == bool(planted)
    assert d.anneau_effet is not None
    assert d.anneau_effet.effet == pytest.approx(planted, abs=0.1)
    assert "voisins parmi les témoins" in [c.choix for c in found.choix]


def test_controls_of_another_programme_do_not_hide_the_effect() -> None:
    """What another programme did to a control would pass for what happens without any (R-SUP)."""
    base = world()
    other = (pl.col("cohorte") == 0) & (pl.col("unite").cast(pl.Int64) % 5 == 0)
    moved = pl.col("valeur") + pl.when(other & (pl.col("annee") >= 2019)).then(1.5).otherwise(0.0)
    frame = base.panel.frame.with_columns(valeur=moved)
    found, blind = run(Panel(frame.with_columns(mixte=other))), run(Panel(frame))
    assert found.statut == "positif", found.motif
    assert found.effet is not None
    assert found.effet.bas is not None
    assert found.effet.haut is not None
    assert found.effet.bas < base.truth(3) < found.effet.haut
    assert blind.effet is not None
    assert blind.effet.haut is not None
    assert blind.effet.haut < base.truth(3)
    choices = {c.choix: c.effet for c in found.choix}
    assert choices["témoins d'un autre programme admis"] == pytest.approx(blind.effet.effet, abs=0.02)
    controls = base.panel.frame.filter(other)["unite"].n_unique()
    assert f"{controls} témoins laissés de côté : un autre programme y a commencé" in found.notes
    assert found.unites_temoins == blind.unites_temoins - controls


@pytest.mark.parametrize(("methode", "treated"), [("did_apparie", 900), ("sdid_permutation", 5), ("did_echelonne", 5)])
def test_every_route_leaves_them_out_and_shows_what_they_would_change(methode: str, treated: int) -> None:
    if methode == "did_apparie":
        frame, plan = world(selection=0.5).panel.frame, {"covariables": ("x",)}
    else:
        frame, plan = departments(3, treated, effect=0.5).panel.frame, {"horizon": 4}
    other = (pl.col("cohorte") == 0) & (pl.col("unite").cast(pl.Int64) % 5 == 0)
    moved = pl.col("valeur") + pl.when(other & (pl.col("annee") >= 2019)).then(40.0).otherwise(0.0)
    found = run(Panel(frame.with_columns(valeur=moved, mixte=other)), methode=methode, **plan)
    kept = run(Panel(frame.filter(~other)), methode=methode, **plan)
    assert found.effet is not None
    assert kept.effet is not None
    assert found.effet.effet == pytest.approx(kept.effet.effet, rel=1e-6)
    choices = {c.choix: c.effet for c in found.choix}
    assert choices["témoins d'un autre programme admis"] < found.effet.effet - 1


def test_an_overlap_that_is_not_known_is_not_none() -> None:
    """No list of programmes at the level of the unit: no share, rather than a share of zero."""
    frame = departments(3, 5, effect=0.5).panel.frame
    unknown = run(Panel(frame.with_columns(autre_programme=pl.lit(None, pl.Boolean))), horizon=4)
    assert unknown.diagnostics.chevauchement_part is None
    assert "les autres programmes ne sont pas suivis à ce niveau" in unknown.notes
    assert run(Panel(frame), horizon=4).diagnostics.chevauchement_part == 0


def test_a_planted_break_of_the_series_is_caught() -> None:
    found = run(spoilt(world(), pl.col("valeur") + pl.when(pl.col("annee") >= 2019).then(3.0).otherwise(0.0)))
    assert (found.statut, found.echecs, found.diagnostics.rupture_annee) == ("non crédible", ("rupture",), 2019)
    assert run(world().panel).diagnostics.rupture_annee is None


def test_groups_of_another_kind_are_not_compared() -> None:
    """Towns of Action cœur de ville have no like among the others: level apart by more than one standard deviation."""
    found = run(spoilt(world(), pl.col("valeur") + pl.when(pl.col("cohorte") > 0).then(2.0).otherwise(0.0)))
    assert (found.statut, found.echecs) == ("non crédible", ("equilibre",))
    assert found.motif == "les témoins ne ressemblent pas aux traités (indicateur en 2017)"


def test_selection_on_a_declared_covariate_is_mended_by_it() -> None:
    base = world(selection=0.7, trend=0.08)
    with_x = run(base.panel, covariables=("x",))
    assert with_x.effet is not None
    assert abs(with_x.effet.effet - base.truth(3)) < 3 * (with_x.effet.erreur_type or 0.0)
    row = next(r for r in with_x.diagnostics.equilibre if r.variable == "x")
    assert row.smd_brut > 0.5
    assert row.smd_ajuste is not None
    assert abs(row.smd_ajuste) < 0.1
    assert with_x.estimateur == "Callaway-Sant'Anna doublement robuste"
    matched = run(base.panel, methode="did_apparie", covariables=("x",))
    assert matched.effet is not None
    assert abs(matched.effet.effet - base.truth(3)) < 3 * (matched.effet.erreur_type or 0.0)
    assert all(abs(r.smd_ajuste or 9.0) < 0.1 for r in matched.diagnostics.equilibre if r.nature == "covariable")
    for one, said in [(with_x, True), (matched, False)]:  # the matched estimate is that choice already
        assert ("régression sur les témoins jamais traités" in [c.choix for c in one.choix]) == said


def test_both_weightings_and_other_programmes_are_told_apart() -> None:
    base = world(effect=0.0)
    big = pl.col("poids") > 1000
    grows = (pl.col("cohorte") > 0) & (pl.col("annee") >= pl.col("cohorte"))
    frame = base.panel.frame.with_columns(
        valeur=pl.col("valeur") + pl.when(grows & big).then(1.0).otherwise(0.0), autre_programme=big & (pl.col("cohorte") > 0)
    )
    found = run(Panel(frame))
    unite, habitant = found.ponderations["unite"].effet, found.ponderations["habitant"].effet
    assert habitant > unite + 0.2
    choices = {c.choix: c.effet for c in found.choix}
    assert abs(choices["sans les unités d'un autre programme"]) < 0.1
    assert choices["effet pour l'habitant moyen"] == habitant
    part = found.diagnostics.chevauchement_part
    assert part is not None
    assert 0 < part < 1
    assert f"effet avec les programmes qui l'accompagnent : {100 * part:.0f} % des unités traitées en ont un autre commencé à moins de deux ans" in found.notes
    weighted = run(Panel(frame), ponderation="habitant")
    assert weighted.effet is not None
    assert weighted.effet.effet == pytest.approx(habitant)


# --- reproducibility -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("methode", ["did_echelonne", "did_apparie", "sdid_permutation"])
def test_the_same_seed_gives_the_same_numbers_whatever_the_order_of_rows(methode: str) -> None:
    if methode == "sdid_permutation":
        base, plan = departments(3, effect=0.5, units=40), declare(methode, horizon=4)
    else:
        base, plan = national(4, units=2_000, treated=400), declare(methode, covariables=("x",))
    first = estimate(base.panel, plan, seed=7, draws=199)
    again = estimate(Panel(base.panel.frame.sample(fraction=1.0, shuffle=True, seed=1)), plan, seed=7, draws=199)
    assert first == again
    assert first.effet is not None
    other = estimate(base.panel, plan, seed=8, draws=199)
    assert other.effet is not None
    assert other.effet.effet == first.effet.effet
    assert other.empreinte != first.empreinte


def test_five_treated_permutations_follow_the_seed() -> None:
    base, plan = departments(3, treated=5, effect=0.5), declare(horizon=4)
    assert estimate(base.panel, plan, seed=7, draws=199) == estimate(base.panel, plan, seed=7, draws=199)


def test_the_fingerprint_changes_with_whatever_decides_the_numbers() -> None:
    base, plan = departments(3), declare("sdid_permutation")
    first = fingerprint(base.panel, plan, 1, 99)
    assert first == fingerprint(base.panel, plan, 1, 99)
    touched = Panel(base.panel.frame.with_columns(valeur=pl.col("valeur") + pl.when(pl.int_range(pl.len()) == 7).then(1e-9).otherwise(0.0)))
    later = replace(plan, fixe_le=dt.date(2026, 1, 2))
    others = [fingerprint(touched, plan, 1, 99), fingerprint(base.panel, later, 1, 99), fingerprint(base.panel, plan, 2, 99), fingerprint(base.panel, plan, 1, 100)]
    assert len({first, *others}) == 5
    assert len(code_fingerprint()) == 64
    assert "engine" in MODULES


def test_a_row_says_with_what_it_was_made() -> None:
    found = estimate(departments(3, units=40).panel, declare("sdid_permutation", horizon=4), seed=7)
    row = found.ligne()
    assert row["graine"] == 7
    assert row["tirages"] == 39
    assert '"diff-diff": "3.13.0"' in row["versions"]
    assert all(len(row[name]) == 64 for name in ("empreinte", "empreinte_panel", "empreinte_code"))
    assert math.isclose(row["emd"], 2.8 * row["erreur_placebo"])


def test_the_curve_keeps_the_same_cohorts_when_they_differ() -> None:
    """Late cohorts are not seen four years after: the balanced curve leaves them out of every delay."""
    found = estimate(national(5, units=3_000, treated=600).panel, declare(horizon=5), seed=1, draws=99)
    both = {name: {e.delai: e.traitees for e in found.evenements if e.composition == name} for name in ("toutes", "équilibrée")}
    assert both["toutes"][0] == 600
    assert both["toutes"][5] == 210
    assert both["équilibrée"][0] == both["équilibrée"][5] == 210


def test_the_unit_of_the_outcome_changes_nothing() -> None:
    """Populations or euros: every number follows the scale, iterations that stop at an absolute gap included."""
    base, plan = national(6, units=2_000, treated=500, selection=0.5), declare(covariables=("x",))
    small = estimate(base.panel, plan, seed=1, draws=199)
    large = estimate(spoilt(base, 1e6 * pl.col("valeur") + 1e7), plan, seed=1, draws=199)
    assert small.statut == large.statut
    assert small.imputation is not None
    for name, value in small.ligne().items():
        if name.startswith(("effet", "erreur", "choix_b", "choix_h", "emd", "lissage")) and value is not None:
            assert large.ligne()[name] == pytest.approx(1e6 * value, rel=1e-6), name
    assert large.diagnostics.tendance_p == pytest.approx(small.diagnostics.tendance_p, abs=1e-9)


def test_the_range_leaves_out_the_years_of_the_epidemic() -> None:
    base = national(7, units=2_000, treated=500)
    shock = (pl.col("cohorte") > 0) & pl.col("annee").is_in([2021])
    found = run(spoilt(base, pl.col("valeur") + pl.when(shock).then(3.0).otherwise(0.0)))
    choices = {c.choix: c.effet for c in found.choix}
    assert choices["principal"] > base.truth(3) + 0.5
    assert choices["sans les années 2020 et 2021"] == pytest.approx(base.truth(3), abs=0.3)


def test_the_balance_is_said_in_the_unit_of_each_covariate() -> None:
    base = national(8, units=2_000, treated=500, selection=0.5)
    frame = base.panel.frame.with_columns(prix=1000 + 50 * pl.col("x"))
    found = estimate(Panel(frame), declare(covariables=("prix",)), seed=1, draws=99)
    row = found.lignes_equilibre()[0]
    units = frame.unique("unite")
    means = [float(units.filter((pl.col("cohorte") > 0) == side)["prix"].mean()) for side in (True, False)]
    assert [row["moyenne_traitees"], row["moyenne_temoins"]] == pytest.approx(means)
