"""FLAME (Li et al., SIGGRAPH Asia 2017): generic_model.pkl of 2017 to 2020, flame2023.pkl, flame2023_Open.pkl, or .npz.

Licence: "2023 Open" is CC-BY-4.0; the others are for non-commercial research (flame.is.tue.mpg.de). Topology: 5,023
vertices, 9,976 faces. The file: a pickle of Python 2 (older ones hold chumpy arrays; neither chumpy nor scipy is
imported here, see `pickles.py`), or the same arrays as .npz; metres; +x to the subject's left, +y up, +z out of the
face; `shapedirs` already times the standard deviations, 300 of identity and then 100 of expression, or in exports of
150 modes 100 and 50 (DECA's, EMOCA's). 2020 and 2023 have different identity spaces: coefficients of one mean nothing
in the other.

Linear use only: poses (neck, jaw, eyes) are not applied. What they need is kept in `extra`: weights (V, 5),
J_regressor (5, V), posedirs (V, 3, 36) in mm, kintree_parents (5, −1 is the root).

Landmarks are in files of their own, as triangles and barycentric weights. One of these has to be given, or lie beside
the model: landmark_embedding.npy (DECA's: all 68), a file with all 68 rows (…_68….npz or .pkl), or FLAME's
flame_static_embedding.pkl (51 inner points) with flame_dynamic_embedding.npy (the jaw for 79 yaw angles). The last
has only outlines: the frontal one (row 0) then serves as jaw and as contour. Points of MediaPipe's face mesh in
mediapipe_landmark_embedding.npz beside the model become `extra["mediapipe_ids"]`, `…_faces` and `…_weights`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from sameface.core.errors import AssetMissing, BadModel
from sameface.core.files import open_file
from sameface.core.npz import read_npz
from sameface.morphable import LARGEST_FILE, MorphableModel
from sameface.morphable._checks import checked, require
from sameface.morphable.pickles import read_npy, read_object_npz, read_pickle

__all__ = ["load"]

OPEN, RESEARCH = "CC-BY-4.0 (FLAME 2023 Open)", "FLAME model licence: non-commercial research, no redistribution"
KNOWN_LANDMARKS = (("landmark_embedding.npy",), ("flame_static_embedding.pkl", "flame_dynamic_embedding.npy"))
MEDIAPIPE = "mediapipe_landmark_embedding.npz"
IDENTITY_OF = {150: 100}
"""modes → how many of them are of identity; otherwise N_IDENTITY"""
N_IDENTITY = 300
MM_PER_UNIT = 1000.0
N_MEDIAPIPE = 478

Embedding = tuple[Int[np.ndarray, " _"], Float[np.ndarray, "_ 3"]]
"""(face, barycentric weights) of each point of a set"""


def load(path: Path, *, landmarks: Path | Sequence[Path] = (), identity_modes: int | None = None) -> MorphableModel:
    """Read a FLAME pickle or .npz; `landmarks` is one or two landmark files (see above), by default those beside it.

    `identity_modes` says how many of the modes are of identity, for exports with neither 400 modes nor 150.
    """
    path = Path(path)
    source = _content(path)
    require(source, ("v_template", "shapedirs", "f"), path, "a FLAME model")
    mean, modes = (_numbers(source, name, path) * MM_PER_UNIT for name in ("v_template", "shapedirs"))
    faces = _numbers(source, "f", path, np.int64)
    many = modes.shape[-1] if modes.ndim else 0
    count = IDENTITY_OF.get(many, N_IDENTITY) if identity_modes is None else identity_modes
    if mean.ndim != 2 or modes.ndim != 3 or modes.shape[:2] != mean.shape or not 0 < count <= many:
        raise BadModel(
            f"{path}: v_template has shape {mean.shape} and shapedirs {modes.shape}; expected (V, 3) and (V, 3, 400): "
            f"{N_IDENTITY} modes of identity, then those of expression (or 100 and 50); else give `identity_modes`"
        )
    jaw, inner, contour = _landmarks(path, landmarks, len(faces))
    return checked(
        MorphableModel(
            name=f"flame-{path.stem}",
            licence=OPEN if "open" in path.stem.lower() else RESEARCH,
            mean=mean,
            identity_basis=modes[:, :, :count],
            expression_basis=modes[:, :, count:],
            faces=faces,
            landmark_faces=np.concatenate([jaw[0], inner[0]]),
            landmark_weights=np.concatenate([jaw[1], inner[1]]),
            expression_names=tuple(f"expression{i}" for i in range(many - count)),
            contour_faces=None if contour is None else contour[0],
            contour_weights=None if contour is None else contour[1],
            extra=_pose(source) | _mediapipe(path.parent / MEDIAPIPE, len(faces)),
            unit=MM_PER_UNIT,
        ),
        path,
    )


def _numbers(source: dict[str, Any], name: str, path: Path, kind: type = np.float32) -> np.ndarray:
    value = source[name]
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "iuf":
        raise BadModel(f"{path}: {name} is no array of numbers but {type(value).__name__}; expected that of FLAME")
    return value.astype(kind)


def _pose(source: dict[str, Any]) -> dict[str, np.ndarray]:
    """What turning joints would need, as far as the file has it."""
    extra = {}
    for name, unit in (("weights", 1), ("J_regressor", 1), ("posedirs", MM_PER_UNIT)):
        if isinstance(source.get(name), np.ndarray) and source[name].dtype.kind in "iuf":
            extra[name] = source[name].astype(np.float32) * unit
    table = source.get("kintree_table")
    if isinstance(table, np.ndarray) and table.dtype.kind in "iu" and table.ndim == 2 and len(table):
        parents = table[0].astype(np.int64)
        extra["kintree_parents"] = np.where(parents >= len(parents), -1, parents)  # 2³² − 1 marks the root
    return extra


def _mediapipe(file: Path, n_faces: int) -> dict[str, np.ndarray]:
    """Points of MediaPipe's face mesh on FLAME, if their file is there: (105) ids, faces and (105, 3) weights."""
    if not file.exists():
        return {}
    source = read_npz(file, LARGEST_FILE, error=BadModel)
    if "landmark_indices" not in source:  # older files do not say which points they are
        return {}
    require(source, ("lmk_face_idx", "lmk_b_coords"), file, "MediaPipe's points on FLAME")
    faces, weights, ids = (np.asarray(source[name]) for name in ("lmk_face_idx", "lmk_b_coords", "landmark_indices"))
    if faces.ndim != 1 or weights.shape != (len(faces), 3) or ids.shape != faces.shape:
        raise BadModel(f"{file} has {faces.shape} triangles, {weights.shape} weights and {ids.shape} numbers")
    faces, ids = faces.astype(np.int64), ids.astype(np.int64)
    if not (0 <= faces.min() <= faces.max() < n_faces and 0 <= ids.min() <= ids.max() < N_MEDIAPIPE):
        raise BadModel(
            f"{file} names faces up to {faces.max()} of {n_faces}, points up to {ids.max()}: another model's"
        )
    return {"mediapipe_ids": ids, "mediapipe_faces": faces, "mediapipe_weights": weights.astype(np.float32)}


