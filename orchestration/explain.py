"""From a published value to the bytes it came from: the chain that ``dk explain`` shows and that pages repeat.

Everything is read from one release, then from what the installation still holds: the declarations, the models and the
snapshots. What is no longer there is said, never guessed.
"""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

from ingestion.declarations import PROJECT, load_sources
from ingestion.paths import Home, read_json, whole_parquet

NIVEAUX = ("commune", "epci", "arrondissement", "departement", "region", "national", "zone_emploi", "qpv_2015", "qpv_2024", "perimetre")
MODELE = "fct_observation"
MEMBRES = 12  # members of an aggregate that are listed; their number is always told


class ExplainError(ValueError):
    """The question cannot be answered; the French message says what exists that comes near."""


def explain(
    where: Home, release: Path, indicateur: str, territoire: str, date: dt.date | None = None, with_sql: bool = False
) -> dict[str, Any]:
    """The chain of one published value, as a document of plain types.

    ``territoire`` is a code, or ``niveau:code`` when the same code exists at several levels. ``date`` is a day of the
    period wanted, the last period by default. Raises ExplainError for an unknown indicator, territory or period.
    """
    import duckdb

    with duckdb.connect(str(release / "dernier_kilometre.duckdb"), read_only=True) as con:
        con.execute("set enable_external_access = false")
        definition = _indicator(con, indicateur)
        niveau, code = _territory(con, indicateur, territoire)
        row = _observation(con, indicateur, niveau, code, date)
        chain = {
            "publication": _release(release),
            "indicateur": definition,
            "territoire": {"niveau": niveau, "code": code, "nom": _name(con, niveau, code)},
            "valeur": row,
            "revisions": _versions(con, row),
            "calcul": _formula(definition, row),
            "membres": _members(con, row) if row["provenance"] == "agrégé" else None,
            "modele": _model(where, with_sql),
            "controles": _checks(con, row),
            "source": _source(con, row),
        }
    chain["lignes"] = _lines(where, definition, row)
    chain["instantane"] = _snapshot(where, row)
    return chain


# --- in the release ---------------------------------------------------------------------------------------------


def _rows(con: Any, sql: str, *parameters: Any) -> list[dict[str, Any]]:
    cursor = con.execute(sql, list(parameters))
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def _release(release: Path) -> dict[str, Any]:
    package = json.loads((release / "datapackage.json").read_text(encoding="utf-8"))
    return {"id": release.name, "creee_le": package["created"], "dossier": str(release)}


def _indicator(con: Any, indicateur: str) -> dict[str, Any]:
    import difflib

    found = _rows(con, "select * from dim_indicateur where indicateur_id = ?", indicateur)
    if found:
        return found[0]
    # People name an indicator by its identifier, nearly, or by the words that pages show.
    labels = {r["indicateur_id"]: r["libelle"].casefold() for r in _rows(con, "select indicateur_id, libelle from dim_indicateur order by 1")}
    said = indicateur.casefold()
    worded = [name for name, label in labels.items() if said in label or label in difflib.get_close_matches(said, labels.values(), n=3, cutoff=0.7)]
    near = list(dict.fromkeys([*difflib.get_close_matches(said, labels, n=4, cutoff=0.6), *worded]))[:4]
    raise ExplainError(
        f"aucun indicateur ne s'appelle « {indicateur} »"
        + (f" ; s'en approchent : {', '.join(near)}" if near else "")
        + ". La liste : dk query \"select indicateur_id, libelle from dim_indicateur\""
    )


