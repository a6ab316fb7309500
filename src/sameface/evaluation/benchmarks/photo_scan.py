"""Photos and scans of your own people: how far the face made from photos is from the person as scanned.

The error is NoW's (Sanyal et al. 2019): mm from each point of the scan in a ball around the nose to the surface of the
neutral mesh, after an alignment with scale (or without: metrical); the ball and the formulas are `metrics.scans.now`'s.
NoW pools the points of all photos; here every case counts alike, by the mean and by the median of its points.
Beside the system stand three others on the same points: the mean face, which knows nothing; our model fitted to the
scan's own landmarks in 3D, which is what perfect points would tell; and our model fitted to the scan, the floor.

Layout: ROOT/PERSON/ holds one or several scans, meshes or clouds of points (.obj, .ply, .wrl; their textures do not
matter), and folders with photos, each a set of its own: ROOT/PERSON/front/*.jpg, ROOT/PERSON/sides/*.jpg, whatever you
call them. A person's sets are asked one by one, and `all` of them together. Landmarks of a scan are MeshLab's picked
points in SCAN.pp or SCAN_picked_points.pp, named by iBUG's numbers, with the seven that NoW has (36, 39, 42, 45, 33,
48, 54); a scan without such a file is drawn from its sides and they are found (`found landmarks` in the rows), to some
2 mm. The faces of scans should be neutral, their eyes open, without beard, and what photos do not show (the inside of
a mouth) should not be in them.

Licence: yours; scans and photos of people are theirs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float

from sameface.core.camera import Perspective
from sameface.core.errors import BadData
from sameface.core.files import names_in
from sameface.core.geometry import rotation_from_axis_angle, rotation_from_euler
from sameface.evaluation.benchmarks._scans import ASKS, PHOTOS, mesh_of, read_scan, truth_from
from sameface.evaluation.case import Answer, Case, Published
from sameface.evaluation.scan_landmarks import find_landmarks
from sameface.mesh.read import Mesh
from sameface.mesh.write import write_obj, write_ply
from sameface.metrics.alignment import Surface
from sameface.metrics.scans import IBUG_SEVEN, crop, now, now_crop
from sameface.morphable import default
from sameface.morphable.build import landmarks_on, picked_beside
from sameface.morphable.register import check_size
from sameface.morphable.scan_fit import fit_landmarks, fit_scan
from sameface.reconstruction.picture import render

__all__ = [
    "Baselines", "Options", "Scan", "asks", "baselines", "cases", "distances", "published", "sample", "score",
    "summary", "truth",
]  # fmt: skip

asks = ASKS
SCANS = (".obj", ".ply", ".wrl")
EVERY = "all"
JAW = range(17)
"""iBUG points that lie where the outline is seen: on no two scans are they picked alike"""
BASELINES = ("mean face", "landmark fit", "floor")


@dataclass(frozen=True)
class Options:
    """Choices of the protocol."""

    metrical: bool = False
    """the size counts: alignments have no scale (NoW's --metrical_evaluation)"""
    unit: float = 1.0
    """mm per unit of the scans' files"""


published: tuple[Published, ...] = ()


class Scan(NamedTuple):
    """A scan and where its face is, mm."""

    mesh: Mesh
    """without triangles where it is a cloud"""
    landmarks: Float[np.ndarray, "68 3"]
    """NaN: not known"""
    found: bool
    """by us: nobody picked them"""

    @property
    def seven(self) -> Float[np.ndarray, "7 3"]:
        """NoW's landmarks."""
        return self.landmarks[list(IBUG_SEVEN)]


class Baselines(NamedTuple):
    """mm, the mean over the scan's points, by the names of BASELINES."""

    mean: float
    landmarks: float
    floor: float


def cases(root: Path, options: Options) -> list[Case]:
    """One case per person and set of photos, PERSON/SET; truth: `scans` (paths), `person`, `set`.

    Raises BadData without people, for people without scans or photos, and for a set that is called `all`.
    """
    if not 0 < options.unit < np.inf:
        raise BadData(f"--unit is {options.unit:g}; it is the number of mm per unit of the scans' files")
    people = names_in(root, folders=True)
    if not people:
        raise BadData(f"{root} holds no people; expected a folder for each, such as anna/scan.ply and anna/front/1.jpg")
    return [case for person in people for case in _of_person(root / person)]


def _of_person(folder: Path) -> list[Case]:
    scans = tuple(folder / name for name in names_in(folder, *SCANS))
    sets = {name: names_in(folder / name, *PHOTOS) for name in names_in(folder, folders=True)}
    sets = {name: [folder / name / photo for photo in photos] for name, photos in sets.items() if photos}
    if not scans or not sets:
        what = "scan (.obj, .ply, .wrl)" if not scans else "folder with photos in it"
        raise BadData(f"{folder} has no {what}; expected {folder.name}/scan.ply and {folder.name}/front/1.jpg")
    if EVERY in sets:
        raise BadData(f"{folder / EVERY}: a set of photos cannot be called {EVERY}, which means all sets together")
    if len(sets) > 1:
        sets[EVERY] = [photo for photos in sets.values() for photo in photos]
    return [
        Case(f"{folder.name}/{name}", tuple(photos), (None,) * len(photos),
             {"scans": scans, "person": folder.name, "set": name})
        for name, photos in sets.items()
    ]  # fmt: skip


@lru_cache(maxsize=8)
def _scan(path: Path, unit: float) -> Scan:
    """Raises BadData for a scan of another unit, and one whose picked points lack NoW's seven."""
    mesh, picked, model = read_scan(path), picked_beside(path), default()
    mesh = Mesh(unit * mesh.vertices, mesh.faces)
    landmarks = find_landmarks(mesh, str(path)) if picked is None else unit * picked
    lacking = [str(k) for k in IBUG_SEVEN if not np.isfinite(landmarks[k]).all()]
    if lacking:
        what = "picked points beside it lack" if picked is not None else "front shows no surface at"
        raise BadData(f"{path}: its {what} the iBUG points {', '.join(lacking)}, which NoW's ball is made of")
    check_size(model.mean, model.faces, mesh, landmarks_on(model, landmarks), str(path))
    return Scan(mesh, landmarks, picked is None)


def distances(
    scan: Scan, surface: Surface, landmarks: Float[np.ndarray, "7 3"], options: Options
) -> Float[np.ndarray, " K"]:
    """mm from each point of the scan in NoW's ball to a mesh laid on it."""
    return now(scan.mesh.vertices, scan.seven, surface, landmarks, metrical=options.metrical).distances


def baselines(scan: Scan, options: Options) -> Baselines:
    """What the mean face is off, our model fitted to the scan's landmarks, and our model fitted to the scan."""
    model, inner = default(), scan.landmarks.copy()
    inner[JAW] = np.nan
    near = fit_landmarks(model, inner, scale=not options.metrical)
    points = scan.mesh.vertices[crop(scan.mesh.vertices, *now_crop(scan.seven))]
    best = fit_scan(model, points, near, scale=not options.metrical)
    means = []
    for identity in (np.zeros(model.n_identity), near.identity, best.identity):
        mesh = model.vertices(identity).astype(np.float64)
        seven = model.landmarks(mesh)[list(IBUG_SEVEN)]
        means.append(float(distances(scan, Surface(mesh, model.faces), seven, options).mean()))
    return Baselines(*means)


@lru_cache(maxsize=64)
def _baselines(path: Path, options: Options) -> Baselines:
    return baselines(_scan(path, options.unit), options)


def score(case: Case, answer: Answer, options: Options) -> dict[str, float]:
    """`mm` and `median` of the system, the mm of the three others, and how many of the scans have `found landmarks`.

    Means over the person's scans. Raises ValueError when the answer has no neutral mesh, or when an alignment does not
    converge, BadData for a scan that cannot be used.
    """
    surface, landmarks = mesh_of(case, answer, IBUG_SEVEN)
    rows = []
    for path in case.truth["scans"]:
        scan = _scan(path, options.unit)
        ours = distances(scan, surface, landmarks, options)
        rows.append([ours.mean(), np.median(ours), *_baselines(path, options), scan.found])
    names = ("mm", "median", *BASELINES, "found landmarks")
    return dict(zip(names, map(float, np.mean(rows, axis=0)), strict=True))


def summary(
    cases: list[Case], answers: list[Answer | None], rows: list[dict[str, float] | None], options: Options
) -> dict[str, float]:
    """Means over the cases of every set of photos, and over all: mm, median, the three others, and what the system is
    `under the mean face` (% of it; below 0: worse than knowing nothing). Cases that failed are in no number.
    """
    done = [(case.truth["set"], row) for case, row in zip(cases, rows, strict=True) if row is not None]
    sets = list(dict.fromkeys(name for name, _ in done))
    table = _means([row for _, row in done], "")
    for name in sets if len(sets) > 1 else []:
        table |= _means([row for which, row in done if which == name], f"{name}/")
    return table


def _means(rows: Sequence[dict[str, float]], prefix: str) -> dict[str, float]:
    means = {name: float(np.mean([row[name] for row in rows])) for name in ("mm", "median", *BASELINES)}
    means["under the mean face, %"] = 100 * (1 - means["mm"] / means["mean face"])
    return {prefix + name: value for name, value in means.items()}


def truth(case: Case, options: Options) -> Answer:
    """The first scan itself (its first mesh, where there are clouds of points too), with NoW's landmarks."""
    scans = [_scan(path, options.unit) for path in case.truth["scans"]]
    scan = next((one for one in scans if len(one.mesh.faces)), None)
    if scan is None:
        raise BadData(f"the scans of {case.truth['person']} are clouds of points, which are no surface to compare")
    return truth_from(scan.mesh, IBUG_SEVEN, scan.seven)


# ── sample ─────────────────────────────────────────────────────────────────────────────────────────────────


def sample(root: Path) -> None:
    """Two people drawn from our model and waves that are not in it: a mesh with picked points; a mesh without, whose
    face looks elsewhere, and the same as a cloud. Photos are clay pictures from the front and from both sides.
    """
    model, around = default(), np.linalg.norm(default().mean - [0, 10, 0], axis=1) < 115
    for number, person in enumerate(("anna", "ben")):
        rng, folder = np.random.default_rng(number), root / person
        for name in ("front", "sides"):
            (folder / name).mkdir(parents=True)
        shape = model.vertices(rng.normal(size=model.n_identity)).astype(np.float64)
        shape[:, 2] += np.sin(shape[:, 0] / 11 + number) * np.cos(shape[:, 1] / 9)
        for name, yaw in (("front/0", 0.0), ("sides/left", -0.7), ("sides/right", 0.7)):
            rotation = rotation_from_euler(np.array(0.05), np.array(yaw), np.array(0.0))
            camera = Perspective(rotation, np.array([0.0, 0.0, 900.0]), np.array(900.0), np.array([160.0, 150.0]),
                                 (320, 320))  # fmt: skip
            cv2.imwrite(str(folder / f"{name}.jpg"), render(shape, model.faces, camera)[..., ::-1])
        turn = rotation_from_axis_angle(np.array([0.0, 1.4, 0.0]) * number)
        skin = around & model.regions["skin"]
        faces = np.searchsorted(np.flatnonzero(skin), model.faces[skin[model.faces].all(1)])
        vertices = (shape[skin] @ turn.T).round(4)
        if number == 0:
            write_ply(folder / "scan.ply", vertices, faces)
            (folder / "scan.pp").write_text(_picked(model.landmarks(shape)))
        else:
            write_obj(folder / "scan.obj", vertices, faces)
            write_ply(folder / "second.ply", vertices, np.zeros((0, 3), np.int64))


def _picked(landmarks: Float[np.ndarray, "68 3"]) -> str:
    rows = "".join(
        f' <point x="{x:.4f}" y="{y:.4f}" z="{z:.4f}" active="1" name="{k}"/>\n'
        for k, (x, y, z) in enumerate(landmarks)
    )
    return f"<!DOCTYPE PickedPoints>\n<PickedPoints>\n{rows}</PickedPoints>\n"
