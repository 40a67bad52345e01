"""The outer gate on raw landing: what each delivery must be like before it is accepted.

The bounds come from the declaration of the source (``attendus``); here they only become checks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from expectations.runner import Check

if TYPE_CHECKING:
    import polars as pl

    from ingestion.declarations import Livraison, Source
    from ingestion.reading import Reading, ReadingInPieces


def metrics(source: Source, livraison: Livraison, reading: Reading | ReadingInPieces, previous_rows: int | None) -> pl.DataFrame:
    """One row of facts on one reading: counts, share rejected, share filled, rows against the last accepted file."""
    import polars as pl

    filled = {f"part_remplie_{name}": reading.part_remplie(name) for name in source.attendus_de(livraison).remplies}
    return pl.DataFrame(
        {
            "lignes_gardees": [reading.lignes_gardees],
            "part_rejetee": [reading.lignes_rejetees / max(reading.lignes_lues, 1)],
            "part_de_la_precedente": [1.0 if not previous_rows else reading.lignes_gardees / previous_rows],
            **{name: [value] for name, value in filled.items()},
        }
    )


def checks(source: Source, livraison: Livraison) -> list[Check]:
    """Checks of one delivery of a source; all block its acceptance, and the last accepted one stays in use."""
    bounds = source.attendus_de(livraison)
    between = "ExpectColumnValuesToBeBetween"

    def check(nom: str, colonne: str, pourquoi: str, **arguments: float | None) -> Check:
        return Check(nom, between, colonne, pourquoi, dict(arguments))

    found = [
        check(
            "volume", "lignes_gardees", "un fichier tronqué ou une page d'erreur a trop peu de lignes",
            min_value=bounds.lignes_min, max_value=bounds.lignes_max,
        ),
        check(
            "rejets", "part_rejetee", "trop de lignes illisibles : le format a sans doute changé",
            min_value=0, max_value=bounds.rejets_part_max,
        ),
        check(
            "effondrement", "part_de_la_precedente", "bien moins de lignes que le même fichier auparavant",
            min_value=bounds.part_precedente_min,
        ),
    ]  # fmt: skip
    found += [
        check(f"remplie_{name}", f"part_remplie_{name}", f"la colonne {name} est d'ordinaire remplie", min_value=share)
        for name, share in bounds.remplies.items()
    ]
    return found
