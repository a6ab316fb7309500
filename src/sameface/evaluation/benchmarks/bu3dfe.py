"""BU-3DFE: 100 people with 25 expressions each, photographed while scanned; the neutral scan is what is compared.

Yin, Wei, Sun, Wang, Rosato: "A 3D Facial Expression Database For Facial Behavior Research", FG 2006. There is no common
protocol; this one is ours, of the usual parts: the scan within 95 mm of its nose, rigid alignment (with scale unless
--metrical), RMSE in mm from scan vertices to the surface of the predicted neutral mesh.

Layout (from memory: no file of it could be looked at): ROOT/F0001/ … ROOT/M0044/, or below ROOT/BU_3DFE, with files
F0001_NE00WH_F3D.wrl (cropped scan), F0001_NE00WH_F3D.bnd (83 points, "number x y z" a line), F0001_NE00WH_F2D.bmp (its
photo); NE neutral, AN, DI, FE, HA, SA, SU the expressions, 01-04 their strength, WH, BL, AE … the descent. In mm.

Of the 83 points only centres of groups are used, for a start: points 1-8 and 9-16 outline the eyes, 37-48 the nose,
49-68 the mouth (from memory); which eye is the right one is told by x.

Licence: research without commercial purpose, after an agreement with Binghamton University; no redistribution.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float

from sameface.core.errors import BadData
from sameface.core.files import names_in, read_text
from sameface.evaluation.benchmarks._scans import ASKS, mesh_of, photo, read_scan, sample_face, truth_from
from sameface.evaluation.case import Answer, Case, Published
from sameface.metrics.alignment import fit_mesh, procrustes
from sameface.metrics.scans import crop, distances, rmse

__all__ = ["Options", "asks", "cases", "published", "sample", "score", "summary", "truth"]

asks = ASKS
COUNT = 83
LARGEST = 1 << 16
"""bytes of a file of 83 points"""
GROUPS = (slice(0, 8), slice(8, 16), slice(36, 48), slice(48, 68))
"""of the 83: the two eyes, the nose, the mouth"""
IBUG = (*range(36, 48), *range(27, 36), *range(48, 68))
"""of iBUG's 68: right eye (6), left eye (6), nose (9), mouth (20)"""
IBUG_GROUPS = (slice(0, 6), slice(6, 12), slice(12, 21), slice(21, 41))


@dataclass(frozen=True)
class Options:
    """Ours: the data set comes without a protocol for reconstruction."""

    photos: Literal["neutral", "expressions", "all"] = "neutral"
    """which photos of a person are shown together: the neutral one, the 24 others, or all 25"""
    metrical: bool = False
    """the size counts: the alignment has no scale"""
    radius: float = 95.0
    """mm around the centre of the nose's points (MICC's radius)"""


published: tuple[Published, ...] = ()


def cases(root: Path, options: Options) -> list[Case]:
    """One case per person, F0001 …; truth: `scan` and `points` (paths). Raises BadData for what is missing."""
    folder = root / "BU_3DFE" if (root / "BU_3DFE").is_dir() else root
    people = [folder / name for name in names_in(folder, folders=True) if re.fullmatch(r"[FM]\d{4}", name)]
    if not people:
        raise BadData(f"{folder} has no folders F0001 … M0044; unpack BU-3DFE there")
    return [_case(person, options) for person in people]


def _case(person: Path, options: Options) -> Case:
    neutral = f"{person.name}_NE"
    scans = [person / name for name in names_in(person, "_f3d.wrl") if name.startswith(f"{neutral}00")]
    if not scans:
        raise BadData(f"{person} has no {person.name}_NE00…_F3D.wrl, the neutral scan")
    points = scans[0].with_suffix(".bnd")
    if not points.is_file():
        raise BadData(f"{points} is missing, the 83 points of the neutral scan")
    every = [name for name in names_in(person, "_f2d.bmp") if name.startswith(f"{person.name}_")]
    wanted = {"neutral": (True,), "expressions": (False,), "all": (True, False)}[options.photos]
    chosen = tuple(person / name for name in every if name.startswith(neutral) in wanted)
    if not chosen:
        raise BadData(f"{person} has no photos {person.name}_…_F2D.bmp of the kind {options.photos!r}")
    return Case(person.name, chosen, (None,) * len(chosen), {"scan": scans[0], "points": points})


