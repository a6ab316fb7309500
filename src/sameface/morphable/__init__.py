"""The morphable model: every face is mean + identity · σ's + expression · weights. One record for every source.

Inside, whatever the file said: millimetres, coefficients in standard deviations, +x to the subject's left, +y up,
+z out of the face, counter-clockwise faces. `sameface.morphable.<format>.load(path)` makes one from each public format;
`compile.py` makes the one we ship.
"""

import json
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from functools import cache, cached_property
from pathlib import Path
from typing import Any, SupportsIndex

import numpy as np
from jaxtyping import Bool, Float, Int

from sameface.core.arrays import Record
from sameface.core.errors import BadModel
from sameface.core.files import sha256, written
from sameface.core.geometry import barycentric
from sameface.core.npz import read_npz

__all__ = ["MorphableModel", "default", "load"]

FORMAT_VERSION = 1
LARGEST_FILE = 2_000_000_000
"""bytes, unpacked; a model file beyond this is refused before it is read"""
LARGEST_MODE = float(np.finfo(np.float16).max)
"""mm; what is stored as float16 would become infinite"""


@dataclass(frozen=True, eq=False, repr=False)
class MorphableModel(Record):
    """A linear face model: v(α, β) = mean + identity_basis α + expression_basis β (Blanz & Vetter 1999)."""

    name: str
    licence: str
    mean: Float[np.ndarray, "V 3"]
    """mm, neutral"""
    identity_basis: Float[np.ndarray, "V 3 S"]
    """mm per standard deviation"""
    expression_basis: Float[np.ndarray, "V 3 E"]
    """mm per unit: per standard deviation, or per full blendshape where `expression_range` is (0, 1)"""
    faces: Int[np.ndarray, "F 3"]
    landmark_faces: Int[np.ndarray, " 68"]
    """the face that carries each iBUG landmark; jaw points lie on the surface of the jaw bone"""
    landmark_weights: Float[np.ndarray, "68 3"]
    """barycentric"""
    expression_names: tuple[str, ...]
    expression_range: tuple[float, float] = (-3.0, 3.0)
    """(0, 1) for blendshapes"""
    unit: float = 1.0
    """mm per unit of the source's files; divide by it to have vertices as the source has them"""
    contour_faces: Int[np.ndarray, " 17"] | None = None
    """jaw landmarks 1-17 of the *contour* variant: where a frontal photo shows the outline of the face"""
    contour_weights: Float[np.ndarray, "17 3"] | None = None
    mirror: Int[np.ndarray, " V"] | None = None
    """vertex on the other side of the face; an involution"""
    uv: Float[np.ndarray, "V 2"] | None = None
    """texture coordinates in [0, 1], origin at the lower left"""
    albedo_mean: Float[np.ndarray, "V 3"] | None = None
    """linear RGB in [0, 1]"""
    albedo_basis: Float[np.ndarray, "V 3 A"] | None = None
    regions: dict[str, Bool[np.ndarray, " V"]] = field(default_factory=dict)
    extra: dict[str, np.ndarray] = field(default_factory=dict)
    """further point sets of a source, for example `mediapipe_faces` and `mediapipe_weights`"""

    @property
    def n_vertices(self) -> int:
        """V."""
        return self.mean.shape[0]

    @property
    def n_identity(self) -> int:
        """S, the number of identity coefficients."""
        return self.identity_basis.shape[2]

    @property
    def n_expression(self) -> int:
        """E, the number of expression coefficients."""
        return self.expression_basis.shape[2]

    @cached_property
    def _flat(self) -> tuple[np.ndarray, np.ndarray]:
        basis = np.concatenate([self.identity_basis, self.expression_basis], axis=2)
        return self.mean.reshape(-1), np.ascontiguousarray(basis.reshape(-1, basis.shape[2]).T)

    @property
    def expressions(self) -> Float[np.ndarray, "E V 3"]:
        """The expression basis, one expression after the other."""
        return self._flat[1][self.n_identity :].reshape(self.n_expression, -1, 3)

    def vertices(
        self, identity: Float[np.ndarray, "*b S"], expression: Float[np.ndarray, "*b E"] | None = None
    ) -> Float[np.ndarray, "*b V 3"]:
        """v_i = mean_i + Σ_s identity_basis_is α_s + Σ_e expression_basis_ie β_e, mm. Neutral without an expression."""
        if identity.shape[-1] != self.n_identity:
            raise ValueError(f"{self.name} has {self.n_identity} identity coefficients, but {identity.shape} was given")
        mean, basis = self._flat
        out = mean + identity.astype(basis.dtype) @ basis[: self.n_identity]  # a mixed product would copy the basis
        if expression is not None:
            if expression.shape[-1] != self.n_expression:
                raise ValueError(f"{self.name} has {self.n_expression} expressions, but {expression.shape} was given")
            out = out + expression.astype(basis.dtype) @ basis[self.n_identity :]
        return out.reshape(*out.shape[:-1], -1, 3).astype(np.float32)

    def landmarks(
        self, vertices: Float[np.ndarray, "*b V 3"], *, contour: bool = False
    ) -> Float[np.ndarray, "*b 68 3"]:
        """The 68 iBUG points of a mesh of this topology, mm; `contour` takes the outline variant of the jaw."""
        faces, weights = self.landmark_faces, self.landmark_weights
        if contour:
            if self.contour_faces is None or self.contour_weights is None:
                raise ValueError(f"{self.name} has no contour variant of the jaw landmarks")
            faces = np.concatenate([self.contour_faces, faces[17:]])
            weights = np.concatenate([self.contour_weights, weights[17:]])
        return barycentric(vertices, self.faces[faces], weights)

    def __reduce_ex__(self, protocol: SupportsIndex) -> str | tuple[Any, ...]:
        """The model that ships goes by its name and the digest of its file: 20 MB less in every pickle."""
        if default.cache_info().currsize and self is default():
            return _shipped, (self.name, _digest())
        return super().__reduce_ex__(protocol)

    def save(self, path: Path) -> None:
        """Write the model as one .npz; the bases as float16 (error below 0.01 mm for a face).

        Raises BadModel for a model that `load` would not read, BadOutput for a path that cannot be written.
        """
        if (fault := _fault({f.name: getattr(self, f.name) for f in fields(self)})) is not None:
            raise BadModel(f"{path} is not written: {fault}")
        arrays: dict[str, np.ndarray] = {}
        header = {"format": "sameface-morphable", "version": FORMAT_VERSION}
        for f in fields(self):
            value = getattr(self, f.name)
            if isinstance(value, dict):
                arrays |= {f"{f.name}/{key}": array for key, array in value.items()}
            elif isinstance(value, np.ndarray):
                small = f.name in ("identity_basis", "expression_basis", "albedo_basis")
                if small:  # mode by mode, so that the file compresses and reads in one sweep
                    arrays[f.name] = np.moveaxis(value, 2, 0).astype(np.float16)
                elif value.dtype.kind == "i":
                    arrays[f.name] = value.astype(np.int32)
                else:
                    arrays[f.name] = value.astype(np.float32)
            elif value is not None:
                header[f.name] = value
        arrays["header"] = np.frombuffer(json.dumps(header).encode(), np.uint8)
        with written(path) as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def load(path: Path) -> MorphableModel:
    """Read a model written by `MorphableModel.save`.

    Raises BadModel if the file is not such a file, or its arrays do not fit together. Nothing in it is executed: no
    pickle.
    """
    arrays = read_npz(path, LARGEST_FILE, error=BadModel)
    try:
        header = dict(json.loads(arrays.pop("header").tobytes()))
    except (KeyError, ValueError, TypeError, RecursionError) as error:
        what = f"{path} is not a sameface model file ({error!r})"
        raise BadModel(f"{what}; make one with `sameface model convert`") from None
    if header.pop("format", None) != "sameface-morphable" or header.pop("version", None) != FORMAT_VERSION:
        raise BadModel(f"{path} is not a sameface model of version {FORMAT_VERSION}; convert it again from its source")
    values: dict[str, object] = {k: tuple(v) if isinstance(v, list) else v for k, v in header.items()}
    values["regions"], values["extra"] = {}, {}
    for key, array in arrays.items():
        name, _, inner = key.partition("/")
        if inner and name in ("regions", "extra"):
            values[name][inner] = array  # type: ignore[index]
        elif array.dtype == np.float16 and array.ndim == 3:
            values[name] = np.ascontiguousarray(np.moveaxis(array.astype(np.float32), 0, 2))
        else:
            values[name] = array
    known = {f.name: f.default is MISSING and f.default_factory is MISSING for f in fields(MorphableModel)}
    odd = sorted({*values} - {*known}) + sorted(name for name, needed in known.items() if needed and name not in values)
    if odd:
        raise BadModel(f"{path} is not a whole sameface model: {', '.join(odd)} missing or unknown; convert it again")
    if (fault := _fault(values)) is not None:
        raise BadModel(f"{path} is not a sound model: {fault}; convert it again from its source")
    return MorphableModel(**values)  # type: ignore[arg-type]


