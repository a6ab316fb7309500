"""NoW: not quite in-the-wild; photos of 100 people (20 of them for validation) against a scan of their neutral face.

Sanyal, Bolkart, Feng, Black: "Learning to Regress 3D Face Shape and Expression from an Image without 3D Supervision"
(RingNet), CVPR 2019. Unit: mm from each scan vertex near the face to the surface of the predicted neutral mesh, after
an alignment with scale (or without: metrical). Median, mean and deviation are over ALL vertices of ALL photos.
The formulas are `metrics.scans.now`'s, after soubhiksanyal/now_evaluation.

Layout, as its owners distribute it: ROOT/imagepathsvalidation.txt (lines …/SUBJECT/CHALLENGE/PHOTO),
ROOT/scans/SUBJECT/*.obj and ROOT/scans_lmks_onlypp/SUBJECT/*.pp (7 points of MeshLab), photos in
ROOT/NoW_Dataset/final_release_version/iphone_pictures/SUBJECT/CHALLENGE/PHOTO (this folder from memory: --images says
another). The boxes that come with it are pickles, which can run code, so they are not read: a system finds the face.
Test scans are not public. Submit neutral faces: the scans are neutral whatever the photo shows.

Licence: research without commercial purpose, after registration; no redistribution.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float

from sameface.core.errors import AssetMissing, BadData
from sameface.core.files import read_text
from sameface.evaluation.benchmarks._scans import (
    ASKS,
    believable,
    mesh_of,
    one_file,
    photo,
    read_scan,
    sample_face,
    truth_from,
)
from sameface.evaluation.case import Answer, Case, CaseFailed, Published
from sameface.mesh.read import read_picked_points
from sameface.mesh.write import write_obj
from sameface.metrics.scans import IBUG_SEVEN, MILLIMETRES, now

__all__ = ["Options", "asks", "cases", "published", "sample", "score", "summary", "truth"]

asks = ASKS
CHALLENGES = ("multiview_neutral", "multiview_expressions", "multiview_occlusions", "selfie")
LIST = "imagepathsvalidation.txt"


@dataclass(frozen=True)
class Options:
    """Choices of the protocol; the defaults are those of compute_error.py."""

    metrical: bool = False
    """the size counts: only rotation and translation are fitted (compute_error.py --metrical_evaluation)"""
    unit: Literal["mm", "cm", "m"] = "mm"
    """of the answers' meshes, for the metrical protocol; ours are in mm"""
    challenge: Literal["all", "multiview_neutral", "multiview_expressions", "multiview_occlusions", "selfie"] = "all"
    """photos of one challenge only"""
    images: str = "NoW_Dataset/final_release_version/iphone_pictures"
    """folder of the photos below the root (from memory)"""


_TEST = "TEST set, whose scans are not public; non-metrical"
published: tuple[Published, ...] = (
    Published("DECA", {"median": 1.09, "mean": 1.38, "std": 1.18}, f"Feng et al., SIGGRAPH 2021; {_TEST}"),
    Published("MICA", {"median": 0.90, "mean": 1.11, "std": 0.92}, f"Zielonka et al., ECCV 2022; {_TEST}"),
)


def cases(root: Path, options: Options) -> list[Case]:
    """One case per photo, SUBJECT/CHALLENGE/PHOTO; truth: `scan` and `points` (paths), `challenge`.

    Raises AssetMissing without the list, BadData for lines of another form, missing photos, scans or landmarks.
    """
    listed = root / LIST
    if not listed.is_file():
        raise AssetMissing(f"{listed} is missing; it comes with the validation data of NoW (now.is.tue.mpg.de)")
    found = []
    for number, line in enumerate(read_text(listed).splitlines(), 1):
        parts = line.strip().split("/")
        if not line.strip():
            continue
        if len(parts) < 3 or parts[-2] not in CHALLENGES:
            raise BadData(f"{listed}, line {number}: {line[:80]!r} is not SUBJECT/CHALLENGE/PHOTO")
        if options.challenge in ("all", parts[-2]):
            found.append(_case(root, options, *parts[-3:]))
    if not found:
        raise BadData(f"{listed} names no photos of the challenge {options.challenge}")
    return found


def _case(root: Path, options: Options, subject: str, challenge: str, name: str) -> Case:
    path = root / options.images / subject / challenge / name
    if not path.is_file():
        raise BadData(f"{path} is missing, which {LIST} names; unpack NoW_Dataset.zip, or say --images")
    scan = one_file(root / "scans" / subject, ".obj", "the scan of the subject; unpack scans.zip")
    points = one_file(root / "scans_lmks_onlypp" / subject, ".pp", "7 points of the scan; unpack scans_lmks_onlypp.zip")
    truth = {"scan": scan, "points": points, "challenge": challenge}
    return Case(name=f"{subject}/{challenge}/{name}", photos=(path,), places=(None,), truth=truth)


