"""Which pictures of a person to look at: the pictures of a folder or a video, and a choice among them by yaw.

    photos = list(pictures(Path("clip.mp4"), every=5))
    yaw = ...                                     # of each, in degrees, as a network says it
    chosen = [photos[k] for k in choose(yaw)]     # frontal, left, right

The kind of a video is told from its first bytes, never from its name, and only containers that cannot refer to other
files are opened.
"""

import sys
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float, Int

from sameface.core.errors import BadPhoto
from sameface.photo import image
from sameface.photo.face import Photo

__all__ = ["WANTED", "Frame", "choose", "evenly", "frames", "is_video", "pictures", "promised"]

WANTED = (0.0, -45.0, 45.0)
"""degrees of yaw: frontal, nose to the image's left, nose to its right"""
LARGEST_VIDEO = 20_000_000_000
"""bytes"""
LONGEST = 10_000_000
"""frames; four days at 25 a second"""
LARGEST_FRAME = 40_000_000
"""px; 8K video has 33 million"""
_KINDS = "MP4, QuickTime, Matroska, WebM, AVI and MPEG"
_ATOMS = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")
"""how MP4 and QuickTime files begin, after four bytes of length"""
_STARTS = (b"\x1a\x45\xdf\xa3", b"\0\0\x01\xba", b"\0\0\x01\xb3")
"""Matroska and WebM; MPEG with sound and without"""
_STILL = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1", b"avif", b"avis", b"crx ")
"""what follows `ftyp` in photos (HEIC, AVIF, camera raw), which come in the container of MP4"""


class Frame(NamedTuple):
    """One picture of a video."""

    number: int
    """from 0"""
    seconds: float
    """when it is shown, as the file says; not every file counts upwards"""
    photo: Photo


class Promised(NamedTuple):
    """What a video says of its length."""

    frames: int
    """0 if it does not say"""
    rate: float
    """frames per second; 0 if it does not say"""


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


def is_video(path: Path) -> bool:
    """Whether a file begins as a video of a kind that is read; False for folders, pipes and what cannot be opened."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return _begins_as_video(file.read(16))
    except (OSError, ValueError):  # ValueError: a path with a null byte in it
        return False


def promised(path: Path) -> Promised:
    """What the header of a video says of its length; files that broke off promise too many frames.

    Raises BadPhoto for what is not a video that can be decoded, or is too large; nothing is decoded.
    """
    with _opened(path) as video:
        rate = video.get(cv2.CAP_PROP_FPS)
        return Promised(max(0, int(video.get(cv2.CAP_PROP_FRAME_COUNT))), rate if 0 < rate < 1e4 else 0.0)


def frames(path: Path, wanted: Container[int] = range(sys.maxsize)) -> Iterator[Frame]:
    """The frames of a video whose numbers are wanted, upright, one at a time. Only these are converted to RGB.

    A video that breaks off gives the frames before the break. Raises BadPhoto, naming the file, for what is not a
    video, is too large, or has no frame that can be decoded.
    """
    with _opened(path) as video:
        number = -1
        while video.grab():
            number += 1
            if number not in wanted:
                continue
            whole, pixels = video.retrieve()
            if not whole:
                number -= 1
                break
            seconds = video.get(cv2.CAP_PROP_POS_MSEC) / 1000
            photo = Photo(np.ascontiguousarray(pixels[..., ::-1]), f"{path} frame {number}")  # OpenCV's are BGR
            yield Frame(number, seconds, photo)
    if number < 0:
        raise BadPhoto(f"{path} has no frame that can be decoded; convert it to H.264")


def _begins_as_video(start: bytes) -> bool:
    riff = start[:4] == b"RIFF" and start[8:12] == b"AVI "
    iso = start[4:8] in _ATOMS and not (start[4:8] == b"ftyp" and start[8:12] in _STILL)
    return riff or iso or start.startswith(_STARTS)


def _must_be_a_video(path: Path) -> None:
    try:
        if not path.is_file():
            raise BadPhoto(f"there is no file or folder {path}; give a folder of photos, or a video")
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(16)
    except (OSError, ValueError) as error:  # ValueError: a path with a null byte in it
        raise BadPhoto(f"{path} cannot be read ({error}): check the path and its permissions") from None
    if size > LARGEST_VIDEO:
        raise BadPhoto(f"{path} has {size / 1e9:.1f} GB; a video has at most {LARGEST_VIDEO / 1e9:.0f} GB: cut it")
    if not _begins_as_video(start):
        raise BadPhoto(f"{path} is not a video of a kind that is read ({_KINDS}); give a folder of photos, or a video")


@contextmanager
def _opened(path: Path) -> Iterator[cv2.VideoCapture]:
    """The decoder, its header read and its sizes judged."""
    _must_be_a_video(path)
    # an absolute path: FFmpeg takes "http:..." and "concat:..." for addresses
    video = cv2.VideoCapture(str(path.resolve()), cv2.CAP_FFMPEG)
    try:
        width, height = (int(video.get(key)) for key in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
        if not video.isOpened() or width * height == 0:
            raise BadPhoto(f"{path} cannot be decoded: it is broken, or its codec is not known; convert it to H.264")
        if width * height > LARGEST_FRAME:
            raise BadPhoto(
                f"{path} has frames of {width}×{height}; at most {LARGEST_FRAME / 1e6:.0f} million pixels are read: "
                "scale it down"
            )
        yield video
    finally:
        video.release()
