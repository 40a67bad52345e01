"""The door's judgement: each rule with what breaks it, what it says, and what is left of a row that breaks it."""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl
import pytest

from ingestion.paths import Home
from ingestion.records import known, personal
from ingestion.records.check import NON_CONSERVE, Known, check
from ingestion.records.layout import kinds
from tests.records_samples import conventions, frame, judged, row, rules

CLE = b"une cle d'essai de plus de seize octets"
EMAIL, TELEPHONE, NIR, NOM = "jeanne.durand@example.org", "06 39 98 12 34", "2 85 05 78 006 084 36", "Jeanne Durand"


def one(kind: str, known: Known | None = None, **changed: str | None) -> list[tuple[str | None, str, str, str]]:
    """(column, rule, reason, remedy) of the anomalies of one row, beside the rows that it refers to."""
    tables = {name: [row(name)] for name in ("convention", "action", "demande_ingenierie")}
    tables[kind] = [row(kind, **changed)]
    return judged(known, **tables)[kind].anomalies.select("colonne", "regle", "motif", "remede").rows()


# --- one cell ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "column", "value", "regle", "told"),
    [
        ("convention", "statut", None, "obligatoire", "choisir dans la liste : en préparation, signée"),
        ("convention", "convention_id", "  \u00a0", "obligatoire", "par exemple « 08-PVD-001 »"),
        ("convention", "date_fin", "31/02/2026", "type", "JJ/MM/AAAA"),
        ("convention", "date_fin", "15/03/26", "type", "l'année a quatre chiffres"),
        ("convention", "date_fin", "46096", "type", "numéro interne d'un jour"),
        ("convention", "date_fin", "mars 2026", "type", "écrire le jour entier"),
        ("convention", "date_fin", "15/03/0206", "date_plausible", "vérifier l'année"),
        ("convention", "date_fin", "2206-03-15", "date_plausible", "vérifier l'année"),
        ("convention", "signataires_nb", "quatre", "type", "nombre entier en chiffres"),
        ("convention", "signataires_nb", "4,5", "type", "l'arrondir"),
        ("convention", "signataires_nb", "-1", "bornes", "au moins égal à 0"),
        ("formation", "note_apres", "11", "bornes", "de 0 à 10"),
        ("engagement_financier", "montant_engage_eur", "150 000 €", "type", "écrire « 150000 »"),
        ("engagement_financier", "montant_engage_eur", "1,5,0", "type", "écrire un nombre"),
        ("convention", "chef_de_projet_en_poste", "en cours", "type", "écrire oui ou non"),
        ("convention", "convention_id", "08 PVD 001", "type", "sans espace"),
        ("convention", "convention_id", "08-PVD-été", "type", "lettres sans accent"),
        ("convention", "departement_code", "8", "type", "écrire « 08 »"),
        ("convention", "departement_code", "Ardennes", "type", "écrire par exemple « 08 »"),
        ("convention", "departement_code", "20", "departement_inconnu", "2A, 2B"),
        ("convention", "statut", "Signée", "valeurs", "écrire « signée »"),
        ("convention", "statut", "signee", "valeurs", "écrire « signée »"),
        ("convention", "statut", "signéé", "valeurs", "écrire « signée »"),
        ("convention", "statut", "resilié", "valeurs", "vouliez-vous dire « résiliée » ?"),
        ("convention", "statut", "à préciser", "valeurs", "choisir dans la liste"),
        ("convention", "intervention_id", "Petites Villes de Demain", "intervention_inconnue", "écrire « petites_villes_de_demain »"),
        ("convention", "intervention_id", "petite ville de demain", "intervention_inconnue", "vouliez-vous dire « petites_villes_de_demain » ?"),
        ("objectif", "indicateur_id", "pvd_logement_renove", "indicateur_inconnu", "vouliez-vous dire « pvd_logements_renoves » ?"),
        ("convention", "territoire_code", "8105", "territoire_inconnu", "écrire « 08105 »"),
        ("convention", "territoire_code", "99999", "territoire_inconnu", "vérifier le code officiel"),
        ("convention", "territoire_code", "44", "territoire_inconnu", "ce code est de niveau « departement, region »"),
        ("convention", "territoire_code", "23096", "territoire_hors_departement", "vérifier le code du territoire et celui du département"),
        ("action", "convention_id", "08-PVD-999", "reference_inconnue", "« Conventions »"),
        ("engagement_financier", "action_id", "08-ZZ", "reference_inconnue", "« Actions »"),
        ("evenement_demande", "demande_id", "08-ZZ", "reference_inconnue", "« Demandes d'ingénierie »"),
        ("convention_operateur", "demande_id", "08-ZZ", "reference_inconnue", "« Demandes d'ingénierie »"),
        ("action", "unite", "x" * 301, "longueur", "raccourcir"),
        ("convention", "referent_courriel", "jeanne.durand", "courriel", "elle n'est pas conservée"),
        ("convention", "referent_telephone", "06 39", "telephone", "elle n'est pas conservée"),
        ("convention", "date_fin", "#REF!", "formule_en_erreur", "écrire la valeur"),
        ("convention", "date_fin", "Err:502", "formule_en_erreur", "écrire la valeur"),
        ("convention", "referent_nom", "#N/A", "formule_en_erreur", "écrire la valeur"),
    ],
)  # fmt: skip
def test_a_wrong_cell_is_named_with_its_rule_and_how_to_mend_it(kind: str, column: str, value: str | None, regle: str, told: str) -> None:
    found = one(kind, **{column: value})
    assert [(c, r) for c, r, _, _ in found] == [(column, regle)]
    assert told in found[0][3], found


