"""Panels from which nothing can be estimated: each gives « non estimable » and its reason, never a crash nor a number."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from ingestion.paths import DamagedFile, Home
from orchestration.impact.engine import estimate
from orchestration.impact.interface import Estimand, Estimation, Panel
from orchestration.impact.preparation import prepare
from orchestration.impact.warehouse import Register
from tests.panels import build, declare, departments, national

METHODES = ("did_echelonne", "did_apparie", "sdid_permutation")
GOOD = national(1, units=900, treated=200, years=8).panel.frame


def cohort_everywhere(frame: pl.DataFrame, value: Any) -> pl.DataFrame:
    return frame.with_columns(cohorte=pl.when(pl.col("cohorte") > 0).then(value).otherwise(0))


# (what is wrong, how the panel is spoilt, what is declared besides, reason expected)
BAD: list[tuple[str, Callable[[pl.DataFrame], pl.DataFrame], dict[str, Any], str]] = [
    ("une période", lambda f: f.filter(pl.col("annee") == 2016), {}, "une seule période : il faut au moins une valeur avant et une après le début"),
    ("aucun témoin", lambda f: f.filter(pl.col("cohorte") > 0), {}, "aucun témoin : toutes les unités du panel sont traitées"),
    ("tous traités", lambda f: f.with_columns(cohorte=2019), {}, "aucun témoin : toutes les unités du panel sont traitées"),
    ("aucune traitée", lambda f: f.with_columns(cohorte=0), {}, "aucune unité traitée dans le panel"),
    ("aucune traitée, vide", lambda f: f.with_columns(cohorte=pl.lit(None, pl.Int64)), {}, "aucune unité traitée dans le panel"),
    ("avant le panel", lambda f: cohort_everywhere(f, 2010), {}, "aucune unité traitée ne peut être comparée : le traitement a commencé avant le panel"),
    ("à la première année", lambda f: cohort_everywhere(f, 2015), {}, "aucune unité traitée ne peut être comparée : le traitement a commencé avant le panel"),
    ("après le panel", lambda f: cohort_everywhere(f, 2040), {}, "aucune unité traitée ne peut être comparée : le traitement commence après le panel"),
    ("covariable absente", lambda f: f, {"covariables": ("log_revenu",)}, "covariable absente du panel : log_revenu"),
    ("covariable vide", lambda f: f.with_columns(x=pl.lit(None, pl.Float64)), {"covariables": ("x",)}, "covariable absente du panel : x"),
    (
        "covariable chez les témoins seuls",
        lambda f: f.with_columns(x=pl.when(pl.col("cohorte") == 0).then(pl.col("x"))),
        {"covariables": ("x",)},
        "aucune unité traitée ne peut être comparée : une covariable manque",
    ),
    (
        "catégories disjointes",
        lambda f: f.with_columns(aav=pl.when(pl.col("cohorte") == 0).then(pl.lit("11")).otherwise(pl.lit("20"))),
        {"covariables": ("aav",)},
        "aucune unité traitée ne peut être comparée : aucun témoin de même aav",
    ),
    ("constant", lambda f: f.with_columns(valeur=3.0), {}, "l'indicateur est constant : il ne distingue aucune unité"),
    ("constant par année", lambda f: f.with_columns(valeur=pl.col("annee").cast(pl.Float64)), {}, "l'indicateur est constant : il ne distingue aucune unité"),
    (
        "témoins immobiles",
        lambda f: f.with_columns(valeur=pl.when(pl.col("cohorte") == 0).then(1.0).otherwise(pl.col("valeur"))),
        {},
        "l'indicateur ne varie dans le temps chez aucun témoin",
    ),
    ("doublons", lambda f: pl.concat([f, f.head(3)]), {}, "3 lignes en double : une unité a plusieurs valeurs pour une même période"),
    ("sans ligne", lambda f: f.clear(), {}, "l'indicateur n'a aucune valeur sur les périodes du panel"),
    ("sans valeur", lambda f: f.with_columns(valeur=pl.lit(None, pl.Float64)), {}, "l'indicateur n'a aucune valeur sur les périodes du panel"),
    ("non finis", lambda f: f.with_columns(valeur=float("inf")), {}, "l'indicateur n'a aucune valeur sur les périodes du panel"),
    ("autres années", lambda f: f, {"annees": (1990, 1991)}, "l'indicateur n'a aucune valeur sur les périodes du panel"),
    ("sans colonne", lambda f: f.drop("cohorte"), {}, "le panel n'a pas de colonne cohorte"),
    (
        "cohorte qui change",
        lambda f: f.with_columns(cohorte=pl.when((pl.col("annee") == 2018) & (pl.col("cohorte") > 0)).then(2019).otherwise(pl.col("cohorte"))),
        {},
        "doit être constant dans chaque unité, et ne l'est pas : cohorte",
    ),
    ("rupture", lambda f: f, {"ruptures": (2019,)}, "rupture de série en 2019 : les valeurs d'avant et d'après ne se comparent pas"),
    (
        "trous",
        lambda f: f.filter((pl.col("cohorte") == 0) | (pl.col("unite").str.tail(1).cast(pl.Int64) != pl.col("annee") % 10) & (pl.col("annee") > 2014)),
        {},
        "moins de la moitié des unités traitées peuvent être comparées",
    ),
    ("sans population", lambda f: f.drop("poids"), {"ponderation": "habitant"}, "la population de référence manque : pas d'effet pour l'habitant moyen"),
    ("tous d'un autre programme", lambda f: f.with_columns(mixte=pl.col("cohorte") == 0), {}, "aucun témoin : un autre programme a commencé chez tous ceux qui ont une valeur à toutes les périodes"),
    ("tous voisins", lambda f: f.with_columns(anneau=pl.col("cohorte") == 0), {}, "aucun témoin hors de l'anneau des unités traitées n'a de valeur à toutes les périodes"),
]  # fmt: skip


def nothing(found: Estimation) -> None:
    """No number of any kind beside the reason."""
    assert found.statut == "non estimable"
    assert found.motif
    row = found.ligne()
    told = {name for name in row if name.startswith(("effet", "choix_bas", "choix_haut", "p", "q", "emd", "erreur"))} - {"periodes", "ponderation", "part_retenue"}
    assert {name: row[name] for name in told if row[name] is not None} == {}
    assert found.lignes_evenement() == found.lignes_equilibre() == found.lignes_choix() == []


@pytest.mark.parametrize("methode", METHODES)
@pytest.mark.parametrize(("spoil", "more", "motif"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_a_panel_that_cannot_be_used_gives_its_reason(methode: str, spoil: Any, more: dict[str, Any], motif: str) -> None:
    found = estimate(Panel(spoil(GOOD)), declare(methode, **more), seed=1, draws=99)
    nothing(found)
    assert found.motif is not None
    assert found.motif.startswith(motif)


@pytest.mark.parametrize("methode", ["did_echelonne", "did_apparie"])
def test_a_single_treated_unit_has_no_difference_in_differences(methode: str) -> None:
    world = departments(1)
    frame = world.panel.frame.with_columns(x=pl.lit(1.0) + pl.col("poids"))
    found = estimate(Panel(frame), declare(methode, covariables=("x",) if methode == "did_apparie" else ()), seed=1)
    nothing(found)
    assert found.motif is not None
    assert "une seule unité traitée" in found.motif or "aucun témoin semblable" in found.motif


def test_a_cohort_of_one_among_others_has_no_number_of_its_own() -> None:
    frame = GOOD.with_columns(
        cohorte=pl.when(pl.col("unite") == GOOD.filter(pl.col("cohorte") > 0)["unite"][0]).then(2017).otherwise(pl.col("cohorte"))
    )
    found = estimate(Panel(frame), declare(), seed=1, draws=99)
    assert found.statut != "non estimable"
    assert found.ecartees == {"cohorte de moins de 11 unités": 1}
    assert 2017 not in [row["cohorte"] for row in found.cohortes]


def test_matching_needs_a_covariate_and_a_like() -> None:
    assert estimate(Panel(GOOD), declare("did_apparie"), seed=1).motif == "un appariement demande au moins une covariable déclarée"
    apart = GOOD.with_columns(x=pl.when(pl.col("cohorte") > 0).then(pl.col("x") + 100).otherwise(pl.col("x")))
    found = estimate(Panel(apart), declare("did_apparie", covariables=("x",)), seed=1)
    nothing(found)
    assert found.motif == "aucune unité traitée ne peut être comparée : aucun témoin semblable (à 0,25 écart-type près)"


def test_a_covariate_that_predicts_treatment_perfectly_is_no_crash() -> None:
    apart = GOOD.with_columns(x=pl.when(pl.col("cohorte") > 0).then(pl.col("x") + 8).otherwise(pl.col("x")))
    found = estimate(Panel(apart), declare(covariables=("x",)), seed=1, draws=99)
    assert found.statut in ("non crédible", "non estimable")
    assert found.ligne()["effet"] is None


def test_redundant_covariates_are_left_out_and_said() -> None:
    frame = GOOD.with_columns(x2=2 * pl.col("x") + 1, un=pl.lit(1.0))
    found = estimate(Panel(frame), declare(covariables=("x", "x2", "un")), seed=1, draws=99)
    plain = estimate(Panel(frame), declare(covariables=("x",)), seed=1, draws=99)
    assert found.effet == plain.effet
    assert found.notes == (
        "covariable sans information propre, laissée de côté : x2", "covariable sans information propre, laissée de côté : un",
    )  # fmt: skip


def test_a_period_that_few_have_is_left_out_and_said() -> None:
    frame = GOOD.filter((pl.col("annee") != 2016) | (pl.col("unite").str.tail(1) == "1"))
    sample = prepare(Panel(frame), declare())
    assert 2016 not in sample.annees
    assert sample.notes == ("périodes trop peu couvertes, laissées de côté : 2016",)


def test_units_with_holes_leave_and_are_counted() -> None:
    treated = GOOD.filter(pl.col("cohorte") > 0)["unite"].unique().sort()
    frame = GOOD.filter(~((pl.col("unite").is_in(treated[:20].to_list())) & (pl.col("annee") == 2017)))
    found = estimate(Panel(frame), declare(), seed=1, draws=99)
    assert found.ecartees == {"l'indicateur manque à certaines périodes": 20}
    assert found.part_retenue == pytest.approx(180 / 200)
    assert found.unites_traitees == 180


def test_a_shock_that_breaks_the_algebra_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    from orchestration.impact import linear

    def singular(*_: Any, **__: Any) -> Any:
        raise np.linalg.LinAlgError("Singular matrix")

    monkeypatch.setattr(linear, "estimate_linear", singular)
    found = estimate(Panel(GOOD), declare(), seed=1, draws=99)
    nothing(found)
    assert found.motif == "le calcul n'aboutit pas sur ce panel : variables redondantes ou constantes chez les unités comparées"


def test_the_declaration_is_read_from_a_row_of_the_plans() -> None:
    row = {
        "estimation_id": "acv", "intervention_id": "action_coeur_de_ville", "indicateur_id": "prix", "rang": "primaire",
        "unite": "commune", "methode": "did_echelonne", "transformation": "log", "annees": "2014 ; 2015 ; 2019",
        "reference": 2015, "horizon": 3, "anticipation": 0, "covariables": "log_population ; aav_categorie",
        "fixe_le": declare().fixe_le, "motif": None, "decalage": 1,
    }  # fmt: skip
    found = Estimand.from_row(row, sens_favorable="baisse")
    assert (found.annees, found.covariables, found.sens_favorable) == ((2014, 2015, 2019), ("log_population", "aav_categorie"), "baisse")
    assert Estimand.from_row({**row, "covariables": ""}).covariables == ()
    assert found.declaration() != dataclasses.replace(found, horizon=2).declaration()


def test_census_points_make_one_cohort_of_the_starts_between_them() -> None:
    rng = np.random.default_rng(0)
    cohorte = np.repeat([0, 2018, 2019, 2021], [300, 40, 40, 40])
    annees = np.array([2012, 2016, 2021])
    y = rng.normal(size=(420, 3)) + np.where((cohorte[:, None] > 0) & (annees >= 2018), 2.0, 0.0)
    world = build(y, cohorte, annees, grappe=np.arange(420) % 84)
    sample = prepare(world.panel, declare())
    assert sample.cohortes == [2021]
    found = estimate(world.panel, declare(), seed=1, draws=99)
    assert found.effet is not None
    assert found.effet.effet == pytest.approx(2.0, abs=0.4)
    assert found.delai_moyen == pytest.approx((3 + 2 + 0) / 3)
    assert [one.delai for one in found.evenements] == [-9, -5, 0]
    assert found.diagnostics.lissage == ()


def test_a_start_after_the_panel_makes_a_control() -> None:
    frame = GOOD.with_columns(cohorte=pl.when(pl.col("cohorte") == 2021).then(2031).otherwise(pl.col("cohorte")))
    sample = prepare(Panel(frame), declare())
    assert sample.cohortes == [2018, 2019, 2020]
    assert sample.temoin.sum() == 900 - 120


def test_a_year_of_anticipation_serves_on_no_side() -> None:
    sample = prepare(Panel(GOOD), declare(anticipation=1))
    assert [int(sample.annees[sample.cell(g, 3, 1)[0]]) for g in sample.cohortes] == [2016, 2017, 2018, 2019]


def strange(seed: int) -> tuple[Panel, Estimand]:
    """A small panel with whatever may go wrong at once: holes, few units, odd cohorts, ties, empty or useless covariates."""
    rng = np.random.default_rng(seed)
    n, t = int(rng.choice([rng.integers(2, 12), rng.integers(12, 90), rng.integers(150, 500)])), int(rng.integers(1, 12))
    annees = np.sort(rng.choice(np.arange(2010, 2024), t, replace=False))
    cohorte = rng.choice([0, 0, 0, *rng.integers(2011, 2025, 3)], n)
    y = rng.normal(size=(n, t)) * rng.choice([0.0, 1e-9, 1.0, 1.0, 1.0, 1e9]) + rng.choice([0.0, 5.0])
    if rng.random() < 0.3:
        y = np.round(y)
    world = build(
        y, cohorte, annees, grappe=rng.integers(0, max(2, n // int(rng.integers(1, 9))), n), poids=rng.choice([rng.choice([0.0, 2.0]), 1.0, 1e6], n),
        x=rng.choice([rng.normal(), 1.0], n), z=np.where(cohorte > 0, 1.0, rng.normal(size=n)), c=rng.choice(["a", "b", "c"], n),
        anneau=rng.random(n) < rng.choice([0.0, 0.0, 0.3, 0.9]), autre_programme=rng.random(n) < 0.3, mixte=rng.random(n) < rng.choice([0.0, 0.3, 0.95]),
    )  # fmt: skip
    frame = world.panel.frame.with_columns(
        valeur=pl.when(pl.Series(rng.random(n * t) > rng.choice([0.0, 0.0, 0.02, 0.4]))).then(pl.col("valeur"))
    )
    covariables = tuple(rng.choice(["x", "z", "c"], int(rng.integers(0, 4)), replace=False).tolist())
    plan = declare(
        str(rng.choice(METHODES)), int(rng.integers(0, 5)), anticipation=int(rng.integers(0, 2)), covariables=covariables,
        ponderation=str(rng.choice(["unite", "habitant"])), reference=int(rng.integers(2008, 2025)),
    )  # fmt: skip
    return Panel(frame), plan


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_no_panel_crashes_and_every_refusal_says_why() -> None:
    statuses = set()
    for seed in range(150):
        panel, plan = strange(seed)
        found = estimate(panel, plan, seed=seed, draws=39)
        statuses.add(found.statut)
        if found.statut == "non estimable":
            nothing(found)
        elif found.inference == "permutation":
            assert found.ligne()["erreur_type"] is None
    assert {"non estimable", "non crédible"} <= statuses


def test_register_of_first_results_survives_a_cut_and_names_an_alteration(tmp_path: Path) -> None:
    """It is what tells a plan that was touched after its result: it cannot be made again from anything else."""
    first, second = (Register(Home(tmp_path), dt.date(2026, 1, day)) for day in (1, 2))
    plans = [declare("did_echelonne", estimation_id=name, indicateur_id=name) for name in ("un", "deux")]
    first.record(plans[0])
    path = first.path
    line = path.read_bytes()
    # Cut while the second line was written, then just before its end.
    for torn in (line[:50], line.replace(b'"un', b'"trois').rstrip()):
        path.write_bytes(line + torn)
        again = Register(Home(tmp_path), dt.date(2026, 1, 2))
        again.record(plans[1])
        read = [json.loads(text)["effet"] for text in path.read_text(encoding="utf-8").splitlines()]
        assert read[0] == second.effect(plans[0]) and read[-1] == second.effect(plans[1])
        assert again.refusal(plans[0]) is None
    path.write_bytes(line[:50] + b"\n" + line)
    with pytest.raises(DamagedFile, match=rf"{path}, ligne 1 : registre .* altéré.*restaurer ce fichier depuis une sauvegarde"):
        Register(Home(tmp_path))
