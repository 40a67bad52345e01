"""More traps of SOURCES.md, on the files of neighbourhoods, schools, equipment, crime and contracts: what must come out,
counted from the published bytes without the product's reader."""

from __future__ import annotations

import datetime as dt
import gzip
import json
import re
from collections import Counter, defaultdict

import polars as pl
import pytest

from tests.mirror.conftest import MIRROR, Ask, Run, landed
from tests.mirror.test_traps import PLM, of, rows_of


def number(text: str | None) -> float | None:
    """A figure as a French reader would take it; None when there is none."""
    flat = re.sub(r"[\s\u00a0\u202f]", "", text or "").replace(",", ".")
    return float(flat) if re.fullmatch(r"-?[\d.]+([eE][-+]?\d+)?", flat) else None


def measures(first: Run, source_id: str) -> pl.DataFrame:
    return pl.read_parquet(first.home / "work" / "landing" / "mesures" / f"{source_id}.parquet")


def sheet(name: str, rank: int) -> list[list[str | None]]:
    import fastexcel

    return [list(row) for row in fastexcel.read_excel(MIRROR / name).load_sheet(rank, header_row=None, skip_rows=0, dtypes="string").to_polars().rows()]


# --- neighbourhoods ---------------------------------------------------------------------------------------------


def test_the_line_of_all_neighbourhoods_is_no_neighbourhood(first: Run, ask: Ask) -> None:
    """« Ensemble » heads the records of 2017 to 2019 and the four Filosofi files (§2, insee_sig_qpv, says 2017 only)."""
    files = sorted((MIRROR / "insee_sig_qpv").rglob("*.csv*"))
    texts = [gzip.decompress(f.read_bytes()) if f.suffix == ".gz" else f.read_bytes() for f in files]
    headed = [text for text in texts if text.splitlines()[1].startswith(b"Ensemble")]
    assert len(files) == 20 and len(headed) == 3 * 3 + 4
    rejected = ask("select source_id, count(*) from audit_rejet where valeur = 'Ensemble' group by 1")
    # A file read for several tables is rejected once in each.
    assert dict(rejected) == {
        "insee__qpv_2015": 3, "sig_ville__allocataires": 3, "sig_ville__emploi": 3, "sig_ville__demandeurs_emploi": 3,
        "sig_ville__revenus": 3, "sig_ville__minima_sociaux": 3, "sig_ville__filosofi": 4,
    }  # fmt: skip
    assert ask("select count(*) from fct_observation where territoire_code = 'Ensemble'") == [(0,)]


def test_a_record_of_2021_speaks_of_2017(first: Run, ask: Ask) -> None:
    """The year of a record is not that of its data: the incomes of 2021 and 2022 are those of Filosofi 2017 and 2018."""
    revenus, filosofi = landed(first, "sig_ville__revenus"), landed(first, "sig_ville__filosofi")
    for fiche, annee in (("2021", 2017), ("2022", 2018)):
        both = of(revenus, fiche).join(filosofi.filter(pl.col("annee") == annee), on="qpv_code", suffix="_f").drop_nulls("mediane")
        assert len(both) == 1352 and (both["mediane"] == both["mediane_f"]).all()
        assert of(revenus, fiche)["annee"].unique().to_list() == [annee]
    years = ask("select distinct extract(year from periode_debut) from fct_observation where indicateur_id = 'qpv_revenu_median' order by 1")
    assert [year for (year,) in years] == list(range(2013, 2020))
    # The same value published twice is one observation.
    assert ask(
        "select max(n) from (select count(*) as n from fct_observation where indicateur_id = 'qpv_revenu_median' "
        "group by territoire_code, periode_debut)"
    ) == [(1,)]  # fmt: skip


def test_the_population_of_a_record_is_that_of_2013_then_2018(first: Run) -> None:
    """POP_COM lies a third of the way from 2012 to 2015, then two thirds from 2016 to 2019: the year it does not write."""
    mesures = measures(first, "insee__qpv_2015")
    found = mesures.group_by("millesime").agg(pl.col("periode_debut").unique()).sort("millesime").rows()
    assert [(m, [d.year for d in days]) for m, days in found] == [
        ("2017", [2013]), ("2018", [2013]), ("2019", [2013]), ("2021", [2018]), ("2022", [2018]),
    ]  # fmt: skip
    totals = mesures.group_by("millesime").agg(pl.col("valeur").sum())
    assert dict(totals.rows())["2017"] == 5_019_573.0  # the file's own « Ensemble »


