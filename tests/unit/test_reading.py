"""The reader, one behaviour per test: small files written here, read by declarations built here.

Codes of communes are real ones, so that their shape is; every figure is a fixture and says nothing of a territory.
"""

from __future__ import annotations

import csv
import datetime as dt
import gzip
import hashlib
import io
import json
import tempfile
import zipfile
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

import ingestion.reading
from ingestion.declarations import Column, ColumnMeta, Format, Live, Livraison, Source, TableMeta
from ingestion.reading import (
    CODE_PATTERNS,
    TABLES,
    Reading,
    ReadingError,
    ReadingInPieces,
    listes_schema,
    mesures_schema,
    read_file,
    read_into,
    rejets_schema,
    table_schema,
)
from ingestion.snapshots import Snapshot

DATA_TYPES = {"entier": "bigint", "nombre": "double", "date": "date", "booleen": "boolean"}
PUBLIE_LE = dt.date(2024, 6, 30)
CSV = Format(type="csv", separateur=";")
JSON = Format(type="json")
PAR_ANNEE = {"niveau": "commune", "code": "code", "periode": "annee"}


def colonne(name: str, kind: str = "texte", **meta: Any) -> Column:
    """A declared column whose name in the file is its own, unless ``origine`` says otherwise (None: not in it)."""
    meta.setdefault("origine", name)
    return Column(
        name=name,
        data_type=DATA_TYPES.get(kind, "varchar"),
        description="colonne d'essai",
        meta=ColumnMeta(type=kind, **meta),
    )


CODE = colonne("code", "code_commune")


def declarer(*columns: Column, livraison: dict[str, Any] | None = None, **meta: Any) -> Source:
    """A source of one delivery; ``meta`` overrides the keys of the table, ``livraison`` those of the delivery."""
    delivery = {"millesime": "2024", "chemin": "essai.csv", "publie_le": PUBLIE_LE, "cog_annee": 2024}
    table = {
        "titre": "Table d'essai",
        "licence": "LO-2.0",
        "citation": "essai",
        "confidentialite": "publique",
        "cadence": "annuelle",
        "regle_millesime": "essai",
        "grain": "une ligne du fichier",
        "cle": ("_ligne",),
        "format": CSV,
        "livraisons": (Livraison(**(delivery | (livraison or {}))),),
    }
    return Source(
        source_id="essai__table",
        groupe="essai",
        nom="table",
        producteur="essai",
        description="essai",
        fichier="essai.yml",
        meta=TableMeta(**(table | meta)),
        columns=columns,
    )


def lire(tmp_path: Path, source: Source, content: str | bytes, *, transport: str = "mirror") -> Reading:
    """What the reader makes of these bytes, given as the (only) delivery of ``source``."""
    raw = content.encode() if isinstance(content, str) else content
    blob = tmp_path / "blob"
    blob.write_bytes(raw)
    livraison = source.meta.livraisons[0]
    snapshot = Snapshot(
        source_id=source.source_id,
        millesime=livraison.millesime,
        chemin=livraison.chemin,
        transport=transport,
        url="https://exemple.fr/essai.csv",
        obtenu_le="2024-07-01T08:00:00+00:00",
        statut_http=200,
        etag=None,
        last_modified=None,
        content_type=None,
        sha256=hashlib.sha256(raw).hexdigest(),
        octets=len(raw),
        licence=source.meta.licence,
        connue_le="2024-06-30",
    )
    try:
        reading = read_file(source, livraison, snapshot, blob)
    except ReadingError as error:
        with pytest.raises(ReadingError) as again:
            par_morceaux(source, livraison, snapshot, blob)
        assert str(again.value) == str(error)
        raise
    frames, facts = par_morceaux(source, livraison, snapshot, blob)
    for name, frame in frames.items():
        whole = getattr(reading, name)
        assert_frame_equal(frame, whole, check_row_order=False)
        if name in ("table", "rejets"):
            # What one record was unfolded into may come in another order, records do not.
            line = "_ligne" if name == "table" else "ligne"
            assert frame[line].is_sorted() or not whole[line].is_sorted()
    assert compte(facts) == compte(reading)
    assert all(facts.part_remplie(n) == reading.part_remplie(n) for n in source.attendus_de(livraison).remplies)
    return reading


