"""Realistic mistakes: about two rows in a hundred of each kind, each with one fault that the door must see.

A bad row is a valid row under a fresh key, then spoiled, so that no clean row depends on it and it repeats no clean key
(unless repeating it is its fault). Which row has which fault is known to tests only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ingestion.demonstration.keyboard import addresses, names, telephones, typed
from ingestion.demonstration.world import Territoires, chance

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

    from ingestion.declarations import Column, Source

PART = 0.02
TYPES_FAUX = {
    "date": ("31/02/2023", "printemps 2022", "2021-13-01", "12.2022"),
    "nombre": ("environ 50", "cinquante mille", "12,5,0"),
    "entier": ("une trentaine", "12 ou 13", "8,5"), "booleen": ("à voir", "en cours", "1/2"),
}  # fmt: skip
HORS_LISTE = ("à préciser", "voir commentaire", "divers")
DEPARTEMENTS_FAUX = ("Ardennes", "099", "2C", "8")
DEPARTEMENTS_INCONNUS = ("20", "979")
INTERVENTIONS_FAUSSES = ("petite_ville_de_demain", "coeur_de_ville", "autre_programme")
DATES_IMPROBABLES = ("1902-05-17", "14/07/1989", "3022-01-10")
INDICATEUR = "population_municipale"  # any indicator of the catalogue
COMMUNES_FAUSSES = ("99999", "00000", "08999")


def _rules() -> dict[str, dict[str, Callable[[pl.DataFrame], pl.DataFrame]]]:
    """How to break each declared rule of a row: kind → rule → what is done to typed rows."""
    import datetime as dt

    import polars as pl

    def put(**columns: pl.Expr) -> Callable[[pl.DataFrame], pl.DataFrame]:
        return lambda rows: rows.with_columns(**columns)

    some = pl.lit(dt.date(2022, 6, 1))
    before = pl.lit(dt.date(2022, 3, 1))
    none = pl.lit(None, pl.Date)
    text = pl.lit(None, pl.String)
    return {
        "convention": {
            "fin_apres_signature": put(date_signature=some, date_fin=before, statut=pl.lit("achevée"), repris_par=text),
            "signature_datee": put(date_signature=none, statut=pl.lit("signée"), repris_par=text),
            "fusion_reprise": put(statut=pl.lit("fusionnée"), repris_par=text),
            "reprise_par_une_autre": put(statut=pl.lit("fusionnée"), repris_par=pl.col("convention_id")),
        },
        "action": {
            "achevement_apres_debut": put(statut=pl.lit("achevée"), date_debut=some, date_achevement=before),
            "achevement_date": put(statut=pl.lit("achevée"), date_achevement=none),
            "indicateur_chiffre": put(indicateur_id=pl.lit(INDICATEUR), quantite=pl.lit(None, pl.Float64)),
        },
        "engagement_financier": {
            "paye_sous_engage": put(montant_paye_eur=pl.col("montant_engage_eur") + 1_000),
            "paiement_apres_engagement": put(date_engagement=some, date_dernier_paiement=before),
        },
        "convention_operateur": {
            "reponse_apres_demande": put(date_demande=some, date_reponse=before, reponse=pl.lit("refusée")),
            "reponse_datee": put(date_reponse=none, reponse=pl.lit("acceptée")),
        },
        "formation": {
            "fin_apres_debut": put(date_debut=some, date_fin=before),
            "participants_sous_inscrits": put(participants=pl.col("inscrits") + 3),
            "petites_communes_sous_participants": put(participants_petites_communes=pl.col("participants") + 1),
        },
        "concertation": {
            "cloture_apres_ouverture": put(date_ouverture=some, date_cloture=before),
            "reponses_sous_recommandations": put(recommandations=pl.lit(8), reponses_motivees=pl.lit(9)),
            "realisees_sous_prevues": put(actions_prevues=pl.lit(4), actions_realisees_18m=pl.lit(6)),
        },
        "incubation": {"deliberation_apres_lancement": put(date_lancement=some, date_deliberation_ca=before)},
        "critere": {
            "favorable_sous_total": put(montant_favorable_eur=pl.col("montant_total_eur") + 500),
            "favorable_avec_total": put(montant_favorable_eur=pl.lit(500.0), montant_total_eur=pl.lit(None, pl.Float64)),
        },
        "objectif": {"cible_apres_initiale": put(date_initiale=some, date_cible=before)},
    }  # fmt: skip


def _fresh(
    kind: str, key: list[str], clean: pl.DataFrame, where: Territoires, rng: np.random.Generator, size: int
) -> pl.DataFrame:
    """``size`` valid rows like those of ``clean``, under keys that no clean row has."""
    import datetime as dt

    import polars as pl

    rows = clean[rng.integers(clean.height, size=size)]
    number = pl.int_range(1, pl.len() + 1)
    if kind == "objectif":
        # Clean targets are set for départements: those of regions are free.
        regions = where.departements.select("region_code", departement_code="code").unique(
            "region_code", keep="first", maintain_order=True
        )
        pairs = (
            clean.select("indicateur_id", "intervention_id")
            .unique(maintain_order=True)
            .join(regions, how="cross", maintain_order="left_right")
        )
        chosen = pairs[rng.permutation(pairs.height)[:size]]
        return rows.with_columns(
            chosen["indicateur_id"], chosen["intervention_id"], chosen["departement_code"], version=pl.lit(1, pl.Int64),
            territoire_niveau=pl.lit("region"), territoire_code=chosen["region_code"],
        )  # fmt: skip
    if kind == "evenement_demande":
        # Days that no clean event of the same request and type has: the world ends before them.
        return rows.with_columns(date_evenement=pl.lit(dt.date(2026, 1, 5)) + pl.duration(days=number))
    if kind == "critere":
        return rows.with_columns(critere=pl.col("critere") + "-X" + number.cast(pl.String))
    return rows.with_columns((pl.col(key[0]) + "-X" + number.cast(pl.String)).alias(key[0]))


def _families(kind: str, source: Source) -> dict[str, list[Column | None]]:
    """The faults that rows of a kind may have, each with the columns that may bear it (None: the row as a whole)."""
    found: dict[str, list[Column | None]] = {}

    def add(fault: str, column: Column | None) -> None:
        found.setdefault(fault, []).append(column)

    by_name = {column.name: column for column in source.columns}
    for rule in source.meta.regles:
        if rule.nom in _rules().get(kind, {}):
            add(f"regle:{rule.nom}", by_name[rule.colonne])
    for column in source.saisies:
        saisie, kind_of = column.meta.saisie, column.meta.type
        assert saisie is not None
        if column.meta.personnelle:
            for contact in ("courriel", "telephone"):
                if column.name.endswith(f"_{contact}"):
                    add(f"{contact}_faux", column)
            continue
        if saisie.obligatoire:
            add("obligatoire_vide", column)
        if kind_of in TYPES_FAUX:
            add("type_faux", column)
        if kind_of in ("entier", "nombre"):
            add("formule_en_erreur", column)
        if kind_of == "date":
            add("date_improbable", column)
        if kind_of == "code_departement":
            add("departement_invalide", column)
            add("departement_inconnu", column)
        if saisie.valeurs:
            add("hors_liste", column)
        if saisie.min is not None and kind_of in ("entier", "nombre"):
            add("hors_bornes", column)
        if saisie.reference == "territoire":
            add("territoire_inconnu", column)
            add("territoire_hors_departement", column)
        elif saisie.reference in ("intervention", "indicateur"):
            add({"intervention": "intervention_inconnue", "indicateur": "indicateur_inconnu"}[saisie.reference], column)
        elif saisie.reference:
            add("reference_inconnue", column)
            if not saisie.reference.startswith(f"{kind}."):
                add("reference_rejetee", column)
        if kind_of == "code":
            add("courriel_dans_code", column)
        if kind_of == "texte" and not saisie.valeurs and not saisie.reference:
            add("telephone_dans_texte", column)
            add("texte_long", column)
    add("cle_en_double", None)
    if kind == "convention":
        add("deux_departements", by_name["departement_code"])
    if kind == "evenement_demande":
        add("evenement_avant_demande", by_name["date_evenement"])
    if kind == "objectif":
        add("version_sans_precedente", by_name["version"])
    return found


def _plan(kind: str, source: Source, size: int) -> list[tuple[str, Column | None]]:
    """The fault of each bad row: all families in turn, and in turn the columns of each."""
    families = list(_families(kind, source).items())
    turns = (size + len(families) - 1) // len(families)
    return [(fault, columns[turn % len(columns)]) for turn in range(turns) for fault, columns in families][:size]


def _typed_fault(kind: str, fault: str, rows: pl.DataFrame, where: Territoires) -> pl.DataFrame:
    """Faults told on dates and numbers, before they are typed."""
    import datetime as dt

    import polars as pl

    homes = where.departements["code"].to_list()
    if fault.startswith("regle:"):
        return _rules()[kind][fault.removeprefix("regle:")](rows)
    if fault == "deux_departements":
        return rows.with_columns(
            departement_code=pl.col("departement_code").replace_strict(
                dict(zip(homes, homes[1:] + homes[:1], strict=True))
            )
        )
    if fault == "territoire_hors_departement":
        # A commune of the next département but five, far enough to share no border of an EPCI.
        far = dict(zip(homes, homes[5:] + homes[:5], strict=True))
        town = where.communes.group_by("departement_code", maintain_order=True).agg(_ailleurs=pl.col("code").first())
        there = rows.select(pl.col("departement_code").replace_strict(far)).join(
            town, on="departement_code", how="left", maintain_order="left"
        )
        return rows.with_columns(territoire_niveau=pl.lit("commune"), territoire_code=there["_ailleurs"])
    if fault == "evenement_avant_demande":
        return rows.with_columns(date_evenement=pl.lit(dt.date(2019, 6, 3)) + pl.duration(days=pl.int_range(pl.len())))
    if fault == "version_sans_precedente":
        return rows.with_columns(version=pl.lit(3, pl.Int64))
    return rows


def _text_fault(
    fault: str, column: Column, rows: pl.DataFrame, rng: np.random.Generator, rejected: dict[str, pl.Series]
) -> pl.DataFrame:
    """Faults of typing, on cells as text."""
    import polars as pl

    def one_of(values: tuple[str, ...]) -> pl.Series:
        return pl.Series(column.name, values).gather(rng.integers(len(values), size=rows.height))

    name, saisie = column.name, column.meta.saisie
    assert saisie is not None
    if fault == "obligatoire_vide":
        return rows.with_columns(pl.lit(None, pl.String).alias(name))
    if fault == "type_faux":
        return rows.with_columns(one_of(TYPES_FAUX[column.meta.type]))
    if fault == "hors_liste":
        return rows.with_columns(one_of(HORS_LISTE))
    if fault == "hors_bornes":
        high = (str(int(saisie.max) + 1),) if saisie.max is not None else ()
        return rows.with_columns(one_of((str(int(saisie.min or 0) - 5), *high)))
    if fault == "departement_invalide":
        return rows.with_columns(one_of(DEPARTEMENTS_FAUX))
    if fault == "territoire_inconnu":
        return rows.with_columns(one_of(COMMUNES_FAUSSES), territoire_niveau=pl.lit("commune"))
    if fault in ("intervention_inconnue", "indicateur_inconnu"):
        return rows.with_columns(one_of(INTERVENTIONS_FAUSSES))
    if fault == "departement_inconnu":
        return rows.with_columns(one_of(DEPARTEMENTS_INCONNUS))
    if fault == "date_improbable":
        return rows.with_columns(one_of(DATES_IMPROBABLES))
    if fault == "formule_en_erreur":
        return rows.with_columns(one_of(("#REF!", "#DIV/0!", "#N/A")))
    if fault in ("courriel_faux", "telephone_faux"):
        return rows.with_columns(one_of(("à demander", "voir secrétariat", "?")))
    if fault == "texte_long":
        return rows.with_columns(pl.lit("sous réserve des crédits votés au budget primitif, " * 8).alias(name))
    if fault == "reference_rejetee":
        assert saisie.reference is not None
        return rows.with_columns(
            rejected[saisie.reference]
            .gather(rng.integers(len(rejected[saisie.reference]), size=rows.height))
            .alias(name)
        )
    if fault == "reference_inconnue":
        return rows.with_columns(pl.concat_str(pl.col("departement_code"), pl.lit("-ZZ-999")).alias(name))
    if fault == "courriel_dans_code":
        return rows.with_columns(addresses(rng, names(rng, rows.height)).alias(name))
    if fault == "telephone_dans_texte":
        phone = telephones(rng, rows.height)
        return rows.with_columns(pl.concat_str(pl.lit("voir avec la mairie au "), phone).alias(name))
    return rows


def soil(
    seed: int, kind: str, source: Source, clean: pl.DataFrame, where: Territoires, rejected: dict[str, pl.Series]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(rows as typed, dirt) of one kind: columns of the template as text and ``_ligne`` (the header is line 1); dirt has
    kind, ligne, defaut, colonne, one row per bad row.

    ``rejected`` holds the identifiers of bad rows of the kinds before this one, which a bad row may cite, by
    ``<kind>.<column>``; those of this kind are added. A repeated key comes after the row that it repeats: the second one
    is wrong.
    """
    import polars as pl

    rng = chance(seed, f"erreurs {kind}")
    key = [name for name in source.meta.cle if not name.startswith("_")]
    size = max(round(clean.height * PART / (1 - PART)), len(source.meta.regles) + 2)
    faults = pl.DataFrame(
        [(fault, column.name if column else key[-1]) for fault, column in _plan(kind, source, size)],
        schema={"defaut": pl.String, "colonne": pl.String}, orient="row",
    ).with_columns(_place=pl.Series(rng.random(size) * clean.height))  # fmt: skip
    by_name = {column.name: column for column in source.columns}
    columns = [column.name for column in source.saisies]
    fresh = _fresh(kind, key, clean, where, rng, size)
    parts = []
    for (fault, name), group in faults.with_row_index("_rang").group_by("defaut", "colonne", maintain_order=True):
        if fault in ("cle_en_double", "deux_departements"):
            # A row of the first half of the file is repeated somewhere in the second.
            rows = clean[rng.choice(clean.height // 2, size=group.height, replace=False)]
            group = group.with_columns(_place=pl.col("_place") / 2 + clean.height / 2)
        else:
            rows = fresh[group["_rang"].to_list()]
        rows = typed(_typed_fault(kind, str(fault), rows, where), chance(seed, f"frappe {kind} {fault} {name}"))
        if fault not in ("cle_en_double", "deux_departements") and not str(fault).startswith("regle:"):
            rows = _text_fault(str(fault), by_name[str(name)], rows, rng, rejected)
        parts.append(rows.with_columns(group["_place"], defaut=pl.lit(fault), colonne=pl.lit(name)))
    good = typed(clean, chance(seed, f"frappe {kind}")).with_columns(
        _place=pl.int_range(pl.len()).cast(pl.Float64), defaut=pl.lit(None, pl.String), colonne=pl.lit(None, pl.String)
    )
    rows = pl.concat([good, *parts], how="diagonal_relaxed").sort("_place", maintain_order=True)
    rows = rows.with_columns(_ligne=pl.int_range(2, pl.len() + 2))
    dirt = rows.filter(pl.col("defaut").is_not_null()).select(
        kind=pl.lit(kind), ligne="_ligne", defaut="defaut", colonne="colonne"
    )
    bad = rows.filter(pl.col("defaut").is_not_null(), pl.col(key[0]).str.contains(r"-X[0-9]+$"))
    rejected[f"{kind}.{key[0]}"] = bad[key[0]]
    frame = rows.select(
        *((pl.col(c) if c in rows.columns else pl.lit(None).alias(c)).cast(pl.String) for c in columns), "_ligne"
    )
    return frame, dirt
