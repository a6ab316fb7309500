"""How likely two shapes are one person's, given how far apart they are and how many photos each came from.

The formula stands in `verify`; its numbers are `assets/verification.json`, by studies/calibrate_verification.py.
"""

import json
import math
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

__all__ = ["FARS", "decided", "features", "limit", "packaged", "percent", "probability", "uncalibrated", "warning"]

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


def decided(
    distance_mm: float, counts: Sequence[int], chance: float, far: float, calibration: Mapping[str, Any] | None = None
) -> bool | None:
    """True: one person, False: two, None: unsure, at the error rate `far`; `chance` is the pair's `probability`."""
    known = calibration or packaged()
    near = distance_mm <= limit("accept", far, counts[0], counts[1], known)
    apart = distance_mm >= limit("reject", far, counts[0], counts[1], known)
    if near and apart:  # many photos or a high rate: the limits have crossed, and nobody is in between
        return chance >= 0.5
    return True if near else False if apart else None


def uncalibrated(
    name: str, predictor: str | None, sha256: str | None, calibration: Mapping[str, Any] | None = None
) -> str:
    """Why the calibration does not hold for what networks of this name and digest made; empty if it does."""
    known = calibration or packaged()
    if predictor is None:
        return f"{name} does not say which network made it; give its photos or its result.json"
    if predictor != known["predictor"] or sha256 not in (None, known["networks_sha256"]):
        return f"{name} was made by {predictor}, and the calibration is that of our default network"
    return ""


def percent(share: float) -> str:
    """A probability for a reader: never 0 and never 100, which 38 people cannot carry.

    >>> percent(0.874), percent(0.9999)
    ('87 %', 'over 99 %')
    """
    return "over 99 %" if share > 0.99 else "under 1 %" if share < 0.01 else f"{100 * share:.0f} %"


def warning(counts: Sequence[int], calibration: Mapping[str, Any] | None = None) -> str:
    """What to know of a verdict over so many photos on each side."""
    known = calibration or packaged()
    usual = 2 / (1 / counts[0] + 1 / counts[1])
    size = max((int(n) for n in known["auc"] if int(n) <= usual + 1e-9), default=1)
    many = "one photo" if size == 1 else f"{size} photos"
    right = min(99, math.floor(100 * known["auc"][str(size)]))
    return (
        f"in a few people's press photos, with {many} of each, a person is nearer to themselves than somebody else is "
        f"in {right} of 100 cases (50 would be chance). Identify nobody by it"
    )
