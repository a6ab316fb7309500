"""Where the 68 iBUG landmarks lie on meshes: published vertex ids, and the files people keep them in."""

import re
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from sameface.core.errors import AssetMissing, BadModel
from sameface.core.files import read_bytes
from sameface.core.geometry import barycentric

__all__ = ["BFM2009_IDS", "NONECK_IDS", "on_triangles", "on_vertices", "read_landmarks"]

# Anil Bas, "68 landmark points for Basel Face Model (300W annotation)", github.com/anilbas/BFMLandmarks,
# Landmarks68_BFM.anl (MIT): vertices of the 53,490-vertex mesh, counted from 1 as in Matlab. A second source, counted
# from 0 (github.com/patrikhuber/eos, share/ibug_to_bfm.txt, 19 points), has the same vertices for the nose tip and the
# middle of the upper and lower lip's upper edges.
BFM2009_IDS = np.array("""
    22143 22813 22840 23250 44124 45884 47085 47668 48188 48708 49299 50498 52457 32022 32386 32359 32979
    38886 39636 40030 40238 40433 41172 41368 41578 42011 42646 8291 8305 8314 8320 6783 7687 8331 8977 9879
    1832 3760 5050 6087 4546 3516 10731 11758 12919 14859 13191 12157
    5523 6155 7442 8345 9506 10799 11199 10179 9277 8374 7471 6566 5909 7322 8354 9386 10941 9141 8367 7194
    """.split(), np.int64) - 1  # fmt: skip

# The keypoints of 3DDFA and face3d (model_info.mat `keypoints`, 3DDFA's keypoints_sim.npy), counted from 0, on the mesh
# of 53,215 vertices that is left of the 53,490 after trimming.
NONECK_IDS = np.array("""
    21873 22149 21653 21036 43236 44918 46166 47135 47914 48695 49667 50924 52613 33678 33005 32469 32709
    38695 39392 39782 39987 40154 40893 41059 41267 41661 42367 8161 8177 8187 8192 6515 7243 8204 9163 9883
    2215 3886 4920 5828 4801 3640 10455 11353 12383 14066 12653 11492
    5522 6025 7495 8215 8935 10395 10795 9555 8836 8236 7636 6915 5909 7384 8223 9064 10537 8829 8229 7629
    """.split(), np.int64)  # fmt: skip

LARGEST = 1 << 20
"""bytes of a list of 68 landmarks"""
LARGEST_MISS = 10.0
"""mm from a landmark to its stated position; another mean expression makes 3, another mesh makes tens"""


def on_vertices(
    ids: Int[np.ndarray, " L"], faces: Int[np.ndarray, "F 3"], source: Path
) -> tuple[Int[np.ndarray, " L"], Float[np.ndarray, "L 3"]]:
    """Landmarks that are vertices, as (face, barycentric weights): the first face with the vertex, weight 1 there."""
    first = np.full(max(int(faces.max()), int(ids.max())) + 1, -1)
    for corner in (2, 1, 0):
        first[faces[::-1, corner]] = np.arange(len(faces))[::-1]
    missing = np.flatnonzero((ids < 0) | (first[np.maximum(ids, 0)] < 0))
    if len(missing):
        raise BadModel(
            f"{source}: landmark {missing[0]} is vertex {ids[missing[0]]}, which no face of this mesh uses; "
            "the landmarks belong to another mesh"
        )
    chosen = first[ids]
    return chosen, (faces[chosen] == ids[:, None]).astype(np.float32)


def on_triangles(
    corners: Int[np.ndarray, "L 3"], weights: Float[np.ndarray, "L 3"], faces: Int[np.ndarray, "F 3"], source: Path
) -> tuple[Int[np.ndarray, " L"], Float[np.ndarray, "L 3"]]:
    """Landmarks between three vertices each, as (face, weights in the order of that face's corners).

    A row with one or two weights of zero may name any vertex there; the face then only has to have the others.
    """
    chosen, out = np.zeros(len(corners), np.int64), np.zeros((len(corners), 3), np.float32)
    for row, (three, weight) in enumerate(zip(corners, weights, strict=True)):
        used = three[weight != 0]
        found = np.flatnonzero(np.logical_and.reduce([(faces == vertex).any(1) for vertex in used]))
        if not len(found):
            raise BadModel(f"{source}: landmark {row} lies between the vertices {used.tolist()}, which share no face")
        chosen[row] = found[0]
        for vertex, share in zip(three, weight, strict=True):
            out[row] += share * (faces[found[0]] == vertex)
    return chosen, out


