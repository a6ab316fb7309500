"""Meshes and scans laid on each other: closest points on a surface, ICP, and the least-squares fit of a mesh to a scan.

All lengths are in one unit, mm everywhere in this project. Closest points come from libigl's tree of boxes, and the
solver from SciPy: both are in the extra `sameface[compile]`.
"""

from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from sameface.core.geometry import align, rotation_from_axis_angle

__all__ = ["Closest", "Registration", "Similarity", "Surface", "fit_mesh", "icp", "procrustes"]

RESIZED = 1.5
"""most that a fit may enlarge or shrink what the landmarks say: points that are 35 mm from their middle (rms), as the
seven of NoW, and each 10 mm wrong tell the size within 10 / (35 √7) = 0.11; this is more than four times as much"""
STALLED = 1e-4
"""a step of ICP that lowers the residual by less than this part of it has gained nothing"""


class Similarity(NamedTuple):
    """x ↦ s R x + t."""

    scale: float = 1.0
    rotation: Float[np.ndarray, "3 3"] = np.eye(3)
    translation: Float[np.ndarray, " 3"] = np.zeros(3)

    def apply(self, points: Float[np.ndarray, "*b 3"]) -> Float[np.ndarray, "*b 3"]:
        """The moved points."""
        return self.scale * points @ self.rotation.T + self.translation

    def inverse(self) -> "Similarity":
        """The way back: x ↦ Rᵀ (x − t) / s."""
        return Similarity(1 / self.scale, self.rotation.T, -(self.rotation.T @ self.translation) / self.scale)

    def after(self, first: "Similarity") -> "Similarity":
        """The similarity that applies `first`, then this one."""
        return Similarity(self.scale * first.scale, self.rotation @ first.rotation, self.apply(first.translation))


class Closest(NamedTuple):
    """For each of N points, where a surface is nearest."""

    points: Float[np.ndarray, "N 3"]
    distances: Float[np.ndarray, " N"]
    triangles: Int[np.ndarray, " N"]


class Registration(NamedTuple):
    """What a fit found, and how it ended."""

    similarity: Similarity
    """moves what was to be moved onto the other"""
    iterations: int
    converged: bool
    """False when the iterations ran out first"""
    rms: float
    """root of the mean squared residual that was minimised, over the points that took part"""


