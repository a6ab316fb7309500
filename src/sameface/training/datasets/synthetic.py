"""People who do not exist, rendered with exact truth (`sameface.synthetic.files.write`).

Size and licence: as many as you draw; they show nobody, so their pictures bind nobody. Layout: a folder with about.json
and one folder per person (000000, 000001, …) that holds 00.jpg, 01.jpg, … and truth.npz; `synthetic/files.py` says what
is in it. Depth, normals and albedo of view j are j-depth.png, j-normal.png and j-albedo.png; items leave them out, and
`People.maps` reads them.

Splits by a hash of the person's folder name: a twentieth each for val and test. The perspective camera is exact:
px = K (R v + t). `params`, which methods for weak perspective learn from, is the nearest weak-perspective camera with
the same rotation, so it is off, and the more the nearer the camera and the farther the face is from the middle of the
frame; docs/synthetic.md has the numbers.
"""

from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float

from sameface.core.camera import WeakPerspective
from sameface.core.errors import BadData
from sameface.core.files import names_in, read_bytes, read_json
from sameface.core.npz import read_npz
from sameface.training.datasets._people import Item, check_split, names_per_split, picture, split_of

__all__ = ["People", "gives", "load", "sample", "weak"]

gives = (
    "image", "params", "identity", "expression", "camera_matrix", "rotation", "translation", "landmarks68", "visible68",
    "person",
)  # fmt: skip

LARGEST_TRUTH, LARGEST_MAP = 1 << 28, 1 << 28
"""bytes of a truth.npz, and of a picture"""
LAYOUT = "about.json and folders 000000, 000001, …, as `sameface synth --out FOLDER` writes them"


class People:
    """One split. `people[i]` → image (S, S, 3) uint8 RGB · params (12 + S + E,), layout of `labels.in_photo`, weak
    perspective · identity (S,) σ · expression (E,) · camera_matrix (3, 3), px · rotation (3, 3), translation (3,) mm ·
    landmarks68 (68, 2) px · visible68 (68,) · person, counted from 0 within the split."""

    def __init__(self, root: Path, persons: list[str], views: int, depth_unit: float):
        self.root, self.persons, self.views, self.depth_unit = root, persons, views, depth_unit
        self.person = np.repeat(np.arange(len(persons)), views)
        self.names = [f"{name}/{j:02d}.jpg" for name in persons for j in range(views)]
        self._truth: tuple[int, dict[str, np.ndarray]] = (-1, {})

    def __len__(self) -> int:
        return len(self.names)

    def truth(self, number: int) -> dict[str, np.ndarray]:
        """All arrays of one person of the split (`files.TRUTH`); the last one asked for is kept."""
        kept, truth = self._truth  # one look: another thread may be asking for another person
        if kept == number:
            return truth
        file = self.root / self.persons[number] / "truth.npz"
        try:
            truth = read_npz(file, LARGEST_TRUTH)
        except BadData as error:
            raise BadData(f"{error}: delete its folder and run the same command") from None
        self._truth = number, truth
        return truth

    def __getitem__(self, index: int, /) -> Item:
        index = range(len(self))[index]
        number, j = divmod(index, self.views)
        truth = self.truth(number)
        image = picture(self.root / self.names[index])
        rotation, shift = truth["rotation"][j], truth["translation"][j]
        size = image.shape[1], image.shape[0]
        camera = weak(truth["landmarks68_3d"][j], truth["landmarks68"][j], rotation, size)
        return {
            "image": image,
            "params": _params(camera, truth["identity"], truth["expression"][j]),
            "identity": truth["identity"].astype(np.float32),
            "expression": truth["expression"][j].astype(np.float32),
            "camera_matrix": truth["camera_matrix"][j].astype(np.float32),
            "rotation": rotation.astype(np.float32),
            "translation": shift.astype(np.float32),
            "landmarks68": truth["landmarks68"][j].astype(np.float32),
            "visible68": truth["visible68"][j],
            "person": self.person[index],
        }

    def maps(self, index: int) -> dict[str, Float[np.ndarray, "H W ..."]]:
        """depth (H, W) mm, normal (H, W, 3) in the camera's axes, albedo (H, W, 3) linear RGB; 0 where nobody is."""
        found = {}
        for name in ("depth", "normal", "albedo"):
            file = self.root / self.names[index].replace(".jpg", f"-{name}.png")
            data = np.frombuffer(read_bytes(file, LARGEST_MAP), np.uint8)
            pixels = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if len(data) else None
            if pixels is None:
                raise BadData(f"{file} is no picture; delete its folder and run the same command")
            found[name] = (pixels if name == "depth" else pixels[..., ::-1]).astype(np.float32)
        there = (found["depth"] > 0)[..., None]
        found["depth"] *= self.depth_unit
        found["normal"] = np.where(there, found["normal"] / np.float32(32767.5) - 1, 0)
        found["albedo"] /= 65535
        return found


def load(root: Path, split: str) -> People:
    """One split (`train`, `val`, `test`) of the people in `root`. Raises BadData if there are none."""
    check_split(split)
    about = _about(Path(root))
    persons = [name for name in names_in(root, folders=True) if name.isdigit() and split_of(name) == split]
    if not persons:
        raise BadData(f"{root} has no persons of split {split!r}; draw more: a twentieth each are for val and test")
    return People(Path(root), persons, int(about["views"]), float(about["depth_unit_mm"]))


def weak(
    points: Float[np.ndarray, "L 3"],
    landmarks: Float[np.ndarray, "L 2"],
    rotation: Float[np.ndarray, "3 3"],
    size: tuple[int, int],
) -> WeakPerspective:
    """The camera with this rotation that minimises Σ |s (R x_l)_xy + t − q_l|² over s and t; mm and px."""
    turned = (points @ rotation.T)[:, :2].astype(np.float64)
    middle, target = turned.mean(0), landmarks.mean(0)
    scale = ((turned - middle) * (landmarks - target)).sum() / ((turned - middle) ** 2).sum()
    return WeakPerspective(rotation, target - scale * middle, np.array(scale), size)


def sample(root: Path) -> None:
    """Draw two persons of each split, two views of each, 64 px."""
    from sameface.synthetic.files import write

    names = names_per_split(lambda k: f"{k - 1:06d}")
    write(root, [int(name) for name in names], 2, size=64, workers=0)


# ── inside ─────────────────────────────────────────────────────────────────────────────────────────────────


def _params(camera: WeakPerspective, identity: np.ndarray, expression: np.ndarray) -> Float[np.ndarray, " K"]:
    """The layout that `labels.in_photo` reads: (X, H − Y), Z towards the viewer, t_z = 0."""
    upward = np.array([[1.0], [-1.0], [-1.0]])
    shift = np.array([camera.translation[0], camera.size[1] - camera.translation[1], 0.0])
    matrix = np.column_stack([camera.scale * upward * camera.rotation, shift])
    return np.concatenate([matrix.ravel(), identity, expression]).astype(np.float32)


def _about(root: Path) -> dict:
    """What about.json says."""
    file = root / "about.json"
    if not file.is_file():
        raise BadData(f"there is no {file}; expected {LAYOUT}")
    try:
        about = read_json(file)
    except ValueError as error:
        raise BadData(f"{file} is not JSON ({error}); expected {LAYOUT}") from None
    if not isinstance(about, dict) or about.get("format") != "sameface-synthetic":
        raise BadData(f"{file} is not about synthetic people; expected {LAYOUT}")
    return about
