"""From a face in a photo to what a network says of it: the upright crop, and ONNX files that describe themselves."""

import hashlib
import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from sameface.core.errors import AssetMissing, BadPhoto, in_one_line
from sameface.core.files import hint, names_in, read_bytes, sha256
from sameface.core.geometry import similarity_2d
from sameface.core.processes import threads

__all__ = [
    "CODE", "SPHEREFACE_FIVE", "Predictor", "Second", "affine_for_sphereface", "affine_from_five_points",
    "affine_from_landmarks", "five_of_68", "load", "networks", "networks_name", "networks_sha256", "second",
]  # fmt: skip

LARGEST_NETWORK = 2_000_000_000
"""bytes; ONNX files hold no more"""
LARGEST_CROP = 4096
"""px"""
_ELSEWHERE = b"\n\x08location\x12"
"""how the place of weights in another file begins (TensorProto.external_data): no weights look like it by chance"""
ASSETS = Path(__file__).parent.parent / "assets"
CODE = 192
"""numbers of the code that identity.onnx says of a face"""
CONTEXT = 1.4
"""crop side / the larger side of the upright landmark box"""
BOX_PER_EYE_MOUTH = 2.55
"""larger side of the landmark box / distance from the eyes' to the mouth's middle, median of the face table"""
OTHER_CROPS = ("detect.onnx", "eyes.onnx")
"""packaged networks that do not look at the crop of a face"""
FIVE = (468, 473, 4, 61, 291)
"""MediaPipe's numbers of the five points: irises, nose tip, mouth corners"""
MOUTH_PER_EYES = 1.07
"""eye-mouth distance / eye distance of a frontal face, median of the face table"""
SPHEREFACE_FIVE = 0.5 + np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
"""where SphereFace's alignment puts the five points in a crop of 112 × 112 px, whose middle 96 columns are its own crop
(sphereface_pytorch, lfw_eval.py; it counts from the centre of the first pixel)"""


def _upward(five: Float[np.ndarray, "5 2"]) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Middle of the eyes, of the mouth, unit vector from chin to brow, and the eye distance (px)."""
    eyes, mouth = five[:2].mean(0), five[3:].mean(0)
    across = five[1] - five[0]
    up = eyes - mouth + np.array([across[1], -across[0]])  # in profile the eye line is short and weighs little
    length = np.linalg.norm(up)
    if not length > 0:
        raise ValueError(f"the five points coincide: {five.tolist()}")
    return eyes, mouth, up / length, float(np.linalg.norm(across))


def _square(centre: np.ndarray, up: np.ndarray, side: float, size: int) -> Float[np.ndarray, "2 3"]:
    """The affine that takes the square of `side` px around `centre`, `up` upwards, to size × size px."""
    linear = size / side * np.array([[-up[1], up[0]], [-up[0], -up[1]]])
    return np.concatenate([linear, (size / 2 - linear @ centre)[:, None]], axis=1)


def affine_from_five_points(five: Float[np.ndarray, "5 2"], size: int) -> Float[np.ndarray, "2 3"]:
    """Photo px → crop px, from the detector's points (right eye, left eye, nose tip, right, left mouth corner)."""
    eyes, mouth, up, across = _upward(five)
    side = CONTEXT * BOX_PER_EYE_MOUTH * max(float(np.linalg.norm(eyes - mouth)), MOUTH_PER_EYES * across)
    middle = eyes + 0.47 * (mouth - eyes)
    return _square(0.7 * middle + 0.3 * five[2], up, side, size)


def affine_from_landmarks(
    landmarks: Float[np.ndarray, "L 2"], five: Float[np.ndarray, "5 2"], size: int
) -> Float[np.ndarray, "2 3"]:
    """Photo px → crop px, from the upright box of dense landmarks: what the networks are trained on."""
    *_, up, _ = _upward(five)
    axes = np.array([[-up[1], up[0]], [-up[0], -up[1]]])
    turned = landmarks @ axes.T
    low, high = turned.min(0), turned.max(0)
    return _square((low + high) / 2 @ axes, up, CONTEXT * float((high - low).max()), size)


def five_of_68(landmarks: Float[np.ndarray, "68 2"]) -> Float[np.ndarray, "5 2"]:
    """The detector's five points from the 68 of iBUG: middles of the eyes, tip of the nose, corners of the mouth."""
    eyes = landmarks[36:42].mean(0), landmarks[42:48].mean(0)
    return np.stack([*eyes, landmarks[30], landmarks[48], landmarks[54]])


def affine_for_sphereface(five: Float[np.ndarray, "5 2"], size: int = 112) -> Float[np.ndarray, "2 3"]:
    """Photo px → px of a crop that SphereFace's alignment cuts (`SPHEREFACE_FIVE`)."""
    return similarity_2d(five, SPHEREFACE_FIVE * (size / 112))


