"""Writes a small face in the layout of every model format we read, and says what a reader must make of it."""

import io
import json
import pickle
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial import Delaunay

from sameface.morphable import MorphableModel, bfm2009, bfm2017, flame, gnm, tddfa
from sameface.morphable._landmarks import BFM2009_IDS, NONECK_IDS


@dataclass(frozen=True)
class Face:
    vertices: np.ndarray
    """mm"""
    faces: np.ndarray
    ids: np.ndarray
    """vertex of each landmark"""


@dataclass(frozen=True)
class Written:
    """A file, how to read it, and the right answer (mm, per standard deviation)."""

    path: Path
    module: Any
    mean: np.ndarray
    identity: np.ndarray
    expression: np.ndarray
    faces: np.ndarray
    landmarks: np.ndarray
    """(68, 3) mm"""
    arguments: dict[str, Any] = field(default_factory=dict)
    function: str = "load"

    def load(self) -> MorphableModel:
        return getattr(self.module, self.function)(self.path, **self.arguments)


def _landmark_plan() -> np.ndarray:
    """(68, 2) x and y of plausible landmarks, mm, in iBUG order."""
    turn = np.pi * np.arange(17) / 16
    jaw = np.stack([-70 * np.cos(turn), 10 - 85 * np.sin(turn)], 1)
    brow = np.array([[-52, 46], [-43, 51], [-33, 53], [-24, 51], [-15, 47]])
    bridge = np.array([[0, 30], [0, 20], [0, 10], [0, 0]])
    base = np.array([[-13, -11], [-7, -13], [0, -14], [7, -13], [13, -11]])
    eye = np.array([[-45, 32], [-36, 37], [-26, 37], [-17, 32], [-26, 28], [-36, 28]])
    outer = np.array([[-24, -36], [-15, -31], [-6, -28], [0, -29], [6, -28], [15, -31], [24, -36]])
    lower = np.array([[15, -43], [7, -47], [0, -48], [-7, -47], [-15, -43]])
    inner = np.array([[-20, -36], [-7, -34], [0, -34], [7, -34], [20, -36], [7, -38], [0, -39], [-7, -38]])
    left = [-1, 1]
    other_eye = (eye * left)[[3, 2, 1, 0, 5, 4]]
    return np.concatenate([jaw, brow, (brow * left)[::-1], bridge, base, eye, other_eye, outer, lower, inner])


def small_face() -> Face:
    """An ellipsoid's front, a few hundred vertices in no particular order, faces counter-clockwise from outside."""
    points = _landmark_plan()
    grid = np.stack(np.meshgrid(np.linspace(-85, 85, 15), np.linspace(-110, 105, 19)), -1).reshape(-1, 2)
    inside = (grid[:, 0] / 95) ** 2 + (grid[:, 1] / 125) ** 2 < 0.95
    apart = np.linalg.norm(grid[:, None] - points[None], axis=-1).min(1) > 5
    flat = np.concatenate([points, grid[inside & apart]]).astype(float)
    depth = 30 + 90 * np.sqrt(1 - (flat[:, 0] / 95) ** 2 - (flat[:, 1] / 125) ** 2)
    order = np.random.default_rng(0).permutation(len(flat))
    place = np.argsort(order)
    faces = place[Delaunay(flat).simplices].astype(np.int64)
    return Face(np.column_stack([flat, depth])[order], faces, place[:68])


def embedded(face: Face, n_vertices: int, ids: np.ndarray) -> Face:
    """The same surface inside a larger list of vertices, with the landmarks at the given ids."""
    rng = np.random.default_rng(1)
    free = np.setdiff1d(np.arange(n_vertices), ids)
    slots = np.zeros(len(face.vertices), np.int64)
    slots[face.ids] = ids
    others = np.setdiff1d(np.arange(len(face.vertices)), face.ids)
    slots[others] = rng.choice(free, len(others), replace=False)
    vertices = rng.normal(size=(n_vertices, 3)) * 30
    vertices[slots] = face.vertices
    return Face(vertices, slots[face.faces], ids)


