"""Choose the priors of the fit on the val split: `python studies/tune_priors.py` → results/fit-priors.json.

Three things are asked of a setting, each of people whom no network saw in training:

- Left-out points: half of the dense points of a photo are fitted and the other half predicted (percent of the face),
  which punishes too little and too much prior alike.
- Other photos: the shape from 1, 3 or 10 photos stays as it is while cameras and expressions are fitted to other photos
  of the person. How far the dense points of these then are from the shape's (percent of the face) says whether a shape
  is true, as far as points seen by one network can: that network's habits come back in every photo.
- Who is who: the shapes of disjoint sets of 1, 3 and 10 photos, as AUC of "same person" by distance in mm.

The average face and the shapes of other people stand beside them.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from sameface.metrics.verification import area_under_curve
from sameface.morphable import default
from sameface.morphable.points import Points
from sameface.photo.observe import points_of
from sameface.photo.predictor import load
from sameface.reconstruction.fit import Measured, Priors, fit
from table import Observed, observed

TITLE, RESULT = "The priors of the fit", Path("results/fit-priors.json")

TRIED = (
    {"identity": 1.0, "network": 0.0}, {"network": 0.0}, {"identity": 2.0}, {"identity": 4.0}, {}, {"identity": 16.0},
    {"identity": 32.0}, {"network": 0.4}, {"network": 0.6}, {"network": 0.8}, {"repeated": 0.0}, {"repeated": 1.0},
    {"expression": 5.0}, {"expression": 80.0}, {"distance": 8.0}, {"distance": 128.0},
)  # fmt: skip
"""everything else as chosen; the first is the fit of points alone"""
CHOSEN = (
    "the defaults of Priors, a balance: near the best AUC, while the shape of one photo predicts other photos of the "
    "person better than the average face does"
)
SETS, SETS_EACH, OTHER_PHOTOS = (1, 3, 10), 1, 8


def half(points: Points, measured: Measured, chosen: np.ndarray) -> tuple[Points, Measured]:
    errors = None if points.errors is None else points.errors[chosen]
    part = Points(points.mean[chosen], points.identity[chosen], points.expression[chosen], errors)
    return part, replace(measured, landmarks=measured.landmarks[:, chosen], sigma=measured.sigma[:, chosen])


def predicted_error(points: Points, measured: Measured, priors: Priors) -> float:
    """Percent of √(box area): points left out of single-photo fits."""
    fitted = np.arange(len(points.mean)) % 2 == 0
    answer = fit(*half(points, measured, fitted), priors, shared=False)
    other = points(answer.identity, answer.expression)[:, ~fitted]
    distance = np.linalg.norm(answer.camera.project(other) - measured.landmarks[:, ~fitted], axis=2)
    side = np.sqrt(np.ptp(measured.landmarks, axis=1).prod(1))
    return float(100 * np.mean(np.median(distance, axis=1) / side))


def sets_of(data: Observed, size: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(K, size) rows of disjoint sets of one person's photos, and each set's person."""
    rng, sets, persons = np.random.default_rng(seed), [], []
    for person in np.unique(data.person[data.person >= 0]):
        rows = rng.permutation(np.flatnonzero((data.person == person) & (data.quality > 0.1)))
        for k in range(min(len(rows) // size, 8)):
            sets.append(rows[k * size : (k + 1) * size])
            persons.append(person)
    return np.array(sets), np.array(persons)


def shapes_of(points: Points, data: Observed, priors: Priors, sets: np.ndarray) -> np.ndarray:
    """(K, S) the joint identity of each set."""
    owner = np.repeat(np.arange(len(sets)), sets.shape[1])
    return fit(points, data.seen[sets.reshape(-1)], priors, person=owner).identity[:: sets.shape[1]]


def verification(identity: np.ndarray, persons: np.ndarray, size: int) -> dict[str, float]:
    face = default().vertices(identity)[:, default().regions["face"]].reshape(len(identity), -1)
    i, j = np.triu_indices(len(identity), 1)
    distance = np.linalg.norm(face[i] - face[j], axis=1) / np.sqrt(default().regions["face"].sum())
    same = persons[i] == persons[j]
    return {
        f"auc of sets of {size}": area_under_curve(-distance, same),
        f"same mm, sets of {size}": float(distance[same].mean()),
        f"different mm, sets of {size}": float(distance[~same].mean()),
    }


def other_photos(data: Observed, sets: np.ndarray, persons: np.ndarray) -> tuple[list[int], list[np.ndarray]]:
    """Which sets to ask (the first SETS_EACH of a person), and for each up to OTHER_PHOTOS photos outside it."""
    asked, rows, rng = [], [], np.random.default_rng(0)
    for person in np.unique(persons):
        for k in np.flatnonzero(persons == person)[:SETS_EACH]:
            left = np.setdiff1d(np.flatnonzero((data.person == person) & (data.quality > 0.1)), sets[k])
            if len(left) >= OTHER_PHOTOS // 2:
                asked.append(int(k))
                rows.append(rng.permutation(left)[:OTHER_PHOTOS])
    return asked, rows


def transferred(points: Points, data: Observed, identity: np.ndarray, rows: list[np.ndarray]) -> float:
    """Percent of √(box area): mean distance of the points of `rows` from those of a known identity (K, S), under the
    cameras and expressions that bring them nearest: no error of theirs is explained away."""
    found, points = [], replace(points, errors=None)
    for one, photos in zip(identity, rows, strict=True):
        seen = data.seen[photos]
        answer = fit(points, seen, identity=one)
        far = answer.camera.project(points(answer.identity, answer.expression)) - seen.landmarks
        side = np.sqrt(np.ptp(seen.landmarks, axis=1).prod(1))
        found.append(np.mean(np.linalg.norm(far, axis=2).mean(1) / side))
    return 100 * float(np.mean(found))


def main() -> None:
    points, data = points_of(load("default")), observed("val", persons_only=True)
    sample = data[np.random.default_rng(0).permutation(len(data.row))[:400]]
    sets = {size: sets_of(data, size) for size in SETS}
    asked = {size: other_photos(data, *sets[size]) for size in SETS}
    table: list[dict[str, float]] = []

    def look(**settings: float) -> None:
        priors = Priors(**settings)  # type: ignore[arg-type]
        row = {name: getattr(priors, name) for name in ("identity", "network", "repeated", "expression", "distance")}
        row["left-out points, percent"] = predicted_error(points, sample.seen, priors)
        for size, (rows, persons) in sets.items():
            identity, (chosen, others) = shapes_of(points, data, priors, rows), asked[size]
            row |= verification(identity, persons, size)
            row[f"other photos, percent, sets of {size}"] = transferred(points, data, identity[chosen], others)
            if priors == Priors():
                strangers = np.roll(identity[chosen], SETS_EACH, axis=0)
                beside[f"shape of somebody else, sets of {size}"] = transferred(points, data, strangers, others)
        table.append(row)
        print(json.dumps({k: round(v, 4) for k, v in row.items()}), flush=True)

    nobody = np.zeros(points.identity.shape[2])
    beside = {
        f"average face, sets of {size}": transferred(points, data, np.tile(nobody, (len(rows), 1)), rows)
        for size, (_, rows) in asked.items()
    }
    for settings in TRIED:
        look(**settings)
    out = {"command": "python " + " ".join(["studies/tune_priors.py", *sys.argv[1:]]), "split": "val",
           "photos": len(data.row), "missed": data.missed, "chosen": CHOSEN, "other photos, percent": beside,
           "settings": table}  # fmt: skip
    RESULT.write_text(json.dumps(out, indent=1) + "\n")


def section(r: dict[str, Any]) -> list[Any]:
    names = list(r["settings"][0])
    rows = [[f"{s['identity']:g}", *(f"{s[name]:.3g}" for name in names[1:])] for s in r["settings"]]
    chosen = f" Chosen: {r['chosen']}." if "chosen" in r else ""
    beside = ", ".join(f"{name} {v:.3f}" for name, v in r["other photos, percent"].items())
    return [
        f"Settings of the fit's priors on the val split ({r['photos']} photos).{chosen} Other photos: how far the "
        f"points of other photos of the person are from the shape of a set. Beside them: {beside}.",
        (names, rows),
    ]


if __name__ == "__main__":
    main()
