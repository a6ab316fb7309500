"""AFLW, 21 points: 3DDFA's test on 21,080 crops of the Annotated Facial Landmarks in the Wild.

Koestinger, Wohlhart, Roth, Bischof: "Annotated Facial Landmarks in the Wild", ICCV Workshops 2011. Protocol: 3DDFA's
benchmark_aflw.py (Zhu et al., TPAMI 2017). NME in percent over the visible ones of the 21 annotated points, each
compared with the mean of the iBUG points at that place (`IBUG`), divided by √(width · height) of the box of 68 points
that were fitted to the face; the mean of three means by |yaw|.

Layout, as the 3DDFA repository distributes it: ROOT/test.configs with AFLW_GT_crop_yaws.npy (N), AFLW_GT_pts21.npy
(N, 2, 21; −1 where hidden), AFLW_GT_pts68.npy (N, 2 or 3, 68) and AFLW_GT_crop_roi_box.npy (N, 4); ROOT/test.data with
AFLW_GT_crop.list (N names of pictures) and the folder AFLW_GT_crop. These names are those in benchmark_aflw.py and
benchmark.py; the files themselves were not at hand when this reader was written, so 68 × 2 or 68 × 3, and pictures of
120 × 120 px, follow from that code only. Points and boxes are in the px of the photo that the crop was cut from,
counted from 1: x = x_crop (ex − sx)/120 + sx, which is what answers are brought to (`to_photo`).

Licence: AFLW's photos are for research without commercial purpose; no redistribution.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from jaxtyping import Float

from sameface.core.errors import AssetMissing, BadData
from sameface.core.files import read_text
from sameface.core.npz import read_npy
from sameface.evaluation.case import Answer, Case, Published
from sameface.metrics.landmarks import Normaliser, face_size, nme, table_by_yaw

__all__ = ["IBUG", "Options", "asks", "cases", "published", "sample", "score", "summary", "to_photo", "truth"]

asks = ("landmarks",)

IBUG = (
    (17,), (19,), (21,), (22,), (24,), (26,), (36,), (36, 37, 38, 39, 40, 41), (39,), (42,), (42, 43, 44, 45, 46, 47),
    (45,), (2,), (31,), (30,), (35,), (14,), (48,), (60, 61, 62, 63, 64, 65, 66, 67), (54,), (8,),
)  # fmt: skip
"""iBUG points (from 0) whose mean stands for each of AFLW's 21: `ind_68to21` of 3DDFA's benchmark_aflw.py"""
LARGEST_LIST = 1 << 28
"""bytes of a list of all photos"""
SIDE = 120
"""px of 3DDFA's crops"""
YAWS, BOXES = "AFLW_GT_crop_yaws.npy", "AFLW_GT_crop_roi_box.npy"
POINTS21, POINTS68 = "AFLW_GT_pts21.npy", "AFLW_GT_pts68.npy"
NAMES, PICTURES = "AFLW_GT_crop.list", "AFLW_GT_crop"


@dataclass(frozen=True)
class Options:
    """Choices of the protocol; the defaults are those of 3DDFA's benchmark_aflw.py."""

    normaliser: Normaliser = "box_area"
    """what distances are divided by, measured on the 68 fitted points"""
    crop: Literal["given", "landmarks", "detect"] = "given"
    """given: the whole crop is the place of the face, as for 3DDFA; landmarks: the system is told the 68 fitted points;
    detect: it has to find the face in the crop"""


_README = "README of cleardusk/3DDFA, table of models (AFLW, 21 points)"

published: tuple[Published, ...] = (
    Published("3DDFA, pdc", {"nme_mean": 6.956, "nme_std": 0.981}, _README),
    Published("3DDFA, vdc", {"nme_mean": 6.717, "nme_std": 0.924}, _README),
    Published("3DDFA, wpdc", {"nme_mean": 6.348, "nme_std": 0.929}, _README),
    Published("3DDFA, wpdc + vdc", {"nme_mean": 5.401, "nme_std": 0.754}, _README),
)


def to_photo(points: Float[np.ndarray, "L D"], box: Float[np.ndarray, " 4"]) -> Float[np.ndarray, "L 2"]:
    """Points of a crop (px from its corner) in the photo's px counted from 1: (p + ½) · (box's size)/120 + its corner.

    3DDFA's own formula, which is for points of the crop counted from 1; `box` is (left, top, right, bottom).
    """
    return (points[:, :2] + 0.5) * ((box[2:] - box[:2]) / SIDE) + box[:2]


def to_crop(points: Float[np.ndarray, "L 2"], box: Float[np.ndarray, " 4"]) -> Float[np.ndarray, "L 2"]:
    """The inverse of `to_photo`."""
    return (points - box[:2]) / ((box[2:] - box[:2]) / SIDE) - 0.5


def cases(root: Path, options: Options) -> list[Case]:
    """One case per line of the list, named as there; truth: `points` (21, 2), `size`, `box`, `fitted`, `yaw` (degrees).

    Raises AssetMissing or BadData when a file is missing or the files do not belong together.
    """
    names = read_text(_file(root, "test.data", NAMES)).split()
    yaws, boxes, points, fitted = (_array(root, name) for name in (YAWS, BOXES, POINTS21, POINTS68))
    shapes = {"yaws": (yaws.shape, ()), "boxes": (boxes.shape, (4,)), "21 points": (points.shape, (2, 21))}
    shapes["68 points"] = ((*fitted.shape[:1], *fitted.shape[-1:]), (68,))
    for what, (found, expected) in shapes.items():
        if found != (len(names), *expected):
            raise BadData(
                f"the {what} of AFLW in {root} have shape {found}; {NAMES} has {len(names)} lines, so expected "
                f"{(len(names), *expected)}: the files are of different releases"
            )
    return [
        _case(root, name, row, options)
        for name, *row in zip(names, yaws, boxes, points.swapaxes(1, 2), fitted.swapaxes(1, 2)[..., :2], strict=True)
    ]


