"""What can be evaluated: a system takes the photos of a `Case` and gives an `Answer`.

`load("default")` is our pipeline, `load("mean")` the baseline every system has to beat, the path of an exported `.onnx`
any other network, and a folder the meshes that somebody else's system wrote. A system works in two halves: `measure`
looks at the photos (slow; its arrays are what `sameface evaluate` keeps on disk) and `answer` makes of them what a
benchmark compares (quick).

What `measure` gives, as far as the system says it (N photos that could be used):

    identity (S,), expression (N, E)          coefficients of our morphable model
    rotation (N, 3, 3), translation (N, 3), zoom (N,), center (N, 2)     cameras in photo px; center NaN: weak
    landmarks (N, 68, 3)                      photo px, where they are not those of the morphable model
    code/<name> (N, D)                        vectors to compare people by
    neutral, faces, neutral_landmarks         a mesh, where it is not one of our morphable model
    left_out (K, 3)                           photo, kind of problem, message: the photos that could not be used
"""

import hashlib
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, fields
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from sameface import detect, errors, image
from sameface.camera import Perspective, WeakPerspective
from sameface.case import Answer, Case
from sameface.errors import AssetMissing, BadPhoto, NoFaceFound, SameFaceError
from sameface.face import Observation, Photo
from sameface.fit import Measured as Seen
from sameface.fit import Points, fit_cameras
from sameface.geometry import apply_affine, similarity_2d
from sameface.morphable import default
from sameface.observe import observe, points_of
from sameface.predictions import predicted
from sameface.predictor import FIVE, SPHEREFACE_FIVE, Predictor, affine_from_landmarks, five_of_68
from sameface.predictor import load as load_network
from sameface.reconstruction import join

__all__ = ["ANSWERS", "Measured", "System", "answer", "load"]

Measured = dict[str, np.ndarray]
"""what a system measured in the photos of a case, by the names above"""
Problem = tuple[str, str, str]
"""photo, kind, message"""

ANSWERS = tuple(field.name for field in fields(Answer))
"""everything that an answer can hold"""
WITHOUT_INNER_MOUTH_CORNERS = [k for k in range(68) if k not in (60, 64)]
"""the iBUG numbers of a set of 66 points (3DFAW)"""
MIN_SCORE = 0.6
"""of a detected face, as in `sameface.reconstruct`"""
MARGIN = 0.1
"""of its larger side, on each side of a box: a face in profile has eyes and mouth on one line"""
RULES = ("upright", "box68", "sphereface5")
"""how networks crop"""
AT_ONCE = 16
"""crops that go through a network at a time"""
DETECTOR_SIDE, DETECTOR_DOWN = 1.58, 0.14
"""3DDFA_V2's crop for a detector's box, parts of its mean side (utils/functions.py, parse_roi_box_from_bbox)"""
CODE = (
    "observe", "fit", "reconstruction", "detect", "predictor", "image", "photo_file", "camera", "geometry", "systems",
)  # fmt: skip
"""modules whose text decides what a system measures"""


@dataclass(frozen=True)
class System:
    """Something that answers cases: `system(case)`."""

    name: str
    """for tables and files"""
    fingerprint: str
    """changes when the network or the code that measures does"""
    measure: Callable[[Case], Measured]
    """the slow half; raises SameFaceError when no photo of the case can be used"""
    keep: bool = True
    """whether what it measured is worth keeping on disk"""

    def __call__(self, case: Case) -> Answer:
        """What the system says of a case."""
        return answer(self.measure(case))


