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
    etape: str = "candidat"
    cible: str = ""


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


def judge(metrics: pl.DataFrame, checks: Sequence[Check]) -> list[Verdict]:
    """GX verdicts of ``checks`` on a frame of metrics (one row per thing measured, one column per metric).

    Every check gets exactly one verdict, in the order given.
    """
    if not checks:
        return []
    gx, context = _gx()
    try:
        source = context.data_sources.all()["dk"]
    except KeyError:
        source = context.data_sources.add_pandas("dk")
    name = f"{checks[0].etape}:{checks[0].cible}"
    if name in source.get_asset_names():
        source.delete_asset(name)
    definition = source.add_dataframe_asset(name).add_batch_definition_whole_dataframe("tout")
    frame = _to_pandas(metrics)
    batch = definition.get_batch({"dataframe": frame})
    verdicts = []
    for check in checks:
        try:
            expectation = getattr(gx.expectations, check.attente)(column=check.colonne, **check.arguments)
            result = batch.validate(expectation, result_format="BASIC")
        except Exception as error:  # any failure of the judge itself is a broken check, and is reported as such
            verdicts.append(Verdict(check, "cassé", "", f"{type(error).__name__} : {error}"[:500]))
            continue
        raised = _exception(result.exception_info)
        if raised:
            verdicts.append(Verdict(check, "cassé", "", raised[:500]))
            continue
        observed = frame[check.colonne].tolist()
        unexpected = result.result.get("partial_unexpected_list") or []
        verdicts.append(
            Verdict(
                check,
                "réussi" if result.success else "échoué",
                ", ".join(_short(v) for v in observed[:5]),
                "" if result.success else f"hors de l'attendu : {', '.join(_short(v) for v in unexpected[:5])}",
            )
        )
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
