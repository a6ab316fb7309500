"""The colour of the head beyond the face: what the skin has at the rim of the model, going on smoothly.

Photos show hair or nothing there. Each texel of the scalp is a mean of the rim's colours, the nearer the more.
"""

from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float, Int, UInt8

from sameface.mesh.raster import rasterise
from sameface.morphable import MorphableModel

__all__ = ["with_scalp"]

NEAR = 4.0
"""mm; a rim's colour counts as (distance + NEAR) to the power of -3"""
BLUR = 64
"""part of the texture's side over which the rim's colours are averaged"""


class _Chart(NamedTuple):
    """Where the scalp lies in a texture of some size."""

    row: Int[np.ndarray, " N"]
    column: Int[np.ndarray, " N"]
    corners: Int[np.ndarray, "N 3"]
    """rows of `share`"""
    weights: Float[np.ndarray, "N 3"]
    rim: Float[np.ndarray, "K 2"]
    """px in the skin, OpenCV's"""
    share: Float[np.ndarray, "R K"]
    """what each vertex of the scalp has of each vertex of the rim"""


def with_scalp(skin: UInt8[np.ndarray, "T T 3"], head: MorphableModel) -> UInt8[np.ndarray, "T T 3"]:
    """The skin with the scalp's chart filled in; the skin itself for a model without a scalp."""
    if "scalp" not in head.regions:
        return skin
    chart = _chart(head, len(skin))
    width = (max(3, len(skin) // BLUR) | 1,) * 2
    soft = cv2.blur(skin, width).astype(np.float32)
    where = chart.rim.astype(np.float32)[:, None]
    rim = cv2.remap(soft, where, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)[:, 0]  # type: ignore[call-overload]
    colours = np.asarray(chart.share @ rim)
    out = skin.copy()
    out[chart.row, chart.column] = np.round((colours[chart.corners] * chart.weights[..., None]).sum(1))
    return out


@lru_cache(maxsize=2)
def _chart(head: MorphableModel, size: int) -> _Chart:
    """Once per model and size. Texels beside the chart have the colour of its nearest one: lookups reach over."""
    assert head.uv is not None
    scalp = np.flatnonzero(head.regions["scalp"])
    texels = (head.uv[scalp] * [1.0, -1.0] + [0.0, 1.0]) * size
    faces = head.faces[head.regions["scalp"][head.faces].all(1)] - scalp[0]
    low = np.maximum(np.floor(texels.min(0)).astype(int) - 3, 0)
    high = np.minimum(np.ceil(texels.max(0)).astype(int) + 3, size)
    width, height = (int(side) for side in high - low)
    raster = rasterise(np.column_stack([texels - low, np.zeros(len(texels))]), faces, (width, height))
    seen = raster.face >= 0
    _, label = cv2.distanceTransformWithLabels((~seen).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    label = np.asarray(label, np.int64)
    order = np.full(label.max() + 1, -1)
    order[label[seen]] = np.arange(seen.sum())
    nearest = order[label.ravel()]
    row, column = (index.ravel() for index in np.indices(seen.shape))
    twin = head.extra["same_place"][scalp]
    rim = np.unique(twin[twin < scalp[0]])
    away = np.linalg.norm(head.mean[scalp][:, None] - head.mean[rim], axis=2)
    share = (away + NEAR) ** -3.0
    on_skin = (head.uv[rim] * [1.0, -1.0] + [0.0, 1.0]) * size - 0.5
    corners, weights = faces[raster.face[seen]][nearest], raster.weights[seen][nearest]
    return _Chart(row + low[1], column + low[0], corners, weights, on_skin, share / share.sum(1, keepdims=True))