def load(name: str) -> System:
    """The system called `default` or `mean`, an `.onnx` that `sameface export` wrote, or a folder of predicted meshes.

    A network that measures our model's dense points goes through our whole pipeline; of any other, the answer is what
    its outputs say. Raises AssetMissing for a file that is no such network, ValueError for an unknown name.
    """
    if name == "mean":
        return System("mean", _fingerprint("default"), _mean)
    if name == "default":
        return System("default", _fingerprint("default"), partial(_pipeline, "default"))
    if Path(name).is_dir():
        return System(Path(name).resolve().name, "", partial(predicted, Path(name)), keep=False)
    if not name.endswith(".onnx"):
        known = "default, mean, the path of an exported .onnx, or a folder of meshes"
        raise ValueError(f"there is no system {name!r}; there are: {known}")
    network = load_network(name)
    if "point_ids" in network.description:
        points_of(network)
        measure = partial(_pipeline, str(network.path))
    else:
        measure = partial(_network, network, _speaks_of_our_model(network))
    return System(Path(name).stem, _fingerprint(name), measure)


def answer(measured: Measured, asked: Collection[str] = ANSWERS) -> Answer:
    """The fields of an answer that are asked for and follow from what was measured; meshes are made here."""
    model, parts = default(), {}
    parts["codes"] = {key.partition("/")[2]: values for key, values in measured.items() if key.startswith("code/")}
    parts |= {name: measured[name] for name in ANSWERS if name in measured}
    if "zoom" in measured:
        expression = measured["expression"]
        identity = np.repeat(measured["identity"][None], len(expression), axis=0)
        if "landmarks" in asked and "landmarks" not in parts:
            parts["landmarks"] = _in_photo(_ibug()(identity, expression), measured)
        if "vertices" in asked:
            parts["vertices"] = _in_photo(model.vertices(identity, expression), measured).astype(np.float32)
    if "identity" in measured:
        parts["neutral"], parts["faces"] = model.vertices(measured["identity"]), model.faces
        parts["neutral_landmarks"] = model.landmarks(parts["neutral"])
    return Answer(**{name: value for name, value in parts.items() if name in asked})


# ── our pipeline and the mean face ─────────────────────────────────────────────────────────────────────────


def _pipeline(predictor: str, case: Case) -> Measured:
    """All photos of a case together, as `sameface.reconstruct` does."""
    seen, problems = _observed(case, load_network(predictor))
    found = join(seen, predictor=predictor, problems=tuple(problems))
    measured = {
        "identity": found.identity,
        "expression": np.stack([view.expression for view in found.views]),
        "code/identity": np.stack([view.identity_alone for view in found.views]),
        **_cameras([view.camera for view in found.views]),
        "left_out": _text(found.dropped),
    }
    if len(case.photos) > 1:
        measured["code/identity_joint"] = np.repeat(found.identity[None], len(found.views), axis=0)
    return measured


def _mean(case: Case) -> Measured:
    """The mean face without expression, placed where the default network saw the points of a face."""
    network = load_network("default")
    seen, problems = _observed(case, network)
    points, model, n = points_of(network), default(), len(seen)
    nobody, still = np.zeros((n, model.n_identity)), np.zeros((n, model.n_expression))
    rough = WeakPerspective(
        rotation=np.stack([one.camera.rotation for one in seen]),
        translation=np.stack([one.camera.translation for one in seen]),
        scale=np.array([float(one.camera.scale) for one in seen]),
        size=seen[0].size,
    )
    landmarks, sigma = (np.stack([getattr(one, name) for one in seen]) for name in ("landmarks", "sigma"))
    camera = fit_cameras(points(nobody, still), Seen(landmarks, sigma, nobody, still, rough))
    cameras = [camera[k] for k in range(n)]
    return {"identity": nobody[0], "expression": still, **_cameras(cameras), "left_out": _text(problems)}


def _observed(case: Case, network: Predictor) -> tuple[list[Observation], list[Problem]]:
    """The face that is meant in each photo, and the photos where it was not found; none at all is an error."""
    seen, problems = [], []
    for photo, place in _photos(case, problems):
        try:
            faces = observe(photo, network, min_score=MIN_SCORE)
            seen.append(_meant(faces, place, network))
        except SameFaceError as error:
            problems.append((photo.name, type(error).__name__, str(error)))
    if not seen:
        raise _first(problems)
    return seen, problems


