"""Rebuilds the embedded archive; needs npm and its registry."""

from __future__ import annotations

import io
import lzma
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import orjson

from ingestion.declarations import load_sources
from ingestion.fetch import ARCHIVE

# Version of the package → population year that its totals establish (see the declaration of etalab__communes).
VERSIONS = {"0.3.0": 2016, "1.1.1": 2019, "2.3.1": 2020, "4.0.0": 2021, "4.1.0": 2022, "6.0.0": 2023}
LIMIT = 3_000_000


def _fields(origins: set[str], parent: bool) -> set[str]:
    return {o.lstrip("^").split(".")[0] for o in origins if o.startswith("^") == parent}


def _prune(records: list[dict[str, Any]], source_id: str) -> list[dict[str, Any]]:
    """The declared fields of each record, the nested ones included."""
    source = load_sources()[source_id]
    origins = {o for column in source.columns for o in column.meta.origines}
    path = source.meta.format.enregistrements or "*"
    if "membres" not in path:
        keep = _fields(origins, parent=False)
        return [{k: v for k, v in record.items() if k in keep} for record in records]
    outer, inner = _fields(origins, parent=True), _fields(origins, parent=False)
    return [
        {k: v for k, v in record.items() if k in outer}
        | {"membres": [{k: v for k, v in member.items() if k in inner} for member in record["membres"]]}
        for record in records
    ]


def build(target: Path = ARCHIVE) -> int:
    """Downloads the versions with npm, prunes and packs them; returns the size of the archive in bytes.

    Raises ValueError when the result is over the size that the project ships.
    """
    raw = io.BytesIO()
    with tempfile.TemporaryDirectory() as folder, tarfile.open(fileobj=raw, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for version, year in VERSIONS.items():
            name = subprocess.run(
                ["npm", "pack", "--silent", f"@etalab/decoupage-administratif@{version}"],
                cwd=folder, check=True, capture_output=True, text=True,
            ).stdout.strip()  # fmt: skip
            with tarfile.open(Path(folder) / name) as package:
                for table in ("communes", "epci", "departements", "regions"):
                    livraison = f"etalab_decoupage_administratif/pop{year}_v{version}/{table}.json"
                    declared = {item.chemin.removesuffix(".gz") for item in load_sources()[f"etalab__{table}"].meta.livraisons}
                    member = package.extractfile(f"package/data/{table}.json")
                    if livraison not in declared or member is None:
                        continue
                    pruned = orjson.dumps(_prune(orjson.loads(member.read()), f"etalab__{table}"))
                    info = tarfile.TarInfo(livraison)
                    info.size = len(pruned)
                    tar.addfile(info, io.BytesIO(pruned))
    # One dictionary over all vintages: they repeat each other almost entirely.
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": 64 << 20}]
    packed = lzma.compress(raw.getvalue(), format=lzma.FORMAT_XZ, filters=filters)
    if len(packed) > LIMIT:
        raise ValueError(f"archive de {len(packed) / 1e6:.1f} Mo : elle doit rester sous {LIMIT / 1e6:.0f} Mo")
    target.write_bytes(packed)
    return len(packed)


if __name__ == "__main__":
    print(f"{ARCHIVE.name} : {build() / 1e6:.2f} Mo")
