"""The way between our face and another morphable model's: which point of the one is which point of the other.

The mean faces are laid on each other by their landmarks (a rigid motion: sizes are those of people), ours becomes the
person whose inner landmarks are the other's (`scan_fit`), and its skin is bent onto the other's (`register`). Where a
vertex of ours then lies is its place on the other mesh, a triangle and barycentric weights; where a vertex of the other
lies on our bent skin is its place on ours. Which modes a model has does not matter for that, so what is kept of it
holds for every export of one mesh.

Nothing says that two databases mean the same by a point of a cheek: places are right along the normal to a fraction of
a millimetre (`Bridge.quality`), and along the surface as well as landmarks and shape tell, some millimetres.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from sameface.core.arrays import Record
from sameface.core.errors import BadData, BadModel, BadOutput
from sameface.core.files import written
from sameface.core.geometry import align, barycentric, barycentric_weights, vertex_normals
from sameface.core.npz import read_npz
from sameface.mesh.read import Mesh
from sameface.metrics.alignment import Similarity, Surface
from sameface.morphable import MorphableModel, default
from sameface.morphable.formats import open_model
from sameface.morphable.register import FEWEST_POINTS, Landmarks, Options, register
from sameface.morphable.scan_fit import fit_landmarks

__all__ = ["Bridge", "Places", "Quality", "between", "bridge", "carrying"]

VERSION = 1
LARGEST_BRIDGE = 50_000_000
JAW = 17
"""of the 68 landmarks, the first"""
FARTHEST, FACING = 3.0, 0.5
"""mm from a vertex to its place, and the least cosine between the normals there, for a place that counts"""
WEIGHTS = {"skin": 0.3, "neck": 0.1, "ears": 0.2, "face": 1.0}
"""how much the vertices of our regions count, later ones over earlier: heads end and ears fold differently"""
BENDING = Options(stiffness=(20.0, 5.0, 1.2, 0.4), rounds=2)
"""half the work of what scans get, for mean faces are smooth and whole, and start near each other"""
REGIONS = ("face", "eyes", "nose", "mouth", "forehead", "ears", "neck", "skin")
"""of ours that `Bridge.quality` tells of"""


class Places(NamedTuple):
    """Where each of N points lies on a mesh."""

    corners: Int[np.ndarray, "N 3"]
    """vertices of the mesh"""
    weights: Float[np.ndarray, "N 3"]
    """barycentric"""
    trust: Float[np.ndarray, " N"]
    """0 where there is no place, up to 1"""

    def on(self, vertices: Float[np.ndarray, "*b V 3"]) -> Float[np.ndarray, "*b N 3"]:
        """The points on a mesh of this topology."""
        return barycentric(vertices, self.corners, self.weights)


class Quality(NamedTuple):
    """How well the two mean faces met in a region of ours."""

    linked: float
    """part of the region's vertices that have a place on the other mesh"""
    mean: float
    """mm between our bent skin and the other's, over the linked vertices"""
    p95: float
    back: float
    """mm, mean: from a vertex there and back again"""


@dataclass(frozen=True, eq=False, repr=False)
class Bridge(Record):
    """Our topology and another's, joined."""

    target: MorphableModel
    pose: Similarity
    """takes the target's mean (mm, its own frame) to ours"""
    bent: Float[np.ndarray, "V 3"]
    """our mesh on the target's mean, in our frame, mm; what is not skin moved as the whole did"""
    there: Places
    """our vertices on the target"""
    back: Places
    """the target's vertices on ours"""
    fresh: bool = True
    """False where it was found beside the model's file"""

    @cached_property
    def quality(self) -> dict[str, Quality]:
        """For our regions, and for the landmarks, "jaw line" and "inner points", by where each model says they are."""
        ours, answer = default(), {}
        mesh = self.pose.apply(self.target.mean.astype(np.float64))
        apart = np.linalg.norm(self.there.on(mesh) - self.bent, axis=1)
        closed = self._closed(ours)
        for name in REGIONS:
            where = ours.regions[name] & (self.there.trust > 0)
            if where.any():
                linked = float(where.sum() / ours.regions[name].sum())
                gone = closed[where & np.isfinite(closed)]
                mean = float(gone.mean()) if len(gone) else float("nan")
                answer[name] = Quality(linked, float(apart[where].mean()), float(np.percentile(apart[where], 95)), mean)
        theirs = self.pose.apply(self.target.landmarks(self.target.mean).astype(np.float64))
        miss = np.linalg.norm(ours.landmarks(self.bent.astype(np.float64)) - theirs, axis=1)
        for name, some in (("inner points", miss[17:]), ("jaw line", miss[:17])):
            answer[name] = Quality(1.0, float(some.mean()), float(np.percentile(some, 95)), float("nan"))
        return answer

    def _closed(self, ours: MorphableModel) -> Float[np.ndarray, " V"]:
        """mm from each of our vertices to where the corners of its place lie on our mesh; NaN where one has none."""
        trusted = (self.back.trust[self.there.corners] > 0).all(1) & (self.there.trust > 0)
        found = (self.back.on(self.bent)[self.there.corners] * self.there.weights[..., None]).sum(1)
        return np.where(trusted, np.linalg.norm(found - self.bent, axis=1), np.nan)


