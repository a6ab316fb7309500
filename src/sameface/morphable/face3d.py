"""face3d's BFM.mat: the Basel Face Model 2009 with the expressions of FaceWarehouse (github.com/yfeng95/face3d).

Licence: derived from the Basel Face Model 2009: academic research, no redistribution. Topology: the 53,215 vertices of
3DDFA. The file: one Matlab structure `model` of shapeMU, shapePC, shapeEV (199 modes), expMU, expPC, expEV (29), texMU,
texPC, texEV, tri (from 1), tri_mouth, kpt_ind (68, from 1); micrometres; modes apart from their deviations; +x to the
subject's left, +y up, +z to the viewer.

Our coefficients are in deviations; face3d's own `sp` and `ep` are these times shapeEV and expEV, kept in
`extra["identity_scale"]` and `extra["expression_scale"]`. face3d adds expMU to every face: `extra["expression_mean"]`.
"""

from pathlib import Path

import numpy as np

from sameface.core.errors import BadModel
from sameface.morphable import MorphableModel
from sameface.morphable._checks import as_basis, checked, linear_albedo, outwardness, require
from sameface.morphable._landmarks import on_vertices
from sameface.morphable._matlab import read_matlab

__all__ = ["load"]

LICENCE = "Derived from the Basel Face Model 2009: academic research only, no redistribution"
FIELDS = ("shapeMU", "shapePC", "shapeEV", "expMU", "expPC", "expEV", "tri", "kpt_ind")


def load(path: Path) -> MorphableModel:
    """Read BFM.mat."""
    path = Path(path)
    outer = read_matlab(path)
    require(outer, ("model",), path, "face3d's BFM.mat")
    model = outer["model"]
    if model.dtype.names is None or model.size != 1:
        raise BadModel(f"{path}: model is no structure; expected that of face3d's BFM.mat")
    source = {name: model.flat[0][name] for name in model.dtype.names}
    require(source, FIELDS, path, "face3d's BFM.mat")
    for name in FIELDS:
        if not isinstance(source[name], np.ndarray) or source[name].dtype.kind not in "iuf":
            raise BadModel(f"{path}: {name} is no array of numbers")
    mean, added = (np.asarray(source[name], np.float32).reshape(-1, 3) / 1000 for name in ("shapeMU", "expMU"))
    if added.shape != mean.shape:
        raise BadModel(f"{path}: shapeMU is of {len(mean)} vertices, but expMU of {len(added)}")
    triangles = source["tri"].astype(np.int64) - 1
    faces = triangles.T if triangles.ndim == 2 and triangles.shape[0] == 3 else triangles
    ids = source["kpt_ind"].astype(np.int64).ravel() - 1
    if faces.ndim != 2 or faces.shape[1] != 3 or faces.min() < 0 or faces.max() >= len(mean) or len(ids) != 68:
        raise BadModel(f"{path}: tri has shape {triangles.shape}, kpt_ind {len(ids)}; expected (T, 3) and 68, from 1")
    faces = faces if outwardness(mean, faces) > 0 else faces[:, [0, 2, 1]]
    chosen, weights = on_vertices(ids, faces, path)
    deviations = {kind: np.ravel(source[f"{kind}EV"]).astype(np.float32) for kind in ("shape", "exp")}
    expression = as_basis(source["expPC"], deviations["exp"] / 1000, len(mean), path, "expPC")
    colours = None, None
    if {"texMU", "texPC", "texEV"} <= source.keys():
        basis = as_basis(source["texPC"], np.ravel(source["texEV"]) / 255, len(mean), path, "texPC")
        colours = linear_albedo(np.asarray(source["texMU"], np.float32).reshape(-1, 3) / 255, basis)
    return checked(
        MorphableModel(
            name=f"face3d-{len(mean)}",
            licence=LICENCE,
            mean=mean,
            identity_basis=as_basis(source["shapePC"], deviations["shape"] / 1000, len(mean), path, "shapePC"),
            expression_basis=expression,
            faces=faces,
            landmark_faces=chosen,
            landmark_weights=weights,
            expression_names=tuple(f"expression{i}" for i in range(expression.shape[2])),
            albedo_mean=colours[0],
            albedo_basis=colours[1],
            extra={
                "expression_mean": added,
                "identity_scale": deviations["shape"],
                "expression_scale": deviations["exp"],
            },
            unit=0.001,
        ),
        path,
    )
