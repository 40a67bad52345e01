"""Installations that the integration tests share: each is built once per session and copied by whoever changes it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ingestion.declarations import PROJECT
from ingestion.fetch import ARCHIVE
from ingestion.paths import Home
from tests.once import once

DK = Path(sys.executable).parent / "dk"
EMBEDDED_COMMUNES = "etalab_decoupage_administratif/pop2023_v6.0.0/communes.json"
# Any use of the network raises and leaves its trace in a file, whatever the library that tries.
NO_NETWORK = """\
import os, socket
def _refuse(what):
    def refuse(self_or_host, *args, **kwargs):
        if getattr(self_or_host, "family", None) == socket.AF_UNIX:
            return _connect(self_or_host, *args, **kwargs)
        with open(os.environ["DK_TEST_RESEAU"], "a") as trace:
            trace.write(f"{what} {self_or_host!r} {args!r}\\n")
        raise OSError(f"réseau coupé par le test : {what} {args!r}")
    return refuse
_connect = socket.socket.connect
socket.socket.connect = _refuse("connect")
socket.socket.connect_ex = _refuse("connect_ex")
socket.getaddrinfo = _refuse("getaddrinfo")
"""


def environment(home: Path, **more: str) -> dict[str, str]:
    """Environment of a ``dk`` process: this one's, without Dagster's or dbt's leftovers of the test process."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("DK_", "DBT_", "DAGSTER_"))}
    return kept | {"DK_HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1"} | more


def dk(home: Path, *arguments: str, timeout: float = 400, **more: str) -> subprocess.CompletedProcess[str]:
    """Runs ``dk`` to its end; output as text."""
    return subprocess.run(
        [str(DK), *arguments], env=environment(home, **more), capture_output=True, text=True, timeout=timeout
    )


def succeeded(done: subprocess.CompletedProcess[str]) -> str:
    """Standard output of a process that must have exited 0."""
    assert done.returncode == 0, f"sortie {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def private_copy(source: Path, target: Path, *without: str) -> Home:
    """A copy that its owner may change, ``current`` still a link; ``without`` names folders left out."""
    shutil.copytree(source, target, symlinks=True, ignore=shutil.ignore_patterns(*without) if without else None)
    return Home(target)


def checkout_listing() -> dict[str, tuple[int, int]]:
    """Size and time of every file of the checkout that the product reads, caches of the interpreter left out."""
    skipped = {"__pycache__", ".git", ".venv", "tests", ".ruff_cache"}
    found = {}
    for folder, names, files in os.walk(PROJECT):
        names[:] = [n for n in names if n not in skipped]
        for name in files:
            facts = (path := Path(folder) / name).stat()
            found[path.relative_to(PROJECT).as_posix()] = (facts.st_size, facts.st_mtime_ns)
    return found


@dataclass(frozen=True)
class Run:
    """A finished embedded run and what it cost: seconds of a processor, peak bytes of its biggest process."""

    home: Home
    code: int
    output: str
    cpu: float
    peak: int
    network: str
    outside: dict[str, list[str]]
    checkout_before: dict[str, tuple[int, int]]
    checkout_after: dict[str, tuple[int, int]]


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The embedded run, cut off from the network; tests that change its home ask for ``copie`` instead."""
    return once(tmp_path_factory, "embarque", _run_embedded)


def _run_embedded(root: Path) -> Run:
    places = {name: root / name for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "cwd")}
    for place in (*places.values(), root / "site"):
        place.mkdir()
    (root / "site" / "sitecustomize.py").write_text(NO_NETWORK, encoding="utf-8")
    # SQL and templates read this path: it holds what they would trip over.
    home = root / "dk d'essai {1}"
    trace, output = root / "reseau.txt", root / "sortie.txt"
    proxies = {name: "http://127.0.0.1:9" for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY")}
    before = checkout_listing()
    with output.open("w", encoding="utf-8") as stream:
        process = subprocess.Popen(
            [str(DK), "run"], cwd=places["cwd"], stdout=stream, stderr=subprocess.STDOUT,
            env=environment(
                home, PYTHONPATH=str(root / "site"), DK_TEST_RESEAU=str(trace), **proxies,
                **{name: str(place) for name, place in places.items() if name != "cwd"},
            ),
        )  # fmt: skip
        # wait4 tells the cost of this process alone; RUSAGE_CHILDREN would mix in every other child of pytest.
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    return Run(
        Home(home), process.returncode, output.read_text(encoding="utf-8"), usage.ru_utime + usage.ru_stime,
        usage.ru_maxrss * 1024, trace.read_text() if trace.exists() else "",
        {name: sorted(p.relative_to(place).as_posix() for p in place.rglob("*")) for name, place in places.items()},
        before, checkout_listing(),
    )  # fmt: skip


@pytest.fixture
def copie(embedded: Run, tmp_path: Path) -> Home:
    """A private copy of the embedded installation."""
    assert embedded.code == 0, embedded.output
    return private_copy(embedded.home.root, tmp_path / "dk")


@dataclass(frozen=True)
class Revision:
    """An installation whose producer changed one published value in silence: same file, other bytes."""

    home: Home
    output: str
    code: int
    mirror: Path
    commune: str
    avant: int
    apres: int


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded archive, unpacked: the published files."""
    folder = tmp_path_factory.mktemp("archive")
    with tarfile.open(ARCHIVE) as packed:
        packed.extractall(folder, filter="data")
    return folder


