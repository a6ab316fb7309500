"""What shape to expect of a person with a code: solved from people with many photos, ridge regression and a floor.

A person's shape y (mm) is what the joint fit of their photos gives, points alone. Of a code z, ridge regression
explains the part that recognisers and shapes share; its gains fall fast, from millimetres a unit of code to nothing,
so that most of what tells people apart would not show. The floor lets every direction of the code have a say:

    y = (z − z̄) U S,   S' = W⁻¹ u √(g² s² + c²) vᵀ  with  u s vᵀ = W S

U are the principal directions of codes and W² the covariance of codes within a person, so that equal gains make equal
noise. c > 0 trades error of the shape (what the floor adds is no part of anybody's true shape that we know of) for
telling people apart by millimetres; results/code-to-shape.json has the curve. Ours, 2026.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from sameface.morphable import MorphableModel

__all__ = ["Ridge", "floored", "millimetres", "regress"]

DIRECTIONS = 80
"""principal directions of the codes that count; the teacher's have no more"""
DOUBT = 6.0
"""photos of a person whose joint shape is half believed"""


@dataclass(frozen=True)
class Ridge:
    """What regression says: y = (z − mean) @ directions @ slopes."""

    mean: Float[np.ndarray, " C"]
    directions: Float[np.ndarray, "C D"]
    within: Float[np.ndarray, "D D"]
    """covariance of codes of one person"""
    slopes: Float[np.ndarray, "D S"]
    """mm per unit of code, in the coordinates of `millimetres`"""


def millimetres(model: MorphableModel, region: str = "face") -> Float[np.ndarray, "S S"]:
    """L: |α L| is the RMS over the region, in mm, of what identity α (σ) moves there but for a rigid motion."""
    inside = model.regions[region]
    modes, mean = model.identity_basis[inside].astype(np.float64), model.mean[inside].astype(np.float64)
    count = len(mean)
    axes = np.eye(3)
    rigid = np.concatenate([np.tile(axes[:, None], (1, count, 1)), np.cross(axes[:, None], mean - mean.mean(0))])
    frame, _ = np.linalg.qr(rigid.reshape(6, -1).T)
    flat = modes.reshape(3 * count, -1)
    flat = flat - frame @ (frame.T @ flat)
    return np.linalg.cholesky(flat.T @ flat / count)


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
    weight = (1 / (count + DOUBT))[person][:, None]
    normal = (weight * at).T @ at + penalty * np.eye(at.shape[1])
    slopes = np.linalg.solve(normal, (weight * at).T @ shapes[person])
    return Ridge(mean, directions, within, slopes)


def floored(ridge: Ridge, floor: float, gain: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """(matrix (S, C), offset (S,)): mm = matrix @ z + offset, with the gains of the header (`floor` c, `gain` g).

    `floor` counts in units of the standard deviation of a person's codes: mm per such deviation.
    """
    values, vectors = np.linalg.eigh(ridge.within)
    root = np.sqrt(np.maximum(values, 1e-3 * values.max()))
    white, colour = vectors * root @ vectors.T, vectors / root @ vectors.T
    u, s, vt = np.linalg.svd(white @ ridge.slopes, full_matrices=False)
    slopes = colour @ (u * np.sqrt((gain * s) ** 2 + floor**2)) @ vt
    matrix = (ridge.directions @ slopes).T
    return matrix, -matrix @ ridge.mean


def _means(values: np.ndarray, person: np.ndarray, count: np.ndarray) -> np.ndarray:
    total = np.zeros((len(count), values.shape[1]))
    np.add.at(total, person, values)
    return total / np.maximum(count, 1)[:, None]
