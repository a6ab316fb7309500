"""How fast the fit converges, and what fit-set made of a data set → results/fit-set.json.

    python studies/fit_set.py convergence
    python studies/fit_set.py labels runs/labels/labels.json

`convergence`: persons of the face table's train split, some photos of each. Our rounds (Gauss-Newton steps in which
the camera moves along with the expression, and both with the identity) against the alternation of Liu et al. 2018, sec.
3.3.2: cameras, then expressions, then identities, the rest fixed each time, beginning at zero. Both minimise the same
objective: once ours, with priors and robust weights, once eq. 7 as printed, the plain sum of squared distances.
`labels`: the summary that fit-set wrote, without the folders of this machine.
"""

import json
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from sameface.core.errors import NoFaceFound
from sameface.morphable.points import Points
from sameface.photo.observe import points_of
from sameface.photo.predictor import load
from sameface.reconstruction.agreement import millimetres
from sameface.reconstruction.cameras import fit_cameras
from sameface.reconstruction.fit import Measured, Priors, _boxed, _descend, _per_owner, _State
from sameface.reconstruction.reconstruct import measured
from sameface.training.datasets import facetable
from sameface.training.fit_shard import PRIORS, Options, look
from table import SHARED

TITLE, RESULT = "Labels at scale", Path("results/fit-set.json")

PERSONS, PHOTOS = 200, 3
ROUNDS = {"ours": 10, "alternating": 20}
PLAIN = Priors(identity=1e-6, repeated=0.0, network=0.0, expression=1e-6, huber=1e6)
"""eq. 7 as printed; what is left of the priors only keeps the solution unique"""
NO_CHANGE, NEAR = (1e-2, 1e-4), 0.01
"""of the objective: fallen by no more than this share in a round; as near as this to the least that was found"""


class Ours(_State):
    """The rounds of `sameface.reconstruction.fit`."""

    def round(self) -> None:
        self.step_identity()
        self.step_expression()


class Alternating(_State):
    """Three blocks in turn, beginning with neither identity nor expression."""

    def __init__(self, model: Points, seen: Measured, priors: Priors, owner: np.ndarray):
        super().__init__(model, seen, priors, owner)
        self.identity, self.expression = np.zeros_like(self.identity), np.zeros_like(self.expression)
        self.look()
        self.only_cameras(10)

    def round(self) -> None:
        self.only_cameras(4)
        self.only_expression()
        self.only_identity()

    def only_cameras(self, rounds: int) -> None:
        seen, huber = self.measured, self.priors.huber
        self.camera = fit_cameras(self.shape, seen.landmarks, seen.sigma, self.camera, rounds=rounds, huber=huber)
        self.look()

    def of_the_face(self, columns: slice) -> tuple[np.ndarray, ...]:
        """Hessian and gradient in some coefficients of the face."""

        def reduced(part: slice) -> tuple[np.ndarray, ...]:
            normal = self.normal(part, columns)
            return normal[:, 6:-1, 6:-1], normal[:, 6:-1, -1]

        return self.by_parts(reduced)

    def only_expression(self) -> None:
        count, pull, start = self.expression.shape[1], self.priors.expression, self.expression
        hessian, gradient = self.of_the_face(slice(count))
        gradient = gradient + pull * (self.measured.expression - start)
        delta = _boxed(hessian + pull * np.eye(count), gradient, start) - start

        def at(step: np.ndarray) -> np.ndarray:
            self.expression = start + step[:, None] * delta
            return self.look()

        _descend(at, self.cost)

    def only_identity(self) -> None:
        hessian, gradient = self.of_the_face(slice(self.expression.shape[1], None))
        ridge, start = self.ridge[:, None], self.identity
        total = _per_owner(hessian, self.owner) + ridge[:, :, None] * np.eye(start.shape[1])
        slope = _per_owner(gradient, self.owner) - ridge * start
        delta = np.linalg.solve(total, slope[..., None])[..., 0]

        def at(step: np.ndarray) -> np.ndarray:
            self.identity = start + step[:, None] * delta
            self.look()
            return self.per_person()

        _descend(at, self.per_person())


def run(state: _State, rounds: int) -> dict[str, list]:
    """Objective, identities and seconds of the processor from the start to the last round."""
    begun = time.process_time()
    out: dict[str, list] = {"objective": [state.objective()], "identity": [state.identity], "seconds": [0.0]}
    for _ in range(rounds):
        state.round()
        out["objective"].append(state.objective())
        out["identity"].append(state.identity)
        out["seconds"].append(time.process_time() - begun)
    return out


def first(true: np.ndarray, offset: int) -> int | None:
    """Where it is true for the first time, counted from `offset`; None if never."""
    return int(np.argmax(true)) + offset if true.any() else None


