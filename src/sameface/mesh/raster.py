"""An exact z-buffer in numpy: which triangle each pixel sees, where in it, and how far away.

Pixel (i, j) is the square [i, i + 1] × [j, j + 1] and is judged at its centre. An edge belongs to both its triangles,
and the test for one is the exact negative of the test for the other, so a closed surface has no pinholes.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Int32

from sameface.core.camera import Camera

__all__ = ["Raster", "interpolate", "rasterise", "screen_points"]

CANDIDATES = 1 << 15
"""(triangle, pixel) pairs tested at once: few enough to stay in the processor's cache"""


class Raster(NamedTuple):
    """What each pixel sees."""

    face: Int32[np.ndarray, "H W"]
    """index of the nearest triangle, -1 where there is none"""
    weights: Float[np.ndarray, "H W 3"]
    """barycentric weights of the pixel centre in that triangle; zeros where there is none"""
    depth: Float[np.ndarray, "H W"]
    """z of that point; infinite where there is none"""


def screen_points(vertices: Float[np.ndarray, "V 3"], camera: Camera) -> Float[np.ndarray, "V 3"]:
    """(x px, y px, z mm) of each vertex, as `rasterise` wants them. Raises ValueError for points behind the camera."""
    depth = camera.in_camera(vertices)[:, 2:]
    if hasattr(camera, "focal") and depth.size and depth.min() <= 0:
        raise ValueError(f"{int((depth <= 0).sum())} of {len(depth)} vertices lie behind the camera; move it back")
    return np.concatenate([camera.project(vertices), depth], axis=1)


def rasterise(points: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"], size: tuple[int, int]) -> Raster:
    """The nearest triangle at each pixel centre of a (width, height) image; points are x, y px and z (smaller: nearer).

    Both sides of a triangle are seen. Weights are linear on the screen: exact for weak perspective; under perspective
    they are off by the triangle's depth range over its distance (0.5 % for a 3 mm triangle at 0.6 m).
    Of triangles at equal depth one is taken.
    """
    if not np.isfinite(points).all():
        raise ValueError(f"{int((~np.isfinite(points)).any(1).sum())} of {len(points)} points are NaN or infinite")
    width, height = size
    x, y, z = np.ascontiguousarray(points[faces].transpose(2, 1, 0), np.float64)  # (3 corners, F) each
    nearest = np.full(width * height, np.inf)
    face = np.full(width * height, -1, np.int32)
    for pixel, which, weights in _covered(x, y, width, height):
        depth = (weights * np.take(z, which, axis=1)).sum(0)
        nearer = depth < nearest[pixel]
        pixel, which, depth = pixel[nearer], which[nearer], depth[nearer]
        np.minimum.at(nearest, pixel, depth)
        won = depth == nearest[pixel]
        face[pixel[won]] = which[won]
    weights = np.zeros((width * height, 3), np.float32)
    seen = np.flatnonzero(face >= 0)
    areas = _areas(
        np.take(x, face[seen], axis=1), np.take(y, face[seen], axis=1), seen % width + 0.5, seen // width + 0.5
    )
    weights[seen] = (areas / areas.sum(0)).T
    shape = (height, width)
    return Raster(face.reshape(shape), weights.reshape(*shape, 3), nearest.reshape(shape))


def interpolate(
    raster: Raster, faces: Int[np.ndarray, "F 3"], values: Float[np.ndarray, "V K"]
) -> Float[np.ndarray, "N K"]:
    """Σ_k w_k · value_k at the N pixels that see the mesh, in the order of `raster.face >= 0`."""
    seen = raster.face >= 0
    corners, weights = faces[raster.face[seen]], raster.weights[seen]
    return sum(weights[:, k, None] * values[corners[:, k]] for k in range(3))  # type: ignore[return-value]


def _covered(
    x: Float[np.ndarray, "3 F"], y: Float[np.ndarray, "3 F"], width: int, height: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Chunks of (pixel, face, weights (3, N)) for every pixel centre inside a triangle; without area there is none."""
    left, right = (_first_centre(limit, width) for limit in (x.min(0), np.nextafter(x.max(0), np.inf)))
    top, bottom = (_first_centre(limit, height) for limit in (y.min(0), np.nextafter(y.max(0), np.inf)))
    columns = right - left
    count = columns * (bottom - top)
    some = np.flatnonzero(count)
    ends = np.cumsum(count[some])
    cuts = np.searchsorted(ends, np.arange(CANDIDATES, ends[-1], CANDIDATES)) if len(some) else []
    for faces in np.split(some, cuts):
        which = np.repeat(faces, count[faces])
        start = np.repeat(np.cumsum(count[faces]) - count[faces], count[faces])
        row, column = np.divmod((np.arange(len(which)) - start).astype(np.int32), columns[which].astype(np.int32))
        row, column = row + top[which], column + left[which]
        areas = _areas(np.take(x, which, axis=1), np.take(y, which, axis=1), column + 0.5, row + 0.5)
        low, high = areas.min(0), areas.max(0)
        inside = np.flatnonzero(((low >= 0) | (high <= 0)) & (high - low + abs(low) > 0))  # all zero: no area
        areas = np.take(areas, inside, axis=1)
        yield (row * width + column)[inside], which[inside], areas / areas.sum(0)


def _first_centre(limit: Float[np.ndarray, " F"], side: int) -> Int[np.ndarray, " F"]:
    """Index of the first pixel whose centre is at or after `limit`, kept within the image."""
    return np.ceil(np.clip(limit, -1.0, side + 1.0) - 0.5).clip(0, side).astype(np.int64)


def _areas(
    x: Float[np.ndarray, "3 N"], y: Float[np.ndarray, "3 N"], px: Float[np.ndarray, " N"], py: Float[np.ndarray, " N"]
) -> Float[np.ndarray, "3 N"]:
    """Twice the signed areas between the point and each edge, opposite corner first: unnormalised barycentric weights.

    Both ends of an edge are taken relative to the point, which makes the values for its two sides exact negatives.
    """
    (ax, bx, cx), (ay, by, cy) = x - px, y - py
    return np.stack([bx * cy - by * cx, cx * ay - cy * ax, ax * by - ay * bx])
