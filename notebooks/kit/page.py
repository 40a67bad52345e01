"""One page for a person: plain HTML that needs neither script nor network, reads on a telephone and prints on A4.

Blocks are HTML strings made by the functions of this module and of ``figures``; every text given to them is escaped.
Nothing here knows a table of the release: notebooks choose what to show, marts compute it.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars as pl

FINE = "\u202f"  # narrow no-break space: thousands, and before French double punctuation
VIDE = "–"

# Text on these backgrounds keeps a contrast of at least 4.5 (WCAG 2.2 AA); hues are told apart without colour vision.
STYLE = """
:root{--encre:#1a1a1a;--doux:#4a4a4a;--trait:#cfcfcf;--fond:#fff;--bande:#f4f5f7;--accent:#0b3d91;--bien:#00583d;--mal:#8a2a00;--alerte:#fff4d6}
*{box-sizing:border-box}
html{font:100%/1.5 system-ui,-apple-system,"Segoe UI",Roboto,Arial,sans-serif;color:var(--encre);background:var(--fond)}
body{margin:0}
a{color:var(--accent)}a:focus-visible,summary:focus-visible,[tabindex]:focus-visible{outline:3px solid var(--accent);outline-offset:2px}
.evitement{position:absolute;left:-999px}.evitement:focus{left:.5rem;top:.5rem;background:var(--fond);padding:.5rem;z-index:2}
header,main,footer{max-width:62rem;margin:0 auto;padding:0 1rem}
header{border-bottom:2px solid var(--encre);padding-top:1rem;padding-bottom:.75rem}
header p{margin:.15rem 0}.nom{font-weight:700}.publication{color:var(--doux);font-size:.9rem}
nav{font-size:.9rem;margin-top:.35rem}nav a+a:before{content:"";display:inline-block;width:.9rem}
h1{font-size:1.75rem;line-height:1.2;margin:1.25rem 0 .5rem}h2{font-size:1.3rem;margin:2rem 0 .5rem;border-top:1px solid var(--trait);padding-top:1rem}
h3{font-size:1.05rem;margin:1.25rem 0 .35rem}p{margin:.5rem 0;max-width:44rem}blockquote{margin:.75rem 0;padding:.1rem 1rem;border-left:4px solid var(--accent);max-width:44rem}
.demonstration{background:var(--alerte);border:2px solid #8a6100;padding:.5rem .75rem;margin:.75rem 0;font-weight:700}
.reponses{display:grid;grid-template-columns:repeat(auto-fit,minmax(15rem,1fr));gap:.75rem;margin:1rem 0;padding:0;list-style:none}
.reponses li{border:1px solid var(--trait);border-top:4px solid var(--accent);padding:.5rem .75rem}.reponses h3{margin:.1rem 0}
.note{color:var(--doux);font-size:.9rem}
figure{margin:1rem 0;break-inside:avoid}figure svg{max-width:100%;height:auto;display:block}figcaption{font-size:.9rem;color:var(--doux);max-width:44rem}
.tableau{overflow-x:auto;margin:.75rem 0}table{border-collapse:collapse;font-size:.92rem;min-width:min(100%,28rem)}
caption{text-align:left;font-weight:600;padding:.25rem 0}th,td{border-bottom:1px solid var(--trait);padding:.3rem .6rem;text-align:left;vertical-align:top}
thead th{background:var(--bande);border-bottom:2px solid var(--encre)}td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
details{margin:.5rem 0}summary{cursor:pointer;color:var(--accent)}code{font-size:.85em;overflow-wrap:anywhere}
.bon{color:var(--bien);font-weight:600}.mauvais{color:var(--mal);font-weight:600}
footer{border-top:1px solid var(--trait);margin-top:2.5rem;padding-top:.75rem;padding-bottom:2rem;font-size:.85rem;color:var(--doux)}
@media print{@page{size:A4;margin:15mm}html{font-size:10pt}nav,.evitement{display:none}header,main,footer{max-width:none;padding:0}
.tableau{overflow:visible}thead{display:table-header-group}tr{break-inside:avoid}h2,h3{break-after:avoid}a{color:inherit;text-decoration:none}details>*{display:block}}
"""

MOIS = ("janvier", "février", "mars", "avril", "mai", "juin", "juillet", "août", "septembre", "octobre", "novembre", "décembre")


def number(value: float | int | None, decimals: int | None = None) -> str:
    """A figure as French prose writes it: decimal comma, narrow spaces; a dash for a missing one, never a zero."""
    if value is None or value != value:
        return VIDE
    if decimals is None:
        decimals = 0 if float(value).is_integer() or abs(value) >= 1000 else 1 if abs(value) >= 10 else 2
    text = f"{value:,.{decimals}f}".replace(",", FINE).replace(".", ",")
    # A figure that rounds to nothing has no sign.
    return text.lstrip("-") if not text.strip("-0," + FINE) else text.replace("-", "−")


def signed(value: float | None, decimals: int | None = None) -> str:
    """The same with its sign, for a difference."""
    text = number(value, decimals)
    return f"+{FINE}{text}" if value is not None and value > 0 and text.strip("0,") else text


def day(value: dt.date | None) -> str:
    """« 1er mars 2019 »."""
    return VIDE if value is None else f"{'1er' if value.day == 1 else value.day} {MOIS[value.month - 1]} {value.year}"


def period(start: dt.date, end: dt.date) -> str:
    """A period in the shortest exact words: a day, a quarter, a year, or both ends."""
    if start == end:
        return day(start) if (start.month, start.day) != (1, 1) else f"{start.year}"
    if (start.month, start.day, end.month, end.day, end.year) == (1, 1, 12, 31, start.year):
        return str(start.year)
    last = end + dt.timedelta(days=1)
    if start.day == 1 and start.month % 3 == 1 and last.day == 1 and (last.year - start.year) * 12 + last.month - start.month == 3:
        return f"{start.month // 3 + 1}{'er' if start.month == 1 else 'e'} trimestre {start.year}"
    return f"du {day(start)} au {day(end)}"


def slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def paragraph(text: str, style: str = "") -> str:
    return f'<p class="{style}">{escape(text)}</p>' if style else f"<p>{escape(text)}</p>"


def heading(text: str, level: int = 2) -> str:
    return f'<h{level} id="{slug(text)}">{escape(text)}</h{level}>'


def quote(text: str) -> str:
    return f"<blockquote><p>{escape(text)}</p></blockquote>"


def link(target: str, text: str) -> str:
    return f'<a href="{escape(target, quote=True)}">{escape(text)}</a>'


def fold(title: str, *blocks: str) -> str:
    """Blocks behind a title that opens without script, and lies open on paper."""
    return f"<details><summary>{escape(title)}</summary>{''.join(blocks)}</details>"


def items(texts: Sequence[str], *, html: bool = False) -> str:
    return "<ul>" + "".join(f"<li>{t if html else escape(t)}</li>" for t in texts) + "</ul>"


def table(
    frame: pl.DataFrame, caption: str, labels: dict[str, str], decimals: dict[str, int] | None = None, links: dict[str, str] | None = None
) -> str:
    """An HTML table of a frame: ``labels`` names the columns shown and their French headings, in order.

    ``links`` maps a column to the column that holds the target of its links. Dates, figures and missing values are written
    as French does; the first column heads its row.
    """
    decimals, links = decimals or {}, links or {}
    numeric = {name for name in labels if frame.schema[name].is_numeric()}

    def cell(row: dict[str, Any], name: str) -> str:
        value = row[name]
        if value is None:
            text = VIDE
        elif name in numeric:
            text = number(value, decimals.get(name))
        elif isinstance(value, bool):
            text = "oui" if value else "non"
        elif isinstance(value, dt.date):
            text = day(value)
        else:
            text = str(value)
        return link(row[links[name]], text) if name in links and row[links[name]] else escape(text)

    first = next(iter(labels))
    head = "".join(f'<th scope="col"{" class=n" if n in numeric else ""}>{escape(text)}</th>' for n, text in labels.items())
    rows = []
    for row in frame.select(list(dict.fromkeys([*labels, *links.values()]))).to_dicts():
        cells = [f'<th scope="row">{cell(row, first)}</th>']
        cells += [f"<td{' class=n' if n in numeric else ''}>{cell(row, n)}</td>" for n in labels if n != first]
        rows.append(f"<tr>{''.join(cells)}</tr>")
    title = escape(caption)
    return (
        f'<div class="tableau" role="region" aria-label="{escape(caption, quote=True)}" tabindex="0"><table><caption>{title}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def figure(svg: str, caption: str) -> str:
    """A drawing that carries its own alternative text, and its caption."""
    return f"<figure>{svg}<figcaption>{escape(caption)}</figcaption></figure>"


def answers(cards: Sequence[tuple[str, str]]) -> str:
    """The answers of an intervention side by side: (title, text) each."""
    return '<ul class="reponses">' + "".join(f"<li><h3>{escape(t)}</h3><p>{escape(b)}</p></li>" for t, b in cards) + "</ul>"


@dataclass
class Page:
    """A page of a release. ``root`` is the way from it to the folder of the index."""

    title: str
    release_id: str
    created: dt.date
    demonstration: bool
    blocks: list[str] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    root: str = "."
    nav: Sequence[tuple[str, str]] = (
        ("index.html", "Sommaire"), ("tableau_de_bord.html", "Tableau de bord"), ("sur_mesure.html", "Sur-mesure"),
        ("qualite_et_methode.html", "Qualité et méthode"),
    )  # fmt: skip

    def add(self, *blocks: str) -> Page:
        self.blocks += [block for block in blocks if block]
        return self

    def body(self) -> str:
        """What the live notebook shows too: the mark, the title and the blocks."""
        mark = '<p class="demonstration">Données de démonstration : aucun chiffre de cette page n\'est réel.</p>' if self.demonstration else ""
        return f"{mark}<h1>{escape(self.title)}</h1>{''.join(self.blocks)}"

    def html(self) -> str:
        """The whole self-contained document."""
        links = "".join(link(f"{self.root}/{target}", text) for target, text in self.nav)
        cited = items(self.sources) if self.sources else ""
        return (
            '<!doctype html><html lang="fr"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'
            f"<title>{escape(self.title)} – Dernier kilomètre</title><style>{STYLE}</style></head><body>"
            '<a class="evitement" href="#contenu">Aller au contenu</a>'
            f'<header><p class="nom">Dernier kilomètre</p><p class="publication">Publication {escape(self.release_id)} du {day(self.created)}</p>'
            f'<nav aria-label="Pages">{links}</nav></header><main id="contenu">{self.body()}</main>'
            f"<footer><p>Les chiffres viennent de la publication {escape(self.release_id)} et d'elle seule. Sources de cette page :</p>{cited}"
            "<p>Licence Ouverte 2.0 sauf mention contraire ; chaque source garde sa licence et sa citation.</p></footer></body></html>"
        )

    def write(self, path: Path) -> int:
        """Writes the page; returns its size in bytes."""
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.write_bytes(self.html().encode())