def par_morceaux(source: Source, livraison: Livraison, snapshot: Snapshot, blob: Path) -> tuple[dict[str, pl.DataFrame], Any]:
    """What the reader makes of a file that it takes for a large one, two rows at a time."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(ingestion.reading, "ENTIER_MAX_MO", -1)
        patch.setattr(ingestion.reading, "ENTIER_MAX_LIGNES", -1)
        patch.setattr(ingestion.reading, "MORCEAU", 2)
        facts = read_into(source, livraison, snapshot, blob, Path(folder))
        assert isinstance(facts, ReadingInPieces) == (source.meta.format.type in ("csv", "parquet"))
        return {name: pl.read_parquet(Path(folder) / f"{name}.parquet") for name in TABLES}, facts


def colonne_lue(reading: Reading, name: str) -> list[Any]:
    return reading.table[name].to_list()


def motifs(reading: Reading) -> list[tuple[int, str | None, str | None, str]]:
    """Rejects as (line, column, published value, reason)."""
    return reading.rejets.select("ligne", "colonne", "valeur", "motif").rows()


def compte(reading: Reading) -> tuple[int, int, int, int]:
    return reading.lignes_lues, reading.lignes_gardees, reading.lignes_rejetees, reading.lignes_hors_tableau


def classeur(rows: list[list[Any]], feuille: str = "Feuil1") -> bytes:
    """The smallest xlsx that holds these rows (text inline, numbers as numbers, None as no cell)."""
    lines = []
    for number, row in enumerate(rows, 1):
        cells = []
        for rank, value in enumerate(row):
            place = f'r="{chr(65 + rank)}{number}"'
            if isinstance(value, str):
                cells.append(f'<c {place} t="inlineStr"><is><t xml:space="preserve">{escape(value)}</t></is></c>')
            elif value is not None:
                cells.append(f"<c {place}><v>{value}</v></c>")
        lines.append(f'<row r="{number}">{"".join(cells)}</row>')
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    relations = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    package = "http://schemas.openxmlformats.org/package/2006"
    office = "application/vnd.openxmlformats-officedocument.spreadsheetml"
    parts = {
        "[Content_Types].xml": f'<Types xmlns="{package}/content-types">'
        '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        f'<Override PartName="/xl/workbook.xml" ContentType="{office}.sheet.main+xml"/>'
        f'<Override PartName="/xl/worksheets/sheet1.xml" ContentType="{office}.worksheet+xml"/></Types>',
        "_rels/.rels": f'<Relationships xmlns="{package}/relationships">'
        f'<Relationship Id="rId1" Type="{relations}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        "xl/workbook.xml": f'<workbook xmlns="{main}" xmlns:r="{relations}"><sheets>'
        f'<sheet name="{escape(feuille)}" sheetId="1" r:id="rId1"/></sheets></workbook>',
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{package}/relationships">'
        f'<Relationship Id="rId1" Type="{relations}/worksheet" Target="worksheets/sheet1.xml"/></Relationships>',
        "xl/worksheets/sheet1.xml": f'<worksheet xmlns="{main}"><sheetData>{"".join(lines)}</sheetData></worksheet>',
    }
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, text in parts.items():
            archive.writestr(name, '<?xml version="1.0" encoding="UTF-8"?>' + text)
    return packed.getvalue()


# --- codes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("code_commune", "01001"), ("code_commune", "2A004"), ("code_commune", "2B033"), ("code_commune", "97105"),
        ("code_departement", "01"), ("code_departement", "2A"), ("code_departement", "2B"),
        ("code_departement", "971"), ("code_region", "01"), ("code_epci", "200000172"), ("code_qpv", "QP001001"),
        ("code_qpv", "QN00101M"), ("code", "007"), ("texte", "00012"),
    ],
)  # fmt: skip
def test_codes_keep_their_zeros_and_letters(tmp_path, kind, code):
    reading = lire(tmp_path, declarer(colonne("code", kind)), f"code\n{code}\n")
    assert colonne_lue(reading, "code") == [code]
    assert reading.rejets.is_empty()


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("code_commune", "1001"), ("code_commune", "2C004"), ("code_commune", "010011"), ("code_commune", "0100A"),
        ("code_commune", "2a004"), ("code_departement", "1"), ("code_departement", "96"), ("code_departement", "2C"),
        ("code_departement", "2a"), ("code_region", "7"), ("code_region", "2A"), ("code_epci", "20000017"),
        ("code_epci", "2000001720"), ("code_qpv", "QX001001"), ("code_qpv", "QP01001"),
    ],
)  # fmt: skip
def test_malformed_code_is_rejected_with_the_rule_it_breaks(tmp_path, kind, code):
    reading = lire(tmp_path, declarer(colonne("code", kind), colonne("nom")), f"code;nom\n{code};X\n")
    assert reading.table.is_empty()
    assert motifs(reading) == [(2, "code", code, CODE_PATTERNS[kind][1])]
    assert "caractères" in CODE_PATTERNS["code_commune"][1]


def test_codes_that_lost_their_zero_are_completed_only_where_declared(tmp_path):
    source = declarer(colonne("code", "code_commune", completer=5), format=JSON)
    reading = lire(
        tmp_path, source, json.dumps([{"code": 1001}, {"code": "1001"}, {"code": 1001.0}, {"code": "2A004"}])
    )
    assert colonne_lue(reading, "code") == ["01001", "01001", "01001", "2A004"]


def test_code_buried_in_a_text_is_extracted(tmp_path):
    source = declarer(colonne("code", "code_commune", extraire=r"\((\w{5})\)"))
    reading = lire(tmp_path, source, "code\nAngers (49007)\nBastia (2B033)\nAngers sans code\n")
    assert colonne_lue(reading, "code") == ["49007", "2B033"]
    # The reject shows what the producer wrote, not what was left of it.
    assert motifs(reading) == [(4, "code", "Angers sans code", CODE_PATTERNS["code_commune"][1])]


def test_text_without_the_declared_pattern_is_rejected(tmp_path):
    reading = lire(tmp_path, declarer(colonne("annee", extraire=r"(\d{4})")), "annee\nAn 2024\nl'an dernier\n")
    assert colonne_lue(reading, "annee") == ["2024"]
    assert motifs(reading) == [(3, "annee", "l'an dernier", "aucune valeur au motif déclaré dans ce texte")]


def test_several_codes_in_one_cell_give_one_row_each(tmp_path):
    source = declarer(CODE, colonne("nom"), eclatement={"colonne": "code", "motif": r"\((\d\w\d{3})\)"}, cle=("code",))
    text = 'code;nom\n"Angers (49007) ; Trélazé (49353) ; Angers (49007)";A\naucun;B\n;C\nBastia (2B033);D\n'
    reading = lire(tmp_path, source, text)
    assert reading.table.select("code", "nom", "_ligne").rows() == [
        ("49007", "A", 2), ("49353", "A", 2), ("2B033", "D", 5),
    ]  # fmt: skip
    assert motifs(reading) == [
        (3, "code", "aucun", "aucun code dans ce texte"), (4, "code", None, "aucun code dans ce texte"),
    ]  # fmt: skip
    assert compte(reading) == (4, 2, 2, 0)


# --- numbers, dates, booleans ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("nombre", "12,5", 12.5), ("nombre", "-0,25", -0.25), ("nombre", "1 193 700,5", 1193700.5),
        ("entier", "1 193 700", 1193700), ("entier", "1\u00a0193\u00a0700", 1193700),
        ("entier", "1\u202f193\u202f700", 1193700), ("entier", "\u00a042 ", 42), ("entier", "12,0", 12),
    ],
)  # fmt: skip
def test_french_numbers(tmp_path, kind, text, value):
    reading = lire(tmp_path, declarer(colonne("n", kind, decimale=",")), f"n\n{text}\n")
    assert colonne_lue(reading, "n") == [value]


@pytest.mark.parametrize(
    ("kind", "text", "reason"),
    [
        ("nombre", "12,5", "n'est pas un nombre"), ("nombre", "environ 12", "n'est pas un nombre"),
        ("nombre", "inf", "n'est pas un nombre"), ("nombre", "NaN", "n'est pas un nombre"),
        ("entier", "12.5", "n'est pas un nombre entier"), ("entier", "1.2.3", "n'est pas un nombre entier"),
        ("booleen", "peut-être", "n'est ni oui ni non"),
    ],
)  # fmt: skip
def test_cell_of_another_type_rejects_its_row(tmp_path, kind, text, reason):
    reading = lire(tmp_path, declarer(colonne("v", kind), colonne("nom")), f"v;nom\n{text};X\n1;Y\n")
    assert colonne_lue(reading, "nom") == ["Y"]
    assert motifs(reading) == [(2, "v", text, reason)]


def test_yes_and_no(tmp_path):
    reading = lire(tmp_path, declarer(colonne("v", "booleen")), "v\noui\nNon\n1\n0\nVRAI\nfalse\n")
    assert colonne_lue(reading, "v") == [True, False, True, False, True, False]


@pytest.mark.parametrize(
    ("formats", "text", "day"),
    [
        ((), "2018-09-29", dt.date(2018, 9, 29)), (("%d/%m/%Y",), "29/09/2018", dt.date(2018, 9, 29)),
        (("%d-%m-%Y",), "05-12-2024", dt.date(2024, 12, 5)), (("MM/AAAA",), "03/2021", dt.date(2021, 3, 1)),
        (("JJ mois AAAA",), "5 juillet 2018", dt.date(2018, 7, 5)), (("JJ mois AAAA",), "1er août 2018", dt.date(2018, 8, 1)),
        (("JJ mois AAAA",), "29 Février 2020", dt.date(2020, 2, 29)),
        (("JJ mois AAAA",), "12\u00a0decembre 2019", dt.date(2019, 12, 12)),
        (("%Y-%m-%d", "JJ mois AAAA", "%d/%m/%Y"), "31/01/2020", dt.date(2020, 1, 31)),
    ],
)  # fmt: skip
def test_dates_as_declared(tmp_path, formats, text, day):
    reading = lire(tmp_path, declarer(colonne("d", "date", formats_date=formats)), f"d\n{text}\n")
    assert colonne_lue(reading, "d") == [day]


@pytest.mark.parametrize("text", ["2018-02-30", "30/02/2018", "21 sepmtebre 2018", "5 juillet", "13/2021", "2018"])
def test_date_that_is_none_is_rejected(tmp_path, text):
    formats = ("%Y-%m-%d", "JJ mois AAAA", "%d/%m/%Y", "MM/AAAA")
    reading = lire(tmp_path, declarer(colonne("d", "date", formats_date=formats)), f"d\n{text}\n")
    assert motifs(reading) == [(2, "d", text, "n'est pas une date au format déclaré")]


def test_every_french_month_is_known(tmp_path):
    months = [
        "janvier",
        "février",
        "mars",
        "avril",
        "mai",
        "juin",
        "juillet",
        "août",
        "septembre",
        "octobre",
        "novembre",
        "décembre",
    ]
    text = "d\n" + "".join(f"2 {month} 2023\n" for month in months)
    reading = lire(tmp_path, declarer(colonne("d", "date", formats_date=("JJ mois AAAA",))), text)
    assert colonne_lue(reading, "d") == [dt.date(2023, rank, 2) for rank in range(1, 13)]


def test_missing_marks_are_null_and_say_why(tmp_path):
    source = declarer(
        CODE,
        colonne("annee", "entier"),
        colonne("n", "nombre", mesure={"id": "n", "nature": "effectif"}),
        manquants=("", "NA", r"\N"),
        secrets=("s",),
        non_diffuses=("nd",),
        mesures=PAR_ANNEE,
    )
    marks = ["s", "nd", "NA", r"\N", "", "0"]
    text = "code;annee;n\n" + "".join(f"0100{rank};2020;{mark}\n" for rank, mark in enumerate(marks, 1))
    reading = lire(tmp_path, source, text)
    assert colonne_lue(reading, "n") == [None] * 5 + [0.0]
    assert reading.mesures["valeur"].to_list() == [None] * 5 + [0.0]
    assert reading.mesures["statut_valeur"].to_list() == [
        "secret", "non diffusé", "manquant", "manquant", "manquant", "observé",
    ]  # fmt: skip
    assert reading.rejets.is_empty()


@pytest.mark.parametrize(("statut", "label"), [("estime", "estimé"), ("provisoire", "provisoire")])
def test_declared_status_of_a_measure_is_kept(tmp_path, statut, label):
    mesure = {"id": "n", "nature": "taux", "statut": statut}
    source = declarer(CODE, colonne("annee", "entier"), colonne("n", "nombre", mesure=mesure), mesures=PAR_ANNEE)
    assert lire(tmp_path, source, "code;annee;n\n01001;2020;3\n").mesures["statut_valeur"].to_list() == [label]


def test_undeclared_mark_is_an_error_not_a_gap(tmp_path):
    reading = lire(tmp_path, declarer(CODE, colonne("n", "nombre")), "code;n\n01001;s\n")
    assert motifs(reading) == [(2, "n", "s", "n'est pas un nombre")]


def test_values_are_replaced_as_declared(tmp_path):
    reading = lire(tmp_path, declarer(colonne("v", remplacer={"DEP": "departement"})), "v\nDEP\nREG\n")
    assert colonne_lue(reading, "v") == ["departement", "REG"]


# --- layout of the bytes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("header", ["code", '"code"'])
def test_bom_is_not_part_of_the_first_name(tmp_path, header):
    reading = lire(tmp_path, declarer(CODE), b"\xef\xbb\xbf" + f"{header}\n01001\n".encode())
    assert colonne_lue(reading, "code") == ["01001"]


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_latin_1_as_declared(tmp_path, newline):
    source = declarer(colonne("nom", origine="libellé"), format=Format(type="csv", encodage="latin-1"))
    raw = newline.join(["libellé", "Besançon", "Saint-Étienne", ""]).encode("latin-1")
    assert colonne_lue(lire(tmp_path, source, raw), "nom") == ["Besançon", "Saint-Étienne"]


@pytest.mark.parametrize("place", ["header", "row", "far row"])
def test_wrong_encoding_names_the_file_and_the_remedy(tmp_path, place):
    header, rows = ("libellé" if place == "header" else "nom"), ["Ain"] * (20_000 if place == "far row" else 0)
    raw = "\n".join([header, *rows, "Besançon", ""]).encode("latin-1")
    with pytest.raises(
        ReadingError, match=r"essai.csv : n'est pas en utf-8 .*corriger « encodage » dans la déclaration"
    ):
        lire(tmp_path, declarer(colonne("nom", origine=header)), raw)


def test_header_on_line_6_and_lines_numbered_as_in_the_file(tmp_path):
    source = declarer(CODE, colonne("nom"), format=Format(type="csv", separateur=";", ligne_entete=6))
    lines = [
        "Titre",
        "Source ; producteur",
        "",
        '"Mise en ligne"',
        "",
        "code;nom",
        "01001;A",
        "01002",
        "0100X;C",
        "01004;D",
    ]
    reading = lire(tmp_path, source, "\n".join(lines) + "\n")
    assert [lines[number - 1] for number in colonne_lue(reading, "_ligne")] == ["01001;A", "01004;D"]
    assert [lines[number - 1] for number in reading.rejets["ligne"]] == ["01002", "0100X;C"]


def test_990_empty_columns_are_ignored(tmp_path):
    tail = ";" * 990
    reading = lire(tmp_path, declarer(CODE, colonne("nom")), f"code;nom{tail}\n01001;A{tail}\n01002;B{tail}\n")
    assert reading.table.select("code", "nom").rows() == [("01001", "A"), ("01002", "B")]
    assert reading.rejets.is_empty()


def test_spaces_around_names_and_values_do_not_count(tmp_path):
    source = declarer(CODE, colonne("nom", origine="nom de la commune"))
    reading = lire(tmp_path, source, " code ;nom\u00a0de  la\u202fcommune \n 01001\u00a0; A B \n")
    assert reading.table.select("code", "nom").rows() == [("01001", "A B")]


def test_separator_newline_and_quote_inside_quotes(tmp_path):
    reading = lire(tmp_path, declarer(CODE, colonne("nom")), 'code;nom\n01001;"A;B\nC ""D"""\n01002;E\n')
    assert reading.table.select("code", "nom").rows() == [("01001", 'A;B\nC "D"'), ("01002", "E")]


