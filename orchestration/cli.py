"""``dk``: the command of the project. Every command imports what it needs when it is called, and no more."""

from __future__ import annotations

import gc
import json
import logging
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import click

from ingestion.declarations import PROJECT, DeclarationError
from ingestion.paths import Home, home, read_json
from orchestration.records_cli import records
from orchestration.terminal import BUSY, FAILED, LATE, OK, USAGE, Failure, Group

EXITS = """
\b
Codes de sortie :
  0   publié, ou rien de neuf à publier
  1   refusé ou en panne ; la publication précédente reste en place
  2   commande mal écrite
  3   publié, mais au moins une source est en retard ou a été refusée
  75  une autre exécution est en cours
"""


def _say(text: str = "") -> None:
    click.echo(text)


@contextmanager
def _reading(*releases: Path) -> Iterator[None]:
    """When reading releases fails, names the file that is no longer as published rather than what broke in a reader."""
    try:
        yield
    except click.ClickException:
        raise
    except Exception as error:
        from orchestration import release

        for folder in releases:
            if wrong := release.faults(folder):
                raise Failure(f"publication {folder.name} endommagée : {wrong[0]}. Remède : {release.remedy(home(), folder.name)}") from error
        raise


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
def main() -> None:
    """Dernier kilomètre : ce que change chaque intervention de l'ANCT.

    \b
    Pour commencer :
      dk run                               publier avec les données embarquées
      dk run --from mirror:../opendata     publier depuis un dossier de fichiers publiés
      dk query "select * from mart_couverture"
    """
    import atexit

    # duckdb's extension module reports leaks of its own on stderr while the interpreter dies, after the last useful line.
    atexit.register(lambda: os.dup2(os.open(os.devnull, os.O_WRONLY), 2))


# --- run --------------------------------------------------------------------------------------------------------


class _Progress(logging.Handler):
    """Prints one line per finished step, with its duration."""

    def __init__(self) -> None:
        super().__init__()
        self.start = time.monotonic()

    def emit(self, record: logging.LogRecord) -> None:
        color = "yellow" if record.levelno >= logging.WARNING else None
        click.secho(f"[{time.monotonic() - self.start:6.1f} s] {record.getMessage()}", fg=color)


@main.command(epilog=EXITS)
@click.option("--from", "origin", default="embedded", show_default=True, metavar="ORIGINE",
              help="embedded (livré avec le projet), mirror:DOSSIER_OU_URL (fichiers publiés), ou live (chez les producteurs).")  # fmt: skip
@click.option("--only", multiple=True, metavar="SOURCE", help="Ne collecter que ces sources (identifiant, motif « anct__* » ou producteur).")
@click.option("--wait", default=0.0, show_default=True, metavar="SECONDES", help="Attendre si une autre exécution est en cours.")
def run(origin: str, only: tuple[str, ...], wait: float) -> None:
    """Collecte, construit, contrôle et publie.

    Sans changement, ne construit ni ne publie rien.
    """
    from ingestion.fetch import Embedded, MirrorFolder, parse_transport
    from ingestion.records.admission import begin_demonstration
    from orchestration import instance

    try:
        where = home().ensure()
    except OSError as error:
        raise Failure(f"dossier d'état {home().root} inutilisable ({error.strerror}) ; donner DK_HOME à un dossier où l'on peut écrire") from error
    try:
        transport = parse_transport(origin)
    except ValueError as error:
        raise Failure(str(error), USAGE) from error
    # Asked for by a person, a folder that is not there is a slip; under a schedule, each source would say so instead.
    if isinstance(transport, MirrorFolder) and not transport.folder.is_dir():
        raise Failure(f"--from {origin} : il n'y a pas de dossier {transport.folder} ; corriger le chemin", USAGE)
    instance.prepare(where)
    # A short process that makes many objects and drops few: looking for cycles often, and once more at exit, is a sixth
    # of an embedded run.
    gc.set_threshold(100_000, 50, 1000)
    try:
        with instance.single_writer(where, wait):
            if isinstance(transport, Embedded):
                begin_demonstration(where)
            code = _run(where, origin, only)
    except instance.Busy as error:
        raise Failure(str(error), BUSY) from error
    gc.freeze()
    sys.exit(code)


