"""What a source is: the strict schema of the ``config.meta`` of every dbt source, and its loader.

A source is declared once, in ``dbt_project/models/sources/*.yml``, which is also what dbt and Dagster read.
This module says which keys that declaration may hold and turns it into objects for the readers and fetchers.
Nothing here imports dbt, polars or the network: loading the declarations must stay instant.
"""

from __future__ import annotations

import datetime as dt
import fnmatch
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

PROJECT = Path(__file__).resolve().parent.parent
SOURCES_DIR = PROJECT / "dbt_project" / "models" / "sources"

Niveau = Literal[
    "commune",
    "epci",
    "arrondissement",
    "departement",
    "region",
    "national",
    "zone_emploi",
    "qpv_2015",
    "qpv_2024",
    "perimetre",
]


# Title and text of the licences that sources bear; any other is named as it is declared.
LICENCES = {
    "LO-2.0": ("Licence Ouverte 2.0 (Etalab)", "https://www.etalab.gouv.fr/licence-ouverte-open-licence/"),
    "ODbL-1.0": ("Open Database License 1.0", "https://opendatacommons.org/licenses/odbl/1-0/"),
    "MIT": ("Licence MIT", "https://opensource.org/license/mit"),
    "usage interne": ("Relevés internes : usage de l'ANCT, diffusion par la publication seule", ""),
}


class DeclarationError(ValueError):
    """A declaration is wrong; the message names the file, the entry and the remedy, in French."""


def annee_de(millesime: str) -> str | None:
    """The year that a vintage bears, None when it bears none."""
    year = re.search(r"\d{4}", millesime)
    return year.group(0) if year else None


def fill(text: str, millesime: str, nom: str = "") -> str:
    """``text`` with {millesime}, {aaaa} and {aa} replaced by what the vintage says of them, {nom} by the file's own name."""
    text = text.replace("{millesime}", millesime).replace("{nom}", nom)
    if year := annee_de(millesime):
        text = text.replace("{aaaa}", year).replace("{aa}", year[2:])
    return text


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Format(Strict):
    """How the bytes of one delivery are laid out. Every key overrides the format of the table."""

    type: Literal["csv", "json", "xlsx", "xls", "yaml", "parquet"] | None = None
    encodage: Literal["utf-8", "latin-1"] | None = None
    separateur: str | None = None
    guillemet: str | None = None
    ligne_entete: int | None = Field(None, ge=1, description="1-based line of the header")
    feuille: str | None = None
    membre: str | None = Field(None, description="name of the file inside a zip archive")
    enregistrements: str | None = Field(
        None,
        description="dotted path to the JSON or YAML records; '*' walks a list (features.*.properties). "
        "A column takes a field of the enclosing record with the prefix '^' (^code), of the one above with '^^'",
    )
    dans_texte: bool | None = Field(None, description="JSON wrapped in other text (var JS_x = {...})")
    arret_si_vide: str | None = Field(None, description="origin column; the table ends where it is empty")
    taille_max_mo: int | None = Field(None, description="limit of the decompressed size, in MB")

    def over(self, base: Format) -> Format:
        """This format laid over ``base``: the keys set here win."""
        return base.model_copy(update=self.model_dump(exclude_none=True))


class Depivot(Strict):
    """Wide columns turned into rows. Named groups of ``motif`` become columns.

    The special group ``colonne`` names the declared column that receives the value; without it ``valeur`` does.
    """

    motif: str
    valeur: str | None = None
    remplacer: dict[str, dict[str, str]] = Field(default_factory=dict)
    ignorer_vides: bool = Field(False, description="an empty cell says that the row has nothing there: no row comes out of it")


class Eclatement(Strict):
    """One row per match of ``motif`` in ``colonne`` (codes buried in a text, lists in a cell)."""

    colonne: str
    motif: str


class Correction(Strict):
    """A known producer error: which rows, what is done, why, and on what evidence."""

    colonne: str
    valeur: str
    livraison: str | None = None
    remplacer_par: str | None = None
    rejeter: bool = False
    motif: str
    preuve: str

    @model_validator(mode="after")
    def _one_action(self) -> Correction:
        if self.rejeter == (self.remplacer_par is not None):
            raise ValueError("une correction rejette ou remplace : exactement l'un des deux")
        return self


