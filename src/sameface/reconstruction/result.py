"""The answer of a reconstruction; `outputs` has the files it can be written to."""

import os
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from sameface.core.arrays import Record
from sameface.core.camera import Perspective
from sameface.core.geometry import euler_from_rotation
from sameface.mesh.glb import Animation
from sameface.morphable import MorphableModel
from sameface.morphable.head import whole
from sameface.photo.face import Observation
from sameface.reconstruction import picture
from sameface.reconstruction.in_model import InModel, Recaster, recaster_of
from sameface.reconstruction.scalp import with_scalp
from sameface.reconstruction.texture import texture

__all__ = ["RESULT_VERSION", "Reconstruction", "View"]

RESULT_VERSION = 1
TEXTURE_VIEWS = 8
"""photos that go into a texture: the best ones"""


@dataclass(frozen=True, eq=False, repr=False)
class View(Record):
    """One photo of the person, fitted."""

    seen: Observation
    camera: Perspective
    """in photo px"""
    expression: Float[np.ndarray, " E"]
    landmarks: Float[np.ndarray, "68 2"]
    """the fitted iBUG points, photo px"""
    residual: float
    """median distance between measured and fitted points, as a fraction of the face"""
    identity_alone: Float[np.ndarray, " S"]
    """σ: the identity from this photo only"""
    disagreement: float
    """mm RMS over the face between the shape from this photo alone and the joint shape"""

    @property
    def focal_from(self) -> str:
        """Who says the camera's focal length: the file (exif), the user (given), or nobody (estimated)."""
        return "estimated" if self.seen.focal is None else self.seen.focal_from


