"""The Dagster graph: what runs, when, with what evidence. The work itself is in ``ingestion`` and ``expectations``.

Asset keys and groups mirror the folders: ``landing/<producteur>/<source>`` → ``registre`` → dbt models by folder →
``release/candidat`` → ``release/publication``. ``enregistrements/admission`` comes before the landing of internal records.
Only paths come from the environment.
"""

from __future__ import annotations

import datetime as dt
import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster_dbt import DagsterDbtTranslator, dbt_assets
from dagster_dbt.asset_utils import get_asset_check_key_for_test

from ingestion.declarations import Source, load_sources
from ingestion.paths import DamagedFile, home
from ingestion.snapshots import SnapshotError
from orchestration import alerts, diffusion, release, shown
from orchestration import dbt as dbt_runner
from orchestration.instance import Busy, single_writer

if TYPE_CHECKING:
    from ingestion.landing import Landing

LOG = logging.getLogger("dk")
WHERE = home().ensure()
SOURCES = load_sources()
# One writer at a time. Dagster queues the steps of this pool; the file lock holds against another process (dk run).
POOL = "entrepot"
ATTENTE_S = 3600
# Where the interface and the schedules take files from: without it, what the package holds for the one, producers for the other.
ORIGINE = os.environ.get("DK_ORIGINE", "").strip()
ADMISSION = dg.AssetKey(["enregistrements", "admission"])
REGISTRE = ("sources", "livraisons", "controles", "colonnes")
ARRIVEE = ("mesures", "listes", "rejets")
CRON = {
    "mensuelle": "0 5 2 * *",
    "trimestrielle": "0 5 3 1,4,7,10 *",
    "semestrielle": "0 5 4 1,7 *",
    "annuelle": "0 5 5 2 *",
    "irreguliere": "0 5 * * 1",
    # Nothing new is expected: once is enough, and then to learn that a file was corrected or is gone.
    "close": "0 5 6 1,7 *",
}
PARIS = "Europe/Paris"


@contextmanager
def _writing() -> Iterator[None]:
    """The installation for one step; a step that waited for its turn in vain says who to wait for."""
    try:
        with single_writer(WHERE, ATTENTE_S):
            yield
    except Busy as error:
        raise _failure(error) from error


def _failure(error: Exception, alerte: str | None = None, **metadata: Any) -> dg.Failure:
    """A failure that trying again does not mend; ``alerte`` is what may leave the machine of it."""
    return dg.Failure(str(error), allow_retries=False, metadata={"alerte": alerte or getattr(error, "alerte", str(error)), **metadata})


class Origin(dg.ConfigurableResource):
    """Where the sources are taken from: ``embedded``, ``mirror:FOLDER_OR_URL`` or ``live``."""

    depuis: str = "embedded"


@cache
def _transport(origin: str) -> Any:
    """One transport per process: the embedded archive is opened once for all sources."""
    from ingestion.fetch import parse_transport

    return parse_transport(origin)


class Translator(DagsterDbtTranslator):
    """dbt names to asset keys: a model is keyed by its folder, a source by the landing that writes it."""

    def get_asset_key(self, dbt_resource_props: Mapping[str, Any]) -> dg.AssetKey:
        if dbt_resource_props["resource_type"] == "source":
            group, name = dbt_resource_props["source_name"], dbt_resource_props["name"]
            if group in ("registre", "arrivee", "publication"):
                return dg.AssetKey(["registre", name])
            return dg.AssetKey(["landing", group, name])
        return dg.AssetKey([dbt_resource_props["fqn"][1], dbt_resource_props["name"]])

    def get_group_name(self, dbt_resource_props: Mapping[str, Any]) -> str | None:
        return dbt_resource_props["fqn"][1] if dbt_resource_props["resource_type"] != "source" else None

    def get_owners(self, dbt_resource_props: Mapping[str, Any]) -> list[str]:
        return ["team:equipe-donnees"]


TRANSLATOR = Translator()


