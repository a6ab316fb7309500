"""Which of several faces in a photo is meant: the one whom the person's other photos show, else the most prominent.

The largest face is not always the person: somebody nearer to the lens stands at the rim. So faces compete by size ×
centrality, and those that are nearly as prominent by how near their shape is to the other photos' shapes.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from sameface.photo.face import Observation
from sameface.reconstruction.agreement import millimetres

__all__ = ["Candidate", "candidates", "choose", "prominence"]

RIVAL = 0.4
"""a face at least this part as prominent as the most prominent one may be meant too"""
NEARER = 0.8
"""times the distance of the most prominent face must that of another one be below, for the other photos to decide"""
ROUNDS = 5
"""in which photos with rivals vote on each other"""


class Candidate(NamedTuple):
    """A face that may be meant."""

    face: Observation
    number: int
    """from 1, the largest: what `face` and `--face` count"""
    of: int
    """faces in its photo"""
    named: bool = False
    """asked for by its number, so that nothing was chosen"""


def prominence(face: Observation) -> float:
    """Side of the face's box (px) × centrality, 1 − (distance of its middle from the photo's / the photo's diagonal).

    The centrality of a face in the corner is one half.
    """
    middle = (face.box[:2] + face.box[2:]) / 2
    away = float(np.linalg.norm(middle - np.array(face.size) / 2) / np.hypot(*face.size))
    return float(np.sqrt(np.prod(np.clip(face.box[2:] - face.box[:2], 0, None)))) * (1 - away)


def candidates(faces: Sequence[Observation], number: int | None = None) -> list[Candidate]:
    """The faces of one photo (the largest first) that may be meant, the most prominent first; or the one of a number.

    Empty if there are not so many faces.
    """
    every = [Candidate(face, k, len(faces), number is not None) for k, face in enumerate(faces, 1)]
    if number is not None:
        return every[number - 1 : number]
    every.sort(key=lambda one: -prominence(one.face))
    return [one for one in every if prominence(one.face) >= RIVAL * prominence(every[0].face)]


def choose(photos: Sequence[Sequence[Candidate]], like: Float[np.ndarray, " S"] | None = None) -> list[Observation]:
    """One face of each photo of a person, given its candidates; a note in it says what was chosen among several.

    Where a photo has rivals, each one's distance is the median of |α M − α' M| (mm over the face, `millimetres`) over
    the faces α' chosen in the other photos, and another than the most prominent one is taken if its distance is below
    NEARER times that one's. Photos with one candidate are asked alone, if there are any; else all, in rounds. A lone
    photo asks the identity `like` (σ), if there is one: somebody whom the person is compared with.
    """
    taken = [0] * len(photos)
    sure = [k for k, some in enumerate(photos) if len(some) == 1]
    shapes = [np.stack([one.face.identity for one in some]) @ millimetres() for some in photos]
    voted = set()
    for _ in range(1 if sure else ROUNDS):
        before = list(taken)
        for k, some in enumerate(photos):
            others = [j for j in (sure or range(len(photos))) if j != k]
            known = [shapes[j][taken[j]] for j in others]
            known = known if known or like is None else [like @ millimetres()]
            if len(some) > 1 and known:
                away = [float(np.median([np.linalg.norm(one - other) for other in known])) for one in shapes[k]]
                nearest = int(np.argmin(away))
                taken[k] = nearest if away[nearest] < NEARER * away[0] else 0
                voted.add(k)
        if taken == before:
            break
    whom = "whom it is compared with" if len(photos) == 1 else "the other photos"
    return [_said(some, taken[k], whom if k in voted else "") for k, some in enumerate(photos)]


def _said(some: Sequence[Candidate], taken: int, asked: str) -> Observation:
    """The chosen face with a note, which says who was asked, if anybody."""
    one = some[taken]
    if one.of == 1 or one.named:
        return one.face
    if taken:
        why = f"the one most like {asked}"
    else:
        why = "the largest and most central" + (f", and no other is more like {asked}" if asked else "")
    note = f"it shows {one.of} faces; taken was {why} (number {one.number} by size; choose another by its number)"
    return replace(one.face, notes=(*one.face.notes, note))
