"""One of the two people, whatever they come from: photos, a saved result, a mesh of any network."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from sameface.core.errors import BadData
from sameface.core.files import hint, read_json, sha256
from sameface.core.npz import read_npz
from sameface.mesh.read import read_mesh
from sameface.morphable import default
from sameface.morphable.head import whole
from sameface.morphable.plausible import EYE_CENTRES, SPREADS, eye_distance, order_problem, size_problem, spread
from sameface.photo import image
from sameface.photo.face import Observation
from sameface.photo.predictor import networks_sha256
from sameface.reconstruction.choice import candidates, choose
from sameface.reconstruction.reconstruct import first_error, join, look
from sameface.reconstruction.result import RESULT_VERSION, Reconstruction

__all__ = ["Person", "Side", "read_side"]

SAVED = (".json", ".npz", ".obj", ".ply", ".wrl")
"""a file with one of these endings is a saved result or a mesh; any other is a photo"""
LARGEST_RESULT = 1 << 28
"""bytes of the largest result.json or .npz that is read"""
FARTHEST_APART = 1e3
"""mm; no two photos' shapes are so far apart"""

Person = str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | Reconstruction


@dataclass(frozen=True)
class Side:
    """One of the two, whatever it came from."""

    name: str
    vertices: Float[np.ndarray, "V 3"]
    photos: int | None = None
    disagreement: float | None = None
    predictor: str | None = None
    """name@version, where that is known"""
    sha256: str | None = None
    """of the networks, where they ran here"""
    identity: Float[np.ndarray, " S"] | None = None
    """σ, where it is known"""
    seen: tuple[Observation, ...] = ()
    """what was seen in its photos, where they were looked at here"""
    files: Mapping[str, str] = field(default_factory=dict)
    """digest → name of everything that was read"""
    dropped: tuple[tuple[str, str, str], ...] = ()
    notes: tuple[str, ...] = ()
    again: "Callable[[np.ndarray], Side] | None" = None
    """where it is not clear which face of a lone photo is meant: the side, given the identity of the other one"""


_digest = cache(sha256)


def read_side(given: Person, predictor: str, min_score: float) -> Side:
    """Reconstruct or read one side. Raises BadPhoto, NoFaceFound, BadData."""
    if isinstance(given, Reconstruction):
        return _reconstructed("the reconstruction", given, {}, None)
    if not isinstance(given, str | os.PathLike):
        several = list(image.one_by_one(given))
        if not all(isinstance(one, str | os.PathLike) for one in several):
            raise TypeError("verify takes paths; photos in memory are reconstructed before: verify(reconstruct(a), b)")
        return _photos(several, predictor, min_score)
    path = Path(given)
    if (path / "result.json").is_file():
        path = path / "result.json"
    if path.suffix.lower() in SAVED and not path.is_dir():
        return _saved(path)
    return _photos([given], predictor, min_score)


def _photos(given: Sequence[str | os.PathLike[str]], predictor: str, min_score: float) -> Side:
    paths = image.gather(given)
    looked = look(paths, predictor=predictor, min_score=min_score)
    found = [candidates(faces) for faces in looked.faces]
    if not found:
        raise first_error(looked.problems)
    others = tuple(f"not looked at: {told}" for told in map(image.left_out, given) if told)

    def taken(like: np.ndarray | None = None) -> Side:
        answer = join(choose(found, like), predictor=predictor, problems=looked.problems)
        side = _of_photos(paths, answer, predictor)
        return replace(side, notes=side.notes + others)

    return replace(taken(), again=taken) if len(found) == 1 and len(found[0]) > 1 else taken()


def _of_photos(paths: Sequence[Path], answer: Reconstruction, predictor: str) -> Side:
    used = {view.seen.photo for view in answer.views}
    files = {_digest(path.resolve()): str(path) for path in paths if str(path) in used}
    name = str(paths[0]) if len(paths) == 1 else f"the person in {paths[0]} …"
    return _reconstructed(name, answer, files, networks_sha256(predictor))


def _reconstructed(name: str, answer: Reconstruction, files: Mapping[str, str], sha256: str | None) -> Side:
    """In mm of an average head, whatever scale was asked for: that is what the calibration measured."""
    apart = answer.disagreement if len(answer.views) > 1 else None
    vertices = answer.model.vertices(answer.identity)
    seen = tuple(view.seen for view in answer.views)
    about = answer.predictor, sha256, answer.identity, seen, files, answer.dropped, answer.notes
    return Side(name, vertices, len(answer.views), apart, *about)


