"""Which pictures of a person to look at: the pictures of a folder or a video, and a choice among them by yaw.

    photos = list(pictures(Path("clip.mp4"), every=5))
    yaw = ...                                     # of each, in degrees, as a network says it
    chosen = [photos[k] for k in choose(yaw)]     # frontal, left, right

`clip` reads the videos.
"""

import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from sameface.photo import image
from sameface.photo.clip import frames
from sameface.photo.face import Photo

__all__ = ["WANTED", "choose", "evenly", "pictures"]

WANTED = (0.0, -45.0, 45.0)
"""degrees of yaw: frontal, nose to the image's left, nose to its right"""
LONGEST = 10_000_000
"""frames; four days at 25 a second"""


def choose(yaw: Float[np.ndarray, " N"], wanted: Sequence[float] = WANTED, rank: int = 0) -> Int[np.ndarray, " W"]:
    """For each wanted yaw the number of the picture that minimises |yaw − wanted|, degrees; the first of equals.

    NaN marks pictures without a face, which are never chosen. One picture may serve twice. `rank` 1 takes the second
    nearest instead, and so on: for the mean over several choices. Raises ValueError when there are not so many.

    >>> choose(np.array([-80.0, -40.0, np.nan, 3.0, 30.0, 50.0])).tolist()
    [3, 1, 5]
    """
    usable = np.flatnonzero(np.isfinite(yaw))
    if not 0 <= rank < len(usable):
        raise ValueError(f"rank {rank} was asked for, but only {len(usable)} of {len(yaw)} pictures have a yaw")
    away = np.abs(yaw[usable] - np.asarray(wanted, np.float64)[:, None])
    return usable[np.argsort(away, axis=1, kind="stable")[:, rank]]


def pictures(source: Path, *, every: int = 1, most: int = 10_000) -> Iterator[Photo]:
    """The photos of a folder in natural order, or the frames of a video, one at a time: numbers 0, every, 2·every …

    At most `most` of them. Frames are upright and named `clip.mp4 frame 12`. A video that breaks off gives the frames
    before the break. Raises BadPhoto, naming the file, for what is neither, and for a photo that cannot be read.
    """
    if every < 1 or most < 1:
        raise ValueError(f"every is {every} and most is {most}; both are at least 1")
    if not source.is_dir():
        yield from (frame.photo for frame in islice(frames(source, range(0, sys.maxsize, every)), most))
        return
    for path in image.gather(source)[::every][:most]:
        yield image.read(path)


def evenly(source: Path, count: int) -> Iterator[Photo]:
    """`count` of the `pictures` of a folder or a video at equal steps, the first among them; all where there are fewer.

    A video is read twice, because what it says of its own length may be wrong.
    """
    if count < 1:
        raise ValueError(f"count is {count}; take at least 1 picture")
    total = len(image.gather(source)) if source.is_dir() else sum(1 for _ in pictures(source, most=LONGEST))
    yield from pictures(source, every=max(1, total // count), most=count)
