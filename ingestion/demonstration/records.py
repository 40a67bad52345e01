"""Conventions, actions, money and the other records of all interventions, typed and clean: what a person would know.

Every function returns a Polars frame whose columns are those of the layout of its kind, with their real types; dirt
and typing habits come after. Nothing here depends on the order in which functions are called.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

from ingestion.demonstration.keyboard import addresses, names, telephones
from ingestion.demonstration.world import (
    ANNEES,
    AUTRE_DEPARTEMENT,
    COHORTES,
    CONTRATS,
    FIN,
    MONTAGNE,
    PACTES,
    Besoins,
    Territoires,
    chance,
    dates,
    days,
    pick,
    plan,
    year_start,
)

if TYPE_CHECKING:
    import polars as pl

    from ingestion.catalogue_schema import Catalogue

# Without these, the initials of an intervention say nothing.
VIDES = frozenset(("de", "des", "du", "et", "la", "le", "les", "en"))
# Who pays an action, and how often, by family of intervention.
FINANCEURS: dict[str, tuple[tuple[str, float], ...]] = {
    "action_coeur_de_ville": (
        ("État", 0.3), ("Banque des Territoires", 0.2), ("Anah", 0.2), ("Action Logement", 0.2),
        ("commune ou EPCI", 0.1),
    ),
    "": (
        ("État", 0.36), ("ANCT", 0.1), ("Banque des Territoires", 0.1), ("Anah", 0.06), ("ADEME", 0.05),
        ("région", 0.12),
        ("département", 0.09), ("commune ou EPCI", 0.08), ("Union européenne", 0.04),
    ),
}  # fmt: skip
CRITERES = {
    "écologique": ("ECO-01", "ECO-02", "ECO-03"), "démocratique": ("DEM-01", "DEM-02"), "relance": ("REL-01", "REL-02"),
}  # fmt: skip
UNITES = ("logements", "m²", "équipements", "places", "km", "bâtiments")


def sigles(catalogue: Catalogue) -> dict[str, str]:
    """A short code for each intervention, unique in the catalogue."""
    found: dict[str, str] = {}
    for item in catalogue.interventions.values():
        words = [w for w in item.intervention_id.split("_") if w not in VIDES]
        short = "".join(w[0] for w in words) if len(words) > 1 else words[0][:3]
        short = short.upper()
        taken = set(found.values())
        found[item.intervention_id] = next(s for s in (short, *(f"{short}{n}" for n in range(2, 99))) if s not in taken)
    return found


def _numbered(prefix: pl.Expr, over: list[str], width: int = 3) -> pl.Expr:
    """``prefix`` and the rank of the row among those that share ``over``, zero-padded."""
    import polars as pl

    return pl.concat_str(prefix, pl.int_range(1, pl.len() + 1).over(over).cast(pl.String).str.zfill(width))


# --- conventions -----------------------------------------------------------------------------------------------


def _places(seed: int, where: Territoires, catalogue: Catalogue, besoins: Besoins) -> pl.DataFrame:
    """Who acts where: intervention, level, code, name and département of each future convention."""
    import polars as pl

    columns = ["territoire_niveau", "code", "nom", "departement_code", "population"]
    departements = where.departements.with_columns(departement_code=pl.col("code"))
    regions = (
        departements.sort("population", descending=True)
        .unique("region_code", keep="first", maintain_order=True)
        .sort("region_code")
    )
    pools = {
        "commune": where.communes, "epci": where.epci, "departement": departements,
        "region": regions.with_columns(code=pl.col("region_code")),
    }  # fmt: skip
    taken: list[pl.DataFrame] = []
    parts = []
    for item in catalogue.interventions.values():
        name = item.intervention_id
        if name in PACTES:
            rows = pl.DataFrame(
                [(level, code, item.intervention_nom, home, 300_000) for level, code, home in PACTES[name]],
                schema=columns, orient="row",
            ).cast({"population": pl.Int64})  # fmt: skip
        else:
            rule = plan(name, item.niveau_action, besoins)
            pool = pools[rule.niveau].filter(
                pl.col("population").is_between(*rule.population) | (rule.niveau != "commune")
            )
            if name == "montagne":
                pool = pool.filter(pl.col("departement_code").is_in(MONTAGNE))
            if name in COHORTES:
                for other in taken:
                    pool = pool.join(other, on="code", how="anti", maintain_order="left")
            rows = pick(
                chance(seed, f"lieux {name}"),
                pool,
                rule.effectif,
                "population" if name in COHORTES[:1] else None,
                rule.par_departement,
            )
            rows = rows.with_columns(territoire_niveau=pl.lit(rule.niveau)).select(columns)
            if name in COHORTES:
                taken.append(rows.select("code"))
        parts.append(rows.with_columns(intervention_id=pl.lit(name)))
    return pl.concat(parts)


def conventions(seed: int, where: Territoires, catalogue: Catalogue, besoins: Besoins) -> pl.DataFrame:
    """All conventions; the rural contracts of 2017-2018 that a territorial contract took over are the merged ones."""
    import numpy as np
    import polars as pl

    short = sigles(catalogue)
    rows = _places(seed, where, catalogue, besoins)
    rules = {
        item.intervention_id: plan(item.intervention_id, item.niveau_action, besoins)
        for item in catalogue.interventions.values()
    }
    signed = np.empty(rows.height, "datetime64[D]")
    ended = np.empty(rows.height, "datetime64[D]")
    at = rows["intervention_id"].to_numpy()
    # A pact is signed on the day that the catalogue gives, which is real, or in mid-2019 where it gives none.
    known = {p.intervention_id: p.date_debut for p in catalogue.perimetres}
    for name, rule in rules.items():
        mask = at == name
        rng = chance(seed, f"signatures {name}")
        shares = np.array([share for _, share in rule.annees])
        years = rng.choice([year for year, _ in rule.annees], size=mask.sum(), p=shares / shares.sum())
        start = year_start(years)
        signed[mask] = days(rng, start + 20, start + 345)
        if name in PACTES:
            signed[mask] = np.datetime64(known.get(name) or "2019-06-20")
        ended[mask] = signed[mask] + rule.duree * 365 + rng.integers(-60, 61, mask.sum())
    if "pacte_resilience" in rules:
        # Resilience pacts answer the crisis: none before June 2020.
        mask = (at == "pacte_resilience") & (signed < np.datetime64("2020-06-01"))
        signed[mask] += 160
    rng = chance(seed, "conventions")
    size = rows.height
    fate = rng.random(size)
    done = ended <= np.datetime64(FIN)
    cohort = np.isin(at, COHORTES) | np.isin(at, list(PACTES))
    cancelled = (fate < 0.012) & ~done & ~cohort
    preparing = (fate > 0.97) & ~cohort
    statut = np.select([preparing, cancelled, done], ["en préparation", "résiliée", "achevée"], "signée")
    ended = np.where(cancelled, days(rng, signed + 60, np.full(size, np.datetime64(FIN))), ended)
    rows = rows.with_columns(
        dates("date_signature", signed, ~preparing), dates("date_fin", ended, ~preparing), statut=pl.Series(statut),
        repris_par=pl.lit(None, pl.String),
    )  # fmt: skip
    rows = rows.with_columns(
        convention_id=_numbered(
            pl.col("departement_code") + "-" + pl.col("intervention_id").replace_strict(short) + "-",
            ["departement_code", "intervention_id"],
        )
    )
    rows = pl.concat([rows, _rural_contracts(seed, rows, where)], how="diagonal")
    rng, size = chance(seed, "signataires"), rows.height
    people = names(rng, size, 0.9)
    # Some départements find project managers, others do not.
    hiring = rng.uniform(0.65, 0.92, where.departements.height)
    home = where.departements["code"].to_list()
    odds = rows["departement_code"].replace_strict(dict(zip(home, hiring.tolist(), strict=True))).to_numpy()
    return rows.select(
        "convention_id", "intervention_id", "departement_code", "territoire_niveau", territoire_code="code",
        intitule="Convention " + pl.col("intervention_id").replace_strict(
            {i.intervention_id: i.intervention_nom for i in catalogue.interventions.values()}
        ) + " : " + pl.col("nom"),
        date_signature="date_signature", date_fin="date_fin", statut="statut", repris_par="repris_par",
        signataires_nb=pl.Series(rng.integers(2, 10, size)),
        signataires=pl.concat_str(names(rng, size), pl.lit(" (mairie) ; "), names(rng, size), pl.lit(" (préfecture)")),
        chef_de_projet_en_poste=pl.Series(rng.random(size) < odds),
        referent_nom=people, referent_courriel=addresses(rng, people), referent_telephone=telephones(rng, size, 0.8),
    )  # fmt: skip


def _rural_contracts(seed: int, rows: pl.DataFrame, where: Territoires) -> pl.DataFrame:
    """The former rural contracts: taken over by the new contract of the same EPCI, or run out at the end of 2020."""
    import polars as pl

    rng = chance(seed, "contrats de ruralité")
    new = rows.filter(pl.col("intervention_id") == "contrat_cohesion", pl.col("date_signature").is_not_null())
    merged = new.filter(pl.Series(rng.random(new.height) < 0.75))
    alone = where.epci.join(new.select("code"), on="code", how="anti", maintain_order="left")
    alone = alone.filter(pl.Series(rng.random(alone.height) < 0.17))
    old = pl.concat(
        [
            merged.select("code", "nom", "departement_code", "population", date_fin="date_signature", repris_par="convention_id")
            .with_columns(statut=pl.lit("fusionnée")),
            alone.with_columns(date_fin=pl.lit(dt.date(2020, 12, 31)), statut=pl.lit("achevée")),
        ],
        how="diagonal",
    )  # fmt: skip
    start = year_start(rng.choice([2017, 2018], size=old.height, p=[0.8, 0.2]))
    return old.with_columns(
        dates("date_signature", days(rng, start + 30, start + 340)),
        territoire_niveau=pl.lit("epci"),
        intervention_id=pl.lit("contrat_cohesion"),
        convention_id=_numbered(pl.col("departement_code") + "-CRU-", ["departement_code"]),
    ).select(
        c
        for c in rows.columns
        if c in {*old.columns, "date_signature", "territoire_niveau", "intervention_id", "convention_id"}
    )


# --- actions and money -----------------------------------------------------------------------------------------


def _works(seed: int, signed: pl.DataFrame, catalogue: Catalogue, besoins: Besoins) -> pl.DataFrame:
    """One row per action of a convention, with the days of its life (also those still to come at the end of 2025)."""
    import numpy as np
    import polars as pl

    rules = {
        i.intervention_id: plan(i.intervention_id, i.niveau_action, besoins) for i in catalogue.interventions.values()
    }
    rng = chance(seed, "actions")
    mean = (
        signed["intervention_id"]
        .replace_strict(
            {name: 110.0 if name in PACTES else float(rule.actions) for name, rule in rules.items()},
            return_dtype=pl.Float64,
        )
        .to_numpy()
    )
    rural = signed["convention_id"].str.contains("-CRU-", literal=True).to_numpy()
    counts = np.where(rural, 0, rng.poisson(mean))
    rows = signed[np.repeat(np.arange(signed.height), counts)]
    size = rows.height
    signature = rows["date_signature"].to_numpy().astype("datetime64[D]")
    fin = rows["date_fin"].to_numpy().astype("datetime64[D]")
    # Half of the actions come with the convention, the others along its life.
    span = np.maximum((fin - signature).astype(np.int64), 1)
    share = np.where(rng.random(size) < 0.5, rng.uniform(0, 0.15, size), rng.uniform(0.15, 0.95, size))
    inscription = signature + (share * span).astype(np.int64)
    debut = inscription + rng.integers(30, 400, size)
    achevement = debut + 60 + rng.gamma(2.0, 220, size).astype(np.int64)
    abandon = np.where(rng.random(size) < 0.06, inscription + rng.integers(100, 900, size), np.datetime64("2100-01-01"))
    rows = rows.select(
        "convention_id", "intervention_id", "departement_code", "territoire_niveau", "territoire_code", "date_fin"
    )
    # A pact over two départements is reported by both délégués.
    home = pl.col("departement_code")
    other = pl.Series(rng.random(size) < 0.4)
    rows = rows.with_columns(
        pl.when(other).then(pl.col("territoire_code").replace_strict(AUTRE_DEPARTEMENT, default=home)).otherwise(home)
        .alias("departement_code"),
        _inscription=dates("_inscription", inscription), _debut=dates("_debut", debut),
        _achevement=dates("_achevement", achevement), _abandon=dates("_abandon", abandon),
        _prevue=dates("_prevue", inscription + rng.integers(250, 1100, size)),
        concertee=pl.Series(rng.random(size) < 0.38), quantite=pl.Series(rng.lognormal(2.5, 0.8, size).round(0)),
        unite=pl.Series(UNITES).gather(rng.integers(len(UNITES), size=size)),
        beneficiaires=pl.Series(rng.lognormal(5.5, 1.0, size).astype(np.int64)),
    )  # fmt: skip
    return rows.with_columns(_base=_numbered(pl.col("convention_id") + "-A", ["convention_id"], 2))


def _reports(works: pl.DataFrame) -> pl.DataFrame:
    """The yearly report of every action, from registration to the end of its convention: its state on 31 December."""
    import polars as pl

    years = pl.int_ranges(
        pl.max_horizontal(pl.col("_inscription").dt.year(), pl.lit(ANNEES[0])),
        pl.min_horizontal(pl.col("date_fin").dt.year(), pl.lit(ANNEES[-1])) + 1,
    )
    rows = works.with_columns(annee=years).explode("annee", empty_as_null=True).filter(pl.col("annee").is_not_null())
    end = pl.date(pl.col("annee"), 12, 31)
    stopped, done, begun = pl.col("_abandon") <= end, pl.col("_achevement") <= end, pl.col("_debut") <= end
    rows = rows.with_columns(
        statut=pl.when(done & (pl.col("_achevement") <= pl.col("_abandon"))).then(pl.lit("achevée"))
        .when(stopped).then(pl.lit("abandonnée")).when(begun).then(pl.lit("engagée")).otherwise(pl.lit("inscrite"))
    )  # fmt: skip
    finished = pl.col("statut") == "achevée"
    return rows.with_columns(
        action_id=pl.concat_str("_base", pl.lit("-"), "annee"),
        jalon=pl.when(finished).then(pl.lit("service")).when(pl.col("statut") == "engagée").then(pl.lit("travaux"))
        .otherwise(pl.lit("étude")),
        date_prevue="_prevue", date_debut=pl.when(begun).then("_debut"),
        date_achevement=pl.when(finished).then("_achevement"),
        quantite=pl.when(finished).then("quantite"), unite=pl.when(finished).then("unite"),
        beneficiaires=pl.when(finished).then("beneficiaires"),
    )  # fmt: skip


def actions(
    seed: int, signed: pl.DataFrame, where: Territoires, catalogue: Catalogue, besoins: Besoins
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Reports of actions, those that only carry an indicator included, and the actions themselves (for the money)."""
    import polars as pl

    from ingestion.demonstration.indicators import reported

    works = _works(seed, signed.filter(pl.col("date_signature").is_not_null()), catalogue, besoins)
    rows = pl.concat([_reports(works), reported(seed, where, besoins, sigles(catalogue))], how="diagonal")
    rng = chance(seed, "commentaires")
    subjects = pl.Series(("Chantier retardé", "Réunion tenue avec", "Voir le dossier suivi par", "Relancer"))
    comment = subjects.gather(rng.integers(len(subjects), size=rows.height)) + " " + names(rng, rows.height, 0.15)
    return rows.select(
        "action_id", "convention_id", "intervention_id", "departement_code", "territoire_niveau", "territoire_code",
        "indicateur_id",
        "jalon", "statut", "date_prevue", "date_debut", "date_achevement", "annee", "quantite", "quantite_reference",
        "unite",
        "beneficiaires", "concertee", commentaire=comment,
    ), works  # fmt: skip


