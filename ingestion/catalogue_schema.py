"""What the catalogue may say: strict models of its YAML files, their loader, and the gate over the whole.

The catalogue is written by people: interventions of the roadmap, their indicators, named perimeters, breaks of series.
``load_catalogue`` refuses a file that is malformed; ``check_catalogue`` says what does not hold together across files.
Both speak French and name the file, the entry and the remedy. Nothing heavy is imported: this runs before every build.
"""

from __future__ import annotations

import datetime as dt
import fnmatch
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, TypeAdapter, ValidationError, model_validator

from ingestion.declarations import PROJECT, Liste, Niveau, Source, Strict, load_sources

CATALOGUE = Path(__file__).resolve().parent / "catalogue"

Id = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
Texte = Annotated[str, Field(min_length=1)]
Portee = Literal["politique_publique", "vie_quotidienne"]
Domaine = Literal[
    "apprendre", "cadre_de_vie", "faire_ses_courses", "faire_ses_demarches", "niveau_de_vie", "participer", "se_connecter",
    "se_deplacer", "se_divertir", "se_loger", "se_soigner", "travailler", "vivre_ensemble",
]  # fmt: skip
Maille = Literal[
    "commune", "epci", "zone_emploi", "departement", "region", "national", "qpv", "territoire", "massif", "cite_educative",
    "etablissement", "structure", "site", "lieu", "demarche",
]  # fmt: skip
Forme = Literal[
    "programme", "projet", "projet_de_programme", "mission", "plan", "expertise", "pacte_territorial", "contrat",
    "ingenierie", "convention_operateur", "formation", "methode",
]  # fmt: skip

# From the finest to the widest; a value wider than the treated area describes an enclosing territory (rule R-ECO).
RANG = {
    "qpv": 0, "qpv_2015": 0, "qpv_2024": 0, "commune": 1, "epci": 2, "arrondissement": 3, "zone_emploi": 4,
    "departement": 5, "region": 6, "national": 7,
}  # fmt: skip


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Keys of the research catalogue: where a value would come from, declared as a source or not yet.
ORIGINES = _words(
    """cog rp popleg filosofi bpe sirene flores urssaf defm chomage_ze sigville p147 depp_ips depp_dnb depp_ival depp_eval
    depp_sortants caf fs_liste fs_activite fs_satisf distancier acv_liste pvd_liste ti_liste ort lovac dvf sitadel anah
    rpls dpe conso_elec vacance_com insee_zonages arcep_thd arcep_thd_techno arcep_mobile arcep_dcc arcep_qos jalerte
    conum carto_num ifn baro_num tiers_lieux apl rpps ald tourisme datatourisme enneige ofgl dotinv rna fdva sc licences
    passculture ddd ssmsi elections naf ges ponts bdt_od aides_ademe anru_od france_relance int_prog int_surmesure
    int_operateurs int_formation int_concert int_enquete int_contrat int_ca"""
)

# The barometers' indicators are defined by their producers; these ids are what their metadata hold.
BAROMETRE_2022_2024 = frozenset(
    f"ditp_ind_{number}"
    for number in _words("""200 208 218 223 227 228 229 230 232 237 242 243 244 246 251 252 253 263 278 285 286 291 292 293 294
    295 296 297 299 300 301 302 303 304 306 307 311 312 313 314 315 316 318 320 321 323 324 325 326 327 328 329 330 331
    334 335 337 338 339 358 376 384 426 439 440 445 449 505 510 545 546 555 560 561 563 565 583 587 589 610 632 647 648
    649 650 652 658 676 679 717 718 719 720 734 736 744 767 768 812 819 833 834 887 894 905 957""")
)
BAROMETRE_2017_2022 = frozenset(
    f"etalab_{name}"
    for name in _words("""duree_moyenne_traitement_demandes_allocation_adulte_handicape km_amenagement_cyclables_securises
    logement_sans_domicile_hebergement_urgence nb_agriculteurs_agro_eco nb_aide_juridictionnelle_dematerialisee
    nb_amendes_delictuelles_dressees nb_atteintes_biens nb_atteintes_personnes nb_attestations_savoir_rouler_velo
    nb_beneficiaires_ajpa nb_beneficiaires_siae nb_beneficiaires_suppression_taxe_habitation nb_centres_sante
    nb_controles_clir nb_cycle_aisance_aquatique nb_diagnostics_individualises nb_entreprises_cheaque_numerique
    nb_entreprises_industrielles_agricoles nb_familles_aripa nb_formation_pic nb_francais_emballages_bac_jaune
    nb_habitants_zfe nb_heures_patrouille nb_jeunes_engages nb_km_lignes_regenerees nb_labellisations_france_services
    nb_logement_accompagnement nb_logements_renoves_petites_villes nb_maisons_sante nb_maprimerenov_valides
    nb_morts_routes nb_ordonnances_delivrees nb_peres_conge_paternite nb_points_recharge nb_postes_tig
    nb_primes_conversion nb_utilisateurs_pass_culture nombre_contrats_apprentissage nombre_creation_ueea
    nombre_creation_ulis nombre_recrutements_jeunes surface_agriculture_biologique taux_collegiens_beneficiaires
    taux_deploiement_fibre taux_paiement_dpb tx_adhesion_etat_civil tx_classes_cp_ce1 tx_classes_cp_ce1_rep
    tx_detenus_formation tx_entreprise_egalite_pro tx_equipements_audio tx_equipements_dentaire tx_equipements_optique
    tx_gs_rep tx_reussite_examens tx_satisfaction_usagers_services_publics tx_transparence_resultats""")
)
BAROMETRES = BAROMETRE_2022_2024 | BAROMETRE_2017_2022