def _run(where: Home, origin: str, only: tuple[str, ...]) -> int:
    handler = _Progress()
    logger = logging.getLogger("dk")
    logger.setLevel(logging.INFO)
    logger.handlers = [handler]
    logger.propagate = False
    logger.info("chargement du graphe")
    from orchestration import dbt as dbt_runner
    from orchestration import rules

    if unread := dbt_runner.is_stale(where):
        rules.begin(where)
    import dagster as dg

    from ingestion.declarations import select_sources
    from ingestion.records.admission import purge
    from orchestration import release

    if unread:
        # What a first run needs sooner or later is loaded while the project is being read.
        import dagster_dbt  # noqa: F401
        import great_expectations  # noqa: F401

        dg.DagsterInstance.get().dispose()
    try:
        purge(where)
    except ValueError as error:
        raise Failure(str(error), USAGE) from error
    try:
        chosen = select_sources(only)
    except DeclarationError as error:
        raise Failure(str(error), USAGE if only else FAILED) from error
    try:
        from orchestration.definitions import ADMISSION, ARRIVEE, REGISTRE, SOURCES, defs, from_register
    except (DeclarationError, dbt_runner.BuildFailed) as error:
        raise Failure(str(error)) from error
    config: dict[str, Any] = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    before = release.current_release(where)
    if recovered := release.recover(where):
        logger.warning("%s, dont un arrêt brutal avait interrompu la publication, est mise en service", recovered)
    now = release.current_release(where)
    stays = f"\nLa publication {now.name} reste en place." if now else ""
    with dg.DagsterInstance.get() as dagster_instance:
        # Sources left out by --only are re-read from their snapshots by the registry, so all of them must have landed once.
        keys = {dg.AssetKey(s.asset_key) for s in chosen}
        keys |= {
            dg.AssetKey(s.asset_key)
            for s in SOURCES.values()
            if not (where.landing / "etats" / f"{s.source_id}.json").exists()
        }
        if any(from_register(s) and dg.AssetKey(s.asset_key) in keys for s in SOURCES.values()):
            keys.add(ADMISSION)
        collected = defs.resolve_job_def("collecte").execute_in_process(
            instance=dagster_instance, raise_on_error=False,
            asset_selection=[*keys, *[dg.AssetKey(["registre", n]) for n in (*REGISTRE, *ARRIVEE)]],
            run_config={**config, "resources": {"origin": {"config": {"depuis": origin}}}},
        )  # fmt: skip
        if not collected.success:
            raise Failure(f"la collecte s'est arrêtée : {_first_error(collected)}{stays}")
        if now and release.already_published(where, release.inputs_fingerprint(where)):
            logger.info("rien de neuf depuis %s : ni construction ni publication", now.name)
            if out := release.withdrawn(where):
                logger.warning("retirée(s) du service : %s ; pour y revenir : dk rollback %s", ", ".join(out), out[-1])
        else:
            logger.info("construction de l'entrepôt (modèles et tests dbt)")
            build = defs.resolve_job_def("construction")
            built = build.execute_in_process(
                instance=dagster_instance, raise_on_error=False, run_config=config,
                # What the package holds has just landed.
                asset_selection=[key for key in build.asset_layer.selected_asset_keys if key.path[0] != "landing"],
            )  # fmt: skip
            if not built.success:
                raise Failure(f"rien n'est publié : {_refusal(where, built)}{stays}")
    current = release.current_release(where)
    assert current is not None
    late = _late(where)
    for check in collected.get_asset_check_evaluations():
        if check.asset_key == ADMISSION and not check.passed:
            late += str(check.metadata["problemes"].value).splitlines()
    for line in late:
        click.secho(f"En retard ou refusé : {line}", fg="yellow")
    _say(f"Publication {current.name} ({'inchangée' if before == current else 'nouvelle'}) : {current}")
    _say('Pour l\'ouvrir : dk query "select * from mart_couverture" --format table')
    return LATE if late else OK


def _late(where: Home) -> list[str]:
    """Files that this run could not get or accept, one line each."""
    from ingestion.landing import A_JOUR

    etats = [
        etat
        for path in sorted((where.landing / "etats").glob("*.json"))
        for etat in (read_json(path) or {}).get("etats", [])
    ]
    return [
        f"{etat['source_id']} {etat['millesime']} : {etat['motif']}"
        for etat in etats
        if etat["demandee"] and etat["statut_collecte"] != A_JOUR and etat["motif"]
    ]


