"""Pages with a mesh to turn: what `assets/report.html` needs, packed as its script reads it.

A page is a single file that loads nothing. Meshes ride in it as base64 integers. Its part between `<!--person-->` and
`<!--/person-->` is that of one person's report; other pages have their own text there.
"""

import base64
import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from sameface import __version__
from sameface.core.files import write_file
from sameface.morphable import MorphableModel
from sameface.reconstruction import picture

__all__ = ["as_text", "clay", "packed", "packed_targets", "quantised", "write_page"]

EYE_WHITE, IRIS, MOUTH = (226, 223, 219), (128, 118, 112), (96, 76, 72)
"""sRGB of clay eyes and of the inside of a clay mouth"""
IRIS_RADIUS = 5.85
"""mm: half of the 11.7 mm horizontal visible iris diameter"""
STILL = 1e-2
"""mm; a blendshape moves the vertices that it moves by more than this"""
MOST_APART = 65.0
"""mm; more does not fit into the 16 bits of a distance"""
NOT_TOLD = 65535
"""in place of a distance"""


def write_page(
    path: Path, face: Mapping[str, Any], result: Mapping[str, Any], parts: Mapping[str, str], body: str | None = None
) -> None:
    """Write a page: `parts` is the markup that stands in its places, `body` what stands in the place of the person's.

    Raises BadOutput when it cannot be written.
    """
    page = _template()
    if body is not None:
        page = re.sub(r"<!--person-->.*<!--/person-->", lambda _: body, page, flags=re.DOTALL)
    texts = {"face": _script_safe(face), "result": _script_safe(result), "version": escape(__version__), **parts}
    page = re.sub(r"\{\{(\w+)\}\}", lambda found: texts[found.group(1)], page)
    write_file(path, page.encode(errors="backslashreplace"))  # a file name may hold bytes that are no text


@cache
def _template() -> str:
    return (Path(__file__).parent.parent / "assets" / "report.html").read_text(encoding="utf-8")


def packed(
    model: MorphableModel, vertices: Float[np.ndarray, "V 3"], apart: Float[np.ndarray, " V"] | None = None
) -> dict[str, Any]:
    """A mesh of the model's topology, and how far `apart` (mm, NaN: not told) something lies at each vertex."""
    positions, step = quantised(vertices)
    first = model.extra.get("same_place", np.arange(model.n_vertices))
    twice = np.flatnonzero(first != np.arange(model.n_vertices))
    face: dict[str, Any] = {
        "positions": as_text(positions),
        "step": step,
        "clay": as_text(clay(model)),
        "faces": as_text(model.faces.astype("<u4")),
        "twins": as_text(np.stack([first[twice], twice], axis=1).astype("<u4")),
    }
    if apart is not None:
        micrometres = np.round(np.minimum(apart, MOST_APART) * 1000)
        face["disagreement"] = as_text(np.where(np.isnan(apart), NOT_TOLD, micrometres).astype("<u2"))
    return face


def packed_targets(offsets: Sequence[Float[np.ndarray, "V 3"]] | Float[np.ndarray, "E V 3"]) -> dict[str, Any]:
    """Blendshapes one after the other: how many vertices each moves, which, and by how much (int16 × morph_step mm)."""
    moved = [np.flatnonzero((np.abs(one) > STILL).any(1)) for one in offsets]
    deltas = np.concatenate([one[index] for one, index in zip(offsets, moved, strict=True)])
    steps, step = quantised(deltas)
    many = len(offsets) > 0 and len(offsets[0]) > 65535
    return {
        "counts": [len(index) for index in moved],
        "moved": as_text(np.concatenate(moved).astype("<u4" if many else "<u2")),
        "deltas": as_text(steps),
        "morph_step": step,
    }


def clay(model: MorphableModel) -> UInt8[np.ndarray, "V 3"]:
    """sRGB of each vertex of a clay bust: one grey, but dark inside the mouth, and eyes that show where they look."""
    colours = np.tile(np.array(picture.CLAY, np.uint8), (model.n_vertices, 1))
    nowhere = np.zeros(model.n_vertices, bool)
    colours[model.regions.get("sockets", nowhere)] = MOUTH
    for side in (1, -1):
        eye = np.flatnonzero(model.regions.get("eyeballs", nowhere) & (side * model.mean[:, 0] > 0))
        if len(eye):
            pupil = model.mean[eye[model.mean[eye, 2].argmax()]]
            colours[eye] = EYE_WHITE
            colours[eye[np.linalg.norm(model.mean[eye] - pupil, axis=1) < IRIS_RADIUS]] = IRIS
    return colours


def quantised(values: Float[np.ndarray, "*b"]) -> tuple[np.ndarray, float]:
    """int16 and the mm that one step is worth."""
    step = max(float(np.abs(values).max(initial=0.0)), 1e-3) / 32767
    return np.round(values / step).astype("<i2"), step


def as_text(array: np.ndarray) -> str:
    """The bytes of an array in base64."""
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


def _script_safe(value: Any) -> str:
    """JSON that cannot end the script element that holds it."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
