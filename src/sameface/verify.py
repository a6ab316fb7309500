"""Two people → the same person or not, by the shape of their faces, in millimetres.

Each side is a photo, several photos or a folder of photos (reconstructed as ONE person), a saved result, or a mesh of
any network. The distance d is the RMS over the face between the two neutral meshes after the best rigid motion. With
n_A and n_B photos (at most 16 count) and u = ln(1/n_A + 1/n_B), the probability that it is one person is

    1 / (1 + exp(-(w_0 + w_1 ln d + w_2 u + w_3 u ln d + w_4 u²))),

fitted by logistic regression on people of the val split (tools/calibrate_verification.py), same and different being
equally likely beforehand. It belongs to the networks that ship, so others get a distance and no probability. From one
photo it is often wrong: docs/verify.md has the numbers. Nobody should be identified by it.
"""

import hashlib
import json
import math
import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from sameface import image
from sameface.errors import BadData
from sameface.geometry import align
from sameface.mesh_io import write_file
from sameface.mesh_read import read_mesh
from sameface.metrics.verification import mesh_distance
from sameface.morphable import default
from sameface.predictor import networks_sha256
from sameface.reconstruction import reconstruct, shape_distance
from sameface.result import RESULT_VERSION, Reconstruction

__all__ = ["FARS", "Verdict", "features", "limit", "probability", "verify"]

FARS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5)
"""false accept rates at which the limits were measured; between them they are interpolated"""
SAVED = (".json", ".npz", ".obj", ".ply", ".wrl")
"""a file with one of these endings is a saved result or a mesh; any other is a photo"""
NEAREST = 0.05
"""mm; whatever is nearer counts as this, since the logarithm of nothing is none"""
LARGEST_RESULT = 1 << 28
"""bytes of the largest result.json or .npz that is read"""

Person = str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | Reconstruction


