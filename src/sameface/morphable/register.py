"""A template laid on a scan so that every vertex keeps its meaning: optimal-step non-rigid ICP.

Amberg, Romdhani, Vetter: "Optimal Step Nonrigid ICP Algorithms for Surface Registration", CVPR 2007. Every vertex has
an affine map X_i of its own, and neighbours' maps are tied by a stiffness that falls step by step; in each step nearest
points and the best maps for them (one sparse linear system) take turns. Symbols as in the paper: α stiffness, β weight
of the landmarks, G = diag(1, 1, 1, γ) with γ = 1.

What differs from the paper:
1. Coordinates are centred and divided by the template's RMS radius, and α grows with √V, so that the same stiffnesses
   serve metres or millimetres, 500 or 50,000 vertices.
2. Parts of the template that hang on to nothing (eyeballs, teeth) are tied to their nearest neighbours.
3. A nearest point must be near, face the same way and lie inside the scan, not on its rim (the paper, sec. 4.3, drops
   the rim and those that face elsewhere). On a cloud without triangles it is the foot on the plane of nearby points.
4. Landmarks may lie anywhere in a triangle of the template.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from sameface.core.errors import BadData
from sameface.core.geometry import align, vertex_normals
from sameface.mesh.read import Mesh
from sameface.metrics.alignment import Similarity, Surface
from sameface.morphable.plausible import SPREADS, UNITS, size_problem, spread, unit_of

__all__ = ["Landmarks", "Options", "Registered", "check_size", "register"]

FEWEST_POINTS = 300
"""of a scan"""
LEAST_OVERLAP = 0.15
"""part of the template's vertices that must have a partner on the scan"""
NEIGHBOURS, GAP = 12, 4.0
"""points of a cloud that make a plane; how many times their usual distance a foot may be from the next point"""


@dataclass(frozen=True)
class Options:
    """How the template gives way."""

    stiffness: tuple[float, ...] = (20.0, 8.0, 3.0, 1.2, 0.5)
    """α of each step, falling (the paper's schedule is for its own scale; these are ours)"""
    rounds: int = 3
    """nearest points and maps in turn, for each stiffness (the paper goes on until the maps rest)"""
    landmark_weight: float = 3.0
    """β of the first step; it falls with the stiffness, for picked points are wrong by millimetres (sec. 4.4)"""
    farthest: tuple[float, float] = (25.0, 5.0)
    """mm from a vertex to its partner, at the first and at the last stiffness"""
    facing: float = 0.6
    """least cosine between the normals of a vertex and of its partner"""
    rigid_rounds: int = 60
    """of rigid ICP before"""


class Landmarks(NamedTuple):
    """Points known on both: inside triangles of the template, and on the scan."""

    corners: Int[np.ndarray, "K 3"]
    """vertices of the template"""
    weights: Float[np.ndarray, "K 3"]
    points: Float[np.ndarray, "K 3"]
    """on the scan, mm"""


@dataclass(frozen=True, eq=False, repr=False)
class Registered:
    """The template where the scan is."""

    vertices: Float[np.ndarray, "V 3"]
    """mm, in the scan's place"""
    partnered: Bool[np.ndarray, " V"]
    """vertices with a partner on the scan in the last round; the others follow their neighbours"""
    rms: float
    """mm between these and their partners"""
    pose: Similarity = field(default_factory=Similarity)
    """took the template to the scan before it gave way"""


