"""What a page and a figure say: French figures, honest pictures, nothing that a reader could take for something else."""

from __future__ import annotations

import datetime as dt
import re
import xml.etree.ElementTree as ET

import polars as pl
import pytest

from notebooks.kit import figures, page
from orchestration.dictionary import DictionaryError, dictionary

EFFETS = pl.DataFrame({"annee_relative": [-2, -1, 0, 1], "effet": [1.0, 0.0, 2.0, 3.0], "borne_basse": [0.5, None, 1.0, 2.0], "borne_haute": [1.5, None, 3.0, 4.0]})
SERIE = pl.DataFrame({"date": [dt.date(y, 12, 31) for y in (2018, 2019, 2020)], "valeur": [110.0, 112.0, 111.0], "serie": ["Creuse"] * 3})


def svg(drawn: str) -> ET.Element:
    """The first drawing of a block; raises when it is not well-formed."""
    return ET.fromstring(drawn[: drawn.index("</svg>") + 6])


def texts(drawn: str) -> list[str]:
    return [e.text or "" for e in svg(drawn).iter() if e.tag.endswith("text")]


# --- words and figures ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "said"), [(1234567, "1\u202f234\u202f567"), (12.34, "12,3"), (0.5, "0,50"), (-3.0, "−3"), (-0.001, "0,00"), (None, "–"), (float("nan"), "–")]
)
def test_a_figure_is_written_as_french_prose_does_and_a_missing_one_is_never_zero(value: float | None, said: str) -> None:
    assert page.number(value) == said


def test_periods_are_told_in_the_shortest_exact_words() -> None:
    assert page.period(dt.date(2024, 1, 1), dt.date(2024, 12, 31)) == "2024"
    assert page.period(dt.date(2024, 1, 1), dt.date(2024, 3, 31)) == "1er trimestre 2024"
    assert page.period(dt.date(2024, 2, 1), dt.date(2024, 3, 31)) == "du 1er février 2024 au 31 mars 2024"


def test_what_a_producer_wrote_is_escaped_and_double_punctuation_stays_on_its_line() -> None:
    assert page.paragraph("<script> & « été » : 5 ; 6") == "<p>&lt;script&gt; &amp; «\u00a0été\u00a0»\u00a0: 5\u00a0; 6</p>"
    assert page.count(1, "territoire touché") == "1\u00a0territoire touché"
    assert page.count(2503, "territoire touché") == "2\u202f503\u00a0territoires touchés"


def test_a_table_shows_missing_values_as_missing_and_heads_its_rows() -> None:
    frame = pl.DataFrame({"nom": ["a"], "valeur": [None], "le": [dt.date(2024, 1, 5)], "vrai": [True]}, schema_overrides={"valeur": pl.Float64})
    html = page.table(frame, "Titre", {"nom": "Nom", "valeur": "Valeur", "le": "Le", "vrai": "Vrai"})
    assert '<th scope="row">a</th><td class=n>–</td><td class=s>05/01/2024</td><td>oui</td>' in html
    assert "<caption>Titre</caption>" in html and html.count('scope="col"') == 4


def test_every_state_stands_as_a_word_beside_its_sign() -> None:
    for word in page.ETATS:
        assert word in page.state(word) and 'aria-hidden="true"' in page.state(word)
    # « non concluant » must look like no direction at all.
    assert page.ETATS["non concluant"][0] not in "▲▼=0" and page.ETATS["non concluant"][1] not in ("bien", "mal")


# --- honest pictures --------------------------------------------------------------------------------------------


def test_an_event_study_draws_each_interval_the_zero_line_and_the_start() -> None:
    drawn = figures.event_study(EFFETS, "%", "alt", False)
    paths = [e.get("d") for e in svg(drawn).iter() if e.tag.endswith("path") and e.get("stroke") == figures.BLEU and e.get("stroke-width") == "2"]
    assert len(paths) == 3 * 3, "une barre et ses deux bouts pour chaque année qui a un intervalle"
    assert any(e.get("stroke") == figures.ENCRE for e in svg(drawn).iter() if e.tag.endswith("path")), "la ligne de zéro"
    assert "début" in texts(drawn)
    hollow = [e for e in svg(drawn).iter() if e.tag.endswith("circle") and e.get("fill") == "#fff"]
    assert len(hollow) == 1, "l'année de référence est creuse"


def test_an_effect_far_from_zero_still_shows_zero() -> None:
    far = EFFETS.with_columns(effet=pl.lit(90.0), borne_basse=pl.lit(89.0), borne_haute=pl.lit(91.0))
    assert "0" in texts(figures.event_study(far, "%", "alt", False))
    assert "0" in texts(figures.intervals(far.select(nom=pl.lit("x"), valeur="effet", bas="borne_basse", haut="borne_haute"), "%", "alt", False))


