"""Photos of whole persons → rows of labels: measured, fitted alone, judged, and fitted together (Liu et al. 2018).

One piece of the work of `fit_set.py`, in one process. What cannot be right is rejected with its reason: no face where
the labels are, a picture that cannot be read, a face too poor to measure, a fit that is not close, a shape that
disagrees with the person's other photos.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from sameface.core.camera import WeakPerspective
from sameface.core.errors import NoFaceFound, SameFaceError, compared
from sameface.core.files import plain
from sameface.photo import MIN_SCORE
from sameface.photo.face import Observation, Photo
from sameface.photo.observe import observe, points_of
from sameface.photo.predictor import Predictor, Second, load
from sameface.reconstruction.agreement import disagreeing, reason
from sameface.reconstruction.copies import originals, why
from sameface.reconstruction.fit import Fit, Priors, fit
from sameface.reconstruction.reconstruct import measured
from sameface.training.datasets.labelled import name_of, parameters

__all__ = ["Options", "Record", "fit_shard", "look", "owners"]

FARTHEST_LABEL = 0.25
"""a found face whose middle is farther than this part of the labels' extent from theirs is another face"""

APART = 2.5
"""times the median distance of the person's other photos: what is nearer agrees with them"""
PRIORS = Priors(identity=1.0, network=0.0)
"""labels owe nothing to what a network says of the identity"""

Record = dict[str, Any]


@dataclass(frozen=True)
class Options:
    """What is fitted and what is rejected."""

    splits: tuple[str, ...] = ("train", "val")
    """Which splits of the data set. Ours: test is left alone, so that nobody learns from it by mistake."""
    predictor: str = "default"
    """Network that measures the photos: default, or the path of your own .onnx."""
    min_score: float = MIN_SCORE
    """Least score of a detected face, 0 to 1."""
    quality: float = 0.06
    """A photo of less is rejected (PoorPhoto): blurred, small or hidden. As in `sameface reconstruct`."""
    residual: float = 3.0
    """A photo whose fitted points are farther from the measured ones than this, median in percent of the face, is
    rejected (LargeResidual). Ours: docs/fit-set.md."""
    farthest: float = 4.0
    """mm: a photo whose own shape is this far, and 2.5 times as far as usual, from that of the person's others is
    rejected (Disagrees). As in `sameface reconstruct`."""
    shard: int = 512
    """Photos fitted at a time; more if a person has more."""
    limit: int = 0
    """Fit only the first persons, until there are so many photos; 0: all."""


def fit_shard(
    items: Any, split: str, rows: Iterable[int], network: Predictor, options: Options
) -> tuple[list[Record], dict[str, Any]]:
    """One record per row (columns of `labelled.schema`), and what it took.

    `rows` are all photos of the persons in them. The second is {cpu_seconds; alone, joint: the objective of both fits
    before the first and after each round; photos: how many each had}.
    """
    start, records, seen = time.process_time(), [], []
    person = getattr(items, "person", None)
    for row in rows:
        number = -1 if person is None else int(person[row])
        records.append({"split": split, "row": row, "name": name_of(items, row), "person": number, "kept": False})
        try:
            one = look(items, row, network, options.min_score)
        except SameFaceError as error:
            records[-1] |= {"reason": type(error).__name__, "message": plain(str(error))}
        except Exception as error:  # whatever a data set makes of a bad row is that row's reason
            records[-1] |= {
                "reason": "BadData",
                "message": f"the data set gave {type(error).__name__}: {plain(str(error))}",
            }
        else:
            seen.append(one)
            _quality(records[-1], one, options)
    faces = [record for record in records if "quality" in record]
    good = [k for k, record in enumerate(faces) if "reason" not in record]
    told = _fitted([faces[k] for k in good], [seen[k] for k in good], network, options)
    return records, {"cpu_seconds": time.process_time() - start, **told}


def look(items: Any, row: int, network: Predictor, min_score: float = MIN_SCORE) -> Observation:
    """The face that a data set's photo is about.

    Where the item has landmarks (any key that begins so), the found face nearest to them, if it is near enough; else
    the one with the largest area − 2 · (distance of its middle from the photo's)², the rule of facenet's
    align_dataset_mtcnn.py. Raises NoFaceFound; BadData or BadPhoto for a photo that cannot be read.
    """
    item, name = items[row], name_of(items, row)
    faces = observe(Photo(item["image"], name), network, second=Second(None, load("eyes")), min_score=min_score)
    labels = _given(item)
    if labels is None:
        middle = np.array(faces[0].size) / 2
        areas = [np.prod(one.box[2:] - one.box[:2]) for one in faces]
        away = [np.sum(((one.box[:2] + one.box[2:]) / 2 - middle) ** 2) for one in faces]
        chosen = faces[int(np.argmax(np.array(areas) - 2 * np.array(away)))]
    else:
        distance = [np.linalg.norm(one.landmarks.mean(0) - labels.mean(0)) for one in faces]
        chosen = faces[int(np.argmin(distance))]
        if min(distance) > FARTHEST_LABEL * np.ptp(labels, axis=0).max():
            raise NoFaceFound(f"no face in {name} where its labels are; the nearest is {min(distance):.0f} px away")
    return replace(chosen, picture=np.zeros((0, 0, 3), np.uint8))  # thousands of pictures would fill the memory