def register(
    vertices: Float[np.ndarray, "V 3"],
    faces: Int[np.ndarray, "F 3"],
    scan: Mesh,
    *,
    landmarks: Landmarks | None = None,
    options: Options | None = None,
    name: str = "the scan",
) -> Registered:
    """The template (mm) bent onto a scan (mm, a mesh or a cloud of points).

    min_X α² Σ_edges |(X_i − X_j) G|² + Σ_i w_i |X_i v_i − u_i|² + β² Σ_k |X v_k − l_k|² (eqs. 10-12), u_i the nearest
    point of the scan, w_i 0 without a partner. With three landmarks or more the template is first laid on them; else
    the scan must lie roughly as the template does (within some 30° and 50 mm), else it may end turned or displaced.
    Raises BadData, with `name`, for too few points, NaN, a wrong unit, and a scan that does not meet the template.
    """
    options, target = options or Options(), _target(scan, name)
    check_size(vertices, faces, scan, landmarks, name)
    vertices = np.asarray(vertices, np.float64)
    pose = _rigid(vertices, faces, target, landmarks, options, name)
    now = pose.apply(vertices)
    middle, size = now.mean(0), float(np.sqrt(((now - now.mean(0)) ** 2).sum(1).mean()))
    rest, edges = (now - middle) / size, _edges(vertices, faces)
    firmness = np.sqrt(len(vertices) / 1000)
    reach = np.geomspace(*options.farthest, len(options.stiffness))
    for alpha, farthest in zip(options.stiffness, reach, strict=True):
        pull = options.landmark_weight * alpha / options.stiffness[0]
        for _ in range(options.rounds):
            pairs = _partners(now, faces, target, farthest, options.facing)
            goals = ((pairs.points - middle) / size, pairs.good.astype(np.float64))
            marks = None if landmarks is None else landmarks._replace(points=(landmarks.points - middle) / size)
            now = _bent(rest, edges, alpha * firmness, goals, marks, pull * firmness) * size + middle
    pairs = _partners(now, faces, target, options.farthest[1], options.facing)
    _check_overlap(pairs.good, name)
    rms = float(np.sqrt(((now - pairs.points)[pairs.good] ** 2).sum(1).mean()))
    return Registered(now, pairs.good, rms, pose)


def check_size(
    vertices: np.ndarray, faces: np.ndarray, scan: Mesh, landmarks: Landmarks | None, name: str = "the scan"
) -> None:
    """Raise BadData if the scan cannot be in mm: by its landmarks' spread if there are three, else by its extent.

    Faces differ by a tenth or two; a scan may be half a face, or a whole head with shoulders.
    """
    if landmarks is not None and len(landmarks.points) >= 3:
        mine = (vertices[landmarks.corners] * landmarks.weights[..., None]).sum(1)
        ratio, least, most = spread(landmarks.points) / spread(mine), 0.6, 1.6
    else:
        used = vertices[np.unique(faces)]
        ratio, (least, most) = spread(scan.vertices) / spread(used), SPREADS
    problem, unit = size_problem(ratio, least, most), unit_of(ratio)
    if problem:
        hint = f": give unit={UNITS[unit]:g} (mm per unit of the file)" if unit else ""
        raise BadData(f"{name} {problem}{hint}")


# ── nearest points ─────────────────────────────────────────────────────────────────────────────────────────


class _Partners(NamedTuple):
    points: Float[np.ndarray, "V 3"]
    good: Bool[np.ndarray, " V"]


