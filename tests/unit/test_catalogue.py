"""The catalogue: what is in it holds together and quotes the roadmap, and each fault is refused with its remedy."""

from __future__ import annotations

import csv
import gzip
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ingestion import catalogue_schema
from ingestion.catalogue_schema import (
    CATALOGUE,
    CatalogueError,
    Declarations,
    check_catalogue,
    load_catalogue,
    sort_files,
)
from ingestion.declarations import PROJECT, Liste, load_sources

SHARED = PROJECT.parent / "shared"
LISTES = [
    "anct__acv", "anct__pvd", "anct__france_services", "anct__territoires_industrie", "anct__territoires_industrie_2023",
    "anct__villages_avenir",
    "anct__cites_educatives", "anct__avenir_montagnes_ingenierie", "anct__avenir_montagnes_mobilites",
    "anct__fabriques_prospectives", "anct__fabriques_territoire", "anct__pao", "anct__territoires_engagement",
    "anct__conseillers_numeriques", "dgaln__ort", "cget__contrats_ruralite", "catalogue__perimetres", "anct__adultes_relais",
    "anct__postes_fonjep", "anct__contrats_ville", "anct__croisement", "anct__operateurs_thd", "cget__barometre_cohesion",
    "demonstration__resultats",
]  # fmt: skip
Edit = Callable[[str, str, str], Path]


def declared(**listes: Liste) -> Declarations:
    """The declared measures, and lists that bind nothing, so that a refusal has one cause only."""
    return Declarations({name: None for name in LISTES} | listes, Declarations.of(load_sources()).mesures)


@pytest.fixture
def edit(tmp_path: Path) -> Edit:
    """Replaces a text everywhere in one file of a copy of the catalogue, and returns the copy."""
    folder = tmp_path / "catalogue"
    shutil.copytree(CATALOGUE, folder)

    def replace(file: str, old: str, new: str) -> Path:
        path = folder / file
        text = path.read_text(encoding="utf-8")
        assert old in text, f"{file} ne contient plus {old!r} : le test ne provoquerait rien"
        path.write_text(text.replace(old, new), encoding="utf-8")
        return folder

    return replace


def only(problems: list[str], *fragments: str) -> None:
    """One problem, and it says where, what and how to repair it."""
    assert len(problems) == 1, problems
    for fragment in fragments:
        assert fragment in problems[0]


# --- what the catalogue holds ----------------------------------------------------------------------------------


def test_the_catalogue_agrees_with_itself_and_with_the_declared_sources() -> None:
    assert check_catalogue(load_catalogue()) == []
    assert check_catalogue(load_catalogue(), declared()) == []


def test_every_intervention_of_the_roadmap_is_there_with_both_halves_of_the_promise() -> None:
    interventions = load_catalogue().interventions.values()
    assert len(interventions) == 46
    assert len({i.intervention_id for i in interventions}) == 46
    for item in interventions:
        portees = {x.portee for x in (*item.indicateurs, *item.indicateurs_partages)}
        assert portees == {"politique_publique", "vie_quotidienne"}, item.intervention_id


def test_the_words_of_the_roadmap_are_verbatim() -> None:
    path = SHARED / "roadmap" / "feuille-de-route-anct-2020.txt"
    if not path.exists():
        pytest.skip(f"feuille de route absente ({path}) : ses mots ne sont pas vérifiés")

    def flat(text: str) -> str:
        return re.sub(r"\s+", " ", text)

    roadmap = flat(path.read_text(encoding="utf-8"))
    quotes = 0
    for item in load_catalogue().interventions.values():
        for words in (item.thematique, item.politique_publique, item.modalite):
            assert flat(words) in roadmap, f"{item.intervention_id} : {words}"
        for quote in re.findall(r"« (.*?) »", item.promesse or ""):
            quotes += 1
            assert flat(quote) in roadmap, f"{item.intervention_id} : {quote}"
    assert quotes > 20


