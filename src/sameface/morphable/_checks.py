"""What every model must satisfy, whatever file it came from; and the small steps that all readers share."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from sameface.core.errors import BadModel
from sameface.morphable import MorphableModel

__all__ = ["as_basis", "checked", "linear_albedo", "outwardness", "require"]

EYE_DISTANCE = (50.0, 75.0)
"""mm between the eye centres of a mean face; people have 54 to 74 (Dodgson 2004)"""


def require(source: Mapping[str, Any], names: tuple[str, ...], path: Path, what: str) -> None:
    """Raise BadModel unless all `names` are there."""
    missing = [name for name in names if name not in source]
    if missing:
        seen = ", ".join(sorted(map(str, source))[:12]) or "nothing"
        raise BadModel(f"{path} is not {what}: it lacks {', '.join(missing)}; it has {seen}")


def as_basis(
    matrix: np.ndarray, scale: np.ndarray, n_vertices: int, path: Path, what: str
) -> Float[np.ndarray, "V 3 K"]:
    """A (3V, K) matrix of modes, rows x0, y0, z0, x1, …, times one factor per mode."""
    if matrix.ndim != 2 or matrix.shape != (3 * n_vertices, np.size(scale)):
        raise BadModel(
            f"{path}: {what} has shape {matrix.shape}; expected ({3 * n_vertices}, {np.size(scale)}) "
            f"for {n_vertices} vertices and {np.size(scale)} deviations"
        )
    scaled = np.asarray(matrix, np.float32) * np.ravel(scale).astype(np.float32)
    return scaled.reshape(n_vertices, 3, -1)


def linear_albedo(
    mean: Float[np.ndarray, "V 3"], basis: Float[np.ndarray, "V 3 A"]
) -> tuple[Float[np.ndarray, "V 3"], Float[np.ndarray, "V 3 A"]]:
    """sRGB-encoded vertex colours and modes in [0, 1] as linear light: f(m) and f'(m) · mode, f the sRGB curve.

    The modes are exact to first order around the mean. The Basel files do not name their colour space; every renderer
    shows their numbers as sRGB.
    """
    m = np.clip(mean, 0, 1)
    curved = ((m + 0.055) / 1.055) ** 2.4
    slope = np.where(m <= 0.04045, 1 / 12.92, 2.4 / 1.055 * ((m + 0.055) / 1.055) ** 1.4)
    linear = np.where(m <= 0.04045, m / 12.92, curved)
    return linear.astype(np.float32), (basis * slope[..., None]).astype(np.float32)


def outwardness(vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"]) -> float:
    """Σ_f n_f · (c_f − o) / Σ_f |n_f| |c_f − o|, in [−1, 1]: positive if faces are counter-clockwise seen from outside.

    n_f is the area-weighted normal, c_f the middle of the face and o the middle of the mesh at its rearmost depth, so
    that the open shell of a face counts like a closed head.
    """
    a, b, c = (vertices[faces[:, k]].astype(float) for k in range(3))
    normal, origin = np.cross(b - a, c - a), vertices[np.unique(faces)].mean(0).astype(float)
    origin[2] = vertices[np.unique(faces), 2].min()
    spoke = (a + b + c) / 3 - origin
    return float((normal * spoke).sum() / (np.linalg.norm(normal, axis=1) * np.linalg.norm(spoke, axis=1)).sum())


def checked(model: MorphableModel, path: Path) -> MorphableModel:
    """The same model, or BadModel: finite, in millimetres, upright, looking along +z, subject's left at +x, outward."""
    for name in ("mean", "identity_basis", "expression_basis"):
        if not np.isfinite(getattr(model, name)).all():
            raise BadModel(f"{path}: {name} holds numbers that are not finite")
    if model.faces.min() < 0 or model.faces.max() >= model.n_vertices:
        raise BadModel(f"{path}: the faces use vertex {model.faces.max()}, but there are {model.n_vertices} vertices")
    points = model.landmarks(model.mean)
    right, left, brows = points[36:42].mean(0), points[42:48].mean(0), points[17:27].mean(0)
    distance = float(np.linalg.norm(left - right))
    if not EYE_DISTANCE[0] <= distance <= EYE_DISTANCE[1]:
        raise BadModel(
            f"{path}: the eye centres of the mean face are {distance:.6g} mm apart; expected "
            f"{EYE_DISTANCE[0]:.0f} to {EYE_DISTANCE[1]:.0f}: the file has another unit, or other landmarks"
        )
    if not (points[0, 0] < points[8, 0] < points[16, 0] and right[0] < left[0]):
        raise BadModel(f"{path}: the landmarks do not run from the subject's right (−x) to the left (+x)")
    if not (brows[1] > right[1] > points[48:60, 1].mean() > points[8, 1] and points[30, 2] > right[2]):
        raise BadModel(f"{path}: the mean face is not upright with its nose towards +z")
    if outwardness(model.mean, model.faces) <= 0:
        raise BadModel(f"{path}: the faces point inwards; expected counter-clockwise faces seen from outside")
    return model