class _Cloud:
    """Points without triangles: the foot on the plane through the nearest of them."""

    def __init__(self, points: np.ndarray):
        from scipy.spatial import KDTree

        self.points, self.tree = points, KDTree(points)
        distance, around = self.tree.query(points, NEIGHBOURS)
        self.spacing = float(np.median(distance[:, 1]))
        middle = points[around].mean(1)
        centred = points[around] - middle[:, None]
        self.middle, self.normals = middle, np.linalg.eigh(centred.swapaxes(1, 2) @ centred)[1][:, :, 0]

    def nearest(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Feet, normals of either sign, and whether the foot is among the points rather than over a hole."""
        _, which = self.tree.query(points)
        normals = self.normals[which]
        foot = points - ((points - self.middle[which]) * normals).sum(1, keepdims=True) * normals
        return foot, normals, np.linalg.norm(foot - self.points[which], axis=1) < GAP * self.spacing


class _Sheet:
    """A mesh: the nearest point of a triangle, but none of the rim."""

    def __init__(self, mesh: Mesh):
        self.surface = Surface(mesh.vertices, mesh.faces)

    def nearest(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        found = self.surface.closest(points)
        return found.points, self.surface.normals[found.triangles], ~self.surface.on_rim(found)


def _target(scan: Mesh, name: str) -> Any:
    bad = int((~np.isfinite(scan.vertices).all(1)).sum())
    if bad:
        raise BadData(f"{name}: {bad} of {len(scan.vertices)} points are NaN or infinite; remove them")
    if len(scan.vertices) < FEWEST_POINTS:
        raise BadData(f"{name} has {len(scan.vertices)} points; a face needs {FEWEST_POINTS} or more, best some 10,000")
    return _Sheet(scan) if len(scan.faces) else _Cloud(np.asarray(scan.vertices, np.float64))


def _partners(now: np.ndarray, faces: np.ndarray, target: Any, farthest: float, facing: float) -> _Partners:
    points, normals, inside = target.nearest(now)
    cosine = (vertex_normals(now, faces) * normals).sum(1)
    if isinstance(target, _Cloud):
        cosine = abs(cosine)
    near = np.linalg.norm(points - now, axis=1) < farthest
    return _Partners(points, inside & near & (cosine > facing))


def _check_overlap(good: np.ndarray, name: str) -> None:
    if good.mean() < LEAST_OVERLAP:
        raise BadData(
            f"{name} meets only {good.mean():.0%} of the template, {LEAST_OVERLAP:.0%} are needed: it may be no face, "
            "lie turned or mirrored, or far away; give landmarks, at least three"
        )


def _rigid(
    vertices: np.ndarray, faces: np.ndarray, target: Any, landmarks: Landmarks | None, options: Options, name: str
) -> Similarity:
    """A similarity by the landmarks if there are three, then rigid ICP, partners counting less the farther they are."""
    pose, reach = Similarity(), 2 * options.farthest[0]
    if landmarks is not None and len(landmarks.points) >= 3:
        mine = (vertices[landmarks.corners] * landmarks.weights[..., None]).sum(1)
        scale, rotation, shift = align(mine, np.asarray(landmarks.points, np.float64))
        pose, reach = Similarity(float(scale), rotation, shift), options.farthest[0]
    before = np.full_like(vertices, np.inf)
    for _ in range(options.rigid_rounds):
        now = pose.apply(vertices)
        if np.abs(now - before).max() < 0.05:
            break
        before, pairs = now, _partners(now, faces, target, reach, options.facing)
        _check_overlap(pairs.good, name)
        weights = pairs.good / (1 + ((pairs.points - now) ** 2).sum(1) / 9)
        _, rotation, shift = align(now, pairs.points, scale=False, weights=weights)
        pose = Similarity(1.0, rotation, shift).after(pose)
    return pose


# ── the linear system ──────────────────────────────────────────────────────────────────────────────────────


def _edges(vertices: np.ndarray, faces: np.ndarray) -> Int[np.ndarray, "E 2"]:
    """The edges of a mesh, and ties from its loose parts to their nearest neighbours."""
    from scipy import sparse
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import KDTree

    edges = np.unique(np.sort(faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1), axis=0)
    count = len(vertices)
    graph = sparse.coo_matrix((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), (count, count))
    _, part = connected_components(graph, directed=False)
    main = part == np.bincount(part).argmax()
    if main.all():
        return edges
    loose, ground = np.flatnonzero(~main), np.flatnonzero(main)
    _, nearest = KDTree(vertices[ground]).query(vertices[loose])
    return np.concatenate([edges, np.stack([loose, ground[nearest]], axis=1)])


def _bent(
    rest: np.ndarray,
    edges: np.ndarray,
    alpha: float,
    goals: tuple[np.ndarray, np.ndarray],
    landmarks: Landmarks | None,
    pull: float,
) -> np.ndarray:
    """The vertices moved by the maps X (4V, 3) of least energy; the three columns share one factorisation."""
    from scipy import sparse
    from scipy.sparse.linalg import splu

    count, number = len(rest), np.arange(len(edges))
    homogeneous = np.append(rest, np.ones((count, 1)), axis=1)
    data = sparse.bsr_matrix((homogeneous[:, None, :], np.arange(count), np.arange(count + 1)), (count, 4 * count))
    signs = np.concatenate([np.ones(len(edges)), -np.ones(len(edges))])
    arcs = sparse.csr_matrix((signs, (np.tile(number, 2), edges.T.reshape(-1))), (len(edges), count))
    points, weights = goals
    matrix = alpha**2 * sparse.kron(arcs.T @ arcs, sparse.identity(4)) + data.T @ sparse.diags(weights) @ data
    right = data.T @ (weights[:, None] * points)
    if landmarks is not None:
        known = len(landmarks.points)
        where = (np.repeat(np.arange(known), 3), landmarks.corners.reshape(-1))
        marks = sparse.csr_matrix((landmarks.weights.reshape(-1), where), (known, count)) @ data
        matrix, right = matrix + pull**2 * marks.T @ marks, right + pull**2 * marks.T @ landmarks.points
    still = 1e-8 * sparse.identity(4 * count)  # decides what nothing else does, by no motion
    right = right + 1e-8 * np.tile(np.eye(4, 3), (count, 1))
    solver = splu(
        sparse.csc_matrix(matrix + still), permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0,
        options={"SymmetricMode": True},
    )  # fmt: skip
    return data @ solver.solve(np.ascontiguousarray(right))
