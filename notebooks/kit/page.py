"""One page for a person: plain HTML that needs neither script nor network, reads on a telephone and prints on A4.

Blocks are HTML strings made by the functions of this module and of ``figures``; every text given to them is escaped.
Nothing here knows a table of the release: notebooks choose what to show, marts compute it.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape as _escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars as pl

FINE = "\u202f"  # narrow no-break space: thousands, and before French double punctuation
VIDE = "–"

# Text on these backgrounds keeps a contrast of at least 4.5 (WCAG 2.2 AA); states are told by a sign and a word, not by hue.
STYLE = """
:root{--encre:#1a1a1a;--doux:#4a4a4a;--trait:#cfcfcf;--fond:#fff;--bande:#f4f5f7;--accent:#0b3d91;--bien:#00583d;--mal:#8a2a00;--alerte:#fff4d6}
*{box-sizing:border-box}
html{font:100%/1.5 system-ui,-apple-system,"Segoe UI",Roboto,Arial,sans-serif;color:var(--encre);background:var(--fond);scroll-padding-top:1rem}
body{margin:0;overflow-wrap:break-word}a{color:var(--accent);text-underline-offset:.15em}
a:focus-visible,summary:focus-visible,[tabindex]:focus-visible{outline:3px solid var(--accent);outline-offset:2px}
.evitement{position:absolute;left:-999px}.evitement:focus{left:.5rem;top:.5rem;background:var(--fond);padding:.5rem;z-index:2}
.trames{position:absolute}.lecture{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%);white-space:nowrap}
header,main,footer{max-width:66rem;margin:0 auto;padding:0 1rem}
header{padding-top:1rem;padding-bottom:.6rem;box-shadow:0 2px 0 var(--accent)}
header p{margin:0}.nom{font-weight:700;font-size:1.15rem}.publication{color:var(--doux);font-size:.9rem}
nav ul{list-style:none;display:flex;flex-wrap:wrap;gap:.1rem 1.25rem;margin:.5rem 0 0;padding:0;font-size:.95rem}nav a{display:inline-block;padding:.2rem 0}nav a[aria-current]{font-weight:700;text-decoration:none;color:var(--encre)}
h1,h2,h3,caption,thead th{font-weight:700}h1{font-size:1.75rem;line-height:1.2;margin:1.5rem 0 .5rem}h2{font-size:1.3rem;line-height:1.25;margin:2.25rem 0 .6rem;border-top:1px solid var(--trait);padding-top:1rem}
h3{font-size:1.05rem;margin:1.4rem 0 .35rem}p,ul,ol{margin:.5rem 0}p,main>ul,main>ol{max-width:44rem}
blockquote{margin:.75rem 0;padding:.1rem 1rem;border-left:4px solid var(--accent);max-width:44rem;background:var(--bande)}
.demonstration{background:var(--alerte);border:2px solid #8a6100;padding:.5rem .75rem;margin:1rem 0;font-weight:700;max-width:none}
.attention{border-left:4px solid #8a6100;background:var(--alerte);padding:.4rem .9rem;max-width:44rem}
.reponses{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(16rem,100%),1fr));gap:.75rem;margin:1rem 0;padding:0;list-style:none;max-width:none!important}
.reponses li{border:1px solid var(--trait);border-top:4px solid var(--accent);padding:.5rem .9rem .7rem}.reponses h3{margin:.1rem 0}.reponses p{margin:.25rem 0}
.note{color:var(--doux);font-size:.9rem}.compact{display:flex;flex-wrap:wrap;gap:.1rem 1rem;list-style:none;padding:0;max-width:none!important}.compact a{display:inline-block;padding:.15rem 0}
figure{margin:1rem 0;max-width:33rem;break-inside:avoid}figure>svg{width:100%;height:auto;display:block}figure.carte{max-width:30rem}
figcaption{font-size:.9rem;color:var(--doux);margin-top:.35rem}
.legende{list-style:none;display:flex;flex-wrap:wrap;gap:.1rem 1.1rem;margin:.35rem 0;padding:0;font-size:.9rem}.legende svg{margin-right:.4rem;vertical-align:-.1em}
.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(26rem,100%),1fr));gap:0 2rem}
.tableau{overflow-x:auto;margin:.75rem 0}table{border-collapse:collapse;font-size:.92rem;line-height:1.4;width:100%}
caption{text-align:left;font-weight:600;padding:.25rem 0;max-width:calc(100vw - 2rem)}th,td{border-bottom:1px solid var(--trait);padding:.35rem .6rem;text-align:left;vertical-align:top}
th[scope=row]{font-weight:400;min-width:11rem}thead th{background:var(--bande);border-bottom:2px solid var(--encre);vertical-align:bottom}td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}td.n{white-space:nowrap}
td.s{white-space:nowrap}details{margin:.5rem 0}summary{cursor:pointer;color:var(--accent);padding:.15rem 0}code{font-size:.85em;overflow-wrap:anywhere}pre{overflow-x:auto;padding:.75rem;border:1px solid var(--trait)}pre code{overflow-wrap:normal}
.etat{white-space:nowrap}.bien{color:var(--bien)}.mal{color:var(--mal)}.gris{color:var(--doux)}
@media(max-width:40rem){th[scope=row]{min-width:8rem;max-width:10rem;overflow-wrap:anywhere}}
footer{border-top:1px solid var(--trait);margin-top:2.5rem;padding-top:.75rem;padding-bottom:2rem;font-size:.85rem;color:var(--doux)}footer li{margin:.15rem 0;overflow-wrap:anywhere}
@media print{pre{white-space:pre-wrap}@page{size:A4;margin:14mm 12mm}html{font-size:9.5pt}nav,.evitement{display:none}header,main,footer{max-width:none;padding:0}
.tableau{overflow:visible}table{font-size:8.5pt}th,td{padding:.2rem .35rem}th[scope=row]{min-width:0}.etat,td.s{white-space:normal}figure.carte{max-width:22rem}thead{display:table-header-group;break-after:avoid}tr:first-child{break-before:avoid}caption{break-after:avoid}tr{break-inside:avoid}h2,h3{break-after:avoid}
a{color:inherit;text-decoration:none}summary{color:inherit}*{print-color-adjust:exact;-webkit-print-color-adjust:exact}}
"""

MOIS = ("janvier", "février", "mars", "avril", "mai", "juin", "juillet", "août", "septembre", "octobre", "novembre", "décembre")


def escape(text: str, quote: bool = False) -> str:
    """Text as HTML, its French double punctuation kept on the line of the word before it."""
    return _escape(re.sub(r"(?<=«) | (?=[»:;?!](?:\s|$|[.,)]))|(?<=\d) (?=[%€])", "\u00a0", text), quote=quote)


def count(value: int, noun: str) -> str:
    """« 1 territoire », « 2 503 territoires »; each word of the noun takes the plural."""
    return f"{number(value)}\u00a0{noun if abs(value) < 2 else ' '.join(word + 's' for word in noun.split())}"


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
    """Blocks behind a title that opens without script; on paper as the reader left it on the screen."""
    return f"<details><summary>{escape(title)}</summary>{''.join(blocks)}</details>"


def code(text: str, label: str) -> str:
    """A program to copy, named for those who hear the page; it scrolls by itself, so it takes the focus."""
    return f'<pre tabindex="0" role="region" aria-label="{_escape(label, quote=True)}"><code>{_escape(text, quote=False)}</code></pre>'


def items(texts: Sequence[str], *, html: bool = False) -> str:
    return "<ul>" + "".join(f"<li>{t if html else escape(t)}</li>" for t in texts) + "</ul>"


def quantity(value: float | None, unit: str | None, decimals: int | None = None) -> str:
    """A figure and its unit, never parted: « 12,5 % »."""
    if value is None or value != value:
        return VIDE
    return number(value, decimals) + (f"\u00a0{unit}" if unit else "")


# State to (sign, class): the word always stands beside the sign.
ETATS = {
    "cible atteinte": ("✔", "bien"), "en cours": ("→", ""), "en recul": ("▼", "mal"), "sans cible": ("–", "gris"),
    "mieux placés": ("▲", "bien"), "moins bien placés": ("▼", "mal"), "comme leurs comparables": ("=", ""), "non comparée": ("–", "gris"),
    "positif": ("▲", "bien"), "négatif": ("▼", "mal"), "non concluant": ("?", ""), "non crédible": ("✕", ""), "non estimable": ("–", "gris"),
    "non mesurée": ("–", "gris"), "mesurée, effet non établi": ("?", ""), "effet favorable établi": ("▲", "bien"),
    "effet défavorable établi": ("▼", "mal"), "en retard": ("▼", "mal"), "à jour": ("✔", ""), "manquante": ("▼", "mal"),
    "amélioration": ("▲", "bien"), "dégradation": ("▼", "mal"), "stable": ("=", ""),
}  # fmt: skip


def state(text: str) -> str:
    """A state as HTML: its sign, hidden from screen readers, and its word."""
    sign, kind = ETATS.get(text, ("", ""))
    mark = f'<span aria-hidden="true">{sign}</span> ' if sign else ""
    return f'<span class="etat {kind}">{mark}{escape(text)}</span>' if kind else f'<span class="etat">{mark}{escape(text)}</span>'


def links(targets: Sequence[tuple[str, str]]) -> str:
    """Links in a row that wraps: (target, text) each."""
    return '<ul class="compact">' + "".join(f"<li>{link(target, text)}</li>" for target, text in targets) + "</ul>"


def table(
    frame: pl.DataFrame, caption: str, labels: dict[str, str], decimals: dict[str, int] | None = None,
    links: dict[str, str] | None = None, units: dict[str, str] | None = None, html: Sequence[str] = (),
) -> str:  # fmt: skip
    """An HTML table of a frame: ``labels`` names the columns shown and their French headings, in order.

    ``links`` maps a column to the column that holds the target of its links, ``units`` a figure to the column of its unit;
    columns named in ``html`` hold HTML already. Dates, figures and missing values are written as French does; the first
    column heads its row.
    """
    decimals, links, units = decimals or {}, links or {}, units or {}
    kinds = frame.schema
    numeric = {name for name in labels if kinds[name].is_numeric()}
    short = {name for name in labels if kinds[name].is_temporal()}

    def cell(row: dict[str, Any], name: str) -> str:
        value = row[name]
        if value is None:
            return VIDE
        if name in html:
            return str(value)
        if name in numeric:
            text = quantity(value, row[units[name]] if name in units else None, decimals.get(name))
        elif isinstance(value, bool):
            text = "oui" if value else "non"
        elif isinstance(value, dt.date):
            text = value.strftime("%d/%m/%Y")
        else:
            text = str(value)
        return link(row[links[name]], text) if name in links and row[links[name]] else escape(text)

    def style(name: str) -> str:
        return " class=n" if name in numeric else " class=s" if name in short else ""

    first = next(iter(labels))
    head = "".join(f'<th scope="col"{" class=n" if n in numeric else ""}>{escape(text)}</th>' for n, text in labels.items())
    rows = []
    for row in frame.select(list(dict.fromkeys([*labels, *links.values(), *units.values()]))).to_dicts():
        cells = [f'<th scope="row">{cell(row, first)}</th>']
        cells += [f"<td{style(n)}>{cell(row, n)}</td>" for n in labels if n != first]
        rows.append(f"<tr>{''.join(cells)}</tr>")
    title = escape(caption)
    return (
        f'<div class="tableau" role="region" aria-label="{escape(caption, quote=True)}" tabindex="0"><table><caption>{title}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def figure(drawn: str, caption: str, kind: str = "") -> str:
    """A drawing that carries its own alternative text, with its legend if it has one, and its caption."""
    style = f' class="{kind}"' if kind else ""
    return f"<figure{style}>{drawn}<figcaption>{escape(caption)}</figcaption></figure>"


def grid(*blocks: str) -> str:
    """Figures side by side where there is room."""
    return f'<div class="figures">{"".join(blocks)}</div>'


def answers(cards: Sequence[tuple[str, str, str]]) -> str:
    """The answers of an intervention side by side: (question, state, sentence) each."""
    return '<ul class="reponses">' + "".join(
        f"<li><h3>{escape(question)}</h3><p><strong>{state(what)}</strong></p><p>{escape(sentence(text))}</p></li>" for question, what, text in cards
    ) + "</ul>"  # fmt: skip


# Names of variables that rules write, in a reader's words (INSEE's categories of communes in an attraction area).
MOTS = {
    "log_population": "population", "log_revenu": "revenu", "log_prix": "prix", "aav_categorie 11": "part de communes-centres",
    "aav_categorie 12": "part de communes de pôle principal", "aav_categorie 13": "part de communes de pôle secondaire",
    "aav_categorie 20": "part de communes de couronne", "aav_categorie 30": "part de communes hors attraction des villes",
    "indicateur en": "niveau de l'indicateur en",
}  # fmt: skip
_MOTS = re.compile("|".join(map(re.escape, MOTS)))


def plain(text: str) -> str:
    """The same words with variables named as a reader would."""
    return _MOTS.sub(lambda found: MOTS[found.group()], text)


def sentence(text: str) -> str:
    """A rule's words as a sentence: plain names, a capital, a full stop, and figures of thousands parted."""
    text = plain(text)
    text = re.sub(r"(?<![\d,\u202f])\d{5,}(?![\d,])", lambda found: number(int(found.group())), text)
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


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
    name: str = ""  # file of this page below the root, marked as current in the navigation
    nav: Sequence[tuple[str, str]] = (
        ("index.html", "Sommaire"), ("tableau_de_bord.html", "Tableau de bord"), ("index.html#interventions", "Interventions"),
        ("index.html#territoires", "Territoires"), ("sur_mesure.html", "Sur-mesure"), ("qualite_et_methode.html", "Qualité et méthode"),
        ("dictionnaire/index.html", "Dictionnaire"),
    )  # fmt: skip

    def add(self, *blocks: str) -> Page:
        self.blocks += [block for block in blocks if block]
        return self

    def body(self) -> str:
        """The mark, the title, the release and the blocks."""
        from notebooks.kit.figures import TRAMES

        mark = '<p class="demonstration">Données de démonstration : aucun chiffre de cette page n\'est réel.</p>' if self.demonstration else ""
        shown = f'<p class="note">Publication {escape(self.release_id)} du {day(self.created)}.</p>'
        return f"{TRAMES if 'url(#trame-' in ''.join(self.blocks) else ''}{mark}<h1>{escape(self.title)}</h1>{shown}{''.join(self.blocks)}"

    def live(self) -> str:
        """The same inside a live notebook, whose own style stays out of it."""
        style = STYLE.replace(":root{", ":scope{", 1).replace("html{", ":scope{")
        return f'<div lang="fr"><style>@scope{{{style}}}</style>{self.body()}</div>'

    def html(self) -> str:
        """The whole self-contained document."""
        current = ' aria-current="page"'
        links = "".join(
            f'<li><a href="{self.root}/{target}"{current if target == self.name else ""}>{escape(text)}</a></li>' for target, text in self.nav
        )
        cited = f"<p>Sources de cette page :</p>{items(self.sources)}" if self.sources else ""
        return (
            '<!doctype html><html lang="fr"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'
            f"<title>{escape(self.title)} – Dernier kilomètre</title><style>{STYLE}</style></head><body>"
            '<a class="evitement" href="#contenu">Aller au contenu</a>'
            f'<header><p class="nom">Dernier kilomètre</p><p class="publication">Ce que change chaque intervention de l\'ANCT</p>'
            f'<nav aria-label="Pages"><ul>{links}</ul></nav></header><main id="contenu">{self.body()}</main>'
            f"<footer><p>Tous les chiffres viennent de la publication {escape(self.release_id)}.</p>{cited}"
            "<p>Licence Ouverte 2.0 sauf mention contraire ; chaque source garde sa licence et sa citation.</p></footer></body></html>"
        )

    def write(self, path: Path) -> int:
        """Writes the page; returns its size in bytes."""
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.write_bytes(self.html().encode())
