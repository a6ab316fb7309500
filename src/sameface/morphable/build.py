"""A morphable model from scans: every scan registered with a template, laid on their mean, and their variance in modes.

Blanz & Vetter: "A Morphable Model for the Synthesis of 3D Faces", SIGGRAPH 1999, with the registration of `register`.
Scans are neutral faces of different people; expressions, landmarks, texture coordinates and regions are the template's.
Landmarks of a scan are MeshLab's picked points in a file beside it, SCAN.pp or SCAN_picked_points.pp, their names iBUG
numbers from 0 to 67 (any three or more; the corners of the eyes and of the mouth and the tip of the nose do).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from sameface.core.errors import BadData
from sameface.core.geometry import align
from sameface.mesh.read import Mesh, read_mesh, read_picked_points
from sameface.morphable import MorphableModel, default
from sameface.morphable.plausible import order_problem
from sameface.morphable.register import Landmarks, Options, register

__all__ = ["Built", "build_model", "laid_on_mean", "landmarks_beside", "landmarks_on", "model_of", "picked_beside"]

ROUNDS, AT_REST = 50, 1e-4
"""of the alignment to the mean; mm the mean moves in the last"""
FEWEST_SCANS = 3
LEAST_RATIO = 1e-10
"""variances below this part of the largest are rounding errors"""


@dataclass(frozen=True, eq=False, repr=False)
class Built:
    """A model and how it came about."""

    model: MorphableModel
    variances: Float[np.ndarray, " S"]
    """mm², of the kept modes, summed over all coordinates: the eigenvalues of the covariance"""
    explained: float
    """part of the scans' variance that the kept modes hold"""
    rms: Float[np.ndarray, " N"]
    """mm between each registered template and its scan"""
    partnered: Float[np.ndarray, " N"]
    """part of the template that met each scan"""


def build_model(
    scans: Sequence[Path],
    template: MorphableModel | None = None,
    *,
    name: str = "from-scans",
    licence: str = "that of the scans",
    unit: float = 1.0,
    kept: float = 0.98,
    modes: int | None = None,
    symmetric: bool = False,
    options: Options | None = None,
    progress: Callable[[str], Any] | None = None,
) -> Built:
    """The model of the faces in mesh files (.obj, .ply, .wrl; clouds of points too), `unit` mm per unit of the files.

    `template` defaults to the packaged model; the other options are those of `model_of` and `register`. Raises BadData
    for fewer than three scans, and, naming the file, for what cannot be read or registered.
    """
    template = default() if template is None else template
    if len(scans) < FEWEST_SCANS:
        raise BadData(f"a model needs {FEWEST_SCANS} scans or more, of as many people; {len(scans)} were given")
    if not 0 < unit < np.inf:
        raise ValueError(f"unit is the number of mm per unit of the files, but is {unit}")
    done = []
    for path in map(Path, scans):
        mesh, marks = read_mesh(path), landmarks_beside(path, template)
        scan = Mesh(mesh.vertices * unit, mesh.faces)
        marks = None if marks is None else marks._replace(points=marks.points * unit)
        faces = template.faces.astype(np.int64)
        done.append(register(template.mean, faces, scan, landmarks=marks, options=options, name=str(path)))
        if progress is not None:
            progress(str(path))
    shapes = np.stack([one.vertices for one in done])
    built = model_of(shapes, template, name=name, licence=licence, kept=kept, modes=modes, symmetric=symmetric)
    rms, partnered = (
        np.array(values) for values in zip(*((one.rms, one.partnered.mean()) for one in done), strict=True)
    )
    return replace(built, rms=rms, partnered=partnered)


def picked_beside(scan: Path) -> Float[np.ndarray, "68 3"] | None:
    """iBUG points in SCAN.pp or SCAN_picked_points.pp, NaN for those not picked; None if there is no such file.

    Raises BadData for names that are no iBUG numbers, and for fewer than three points.
    """
    found = [scan.with_suffix(".pp"), scan.with_name(f"{scan.stem}_picked_points.pp")]
    file = next((file for file in found if file.is_file()), None)
    if file is None:
        return None
    points = read_picked_points(file)
    odd = [name for name in points if not (name.isdecimal() and int(name) < 68)]
    if odd or len(points) < 3:
        what = f"names {', '.join(odd[:5])}" if odd else f"{len(points)} points"
        raise BadData(f"{file} has {what}; expected three or more points named by iBUG numbers, 0 to 67")
    picked = np.full((68, 3), np.nan)
    picked[[int(name) for name in points]] = list(points.values())
    if problem := order_problem(picked):
        raise BadData(f"{file} {problem}; pick them again")
    return picked


