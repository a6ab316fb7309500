"""Matlab files of either kind (version 5 and 7.3), HDF5 files, and the packages that read them."""

import importlib
import zlib
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from sameface.core.errors import BadModel

__all__ = ["matlab_names", "needed", "open_hdf5", "read_matlab"]

HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"


def needed(module: str, purpose: str) -> ModuleType:
    """An optional package, or an ImportError that says how to get it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        raise ImportError(f"{purpose} needs {package}: pip install 'sameface[compile]'", name=error.name) from None


def open_hdf5(path: Path) -> Any:
    """An open h5py.File, read only."""
    h5py = needed("h5py", "reading .h5 models")
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise BadModel(f"{path} is not an HDF5 file, or is cut short ({error}); download it again") from None


def read_matlab(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a .mat file by name, in Matlab's own shapes. Structs and cells of 7.3 files are left out."""
    with Path(path).open("rb") as file:
        head = file.read(520)
    if HDF5_MAGIC in (head[:8], head[512:]):
        with open_hdf5(path) as file:  # HDF5 stores Matlab's columns as rows
            return {name: np.asarray(item[()]).T for name, item in file.items() if hasattr(item, "dtype")}
    content = _from_version_5(path, "loadmat")
    return {name: array for name, array in content.items() if not name.startswith("__")}


def matlab_names(path: Path) -> set[str]:
    """The names of the arrays in a .mat file of version 5, without reading them."""
    return {name for name, _, _ in _from_version_5(path, "whosmat")}


def _from_version_5(path: Path, function: str) -> Any:
    io = needed("scipy.io", "reading .mat models")
    try:
        return getattr(io, function)(path)
    except (ValueError, TypeError, LookupError, NotImplementedError, OSError, EOFError) as error:
        reason = error
    except (zlib.error, io.matlab.MatReadError) as error:
        reason = error
    raise BadModel(f"{path} is not a Matlab file, or is cut short ({reason}); download it again")
