"""What can be evaluated: a system takes the photos of a `Case` and gives an `Answer`.

`load("default")` is our pipeline, `load("mean")` the baseline every system has to beat, the path of an exported `.onnx`
any other network, and a folder the meshes that somebody else's system wrote. A system works in two halves: `measure`
looks at the photos (slow; its arrays are what `sameface evaluate` keeps on disk) and `answer` makes of them what a
benchmark compares (quick).

What `measure` gives, as far as the system says it (N photos that could be used):

    identity (S,), expression (N, E)          coefficients of our morphable model
    rotation (N, 3, 3), translation (N, 3), zoom (N,), center (N, 2)     cameras in photo px; center NaN: weak;
                                              an answer's rotation is the head's against the line of sight
    landmarks (N, 68, 3)                      photo px, where they are not those of the morphable model
    code/<name> (N, D)                        vectors to compare people by
    neutral, faces, neutral_landmarks         a mesh, where it is not one of our morphable model
    left_out (K, 3)                           photo, kind of problem, message: the photos that could not be used
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, fields
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from sameface.core.camera import Perspective, WeakPerspective
from sameface.core.files import sha256
from sameface.evaluation import networks
from sameface.evaluation.case import Answer, Case, pose
from sameface.evaluation.case_photos import look_at_all, text_of
from sameface.evaluation.predictions import predicted
from sameface.morphable import default
from sameface.morphable.points import points68
from sameface.photo import detect
from sameface.photo.observe import points_of
from sameface.photo.predictor import load as load_network
from sameface.reconstruction.cameras import fit_cameras
from sameface.reconstruction.reconstruct import join

__all__ = ["ANSWERS", "Measured", "System", "answer", "load"]

Measured = dict[str, np.ndarray]
"""what a system measured in the photos of a case, by the names above"""

ANSWERS = tuple(field.name for field in fields(Answer))
"""everything that an answer can hold"""
NAMES = ("default", "mean")
"""what is no path"""
CODE = (
    "photo/observe", "photo/eyes", "reconstruction/agreement", "reconstruction/fit", "reconstruction/cameras",
    "reconstruction/reconstruct", "photo/detect", "photo/predictor", "photo/image", "photo/decode", "photo/lens",
    "photo/turned", "photo/clip", "photo/views", "core/camera", "core/geometry", "evaluation/systems",
    "evaluation/case", "evaluation/case_photos", "evaluation/networks", "morphable/points",
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
    if name in NAMES:
        measure = _mean if name == "mean" else partial(_pipeline, "default")
        return System(name, _fingerprint("default"), measure)
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
        measure = partial(networks.measure, network, networks.speaks_of_our_model(network))
    return System(Path(name).stem, _fingerprint(name), measure)


def answer(measured: Measured, asked: Collection[str] = ANSWERS) -> Answer:
    """The fields of an answer that are asked for and follow from what was measured; meshes are made here."""
    model, parts = default(), {}
    parts["codes"] = {key.partition("/")[2]: values for key, values in measured.items() if key.startswith("code/")}
    parts |= {name: measured[name] for name in ANSWERS if name in measured}
    if "rotation" in measured:
        parts["rotation"] = pose(measured)
    if "zoom" in measured:
        expression = measured["expression"]
        identity = np.repeat(measured["identity"][None], len(expression), axis=0)
        if "landmarks" in asked and "landmarks" not in parts:
            parts["landmarks"] = _in_photo(points68()(identity, expression), measured)
        if "vertices" in asked:
            parts["vertices"] = _in_photo(model.vertices(identity, expression), measured).astype(np.float32)
    if "identity" in measured:
        parts["neutral"], parts["faces"] = model.vertices(measured["identity"]), model.faces
        parts["neutral_landmarks"] = model.landmarks(parts["neutral"])
    return Answer(**{name: value for name, value in parts.items() if name in asked})


# ── our pipeline and the mean face ─────────────────────────────────────────────────────────────────────────


def _pipeline(predictor: str, case: Case) -> Measured:
    """All photos of a case together, as `sameface.reconstruct` does."""
    seen, problems = look_at_all(case, load_network(predictor))
    found = join(seen, predictor=predictor, problems=tuple(problems))
    measured = {
        "identity": found.identity,
        "expression": np.stack([view.expression for view in found.views]),
        "code/identity": np.stack([view.identity_alone for view in found.views]),
        **_cameras([view.camera for view in found.views]),
        "left_out": text_of(found.dropped),
    }
    if len(case.photos) > 1:
        measured["code/identity_joint"] = np.repeat(found.identity[None], len(found.views), axis=0)
    return measured


def _mean(case: Case) -> Measured:
    """The mean face without expression, placed where the default network saw the points of a face."""
    network = load_network("default")
    seen, problems = look_at_all(case, network)
    points, model, n = points_of(network), default(), len(seen)
    nobody, still = np.zeros((n, model.n_identity)), np.zeros((n, model.n_expression))
    rough = WeakPerspective(
        rotation=np.stack([one.camera.rotation for one in seen]),
        translation=np.stack([one.camera.translation for one in seen]),
        scale=np.array([float(one.camera.scale) for one in seen]),
        size=seen[0].size,
    )
    landmarks, sigma = (np.stack([getattr(one, name) for one in seen]) for name in ("landmarks", "sigma"))
    camera = fit_cameras(points(nobody, still), landmarks, sigma, rough)
    cameras = [camera[k] for k in range(n)]
    return {"identity": nobody[0], "expression": still, **_cameras(cameras), "left_out": text_of(problems)}


# ── cameras and points ─────────────────────────────────────────────────────────────────────────────────────


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


# ── names ──────────────────────────────────────────────────────────────────────────────────────────────────


def _fingerprint(name: str) -> str:
    """sha256 of everything that decides a measurement: the network, ours beside it, the model and the code."""
    return f"{_ours()} {load_network(name).sha256}"


@cache
def _ours() -> str:
    """sha256 of what is ours, read once: code that changes meanwhile is not the code that runs."""
    here = Path(__file__).parent.parent
    files = [here / f"{module}.py" for module in CODE] + [detect.NETWORK, here / "assets" / "face_model.npz"]
    files += [load_network(name).path for name in ("default", "identity", "eyes")]
    return sha256(*files)
