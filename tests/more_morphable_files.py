"""The same small face in the layouts that people pass on: exports, cuts and containers of the models."""

import json
import pickle
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np

from morphable_files import (
    Face,
    Python2,
    Written,
    _flame_arrays,
    _per_sigma,
    _written,
    corner_embedding,
    embedded,
    gnm_landmark_rows,
    object_npy,
    python2_pickle,
    small_face,
    unit_modes,
    write_flame,
)
from sameface.morphable import bfm2017, deep3d, face3d, flame, gnm, ict
from sameface.morphable._landmarks import BFM2009_IDS
from sameface.morphable.ict import CONTOUR_IDS, JAW_IDS


def python2_lines(value: object) -> bytes:
    """Protocol 0 as Python 2 wrote it: one line after the other, texts and the bytes of arrays as 8-bit `str`."""
    return _lines(value) + b"."


def _lines(value: object) -> bytes:
    if isinstance(value, bytes | str):
        raw = value.encode("latin1") if isinstance(value, str) else value
        escaped = repr(raw)[1:]
        return b"S" + escaped.encode("ascii") + b"\n"
    if isinstance(value, bool):
        return b"I01\n" if value else b"I00\n"
    if isinstance(value, int):
        return b"I%d\n" % value
    if value is None:
        return b"N"
    if isinstance(value, tuple):
        return b"(" + b"".join(map(_lines, value)) + b"t"
    if isinstance(value, dict):
        return b"(d" + b"".join(_lines(k) + _lines(v) + b"s" for k, v in value.items())
    assert isinstance(value, np.ndarray)
    dtype = b"cnumpy\ndtype\n(" + _lines(value.dtype.str[1:]) + b"I0\nI1\ntR(I3\nS'<'\nNNNI-1\nI-1\nI0\ntb"
    content = _lines(value.shape) + dtype + b"I00\n" + _lines(value.tobytes())
    return b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR(I1\n" + content + b"tb"


def static_embedding(face: Face) -> dict[str, np.ndarray]:
    """FLAME's 51 inner points; as in its own file, unsigned numbers and many bytes above 0x7f."""
    faces, weights = corner_embedding(face, face.ids)
    near = weights[17:] * 0.98 + 0.02 / 3
    return {"lmk_face_idx": faces[17:].astype(np.uint32), "lmk_b_coords": near}


def write_flame_npz(folder: Path) -> Written:
    """The arrays of FLAME by numpy.savez, the regressor still scipy's; with MediaPipe's points beside it."""
    face = small_face()
    arrays, modes = _flame_arrays(face)
    write_flame(folder)  # for landmark_embedding.npy
    from scipy.sparse import csc_matrix

    boxed = np.empty((), object)
    boxed[()] = csc_matrix(arrays["J_regressor"])
    np.savez(folder / "flame2023.npz", **arrays | {"J_regressor": boxed})
    points = {"lmk_face_idx": np.arange(5, dtype=np.uint32), "landmark_indices": np.arange(100, 105)}
    np.savez(folder / "mediapipe_landmark_embedding.npz", lmk_b_coords=np.full((5, 3), 1 / 3), **points)
    return _written(folder / "flame2023.npz", flame, face, modes[..., :300], modes[..., 300:])


def write_flame_150(folder: Path) -> Written:
    """100 modes of identity and 50 of expression, chumpy within."""
    written = write_flame(folder)
    arrays, modes = _flame_arrays(small_face())
    kept = np.r_[0:100, 300:350]
    chumpy = Python2("chumpy.ch\nCh", {"x": arrays["shapedirs"][..., kept]})
    path = folder / "generic_model.pkl"
    path.write_bytes(python2_pickle(arrays | {"shapedirs": chumpy, "kintree_table": np.int64([[-1, 0], [0, 1]])}))
    return replace(written, path=path, identity=modes[..., :100], expression=modes[..., 300:350])


def write_deep3d(folder: Path) -> Written:
    """Matlab, decimetres, from 1, rows instead of columns."""
    from scipy.io import savemat

    face, path = small_face(), folder / "BFM_model_front.mat"
    n = len(face.vertices)
    identity, expression, colours = (unit_modes(n, count, seed) for count, seed in ((8, 1), (6, 2), (3, 3)))
    arrays = {
        "meanshape": face.vertices.reshape(1, -1) / 100, "idBase": identity, "exBase": expression,
        "meantex": np.full((1, 3 * n), 120.0), "texBase": colours * 100, "tri": face.faces[:, [0, 2, 1]] + 1,
        "keypoints": face.ids[None] + 1, "skinmask": np.ones((1, n)),
    }  # fmt: skip
    savemat(path, arrays)
    return _written(path, deep3d, face, _per_sigma(identity, np.full(8, 100)), _per_sigma(expression, np.full(6, 100)))


def write_tddfa_v3(folder: Path) -> Written:
    """A dict in an object .npy, from 0."""
    face, path = small_face(), folder / "face_model.npy"
    n = len(face.vertices)
    identity, expression, colours = (unit_modes(n, count, seed) for count, seed in ((8, 1), (6, 2), (3, 3)))
    content = {
        "u": face.vertices.reshape(-1, 1) / 100, "id": identity, "exp": expression, "u_alb": np.full((3 * n, 1), 120.0),
        "alb": colours * 100, "point_buf": np.zeros((n, 8), np.int64), "tri": face.faces, "ldm68": face.ids,
        "uv_coords": np.random.default_rng(4).uniform(size=(n, 3)), "annotation": [np.arange(3), np.arange(2)],
        "parallel": [[1, 2], [3]],
    }  # fmt: skip
    boxed = np.empty((), object)
    boxed[()] = content
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": ()})
        file.write(pickle.dumps(boxed, protocol=4))
    return _written(path, deep3d, face, _per_sigma(identity, np.full(8, 100)), _per_sigma(expression, np.full(6, 100)))


def write_face3d(folder: Path) -> Written:
    """One Matlab structure with everything in it, packed."""
    from scipy.io import savemat

    face, path = small_face(), folder / "BFM.mat"
    n = len(face.vertices)
    shape, expression = unit_modes(n, 5, 1), unit_modes(n, 4, 2) * 13000
    deviations, spreads = np.array([9e5, 5e5, 4e5, 2e5, 1e5]), np.array([1.5, 0.9, 0.6, 0.3])
    model = {
        "shapeMU": face.vertices.reshape(-1, 1) * 1000, "shapePC": shape, "shapeEV": deviations[:, None],
        "expMU": np.full((3 * n, 1), 125.0), "expPC": expression, "expEV": spreads[:, None],
        "texMU": np.full((3 * n, 1), 130.0), "texPC": unit_modes(n, 2, 3), "texEV": np.array([[900.0], [300.0]]),
        "tri": face.faces[:, [0, 2, 1]].T + 1.0, "tri_mouth": np.ones((3, 114)), "kpt_ind": face.ids[None] + 1.0,
    }  # fmt: skip
    savemat(path, {"model": model}, do_compression=True)
    return _written(path, face3d, face, _per_sigma(shape, deviations / 1000), _per_sigma(expression, spreads / 1000))


def write_bfm2009_h5(folder: Path) -> Written:
    """model2009-publicmm1-bfm.h5: as of 2017, but of 53,490 vertices and without expressions."""
    import h5py

    face, path = embedded(small_face(), 53490, BFM2009_IDS), folder / "model2009-publicmm1-bfm.h5"
    modes = unit_modes(53490, 2, 0)
    with h5py.File(path, "w") as file:
        for part, mean in (("shape", face.vertices.ravel()), ("color", np.full(3 * 53490, 0.5))):
            file[f"{part}/model/mean"] = np.float32(mean)
            file[f"{part}/model/pcaBasis"] = np.float32(modes)
            file[f"{part}/model/pcaVariance"] = np.float32([9e5, 4e5])
            file[f"{part}/representer/cells"] = np.int32(face.faces.T)
    none = np.zeros((53490, 3, 0))
    return _written(path, bfm2017, face, _per_sigma(modes, np.sqrt([9e5, 4e5])), none)


def write_ict(folder: Path) -> Written:
    """FaceXModel: one mesh of 26,719 vertices for the mean and for each mode, centimetres."""
    ids, models = np.concatenate([JAW_IDS, CONTOUR_IDS[17:]]), folder / "FaceXModel"
    models.mkdir()
    face = embedded(small_face(), 26719, ids)
    missing = np.setdiff1d(CONTOUR_IDS, ids)  # the other jaw: further corners of the skin
    slots = np.setdiff1d(np.unique(face.faces), ids)[: len(missing)]
    number = np.arange(26719)
    number[slots], number[missing] = missing, slots
    face = Face(face.vertices[number], number[face.faces], ids)
    modes = np.random.default_rng(1).normal(size=(26719, 3, 4)) * 2
    corners = b"".join(b"f %d/1 %d/1 %d/1\n" % tuple(corner + 1) for corner in face.faces)
    names = ["identity000", "identity001", "browDown_L", "jawOpen"]
    for name, mode in zip(
        ["generic_neutral_mesh", *names], [0 * modes[..., 0], *np.moveaxis(modes, 2, 0)], strict=True
    ):
        rows = "".join(f"v {x:.6f} {y:.6f} {z:.6f}\n" for x, y, z in ((face.vertices + mode) / 10).tolist())
        (models / f"{name}.obj").write_bytes(b"# Maya\nvt 0 0\n" + rows.encode() + corners)
    (models / "vertex_indices.json").write_text(json.dumps({"expressions": names[2:]}))
    return _written(folder, ict, face, modes[..., :2], modes[..., 2:])


def write_gnm_web(folder: Path) -> Written:
    """The container of GNM's web viewer: a JSON header, then arrays; modes in int8."""
    face, rng = small_face(), np.random.default_rng(11)
    n, path = len(face.vertices), folder / "gnm_head.gnmw"
    arrays = {
        "vertices": np.float32(face.vertices / 1000), "triangles": np.uint32(face.faces),
        "identity_quantized": rng.integers(-127, 128, (4, 3 * n), np.int8),
        "identity_scales": np.float32([4e-5, 3e-5, 2e-5, 1e-5]),
        "expression_quantized": rng.integers(-127, 128, (3, 3 * n), np.int8),
        "expression_scales": np.float32([3e-5, 2e-5, 1e-5]),
    }  # fmt: skip
    sections, body = [], b""
    for name, array in arrays.items():
        raw = array.tobytes()
        sections.append({"name": name, "dtype": array.dtype.name, "shape": array.shape, "offset": len(body)})
        sections[-1]["byteLength"] = len(raw)
        body += raw + bytes(-len(raw) % 4)
    header = json.dumps({"meta": {"num_vertices": n}, "sections": sections}).encode()
    header += b" " * (-len(header) % 4)
    path.write_bytes(b"GNMW" + struct.pack("<II", 1, len(header)) + header + body)
    (folder / "head_sparse_68.txt").write_text("\n".join(gnm_landmark_rows(face)) + "\n")
    truth = (
        np.moveaxis((arrays[f"{part}_quantized"] * arrays[f"{part}_scales"][:, None]).reshape(-1, n, 3), 0, 2) * 1000
        for part in ("identity", "expression")
    )
    return _written(path, gnm, face, *truth)


def write_flame_lines(folder: Path, newline: bytes = b"\n") -> Written:
    """The FLAME site's own landmark files: the static one in protocol 0 of Python 2."""
    written = write_flame(folder)
    (folder / "landmark_embedding.npy").unlink()
    face = small_face()
    lines = python2_lines(static_embedding(face)).replace(b"\n", newline)
    (folder / "flame_static_embedding.pkl").write_bytes(lines)
    faces, weights = corner_embedding(face, face.ids)
    outlines = {"lmk_face_idx": [faces[:17]] * 79, "lmk_b_coords": [weights[:17]] * 79}
    (folder / "flame_dynamic_embedding.npy").write_bytes(object_npy(outlines))
    inner = written.landmarks.copy()
    corners = face.vertices[face.faces[faces[17:]]]
    inner[17:] = np.einsum("lkd,lk->ld", corners, static_embedding(face)["lmk_b_coords"])
    return replace(written, landmarks=inner)


def write_flame_crlf(folder: Path) -> Written:
    return write_flame_lines(folder, b"\r\n")


MORE_WRITERS = {
    "flame, landmarks in protocol 0": write_flame_lines,
    "flame, landmarks in protocol 0 with CRLF": write_flame_crlf,
    "flame .npz": write_flame_npz,
    "flame of 150 modes": write_flame_150,
    "deep3d": write_deep3d,
    "tddfa V3": write_tddfa_v3,
    "face3d": write_face3d,
    "bfm2009 .h5": write_bfm2009_h5,
    "ict as published": write_ict,
    "gnm web": write_gnm_web,
}
