"""From the drop folder to the release: by ``dk run``, and by Dagster's sensor and its job."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from ingestion.declarations import PROJECT
from ingestion.paths import Home
from ingestion.records.admission import journal
from tests.integration.conftest import DK, dk, environment, succeeded
from tests.integration.test_records_admission import COURRIEL, NIR, NOM, TELEPHONE, action, convention, workbook

PERSONAL = (NOM, COURRIEL, TELEPHONE, NIR, "Durand-Lef")

# In a process of its own: the graph reads DK_HOME when it is imported.
SENSOR = """\
import json, sys
import dagster as dg
from orchestration.definitions import defs, depot_enregistrements
from orchestration import instance
from ingestion.paths import home
instance.prepare(home())
cursor = sys.argv[1] or None
with dg.DagsterInstance.get() as held:
    context = dg.build_sensor_context(instance=held, cursor=cursor)
    result = depot_enregistrements(context)
    asked = getattr(result, "run_requests", None) or []
    said = {"cursor": getattr(result, "cursor", None), "cles": [r.run_key for r in asked],
            "motif": str(getattr(result, "skip_reason", None) or getattr(result, "skip_message", ""))}
    if asked:
        said["origine"] = asked[0].run_config["resources"]["origin"]["config"]["depuis"]
        done = defs.resolve_job_def("enregistrements").execute_in_process(
            instance=held, raise_on_error=False, run_config=asked[0].run_config
        )
        said["etapes"] = sorted({e.step_key for e in done.all_events if e.is_step_success})
        said["reussi"] = done.success
        said["metadata"] = {
            name: value.value for event in done.get_asset_materialization_events()
            if event.asset_key.path == ["enregistrements", "admission"]
            for name, value in event.materialization.metadata.items()
        }
