"""The outer gate on the release candidate: facts measured on the Parquet that readers will open.

Each table is measured in one SQL statement; GX judges the numbers; failing rows are fetched only on failure.
dbt's own tests have already run inside the build: these look at what came out of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from expectations.runner import Check, Verdict, judge


@dataclass(frozen=True)
class Fact:
    """One number about a table. ``sql`` is an aggregate over ``candidat``; ``lignes`` selects rows that explain it."""

    nom: str
    sql: str
    pourquoi: str
    minimum: float | None = 0
    maximum: float | None = 0
    lignes: str | None = None
    bloquant: bool = True

    def check(self) -> Check:
        return Check(
            nom=self.nom, attente="ExpectColumnValuesToBeBetween", colonne=self.nom, pourquoi=self.pourquoi,
            arguments={"min_value": self.minimum, "max_value": self.maximum}, bloquant=self.bloquant,
        )  # fmt: skip


def _sum(condition: str) -> str:
    return f"coalesce(sum(case when {condition} then 1 else 0 end), 0)"


def _rule(nom: str, condition: str, pourquoi: str) -> Fact:
    """A condition that no row may meet."""
    return Fact(nom, _sum(condition), pourquoi, lignes=f"where {condition}")


# What no table may hold, beyond its key. Names say what is wrong when it is found.
RULES: dict[str, list[Fact]] = {
    "dim_territoire": [
        Fact("communes_au_pivot", _sum("territoire_niveau = 'commune' and est_pivot"), "la France compte près de 35 000 communes", 34_000, 36_000),
        _rule("code_commune_mal_forme", "territoire_niveau = 'commune' and length(territoire_code) <> 5", "un code commune a cinq caractères (R-GEO 2)"),
    ],
    "dim_intervention": [
        Fact("interventions", "count(*)", "la feuille de route et ses pactes font 46 interventions", 46, None),
    ],
    "fct_observation": [
        _rule("valeur_sans_statut_qui_la_porte", "valeur is not null and statut_valeur not in ('observé', 'estimé', 'provisoire')", "une valeur secrète, manquante ou non diffusée ne s'affiche pas (R-SEC)"),
        _rule("valeur_vide_dite_observee", "valeur is null and statut_valeur in ('observé', 'estimé', 'provisoire')", "un vide n'est jamais une observation (R-MAN)"),
        _rule("agregat_sous_couverture", "provenance = 'agrégé' and valeur is not null and coalesce(part_couverte, 0) < 0.95", "sous 95 % de couverture, l'agrégat est refusé (R-MAN)"),
        _rule("part_impossible", "part_couverte > 1.000001", "une part couverte dépasse 1 : un membre compte deux fois (R-GEO 7)"),
        _rule("periode_a_l_envers", "periode_fin < periode_debut", "une période finit après son début"),
        _rule("sans_snapshot", "snapshot_sha256 is null or length(snapshot_sha256) <> 64", "toute valeur remonte à des octets publiés"),
        _rule("non_fini", "valeur = 'infinity'::double or valeur = '-infinity'::double or isnan(valeur)", "une valeur est un nombre fini"),
    ],
    "fct_intervention_territoire": [
        _rule("sortie_avant_entree", "date_fin < date_debut", "on ne sort pas avant d'être entré"),
        _rule("cohorte_incoherente", "cohorte_annee <> extract(year from date_debut)", "la cohorte est l'année de début"),
    ],
    "mart_avancement": [
        _rule("taux_borne_hors_bornes", "taux_avancement_borne < 0 or taux_avancement_borne > 100", "le taux affiché est borné (R-TA)"),
        _rule("taux_sans_motif", "(taux_avancement is null) <> (motif is not null)", "un taux vide dit pourquoi, un taux présent n'a pas d'excuse (R-TA)"),
    ],
    "mart_couverture": [
        _rule("promesse_a_moitie", "indicateurs_politique_publique = 0 or indicateurs_vie_quotidienne = 0", "chaque intervention porte sur la politique publique et sur la vie quotidienne"),
    ],
    "mart_fraicheur": [
        _rule("lignes_perdues", "lignes_lues <> lignes_gardees + lignes_rejetees + lignes_hors_tableau", "lignes lues = gardées + rejetées + notes"),
    ],
}  # fmt: skip

REQUIRED = {"dim_territoire", "dim_intervention", "dim_indicateur", "bridge_intervention_indicateur", "dim_source", "fct_observation"}


def facts_of(table: str, key: list[str]) -> list[Fact]:
    """All facts measured on a table: its size, its key, and its own rules."""
    found = [Fact("lignes", "count(*)", "la table n'est pas vide", 1 if table in REQUIRED else 0, None)]
    if key:
        columns = ", ".join(key)
        found.append(
            Fact(
                "cles_en_double", f"count(*) - (select count(*) from (select distinct {columns} from candidat))",
                "la clé désigne une seule ligne",
                lignes=f"qualify count(*) over (partition by {columns}) > 1",
            )
        )  # fmt: skip
    return found + RULES.get(table, [])


def metrics_sql(facts: list[Fact]) -> str:
    """One statement that measures all facts of a table at once, on the view ``candidat``."""
    return f"select {', '.join(f'cast({fact.sql} as double) as {fact.nom}' for fact in facts)} from candidat"


def expected_checks(tables: dict[str, list[str]]) -> list[tuple[str, str]]:
    """(table, name) of every check that a complete audit must hold, from the tables and their keys."""
    return [(table, fact.nom) for table, key in sorted(tables.items()) for fact in facts_of(table, key)]


def audit(folder: Path, tables: dict[str, list[str]]) -> list[dict[str, Any]]:
    """Verdicts on every Parquet table of a candidate; ``tables`` maps each to its key.

    Returns rows of ``audit_controle`` with up to ten failing rows under ``exemples``.
    """
    import duckdb
    import polars as pl

    rows: list[dict[str, Any]] = []
    with duckdb.connect(config={"threads": 2}) as con:
        for table, key in sorted(tables.items()):
            facts = facts_of(table, key)
            path = (folder / "parquet" / f"{table}.parquet").as_posix().replace("'", "''")
            con.execute(f"create or replace view candidat as select * from read_parquet('{path}')")
            checks = [fact.check() for fact in facts]
            try:
                measured = con.execute(metrics_sql(facts))
                names = [column[0] for column in measured.description]
                metrics = pl.DataFrame([dict(zip(names, measured.fetchone() or [], strict=True))])
                verdicts = judge(metrics, checks)[0]
            except duckdb.Error as error:
                verdicts = [Verdict(check, "cassé", "", str(error).splitlines()[0]) for check in checks]
            for fact, verdict in zip(facts, verdicts, strict=True):
                samples: list[str] = []
                if verdict.resultat == "échoué" and fact.lignes:
                    samples = [str(r) for r in con.execute(f"select * from candidat {fact.lignes} limit 10").fetchall()]
                rows.append(
                    {
                        "etape": "candidat", "cible": table, "controle": fact.nom, "resultat": verdict.resultat,
                        "bloquant": fact.bloquant, "observe": verdict.observe, "detail": verdict.detail,
                        "pourquoi": fact.pourquoi, "exemples": samples,
                    }
                )  # fmt: skip
    return rows