def unit_modes(n_vertices: int, count: int, seed: int) -> np.ndarray:
    """(3V, K) random modes of unit length, as the PCA models store them."""
    modes = np.random.default_rng(seed).normal(size=(3 * n_vertices, count))
    return modes / np.linalg.norm(modes, axis=0)


def _per_sigma(modes: np.ndarray, deviations: np.ndarray) -> np.ndarray:
    return (modes * deviations).reshape(-1, 3, modes.shape[1])


def _written(path: Path, module: Any, face: Face, identity: np.ndarray, expression: np.ndarray, **more: Any) -> Written:
    landmarks = face.vertices[face.ids]
    return Written(path, module, face.vertices, identity, expression, face.faces, landmarks, **more)


def ids_file(folder: Path, ids: np.ndarray, name: str = "ids.txt") -> Path:
    path = folder / name
    path.write_text("# 68 vertices, from 0\n" + "\n".join(map(str, ids)) + "\n")
    return path


# ---- Basel ----


def bfm2009_arrays(face: Face) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The arrays of 01_MorphableModel.mat, and identity modes in mm."""
    n = len(face.vertices)
    modes, deviations = unit_modes(n, 3, 2), np.array([884340.0, 555880.0, 419620.0])
    colours = np.random.default_rng(3).uniform(0, 255, (3 * n, 1))
    arrays = {
        "shapeMU": np.float32(face.vertices.reshape(-1, 1) * 1000),
        "shapePC": np.float32(modes),
        "shapeEV": np.float32(deviations[:, None]),
        "texMU": np.float32(colours),
        "texPC": np.float32(unit_modes(n, 2, 4)),
        "texEV": np.float32([[4000.0], [1000.0]]),
        "tl": np.float64(face.faces[:, [0, 2, 1]] + 1),
        "segbin": np.uint8(np.arange(n)[:, None] % 4 == np.arange(4)),
    }
    return arrays, _per_sigma(modes, deviations / 1000)


def write_bfm2009(folder: Path) -> Written:
    from scipy.io import savemat

    face = embedded(small_face(), 53490, BFM2009_IDS)
    arrays, identity = bfm2009_arrays(face)
    savemat(folder / "01_MorphableModel.mat", arrays)
    return _written(folder / "01_MorphableModel.mat", bfm2009, face, identity, np.zeros((53490, 3, 0)))


def write_bfm2009_small(folder: Path) -> Written:
    """Matlab 7.3: HDF5 behind 512 bytes of Matlab header, every matrix transposed."""
    import h5py

    face = small_face()
    arrays, identity = bfm2009_arrays(face)
    path = folder / "01_MorphableModel.mat"
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, array in arrays.items():
            file[name] = array.T
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")
    none = np.zeros((len(face.vertices), 3, 0))
    return _written(path, bfm2009, face, identity, none, arguments={"landmarks": ids_file(folder, face.ids)})


def write_bfm2009_expressions(folder: Path, binary: bool = False) -> Written:
    from scipy.io import savemat

    kept = np.sort(np.random.default_rng(5).permutation(53490)[:53215])
    whole = embedded(small_face(), 53490, kept[NONECK_IDS])
    used = np.isin(whole.faces, kept).all(1)
    arrays, identity = bfm2009_arrays(whole)
    savemat(folder / "01_MorphableModel.mat", arrays)
    modes, deviations = unit_modes(53215, 2, 6) * 13000, np.array([1.5, 0.6])
    mean = np.full((159645, 1), 250.0)
    if binary:
        savemat(folder / "BFM_exp_idx.mat", {"trimIndex": kept[:, None] + 1})
        numbers = np.float32(np.concatenate([mean.T, modes.T])).tobytes()
        (folder / "Exp_Pca.bin").write_bytes(struct.pack("<i", 2) + numbers)
        (folder / "std_exp.txt").write_text(" ".join(map(str, deviations)))
    else:
        savemat(folder / "model_info.mat", {"trimIndex": kept[:, None] + 1})
        sigma = deviations[:, None]
        savemat(folder / "Model_Expression.mat", {"mu_exp": mean, "w_exp": np.float32(modes), "sigma_exp": sigma})
    face = Face(whole.vertices[kept], np.searchsorted(kept, whole.faces[used]), NONECK_IDS)
    expressions = folder / ("Exp_Pca.bin" if binary else "Model_Expression.mat")
    expression = _per_sigma(modes, deviations / 1000)
    path = folder / "01_MorphableModel.mat"
    return _written(path, bfm2009, face, identity[kept], expression, arguments={"expressions": expressions})


def write_bfm2009_binary(folder: Path) -> Written:
    return write_bfm2009_expressions(folder, binary=True)


def write_bfm2017(folder: Path) -> Written:
    import h5py

    face, path = small_face(), folder / "model2017-1_face12_nomouth.h5"
    n = len(face.vertices)
    parts = {"shape": (3, [900.0, 400.0, 100.0]), "expression": (2, [50.0, 20.0]), "color": (2, [9.0, 4.0])}
    means = {"shape": face.vertices.ravel(), "expression": np.full(3 * n, 0.3), "color": np.full(3 * n, 0.5)}
    truth = {}
    with h5py.File(path, "w") as file:
        for seed, (part, (count, variances)) in enumerate(parts.items()):
            modes = unit_modes(n, count, seed)
            file[f"{part}/model/mean"] = np.float32(means[part])
            file[f"{part}/model/pcaBasis"] = np.float32(modes)
            file[f"{part}/model/pcaVariance"] = np.float32(variances)
            file[f"{part}/representer/cells"] = np.int32(face.faces.T)
            file[f"{part}/representer/points"] = np.float32(face.vertices.T)
            truth[part] = _per_sigma(modes, np.sqrt(variances))
        points = [{"id": "center.nose.tip", "coordinates": face.vertices[face.ids[30]].tolist()}]
        file["metadata/landmarks/json"] = json.dumps(points)
    ids_file(folder, face.ids, f"Landmarks68_{path.stem}.anl")
    return _written(path, bfm2017, face, truth["shape"], truth["expression"])


# ---- 3DDFA ----


def _tddfa_parts(face: Face) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(arrays in µm, means, deviations of the 62 parameters, identity and expression in mm)."""
    n = len(face.vertices)
    shape, expression = unit_modes(n, 40, 7), unit_modes(n, 10, 8) * 13000
    rng = np.random.default_rng(9)
    mean = rng.normal(size=62)
    deviation = np.concatenate([rng.uniform(0.1, 1, 12), np.geomspace(5e5, 1e4, 40), np.geomspace(1.5, 0.1, 10)])
    mean[12:] *= deviation[12:]
    arrays = {"u": face.vertices.reshape(-1, 1) * 1000, "w_shp": shape, "w_exp": expression}
    arrays = {name: np.float32(array) for name, array in arrays.items()}
    arrays["keypoints"] = (3 * face.ids[:, None] + np.arange(3)).ravel()
    in_mm = deviation[12:] / 1000
    return arrays, mean, deviation, _per_sigma(shape, in_mm[:40]), _per_sigma(expression, in_mm[40:])


