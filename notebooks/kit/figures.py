"""Figures as inline SVG with their alternative text, written directly: no library draws them, so that a page costs
milliseconds, weighs little, and is the same bytes each time (Vega-Lite through vl-convert took a tenth of a second each).

Honest by construction: an interval is always drawn with its point, the zero line of an effect is shown, bars start at
zero, an axis that does not start at zero says so, a missing or secret value is hatched and named, and a demonstration
figure says so across itself. Drawings are 460 units wide with letters of 14: they stay legible on a telephone.
Legends are HTML beside the drawing, so that their letters follow the reader's own size.
"""

from __future__ import annotations

import datetime as dt
import itertools
import json
import math
import re
from collections.abc import Sequence
from functools import cache
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from notebooks.kit.page import number, signed

if TYPE_CHECKING:
    import polars as pl

BLEU, ORANGE, GRIS, ENCRE, GRILLE = "#0b3d91", "#b34700", "#5f6368", "#1a1a1a", "#dcdcdc"
# Light to dark of one hue: the order survives a black and white print and any colour vision.
DEGRES = ("#e3ecf7", "#b3cbe8", "#7ba3d4", "#3f75b8", "#0b3d91")
LARGEUR, LETTRE = 460, 14
HALO = ' paint-order="stroke" stroke="#fff" stroke-width="4"'  # what is written stays legible on what is drawn
CONTOURS = Path(__file__).with_name("departements.json")
# Series are told apart by dash and marker as well as by hue.
TRACES = ((BLEU, "", "rond"), (ORANGE, "7 4", "carre"), (GRIS, "2 3", "losange"))
# Patterns that a page defines once: missing values, those missing for another reason, and values kept secret.
TRAMES = (
    '<svg class="trames" width="0" height="0" aria-hidden="true" focusable="false"><defs>'
    '<pattern id="trame-manque" width="14" height="14" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
    '<rect width="14" height="14" fill="#fff"/><path d="M0,0V14" stroke="#8a8a8a" stroke-width="6"/></pattern>'
    '<pattern id="trame-autre" width="12" height="12" patternUnits="userSpaceOnUse">'
    '<rect width="12" height="12" fill="#fff"/><path d="M0,6H12" stroke="#8a8a8a" stroke-width="4"/></pattern>'
    '<pattern id="trame-secret" width="16" height="16" patternUnits="userSpaceOnUse">'
    '<rect width="16" height="16" fill="#fff"/><path d="M0,0L16,16M16,0L0,16" stroke="#5f6368" stroke-width="3"/></pattern>'
    "</defs></svg>"
)


@cache
def drawing() -> dict[str, Any]:
    """The départements: ``largeur``, ``hauteur``, ``citation`` and one path by code."""
    return json.loads(CONTOURS.read_text(encoding="utf-8"))


def _n(value: float) -> str:
    """A coordinate, short and the same everywhere."""
    return f"{value:.1f}".rstrip("0").rstrip(".")


def _text(x: float, y: float, text: str, anchor: str = "start", color: str = ENCRE, size: int = LETTRE, more: str = "") -> str:
    return f'<text x="{_n(x)}" y="{_n(y)}" text-anchor="{anchor}" font-size="{size}" fill="{color}"{more}>{escape(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, color: str = GRILLE, width: float = 1, dash: str = "") -> str:
    dashes = f' stroke-dasharray="{dash}"' if dash else ""
    return f'<path d="M{_n(x1)},{_n(y1)}L{_n(x2)},{_n(y2)}" stroke="{color}" stroke-width="{width:g}"{dashes}/>'


def _marker(kind: str, x: float, y: float, color: str, hollow: bool = False) -> str:
    fill = f'fill="{"#fff" if hollow else color}" stroke="{color}" stroke-width="1.5"'
    if kind == "carre":
        return f'<rect x="{_n(x - 4)}" y="{_n(y - 4)}" width="8" height="8" {fill}/>'
    if kind == "losange":
        return f'<path d="M{_n(x)},{_n(y - 5)}l5,5 -5,5 -5,-5z" {fill}/>'
    return f'<circle cx="{_n(x)}" cy="{_n(y)}" r="4" {fill}/>'