@dataclass(frozen=True, eq=False, repr=False)
class Reconstruction(Record):
    """One person: the answer of `sameface.reconstruct`."""

    identity: Float[np.ndarray, " S"]
    """σ, one for all views"""
    views: tuple[View, ...]
    model: MorphableModel
    predictor: str
    """name@version of the network"""
    scale: float = 1.0
    """true size / model size"""
    scale_from: str = "average head"
    """what the millimetres rest on"""
    dropped: tuple[tuple[str, str, str], ...] = ()
    """(photo, kind of problem, message) of photos that did not count"""
    notes: tuple[str, ...] = ()
    target: InModel | None = None
    """the same in another model, where `reconstruct` was given one"""

    @property
    def head(self) -> MorphableModel:
        """The model with the rest of the head: its first vertices are the model's (a model not ours stays as it is)."""
        return whole(self.model)

    def vertices(self, view: int | None = None, *, head: bool = False) -> Float[np.ndarray, "V 3"]:
        """The neutral face, or the face with the expression of one view, mm; of the whole `head` if asked for."""
        expression = None if view is None else self.views[view].expression
        model = self.head if head else self.model
        return np.float32(self.scale) * model.vertices(self.identity, expression)

    @property
    def disagreement(self) -> float:
        """How far the photos disagree, mm: the median over the photos; NaN for a single photo."""
        return float(np.median([v.disagreement for v in self.views])) if len(self.views) > 1 else float("nan")

    @property
    def skin(self) -> UInt8[np.ndarray, "T T 3"] | None:
        """The texture, where there can be one: None without photos, and for a model without texture coordinates."""
        if "texture" in vars(self) or (self.has_photos and self.model.uv is not None):
            return self.texture
        return None

    @property
    def has_photos(self) -> bool:
        """False for what was loaded: a result does not hold the photos that it came from."""
        return all(view.seen.picture.size for view in self.views)

    @cached_property
    def texture(self) -> UInt8[np.ndarray, "T T 3"]:
        """(1024, 1024, 3) sRGB from the best photos; unseen skin is mirrored, then filled in.

        Raises ValueError for a loaded result beside which there was no neutral.png.
        """
        self._must_have_photos("a skin")
        best = sorted(range(len(self.views)), key=lambda k: -self.views[k].seen.quality)[:TEXTURE_VIEWS]
        views = [self.views[k] for k in best]
        skin = texture(
            [v.seen.picture for v in views],
            [_in_picture(v) for v in views],
            [self.model.vertices(self.identity, v.expression) for v in views],
            self.model,
            quality=[v.seen.quality for v in views],
        ).pixels
        return with_scalp(skin, self.head)

    def overlay(self, view: int = 0) -> UInt8[np.ndarray, "h w 3"]:
        """The face over its photo: mesh and landmarks, cut to the head."""
        self._must_have_photos("an overlay")
        v = self.views[view]
        camera = _in_picture(v)
        mesh = self.model.vertices(self.identity, v.expression)
        points = camera.project(self.model.landmarks(mesh).astype(np.float64))
        return picture.overlay(v.seen.picture, mesh, self.model.faces, camera, landmarks=points)

    def in_model(self, model: str | os.PathLike[str] | Recaster) -> InModel:
        """The same person in another morphable model: its coefficients, mesh and units (docs/other-models.md).

        `model` is its file or folder, which is joined with ours first (once, half a minute; kept beside it), or what
        an earlier answer has as `recaster`. Raises BadModel.
        """
        recaster = model if isinstance(model, Recaster) else recaster_of(Path(model))
        cameras = [replace(v.camera, translation=v.camera.translation * self.scale) for v in self.views]
        expressed = [self.vertices(k) for k in range(len(self.views))]
        photos = [v.seen.photo for v in self.views]
        return InModel.of(recaster, self.vertices(), expressed, photos, cameras, self.scale)

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, model: MorphableModel | None = None) -> "Reconstruction":
        """What was saved as result.json or face.npz (whose numbers are not rounded), or a folder of the command line.

        Its photos are not in the files: overlays and reports cannot be made again; the skin is neutral.png's where that
        lies beside, and meshes are saved without one otherwise. `model`: where it is not the default. Raises BadData.
        """
        from sameface.reconstruction.saved import read_result  # which knows this class

        return read_result(Path(path), model)

    def _must_have_photos(self, what: str) -> None:
        if not self.has_photos:
            raise ValueError(
                f"{what} is made of the photos, which a loaded result does not hold: reconstruct them again"
            )

    def _repr_html_(self) -> str:
        """For notebooks: the face, and the numbers to know."""
        from sameface.reconstruction.report import card  # which knows this class

        return card(self)

    def save(
        self,
        path: str | os.PathLike[str],
        *,
        view: int | None = None,
        animation: Animation | None = None,
        unlit: bool = False,
    ) -> Path:
        """Write one file by its suffix: .obj (with .mtl and .png) .ply .stl (closed, for printers) .glb (with
        ARKit blendshapes) .npz .json .html (a report).

        `view` takes the face as in that photo instead of the neutral one; `animation` (.glb, .html) moves it.
        `unlit` (.glb only) asks viewers to show the skin as it is, for the light of the photos is in it. Raises
        BadOutput when it cannot be written.
        """
        from sameface.reconstruction.outputs import write_answer  # which knows this class

        return write_answer(self, Path(path), view, animation, unlit)

    def as_json(self) -> dict[str, Any]:
        """What result.json holds; every key is explained in docs/result.md."""
        return {
            "format": "sameface-result",
            "version": RESULT_VERSION,
            "predictor": self.predictor,
            "model": self.model.name,
            "identity": _rounded(self.identity, 5),
            "scale": {"factor": round(self.scale, 6), "from": self.scale_from},
            "disagreement_mm": None if len(self.views) < 2 else round(self.disagreement, 3),
            "views": [self._view_json(v) for v in self.views],
            "dropped": [{"photo": p, "problem": kind, "message": text} for p, kind, text in self.dropped],
            "notes": list(self.notes),
        }

    def _view_json(self, view: View) -> dict[str, Any]:
        pitch, yaw, roll = (float(np.degrees(a)) for a in euler_from_rotation(view.camera.pose))
        expression = dict(zip(self.model.expression_names, _rounded(view.expression, 4), strict=True))
        return {
            "photo": view.seen.photo,
            "size": list(view.seen.size),
            "box": _rounded(view.seen.box, 2),
            "score": round(view.seen.score, 4),
            "quality": round(view.seen.quality, 4),
            "camera": _camera_json(view),
            "head_pose_degrees": {"pitch": round(pitch, 2), "yaw": round(yaw, 2), "roll": round(roll, 2)},
            "expression": {name: weight for name, weight in expression.items() if weight > 0},
            "landmarks": _rounded(view.landmarks, 2),
            "residual": round(view.residual, 5),
            "disagreement_mm": round(view.disagreement, 3) if len(self.views) > 1 else None,
        }


def _rounded(array: np.ndarray, digits: int) -> list[Any]:
    return np.round(np.asarray(array, np.float64), digits).tolist()


def _camera_json(view: View) -> dict[str, Any]:
    camera = view.camera
    return {
        "kind": "perspective",
        "rotation": _rounded(camera.rotation, 6),
        "translation": _rounded(camera.translation, 4),
        "focal_px": round(float(camera.focal), 3),
        "focal_from": view.focal_from,
        "center": _rounded(camera.center, 3),
    }


def _in_picture(view: View) -> Perspective:
    """The view's camera, moved to the picture that was kept of the photo."""
    height, width = view.seen.picture.shape[:2]
    return view.camera.warped(view.seen.to_picture, (width, height))