def test_columns_that_change_names_stay_one_variable(first: Run) -> None:
    """EPREC becomes EDLIM in 2021, disp_q2_a17 becomes DISP_MED_A18, and the order of columns moves (§2)."""
    emploi = landed(first, "sig_ville__emploi")
    filled = dict(emploi.group_by("_millesime").agg(pl.col("part_emplois_limites").is_not_null().mean()).rows())
    assert set(filled) == {"2017", "2018", "2019", "2020", "2021", "2022"} and min(filled.values()) > 0.85
    assert landed(first, "sig_ville__filosofi").group_by("_millesime").agg(pl.col("mediane").null_count()).select(pl.col("mediane").max()).item() == 0


def test_thousands_with_a_space_beside_decimals_with_a_comma(first: Run) -> None:
    """« 1 121 » (a narrow no-break space) and « 53,5 » on one line: cut at it, a figure would be a thousand times too small."""
    row = next(r for r in rows_of("insee_sig_qpv/insertion/IPRO_2017.csv", ";") if r["CODGEO"] == "QP001001")
    assert (row["ABCDE"], row["TX_TOT_EMPL"]) == ("1\u202f121", "53,5")
    emploi = of(landed(first, "sig_ville__emploi"), "2017").filter(pl.col("qpv_code") == "QP001001")
    assert emploi["taux_emploi"].to_list() == [53.5]
    demandeurs = of(landed(first, "sig_ville__demandeurs_emploi"), "2022").filter(pl.col("abc") > 999)
    assert len(demandeurs) > 100


def test_a_quality_flag_is_kept_and_an_empty_cell_is_not_zero(first: Run) -> None:
    """NOTE_*: 0 is good; elsewhere the figure is missing, never nil."""
    demandeurs = landed(first, "sig_ville__demandeurs_emploi")
    assert demandeurs["note_qualite"].drop_nulls().unique().len() >= 3
    assert demandeurs.filter(pl.col("abc") == 0).is_empty() and demandeurs["abc"].null_count() > 100


# --- allocataires, crime, schools -------------------------------------------------------------------------------


def test_a_commune_with_an_empty_iris_has_no_total(first: Run, ask: Ask) -> None:
    """CAF: columns vary, DEPCOM is gone in 2019; adding only the disclosed IRIS would give a false count (§2, caf_iris)."""
    rows = rows_of("caf_iris/data_CAF_2020_IRIS.csv", ";")
    assert "DEPCOM" not in rows[0]
    parts: dict[str, list[float | None]] = defaultdict(list)
    for row in rows:
        parts[row["CODGEO"][:5]].append(number(row["A"]))
    whole = {code: sum(v) for code, v in parts.items() if None not in v}  # type: ignore[arg-type]
    assert len(parts) == 1012 and 500 < len(whole) < 600
    arrondissements = {str(c) for codes in PLM.values() for c in codes}
    found = dict(
        ask(
            "select territoire_code, valeur from fct_observation where indicateur_id = 'caf_allocataires' and valeur is not null "
            "and territoire_niveau = 'commune' and periode_debut = date '2020-12-31' and provenance = 'publié'"
        )
    )
    simple = {code: v for code, v in whole.items() if code not in arrondissements and code in found}
    assert len(simple) > 500 and all(found[code] == value for code, value in simple.items())
    assert not {code for code, v in parts.items() if None in v} & set(found)