def landmarks_beside(scan: Path, template: MorphableModel) -> Landmarks | None:
    """The same as points of the template and where they lie on the scan."""
    picked = picked_beside(scan)
    return None if picked is None else landmarks_on(template, picked)


def landmarks_on(template: MorphableModel, picked: Float[np.ndarray, "68 3"]) -> Landmarks:
    """iBUG points of a scan as landmarks of the template; those that are NaN are left out."""
    which = np.flatnonzero(np.isfinite(picked).all(1))
    corners = template.faces[template.landmark_faces[which]].astype(np.int64)
    return Landmarks(corners, template.landmark_weights[which].astype(np.float64), picked[which])


def laid_on_mean(shapes: Float[np.ndarray, "N V 3"]) -> Float[np.ndarray, "N V 3"]:
    """Shapes turned and shifted, never scaled, onto their mean, and the mean made anew, until it rests (Gower 1975).

    The first shape says how the mean is turned.
    """
    mean = shapes[0]
    for _ in range(ROUNDS):
        _, rotation, shift = align(shapes, np.broadcast_to(mean, shapes.shape), scale=False)
        moved = shapes @ rotation.swapaxes(-1, -2) + shift[:, None]
        before, mean = mean, moved.mean(0)
        if np.abs(mean - before).max() < AT_REST:
            break
    return moved


def model_of(
    shapes: Float[np.ndarray, "N V 3"],
    template: MorphableModel,
    *,
    name: str = "from-scans",
    licence: str = "that of the scans",
    kept: float = 0.98,
    modes: int | None = None,
    symmetric: bool = False,
) -> Built:
    """Registered shapes (mm, any poses) → mean + Σ_k σ_k u_k α_k: the principal components of the aligned shapes.

    σ_k² are the eigenvalues of the covariance (with N − 1), so that α is in standard deviations. As many modes are kept
    as hold `kept` of the variance, or `modes` of them. `symmetric` takes every shape's mirror image too: a mean that is
    its own mirror image, and modes that are or are the opposite. The model lies as the template does. Raises BadData
    for fewer than three shapes or without variance, ValueError for impossible options.
    """
    if shapes.shape[1] != template.n_vertices:
        raise ValueError(f"shapes of {shapes.shape[1]} vertices, but the template has {template.n_vertices}")
    if len(shapes) < FEWEST_SCANS:
        raise BadData(f"a model needs {FEWEST_SCANS} scans or more, of as many people; {len(shapes)} were given")
    if not 0 < kept <= 1:
        raise ValueError(f"kept is the part of the variance to keep, above 0 and up to 1, but is {kept}")
    aligned = laid_on_mean(np.concatenate([shapes, _mirrored(shapes, template)]) if symmetric else shapes)
    mean = aligned.mean(0)
    _, rotation, shift = align(mean, template.mean.astype(np.float64), scale=False)
    aligned, mean = aligned @ rotation.T + shift, mean @ rotation.T + shift
    spread = (aligned - mean).reshape(len(aligned), -1)
    _, values, rows = np.linalg.svd(spread, full_matrices=False)
    variances = values**2 / (len(aligned) - 1)
    usable = int((variances > LEAST_RATIO * variances[0]).sum()) if variances[0] > LEAST_RATIO else 0
    if not usable:
        raise BadData(
            "the scans are all the same: there is no variance to make modes of; give scans of different people"
        )
    share = np.cumsum(variances) / variances.sum()
    if modes is not None and not 1 <= modes <= usable:
        raise ValueError(f"{modes} modes were asked for, but {len(shapes)} scans make 1 to {usable}")
    count = modes or min(int(np.searchsorted(share, kept - 1e-12)) + 1, usable)
    basis = (np.sqrt(variances[:count, None]) * rows[:count]).T.reshape(*mean.shape, count)
    model = replace(
        template, name=name, licence=licence, mean=mean.astype(np.float32), identity_basis=basis.astype(np.float32)
    )
    none = np.full(len(shapes), np.nan)
    return Built(model, variances[:count], float(share[count - 1]), none, none)


def _mirrored(shapes: np.ndarray, template: MorphableModel) -> np.ndarray:
    if template.mirror is None:
        raise ValueError(f"{template.name} does not know its vertices' mirror images; leave symmetric off")
    return shapes[:, template.mirror] * [-1.0, 1.0, 1.0]
