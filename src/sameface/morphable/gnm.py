"""Google's Generative aNthropometric Model of the head, gnm_head.npz version 3 (github.com/google/GNM).

Licence: Apache-2.0. Topology: 17,821 vertices, 35,324 triangles: skin, eyes, teeth, tongue. The file: metres; +x to
the subject's left, +y up, +z out of the face; modes first, already times their deviations, coefficients about −3 to
3.

Its web container is read too (bytes "GNMW"; float32 template, int8 modes with one scale each: an error of 1/254 of a
mode's largest number); it has neither names nor groups, nor a mirror map.

Linear use only: joints (neck, head, eyes) are not turned. What that needs is kept in `extra`, as far as the file has
it: `joints` (mean positions, mm), `joint_names`, `weights` (V, 4), `J_regressor` (4, V), and `pose_correctives` if they
are not all zero; the modes' names are in `identity_names`. Identity modes 170-252
(eyeballs, teeth) and expression modes 350-382 (tongue, iris) move no landmark: hold them at 0 when fitting to
landmarks. Texture coordinates belong to triangle corners, not vertices, so `uv` is None and they are
`extra["triangle_uvs"]` (F, 3, 2).

Landmarks are in a file of their own, head_sparse_68.txt (68 rows i0 w0 i1 w1 i2 w2). Early versions of it list the
jaw points 2 to 6 in reverse; that is recognised by steps of more than 30 mm along the jaw, and put right.
"""

import json
import math
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool

from sameface.core.errors import AssetMissing, BadModel
from sameface.core.files import open_file, read_bytes
from sameface.core.npz import read_npz
from sameface.morphable import LARGEST_FILE, MorphableModel
from sameface.morphable._checks import checked, require
from sameface.morphable._landmarks import read_landmarks

__all__ = ["load"]

FIELDS = (
    "version", "template_vertex_positions", "vertex_identity_basis", "expression_basis", "triangles",
    "expression_names", "mirror_indices", "vertex_groups", "vertex_group_names",
)  # fmt: skip
LANDMARKS = ("head_sparse_68.txt", "../../landmarks/head_sparse_68.txt")
"""beside the model, or as in the repository (data/versions/v3_0/gnm_head.npz, data/landmarks/head_sparse_68.txt)"""
WEB = b"GNMW"
WEB_ARRAYS = {
    "vertices": "float32", "triangles": "uint32", "identity_quantized": "int8", "identity_scales": "float32",
    "expression_quantized": "int8", "expression_scales": "float32",
}  # fmt: skip
LARGEST_HEAD = 1000.0
"""metres, of what is believed"""
LARGEST_JAW_STEP = 30.0
"""mm between neighbouring jaw landmarks of the mean face; 17.8 to 23.9 in a file in order, 101 in one that is not"""
REVERSED_ROWS = slice(2, 7)


def load(path: Path, *, landmarks: Path | None = None) -> MorphableModel:
    """Read gnm_head.npz; `landmarks` is head_sparse_68.txt, by default the one beside it or in the repository."""
    path = Path(path)
    source = _arrays(path)
    mean = source["template_vertex_positions"].astype(np.float32) * 1000
    faces = source["triangles"].astype(np.int64)
    chosen, weights = read_landmarks(_landmark_file(path, landmarks), mean, faces)
    model = MorphableModel(
        name=f"gnm-head-{source['version']}",
        licence="Apache-2.0",
        mean=mean,
        identity_basis=_modes(source, "vertex_identity_basis", path),
        expression_basis=_modes(source, "expression_basis", path),
        faces=faces,
        landmark_faces=chosen,
        landmark_weights=weights,
        expression_names=tuple(str(name) for name in source["expression_names"]),
        mirror=_mirror(source["mirror_indices"], len(mean), path) if "mirror_indices" in source else None,
        regions=_regions(source, path) if "vertex_groups" in source else {},
        extra=_extra(source),
        unit=1000.0,
    )
    return checked(_jaw_in_order(model, path), path)


def _arrays(path: Path) -> dict[str, np.ndarray]:
    with open_file(path, BadModel) as file:
        if file.read(4) == WEB:
            return _web(path)
    source = read_npz(path, LARGEST_FILE, error=BadModel)
    require(source, FIELDS, path, "GNM's head model")
    if not str(source["version"]).startswith("3."):
        raise BadModel(f"{path} is GNM of version {source['version']}; this reader knows version 3")
    return source