def _photos(case: Case, problems: list[Problem]) -> Iterator[tuple[Photo, np.ndarray | None]]:
    """The photos that can be read, one at a time, with the places of their faces; of the others, `problems` tells."""
    if not case.photos or len(case.places) != len(case.photos):
        raise ValueError(f"case {case.name} has {len(case.photos)} photos and {len(case.places)} places for them")
    names = [path.name for path in case.photos]
    if len(set(names)) < len(names):
        names = [f"{k + 1}/{name}" for k, name in enumerate(names)]
    for name, path, place in zip(names, case.photos, case.places, strict=True):
        if place is not None and len(place) not in (2, 5, 68):
            raise ValueError(f"case {case.name} says where a face is by {len(place)} points; expected 68, 5 or 2")
        try:
            photo = image.read(path, name=name)
        except BadPhoto as error:
            problems.append((name, "BadPhoto", str(error)))
        else:
            yield photo, place


def _meant(faces: list[Observation], place: np.ndarray | None, network: Predictor) -> Observation:
    """The face whose box overlaps most with the place (intersection over union); without a place the largest face."""
    if place is None:
        return faces[0]
    five = [network.description["point_ids"].index(k) for k in FIVE]

    def own(face: Observation) -> np.ndarray:
        return {2: face.box.reshape(2, 2), 5: face.landmarks[five], 68: face.landmarks}[len(place)]

    shared = [_overlap(place, own(face)) for face in faces]
    best = int(np.argmax(shared))
    if not shared[best] > 0:
        count = "the only face" if len(faces) == 1 else f"none of the {len(faces)} faces"
        raise NoFaceFound(f"{count} found in {faces[0].photo} is {'not ' * (len(faces) == 1)}where the one meant is")
    return faces[best]


def _overlap(a: Float[np.ndarray, "K 2"], b: Float[np.ndarray, "L 2"]) -> float:
    """Intersection over union of the boxes around two sets of points, each widened by MARGIN."""
    (low_a, high_a), (low_b, high_b) = (_widened(points) for points in (a, b))
    both = np.clip(np.minimum(high_a, high_b) - np.maximum(low_a, low_b), 0, None).prod()
    return float(both / ((high_a - low_a).prod() + (high_b - low_b).prod() - both))


def _widened(points: Float[np.ndarray, "K 2"]) -> tuple[np.ndarray, np.ndarray]:
    low, high = points.min(0), points.max(0)
    return low - MARGIN * (high - low).max(), high + MARGIN * (high - low).max()


def _first(problems: list[Problem]) -> SameFaceError:
    _, kind, message = problems[0]
    more = f" (and {len(problems) - 1} more photos of this case could not be used)" if len(problems) > 1 else ""
    return getattr(errors, kind)(message + more)


# ── cameras and points ─────────────────────────────────────────────────────────────────────────────────────


@cache
def _ibug() -> Points:
    """Our model seen at the 68 iBUG points only."""
    model = default()
    return Points.of(model, model.landmark_faces, model.landmark_weights)


def _cameras(cameras: list[Any]) -> Measured:
    """Cameras as arrays; what a weak-perspective camera does not have is NaN."""

    def row(camera: WeakPerspective | Perspective) -> tuple[Any, ...]:
        if isinstance(camera, Perspective):
            return camera.rotation, camera.translation, np.float64(camera.focal), camera.center
        return camera.rotation, np.append(camera.translation, np.nan), np.float64(camera.scale), np.full(2, np.nan)

    rows = zip(*(row(camera) for camera in cameras), strict=True)
    names = ("rotation", "translation", "zoom", "center")
    return {name: np.stack(values) for name, values in zip(names, rows, strict=True)}