@pytest.mark.parametrize(
    ("kind", "column", "value", "kept"),
    [
        ("convention", "date_fin", " 5/3/2026 ", "2026-03-05"),
        ("convention", "date_fin", "2026-03-05 00:00:00", "2026-03-05"),
        ("convention", "date_fin", "2026-03-05T10:30:00Z", "2026-03-05"),
        ("engagement_financier", "montant_engage_eur", "150\u202f000,50", "150000.5"),
        ("engagement_financier", "montant_engage_eur", "+1 200 000.00", "1200000"),
        ("engagement_financier", "montant_engage_eur", "800000", "800000"),
        ("engagement_financier", "montant_paye_eur", "0", "0"),
        ("convention", "signataires_nb", "8.0", "8"),
        ("convention", "signataires_nb", "007", "7"),
        ("convention", "chef_de_projet_en_poste", "VRAI", "oui"),
        ("convention", "chef_de_projet_en_poste", "false", "non"),
        ("evenement_demande", "type_evenement", "désignation de l’interlocuteur", "désignation de l'interlocuteur"),
        ("convention", "statut", "signe\u0301e", "signée"),
        ("action", "unite", " logements \n aidés ", "logements aidés"),
        ("convention", "convention_id", "\u00a008-PVD-7 ", "08-PVD-7"),
    ],
)  # fmt: skip
def test_a_cell_is_kept_in_one_canonical_form_however_it_was_typed(kind: str, column: str, value: str, kept: str) -> None:
    tables = {name: [row(name)] for name in ("convention", "action", "demande_ingenierie")} | {kind: [row(kind, **{column: value})]}
    checked = judged(**tables)[kind]
    assert rules(checked) == []
    assert checked.rows[column].to_list() == [kept]


@pytest.mark.parametrize("value", [EMAIL, f"voir avec {TELEPHONE}", NIR, "0639981234", "185057800608436"])
@pytest.mark.parametrize(("kind", "column"), [("objectif", "motif"), ("action", "unite"), ("convention", "convention_id"), ("objectif", "auteur_fonction"), ("action", "quantite")])
def test_personal_data_in_a_column_that_is_kept_is_refused_and_not_repeated(kind: str, column: str, value: str) -> None:
    tables = {"convention": [row("convention")], kind: [row(kind, **{column: value})]}
    checked = judged(**tables)[kind]
    found = checked.anomalies.rows(named=True)
    assert [(a["colonne"], a["regle"]) for a in found if a["colonne"] == column] == [(column, "donnee_personnelle")]
    assert "la retirer" in found[0]["remede"]
    kept = checked.sanitised()
    assert kept["_valeur"].to_list() == [NON_CONSERVE]
    assert not any(value in str(cell) for line in kept.rows() for cell in line)


