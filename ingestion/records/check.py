"""The door's judgement of one table of records: what is wrong, cell by cell, and the rows that may be kept.

``check`` works on text, column by column, so that a million rows cost seconds. Each anomaly names the line, the column,
the rule, what is wrong and how to mend it. Only ``valeur`` and ``remede`` may quote what a person typed; they go back to
that person and nowhere else. ``motif`` is made of constants and line numbers, and may be published.

Rules of one cell: obligatoire, type (forms of dates, numbers, yes/no, codes), valeurs, bornes, date_plausible, longueur,
donnee_personnelle, formule_en_erreur, courriel, telephone. Rules that look elsewhere: territoire_inconnu,
territoire_hors_departement, departement_inconnu, intervention_inconnue, indicateur_inconnu, reference_inconnue,
reference_rejetee, doublon, cle_deja_transmise, deux_departements, evenement_avant_demande, version_sans_precedente. The
rules over one row are those of the declaration (``regles``). ligne_illisible: a line of a CSV without the right fields.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ingestion.reading import CODE_PATTERNS
from ingestion.records import personal
from ingestion.records.files import ERREURS, MARGES
from ingestion.records.known import Known
from ingestion.records.layout import NIVEAU, header, key_of, kinds, normalise

if TYPE_CHECKING:
    import polars as pl

    from ingestion.declarations import Column, Regle, Source

__all__ = ["Checked", "Known", "canonical", "check"]

ANNEE_MIN, ANNEE_MAX = 2000, 2100
LONGUEUR_MAX = 300  # characters of a text that is kept
SUGGESTIONS_MAX = 2000  # distinct wrong values for which a near one is looked for
NON_CONSERVE = "(non conservé)"
CODE = r"^[0-9A-Za-z][0-9A-Za-z._/-]{0,63}$"
NOMBRE = r"^[+-]?[0-9]+(?:[.,][0-9]+)?(?:[eE][+-]?[0-9]{1,2})?$"
DATE_ISO = r"^([0-9]{4}-[0-9]{2}-[0-9]{2})(?:[ T][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]+)?)?Z?)?$"
DATE_FR = r"^([0-9]{1,2}/[0-9]{1,2}/[0-9]{4})$"
OUI, NON = ("oui", "o", "vrai", "true", "1"), ("non", "n", "faux", "false", "0")
SEPARATEUR = "\x1f"

MOTIFS_TYPE = {
    "entier": "n'est pas un nombre entier",
    "nombre": "n'est pas un nombre",
    "date": "n'est pas une date qui existe",
    "booleen": "n'est ni oui ni non",
    "code": "n'a pas la forme d'un identifiant",
}
REMEDES_TYPE = {
    "entier": "écrire un nombre entier en chiffres, sans unité ni texte",
    "nombre": "écrire un nombre en chiffres (12,5 ou 12.5), sans unité ni texte",
    "date": "écrire le jour entier, AAAA-MM-JJ ou JJ/MM/AAAA",
    "booleen": "écrire oui ou non, ou laisser vide si l'on ne sait pas",
    "code": "de 1 à 64 lettres sans accent, chiffres, points, tirets, barres obliques ou soulignés, sans espace",
}
Remede = str | Callable[[str], str]


@dataclass
class Checked:
    """The judgement of one table.

    ``rows``: the good rows, ``_ligne`` and the columns that may be kept, as canonical text (ISO dates, decimal points,
    oui/non), personal columns gone and pseudonyms made. ``anomalies``: ligne, colonne (declared name, null for a whole
    line), valeur (as typed), regle, motif, remede; several per line, in the order of lines and columns.
    """

    kind: str
    rows: pl.DataFrame
    anomalies: pl.DataFrame
    lignes: pl.Series

    @property
    def fausses(self) -> int:
        return len(self.lignes) - self.rows.height

    @property
    def refused(self) -> bool:
        """True when the share of wrong rows is above the declared one: nothing of the table is to be taken."""
        return self.fausses > kinds()[self.kind].meta.attendus.rejets_part_max * len(self.lignes)

    def sanitised(self) -> pl.DataFrame:
        """One row per input row, sorted by ``_ligne``: a good one as in ``rows``; of a wrong one only ``_ligne``, ``_motif``
        (all that is wrong), and the column and value of its first anomaly, that value only when it can tell nobody."""
        import polars as pl

        names = {column.name: header(column) for column in kinds()[self.kind].columns}
        quotable = [c.name for c in kinds()[self.kind].conservees]
        label = pl.col("colonne").replace_strict(names, default=None, return_dtype=pl.String)
        value = pl.col("valeur")
        harmless = (
            pl.col("colonne").is_in(quotable)
            & value.str.contains(r"^[0-9A-Za-z./,:+ -]{1,24}$") & value.str.contains("[0-9]")
            & ~pl.any_horizontal(value.str.contains(pattern) for pattern in personal.MOTIFS.values())
        )  # fmt: skip
        wrong = self.anomalies.group_by("ligne", maintain_order=True).agg(
            _motif=(pl.when(label.is_null()).then(pl.col("motif")).otherwise(label + " : " + pl.col("motif"))).unique(maintain_order=True),
            _colonne=pl.col("colonne").first(),
            _valeur=pl.when(value.is_null()).then(None).when(harmless).then(value).otherwise(pl.lit(NON_CONSERVE)).first(),
        )  # fmt: skip
        wrong = wrong.select(pl.col("ligne").alias("_ligne"), pl.col("_motif").list.join(" ; "), "_colonne", "_valeur")
        wrong = wrong.match_to_schema(_wrong_schema()).sort("_ligne")
        columns = [*(c.name for c in kinds()[self.kind].conservees), *_wrong_schema()]
        if not wrong.height:
            return self.rows.with_columns(pl.lit(None, pl.String).alias(n) for n in ("_motif", "_colonne", "_valeur")).select(columns)
        return pl.concat([self.rows, wrong], how="diagonal").select(columns).sort("_ligne")


def _wrong_schema() -> Any:
    import polars as pl

    return pl.Schema({"_ligne": pl.Int64, "_motif": pl.String, "_colonne": pl.String, "_valeur": pl.String})


# --- text to canonical text -------------------------------------------------------------------------------------


def _stripped(name: str) -> pl.Expr:
    """A cell without the blanks around it; null when nothing is left."""
    import polars as pl

    text = pl.col(name).str.strip_chars(MARGES)
    return pl.when(text != "").then(text)


def canonical(column: Column) -> pl.Expr:
    """The one way to write what a cell says, null where it is empty or not of the declared type.

    Numbers: a decimal point, no blank; dates: AAAA-MM-JJ, of any year; oui or non; texts: one blank between words.
    """
    import polars as pl

    kind, text = column.meta.type, _stripped(column.name)
    if kind in ("entier", "nombre"):
        number = text.str.replace_all(r"[\s\u{A0}\u{202F}\u{2009}]", "").str.strip_prefix("+")
        number = pl.when(number.str.contains(NOMBRE)).then(number.str.replace(",", ".", literal=True))
        # 12.50 is 12.5, and a spreadsheet's 8.0 is 8.
        plain = pl.when(number.str.contains(r"\.[0-9]*0+$")).then(number.str.replace(r"\.?0+$", "")).otherwise(number)
        if kind == "nombre":
            return plain
        return pl.when(plain.str.contains(r"^-?[0-9]{1,15}$")).then(plain.str.replace(r"^(-?)0+([0-9])", "${1}${2}"))
    if kind == "date":
        iso = text.str.extract(DATE_ISO).str.to_date("%Y-%m-%d", strict=False)
        french = text.str.extract(DATE_FR).str.to_date("%d/%m/%Y", strict=False)
        return pl.coalesce(iso, french).dt.to_string("%Y-%m-%d")
    if kind == "booleen":
        low = text.str.to_lowercase()
        return pl.when(low.is_in(OUI)).then(pl.lit("oui")).when(low.is_in(NON)).then(pl.lit("non"))
    if kind in CODE_PATTERNS:
        return pl.when(text.str.contains(CODE_PATTERNS[kind][0])).then(text)
    if kind == "code":
        return pl.when(text.str.contains(CODE)).then(text)
    # Typing aids write a curly apostrophe, and some systems letters and accents apart: the text is the same.
    text = text.str.replace_all(r"[\s\u{A0}\u{202F}]+", " ").str.replace_all("’", "'", literal=True)
    return text.str.normalize("NFC")


def _typed(column: Column) -> pl.Expr:
    """A canonical column in its type, for the rules over a row."""
    import polars as pl

    cell = pl.col(column.name)
    if column.meta.type == "date":
        return cell.str.to_date("%Y-%m-%d", strict=False)
    if column.meta.type == "entier":
        return cell.cast(pl.Int64, strict=False)
    if column.meta.type == "nombre":
        return cell.cast(pl.Float64, strict=False)
    if column.meta.type == "booleen":
        return cell == "oui"
    return cell


# --- anomalies --------------------------------------------------------------------------------------------------


class _Anomalies:
    """Anomalies of one table, gathered column by column. ``raw`` is the table as typed."""

    def __init__(self, raw: pl.DataFrame, source: Source) -> None:
        self.raw, self.parts = raw, []
        self.rank = {column.name: rank for rank, column in enumerate(source.columns)}

    def add(self, mask: pl.Series, colonne: str | None, regle: str, motif: str | pl.Series, remede: Remede | pl.Series) -> None:
        """One anomaly for each row where ``mask`` is true. Series of ``motif`` and ``remede`` are as long as the mask; a
        function gives the remedy of each distinct value as typed."""
        import polars as pl

        mask = mask.fill_null(False)
        if not mask.any():
            return
        here = mask.arg_true()
        value = self.raw[colonne].gather(here) if colonne else pl.Series([None] * len(here), dtype=pl.String)

        def column(what: Any) -> pl.Series:
            if isinstance(what, str):
                return pl.repeat(what, len(here), dtype=pl.String, eager=True)
            if callable(what):
                distinct = value.drop_nulls().unique()
                told = pl.Series([what(text) for text in distinct.to_list()], dtype=pl.String)
                return value.replace_strict(distinct, told, default=what(""), return_dtype=pl.String)
            return what.gather(here)

        self.parts.append(
            pl.DataFrame(
                {
                    "ligne": self.raw["_ligne"].gather(here), "colonne": pl.repeat(colonne, len(here), dtype=pl.String, eager=True),
                    "valeur": value, "regle": pl.repeat(regle, len(here), dtype=pl.String, eager=True), "motif": column(motif),
                    "remede": column(remede), "_rang": pl.repeat(self.rank.get(colonne, -1), len(here), dtype=pl.Int32, eager=True),
                }
            )
        )  # fmt: skip

    def at(self, colonne: str) -> pl.Series:
        """True for the rows that have an anomaly in a column."""
        import polars as pl

        lines = [part["ligne"] for part in self.parts if part["colonne"][0] == colonne]
        if not lines:
            return pl.repeat(False, self.raw.height, dtype=pl.Boolean, eager=True)
        return self.raw["_ligne"].is_in(pl.concat(lines).implode())

    def frame(self) -> pl.DataFrame:
        import polars as pl

        schema = {n: pl.Int64 if n == "ligne" else pl.String for n in ("ligne", "colonne", "valeur", "regle", "motif", "remede")}
        if not self.parts:
            return pl.DataFrame(schema=schema)
        return pl.concat(self.parts).sort("ligne", "_rang", maintain_order=True).drop("_rang").match_to_schema(schema)


def _meant(known: dict[str, str], fallback: str) -> Callable[[str], str]:
    """The remedy of a value that is not one of a list: the nearest one, by spelling. ``known``: value → its label."""
    by_name: dict[str, str] = {}
    for value, label in known.items():
        by_name.setdefault(normalise(label), value)
    by_name |= {normalise(value): value for value in known}
    asked = 0

    def remede(text: str) -> str:
        nonlocal asked
        asked += 1
        wanted = normalise(text)
        if wanted in by_name:
            return f"écrire « {by_name[wanted]} »"
        close = difflib.get_close_matches(wanted, list(by_name), n=1, cutoff=0.6) if wanted and asked <= SUGGESTIONS_MAX else []
        return f"vouliez-vous dire « {by_name[close[0]]} » ? {fallback}" if close else fallback

    return remede


# --- the check --------------------------------------------------------------------------------------------------


def check(kind: str, frame: pl.DataFrame, known: Known) -> Checked:
    """Judges one table of records: ``frame`` has text columns by declared name (absent ones are empty), ``_ligne`` and, for
    lines that could not be cut, ``_defaut`` and ``_brut``.

    Kinds sent together are to be checked in the order of ``kinds()``, with one ``known``: rows found wrong here can no
    longer be referred to by the next. Raises KeyError for an unknown kind.
    """
    import polars as pl

    source = kinds()[kind]
    lignes = frame["_ligne"]
    torn = None
    if "_defaut" in frame.columns:
        torn = frame.filter(pl.col("_defaut").is_not_null())
        frame = frame.filter(pl.col("_defaut").is_null())
    absent = [c.name for c in source.saisies if c.name not in frame.columns]
    raw = frame.with_columns(pl.lit(None, pl.String).alias(name) for name in absent)
    found = _Anomalies(raw, source)
    cells: dict[str, pl.Series] = {}
    for column in source.saisies:
        value = _check_cells(column, raw, found)
        if not column.meta.personnelle:
            cells[column.name] = value
    table = pl.DataFrame([raw["_ligne"], *(series.alias(name) for name, series in cells.items())])
    for column in source.saisies:
        if not column.meta.personnelle:
            _check_reference(column, table, known, found)
    _check_territory(source, table, known, found)
    _check_key(source, table, known, found)
    _check_dates_of_requests(kind, table, known, found)
    _check_versions(kind, table, known, found)
    _check_rules(source, table, found)
    anomalies = found.frame()
    if torn is not None and torn.height:
        anomalies = pl.concat([anomalies, _torn(torn)]).sort("ligne", maintain_order=True)
    good = ~table["_ligne"].is_in(anomalies["ligne"].unique().implode())
    rows = table.filter(good)
    del table, cells  # of a million rows, each copy is a good part of the memory
    for column in source.saisies:
        if column.meta.pseudonyme:
            names = raw.select(_stripped(column.name)).to_series().filter(good)
            rows = rows.with_columns(personal.pseudonym(names, known.cle).alias(f"{column.name}_pseudonyme"))
    rows = rows.select("_ligne", *(c.name for c in source.conservees))
    if not rows["_ligne"].is_sorted():
        rows = rows.sort("_ligne")
    known.retain(kind, rows["_ligne"])
    return Checked(kind, rows, anomalies, lignes)


def _torn(torn: pl.DataFrame) -> pl.DataFrame:
    import polars as pl

    return torn.select(
        ligne="_ligne", colonne=pl.lit(None, pl.String), valeur="_brut", regle=pl.lit("ligne_illisible"), motif="_defaut",
        remede=pl.lit("mettre entre guillemets la valeur qui contient le séparateur, ou envoyer un classeur .xlsx"),
    )  # fmt: skip


def _check_cells(column: Column, raw: pl.DataFrame, found: _Anomalies) -> pl.Series:
    """Rules of one column by itself; returns its canonical values, null where they are wrong."""
    import polars as pl

    name, meta, saisie = column.name, column.meta, column.meta.saisie
    assert saisie is not None
    # What is thrown away needs no canonical form.
    text, value = raw.select(
        _stripped(name).alias("a"), (_stripped(name) if meta.personnelle else canonical(column)).alias("b")
    ).get_columns()
    if saisie.obligatoire:
        found.add(text.is_null(), name, "obligatoire", "cette cellule est obligatoire, elle est vide", _fill(column))
    if text.is_null().all():
        return value
    broken = text.str.contains(ERREURS)
    if broken.any():
        found.add(
            broken, name, "formule_en_erreur", "la formule de cette cellule est en erreur, ou sa valeur n'est pas enregistrée",
            "écrire la valeur à la place de la formule, ou réparer celle-ci et enregistrer depuis le tableur",
        )  # fmt: skip
        text, value = text.set(broken, None), value.set(broken, None)
    if meta.personnelle:
        _check_contact(name, text, found)
        return value
    wrong = text.is_not_null() & value.is_null()
    if meta.type in ("texte", "code", "entier", "nombre") and not saisie.valeurs:
        for what, pattern in personal.MOTIFS.items():
            told = text.str.contains(pattern)
            found.add(
                told, name, "donnee_personnelle", f"cette cellule contient {what} : une donnée personnelle n'a pas sa place ici",
                "la retirer ; les noms et coordonnées ont leurs propres colonnes, qui ne sont pas conservées",
            )  # fmt: skip
            # It is wrong enough: no other rule quotes it.
            wrong, value = wrong & ~told.fill_null(False), value.set(told.fill_null(False), None)
    if wrong.any():
        motif = MOTIFS_TYPE.get(meta.type) or CODE_PATTERNS[meta.type][1]
        found.add(wrong, name, "type", motif, _remede_type(column))
    if meta.type == "date":
        year = value.str.slice(0, 4).cast(pl.Int32)
        odd = (year < ANNEE_MIN) | (year > ANNEE_MAX)
        found.add(
            odd, name, "date_plausible", f"date hors de la période admise ({ANNEE_MIN} à {ANNEE_MAX})",
            "vérifier l'année, écrite sur quatre chiffres",
        )  # fmt: skip
    if saisie.valeurs:
        outside = value.is_not_null() & ~value.is_in(list(saisie.valeurs))
        choices = f"choisir dans la liste : {', '.join(saisie.valeurs)}"
        found.add(outside, name, "valeurs", "valeur hors de la liste", _meant({v: v for v in saisie.valeurs}, choices))
        value = value.set(outside, None)
    elif meta.type == "texte":
        long = value.str.len_chars() > LONGUEUR_MAX
        found.add(long, name, "longueur", f"texte de plus de {LONGUEUR_MAX} caractères", "le raccourcir")
    if meta.type in ("entier", "nombre") and (saisie.min is not None or saisie.max is not None):
        number = value.cast(pl.Float64, strict=False)
        low = number < saisie.min if saisie.min is not None else pl.repeat(False, len(number), dtype=pl.Boolean, eager=True)
        high = number > saisie.max if saisie.max is not None else pl.repeat(False, len(number), dtype=pl.Boolean, eager=True)
        limits = _limits(saisie.min, saisie.max)
        found.add(low | high, name, "bornes", f"nombre hors des bornes ({limits})", f"écrire un nombre {limits}")
        value = value.set((low | high).fill_null(False), None)
    return value


def _limits(low: float | None, high: float | None) -> str:
    if low is None:
        return f"au plus égal à {high:g}"
    return f"de {low:g} à {high:g}" if high is not None else f"au moins égal à {low:g}"


def _fill(column: Column) -> str:
    saisie = column.meta.saisie
    assert saisie is not None
    if saisie.valeurs:
        return f"choisir dans la liste : {', '.join(saisie.valeurs)}"
    return f"la remplir, par exemple « {saisie.exemple} »" if saisie.exemple else "la remplir"


def _remede_type(column: Column) -> Remede:
    """How to mend a cell that is not of its type, by what it looks like."""
    kind = column.meta.type

    def remede(text: str) -> str:
        text = text.strip(MARGES)
        if kind == "date":
            if re.fullmatch(r"[34][0-9]{4}(\.[0-9]+)?", text):
                return "c'est le numéro interne d'un jour : mettre la cellule au format Date, ou " + REMEDES_TYPE["date"]
            if re.fullmatch(r"[0-9]{1,2}[/.-][0-9]{1,2}[/.-][0-9]{2}", text):
                return "l'année a quatre chiffres : " + REMEDES_TYPE["date"]
        if kind in ("entier", "nombre"):
            bare = re.sub(r"[^0-9,.-]", "", text)
            if re.fullmatch(NOMBRE, bare) and bare != text and kind == "nombre":
                return f"écrire « {bare} », l'unité est déjà dans l'en-tête"
            if kind == "entier" and re.fullmatch(NOMBRE, text):
                return "l'arrondir à l'entier"
        if kind == "code_departement" and re.fullmatch(r"[1-9]|2[ab]", text):
            return f"le zéro de tête s'est perdu : écrire « {text.zfill(2).upper()} » (cellule au format Texte)"
        if kind == "code" and re.search(r"\s", text):
            return "sans espace ; " + REMEDES_TYPE["code"]
        return REMEDES_TYPE.get(kind, "voir l'exemple du modèle") if kind not in CODE_PATTERNS else f"écrire par exemple « {_example(column)} »"

    return remede


def _example(column: Column) -> str:
    return column.meta.saisie.exemple if column.meta.saisie else ""


def _check_contact(name: str, text: pl.Series, found: _Anomalies) -> None:
    """A personal column is thrown away; an address or a number in it must still be one, or a column was shifted."""
    if name.endswith("_courriel"):
        found.add(
            ~text.str.contains(personal.COURRIEL_ENTIER), name, "courriel", "ce n'est pas une adresse électronique",
            "la corriger, ou vider la cellule : elle n'est pas conservée",
        )  # fmt: skip
    elif name.endswith("_telephone"):
        found.add(
            ~text.str.contains(personal.TELEPHONE_ENTIER), name, "telephone", "ce n'est pas un numéro de téléphone",
            "l'écrire 01 23 45 67 89 ou +33 1 23 45 67 89, ou vider la cellule : elle n'est pas conservée",
        )  # fmt: skip


# --- rules that look elsewhere ----------------------------------------------------------------------------------


def _check_reference(column: Column, table: pl.DataFrame, known: Known, found: _Anomalies) -> None:
    import polars as pl

    saisie, name = column.meta.saisie, column.name
    value = table[name]
    if column.meta.type == "code_departement":
        zones = known.territoires.filter(pl.col("niveau") == "departement")["code"]
        found.add(
            value.is_not_null() & ~value.is_in(zones.implode()), name, "departement_inconnu", "aucun département ne porte ce code",
            "écrire le code officiel du département : 01 à 95, 2A, 2B, 971 à 976",
        )  # fmt: skip
    reference = saisie.reference if saisie else None
    if reference in ("intervention", "indicateur"):
        names = known.interventions if reference == "intervention" else known.indicateurs
        regle = "intervention_inconnue" if reference == "intervention" else "indicateur_inconnu"
        motif = f"{'cette intervention n' if reference == 'intervention' else 'cet indicateur n'}'est pas au catalogue"
        unknown = value.is_not_null() & ~value.is_in(list(names))
        found.add(unknown, name, regle, motif, _meant(names, "choisir l'identifiant dans la liste du modèle"))
    elif reference and "." in reference:
        other = kinds()[reference.split(".")[0]].meta.titre
        accepted = known.lookup(reference)
        unknown = value.is_not_null() & ~value.is_in(accepted.implode())
        if not unknown.any():
            return
        refused = unknown & value.is_in(known.refused(reference).implode())
        found.add(
            refused, name, "reference_rejetee", f"la ligne citée, dans « {other} », est elle-même fausse",
            f"corriger d'abord la ligne de « {other} » qui porte cet identifiant",
        )  # fmt: skip
        found.add(
            unknown & ~refused, name, "reference_inconnue", f"cet identifiant n'est pas dans « {other} »",
            f"vérifier l'identifiant, ou envoyer la ligne de « {other} » dans le même fichier ou avant celui-ci",
        )  # fmt: skip


def _check_territory(source: Source, table: pl.DataFrame, known: Known, found: _Anomalies) -> None:
    """A code stands for a territory of the told level, and that territory lies in the département that sends the row."""
    import polars as pl

    name = next((c.name for c in source.saisies if c.meta.saisie and c.meta.saisie.reference == "territoire"), None)
    if name is None:
        return

    def joined(frame: pl.DataFrame, *columns: str) -> pl.Series:
        return frame.select(pl.concat_str(columns, separator="|")).to_series()

    zones = known.territoires
    place = joined(table, NIVEAU, name)
    there = place.is_in(joined(zones.select("niveau", "code").unique(), "niveau", "code").implode())
    unknown = place.is_not_null() & ~there
    if unknown.any():
        levels = dict(zones.group_by("code").agg(pl.col("niveau").unique().sort().str.join(", ")).iter_rows())

        def remede(text: str) -> str:
            text = text.strip(MARGES)
            if levels.get(text):
                return f"ce code est de niveau « {levels[text]} » : corriger le niveau ou le code"
            padded = "0" + text
            if padded in levels and re.fullmatch(r"[0-9]+", text):
                return f"le zéro de tête s'est perdu : écrire « {padded} » (cellule au format Texte)"
            return "vérifier le code officiel (COG de l'Insee, SIREN de l'EPCI, code du périmètre au catalogue), et son niveau"

        found.add(unknown, name, "territoire_inconnu", "aucun territoire de ce niveau ne porte ce code", remede)
    home = joined(table, NIVEAU, name, "departement_code")
    # A territory that lies in no known département (a perimeter yet without members) can be anybody's.
    located = zones.drop_nulls("departement_code")
    told = place.is_in(joined(located.select("niveau", "code").unique(), "niveau", "code").implode())
    outside = home.is_not_null() & told & ~home.is_in(joined(located, "niveau", "code", "departement_code").implode())
    outside &= ~found.at("departement_code")
    found.add(
        outside, name, "territoire_hors_departement", "ce territoire n'est pas dans le département qui transmet la ligne",
        "vérifier le code du territoire et celui du département",
    )  # fmt: skip


def _check_key(source: Source, table: pl.DataFrame, known: Known, found: _Anomalies) -> None:
    """Each key once: in the file (the first row is kept), and among what others sent."""
    import polars as pl

    key = key_of(source)
    joined = pl.concat_str(key, separator=SEPARATEUR)
    keys = table.select(joined).to_series()
    again = keys.is_not_null() & ~keys.is_first_distinct()
    convention = source.nom == "convention"
    if again.any():
        columns = [c.name for c in source.saisies if c.name in table.columns]
        # Texts apart from personal ones: what is never kept does not tell two rows apart.
        first = table.with_columns(_cle=keys).filter(pl.col("_cle").is_in(keys.filter(again).unique().implode()))
        first = first.unique("_cle", keep="first", maintain_order=True)
        pairs = table.with_columns(_cle=keys).filter(again).join(first, on="_cle", how="left", suffix="_1", maintain_order="left")
        same = pairs.select(pl.all_horizontal(pl.col(c).eq_missing(pl.col(f"{c}_1")) for c in columns if c not in key)).to_series()
        elsewhere = (pairs["departement_code"] != pairs["departement_code_1"]).fill_null(False) if convention else same & False
        line = pairs["_ligne_1"].cast(pl.String)
        rows = again.arg_true()

        def spread(series: pl.Series, empty: Any) -> pl.Series:
            return pl.repeat(empty, len(again), dtype=series.dtype, eager=True).scatter(rows, series)

        motif = pl.select(
            pl.when(same).then(pl.lit("ligne identique à la ligne ") + line)
            .otherwise(pl.lit("clé déjà écrite à la ligne ") + line + ", avec d'autres valeurs")
        ).to_series()  # fmt: skip
        remede = pl.select(
            pl.when(same).then(pl.lit("supprimer cette ligne"))
            .otherwise(pl.lit("donner un autre identifiant, ou ne garder que la bonne des deux lignes"))
        ).to_series()  # fmt: skip
        away = spread(elsewhere, False)
        found.add(again & ~away, key[-1], "doublon", spread(motif, ""), spread(remede, ""))
        found.add(
            away, "departement_code", "deux_departements", spread("autre département que la même convention à la ligne " + line, ""),
            "la même convention ne vient que d'un département : vérifier le code du département, ou l'identifiant de la convention",
        )  # fmt: skip
    sent = known.registre.get(source.nom)
    if sent is None or not sent.height:
        return
    sent = sent.select(_cle=joined, _departement="departement_code", _emetteur="_emetteur").unique("_cle", keep="first", maintain_order=True)
    met = pl.DataFrame({"_cle": keys, "_ici": table["departement_code"]}).join(sent, on="_cle", how="left", maintain_order="left")
    taken = met["_emetteur"].is_not_null()
    away = (taken & (met["_departement"] != met["_ici"])).fill_null(False) if convention else taken & False
    found.add(
        away, "departement_code", "deux_departements", "autre département que la même convention dans un fichier déjà admis",
        "la même convention ne vient que d'un département : vérifier le code du département, ou l'identifiant de la convention",
    )  # fmt: skip
    names = pl.select(
        pl.lit("retirer la ligne, ou donner un autre identifiant ; pour remplacer le fichier déjà admis, donner à celui-ci le même nom (")
        + met["_emetteur"] + ")"
    ).to_series()  # fmt: skip
    found.add(taken & ~away, key[-1], "cle_deja_transmise", "cette clé est déjà dans un autre fichier admis", names)


def _check_dates_of_requests(kind: str, table: pl.DataFrame, known: Known, found: _Anomalies) -> None:
    """An event does not come before the request it is a step of."""
    import polars as pl

    if kind != "evenement_demande":
        return
    frames = [f["demande_ingenierie"] for f in (known.fichier, known.registre) if "demande_ingenierie" in f]
    if not frames:
        return
    asked = pl.concat([f.select("demande_id", "date_demande") for f in frames if "date_demande" in f.columns])
    asked = asked.unique("demande_id", keep="first", maintain_order=True)
    met = table.select("demande_id", "date_evenement").join(asked, on="demande_id", how="left", maintain_order="left")
    # ISO dates sort as dates.
    found.add(
        met["date_evenement"] < met["date_demande"], "date_evenement", "evenement_avant_demande",
        "l'événement précède la demande", "vérifier la date de l'événement et celle de la demande",
    )  # fmt: skip


def _check_versions(kind: str, table: pl.DataFrame, known: Known, found: _Anomalies) -> None:
    """A version of a target above the first has the one before it, in the file or the register."""
    import polars as pl

    if kind != "objectif":
        return
    whose = ["indicateur_id", "territoire_niveau", "territoire_code"]
    frames = [table.select(*whose, "version")]
    if kind in known.registre:
        frames.append(known.registre[kind].select(*whose, "version"))
    present = pl.concat(frames).select(pl.concat_str(*whose, "version", separator=SEPARATEUR)).to_series().drop_nulls()
    number = table["version"].cast(pl.Int64, strict=False)
    previous = table.with_columns(_avant=(number - 1).cast(pl.String)).select(pl.concat_str(*whose, "_avant", separator=SEPARATEUR)).to_series()
    found.add(
        (number > 1) & previous.is_not_null() & ~previous.is_in(present.implode()), "version", "version_sans_precedente",
        "la version précédente de cet objectif n'existe pas", "numéroter les versions 1, 2, 3… et garder les anciennes lignes",
    )  # fmt: skip


class _Stream:
    """A Polars frame as DuckDB reads it without another library: by the Arrow C stream interface."""

    def __init__(self, frame: pl.DataFrame) -> None:
        self.frame = frame

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self.frame.__arrow_c_stream__(requested_schema)


def _check_rules(source: Source, table: pl.DataFrame, found: _Anomalies) -> None:
    """The declared rules over a row, by DuckDB. One whose column is already wrong in that row says nothing more."""
    import duckdb
    import polars as pl

    rules: tuple[Regle, ...] = source.meta.regles
    if not rules or not table.height:
        return
    text = " ".join(rule.condition for rule in rules)
    used = [c for c in source.conservees if c.name in table.columns and re.search(rf"\b{c.name}\b", text)]
    typed = table.select("_ligne", *(_typed(column).alias(column.name) for column in used))
    with duckdb.connect() as con:
        con.execute("set threads = 2")
        con.register("lignes", _Stream(typed))
        verdicts = pl.DataFrame(
            con.sql(f"select _ligne, {', '.join(f'({rule.condition}) as r{n}' for n, rule in enumerate(rules))} from lignes")
        )
    if verdicts["_ligne"].equals(table["_ligne"]) is False:
        verdicts = table.select("_ligne").join(verdicts, on="_ligne", how="left", maintain_order="left")
    for rank, rule in enumerate(rules):
        broken = ~verdicts[f"r{rank}"].fill_null(True)
        if broken.any():
            found.add(broken & ~found.at(rule.colonne), rule.colonne, rule.nom, rule.motif, rule.remede)
