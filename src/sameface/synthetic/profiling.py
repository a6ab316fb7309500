"""Face profiling: a photo and the face fitted to it → the same photo with the head turned further to its side.

Zhu et al.: "Face Alignment Across Large Poses: A 3D Solution", CVPR 2016, sec. 4, which made 300W-LP of 300-W.
The whole photo becomes one mesh (`sheet`). Where it shows the head, the fit gives the mesh its depth; the turn moves
these points as it moves a rigid head. The edge of the photo stays where it is, and everything between gives way.

What differs from the paper:
1. The mesh is an even grid of points, not a Delaunay triangulation of the fit and some anchors.
2. Depth and place outside the head come from a membrane (Laplace's equation) between the head and the frame; the paper
   gives anchors depths and adjusts their places in two least-squares problems of the same spirit.
3. The fit is a whole head, so ears and the sides of the head have depths of their own; the neck stays with the frame.
"""

from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from sameface.core.camera import WeakPerspective
from sameface.core.geometry import euler_from_rotation, rotation_from_euler
from sameface.morphable import MorphableModel
from sameface.synthetic.sheet import BEHIND, Sheet, redrawn, sheet_over, spread

__all__ = ["Profile", "profile", "turned"]

AXIS = np.array([0.0, 0.0, -30.0])
"""mm of the model: the point of the head that stays where it is, about the middle between face and ears"""
STEEPEST = 2.5
"""px of depth per px of the photo: on the near side, what is seen more edge-on is not trusted"""
STRAIGHT = 5.0
"""degrees: a head turned less than this may be turned to either side"""


class Profile(NamedTuple):
    """A photo made from another."""

    image: UInt8[np.ndarray, "H W 3"]
    camera: WeakPerspective
    """shows the same mesh at its new place"""


def turned(camera: WeakPerspective, yaw: float) -> WeakPerspective:
    """The camera that sees the head at this yaw (rad), at the same pitch and roll; `AXIS` keeps its place in the photo.

    Raises ValueError for a yaw beyond a quarter turn, and for one that turns the head back or to its other side: what
    the photo does not show cannot be drawn.
    """
    pitch, now, roll = (float(angle) for angle in euler_from_rotation(np.asarray(camera.rotation, np.float64)))
    if not abs(yaw) <= np.pi / 2 + 1e-9:
        raise ValueError(f"a head can be turned by up to 90°, but yaw {np.degrees(yaw):.1f}° was asked for")
    if abs(yaw) < abs(now) - 1e-6 or (yaw * now < 0 and abs(now) > np.radians(STRAIGHT)):
        raise ValueError(
            f"the head is at yaw {np.degrees(now):.1f}°; it can only be turned further that way, "
            f"but {np.degrees(yaw):.1f}° was asked for, where sides show that the photo hides"
        )
    rotation = rotation_from_euler(np.array(pitch), np.array(float(yaw)), np.array(roll))
    shift = camera.scale * ((camera.rotation - rotation) @ AXIS)[:2]
    return WeakPerspective(rotation, camera.translation + shift, camera.scale, camera.size)


def profile(
    image: UInt8[np.ndarray, "H W 3"],
    camera: WeakPerspective,
    vertices: Float[np.ndarray, "V 3"],
    model: MorphableModel,
    yaw: float,
) -> Profile:
    """The photo with the head at another yaw (rad, see `turned`), and its camera.

    `vertices` (mm) is the fitted mesh of the model's topology, `camera` the one that shows it in the photo. Raises
    ValueError for a yaw that cannot be, for a camera of another size, and when the photo shows none of the head.
    """
    if camera.size != image.shape[1::-1]:
        raise ValueError(f"the camera is for a photo of {camera.size}, but this one has {image.shape[1::-1]} pixels")
    after = turned(camera, yaw)
    sheet = _without_edge(sheet_over(camera, vertices, model), after.rotation @ camera.rotation.T)
    return Profile(redrawn(image, sheet, _moved(sheet, camera, after)), after)


# ── inside ─────────────────────────────────────────────────────────────────────────────────────────────────


def _without_edge(sheet: Sheet, spin: Float[np.ndarray, "3 3"]) -> Sheet:
    """The head without the rim on its near side, where the fit's depths, wrong by little in place, are wrong by much.

    That side comes into view, and a spike there would be seen.
    """
    step = sheet.places[0, 1, 0] - sheet.places[0, 0, 0]
    depth = np.where(sheet.head, sheet.depth, np.nan)
    outward = spin[:2, 2]  # where the turn moves what lies deep: away from the near side's rim
    down, right = np.gradient(depth, step)
    along = right * outward[0] + down * outward[1]
    edge = (along > STEEPEST * np.linalg.norm(outward)).astype(np.uint8)  # NaN beside the rim is False: hence
    edge = cv2.dilate(edge, np.ones((5, 5), np.uint8)) > 0
    return sheet._replace(head=sheet.head & ~edge)


def _moved(sheet: Sheet, before: WeakPerspective, after: WeakPerspective) -> Float[np.ndarray, "A B 3"]:
    """Where the points of the grid go, px: the head's rigidly, those on the rim of the sheet nowhere."""
    spin = after.rotation @ before.rotation.T
    solid = np.concatenate([sheet.places - before.translation, sheet.depth[..., None]], -1)[sheet.head] @ spin.T
    goal = np.concatenate([solid[:, :2] + after.translation - sheet.places[sheet.head], solid[:, 2:]], -1)
    far = max(sheet.depth[sheet.head].max(), solid[:, 2].max()) + BEHIND * float(before.scale)
    return spread(sheet, goal, far)