def test_producers_columns_that_nobody_declared_are_dropped(tmp_path):
    reading = lire(tmp_path, declarer(CODE), "téléphone;code\n0102030405;01001\n")
    assert reading.table.columns == list(table_schema(declarer(CODE)))
    assert "0102030405" not in str(reading.table.rows())


# --- JSON, YAML ------------------------------------------------------------------------------------------------


def test_json_wrapped_in_javascript(tmp_path):
    fmt = Format(type="json", dans_texte=True, enregistrements="features.*.properties")
    document = {"features": [{"properties": {"code": "01001"}}, {"properties": {"code": "2A004"}}]}
    reading = lire(tmp_path, declarer(CODE, format=fmt), f"\ufeffvar JS_essai = {json.dumps(document)};\n")
    assert colonne_lue(reading, "code") == ["01001", "2A004"]
    assert colonne_lue(reading, "_ligne") == [1, 2]


def test_json_fields_of_enclosing_records_and_of_nested_objects(tmp_path):
    source = declarer(
        CODE,
        colonne("departement", origine="^dep"),
        colonne("siren", origine="epci.siren"),
        colonne("noms"),
        colonne("ouvert", "booleen"),
        format=Format(type="json", enregistrements="*.communes.*"),
    )
    document = [
        {
            "dep": "01",
            "communes": [{"code": "01001", "epci": {"siren": "200000172"}, "noms": ["A", "B"], "ouvert": True}],
        },
        {"dep": "2A", "communes": [{"code": "2A004", "ouvert": False}]},
    ]
    reading = lire(tmp_path, source, json.dumps(document))
    assert reading.table.select("code", "departement", "siren", "noms", "ouvert").rows() == [
        ("01001", "01", "200000172", "A ; B", True), ("2A004", "2A", None, None, False),
    ]  # fmt: skip


