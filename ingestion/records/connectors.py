"""Records that other tools hold, read through their published interfaces: Grist and Démarches simplifiées.

An installation lists its connectors in ``DK_HOME/connecteurs.yml``; tokens are never there but in the environment:

    connecteurs:
      - type: grist
        nom: conventions_pvd
        base: https://grist.exemple.gouv.fr
        document: 9mD3ZYvG7p
        table: Conventions
        kind: convention
        colonnes: {convention_id: Identifiant, intervention_id: Programme}
      - type: demarches_simplifiees
        nom: demandes_creuse
        base: https://www.demarches-simplifiees.fr
        demarche: 12345
        kind: demande_ingenierie
        colonnes: {demande_id: '@numero', date_demande: '@date_depot', theme: Thème du projet}
        constantes: {departement_code: '23'}

``colonnes`` gives for each declared column of the kind its column in Grist (identifier or label) or its field of the
démarche (label or identifier); ``constantes`` gives the columns that hold one same value. Rows go through the same
checks as a deposited file (``admission.admit_frame``), under the name of the connector.

A token goes into the Authorization header of the configured address and nowhere else: not into a message, a log, the
journal nor the state kept between two collections. What a server answers is never quoted, since it could repeat it.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

if TYPE_CHECKING:
    import polars as pl

    from ingestion.fetch import Http
    from ingestion.paths import Home
    from ingestion.records.admission import Admission

TAILLE_MAX = 512_000_000
BOUCLE = {"127.0.0.1", "::1", "localhost"}
JETONS = {"grist": "DK_GRIST_JETON", "demarches_simplifiees": "DK_DS_JETON"}
ETATS = ("en_construction", "en_instruction", "accepte", "refuse", "sans_suite")
IMPLICITES = {
    "grist": ("@id",),
    "demarches_simplifiees": ("@numero", "@etat", "@date_depot", "@date_derniere_modification", "@date_traitement"),
}


class ConnectorError(RuntimeError):
    """A connector is badly configured or its source did not answer as documented; the French message holds no value."""


class _Connecteur(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    nom: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_]{0,39}$")]
    base: str
    kind: str
    colonnes: dict[str, Annotated[str, Field(min_length=1)]]
    constantes: dict[str, str] = Field(default_factory=dict)

    @field_validator("base")
    @classmethod
    def _address(cls, base: str) -> str:
        try:
            parts = urlsplit(base)
            host, port = parts.hostname, parts.port  # noqa: F841  (an impossible port raises here)
        except ValueError:
            raise ValueError("adresse illisible") from None
        if not host or parts.scheme not in ("https", "http"):
            raise ValueError("écrire une adresse en https://")
        if parts.scheme == "http" and host not in BOUCLE:
            raise ValueError("le jeton passerait en clair : écrire une adresse en https://")
        if "@" in parts.netloc or parts.query or parts.fragment:
            raise ValueError("une adresse sans identifiant, sans paramètre et sans ancre")
        return base.rstrip("/")

    @model_validator(mode="after")
    def _columns(self) -> _Connecteur:
        from ingestion.records.layout import kinds

        known = kinds()
        if self.kind not in known:
            raise ValueError(f"type de relevé « {self.kind} » inconnu ; les types : {', '.join(known)}")
        entered = {column.name: column for column in known[self.kind].saisies}
        given = [*self.colonnes, *self.constantes]
        unknown = sorted(set(given) - set(entered))
        if unknown:
            raise ValueError(f"colonnes que « {self.kind} » n'a pas : {', '.join(unknown)}")
        twice = sorted(set(self.colonnes) & set(self.constantes))
        if twice:
            raise ValueError(f"données à la fois par colonnes et par constantes : {', '.join(twice)}")
        needed = [name for name, column in entered.items() if column.meta.saisie.obligatoire and name not in given]
        if needed:
            raise ValueError(f"colonnes obligatoires de « {self.kind} » sans source : {', '.join(needed)}")
        implicit = IMPLICITES[self.type]
        wrong = sorted(s for s in self.colonnes.values() if s.startswith("@") and s not in implicit)
        if wrong:
            raise ValueError(f"sources inconnues : {', '.join(wrong)} ; celles qui existent : {', '.join(implicit)}")
        return self

    @property
    def sources(self) -> list[str]:
        """The distinct columns or fields to look for, ``@`` ones left out, in the order of the configuration."""
        return list(dict.fromkeys(s for s in self.colonnes.values() if not s.startswith("@")))

    @property
    def label(self) -> str:
        return f"connecteur {self.nom}"

    @property
    def variable(self) -> str:
        """The environment variable that holds the token."""
        return JETONS[self.type]

    def empreinte(self) -> str:
        """Changes with whatever decides the rows of this connector: its configuration, the layouts and the rules."""
        import hashlib

        from ingestion.records.admission import rules_version

        return hashlib.sha256((self.model_dump_json() + rules_version()).encode()).hexdigest()[:24]


class Grist(_Connecteur):
    """One table of one Grist document."""

    type: Literal["grist"]
    document: Annotated[str, Field(pattern=r"^[A-Za-z0-9_~-]{1,100}$")]
    table: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,99}$")]


class Demarche(_Connecteur):
    """One démarche of Démarches simplifiées. ``relecture_jours``: days between two complete readings."""

    type: Literal["demarches_simplifiees"]
    demarche: Annotated[int, Field(gt=0)]
    etats: tuple[Literal[ETATS], ...] = ETATS
    taille_page: Annotated[int, Field(ge=1, le=100)] = 100
    relecture_jours: Annotated[int, Field(ge=1, le=90)] = 7


Connecteur = Annotated[Grist | Demarche, Field(discriminator="type")]


class _Installation(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    connecteurs: tuple[Connecteur, ...]

    @model_validator(mode="after")
    def _names(self) -> _Installation:
        names = [c.nom for c in self.connecteurs]
        twice = sorted({n for n in names if names.count(n) > 1})
        if twice:
            raise ValueError(f"deux connecteurs portent le nom {', '.join(twice)}")
        return self


_FRENCH = {
    "missing": "manque",
    "extra_forbidden": "clé inconnue (un jeton ne s'écrit pas ici mais dans l'environnement)",
    "string_type": "un texte est attendu (mettre des guillemets)",
    "string_too_short": "ne peut être vide",
    "string_pattern_mismatch": "n'a pas la forme attendue",
    "int_type": "un nombre entier est attendu",
    "int_parsing": "un nombre entier est attendu",
    "greater_than": "nombre trop petit",
    "greater_than_equal": "nombre trop petit",
    "less_than_equal": "nombre trop grand",
    "literal_error": "n'est pas une des valeurs possibles",
    "union_tag_invalid": "type inconnu : écrire grist ou demarches_simplifiees",
    "union_tag_not_found": "le type manque : écrire grist ou demarches_simplifiees",
    "dict_type": "des couples « nom: valeur » sont attendus",
    "tuple_type": "une liste est attendue",
    "model_type": "des couples « nom: valeur » sont attendus",
    "model_attributes_type": "des couples « nom: valeur » sont attendus",
}


def _explain(error: ValidationError) -> str:
    """The faults in French, each with its place; never the value that was found there."""
    found = []
    for fault in error.errors(include_input=False, include_url=False, include_context=True):
        place = ".".join(str(p + 1) if isinstance(p, int) else p for p in fault["loc"] if p not in JETONS)
        if fault["type"] == "value_error":
            text = str(fault["ctx"]["error"])
        else:
            text = _FRENCH.get(fault["type"], "valeur refusée")
        found.append(f"{place or 'connecteurs'} : {text}")
    return " ; ".join(found)


def load(where: Home) -> list[Grist | Demarche]:
    """The configured connectors, in the order of the file; none when there is no file.

    Raises ConnectorError, naming the entry and the key, when the file is wrong.
    """
    path = where.connecteurs
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError):
        raise ConnectorError(f"{path.name} : fichier illisible ; vérifier ses droits et son encodage (UTF-8)") from None
    import yaml

    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", ligne {mark.line + 1}" if mark else ""
        raise ConnectorError(f"{path.name}{line} : YAML illisible ; corriger la mise en forme") from None
    try:
        return list(_Installation.model_validate(document if document is not None else {"connecteurs": ()}).connecteurs)
    except ValidationError as error:
        raise ConnectorError(f"{path.name} : {_explain(error)}") from None


def names(where: Home) -> set[str]:
    """Names that a deposited file may not take: connectors that are configured, or that ever brought something."""
    used = {path.stem for path in (where.registre / "connecteurs").glob("*.json")}
    try:
        return used | {connecteur.nom for connecteur in load(where)}
    except ConnectorError:
        return used


def token(connecteur: Grist | Demarche) -> str:
    """The token of the environment. Raises ConnectorError naming the variable when it is absent or no token at all."""
    value = os.environ.get(connecteur.variable, "").strip()
    if not value:
        raise ConnectorError(
            f"{connecteur.label} : aucun jeton ; donner celui de l'installation dans la variable d'environnement "
            f"{connecteur.variable}"
        )
    if not re.fullmatch(r"[\x21-\x7e]+", value):
        raise ConnectorError(
            f"{connecteur.label} : la variable {connecteur.variable} ne contient pas un jeton (espace, retour à la ligne ou "
            "accent) ; la recopier depuis l'outil"
        )
    return value


# --- what the two interfaces share ------------------------------------------------------------------------------


@dataclass
class Lot:
    """What one collection brought.

    ``frame``: strings named by the declared columns, and ``_ligne`` (number of the record at its producer).
    ``remplace``: numbers of the records that it replaces or withdraws, None when it replaces them all.
    ``etat``: what to remember once the rows are admitted; it holds neither token nor personal data.
    """

    frame: pl.DataFrame
    remplace: list[int] | None
    etat: dict[str, Any]
    lues: int = 0


def ask_json(
    connecteur: Grist | Demarche, http: Http, jeton: str, path: str, into: Path, body: dict[str, Any] | None = None
) -> Any:
    """The JSON document that ``base`` + ``path`` answers, by GET, or POST when there is a ``body``.

    Raises FetchError (refusal, five hundreds after the tries, cut connection) or ConnectorError (not JSON). Transient
    failures are tried again as ``Http`` says; ``Retry-After`` is obeyed.
    """
    import orjson

    from ingestion.fetch import Ask

    ask = Ask(
        connecteur.label,
        connecteur.base + path,
        TAILLE_MAX,
        "vérifier le document, la table ou la démarche, et « base », dans connecteurs.yml",
        jeton=jeton,
        body=None if body is None else orjson.dumps(body),
        denied=f"vérifier le jeton donné par {connecteur.variable} et ses droits sur ce document ou cette démarche",
    )
    fetched = http.get(ask, into)
    assert fetched.path is not None  # no earlier version was given, so nothing can be « unchanged »
    try:
        return orjson.loads(fetched.path.read_bytes())
    except orjson.JSONDecodeError:
        raise ConnectorError(
            f"{connecteur.label} : la réponse n'est pas du JSON ; vérifier « base » dans connecteurs.yml"
        ) from None
    finally:
        fetched.path.unlink(missing_ok=True)


def schema_change(connecteur: Grist | Demarche, missing: list[str], new: list[str], what: str) -> ConnectorError:
    """The refusal of a source whose columns are no longer those configured; names columns, never values."""
    shown = f" ; nouveaux : {', '.join(f'« {n} »' for n in new[:20])}" if new else ""
    return ConnectorError(
        f"{connecteur.label} : {what} introuvables : {', '.join(f'« {m} »' for m in missing)}{shown}. Rien n'est pris, les "
        "lignes déjà admises restent ; corriger « colonnes » dans connecteurs.yml, ou rétablir le nom à la source"
    )


def unexpected(connecteur: Grist | Demarche) -> ConnectorError:
    return ConnectorError(
        f"{connecteur.label} : la réponse n'a pas la forme que sa documentation décrit ; vérifier « base », puis signaler le "
        "changement d'interface à l'équipe"
    )


def day(seconds: float, zone: str = "UTC") -> str:
    """The ISO date of an instant (seconds since 1970) in a time zone."""
    from zoneinfo import ZoneInfo

    return dt.datetime.fromtimestamp(seconds, dt.UTC).astimezone(ZoneInfo(zone)).date().isoformat()


def number(value: float) -> str:
    """A number as one would type it: no exponent, no needless decimals."""
    if isinstance(value, int) or float(value).is_integer():
        return str(int(value))
    from decimal import Decimal

    return format(Decimal(repr(value)), "f")


# --- collecting -------------------------------------------------------------------------------------------------


@dataclass
class Collecte:
    """What became of one connector: an admission, or an error that says why nothing was taken."""

    nom: str
    kind: str
    admission: Admission | None = None
    erreur: str | None = None
    lues: int = field(default=0)


def _state_path(where: Home, connecteur: Grist | Demarche) -> Path:
    return where.registre / "connecteurs" / f"{connecteur.nom}.json"


def _read_state(where: Home, connecteur: Grist | Demarche) -> dict[str, Any]:
    """What the last admitted collection left; empty when there is none, or none of this configuration."""
    try:
        state = json.loads(_state_path(where, connecteur).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return state if isinstance(state, dict) and state.get("empreinte") == connecteur.empreinte() else {}


def collect(
    where: Home, *, http: Http | None = None, now: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC)
) -> list[Collecte]:
    """Collects every configured connector and admits its rows; one that fails does not stop the others.

    The state is written after the rows: a crash in between reads the same records again, to the same effect.
    Raises ConnectorError only when the configuration itself cannot be read, and OSError for a full disk.
    """
    configured = load(where)
    if not configured:
        return []
    from ingestion.fetch import Http

    http = http or Http()
    return [_collect_one(connecteur, where, http, now) for connecteur in configured]


def _collect_one(connecteur: Grist | Demarche, where: Home, http: Http, now: Callable[[], dt.datetime]) -> Collecte:
    from ingestion.fetch import FetchError
    from ingestion.records.admission import AdmissionError, admit_frame, write_json

    result = Collecte(connecteur.nom, connecteur.kind)
    try:
        lot = _read(connecteur, where, http, now())
        result.lues = lot.lues
        if lot.remplace is None or lot.remplace:
            result.admission = admit_frame(connecteur.kind, lot.frame, connecteur.nom, where, remplace=lot.remplace, now=now())
    except (ConnectorError, FetchError, AdmissionError) as error:
        result.erreur = str(error)
        return result
    if result.admission and result.admission.refusee:
        return result
    write_json({**lot.etat, "empreinte": connecteur.empreinte()}, _state_path(where, connecteur))
    return result


def _read(connecteur: Grist | Demarche, where: Home, http: Http, now: dt.datetime) -> Lot:
    """The rows of one connector. Raises ConnectorError or FetchError."""
    from ingestion.records import demarches, grist

    jeton, state = token(connecteur), _read_state(where, connecteur)
    if not (where.registre / connecteur.kind / f"{connecteur.nom}.parquet").exists():
        state = {}
    # What comes holds personal data: its temporary file is in the restricted zone, and gone at the end.
    with tempfile.TemporaryDirectory(prefix="collecte-", dir=where.ensure().restreint) as folder:
        try:
            return (grist if connecteur.type == "grist" else demarches).read(connecteur, http, jeton, state, Path(folder), now)
        except (KeyError, IndexError, TypeError, AttributeError, ValueError):
            # Someone else's answer, not of its documented shape. The exception could quote a value: it stops here.
            raise unexpected(connecteur) from None
