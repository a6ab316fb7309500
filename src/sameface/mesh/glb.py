"""glTF 2.0 binary (GLB): a mesh, or several parts of it, with a texture, blendshapes and an animation.

Vertices are in mm here; GLB is in metres as its specification wants. The file is written aside and renamed.
"""

import json
import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from sameface import __version__
from sameface.core.files import write_file
from sameface.core.geometry import vertex_normals
from sameface.mesh.write import check_mesh, encoded

__all__ = ["Animation", "Part", "write_glb"]

CLAY = (0.60, 0.50, 0.45)
"""linear RGB of a mesh without a texture"""
STILL = 1e-2
"""mm; a blendshape moves the vertices that it moves by more than this, so that GLB files stay small"""

TURNED = 0.02
"""rad; a blendshape turns the normals that it turns by more than this"""

_FLOAT, _UINT16, _UINT32 = 5126, 5123, 5125
_VERTEX_BUFFER, _INDEX_BUFFER = 34962, 34963
_UNLIT = "KHR_materials_unlit"
_REPEAT, _LINEAR, _LINEAR_MIPMAP = 10497, 9729, 9987


class Animation(NamedTuple):
    """How a face moves: K keys, between which everything goes in straight lines (rotations on great circles)."""

    seconds: Float[np.ndarray, " K"]
    """from 0, each later than the one before"""
    weights: Float[np.ndarray, "K T"]
    """of the morph targets, in their order"""
    rotation: Float[np.ndarray, "K 4"]
    """of the head: unit quaternions x, y, z, w, in glTF's axes (+x right, +y up, +z to the viewer)"""


class Part(NamedTuple):
    """What of a mesh goes into a node of its own: the triangles that have all their corners in it."""

    name: str
    vertices: Bool[np.ndarray, " V"]
    origin: Float[np.ndarray, " 3"]
    """mm: where the node stands, so that it turns about this point"""


def write_glb(
    path: str | os.PathLike[str],
    vertices: Float[np.ndarray, "V 3"],
    faces: Int[np.ndarray, "F 3"],
    *,
    normals: Float[np.ndarray, "V 3"] | None = None,
    uv: Float[np.ndarray, "V 2"] | None = None,
    texture: UInt8[np.ndarray, "T S 3"] | None = None,
    morph_targets: Mapping[str, Float[np.ndarray, "_ 3"]] | None = None,
    animation: Animation | None = None,
    lossless: bool = False,
    unlit: bool = False,
    licence: str | None = None,
    parts: Sequence[Part] = (),
) -> None:
    """glTF 2.0 binary, in metres: one mesh, its texture, one morph target per named blendshape, and how these move.

    `morph_targets` are offsets in mm at full weight; their names go to `extras.targetNames`, where engines look for
    ARKit's. They turn the normals too. Both are stored sparsely where that is smaller. `normals` default to the mesh's
    smooth ones. The origin of `uv` is the lower left. The texture is embedded as JPEG, or as PNG if `lossless`; with
    `unlit` viewers show it as it is, for the light of the photos is in it (KHR_materials_unlit; those that do not know
    it light the face as ever). `licence` goes to the asset, as its copyright.

    Eyes are `parts`: each is a node beside that of the face, under one called head, with a moist material, and with
    those of the morph targets that move it, under the same names.
    """
    check_mesh(vertices, faces, uv, texture)
    file, targets = _Glb(), dict(morph_targets or {})
    for name, offsets in targets.items():
        if offsets.shape != vertices.shape or not np.isfinite(offsets).all():
            raise ValueError(
                f"morph target {name!r} must be {vertices.shape} finite offsets in mm, but has {offsets.shape}"
            )
    normals = vertex_normals(vertices, faces) if normals is None else normals
    elsewhere = np.zeros(len(vertices), bool)
    for part in parts:
        elsewhere |= part.vertices
    whole = Part("face", ~elsewhere, np.zeros(3))
    nodes, meshes, moving = [], [], []
    for number, part in enumerate((whole, *parts)):
        mesh, names = _mesh(file, part, vertices, faces, normals, uv, targets, material=min(number, 1))
        nodes.append({"name": part.name, "mesh": number})
        if part.origin.any():
            nodes[-1]["translation"] = (part.origin / 1000.0).astype(np.float32).tolist()
        meshes.append(mesh)
        moving.append([list(targets).index(name) for name in names])
    if parts:
        nodes.append({"name": "head", "children": list(range(len(nodes)))})
    document: dict[str, object] = {
        "asset": _asset(licence),
        "scene": 0,
        "scenes": [{"nodes": [len(nodes) - 1]}],
        "nodes": nodes,
        "meshes": meshes,
        "materials": [
            _material(name, textured=texture is not None, unlit=unlit) for name in ("skin", "eyes")[: 1 + bool(parts)]
        ],
    }
    if unlit:
        document["extensionsUsed"] = [_UNLIT]
    if texture is not None:
        document |= _textures(file, texture, lossless)
    if animation is not None:
        document["animations"] = [_animated(file, animation, moving, len(targets), len(nodes) - 1)]
    write_file(path, file.packed(document))


