"""Choose the priors of the fit on the val split: `python tools/tune_priors.py` → results/fit-priors.json.

Three things are asked of a setting. Half of the dense points are fitted and the other half predicted: the median error
of those (percent of the face), which punishes too little and too much prior alike. The shapes of disjoint
sets of three and of ten photos per person: AUC of "same person" by distance in mm, against sets of other persons. And
people drawn from the model, measured with the network's real errors (`views_curve.py`): the shape's error from one and
from eight photos.
"""

import itertools
import json
import sys
from pathlib import Path

import numpy as np
from table import Observed, observed
from views_curve import points_error, real_errors

from sameface.fit import Measured, Points, Priors, fit
from sameface.morphable import default
from sameface.observe import points_of
from sameface.predictor import load

IDENTITY = (0.3, 1.0, 3.0, 10.0)
REPEATED = (0.0, 0.5, 1.0)
CHOSEN = (
    "the defaults of Priors: identity 1, repeated 0.5, network 0, expression 20, a balance: near the best AUC for few "
    "photos and near the least shape error for many"
)
OTHERS = ({"network": 8.0}, {"network": 32.0}, {"expression": 5.0}, {"expression": 80.0})
"""tried one at a time at the best identity × repeated"""
SETS, PEOPLE = (3, 10), 24


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


def verification(points: Points, data: Observed, priors: Priors, size: int) -> dict[str, float]:
    sets, persons = sets_of(data, size)
    owner = np.repeat(np.arange(len(sets)), size)
    answer = fit(points, data.measured[sets.reshape(-1)], priors, person=owner)
    face = default().vertices(answer.identity[::size])[:, default().regions["face"]].reshape(len(sets), -1)
    i, j = np.triu_indices(len(sets), 1)
    distance = np.linalg.norm(face[i] - face[j], axis=1) / np.sqrt(default().regions["face"].sum())
    same = persons[i] == persons[j]
    return {
        f"auc of sets of {size}": auc(distance, same),
        f"same mm, sets of {size}": float(distance[same].mean()),
        f"different mm, sets of {size}": float(distance[~same].mean()),
    }


def main() -> None:
    points, data = points_of(load("default")), observed("val", persons_only=True)
    sample = data[np.random.default_rng(0).permutation(len(data.row))[:400]]
    table: list[dict[str, float]] = []
    errors = real_errors()

    def look(**settings: float) -> None:
        priors = Priors(**settings)  # type: ignore[arg-type]
        row = {name: getattr(priors, name) for name in ("identity", "repeated", "network", "expression")}
        row["left-out points, percent"] = predicted_error(points, sample.measured, priors)
        for size in SETS:
            row |= verification(points, data, priors, size)
        drawn = [points_error(np.random.default_rng((3, k)), errors, priors) for k in range(PEOPLE)]
        row |= {f"shape error mm, {n} photos": float(np.mean([errors_of[n] for errors_of in drawn])) for n in (1, 8)}
        table.append(row)
        print(json.dumps({k: round(v, 4) for k, v in row.items()}), flush=True)

    for identity, repeated in itertools.product(IDENTITY, REPEATED):
        look(identity=identity, repeated=repeated, network=0.0, expression=20.0)
    best = max(table, key=lambda row: sum(row[f"auc of sets of {size}"] for size in SETS))
    for other in OTHERS:
        look(**({name: best[name] for name in ("identity", "repeated", "network", "expression")} | other))
    out = {"command": "python " + " ".join(["tools/tune_priors.py", *sys.argv[1:]]), "split": "val",
           "photos": len(data.row), "missed": data.missed, "chosen": CHOSEN, "settings": table}  # fmt: skip
    Path("results/fit-priors.json").write_text(json.dumps(out, indent=1) + "\n")


if __name__ == "__main__":
    main()
