"""Whether the photos of a person agree in shape: whoever is far from all others is another person, or a bad fit."""

from functools import lru_cache

import numpy as np
from jaxtyping import Float

from sameface.morphable import default

__all__ = ["disagreeing", "millimetres", "reason"]


def disagreeing(
    identity: Float[np.ndarray, "N S"], quality: Float[np.ndarray, " N"], farthest: float, apart: float
) -> tuple[list[int], Float[np.ndarray, " N"]]:
    """Who is left out of N photos, the worst first, and each one's distance d_i (mm RMS over the face) from the others.

    d_i = |B (α_i − Σ_{j≠i} w_j α_j / Σ_{j≠i} w_j)| with the photos' own identities α and qualities w. Among three or
    more, the worst is left out while d > max(farthest, apart · median of the rest's d without it, since it moves their
    mean), and keeps that distance. A photo alone has distance 0.
    """
    shapes, keep, distance, out = identity @ millimetres(), np.arange(len(identity)), np.zeros(len(identity)), []

    def from_others(rows: np.ndarray) -> np.ndarray:
        weighted = quality[rows, None] * shapes[rows]
        others = (weighted.sum(0) - weighted) / (quality[rows].sum() - quality[rows])[:, None]
        return np.linalg.norm(shapes[rows] - others, axis=1)

    while len(keep) > 1:
        distance[keep] = from_others(keep)
        worst = int(np.argmax(distance[keep]))
        rest = np.delete(keep, worst)
        if len(keep) < 3 or distance[keep[worst]] <= max(farthest, apart * float(np.median(from_others(rest)))):
            break
        out.append(int(keep[worst]))
        keep = rest
    return out, distance


def reason(distance: float, rates: tuple[float, float] | None = None) -> str:
    """Why a photo of this distance is left out; `rates`: which part of strangers and of own photos such limits find."""
    known = ""
    if rates is not None:
        strangers, own = (100 * rate for rate in rates)
        known = f" ({strangers:.0f} % of strangers are left out so, and {own:.0f} % of own photos)"
    who = "another person, or the same one turned, talking, hidden or distorted"
    return f"its shape is {distance:.1f} mm from the other photos': {who}{known}"


@lru_cache(maxsize=1)
def millimetres() -> Float[np.ndarray, "S S"]:
    """M with |α M| = RMS over the face, mm, of the shape with identity α: Bᵀ B / V = M Mᵀ (Cholesky)."""
    model = default()
    basis = model.identity_basis[model.regions["face"]].astype(np.float64)
    flat = basis.reshape(-1, model.n_identity)
    return np.linalg.cholesky(flat.T @ flat / len(basis))
