"""What shape to expect of a person with a code: solved from people with many photos.

A person's shape y (mm, see `millimetres`) is what the joint fit of their photos gives, points alone. Of a code z, ridge
regression explains the part that recognisers and shapes share. Its gains fall fast, from millimetres a unit of code to
nothing, so that most of what tells people apart would not show. But photos do not see everything either: head size,
and much of depth, moves no point in any view. There a code may speak freely, as no photo can contradict it:

    y = (z − z̄) U (S + c T g R Qᵀ)

U are the principal directions of codes, S the slopes of the regression. T holds the D directions of code that tell
people apart best (B t = ρ W t, tᵀ W t = 1; B and W the covariances between and within persons: Fisher's discriminants),
g = ρ / (1 + ρ) is how much of what a photo's code says there is the person's. Q are the D directions of shape that move
the points of photos least, by mm of the surface, from five sides, the best camera and expression granted (`seen`). R is
the rotation nearest to what regression found between the two: what little is known there is kept. c > 0 trades error of
the shape for telling people apart by millimetres; results/code-to-shape.json has the curve. Ours, 2026.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.linalg import eigh, polar

from sameface.core.geometry import rotation_from_euler
from sameface.morphable import MorphableModel
from sameface.morphable.points import Points

__all__ = ["Ridge", "millimetres", "regress", "seen", "spoken"]

DIRECTIONS = 80
"""principal directions of the codes that count; the teacher's have no more"""
FREE = 40
"""D"""
DOUBT = 6.0
"""photos of a person whose joint shape is half believed"""
SIDES = (-60.0, -30.0, 0.0, 30.0, 60.0)
"""degrees of yaw that shapes are seen from"""
STIFF = 20.0
"""mm²: what an expression's weight squared costs beside the points' squared distances"""


@dataclass(frozen=True)
class Ridge:
    """What regression says: y = (z − mean) @ directions @ slopes."""

    mean: Float[np.ndarray, " C"]
    directions: Float[np.ndarray, "C D"]
    within: Float[np.ndarray, "D D"]
    """covariance of codes of one person"""
    between: Float[np.ndarray, "D D"]
    """covariance of persons' mean codes, freed of what photos differ"""
    slopes: Float[np.ndarray, "D S"]
    """mm per unit of code, in the coordinates of `millimetres`"""


def millimetres(model: MorphableModel, region: str = "face") -> Float[np.ndarray, "S S"]:
    """L: |α L| is the RMS over the region, in mm, of what identity α (σ) moves there but for a rigid motion."""
    inside = model.regions[region]
    modes, mean = model.identity_basis[inside].astype(np.float64), model.mean[inside].astype(np.float64)
    count = len(mean)
    axes = np.eye(3)
    rigid = np.concatenate([np.tile(axes[:, None], (1, count, 1)), np.cross(axes[:, None], mean - mean.mean(0))])
    flat = _without(rigid.reshape(6, -1).T, modes.reshape(3 * count, -1))
    return np.linalg.cholesky(flat.T @ flat / count)


def seen(points: Points) -> Float[np.ndarray, "S S"]:
    """V: √(α V αᵀ) is the RMS, in mm, of what identity α (σ) moves the points in photos from `SIDES`, over the sides.

    What a weak-perspective camera explains is no part of it, and little of what an expression could explain.
    """
    count, out = len(points.mean), np.zeros((points.identity.shape[2],) * 2)
    for yaw in np.radians(SIDES):
        rotation = rotation_from_euler(np.array(0.0), np.array(yaw), np.array(0.0))
        place = (points.mean - points.mean.mean(0)) @ rotation.T
        in_image = [np.tile(axis, (count, 1)) for axis in np.eye(2)] + [place[:, :2]]
        in_image += [np.cross(axis, place)[:, :2] for axis in np.eye(3)]
        camera = np.stack([move.reshape(-1) for move in in_image], 1)
        identity, expression = (
            _without(camera, np.einsum("ij,ljk->lik", rotation[:2], basis).reshape(2 * count, -1))
            for basis in (points.identity, points.expression)
        )
        both = expression.T @ identity
        pull = expression.T @ expression + STIFF * np.eye(expression.shape[1])
        out += (identity.T @ identity - both.T @ np.linalg.solve(pull, both)) / count / len(SIDES)
    return (out + out.T) / 2


def regress(
    codes: Float[np.ndarray, "N C"],
    person: Int[np.ndarray, " N"],
    shapes: Float[np.ndarray, "P S"],
    penalty: float = 2.0,
) -> Ridge:
    """Ridge regression of persons' shapes (mm, see `millimetres`) on codes of their photos; person p has row p.

    Every person counts n / (n + 6) for n photos, shared among the photos.
    """
    count = np.bincount(person, minlength=len(shapes)).astype(np.float64)
    mean = _means(codes, person, count).mean(0)
    values, vectors = np.linalg.eigh(np.cov((codes - mean).T))
    directions = vectors[:, np.argsort(values)[::-1][:DIRECTIONS]]
    at = (codes - mean) @ directions
    centres = _means(at, person, count)
    apart = at - centres[person]
    within = apart.T @ apart / max(len(at) - len(shapes), 1)
    between = np.cov(centres.T) - within * np.mean(1 / np.maximum(count, 1))
    weight = (1 / (count + DOUBT))[person][:, None]
    normal = (weight * at).T @ at + penalty * np.eye(at.shape[1])
    slopes = np.linalg.solve(normal, (weight * at).T @ shapes[person])
    return Ridge(mean, directions, within, between, slopes)


def spoken(
    ridge: Ridge, visible: Float[np.ndarray, "S S"], free: float, count: int = FREE
) -> tuple[np.ndarray, np.ndarray]:
    """(matrix (S, C), offset (S,)): mm = matrix @ z + offset, as the header has it.

    `visible` is V in the coordinates of `millimetres`: |y|² in mm² of the surface is y V yᵀ in mm² of the points.
    `free` is c, in mm per standard deviation of one person's codes; `count` is D.
    """
    size = len(ridge.within)
    little = 1e-3 * np.trace(ridge.within) / size
    telling, tell = eigh(ridge.between, ridge.within + little * np.eye(size))
    telling, tell = np.maximum(telling[::-1], 0), tell[:, ::-1]
    unseen = np.linalg.eigh(visible)[1][:, :count]
    turn, _ = polar(np.linalg.solve(tell, ridge.slopes)[:count] @ unseen)
    told = tell[:, :count] * (telling / (1 + telling))[:count]
    slopes = ridge.slopes + free * told @ turn @ unseen.T
    matrix = (ridge.directions @ slopes).T
    return matrix, -matrix @ ridge.mean


# ── inside ─────────────────────────────────────────────────────────────────────────────────────────────────


def _without(nuisance: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """The columns without their part in the span of others."""
    frame, _ = np.linalg.qr(nuisance)
    return columns - frame @ (frame.T @ columns)


def _means(values: np.ndarray, person: np.ndarray, count: np.ndarray) -> np.ndarray:
    total = np.zeros((len(count), values.shape[1]))
    np.add.at(total, person, values)
    return total / np.maximum(count, 1)[:, None]