def test_crime_of_the_year_16_with_scientific_rates(first: Run, ask: Ask) -> None:
    """SSMSI: year « 16 », quoted figures with a comma, « 7,8E-03 », a code NA, homes for burglaries (§2, ssmsi_delinquance)."""
    rows = rows_of("ssmsi_delinquance/donnee-dep-2023.csv.gz", ";")
    assert {row["annee"] for row in rows} == {str(y) for y in range(16, 24)} and len({r["Code.département"] for r in rows}) == 102
    frame = landed(first, "ssmsi__delinquance_departements")
    assert len(frame) == len(rows) - sum(r["Code.département"] == "NA" for r in rows) == 12_928
    assert sorted(frame["annee"].unique()) == list(range(2016, 2024)) and frame["classe"].n_unique() == 16
    recomputed = frame.with_columns(
        r=1000 * pl.col("faits") / pl.when(pl.col("classe") == "cambriolages").then("logements").otherwise("population")
    )
    assert (recomputed["r"] - recomputed["taux_pour_mille"]).abs().max() < 1e-6
    assert frame["taux_pour_mille"].null_count() == 0
    ((value,),) = ask(
        "select valeur from fct_observation where indicateur_id = 'ssmsi_cambriolages' and territoire_code = '01' "
        "and territoire_niveau = 'departement' and periode_debut = date '2023-01-01'"
    )
    (row,) = [r for r in rows if (r["classe"], r["annee"], r["Code.département"]) == ("Cambriolages de logement", "23", "01")]
    assert value == pytest.approx(number(row["tauxpourmille"]), rel=1e-9)


def test_the_regions_of_the_producer_are_the_sums_of_its_departements(ask: Ask) -> None:
    """The regional file, left out, is the counter-proof of our aggregation."""
    published = {
        (r["Code.région"], 2000 + int(r["annee"])): number(r["faits"])
        for r in rows_of("ssmsi_delinquance/donnee-reg-2023.csv", ";")
        if r["classe"] == "Destructions et dégradations volontaires" and r["Code.région"] != "NA"
    }
    found = ask(
        "select territoire_code, extract(year from periode_debut), numerateur from fct_observation "
        "where indicateur_id = 'ssmsi_degradations' and territoire_niveau = 'region' and est_derniere_version"
    )
    assert {(code, year): faits for code, year, faits in found if (code, year) in published} == published
    assert len(published) == 18 * 8


def test_a_college_finds_its_commune_by_its_identifier(first: Run, ask: Ask) -> None:
    """IVAC names a commune without its code: it comes from the file of social position, by UAI (§2, depp_ivac)."""
    ivac = rows_of("depp_ivac/fr-en-indicateurs-valeur-ajoutee-colleges.csv.gz", ";")
    assert "Code INSEE de la commune" not in ivac[0]
    commune = {r["UAI"]: r["Code INSEE de la commune"] for r in rows_of("depp_ips/fr-en-ips_colleges_2022.csv", ";")}
    assert sum(r["UAI"] not in commune for r in ivac) == 22
    assert ask("select count(*) from audit_rejet where source_id = 'depp__ivac' and motif = 'territoire non renseigné'") == [(22,)]
    # Two colleges of a commune weigh by their candidates, not by one each.
    wanted: Counter[str] = Counter()
    weight: Counter[str] = Counter()
    for r in ivac:
        if r["Session"] == "2023" and r["UAI"] in commune:
            wanted[commune[r["UAI"]]] += int(r["Nb candidats G"]) * float(r["Taux de réussite G"]) / 100
            weight[commune[r["UAI"]]] += int(r["Nb candidats G"])
    found = dict(
        ask(
            "select territoire_code, valeur from fct_observation where indicateur_id = 'ivac_taux_reussite' "
            "and territoire_niveau = 'commune' and periode_debut = date '2023-01-01' and provenance = 'publié'"
        )
    )
    same = found.keys() & weight.keys()  # a few codes have changed since
    assert len(same) > 3000 and all(found[c] == pytest.approx(100 * wanted[c] / weight[c]) for c in same)


# --- equipment, long formats, elections --------------------------------------------------------------------------


