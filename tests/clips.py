"""Clips to read: written by FFmpeg (in PyAV), their headers changed by hand where a header is what a test is about."""

import struct
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

__all__ = ["atom", "written"]

TICKS = 1000
"""per second"""


def written(
    path: Path,
    pictures: Sequence[np.ndarray],
    *,
    codec: str = "mpeg4",
    rate: int = 25,
    times: Sequence[float] | None = None,
    aspect: Fraction = Fraction(1),
    sound_at: float | None = None,
    options: dict[str, str] | None = None,
    pixels: str = "yuv420p",
    b_frames: int = 0,
    container: str | None = None,
    header: dict[str, str] | None = None,
) -> Path:
    """RGB pictures of one size as a video.

    `times` in s; `aspect`: width of a pixel / its height; `sound_at`: when a tone of 0.5 s begins; `options` are those
    of FFmpeg's encoder, `header` those of its muxer.
    """
    height, width = pictures[0].shape[:2]
    with av.open(str(path), "w", format=container, options=header or {}) as file:
        stream = file.add_stream(codec, rate=rate, options=options or {})
        stream.width, stream.height, stream.pix_fmt = width, height, pixels
        stream.codec_context.sample_aspect_ratio = aspect
        stream.codec_context.max_b_frames = b_frames
        stream.codec_context.bit_rate = 4_000_000
        if times is not None:
            stream.codec_context.time_base = Fraction(1, TICKS)
        tone = file.add_stream("mp2", rate=48000) if sound_at is not None else None
        if tone is not None:
            for packet in _tone(tone, sound_at or 0.0):
                file.mux(packet)
        for k, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts = k if times is None else round(times[k] * TICKS)
            frame.time_base = Fraction(1, rate) if times is None else Fraction(1, TICKS)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path


def _tone(stream: av.AudioStream, begin: float) -> Iterator[av.Packet]:
    wave = (8000 * np.sin(np.arange(24000) / 20)).astype(np.int16)[None]
    frame = av.AudioFrame.from_ndarray(wave, format="s16", layout="mono")
    frame.sample_rate, frame.pts, frame.time_base = 48000, round(48000 * begin), Fraction(1, 48000)
    yield from stream.encode(frame)
    yield from stream.encode(None)


def atom(path: Path, name: bytes, offset: int, *numbers: int) -> Path:
    """Overwrite 32-bit numbers `offset` bytes behind the name of an atom of an MP4 file."""
    data = bytearray(path.read_bytes())
    struct.pack_into(f">{len(numbers)}i", data, data.index(name) + len(name) + offset, *numbers)
    path.write_bytes(data)
    return path
