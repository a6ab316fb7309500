"""Is a stranger among a person's photos noticed? `python tools/outliers.py` → results/outliers.json.

Sets of five photos of a val-split person plus one of somebody else, and sets of six of the person: how often the
stranger is left out, and how often a photo of the person is left out by mistake.
"""

import json
import sys
from pathlib import Path

import numpy as np
from table import observed

from sameface import reconstruction
from sameface.fit import fit
from sameface.morphable import default
from sameface.observe import points_of
from sameface.predictor import load

SETS = 300


class Seen:
    """What `_consistent` needs of an observation."""

    def __init__(self, quality: float, photo: int):
        self.quality, self.photo = quality, str(photo)


def main() -> None:
    points, data, rng = points_of(load("default")), observed("val", persons_only=True), np.random.default_rng(0)
    alone = fit(points, data.measured, shared=False)
    found, mistaken, mistaken_pure = 0, 0, 0
    for _ in range(SETS):
        person, stranger = rng.choice(np.unique(data.person), 2, replace=False)
        mine = rng.choice(np.flatnonzero(data.person == person), 6)
        rows = np.append(mine[:5], rng.choice(np.flatnonzero(data.person == stranger)))
        for pure, chosen in ((False, rows), (True, mine)):
            seen = [Seen(float(data.quality[k]), int(k)) for k in chosen]
            part = alone[chosen]
            keep, _ = reconstruction._consistent(seen, part, default())
            if pure:
                mistaken_pure += 6 - len(keep)
            else:
                found += 5 not in keep
                mistaken += sum(k not in keep for k in range(5))
    out = {
        "command": "python " + " ".join(["tools/outliers.py", *sys.argv[1:]]), "split": "val", "sets": SETS,
        "threshold mm": reconstruction.FARTHEST,
        "strangers left out": found / SETS,
        "own photos left out by mistake, with a stranger": mistaken / (5 * SETS),
        "own photos left out by mistake, without": mistaken_pure / (6 * SETS),
    }  # fmt: skip
    Path("results/outliers.json").write_text(json.dumps(out, indent=1) + "\n")
    print(json.dumps(out, indent=1))


if __name__ == "__main__":
    main()
