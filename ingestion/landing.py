"""One source, from its producer to typed Parquet: fetch, snapshot, read, gate, land.

A delivery that cannot be fetched, read or accepted changes nothing: the last accepted one stays in use and the
source says so (``statut_collecte``). Landed files carry no clock of the run, so equal snapshots give equal bytes.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cache
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ingestion.declarations import PROJECT, Livraison, Source
from ingestion.paths import DamagedFile, Home, read_json, whole_parquet
from ingestion.snapshots import Snapshot, SnapshotError, SnapshotStore

if TYPE_CHECKING:
    import polars as pl

    from ingestion.fetch import Transport

# Two: past that, reading is bound by memory, and Polars and DuckDB already use every core of a file.
READERS = 2
LOG = logging.getLogger("dk")
A_JOUR, CONSERVEE, ABSENTE = "à jour", "dernière bonne version conservée", "non fournie"
EXEMPLES = 10  # refused rows that are shown to a person; all of them are in ``audit_rejet``
VERSIONS = ("source_id", "millesime", "chemin", "snapshot_sha256", "connue_le", "remplacee_le")


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
    demandee: bool = True  # False while no transport that has this delivery was ever asked: nobody failed
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
    refusees: list[dict[str, str]] = field(default_factory=list)  # files unreadable or refused at the gate: ``chemin``, ``motif``
    exemples: list[dict[str, Any]] = field(default_factory=list)  # refused rows, those of refused deliveries first
    non_declarees: list[str] = field(default_factory=list)
    changed: bool = False
    rows: int = 0
    rejets: int = 0
    nouveaux_octets: int = 0


@cache
def _reader_version() -> str:
    digest = hashlib.sha256()
    for name in ("ingestion/reading.py", "ingestion/landing.py", "ingestion/declarations.py", "expectations/landing.py"):
        digest.update((PROJECT / name).read_bytes())
    return digest.hexdigest()[:16]


def _landed_by(source: Source) -> str:
    return _key(_reader_version(), source.model_dump_json())


def state_of(source_id: str, where: Home) -> dict[str, Any]:
    """What landing the source wrote down last; empty when it never landed, or when that file was damaged since."""
    return read_json(where.landing / "etats" / f"{source_id}.json") or {}


def landed_files(source: Source, where: Home) -> list[Path]:
    """The Parquet files that landing a source writes."""
    folders = [
        "", "rejets", "versions",
        *(["mesures"] if any(column.meta.mesure for column in source.columns) else []),
        *(["listes"] if source.meta.liste else []),
    ]  # fmt: skip
    return [where.landing / folder / f"{source.source_id}.parquet" for folder in folders]


def is_landed(source: Source, where: Home) -> bool:
    """Whether the source was landed, by this reader and this declaration, and its files are whole: else its tables may
    lack, or lack a column."""
    landed = state_of(source.source_id, where).get("lecteur") == _landed_by(source)
    return landed and all(map(whole_parquet, landed_files(source, where)))


def _key(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]


def _write_parquet(frame: pl.DataFrame, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    frame.write_parquet(temporary, compression="zstd", statistics=True)
    os.replace(temporary, path)


@contextmanager
def _reading_back(path: Path) -> Iterator[None]:
    """Raises DamagedFile when what reading a delivery gave cannot be read: it is made again once its folder is gone."""
    import polars as pl

    try:
        yield
    except (pl.exceptions.PolarsError, OSError) as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise
        raise DamagedFile(
            f"{path} est illisible ({str(error).splitlines()[0]}) ; supprimer le dossier {path.parent} puis relancer « dk run », qui le "
            "refait depuis les instantanés"
        ) from error


def _write_json(document: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(document, ensure_ascii=False, indent=1, sort_keys=True), encoding="utf-8")
    os.replace(temporary, path)


def _collect(
    source: Source, livraison: Livraison, store: SnapshotStore, transport: Transport, where: Home, into: Path, landing: Landing,
    before: dict[tuple[str, str], dict[str, Any]], asked: bool = True,
) -> list[Etat]:
    """Asks for the files of one delivery; every failure becomes a state, never an exception.

    A file that this transport cannot be asked for, or that this run did not ask for, keeps its state of ``before``: it is
    neither better nor worse off. A file that its producer withdrew for a younger one that holds the same periods is not missed.
    """
    from ingestion.fetch import FetchError, carrier

    def etat(chemin: str, statut: str, motif: str = "", demandee: bool = True) -> Etat:
        return Etat(
            source.source_id, livraison.millesime, chemin, livraison.publie_le.isoformat(), livraison.cog_annee, statut,
            motif, demandee,
        )  # fmt: skip

    def as_before(chemin: str, otherwise: Etat) -> Etat:
        was = before.get((livraison.millesime, chemin))
        return etat(chemin, was["statut_collecte"], was["motif"], was["demandee"]) if was else otherwise

    known = sorted(
        {s.chemin for s in store.history(source.source_id) if s.millesime == livraison.millesime}
    )
    if not asked:
        never = etat(livraison.chemin, ABSENTE, "millésime jamais demandé", False)
        return [as_before(chemin, etat(chemin, A_JOUR)) for chemin in known] or [as_before(livraison.chemin, never)]
    transport = carrier(transport, livraison, where)
    if not transport.provides(source, livraison):
        if livraison.demonstration:
            # Real data replace the demonstration world; they never keep its last version.
            return [etat(livraison.chemin, ABSENTE, "la démonstration ne vient qu'avec le transport embarqué", False)]
        never = etat(livraison.chemin, ABSENTE, transport.silence, False)
        return [as_before(chemin, etat(chemin, A_JOUR)) for chemin in known] or [as_before(livraison.chemin, never)]
    try:
        files = transport.list_files(source, livraison)
    except FetchError as error:
        landing.problemes.append(str(error))
        return [etat(chemin, CONSERVEE, error.motif) for chemin in known] or [etat(livraison.chemin, ABSENTE, error.motif)]
    if not files and not known:
        return [etat(livraison.chemin, ABSENTE, "aucun fichier reçu", False)]
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
            if getattr(error, "statut_http", None) in (404, 410) and (younger := _replaced_by(source, livraison)):
                gone = etat(chemin, ABSENTE, f"retirée par son producteur, qui la remplace par {younger}", False)
                etats.append(etat(chemin, A_JOUR) if previous else gone)
                continue
            landing.problemes.append(str(error))
            etats.append(etat(chemin, CONSERVEE if previous else ABSENTE, error.motif))
    # A file that the producer no longer lists keeps its last good version.
    gone = "le producteur ne fournit plus ce fichier"
    etats += [etat(chemin, CONSERVEE, gone) for chemin in known if chemin not in files]
    return etats


def _replaced_by(source: Source, livraison: Livraison) -> str | None:
    """The youngest vintage, when it holds the periods of this one too: the source's files are cumulative."""
    if not source.meta.suite or not source.meta.suite.cumulative:
        return None
    youngest = max(source.meta.livraisons, key=lambda item: item.publie_le)
    return youngest.millesime if youngest.publie_le > livraison.publie_le else None


