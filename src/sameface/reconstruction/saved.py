"""A written answer read again: result.json, face.npz, or the folder with both."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from sameface.core.camera import Perspective
from sameface.core.errors import BadData
from sameface.core.files import read_bytes
from sameface.core.npz import read_npz
from sameface.morphable import MorphableModel, default
from sameface.photo.face import Observation
from sameface.reconstruction.result import RESULT_VERSION, Reconstruction, View

__all__ = ["read_result"]

LARGEST = 1 << 28
"""bytes of the largest file that is read"""
MOST_SKIN = 1 << 14
"""px of the longest side of a skin"""
SKIN = "neutral.png"
BROKEN = (ValueError, KeyError, TypeError, AttributeError, RecursionError, IndexError)


def read_result(path: Path, model: MorphableModel | None) -> Reconstruction:
    """What `Reconstruction.load` does. Raises BadData."""
    if path.is_dir():
        answer = _with_arrays(path / "result.json", model)
    elif path.suffix.lower() == ".npz":
        answer = _from_arrays(path, model)[0]
    else:
        answer = _from_json(path, read_bytes(path, LARGEST), model)
    skin = (path if path.is_dir() else path.parent) / SKIN
    if skin.is_file():
        vars(answer)["texture"] = _skin(skin)  # where `cached_property` keeps it
    return answer


def _with_arrays(path: Path, model: MorphableModel | None) -> Reconstruction:
    """result.json, with the numbers of face.npz, which are not rounded, where it lies beside and is of the same run."""
    answer, beside = _from_json(path, read_bytes(path, LARGEST), model), path.with_name("face.npz")
    if not beside.is_file():
        return answer
    exact, text = _from_arrays(beside, model)
    if json.loads(text) != json.loads(read_bytes(path, LARGEST)):
        raise BadData(f"{path} and {beside} are of different runs; load the one that you mean")
    return exact


def _from_json(path: Path, text: bytes | str, model: MorphableModel | None) -> Reconstruction:
    try:
        told = json.loads(text)
        if told["format"] != "sameface-result" or told["version"] != RESULT_VERSION:
            raise KeyError("format")
        name = told["model"]
    except BROKEN:
        raise BadData(f"{path} is no result.json (version {RESULT_VERSION}) of `sameface reconstruct`") from None
    model = default() if model is None else model
    if name != model.name:
        raise BadData(f"{path} belongs to the model {name!r}, not to {model.name!r}: give that one as model=")
    try:
        answer = Reconstruction(
            identity=_numbers(told["identity"], model.n_identity),
            views=tuple(_view(one, model) for one in told["views"]),
            model=model, predictor=str(told["predictor"]),
            scale=float(_numbers([told["scale"]["factor"]], 1)[0]), scale_from=str(told["scale"]["from"]),
            dropped=tuple((str(one["photo"]), str(one["problem"]), str(one["message"])) for one in told["dropped"]),
            notes=tuple(str(note) for note in told["notes"]),
        )  # fmt: skip
    except BROKEN as error:
        raise BadData(
            f"{path} is a result.json with something missing or odd in it ({error!r}): make it anew"
        ) from None
    if not answer.views or answer.scale <= 0:
        raise BadData(f"{path} has no photos, or a scale that is not positive: make it anew")
    return answer


def _numbers(values: Any, *shape: int) -> np.ndarray:
    out = np.array(values, np.float64)
    if out.shape != shape or not np.isfinite(out).all():
        raise ValueError(f"{shape} finite numbers were expected, not {out.shape}")
    return out


def _view(told: dict[str, Any], model: MorphableModel) -> View:
    """The network's own answers and the photo are not in the file: they are NaN, and empty."""
    size, camera = (int(told["size"][0]), int(told["size"][1])), told["camera"]
    focal = float(_numbers([camera["focal_px"]], 1)[0])
    lens = Perspective(
        _numbers(camera["rotation"], 3, 3), _numbers(camera["translation"], 3), np.array(focal),
        _numbers(camera["center"], 2), size,
    )  # fmt: skip
    weights = np.zeros(model.n_expression)
    for name, weight in told["expression"].items():
        weights[model.expression_names.index(name)] = weight
    unknown = np.full(model.n_identity, np.nan)
    known = camera["focal_from"] != "estimated"
    apart = told["disagreement_mm"]
    seen = Observation(
        photo=str(told["photo"]), size=size, focal=focal if known else None, box=_numbers(told["box"], 4),
        score=float(told["score"]), landmarks=np.zeros((0, 2)), sigma=np.zeros(0), identity=unknown,
        expression=np.full(model.n_expression, np.nan), camera=lens.weak, quality=float(told["quality"]),
        picture=np.zeros((0, 0, 3), np.uint8), to_picture=np.eye(2, 3),
        focal_from=str(camera["focal_from"]) if known else "given",
    )  # fmt: skip
    return View(
        seen=seen, camera=lens, expression=_numbers(weights, model.n_expression),
        landmarks=_numbers(told["landmarks"], 68, 2), residual=float(told["residual"]), identity_alone=unknown,
        disagreement=0.0 if apart is None else float(apart),
    )  # fmt: skip


def _from_arrays(path: Path, model: MorphableModel | None) -> tuple[Reconstruction, str]:
    """face.npz holds the text of result.json too; its arrays are not rounded."""
    names = ("result", "identity", "expression", "rotation", "landmarks", "identity_alone", "disagreement", "scale")
    found = read_npz(path, LARGEST, only=names)
    if found.keys() != set(names):
        raise BadData(f"{path} is no face.npz of `sameface reconstruct`, or one of an older version")
    text, *arrays = (found[name] for name in names)
    answer = _from_json(path, str(text), model)
    model, count = answer.model, len(answer.views)
    shapes = ((model.n_identity,), (count, model.n_expression), (count, 3, 3), (count, 68, 2),
              (count, model.n_identity), (count,), ())  # fmt: skip
    try:
        identity, *each, scale = (_numbers(one, *shape) for one, shape in zip(arrays, shapes, strict=True))
    except BROKEN as error:
        raise BadData(f"{path} has an array of another shape, or not of numbers ({error}): make it anew") from None
    views = tuple(
        replace(view, expression=expression, camera=replace(view.camera, rotation=rotation), landmarks=landmarks,
                identity_alone=alone, disagreement=float(apart))
        for view, expression, rotation, landmarks, alone, apart in zip(answer.views, *each, strict=True)
    )  # fmt: skip
    return replace(answer, identity=identity, views=views, scale=float(scale)), str(text)


def _skin(path: Path) -> np.ndarray:
    """A square sRGB picture."""
    content = np.frombuffer(read_bytes(path, LARGEST), np.uint8)
    sides = np.frombuffer(content[16:24].tobytes(), ">u4")  # of a PNG, before anything is decoded
    if content[:8].tobytes() != b"\x89PNG\r\n\x1a\n" or len(sides) < 2 or not 0 < sides.max() <= MOST_SKIN:
        raise BadData(f"{path} is no picture of a skin: it is made beside neutral.obj; take it away, or make it anew")
    pixels = cv2.imdecode(content, cv2.IMREAD_COLOR)
    if pixels is None:
        raise BadData(f"{path} is a damaged picture; take it away, or make it anew")
    return np.ascontiguousarray(pixels[..., ::-1])
