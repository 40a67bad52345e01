"""``make bench ARGS=--volume``: files far above memory, through the same collection, reading and landing as any source.

Three files have the columns, types and formats that their producers document (the files themselves are not in hand), and as
many rows as asked: every value in them is simulated, and their declarations say so.

- **sirene**: ``StockEtablissement`` of Sirene (INSEE), Parquet, 40 million establishments, one key (siret);
- **dvf**: geolocated land sales (DGFiP, Etalab), CSV in gzip, 20 million rows, amounts that add up by commune and day;
- **arcep**: premises that fibre reaches (Arcep), CSV, 40 million rows, one key and premises that add up by commune.

Each is landed in a process of its own, from a mirror and an empty home, at 1, 4 and 16 times a base: the bench prints rows per
second, the peak of that process above what it holds for a file of hardly any row, and how both grow. Memory must stay flat
and time follow the rows, else the command fails.
"""

from __future__ import annotations

import datetime as dt
import json
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TRUE_ROWS = {"sirene": 40_000_000, "dvf": 20_000_000, "arcep": 40_000_000}
BASE = 1_000_000  # fewer fit in the fixed buffers, and would say nothing of growth
FACTORS = (1, 4, 16)
MEMORY_GROWTH = 1.3  # peak at the greatest factor over the peak at the smallest
TIME_GROWTH = 1.3  # seconds per row, likewise
CITATION = "simulé par tests/bench_volume.py"


@dataclass(frozen=True)
class Shape:
    """A file of a producer: its declared columns (name, type, meta), the SQL of all its columns and how it is written."""

    nom: str
    chemin: str
    format: dict[str, Any]
    ecriture: str
    colonnes: tuple[tuple[str, str, str, dict[str, Any]], ...]
    sql: dict[str, str]
    meta: dict[str, Any]


# ``i`` is the number of the row: every figure is drawn from its hash, so that equal sizes give equal files.
_COMMUNE = "lpad(cast(1 + hash(i) % 95 as varchar), 2, '0') || lpad(cast(1 + hash(i, 'c') % 400 as varchar), 3, '0')"
_COMMUNE = f"replace({_COMMUNE}, '20', '21')"
_VOIE = "'VOIE SIMULEE ' || cast(hash(i, 'v') % 9000 as varchar)"