# Counted by the warehouse (mes_liste, mes_etablissement), not read in a declared column; programme_<intervention_id> adds
# one per list.
MESURES_CALCULEES = _words(
    """fs_sites fs_antennes ort_conventions_signees ivac_candidats ivac_recus ivac_points_ecrit ivac_candidats_va ivac_points_va
    ivac_candidats_acces ivac_points_acces ips_colleges ips_colleges_somme ips_ecoles ips_ecoles_somme"""
)
PROGRAMME = "programme_"
PERIMETRES = "catalogue__perimetres"
AGREGATION_DU_CALCUL = {
    "somme": "somme", "ratio": "ratio_num_den", "moyenne_ponderee": "moyenne_ponderee", "valeur": "non_agregeable",
}  # fmt: skip
SOMMABLES = {"effectif", "stock", "montant"}
SOMMABLES_INTERNES = {"effectif", "montant", "public"}
# Internal measures are published no finer: records below are in the evaluators' tables only.
NIVEAUX_INTERNES = ("departement", "region", "national", "perimetre")
# Measures that an indicator reports for itself by actions; what they mean follows from its own calculation.
RAPPORTEES = ("action_quantite", "action_reference", "action_lignes")
CODES_MEMBRE = {
    "commune": r"^(\d{2}|2[AB])\d{3}$",
    "epci": r"^\d{9}$",
    "arrondissement": r"^(\d{2}|2[AB])\d{1,2}$",
    "departement": r"^(0[1-9]|[1-8]\d|9[0-5]|2[AB]|97\d)$",
}


class CatalogueError(ValueError):
    """A file of the catalogue is malformed; the message lists every fault, in French."""


class Famille(Strict):
    """One family of measures drawn from internal records (``familles_internes`` of ``dbt_project.yml``).

    A measure is the name of its family, followed by ``__`` and its object when it has one.
    """

    registre: str
    objet: Literal["intervention", "indicateur", "operateur"] | None = None
    nature: Literal["effectif", "montant", "public", "moyenne", "mediane", "selon_unite"]
    unite: str
    flux: bool = False


@cache
def familles_internes() -> dict[str, Famille]:
    """Families of internal measures by name, as dbt reads them: both sides share one declaration."""
    variables = yaml.load((PROJECT / "dbt_project" / "dbt_project.yml").read_text(encoding="utf-8"), Loader=_Loader)["vars"]
    return {name: Famille(**facts) for name, facts in variables["familles_internes"].items()}


@cache
def operateurs() -> frozenset[str]:
    """Short names of the operators of the first circle, as internal measures write them."""
    variables = yaml.load((PROJECT / "dbt_project" / "dbt_project.yml").read_text(encoding="utf-8"), Loader=_Loader)["vars"]
    return frozenset(variables["operateurs_premier_cercle"])


def famille_de(mesure: str) -> Famille | None:
    """The family of an internal measure, or None when the measure is not an internal one."""
    return familles_internes().get(mesure.partition("__")[0])


class Contrefactuel(Strict):
    """Whether an effect can be claimed on the indicator, and by which comparison."""

    pertinent: bool
    methode: Literal["did_echelonne", "did_apparie", "sdid_permutation", "rdd_seuil_revenu_qpv", "comparaison_descriptive", "aucune"]

    @model_validator(mode="after")
    def _coherent(self) -> Contrefactuel:
        if self.pertinent == (self.methode in ("comparaison_descriptive", "aucune")):
            raise ValueError("pertinent: true demande une méthode causale, et une méthode causale demande pertinent: true")
        return self


