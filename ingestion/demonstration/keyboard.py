"""How 101 départements type: their dates, their numbers, their yes and no, and the people whose names must not pass.

Names are common French ones drawn apart, addresses stand in the domains reserved for examples (RFC 2606) and telephone
numbers in the ranges that Arcep keeps for fiction: whoever reads them reads nobody.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

PRENOMS = (
    "Camille", "Dominique", "Claude", "Marie", "Nathalie", "Isabelle", "Sylvie", "Catherine", "Françoise", "Valérie",
    "Christine", "Véronique", "Sandrine", "Stéphanie", "Céline", "Aurélie", "Émilie", "Julie", "Laura", "Léa", "Manon",
    "Jean", "Philippe", "Michel", "Alain", "Patrick", "Nicolas", "Christophe", "Pierre", "Laurent", "Éric", "Stéphane",
    "Frédéric", "Olivier", "David", "Julien", "Sébastien", "Thomas", "Mathieu", "Hugo", "Yanis", "Mehdi", "Aïcha",
    "Fatima", "Karim", "Mamadou", "Maëlle", "Anaïs", "Loïc", "Gaël",
)  # fmt: skip
NOMS = (
    "Martin", "Bernard", "Thomas", "Petit", "Robert", "Richard", "Durand", "Dubois", "Moreau", "Laurent", "Simon",
    "Michel",
    "Lefèvre", "Leroy", "Roux", "David", "Bertrand", "Morel", "Fournier", "Girard", "Bonnet", "Dupont", "Lambert",
    "Fontaine", "Rousseau", "Vincent", "Muller", "Faure", "Mercier", "Blanc", "Guérin", "Boyer", "Garnier", "Chevalier",
    "François", "Legrand", "Gauthier", "Garcia", "Perrin", "Robin", "Clément", "Morin", "Nicolas", "Henry", "Roussel",
    "Mathieu", "Gautier", "Masson", "Marchand", "Duval", "Denis", "Dumont", "Marie", "Lemaire", "Noël", "Meyer",
    "Dufour",
    "Meunier", "Brun", "Blanchard", "Giraud", "Joly", "Rivière", "Lucas", "Brunet", "Gaillard", "Barbier", "Arnaud",
    "Diallo", "Benali", "Nguyen", "Payet", "Hoarau", "Le Gall", "Colonna",
)  # fmt: skip
# First digits of the ranges kept for fiction; the last three or four are free.
FICTIFS = ("01 99 00", "02 61 91", "03 53 01", "04 65 71", "05 36 49", "06 39 98")
DOMAINES = ("example.org", "example.com", "example.net")


def names(rng: np.random.Generator, size: int, filled: float = 1.0) -> pl.Series:
    """First name and surname; empty for a share ``1 - filled``."""
    import polars as pl

    first = pl.Series("prenom", PRENOMS).gather(rng.integers(len(PRENOMS), size=size))
    last = pl.Series("nom", NOMS).gather(rng.integers(len(NOMS), size=size))
    blank = pl.Series("vide", rng.random(size) >= filled)
    return pl.select(pl.when(~blank).then(pl.concat_str(first, pl.lit(" "), last))).to_series()


def addresses(rng: np.random.Generator, people: pl.Series) -> pl.Series:
    """An e-mail address for each name, in a reserved domain; null where the name is."""
    import polars as pl

    domain = pl.Series("domaine", DOMAINES).gather(rng.integers(len(DOMAINES), size=len(people)))
    plain = (
        pl.lit(people).str.normalize("NFD").str.replace_all(r"\p{M}", "").str.to_lowercase().str.replace_all(" ", ".")
    )
    return pl.select(plain + "@" + domain).to_series()


def telephones(rng: np.random.Generator, size: int, filled: float = 1.0) -> pl.Series:
    """Telephone numbers that ring nowhere, typed in three ways."""
    import polars as pl

    start = pl.Series("debut", FICTIFS).gather(rng.integers(len(FICTIFS), size=size))
    a = pl.Series("a", rng.integers(100, size=size)).cast(pl.String).str.zfill(2)
    b = pl.Series("b", rng.integers(100, size=size)).cast(pl.String).str.zfill(2)
    number = pl.concat_str(start, pl.lit(" "), a, pl.lit(" "), b)
    style = pl.Series("style", rng.integers(4, size=size))
    blank = pl.Series("vide", rng.random(size) >= filled)
    return pl.select(
        pl.when(blank).then(None)
        .when(style == 0).then(number.str.replace_all(" ", "."))
        .when(style == 1).then(number.str.replace_all(" ", ""))
        .when(style == 2).then("+33 " + number.str.slice(1))
        .otherwise(number)
    ).to_series()  # fmt: skip


def _thousands(whole: pl.Expr) -> pl.Expr:
    """Digits of a non-negative integer with a space between thousands."""
    import polars as pl

    group = (whole % 1000).cast(pl.String).str.zfill(3)
    middle = (whole // 1000 % 1000).cast(pl.String)
    return (
        pl.when(whole < 1000).then(whole.cast(pl.String))
        .when(whole < 1_000_000).then(middle + " " + group)
        .otherwise((whole // 1_000_000).cast(pl.String) + " " + middle.str.zfill(3) + " " + group)
    )  # fmt: skip


def typed(frame: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
    """Every column of ``frame`` as text. A département has its habits, kept for nine cells in ten.

    Dates are typed JJ/MM/AAAA, J/M/AAAA or AAAA-MM-JJ, decimals with a comma or a point,
    large numbers with or without a
    space between thousands, booleans oui or NON. Money and quantities keep two decimals at most; no value changes.
    """
    import polars as pl

    size = frame.height
    habit = frame["departement_code"].str.to_integer(base=16) * 7919 % 97

    def follows(name: str, modulo: int) -> pl.Series:
        """True where the cell is typed in the first of two ways."""
        usual = habit % modulo == 0
        slip = pl.Series(name, rng.random(size) < 0.1)
        return usual ^ slip

    columns = []
    for name, dtype in frame.schema.items():
        cell = pl.col(name)
        if dtype == pl.Date:
            french = (
                pl.when(follows(name + "_", 4))
                .then(cell.dt.to_string("%-d/%-m/%Y"))
                .otherwise(cell.dt.to_string("%d/%m/%Y"))
            )
            columns.append(pl.when(follows(name, 3)).then(cell.dt.to_string("%Y-%m-%d")).otherwise(french).alias(name))
        elif dtype == pl.Float64:
            cents = (cell.abs() * 100).round().cast(pl.Int64)
            rest = cents % 100
            decimals = (
                pl.when(rest == 0).then(pl.lit(""))
                .when(rest % 10 == 0).then(pl.lit(",") + (rest // 10).cast(pl.String))
                .otherwise(pl.lit(",") + rest.cast(pl.String).str.zfill(2))
            )  # fmt: skip
            decimals = pl.when(follows(name, 5)).then(decimals.str.replace(",", ".", literal=True)).otherwise(decimals)
            whole = (
                pl.when(follows(name + "_", 4)).then(_thousands(cents // 100)).otherwise((cents // 100).cast(pl.String))
            )
            sign = pl.when(cell < 0).then(pl.lit("-")).otherwise(pl.lit(""))
            columns.append((sign + whole + decimals).alias(name))
        elif dtype == pl.Boolean:
            word = pl.when(cell).then(pl.lit("oui")).when(~cell).then(pl.lit("non"))
            columns.append(pl.when(follows(name, 6)).then(word.str.to_uppercase()).otherwise(word).alias(name))
        elif dtype.is_integer():
            columns.append(cell.cast(pl.String))
    return frame.with_columns(columns)
