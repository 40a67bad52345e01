"""What evaluators take away and ask, on the embedded release: exports, examples, and questions that must harm nothing."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest

from ingestion.declarations import PROJECT
from ingestion.paths import Home
from orchestration import guarded, release
from tests.integration.conftest import DK, Run, dk, environment, succeeded

EXEMPLES = PROJECT / "notebooks" / "exemples"
TABLE = "fct_observation"
CONDITION = "indicateur_id = 'population_municipale' and territoire_niveau = 'commune' and territoire_code like '01%' and est_derniere_version"


@pytest.fixture(scope="module")
def folder(embedded: Run) -> Path:
    return (embedded.home.releases / "current").resolve()


@pytest.fixture(scope="module")
def expected(folder: Path) -> pl.DataFrame:
    """The rows that the exports of this file must hold, read from the release itself."""
    frame = pl.read_parquet(folder / "parquet" / f"{TABLE}.parquet").filter(
        pl.col("territoire_code").str.starts_with("01"), pl.col("est_derniere_version"),
        indicateur_id="population_municipale", territoire_niveau="commune",
    )  # fmt: skip
    assert frame.height > 1000 and frame["territoire_code"].str.starts_with("0").all()
    return frame


@pytest.fixture(scope="module")
def exports(embedded: Run, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same rows in every form."""
    target = tmp_path_factory.mktemp("exports")
    forms = {"csv": ["csv"], "francais": ["csv", "--francais"], "xlsx": ["xlsx"], "ods": ["ods"], "parquet": ["parquet"]}
    done = {}
    for name, (form, *more) in forms.items():
        path = target / f"{name}.{form}"
        output = succeeded(dk(embedded.home.root, "export", TABLE, "--format", form, "--where", CONDITION, "--out", str(path), *more))
        assert output.startswith(f"{pl.read_csv(target / 'csv.csv').height} lignes de {TABLE}, publication ")
        done[name] = path
    return done


def sheets(path: Path) -> dict[str, pl.DataFrame]:
    import fastexcel

    book = fastexcel.read_excel(path)
    return {name: book.load_sheet(name).to_polars() for name in book.sheet_names}


def same(found: pl.DataFrame, expected: pl.DataFrame) -> None:
    """The same rows in the same order, once what a spreadsheet types more loosely has its type again."""
    assert found.columns == expected.columns
    cast = found.select(
        (pl.col(n).cast(pl.Date) if kind == pl.Date else pl.col(n).cast(kind, strict=False)).alias(n) for n, kind in expected.schema.items()
    )
    assert cast.equals(expected, null_equal=True)


# --- exports ----------------------------------------------------------------------------------------------------


def test_every_form_holds_the_same_rows(exports: dict[str, Path], expected: pl.DataFrame) -> None:
    same(pl.read_parquet(exports["parquet"]), expected)
    same(pl.read_csv(exports["csv"], schema_overrides=expected.schema, try_parse_dates=True), expected)
    for form in ("xlsx", "ods"):
        same(next(iter(sheets(exports[form]).values())), expected)


