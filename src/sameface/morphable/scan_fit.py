"""How near a morphable model can come to a person who was scanned: its identity fitted to 3D landmarks, or to the scan.

Both minimise over the identity α and a similarity (s, R, t), v(α) the neutral mesh moved by s R v + t,

    Σ_i ρ(r_i / σ) + |α|²

r_i is, for landmarks, how far landmark i of the mesh is from where it was picked, along each axis; for a scan, how far
its i-th point is from the nearest point of the mesh's surface. ρ is the square, and for a scan Huber's function (clouds
have strays). The first is what is left to know for whoever finds all landmarks perfectly, the second the floor for
whatever photos tell. Expressions stay neutral, as a scan's should be.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from sameface.core.arrays import Record
from sameface.core.geometry import barycentric_weights, rotation_from_axis_angle
from sameface.metrics.alignment import Similarity, Surface, procrustes
from sameface.morphable import MorphableModel

__all__ = ["Fitted", "fit_landmarks", "fit_scan"]

PICKED = 1.5
"""mm, σ of a landmark along each axis"""
SURFACE, STRAY = 1.0, 3.0
"""mm, σ of a scan's point from the model's surface; and how many σ count fully"""
POINTS, REPEATED = 3000, 10.0
"""of the scan that are used, evenly picked by index; and how many of them say what one that stood alone would: the
model misses a scan by smooth waves"""
ROUNDS, ENOUGH = 40, 1e-4
"""steps at most; the part of the objective that a last step gains"""


@dataclass(frozen=True, eq=False, repr=False)
class Fitted(Record):
    """A neutral face of the model laid on a scan."""

    identity: Float[np.ndarray, " S"]
    """σ"""
    pose: Similarity
    """takes the model's mesh to the scan"""


def fit_landmarks(model: MorphableModel, landmarks: Float[np.ndarray, "68 3"], *, scale: bool = True) -> Fitted:
    """The identity whose landmarks lie nearest to iBUG points picked on a scan, mm (NaN: not picked).

    With `scale` the size of the scan does not count. Raises ValueError for fewer than three points, or on one line.
    """
    known = np.isfinite(landmarks).all(1)
    corners, weights = model.faces[model.landmark_faces[known]], model.landmark_weights[known]
    mean, basis = (np.einsum("lk...,lk->l...", rows[corners], weights) for rows in (model.mean, model.identity_basis))
    goal = landmarks[known].astype(np.float64)

    def linearised(now: Fitted) -> _Linear:
        inside = now.pose.inverse().apply(goal)
        size = now.pose.scale / PICKED  # in the model's frame everything is smaller by the scale
        jacobian = np.concatenate([_motion(inside, np.eye(3)), -basis], axis=2).reshape(3 * len(goal), -1)
        residual = (mean + basis @ now.identity - inside).reshape(-1)
        return _Linear(size * jacobian, size * residual, float(((size * residual) ** 2).sum()))

    start = Fitted(np.zeros(model.n_identity), procrustes(mean.astype(np.float64), goal, scale=scale))
    return _descend(linearised, start, scale)


def fit_scan(model: MorphableModel, points: Float[np.ndarray, "N 3"], start: Fitted, *, scale: bool = True) -> Fitted:
    """The identity whose surface lies nearest to the points of a scan (mm), from a `start` nearby (`fit_landmarks`).

    Give the points that should count: those of the face, none of hair or clothes. Raises ValueError for none.
    """
    if not len(points):
        raise ValueError("a scan without points cannot be fitted; crop it to the face, not to nothing")
    used = points[np.unique(np.linspace(0, len(points) - 1, min(POINTS, len(points))).round().astype(int))]
    used = used.astype(np.float64)

    def linearised(now: Fitted) -> _Linear:
        surface = Surface(model.vertices(now.identity).astype(np.float64), model.faces)
        inside = now.pose.inverse().apply(used)
        closest = surface.closest(inside)
        away, normals = inside - closest.points, surface.normals[closest.triangles]
        length = closest.distances[:, None]
        way = np.where(length > 1e-6, away / np.maximum(length, 1e-6), normals)  # on the surface: its normal
        corners = model.faces[closest.triangles]
        weights = barycentric_weights(closest.points, surface.vertices[corners])
        basis = np.einsum("nk,nkcs->ncs", weights, model.identity_basis[corners])
        jacobian = np.concatenate([_motion(inside, way[:, None])[:, 0], -np.einsum("nc,ncs->ns", way, basis)], axis=1)
        size = now.pose.scale / SURFACE
        off = size * closest.distances
        full = np.minimum(off, STRAY)
        root = np.sqrt(np.minimum(1, STRAY / np.maximum(off, 1e-9)) / REPEATED)
        cost = float((full * (2 * off - full)).sum()) / REPEATED
        return _Linear((size * root)[:, None] * jacobian, -root * size * (way * away).sum(1), cost)

    return _descend(linearised, start, scale)


# ── inside ─────────────────────────────────────────────────────────────────────────────────────────────────


class _Linear(NamedTuple):
    """The data's part of the objective around an answer: |residual − jacobian · step|², for small steps."""

    jacobian: Float[np.ndarray, "N K"]
    """by a motion of the points in the model's frame (turn, shift, growth), then by α"""
    residual: Float[np.ndarray, " N"]
    cost: float


def _descend(linearised: Callable[[Fitted], _Linear], start: Fitted, scale: bool) -> Fitted:
    """Gauss-Newton; a step that would raise the objective is cut to a third, and again, then refused."""
    now, here = start, linearised(start)
    value = here.cost + float(now.identity @ now.identity)
    free = np.r_[: 7 if scale else 6, 7 : here.jacobian.shape[1]]
    prior = np.append(np.zeros(7), np.ones(len(now.identity)))
    for _ in range(ROUNDS):
        jacobian, step = here.jacobian[:, free], np.zeros(len(prior))
        normal = jacobian.T @ jacobian + np.diag(prior[free])
        slope = jacobian.T @ here.residual - np.append(np.zeros(7), now.identity)[free]
        step[free] = np.linalg.solve(normal + 1e-9 * normal.trace() / len(normal) * np.eye(len(normal)), slope)
        for part in (1, 1 / 3, 1 / 9, 1 / 27):
            there = _moved(now, part * step)
            seen = linearised(there)
            after = seen.cost + float(there.identity @ there.identity)
            if after < value:
                break
        else:
            return now
        gained, value, now, here = value - after, after, there, seen
        if gained < ENOUGH * value:
            return now
    return now


def _moved(now: Fitted, step: Float[np.ndarray, " K"]) -> Fitted:
    """The answer after a step: the points' motion in the model's frame is the mesh's, the other way round."""
    growth = float(np.exp(np.clip(step[6], -0.2, 0.2)))
    motion = Similarity(growth, rotation_from_axis_angle(step[:3]), step[3:6])
    return Fitted(now.identity + step[7:], now.pose.after(motion.inverse()))


def _motion(points: Float[np.ndarray, "N 3"], along: Float[np.ndarray, "*N K 3"]) -> Float[np.ndarray, "N K 7"]:
    """How far points go along K directions a per unit of turn (rad), shift and growth: a · (ω × p + τ + κ p)."""
    along = np.broadcast_to(along, (len(points), *along.shape[-2:]))
    by_turn = np.cross(points[:, None], along)  # a · (ω × p) = ω · (p × a)
    return np.concatenate([by_turn, along, (along * points[:, None]).sum(2, keepdims=True)], axis=2)
