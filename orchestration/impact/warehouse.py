"""The estimates of one build: each declared plan with its panel, estimated once and kept by its fingerprint.

The dbt models beside ``int_impact`` call this module. An estimate is made again only when its panel, its declaration or
the code of the estimators changed. A plan is refused when it is younger than the first result seen for the same effect,
or was touched after it: the register of first results is part of the installation and outlives the work folder.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import logging
import os
import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ingestion.paths import DamagedFile, Home, home
from orchestration.impact.interface import Estimand, Estimation, Panel

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

LOG = logging.getLogger("dk")
GRAINE = 20200720
TIRAGES = 999
_LAST: list[Estimation] = []

SCHEMAS: dict[str, dict[str, str]] = {
    "evenement": {
        "estimation_id": "str", "composition": "str", "delai": "int", "effet": "float", "bas": "float", "haut": "float",
        "traitees": "int", "est_reference": "bool",
    },
    "equilibre": {
        "estimation_id": "str", "variable": "str", "nature": "str", "moyenne_traitees": "float", "moyenne_temoins": "float",
        "smd_brut": "float", "smd_ajuste": "float",
    },
    "choix": {"estimation_id": "str", "choix": "str", "effet": "float", "bas": "float", "haut": "float"},
}  # fmt: skip
TEXTES = {
    "estimation_id", "intervention_id", "indicateur_id", "rang", "unite", "methode", "transformation", "ponderation", "statut",
    "motif", "echecs", "estimateur", "inference", "ecartees", "notes", "phrase", "versions", "empreinte_panel",
    "empreinte_code", "empreinte",
}  # fmt: skip


# --- plans and their first results ------------------------------------------------------------------------------


class Register:
    """First result of each effect looked for: which plan gave it, and when. Append only, below ``DK_HOME/estimations``."""

    def __init__(self, where: Home, today: dt.date | None = None) -> None:
        self.path = where.root / "estimations" / "premiers_resultats.jsonl"
        self.today = today or dt.datetime.now(dt.UTC).date()
        self.known: dict[str, dict[str, str]] = {}
        lines = self.path.read_bytes().splitlines(keepends=True) if self.path.exists() else []
        for rank, line in enumerate(lines, 1):
            try:
                entry = json.loads(line)
                self.known.setdefault(entry["effet"], entry)
            except (ValueError, TypeError, KeyError) as error:
                if rank < len(lines) or line.endswith(b"\n"):
                    raise DamagedFile(
                        f"{self.path}, ligne {rank} : registre des premiers résultats altéré, rien d'autre ne dit quel plan les a "
                        "donnés (R-INF) ; restaurer ce fichier depuis une sauvegarde"
                    ) from error
                # A crash cut the line while it was written: its result was not published, and it is written again.
                os.truncate(self.path, self.path.stat().st_size - len(line))
                return
        if lines and not lines[-1].endswith(b"\n"):
            with self.path.open("ab") as stream:
                stream.write(b"\n")

    @staticmethod
    def effect(estimand: Estimand) -> str:
        """What identifies an effect whatever its plan is called: on which indicator, of which intervention, among which units."""
        return f"{estimand.intervention_id}|{estimand.indicateur_id}|{estimand.unite}"

    def refusal(self, estimand: Estimand) -> str | None:
        """Why the plan may not be estimated, or None (R-INF: declared before any result)."""
        if estimand.fixe_le > self.today:
            return f"plan daté du {estimand.fixe_le}, dans l'avenir : l'écrire à sa date"
        first = self.known.get(self.effect(estimand))
        if first and first["plan"] != self.digest(estimand):
            return (
                f"plan retouché ou écrit après un premier résultat obtenu le {first['premier_resultat']} (plan « {first['estimation_id']} ») : "
                "un plan se fixe avant de voir (R-INF) ; le rétablir tel qu'il était"
            )
        return None

    @staticmethod
    def digest(estimand: Estimand) -> str:
        return hashlib.sha256(estimand.declaration().encode()).hexdigest()

    def record(self, estimand: Estimand) -> None:
        """Writes down that this plan has given a result, once."""
        effect = self.effect(estimand)
        if effect in self.known:
            return
        entry = {
            "effet": effect, "estimation_id": estimand.estimation_id, "plan": self.digest(estimand), "fixe_le": str(estimand.fixe_le),
            "premier_resultat": str(self.today),
        }  # fmt: skip
        self.known[effect] = entry
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(entry, ensure_ascii=False) + "\n")
            stream.flush()
            os.fsync(stream.fileno())


# --- estimates --------------------------------------------------------------------------------------------------


def estimate_all(plans: Any, unites: Any, panel: Any, indicateurs: Any, where: Home | None = None) -> list[Estimation]:
    """Estimates of every plan, in the order of their names, with the corrections over the whole warehouse.

    Arguments are DuckDB relations of ``int_estimation``, ``int_unite``, ``int_panel`` and ``int_indicateur``.
    """
    import polars as pl

    from orchestration.impact.decision import correct
    from orchestration.impact.engine import estimate, fingerprint

    where = where or home()
    register = Register(where)
    plans, unites, panel = pl.DataFrame(plans), pl.DataFrame(unites), pl.DataFrame(panel)
    facts = {row["indicateur_id"]: row for row in pl.DataFrame(indicateurs).select("indicateur_id", "sens_favorable", "unite").to_dicts()}
    found, made = [], 0
    for row in plans.sort("estimation_id").to_dicts():
        fact = facts[row["indicateur_id"]]
        estimand = Estimand.from_row(row, sens_favorable=fact["sens_favorable"], mesure=fact["unite"] or "unité")
        motif = row["motif"] or register.refusal(estimand)
        if motif:
            found.append(Estimation(estimand, "non estimable", motif))
            continue
        one = Panel.of(*_inputs(row["estimation_id"], unites, panel))
        key = fingerprint(one, estimand, GRAINE, TIRAGES)
        path = where.work / "estimations" / f"{key}.pickle"
        result = _kept(path)
        if result is None:
            result = estimate(one, estimand, seed=GRAINE, draws=TIRAGES)
            made += 1
            _keep(result, path)
        if result.statut != "non estimable":
            register.record(estimand)
        found.append(result)
    found = correct(found)
    LOG.info("estimations d'impact : %d plans, %d recalculés", len(found), made)
    _LAST[:] = found
    return found


def _inputs(name: str, unites: pl.DataFrame, panel: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Outcomes and units of one plan, under the names that the estimators use; in a fixed order."""
    import polars as pl

    values = panel.filter(pl.col("estimation_id") == name).select(unite="unite_code", annee="annee", valeur="valeur")
    units = unites.filter((pl.col("estimation_id") == name) & (pl.col("place") != "écartée")).select(
        unite="unite_code", cohorte=pl.col("cohorte").fill_null(0), poids="population",
        # A common shock is a département's; a unit wider than it is its own cluster.
        grappe=pl.coalesce("departement_code", "unite_code"), anneau="est_anneau", anneau_annee="anneau_annee",
        autre_programme="est_chevauchee", mixte="est_mixte",
        log_population="log_population", log_revenu="log_revenu", log_prix="log_prix", aav_categorie="aav_categorie",
    )  # fmt: skip
    return values.sort("unite", "annee"), units.sort("unite")


