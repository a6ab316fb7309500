"""Where two people's shapes differ: a page with a face to turn, coloured by millimetres, that becomes the other one."""

from html import escape
from pathlib import Path

import numpy as np
from jaxtyping import Float

from sameface.core.errors import BadData
from sameface.core.geometry import align
from sameface.morphable import default
from sameface.morphable.head import whole
from sameface.reconstruction.viewer import packed, packed_targets, write_page
from sameface.verification.sides import Side
from sameface.verification.verify import Verdict

__all__ = ["write_differences"]

HEADLINES = {
    True: "These shapes could be one person's",
    False: "These shapes are too different for one person",
    None: "These shapes cannot say whether it is one person",
}


def write_differences(first: Side, second: Side, verdict: Verdict, path: Path) -> Path:
    """Write one self-contained HTML page about the verdict on two people.

    It shows the first one's neutral head, and at each vertex its distance to the second one's after the best rigid
    motion; a slider turns one into the other. Raises BadData for a side that is no shape of our model, and BadOutput.
    """
    head, (here, there) = whole(default()), (_head(side) for side in (first, second))
    there = _laid_over(there, here)
    offset = there - here
    apart = np.where(_compared(), np.linalg.norm(offset, axis=1), np.nan)
    towards = "first → second"
    face = packed(head, here, apart) | packed_targets([offset])
    face |= {
        "names": ["second"],
        "range": [0.0, 1.0],
        "photos": [],
        "groups": {towards: ["second"]},
        "presets": {"first": {}, "second": {"second": 1.0}},
        "look": "disagreement",
        "words": {"apart": "how far the shapes are apart", "surface": "difference", "sliders": "Person"},
    }
    parts = {"title": HEADLINES[verdict.same], "facts": _facts(verdict), "notes": _notes(verdict)}
    write_page(path, face, verdict.as_json(), parts, _BODY)
    return path


_BODY = """
<h2>How to read this</h2>
<p><b>Only shapes are compared</b>, neutral and in millimetres of an average head: no colours, no hair, no expression.
The second face is laid over the first by the best rigid motion; colours say how far apart they then are, from blue
(nothing) to red. What is counted, and coloured, is the face: photos tell too little of the rest of a head. <b>From one
photo of each this is often wrong</b>; several photos of each, from different sides, say more. Identify nobody by
it.</p>
{{notes}}
"""


def _facts(verdict: Verdict) -> str:
    pairs = zip(verdict.photos, verdict.disagreement, strict=True)
    sides = ["one photo" if n == 1 else f"{n or '?'} photos" + (f", {x:.2f} mm apart" if x else "") for n, x in pairs]
    facts = [
        ("apart", f"{verdict.distance_mm:.2f} mm RMS over the face"),
        ("probability of one person", f"{verdict.chance}, if it was as likely as not before"),
        ("error rate of the verdict", f"{100 * verdict.far:g} %"),
        ("first", sides[0]),
        ("second", sides[1]),
    ]
    return "".join(f"<div><dt>{name}</dt><dd>{escape(value)}</dd></div>" for name, value in facts)


def _notes(verdict: Verdict) -> str:
    left_out = [message if photo in message else f"{photo}: {message}" for photo, _, message in verdict.dropped]
    lines = "".join(f"<li>{escape(line)}</li>" for line in [*verdict.notes, *left_out])
    return f'<ul class="notes">{lines}</ul>' if lines else ""


def _head(side: Side) -> Float[np.ndarray, "V 3"]:
    """The whole neutral head, mm."""
    if side.identity is None:
        raise BadData(f"{side.name} is no shape of our model; give its photos or its result.json")
    return whole(default()).vertices(side.identity)


def _compared() -> np.ndarray:
    """Which vertices of the head are those that a distance between shapes counts."""
    face = np.zeros(whole(default()).n_vertices, bool)
    face[: default().n_vertices] = default().regions["face"]
    return face


def _laid_over(moving: Float[np.ndarray, "V 3"], fixed: Float[np.ndarray, "V 3"]) -> Float[np.ndarray, "V 3"]:
    """The head after the rigid motion that brings its face best onto the other's."""
    face = _compared()
    a, b = moving.astype(np.float64), fixed.astype(np.float64)
    _, rotation, shift = align(a[face], b[face], scale=False)
    return a @ rotation.T + shift
