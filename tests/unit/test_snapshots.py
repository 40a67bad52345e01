"""The snapshot store: what is kept, what is known when, and what a crash or a full disk leaves behind."""

from __future__ import annotations

import datetime as dt
import errno
import gzip
import hashlib
import json
import logging
import os
import tempfile
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingestion import snapshots
from ingestion.declarations import Livraison, Source
from ingestion.fetch import Fetched
from ingestion.snapshots import SnapshotError, SnapshotStore

PUBLIE = dt.date(2024, 3, 1)
CHEMIN = "insee/rp.csv"


def make_source(source_id: str = "insee__rp") -> Source:
    groupe, nom = source_id.split("__")
    return Source(
        source_id=source_id, groupe=groupe, nom=nom, producteur="Insee", description="d", fichier="x.yml",
        meta={
            "titre": "t", "licence": "Licence Ouverte 2.0", "citation": "c", "confidentialite": "publique",
            "cadence": "annuelle", "regle_millesime": "r", "grain": "g", "cle": ("code",), "format": {"type": "csv"},
            "livraisons": [{"millesime": "2021", "chemin": CHEMIN, "publie_le": PUBLIE}],
        },
        columns=[{"name": "code", "data_type": "varchar", "description": "d", "meta": {"origine": "CODE"}}],
    )  # fmt: skip


SOURCE = make_source()
LIVRAISON: Livraison = SOURCE.meta.livraisons[0]


class Clock:
    def __init__(self, day: dt.date = dt.date(2025, 1, 10)) -> None:
        self.day = day

    def __call__(self) -> dt.datetime:
        return dt.datetime.combine(self.day, dt.time(12, 30, 15, 999), dt.UTC)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> SnapshotStore:
    return SnapshotStore(tmp_path / "snapshots", now=clock)


def received(body: bytes, folder: Path, **facts: object) -> Fetched:
    folder.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=folder)
    with os.fdopen(handle, "wb") as file:
        file.write(body)
    values = {"url": "https://insee.example/rp.csv", "statut_http": 200} | facts
    return Fetched(Path(name), hashlib.sha256(body).hexdigest(), len(body), **values)


def add(store: SnapshotStore, body: bytes, chemin: str = CHEMIN, source: Source = SOURCE, **facts: object):
    return store.add(received(body, store.root.parent / "recu", **facts), source, LIVRAISON, chemin, "live")


