"""Imported by the process that the rendering workers are forked from, so that each of them starts ready."""

import functools
import importlib.metadata
import sys

from notebooks.kit.render import preload

# marimo asks for those of every installed package at each page; they do not change while a process lives.
importlib.metadata.entry_points = functools.cache(importlib.metadata.entry_points)

# marimo imports it after each page, were it there, to close figures that no page draws with it: more than a second a worker.
sys.modules["matplotlib"] = None  # type: ignore[assignment]
preload()
