"""Every declared file bears the licence under which the mirror says that it was published."""

from __future__ import annotations

import csv
import fnmatch
import re

from ingestion.declarations import LICENCES, load_sources
from tests.mirror.conftest import MIRROR

NAMES = {"LO 2.0": "LO-2.0", "ODbL": "ODbL-1.0", "MIT": "MIT"}
ALIASES = {"interieur_elections": "elections_2022"}  # the one folder whose name is not made of the words of its row


def licences_by_row() -> dict[str, list[tuple[str, str]]]:
    """Row of the table of SOURCES.md, by each id that it bears: (licence, what it is said of) as its cell reads."""
    found: dict[str, list[tuple[str, str]]] = {}
    header: list[str] = []
    for line in (MIRROR / "SOURCES.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if "Licence" in cells:
            header = cells
        elif header and line.startswith("| ") and len(cells) >= len(header):
            told = re.findall(r"\b(LO 2\.0|MIT|ODbL|GPL-3)(?: \(([^)]*)\))?", cells[header.index("Licence")])
            for name in cells[0].split(", "):
                found[name] = told
        elif not line.startswith("|"):
            header = []
    return found


def row_of(folder: str, rows: dict[str, list[tuple[str, str]]]) -> str:
    """The row that speaks of a folder: every word of its id begins one of the folder's words."""
    words = folder.split("_")
    found = [name for name in rows if all(any(w.startswith(part) for w in words) for part in name.split("_"))]
    return ALIASES.get(folder) or max(found, key=len)


def expected(told: list[tuple[str, str]], provenance: str) -> set[str]:
    """Licences that a row gives to the data of a file: the one of the place it was taken from, else the general ones."""
    special = {licence for licence, of in told if of and (place := of.split()[-1]) in provenance and place != "code"}
    general = {licence for licence, of in told if of != "code" and not re.search(r"\b(COGiter|COGugaison)$", of)}
    return {NAMES[licence] for licence in special or general}


def test_each_declared_file_has_the_licence_that_the_mirror_gives_it() -> None:
    rows = licences_by_row()
    assert len(rows) >= 40
    with (MIRROR / "INVENTAIRE.csv").open(encoding="utf-8") as stream:
        provenances = {row["fichier"]: row["provenance"] for row in csv.DictReader(stream, delimiter=";")}
    wrong, seen = [], set()
    for source in load_sources().values():
        if source.meta.embarque == "toujours":
            continue  # the project's own
        for livraison in source.meta.livraisons:
            if livraison.registre or livraison.demonstration:
                continue  # no producer's file
            files = fnmatch.filter(provenances, livraison.chemin)
            assert files, livraison.chemin
            for name in files:
                wanted = expected(rows[row_of(name.split("/")[0], rows)], provenances[name])
                seen |= wanted
                if {source.licence_de(livraison)} != wanted:
                    wrong.append((source.source_id, name, source.licence_de(livraison), wanted))
    assert not wrong
    assert seen == {"LO-2.0", "ODbL-1.0", "MIT"}, "le contrôle doit voir les trois"


def test_every_licence_that_is_declared_has_its_text() -> None:
    assert {name for source in load_sources().values() for name in source.licences} <= LICENCES.keys()


def test_the_populations_of_2012_are_under_odbl() -> None:
    source = load_sources()["insee__population"]
    assert [(item.millesime, source.licence_de(item)) for item in source.meta.livraisons] == [("2012", "ODbL-1.0"), ("2015", "MIT")]
