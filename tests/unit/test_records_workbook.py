"""Workbooks for people: what a template offers and forbids, and an annotated copy that can be mended and sent back."""

from __future__ import annotations

import datetime as dt
import re
import xml.etree.ElementTree as ET
import zipfile
from pathlib import Path

import fastexcel
import polars as pl
import pytest

from ingestion.records import workbook as workbooks
from ingestion.records.check import Known, check
from ingestion.records.files import RecordError, Sheet, read
from ingestion.records.layout import header, indicators, interventions, kinds, kinds_of, labels
from ingestion.records.workbook import LIGNES_SAISIE, write_annotated, write_template
from tests.records_samples import conventions, frame, row, saved, text, workbook

MAIN = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"


def parts(path: Path) -> dict[str, ET.Element]:
    """Worksheets of an .xlsx by name, as XML."""
    with zipfile.ZipFile(path) as archive:
        book = ET.fromstring(archive.read("xl/workbook.xml"))
        names = [sheet.get("name", "") for sheet in book.iter(f"{MAIN}sheet")]
        return {name: ET.fromstring(archive.read(f"xl/worksheets/sheet{rank}.xml")) for rank, name in enumerate(names, 1)}


def styles(path: Path) -> list[ET.Element]:
    with zipfile.ZipFile(path) as archive:
        return list(ET.fromstring(archive.read("xl/styles.xml")).find(f"{MAIN}cellXfs") or [])


def cells(path: Path, sheet: str) -> list[tuple[str | None, ...]]:
    return fastexcel.read_excel(path).load_sheet(sheet, header_row=None, skip_rows=0, dtypes="string").to_polars().rows()


def validations(sheet: ET.Element) -> dict[str, ET.Element]:
    """Validations of a sheet by the cells they hold for."""
    return {v.get("sqref", ""): v for v in sheet.iter(f"{MAIN}dataValidation")}


def offered(path: Path, validation: ET.Element) -> list[str | None]:
    """Values of a drop-down list, from the range that it names."""
    found = re.fullmatch(r"'?Listes'?!\$([A-Z]+)\$2:\$\1\$([0-9]+)", validation.findtext(f"{MAIN}formula1", ""))
    assert found, validation.findtext(f"{MAIN}formula1")
    place = 0
    for char in found.group(1):
        place = place * 26 + ord(char) - 64
    return [line[place - 1] for line in cells(path, "Listes")[1 : int(found.group(2))]]


# --- template ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("modeles") / "tous.xlsx"
    write_template(path, list(kinds()))
    return path


def test_a_template_has_its_instructions_one_empty_sheet_per_kind_and_its_lists(everything: Path) -> None:
    titles = [source.meta.titre for source in kinds().values()]
    assert fastexcel.read_excel(everything).sheet_names == ["Mode d'emploi", *titles, "Listes"]
    sheets = read(everything)
    assert [(s.kind, s.frame.height, s.problems) for s in sheets] == [(kind, 0, []) for kind in kinds()]
    for kind, source in kinds().items():
        assert cells(everything, source.meta.titre) == [tuple(labels(kind).values())]


def test_the_instructions_tell_every_column_its_values_its_example_and_what_becomes_of_personal_data(everything: Path) -> None:
    lines = cells(everything, "Mode d'emploi")
    by_label: dict[str, list[tuple[str | None, ...]]] = {}
    for line in lines:
        by_label.setdefault(line[0] or "", []).append(line)
    for source in kinds().values():
        assert f"Feuille « {source.meta.titre} »" in by_label
        for column in source.saisies:
            told = [line for line in by_label[header(column)] if line[4] == column.meta.saisie.exemple]
            told = [line for line in told if (line[6] or "").startswith(column.description)]
            assert told, column.name
            _, needed, _, allowed, _, personal, _ = told[0]
            assert needed == ("obligatoire" if column.meta.saisie.obligatoire else "facultatif") and allowed
            for value in column.meta.saisie.valeurs:
                assert value in allowed
            if not column.meta.personnelle:
                assert personal == "non"
            elif column.meta.pseudonyme:
                assert "pseudonyme" in personal and "le nom n'est ni conservé ni publié" in personal
            else:
                assert "ni conservée ni publiée" in personal
    assert any("20 %" in (line[0] or "") for line in lines)


