"""Identities → points of a plain space whose distances are those of `verify`, in mm; nothing is left to align.

`verify` moves one shape rigidly onto the other. Here every shape is moved onto the mean face instead, once, and taken
in the coordinates that the model's modes span there, rigid motions taken out. With Φ = (mean, modes) over the face, its
middle at the origin, x = (1, α), and R the rotation that minimises |R Φ x − mean|:

    p(α) = Qᵀ (R Φ x − mean) / √n,    Q Qᵀ the projection onto the modes without rigid motions of the mean, n vertices

|p(α) − p(β)| is the RMS after two motions that need not be the best together, less what lies outside Q: within 0.05 %
of what `verify` says for α ~ N(0, 1), and 0.2 % for α ~ N(0, 4) (tests/test_search.py holds it to 0.1 and 0.5 %).
"""

from functools import cache

import numpy as np
from jaxtyping import Float

from sameface.morphable import default

__all__ = ["SLACK", "places"]

SLACK = 0.01
"""part by which a distance here may differ from that of `verify`: five times what was ever measured"""
AT_ONCE = 4096
"""people; their rotated coordinates take 24 MB"""


def places(identity: Float[np.ndarray, "N S"]) -> Float[np.ndarray, "N S"]:
    """p of each identity (σ), mm; float32."""
    parts = [_places(identity[k : k + AT_ONCE].astype(np.float64)) for k in range(0, len(identity), AT_ONCE)]
    return np.concatenate(parts) if parts else np.zeros((0, default().n_identity), np.float32)


@cache
def _tables() -> tuple[Float[np.ndarray, "T 9"], Float[np.ndarray, "K S"], Float[np.ndarray, " S"]]:
    """(mean · Φ / n: x → the covariance with the mean, row by row; Q · Φ / √n: R ⊗ x → p and Qᵀ mean / √n; that)."""
    model = default()
    inside = model.regions["face"]
    mean, modes = model.mean[inside].astype(np.float64), model.identity_basis[inside].astype(np.float64)
    mean, modes, count = mean - mean.mean(0), modes - modes.mean(0), len(mean)
    turns = np.cross(np.eye(3)[:, None], mean).reshape(3, -1).T
    rigid, _ = np.linalg.qr(turns)
    flat = modes.reshape(3 * count, -1)
    basis, _ = np.linalg.qr(flat - rigid @ (rigid.T @ flat))
    phi = np.concatenate([mean[..., None], modes], axis=2)  # (n, 3, 1 + S)
    covariance = np.einsum("vi,vjt->tij", mean, phi, optimize=True).reshape(phi.shape[2], 9) / count
    spread = np.einsum("vis,vjt->ijts", basis.reshape(count, 3, -1), phi, optimize=True) / np.sqrt(count)
    return covariance, spread.reshape(9 * phi.shape[2], -1), mean.ravel() @ basis / np.sqrt(count)


def _places(identity: Float[np.ndarray, "N S"]) -> Float[np.ndarray, "N S"]:
    covariance, spread, middle = _tables()
    x = np.concatenate([np.ones((len(identity), 1)), identity], axis=1)
    u, _, vt = np.linalg.svd((x @ covariance).reshape(-1, 3, 3))
    u[..., -1] *= np.sign(np.linalg.det(u @ vt))[:, None]  # a rotation, never a reflection
    turned = ((u @ vt).reshape(-1, 9, 1) * x[:, None]).reshape(len(x), -1)
    return (turned @ spread - middle).astype(np.float32)
