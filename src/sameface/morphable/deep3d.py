"""The face of Deep3DFaceRecon (Deng et al., CVPRW 2019) and of 3DDFA-V3 (Wang et al., CVPR 2024).

Licence: derived from the Basel Face Model 2009: academic research, no redistribution. Topology: 35,709 vertices, 70,789
triangles. Two files with one content: BFM_model_front.mat, which Deep3DFaceRecon makes from Basel's file (idBase,
exBase, meanshape, texBase, meantex; triangles `tri` and `keypoints` from 1), and 3DDFA-V3's face_model.npy, a pickled
dict (id, exp, u, alb, u_alb; `tri` and `ldm68` from 0), which goes through the list of `pickles.py`. Decimetres; +x to
the subject's left, +y up, +z to the viewer; modes times their deviations: 80 of identity, 64 of expression, so that
coefficients are the 80 and 64 first numbers of these networks; colours 0-255.
"""

from pathlib import Path
from typing import Any

import numpy as np

from sameface.core.errors import BadModel
from sameface.core.files import open_file
from sameface.morphable import MorphableModel
from sameface.morphable._checks import as_basis, checked, linear_albedo, outwardness, require
from sameface.morphable._landmarks import on_vertices
from sameface.morphable._matlab import read_matlab
from sameface.morphable.pickles import read_npy

__all__ = ["load"]

LICENCE = "Derived from the Basel Face Model 2009: academic research only, no redistribution"
MM_PER_UNIT = 100.0
NAMES = {
    "mean": ("meanshape", "u"), "identity": ("idBase", "id"), "expression": ("exBase", "exp"), "faces": ("tri", "tri"),
    "landmarks": ("keypoints", "ldm68"), "albedo": ("meantex", "u_alb"), "albedo_basis": ("texBase", "alb"),
}  # fmt: skip
NEEDED = ("mean", "identity", "expression", "faces", "landmarks")


def load(path: Path) -> MorphableModel:
    """Read BFM_model_front.mat or face_model.npy."""
    path = Path(path)
    with open_file(path, BadModel) as file:
        pickled = file.read(6) == b"\x93NUMPY"
    found: Any = read_npy(path) if pickled else read_matlab(path)
    what = "3DDFA-V3's face model" if pickled else "Deep3DFaceRecon's face model"
    if not isinstance(found, dict):
        raise BadModel(f"{path} holds a {type(found).__name__}; expected the dict of {what}")
    require(found, tuple(NAMES[name][pickled] for name in NEEDED), path, what)
    source = {name: _numbers(found[names[pickled]], path, names[pickled]) for name, names in NAMES.items()
              if names[pickled] in found}  # fmt: skip
    start = 0 if pickled else 1
    mean = source["mean"].astype(np.float32).reshape(-1, 3) * MM_PER_UNIT
    faces = source["faces"].astype(np.int64) - start
    if faces.ndim != 2 or faces.shape[1] != 3 or faces.min() < 0 or faces.max() >= len(mean):
        raise BadModel(f"{path}: tri has shape {faces.shape} up to {faces.max()}; expected (T, 3) of {len(mean)}")
    faces = faces if outwardness(mean, faces) > 0 else faces[:, [0, 2, 1]]
    ids = source["landmarks"].astype(np.int64).ravel() - start
    if len(ids) != 68:
        raise BadModel(f"{path} has {len(ids)} landmarks; expected 68 vertices")
    chosen, weights = on_vertices(ids, faces, path)
    colours = None, None
    if "albedo" in source and "albedo_basis" in source:
        albedo = source["albedo"].astype(np.float32).reshape(-1, 3) / 255
        colours = linear_albedo(albedo, _modes(source["albedo_basis"], 1 / 255, len(albedo), path, "albedo"))
    expression = _modes(source["expression"], MM_PER_UNIT, len(mean), path, "expression")
    return checked(
        MorphableModel(
            name=f"{'tddfa-v3' if pickled else 'deep3d'}-{len(mean)}",
            licence=LICENCE,
            mean=mean,
            identity_basis=_modes(source["identity"], MM_PER_UNIT, len(mean), path, "identity"),
            expression_basis=expression,
            faces=faces,
            landmark_faces=chosen,
            landmark_weights=weights,
            expression_names=tuple(f"expression{i}" for i in range(expression.shape[2])),
            uv=_uv(found.get("uv_coords") if pickled else None, len(mean)),
            albedo_mean=colours[0],
            albedo_basis=colours[1],
            unit=MM_PER_UNIT,
        ),
        path,
    )


def _numbers(value: Any, path: Path, name: str) -> np.ndarray:
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "iuf" or not value.size:
        raise BadModel(f"{path}: {name} is no array of numbers")
    return value


def _modes(matrix: np.ndarray, unit: float, n_vertices: int, path: Path, what: str) -> np.ndarray:
    count = matrix.shape[1] if matrix.ndim == 2 else 0
    return as_basis(matrix, np.full(count, unit), n_vertices, path, f"the {what} basis")


def _uv(coordinates: Any, n_vertices: int) -> np.ndarray | None:
    if not isinstance(coordinates, np.ndarray) or coordinates.ndim != 2 or len(coordinates) != n_vertices:
        return None
    return coordinates[:, :2].astype(np.float32)
