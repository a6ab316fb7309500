"""How likely two shapes are one person's, given how far apart they are and how many photos each came from.

The formula stands in `verify`; its numbers are `assets/verification.json`, by studies/calibrate_verification.py.
"""

import json
import math
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

__all__ = ["FARS", "features", "limit", "packaged", "probability"]

FARS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5)
"""false accept rates at which the limits were measured; between them they are interpolated"""
NEAREST = 0.05
"""mm; whatever is nearer counts as this, since the logarithm of nothing is none"""


@cache
def packaged() -> dict[str, Any]:
    """The calibration that ships, which belongs to the packaged networks."""
    return json.loads((Path(__file__).parent.parent / "assets" / "verification.json").read_text())


def features(distance_mm: Any, n_a: Any, n_b: Any, most: int = 16) -> Float[np.ndarray, "*p 5"]:
    """(1, ln d, u, u ln d, u²), u = ln(1/n_A + 1/n_B), d at least 0.05 mm, counts at most `most`; numbers or arrays.

    >>> features(1.0, 1, 1).round(3).tolist()
    [1.0, 0.0, 0.693, 0.0, 0.48]
    """
    d, n_a, n_b = np.broadcast_arrays(np.log(np.maximum(distance_mm, NEAREST)), n_a, n_b)
    u = np.log(1 / np.minimum(n_a, most) + 1 / np.minimum(n_b, most))
    return np.stack([np.ones_like(d), d, u, u * d, u * u], axis=-1)


def probability(distance_mm: float, n_a: int, n_b: int, calibration: Mapping[str, Any] | None = None) -> float:
    """1 / (1 + exp(-w · features)): that two shapes are one person's, if that is as likely as not beforehand.

    Raises ValueError for a distance that is negative or not finite, and for fewer than one photo.
    """
    if not (math.isfinite(distance_mm) and distance_mm >= 0):
        raise ValueError(f"a distance is a finite number of at least 0 mm, not {distance_mm:g}")
    if min(n_a, n_b) < 1:
        raise ValueError(f"each side needs at least one photo, but they have {n_a} and {n_b}")
    known = calibration or packaged()
    score = features(distance_mm, n_a, n_b, known["most_photos"]) @ np.array(known["coefficients"])
    return float(1 / (1 + np.exp(-score)))


def limit(kind: str, rate: float, n_a: int, n_b: int, calibration: Mapping[str, Any] | None = None) -> float:
    """mm: `rate` of different people are nearer ("accept"), or of same ones farther ("reject"): exp(a + b u).

    a and b are interpolated over ln(rate) between the rates in FARS.
    """
    known = calibration or packaged()
    u = features(1.0, n_a, n_b, known["most_photos"])[2]
    logs = [line[0] + line[1] * u for line in known[kind]]
    return float(np.exp(np.interp(np.log(rate), np.log(FARS), logs)))