def _mesh(
    file: "_Glb", part: Part, vertices: np.ndarray, faces: np.ndarray, normals: np.ndarray, uv: np.ndarray | None,
    targets: Mapping[str, np.ndarray], *, material: int,
) -> tuple[dict[str, object], list[str]]:  # fmt: skip
    """A part as an entry of `meshes`, and the names of its morph targets: for the face all, for others those that
    move them."""
    mine = np.flatnonzero(part.vertices)
    inside = faces[part.vertices[faces].all(1)]
    new = np.cumsum(part.vertices) - 1
    chosen = targets
    if len(mine) < len(vertices):
        chosen = {name: offsets.take(mine, axis=0) for name, offsets in targets.items()}
    if part.name != "face":
        chosen = {name: offsets for name, offsets in chosen.items() if np.abs(offsets).max(initial=0) > STILL}
    at, inside = vertices[mine] - part.origin, new[inside]
    primitive = _primitive(file, at, inside, normals[mine], None if uv is None else uv[mine], material)
    mesh: dict[str, object] = {"name": part.name, "primitives": [primitive]}
    if chosen:
        primitive["targets"] = _morph_targets(file, at, inside, chosen)
        mesh |= {"weights": [0.0] * len(chosen), "extras": {"targetNames": list(chosen)}}
    return mesh, list(chosen)


