"""One source, from its producer to typed Parquet: fetch, snapshot, read, gate, land.

A delivery that cannot be fetched, read or accepted changes nothing: the last accepted one stays in use and the
source says so (``statut_collecte``). Landed files carry no clock of the run, so equal snapshots give equal bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ingestion.declarations import Livraison, Source
from ingestion.paths import Home
from ingestion.snapshots import Snapshot, SnapshotError, SnapshotStore

if TYPE_CHECKING:
    import polars as pl

    from ingestion.fetch import Transport

A_JOUR, CONSERVEE, ABSENTE = "à jour", "dernière bonne version conservée", "non fournie"


@dataclass
class Etat:
    """State of one file of one delivery after a run; becomes a row of ``landing.livraisons``."""

    source_id: str
    millesime: str
    chemin: str
    publie_le: str
    cog_annee: int | None
    statut_collecte: str
    motif: str = ""
    demandee: bool = True  # False when the transport of the run has no such delivery: nobody failed
    snapshot_sha256: str | None = None
    connue_le: str | None = None
    octets: int | None = None
    versions: int = 0
    lignes_lues: int = 0
    lignes_gardees: int = 0
    lignes_rejetees: int = 0
    lignes_hors_tableau: int = 0


@dataclass
class Landing:
    """What landing one source did. ``changed`` is False when the landed bytes were already these."""

    source_id: str
    etats: list[Etat]
    controles: list[dict[str, Any]] = field(default_factory=list)
    problemes: list[str] = field(default_factory=list)
    non_declarees: list[str] = field(default_factory=list)
    changed: bool = False
    rows: int = 0
    rejets: int = 0
    nouveaux_octets: int = 0


@cache
def _reader_version() -> str:
    here = Path(__file__).parent
    digest = hashlib.sha256()
    for name in ("reading.py", "landing.py", "declarations.py"):
        digest.update((here / name).read_bytes())
    return digest.hexdigest()[:16]


def _key(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]


def _write_parquet(frame: pl.DataFrame, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    frame.write_parquet(temporary, compression="zstd", statistics=True)
    os.replace(temporary, path)


def _write_json(document: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(document, ensure_ascii=False, indent=1, sort_keys=True), encoding="utf-8")
    os.replace(temporary, path)


def _collect(
    source: Source, livraison: Livraison, store: SnapshotStore, transport: Transport, into: Path, landing: Landing
) -> list[Etat]:
    """Asks the transport for the files of one delivery; every failure becomes a state, never an exception."""
    from ingestion.fetch import FetchError

    def etat(chemin: str, statut: str, motif: str = "", demandee: bool = True) -> Etat:
        return Etat(
            source.source_id, livraison.millesime, chemin, livraison.publie_le.isoformat(), livraison.cog_annee, statut,
            motif, demandee,
        )  # fmt: skip

    known = sorted(
        {s.chemin for s in store.history(source.source_id) if s.millesime == livraison.millesime}
    )
    if not transport.provides(source, livraison):
        why = f"le transport « {transport.name} » ne fournit pas cette livraison"
        return [etat(chemin, CONSERVEE, why, False) for chemin in known] or [etat(livraison.chemin, ABSENTE, why, False)]
    try:
        files = transport.list_files(source, livraison)
    except FetchError as error:
        landing.problemes.append(str(error))
        return [etat(chemin, CONSERVEE, str(error)) for chemin in known] or [etat(livraison.chemin, ABSENTE, str(error))]
    etats = []
    for chemin in files:
        previous = store.reusable(source.source_id, livraison.millesime, chemin)
        try:
            fetched = transport.fetch(source, livraison, chemin, previous, into)
            if fetched.inchange:
                store.touch(source.source_id)
            else:
                snapshot, new = store.add(fetched, source, livraison, chemin, transport.name)
                landing.nouveaux_octets += snapshot.octets if new else 0
            etats.append(etat(chemin, A_JOUR))
        except (FetchError, SnapshotError) as error:
            landing.problemes.append(str(error))
            etats.append(etat(chemin, CONSERVEE if previous else ABSENTE, str(error)))
    # A file that the producer no longer lists keeps its last good version.
    gone = "le producteur ne fournit plus ce fichier"
    etats += [etat(chemin, CONSERVEE, gone) for chemin in known if chemin not in files]
    return etats


@dataclass(frozen=True)
class _Version:
    snapshot: Snapshot
    folder: Path
    facts: dict[str, Any]


def _read_version(
    source: Source, livraison: Livraison, snapshot: Snapshot, store: SnapshotStore, cache_dir: Path, before: _Version | None
) -> _Version:
    """Reading and verdict of one snapshot, from the cache when the same bytes were read by the same rules."""
    from ingestion.reading import ReadingError, read_file

    rules = source.model_copy(update={"meta": source.meta.model_copy(update={"livraisons": (livraison,)})})
    previous_rows = before.facts["lignes_gardees"] if before else None
    key = _key(
        snapshot.sha256, snapshot.chemin, snapshot.connue_le, rules.model_dump_json(), _reader_version(), str(previous_rows)
    )
    folder = cache_dir / key
    done = folder / "lecture.json"
    if done.exists():
        return _Version(snapshot, folder, json.loads(done.read_text(encoding="utf-8")))
    facts: dict[str, Any] = {"accepte": False, "motif": "", "controles": [], "lignes_gardees": 0}
    try:
        store.verify(snapshot.sha256)
        reading = read_file(source, livraison, snapshot, store.blob(snapshot.sha256))
    except (ReadingError, SnapshotError) as error:
        facts["motif"] = str(error)
    else:
        from expectations import landing as gate
        from expectations.runner import judge

        verdicts = judge(gate.metrics(source, reading, previous_rows), gate.checks(source, snapshot.chemin))
        refused = [v for v in verdicts if v.refuse]
        broken = "contrôle cassé" if any(v.resultat == "cassé" for v in refused) else "livraison refusée"
        facts |= {
            "accepte": not refused,
            "motif": " ; ".join(f"{snapshot.chemin} : {broken} par « {v.check.nom} » ({v.observe}{', ' + v.detail if v.detail else ''}) : "
                                f"{v.check.pourquoi}" for v in refused),
            "controles": [
                {"etape": "arrivee", "cible": v.check.cible, "controle": v.check.nom, "resultat": v.resultat,
                 "bloquant": v.check.bloquant, "observe": v.observe, "detail": v.detail, "pourquoi": v.check.pourquoi}
                for v in verdicts
            ],
            "lignes_lues": reading.lignes_lues,
            "lignes_gardees": reading.lignes_gardees,
            "lignes_rejetees": reading.lignes_rejetees,
            "lignes_hors_tableau": reading.lignes_hors_tableau,
        }  # fmt: skip
        _write_parquet(reading.table, folder / "table.parquet")
        _write_parquet(reading.mesures, folder / "mesures.parquet")
        _write_parquet(reading.listes, folder / "listes.parquet")
        _write_parquet(reading.rejets, folder / "rejets.parquet")
    _write_json(facts, done)
    return _Version(snapshot, folder, facts)


def land(
    source: Source, transport: Transport, where: Home
) -> Landing:
    """Brings one source up to date below ``where.landing``.

    Writes ``<source_id>.parquet`` (declared columns and technical ones), ``mesures/`` and ``listes/<source_id>.parquet``
    when the source holds measures or treated territories, ``rejets/<source_id>.parquet`` and ``etats/<source_id>.json``.
    Never raises for what a producer did; programming errors and a full disk do raise.
    """
    import polars as pl

    from ingestion.reading import listes_schema, mesures_schema, rejets_schema, table_schema

    store = SnapshotStore(where.snapshots)
    landing = Landing(source.source_id, [], non_declarees=transport.undeclared(source))
    into = where.work / "telechargements" / source.source_id
    into.mkdir(parents=True, exist_ok=True)
    versions: list[tuple[_Version, bool]] = []
    cache_dir = where.work / "lectures" / source.source_id
    try:
        for livraison in source.meta.livraisons:
            etats = _collect(source, livraison, store, transport, into, landing)
            history = store.history(source.source_id)
            for etat in etats:
                accepted: list[_Version] = []
                last: _Version | None = None
                for snapshot in history:
                    if (snapshot.millesime, snapshot.chemin) != (livraison.millesime, etat.chemin):
                        continue
                    last = _read_version(source, livraison, snapshot, store, cache_dir, accepted[-1] if accepted else None)
                    if last.facts["accepte"]:
                        accepted.append(last)
                if last is not None:
                    landing.controles += last.facts["controles"]
                    if not last.facts["accepte"]:
                        etat.statut_collecte = CONSERVEE if accepted else ABSENTE
                        etat.motif = last.facts["motif"]
                        landing.problemes.append(last.facts["motif"])
                if accepted:
                    good = accepted[-1]
                    etat.snapshot_sha256, etat.octets = good.snapshot.sha256, good.snapshot.octets
                    etat.connue_le, etat.versions = good.snapshot.connue_le, len(accepted)
                    for name in ("lignes_lues", "lignes_gardees", "lignes_rejetees", "lignes_hors_tableau"):
                        setattr(etat, name, good.facts[name])
                versions += [(version, version is accepted[-1]) for version in accepted]
            landing.etats += etats
    finally:
        shutil.rmtree(into, ignore_errors=True)
    landing.rows = sum(e.lignes_gardees for e in landing.etats)
    landing.rejets = sum(e.lignes_rejetees for e in landing.etats)
    key = _key(
        _reader_version(), source.model_dump_json(), *(f"{v.folder.name}:{current}" for v, current in versions)
    )
    marker = where.landing / "etats" / f"{source.source_id}.json"
    old = json.loads(marker.read_text(encoding="utf-8")) if marker.exists() else {}
    state = {"cle": key, "etats": [asdict(e) for e in landing.etats], "controles": landing.controles}
    landing.changed = {k: v for k, v in old.items() if k != "problemes"} != state
    if old.get("cle") != key:

        def gather(name: str, schema: dict[str, Any]) -> pl.DataFrame:
            frames = [
                pl.read_parquet(v.folder / f"{name}.parquet").with_columns(_actuelle=pl.lit(current))
                for v, current in versions
            ]
            empty = pl.DataFrame(schema=schema | {"_actuelle": pl.Boolean})
            return pl.concat([empty, *frames]) if frames else empty

        _write_parquet(gather("table", table_schema(source)), where.landing / f"{source.source_id}.parquet")
        if any(column.meta.mesure for column in source.columns):
            _write_parquet(
                gather("mesures", mesures_schema()).rename({"_actuelle": "actuelle"}),
                where.landing / "mesures" / f"{source.source_id}.parquet",
            )
        if source.meta.liste:
            _write_parquet(
                gather("listes", listes_schema()).filter(pl.col("_actuelle")).drop("_actuelle"),
                where.landing / "listes" / f"{source.source_id}.parquet",
            )
        _write_parquet(
            gather("rejets", rejets_schema()).filter(pl.col("_actuelle")).drop("_actuelle"),
            where.landing / "rejets" / f"{source.source_id}.parquet",
        )
    if landing.changed:
        _write_json(state, marker)
    return landing


def write_registry(sources: list[Source], where: Home) -> None:
    """The three landed tables that speak of the sources themselves: ``sources``, ``livraisons``, ``controles``.

    They are what ``dim_source``, ``mart_fraicheur`` and ``audit_controle`` are made of.
    """
    import polars as pl

    states = {
        s.source_id: json.loads((where.landing / "etats" / f"{s.source_id}.json").read_text(encoding="utf-8")) for s in sources
    }
    livraisons_schema = {
        "source_id": pl.String, "millesime": pl.String, "chemin": pl.String, "publie_le": pl.String, "cog_annee": pl.Int64,
        "statut_collecte": pl.String, "motif": pl.String, "snapshot_sha256": pl.String, "connue_le": pl.String,
        "octets": pl.Int64, "versions": pl.Int64, "lignes_lues": pl.Int64, "lignes_gardees": pl.Int64,
        "lignes_rejetees": pl.Int64, "lignes_hors_tableau": pl.Int64,
    }  # fmt: skip
    etats = [row for state in states.values() for row in state["etats"]]
    livraisons = pl.DataFrame(etats, schema=livraisons_schema).with_columns(
        pl.col("publie_le", "connue_le").str.to_date()
    )
    rows = [
        {
            "source_id": s.source_id, "titre": s.meta.titre, "producteur": s.producteur, "description": s.description,
            "licence": s.meta.licence, "citation": s.meta.citation, "page": s.meta.page, "cadence": s.meta.cadence,
            "grain": s.meta.grain, "confidentialite": s.meta.confidentialite, "regle_millesime": s.meta.regle_millesime,
            "fraicheur_jours": s.meta.fraicheur_jours, "lien_verifie": s.meta.lien_verifie, "responsable": s.meta.responsable,
            "fichier_declaration": f"dbt_project/models/sources/{s.fichier}",
        }
        for s in sources
    ]  # fmt: skip
    controls_schema = {
        "etape": pl.String, "cible": pl.String, "controle": pl.String, "resultat": pl.String, "bloquant": pl.Boolean,
        "observe": pl.String, "detail": pl.String, "pourquoi": pl.String,
    }  # fmt: skip
    controles = pl.DataFrame([c for state in states.values() for c in state["controles"]], schema=controls_schema)
    columns = pl.DataFrame(
        [
            {"source_id": s.source_id, "colonne": c.name, "colonne_origine": " | ".join(c.meta.origines) or None,
             "type": c.data_type, "unite": c.meta.unite, "description": c.description}
            for s in sources for c in s.columns
        ],
        schema={k: pl.String for k in ("source_id", "colonne", "colonne_origine", "type", "unite", "description")},
    )  # fmt: skip
    schema = {k: (pl.Int64 if k == "fraicheur_jours" else pl.String) for k in rows[0]}
    for name, frame in {
        "sources": pl.DataFrame(rows, schema=schema).sort("source_id"),
        "livraisons": livraisons.sort("source_id", "millesime", "chemin"),
        "controles": controles.sort("cible", "controle"),
        "colonnes": columns,
    }.items():
        _write_parquet(frame, where.landing / "registre" / f"{name}.parquet")
