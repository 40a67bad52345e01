"""The page « Quand quelque chose casse »: each failure that it tells is produced here, and what it quotes is what is said.

A quoted message is the first block of a section; « … » in it stands for what depends on the day or on the machine.
"""

from __future__ import annotations

import datetime as dt
import errno
import os
import re
from collections.abc import Callable
from typing import Any

import pytest

from ingestion.declarations import PROJECT
from ingestion.fetch import Http, MirrorHttp
from orchestration import shown
from tests.server import Response, Server
from tests.unit.test_landing import Producteur, chez, declarer  # noqa: F401  (a fixture)

PAGE = PROJECT / "orchestration" / "PANNES.md"
Monkey = pytest.MonkeyPatch


def sections() -> dict[str, str]:
    """Text of each numbered section, by its title."""
    text = PAGE.read_text(encoding="utf-8")
    return {m.group(1): m.group(2) for m in re.finditer(r"^## \d+\. (.+?)\n(.*?)(?=^## |\Z)", text, re.S | re.M)}


def check_told(producer: Producteur, name: str) -> str:
    """What the check of that name of the last landing sends by alert."""
    checks = {c.check_name: c for c in shown.landing_checks(producer.source, producer.last)}
    assert not checks[name].passed
    return str(checks[name].metadata["alerte"].value)


def unreachable(producer: Producteur, monkeypatch: Monkey) -> str:
    producer.publish({"01001": 1})
    producer.land()
    with Server() as server:
        server.script("/points.json", [Response(status=503)])
        producer.land(MirrorHttp(server.url, http=Http(sleep=lambda _: None)))
    return check_told(producer, "collecte")


def shape(producer: Producteur, monkeypatch: Monkey) -> str:
    producer.publish({"01001": 1})
    producer.land()
    (producer.folder / "points.json").write_text('[{"code": "01001", "annee": 2023, "total_points": 1}]')
    producer.land()
    return check_told(producer, "porte_arrivee")


def gate(producer: Producteur, monkeypatch: Monkey) -> str:
    producer.source = declarer(attendus={"lignes_min": 3})
    producer.publish({"01001": 1, "01002": 2, "01003": 3})
    producer.land()
    producer.publish({"01001": 1})
    producer.land()
    return check_told(producer, "porte_arrivee")


def undeclared(producer: Producteur, monkeypatch: Monkey) -> str:
    livraison = {"millesime": "2024", "chemin": "points-2024.json", "publie_le": "2024-06-30", "cog_annee": 2024}
    producer.source = declarer(livraisons=[livraison], nouvelles_livraisons="points-{millesime}.json")
    producer.publish({"01001": 1}, "points-2024.json")
    producer.publish({"01001": 2}, "points-2025.json")
    producer.land()
    return check_told(producer, "livraisons_declarees")


def stale(producer: Producteur, monkeypatch: Monkey) -> str:
    producer.source = declarer(fraicheur_jours=400)
    producer.publish({"01001": 1})
    etats = [vars(e) for e in producer.land()]
    assert shown.freshness(producer.source, etats, dt.date(2025, 1, 1)).passed
    late = shown.freshness(producer.source, etats, dt.date(2026, 1, 1))
    assert late is not None and not late.passed
    return str(late.metadata["alerte"].value)


