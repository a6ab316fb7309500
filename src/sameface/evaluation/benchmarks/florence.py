"""MICC Florence: three films each of 53 people against 3D scans, and four protocols that share the name.

Bagdanov, Del Bimbo, Masi: "The Florence 2D/3D Hybrid Face Dataset", 2011. Unit: mm. Numbers of one protocol must not
be compared with those of another: `--protocol` says which, with the formulas in `metrics.scans` (micc_*): ganfit
(Gecer et al. 2019, from their code), deep3d (Deng et al. 2019), genova (2018) and mgcnet (2020) as their authors told
them in issues, so in part our reading.

Layout, as its owners distribute it (the folder names of scans from GANFit's code, those of films from memory):
ROOT/subject_01/Model/frontal1/obj/*.obj and …/frontal2/…, films below ROOT/subject_01/Video/SETTING. Frames have to be
extracted first (ffmpeg) into that folder, SETTING one of Indoor-Cooperative, PTZ-Indoor, PTZ-Outdoor. Landmarks are
GANFit's: ROOT/MICC_landmarks/subject_01/Model/frontal1/obj/*.ljson, 68 points (their repository; GPL-3, so not here).
GANFit's own numbers are against registered scans, which are given out on request: put them in the scans' place.
Subjects without landmarks are not in the protocol.

Licence: research without commercial purpose, after a signed agreement; no redistribution.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float

from sameface.core.errors import BadData
from sameface.core.files import names_in, read_json
from sameface.evaluation.benchmarks._scans import (
    ASKS,
    PHOTOS,
    believable,
    mesh_of,
    one_file,
    photo,
    read_scan,
    sample_face,
    truth_from,
)
from sameface.evaluation.case import Answer, Case, CaseFailed, Published
from sameface.mesh.read import Mesh
from sameface.mesh.write import write_obj
from sameface.metrics.alignment import Surface
from sameface.metrics.scans import micc_deep3d, micc_ganfit, micc_genova, micc_mgcnet

__all__ = ["Options", "asks", "cases", "published", "sample", "score", "summary", "truth"]

asks = ASKS
SETTINGS = ("Indoor-Cooperative", "PTZ-Indoor", "PTZ-Outdoor")
SCANS = ("frontal1", "frontal2")
FIVE = (36, 45, 30, 48, 54)
"""of iBUG's 68: outer eye corners, nose tip, mouth corners (MGCNet takes five; which is our reading)"""
LARGEST = 1 << 20
"""bytes of a landmark file"""


@dataclass(frozen=True)
class Options:
    """Choices of the protocol; the radius and the settings are common to all."""

    protocol: Literal["ganfit", "deep3d", "genova", "mgcnet"] = "deep3d"
    """whose number it is: see metrics/scans.py, micc_*"""
    setting: Literal["all", "Indoor-Cooperative", "PTZ-Indoor", "PTZ-Outdoor"] = "all"
    """films of one setting only"""
    frames: int = 10
    """of each film, evenly picked by name; ours (each paper takes its own frames)"""
    radius: float = 95.0
    """mm around the nose tip (all protocols)"""
    tight: tuple[str, ...] = ("subject_28",)
    """subjects whose scan is cropped to 60 mm by ganfit (micc_evaluation.py)"""
    unit: float = 1.0
    """mm per unit of the scans' files: 100 where registered scans are in decimetres, as GANFit's"""


published: tuple[Published, ...] = ()


def cases(root: Path, options: Options) -> list[Case]:
    """One case per subject and setting, subject_01/SETTING; truth: `scans` (paths of mesh and landmarks), `subject`.

    Raises BadData without subjects, frames, or scans.
    """
    folder = root / "MICC_landmarks"
    subjects = [name for name in names_in(folder, folders=True) if name.startswith("subject_")]
    if not subjects:
        raise BadData(f"{folder} has no folders subject_01 …: the landmarks come with barisgecer/GANFit")
    wanted = SETTINGS if options.setting == "all" else (options.setting,)
    return [_case(root, subject, setting, options) for subject in subjects for setting in wanted]


def _case(root: Path, subject: str, setting: str, options: Options) -> Case:
    film = root / subject / "Video" / setting
    frames = [film / name for name in names_in(film, *PHOTOS)]
    if not frames:
        raise BadData(
            f"{film} has no frames ({', '.join(PHOTOS)}): extract them from the film, for example with ffmpeg"
        )
    picked = np.unique(np.linspace(0, len(frames) - 1, max(options.frames, 1)).round().astype(int))
    scans = []
    for scan in SCANS:
        marks = root / "MICC_landmarks" / subject / "Model" / scan / "obj"
        if marks.is_dir():  # subjects with a single scan have a single folder
            points = one_file(marks, ".ljson", "68 landmarks of the scan")
            scans.append((one_file(root / subject / "Model" / scan / "obj", ".obj", "the scan of the subject"), points))
    if not scans:
        raise BadData(f"{root / 'MICC_landmarks' / subject} has neither Model/frontal1/obj nor Model/frontal2/obj")
    truth = {"scans": tuple(scans), "subject": subject, "setting": setting}
    chosen = tuple(frames[k] for k in picked)
    return Case(name=f"{subject}/{setting}", photos=chosen, places=(None,) * len(chosen), truth=truth)