def _file(root: Path, folder: str, name: str) -> Path:
    for place in (root / folder / name, root / name):
        if place.exists():
            return place
    raise AssetMissing(f"{name} is neither in {root / folder} nor in {root}; it comes with {folder} of cleardusk/3DDFA")


def _array(root: Path, name: str) -> np.ndarray:
    array = read_npy(_file(root, "test.configs", name), LARGEST_LIST)
    if array.dtype.kind not in "fiu" or not np.isfinite(array).all():
        raise BadData(f"{name} in {root} holds what are no finite numbers; get it again from cleardusk/3DDFA")
    return array.astype(np.float64)


def _case(root: Path, name: str, row: list[Any], options: Options) -> Case:
    yaw, box, points, fitted = row
    photo = _file(root, "test.data", PICTURES) / name
    if not photo.is_file():
        raise BadData(f"{photo} is missing, which {NAMES} lists; unpack test.data again")
    places = {"given": np.array([[0.0, 0], [SIDE, SIDE]]), "landmarks": to_crop(fitted, box), "detect": None}
    hidden = (points == -1).any(axis=1)
    truth = {
        "points": points, "visible": ~hidden, "size": face_size(fitted, options.normaliser), "box": box,
        "fitted": fitted, "yaw": float(yaw),
    }  # fmt: skip
    return Case(name=name, photos=(photo,), places=(places[options.crop],), truth=truth)


def score(case: Case, answer: Answer, options: Options) -> dict[str, float]:
    """`nme` in percent over the visible points, and `yaw` in degrees.

    Raises ValueError if the answer has no landmarks of one photo or they are not finite, and if no point is visible.
    """
    if answer.landmarks is None or len(answer.landmarks) != 1:
        count = 0 if answer.landmarks is None else len(answer.landmarks)
        raise ValueError(f"{case.name} needs landmarks of its 1 photo, but the answer has those of {count}")
    placed = to_photo(answer.landmarks[0].astype(np.float64), case.truth["box"])
    found = np.stack([placed[list(points)].mean(axis=0) for points in IBUG])
    error = nme(found, case.truth["points"], normaliser=case.truth["size"], visible=case.truth["visible"])
    return {"nme": 100 * error, "yaw": case.truth["yaw"]}


def summary(
    cases: list[Case], answers: list[Answer | None], rows: list[dict[str, float] | None], options: Options
) -> dict[str, float]:
    """NME by |yaw|, and mean and deviation of the three (`table_by_yaw`).

    The protocol knows no failures: faces that the system failed on are in no mean; read their number with it.
    """
    done = [row for row in rows if row is not None]
    return table_by_yaw(*(np.array([row[name] for row in done]) for name in ("nme", "yaw")))


def truth(case: Case, options: Options) -> Answer:
    """68 points whose means are the 21 true ones: each where AFLW's point is, the others where they were fitted."""
    points = case.truth["fitted"].copy()
    for k, where in enumerate(IBUG):
        if case.truth["visible"][k] and len(where) == 1:
            points[where[0]] = case.truth["points"][k]
    for k, where in enumerate(IBUG):
        inner = [i for i in where if (i,) not in IBUG]  # the eyes' corners are points themselves
        if case.truth["visible"][k] and len(where) > 1:
            points[inner] += (case.truth["points"][k] - points[list(where)].mean(axis=0)) * len(where) / len(inner)
    placed = to_crop(points, case.truth["box"])
    return Answer(landmarks=np.concatenate([placed, np.zeros((68, 1))], axis=1)[None])


def sample(root: Path) -> None:
    """Six flat discs of 120 px, two in each bin, with random points of which some are hidden."""
    rng = np.random.default_rng(0)
    pictures, lists = root / "test.data" / PICTURES, root / "test.configs"
    for folder in (pictures, lists):
        folder.mkdir(parents=True, exist_ok=True)
    names = [f"face{k}.jpg" for k in range(6)]
    for k, name in enumerate(names):
        image = np.full((SIDE, SIDE, 3), 60, np.uint8)
        cv2.circle(image, (60, 60), 40, (150 + 10 * k, 160, 190), -1)
        cv2.imwrite(str(pictures / name), image)
    (root / "test.data" / NAMES).write_text("\n".join(names) + "\n")
    boxes = np.tile([40, 50, 340, 350], (6, 1))
    fitted = rng.uniform(100, 280, (6, 2, 68)).astype(np.float32)
    points = np.stack([fitted[:, :, list(where)].mean(axis=2) for where in IBUG], axis=2) + rng.normal(0, 2, (6, 2, 21))
    points[:, :, 16] = -1  # one ear is hidden
    arrays = {YAWS: np.array([0, -25, 31, -60, 75, -90.0]), BOXES: boxes, POINTS21: points, POINTS68: fitted}
    for name, array in arrays.items():
        np.save(lists / name, array)