class Surface:
    """A triangle mesh that can be asked for closest points; its tree is built once.

    `normals` (F, 3) are the unit normals of the triangles, zero for degenerate ones. Raises ValueError for a mesh
    without triangles, with vertices that are not finite, or with faces that name vertices that are not there.
    """

    def __init__(self, vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"]):
        import igl

        if not len(faces):
            raise ValueError(f"a surface needs triangles, but the mesh has {len(vertices)} vertices and no faces")
        if not np.isfinite(vertices).all():
            raise ValueError(f"{_not_finite(vertices)} vertices of the mesh are NaN or infinite")
        if faces.min() < 0 or faces.max() >= len(vertices):
            raise ValueError(f"faces name vertices {faces.min()}..{faces.max()}, but there are {len(vertices)}, from 0")
        self.vertices = np.ascontiguousarray(vertices, np.float64)
        self.faces = np.ascontiguousarray(faces, np.int64)
        a, b, c = (self.vertices[self.faces[:, k]] for k in range(3))
        normals = np.cross(b - a, c - a)
        length = np.linalg.norm(normals, axis=1, keepdims=True)
        self.normals = normals / np.where(length > 0, length, 1)
        self._tree = igl.AABB()
        self._tree.init(self.vertices, self.faces)

    def closest(self, points: Float[np.ndarray, "N 3"]) -> Closest:
        """The point of the surface nearest to each point: inside a triangle, on an edge, or at a vertex."""
        if not np.isfinite(points).all():
            raise ValueError(f"{_not_finite(points)} of {len(points)} points are NaN or infinite")
        points = np.ascontiguousarray(points, np.float64)
        squared, triangles, nearest = self._tree.squared_distance(self.vertices, self.faces, points)
        return Closest(np.asarray(nearest), np.sqrt(np.maximum(squared, 0)), np.asarray(triangles))

    def on_rim(self, closest: Closest) -> Bool[np.ndarray, " N"]:
        """Whether each closest point lies on the boundary of the mesh: on an edge that has one triangle only."""
        edges = np.sort(self.faces[:, [[0, 1], [1, 2], [2, 0]]], axis=2)
        _, which, count = np.unique(edges.reshape(-1, 2), axis=0, return_inverse=True, return_counts=True)
        single = (count[which.reshape(-1)] == 1).reshape(-1, 3)
        corners = self.vertices[self.faces[closest.triangles]]
        along = np.roll(corners, -1, axis=1) - corners
        off = closest.points[:, None] - corners
        length = np.linalg.norm(along, axis=2)
        beside = np.linalg.norm(np.cross(along, off), axis=2) <= 1e-6 * length**2
        at_corner = np.linalg.norm(off, axis=2) <= 1e-6 * length
        rim = np.unique(edges[single])  # a corner on the rim also belongs to triangles that have no edge there
        return (single[closest.triangles] & beside).any(1) | (
            at_corner & np.isin(self.faces[closest.triangles], rim)
        ).any(1)


def _not_finite(points: np.ndarray) -> int:
    return int((~np.isfinite(points).all(axis=1)).sum())


def procrustes(source: Float[np.ndarray, "L 3"], target: Float[np.ndarray, "L 3"], *, scale: bool = True) -> Similarity:
    """The similarity that minimises Σ |s R x_l + t − y_l|² over landmarks (Umeyama 1991), never a reflection.

    Raises ValueError for fewer than three points, and for points on one line, about which a face could turn freely.
    """
    for name, points in (("source", source), ("target", target)):
        _check_spread(points, f"the {name} landmarks")
    s, rotation, translation = align(source.astype(np.float64), target.astype(np.float64), scale=scale)
    return Similarity(float(s), rotation, translation)


def _check_spread(points: np.ndarray, name: str) -> None:
    """Refuse points that leave a turn undecided."""
    if len(points) < 3 or not np.isfinite(points).all():
        raise ValueError(f"{name} must be 3 or more finite points, but are {len(points)}, {_not_finite(points)} bad")
    spread = np.linalg.svd(points - points.mean(0), compute_uv=False)
    if spread[1] <= 1e-9 * spread[0] or spread[0] == 0:
        raise ValueError(f"{name} lie on one line, so no rotation is best: give points that span a plane")


def icp(
    points: Float[np.ndarray, "N 3"],
    surface: Surface,
    *,
    start: Similarity | None = None,
    scale: bool = False,
    moves: Literal["points", "mesh"] = "mesh",
    residual: Literal["point", "plane"] = "plane",
    trimmed: float = 0.0,
    beyond: bool = True,
    sample: int | None = None,
    iterations: int = 200,
    tolerance: float = 1e-3,
) -> Registration:
    """Iterative closest point: minimises Σ |s R c_i + t − p_i|², c_i the point of the surface nearest to p_i.

    `moves` says what the answer moves: "mesh" onto the points (as above), or the "points" onto the mesh. Without scale
    the two agree. With scale they differ: points that may shrink can shrink to nothing, a mesh cannot.
    `residual="plane"` steps along n_i · (…) instead, n_i the normal of the triangle (Chen & Medioni 1991): a handful
    of steps. "point" is Besl & McKay 1992: it slides slowly along smooth surfaces and often needs hundreds.
    `trimmed` leaves out that part of the points, the farthest, each time (Chetverikov et al. 2002);
    `beyond=False` leaves out those whose nearest point is on the rim of the mesh. `sample` uses so
    many of the points, evenly picked by index. `start` defaults to no motion. It has converged when a step moves the
    points by less than `tolerance` (rms, mm), or, with planes, when three steps in a row find no smaller residual (by
    1e-4 of it): nearest triangles go on changing there. After `iterations` steps it returns with `converged` False.
    Raises ValueError for points that decide no rotation, and when the scale leaves that of `start` by more than
    `RESIZED`: the nearest points of what does not fit at all can be a dot, or one huge triangle.
    """
    if not 0 <= trimmed < 1:
        raise ValueError(f"trimmed is the part of the points to leave out, in [0, 1), but is {trimmed}")
    points = _sampled(points, sample)
    start = Similarity() if start is None else start
    pose, rms, best, idle = start, np.inf, np.inf, 0
    for done in range(1, iterations + 1):
        here, there, normals = _pairs(points, surface, pose, moves, trimmed, beyond)
        step, moved, rms = _step(here, there, None if residual == "point" else normals, scale)
        idle = idle + 1 if residual == "plane" and rms > best * (1 - STALLED) else 0
        best = min(best, rms)
        pose = step.after(pose)
        if not 1 / RESIZED < pose.scale / start.scale < RESIZED:
            raise ValueError(_resized("ICP", start, pose))
        if _rms(moved - here) < tolerance or idle == 3:
            return Registration(pose, done, True, rms)
    return Registration(pose, iterations, False, rms)


def _resized(what: str, start: Similarity, pose: Similarity) -> str:
    return (
        f"{what} left the size that the landmarks give (scale {start.scale:.3g} became {pose.scale:.3g}; at most "
        f"{RESIZED:g} times is allowed): the meshes do not fit; check the landmarks, left and right may be exchanged"
    )


def _sampled(points: np.ndarray, sample: int | None) -> np.ndarray:
    _check_spread(points, "the points")
    if sample is not None and sample < len(points):
        points = points[np.linspace(0, len(points) - 1, max(sample, 3)).round().astype(int)]
    return points.astype(np.float64)


def _step(
    here: np.ndarray, there: np.ndarray, normals: np.ndarray | None, scale: bool
) -> tuple[Similarity, np.ndarray, float]:
    """One step of ICP, where it moves the points, and the rms residual that is left; with normals along planes."""
    step = procrustes(here, there, scale=scale) if normals is None else _to_plane(here, there, normals, scale)
    moved = step.apply(here)
    off = moved - there if normals is None else (normals * (moved - there)).sum(1, keepdims=True)
    return step, moved, _rms(off)


def _rms(vectors: np.ndarray) -> float:
    return float(np.sqrt((vectors**2).sum(1).mean()))


def _pairs(
    points: np.ndarray, surface: Surface, pose: Similarity, moves: str, trimmed: float, beyond: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What moves, where it should be, and the normals of the surface there; the farthest part left out."""
    in_mesh = pose.apply(points) if moves == "points" else pose.inverse().apply(points)
    closest = surface.closest(in_mesh)
    keep = np.arange(len(points)) if beyond else np.flatnonzero(~surface.on_rim(closest))
    if trimmed:
        order = np.argsort(closest.distances[keep], kind="stable")
        keep = keep[order[: max(3, round(len(keep) * (1 - trimmed)))]]
    if len(keep) < 3:
        raise ValueError(f"only {len(keep)} of {len(points)} points face the inside of the mesh; ICP needs 3 or more")
    normals = surface.normals[closest.triangles[keep]]
    if moves == "points":
        return in_mesh[keep], closest.points[keep], normals
    return pose.apply(closest.points[keep]), points[keep], normals @ pose.rotation.T


def _to_plane(here: np.ndarray, there: np.ndarray, normals: np.ndarray, scale: bool) -> Similarity:
    """One Gauss-Newton step that minimises Σ (n · (s R x + t − y))²; motions that change nothing are left out."""
    centre = here.mean(0)
    arms = here - centre
    columns = [np.cross(arms, normals), normals]
    if scale:
        columns.append((arms * normals).sum(1, keepdims=True))
    jacobian = np.concatenate(columns, axis=1)
    size = np.sqrt((arms**2).sum(1).mean())  # so that a turn and a shift weigh alike in the cut-off below
    unit = np.array([size] * 3 + [1.0] * 3 + [size] * scale)
    system = np.column_stack([jacobian / unit, ((there - here) * normals).sum(1)])
    reduced = np.asarray(np.linalg.qr(system, mode="r"))
    change = np.linalg.lstsq(reduced[:, :-1], reduced[:, -1], rcond=1e-6)[0] / unit
    rotation = rotation_from_axis_angle(change[:3])
    s = float(np.exp(change[6])) if scale else 1.0
    return Similarity(s, rotation, centre + change[3:6] - s * rotation @ centre)


def fit_mesh(
    points: Float[np.ndarray, "N 3"],
    surface: Surface,
    *,
    start: Similarity | None = None,
    scale: bool = True,
    tolerance: float = 1e-8,
    evaluations: int = 200,
) -> Registration:
    """Minimises Σ d_i² over s, R, t: d_i = distance of point i to the SURFACE of the moved mesh.

    NoW's refinement (Sanyal et al. 2019; soubhiksanyal/now_evaluation, scan2mesh_computations.py). The original uses
    chumpy's dogleg on a Jacobian by automatic differentiation and stops at e_3 = 1e-4; this is SciPy's dogleg
    ("dogbox") on the exact Jacobian, in coordinates about the mesh's middle, down to `tolerance`, so it ends at the
    same optimum or closer to it. The original's term 100 (|s| − s) forbids a negative scale; here s stays within
    `RESIZED` times that of `start`. `scale=False` keeps the scale of `start` (the metrical protocol).
    Raises ValueError for points that decide no rotation, and when the scale ends at a bound.
    """
    from scipy.optimize import least_squares

    _check_spread(points, "the points")
    start = Similarity() if start is None else start
    middle = start.apply(surface.vertices).mean(0)
    problem = _ScanToMesh(points.astype(np.float64), surface, start, middle, scale)
    size = np.sqrt(((points - points.mean(0)) ** 2).sum(1).mean())
    unit = np.array([1 / size] * 3 + [1.0] * 3 + [1 / size] * scale)
    bounds = [[sign * np.inf] * 6 + [RESIZED**sign] * scale for sign in (-1, 1)]
    answer = least_squares(
        problem.residuals, problem.begin(), jac=problem.jacobian,  # pyright: ignore[reportArgumentType]
        method="dogbox", x_scale=unit, bounds=bounds,
        ftol=tolerance, xtol=tolerance, gtol=tolerance, max_nfev=evaluations,
    )  # fmt: skip
    pose = problem.pose(answer.x)
    if answer.active_mask.any():
        raise ValueError(_resized("the alignment", start, pose))
    return Registration(pose, int(answer.nfev), bool(answer.status > 0), float(np.sqrt(2 * answer.cost / len(points))))


class _ScanToMesh:
    """Residuals and Jacobian of `fit_mesh`; unknowns: axis-angle r, shift t, and s if it is free.

    A vertex v goes to s R (v' − m) + m + t, v' = start(v), m the middle of the mesh.
    """

    def __init__(self, points: np.ndarray, surface: Surface, start: Similarity, middle: np.ndarray, scale: bool):
        self.points, self.surface, self.start, self.middle, self.scale = points, surface, start, middle, scale
        self._at: np.ndarray | None = None
        self._found: tuple[np.ndarray, np.ndarray] | None = None

    def begin(self) -> np.ndarray:
        return np.array([0.0] * 6 + [1.0] * self.scale)

    def change(self, unknowns: np.ndarray) -> Similarity:
        rotation = rotation_from_axis_angle(unknowns[:3])
        s = float(unknowns[6]) if self.scale else 1.0
        return Similarity(s, rotation, self.middle + unknowns[3:6] - s * rotation @ self.middle)

    def pose(self, unknowns: np.ndarray) -> Similarity:
        return self.change(unknowns).after(self.start)

    def closest(self, unknowns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The nearest points of the moved mesh, and unit vectors from there to the points (N, 3)."""
        if self._found is None or self._at is None or not np.array_equal(unknowns, self._at):
            pose = self.pose(unknowns)
            closest = self.surface.closest(pose.inverse().apply(self.points))
            nearest = pose.apply(closest.points)
            away = self.points - nearest
            length = np.linalg.norm(away, axis=1, keepdims=True)
            normals = self.surface.normals[closest.triangles] @ pose.rotation.T
            away = np.where(length > 1e-9, away / np.maximum(length, 1e-9), normals)  # on the surface: its normal
            self._at, self._found = unknowns.copy(), (nearest, away)
        return self._found

    def residuals(self, unknowns: np.ndarray) -> np.ndarray:
        nearest, away = self.closest(unknowns)
        return (away * (self.points - nearest)).sum(1)

    def jacobian(self, unknowns: np.ndarray) -> np.ndarray:
        """The nearest point slides along the surface, at a right angle to `away`, so only the mesh's motion counts."""
        nearest, away = self.closest(unknowns)
        arms = nearest - self.middle - unknowns[3:6]
        columns = [-np.cross(arms, away) @ _left_jacobian(unknowns[:3]), -away]
        if self.scale:
            columns.append(-(arms * away).sum(1, keepdims=True) / unknowns[6])
        return np.concatenate(columns, axis=1)


def _left_jacobian(vector: np.ndarray) -> np.ndarray:
    """J with R(v + dv) ≈ R(J dv) R(v): I + (1 − cos θ)/θ² K + (θ − sin θ)/θ³ K², K the cross-product matrix of v."""
    cross = np.cross(np.eye(3), vector)
    angle = float(np.linalg.norm(vector))
    third = 1 / 6 - angle**2 / 120 if angle < 1e-2 else (angle - np.sin(angle)) / angle**3
    return np.eye(3) + 0.5 * np.sinc(angle / (2 * np.pi)) ** 2 * cross + third * cross @ cross