def _saved(path: Path) -> Side:
    if not path.exists():
        wanted = "give a photo, a folder of photos, a result.json, an .npz or a mesh"
        raise BadData(f"there is no file {path}{hint(str(path))}; {wanted}")
    readers = {".json": _result_json, ".npz": _arrays}
    if path.suffix.lower() not in readers:
        side = Side(str(path), _face(path, read_mesh(path).vertices.astype(np.float64)))
    else:
        side = readers[path.suffix.lower()](path)
    return replace(side, files={_digest(path.resolve()): str(path)})


def _result_json(path: Path) -> Side:
    told = read_json(path, LARGEST_RESULT)
    try:
        if told["format"] != "sameface-result" or told["version"] != RESULT_VERSION:
            raise KeyError("format")
        identity, views = np.array(told["identity"], np.float64), told["views"]
        apart, made_by, model = told["disagreement_mm"], told["predictor"], told["model"]
        if not (isinstance(views, list) and views and isinstance(made_by, str) and isinstance(model, str)):
            raise TypeError("views, predictor, model")
        photos, apart = len(views), None if apart is None else _distance(apart)
    except (ValueError, KeyError, TypeError, OverflowError):
        raise BadData(f"{path} is no result.json (version {RESULT_VERSION}) of `sameface reconstruct`") from None
    if model != default().name:
        raise BadData(f"{path} belongs to the model {model!r}, but this package ships {default().name!r}: make it anew")
    return Side(str(path), _neutral(path, identity), photos, apart, made_by, identity=identity)


def _distance(apart: Any) -> float:
    """mm between photos' shapes. Raises ValueError, TypeError for what cannot be that."""
    if not 0 <= float(apart) < FARTHEST_APART:
        raise ValueError(f"{apart} mm apart")
    return float(apart)


def _arrays(path: Path) -> Side:
    """An .npz: ours (its identity is taken, so that it is neutral whatever was saved), or any with `vertices`."""
    kept = read_npz(path, LARGEST_RESULT, only=("vertices", "identity", "disagreement"))
    if "identity" in kept and "disagreement" in kept:
        apart = kept["disagreement"]
        if apart.ndim != 1 or not len(apart) or apart.dtype.kind != "f" or not (apart < FARTHEST_APART).all():
            raise BadData(f"{path} has a disagreement that is not one number of mm for each photo")
        middle = float(np.median(apart)) if len(apart) > 1 else None
        return Side(str(path), _neutral(path, kept["identity"]), len(apart), middle, _predictor_beside(path))
    vertices = kept.get("vertices", np.zeros(0))
    if vertices.ndim != 2 or vertices.shape[1] != 3 or len(vertices) < 3 or vertices.dtype.kind != "f":
        raise BadData(f"{path} holds no array `vertices` of shape (V, 3), mm; put the neutral mesh there")
    if not np.isfinite(vertices).all():
        raise BadData(f"{path} has vertices that are not finite numbers")
    return Side(str(path), _face(path, vertices.astype(np.float64)))


def _face(path: Path, vertices: Float[np.ndarray, "V 3"]) -> Float[np.ndarray, "W 3"]:
    """The same vertices, if they can be a face in millimetres; else every distance would mean something else. Of one of
    our whole heads only the model's vertices, which are its first."""
    model, problem = default(), ""
    if len(vertices) == whole(model).n_vertices:
        vertices = vertices[: model.n_vertices]
    if len(vertices) == model.n_vertices:
        usual, points = eye_distance(model.landmarks(model.mean)), model.landmarks(vertices)
        problem = size_problem(eye_distance(points) / usual, EYE_CENTRES[0] / usual, EYE_CENTRES[1] / usual)
        problem = problem or order_problem(points)
    else:
        problem = size_problem(spread(vertices) / spread(model.mean), *SPREADS)
    if problem:
        raise BadData(f"{path} {problem}. Save it in millimetres")
    return vertices


def _neutral(path: Path, identity: np.ndarray) -> np.ndarray:
    if identity.shape != (default().n_identity,) or identity.dtype.kind != "f" or not np.isfinite(identity).all():
        raise BadData(f"{path} has an identity that is not {default().n_identity} finite numbers")
    return default().vertices(identity)


def _predictor_beside(path: Path) -> str | None:
    """face.npz does not say what made it, the result.json that is written with it does."""
    beside = path.with_name("result.json")
    return _result_json(beside).predictor if beside.is_file() else None