def test_barometer_ids_are_those_of_the_producers_metadata() -> None:
    folder = SHARED / "opendata"
    if not folder.exists():
        pytest.skip(f"données ouvertes absentes ({folder}) : identifiants des baromètres non vérifiés")
    with (folder / "ditp_barometre_2022_2024/metadata/meta_indicateurs.csv").open(encoding="utf-8") as stream:
        ditp = {"ditp_" + row["indic_id"].lower().replace("-", "_") for row in csv.DictReader(stream)}
    assert ditp == catalogue_schema.BAROMETRE_2022_2024
    with (folder / "etalab_barometre_2017_2022/barometre-resultats-detail-national.csv").open(encoding="utf-8") as stream:
        etalab = {"etalab_" + row["id_indicateur"].replace("-", "_") for row in csv.DictReader(stream)}
    assert etalab == catalogue_schema.BAROMETRE_2017_2022


def test_perimeters_name_arrondissements_that_exist() -> None:
    path = SHARED / "opendata/insee_cog/derive_csv/table_passage_communes_zonages.csv.gz"
    if not path.exists():
        pytest.skip(f"table des zonages absente ({path}) : codes d'arrondissement non vérifiés")
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        names = {row["ARR"]: row["LIB_ARR"] for row in csv.DictReader(stream)}
    members = [m.code for p in load_catalogue().perimetres for m in p.membres if m.niveau == "arrondissement"]
    assert {names.get(code) for code in members} == {"Avesnes-sur-Helpe", "Vervins"}


def test_the_declared_sources_read_the_keys_that_the_files_write() -> None:
    """A key that the reader does not look for is lost in silence: the label « territoire englobant » would be."""
    keys = {
        "catalogue__interventions": set(catalogue_schema.Intervention.model_fields),
        "catalogue__indicateurs": set(catalogue_schema.Indicateur.model_fields),
        "catalogue__indicateurs_communs": set(catalogue_schema.Indicateur.model_fields),
        "catalogue__indicateurs_partages": set(catalogue_schema.Partage.model_fields),
        "catalogue__perimetres": {*catalogue_schema.Perimetre.model_fields, *catalogue_schema.Membre.model_fields},
        "catalogue__ruptures": set(catalogue_schema.Rupture.model_fields),
    }
    sources = load_sources()
    lost = [
        f"{name}.{column.name} lit {', '.join(column.meta.origines)}"
        for name, known in keys.items()
        for column in sources[name].columns
        if not {origin.lstrip("^").split(".")[0] for origin in column.meta.origines} & {*known, "intervention_id"}
    ]
    assert lost == []


def test_every_internal_indicator_has_a_calculation_fed_by_records() -> None:
    """Only an indicator whose open source is not loaded may be empty; those of the registers never are."""
    for item in load_catalogue().interventions.values():
        for indicateur in item.indicateurs:
            fed = bool(indicateur.calcul and catalogue_schema.famille_de(indicateur.calcul.numerateur))
            if any(source.startswith("int_") for source in indicateur.sources):
                assert fed, indicateur.indicateur_id
            if fed:
                assert set(indicateur.calcul.niveaux) <= set(catalogue_schema.NIVEAUX_INTERNES), indicateur.indicateur_id


def test_the_target_of_the_roadmap_can_be_read_as_a_number() -> None:
    sur_mesure = load_catalogue().interventions["sur_mesure.yml"]
    target = next(i.cible_publiee for i in sur_mesure.indicateurs if i.indicateur_id == "sm_part_reponse_locale")
    assert float(target.split(" %")[0]) == 90


def test_every_family_of_internal_measures_is_computed_and_adds_up_as_declared() -> None:
    import yaml

    declared = yaml.safe_load((PROJECT / "dbt_project" / "dbt_project.yml").read_text(encoding="utf-8"))["vars"]
    families = catalogue_schema.familles_internes()
    models = PROJECT / "dbt_project" / "models"
    sql = "".join(path.read_text(encoding="utf-8") for path in [
        models / "indicateurs/int_fait_interne.sql", models / "indicateurs/mes_interne.sql", models / "sur_mesure/int_duree.sql",
    ])  # fmt: skip
    assert [name for name in families if not re.search(rf"'{name}(__)?'", sql)] == []
    for name, somme in declared["sommes_internes"].items():
        for mesure in (somme["total"], *somme["parties"]):
            assert families[mesure].nature in catalogue_schema.SOMMABLES_INTERNES, (name, mesure)
    for mesure, effectif in declared["effectifs_internes"].items():
        assert families[mesure].nature in ("mediane", "moyenne"), mesure
        assert families[effectif].nature == "effectif", effectif
        assert families[effectif].objet == families[mesure].objet, mesure


