"""Meshes out: OBJ (with a texture) and PLY; `glb` has glTF, `solid` STL.

Every file is written aside and renamed, so that a reader never sees half of one. Vertices are in mm everywhere here
and in these files.
"""

import os
from functools import lru_cache
from math import ceil, log10
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float, Int, UInt8

from sameface.core.files import write_file

__all__ = ["check_mesh", "encoded", "write_obj", "write_ply"]


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
        write_file(path.with_suffix(".png"), encoded(texture, ".png"))
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


def encoded(texture: UInt8[np.ndarray, "T S 3"], suffix: str) -> bytes:
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
