"""The outer gate on the release candidate: facts measured on the Parquet that readers will open.

Each table is measured in one SQL statement; GX judges the numbers; failing rows are fetched only on failure.
dbt's own tests have already run inside the build: these look at what came out of it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from expectations.runner import Check, Verdict, judge_facts


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


PERSONNELLES = "donnees_personnelles"  # measured on the distinct values of every text column of every table


def _personal_values(columns: list[str]) -> str:
    """Query of the distinct text values of ``candidat`` in which a person shows: colonne, valeur."""
    from ingestion.records.personal import MOTIFS

    if not columns:
        return "select '' as colonne, '' as valeur where false"
    found = " or ".join(f"regexp_matches(valeur, '{pattern.replace(chr(39), chr(39) * 2)}')" for pattern in MOTIFS.values())
    each = " union all ".join(f"select '{c}' as colonne, valeur from (select distinct {c} as valeur from candidat)" for c in columns)
    return f"select colonne, valeur from ({each}) where valeur is not null and ({found})"


def masked(text: str) -> str:
    """What a message may show of a personal datum: its kind and its shape, not what it says."""
    import re

    from ingestion.records.personal import MOTIFS

    for kind, pattern in MOTIFS.items():
        if match := re.search(pattern, text):
            return f"{kind} : « {re.sub('[0-9A-Za-zÀ-ÿ]', '•', match.group().strip())} »"
    return "un texte"


DEMONSTRATION = _rule("demonstration_tue", "millesime = 'demonstration' and mention is null", "ce qui vient du monde de démonstration le dit")

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
        _rule("releve_trop_fin", "source_id like 'interne__%' and territoire_niveau not in ('departement', 'region', 'national', 'perimetre')", "un relevé interne ne se montre pas sous le département (R-SEC)"),
        DEMONSTRATION,
    ],
    "fct_intervention_territoire": [
        _rule("sortie_avant_entree", "date_fin < date_debut", "on ne sort pas avant d'être entré"),
        _rule("cohorte_incoherente", "cohorte_annee <> extract(year from date_debut)", "la cohorte est l'année de début"),
        DEMONSTRATION,
    ],
    "mart_avancement": [
        _rule("taux_borne_hors_bornes", "taux_avancement_borne < 0 or taux_avancement_borne > 100", "le taux affiché est borné (R-TA)"),
        _rule("taux_sans_motif", "(taux_avancement is null) <> (motif is not null)", "un taux vide dit pourquoi, un taux présent n'a pas d'excuse (R-TA)"),
        _rule("objectif_sans_auteur", "source_id = 'interne__objectif' and (auteur_fonction is null or motif_objectif is null)", "un objectif a un auteur et une raison (R-REV)"),
    ],
    "mart_couverture": [
        _rule("promesse_a_moitie", "indicateurs_politique_publique = 0 or indicateurs_vie_quotidienne = 0", "chaque intervention porte sur la politique publique et sur la vie quotidienne"),
    ],
    "mart_sur_mesure": [
        _rule("issues_et_total_differents", "demandes <> demandes_closes + demandes_sans_suite + demandes_en_cours or demandes_closes <> demandes_reponse_locale + demandes_appui_national", "toute demande est close, sans suite ou en cours (II.c)"),
        _rule("part_hors_intervalle", "part_reponse_locale < wilson_bas - 1e-9 or part_reponse_locale > wilson_haut + 1e-9 or wilson_bas < 0 or wilson_haut > 100", "une part est dans son intervalle de Wilson"),
        _rule("part_sans_motif", "(part_reponse_locale is null) <> (motif is not null)", "une part vide dit pourquoi (R-MAN)"),
        _rule("delai_sans_motif", "(delai_median_interlocuteur_jours is null) <> (delai_motif is not null)", "un délai vide dit pourquoi (R-MAN)"),
        _rule("partie_au_dela_du_tout", "appuis_fragiles > appuis_nationaux or appuis_anciens_24m > appuis_nationaux or appuis_realises_24m > appuis_anciens_24m or demandes_en_manquement > demandes", "une partie ne dépasse pas son tout"),
        _rule("cible_absente", "cible is null", "la cible de 90 % est au catalogue"),
        DEMONSTRATION,
    ],
    "mart_consolidation_annuelle": [
        _rule("valeur_sans_raison", "valeur is null and commentaire is null", "un rapport à envoyer n'a pas de case vide sans raison"),
        DEMONSTRATION,
    ],
    "audit_protocole": [
        _rule("sans_preuve", "coalesce(preuve, '') = '' or demande_id is null", "un manquement nomme la demande et montre sa preuve"),
        DEMONSTRATION,
    ],
    "mart_contrat": [
        _rule("paye_au_dela_de_l_engage", "taux_paiement > 100.000001 or montant_paye_eur > montant_engage_eur + 0.005", "on ne paie pas plus que l'engagé"),
        _rule("acheve_au_dela_de_l_inscrit", "actions_achevees + actions_abandonnees > actions_inscrites", "une action achevée est inscrite"),
        DEMONSTRATION,
    ],
    "fct_demande": [
        _rule("etat_contraire_aux_dates", "(etat = 'réponse locale') and date_reponse_locale is null or (etat = 'appui national') and date_cloture_nationale is null or (etat = 'sans suite') and date_sans_suite is null", "l'état d'une demande suit de ses événements (II.c)"),
        _rule("attente_negative", "attente_interlocuteur_jours < 0", "on n'attend pas avant d'avoir demandé"),
        DEMONSTRATION,
    ],
    "fct_convention": [DEMONSTRATION],
    "fct_action": [DEMONSTRATION],
    "fct_engagement_financier": [DEMONSTRATION],
    "mart_fraicheur": [
        _rule("lignes_perdues", "lignes_lues <> lignes_gardees + lignes_rejetees + lignes_hors_tableau", "lignes lues = gardées + rejetées + notes"),
    ],
}  # fmt: skip

REQUIRED = {"dim_territoire", "dim_intervention", "dim_indicateur", "bridge_intervention_indicateur", "dim_source", "fct_observation"}


def facts_of(table: str, key: list[str]) -> list[Fact]:
    """All facts measured on a table: its size, its key, and its own rules."""
    found = [
        Fact("lignes", "count(*)", "la table n'est pas vide", 1 if table in REQUIRED else 0, None),
        Fact(PERSONNELLES, "0", "aucune adresse électronique, aucun téléphone ni numéro de sécurité sociale ne se publie (R-SEC)"),
    ]
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
    parts = [
        _Part(table, facts_of(table, key), {"candidat": folder / "parquet" / f"{table}.parquet"}) for table, key in sorted(tables.items())
    ]
    return _examine("candidat", parts)


@dataclass(frozen=True)
class _Part:
    """One table to examine: what is measured on it, and the Parquet file behind each view that this reads."""

    table: str
    facts: list[Fact]
    views: dict[str, Path]

    def open(self, con: Any) -> None:
        for name, path in self.views.items():
            quoted = path.as_posix().replace("'", "''")
            con.execute(f"create or replace view {name} as select * from read_parquet('{quoted}')")


# Values measured in this process, by the bytes that they were measured on and what was measured. The bytes of a table tell
# all that SQL finds in it, so publishing what this process audited hashes it again and does not count it again.
_KNOWN: dict[tuple[Any, ...], list[float | None]] = {}
_KNOWN_MAX = 1000


def _examine(etape: str, parts: list[_Part]) -> list[dict[str, Any]]:
    """Verdicts on tables, as rows of ``audit_controle``: each is measured in one statement, and all facts are judged at once."""
    import duckdb

    rows: list[dict[str, Any]] = []
    with duckdb.connect(config={"threads": 2}) as con:
        measured = [(part, *_measure(con, part)) for part in parts]
        told = [(fact.check(), value) for part, values, broken in measured if not broken for fact, value in zip(part.facts, values, strict=True)]
        verdicts = iter(judge_facts(told))
        for part, _, broken in measured:
            for fact in part.facts:
                verdict = Verdict(fact.check(), "cassé", "", broken) if broken else next(verdicts)
                samples: list[str] = []
                if verdict.resultat == "échoué":
                    verdict, samples = _explained(con, part, fact, verdict)
                rows.append(
                    {
                        "etape": etape, "cible": part.table, "controle": fact.nom, "resultat": verdict.resultat, "bloquant": fact.bloquant,
                        "observe": verdict.observe, "detail": verdict.detail, "pourquoi": fact.pourquoi, "exemples": samples,
                    }
                )  # fmt: skip
    return rows


def examples(folder: Path, table: str, key: list[str], check: str, limit: int = 10) -> list[str]:
    """The first rows of a table, in the Parquet files of a folder, that fail one of its checks; each as text."""
    import duckdb

    fact = next((f for f in facts_of(table, key) if f.nom == check), None)
    if fact is None or not fact.lignes:
        return []
    with duckdb.connect(config={"threads": 2}) as con:
        _Part(table, [fact], {"candidat": folder / "parquet" / f"{table}.parquet"}).open(con)
        found = con.execute(f"select * from candidat {fact.lignes} limit {limit}")
        names = [column[0] for column in found.description]
        return [
            " ; ".join(f"{name} = {value}" for name, value in zip(names, row, strict=True) if value is not None)[:500]
            for row in found.fetchall()
        ]


def _measure(con: Any, part: _Part) -> tuple[list[float | None], str]:
    """The values of all facts of one table, or why they cannot be measured."""
    import duckdb

    try:
        before = _bytes_of(part)
        key = (before, tuple(part.facts))
        if (known := _KNOWN.get(key)) is None:
            part.open(con)
            personal = _personal_values(_texts(con))
            facts = [replace(f, sql=f"(select count(*) from ({personal}))") if f.nom == PERSONNELLES else f for f in part.facts]
            known = list(con.execute(metrics_sql(facts)).fetchone() or [])
            if before == _bytes_of(part):
                if len(_KNOWN) >= _KNOWN_MAX:
                    _KNOWN.clear()
                _KNOWN[key] = known
    except (duckdb.Error, OSError) as error:
        return [], str(error).splitlines()[0]
    return known, ""


def _bytes_of(part: _Part) -> tuple[tuple[str, str], ...]:
    """Hash of the file behind each view of a table."""
    found = []
    for name, path in part.views.items():
        with path.open("rb") as stream:
            found.append((name, hashlib.file_digest(stream, "sha256").hexdigest()))
    return tuple(found)


def _texts(con: Any) -> list[str]:
    return [name for name, kind, *_ in con.execute("describe candidat").fetchall() if kind == "VARCHAR"]


def _explained(con: Any, part: _Part, fact: Fact, verdict: Verdict) -> tuple[Verdict, list[str]]:
    """The verdict on a failed check with up to ten rows that explain it; of personal data, only their shape."""
    part.open(con)
    if fact.nom == PERSONNELLES:
        told = con.execute(f"{_personal_values(_texts(con))} order by 1, 2 limit 10").fetchall()
        samples = [f"{column} : {masked(value)}" for column, value in told]
        return replace(verdict, detail=" ; ".join(samples[:3])), samples
    if fact.lignes:
        return verdict, [str(r) for r in con.execute(f"select * from candidat {fact.lignes} limit 10").fetchall()]
    return verdict, []


# What the public side of a candidate must be like, by table, on the views ``candidat`` (the public table), ``entier`` (the
# exact one) and ``cellules`` (the cells made from internal records, with what the secret decides).
_CELLULE = (
    "select 1 from cellules as c inner join indicateurs as i on c.mesure_id in (i.calcul_numerateur, i.calcul_denominateur) "
    "where i.indicateur_id = candidat.indicateur_id and c.territoire_niveau = candidat.territoire_niveau "
    "and c.territoire_code = candidat.territoire_code and c.periode_debut = candidat.periode_debut and c.periode_fin = candidat.periode_fin"
)
_MONTREE = "(candidat.valeur is not null or candidat.numerateur is not null or candidat.denominateur is not null)"
# What the columns of the sur-mesure count, said apart from what empties them.
_COMPTES = {
    **{name: name for name in (
        "demandes", "demandes_reponse_locale", "demandes_appui_national", "demandes_closes", "demandes_sans_suite", "demandes_en_cours",
        "appuis_nationaux", "appuis_fragiles", "appuis_anciens_24m", "appuis_realises_24m", "demandes_en_manquement", "manquements",
    )},
    "numerateur": "demandes_reponse_locale", "denominateur": "demandes_closes", "part_reponse_locale": "demandes_reponse_locale",
    "ecart_cible": "demandes_reponse_locale", "wilson_bas": "demandes_closes", "delai_designations": "interlocuteurs_designes",
    "delai_censures": "demandes_sans_interlocuteur", "part_appuis_fragiles": "appuis_fragiles", "part_realises_24m": "appuis_realises_24m",
}  # fmt: skip
_COMPTE_MONTRE = (
    "exists (select 1 from cellules as c where c.statut in ('primaire', 'secondaire') and c.territoire_niveau = candidat.territoire_niveau "
    "and c.territoire_code = candidat.territoire_code and c.periode_debut = candidat.periode_debut and c.periode_fin = candidat.periode_fin "
    "and (" + " or ".join(f"(c.mesure_id = '{mesure}' and candidat.{colonne} is not null)" for colonne, mesure in _COMPTES.items()) + "))"
)
PUBLIC_RULES: dict[str, list[Fact]] = {
    "mart_sur_mesure": [
        _rule("cellule_cachee_montree", _COMPTE_MONTRE, "aucune colonne du sur-mesure ne montre une cellule masquée, ni ce qui la donne (R-SEC)"),
    ],
    "fct_observation": [
        Fact("lignes_perdues", "count(*) - (select count(*) from entier)", "le secret vide des valeurs, il n'ôte pas de ligne"),
        _rule("secret_avec_valeur", f"statut_valeur = 'secret' and {_MONTREE}", "une valeur secrète ne s'affiche pas, ni ce qui la donne (R-SEC)"),
        _rule("cellule_cachee_montree", f"{_MONTREE} and exists ({_CELLULE} and c.statut in ('primaire', 'secondaire'))", "aucune observation ne montre une cellule masquée (R-SEC)"),
        _rule("releve_sans_cellule", f"source_id like 'interne__%' and {_MONTREE} and not exists ({_CELLULE})", "tout ce qui vient de relevés internes passe par le secret (R-SEC)"),
        _rule("version_anterieure_montree", f"source_id like 'interne__%' and not est_derniere_version and {_MONTREE}", "une ancienne version peut valoir moins que le seuil (R-SEC)"),
    ],
    "audit_rejet": [
        _rule("rejet_interne", "source_id like 'interne__%'", "les lignes rejetées des relevés internes ne se publient pas"),
    ],
}  # fmt: skip


def _public_facts(table: str) -> list[Fact]:
    return [*facts_of(table, [])[:2], *PUBLIC_RULES.get(table, [])]


def expected_public_checks(tables: list[str]) -> list[tuple[str, str]]:
    """(table, name) of every check that the audit of a public side must hold."""
    return [(table, fact.nom) for table in tables for fact in _public_facts(table)]


def audit_public(exact: Path, public: Path, tables: list[str]) -> list[dict[str, Any]]:
    """Verdicts on the public tables of a candidate, measured against the exact ones; rows of ``audit_controle``."""

    def views(table: str) -> dict[str, Path]:
        files = {"candidat": public, "entier": exact} | dict.fromkeys(("cellules", "indicateurs"), exact)
        names = {"cellules": "secret_cellule", "indicateurs": "dim_indicateur"}
        return {name: folder / "parquet" / f"{names.get(name, table)}.parquet" for name, folder in files.items()}

    return _examine("diffusion", [_Part(table, _public_facts(table), views(table)) for table in tables])