def _kept(path: Path) -> Estimation | None:
    """An estimate made before; None when there is none or its file cannot be read (it is then made again)."""
    try:
        with path.open("rb") as stream:
            kept = pickle.load(stream)
    except (OSError, EOFError, pickle.UnpicklingError, AttributeError, ImportError, ValueError, LookupError, TypeError):
        return None
    return kept if isinstance(kept, Estimation) else None


def _keep(result: Estimation, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_bytes(pickle.dumps(result))
    os.replace(temporary, path)


def last() -> list[Estimation]:
    """The estimates of the build that is going on: those of the last ``estimate_all`` of this process."""
    return list(_LAST)


def frame(what: str, found: list[Estimation]) -> pd.DataFrame:
    """Rows of one kind as a pandas frame with a type for each column, also when there is no row.

    ``what``: estimation (one row per plan), evenement, equilibre or choix.
    """
    import pandas as pd

    from orchestration.impact.sentences import sentence

    kinds = {"str": "string", "int": "Int64", "float": "Float64", "bool": "boolean"}
    if what == "estimation":
        rows = [one.ligne() | {"phrase": sentence(one)} for one in found]
        names = list(rows[0]) if rows else ["estimation_id"]
        types = {name: "string" if name in TEXTES else "object" if name == "fixe_le" else "Float64" for name in names}
    else:
        method = {"evenement": "lignes_evenement", "equilibre": "lignes_equilibre", "choix": "lignes_choix"}[what]
        rows = [row for one in found for row in getattr(one, method)()]
        types = {name: kinds[kind] for name, kind in SCHEMAS[what].items()}
    return pd.DataFrame({name: pd.array([row[name] for row in rows], dtype=kind) if kind != "object" else [row[name] for row in rows] for name, kind in types.items()})
