"""Is a stranger among a person's photos noticed? `python tools/outliers.py` → results/outliers.json.

Sets of five photos of a val-split person plus one of somebody else, and sets of six of the person: how often the
stranger is left out, and how often a photo of the person is left out by mistake.
"""

import json
import sys
from pathlib import Path

import numpy as np
from table import observed

from sameface.morphable import default
from sameface.photo.observe import points_of
from sameface.photo.predictor import load
from sameface.reconstruction import reconstruct
from sameface.reconstruction.fit import fit
from sameface.training.fit_shard import PRIORS

SETS = 300
TRIED = ((4.0, 2.5), (1.5, 2.5), (1.0, 2.0), (1.5, 2.0), (1.0, 1.75), (1.5, 1.75), (2.0, 1.75), (1.0, 1.5), (1.5, 1.5),
         (2.0, 1.5))  # fmt: skip
"""(reconstruct.FARTHEST, reconstruct.APART)"""
FIT, POINTS = "of the fit", "of points alone, as labels are made"


class Seen:
    """What `_consistent` needs of an observation."""

    def __init__(self, quality: float, photo: int):
        self.quality, self.photo = quality, str(photo)


def main() -> None:
    points, data, rng = points_of(load("default")), observed("val", persons_only=True), np.random.default_rng(0)
    alone = {FIT: fit(points, data.seen, shared=False), POINTS: fit(points, data.measured, PRIORS, shared=False)}
    people, counts = np.unique(data.person, return_counts=True)
    people, cases = people[counts >= 6], []
    for _ in range(SETS):
        person, stranger = rng.choice(people, 2, replace=False)
        mine = rng.choice(np.flatnonzero(data.person == person), 6, replace=False)
        cases.append((np.append(mine[:5], rng.choice(np.flatnonzero(data.person == stranger))), mine))
    chosen = reconstruct.FARTHEST, reconstruct.APART

    def kept(name: str, rows: np.ndarray) -> set[int]:
        seen = [Seen(float(data.quality[k]), int(k)) for k in rows]
        return set(reconstruct._consistent(seen, alone[name][rows], default())[0])  # type: ignore[arg-type]

    table = []
    for name, farthest, apart in [(POINTS, 4.0, 2.5), *((FIT, *pair) for pair in TRIED)]:
        reconstruct.FARTHEST, reconstruct.APART = farthest, apart
        mixed, pure = [kept(name, rows) for rows, _ in cases], [kept(name, mine) for _, mine in cases]
        table.append({
            "shapes": name, "mm": farthest, "× median": apart,
            "strangers left out": sum(5 not in keep for keep in mixed) / SETS,
            "own photos left out by mistake, with a stranger": sum(5 - len(keep - {5}) for keep in mixed) / (5 * SETS),
            "own photos left out by mistake, without": sum(6 - len(keep) for keep in pure) / (6 * SETS),
        })  # fmt: skip
    out = {"command": "python " + " ".join(["tools/outliers.py", *sys.argv[1:]]), "split": "val", "sets": SETS,
           "chosen": chosen, "table": table}  # fmt: skip
    Path("results/outliers.json").write_text(json.dumps(out, indent=1) + "\n")
    print(json.dumps(out, indent=1))


if __name__ == "__main__":
    main()
