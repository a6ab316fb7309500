"""Michael Rabinovich, Roi Poranne, Daniele Panozzo, Olga Sorkine-Hornung: Scalable Locally Injective Mappings.
ACM Transactions on Graphics 36 (2), 2017.

A flat map of a surface is relaxed until its triangles are as little stretched as they can be. The boundary is free, and
no triangle ever turns over: the energy is infinite where one would.

Symbols: J the 2 × 2 Jacobian of a triangle's map, U Σ Vᵀ its singular value decomposition, A the triangle's area.
Differs from the paper: 1. Lengths on the surface are multiplied by a wish of the caller, so that parts get more room.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import csr_matrix, diags, hstack, identity, vstack
from scipy.sparse.linalg import spsolve

__all__ = ["relax"]

ROUNDS = 30
ENOUGH = 1e-4
"""relative gain of a round below which the map is finished"""
STAY = 1e-4
"""weight of staying in place, relative to the energy's: it holds what nothing else holds (shift and turn)"""
SHORTEST_STEP = 1e-6


class _Surface(NamedTuple):
    """Triangles laid flat one by one, for derivatives along their own x and y."""

    area: Float[np.ndarray, " F"]
    along: tuple[csr_matrix, csr_matrix]
    """(F, V) each: derivative of a function on the vertices along x, and along y"""

    def jacobians(self, uv: Float[np.ndarray, "V 2"]) -> Float[np.ndarray, "F 2 2"]:
        """J[f, r, k]: derivative of coordinate r along k."""
        return np.stack([d @ uv for d in self.along], axis=2)

    def energy(self, uv: Float[np.ndarray, "V 2"]) -> float:
        """Σ A (|J|² + |J⁻¹|²) / Σ A, the symmetric Dirichlet energy: 4 for an isometry, infinite with a fold."""
        jacobian = self.jacobians(uv)
        det = np.linalg.det(jacobian)
        if det.min() <= 0:
            return float("inf")
        square = (jacobian**2).sum((1, 2))
        return float((self.area * (square + square / det**2)).sum() / self.area.sum())


def relax(
    points: Float[np.ndarray, "V 3"],
    faces: Int[np.ndarray, "F 3"],
    share: Float[np.ndarray, " V"],
    uv: Float[np.ndarray, "V 2"],
) -> Float[np.ndarray, "V 2"]:
    """The map `uv` (no face turned over) with its stretch relaxed, in units of points · share.

    Vertices without a face stay where they are.
    """
    used, inner = np.unique(faces, return_inverse=True)
    surface = _surface(points[used].astype(np.float64), inner.reshape(-1, 3), share[used])
    at = uv[used].astype(np.float64)
    at *= np.sqrt(surface.area.sum() / (surface.area * np.linalg.det(surface.jacobians(at))).sum())
    energy = surface.energy(at)
    if not np.isfinite(energy):
        raise ValueError("some face of the map is turned over; relaxing needs a map without such faces")
    for _ in range(ROUNDS):
        step, length = _minimum_of_proxy(surface, at) - at, 1.0
        while (found := surface.energy(at + length * step)) >= energy and length > SHORTEST_STEP:
            length *= 0.7
        if found > energy * (1 - ENOUGH):
            break
        at, energy = at + length * step, found
    out = uv.astype(np.float64)
    out[used] = at
    return out


def _surface(points: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"], share: np.ndarray) -> _Surface:
    """Each triangle with its first edge along x, its sides multiplied by the mean share of its corners."""
    size = share[faces].mean(1)[:, None]
    first, second = ((points[faces[:, k]] - points[faces[:, 0]]) * size for k in (1, 2))
    double = np.linalg.norm(np.cross(first, second), axis=1)
    x1 = np.linalg.norm(first, axis=1)
    x2, y2, none = (first * second).sum(1) / x1, double / x1, np.zeros_like(x1)
    slopes = ((-1 / x1, 1 / x1, none), ((x2 / x1 - 1) / y2, -x2 / (x1 * y2), 1 / y2))  # per axis, per corner
    row = np.repeat(np.arange(len(faces)), 3)
    shape = (len(faces), len(points))
    x, y = (csr_matrix((np.stack(one, axis=1).reshape(-1), (row, faces.reshape(-1))), shape=shape) for one in slopes)
    return _Surface(double / 2, (x, y))


def _minimum_of_proxy(surface: _Surface, uv: Float[np.ndarray, "V 2"]) -> Float[np.ndarray, "V 2"]:
    """The map that minimises Σ A |W (J − R)|², whose gradient at `uv` is that of the energy (section 3).

    R = U Vᵀ is the rotation nearest to J, and W = U diag √((σ − σ⁻³) / (σ − 1)) Uᵀ for the symmetric Dirichlet energy;
    the quotient is (σ² + 1)(σ + 1) / σ³.
    """
    u, sigma, vt = np.linalg.svd(surface.jacobians(uv))
    weight = (u * np.sqrt((sigma**2 + 1) * (sigma + 1) / sigma**3)[:, None, :]) @ u.swapaxes(1, 2)
    target, root = weight @ u @ vt, np.sqrt(surface.area)
    rows, wanted = [], []
    for r in range(2):
        for k in range(2):
            rows.append(hstack([diags(root * weight[:, r, c]) @ surface.along[k] for c in range(2)]))
            wanted.append(root * target[:, r, k])
    system, start = vstack(rows).tocsc(), uv.T.reshape(-1)
    stay = STAY * surface.area.sum() / (len(uv) * surface.area.mean())
    normal = (system.T @ system + stay * identity(len(start))).tocsc()
    return spsolve(normal, system.T @ np.concatenate(wanted) + stay * start).reshape(2, -1).T