def _first_error(result: Any) -> str:
    for event in result.all_events:
        if event.is_step_failure:
            # What a step says by itself is for a person; what broke in it is told by its exception.
            data = event.step_failure_data
            if data.user_failure_data and data.user_failure_data.description:
                return data.user_failure_data.description
            return (data.error.cause.message if data.error.cause else data.error.message).strip()
    return "erreur inconnue ; voir l'interface (dk ui)"


def _refusal(where: Home, result: Any) -> str:
    """The reason a person needs: failed models, then failed checks, then whatever broke."""
    from orchestration import dbt as dbt_runner
    from orchestration import release

    results = where.work / "dbt" / "run_results.json"
    if any(e.is_step_failure and e.step_key == "entrepot" for e in result.all_events):
        if found := read_json(results):
            errors = dbt_runner.build_errors(found)
            if errors:
                return "l'entrepôt est incomplet.\n  " + "\n  ".join(errors[:5])
        return _first_error(result)
    # What the step says by itself is the reason; what Dagster says of its blocking check only counts it.
    if any(e.is_step_failure and e.step_key == "release__candidat" and e.step_failure_data.user_failure_data for e in result.all_events):
        return _first_error(result)
    try:
        release.verify_evidence(where, release.load_manifest(where))
    except release.PublicationRefused as refusal:
        return str(refusal)
    return _first_error(result)


# --- reading ----------------------------------------------------------------------------------------------------


LIGNES_MAX = 500  # rows of a table on the terminal: laying out more takes minutes, and nobody reads them


def _table(frame: Any) -> None:
    """A Polars frame as an aligned table on the terminal; what is beyond ``LIGNES_MAX`` is counted, not shown."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name, kind in frame.schema.items():
        table.add_column(Text(name), justify="right" if kind.is_numeric() else "left", overflow="fold")
    for row in frame.head(LIGNES_MAX).rows():
        # Text, not str: names hold brackets, which rich would take for its own marks.
        table.add_row(*(Text("" if v is None else f"{v:.12g}" if isinstance(v, float) else str(v)) for v in row))
    Console(width=None if sys.stdout.isatty() else 200).print(table)
    if frame.height > LIGNES_MAX:
        click.echo(f"… et {frame.height - LIGNES_MAX} autres lignes ; --format csv les donne toutes", err=True)


def _limits(seconds: float) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The options that bound what a reader asks of a release."""
    timeout = click.option("--timeout", type=click.FloatRange(min=0, min_open=True), default=seconds, show_default=True, metavar="SECONDES", help="Temps laissé à la requête.")
    memory = click.option("--memory", type=click.IntRange(min=50), default=2000, show_default=True, metavar="MO", help="Mémoire laissée à la requête, puis à son résultat.")
    return lambda command: timeout(memory(command))


@contextmanager
def _asking(folder: Path, timeout: float, memory: int) -> Iterator[Any]:
    """A release opened for a question that a person wrote; what is wrong with the question is told to that person."""
    from orchestration import guarded

    with _reading(folder):
        try:
            with guarded.opened(folder, timeout, memory) as reader:
                yield reader
        except guarded.QueryError as error:
            raise Failure(f"requête refusée par DuckDB : {error}", USAGE) from error
        except guarded.LimitError as error:
            raise Failure(str(error)) from error


@main.command()
def sources() -> None:
    """Les sources déclarées et leur fraîcheur.

    Dernière livraison obtenue, dernière vérification, retard au jour d'aujourd'hui.
    """
    import datetime as dt

    import polars as pl

    from ingestion.declarations import load_sources
    from ingestion.snapshots import SnapshotError, SnapshotStore

    where = home()
    store = SnapshotStore(where.snapshots)
    today = dt.datetime.now(dt.UTC).date()
    rows, damaged = [], []
    for source in load_sources().values():
        try:
            history = store.history(source.source_id)
        except SnapshotError as error:
            damaged.append(str(error))
            rows.append((source.source_id, source.meta.titre[:60], len(source.meta.livraisons), "", "", "", source.meta.cadence, "illisible"))
            continue
        have = {s.millesime for s in history}
        latest = max((item for item in source.meta.livraisons if item.millesime in have), key=lambda i: i.publie_le, default=None)
        age = (today - latest.publie_le).days if latest else None
        limit = source.meta.fraicheur_jours
        state = (
            "jamais collectée" if latest is None
            else "close" if source.meta.cadence == "close"
            else "périmée" if limit and age is not None and age > limit
            else "fraîche"
        )  # fmt: skip
        rows.append(
            (source.source_id, source.meta.titre[:60], len(source.meta.livraisons), latest.millesime if latest else "",
             str(latest.publie_le) if latest else "", max((s.obtenu_le[:10] for s in history), default=""), source.meta.cadence, state)
        )  # fmt: skip
    _table(
        pl.DataFrame(
            rows, orient="row",
            schema=["source", "titre", "livraisons", "dernière", "publiée le", "obtenue le", "cadence", "fraîcheur"],
        )
    )
    if damaged:
        raise Failure("\n".join(damaged))


