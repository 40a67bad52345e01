"""``dk records``: what people and délégués do with internal records. Sub-commands import what they need when called."""

from __future__ import annotations

import difflib
import os
import re
import sys
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestration.terminal import BUSY, FAILED, LATE, OK, USAGE, Failure, Group

if TYPE_CHECKING:
    from ingestion.records.check import Checked
    from ingestion.records.files import Sheet

MONTREES = 50  # anomalies written on the terminal; the annotated copy has them all
VALEUR_MAX = 60
EXITS = """
\b
Codes de sortie :
  0   aucune anomalie
  1   le fichier serait refusé en entier, ou il est illisible
  2   commande mal écrite
  3   des lignes seraient refusées, les autres prises
"""


@click.group(cls=Group)
def records() -> None:
    """Les relevés internes : modèles, contrôle, purge.

    \b
    Pour commencer :
      dk records template convention      écrire un modèle à remplir
      dk records check mon_fichier.xlsx   le vérifier avant de l'envoyer
    """


# --- template ---------------------------------------------------------------------------------------------------


@records.command()
@click.argument("name", required=False, metavar="[TYPE|INTERVENTION]")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), metavar="FICHIER",
              help="Où l'écrire ; par défaut modele_<nom>.xlsx dans le dossier courant.")  # fmt: skip
def template(name: str | None, out: Path | None) -> None:
    """Écrit un modèle à remplir et son mode d'emploi.

    Pour un type de relevé, pour une intervention (les types qui la servent, ses listes réduites à elle), ou sans nom
    pour tous les types. Un fichier déjà là n'est pas écrasé.
    """
    from ingestion.records.layout import kinds, kinds_of
    from ingestion.records.workbook import write_template

    if name is None:
        chosen, intervention, stem = list(kinds()), None, "tous"
    else:
        kind, intervention = _named(name)
        chosen = [kind] if kind else kinds_of(intervention or "")
        stem = kind or intervention or ""
    path = out or Path(f"modele_{stem}.xlsx")
    if path.exists():
        raise Failure(f"{path} existe déjà, peut-être rempli : le déplacer, ou donner un autre nom par --out", USAGE)
    try:
        write_template(path, chosen, intervention)
    except OSError as error:
        raise Failure(f"{path} : écriture impossible ({error.strerror or 'dossier absent ?'})") from error
    titles = ", ".join(kinds()[kind].meta.titre for kind in chosen)
    click.echo(f"Modèle écrit : {path}\nFeuilles : {titles}")


def _named(name: str) -> tuple[str | None, str | None]:
    """(kind, None) or (None, intervention) that a person named. Raises Failure, with all names, when there is none."""
    from ingestion.records.layout import interventions, kind_named, kinds, normalise

    kind = kind_named(name)
    if kind:
        return kind, None
    wanted = normalise(name)
    for intervention, title in interventions().items():
        if wanted in (normalise(intervention), normalise(title)):
            return None, intervention
    everything = {normalise(n): n for n in (*kinds(), *interventions())}
    close = difflib.get_close_matches(wanted, list(everything), n=1, cutoff=0.6)
    raise Failure(
        f"« {name} » n'est ni un type de relevé ni une intervention"
        + (f" ; vouliez-vous dire « {everything[close[0]]} » ?" if close else "")
        + f"\nTypes de relevé : {', '.join(kinds())}\nInterventions : {', '.join(interventions())}",
        USAGE,
    )


# --- check ------------------------------------------------------------------------------------------------------


@records.command(epilog=EXITS)
@click.argument("path", type=click.Path(path_type=Path), metavar="FICHIER")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), metavar="COPIE",
              help="Où écrire la copie annotée ; par défaut <nom>_annote.xlsx à côté du fichier.")  # fmt: skip