def from_register(source: Source) -> bool:
    """Whether the source has rows that the door admits: it then lands after the admission."""
    return any(livraison.registre for livraison in source.meta.livraisons)


@dg.asset(
    key=ADMISSION,
    group_name="enregistrements",
    owners=["team:equipe-donnees"],
    tags={"confidentialite": "personnelle"},
    kinds={"python", "parquet"},
    description=(
        "Relevés du dossier de dépôt et des connecteurs : lus, contrôlés, répondus, et sans donnée personnelle dans le "
        "registre. Les originaux restent dans la zone restreinte pour les jours de la rétention."
    ),
    check_specs=[
        dg.AssetCheckSpec("releves_pris", asset=ADMISSION, description="Aucun fichier refusé, aucun connecteur en panne."),
    ],
)
def admission() -> dg.MaterializeResult:
    from ingestion.records import admission as door
    from ingestion.records import connectors

    problems = []
    collected: list[connectors.Collecte] = []
    try:
        with _writing():
            door.purge(WHERE)
            deposited = door.process_drop_folder(WHERE)
            try:
                collected = connectors.collect(WHERE)
            except connectors.ConnectorError as error:
                problems.append(str(error))
    except (OSError, ValueError, door.AdmissionError) as error:
        raise _failure(RuntimeError(f"admission des relevés : {error}"), "admission des relevés arrêtée ; le détail est réservé : le lire sur la machine") from None
    if strays := door.strays(WHERE):
        problems.append(f"{WHERE.depot} : {strays} dossier(s) ou lien(s), dont rien n'est lu ; y déposer les fichiers eux-mêmes")
    problems += [shown.refused_record(a.emetteur, a.statut, WHERE) for a in deposited if a.refusee]
    for result in collected:
        if result.erreur:
            problems.append(result.erreur)
        elif result.admission and result.admission.refusee:
            problems.append(f"connecteur {result.nom} : trop de lignes fausses, réponse dans {WHERE.retours.name}")
    for problem in problems:
        LOG.warning("%s", problem)
    done = [*deposited, *(c.admission for c in collected if c.admission)]
    rows = [(b.kind, b.gardees if not a.refusee else 0, b.rejetees) for a in done for b in a.bilans]
    return dg.MaterializeResult(
        metadata={
            "fichiers": len(deposited),
            "connecteurs": len(collected),
            "lignes_prises": sum(kept for _, kept, _ in rows),
            "lignes_rejetees": sum(wrong for _, _, wrong in rows),
            "par_releve": dg.MetadataValue.md(
                "\n".join(
                    ["| relevé | prises | rejetées |", "| --- | ---: | ---: |"]
                    + [
                        f"| {kind} | {sum(k for n, k, _ in rows if n == kind)} | {sum(w for n, _, w in rows if n == kind)} |"
                        for kind in dict.fromkeys(name for name, _, _ in rows)
                    ]
                )
                if rows
                else "rien de nouveau"
            ),
        },
        check_results=[
            dg.AssetCheckResult(
                check_name="releves_pris", passed=not problems, severity=dg.AssetCheckSeverity.WARN,
                metadata={"problemes": "\n".join(problems), "alerte": f"relevés : {len(problems)} fichier(s) ou connecteur(s) refusé(s) ou en panne ; "
                          "lire la réponse dans « retours » sur la machine, « dk doctor » pour les connecteurs"},
            )
        ],
    )  # fmt: skip


@cache
def _collected(cadence: str) -> dg.FreshnessPolicy:
    """Whether the collection took place; whether the producer follows its own pace is the check « fraicheur »."""
    deadline = " ".join(["0", "12", *CRON[cadence].split()[2:]])
    return dg.FreshnessPolicy.cron(deadline_cron=deadline, lower_bound_delta=dt.timedelta(days=1), timezone=PARIS)