def test_the_header_is_frozen_and_locked_and_data_cells_are_not(everything: Path) -> None:
    formats = styles(everything)

    def locked(style: str | None) -> bool:
        protection = formats[int(style or 0)].find(f"{MAIN}protection")
        return protection is None or protection.get("locked") != "0"

    for kind, source in kinds().items():
        sheet = parts(everything)[source.meta.titre]
        assert sheet.find(f"{MAIN}sheetProtection").get("sheet") == "1"
        pane = sheet.find(f".//{MAIN}pane")
        assert (pane.get("ySplit"), pane.get("state")) == ("1", "frozen")
        assert all(locked(cell.get("s")) for cell in sheet.iter(f"{MAIN}c"))
        columns = list(sheet.find(f"{MAIN}cols"))
        covered = {n for c in columns for n in range(int(c.get("min")), int(c.get("max")) + 1) if not locked(c.get("style"))}
        assert covered == set(range(1, len(labels(kind)) + 1))


def test_codes_are_text_cells_so_that_a_spreadsheet_keeps_their_zeros(everything: Path) -> None:
    formats = styles(everything)
    columns = list(parts(everything)["Conventions"].find(f"{MAIN}cols"))
    for place, column in enumerate(kinds()["convention"].saisies, 1):
        style = next(c.get("style") for c in columns if int(c.get("min")) <= place <= int(c.get("max")))
        if column.meta.type.startswith("code"):
            assert formats[int(style)].get("numFmtId") == "49", f"{column.name} : 49 est le format Texte"


def test_every_column_has_its_validation_with_a_message_of_an_allowed_length(everything: Path) -> None:
    for kind, source in kinds().items():
        found = validations(parts(everything)[source.meta.titre])
        assert len(found) == len(source.saisies)
        for place, column in enumerate(source.saisies):
            letter = chr(65 + place)
            rule = found[f"{letter}2:{letter}{LIGNES_SAISIE + 1}"]
            assert len(rule.get("prompt", "")) <= 255 and len(rule.get("promptTitle", "")) <= 32
            assert len(rule.get("error", "")) <= 255 and rule.get("error"), f"{kind}.{column.name}"
            assert rule.get("prompt", "").endswith(f"Exemple : {column.meta.saisie.exemple}")
            assert ("jamais conservée" in rule.get("prompt", "")) == column.meta.personnelle


def test_drop_down_lists_offer_the_declared_values_yes_and_no_and_the_catalogue(everything: Path) -> None:
    sheets = parts(everything)
    for source in kinds().values():
        found = list(validations(sheets[source.meta.titre]).values())
        for column, rule in zip(source.saisies, found, strict=True):
            saisie = column.meta.saisie
            if saisie.valeurs:
                assert offered(everything, rule) == list(saisie.valeurs)
            elif column.meta.type == "booleen":
                assert offered(everything, rule) == ["oui", "non"]
            elif saisie.reference == "intervention":
                assert offered(everything, rule) == list(interventions()) and len(interventions()) == 46
            elif saisie.reference == "indicateur":
                assert offered(everything, rule) == list(indicators())
            elif column.meta.type == "code_departement":
                codes = offered(everything, rule)
                assert {"01", "2A", "2B", "75", "974", "976"} <= set(codes) and "20" not in codes and len(codes) >= 101
            elif column.meta.type == "date":
                assert (rule.get("type"), rule.findtext(f"{MAIN}formula1")) == ("date", "36526")


def test_the_template_of_an_intervention_offers_it_alone_and_its_own_indicators(tmp_path: Path) -> None:
    path = tmp_path / "pvd.xlsx"
    write_template(path, kinds_of("petites_villes_de_demain"), "petites_villes_de_demain")
    rules = list(validations(parts(path)["Actions"]).values())
    by_name = {c.name: rule for c, rule in zip(kinds()["action"].saisies, rules, strict=True)}
    assert offered(path, by_name["intervention_id"]) == ["petites_villes_de_demain"]
    own = offered(path, by_name["indicateur_id"])
    assert "pvd_logements_renoves" in own and own == list(indicators("petites_villes_de_demain"))
    assert "acv_engagements" not in own
    assert any("Petites villes de demain" in (line[0] or "") for line in cells(path, "Mode d'emploi")[:3])