@dataclass(frozen=True)
class _Version:
    """What one snapshot gave: its landed rows in ``folder``, and the counts and verdict that stand beside them."""

    snapshot: Snapshot
    folder: Path
    facts: dict[str, Any]


@dataclass
class _Fichier:
    """One file of one delivery: its state, its snapshots oldest first, and what those read so far gave."""

    livraison: Livraison
    etat: Etat
    snapshots: list[Snapshot]
    versions: list[_Version] = field(default_factory=list)

    @property
    def accepted(self) -> list[_Version]:
        return [version for version in self.versions if version.facts["accepte"]]

    @property
    def kept(self) -> list[_Version]:
        """The accepted versions that something is learnt from, oldest first.

        One that says what the version before said is no revision: a mirror and the embedded archive pack the same file
        differently, and a producer adds keys that nobody reads. Of those of one day only the last stands, since what is
        known is known to the day; and then nothing of that day does when it came back to what stood before it.
        """
        told = [version for version in self.accepted if not version.facts["identique"]]
        found: list[_Version] = []
        for version, after in zip_longest(told, told[1:]):
            replaced = after and after.snapshot.connue_le == version.snapshot.connue_le
            if not replaced and not (found and found[-1].snapshot.sha256 == version.snapshot.sha256):
                found.append(version)
        return found