def test_the_same_data_in_the_columns_made_for_them_is_no_anomaly_and_is_not_kept() -> None:
    rows = [row("convention", intitule=f"suivi par {NOM}, {EMAIL}", signataires=NOM, referent_nom=NOM, referent_courriel=EMAIL, referent_telephone=TELEPHONE)]
    checked = judged(convention=rows)["convention"]
    assert rules(checked) == []
    assert set(checked.sanitised().columns) == {c.name for c in kinds()["convention"].conservees} | {"_ligne", "_motif", "_colonne", "_valeur"}
    for cells in (checked.rows, checked.sanitised()):
        assert not any(word in str(line) for line in cells.rows() for word in (NOM, EMAIL, TELEPHONE, "Durand"))


# --- one row ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "regle", "column", "changed"),
    [
        ("convention", "fin_apres_signature", "date_fin", {"date_fin": "2020-01-01"}),
        ("convention", "signature_datee", "date_signature", {"date_signature": None}),
        ("convention", "signature_datee", "date_signature", {"date_signature": None, "statut": "achevée"}),
        ("convention", "fusion_reprise", "repris_par", {"statut": "fusionnée"}),
        ("convention", "reprise_par_une_autre", "repris_par", {"statut": "fusionnée", "repris_par": "08-PVD-001"}),
        ("action", "achevement_apres_debut", "date_achevement", {"date_achevement": "2023-01-31"}),
        ("action", "achevement_date", "date_achevement", {"statut": "achevée", "date_achevement": None}),
        ("action", "indicateur_chiffre", "quantite", {"quantite": None}),
        ("engagement_financier", "paye_sous_engage", "montant_paye_eur", {"montant_paye_eur": "150000,01"}),
        ("engagement_financier", "paiement_apres_engagement", "date_dernier_paiement", {"date_dernier_paiement": "29/06/2022"}),
        ("convention_operateur", "reponse_apres_demande", "date_reponse", {"date_reponse": "2022-05-31"}),
        ("convention_operateur", "reponse_datee", "date_reponse", {"date_reponse": None}),
        ("formation", "fin_apres_debut", "date_fin", {"date_fin": "2023-04-02"}),
        ("formation", "participants_sous_inscrits", "participants", {"participants": "29"}),
        ("formation", "petites_communes_sous_participants", "participants_petites_communes", {"participants_petites_communes": "25"}),
        ("concertation", "cloture_apres_ouverture", "date_cloture", {"date_cloture": "2022-09-14"}),
        ("concertation", "reponses_sous_recommandations", "reponses_motivees", {"reponses_motivees": "15"}),
        ("concertation", "realisees_sous_prevues", "actions_realisees_18m", {"actions_realisees_18m": "7"}),
        ("incubation", "deliberation_apres_lancement", "date_deliberation_ca", {"date_deliberation_ca": "2020-02-09"}),
        ("critere", "favorable_sous_total", "montant_favorable_eur", {"montant_favorable_eur": "150001"}),
        ("critere", "favorable_avec_total", "montant_total_eur", {"montant_total_eur": None}),
        ("objectif", "cible_apres_initiale", "date_cible", {"date_cible": "2020-12-31"}),
    ],
)  # fmt: skip
def test_each_declared_rule_rejects_the_row_that_breaks_it_where_it_says(kind: str, regle: str, column: str, changed: dict[str, str | None]) -> None:
    assert [(c, r) for c, r, _, _ in one(kind, **changed)] == [(column, regle)]


def test_every_declared_rule_is_broken_by_one_of_the_cases_above() -> None:
    cases = test_each_declared_rule_rejects_the_row_that_breaks_it_where_it_says.pytestmark[0].args[1]
    assert {(kind, rule.nom) for kind, source in kinds().items() for rule in source.meta.regles} == {(case[0], case[1]) for case in cases}


def test_a_rule_says_nothing_where_a_cell_that_it_needs_is_empty_or_already_wrong() -> None:
    assert one("formation", inscrits=None) == []
    assert [(c, r) for c, r, _, _ in one("convention", date_signature="printemps")] == [("date_signature", "type")]
    assert [(c, r) for c, r, _, _ in one("formation", inscrits="une trentaine")] == [("inscrits", "type")]