def test_the_registers_have_the_keys_that_their_layouts_declare() -> None:
    macro = (PROJECT / "dbt_project" / "macros" / "interne.sql").read_text(encoding="utf-8")
    written = {
        name: tuple(re.findall(r"'(\w+)'", columns))
        for name, columns in re.findall(r"^    '(\w+)': \[(.*)\],$", macro, flags=re.MULTILINE)
    }
    declared = {
        source.nom: tuple(name for name in source.meta.cle if name != "_millesime")
        for source in load_sources().values()
        if source.groupe == "interne"
    }
    assert written == declared


# --- what the loader refuses -----------------------------------------------------------------------------------

FS, ACV = "interventions/france_services.yml", "interventions/action_coeur_de_ville.yml"
SM = "interventions/sur_mesure.yml"
MALFORMED = {
    "clé inconnue": (FS, "niveau_action:", "niveau_daction:", ["france_services.yml, niveau_daction", "clé inconnue"]),
    "clé absente": (FS, "forme: programme\n", "", ["france_services.yml, forme", "clé obligatoire absente"]),
    "clé d'un indicateur": (
        ACV, "formule: médiane annuelle", "calculé: médiane annuelle",
        ["action_coeur_de_ville.yml, indicateurs, acv_prix_m2, calculé : clé inconnue"],
    ),
    "valeur hors liste": (FS, "type: impact", "type: effet", ["fs_recours_caf, type", "« effet »", "'impact'"]),
    "calcul vide sans motif": (
        FS, re.search(r"    motif_sans_valeur: >-\n(?:      .*\n)+", (CATALOGUE / FS).read_text(encoding="utf-8")).group(0),
        "    motif_sans_valeur: null\n", ["france_services.yml, indicateurs, fs_population_20min", "motif_sans_valeur"],
    ),
    "calcul et motif": (
        "indicateurs_communs.yml", "numerateur: population_municipale\n  motif_sans_valeur: null",
        "numerateur: population_municipale\n  motif_sans_valeur: attend", ["population_municipale", "doit être null"],
    ),
    "liste vide sans motif": (FS, "listes: [anct__france_services]", "listes: []", ["france_services.yml", "motif_sans_liste"]),
    "agrégation contraire au calcul": (
        "indicateurs_communs.yml", "agregation: ratio_num_den", "agregation: somme", ["lovac_taux_vacance", "R-AGR"],
    ),
    "ratio sans dénominateur": (
        "indicateurs_communs.yml", "    denominateur: lovac_logements\n", "", ["lovac_taux_vacance, calcul", "denominateur"],
    ),
    "impact sans contrefactuel": (
        "indicateurs_communs.yml", "methode: did_echelonne", "methode: aucune", ["revenu_median, contrefactuel", "pertinent"],
    ),
    "vie quotidienne sans domaine": (
        "indicateurs_communs.yml", "domaine: cadre_de_vie", "domaine: null", ["population_municipale", "demande un domaine"],
    ),
    "code sans zéro de tête": ("perimetres.yml", "code: '08'", "code: '8'", ["pacte_ardennes, membres", "« 8 »"]),
    "code lu comme un nombre": ("perimetres.yml", "code: '23'", "code: 23", ["plan_creuse", "entre guillemets"]),
    "date sans précision": ("perimetres.yml", "precision_date: jour", "precision_date: null", ["pacte_ardennes", "vont ensemble"]),
    "fichier écarté sans motif": ("fichiers_ecartes.yml", "  motif: Texte de la licence.\n", "  motif: ''\n", ["LICENCE.md", "ne doit pas être vide"]),
    "rupture sans date": ("ruptures.yml", "date_debut: 2019-01-01", "date_debut: janvier", ["dvf_mutations", "AAAA-MM-JJ"]),
    "clé écrite deux fois": (FS, "forme: programme\n", "forme: programme\nforme: projet\n", ["france_services.yml", "2 fois"]),
    "relevés internes sans niveaux": (
        SM, "      denominateur: demandes_closes\n      facteur: 100\n      niveaux: [departement, region, national]\n",
        "      denominateur: demandes_closes\n      facteur: 100\n", ["sm_part_reponse_locale, calcul", "demandes_reponse_locale", "écrire niveaux"],
    ),
    "relevés internes à la commune": (
        SM, "      numerateur: delai_interlocuteur\n      niveaux: [departement, region, national]",
        "      numerateur: delai_interlocuteur\n      niveaux: [commune, departement]", ["sm_delai_interlocuteur", "rien de plus fin n'est publié"],
    ),
    "registre dit exhaustif": (
        "interventions/stages_3e.yml", "      numerateur: action_quantite__st3_offres_deposees\n",
        "      numerateur: action_quantite__st3_offres_deposees\n      exhaustif: true\n", ["st3_offres_deposees", "retirer exhaustif"],
    ),
    "YAML illisible": (FS, "forme: programme\n", "forme: [programme\n", ["france_services.yml : YAML illisible"]),
}  # fmt: skip


