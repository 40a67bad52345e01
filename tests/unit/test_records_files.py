"""Files that people send, in every accepted format and in many bad states."""

from __future__ import annotations

import zipfile
from pathlib import Path

import polars as pl
import pytest

from ingestion.records.files import RecordError, letter, read
from ingestion.records.layout import labels
from tests.records_samples import frame, ods, row, text, workbook

ROWS = [row("convention"), row("convention", convention_id="08-PVD-002", intitule="Été ; « à, l'œuvre »", statut="en préparation")]


def expected() -> list[tuple[object, ...]]:
    return frame("convention", ROWS).rows()


def refusal(path: Path) -> str:
    with pytest.raises(RecordError) as error:
        read(path)
    return str(error.value)


def written(path: Path, content: str | bytes, encoding: str = "utf-8") -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
    return path


# --- the same rows in every format ------------------------------------------------------------------------------


@pytest.mark.parametrize("separator", [";", ",", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "latin-1"])
@pytest.mark.parametrize("names", [False, True])
def test_a_csv_reads_the_same_in_every_separator_and_encoding(tmp_path: Path, separator: str, encoding: str, names: bool) -> None:
    content = text("convention", ROWS, separator, names)
    if encoding == "latin-1":
        content = content.replace("œ", "oe")
    (sheet,) = read(written(tmp_path / "envoi.csv", content, encoding))
    assert (sheet.kind, sheet.problems) == ("convention", [])
    wanted = expected() if encoding != "latin-1" else [tuple(v.replace("œ", "oe") if isinstance(v, str) else v for v in r) for r in expected()]
    assert sheet.frame.rows() == wanted


def test_a_workbook_an_ods_and_a_parquet_read_as_the_csv_does(tmp_path: Path) -> None:
    names = list(labels("convention"))
    typed = pl.DataFrame(frame("convention", ROWS)).drop("_ligne").with_columns(
        pl.col("date_signature").str.to_date(), pl.col("signataires_nb").cast(pl.Int64), pl.col("statut").cast(pl.Categorical),
        chef_de_projet_en_poste=pl.col("chef_de_projet_en_poste") == "oui",
    )  # fmt: skip
    typed.rename(labels("convention")).write_parquet(tmp_path / "a.parquet")
    for path in (
        workbook(tmp_path / "a.xlsx", {"convention": ROWS}), ods(tmp_path / "a.ods", "convention", ROWS), tmp_path / "a.parquet",
    ):  # fmt: skip
        (sheet,) = read(path)
        assert sheet.frame.rows() == expected(), path.name
        assert sheet.places == {name: place for place, name in enumerate(names)}


def test_a_workbook_is_known_by_its_content_whatever_its_extension(tmp_path: Path) -> None:
    path = workbook(tmp_path / "a.xlsx", {"convention": ROWS}).rename(tmp_path / "a.csv")
    assert read(path)[0].frame.rows() == expected()
    assert read(ods(tmp_path / "b.ods", "convention", ROWS).rename(tmp_path / "b.xlsx"))[0].frame.rows() == expected()


def test_dates_numbers_and_booleans_of_a_spreadsheet_come_as_a_person_would_write_them(tmp_path: Path) -> None:
    import datetime as dt

    rows = [row("convention", date_signature=dt.date(2021, 3, 15), signataires_nb=4, chef_de_projet_en_poste=True)]
    values = read(workbook(tmp_path / "a.xlsx", {"convention": rows}))[0].frame.row(0, named=True)
    assert values["date_signature"].startswith("2021-03-15")
    assert (values["signataires_nb"], values["chef_de_projet_en_poste"]) == ("4", "true")


def test_several_kinds_are_found_in_one_workbook_by_name_or_by_columns(tmp_path: Path) -> None:
    tables = {"convention": ROWS, "action": [row("action")], "formation": []}
    sheets = read(workbook(tmp_path / "a.xlsx", tables, {"action": "Feuil2", "formation": "FORMATIONS"}))
    assert [(s.kind, s.name, s.frame.height) for s in sheets] == [("convention", "Conventions", 2), ("action", "Feuil2", 1), ("formation", "FORMATIONS", 0)]