class Calcul(Strict):
    """How values are computed from declared measures; ``valeur`` is published as is and never aggregated."""

    type: Literal["somme", "ratio", "moyenne_ponderee", "valeur"]
    numerateur: Id
    denominateur: Id | None = None
    poids: Id | None = None
    facteur: float | None = None
    niveaux: tuple[Niveau, ...] | None = None
    exhaustif: bool = False

    @model_validator(mode="after")
    def _operands(self) -> Calcul:
        if (self.denominateur is not None) != (self.type == "ratio"):
            raise ValueError("un ratio, et lui seul, a un denominateur")
        if (self.poids is not None) != (self.type == "moyenne_ponderee"):
            raise ValueError("une moyenne pondérée, et elle seule, a un poids")
        if self.exhaustif and self.type not in ("somme", "ratio"):
            raise ValueError("exhaustif ne vaut que pour une somme ou un ratio : un territoire absent y compte zéro")
        internes = [m for m in self.mesures if famille_de(m)]
        if internes and self.exhaustif:
            raise ValueError(f"« {internes[0]} » vient d'un registre : ce sont ses expéditeurs qui le couvrent, retirer exhaustif")
        if internes and not (self.niveaux and set(self.niveaux) <= set(NIVEAUX_INTERNES)):
            raise ValueError(
                f"« {internes[0]} » vient de relevés internes : écrire niveaux, parmi {', '.join(NIVEAUX_INTERNES)} (rien de plus fin n'est publié)"
            )
        return self

    @property
    def mesures(self) -> tuple[str, ...]:
        return tuple(m for m in (self.numerateur, self.denominateur, self.poids) if m)


class Indicateur(Strict):
    indicateur_id: Id
    libelle: Texte
    portee: Portee
    type: Literal["moyens", "realisation", "resultat", "impact"]
    domaine: Domaine | None
    unite: Texte
    sens_favorable: Literal["hausse", "baisse", "sans_objet"]
    maille: Maille
    formule: Texte
    sources: tuple[str, ...] = Field(min_length=1)
    frequence: Literal["mensuelle", "trimestrielle", "semestrielle", "annuelle", "pluriannuelle", "evenementielle", "irreguliere"]
    contrefactuel: Contrefactuel
    agregation: Literal["somme", "ratio_num_den", "moyenne_ponderee", "non_agregeable"]
    confiance_donnee: Literal["haute", "moyenne", "faible"]
    cible_publiee: Texte | None = None
    note: str
    calcul: Calcul | None
    motif_sans_valeur: Texte | None

    @model_validator(mode="after")
    def _honest(self) -> Indicateur:
        if self.calcul is None and self.motif_sans_valeur is None:
            raise ValueError("calcul est vide : écrire motif_sans_valeur (quelle source manque, interne ou ouverte)")
        if self.calcul is not None and self.motif_sans_valeur is not None:
            raise ValueError("un calcul est déclaré : motif_sans_valeur doit être null")
        if self.calcul is not None and AGREGATION_DU_CALCUL[self.calcul.type] != self.agregation:
            raise ValueError(
                f"un calcul « {self.calcul.type} » demande agregation: {AGREGATION_DU_CALCUL[self.calcul.type]} (R-AGR)"
            )
        if self.type == "impact" and not self.contrefactuel.pertinent:
            raise ValueError("type: impact suppose un contrefactuel pertinent ; sinon écrire type: resultat")
        if self.portee == "vie_quotidienne" and self.domaine is None:
            raise ValueError("portee: vie_quotidienne demande un domaine de la vie quotidienne")
        return self


class Partage(Strict):
    """A shared or barometer indicator that serves an intervention, and what it says there."""

    id: Id
    portee: Portee
    englobant: bool = Field(description="its level encloses the treated area: no causal status (R-ECO)")
    note: str = ""


class Intervention(Strict):
    intervention_id: Id
    intervention_nom: Texte
    forme: Forme
    section: Annotated[str, Field(pattern=r"^(I|II\.[abc]|III|IV|V)( et (I|II\.[abc]|III|IV|V))?$")]
    thematique: Texte
    politique_publique: Texte
    modalite: Texte
    promesse: Texte | None
    niveau_action: Niveau
    unite_traitement: Texte
    source_traitement: tuple[str, ...] = Field(min_length=1)
    listes: tuple[str, ...]
    motif_sans_liste: Texte | None
    note: str
    indicateurs: tuple[Indicateur, ...] = Field(min_length=1)
    indicateurs_partages: tuple[Partage, ...]

    @model_validator(mode="after")
    def _list_or_reason(self) -> Intervention:
        if not self.listes and self.motif_sans_liste is None:
            raise ValueError("listes est vide : écrire motif_sans_liste (pourquoi on ne sait pas qui est traité)")
        if self.listes and self.motif_sans_liste is not None:
            raise ValueError("une liste est en main : motif_sans_liste doit être null")
        return self