def _territory(con: Any, indicateur: str, territoire: str) -> tuple[str, str]:
    """Level and code of the territory meant, among those where the indicator has a row."""
    niveau, _, code = territoire.rpartition(":")
    if niveau and niveau not in NIVEAUX:
        raise ExplainError(f"« {niveau} » n'est pas un niveau de territoire ; choisir parmi {', '.join(NIVEAUX)}")
    levels = [
        r["territoire_niveau"]
        for r in _rows(
            con, "select distinct territoire_niveau from fct_observation where indicateur_id = ? and territoire_code = ? order by 1",
            indicateur, code,
        )
        if niveau in ("", r["territoire_niveau"])
    ]  # fmt: skip
    if len(levels) == 1:
        return levels[0], code
    if levels:
        raise ExplainError(
            f"le code {code} désigne plusieurs territoires ; préciser l'un de : {', '.join(f'{level}:{code}' for level in levels)}"
        )
    known = _rows(
        con,
        "select territoire_niveau, max(territoire_nom) as nom, max(cog_annee) as dernier, bool_or(est_pivot) as au_pivot "
        "from dim_territoire where territoire_code = ? group by 1 order by 1",
        code,
    )
    if not known:
        # Municipal arrondissements, and communes gone before the first vintage in hand, are known by where they went only.
        if moved := _successors(con, code):
            raise ExplainError(f"{code} n'est pas, ou plus, un code de commune de cette publication. {_now(indicateur, 'commune', moved)}")
        raise ExplainError(
            f"aucun territoire ne porte le code {code} dans les millésimes en main ; un code garde ses zéros de tête (01001, 2A004)"
        )
    if not any(k["au_pivot"] for k in known):
        raise ExplainError(_gone(con, indicateur, code, known[0]))
    have = _rows(
        con, "select territoire_niveau, count(distinct territoire_code) as n from fct_observation where indicateur_id = ? group by 1 order by 1",
        indicateur,
    )  # fmt: skip
    levels_text = ", ".join(f"{r['territoire_niveau']} ({r['n']})" for r in have) or "nulle part"
    raise ExplainError(
        f"{indicateur} n'a aucune ligne pour {code} ({', '.join(k['territoire_niveau'] + ' ' + k['nom'] for k in known)}) ; "
        f"il en a à ces niveaux : {levels_text}"
    )


def _gone(con: Any, indicateur: str, code: str, last: dict[str, Any]) -> str:
    """What became of a territory of an older vintage: where its communes are now, and what to ask instead.

    A commune is told by the published successors; any other territory by where the communes that it last had are today.
    """
    niveau = last["territoire_niveau"]
    found = _successors(con, code) if niveau == "commune" else _heirs(con, niveau, code, last["dernier"])
    begin = f"{code} ({last['nom']}, {niveau}) est un code d'un ancien millésime : il n'existe plus après le COG {last['dernier']}. "
    if not found:
        return begin + "Cette publication ne dit pas ce qu'il est devenu ; chercher par son nom dans dim_territoire."
    return begin + _now(indicateur, niveau, found)


def _now(indicateur: str, niveau: str, found: list[dict[str, Any]]) -> str:
    shown = " ; ".join(f"{row['nom']} ({row['code']}{', ' + row['part'] if row['part'] else ''})" for row in found[:5])
    more = f" ; et {len(found) - 5} autres" if len(found) > 5 else ""
    return f"Aujourd'hui : {shown}{more}. Demander : dk explain {indicateur} {niveau}:{found[0]['code']}"


def _tells_successors(con: Any) -> bool:
    """False in a release older than the table of successors."""
    return bool(_rows(con, "select 1 from information_schema.tables where table_name = 'bridge_territoire_successeur'"))


def _successors(con: Any, code: str) -> list[dict[str, Any]]:
    """Communes of today where an old commune went, the biggest part first."""
    if not _tells_successors(con):
        return []
    rows = _rows(
        con, "select commune_code as code, commune_nom as nom, part from bridge_territoire_successeur where ancien_code = ? and cog_annee = "
        "(select max(cog_annee) from bridge_territoire_successeur where ancien_code = ?) order by part desc, commune_code",
        code, code,
    )  # fmt: skip
    return [row | {"part": "" if row["part"] == 1 else f"{100 * row['part']:.0f} % de ses habitants"} for row in rows]


