"""Even-sized triangles on a subset of a mesh's own points: clip, split what is long, collapse what is short.

Every vertex that comes out is a vertex of the source or lies on one of its edges, so a morphable model moves to the new
topology by interpolation along edges, never by a closest-point search that can jump between lips or lids.
"""

import heapq
import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import csr_matrix, vstack

__all__ = ["boundary_loops", "clip", "collapse_short_edges", "flip_to_delaunay", "split_long_edges"]

SHARPEST_TURN = np.cos(np.radians(50))
"""a collapse or flip may not turn a face by more than this"""
STIFFNESS = 150.0
"""weight of squared distance from the surface against squared edge length"""


def boundary_loops(faces: Int[np.ndarray, "F 3"]) -> list[list[int]]:
    """Each loop of edges with one face, as vertex indices in the direction of its faces."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    seen = set(map(tuple, edges.tolist()))
    follow = {a: b for a, b in seen if (b, a) not in seen}
    loops = []
    while follow:
        loop, at = [], next(iter(follow))
        while at in follow:
            loop.append(at)
            at = follow.pop(at)
        loops.append(loop)
    return loops


def clip(
    weights: csr_matrix, faces: Int[np.ndarray, "F 3"], field: Float[np.ndarray, " V"]
) -> tuple[csr_matrix, Int[np.ndarray, "G 3"]]:
    """The part of a mesh where a per-vertex field is positive, cut exactly along field = 0.

    `weights` (V, S) says how each vertex is made from the source's S vertices; rows for the cut points are appended.
    """
    inside = field > 0
    kept, rows, made = [faces[inside[faces].all(1)]], [], {}

    def cut(a: int, b: int) -> int:
        key = (min(a, b), max(a, b))
        if key not in made:
            t = field[key[0]] / (field[key[0]] - field[key[1]])
            rows.append((1 - t) * weights[key[0]] + t * weights[key[1]])
            made[key] = len(field) + len(rows) - 1
        return made[key]

    extra = []
    for face in faces[inside[faces].any(1) & ~inside[faces].all(1)].tolist():
        k = next(i for i in range(3) if inside[face[i]] and not inside[face[i - 1]])
        a, b, c = face[k], face[(k + 1) % 3], face[(k + 2) % 3]  # a inside, c outside
        if inside[b]:
            p, q = cut(b, c), cut(c, a)
            extra += [(a, b, p), (a, p, q)]
        else:
            extra.append((a, cut(a, b), cut(c, a)))
    kept.append(np.array(extra, faces.dtype).reshape(-1, 3))
    return vstack([weights, *rows]).tocsr(), np.concatenate(kept)  # pyright: ignore[reportReturnType]


_Vector = tuple[float, float, float]
"""of three numbers Python is quicker than arrays, and the same on every processor"""


def _less(a: _Vector, b: _Vector) -> _Vector:
    return a[0] - b[0], a[1] - b[1], a[2] - b[2]


def _dot(a: _Vector, b: _Vector) -> float:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def _cross(a: _Vector, b: _Vector) -> _Vector:
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]


class _Mesh:
    """Faces that can be edited: positions, a face table and the faces around each vertex."""

    def __init__(self, points: np.ndarray, faces: np.ndarray):
        self.points: list[_Vector] = [(x, y, z) for x, y, z in points.astype(np.float64).tolist()]
        self.faces: dict[int, list[int]] = dict(enumerate(faces.tolist()))
        self.around: list[set[int]] = [set() for _ in points]
        for index, face in self.faces.items():
            for v in face:
                self.around[v].add(index)

    def edges(self) -> list[tuple[int, int]]:
        return sorted(
            {(min(a, b), max(a, b)) for f in self.faces.values() for a, b in zip(f, f[1:] + f[:1], strict=True)}
        )

    def length(self, a: int, b: int) -> float:
        return math.dist(self.points[a], self.points[b])

    def neighbours(self, v: int) -> set[int]:
        return {w for f in self.around[v] for w in self.faces[f]} - {v}

    def replace(self, index: int, face: list[int] | None) -> None:
        for v in self.faces.pop(index, []):
            self.around[v].discard(index)
        if face is not None:
            self.faces[index] = face
            for v in face:
                self.around[v].add(index)

    def shape(self, face: list[int]) -> tuple[_Vector, float]:
        """Unit normal and quality of a face."""
        a, b, c = (self.points[v] for v in face)
        ab, bc, ca = _less(b, a), _less(c, b), _less(a, c)
        x, y, z = _cross(ca, ab)
        area = math.sqrt(x * x + y * y + z * z)
        quality = 2 * math.sqrt(3) * area / max(_dot(ab, ab) + _dot(bc, bc) + _dot(ca, ca), 1e-12)
        area = max(area, 1e-12)
        return (x / area, y / area, z / area), quality

    def array(self) -> np.ndarray:
        return np.array([self.faces[i] for i in sorted(self.faces)], np.int32)


def split_long_edges(
    weights: csr_matrix, faces: Int[np.ndarray, "F 3"], place: Callable[[csr_matrix], np.ndarray], longest: float
) -> tuple[csr_matrix, Int[np.ndarray, "G 3"]]:
    """Halve edges, longest first, until none is longer than `longest` in the embedding `place(weights) (V, 3)`."""
    mesh = _Mesh(place(weights), faces)
    rows: list[csr_matrix] = []
    queue = [(-mesh.length(a, b), a, b) for a, b in mesh.edges() if mesh.length(a, b) > longest]
    heapq.heapify(queue)

    def row(v: int) -> csr_matrix:
        return weights[v] if v < weights.shape[0] else rows[v - weights.shape[0]]  # pyright: ignore[reportOptionalSubscript]

    while queue:
        _, a, b = heapq.heappop(queue)
        shared = mesh.around[a] & mesh.around[b]
        if not shared:
            continue
        new = len(mesh.points)
        rows.append(0.5 * (row(a) + row(b)))  # pyright: ignore[reportArgumentType]
        (ax, ay, az), (bx, by, bz) = mesh.points[a], mesh.points[b]
        mesh.points.append((0.5 * (ax + bx), 0.5 * (ay + by), 0.5 * (az + bz)))
        mesh.around.append(set())
        for index in sorted(shared):
            face = mesh.faces[index]
            mesh.replace(index, [new if v == a else v for v in face])
            mesh.replace(max(mesh.faces) + 1, [new if v == b else v for v in face])
        for c in sorted(mesh.neighbours(new)):
            if mesh.length(new, c) > longest:
                heapq.heappush(queue, (-mesh.length(new, c), min(new, c), max(new, c)))
    return vstack([weights, *rows]).tocsr() if rows else weights, mesh.array()  # pyright: ignore[reportReturnType]


def collapse_short_edges(
    points: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"], fixed: Bool[np.ndarray, " V"], count: int
) -> Int[np.ndarray, "G 3"]:
    """Half-edge collapses, cheapest first, until `count` vertices are left; faces keep the original indices.

    The cost of moving vertex a onto its neighbour b is (|a − b|² + STIFFNESS · d²) / quality: d² is the mean squared
    distance of b from the source planes that a has gathered (Garland & Heckbert 1997), quality the worst shape of the
    faces made. So the edge length evens out where the surface is smooth, and rims and creases keep their vertices.
    `fixed` vertices stay; boundary vertices only move along their boundary; a collapse that would fold the surface or
    change its topology is passed over.
    """
    mesh = _Mesh(points, faces)
    on_boundary = np.zeros(len(points), bool)
    on_boundary[[v for loop in boundary_loops(faces) for v in loop]] = True
    quadrics = _quadrics(mesh)
    queue: list[tuple[float, int, int]] = []

    def push(a: int, b: int) -> None:
        for gone, kept in ((a, b), (b, a)):
            if not fixed[gone] and (not on_boundary[gone] or on_boundary[kept]):
                cost = _cost(mesh, gone, kept, quadrics, on_boundary)
                if math.isfinite(cost):
                    heapq.heappush(queue, (cost, gone, kept))

    for a, b in mesh.edges():
        push(a, b)
    left = len(np.unique(faces))
    while queue and left > count:
        cost, gone, kept = heapq.heappop(queue)
        if not mesh.around[gone] & mesh.around[kept]:
            continue
        now = _cost(mesh, gone, kept, quadrics, on_boundary)
        if now > cost * 1.0001:  # its surroundings changed: it waits for its new turn
            if math.isfinite(now):
                heapq.heappush(queue, (now, gone, kept))
            continue
        for index in sorted(mesh.around[gone]):
            face = mesh.faces[index]
            mesh.replace(index, None if kept in face else [kept if v == gone else v for v in face])
        quadrics[kept] += quadrics[gone]
        for c in sorted(mesh.neighbours(kept)):
            push(kept, c)
        left -= 1
    return mesh.array()


def _quadrics(mesh: _Mesh) -> np.ndarray:
    """(V, 5, 5): the sum of area · plane planeᵀ over each vertex's faces; element [4, 4] holds the area."""
    out = np.zeros((len(mesh.points), 5, 5))
    for face in mesh.faces.values():
        a, b, c = (mesh.points[v] for v in face)
        normal = _cross(_less(b, a), _less(c, a))
        area = math.hypot(*normal) / 2
        plane = np.array([*normal, -_dot(normal, a)]) / max(2 * area, 1e-12)
        for v in face:
            out[v, :4, :4] += area * np.outer(plane, plane)
            out[v, 4, 4] += area
    return out


