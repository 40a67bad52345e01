"""What is dear to make is made once for all the processes among which pytest-xdist shares the tests."""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
from filelock import FileLock

Built = TypeVar("Built")


def once(factory: pytest.TempPathFactory, name: str, build: Callable[[Path], Built]) -> Built:
    """What ``build`` makes in a folder of its own, made once for all the processes of pytest; the others wait for it."""
    base = factory.getbasetemp()
    root = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    with FileLock(f"{root}.lock"):
        made = root / "fait.pickle"
        if not made.exists():
            shutil.rmtree(root, ignore_errors=True)
            root.mkdir()
            made.write_bytes(pickle.dumps(build(root)))
        return pickle.loads(made.read_bytes())