def _fault(values: Mapping[str, Any]) -> str | None:
    """What is wrong with the fields of a model, so that it cannot be used; None if nothing is."""
    mean, faces, names = (values.get(name) for name in ("mean", "faces", "expression_names"))
    if not isinstance(mean, np.ndarray) or not isinstance(faces, np.ndarray) or not isinstance(names, tuple):
        return "mean and faces are no arrays, or expression_names are no list"
    if not all(isinstance(text, str) for text in (values["name"], values["licence"], *names)):
        return "name, licence and expression_names are not all texts"
    limits = values.get("expression_range", (0.0, 1.0))
    if len(limits) != 2 or not all(isinstance(one, int | float) and abs(one) < np.inf for one in limits):
        return f"expression_range is {limits!r}, not two numbers"
    unit = values.get("unit", 1.0)
    if not isinstance(unit, int | float) or not 0 < unit < np.inf:
        return f"unit is {unit!r}, not how many mm a unit of the source is"
    count, used = mean.shape[0] if mean.ndim else 0, faces.shape[0] if faces.ndim else 0
    shapes: dict[str, tuple[int | None, ...]] = {
        "mean": (count, 3), "identity_basis": (count, 3, None), "expression_basis": (count, 3, len(names)),
        "landmark_weights": (68, 3), "contour_weights": (17, 3), "uv": (count, 2), "albedo_mean": (count, 3),
        "albedo_basis": (count, 3, None), "faces": (None, 3), "landmark_faces": (68,), "contour_faces": (17,),
        "mirror": (count,),
    }  # fmt: skip
    most = {"faces": count, "mirror": count, "landmark_faces": used, "contour_faces": used}
    for name, wanted in shapes.items():
        value = values.get(name)
        if value is None:
            continue
        kind = "i" if name in most else "f"
        fits = isinstance(value, np.ndarray) and value.dtype.kind == kind and value.ndim == len(wanted)
        if not fits or any(side not in (None, has) for side, has in zip(wanted, value.shape, strict=True)):
            numbers = "whole numbers" if kind == "i" else "numbers"
            return f"{name} is no array of {numbers} of shape {wanted}".replace("None", "any")
        if kind == "i" and value.size and not 0 <= value.min() <= value.max() < most[name]:
            return f"{name} goes from {value.min()} to {value.max()}, but counts {most[name]} from 0"
        if kind == "f" and not np.isfinite(value).all():
            return f"{name} holds numbers that are not finite"
        if name.endswith("basis") and value.size and np.abs(value).max() > LARGEST_MODE:
            return f"{name} holds numbers up to {np.abs(value).max():.3g}; at most {LARGEST_MODE:g} can be stored"
    for name, flags in values.get("regions", {}).items():
        if flags.shape != (count,) or flags.dtype.kind != "b":
            return f"region {name} does not say yes or no for each of {count} vertices"
    return None


@cache
def default() -> MorphableModel:
    """The model that ships with the package: 80 identity modes and 51 ARKit expressions; read once."""
    return load(_FILE)


_FILE = Path(__file__).parent.parent / "assets" / "face_model.npz"


@cache
def _digest() -> str:
    return sha256(_FILE)


def _shipped(name: str, digest: str) -> MorphableModel:
    """The default model of this installation, if it is the one that was meant."""
    if (name, digest) != (default().name, _digest()):
        raise BadModel(f"this was pickled with another version of {name!r}: unpickle it with that version of sameface")
    return default()
