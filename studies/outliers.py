"""Is a stranger among a person's photos noticed? `python studies/outliers.py` → results/outliers.json.

Sets of five photos of a val-split person plus one of somebody else, and sets of six of the person: how often the
stranger is left out, and how often a photo of the person is left out by mistake.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from sameface.photo.observe import points_of
from sameface.photo.predictor import load
from sameface.reconstruction import reconstruct
from sameface.reconstruction.agreement import disagreeing
from sameface.reconstruction.fit import fit
from sameface.training.fit_shard import PRIORS
from table import observed

TITLE, RESULT = "Strangers among the photos", Path("results/outliers.json")

SETS = 300
TRIED = ((4.0, 2.5), (1.5, 2.5), (1.0, 2.0), (1.5, 2.0), (1.0, 1.75), (1.5, 1.75), (1.75, 1.75), (2.0, 1.75),
         (1.0, 1.5), (1.5, 1.5), (1.75, 1.5), (2.0, 1.5))  # fmt: skip
"""(reconstruct.FARTHEST, reconstruct.APART)"""
FIT, POINTS = "of the fit", "of points alone, as labels are made"


def main() -> None:
    points, data, rng = points_of(load("default")), observed("val", persons_only=True), np.random.default_rng(0)
    alone = {FIT: fit(points, data.seen, shared=False), POINTS: fit(points, data.measured, PRIORS, shared=False)}
    people, counts = np.unique(data.person, return_counts=True)
    people, cases = people[counts >= 6], []
    for _ in range(SETS):
        person, stranger = rng.choice(people, 2, replace=False)
        mine = rng.choice(np.flatnonzero(data.person == person), 6, replace=False)
        cases.append((np.append(mine[:5], rng.choice(np.flatnonzero(data.person == stranger))), mine))

    def left_out(name: str, rows: np.ndarray, farthest: float, apart: float) -> list[int]:
        return disagreeing(alone[name].identity[rows], data.quality[rows], farthest, apart)[0]

    table = []
    for name, *limits in [(POINTS, 4.0, 2.5), *((FIT, *pair) for pair in TRIED)]:
        mixed, pure = ([left_out(name, case[k], *limits) for case in cases] for k in (0, 1))
        table.append({
            "shapes": name, "mm": limits[0], "× median": limits[1],
            "strangers left out": sum(5 in out for out in mixed) / SETS,
            "own photos left out by mistake, with a stranger": sum(len({*out} - {5}) for out in mixed) / (5 * SETS),
            "own photos left out by mistake, without": sum(map(len, pure)) / (6 * SETS),
        })  # fmt: skip
    out = {"command": "python " + " ".join(["studies/outliers.py", *sys.argv[1:]]), "split": "val", "sets": SETS,
           "chosen": (reconstruct.FARTHEST, reconstruct.APART), "table": table}  # fmt: skip
    RESULT.write_text(json.dumps(out, indent=1) + "\n")
    print(json.dumps(out, indent=1))


def section(r: dict[str, Any]) -> list[Any]:
    names = list(r["table"][0])
    rows = [[*(str(row[n]) for n in names[:3]), *(f"{100 * row[n]:.1f} %" for n in names[3:])] for row in r["table"]]
    return [
        f"{r['sets']} sets of five photos of a person and one of a stranger (val split). A photo is left out when its "
        "own shape is farther from the others' than so many mm, and than so many times what they usually are from "
        f"each other. Chosen: {r['chosen'][0]} mm and {r['chosen'][1]} times.",
        (names, rows),
    ]


if __name__ == "__main__":
    main()
