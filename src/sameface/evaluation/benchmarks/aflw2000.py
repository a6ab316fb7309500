"""AFLW2000-3D: 68 points and head angles of the first 2,000 faces of AFLW, up to profile and beyond.

Zhu, Lei, Liu, Shi, Li: "Face Alignment Across Large Poses: A 3D Solution", CVPR 2016. The points come from a morphable
model that was fitted to each photo. Protocol: 3DDFA's benchmark_aflw2000.py. NME in percent: mean distance in x and y
over √(width · height) of the box of the true points; the mean of three means by |yaw|. Angles: mean absolute error over
the faces whose true angles are all within 99 degrees (Ruiz et al. 2018; 1,969 of the 2,000).

Layout, as its owners distribute it: ROOT/imageXXXXX.jpg with .mat beside it (pt3d_68, Pose_Para), or ROOT/AFLW2000/
with them. Beside them, or in ROOT/test.configs, the lists of the 3DDFA repository where an option needs them
(AFLW2000-3D.pts68.npy, AFLW2000-3D-Reannotated.pts68.npy, AFLW2000-3D-new.pose.npy): a photo's row is the one with its
points, bit for bit, so any part of the 2,000 photos will do.

Easy to get wrong: their points count pixel centres from 1, ours start at the corner of the image (`from_matlab`);
published systems differ by a whole pixel here (3DDFA y ↦ 121 − y, 3DDFA_V2 120 − y and x − 1), which is 0.14 points of
NME. The two annotations differ by 2.81 / 3.23 / 4.10 percent: below that, numbers measure the annotation.

Licence: the photos are AFLW's, for research without commercial purpose; no redistribution.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from jaxtyping import Float

from sameface.core.errors import AssetMissing, BadData
from sameface.core.files import names_in
from sameface.core.npz import read_npy
from sameface.evaluation.case import Answer, Case, Published
from sameface.metrics.landmarks import Alignment, Depth, Normaliser, nme, table_by_yaw
from sameface.metrics.pose import LIMIT, angle_errors, camera_from_pose_para, pose_para_from_camera, within_limit
from sameface.morphable._matlab import needed, read_matlab

__all__ = [
    "Options", "asks", "cases", "from_matlab", "published", "sample", "score", "summary", "to_matlab", "truth",
]  # fmt: skip

asks = ("landmarks", "rotation")

POINTS, AGAIN = "AFLW2000-3D.pts68.npy", "AFLW2000-3D-Reannotated.pts68.npy"
LARGEST_LIST = 1 << 28
"""bytes of a list of all photos"""
YAWS = "AFLW2000-3D-new.pose.npy"
ANGLES = ("pitch", "yaw", "roll")


@dataclass(frozen=True)
class Options:
    """Choices of the protocol; the defaults are those of 3DDFA's benchmark_aflw2000.py."""

    annotation: Literal["original", "reannotated"] = "original"
    """original: pt3d_68 of the .mat files; reannotated: the hand-corrected 2D points of 3DDFA's repository"""
    depth: Depth = "ignored"
    """ignored: NME of x and y; minus_min (3DDFA's issue 75, 2DASL) and minus_mean (SADRNet, JVCR): NME of x, y and z"""
    normaliser: Normaliser = "box_area"
    """what distances are divided by"""
    alignment: Alignment = "none"
    """similarity gives the reconstruction error of PRNet and SADRNet (with depth as_given, normaliser outer_eyes_3d)"""
    yaw: Literal["original", "new"] = "original"
    """bins by Pose_Para (1312 / 383 / 305 faces), or by 3DDFA's second list of yaws (1306 / 462 / 232)"""
    crop: Literal["landmarks", "detect"] = "landmarks"
    """landmarks: the system is told the 68 true points and may crop by them, as 3DDFA does; detect: it is told nothing
    and has to find the face"""
    lenient: bool = False
    """angles that are off by 180 or 360 degrees count as right, as in 6DRepNet's test.py"""
    angle_limit: float = LIMIT
    """degrees; the angles of faces beyond it are not averaged"""
    least: int = 1
    """fewest photos that must be there; 2000 makes sure of the whole set"""


_GUO = "Guo et al.: Towards Fast, Accurate and Stable 3D Dense Face Alignment (3DDFA_V2), ECCV 2020, table of NME"


def _bins(system: str, frontal: float, half: float, profile: float, mean: float, source: str) -> Published:
    return Published(system, {"nme_0_30": frontal, "nme_30_60": half, "nme_60_90": profile, "nme_mean": mean}, source)


