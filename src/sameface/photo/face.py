"""The values that travel through a reconstruction: a photo, and what was seen of a face in it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from sameface.core.arrays import Record
from sameface.core.camera import WeakPerspective

__all__ = ["Observation", "Photo", "mean_code"]


@dataclass(frozen=True, eq=False, repr=False)
class Photo(Record):
    """Upright sRGB pixels and what is known about the lens."""

    pixels: UInt8[np.ndarray, "H W 3"]
    name: str
    focal: float | None = None
    """px of these pixels; None where nobody knows"""
    focal_from: str = "given"
    """who says so: the file (exif) or the user (given)"""
    notes: tuple[str, ...] = ()
    """sentences about the photo that the user should read"""

    def __post_init__(self):
        if self.pixels.ndim != 3 or self.pixels.shape[2] != 3 or self.pixels.dtype != np.uint8:
            given = f"{self.pixels.shape} {self.pixels.dtype}"
            raise ValueError(
                f"{self.name} is {given}; pixels are (H, W, 3) uint8, which sameface.photo.image.read gives"
            )
        if self.focal is not None and not 0 < self.focal < np.inf:
            raise ValueError(f"the focal length of {self.name} is {self.focal}; it is a positive number of px, or None")

    @property
    def size(self) -> tuple[int, int]:
        """(width, height), px."""
        return self.pixels.shape[1], self.pixels.shape[0]


@dataclass(frozen=True, eq=False, repr=False)
class Observation(Record):
    """One face in one photo: what the detector and the network said of it, in px of the photo."""

    photo: str
    size: tuple[int, int]
    """(width, height) of the photo"""
    focal: float | None
    """px, where it is known"""
    box: Float[np.ndarray, " 4"]
    """x0, y0, x1, y1"""
    score: float
    """the detector's, 0..1"""
    landmarks: Float[np.ndarray, "L 2"]
    """the network's dense points"""
    sigma: Float[np.ndarray, " L"]
    """expected error of each, px"""
    identity: Float[np.ndarray, " S"]
    expression: Float[np.ndarray, " E"]
    """what to expect of it, 0..1"""
    camera: WeakPerspective
    quality: float
    """0..1, from the network's expected error: 1 sharp and frontal, 0 a guess"""
    picture: UInt8[np.ndarray, "h w 3"]
    """the part of the photo around the face, for overlays and textures"""
    to_picture: Float[np.ndarray, "2 3"]
    """photo px → picture px"""
    firmness: Float[np.ndarray, " E"] | None = None
    """how firmly to expect it, as `fit.Measured` has it"""
    focal_from: str = "given"
    """as the photo's"""
    notes: tuple[str, ...] = ()
    """sentences about the photo and this face in it that the user should read"""
    code: Float[np.ndarray, " C"] | None = None
    """of unit length, near for photos of one person; None where no network said one"""


def mean_code(seen: Sequence[Observation]) -> Float[np.ndarray, " C"] | None:
    """The mean of the codes of a person's photos, of unit length; None where no photo has one, or they cancel out."""
    codes = [one.code for one in seen if one.code is not None]
    length = float(np.linalg.norm(np.sum(codes, axis=0))) if codes else 0.0
    return np.sum(codes, axis=0) / length if length > 1e-6 else None
