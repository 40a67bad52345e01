"""Operators, training, consultations and incubations: what the agency and its partners do beside the conventions.

As in ``records``: typed and clean frames whose columns are those of the layout of their kind.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ingestion.demonstration.keyboard import names
from ingestion.demonstration.world import (
    ANNEES,
    FIN,
    OPERATEURS,
    Besoins,
    Territoires,
    chance,
    dates,
    days,
    pick,
    year_start,
)

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

    from ingestion.catalogue_schema import Catalogue


def _grid(seed: int, name: str, where: Territoires, interventions: list[str], mean: float) -> pl.DataFrame:
    """``1 + Poisson(mean)`` rows per département, year and intervention: those three columns, and ``rang``."""
    import numpy as np
    import polars as pl

    rng = chance(seed, name)
    cells = (
        where.departements.select(departement_code="code")
        .join(pl.DataFrame({"annee": ANNEES}), how="cross", maintain_order="left_right")
        .join(pl.DataFrame({"intervention_id": interventions}), how="cross", maintain_order="left_right")
    )
    counts = 1 + rng.poisson(mean, cells.height)
    return cells[np.repeat(np.arange(cells.height), counts)].with_columns(
        rang=pl.int_range(1, pl.len() + 1).over("departement_code", "annee", "intervention_id")
    )


def _ids(short: dict[str, str], kind: str) -> pl.Expr:
    import polars as pl

    code = pl.col("intervention_id").replace_strict(short)
    number = pl.col("rang").cast(pl.String).str.zfill(2)
    return pl.concat_str("departement_code", pl.lit(f"-{kind}-"), code, pl.lit("-"), "annee", pl.lit("-"), number)


def activations(seed: int, where: Territoires, supports: pl.DataFrame, short: dict[str, str]) -> pl.DataFrame:
    """What was asked of the five first-circle operators: for a national support, or directly by a département.

    ``supports`` holds the requests answered through an operator: demande_id, operateur, departement_code, date_demande.
    """
    import numpy as np
    import polars as pl

    grid = _grid(seed, "activations", where, list(OPERATEURS), 0.5)
    rng = chance(seed, "activations directes")
    start = year_start(grid["annee"].to_numpy())
    direct = grid.select(
        "departement_code", operateur=pl.col("intervention_id").replace_strict(OPERATEURS),
        activation_id=_ids(short, "OP"),
        date_demande=dates("date_demande", days(rng, start + 3, start + 362)),
    )  # fmt: skip
    tied = supports.select(
        "departement_code", "operateur", "demande_id", "date_demande",
        activation_id=pl.col("demande_id").str.replace("-DI-", "-OP-", literal=True),
    )  # fmt: skip
    rows = pl.concat([direct, tied], how="diagonal")
    rng, size, fin = chance(seed, "réponses des opérateurs"), rows.height, np.datetime64(FIN)
    asked = rows["date_demande"].to_numpy().astype("datetime64[D]")
    slow = rows["operateur"].replace_strict(
        {"ADEME": 30.0, "ANRU": 45.0, "Anah": 25.0, "Cerema": 38.0, "Banque des Territoires": 33.0},
        return_dtype=pl.Float64
    ).to_numpy()  # fmt: skip
    answered = asked + (5 + slow * rng.lognormal(0, 0.6, size)).astype(np.int64)
    known = (answered <= fin) & (rng.random(size) > 0.015)
    accepted = rng.random(size) < 0.84
    started = known & accepted
    financed = answered + rng.integers(90, 900, size)
    service = financed + rng.integers(200, 900, size)
    pays = started & (rng.random(size) < 0.72) & (financed <= fin)
    serves = pays & (rng.random(size) < 0.8) & (service <= fin)
    worked = rng.gamma(3, 7, size).round(1)
    return rows.select(
        "activation_id", "operateur", "departement_code", "demande_id", "date_demande",
        date_reponse=dates("date_reponse", answered, known),
        reponse=pl.Series(np.select([~known, accepted], ["en attente", "acceptée"], "refusée")),
        jours=pl.when(pl.Series(started)).then(pl.Series(worked)),
        cout_eur=pl.when(pl.Series(started)).then(pl.Series((worked * rng.uniform(600, 950, size)).round(0))),
        date_financement=dates("date_financement", financed, pays), date_service=dates("date_service", service, serves),
    )  # fmt: skip


def formations(seed: int, where: Territoires, besoins: Besoins, short: dict[str, str]) -> pl.DataFrame:
    """Training sessions: several a year in each département for elected people, one or two for the other subjects."""
    import numpy as np
    import polars as pl

    others = sorted(
        {"academie_territoires", "lutte_discriminations", "inclusion_numerique"}
        | {thing for name, things in besoins.familles.items() if name.startswith("formation_") for thing in things}
    )
    others = [name for name in others if name in short and name != "formation_elus"]
    rows = pl.concat([
        _grid(seed, "formations des élus", where, ["formation_elus"], 1.4),
        _grid(seed, "autres formations", where, others, 0.15),
    ])  # fmt: skip
    rng, size = chance(seed, "formations"), rows.height
    start = days(rng, year_start(rows["annee"].to_numpy()) + 10, year_start(rows["annee"].to_numpy()) + 350)
    enrolled = rng.integers(14, 46, size)
    attended = enrolled - rng.binomial(enrolled, 0.14)
    before = np.clip(rng.normal(4.4, 0.7, size), 0.5, 8).round(1)
    elected = pl.col("intervention_id") == "formation_elus"
    publics = pl.Series(("agents", "professionnels", "habitants")).gather(rng.choice(3, size=size, p=[0.6, 0.3, 0.1]))
    return rows.select(
        session_id=_ids(short, "FO"), intervention_id="intervention_id", departement_code="departement_code",
        date_debut=dates("date_debut", start),
        date_fin=dates("date_fin", np.minimum(start + rng.integers(0, 4, size), np.datetime64(FIN))),
        public=pl.when(elected).then(pl.lit("élus")).otherwise(publics),
        inscrits=pl.Series(enrolled), participants=pl.Series(attended),
        participants_petites_communes=pl.Series(rng.binomial(attended, 0.58)),
        note_avant=pl.Series(before),
        note_apres=pl.Series(np.clip(before + rng.normal(1.9, 0.5, size), 0, 10).round(1)),
        formateur_nom=names(rng, size, 0.85),
    )  # fmt: skip


def concertations(seed: int, where: Territoires, besoins: Besoins, short: dict[str, str]) -> pl.DataFrame:
    """Citizens' consultations in towns of each département, with what became of their recommendations."""
    import numpy as np
    import polars as pl

    families = (
        "concertation",
        "recommandation",
        "reponses_",
        "deliberation",
        "demarches",
        "actions_prevues_18m",
        "actions_realisees_18m",
    )
    wanted = {
        "concertation_citoyenne",
        "module_concertation",
        "participation_citoyenne_qpv",
        "petites_villes_de_demain",
    } | {thing for name, things in besoins.familles.items() if name.startswith(families) for thing in things}
    rows = _grid(seed, "concertations", where, sorted(wanted & short.keys()), 0.3)
    rng, size, fin = chance(seed, "suites des concertations"), rows.height, np.datetime64(FIN)
    # Towns of at least 2,000 inhabitants, the largest one where a département has none.
    towns = where.communes.filter(
        (pl.col("population") >= 2000) | (pl.col("population") == pl.col("population").max().over("departement_code"))
    ).sort("departement_code", "code")
    first = towns.group_by("departement_code", maintain_order=True).agg(nombre=pl.len()).with_columns(
        debut=pl.col("nombre").cum_sum() - pl.col("nombre")
    )  # fmt: skip
    cells = rows.select("departement_code").join(first, on="departement_code", how="left", maintain_order="left")
    index = cells["debut"].to_numpy() + (rng.random(size) * cells["nombre"].to_numpy()).astype(np.int64)
    start = year_start(rows["annee"].to_numpy())
    opened = days(rng, start + 5, start + 355)
    closed = opened + rng.integers(60, 240, size)
    over = (closed <= fin) & (rng.random(size) > 0.02)
    old = over & (closed + 548 <= fin)
    advice = rng.poisson(12, size) + 1
    planned = rng.binomial(advice, 0.5)
    trend = 0.02 * (rows["annee"].to_numpy() - 2020)

    def when(mask: np.ndarray, values: np.ndarray) -> pl.Expr:
        return pl.when(pl.Series(mask)).then(pl.Series(values))

    return rows.select(
        concertation_id=_ids(short, "CO"), intervention_id="intervention_id", departement_code="departement_code",
        territoire_niveau=pl.lit("commune"), territoire_code=towns["code"].gather(index),
        date_ouverture=dates("date_ouverture", opened), date_cloture=dates("date_cloture", closed, over),
        participants=pl.Series(rng.lognormal(4.3, 0.6, size).astype(np.int64) + 11),
        recommandations=when(over, advice),
        reponses_motivees=when(over, rng.binomial(advice, np.clip(0.55 + trend, 0, 1))),
        deliberation=when(over, rng.random(size) < 0.62 + trend), actions_prevues=when(over, planned),
        actions_realisees_18m=when(old, rng.binomial(planned, np.clip(0.5 + trend, 0, 1))),
        reunions=pl.Series(rng.poisson(4, size) + 1), animateur_nom=names(rng, size, 0.8),
    )  # fmt: skip