@pytest.mark.parametrize(("year", "key"), [(2009, "INSEECOM"), (2013, "depcom")])
def test_an_empty_cell_of_the_equipment_table_is_zero(year: int, key: str, first: Run, ask: Ask) -> None:
    """BPE: labels in the header, empty for none; a type that does not exist that year is not zero (§2, insee_bpe)."""
    header, *rows = sheet(f"insee_bpe/bpe{year}.xlsx", 0)
    assert header[0] == key
    rank = header.index("Pharmacie")
    published = {row[0]: int(row[rank] or 0) for row in rows}
    assert sum(row[rank] is None for row in rows) > 20_000
    frame = of(landed(first, "insee__bpe"), str(year))
    assert dict(frame.select("commune_code", "pharmacies").rows()) == published
    national = ask(
        f"select valeur from fct_observation where indicateur_id = 'bpe_pharmacies' and territoire_niveau = 'national' and periode_debut = date '{year}-12-31'"
    )
    assert national == [(float(sum(published.values())),)]


def test_a_type_of_equipment_born_in_2013_is_not_zero_before(first: Run, ask: Ask) -> None:
    assert "Théâtre" not in sheet("insee_bpe/bpe2009.xlsx", 0)[0]
    assert of(landed(first, "insee__bpe"), "2009")["theatres"].null_count() == len(of(landed(first, "insee__bpe"), "2009"))
    days = ask("select distinct periode_debut from fct_observation where indicateur_id = 'bpe_theatres'")
    assert days == [(dt.date(2013, 12, 31),)]


def test_schools_of_2018_in_long_format_join_those_of_the_wide_tables(first: Run, ask: Ask) -> None:
    rows = rows_of("insee_bpe/bpe18_enseignement.csv.gz", ";")
    wanted = sum(int(r["NB_EQUIP"]) for r in rows if r["TYPEQU"] == "C201")
    found = dict(
        ask(
            "select extract(year from periode_debut), valeur from fct_observation where indicateur_id = 'bpe_colleges' "
            "and territoire_niveau = 'national'"
        )
    )
    assert set(found) == {2009, 2013, 2018}
    # Collectivités d'outre-mer are in the file and in no national total.
    outside = sum(int(r["NB_EQUIP"]) for r in rows if r["TYPEQU"] == "C201" and r["DEPCOM"].startswith(("975", "977", "978")))
    assert found[2018] == wanted - outside


def test_long_series_with_a_decimal_comma_and_a_foot_line(first: Run, ask: Ask) -> None:
    """NEET, licences, mortality: « codgeo;libgeo;an;valeur », comma, a line without year at the foot (§2)."""
    published = {
        (r["codgeo"], r["an"]): number(r["part_non_inseres"])
        for r in rows_of("observatoire_territoires_neet/neet_communes_2018.csv.gz", ";")
    }
    frame = landed(first, "observatoire__neet_communes")
    assert {(c, str(a)): v for c, a, v in frame.select("commune_code", "annee", "valeur").rows()} == published
    for kind in ("sport_communes", "sport_epci", "sport_departements", "mortalite_epci", "mortalite_departements", "mortalite_regions"):
        assert ask(f"select motif from audit_rejet where source_id = 'observatoire__{kind}'") == [("clé vide",)]


def test_a_period_between_censuses_ends_before_the_second_one(ask: Ask) -> None:
    """« 2013-2018 » for mortality, « 1999-2009 » among whole years in the CGET barometer (§2, cget_barometre_2018)."""
    assert ask(
        "select distinct periode_debut, periode_fin from fct_observation where indicateur_id = 'mortalite_taux' "
        "and periode_debut >= date '2013-01-01'"
    ) == [(dt.date(2013, 1, 1), dt.date(2017, 12, 31))]
    assert ask(
        "select distinct periode_debut, periode_fin from fct_observation where indicateur_id = 'cget_solde_migratoire' order by 1"
    ) == [(dt.date(1999, 1, 1), dt.date(2008, 12, 31)), (dt.date(2009, 1, 1), dt.date(2013, 12, 31))]