def busy(producer: Producteur, monkeypatch: Monkey) -> str:
    import subprocess
    import sys

    from orchestration.instance import Busy, single_writer

    hold = "import sys; from filelock import FileLock\nwith FileLock(sys.argv[1]): print('pris', flush=True); sys.stdin.read()"
    other = subprocess.Popen(
        [sys.executable, "-c", hold, str(producer.where.work / "verrou")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert other.stdout and other.stdout.readline() == "pris\n"
        with pytest.raises(Busy) as caught, single_writer(producer.where, 0.1):
            pass
        return str(caught.value)
    finally:
        other.communicate("")


def full_disk(producer: Producteur, monkeypatch: Monkey) -> str:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    producer.publish({"01001": 1})
    monkeypatch.setattr("ingestion.snapshots.SnapshotStore._place", full)
    producer.land()
    return producer.last.problemes[0]


def altered(producer: Producteur, monkeypatch: Monkey) -> str:
    producer.publish({"01001": 1})
    producer.land()
    (blob,) = [p for p in (producer.where.snapshots / "blobs").rglob("*") if p.is_file()]
    blob.chmod(0o644)
    blob.write_bytes(b"x" + blob.read_bytes()[1:])
    (producer.folder / "points.json").unlink()
    for path in (producer.where.work / "lectures").rglob("lecture.json"):
        path.unlink()
    producer.land()
    return " ".join(producer.last.problemes)


def refused(producer: Producteur, monkeypatch: Monkey) -> str:
    import polars as pl

    from expectations.release import audit, examples
    from orchestration import release

    folder = producer.where.candidate
    (folder / "parquet").mkdir(parents=True)
    pl.DataFrame({"source_id": ["a", "a", "b"]}).write_parquet(folder / "parquet" / "dim_source.parquet")
    failures = release.blocking_failures(audit(folder, {"dim_source": ["source_id"]}))
    assert examples(folder, "dim_source", ["source_id"], "cles_en_double") == ["source_id = a"] * 2
    return f"rien n'est publié : {release.refusal(failures)}"


def record(producer: Producteur, monkeypatch: Monkey) -> str:
    from ingestion.records.admission import process_drop_folder

    (producer.where.depot / "conventions-creuse.csv").write_text("nom;prénom\nDurand;Anne\n", encoding="utf-8")
    (admission,) = process_drop_folder(producer.where, repos=0, sleep=lambda _: None)
    assert admission.refusee
    return shown.refused_record(admission.emetteur, admission.statut, producer.where)


PRODUCED: dict[str, Callable[[Producteur, Monkey], str]] = {
    "Un producteur ne répond pas": unreachable,
    "Un fichier a changé de forme": shape,
    "La porte d'arrivée refuse une livraison": gate,
    "Un fichier nouveau n'est pas déclaré": undeclared,
    "Une source est périmée": stale,
    "Une autre exécution est en cours": busy,
    "Le disque est plein": full_disk,
    "Un instantané est abîmé": altered,
    "La publication est refusée": refused,
    "Un fichier de relevés est refusé": record,
}


def test_every_failure_of_the_page_is_produced_and_every_one_produced_is_on_the_page() -> None:
    assert sections().keys() == PRODUCED.keys() and len(PRODUCED) == 10


@pytest.mark.parametrize("title", PRODUCED)
def test_the_page_quotes_what_is_said(title: str, chez: Any, monkeypatch: Monkey) -> None:  # noqa: F811
    said = PRODUCED[title](chez(declarer()), monkeypatch)
    quoted = re.search(r"```text\n(.*?)\n```", sections()[title], re.S)
    assert quoted, "la section cite le message"
    parts = [re.escape(" ".join(part.split())) for part in quoted.group(1).split("…")]
    assert re.fullmatch(r"\s*.*?\s*".join(parts), " ".join(said.split())), said
    # Each section says what to do, not only what is seen.
    assert "**Que faire.**" in sections()[title] and "**Ce qu'on voit.**" in sections()[title]


def test_commands_of_the_page_exist() -> None:
    from orchestration.cli import main

    for name in set(re.findall(r"`dk ([a-z]+)", PAGE.read_text(encoding="utf-8"))):
        assert name in main.commands, name


def test_names_of_jobs_and_settings_of_the_page_are_those_of_the_code() -> None:
    text = PAGE.read_text(encoding="utf-8")
    code = "".join(p.read_text(encoding="utf-8") for p in (PROJECT / "orchestration").glob("*.py"))
    named = set(re.findall(r"\bDK_[A-Z_]+\b|« (\w+_\w+) »", text)) | set(re.findall(r"\bDK_[A-Z_]+\b", text))
    assert named and all(name in code for name in named if name)