def incubations(seed: int, where: Territoires, catalogue: Catalogue, short: dict[str, str]) -> pl.DataFrame:
    """Programmes incubated by the agency, most within an intervention of the roadmap, and the board's decision."""
    import numpy as np
    import polars as pl

    rng, size, fin = chance(seed, "incubations"), 120, np.datetime64(FIN)
    interventions = [item.intervention_id for item in catalogue.interventions.values()]
    years = np.sort(rng.choice(ANNEES, size=size))
    launched = days(rng, year_start(years) + 5, year_start(years) + 355)
    decided = launched + rng.integers(120, 420, size)
    seat = pick(rng, where.departements.with_columns(departement_code=pl.col("code")), 60, "population")
    rows = pl.DataFrame({"intervention_id": rng.choice(interventions, size=size)}).with_columns(
        departement_code=seat["code"].gather(rng.integers(seat.height, size=size)), annee=pl.Series(years),
        rang=pl.int_range(1, size + 1),
    )  # fmt: skip
    own = pl.Series(rng.random(size) < 0.8)
    return rows.select(
        programme_id=pl.concat_str(
            pl.col("intervention_id").replace_strict(short), pl.lit("-INC-"), "annee", pl.lit("-"),
            pl.col("rang").cast(pl.String).str.zfill(3),
        ),
        intervention_id=pl.when(own).then("intervention_id"), departement_code="departement_code",
        date_lancement=dates("date_lancement", launched),
        date_deliberation_ca=dates("date_deliberation_ca", decided, decided <= fin),
        coconstruit=pl.Series(rng.random(size) < 0.72), citoyens_associes=pl.Series(rng.poisson(45, size)),
        parties_prenantes=pl.concat_str(pl.lit("Association d'élus ("), names(rng, size), pl.lit("), habitants")),
    )  # fmt: skip