def test_bars_start_at_zero_and_what_is_not_known_is_hatched() -> None:
    drawn = figures.bars(pl.DataFrame({"nom": ["positif", "non concluant"], "valeur": [10, 20], "inconnu": [False, True]}), "", "alt", False)
    known, unknown = (e for e in svg(drawn).iter() if e.tag.endswith("rect"))
    assert known.get("x") == unknown.get("x") == "0"
    assert float(unknown.get("width") or 0) == pytest.approx(2 * float(known.get("width") or 0), rel=0.01)
    assert unknown.get("fill") == "url(#trame-manque)" and known.get("fill") == figures.BLEU


def test_an_axis_that_does_not_start_at_zero_says_so() -> None:
    assert "l'axe ne part pas de zéro" in texts(figures.trajectory(SERIE, "%", "alt", False))
    assert "l'axe ne part pas de zéro" not in texts(figures.trajectory(SERIE.with_columns(valeur=pl.col("valeur") - 110), "%", "alt", False))


@pytest.mark.parametrize("rows", [1, 2])
def test_a_series_of_one_value_or_without_movement_is_drawn(rows: int) -> None:
    drawn = figures.trajectory(SERIE.head(rows).with_columns(valeur=pl.lit(5.0)), "%", "alt", False)
    assert len([e for e in svg(drawn).iter() if e.tag.endswith("circle")]) == rows


def test_a_map_hatches_and_names_what_is_missing_and_tells_a_secret_from_an_absence() -> None:
    codes = list(figures.drawing()["departements"])
    values = {code: float(rank) for rank, code in enumerate(codes[:90])}
    reasons = {code: "aucun relevé" for code in codes} | {codes[95]: "secret", codes[96]: "pas concerné"}
    drawn = figures.departements(values, reasons, "%", "alt", False, absence="pas concerné")
    fills = [e.get("fill") for e in svg(drawn).iter() if e.tag.endswith("path") and e.get("d") in figures.drawing()["departements"].values()]
    assert len(fills) == len(codes) == 101
    assert fills.count("url(#trame-secret)") == 1 and fills.count("#fff") == 1
    assert fills.count("url(#trame-manque)") == 101 - 90 - 2
    legend = drawn[drawn.index("</svg>") :]
    assert all(word in legend for word in ("aucun relevé", "secret", "pas concerné"))


def test_a_map_of_equal_values_has_one_class() -> None:
    drawn = figures.departements({"23": 100.0, "08": 100.0}, {}, "%", "alt", False)
    assert drawn.count("100 %") >= 1 and "moins de" not in drawn


@pytest.mark.parametrize("draw", ["trajectory", "event_study", "intervals", "bars", "departements"])
def test_every_demonstration_figure_says_so_across_itself(draw: str) -> None:
    arguments = {
        "trajectory": (SERIE, "%"), "event_study": (EFFETS, "%"), "departements": ({"23": 1.0}, {}, "%"),
        "intervals": (EFFETS.select(nom=pl.lit("x"), valeur="effet", bas="borne_basse", haut="borne_haute"), "%"),
        "bars": (pl.DataFrame({"nom": ["x"], "valeur": [1], "inconnu": [False]}), ""),
    }[draw]  # fmt: skip
    assert "données de démonstration" in texts(getattr(figures, draw)(*arguments, "alt", True))
    assert "données de démonstration" not in texts(getattr(figures, draw)(*arguments, "alt", False))


def test_a_demonstration_page_says_so_before_its_title() -> None:
    html = page.Page("Titre", "demo-2026-01-01-1", dt.date(2026, 1, 1), True).html()
    assert html.index("Données de démonstration") < html.index("<h1>")
    assert "démonstration" not in page.Page("Titre", "2026-01-01-1", dt.date(2026, 1, 1), False).html()


def test_equal_figures_are_equal_bytes() -> None:
    assert figures.event_study(EFFETS, "%", "alt", False) == figures.event_study(EFFETS, "%", "alt", False)
    assert not re.search(r'\bid="', figures.event_study(EFFETS, "%", "alt", False)), "deux figures d'une page ne partagent aucun identifiant"


# --- the dictionary ---------------------------------------------------------------------------------------------


def test_a_column_without_description_is_refused_by_its_name() -> None:
    node = {"unique_id": "model.p.t", "name": "t", "resource_type": "model", "fqn": ["p", "marts", "t"], "description": "Une table.", "config": {}}
    audit = {"unique_id": "source.p.publication.audit_controle", "name": "audit_controle", "source_name": "publication", "description": "x", "config": {}, "columns": {}}
    manifest = {
        "nodes": {"model.p.t": node | {"columns": {"a": {"description": "", "data_type": "varchar"}}}},
        "sources": {"source.p.publication.audit_controle": audit}, "parent_map": {"model.p.t": []},
    }  # fmt: skip
    with pytest.raises(DictionaryError, match=r"table t\.a"):
        dictionary(manifest)
    manifest["nodes"]["model.p.t"]["columns"]["a"]["description"] = "Une colonne."
    assert dictionary(manifest)["tables"]["t"]["colonnes"][0]["description"] == "Une colonne."


