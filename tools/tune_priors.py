"""Choose the priors of the fit on the val split: `python tools/tune_priors.py` → results/fit-priors.json.

Two things are asked of a setting. Half of the dense points are fitted and the other half predicted: the median error of
the predicted ones (percent of the face), which punishes too little and too much prior alike. And the shapes of disjoint
sets of three photos per person: AUC of "same person" by distance in mm, against sets of other persons.
"""

import itertools
import json
import sys
from pathlib import Path

import numpy as np
from table import Observed, observed

from sameface.fit import Measured, Points, Priors, fit
from sameface.morphable import default
from sameface.observe import points_of
from sameface.predictor import load

IDENTITY = (2.0, 8.0, 32.0, 128.0)
NETWORK = (0.0, 8.0, 32.0)
EXPRESSION = (20.0, 5.0, 80.0)
"""the first is used for every identity × network; the others only at the best of those"""
PHOTOS_PER_SET = 3


def half(points: Points, measured: Measured, chosen: np.ndarray) -> tuple[Points, Measured]:
    part = Points(points.mean[chosen], points.identity[chosen], points.expression[chosen])
    return part, Measured(
        measured.landmarks[:, chosen],
        measured.sigma[:, chosen],
        measured.identity,
        measured.expression,
        measured.camera,
    )


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


def auc(distance: np.ndarray, same: np.ndarray) -> float:
    """Probability that a same-person pair is nearer than a different-person pair."""
    order = np.argsort(distance, kind="stable")
    rank = np.empty(len(order))
    rank[order] = np.arange(1, len(order) + 1)
    n = same.sum()
    return float(1 - (rank[same].sum() - n * (n + 1) / 2) / (n * (~same).sum()))


def verification(points: Points, data: Observed, priors: Priors) -> dict[str, float]:
    sets, persons = sets_of(data, PHOTOS_PER_SET)
    owner = np.repeat(np.arange(len(sets)), PHOTOS_PER_SET)
    answer = fit(points, data.measured[sets.reshape(-1)], priors, person=owner)
    face = default().vertices(answer.identity[::PHOTOS_PER_SET])[:, default().regions["face"]].reshape(len(sets), -1)
    i, j = np.triu_indices(len(sets), 1)
    distance = np.linalg.norm(face[i] - face[j], axis=1) / np.sqrt(default().regions["face"].sum())
    same = persons[i] == persons[j]
    return {"auc": auc(distance, same), "same_mm": float(distance[same].mean()),
            "different_mm": float(distance[~same].mean())}  # fmt: skip


def main() -> None:
    points, data = points_of(load("default")), observed("val", persons_only=True)
    sample = data[np.random.default_rng(0).permutation(len(data.row))[:400]]
    table: list[dict[str, float]] = []

    def look(identity: float, network: float, expression: float) -> None:
        priors = Priors(identity=identity, network=network, expression=expression)
        row = {"identity": identity, "network": network, "expression": expression,
               "predicted_points_percent": predicted_error(points, sample.measured, priors)}  # fmt: skip
        table.append(row | verification(points, data, priors))
        print(json.dumps({k: round(v, 4) for k, v in table[-1].items()}), flush=True)

    for identity, network in itertools.product(IDENTITY, NETWORK):
        look(identity, network, EXPRESSION[0])
    best = max(table, key=lambda row: row["auc"])
    for expression in EXPRESSION[1:]:
        look(best["identity"], best["network"], expression)
    out = {"command": "python " + " ".join(["tools/tune_priors.py", *sys.argv[1:]]), "split": "val",
           "photos": len(data.row), "missed": data.missed, "settings": table}  # fmt: skip
    Path("results/fit-priors.json").write_text(json.dumps(out, indent=1) + "\n")


if __name__ == "__main__":
    main()