def test_yaml_records(tmp_path):
    source = declarer(CODE, format=Format(type="yaml", enregistrements="communes.*"))
    reading = lire(tmp_path, source, "communes:\n  - code: '01001'\n  - code: 2A004\n")
    assert colonne_lue(reading, "code") == ["01001", "2A004"]


@pytest.mark.parametrize(
    ("fmt", "content", "message"),
    [
        (JSON, '[{"code": "01001"}, {"co', "JSON illisible .* fichier tronqué"),
        (JSON, "<!DOCTYPE html><html></html>", "JSON illisible"),
        (JSON, '[{"code": "Besançon"}]'.encode("latin-1"), "JSON illisible"),
        (JSON, "[]", "aucun enregistrement sous .* revoir « enregistrements »"),
        (JSON, '[{"insee": "01001"}]', "aucune des colonnes déclarées ; le fichier porte insee"),
        (Format(type="json", dans_texte=True), "page introuvable", "aucun objet JSON"),
        (Format(type="json", dans_texte=True), 'var x = {"a": [{"code": "0', "JSON illisible"),
        (Format(type="json", enregistrements="features.*"), '{"records": []}', "aucun enregistrement sous « features"),
        (Format(type="yaml"), "a: [", "YAML illisible"),
        (Format(), "code\n01001\n", "la déclaration ne dit pas le format"),
    ],
)
def test_document_that_is_not_as_declared(tmp_path, fmt, content, message):
    with pytest.raises(ReadingError, match=f"essai.csv : .*{message}"):
        lire(tmp_path, declarer(CODE, format=fmt), content)


def test_a_csv_that_breaks_after_its_first_rows_is_an_error_of_the_file(tmp_path):
    """A lone carriage return, past what is read at once: DuckDB meets it while Polars takes the rows."""
    content = "code;nom\n" + "01001;a\n" * 3000 + "01002;x\ry\n01004;b\n"
    with pytest.raises(ReadingError, match=r"essai.csv : CSV illisible .* ; le redemander au producteur"):
        lire(tmp_path, declarer(CODE, colonne("nom")), content)


# --- Excel -----------------------------------------------------------------------------------------------------


def test_excel_with_notes_below_the_table(tmp_path):
    rows: list[list[Any]] = [
        ["Taux d'essai"], ["Source : essai"], ["Code", "Libellé", "taux"], ["01", "Ain", 5.25], ["2A", "Corse-du-Sud", 7],
        ["999999", "Bout", 1], [None, None, None], ["Champ : France"], ["s : secret", "01"],
    ]  # fmt: skip
    source = declarer(
        colonne("code", "code_departement", origine="Code"),
        colonne("taux", "nombre"),
        format=Format(type="xlsx", feuille="Département", ligne_entete=3, arret_si_vide="Code"),
    )
    reading = lire(tmp_path, source, classeur(rows, "Département"))
    assert reading.table.select("code", "taux", "_ligne").rows() == [("01", 5.25, 4), ("2A", 7.0, 5)]
    assert [(line, value) for line, _, value, _ in motifs(reading)] == [(6, "999999")]
    assert compte(reading) == (6, 2, 1, 3)


@pytest.mark.parametrize("above", [[[None]], [[None], ["Titre"], [None]]])
def test_excel_rows_are_numbered_as_in_the_sheet(tmp_path, above):
    rows = [*above, ["code"], ["01001"], ["0100X"], ["01002"]]
    header = len(above) + 1
    reading = lire(tmp_path, declarer(CODE, format=Format(type="xlsx", ligne_entete=header)), classeur(rows))
    assert reading.table.select("code", "_ligne").rows() == [("01001", header + 1), ("01002", header + 3)]
    assert reading.rejets["ligne"].to_list() == [header + 2]


def test_excel_table_without_notes_is_read_to_its_end(tmp_path):
    source = declarer(colonne("code", "code_departement"), format=Format(type="xlsx", arret_si_vide="code"))
    reading = lire(tmp_path, source, classeur([["code"], ["01"], ["2A"]]))
    assert colonne_lue(reading, "code") == ["01", "2A"]
    assert reading.lignes_hors_tableau == 0


@pytest.mark.parametrize(
    ("fmt", "content", "message"),
    [
        (
            Format(type="xlsx", feuille="COM"),
            classeur([["code"], ["01001"]]),
            "pas de feuille 'COM' mais Feuil1 ; corriger",
        ),
        (Format(type="xlsx", ligne_entete=4), classeur([["code"], ["01001"]]), "pas d'en-tête en ligne 4"),
        (
            Format(type="xlsx", arret_si_vide="Code"),
            classeur([["code"], ["01001"]]),
            "la colonne d'arrêt « Code » manque",
        ),
        (Format(type="xlsx"), classeur([["code"], ["01001"]])[:300], "classeur illisible"),
        (Format(type="xls"), b"<html>page</html>", "classeur illisible"),
    ],
)
def test_workbook_that_is_not_as_declared(tmp_path, fmt, content, message):
    with pytest.raises(ReadingError, match=f"essai.csv : .*{message}"):
        lire(tmp_path, declarer(CODE, format=fmt), content)


# --- archives --------------------------------------------------------------------------------------------------


def archive_zip(**members: str) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in members.items():
            archive.writestr(f"{name}.csv", text)
    return packed.getvalue()


def test_gzip_is_unpacked(tmp_path):
    assert colonne_lue(lire(tmp_path, declarer(CODE), gzip.compress(b"code\n01001\n")), "code") == ["01001"]


def test_zip_member_is_read(tmp_path):
    source = declarer(CODE, format=Format(type="csv", membre="bon.csv"))
    assert colonne_lue(lire(tmp_path, source, archive_zip(autre="x\n1\n", bon="code\n01001\n")), "code") == ["01001"]


def test_zip_without_the_declared_member(tmp_path):
    source = declarer(CODE, format=Format(type="csv", membre="bon.csv"))
    with pytest.raises(ReadingError, match=r"ne contient pas 'bon.csv' mais autre.csv ; corriger « membre »"):
        lire(tmp_path, source, archive_zip(autre="code\n01001\n"))


MANY = "code\n" + "".join(f"{number:05}\n" for number in range(1000, 3000))


