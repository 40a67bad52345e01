"""Text that a spreadsheet would run as a formula, made harmless in the CSV files that this project writes.

A workbook needs none of it: its cells are written as strings (``write_string``), which no spreadsheet evaluates.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

# What starts a formula, wide characters included, after blanks that an import strips; tab and return do by themselves.
DANGER = "^(?:[\t\r\n]|[ \u00a0]*[=+@\uff1d\uff0b\uff0d\uff20-])"
# A plain number, as text, keeps its sign.
NOMBRE = "^[+-]?(?:[0-9]{1,3}(?:[ \u00a0\u202f][0-9]{3})+|[0-9]+)(?:[.,][0-9]+)?(?:[eE][+-]?[0-9]{1,3})?$"


def neutralise(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with an apostrophe before each text, column names included, that a spreadsheet would take for a formula.

    Numbers and other types are left as they are. Raises polars.exceptions.DuplicateError when two columns would get one name.
    """
    import polars as pl
    import polars.selectors as cs

    def safe(cell: pl.Expr) -> pl.Expr:
        return pl.when(cell.str.contains(DANGER) & ~cell.str.contains(NOMBRE)).then(pl.lit("'") + cell).otherwise(cell)

    frame = frame.with_columns(pl.col(pl.Categorical, pl.Enum).cast(pl.String)).with_columns(safe(cs.string()).name.keep())
    names = pl.Series(frame.columns, dtype=pl.String)
    return frame.rename(dict(zip(frame.columns, pl.select(safe(pl.lit(names))).to_series().to_list(), strict=True)))