def _heirs(con: Any, niveau: str, code: str, year: int) -> list[dict[str, Any]]:
    """Territories of the same level where the communes that one had in a vintage are today, the one with most of them first."""
    if not _tells_successors(con):
        return []
    rows = _rows(
        con, "with anciens as (select membre_code as code from bridge_territoire where membre_niveau = 'commune' and parent_niveau = ? "
        "and parent_code = ? and cog_annee = ?), communes as (select code from anciens union select suite.commune_code "
        "from bridge_territoire_successeur as suite inner join anciens on anciens.code = suite.ancien_code where suite.cog_annee = ?) "
        "select place.territoire_code as code, place.territoire_nom as nom, count(distinct communes.code) as n from communes "
        "inner join bridge_territoire as lien on lien.membre_niveau = 'commune' and lien.membre_code = communes.code and lien.parent_niveau = ? "
        "inner join dim_territoire as place on place.est_pivot and place.territoire_niveau = lien.parent_niveau "
        "and place.territoire_code = lien.parent_code and place.cog_annee = lien.cog_annee group by 1, 2 order by 3 desc, 1",
        niveau, code, year, year, niveau,
    )  # fmt: skip
    return [row | {"part": f"{row['n']} commune{'s' * (row['n'] > 1)}"} for row in rows]


def _name(con: Any, niveau: str, code: str) -> str:
    found = _rows(
        con, "select territoire_nom from dim_territoire where territoire_niveau = ? and territoire_code = ? order by cog_annee desc limit 1",
        niveau, code,
    )  # fmt: skip
    return found[0]["territoire_nom"] if found else code


def _observation(con: Any, indicateur: str, niveau: str, code: str, date: dt.date | None) -> dict[str, Any]:
    rows = _rows(
        con,
        "select * from fct_observation where indicateur_id = ? and territoire_niveau = ? and territoire_code = ? "
        "and est_derniere_version order by periode_debut, periode_fin",
        indicateur, niveau, code,
    )  # fmt: skip
    if date is None:
        return rows[-1]
    inside = [row for row in rows if row["periode_debut"] <= date <= row["periode_fin"]]
    if inside:
        return inside[-1]
    raise ExplainError(
        f"aucune période de {indicateur} ne contient le {date} pour {niveau} {code} ; la série va du {rows[0]['periode_debut']} au "
        f"{rows[-1]['periode_fin']} ({len(rows)} périodes)"
    )


def _versions(con: Any, row: dict[str, Any]) -> list[dict[str, Any]]:
    """All that was ever known of this value, oldest first: one entry when its producer never revised it (R-REV)."""
    return _rows(
        con,
        "select connue_le, valeur, statut_valeur, millesime, snapshot_sha256 from fct_observation where indicateur_id = ? "
        "and territoire_niveau = ? and territoire_code = ? and periode_debut = ? and periode_fin = ? order by connue_le, millesime",
        *(row[name] for name in ("indicateur_id", "territoire_niveau", "territoire_code", "periode_debut", "periode_fin")),
    )


def _formula(definition: dict[str, Any], row: dict[str, Any]) -> dict[str, Any]:
    """The declared calculation with this row's figures in it, and whether they give the published value again."""
    kind, factor = definition["calcul_type"], definition["calcul_facteur"] or 1.0
    top, bottom, value = row["numerateur"], row["denominateur"], row["valeur"]
    if kind == "valeur" or top is None:
        again = None
        text = "valeur publiée par le producteur, reprise telle quelle" if kind == "valeur" else "aucun calcul : la valeur est vide"
    elif kind == "somme":
        again = top * factor
        text = f"{_figure(top)}" + (f" × {_figure(factor)}" if factor != 1 else "")
    else:
        again = top / bottom * factor if bottom else None
        text = f"{_figure(top)} / {_figure(bottom)}" + (f" × {_figure(factor)}" if factor != 1 else "")
    checked = None if again is None or value is None else abs(again - value) <= 1e-9 * max(1.0, abs(value))
    return {
        "type": kind, "formule": definition["formule"], "mesure_numerateur": definition["calcul_numerateur"],
        "mesure_denominateur": definition["calcul_denominateur"], "facteur": factor, "numerateur": top, "denominateur": bottom,
        "application": text, "refait": again, "redonne_la_valeur": checked,
    }  # fmt: skip