def test_the_same_template_twice_has_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.xlsx", "b.xlsx"):
        write_template(tmp_path / name, ["convention"])
    with zipfile.ZipFile(tmp_path / "a.xlsx") as one, zipfile.ZipFile(tmp_path / "b.xlsx") as two:
        assert {n: one.read(n) for n in one.namelist()} == {n: two.read(n) for n in two.namelist()}


def test_a_template_that_cannot_be_written_raises_the_error_of_the_disk(tmp_path: Path) -> None:
    with pytest.raises(OSError):
        write_template(tmp_path / "absent" / "a.xlsx", ["convention"])


# --- annotated copy ---------------------------------------------------------------------------------------------


def annotated(sheets: list[Sheet], out: Path) -> dict[str, pl.DataFrame]:
    known = Known.load(None, {s.kind: s.frame for s in sheets})
    by_kind = {s.kind: s.frame for s in sheets}
    found = {kind: check(kind, by_kind[kind], known).anomalies for kind in kinds() if kind in by_kind}
    write_annotated(out, sheets, found)
    return found


def test_the_annotated_copy_shows_what_was_typed_where_it_was_typed_wrong_cells_in_red_with_a_comment(tmp_path: Path) -> None:
    rows = [row("convention"), row("convention", convention_id="08-2", statut="Signee", date_fin="31/02/2026")]
    sheets = read(workbook(tmp_path / "a.xlsx", {"convention": rows, "formation": []}, above=2))
    annotated(sheets, tmp_path / "b.xlsx")
    assert fastexcel.read_excel(tmp_path / "b.xlsx").sheet_names == ["Anomalies", "Conventions", "Formations", "Listes"]
    again = read(tmp_path / "b.xlsx")
    assert [(s.kind, s.ligne_entete) for s in again] == [("convention", 3), ("formation", 3)]
    assert again[0].frame.rows() == sheets[0].frame.rows()
    sheet, formats = parts(tmp_path / "b.xlsx")["Conventions"], styles(tmp_path / "b.xlsx")
    with zipfile.ZipFile(tmp_path / "b.xlsx") as archive:
        fills = list(ET.fromstring(archive.read("xl/styles.xml")).find(f"{MAIN}fills"))
        comments = "".join(archive.read(n).decode() for n in archive.namelist() if "comments" in n)

    def red(cell: ET.Element) -> bool:
        fill = fills[int(formats[int(cell.get("s"))].get("fillId"))]
        return "FFFFC7CE" in ET.tostring(fill).decode()

    assert [c.get("r") for c in sheet.iter(f"{MAIN}c") if red(c)] == ["H5", "I5"]
    assert re.findall(r'<comment ref="([A-Z]+[0-9]+)"', comments) == ["H5", "I5"]
    assert "écrire « signée »" in comments and "Valeur hors de la liste" in comments


def test_the_first_sheet_lists_each_anomaly_with_its_cell_its_reason_and_its_remedy(tmp_path: Path) -> None:
    sheets = read(workbook(tmp_path / "a.xlsx", {"convention": [row("convention", statut="Signee", departement_code="8")]}))
    annotated(sheets, tmp_path / "b.xlsx")
    lines = cells(tmp_path / "b.xlsx", "Anomalies")
    assert lines[0][0] == "2 anomalies à corriger"
    assert lines[3] == ("Feuille", "Ligne", "Colonne", "Cellule", "Valeur", "Ce qui ne va pas", "Comment corriger")
    assert lines[4][:5] == ("Conventions", "2", "Code du département", "C2", "8")
    assert lines[5][:5] == ("Conventions", "2", "Statut", "I2", "Signee") and lines[5][6] == "écrire « signée »"


def test_what_would_run_as_a_formula_or_a_link_is_written_as_a_text(tmp_path: Path) -> None:
    bad = "=HYPERLINK(\"http://exemple.fr\")"
    rows = [row("convention", intitule=bad, referent_nom="@SUM(1)", signataires="https://exemple.fr", statut="+1")]
    sheets = read(workbook(tmp_path / "a.xlsx", {"convention": rows}))
    annotated(sheets, tmp_path / "b.xlsx")
    with zipfile.ZipFile(tmp_path / "b.xlsx") as archive:
        xml = "".join(archive.read(n).decode() for n in archive.namelist() if n.startswith("xl/worksheets/"))
    assert not re.search(r"<f[ >]", xml) and "<hyperlink" not in xml
    assert read(tmp_path / "b.xlsx")[0].frame["intitule"].to_list() == [bad]