print("RESULTAT " + json.dumps(said))
"""


def sensor(home: Home, cursor: str = "") -> dict:
    """What the sensor says, and what its job did when it asked for one."""
    done = subprocess.run(
        [sys.executable, "-c", SENSOR, cursor], cwd=PROJECT, env=environment(home.root), capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.rpartition("RESULTAT ")[2])


def assert_nothing_personal(home: Home) -> None:
    """No planted name, address or number in any file but those of the restricted zone and the answers."""
    looked = 0
    for path in home.root.rglob("*"):
        if not path.is_file() or path.is_symlink() or {home.restreint, home.retours} & set(path.parents):
            continue
        looked += 1
        body = path.read_bytes()
        assert not [text for text in PERSONAL if text.encode() in body or json.dumps(text)[1:-1].encode() in body], path
        if body.startswith(b"PAR1"):
            # Compressed: its text shows only once it is read.
            frame = pl.read_parquet(path)
            words = frame.select(pl.concat_str(pl.all().cast(pl.String, strict=False), ignore_nulls=True, separator="|")).to_series()
            assert not [text for text in PERSONAL if words.str.contains(text, literal=True).any()], path
    assert looked > 100


def query(home: Home, sql: str) -> list[dict]:
    return json.loads(succeeded(dk(home.root, "query", sql, "--format", "json", "--evaluateurs")))


@pytest.fixture
def sent(copie: Home) -> Home:
    """An embedded installation whose drop folder holds one file: 29 good rows, and 5 that hold what they should not."""
    wrong = [
        convention(30, convention_id=COURRIEL), convention(31, statut=f"signée ({NOM})"), convention(32, signataires_nb=TELEPHONE),
        convention(33, date_signature=NIR), convention(34, territoire_code=NOM),
    ]  # fmt: skip
    workbook(copie.ensure().depot / "creuse.xlsx", convention=[*map(convention, range(1, 29)), *wrong], action=[action(1)])
    return copie


def test_dk_run_takes_the_drop_folder_publishes_its_rows_and_nothing_personal(sent: Home) -> None:
    done = dk(sent.root, "run", timeout=240)
    output = succeeded(done) + done.stderr
    assert "relevés de creuse : admis en partie, 29 lignes prises, 5 rejetées" in output
    assert list(sent.depot.iterdir()) == []
    assert [p.name for p in sorted(sent.retours.iterdir())] == ["creuse.annote.xlsx", "creuse.reponse.txt"]
    landed = pl.read_parquet(sent.landing / "interne__convention.parquet").filter(pl.col("_millesime") == "registre")
    assert landed.height == 28
    rejected = query(sent, "select count(*) as n from audit_rejet where source_id = 'interne__convention' and millesime = 'registre'")
    assert rejected == [{"n": 5}]
    assert not [text for text in PERSONAL if text in output]
    assert_nothing_personal(sent)

    again = dk(sent.root, "run", timeout=240)
    assert "rien de neuf" in succeeded(again)


def test_a_refused_file_is_told_and_the_run_still_publishes(copie: Home) -> None:
    workbook(copie.ensure().depot / "creuse.xlsx", convention=[convention(1, statut="?"), convention(2)])
    done = dk(copie.root, "run", timeout=240)
    assert done.returncode == 3, done.stdout + done.stderr
    assert "En retard ou refusé : fichier de creuse : refusé, réponse dans retours" in done.stdout
    assert not (copie.registre / "convention").exists()


def test_a_run_of_other_sources_leaves_the_drop_folder(copie: Home) -> None:
    workbook(copie.ensure().depot / "creuse.xlsx", convention=[convention(1)])
    succeeded(dk(copie.root, "run", "--only", "etalab__communes", timeout=240))
    assert [p.name for p in copie.depot.iterdir()] == ["creuse.xlsx"] and journal(copie) == []


def test_a_misspelt_retention_stops_the_run_at_once(copie: Home) -> None:
    done = dk(copie.root, "run", DK_RETENTION_JOURS="un mois")
    assert done.returncode == 2 and "DK_RETENTION_JOURS : écrire un nombre de jours" in done.stderr


def test_a_connector_without_token_is_late_and_names_its_variable(copie: Home) -> None:
    copie.connecteurs.write_text(
        json.dumps({"connecteurs": [{
            "type": "grist", "nom": "incubations", "base": "http://127.0.0.1:9", "document": "d", "table": "T",
            "kind": "incubation", "colonnes": {"programme_id": "A"},
            "constantes": {"departement_code": "23", "date_lancement": "2024-01-01", "coconstruit": "oui"},
        }]})
    )  # fmt: skip
    done = dk(copie.root, "run", timeout=240)
    assert done.returncode == 3, done.stdout + done.stderr
    assert "connecteur incubations : aucun jeton" in done.stdout and "DK_GRIST_JETON" in done.stdout


def test_the_sensor_asks_once_and_its_job_publishes_what_was_deposited(sent: Home) -> None:
    before = (sent.releases / "current").resolve().name
    said = sensor(sent)
    if not said["cles"]:  # the file was too young at the first look
        said = sensor(sent, said["cursor"])
    assert len(said["cles"]) == 1 and said["reussi"], said
    assert said["origine"] == "embedded", "the demonstration world neither comes nor goes because a file was deposited"
    assert {"enregistrements__admission", "landing__interne__convention", "registre", "entrepot", "release__publication"} <= set(said["etapes"])
    assert not [step for step in said["etapes"] if step.startswith("landing__") and "interne" not in step]
    facts = said["metadata"]
    assert (facts["fichiers"], facts["lignes_prises"], facts["lignes_rejetees"]) == (1, 29, 5)
    assert not [text for text in PERSONAL if text in json.dumps(facts, ensure_ascii=False)]
    assert (sent.releases / "current").resolve().name != before
    assert_nothing_personal(sent)

    assert sensor(sent, said["cursor"])["cles"] == [], "the drop folder is empty"


def test_the_same_files_do_not_ask_again(sent: Home) -> None:
    from ingestion.records.admission import watch

    _, cursor = watch(sent, None, 0)
    assert sensor(sent, cursor)["cles"] == []


def test_the_sensor_waits_for_a_first_collection(tmp_path: Path) -> None:
    home = Home(tmp_path / "dk").ensure()
    workbook(home.depot / "creuse.xlsx", convention=[convention(1)])
    said = sensor(home)
    assert said["cles"] == [] and "lancer d'abord le job « tout », ou « dk run »" in said["motif"]


def test_an_admission_waits_for_the_installation_to_be_free(sent: Home) -> None:
    from orchestration import instance

    with instance.single_writer(sent, 0):
        busy = dk(sent.root, "run")
    assert busy.returncode == 75
    assert [p.name for p in sent.depot.iterdir()] == ["creuse.xlsx"] and DK.exists()