def tree(root: Path) -> dict[str, bytes]:
    """Every file below the root that counts (the lock does not)."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.name != ".verrou"
    }


# --- keeping -----------------------------------------------------------------------------------------------------


def test_first_snapshot_is_recorded_whole_and_known_when_published(store: SnapshotStore) -> None:
    snapshot, new = add(store, b"a;b\n", etag='"1"', last_modified="Mon", content_type="text/csv")
    assert new
    assert snapshot.connue_le == "2024-03-01"
    assert snapshot.obtenu_le == "2025-01-10T12:30:15+00:00"
    assert (snapshot.source_id, snapshot.millesime, snapshot.chemin) == ("insee__rp", "2021", CHEMIN)
    assert (snapshot.transport, snapshot.licence, snapshot.octets) == ("live", "Licence Ouverte 2.0", 4)
    assert (snapshot.etag, snapshot.last_modified, snapshot.content_type) == ('"1"', "Mon", "text/csv")
    blob = store.verify(snapshot.sha256)
    assert blob == store.root / "blobs" / snapshot.sha256[:2] / snapshot.sha256
    assert blob.read_bytes() == b"a;b\n"
    assert blob.stat().st_mode & 0o777 == 0o444
    assert SnapshotStore(store.root).history("insee__rp") == [snapshot]
    assert list((store.root.parent / "recu").iterdir()) == []


def test_unchanged_file_adds_no_row_but_says_when_it_was_checked(store: SnapshotStore, clock: Clock) -> None:
    first, _ = add(store, b"a;b\n")
    clock.day = dt.date(2025, 2, 1)
    again, new = add(store, b"a;b\n")
    assert (again, new) == (first, False)
    assert store.history("insee__rp") == [first]
    assert store.verified_at("insee__rp") == "2025-02-01T12:30:15+00:00"
    assert list((store.root.parent / "recu").iterdir()) == []


def test_not_modified_answer_gives_the_snapshot_it_stands_for(store: SnapshotStore, clock: Clock) -> None:
    first, _ = add(store, b"a;b\n")
    clock.day = dt.date(2025, 2, 1)
    same = Fetched(None, first.sha256, first.octets, first.url, statut_http=304, inchange=True)
    assert store.add(same, SOURCE, LIVRAISON, CHEMIN, "live") == (first, False)
    assert store.verified_at("insee__rp", "2021", CHEMIN) == "2025-02-01T12:30:15+00:00"
    with pytest.raises(SnapshotError, match=r"autre\.csv : annoncé inchangé"):
        store.add(same, SOURCE, LIVRAISON, "autre.csv", "live")


def test_silent_revision_is_known_the_day_it_was_seen(store: SnapshotStore, clock: Clock) -> None:
    add(store, b"a;b\n")
    clock.day = dt.date(2025, 2, 1)
    revised, new = add(store, b"a;c\n")
    assert new and revised.connue_le == "2025-02-01"
    clock.day = dt.date(2025, 3, 1)
    back, new = add(store, b"a;b\n")
    assert new and back.connue_le == "2025-03-01"
    assert [s.connue_le for s in store.history("insee__rp")] == ["2024-03-01", "2025-02-01", "2025-03-01"]
    assert store.latest("insee__rp", "2021", CHEMIN) == back
    assert store.latest("insee__rp", "2020", CHEMIN) is None


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_gzip_of_the_same_content_is_not_a_revision(store: SnapshotStore, clock: Clock, order: tuple[int, int]) -> None:
    plain = b"code;valeur\n01001;3\n" * 50
    forms = (plain, gzip.compress(plain))
    first, _ = add(store, forms[order[0]])
    clock.day = dt.date(2025, 6, 1)
    assert add(store, forms[order[1]]) == (first, False)
    other, new = add(store, gzip.compress(plain + b"01002;4\n"))
    assert new and other.connue_le == "2025-06-01"


def test_damaged_gzip_is_another_file(store: SnapshotStore) -> None:
    plain = b"code;valeur\n01001;3\n" * 50
    add(store, plain)
    _, new = add(store, gzip.compress(plain)[:-12])
    assert new and len(store.history("insee__rp")) == 2


def test_sources_share_equal_bytes(store: SnapshotStore) -> None:
    one, _ = add(store, b"a;b\n")
    two, new = add(store, b"a;b\n", source=make_source("insee__autre"))
    assert new and one.sha256 == two.sha256
    assert len([name for name in tree(store.root) if name.startswith("blobs")]) == 1


def test_packaged_file_says_so_whatever_the_transport(store: SnapshotStore) -> None:
    snapshot, _ = add(store, b"a;b\n", url="paquet:listes/x.csv", transport="embedded")
    assert snapshot.transport == "embedded"


def test_file_changed_between_fetch_and_store_is_refused(store: SnapshotStore) -> None:
    fetched = received(b"a;b\n", store.root.parent / "recu")
    fetched.path.write_bytes(b"a;c\n")
    with pytest.raises(SnapshotError, match=r"insee__rp, insee/rp\.csv : le fichier reçu a changé"):
        store.add(fetched, SOURCE, LIVRAISON, CHEMIN, "live")
    assert not tree(store.root)
    assert not fetched.path.exists()


@pytest.fixture
def other_disk(store: SnapshotStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Received files seem to lie on another disk than the store."""
    real = Path.stat

    class Elsewhere:
        def __init__(self, true: os.stat_result) -> None:
            self._true, self.st_dev = true, true.st_dev + 1

        def __getattr__(self, name: str) -> object:
            return getattr(self._true, name)

    def stat(path: Path, **options: bool) -> object:
        true = real(path, **options)
        return Elsewhere(true) if path.parent == store.root.parent / "recu" else true

    monkeypatch.setattr(Path, "stat", stat)