@main.command()
def releases() -> None:
    """Les publications présentes.

    La courante porte une étoile ; celles que « dk rollback » a retirées le disent, et celles qui ont une version pour
    évaluateurs aussi (« dk query --evaluateurs »).
    """
    from orchestration import release

    where = home()
    current = release.current_release(where)
    ids, out = release.release_ids(where), release.withdrawn(where)
    if not ids:
        raise Failure("aucune publication ; lancer « dk run »")
    damaged = []
    for name in ids:
        star = "*" if current and current.name == name else " "
        note = "  évaluateurs" if (release.evaluators_folder(where) / name).is_dir() else ""
        note += "  retirée" if name in out else ""
        package = read_json(where.releases / name / "datapackage.json")
        if package is None:
            damaged.append(f"{where.releases / name / 'datapackage.json'} est illisible. Remède : {release.remedy(where, name)}")
            _say(f"{star} {name}  endommagée{note}")
            continue
        size = sum(r["bytes"] for r in package["resources"])
        _say(f"{star} {name}  {package['created']}  {len(package['resources'])} tables  {size / 1e6:.1f} Mo{note}")
    if damaged:
        raise Failure("\n".join(damaged))


@main.command()
@click.argument("release_id", metavar="ID")
def rollback(release_id: str) -> None:
    """Remet en service une publication passée.

    Ses empreintes sont d'abord vérifiées, puis ses deux versions, publique et pour évaluateurs, sont remises en
    service ensemble. Les publications plus récentes sont retirées : « dk run » ne publie pas
    à nouveau les mêmes données. « dk rollback » les remet en service de la même façon.
    """
    from orchestration import instance, release

    where = home()
    try:
        with instance.single_writer(where, 0):
            _say(f"Publication courante : {release.rollback(where, release_id)}")
    except instance.Busy as error:
        raise Failure("une exécution est en cours, elle publierait après vous ; attendre qu'elle finisse", BUSY) from error
    except release.ReleaseError as error:
        raise Failure(str(error)) from error


@main.command()
@click.argument("before", metavar="A")
@click.argument("after", metavar="B", default="current")
@click.option("--evaluateurs", is_flag=True, help="Comparer les versions pour évaluateurs habilités.")
def diff(before: str, after: str, evaluateurs: bool) -> None:
    """Ce qui a changé entre deux publications.

    De la publication A à la publication B, par défaut la courante.
    """
    from orchestration import release

    where = home()
    try:
        old, new = (release.release_folder(where, name, evaluateurs) for name in (before, after))
    except release.ReleaseError as error:
        raise Failure(str(error)) from error
    with _reading(old, new):
        told = read_json(new / "checks.json") or {}
        _say(release.changes(old, new, new.name, release.mention_of(new), told.get("secret")))


@main.command()
@click.argument("sql")
@click.option("--format", "form", type=click.Choice(["table", "csv", "json", "parquet"]), default="table", show_default=True,
              help="Forme du résultat ; parquet s'écrit sur la sortie standard.")  # fmt: skip
@click.option("--release", "release_id", default="current", show_default=True, metavar="ID", help="Publication interrogée.")
@click.option("--evaluateurs", is_flag=True, help="Interroger la version pour évaluateurs habilités, sans secret statistique.")
@_limits(60)
def query(sql: str, form: str, release_id: str, evaluateurs: bool, timeout: float, memory: int) -> None:
    """Interroge une publication, en lecture seule.

    La requête ne peut ni écrire, ni lire un fichier, ni joindre le réseau. Arrêtée faute de temps ou de mémoire, elle
    rend 1 ; refusée, 2.

    \b
    Exemples :
      dk query "show tables"
      dk query "select * from mart_couverture" --format csv > couverture.csv
    """
    from orchestration import release

    try:
        folder = release.release_folder(home(), release_id, evaluateurs)
    except release.ReleaseError as error:
        raise Failure(str(error) if evaluateurs else f"{error}. Lancer « dk run » d'abord ?") from error
    with _asking(folder, timeout, memory) as reader:
        frame = reader.frame(sql)
    if form == "table":
        _table(frame)
    elif form == "csv":
        from ingestion.records.formula import neutralise

        click.echo(neutralise(frame).write_csv(), nl=False)
    elif form == "json":
        click.echo(frame.write_json())
    else:
        frame.write_parquet(sys.stdout.buffer)


