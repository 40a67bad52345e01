"""The sentence of an estimate says what its numbers say, and no more."""

from __future__ import annotations

import datetime as dt
import math

from orchestration.impact.interface import Diagnostics, Estimand, Estimation, Intervalle
from orchestration.impact.sentences import amount, sentence

PLAN = Estimand("p", "i", "x", "did_echelonne", 3, dt.date(2026, 1, 1), transformation="log", unite="commune")
RATE = Estimand("p", "i", "x", "did_echelonne", 0, dt.date(2026, 1, 1), transformation="niveau", unite="zone_emploi", mesure="%")


def test_a_log_effect_is_said_in_exact_per_cent() -> None:
    assert amount(math.log(1.1), "log", "€/m²", sign=True) == "+\u202f10,0 %"
    assert amount(-0.5, "log", "€/m²", sign=True) == "−39,3 %"


def test_a_rate_moves_by_points_and_a_count_by_its_unit() -> None:
    assert amount(0.5, "niveau", "%") == "0,50 point"
    assert amount(-3.14, "niveau", "%", sign=True) == "−3,1 points"
    assert amount(1234.5, "niveau", "habitants", sign=True) == "+\u202f1\u202f234 habitants"


def test_an_effect_that_rounds_to_nothing_has_no_sign() -> None:
    assert amount(-0.001, "niveau", "%", sign=True) == "0,00 point"


def test_inconclusive_says_the_least_effect_that_would_have_been_seen() -> None:
    one = Estimation(
        RATE, "non concluant", effet=Intervalle(0.4, -1.2, 2.0, 0.6, 0.8), unites_traitees=50, grappes_traitees=40, grappes_temoins=50,
        diagnostics=Diagnostics(emd=3.1),
    )  # fmt: skip
    assert sentence(one) == (
        "non concluant : l'effet minimal détectable est de 3,1 points (intervalle à 95 % : de −1,2 point à +\u202f2,0 points)"
    )


def test_a_credible_effect_bears_its_interval_its_years_and_its_units() -> None:
    one = Estimation(
        PLAN, "positif", effet=Intervalle(0.03, 0.01, 0.05, 0.003, 0.01), unites_traitees=1631, grappes_traitees=96, grappes_temoins=96,
    )  # fmt: skip
    assert sentence(one) == (
        "positif : +\u202f3,0 % en moyenne sur les 4 premières années, pour 1\u202f631 communes "
        "(intervalle à 95 % : de +\u202f1,0 % à +\u202f5,1 %)"
    )


def test_what_is_not_credible_tells_no_number() -> None:
    one = Estimation(PLAN, "non crédible", "les communes traitées s'écartaient déjà des autres avant", effet=Intervalle(0.03, 0.01, 0.05))
    assert sentence(one) == "non crédible : les communes traitées s'écartaient déjà des autres avant"
    assert not any(c.isdigit() for c in sentence(one))
