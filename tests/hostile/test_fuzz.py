"""Readers of binary files against files that hypothesis bends: they read, or say what is wrong, and nothing else.

Each reader gets HOSTILE_RUNS files: 8 in every test run, 2,000 in `make hostile`.
"""

import os
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import morphable_files
from faces import encoded, scenery
from sameface import morphable
from sameface.core.errors import SameFaceError
from sameface.core.npz import read_npz
from sameface.mesh.read import read_mesh
from sameface.mesh.write import write_obj, write_ply
from sameface.morphable import formats
from sameface.morphable._matlab import read_matlab
from sameface.morphable.pickles import read_pickle
from sameface.photo.decode import decode
from sameface.photo.predictor import ASSETS, Predictor

RUNS = int(os.environ.get("HOSTILE_RUNS", "8"))
LARGEST = 1 << 26

READERS: dict[str, Callable[[Path], Any]] = {
    "mesh.obj": read_mesh, "mesh.ply": read_mesh, "model.mat": read_matlab, "model.pkl": read_pickle,
    "model.h5": formats.open_model, "model.npz": morphable.load, "arrays.npz": lambda path: read_npz(path, LARGEST),
    "network.onnx": lambda path: Predictor(path, threads=1).description,
    "photo.jpg": lambda path: decode(path.read_bytes(), "photo"),
    "photo.png": lambda path: decode(path.read_bytes(), "photo"),
}  # fmt: skip


@cache
def good(folder: Path, name: str) -> bytes:
    """A whole file of this kind."""
    face, path = morphable_files.small_face(), folder / name
    if name == "mesh.obj":
        write_obj(path, face.vertices[:20], face.faces[(face.faces < 20).all(1)])
    elif name == "mesh.ply":
        write_ply(path, face.vertices[:20], face.faces[(face.faces < 20).all(1)])
    elif name == "arrays.npz":
        np.savez(path, a=np.arange(9.0), b=np.ones((2, 3), np.float16))
    elif name == "model.npz":
        return (ASSETS / "face_model.npz").read_bytes()
    elif name == "network.onnx":
        return (ASSETS / "eyes.onnx").read_bytes()
    elif name.startswith("photo"):
        return encoded(scenery(64, 48), {"jpg": "JPEG", "png": "PNG"}[name.partition(".")[2]])
    else:
        write = {"mat": morphable_files.write_bfm2009_small, "pkl": morphable_files.write_flame,
                 "h5": morphable_files.write_bfm2017}[name.partition(".")[2]]  # fmt: skip
        inside = folder / name.replace(".", "-")
        inside.mkdir()
        return write(inside).path.read_bytes()
    return path.read_bytes()


EDITS = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 12), st.binary(max_size=12)), min_size=1, max_size=6)
"""(where, how many bytes go, what comes in their place)"""


@pytest.mark.parametrize("name", READERS)
@settings(max_examples=RUNS, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(edits=EDITS, kept=st.floats(0.02, 1))
def test_a_bent_file_is_read_or_named(tmp_path_factory, name, edits, kept):
    folder = tmp_path_factory.getbasetemp() / "fuzz"
    folder.mkdir(exist_ok=True)
    data = bytearray(good(folder, name))
    for place, gone, come in edits:
        at = int(place * len(data))
        data[at : at + gone] = come
    path = folder / f"bent-{name}"
    path.write_bytes(data[: int(kept * len(data)) + 1])
    with warnings.catch_warnings(), suppress(SameFaceError):
        warnings.simplefilter("ignore")  # libraries warn of what they find in broken files
        READERS[name](path)
