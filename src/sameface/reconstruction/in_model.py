"""A reconstruction in another morphable model: its coefficients, its mesh, its units, and the files of these."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from sameface.core.arrays import Record
from sameface.core.camera import Perspective
from sameface.core.files import write_file
from sameface.core.geometry import rotation_from_euler, vertex_normals
from sameface.mesh.glb import write_glb
from sameface.mesh.write import write_obj
from sameface.morphable import MorphableModel, default
from sameface.morphable.bridge import Bridge, bridge
from sameface.morphable.recast import Recast, Recaster
from sameface.reconstruction.picture import render

__all__ = ["VERSION", "InModel", "Recaster", "bridge_picture", "png", "recaster_of"]

VERSION = 1
AT_ONCE = 64
"""frames of a video at a time"""
POSE = 12
"""numbers of 3DDFA's parameters before shape and expression"""
COLOURS = {
    "forehead": (196, 120, 200), "eyes": (80, 120, 230), "nose": (226, 92, 84), "mouth": (96, 180, 96),
    "ears": (232, 196, 72), "neck": (84, 190, 196),
}  # fmt: skip
SKIN, UNLINKED = (205, 195, 188), (110, 110, 110)
WORST = 2.0
"""mm: the redmost of the picture of a bridge"""


@dataclass(frozen=True, eq=False, repr=False)
class InModel(Record):
    """One person in another morphable model; face 0 is the neutral one, face k + 1 that of view k."""

    recaster: Recaster
    found: Recast
    photos: tuple[str, ...]
    cameras: tuple[Perspective, ...]
    """of the views, for our face in true mm"""
    scale: float = 1.0
    """true size / size in our model"""

    @classmethod
    def of(
        cls,
        recaster: Recaster,
        neutral: Float[np.ndarray, "V 3"],
        expressed: Sequence[Float[np.ndarray, "V 3"]],
        photos: Sequence[str],
        cameras: Sequence[Perspective],
        scale: float,
    ) -> "InModel":
        """Of our faces in true mm."""
        found = recaster(neutral, np.stack(expressed) if len(expressed) else None)
        return cls(recaster, found, tuple(photos), tuple(cameras), scale)

    @property
    def model(self) -> MorphableModel:
        """The other model."""
        return self.recaster.target

    @property
    def identity(self) -> Float[np.ndarray, " S"]:
        """σ."""
        return self.found.identity

    def vertices(self, view: int | None = None) -> Float[np.ndarray, "V 3"]:
        """The neutral face or that of a view: the model's own vertices in its own frame and unit."""
        return self.recaster.mesh(self.found, _face(view)) / np.float32(self.model.unit)

    def residual(self, view: int | None = None) -> tuple[float, float]:
        """mm between our face and this one, along the normal over the face region: mean and 95th percentile."""
        mean, p95 = self.found.residual[_face(view)]
        return float(mean), float(p95)

    def coefficients(self, view: int | None = None) -> dict[str, np.ndarray]:
        """What the model's own formula wants: identity and expression in its own scale, and the joints it turns, rad.

        FLAME: `identity` are its shape parameters, `jaw`, `left eye`, `right eye` axis-angle poses. Where the file
        keeps deviations apart (3DDFA, face3d), the numbers are multiplied by them; without them they are
        `identity_sigma` and `expression_sigma`.
        """
        expression = self.found.expression[_face(view)]
        own = {"identity": self.identity, "expression": expression}
        scales = _scales(self.model)
        if scales is not None:
            own = {name: own[name] * scale for name, scale in scales.items()}
            own |= {"identity_sigma": self.identity, "expression_sigma": expression}
        joints = self.recaster.joints
        if joints is not None:
            own |= dict(zip(joints.names, self.found.angles[_face(view)], strict=True))
        return {name: np.asarray(numbers, np.float32) for name, numbers in own.items()}

    def camera(self, view: int) -> dict[str, Any]:
        """Where the model's mesh (its unit, its frame) is in the photo: x_camera = rotation · x + translation, OpenCV's
        axes, q = focal_px · (x, y) / z + center."""
        camera, pose, unit = self.cameras[view], self.found.pose, self.model.unit
        rotation = camera.rotation @ pose.rotation
        translation = (camera.rotation @ pose.translation + camera.translation) / unit
        return {
            "rotation": np.round(rotation, 7).tolist(),
            "translation": [float(f"{x:.7g}") for x in translation],
            "focal_px": round(float(camera.focal), 3),
            "center": np.round(camera.center, 3).tolist(),
        }

    @cached_property
    def arkit(self) -> dict[str, Float[np.ndarray, "V 3"]]:
        """ARKit's 51 expressions of this person, as the model can express them: offsets in mm at weight 1."""
        if self.model.n_expression == 0:
            return {}
        names = default().expression_names
        moved = self._moved(np.eye(len(names), dtype=np.float32))
        rest = self.recaster.mesh(self.found, 0)
        return {name: self.recaster.mesh(moved, k) - rest for k, name in enumerate(names)}

    def frames(self, weights: Float[np.ndarray, "N E"]) -> dict[str, Float[np.ndarray, "N K"]]:
        """`coefficients` of this person with other expressions, ours (ARKit's weights) given; the identity is left out.

        Rows of NaN stay so.
        """
        seen = np.flatnonzero(np.isfinite(weights).all(1))
        parts = [
            replace(self, found=self._moved(weights[some].astype(np.float32)))
            for some in (seen[begin : begin + AT_ONCE] for begin in range(0, len(seen), AT_ONCE))
        ]
        rows = [part.coefficients(k - 1) for part in parts for k in range(len(part.found.expression))]
        names = [name for name in self.coefficients() if not name.startswith("identity")]
        out = {name: np.full((len(weights), self.coefficients()[name].size), np.nan, np.float32) for name in names}
        for name in names:
            for place, row in zip(seen, rows, strict=True):
                out[name][place] = row[name]
        return out

    def _moved(self, weights: Float[np.ndarray, "N E"]) -> Recast:
        ours, size = default(), np.float32(self.scale)
        neutral = ours.mean * size
        shapes = neutral + np.einsum("vde,ne->nvd", ours.expression_basis, weights, optimize=True) * size
        return self.recaster.moved(self.found, neutral, shapes)

    def save(self, path: Path | str, *, view: int | None = None) -> Path:
        """Write one file by its suffix: .obj (own unit), .glb (metres, with ARKit's expressions), .npz, .json."""
        path, model = Path(path), self.model
        mesh = self.recaster.mesh(self.found, _face(view))
        if path.suffix == ".obj":
            write_obj(path, mesh, model.faces, normals=vertex_normals(mesh, model.faces), unit=float(model.unit))
        elif path.suffix == ".glb":
            write_glb(path, mesh, model.faces, uv=model.uv, morph_targets=self.arkit, licence=model.licence)
        elif path.suffix == ".npz":
            self._npz(path)
        elif path.suffix == ".json":
            write_file(path, (json.dumps(self.as_json(), indent=1, allow_nan=False) + "\n").encode())
        else:
            raise ValueError(f"{path.name}: a face in another model is saved as .obj, .glb, .npz or .json")
        return path

    def as_json(self) -> dict[str, Any]:
        """Coefficients, cameras and residuals; docs/other-models.md explains every key."""
        names = self.model.extra.get("identity_names")
        return {
            "format": "sameface-in-model",
            "version": VERSION,
            "model": self.model.name,
            "licence": self.model.licence,
            "mm_per_unit": self.model.unit,
            "scale": round(self.scale, 6),
            "identity_names": None if names is None else [str(name) for name in names],
            "expression_names": list(self.model.expression_names),
            "neutral": self._face_json(None),
            "views": [
                {"photo": photo, **self._face_json(k), "camera": self.camera(k)} for k, photo in enumerate(self.photos)
            ],
        }

    def _face_json(self, view: int | None) -> dict[str, Any]:
        mean, p95 = self.residual(view)
        told = {name: [float(f"{x:.6g}") for x in numbers] for name, numbers in self.coefficients(view).items()}
        if view is not None:
            told = {name: numbers for name, numbers in told.items() if not name.startswith("identity")}
        return told | {"residual_mm": {"mean": round(mean, 4), "p95": round(p95, 4)}}

    def _npz(self, path: Path) -> None:
        buffer, views = BytesIO(), range(len(self.photos))
        arrays: dict[str, Any] = {f"neutral_{k}": v for k, v in self.coefficients().items()}
        arrays |= {"vertices": self.vertices(), "faces": self.model.faces, "photos": np.array(self.photos)}
        if len(views):
            arrays["view_vertices"] = np.stack([self.vertices(k) for k in views])
            each = [self.coefficients(k) for k in views]
            arrays |= {name: np.stack([one[name] for one in each]) for name in each[0] if "identity" not in name}
        arrays["identity"] = self.coefficients()["identity"]
        arrays["result"] = np.array(json.dumps(self.as_json(), allow_nan=False))
        np.savez_compressed(buffer, **arrays)
        write_file(path, buffer.getvalue())


