"""Imported by the process that the rendering workers are forked from, so that each of them starts ready."""

from notebooks.kit.render import preload

preload()
