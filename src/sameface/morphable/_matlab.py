"""Matlab files of either kind (version 5 and 7.3), HDF5 files, and the packages that read them."""

import importlib
import math
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO

import numpy as np

from sameface.core.errors import BadModel, in_one_line
from sameface.core.files import open_file
from sameface.core.npz import AND, MOST_TIMES

__all__ = ["matlab_names", "needed", "open_hdf5", "read_matlab"]

LARGEST_FILE = 2_000_000_000
"""bytes of all arrays of one file"""
COMPRESSED = 15
"""the type of an element that zlib has packed"""
DEEPEST = 8
"""groups within groups; the models that are read have four"""
HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"


def needed(module: str, purpose: str) -> ModuleType:
    """An optional package, or an ImportError that says how to get it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        raise ImportError(f"{purpose} needs {package}: pip install 'sameface[compile]'", name=error.name) from None


@contextmanager
def open_hdf5(path: Path) -> Iterator[Any]:
    """An open h5py.File, read only. Raises BadModel, also for what cannot be read while it is open."""
    h5py = needed("h5py", "reading .h5 models")
    with open_file(path, BadModel) as opened:  # an open file: nothing in it is taken for the name of another
        try:
            with h5py.File(opened, "r") as file:
                _check_own(h5py, file, LARGEST_FILE)
                yield file
        except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
            what = f"{path} is not an HDF5 file of plain arrays, or is cut short ({in_one_line(error)})"
            raise BadModel(f"{what}; download it again") from None


def _check_own(h5py: Any, group: Any, left: int, depth: int = 0) -> int:
    """Raise ValueError for arrays that lie in other files, or are larger than what is left; how much then is left."""
    if depth > DEEPEST:
        raise ValueError("groups within groups without end")
    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise ValueError(f"{name} is a link")
        item = group[name]
        if isinstance(item, h5py.Group):
            left = _check_own(h5py, item, left, depth + 1)
        elif isinstance(item, h5py.Dataset):
            if item.external or item.is_virtual:
                raise ValueError(f"{name} lies in another file")
            left -= max(item.nbytes, 1)
        left -= 1000
        if left < 0:
            raise ValueError(f"more than {LARGEST_FILE / 1e6:.0f} MB of arrays")
    return left


def read_matlab(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a .mat file by name, in Matlab's own shapes. Groups of 7.3 files are left out."""
    with open_file(path, BadModel) as file:
        head = file.read(520)
    if HDF5_MAGIC in (head[:8], head[512:]):
        with open_hdf5(path) as file:  # HDF5 stores Matlab's columns as rows
            return {name: np.asarray(item[()]).T for name, item in file.items() if hasattr(item, "dtype")}
    content = _from_version_5(path, "loadmat")
    return {name: array for name, array in content.items() if not name.startswith("__")}


def matlab_names(path: Path) -> set[str]:
    """The names of the arrays in a .mat file of version 5, without reading them."""
    return {name for name, _, _ in _from_version_5(path, "whosmat")}


def _unpacked(file: BinaryIO, most: int) -> int:
    """How many bytes the elements of a version 5 file unpack to, counted until they are more than `most`."""
    file.seek(126)
    order, total = "<" if file.read(2) == b"IM" else ">", 0
    while total <= most and len(tag := file.read(8)) == 8:
        kind, size = struct.unpack(f"{order}II", tag)
        if kind != COMPRESSED:
            total += size
            file.seek(size, 1)
            continue
        unpacker, left = zlib.decompressobj(), size
        while left and total <= most:
            piece = file.read(min(left, 1 << 20))
            if not piece:
                raise ValueError("it ends early")
            left -= len(piece)
            while piece and total <= most:
                total += len(unpacker.decompress(piece, 1 << 24))
                piece = unpacker.unconsumed_tail
        file.seek(left, 1)
    return total


def _from_version_5(path: Path, function: str) -> Any:
    io = needed("scipy.io", "reading .mat models")
    try:
        with open_file(path, BadModel) as file:
            arrays, most = io.whosmat(file), min(LARGEST_FILE, MOST_TIMES * Path(path).stat().st_size + AND)
            claimed = sum(8 * math.prod(shape) for _, shape, _ in arrays)
            if any(kind in ("struct", "cell", "object") for _, _, kind in arrays):  # of which no sizes are told
                claimed = max(claimed, _unpacked(file, most))
            if claimed > most:
                raise ValueError(f"its arrays claim {claimed / 1e6:.0f} MB")
            file.seek(0)
            return getattr(io, function)(file)
    except (ValueError, TypeError, LookupError, NotImplementedError, OSError, EOFError) as error:
        reason = error
    except (zlib.error, io.matlab.MatReadError) as error:
        reason = error
    raise BadModel(f"{path} is not a Matlab file, or is cut short ({reason}); download it again")
