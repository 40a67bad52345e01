"""Workbooks for people: the template that they fill in, and the annotated copy that tells them what to mend.

Cells are written as strings whatever they hold: nothing that a person typed becomes a formula or a link.
"""

from __future__ import annotations

import datetime as dt
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ingestion.records.check import ANNEE_MAX, ANNEE_MIN
from ingestion.records.files import letter
from ingestion.records.layout import ANOMALIES, EXTRAIT, LISTES, MODE_EMPLOI, header, indicators, interventions, kinds

if TYPE_CHECKING:
    import polars as pl
    from xlsxwriter.format import Format
    from xlsxwriter.workbook import Workbook
    from xlsxwriter.worksheet import Worksheet

    from ingestion.declarations import Column, Source
    from ingestion.records.files import Sheet

LIGNES_SAISIE = 5000
LIGNES_CLASSEUR = 1_048_576
CELLULES_MAX = 1_000_000  # above it the copy would take minutes to write and to open: it shows wrong rows only
EXTRAIT_MAX = 5000  # wrong rows of such an extract
ANOMALIES_MAX = 20_000
COMMENTAIRES_MAX = 5000
CELLULE_MAX = 32_000  # characters that a cell can hold

TYPES = {
    "texte": "texte", "entier": "nombre entier", "nombre": "nombre", "date": "date", "booleen": "oui ou non",
    "code": "code (texte)", "code_departement": "code de département (texte)",
}  # fmt: skip
# Built-in formats of spreadsheets, by number: each shows them in the way of its country.
TEXTE, FORMATS = 49, {"date": 14, "entier": 1, "nombre": 0}
BLEU, BLEU_PALE, ORANGE, ROUGE = "#1F3864", "#5B7BA8", "#9C5700", "#FFC7CE"
NON_GARDEE = "Donnée personnelle : lue pour le contrôle, puis jetée ; elle n'est ni conservée ni publiée."
PSEUDONYME = (
    "Donnée personnelle : remplacée à l'arrivée par un pseudonyme (condensat à clé) qui ne dit pas le nom ; le nom n'est ni "
    "conservé ni publié."
)


def _writer(path: Path) -> Workbook:
    import xlsxwriter

    book = xlsxwriter.Workbook(
        str(path), {"constant_memory": True, "strings_to_formulas": False, "strings_to_urls": False, "strings_to_numbers": False}
    )
    # No clock and no name: the same template gives the same bytes.
    book.set_properties({"title": "Relevés internes", "company": "ANCT", "created": dt.datetime(2020, 1, 1)})
    return book


@dataclass
class _Styles:
    """Formats of one workbook, made once each."""

    book: Workbook
    made: dict[tuple[Any, ...], Format] = field(default_factory=dict)

    def get(self, **facts: Any) -> Format:
        key = tuple(sorted(facts.items()))
        if key not in self.made:
            self.made[key] = self.book.add_format({"font_name": "Calibri", "font_size": 11, "valign": "top", **facts})
        return self.made[key]

    def title(self) -> Format:
        return self.get(bold=True, font_size=16, font_color=BLEU)

    def head(self, colour: str = BLEU) -> Format:
        return self.get(bold=True, font_color="#FFFFFF", bg_color=colour, text_wrap=True, border=1, valign="vcenter", num_format=TEXTE)

    def cell(self, column: Column | None, wrong: bool = False) -> Format:
        """The format of an unlocked data cell. A code is text, or a spreadsheet would drop its leading zeros."""
        facts: dict[str, Any] = {"locked": False, "num_format": FORMATS.get(column.meta.type, TEXTE) if column else TEXTE}
        if wrong:
            facts |= {"bg_color": ROUGE, "border": 1, "border_color": "#C00000"}
        return self.get(**facts)