def _in_photo(points: Float[np.ndarray, "N L 3"], measured: Measured) -> Float[np.ndarray, "N L 3"]:
    """Model points (mm) in photo px; z in px of the scale at the model's origin, growing away from the viewer."""
    turned = points @ measured["rotation"].swapaxes(1, 2)
    shift, zoom, center = measured["translation"][:, None], measured["zoom"][:, None, None], measured["center"][:, None]
    weak = np.isnan(center[..., :1])
    distance = np.where(weak, 1.0, shift[..., 2:])
    nearness = zoom / np.where(weak, 1.0, turned[..., 2:] + distance)
    moved = turned[..., :2] + np.where(weak, 0.0, shift[..., :2])
    flat = nearness * moved + np.where(weak, shift[..., :2], center)
    return np.concatenate([flat, zoom / distance * turned[..., 2:]], axis=2)


# ── networks of others ─────────────────────────────────────────────────────────────────────────────────────


def _network(network: Predictor, of_our_model: bool, case: Case) -> Measured:
    """What a network says of every photo of a case, brought from its crops into the photos."""
    crops, affines, problems = [], [], []
    for photo, place in _photos(case, problems):
        try:
            affines.append(_affine(photo, place, network))
        except SameFaceError as error:
            problems.append((photo.name, type(error).__name__, str(error)))
            continue
        side = (network.size, network.size)
        crops.append(image.crop(photo.pixels, affines[-1], side, edge=_rule(network) != "box68"))
    if not crops:
        raise _first(problems)
    parts = [network(np.stack(crops[k : k + AT_ONCE])) for k in range(0, len(crops), AT_ONCE)]
    said = {name: np.concatenate([part[name] for part in parts]).astype(np.float64) for name in parts[0]}
    measured = {f"code/{name}": said[name] for name in ("identity", "embedding") if name in said}
    measured |= _placed(said, np.stack(affines), network.size)
    if of_our_model and "neutral" in said:  # its own decoder's mesh, which no coefficients of our model give
        measured["neutral"], measured["faces"] = said["neutral"].mean(0).astype(np.float32), default().faces
        measured["neutral_landmarks"] = default().landmarks(measured["neutral"])
    elif of_our_model:
        measured["identity"] = said["identity"].mean(0)
    else:
        measured.pop("zoom", None)
    return {**measured, "left_out": _text(problems)}


def _speaks_of_our_model(network: Predictor) -> bool:
    """Whether a network's identity is one of our morphable model; raises AssetMissing if it says nothing we know."""
    described, missing = network.description, {"method", "version", "crop"} - set(network.description)
    if missing:
        lacks = ", ".join(sorted(missing))
        raise AssetMissing(f"{network.path} does not say its {lacks}; make the file with `sameface export`")
    rule, crop = _rule(network), described["crop"]
    if rule not in RULES or (rule == "box68" and "factor" not in crop):
        raise AssetMissing(f"{network.path} wants crops {crop}; known are {', '.join(RULES)}, the second with a factor")
    said = network(np.zeros((1, network.size, network.size, 3), np.uint8))
    known = {"landmarks68": (68, 3), "landmarks66": (66, 3), "rotation": (3, 3), "identity": None, "embedding": None}
    useful = [name for name in said if name in known]
    wrong = [f"{name} {said[name].shape}" for name in useful if known[name] and said[name].shape[1:] != known[name]]
    if wrong or not useful:
        gives = ", ".join(f"{name} {values.shape}" for name, values in said.items())
        raise AssetMissing(f"{network.path} gives {gives}; expected some of {', '.join(known)}, points as (B, L, 3)")
    return "identity" in said and described.get("morphable") == default().name


def _rule(network: Predictor) -> str:
    return network.description["crop"].get("rule", "upright")