def test_every_form_says_where_it_comes_from(exports: dict[str, Path], folder: Path, expected: pl.DataFrame) -> None:
    package = json.loads((folder / "datapackage.json").read_text(encoding="utf-8"))
    [resource] = [r for r in package["resources"] if r["name"] == TABLE]
    units = {f["name"]: f.get("unit") for f in resource["schema"]["fields"]}

    def told(about: dict[str, str], columns: list[dict[str, Any]], sources: list[dict[str, Any]]) -> None:
        assert about["Publication"] == folder.name and about["Date de la publication"] == package["created"][:10]
        assert about["Lignes"] == str(expected.height) and about["Filtre"] == CONDITION
        assert folder.name in about["Citation"] and "Licence Ouverte 2.0 (Etalab)" in about["Licences des sources"]
        assert ("Mention" in about) == folder.name.startswith("demo-")
        assert [c["colonne"] for c in columns] == expected.columns
        assert {c["colonne"]: c["unite"] for c in columns} == units and all(c["definition"] for c in columns)
        [communes] = [s for s in sources if s["source"] == "etalab__communes"]
        assert communes["licence"] and communes["citation"] and communes["producteur"]

    stored = json.loads(pl.read_parquet_metadata(exports["parquet"])["dernier_kilometre"])
    told(stored["a_propos"], stored["colonnes"], stored["sources"])
    for form in ("xlsx", "ods"):
        book = sheets(exports[form])
        assert list(book)[1:] == ["Dictionnaire", "À propos", "Sources"]
        assert next(iter(book)) == ("Données de démonstration" if folder.name.startswith("demo-") else "Données")
        told(dict(book["À propos"].rows()), book["Dictionnaire"].to_dicts(), book["Sources"].to_dicts())
    for form in ("csv", "francais"):
        beside = exports[form].with_name(f"{exports[form].stem}_dictionnaire.csv")
        rows = pl.read_csv(beside, separator=";" if form == "francais" else ",", infer_schema=False)
        about = dict(rows.filter(rubrique="À propos").select("nom", "texte").rows())
        columns = rows.filter(rubrique="Colonne").select(colonne="nom", unite="unite", definition="texte").to_dicts()
        assert about["Publication"] == folder.name and about["Filtre"] == CONDITION
        assert {c["colonne"]: c["unite"] for c in columns} == units and all(c["definition"] for c in columns)
        assert "Licence : " in rows.filter(rubrique="Source", nom="etalab__communes")["texte"][0]


def test_the_french_csv_is_written_for_a_french_spreadsheet(exports: dict[str, Path], expected: pl.DataFrame) -> None:
    content = exports["francais"].read_bytes()
    assert content.startswith(b"\xef\xbb\xbf") and content.count(b"\r\n") == content.count(b"\n") == expected.height + 1
    header, first, *_ = csv.reader(io.StringIO(content.decode("utf-8-sig")), delimiter=";", quoting=csv.QUOTE_NONE)
    cell = dict(zip(header, first, strict=True))
    told = expected.row(0, named=True)
    assert cell["territoire_code"] == f'="{told["territoire_code"]}"' and cell["periode_debut"] == told["periode_debut"].isoformat()
    assert cell["valeur"] == str(told["valeur"]).replace(".", ",") and cell["est_derniere_version"] == "VRAI"