def _landing_asset(source: Source) -> dg.AssetsDefinition:
    meta = source.meta

    @dg.asset(
        key=list(source.asset_key),
        deps=[ADMISSION] if from_register(source) else [],
        group_name=f"landing_{source.groupe}",
        description=f"{meta.titre}\n\n{source.description}",
        owners=[f"team:{meta.responsable}"],
        tags={"confidentialite": meta.confidentialite, "cadence": meta.cadence, "producteur": source.groupe},
        metadata={
            "producteur": source.producteur, "licence": " ; ".join(source.licences), "citation": meta.citation,
            "page": dg.MetadataValue.url(meta.page) if meta.page else "aucune",
            "cadence": meta.cadence, "grain": meta.grain, "lien_verifie": meta.lien_verifie,
            "dagster/column_schema": dg.TableSchema(
                [dg.TableColumn(c.name, c.data_type, description=c.description) for c in source.conservees]
            ),
        },
        kinds={"python", "parquet"},
        freshness_policy=_collected(meta.cadence),
        check_specs=[
            dg.AssetCheckSpec("collecte", asset=list(source.asset_key), description="Toutes les livraisons ont été obtenues."),
            dg.AssetCheckSpec("porte_arrivee", asset=list(source.asset_key), description="Chaque fichier a la forme déclarée, et la porte d'arrivée l'a accepté."),
            dg.AssetCheckSpec("livraisons_declarees", asset=list(source.asset_key), description="Aucun fichier nouveau n'attend d'être déclaré."),
        ],
    )  # fmt: skip
    def landing(origin: Origin) -> dg.MaterializeResult:
        from ingestion.landing import land

        try:
            with _writing():
                result = land(source, _transport(origin.depuis), WHERE)
        except (DamagedFile, SnapshotError) as error:
            raise _failure(error) from error
        except OSError as error:
            raise _failure(
                RuntimeError(
                    f"{source.source_id} : écriture impossible ({error}). Libérer de la place sur le disque de {WHERE.root}, "
                    "ou vérifier les droits, puis relancer « dk run »"
                )
            ) from error
        _tell(source, result)
        return dg.MaterializeResult(metadata=shown.landed(source, result), check_results=shown.landing_checks(source, result))

    return landing


def _tell(source: Source, result: Landing) -> None:
    LOG.log(
        logging.WARNING if result.problemes else logging.INFO,
        "%s : %d lignes, %d rejets%s%s", source.source_id, result.rows, result.rejets,
        "" if result.changed else ", inchangée",
        f" ; {len(result.problemes)} problème(s), dont : {result.problemes[0]}" if result.problemes else "",
    )  # fmt: skip
    for problem in result.problemes[1:]:
        LOG.warning("%s", problem)
    if result.non_declarees:
        LOG.warning("%s", shown.undeclared(source, result))


LANDINGS = [_landing_asset(source) for source in SOURCES.values()]
# Read here and not before: another process may still be at it (orchestration.rules).
MANIFEST = dbt_runner.ensure_manifest(WHERE)
DATEES = {dg.AssetCheckKey(dg.AssetKey(s.asset_key), "fraicheur"): s for s in SOURCES.values() if s.meta.fraicheur_jours}


@dg.multi_asset_check(
    name="age_des_sources",
    specs=[
        dg.AssetCheckSpec(
            key.name, asset=key.asset_key,
            description=f"La dernière livraison acceptée a moins de {source.meta.fraicheur_jours} jours, l'âge que le producteur ne dépasse pas.",
        )
        for key, source in DATEES.items()
    ],
    can_subset=True,
)  # fmt: skip
def fraicheur(context) -> Iterator[dg.AssetCheckResult]:
    """Age of what is in use, at the date of today. A source that nobody collected yet is not late: it gets no verdict."""
    from ingestion.landing import state_of

    today = dt.datetime.now(dt.UTC).date()
    for key in context.selected_asset_check_keys:
        source = DATEES[key]
        result = shown.freshness(source, state_of(source.source_id, WHERE).get("etats", []), today)
        if result:
            yield result