def test_all_that_is_wrong_with_a_row_is_told_and_joined_in_its_one_row() -> None:
    wrong = row("convention", departement_code="8", territoire_code="8105", statut="Signee", date_fin="31/02/2026")
    checked = judged(convention=[*conventions(9), wrong])["convention"]
    assert rules(checked) == [
        (11, "departement_code", "type"), (11, "territoire_code", "territoire_inconnu"), (11, "date_fin", "type"), (11, "statut", "valeurs"),
    ]  # fmt: skip
    kept = checked.sanitised()
    assert kept.height == 10 and kept["_ligne"].to_list() == list(range(2, 12))
    last = kept.row(-1, named=True)
    assert last["_motif"] == (
        "Code du département : un code département s'écrit 01, 2A ou 971 ; Code du territoire : aucun territoire de ce niveau ne "
        "porte ce code ; Date de fin : n'est pas une date qui existe ; Statut : valeur hors de la liste"
    )
    assert (last["_colonne"], last["_valeur"]) == ("departement_code", "8")
    assert all(last[c.name] is None for c in kinds()["convention"].conservees)
    assert kept["_motif"].null_count() == 9


@pytest.mark.parametrize(
    ("column", "value", "kept"),
    [
        ("date_fin", "31/02/2026", "31/02/2026"),
        ("territoire_code", "99999", "99999"),
        ("signataires_nb", "-1", "-1"),
        ("statut", "Durand", NON_CONSERVE),
        ("statut", "Jeanne Durand 3", "Jeanne Durand 3"),
        ("date_fin", TELEPHONE, NON_CONSERVE),
        ("statut", "185057800608436", NON_CONSERVE),
        ("statut", "été 2021", NON_CONSERVE),
        ("date_fin", "1" * 25, NON_CONSERVE),
        ("referent_courriel", "mairie08", NON_CONSERVE),
        ("date_fin", None, None),
    ],
)  # fmt: skip
def test_the_wrong_value_stays_only_when_it_looks_like_a_code_a_number_or_a_date(column: str, value: str | None, kept: str | None) -> None:
    changed = {column: value} if value else {column: None, "statut": None}
    first = judged(convention=[row("convention", **changed)])["convention"].sanitised()["_valeur"].to_list()
    assert first == [kept]


# --- keys and references ----------------------------------------------------------------------------------------


def test_a_repeated_key_is_wrong_from_the_second_row_on_and_identical_rows_are_told_apart() -> None:
    rows = [row("incubation"), row("incubation"), row("incubation", citoyens_associes="41"), row("incubation", programme_id="P9")]
    checked = judged(incubation=rows)["incubation"]
    assert checked.anomalies.select("ligne", "colonne", "regle", "motif").rows() == [
        (3, "programme_id", "doublon", "ligne identique à la ligne 2"),
        (4, "programme_id", "doublon", "clé déjà écrite à la ligne 2, avec d'autres valeurs"),
    ]
    assert checked.rows["_ligne"].to_list() == [2, 5]


def test_the_same_convention_from_two_departements_is_wrong_in_one_file_and_against_the_register(tmp_path: Path) -> None:
    away = row("convention", departement_code="23", territoire_code="23096")
    checked = judged(convention=[row("convention"), away])["convention"]
    assert rules(checked) == [(3, "departement_code", "deux_departements")]
    where = registered(tmp_path, convention=[row("convention")])
    sent = {"convention": frame("convention", [away])}
    later = check("convention", sent["convention"], Known.load(where, sent, "creuse"))
    assert later.anomalies["regle"].to_list() == ["deux_departements"]
    assert "fichier déjà admis" in later.anomalies["motif"][0]


def test_two_territories_of_one_convention_id_in_one_departement_are_a_mere_repeated_key() -> None:
    again = row("convention", territoire_code="08409")
    assert rules(judged(convention=[row("convention"), again])["convention"]) == [(3, "convention_id", "doublon")]


def registered(root: Path, emetteur: str = "ardennes", **tables: list[dict[str, str | None]]) -> Home:
    """An installation whose register holds these rows, sent by one sender."""
    where = Home(root).ensure()
    for kind, checked in judged(**tables).items():
        path = where.registre / kind / f"{emetteur}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        checked.sanitised().write_parquet(path)
    return where


def against(where: Home, emetteur: str = "autre", **tables: list[dict[str, str | None]]):
    frames = {kind: frame(kind, rows) for kind, rows in tables.items()}
    known = Known.load(where, frames, emetteur)
    return {kind: check(kind, frames[kind], known) for kind in kinds() if kind in frames}


def test_rows_already_admitted_may_be_referred_to_and_rejected_ones_may_not(tmp_path: Path) -> None:
    where = registered(tmp_path, convention=[row("convention"), row("convention", convention_id="08-B", statut="faux")])
    assert rules(against(where, action=[row("action")])["action"]) == []
    assert rules(against(where, action=[row("action", convention_id="08-B")])["action"]) == [(2, "convention_id", "reference_inconnue")]