class Rupture(Strict):
    """Values of ``mesure`` before and from ``date_debut`` (first day of the new series) are never compared."""

    mesure: Id
    date_debut: dt.date
    motif: Texte
    preuve: Texte
    portee: Texte


class Membre(Strict):
    niveau: Literal["commune", "epci", "arrondissement", "departement"]
    code: str

    @model_validator(mode="after")
    def _code(self) -> Membre:
        if not re.match(CODES_MEMBRE[self.niveau], self.code):
            raise ValueError(f"« {self.code} » n'a pas la forme d'un code de niveau {self.niveau} (texte, zéro de tête compris)")
        return self


class Perimetre(Strict):
    """A named territory as dated memberships; ``date_debut`` is null when no source in hand gives it."""

    perimetre_code: Id
    perimetre_nom: Texte
    intervention_id: Id
    membres: tuple[Membre, ...] = Field(min_length=1)
    date_debut: dt.date | None
    precision_date: Literal["jour", "mois"] | None
    date_fin: dt.date | None
    citation: Texte

    @model_validator(mode="after")
    def _dates(self) -> Perimetre:
        if (self.date_debut is None) != (self.precision_date is None):
            raise ValueError("date_debut et precision_date vont ensemble : les deux, ou null pour les deux")
        if self.precision_date == "mois" and self.date_debut and self.date_debut.day != 1:
            raise ValueError("precision_date: mois demande le premier jour du mois")
        if self.date_debut and self.date_fin and self.date_fin < self.date_debut:
            raise ValueError("date_fin précède date_debut")
        return self


class Estimation(Strict):
    """One effect looked for, written before any result (R-INF): on whom, by which comparison, on which years."""

    estimation_id: Id
    intervention_id: Id
    indicateur_id: Id
    rang: Literal["primaire", "secondaire"]
    unite: Literal["commune", "epci", "zone_emploi", "departement"]
    methode: Literal["did_echelonne", "did_apparie", "sdid_permutation"]
    transformation: Literal["niveau", "log"]
    annees: tuple[int, ...]
    reference: int = Field(description="last year before any treatment: covariates and weights are taken then at the latest")
    horizon: int = Field(ge=0, description="years after the start over which the headline effect is averaged")
    anticipation: int = Field(ge=0, description="years before the start in which an effect is already possible")
    decalage: int = Field(ge=0, description="years between the date of the treatment and its first full year")
    part_traitee_min: float = Field(gt=0, le=1)
    population_min: int | None
    population_max: int | None
    covariables: tuple[Literal["log_population", "log_revenu", "log_prix", "aav_categorie"], ...]
    fixe_le: dt.date
    note: str

    @model_validator(mode="after")
    def _years(self) -> Estimation:
        if list(self.annees) != sorted(set(self.annees)):
            raise ValueError("annees : les écrire dans l'ordre, sans répétition")
        if not self.annees or not self.annees[0] <= self.reference <= self.annees[-1]:
            raise ValueError("reference : une année comprise entre la première et la dernière du panel")
        return self


class Ecarte(Strict):
    """Published files that stay outside, and why; ``fichiers`` is a path or a pattern below the mirror."""

    fichiers: Texte
    motif: Texte


@dataclass(frozen=True)
class Catalogue:
    """The five kinds of entries, as read; ``interventions`` maps the name of each file to what it holds."""

    interventions: Mapping[str, Intervention]
    communs: tuple[Indicateur, ...]
    ruptures: tuple[Rupture, ...]
    perimetres: tuple[Perimetre, ...]
    estimations: tuple[Estimation, ...]
    ecartes: tuple[Ecarte, ...] = ()


@dataclass(frozen=True)
class Declarations:
    """What the declared sources offer: their ids with the list each holds, the natures of each measure, their files."""

    listes: Mapping[str, Liste | None]
    mesures: Mapping[str, frozenset[str]]
    chemins: frozenset[str] = frozenset()

    @classmethod
    def of(cls, sources: Mapping[str, Source]) -> Declarations:
        natures: dict[str, set[str]] = {name: {"effectif"} for name in MESURES_CALCULEES}
        for source in sources.values():
            for name, nature in source.mesures.items():
                natures.setdefault(name, set()).add(nature)
        return cls(
            {name: source.meta.liste for name, source in sources.items()},
            {name: frozenset(kinds) for name, kinds in natures.items()},
            frozenset(item.chemin for source in sources.values() for item in source.meta.livraisons),
        )