def _members(con: Any, row: dict[str, Any]) -> dict[str, Any]:
    """The rows that an aggregate adds up: those of its members at the finest level, for the same delivery and period."""
    rows = _rows(
        con,
        "select distinct membre.territoire_niveau, membre.territoire_code, membre.numerateur, membre.denominateur, membre.statut_valeur "
        "from fct_observation as membre "
        "inner join bridge_territoire as lien on lien.membre_niveau = membre.territoire_niveau and lien.membre_code = membre.territoire_code "
        "and lien.parent_niveau = ? and lien.parent_code = ? and lien.cog_annee = ? "
        "where membre.indicateur_id = ? and membre.periode_debut = ? and membre.periode_fin = ? and membre.source_id = ? "
        "and membre.millesime = ? and membre.provenance <> 'agrégé' order by membre.numerateur desc nulls last, 2",
        row["territoire_niveau"], row["territoire_code"], row["cog_annee"], row["indicateur_id"], row["periode_debut"],
        row["periode_fin"], row["source_id"], row["millesime"],
    )  # fmt: skip
    return {
        "nombre": len(rows), "renseignes": sum(r["numerateur"] is not None for r in rows), "part_couverte": row["part_couverte"],
        "principaux": rows[:MEMBRES],
    }  # fmt: skip


def _checks(con: Any, row: dict[str, Any]) -> list[dict[str, Any]]:
    """Checks that guarded this value: its file at the door, its models in the build, its table in the candidate."""
    return _rows(
        con,
        "select etape, cible, controle, resultat, bloquant, pourquoi from audit_controle "
        "where cible in ('fct_observation', 'dim_indicateur') or cible like ? order by etape, cible, controle",
        f"{row['source_id']}:%",
    )


def _source(con: Any, row: dict[str, Any]) -> dict[str, Any]:
    """The source of a value; its licence is that of the very file, when the source has several."""
    found = _rows(con, "select * from dim_source where source_id = ?", row["source_id"])
    declared = load_sources().get(row["source_id"])
    files = [item for item in declared.meta.livraisons if item.millesime == row["millesime"]] if declared else []
    return (found[0] if found else {"source_id": row["source_id"]}) | ({"licence": declared.licence_de(files[0])} if declared and files else {})


# --- beside the release -----------------------------------------------------------------------------------------


def _model(where: Home, with_sql: bool) -> dict[str, Any]:
    """The model that computed the value and all those above it, from the manifest of the last build."""
    path = where.work / "dbt" / "manifest.json"
    if (manifest := read_json(path)) is None:
        state = f"{path} est illisible" if path.exists() else "le manifeste de la construction n'est plus là"
        return {"nom": MODELE, "amont": [], "note": f"{state} ; « dk run » le refait"}
    nodes = manifest["nodes"]
    by_name = {node["name"]: node for node in nodes.values() if node["resource_type"] == "model"}
    order: list[str] = []

    def climb(name: str) -> None:
        for parent in by_name[name]["depends_on"]["nodes"]:
            parent_name = parent.rsplit(".", 1)[-1]
            if parent in nodes and parent_name in by_name and parent_name not in order:
                climb(parent_name)
        if name not in order:
            order.append(name)

    climb(MODELE)
    entries = [{"nom": name, "fichier": f"dbt_project/{by_name[name]['original_file_path']}"} for name in reversed(order)]
    if with_sql:
        for entry in entries:
            entry["sql"] = (PROJECT / entry["fichier"]).read_text(encoding="utf-8")
    return {"nom": MODELE, "fichier": entries[0]["fichier"], "amont": entries}


