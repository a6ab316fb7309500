"""A second look at the eyes, at several times the resolution of the crop of the whole face.

A crop of 96 px shows an eye 13 px wide: too small to say whether it is shut. Here a small network (recipe:
`training/methods/eyes.py`) is shown each eye alone, a square around the corners that the first network's points name,
the left one mirrored; it says where lids and iris are and how far the eye is shut. Only eyes are looked at whose side
of the head is turned to the viewer.
"""

import numpy as np
from jaxtyping import Bool, Float, UInt8

from sameface.morphable import default
from sameface.photo import image
from sameface.photo.predictor import Predictor

__all__ = ["BLINKS", "EYES", "OUTWARDS", "SEEN", "eye_affine", "look_again"]

EYES = (
    (33, 133, 144, 153, 158, 160, 468, 469, 470, 471, 472),
    (263, 362, 373, 380, 385, 387, 473, 476, 475, 474, 477),
)
"""MediaPipe's numbers of the points of the subject's right and left eye: outer and inner corner, two of the lower and
two of the upper lid, the pupil's middle, the ring of the iris; what mirrors each other stands at the same place"""
BLINKS = ("eyeBlinkRight", "eyeBlinkLeft")
"""the expressions that shut them"""
SIDE = 0.27
"""side of the square / side of the crop of the whole face: 1.9 times the width of an eye"""
OUTWARDS = np.radians(20.0)
"""rad; how far an eye's surroundings face outwards"""
SEEN = 0.25
"""cosine between the line of sight and where they face; a smaller one shows too little"""


def eye_affine(
    face: Float[np.ndarray, "2 3"], size: int, corners: Float[np.ndarray, "2 2"], *, left: bool, side: int
) -> Float[np.ndarray, "2 3"]:
    """Photo px → px of an eye's square of `side` px, from the face's crop (`face`, to `size` px) and the eye's outer
    and inner corner (px of that crop). The subject's left eye is mirrored."""
    zoom = side / (SIDE * size) * np.array([[-1.0] if left else [1.0], [1.0]])
    affine = zoom * face
    affine[:, 2] += side / 2 - zoom[:, 0] * corners.mean(0)
    return affine


def look_again(
    pixels: UInt8[np.ndarray, "H W 3"],
    faces: Float[np.ndarray, "N 2 3"],
    said: dict[str, np.ndarray],
    predictor: Predictor,
    eyes: Predictor,
) -> dict[str, np.ndarray]:
    """What `predictor` said of N faces (crops by the affines `faces`), its eyes replaced by what `eyes` says of them:
    `landmarks`, `landmark_error` and `expression`."""
    ids, names = list(predictor.description["point_ids"]), default().expression_names
    where, blinks = [[ids.index(i) for i in eye] for eye in EYES], [names.index(name) for name in BLINKS]
    out = said | {name: said[name].copy() for name in ("landmarks", "landmark_error", "expression")}
    every = [(n, k) for k in (0, 1) for n in np.flatnonzero(facing(said["rotation"])[:, k])]
    if not every:
        return out
    corners = [said["landmarks"][n, where[k][:2]].astype(np.float64) for n, k in every]
    size, square = predictor.size, (eyes.size, eyes.size)
    affines = [
        eye_affine(faces[n], size, (ends + 0.5) * size, left=k == 1, side=eyes.size)
        for (n, k), ends in zip(every, corners, strict=True)
    ]
    seen = eyes(np.stack([image.crop(pixels, affine, square, edge=True) for affine in affines]))
    for j, (n, k) in enumerate(every):
        out["landmarks"][n, where[k]] = corners[j].mean(0) + SIDE * seen["points"][j] * ([-1, 1] if k else [1, 1])
        out["landmark_error"][n, where[k]] = SIDE * seen["error"][j]
        out["expression"][n, blinks[k]] = seen["blink"][j]
    return out


def facing(rotation: Float[np.ndarray, "N 3 3"]) -> Bool[np.ndarray, "N 2"]:
    """Whether the right and the left eye can be seen, by the head's turn (model → camera, z away from the viewer)."""
    sides = np.array([[-np.sin(OUTWARDS), 0, np.cos(OUTWARDS)], [np.sin(OUTWARDS), 0, np.cos(OUTWARDS)]])
    return -(rotation @ sides.T)[:, 2] > SEEN
