"""A photo whose file does not say which way is up → the faces in it, in the px of the photo as it is.

The detector knows upright faces. In a face that stands on its head it finds none, or a phantom: a mouth and a chin
that look a little like eyes and a forehead. So where nothing good is found, the photo is looked at from its other three
sides, and the side with the best face counts (results/turns.json).
"""

from dataclasses import replace

import numpy as np
from jaxtyping import Float

from sameface.core.errors import NoFaceFound
from sameface.core.geometry import apply_affine
from sameface.photo.face import Observation, Photo
from sameface.photo.observe import observe, picture_around
from sameface.photo.predictor import Predictor, Second

__all__ = ["observe_turned"]

GOOD = 0.6
"""detector's score × network's quality of a photo's best face, from which on nobody looks at its other sides"""
BETTER = 1.1
"""times better must the best face of another side be"""


def observe_turned(
    photo: Photo, predictor: Predictor, *, second: Second | None = None, min_score: float = 0.6
) -> list[Observation]:
    """As `observe`, but if no face is good, the photo is also looked at turned by 90°, 180° and 270°.

    The observations are those of the photo as given, so a face that stands on its head has a roll of 180°; a note says
    that the photo was turned. Raises NoFaceFound when there is no face from any side.
    """
    try:
        upright = observe(photo, predictor, second=second, min_score=min_score)
        nothing = None
    except NoFaceFound as error:
        upright, nothing = [], error
    if (least := _best(upright)) >= GOOD:
        return upright
    turns = [_turned(photo, quarters, predictor, second, min_score) for quarters in (1, 2, 3)]
    best = max(turns, key=_best)
    if _best(best) > BETTER * least:
        return best
    if nothing is not None:
        raise nothing
    return upright


def _best(seen: list[Observation]) -> float:
    return max((one.score * one.quality for one in seen), default=0.0)


def _turned(
    photo: Photo, quarters: int, predictor: Predictor, second: Second | None, min_score: float
) -> list[Observation]:
    """What is seen once the photo was turned counter-clockwise so many times, as observations of the photo itself."""
    upright = replace(photo, pixels=np.ascontiguousarray(np.rot90(photo.pixels, quarters)))
    try:
        seen = observe(upright, predictor, second=second, min_score=min_score)
    except NoFaceFound:
        return []
    width, height = photo.size
    back = {
        1: np.array([[0.0, -1.0, width], [1.0, 0.0, 0.0]]),
        2: np.array([[-1.0, 0.0, width], [0.0, -1.0, height]]),
        3: np.array([[0.0, 1.0, 0.0], [-1.0, 0.0, height]]),
    }[quarters]
    note = f"it was turned by {360 - 90 * quarters}° clockwise to find its face: its EXIF data did not say so"
    return [_back(one, photo, back, note) for one in seen]


def _back(seen: Observation, photo: Photo, affine: Float[np.ndarray, "2 3"], note: str) -> Observation:
    landmarks, corners = apply_affine(affine, seen.landmarks), apply_affine(affine, seen.box.reshape(2, 2))
    picture, to_picture = picture_around(photo.pixels, landmarks)
    return replace(
        seen,
        size=photo.size,
        box=np.concatenate([corners.min(0), corners.max(0)]),
        landmarks=landmarks,
        camera=seen.camera.warped(affine, photo.size),
        picture=picture,
        to_picture=to_picture,
        notes=(*seen.notes, note),
    )