SIRENE = Shape(
    "sirene", "simule/StockEtablissement_utf8.parquet", {"type": "parquet"}, "format parquet, compression snappy",
    (
        ("siret", "varchar", "texte", {"origine": "siret"}),
        ("commune_code", "varchar", "code_commune", {"origine": "codeCommuneEtablissement"}),
        ("etat", "varchar", "code", {"origine": "etatAdministratifEtablissement"}),
        ("creation", "date", "date", {"origine": "dateCreationEtablissement"}),
        ("tranche", "varchar", "code", {"origine": "trancheEffectifsEtablissement"}),
        ("activite", "varchar", "code", {"origine": "activitePrincipaleEtablissement"}),
        ("siege", "boolean", "booleen", {"origine": "etablissementSiege"}),
    ),
    {
        "siren": "lpad(cast(i // 2 as varchar), 9, '0')", "nic": "lpad(cast(i % 2 as varchar), 5, '0')",
        "siret": "lpad(cast(i // 2 as varchar), 9, '0') || lpad(cast(i % 2 as varchar), 5, '0')",
        "statutDiffusionEtablissement": "'O'", "dateCreationEtablissement": "date '1980-01-01' + cast(hash(i, 'd') % 16000 as integer)",
        "trancheEffectifsEtablissement": "case when i % 3 = 0 then null else lpad(cast(hash(i, 't') % 53 as varchar), 2, '0') end",
        "anneeEffectifsEtablissement": "cast(2022 as integer)", "activitePrincipaleRegistreMetiersEtablissement": "cast(null as varchar)",
        "dateDernierTraitementEtablissement": "timestamp '2024-01-01 08:00:00'", "etablissementSiege": "i % 2 = 0",
        "nombrePeriodesEtablissement": "cast(1 + i % 5 as integer)", "complementAdresseEtablissement": "cast(null as varchar)",
        "numeroVoieEtablissement": "cast(hash(i, 'n') % 200 as varchar)", "indiceRepetitionEtablissement": "cast(null as varchar)",
        "dernierNumeroVoieEtablissement": "cast(null as varchar)", "indiceRepetitionDernierNumeroVoieEtablissement": "cast(null as varchar)",
        "typeVoieEtablissement": "'RUE'", "libelleVoieEtablissement": _VOIE, "codePostalEtablissement": f"({_COMMUNE})",
        "libelleCommuneEtablissement": "'COMMUNE SIMULEE'", "libelleCommuneEtrangerEtablissement": "cast(null as varchar)",
        "distributionSpecialeEtablissement": "cast(null as varchar)", "codeCommuneEtablissement": f"({_COMMUNE})",
        "codeCedexEtablissement": "cast(null as varchar)", "libelleCedexEtablissement": "cast(null as varchar)",
        "codePaysEtrangerEtablissement": "cast(null as varchar)", "libellePaysEtrangerEtablissement": "cast(null as varchar)",
        "identifiantAdresseEtablissement": "cast(hash(i, 'a') as varchar)",
        "coordonneeLambertAbscisseEtablissement": "cast(100000 + hash(i, 'x') % 1100000 as varchar)",
        "coordonneeLambertOrdonneeEtablissement": "cast(6100000 + hash(i, 'y') % 1000000 as varchar)",
        "etatAdministratifEtablissement": "case when i % 5 < 2 then 'A' else 'F' end", "enseigne1Etablissement": "'SIMULE'",
        "enseigne2Etablissement": "cast(null as varchar)", "enseigne3Etablissement": "cast(null as varchar)",
        "denominationUsuelleEtablissement": "cast(null as varchar)",
        "activitePrincipaleEtablissement": "lpad(cast(hash(i, 'p') % 99 as varchar), 2, '0') || '.' || cast(10 + hash(i, 'q') % 90 as varchar) || 'Z'",
        "nomenclatureActivitePrincipaleEtablissement": "'NAFRev2'", "caractereEmployeurEtablissement": "case when i % 4 = 0 then 'O' else 'N' end",
    },
    {"cle": ("siret",), "grain": "un établissement"},
)  # fmt: skip

DVF = Shape(
    "dvf", "simule/full.csv.gz", {"type": "csv", "separateur": ",", "taille_max_mo": 20_000},
    "format csv, header true, delimiter ',', compression gzip",
    (
        ("mutation_id", "varchar", "texte", {"origine": "id_mutation"}),
        ("jour", "date", "date", {"origine": "date_mutation"}),
        ("commune_code", "varchar", "code_commune", {"origine": "code_commune"}),
        ("type_local", "varchar", "texte", {"origine": "type_local"}),
        ("valeur_fonciere", "double", "nombre", {"origine": "valeur_fonciere", "unite": "€", "mesure": {"id": "simule_valeur", "nature": "montant"}}),
        ("surface", "double", "nombre", {"origine": "surface_reelle_bati", "unite": "m²", "mesure": {"id": "simule_surface", "nature": "stock"}}),
    ),
    {
        "id_mutation": "'2024-' || cast(i // 2 as varchar)", "date_mutation": "date '2020-01-01' + cast(i % 1800 as integer)",
        "numero_disposition": "'000001'", "nature_mutation": "'Vente'", "valeur_fonciere": "cast(10000 + hash(i, 'f') % 900000 as decimal(12, 2))",
        "adresse_numero": "hash(i, 'n') % 200", "adresse_suffixe": "null", "adresse_nom_voie": _VOIE, "adresse_code_voie": "'0010'",
        "code_postal": f"({_COMMUNE})", "code_commune": f"({_COMMUNE})", "nom_commune": "'Commune simulée'",
        "code_departement": f"left({_COMMUNE}, 2)", "ancien_code_commune": "null", "ancien_nom_commune": "null",
        "id_parcelle": f"({_COMMUNE}) || '000AB' || lpad(cast(i % 10000 as varchar), 4, '0')", "ancien_id_parcelle": "null", "numero_volume": "null",
        **{f"lot{n}_{what}": "null" for n in range(1, 6) for what in ("numero", "surface_carrez")},
        "nombre_lots": "0", "code_type_local": "1 + i % 4", "type_local": "['Maison', 'Appartement', 'Dépendance', 'Local industriel'][1 + i % 4]",
        "surface_reelle_bati": "hash(i, 's') % 300", "nombre_pieces_principales": "hash(i, 'r') % 9", "code_nature_culture": "'S'",
        "nature_culture": "'sols'", "code_nature_culture_speciale": "null", "nature_culture_speciale": "null",
        "surface_terrain": "hash(i, 'u') % 5000", "longitude": "cast(hash(i, 'x') % 9000000 as double) / 1e6", "latitude": "43 + cast(hash(i, 'y') % 7000000 as double) / 1e6",
    },
    {"cle": ("_ligne",), "grain": "une ligne de disposition", "mesures": {"niveau": "commune", "code": "commune_code", "periode": "date", "date": "jour"}},
)  # fmt: skip

