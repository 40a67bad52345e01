"""The demonstration world: records of all interventions as 101 départements would have sent them, and known effects.

Deterministic: equal seeds give equal bytes. Territories are the real ones of the embedded archive; people,
addresses and
telephone numbers are not. About two rows in a hundred are wrong on purpose. The true effects of the simulated outcomes
are written to a file that only tests read: it is neither landed nor published.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

    from ingestion.paths import Home

GRAINE = 20200720


@dataclass(frozen=True)
class Monde:
    """The records of one generated world.

    records: kind of record → columns of its template as text, and ``_ligne`` (Int64; the header is line 1). clean: the
    same without dirt, with real types. dirt: kind, ligne, defaut, colonne of each row that is wrong on purpose.
    manquements: demande_id, manquement of each request that breaks the tailor-made protocol on purpose.
    """

    records: dict[str, pl.DataFrame]
    clean: dict[str, pl.DataFrame]
    dirt: pl.DataFrame
    manquements: pl.DataFrame


def monde(seed: int = GRAINE) -> Monde:
    """The world of a seed: what was typed, and what tests know about it."""
    import polars as pl

    from ingestion.catalogue_schema import load_catalogue
    from ingestion.demonstration import activities, indicators, records, requests, world
    from ingestion.demonstration.dirt import soil

    catalogue, where = load_catalogue(), world.territoires()
    needs, short = world.besoins(catalogue), records.sigles(catalogue)
    conventions = records.conventions(seed, where, catalogue, needs)
    actions, works = records.actions(seed, conventions, where, catalogue, needs)
    demandes, evenements, manquements, appuis = requests.requests(seed, where)
    clean = {
        "convention": conventions,
        "action": actions,
        "engagement_financier": records.engagements(seed, works, catalogue, needs),
        "demande_ingenierie": demandes,
        "evenement_demande": evenements,
        "convention_operateur": activities.activations(seed, where, appuis, short),
        "formation": activities.formations(seed, where, needs, short),
        "concertation": activities.concertations(seed, where, needs, short),
        "incubation": activities.incubations(seed, where, catalogue, short),
        "critere": records.criteres(seed, conventions),
        "objectif": indicators.objectifs(seed, where, catalogue, needs),
    }
    rejected: dict[str, pl.Series] = {}
    soiled = {kind: soil(seed, kind, world.disposition(kind), frame, where, rejected) for kind, frame in clean.items()}
    return Monde(
        {kind: frame for kind, (frame, _) in soiled.items()},
        clean,
        pl.concat([dirt for _, dirt in soiled.values()]),
        manquements,
    )


def generate(seed: int = GRAINE) -> dict[str, pl.DataFrame]:
    """Kind of record → rows as people would have typed them, dirt included: the template's columns as text, ``_ligne``.

    Kinds come in the order in which they refer to each other. About two seconds and 350 MiB.
    """
    return monde(seed).records


def panel(seed: int = GRAINE) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(simulated outcomes, truth), typed: see ``ingestion.demonstration.outcomes``."""
    from ingestion.catalogue_schema import load_catalogue
    from ingestion.demonstration import outcomes, records, world

    catalogue, where = load_catalogue(), world.territoires()
    return outcomes.outcomes(seed, records.conventions(seed, where, catalogue, world.besoins(catalogue)), where)


def resultats(seed: int = GRAINE) -> pl.DataFrame:
    """Simulated outcomes as the declared source ``demonstration__resultats`` reads them: all text, and ``_ligne``."""
    import polars as pl

    frame, _ = panel(seed)
    return frame.select(pl.all().cast(pl.String), _ligne=pl.int_range(2, pl.len() + 2))


def write_truth(where: Home, seed: int = GRAINE) -> Path:
    """Writes the true effects to ``work/demonstration/verite.parquet`` of the installation; for tests only."""
    _, truth = panel(seed)
    path = where.work / "demonstration" / "verite.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    truth.write_parquet(temporary, compression="zstd")
    os.replace(temporary, path)
    return path
