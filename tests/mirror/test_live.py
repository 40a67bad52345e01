"""The whole job at the producers' own addresses, spoken by a local server that holds the files of the mirror."""

from __future__ import annotations

from pathlib import Path

from ingestion.declarations import load_sources
from orchestration.release import sha256_file
from tests.mirror.conftest import MIRROR, Run, run
from tests.producers import Producers


def tables(home: Path) -> dict[str, str]:
    """sha256 of each published table."""
    return {path.name: sha256_file(path) for path in (home / "releases" / "current" / "parquet").glob("*.parquet")}


def test_every_delivery_says_where_it_is_published_and_how_sure_that_is() -> None:
    for source in load_sources().values():
        if source.meta.embarque == "toujours":
            continue
        followed = [item for item in source.meta.livraisons if not (item.registre or item.demonstration)]
        if not followed:
            continue
        for livraison in followed:
            assert livraison.live, f"{source.source_id} {livraison.millesime}"
            # No address could be opened from here: what is from memory says so, and each table says it of all.
            assert livraison.live.confiance != "C" or livraison.live.note or source.meta.live, f"{source.source_id} {livraison.millesime}"
        assert source.meta.lien_verifie.startswith("non")


def test_live_gives_the_release_of_the_mirror_byte_for_byte(first: Run, tmp_path: Path) -> None:
    """The published tables speak of the producers' files, not of the way by which they came: neither address nor hour is there.

    What differs is what speaks of the run itself: the identifier and the hour in datapackage.json, and the manifest of the
    snapshots, which is not published.
    """
    with Producers(MIRROR, tmp_path) as producers:
        live = run(tmp_path / "home", "live", **producers.environment)
        assert producers.strangers == []
        hosts = {request.headers["host"] for request in producers.requests}
        assert {"www.data.gouv.fr", "static.data.gouv.fr", "www.insee.fr", "data.education.gouv.fr", "github.com"} <= hosts
        assert tables(live.home) == tables(first.home)
        # A second run asks, and takes nothing: each answer is that nothing changed.
        producers.requests.clear()
        again = run(tmp_path / "home", "live", **producers.environment)
    assert "inchangée" in again.output
    asked = [request for request in producers.requests if request.headers["host"] == "static.data.gouv.fr"]
    assert asked and all("if-none-match" in request.headers for request in asked)