ARCEP = Shape(
    "arcep", "simule/base_imb.csv", {"type": "csv", "separateur": ";", "taille_max_mo": 20_000}, "format csv, header true, delimiter ';'",
    (
        ("imb_id", "varchar", "texte", {"origine": "imb_id"}),
        ("commune_code", "varchar", "code_commune", {"origine": "code_insee"}),
        ("etat", "varchar", "texte", {"origine": "imb_etat"}),
        ("locaux", "bigint", "entier", {"origine": "nb_logements", "unite": "local", "mesure": {"id": "simule_locaux", "nature": "stock"}}),
    ),
    {
        "x": "cast(100000 + hash(i, 'x') % 1100000 as double)", "y": "cast(6100000 + hash(i, 'y') % 1000000 as double)",
        "imb_id": "'IMB' || lpad(cast(i as varchar), 9, '0')", "num_voie": "hash(i, 'n') % 200", "cp_no_voie": "null", "type_voie": "'RUE'",
        "nom_voie": _VOIE, "batiment": "null", "code_insee": f"({_COMMUNE})", "code_poste": f"({_COMMUNE})", "nom_com": "'Commune simulée'",
        "catg_loc_imb": "1 + i % 2", "imb_etat": "['déployé', 'en cours de déploiement', 'raccordable à la demande'][1 + i % 3]", "pos_imb": "i % 3",
        "nb_logements": "1 + hash(i, 'l') % 12",
    },
    {"cle": ("imb_id",), "grain": "un immeuble", "mesures": {"niveau": "commune", "code": "commune_code", "periode": "livraison"}},
)  # fmt: skip

SHAPES = {shape.nom: shape for shape in (SIRENE, DVF, ARCEP)}


def declared(shape: Shape, rows: int) -> Any:
    """The declaration of a simulated file, as ``load_sources`` would give it."""
    from ingestion.declarations import Column, ColumnMeta, Source, TableMeta

    meta = {
        "titre": f"Volume simulé : {shape.nom}", "licence": "LO-2.0", "citation": CITATION, "confidentialite": "publique", "cadence": "close",
        "regle_millesime": "simulé", "format": shape.format,
        "attendus": {"lignes_min": min(rows, 1), "rejets_part_max": 0.0, "remplies": {shape.colonnes[0][0]: 1.0}},
        "livraisons": [{"millesime": "2024 (simulé)", "chemin": shape.chemin, "publie_le": dt.date(2024, 6, 30), "cog_annee": 2024}],
        **shape.meta,
    }  # fmt: skip
    columns = tuple(
        Column(name=name, data_type=data_type, description="Valeur simulée.", meta=ColumnMeta(type=kind, **rest))
        for name, data_type, kind, rest in shape.colonnes
    )
    return Source(
        source_id=f"simule__{shape.nom}", groupe="simule", nom=shape.nom, producteur=CITATION, description="Volume simulé.",
        fichier=Path(__file__).name, meta=TableMeta(**meta), columns=columns,
    )  # fmt: skip


