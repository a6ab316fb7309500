"""Settings that make the methods of training small enough to be trained in a second, and data that they can take."""

from pathlib import Path
from typing import Any

from morphable_files import write_tddfa_sparse_v2
from sameface.core import plugins

__all__ = ["FILES", "SMALL", "sample", "takers"]

FILES = {name: ("morphable", write_tddfa_sparse_v2) for name in ("scnn", "disentangle")}
"""method → the setting that is a file, and who writes such files"""
SMALL: dict[str, dict[str, Any]] = {
    "disentangle": {"features": 16, "phase": 3, "persons": 8},
    "detector": {"size": 64, "widths": (8, 8, 8, 8, 8), "blocks": (0, 0, 1, 0, 0), "neck": 8},
    "eyes": {"size": 16, "widths": (8, 8), "blocks": (1, 1), "features": 8},
    "isoface": {"size": 32, "widths": (8, 8, 8), "blocks": (1, 1, 1), "features": 16},
    "landmark_depth": {"size": 32, "channels": (4, 6, 8, 8), "features": 16, "views": 8},
    "multiview": {"size": 32},
    "recogniser": {"widths": (8, 8, 8, 8), "blocks": (1, 1, 1, 1)},
    "scnn": {"size": 48, "features": 8, "stage": 2},
    "sir": {"warm_up": 0.0, "features": 16, "persons": 8, "picture": 28},
}


def takers(method: Any) -> list[str]:
    """The data sets that give what a method needs."""
    given = {name: set(plugins.load("datasets", name).gives) for name in plugins.names("datasets")}
    return [name for name in given if set(method.needs) <= given[name]]


def sample(name: str, folder: Path) -> str:
    """The sample of a data set, written into a folder, as DATASET:FOLDER."""
    plugins.load("datasets", name).sample(folder / name)
    return f"{name}:{folder / name}"