def _affine(photo: Photo, place: np.ndarray | None, network: Predictor) -> Float[np.ndarray, "2 3"]:
    """Photo px → crop px by the network's own rule.

    upright: the upright box of our default network's dense points. box68: the square of `factor` × the larger side of
    the 68 points' box; a detector's box (two corners) is first made the square that 3DDFA_V2 crops for √2. sphereface5:
    SphereFace's alignment of five points. Points that the case does not tell are those of our own fit.
    """
    rule, crop, size = _rule(network), network.description["crop"], network.size
    if rule == "box68" and place is not None and len(place) == 2:
        mean_side = float((place[1] - place[0]).sum()) / 2
        centre = place.mean(0) + np.array([0, DETECTOR_DOWN * mean_side])
        return _square(centre, DETECTOR_SIDE * mean_side * crop["factor"] / np.sqrt(2), size)
    if rule != "upright" and place is not None and len(place) in ((68,) if rule == "box68" else (5, 68)):
        points = place
    else:
        ours = load_network("default")
        seen = _meant(observe(photo, ours, min_score=MIN_SCORE), place, ours)
        if rule == "upright":
            five = [ours.description["point_ids"].index(k) for k in FIVE]
            return affine_from_landmarks(seen.landmarks, seen.landmarks[five], size)
        points = join([seen]).views[0].landmarks
    if rule == "sphereface5":
        return similarity_2d(five_of_68(points) if len(points) == 68 else points, SPHEREFACE_FIVE * (size / 112))
    return _square((points.min(0) + points.max(0)) / 2, crop["factor"] * float(np.ptp(points, axis=0).max()), size)


def _square(centre: Float[np.ndarray, " 2"], side: float, size: int) -> Float[np.ndarray, "2 3"]:
    """The affine that takes the upright square of `side` px around `centre` to size × size px."""
    zoom = size / side
    return np.array([[zoom, 0, size / 2 - zoom * centre[0]], [0, zoom, size / 2 - zoom * centre[1]]])


def _placed(said: Measured, affines: Float[np.ndarray, "N 2 3"], size: int) -> Measured:
    """Points, rotations and cameras of the crops as those of the photos."""
    linear = np.linalg.inv(affines[:, :, :2])
    back = np.concatenate([linear, -linear @ affines[:, :, 2:]], axis=2)
    zoom = np.sqrt(np.linalg.det(linear)) * size
    placed = {}
    for name, where in (("landmarks68", list(range(68))), ("landmarks66", WITHOUT_INNER_MOUTH_CORNERS)):
        if name in said:
            flat = apply_affine(back, (said[name][..., :2] + 0.5) * size)
            points = np.full((len(back), 68, 3), np.nan)
            points[:, where] = np.concatenate([flat, zoom[:, None, None] * said[name][..., 2:]], axis=2)
            placed["landmarks"] = points
    if "rotation" in said:
        turn = np.tile(np.eye(3), (len(back), 1, 1))
        turn[:, :2, :2] = linear * (size / zoom)[:, None, None]
        placed["rotation"] = turn @ said["rotation"]
    if {"identity", "expression", "rotation", "scale", "translation"} <= set(said):
        middle = apply_affine(back, (said["translation"][:, None] + 0.5) * size)[:, 0]
        nothing = np.full((len(back), 2), np.nan)
        placed["translation"] = np.concatenate([middle, nothing[:, :1]], axis=1)
        placed |= {"expression": said["expression"], "zoom": said["scale"] * zoom, "center": nothing}
    return placed


# ── names ──────────────────────────────────────────────────────────────────────────────────────────────────


def _text(problems: Collection[Problem]) -> np.ndarray:
    return np.array([list(one) for one in problems], dtype=str).reshape(-1, 3)


def _fingerprint(name: str) -> str:
    """sha256 of everything that decides a measurement: the network, ours beside it, the model and the code."""
    return hashlib.sha256(_ours() + load_network(name).path.read_bytes()).hexdigest()


@cache
def _ours() -> bytes:
    """sha256 of what is ours, read once: code that changes meanwhile is not the code that runs."""
    here = Path(__file__).parent
    files = [here / f"{module}.py" for module in CODE] + [detect.NETWORK, load_network("default").path]
    files.append(here / "assets" / "face_model.npz")
    return hashlib.sha256(b"".join(hashlib.sha256(file.read_bytes()).digest() for file in files)).digest()
