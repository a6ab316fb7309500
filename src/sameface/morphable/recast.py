"""Our faces as faces of another model: its coefficients by regularised least squares through a bridge.

The identity α and a rigid motion (the origin of a head is a convention) come from the neutral face, y_i our vertices
moved into the target's frame, m_i and B_i its mean and modes at their places, n_i our mean's normals there,

    min_{α, ω, t}  k Σ_i w_i |n_i · r_i|² + k τ² Σ_i w_i |r_i − n_i (n_i · r_i)|² + |α|²,
    r_i = y_i − (m_i + B_i α + ω × (m_i − c) + t),

linear, and solved again after the motion until the motion rests. Along the surface (τ < 1) places are known less well.
Expressions ψ come from how our vertices move from the neutral face to the one of a photo, where wrong places cancel:
the same with τ = 1 for r_i = Δ_i − E_i ψ, and in FLAME's case with the jaw's angles θ, whose turn is not linear
(Gauss-Newton with the slopes at rest). Blendshapes keep to their range. Eyes turn as our eyeballs do.

k = `POINTS_THAT_COUNT` / `SIGMA`² / Σ w: what that many independent points with that error (mm) would say.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Float

from sameface.core.arrays import Record
from sameface.core.geometry import align, rotation_from_axis_angle, vertex_normals
from sameface.metrics.alignment import Similarity
from sameface.morphable import default
from sameface.morphable.bridge import Bridge, Places
from sameface.morphable.joints import joints_of

__all__ = ["Recast", "Recaster"]

POINTS = 2000
"""of our vertices that are used, evenly picked by index"""
POINTS_THAT_COUNT, SIGMA = 500.0, 0.5
ALONG = 0.3
"""τ of the identity"""
MOTIONS, STEPS, AT_REST = 5, 12, 1e-4
"""rounds of the rigid motion; steps of the jaw; rad that a last step turns"""
JAW = (0.3, 0.1, 0.1)
"""rad, σ of the jaw's turn about x (open), y, z"""
SHAPE_SIGMA = 0.5
"""σ of the weight of a blendshape"""
PATIENCE = 10
"""rounds without progress before weights change sides one by one"""


@dataclass(frozen=True, eq=False, repr=False)
class Recast(Record):
    """A person in another model: one identity, and one expression for each given face; the neutral one comes first."""

    identity: Float[np.ndarray, " S"]
    """σ"""
    person: Float[np.ndarray, "V 3"]
    """mm: the target's mean with this identity"""
    expression: Float[np.ndarray, "F E"]
    angles: Float[np.ndarray, "F J 3"]
    """rad, axis-angle, of the joints that the target turns (`Joints.names`)"""
    pose: Similarity
    """takes the target's frame (mm) to ours"""
    residual: Float[np.ndarray, "F 2"]
    """mm along the normal between ours and theirs: mean and 95th percentile over the linked part of our face region"""


