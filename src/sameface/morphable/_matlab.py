"""Matlab files of either kind (version 5 and 7.3), HDF5 files, and the packages that read them."""

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from sameface.errors import BadModel

__all__ = ["needed", "open_hdf5", "read_matlab"]

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
    io = needed("scipy.io", "reading .mat models")
    try:
        content = io.loadmat(path)
    except (ValueError, TypeError, NotImplementedError, OSError) as error:
        raise BadModel(f"{path} is not a Matlab file, or is cut short ({error}); download it again") from None
    return {name: array for name, array in content.items() if not name.startswith("__")}