@dataclass
class _Lists:
    """The lists of the drop-downs, in the sheet « Listes »: header, values, and what each value means."""

    columns: list[tuple[str, list[str]]] = field(default_factory=list)
    ranges: dict[tuple[str, ...], str] = field(default_factory=dict)

    def add(self, name: str, values: Iterable[str], meanings: Iterable[str] | None = None) -> str:
        """Formula of the range that holds these values; equal lists share one."""
        values = tuple(values)
        if values not in self.ranges:
            where = letter(len(self.columns))
            self.ranges[values] = f"='{LISTES}'!${where}$2:${where}${len(values) + 1}"
            self.columns.append((name, list(values)))
            if meanings is not None:
                self.columns.append((f"{name} : signification", list(meanings)))
        return self.ranges[values]

    def write(self, book: Workbook, sheet: Worksheet, styles: _Styles) -> None:
        for place, (name, values) in enumerate(self.columns):
            longest = max((len(v) for v in [name, *values]), default=10)
            sheet.set_column(place, place, min(70, longest + 3), styles.get(num_format=TEXTE))
        for place, (name, _) in enumerate(self.columns):
            sheet.write_string(0, place, name, styles.head())
        for row in range(max((len(values) for _, values in self.columns), default=0)):
            for place, (_, values) in enumerate(self.columns):
                if row < len(values):
                    sheet.write_string(row + 1, place, values[row], styles.get(num_format=TEXTE))
        sheet.freeze_panes(1, 0)
        sheet.protect()


def _height(cells: Iterable[str], widths: Iterable[float]) -> float:
    """Height in points of a row of wrapped cells: not every spreadsheet finds it by itself."""
    lines = [len(textwrap.wrap(cell, max(8, int(width)))) for cell, width in zip(cells, widths, strict=True)]
    return 15.0 * min(25, max(1, *lines))


def _short(text: str, size: int) -> str:
    return text if len(text) <= size else text[: size - 1].rstrip() + "…"


def _validation(column: Column, lists: _Lists, intervention: str | None) -> dict[str, Any] | None:
    """The data validation of one column: what a spreadsheet lets in, and what it says."""
    saisie, kind = column.meta.saisie, column.meta.type
    assert saisie is not None
    rule: dict[str, Any]
    label = header(column)
    if saisie.valeurs:
        rule = {"validate": "list", "source": lists.add(label, saisie.valeurs)}
    elif kind == "booleen":
        rule = {"validate": "list", "source": lists.add("Oui ou non", ("oui", "non"))}
    elif saisie.reference == "intervention":
        names = {k: v for k, v in interventions().items() if intervention in (None, k)}
        rule = {"validate": "list", "source": lists.add("Intervention", names, names.values())}
    elif saisie.reference == "indicateur":
        labels = indicators(intervention)
        rule = {"validate": "list", "source": lists.add("Indicateur", labels, labels.values())}
    elif kind == "code_departement":
        rule = {"validate": "list", "source": lists.add("Code du département", _departements())}
    elif kind == "date":
        rule = {
            "validate": "date", "criteria": "between", "minimum": dt.date(ANNEE_MIN, 1, 1), "maximum": dt.date(ANNEE_MAX, 12, 31),
        }  # fmt: skip
    elif kind in ("entier", "nombre"):
        low = saisie.min if saisie.min is not None else -1e15
        high = saisie.max if saisie.max is not None else 1e15
        whole = kind == "entier"
        rule = {
            "validate": "integer" if whole else "decimal", "criteria": "between",
            "minimum": int(low) if whole else low, "maximum": int(high) if whole else high,
        }  # fmt: skip
    elif kind == "code":
        rule = {"validate": "length", "criteria": "between", "minimum": 1, "maximum": 64}
    elif not column.meta.personnelle:
        rule = {"validate": "length", "criteria": "between", "minimum": 1, "maximum": 300}
    else:
        rule = {"validate": "any"}
    what = "Obligatoire. " if saisie.obligatoire else ""
    what += saisie.aide or column.description
    if column.meta.personnelle:
        what = "Donnée personnelle, jamais conservée. " + what
    example = f" Exemple : {saisie.exemple}" if saisie.exemple else ""
    return rule | {
        "input_title": _short(label, 32), "input_message": _short(what, 255 - len(example)) + example,
        "error_title": "Valeur refusée", "error_type": "stop",
        "error_message": _short(f"{label} : {_allowed(column)}.{example}", 255),
    }  # fmt: skip