class Recaster:
    """A bridge made ready: what only depends on the two models is computed once."""

    def __init__(self, bridge: Bridge):
        ours, target = default(), bridge.target
        self.target, self.home = target, bridge.pose
        used = np.flatnonzero(bridge.there.trust > 0)
        self.in_face = np.flatnonzero(ours.regions["face"] & (bridge.there.trust > 0))
        self.looked = Places(*(field[self.in_face] for field in bridge.there))
        self.used = used[np.linspace(0, len(used) - 1, min(POINTS, len(used))).astype(int)]
        at = Places(*(field[self.used] for field in bridge.there))
        weights = at.trust.astype(np.float64)
        self.strength = POINTS_THAT_COUNT / SIGMA**2 / weights.sum()
        self.joints = joints_of(target)
        self.offset = target.extra.get("expression_mean", np.zeros((1, 3), np.float32))
        shift = at.on(np.broadcast_to(self.offset, target.mean.shape))
        self.mean = at.on(target.mean).astype(np.float64)
        identity, expression = (_modes_at(at, basis) for basis in (target.identity_basis, target.expression_basis))
        normals = self.home.inverse().rotation @ vertex_normals(ours.mean, ours.faces)[self.used][..., None]
        self._identity(identity, normals[..., 0].astype(np.float64), weights)
        self._expression(expression, shift, at, weights)

    def __call__(
        self, neutral: Float[np.ndarray, "V 3"], expressed: Float[np.ndarray, "F V 3"] | None = None
    ) -> Recast:
        """Our neutral face, and the same person's with expressions, mm in our frame, in the target's coefficients."""
        faces = neutral[None] if expressed is None else np.concatenate([neutral[None], expressed])
        identity, pose = self._neutral(neutral[self.used].astype(np.float64))
        nobody = np.zeros((0, self.target.n_expression), np.float32)
        person = self.target.vertices(identity)
        start = Recast(identity, person, nobody, np.zeros((0, 0, 3)), pose, np.zeros((0, 2)))
        made = self.moved(start, neutral, faces)
        residual = np.stack([self._residual(face, self.mesh(made, k), pose) for k, face in enumerate(faces)])
        return replace(made, residual=residual)

    def moved(self, person: Recast, neutral: Float[np.ndarray, "V 3"], faces: Float[np.ndarray, "F V 3"]) -> Recast:
        """The same person with the expressions that take our neutral face to others; no residual is told."""
        moves = (faces[:, self.used] - neutral[self.used]).astype(np.float64) @ person.pose.rotation
        expression, angles = self._linear(moves), np.zeros((len(faces), 0, 3))
        if self.joints is not None:
            expression, angles = self._turned(person.person, moves, self._eyes(neutral, faces, person.pose))
        return replace(person, expression=expression, angles=angles, residual=np.full((len(faces), 2), np.nan))

    def mesh(self, made: Recast, face: int) -> Float[np.ndarray, "V 3"]:
        """One of the faces by the target's own formula, mm in its frame."""
        vertices = made.person + self.offset
        if made.expression[face].any():
            vertices += (made.expression[face] @ self._by_mode).reshape(-1, 3)
        return vertices if self.joints is None else self.joints.turned(vertices, made.angles[face])

    @cached_property
    def _by_mode(self) -> Float[np.ndarray, "E _"]:
        basis = self.target.expression_basis
        return np.moveaxis(basis, 2, 0).reshape(basis.shape[2], self.target.mean.size).astype(np.float32)

    # ── the identity ───────────────────────────────────────────────────────────────────────────────────────

    def _identity(self, modes: np.ndarray, normals: np.ndarray, weights: np.ndarray) -> None:
        self.centre = self.mean.mean(0)
        rigid = np.concatenate([_turns(self.mean - self.centre), np.tile(np.eye(3), (len(self.mean), 1, 1))], axis=2)
        design = np.concatenate([modes, rigid], axis=2)
        across = normals[:, :, None] * normals[:, None]
        metric = weights[:, None, None] * (across + ALONG**2 * (np.eye(3) - across))
        prior = np.append(np.ones(modes.shape[2]), np.full(6, 1e-9))
        self.to_identity = _solver(design, metric * self.strength, prior)[0]

    def _neutral(self, points: np.ndarray) -> tuple[np.ndarray, Similarity]:
        """(identity, what takes the target's frame to ours)."""
        pose = self.home
        for _ in range(MOTIONS):
            inside = pose.inverse().apply(points)
            found = self.to_identity @ (inside - self.mean).reshape(-1)
            turn, shift = rotation_from_axis_angle(found[-6:-3]), found[-3:]
            pose = pose.after(Similarity(1.0, turn, self.centre - turn @ self.centre + shift))
            if np.abs(found[-6:-3]).max() < AT_REST:
                break
        return found[:-6].astype(np.float32), pose

    # ── expressions ────────────────────────────────────────────────────────────────────────────────────────

    def _expression(self, modes: np.ndarray, shift: np.ndarray, at: Places, weights: np.ndarray) -> None:
        self.shift, self.modes, self.at = np.broadcast_to(shift, self.mean.shape), modes, at
        count, low = modes.shape[2], self.target.expression_range[0]
        sigma = np.full(count, SHAPE_SIGMA if low >= 0 else 1.0)
        design = modes
        self.jaw = self.joints.names.index("jaw") if self.joints is not None and "jaw" in self.joints.names else None
        if self.joints is not None:
            self.nearby, centres = self.joints.at(at), self.joints.regressor @ self.target.mean
            if self.jaw is not None:
                design = np.append(design, self.nearby.slopes(self.mean, self.jaw, centres[self.jaw]), axis=2)
                sigma = np.append(sigma, JAW)
            basis = self.target.expression_basis
            self.centre_modes = np.tensordot(self.joints.regressor, basis, (1, 0))
        metric = self.strength * weights[:, None, None] * np.eye(3)
        self.prior = 1 / sigma**2
        self.to_expression, self.normal = _solver(design, metric, self.prior)
        self.pull = np.linalg.inv(self.normal).T * self.prior[:, None]
        self.limits = self.target.expression_range if low >= 0 else None

    def _linear(self, moves: np.ndarray) -> np.ndarray:
        found = (moves - self.shift).reshape(len(moves), -1) @ self.to_expression.T
        if self.limits is not None and found.shape[1]:
            found = np.stack([_within(self.normal, row, *self.limits) for row in found @ self.normal])
        return found.astype(np.float32)

    def _turned(self, person: np.ndarray, moves: np.ndarray, angles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Expression and joints: steps with the slopes at rest until they are small."""
        assert self.joints is not None
        rest, centres = self.at.on(person).astype(np.float64), self.joints.regressor @ person
        count, jaw = self.modes.shape[2], self.jaw
        found = np.zeros((len(moves), len(self.prior)))
        by_mode, centre_modes = (m.reshape(-1, count).T for m in (self.modes, self.centre_modes))
        for _ in range(STEPS if jaw is not None else 1):
            shaped = rest + self.shift + (found[:, :count] @ by_mode).reshape(moves.shape)
            about = centres + (found[:, :count] @ centre_modes).reshape(angles.shape)
            left = moves - (self.nearby.turned(shaped, angles, about) - rest)
            step = left.reshape(len(moves), -1) @ self.to_expression.T - found @ self.pull
            found = found + step
            if jaw is not None:
                angles[:, jaw] = found[:, count:]
            if np.abs(step).max() < 10 * AT_REST:
                break
        return found[:, :count].astype(np.float32), angles

    def _eyes(self, neutral: np.ndarray, faces: np.ndarray, pose: Similarity) -> np.ndarray:
        """How far each eyeball of ours turned since the neutral face, in the target's frame."""
        assert self.joints is not None
        ours, angles = default(), np.zeros((len(faces), len(self.joints.names), 3))
        for j, name in enumerate(self.joints.names):
            if not name.endswith("eye"):
                continue
            left = ours.mean[:, 0] > 0
            ball = ours.regions["eyeballs"] & (left if name == "left eye" else ~left)
            there = faces[:, ball].astype(np.float64)
            _, turn, _ = align(np.broadcast_to(neutral[ball].astype(np.float64), there.shape), there, scale=False)
            angles[:, j] = _axis_angle(pose.rotation.T @ turn @ pose.rotation)
        return angles

    def _residual(self, face: np.ndarray, vertices: np.ndarray, pose: Similarity) -> np.ndarray:
        """Along the normal of the target's triangle in which our vertex has its place."""
        a, b, c = pose.apply(vertices[self.looked.corners].astype(np.float64)).swapaxes(0, 1)
        normal = np.cross(b - a, c - a)
        off = np.abs(((face[self.in_face] - a) * normal).sum(1)) / np.maximum(np.linalg.norm(normal, axis=1), 1e-12)
        return np.array([off.mean(), np.percentile(off, 95)])


# ── small algebra ──────────────────────────────────────────────────────────────────────────────────────────


def _modes_at(at: Places, basis: Float[np.ndarray, "V 3 K"]) -> Float[np.ndarray, "N 3 K"]:
    """Modes at places on the mesh, corner by corner: the whole of a large model need not be copied."""
    out = np.zeros((len(at.corners), 3, basis.shape[2]))
    for k in range(3):
        out += basis[at.corners[:, k]] * at.weights[:, k, None, None]
    return out


def _solver(design: np.ndarray, metric: np.ndarray, prior: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(H⁻¹ Dᵀ W, as (K, 3N)), and H = Dᵀ W D + diag(prior)."""
    shape = (3 * len(design), len(prior))
    weighted = (metric @ design).reshape(shape)
    normal = weighted.T @ design.reshape(shape) + np.diag(prior)
    return np.linalg.solve(normal, weighted.T), normal


def _within(normal: Float[np.ndarray, "K K"], right: Float[np.ndarray, " K"], low: float, high: float) -> np.ndarray:
    """min ½ xᵀ H x − bᵀ x for low ≤ x ≤ high, H positive definite.

    Block principal pivoting (Júdice & Pires 1994): all numbers on the wrong side of a limit change sides at once, and
    where that makes no progress the last of them alone, which ends (Murty's rule).
    """
    free = np.linalg.solve(normal, right)
    side = np.where(free < low, -1, np.where(free > high, 1, 0))
    fewest, patience = len(right) + 1, PATIENCE
    while True:
        inside = side == 0
        x = np.where(side < 0, low, high).astype(np.float64)
        rest = right[inside] - normal[np.ix_(inside, ~inside)] @ x[~inside]
        x[inside] = np.linalg.solve(normal[np.ix_(inside, inside)], rest)
        slope, slack = normal @ x - right, 1e-9 * np.abs(normal.diagonal())
        wanted = side.copy()
        wanted[inside & (x < low)], wanted[inside & (x > high)] = -1, 1
        wanted[((side < 0) & (slope < -slack)) | ((side > 0) & (slope > slack))] = 0
        wrong = np.flatnonzero(wanted != side)
        if not len(wrong):
            return np.clip(x, low, high)
        patience = PATIENCE if len(wrong) < fewest else patience - 1
        fewest = min(fewest, len(wrong))
        changed = wrong if patience > 0 else wrong[-1:]
        side[changed] = wanted[changed]


def _turns(points: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 3 3"]:
    """mm per rad of turn about x, y, z: the columns ω ↦ ω × p."""
    return np.stack([np.cross(unit, points) for unit in np.eye(3)], axis=2)


def _axis_angle(rotation: Float[np.ndarray, "F 3 3"]) -> Float[np.ndarray, "F 3"]:
    """The vectors of turns of less than half a turn."""
    cosine = np.clip((np.trace(rotation, axis1=1, axis2=2) - 1) / 2, -1, 1)
    skew = rotation - rotation.swapaxes(1, 2)
    vector = np.stack([skew[:, 2, 1], skew[:, 0, 2], skew[:, 1, 0]], axis=1) / 2
    angle = np.arccos(cosine)
    return vector / np.sinc(angle / np.pi)[:, None]
