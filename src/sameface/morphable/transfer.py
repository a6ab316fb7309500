"""Our 51 expressions on a head that somebody made: deformation transfer.

Sumner & Popović, "Deformation Transfer for Triangle Meshes", SIGGRAPH 2004. What an expression does to a triangle of
ours, Q = V' V⁻¹ with V the triangle's edges and its scaled normal (their eqs. 1-4), shall happen to the triangles of
the head that lie there (`bridge`), Q = 1 to all others; the vertices that do so best are, as Botsch et al. 2006 show of
their eq. 8, those of a Poisson equation with cotangent weights:

    min_x  Σ_f Σ_{edges ij of f} ½ cot θ |(x_i − x_j) − Q_f (v_i − v_j)|²  +  ε Σ_i |x_i − v_i − d_i|²

d is the movement of ours where the vertex has a place on ours and 0 elsewhere: it only says where the whole is.
Parts that hang on to nothing: those beside the skin (lashes, brows) go with its nearest vertex; balls where our
eyeballs are turn as these do; what is in the mouth below the lips (lower teeth, tongue) goes with the jaw; all else
(upper teeth, hair) stays.
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from sameface.core.geometry import align, barycentric_weights
from sameface.mesh.read import Mesh
from sameface.metrics.alignment import Surface
from sameface.morphable import MorphableModel, default
from sameface.morphable.bridge import FACING, FARTHEST, Bridge, carrying
from sameface.morphable.scan_fit import fit_landmarks

__all__ = ["as_model", "transfer"]

HELD = 1e-3
"""ε, in parts of the mean cotangent weight"""
BESIDE = 8.0
"""mm: a part all of which is nearer to the skin goes with it"""
BALL, OFF = (16.0, 36.0), 12.0
"""mm: how large an eyeball is, and how far its middle may be from that of ours"""
MOUTH = (35.0, 45.0, 65.0)
"""mm from the middle of the lips to the middle of a part in the mouth: sideways, down, back"""
BONE = 0.9
"""of the most that jawOpen moves a vertex: those that move more show how the bone moves"""


def as_model(mesh: Mesh, picked: Float[np.ndarray, "68 3"], name: str = "head") -> MorphableModel:
    """A head (mm) as a model without modes; of the 68 points at least three are known, the others NaN."""
    ours = default()
    known = np.asarray(np.isfinite(picked).all(1))
    points = picked.astype(np.float64)
    if not known.all():  # of people with these points, the likeliest one says where the others are
        found = fit_landmarks(ours, points)
        points = np.where(known[:, None], points, found.pose.apply(ours.landmarks(ours.vertices(found.identity))))
    surface = Surface(mesh.vertices, mesh.faces)
    closest = surface.closest(points)
    weights = barycentric_weights(closest.points, surface.vertices[surface.faces[closest.triangles]])
    none = np.zeros((len(mesh.vertices), 3, 0), np.float32)
    return MorphableModel(
        name=name, licence="that of the head", mean=mesh.vertices.astype(np.float32), identity_basis=none,
        expression_basis=none, faces=mesh.faces.astype(np.int64), landmark_faces=closest.triangles.astype(np.int64),
        landmark_weights=weights.astype(np.float32), expression_names=(),
    )  # fmt: skip


def transfer(made: Bridge) -> dict[str, Float[np.ndarray, "V 3"]]:
    """ARKit's expressions on the head of a bridge: the offset of every vertex at weight 1, mm, in the head's frame."""
    from scipy.sparse.linalg import splu

    ours, head = default(), made.target
    rest = made.pose.apply(head.mean.astype(np.float64))
    skin, source = carrying(head), _source(made, rest)
    system = _system(rest, skin, made.back.trust > 0)
    solver = splu(system.matrix)
    lips = made.pose.apply(head.landmarks(head.mean)[60:].astype(np.float64)).mean(0)
    follow = _loose(rest, skin, head.faces, made.bent, lips)
    mean = ours.mean.astype(np.float64)
    undone = np.linalg.inv(_frames(mean, source.faces))
    answer = {}
    for k, name in enumerate(ours.expression_names):
        move = ours.expression_basis[:, :, k].astype(np.float64)
        change = _frames(mean + move, source.faces) @ undone
        change[~source.linked] = np.eye(3)
        held = made.back.on(move)[system.used] * system.held[:, None]
        right = system.pulled(change - np.eye(3)) + held
        offset = np.zeros_like(rest)
        offset[system.used] = solver.solve(right)
        follow.apply(offset, rest, mean, move, jaw=name.startswith("jaw"))
        answer[name] = (offset @ made.pose.rotation).astype(np.float32)
    return answer


# ── triangles ──────────────────────────────────────────────────────────────────────────────────────────────


class _Source(NamedTuple):
    faces: Int[np.ndarray, "F 3"]
    """of ours, for each triangle of the head's skin"""
    linked: np.ndarray


def _source(made: Bridge, rest: np.ndarray) -> _Source:
    """Which triangle of ours each triangle of the head's skin does as."""
    ours, skin = default(), carrying(made.target)
    known = ours.faces[ours.regions["skin"][ours.faces].all(1)].astype(np.int64)
    surface = Surface(made.bent.astype(np.float64), known)
    closest = surface.closest(rest[skin].mean(1))
    a, b, c = (rest[skin[:, k]] for k in range(3))
    normal = np.cross(b - a, c - a)
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
    facing = (normal * surface.normals[closest.triangles]).sum(1) > FACING
    linked = facing & (closest.distances < FARTHEST) & ~surface.on_rim(closest)
    return _Source(known[closest.triangles], linked)