def _read_version(
    source: Source, fichier: _Fichier, store: SnapshotStore, cache_dir: Path
) -> tuple[_Version, pl.DataFrame | None]:
    """Reads the next snapshot of a file; from the cache when the same bytes were read and judged by the same rules.

    Returns the metrics to judge too, when it was read now: its verdict is not written yet.
    """
    from ingestion.reading import TABLES, ReadingError, read_into

    livraison, snapshot = fichier.livraison, fichier.snapshots[len(fichier.versions)]
    accepted = fichier.accepted
    previous = accepted[-1] if accepted else None
    previous_rows = previous.facts["lignes_gardees"] if previous else None
    rules = source.model_copy(update={"meta": source.meta.model_copy(update={"livraisons": (livraison,)})})
    key = _key(
        snapshot.sha256, snapshot.chemin, snapshot.connue_le, rules.model_dump_json(), _reader_version(),
        previous.folder.name if previous else "",
    )  # fmt: skip
    folder = cache_dir / key
    done = folder / "lecture.json"
    remembered = read_json(done)
    if remembered and (not remembered["accepte"] or all(whole_parquet(folder / f"{name}.parquet") for name in TABLES)):
        return _Version(snapshot, folder, remembered), None
    facts: dict[str, Any] = {"accepte": False, "motif": "", "controles": [], "lignes_gardees": 0, "identique": False}
    try:
        store.verify(snapshot.sha256)
        reading = read_into(source, livraison, snapshot, store.blob(snapshot.sha256), folder)
    except SnapshotError as error:  # not a fact about these bytes, which may come back: nothing to remember
        return _Version(snapshot, folder, facts | {"motif": error.motif}), None
    except ReadingError as error:
        facts["motif"] = str(error)
        _write_json(facts, done)
        return _Version(snapshot, folder, facts), None
    from expectations import landing as gate

    for name in ("lignes_lues", "lignes_gardees", "lignes_rejetees", "lignes_hors_tableau"):
        facts[name] = getattr(reading, name)
    facts["identique"] = previous is not None and _says_the_same(folder, previous.folder)
    return _Version(snapshot, folder, facts), gate.metrics(source, livraison, reading, previous_rows)


def _rejected(version: _Version) -> list[dict[str, Any]]:
    """The first refused rows of a version, as ``audit_rejet`` names them; none when the file could not be read at all."""
    path = version.folder / "rejets.parquet"
    if not path.exists():
        return []
    import polars as pl

    with _reading_back(path):
        return pl.scan_parquet(path).head(EXEMPLES).select("chemin", "ligne", "colonne", "valeur", "motif").collect().to_dicts()


def _says_the_same(one: Path, other: Path) -> bool:
    """Whether two versions of a file gave the same rows and the same rejects, line by line."""
    import polars as pl

    from ingestion.reading import MORCEAU, TABLES

    def rows(path: Path) -> int:
        with _reading_back(path):
            return pl.scan_parquet(path).select(pl.len()).collect().item()

    def piece(path: Path, start: int) -> pl.DataFrame:
        with _reading_back(path):
            frame = pl.scan_parquet(path).slice(start, MORCEAU).collect()
        return frame.drop(name for name in frame.columns if name.lstrip("_") in ("snapshot_sha256", "connue_le"))

    for name in TABLES:
        new, old = one / f"{name}.parquet", other / f"{name}.parquet"
        if (count := rows(new)) != rows(old):
            return False
        if not all(piece(new, start).equals(piece(old, start)) for start in range(0, max(count, 1), MORCEAU)):
            return False
    return True


def _read_all(source: Source, fichiers: list[_Fichier], store: SnapshotStore, cache_dir: Path) -> None:
    """Reads and judges every snapshot of every file of a source.

    Round by round, oldest first, since a version is judged against the last accepted one of its file. Within a round
    files are read side by side, and judged together.
    """
    with ThreadPoolExecutor(READERS) as pool:
        while pending := [f for f in fichiers if len(f.versions) < len(f.snapshots)]:
            read = list(pool.map(lambda fichier: _read_version(source, fichier, store, cache_dir), pending))
            to_judge: dict[str, list[tuple[Livraison, _Version, pl.DataFrame]]] = {}
            for fichier, (version, metrics) in zip(pending, read, strict=True):
                fichier.versions.append(version)
                if metrics is not None:
                    bounds = source.attendus_de(fichier.livraison).model_dump_json()
                    to_judge.setdefault(bounds, []).append((fichier.livraison, version, metrics))
            for group in to_judge.values():
                _judge(source, group[0][0], [(version, metrics) for _, version, metrics in group])


