"""The embedded run as a person meets it on the first day: no network, one minute, one release that answers."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from ingestion.declarations import load_sources
from ingestion.paths import Home
from orchestration import release
from orchestration.cli import main
from tests.integration.conftest import EMBEDDED_COMMUNES, Revision, Run, dk, succeeded

COMMANDS = sorted(main.commands)


@pytest.fixture
def ask(embedded: Run) -> Callable[..., str]:
    """Standard output of a ``dk`` command on the embedded installation, which must succeed."""
    return lambda *arguments: succeeded(dk(embedded.home.root, *arguments))


@pytest.fixture
def rows(embedded: Run) -> Callable[[str], list[tuple]]:
    """Rows of a query on the published DuckDB file, read in this process."""
    import duckdb

    path = embedded.home.releases / "current" / "dernier_kilometre.duckdb"

    def run(sql: str) -> list[tuple]:
        with duckdb.connect(str(path), read_only=True) as con:
            return con.execute(sql).fetchall()

    return run


# --- the run ----------------------------------------------------------------------------------------------------


def test_run_ends_with_the_release_and_how_to_open_it(embedded: Run) -> None:
    assert embedded.code == 0, embedded.output
    lines = embedded.output.rstrip().splitlines()
    current = (embedded.home.releases / "current").resolve()
    assert lines[-2] == f"Publication {current.name} (nouvelle) : {current}"
    assert lines[-1] == 'Pour l\'ouvrir : dk query "select * from mart_couverture" --format table'
    assert sum("Traceback" in line for line in lines) == 0


def test_run_asks_nothing_of_the_network(embedded: Run) -> None:
    assert embedded.code == 0
    assert embedded.network == "", "le passage embarqué a voulu joindre le réseau"


def test_run_costs_at_most_150_seconds_of_processor_and_three_gibibytes(embedded: Run) -> None:
    """Other tests run meanwhile: what the run itself used is counted, not how long it had to wait for it."""
    assert embedded.cpu <= 150
    assert 50 << 20 < embedded.peak <= 3 << 30


def test_run_writes_only_below_its_home(embedded: Run) -> None:
    assert embedded.outside == {name: [] for name in embedded.outside}
    assert embedded.checkout_before == embedded.checkout_after
    assert {p.name for p in embedded.home.root.iterdir()} == {
        "snapshots", "work", "releases", "evaluateurs", "dagster", "depot", "registre", "restreint", "retours", "estimations",
    }  # fmt: skip
    with sqlite3.connect(f"file:{embedded.home.dagster / 'history' / 'runs.db'}?mode=ro", uri=True) as runs:
        assert runs.execute("select count(*) from runs where status = 'SUCCESS'").fetchone()[0] >= 2


def test_unchanged_second_run_publishes_nothing_new(copie: Home) -> None:
    before = sorted(p.name for p in copie.releases.iterdir())
    current = (copie.releases / "current").resolve()
    output = succeeded(dk(copie.root, "run"))
    assert output.rstrip().splitlines()[-2] == f"Publication {current.name} (inchangée) : {current}"
    assert sorted(p.name for p in copie.releases.iterdir()) == before
    assert not copie.candidate.exists(), "rien n'a changé : rien n'était à construire"


# --- what it holds ----------------------------------------------------------------------------------------------


def test_46_interventions_each_with_both_kinds_of_indicator(rows: Callable[[str], list[tuple]]) -> None:
    assert rows("select count(*), count(distinct intervention_id) from dim_intervention") == [(46, 46)]
    assert rows("select count(*) from mart_couverture join dim_intervention using (intervention_id)") == [(46,)]
    assert rows(
        "select intervention_id from mart_couverture where indicateurs_politique_publique < 1 or indicateurs_vie_quotidienne < 1"
    ) == []
    # The counts are those of the bridge, not a constant.
    assert rows(
        "select count(*) from mart_couverture m join (select intervention_id, count(*) filter (portee = 'politique_publique') p, "
        "count(*) filter (portee = 'vie_quotidienne') v from bridge_intervention_indicateur group by 1) b using (intervention_id) "
        "where (m.indicateurs_politique_publique, m.indicateurs_vie_quotidienne) is distinct from (b.p, b.v)"
    ) == [(0,)]


def test_every_declared_source_is_in_the_release(rows: Callable[[str], list[tuple]]) -> None:
    assert {r[0] for r in rows("select source_id from dim_source")} == set(load_sources())
    absent = {r[0] for r in rows("select source_id from mart_fraicheur where statut = 'non fournie'")}
    assert absent == {s.source_id for s in load_sources().values() if s.meta.embarque == "non" and not any(d.demonstration for d in s.meta.livraisons)}


def _published(archive: Path, year: int) -> list[dict]:
    """Current communes of the published file of a population year."""
    folder = next((archive / "etalab_decoupage_administratif").glob(f"pop{year}_*"))
    return [r for r in json.loads((folder / "communes.json").read_bytes()) if r["type"] == "commune-actuelle"]


@pytest.mark.parametrize("year", [2016, 2019, 2020, 2021, 2022, 2023])
def test_published_populations_are_those_of_the_file(
    year: int, archive: Path, rows: Callable[[str], list[tuple]]
) -> None:
    published = {r["code"]: r.get("population") for r in _published(archive, year)}
    found = rows(
        "select territoire_code, valeur from fct_observation where indicateur_id = 'population_municipale' and provenance = 'publié' "
        f"and territoire_niveau = 'commune' and est_derniere_version and year(periode_debut) = {year}"
    )
    assert len(found) > 34_700
    # A commune whose code changed is published under its new code: the value is that of a code since gone.
    gone = set(published) - {r["code"] for r in _published(archive, 2023)}
    moved = [(code, value) for code, value in found if code not in published]
    assert len(moved) <= 10
    assert [(code, value) for code, value in moved if value not in {published[old] for old in gone}] == []
    assert [(code, value, published[code]) for code, value in found if code in published and value != published[code]] == []


@pytest.mark.parametrize(("year", "declared"), [(2022, 67_760_573), (2023, 68_094_280)])
def test_national_population_is_the_total_of_the_file(
    year: int, declared: int, archive: Path, rows: Callable[[str], list[tuple]]
) -> None:
    note = load_sources()["etalab__communes"].livraison(str(year)).note
    assert f"{declared:,}".replace(",", " ") in " ".join(note.split())
    overseas = ("975", "977", "978", "984", "986", "987", "988", "989")
    in_departments = {
        r["code"]: r.get("population") or 0 for r in _published(archive, year) if not r["code"].startswith(overseas)
    }
    assert sum(n for code, n in in_departments.items() if not code.startswith("976")) == declared
    # INSEE's movements are not in the embedded archive: a commune that merged without leaving a delegated commune is
    # lost to the total, and nothing else is.
    later = {r["code"] for r in json.loads((archive / EMBEDDED_COMMUNES).read_bytes())}
    untraced = {code: n for code, n in in_departments.items() if code not in later}
    assert len(untraced) == {2022: 8, 2023: 0}[year]
    found = rows(
        "select valeur from fct_observation where indicateur_id = 'population_municipale' and territoire_niveau = 'national' "
        f"and territoire_code = 'FR' and est_derniere_version and year(periode_debut) = {year}"
    )
    assert found == [(float(sum(in_departments.values()) - sum(untraced.values())),)]


# --- the commands -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_is_french_and_says_something(command: str) -> None:
    from click.testing import CliRunner

    done = CliRunner().invoke(main, [*command.split(), "--help"])
    assert done.exit_code == 0
    about = main.commands[command].help if command else main.help
    assert about and len(about.strip()) > 30
    assert " ".join(about.strip().splitlines()[0].split()) in " ".join(done.output.split())
    words = {w.strip(".,;:()").lower() for w in about.split()}
    assert words & {"la", "le", "les", "de", "une", "ce", "et", "du"}, about
    assert not words & {"the", "of", "and", "with", "this"}, about
    options = [p for p in (main.commands[command] if command else main).params if p.param_type_name == "option"]
    assert [o.name for o in options if not o.help] == [], "une option sans aide"


def test_help_as_a_process(tmp_path: Path) -> None:
    output = succeeded(dk(tmp_path, "--help"))
    assert all(f"  {name} " in output for name in COMMANDS)
    assert list(tmp_path.iterdir()) == [], "l'aide n'écrit rien"


QUERY = (
    "select territoire_code, territoire_nom, population, cog_annee from dim_territoire where territoire_niveau = 'departement' "
    "and est_pivot order by 1 limit 12"
)


def test_query_gives_the_same_rows_in_every_form(
    embedded: Run, ask: Callable[..., str], rows: Callable[[str], list[tuple]], tmp_path: Path
) -> None:
    import subprocess

    from tests.integration.conftest import DK, environment

    expected = [tuple("" if v is None else str(v) for v in row) for row in rows(QUERY)]
    assert len(expected) == 12

    as_csv = list(csv.reader(io.StringIO(ask("query", QUERY, "--format", "csv"))))
    header, *lines = as_csv
    assert header == ["territoire_code", "territoire_nom", "population", "cog_annee"]
    assert [tuple(line) for line in lines] == expected

    as_json = json.loads(ask("query", QUERY, "--format", "json"))
    assert [tuple("" if v is None else str(v) for v in row.values()) for row in as_json] == expected

    raw = subprocess.run(
        [str(DK), "query", QUERY, "--format", "parquet"], env=environment(embedded.home.root), capture_output=True, check=True
    ).stdout
    assert [tuple("" if v is None else str(v) for v in row) for row in pl.read_parquet(io.BytesIO(raw)).rows()] == expected

    first, *lines = ask("query", QUERY).splitlines()
    assert first.split() == header
    assert [" ".join(line.split()) for line in lines] == [" ".join(v for v in row if v) for row in expected]


def test_query_table_shows_every_digit_of_a_population(ask: Callable[..., str], rows: Callable[[str], list[tuple]]) -> None:
    sql = (
        "select valeur from fct_observation where indicateur_id = 'population_municipale' and territoire_niveau = 'national' "
        "and year(periode_debut) = 2023"
    )
    [(value,)] = rows(sql)
    assert ask("query", sql).split()[1] == f"{value:.0f}"


@pytest.mark.parametrize(
    "sql",
    [
        "create table intrus as select 1",
        "insert into dim_source select * from dim_source",
        "delete from fct_observation",
        "drop table dim_source",
        "select 1; create table intrus as select 1",
        "copy (select 1) to '{dossier}/fuite.csv'",
        "attach '{dossier}/autre.duckdb' as autre",
        "select * from read_csv('{dossier}/secret.csv')",
        "select * from '{dossier}/secret.csv'",
        "select * from read_text('{dossier}/secret.csv')",
        "install httpfs",
        "set enable_external_access = true",
    ],
)
def test_query_that_would_write_or_look_outside_is_refused(sql: str, embedded: Run, tmp_path: Path) -> None:
    (tmp_path / "secret.csv").write_text("mot\nserrure\n")
    before = {p: p.stat().st_mtime_ns for p in (embedded.home.releases / "current").resolve().rglob("*")}
    done = dk(embedded.home.root, "query", sql.format(dossier=tmp_path), "--format", "csv")
    assert done.returncode == 2, done.stdout
    assert done.stderr.startswith("Erreur : requête refusée par DuckDB") and "Traceback" not in done.stderr
    assert "serrure" not in done.stdout + done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["secret.csv"]
    assert before == {p: p.stat().st_mtime_ns for p in (embedded.home.releases / "current").resolve().rglob("*")}


def test_sources_lists_each_declared_source_with_its_state(ask: Callable[..., str]) -> None:
    lines = ask("sources").splitlines()[1:]
    state = {line.split()[0]: line.split()[-1] for line in lines if line[:1].strip()}
    assert set(state) >= set(load_sources())
    assert state["etalab__communes"] in ("fraîche", "périmée")
    assert state["insee__chomage_departements"] == "collectée", "« jamais collectée » : hors de l'archive embarquée"


def test_releases_and_diff(embedded: Run, revision: Revision) -> None:
    [line] = succeeded(dk(embedded.home.root, "releases")).splitlines()
    published = len(list((embedded.home.releases / "current" / "parquet").glob("*.parquet")))
    assert line.startswith("* demo-2") and f"  {published} tables  " in line
    old, new = succeeded(dk(revision.home.root, "releases")).splitlines()
    assert (old[0], new[0]) == (" ", "*")
    notes = succeeded(dk(revision.home.root, "diff", old.split()[0]))
    assert notes == (revision.home.releases / "current" / "changes.md").read_text(encoding="utf-8") + "\n"
    unknown = dk(revision.home.root, "diff", "2000-01-01-1")
    assert unknown.returncode == 1 and "pas de publication « 2000-01-01-1 »" in unknown.stderr


def test_doctor_finds_nothing_missing_then_says_what_is(embedded: Run, ask: Callable[..., str], tmp_path: Path) -> None:
    report = ask("doctor")
    assert "MANQUE" not in report and report.count("bon   ") >= 12
    assert f"{len(load_sources())} sources déclarées" in report
    empty = dk(tmp_path / "vide", "doctor")
    assert empty.returncode == 1
    assert "MANQUE  publication courante : aucune\n        remède : dk run" in empty.stdout


@pytest.mark.parametrize("origin", ["nulle-part", "mirror:", "ftp://exemple"])
def test_unknown_origin_is_a_usage_error(origin: str, tmp_path: Path) -> None:
    done = dk(tmp_path / "dk", "run", "--from", origin)
    assert done.returncode == 2
    assert done.stderr.startswith("Erreur : ") and "mirror:" in done.stderr and "Traceback" not in done.stderr


def test_query_before_the_first_run_says_what_to_do(tmp_path: Path) -> None:
    done = dk(tmp_path / "dk", "query", "select 1")
    assert done.returncode == 1 and "dk run" in done.stderr and "Traceback" not in done.stderr


def test_embedded_archive_member_of_the_tests_exists(archive: Path) -> None:
    assert (archive / EMBEDDED_COMMUNES).is_file()


def test_a_mirror_between_two_embedded_runs_is_neither_late_nor_lost(copie: Home, archive: Path, tmp_path: Path) -> None:
    """The embedded archive was not asked for what it does not hold: that stays as the mirror left it, and nothing is late."""
    import gzip

    communes = json.loads((archive / "etalab_decoupage_administratif" / "pop2016_v0.3.0" / "communes.json").read_bytes())
    rows = [(c["code"], c.get("population", 0)) for c in communes if c["type"] == "commune-actuelle"]
    folder = tmp_path / "miroir" / "insee_cog" / "derive_csv"
    folder.mkdir(parents=True)
    for name, header in (("cogugaison_exemple_popcom_P12_POP", "CODGEO,P12_POP"), ("pop2015", "DEPCOM,pop2015")):
        text = "\n".join([header, *(f"{code},{population}" for code, population in rows)])
        (folder / f"{name}.csv.gz").write_bytes(gzip.compress(text.encode(), 1))
    state = "select statut, motif, fichiers_retenus from mart_fraicheur where source_id = 'insee__population'"
    values = "select count(*) as n, sum(valeur) as total from fct_observation where source_id = 'insee__population'"

    def ask(sql: str) -> list[dict]:
        return json.loads(succeeded(dk(copie.root, "query", sql, "--format", "json")))

    first = release.release_ids(copie)
    assert ask(state)[0]["statut"] == "non fournie"
    succeeded(dk(copie.root, "run", "--from", f"mirror:{tmp_path / 'miroir'}", "--only", "insee__population"))
    second = release.release_ids(copie)
    assert len(second) == len(first) + 1 and ask(state) == [{"statut": "à jour", "motif": None, "fichiers_retenus": 2}]
    told = ask(values)
    assert told[0]["n"] > 60_000
    output = succeeded(dk(copie.root, "run"))
    assert "En retard" not in output and "(inchangée)" in output
    assert release.release_ids(copie) == second and ask(values) == told
