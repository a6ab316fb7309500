"""3DDFA's cut of the Basel Face Model (Zhu et al., TPAMI 2017; Guo et al., ECCV 2020): the "noneck" files.

Licence: derived from the Basel Face Model 2009: academic research, no redistribution. Topology: 53,215 vertices
(3DDFA's train.configs folder) or 38,365 (3DDFA_V2's bfm_noneck_v3.pkl); also the 68 landmarks alone (3DDFA's
c++/weights folder, `load_sparse`). The files: micrometres; +x to the subject's left, +y up, +z to the viewer; rows
x0, y0, z0, x1, …; mean u, or u_shp + u_exp; 40 shape and 10 expression modes without their deviations.

What σ means here: a face is u + w_shp a + w_exp e, where shape modes have unit norm over the whole mesh, so that a
runs to 1e6, and e is about 1. 3DDFA's networks predict z with (a, e) = m + s z, where m and s are the mean and
deviation over their training photos (300W-LP), kept in a file of statistics. Our coefficient α is a/s: one unit is
one deviation of those photos (not of Basel's scans). m is not folded in: α = 0 is the mean face u, and a network's z
is α = z + m/s, with m/s in `extra["identity_offset"]` and `extra["expression_offset"]`; the statistics themselves, of
all 62 parameters in the files' units, are in `extra["parameters_mean"]` and `extra["parameters_std"]`. Those of 3DDFA
and of 3DDFA_V2 differ (up to a factor of 4), so use those of your network; without any, the scale of a face is unknown
and nothing is loaded.
"""

from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from sameface.core.errors import AssetMissing, BadModel
from sameface.core.files import read_text
from sameface.morphable import MorphableModel
from sameface.morphable._checks import as_basis, checked, outwardness, require
from sameface.morphable._landmarks import on_vertices
from sameface.morphable._matlab import needed, read_matlab
from sameface.morphable.pickles import read_npy, read_pickle

__all__ = ["load", "load_sparse"]

LICENCE = "Derived from the Basel Face Model 2009: academic research only, no redistribution"
V2_MODEL, V2_STATISTICS, V2_TRIANGLES = "bfm_noneck_v3.pkl", "param_mean_std_62d_120x120.pkl", "tri.pkl"
V1_STATISTICS, V1_TRIANGLES = "param_whitening.pkl", ("tri.mat", "../visualize/tri.mat")
POSE = 12
"""the first numbers of the statistics belong to the pose"""


@dataclass(frozen=True)
class _Parts:
    """What every variant of the files gives, still in micrometres."""

    mean: np.ndarray
    shape: np.ndarray
    expression: np.ndarray
    ids: Int[np.ndarray, " 68"]
    faces: Int[np.ndarray, "F 3"]


def load(path: Path, *, statistics: Path | None = None) -> MorphableModel:
    """Read 3DDFA's train.configs folder, or 3DDFA_V2's bfm_noneck_v3.pkl (or the folder that has it).

    `statistics` is the pickle with mean and deviation of the 62 parameters; by default the one that comes with the
    variant, beside the model. Triangles are in tri.pkl beside the pickle, and in the folder's tri.mat or
    ../visualize/tri.mat.
    """
    path = Path(path)
    if path.is_dir() and (path / V2_MODEL).exists():
        path = path / V2_MODEL
    folder = path if path.is_dir() else path.parent
    parts = _from_folder(path) if path.is_dir() else _from_pickle(path)
    default = folder / (V1_STATISTICS if path.is_dir() else V2_STATISTICS)
    chosen = Path(statistics) if statistics is not None else default
    if not chosen.exists():
        raise AssetMissing(
            f"{chosen} is missing: without the deviations of the 62 parameters the coefficients of {path} have no "
            "scale; add it, or give `statistics`"
        )
    return _model(parts, read_pickle(chosen), path)


def load_sparse(path: Path, *, statistics: Path | None = None) -> MorphableModel:
    """Read the 68-point model of 3DDFA's c++/weights: u_base, w_shp_base, w_exp_base, param_mean, param_std (.txt).

    The vertices are the landmarks, in order; the faces are their Delaunay triangles seen from the front. param_mean and
    param_std are 3DDFA's statistics; give 3DDFA_V2's pickle as `statistics` for its networks.
    """
    path = Path(path)
    tables = {name: _text(path, name) for name in ("u_base", "w_shp_base", "w_exp_base")}
    if statistics is not None:
        values = read_pickle(Path(statistics))
    else:
        values = {"mean": _text(path, "param_mean"), "std": _text(path, "param_std")}
    if tables["u_base"].size != 204:
        raise BadModel(f"{path}/u_base.txt has {tables['u_base'].size} numbers; expected 204, 68 points of x, y, z")
    spatial = needed("scipy.spatial", "triangulating the 68 points")
    faces = spatial.Delaunay(tables["u_base"].reshape(-1, 3)[:, :2]).simplices.astype(np.int64)
    parts = _Parts(tables["u_base"], tables["w_shp_base"], tables["w_exp_base"], np.arange(68), faces)
    return _model(parts, values, path)


def _text(folder: Path, name: str) -> np.ndarray:
    file = folder / f"{name}.txt"
    if not file.exists():
        raise AssetMissing(f"{file} is missing; it comes from c++/weights of 3DDFA")
    try:
        return np.loadtxt(StringIO(read_text(file, error=BadModel)))
    except ValueError as error:
        raise BadModel(f"{file} is no table of numbers ({error}); download it again") from None


