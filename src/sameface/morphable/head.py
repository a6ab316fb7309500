"""The whole head: our model, and what lies beyond the rim where fitting ends, in the same modes.

Photos say nothing of a scalp or a nape, so the model that is fitted ends before them; files that people open end where
a head ends. The first vertices of the whole head are the model's, in its order. At its rim vertices are there twice,
once for each chart of the texture; `extra["same_place"]` (V,) names the first vertex at each vertex's place.
"""

from functools import cache
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int

from sameface.core.geometry import rotation_from_axis_angle, vertex_normals
from sameface.core.npz import read_npz
from sameface.morphable import MorphableModel, default

__all__ = ["eye_centres", "join", "normals", "surface", "whole"]

_FILE = Path(__file__).parent.parent / "assets" / "head.npz"
LARGEST = 100_000_000
"""bytes, unpacked"""
LOOK = np.radians(25.0)
"""turn of the eyeballs at an eyeLook weight of 1 (our model's source leaves its eyeballs still)"""


def whole(model: MorphableModel) -> MorphableModel:
    """The closed head of the model that ships; any other model as it is, for nobody knows how its heads go on."""
    return _whole() if model is default() else model


@cache
def _whole() -> MorphableModel:
    return join(default(), read_npz(_FILE, LARGEST))


def join(model: MorphableModel, rest: dict[str, np.ndarray]) -> MorphableModel:
    """The model with the rest of its head: R vertices after its V.

    `mean` (R, 3) mm, `identity` (S, R, 3) and `expression` (E, R, 3) in the model's modes, `uv` (R, 2), `same_place`
    and `mirror` (R,), `faces`; numbers of vertices count from the model's first.
    """
    count, same = len(rest["mean"]), rest["same_place"]
    modes = (np.moveaxis(rest[name].astype(np.float32), 0, 2) for name in ("identity", "expression"))
    old = np.arange(model.n_vertices, dtype=np.int32)
    assert model.uv is not None
    assert model.mirror is not None
    sockets = np.isin(np.arange(count), rest["sockets"])
    regions = {name: np.concatenate([flags, np.zeros(count, bool)]) for name, flags in model.regions.items()}
    regions["sockets"][model.n_vertices :] = sockets
    regions["scalp"] = np.concatenate([np.zeros(model.n_vertices, bool), ~sockets])
    identity, expression = (
        np.concatenate(pair)
        for pair in zip((model.identity_basis, model.expression_basis), modes, strict=True)
    )  # fmt: skip
    mean = np.concatenate([model.mean, rest["mean"]])
    for values in (mean, identity, expression):  # the rim, to the last bit
        values[model.n_vertices :][same < model.n_vertices] = values[same[same < model.n_vertices]]
    return MorphableModel(
        name=f"{model.name}-head",
        licence=model.licence,
        mean=mean,
        identity_basis=identity,
        expression_basis=expression,
        faces=np.concatenate([model.faces, rest["faces"]]),
        landmark_faces=model.landmark_faces,
        landmark_weights=model.landmark_weights,
        expression_names=model.expression_names,
        expression_range=model.expression_range,
        contour_faces=model.contour_faces,
        contour_weights=model.contour_weights,
        mirror=np.concatenate([model.mirror, rest["mirror"]]),
        uv=np.concatenate([model.uv, rest["uv"]]),
        regions=regions,
        extra=model.extra | {"same_place": np.concatenate([old, same])},
    )


def surface(model: MorphableModel) -> Int[np.ndarray, "F 3"]:
    """The faces with every place counted once, so that the rim is no border."""
    same = model.extra.get("same_place")
    return model.faces if same is None else same[model.faces]


def normals(model: MorphableModel, vertices: Float[np.ndarray, "V 3"]) -> Float[np.ndarray, "V 3"]:
    """Unit normals of a shape of the model, the same for all vertices at one place."""
    out, same = vertex_normals(vertices, surface(model)), model.extra.get("same_place")
    return out if same is None else out[same]


def eye_centres(
    model: MorphableModel, vertices: Float[np.ndarray, "V 3"], scale: float = 1.0
) -> list[tuple[str, Bool[np.ndarray, " V"], Float[np.ndarray, " 3"]]]:
    """For a model with ARKit's eyeLook shapes, of each eyeball of a shape: Left or Right, its vertices, and the point
    about which these shapes turn it, mm (least squares). `scale` is that of the shape."""
    if not {"eyeLookUpLeft", "eyeLookInRight"} <= set(model.expression_names) or "eyeballs" not in model.regions:
        return []
    out = []
    for side, way in (("Left", 1), ("Right", -1)):
        mine = model.regions["eyeballs"] & (way * model.mean[:, 0] > 0)
        at = vertices[mine].astype(np.float64)
        left, right = [], []  # a turn about c moves p by (R - 1)(p - c)
        for name, axis in (("Up", [-LOOK, 0, 0]), ("In", [0, -way * LOOK, 0])):
            turn = rotation_from_axis_angle(np.array(axis, np.float64)) - np.eye(3)
            moves = scale * model.expression_basis[mine][..., model.expression_names.index(f"eyeLook{name}{side}")]
            left.append(turn)
            right.append((at @ turn.T - moves).mean(0))
        out.append((side, mine, np.linalg.lstsq(np.concatenate(left), np.concatenate(right), rcond=None)[0]))
    return out
