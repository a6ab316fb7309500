"""Every face in a photo: box, score and five points, with the packaged network, without torch.

The network (its recipe is `training/methods/detector.py`) sees the photo at two sizes: first small, where a face that
fills the photo has the size that the network was trained on, then with its longer side at `longest` px, which finds
small faces. What both find is merged by non-maximum suppression. Portraits need no second look, which costs five times
the first: whoever has no use for small faces beside a large one leaves it out (`glance`).
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float, Int, UInt8

from sameface.core.arrays import Batch
from sameface.core.errors import AssetMissing
from sameface.core.geometry import intersection_over_union
from sameface.core.processes import threads
from sameface.photo import MIN_SCORE

__all__ = ["Faces", "detect", "detect_near", "suppress"]

NETWORK = Path(__file__).parent.parent / "assets" / "detect.onnx"
SMALL = 256
"""Longer side, px, of the first look: that of the training pictures, whose largest faces fill them."""
LEAST = 80
"""Longer side, px of the first look, of a face that is asked of it: smaller ones are the second look's to find."""
GLANCED, SURE, DOUBTFUL = 40, 0.7, 0.3
"""A glance is enough where the largest face has such a side, px of the first look, and such a score, and nothing
from a quarter of its size to LEAST has a score between the doubtful and the least one. Of 1,400 photos (`scenes`,
train) 77 % were; in two of them the second look finds another face of at least a quarter of the largest."""
AROUND, AROUND_SIDE = 2.5, 128
"""Side of the square in which a face is looked for that was there a moment ago, times the box's longer side; in px."""
SAME = 0.3
"""A box that overlaps the one of a moment ago by so much (IoU) is the same face."""
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


def detect(
    pixels: UInt8[np.ndarray, "H W 3"], *, min_score: float = MIN_SCORE, longest: int = 640, glance: bool = False
) -> Faces:
    """Every face of a photo (sRGB, RGB order) whose score is at least `min_score`.

    A larger `longest` finds smaller faces, in time proportional to its square; at 640, faces from about 10 px of the
    shrunken photo are found. Photos are never enlarged. With `glance`, faces smaller than a quarter of the largest are
    not searched for where that is large and sure and nothing is doubtful.

    >>> len(detect(np.full((48, 64, 3), 200, np.uint8)))
    0
    """
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or not pixels.size:
        raise ValueError(f"detect needs (H, W, 3) uint8 RGB pixels, not {pixels.shape} {pixels.dtype}")
    if longest < 32:
        raise ValueError(f"longest is {longest} px; the network needs at least 32")
    whole = max(pixels.shape[:2])
    side = min(longest, whole)
    if side <= 1.25 * SMALL:
        return _apart(_look(pixels, side, min_score))
    first = _look(pixels, SMALL, min(min_score, DOUBTFUL))
    if glance and (enough := _enough(_apart(first), min_score, whole)) is not None:
        return enough
    large = (first.boxes[:, 2:] - first.boxes[:, :2]).max(1) >= LEAST / SMALL * whole
    parts = _look(pixels, side, min_score), first[large & (first.scores >= min_score)]
    return _apart(
        Faces(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("boxes", "points", "scores")))
    )


def detect_near(
    pixels: UInt8[np.ndarray, "H W 3"], box: Float[np.ndarray, " 4"], *, min_score: float = MIN_SCORE
) -> Faces:
    """The face that was in `box` (x0, y0, x1, y1 px) a moment ago, if it is near there still: one or none."""
    height, width = pixels.shape[:2]
    half, middle = AROUND / 2 * float((box[2:] - box[:2]).max()), (box[:2] + box[2:]) / 2
    x0, y0 = np.clip(middle - half, 0, None).astype(int).tolist()
    x1, y1 = np.ceil(np.clip(middle + half, 0, [width, height])).astype(int).tolist()
    part = pixels[y0:y1, x0:x1]
    if not part.size:
        return Faces(np.zeros((0, 4)), np.zeros((0, 5, 2)), np.zeros(0))
    found = _apart(_look(part, min(AROUND_SIDE, max(part.shape[:2])), min_score))
    corner = np.array([x0, y0])
    found = replace(found, boxes=found.boxes + np.tile(corner, 2), points=found.points + corner)
    overlap = np.array([intersection_over_union(one, box) for one in found.boxes])
    return found[np.argsort(-overlap, kind="stable")[:1]] if (overlap >= SAME).any() else found[:0]


def _enough(first: Faces, min_score: float, whole: int) -> Faces | None:
    """The faces of the first look, unless a second look may find another that is no smaller than a quarter of them."""
    sizes, found = np.sqrt((first.boxes[:, 2:] - first.boxes[:, :2]).clip(0).prod(1)), first.scores >= min_score
    if not found.any():
        return None
    largest = int(np.argmax(np.where(found, sizes, 0)))
    doubtful = ~found & (sizes >= sizes[largest] / 4) & (sizes < LEAST / SMALL * whole)
    sure = first.scores[largest] >= SURE and sizes[largest] >= GLANCED / SMALL * whole
    return first[found] if sure and not doubtful.any() else None


def _apart(faces: Faces) -> Faces:
    """The faces of their own, the surest first."""
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
