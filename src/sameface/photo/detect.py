"""Every face in a photo: box, score and five points, with the packaged network, without torch.

The network (its recipe is `training/methods/detector.py`) sees the photo at two sizes: once with its longer side at
`longest` px, which finds small faces, and once much smaller, where a face that fills the photo has the size that the
network was trained on. What both find is merged by non-maximum suppression.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float, Int, UInt8

from sameface.core.arrays import Batch
from sameface.core.errors import AssetMissing
from sameface.core.processes import threads
from sameface.photo import MIN_SCORE

__all__ = ["Faces", "detect", "suppress"]

NETWORK = Path(__file__).parent.parent / "assets" / "detect.onnx"
SMALL = 256
"""Longer side, px, of the second look: that of the training pictures, whose largest faces fill them."""
LEAST = 80
"""Longer side, px of the second look, of a face that is asked of it: smaller ones are the first look's to find."""
OVERLAP = 0.4
"""Two boxes that overlap by more than this (IoU) are one face."""
INSIDE = 0.7
"""A box that lies by more than this in a surer one is a part of that face, seen too large."""
GREY = 127
"""What surrounds the photo where its sides are no multiples of 32."""


@dataclass(frozen=True, eq=False, repr=False)
class Faces(Batch):
    """The faces of one photo, the surest first. (0, 0) is the top-left corner of the photo."""

    boxes: Float[np.ndarray, "N 4"]
    """x0, y0, x1, y1 px, hairline to chin; may reach beyond the photo."""
    points: Float[np.ndarray, "N 5 2"]
    """px: right eye, left eye, nose tip, right mouth corner, left mouth corner; right is the subject's."""
    scores: Float[np.ndarray, " N"]
    """0 to 1."""

    def __len__(self) -> int:
        return len(self.scores)


def detect(pixels: UInt8[np.ndarray, "H W 3"], *, min_score: float = MIN_SCORE, longest: int = 640) -> Faces:
    """Every face of a photo (sRGB, RGB order) whose score is at least `min_score`.

    A larger `longest` finds smaller faces, in time proportional to its square; at 640, faces from about 10 px of the
    shrunken photo are found. Photos are never enlarged.

    >>> len(detect(np.full((48, 64, 3), 200, np.uint8)))
    0
    """
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or not pixels.size:
        raise ValueError(f"detect needs (H, W, 3) uint8 RGB pixels, not {pixels.shape} {pixels.dtype}")
    if longest < 32:
        raise ValueError(f"longest is {longest} px; the network needs at least 32")
    side = min(longest, max(pixels.shape[:2]))
    found = [_look(pixels, side, min_score)]
    if side > 1.25 * SMALL:
        again = _look(pixels, SMALL, min_score)
        large = (again.boxes[:, 2:] - again.boxes[:, :2]).max(1) >= LEAST / SMALL * max(pixels.shape)
        found.append(again[large])
    faces = Faces(*(np.concatenate([getattr(part, name) for part in found]) for name in ("boxes", "points", "scores")))
    return faces[suppress(faces.boxes, faces.scores)]


def suppress(boxes: Float[np.ndarray, "N 4"], scores: Float[np.ndarray, " N"]) -> Int[np.ndarray, " K"]:
    """Indices of the boxes that are faces of their own, the surest first.

    A box is dropped if a surer kept one overlaps it by more than OVERLAP or holds more than INSIDE of it.

    >>> suppress(np.array([[0, 0, 9, 9.], [0, 0, 10, 10], [20, 0, 30, 10]]), np.array([0.8, 0.9, 0.7])).tolist()
    [1, 2]
    """
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    order, kept = np.argsort(-scores, kind="stable"), []
    while len(order):
        first, order = order[0], order[1:]
        kept.append(first)
        shared = np.minimum(boxes[first, 2:], boxes[order, 2:]) - np.maximum(boxes[first, :2], boxes[order, :2])
        shared = shared.clip(0).prod(1)
        same = shared > OVERLAP * (areas[first] + areas[order] - shared)
        order = order[~same & (shared <= INSIDE * areas[order])]
    return np.array(kept, int)


def _look(pixels: UInt8[np.ndarray, "H W 3"], side: int, min_score: float) -> Faces:
    """What the network finds, before suppression, with the photo's longer side shrunk to `side` px."""
    height, width = pixels.shape[:2]
    scale = side / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = pixels if size == (width, height) else cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    canvas = np.full((-size[1] // 32 * -32, -size[0] // 32 * -32, 3), GREY, np.uint8)
    canvas[: size[1], : size[0]] = small
    images = canvas.transpose(2, 0, 1)[None].astype(np.float32) / 255
    logits, boxes, points = _session().run(["logits", "boxes", "points"], {"images": images})
    scores = 1 / (1 + np.exp(-logits[0].astype(np.float64)))
    chosen = scores >= min_score
    back = np.array([width / size[0], height / size[1]])
    return Faces(boxes[0, chosen] * np.tile(back, 2), points[0, chosen] * back, scores[chosen])


@lru_cache(maxsize=1)
def _session() -> Any:
    """The network, loaded once per process."""
    import onnxruntime

    if not NETWORK.is_file():
        raise AssetMissing(
            f"{NETWORK.name} is not in {NETWORK.parent}; install sameface again, or make it: sameface train detector, "
            f"then sameface export"
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # idle threads would slow what follows
    return onnxruntime.InferenceSession(str(NETWORK), options, providers=["CPUExecutionProvider"])