def engagements(seed: int, works: pl.DataFrame, catalogue: Catalogue, besoins: Besoins) -> pl.DataFrame:
    """What funders committed to each action and what they had paid at the end of 2025."""
    import numpy as np
    import polars as pl

    rng = chance(seed, "engagements")
    fin = np.datetime64(FIN)
    funded = np.where(rng.random(works.height) < 0.8, 1 + rng.poisson(0.5, works.height), 0)
    rows = works[np.repeat(np.arange(works.height), funded)]
    size = rows.height
    first = rows["_inscription"].to_numpy().astype("datetime64[D]")
    committed_on = first + rng.integers(0, 300, size)
    at = rows["intervention_id"].to_numpy()
    median = np.array([
        plan(i.intervention_id, i.niveau_action, besoins).montant if i.intervention_id not in PACTES else 400_000
        for i in catalogue.interventions.values()
    ])  # fmt: skip
    rank = {i.intervention_id: n for n, i in enumerate(catalogue.interventions.values())}
    committed = (median[[rank[name] for name in at]] / 1.5 * rng.lognormal(0, 0.7, size)).round(-2) + 100
    done = rows["_achevement"].to_numpy().astype("datetime64[D]") <= fin
    begun = rows["_debut"].to_numpy().astype("datetime64[D]") <= fin
    share = np.where(
        done, rng.uniform(0.85, 1, size), np.where(begun, rng.uniform(0.1, 0.7, size), rng.uniform(-0.2, 0.2, size))
    )
    paid = np.floor(committed * np.clip(share, 0, 1) * 100) / 100
    paid_on = days(rng, committed_on + 30, np.maximum(committed_on + 31, fin - 20))
    paid = np.where(paid_on <= fin, paid, 0.0)
    funder = np.empty(size, object)
    for mask, shares in (
        (at == "action_coeur_de_ville", FINANCEURS["action_coeur_de_ville"]),
        (at != "action_coeur_de_ville", FINANCEURS[""]),
    ):
        p = np.array([share for _, share in shares])
        funder[mask] = rng.choice([name for name, _ in shares], size=mask.sum(), p=p / p.sum())
    reported = pl.max_horizontal(pl.col("_inscription").dt.year(), pl.lit(ANNEES[0]))
    last = pl.min_horizontal(pl.col("date_fin").dt.year(), pl.lit(ANNEES[-1]))
    return (
        rows.with_columns(
            _engage=dates("_engage", committed_on),
            date_dernier_paiement=dates("date_dernier_paiement", paid_on, paid > 0),
            montant_engage_eur=pl.Series(committed), montant_paye_eur=pl.Series(paid),
            financeur=pl.Series(list(funder), dtype=pl.String),
            referent_nom=names(rng, size, 0.7),
        )
        .filter(pl.col("_engage") <= FIN)
        .select(
            engagement_id=_numbered(pl.col("_base") + "-F", ["_base"], 2), convention_id="convention_id",
            action_id=pl.when(reported <= last).then(pl.concat_str("_base", pl.lit("-"), reported)),
            departement_code="departement_code", financeur="financeur", date_engagement="_engage",
            montant_engage_eur="montant_engage_eur", montant_paye_eur="montant_paye_eur",
            date_dernier_paiement="date_dernier_paiement", referent_nom="referent_nom",
        )
    )  # fmt: skip