# Vintages of the sources that have several: each can be asked for again by itself, over any range of them. Sources are
# not partitioned themselves: a file is judged against the one before it, and what is landed is all vintages in one table.
MILLESIMES = {
    f"{source.source_id}@{item.millesime}": (source, item.millesime)
    for source in SOURCES.values()
    if len(source.meta.livraisons) > 1 and not from_register(source)
    for item in source.meta.livraisons
}
RATTRAPAGE = dg.AssetKey(["rattrapage", "millesime"])


@dg.asset(
    key=RATTRAPAGE,
    group_name="rattrapage",
    partitions_def=dg.StaticPartitionsDefinition(list(MILLESIMES)),
    owners=["team:equipe-donnees"],
    description=(
        "Un millésime passé d'une source, demandé à nouveau à son producteur sans toucher aux autres. « construction » le publie "
        "ensuite ; une valeur plus récente n'est jamais remplacée par une plus ancienne."
    ),
    pool=POOL,
)
def rattrapage(context, origin: Origin) -> dg.MaterializeResult:
    from ingestion.landing import land

    source, vintage = MILLESIMES[context.partition_key]
    try:
        with _writing():
            result = land(source, _transport(origin.depuis), WHERE, frozenset({vintage}))
    except (DamagedFile, SnapshotError, OSError) as error:
        raise _failure(error) from error
    _tell(source, result)
    found = [e for e in result.etats if e.millesime == vintage]
    context.log_event(dg.AssetMaterialization(dg.AssetKey(source.asset_key), metadata=shown.landed(source, result)))
    if missing := next((e for e in found if not e.snapshot_sha256), None):
        raise _failure(RuntimeError(f"{context.partition_key} : rien n'est arrivé. {missing.motif}"))
    return dg.MaterializeResult(
        metadata={
            "source": source.source_id, "millesime": vintage, "dagster/row_count": sum(e.lignes_gardees for e in found),
            "rejets": sum(e.lignes_rejetees for e in found), "change": result.changed, "fichiers": len(found),
        }
    )  # fmt: skip


def _land_what_is_missing() -> None:
    """The build reads the tables of every source: those that no collection landed yet, and those that an older reader
    landed, are landed from what is here, without asking anybody. The caller holds the lock."""
    from ingestion.fetch import Package
    from ingestion.landing import is_landed, land, write_registry

    for source in SOURCES.values():
        if not is_landed(source, WHERE):
            result = land(source, Package(), WHERE)
            LOG.info("%s : %d lignes, sans collecte", source.source_id, result.rows)
    write_registry(list(SOURCES.values()), WHERE)


@dg.multi_asset(
    name="registre",
    specs=[
        dg.AssetSpec(
            ["registre", name],
            group_name="registre",
            deps=[list(s.asset_key) for s in SOURCES.values()],
            owners=["team:equipe-donnees"],
            description="Ce que l'ingestion sait des sources elles-mêmes." if name in REGISTRE else "Tiré de toutes les sources.",
        )
        for name in (*REGISTRE, *ARRIVEE)
    ],
)
def registre() -> Iterator[dg.MaterializeResult]:
    with _writing():
        _land_what_is_missing()
    for name in (*REGISTRE, *ARRIVEE):
        yield dg.MaterializeResult(asset_key=["registre", name])