def check(path: Path, out: Path | None) -> None:
    """Vérifie un fichier de relevés avant l'envoi.

    Formats : .xlsx, .ods, .csv (« ; » ou « , », UTF-8 ou Windows) et .parquet. Dit cellule par cellule ce qui ne va pas et comment le corriger, et écrit une copie annotée : les cellules fausses en
    rouge, à corriger puis à renvoyer. Rien n'est envoyé, et le fichier n'est pas modifié.
    """
    from ingestion.paths import home
    from ingestion.records.admission import emetteur_of
    from ingestion.records.check import Known
    from ingestion.records.check import check as judge
    from ingestion.records.files import RecordError, read
    from ingestion.records.layout import kinds

    try:
        sheets = read(path)
    except RecordError as error:
        raise Failure(f"{path.name} : {error}") from error
    by_kind = {sheet.kind: sheet for sheet in sheets}
    try:
        known = Known.load(home(), {kind: sheet.frame for kind, sheet in by_kind.items()}, emetteur_of(path.name))
    except ValueError as error:
        raise Failure(str(error)) from error
    checked = {kind: judge(kind, by_kind[kind].frame, known) for kind in kinds() if kind in by_kind}
    _report(sheets, checked)
    wrong = sum(result.fausses for result in checked.values())
    refused = any(result.refused for result in checked.values())
    _conclude(checked, refused, wrong)
    if wrong:
        _annotate(out or _beside(path), sheets, checked)
    sys.exit(FAILED if refused else LATE if wrong else OK)


def _printable(text: str | None) -> str:
    """A value for a terminal: on one line, without the control characters that would drive it, cut when long."""
    clean = "".join(c if unicodedata.category(c)[0] != "C" else " " for c in text or "")
    return clean if len(clean) <= VALEUR_MAX else clean[: VALEUR_MAX - 1] + "…"


def _count(number: int, noun: str) -> str:
    return f"{number:_} {noun}{'s' if number > 1 else ''}".replace("_", "\u202f")


def _report(sheets: list[Sheet], checked: dict[str, Checked]) -> None:
    """What is wrong, sheet by sheet and cell by cell, up to ``MONTREES`` cells."""
    from ingestion.records.files import letter
    from ingestion.records.layout import header, kinds

    room = MONTREES
    for sheet in sheets:
        result = checked[sheet.kind]
        title = kinds()[sheet.kind].meta.titre
        where = f"Feuille « {sheet.name} »" + (f" ({title})" if sheet.name != title else "")
        if not len(result.lignes):
            click.echo(f"{where} : aucune ligne remplie")
        else:
            click.secho(f"{where} : {_count(len(result.lignes), 'ligne')}, dont {_count(result.fausses, 'fausse')}", bold=True)
        for problem in sheet.problems:
            click.secho(f"  à noter : {_printable(problem) if len(problem) < VALEUR_MAX else problem}", fg="yellow")
        names = {column.name: header(column) for column in kinds()[sheet.kind].columns}
        shown = result.anomalies.head(room)
        for ligne, colonne, valeur, motif, remede in shown.select("ligne", "colonne", "valeur", "motif", "remede").iter_rows():
            place = f"colonne {letter(sheet.places[colonne])} " if colonne in sheet.places else ""
            label = f"{place}« {names[colonne]} »" if colonne else "toute la ligne"
            value = f" : « {_printable(valeur)} »" if valeur else " : vide" if colonne else ""
            click.echo(f"  ligne {ligne}, {label}{value}")
            click.secho(f"      {motif}", fg="red")
            click.echo(f"      → {remede}")
        room -= shown.height
        if left := result.anomalies.height - shown.height:
            click.echo(f"  … et {_count(left, 'autre anomalie').replace('autre anomalies', 'autres anomalies')}")


def _conclude(checked: dict[str, Checked], refused: bool, wrong: int) -> None:
    from ingestion.records.layout import kinds

    total = sum(len(result.lignes) for result in checked.values())
    cells = sum(result.anomalies.height for result in checked.values())
    click.echo()
    if not total:
        click.echo("Le fichier ne contient aucune ligne : envoyé, il retirerait celles d'un envoi précédent du même nom.")
    elif refused:
        for kind, result in checked.items():
            if result.refused:
                source = kinds()[kind]
                share, limit = result.fausses / len(result.lignes), source.meta.attendus.rejets_part_max
                click.secho(
                    f"« {source.meta.titre} » : {_percent(share)} de lignes fausses, pour {_percent(limit)} admis.", fg="red"
                )
        click.secho(f"Le fichier serait refusé en entier ({_count(cells, 'anomalie')}).", fg="red", bold=True)
    elif wrong:
        click.secho(
            f"Le fichier serait pris en partie : {_count(total - wrong, 'ligne')} sur {total} ; {_count(wrong, 'ligne')} à "
            f"corriger ({_count(cells, 'anomalie')}).", fg="yellow", bold=True,
        )  # fmt: skip
    else:
        click.secho(f"Aucune anomalie : le fichier serait pris en entier ({_count(total, 'ligne')}).", fg="green", bold=True)


