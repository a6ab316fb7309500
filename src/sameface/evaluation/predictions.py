"""Meshes that somebody else's system wrote, as the NoW challenge wants them: FOLDER/<case>.obj or .ply, and beside it
<case>.npy or .txt with seven points on the mesh (Sanyal et al. 2019, soubhiksanyal/now_evaluation), or all 68.

The seven, in order: outer and inner corner of the right eye, inner and outer corner of the left eye, bottom of the
nose, right and left corner of the mouth; right is the subject's. Lengths as the files have them, which should be mm.
"""

from io import StringIO
from pathlib import Path

import numpy as np
from jaxtyping import Float

from sameface.core.errors import BadData
from sameface.core.files import read_text
from sameface.core.npz import read_npy
from sameface.evaluation.case import Case
from sameface.mesh.read import read_mesh

__all__ = ["SEVEN", "predicted"]

LARGEST_POINTS = 1 << 20
"""bytes of a file of points"""
SEVEN = (36, 39, 42, 45, 33, 48, 54)
"""iBUG's numbers of NoW's points"""


def predicted(folder: Path, case: Case) -> dict[str, np.ndarray]:
    """The mesh of a case (`neutral`, `faces`) and its points (`neutral_landmarks`, NaN where there are none).

    Raises BadData when the case has no mesh, or its points are not (7, 3) or (68, 3) finite numbers.
    """
    mesh = _beside(folder, case, (".obj", ".ply"))
    if mesh is None:
        raise BadData(f"{folder.name} has no mesh {case.name}.obj or .ply; NoW's layout has one for every photo")
    vertices, faces = read_mesh(mesh)
    found = {"neutral": vertices, "faces": faces, "left_out": np.zeros((0, 3), str)}
    points = _beside(folder, case, (".npy", ".txt"))
    return found if points is None else {**found, "neutral_landmarks": _points(points)}


def _beside(folder: Path, case: Case, suffixes: tuple[str, ...]) -> Path | None:
    files = (folder / f"{case.name}{suffix}" for suffix in suffixes)
    return next((file for file in files if file.is_file()), None)


def _points(file: Path) -> Float[np.ndarray, "68 3"]:
    try:
        binary = file.suffix == ".npy"
        found = read_npy(file, LARGEST_POINTS) if binary else np.loadtxt(StringIO(read_text(file, LARGEST_POINTS)))
        found = np.asarray(found, np.float64)
    except (OSError, ValueError, EOFError) as error:
        raise BadData(f"{file.name} cannot be read as points ({error}); write 7 × 3 numbers") from None
    found = found[0] if found.ndim == 3 and len(found) == 1 else found  # NoW takes (1, 7, 3) too
    if found.shape not in ((7, 3), (68, 3)) or not np.isfinite(found).all():
        raise BadData(f"{file.name} holds {found.shape} numbers; expected (7, 3) or (68, 3), all finite")
    points = np.full((68, 3), np.nan)
    points[list(SEVEN) if len(found) == 7 else slice(None)] = found
    return points
