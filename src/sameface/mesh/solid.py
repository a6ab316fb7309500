"""A mesh for printers: closed, as STL."""

import os

import numpy as np
from jaxtyping import Float, Int

from sameface.core.files import write_file
from sameface.mesh.write import check_mesh

__all__ = ["closed", "write_stl"]


def closed(
    vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"]
) -> tuple[Float[np.ndarray, "W 3"], Int[np.ndarray, "G 3"]]:
    """The mesh with a fan over every hole, around a new vertex in the middle of its rim: each edge has two triangles.

    Raises ValueError where edges have more than two already, or triangles beside each other face opposite ways.
    """
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]).astype(np.int64)
    number, back = edges @ [len(vertices), 1], edges @ [1, len(vertices)]
    if len(np.unique(number)) < len(number):
        raise ValueError("the mesh cannot be closed: triangles share an edge that are more than two, or turned over")
    rim: dict[int, list[int]] = {}
    for start, end in edges[~np.isin(number, back)].tolist():
        rim.setdefault(start, []).append(end)
    points, fans = [vertices], [faces.astype(np.int64)]
    count = len(vertices)
    while rim:
        loop = [next(iter(rim))]
        while (here := loop[-1]) in rim:
            loop.append(rim[here].pop())
            if not rim[here]:
                del rim[here]
        around = np.array(loop)
        points.append(vertices[around[:-1]].mean(0, keepdims=True))
        fans.append(np.stack([around[1:], around[:-1], np.full(len(loop) - 1, count)], axis=1))
        count += 1
    return np.concatenate(points), np.concatenate(fans)


def write_stl(path: str | os.PathLike[str], vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"]) -> None:
    """Binary STL, mm, closed first. Raises ValueError for a mesh that cannot be closed, BadOutput."""
    check_mesh(vertices, faces)
    points, solid = closed(vertices, faces)
    corners = points[solid].astype("<f4")
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    rows = np.zeros(len(solid), [("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
    rows["normal"], rows["corners"] = normals / np.where(length > 0, length, 1), corners
    header = b"sameface, millimetres".ljust(80)  # must not begin with "solid"
    write_file(path, header + len(rows).to_bytes(4, "little") + rows.tobytes())
