"""Rotations, similarities, normals and barycentric points: each formula once, for numpy and torch alike."""

import numpy as np
from jaxtyping import Float, Int

from sameface.core.arrays import Array, namespace

__all__ = [
    "align",
    "apply_affine",
    "barycentric",
    "barycentric_weights",
    "euler_from_rotation",
    "intersection_over_union",
    "inverse_affine",
    "nearest_rotation",
    "rotation_from_6d",
    "rotation_from_axis_angle",
    "rotation_from_euler",
    "rotation_from_quaternion",
    "similarity_2d",
    "vertex_normals",
]  # fmt: skip


def align(
    source: Float[Array, "*b V D"],
    target: Float[Array, "*b V D"],
    *,
    scale: bool = True,
    weights: Float[Array, "*b V"] | None = None,
) -> tuple[Float[Array, "*b"], Float[Array, "*b D D"], Float[Array, "*b D"]]:
    """The similarity (s, R, t) that minimises sum_v w_v |s R x_v + t - y_v|^2 (Umeyama 1991, eqs. 40-42).

    R is a proper rotation, never a reflection: a mirrored face must not score as a match.
    With `scale=False`, s is 1 (the "metrical" protocols). D is 2 or 3.

    >>> x = np.random.default_rng(0).normal(size=(20, 3))
    >>> s, R, t = align(x, 2 * x + [1, 0, 0])
    >>> print(f"{s:.3f}", np.allclose(t, [1, 0, 0]))
    2.000 True
    """
    if source.shape[-2] < source.shape[-1]:
        raise ValueError(f"alignment needs at least {source.shape[-1]} points, but source has {source.shape[-2]}")
    xp = namespace(source)
    w = xp.ones_like(source[..., 0]) if weights is None else weights
    w = (w / w.sum(-1)[..., None])[..., None]
    mean_x, mean_y = (w * source).sum(-2), (w * target).sum(-2)
    x, y = source - mean_x[..., None, :], target - mean_y[..., None, :]
    u, d, vt = xp.linalg.svd((w * y).swapaxes(-1, -2) @ x)
    sign = xp.ones_like(d)
    sign[..., -1] = xp.where(xp.linalg.det(u @ vt) < 0, -1.0, 1.0)
    rotation = (u * sign[..., None, :]) @ vt
    s = (d * sign).sum(-1) / (w * x**2).sum(-1).sum(-1) if scale else xp.ones_like(d[..., 0])
    return s, rotation, mean_y - s[..., None] * (rotation @ mean_x[..., None])[..., 0]


def similarity_2d(source: Float[np.ndarray, "L 2"], target: Float[np.ndarray, "L 2"]) -> Float[np.ndarray, "2 3"]:
    """The 2×3 affine of the best rotation, scale and shift (no mirror) from `source` to `target` points."""
    s, rotation, t = align(source, target)
    return np.concatenate([s * rotation, t[:, None]], axis=1)


def apply_affine(affine: Float[Array, "*b D E"], points: Float[Array, "*b L D"]) -> Float[Array, "*b L D"]:
    """x ↦ A x + b for affine = [A | b] (E = D + 1)."""
    return points @ affine[..., :-1].swapaxes(-1, -2) + affine[..., None, :, -1]


def inverse_affine(affine: Float[np.ndarray, "2 3"]) -> Float[np.ndarray, "2 3"]:
    """The affine that undoes one."""
    linear = np.linalg.inv(affine[:, :2])
    return np.concatenate([linear, -linear @ affine[:, 2:]], axis=1)


def nearest_rotation(matrix: Float[Array, "*b 3 3"]) -> Float[Array, "*b 3 3"]:
    """The rotation nearest to a 3×3 matrix in the Frobenius norm (orthogonal Procrustes)."""
    xp = namespace(matrix)
    u, _, vt = xp.linalg.svd(matrix)
    sign = xp.ones_like(matrix[..., 0])
    sign[..., -1] = xp.where(xp.linalg.det(u @ vt) < 0, -1.0, 1.0)
    return (u * sign[..., None, :]) @ vt


def rotation_from_axis_angle(vector: Float[Array, "*b 3"]) -> Float[Array, "*b 3 3"]:
    """Rodrigues: R = I + sin θ/θ K + (1 − cos θ)/θ² K², θ = |vector| rad, K the cross-product matrix.

    Differentiable at zero (the two quotients come from sinc).
    """
    xp = namespace(vector)
    x, y, z = vector[..., 0], vector[..., 1], vector[..., 2]
    o = xp.zeros_like(x)
    k = xp.stack([o, -z, y, z, o, -x, -y, x, o], -1).reshape((*vector.shape[:-1], 3, 3))
    theta = xp.sqrt((vector**2).sum(-1) + 1e-30)[..., None, None]
    first, second = xp.sinc(theta / np.pi), 0.5 * xp.sinc(theta / (2 * np.pi)) ** 2
    identity = xp.zeros_like(k) + xp.stack([o + 1, o, o, o, o + 1, o, o, o, o + 1], -1).reshape(k.shape)
    return identity + first * k + second * (k @ k)