def owners(person: Int[np.ndarray, " N"]) -> Int[np.ndarray, " N"]:
    """The persons' numbers, with a new one for every −1, which is somebody unknown.

    >>> owners(np.array([7, -1, 7, -1])).tolist()
    [7, 8, 7, 9]
    """
    owner = person.astype(np.int64)
    unknown = np.flatnonzero(owner < 0)
    owner[unknown] = owner.max(initial=-1) + 1 + np.arange(len(unknown))
    return owner


# ── inside ─────────────────────────────────────────────────────────────────────────────────────────────────


def _fitted(records: list[Record], seen: list[Observation], network: Predictor, options: Options) -> dict[str, Any]:
    """Fill in the records of photos that are good enough; returns the objectives of both fits, round by round."""
    points, owner = points_of(network), owners(np.array([record["person"] for record in records], np.int64))
    told: dict[str, Any] = {"alone": [], "joint": [], "photos": [len(seen), 0]}
    if not seen:
        return told
    alone = fit(points, measured(seen, weak=True), PRIORS, shared=False)
    told["alone"] = list(alone.objective)
    kept = np.flatnonzero(_accepted(records, seen, alone, owner, options))
    if not len(kept):
        return told
    joint = fit(points, measured([seen[k] for k in kept], weak=True), PRIORS, person=owner[kept])
    for k, row in enumerate(kept):
        _residual(records[row], seen[row], float(joint.residual[k]), options)
        if "reason" not in records[row]:
            camera = joint.camera[k]
            assert isinstance(camera, WeakPerspective)
            records[row] |= _labels(camera, joint.identity[k], joint.expression[k], seen[row].size[1])
    return told | {"joint": list(joint.objective), "photos": [len(seen), len(kept)]}


def _accepted(
    records: list[Record], seen: list[Observation], alone: Fit, owner: np.ndarray, options: Options
) -> Bool[np.ndarray, " N"]:
    """Which photos to fit together: their own fit is close, they are no copies, and their own shape agrees with the
    person's others."""
    for record, one, residual in zip(records, seen, alone.residual, strict=True):
        _residual(record, one, float(residual), options)
    close = np.array(["reason" not in record for record in records])
    accepted, quality = close.copy(), np.array([one.quality for one in seen])
    for person in np.unique(owner[close]):
        mine = np.flatnonzero((owner == person) & close)
        original = mine[originals([seen[k] for k in mine])]
        for k, of in zip(mine, original, strict=True):
            if k != of:
                accepted[k] = False
                records[k] |= {"reason": "Copy", "message": why(str(records[of]["name"]))}
        mine = mine[original == mine]
        out, distance = disagreeing(alone.identity[mine], quality[mine], options.farthest, APART)
        accepted[mine[out]] = False
        for k, far in zip(mine, distance, strict=True):
            records[k]["from_others_mm"] = far if len(mine) > 1 else None
            if not accepted[k]:
                records[k] |= {"reason": "Disagrees", "message": reason(far)}
    return accepted


def _quality(record: Record, seen: Observation, options: Options) -> None:
    """Note a photo's quality, and reject it if that is too little."""
    record["quality"] = seen.quality
    if seen.quality < options.quality:
        found, least = compared(seen.quality, options.quality)
        why = f"the face is too blurred, small or hidden (quality {found}, below {least})"
        record |= {"reason": "PoorPhoto", "message": why}


def _residual(record: Record, seen: Observation, residual: float, options: Options) -> None:
    """Note how close a photo was fitted, and reject it if that is not close enough."""
    size = float(np.linalg.norm(np.ptp(seen.landmarks, axis=0)) / np.sqrt(2))
    record |= {"residual_percent": 100 * residual, "residual_px": residual * size}
    if 100 * residual > options.residual:
        found, most = compared(100 * residual, options.residual, 1)
        why = f"the fitted points are {found} % of the face off, more than {most} %"
        record |= {"reason": "LargeResidual", "message": why}


def _labels(camera: WeakPerspective, identity: np.ndarray, expression: np.ndarray, height: int) -> Record:
    """The labels of a photo that is kept."""
    return {
        "kept": True,
        "identity": identity,
        "expression": expression,
        "rotation": camera.rotation.ravel(),
        "translation": camera.translation,
        "scale": float(camera.scale),
        "params": parameters(camera, identity, expression, height),
    }


def _given(item: dict[str, Any]) -> np.ndarray | None:
    """The points that a data set gives for its face, px; None if it gives none."""
    for name, points in item.items():
        if name.startswith("landmarks"):
            flat = points[..., :2].reshape(-1, 2).astype(np.float64)
            if np.isfinite(flat).all():
                return flat
    return None