@pytest.mark.usefixtures("other_disk")
def test_file_on_another_disk_is_copied(store: SnapshotStore) -> None:
    snapshot, _ = add(store, b"a;b\n")
    assert store.verify(snapshot.sha256).read_bytes() == b"a;b\n"
    assert sorted(tree(store.root)) == [f"blobs/{snapshot.sha256[:2]}/{snapshot.sha256}", "insee__rp/manifest.jsonl"]
    assert list((store.root.parent / "recu").iterdir()) == []


# --- what may go wrong ---------------------------------------------------------------------------------------------


def test_altered_or_lost_blob_is_told_then_brought_back(store: SnapshotStore) -> None:
    snapshot, _ = add(store, b"a;b\n")
    blob = store.blob(snapshot.sha256)
    blob.chmod(0o644)
    blob.write_bytes(b"a;X\n")
    with pytest.raises(SnapshotError, match=rf"{snapshot.sha256} altéré .* relancer la collecte"):
        store.verify(snapshot.sha256)
    assert store.reusable("insee__rp", "2021", CHEMIN) is None
    assert add(store, b"a;b\n") == (snapshot, False)
    assert store.reusable("insee__rp", "2021", CHEMIN) == snapshot
    blob.unlink()
    with pytest.raises(SnapshotError, match="absent"):
        store.verify(snapshot.sha256)
    assert store.reusable("insee__rp", "2021", CHEMIN) is None
    assert store.latest("insee__rp", "2021", CHEMIN) == snapshot


@pytest.mark.parametrize("name", ["../../etc/passwd", "ABC", "", "a" * 63])
def test_only_a_hash_names_a_blob(store: SnapshotStore, name: str) -> None:
    with pytest.raises(SnapshotError, match="empreinte"):
        store.blob(name)


@pytest.mark.parametrize("name", ["../x", "blobs", "", "a/b"])
def test_only_a_source_has_a_history(store: SnapshotStore, name: str) -> None:
    with pytest.raises(SnapshotError, match="identifiant de source"):
        store.history(name)


def test_every_cut_of_the_last_line_is_survived(store: SnapshotStore, clock: Clock, caplog) -> None:
    first, _ = add(store, b"1\n")
    manifest = store.root / "insee__rp" / "manifest.jsonl"
    one = len(manifest.read_bytes())
    clock.day = dt.date(2025, 2, 1)
    second, _ = add(store, b"2\n")
    whole = manifest.read_bytes()
    for cut in range(one + 1, len(whole) - 1):
        manifest.write_bytes(whole[:cut])
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            assert store.history("insee__rp") == [first]
        assert "ligne 2 inachevée" in caplog.text
    # The next snapshot takes the place of the row that never was.
    assert add(store, b"2\n") == (second, True)
    assert manifest.read_bytes() == whole
    # A row that only lacks its end of line was written whole: it counts and stays.
    manifest.write_bytes(whole[:-1])
    assert store.history("insee__rp") == [first, second]
    third, _ = add(store, b"3\n")
    assert store.history("insee__rp") == [first, second, third]


def test_altered_manifest_is_not_passed_over(store: SnapshotStore) -> None:
    add(store, b"1\n")
    add(store, b"2\n")
    manifest = store.root / "insee__rp" / "manifest.jsonl"
    lines = manifest.read_bytes().splitlines(keepends=True)
    manifest.write_bytes(lines[0][:40] + b"\n" + lines[1])
    with pytest.raises(SnapshotError, match=r"manifest\.jsonl, ligne 1 : manifeste altéré"):
        store.history("insee__rp")
    manifest.write_bytes(lines[0] + b'{"source_id": "insee__rp"}\n')
    with pytest.raises(SnapshotError, match="ligne 2"):
        store.history("insee__rp")


