"""Bad input on the real path: one run in which each file fails in its own way, and what is left standing after it."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from ingestion.paths import Home
from tests.integration.conftest import Revision, Run, dk, environment, private_copy, succeeded
from tests.server import Response, Server

FOLDER = "etalab_decoupage_administratif"
EDITIONS = {
    "2016": "pop2016_v0.3.0", "2019": "pop2019_v1.1.1", "2020": "pop2020_v2.3.1", "2021": "pop2021_v4.0.0",
    "2022": "pop2022_v4.1.0", "2023": "pop2023_v6.0.0",
}  # fmt: skip
HTML = b"<!DOCTYPE html><html><body>Service en maintenance</body></html>"
RETRY_AFTER = 3
UNKNOWN = "01999"
# What the engineer must read about each file: what is wrong, in which file.
REFUSED = {
    ("etalab__communes", "2020"): r"communes\.json\.gz.*connexion impossible ou coupée",
    ("etalab__communes", "2021"): r"communes\.json\.gz.*transfert coupé",
    ("etalab__communes", "2022"): r"communes\.json\.gz.*bombe de compression.*taille_max_mo",
    ("etalab__epci", "2016"): r"epci\.json\.gz : JSON illisible.*tronqué",
    ("etalab__epci", "2019"): r"epci\.json\.gz.*page web",
    ("etalab__epci", "2020"): r"epci\.json\.gz.*fichier vide",
    ("etalab__epci", "2021"): r"epci\.json\.gz : JSON illisible.*UTF-8",
    ("etalab__epci", "2022"): r"epci\.json\.gz : la colonne .*« code ».* manque.*Remède",
    ("etalab__departements", "2023"): r"departements\.json : livraison refusée par « rejets »",
    ("etalab__epci", "2023"): r"epci\.json\.gz.*HTTP 404",
}


def digests(folder: Path) -> dict[str, str]:
    return {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.rglob("*") if p.is_file()}


@dataclass(frozen=True)
class Night:
    home: Home
    code: int
    output: str
    before: dict[str, str]
    after: dict[str, str]
    waited: float
    asked: list[str]


@pytest.fixture(scope="module")
def night(embedded: Run, revision: Revision, archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Night:
    """After a good release, a mirror where ten files are bad, two come late, one holds bad rows and one is revised."""
    home = private_copy(embedded.home.root, tmp_path_factory.mktemp("nuit") / "dk")
    first = home.releases / "current"
    before = digests(first.resolve())

    def good(name: str, edition: str) -> bytes:
        return (archive / FOLDER / EDITIONS[edition] / name).read_bytes()

    def epci(edition: str, old: bytes = b"", new: bytes = b"") -> Response:
        return Response(body=gzip.compress(good("epci.json", edition).replace(old, new), 1))

    def packed(edition: str) -> bytes:
        return gzip.compress(good("communes.json", edition), 1)

    # One bad row is too many for the list of départements, and few enough for that of communes.
    departements = json.loads(good("departements.json", "2023"))
    departements.append(departements[0])
    communes = json.loads(good("communes.json", "2016"))
    # Well formed, in nobody's table: not the reader's business, but that of the geography.
    communes.append({**communes[0], "code": UNKNOWN, "nom": "Nulle-Part"})
    communes += [communes[0], {**communes[0], "code": "1001"}]
    # Members of a gzip file follow one another: some 2 MB that unfold beyond the limit.
    bomb = gzip.compress(bytes(100_000_000), 9) * 22
    with Server() as server:
        server.folder(revision.mirror)
        for (name, edition), answers in {
            ("communes", "2016"): [Response(status=500), Response(body=gzip.compress(json.dumps(communes).encode(), 1))],
            ("communes", "2019"): [Response(status=429, headers={"Retry-After": str(RETRY_AFTER)}), Response(body=packed("2019"))],
            ("communes", "2020"): [Response(reset=True)],
            ("communes", "2021"): [Response(body=packed("2021"), cut_after=100_000)],
            ("communes", "2022"): [Response(body=bomb)],
            ("epci", "2016"): [Response(body=gzip.compress(good("epci.json", "2016")[:1_000_000], 1))],
            ("epci", "2019"): [Response(body=HTML)],
            ("epci", "2020"): [Response(body=b"")],
            ("epci", "2021"): [Response(body=gzip.compress(good("epci.json", "2021").decode().encode("latin-1", "replace"), 1))],
            ("epci", "2022"): [epci("2022", b'"code"', b'"siren"')],
        }.items():
            server.script(f"/{FOLDER}/{EDITIONS[edition]}/{name}.json.gz", answers)
        server.script(f"/{FOLDER}/{EDITIONS['2023']}/departements.json", [Response(body=json.dumps(departements).encode())])
        server.script(f"/{FOLDER}/{EDITIONS['2023']}/regions.json", [Response(body=good("regions.json", "2023"))])
        started = time.monotonic()
        done = dk(home.root, "run", "--from", f"mirror:{server.url}", "--only", "etalab__[cder]*[!l]", timeout=300)
        asked = server.paths
    old = first.parent / sorted(p.name for p in home.releases.iterdir() if not p.is_symlink())[0]
    return Night(home, done.returncode, done.stdout + done.stderr, before, digests(old), time.monotonic() - started, asked)


def etats(night: Night) -> dict[tuple[str, str], dict]:
    return {
        (etat["source_id"], etat["millesime"]): etat
        for path in (night.home.landing / "etats").glob("etalab__*.json")
        for etat in json.loads(path.read_text(encoding="utf-8"))["etats"]
    }


def ask(night: Night, sql: str) -> list[dict]:
    return json.loads(succeeded(dk(night.home.root, "query", sql, "--format", "json")))


def test_the_run_publishes_and_says_that_something_is_late(night: Night) -> None:
    assert night.code == 3, night.output[-3000:]
    assert "(nouvelle)" in night.output


@pytest.mark.parametrize("key", REFUSED, ids=lambda key: " ".join(key))
def test_each_bad_file_is_named_and_its_last_good_version_stays(night: Night, key: tuple[str, str]) -> None:
    etat = etats(night)[key]
    assert etat["statut_collecte"] == "dernière bonne version conservée"
    assert re.search(REFUSED[key], etat["motif"], re.S), etat["motif"]
    assert etat["snapshot_sha256"] and etat["lignes_gardees"] > 0
    assert f"En retard ou refusé : {key[0]} {key[1]}" in night.output


@pytest.mark.parametrize("edition", ["2016", "2019"])
def test_a_passing_failure_is_got_over(night: Night, edition: str) -> None:
    assert etats(night)["etalab__communes", edition]["statut_collecte"] == "à jour"
    assert night.asked.count(f"/{FOLDER}/{EDITIONS[edition]}/communes.json.gz") == 2


def test_retry_after_is_waited_for(night: Night) -> None:
    assert night.waited > RETRY_AFTER


def test_the_release_before_is_intact_and_readable(night: Night) -> None:
    assert night.after == night.before
    first = sorted(p.name for p in night.home.releases.iterdir() if not p.is_symlink())[0]
    out = succeeded(dk(night.home.root, "query", "select count(*) as n from dim_territoire", "--release", first, "--format", "csv"))
    assert int(out.split()[1]) > 100_000


def test_the_good_revision_among_them_is_published(night: Night, revision: Revision) -> None:
    sql = (
        "select valeur from fct_observation where indicateur_id = 'population_municipale' and territoire_niveau = 'commune' "
        f"and territoire_code = '{revision.commune}' and year(periode_debut) = 2023 and est_derniere_version"
    )
    assert ask(night, sql) == [{"valeur": revision.apres}]


def test_what_failed_is_late_in_the_release_and_what_did_not_is_not(night: Night) -> None:
    rows = ask(night, "select source_id, statut, motif from mart_fraicheur where source_id like 'etalab__%' and fichiers_retenus > 0")
    found = {row["source_id"]: row for row in rows}
    assert {name: row["statut"] for name, row in found.items()} == {
        "etalab__communes": "en retard", "etalab__epci": "en retard", "etalab__departements": "en retard", "etalab__regions": "à jour",
    }  # fmt: skip
    assert found["etalab__epci"]["motif"]


def test_bad_rows_are_rejected_one_by_one_and_the_others_taken(night: Night) -> None:
    rows = ask(
        night,
        "select valeur, ligne, motif from audit_rejet where source_id = 'etalab__communes' and millesime = '2016' "
        "and chemin is not null order by ligne",
    )
    etat = etats(night)["etalab__communes", "2016"]
    unknown = ask(
        night, "select ligne, motif from audit_rejet where source_id = 'etalab__communes' and millesime = '2016' "
        f"and valeur = '{UNKNOWN}' and chemin is null",
    )  # fmt: skip
    assert unknown == [{"ligne": etat["lignes_lues"] - 2, "motif": "code commune inconnu au millésime 2019 du COG"}]
    assert ask(night, f"select * from fct_observation where territoire_code = '{UNKNOWN}'") == []
    # A duplicate shows the last column of its key, here the type that tells a commune from a delegated one.
    assert [row["valeur"] for row in rows] == ["commune-actuelle", "1001"]
    assert [row["ligne"] for row in rows] == [etat["lignes_lues"] - 1, etat["lignes_lues"]]
    assert "clé en double" in rows[0]["motif"]
    assert "cinq caractères" in rows[1]["motif"]
    assert etat["lignes_gardees"] == etat["lignes_lues"] - 2


def test_a_certificate_that_nobody_vouches_for_is_refused(embedded: Run, revision: Revision, tmp_path: Path) -> None:
    import trustme

    home = private_copy(embedded.home.root, tmp_path / "dk")
    before = digests((home.releases / "current").resolve())
    first = (home.releases / "current").resolve().name
    with Server(ca=trustme.CA()) as server:
        server.folder(revision.mirror)
        done = dk(home.root, "run", "--from", f"mirror:{server.url}", "--only", "etalab__communes")
        assert server.paths == []
    assert done.returncode == 3, done.stdout + done.stderr
    late = [line for line in done.stdout.splitlines() if line.startswith("En retard ou refusé : etalab__communes")]
    assert late and all("le certificat TLS de 127.0.0.1 n'est pas reconnu" in line for line in late)
    assert digests(home.releases / first) == before
    population = "select count(*) as n from fct_observation where indicateur_id = 'population_municipale'"
    assert json.loads(succeeded(dk(home.root, "query", population, "--format", "json"))) == json.loads(
        succeeded(dk(home.root, "query", population, "--format", "json", "--release", first))
    )


FULL_DISK = """
import errno, os, sys
from ingestion import landing

def full(frame, path):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

landing._write_parquet = full
from orchestration.cli import main
main(["run", "--from", sys.argv[1], "--only", "etalab__communes"])
"""


def test_a_disk_that_fills_while_landing_stops_the_run_and_keeps_the_release(
    embedded: Run, revision: Revision, tmp_path: Path
) -> None:
    home = private_copy(embedded.home.root, tmp_path / "dk")
    before = digests((home.releases / "current").resolve())
    origin = f"mirror:{revision.mirror}"
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, origin], env=environment(home.root), capture_output=True, text=True, timeout=400
    )
    assert done.returncode == 1
    assert re.search(r"^Erreur : .*etalab__communes : écriture impossible .*No space left.*Libérer de la place.*reste en place", done.stderr, re.S), done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert digests((home.releases / "current").resolve()) == before
    # With room again, the same command does what it could not.
    again = dk(home.root, "run", "--from", origin, "--only", "etalab__communes")
    assert "(nouvelle)" in again.stdout, again.stdout + again.stderr