@pytest.mark.parametrize("damage", ["truncated", "altered", "checksum"])
def test_damaged_gzip(tmp_path, damage):
    raw = bytearray(gzip.compress(MANY.encode(), mtime=0))
    if damage == "truncated":
        raw = raw[: len(raw) // 2]
    elif damage == "altered":
        raw[10:200] = b"\xff" * 190
    else:
        raw[-8] ^= 0xFF
    with pytest.raises(ReadingError, match=r"essai.csv : archive tronquée ou abîmée .*la redemander au producteur"):
        lire(tmp_path, declarer(CODE), bytes(raw))


@pytest.mark.parametrize("damage", ["truncated", "altered"])
def test_damaged_zip(tmp_path, damage):
    raw = bytearray(archive_zip(bon=MANY))
    if damage == "truncated":
        raw = raw[: len(raw) // 2]
    else:
        raw[100:300] = b"\xff" * 200
    source = declarer(CODE, format=Format(type="csv", membre="bon.csv"))
    with pytest.raises(ReadingError, match=r"essai.csv : archive tronquée ou abîmée .*la redemander au producteur"):
        lire(tmp_path, source, bytes(raw))


@pytest.mark.parametrize("packed", ["gzip", "zip", "plain"])
def test_size_beyond_the_declared_limit(tmp_path, packed):
    text = "code\n" + "0" * 2_500_000
    content = {"gzip": gzip.compress(text.encode()), "zip": archive_zip(bon=text), "plain": text.encode()}[packed]
    assert packed == "plain" or len(content) < 10_000
    fmt = Format(type="csv", taille_max_mo=2, membre="bon.csv" if packed == "zip" else None)
    with pytest.raises(ReadingError, match=r"essai.csv : .* au-delà de 2 Mo.*relever taille_max_mo"):
        lire(tmp_path, declarer(CODE, format=fmt), content)


# --- damaged tables --------------------------------------------------------------------------------------------


def test_rows_of_wrong_length_are_rejected_at_their_line(tmp_path):
    lines = ["code;nom", "01001;A", "01002", "01003;C", "01004;D;E;F", "01005;G", "0100X;H", "01007;I", "01008"]
    reading = lire(tmp_path, declarer(CODE, colonne("nom")), "\n".join(lines) + "\n")
    assert [lines[n - 1] for n in colonne_lue(reading, "_ligne")] == ["01001;A", "01003;C", "01005;G", "01007;I"]
    assert [(lines[line - 1], reason) for line, _, _, reason in motifs(reading)] == [
        ("01002", "ligne incomplète : moins de champs que l'en-tête (fichier tronqué ?)"),
        ("01004;D;E;F", "ligne trop longue : plus de champs que l'en-tête (séparateur dans une valeur ?)"),
        ("0100X;H", CODE_PATTERNS["code_commune"][1]),
        ("01008", "ligne incomplète : moins de champs que l'en-tête (fichier tronqué ?)"),
    ]
    assert reading.rejets["valeur"].to_list() == ["01002", "01004;D;E;F", "0100X", "01008"]
    assert compte(reading) == (8, 4, 4, 0)


@pytest.mark.parametrize(
    ("end", "what"),
    [
        ("01002", "la ligne 3 n'a pas tous ses champs"),
        ("01002;A;B\n010", "la ligne 4 n'a pas tous ses champs"),
        ("01002;\"A\nB\";C\n01003;D", "la ligne 4 n'a pas tous ses champs"),
        ('01002;A;"C', "le guillemet ouvert à la ligne 3 n'est jamais refermé"),
        # A quote that nothing closes swallows the lines after it, whether or not the file was cut.
        ('01002;"B;C\n01003;C;D\n', "le guillemet ouvert à la ligne 3 n'est jamais refermé"),
        ('01002;"B;C\n01003;"C";D\n', "le guillemet ouvert à la ligne 3 n'est jamais refermé"),
    ],
)
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_file_cut_in_the_middle_of_a_line_is_refused_whole(tmp_path, end, what, newline):
    content = f"code;nom;pays\n01001;A;B\n{end}".replace("\n", newline)
    with pytest.raises(ReadingError, match=f"essai.csv : fichier coupé au milieu d'une ligne \\({what}\\) ; le redemander"):
        lire(tmp_path, declarer(CODE, colonne("nom")), content)


@pytest.mark.parametrize("end", ["Source : essai\n", '01002;"B"x\n', '01002;"B"x', "01003;C", "01003;C\n\n"])
def test_last_line_that_is_wrong_or_not_ended_is_no_cut(tmp_path, end):
    reading = lire(tmp_path, declarer(CODE, colonne("nom")), f"code;nom\n01001;A\n{end}")
    assert compte(reading) == ((2, 1, 1, 0) if "01003" not in end else (2, 2, 0, 0))


def test_missing_columns_are_all_named_with_the_remedy(tmp_path):
    with pytest.raises(ReadingError) as error:
        lire(tmp_path, declarer(CODE, colonne("nom"), colonne("population", origine=("pop", "P_POP"))), "code\n01001\n")
    message = str(error.value)
    assert "essai.csv : " in message and "« nom »" in message and "« pop » ou « P_POP »" in message
    assert "Remède : ajouter le nouveau nom à « origine » dans essai.yml" in message


def test_renamed_column_is_recognised(tmp_path):
    with pytest.raises(ReadingError) as error:
        lire(tmp_path, declarer(CODE, colonne("population")), "code;POP;population_2024\n01001;1;2\n")
    message = str(error.value)
    assert "la colonne « population » (déclarée population) manque ; lui ressemble : population_2024" in message
    assert "Colonnes non déclarées du fichier : POP, population_2024" in message


def test_names_that_change_with_the_vintage(tmp_path):
    source = declarer(
        CODE, colonne("n", "entier", origine=("P{aa}_POP", "POP_{aaaa}")), colonne("absente", facultative=True)
    )
    for header in ("P24_POP", "POP_2024"):
        reading = lire(tmp_path, source, f"code;{header}\n01001;7\n")
        assert reading.table.select("n", "absente").rows() == [(7, None)]


def test_constants_of_a_delivery_fill_their_column(tmp_path):
    source = declarer(CODE, colonne("annee", "entier", origine=None), livraison={"constantes": {"annee": "2019"}})
    assert colonne_lue(lire(tmp_path, source, "code\n01001\n"), "annee") == [2019]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "fichier vide ; le redemander au producteur"),
        (gzip.compress(b"", mtime=0), "fichier vide ; le redemander au producteur"),
        ("code;nom\n", "un en-tête et aucune ligne ; le redemander"),
        ("\n\n", "aucun en-tête en ligne 1"),
        (
            "<!DOCTYPE html>\n<html><body>Maintenance</body></html>",
            "c'est une page HTML, non un CSV .*réessayer plus tard",
        ),
        ("\n  <HTML lang='fr'>\n<p>503</p>", "c'est une page HTML, non un CSV"),
        ("\ufeff<!doctype html><html></html>", "c'est une page HTML, non un CSV"),
    ],
)
def test_file_that_is_no_table(tmp_path, content, message):
    with pytest.raises(ReadingError, match=f"essai.csv : {message}"):
        lire(tmp_path, declarer(CODE, colonne("nom")), content)


def test_table_that_may_be_empty(tmp_path):
    source = declarer(CODE, attendus={"lignes_min": 0})
    assert compte(lire(tmp_path, source, "code\n")) == (0, 0, 0, 0)
    assert compte(lire(tmp_path, declarer(CODE, format=JSON, attendus={"lignes_min": 0}), "[]")) == (0, 0, 0, 0)


# --- keys, corrections, unfolding ------------------------------------------------------------------------------


def test_duplicate_keys_keep_the_first_row_where_declared(tmp_path):
    source = declarer(CODE, colonne("n", "entier"), cle=("_millesime", "code"), doublons="garder_le_premier")
    reading = lire(tmp_path, source, "code;n\n01001;1\n01002;2\n01001;9\n01001;1\n")
    assert reading.table.select("code", "n").rows() == [("01001", 1), ("01002", 2)]
    reason = "clé en double (code) : la première ligne est gardée"
    assert motifs(reading) == [(4, "code", "01001", reason), (5, "code", "01001", reason)]
    assert compte(reading) == (4, 2, 2, 0)