@pytest.fixture(scope="session")
def revision(embedded: Run, archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Revision:
    """After the embedded run, a mirror serves the same files but for the 2023 population of one commune."""
    return once(tmp_path_factory, "revision", lambda root: _run_revision(root, embedded, archive))


def _run_revision(root: Path, embedded: Run, archive: Path) -> Revision:
    import gzip

    home = private_copy(embedded.home.root, root / "dk")
    mirror = root / "miroir"
    for path in archive.rglob("communes.json"):
        content = path.read_bytes()
        if path.relative_to(archive).as_posix() == EMBEDDED_COMMUNES:
            rows = json.loads(content)
            row = next(r for r in rows if r["type"] == "commune-actuelle" and r["code"] == "23096")
            avant = row["population"]
            apres = row["population"] = avant + 7
            content = json.dumps(rows, ensure_ascii=False).encode()
        target = mirror / path.relative_to(archive).with_suffix(".json.gz")
        target.parent.mkdir(parents=True)
        target.write_bytes(gzip.compress(content, 1))
    done = dk(home.root, "run", "--from", f"mirror:{mirror}", "--only", "etalab__communes")
    return Revision(home, done.stdout + done.stderr, done.returncode, mirror, "23096", avant, apres)


def unpublish(where: Home) -> None:
    """Turns the second release of a home back into the audited candidate that it was before its publication."""
    from orchestration.release import evaluators_folder, public_folder, release_ids

    first, second = release_ids(where)
    for root, candidate, kept in (
        (evaluators_folder(where), where.candidate, ("parquet", "checks.json")),
        (where.releases, public_folder(where), ("parquet",)),
    ):
        candidate.mkdir()
        for name in kept:
            (root / second / name).rename(candidate / name)
        for path in candidate.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)
        shutil.rmtree(root / second)
        link = root / "current"
        link.unlink()
        link.symlink_to(first)


@pytest.fixture
def candidat(revision: Revision, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A home with one release and one audited candidate that differs from it; enough of it to audit and publish.

    Published from this process it gets two pages of its hundred and sixty: test_pages looks at them all.
    """
    from notebooks.kit import render

    every = render.sheets
    monkeypatch.setattr(render, "sheets", lambda release: list(every(release))[:2])
    assert revision.code == 0, revision.output
    where = private_copy(
        revision.home.root, tmp_path / "dk", "snapshots", "dagster", "lectures", "entrepot.duckdb", "mesures", "etalab__*.parquet"
    )
    where.ensure()
    unpublish(where)
    return where


@pytest.fixture
def audit_again(candidat: Home) -> Callable[[], list[dict]]:
    """Derives the public side of the candidate as it now lies there, and audits both, with the dbt results that now lie there:
    a true verdict on changed data."""
    from orchestration import diffusion, release

    def audit() -> list[dict]:
        manifest = release.load_manifest(candidat)
        record = json.loads((candidat.work / release.BUILD).read_text(encoding="utf-8"))
        release.record_build(candidat, record["empreinte_entrees"], record["arrivee"])
        diffusion.derive(candidat, release.published_models(manifest), release.keys_of(manifest))
        return release.audit_candidate(candidat, manifest)

    return audit


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No test of this folder may touch the state of the checkout by accident."""
    monkeypatch.setenv("DK_HOME", "/nonexistent/dk-integration")
    yield