def _frames(vertices: np.ndarray, faces: np.ndarray) -> Float[np.ndarray, "F 3 3"]:
    """Columns: two edges of each triangle, and its normal by the root of its length (eq. 1)."""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    normal = np.cross(b - a, c - a)
    normal /= np.sqrt(np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12))
    return np.stack([b - a, c - a, normal], axis=2)


class _System(NamedTuple):
    matrix: Any
    """of the offsets of the skin's vertices"""
    used: Int[np.ndarray, " N"]
    held: Float[np.ndarray, " N"]
    faces: Int[np.ndarray, "F 3"]
    """in the numbering of `used`"""
    weights: Float[np.ndarray, "F 3"]
    """½ cot of the angle opposite to the edge from corner k to the next"""
    edges: Float[np.ndarray, "F 3 3"]

    def pulled(self, change: Float[np.ndarray, "F 3 3"]) -> Float[np.ndarray, "N 3"]:
        """The right side of changes Q − 1 of the triangles."""
        pull = self.weights[:, :, None] * np.einsum("fde,fke->fkd", change, self.edges)
        out = np.zeros((len(self.used), 3))
        for k in range(3):
            for axis in range(3):
                out[:, axis] += np.bincount(self.faces[:, k], pull[:, k, axis], len(self.used))
                out[:, axis] -= np.bincount(self.faces[:, (k + 1) % 3], pull[:, k, axis], len(self.used))
        return out


def _system(rest: np.ndarray, skin: np.ndarray, placed: np.ndarray) -> _System:
    from scipy import sparse

    used = np.unique(skin)
    faces = np.searchsorted(used, skin)
    corners = rest[skin]
    edges = corners - np.roll(corners, -1, axis=1)  # from the next corner to this one
    weights = np.empty((len(skin), 3))
    for k in range(3):
        u, v = corners[:, k] - corners[:, k - 1], corners[:, (k + 1) % 3] - corners[:, k - 1]
        area = np.maximum(np.linalg.norm(np.cross(u, v), axis=1), 1e-9)
        weights[:, k] = np.clip(0.5 * (u * v).sum(1) / area, -10, 10)
    count = len(used)
    i, j, w = faces.reshape(-1), np.roll(faces, -1, axis=1).reshape(-1), weights.reshape(-1)
    graph = sparse.coo_matrix((w, (i, j)), (count, count))
    graph = (graph + graph.T).tocsc()
    held = np.where(placed[used], 1.0, 100.0) * HELD * np.abs(w).mean()
    laplacian = sparse.diags(np.asarray(graph.sum(1)).ravel() + held) - graph
    return _System(sparse.csc_matrix(laplacian), used, held, faces, weights, edges)


# ── parts that hang on to nothing ──────────────────────────────────────────────────────────────────────────


class _Loose(NamedTuple):
    beside: Int[np.ndarray, " N"]
    nearest: Int[np.ndarray, " N"]
    balls: tuple[tuple[np.ndarray, np.ndarray], ...]
    """(vertices of the head, vertices of our eyeball)"""
    lower: Int[np.ndarray, " N"]
    """in the mouth, with the jaw"""
    bone: Int[np.ndarray, " N"]
    """vertices of ours"""

    def apply(self, offset: np.ndarray, rest: np.ndarray, mean: np.ndarray, move: np.ndarray, *, jaw: bool) -> None:
        """Add their offsets."""
        offset[self.beside] = offset[self.nearest]
        if jaw:
            _, turn, shift = align(mean[self.bone], (mean + move)[self.bone], scale=False)
            offset[self.lower] = rest[self.lower] @ turn.T + shift - rest[self.lower]
        for theirs, ball in self.balls:
            _, turn, _ = align(mean[ball], (mean + move)[ball], scale=False)
            off = rest[theirs] - (rest[theirs].min(0) + rest[theirs].max(0)) / 2
            offset[theirs] = off @ turn.T - off


def _loose(rest: np.ndarray, skin: np.ndarray, faces: np.ndarray, bent: np.ndarray, lips: np.ndarray) -> _Loose:
    from scipy import sparse
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import KDTree

    ours, on_skin = default(), np.unique(skin)
    edges = faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    graph = sparse.coo_matrix((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), (len(rest), len(rest)))
    _, part = connected_components(graph, directed=False)
    distance, nearest = (np.asarray(found) for found in KDTree(rest[on_skin]).query(rest))
    eyes = [np.flatnonzero(ours.regions["eyeballs"] & (side * ours.mean[:, 0] > 0)) for side in (-1, 1)]
    beside, lower, balls = np.zeros(len(rest), bool), np.zeros(len(rest), bool), []
    opened = np.linalg.norm(ours.expression_basis[..., ours.expression_names.index("jawOpen")], axis=1)
    for number in np.unique(part[~np.isin(np.arange(len(rest)), on_skin)]):
        mine = np.flatnonzero(part == number)
        middle, size = (rest[mine].min(0) + rest[mine].max(0)) / 2, np.ptp(rest[mine], axis=0)
        away = [np.linalg.norm((bent[eye].min(0) + bent[eye].max(0)) / 2 - middle) for eye in eyes]
        if min(away) < OFF and BALL[0] < size.max() < BALL[1]:
            balls.append((mine, eyes[int(np.argmin(away))]))
            continue
        side, down, back = np.abs(middle - lips)[0], (lips - middle)[1], (lips - middle)[2]
        if side < MOUTH[0] and 0 < down < MOUTH[1] and 0 < back < MOUTH[2]:
            lower[mine] = True
        elif distance[mine].max() < BESIDE:
            beside[mine] = True
    which = np.flatnonzero(beside)
    bone = np.flatnonzero(ours.regions["skin"] & (opened > BONE * opened[ours.regions["skin"]].max()))
    return _Loose(which, on_skin[nearest[which]], tuple(balls), np.flatnonzero(lower), bone)
