"""The two cameras of the field, in one frame: OpenCV's (+x right, +y down, +z away from the viewer).

p_cam = R p_model (+ t): a frontal face has R = diag(1, −1, −1), because the model frame is +y up, +z out of the face.
Pixels have their origin at the top-left *corner* of the image, so a resize by k multiplies coordinates by k.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from sameface.core.arrays import Array, Batch, namespace

__all__ = ["Camera", "Perspective", "WeakPerspective", "onto_axis"]


def onto_axis(ray: Float[Array, "*b 3"]) -> Float[Array, "*b 3 3"]:
    """The smallest rotation that turns a direction with z > 0 onto the optical axis: I + K + K² / (1 + cos θ).

    >>> np.round(onto_axis(np.array([3.0, 0, 4])) @ [3, 0, 4], 9).tolist()
    [0.0, 0.0, 5.0]
    """
    xp = namespace(ray)
    x, y, z = (ray[..., k] / xp.sqrt((ray**2).sum(-1)) for k in range(3))
    a, b, c = 1 - x * x / (1 + z), -x * y / (1 + z), 1 - y * y / (1 + z)
    return xp.stack([a, b, -x, b, c, -y, x, y, z], -1).reshape((*ray.shape[:-1], 3, 3))


def _turned(rotation: Array, affine: Float[np.ndarray, "2 3"]) -> tuple[Array, float, Array]:
    """Split a similarity of the image plane into its scale and a turn about the optical axis applied to `rotation`."""
    linear = affine[:, :2]
    scale = float(np.sqrt(abs(np.linalg.det(linear))))
    turn = np.eye(3)
    turn[:2, :2] = linear / scale
    if not np.allclose(turn @ turn.T, np.eye(3), atol=1e-4) or np.linalg.det(turn) < 0:
        raise ValueError(f"a camera can only be warped by rotation, scale and shift, but the affine is {linear}")
    return turn.astype(rotation.dtype) @ rotation, scale, turn


@dataclass(frozen=True, eq=False, repr=False)
class WeakPerspective(Batch):
    """q = scale · (R X)_xy + translation: perspective of a face that is far away for its depth."""

    rotation: Float[Array, "*b 3 3"]
    translation: Float[Array, "*b 2"]
    """px"""
    scale: Float[Array, "*b"]
    """px/mm"""
    size: tuple[int, int]
    """(width, height) of the image, px"""

    @property
    def pose(self) -> Float[Array, "*b 3 3"]:
        """How the head is turned against the line of sight: the rotation itself."""
        return self.rotation

    @property
    def weak(self) -> "WeakPerspective":
        """The camera itself."""
        return self

    def in_camera(self, points: Float[Array, "*b V 3"]) -> Float[Array, "*b V 3"]:
        """Points turned into the camera's axes, mm; z grows away from the viewer (its origin is arbitrary)."""
        return points @ self.rotation.swapaxes(-1, -2)

    def project(self, points: Float[Array, "*b V 3"]) -> Float[Array, "*b V 2"]:
        """Model points (mm) to image points (px)."""
        return self.scale[..., None, None] * self.in_camera(points)[..., :2] + self.translation[..., None, :]

    def warped(self, affine: Float[np.ndarray, "2 3"], size: tuple[int, int]) -> "WeakPerspective":
        """The camera of the image warped by x ↦ A x + b (rotation, scale, shift) to the given (width, height)."""
        rotation, scale, _ = _turned(self.rotation, affine)
        shift = self.translation @ affine[:, :2].T + affine[:, 2]
        return replace(self, rotation=rotation, scale=self.scale * scale, translation=shift, size=size)


@dataclass(frozen=True, eq=False, repr=False)
class Perspective(Batch):
    """q = focal · X_cam,xy / X_cam,z + center with X_cam = R X + translation: the pinhole camera."""

    rotation: Float[Array, "*b 3 3"]
    translation: Float[Array, "*b 3"]
    """mm"""
    focal: Float[Array, "*b"]
    """px"""
    center: Float[Array, "*b 2"]
    """px; the principal point"""
    size: tuple[int, int]
    """(width, height) of the image, px"""

    @property
    def pose(self) -> Float[Array, "*b 3 3"]:
        """How the head is turned against the line of sight: who looks into the lens from the photo's edge is frontal.

        The rotation against the optical axis is `rotation`; the two differ by the angle at which the face is seen.
        """
        return onto_axis(self.translation) @ self.rotation

    @property
    def weak(self) -> WeakPerspective:
        """The weak-perspective camera that agrees at the model's origin."""
        scale = self.focal / self.translation[..., 2]
        shift = scale[..., None] * self.translation[..., :2] + self.center
        return WeakPerspective(rotation=self.pose, translation=shift, scale=scale, size=self.size)

    def in_camera(self, points: Float[Array, "*b V 3"]) -> Float[Array, "*b V 3"]:
        """Points in the camera frame, mm; z is the distance from the viewer."""
        return points @ self.rotation.swapaxes(-1, -2) + self.translation[..., None, :]

    def project(self, points: Float[Array, "*b V 3"]) -> Float[Array, "*b V 2"]:
        """Model points (mm) to image points (px). Points behind the camera are an error of the caller."""
        seen = self.in_camera(points)
        return self.focal[..., None, None] * seen[..., :2] / seen[..., 2:] + self.center[..., None, :]

    def warped(self, affine: Float[np.ndarray, "2 3"], size: tuple[int, int]) -> "Perspective":
        """The camera of the image warped by x ↦ A x + b (rotation, scale, shift) to the given (width, height)."""
        rotation, scale, turn = _turned(self.rotation, affine)
        return replace(
            self,
            rotation=rotation,
            translation=self.translation @ turn.T,
            focal=self.focal * scale,
            center=self.center @ affine[:, :2].T + affine[:, 2],
            size=size,
        )


Camera = WeakPerspective | Perspective
