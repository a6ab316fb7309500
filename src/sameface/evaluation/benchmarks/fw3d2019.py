"""3DFAW 2019 (3DFAW-Video): one mesh of each person from a video, against a scan of the face, by ARMSE.

Pillai, Jeni, Yang, Zhang, Yin, Cohn: "The 2nd 3D Face Alignment in the Wild Challenge (3DFAW-Video): Dense
Reconstruction From Video", ICCV Workshops 2019. `armse`: the mean of the RMSE of both directions in percent of the
distance of the true outer eye corners, as the organisers' program prints it (RohithPillai/3dfaw-Evaluation, version
12.9); `mm`: the same in the unit of the scans, as its version 12.8 did and as Ramon et al. report it. The formula is
`metrics.scans.fw3d2019`'s. Submit neutral faces in any size: a similarity is fitted.

Layout: ROOT/ground_truth/meshID.obj with VertexLandmarksID.txt, the numbers from 0 of the vertices that are iBUG's
points 17 to 67, −1 for unknown ones (both names from the organisers' program; the folder's name is ours). How the
videos lie on disk is not public, so this is ours too: ROOT/videos/iphone/ID.mp4 (the camera moves around the head) and
ROOT/videos/highres/ID.mp4 (the head turns before the camera), or folders of frames in their places,
ROOT/videos/iphone/ID/*.jpg. People without a scan are no cases. The program crops predictions only, so the scans are
taken to end where the face does (our reading).

Licence: by agreement with the organisers, research only (from memory).
"""

from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float

from sameface.core.errors import BadData
from sameface.core.files import names_in, read_text
from sameface.evaluation.benchmarks._scans import (
    ASKS,
    PHOTOS,
    believable,
    mesh_of,
    photo,
    read_scan,
    sample_face,
    truth_from,
)
from sameface.evaluation.case import Answer, Case, Published
from sameface.mesh.write import write_obj
from sameface.metrics.alignment import Surface
from sameface.metrics.scans import FW3D_RADIUS, fw3d2019

__all__ = ["Options", "asks", "cases", "published", "sample", "score", "summary", "truth"]

asks = ASKS
FIRST, POINTS = 17, 51
"""of iBUG's 68: all but the outline of the face"""
NEEDED = {30: "tip of the nose", 36: "right outer eye corner", 45: "left outer eye corner"}
VIDEOS = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".mpg")


@dataclass(frozen=True)
class Options:
    """Choices of the protocol."""

    video: Literal["iphone", "highres"] = "iphone"
    """which of a person's two videos, a folder below ROOT/videos"""
    frames: int = 30
    """of each video at most, at equal steps; ours (each system of the challenge took its own)"""
    radius: float = FW3D_RADIUS
    """mm around the nose tip, to which the prediction is cropped (the organisers' program)"""


def _row(system: str, millimetres: float) -> Published:
    where = "Ramon et al. 2019, table 1; which of the challenge's people is not said"
    return Published(f"{system} (Ramon et al.)", {"mm": millimetres}, where)


published: tuple[Published, ...] = (
    _row("3DMM mean", 3.02),
    _row("SV frontal", 2.62),
    _row("SV mean", 2.51),
    _row("MV add", 2.43),
    _row("MV concat", 2.33),
    _row("MV shape-concat", 2.23),
    _row("MV shape-concat mean", 2.14),
)


def cases(root: Path, options: Options) -> list[Case]:
    """One case per person with a scan, named by its ID; truth: `scan` and `points` (paths).

    Raises BadData without scans, or when a person's points or video are missing.
    """
    folder = root / "ground_truth"
    scans = [folder / name for name in names_in(folder, ".obj") if name.startswith("mesh")]
    if not scans:
        raise BadData(f"{folder} has no mesh*.obj; put the scans and their VertexLandmarks*.txt there")
    return [_case(root, scan, options) for scan in scans]