def test_a_csv_names_its_kind_by_its_columns_and_by_its_name_when_columns_leave_a_doubt(tmp_path: Path) -> None:
    assert read(written(tmp_path / "convention 08.csv", text("convention_operateur", [row("convention_operateur")])))[0].kind == "convention_operateur"
    message = refusal(written(tmp_path / "formations-2024.csv", "Code du département;Intervention\n08;formation_elus\n"))
    assert "pour « Formations »" in message and "« Identifiant de la session »" in message


# --- what people do to a table ----------------------------------------------------------------------------------


def test_titles_above_the_header_blank_lines_and_any_order_of_columns_are_understood(tmp_path: Path) -> None:
    names = list(reversed(labels("convention").items()))
    lines = ["Conventions du département;;", "", ";".join(label.upper() for _, label in names)]
    lines += ["", ";".join(str(ROWS[0].get(name) or "") for name, _ in names), ";" * (len(names) - 1)]
    lines += [";".join(str(ROWS[1].get(name) or "").replace(";", ",") for name, _ in names)]
    (sheet,) = read(written(tmp_path / "a.csv", "\n".join(lines) + "\n"))
    assert sheet.ligne_entete == 3
    assert sheet.frame["convention_id"].to_list() == ["08-PVD-001", "08-PVD-002"]
    book = workbook(tmp_path / "a.xlsx", {"convention": ROWS}, above=4)
    (sheet,) = read(book)
    assert (sheet.ligne_entete, sheet.frame["_ligne"].to_list()) == (5, [6, 7])


def test_a_column_that_no_layout_knows_is_ignored_aloud_with_the_name_it_may_be_meant_for(tmp_path: Path) -> None:
    content = text("convention", ROWS[:1]).replace("Date de fin", "Date de la fin").replace("Intitulé", "Mon avis")
    (sheet,) = read(written(tmp_path / "a.csv", content))
    problems = " | ".join(sheet.problems)
    assert "« Date de la fin » n'est pas du modèle, elle est ignorée (est-ce « Date de fin » ?)" in problems
    assert "« Mon avis » n'est pas du modèle" in problems
    assert sheet.frame["date_fin"].to_list() == [None]
    assert {name for name, _ in sheet.autres.values()} == {"Date de la fin", "Mon avis"}


def test_an_obligatory_column_that_is_absent_or_twice_there_stops_the_file_with_its_name(tmp_path: Path) -> None:
    lost = refusal(written(tmp_path / "a.csv", text("convention", ROWS).replace("Statut", "Statu")))
    assert "colonne obligatoire absente pour « Conventions » : « Statut » (est-ce « Statu » ?)" in lost
    assert "dk records template convention" in lost
    twice = refusal(written(tmp_path / "b.csv", text("convention", ROWS).replace("Date de fin", "Statut")))
    assert "« Statut » est écrite 2 fois" in twice


def test_two_sheets_of_one_kind_and_sheets_of_no_kind_are_told_apart(tmp_path: Path) -> None:
    import xlsxwriter

    path = tmp_path / "a.xlsx"
    with xlsxwriter.Workbook(path) as book:
        for name in ("Nord", "Sud"):
            sheet = book.add_worksheet(name)
            sheet.write_row(0, 0, labels("incubation").values())
    assert "plusieurs feuilles du même type (« Incubations de programmes »)" in refusal(path)
    with xlsxwriter.Workbook(path) as book:
        book.add_worksheet("Notes").write_row(0, 0, ["Penser à", "rappeler"])
        book.add_worksheet("Nord").write_row(0, 0, labels("incubation").values())
        book.add_worksheet("Vide")
    (sheet,) = read(path)
    assert sheet.problems == ["feuille « Notes » sans en-tête de modèle, ignorée"]
    with xlsxwriter.Workbook(path) as book:
        book.add_worksheet("Notes").write_row(0, 0, ["Penser à", "rappeler"])
    assert "aucune feuille ne suit un modèle de relevé (feuilles : Notes)" in refusal(path)