def _percent(share: float) -> str:
    return f"{share * 100:.1f}".rstrip("0").rstrip(".").replace(".", ",") + "\u202f%"


def _beside(path: Path) -> Path:
    """The annotated copy of a file; never the file itself, when it is such a copy that is being mended."""
    again = re.fullmatch(r"(.*)[_.]annote(?:_([0-9]+))?", path.stem)
    if again:
        return path.with_name(f"{again.group(1)}_annote_{int(again.group(2) or 1) + 1}.xlsx")
    return path.with_name(f"{path.stem}_annote.xlsx")


def _annotate(path: Path, sheets: list[Sheet], checked: dict[str, Checked]) -> None:
    """Writes the annotated copy, for its owner only: it holds what the file holds."""
    from ingestion.records.workbook import write_annotated

    temporary = path.with_name(f".{path.stem}.{os.getpid()}.xlsx")
    try:
        os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        write_annotated(temporary, sheets, {kind: result.anomalies for kind, result in checked.items()})
        os.replace(temporary, path)
    except OSError as error:
        click.secho(f"Copie annotée non écrite : {path} ({error.strerror or error}) ; donner un autre endroit par --out", fg="yellow", err=True)
        return
    finally:
        temporary.unlink(missing_ok=True)
    click.echo(f"Copie annotée : {path}")


# --- purge ------------------------------------------------------------------------------------------------------


@records.command()
def purge() -> None:
    """Supprime les originaux conservés trop longtemps.

    Les réponses aux envois aussi. La durée est de 30 jours, ou de DK_RETENTION_JOURS. Ce qui a été admis reste : il ne contient aucune donnée personnelle.
    """
    from ingestion.paths import home
    from ingestion.records.admission import purge as remove
    from ingestion.records.admission import retention_jours
    from orchestration import instance

    where = home().ensure()
    try:
        with instance.single_writer(where, 0):
            days, gone = retention_jours(), remove(where)
    except instance.Busy as error:
        raise Failure(str(error), BUSY) from error
    except ValueError as error:
        raise Failure(str(error), USAGE) from error
    except OSError as error:
        raise Failure(f"suppression impossible ({error.strerror or error}) ; vérifier les droits sur la zone restreinte") from error
    click.echo(f"{_count(gone, 'fichier')} de plus de {days} jours supprimé{'s' if gone > 1 else ''}.")


# --- consolidation ----------------------------------------------------------------------------------------------


@records.command()
@click.option("--annee", type=int, required=True, metavar="A", help="Année de la consolidation.")
@click.option("--departement", metavar="D", help="Code du département (08, 2A, 971) ; par défaut, tous.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default=Path("consolidation"), show_default=True, metavar="DOSSIER",
              help="Où écrire les rapports, un par département.")  # fmt: skip
@click.option("--release", "release_id", default="current", show_default=True, metavar="ID", help="Publication dont ils sont tirés.")
def consolidation(annee: int, departement: str | None, out: Path, release_id: str) -> None:
    """Écrit le rapport annuel que chaque délégué doit à l'ANCT, en .xlsx.

    Il est tiré de la version pour évaluateurs d'une publication et contient des valeurs sous secret statistique : ne pas
    le diffuser.
    """
    from ingestion.paths import home
    from orchestration.consolidation import ConsolidationError, write_reports
    from orchestration.release import ReleaseError, release_folder

    try:
        written = write_reports(release_folder(home(), release_id, evaluators=True), annee, departement, out)
    except (ReleaseError, ConsolidationError) as error:
        raise Failure(str(error)) from error
    except OSError as error:
        raise Failure(f"{out} : écriture impossible ({error.strerror or error})") from error
    click.echo(f"{_count(len(written), 'rapport')} dans {out}")