def criteres(seed: int, signed: pl.DataFrame) -> pl.DataFrame:
    """Each year's grid applied to the contracts and pacts in force: one criterion of each family, two years in three."""
    import numpy as np
    import polars as pl

    rng = chance(seed, "critères")
    rows = (
        signed.filter(
            pl.col("intervention_id").is_in([*CONTRATS, *PACTES]), pl.col("date_signature").is_not_null(),
            ~pl.col("convention_id").str.contains("-CRU-", literal=True),
        )
        .select(
            "convention_id", "intervention_id", "departement_code", "date_signature",
            annee=pl.int_ranges(
                pl.max_horizontal(pl.col("date_signature").dt.year() + 1, pl.lit(ANNEES[0])),
                pl.min_horizontal(pl.col("date_fin").dt.year(), pl.lit(ANNEES[-1])) + 1,
            ),
        )
        .explode("annee", empty_as_null=True)
        .filter(pl.col("annee").is_not_null())
        .join(pl.DataFrame({"critere_famille": list(CRITERES)}), how="cross", maintain_order="left_right")
    )  # fmt: skip
    keep = pl.col("intervention_id").is_in(list(PACTES)) | pl.Series(rng.random(rows.height) < 0.66)
    rows = rows.filter(keep)
    size = rows.height
    family = rows["critere_famille"].to_numpy()
    codes = np.empty(size, object)
    for name, choices in CRITERES.items():
        codes[family == name] = rng.choice(choices, size=(family == name).sum())
    total = rng.lognormal(12.5, 0.7, size).round(-3) + 1000
    trend = 0.06 * (rows["annee"].to_numpy() - 2020)
    share = np.clip(rng.beta(3, 4, size) + trend, 0, 1)
    start = year_start(rows["annee"].to_numpy())
    return rows.select(
        "convention_id", "critere_famille", critere=pl.Series(list(codes), dtype=pl.String),
        grille_version=pl.concat_str("annee", pl.lit("-1")), departement_code="departement_code",
        respecte=pl.Series(share > 0.3), montant_favorable_eur=pl.Series((total * share).round(0)),
        montant_total_eur=pl.Series(total),
        date_evaluation=dates("date_evaluation", days(rng, start + 15, start + 350)),
    )  # fmt: skip
