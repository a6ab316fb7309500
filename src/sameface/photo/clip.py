"""The frames of a video file as they are meant to be seen: upright, mirrored where the file says so, pixels square,
each with its own time.

The kind of a file is told from its first bytes, never from its name. Only containers that cannot refer to other files
are opened, by their own demuxer, and FFmpeg (in PyAV) gets an open file and no name, so it cannot take one for an
address.
"""

import sys
from collections.abc import Container, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import Shaped, UInt8

from sameface.core.errors import BadPhoto
from sameface.core.processes import threads
from sameface.photo.face import Photo

if TYPE_CHECKING:
    import av

__all__ = ["Frame", "Promised", "frames", "is_video", "promised"]

LARGEST_VIDEO = 20_000_000_000
"""bytes"""
LARGEST_FRAME = 40_000_000
"""px; 8K video has 33 million"""
LONGEST_PIXEL = 4
"""times its shorter side; pixels of another shape are a slip of the header (cinema in PAL has 1.42)"""
UNTIMED = ("avi", "mpegvideo")
"""kinds that count frames in the order of decoding, so with B-frames the first is shown later than at its number"""
TINY = 1e-5
"""s; FFmpeg rounds the begin of a file to microseconds"""
_HEAD = 400
"""bytes that tell the kind of a file: three packets of a transport stream"""
_KINDS = "MP4, QuickTime, Matroska, WebM, AVI, MPEG, WMV, FLV and Ogg"
_ATOMS = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")
"""how MP4 and QuickTime files begin, after four bytes of length"""
_STARTS = (
    (b"\x1a\x45\xdf\xa3", "matroska"), (b"\0\0\x01\xba", "mpeg"), (b"\0\0\x01\xb3", "mpegvideo"), (b"FLV\x01", "flv"),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "asf"), (b"OggS", "ogg"),
)  # fmt: skip
_STILL = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1", b"avif", b"avis", b"crx ")
"""what follows `ftyp` in photos (HEIC, AVIF, camera raw), which come in the container of MP4"""


class Frame(NamedTuple):
    """One picture of a video."""

    number: int
    """from 0"""
    seconds: float
    """when it is shown, from the begin of the file, its sound included; NaN if the file does not say"""
    photo: Photo


class Promised(NamedTuple):
    """What the header of a video says of its length."""

    frames: int
    """that are to be shown; 0 if it does not say"""
    rate: float
    """frames per second; 0 if it does not say"""
    end: float
    """s from the begin of the file, where the last frame ends; 0 if it does not say"""


def is_video(path: Path) -> bool:
    """Whether a file begins as a video of a kind that is read; False for folders, pipes and what cannot be opened."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return _demuxer(file.read(_HEAD)) is not None
    except (OSError, ValueError):  # ValueError: a path with a null byte in it
        return False


def promised(path: Path) -> Promised:
    """What the header of a video says of its length; files that broke off promise too much.

    Raises BadPhoto for what is not a video that can be decoded, or is too large; nothing is decoded.
    """
    with _opened(path) as (file, stream):
        rate = float(stream.average_rate or 0)
        return Promised(_count(file, stream), rate if 0 < rate < 1e4 else 0.0, _end(file, stream))


def frames(path: Path, wanted: Container[int] = range(sys.maxsize)) -> Iterator[Frame]:
    """The frames of a video whose numbers are wanted, one at a time. Only these are converted to RGB.

    A video that breaks off gives the frames before the break. Raises BadPhoto, naming the file, for what is not a
    video, is too large, or has no frame that can be decoded.
    """
    with _opened(path) as (file, stream):
        begin, number = _begin(file), -1
        for frame in _decoded(file, stream):
            number += 1
            if number == 0 and frame.time and file.format.name in UNTIMED:
                begin = frame.time - float((stream.start_time or 0) * (stream.time_base or 0))
            if number in wanted:
                seconds = float("nan") if frame.time is None else frame.time - begin
                pixels = _upright(_rgb(frame, _pixel(stream)), frame)
                yield Frame(number, seconds if abs(seconds) > TINY else 0.0, Photo(pixels, f"{path} frame {number}"))
    if number < 0:
        raise BadPhoto(f"{path} has no frame that can be decoded; convert it to H.264")


def _demuxer(head: bytes) -> str | None:
    """FFmpeg's name of the kind of container that begins so; None if it is none that is read."""
    for start, name in _STARTS:
        if head.startswith(start):
            return name
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return "avi"
    if head[4:8] in _ATOMS and not (head[4:8] == b"ftyp" and head[8:12] in _STILL):
        return "mov"
    for first, step in ((0, 188), (4, 192)):  # packets of broadcasts; those of camcorders have a time in front
        if len(head) > first + 2 * step and set(head[first : first + 2 * step + 1 : step]) == {0x47}:
            return "mpegts"
    return None