@dbt_assets(manifest=MANIFEST, dagster_dbt_translator=TRANSLATOR, name="entrepot", pool=POOL)
def entrepot(context) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
    """dbt models and tests in a private work database. Whatever part of it was asked for, the whole is brought up to date:
    what did not change is kept."""
    with _writing():
        # Under the daemon a collection may have taken the lock since the registry was written: it must speak of this data.
        _land_what_is_missing()
        results = release.build(WHERE)
        manifest = json.loads(MANIFEST.read_text(encoding="utf-8"))
        rows = dbt_runner.failing_rows(WHERE, manifest, results)
    done = [r for r in results["results"] if r["unique_id"].startswith(("test.", "unit_test."))]
    LOG.info("entrepôt construit ; %d tests dbt, %d non réussis", len(done), sum(r["status"] != "pass" for r in done))
    models, checks = context.selected_asset_keys, context.selected_asset_check_keys
    for event in _dbt_events(manifest, results, rows):
        chosen = dg.AssetCheckKey(event.asset_key, event.check_name) in checks if isinstance(event, dg.AssetCheckResult) else event.asset_key in models
        if chosen:
            yield event
    errors = dbt_runner.build_errors(results)
    if errors:
        # What dbt says of a broken model may quote a value of it.
        names = [error.partition(" : ")[0] for error in errors]
        raise _failure(
            RuntimeError(f"entrepôt incomplet : {errors[0]}"), f"entrepôt incomplet, {len(names)} modèle(s) ou test(s) : {', '.join(names[:5])}",
            erreurs="\n".join(errors),
        )


def _dbt_events(
    manifest: dict[str, Any], results: dict[str, Any], rows: Mapping[str, list[dict[str, str]]]
) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
    known = set(entrepot.check_keys)
    for result in results["results"]:
        uid = result["unique_id"]
        node = manifest["nodes"].get(uid) or manifest["unit_tests"].get(uid) or {}
        if uid.startswith("model.") and result["status"] == "success":
            yield dg.MaterializeResult(
                asset_key=TRANSLATOR.get_asset_key(node), metadata={"duree_s": round(result["execution_time"], 3)}
            )
        elif uid.startswith("test.") and (key := get_asset_check_key_for_test(manifest, TRANSLATOR, uid, None)) in known:
            passed, count = result["status"] == "pass", result.get("failures") or 0
            warn = str(node["config"].get("severity") or "error").lower() == "warn"
            told = f"test dbt {key.name} sur {key.asset_key.path[-1]} : {count} ligne(s) en cause ; les lire dans l'interface, puis corriger le modèle ou sa source"
            yield dg.AssetCheckResult(
                asset_key=key.asset_key, check_name=key.name, passed=passed,
                severity=dg.AssetCheckSeverity.WARN if warn else dg.AssetCheckSeverity.ERROR,
                metadata={
                    "echecs": count, "message": result.get("message") or "",
                    **({} if passed else {"alerte": told, "lignes_en_cause": shown.table(rows[uid]) if uid in rows else "non montrées : des relevés y entrent"}),
                },
            )  # fmt: skip


@dg.asset(
    key=["release", "candidat"],
    group_name="release",
    deps=[["marts", name] for name in release.published_models(json.loads(MANIFEST.read_text(encoding="utf-8")))],
    owners=["team:equipe-donnees"],
    description="Copie des marts à publier, entière et sous secret statistique, auditée : ses preuves sont à côté d'elle.",
    pool=POOL,
    check_specs=[
        dg.AssetCheckSpec(
            "porte_de_publication", asset=["release", "candidat"], blocking=True,
            description="Great Expectations et les tests dbt ont tous réussi sur ce candidat.",
        )
    ],
)  # fmt: skip
def candidat() -> dg.MaterializeResult:
    from notebooks.kit import render

    with suppress(OSError):  # the rendering itself will say why
        render.warm()  # pages come right after: what they need is imported by another process during the protection
    manifest = json.loads(MANIFEST.read_text(encoding="utf-8"))
    try:
        with _writing():
            rows = release.write_candidate(WHERE, manifest)
            controls = release.audit_candidate(WHERE, manifest)
            failures = release.blocking_failures(controls)
            examples = release.failing_rows(WHERE, manifest, failures)
    except release.PublicationRefused as refusal:
        raise _failure(refusal) from refusal
    open_side = diffusion.redacted(failures, release.published_models(manifest))
    LOG.info("candidat : %d tables, %d lignes, %d contrôles, %d bloquants non réussis", len(rows), sum(rows.values()), len(controls), len(failures))
    hidden = release.secret_shares(WHERE)
    if hidden["cellules"]:
        LOG.info(
            "secret statistique : %d cellules, %.1f %% masquées car sensibles, %.1f %% pour les protéger",
            hidden["cellules"], 100 * hidden["part_primaire"], 100 * hidden["part_secondaire"],
        )  # fmt: skip
    return dg.MaterializeResult(
        metadata={"tables": len(rows), "dagster/row_count": sum(rows.values()), "controles": len(controls)},
        check_results=[
            dg.AssetCheckResult(
                check_name="porte_de_publication", passed=not failures,
                metadata={
                    "refus": len(failures),
                    **({"controles": shown.table({k: c[k] for k in ("cible", "controle", "resultat", "observe", "detail", "pourquoi")} for c in open_side),
                        "lignes_en_cause": shown.table(examples),
                        "alerte": f"{len(failures)} contrôle(s) bloquant(s) : " + " ; ".join(f"{c['cible']} / {c['controle']}" for c in failures[:5])}
                       if failures else {}),
                },
            )
        ],
    )  # fmt: skip