def bridge(path: Path, *, progress: Callable[[str], Any] | None = None) -> Bridge:
    """The bridge to the model in a file or folder (`formats.open_model`), kept beside it under the name of its content.

    Where nothing can be written beside the model it is computed again every time, and `progress` is told. Raises
    BadModel for models that cannot be joined with ours.
    """
    path = Path(path).expanduser()
    target = open_model(path)
    kept = path.resolve().with_name(f"{path.resolve().name}.bridge-{_digest(target)}.npz")
    if kept.is_file():
        try:
            return _read(kept, target)
        except BadModel as error:
            if progress is not None:
                progress(f"{error}; it is computed again")
    made = between(target, name=str(path))
    try:
        _write(made, kept)
    except BadOutput as error:
        if progress is not None:
            progress(f"the bridge is not kept, and will be computed again next time: {error}")
    return made


def between(target: MorphableModel, *, name: str = "the model") -> Bridge:
    """The bridge to a model, computed. Raises BadModel, with `name`, for what is no surface or does not meet ours."""
    ours = default()
    skin = carrying(target)
    if target.n_vertices < FEWEST_POINTS:
        raise BadModel(f"{name} has {target.n_vertices} vertices: points, not a surface that ours could be joined with")
    _, rotation, shift = align(target.landmarks(target.mean), ours.landmarks(ours.mean), scale=False)
    pose = Similarity(1.0, rotation.astype(np.float64), shift.astype(np.float64))
    mesh = pose.apply(target.mean.astype(np.float64))
    kept = np.flatnonzero(ours.regions["skin"])
    number = np.full(ours.n_vertices, -1)
    number[kept] = np.arange(len(kept))
    faces = number[ours.faces]
    faces = faces[(faces >= 0).all(1)].astype(np.int64)
    known = _known(ours, number, target, mesh)
    inner = np.full((68, 3), np.nan)
    inner[JAW:] = known.points[: 68 - JAW]
    start = ours.vertices(fit_landmarks(ours, inner, scale=False).identity)
    try:
        laid = register(start[kept], faces, Mesh(mesh, skin), landmarks=known, options=BENDING, name=name)
    except BadData as error:
        raise BadModel(f"{error}; it cannot be joined with our face") from None
    bent = start.astype(np.float64)
    bent[kept] = laid.vertices
    there = _places(bent, kept, vertex_normals(laid.vertices, faces), mesh, skin)
    there = there._replace(trust=(there.trust * _weights(ours)).astype(np.float32))
    back = _places(mesh, np.unique(skin), vertex_normals(mesh, skin)[np.unique(skin)], bent, kept[faces])
    return Bridge(target, pose, bent.astype(np.float32), there, back)


def carrying(model: MorphableModel) -> Int[np.ndarray, "F 3"]:
    """The faces of the parts that carry landmarks: skin, without eyeballs, teeth and lashes."""
    from scipy import sparse
    from scipy.sparse.csgraph import connected_components

    edges = model.faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    count = model.n_vertices
    graph = sparse.coo_matrix((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), (count, count))
    _, part = connected_components(graph, directed=False)
    skin = np.unique(part[model.faces[model.landmark_faces]])
    return model.faces[np.isin(part[model.faces[:, 0]], skin)].astype(np.int64)


# ── inside ─────────────────────────────────────────────────────────────────────────────────────────────────