def test_employment_zones_of_2010_are_not_those_of_2020(ask: Ask) -> None:
    """The CGET maps bear four-digit zones that look like today's: none of them may come in (§2, cget_barometre_2018)."""
    old = {r["codgeo"] for r in rows_of("cget_barometre_cohesion_2018/carte_5_3.csv")}
    today = {c for (c,) in ask("select territoire_code from dim_territoire where territoire_niveau = 'zone_emploi'")}
    assert len(old & today) > 50  # the trap: the codes do overlap
    levels = ask("select distinct territoire_niveau from fct_observation where source_id = 'cget__barometre_cohesion' order by 1")
    assert levels == [("departement",), ("epci",), ("national",), ("region",)]
    assert ask("select count(distinct indicateur_id) from fct_observation where source_id = 'cget__barometre_cohesion'") == [(11,)]


def test_lettered_codes_of_overseas_and_nameless_columns_of_candidates(first: Run, ask: Ask) -> None:
    """Presidential election: ZA to ZZ, candidates repeated without names (§2, elections_2022)."""
    for tour in ("1", "2"):
        header, *rows = sheet(f"interieur_elections/resultats-par-niveau-dpt-t{tour}-france-entiere.xlsx", 0)
        assert header.count(None) >= 6
        frame = of(landed(first, "interieur__presidentielle_departements"), f"2022-t{tour}")
        overseas = {"ZA": "971", "ZB": "972", "ZC": "973", "ZD": "974", "ZM": "976"}
        wanted = {overseas.get(r[0], r[0]): int(r[3]) for r in rows if not r[0].startswith("Z") or r[0] in overseas}
        assert len(wanted) == 101 and dict(frame.select("departement_code", "inscrits").rows()) == wanted
    ((low, high),) = ask("select min(valeur), max(valeur) from fct_observation where indicateur_id = 'participation_presidentielle'")
    assert 30 < low < high < 90


def test_a_workbook_of_subsidies_whose_first_sheet_is_a_note(first: Run, ask: Ask) -> None:
    """Dotations 2019: the table is on the second sheet; money of a commune, of its EPCI and of its département are three (§2)."""
    header, *rows = sheet("anct_dotations_investissement_2019/projets_dotations_investissement_2019.xlsx", 1)
    place = {name: i for i, name in enumerate(header)}
    # SOURCES.md announces DPV too: no line bears it.
    assert {r[place["dotation"]] for r in rows} == {"DETR", "DSIL", "DSID"}
    communes = sum(float(r[place["montant_sub"]]) for r in rows if r[place["echelon"]] == "commune")
    ((found,),) = ask("select valeur from fct_observation where indicateur_id = 'dotinv_communes_montant' and territoire_niveau = 'national'")
    assert found == pytest.approx(communes) and len(landed(first, "dgcl__dotations_investissement")) == 24_811
    assert ask("select valeur from audit_rejet where source_id = 'dgcl__dotations_investissement'") == [("20A",)]


# --- lists ------------------------------------------------------------------------------------------------------


def crossing() -> list[dict[str, str]]:
    return rows_of("anct_croisement_programmes_cog2023/ngeo-anct-cog2023.csv.gz")


def test_a_commune_of_two_contracts_is_in_both(first: Run, ask: Ask) -> None:
    """The cross-table of programmes: « crte-84-74-8 ; crte-84-01-14 » (§2, anct_croisement)."""
    double = {r["insee_com"]: {p.strip() for p in r["id_crte"].split(";")} for r in crossing() if ";" in (r["id_crte"] or "")}
    assert len(double) == 76
    frame = landed(first, "anct__croisement").filter(pl.col("programme") == "crte")
    for code, projects in double.items():
        assert set(frame.filter(pl.col("commune_code") == code)["projet_id"]) == projects
    assert frame["projet_id"].n_unique() == 853 and not frame["projet_id"].str.contains(";").any()


def test_contracts_that_cover_nearly_every_commune_leave_no_control(ask: Ask) -> None:
    """34,944 of 35,039 communes of 2023, no date; 81 of their codes have merged since (§2, transverse trap 6)."""
    rows = crossing()
    covered = {r["insee_com"] for r in rows if r["id_crte"]}
    assert (len(rows), len(covered)) == (35_039, 34_944)
    passage = dict(ask("select membre_code, count(*) from bridge_territoire where source_id = 'anct__croisement' group by 1"))
    today = {c for (c,) in ask("select territoire_code from dim_territoire where territoire_niveau = 'commune' and est_pivot")}
    assert len(covered - today) == 81 and not set(passage) - today
    assert len(passage) > 34_700
    assert ask(
        "select count(*), count(date_debut) from fct_intervention_territoire where intervention_id = 'contrat_cohesion' and statut = 'actif'"
    ) == [(853, 0)]