published: tuple[Published, ...] = (
    _bins("3DDFA", 3.78, 4.54, 7.93, 5.42, "Zhu et al., CVPR 2016, trained on 300W-LP"),
    _bins("3DDFA + SDM", 3.43, 4.24, 7.17, 4.94, "Zhu et al., CVPR 2016, trained on 300W-LP"),
    _bins("3DDFA, TPAMI", 2.84, 3.57, 4.96, 3.79, f"Zhu et al., TPAMI 2017, as printed in {_GUO}"),
    Published("3DDFA repository", {"nme_mean": 4.252, "nme_std": 0.976}, "README of cleardusk/3DDFA, phase1_wpdc_vdc"),
    _bins("PRNet", 2.75, 3.51, 4.61, 3.62, f"Feng et al., ECCV 2018, as printed in {_GUO}"),
    _bins("3DDFA_V2", 2.63, 3.42, 4.48, 3.51, _GUO),
    _bins("SynergyNet", 2.65, 3.30, 4.27, 3.41, "Wu, Xu, Neumann: Synergy between 3DMM and 3D Landmarks, 3DV 2021"),
    Published("SynergyNet, pose", {"mae": 3.35}, "the same paper, as the README of choyingw/SynergyNet quotes it"),
)  # fmt: skip


def from_matlab(points: Float[np.ndarray, "L D"]) -> Float[np.ndarray, "L D"]:
    """Their points as ours: x − ½, y − ½ (the first pixel's centre is 1 for them, ½ for us), −z (theirs is nearness).

    >>> from_matlab(np.array([[1.0, 1.0, 7.0]])).tolist()
    [[0.5, 0.5, -7.0]]
    """
    return np.concatenate([points[:, :2] - 0.5, -points[:, 2:]], axis=1)


def to_matlab(points: Float[np.ndarray, "L D"]) -> Float[np.ndarray, "L D"]:
    """Our points as theirs, the inverse of `from_matlab`."""
    return np.concatenate([points[:, :2] + 0.5, -points[:, 2:]], axis=1)


def cases(root: Path, options: Options) -> list[Case]:
    """One case per photo, named imageXXXXX; truth: `landmarks` (theirs, D = 2 or 3), `pose` and `yaw` in degrees.

    Raises BadData or AssetMissing when photos, labels or a list that an option needs are missing, and ValueError for
    options that exclude each other.
    """
    if options.annotation == "reannotated" and options.depth != "ignored":
        raise ValueError(f"the reannotated points have no z: depth={options.depth!r} goes with annotation='original'")
    folder = root if _labels(root) else root / "AFLW2000"
    labels = _labels(folder)
    if len(labels) < max(options.least, 1):
        raise BadData(
            f"{root} and {root / 'AFLW2000'} have {len(labels)} labels image*.mat; expected at least "
            f"{max(options.least, 1)}; unpack AFLW2000-3D.zip there"
        )
    wanted = (AGAIN,) * (options.annotation == "reannotated") + (YAWS,) * (options.yaw == "new")
    lists = {name: read_npy(_list(root, folder, name), LARGEST_LIST) for name in wanted}
    rows = _rows(read_npy(_list(root, folder, POINTS), LARGEST_LIST)) if lists else {}
    return [_case(label, lists, rows, options) for label in labels]


def _labels(folder: Path) -> list[Path]:
    return [folder / name for name in names_in(folder, ".mat") if name.startswith("image")]


def _list(root: Path, folder: Path, name: str) -> Path:
    places = (folder, root, root / "test.configs")
    for place in places:
        if (place / name).is_file():
            return place / name
    raise AssetMissing(
        f"{name} is not in {', '.join(map(str, dict.fromkeys(places)))}; it comes with test.configs of cleardusk/3DDFA"
    )


def _rows(points: Float[np.ndarray, "N 3 68"]) -> dict[bytes, int]:
    """Where in the lists the face with these points is."""
    return {np.ascontiguousarray(row, np.float32).tobytes(): k for k, row in enumerate(points)}


def _case(label: Path, lists: dict[str, np.ndarray], rows: dict[bytes, int], options: Options) -> Case:
    photo = label.with_suffix(".jpg")
    if not photo.is_file():
        raise BadData(f"{photo} is missing, the photo of {label.name}; unpack AFLW2000-3D.zip again")
    content = read_matlab(label)
    points, pose = content.get("pt3d_68"), content.get("Pose_Para")
    if points is None or pose is None or points.shape != (3, 68) or pose.size != 7:
        raise BadData(f"{label} does not hold pt3d_68 (3 × 68) and Pose_Para (7 numbers) of AFLW2000-3D")
    row = rows.get(np.ascontiguousarray(points, np.float32).tobytes()) if lists else None
    if lists and row is None:
        raise BadData(f"{POINTS} has no face with the points of {label}; they are of different releases")
    angles = np.degrees(np.ravel(pose)[:3].astype(np.float64))
    original = points.T.astype(np.float64)
    truth = {
        "landmarks": lists[AGAIN][row].T.astype(np.float64) if AGAIN in lists else original,
        "original": original,
        "pose": angles,
        "yaw": float(lists[YAWS][row]) if YAWS in lists else float(angles[1]),
    }
    place = from_matlab(original)[:, :2] if options.crop == "landmarks" else None
    return Case(name=label.stem, photos=(photo,), places=(place,), truth=truth)


