"""``dk records`` as a programme manager uses it: get a template, fill it in wrong, check it, mend it, check it again."""

from __future__ import annotations

import datetime as dt
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import fastexcel
import pytest
from click.testing import CliRunner, Result

from ingestion.paths import Home
from ingestion.records.layout import interventions, kinds
from orchestration.cli import main
from tests.records_samples import conventions, frame, judged, ods, row, saved, text, workbook


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of one's own, and an empty installation."""
    monkeypatch.setenv("DK_HOME", str(tmp_path / "installation"))
    folder = tmp_path / "travail"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def dk(*arguments: str | Path) -> Result:
    result = CliRunner().invoke(main, ["records", *map(str, arguments)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


# --- template ---------------------------------------------------------------------------------------------------


def test_templates_are_made_for_all_kinds_for_one_and_for_an_intervention(here: Path) -> None:
    assert dk("template").exit_code == dk("template", "convention").exit_code == dk("template", "plan_creuse").exit_code == 0
    sheets = {p.name: fastexcel.read_excel(p).sheet_names[1:-1] for p in here.glob("*.xlsx")}
    assert sheets == {
        "modele_tous.xlsx": [source.meta.titre for source in kinds().values()],
        "modele_convention.xlsx": ["Conventions"],
        "modele_plan_creuse.xlsx": ["Conventions", "Actions", "Engagements financiers", "Critères des contrats", "Objectifs"],
    }


def test_a_name_may_be_typed_as_people_say_it(here: Path) -> None:
    assert dk("template", "demandes d'ingenierie").exit_code == 0
    assert dk("template", "Programme Petites villes de demain", "--out", here / "pvd.xlsx").exit_code == 0
    assert {p.name for p in here.iterdir()} == {"modele_demande_ingenierie.xlsx", "pvd.xlsx"}


def test_an_unknown_name_is_answered_with_all_names_and_the_nearest(here: Path) -> None:
    result = dk("template", "conventoin")
    assert result.exit_code == 2
    assert "vouliez-vous dire « convention » ?" in result.stderr
    assert all(name in result.stderr for name in (*kinds(), *interventions()))
    assert list(here.iterdir()) == []


def test_a_template_never_overwrites_a_file_that_may_be_filled_in(here: Path) -> None:
    (here / "modele_convention.xlsx").write_bytes(b"rempli")
    result = dk("template", "convention")
    assert result.exit_code == 2 and "existe déjà" in result.stderr
    assert (here / "modele_convention.xlsx").read_bytes() == b"rempli"
    assert "écriture impossible" in dk("template", "convention", "--out", here / "absent" / "a.xlsx").stderr


# --- check ------------------------------------------------------------------------------------------------------

FAUX = {
    "C2": ("8", "Code du département", "écrire « 08 »"),
    "E3": ("99999", "Code du territoire", "vérifier le code officiel"),
    "B4": ("petite ville de demain", "Intervention", "vouliez-vous dire « petites_villes_de_demain »"),
    "G5": ("31/02/2021", "Date de signature", "JJ/MM/AAAA"),
    "I6": ("Signee", "Statut", "écrire « signée »"),
    "H7": ("2020-01-01", "Date de fin", "la fin vient après la signature"),
    "K8": ("quatre", "Nombre de signataires", "nombre entier"),
    "M9": ("en cours", "Chef de projet en poste", "oui ou non"),
    "O10": ("camille.exemple", "Courriel du référent", "elle n'est pas conservée"),
    "A11": ("08-X-000", "Identifiant de la convention", "donner un autre identifiant"),
    "A12": ("voir 06 39 98 12 34", "Identifiant de la convention", "la retirer"),
}


def test_a_template_filled_in_wrong_in_many_ways_is_mended_by_what_the_check_says(here: Path) -> None:
    assert dk("template", "convention").exit_code == 0
    rows = conventions(60)
    good = workbook(here / "juste.xlsx", {"convention": rows})
    filled = {("Conventions", f"{chr(65 + place)}{line}"): rows[line - 2][column.name] for place, column in enumerate(kinds()["convention"].saisies)
              for line in range(2, 62) if rows[line - 2].get(column.name)}  # fmt: skip
    typed = saved(here / "modele_convention.xlsx", here / "conventions 08.xlsx", filled | {("Conventions", c): v for c, (v, _, _) in FAUX.items()})
    first = dk("check", typed)
    assert first.exit_code == 3, first.output
    for cell, (value, label, remedy) in FAUX.items():
        letter, line = re.fullmatch("([A-Z]+)([0-9]+)", cell).groups()
        assert f"ligne {line}, " in first.output, (cell, first.output)
        block = first.output.split(f"ligne {line}, ")[1].split("\n  ligne")[0]
        assert f"colonne {letter} « {label} » : « {value} »" in block and remedy in block, (cell, block)
    assert "Feuille « Conventions » : 60 lignes, dont 11 fausses" in first.output
    assert "pris en partie : 49 lignes sur 60 ; 11 lignes à corriger (11 anomalies)" in first.output
    copy = here / "conventions 08_annote.xlsx"
    assert f"Copie annotée : {copy}" in first.output
    mended = saved(copy, here / "conventions 08_annote.xlsx.tmp", {("Conventions", c): filled[("Conventions", c)] for c in FAUX})
    os.replace(mended, copy)
    second = dk("check", copy)
    assert second.exit_code == 0, second.output
    assert "Aucune anomalie : le fichier serait pris en entier (60 lignes)." in second.output
    assert dk("check", good).exit_code == 0
    assert {p.name for p in here.iterdir()} == {"modele_convention.xlsx", "juste.xlsx", "conventions 08.xlsx", "conventions 08_annote.xlsx"}


def test_every_accepted_format_is_checked_the_same_way(here: Path) -> None:
    rows = [*conventions(9), row("convention", statut="faux")]
    (here / "a.csv").write_bytes(text("convention", rows, ",").encode("cp1252"))
    (here / "b.csv").write_bytes(text("convention", rows, ";").encode("utf-8-sig"))
    frame("convention", rows).drop("_ligne").write_parquet(here / "c.parquet")
    outputs = set()
    for path in (workbook(here / "d.xlsx", {"convention": rows}), ods(here / "e.ods", "convention", rows), *(here / n for n in ("a.csv", "b.csv", "c.parquet"))):
        result = dk("check", path)
        assert result.exit_code == 3, path.name
        assert (here / f"{path.stem}_annote.xlsx").exists()
        outputs.add(result.output.replace(f"{path.stem}_annote.xlsx", ""))
    assert len(outputs) == 1, outputs


def test_a_file_with_too_many_wrong_rows_is_refused_whole_and_says_the_share(here: Path) -> None:
    result = dk("check", workbook(here / "a.xlsx", {"convention": [*conventions(2), row("convention", statut="faux")]}))
    assert result.exit_code == 1
    assert "« Conventions » : 33,3\u202f% de lignes fausses, pour 20\u202f% admis." in result.output
    assert "refusé en entier (1 anomalie)" in result.output
    assert (here / "a_annote.xlsx").exists()


def test_an_unreadable_file_is_refused_with_its_name_and_leaves_nothing(here: Path) -> None:
    (here / "a.xlsx").write_bytes(b"PK\x03\x04 coupe")
    result = dk("check", "a.xlsx")
    assert result.exit_code == 1 and "a.xlsx : classeur tronqué ou abîmé" in result.stderr
    assert dk("check", "absent.xlsx").exit_code == 1
    assert [p.name for p in here.iterdir()] == ["a.xlsx"]


def test_an_untouched_template_is_no_error_and_says_what_sending_it_would_do(here: Path) -> None:
    dk("template", "convention")
    result = dk("check", "modele_convention.xlsx")
    assert result.exit_code == 0
    assert "aucune ligne remplie" in result.output and "retirerait celles d'un envoi précédent" in result.output


def test_kinds_sent_together_may_refer_to_each_other_and_one_refused_sheet_refuses_the_file(here: Path) -> None:
    tables = {"action": [row("action")], "convention": [row("convention")], "formation": [row("formation", participants="-1")]}
    result = dk("check", workbook(here / "a.xlsx", tables))
    assert result.exit_code == 1
    assert "Feuille « Actions » : 1 ligne, dont 0 fausse\n" in result.output
    assert "« Formations » : 100\u202f% de lignes fausses" in result.output


def test_what_is_already_admitted_may_be_referred_to_and_ones_own_rows_are_replaced(here: Path) -> None:
    where = Home(Path(os.environ["DK_HOME"])).ensure()
    path = where.registre / "convention" / "conventions_08.parquet"
    path.parent.mkdir(parents=True)
    judged(convention=[row("convention")])["convention"].sanitised().write_parquet(path)
    assert dk("check", workbook(here / "actions.xlsx", {"action": [row("action")]})).exit_code == 0
    assert dk("check", workbook(here / "Conventions 08.xlsx", {"convention": [row("convention")]})).exit_code == 0
    result = dk("check", workbook(here / "autre.xlsx", {"convention": [row("convention")]}))
    assert result.exit_code == 1 and "(conventions_08)" in result.output


def test_a_long_list_is_cut_on_the_terminal_and_whole_in_the_copy(here: Path) -> None:
    rows = conventions(400) + [row("convention", convention_id=f"08-F-{n}", statut="faux") for n in range(80)]
    result = dk("check", workbook(here / "a.xlsx", {"convention": rows}))
    assert result.output.count("valeur hors de la liste") == 50
    assert "… et 30 autres anomalies" in result.output
    listed = fastexcel.read_excel(here / "a_annote.xlsx").load_sheet("Anomalies", header_row=None, skip_rows=0, dtypes="string").to_polars()
    assert listed.height == 4 + 80


def test_what_is_odd_about_a_sheet_is_told_without_being_an_anomaly(here: Path) -> None:
    (here / "a.csv").write_text(text("convention", conventions(2)).replace("Date de fin", "Mon avis"), encoding="utf-8")
    result = dk("check", "a.csv")
    assert result.exit_code == 0
    assert "à noter : la colonne « Mon avis » n'est pas du modèle" in result.output
    assert "colonnes facultatives absentes, lues comme vides : Date de fin" in result.output


def test_a_value_cannot_drive_the_terminal(here: Path) -> None:
    (here / "a.csv").write_text(text("convention", [row("convention", statut="\x1b[2J\x1b]0;x\x07effacé\u202e")]), encoding="utf-8")
    output = dk("check", "a.csv").output
    assert "\x1b" not in output and "\x07" not in output and "\u202e" not in output and "effacé" in output


def test_the_copy_is_readable_by_its_owner_only_and_never_replaces_the_checked_file(here: Path) -> None:
    wrong = workbook(here / "a.xlsx", {"convention": [row("convention", statut="faux")]})
    before = wrong.read_bytes()
    dk("check", wrong)
    copy = here / "a_annote.xlsx"
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    dk("check", copy)
    assert (here / "a_annote_2.xlsx").exists() and wrong.read_bytes() == before
    dk("check", here / "a_annote_2.xlsx", "--out", here / "ailleurs.xlsx")
    assert {p.name for p in here.iterdir()} == {"a.xlsx", "a_annote.xlsx", "a_annote_2.xlsx", "ailleurs.xlsx"}


def test_a_copy_that_cannot_be_written_does_not_hide_the_answer(here: Path) -> None:
    path = workbook(here / "a.xlsx", {"convention": [row("convention", statut="faux")]})
    result = dk("check", path, "--out", here / "absent" / "b.xlsx")
    assert result.exit_code == 1 and "choisir dans la liste" in result.output
    assert "Copie annotée non écrite" in result.stderr


def test_a_check_changes_nothing_in_the_installation(here: Path) -> None:
    dk("check", workbook(here / "a.xlsx", {"convention": conventions(2)}))
    assert not Path(os.environ["DK_HOME"]).exists()


# --- purge and the command itself -------------------------------------------------------------------------------


def test_purge_says_how_many_files_went_and_refuses_a_misspelt_retention(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    where = Home(Path(os.environ["DK_HOME"])).ensure()
    for name, age in (("vieux.reponse.txt", 40), ("neuf.reponse.txt", 2)):
        path = where.retours / name
        path.write_text("réponse", encoding="utf-8")
        when = (dt.datetime.now(dt.UTC) - dt.timedelta(days=age)).timestamp()
        os.utime(path, (when, when))
    assert dk("purge").output == "1 fichier de plus de 30 jours supprimé.\n"
    assert [p.name for p in where.retours.iterdir()] == ["neuf.reponse.txt"]
    monkeypatch.setenv("DK_RETENTION_JOURS", "un mois")
    result = dk("purge")
    assert result.exit_code == 2 and "DK_RETENTION_JOURS" in result.stderr
    assert (where.retours / "neuf.reponse.txt").exists()


def test_help_is_in_french_and_needs_no_library() -> None:
    code = (
        "import sys; from click.testing import CliRunner; from orchestration.cli import main;"
        "out = [CliRunner().invoke(main, ['records', *a, '--help']).output for a in ([], ['check'], ['template'], ['purge'])];"
        "heavy = {'polars', 'duckdb', 'xlsxwriter', 'fastexcel', 'dagster', 'pandas'} & set(sys.modules);"
        "print(heavy or ''); print('\\n'.join(out))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    first, _, rest = done.stdout.partition("\n")
    assert first == ""
    assert rest.count("Montrer cette aide.") == 4 and "Codes de sortie" in rest and "Show this message" not in rest


def test_numbers_of_rows_and_columns_survive_a_csv_with_line_breaks_in_cells(here: Path) -> None:
    rows = [row("convention", intitule="sur\ndeux lignes"), row("convention", convention_id="08-2", statut="faux")]
    (here / "a.csv").write_text(text("convention", rows), encoding="utf-8", newline="")
    assert "ligne 3, colonne I « Statut »" in dk("check", "a.csv").output


def test_doctor_says_whether_pseudonyms_can_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    from ingestion.records.personal import CLE

    def told() -> str:
        return next(line for line in CliRunner().invoke(main, ["doctor"]).output.splitlines() if "pseudonymes" in line)

    monkeypatch.delenv(CLE, raising=False)
    assert told().startswith("note") and CLE in told()
    monkeypatch.setenv(CLE, "trop court")
    assert told().startswith("MANQUE")
    monkeypatch.setenv(CLE, "une clé assez longue pour ne pas être devinée")
    assert told() == "bon     clé des pseudonymes"
