"""A morphable model seen only at some of its surface points: all that a landmark fit needs of it."""

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from jaxtyping import Float, Int

from sameface.core.arrays import Record
from sameface.morphable import MorphableModel, default

__all__ = ["Points", "points68"]


@dataclass(frozen=True, eq=False, repr=False)
class Points(Record):
    """L surface points of a morphable model."""

    mean: Float[np.ndarray, "L 3"]
    identity: Float[np.ndarray, "L 3 S"]
    expression: Float[np.ndarray, "L 3 E"]
    errors: Float[np.ndarray, "L 3 R"] | None = None
    """mm: modes of what measured points miss together, each with a variance of 1; None: each point misses alone"""

    @staticmethod
    def of(model: MorphableModel, faces: Int[np.ndarray, " L"], weights: Float[np.ndarray, "L 3"]) -> "Points":
        """The points at barycentric `weights` on `faces` of the model."""
        corners = model.faces[faces]

        def at(rows: np.ndarray) -> np.ndarray:
            return np.einsum("lk...,lk->l...", rows[corners], weights).astype(np.float64)

        return Points(at(model.mean), at(model.identity_basis), at(model.expression_basis))

    @cached_property
    def both(self) -> Float[np.ndarray, "L 3 K"]:
        """Expression and identity side by side."""
        return np.concatenate([self.expression, self.identity], axis=2)

    @cached_property
    def all(self) -> Float[np.ndarray, "L 3 K"]:
        """Modes of errors, expression and identity side by side."""
        return self.both if self.errors is None else np.concatenate([self.errors, self.both], axis=2)

    @cached_property
    def mirrored(self) -> Int[np.ndarray, " L"]:
        """The point on the other side of each."""
        return np.linalg.norm(self.mean[:, None] - self.mean[None] * [-1, 1, 1], axis=2).argmin(1)

    def __call__(self, identity: Float[np.ndarray, "N S"], expression: Float[np.ndarray, "N E"]) -> np.ndarray:
        """(N, L, 3) mm."""
        both = self.both.reshape(-1, self.both.shape[2])
        return self.mean + (np.concatenate([expression, identity], axis=1) @ both.T).reshape(-1, *self.mean.shape)


@lru_cache(maxsize=1)
def points68() -> Points:
    """The shipped model at the 68 iBUG points."""
    model = default()
    return Points.of(model, model.landmark_faces, model.landmark_weights)