def _judge(source: Source, livraison: Livraison, read: list[tuple[_Version, pl.DataFrame]]) -> None:
    """Completes the facts of versions that were just read, of which the same is expected, with the verdict of the gate,
    and writes them down."""
    import polars as pl

    from expectations import landing as gate
    from expectations.runner import judge

    judged = judge(pl.concat([metrics for _, metrics in read]), gate.checks(source, livraison))
    for (version, _), verdicts in zip(read, judged, strict=True):
        chemin = version.snapshot.chemin
        refused = [v for v in verdicts if v.refuse]
        broken = "contrôle cassé" if any(v.resultat == "cassé" for v in refused) else "livraison refusée"
        version.facts["accepte"] = not refused
        version.facts["motif"] = " ; ".join(
            f"{chemin} : {broken} par « {v.check.nom} » ({v.observe}{', ' + v.detail if v.detail else ''}) : {v.check.pourquoi}"
            for v in refused
        )
        version.facts["controles"] = [
            {"etape": "arrivee", "cible": f"{source.source_id}:{chemin}", "controle": v.check.nom, "resultat": v.resultat,
             "bloquant": v.check.bloquant, "observe": v.observe, "detail": v.detail, "pourquoi": v.check.pourquoi}
            for v in verdicts
        ]  # fmt: skip
        _write_json(version.facts, version.folder / "lecture.json")