def _departements() -> list[str]:
    from ingestion.records.known import territories

    zones = territories(None)
    return sorted(zones.filter(zones["niveau"] == "departement")["code"].unique().to_list())


def _allowed(column: Column) -> str:
    """What may be written in a column, in French."""
    saisie, kind = column.meta.saisie, column.meta.type
    assert saisie is not None
    if saisie.valeurs:
        return ", ".join(saisie.valeurs)
    if saisie.reference == "intervention":
        return f"un des {len(interventions())} identifiants d'intervention (feuille « {LISTES} »)"
    if saisie.reference == "indicateur":
        return f"un identifiant d'indicateur du catalogue (feuille « {LISTES} »)"
    if saisie.reference == "territoire":
        return "le code officiel d'un territoire du niveau indiqué, dans le département"
    if saisie.reference and "." in saisie.reference:
        other, name = saisie.reference.split(".")
        source = kinds()[other]
        label = next(header(c) for c in source.columns if c.name == name)
        return f"un « {label} » de la feuille « {source.meta.titre} », du même fichier ou déjà transmis"
    if kind == "booleen":
        return "oui, non"
    if kind == "date":
        return f"JJ/MM/AAAA ou AAAA-MM-JJ, de {ANNEE_MIN} à {ANNEE_MAX}"
    if kind in ("entier", "nombre"):
        limits = (("au moins", saisie.min), ("au plus", saisie.max))
        return ", ".join([TYPES[kind], *(f"{word} {bound:g}" for word, bound in limits if bound is not None)])
    if kind == "code":
        return "64 caractères au plus : lettres sans accent, chiffres, . - / _, sans espace"
    if kind == "code_departement":
        return "code officiel du département, zéro de tête compris"
    return "texte libre" if column.meta.personnelle else "texte de 300 caractères au plus, sans nom ni coordonnées"


def _colour(column: Column) -> str:
    saisie = column.meta.saisie
    if column.meta.personnelle:
        return ORANGE
    return BLEU if saisie and saisie.obligatoire else BLEU_PALE


def _prepare(
    sheet: Worksheet, columns: dict[int, Column], last: int, top: int, styles: _Styles, lists: _Lists, intervention: str | None
) -> None:
    """Widths, formats, validations, frozen header and protection of a sheet of records; ``top`` is the header's row from 0."""
    for place, column in columns.items():
        catalogue = column.meta.saisie and column.meta.saisie.reference in ("intervention", "indicateur")
        sheet.set_column(place, place, min(36, max(28 if catalogue else 14, len(header(column)) * 0.8)), styles.cell(column))
        rule = _validation(column, lists, intervention)
        if rule:
            sheet.data_validation(top + 1, place, last, place, rule)
    sheet.freeze_panes(top + 1, 0)
    sheet.set_landscape()
    sheet.fit_to_pages(1, 0)
    sheet.repeat_rows(top)
    # Only the header is locked, and without a password: it prevents slips, not wills.
    sheet.protect(
        "", {"format_cells": True, "format_columns": True, "format_rows": True, "insert_rows": True, "delete_rows": True,
             "sort": True, "autofilter": True},
    )  # fmt: skip


# --- template ---------------------------------------------------------------------------------------------------


def write_template(path: Path, names: list[str], intervention: str | None = None) -> None:
    """Writes the XLSX template of some kinds of records: how to fill it in, one sheet per kind, and the lists.

    With ``intervention`` (an id of the catalogue), its drop-downs offer that intervention and its indicators only.
    Raises KeyError for an unknown kind, OSError when the file cannot be written.
    """
    book = _writer(path)
    styles, lists = _Styles(book), _Lists()
    guide = book.add_worksheet(MODE_EMPLOI)
    sheets = {name: book.add_worksheet(kinds()[name].meta.titre) for name in names}
    last = book.add_worksheet(LISTES)
    _write_guide(guide, [kinds()[name] for name in names], intervention, styles)
    for name, sheet in sheets.items():
        columns = dict(enumerate(kinds()[name].saisies))
        _prepare(sheet, columns, LIGNES_SAISIE, 0, styles, lists, intervention)
        sheet.set_row(0, 48)
        for place, column in columns.items():
            sheet.write_string(0, place, header(column), styles.head(_colour(column)))
    lists.write(book, last, styles)
    guide.activate()
    _close(book)