def write_file(shape: Shape, rows: int, mirror: Path) -> Path:
    """Writes ``rows`` simulated rows of a file below ``mirror``; equal sizes give equal rows."""
    import duckdb

    path = mirror / shape.chemin
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = ", ".join(f'{sql} as "{name}"' for name, sql in shape.sql.items())
    with duckdb.connect(config={"threads": 2}) as con:
        con.execute(f"copy (select {columns} from range({rows}) as r(i)) to '{path.as_posix()}' ({shape.ecriture})").fetchall()
    return path


def land_file(shape: Shape, rows: int, mirror: Path, home: Path) -> None:
    """The measured process: lands one file as ``dk run --from mirror:`` does, and prints what landed as JSON."""
    import time

    from ingestion.fetch import parse_transport
    from ingestion.landing import land
    from ingestion.paths import Home

    start = time.perf_counter()
    landed = land(declared(shape, rows), parse_transport(f"mirror:{mirror}"), Home(home).ensure())
    print(json.dumps({"lignes": landed.rows, "rejets": landed.rejets, "problemes": landed.problemes, "secondes": time.perf_counter() - start}))


@dataclass(frozen=True)
class Landed:
    """Rows landed, seconds in the landing itself (imports left out), and peak memory in MB of the process."""

    rows: int
    seconds: float
    peak_mb: float
    size_mb: float


def measured(shape: Shape, rows: int, folder: Path) -> Landed:
    """Writes a file of so many rows below ``folder``, and measures its landing in a process of its own.

    Raises BenchFailed when a row is missing or refused: nothing was read that could be compared.
    """
    from tests.bench import PROJECT, BenchFailed, measure

    mirror, home = folder / "miroir", folder / "etat"
    for path in (mirror, home):
        shutil.rmtree(path, ignore_errors=True)
    size = write_file(shape, rows, mirror).stat().st_size / 1e6
    done = measure([sys.executable, "-m", "tests.bench_volume", "--land", shape.nom, str(rows), str(mirror), str(home)], PROJECT)
    facts = json.loads(next(line for line in done.output.splitlines() if line.startswith("{")))
    if facts["lignes"] != rows or facts["rejets"] or facts["problemes"]:
        raise BenchFailed(f"{shape.nom} : {rows} lignes écrites, {facts}")
    for path in (mirror, home):
        shutil.rmtree(path)
    return Landed(rows, facts["secondes"], done.peak_mb, size)


def _count(number: float) -> str:
    return f"{number:,.0f}".replace(",", " ")


def report(base: int, shapes: list[str], factors: list[int]) -> int:
    """Prints rows per second, peak memory and growth of each shape; 1 when memory or time grows more than it may."""
    wrong = 0
    print("Fichiers simulés aux colonnes des producteurs, par le chemin de lecture de toutes les sources.", flush=True)
    with tempfile.TemporaryDirectory(prefix="dk-volume-") as temporary:
        for name in shapes:
            shape = SHAPES[name]
            floor = measured(shape, 100, Path(temporary)).peak_mb
            print(f"\n{name} ({_count(TRUE_ROWS[name])} lignes chez le producteur) ; mémoire de 100 lignes : {floor:.0f} Mo")
            found = []
            for factor in factors:
                one = measured(shape, base * factor, Path(temporary))
                found.append(one)
                speed = one.rows / one.seconds
                print(
                    f"  {factor:>3} × {base} lignes{one.size_mb:9.0f} Mo{one.seconds:8.1f} s{_count(speed):>10} lignes/s   mémoire {one.peak_mb:5.0f} Mo"
                    f"   (taille vraie : {TRUE_ROWS[name] / speed / 60:.0f} min)",
                    flush=True,
                )
            first, last = found[0], found[-1]
            memory = last.peak_mb / first.peak_mb
            growth = (last.seconds / last.rows) / (first.seconds / first.rows)
            print(f"  de {factors[0]} à {factors[-1]} × : mémoire × {memory:.2f}, temps par ligne × {growth:.2f} (au plus {MEMORY_GROWTH} et {TIME_GROWTH})")
            wrong += memory > MEMORY_GROWTH or growth > TIME_GROWTH
    return int(wrong > 0)