def _scan(pair: tuple[Path, Path], options: Options) -> tuple[Mesh, Float[np.ndarray, "68 3"]]:
    """A scan in mm with its landmarks."""
    mesh, points = read_scan(pair[0]), options.unit * _ljson(pair[1])
    return Mesh(options.unit * mesh.vertices, mesh.faces), believable(
        points, pair[1], "; give --unit, mm per unit of the file"
    )


def _ljson(path: Path) -> Float[np.ndarray, "68 3"]:
    """menpo's landmark file, version 2 ({landmarks: {points}}) or 3 ({groups: {NAME: {landmarks: {points}}}})."""
    content = read_json(path, LARGEST)
    try:
        if "groups" in content:
            content = next(iter(content["groups"].values()))
        points = np.array(content["landmarks"]["points"], np.float64)
    except (ValueError, KeyError, TypeError, AttributeError, StopIteration, OverflowError) as error:
        raise BadData(f"{path} is no landmark file of menpo ({type(error).__name__}: {error})") from None
    if points.shape != (68, 3) or not np.isfinite(points).all():
        raise BadData(f"{path} holds points of the shape {points.shape}; expected 68 finite ones in 3D")
    return points


def score(case: Case, answer: Answer, options: Options) -> dict[str, float]:
    """`mm`, the protocol's error of this person's mesh; for genova with the mesh's own `scale`, see `summary`.

    ganfit takes the better of the two scans, the others the first. Raises ValueError when the answer has no neutral
    mesh, or when the alignment does not converge.
    """
    if options.protocol == "ganfit":
        surface, landmarks = mesh_of(case, answer, range(68))
        radius = 60.0 if case.truth["subject"] in options.tight else options.radius
        errors = []
        for pair in case.truth["scans"]:
            scan, points = _scan(pair, options)
            errors.append(micc_ganfit(Surface(*scan), points, surface, landmarks, radius=radius))
        return {"mm": min(errors)}
    if options.protocol == "genova":
        error, scale = _genova(case, answer, options, None)
        return {"mm": error, "scale": scale}
    places = FIVE if options.protocol == "mgcnet" else range(68)
    surface, landmarks = mesh_of(case, answer, places)
    scan, points = _scan(case.truth["scans"][0], options)
    formula = micc_mgcnet if options.protocol == "mgcnet" else micc_deep3d
    error = formula(scan.vertices, points[list(places)], surface, landmarks, nose_tip=points[30], radius=options.radius)
    return {"mm": error}


def _genova(case: Case, answer: Answer, options: Options, scale: float | None) -> tuple[float, float]:
    surface, landmarks = mesh_of(case, answer, range(68))
    scan, points = _scan(case.truth["scans"][0], options)
    return micc_genova(
        scan.vertices, points, surface, landmarks, nose_tip=points[30], radius=options.radius, scale=scale
    )


def _genova_of_all(case: Case, answer: Answer, options: Options, scale: float) -> float:
    try:
        return _genova(case, answer, options, scale)[0]
    except ValueError as error:  # with its own scale it went well, with that of all it does not
        raise CaseFailed(case.name, str(error)) from error


def summary(
    cases: list[Case], answers: list[Answer | None], rows: list[dict[str, float] | None], options: Options
) -> dict[str, float]:
    """`SETTING/mm` and `SETTING/std`: mean and deviation (ddof 0) over the people; `mm` over all films.

    genova: the errors are found again with ONE scale for all, the mean of the meshes' own, given as `scale`. People
    that the system failed on are in no mean.
    """
    done = [(c, a, r) for c, a, r in zip(cases, answers, rows, strict=True) if r is not None and a is not None]
    errors = [row["mm"] for _, _, row in done]
    table = {}
    if options.protocol == "genova":
        table["scale"] = float(np.mean([row["scale"] for _, _, row in done]))
        errors = [_genova_of_all(case, answer, options, table["scale"]) for case, answer, _ in done]
    settings = np.array([case.truth["setting"] for case, _, _ in done])
    for setting in SETTINGS:
        if (settings == setting).any():
            of_setting = np.array(errors)[settings == setting]
            table |= {f"{setting}/mm": float(of_setting.mean()), f"{setting}/std": float(of_setting.std())}
    return {"mm": float(np.mean(errors))} | table


def truth(case: Case, options: Options) -> Answer:
    """The first scan itself, with its landmarks."""
    scan, points = _scan(case.truth["scans"][0], options)
    return truth_from(scan, range(68), points)


def sample(root: Path) -> None:
    """Two subjects with two frames in each setting; the first has two scans, the second one."""
    for number, subject in enumerate(("subject_01", "subject_28")):
        vertices, faces, landmarks = sample_face(10 + number)
        for setting in SETTINGS:
            for frame in range(2):
                photo(root / subject / "Video" / setting / f"frame{frame:04d}.jpg", number)
        for k, scan in enumerate(SCANS[: 2 - number]):
            mesh, marks = (root / top / subject / "Model" / scan / "obj" for top in (".", "MICC_landmarks"))
            mesh.mkdir(parents=True)
            marks.mkdir(parents=True)
            rough = np.random.default_rng(k).normal(0, 0.5, vertices.shape) * k
            write_obj(mesh / "scan.obj", vertices + rough, faces)
            content = {"landmarks": {"points": landmarks.round(4).tolist()}, "version": 2}
            if k:
                content = {"groups": {"LJSON": content}, "version": 3}
            (marks / "scan.ljson").write_text(json.dumps(content))
