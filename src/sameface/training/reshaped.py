"""A labelled face → the same photo of a face of another shape, for training: real skin, and a change that is known.

A network that learns places of points from one label per photo may learn the average face and leave out the person:
what differs between the labels of two people is hardly more than their noise. Here the change is exact. The labelled
points lie where an affine camera A sees the model's; a change of identity δ moves them by A B δ (B: the identity basis
at the points), and the picture with them: I'(y) = I(y + u(y)), u a thin-plate spline (Duchon 1977) with u = −A B δ
where the points come to lie, and 0 at the border of the picture. Other labels follow the picture: y + u(y) = q.

`synthetic.editing` does the same with more care, by the model's surface, in a hundred times the time; studies/edited.py
measures with it how much of a change a network sees.
"""

from collections.abc import Mapping

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

__all__ = ["reshaped"]

GRID = 25
"""points on a side of the grid on which the spline is evaluated; between them it is linear"""
BORDER = 6
"""points on each side of the picture that stay"""
EVERY = 2
"""every so many of the seen points pulls: more say nothing new and cost time"""
SMOOTH = 1e-3
"""of the spline's matrix, added to its diagonal: labels a pixel apart that move differently do not fold the picture"""
FEWEST = 20
"""seen points that tell the camera"""


def reshaped(
    image: UInt8[np.ndarray, "H W 3"],
    labels: Mapping[str, Float[np.ndarray, "_ 2"]],
    points: Float[np.ndarray, "L 2"],
    seen: Bool[np.ndarray, " L"],
    mean: Float[np.ndarray, "L 3"],
    change: Float[np.ndarray, "L 3"],
) -> tuple[UInt8[np.ndarray, "H W 3"], dict[str, np.ndarray]]:
    """The picture and its labels (px) after the model's points `mean` + (the person) have moved by `change`, mm.

    `points` (px) are where the model's points lie in the picture; those that are not `seen` neither tell the camera nor
    pull. Labels that are not finite stay so. With fewer than 20 seen points nothing changes.
    """
    if seen.sum() < FEWEST:
        return image, {name: at.copy() for name, at in labels.items()}
    size = np.array(image.shape[1::-1], np.float64)
    known = np.concatenate([mean[seen], np.ones((seen.sum(), 1))], axis=1)
    camera = np.linalg.lstsq(known, points[seen], rcond=None)[0][:3]
    shift = change[seen] @ camera
    side = np.linspace(0, 1, BORDER)
    frame = np.array([(x, y) for x in side for y in side if {x, y} & {0.0, 1.0}]) * size
    knots = np.concatenate([(points[seen] + shift)[::EVERY], frame])
    values = np.concatenate([-shift[::EVERY], np.zeros_like(frame)])
    field = _spline(knots / size.max(), values, size / size.max())
    u = cv2.resize(field, tuple(image.shape[1::-1]), interpolation=cv2.INTER_LINEAR).astype(np.float32)
    rows, columns = np.indices(image.shape[:2], dtype=np.float32)
    moved = cv2.remap(image, columns + u[..., 0], rows + u[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    ends = np.cumsum([len(at) for at in labels.values()])[:-1]
    followed = _followed(np.concatenate(list(labels.values())), u)
    return moved, dict(zip(labels, np.split(followed, ends), strict=True))


def _spline(knots: np.ndarray, values: np.ndarray, size: np.ndarray) -> np.ndarray:
    """(GRID, GRID, 2) the thin-plate spline through `values` (K, 2) at `knots`, at the middles of a grid's cells."""

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        square = np.maximum((a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T, 1e-12)
        return square * np.log(square)

    affine = np.concatenate([np.ones((len(knots), 1)), knots], axis=1)
    matrix = np.block([[kernel(knots, knots) + SMOOTH * np.eye(len(knots)), affine], [affine.T, np.zeros((3, 3))]])
    weights = np.linalg.solve(matrix, np.concatenate([values, np.zeros((3, 2))]))
    at = (np.arange(GRID) + 0.5) / GRID
    grid = np.stack(np.meshgrid(at * size[0], at * size[1]), axis=-1).reshape(-1, 2)
    field = kernel(grid, knots) @ weights[:-3] + np.concatenate([np.ones((len(grid), 1)), grid], axis=1) @ weights[-3:]
    return field.reshape(GRID, GRID, 2)


def _followed(points: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Where points of the picture lie after it moved: y with y + u(y) = q."""
    known = np.nan_to_num(points)
    at = known
    for _ in range(8):
        places = (at - 0.5).astype(np.float32)[None]
        pulled = cv2.remap(u, places[..., 0], places[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)[0]
        at = known - pulled
    return np.where(np.isfinite(points), at, np.nan)