def _points(path: Path) -> Float[np.ndarray, "83 3"]:
    lines = read_text(path, LARGEST).splitlines()
    try:
        rows = np.array([line.split()[-3:] for line in lines if line.strip()], np.float64)
    except ValueError as error:
        raise BadData(f"{path} does not hold lines 'number x y z' ({error})") from None
    if rows.shape != (COUNT, 3) or not np.isfinite(rows).all():
        raise BadData(f"{path} holds points of the shape {rows.shape}; expected 83 finite ones in 3D")
    return rows


def _centres(points: np.ndarray, groups: tuple[slice, ...]) -> Float[np.ndarray, "4 3"]:
    """Right eye (the one with the smaller x), left eye, nose, mouth."""
    centres = np.stack([points[group].mean(0) for group in groups])
    centres[:2] = centres[:2][np.argsort(centres[:2, 0])]
    return centres


def score(case: Case, answer: Answer, options: Options) -> dict[str, float]:
    """`rmse`, `mean` and `median` in mm of the distances of the scan's vertices.

    Raises ValueError when the answer has no neutral mesh, or when the alignment does not converge.
    """
    surface, landmarks = mesh_of(case, answer, IBUG, unit=1.0 if options.metrical else None)
    goal = _centres(_points(case.truth["points"]), GROUPS)
    source = np.stack([landmarks[group].mean(0) for group in IBUG_GROUPS])
    start = procrustes(source, goal, scale=not options.metrical)
    scan = read_scan(case.truth["scan"]).vertices
    scan = scan[crop(scan, goal[2], options.radius)]
    found = fit_mesh(scan, surface, start=start, scale=not options.metrical)
    if not found.converged:
        raise ValueError(f"{case.name}: the alignment did not converge (rms {found.rms:.3g} mm)")
    errors = distances(scan, surface, found.similarity).surface
    return {"rmse": rmse(errors), "mean": float(errors.mean()), "median": float(np.median(errors))}


def summary(
    cases: list[Case], answers: list[Answer | None], rows: list[dict[str, float] | None], options: Options
) -> dict[str, float]:
    """Mean over the people of each number, and `std` of their RMSE (ddof 0); people that failed are in no mean."""
    done = [row for row in rows if row is not None]
    table = {name: float(np.mean([row[name] for row in done])) for name in ("rmse", "mean", "median")}
    return table | {"std": float(np.std([row["rmse"] for row in done]))}


def truth(case: Case, options: Options) -> Answer:
    """The scan itself; of eyes, nose and mouth only the centres are known, so all points of a group lie there."""
    centres = _centres(_points(case.truth["points"]), GROUPS)
    sizes = [group.stop - group.start for group in IBUG_GROUPS]
    return truth_from(read_scan(case.truth["scan"]), IBUG, np.repeat(centres, sizes, axis=0))


def sample(root: Path) -> None:
    """A woman and a man, each with a neutral scan and photos of two expressions."""
    for number, person in enumerate(("F0001", "M0001")):
        vertices, faces, marks = sample_face(30 + number)
        folder = root / person
        folder.mkdir(parents=True, exist_ok=True)
        for kind in ("NE00WH", "HA01WH"):
            photo(folder / f"{person}_{kind}_F2D.bmp", number)
        points = np.resize(marks, (COUNT, 3))
        for group, centre in zip(GROUPS, ((-32, 30), (32, 30), (0, -5), (0, -45)), strict=True):
            points[group] = vertices[np.abs(vertices[:, :2] - centre).sum(1).argmin()]
        lines = "".join(f"{k + 1} {x:.4f} {y:.4f} {z:.4f}\n" for k, (x, y, z) in enumerate(points))
        (folder / f"{person}_NE00WH_F3D.bnd").write_text(lines)
        (folder / f"{person}_NE00WH_F3D.wrl").write_text(_vrml(vertices, faces))


def _vrml(vertices: np.ndarray, faces: np.ndarray) -> str:
    points = ", ".join(f"{x:.4f} {y:.4f} {z:.4f}" for x, y, z in vertices)
    index = ", ".join(f"{a}, {b}, {c}, -1" for a, b, c in faces)
    return f"#VRML V2.0 utf8\nShape {{ geometry IndexedFaceSet {{ coord Coordinate {{ point [ {points} ] }}\n" + (
        f"coordIndex [ {index} ] }} }}\n"
    )