# --- formulas ---------------------------------------------------------------------------------------------------


def test_a_formula_is_read_as_its_stored_value_and_one_that_failed_is_not_read_as_empty(tmp_path: Path) -> None:
    import xlsxwriter

    path = tmp_path / "a.xlsx"
    with xlsxwriter.Workbook(path) as book:
        sheet = book.add_worksheet("Incubations de programmes")
        sheet.write_row(0, 0, labels("incubation").values())
        sheet.write_row(1, 0, ["P1", None, "08"])
        sheet.write_formula("D2", "=DATE(2020,2,10)", None, "2020-02-10")
        sheet.write_formula("E2", "=NA()", None, "#N/A")
        sheet.write_formula("F2", '=IF(1=1,"oui","non")', None, "oui")
        sheet.write_formula("G2", "=1+1", None, 40)
        sheet.write_formula("H2", '=""', None, "")
        sheet.write_row(2, 0, ["P2", None, "08", "2020-02-10", "", "non"])
    values = read(path)[0].frame.row(0, named=True)
    assert (values["date_lancement"], values["coconstruit"], values["citoyens_associes"]) == ("2020-02-10", "oui", "40")
    assert values["date_deliberation_ca"] == "#N/A"
    assert values["parties_prenantes"] in (None, "")


def without_stored_values(path: Path, out: Path) -> Path:
    """The workbook as a library writes it that computes nothing: formulas without values."""
    import re

    with zipfile.ZipFile(path) as source, zipfile.ZipFile(out, "w") as target:
        for item in source.infolist():
            data = source.read(item)
            if item.filename == "xl/worksheets/sheet1.xml":
                data = re.sub(rb"(</f>)<v>[^<]*</v>", rb"\1", data)
            target.writestr(item, data)
    return out


def test_a_formula_without_a_stored_value_is_an_error_and_not_an_empty_cell(tmp_path: Path) -> None:
    import xlsxwriter

    path = tmp_path / "a.xlsx"
    with xlsxwriter.Workbook(path) as book:
        sheet = book.add_worksheet("Incubations de programmes")
        sheet.write_row(0, 0, labels("incubation").values())
        for line in range(1, 3000):
            sheet.write_row(line, 0, [f"P{line}", None, "08", "2020-02-10", None, "oui"])
            sheet.write_formula(line, 6, "=20+20", None, 40)
    bare = read(without_stored_values(path, tmp_path / "b.xlsx"))[0].frame
    assert bare["citoyens_associes"].unique().to_list() == ["#FORMULE!"]
    assert read(path)[0].frame["citoyens_associes"].unique().to_list() == ["40"]


def test_an_error_that_libreoffice_stored_as_an_empty_text_is_found(tmp_path: Path) -> None:
    wrong = [row("incubation"), row("incubation", programme_id="P2", date_deliberation_ca="#N/A")]
    path, out = ods(tmp_path / "a.ods", "incubation", wrong), tmp_path / "b.ods"
    plain = b'<table:table-cell office:value-type="string"><text:p>#N/A'
    stored = (
        b'<table:table-cell xmlns:calcext="urn:org:documentfoundation:names:experimental:calc:xmlns:calcext:1.0" '
        b'office:value-type="string" office:string-value="" calcext:value-type="error"><text:p>#N/A'
    )
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(out, "w") as target:
        for item in source.infolist():
            data = source.read(item)
            assert item.filename != "content.xml" or plain in data
            target.writestr(item, data.replace(plain, stored))
    (sheet,) = read(out)
    assert sheet.frame["date_deliberation_ca"].to_list() == ["2020-09-24", "#N/A"]