class Live(Strict):
    """Where the producer publishes the file, by which of its interfaces, and how sure we are of it.

    ``data_gouv``: the resource of that stable id (``ressource``), whatever its file is called now; or, in the data set ``jeu``,
    the resource whose title or file name follows ``fichier``, last modified first. ``opendatasoft``: the export of ``jeu`` on
    ``portail`` (Explore 2.1), in ``export``, or one of its attached files (``piece``). ``melodi``: the file of the Insee data
    set ``jeu`` whose product follows ``fichier``. ``depot``: ``fichier`` of a public repository at an immutable revision.
    ``https``: an address. In all of them {millesime}, {aaaa} and {aa} stand for the vintage, {nom} for the last part of ``chemin``.
    """

    protocole: Literal["data_gouv", "opendatasoft", "melodi", "depot", "https"]
    jeu: str | None = None
    ressource: str | None = None
    fichier: str | None = None
    portail: str | None = None
    export: Literal["csv", "parquet"] = "csv"
    libelles: bool = Field(False, description="opendatasoft: the header holds labels, as the published copy does, not field names")
    filtre: str | None = Field(None, description="opendatasoft: condition (where) that picks the vintage in a data set that holds them all")
    piece: str | None = None
    depot: str | None = None
    revision: str | None = None
    url: str | None = None
    hotes: tuple[str, ...] = ()
    confiance: Literal["A", "B", "C"]
    format: Format = Field(Format(), description="layout of the living file where it differs from the mirror's copy")
    note: str = ""

    @model_validator(mode="after")
    def _complete(self) -> Live:
        need = {
            "data_gouv": self.ressource or (self.jeu and self.fichier),
            "opendatasoft": self.portail and self.jeu,
            "melodi": self.jeu and self.fichier,
            "depot": self.depot and self.revision and self.fichier,
            "https": self.url,
        }
        if not need[self.protocole]:
            raise ValueError(f"protocole {self.protocole} : l'identifiant qu'il demande manque")
        return self

    def of(self, millesime: str, chemin: str) -> Live:
        """This address for one vintage, its placeholders filled in."""
        names, nom = ("ressource", "fichier", "filtre", "piece", "url", "jeu"), chemin.rpartition("/")[2].removesuffix(".gz")
        filled = {name: fill(text, millesime, nom) for name in names if (text := getattr(self, name))}
        return self.model_copy(update=filled)


class Livraison(Strict):
    """One delivery: the file of one vintage. ``chemin`` is its place below a mirror; a glob takes many files."""

    millesime: str
    chemin: str
    publie_le: dt.date
    cog_annee: int | None = None
    periode: dt.date | None = None
    format: Format = Format()
    constantes: dict[str, str] = Field(default_factory=dict)
    live: Live | None = None
    registre: bool = Field(False, description="read below the register of the installation, whatever the transport")
    demonstration: bool = Field(False, description="the demonstration world: only the embedded transport provides it")
    attendus: Attendus | None = Field(None, description="where this delivery differs from the table's own")
    licence: str | None = Field(None, description="where this file was not published under the table's own")
    note: str = ""

    @model_validator(mode="after")
    def _one_origin(self) -> Livraison:
        if self.registre and self.demonstration:
            raise ValueError("une livraison vient du registre ou de la démonstration, pas des deux")
        return self