def _close(book: Workbook) -> None:
    from xlsxwriter.exceptions import FileCreateError

    try:
        book.close()
    except FileCreateError as error:
        cause = error.args[0] if error.args and isinstance(error.args[0], OSError) else OSError(str(error))
        raise cause from error


def _write_guide(sheet: Worksheet, sources: list[Source], intervention: str | None, styles: _Styles) -> None:
    wide, text, strong = styles.get(), styles.get(text_wrap=True, border=1, border_color="#BFBFBF"), styles.get(bold=True)
    widths = (30, 12, 24, 44, 30, 44, 60)
    for place, width in enumerate(widths):
        sheet.set_column(place, place, width)
    lines: list[tuple[str, Format]] = [("Relevés internes : mode d'emploi", styles.title())]
    if intervention:
        lines.append((f"Modèle pour : {interventions()[intervention]} ({intervention})", strong))
    lines += [
        ("", wide),
        ("À quoi sert ce classeur", strong),
        ("Il recueille ce que seule l'ANCT et ses délégués territoriaux savent : une feuille par type de relevé.", wide),
        ("", wide),
        ("Comment le remplir", strong),
        ("1. Une ligne par élément, sous l'en-tête. Ne pas renommer les colonnes ; leur ordre est libre, une feuille inutile peut rester vide.", wide),
        ("2. Bleu foncé : obligatoire. Bleu clair : facultatif ; laisser vide ce qui n'est pas connu, ne pas écrire 0 à la place.", wide),
        ("3. Orange : donnée personnelle. Elle sert au contrôle et à l'échange, puis elle est jetée : l'entrepôt n'en garde rien.", wide),
        ("4. Les codes sont du texte : garder le zéro de tête (08, 08105). Les listes déroulantes donnent les valeurs admises.", wide),
        ("5. Enregistrer en .xlsx, .ods, .csv ou .parquet, vérifier par « dk records check FICHIER », corriger, puis déposer.", wide),
        ("6. Un fichier du même nom remplace l'envoi précédent. Les lignes justes sont prises, les fausses reviennent avec leur motif ;", wide),
        ("    au-delà de "
         f"{max(s.meta.attendus.rejets_part_max for s in sources):.0%}".replace("%", " %")
         + " de lignes fausses dans une feuille, tout le fichier est refusé.", wide),
    ]  # fmt: skip
    row = 0
    for line, style in lines:
        if style is lines[0][1]:
            sheet.set_row(row, 24)
        sheet.write_string(row, 0, line, style)
        row += 1
    heads = ("Colonne", "À remplir", "Type", "Valeurs admises", "Exemple", "Donnée personnelle ?", "Ce qu'elle dit")
    for source in sources:
        row += 1
        sheet.write_string(row, 0, f"Feuille « {source.meta.titre} »", styles.get(bold=True, font_size=13, font_color=BLEU))
        sheet.write_string(row + 1, 0, source.description.strip(), wide)
        sheet.write_string(row + 2, 0, f"Une ligne : {source.meta.grain}.", wide)
        row += 3
        for place, head in enumerate(heads):
            sheet.write_string(row, place, head, styles.head())
        for column in source.saisies:
            row += 1
            saisie = column.meta.saisie
            assert saisie is not None
            personal = (PSEUDONYME if column.meta.pseudonyme else NON_GARDEE) if column.meta.personnelle else "non"
            unit = f" ({column.meta.unite})" if column.meta.unite else ""
            cells = (
                header(column), "obligatoire" if saisie.obligatoire else "facultatif", TYPES[column.meta.type] + unit,
                _allowed(column), saisie.exemple, personal, " ".join(filter(None, (column.description, saisie.aide))),
            )  # fmt: skip
            sheet.set_row(row, _height(cells, widths))
            for place, cell in enumerate(cells):
                sheet.write_string(row, place, cell, text)
        row += 1
    sheet.set_landscape()
    sheet.fit_to_pages(1, 0)
    sheet.hide_gridlines(2)
    sheet.protect()


# --- annotated copy ---------------------------------------------------------------------------------------------