@main.command("export")
@click.argument("table")
@click.option("--format", "form", type=click.Choice(["csv", "xlsx", "parquet", "ods"]), default="csv", show_default=True, help="Forme du fichier.")
@click.option("--where", "condition", default=None, metavar="CONDITION", help="Ne prendre que les lignes qui la vérifient : une condition SQL sur les colonnes de la table.")
@click.option("--francais", is_flag=True, help="CSV pour un tableur français : « ; », virgule décimale, VRAI et FAUX, marque d'encodage.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), metavar="FICHIER", help="Où l'écrire ; par défaut TABLE_PUBLICATION.FORMAT dans le dossier courant.")
@click.option("--release", "release_id", default="current", show_default=True, metavar="ID", help="Publication exportée, dans sa version publique.")
@_limits(600)
def export_(table: str, form: str, condition: str | None, francais: bool, out: Path | None, release_id: str, timeout: float, memory: int) -> None:
    """Sort une table dans un fichier qui dit d'où il vient.

    Le fichier porte le dictionnaire des colonnes et de leurs unités, la publication et sa date, la licence et la citation des
    sources : en feuilles (xlsx, ods), en métadonnées (parquet), dans un second fichier « …_dictionnaire.csv » (csv).

    \b
    Exemples :
      dk export mart_couverture --format xlsx
      dk export fct_observation --where "indicateur_id = 'population_municipale'" --francais
    """
    from orchestration import export, release

    if francais and form != "csv":
        raise Failure(f"--francais ne concerne que --format csv : un fichier {form} s'ouvre partout de la même façon", USAGE)
    try:
        folder = release.release_folder(home(), release_id)
    except release.ReleaseError as error:
        raise Failure(f"{error}. Lancer « dk run » d'abord ?") from error
    path = out or Path(f"{table}_{folder.name}.{form}")
    try:
        with _asking(folder, timeout, memory) as reader:
            rows, files = export.export(reader, folder, table, form, path, condition, francais)
    except export.ExportError as error:
        raise Failure(str(error), USAGE) from error
    except OSError as error:
        raise Failure(f"{path} : écriture impossible ({error.strerror or error}) ; donner un autre endroit par --out") from error
    _say(f"{rows} lignes de {table}, publication {folder.name} : {' et '.join(map(str, files))}")
    if francais:
        _say('Les codes y sont écrits ="01001" pour que le tableur garde leurs zéros ; un programme lira mieux le CSV sans --francais.')
    elif form == "csv":
        _say("Ouvert dans un tableur, ce CSV perdrait les zéros de tête des codes (01001) : prendre --francais, ou --format xlsx.")


@main.command()
@click.argument("indicateur")
@click.argument("territoire")
@click.option("--date", "day", default=None, metavar="AAAA-MM-JJ", help="Un jour de la période voulue ; la dernière par défaut.")
@click.option("--release", "release_id", default="current", show_default=True, metavar="ID", help="Publication interrogée.")
@click.option("--format", "form", type=click.Choice(["texte", "json"]), default="texte", show_default=True, help="Forme de la réponse.")
@click.option("--sql", "with_sql", is_flag=True, help="Ajouter le SQL de chaque modèle traversé.")
def explain(indicateur: str, territoire: str, day: str | None, release_id: str, form: str, with_sql: bool) -> None:
    """Remonte d'une valeur publiée à ses octets.

    \b
    Valeur, règle, numérateur et dénominateur, modèles et SQL, contrôles, lignes du fichier, empreinte et adresse.
    TERRITOIRE est un code officiel, précédé de son niveau s'il en désigne plusieurs :
      dk explain population_municipale 08105
      dk explain taux_chomage departement:23 --date 2020-05-01
    """
    import datetime as dt

    from orchestration import explain as explanation
    from orchestration import release

    where = home()
    try:
        wanted = dt.date.fromisoformat(day) if day else None
    except ValueError as error:
        raise Failure(f"--date {day} : une date s'écrit AAAA-MM-JJ", USAGE) from error
    try:
        folder = release.release_folder(where, release_id)
        with _reading(folder):
            chain = explanation.explain(where, folder, indicateur, territoire, wanted, with_sql)
    except (explanation.ExplainError, release.ReleaseError) as error:
        raise Failure(str(error), USAGE) from error
    _say(json.dumps(chain, ensure_ascii=False, indent=1, default=str) if form == "json" else explanation.as_text(chain))


@main.command()
def doctor() -> None:
    """Ce qui manque, et comment y remédier."""
    problems = 0

    def report(ok: bool, what: str, remedy: str = "") -> None:
        nonlocal problems
        problems += not ok
        click.secho(f"{'bon   ' if ok else 'MANQUE'}  {what}" + (f"\n        remède : {remedy}" if not ok else ""), fg=None if ok else "red")

    where = home()
    report((3, 11) <= sys.version_info[:2] < (3, 14), f"Python {sys.version.split()[0]}", "installer Python 3.11, 3.12 ou 3.13 puis « make clean run »")
    for package in ("dagster", "dagster_dbt", "dbt.cli.main", "duckdb", "polars", "great_expectations", "requests"):
        from importlib.util import find_spec

        try:
            found = find_spec(package) is not None
        except ModuleNotFoundError:
            found = False
        report(found, f"bibliothèque {package}", "make install")
    try:
        where.ensure()
        probe = where.work / ".sonde"
        probe.write_text("")
        probe.unlink()
        report(True, f"dossier d'état {where.root}")
    except OSError as error:
        report(False, f"dossier d'état {where.root} : {error.strerror}", "donner DK_HOME à un dossier où l'on peut écrire")
    free = shutil.disk_usage(where.root if where.root.exists() else PROJECT).free / 1e9
    report(free > 5, f"place libre : {free:.1f} Go", "libérer de la place, ou déplacer DK_HOME (5 Go au moins)")
    from ingestion.fetch import ARCHIVE

    report(ARCHIVE.exists(), "données embarquées", "make embedded")
    try:
        from ingestion.declarations import load_sources

        report(True, f"{len(load_sources())} sources déclarées")
    except DeclarationError as error:
        report(False, "déclarations des sources", str(error))
    try:
        from ingestion.catalogue_schema import check_catalogue, load_catalogue

        faults = check_catalogue(load_catalogue())
        report(not faults, "catalogue des interventions", " ; ".join(faults[:3]))
    except (ValueError, OSError) as error:
        report(False, "catalogue des interventions", str(error))
    try:
        from ingestion.records.personal import CLE, pseudonym_key

        if pseudonym_key():
            report(True, "clé des pseudonymes")
        else:
            click.echo(f"note    aucune clé de pseudonymes : les interlocuteurs des demandes ne sont pas distingués (régler {CLE})")
    except ValueError as error:
        report(False, "clé des pseudonymes", str(error))
    from ingestion.records import connectors

    try:
        for connecteur in connectors.load(where):
            connectors.token(connecteur)
            report(True, f"connecteur {connecteur.nom}")
    except connectors.ConnectorError as error:
        report(False, "connecteurs", str(error))
    _doctor_alerts(report)
    _doctor_state(where, report)
    _doctor_releases(where, report)
    sys.exit(FAILED if problems else OK)


def _doctor_alerts(report: Callable[..., None]) -> None:
    """Whether the daemon can tell anybody that something broke."""
    from orchestration import alerts

    channels: dict[str, Callable[[], Any]] = {"webhook": alerts.webhook, "courriel": alerts.courriel}
    found = []
    for name, channel in channels.items():
        try:
            if channel():
                found.append(name)
        except alerts.AlertError as error:
            report(False, f"alertes par {name}", str(error))
            found.append("")
    if any(found):
        report(True, f"alertes par {' et '.join(filter(None, found))}")
    elif not found:
        click.echo("note    aucune alerte réglée : le démon ne prévient personne (DK_ALERTES_WEBHOOK, DK_ALERTES_COURRIEL)")


def _doctor_state(where: Home, report: Callable[..., None]) -> None:
    """What is kept between runs: manifests of the snapshots, and files of work/ that a run makes again by itself."""
    from ingestion.declarations import load_sources
    from ingestion.landing import landed_files
    from ingestion.paths import whole_parquet
    from ingestion.snapshots import SnapshotError, SnapshotStore

    store, cut = SnapshotStore(where.snapshots), []
    try:
        sources = list(load_sources().values())
    except DeclarationError:
        return  # told already
    for source in sources:
        try:
            store.history(source.source_id)
        except SnapshotError as error:
            what, _, how = str(error).partition(" ; ")
            report(False, what, how)
        state = where.landing / "etats" / f"{source.source_id}.json"
        if state.exists():
            cut += [p for p in (state, *landed_files(source, where)) if not (whole_parquet(p) if p.suffix == ".parquet" else read_json(p))]
    for name in ("manifest", "run_results"):
        if (path := where.work / "dbt" / f"{name}.json").exists() and read_json(path) is None:
            cut.append(path)
    for path in cut:
        report(False, f"{path} est illisible", "« dk run » le refait")
    if not cut:
        report(True, "fichiers de travail lisibles")


def _doctor_releases(where: Home, report: Callable[..., None]) -> None:
    """Whether readers have a whole release, and what else lies beside it."""
    from orchestration import release

    current, link = release.current_release(where), where.releases / "current"
    if current is None and link.is_symlink():
        others = release.release_ids(where)
        report(False, f"{link} mène à {os.readlink(link)}, qui n'y est plus", f"« dk rollback {others[-1]} » ou « dk run »" if others else "dk run")
    elif current is None or not release.RELEASE_ID.fullmatch(current.name):
        report(False, f"publication courante : {current or 'aucune'}", "dk run")
    else:
        report(True, f"publication courante : {current.name}")
        sides: dict[str, Callable[[], list[str]]] = {
            f"octets de {current.name}": lambda: release.faults(current),
            f"version pour évaluateurs de {current.name} :": lambda: release.twin_faults(where, current.name),
        }
        for what, find in sides.items():
            try:
                wrong = find()
            except PermissionError:
                _say(f"note    {what} réservée, non vérifiée")
                continue
            state = f"altérés : {' ; '.join(wrong)}" if wrong else "conformes à SHA256SUMS"
            report(not wrong, f"{what} {state}", release.remedy(where, current.name) if wrong else "")
    for name in release.unfinished(where):
        report(False, f"{where.releases / name} : publication interrompue avant sa mise en service", "« dk run » l'achève, ou l'ôte si elle est incomplète")
    with suppress(PermissionError):
        for folder in release.orphans(where):
            report(False, f"{folder} : rien de public ne lui répond", "« dk run » ou « dk rollback » l'ôte ; pour le garder, remettre d'abord son dossier public")
    for path in sorted(where.releases.iterdir()) if where.releases.is_dir() else ():
        if not path.name.startswith(".") and path.name not in ("current", release.WITHDRAWN) and not release.RELEASE_ID.fullmatch(path.name):
            _say(f"note    {path} n'est pas une publication : « dk » n'en tient pas compte")


# --- pages ------------------------------------------------------------------------------------------------------

CARNETS = ("sommaire", "tableau_de_bord", "intervention", "territoire", "sur_mesure", "qualite_et_methode", "dictionnaire")
NAVIGATEURS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@main.group()
def notebooks() -> None:
    """Les pages que lisent les décideurs.

    Chaque publication porte les siennes, dans son dossier « pages » : ouvrir pages/index.html.
    """


@notebooks.command()
@click.option("--release", "release_id", default="current", show_default=True, metavar="ID", help="Publication lue.")
@click.option("--territoire", "places", multiple=True, metavar="NIVEAU:CODE", help="Ajouter la page d'une commune ou d'un EPCI (commune:23096, epci:200034825).")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=None, metavar="DOSSIER", help="Où écrire ; par défaut « pages/ID » du dossier d'état.")
@click.option("--pdf", "patterns", multiple=True, metavar="MOTIF", help="Imprimer aussi en PDF les pages dont le fichier suit ce motif (« * » : toutes), par Chromium.")
def render(release_id: str, places: tuple[str, ...], out: Path | None, patterns: tuple[str, ...]) -> None:
    """Écrit les pages d'une publication.

    \b
    Exemples :
      dk notebooks render                                     toutes les pages, hors de la publication
      dk notebooks render --territoire commune:23096          avec celle d'une commune
      dk notebooks render --pdf "territoires/departement-23"  avec un PDF
    """
    from notebooks.kit import render as kit
    from notebooks.kit.release import Release
    from orchestration import release

    where = home()
    try:
        folder = release.release_folder(where, release_id)
    except release.ReleaseError as error:
        raise Failure(f"{error}. Lancer « dk run » d'abord ?") from error
    target = out or where.root / "pages" / folder.name
    started = time.monotonic()
    reader = Release(folder)
    try:
        wanted = [kit.territory_of(reader, place) for place in places]
        reader.close()
        sizes = kit.render(folder, target, [*kit.sheets(reader), *wanted])
    except LookupError as error:
        raise Failure(str(error), USAGE) from error
    except (kit.RenderError, OSError) as error:
        raise Failure(str(error)) from error
    _say(f"{len(sizes)} pages en {time.monotonic() - started:.0f} s : {target / 'index.html'}")
    for sheet in wanted:
        _say(f"  {target / sheet.path}")
    if patterns:
        import fnmatch

        chosen = [p for p in sizes if any(fnmatch.fnmatch(p, m) or fnmatch.fnmatch(p.removesuffix(".html"), m) for m in patterns)]
        if not chosen:
            raise Failure(f"aucune page ne suit {' ni '.join(patterns)}", USAGE)
        for path in chosen:
            _pdf(target / path)
        _say(f"{len(chosen)} PDF à côté de leur page")