def write_tddfa(folder: Path) -> Written:
    """train.configs of 3DDFA with ../visualize/tri.mat, clockwise and from 1."""
    from scipy.io import savemat

    face, configs = small_face(), folder / "train.configs"
    arrays, mean, deviation, identity, expression = _tddfa_parts(face)
    configs.mkdir()
    (folder / "visualize").mkdir()
    part = np.float32(np.full_like(arrays["u"], 125.0))
    contents = {"u_shp": arrays["u"] - part, "u_exp": part, "w_shp_sim": arrays["w_shp"], "w_exp_sim": arrays["w_exp"]}
    for name, array in (contents | {"keypoints_sim": arrays["keypoints"]}).items():
        np.save(configs / f"{name}.npy", array)
    statistics = {"param_mean": np.float32(mean), "param_std": np.float32(deviation)}
    (configs / "param_whitening.pkl").write_bytes(pickle.dumps(statistics, protocol=2))
    savemat(folder / "visualize" / "tri.mat", {"tri": np.float64(face.faces[:, [0, 2, 1]].T + 1)})
    return _written(configs, tddfa, face, identity, expression)


def write_tddfa_v2(folder: Path) -> Written:
    face = small_face()
    arrays, mean, deviation, identity, expression = _tddfa_parts(face)
    statistics = {"mean": np.float32(mean), "std": np.float32(deviation)}
    (folder / "bfm_noneck_v3.pkl").write_bytes(pickle.dumps(arrays, protocol=4))
    (folder / "tri.pkl").write_bytes(pickle.dumps(np.int64(face.faces.T), protocol=4))
    (folder / "param_mean_std_62d_120x120.pkl").write_bytes(pickle.dumps(statistics, protocol=3))
    return _written(folder / "bfm_noneck_v3.pkl", tddfa, face, identity, expression)


