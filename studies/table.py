"""The face table seen through the whole pipeline (detector, crop, network), kept in a cache file between studies.

Not a study of its own: `observed(split)` is what several share.
"""

import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from sameface.core.camera import WeakPerspective
from sameface.core.errors import NoFaceFound
from sameface.core.files import sha256
from sameface.photo import detect
from sameface.photo.face import Photo
from sameface.photo.observe import observe
from sameface.photo.predictor import load, networks, second
from sameface.reconstruction.cameras import in_perspective
from sameface.reconstruction.fit import Measured
from sameface.training.datasets import facetable

SHARED = Path(os.environ.get("SAMEFACE_SHARED", "../shared"))
CACHE = Path(os.environ.get("SAMEFACE_CACHE", "runs/cache"))


@dataclass(frozen=True)
class Observed:
    """What the pipeline saw in the rows of one split; rows without a found face are only counted."""

    row: np.ndarray
    missed: int
    person: np.ndarray
    source: np.ndarray
    yaw: np.ndarray
    """degrees, of the labels (3DDFA_V2's small network)"""
    quality: np.ndarray
    label: np.ndarray
    """(N, L, 2) px of the crop"""
    manual: np.ndarray
    """(N, 68, 2) px, NaN where a row has none"""
    measured: Measured
    """as the network says it, in weak perspective"""

    @property
    def seen(self) -> Measured:
        """What a reconstruction makes of it: in perspective, at unknown distances."""
        weak = self.measured.camera
        assert isinstance(weak, WeakPerspective)
        size = np.tile(np.array(weak.size, float), (len(self.row), 1))
        camera, distance = in_perspective(weak, size, np.full(len(self.row), np.nan))
        return replace(self.measured, camera=camera, distance=distance)

    def __getitem__(self, index: np.ndarray) -> "Observed":
        parts = {n: getattr(self, n)[index] for n in ("row", "person", "source", "yaw", "quality", "label", "manual")}
        return Observed(missed=self.missed, measured=self.measured[index], **parts)


def observed(split: str, *, persons_only: bool = False, every: int = 1) -> Observed:
    """Every row of a split whose face was found; of several faces the one nearest to the labels."""
    files = (detect.NETWORK, *(network.path for network in networks()))
    stamp = sha256(*files)[:12]
    file = CACHE / f"{split}{'-persons' if persons_only else ''}-{every}-{stamp}.npz"
    if not file.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        np.savez(file, **_look(split, persons_only, every))
    with np.load(file) as kept:
        a = {name: kept[name] for name in kept.files}
    camera = WeakPerspective(a["rotation"], a["translation"], a["scale"], (facetable.SIDE, facetable.SIDE))
    measured = Measured(a["landmarks"], a["sigma"], a["identity"], a["expression"], camera, None, a["firmness"])
    plain = {n: a[n] for n in ("row", "person", "source", "yaw", "quality", "label", "manual")}
    return Observed(missed=int(a["missed"]), measured=measured, **plain)


def _look(split: str, persons_only: bool, every: int) -> dict[str, np.ndarray]:
    data, network = facetable.load(SHARED / "data" / "faces", split), load("default")
    rows: dict[str, list] = {}
    missed = 0
    for i in range(0, len(data), every):
        if persons_only and data.person[i] < 0:
            continue
        label = data.landmarks(i)
        try:
            faces = observe(Photo(data.image(i), data.names[i]), network, second=second())
        except NoFaceFound:
            missed += 1
            continue
        one = min(faces, key=lambda f: np.linalg.norm(f.landmarks.mean(0) - label.mean(0)))
        if np.linalg.norm(one.landmarks.mean(0) - label.mean(0)) > 0.25 * np.ptp(label, axis=0).max():
            missed += 1
            continue
        add = {"row": i, "person": data.person[i], "source": data.sources[i], "quality": one.quality, "label": label,
               "manual": data.landmarks68(i), "yaw": np.degrees(np.arcsin(np.clip(data.rotation[i][2, 0], -1, 1))),
               "landmarks": one.landmarks, "sigma": one.sigma, "identity": one.identity, "expression": one.expression,
               "firmness": one.firmness, "rotation": one.camera.rotation, "translation": one.camera.translation,
               "scale": one.camera.scale}  # fmt: skip
        for name, value in add.items():
            rows.setdefault(name, []).append(value)
    return {name: np.array(values) for name, values in rows.items()} | {"missed": np.array(missed)}
