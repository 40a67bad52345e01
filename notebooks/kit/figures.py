"""Figures as inline SVG with their alternative text: Vega-Lite drawn by vl-convert, maps from the drawing beside.

Honest by construction: an interval is always drawn with its point, the zero line is shown, bars start at zero, a missing
or secret value is hatched and named, and a demonstration figure says so across itself.
"""

from __future__ import annotations

import itertools
import json
import re
from functools import cache
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars as pl

BLEU, ORANGE, GRIS, CLAIR = "#0b3d91", "#b34700", "#5f6368", "#cfd8e6"
# Light to dark of one hue: the order survives a black and white print and any colour vision.
DEGRES = ("#e3ecf7", "#b3cbe8", "#7ba3d4", "#3f75b8", "#0b3d91")
LARGEUR = 620
CONTOURS = Path(__file__).with_name("departements.json")
_rank = itertools.count(1)


@cache
def drawing() -> dict[str, Any]:
    """The départements: ``largeur``, ``hauteur``, ``citation`` and one path by code."""
    return json.loads(CONTOURS.read_text(encoding="utf-8"))


def _mark(svg: str, demonstration: bool) -> str:
    """The drawing with « données de démonstration » written across it when it must."""
    if not demonstration:
        return svg
    box = re.search(r'viewBox="([^"]+)"', svg)
    assert box is not None
    x, y, width, height = (float(n) for n in box.group(1).split())
    cx, cy, size = x + width / 2, y + height / 2, max(14, width / 22)
    text = (
        f'<text x="{cx:.0f}" y="{cy:.0f}" text-anchor="middle" font-size="{size:.0f}" font-family="sans-serif" font-weight="700" '
        f'fill="#8a2a00" fill-opacity=".35" transform="rotate(-18 {cx:.0f} {cy:.0f})">données de démonstration</text>'
    )
    return svg.replace("</svg>", f"{text}</svg>")


def _svg(chart: Any, alt: str, demonstration: bool) -> str:
    """A Vega-Lite chart as an inline SVG whose identifiers are its own, since a page holds several."""
    import vl_convert

    spec = chart.to_dict()
    spec["config"] = {
        "font": "sans-serif", "view": {"stroke": None}, "axis": {"labelFontSize": 12, "titleFontSize": 12, "gridColor": "#e6e6e6"},
        "locale": {"number": {"decimal": ",", "thousands": "\u202f", "grouping": [3], "currency": ["", " €"]}},
        "legend": {"labelFontSize": 12, "titleFontSize": 12, "orient": "bottom", "labelLimit": 400},
    }  # fmt: skip
    svg = vl_convert.vegalite_to_svg(spec)
    unique = f"f{next(_rank)}"
    svg = re.sub(r'\bid="([\w-]+)"', rf'id="{unique}-\1"', svg)
    svg = re.sub(r"url\(#([\w-]+)\)", rf"url(#{unique}-\1)", svg)
    # One image for a screen reader, not a hundred graphic symbols.
    svg = re.sub(r' (?:role|aria-roledescription|aria-label|aria-hidden)="[^"]*"', "", svg)
    svg = svg.replace("<svg ", f'<svg role="img" aria-label="{escape(alt, quote=True)}" ', 1)
    return _mark(svg, demonstration)


def _values(frame: pl.DataFrame) -> dict[str, Any]:
    import datetime as dt

    rows = frame.to_dicts()
    return {"values": [{k: v.isoformat() if isinstance(v, dt.date) else v for k, v in row.items()} for row in rows]}


def trajectory(frame: pl.DataFrame, unit: str, alt: str, demonstration: bool, since: str | None = None) -> str:
    """Values over time: columns ``date``, ``valeur``, ``serie`` (a name: the territory, the target, the median of others).

    ``since`` (ISO day) draws the start of the intervention. Points are drawn too: between two of them nothing is known.
    """
    import altair as alt_

    base = alt_.Chart(alt_.Data(**_values(frame))).encode(
        x=alt_.X("date:T", title=None, axis=alt_.Axis(format="%Y", tickCount="year", labelOverlap=True)),
        y=alt_.Y("valeur:Q", title=unit, scale=alt_.Scale(zero=False)),
        color=alt_.Color("serie:N", title=None, scale=alt_.Scale(range=[BLEU, ORANGE, GRIS])),
        strokeDash=alt_.StrokeDash("serie:N", title=None),
        shape=alt_.Shape("serie:N", title=None),
    )
    layers = [base.mark_line(), base.mark_point(filled=True, size=40)]
    if since:
        rule = alt_.Chart(alt_.Data(values=[{"date": since, "texte": "début"}])).encode(x="date:T")
        layers += [rule.mark_rule(color=GRIS, strokeDash=[4, 3]), rule.mark_text(align="left", dx=4, dy=-92, color=GRIS).encode(text="texte:N")]
    return _svg(alt_.layer(*layers).properties(width=LARGEUR - 80, height=210), alt, demonstration)