def write_tddfa_sparse(folder: Path) -> Written:
    whole = small_face()
    points = whole.vertices[whole.ids]
    face = Face(points, np.int64(Delaunay(points[:, :2]).simplices), np.arange(68))
    arrays, mean, deviation, identity, expression = _tddfa_parts(face)
    for name, key in (("u_base", "u"), ("w_shp_base", "w_shp"), ("w_exp_base", "w_exp")):
        np.savetxt(folder / f"{name}.txt", arrays[key])
    np.savetxt(folder / "param_mean.txt", mean)
    np.savetxt(folder / "param_std.txt", deviation)
    return _written(folder, tddfa, face, identity, expression, function="load_sparse")


# ---- FLAME ----


@dataclass(frozen=True)
class Python2:
    """An object of Python 2: `\\n`-separated module and class, with a state."""

    name: str
    state: Any


def write_tddfa_sparse_v2(folder: Path) -> Written:
    """The 68 points beside 3DDFA_V2's statistics, with numbers as a face in 120 px has them."""
    written = write_tddfa_sparse(folder)
    mean, std = np.zeros(62), np.full(62, 1000.0)
    mean[[0, 5, 10]], mean[[3, 7]] = 4e-4, 60
    std[:12], std[[3, 7, 11]] = 2e-4, 20
    (folder / "param_mean_std_62d_120x120.pkl").write_bytes(pickle.dumps({"mean": mean, "std": std}))
    return written


def python2_pickle(value: Any) -> bytes:
    """Protocol 2 as Python 2 wrote it: texts and array contents are its 8-bit `str`."""
    return b"\x80\x02" + _python2(value) + b"."


def _python2(value: Any) -> bytes:
    if value is None:
        return b"N"
    if isinstance(value, Python2):
        return b"c" + value.name.encode() + b"\n)\x81" + _python2(value.state) + b"b"
    if isinstance(value, bool):
        return b"\x88" if value else b"\x89"
    if isinstance(value, int):
        return b"J" + struct.pack("<i", value)
    if isinstance(value, str | bytes):
        raw = value.encode("latin1") if isinstance(value, str) else value
        return b"T" + struct.pack("<I", len(raw)) + raw
    if isinstance(value, tuple):
        return b"(" + b"".join(map(_python2, value)) + b"t"
    if isinstance(value, list):
        return b"](" + b"".join(map(_python2, value)) + b"e"
    if isinstance(value, dict):
        return b"}(" + b"".join(_python2(k) + _python2(v) for k, v in value.items()) + b"u"
    return _python2_array(value)


