"""The values that travel through a reconstruction: a photo, what a network says of it, and the answer."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from sameface.arrays import Array, Record
from sameface.camera import Camera
from sameface.morphable import MorphableModel

__all__ = ["FaceParams", "Photo", "Reconstruction", "View"]


@dataclass(frozen=True, eq=False, repr=False)
class Photo(Record):
    """Upright sRGB pixels and what the file knew about its lens."""

    pixels: UInt8[np.ndarray, "H W 3"]
    name: str
    focal: float | None = None
    """px of these pixels, from EXIF; None when the file does not say"""

    @property
    def size(self) -> tuple[int, int]:
        """(width, height), px."""
        return self.pixels.shape[1], self.pixels.shape[0]


@dataclass(frozen=True, eq=False, repr=False)
class FaceParams(Record):
    """What a network says of a batch of crops; fields it does not predict are None."""

    identity: Float[Array, "*b S"]
    """σ"""
    expression: Float[Array, "*b E"]
    camera: Camera | None = None
    """in crop px"""
    landmark_error: Float[Array, "*b L"] | None = None
    """the network's own guess of each dense landmark's error, as a fraction of the crop side"""
    embedding: Float[Array, "*b D"] | None = None
    """unit length"""


@dataclass(frozen=True, eq=False, repr=False)
class View(Record):
    """One photo of the person, fitted."""

    photo: str
    box: Float[np.ndarray, " 4"]
    """x0, y0, x1, y1 of the detected face, photo px"""
    camera: Camera
    """in photo px"""
    expression: Float[np.ndarray, " E"]
    landmarks: Float[np.ndarray, "68 2"]
    """where the network saw the iBUG points, photo px"""
    quality: float
    """0..1: how much this photo counted"""
    identity_alone: Float[np.ndarray, " S"]
    """σ: the identity from this photo only"""
    disagreement: float
    """mm RMS over the face between the shape from this photo alone and the joint shape"""


@dataclass(frozen=True, eq=False, repr=False)
class Reconstruction(Record):
    """One person: the answer of `sameface.reconstruct`."""

    identity: Float[np.ndarray, " S"]
    """σ, one for all views"""
    views: tuple[View, ...]
    model: MorphableModel
    predictor: str
    """name@version of the network"""
    scale: float = 1.0
    """true size / model size; 1 means the size of a statistically average head"""
    scale_from: str = "average head"
    """what the scale rests on"""
    dropped: tuple[tuple[str, str], ...] = ()
    """(photo, reason) of photos that did not count"""
    notes: tuple[str, ...] = ()

    def vertices(self, view: int | None = None) -> Float[np.ndarray, "V 3"]:
        """The neutral face, or the face with the expression of one view, mm."""
        expression = None if view is None else self.views[view].expression
        return np.float32(self.scale) * self.model.vertices(self.identity, expression)