def _lines(where: Home, definition: dict[str, Any], row: dict[str, Any]) -> dict[str, Any]:
    """Lines of the published file behind the value, by the landed measures; the file's own names of the columns beside."""
    import polars as pl

    source = load_sources().get(row["source_id"])
    names = [name for name in (definition["calcul_numerateur"], definition["calcul_denominateur"]) if name]
    columns = [
        {"colonne": c.name, "colonne_origine": list(c.meta.origines), "mesure": c.meta.mesure.id, "unite": c.meta.unite, "description": c.description}
        for c in (source.columns if source else ())
        if c.meta.mesure and c.meta.mesure.id in names
    ]  # fmt: skip
    path = where.landing / "mesures" / f"{row['source_id']}.parquet"
    if not whole_parquet(path):
        state = f"{path} est illisible" if path.exists() else "les mesures lues ne sont plus dans work/landing"
        return {"colonnes": columns, "lignes": None, "note": f"{state} ; « dk run » les refait"}
    read = pl.scan_parquet(path).filter(
        pl.col("mesure_id").is_in(names) & (pl.col("snapshot_sha256") == row["snapshot_sha256"])
        & (pl.col("periode_debut") == row["periode_debut"]) & (pl.col("territoire_code") == row["territoire_code"])
        & (pl.col("territoire_niveau") == row["territoire_niveau"])
    )  # fmt: skip
    try:
        found = read.select("mesure_id", "ligne", "valeur", "statut_valeur", "cog_annee").sort("mesure_id", "ligne").collect()
    except pl.exceptions.PolarsError:
        return {"colonnes": columns, "lignes": None, "note": f"{path} est illisible ; le supprimer, puis « dk run » le refait"}
    note = "" if found.height else "aucune ligne ne porte ce code tel quel : la valeur vient d'un changement de géographie ou d'un agrégat"
    return {"colonnes": columns, "lignes": found.head(20).to_dicts(), "note": note}


def _snapshot(where: Home, row: dict[str, Any]) -> dict[str, Any]:
    """The manifest entry of the published bytes, and whether they are still here and intact."""
    from dataclasses import asdict

    from ingestion.snapshots import SnapshotError, SnapshotStore

    store = SnapshotStore(where.snapshots)
    sha256 = row["snapshot_sha256"]
    note = "aucun manifeste de cette installation ne cite ces octets"
    try:
        entry = next((asdict(s) for s in store.history(row["source_id"]) if s.sha256 == sha256), None)
    except SnapshotError as error:
        entry, note = None, str(error)
    try:
        store.verify(sha256)
        state = "présents et intacts"
    except SnapshotError as error:
        state = str(error)
    facts = entry or {"sha256": sha256, "note": note}
    return facts | {"octets_sur_place": state, "fichier_local": str(store.blob(sha256))}


# --- for a person -----------------------------------------------------------------------------------------------


def _figure(value: Any) -> str:
    """A number as French prose writes it."""
    if value is None:
        return "vide"
    if isinstance(value, float):
        text = f"{value:,.6f}".rstrip("0").rstrip(".") if abs(value) < 1e15 else f"{value:g}"
        return text.replace(",", "\u202f").replace(".", ",")
    return str(value)