class _Glb:
    """The growing binary part of a GLB file, with its views and accessors."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.views: list[dict[str, object]] = []
        self.accessors: list[dict[str, object]] = []

    def view(self, content: bytes, target: int | None = None) -> int:
        """Append bytes (aligned to 4); the index of their bufferView."""
        self.data += bytes(-len(self.data) % 4)
        view: dict[str, object] = {"buffer": 0, "byteOffset": len(self.data), "byteLength": len(content)}
        self.views.append(view | ({"target": target} if target else {}))
        self.data += content
        return len(self.views) - 1

    def accessor(self, **fields: object) -> int:
        """Append an accessor; its index."""
        self.accessors.append(fields)
        return len(self.accessors) - 1

    def floats(self, array: np.ndarray, *, limits: bool = False) -> int:
        """A per-vertex float attribute (V, K); the index of its accessor."""
        array = np.ascontiguousarray(array, "<f4")
        bounds = {"min": array.min(0).tolist(), "max": array.max(0).tolist()} if limits else {}
        view = self.view(array.tobytes(), _VERTEX_BUFFER)
        kind = f"VEC{array.shape[1]}"
        return self.accessor(bufferView=view, byteOffset=0, componentType=_FLOAT, count=len(array), type=kind, **bounds)

    def keys(self, array: np.ndarray, *, limits: bool = False) -> int:
        """Float keys of an animation, (K,) or (K, 4); the index of their accessor, in a view of no target."""
        array = np.ascontiguousarray(array, "<f4")
        bounds = {"min": [float(array.min())], "max": [float(array.max())]} if limits else {}
        kind = "SCALAR" if array.ndim == 1 else f"VEC{array.shape[1]}"
        view = self.view(array.tobytes())
        return self.accessor(bufferView=view, byteOffset=0, componentType=_FLOAT, count=len(array), type=kind, **bounds)

    def packed(self, document: dict[str, object]) -> bytes:
        """The whole file: header, JSON chunk, binary chunk."""
        self.data += bytes(-len(self.data) % 4)
        document |= {
            "bufferViews": self.views,
            "accessors": self.accessors,
            "buffers": [{"byteLength": len(self.data)}],
        }
        text = json.dumps(document, separators=(",", ":"), allow_nan=False).encode()
        text += b" " * (-len(text) % 4)
        chunks = _word(len(text)) + b"JSON" + text + _word(len(self.data)) + b"BIN\0" + self.data
        return b"glTF" + _word(2) + _word(12 + len(chunks)) + chunks


def _word(number: int) -> bytes:
    return number.to_bytes(4, "little")


def _primitive(
    file: _Glb, vertices: np.ndarray, faces: np.ndarray, normals: np.ndarray, uv: np.ndarray | None, material: int
) -> dict[str, object]:
    """The triangles with their attributes: metres, unit normals, uv from the upper left as glTF counts."""
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    normals = np.where(length > 1e-6, normals / np.maximum(length, 1e-6), [0.0, 0.0, 1.0])  # a vertex without a face
    attributes = {"POSITION": file.floats(vertices / 1000.0, limits=True), "NORMAL": file.floats(normals)}
    if uv is not None:
        attributes["TEXCOORD_0"] = file.floats(uv * [1.0, -1.0] + [0.0, 1.0])
    component, kind = _index_kind(len(vertices))
    view = file.view(faces.astype(kind).tobytes(), _INDEX_BUFFER)
    indices = file.accessor(bufferView=view, byteOffset=0, componentType=component, count=faces.size, type="SCALAR")
    return {"attributes": attributes, "indices": indices, "material": material, "mode": 4}


def _index_kind(count: int) -> tuple[int, str]:
    """The narrowest index type for `count` vertices (65535 itself is reserved)."""
    return (_UINT16, "<u2") if count <= 65535 else (_UINT32, "<u4")


def _morph_targets(
    file: _Glb, vertices: np.ndarray, faces: np.ndarray, targets: Mapping[str, Float[np.ndarray, "_ 3"]]
) -> list[dict[str, int]]:
    """The accessors of all blendshapes: how far they move the vertices, and how they turn the normals."""
    at, corners = np.ascontiguousarray(vertices.T, np.float32), np.ascontiguousarray(faces.T)  # rows: numpy likes them
    count = at.shape[1]
    flat = _crossed(at, corners)
    before = _around(flat, corners, count)
    lengths = np.sqrt((before**2).sum(0))
    normals = before / np.maximum(lengths, 1e-6)
    out = []
    for offsets in targets.values():
        moves = np.ascontiguousarray(offsets.T, np.float32)
        moved = np.abs(moves).max(axis=0) > STILL
        index = np.flatnonzero(moved)
        touched = np.flatnonzero(moved[corners].any(axis=0))
        some = corners[:, touched]
        change = _around(_crossed(at + moves * moved, some) - flat[:, touched], some, count)
        near = np.flatnonzero(change.any(axis=0) & (lengths > 1e-6))  # what has no area has no normal to turn
        after = before[:, near] + change[:, near]
        length = np.sqrt((after**2).sum(0))
        turn = np.where(length > 1e-6, after / np.maximum(length, 1e-6) - normals[:, near], 0)
        turned = np.abs(turn).max(axis=0) > TURNED
        out.append({
            "POSITION": _sparse(file, index, moves[:, index].T / 1000.0, count, limits=True),
            "NORMAL": _sparse(file, near[turned], turn[:, turned].T, count),
        })  # fmt: skip
    return out


def _crossed(at: Float[np.ndarray, "3 V"], corners: Int[np.ndarray, "3 F"]) -> Float[np.ndarray, "3 F"]:
    """The normals of triangles, as long as twice their area; written out, for numpy's cross is slow."""
    a, b, c = (at[:, one] for one in corners)
    u, v = b - a, c - a
    return np.stack([u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]])


def _around(values: Float[np.ndarray, "3 F"], corners: Int[np.ndarray, "3 F"], count: int) -> Float[np.ndarray, "3 V"]:
    """For each of `count` vertices the sum over its triangles."""
    where = corners.reshape(-1)
    sums = [np.bincount(where, np.tile(one, 3), count) for one in values]
    return np.stack(sums, dtype=np.float64)  # of nothing, numpy counts in integers


