"""3DFAW 2016: 66 points in 3D on photos and frames of four sources, errors of the first challenge.

Jeni, Tulyakov, Yin, Sebe, Cohn: "The First 3D Face Alignment in the Wild (3DFAW) Challenge", ECCV Workshops 2016.
Measures as Zhao et al. 2016, eqs. 13-15, print them: GTE (percent), the mean 3D distance over the distance of the outer
eye corners; CVGTCE (percent), the same after the best similarity; APE, the mean 3D distance (px). The challenge took
for CVGTCE the true points of another view of the same face; the public files do not say which views belong together,
so this is the truth of the same view, a lower number.

The 66 points are iBUG's 68 without the inner corners of the mouth, 60 and 64; an answer may have NaN there.

Layout, as joelmoniz/DepthNets reads what the owners sent: ROOT/valid_img/ID.jpg and ROOT/valid_lm/ID_lm.csv (66 lines
`x,y,z`), the same with train. The challenge's own test points were not published. x and y count pixel centres from 1
(not confirmed by the owners). Which way z grows is not documented: it is turned so that the points make a face and not
its mirror image, with the nose towards the viewer.

Licence: by agreement with the organisers, research only.
"""

from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from jaxtyping import Float

from sameface.core.errors import BadData
from sameface.core.files import names_in, read_text
from sameface.evaluation.case import Answer, Case, Published
from sameface.metrics.landmarks import ape, cvgtce, gte

__all__ = ["KEPT", "Options", "asks", "cases", "published", "sample", "score", "summary", "truth"]

asks = ("landmarks",)

KEPT = np.delete(np.arange(68), [60, 64])
"""which of iBUG's 68 points the 66 are"""
KINDS = ("gte", "cvgtce", "ape")


@dataclass(frozen=True)
class Options:
    """Choices of the protocol."""

    part: Literal["valid", "train"] = "valid"
    """whose folders: valid_img, or train_img; the challenge's own test set has no public points"""
    depth: Literal["minus_mean", "as_given"] = "minus_mean"
    """minus_mean: depths are compared without their means, as JVCR does (true ones have zero mean: Zhao et al. 2016,
    sec. 6); as_given: eq. 13 to the letter, for systems whose depth has that origin too"""
    crop: Literal["landmarks", "detect"] = "landmarks"
    """landmarks: the system is told where the true points are, the challenge gave a box around them; detect: it has to
    find the face"""


_ZHAO = "Zhao et al. 2016, table 1: the challenge's own test set, CVGTCE across views"


def _row(system: str, cross: float, ground: float) -> Published:
    return Published(system, {"gte": ground, "cvgtce": cross}, _ZHAO)


published: tuple[Published, ...] = (
    _row("psxab5 (Bulat and Tzimiropoulos)", 3.4767, 4.5623),
    _row("Zhao et al.", 3.9700, 5.8835),
    _row("rpiisl", 4.9488, 6.2071),
    _row("trigeorgis", 5.4595, 7.6403),
    _row("olgabellon", 5.9093, 10.8001),
)


def cases(root: Path, options: Options) -> list[Case]:
    """One case per photo, named by its ID; truth: `points` (66, 3), ours: px from the corner, z away from the viewer.

    Raises BadData when a folder or the points of a photo are missing or are not what they should be.
    """
    pictures, labels = root / f"{options.part}_img", root / f"{options.part}_lm"
    photos = [pictures / name for name in names_in(pictures, ".jpg")]
    if not photos:
        raise BadData(f"{pictures} has no photos; expected {options.part}_img/ID.jpg and {options.part}_lm/ID_lm.csv")
    return [_case(photo, labels / f"{photo.stem}_lm.csv", options) for photo in photos]


def _case(photo: Path, label: Path, options: Options) -> Case:
    points = _points(label)
    place = None
    if options.crop == "landmarks":
        place = np.full((68, 2), np.nan)
        place[KEPT] = points[:, :2]
        place[[60, 64]] = place[[48, 54]]  # the outer corners of the mouth, close enough for a crop
    return Case(name=photo.stem, photos=(photo,), places=(place,), truth={"points": points})


def _points(path: Path) -> Float[np.ndarray, "66 3"]:
    if not path.is_file():
        raise BadData(f"{path} is missing, the points of a photo; unpack 3DFAW again")
    try:
        points = np.loadtxt(StringIO(read_text(path)), delimiter=",", ndmin=2)
    except ValueError as error:
        raise BadData(f"{path} is not a list of points ({error}); expected 66 lines `x,y,z`") from None
    if points.shape != (66, 3) or not np.isfinite(points).all():
        raise BadData(f"{path} holds numbers of shape {points.shape}; expected 66 lines `x,y,z`, all finite")
    points = points - np.array([0.5, 0.5, 0])
    right, left, chin, nose = points[[36, 45, 8, 30]]
    mirrored = np.dot(np.cross(left - right, chin - right), nose - right) > 0  # < 0 for every face, in any pose
    return points * np.array([1, 1, -1 if mirrored else 1])


def score(case: Case, answer: Answer, options: Options) -> dict[str, float]:
    """`gte` and `cvgtce` in percent, `ape` in px.

    Raises ValueError if the answer has no landmarks of one photo, or one of the 66 is not finite.
    """
    if answer.landmarks is None or len(answer.landmarks) != 1:
        count = 0 if answer.landmarks is None else len(answer.landmarks)
        raise ValueError(f"{case.name} needs landmarks of its 1 photo, but the answer has those of {count}")
    found, goal = answer.landmarks[0][KEPT], case.truth["points"]
    return {
        "gte": 100 * gte(found, goal, depth=options.depth),
        "cvgtce": 100 * cvgtce(found, goal),
        "ape": ape(found, goal, depth=options.depth),
    }


def summary(
    cases: list[Case], answers: list[Answer | None], rows: list[dict[str, float] | None], options: Options
) -> dict[str, float]:
    """Means of the three errors over the photos.

    The challenge gave boxes, so it knows no failures: photos that the system failed on are in no mean; read their
    number with it. Raises ValueError if all failed.
    """
    done = [row for row in rows if row is not None]
    if not done:
        raise ValueError(f"the system failed on all {len(rows)} photos, so there is no mean error")
    return {name: float(np.mean([row[name] for row in done])) for name in KINDS}


def truth(case: Case, options: Options) -> Answer:
    """The true points; NaN at 60 and 64."""
    points = np.full((1, 68, 3), np.nan)
    points[0, KEPT] = case.truth["points"]
    return Answer(landmarks=points)


def sample(root: Path) -> None:
    """Two persons with two photos each in either part: flat discs, random points in front of which the nose is."""
    rng = np.random.default_rng(0)
    for part in ("train", "valid"):
        for kind in ("img", "lm"):
            (root / f"{part}_{kind}").mkdir(parents=True, exist_ok=True)
        for k in range(4):
            name = f"{part}_{'anna' if k < 2 else 'ben'}_{k % 2}"
            image = np.full((240, 240, 3), 60, np.uint8)
            cv2.circle(image, (120, 120), 80, (150 + 20 * k, 160, 190), -1)
            cv2.imwrite(str(root / f"{part}_img" / f"{name}.jpg"), image)
            points = rng.uniform([60, 60, -20], [180, 180, 20], (66, 3))
            points[[36, 45, 8, 30]] = [[80, 100, 0], [160, 100, 0], [120, 180, 0], [120, 130, 30]]  # z to the viewer
            points[:, 2] -= points[:, 2].mean()
            np.savetxt(root / f"{part}_lm" / f"{name}_lm.csv", points, fmt="%.4f", delimiter=",")
