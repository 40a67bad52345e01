"""Exports of a small release whose cells are what spreadsheets stumble on: each form gives them back as they are, or refuses."""

from __future__ import annotations

import datetime as dt
import json
import zipfile
from pathlib import Path

import duckdb
import polars as pl
import pytest

from orchestration import export, guarded

LONG = "é" * (export.CELLULE_MAX + 1)
ROWS = {
    "code": ["01001", "2A004", "1E5", None],
    "texte": ["=1+1", " deux  espaces & <b>\ttab", "l'une ;\nl'autre \"citée\"", "-2+3"],
    "nombre": [-1.5, float("nan"), float("inf"), None],
    "entier": [7, 2**60, -(2**60), None],
    "jour": [dt.date(2020, 2, 1), None, dt.date(1999, 12, 31), dt.date(2024, 2, 29)],
    "vrai": [True, False, None, True],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A release of two tables, with the files that an export reads beside them."""
    release = tmp_path / "demo-2026-01-01-1"
    (release / "parquet").mkdir(parents=True)
    tables = {
        "cellules": pl.DataFrame(ROWS, schema_overrides={"entier": pl.Int64}),
        "longue": pl.DataFrame({"texte": ["court", LONG]}),
        "dim_source": pl.DataFrame({n: [f"{n} {i}" for i in range(2)] for n in ("source_id", "titre", "producteur", "licence", "citation", "page")}),
    }
    with duckdb.connect(str(release / "dernier_kilometre.duckdb")) as con:
        for name, frame in tables.items():
            frame.write_parquet(path := release / "parquet" / f"{name}.parquet")
            con.execute(f"create table {name} as select * from read_parquet('{path}')")
    dictionary = {
        name: {"description": f"Table {name}.", "cle": [frame.columns[0]], "sources": ["source_id 1"],
               "colonnes": [{"nom": c, "type": "varchar", "unite": None, "description": f"=Colonne {c}", "origine": None} for c in frame.columns]}
        for name, frame in tables.items()
    }  # fmt: skip
    package = {
        "id": release.name, "title": "Essai", "description": "Version publique.", "created": "2026-01-01T00:00:00+00:00",
        "keywords": ["ANCT", "données de démonstration"], "licenses": [],
    }  # fmt: skip
    (release / "dictionnaire.json").write_text(json.dumps({"tables": dictionary, "sources": {}}), encoding="utf-8")
    (release / "datapackage.json").write_text(json.dumps(package), encoding="utf-8")
    return release


def write(folder: Path, table: str, form: str, where: str | None = None, french: bool = False) -> Path:
    out = folder.parent / f"sortie.{form}"
    with guarded.opened(folder, 60, 200) as reader:
        rows, files = export.export(reader, folder, table, form, out, where, french, dt.date(2026, 1, 2))
    assert all(path.is_file() for path in files) and rows == pl.read_parquet(folder / "parquet" / f"{table}.parquet").height
    return out


def sheet(path: Path, rank: int = 0) -> pl.DataFrame:
    import fastexcel

    return fastexcel.read_excel(path).load_sheet(rank, dtypes="string").to_polars()


@pytest.mark.parametrize("form", ["xlsx", "ods"])
def test_a_workbook_holds_text_as_text_and_numbers_as_numbers(form: str, folder: Path) -> None:
    import fastexcel

    path = write(folder, "cellules", form)
    found = sheet(path)
    assert found["code"].to_list() == ROWS["code"]
    # The reader used here leaves out the element that stands for a tab.
    read = [text.replace("\t", "" if form == "ods" else "\t") for text in ROWS["texte"]]
    assert found["texte"].to_list() == read, "une formule, des espaces, des signes d'XML, un saut de ligne"
    assert found["entier"].to_list() == ["7", str(2**60), str(-(2**60)), None], "un tableur arrondirait les deux du milieu"
    assert [v and v.lower() for v in found["nombre"]] == ["-1.5", "nan", "inf", None]
    typed = fastexcel.read_excel(path).load_sheet(0, dtypes={"jour": "date"}).to_polars()
    assert typed["jour"].to_list() == ROWS["jour"] and typed["vrai"].to_list() == ROWS["vrai"]
    with zipfile.ZipFile(path) as archive:
        content = "".join(archive.read(name).decode() for name in archive.namelist() if name.endswith(".xml"))
    assert "<f>" not in content and "table:formula" not in content and "<hyperlink " not in content
    assert form == "xlsx" or "&lt;b&gt;<text:tab/>tab" in content
    assert sheet(path, 1)["definition"].to_list() == [f"=Colonne {c}" for c in ROWS]
    assert fastexcel.read_excel(path).sheet_names[0] == "Données de démonstration"
    assert dict(sheet(path, 2).rows())["Exporté le"] == "2026-01-02"


@pytest.mark.parametrize("french", [False, True])
def test_a_csv_runs_nothing_and_keeps_every_value(french: bool, folder: Path) -> None:
    path = write(folder, "cellules", "csv", french=french)
    lines = path.read_bytes().decode("utf-8-sig").replace("l'une ;\nl'autre", "l'une ; l'autre").splitlines()
    if french:
        assert lines[1:] == [
            "=\"01001\";'=1+1;-1,5;7;2020-02-01;VRAI",
            f"2A004; deux  espaces & <b>\ttab;NaN;{2**60};;FAUX",
            f'="1E5";"l\'une ; l\'autre ""citée""";inf;-{2**60};1999-12-31;',
            ";'-2+3;;;2024-02-29;VRAI",
        ]
    else:
        found = pl.read_csv(path, infer_schema=False)
        assert found["code"].to_list() == ROWS["code"] and found["texte"].to_list() == ["'=1+1", *ROWS["texte"][1:3], "'-2+3"]
        assert found["jour"].to_list() == ["2020-02-01", None, "1999-12-31", "2024-02-29"] and found["nombre"][0] == "-1.5"
    told = pl.read_csv(path.with_name("sortie_dictionnaire.csv"), separator=";" if french else ",", infer_schema=False)
    assert told.filter(rubrique="Colonne")["texte"].to_list() == [f"'=Colonne {c}" for c in ROWS]
    assert "aucune de ces valeurs n'est réelle" in told.filter(nom="Mention")["texte"][0]
    assert told.filter(rubrique="Source")["nom"].to_list() == ["source_id 1"], "celles de la table, pas les autres"