# --- reading ---------------------------------------------------------------------------------------------------


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Safe YAML in which a key written twice is an error: the second would silently erase the first."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = Counter(key.value for key, _ in node.value)
        for key, times in keys.items():
            if times > 1:
                raise CatalogueError(f"ligne {node.start_mark.line + 1}, la clé « {key} » est écrite {times} fois : n'en garder qu'une")
        return super().construct_mapping(node, deep)


PLAIN = {
    "missing": "clé obligatoire absente : l'ajouter (null ou '' si elle est sans objet)",
    "string_type": "doit être un texte : le mettre entre guillemets",
    "string_too_short": "ne doit pas être vide",
    "too_short": "doit avoir au moins un élément",
    "bool_type": "doit être true ou false",
    "bool_parsing": "doit être true ou false",
    "tuple_type": "doit être une liste (un tiret par élément, [] si elle est vide)",
    "model_type": "doit être un bloc de clés",
    "model_attributes_type": "doit être un bloc de clés",
    "date_type": "doit être une date, écrite AAAA-MM-JJ",
    "date_parsing": "doit être une date, écrite AAAA-MM-JJ",
    "date_from_datetime_parsing": "doit être une date, écrite AAAA-MM-JJ",
    "float_type": "doit être un nombre",
    "float_parsing": "doit être un nombre",
}


def _explain(error: Any) -> str:
    kind, value = error["type"], error.get("input")
    if kind == "extra_forbidden":
        return "clé inconnue : corriger son orthographe ou la retirer"
    if kind == "literal_error":
        choices = error["ctx"]["expected"].replace(" or ", ", ")
        return f"« {value} » n'est pas admis : choisir parmi {choices}"
    if kind == "string_pattern_mismatch":
        return f"« {value} » n'a pas la forme attendue ({error['ctx']['pattern']})"
    if kind == "value_error":
        return str(error["ctx"]["error"])
    return PLAIN.get(kind, error["msg"])


def _place(document: Any, loc: tuple[int | str, ...]) -> str:
    """Where a fault is, by the ids of the entries around it rather than by their ranks."""
    parts, node = [], document
    for step in loc:
        try:
            node = node[step]
        except (KeyError, IndexError, TypeError):
            node = None
        if isinstance(step, int):
            keys = ("estimation_id", "indicateur_id", "id", "perimetre_code", "mesure", "fichiers")
            name = next((node[k] for k in keys if isinstance(node, dict) and k in node), f"n° {step + 1}")
            parts.append(str(name))
        else:
            parts.append(step)
    return ", ".join(parts)


def _read(path: Path, model: Any) -> Any:
    try:
        document = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except FileNotFoundError as error:
        raise CatalogueError(f"{path.name} : fichier absent de {path.parent} ; le rétablir") from error
    except UnicodeDecodeError as error:
        raise CatalogueError(f"{path.name} : n'est pas en UTF-8 (octet {error.start}) ; le réenregistrer") from error
    except yaml.YAMLError as error:
        raise CatalogueError(f"{path.name} : YAML illisible ({error}) ; corriger l'indentation ou les guillemets") from error
    except CatalogueError as error:
        raise CatalogueError(f"{path.name} : {error}") from error
    try:
        return TypeAdapter(model).validate_python(document)
    except ValidationError as error:
        faults = []
        for fault in error.errors():
            place = _place(document, fault["loc"])
            faults.append(f"{path.name}{', ' if place else ''}{place} : {_explain(fault)}")
        raise CatalogueError("\n".join(faults)) from error


def load_catalogue(folder: Path = CATALOGUE) -> Catalogue:
    """The catalogue under ``folder``: ``interventions/*.yml``, shared indicators, breaks, perimeters and files left out.

    Raises CatalogueError with every malformed entry of every file, one per line.
    """
    faults: list[str] = []

    def read(path: Path, model: Any, empty: Any) -> Any:
        try:
            return _read(path, model)
        except CatalogueError as error:
            faults.append(str(error))
            return empty

    files = sorted((folder / "interventions").glob("*.yml"))
    if not files:
        faults.append(f"aucun fichier d'intervention sous {folder / 'interventions'} ; rétablir le catalogue")
    catalogue = Catalogue(
        {path.name: read(path, Intervention, None) for path in files},
        read(folder / "indicateurs_communs.yml", tuple[Indicateur, ...], ()),
        read(folder / "ruptures.yml", tuple[Rupture, ...], ()),
        read(folder / "perimetres.yml", tuple[Perimetre, ...], ()),
        read(folder / "estimations.yml", tuple[Estimation, ...], ()),
        read(folder / "fichiers_ecartes.yml", tuple[Ecarte, ...], ()),
    )
    if faults:
        raise CatalogueError("\n".join(faults))
    return catalogue