def _web(path: Path) -> dict[str, np.ndarray]:
    """The web container: "GNMW", uint32 version 1, uint32 H, H bytes of JSON, then the arrays it tells of."""
    content = read_bytes(path, LARGEST_FILE, BadModel)
    try:
        version, length = struct.unpack_from("<II", content, 4)
        if version != 1:
            raise ValueError(f"version {version}")
        sections = {one["name"]: one for one in json.loads(content[12 : 12 + length])["sections"]}
        found = {name: _section(sections[name], kind, content, 12 + length) for name, kind in WEB_ARRAYS.items()}
        vertices = found["vertices"].reshape(-1, 3)
        for name in ("vertices", "identity_scales", "expression_scales"):
            if not (np.abs(found[name]) < LARGEST_HEAD).all():
                raise ValueError(f"{name} holds numbers that no head has")
        modes = {}
        for name in ("identity", "expression"):
            packed, scales = found[f"{name}_quantized"], found[f"{name}_scales"]
            modes[name] = (packed * scales[:, None]).astype(np.float32).reshape(len(scales), *vertices.shape)
    except (struct.error, ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise BadModel(f"{path} is no whole web container of GNM ({reason}); download it again") from None
    return {
        "version": np.array("3 (web)"),
        "template_vertex_positions": vertices,
        "vertex_identity_basis": modes["identity"],
        "expression_basis": modes["expression"],
        "triangles": found["triangles"],
        "expression_names": np.array([f"expression_{k}" for k in range(len(modes["expression"]))]),
    }


def _section(about: Any, kind: str, content: bytes, start: int) -> np.ndarray:
    shape = tuple(int(side) for side in about["shape"])
    begin, count = start + int(about["offset"]), math.prod(shape)
    size = count * np.dtype(kind).itemsize
    if about["dtype"] != kind or min(shape, default=0) < 1 or begin < start or begin + size > len(content):
        raise ValueError(f"{about['name']} of shape {shape} and type {about['dtype']} does not lie within the file")
    return np.frombuffer(content, np.dtype(kind).newbyteorder("<"), count, begin).reshape(shape)


def _modes(source: dict[str, np.ndarray], name: str, path: Path) -> np.ndarray:
    """(K, V, 3) in metres to (V, 3, K) in mm."""
    modes, vertices = source[name], source["template_vertex_positions"].shape
    if modes.shape[1:] != vertices:
        raise BadModel(f"{path}: {name} has shape {modes.shape}; expected (modes, {vertices[0]}, 3)")
    return np.ascontiguousarray(np.moveaxis(modes, 0, 2), np.float32) * 1000


def _mirror(mirror: np.ndarray, n_vertices: int, path: Path) -> np.ndarray:
    mirror = mirror.astype(np.int64)
    if mirror.shape != (n_vertices,) or not np.array_equal(mirror[mirror], np.arange(n_vertices)):
        raise BadModel(f"{path}: mirror_indices applied twice is not the identity; download gnm_head.npz again")
    return mirror


def _regions(source: dict[str, np.ndarray], path: Path) -> dict[str, Bool[np.ndarray, " V"]]:
    """Vertices whose soft weight in a group is above one half."""
    names, groups = source["vertex_group_names"], source["vertex_groups"]
    if len(names) != len(groups):
        raise BadModel(f"{path} has {len(names)} names for {len(groups)} vertex groups")
    return {str(name): group > 0.5 for name, group in zip(names, groups, strict=True)}


def _extra(source: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    extra = {}
    if "triangle_uvs" in source:
        extra["triangle_uvs"] = source["triangle_uvs"].astype(np.float32)
    if "template_joint_positions" in source:
        extra["joints"] = source["template_joint_positions"].astype(np.float32) * 1000
    for name, kept in (("skinning_weights", "weights"), ("joint_regressor", "J_regressor")):
        if name in source:
            extra[kept] = source[name].astype(np.float32)
    if "weights" in extra:
        extra["weights"] = extra["weights"].T
    if "joint_names" in source and source["joint_names"].dtype.kind == "U":
        extra["joint_names"] = source["joint_names"]
    if np.any(source.get("pose_correctives_regressor", 0)):
        extra["pose_correctives"] = source["pose_correctives_regressor"].astype(np.float32) * 1000
    if "identity_names" in source and source["identity_names"].dtype.kind == "U":
        extra["identity_names"] = source["identity_names"]
    return extra


def _landmark_file(path: Path, given: Path | None) -> Path:
    candidates = [Path(given)] if given is not None else [path.parent / name for name in LANDMARKS]
    for file in candidates:
        if file.exists():
            return file
    raise AssetMissing(
        f"{path} does not say where the 68 landmarks are; put {LANDMARKS[0]} from the same repository "
        f"(gnm/shape/data/landmarks) beside it, or give it as `landmarks`. Looked for {', '.join(map(str, candidates))}"
    )


def _jaw_in_order(model: MorphableModel, path: Path) -> MorphableModel:
    """The same model with jaw rows 2 to 6 turned round, if that is what makes the steps along the jaw short."""
    if _longest_jaw_step(model) <= LARGEST_JAW_STEP:
        return model
    faces, weights = model.landmark_faces.copy(), model.landmark_weights.copy()
    faces[REVERSED_ROWS], weights[REVERSED_ROWS] = faces[REVERSED_ROWS][::-1], weights[REVERSED_ROWS][::-1]
    turned = replace(model, landmark_faces=faces, landmark_weights=weights)
    if _longest_jaw_step(turned) > LARGEST_JAW_STEP:
        raise BadModel(
            f"{path}: neighbouring jaw landmarks are {_longest_jaw_step(model):.0f} mm apart; expected at most "
            f"{LARGEST_JAW_STEP:.0f}. The landmark file belongs to another model or version"
        )
    return turned


def _longest_jaw_step(model: MorphableModel) -> float:
    jaw = model.landmarks(model.mean)[:17]
    return float(np.linalg.norm(np.diff(jaw, axis=0), axis=1).max())
