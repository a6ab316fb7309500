"""Jaw and eyes of models that turn them as joints (FLAME, GNM) instead of blending shapes.

Linear blend skinning as in SMPL (Loper et al. 2015, eqs. 2-7), for joints whose parents rest, so that each turns the
vertices about where it is itself: x ↦ Σ_j w_j (R_j (x − c_j) + c_j), c = J_regressor · v of the unposed face, after the
corrective offsets posedirs · (R_j − I) have been added.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from sameface.core.arrays import Record
from sameface.core.geometry import rotation_from_axis_angle
from sameface.morphable import MorphableModel

__all__ = ["Joints", "joints_of"]

FLAME = ("global", "neck", "jaw", "left eye", "right eye")
TURNED = ("jaw", "left eye", "right eye")


@dataclass(frozen=True, eq=False, repr=False)
class Joints(Record):
    """The joints of a face that an expression turns."""

    names: tuple[str, ...]
    """some of `TURNED`"""
    weights: Float[np.ndarray, "V J"]
    regressor: Float[np.ndarray, "J V"]
    correctives: Float[np.ndarray, "V 3 J 9"] | None
    """mm per (R − I), row by row"""

    def turned(
        self,
        vertices: Float[np.ndarray, "*b V 3"],
        angles: Float[np.ndarray, "*b J 3"],
        centres: Float[np.ndarray, "*b J 3"] | None = None,
    ) -> Float[np.ndarray, "*b V 3"]:
        """Vertices (mm) with the joints turned by axis-angle vectors (rad) about their centres (mm)."""
        if not np.any(angles):
            return vertices
        about = self.regressor @ vertices if centres is None else centres
        turns = (rotation_from_axis_angle(np.asarray(angles, np.float64)) - np.eye(3)).astype(vertices.dtype)
        if self.correctives is not None:
            flat = turns.reshape(*turns.shape[:-3], -1)
            vertices = vertices + np.tensordot(flat, self.correctives.reshape(*self.correctives.shape[:2], -1), (-1, 2))
        moved = vertices.copy()
        for j in range(len(self.names)):
            some = np.flatnonzero(self.weights[:, j])
            off = (vertices[..., some, :] - about[..., j : j + 1, :]) @ turns[..., j, :, :].swapaxes(-1, -2)
            moved[..., some, :] += self.weights[some, j, None] * off
        return moved

    def slopes(
        self, vertices: Float[np.ndarray, "V 3"], joint: int, centre: Float[np.ndarray, " 3"]
    ) -> Float[np.ndarray, "V 3 3"]:
        """mm per rad about x, y, z of a joint, at rest."""
        out = np.empty((*vertices.shape, 3), np.float64)
        for axis, unit in enumerate(np.eye(3)):
            out[:, :, axis] = self.weights[:, joint, None] * np.cross(unit, vertices - centre)
            if self.correctives is not None:
                slope = np.cross(np.eye(3), unit)  # the matrix of x ↦ unit × x, the derivative of R
                out[:, :, axis] += self.correctives[:, :, joint] @ slope.reshape(9)
        return out

    def at(self, places: Any) -> "Joints":
        """The same for points on the mesh (`bridge.Places`): interpolated, without a regressor of their own."""
        correctives = self.correctives
        if correctives is not None:
            correctives = np.einsum("nkdja,nk->ndja", correctives[places.corners], places.weights)
        weights = np.einsum("nkj,nk->nj", self.weights[places.corners], places.weights)
        return Joints(self.names, weights, np.zeros((len(self.names), len(weights)), np.float32), correctives)


def joints_of(model: MorphableModel) -> Joints | None:
    """The joints of FLAME and GNM, if their files have what turning them needs; None for all other models."""
    extra: dict[str, Any] = model.extra
    weights, regressor = extra.get("weights"), extra.get("J_regressor")
    if weights is None or regressor is None or "pose_correctives" in extra:
        return None
    names = tuple(map(str, extra["joint_names"])) if "joint_names" in extra else FLAME
    shapes = weights.shape == (model.n_vertices, len(names)) and regressor.shape == (len(names), model.n_vertices)
    chosen = [name for name in TURNED if name in names]
    if not shapes or not chosen:
        return None
    which = [names.index(name) for name in chosen]
    offsets = extra.get("posedirs")
    correctives = None
    if offsets is not None and offsets.shape == (model.n_vertices, 3, 9 * (len(names) - 1)):
        table = offsets.reshape(model.n_vertices, 3, len(names) - 1, 9)
        correctives = np.ascontiguousarray(table[:, :, [k - 1 for k in which]], np.float32)
    return Joints(
        tuple(chosen),
        np.ascontiguousarray(weights[:, which], np.float32),
        np.ascontiguousarray(regressor[which], np.float32),
        correctives,
    )
