"""Arrays in .npz and .npy files from outside: no pickle, and no size is believed that the file cannot have."""

import lzma
import os
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Collection
from io import BytesIO
from typing import Any

import numpy as np

from sameface.core.errors import BadData, SameFaceError, compared, in_one_line
from sameface.core.files import PathLike, open_file, read_bytes

__all__ = ["BROKEN", "array", "names_in_npz", "read_npy", "read_npz"]

MOST_MEMBERS = 10_000
"""arrays in one file"""
MOST_TIMES, AND = 100, 1 << 26
"""times its size, and bytes beside that, is what an archive unpacks to at most: numbers of a face hardly shrink"""
BROKEN = (
    OSError, ValueError, KeyError, EOFError, RuntimeError, NotImplementedError, OverflowError, TypeError, SyntaxError,
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, tokenize.TokenError,
)  # fmt: skip
"""what zipfile and numpy raise for bad checksums, encryption, methods that nobody knows, and headers that lie"""


def read_npz(
    path: PathLike,
    largest: int,
    *,
    only: Collection[str] | None = None,
    error: type[SameFaceError] = BadData,
    decode: Callable[[bytes], Any] | None = None,
) -> dict[str, Any]:
    """The arrays of an .npz by name, `only` some of them where these are there; `largest` bytes unpacked at most.

    `decode` makes something else of the bytes of a member than plain arrays. Raises `error` for whatever is no whole
    archive of plain arrays, or unpacks to more.
    """
    with open_file(path, error) as file:
        try:
            with zipfile.ZipFile(file) as archive:
                members = _members(archive, os.fstat(file.fileno()).st_size, largest)
                wanted = members.keys() if only is None else [name for name in members if name in only]
                return {name: (decode or array)(archive.read(members[name])) for name in wanted}
        except BROKEN as problem:
            raise error(
                f"{path} is no .npz of plain arrays ({in_one_line(problem)}); save it with numpy.savez"
            ) from None


def names_in_npz(path: PathLike, error: type[SameFaceError] = BadData) -> list[str]:
    """The names of the arrays in an .npz. Raises `error`."""
    with open_file(path, error) as file:
        try:
            with zipfile.ZipFile(file) as archive:
                return [name.removesuffix(".npy") for name in archive.namelist()]
        except BROKEN as problem:
            raise error(f"{path} is no .npz ({in_one_line(problem)})") from None


def read_npy(path: PathLike, largest: int, error: type[SameFaceError] = BadData) -> np.ndarray:
    """The array of an .npy of at most `largest` bytes. Raises `error`."""
    content = read_bytes(path, largest, error)
    try:
        return array(content)
    except BROKEN as problem:
        raise error(f"{path} is no .npy of plain numbers ({in_one_line(problem)}); save it with numpy.save") from None


def _members(archive: zipfile.ZipFile, size: int, largest: int) -> dict[str, zipfile.ZipInfo]:
    """The archive's members by array name, if what they claim to hold can be."""
    found = archive.infolist()
    members = {info.filename.removesuffix(".npy"): info for info in found}
    if len(members) < len(found) or len(found) > MOST_MEMBERS:
        raise ValueError(f"{len(found)} arrays with {len(members)} names")
    total, most = sum(info.file_size for info in found), min(largest, MOST_TIMES * size + AND)
    if total > most:
        found_mb, most_mb = compared(total / 1e6, most / 1e6, 0)
        raise ValueError(f"it unpacks to {found_mb} MB, but {most_mb} MB are read at most")
    return members


def array(content: bytes) -> np.ndarray:
    """What the bytes of an .npy hold. Raises ValueError unless they are just what their header says."""
    stream = BytesIO(content)
    version = np.lib.format.read_magic(stream)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise ValueError(f"a header of version {version}")
    shape, by_columns, kind = readers[version](stream)
    if kind.hasobject:
        raise ValueError("Python objects, which are not read")
    count = 1
    for side in shape:
        count *= side
    if min(shape, default=0) < 0 or count * kind.itemsize != len(content) - stream.tell():
        raise ValueError(f"a header of shape {shape} over {len(content) - stream.tell()} bytes")
    flat = np.frombuffer(content, kind, count, stream.tell()) if count and kind.itemsize else np.zeros(count, kind)
    return flat.reshape(shape, order="F" if by_columns else "C").copy()
