"""What Dagster's interface shows of a source, of a refusal and of a release: metadata of materialisations and of checks.

Rows are shown of what producers published and of the public side of a release, never of records that people sent. What a
check says under ``alerte`` is what ``orchestration.alerts`` sends.
"""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from ingestion.declarations import Source
from ingestion.paths import Home

if TYPE_CHECKING:
    from ingestion.landing import Landing

CARACTERES = 300  # of one cell
LIGNES = 20  # rows of a table in the interface; the whole is in audit_controle and audit_rejet


def table(rows: Iterable[Mapping[str, Any]]) -> dg.MetadataValue:
    """The first ``LIGNES`` rows as a table of the interface."""
    records = [dg.TableRecord({k: v if isinstance(v, int | float) else ("" if v is None else str(v)[:CARACTERES]) for k, v in row.items()}) for row in rows]
    if not records:
        return dg.MetadataValue.text("aucune ligne")
    columns = [dg.TableColumn(name, "string") for name in records[0].data]
    return dg.MetadataValue.table(records[:LIGNES], schema=dg.TableSchema(columns))


def undeclared(source: Source, result: Landing) -> str:
    return (
        f"{source.source_id} : livraison(s) non déclarée(s), à ajouter à « livraisons » dans {source.fichier} : "
        f"{', '.join(result.non_declarees)}"
    )


def landed(source: Source, result: Landing) -> dict[str, Any]:
    latest = max((e for e in result.etats if e.snapshot_sha256), key=lambda e: e.publie_le, default=None)
    return {
        "dagster/row_count": result.rows,
        "rejets": result.rejets,
        "change": result.changed,
        "nouveaux_octets": result.nouveaux_octets,
        "millesime": latest.millesime if latest else "aucun",
        "publie_le": latest.publie_le if latest else "jamais",
        "sha256": (latest.snapshot_sha256 or "") if latest else "aucun",
        "problemes": dg.MetadataValue.md(
            "\n".join(f"- {p}" for p in result.problemes) or "aucun"
            if source.meta.confidentialite == "publique"
            else f"{len(result.problemes)}, à lire sur la machine"
        ),
    }


def landing_checks(source: Source, result: Landing) -> list[dg.AssetCheckResult]:
    """What collecting and reading a source showed. Warnings on purpose: a source that fails keeps its last good delivery
    and the others go on. Rows are shown only of what its producer published."""
    from ingestion.landing import A_JOUR

    name, public = source.source_id, source.meta.confidentialite == "publique"
    refused = {r["chemin"]: r["motif"] for r in result.refusees}
    missed = [
        {"millesime": e.millesime, "fichier": e.chemin, "statut": e.statut_collecte, "motif": e.motif}
        for e in result.etats
        if e.statut_collecte != A_JOUR and e.motif and e.demandee and e.chemin not in refused
    ]
    failed = [c for c in result.controles if c["resultat"] != "réussi"]
    judged = {c["cible"].partition(":")[2] for c in failed}
    wrong = [
        *({"controle": "forme déclarée", "detail": motif, "observe": "", "pourquoi": "le fichier ne se lit pas comme il est déclaré", "fichier": path}
          for path, motif in refused.items() if path not in judged),
        *({k: c[k] for k in ("controle", "detail", "observe", "pourquoi")} | {"fichier": c["cible"].partition(":")[2]} for c in failed),
    ]  # fmt: skip
    stays = f"{result.rows} lignes restent en place" if public else "le détail est réservé : le lire sur la machine"

    def told(count: int, what: str, first: str) -> dict[str, Any]:
        return {"alerte": f"{name} : {count} {what} ; {stays}" + (f". {first}" if public else "")} if count else {}

    shape = next((w["detail"] for w in wrong if w["controle"] == "forme déclarée"), "")
    return [
        dg.AssetCheckResult(
            check_name="collecte", passed=not missed, severity=dg.AssetCheckSeverity.WARN,
            metadata={
                "en_retard": len(missed), **({"fichiers": table(missed)} if missed and public else {}),
                **told(len(missed), "fichier(s) non obtenu(s)", missed[0]["motif"] if missed else ""),
            },
        ),
        dg.AssetCheckResult(
            check_name="porte_arrivee", passed=not wrong, severity=dg.AssetCheckSeverity.WARN,
            metadata={
                "refus": len(wrong), **({"controles": table(wrong)} if wrong and public else {}),
                **({"lignes_en_cause": table(result.exemples)} if public and result.exemples else {}),
                **told(
                    len(wrong), "refus ou contrôle(s) d'arrivée non réussi(s)",
                    shape or f"Contrôle(s) : {', '.join(sorted({c['controle'] for c in failed}))} ; lire les lignes en cause dans l'interface, "
                    f"prévenir le producteur ou corriger {source.fichier}",
                ),
            },
        ),
        dg.AssetCheckResult(
            check_name="livraisons_declarees", passed=not result.non_declarees, severity=dg.AssetCheckSeverity.WARN,
            metadata={"fichiers": ", ".join(result.non_declarees), **({"alerte": undeclared(source, result)} if result.non_declarees else {})},
        ),
    ]  # fmt: skip