def rotation_from_6d(vector: Float[Array, "*b 6"]) -> Float[Array, "*b 3 3"]:
    """Gram-Schmidt on the first two rows (Zhou et al. 2019, sec. 4.2): continuous, so a network can regress it."""
    xp = namespace(vector)

    def unit(v: Array) -> Array:
        return v / xp.sqrt((v**2).sum(-1) + 1e-12)[..., None]

    first = unit(vector[..., :3])
    second = vector[..., 3:] - (first * vector[..., 3:]).sum(-1)[..., None] * first
    second = unit(second)
    return xp.stack([first, second, xp.linalg.cross(first, second)], -2)


def rotation_from_quaternion(q: Float[Array, "*b 4"]) -> Float[Array, "*b 3 3"]:
    """R(q/|q|) of q = (w, x, y, z); q and −q are one rotation. Near |q| = 0 it is no rotation but stays finite."""
    xp = namespace(q)
    unit = q / xp.sqrt((q**2).sum(-1) + 1e-12)[..., None]
    w, x, y, z = (unit[..., k] for k in range(4))
    rows = [
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return xp.stack(rows, -1).reshape((*q.shape[:-1], 3, 3))


def rotation_from_euler(
    pitch: Float[Array, "*b"], yaw: Float[Array, "*b"], roll: Float[Array, "*b"]
) -> Float[Array, "*b 3 3"]:
    """Camera rotation of a head (rad), R = Rz(roll) Ry(yaw) Rx(pitch) · diag(1, −1, −1); all zero is a frontal face.

    Signs as a viewer of the photo would say them: yaw > 0 when the nose points to the image's right, pitch > 0 when it
    points down, roll > 0 when the head leans clockwise.
    """
    xp = namespace(yaw)
    zero = xp.zeros_like(yaw)
    spin = [xp.stack([zero, zero, roll], -1), xp.stack([zero, -yaw, zero], -1), xp.stack([pitch, zero, zero], -1)]
    rz, ry, rx = (rotation_from_axis_angle(v) for v in spin)
    flip = xp.ones_like(rx)
    flip[..., 1:] = -1.0
    return (rz @ ry @ rx) * flip


def euler_from_rotation(
    rotation: Float[Array, "*b 3 3"],
) -> tuple[Float[Array, "*b"], Float[Array, "*b"], Float[Array, "*b"]]:
    """(pitch, yaw, roll) in rad: the inverse of `rotation_from_euler` for |yaw| < π/2."""
    xp = namespace(rotation)
    r20, r21, r22 = rotation[..., 2, 0], -rotation[..., 2, 1], -rotation[..., 2, 2]
    yaw = xp.arcsin(xp.clip(r20, -1.0, 1.0))
    return xp.arctan2(r21, r22), yaw, xp.arctan2(rotation[..., 1, 0], rotation[..., 0, 0])


def barycentric(
    vertices: Float[Array, "*b V D"], corners: Int[np.ndarray, "L 3"], weights: Float[Array, "L 3"]
) -> Float[Array, "*b L D"]:
    """Points sum_k w_lk · x_{corner_lk} on a mesh."""
    return (vertices[..., corners, :] * weights[..., None]).sum(-2)


def barycentric_weights(
    points: Float[np.ndarray, "N 3"], corners: Float[np.ndarray, "N 3 3"]
) -> Float[np.ndarray, "N 3"]:
    """Weights of points that lie in triangles; in a triangle without area those of its first corner."""
    a, b, c = corners.swapaxes(0, 1)
    u, v, w = b - a, c - a, points - a
    uu, uv, vv, uw, vw = ((x * y).sum(1) for x, y in ((u, u), (u, v), (v, v), (u, w), (v, w)))
    area = uu * vv - uv * uv
    flat = area <= 1e-12 * np.maximum(uu * vv, 1e-30)
    area = np.where(flat, 1.0, area)
    second = np.where(flat, 0.0, (vv * uw - uv * vw) / area)
    third = np.where(flat, 0.0, (uu * vw - uv * uw) / area)
    return np.stack([1 - second - third, second, third], axis=1)


def intersection_over_union(a: Float[np.ndarray, " 4"], b: Float[np.ndarray, " 4"]) -> float:
    """Of two boxes (x0, y0, x1, y1).

    >>> intersection_over_union(np.array([0.0, 0, 2, 2]), np.array([1.0, 0, 3, 2])) == 1 / 3
    True
    """
    both = np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None).prod()
    return float(both / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - both))


def vertex_normals(vertices: Float[np.ndarray, "*b V 3"], faces: Int[np.ndarray, "F 3"]) -> Float[np.ndarray, "*b V 3"]:
    """Unit outward normals: the area-weighted mean of the face normals around each vertex (counter-clockwise faces)."""
    a, b, c = (vertices[..., faces[:, k], :] for k in range(3))
    flat = np.cross(b - a, c - a).reshape(-1, len(faces), 3)
    count = vertices.shape[-2]
    where = faces.T.reshape(-1)
    out = np.stack(
        [np.stack([np.bincount(where, np.tile(n[:, k], 3), count) for k in range(3)], -1) for n in flat]
    ).reshape(vertices.shape)
    length = np.linalg.norm(out, axis=-1, keepdims=True)
    return (out / np.where(length > 0, length, 1)).astype(vertices.dtype)
