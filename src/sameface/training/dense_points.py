"""Which of MediaPipe's points are measured, and where they and AFLW's hand-placed points lie on the shipped model."""

from pathlib import Path

import numpy as np

from sameface.core.errors import AssetMissing

__all__ = ["AFLW_MIRRORED", "OVAL", "POINT_IDS", "dense_points"]

POINT_IDS: tuple[int, ...] = (
    0, 2, 4, 5, 9, 10, 13, 14, 17, 21, 33, 34, 35, 37, 39, 50, 54, 58, 61, 63, 66, 67, 68, 69, 70, 71, 75, 78, 82, 84,
    87, 93, 97, 101, 103, 104, 105, 107, 108, 109, 116, 118, 123, 126, 127, 132, 133, 135, 136, 137, 138, 139, 144,
    147, 148, 149, 150, 151, 152, 153, 158, 160, 162, 168, 172, 176, 177, 181, 187, 188, 192, 197, 199, 201, 202, 203,
    205, 211, 214, 215, 216, 227, 234, 236, 251, 263, 264, 265, 267, 269, 280, 284, 288, 291, 293, 296, 297, 298, 299,
    300, 301, 305, 308, 312, 314, 317, 323, 326, 330, 332, 333, 334, 336, 337, 338, 345, 347, 352, 355, 356, 361, 362,
    364, 365, 366, 367, 368, 373, 376, 377, 378, 379, 380, 385, 387, 389, 397, 400, 401, 405, 411, 412, 416, 421, 422,
    423, 425, 431, 434, 435, 436, 447, 454, 456, 468, 469, 470, 471, 472, 473, 474, 475, 476, 477,
)  # fmt: skip
"""MediaPipe's number of each dense point, in the order of the face table"""

OVAL = frozenset((
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152, 148, 176, 149, 150,
    136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
))  # fmt: skip
"""MediaPipe's face outline: it follows the silhouette rather than a point of the skin"""


AFLW_MIRRORED = np.array([5, 4, 3, 2, 1, 0, 11, 10, 9, 8, 7, 6, 16, 15, 14, 13, 12, 19, 18, 17, 20])
"""the AFLW point on the other side of the face"""


def dense_points() -> dict[str, np.ndarray]:
    """Where the labels' points lie on the model, the same for everybody, as `tools/calibrate_points.py` measured it.

    `offsets` (L, 3) mm beside the model's places for MediaPipe's points; `aflw21_faces` (21,), `aflw21_weights` (21, 3)
    and `aflw21_offsets` (21, 3) mm, the same for AFLW's hand-placed points; `aflw21_from_dense` (21, L), these as
    weighted means of the dense points (rows of zeros where nothing near can stand for them). Without the offsets every
    face would get the same wrong brow, jaw and depth.
    """
    with np.load(Path(__file__).parent.parent / "assets" / "dense_points.npz") as file:
        if tuple(file["ids"].tolist()) != POINT_IDS:
            raise AssetMissing("assets/dense_points.npz belongs to other points; run tools/calibrate_points.py again")
        return {name: file[name] for name in file.files}