@pytest.mark.parametrize(("file", "old", "new", "fragments"), MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_entry_is_refused(edit: Edit, file: str, old: str, new: str, fragments: list[str]) -> None:
    folder = edit(file, old, new)
    with pytest.raises(CatalogueError) as refusal:
        load_catalogue(folder)
    for fragment in fragments:
        assert fragment in str(refusal.value)


def test_an_impact_needs_a_counterfactual(edit: Edit) -> None:
    edit(FS, "methode: did_echelonne", "methode: aucune")
    folder = edit(FS, "pertinent: true", "pertinent: false")
    with pytest.raises(CatalogueError, match="fs_recours_caf : type: impact suppose un contrefactuel"):
        load_catalogue(folder)


def test_all_malformed_files_are_reported_at_once(edit: Edit) -> None:
    edit(FS, "forme: programme", "forme: dispositif")
    folder = edit("perimetres.yml", "code: '08'", "code: '8'")
    with pytest.raises(CatalogueError) as refusal:
        load_catalogue(folder)
    assert "france_services.yml" in str(refusal.value)
    assert "perimetres.yml" in str(refusal.value)


def test_a_missing_file_and_an_empty_folder_are_refused(edit: Edit, tmp_path: Path) -> None:
    folder = edit(FS, "forme: programme", "forme: programme")
    (folder / "ruptures.yml").unlink()
    with pytest.raises(CatalogueError, match=r"ruptures\.yml : fichier absent"):
        load_catalogue(folder)
    with pytest.raises(CatalogueError, match="aucun fichier d'intervention"):
        load_catalogue(tmp_path / "vide")


# --- what the gate refuses -------------------------------------------------------------------------------------

STAGES, LIEUX = "interventions/stages_3e.yml", "interventions/nouveaux_lieux.yml"
INCOHERENT = {
    "aucun indicateur de politique publique": (
        STAGES, "portee: politique_publique", "portee: vie_quotidienne", ["stages_3e.yml", "politique publique", "en ajouter un"],
    ),
    "aucun indicateur de vie quotidienne": (
        STAGES, "portee: vie_quotidienne", "portee: politique_publique", ["stages_3e.yml", "vie quotidienne", "en ajouter un"],
    ),
    "identifiant en double": (
        "interventions/vie_associative.yml", "indicateur_id: va_creations_1000", "indicateur_id: pre_enfants_suivis",
        ["vie_associative.yml, pre_enfants_suivis", "déjà pris dans reussite_educative.yml"],
    ),
    "identifiant d'un baromètre": (
        "interventions/vie_associative.yml", "indicateur_id: va_creations_1000", "indicateur_id: ditp_ind_313",
        ["ditp_ind_313", "indicateurs_partages"],
    ),
    "indicateur partagé inconnu": (FS, "id: fs_sites", "id: fs_site", ["france_services.yml", "fs_site : indicateur inconnu"]),
    "indicateur de baromètre inconnu": (FS, "id: ditp_ind_246", "id: ditp_ind_999", ["ditp_ind_999 : indicateur inconnu"]),
    "indicateur partagé deux fois": (FS, "id: ditp_ind_246", "id: ditp_ind_323", ["ditp_ind_323 : cité 2 fois"]),
    "mesure inconnue": (
        "indicateurs_communs.yml", "numerateur: cnfs_postes", "numerateur: cnfs_poste",
        ["indicateurs_communs.yml, cnfs_postes", "« cnfs_poste » n'est déclarée par aucune source"],
    ),
    "somme d'une médiane": (
        "indicateurs_communs.yml", "numerateur: lovac_vacants\n", "numerateur: revenu_median\n", ["lovac_taux_vacance", "ne s'additionne pas"],
    ),
    "famille interne inconnue": (
        SM, "numerateur: demandes_reponse_locale", "numerateur: reponses__locales", ["sm_part_reponse_locale", "famille interne « reponses »"],
    ),
    "famille interne sans son objet": (
        LIEUX, "numerateur: conventions_actives__nouveaux_lieux", "numerateur: conventions_actives",
        ["nl_fabriques", "écrire conventions_actives__", "(intervention)"],
    ),
    "famille interne qui n'a pas d'objet": (
        SM, "numerateur: delai_interlocuteur", "numerateur: delai_interlocuteur__sur_mesure", ["n'a pas d'objet", "écrire delai_interlocuteur"],
    ),
    "relevés d'une intervention inconnue": (
        LIEUX, "numerateur: conventions_actives__nouveaux_lieux", "numerateur: conventions_actives__nouveau_lieu",
        ["l'intervention nouveau_lieu n'est pas au catalogue"],
    ),
    "indicateur remonté pour un autre": (
        STAGES, "numerateur: action_quantite__st3_offres_deposees", "numerateur: action_quantite__pre_enfants_suivis",
        ["st3_offres_deposees", "écrire action_quantite__st3_offres_deposees"],
    ),
    "opérateur hors du premier cercle": (
        "interventions/op_bdt.yml", "numerateur: operateur_acceptees__bdt", "numerateur: operateur_acceptees__cdc",
        ["op_bdt_demandes_activees", "cdc n'est pas du premier cercle", "ademe, anah, anru, bdt, cerema"],
    ),
    "somme de délais": (
        LIEUX, "numerateur: conventions_actives__nouveaux_lieux", "numerateur: operateur_delai__bdt", ["nl_fabriques", "ne s'additionne pas"],
    ),
    "effectif montré sans être additionné": (
        SM, "numerateur: delai_interlocuteur", "numerateur: demandes", ["sm_delai_interlocuteur", "calcul de type somme"],
    ),
    "programme sans liste": (
        ACV, "numerateur: programme_action_coeur_de_ville", "numerateur: programme_stages_3e",
        ["acv_communes", "dont une liste est en main"],
    ),
    "programme compté dans deux listes": (
        ACV, "listes: [anct__acv]", "listes: [anct__acv, anct__pvd]", ["acv_communes", "compterait deux fois"],
    ),
    "liste non déclarée": (FS, "listes: [anct__france_services]", "listes: [anct__fs]", ["france_services.yml, listes", "anct__fs"]),
    "source inconnue": (FS, "sources: [caf, rp]", "sources: [caff, rp]", ["fs_recours_caf", "« caff » inconnue"]),
    "source du traitement inconnue": (FS, "source_traitement: [fs_liste]", "source_traitement: [fs]", ["source_traitement", "« fs »"]),
    "territoire englobant tu": (
        FS, "id: ditp_ind_323\n    portee: vie_quotidienne\n    englobant: true",
        "id: ditp_ind_323\n    portee: vie_quotidienne\n    englobant: false", ["ditp_ind_323", "englobant: true", "R-ECO"],
    ),
    "territoire d'action dit englobant": (
        FS, "id: fs_sites\n    portee: politique_publique\n    englobant: false",
        "id: fs_sites\n    portee: politique_publique\n    englobant: true", ["fs_sites", "écrire englobant: false"],
    ),
    "rupture d'une mesure inconnue": ("ruptures.yml", "mesure: dvf_mutations", "mesure: dvf_ventes", ["ruptures.yml, dvf_ventes"]),
    "rupture en double": ("ruptures.yml", "date_debut: 2023-01-01", "date_debut: 2025-01-01", ["lovac_vacants", "2 fois"]),
    "périmètre sans liste": (
        "interventions/pacte_nievre.yml", "listes: [catalogue__perimetres]", "listes: [dgaln__ort]",
        ["pacte_nievre.yml, listes", "perimetres.yml"],
    ),
    "fichier écarté deux fois": (
        "fichiers_ecartes.yml", "fichiers: insee_cog/region2021.csv", "fichiers: insee_cog/departement2021.csv", ["departement2021.csv", "2 fois"],
    ),
    "nom de fichier": (
        "interventions/ess.yml", "intervention_id: ess\n", "intervention_id: ess2\n", ["ess.yml", "nommer le fichier ess2.yml"],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("file", "old", "new", "fragments"), INCOHERENT.values(), ids=INCOHERENT)
def test_an_incoherence_is_refused(edit: Edit, file: str, old: str, new: str, fragments: list[str]) -> None:
    only(check_catalogue(load_catalogue(edit(file, old, new)), declared()), *fragments)


def test_a_perimeter_of_an_unknown_intervention_is_refused(edit: Edit) -> None:
    folder = edit("perimetres.yml", "intervention_id: pacte_nievre", "intervention_id: pacte_nivernais")
    problems = check_catalogue(load_catalogue(folder), declared())
    assert any("perimetres.yml, pacte_nievre : l'intervention pacte_nivernais" in p for p in problems), problems


def test_an_unused_shared_indicator_is_refused(edit: Edit) -> None:
    folder = edit(FS, "id: fs_antennes", "id: etalab_tx_satisfaction_usagers_services_publics")
    problems = check_catalogue(load_catalogue(folder), declared())
    assert any("fs_antennes : aucune intervention ne le cite" in p for p in problems), problems


def test_a_perimeter_of_departements_makes_the_departement_the_treated_area(edit: Edit) -> None:
    """The Ardennes pact is the whole département; Sambre-Avesnois-Thiérache is two arrondissements inside two of them."""
    englobants = {
        name: {p.id: p.englobant for p in load_catalogue().interventions[f"{name}.yml"].indicateurs_partages}
        for name in ("pacte_ardennes", "pacte_sambre_avesnois")
    }
    assert englobants["pacte_ardennes"]["taux_chomage"] is False
    assert englobants["pacte_sambre_avesnois"]["taux_chomage"] is True
    folder = edit("perimetres.yml", "niveau: departement\n      code: '08'", "niveau: arrondissement\n      code: '081'")
    problems = check_catalogue(load_catalogue(folder), declared())
    assert problems
    assert all("pacte_ardennes.yml" in p and "R-ECO" in p for p in problems)


def test_lists_and_catalogue_must_name_each_other() -> None:
    catalogue = load_catalogue()
    agreed = Liste(interventions=("action_coeur_de_ville",), niveau="commune", code="commune_code")
    assert check_catalogue(catalogue, declared(anct__acv=agreed)) == []
    other = Liste(interventions=("petites_villes_de_demain",), niveau="commune", code="commune_code")
    problems = check_catalogue(catalogue, declared(anct__acv=other))
    assert any("action_coeur_de_ville.yml, listes : anct__acv ne cite pas" in p for p in problems), problems
    assert any("petites_villes_de_demain.yml, listes : y ajouter anct__acv" in p for p in problems), problems
    unknown = Liste(interventions=("action_coeur_de_ville", "acv"), niveau="commune", code="commune_code")
    only(check_catalogue(catalogue, declared(anct__acv=unknown)), "source anct__acv", "acv n'est pas au catalogue")


def test_a_declared_delivery_is_not_left_out(edit: Edit) -> None:
    folder = edit("fichiers_ecartes.yml", "fichiers: insee_cog/region2021.csv", "fichiers: dgfip_tlv/taxe.csv")
    only(check_catalogue(load_catalogue(folder)), "fichiers_ecartes.yml, dgfip_tlv/taxe.csv", "livraison déclarée")


def test_a_file_that_nobody_declares_nor_leaves_out_is_named() -> None:
    catalogue, sources = load_catalogue(), load_sources()
    silent, idle = sort_files(["dgfip_tlv/taxe.csv", "insee_cog/region2021.csv", "nouveau/fichier.csv"], catalogue, sources)
    assert silent == ["nouveau/fichier.csv"]
    assert "contours/*" in idle and "insee_cog/region2021.csv" not in idle


def test_communes_are_not_counted_from_a_list_of_epci() -> None:
    epci = Liste(interventions=("action_coeur_de_ville",), niveau="epci", code="epci_code")
    only(check_catalogue(load_catalogue(), declared(anct__acv=epci)), "acv_communes", "la liste n'est pas à la commune")