def write_annotated(path: Path, sheets: list[Sheet], anomalies: dict[str, pl.DataFrame]) -> None:
    """Writes what a person sent, cell for cell, wrong cells in red with a comment, after a list of all that is wrong.

    ``anomalies``: kind → the frame of ``Checked``. Mended and saved, the copy can be sent as is: lines and columns stand
    where they stood. A file too large for that gives the wrong rows only, in sheets that are refused if sent back. Raises
    OSError when the file cannot be written.
    """
    book = _writer(path)
    styles, lists = _Styles(book), _Lists()
    listing = book.add_worksheet(ANOMALIES)
    cells = sum(sheet.frame.height * sheet.frame.width for sheet in sheets)
    extract = cells > CELLULES_MAX
    titles = {sheet.kind: _sheet_name(sheet.kind, extract) for sheet in sheets}
    tabs = {sheet.kind: book.add_worksheet(titles[sheet.kind]) for sheet in sheets}
    last = book.add_worksheet(LISTES)
    views = {sheet.kind: _View.of(sheet, anomalies.get(sheet.kind), extract) for sheet in sheets}
    _write_listing(listing, views, titles, extract, styles)
    room = COMMENTAIRES_MAX
    for kind, tab in tabs.items():
        room -= _write_rows(tab, views[kind], room, styles, lists)
    lists.write(book, last, styles)
    listing.activate()
    _close(book)


def _sheet_name(kind: str, extract: bool) -> str:
    title = kinds()[kind].meta.titre
    return f"{EXTRAIT} {title}"[:31] if extract else title


@dataclass
class _View:
    """A table as it is shown: its rows, the row from 0 of each, and where each column stands."""

    sheet: Sheet
    anomalies: pl.DataFrame
    frame: pl.DataFrame
    rows: list[int]
    places: dict[str, int]
    top: int

    @classmethod
    def of(cls, sheet: Sheet, anomalies: pl.DataFrame | None, extract: bool) -> _View:
        import polars as pl

        if anomalies is None:
            anomalies = pl.DataFrame(schema={n: pl.String for n in ("colonne", "valeur", "motif", "remede")} | {"ligne": pl.Int64})
        frame = sheet.frame.with_columns(
            pl.Series(f"_autre_{place}", series) for place, (_, series) in sheet.autres.items()
        ).sort("_ligne")
        if extract:
            frame = frame.filter(pl.col("_ligne").is_in(anomalies["ligne"].unique().implode())).head(EXTRAIT_MAX)
        names = [c.name for c in kinds()[sheet.kind].saisies]
        places = dict(sheet.places) or {n: rank for rank, n in enumerate(n for n in names if n in frame.columns)}
        taken = {*places.values(), *sheet.autres}
        for name in names:  # a column that the file lacked may be the one to fill in
            if name not in places:
                place = next(p for p in range(len(taken) + 1) if p not in taken)
                places[name] = place
                taken.add(place)
        top = sheet.ligne_entete - 1
        lines = frame["_ligne"]
        in_place = not extract and (not len(lines) or (lines.min() > top + 1 and lines.max() <= LIGNES_CLASSEUR and not lines.is_duplicated().any()))
        rows = (lines - 1).to_list() if in_place else list(range(top + 1, top + 1 + len(lines)))
        return cls(sheet, anomalies, frame, rows, places, top)