def test_a_parquet_file_is_the_table_itself(folder: Path) -> None:
    path = write(folder, "cellules", "parquet")
    assert pl.read_parquet(path).equals(pl.read_parquet(folder / "parquet" / "cellules.parquet"), null_equal=True)
    told = json.loads(pl.read_parquet_metadata(path)["dernier_kilometre"])
    assert told["a_propos"]["Publication"] == folder.name and "réelle" in told["a_propos"]["Mention"]


def test_a_cell_that_excel_would_cut_is_refused_and_other_forms_take_it(folder: Path) -> None:
    with pytest.raises(export.ExportError, match=r"la ligne 2 a une cellule de 32768 caractères, Excel n'en garde que 32767"):
        write(folder, "longue", "xlsx")
    assert [p.name for p in folder.parent.iterdir()] == [folder.name], "rien ne reste d'un fichier refusé"
    assert sheet(write(folder, "longue", "ods"))["texte"].to_list() == ["court", LONG]


def test_a_condition_chooses_the_rows_and_no_row_is_a_file_all_the_same(folder: Path) -> None:
    for form in export.FORMATS:
        out = folder.parent / f"vide.{form}"
        with guarded.opened(folder, 60, 200) as reader:
            assert export.export(reader, folder, "cellules", form, out, "vrai and jour > date '2025-01-01'")[0] == 0
        found = pl.read_parquet(out) if form == "parquet" else pl.read_csv(out) if form == "csv" else sheet(out)
        assert found.columns == list(ROWS) and found.is_empty()


def test_a_release_without_a_dictionary_is_not_exported(folder: Path) -> None:
    (folder / "dictionnaire.json").unlink()
    with guarded.opened(folder, 60, 200) as reader, pytest.raises(export.ExportError, match="n'a pas de dictionnaire lisible"):
        export.export(reader, folder, "cellules", "csv", folder.parent / "a.csv")