def test_a_key_that_another_file_holds_is_wrong_and_the_remedy_names_that_file_but_the_reason_does_not(tmp_path: Path) -> None:
    where = registered(tmp_path, incubation=[row("incubation")])
    other = against(where, "creuse", incubation=[row("incubation")])["incubation"]
    assert rules(other) == [(2, "programme_id", "cle_deja_transmise")]
    assert "ardennes" in other.anomalies["remede"][0] and "ardennes" not in other.anomalies["motif"][0]
    assert rules(against(where, "ardennes", incubation=[row("incubation")])["incubation"]) == []


def test_a_file_that_replaces_another_of_the_same_sender_may_no_longer_cite_what_it_dropped(tmp_path: Path) -> None:
    where = registered(tmp_path, convention=[row("convention")], action=[row("action")])
    sent = {"convention": [row("convention", convention_id="08-NEUVE")], "action": [row("action")]}
    assert rules(against(where, "ardennes", **sent)["action"]) == [(2, "convention_id", "reference_inconnue")]
    # Without a sheet of conventions, those of the last time stay.
    assert rules(against(where, "ardennes", action=[row("action")])["action"]) == []


def test_a_sender_that_replaces_some_lines_keeps_the_others_known(tmp_path: Path) -> None:
    first, second = row("objectif"), row("objectif", version="2", date_decision="2023-02-01")
    where = registered(tmp_path, "grist", objectif=[first, row("objectif", territoire_code="08409")])
    sent = frame("objectif", [second]).with_columns(_ligne=pl.lit(9, pl.Int64))
    assert rules(check("objectif", sent, Known.load(where, {"objectif": sent}, "grist", remplace=[9]))) == []
    assert rules(check("objectif", sent, Known.load(where, {"objectif": sent}, "grist"))) == [(9, "version", "version_sans_precedente")]
    twice = frame("objectif", [first]).with_columns(_ligne=pl.lit(9, pl.Int64))
    assert rules(check("objectif", twice, Known.load(where, {"objectif": twice}, "grist", remplace=[9]))) == [(9, "version", "cle_deja_transmise")]


def test_a_row_that_cites_a_wrong_row_of_the_same_file_is_sent_back_with_it() -> None:
    checked = judged(convention=[row("convention", statut="faux")], action=[row("action")])
    assert rules(checked["action"]) == [(2, "convention_id", "reference_rejetee")]
    assert "« Conventions »" in checked["action"].anomalies["motif"][0]


def test_an_event_before_its_request_is_wrong_whether_the_request_comes_along_or_is_known(tmp_path: Path) -> None:
    early = row("evenement_demande", date_evenement="03/05/2022")
    assert rules(judged(demande_ingenierie=[row("demande_ingenierie")], evenement_demande=[early])["evenement_demande"]) == [(2, "date_evenement", "evenement_avant_demande")]
    where = registered(tmp_path, demande_ingenierie=[row("demande_ingenierie")])
    assert rules(against(where, evenement_demande=[early])["evenement_demande"]) == [(2, "date_evenement", "evenement_avant_demande")]
    same_day = row("evenement_demande", type_evenement="réception", date_evenement="2022-05-04")
    assert rules(against(where, evenement_demande=[same_day])["evenement_demande"]) == []


def test_a_new_version_of_a_target_needs_the_one_before_it(tmp_path: Path) -> None:
    rows = [row("objectif"), row("objectif", version="2"), row("objectif", version="4"), row("objectif", territoire_code="08409", version="2")]
    assert rules(judged(objectif=rows)["objectif"]) == [(4, "version", "version_sans_precedente"), (5, "version", "version_sans_precedente")]
    where = registered(tmp_path, objectif=[row("objectif")])
    assert rules(against(where, objectif=[row("objectif", version="2", valeur_cible="18")])["objectif"]) == []