@dataclass(frozen=True)
class Predictor:
    """An ONNX network with its own description inside (crop, model, version); batches of any size."""

    path: Path
    threads: int = field(default_factory=threads)

    @cached_property
    def _session(self) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # idle threads would slow the fit
        content = read_bytes(self.path, LARGEST_NETWORK, AssetMissing)
        if _ELSEWHERE in content:
            raise AssetMissing(
                f"{self.path} keeps its weights in other files, which are not read; store it in one file"
            )
        try:
            return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's own exceptions share no base class but Exception
            raise AssetMissing(
                f"{self.path} is not a network that onnxruntime can load: {in_one_line(error)[:400]}"
            ) from None

    @cached_property
    def description(self) -> dict[str, Any]:
        """What the file says of itself."""
        raw = self._session.get_modelmeta().custom_metadata_map.get("sameface")
        if raw is None:
            raise AssetMissing(f"{self.path} carries no sameface description; export it with `sameface export RUN`")
        try:
            return _described(json.loads(raw))
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            why = in_one_line(error)[:200]
            raise AssetMissing(
                f"{self.path} has a sameface description that cannot be meant ({why}); export it anew"
            ) from None

    @property
    def size(self) -> int:
        """Side of the crop, px."""
        crop = self.description.get("crop")
        size = crop.get("size") if isinstance(crop, dict) else None
        if type(size) is not int or not 1 <= size <= LARGEST_CROP:
            raise AssetMissing(f"{self.path} takes crops of {size!r} px, as it says: that cannot be; export it anew")
        return size

    @cached_property
    def sha256(self) -> str:
        """Of the file."""
        return sha256(self.path)

    @property
    def views(self) -> tuple[float, ...]:
        """The yaws of the photos of one person that it sees together, degrees; empty: it sees each photo alone."""
        return tuple(self.description.get("views", ()))

    @property
    def name(self) -> str:
        """name@version."""
        return f"{self.description['method']}@{self.description['version']}"

    def __call__(self, crops: UInt8[np.ndarray, "B *views H W 3"]) -> dict[str, np.ndarray]:
        """The network's outputs for RGB crops of `size` px, by name; (B, V, H, W, 3) for V `views` together."""
        one = (*([len(self.views)] if self.views else []), self.size, self.size, 3)
        if crops.shape[1:] != one or crops.dtype != np.uint8:
            wanted = ", ".join(map(str, one))
            raise ValueError(f"{self.name} takes (B, {wanted}) uint8, but got {crops.shape} {crops.dtype}")
        batch = np.ascontiguousarray(np.moveaxis(crops, -1, -3)).astype(np.float32) / 255
        names = [output.name for output in self._session.get_outputs()]
        try:
            answers = self._session.run(names, {self._session.get_inputs()[0].name: batch})
        except Exception as error:  # onnxruntime's own exceptions share no base class but Exception
            why = in_one_line(error)[:300]
            raise AssetMissing(
                f"{self.path} does not take crops as its description says ({why}); export it anew"
            ) from None
        said = dict(zip(names, answers, strict=True))
        odd = [name for name, one in said.items() if not isinstance(one, np.ndarray) or len(one) != len(batch)]
        if odd:
            raise AssetMissing(f"{self.path} gives no array of one answer per crop as {', '.join(odd)}; export it anew")
        broken = [name for name, values in said.items() if not np.isfinite(values).all()]
        if broken:
            raise BadPhoto(f"{self.name} gave {' and '.join(broken)} that are not finite numbers; is its file whole?")
        return said


def _described(told: Any) -> dict[str, Any]:
    """The description itself. Raises ValueError, TypeError, KeyError for one that cannot be meant."""
    if not isinstance(told, dict):
        raise TypeError("it is no JSON object")
    texts = [told[name] for name in ("method", "version", "morphable") if name in told]
    if not all(isinstance(text, str) for text in texts):
        raise TypeError("method, version and morphable are not all texts")
    if not all(isinstance(yaw, int | float) for yaw in told.get("views", ())):
        raise TypeError("views are not all numbers")
    return told


_LOADED: dict[Path, Predictor] = {}


def load(name: str = "default") -> Predictor:
    """The predictor in a packaged file (`default`) or in your own .onnx; loaded once per process."""
    path = Path(name) if name.endswith(".onnx") else ASSETS / f"{name}.onnx"
    if not path.exists():
        known = [name.removesuffix(".onnx") for name in names_in(ASSETS, ".onnx") if name not in OTHER_CROPS]
        where = hint(name) if name.endswith(".onnx") else ""
        raise AssetMissing(
            f"there is no network {name!r}{where}; there are: {', '.join(known)} (or the path of your own .onnx)"
        )
    path = path.resolve()
    if path not in _LOADED:
        _LOADED[path] = Predictor(path)
    return _LOADED[path]


class Second(NamedTuple):
    """Networks that look again at a face whose points are known."""

    identity: Predictor | None
    """says who it is, of the face as SphereFace aligns it; None where nobody asks"""
    eyes: Predictor
    """looks at each eye alone"""


def second() -> Second:
    """The packaged ones."""
    return Second(load("identity"), load("eyes"))


def networks(predictor: str = "default") -> list[Predictor]:
    """Those that measure a photo: the one for points, and those that look again."""
    return [load(name) for name in (predictor, *Second._fields)]


def networks_name(predictor: str = "default") -> str:
    """What a reconstruction was made by: name@version of each network."""
    return " ".join(network.name for network in networks(predictor))


def networks_sha256(predictor: str = "default") -> str:
    """One digest of them all."""
    return hashlib.sha256("".join(network.sha256 for network in networks(predictor)).encode()).hexdigest()