# --- the gate --------------------------------------------------------------------------------------------------


def _check_ids(catalogue: Catalogue) -> Iterator[str]:
    seen: dict[str, str] = {}
    entries = [(file, i) for file, item in catalogue.interventions.items() for i in item.indicateurs]
    for file, indicateur in [*entries, *(("indicateurs_communs.yml", i) for i in catalogue.communs)]:
        name = indicateur.indicateur_id
        if name in seen:
            yield f"{file}, {name} : identifiant déjà pris dans {seen[name]} ; en choisir un autre, unique dans tout le catalogue"
        if name in BAROMETRES:
            yield f"{file}, {name} : identifiant d'un baromètre ; le citer dans indicateurs_partages au lieu de le redéfinir"
        seen.setdefault(name, file)
    for code, times in Counter(p.perimetre_code for p in catalogue.perimetres).items():
        if times > 1:
            yield f"perimetres.yml, {code} : code écrit {times} fois ; réunir les membres sous un seul périmètre"
    for (mesure, debut), times in Counter((r.mesure, r.date_debut) for r in catalogue.ruptures).items():
        if times > 1:
            yield f"ruptures.yml, {mesure} : rupture du {debut} écrite {times} fois ; n'en garder qu'une"


def _check_links(catalogue: Catalogue) -> Iterator[str]:
    """Both halves of the promise for every intervention, references that resolve, enclosing territories labelled."""
    communs = {i.indicateur_id: i for i in catalogue.communs}
    used: set[str] = set()
    for file, item in catalogue.interventions.items():
        if file != f"{item.intervention_id}.yml":
            yield f"{file} : contient {item.intervention_id} ; nommer le fichier {item.intervention_id}.yml"
        portees = {i.portee for i in item.indicateurs} | {p.portee for p in item.indicateurs_partages}
        if "politique_publique" not in portees:
            yield f"{file} : aucun indicateur sur la politique publique ; en ajouter un (moyens, déploiement, pilotage)"
        if "vie_quotidienne" not in portees:
            yield f"{file} : aucun indicateur sur la vie quotidienne ; en ajouter un (ce qui change pour les habitants)"
        # A perimeter is no wider than its smallest members; without known members, take those of EPCI.
        members = [m.niveau for p in catalogue.perimetres if p.intervention_id == item.intervention_id for m in p.membres]
        rang = RANG.get(item.niveau_action, min((RANG[m] for m in members), default=RANG["epci"]))
        for name, times in Counter(p.id for p in item.indicateurs_partages).items():
            if times > 1:
                yield f"{file}, indicateurs_partages, {name} : cité {times} fois ; n'en garder qu'un"
        for partage in item.indicateurs_partages:
            used.add(partage.id)
            where = f"{file}, indicateurs_partages, {partage.id}"
            if partage.id in communs:
                commun = communs[partage.id]
                maille, domaine = commun.maille, commun.domaine
                if partage.portee == "vie_quotidienne" and domaine is None:
                    yield f"{where} : portee: vie_quotidienne pour un indicateur sans domaine ; lui en donner un"
            elif partage.id in BAROMETRES:
                maille = "departement"
            else:
                yield f"{where} : indicateur inconnu ; le définir dans indicateurs_communs.yml ou corriger l'identifiant"
                continue
            larger = RANG.get(maille, 0) > rang
            if larger and not partage.englobant:
                yield f"{where} : sa maille ({maille}) dépasse le territoire d'action ; écrire englobant: true (règle R-ECO)"
            if partage.englobant and not larger:
                yield f"{where} : sa maille ({maille}) ne dépasse pas le territoire d'action ; écrire englobant: false"
    for name in communs.keys() - used:
        yield f"indicateurs_communs.yml, {name} : aucune intervention ne le cite ; le citer ou le retirer"


