"""What a benchmark asks and what a system answers: the two values that meet in `sameface evaluate`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from sameface.core.arrays import Record
from sameface.core.camera import onto_axis

__all__ = ["Answer", "Case", "CaseFailed", "Published", "pose"]


@dataclass(frozen=True, eq=False, repr=False)
class Case(Record):
    """One question of a benchmark: photos of ONE person (a single photo, a set, the frames of a video)."""

    name: str
    """unique within the benchmark"""
    photos: tuple[Path, ...]
    places: tuple[Float[np.ndarray, "K 2"] | None, ...]
    """per photo, points that say which face is meant, px of the photo: K = 68 iBUG points where the protocol crops by
    the true landmarks; 5 points (right eye, left eye, nose tip, mouth corners; subject's right first); 2 corners of a
    box (upper left, lower right); None where the system has to find the face itself"""
    truth: dict[str, Any] = field(default_factory=dict)
    """what `score` compares the answer with"""
    frames: int | None = None
    """None: `photos` are photos; a number: each is a video, or a folder of photos, of which that many are looked at"""


@dataclass(frozen=True, eq=False, repr=False)
class Answer(Record):
    """What a system says of the photos of a case, N of them; None for what it does not say.

    Image coordinates are px of the photo, origin at the upper left corner of the upper left pixel; z in px of the same
    scale, growing away from the viewer, with any origin.
    """

    landmarks: Float[np.ndarray, "N 68 3"] | None = None
    """the iBUG points as seen in each photo"""
    vertices: Float[np.ndarray, "N V 3"] | None = None
    """the whole mesh as seen in each photo"""
    rotation: Float[np.ndarray, "N 3 3"] | None = None
    """how the head is turned against the line of sight in each photo, as a camera rotation (docs/conventions.md)"""
    neutral: Float[np.ndarray, "V 3"] | None = None
    """the person's mesh without expression, mm"""
    faces: Int[np.ndarray, "F 3"] | None = None
    """triangles of the mesh"""
    neutral_landmarks: Float[np.ndarray, "68 3"] | None = None
    """the iBUG points on `neutral`, mm"""
    codes: dict[str, Float[np.ndarray, "N D"]] = field(default_factory=dict)
    """vectors to compare people by, one per photo, for example `identity` (σ) and `embedding`"""


class CaseFailed(ValueError):
    """Raised by `summary` when a case that has a row fails after all: it becomes a failure, and is in no number."""

    def __init__(self, case: str, reason: str):
        super().__init__(reason)
        self.case = case


class Published(NamedTuple):
    """Numbers that somebody else reports for a benchmark, to stand beside ours."""

    system: str
    values: dict[str, float]
    """by the names that `summary` uses"""
    source: str
    """who measured it and where it is printed"""


def pose(measured: Mapping[str, np.ndarray]) -> Float[np.ndarray, "N 3 3"]:
    """How the heads are turned against the line of sight, from the cameras that `System.measure` gives.

    In weak perspective (no center) that is the rotation itself; in perspective the direction to the face counts too.
    """
    rotation, center = measured["rotation"], measured.get("center")
    if center is None:
        return rotation
    weak = np.isnan(center[:, :1])
    ray = np.where(weak, [0.0, 0.0, 1.0], measured["translation"])
    return onto_axis(ray) @ rotation