@pytest.mark.skipif(not shutil.which("soffice"), reason="LibreOffice n'est pas installé")
def test_libreoffice_opens_the_french_csv_as_it_is_meant(exports: dict[str, Path], expected: pl.DataFrame, tmp_path: Path) -> None:
    """As a person with a French desktop opens it: semicolons, UTF-8, French; codes keep their zeros, dates are dates."""
    subprocess.run(
        ["soffice", f"-env:UserInstallation={(tmp_path / 'profil').as_uri()}", "--headless", "--infilter=CSV:59,34,76,1,,1036",
         "--convert-to", "xlsx:Calc MS Excel 2007 XML", "--outdir", str(tmp_path), str(exports["francais"])],
        check=True, capture_output=True, timeout=180,
    )  # fmt: skip
    [found] = sheets(tmp_path / "francais.xlsx").values()
    assert found["territoire_code"].to_list() == expected["territoire_code"].to_list()
    assert found["valeur"].to_list() == expected["valeur"].to_list() and found["est_derniere_version"].dtype == pl.Boolean
    assert found["periode_debut"].cast(pl.Date).to_list() == expected["periode_debut"].to_list()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["mart_couvertur"], "s'en approchent : mart_couverture"),
        (["secret_cellule"], "Une table réservée aux évaluateurs habilités ne s'exporte pas"),
        (["../parquet/dim_source"], "n'a pas de table publique"),
        (["dim_source", "--where", "nimporte = 1"], "--where est une condition SQL sur les colonnes de dim_source : source_id, "),
        (["dim_source", "--where", "1 = 1; drop table dim_source"], "--where est une condition SQL"),
        (["dim_source", "--where", "1 = 1) union all (select 1"], "--where est une condition SQL"),
        (["dim_source", "--where", "(select count(*) from read_text('/etc/passwd')) > 0"], "Permission Error"),
        (["dim_source", "--where", "(select count(*) from '/etc/passwd') > 0"], "requête refusée"),
        (["dim_source", "--format", "xlsx", "--francais"], "--francais ne concerne que --format csv"),
        (["bridge_territoire", "--format", "ods", "--where", "(select count(*) from range(2)) = 2", "--release", "2000-01-01-1"], "pas de publication"),
    ],
)
def test_an_export_that_cannot_be_says_why_and_writes_nothing(arguments: list[str], said: str, embedded: Run, tmp_path: Path) -> None:
    done = subprocess.run([str(DK), "export", *arguments], env=environment(embedded.home.root), cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == (1 if "pas de publication" in said else 2) and "Traceback" not in done.stderr
    assert done.stderr.startswith("Erreur : ") and said in done.stderr and "root:" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_export_takes_no_more_rows_than_a_sheet_holds(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from orchestration import export

    monkeypatch.setattr(export, "FEUILLE_MAX", 93)
    with guarded.opened(folder, 60, 500) as reader:
        rows = pl.read_parquet(folder / "parquet" / "dim_source.parquet").height
        assert rows > 93
        for form in ("xlsx", "ods"):
            with pytest.raises(export.ExportError, match=rf"{rows} lignes ne tiennent pas .* \(92 au plus\) ; en garder moins par --where"):
                export.export(reader, folder, "dim_source", form, tmp_path / f"a.{form}")
        assert export.export(reader, folder, "dim_source", "csv", tmp_path / "a.csv")[0] == rows


def test_an_export_overwrites_nothing_and_leaves_nothing_half_done(embedded: Run, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("à moi")
    done = dk(embedded.home.root, "export", "dim_source", "--out", str(tmp_path / "a.csv"))
    assert done.returncode == 2 and "existe déjà" in done.stderr and (tmp_path / "a.csv").read_text() == "à moi"
    late = dk(embedded.home.root, "export", TABLE, "--format", "xlsx", "--out", str(tmp_path / "b.xlsx"), "--timeout", "1")
    assert late.returncode == 1 and "requête arrêtée après 1 s (--timeout)" in late.stderr and "Traceback" not in late.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["a.csv"]
    gone = dk(embedded.home.root, "export", "dim_source", "--out", str(tmp_path / "absent" / "a.csv"))
    assert gone.returncode == 1 and "écriture impossible" in gone.stderr


def test_an_export_is_read_only_on_its_release(embedded: Run, folder: Path, exports: dict[str, Path]) -> None:
    assert exports and release.faults(folder) == []


# --- examples ---------------------------------------------------------------------------------------------------


def test_five_lines_of_polars_give_a_published_figure_again(embedded: Run, folder: Path) -> None:
    done = subprocess.run([sys.executable, str(EXEMPLES / "cinq_lignes.py"), str(folder)], capture_output=True, text=True, check=True)
    sql = (
        "select valeur from fct_observation where indicateur_id = 'population_municipale' and territoire_niveau = 'departement' "
        "and territoire_code = '23' and periode_debut = date '2023-01-01' and est_derniere_version"
    )
    published = succeeded(dk(embedded.home.root, "query", sql, "--format", "csv")).split()[1]
    assert done.stdout == f"publié {float(published):.0f} ; refait {float(published):.0f} ; identiques\n"
    code = (EXEMPLES / "cinq_lignes.py").read_text(encoding="utf-8").split("tables = ")[1].strip().splitlines()[1:]
    assert len([line for line in code if line]) == 5


def test_the_python_example_counts_the_published_effects(folder: Path) -> None:
    done = subprocess.run([sys.executable, str(EXEMPLES / "requete.py"), str(folder)], capture_output=True, text=True, check=True)
    first, *lines = done.stdout.splitlines()
    counted = pl.read_parquet(folder / "parquet" / "mart_impact.parquet")["statut"].value_counts()
    assert first == f"Publication {folder.name}"
    assert {line.split(" ; ")[0].strip() for line in lines} == {f"{n} {statut}" for statut, n in counted.rows()}


@pytest.mark.skipif(not shutil.which("duckdb"), reason="la ligne de commande de DuckDB n'est pas installée")
def test_the_command_line_example_lists_every_intervention(folder: Path) -> None:
    sql = (EXEMPLES / "requete.sql").read_text(encoding="utf-8")
    done = subprocess.run(["duckdb"], input=sql, cwd=folder, capture_output=True, text=True, check=True)
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert {r["intervention_nom"] for r in rows} == set(pl.read_parquet(folder / "parquet" / "dim_intervention.parquet")["intervention_nom"])
    # The file that holds all tables opens too, in versions older than the engine that wrote it.
    opened = subprocess.run(["duckdb", "-readonly", "-csv", "-c", "select count(*) as n from mart_couverture", "dernier_kilometre.duckdb"], cwd=folder, capture_output=True, text=True)
    assert opened.stdout.split() == ["n", str(len(rows))], opened.stderr


def test_the_query_of_the_command_line_example_runs_in_the_engine_at_hand(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    text = (EXEMPLES / "requete.sql").read_text(encoding="utf-8")
    sql = "\n".join(line for line in text.splitlines() if not line.startswith("."))
    with duckdb.connect() as con:
        assert len(con.sql(sql).fetchall()) == 46


@pytest.mark.skipif(not shutil.which("Rscript"), reason="R n'est pas installé")
def test_the_r_example_follows_a_departement(embedded: Run, tmp_path: Path) -> None:
    path = tmp_path / "population.csv"
    where = "indicateur_id = 'population_municipale' and territoire_niveau = 'departement' and est_derniere_version"
    succeeded(dk(embedded.home.root, "export", TABLE, "--where", where, "--out", str(path)))
    done = subprocess.run(
        ["Rscript", str(EXEMPLES / "courbe.R"), str(path), "01"], capture_output=True, text=True, env=os.environ | {"LC_ALL": "C.UTF-8"}
    )
    assert done.returncode == 0, done.stderr
    citation, definition, *table = done.stdout.splitlines()
    assert f"table {TABLE}" in citation and definition.startswith("Valeur, dans l'unité indiquée")
    found = {row["periode_debut"]: float(row["valeur"]) for row in csv.DictReader(table)}
    rows = pl.read_csv(path, schema_overrides={"territoire_code": pl.String}).filter(territoire_code="01")
    assert found == dict(rows.select("periode_debut", "valeur").rows()) and len(found) >= 5


def test_older_versions_of_duckdb_can_open_the_file(folder: Path) -> None:
    header = (folder / "dernier_kilometre.duckdb").read_bytes()[:20]
    assert header[8:12] == b"DUCK" and int.from_bytes(header[12:20], "little") == 64, "64 est ce que DuckDB 1.0 lit"


# --- questions that must harm nothing ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sql", "more", "said"),
    [
        ("select count(*) from range(1000000000000) a, range(1000000) b", ["--timeout", "1"], "requête arrêtée après 1 s (--timeout)"),
        ("with recursive t as (select 1 as n union all select n + 1 from t) select max(n) from t", ["--timeout", "1"], "après 1 s (--timeout)"),
        ("select * from range(10000000000)", ["--timeout", "1", "--memory", "100000"], "après 1 s (--timeout)"),
        ("select * from range(10000000000)", ["--memory", "60"], "plus de 60 Mo de mémoire (--memory)"),
        ("select list(range) from range(1000000000)", ["--memory", "60"], "plus de 60 Mo de mémoire (--memory)"),
        ("select a.*, b.*, [a.range] as l from range(100000) a, range(100000) b", ["--memory", "60"], "plus de 60 Mo de mémoire (--memory)"),
    ],
)  # fmt: skip
def test_a_query_that_asks_for_too_much_is_stopped(sql: str, more: list[str], said: str, embedded: Run) -> None:
    start = time.monotonic()
    done = dk(embedded.home.root, "query", sql, *more, timeout=60)
    assert done.returncode == 1 and said in done.stderr and "Traceback" not in done.stderr and done.stdout == ""
    assert time.monotonic() - start < 40


def test_a_query_that_does_not_stop_when_told_ends_with_its_process() -> None:
    """DuckDB answers interruptions; should it once not, the watch ends the process rather than wait."""
    program = (
        "import time; from orchestration import guarded\n"
        "class Deaf:\n    def interrupt(self): pass\n"
        "guarded.GRACE = 0.2\nguarded._Watch(Deaf(), 0.1).start()\ntime.sleep(60)\n"
    )
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=50, cwd=PROJECT)
    assert done.returncode == 1 and "requête arrêtée après 0.1 s (--timeout)" in done.stderr and time.monotonic() - start < 30


@pytest.mark.parametrize(
    "sql",
    [
        "select * from read_csv('/etc/passwd')", "select * from read_text('/etc/passwd')", "select * from glob('/etc/*')", "from '/etc/passwd'",
        "select * from read_parquet('/etc/passwd')", "select * from read_json('/etc/passwd')", "select * from read_blob('/etc/passwd')",
        "copy dim_source to '/tmp/fuite.csv'", "copy (select 1) to '/tmp/fuite.parquet' (format parquet)", "export database '/tmp/fuite'",
        "import database '/tmp/fuite'", "attach ':memory:' as m; create table m.t as select 1", "attach '/tmp/fuite.duckdb' as f",
        "install httpfs", "load httpfs", "force install spatial", "set memory_limit = '100GB'", "set temp_directory = '/tmp'",
        "set enable_external_access = true", "reset enable_external_access", "pragma memory_limit = '100GB'", "set global threads = 64",
        "update dim_source set titre = ''", "alter table dim_source add column x integer", "create or replace view v as select 1",
        "call pragma_version(); drop table dim_source", "vacuum; delete from dim_source", "create secret s (type s3)",
        "select * from sniff_csv('/etc/passwd')", "create macro m() as 1", "insert into dim_source select * from dim_source",
    ],
)  # fmt: skip
def test_a_query_neither_writes_nor_looks_outside(sql: str, folder: Path, tmp_path: Path) -> None:
    """In one process, on the connection that ``dk query`` uses: what is refused there is refused everywhere."""
    def outside() -> list[Path]:
        return sorted(p for p in Path("/tmp").glob("fuite*"))

    before, harmless = outside(), sql.startswith(("attach ':memory:'",))
    try:
        with guarded.opened(folder, 30, 200) as reader:
            frame = reader.frame(sql)
    except guarded.QueryError as error:
        assert "root:" not in str(error)
    else:
        assert harmless and frame.is_empty(), f"accepté : {sql}"
    assert outside() == before
    with duckdb.connect(str(folder / "dernier_kilometre.duckdb"), read_only=True) as con:
        assert con.execute("select count(*) from dim_source where titre <> ''").fetchone()[0] > 80


def test_a_release_removed_or_rolled_back_under_its_readers_harms_nothing(copie: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = (copie.releases / "current").resolve()
    counts = "select (select count(*) from fct_observation), (select count(distinct membre_code) from bridge_territoire)"
    with guarded.opened(folder, 60, 500) as before:
        expected = before.frame(counts).row(0)
    # A long question begins in another process, as evaluators' do, then the folder goes.
    long = subprocess.Popen(
        [str(DK), "query", "select count(*) as n from range(100000) a, range(20000) b where a.range + b.range = (select count(*) from dim_source)", "--format", "csv"],
        env=environment(copie.root), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    with guarded.opened(folder, 60, 500) as reader:
        handles = Path(f"/proc/{long.pid}/fd")
        end = time.monotonic() + 30
        while handles.exists() and long.poll() is None and time.monotonic() < end:
            if any("dernier_kilometre.duckdb" in os.readlink(fd) for fd in handles.iterdir() if fd.is_symlink() and fd.exists()):
                break
            time.sleep(0.05)
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        shutil.rmtree(folder)
        assert reader.frame(counts).row(0) == expected
    output, errors = long.communicate(timeout=120)
    assert long.returncode == 0, errors
    assert int(output.split()[1]) > 0
    after = dk(copie.root, "query", "select 1")
    assert after.returncode == 1 and "dk run" in after.stderr and "Traceback" not in after.stderr


def test_two_readers_at_once_and_a_switch_between_them(revision: Any, tmp_path: Path) -> None:
    """A rollback switches a link: who has opened the later release goes on with it, who asks next gets the older one."""
    from tests.integration.conftest import private_copy

    where = private_copy(revision.home.root, tmp_path / "dk", "snapshots", "work", "dagster")
    where.ensure()
    first, second = release.release_ids(where)
    sql = "select valeur from fct_observation where territoire_niveau = 'commune' and territoire_code = '23096' and periode_debut = date '2023-01-01' and est_derniere_version"
    with guarded.opened((where.releases / "current").resolve(), 60, 500) as reader:
        assert reader.frame(sql).item() == revision.apres
        release.rollback(where, first)
        assert reader.frame(sql).item() == revision.apres
        answers: list[float] = []
        with guarded.opened((where.releases / "current").resolve(), 60, 500) as other:
            thread = threading.Thread(target=lambda: answers.append(other.frame(sql).item()))
            thread.start()
            assert reader.frame(sql).item() == revision.apres
            thread.join()
        assert answers == [revision.avant] and second in release.withdrawn(where)


# --- explain ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("territoire", "said"),
    [
        ("commune:01039", "01039 (Béon, commune) est un code d'un ancien millésime : il n'existe plus après le COG 2022. "
                          "Aujourd'hui : Culoz-Béon (01138). Demander : dk explain population_municipale commune:01138"),
        ("75101", "Aujourd'hui : Paris (75056). Demander : dk explain population_municipale commune:75056"),
        ("200071157", "Aujourd'hui : CC des Hautes Vosges (200096634, 14 communes) ; CC Gérardmer Hautes Vosges (200096642, 8 communes). "
                      "Demander : dk explain population_municipale epci:200096634"),
    ],
)  # fmt: skip
def test_an_old_code_leads_to_what_it_became(territoire: str, said: str, embedded: Run) -> None:
    done = dk(embedded.home.root, "explain", "population_municipale", territoire)
    assert done.returncode == 2 and said in done.stderr, done.stderr
    next_question = said.rsplit("dk ", 1)[1].split()
    assert "Valeur publiée" in succeeded(dk(embedded.home.root, *next_question))


def test_successors_lead_to_communes_of_today_and_share_everyone(folder: Path) -> None:
    passed = pl.read_parquet(folder / "parquet" / "bridge_territoire_successeur.parquet")
    today = pl.read_parquet(folder / "parquet" / "dim_territoire.parquet").filter(pl.col("est_pivot"), territoire_niveau="commune")
    assert passed.join(today, left_on="commune_code", right_on="territoire_code", how="anti").is_empty()
    shares = passed.group_by("cog_annee", "ancien_code").agg(pl.col("part").sum())
    assert shares.height > 100 and (shares["part"] - 1).abs().max() < 1e-9


@pytest.mark.parametrize(
    ("asked", "first"),
    [("population_municipal", "population_municipale"), ("Taux de chomage", "taux_chomage"), ("médecins", "bpe_medecins_generalistes")],
)
def test_an_unknown_indicator_names_the_nearest_ones(asked: str, first: str, embedded: Run) -> None:
    done = dk(embedded.home.root, "explain", asked, "23")
    assert done.returncode == 2
    assert done.stderr.startswith(f"Erreur : aucun indicateur ne s'appelle « {asked} » ; s'en approchent : {first}")