def score(case: Case, answer: Answer, options: Options) -> dict[str, float]:
    """`nme` in percent and `yaw` in degrees; with a rotation also `pitch_error`, `yaw_error`, `roll_error` in degrees.

    A rotation determines yaw between −90 and 90 only: the seven faces with a larger true one, at most one of them
    within the limit of 99, have an error in any system. Raises ValueError if the answer has no landmarks of one photo,
    or numbers that are not finite.
    """
    if answer.landmarks is None or len(answer.landmarks) != 1:
        count = 0 if answer.landmarks is None else len(answer.landmarks)
        raise ValueError(f"{case.name} needs landmarks of its 1 photo, but the answer has those of {count}")
    goal = case.truth["landmarks"]
    found = to_matlab(answer.landmarks[0])[:, : goal.shape[1]]
    error = nme(found, goal, normaliser=options.normaliser, depth=options.depth, alignment=options.alignment)
    row = {"nme": 100 * error, "yaw": case.truth["yaw"]}
    if answer.rotation is not None:
        pose = np.degrees(np.stack(pose_para_from_camera(answer.rotation[0])))
        errors = angle_errors(pose[None], case.truth["pose"][None], lenient=options.lenient)[0]
        row |= {f"{name}_error": float(error) for name, error in zip(ANGLES, errors, strict=True)}
    return row


def summary(
    cases: list[Case], answers: list[Answer | None], rows: list[dict[str, float] | None], options: Options
) -> dict[str, float]:
    """NME by |yaw| and their mean and deviation (`table_by_yaw`), then mean absolute errors of the angles.

    3DDFA's protocol knows no failures (it is told where the face is), so faces that the system failed on are in no
    mean: read the number of failures with these. mae_* are over `mae_images` faces; `mae_left_out` have true angles
    beyond the limit. Without rotations there are no mae_*; without the three bins no nme_mean.
    """
    done = [(case, row) for case, row in zip(cases, rows, strict=True) if row is not None]
    table = table_by_yaw(*(np.array([row[name] for _, row in done]) for name in ("nme", "yaw")))
    turned = [(case.truth["pose"], [row[f"{name}_error"] for name in ANGLES]) for case, row in done if len(row) > 2]
    if not turned:
        return table
    poses, errors = (np.array(part, np.float64) for part in zip(*turned, strict=True))
    keep = within_limit(poses, options.angle_limit)
    if keep.any():
        means = errors[keep].mean(axis=0)
        table |= {f"mae_{name}": float(mean) for name, mean in zip(ANGLES, means, strict=True)}
        table["mae"] = float(means.mean())
    return table | {"mae_images": float(keep.sum()), "mae_left_out": float((~keep).sum())}


def truth(case: Case, options: Options) -> Answer:
    """The true points and the rotation of the true angles; z of the original points where the others have none."""
    points = case.truth["landmarks"]
    points = np.concatenate([points, case.truth["original"][:, points.shape[1] :]], axis=1)
    rotation = camera_from_pose_para(*np.radians(case.truth["pose"])[:, None])
    return Answer(landmarks=from_matlab(points)[None], rotation=rotation)


def sample(root: Path) -> None:
    """Six flat discs with random points, two in each bin, and the four lists of 3DDFA."""
    io, rng = needed("scipy.io", "writing .mat labels"), np.random.default_rng(0)
    folder = root / "AFLW2000"
    folder.mkdir(parents=True, exist_ok=True)
    points, yaws = [], np.array([5.0, -20, 40, -55, 70, -85], np.float32)
    for k, yaw in enumerate(yaws):
        angles = np.radians([-3.0, float(yaw), 5.0 if k < 5 else 120.0])  # the last one lies on its side
        face = _head(camera_from_pose_para(*angles[:, None])[0], rng)
        image = np.full((450, 450, 3), 60, np.uint8)
        cv2.circle(image, (225, 225), 110, (150 + 10 * k, 160, 190), -1)
        cv2.imwrite(str(folder / f"image{k + 1:05d}.jpg"), image)
        pose = np.append(angles, [225, 225, 0, 1e-3]).astype(np.float32)[None]
        points.append(to_matlab(face).T.astype(np.float32))
        io.savemat(folder / f"image{k + 1:05d}.mat", {"pt3d_68": points[-1], "Pose_Para": pose})
    lists = root / "test.configs"
    lists.mkdir(exist_ok=True)
    np.save(lists / POINTS, np.stack(points))
    np.save(lists / AGAIN, np.round(np.stack(points)[:, :2]))
    np.save(lists / "AFLW2000-3D.pose.npy", yaws)
    np.save(lists / YAWS, np.abs(yaws))


def _head(rotation: Float[np.ndarray, "3 3"], rng: np.random.Generator) -> Float[np.ndarray, "68 3"]:
    """Random points on a ball of 100 px in the middle of the picture."""
    points = rng.normal(size=(68, 3))
    return 100 * points / np.linalg.norm(points, axis=1, keepdims=True) @ rotation.T + [225, 225, 0]