def land(source: Source, transport: Transport, where: Home, only: frozenset[str] | None = None) -> Landing:
    """Brings one source up to date below ``where.landing``; with ``only``, asks for the deliveries of these vintages alone.

    Writes ``<source_id>.parquet`` (declared columns and technical ones), ``mesures/`` and ``listes/<source_id>.parquet``
    when the source holds measures or treated territories, ``rejets/`` and ``versions/<source_id>.parquet`` and
    ``etats/<source_id>.json``.
    Never raises for what a producer did; programming errors and a full disk do raise.
    """
    import polars as pl

    from ingestion.reading import (
        ENSEMBLE_MAX_CELLULES,
        join,
        listes_schema,
        mesures_schema,
        rejets_schema,
        table_schema,
    )

    store = SnapshotStore(where.snapshots)
    marker = where.landing / "etats" / f"{source.source_id}.json"
    old = state_of(source.source_id, where)
    if not old and marker.exists():
        LOG.warning("%s : illisible, refait depuis les instantanés", marker)
    before = {(e["millesime"], e["chemin"]): e for e in old.get("collecte", [])}
    declared, listed, rule = source, [] if only else transport.undeclared(source), source.meta.suite
    landing = Landing(source.source_id, [], non_declarees=[] if rule else listed)
    if rule:
        # What was taken up once stays, whether or not this transport can list it. A declared file may follow the rule too.
        known, told = {item.millesime for item in source.meta.livraisons}, {item.chemin for item in source.meta.livraisons}
        paths = [*listed, *(s.chemin for s in store.history(source.source_id) if s.millesime not in known and s.chemin not in told)]
        source = source.with_vintages(filter(None, map(rule.read, paths)))
    into = where.work / "telechargements" / source.source_id
    into.mkdir(parents=True, exist_ok=True)
    try:
        collected = [
            (livraison, etat)
            for livraison in source.meta.livraisons
            for etat in _collect(
                source, livraison, store, transport, where, into, landing, before, only is None or livraison.millesime in only
            )
        ]
    finally:
        shutil.rmtree(into, ignore_errors=True)
    # What collecting gave, before reading says more: a later run that does not ask for a file takes it up from here.
    collecte = [{k: getattr(etat, k) for k in ("millesime", "chemin", "statut_collecte", "motif", "demandee")} for _, etat in collected]
    history = store.history(source.source_id)
    fichiers = [
        _Fichier(livraison, etat, [s for s in history if (s.millesime, s.chemin) == (livraison.millesime, etat.chemin)])
        if etat.demandee or not livraison.demonstration
        else _Fichier(livraison, etat, [])
        for livraison, etat in collected
    ]
    _read_all(source, fichiers, store, where.work / "lectures" / source.source_id)
    versions: list[tuple[_Version, str | None]] = []  # each with the day from which another one of its file stands
    for fichier in fichiers:
        etat, accepted = fichier.etat, fichier.kept
        landing.etats.append(etat)
        if fichier.versions:
            last = fichier.versions[-1]
            landing.controles += last.facts["controles"]
            if not last.facts["accepte"]:
                etat.statut_collecte = CONSERVEE if accepted else ABSENTE
                etat.motif = last.facts["motif"]
                landing.problemes.append(last.facts["motif"])
                landing.refusees.append({"chemin": etat.chemin, "motif": last.facts["motif"]})
                landing.exemples += _rejected(last)
        if accepted:
            good = accepted[-1]
            etat.snapshot_sha256, etat.octets = good.snapshot.sha256, good.snapshot.octets
            etat.connue_le, etat.versions = good.snapshot.connue_le, len(accepted)
            for name in ("lignes_lues", "lignes_gardees", "lignes_rejetees", "lignes_hors_tableau"):
                setattr(etat, name, good.facts[name])
        versions += [(v, after and after.snapshot.connue_le) for v, after in zip_longest(accepted, accepted[1:])]
    for version, until in versions:
        if until is None and len(landing.exemples) < EXEMPLES and version.facts["lignes_rejetees"]:
            landing.exemples += _rejected(version)
    landing.exemples = landing.exemples[:EXEMPLES]
    landing.rows = sum(e.lignes_gardees for e in landing.etats)
    landing.rejets = sum(e.lignes_rejetees for e in landing.etats)
    key = _key(
        _reader_version(), source.model_dump_json(), *(f"{v.folder.name}:{until}" for v, until in versions)
    )
    state = {
        "lecteur": _landed_by(declared), "cle": key, "etats": [asdict(e) for e in landing.etats], "collecte": collecte,
        "controles": landing.controles,
    }  # fmt: skip
    landing.changed = old != state
    if old.get("cle") != key or not all(map(whole_parquet, landed_files(source, where))):
        measures = sum(column.meta.mesure is not None for column in source.columns)
        cells = len(table_schema(source)) + measures * len(mesures_schema())
        refused = len(rejets_schema())
        large = sum(v.facts["lignes_gardees"] * cells + v.facts["lignes_rejetees"] * refused for v, _ in versions) > ENSEMBLE_MAX_CELLULES

        def gather(name: str, schema: dict[str, Any], path: Path, flag: str | None) -> None:
            """Writes what the versions gave, in order; ``flag`` names the column that tells the current ones, None keeps them alone."""
            parts = [(v.folder / f"{name}.parquet", until is None) for v, until in versions if flag or until is None]
            if large and parts:
                try:
                    join(parts, list(schema), flag, path)
                except OSError:
                    for part, _ in parts:  # the one that cannot be read is named, with what mends it
                        with _reading_back(part):
                            for _ in pl.scan_parquet(part).collect_batches():
                                pass
                    raise
                return
            frames = [pl.DataFrame(schema=schema | ({flag: pl.Boolean} if flag else {}))]
            for part, current in parts:
                with _reading_back(part):
                    frame = pl.read_parquet(part)
                frames.append(frame.with_columns(pl.lit(current).alias(flag)) if flag else frame)
            _write_parquet(pl.concat(frames), path)

        gather("table", table_schema(source), where.landing / f"{source.source_id}.parquet", "_actuelle")
        if measures:
            gather("mesures", mesures_schema(), where.landing / "mesures" / f"{source.source_id}.parquet", "actuelle")
        if source.meta.liste:
            gather("listes", listes_schema(), where.landing / "listes" / f"{source.source_id}.parquet", "actuelle")
        gather("rejets", rejets_schema(), where.landing / "rejets" / f"{source.source_id}.parquet", None)
        replaced = [
            {"source_id": source.source_id, "millesime": v.snapshot.millesime, "chemin": v.snapshot.chemin,
             "snapshot_sha256": v.snapshot.sha256, "connue_le": v.snapshot.connue_le, "remplacee_le": until}
            for v, until in versions
        ]  # fmt: skip
        _write_parquet(
            pl.DataFrame(replaced, schema=dict.fromkeys(VERSIONS, pl.String)).with_columns(
                pl.col("connue_le", "remplacee_le").str.to_date()
            ),
            where.landing / "versions" / f"{source.source_id}.parquet",
        )
    if landing.changed:
        _write_json(state, marker)
    return landing


def write_registry(sources: list[Source], where: Home) -> None:
    """The three landed tables that speak of the sources themselves: ``sources``, ``livraisons``, ``controles``.

    They are what ``dim_source``, ``mart_fraicheur`` and ``audit_controle`` are made of. A source never landed has no file.
    """
    import polars as pl

    states = {s.source_id: state for s in sources if (state := state_of(s.source_id, where))}
    livraisons_schema = {
        "source_id": pl.String, "millesime": pl.String, "chemin": pl.String, "publie_le": pl.String, "cog_annee": pl.Int64,
        "statut_collecte": pl.String, "motif": pl.String, "demandee": pl.Boolean, "snapshot_sha256": pl.String, "connue_le": pl.String,
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
            "licence": " ; ".join(s.licences), "citation": s.meta.citation, "page": s.meta.page, "cadence": s.meta.cadence,
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
            for s in sources for c in s.conservees
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
