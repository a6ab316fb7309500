"""A photo as one sheet of points over it: where it shows a fitted head it has the head's depth, and moves with it.

The edge of the sheet lies beyond the photo's frame and stays where it is; everything between it and the head gives way
smoothly. A z-buffer then draws the photo on the moved sheet, without tears: its folds hide behind the head.
"""

from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from sameface.core.camera import Camera
from sameface.mesh.raster import Raster, interpolate, rasterise, screen_points
from sameface.morphable import MorphableModel

__all__ = ["BEHIND", "Sheet", "redrawn", "sheet_over", "spread"]

CELLS = 90
"""points along the height of the head"""
MARGIN = 0.3
"""of the photo's longer side: how far the sheet goes on beyond the frame, in the colours of its edge"""
BEHIND = 60.0
"""mm from the farthest point of the head to the background"""
SWEEPS = 24
"""of the membrane at every resolution"""


class Sheet(NamedTuple):
    """A grid of points over the photo and its margin."""

    places: Float[np.ndarray, "A B 2"]
    """px of the photo"""
    depth: Float[np.ndarray, "A B"]
    """px, away from the viewer; meaningless where there is no head"""
    head: Bool[np.ndarray, "A B"]
    raster: Raster
    """which triangle of the model lies under each point"""

    def on_head(self, faces: Int[np.ndarray, "F 3"], values: Float[np.ndarray, "V K"]) -> Float[np.ndarray, "N K"]:
        """Values of the model's vertices at the points of the head, row by row."""
        return interpolate(self.raster, faces, values)[self.head[self.raster.face >= 0]]


def sheet_over(camera: Camera, vertices: Float[np.ndarray, "V 3"], model: MorphableModel) -> Sheet:
    """The grid over the camera's photo, and the nearest surface of the head (without the neck) under its points.

    `vertices` (mm) is the fitted mesh of the model's topology. Raises ValueError when the photo shows none of the head.
    """
    (width, height), zoom = camera.size, float(camera.weak.scale)
    step = max(1.0, zoom * float(np.ptp(vertices[:, 1])) / CELLS)
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
    return Sheet(places, np.where(head, raster.depth, 0.0) * zoom, head, raster)


def spread(sheet: Sheet, goal: Float[np.ndarray, "N 3"], far: float) -> Float[np.ndarray, "A B 3"]:
    """Where every point of the sheet goes, px and depth, if those of its head go by (dx, dy) to a depth (`goal`).

    Its edge stays, at the depth `far`.
    """
    values = np.zeros((*sheet.head.shape, 3))
    values[..., 2] = far
    values[sheet.head] = goal
    fixed = sheet.head.copy()
    fixed[[0, -1]] = fixed[:, [0, -1]] = True
    out = _membrane(values, fixed)
    out[..., :2] += sheet.places
    return out


def redrawn(
    image: UInt8[np.ndarray, "H W 3"], sheet: Sheet, moved: Float[np.ndarray, "A B 3"]
) -> UInt8[np.ndarray, "H W 3"]:
    """The photo on the sheet where its points have moved to."""
    faces = _triangles(*sheet.head.shape)
    raster = rasterise(moved.reshape(-1, 3), faces, image.shape[1::-1])
    source = interpolate(raster, faces, sheet.places.reshape(-1, 2)).astype(np.float32)
    out = image.copy()
    out[raster.face >= 0] = _colours(image, source)
    return out


# ── inside ─────────────────────────────────────────────────────────────────────────────────────────────────


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
