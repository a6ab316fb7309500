"""Whether what comes in as a face can be one: its size in millimetres, and its landmarks in iBUG's order.

Lengths of files have no unit, and a mesh in metres is as good as one in millimetres until its numbers are compared with
something; landmarks have no names, and a face whose right and left are swapped fits badly and says nothing. So both are
compared with the mean face that ships, wherever a mesh comes in.
"""

from functools import cache

import numpy as np
from jaxtyping import Float

from sameface.core.geometry import align
from sameface.morphable import default

__all__ = ["EYE_CENTRES", "SPREADS", "UNITS", "eye_distance", "order_problem", "size_problem", "spread", "unit_of"]

UNITS = {"metres": 1000.0, "decimetres": 100.0, "centimetres": 10.0, "inches": 25.4, "micrometres": 0.001}
"""mm per unit"""
EYE_CENTRES = (40.0, 90.0)
"""mm between the middles of the eye corners; adults have 54 to 74 (Dodgson 2004), children less"""
SPREADS = (0.35, 5.0)
"""times the spread of the mean face: half a face, and a whole head with shoulders"""
POINTS = (36, 39, 42, 45, 33, 48, 54, 30)
"""iBUG's corners of the eyes, bottom of the nose, corners of the mouth, and tip of the nose"""
SWAPPED = (45, 42, 39, 36, 33, 54, 48, 30)
"""what stands in their places where right and left are confused"""
FEWEST = 5
BETTER, FARTHEST = 0.85, 0.5
"""times the distance from the mean face must that of the swapped points be below (3,000 people drawn from the model, a
mm of noise: at least 1.34 as they are, at most 0.75 swapped); parts of the points' own spread"""


def spread(points: Float[np.ndarray, "N 3"]) -> float:
    """RMS distance from the middle."""
    return float(np.sqrt(((points - np.mean(points, axis=0)) ** 2).sum(1).mean()))


def unit_of(ratio: float) -> str | None:
    """The unit of a face that has `ratio` times the numbers that it would have in millimetres; None if none comes near.

    >>> unit_of(0.00095), unit_of(0.11), unit_of(7.0)
    ('metres', 'centimetres', None)
    """
    if not 0 < ratio < np.inf:
        return None
    unit = min(UNITS, key=lambda name: abs(np.log(ratio * UNITS[name])))
    return unit if 0.3 < ratio * UNITS[unit] < 3 else None


def size_problem(ratio: float, least: float, most: float) -> str:
    """What is wrong with a face of `ratio` times the expected size; empty from `least` to `most`."""
    if least <= ratio <= most:
        return ""
    unit = unit_of(ratio)
    hint = f"it looks like {unit}" if unit else "is it a face, and in which unit?"
    return f"has {ratio:.3g} times the size of a face in millimetres; {hint}"


def eye_distance(landmarks: Float[np.ndarray, "68 3"]) -> float:
    """Between the middles of the corners of either eye, in the unit of the points; NaN where these are not known."""
    return float(np.linalg.norm(landmarks[[36, 39]].mean(0) - landmarks[[42, 45]].mean(0)))


def order_problem(landmarks: Float[np.ndarray, "68 3"]) -> str:
    """What is wrong with the order of iBUG's points of a face in any pose and unit; empty if nothing is.

    The corners of eyes and mouth and the nose (NaN: not known; with fewer than five nothing is said) are laid on those
    of the mean face by a similarity, as they are and with right and left swapped.
    """
    known = np.isfinite(landmarks[list(POINTS)]).all(1)
    if known.sum() < FEWEST:
        return ""
    points = landmarks[list(POINTS)][known].astype(np.float64)
    straight, swapped = (_misfit(_mean()[list(places)][known], points) for places in (POINTS, SWAPPED))
    if swapped < BETTER * straight:
        return "has right and left landmarks swapped (right is the subject's)"
    return "has landmarks that are not in iBUG's order" if min(straight, swapped) > FARTHEST else ""


@cache
def _mean() -> Float[np.ndarray, "68 3"]:
    return default().landmarks(default().mean).astype(np.float64)


def _misfit(points: Float[np.ndarray, "K 3"], goal: Float[np.ndarray, "K 3"]) -> float:
    """RMS distance after the best similarity, in parts of the goal's spread."""
    scale, rotation, shift = align(points, goal)
    off = np.sqrt(((scale * points @ rotation.T + shift - goal) ** 2).sum(1).mean())
    return float(off) / max(spread(goal), 1e-12)
