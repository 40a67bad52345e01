"""The kinds of internal records and how each is laid out, from their declaration and from nothing else."""

from __future__ import annotations

import re
import unicodedata
from functools import cache

from ingestion.declarations import Column, DeclarationError, Source, load_sources

GROUPE = "interne"
MODE_EMPLOI, LISTES, ANOMALIES = "Mode d'emploi", "Listes", "Anomalies"
EXTRAIT = "Extrait"  # first word of a sheet that shows the wrong rows of a file too large to be copied
NIVEAU = "territoire_niveau"

# Which kinds hold the data of an internal source of the catalogue.
KINDS_OF_ORIGIN = {
    "int_prog": ("convention", "action", "engagement_financier"),
    "int_contrat": ("convention", "action", "engagement_financier", "critere"),
    "int_surmesure": ("demande_ingenierie", "evenement_demande"),
    "int_operateurs": ("convention_operateur",),
    "int_formation": ("formation",),
    "int_concert": ("concertation",),
    "int_ca": ("incubation",),
    "int_enquete": ("action",),
}  # fmt: skip
# Any intervention may sign conventions, report values of its indicators, and has targets.
KINDS_OF_ALL = ("convention", "action", "objectif")


def normalise(text: str) -> str:
    """A name without accents, case, punctuation and repeated blanks: how headers, sheets and values are compared."""
    plain = unicodedata.normalize("NFKD", text.replace("œ", "oe").replace("Œ", "oe"))
    plain = "".join(c for c in plain if not unicodedata.combining(c)).lower()
    return re.sub(r"[^a-z0-9€]+", " ", plain).strip()


@cache
def kinds() -> dict[str, Source]:
    """The declared kinds of records by name, in the order of declaration, in which a kind follows those it refers to.

    Raises DeclarationError when a column refers to a column that no kind has.
    """
    found = {source.nom: source for source in load_sources().values() if source.groupe == GROUPE}
    columns = {f"{kind}.{column.name}" for kind, source in found.items() for column in source.conservees}
    for kind, source in found.items():
        for column in source.saisies:
            reference = column.meta.saisie.reference if column.meta.saisie else None
            if reference and "." in reference and reference not in columns:
                raise DeclarationError(f"{source.fichier}, {kind}.{column.name} : la référence {reference} ne désigne aucune colonne")
            if reference == "territoire" and NIVEAU not in [c.name for c in source.columns]:
                raise DeclarationError(f"{source.fichier}, {kind}.{column.name} : un territoire demande une colonne {NIVEAU}")
    return found


def labels(kind: str) -> dict[str, str]:
    """French header of each column that a person fills in, by its declared name, in the order of the template."""
    return {column.name: header(column) for column in kinds()[kind].saisies}


def header(column: Column) -> str:
    return column.meta.origines[0] if column.meta.origines else column.name


def key_of(source: Source) -> list[str]:
    """The declared columns that tell two rows of a file apart."""
    return [name for name in source.meta.cle if not name.startswith("_")]


def kind_named(text: str) -> str | None:
    """The kind whose name or title a text is, whatever its accents and case; None when there is none."""
    wanted = normalise(text)
    return next((kind for kind, source in kinds().items() if wanted in (normalise(kind), normalise(source.meta.titre))), None)


@cache
def interventions() -> dict[str, str]:
    """Name of each intervention of the catalogue, by its id."""
    from ingestion.catalogue_schema import load_catalogue

    return {item.intervention_id: item.intervention_nom for item in load_catalogue().interventions.values()}


@cache
def indicators(intervention: str | None = None) -> dict[str, str]:
    """Label of each indicator of one intervention (its own and those it shares), or of the whole catalogue, by its id.

    A barometer's indicator is defined by its producer: its id stands for its label.
    """
    from ingestion.catalogue_schema import load_catalogue

    catalogue = load_catalogue()
    items = [i for i in catalogue.interventions.values() if intervention in (None, i.intervention_id)]
    names = {i.indicateur_id: i.libelle for i in catalogue.communs}
    found = {i.indicateur_id: i.libelle for item in items for i in item.indicateurs}
    found |= {p.id: names.get(p.id, p.id) for item in items for p in item.indicateurs_partages}
    return found


def kinds_of(intervention: str) -> list[str]:
    """Kinds of records useful to an intervention, by the internal sources that its indicators rest on.

    Raises KeyError when the catalogue has no such intervention.
    """
    from ingestion.catalogue_schema import load_catalogue

    by_id = {item.intervention_id: item for item in load_catalogue().interventions.values()}
    item = by_id[intervention]
    origins = {*item.source_traitement, *(o for i in item.indicateurs for o in i.sources)}
    wanted = {kind for origin in origins for kind in KINDS_OF_ORIGIN.get(origin, ())} | set(KINDS_OF_ALL)
    return [kind for kind in kinds() if kind in wanted]