def _svg(width: float, height: float, body: str, alt: str, demonstration: bool, labels: str = "") -> str:
    """One image for a screen reader; « données de démonstration » is written across it when it must, under ``labels``."""
    mark = ""
    if demonstration:
        cx, cy = width / 2, height / 2
        mark = _text(
            cx, cy + width / 50, "données de démonstration", "middle", "#8a2a00", round(width / 17),
            f' font-weight="700" fill-opacity=".4" transform="rotate({-min(14, round(20 * height / width))} {_n(cx)} {_n(cy)})"',
        )  # fmt: skip
    return (
        f'<svg role="img" aria-label="{escape(alt, quote=True)}" viewBox="0 0 {_n(width)} {_n(height)}" '
        f'font-family="system-ui,Arial,sans-serif" fill="none">{body}{mark}{labels}</svg>'
    )


def _ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Round graduations that hold both ends; a constant series gets room around it."""
    if high <= low:
        margin = abs(low) / 10 or 1.0
        low, high = low - margin, high + margin
    raw = (high - low) / wanted
    power = 10 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(k * step, 12) for k in range(first, last + 1)]


def _decimals(ticks: Sequence[float]) -> int:
    step = min(b - a for a, b in itertools.pairwise(ticks))
    return max(0, min(6, -math.floor(math.log10(step) + 1e-9))) + (1 if f"{step:.1e}"[:3] == "2.5" and step < 10 else 0)


def legend(entries: Sequence[tuple[str, str]]) -> str:
    """(small drawing, text) each, beside a figure."""
    return '<ul class="legende">' + "".join(f"<li>{mark}{escape(text)}</li>" for mark, text in entries) + "</ul>"


def _swatch(body: str, width: int = 30) -> str:
    return f'<svg aria-hidden="true" focusable="false" width="{width}" height="14" viewBox="0 0 {width} 14" fill="none">{body}</svg>'


class _Vertical:
    """A plot whose values go upwards: its axis, its grid and its unit, said above it."""

    def __init__(self, low: float, high: float, unit: str, height: int = 250) -> None:
        self.ticks = _ticks(low, high)
        decimals = _decimals(self.ticks)
        self.labels = [number(t, decimals) for t in self.ticks]
        self.left = 12 + max(len(text) for text in self.labels) * LETTRE * 0.56
        self.right, self.top, self.bottom, self.height = LARGEUR - 14, 30, height - 30, height
        self.unit = unit

    def y(self, value: float) -> float:
        low, high = self.ticks[0], self.ticks[-1]
        return self.bottom - (value - low) / (high - low) * (self.bottom - self.top)

    def frame(self) -> str:
        # A unit longer than the drawing is in the caption; cut, it would say another unit.
        parts = [_text(0, 14, self.unit, color=GRIS)] if len(self.unit) <= 36 else []
        if not self.ticks[0] <= 0 <= self.ticks[-1]:
            parts.append(_text(LARGEUR, 14, "l'axe ne part pas de zéro", "end", GRIS, 12))
        for tick, label in zip(self.ticks, self.labels, strict=True):
            parts += [_line(self.left, self.y(tick), self.right, self.y(tick)), _text(self.left - 6, self.y(tick) + 5, label, "end")]
        if self.ticks[0] <= 0 <= self.ticks[-1]:
            parts.append(_line(self.left, self.y(0), self.right, self.y(0), ENCRE, 1.5))
        return "".join(parts)


def trajectory(frame: pl.DataFrame, unit: str, alt: str, demonstration: bool, since: dt.date | None = None) -> str:
    """Values over time: columns ``date``, ``valeur``, ``serie`` (a name: the territory, the way to the target, the others).

    ``since`` draws the start of the intervention. Points are drawn too: between two of them nothing is known. At most
    three series, in order of appearance; two segments on the two sides of a break are two series.
    """
    rows = frame.drop_nulls().sort("date", maintain_order=True)
    names = rows["serie"].unique(maintain_order=True).sort().to_list() if rows["serie"].n_unique() > 3 else frame["serie"].unique(maintain_order=True).to_list()
    plot = _Vertical(rows["valeur"].min(), rows["valeur"].max(), unit)
    days = [d.toordinal() for d in rows["date"]]
    first, last = min(days), max(days)
    room = 12
    span = max(last - first, 1)

    def x(day: dt.date) -> float:
        if first == last:
            return (plot.left + plot.right) / 2
        return plot.left + room + (day.toordinal() - first) / span * (plot.right - plot.left - 2 * room)

    parts = [plot.frame()]
    start, end = rows["date"].min().year, rows["date"].max().year
    marks = [dt.date(year, 1, 1) for year in range(start, end + 2) if first <= dt.date(year, 1, 1).toordinal() <= last]
    # A year is marked where it begins; a series within one year is marked by its own days.
    every = max(1, math.ceil(len(marks) / 7))
    if len(marks) < 2:
        parts += [_text(x(d), plot.bottom + 20, d.strftime("%d/%m/%Y"), "middle", size=12) for d in dict.fromkeys((rows["date"].min(), rows["date"].max()))]
    for day in marks[::every] if len(marks) >= 2 else []:
        parts += [_line(x(day), plot.bottom, x(day), plot.bottom + 5, GRIS), _text(x(day), plot.bottom + 20, str(day.year), "middle")]
    if since and first <= since.toordinal() <= last:
        parts += [_line(x(since), plot.top, x(since), plot.bottom, GRIS, 1.5, "4 3"), _text(x(since) + 4, plot.top + 12, "début", color=GRIS)]
    entries = []
    for rank, name in enumerate(names):
        color, dash, kind = TRACES[min(rank, len(TRACES) - 1)]
        points = [(x(r["date"]), plot.y(r["valeur"])) for r in rows.filter(rows["serie"] == name).to_dicts()]
        if not points:
            continue
        path = "L".join(f"{_n(a)},{_n(b)}" for a, b in points)
        dashes = f' stroke-dasharray="{dash}"' if dash else ""
        parts.append(f'<path d="M{path}" stroke="{color}" stroke-width="2"{dashes}/>')
        parts += [_marker(kind, a, b, color) for a, b in points] if len(points) <= 40 else []
        entries.append((_swatch(_line(0, 7, 30, 7, color, 2, dash) + _marker(kind, 15, 7, color)), name))
    drawn = _svg(LARGEUR, plot.height, "".join(parts), alt, demonstration)
    return drawn + (legend(entries) if len(entries) > 1 else "")


def event_study(frame: pl.DataFrame, unit: str, alt: str, demonstration: bool) -> str:
    """Effects by year around the start: columns ``annee_relative``, ``effet``, ``borne_basse``, ``borne_haute``.

    A year without bounds is the reference, null by construction: hollow. The zero line and the start are always drawn.
    """
    rows = frame.filter(frame["effet"].is_not_null()).sort("annee_relative").to_dicts()
    bounds = [v for r in rows for v in (r["effet"], r["borne_basse"], r["borne_haute"]) if v is not None]
    plot = _Vertical(min([0.0, *bounds]), max([0.0, *bounds]), unit, 260)
    years = list(range(min(r["annee_relative"] for r in rows), max(r["annee_relative"] for r in rows) + 1))
    step = (plot.right - plot.left) / len(years)
    x = {year: plot.left + (rank + 0.5) * step for rank, year in enumerate(years)}
    parts = [plot.frame()]
    every = max(1, math.ceil(len(years) / 10))
    parts += [_text(x[year], plot.bottom + 18, signed(year), "middle") for year in years if year % every == 0]
    if 0 in x and -1 in x:
        start = (x[-1] + x[0]) / 2
        parts += [_line(start, plot.top, start, plot.bottom, GRIS, 1.5, "4 3"), _text(start + 4, plot.top + 12, "début", color=GRIS)]
    for row in rows:
        at, low, high = x[row["annee_relative"]], row["borne_basse"], row["borne_haute"]
        known = low is not None and high is not None
        if known:
            parts.append(_line(at, plot.y(low), at, plot.y(high), BLEU, 2))
            parts += [_line(at - 4, plot.y(v), at + 4, plot.y(v), BLEU, 2) for v in (low, high)]
        parts.append(_marker("rond", at, plot.y(row["effet"]), BLEU, hollow=not known))
    parts.append(_text((plot.left + plot.right) / 2, plot.bottom + 36, "années depuis le début", "middle", GRIS, 12))
    return _svg(LARGEUR, plot.height + 12, "".join(parts), alt, demonstration)


def intervals(frame: pl.DataFrame, unit: str, alt: str, demonstration: bool, reference: float | None = 0.0) -> str:
    """Points with their intervals, one line each: columns ``nom``, ``valeur``, ``bas``, ``haut``; ``reference`` is a line.

    The figures are written over each line; a line without value says so, and draws nothing.
    """
    rows = frame.to_dicts()
    known = [v for r in rows for v in (r["valeur"], r["bas"], r["haut"]) if v is not None]
    if reference is not None:
        known.append(reference)
    ticks = _ticks(min(known), max(known), 4)
    decimals = _decimals(ticks)
    left, right, row_height, top = 16, LARGEUR - 16, 44, 10

    def x(value: float) -> float:
        return left + (value - ticks[0]) / (ticks[-1] - ticks[0]) * (right - left)

    bottom = top + row_height * len(rows)
    parts = [_text(x(t), bottom + 18, number(t, decimals), "middle") for t in ticks]
    labels = []
    for rank, row in enumerate(rows):
        at = top + rank * row_height
        # The graduations and the reference stand beside the intervals only: no line runs through what is written.
        parts += [_line(x(t), at + 20, x(t), at + 38) for t in ticks]
        if reference is not None:
            parts.append(_line(x(reference), at + 20, x(reference), at + 38, ENCRE, 1.5))
        said = "sans valeur" if row["valeur"] is None else number(row["valeur"], decimals + 1)
        if row["bas"] is not None and row["haut"] is not None:
            said += f" [{number(row['bas'], decimals + 1)} ; {number(row['haut'], decimals + 1)}]"
        labels.append(_text(left, at + 14, f"{row['nom']} : {said}", more=HALO, size=13))
        if row["bas"] is not None and row["haut"] is not None:
            parts.append(_line(x(row["bas"]), at + 28, x(row["haut"]), at + 28, BLEU, 2))
            parts += [_line(x(v), at + 24, x(v), at + 32, BLEU, 2) for v in (row["bas"], row["haut"])]
        if row["valeur"] is not None:
            parts.append(_marker("rond", x(row["valeur"]), at + 28, BLEU))
    parts.append(_text(LARGEUR / 2, bottom + 38, unit, "middle", GRIS, 13))
    return _svg(LARGEUR, bottom + 46, "".join(parts), alt, demonstration, "".join(labels))


def bars(frame: pl.DataFrame, unit: str, alt: str, demonstration: bool) -> str:
    """Counts as horizontal bars from zero: columns ``nom``, ``valeur`` and ``inconnu`` (true: hatched, nothing is known)."""
    rows = frame.to_dicts()
    high = _ticks(0, max([1, *(r["valeur"] for r in rows)]))[-1]
    parts, labels, row_height = [], [], 44
    for rank, row in enumerate(rows):
        at = rank * row_height
        width = row["valeur"] / high * (LARGEUR - 70)
        fill = "url(#trame-manque)" if row["inconnu"] else BLEU
        labels.append(_text(0, at + 15, row["nom"], more=HALO))
        parts.append(f'<rect x="0" y="{at + 21}" width="{_n(width)}" height="16" fill="{fill}" stroke="{GRIS if row["inconnu"] else BLEU}"/>')
        labels.append(_text(width + 6, at + 34, f"{number(row['valeur'])} {unit}".strip(), more=HALO))
    parts.append(_line(0, 18, 0, row_height * len(rows), ENCRE, 1.5))
    return _svg(LARGEUR, row_height * len(rows), "".join(parts), alt, demonstration, "".join(labels))


def departements(
    values: dict[str, float], reasons: dict[str, str], unit: str, alt: str, demonstration: bool,
    names: dict[str, str] | None = None, absence: str = "",
) -> str:  # fmt: skip
    """A map of the départements in at most five classes of equal numbers; ``reasons`` names why a code has no value.

    A département without value is hatched, never white, unless its reason is ``absence``: that one is known to be none.
    The legend gives the bounds of the classes and each reason.
    """
    names = names or {}
    known = sorted(values.values())
    cuts = sorted({known[min(len(known) - 1, len(known) * k // 5)] for k in range(1, 5)} - {known[0]}) if known else []
    plan = drawing()

    missing = sorted({reasons.get(code, "sans valeur") for code in plan["departements"] if code not in values})
    others = [reason for reason in missing if reason not in (absence, "secret")]

    def shade(rank: int) -> str:
        return DEGRES[round(rank * (len(DEGRES) - 1) / len(cuts)) if cuts else -1]

    def texture(reason: str) -> str:
        if reason in (absence, "secret"):
            return "#fff" if reason == absence else "url(#trame-secret)"
        return "url(#trame-autre)" if others.index(reason) % 2 else "url(#trame-manque)"

    shapes = []
    for code, path in plan["departements"].items():
        if code in values:
            fill, said = shade(sum(values[code] >= cut for cut in cuts)), f"{number(values[code])} {unit}"
        else:
            said = reasons.get(code, "sans valeur")
            fill = texture(said)
        shapes.append(f'<path d="{path}" fill="{fill}"><title>{escape(names.get(code, code))} : {escape(said)}</title></path>')

    def patch(fill: str) -> str:
        return _swatch(f'<rect x=".5" y=".5" width="29" height="13" fill="{fill}" stroke="{GRIS}"/>')

    entries = []
    for rank, (low, high) in enumerate(itertools.pairwise([None, *cuts, None]) if known else ()):
        if low is None and high is None:
            text = f"{number(known[0])} {unit}" if known[0] == known[-1] else f"de {number(known[0])} à {number(known[-1])} {unit}"
        elif low is None:
            text = f"moins de {number(high)} {unit}"
        else:
            text = f"{number(low)} {unit} et plus" if high is None else f"de {number(low)} à moins de {number(high)} {unit}"
        entries.append((patch(shade(rank)), text))
    entries += [(patch(texture(reason)), reason) for reason in missing]
    # The overseas tiles are told apart by their code only: white on the dark shades, with a halo on a hatching.
    tiles = []
    for code, path in plan["departements"].items():
        if found := re.match(r"M(\d+),(\d+)h", path):
            dark = code in values and shade(sum(values[code] >= cut for cut in cuts)) in DEGRES[3:]
            halo = "" if code in values else ' paint-order="stroke" stroke="#fff" stroke-width="7"'
            tiles.append(_text(float(found[1]) + 38, float(found[2]) + 47, code, "middle", "#fff" if dark else ENCRE, 26, halo))
    body = f'<g stroke="{GRIS}" stroke-width="1.5">{"".join(shapes)}</g>{"".join(tiles)}'
    return _svg(plan["largeur"], plan["hauteur"], body, alt, demonstration) + legend(entries)


def position(quartile: float, median: float, third: float, value: float) -> str:
    """Where a value lies among its comparables, for a cell of a table that holds the same figures: decoration only."""
    left, right = min(quartile, value), max(third, value)
    if right <= left:
        return ""

    def x(v: float) -> float:
        return 6 + (v - left) / (right - left) * 88

    return (
        '<svg aria-hidden="true" focusable="false" width="100" height="18" viewBox="0 0 100 18" fill="none">'
        f'<path d="M6,9H94" stroke="{GRIS}"/><rect x="{_n(x(quartile))}" y="4" width="{_n(x(third) - x(quartile))}" height="10" fill="{DEGRES[1]}" stroke="{GRIS}"/>'
        f'<path d="M{_n(x(median))},4V14" stroke="{ENCRE}" stroke-width="1.5"/><circle cx="{_n(x(value))}" cy="9" r="4" fill="{ORANGE}" stroke="#fff"/></svg>'
    )


def lineage(before: Sequence[str], name: str, after: Sequence[str], alt: str) -> str:
    """What a table is made from, on its left, and what is made from it, on its right."""
    width, box, gap, room = 236, 26, 8, 44
    rows = max(len(before), len(after), 1)
    height = rows * (box + gap) + 24

    def column(names: Sequence[str], left: float) -> list[tuple[str, float, float]]:
        top = 24 + (height - 24 - len(names) * (box + gap) + gap) / 2
        return [(text, left, top + rank * (box + gap)) for rank, text in enumerate(names)]

    middle = column([name], width + room)
    sides = column(before, 0) + column(after, 2 * (width + room))
    _, mid_x, mid_y = middle[0]
    parts = [_text(0, 14, "faite à partir de", color=GRIS, size=12), _text(2 * (width + room), 14, "sert à faire", color=GRIS, size=12)]
    for _, x, y in sides:
        a, b = (x + width, mid_x) if x < mid_x else (mid_x + width, x)
        ya, yb = (y, mid_y) if x < mid_x else (mid_y, y)
        parts.append(f'<path d="M{_n(a)},{_n(ya + box / 2)}C{_n(a + room / 2)},{_n(ya + box / 2)} {_n(b - room / 2)},{_n(yb + box / 2)} {_n(b)},{_n(yb + box / 2)}" stroke="{GRIS}"/>')
    for text, x, y in sides + middle:
        own = text == name and x == mid_x
        parts.append(f'<rect x="{_n(x + .5)}" y="{_n(y)}" width="{width - 1}" height="{box}" fill="{BLEU if own else "#fff"}" stroke="{BLEU if own else GRIS}"/>')
        parts.append(_text(x + 8, y + 17, text, color="#fff" if own else ENCRE, size=12))
    return _svg(3 * width + 2 * room, height, "".join(parts), alt, False)
