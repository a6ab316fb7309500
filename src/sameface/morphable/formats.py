"""Opens a morphable model of any format we know, recognised by what is in the file, not by its name."""

import importlib
from pathlib import Path

from sameface import morphable
from sameface.core.errors import AssetMissing, BadModel
from sameface.core.files import hint, names_in, open_file, posing
from sameface.core.npz import names_in_npz
from sameface.morphable import MorphableModel
from sameface.morphable._matlab import HDF5_MAGIC, matlab_names, open_hdf5

__all__ = ["KNOWN", "open_model", "open_or_default", "recognise"]

KNOWN = {
    "sameface": "a sameface model (.npz with header)",
    "ict": "ICT-FaceKit (folder FaceXModel, or .npz with polygons and landmarks68)",
    "gnm": "GNM head (gnm_head.npz, or its web container)",
    "bfm2009": "Basel Face Model 2009 (01_MorphableModel.mat)",
    "bfm2017": "Basel Face Model 2009, 2017 or 2019 (.h5)",
    "face3d": "face3d (BFM.mat)",
    "deep3d": "Deep3DFaceRecon (BFM_model_front.mat) or 3DDFA-V3 (face_model.npy)",
    "flame": "FLAME (.pkl or .npz)",
    "tddfa": "3DDFA (train.configs folder, or bfm_noneck_v3.pkl)",
    "tddfa-sparse": "3DDFA's 68 points (folder with u_base.txt)",
}


def open_model(path: Path) -> MorphableModel:
    """The model in a file or folder; companions (landmarks, statistics) are looked for beside it.

    To name companions yourself, call `load` of that format's module.
    """
    path = Path(path).expanduser()
    kind = recognise(path)
    if kind == "sameface":
        return morphable.load(path)
    if kind == "tddfa-sparse":
        from sameface.morphable import tddfa

        return tddfa.load_sparse(path)
    return importlib.import_module(f"sameface.morphable.{kind}").load(path)


def open_or_default(path: Path | str | None) -> MorphableModel:
    """The model in a file or folder, or the packaged one where none is named (None or empty)."""
    return open_model(Path(path)) if path else morphable.default()


def recognise(path: Path) -> str:
    """Which of `KNOWN` a file or folder is, by its content."""
    path = Path(path)
    if path.is_dir():
        names = set(names_in(path))
        if "FaceXModel" in names_in(path, folders=True):
            names |= set(names_in(path / "FaceXModel"))
        kind, seen = _folder(names), f"a folder with {_some(names)}"
    elif path.exists():
        kind, seen = _file(path)
    else:
        raise AssetMissing(f"there is no file or folder {path}{hint(str(path))}; give the path of a morphable model")
    if kind is None:
        raise BadModel(f"{path} is {seen}; expected one of: {'; '.join(KNOWN.values())}")
    return kind


def _some(names: set[str]) -> str:
    return ", ".join(sorted(names)[:12]) + (" …" if len(names) > 12 else "") if names else "nothing in it"


def _folder(names: set[str]) -> str | None:
    if "w_shp_sim.npy" in names or "bfm_noneck_v3.pkl" in names:
        return "tddfa"
    if "generic_neutral_mesh.obj" in names:
        return "ict"
    return "tddfa-sparse" if "u_base.txt" in names else None


def _file(path: Path) -> tuple[str | None, str]:
    """(kind or None, what was seen)."""
    with open_file(path, BadModel) as file:
        head = file.read(520)
    if (instead := posing(head)) is not None:
        return None, instead
    if head[:4] == b"PK\x03\x04":
        return _npz(path)
    if head[:4] == b"GNMW":
        return "gnm", "GNM's web container"
    if head[:6] == b"\x93NUMPY":
        return _npy(path)
    if HDF5_MAGIC in (head[:8], head[512:]):
        with open_hdf5(path) as file:
            names = set(file)
            kind = "bfm2009" if "shapeMU" in names else "bfm2017" if "shape/model/mean" in file else None
        return kind, f"an HDF5 file with {_some(names)}"
    if head[:6] == b"MATLAB":
        return _matlab(path)
    if head[:1] == b"\x80" or head[:2] in (b"(d", b"}q", b"(l"):
        return _pickle(path)
    return None, f"{path.stat().st_size} bytes that begin with {head[:16]!r}"


def _npz(path: Path) -> tuple[str | None, str]:
    try:
        names = set(names_in_npz(path, BadModel))
    except BadModel as error:
        return None, f"a broken .npz, perhaps cut short: download it again ({error})"
    marks = {"header": "sameface", "template_vertex_positions": "gnm", "landmarks68_jaw_on_surface": "ict",
             "shapedirs": "flame"}  # fmt: skip
    kind = next((kind for mark, kind in marks.items() if mark in names), None)
    return kind, f"an .npz with {_some(names)}"


def _matlab(path: Path) -> tuple[str | None, str]:
    names = matlab_names(path)
    marks = {"shapePC": "bfm2009", "idBase": "deep3d", "model": "face3d"}
    return next((kind for mark, kind in marks.items() if mark in names), None), f"a Matlab file with {_some(names)}"


def _npy(path: Path) -> tuple[str | None, str]:
    from sameface.morphable.pickles import read_npy

    content = read_npy(path)
    names = {str(name) for name in content} if isinstance(content, dict) else set()
    return "deep3d" if {"u", "id", "exp"} <= names else None, f"an .npy of a {type(content).__name__} of {_some(names)}"


def _pickle(path: Path) -> tuple[str | None, str]:
    from sameface.morphable.pickles import read_pickle

    content = read_pickle(path)
    names = {str(name) for name in content} if isinstance(content, dict) else set()
    kind = "flame" if {"v_template", "shapedirs"} <= names else "tddfa" if {"u", "w_shp"} <= names else None
    return kind, f"a pickle of a {type(content).__name__} with {_some(names)}"