def _from_folder(folder: Path) -> _Parts:
    names = ("u_shp", "u_exp", "w_shp_sim", "w_exp_sim", "keypoints_sim")
    absent = [name for name in names if not (folder / f"{name}.npy").exists()]
    if absent:
        raise AssetMissing(f"{folder} lacks {', '.join(f'{name}.npy' for name in absent)} of 3DDFA's train.configs")
    arrays = {name: read_npy(folder / f"{name}.npy") for name in names}
    for name in V1_TRIANGLES:
        if (folder / name).exists():
            source = read_matlab(folder / name)
            require(source, ("tri",), folder / name, "3DDFA's triangles")
            faces = _faces(source["tri"].astype(np.int64) - 1, folder / name)
            break
    else:
        raise AssetMissing(f"{folder} has no triangles; add tri.mat of 3DDFA's visualize folder")
    mean = arrays["u_shp"] + arrays["u_exp"]
    return _Parts(mean, arrays["w_shp_sim"], arrays["w_exp_sim"], _ids(arrays["keypoints_sim"], folder), faces)


def _from_pickle(path: Path) -> _Parts:
    source = read_pickle(path)
    if not isinstance(source, dict):
        raise BadModel(f"{path} holds a {type(source).__name__}; expected the dict of {V2_MODEL}")
    require(source, ("u", "w_shp", "w_exp", "keypoints"), path, "3DDFA_V2's model")
    beside = path.parent / V2_TRIANGLES
    if beside.exists():
        triangles = read_pickle(beside)
    elif "tri" in source:
        triangles = source["tri"]
    else:
        raise AssetMissing(f"{path} holds no triangles; add 3DDFA_V2's configs/{V2_TRIANGLES} beside it")
    faces = _faces(triangles, beside if beside.exists() else path)
    return _Parts(source["u"], source["w_shp"], source["w_exp"], _ids(source["keypoints"], path), faces)


def _faces(triangles: Any, path: Path) -> Int[np.ndarray, "F 3"]:
    table = np.asarray(triangles)
    if table.ndim != 2 or 3 not in table.shape or table.dtype.kind not in "iuf":
        raise BadModel(f"{path}: the triangles have shape {table.shape}; expected (3, triangles)")
    return (table.T if table.shape[0] == 3 else table).astype(np.int64)


def _ids(keypoints: Any, path: Path) -> Int[np.ndarray, " 68"]:
    """Vertex ids from the rows of their coordinates: 3i, 3i + 1, 3i + 2 for each landmark."""
    rows = np.ravel(keypoints).astype(np.int64)
    if rows.shape != (204,) or not np.array_equal(rows[::3] // 3 * 3 + 1, rows[1::3]):
        raise BadModel(f"{path}: keypoints has {rows.size} numbers; expected 204, the rows x, y, z of 68 landmarks")
    return rows[::3] // 3


def _statistics(
    source: Any, n_shape: int, n_expression: int, path: Path
) -> tuple[Float[np.ndarray, " K"], Float[np.ndarray, " K"]]:
    """(mean, deviation) of all parameters: pose, shape, expression."""
    if not isinstance(source, dict):
        raise BadModel(f"the statistics for {path} are a {type(source).__name__}; expected a dict of mean and std")
    prefix = "param_" if "param_mean" in source else ""
    require(source, (f"{prefix}mean", f"{prefix}std"), path, "statistics of 3DDFA's parameters")
    mean, deviation = (np.ravel(source[f"{prefix}{name}"]).astype(float) for name in ("mean", "std"))
    expected = POSE + n_shape + n_expression
    if mean.shape != (expected,) or deviation.shape != (expected,) or (deviation <= 0).any():
        raise BadModel(
            f"the statistics for {path} have {len(mean)} means and {len(deviation)} deviations; expected {expected} "
            "each, the deviations positive"
        )
    return mean, deviation


def _model(parts: _Parts, statistics: Any, path: Path) -> MorphableModel:
    mean = np.asarray(parts.mean, np.float32).reshape(-1, 3) / 1000
    n_shape, n_expression = np.shape(parts.shape)[1], np.shape(parts.expression)[1]
    centre, deviation = _statistics(statistics, n_shape, n_expression, path)
    in_mm, offset = deviation[POSE:] / 1000, (centre / deviation).astype(np.float32)[POSE:]
    if parts.faces.min() < 0 or parts.faces.max() >= len(mean):
        raise BadModel(f"{path}: the triangles use vertex {parts.faces.max()}, but there are {len(mean)} vertices")
    faces = parts.faces if outwardness(mean, parts.faces) > 0 else parts.faces[:, [0, 2, 1]]
    chosen, weights = on_vertices(parts.ids, faces, path)
    return checked(
        MorphableModel(
            name=f"tddfa-{len(mean)}",
            licence=LICENCE,
            mean=mean,
            identity_basis=as_basis(np.asarray(parts.shape), in_mm[:n_shape], len(mean), path, "the shape modes"),
            expression_basis=as_basis(
                np.asarray(parts.expression), in_mm[n_shape:], len(mean), path, "the expression modes"
            ),
            faces=faces,
            landmark_faces=chosen,
            landmark_weights=weights,
            expression_names=tuple(f"expression{i}" for i in range(n_expression)),
            extra={
                "identity_offset": offset[:n_shape],
                "expression_offset": offset[n_shape:],
                "parameters_mean": centre.astype(np.float32),
                "parameters_std": deviation.astype(np.float32),
            },
            unit=0.001,
        ),
        path,
    )