def test_unreadable_check_times_are_written_anew(store: SnapshotStore) -> None:
    snapshot, _ = add(store, b"1\n")
    path = store.root / "insee__rp" / "verifie.json"
    path.write_bytes(b'{"2021": {"ins')
    assert store.verified_at("insee__rp") == snapshot.obtenu_le
    store.touch("insee__rp")
    assert json.loads(path.read_text()) == {"": {"": "2025-01-10T12:30:15+00:00"}}
    assert store.verified_at("insee__jamais") is None


def full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("step", ["write", "fsync", "replace", "copy"])
@pytest.mark.parametrize("body", [b"2\n", b"1\n", b"0\n"], ids=["new", "unchanged", "held-by-another-source"])
def test_full_disk_leaves_the_store_as_it_was(
    store: SnapshotStore, monkeypatch: pytest.MonkeyPatch, step: str, body: bytes
) -> None:
    add(store, b"1\n")
    add(store, b"0\n", source=make_source("insee__autre"))
    before = tree(store.root)
    real_write = os.write

    def partial(handle: int, data: bytes) -> int:
        # As a real disk does: a first part goes through, then there is no room.
        if len(data) > 20:
            return real_write(handle, data[:20])
        full()

    with monkeypatch.context() as patch:
        if step == "copy":
            patch.setattr(snapshots.SnapshotStore, "_stage", full)
        else:
            patch.setattr(os, step, partial if step == "write" else full)
        with pytest.raises(SnapshotError, match="disque plein, rien n'a été enregistré ; libérer au moins 1 Mo"):
            add(store, body)
    assert tree(store.root) == before
    assert list((store.root.parent / "recu").iterdir()) == []
    assert add(store, b"2\n")[1], "the store still works once there is room"


@pytest.mark.usefixtures("other_disk")
def test_full_disk_while_copying_from_another_disk(store: SnapshotStore, monkeypatch: pytest.MonkeyPatch) -> None:
    add(store, b"1\n")
    before = tree(store.root)
    monkeypatch.setattr(snapshots.shutil, "copyfileobj", full)
    with pytest.raises(SnapshotError, match="disque plein"):
        add(store, b"2\n")
    assert tree(store.root) == before


def test_unwritable_store_is_told(store: SnapshotStore) -> None:
    store.root.write_text("a file where the folder should be")
    with pytest.raises(SnapshotError, match=r"écriture impossible .* rien n'a été enregistré"):
        add(store, b"1\n")


def test_concurrent_writers_lose_nothing(store: SnapshotStore) -> None:
    errors: list[BaseException] = []

    def write(name: str) -> None:
        try:
            for rank in range(8):
                add(store, b"commun" if rank == 3 else f"{name}{rank}".encode(), chemin=f"{name}/{rank}")
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    history = store.history("insee__rp")
    assert sorted(s.chemin for s in history) == sorted(f"{name}/{rank}" for name in "abc" for rank in range(8))
    for snapshot in history:
        store.verify(snapshot.sha256)


# --- the rule on what was known when -------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["a.csv", "b.csv"]), st.sampled_from([b"1", b"2", b"3"]), st.integers(-400, 400)),
        max_size=12,
    )
)
def test_connue_le_never_goes_back_even_if_the_clock_does(events: list[tuple[str, bytes, int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        clock = Clock()
        store = SnapshotStore(Path(folder) / "snapshots", now=clock)
        current: dict[str, bytes] = {}
        rows = 0
        for chemin, body, shift in events:
            clock.day = dt.date(2025, 1, 10) + dt.timedelta(days=shift)
            _, new = add(store, body, chemin=chemin)
            assert new == (current.get(chemin) != body)
            current[chemin], rows = body, rows + new
        history = store.history("insee__rp")
        assert len(history) == rows
        for chemin in current:
            known = [s.connue_le for s in history if s.chemin == chemin]
            assert known[0] == PUBLIE.isoformat()
            assert known == sorted(known)
            assert store.verify(store.latest("insee__rp", "2021", chemin).sha256).read_bytes() == current[chemin]
