"""Where photos were taken from: Gauss-Newton steps of the cameras of known 3D points."""

from dataclasses import replace

import numpy as np
from jaxtyping import Float

from sameface.core.camera import Camera, Perspective, WeakPerspective
from sameface.core.geometry import rotation_from_axis_angle

__all__ = ["camera_jacobian", "fit_cameras", "huber_weights", "moved", "perspective_from_weak", "ridged"]


def fit_cameras(
    points: Float[np.ndarray, "N L 3"],
    landmarks: Float[np.ndarray, "N L 2"],
    sigma: Float[np.ndarray, "N L"],
    camera: Camera,
    *,
    rounds: int = 10,
    huber: float = 1.5,
) -> Camera:
    """The camera of each photo that shows known 3D points (mm) at `landmarks` (px, expected errors `sigma`).

    Gauss-Newton with Huber weights (linear beyond `huber` σ), from a `camera` nearby, whose focal length stays.
    """
    for _ in range(rounds):
        residual = landmarks - camera.project(points)
        root = np.sqrt(huber_weights(residual, sigma, huber))[..., None]
        jacobian = (root[..., None] * camera_jacobian(camera, points)[0]).reshape(len(points), -1, 6)
        normal = jacobian.swapaxes(1, 2)
        gradient = normal @ (root * residual).reshape(len(points), -1, 1)
        camera = moved(camera, np.linalg.solve(ridged(normal @ jacobian), gradient)[..., 0])
    return camera


def perspective_from_weak(
    camera: WeakPerspective, focal: Float[np.ndarray, " N"], center: Float[np.ndarray, "N 2"] | None = None
) -> Perspective:
    """The pinhole camera with this focal length (px) that agrees at the origin; `center`: the photo's if None."""
    depth = focal / camera.scale
    if center is None:
        center = np.broadcast_to(np.array(camera.size, np.float64) / 2, camera.translation.shape).copy()
    aside = (camera.translation - center) / camera.scale[..., None]
    return Perspective(
        rotation=camera.rotation,
        translation=np.concatenate([aside, depth[..., None]], axis=-1),
        focal=np.asarray(focal, np.float64),
        center=center,
        size=camera.size,
    )


def camera_jacobian(camera: Camera, points: Float[np.ndarray, "N L 3"]) -> tuple[np.ndarray, np.ndarray]:
    """d q / d (ω, rest) (N, L, 2, 6) for R ← exp(ω) R, and d q / d X_cam (N, L, 2, 3).

    The rest is (log scale, t_x, t_y) or, in perspective, the translation (mm).
    """
    turned = points @ camera.rotation.swapaxes(-1, -2)
    n, count = points.shape[:2]
    by_point, jacobian = np.zeros((n, count, 2, 3)), np.zeros((n, count, 2, 6))
    if isinstance(camera, WeakPerspective):
        by_point[..., 0, 0] = by_point[..., 1, 1] = camera.scale[:, None]
        jacobian[..., 3] = camera.scale[:, None, None] * turned[..., :2]
        jacobian[..., 0, 4] = jacobian[..., 1, 5] = 1
    else:
        seen = turned + camera.translation[:, None]
        nearness = camera.focal[:, None] / seen[..., 2]
        by_point[..., 0, 0] = by_point[..., 1, 1] = nearness
        by_point[..., 2] = -nearness[..., None] * seen[..., :2] / seen[..., 2:]
        jacobian[..., 3:] = by_point
    x, y, z = turned[..., 0, None], turned[..., 1, None], turned[..., 2, None]  # d X = ω × X
    jacobian[..., 0] = y * by_point[..., 2] - z * by_point[..., 1]
    jacobian[..., 1] = z * by_point[..., 0] - x * by_point[..., 2]
    jacobian[..., 2] = x * by_point[..., 1] - y * by_point[..., 0]
    return jacobian, by_point


def moved(camera: Camera, step: Float[np.ndarray, "N 6"]) -> Camera:
    """The cameras after a Gauss-Newton step, at most 0.3 rad of turn at once."""
    turn = step[:, :3] * np.minimum(1, 0.3 / np.maximum(np.linalg.norm(step[:, :3], axis=1, keepdims=True), 1e-12))
    rotation = rotation_from_axis_angle(turn) @ camera.rotation
    if isinstance(camera, WeakPerspective):
        scale = camera.scale * np.exp(np.clip(step[:, 3], -0.5, 0.5))
        return replace(camera, rotation=rotation, scale=scale, translation=camera.translation + step[:, 4:])
    move = step[:, 3:].copy()
    depth = camera.translation[:, 2]
    move[:, 2] = np.clip(move[:, 2], -0.4 * depth, 0.6 * depth)
    return replace(camera, rotation=rotation, translation=camera.translation + move)


def huber_weights(
    residual: Float[np.ndarray, "N L 2"], sigma: Float[np.ndarray, "N L"], huber: float
) -> Float[np.ndarray, "N L"]:
    """Of iteratively reweighted least squares: 1 / σ², less where a residual is beyond `huber` σ."""
    distance = np.sqrt(residual[..., 0] ** 2 + residual[..., 1] ** 2) / sigma
    return np.minimum(1, huber / np.maximum(distance, 1e-9)) / sigma**2


def ridged(hessian: Float[np.ndarray, "N K K"]) -> Float[np.ndarray, "N K K"]:
    """The matrices with 1e-9 of their mean diagonal added to it, so that they can be inverted."""
    count = hessian.shape[-1]
    return hessian + (1e-9 / count * hessian.trace(axis1=1, axis2=2))[:, None, None] * np.eye(count)