def compared(points: Points, seen: Measured, priors: Priors, owner: np.ndarray) -> dict[str, object]:
    runs = {
        "ours": run(Ours(points, seen, priors, owner), ROUNDS["ours"]),
        "alternating": run(Alternating(points, seen, priors, owner), ROUNDS["alternating"]),
    }
    least = min(min(found["objective"]) for found in runs.values())
    best = min(runs.values(), key=lambda found: found["objective"][-1])["identity"][-1]
    out: dict[str, object] = {"least objective per photo": least / len(owner)}
    for name, found in runs.items():
        objective = np.array(found["objective"])
        fallen = 1 - objective[1:] / objective[:-1]
        still = {f"rounds until it falls by less than {share:g}": first(fallen < share, 1) for share in NO_CHANGE}
        near = first(objective <= (1 + NEAR) * least, 0)
        apart = [np.linalg.norm((one - best) @ millimetres(), axis=1) for one in found["identity"]]
        out[name] = {
            "objective per photo": [round(float(value) / len(owner), 3) for value in objective],
            "median distance from the best identity, mm": [round(float(np.median(one)), 3) for one in apart],
            **still,
            f"rounds until {100 * NEAR:g} % above the least": near,
            "ms of one core per photo and round": 1000 * found["seconds"][-1] / (len(objective) - 1) / len(owner),
        }
    return out


def photos() -> tuple[Measured, np.ndarray]:
    """What the network says of some photos of each person, and whose they are."""
    data, network, seen, owner = facetable.load(SHARED / "data" / "faces", "train"), load("default"), [], []
    counts = np.bincount(data.person[data.person >= 0])
    for person in np.flatnonzero(counts >= PHOTOS)[:: max(1, (counts >= PHOTOS).sum() // PERSONS)][:PERSONS]:
        for row in np.flatnonzero(data.person == person)[:PHOTOS].tolist():
            try:
                one = look(data, row, network)
            except NoFaceFound:
                continue
            if one.quality >= Options().quality:
                seen.append(one)
                owner.append(person)
    return measured(seen), np.unique(owner, return_inverse=True)[1]


def convergence() -> dict[str, object]:
    points, (seen, owner) = points_of(load("default")), photos()
    even = replace(seen, sigma=np.ones_like(seen.sigma))
    return {
        "split": "train", "persons": int(owner.max()) + 1, "photos": len(owner), "points": len(points.mean),
        "priors": asdict(PRIORS),
        "with priors and robust weights": compared(points, seen, PRIORS, owner),
        "eq. 7 as printed": compared(points, even, PLAIN, owner),
    }  # fmt: skip


def labels(path: Path) -> dict[str, object]:
    """The summary of a fit-set, with the rate of its last call."""
    about = json.loads(path.read_text(encoding="utf-8"))
    name, _, folder = about["data"].partition(":")
    last = about["last_call"]
    rate = {"seconds for 10,000 photos": 1e4 * last["wall_seconds"] / last["photos"]} if last["photos"] else {}
    rate["ms of one core per photo"] = 1000 * about["cpu_seconds"] / about["photos"]
    return about | {"data": f"{Path(name).name}:{Path(folder).name}", "last_call": last | rate}


COMMANDS = (
    "sameface fit-set facetable:DATA/faces --out LABELS --splits train --limit 10000",
    "python studies/fit_set.py convergence", "python studies/fit_set.py labels LABELS/labels.json",
)  # fmt: skip


def main() -> None:
    if sys.argv[1:] == ["convergence"]:
        part = convergence()
    elif sys.argv[1:2] == ["labels"] and len(sys.argv) == 3:
        part = labels(Path(sys.argv[2]))
    else:
        sys.exit(__doc__)
    out = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    out |= {"command": list(COMMANDS), sys.argv[1]: part}
    RESULT.write_text(json.dumps(out, indent=1, ensure_ascii=False) + "\n")
    print(json.dumps(part, indent=1, ensure_ascii=False))


def section(r: dict[str, Any]) -> list[Any]:
    c, done = r["convergence"], r["labels"]
    ours, theirs = (c["with priors and robust weights"][name] for name in ("ours", "alternating"))
    least = c["with priors and robust weights"]["least objective per photo"]
    rounds = (0, 1, 2, 3, 5, 7, 10)
    rows = [
        [name, *(f"{100 * (way['objective per photo'][k] / least - 1):.2f} %" for k in rounds)]
        for name, way in (("ours (all at once)", ours), ("the paper's alternation", theirs))
    ]
    rejected = ", ".join(f"{count} {reason}" for reason, count in done["rejected"].items())
    residual = ", ".join(
        f"{name} %: {v:.2f}" for name, v in done["percentiles of kept photos"]["residual_percent"].items()
    )
    last = done["last_call"]
    return [
        f"Objective above the least found, by round; {c['persons']} persons, {c['photos']} photos, {c['points']} "
        "points, same objective with the same priors. The paper alternates between cameras, expressions and identity "
        "and reports about seven rounds.",
        (["above the least, after round", *map(str, rounds)], rows),
        f"Labels for {done['photos']} photos of {done['persons']} persons: {done['kept']} kept; rejected: {rejected}. "
        f"Residual in percent of the face, percentiles: {residual}.",
        f"10,000 photos take {last['seconds for 10,000 photos']:.0f} s with {last['workers']} processes on two cores.",
    ]


if __name__ == "__main__":
    main()
