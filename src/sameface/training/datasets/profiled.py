"""Photos with their heads turned further to the side, the labels turned alike (Zhu et al. 2016, how 300W-LP was made).

Layout: a folder with profiled.json and nothing else: `data` says which DATASET:FOLDER has the photos and their labels
(a relative folder is relative to the file), as `labelled:../labels` does for what `sameface fit-set` wrote; `views` is
how many pictures are made of each photo, `yaws` the [least, most] degrees of yaw they are spread over:

    {"data": "labelled:../labels", "views": 4, "yaws": [0, 75]}

The pictures of a photo at yaw y are at even steps from the larger of |y| and `least` to the larger of |y| and `most`,
on the photo's own side; a head that looks straight ahead is turned to either side in turn, row by row. So the first of
them is the photo itself where `least` is 0. Nothing is ever turned back: the photo does not show it. Pictures are made
when they are asked for (some 25 ms for 160 px) and are the same each time. No size or licence of its own.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from sameface.core import plugins
from sameface.core.errors import BadData
from sameface.core.files import read_json
from sameface.core.geometry import euler_from_rotation
from sameface.morphable import default
from sameface.synthetic.profiling import STRAIGHT, profile
from sameface.training.labels import POSE, in_photo

__all__ = ["Profiled", "gives", "load", "sample"]

gives = ("image", "params", "identity", "expression", "rotation", "landmarks68_projected", "person", "quality")

ABOUT = "profiled.json"
LAYOUT = f'{ABOUT}, for example {{"data": "labelled:../labels", "views": 4, "yaws": [0, 75]}}'
MOST_VIEWS = 100


class Profiled:
    """One split. `profiled[V · k + v]` → view v of V of row k of the inner data set, with its labels; person stays."""

    def __init__(self, inner: Any, views: int, least: float, most: float):
        self.inner, self.views, self.least, self.most = inner, views, least, most
        self.person = np.repeat(np.asarray(inner.person), views)
        names = getattr(inner, "names", None)
        if names is not None:
            self.names = [f"{name}#{view}" for name in names for view in range(views)]

    def __len__(self) -> int:
        return len(self.inner) * self.views

    def __getitem__(self, index: int, /) -> dict[str, np.ndarray | np.generic]:
        row, view = divmod(range(len(self))[index], self.views)
        labelled, item = plugins.load("datasets", "labelled"), self.inner[row]
        image, params, model = item["image"], item["params"], default()
        in_photo(params, model, image.shape[0])  # labels for another model are refused
        camera = labelled.camera_of(params, image.shape[1::-1])
        identity, expression = np.split(params[POSE:], [model.n_identity])
        vertices = model.vertices(identity, expression)
        yaw = self._yaw(float(euler_from_rotation(camera.rotation)[1]), row, view)
        if yaw is not None:
            image, camera = profile(image, camera, vertices, model, yaw)
        landmarks = camera.project(model.landmarks(vertices))
        return {
            "image": image,
            "params": labelled.parameters(camera, identity, expression, image.shape[0]),
            "identity": identity,
            "expression": expression,
            "rotation": camera.rotation.astype(np.float32),
            "landmarks68_projected": landmarks.astype(np.float32),
            "person": self.person[index],
            "quality": item["quality"],
        }

    def _yaw(self, now: float, row: int, view: int) -> float | None:
        """The view's yaw (rad), None for the photo as it is."""
        begin, end = (max(abs(now), np.radians(limit)) for limit in (self.least, self.most))
        yaw = begin + (end - begin) * view / max(self.views - 1, 1)
        if yaw <= abs(now) + 1e-6:
            return None
        straight = abs(now) < np.radians(STRAIGHT)
        side = (1 if row % 2 else -1) if straight else np.sign(now)
        return float(side * yaw)


def load(root: Path, split: str) -> Profiled:
    """The views of one split. Raises BadData for a missing or wrong profiled.json, and what the inner data set does."""
    about = _about(Path(root))
    name, _, folder = str(about["data"]).partition(":")
    dataset = plugins.named("datasets", name, about.get("data_sha256"), Path(root) / ABOUT)
    missing = [key for key in gives if key not in dataset.gives]
    if missing:
        raise BadData(
            f"{root / ABOUT}: data set {name} does not give {', '.join(missing)}; turning heads needs fits: "
            f"make them with `sameface fit-set {about['data']}`, and name that folder as labelled:FOLDER"
        )
    if not (Path(root) / folder).is_dir():
        raise BadData(f"there is no folder {Path(root) / folder}, where {ABOUT} says that the labels are")
    least, most = map(float, about["yaws"])
    return Profiled(dataset.load(Path(root) / folder, split), about["views"], least, most)


def sample(root: Path) -> None:
    """Write labelled's own sample and a profiled.json that turns its cartoons to 60° in three views."""
    (root / "labels").mkdir(parents=True)
    plugins.load("datasets", "labelled").sample(root / "labels")
    about = {"data": "labelled:labels", "views": 3, "yaws": [0, 60]}
    (root / ABOUT).write_text(json.dumps(about, indent=1) + "\n")


# ── inside ─────────────────────────────────────────────────────────────────────────────────────────────────


def _about(root: Path) -> dict[str, Any]:
    """What profiled.json says, checked."""
    if not (root / ABOUT).is_file():
        raise BadData(f"there is no {ABOUT} in {root}; expected {LAYOUT}")
    try:
        about = read_json(root / ABOUT)
    except ValueError as error:
        raise BadData(f"{root / ABOUT} is not JSON ({error}); expected {LAYOUT}") from None
    if not isinstance(about, dict) or set(about) != {"data", "views", "yaws"} or not isinstance(about["data"], str):
        raise BadData(f"{root / ABOUT} does not say data, views and yaws and nothing else; expected {LAYOUT}")
    views, yaws = about["views"], about["yaws"]
    if type(views) is not int or not 1 <= views <= MOST_VIEWS:
        raise BadData(f"{root / ABOUT}: views must be a whole number from 1 to {MOST_VIEWS}, but is {views!r}")
    numbers = isinstance(yaws, list) and len(yaws) == 2 and all(type(yaw) in (int, float) for yaw in yaws)
    if not numbers or not 0 <= yaws[0] <= yaws[1] <= 90:
        raise BadData(f"{root / ABOUT}: yaws must be [least, most] degrees between 0 and 90, but is {yaws!r}")
    return about