def _python2_array(array: np.ndarray) -> bytes:
    empty = b"(cnumpy\nndarray\n" + _python2((0,)) + _python2("b") + b"tR"
    kind = "O8" if array.dtype.hasobject else array.dtype.str[1:]
    order = ("|", None, None, None, -1, -1, 63) if array.dtype.hasobject else ("<", None, None, None, -1, -1, 0)
    dtype = b"cnumpy\ndtype\n" + _python2((kind, 0, 1)) + b"R" + _python2((3, *order)) + b"b"
    content = list(array.ravel()) if array.dtype.hasobject else array.tobytes()
    state = b"(" + _python2(1) + _python2(array.shape) + dtype + _python2(False) + _python2(content) + b"tb"
    return b"cnumpy.core.multiarray\n_reconstruct\n" + empty + state


def object_npy(value: Any) -> bytes:
    """What np.save made of a dict in Python 2."""
    file = io.BytesIO()
    header = {"descr": "|O", "fortran_order": False, "shape": ()}
    np.lib.format.write_array_header_1_0(file, header)
    boxed = np.empty((), object)
    boxed[()] = value
    return file.getvalue() + python2_pickle(boxed)


def _flame_arrays(face: Face) -> tuple[dict[str, np.ndarray], np.ndarray]:
    n = len(face.vertices)
    modes = np.random.default_rng(10).normal(size=(n, 3, 400)) * 0.001
    regressor = np.zeros((5, n))
    regressor[np.arange(5), face.ids[:5]] = 1.0
    arrays = {
        "v_template": face.vertices / 1000,
        "shapedirs": modes,
        "posedirs": np.full((n, 3, 36), 0.002),
        "J_regressor": regressor,
        "weights": np.full((n, 5), 0.2),
        "kintree_table": np.array([[2**32 - 1, 0, 1, 1, 1], [0, 1, 2, 3, 4]], np.uint32),
        "f": np.uint32(face.faces),
    }
    return arrays, modes * 1000