def test_duplicate_keys_that_disagree_are_all_rejected(tmp_path):
    """Two prices for one commune: nothing says which is right. Two labels for one price are no disagreement."""
    source = declarer(
        CODE,
        colonne("annee", "entier"),
        colonne("n", "nombre"),
        colonne("nom"),
        cle=("code", "annee"),
    )
    text = (
        "code;annee;n;nom\n01001;2020;1;A\n01001;2020;2;A\n01001;2021;3;A\n01002;2020;4;B\n01002;2020;4;b\n01003;2020;5;C\n"
        "01003;2020;;C\n"
    )
    reading = lire(tmp_path, source, text)
    assert reading.table.select("code", "annee", "n").rows() == [("01001", 2021, 3.0), ("01002", 2020, 4.0)]
    differ, same = (
        "clé en double (code, annee) aux valeurs différentes : aucune n'est gardée",
        "clé en double (code, annee) : la première ligne est gardée",
    )
    assert [(line, reason) for line, _, _, reason in motifs(reading)] == [
        (2, differ), (3, differ), (6, same), (7, differ), (8, differ),
    ]  # fmt: skip


def test_empty_key_is_rejected(tmp_path):
    source = declarer(CODE, colonne("annee", "entier"), cle=("code", "annee"))
    reading = lire(tmp_path, source, "code;annee\n;2020\n01001;NA\n01001;2020\n")
    assert reading.table.select("code", "annee").rows() == [("01001", 2020)]
    assert motifs(reading) == [(2, "code", None, "clé vide"), (3, "annee", None, "clé vide")]


def test_key_that_is_only_the_line_never_collides(tmp_path):
    reading = lire(tmp_path, declarer(CODE), "code\n01001\n01001\n")
    assert colonne_lue(reading, "_ligne") == [2, 3]


def test_known_errors_are_replaced_or_rejected_in_their_delivery_only(tmp_path):
    common = {"motif": "faute de frappe", "preuve": "essai"}
    source = declarer(
        CODE,
        colonne("nom"),
        corrections=(
            {"colonne": "code", "valeur": "Vitry", "remplacer_par": "51649", "livraison": "2024", **common},
            {"colonne": "nom", "valeur": "test", "rejeter": True, "motif": "ligne de test", "preuve": "essai"},
            {"colonne": "nom", "valeur": "B", "remplacer_par": "faux", "livraison": "2023", **common},
            {"colonne": "nom", "valeur": "Vitr", "remplacer_par": "faux", **common},
        ),
    )
    reading = lire(tmp_path, source, "code;nom\nVitry;Vitry\n01001;test\n01002;B\n")
    assert reading.table.select("code", "nom").rows() == [("51649", "Vitry"), ("01002", "B")]
    assert motifs(reading) == [(3, "nom", "test", "erreur connue du producteur : ligne de test")]


def test_wide_columns_become_rows(tmp_path):
    source = declarer(
        colonne("code", "code_departement"),
        colonne("annee", "entier", origine=None),
        colonne("trimestre", "entier", origine=None),
        colonne("taux", "nombre", origine=None),
        cle=("code", "annee", "trimestre"),
        depivot={"motif": r"T(?P<trimestre>[1-4])_(?P<annee>\d{4})", "valeur": "taux"},
    )
    reading = lire(tmp_path, source, "code;nom;T4_2023;T1_2024\n01;Ain;5.5;5.4\n2A;Corse;x;6\n3;Y;1;2\n")
    assert sorted(reading.table.select("code", "annee", "trimestre", "taux", "_ligne").rows()) == [
        ("01", 2023, 4, 5.5, 2), ("01", 2024, 1, 5.4, 2), ("2A", 2024, 1, 6.0, 3),
    ]  # fmt: skip
    assert [(line, name, value) for line, name, value, _ in motifs(reading)] == [
        (3, "taux", "x"), (4, "code", "3"), (4, "code", "3"),
    ]  # fmt: skip
    # A line of which one cell is refused is still a line kept.
    assert reading.rejets["ligne_gardee"].to_list() == [True, False, False]
    assert compte(reading) == (3, 2, 1, 0)


def test_wide_columns_of_several_measures(tmp_path):
    source = declarer(
        colonne("code", "code_departement"),
        *(colonne(name, "entier", origine=None) for name in ("annee", "total", "vacant")),
        cle=("code", "annee"),
        manquants=("", "s"),
        depivot={
            "motif": r"pp_(?P<colonne>total|vacant)_(?P<annee>\d{2})",
            "remplacer": {"annee": {"20": "2020", "21": "2021"}},
        },
    )
    reading = lire(
        tmp_path, source, "code;pp_total_20;pp_vacant_20;pp_total_21;pp_vacant_21\n01;10;1;20;2\n02;30;s;40;4\n"
    )
    assert sorted(reading.table.select("code", "annee", "total", "vacant").rows()) == [
        ("01", 2020, 10, 1), ("01", 2021, 20, 2), ("02", 2020, 30, None), ("02", 2021, 40, 4),
    ]  # fmt: skip


def test_an_empty_cell_of_a_wide_table_may_say_nothing(tmp_path):
    """A cross-table of memberships: a commune without any programme is a line kept that gives no row."""
    source = declarer(
        CODE,
        colonne("programme", origine=None),
        colonne("projet", origine=None),
        cle=("code", "programme", "projet"),
        depivot={"motif": r"id_(?P<programme>\w+)", "valeur": "projet", "ignorer_vides": True},
        eclatement={"colonne": "projet", "motif": r"([^;\s]+)"},
    )
    reading = lire(tmp_path, source, "code;id_pvd;id_crte\n01001;;\n01002;p1;c1 ! c2\n".replace("c1 ! c2", '"c1 ; c2"'))
    assert sorted(reading.table.select("code", "programme", "projet").rows()) == [
        ("01002", "crte", "c1"), ("01002", "crte", "c2"), ("01002", "pvd", "p1"),
    ]  # fmt: skip
    assert compte(reading) == (2, 2, 0, 0) and motifs(reading) == []


def test_wide_columns_that_changed_names(tmp_path):
    source = declarer(CODE, colonne("annee", origine=None), depivot={"motif": r"x_(?P<annee>\d+)", "valeur": "valeur"})
    with pytest.raises(ReadingError, match=r"aucune colonne ne suit le motif .* colonnes vues : code, y_2020"):
        lire(tmp_path, source, "code;y_2020\n01001;1\n")


# --- measures --------------------------------------------------------------------------------------------------


def mesurer(tmp_path: Path, nature: str, rows: list[str], *, periode: str = "annee", livraison=None, **mesures: Any):
    """Measures of rows « code;annee;trimestre;jour;n » of a table whose column n is one."""
    source = declarer(
        CODE,
        colonne("annee", "entier"),
        colonne("trimestre", "entier"),
        colonne("jour", "date"),
        colonne("n", "nombre", mesure={"id": "essai_n", "nature": nature}),
        secrets=("s",),
        livraison=livraison,
        mesures={"niveau": "commune", "code": "code", "periode": periode, "date": "jour"} | mesures,
    )
    return lire(tmp_path, source, "\n".join(["code;annee;trimestre;jour;n", *rows]) + "\n").mesures