# --- territories ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("niveau", "code", "departement"),
    [
        ("commune", "08105", "08"), ("commune", "2A004", "2A"), ("commune", "97411", "974"), ("epci", "200041630", "08"),
        ("departement", "08", "08"), ("region", "44", "08"), ("arrondissement", "025", "02"), ("arrondissement", "591", "59"),
        ("perimetre", "pacte_ardennes", "08"), ("perimetre", "pacte_sambre_avesnois_thierache", "59"),
        ("perimetre", "pacte_sambre_avesnois_thierache", "02"),
    ],
)  # fmt: skip
def test_a_territory_of_each_level_is_known_in_its_departement_and_refused_from_another(niveau: str, code: str, departement: str) -> None:
    here = row("convention", territoire_niveau=niveau, territoire_code=code, departement_code=departement)
    assert rules(judged(convention=[here])["convention"]) == []
    away = here | {"departement_code": "33"}
    assert rules(judged(convention=[away])["convention"]) == [(2, "territoire_code", "territoire_hors_departement")]


def test_a_commune_of_an_older_vintage_is_known() -> None:
    # Merged into Bourgvallées in 2016, deleguée since; in the files of every year as a former commune.
    old = Known.load(None).territoires.filter((pl.col("niveau") == "commune") & pl.col("code").is_in(["50546", "49144"]))
    assert set(old["code"]) >= {"50546"}


def test_old_codes_come_from_the_landed_table_of_passage_when_there_is_one(tmp_path: Path) -> None:
    where = Home(tmp_path).ensure()
    text = pl.String
    tables = {
        "etalab__communes": pl.DataFrame({"commune_code": ["08105"], "arrondissement_code": ["081"]}),
        "etalab__epci": pl.DataFrame(schema={"epci_code": text, "commune_code": text}),
        "etalab__departements": pl.DataFrame({"departement_code": ["08", "44", "49"], "region_code": ["44", "52", "52"]}),
        "insee__passage": pl.DataFrame({"ancien_code": ["49144", "08105"], "commune_code": ["44180", "08105"]}),
    }
    for name, table in tables.items():
        table.write_parquet(where.landing / f"{name}.parquet")
    for departement in ("44", "49"):  # where it was, and where it is since it changed département
        rows = [row("convention", territoire_code="49144", departement_code=departement)]
        assert rules(against(where, convention=rows)["convention"]) == [], departement
    assert rules(against(where, convention=[row("convention", territoire_code="08409")])["convention"]) == [(2, "territoire_code", "territoire_inconnu")]


def test_territories_of_a_first_run_killed_half_way_are_those_of_the_archive(tmp_path: Path) -> None:
    """Communes had landed, EPCI and départements had not: to take those for unknown would send good rows back."""
    where = Home(tmp_path / "dk").ensure()
    communes = pl.DataFrame({"commune_code": ["01001"], "arrondissement_code": ["012"]})
    communes.write_parquet(where.landing / "etalab__communes.parquet")
    assert known.territories(where).equals(known.territories(None))
    pl.DataFrame({"epci_code": ["200069193"], "commune_code": ["01001"]}).write_parquet(where.landing / "etalab__epci.parquet")
    pl.DataFrame({"departement_code": ["01"], "region_code": ["84"]}).write_parquet(where.landing / "etalab__departements.parquet")
    landed = known.territories(where)
    assert set(landed.filter(niveau="epci")["code"]) == {"200069193"} and landed.height < known.territories(None).height


# --- the whole file ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("good", "wrong", "refused"), [(8, 2, False), (7, 2, True), (0, 1, True), (1, 0, False), (0, 0, False)])
def test_a_table_is_refused_whole_above_the_declared_share_of_wrong_rows(good: int, wrong: int, refused: bool) -> None:
    rows = conventions(good) + [row("convention", convention_id=f"08-F-{n}", statut="faux") for n in range(wrong)]
    checked = judged(convention=rows)["convention"]
    assert (checked.fausses, checked.refused) == (wrong, refused)
    assert kinds()["convention"].meta.attendus.rejets_part_max == 0.20


def test_a_line_that_could_not_be_cut_comes_back_whole_and_counts_as_wrong() -> None:
    table = pl.concat(
        [frame("convention", conventions(9)), pl.DataFrame({"_ligne": [11], "_defaut": ["ligne incomplète"], "_brut": [f"08;{EMAIL}"]})],
        how="diagonal",
    )
    checked = check("convention", table, Known.load(None, {"convention": table}))
    assert rules(checked) == [(11, None, "ligne_illisible")]
    last = checked.sanitised().row(-1, named=True)
    assert (last["_ligne"], last["_motif"], last["_valeur"], last["_colonne"]) == (11, "ligne incomplète", NON_CONSERVE, None)


