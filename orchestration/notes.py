"""Release notes: what changed from one release to the next, which figures moved and why, which are withdrawn.

Why is told from the releases alone. Each observation names the bytes that it comes from and its delivery, each release its
definitions: a figure that changed with the bytes of its file was changed by its producer, one that changed without them by us.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

# What an indicator is, besides its words: when one of these changes, its figures are no longer the same thing.
DEFINITION = ("formule", "unite", "agregation", "calcul_type", "calcul_numerateur", "calcul_denominateur", "calcul_facteur", "sens_favorable")
MONTREES = 20

NOUVEL_INDICATEUR = "indicateur nouveau"
NOUVEAU_FICHIER = "fichier nouveau"
LIVRAISON = "livraison plus récente du producteur"
REVISION = "révision par le producteur (même livraison, autres octets)"
ABSENTE = "absente du nouveau fichier du producteur"
SECRET = "secret statistique (R-SEC)"
DEFINITION_CHANGEE = "définition de l'indicateur changée"
RETIRE = "indicateur retiré du catalogue"
REGLE = "règle ou programme corrigé (aucun fichier n'a changé)"
AUTRE = "même fichier : règle corrigée, ou autre source du calcul"


def compare(old: Path | None, new: Path) -> dict[str, Any]:
    """Differences between two releases; without ``old``, the rows of each table only.

    - ``tables``: rows before and after, by table of either.
    - ``mouvements``: (indicateur_id, libelle, sens, cause, observations), ``sens`` one of ajoutée, révisée, retirée.
    - ``revisions``, ``retraits``: the ``MONTREES`` values that moved most, or are gone: (indicateur_id, niveau, code, début,
      before, after, source, cause).
    - ``definitions``: (indicateur_id, libelle, column, before, after); ``retires``: (indicateur_id, libelle).
    - ``effets``: (intervention, indicator, verdict before, verdict after) of each declared effect whose verdict changed.
    - ``sources``: (source_id, delivery before and after, state before and after, why).
    """
    import duckdb

    found: dict[str, Any] = {
        "tables": {}, "mouvements": [], "revisions": [], "retraits": [], "definitions": [], "retires": [], "effets": [], "sources": [],
    }  # fmt: skip
    names = {path.name for folder in (old, new) if folder for path in (folder / "parquet").glob("*.parquet")}
    with duckdb.connect(config={"threads": 2}) as con:

        def count(folder: Path | None, name: str) -> int:
            if folder is None or not (path := folder / "parquet" / name).exists():
                return 0
            row = con.execute("select count(*) from read_parquet(?)", [str(path)]).fetchone()
            return int(row[0]) if row else 0

        for name in sorted(names):
            found["tables"][name.removesuffix(".parquet")] = (count(old, name), count(new, name))

        def both(table: str) -> bool:
            """Views ``avant_<table>`` and ``apres_<table>``; False when one of the releases has no such table."""
            if old is None or not all((folder / "parquet" / f"{table}.parquet").exists() for folder in (old, new)):
                return False
            for side, folder in (("avant", old), ("apres", new)):
                path = str(folder / "parquet" / f"{table}.parquet").replace("'", "''")
                con.execute(f"create view {side}_{table} as select * from read_parquet('{path}')")
            return True

        if both("mart_fraicheur"):
            found["sources"] = con.execute(
                "select source_id, a.dernier_millesime, n.dernier_millesime, a.statut, n.statut, n.motif "
                "from avant_mart_fraicheur a full join apres_mart_fraicheur n using (source_id) "
                "where a.snapshot_sha256 is distinct from n.snapshot_sha256 or a.statut is distinct from n.statut order by 1"
            ).fetchall()
        if both("dim_indicateur") and both("fct_observation"):
            _definitions(con, found)
            _values(con, found)
        if both("mart_impact"):
            found["effets"] = con.execute(
                "select intervention_id, indicateur_id, a.statut, n.statut from avant_mart_impact a full join apres_mart_impact n "
                "using (estimation_id, intervention_id, indicateur_id) where a.statut is distinct from n.statut order by 1, 2"
            ).fetchall()
    return found


def _definitions(con: Any, found: dict[str, Any]) -> None:
    """Definitions that changed and indicators that are gone."""
    had, have = ({row[0] for row in con.execute(f"describe {side}_dim_indicateur").fetchall()} for side in ("avant", "apres"))
    for column in (name for name in DEFINITION if name in had & have):
        found["definitions"] += con.execute(
            f"select indicateur_id, n.libelle, '{column}', cast(a.{column} as varchar), cast(n.{column} as varchar) from avant_dim_indicateur a "
            f"inner join apres_dim_indicateur n using (indicateur_id) where a.{column} is distinct from n.{column} order by 1"
        ).fetchall()
    found["retires"] = con.execute(
        "select indicateur_id, a.libelle from avant_dim_indicateur a anti join apres_dim_indicateur n using (indicateur_id) order by 1"
    ).fetchall()


def _values(con: Any, found: dict[str, Any]) -> None:
    """Last known values that are not the same in both releases, each with its cause."""
    for side in ("avant", "apres"):
        con.execute(
            f"create view {side} as select indicateur_id, territoire_niveau, territoire_code, periode_debut, periode_fin, valeur, statut_valeur, "
            f"source_id, millesime, snapshot_sha256 from {side}_fct_observation where est_derniere_version"
        )
        con.execute(f"create table fichiers_{side} as select distinct snapshot_sha256 from {side}")
        con.execute(f"create table indicateurs_{side} as select indicateur_id, libelle from {side}_dim_indicateur")
    con.execute("create table redefinis (indicateur_id varchar)")
    if changed := sorted({row[0] for row in found["definitions"]}):
        con.execute("insert into redefinis select unnest(?)", [changed])
    on = "using (indicateur_id, territoire_niveau, territoire_code, periode_debut, periode_fin)"
    con.execute(
        "create table paires as select coalesce(n.source_id, a.source_id) as source_id, indicateur_id, territoire_niveau, territoire_code, "
        "periode_debut, a.valeur as ancienne, n.valeur as nouvelle, a.statut_valeur as ancien_statut, n.statut_valeur as nouveau_statut, "
        "a.millesime as ancien_millesime, n.millesime as nouveau_millesime, a.snapshot_sha256 as ancien_fichier, n.snapshot_sha256 as nouveau_fichier, "
        "case when a.statut_valeur is null then 'ajoutée' when n.statut_valeur is null then 'retirée' else 'révisée' end as sens "
        f"from avant a full join apres n {on} where a.valeur is distinct from n.valeur or a.statut_valeur is distinct from n.statut_valeur"
    )
    # Without a changed file nothing but a rule or the code can move a figure; with one, the file of another source may.
    ours = f"{AUTRE} ({_first([row[0] for row in found['sources']], 3)})" if found["sources"] else REGLE
    con.execute(
        "create table mouvements as select paires.*, case "
        "when sens = 'ajoutée' and indicateurs_avant.indicateur_id is null then $nouvel_indicateur "
        "when sens = 'retirée' and indicateurs_apres.indicateur_id is null then $retire "
        "when sens = 'révisée' and 'secret' in (ancien_statut, nouveau_statut) then $secret "
        "when sens = 'ajoutée' and fichiers_avant.snapshot_sha256 is null then $nouveau_fichier "
        "when sens = 'retirée' and fichiers_apres.snapshot_sha256 is null then $absente "
        "when sens = 'révisée' and ancien_fichier <> nouveau_fichier and ancien_millesime = nouveau_millesime then $revision "
        "when sens = 'révisée' and ancien_fichier <> nouveau_fichier then $livraison "
        "when redefinis.indicateur_id is not null then $definition "
        "else $nous end as cause from paires "
        "left join indicateurs_avant using (indicateur_id) left join indicateurs_apres using (indicateur_id) left join redefinis using (indicateur_id) "
        "left join fichiers_avant on fichiers_avant.snapshot_sha256 = nouveau_fichier "
        "left join fichiers_apres on fichiers_apres.snapshot_sha256 = ancien_fichier",
        {
            "nouvel_indicateur": NOUVEL_INDICATEUR, "retire": RETIRE, "secret": SECRET, "nouveau_fichier": NOUVEAU_FICHIER, "absente": ABSENTE,
            "revision": REVISION, "livraison": LIVRAISON, "definition": DEFINITION_CHANGEE, "nous": ours,
        },
    )  # fmt: skip
    found["mouvements"] = con.execute(
        "select m.indicateur_id, coalesce(n.libelle, a.libelle, m.indicateur_id), m.sens, m.cause, count(*) from mouvements m "
        "left join indicateurs_avant a using (indicateur_id) left join indicateurs_apres n using (indicateur_id) group by all order by 1, 3, 4"
    ).fetchall()
    shown = "select indicateur_id, territoire_niveau, territoire_code, periode_debut, ancienne, nouvelle, source_id, cause from mouvements "
    found["revisions"] = con.execute(
        f"{shown} where sens = 'révisée' order by abs(coalesce(nouvelle, 0) - coalesce(ancienne, 0)) desc, 1, 2, 3, 4 limit {MONTREES}"
    ).fetchall()
    found["retraits"] = con.execute(f"{shown} where sens = 'retirée' order by 1, 2, 3, 4 limit {MONTREES}").fetchall()


def changes(
    old: Path | None, new: Path, title: str, mention: str | None = None, secret: dict[str, Any] | None = None,
    first: str = "Première publication.",
) -> str:
    """Release notes in French Markdown, from ``compare``; ``first`` says why there is nothing to compare with."""
    facts = compare(old, new)
    lines = [f"# Publication {title}", ""]
    if mention:
        lines += [f"**{mention.capitalize()}** : aucune valeur qui en porte la mention n'est réelle.", ""]
    lines.append(f"Comparée à {old.name}." if old else first)
    if old:
        lines += ["", "## En bref", "", *(f"- {line}" for line in _summary(facts))]
        lines += _figures(facts)
        lines += ["", "## Sources dont la livraison ou l'état a changé", ""]
        lines += [
            f"- {source} : {before or 'rien'} → {after or 'rien'} ; {was or '-'} → {now or '-'}{f' ({why})' if why else ''}"
            for source, before, after, was, now, why in facts["sources"]
        ] or ["Aucune."]
    if secret and secret["cellules"]:
        lines += ["", "## Secret statistique (R-SEC)", ""]
        lines.append(
            f"{secret['cellules']} cellules tirées de relevés internes ; masquées dans la version publique : {_share(secret['part_primaire'])} "
            f"parce qu'elles sont sensibles, {_share(secret['part_secondaire'])} pour qu'aucune différence ne les rende."
        )
        if secret["sans_preuve"]:
            lines += ["", f"{secret['sans_preuve']} d'entre elles ont été montrées par une publication antérieure : rien ne peut plus les protéger."]
        lines += ["", "| niveau | cellules | masquées |", "| --- | ---: | ---: |"]
        lines += [f"| {name} | {level['cellules']} | {_share(level['part_masquee'])} |" for name, level in secret["niveaux"].items()]
    lines += ["", "## Tables", "", "| table | lignes avant | lignes après |", "| --- | ---: | ---: |"]
    lines += [f"| {name} | {before} | {after} |" for name, (before, after) in facts["tables"].items()]
    return "\n".join(lines) + "\n"


def _summary(facts: dict[str, Any]) -> list[str]:
    """What changed, in a few sentences that stand alone."""
    out = []
    for sens, word in (("révisée", "déjà publiée{s} {a} changé"), ("ajoutée", "nouvelle{s}"), ("retirée", "retirée{s}")):
        causes: dict[str, int] = {}
        names = set()
        for name, _, way, cause, number in facts["mouvements"]:
            if way == sens:
                causes[cause] = causes.get(cause, 0) + number
                names.add(name)
        if total := sum(causes.values()):
            plural = "s" if total > 1 else ""
            why = " ; ".join(f"{cause} ({number})" for cause, number in sorted(causes.items(), key=lambda item: -item[1]))
            verb = word.format(s=plural, a="ont" if plural else "a")
            out.append(f"{_spaced(total)} valeur{plural} {verb}, dans {len(names)} indicateur{'s' * (len(names) > 1)} : {why}.")
    if facts["definitions"]:
        out.append(f"Définition changée : {_first(sorted({name for name, *_ in facts['definitions']}))}.")
    if facts["retires"]:
        out.append(f"Indicateur{'s' * (len(facts['retires']) > 1)} retiré{'s' * (len(facts['retires']) > 1)} : {_first([name for name, _ in facts['retires']])}.")
    if facts["effets"]:
        number = len(facts["effets"])
        out.append(f"{number} effet{'s' * (number > 1)} d'intervention {'ont' if number > 1 else 'a'} une autre conclusion.")
    if moved := len(facts["sources"]):
        out.append(f"{moved} source{'s' * (moved > 1)} {'ont' if moved > 1 else 'a'} une autre livraison ou un autre état.")
    gone = [name for name, (before, after) in facts["tables"].items() if before and not after]
    if gone:
        out.append(f"Table{'s' * (len(gone) > 1)} désormais vide{'s' * (len(gone) > 1)} ou retirée{'s' * (len(gone) > 1)} : {', '.join(gone)}.")
    return out or ["Aucune valeur, aucune source et aucune définition n'a changé."]


def _figures(facts: dict[str, Any]) -> list[str]:
    """Figures that moved, each indicator with its causes, then the strongest revisions, what is withdrawn and what is redefined."""
    lines = ["", "## Valeurs", ""]
    if facts["mouvements"]:
        by_name: dict[str, dict[str, Any]] = {}
        for name, label, sens, cause, number in facts["mouvements"]:
            row = by_name.setdefault(name, {"label": label, "ajoutée": 0, "retirée": 0, "révisée": 0, "causes": {}})
            row[sens] += number
            row["causes"].setdefault(cause, set()).add(sens)
        lines += ["| indicateur | ajoutées | retirées | révisées | pourquoi |", "| --- | ---: | ---: | ---: | --- |"]
        for name, row in by_name.items():
            single = len({sens for way in row["causes"].values() for sens in way}) == 1
            why = " ; ".join(cause if single else f"{'s, '.join(sorted(way))}s : {cause}" for cause, way in row["causes"].items())
            lines.append(f"| {row['label']} (`{name}`) | {row['ajoutée']} | {row['retirée']} | {row['révisée']} | {why} |")
    else:
        lines.append("Aucune valeur n'a changé.")
    if facts["revisions"]:
        total = sum(n for _, _, sens, _, n in facts["mouvements"] if sens == "révisée")
        lines += ["", "## Révisions : valeurs déjà publiées qui ont changé", ""]
        lines += [f"Les {MONTREES} plus fortes, en écart absolu." if total > MONTREES else "Toutes.", ""]
        lines += [
            f"- {name}, {niveau} {code}, {day} : {_number(before)} → {_number(after)} ({source} ; {cause})"
            for name, niveau, code, day, before, after, source, cause in facts["revisions"]
        ]
    if facts["retraits"]:
        total = sum(n for _, _, sens, _, n in facts["mouvements"] if sens == "retirée")
        lines += ["", "## Retraits : valeurs publiées qui ne le sont plus", ""]
        lines += [f"{MONTREES} sur {_spaced(total)} ; « dk query » sur l'ancienne publication les donne toutes." if total > MONTREES else "Toutes.", ""]
        lines += [
            f"- {name}, {niveau} {code}, {day} : {_number(before)} ({source} ; {cause})"
            for name, niveau, code, day, before, _, source, cause in facts["retraits"]
        ]
    if facts["definitions"] or facts["retires"]:
        lines += ["", "## Définitions changées ou retirées", ""]
        lines += [f"- {label} (`{name}`), {column} : {before or 'vide'} → {after or 'vide'}" for name, label, column, before, after in facts["definitions"]]
        lines += [f"- {label} (`{name}`) : retiré du catalogue" for name, label in facts["retires"]]
    if facts["effets"]:
        lines += ["", "## Effets dont la conclusion a changé", ""]
        lines += [f"- {intervention}, {name} : {before or 'non cherché'} → {after or 'retiré'}" for intervention, name, before, after in facts["effets"]]
    return lines


def _first(names: list[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" et {len(names) - most} autres" if len(names) > most else "")


def _spaced(value: int) -> str:
    return f"{value:_}".replace("_", "\u202f")


def _share(value: float) -> str:
    return f"{100 * value:.1f} %".replace(".", ",")


def _number(value: float | None) -> str:
    return "sans valeur" if value is None else f"{value:.12g}".replace(".", ",")