def _case(root: Path, scan: Path, options: Options) -> Case:
    person = scan.stem.removeprefix("mesh")
    points = scan.with_name(f"VertexLandmarks{person}.txt")
    if not points.is_file():
        raise BadData(f"{points} is missing, the landmarks of {scan.name}")
    truth, folder = {"scan": scan, "points": points}, root / "videos" / options.video
    if options.frames < 1:
        raise ValueError(f"frames is {options.frames}; take at least 1 of each video")
    if (folder / person).is_dir():
        frames = [folder / person / name for name in names_in(folder / person, *PHOTOS)]
        chosen = tuple(frames[:: max(1, len(frames) // options.frames)][: options.frames])
        if not chosen:
            raise BadData(f"{folder / person} has no frames ({', '.join(PHOTOS)})")
        return Case(person, chosen, (None,) * len(chosen), truth)
    videos = [folder / name for name in names_in(folder, *VIDEOS) if name.startswith(f"{person}.")]
    if not videos:
        raise BadData(f"{folder} has no video {person}{VIDEOS[0]} (or {', '.join(VIDEOS[1:])}) and no folder {person}")
    return Case(person, (videos[0],), (None,), truth, frames=options.frames)


def _truth(case: Case) -> tuple[Surface, Float[np.ndarray, "68 3"]]:
    """The scan and its landmarks, NaN where they are not known."""
    scan, path = read_scan(case.truth["scan"]), case.truth["points"]
    try:
        numbers = np.loadtxt(StringIO(read_text(path)), dtype=np.int64).reshape(-1)
    except (OverflowError, ValueError) as error:
        raise BadData(
            f"{path} is not a list of vertices ({error}); expected {POINTS} numbers, −1 for unknown"
        ) from None
    if len(numbers) != POINTS or numbers.min() < -1 or numbers.max() >= len(scan.vertices):
        raise BadData(
            f"{path} holds {len(numbers)} numbers from {numbers.min(initial=0)} to {numbers.max(initial=0)}; expected "
            f"{POINTS}, from −1 (unknown) to {len(scan.vertices) - 1}"
        )
    points = np.full((68, 3), np.nan)
    points[FIRST:] = np.where(numbers[:, None] >= 0, scan.vertices[numbers], np.nan)
    for number, name in NEEDED.items():
        if np.isnan(points[number, 0]):
            raise BadData(f"{path} does not know the {name} (line {number - FIRST + 1}), which the protocol needs")
    return Surface(scan.vertices, scan.faces), believable(points, path)


def score(case: Case, answer: Answer, options: Options) -> dict[str, float]:
    """`armse` in percent of the distance of the true outer eye corners, and in `mm`.

    Raises ValueError when the answer has no mesh, or lacks a landmark that the scan has.
    """
    scan, points = _truth(case)
    known = np.flatnonzero(np.isfinite(points).all(1)).tolist()
    surface, found = mesh_of(case, answer, known)
    landmarks = np.full((68, 3), np.nan)
    landmarks[known] = found
    error = fw3d2019(scan, points, surface, landmarks, radius=options.radius)
    return {"armse": 100 * error / float(np.linalg.norm(points[36] - points[45])), "mm": error}


def summary(
    cases: list[Case], answers: list[Answer | None], rows: list[dict[str, float] | None], options: Options
) -> dict[str, float]:
    """Mean and deviation (`std`, ddof 0) of `armse` over the people, in percent, and the mean in `mm`.

    People that the system failed on are in no mean; the organisers' program stops at the first. Raises ValueError if
    all failed.
    """
    done = [row for row in rows if row is not None]
    if not done:
        raise ValueError(f"the system failed on all {len(rows)} people, so there is no mean error")
    armse, millimetres = (np.array([row[name] for row in done]) for name in ("armse", "mm"))
    return {"armse": float(armse.mean()), "std": float(armse.std()), "mm": float(millimetres.mean())}


def truth(case: Case, options: Options) -> Answer:
    """The scan itself, with its landmarks."""
    _, points = _truth(case)
    return truth_from(read_scan(case.truth["scan"]), range(68), points)


def sample(root: Path) -> None:
    """Two people, three frames in either video each, scans that end 80 mm from the nose tip, and a point unknown."""
    for seed, person in enumerate(("001", "027")):
        vertices, faces, landmarks = sample_face(20 + seed)
        inside = np.linalg.norm(vertices - landmarks[30], axis=1) <= 80
        (root / "ground_truth").mkdir(parents=True, exist_ok=True)
        write_obj(root / "ground_truth" / f"mesh{person}.obj", vertices, faces[inside[faces].all(1)])
        numbers = np.linalg.norm(vertices[None] - landmarks[FIRST:, None], axis=2).argmin(1)
        numbers[[0, 50]] = -1
        np.savetxt(root / "ground_truth" / f"VertexLandmarks{person}.txt", numbers, fmt="%d")
        for video in ("iphone", "highres"):
            for frame in range(3):
                photo(root / "videos" / video / person / f"frame{frame:04d}.jpg", seed)