def _check_measures(catalogue: Catalogue, declared: Declarations) -> Iterator[str]:
    by_id = {item.intervention_id: item for item in catalogue.interventions.values()}
    origins = ORIGINES | declared.listes.keys()
    entries = [(file, i) for file, item in catalogue.interventions.items() for i in item.indicateurs]
    for file, indicateur in [*entries, *(("indicateurs_communs.yml", i) for i in catalogue.communs)]:
        where = f"{file}, {indicateur.indicateur_id}"
        for key in indicateur.sources:
            if key not in origins:
                yield f"{where} : source « {key} » inconnue ; prendre une clé d'ORIGINES (catalogue_schema.py) ou une source déclarée"
        calcul = indicateur.calcul
        for mesure in calcul.mesures if calcul else ():
            natures = declared.mesures.get(mesure)
            if famille_de(mesure) or "__" in mesure:
                yield from (f"{where} : {fault}" for fault in _internal_faults(mesure, indicateur, by_id.keys()))
            elif mesure.startswith(PROGRAMME):
                item = by_id.get(mesure.removeprefix(PROGRAMME))
                yield from (f"{where} : {fault}" for fault in _programme_faults(mesure, item, declared))
            elif natures is None:
                yield f"{where} : la mesure « {mesure} » n'est déclarée par aucune source ; la déclarer ou corriger le calcul"
            elif calcul and not natures <= SOMMABLES and (calcul.type in ("somme", "ratio") or mesure == calcul.poids):
                kinds = ", ".join(sorted(natures))
                yield f"{where} : « {mesure} » ({kinds}) ne s'additionne pas ; prendre un calcul de type valeur (R-AGR)"
    for rupture in catalogue.ruptures:
        if rupture.mesure not in declared.mesures and rupture.mesure not in BAROMETRES:
            yield f"ruptures.yml, {rupture.mesure} : mesure inconnue des sources déclarées ; corriger son identifiant"


def _internal_faults(mesure: str, indicateur: Indicateur, interventions: Collection[str]) -> Iterator[str]:
    """What is wrong with a measure of an internal family, within the calculation that cites it."""
    name, joint, objet = mesure.partition("__")
    famille, calcul = famille_de(mesure), indicateur.calcul
    if famille is None:
        yield f"« {mesure} » : famille interne « {name} » inconnue ; prendre une de familles_internes (dbt_project/dbt_project.yml)"
        return
    if famille.objet is None:
        if joint:
            yield f"« {mesure} » : la famille {name} n'a pas d'objet ; écrire {name}"
    elif not objet:
        yield f"« {mesure} » : la famille {name} veut un objet ; écrire {name}__ suivi de son identifiant ({famille.objet})"
    elif famille.objet == "intervention" and objet not in interventions:
        yield f"« {mesure} » : l'intervention {objet} n'est pas au catalogue ; corriger son identifiant"
    elif famille.objet == "indicateur" and objet != indicateur.indicateur_id:
        yield f"« {mesure} » : un indicateur n'est remonté que pour lui-même ; écrire {name}__{indicateur.indicateur_id}"
    elif famille.objet == "operateur" and objet not in operateurs():
        yield f"« {mesure} » : l'opérateur {objet} n'est pas du premier cercle ; choisir parmi {', '.join(sorted(operateurs()))}"
    if calcul is None or name in RAPPORTEES:
        return
    summed = calcul.type in ("somme", "ratio") or mesure == calcul.poids
    if summed and famille.nature not in SOMMABLES_INTERNES:
        yield f"« {mesure} » ({famille.nature}) ne s'additionne pas ; prendre un calcul de type valeur (R-AGR)"
    if calcul.type == "valeur" and famille.nature in SOMMABLES_INTERNES:
        yield f"« {mesure} » ({famille.nature}) s'additionne ; prendre un calcul de type somme (R-AGR)"


def _programme_faults(mesure: str, item: Intervention | None, declared: Declarations) -> Iterator[str]:
    if item is None or not item.listes:
        yield f"« {mesure} » ne désigne pas une intervention dont une liste est en main ; corriger le nom ou déclarer la liste"
        return
    rules = [declared.listes.get(name) for name in item.listes]
    if len(item.listes) > 1:
        yield f"« {mesure} » compterait deux fois les communes présentes dans plusieurs listes ; n'en garder qu'une"
    if any(rule and rule.niveau not in ("commune", "code") for rule in rules):
        yield f"« {mesure} » compte des communes, et la liste n'est pas à la commune ; retirer ce calcul"