def read_landmarks(
    path: Path, vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"]
) -> tuple[Int[np.ndarray, " 68"], Float[np.ndarray, "68 3"]]:
    """A text file of 68 rows in iBUG order, as (face, weights). `vertices` are the mean face, mm.

    A row is one vertex id; or "i0 w0 i1 w1 i2 w2", three vertex ids and their barycentric weights; or
    "number,x,y,z,face,w0,w1,w2", where the position (mm) is used to check that face and weights belong to this mesh.
    Ids count from 0, unless the file has a Matlab comment (a line that begins with %): such files, the .anl files of
    BFMLandmarks among them, count from 1. Lines that begin with # are comments too.
    """
    if not Path(path).exists():
        raise AssetMissing(f"the landmark file {path} does not exist")
    table, start = _table(path)
    if table.shape[1] == 1:
        return on_vertices(table[:, 0].astype(np.int64) - start, faces, path)
    weights = table[:, 5:] if table.shape[1] == 8 else table[:, 1::2]
    if not np.allclose(weights.sum(1), 1, atol=1e-3):
        worst = int(np.abs(weights.sum(1) - 1).argmax())
        raise BadModel(f"{path}: the weights of landmark {worst} sum to {weights[worst].sum():.4f}, not to 1")
    weights = weights / weights.sum(1, keepdims=True)
    if table.shape[1] == 6:
        return on_triangles(table[:, ::2].astype(np.int64) - start, weights, faces, path)
    return _on_numbered_faces(table[:, 4].astype(np.int64) - start, weights, table[:, 1:4], vertices, faces, path)


def _table(path: Path) -> tuple[Float[np.ndarray, "68 _"], int]:
    """(the numbers, what ids count from)."""
    text = read_bytes(path, LARGEST, BadModel).decode(errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    rows = [re.split(r"[\s,;]+", line) for line in lines if line[0] not in "#%"]
    widths = {len(row) for row in rows}
    if len(rows) != 68 or widths not in ({1}, {6}, {8}):
        raise BadModel(
            f"{path} has {len(rows)} rows of {sorted(widths)} numbers; expected 68 rows of one vertex id each, "
            "of i0 w0 i1 w1 i2 w2, or of number,x,y,z,face,w0,w1,w2"
        )
    try:
        return np.array(rows, float), int(any(line.startswith("%") for line in lines))
    except ValueError as error:
        raise BadModel(f"{path} is not a list of landmarks ({error})") from None


def _on_numbered_faces(
    chosen: Int[np.ndarray, " L"],
    weights: Float[np.ndarray, "L 3"],
    expected: Float[np.ndarray, "L 3"],
    vertices: Float[np.ndarray, "V 3"],
    faces: Int[np.ndarray, "F 3"],
    source: Path,
) -> tuple[Int[np.ndarray, " L"], Float[np.ndarray, "L 3"]]:
    """Landmarks on faces of a given number, provided that they lie where the file says."""
    if chosen.min() < 0 or chosen.max() >= len(faces):
        raise BadModel(
            f"{source} names face {chosen.max()}, but the mesh has {len(faces)}: they do not belong together"
        )
    distance = np.linalg.norm(barycentric(vertices, faces[chosen], weights) - expected, axis=1)
    if distance.max() > LARGEST_MISS:
        raise BadModel(
            f"{source}: landmark {distance.argmax()} lies {distance.max():.1f} mm from where the file says; expected "
            f"at most {LARGEST_MISS:.0f}: the landmarks belong to another mesh"
        )
    return chosen, weights.astype(np.float32)