def test_a_region_and_a_departement_with_the_same_digits(ask: Ask) -> None:
    """Engagement citoyen: levels mixed in one column; 75 and 76 are régions here, Paris and Seine-Maritime elsewhere (§2)."""
    rows = rows_of("anct_engagement_citoyen/liste_tec_te_2025-12-23.csv")
    regions = {r["codgeo"] for r in rows if r["echelon"] == "region"}
    assert regions == {"75", "76"} and not regions & {r["codgeo"] for r in rows if r["echelon"] == "departement"}
    found = ask(
        "select territoire_niveau, territoire_code from fct_intervention_territoire where intervention_id = 'territoires_engages' "
        "and territoire_niveau in ('region', 'departement')"
    )
    assert {c for level, c in found if level == "region"} == regions
    assert not {c for level, c in found if level == "departement"} & regions


def test_lost_zeros_and_a_broken_reference_of_the_2025_table(first: Run, ask: Ask) -> None:
    """« 9306 », « 6 », « #Invalid Ref: Nouvelle-Calédonie »: the other copy of the table writes them right (§2)."""
    right = {r["id_engcit"]: r["codgeo"] for r in rows_of("anct_engagement_citoyen/engagement-citoyen-Engagement_citoyen (9).csv")}
    wrong = {r["id_engcit"]: r["codgeo"] for r in rows_of("anct_engagement_citoyen/liste_tec_te_2025-12-23.csv")}
    assert sum(right[k] != wrong[k] for k in right) == 8
    frame = of(landed(first, "anct__territoires_engagement"), "2025-12-23")
    found = dict(frame.select("projet_id", "groupement_code").rows())
    assert found == {k: v for k, v in right.items() if not v.startswith("#")} and len(found) == 229
    assert ask("select count(*) from audit_rejet where source_id = 'anct__territoires_engagement' and valeur like '#Invalid%'") == [(2,)]


def test_a_map_without_departements_does_not_make_them_leave(ask: Ask) -> None:
    """Renamed columns, four states; the layer of 2026 holds no département: theirs have not left for that."""
    assert ask(
        "select count(*), count(date_fin) from fct_intervention_territoire where intervention_id = 'territoires_engages' "
        "and territoire_niveau = 'departement'"
    ) == [(16, 0)]
    states = ask("select periode_debut, valeur from fct_observation where indicateur_id = 'te_communes_porteuses' and territoire_niveau = 'national' order by 1")
    assert [day for day, _ in states] == [dt.date(2022, 12, 27), dt.date(2023, 9, 28), dt.date(2025, 12, 23), dt.date(2026, 7, 31)]


@pytest.mark.parametrize(("kind", "source_id", "absent"), [("adulte-relais", "anct__adultes_relais", 52), ("postes-fonjep", "anct__postes_fonjep", 25)])
def test_posts_without_contract_are_still_posts(kind: str, source_id: str, absent: int, first: Run, ask: Ask) -> None:
    """2023: the key code_cv is missing from some objects, the year a text; two contracts in one code (§2, anct_politique_ville)."""
    records = json.loads((MIRROR / f"anct_politique_ville/{kind}-2023.json").read_bytes())
    assert sum("code_cv" not in r for r in records) == absent
    frame = of(landed(first, source_id), "2023")
    assert set(frame["annee"]) == {2023} and frame["contrat_code"].drop_nulls().str.contains(r"^CV\d{3}$").all()
    posts = {r["id_poste"] for r in records}
    assert len(frame) == len(posts) and frame["contrat_code"].null_count() >= absent
    indicator = {"anct__adultes_relais": "grr_adultes_relais", "anct__postes_fonjep": "grr_postes_fonjep"}[source_id]
    ((national,),) = ask(
        "select valeur from fct_observation where indicateur_id = ? and territoire_niveau = 'national' and periode_debut = date '2023-01-01'", indicator
    )
    assert national == len({r["id_poste"] for r in records if r.get("insee_dep")})


