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
    asset = context.data_sources.add_pandas("dk").add_dataframe_asset("faits")
    return gx, asset.add_batch_definition_whole_dataframe("tout")


def judge(metrics: pl.DataFrame, checks: Sequence[Check]) -> list[list[Verdict]]:
    """GX verdicts of ``checks`` on a frame of metrics: one row per thing measured, one column per metric.

    Returns one list per row, each with one verdict per check in the order given.
    """
    if not checks or not metrics.height:
        return [[] for _ in range(metrics.height)]
    found = judge_facts([(check, row.get(check.colonne)) for row in metrics.to_dicts() for check in checks])
    return [found[start : start + len(checks)] for start in range(0, len(found), len(checks))]


def judge_facts(facts: Sequence[tuple[Check, Any]]) -> list[Verdict]:
    """GX verdicts on facts, each the value of a check's metric, in the order given.

    GX takes milliseconds per expectation, whatever the number of rows that it looks at: all facts of which the same is
    expected go through it as one column. A fact that has no value was not measured: ``cassé``.
    """
    alike: dict[tuple[str, str], list[int]] = {}
    for rank, (check, _) in enumerate(facts):
        alike.setdefault((check.attente, repr(sorted(check.arguments.items()))), []).append(rank)
    found: dict[int, Verdict] = {}
    for ranks in alike.values():
        found |= zip(ranks, _verdicts([facts[rank] for rank in ranks]), strict=True)
    return [found[rank] for rank in range(len(facts))]


def _verdicts(facts: Sequence[tuple[Check, Any]]) -> list[Verdict]:
    """Verdicts on facts of which the same is expected."""
    import pandas as pd

    def broken(why: str) -> list[Verdict]:
        return [Verdict(check, "cassé", "", why[:500]) for check, _ in facts]

    expected = facts[0][0]
    values = [value for _, value in facts]
    try:
        gx, definition = _gx()
        expectation = getattr(gx.expectations, expected.attente)(column="fait", **expected.arguments)
        batch = definition.get_batch({"dataframe": pd.DataFrame({"fait": values})})
        result = batch.validate(expectation, result_format="COMPLETE")
    except Exception as error:  # any failure of the judge itself is a broken check, and is reported as such
        return broken(f"{type(error).__name__} : {error}")
    if raised := _exception(result.exception_info):
        return broken(raised)
    outside = set(result.result.get("unexpected_index_list") or [])
    if bool(result.success) == bool(outside):
        return broken("le juge se contredit : son verdict et les lignes qu'il nomme diffèrent")
    verdicts = []
    for row, (check, value) in enumerate(facts):
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
