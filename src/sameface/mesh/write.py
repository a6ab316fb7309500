"""Meshes out: OBJ (with a texture), PLY, and glTF 2.0 binary (GLB) with blendshapes.

Every file is written aside and renamed, so that a reader never sees half of one. Vertices are in mm everywhere here;
OBJ and PLY keep mm, GLB is in metres as its specification wants.
"""

import json
import os
from collections.abc import Mapping
from functools import lru_cache
from math import ceil, log10
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float, Int, UInt8

from sameface import __version__
from sameface.core.files import write_file
from sameface.core.geometry import vertex_normals

__all__ = ["Animation", "check_mesh", "write_glb", "write_obj", "write_ply"]

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


def write_obj(
    path: str | os.PathLike[str],
    vertices: Float[np.ndarray, "V 3"],
    faces: Int[np.ndarray, "F 3"],
    *,
    normals: Float[np.ndarray, "V 3"] | None = None,
    uv: Float[np.ndarray, "V 2"] | None = None,
    texture: UInt8[np.ndarray, "T S 3"] | None = None,
    unit: float = 1.0,
) -> None:
    """Wavefront OBJ of vertices in mm, to 0.1 µm, written in units of `unit` mm.

    A texture (needs `uv`, origin lower left) goes to a .png and a .mtl beside it.
    """
    path = Path(path)
    check_mesh(vertices, faces, uv, texture)
    what = "millimetres" if unit == 1 else f"one unit is {unit:g} mm"
    text = [f"# sameface, {what}\n" + (f"mtllib {path.stem}.mtl\nusemtl face\n" if texture is not None else "")]
    text.append(_lines("v", f"%.{max(4 + ceil(log10(unit)), 0)}f", vertices if unit == 1 else vertices / unit))
    if uv is not None:
        text.append(_lines("vt", "%.6f", uv))
    if normals is not None:
        text.append(_lines("vn", "%.4f", normals))
    corner = {(0, 0): "{0}", (1, 0): "{0}/{0}", (0, 1): "{0}//{0}", (1, 1): "{0}/{0}/{0}"}
    text.append(_face_lines(faces.astype(np.int64).tobytes(), corner[uv is not None, normals is not None]))
    if texture is not None:
        material = f"newmtl face\nKa 1 1 1\nKd 1 1 1\nKs 0 0 0\nillum 1\nmap_Kd {path.stem}.png\n"
        write_file(path.with_suffix(".png"), _encoded(texture, ".png"))
        write_file(path.with_suffix(".mtl"), material.encode())
    write_file(path, "".join(text).encode())


def _lines(word: str, number: str, rows: Float[np.ndarray, "N K"]) -> str:
    """One line per row. One format string for all numbers is ten times faster than a loop."""
    line = f"{word} " + " ".join([number] * rows.shape[1]) + "\n"
    return (line * len(rows)) % tuple(rows.ravel().tolist())


@lru_cache(maxsize=8)
def _face_lines(faces: bytes, corner: str) -> str:
    """The `f` lines of int64 faces (as bytes); a model's topology stays the same from mesh to mesh."""
    index = np.frombuffer(faces, np.int64) + 1
    line = "f " + " ".join([corner.replace("{0}", "%d")] * 3) + "\n"
    return (line * (len(index) // 3)) % tuple(np.repeat(index, corner.count("{0}")).tolist())


def write_ply(
    path: str | os.PathLike[str],
    vertices: Float[np.ndarray, "V 3"],
    faces: Int[np.ndarray, "F 3"],
    *,
    normals: Float[np.ndarray, "V 3"] | None = None,
    colours: UInt8[np.ndarray, "V 3"] | None = None,
) -> None:
    """Binary little-endian PLY: float32 vertices in mm, then normals and 8-bit sRGB colours where given."""
    check_mesh(vertices, faces)
    columns: list[tuple[str, str, np.ndarray]] = [(n, "<f4", vertices[:, k]) for k, n in enumerate("xyz")]
    if normals is not None:
        columns += [(n, "<f4", normals[:, k]) for k, n in enumerate(("nx", "ny", "nz"))]
    if colours is not None:
        columns += [(n, "u1", colours[:, k]) for k, n in enumerate(("red", "green", "blue"))]
    rows = np.empty(len(vertices), [(name, kind) for name, kind, _ in columns])
    for name, _, values in columns:
        rows[name] = values
    triangles = np.empty(len(faces), [("count", "u1"), ("corners", "<i4", 3)])
    triangles["count"], triangles["corners"] = 3, faces
    properties = "".join(f"property {'float' if kind == '<f4' else 'uchar'} {name}\n" for name, kind, _ in columns)
    header = (
        f"ply\nformat binary_little_endian 1.0\ncomment sameface, millimetres\nelement vertex {len(rows)}\n{properties}"
        f"element face {len(triangles)}\nproperty list uchar int vertex_indices\nend_header\n"
    )
    write_file(path, header.encode() + rows.tobytes() + triangles.tobytes())


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
) -> None:
    """glTF 2.0 binary, in metres: one mesh, its texture, one morph target per named blendshape, and how these move.

    `morph_targets` are offsets in mm at full weight; their names go to `extras.targetNames`, where engines look for
    ARKit's. They turn the normals too. Both are stored sparsely where that is smaller. `normals` default to the mesh's
    smooth ones. The origin of `uv` is the lower left. The texture is embedded as JPEG, or as PNG if `lossless`; with
    `unlit` viewers show it as it is, for the light of the photos is in it (KHR_materials_unlit; those that do not know
    it light the face as ever). `licence` goes to the asset, as its copyright.
    """
    check_mesh(vertices, faces, uv, texture)
    file = _Glb()
    primitive = _primitive(file, vertices, faces, vertex_normals(vertices, faces) if normals is None else normals, uv)
    mesh: dict[str, object] = {"name": "face", "primitives": [primitive]}
    if morph_targets:
        primitive["targets"] = _morph_targets(file, vertices, faces, morph_targets)
        mesh |= {"weights": [0.0] * len(morph_targets), "extras": {"targetNames": list(morph_targets)}}
    document: dict[str, object] = {
        "asset": _asset(licence),
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"name": "face", "mesh": 0}],
        "meshes": [mesh],
        "materials": [_material(textured=texture is not None, unlit=unlit)],
    }
    if unlit:
        document["extensionsUsed"] = [_UNLIT]
    if texture is not None:
        document |= _textures(file, texture, lossless)
    if animation is not None:
        document["animations"] = [_animated(file, animation, len(morph_targets or ()))]
    write_file(path, file.packed(document))


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
    file: _Glb, vertices: np.ndarray, faces: np.ndarray, normals: np.ndarray, uv: np.ndarray | None
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
    return {"attributes": attributes, "indices": indices, "material": 0, "mode": 4}


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
    for name, offsets in targets.items():
        if offsets.shape != (count, 3) or not np.isfinite(offsets).all():
            raise ValueError(
                f"morph target {name!r} must be {(count, 3)} finite offsets in mm, but has {offsets.shape}"
            )
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