def test_a_post_listed_twice_is_paid_once(first: Run, ask: Ask) -> None:
    """Fonjep 2020: 22 lines repeat another to the last character (not in SOURCES.md); the file of 2023 repeats none."""
    for year, repeated in ((2020, 22), (2021, 23), (2022, 23), (2023, 0)):
        lines = [json.dumps(r, sort_keys=True) for r in json.loads((MIRROR / f"anct_politique_ville/postes-fonjep-{year}.json").read_bytes())]
        assert len(lines) - len(set(lines)) == repeated
        assert ask("select count(*) from audit_rejet where source_id = 'anct__postes_fonjep' and millesime = ? and motif like 'clé en double%'", str(year)) == [(repeated,)]


def test_operators_in_columns_are_counted_once_per_departement(first: Run, ask: Ask) -> None:
    """FTHD: opérateur1…7 in wide, each département twice (§2, anct_fthd)."""
    seen: dict[str, int] = {}
    for f in json.loads((MIRROR / "anct_fthd_2024/data_dep.geojson").read_bytes())["features"]:
        p = f["properties"]
        seen[p["insee_dep"]] = sum(p.get(f"prise_encharge{i}") == "Oui" for i in range(1, 8))
    found = dict(ask("select territoire_code, valeur from fct_observation where indicateur_id = 'thd_operateurs_aides' and territoire_niveau = 'departement'"))
    assert found == {code: float(n) for code, n in seen.items() if code in found} and len(found) >= 101


def test_the_renewal_programme_names_its_neighbourhoods(first: Run, ask: Ask) -> None:
    """NPNRU wrapped in a script, with « 1 » for the département of Ain (§2, anct_acv)."""
    frame = landed(first, "anct__npnru")
    assert dict(frame["interet"].value_counts().rows()) == {"national": 216, "regional": 263}
    known = {c for (c,) in ask("select territoire_code from dim_territoire where territoire_niveau = 'qpv_2015'")}
    assert len(set(frame["qpv_code"]) - known) == 4  # overseas, absent from the records of 2017 to 2022
    assert frame["departement_code"].str.len_chars().min() == 2


# --- zonings ----------------------------------------------------------------------------------------------------


def test_grids_read_through_their_spaces_and_their_undefined(ask: Ask) -> None:
    """A BOM, a leading space before every type of rurality, « - undefined » 129 times (§2, anct_grilles_2026)."""
    raw = [r["niveau_ruralite"] for r in rows_of("anct_grilles_2026/ruralite.csv.gz")]
    assert all(text.startswith(" ") for text in raw)
    types = {t for (t,) in ask("select distinct ruralite from dim_territoire where ruralite is not null")}
    assert types == {t.strip() for t in raw} - {"Hors champ : DOM ou commune urbaine", "Commune dont le périmètre a changé depuis la réalisation de la typologie"}
    assert sum(r["niveau_centralite"] == " - undefined" for r in rows_of("anct_grilles_2026/centralite.csv.gz")) == 129
    assert ask("select count(*) from dim_territoire where centralite like '%undefined%'") == [(0,)]
    assert ask("select count(distinct densite), count(distinct massif), count(massif) from dim_territoire where est_pivot") == [(7, 9, 8594)]


def test_codes_with_a_space_after_them_or_without_their_zero(first: Run, ask: Ask) -> None:
    """Zones tendues: « 2A008 »; bassins of France Travail: 101 for 0101 (§2, last line)."""
    raw = [r["CODE INSEE"] for r in rows_of("dgfip_tlv/tlv_cities.csv", ";")]
    assert sum(code != code.strip() for code in raw) > 300
    assert ask("select count(*) from dim_territoire where zone_tendue")[0][0] > 3_600
    short = {r["code_bassin_BMO"] for r in rows_of("france_travail_bassins/bassin_emploi.csv") if len(r["code_bassin_BMO"]) == 3}
    assert short
    assert ask("select count(*) from dim_territoire where length(bassin_emploi_code) <> 4") == [(0,)]
    assert {"0" + code for code in short} <= {c for (c,) in ask("select distinct bassin_emploi_code from dim_territoire")}