def _sparse(
    file: _Glb, index: Int[np.ndarray, " N"], values: Float[np.ndarray, "N 3"], count: int, *, limits: bool = False
) -> int:
    """The accessor of (count, 3) floats that are 0 but for some rows: sparse where that takes fewer bytes."""
    component, kind = _index_kind(count)
    if len(index) * (12 + np.dtype(kind).itemsize) >= 12 * count:
        whole = np.zeros((count, 3), "<f4")
        whole[index] = values
        return file.floats(whole, limits=limits)
    if not len(index):
        index, values = np.zeros(1, int), np.zeros((1, 3))  # the specification wants at least one entry
    rows = values.astype("<f4")
    low, high = np.minimum(rows.min(0), 0), np.maximum(rows.max(0), 0)
    sparse = {
        "count": len(index),
        "indices": {
            "bufferView": file.view(index.astype(kind).tobytes()), "byteOffset": 0, "componentType": component
        },
        "values": {"bufferView": file.view(rows.tobytes()), "byteOffset": 0},
    }  # fmt: skip
    bounds = {"min": low.tolist(), "max": high.tolist()} if limits else {}
    return file.accessor(componentType=_FLOAT, count=count, type="VEC3", sparse=sparse, **bounds)


def _animated(file: _Glb, animation: Animation, moving: list[list[int]], targets: int, root: int) -> dict[str, object]:
    """An animation: linear samplers for the weights of each mesh (all targets of a key together) and for the turn of
    the root node. `moving` holds, node by node, which targets it has."""
    seconds = np.asarray(animation.seconds, np.float32)
    if not (len(seconds) and targets and animation.weights.shape == (len(seconds), targets)):
        raise ValueError(
            f"an animation with {len(seconds)} keys of a mesh with {targets} morph targets needs at least one of each, "
            f"and weights {(len(seconds), targets)}, but they have {animation.weights.shape}"
        )
    if not (seconds[0] >= 0 and (np.diff(seconds) > 0).all()):
        raise ValueError("the keys of an animation begin at 0 s or later, and each is later than the one before")
    times = file.keys(seconds, limits=True)
    outputs = [("weights", node, animation.weights[:, which]) for node, which in enumerate(moving) if which]
    outputs.append(("rotation", root, animation.rotation))
    keys = [file.keys(values.ravel() if path == "weights" else values) for path, _, values in outputs]
    return {
        "name": "clip",
        "samplers": [{"input": times, "output": one, "interpolation": "LINEAR"} for one in keys],
        "channels": [
            {"sampler": k, "target": {"node": node, "path": path}} for k, (path, node, _) in enumerate(outputs)
        ],
    }


def _textures(file: _Glb, texture: UInt8[np.ndarray, "T S 3"], lossless: bool) -> dict[str, object]:
    """The entries of the document that embed one picture."""
    kind, suffix = ("image/png", ".png") if lossless else ("image/jpeg", ".jpg")
    return {
        "images": [{"name": "skin", "mimeType": kind, "bufferView": file.view(encoded(texture, suffix))}],
        "samplers": [{"magFilter": _LINEAR, "minFilter": _LINEAR_MIPMAP, "wrapS": _REPEAT, "wrapT": _REPEAT}],
        "textures": [{"sampler": 0, "source": 0}],
    }


def _asset(licence: str | None) -> dict[str, object]:
    """Who made the file, and whose it is; `extras.license` is where Sketchfab and others look."""
    asset: dict[str, object] = {"version": "2.0", "generator": f"sameface {__version__}"}
    return asset | ({"copyright": licence, "extras": {"license": licence.split(";")[0]}} if licence else {})


def _material(name: str, *, textured: bool, unlit: bool) -> dict[str, object]:
    surface: dict[str, object] = {"metallicFactor": 0.0, "roughnessFactor": 0.7 if name == "skin" else 0.15}
    surface |= {"baseColorTexture": {"index": 0}} if textured else {"baseColorFactor": [*CLAY, 1.0]}
    material: dict[str, object] = {"name": name, "pbrMetallicRoughness": surface, "doubleSided": False}
    return material | ({"extensions": {_UNLIT: {}}} if unlit else {})
