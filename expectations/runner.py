"""Great Expectations as a judge of measured facts.

Metrics are computed elsewhere, in one SQL or Polars pass per table; this module hands them to GX as a small frame
and normalises its verdicts. It is the only module that imports GX, and only when there is something to judge
(its import takes seconds). A check that raised is ``cassé``: neither good data nor bad data.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import polars as pl

Resultat = Literal["réussi", "échoué", "cassé"]


@dataclass(frozen=True)
class Check:
    """One expectation on one metric column. ``attente`` is the GX class name; ``pourquoi`` is shown to the reader."""

    nom: str
    attente: str
    colonne: str
    pourquoi: str
    arguments: dict[str, Any] = field(default_factory=dict)
    bloquant: bool = True


@dataclass(frozen=True)
class Verdict:
    """Outcome of one check, ready to become a row of ``audit_controle``."""

    check: Check
    resultat: Resultat
    observe: str
    detail: str = ""

    @property
    def refuse(self) -> bool:
        """True when this outcome must stop what it guards: a broken check never counts as passed."""
        return self.check.bloquant and self.resultat != "réussi"


@cache
def _gx() -> Any:
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    import logging

    import great_expectations as gx

    logging.getLogger("great_expectations").setLevel(logging.ERROR)
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = gx.data_context.types.base.ProgressBarsConfig(globally=False)
    return gx, context


def judge(metrics: pl.DataFrame, checks: Sequence[Check]) -> list[list[Verdict]]:
    """GX verdicts of ``checks`` on a frame of metrics: one row per thing measured, one column per metric.

    Returns one list per row, each with one verdict per check in the order given. All rows go through GX at once: it
    takes milliseconds per call, whatever their number. A metric that has no value was not measured: ``cassé``.
    """
    if not checks or not metrics.height:
        return [[] for _ in range(metrics.height)]
    gx, context = _gx()
    try:
        source = context.data_sources.all()["dk"]
    except KeyError:
        source = context.data_sources.add_pandas("dk")
    if "faits" in source.get_asset_names():
        source.delete_asset("faits")
    definition = source.add_dataframe_asset("faits").add_batch_definition_whole_dataframe("tout")
    frame = _to_pandas(metrics)
    batch = definition.get_batch({"dataframe": frame})
    columns = [_verdicts(gx, batch, check, frame) for check in checks]
    return [list(row) for row in zip(*columns, strict=True)]


def _verdicts(gx: Any, batch: Any, check: Check, frame: Any) -> list[Verdict]:
    """Verdicts of one check, one per row of the metrics."""

    def broken(why: str) -> list[Verdict]:
        return [Verdict(check, "cassé", "", why[:500])] * len(frame)

    try:
        expectation = getattr(gx.expectations, check.attente)(column=check.colonne, **check.arguments)
        result = batch.validate(expectation, result_format="COMPLETE")
    except Exception as error:  # any failure of the judge itself is a broken check, and is reported as such
        return broken(f"{type(error).__name__} : {error}")
    if raised := _exception(result.exception_info):
        return broken(raised)
    outside = set(result.result.get("unexpected_index_list") or [])
    if bool(result.success) == bool(outside):
        return broken("le juge se contredit : son verdict et les lignes qu'il nomme diffèrent")
    verdicts = []
    for row, value in enumerate(frame[check.colonne].tolist()):
        observed = _short(value)
        if value is None or value != value:  # GX would pass over it, and a NaN equals nothing
            verdicts.append(Verdict(check, "cassé", "", "le fait n'a pas pu être mesuré"))
        elif row in outside:
            verdicts.append(Verdict(check, "échoué", observed, f"hors de l'attendu : {observed}"))
        else:
            verdicts.append(Verdict(check, "réussi", observed))
    return verdicts


def _exception(info: Any) -> str:
    if not info:
        return ""
    if "raised_exception" in info:
        info = {"": info}
    return " ; ".join(
        str(item.get("exception_message")) for item in info.values() if isinstance(item, dict) and item.get("raised_exception")
    )


def _short(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _to_pandas(frame: pl.DataFrame) -> Any:
    # polars' own to_pandas needs pyarrow, which nothing else in the lock does.
    import pandas as pd

    return pd.DataFrame(frame.to_dict(as_series=False))
