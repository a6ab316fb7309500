"""Head angles of 300W-LP and AFLW2000-3D: what their numbers mean, who reads them how, and mean absolute errors.

Frame of these data sets: the image has y UP and z towards the viewer, and V_image = f R V + t, with V in the model's
frame (as ours: +x subject's left, +y up, +z out of the face). Ours is OpenCV's, so R_camera = diag(1, −1, −1) R.

Their angles turn the other way about (pitch, yaw) and compose in another order, R = Rx(pitch) Ry(yaw) Rz(roll), than
`geometry.rotation_from_euler` with Rz Ry Rx: one angle alone changes its sign or not (pitch and yaw do, roll does not),
but three together give other numbers. Convert the matrix, never the angles. All angles here are in radians, in the
order pitch, yaw, roll, but for `angle_errors` and `pose_mae`, which are about tables in degrees.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from sameface.core.arrays import Array

__all__ = [
    "LIMIT", "PoseErrors", "angle_errors", "angles_by_3ddfa", "angles_by_synergynet", "camera_from_pose_para",
    "pose_mae", "pose_para_from_camera", "pose_para_from_rotation", "rotation_from_pose_para",
    "split_projection", "within_limit",
]  # fmt: skip

LIMIT = 99.0
"""degrees; faces with a larger true angle are left out (Ruiz et al. 2018, and everybody since): 1,969 of 2,000 stay"""

UPRIGHT = np.array([1.0, -1.0, -1.0])
"""their image (y up, z to the viewer) against OpenCV's camera (y down, z away)"""

Angles = tuple[Float[Array, "*b"], Float[Array, "*b"], Float[Array, "*b"]]


def rotation_from_pose_para(
    pitch: Float[Array, "*b"], yaw: Float[Array, "*b"], roll: Float[Array, "*b"]
) -> Float[Array, "*b 3 3"]:
    """R = Rx(pitch) Ry(yaw) Rz(roll) of the first three numbers of `Pose_Para`, rad, in their frame.

    Rx = [[1, 0, 0], [0, c, s], [0, −s, c]], Ry = [[c, 0, −s], [0, 1, 0], [s, 0, c]], Rz = [[c, s, 0], [−s, c, 0],
    [0, 0, 1]] (300W-LP's RotationMatrix.m; checked on 16 faces of AFLW2000-3D).
    """
    (cx, sx), (cy, sy), (cz, sz) = ((np.cos(a), np.sin(a)) for a in (pitch, yaw, roll))
    rows = [
        [cy * cz, cy * sz, -sy],
        [sx * sy * cz - cx * sz, sx * sy * sz + cx * cz, sx * cy],
        [cx * sy * cz + sx * sz, cx * sy * sz - sx * cz, cx * cy],
    ]
    return np.stack([np.stack(row, -1) for row in rows], -2)


def pose_para_from_rotation(rotation: Float[Array, "*b 3 3"]) -> Angles:
    """(pitch, yaw, roll) rad: atan2(R₁₂, R₂₂), asin(−R₀₂), atan2(R₀₁, R₀₀), rows and columns from 0.

    The exact inverse of `rotation_from_pose_para` for |yaw| < π/2. At ±π/2 only pitch ∓ roll is defined, and what comes
    out is arbitrary.
    """
    _require_rotation(rotation)
    yaw = np.arcsin(np.clip(-rotation[..., 0, 2], -1, 1))
    pitch = np.arctan2(rotation[..., 1, 2], rotation[..., 2, 2])
    return pitch, yaw, np.arctan2(rotation[..., 0, 1], rotation[..., 0, 0])


def camera_from_pose_para(
    pitch: Float[Array, "*b"], yaw: Float[Array, "*b"], roll: Float[Array, "*b"]
) -> Float[Array, "*b 3 3"]:
    """Our camera rotation diag(1, −1, −1) Rx(pitch) Ry(yaw) Rz(roll) (docs/conventions.md) from their angles, rad."""
    return UPRIGHT[:, None] * rotation_from_pose_para(pitch, yaw, roll)


def pose_para_from_camera(rotation: Float[Array, "*b 3 3"]) -> Angles:
    """Their (pitch, yaw, roll), rad, of one of our camera rotations; exact for |yaw| < π/2.

    >>> from sameface.core.geometry import rotation_from_euler
    >>> ours = rotation_from_euler(np.array(0.2), np.array(0.0), np.array(0.0))  # the nose points down
    >>> print(f"{pose_para_from_camera(ours)[0]:.3f}")
    -0.200
    """
    return pose_para_from_rotation(UPRIGHT[:, None] * rotation)


def angles_by_3ddfa(rotation: Float[Array, "*b 3 3"]) -> Angles:
    """What 3DDFA and 3DDFA_V2 print: pitch atan2(R₂₁, R₂₂), yaw asin(R₂₀), roll atan2(R₁₀, R₀₀), rad, their frame.

    `matrix2angle` of 3DDFA's utils/estimate_pose.py (from PRNet), its gimbal branch included, with our order of the
    results. It inverts another product than 300W-LP's: pitch and roll alone come with the other sign, the yaw is right
    only where both are zero, and a tilted profile is tens of degrees off. To compare with old numbers.
    """
    return _slabaugh(rotation, rotation[..., 2, 1], rotation[..., 1, 0])


def angles_by_synergynet(rotation: Float[Array, "*b 3 3"]) -> Angles:
    """What SynergyNet prints: pitch atan2(R₁₂, R₂₂), yaw asin(R₂₀), roll atan2(R₀₁, R₀₀), rad, their frame.

    `matrix2angle_corr` of SynergyNet's utils/inference.py (also facetorch), gimbal branch included: pitch and roll are
    the exact ones, the yaw is right only where both are zero. To compare with old numbers.
    """
    return _slabaugh(rotation, rotation[..., 1, 2], rotation[..., 0, 1])