def _checked_kind(path: Path) -> str:
    """The kind of a file that is there, is not too large, and begins as a video."""
    try:
        if not path.is_file():
            raise BadPhoto(f"there is no file or folder {path}; give a folder of photos, or a video")
        size = path.stat().st_size
        with path.open("rb") as file:
            kind = _demuxer(file.read(_HEAD))
    except (OSError, ValueError) as error:  # ValueError: a path with a null byte in it
        raise BadPhoto(f"{path} cannot be read ({error}): check the path and its permissions") from None
    if size > LARGEST_VIDEO:
        raise BadPhoto(f"{path} has {size / 1e9:.1f} GB; a video has at most {LARGEST_VIDEO / 1e9:.0f} GB: cut it")
    if kind is None:
        raise BadPhoto(f"{path} is not a video of a kind that is read ({_KINDS}); give a folder of photos, or a video")
    return kind


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """The file (an av.container.InputContainer) and its video stream, the header read and its sizes judged."""
    kind = _checked_kind(path)
    import av
    from av.error import FFmpegError
    from av.stream import Disposition

    broken = f"{path} cannot be decoded: it is broken, or its codec is not known; convert it to H.264"
    with path.open("rb") as opened:
        try:
            file = av.open(opened, format=kind, options={"protocol_whitelist": "none"}, metadata_errors="replace")
        except (FFmpegError, ValueError):
            raise BadPhoto(broken) from None
        with file:
            cover = Disposition.attached_pic | Disposition.timed_thumbnails
            streams = [one for one in file.streams.video if not one.disposition & cover]
            if not streams:
                raise BadPhoto(f"{path} holds {'sound' if file.streams.audio else 'nothing'} but no moving pictures")
            best = file.streams.best("video")
            stream = next((one for one in streams if one is best), streams[0])
            if stream.codec_context is None or stream.width * stream.height == 0:
                raise BadPhoto(broken)
            wide = max(_pixel(stream), 1 / _pixel(stream))
            if stream.width * stream.height * wide > LARGEST_FRAME:
                raise BadPhoto(
                    f"{path} has frames of {stream.width}×{stream.height}; at most {LARGEST_FRAME / 1e6:.0f} million "
                    "pixels are read: scale it down"
                )
            stream.codec_context.options = {"max_pixels": str(LARGEST_FRAME)}  # frames may be larger than the header's
            stream.codec_context.thread_count = threads(large=True)
            stream.thread_type = "AUTO"
            yield file, stream


def _begin(file: Any) -> float:
    """s; when the file begins, its sound included (broadcasts do not begin at 0)."""
    return (file.start_time or 0) / 1e6


def _count(file: Any, stream: Any) -> int:
    """How many frames are to be shown: an MP4 that was cut without loss keeps others, which it says not to show."""
    if file.format.name == "mov" and len(stream.index_entries):
        return sum(not entry.is_discard for entry in stream.index_entries)
    return stream.frames


def _end(file: Any, stream: Any) -> float:
    """s from the begin of the file to the end of the pictures; 0 where it is not told, or only of the sound too."""
    if file.format.name == "mpegvideo":  # a guess by the size of the file
        return 0.0
    first = (stream.start_time or 0) * (stream.time_base or 0)
    if stream.duration and stream.time_base:
        return float(first + stream.duration * stream.time_base) - _begin(file)
    told = next((text for name, text in stream.metadata.items() if name.startswith("DURATION")), "")
    try:
        hours, minutes, seconds = told.split(":")
        return 3600 * int(hours) + 60 * int(minutes) + float(seconds)
    except ValueError:
        return file.duration / 1e6 if file.duration and len(file.streams) == 1 else 0.0


def _decoded(file: Any, stream: Any) -> Iterator["av.VideoFrame"]:
    """Every frame that can be decoded; what comes after a break in the file does not."""
    from av.error import FFmpegError

    packets = file.demux(stream)
    while True:
        try:
            packet = next(packets)
        except (StopIteration, FFmpegError):
            return
        try:
            yield from packet.decode()
        except FFmpegError:  # of this packet: the next key frame mends it
            continue


def _pixel(stream: Any) -> float:
    """Width of a pixel / its height."""
    aspect = float(stream.sample_aspect_ratio or 1)
    return aspect if 1 / LONGEST_PIXEL <= aspect <= LONGEST_PIXEL else 1.0


def _rgb(frame: "av.VideoFrame", pixel: float) -> UInt8[np.ndarray, "H W 3"]:
    """sRGB with square pixels: the side that has too few is stretched."""
    width, height = max(1, round(frame.width * max(pixel, 1))), max(1, round(frame.height * max(1 / pixel, 1)))
    return frame.to_ndarray(format="rgb24", width=width, height=height, interpolation="BICUBIC")


def _upright(pixels: Shaped[np.ndarray, "H W 3"], frame: "av.VideoFrame") -> Shaped[np.ndarray, "h w 3"]:
    """As the frame's display matrix says, (x, y) ↦ (a x + c y, b x + d y): the nearest of quarter turns and mirrors."""
    told = frame.side_data.get("DISPLAYMATRIX")
    if told is None:
        return pixels
    a, b, _, c, d = np.frombuffer(bytes(told), np.int32)[:5].astype(float)
    if abs(b) + abs(c) > abs(a) + abs(d):
        pixels, a, d = pixels.swapaxes(0, 1), c, b
    return np.ascontiguousarray(pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])