def test_columns_that_no_layout_knows_and_columns_that_lacked_are_in_the_copy(tmp_path: Path) -> None:
    content = text("convention", [row("convention", statut="faux")]).replace("Date de fin", "Mon avis")
    (tmp_path / "a.csv").write_text(content, encoding="utf-8")
    sheets = read(tmp_path / "a.csv")
    annotated(sheets, tmp_path / "b.xlsx")
    heads, values = cells(tmp_path / "b.xlsx", "Conventions")
    assert heads[7] == "Mon avis" and values[7] == "2026-03-31"
    assert heads[-1] == "Date de fin" and values[-1] is None


def test_mended_in_the_copy_a_file_passes(tmp_path: Path) -> None:
    sheets = read(workbook(tmp_path / "a.xlsx", {"convention": [*conventions(3), row("convention", statut="faux", date_fin="31/02/2026")]}))
    annotated(sheets, tmp_path / "b.xlsx")
    saved(tmp_path / "b.xlsx", tmp_path / "c.xlsx", {("Conventions", "I5"): "signée", ("Conventions", "H5"): dt.date(2026, 2, 28)})
    found = annotated(read(tmp_path / "c.xlsx"), tmp_path / "d.xlsx")
    assert found["convention"].height == 0
    assert cells(tmp_path / "d.xlsx", "Anomalies")[0][0] == "0 anomalie à corriger"


def test_a_line_that_could_not_be_cut_stands_whole_in_its_first_cell(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(text("convention", [row("convention")]) + "08-2;trop;court\r\n", encoding="utf-8")
    annotated(read(tmp_path / "a.csv"), tmp_path / "b.xlsx")
    assert cells(tmp_path / "b.xlsx", "Conventions")[2][0] == "08-2;trop;court"
    assert cells(tmp_path / "b.xlsx", "Anomalies")[4][2] == "toute la ligne"


def test_rows_of_a_connector_with_numbers_of_their_own_are_shown_one_under_the_other(tmp_path: Path) -> None:
    table = frame("incubation", [row("incubation", coconstruit="?"), row("incubation", programme_id="P2")]).drop("parties_prenantes")
    table = table.with_columns(_ligne=pl.Series([9_000_000_000, 3_000_000]))
    annotated([Sheet("incubation", "incubation", table, [])], tmp_path / "b.xlsx")
    shown = cells(tmp_path / "b.xlsx", "Incubations de programmes")
    assert [line[0] for line in shown] == ["Identifiant du programme", "P2", "PVD-2020"]
    assert cells(tmp_path / "b.xlsx", "Anomalies")[4][1:4] == ("9000000000", "Co-construit", "F3")


def test_a_file_too_large_to_be_copied_gives_an_extract_that_is_refused_if_sent_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workbooks, "CELLULES_MAX", 1000)
    monkeypatch.setattr(workbooks, "EXTRAIT_MAX", 5)
    monkeypatch.setattr(workbooks, "ANOMALIES_MAX", 7)
    wrong = [row("convention", convention_id=f"08-F-{n}", statut="faux") for n in range(10)]
    sheets = read(workbook(tmp_path / "a.xlsx", {"convention": [*conventions(60), *wrong]}))
    annotated(sheets, tmp_path / "b.xlsx")
    assert fastexcel.read_excel(tmp_path / "b.xlsx").sheet_names == ["Anomalies", "Extrait Conventions", "Listes"]
    assert [line[0] for line in cells(tmp_path / "b.xlsx", "Extrait Conventions")[1:]] == [f"08-F-{n}" for n in range(5)]
    listed = cells(tmp_path / "b.xlsx", "Anomalies")
    assert "Corriger le fichier d'origine" in listed[1][0]
    assert len(listed) == 4 + 7 + 1 and listed[-1][0] == "… et 3 autres, non listées ici"
    assert listed[4][1] == "62" and listed[4][3] == "I2"
    with pytest.raises(RecordError, match="n'est qu'un extrait"):
        read(tmp_path / "b.xlsx")
