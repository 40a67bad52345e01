"""The data dictionary of a release, drawn from what is declared: dbt's manifest, and the sources behind the tables.

``dictionnaire.json`` goes with the release, so that its pages are made from the release alone, on any day.
"""

from __future__ import annotations

from typing import Any

from orchestration.release import keys_of, tables_of


class DictionaryError(ValueError):
    """Something published has no description; the French message names it."""


def dictionary(manifest: dict[str, Any]) -> dict[str, Any]:
    """Tables (description, key, columns, parents, children, sources) and sources (identity, columns with the producer's names).

    Raises DictionaryError when a published table or column, or a column of a source, is not described.
    """
    published = tables_of(manifest, public=True)
    keys = keys_of(manifest)
    parents = {uid: [p for p in above if p.startswith(("model.", "source."))] for uid, above in manifest["parent_map"].items()}
    named = {node["unique_id"]: node for node in (*manifest["nodes"].values(), *manifest["sources"].values())}
    declared = {uid: node for uid, node in manifest["sources"].items() if "producteur" in (node["config"].get("meta") or {})}

    def name(uid: str) -> str:
        return f"{named[uid]['source_name']}__{named[uid]['name']}" if uid in declared else named[uid]["name"]

    def origins(uid: str) -> set[str]:
        """Declared sources that a model rests on, at any distance."""
        found, seen, todo = set(), set(), [uid]
        while todo:
            for above in parents.get(todo.pop(), []):
                if above not in seen:
                    seen.add(above)
                    todo.append(above)
                    found |= {name(above)} & {name(s) for s in declared}
        return found

    children: dict[str, set[str]] = {}
    for uid, above in parents.items():
        if uid.startswith("model."):
            for parent in above:
                children.setdefault(parent, set()).add(name(uid))
    tables = {}
    for table, node in sorted(published.items()):
        uid = node["unique_id"]
        tables[table] = {
            "description": node["description"],
            "cle": keys.get(table, []),
            "parents": sorted({name(p) for p in parents.get(uid, [])}),
            "enfants": sorted(children.get(uid, set())),
            "sources": sorted(origins(uid)),
            "colonnes": [_column(column, facts) for column, facts in node["columns"].items()],
        }
    sources = {}
    for uid, node in sorted(declared.items(), key=lambda item: name(item[0])):
        meta = node["config"]["meta"]
        sources[name(uid)] = {
            "groupe": node["source_name"], "titre": meta["titre"], "description": node["description"], "producteur": meta["producteur"],
            "licence": meta["licence"], "grain": meta.get("grain"), "cadence": meta["cadence"], "regle_millesime": meta.get("regle_millesime"),
            "corrections": len(meta.get("corrections") or []), "sert": sorted(children.get(uid, set())),
            "colonnes": [_column(column, facts) for column, facts in node["columns"].items()],
        }  # fmt: skip
    bare = [f"{kind} {table}.{c['nom']}" for kind, group in (("table", tables), ("source", sources)) for table, facts in group.items() for c in facts["colonnes"] if not c["description"].strip()]
    bare += [f"table {table}" for table, facts in tables.items() if not facts["description"].strip()]
    if bare:
        raise DictionaryError(f"{len(bare)} élément(s) sans description, dont {', '.join(bare[:5])} ; les décrire dans leur fichier .yml")
    return {"tables": tables, "sources": sources}


def _column(name: str, facts: dict[str, Any]) -> dict[str, Any]:
    meta = facts.get("config", {}).get("meta", {}) or facts.get("meta", {})
    origin = meta.get("origine")
    return {
        "nom": name, "type": facts.get("data_type"), "unite": meta.get("unite"), "description": facts.get("description") or "",
        "origine": " ou ".join(origin) if isinstance(origin, list) else origin,
    }  # fmt: skip