def test_absent_columns_are_empty_and_lines_keep_their_numbers_in_any_order() -> None:
    needed = {c.name for c in kinds()["incubation"].saisies if c.meta.saisie and c.meta.saisie.obligatoire}
    rows = [row("incubation", programme_id=f"P{n}") for n in range(4)]
    table = frame("incubation", rows).select(*needed, "_ligne").with_columns(_ligne=pl.Series([90, 4, 50, 7]))
    checked = check("incubation", table, Known.load(None, {"incubation": table}))
    assert rules(checked) == []
    assert checked.sanitised()["_ligne"].to_list() == [4, 7, 50, 90]
    assert checked.rows["programme_id"].to_list() == ["P1", "P3", "P2", "P0"]


def test_pseudonyms_are_made_with_the_key_only_and_stand_for_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [row("demande_ingenierie", demande_id=f"08-{n}", interlocuteur_nom=name) for n, name in enumerate(["Léa Dupont", "DUPONT Lea", None])]
    table = frame("demande_ingenierie", rows)
    batch = {"demande_ingenierie": table}
    kept = check("demande_ingenierie", table, Known.load(None, batch, cle=CLE)).sanitised()
    first, second, third = kept["interlocuteur_nom_pseudonyme"].to_list()
    assert first == second and first.startswith("p") and third is None
    assert "interlocuteur_nom" not in kept.columns
    monkeypatch.delenv(personal.CLE, raising=False)
    assert check("demande_ingenierie", table, Known.load(None, batch)).sanitised()["interlocuteur_nom_pseudonyme"].null_count() == 3


def test_the_key_of_an_installation_is_that_of_its_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    where = Home(tmp_path).ensure()
    monkeypatch.setenv(personal.CLE, CLE.decode())
    assert Known.load(where).cle == CLE
    monkeypatch.setenv(personal.CLE, "court")
    with pytest.raises(ValueError, match="trop facile"):
        Known.load(where)


def test_equal_rows_give_equal_bytes(tmp_path: Path) -> None:
    rows = [*conventions(20), row("convention", statut="faux")]
    for name in ("a", "b"):
        judged(convention=rows)["convention"].sanitised().write_parquet(tmp_path / name, compression="zstd")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_reason_holds_no_value_that_a_person_typed() -> None:
    secret = "Zyxwvut"
    for kind, source in kinds().items():
        rows = [row(kind, **{column.name: f"{secret} 1"}) for column in source.saisies]
        checked = judged(**{kind: rows})[kind]
        assert checked.anomalies["valeur"].str.contains(secret).sum() > 3, kind
        assert not checked.anomalies["motif"].str.contains(secret).any(), kind


def test_many_wrong_values_are_judged_without_a_search_for_each() -> None:
    import time

    rows = frame("convention", [row("convention")])
    many = pl.concat([rows] * 20_000).with_columns(
        _ligne=pl.int_range(2, 20_002), convention_id=pl.format("08-{}", pl.int_range(20_000)),
        intervention_id=pl.format("intervention inconnue {}", pl.int_range(20_000)),
    )  # fmt: skip
    known = Known.load(None, {"convention": many})
    start = time.process_time()
    checked = check("convention", many, known)
    assert checked.refused and checked.anomalies.height == 20_000
    assert time.process_time() - start < 30


def test_an_event_key_has_three_columns_and_each_counts() -> None:
    rows = [row("evenement_demande"), row("evenement_demande", date_evenement="2022-05-19"), row("evenement_demande", type_evenement="réception"), row("evenement_demande")]
    checked = judged(demande_ingenierie=[row("demande_ingenierie")], evenement_demande=rows)["evenement_demande"]
    assert rules(checked) == [(5, "date_evenement", "doublon")]


def test_every_anomaly_says_what_is_wrong_and_how_to_mend_it_in_one_line() -> None:
    tables = {
        kind: [row(kind, **{c.name: "??" for c in source.saisies}), dict.fromkeys(c.name for c in source.saisies)]
        for kind, source in kinds().items()
    }
    for kind, checked in judged(**tables).items():
        assert checked.fausses == 2, kind
        for motif, remede in checked.anomalies.select("motif", "remede").rows():
            assert motif and remede and "\n" not in motif + remede, (kind, motif)
            assert not re.search("None|null|True|False|polars", motif + remede), (motif, remede)