def _cost(mesh: _Mesh, gone: int, kept: int, quadrics: np.ndarray, on_boundary: np.ndarray) -> float:
    shared = mesh.around[gone] & mesh.around[kept]
    if on_boundary[gone] and len(shared) != 1:
        return np.inf
    if len(mesh.neighbours(gone) & mesh.neighbours(kept)) != len(shared):  # link condition: it stays a surface
        return np.inf
    worst = 1.0
    for index in mesh.around[gone] - shared:
        before = mesh.faces[index]
        normal, quality = mesh.shape([kept if v == gone else v for v in before])
        if _dot(normal, mesh.shape(before)[0]) < SHARPEST_TURN:
            return np.inf
        worst = min(worst, quality)
    at = np.array([*mesh.points[kept], 1.0])
    distance = float((at[:, None] * quadrics[gone][:4, :4] * at).sum() / quadrics[gone][4, 4])
    return (mesh.length(gone, kept) ** 2 + STIFFNESS * max(distance, 0.0)) / max(worst, 0.02)


def flip_to_delaunay(
    points: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"], rounds: int = 4
) -> Int[np.ndarray, "F 3"]:
    """Flip interior edges whose opposite angles sum to more than π, where the surface is nearly flat across them."""
    mesh = _Mesh(points, faces)
    for _ in range(rounds):
        flips = 0
        for a, b in mesh.edges():
            shared = sorted(mesh.around[a] & mesh.around[b])
            if len(shared) != 2:
                continue
            first = mesh.faces[shared[0]]
            k = first.index(a)
            if first[(k + 1) % 3] != b:
                a, b = b, a
            c = next(v for v in mesh.faces[shared[0]] if v not in (a, b))
            d = next(v for v in mesh.faces[shared[1]] if v not in (a, b))
            if d not in mesh.neighbours(c) and _flip_helps(mesh, a, b, c, d):
                mesh.replace(shared[0], [c, a, d])
                mesh.replace(shared[1], [d, b, c])
                flips += 1
        if not flips:
            break
    return mesh.array()


def _flip_helps(mesh: _Mesh, a: int, b: int, c: int, d: int) -> bool:
    (n1, q1), (n2, q2) = mesh.shape([a, b, c]), mesh.shape([b, a, d])
    (n3, q3), (n4, q4) = mesh.shape([c, a, d]), mesh.shape([d, b, c])
    flat = _dot(n1, n2) > 0.94 and min(_dot(n3, n1), _dot(n3, n2), _dot(n4, n1), _dot(n4, n2)) > 0.94
    return flat and min(q3, q4) > min(q1, q2) + 1e-9