def freshness(source: Source, etats: Iterable[Mapping[str, Any]], today: dt.date) -> dg.AssetCheckResult | None:
    """Whether the last accepted delivery is younger than the age that its producer does not exceed; None when there is no
    such age, or when nothing was ever collected."""
    limit, held = source.meta.fraicheur_jours, [e for e in etats if e["snapshot_sha256"]]
    if not held or limit is None:
        return None
    latest = max(held, key=lambda e: e["publie_le"])
    age = (today - dt.date.fromisoformat(latest["publie_le"])).days
    lines = latest["lignes_gardees"] if source.meta.confidentialite == "publique" else "ses"
    told = (
        f"{source.source_id} : périmée. La dernière livraison ({latest['millesime']}) est publiée le {latest['publie_le']}, la suivante était attendue "
        f"dans les {limit} jours ; {lines} lignes restent en place. Voir si le producteur a publié ({source.meta.page or source.producteur}), puis "
        f"déclarer la livraison dans {source.fichier}"
    )
    return dg.AssetCheckResult(
        asset_key=dg.AssetKey(source.asset_key), check_name="fraicheur", passed=age <= limit, severity=dg.AssetCheckSeverity.WARN,
        metadata={"millesime": latest["millesime"], "publie_le": latest["publie_le"], "age_jours": age, "limite_jours": limit,
                  **({"alerte": told} if age > limit else {})},
    )  # fmt: skip


def refused_record(sender: str, verdict: str, where: Home) -> str:
    """What is said of a file of records that the door did not take: where its answer is, and not a word of it."""
    return f"fichier de {sender} : {verdict}, réponse dans {where.retours.name}"


def published(folder: Path) -> dict[str, Any]:
    """What a release holds, for the interface: rows by table, what changed, and where its pages are. Public side only."""
    import polars as pl

    rows = {path.stem: pl.scan_parquet(path).select(pl.len()).collect().item() for path in sorted((folder / "parquet").glob("*.parquet"))}
    pages = folder / "pages" / "index.html"
    site = os.environ.get("DK_ADRESSE_PAGES", "").rstrip("/")
    notes = folder / "changes.md"
    return {
        "dagster/row_count": sum(rows.values()),
        "tables": dg.MetadataValue.table(
            [dg.TableRecord({"table": name, "lignes": count}) for name, count in rows.items()],
            schema=dg.TableSchema([dg.TableColumn("table", "string"), dg.TableColumn("lignes", "int")]),
        ),
        "pages": dg.MetadataValue.url(f"{site}/{folder.name}/pages/index.html") if site else dg.MetadataValue.path(str(pages)),
        "changements": dg.MetadataValue.md(notes.read_text(encoding="utf-8")[:4000] if notes.exists() else ""),
    }