@dg.asset(
    key=["release", "publication"],
    group_name="release",
    deps=[["release", "candidat"]],
    owners=["team:equipe-donnees"],
    description="Publication immuable. Relit elle-même les preuves et l'empreinte du candidat avant de basculer.",
    pool=POOL,
)
def publication() -> dg.MaterializeResult:
    try:
        with _writing():
            release_id, new = release.publish(WHERE)
    except release.PublicationRefused as refusal:
        raise _failure(refusal) from refusal
    return dg.MaterializeResult(metadata={"publication": release_id, "nouvelle": new, **shown.published(WHERE.releases / release_id)})


LANDING = dg.AssetSelection.key_prefixes("landing")
DOOR = dg.AssetSelection.assets(ADMISSION)
RECORDS = dg.AssetSelection.assets(*[list(s.asset_key) for s in SOURCES.values() if from_register(s)])
PACKAGED = dg.AssetSelection.assets(*[list(s.asset_key) for s in SOURCES.values() if s.meta.embarque == "toujours"])
# What a build takes as it lies here. What the package itself holds costs nothing to look at, and changes with the package.
COLLECTED = LANDING - PACKAGED
ALL = dg.AssetSelection.all() - dg.AssetSelection.assets(RATTRAPAGE)
JOBS = [
    dg.define_asset_job("tout", ALL, description="Collecte, construction, contrôle, publication."),
    dg.define_asset_job("enregistrements", DOOR | RECORDS | (ALL - LANDING - DOOR),
                        description="Relevés déposés ou collectés : admission, puis construction, contrôle et publication."),
    dg.define_asset_job("collecte", DOOR | LANDING | dg.AssetSelection.assets(*[["registre", n] for n in (*REGISTRE, *ARRIVEE)]),
                        description="Collecte de toutes les sources, sans construire."),
    dg.define_asset_job("construction", ALL - COLLECTED - DOOR, description="Construction, contrôle et publication de ce qui est arrivé."),
    dg.define_asset_job("publication", dg.AssetSelection.assets(["release", "publication"]), description="Publication du candidat audité, après relecture de ses preuves."),
    dg.define_asset_job("fraicheur", dg.AssetSelection.checks(*DATEES), description="Âge de chaque source à la date du jour, sans rien demander à personne."),
    dg.define_asset_job("rattrapage", dg.AssetSelection.assets(RATTRAPAGE), description="Un ou plusieurs millésimes passés, par partition « source@millésime »."),
    *(
        dg.define_asset_job(f"collecte_{groupe}", dg.AssetSelection.key_prefixes(["landing", groupe]), description=f"Collecte des sources « {groupe} ».")
        for groupe in sorted({s.groupe for s in SOURCES.values()})
    ),
]  # fmt: skip

