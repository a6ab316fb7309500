"""Does the same person give the same shape? `python studies/identity_halves.py` → results/identity-halves.json.

Each test-split person's photos are dealt into two disjoint halves, each half is fitted to one identity, and halves are
compared: RMS over the face after the best rigid motion, mm. AUC: how often a person's two halves are nearer to each
other than halves of two persons. Also with k photos per set, and against points alone (the fit with the average face as
its prior) and what the identity network alone says (no fit).
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from sameface.metrics.verification import area_under_curve
from sameface.morphable import default
from sameface.morphable.points import Points
from sameface.photo.observe import points_of
from sameface.photo.predictor import load
from sameface.reconstruction.fit import fit
from sameface.training.fit_shard import PRIORS
from table import Observed, observed
from tune_priors import sets_of

TITLE, RESULT = "Same person, same shape", Path("results/identity-halves.json")


def distances(identity: np.ndarray) -> np.ndarray:
    """(K, K) mm RMS over the face after the best rigid motion."""
    model = default()
    shapes = model.vertices(identity)[:, model.regions["face"]].astype(np.float64)
    shapes -= shapes.mean(1, keepdims=True)
    square = (shapes**2).sum((1, 2))
    out = np.zeros((len(shapes), len(shapes)))
    for i, one in enumerate(shapes):
        u, s, vt = np.linalg.svd(np.einsum("va,kvb->kab", one, shapes))
        s[:, 2] *= np.sign(np.linalg.det(u @ vt))
        out[i] = np.sqrt(np.maximum(square[i] + square - 2 * s.sum(1), 0) / shapes.shape[1])
    return out


def compared(identity: np.ndarray, persons: np.ndarray) -> dict[str, float]:
    i, j = np.triu_indices(len(persons), 1)
    distance, same = distances(identity)[i, j], persons[i] == persons[j]
    return {"auc": area_under_curve(-distance, same), "same person, mean mm": float(distance[same].mean()),
            "different persons, mean mm": float(distance[~same].mean()), "same pairs": int(same.sum()),
            "different pairs": int((~same).sum())}  # fmt: skip


def fitted(points: Points, data: Observed, sets: list[np.ndarray]) -> dict[str, np.ndarray]:
    """One identity per set: of the fit, of the fit of points alone, and the plain mean of what the network said."""
    rows, owner = np.concatenate(sets), np.repeat(np.arange(len(sets)), [len(s) for s in sets])
    first = np.concatenate([[0], np.cumsum([len(s) for s in sets])[:-1]])
    return {
        "fit": fit(points, data.seen[rows], person=owner).identity[first],
        "points alone": fit(points, data.measured[rows], PRIORS, person=owner).identity[first],
        "network alone": np.stack([data.measured.identity[s].mean(0) for s in sets]),
    }


def main() -> None:
    points, data = points_of(load("default")), observed("test", persons_only=True)
    out: dict[str, object] = {
        "command": "python " + " ".join(["studies/identity_halves.py", *sys.argv[1:]]), "split": "test",
        "persons": len(np.unique(data.person)), "photos": len(data.row), "faces not found": data.missed,
    }  # fmt: skip
    rng, halves, persons = np.random.default_rng(0), [], []
    for person in np.unique(data.person):
        rows = rng.permutation(np.flatnonzero(data.person == person))
        halves += [rows[: len(rows) // 2], rows[len(rows) // 2 :]]
        persons += [person, person]
    for name, identity in fitted(points, data, halves).items():
        out[f"disjoint halves, {name}"] = compared(identity, np.array(persons))
    for size in (1, 2, 4, 8):
        sets, owners = sets_of(data, size)
        for name, identity in fitted(points, data, list(sets)).items():
            out[f"sets of {size}, {name}"] = compared(identity, owners)
    RESULT.write_text(json.dumps(out, indent=1) + "\n")
    print(json.dumps(out, indent=1))


def section(r: dict[str, Any]) -> list[Any]:
    rows = [
        [
            name,
            f"{v['auc']:.3f}",
            f"{v['same person, mean mm']:.2f}",
            f"{v['different persons, mean mm']:.2f}",
            str(v["same pairs"]),
            str(v["different pairs"]),
        ]
        for name, v in r.items()
        if isinstance(v, dict)
    ]
    return [
        f"{r['persons']} persons of the test split ({r['photos']} photos). Shapes from disjoint sets of photos, "
        "compared in mm RMS over the face after the best rigid motion; AUC: same or different person by it.",
        (["sets", "AUC", "same, mm", "different, mm", "same pairs", "different pairs"], rows),
    ]


if __name__ == "__main__":
    main()
