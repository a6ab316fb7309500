"""Face profiling: a photo and the face fitted to it → the same photo with the head turned further to its side.

Zhu et al.: "Face Alignment Across Large Poses: A 3D Solution", CVPR 2016, sec. 4, which made 300W-LP of 300-W.
The whole photo becomes one mesh. Where it shows the head, the fit gives the mesh its depth; the turn moves these points
as it moves a rigid head. The edge of the photo stays where it is, and everything between gives way smoothly. A z-buffer
then draws the photo on the moved mesh: one sheet without tears, whose folds hide behind the head.

What differs from the paper:
1. The mesh is an even grid of points, not a Delaunay triangulation of the fit and some anchors.
2. Depth and place outside the head come from a membrane (Laplace's equation) between the head and the frame; the paper
   gives anchors depths and adjusts their places in two least-squares problems of the same spirit.
3. The fit is a whole head, so ears and the sides of the head have depths of their own; the neck stays with the frame.
"""

from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from sameface.core.camera import WeakPerspective
from sameface.core.geometry import euler_from_rotation, rotation_from_euler
from sameface.mesh.raster import interpolate, rasterise, screen_points
from sameface.morphable import MorphableModel

__all__ = ["Profile", "profile", "turned"]

AXIS = np.array([0.0, 0.0, -30.0])
"""mm of the model: the point of the head that stays where it is, about the middle between face and ears"""
CELLS = 90
"""grid points along the height of the head"""
MARGIN = 0.3
"""of the photo's longer side: how far the sheet goes on beyond the frame, in the colours of its edge"""
BEHIND = 60.0
"""mm from the farthest point of the head to the background"""
SWEEPS = 24
"""of the membrane at every resolution"""
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
    sheet = _without_edge(_sheet(camera, vertices, model), after.rotation @ camera.rotation.T)
    moved = _moved(sheet, camera, after)
    width, height = camera.size
    faces = _triangles(*sheet.depth.shape)
    raster = rasterise(moved.reshape(-1, 3), faces, (width, height))
    source = interpolate(raster, faces, sheet.places.reshape(-1, 2)).astype(np.float32)
    out = image.copy()
    out[raster.face >= 0] = _colours(image, source)
    return Profile(out, after)


# ── inside ─────────────────────────────────────────────────────────────────────────────────────────────────


class _Sheet(NamedTuple):
    """A grid of points over the photo and its margin."""

    places: Float[np.ndarray, "A B 2"]
    """px of the photo"""
    depth: Float[np.ndarray, "A B"]
    """px, away from the viewer; meaningless where there is no head"""
    head: Bool[np.ndarray, "A B"]


def _sheet(camera: WeakPerspective, vertices: np.ndarray, model: MorphableModel) -> _Sheet:
    """The grid, and the depth of the nearest surface of the head (without the neck) under each of its points."""
    width, height = camera.size
    step = max(1.0, float(camera.scale) * float(np.ptp(vertices[:, 1])) / CELLS)
    margin = MARGIN * max(width, height)
    columns, rows = (int(np.ceil((side + 2 * margin) / step)) for side in (width, height))
    corner = (np.array([width, height]) - step * np.array([columns, rows])) / 2
    shrink = np.array([[1 / step, 0, -corner[0] / step], [0, 1 / step, -corner[1] / step]])
    points = screen_points(vertices.astype(np.float64), camera.warped(shrink, (columns, rows)))
    raster = rasterise(points, model.faces, (columns, rows))
    neck = model.regions.get("neck", np.zeros(len(vertices), bool))
    solid = ~np.any(neck[model.faces], axis=1)
    head = (raster.face >= 0) & np.take(solid, raster.face)
    if not head.any():
        raise ValueError("the photo shows none of the fitted head: the camera belongs to another photo")
    places = np.stack(np.meshgrid(np.arange(columns) + 0.5, np.arange(rows) + 0.5), -1) * step + corner
    return _Sheet(places, np.where(head, raster.depth, 0.0) * float(camera.scale), head)


def _without_edge(sheet: _Sheet, spin: Float[np.ndarray, "3 3"]) -> _Sheet:
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


def _moved(sheet: _Sheet, before: WeakPerspective, after: WeakPerspective) -> Float[np.ndarray, "A B 3"]:
    """Where the points of the grid go, px: the head's rigidly, those on the rim of the sheet nowhere."""
    spin = after.rotation @ before.rotation.T
    solid = np.concatenate([sheet.places - before.translation, sheet.depth[..., None]], -1) @ spin.T
    goal = np.concatenate([solid[..., :2] + after.translation - sheet.places, solid[..., 2:]], -1)
    fixed = sheet.head.copy()
    fixed[[0, -1]] = fixed[:, [0, -1]] = True
    far = max(sheet.depth[sheet.head].max(), solid[sheet.head][:, 2].max()) + BEHIND * float(before.scale)
    goal[~sheet.head] = [0.0, 0.0, far]
    out = _membrane(goal, fixed)
    out[..., :2] += sheet.places
    return out


def _membrane(values: Float[np.ndarray, "A B 3"], fixed: Bool[np.ndarray, "A B"]) -> Float[np.ndarray, "A B 3"]:
    """Values with the free points at the mean of their four neighbours, nearly: coarse to fine, some sweeps each."""
    rows, columns = fixed.shape
    out = values
    if min(rows, columns) > 4:
        padded = np.pad(values * fixed[..., None], ((0, rows % 2), (0, columns % 2), (0, 0)))
        weight = np.pad(fixed.astype(np.float64), ((0, rows % 2), (0, columns % 2)))
        count = weight.reshape(weight.shape[0] // 2, 2, -1, 2).sum((1, 3))
        total = padded.reshape(*count.shape[:1], 2, count.shape[1], 2, 3).sum((1, 3))
        coarse = _membrane(total / np.maximum(count, 1)[..., None], count > 0)
        start = cv2.resize(coarse, (2 * count.shape[1], 2 * count.shape[0]), interpolation=cv2.INTER_LINEAR)
        out = np.where(fixed[..., None], values, start[:rows, :columns])
    for _ in range(SWEEPS):
        wide = np.pad(out, ((1, 1), (1, 1), (0, 0)), mode="edge")
        mean = (wide[:-2, 1:-1] + wide[2:, 1:-1] + wide[1:-1, :-2] + wide[1:-1, 2:]) / 4
        out = np.where(fixed[..., None], values, mean)
    return out


def _colours(image: UInt8[np.ndarray, "H W 3"], places: Float[np.ndarray, "N 2"]) -> UInt8[np.ndarray, "N 3"]:
    """The image at places in px, bilinear; in rows of 1,024, as OpenCV takes no side of more than 32,767."""
    count = len(places)
    grid = np.pad(places - np.float32(0.5), ((0, -count % 1024), (0, 0))).reshape(-1, 1024, 2)
    drawn = cv2.remap(image, grid[..., 0], grid[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return drawn.reshape(-1, 3)[:count].astype(np.uint8)


def _triangles(rows: int, columns: int) -> Int[np.ndarray, "F 3"]:
    """Two triangles for every cell of a grid."""
    corner = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = corner[:-1, :-1], corner[:-1, 1:], corner[1:, :-1], corner[1:, 1:]
    return np.concatenate([np.stack([a, c, b], -1).reshape(-1, 3), np.stack([b, c, d], -1).reshape(-1, 3)])