def _slabaugh(rotation: Float[Array, "*b 3 3"], for_pitch: Float[Array, "*b"], for_roll: Float[Array, "*b"]) -> Angles:
    """The branches of Slabaugh's "Computing Euler angles from a rotation matrix", as both projects copied them."""
    _require_rotation(rotation)
    r20 = np.clip(rotation[..., 2, 0], -1, 1)
    yaw = np.arcsin(r20)
    c = np.cos(yaw)
    locked = np.abs(r20) == 1
    pitch = np.arctan2(for_pitch / c, rotation[..., 2, 2] / c)
    roll = np.arctan2(for_roll / c, rotation[..., 0, 0] / c)
    sign = np.where(r20 < 0, 1.0, -1.0)  # in the locked branch both give the yaw the sign opposite to asin
    pitch = np.where(locked, np.arctan2(sign * rotation[..., 0, 1], sign * rotation[..., 0, 2]), pitch)
    return pitch, np.where(locked, sign * np.pi / 2, yaw), np.where(locked, 0.0, roll)


def split_projection(
    projection: Float[np.ndarray, "3 4"],
) -> tuple[float, Float[np.ndarray, "3 3"], Float[np.ndarray, " 3"]]:
    """(s, R, t) of P = [s R | t]: s = (|p₁| + |p₂|)/2, r₁ = p₁/|p₁|, r₂ = p₂/|p₂|, r₃ = r₁ × r₂, t the last column.

    `P2sRt` of 3DDFA's utils/estimate_pose.py. For a network's P the rows r₁ and r₂ are not quite orthogonal, nor then
    is R; `geometry.nearest_rotation` mends that, and gives other angles. Raises ValueError if a row is zero.
    """
    rows = projection[:2, :3].astype(np.float64)
    lengths = np.linalg.norm(rows, axis=1)
    if not (lengths > 0).all() or not np.isfinite(projection).all():
        raise ValueError(f"the first two rows of the projection have lengths {lengths}; expected finite, positive ones")
    first, second = rows / lengths[:, None]
    rotation = np.stack([first, second, np.cross(first, second)])
    return float(lengths.mean()), rotation, projection[:, 3].astype(np.float64)


def within_limit(truth: Float[np.ndarray, "N 3"], limit: float = LIMIT) -> Bool[np.ndarray, " N"]:
    """True where all three true angles are at most `limit` degrees in size: 1,969 of AFLW2000-3D at 99.

    Raises ValueError for angles that are not finite: they are neither in nor out.
    """
    _require_finite(truth, "true")
    return np.abs(truth).max(axis=1) <= limit


def angle_errors(
    predicted: Float[np.ndarray, "N 3"], truth: Float[np.ndarray, "N 3"], *, lenient: bool = False
) -> Float[np.ndarray, "N 3"]:
    """|d| per angle, d = predicted − true, degrees.

    `lenient` takes min(|d|, |d + 360|, |d − 360|, |d + 180|, |d − 180|), as 6DRepNet's test.py does: a face that is
    upside down, or turned around, then counts as right, so numbers of the two kinds do not compare. Raises ValueError
    for angles that are not finite.
    """
    _require_finite(predicted, "predicted")
    _require_finite(truth, "true")
    d = predicted.astype(np.float64) - truth
    if not lenient:
        return np.abs(d)
    return np.abs(d[..., None] + np.array([0, 360, -360, 180, -180])).min(axis=-1)


class PoseErrors(NamedTuple):
    """Mean absolute errors in degrees, and how many faces they are the mean of."""

    pitch: float
    yaw: float
    roll: float
    mean: float
    """of the three"""
    used: int
    left_out: int
    """faces with a true angle beyond the limit"""


def pose_mae(
    predicted: Float[np.ndarray, "N 3"],
    truth: Float[np.ndarray, "N 3"],
    *,
    limit: float = LIMIT,
    lenient: bool = False,
) -> PoseErrors:
    """Mean |d| of pitch, yaw and roll (columns, degrees) over the faces within the limit, and the mean of the three.

    The protocol of Hopenet, FSA-Net, 6DRepNet and SynergyNet on AFLW2000-3D (deep-head-pose issue 41; 6DRepNet's
    create_filename_list.py), with their 99 degrees. Raises ValueError if no face is within the limit.
    """
    keep = within_limit(truth, limit)
    if not keep.any():
        raise ValueError(f"none of {len(truth)} true poses is within {limit:g} degrees, so there is no mean error")
    pitch, yaw, roll = angle_errors(predicted[keep], truth[keep], lenient=lenient).mean(axis=0).tolist()
    return PoseErrors(pitch, yaw, roll, (pitch + yaw + roll) / 3, int(keep.sum()), int((~keep).sum()))


def _require_finite(angles: Float[np.ndarray, "N 3"], what: str) -> None:
    bad = (~np.isfinite(angles)).any(axis=1).sum()
    if bad or not len(angles):
        raise ValueError(f"{bad} of {len(angles)} {what} poses are not finite; expected at least one, all finite")


def _require_rotation(rotation: Float[Array, "*b 3 3"]) -> None:
    """Finite, with rows of unit length within 10 %: P2sRt's third row is shorter by 0.1 % or so, a scale is more."""
    lengths = np.linalg.norm(rotation, axis=-1)
    if not (np.abs(lengths - 1) < 0.1).all():
        raise ValueError(
            f"a matrix with rows of length {lengths.min():.3g} to {lengths.max():.3g} is no rotation; divide by its "
            "scale first, as split_projection does"
        )