def _points(case: Case) -> Float[np.ndarray, "7 3"]:
    points = list(read_picked_points(case.truth["points"]).values())
    if len(points) != len(IBUG_SEVEN):
        raise BadData(f"{case.truth['points']} holds {len(points)} points; NoW's scans have {len(IBUG_SEVEN)}")
    placed = np.full((68, 3), np.nan)
    placed[list(IBUG_SEVEN)] = points
    believable(placed, case.truth["points"])
    return np.stack(points)


def _distances(case: Case, answer: Answer, options: Options) -> Float[np.ndarray, " K"]:
    surface, landmarks = mesh_of(case, answer, IBUG_SEVEN, unit=MILLIMETRES[options.unit] if options.metrical else None)
    scan = read_scan(case.truth["scan"]).vertices
    return now(scan, _points(case), surface, landmarks, metrical=options.metrical, unit=options.unit).distances


def score(case: Case, answer: Answer, options: Options) -> dict[str, float]:
    """`median`, `mean`, `std` (mm) of this photo's distances and how many `vertices` of the scan they are.

    Raises ValueError when the answer has no neutral mesh, or when the alignment does not converge.
    """
    distances = _distances(case, answer, options)
    return {
        "median": float(np.median(distances)),
        "mean": float(distances.mean()),
        "std": float(distances.std()),
        "vertices": float(len(distances)),
    }


def summary(
    cases: list[Case], answers: list[Answer | None], rows: list[dict[str, float] | None], options: Options
) -> dict[str, float]:
    """`median`, `mean`, `std` in mm over all vertices of all photos, then the same by challenge.

    A median cannot be had from medians, so the distances are computed again from the answers. Photos that the system
    failed on are in no number (the authors' tool warns that results are then not comparable): read the failures too.
    """
    pooled: dict[str, list[np.ndarray]] = {}
    for case, answer, row in zip(cases, answers, rows, strict=True):
        if row is not None and answer is not None:
            try:
                distances = _distances(case, answer, options)
            except ValueError as error:  # it went well in another process, whose last bits were others
                raise CaseFailed(case.name, str(error)) from error
            pooled.setdefault(case.truth["challenge"], []).append(distances)
    table = _three(np.concatenate([part for parts in pooled.values() for part in parts]), "")
    for challenge in CHALLENGES:
        if len(pooled) > 1 and challenge in pooled:
            table |= _three(np.concatenate(pooled[challenge]), f"{challenge}/")
    return table


def _three(distances: Float[np.ndarray, " K"], prefix: str) -> dict[str, float]:
    numbers = {"median": np.median(distances), "mean": distances.mean(), "std": distances.std()}
    return {prefix + name: float(value) for name, value in numbers.items()}


def truth(case: Case, options: Options) -> Answer:
    """The scan itself, with its 7 points."""
    return truth_from(read_scan(case.truth["scan"]), IBUG_SEVEN, _points(case))


def sample(root: Path) -> None:
    """Two subjects with one photo in each of two challenges."""
    lines = []
    for number, subject in enumerate(("FaMoS_180424_03335_TA", "FaMoS_180426_03336_TA")):
        vertices, faces, landmarks = sample_face(number)
        for folder in ("scans", "scans_lmks_onlypp"):
            (root / folder / subject).mkdir(parents=True, exist_ok=True)
        write_obj(root / "scans" / subject / "scan.obj", vertices, faces)
        (root / "scans_lmks_onlypp" / subject / "scan_picked_points.pp").write_text(
            _picked(landmarks[list(IBUG_SEVEN)])
        )
        for challenge in ("multiview_neutral", "selfie"):
            photo(root / Options().images / subject / challenge / "IMG_0001.jpg", number)
            lines.append(f"{subject}/{challenge}/IMG_0001.jpg")
    (root / LIST).write_text("\n".join(lines) + "\n")


def _picked(points: Float[np.ndarray, "7 3"]) -> str:
    rows = "".join(f' <point x="{x}" y="{y}" z="{z}" active="1" name="{k}"/>\n' for k, (x, y, z) in enumerate(points))
    return f"<!DOCTYPE PickedPoints>\n<PickedPoints>\n{rows}</PickedPoints>\n"