def _schedules() -> list[dg.ScheduleDefinition]:
    """One schedule per cadence that some producer follows; the build comes each weekday once they have passed.

    Schedules and not automation conditions: a collection is asked of producers in small numbers and at their pace, with its
    origin, which a condition cannot carry; and the build is one step that itself knows what did not change. What is declared
    by source is the deadline of its collection (``freshness_policy``) and the age of its data (``fraicheur``).
    """
    origin = dg.RunConfig(resources={"origin": Origin(depuis=ORIGINE or "live")})
    found = []
    for cadence, cron in CRON.items():
        followed = [s for s in SOURCES.values() if s.meta.cadence == cadence]
        keys = [dg.AssetKey(s.asset_key) for s in followed]
        if any(map(from_register, followed)):
            keys.append(ADMISSION)
        if keys:
            job = dg.define_asset_job(f"cadence_{cadence}", dg.AssetSelection.assets(*keys), config=origin)
            found.append(
                dg.ScheduleDefinition(
                    name=f"collecte_{cadence}", job=job, cron_schedule=cron, execution_timezone=PARIS,
                    description=f"Sources publiées à cadence {cadence}.",
                )
            )  # fmt: skip
    found.append(
        dg.ScheduleDefinition(
            name="fraicheur_quotidienne", job_name="fraicheur", cron_schedule="30 6 * * *", execution_timezone=PARIS,
            description="Dit chaque matin quelles sources sont périmées.",
        )
    )  # fmt: skip
    return found


@dg.schedule(
    job_name="construction", cron_schedule="0 7 * * 1-5", execution_timezone=PARIS,
    description="Construit et publie ce que les collectes ont apporté ; ne lance rien quand elles n'ont rien apporté.",
)  # fmt: skip
def construction_quotidienne() -> dg.RunRequest | dg.SkipReason:
    now = release.current_release(WHERE)
    if now and release.already_published(WHERE, release.inputs_fingerprint(WHERE)):
        return dg.SkipReason(f"rien de neuf depuis {now.name}")
    return dg.RunRequest()


def _origin_in_use() -> str:
    """``embedded`` while the demonstration world is part of the landed records, else ``live``.

    For records the transport decides nothing else: a deposited file must not make the demonstration come or go.
    """
    for source in SOURCES.values():
        shown = {livraison.millesime for livraison in source.meta.livraisons if livraison.demonstration}
        path = WHERE.landing / "etats" / f"{source.source_id}.json"
        if shown and path.exists():
            states = json.loads(path.read_text(encoding="utf-8"))["etats"]
            if any(state["millesime"] in shown and state["snapshot_sha256"] for state in states):
                return "embedded"
    return "live"


@dg.sensor(
    name="depot_enregistrements",
    job_name="enregistrements",
    minimum_interval_seconds=30,
    description="Admet et publie les relevés du dossier de dépôt dès que leurs fichiers ne changent plus.",
)
def depot_enregistrements(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
    from ingestion.records.admission import watch

    if any(not (WHERE.landing / "etats" / f"{s.source_id}.json").exists() for s in SOURCES.values()):
        return dg.SkipReason("les autres sources n'ont jamais été collectées : lancer d'abord le job « tout », ou « dk run »")
    key, cursor = watch(WHERE, context.cursor)
    if key is None:
        return dg.SensorResult(skip_reason="rien de nouveau dans le dossier de dépôt", cursor=cursor)
    origin = dg.RunConfig(resources={"origin": Origin(depuis=_origin_in_use())})
    return dg.SensorResult(run_requests=[dg.RunRequest(run_key=key, run_config=origin)], cursor=cursor)


defs = dg.Definitions(
    assets=[admission, *LANDINGS, rattrapage, registre, entrepot, candidat, publication],
    asset_checks=[fraicheur],
    jobs=JOBS,
    schedules=[*_schedules(), construction_quotidienne],
    sensors=[
        depot_enregistrements,
        *alerts.sensors(
            [dg.AssetKey(s.asset_key) for s in SOURCES.values()],
            [key for assets in (admission, *LANDINGS, fraicheur, entrepot, candidat) for key in assets.check_keys],
        ),
    ],
    resources={"origin": Origin(depuis=ORIGINE or "embedded")},
    executor=dg.in_process_executor,
)