def as_text(chain: dict[str, Any]) -> str:
    """The chain as French text, one numbered step after the other."""
    value, indicator, place = chain["valeur"], chain["indicateur"], chain["territoire"]
    steps: list[tuple[str, list[str]]] = []
    shown = f"{_figure(value['valeur'])} {value['unite'] or ''}".strip() if value["valeur"] is not None else f"aucune ({value['motif'] or 'sans motif'})"
    steps.append((
        "Valeur publiée",
        [
            f"{shown}, {value['statut_valeur']}, période du {value['periode_debut']} au {value['periode_fin']}",
            f"{place['nom']} ({place['niveau']} {place['code']}, COG {value['cog_annee']}), {value['provenance']}, série n° {value['serie']}",
            f"connue depuis le {value['connue_le']}" + (f", après {len(chain['revisions']) - 1} révision(s)" if len(chain["revisions"]) > 1 else ", jamais révisée"),
            f"publication {chain['publication']['id']}",
        ],
    ))  # fmt: skip
    calcul = chain["calcul"]
    lines = [f"{indicator['libelle']} : {indicator['formule']}", f"calcul « {calcul['type']} » : {calcul['application']}"]
    if calcul["redonne_la_valeur"] is not None:
        lines.append("refait ici : " + ("même valeur" if calcul["redonne_la_valeur"] else f"DIFFÉRENT, {_figure(calcul['refait'])}"))
    for part in ("numerateur", "denominateur"):
        if calcul[f"mesure_{part}"] and calcul[part] is not None:
            lines.append(f"{'numérateur' if part == 'numerateur' else 'dénominateur'} : {calcul[f'mesure_{part}']} = {_figure(calcul[part])}")
    steps.append(("Règle et calcul", lines))
    if members := chain["membres"]:
        share = "" if members["part_couverte"] is None else f", {_figure(round(100 * members['part_couverte'], 1))} % de la population couverte"
        steps.append((
            "Membres additionnés",
            [f"{members['renseignes']} renseignés sur {members['nombre']}{share}"]
            + [f"{m['territoire_niveau']} {m['territoire_code']} : {_figure(m['numerateur'])} / {_figure(m['denominateur'])}" for m in members["principaux"]],
        ))  # fmt: skip
    model = chain["modele"]
    steps.append(("Modèle et SQL", [model.get("fichier", model.get("note", ""))] + [f"en amont : {m['fichier']}" for m in model["amont"][1:]]))
    bad = [c for c in chain["controles"] if c["resultat"] != "réussi"]
    steps.append((
        "Contrôles passés",
        [f"{len(chain['controles']) - len(bad)} réussis sur {len(chain['controles'])}"]
        + [f"{c['etape']} / {c['controle']} : {c['resultat']} ({c['pourquoi']})" for c in bad]
        + [f"{c['etape']} : {c['controle']}, {c['pourquoi']}" for c in chain["controles"] if c["resultat"] == "réussi" and c["pourquoi"]][:8],
    ))  # fmt: skip
    rows = chain["lignes"]
    lines = [
        (f"colonne « {' » ou « '.join(c['colonne_origine'])} »" if c["colonne_origine"] else "cellule d'un tableau croisé")
        + f" du fichier ({c['mesure']}, {c['unite'] or 'sans unité'})"
        for c in rows["colonnes"]
    ]
    lines += [f"ligne {r['ligne']} : {r['mesure_id']} = {_figure(r['valeur'])} ({r['statut_valeur']}, COG {r['cog_annee']})" for r in rows["lignes"] or []]
    steps.append(("Lignes du fichier", [*lines, *([rows["note"]] if rows["note"] else [])]))
    snapshot, source = chain["instantane"], chain["source"]
    steps.append((
        "Octets publiés",
        [
            f"{source.get('titre', source['source_id'])} ({source.get('producteur', '')}), licence {source.get('licence', '')}",
            f"citation : {source.get('citation', '')}",
            f"sha256 {snapshot['sha256']}",
            *([f"{snapshot['url']}, obtenu le {snapshot['obtenu_le']}, {snapshot['octets']} octets"] if "url" in snapshot else [snapshot["note"]]),
            f"octets {snapshot['octets_sur_place']} : {snapshot['fichier_local']}",
        ],
    ))  # fmt: skip
    out = [f"{indicator['libelle']} — {place['nom']}", ""]
    for rank, (title, body) in enumerate(steps, 1):
        out += [f"{rank}. {title}", *(f"   {line}" for line in body if line), ""]
    if with_sql := [m for m in model["amont"] if "sql" in m]:
        out += [f"-- {m['fichier']}\n{m['sql']}" for m in with_sql]
    return "\n".join(out).rstrip() + "\n"