def _landmarks(path: Path, given: Path | Sequence[Path], n_faces: int) -> tuple[Embedding, Embedding, Embedding | None]:
    """(jaw, inner 51, contour or None)."""
    files = [Path(given)] if isinstance(given, str | Path) else [Path(file) for file in given]
    for names in KNOWN_LANDMARKS:
        if not files and all((path.parent / name).exists() for name in names):
            files = [path.parent / name for name in names]
    if not files:
        raise AssetMissing(
            f"{path} does not say where the 68 landmarks are; put landmark_embedding.npy (from DECA), or "
            "flame_static_embedding.pkl and flame_dynamic_embedding.npy (from the FLAME site), beside it or give them "
            "as `landmarks`"
        )
    content: dict[str, Embedding] = {}
    for file in files:
        content |= _embeddings(file, n_faces)
    contour = content.get("contour")
    if "all" in content:
        faces, weights = content["all"]
        return (faces[:17], weights[:17]), (faces[17:], weights[17:]), contour
    if "inner" in content and contour is not None:
        return contour, content["inner"], contour
    seen = ", ".join(sorted(content)) or "none"
    raise AssetMissing(
        f"{', '.join(map(str, files))}: found the landmarks of {seen}; expected all 68, or the 51 inner points "
        "(flame_static_embedding.pkl) and the contour (flame_dynamic_embedding.npy)"
    )


def _embeddings(file: Path, n_faces: int) -> dict[str, Embedding]:
    """The point sets of one landmark file: "all" (68), "inner" (51), "contour" (17, frontal)."""
    source = _content(file)
    found = {}
    for faces_name, weights_name in (
        ("full_lmk_faces_idx", "full_lmk_bary_coords"),
        ("static_lmk_faces_idx", "static_lmk_bary_coords"),
        ("dynamic_lmk_faces_idx", "dynamic_lmk_bary_coords"),
        ("lmk_face_idx", "lmk_b_coords"),
    ):
        faces, weights = source.get(faces_name), source.get(weights_name)
        if isinstance(faces, np.ndarray | list) and isinstance(weights, np.ndarray | list):
            name, embedding = _point_set(np.asarray(faces), np.asarray(weights), n_faces, file)
            found[name] = embedding
    if not found:
        raise BadModel(f"{file} has no landmarks of FLAME; it has {', '.join(map(str, source)) or 'nothing'}")
    return found


def _content(file: Path) -> dict[str, Any]:
    if not file.exists():
        raise AssetMissing(f"the file {file} does not exist")
    with open_file(file, BadModel) as opened:
        magic = opened.read(6)
    if magic[:4] == b"PK\x03\x04":
        return read_object_npz(file)
    source = read_npy(file) if magic == b"\x93NUMPY" else read_pickle(file)
    if not isinstance(source, dict):
        raise BadModel(
            f"{file} holds a {type(source).__name__}; expected the dict of a FLAME model, or of its landmarks"
        )
    return source


def _point_set(faces: np.ndarray, weights: np.ndarray, n_faces: int, file: Path) -> tuple[str, Embedding]:
    if faces.ndim == 2 and faces.shape[1] == 17 and weights.shape == (*faces.shape, 3):
        name, faces, weights = "contour", faces[0], weights[0]  # row 0 is the frontal view
    else:
        faces, weights = faces.reshape(-1), weights.reshape(-1, 3)
        name = {68: "all", 51: "inner"}.get(len(faces), "")
    if not name or len(weights) != len(faces):
        raise BadModel(f"{file} has {len(faces)} triangles and {len(weights)} weights; expected 68, 51, or 79 × 17")
    faces, weights = faces.astype(np.int64), weights.astype(np.float32)
    if faces.min() < 0 or faces.max() >= n_faces:
        raise BadModel(f"{file} names face {faces.max()}, but the model has {n_faces}: they do not belong together")
    if not np.allclose(weights.sum(1), 1, atol=1e-3):
        raise BadModel(f"{file}: barycentric weights sum to {weights.sum(1).min():.4f}, not to 1")
    return name, (faces, weights / weights.sum(1, keepdims=True))
