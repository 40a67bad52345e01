"""The door: what is taken from the drop folder, what is answered, what stays where, and what a crash leaves behind."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from ingestion.declarations import PROJECT
from ingestion.paths import Home
from ingestion.records import admission
from ingestion.records.admission import (
    Admission,
    AdmissionError,
    admit,
    emetteur_of,
    journal,
    process_drop_folder,
    purge,
    settled,
    watch,
)
from ingestion.records.layout import labels

NOW = dt.datetime.now(dt.UTC).replace(microsecond=0)  # file systems date what they keep by the true clock
COURRIEL, TELEPHONE, NOM = "jeanne.durand@example.org", "06 39 98 12 34", "Jeanne Durand-Lefèvre"
NIR = "2 85 05 78 006 084 36"


def convention(rank: int = 1, **changed: object) -> dict[str, object]:
    return {
        "convention_id": f"23-PVD-{rank:03d}", "intervention_id": "petites_villes_de_demain", "departement_code": "23",
        "territoire_niveau": "commune", "territoire_code": "23096", "intitule": f"Convention suivie par {NOM}",
        "date_signature": "15/03/2021", "statut": "signée", "signataires_nb": 3, "chef_de_projet_en_poste": "oui",
        "referent_nom": NOM, "referent_courriel": COURRIEL, "referent_telephone": TELEPHONE,
    } | changed  # fmt: skip


def action(rank: int = 1, **changed: object) -> dict[str, object]:
    return {
        "action_id": f"23-PVD-001-A{rank:02d}", "convention_id": "23-PVD-001", "intervention_id": "petites_villes_de_demain",
        "departement_code": "23", "territoire_niveau": "commune", "territoire_code": "23096", "jalon": "travaux",
        "statut": "engagée", "annee": 2024, "commentaire": f"appeler {NOM} au {TELEPHONE}",
    } | changed  # fmt: skip


def workbook(path: Path, **sheets: list[dict[str, object]]) -> Path:
    """An XLSX as a délégué sends it: one sheet per kind, French headers on the first line."""
    import xlsxwriter

    with xlsxwriter.Workbook(path) as book:
        for kind, rows in sheets.items():
            sheet = book.add_worksheet(kind)
            for column, header in enumerate(labels(kind).values()):
                sheet.write_string(0, column, header)
            for line, row in enumerate(rows, 1):
                for column, name in enumerate(labels(kind)):
                    value = row.get(name)
                    if isinstance(value, int):
                        sheet.write_number(line, column, value)
                    elif value is not None:
                        sheet.write_string(line, column, str(value))
    return path


def sheet_csv(path: Path, kind: str, rows: list[dict[str, object]]) -> Path:
    stream = io.StringIO()
    writer = csv.writer(stream, delimiter=";", lineterminator="\r\n")
    writer.writerow(labels(kind).values())
    writer.writerows([row.get(name, "") for name in labels(kind)] for row in rows)
    path.write_text(stream.getvalue(), encoding="utf-8-sig")
    return path


@pytest.fixture
def where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.delenv("DK_RETENTION_JOURS", raising=False)
    monkeypatch.delenv("DK_CLE_PSEUDONYMES", raising=False)
    return Home(tmp_path / "dk").ensure()


def around(where: Home, **options: object) -> list[Admission]:
    """One round with nothing to wait for."""
    return process_drop_folder(where, **{"repos": 0, "now": lambda: NOW} | options)


def rows(where: Home, kind: str = "convention", emetteur: str = "creuse") -> pl.DataFrame:
    return pl.read_parquet(where.registre / kind / f"{emetteur}.parquet")


def tree(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def originals(where: Home) -> list[Path]:
    return sorted(p for p in (where.restreint / "originaux").rglob("*") if p.is_file())


# --- a file is taken ----------------------------------------------------------------------------------------------


def test_a_file_is_taken_answered_and_its_original_kept_apart(where: Home) -> None:
    path = workbook(where.depot / "Creuse.xlsx", convention=[convention(1), convention(2)], action=[action(1)])
    content = path.read_bytes()
    (done,) = around(where)
    assert (done.emetteur, done.statut, done.gardees, done.rejetees) == ("creuse", "admis", 3, 0)
    assert list(where.depot.iterdir()) == []
    assert rows(where)["convention_id"].to_list() == ["23-PVD-001", "23-PVD-002"]
    assert rows(where)["date_signature"].to_list() == ["2021-03-15"] * 2
    assert rows(where, "action")["_ligne"].to_list() == [2]
    (original,) = originals(where)
    assert original.name == "Creuse.xlsx" and original.read_bytes() == content
    assert [p.name for p in done.retours] == ["Creuse.reponse.txt"]
    answer = done.retours[0].read_text(encoding="utf-8")
    assert "Conventions : 2 lignes lues, 2 justes, 0 fausse" in answer and "Actions : 1 ligne lue, 1 juste, 0 fausse" in answer
    (line,) = journal(where)
    assert line["emetteur"] == "creuse" and line["relevés"]["convention"]["gardées"] == 2


def test_personal_columns_are_not_in_the_register(where: Home) -> None:
    workbook(where.depot / "creuse.xlsx", convention=[convention()], action=[action()])
    around(where)
    columns = {*rows(where).columns, *rows(where, "action").columns}
    assert columns.isdisjoint({"intitule", "referent_nom", "referent_courriel", "referent_telephone", "commentaire"})


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".ods"])
def test_other_formats_are_taken_too(where: Home, suffix: str) -> None:
    path = where.depot / f"convention_creuse{suffix}"
    if suffix == ".csv":
        sheet_csv(path, "convention", [convention()])
    elif suffix == ".parquet":
        pl.DataFrame([{k: str(v) for k, v in convention().items()}]).write_parquet(path)
    else:
        from odf.opendocument import OpenDocumentSpreadsheet
        from odf.table import Table, TableCell, TableRow
        from odf.text import P

        book, table = OpenDocumentSpreadsheet(), Table(name="convention")
        for line in (labels("convention").values(), [convention().get(name, "") for name in labels("convention")]):
            row = TableRow()
            for value in line:
                cell = TableCell(valuetype="string")
                cell.addElement(P(text=str(value)))
                row.addElement(cell)
            table.addElement(row)
        book.spreadsheet.addElement(table)
        book.save(str(path))
    (done,) = around(where)
    assert (done.statut, done.gardees) == ("admis", 1), [p.read_text() for p in done.retours if p.suffix == ".txt"]


def test_wrong_rows_come_back_and_the_others_are_taken(where: Home) -> None:
    wrong = convention(7, territoire_code="99999", referent_courriel=COURRIEL)
    workbook(where.depot / "creuse.xlsx", convention=[*map(convention, range(1, 7)), wrong])
    (done,) = around(where)
    assert (done.statut, done.gardees, done.rejetees) == ("admis en partie", 6, 1)
    bad = rows(where).filter(pl.col("_motif").is_not_null()).row(0, named=True)
    assert (bad["_ligne"], bad["_colonne"], bad["_valeur"], bad["convention_id"]) == (8, "territoire_code", "99999", None)
    assert [p.name for p in done.retours] == ["creuse.reponse.txt", "creuse.annote.xlsx"]
    assert zipfile.is_zipfile(done.retours[1])


def test_a_file_with_too_many_wrong_rows_is_refused_whole_and_what_was_there_stays(where: Home) -> None:
    workbook(where.depot / "creuse.xlsx", convention=[convention(rank) for rank in range(1, 6)])
    around(where)
    before = tree(where.registre / "convention")
    bad = [convention(rank, statut="peut-être") for rank in range(1, 3)]
    workbook(where.depot / "creuse.xlsx", convention=[*bad, convention(3), convention(4), convention(5)], action=[action()])
    (done,) = around(where)
    assert (done.statut, done.gardees) == ("refusé", 0)
    assert tree(where.registre / "convention") == before
    assert not (where.registre / "action").exists(), "the whole file is refused, its good sheets too"
    answer = (where.retours / "creuse.reponse.txt").read_text(encoding="utf-8")
    assert "refusé en entier" in answer and "au-delà de 20 % de lignes fausses" in answer
    assert len(originals(where)) == 2


def test_a_corrected_file_replaces_its_rows_and_no_other(where: Home) -> None:
    workbook(where.depot / "creuse.xlsx", convention=[convention(1), convention(2)], action=[action(1)])
    workbook(where.depot / "nievre.xlsx", convention=[
        convention(1, convention_id="58-1", departement_code="58", territoire_code="58194")
    ])  # fmt: skip
    around(where)
    other, actions = tree(where.registre)["convention/nievre.parquet"], tree(where.registre)["action/creuse.parquet"]
    workbook(where.depot / "Creuse.xlsx", convention=[convention(1, statut="achevée"), convention(3)])
    (done,) = around(where)
    assert done.statut == "admis"
    assert rows(where)["convention_id"].to_list() == ["23-PVD-001", "23-PVD-003"]
    assert rows(where)["statut"].to_list() == ["achevée", "signée"]
    assert tree(where.registre)["convention/nievre.parquet"] == other
    assert tree(where.registre)["action/creuse.parquet"] == actions, "a kind that the file does not hold stays"
    assert "Actions : absent de ce fichier, les lignes de l'envoi précédent restent" in done.retours[0].read_text(encoding="utf-8")
    workbook(where.depot / "Creuse.xlsx", convention=[convention(1)], action=[])
    around(where)
    assert rows(where, "action").height == 0, "its sheet emptied takes them back"


def test_an_unused_sheet_of_a_template_leaves_no_file(where: Home) -> None:
    workbook(where.depot / "creuse.xlsx", convention=[convention(1)], action=[], formation=[])
    (done,) = around(where)
    assert done.statut == "admis" and sorted(p.name for p in where.registre.iterdir()) == ["convention", "journal.jsonl"]


def test_the_annotated_copy_mended_and_sent_back_replaces_the_file_it_answers(where: Home) -> None:
    import fastexcel

    wrong = [convention(rank) for rank in range(1, 9)] + [convention(9, territoire_code="99999")]
    workbook(where.depot / "Creuse.xlsx", convention=wrong)
    (first,) = around(where)
    annotated = first.retours[1]
    title = next(n for n in fastexcel.read_excel(annotated).sheet_names if n == "Conventions")
    frame = fastexcel.read_excel(annotated).load_sheet(title, dtypes="string").to_polars()
    mended = frame.with_columns(pl.col("Code du territoire").replace("99999", "23096"))
    mended.write_excel(where.depot / annotated.name, worksheet=title)
    (second,) = around(where)
    assert (second.emetteur, second.statut, second.gardees) == ("creuse", "admis", 9)
    assert [p.name for p in where.retours.iterdir()] == ["Creuse.reponse.txt"], "the answer to the former file is no longer true"


@pytest.mark.parametrize(
    "name", ["é" * 120 + ".xlsx", "c" * 250 + ".xlsx", "deux\nlignes.xlsx", os.fsdecode(b"pr\xe9fecture.xlsx")], ids=range(4)
)
def test_names_that_file_systems_allow_are_taken(where: Home, name: str) -> None:
    workbook(where.root / "x.xlsx", convention=[convention(1), convention(2, statut="?")])
    os.rename(where.root / "x.xlsx", where.depot / name)
    (done,) = around(where)
    assert done.statut == "refusé" and all(path.exists() for path in done.retours) and len(done.retours) == 2


def test_a_record_may_move_from_one_departement_to_another_in_a_corrected_file(where: Home) -> None:
    workbook(where.depot / "massif.xlsx", convention=[convention(1)])
    around(where)
    moved = convention(1, departement_code="19", territoire_code="19031")
    workbook(where.depot / "massif.xlsx", convention=[moved])
    (done,) = around(where)
    assert (done.statut, done.rejetees) == ("admis", 0), "its own earlier row is no rival"
    assert rows(where, emetteur="massif")["departement_code"].to_list() == ["19"]


def test_the_same_convention_from_two_departements_is_wrong_in_the_later_file(where: Home) -> None:
    workbook(where.depot / "creuse.xlsx", convention=[convention(1)])
    around(where)
    copies = [convention(1, departement_code="19", territoire_code="19031")]
    own = [
        convention(rank, convention_id=f"19-{rank}", departement_code="19", territoire_code="19031") for rank in range(5)
    ]
    workbook(where.depot / "correze.xlsx", convention=[*copies, *own])
    (done,) = around(where)
    assert (done.statut, done.gardees, done.rejetees) == ("admis en partie", 5, 1)
    assert rows(where)["convention_id"].to_list() == ["23-PVD-001"]


def test_conventions_are_taken_before_the_actions_that_cite_them_whichever_came_first(where: Home) -> None:
    workbook(where.depot / "a_actions.xlsx", action=[action(1), action(2)])
    time.sleep(0.02)
    workbook(where.depot / "b_conventions.xlsx", convention=[convention(1)])
    done = around(where)
    assert [(a.emetteur, a.statut) for a in done] == [("b_conventions", "admis"), ("a_actions", "admis")]


def test_two_versions_deposited_together_leave_the_last_one(where: Home) -> None:
    sheet_csv(where.depot / "creuse.csv", "convention", [convention(1, statut="résiliée")])
    os.utime(where.depot / "creuse.csv", (NOW.timestamp() - 60,) * 2)
    workbook(where.depot / "creuse.xlsx", convention=[convention(1)])
    os.utime(where.depot / "creuse.xlsx", (NOW.timestamp(),) * 2)
    assert [a.statut for a in around(where)] == ["admis", "admis"]
    assert rows(where)["statut"].to_list() == ["signée"]


# --- the same file twice ------------------------------------------------------------------------------------------


def test_the_same_file_twice_changes_nothing_and_the_journal_says_so(where: Home) -> None:
    path = workbook(where.depot / "creuse.xlsx", convention=[convention(1)])
    content = path.read_bytes()
    around(where)
    before, answers = tree(where.registre), tree(where.retours)
    path.write_bytes(content)
    (done,) = around(where)
    assert done.statut == "déjà reçu"
    after = tree(where.registre)
    lines = after.pop("journal.jsonl").decode().splitlines()
    before.pop("journal.jsonl")
    assert after == before and tree(where.retours) == answers
    assert [json.loads(line)["statut"] for line in lines] == ["admis", "déjà reçu"]


def test_a_file_with_wrong_rows_is_checked_again_since_what_it_cites_may_have_come(where: Home) -> None:
    path = workbook(where.depot / "actions.xlsx", action=[
        *[action(rank, convention_id=None) for rank in range(1, 10)], action(10, convention_id="23-PVD-001")
    ])  # fmt: skip
    content = path.read_bytes()
    (first,) = around(where)
    assert (first.statut, first.rejetees) == ("admis en partie", 1)
    path.write_bytes(content)
    assert around(where)[0].statut == "déjà reçu", "nothing came: the same rows are wrong, no byte changes"
    workbook(where.depot / "creuse.xlsx", convention=[convention(1)])
    path.write_bytes(content)
    assert [(a.emetteur, a.statut) for a in around(where)] == [("creuse", "admis"), ("actions", "admis")]
    assert rows(where, "action", "actions")["_motif"].null_count() == 10


def test_an_older_version_sent_again_is_a_correction_not_a_repetition(where: Home) -> None:
    old = workbook(where.depot / "creuse.xlsx", convention=[convention(1)]).read_bytes()
    around(where)
    workbook(where.depot / "creuse.xlsx", convention=[convention(1, statut="achevée")])
    around(where)
    (where.depot / "creuse.xlsx").write_bytes(old)
    assert around(where)[0].statut == "admis"
    assert rows(where)["statut"].to_list() == ["signée"]


# --- half-written, unreadable, unknown ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["~$creuse.xlsx", ".~lock.creuse.ods#", "creuse.xlsx.part", "creuse.csv.crdownload", "creuse.TMP", ".creuse.csv"]
)
def test_temporary_files_are_left_alone(where: Home, name: str) -> None:
    (where.depot / name).write_bytes(b"a;b\n1;2\n")
    assert around(where) == [] and watch(where, None)[0] is None
    assert [p.name for p in where.depot.iterdir()] == [name]


def test_links_and_folders_are_left_alone(where: Home, tmp_path: Path) -> None:
    secret = sheet_csv(tmp_path / "convention_secret.csv", "convention", [convention()])
    (where.depot / "convention_lien.csv").symlink_to(secret)
    (where.depot / "sous-dossier").mkdir()
    (where.depot / ".cache").mkdir()
    assert around(where) == [] and admission.strays(where) == 2
    assert secret.exists() and len(list(where.depot.iterdir())) == 3


def test_a_file_that_becomes_a_link_while_it_is_taken_is_not_followed(
    where: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = sheet_csv(tmp_path / "convention_secret.csv", "convention", [convention()])
    path = sheet_csv(where.depot / "convention_creuse.csv", "convention", [convention()])
    seen = admission.settled

    def swapped(*args: object) -> list[admission.Depose]:
        found = seen(*args)
        path.unlink()
        path.symlink_to(secret)
        return found

    secret.chmod(0o644)
    monkeypatch.setattr(admission, "settled", swapped)
    assert around(where) == []
    assert secret.stat().st_mode & 0o777 == 0o644 and originals(where) == []
    assert list((where.restreint / "en_cours").iterdir()) == []


def test_a_file_that_still_grows_is_left_for_the_next_round(where: Home) -> None:
    path = sheet_csv(where.depot / "convention_creuse.csv", "convention", [convention(1)])
    whole = path.read_bytes()
    path.write_bytes(whole[:100])
    waits = []

    def write_on(seconds: float) -> None:
        waits.append(seconds)
        path.write_bytes(whole)

    assert settled(where, 5, write_on) == [] and waits == [5]
    assert [d.path for d in settled(where, 5, waits.append)] == [path], "unchanged between two looks"
    assert waits == [5, 5]


def test_a_file_at_rest_is_taken_without_waiting(where: Home) -> None:
    path = sheet_csv(where.depot / "convention_creuse.csv", "convention", [convention(1)])
    time.sleep(0.15)
    waits: list[float] = []
    assert [d.path for d in settled(where, 0.1, waits.append)] == [path] and waits == []


def test_a_real_writer_slower_than_the_round_is_never_read_halfway(where: Home) -> None:
    whole = workbook(where.root / "creuse.xlsx", convention=[convention(rank) for rank in range(1, 40)])
    writer = (
        "import sys, time\nsource, target = sys.argv[1:]\ndata = open(source, 'rb').read()\n"
        "with open(target, 'wb') as f:\n    for i in range(0, len(data), len(data) // 12 + 1):\n"
        "        f.write(data[i:i + len(data) // 12 + 1]); f.flush(); time.sleep(0.1)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", writer, str(whole), str(where.depot / "creuse.xlsx")])
    seen: list[Admission] = []
    deadline = time.monotonic() + 20
    while not seen and time.monotonic() < deadline:
        seen = process_drop_folder(where, repos=0.3)
        time.sleep(0.05)
    assert process.wait() == 0
    assert [(a.statut, a.gardees) for a in seen] == [("admis", 39)]


@pytest.mark.parametrize("cut", ["zip", "parquet", "vide"])
def test_a_file_whose_end_is_missing_is_awaited_then_answered_as_damaged(
    where: Home, cut: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if cut == "parquet":
        path = where.depot / "convention_creuse.parquet"
        pl.DataFrame([{k: str(v) for k, v in convention().items()}]).write_parquet(path)
        path.write_bytes(path.read_bytes()[:-20])
    else:
        path = workbook(where.depot / "creuse.xlsx", convention=[convention(1)])
        path.write_bytes(path.read_bytes()[:-300] if cut == "zip" else b"")
    assert around(where) == [] and path.exists()
    assert watch(where, None, 0)[0] is None
    later = time.time() + 60 * admission.INCOMPLET_MIN + 1
    monkeypatch.setattr(admission.time, "time", lambda: later)
    assert watch(where, None, 0)[0] is not None
    (done,) = around(where)
    assert (done.statut, done.gardees) == ("illisible", 0)
    assert not path.exists() and len(originals(where)) == 1
    answer = done.retours[0].read_text(encoding="utf-8")
    assert "Il n'a pas pu être pris" in answer and "Rien de ce qui était déjà en place n'a changé" in answer


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("photo.jpg", b"\xff\xd8\xff\xe0JFIF" + b"x" * 400),
        ("creuse.xlsx", b"ceci n'est pas un classeur"),
        ("liste.csv", "prénom;nom;âge\nJeanne;Durand;44\n".encode()),
        ("ancien.xls", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600),
    ],
)
def test_unreadable_and_unknown_files_are_answered_in_french_and_lose_nothing(
    where: Home, name: str, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    workbook(where.depot / "creuse.xlsx", convention=[convention(1)])
    around(where)
    before = tree(where.registre / "convention")
    (where.depot / name).write_bytes(content)
    later = time.time() + 60 * admission.INCOMPLET_MIN + 1
    monkeypatch.setattr(admission.time, "time", lambda: later)
    (done,) = around(where)
    assert done.statut == "illisible" and done.refusee
    assert tree(where.registre / "convention") == before
    assert len(originals(where)) == 2 and list(where.depot.iterdir()) == []
    assert "Il n'a pas pu être pris" in done.retours[0].read_text(encoding="utf-8")


def test_two_sheets_of_the_same_kind_are_not_guessed_at(where: Home) -> None:
    import xlsxwriter

    with xlsxwriter.Workbook(where.depot / "creuse.xlsx") as book:
        for name in ("Conventions 2024", "Conventions 2025"):
            sheet = book.add_worksheet(name)
            for column, header in enumerate(labels("convention").values()):
                sheet.write_string(0, column, header)
            for column, key in enumerate(labels("convention")):
                sheet.write_string(1, column, str(convention(1).get(key, "")))
    (done,) = around(where)
    assert done.statut == "illisible" and "plusieurs feuilles du même type" in done.retours[0].read_text(encoding="utf-8")


def test_a_file_may_not_take_the_name_of_a_connector(where: Home) -> None:
    where.connecteurs.write_text(
        json.dumps({"connecteurs": [{
            "type": "grist", "nom": "creuse", "base": "https://grist.exemple.gouv.fr", "document": "d", "table": "T",
            "kind": "incubation", "colonnes": {"programme_id": "A"},
            "constantes": {"departement_code": "23", "date_lancement": "2024-01-01", "coconstruit": "oui"},
        }]})
    )  # fmt: skip
    workbook(where.depot / "Creuse.xlsx", convention=[convention(1)])
    (done,) = around(where)
    assert done.statut == "illisible" and "celui d'un connecteur" in done.retours[0].read_text(encoding="utf-8")


# --- names --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Conventions Creuse (2025).xlsx", "conventions_creuse_2025"),
        ("Creuse.annote.xlsx", "creuse"), ("Creuse - annoté.xlsx", "creuse"), ("annote.xlsx", "annote"),
        ("creuse_annote_2.xlsx", "creuse"), ("creuse_annote.annote (1).xlsx", "creuse"), ("annotations.csv", "annotations"),
        ("Préfecture_de_l'Isère.csv", "prefecture_de_l_isere"),
        ("23.ods", "23"),
    ],
)
def test_a_sender_is_named_by_the_file(name: str, expected: str) -> None:
    assert emetteur_of(name) == expected


@pytest.mark.parametrize(
    "name", [f"{COURRIEL}.xlsx", "envoi_0639981234_creuse.csv", f"dossier {NIR}.csv", "???.csv", "🙂.csv"]
)
def test_a_name_that_tells_a_person_or_nothing_becomes_a_hash(name: str) -> None:
    found = emetteur_of(name)
    assert found.startswith("fichier_") and len(found) == 20 and found == emetteur_of(name)


def test_long_names_stay_apart() -> None:
    one, two = emetteur_of("a" * 200 + "1.csv"), emetteur_of("a" * 200 + "2.csv")
    assert one != two and max(len(one), len(two)) <= 60


# --- permissions and retention ------------------------------------------------------------------------------------


@pytest.fixture(params=[0o000, 0o022, 0o077])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    old = os.umask(request.param)
    yield request.param
    os.umask(old)


def test_nobody_else_reads_the_restricted_zone_nor_the_answers(tmp_path: Path, umask: int) -> None:
    where = Home(tmp_path / "ailleurs").ensure()
    workbook(where.depot / "creuse.xlsx", convention=[*map(convention, range(1, 7)), convention(7, statut="?")])
    (where.depot / "creuse.xlsx").chmod(0o666)
    around(where)
    for folder in (where.restreint, where.retours):
        for path in (folder, *folder.rglob("*")):
            assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path
    assert len(originals(where)) == 1 and len(list(where.retours.iterdir())) == 2
    assert where.depot.stat().st_mode & 0o777 & ~0o700 == 0


def test_a_drop_folder_opened_by_its_administrator_stays_open(where: Home) -> None:
    where.depot.chmod(0o770)
    where.restreint.chmod(0o755)
    where.ensure()
    assert where.depot.stat().st_mode & 0o777 == 0o770 and where.restreint.stat().st_mode & 0o777 == 0o700


def test_a_drop_folder_on_another_disk_works_too(where: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    workbook(where.depot / "creuse.xlsx", convention=[convention(1)])
    rename = os.rename

    def other_disk(source: str | Path, target: str | Path) -> None:
        if Path(source).parent == where.depot:
            raise OSError(18, "Invalid cross-device link")
        rename(source, target)

    monkeypatch.setattr(admission.os, "rename", other_disk)
    (done,) = around(where)
    assert done.statut == "admis" and list(where.depot.iterdir()) == []
    assert originals(where)[0].stat().st_mode & 0o777 == 0o600


def test_originals_and_answers_go_when_the_retention_is_over(where: Home) -> None:
    workbook(where.depot / "creuse.xlsx", convention=[*map(convention, range(1, 7)), convention(7, statut="?")])
    os.utime(where.depot / "creuse.xlsx", (0, 0))  # retention counts from the day it came, not from the file's own date
    around(where)
    for path in where.retours.iterdir():
        os.utime(path, (NOW.timestamp(),) * 2)
    (where.depot / "~$abandonne.xlsx").write_bytes(b"x")
    os.utime(where.depot / "~$abandonne.xlsx", (NOW.timestamp(),) * 2)
    (where.depot / "recent.csv.part").write_bytes(b"x")
    os.utime(where.depot / "recent.csv.part", (NOW.timestamp() + 60,) * 2)
    kept = tree(where.registre / "convention")
    assert purge(where, NOW + dt.timedelta(days=30)) == 0
    assert len(originals(where)) == 1
    assert purge(where, NOW + dt.timedelta(days=30, seconds=1)) == 4
    assert originals(where) == [] and list((where.restreint / "originaux").iterdir()) == []
    assert list(where.retours.iterdir()) == []
    assert [p.name for p in where.depot.iterdir()] == ["recent.csv.part"]
    assert tree(where.registre / "convention") == kept
    assert journal(where)[-1]["fichiers"] == {"originaux": 1, "en_cours": 0, "retours": 2, "depot": 1}


def test_the_retention_is_that_of_the_environment(where: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    workbook(where.depot / "creuse.xlsx", convention=[convention(1)])
    around(where)
    monkeypatch.setenv("DK_RETENTION_JOURS", "3")
    assert purge(where, NOW + dt.timedelta(days=2)) == 0
    assert purge(where, NOW + dt.timedelta(days=4)) >= 1
    monkeypatch.setenv("DK_RETENTION_JOURS", "un mois")
    with pytest.raises(ValueError, match="DK_RETENTION_JOURS : écrire un nombre de jours"):
        purge(where, NOW)


def test_a_file_never_admitted_does_not_outlive_the_retention(where: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    workbook(where.depot / "creuse.xlsx", convention=[convention(1)])
    monkeypatch.setattr(admission, "_check_all", lambda *_: 1 / 0)
    assert [a.statut for a in around(where)] == ["panne"]
    assert purge(where, NOW + dt.timedelta(days=31)) == 1
    assert list((where.restreint / "en_cours").iterdir()) == []


# --- crashes ------------------------------------------------------------------------------------------------------

# Every function that leaves something behind, in the order in which an admission calls them.
STEPS = ("_claim", "_receive", "_check_all", "_answer", "keep", "_note_admission", "_archive")


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", STEPS)
def test_a_crash_at_any_step_loses_nothing_and_is_done_over_to_the_same_bytes(
    tmp_path: Path, step: str, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def world(name: str) -> Home:
        where = Home(tmp_path / name).ensure()
        workbook(where.depot / "creuse.xlsx", convention=[convention(1)])
        around(where)
        workbook(
            where.depot / "creuse.xlsx",
            convention=[*[convention(rank, statut="achevée") for rank in range(1, 9)], convention(9, statut="?")],
            action=[action(1)],
        )
        return where

    smooth, crashed = world("sans"), world("avec")
    around(smooth)
    original = getattr(admission, step)

    def crash(*args: object, **kwargs: object) -> None:
        if when == "after":
            original(*args, **kwargs)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(admission, step, crash)
        with pytest.raises(KeyboardInterrupt):
            around(crashed)
    around(crashed)
    around(crashed)
    for folder in ("registre", "retours"):
        expected, found = tree(smooth.root / folder), tree(crashed.root / folder)
        for each in (expected, found):
            each.pop("journal.jsonl", None)
            each.pop("creuse.reponse.txt", None)  # holds the hour
            each.pop("creuse.annote.xlsx", None)
        assert found == expected
    assert {p.name for p in crashed.retours.iterdir()} == {"creuse.reponse.txt", "creuse.annote.xlsx"}
    assert len(originals(crashed)) == 2, "both versions are kept, neither twice"
    assert list(crashed.depot.iterdir()) == [] and list((crashed.restreint / "en_cours").iterdir()) == []
    assert "admis en partie" in [line["statut"] for line in journal(crashed)]
    assert not list(crashed.registre.rglob(".*"))


def test_a_journal_cut_by_a_crash_is_read_and_goes_on(where: Home) -> None:
    workbook(where.depot / "creuse.xlsx", convention=[convention(1)])
    around(where)
    path = where.registre / "journal.jsonl"
    path.write_bytes(path.read_bytes() + b'{"le": "2026-11-2')
    workbook(where.depot / "nievre.csv.xlsx", convention=[convention(2)])
    around(where)
    assert [line["emetteur"] for line in journal(where)] == ["creuse", "nievre_csv"]


def test_a_full_disk_is_told_and_the_file_waits(where: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    workbook(where.depot / f"{NOM}.xlsx", convention=[convention(1)])

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", str(where.restreint / f"{NOM}.xlsx"))

    with monkeypatch.context() as patch:
        patch.setattr(admission, "keep", full)
        with pytest.raises(OSError, match="No space left on device") as caught:
            around(where)
    assert NOM not in str(caught.value) and caught.value.__context__ is None
    assert [a.statut for a in around(where)] == ["admis"]


def test_a_defect_met_on_one_file_is_told_without_its_values_and_stops_no_other(
    where: Home, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    workbook(where.depot / "creuse.xlsx", convention=[convention(1)])
    workbook(where.depot / "nievre.xlsx", convention=[convention(2)])
    check_all = admission._check_all

    def broken(batch: dict[str, pl.DataFrame], known: object) -> object:
        if "23-PVD-001" in batch["convention"]["convention_id"]:
            raise ValueError(f"could not convert {COURRIEL} {NOM}")
        return check_all(batch, known)

    with monkeypatch.context() as patch:
        patch.setattr(admission, "_check_all", broken)
        with caplog.at_level(logging.DEBUG):
            done = around(where)
        with pytest.raises(AdmissionError) as caught:
            admit(next((where.restreint / "en_cours").rglob("*.xlsx")), where)
    assert sorted(a.statut for a in done) == ["admis", "panne"]
    told = caplog.text + (where.registre / "journal.jsonl").read_text() + str(caught.value)
    assert "ValueError" in told and COURRIEL not in told and NOM not in told
    assert caught.value.__context__ is None and caught.value.__cause__ is None
    assert [a.statut for a in around(where)] == ["admis"], "mended: the file that waited is taken"


# --- nothing personal ---------------------------------------------------------------------------------------------


def test_a_crash_of_a_library_leaves_its_temporary_files_in_the_restricted_zone(
    where: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "tmp"
    elsewhere.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(elsewhere))
    # Windows encoding: the reader writes a decoded copy.
    path = sheet_csv(where.depot / "convention_creuse.csv", "convention", [convention()])
    path.write_bytes(path.read_text(encoding="utf-8-sig").encode("cp1252"))
    copied: list[Path] = []
    from ingestion import reading

    def crash(source: Path, *_: object, **__: object) -> None:
        copied.append(source)
        shutil.copytree(source.parent, source.parent.with_name("dk-reste"))  # as if the process had died here
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(reading, "_read_csv", crash)
        with pytest.raises(KeyboardInterrupt):
            around(where)
    assert where.restreint in copied[0].parents and list(elsewhere.iterdir()) == []
    assert tempfile.tempdir == str(elsewhere)
    assert [a.statut for a in around(where)] == ["admis"]
    assert [p.name for p in originals(where)] == ["convention_creuse.csv"], "nothing is left of the copy"


def test_nothing_personal_is_written_outside_the_restricted_zone_and_the_answers(
    where: Home, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    personal = (NOM, COURRIEL, TELEPHONE, NIR, "Durand", "jeanne.durand")
    # In their own columns, and where they should not be: in a code, a list, a number, a date and a kept free text.
    wrong = [
        convention(11, convention_id=COURRIEL), convention(12, statut=f"signée ({NOM})"), convention(13, signataires_nb=TELEPHONE),
        convention(14, date_signature=NIR), convention(15, territoire_code=NOM),
    ]  # fmt: skip
    objectif = {
        "indicateur_id": "pvd_x", "territoire_niveau": "departement", "territoire_code": "23", "version": 1,
        "departement_code": "23", "valeur_initiale": 1, "date_initiale": "2021-01-01", "valeur_cible": 2,
        "date_cible": "2026-01-01", "date_decision": "2021-01-01", "auteur_fonction": f"préfète {NOM}",
        "auteur_nom": NOM, "motif": f"demandé par {COURRIEL} ({TELEPHONE})",
    }  # fmt: skip
    workbook(where.depot / "creuse.xlsx", convention=[*map(convention, range(1, 31)), *wrong], action=[action(1)])
    workbook(where.depot / "objectifs.xlsx", objectif=[objectif])
    (where.depot / "liste.csv").write_text(f"nom;courriel\n{NOM};{COURRIEL}\n", encoding="utf-8")
    with caplog.at_level(logging.DEBUG):
        done = {a.emetteur: a for a in around(where)}
    assert done["creuse"].rejetees == 5 and done["creuse"].gardees == 31
    output = capfd.readouterr()
    seen = "\n".join([repr(done), caplog.text, output.out, output.err])
    assert not [text for text in personal if text in seen]
    for name, body in tree(where.root).items():
        if not name.startswith(("restreint/", "retours/")):
            assert not [text for text in personal if text.encode() in body], name
            if name.endswith(".parquet"):
                shown = pl.read_parquet(where.root / name).write_csv()
                assert not [text for text in personal if text in shown], name
    answers = "".join(p.read_text(encoding="utf-8") for p in where.retours.glob("*.txt"))
    assert not [text for text in (COURRIEL, TELEPHONE, NIR) if text in answers], "the note needs no value"


# --- the sensor's eye ---------------------------------------------------------------------------------------------


def test_the_same_files_ask_once_and_a_change_asks_again(where: Home) -> None:
    path = sheet_csv(where.depot / "convention_creuse.csv", "convention", [convention(1)])
    first, cursor = watch(where, None, 0)
    assert first is not None and "creuse" not in cursor
    again, cursor = watch(where, cursor, 0)
    assert again is None
    time.sleep(0.02)
    path.write_bytes(path.read_bytes() + b"\r\n")
    changed, cursor = watch(where, cursor, 0)
    assert changed not in (None, first)
    around(where)
    assert watch(where, cursor, 0)[0] is None, "nothing is left"


def test_a_file_too_young_is_seen_again_before_it_asks(where: Home) -> None:
    sheet_csv(where.depot / "convention_creuse.csv", "convention", [convention(1)])
    first, cursor = watch(where, None, 0.2)
    assert first is None
    time.sleep(0.25)
    assert watch(where, cursor, 0.2)[0] is not None


def test_a_damaged_cursor_is_started_anew(where: Home) -> None:
    sheet_csv(where.depot / "convention_creuse.csv", "convention", [convention(1)])
    assert watch(where, "{pas du json", 0)[0] is not None


def test_what_a_crash_left_halfway_asks_too(where: Home) -> None:
    folder = where.restreint / "en_cours" / "2026-11-25T060000Z-0a1b2c3d"
    folder.mkdir(parents=True)
    shutil.copy(sheet_csv(where.root / "convention_creuse.csv", "convention", [convention(1)]), folder)
    assert watch(where, None, 0)[0] is not None


def test_loading_the_graph_reads_no_file_of_the_drop_folder(tmp_path: Path) -> None:
    where = Home(tmp_path / "dk").ensure()
    os.mkfifo(where.depot / "convention_bloquant.csv")  # whoever opens it waits for ever
    (where.depot / "creuse.xlsx").write_bytes(b"x")
    os.chmod(where.depot / "creuse.xlsx", 0)
    before = (where.depot / "creuse.xlsx").stat().st_atime_ns
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("DK_", "DBT_", "DAGSTER_"))}
    done = subprocess.run(
        [sys.executable, "-c", "import orchestration.definitions"], env=environment | {"DK_HOME": str(where.root)},
        cwd=PROJECT, capture_output=True, text=True, timeout=400,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert (where.depot / "creuse.xlsx").stat().st_atime_ns == before
    assert len(list(where.depot.iterdir())) == 2