# --- bad states -------------------------------------------------------------------------------------------------


def test_half_a_file_is_refused_whatever_its_format(tmp_path: Path) -> None:
    whole = workbook(tmp_path / "a.xlsx", {"convention": ROWS * 200})
    half = written(tmp_path / "half.xlsx", whole.read_bytes()[: whole.stat().st_size // 2])
    assert "tronqué" in refusal(half)
    frame("convention", ROWS * 200).write_parquet(tmp_path / "a.parquet")
    data = (tmp_path / "a.parquet").read_bytes()
    assert "Parquet tronqué" in refusal(written(tmp_path / "half.parquet", data[: len(data) // 2]))


def test_half_a_csv_keeps_its_whole_lines_and_gives_the_cut_one_back(tmp_path: Path) -> None:
    content = text("convention", ROWS)
    (sheet,) = read(written(tmp_path / "a.csv", content[: content.index("08-PVD-002") + 30]))
    assert sheet.frame["convention_id"].to_list() == ["08-PVD-001", None]
    torn = sheet.frame.row(1, named=True)
    assert torn["_ligne"] == 3 and torn["_brut"].startswith("08-PVD-002;")
    assert "incomplète" in torn["_defaut"]


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("vide.csv", b"", "le fichier est vide"),
        ("blanc.csv", b"\xef\xbb\xbf \r\n", "le fichier est vide"),
        ("page.csv", b"<!DOCTYPE html><html>", "page web"),
        ("rapport.pdf", b"%PDF-1.7 ...", "PDF"),
        ("ancien.xls", b"\xd0\xcf\x11\xe0" + b"\0" * 600, "mot de passe"),
        ("unicode.csv", "Statut;Intervention\n".encode("utf-16"), "UTF-16"),
        ("dos.csv", text("convention", ROWS[:1]).encode("cp1252") + b"\x81\x8d", "encodage inconnu"),
        ("bom.csv", b"\xef\xbb\xbf" + text("convention", ROWS[:1]).encode("cp1252"), "encodage inconnu"),
        ("image.csv", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "ni du texte ni un classeur"),
        ("autre.csv", b"a;b;c\n1;2;3\n", "l'en-tête n'est celui d'aucun type de relevé"),
    ],
)  # fmt: skip
def test_what_is_no_table_of_records_is_refused_with_its_reason(tmp_path: Path, name: str, content: bytes, told: str) -> None:
    message = refusal(written(tmp_path / name, content))
    assert told in message
    assert "Traceback" not in message and str(tmp_path) not in message


def test_archives_that_are_no_workbook_and_files_that_are_not_there_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.xlsx", "w") as archive:
        archive.writestr("lisezmoi.txt", "rien")
    assert "ni un classeur .xlsx ni un classeur .ods" in refusal(tmp_path / "a.xlsx")
    assert "n'existe pas" in refusal(tmp_path / "absent.xlsx")


def test_a_zip_bomb_is_refused_before_it_unfolds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ingestion.records import files

    path = workbook(tmp_path / "a.xlsx", {"convention": ROWS * 1000})
    assert path.stat().st_size < 200_000
    monkeypatch.setattr(files, "TAILLE_MAX_MO", 0.2)
    assert "se déplie au-delà" in refusal(path)


def test_a_nested_parquet_column_is_refused_by_its_name(tmp_path: Path) -> None:
    table = frame("incubation", [row("incubation")]).drop("_ligne").with_columns(parties_prenantes=pl.lit([["a", "b"]]))
    table.write_parquet(tmp_path / "a.parquet")
    assert "« parties_prenantes »" in refusal(tmp_path / "a.parquet")


def test_columns_have_the_letters_of_a_spreadsheet() -> None:
    assert [letter(n) for n in (0, 25, 26, 51, 52, 701, 702)] == ["A", "Z", "AA", "AZ", "BA", "ZZ", "AAA"]