def test_metropolitan_france_is_not_france(ask: Ask) -> None:
    """Filosofi: the one line « France » is metropolitan; the warehouse's national level is not (impact.md, R-GEO 8)."""
    (line,) = rows_of("insee_filosofi/revenu_france/FILO2019_DISP_METROPOLE.csv", ";")
    assert line["LIBGEO"] == "France métropolitaine"
    assert ask("select count(*) from fct_observation where indicateur_id = 'revenu_median' and territoire_niveau = 'national'") == [(0,)]
    assert ask("select count(distinct periode_debut) from fct_observation where indicateur_id = 'revenu_median' and territoire_niveau = 'region'") == [(6,)]


def test_the_communes_of_a_grouping_without_own_tax_come_from_banatic(ask: Ask) -> None:
    """Lists name an EPT by its SIREN: BANATIC alone knows its communes (§2, dgcl_banatic)."""
    ept: dict[str, set[str]] = defaultdict(set)
    for r in rows_of("dgcl_banatic/com_epci_dep_reg.csv.gz", ";"):
        if r["ept_siren"]:
            ept[r["ept_siren"]].add(r["com_code"])
    found: dict[str, set[str]] = defaultdict(set)
    for code, member in ask("select parent_code, membre_code from bridge_territoire where source_id = 'dgcl__banatic'"):
        found[code].add(member)
    today = {c for (c,) in ask("select territoire_code from dim_territoire where territoire_niveau = 'commune' and est_pivot")}
    assert found and all(found[code] == ept[code] & today for code in found)


# --- changes of communes ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def passage(first: Run) -> dict[tuple[int, str], dict[str, float]]:
    """Where each code of each vintage goes, from the work database: (vintage, code) to {commune: share}."""
    import duckdb

    found: dict[tuple[int, str], dict[str, float]] = defaultdict(dict)
    with duckdb.connect(str(first.home / "work" / "entrepot.duckdb"), read_only=True) as con:
        for year, origin, commune, share in con.execute("select cog_annee, code_origine, commune_code, part from int_passage").fetchall():
            found[year, origin][commune] = share
    return found


Passage = dict[tuple[int, str], dict[str, float]]


def test_third_party_mergers_say_what_insee_says(passage: Passage) -> None:
    """fusions.csv: 146 codes on four digits; once completed, a merged commune goes where its new commune goes (§2, insee_cog)."""
    rows = rows_of("insee_cog/fusions.csv")
    assert len({(r["ANNEE_MODIF"], r[k]) for r in rows for k in ("COM_INI", "COM_FIN") if len(r[k]) == 4}) > 100
    recent = [(int(r["ANNEE_MODIF"]), r["COM_INI"].zfill(5), r["COM_FIN"].zfill(5)) for r in rows if int(r["ANNEE_MODIF"]) >= 2011]
    assert len(recent) > 2_000
    differ = [r for r in recent if set(passage.get((r[0] - 1, r[1]), ())) != set(passage.get((r[0], r[2]), ()))]
    assert len(differ) <= 0.01 * len(recent), differ[:10]


def test_an_old_code_that_splits_goes_to_all_its_parts(passage: Passage) -> None:
    """scissions.csv: one old code for several new ones; joined one to one, a part of the inhabitants would vanish (§2, insee_cog)."""
    parts: dict[tuple[int, str], set[str]] = defaultdict(set)
    for r in rows_of("insee_cog/scissions.csv"):
        if int(r["ANNEE_MODIF"]) >= 2011:
            parts[int(r["ANNEE_MODIF"]), r["COM_INI"].zfill(5)].add(r["COM_FIN"].zfill(5))
    split = {key: found for key in parts if len(found := passage.get((key[0] - 1, key[1]), {})) > 1}
    assert len(split) >= 9
    for (year, code), shares in split.items():
        assert sum(shares.values()) == pytest.approx(1)
        assert {c for new in parts[year, code] for c in passage.get((year, new), {})} == set(shares)