def _known(ours: MorphableModel, number: np.ndarray, target: MorphableModel, mesh: np.ndarray) -> Landmarks:
    """The inner points on both, and those of MediaPipe that the target knows; `number` counts our skin's vertices.

    The jaw line is left out: everybody means another one, a centimetre apart.
    """
    faces, weights = ours.landmark_faces[JAW:], ours.landmark_weights[JAW:]
    there, shares = target.landmark_faces[JAW:], target.landmark_weights[JAW:]
    if "mediapipe_ids" in target.extra:
        dense = target.extra["mediapipe_ids"]
        on_skin = (number[ours.faces[ours.extra["mediapipe_faces"][dense]]] >= 0).all(1)
        faces = np.append(faces, ours.extra["mediapipe_faces"][dense[on_skin]])
        weights = np.append(weights, ours.extra["mediapipe_weights"][dense[on_skin]], axis=0)
        there = np.append(there, target.extra["mediapipe_faces"][on_skin])
        shares = np.append(shares, target.extra["mediapipe_weights"][on_skin], axis=0)
    aims = barycentric(mesh, target.faces[there], shares.astype(np.float64))
    return Landmarks(number[ours.faces[faces]], weights.astype(np.float64), aims)


def _weights(ours: MorphableModel) -> Float[np.ndarray, " V"]:
    weights = np.zeros(ours.n_vertices, np.float32)
    for name, weight in WEIGHTS.items():
        weights[ours.regions[name]] = weight
    return weights


def _places(points: np.ndarray, which: np.ndarray, normals: np.ndarray, mesh: np.ndarray, faces: np.ndarray) -> Places:
    """The places of `points[which]`, that have such normals, on a mesh; other points have none."""
    surface = Surface(mesh, faces)
    found = surface.closest(points[which])
    near = found.distances < FARTHEST
    facing = (normals * surface.normals[found.triangles]).sum(1) > FACING
    corners, trust = np.zeros((len(points), 3), np.int64), np.zeros(len(points), np.float32)
    weights = np.tile(np.array([1, 0, 0], np.float32), (len(points), 1))
    corners[which] = faces[found.triangles]
    weights[which] = barycentric_weights(found.points, mesh[faces[found.triangles]])
    trust[which] = near & facing & ~surface.on_rim(found)
    return Places(corners, weights, trust)


# ── kept beside the model ──────────────────────────────────────────────────────────────────────────────────


def _digest(target: MorphableModel) -> str:
    """Of all that a bridge depends on."""
    told = hashlib.sha256(f"{VERSION} {FARTHEST} {FACING} {WEIGHTS} {BENDING}".encode())
    for model in (default(), target):
        for array in (model.mean, model.faces, model.landmark_faces, model.landmark_weights):
            told.update(np.ascontiguousarray(array, np.float64).tobytes())
    return told.hexdigest()[:16]


def _write(made: Bridge, path: Path) -> None:
    arrays = {
        "header": np.frombuffer(json.dumps({"format": "sameface-bridge", "version": VERSION}).encode(), np.uint8),
        "rotation": made.pose.rotation, "translation": made.pose.translation, "bent": made.bent,
    }  # fmt: skip
    for name, places in (("there", made.there), ("back", made.back)):
        arrays |= {f"{name}_corners": places.corners.astype(np.int32), f"{name}_weights": places.weights}
        arrays[f"{name}_trust"] = places.trust
    with written(path) as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def _read(path: Path, target: MorphableModel) -> Bridge:
    """Raises BadModel for a file that was changed or cut."""
    arrays, ours = read_npz(path, LARGEST_BRIDGE, error=BadModel), default()
    places = {}
    for name, count, among in (
        ("there", ours.n_vertices, target.n_vertices),
        ("back", target.n_vertices, ours.n_vertices),
    ):
        corners, weights, trust = (
            arrays.get(f"{name}_{what}", np.zeros(0)) for what in ("corners", "weights", "trust")
        )
        shapes = corners.shape == weights.shape == (count, 3) and trust.shape == (count,)
        kinds = corners.dtype.kind == "i" and weights.dtype.kind == trust.dtype.kind == "f"
        if not (shapes and kinds and 0 <= corners.min() <= corners.max() < among):
            raise BadModel(f"{path} is not the bridge to {target.name}")
        places[name] = Places(corners.astype(np.int64), weights.astype(np.float32), trust.astype(np.float32))
    floats = [arrays.get(name, np.zeros(0)) for name in ("rotation", "translation", "bent")]
    whole = [array.shape for array in floats] == [(3, 3), (3,), ours.mean.shape]
    if not whole or not all(array.dtype.kind == "f" and np.isfinite(array).all() for array in floats):
        raise BadModel(f"{path} is not the bridge to {target.name}")
    pose = Similarity(1.0, floats[0].astype(np.float64), floats[1].astype(np.float64))
    return replace(Bridge(target, pose, floats[2].astype(np.float32), places["there"], places["back"]), fresh=False)