def corner_embedding(face: Face, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(faces, weights) of landmarks that are vertices, found by looking."""
    at = [np.argwhere(face.faces == vertex)[0] for vertex in ids]
    weights = np.zeros((len(ids), 3))
    weights[np.arange(len(ids)), [corner for _, corner in at]] = 1
    return np.array([row for row, _ in at]), weights


def write_flame(folder: Path) -> Written:
    """A Python 3 pickle of plain arrays, as of 2023, with DECA's landmark file."""
    face = small_face()
    arrays, modes = _flame_arrays(face)
    (folder / "flame2023_Open.pkl").write_bytes(pickle.dumps(arrays, protocol=4))
    faces, weights = corner_embedding(face, face.ids)
    tensor = Python2("torch._utils\n_rebuild_tensor_v2", {"x": 1})
    embedding = {
        "static_lmk_faces_idx": faces[17:],
        "static_lmk_bary_coords": weights[17:],
        "dynamic_lmk_faces_idx": tensor,
        "dynamic_lmk_bary_coords": tensor,
        "full_lmk_faces_idx": faces[None],
        "full_lmk_bary_coords": weights[None],
    }
    (folder / "landmark_embedding.npy").write_bytes(object_npy(embedding))
    return _written(folder / "flame2023_Open.pkl", flame, face, modes[..., :300], modes[..., 300:])


def write_flame_2020(folder: Path) -> Written:
    """A Python 2 pickle with chumpy arrays and a scipy matrix, with FLAME's own two landmark files."""
    from scipy.sparse import csc_matrix

    face = small_face()
    arrays, modes = _flame_arrays(face)
    sparse = csc_matrix(arrays["J_regressor"])
    state = {"data": sparse.data, "indices": sparse.indices, "indptr": sparse.indptr, "_shape": sparse.shape}
    old: dict[str, Any] = dict(arrays)
    for name in ("v_template", "shapedirs"):
        old[name] = Python2("chumpy.ch\nCh", {"x": arrays[name], "_itr": None, "_depends": [], "name": name})
    old["J_regressor"] = Python2("scipy.sparse.csc\ncsc_matrix", state | {"maxprint": 50, "format": "csc"})
    (folder / "generic_model.pkl").write_bytes(python2_pickle(old))
    faces, weights = corner_embedding(face, face.ids)
    static = {"lmk_face_idx": faces[17:], "lmk_b_coords": weights[17:]}
    (folder / "flame_static_embedding.pkl").write_bytes(python2_pickle(static))
    yaws = np.zeros((79, 17), np.int64), np.full((79, 17, 3), 1 / 3)
    yaws[0][0], yaws[1][0] = faces[:17], weights[:17]
    dynamic = {"lmk_face_idx": yaws[0], "lmk_b_coords": yaws[1]}
    (folder / "flame_dynamic_embedding.npy").write_bytes(object_npy(dynamic))
    return _written(folder / "generic_model.pkl", flame, face, modes[..., :300], modes[..., 300:])


# ---- GNM ----


def gnm_landmark_rows(face: Face) -> list[str]:
    """i0 w0 i1 w1 i2 w2: each landmark between its vertex and, with weight 0, two that share no face with it."""
    return [f"{vertex} 1.0 0 0.0 1 0.0" for vertex in face.ids]


def write_gnm(folder: Path, reversed_jaw: bool = False) -> Written:
    face, rng = small_face(), np.random.default_rng(11)
    n = len(face.vertices)
    identity, expression = rng.normal(size=(4, n, 3)) * 0.002, rng.normal(size=(3, n, 3)) * 0.001
    mirror = np.arange(n)
    mirror[face.ids[[36, 45]]] = face.ids[[45, 36]]
    np.savez(
        folder / "gnm_head.npz",
        version=np.array("3.0"),
        variant=np.array("head"),
        template_vertex_positions=np.float32(face.vertices / 1000),
        vertex_identity_basis=np.float32(identity),
        expression_basis=np.float32(expression),
        template_joint_positions=np.float32(np.full((4, 3), 0.01)),
        triangles=np.int32(face.faces),
        triangle_uvs=np.float32(rng.uniform(size=(len(face.faces), 3, 2))),
        mirror_indices=np.int32(mirror),
        vertex_groups=np.float32([np.linspace(0, 1, n), np.ones(n)]),
        vertex_group_names=np.array(["upper", "skin"]),
        expression_names=np.array(["left_eye_region_0", "lower_face_region_0", "tongue_0"]),
        identity_names=np.array([f"head_{i}" for i in range(4)]),
    )
    rows = gnm_landmark_rows(face)
    if reversed_jaw:
        rows[2:7] = rows[2:7][::-1]
    (folder / "head_sparse_68.txt").write_text("\n".join(rows) + "\n")
    in_mm = [np.moveaxis(modes, 0, 2) * 1000 for modes in (identity, expression)]
    return _written(folder / "gnm_head.npz", gnm, face, *in_mm)


def write_gnm_early(folder: Path) -> Written:
    return write_gnm(folder, reversed_jaw=True)


WRITERS = {
    "bfm2009": write_bfm2009,
    "bfm2009, Matlab 7.3": write_bfm2009_small,
    "bfm2009 with Model_Expression.mat": write_bfm2009_expressions,
    "bfm2009 with Exp_Pca.bin": write_bfm2009_binary,
    "bfm2017": write_bfm2017,
    "tddfa": write_tddfa,
    "tddfa V2": write_tddfa_v2,
    "tddfa, 68 points": write_tddfa_sparse,
    "flame 2023": write_flame,
    "flame 2020": write_flame_2020,
    "gnm": write_gnm,
    "gnm, early landmarks": write_gnm_early,
}