def recaster_of(path: Path) -> Recaster:
    """What takes our faces to the model in a file or folder. Raises BadModel."""
    return Recaster(bridge(path))


def bridge_picture(made: Bridge) -> UInt8[np.ndarray, "H W 3"]:
    """Ours, the other's mean with our regions carried over (grey: not linked), and ours bent onto it (red: mm away)."""
    ours, target = default(), made.target
    ours_in = np.full((ours.n_vertices, 3), SKIN, np.float64)
    for name, colour in COLOURS.items():
        ours_in[ours.regions[name]] = colour
    carried = np.where(made.back.trust[:, None] > 0, made.back.on(ours_in), UNLINKED)
    mesh = made.pose.apply(target.mean.astype(np.float64))
    apart = np.linalg.norm(made.there.on(mesh) - made.bent, axis=1)
    share = np.clip(apart / WORST, 0, 1)[:, None]
    worst = np.where(made.there.trust[:, None] > 0, (1 - share) * SKIN + share * (220, 40, 30), UNLINKED)
    rows = []
    for yaw in (0.0, 0.8):
        rotation = rotation_from_euler(np.array(0.0), np.array(yaw), np.array(0.0))
        camera = Perspective(rotation, np.array([0.0, 0, 900]), np.array(1100.0), np.array([200.0, 220]), (400, 440))
        row = [
            render(vertices.astype(np.float32), faces, camera, colours=np.clip(colours, 0, 255).astype(np.uint8))
            for vertices, faces, colours in (
                (ours.mean, ours.faces, ours_in), (mesh, target.faces, carried), (made.bent, ours.faces, worst),
            )
        ]  # fmt: skip
        rows.append(np.hstack(row))
    return np.vstack(rows)


def png(pixels: UInt8[np.ndarray, "H W 3"]) -> bytes:
    """A picture as the bytes of a PNG file."""
    return cv2.imencode(".png", pixels[:, :, ::-1])[1].tobytes()


def _face(view: int | None) -> int:
    return 0 if view is None else view + 1


def _scales(model: MorphableModel) -> Mapping[str, np.ndarray] | None:
    """What a file's own coefficients are per σ, where it keeps deviations apart."""
    extra, count = model.extra, model.n_identity
    if "identity_scale" in extra:
        return {"identity": extra["identity_scale"], "expression": extra["expression_scale"]}
    if "parameters_std" in extra:
        deviations = extra["parameters_std"][POSE:]
        return {"identity": deviations[:count], "expression": deviations[count:]}
    return None