def event_study(frame: pl.DataFrame, unit: str, alt: str, demonstration: bool) -> str:
    """Effects by year around the start: columns ``annee_relative``, ``effet``, ``borne_basse``, ``borne_haute``."""
    import altair as alt_

    base = alt_.Chart(alt_.Data(**_values(frame))).encode(x=alt_.X("annee_relative:O", title="années depuis le début (0 : première année)", axis=alt_.Axis(labelAngle=0)))
    zero = alt_.Chart(alt_.Data(values=[{"zero": 0}])).mark_rule(color="#1a1a1a").encode(y=alt_.Y("zero:Q", title=unit))
    bars = base.mark_rule(color=BLEU, strokeWidth=2).encode(y=alt_.Y("borne_basse:Q", title=unit), y2="borne_haute:Q")
    points = base.mark_point(color=BLEU, filled=True, size=60).encode(y=alt_.Y("effet:Q", title=unit))
    return _svg(alt_.layer(zero, bars, points).properties(width=LARGEUR - 80, height=220), alt, demonstration)


def intervals(frame: pl.DataFrame, unit: str, alt: str, demonstration: bool, reference: float | None = 0.0) -> str:
    """Points with their intervals, one line each: columns ``nom``, ``valeur``, ``bas``, ``haut``; ``reference`` is a line."""
    import altair as alt_

    base = alt_.Chart(alt_.Data(**_values(frame))).encode(y=alt_.Y("nom:N", title=None, sort=None, axis=alt_.Axis(labelLimit=260)))
    layers = []
    if reference is not None:
        layers.append(alt_.Chart(alt_.Data(values=[{"r": reference}])).mark_rule(color="#1a1a1a").encode(x=alt_.X("r:Q", title=unit)))
    scale = alt_.Scale(zero=False)
    layers += [
        base.mark_rule(color=BLEU, strokeWidth=2).encode(x=alt_.X("bas:Q", title=unit, scale=scale), x2="haut:Q"),
        base.mark_point(color=BLEU, filled=True, size=50).encode(x=alt_.X("valeur:Q", title=unit, scale=scale)),
    ]
    return _svg(alt_.layer(*layers).properties(width=LARGEUR - 300, height=alt_.Step(20)), alt, demonstration)


def departements(values: dict[str, float | None], reasons: dict[str, str], unit: str, alt: str, demonstration: bool, names: dict[str, str] | None = None) -> str:
    """A map of the départements in five classes of equal numbers; ``reasons`` names why a code has no value.

    Départements without value are hatched, never white; the legend gives the bounds of the classes and the hatching.
    """
    from notebooks.kit.page import number

    names = names or {}
    known = sorted(v for v in values.values() if v is not None)
    cuts = sorted({known[min(len(known) - 1, len(known) * k // 5)] for k in range(1, 5)}) if known else []
    plan = drawing()
    unique = f"m{next(_rank)}"

    def shade(value: float) -> str:
        return DEGRES[round(sum(value >= cut for cut in cuts) * (len(DEGRES) - 1) / max(len(cuts), 1))]

    shapes = []
    for code, path in plan["departements"].items():
        value = values.get(code)
        fill = shade(value) if value is not None else f"url(#{unique}-h)"
        said = f"{number(value)} {unit}" if value is not None else reasons.get(code, "sans valeur")
        shapes.append(f'<path d="{path}" fill="{fill}"><title>{escape(names.get(code, code))} : {escape(said)}</title></path>')
    bounds = [None, *cuts, None]
    entries = []
    for rank, (low, high) in enumerate(itertools.pairwise(bounds)):
        if not known:
            break
        text = f"moins de {number(high)}" if low is None and high is not None else f"{number(low)} et plus" if high is None and low is not None else f"de {number(low)} à {number(high)}" if low is not None else number(known[0])
        entries.append((DEGRES[round(rank * (len(DEGRES) - 1) / max(len(cuts), 1))], text))
    if any(values.get(code) is None for code in plan["departements"]):
        entries.append((f"url(#{unique}-h)", " ; ".join(sorted({reasons.get(c, "sans valeur") for c in plan["departements"] if values.get(c) is None}))[:60]))
    height = plan["hauteur"] + 50 * len(entries) + 30
    legend = "".join(
        f'<rect x="20" y="{plan["hauteur"] + 30 + 50 * r}" width="60" height="36" fill="{fill}" stroke="#5f6368"/>'
        f'<text x="95" y="{plan["hauteur"] + 57 + 50 * r}" font-size="28" font-family="sans-serif">{escape(text)} {escape(unit) if not fill.startswith("url") else ""}</text>'
        for r, (fill, text) in enumerate(entries)
    )
    return _mark(
        f'<svg role="img" aria-label="{escape(alt, quote=True)}" xmlns="http://www.w3.org/2000/svg" width="{LARGEUR - 100}" '
        f'viewBox="0 0 {plan["largeur"]} {height}"><defs><pattern id="{unique}-h" width="14" height="14" patternUnits="userSpaceOnUse" '
        'patternTransform="rotate(45)"><rect width="14" height="14" fill="#fff"/><path d="M0,0V14" stroke="#8a8a8a" stroke-width="6"/></pattern></defs>'
        f'<g stroke="#5f6368" stroke-width="1.5">{"".join(shapes)}</g>{legend}</svg>',
        demonstration,
    )