def _animated(file: _Glb, animation: Animation, targets: int) -> dict[str, object]:
    """An animation of the one node: linear samplers for the weights (all targets of a key together) and the turn."""
    seconds = np.asarray(animation.seconds, np.float32)
    if not (len(seconds) and targets and animation.weights.shape == (len(seconds), targets)):
        raise ValueError(
            f"an animation with {len(seconds)} keys of a mesh with {targets} morph targets needs at least one of each, "
            f"and weights {(len(seconds), targets)}, but they have {animation.weights.shape}"
        )
    if not (seconds[0] >= 0 and (np.diff(seconds) > 0).all()):
        raise ValueError("the keys of an animation begin at 0 s or later, and each is later than the one before")
    times = file.keys(seconds, limits=True)
    outputs = {"weights": file.keys(animation.weights.ravel()), "rotation": file.keys(animation.rotation)}
    return {
        "name": "clip",
        "samplers": [{"input": times, "output": keys, "interpolation": "LINEAR"} for keys in outputs.values()],
        "channels": [{"sampler": k, "target": {"node": 0, "path": path}} for k, path in enumerate(outputs)],
    }


def _textures(file: _Glb, texture: UInt8[np.ndarray, "T S 3"], lossless: bool) -> dict[str, object]:
    """The entries of the document that embed one picture."""
    kind, suffix = ("image/png", ".png") if lossless else ("image/jpeg", ".jpg")
    return {
        "images": [{"name": "skin", "mimeType": kind, "bufferView": file.view(_encoded(texture, suffix))}],
        "samplers": [{"magFilter": _LINEAR, "minFilter": _LINEAR_MIPMAP, "wrapS": _REPEAT, "wrapT": _REPEAT}],
        "textures": [{"sampler": 0, "source": 0}],
    }


def _asset(licence: str | None) -> dict[str, object]:
    """Who made the file, and whose it is; `extras.license` is where Sketchfab and others look."""
    asset: dict[str, object] = {"version": "2.0", "generator": f"sameface {__version__}"}
    return asset | ({"copyright": licence, "extras": {"license": licence.split(";")[0]}} if licence else {})


def _material(*, textured: bool, unlit: bool) -> dict[str, object]:
    surface: dict[str, object] = {"metallicFactor": 0.0, "roughnessFactor": 0.7}
    surface |= {"baseColorTexture": {"index": 0}} if textured else {"baseColorFactor": [*CLAY, 1.0]}
    material: dict[str, object] = {"name": "skin", "pbrMetallicRoughness": surface, "doubleSided": False}
    return material | ({"extensions": {_UNLIT: {}}} if unlit else {})


def _encoded(texture: UInt8[np.ndarray, "T S 3"], suffix: str) -> bytes:
    """A texture as the bytes of a PNG or JPEG file."""
    options = [cv2.IMWRITE_JPEG_QUALITY, 94] if suffix == ".jpg" else []
    return cv2.imencode(suffix, texture[..., ::-1], options)[1].tobytes()


def check_mesh(
    vertices: np.ndarray, faces: np.ndarray, uv: np.ndarray | None = None, texture: np.ndarray | None = None
) -> None:
    """Refuse what no reader could open."""
    if texture is not None and uv is None:
        raise ValueError("a texture needs uv coordinates to lie on the mesh by; give uv=")
    if not np.isfinite(vertices).all():
        bad = int((~np.isfinite(vertices).all(axis=1)).sum())
        raise ValueError(f"{bad} of {len(vertices)} vertices are NaN or infinite; a mesh file needs finite ones")
    if faces.size and not (0 <= faces.min() and faces.max() < len(vertices)):
        raise ValueError(f"faces name vertices {faces.min()}..{faces.max()}, but there are {len(vertices)}, from 0")