def _check_lists(catalogue: Catalogue, declared: Declarations) -> Iterator[str]:
    by_id = {item.intervention_id: (file, item) for file, item in catalogue.interventions.items()}
    origins = ORIGINES | declared.listes.keys()
    with_perimeter = {p.intervention_id for p in catalogue.perimetres}
    for file, item in catalogue.interventions.items():
        for key in item.source_traitement:
            if key not in origins:
                yield f"{file}, source_traitement : « {key} » inconnue ; prendre une clé d'ORIGINES (catalogue_schema.py)"
        for name in item.listes:
            if name not in declared.listes:
                yield f"{file}, listes : la source {name} n'est pas déclarée ; la déclarer ou la retirer"
            elif (rule := declared.listes[name]) and item.intervention_id not in rule.toutes:
                yield f"{file}, listes : {name} ne cite pas cette intervention ; l'ajouter à sa clé liste, ou retirer la source d'ici"
        if (PERIMETRES in item.listes) != (item.intervention_id in with_perimeter):
            yield f"{file}, listes : {PERIMETRES} y figure si, et seulement si, perimetres.yml porte un périmètre de l'intervention"
    for name, rule in declared.listes.items():
        for intervention in rule.toutes if rule else ():
            if intervention not in by_id:
                yield f"source {name}, liste : l'intervention {intervention} n'est pas au catalogue ; corriger son identifiant"
            elif name not in by_id[intervention][1].listes:
                yield f"{by_id[intervention][0]}, listes : y ajouter {name}, dont la liste cite cette intervention"
    for perimetre in catalogue.perimetres:
        if perimetre.intervention_id not in by_id:
            yield f"perimetres.yml, {perimetre.perimetre_code} : l'intervention {perimetre.intervention_id} n'est pas au catalogue"


def _check_estimations(catalogue: Catalogue) -> Iterator[str]:
    """One primary effect per intervention, and each on an indicator of its own whose declaration allows a causal claim."""
    for name, times in Counter(e.estimation_id for e in catalogue.estimations).items():
        if times > 1:
            yield f"estimations.yml, {name} : identifiant écrit {times} fois ; en choisir un autre"
    for name, times in Counter(e.intervention_id for e in catalogue.estimations if e.rang == "primaire").items():
        if times > 1:
            yield f"estimations.yml, {name} : {times} effets primaires ; n'en garder qu'un, les autres sont secondaires (R-INF)"
    by_id = {item.intervention_id: item for item in catalogue.interventions.values()}
    shared = {i.indicateur_id for i in catalogue.communs} | BAROMETRES
    for estimation in catalogue.estimations:
        where = f"estimations.yml, {estimation.estimation_id}"
        item = by_id.get(estimation.intervention_id)
        if item is None:
            yield f"{where} : l'intervention {estimation.intervention_id} n'est pas au catalogue ; corriger son identifiant"
            continue
        linked = {i.indicateur_id for i in item.indicateurs} | {p.id for p in item.indicateurs_partages if p.id in shared}
        if estimation.indicateur_id not in linked:
            yield f"{where} : {estimation.indicateur_id} n'est pas un indicateur de {item.intervention_id} ; l'y citer d'abord"


def sort_files(names: Iterable[str], catalogue: Catalogue, sources: Mapping[str, Source]) -> tuple[list[str], list[str]]:
    """Of the files of a mirror: those that no delivery declares and no reason leaves out, and reasons that no file needs."""
    declared = [item.chemin for source in sources.values() for item in source.meta.livraisons]
    outside = [n for n in names if not any(fnmatch.fnmatchcase(n, pattern) for pattern in declared)]
    reasons = [item.fichiers for item in catalogue.ecartes]
    silent = [n for n in outside if not any(fnmatch.fnmatchcase(n, pattern) for pattern in reasons)]
    idle = [pattern for pattern in reasons if not any(fnmatch.fnmatchcase(n, pattern) for n in outside)]
    return silent, idle


def _check_left_out(catalogue: Catalogue, declared: Declarations) -> Iterator[str]:
    for pattern, times in Counter(item.fichiers for item in catalogue.ecartes).items():
        if times > 1:
            yield f"fichiers_ecartes.yml, {pattern} : écrit {times} fois ; réunir les motifs"
        if pattern in declared.chemins:
            yield f"fichiers_ecartes.yml, {pattern} : c'est une livraison déclarée ; retirer ce motif, ou la livraison"


def check_catalogue(catalogue: Catalogue, declared: Declarations | None = None) -> list[str]:
    """Problems of the catalogue as a whole, in French; empty when it may be published.

    ``declared`` defaults to the declared sources, whose measures and lists the catalogue must agree with.
    """
    declared = declared or Declarations.of(load_sources())
    return [
        *_check_ids(catalogue),
        *_check_links(catalogue),
        *_check_measures(catalogue, declared),
        *_check_lists(catalogue, declared),
        *_check_estimations(catalogue),
        *_check_left_out(catalogue, declared),
    ]