@pytest.mark.parametrize(
    ("periode", "row", "livraison", "first", "last"),
    [
        ("annee", "01001;2020;;;1", None, dt.date(2020, 1, 1), dt.date(2020, 12, 31)),
        ("trimestre", "01001;2020;1;;1", None, dt.date(2020, 1, 1), dt.date(2020, 3, 31)),
        ("trimestre", "01001;2023;2;;1", None, dt.date(2023, 4, 1), dt.date(2023, 6, 30)),
        ("trimestre", "01001;2023;4;;1", None, dt.date(2023, 10, 1), dt.date(2023, 12, 31)),
        ("date", "01001;;;2024-02-29;1", None, dt.date(2024, 2, 29), dt.date(2024, 2, 29)),
        ("livraison", "01001;;;;1", None, PUBLIE_LE, PUBLIE_LE),
        ("livraison", "01001;;;;1", {"periode": dt.date(2023, 12, 31)}, dt.date(2023, 12, 31), dt.date(2023, 12, 31)),
    ],
)
def test_period_of_a_measure(tmp_path, periode, row, livraison, first, last):
    found = mesurer(tmp_path, "effectif", [row], periode=periode, livraison=livraison)
    assert found.select("periode_debut", "periode_fin").rows() == [(first, last)]


def test_a_measure_carries_its_territory_and_its_provenance(tmp_path):
    found = mesurer(tmp_path, "effectif", ["2A004;2020;;;1,0", "2A004;2020;;;12"])
    assert found.schema == mesures_schema()
    [row] = found.drop("snapshot_sha256").rows(named=True)
    assert row == {
        "mesure_id": "essai_n", "nature": "effectif", "territoire_niveau": "commune", "territoire_code": "2A004",
        "cog_annee": 2024, "periode_debut": dt.date(2020, 1, 1), "periode_fin": dt.date(2020, 12, 31), "valeur": 12.0,
        "statut_valeur": "observé", "source_id": "essai__table", "millesime": "2024", "connue_le": dt.date(2024, 6, 30),
        "ligne": 3,
    }  # fmt: skip


@pytest.mark.parametrize("nature", ["effectif", "stock", "montant"])
def test_rows_of_one_territory_add_up_where_that_means_something(tmp_path, nature):
    found = mesurer(tmp_path, nature, ["01001;2020;;;1.5", "01002;2020;;;4", "01001;2020;;;2", "01001;2021;;;8"])
    assert found.select("territoire_code", "periode_debut", "valeur").rows() == [
        ("01001", dt.date(2020, 1, 1), 3.5), ("01002", dt.date(2020, 1, 1), 4.0), ("01001", dt.date(2021, 1, 1), 8.0),
    ]  # fmt: skip


@pytest.mark.parametrize("nature", ["taux", "mediane", "moyenne", "indice"])
def test_rows_of_one_territory_never_add_up_otherwise(tmp_path, nature):
    found = mesurer(tmp_path, nature, ["01001;2020;;;1.5", "01001;2020;;;2"])
    assert found.select("valeur", "ligne").rows() == [(1.5, 2), (2.0, 3)]


@pytest.mark.parametrize("rows", [["01001;2020;;;1", "01001;2020;;;s"], ["01001;2020;;;s", "01001;2020;;;1"]])
def test_a_sum_with_a_secret_part_is_secret(tmp_path, rows):
    assert mesurer(tmp_path, "effectif", rows).select("valeur", "statut_valeur").rows() == [(None, "secret")]


def test_level_told_by_a_column(tmp_path):
    source = declarer(
        colonne("maille"),
        colonne("code"),
        colonne("n", "nombre", mesure={"id": "n", "nature": "taux"}),
        mesures={"niveau_colonne": "maille", "code": "code", "periode": "livraison"},
    )
    found = lire(tmp_path, source, "maille;code;n\ncommune;01001;1\n;01002;2\ndepartement;01;3\n").mesures
    assert found.select("territoire_niveau", "territoire_code").rows() == [("commune", "01001"), ("departement", "01")]


def test_a_period_between_two_censuses(tmp_path):
    source = declarer(
        colonne("code"),
        colonne("an"),
        colonne("n", "nombre", mesure={"id": "n", "nature": "taux"}),
        mesures={"niveau": "departement", "code": "code", "periode": "intervalle", "annee": "an"},
    )
    found = lire(tmp_path, source, "code;an;n\n01;2008-2013;1\n01;2014;2\n").mesures
    assert found.select("periode_debut", "periode_fin").rows() == [
        (dt.date(2008, 1, 1), dt.date(2012, 12, 31)), (dt.date(2014, 1, 1), dt.date(2014, 12, 31)),
    ]  # fmt: skip


def classes(tmp_path: Path, rows: str, **livraison: Any) -> Reading:
    source = declarer(
        colonne("dep", "code_departement"),
        colonne("classe", remplacer={"Vols": "vols", "Homicides": "homicides", "Autre": ""}),
        colonne("faits", "entier", mesure={"id": "ssmsi_faits", "nature": "effectif"}),
        mesures={"niveau": "departement", "code": "dep", "periode": "livraison", "selon": "classe"},
        livraison=livraison,
    )
    assert source.mesures == {"ssmsi_faits_homicides": "effectif", "ssmsi_faits_vols": "effectif"}
    return lire(tmp_path, source, "dep;classe;faits\n" + rows)


def test_a_column_ends_the_identifier_of_the_measure(tmp_path):
    reading = classes(tmp_path, "01;Vols;5\n01;Homicides;1\n01;Autre;9\n01;;7\n")
    assert reading.mesures.select("mesure_id", "valeur").rows() == [("ssmsi_faits_vols", 5.0), ("ssmsi_faits_homicides", 1.0)]
    assert compte(reading) == (4, 4, 0, 0)


def test_a_kind_that_nobody_declared_is_no_measure(tmp_path):
    reading = classes(tmp_path, "01;Vols;5\n01;Escroqueries;2\n")
    assert motifs(reading) == [(3, "classe", "Escroqueries", "modalité que la déclaration ne nomme pas (remplacer)")]
    assert reading.mesures["mesure_id"].to_list() == ["ssmsi_faits_vols"]


def test_an_empty_cell_is_zero_only_where_the_file_means_it(tmp_path):
    """A cross-table of equipment leaves a cell empty for none; several columns may make one measure."""
    mesure = {"id": "bpe_commerces", "nature": "effectif"}
    source = declarer(
        CODE,
        colonne("boulangerie", "entier", vide="0", mesure=mesure),
        colonne("epicerie", "entier", vide="0", mesure=mesure),
        colonne("medecin", "entier", mesure={"id": "bpe_medecins", "nature": "effectif"}),
        # A type that this vintage does not count: zero nowhere, and no measure at all.
        colonne("theatre", "entier", vide="0", facultative=True, mesure={"id": "bpe_theatres", "nature": "effectif"}),
        mesures={"niveau": "commune", "code": "code", "periode": "livraison"},
    )
    found = lire(tmp_path, source, "code;boulangerie;epicerie;medecin\n01001;;;\n01002;2;1;3\n").mesures
    assert found.select("mesure_id", "territoire_code", "valeur", "statut_valeur").sort("mesure_id", "territoire_code").rows() == [
        ("bpe_commerces", "01001", 0.0, "observé"), ("bpe_commerces", "01002", 3.0, "observé"),
        ("bpe_medecins", "01001", None, "manquant"), ("bpe_medecins", "01002", 3.0, "observé"),
    ]  # fmt: skip


# --- lists -----------------------------------------------------------------------------------------------------