class Suite(Strict):
    """The rule by which a vintage that nobody declared yet is taken up: its path, its dates and its codes.

    ``publie_apres_jours`` counts from the day of the vintage, or the last day of its year or quarter (2025, 2025T3): the day from which it may be
    known must not depend on the way by which it came. ``cumulative``: each file holds every earlier period, and the producer
    withdraws the older one; once a younger one is there, the older is no longer asked for.
    """

    chemin: str
    millesime: str = Field(r"\d{4}", description="regular expression of what {millesime} may be")
    publie_apres_jours: int = Field(ge=0)
    cog_ecart: int | None = Field(None, description="COG of the codes, in years after the vintage's")
    cumulative: bool = False
    format: Format = Format()
    constantes: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _placeholder(self) -> Suite:
        if self.chemin.count("{millesime}") != 1:
            raise ValueError("nouvelles_livraisons : « chemin » contient {millesime} une fois")
        return self

    def read(self, name: str, pattern: str | None = None) -> str | None:
        """The vintage that a path (or a name that follows ``pattern``) bears; None when it does not follow the rule."""
        before, _, after = (pattern or self.chemin).partition("{millesime}")
        match = re.fullmatch(
            fnmatch.translate(before).removesuffix(r"\Z").removesuffix(r"\z") + f"(?P<millesime>{self.millesime})" + fnmatch.translate(after), name
        )
        return match.group("millesime") if match else None

    def livraison(self, millesime: str, live: Live | None) -> Livraison:
        """The delivery of that vintage."""
        year = int(annee_de(millesime) or 0)
        quarter = re.search(r"[Tt]([1-4])", millesime)
        month = int(quarter.group(1)) * 3 if quarter else 12
        day = re.fullmatch(r"(\d{4})-?(\d\d)-?(\d\d)", millesime)
        end = dt.date(*map(int, day.groups())) if day else dt.date(year + month // 12, month % 12 + 1, 1) - dt.timedelta(days=1)
        return Livraison(
            millesime=millesime,
            chemin=self.chemin.replace("{millesime}", millesime),
            publie_le=end + dt.timedelta(days=self.publie_apres_jours),
            cog_annee=None if self.cog_ecart is None else year + self.cog_ecart,
            format=self.format,
            constantes={name: fill(text, millesime) for name, text in self.constantes.items()},
            live=live and live.of(millesime, self.chemin.replace("{millesime}", millesime)),
        )

    def following(self, millesime: str, count: int) -> list[str]:
        """The ``count`` vintages after that one, by year or by quarter."""
        year, quarter = int(annee_de(millesime) or 0), re.search(r"([Tt])([1-4])", millesime)
        if not quarter:
            return [millesime.replace(str(year), str(year + step)) for step in range(1, count + 1)]
        ranks = [year * 4 + int(quarter.group(2)) - 1 + step for step in range(1, count + 1)]
        return [f"{rank // 4}{quarter.group(1)}{rank % 4 + 1}" for rank in ranks]


class Mesures(Strict):
    """How a row of this table becomes measures: its territory and its period.

    ``periode`` is ``annee`` / ``trimestre`` / ``date`` / ``livraison``: which columns tell the period; ``intervalle`` reads
    « 2008-2013 », from one census to the next, or a single year.
    ``selon`` names a column whose value ends the identifier of each measure (a file in long format: one row per kind of
    offence). Its values are those that ``remplacer`` or ``constantes`` give it; an empty one makes no measure.
    """

    niveau: Niveau | None = None
    niveau_colonne: str | None = None
    code: str
    selon: str | None = None
    periode: Literal["annee", "trimestre", "date", "livraison", "intervalle"]
    annee: str = "annee"
    trimestre: str = "trimestre"
    date: str = "date_valeur"


class Liste(Strict):
    """How a row of this table says « this intervention acts here since then » (who was treated where, from when).

    ``niveau`` is the level of ``code``; ``code`` (the level) leaves it to the shape of each code (commune, EPCI or SIREN),
    unless the file says it itself in ``niveau_colonne`` (a région and a département may bear the same two digits).
    ``perimetre`` names the project itself: its territory is ``projet`` and ``code`` holds its members, if any.
    A list is the successive states that one table holds; ``etats_de`` names the table whose list these are states of.
    Every row speaks of ``interventions``; those of ``par_valeur`` only, rows with that value in the column ``selon``.
    """

    interventions: tuple[str, ...]
    niveau: Literal["commune", "epci", "departement", "qpv_2015", "qpv_2024", "code", "perimetre"]
    niveau_colonne: str | None = None
    selon: str | None = None
    par_valeur: dict[str, tuple[str, ...]] = Field(default_factory=dict, description="value of selon: interventions")
    code: str | None = None
    date: str | None = None
    projet: str | None = None
    nom: str | None = None
    etats_de: str | None = None
    garder: dict[str, tuple[str, ...]] = Field(
        default_factory=dict, description="column: values kept; other rows are not treatments (antennas...)"
    )

    @model_validator(mode="after")
    def _selon(self) -> Liste:
        if (self.selon is None) == bool(self.par_valeur):
            raise ValueError("liste : selon et par_valeur vont ensemble")
        return self

    @property
    def toutes(self) -> tuple[str, ...]:
        """Every intervention that some row of the table may speak of."""
        return tuple(dict.fromkeys([*self.interventions, *(name for names in self.par_valeur.values() for name in names)]))


class Attendus(Strict):
    """What the outer gate asks of each delivery before it is accepted."""

    lignes_min: int = 1
    lignes_max: int | None = None
    rejets_part_max: float = 0.05
    part_precedente_min: float = Field(0.9, description="rows against the last accepted file; 0 when it may shrink")
    remplies: dict[str, float] = Field(default_factory=dict, description="column: smallest share of non-null")

    def over(self, base: Attendus) -> Attendus:
        """These expectations laid over ``base``: the keys set here win."""
        return base.model_copy(update=self.model_dump(exclude_unset=True))


class Regle(Strict):
    """A rule over the columns of one row: ``condition`` is a DuckDB boolean over typed columns.

    A row for which it is false is rejected, at ``colonne``, with ``motif`` (what is wrong) and ``remede``. A condition
    that is null (a column it needs is empty) rejects nothing.
    """

    nom: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    condition: str
    colonne: str
    motif: str
    remede: str


class TableMeta(Strict):
    titre: str
    licence: str
    citation: str
    page: str | None = None
    confidentialite: Literal["publique", "interne", "personnelle"]
    cadence: Literal["mensuelle", "trimestrielle", "semestrielle", "annuelle", "irreguliere", "close"]
    fraicheur_jours: int | None = Field(None, description="after that age the delivery is late")
    regle_millesime: str
    grain: str
    cle: tuple[str, ...]
    doublons: Literal["rejeter_si_differents", "garder_le_premier"] = Field(
        "rejeter_si_differents",
        description="rows of one key: those that differ are all rejected, for nothing says which is right; garder_le_premier "
        "where the producer's order says it. Of rows that agree, the first is kept",
    )
    responsable: str = "equipe-donnees"
    format: Format
    manquants: tuple[str, ...] = ("", "NA")
    secrets: tuple[str, ...] = ()
    non_diffuses: tuple[str, ...] = ()
    livraisons: tuple[Livraison, ...]
    live: Live | None = Field(None, description="where the deliveries that do not say it themselves are published")
    nouvelles_livraisons: str | Suite | None = Field(
        None, description="deliveries not yet declared: a rule by which they are read, or a pattern by which they are reported"
    )
    depivot: Depivot | None = None
    eclatement: Eclatement | None = None
    corrections: tuple[Correction, ...] = ()
    regles: tuple[Regle, ...] = ()
    mesures: Mesures | None = None
    liste: Liste | None = None
    attendus: Attendus = Attendus()
    embarque: Literal["non", "defaut", "toujours"] = Field(
        "non", description="defaut: in the embedded archive; toujours: part of the package whatever the transport"
    )
    lien_verifie: str = "non : aucun lien n'a pu être ouvert d'ici"


    @model_validator(mode="after")
    def _addresses(self) -> TableMeta:
        """Gives each delivery its own address: the table's, where it has none, with its vintage filled in."""
        found = tuple(
            item.model_copy(update={"live": live.of(item.millesime, item.chemin)}) if (live := item.live or self.live) else item
            for item in self.livraisons
        )
        object.__setattr__(self, "livraisons", found)
        return self

    @property
    def suite(self) -> Suite | None:
        """The rule of vintages to come, when they are read and not only reported."""
        return self.nouvelles_livraisons if isinstance(self.nouvelles_livraisons, Suite) else None

    @property
    def motif_nouvelles(self) -> str | None:
        """Pattern of the paths of deliveries to come, with {millesime}."""
        return self.suite.chemin if self.suite else self.nouvelles_livraisons


class Mesure(Strict):
    """A column that is a measure. ``nature`` decides whether it may be summed, converted or only shown."""

    id: str
    nature: Literal["effectif", "stock", "montant", "mediane", "taux", "indice", "moyenne"]
    statut: Literal["observe", "estime", "provisoire"] = "observe"


class Saisie(Strict):
    """How a person fills the column in: what a template offers and what the door checks.

    ``reference`` is ``territoire`` (the code stands in the level told by ``territoire_niveau``), ``intervention``,
    ``indicateur`` or ``<kind>.<column>`` of another kind of record. ``min`` and ``max`` bound a number.
    """

    obligatoire: bool = False
    valeurs: tuple[str, ...] = ()
    exemple: str = ""
    reference: Annotated[str, Field(pattern=r"^(territoire|intervention|indicateur|[a-z_]+\.[a-z_]+)$")] | None = None
    min: float | None = None
    max: float | None = None
    aide: str = ""

    @model_validator(mode="after")
    def _possible(self) -> Saisie:
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError("saisie : min dépasse max")
        if len(set(self.valeurs)) != len(self.valeurs):
            raise ValueError("saisie : une valeur est écrite deux fois")
        if self.valeurs and self.exemple and self.exemple not in self.valeurs:
            raise ValueError(f"saisie : l'exemple « {self.exemple} » n'est pas une des valeurs")
        return self


class ColumnMeta(Strict):
    origine: str | tuple[str, ...] | None = Field(
        None, description="name in the published file; {aa} and {aaaa} stand for the vintage; a list gives variants"
    )
    type: Literal[
        "texte", "entier", "nombre", "date", "booleen", "code", "code_commune", "code_departement", "code_region", "code_epci", "code_qpv"
    ] = "texte"
    unite: str | None = None
    facultative: bool = False
    extraire: str | None = Field(None, description="regular expression; its first group is the value")
    completer: int | None = Field(None, description="left-pad a code with zeros to this width")
    siecle: str | None = Field(None, description="first two digits of a year that the file writes with two (20 for 24)")
    remplacer: dict[str, str] = Field(default_factory=dict)
    vide: str | None = Field(None, description="what an empty cell stands for (0 in a cross-table); never a guess")
    formats_date: tuple[str, ...] = ()
    decimale: Literal[".", ","] = "."
    mesure: Mesure | None = None
    confidentialite: Literal["publique", "interne", "personnelle"] = Field(
        "publique", description="personnelle: read and checked at the door, never written after it"
    )
    pseudonyme: bool = Field(
        False, description="a personal column that leaves a keyed pseudonym in the column <name>_pseudonyme"
    )
    saisie: Saisie | None = None

    @property
    def personnelle(self) -> bool:
        return self.confidentialite == "personnelle"

    @property
    def origines(self) -> tuple[str, ...]:
        if self.origine is None:
            return ()
        return (self.origine,) if isinstance(self.origine, str) else self.origine


class Column(Strict):
    name: str
    data_type: str
    description: str
    meta: ColumnMeta


class Source(Strict):
    """One declared table of one producer, as the readers and fetchers see it."""

    source_id: str
    groupe: str
    nom: str
    producteur: str
    description: str
    fichier: str
    meta: TableMeta
    columns: tuple[Column, ...]

    @property
    def conservees(self) -> tuple[Column, ...]:
        """The columns that may be written: all but the personal ones."""
        return tuple(column for column in self.columns if not column.meta.personnelle)

    @property
    def saisies(self) -> tuple[Column, ...]:
        """The columns that a person fills in, in the order of the template."""
        return tuple(column for column in self.columns if column.meta.saisie)

    @property
    def asset_key(self) -> tuple[str, str, str]:
        return ("landing", self.groupe, self.nom)

    def attendus_de(self, livraison: Livraison) -> Attendus:
        return livraison.attendus.over(self.meta.attendus) if livraison.attendus else self.meta.attendus

    def licence_de(self, livraison: Livraison) -> str:
        return livraison.licence or self.meta.licence

    @property
    def licences(self) -> tuple[str, ...]:
        """The licences of its files, each once, in the order of the deliveries."""
        return tuple(dict.fromkeys(map(self.licence_de, self.meta.livraisons))) or (self.meta.licence,)

    def livraison(self, millesime: str) -> Livraison:
        return next(item for item in self.meta.livraisons if item.millesime == millesime)

    def with_vintages(self, millesimes: Iterable[str]) -> Source:
        """This source with the vintages that its rule takes up, in order, after those that are declared."""
        rule, known = self.meta.suite, {item.millesime for item in self.meta.livraisons}
        new = tuple(rule.livraison(name, self.meta.live) for name in sorted({*millesimes} - known)) if rule else ()
        if not new:
            return self
        return self.model_copy(update={"meta": self.meta.model_copy(update={"livraisons": (*self.meta.livraisons, *new)})})

    @model_validator(mode="after")
    def _consistent(self) -> Source:
        names = [column.name for column in self.columns]
        technical = {"_millesime", "_ligne"}
        for wanted in self.meta.cle:
            if wanted not in names and wanted not in technical:
                raise ValueError(f"la clé cite {wanted!r}, qui n'est pas une colonne déclarée")
        if self.meta.liste:
            rule = self.meta.liste
            columns = (rule.code, rule.date, rule.projet, rule.nom, rule.niveau_colonne, rule.selon, *rule.garder)
            for wanted in filter(None, columns):
                if wanted not in names:
                    raise ValueError(f"liste cite {wanted!r}, qui n'est pas une colonne déclarée")
        self._check_personal(names)
        seen = [item.millesime for item in self.meta.livraisons]
        if len(seen) != len(set(seen)):
            raise ValueError("deux livraisons portent le même millésime")
        if any(column.meta.mesure for column in self.columns) and self.meta.mesures is None:
            raise ValueError("une colonne est une mesure mais la table ne dit ni territoire ni période (mesures)")
        if self.meta.mesures and not (self.meta.mesures.niveau or self.meta.mesures.niveau_colonne):
            raise ValueError("mesures : dire niveau ou niveau_colonne")
        if self.meta.mesures and self.meta.mesures.selon and not self.modalites:
            raise ValueError(f"mesures : {self.meta.mesures.selon!r} n'a ni remplacer ni constantes, donc aucune valeur déclarée")
        return self

    @property
    def modalites(self) -> tuple[str, ...]:
        """Declared values of the column that ends the identifiers of the measures; empty without ``selon``."""
        name = self.meta.mesures.selon if self.meta.mesures else None
        if name is None:
            return ()
        replaced = [v for c in self.columns if c.name == name for v in c.meta.remplacer.values()]
        fixed = [v for item in self.meta.livraisons for k, v in item.constantes.items() if k == name]
        return tuple(sorted({value for value in (*replaced, *fixed) if value}))

    @property
    def mesures(self) -> dict[str, str]:
        """Identifier of every measure that this table gives, with its nature."""
        found = {c.meta.mesure.id: c.meta.mesure.nature for c in self.columns if c.meta.mesure}
        if not self.modalites:
            return dict(found)
        return {f"{name}_{value}": nature for name, nature in found.items() for value in self.modalites}


    def _check_personal(self, names: list[str]) -> None:
        """Personal columns are neither keys nor measures, and a pseudonym has a column of its own."""
        personal = {column.name for column in self.columns if column.meta.personnelle}
        for column in self.columns:
            if column.meta.pseudonyme and not column.meta.personnelle:
                raise ValueError(f"{column.name} : pseudonyme ne vaut que pour une colonne de confidentialité personnelle")
            if column.meta.pseudonyme and f"{column.name}_pseudonyme" not in names:
                raise ValueError(f"{column.name} : déclarer aussi la colonne {column.name}_pseudonyme, qui la remplace")
            if column.meta.mesure and column.meta.personnelle:
                raise ValueError(f"{column.name} : une donnée personnelle ne peut être une mesure")
        rule = self.meta.liste
        for wanted in (*self.meta.cle, *((rule.code, rule.date, rule.projet, rule.nom) if rule else ())):
            if wanted in personal:
                raise ValueError(f"{wanted} est une donnée personnelle : elle ne peut être ni clé ni territoire")
        seen = [regle.nom for regle in self.meta.regles]
        if len(seen) != len(set(seen)):
            raise ValueError("deux règles portent le même nom")
        for regle in self.meta.regles:
            if regle.colonne not in names or regle.colonne in personal:
                raise ValueError(f"la règle {regle.nom} cite {regle.colonne!r}, qui n'est pas une colonne conservée")


SourceId = Annotated[str, Field(pattern=r"^[a-z0-9_]+__[a-z0-9_]+$")]


def _explain(error: ValidationError) -> str:
    return " ; ".join(f"{'.'.join(str(p) for p in e['loc']) or 'déclaration'} : {e['msg']}" for e in error.errors())


def load_file(path: Path) -> list[Source]:
    """Sources declared in one dbt YAML file.

    Raises DeclarationError naming the file, the table and the faulty key.
    """
    try:
        document = yaml.load(path.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError as error:
        raise DeclarationError(f"{path.name} : YAML illisible ({error})") from error
    found = []
    for group in document.get("sources", []):
        for table in group["tables"]:
            where = f"{path.name}, table {group['name']}.{table.get('name')}"
            try:
                columns = tuple(
                    Column(
                        name=column["name"],
                        data_type=column["data_type"],
                        description=column["description"],
                        meta=ColumnMeta(**column.get("config", {}).get("meta", {})),
                    )
                    for column in table["columns"]
                )
                found.append(
                    Source(
                        source_id=f"{group['name']}__{table['name']}",
                        groupe=group["name"],
                        nom=table["name"],
                        producteur=group["config"]["meta"]["producteur"],
                        description=table["description"],
                        fichier=path.name,
                        meta=TableMeta(**table["config"]["meta"]),
                        columns=columns,
                    )
                )
            except KeyError as error:
                raise DeclarationError(f"{where} : la clé {error} manque") from error
            except ValidationError as error:
                raise DeclarationError(f"{where} : {_explain(error)}") from error
    return found


@cache
def load_sources(folder: Path = SOURCES_DIR) -> dict[str, Source]:
    """All declared sources by ``source_id``, in the order of the files.

    Raises DeclarationError when a declaration is wrong or two sources share an id.
    """
    sources: dict[str, Source] = {}
    for path in sorted(folder.glob("*.yml")):
        for source in load_file(path):
            if source.source_id in sources:
                raise DeclarationError(f"{path.name} : {source.source_id} est déclarée deux fois")
            sources[source.source_id] = source
    for source in sources.values():
        first = source.meta.liste and source.meta.liste.etats_de
        if first and (first not in sources or not sources[first].meta.liste or sources[first].meta.liste.etats_de):
            raise DeclarationError(
                f"{source.fichier}, table {source.groupe}.{source.nom} : liste.etats_de cite {first!r}, qui n'est pas une "
                "source déclarée avec sa propre liste"
            )
    return sources


def select_sources(patterns: tuple[str, ...] | list[str] | None, folder: Path = SOURCES_DIR) -> list[Source]:
    """Sources whose id or group matches one of the shell patterns (all when there is none).

    Raises DeclarationError when a pattern matches nothing.
    """
    sources = list(load_sources(folder).values())
    if not patterns:
        return sources
    chosen = []
    for pattern in patterns:
        hits = [s for s in sources if fnmatch.fnmatch(s.source_id, pattern) or s.groupe == pattern]
        if not hits:
            raise DeclarationError(f"--only {pattern} : aucune source déclarée ne porte ce nom (voir « dk sources »)")
        chosen += [s for s in hits if s not in chosen]
    return chosen


def origin_names(column: Column, livraison: Livraison) -> list[str]:
    """Names the column may bear in the file of one delivery, the vintage's year filled in."""
    return [fill(origin, livraison.millesime) for origin in column.meta.origines]
