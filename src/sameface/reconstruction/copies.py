"""Which photos of a person are the same picture: files copied, resized or compressed again, frames of a still video.

A copy is no second witness: eight copies of one photo know no more than one, and must not look like eight.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from sameface.photo.face import Observation
from sameface.reconstruction.agreement import millimetres

__all__ = [
    "SAME_EXPRESSION", "SAME_POINTS", "SAME_SHAPE", "apart", "counted", "note", "originals", "same_pictures", "why",
]  # fmt: skip

SAME_POINTS = 0.03
"""RMS distance between the measured points of two photos, middle and spread made equal, in parts of the spread"""
SAME_SHAPE = 0.5
"""mm RMS over the face between the two photos' own identities"""
SAME_EXPRESSION = 0.25
"""largest difference of an expression: a photo with the eyes shut is another one. Photos within all limits are one
picture: 98 % of 555 copies (half or 1.5 times the size, compressed again), none of 111 pairs of different photos of one
person (results/limits.json)"""

Problem = tuple[str, str, str]


def same_pictures(seen: Sequence[Observation], others: Sequence[Observation]) -> Bool[np.ndarray, "N M"]:
    """Whether each observation and each of the others are of one picture."""
    points, shapes, faces = apart(seen, others)
    return (points <= SAME_POINTS) & (shapes <= SAME_SHAPE) & (faces <= SAME_EXPRESSION)


def apart(seen: Sequence[Observation], others: Sequence[Observation]) -> Float[np.ndarray, "3 N M"]:
    """How far each observation and each of the others are apart: in points, shape (mm) and expression, as the limits
    have it."""
    points = _distances(_placed(seen), _placed(others)) / np.sqrt(len(seen[0].landmarks))
    shapes = _distances(*(np.stack([one.identity for one in some]) @ millimetres() for some in (seen, others)))
    faces = np.stack([np.abs(_expressions(others) - one).max(1) for one in _expressions(seen)])
    return np.stack([points, shapes, faces])


def originals(seen: Sequence[Observation]) -> Int[np.ndarray, " N"]:
    """For each observation the number of the one that it is a copy of: its own, if it is none.

    Of equal pictures the one of the best quality counts, of equally good ones the first.
    """
    same, original = same_pictures(seen, seen), np.arange(len(seen))
    kept: list[int] = []
    for k in np.argsort([-one.quality for one in seen], kind="stable"):
        known = [other for other in kept if same[k, other]]
        if known:
            original[k] = known[0]
        else:
            kept.append(int(k))
    return original


def counted(seen: Sequence[Observation]) -> tuple[list[Observation], list[Problem]]:
    """The observations that are no copies, in their order, and a problem (photo, kind, message) for each that is."""
    original = originals(seen)
    kept = [one for k, one in enumerate(seen) if original[k] == k]
    copies = [(one.photo, "Copy", why(seen[original[k]].photo)) for k, one in enumerate(seen) if original[k] != k]
    return kept, copies


def why(original: str) -> str:
    """Why a copy does not count."""
    return f"it is the same picture as {original}, which counts once"


def note(copies: int) -> str:
    """What is said of so many copies."""
    return f"{copies} photo{'s are copies' if copies > 1 else ' is a copy'} of others; each picture counts once"


def _placed(seen: Sequence[Observation]) -> Float[np.ndarray, "N D"]:
    """The points around their middle, with a spread of 1, in a row."""
    points = np.stack([one.landmarks for one in seen])
    points = points - points.mean(1, keepdims=True)
    spread = np.sqrt((points**2).sum(2).mean(1))
    return (points / np.maximum(spread, 1e-9)[:, None, None]).reshape(len(seen), -1)


def _expressions(seen: Sequence[Observation]) -> Float[np.ndarray, "N E"]:
    return np.stack([one.expression for one in seen])


def _distances(a: Float[np.ndarray, "N D"], b: Float[np.ndarray, "M D"]) -> Float[np.ndarray, "N M"]:
    """Between all rows of both; a person has at most 2,000, of up to 1,000 numbers."""
    squares = (a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T
    return np.sqrt(np.maximum(squares, 0.0))
