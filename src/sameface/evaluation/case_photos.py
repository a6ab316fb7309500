"""The photos of a case, one at a time, and in each of them the face that is meant."""

from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Float

from sameface.core import errors
from sameface.core.errors import BadPhoto, NoFaceFound, SameFaceError
from sameface.core.geometry import intersection_over_union
from sameface.evaluation.case import Case
from sameface.photo import image
from sameface.photo.face import Observation, Photo
from sameface.photo.predictor import FIVE, Predictor, second
from sameface.photo.turned import observe_turned
from sameface.photo.views import evenly
from sameface.reconstruction.choice import candidates

__all__ = ["Problem", "first_error", "first_photo", "look", "look_at_all", "photos_of", "text_of"]

Problem = tuple[str, str, str]
"""photo, kind, message"""
MARGIN = 0.1
"""of its larger side, on each side of a box: a face in profile has eyes and mouth on one line"""


def photos_of(case: Case, problems: list[Problem]) -> Iterator[tuple[Photo, Float[np.ndarray, "K 2"] | None]]:
    """The photos that can be read, one at a time, with the places of their faces; of the others, `problems` tells."""
    if not case.photos or len(case.places) != len(case.photos):
        raise ValueError(f"case {case.name} has {len(case.photos)} photos and {len(case.places)} places for them")
    names = [path.name for path in case.photos]
    if len(set(names)) < len(names):
        names = [f"{k + 1}/{name}" for k, name in enumerate(names)]
    for name, path, place in zip(names, case.photos, case.places, strict=True):
        if place is not None and len(place) not in (2, 5, 68):
            raise ValueError(f"case {case.name} says where a face is by {len(place)} points; expected 68, 5 or 2")
        try:
            for photo in _read(path, name, case.frames):
                yield photo, place
        except BadPhoto as error:
            problems.append((name, "BadPhoto", str(error)))


def first_photo(case: Case) -> Photo:
    """The first photo, or the first frame of the first video. Raises BadPhoto for one that cannot be read."""
    return next(_read(case.photos[0], case.photos[0].name, case.frames and 1))


def look(photo: Photo, place: Float[np.ndarray, "K 2"] | None, network: Predictor) -> Observation:
    """What a network that measures our model's dense points sees of the face that is meant.

    That is the face whose box overlaps most with the place (intersection over union); without a place the largest and
    most central. Raises NoFaceFound.
    """
    faces = observe_turned(photo, network, second=second())
    if place is None:
        return candidates(faces)[0].face
    five = [network.description["point_ids"].index(k) for k in FIVE]

    def own(face: Observation) -> np.ndarray:
        return {2: face.box.reshape(2, 2), 5: face.landmarks[five], 68: face.landmarks}[len(place)]

    shared = [_overlap(place, own(face)) for face in faces]
    best = int(np.argmax(shared))
    if not shared[best] > 0:
        count = "the only face" if len(faces) == 1 else f"none of the {len(faces)} faces"
        raise NoFaceFound(f"{count} found in {faces[0].photo} is {'not ' * (len(faces) == 1)}where the one meant is")
    return faces[best]


def look_at_all(case: Case, network: Predictor) -> tuple[list[Observation], list[Problem]]:
    """The face that is meant in each photo, and the photos where it was not found; none at all is an error."""
    seen, problems = [], []
    for photo, place in photos_of(case, problems):
        try:
            seen.append(look(photo, place, network))
        except SameFaceError as error:
            problems.append((photo.name, type(error).__name__, str(error)))
    if not seen:
        raise first_error(problems)
    return seen, problems


def first_error(problems: list[Problem]) -> SameFaceError:
    """The error of a case of which no photo could be used."""
    _, kind, message = problems[0]
    more = f" (and {len(problems) - 1} more photos of this case could not be used)" if len(problems) > 1 else ""
    return getattr(errors, kind)(message + more)


def text_of(problems: Collection[Problem]) -> np.ndarray:
    """(K, 3) text: photo, kind, message."""
    return np.array([list(one) for one in problems], dtype=str).reshape(-1, 3)


# ── inside ─────────────────────────────────────────────────────────────────────────────────────────────────


def _read(path: Path, name: str, frames: int | None) -> Iterator[Photo]:
    if frames is None:
        yield image.read(path, name=name)
        return
    for photo in evenly(path, frames):
        yield replace(photo, name=name + photo.name.removeprefix(str(path)))


def _overlap(a: Float[np.ndarray, "K 2"], b: Float[np.ndarray, "L 2"]) -> float:
    """Intersection over union of the boxes around two sets of points, each widened by MARGIN."""
    return intersection_over_union(_widened(a), _widened(b))


def _widened(points: Float[np.ndarray, "K 2"]) -> Float[np.ndarray, " 4"]:
    low, high = points.min(0), points.max(0)
    margin = MARGIN * (high - low).max()
    return np.concatenate([low - margin, high + margin])
