"""Traps that SOURCES.md of the mirror records, each on the file that sets it: what must come out, counted from the bytes."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import zipfile
from collections import Counter
from typing import Any

import polars as pl
import pytest

from tests.mirror.conftest import MIRROR, Ask, Run, landed

PLM = {"75056": range(75101, 75121), "69123": range(69381, 69390), "13055": range(13201, 13217)}


def wrapped(name: str) -> Any:
    """The object inside a ``var JS_x = {…}`` file."""
    text = (MIRROR / name).read_text(encoding="utf-8")
    return json.loads(text[text.index("{") : text.rindex("}") + 1])


def rows_of(name: str, delimiter: str = ",", encoding: str = "utf-8-sig") -> list[dict[str, str]]:
    raw = (MIRROR / name).read_bytes()
    raw = gzip.decompress(raw) if name.endswith(".gz") else raw
    return list(csv.DictReader(io.StringIO(raw.decode(encoding), newline=""), delimiter=delimiter))


def of(frame: pl.DataFrame, millesime: str) -> pl.DataFrame:
    return frame.filter(pl.col("_millesime") == millesime)


# --- codes ------------------------------------------------------------------------------------------------------


def test_codes_that_mix_numbers_and_texts_are_texts_again(first: Run) -> None:
    """ACV 2025: 220 whole numbers and 24 texts in one column of codes (§2, anct_acv)."""
    published = [f["properties"]["insee_com"] for f in wrapped("anct_acv/coeurdeville_2025-04-02.js")["features"]]
    assert Counter(type(code) for code in published) == {int: 220, str: 24}
    codes = of(landed(first, "anct__acv"), "2025-04-02")["commune_code"]
    assert sorted(codes) == sorted(str(code).zfill(5) for code in published)
    assert codes.str.contains(r"^(\d{2}|2[AB])\d{3}$").all()
    assert codes.str.starts_with("0").sum() > 10


def test_a_town_name_in_the_column_of_codes_is_put_right(first: Run, ask: Ask) -> None:
    """ACV 2018-11: « Vitry-le-François » stands where its code should (§2, anct_acv)."""
    published = [f["properties"] for f in wrapped("anct_acv/coeurdeville_2018-11-28.js")["features"]]
    assert [p["codgeo"] for p in published if not re.fullmatch(r"[0-9AB]{4,5}", p["codgeo"])] == ["Vitry-le-François"]
    row = of(landed(first, "anct__acv"), "2018-11-28").filter(pl.col("commune_nom").str.starts_with("Vitry-le"))
    assert row["commune_code"].to_list() == ["51649"]
    assert ask("select territoire_nom from dim_territoire where territoire_code = '51649' and est_pivot") == [("Vitry-le-François",)]


def test_an_example_line_and_a_literal_na_are_no_town(first: Run, ask: Ask) -> None:
    """PVD 2021: a code 999999, and NA written out (§2, anct_pvd)."""
    assert ask("select valeur from audit_rejet where source_id = 'anct__pvd' and millesime = '2021-01'") == [("999999",)]
    codes = landed(first, "anct__pvd")["commune_code"]
    assert len(of(landed(first, "anct__pvd"), "2021-01")) == 1607 - 1 and not codes.is_in(["999999", "NA"]).any()


def test_a_code_prefixed_with_null_is_a_site_without_commune(ask: Ask) -> None:
    """France services 2022-12: « 0null » (§2, anct_france_services)."""
    assert [r["insee_com"] for r in rows_of("anct_france_services/liste-fs-20221201.csv") if "null" in (r["insee_com"] or "")] == ["0null"]
    assert ask("select motif from audit_rejet where source_id = 'anct__france_services' and millesime like '2022%'") == [
        ("territoire non renseigné",)
    ]


@pytest.mark.parametrize("source_id", ["anct__france_services", "insee__filosofi_communes"])
def test_arrondissements_of_paris_lyon_marseille_never_stand_beside_their_commune(source_id: str, first: Run, ask: Ask) -> None:
    """They are in these files, besides or instead of the commune (§2, transverse trap 1)."""
    codes = {str(code) for arrondissements in PLM.values() for code in arrondissements}
    assert landed(first, source_id)["commune_code"].is_in(list(codes)).sum() > 0
    assert ask("select count(*) from fct_observation where territoire_code in (select unnest(?))", list(codes)) == [(0,)]
    found = ask("select distinct territoire_code from fct_observation where source_id = ? and territoire_code in (select unnest(?))", source_id, list(PLM))
    assert {code for (code,) in found} == set(PLM)


def test_every_well_formed_code_of_the_lists_leads_somewhere(ask: Ask) -> None:
    """Transverse trap 1: none is unknown. Fourteen groupings have a true SIREN whose members no file in hand gives."""
    assert ask("select count(*) from audit_rejet where motif like 'code inconnu%'") == [(0,)]
    assert ask("select count(*) from dim_territoire where territoire_nom like 'Groupement absent%'") == [(14,)]
    assert ask("select count(distinct source_id) from fct_intervention_territoire")[0][0] >= 15


def test_codes_buried_in_a_text_are_all_found(first: Run) -> None:
    """« Angers (49007); Trélazé (49353) », and names with brackets of their own (§2, anct_programmes_2024)."""
    texts = [f["properties"]["liste_geo"] for f in json.loads((MIRROR / "anct_programmes_2024/acv_geom.geojson").read_bytes())["features"]]
    expected = {code for text in texts for code in re.findall(r"\((\d[0-9AB]\d{3})\)", text)}
    assert set(of(landed(first, "anct__acv"), "2024")["commune_code"]) == expected and len(texts) == 232


def test_a_district_on_several_communes_is_one_district(first: Run, ask: Ask) -> None:
    """QPV 2024: one point per commune, not per district (§2, anct_programmes_2026)."""
    landed_codes = landed(first, "anct__qpv_2024")["qpv_code"]
    assert ask("select count(*), count(distinct territoire_code) from dim_territoire where territoire_niveau = 'qpv_2024'") == [
        (landed_codes.n_unique(),) * 2
    ]
    assert len(landed_codes) > landed_codes.n_unique()


def test_the_zones_of_the_barometer_lose_their_prefix(ask: Ask) -> None:
    """DITP: « D01 » (§2, ditp_barometre)."""
    codes = {c for (c,) in ask("select distinct territoire_code from mart_avancement where territoire_niveau = 'departement'")}
    assert "01" in codes and "2A" in codes and not any(code.startswith("D") for code in codes)


# --- dates and numbers ------------------------------------------------------------------------------------------


def test_dates_in_words_are_dates(first: Run) -> None:
    """« Date de signature : 09 décembre 2016 », « 28 septembre 2018 », « indefini » (§2)."""
    contrats = landed(first, "cget__contrats_ruralite")
    assert len(contrats) == 490
    assert contrats.filter(pl.col("date_signature").is_null())["signature_texte"].to_list() == ["Date de signature : signé sans date"]
    assert {d.year for d in contrats["date_signature"].drop_nulls()} <= {2016, 2017, 2018, 2019}
    acv = of(landed(first, "anct__acv"), "2018-11-28")
    texts = [f["properties"].get("DATE_SIGN") for f in wrapped("anct_acv/coeurdeville_2018-11-28.js")["features"]]
    dated = [text for text in texts if text and re.search(r"\d{4}", text)]
    assert len(dated) > 50 and acv["date_signature"].drop_nulls().len() == len(dated)
    sites = of(landed(first, "anct__france_services"), "2024-08-01")
    assert sites["date_labellisation"].n_unique() == 28 and sites["date_labellisation"].null_count() == 0


def test_secret_and_undisclosed_are_not_missing(first: Run) -> None:
    """Filosofi 2021: « s » and « nd » are two things, and neither is a number (§2, insee_filosofi)."""
    published = Counter(row["MED21"] for row in rows_of("insee_filosofi/revenu_commune/cc_filosofi_2021_COM.csv.gz", ";"))
    mesures = pl.read_parquet(first.home / "work" / "landing" / "mesures" / "insee__filosofi_communes.parquet")
    found = of_measure(mesures, "2021", "revenu_median")
    assert published["s"] > 0 and published["nd"] > 0
    assert dict(found["statut_valeur"].value_counts().iter_rows())["secret"] == published["s"]
    assert dict(found["statut_valeur"].value_counts().iter_rows())["non diffusé"] == published["nd"]
    assert found.filter(pl.col("statut_valeur") != "observé")["valeur"].null_count() == published["s"] + published["nd"]


def of_measure(mesures: pl.DataFrame, millesime: str, name: str) -> pl.DataFrame:
    kept = mesures.filter((pl.col("millesime") == millesime) & (pl.col("mesure_id") == name))
    assert len(kept), f"{name} : mesures en main : {sorted(mesures['mesure_id'].unique())}"
    return kept


def test_a_decimal_comma_and_a_sixth_line_header_give_the_same_variable(first: Run) -> None:
    """Filosofi: names that carry the year, decimal comma until 2019, an xlsx whose header is line 6 in 2017 (§2)."""
    frame = landed(first, "insee__filosofi_communes")
    counts = dict(frame.group_by("_millesime").len().iter_rows())
    assert [counts[y] for y in ("2014", "2015", "2016", "2017", "2018", "2019", "2021")] == [32974, 32252, 31789, 34931, 31330, 31361, 34909]
    every = frame.drop_nulls("mediane").group_by("commune_code").agg(pl.col("annee").n_unique().alias("n"), pl.col("annee", "mediane"))
    years = (2014, 2016, 2018, 2019, 2021)
    wide = frame.filter(pl.col("annee").is_in(years)).drop_nulls("mediane").pivot("annee", index="commune_code", values="mediane").drop_nulls()
    assert every.height > wide.height == 30_941
    assert round(wide["2014"].median()) == 20_046 and round(wide["2021"].median()) == 22_820


def test_the_two_shares_that_dvf_swapped_in_2024_are_put_back(first: Run) -> None:
    """DVF 2024: PropMaison and PropAppart swapped, known by the communes that sold houses only (§2, dvf_communes)."""
    frame = of(landed(first, "dvf__communes"), "2024")
    houses = frame.filter((pl.col("nb_maisons") > 0) & (pl.col("nb_appartements") == 0))
    assert len(houses) == 22_671
    assert houses["part_maisons"].unique().to_list() == [100.0] and houses["part_appartements"].unique().to_list() == [0.0]


def test_dvf_says_nothing_where_it_was_not_kept(first: Run, ask: Ask) -> None:
    """Alsace-Moselle and overseas are absent, but for four stray sales; one code NA a year (§2, dvf_communes)."""
    stray = landed(first, "dvf__communes").filter(pl.col("commune_code").str.slice(0, 2).is_in(["57", "67", "68", "97"]))
    assert stray["nb_mutations"].to_list() == [1, 1, 1, 1] and not stray["commune_code"].str.starts_with("97").any()
    assert ask("select count(*), count(distinct millesime) from audit_rejet where source_id = 'dvf__communes' and valeur = 'NA'") == [(11, 11)]
    assert ask(
        "select count(*) from fct_observation where source_id = 'dvf__communes' and territoire_niveau = 'departement' "
        "and territoire_code in ('57', '67', '68', '971') and valeur is not null"
    ) == [(0,)]  # fmt: skip


def test_lovac_is_read_through_its_spaces(first: Run) -> None:
    """LOVAC: latin-1, spaces around headers and within numbers, no total in 2025 (§2, lovac)."""
    frame = landed(first, "lovac__departements").group_by("annee").agg(pl.col("vacant", "vacant_plus_2ans", "total").sum())
    sums = {year: values for year, *values in frame.iter_rows()}
    assert [sums[2024][0], sums[2025][0]] == [3_687_140, 2_380_076]
    assert [sums[2024][1], sums[2025][1]] == [1_154_436, 1_348_470]
    assert landed(first, "lovac__departements").filter(pl.col("annee") == 2025)["total"].null_count() == 101


def test_notes_below_a_table_are_no_rows(first: Run, ask: Ask) -> None:
    """Unemployment: header on line 4 or 6, four lines of notes at the foot (§2, insee_chomage)."""
    departements, zones = landed(first, "insee__chomage_departements"), landed(first, "insee__chomage_zones_emploi")
    assert (len(departements), departements["departement_code"].n_unique()) == (175 * 100, 100)
    assert departements.group_by("annee", "trimestre").len().height == 175 and zones.group_by("annee", "trimestre").len().height == 83
    assert ask("select lignes_hors_tableau > 0 from mart_fraicheur where source_id = 'insee__chomage_departements'") == [(True,)]
    # Overseas has figures since 2014 only: before, no value, and no zero either.
    before = departements.filter(pl.col("departement_code").str.starts_with("97") & (pl.col("annee") < 2014))
    assert len(before) and before["taux_chomage"].null_count() == len(before)


def test_a_figure_with_spaces_of_thousands_among_empty_columns(first: Run) -> None:
    """SIG-Ville: 150 to 990 empty columns, « 1 193 700 » with a decimal comma elsewhere, a line « Ensemble » (§2, insee_sig_qpv)."""
    header = (MIRROR / "insee_sig_qpv/demographie/DEMO_2017.csv").read_bytes().splitlines()[0].decode("latin-1").split(";")
    assert sum(not name.strip() for name in header) >= 150
    qpv = of(landed(first, "insee__qpv_2015"), "2017")
    assert qpv["qpv_code"].str.contains(r"^QP[0-9A-Z]{6}$").all() and len(qpv) >= 1345


# --- what must not come in ---------------------------------------------------------------------------------------


def test_free_remarks_and_names_of_persons_stay_outside(first: Run) -> None:
    """ORT « Remarques » are not to be published, names of mayors neither (§2, dgaln_ort and anct_pvd)."""
    names = [n for source in ("dgaln__ort", "anct__pvd") for n in landed(first, source).columns]
    assert not [n for n in names if re.search(r"remarque|maire|mail|courriel|mel_", n)]
    ort = landed(first, "dgaln__ort")
    assert len(ort) == 2290 and ort.filter(pl.col("statut_signature") == "Signée").height == 1896


def test_the_workbook_inside_an_archive_is_the_declared_one(first: Run) -> None:
    """Filosofi 2017 comes as an xlsx inside a zip (§2, insee_filosofi)."""
    with zipfile.ZipFile(MIRROR / "insee_filosofi/base-filosofi-2017_XLSX.zip") as archive:
        assert len(archive.namelist()) >= 1
    assert of(landed(first, "insee__filosofi_communes"), "2017")["mediane"].drop_nulls().len() > 30_000
