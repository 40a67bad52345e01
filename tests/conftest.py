"""How the tests are shared out among processes: a file to one of them, and all that read the published files to one."""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        folder, *_ = item.path.relative_to(HERE).parts
        item.add_marker(pytest.mark.xdist_group(folder if folder == "mirror" else item.path.stem))