def _write_listing(sheet: Worksheet, views: dict[str, _View], titles: dict[str, str], extract: bool, styles: _Styles) -> None:
    widths = (26, 8, 30, 9, 34, 56, 70)
    heads = ("Feuille", "Ligne", "Colonne", "Cellule", "Valeur", "Ce qui ne va pas", "Comment corriger")
    for place, width in enumerate(widths):
        sheet.set_column(place, place, width)
    total = sum(view.anomalies.height for view in views.values())
    sheet.set_row(0, 24)
    sheet.write_string(0, 0, f"{total} anomalie{'s' if total > 1 else ''} à corriger", styles.title())
    note = (
        "Fichier trop grand pour être recopié : seules des lignes fausses sont montrées. Corriger le fichier d'origine, non celui-ci."
        if extract
        else "Corriger les cellules en rouge dans les feuilles suivantes, enregistrer, et renvoyer ce classeur. Cette feuille n'est pas lue."
    )
    sheet.write_string(1, 0, note, styles.get(bold=True, font_color="#C00000" if extract else BLEU))
    for place, head in enumerate(heads):
        sheet.write_string(3, place, head, styles.head())
    text, row = styles.get(text_wrap=True, num_format=TEXTE), 4
    for kind, view in views.items():
        names = {column.name: header(column) for column in kinds()[kind].columns}
        where = dict(zip(view.frame["_ligne"].to_list(), view.rows, strict=True))
        columns = view.anomalies.select("ligne", "colonne", "valeur", "motif", "remede")
        for ligne, colonne, valeur, motif, remede in columns.head(max(0, ANOMALIES_MAX + 4 - row)).iter_rows():
            at = where.get(ligne)
            cell = f"{letter(view.places.get(colonne, 0))}{at + 1}" if at is not None else ""
            values = (titles[kind], str(ligne), names.get(colonne, "toute la ligne"), cell, valeur or "", motif, remede)
            sheet.set_row(row, _height(values, widths))
            for place, value in enumerate(values):
                sheet.write_string(row, place, value[:CELLULE_MAX], text)
            row += 1
    if total > row - 4:
        sheet.write_string(row, 0, f"… et {total - (row - 4)} autres, non listées ici", styles.get(bold=True))
    sheet.freeze_panes(4, 0)
    sheet.set_landscape()
    sheet.fit_to_pages(1, 0)


def _write_rows(tab: Worksheet, view: _View, room: int, styles: _Styles, lists: _Lists) -> int:
    """Writes the table of a view; returns how many comments it took of the ``room`` for them."""
    source = kinds()[view.sheet.kind]
    by_name = {column.name: column for column in source.saisies}
    columns = {place: by_name[name] for name, place in view.places.items()}
    last = max([view.top + LIGNES_SAISIE, *view.rows])
    _prepare(tab, columns, min(last, LIGNES_CLASSEUR - 1), view.top, styles, lists, None)
    tab.set_row(view.top, 48)
    heads = {place: (header(c), styles.head(_colour(c))) for place, c in columns.items()}
    heads |= {place: (name, styles.head("#7F7F7F")) for place, (name, _) in view.sheet.autres.items()}
    for place in sorted(heads):
        tab.write_string(view.top, place, *heads[place])
    told: dict[tuple[int, str | None], list[str]] = {}
    for ligne, colonne, motif, remede in view.anomalies.select("ligne", "colonne", "motif", "remede").iter_rows():
        told.setdefault((ligne, colonne), []).append(f"{motif[0].upper()}{motif[1:]}.\n→ {remede}")
    order: list[tuple[int, str | None, Column | None]] = [(place, column.name, column) for place, column in columns.items()]
    order += [(place, f"_autre_{place}", None) for place in view.sheet.autres]
    order = sorted(((p, n, c) for p, n, c in order), key=lambda item: item[0])
    names = view.frame.columns
    index = {name: names.index(name) for name in names}
    comments = 0
    fine = {place: styles.cell(column) for place, _, column in order}
    for row, values in zip(view.rows, view.frame.iter_rows(), strict=True):
        ligne = values[index["_ligne"]]
        whole = told.get((ligne, None))
        for rank, (place, name, column) in enumerate(order):
            value = values[index[name]] if name in index else None
            why = told.get((ligne, name))
            if whole and rank == 0:
                # A line that could not be cut stands whole in its first cell, for the person to cut.
                value, why = values[index["_brut"]] if "_brut" in index else value, [*(why or ()), *whole]
            if why:
                red = styles.cell(column, wrong=True)
                if value:
                    tab.write_string(row, place, value[:CELLULE_MAX], red)
                else:
                    tab.write_blank(row, place, None, red)
                if comments < room:
                    tab.write_comment(row, place, _short("\n".join(why), 1500), {"author": "dk records check", "x_scale": 2.2, "y_scale": 1.6})
                    comments += 1
            elif value:
                tab.write_string(row, place, value[:CELLULE_MAX], fine[place])
    return comments