# --- a million requests of engineering ---------------------------------------------------------------------------

REQUESTS = 1_000_000
REQUESTS_SECONDS = 60


def write_requests(rows: int, path: Path) -> None:
    """A CSV of ``rows`` requests as one sender would type them: those of the demonstration world again and again, wrong ones
    included, each under an identifier of its own."""
    import polars as pl

    from ingestion.demonstration import generate
    from ingestion.records.layout import labels

    one = generate()["demande_ingenierie"].drop("_ligne")
    if "repris_par" in one.columns:
        one = one.with_columns(repris_par=pl.lit(None, pl.String))
    with path.open("wb") as stream:
        for turn in range(-(-rows // one.height)):
            part = one.head(rows - turn * one.height).with_columns(pl.col("demande_id") + f"-{turn}")
            part.rename(labels("demande_ingenierie")).write_csv(stream, separator=";", include_header=turn == 0)


def admit_file(path: Path, home: Path) -> None:
    """The measured process: admits a deposited file, then lands what the register holds; prints as JSON what came of it."""
    import time

    from ingestion.declarations import load_sources
    from ingestion.fetch import Package
    from ingestion.landing import land
    from ingestion.paths import Home
    from ingestion.records.admission import admit

    start = time.perf_counter()
    where = Home(home).ensure()
    admission = admit(path, where)
    checked = time.perf_counter() - start
    landed = land(load_sources()["interne__demande_ingenierie"], Package(), where)
    print(json.dumps({
        "statut": admission.statut, "prises": admission.gardees, "rejetees": admission.rejetees, "landees": landed.rows,
        "controle_s": checked, "secondes": time.perf_counter() - start,
    }))  # fmt: skip


def report_records(rows: int) -> int:
    """Prints what checking and landing so many requests takes; 1 when it is more than ``REQUESTS_SECONDS`` per million."""
    from tests.bench import PROJECT, BenchFailed, measure

    with tempfile.TemporaryDirectory(prefix="dk-releves-") as temporary:
        home, path = Path(temporary) / "etat", Path(temporary) / "departement-59_demande_ingenierie.csv"
        write_requests(rows, path)
        size = path.stat().st_size / 1e6
        done = measure([sys.executable, "-m", "tests.bench_volume", "--admit", str(path), str(home)], PROJECT)
    facts = json.loads(next(line for line in done.output.splitlines() if line.startswith("{")))
    if facts["prises"] + facts["rejetees"] != rows or facts["landees"] != facts["prises"]:
        raise BenchFailed(f"{rows} demandes écrites, {facts}")
    bound = REQUESTS_SECONDS * rows / REQUESTS
    print(
        f"{_count(rows)} demandes d'ingénierie de démonstration ({size:.0f} Mo de CSV) : {_count(facts['prises'])} prises, "
        f"{_count(facts['rejetees'])} rejetées ; contrôle et réponse {facts['controle_s']:.1f} s, avec l'arrivée {facts['secondes']:.1f} s "
        f"(au plus {bound:.0f} s), mémoire {done.peak_mb:.0f} Mo"
    )
    return int(facts["secondes"] > bound)


if __name__ == "__main__":
    if sys.argv[1] == "--admit":
        admit_file(Path(sys.argv[2]), Path(sys.argv[3]))
        sys.exit()
    _, flag, shape_name, row_count, *folders = sys.argv
    assert flag == "--land"
    land_file(SHAPES[shape_name], int(row_count), *map(Path, folders))