def _pdf(page: Path) -> None:
    """Prints a page on A4 beside itself, without the network."""
    import subprocess
    import tempfile

    browser = next((found for name in NAVIGATEURS if (found := shutil.which(name))), None)
    if browser is None:
        raise Failure("Chromium n'est pas installé ; l'installer (paquet chromium), ou imprimer la page depuis un navigateur")
    with tempfile.TemporaryDirectory() as profile:
        done = subprocess.run(
            [
                browser, "--headless", "--disable-gpu", "--no-pdf-header-footer", "--proxy-server=127.0.0.1:9", f"--user-data-dir={profile}",
                *(["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []), f"--print-to-pdf={page.with_suffix('.pdf')}", page.resolve().as_uri(),
            ],
            capture_output=True, text=True, timeout=120,
        )  # fmt: skip
    if done.returncode or not page.with_suffix(".pdf").exists():
        raise Failure(f"Chromium n'a pas imprimé {page.name} : {done.stderr.strip()[-300:]}")


def _marimo(*arguments: str) -> None:
    """Replaces this process with marimo, which answers on this machine only and asks nothing of the network."""
    if not (home().releases / "current").exists():
        raise Failure("aucune publication ; lancer « dk run »")
    binary = Path(sys.executable).parent / "marimo"
    os.environ.update({"MARIMO_SKIP_UPDATE_CHECK": "1", "DK_HOME": str(home().root)})
    os.execv(binary, [str(binary), *arguments])


@notebooks.command()
@click.argument("nom", type=click.Choice(CARNETS), default="tableau_de_bord")
@click.option("--port", default=2718, show_default=True, help="Port d'écoute, sur cette machine seulement.")
@click.option("--no-browser", "headless", is_flag=True, help="Ne pas ouvrir de navigateur.")
def serve(nom: str, port: int, headless: bool) -> None:
    """Ouvre un carnet vivant, avec ses filtres.

    En lecture seule, sur la publication courante : intervention et territoire donnent le choix du sujet.
    """
    _marimo("run", str(PROJECT / "notebooks" / f"{nom}.py"), "--host", "127.0.0.1", "--port", str(port), *(["--headless"] if headless else []))


@notebooks.command()
@click.argument("nom", type=click.Choice(CARNETS), default="tableau_de_bord")
@click.option("--port", default=2718, show_default=True, help="Port d'écoute, sur cette machine seulement.")
@click.option("--no-browser", "headless", is_flag=True, help="Ne pas ouvrir de navigateur.")
def edit(nom: str, port: int, headless: bool) -> None:
    """Ouvre un carnet pour le modifier."""
    _marimo("--yes", "edit", str(PROJECT / "notebooks" / f"{nom}.py"), "--host", "127.0.0.1", "--port", str(port), "--skip-update-check", *(["--headless"] if headless else []))


@main.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Adresse d'écoute.")
@click.option("--port", default=3000, show_default=True, help="Port d'écoute.")
def ui(host: str, port: int) -> None:
    """Ouvre l'interface de Dagster.

    Le même graphe et le même historique que « dk run ».
    """
    from orchestration import instance

    where = home()
    instance.prepare(where)
    binary = Path(sys.executable).parent / "dagster"
    os.chdir(where.dagster)
    os.execv(binary, [str(binary), "dev", "-m", "orchestration.definitions", "-h", host, "-p", str(port)])


main.add_command(records)

if __name__ == "__main__":
    main()
