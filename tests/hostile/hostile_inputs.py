"""What may be wrong with a file, from a seed; small, and harmless in itself.

Nothing here would crash or hang somebody else's decoder: a header that claims too much stands for a bomb, a pipe with
nobody behind it for a device that never answers.
"""

import io
import os
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from faces import encoded, scenery

__all__ = ["Bytes", "Case", "Plant", "archives", "damaged", "jpeg", "npy", "planted", "png", "put", "variants"]


class Case(NamedTuple):
    """One command that is given hostile inputs."""

    door: str
    name: str
    command: list[str]
    """of sameface, run in the case's folder; results go to `out` in it"""
    inputs: int = 1
    rows: int | None = None
    """photos or rows that must be told of, each"""
    good: int = 0
    """how many of them must have worked"""


Bytes = dict[str, bytes]
Plant = Callable[[Path], None]


# ── what is wrong with a file ──────────────────────────────────────────────────────────────────────────────


def damaged(data: bytes, rng: np.random.Generator, each: int = 3) -> Bytes:
    """A file cut, bent, zeroed, mixed up in `each` random places, and things that are no such file at all."""
    out = {
        "empty": b"",
        "text": "grüße, kein Bild\n".encode(),
        "begin-lost": data[len(data) // 7 :],
        "twice": data + data,
    }
    for k in range(each):
        at, length = int(rng.integers(1, max(2, len(data)))), int(rng.integers(1, 200))
        out[f"cut-{k}"] = data[:at]
        flipped = bytearray(data)
        for place in rng.integers(0, len(data), 1 + len(data) // 500):
            flipped[place] ^= int(rng.integers(1, 256))
        out[f"flipped-{k}"] = bytes(flipped)
        out[f"zeroed-{k}"] = data[:at] + bytes(min(length, len(data) - at)) + data[at + length :]
        out[f"mixed-{k}"] = data[:at] + rng.bytes(length) + data[at:]
    return out


def planted() -> dict[str, Plant]:
    """What may lie where a file is expected."""

    def loop(path: Path) -> None:
        path.symlink_to(path.name)

    return {
        "pipe": lambda path: os.mkfifo(path), "device": lambda path: path.symlink_to("/dev/zero"),
        "nothing": lambda path: path.symlink_to("/dev/null"), "gone": lambda path: path.symlink_to("not-there"),
        "loop": loop, "folder": lambda path: path.mkdir(),
    }  # fmt: skip


def put(path: Path, what: bytes | Plant) -> None:
    """Replace a file by damaged bytes, or by something that is no file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_symlink() or path.exists():
        path.unlink()
    if isinstance(what, bytes):
        path.write_bytes(what)
    else:
        what(path)


def variants(data: bytes, rng: np.random.Generator, each: int = 3) -> dict[str, bytes | Plant]:
    """Everything that may be wrong with a file."""
    return {**damaged(data, rng, each), **planted()}


# ── headers that claim too much ────────────────────────────────────────────────────────────────────────────


def png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 10)) + chunk(b"IEND", b"")
    )


def jpeg(width: int, height: int) -> bytes:
    data = bytearray(encoded(scenery(32, 32), "JPEG"))
    at = data.find(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(data)


def npy(shape: tuple[int, ...], kind: str = "<f8", body: bytes = b"") -> bytes:
    header = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (63 - (len(header) + 10) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + body


def archive(
    members: Bytes, change: Callable[[bytearray], None] | None = None, method: int = zipfile.ZIP_DEFLATED
) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as file:
        for name, data in members.items():
            file.writestr(name, data)
    data = bytearray(out.getvalue())
    if change is not None:
        change(data)
    return bytes(data)


def archives(name: str = "vertices.npy") -> Bytes:
    """Archives of arrays that lie: encryption, methods that nobody knows, checksums, sizes, Python objects."""
    good = npy((4, 3), body=np.ones(12).tobytes())
    both = (b"PK\x03\x04", b"PK\x01\x02")

    def at(offsets: tuple[int, int], value: bytes) -> Callable[[bytearray], None]:
        def change(data: bytearray) -> None:
            for mark, offset in zip(both, offsets, strict=True):
                place = data.find(mark) + offset
                data[place : place + len(value)] = value

        return change

    return {
        "encrypted": archive({name: good}, at((6, 8), b"\1")), "method": archive({name: good}, at((8, 10), b"\x63\0")),
        "crc": archive({name: good}, at((14, 16), b"\1\2\3\4")), "petabytes": archive({name: npy((1 << 50,))}),
        "size": archive({name: good}, at((22, 24), b"\xff" * 4)), "objects": archive({name: npy((1,), "|O", b"N.")}),
        "zeros": archive({name: npy((11_250_000,), body=bytes(90_000_000))}),
        "negative": archive({name: npy((-1, 3))}), "twice": archive({name: good}) + archive({name: good}),
        "no-header": archive({name: b"\x93NUMPY"}),
        "many": archive({f"{k}.npy": b"" for k in range(10_001)}, method=zipfile.ZIP_STORED),
        "outside": archive({"../../outside.npy": good}),
        "bzip2": archive({name: good}, method=zipfile.ZIP_BZIP2), "texts": archive({name: npy((2,), "<U4", bytes(32))}),
    }  # fmt: skip