def test_list_tells_who_is_treated_since_when(tmp_path):
    source = declarer(
        CODE,
        colonne("projet"),
        colonne("nom"),
        colonne("signe_le", "date"),
        colonne("genre"),
        liste={
            "interventions": ("premiere", "seconde"), "niveau": "commune", "code": "code", "projet": "projet",
            "nom": "nom", "date": "signe_le", "garder": {"genre": ("siège", "antenne mère")},
        },
    )  # fmt: skip
    text = "code;projet;nom;signe_le;genre\n01001;p1;A;2020-05-04;siège\n01002;p2;B;;antenne\n01003;p3;C;;antenne mère\n01004;p4;D;;\n"
    reading = lire(tmp_path, source, text)
    assert reading.lignes_gardees == 4
    assert reading.listes.schema == listes_schema()
    assert reading.listes.select("intervention_id", "code_origine", "projet_id", "projet_nom", "date_debut", "ligne").rows() == [
        ("premiere", "01001", "p1", "A", dt.date(2020, 5, 4), 2), ("premiere", "01003", "p3", "C", None, 4),
        ("seconde", "01001", "p1", "A", dt.date(2020, 5, 4), 2), ("seconde", "01003", "p3", "C", None, 4),
    ]  # fmt: skip
    assert set(reading.listes.select("etat_date", "niveau_declare", "cog_annee", "source_id", "millesime").rows()) == {
        (PUBLIE_LE, "commune", 2024, "essai__table", "2024")
    }


def test_list_of_perimeters_without_members(tmp_path):
    source = declarer(colonne("projet"), liste={"interventions": ("ti",), "niveau": "perimetre", "projet": "projet"})
    listes = lire(tmp_path, source, "projet\nHaut-Jura\n").listes
    assert listes.select("niveau_declare", "code_origine", "projet_id", "date_debut").rows() == [
        ("perimetre", None, "Haut-Jura", None)
    ]


def test_a_list_may_tell_the_level_and_the_intervention_of_each_row(tmp_path):
    """Région 84 and département 84 bear the same code; some rows serve one intervention more."""
    source = declarer(
        colonne("code"),
        colonne("echelon"),
        colonne("dispositif"),
        liste={
            "interventions": ("toutes",), "niveau": "code", "niveau_colonne": "echelon", "code": "code",
            "selon": "dispositif", "par_valeur": {"CCO": ("concertation",)},
        },
    )  # fmt: skip
    listes = lire(tmp_path, source, "code;echelon;dispositif\n84;region;AI\n84;departement;CCO\n01001;;AI\n").listes
    assert listes.select("intervention_id", "niveau_declare", "code_origine").rows() == [
        ("toutes", "region", "84"), ("toutes", "departement", "84"), ("toutes", "code", "01001"),
        ("concertation", "departement", "84"),
    ]  # fmt: skip
    assert source.meta.liste and source.meta.liste.toutes == ("toutes", "concertation")


# --- the whole reading -----------------------------------------------------------------------------------------


def test_every_row_and_every_reject_says_where_it_comes_from(tmp_path):
    raw = b"code\n01001\n1\n"
    reading = lire(tmp_path, declarer(CODE), raw)
    digest = hashlib.sha256(raw).hexdigest()
    assert reading.table.schema == table_schema(declarer(CODE))
    assert reading.table.rows() == [("01001", "2024", 2, 2024, PUBLIE_LE, digest, dt.date(2024, 6, 30))]
    assert reading.rejets.schema == rejets_schema()
    assert reading.rejets.drop("motif").rows() == [("essai__table", "2024", digest, "essai.csv", 3, "code", "1", False)]


@pytest.mark.parametrize(("transport", "content"), [("mirror", "code;n\n01001;1\n"), ("live", "code,n\n01001,1\n")])
def test_living_file_may_be_laid_out_otherwise(tmp_path, transport, content):
    live = Live(protocole="https", url="https://exemple.fr/x.csv", confiance="C", format=Format(separateur=","))
    source = declarer(CODE, colonne("n", "entier"), livraison={"live": live})
    assert colonne_lue(lire(tmp_path, source, content, transport=transport), "n") == [1]


def test_first_fault_of_a_row_is_its_only_reject(tmp_path):
    source = declarer(CODE, colonne("annee", "entier"), colonne("n", "nombre"), cle=("code", "annee"))
    reading = lire(tmp_path, source, "code;annee;n\nx;y;z\n01001;y;z\n")
    assert [(line, name) for line, name, *_ in motifs(reading)] == [(2, "code"), (3, "annee")]
    assert compte(reading) == (2, 0, 2, 0)


DOMMAGES = ("aucun", "aucun", "aucun", "court", "long", "code", "nombre", "doublon", "cle_vide")
TEXTES = st.text(st.sampled_from("aé ;\"'0,\n"), max_size=8)
LIGNES = st.lists(
    st.tuples(st.sampled_from(DOMMAGES), st.integers(0, 2), st.integers(-(10**9), 10**9), TEXTES),
    min_size=1,
    max_size=12,
)
MAUVAIS_CODES = ("1001", "2C001", "010011")


@settings(max_examples=150, deadline=None)
@given(lignes=LIGNES, newline=st.sampled_from(["\n", "\r\n"]), titres=st.integers(0, 3))
def test_every_record_is_kept_or_rejected_and_only_damaged_ones_are(lignes, newline, titres):
    """Whatever the damage: the counts add up, clean rows stay as written, each reject has a line and a reason."""
    clean: dict[int, tuple[str, int, str | None]] = {}
    damaged: dict[int, str] = {}
    text = io.StringIO()
    text.write(f"titre{newline}" * titres)
    writer = csv.writer(text, delimiter=";", lineterminator=newline)
    writer.writerow(["code", "libelle", "n"])
    for line, (damage, pick, number, label) in enumerate(lignes, titres + 2):
        row = [f"{line:05}", label, str(number)]
        if damage == "doublon" and not clean:
            damage = "aucun"
        if damage == "court":
            row = row[: 1 + pick % 2]
        elif damage == "long":
            row += ["x"] * (1 + pick)
        elif damage == "code":
            row[0] = MAUVAIS_CODES[pick]
        elif damage == "nombre":
            row[2] = "dix"
        elif damage == "doublon":
            row[0], row[2] = clean[min(clean)][0], str(clean[min(clean)][1])
        elif damage == "cle_vide":
            row[0] = ""
        if damage == "aucun":
            clean[line] = (row[0], number, label.strip(" \r\n") or None)
        else:
            damaged[line] = damage
        writer.writerow(row)
    source = declarer(
        CODE, colonne("n", "entier"), colonne("libelle"), cle=("code",),
        format=Format(type="csv", separateur=";", ligne_entete=titres + 1),
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        reading = lire(Path(folder), source, text.getvalue())
    assert reading.lignes_lues == len(lignes)
    assert reading.lignes_lues == reading.lignes_gardees + reading.lignes_rejetees + reading.lignes_hors_tableau
    assert reading.table.height == reading.lignes_gardees
    rows = {
        line: (code, n, label) for line, code, n, label in reading.table.select("_ligne", "code", "n", "libelle").rows()
    }
    assert rows == clean
    assert {line for line, *_ in motifs(reading)} == set(damaged)
    known = {
        "court": "ligne incomplète", "long": "ligne trop longue", "code": "un code commune a cinq caractères",
        "nombre": "n'est pas un nombre entier", "doublon": "clé en double (code)", "cle_vide": "clé vide",
    }  # fmt: skip
    for line, _, _, reason in motifs(reading):
        assert reason.startswith(known[damaged[line]])