@dataclass(frozen=True)
class Verdict:
    """What the shapes of two faces say."""

    distance_mm: float
    """RMS over the face after the best rigid motion, mm of an average head; over all vertices for foreign meshes"""
    vertex_distance_mm: float
    """mean distance of corresponding vertices, nothing aligned (Liu et al. 2018): for meshes in one frame"""
    probability: float | None
    """that it is one person, if that is as likely as not beforehand; None without a calibration"""
    same: bool | None
    """True or False at the error rate `far`; None where the shapes cannot say"""
    far: float
    """at most about this part of different people is called same, and of same ones different"""
    photos: tuple[int | None, int | None]
    """that counted on each side; None: unknown"""
    disagreement: tuple[float | None, float | None]
    """mm, median over each side's photos; None for a single photo"""
    calibration: str | None
    """its name; None if none belongs to this network"""
    dropped: tuple[tuple[str, str, str], ...] = ()
    """(photo, kind of problem, message) of photos that did not count"""
    notes: tuple[str, ...] = ()

    @property
    def word(self) -> str:
        """same, different or unsure."""
        return {True: "same", False: "different", None: "unsure"}[self.same]

    def as_text(self) -> str:
        """The verdict for a terminal, warnings included."""
        counts = " and ".join("?" if n is None else str(n) for n in self.photos)
        apart = [f"{x:.2f} mm" if x is not None else "–" for x in self.disagreement]
        chance = "unknown" if self.probability is None else _percent(self.probability)
        lines = [
            f"{self.word} (at an error rate of {100 * self.far:g} %)",
            f"  distance       {self.distance_mm:.2f} mm RMS over the face after the best rigid motion",
            f"  vertices       {self.vertex_distance_mm:.2f} mm mean distance, nothing aligned",
            f"  probability    {chance} that it is one person, if that was as likely as not before",
            f"  photos         {counts}; they disagree by {' and '.join(apart)} (median)",
        ]
        return "\n".join(lines + [f"  note: {note}" for note in self.notes])

    def as_json(self) -> dict[str, Any]:
        """What the file holds; every key is explained in docs/verify.md."""
        return {
            "format": "sameface-verdict",
            "version": 1,
            "verdict": self.word,
            "distance_mm": round(self.distance_mm, 4),
            "vertex_distance_mm": round(self.vertex_distance_mm, 4),
            "probability": None if self.probability is None else round(self.probability, 4),
            "far": self.far,
            "photos": list(self.photos),
            "disagreement_mm": [None if x is None else round(x, 3) for x in self.disagreement],
            "calibration": self.calibration,
            "dropped": [{"photo": p, "problem": kind, "message": text} for p, kind, text in self.dropped],
            "notes": list(self.notes),
        }

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the verdict as .json. Raises BadOutput when it cannot be written."""
        path = Path(path)
        if path.suffix.lower() != ".json":
            raise ValueError(f"{path.name}: a verdict is saved as .json, not {path.suffix!r}")
        write_file(path, (json.dumps(self.as_json(), indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode())
        return path


def verify(a: Person, b: Person, *, far: float = 0.1, predictor: str = "default", min_score: float = 0.6) -> Verdict:
    """Do A and B show one person? Each is photos (paths), a folder of them, a saved result, a mesh or a Reconstruction.

    `same` is True if at most about `far` of the pairs of different people are so near, False if at most about `far` of
    the pairs of one person are so far apart, and None (unsure) between. The largest face of each photo counts.
    Raises BadPhoto or NoFaceFound, naming the photos, if a side has no usable photo, BadData for a broken saved result
    and for meshes of two topologies, ValueError for a `far` outside 0.01 … 0.5.
    """
    if not FARS[0] <= far <= FARS[-1]:
        raise ValueError(f"far is {far:g}; the calibration knows error rates from {FARS[0]:g} to {FARS[-1]:g}")
    sides = [_side(one, predictor, min_score) for one in (a, b)]
    first, second = sides
    if len(first.vertices) != len(second.vertices):
        raise BadData(
            f"{first.name} has {len(first.vertices)} vertices and {second.name} {len(second.vertices)}; give two "
            "meshes of one topology"
        )
    distance, notes = _distance(first.vertices, second.vertices), []
    shared = sorted(first.files.keys() & second.files.keys())
    if shared:
        names = ", ".join(first.files[key] for key in shared[:3])
        notes.append(f"{names} is on both sides: of course that is alike; give other photos on one side")
    known, why = _calibration(), _uncalibrated(sides)
    chance = same = None
    if why:
        notes.append(f"no probability: {why}")
    else:
        counts = [side.photos or 1 for side in sides]
        chance = probability(distance, counts[0], counts[1], known)
        same = _decided(distance, counts, chance, far, known)
        notes.append(_warning(counts, known))
    return Verdict(
        distance_mm=distance,
        vertex_distance_mm=mesh_distance(first.vertices, second.vertices),
        probability=chance,
        same=same,
        far=far,
        photos=(first.photos, second.photos),
        disagreement=(first.disagreement, second.disagreement),
        calibration=None if why else known["name"],
        dropped=first.dropped + second.dropped,
        notes=tuple(dict.fromkeys([*notes, *first.notes, *second.notes])),
    )


def features(distance_mm: Any, n_a: Any, n_b: Any, most: int = 16) -> Float[np.ndarray, "*p 5"]:
    """(1, ln d, u, u ln d, u²), u = ln(1/n_A + 1/n_B), d at least 0.05 mm, counts at most `most`; numbers or arrays.

    >>> features(1.0, 1, 1).round(3).tolist()
    [1.0, 0.0, 0.693, 0.0, 0.48]
    """
    d, n_a, n_b = np.broadcast_arrays(np.log(np.maximum(distance_mm, NEAREST)), n_a, n_b)
    u = np.log(1 / np.minimum(n_a, most) + 1 / np.minimum(n_b, most))
    return np.stack([np.ones_like(d), d, u, u * d, u * u], axis=-1)


def probability(distance_mm: float, n_a: int, n_b: int, calibration: Mapping[str, Any] | None = None) -> float:
    """1 / (1 + exp(-w · features)): that two shapes are one person's, if that is as likely as not beforehand.

    Raises ValueError for a distance that is negative or not finite, and for fewer than one photo.
    """
    if not (math.isfinite(distance_mm) and distance_mm >= 0):
        raise ValueError(f"a distance is a finite number of at least 0 mm, not {distance_mm:g}")
    if min(n_a, n_b) < 1:
        raise ValueError(f"each side needs at least one photo, but they have {n_a} and {n_b}")
    known = calibration or _calibration()
    score = features(distance_mm, n_a, n_b, known["most_photos"]) @ np.array(known["coefficients"])
    return float(1 / (1 + np.exp(-score)))


def limit(kind: str, rate: float, n_a: int, n_b: int, calibration: Mapping[str, Any] | None = None) -> float:
    """mm: `rate` of different people are nearer ("accept"), or of same ones farther ("reject"): exp(a + b u).

    a and b are interpolated over ln(rate) between the rates in FARS.
    """
    known = calibration or _calibration()
    u = features(1.0, n_a, n_b, known["most_photos"])[2]
    logs = [line[0] + line[1] * u for line in known[kind]]
    return float(np.exp(np.interp(np.log(rate), np.log(FARS), logs)))


# ── inside ─────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class _Side:
    """One of the two, whatever it came from."""

    name: str
    vertices: Float[np.ndarray, "V 3"]
    photos: int | None = None
    disagreement: float | None = None
    predictor: str | None = None
    """name@version, where that is known"""
    sha256: str | None = None
    """of the networks, where they ran here"""
    files: Mapping[str, str] = field(default_factory=dict)
    """digest → name of everything that was read"""
    dropped: tuple[tuple[str, str, str], ...] = ()
    notes: tuple[str, ...] = ()


@cache
def _calibration() -> dict[str, Any]:
    return json.loads((Path(__file__).parent / "assets" / "verification.json").read_text())


@cache
def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _distance(first: np.ndarray, second: np.ndarray) -> float:
    """mm RMS after the best rigid motion: over the face of our topology, over all vertices of another."""
    if len(first) == default().n_vertices:
        return shape_distance(first, second, default())
    first, second = first.astype(np.float64), second.astype(np.float64)
    _, rotation, shift = align(first, second, scale=False)
    return float(np.sqrt(((first @ rotation.T + shift - second) ** 2).sum(1).mean()))


def _percent(share: float) -> str:
    """For a reader: never 0 and never 100, which 38 people cannot carry."""
    return "over 99 %" if share > 0.99 else "under 1 %" if share < 0.01 else f"{100 * share:.0f} %"


def _decided(
    distance: float, counts: Sequence[int], chance: float, far: float, known: Mapping[str, Any]
) -> bool | None:
    near = distance <= limit("accept", far, counts[0], counts[1], known)
    apart = distance >= limit("reject", far, counts[0], counts[1], known)
    if near and apart:  # many photos or a high rate: the limits have crossed, and nobody is in between
        return chance >= 0.5
    return True if near else False if apart else None


def _uncalibrated(sides: Sequence[_Side]) -> str:
    """Why there is no probability for these two; empty if there is one."""
    known = _calibration()
    for side in sides:
        if side.predictor is None:
            return f"{side.name} does not say which network made it; give its photos or its result.json"
        if side.predictor != known["predictor"] or side.sha256 not in (None, known["networks_sha256"]):
            return f"{side.name} was made by {side.predictor}, and the calibration is that of our default network"
    return ""


def _warning(counts: Sequence[int], known: Mapping[str, Any]) -> str:
    usual = 2 / (1 / counts[0] + 1 / counts[1])
    size = max((int(n) for n in known["auc"] if int(n) <= usual + 1e-9), default=1)
    many = "one photo" if size == 1 else f"{size} photos"
    right = min(99, math.floor(100 * known["auc"][str(size)]))
    return (
        f"in a few people's press photos, with {many} of each, a person is nearer to themselves than somebody else is "
        f"in {right} of 100 cases (50 would be chance). Identify nobody by it"
    )


def _side(given: Person, predictor: str, min_score: float) -> _Side:
    if isinstance(given, Reconstruction):
        return _reconstructed("the reconstruction", given, {}, None)
    if not isinstance(given, str | os.PathLike):
        return _photos([Path(one) for one in given], predictor, min_score)
    path = Path(given)
    if (path / "result.json").is_file():
        path = path / "result.json"
    if path.suffix.lower() in SAVED and not path.is_dir():
        return _saved(path)
    return _photos([path], predictor, min_score)


def _photos(given: Sequence[Path], predictor: str, min_score: float) -> _Side:
    paths = image.gather(given)
    answer = reconstruct(*paths, predictor=predictor, min_score=min_score)
    used = {view.seen.photo for view in answer.views}
    files = {_digest(path.resolve()): str(path) for path in paths if str(path) in used}
    name = str(paths[0]) if len(paths) == 1 else f"the person in {paths[0]} …"
    return _reconstructed(name, answer, files, networks_sha256(predictor))


def _reconstructed(name: str, answer: Reconstruction, files: Mapping[str, str], sha256: str | None) -> _Side:
    """In mm of an average head, whatever scale was asked for: that is what the calibration measured."""
    apart = answer.disagreement if len(answer.views) > 1 else None
    vertices = answer.model.vertices(answer.identity)
    return _Side(
        name, vertices, len(answer.views), apart, answer.predictor, sha256, files, answer.dropped, answer.notes
    )


def _saved(path: Path) -> _Side:
    if not path.is_file():
        raise BadData(f"there is no file {path}; give a photo, a folder of photos, a result.json, an .npz or a mesh")
    readers = {".json": _result_json, ".npz": _arrays}
    if path.suffix.lower() not in readers:
        side = _Side(str(path), read_mesh(path).vertices.astype(np.float64))
    else:
        if path.stat().st_size > LARGEST_RESULT:
            raise BadData(
                f"{path} has {path.stat().st_size / 1e6:.0f} MB, too many for a result of `sameface reconstruct`"
            )
        side = readers[path.suffix.lower()](path)
    return replace(side, files={_digest(path.resolve()): str(path)})


def _result_json(path: Path) -> _Side:
    try:
        told = json.loads(path.read_bytes())
        if told["format"] != "sameface-result" or told["version"] != RESULT_VERSION:
            raise KeyError("format")
        identity = np.array(told["identity"], np.float64)
        photos, apart, made_by, model = len(told["views"]), told["disagreement_mm"], told["predictor"], told["model"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise BadData(f"{path} is no result.json (version {RESULT_VERSION}) of `sameface reconstruct`") from None
    if model != default().name:
        raise BadData(f"{path} belongs to the model {model!r}, but this package ships {default().name!r}: make it anew")
    return _Side(str(path), _neutral(path, identity), photos, apart, str(made_by))


def _arrays(path: Path) -> _Side:
    """An .npz: ours (its identity is taken, so that it is neutral whatever was saved), or any with `vertices`."""
    try:
        with np.load(path, allow_pickle=False) as file:
            kept = {name: np.asarray(file[name]) for name in ("vertices", "identity", "disagreement") if name in file}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, TypeError):
        raise BadData(f"{path} is no .npz of plain arrays; save it with numpy.savez") from None
    if "identity" in kept and "disagreement" in kept:
        apart = kept["disagreement"].astype(np.float64)
        middle = float(np.median(apart)) if len(apart) > 1 else None
        return _Side(str(path), _neutral(path, kept["identity"]), len(apart), middle, _predictor_beside(path))
    vertices = kept.get("vertices", np.zeros(0))
    if vertices.ndim != 2 or vertices.shape[1] != 3 or len(vertices) < 3 or vertices.dtype.kind != "f":
        raise BadData(f"{path} holds no array `vertices` of shape (V, 3), mm; put the neutral mesh there")
    if not np.isfinite(vertices).all():
        raise BadData(f"{path} has vertices that are not finite numbers")
    return _Side(str(path), vertices.astype(np.float64))


def _neutral(path: Path, identity: np.ndarray) -> np.ndarray:
    if identity.shape != (default().n_identity,) or identity.dtype.kind != "f" or not np.isfinite(identity).all():
        raise BadData(f"{path} has an identity that is not {default().n_identity} finite numbers")
    return default().vertices(identity)


def _predictor_beside(path: Path) -> str | None:
    """face.npz does not say what made it, the result.json that is written with it does."""
    beside = path.with_name("result.json")
    return _result_json(beside).predictor if beside.is_file() else None
