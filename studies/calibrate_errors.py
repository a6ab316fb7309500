"""What do measured points miss together? `python studies/calibrate_errors.py` → into `default.onnx`, and
results/calibrate-errors.json.

A network that sees a chin too low sees the jaw too low with it: the points of one photo are not so many witnesses. How
they err is learnt from people of the train split with many photos each. One shape is fitted to up to PHOTOS photos of a
person, weakly held, with cameras and expressions of their own; what each photo then misses is explained by a few modes,

    missed_l = R (E_l γ) + noise,   γ ~ N(0, I),   noise ~ N(0, (c σ_l)²),

R the first two rows of the photo's rotation, so that modes live in the model's frame (3D, mm) and one set serves every
yaw; mirrored photos count as well. E and c by expectation maximisation for factor analysis (Rubin & Thayer 1982),
residuals beyond FAR σ weighing less. Fits and modes take turns. The file gets E / c: the part c of the network's σ that
is left to each point alone is divided out, so that the objective keeps its form.
To be run after every `sameface export` of a network for points, before calibrate_verification.py.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sameface.morphable.points import Points
from sameface.photo.observe import points_of
from sameface.photo.predictor import load
from sameface.reconstruction.fit import Priors, fit
from sameface.training.export import annotate
from table import Observed, observed
from tune_priors import predicted_error, sets_of, shapes_of, verification

TITLE, RESULT = "What points miss together", Path("results/calibrate-errors.json")

MODES, TRIED = 24, (0, 24)
PHOTOS, FEWEST, TURNS, ROUNDS, RIDGE, FAR = 16, 5, 2, 20, 30.0, 2.5
"""photos of a person, at most and at least; of fits and modes; of each EM; its pull of modes to nothing; σ"""
WEAK = (Priors(identity=4.0, repeated=0.0), Priors(identity=1.0, repeated=0.0))
"""of the fits before there are modes, and with them: every photo counts as a witness of its own.
Held more firmly, what people differ by would be taken for errors"""
SIZES = (1, 4)
AT_ONCE = 256


class Missed(NamedTuple):
    """What the joint shapes miss in N photos, mm."""

    missed: np.ndarray
    """(N, L, 2)"""
    axes: np.ndarray
    """(N, 2, 3) the first rows of the rotations"""
    sigma: np.ndarray
    """(N, L)"""


def left_over(points: Points, data: Observed, priors: Priors) -> Missed:
    """What one shape for up to PHOTOS photos of a person leaves over in each, with no error explained."""
    rng, parts = np.random.default_rng(0), []
    for person in np.unique(data.person):
        rows = rng.permutation(np.flatnonzero(data.person == person))[:PHOTOS]
        if len(rows) < FEWEST:
            continue
        seen = data.seen[rows]
        found = fit(points, seen, priors)
        mm = found.camera.translation[:, 2] / found.camera.focal  # type: ignore[union-attr]
        missed = seen.landmarks - found.camera.project(points(found.identity, found.expression))
        parts.append((missed * mm[:, None, None], found.camera.rotation[:, :2], seen.sigma * mm[:, None]))
    return Missed(*map(np.concatenate, zip(*parts, strict=True)))


def mirrored(points: Points, seen: Missed) -> Missed:
    """The photos and their mirror images."""
    other, flip = points.mirrored, np.outer([-1, 1], [-1, 1, 1])
    flipped = Missed(seen.missed[:, other] * [-1, 1], seen.axes * flip, seen.sigma[:, other])
    return Missed(*map(np.concatenate, zip(seen, flipped, strict=True)))


def modes_of(seen: Missed, count: int, rounds: int = ROUNDS) -> tuple[np.ndarray, float]:
    """(L, 3, count) mm, the largest first, and c."""
    n, points = seen.sigma.shape
    modes, c = 0.3 * np.random.default_rng(0).normal(size=(points, 3, count)), 0.7
    for _ in range(rounds):
        normal, slope = np.zeros((points, (3 * count) ** 2)), np.zeros((points, 3 * count))
        second, left = np.zeros((count, count)), 0.0
        for begin in range(0, n, AT_ONCE):
            missed, axes, sigma = (part[begin : begin + AT_ONCE] for part in seen)
            flat, weight = np.einsum("nak,lkr->nlar", axes, modes, optimize=True), 1 / (c * sigma) ** 2
            for _ in range(2):
                weighted = weight[..., None, None] * flat
                spread = np.linalg.inv(np.einsum("nlar,nlas->nrs", weighted, flat, optimize=True) + np.eye(count))
                mean = (spread @ np.einsum("nlar,nla->nr", weighted, missed, optimize=True)[..., None])[..., 0]
                rest = missed - np.einsum("nlar,nr->nla", flat, mean, optimize=True)
                far = np.linalg.norm(rest, axis=2) / (c * sigma)
                weight = np.minimum(1, FAR / np.maximum(far, 1e-9)) / (c * sigma) ** 2
            both = mean[:, :, None] * mean[:, None] + spread
            second += both.sum(0)
            frames = np.einsum("nak,nam->nkm", axes, axes)
            normal += weight.T @ np.einsum("nkm,nrs->nkrms", frames, both).reshape(len(axes), -1)
            pulled = np.einsum("nak,nla->nlk", axes, missed)
            slope += np.einsum("nl,nlk,nr->lkr", weight, pulled, mean, optimize=True).reshape(points, -1)
            unsure = np.einsum("nlar,nrs,nlas->nl", flat, spread, flat, optimize=True)
            left += float((weight * ((rest**2).sum(2) + unsure)).sum())
        square = normal.reshape(points, 3 * count, 3 * count) + RIDGE * np.eye(3 * count)
        modes = np.linalg.solve(square, slope[..., None])[..., 0].reshape(points, 3, count)
        modes = modes @ np.linalg.cholesky(second / n)
        c *= np.sqrt(left / (2 * seen.sigma.size))
    u, size, _ = np.linalg.svd(modes.reshape(-1, count), full_matrices=False)
    return (u * size).reshape(modes.shape), float(c)


def with_modes(points: Points, data: Observed, count: int) -> tuple[Points, float]:
    """The points with so many modes of errors, learnt from these photos; and c."""
    points, c = replace(points, errors=None), 1.0
    for turn in range(TURNS if count else 0):
        modes, c = modes_of(mirrored(points, left_over(points, data, WEAK[min(turn, 1)])), count)
        points = replace(points, errors=modes / c)
        print(count, "modes, c", round(c, 3), "mm", np.sqrt((modes**2).sum(1).mean(0)).round(2).tolist(), flush=True)
    return points, c


def main() -> None:
    network = load("default")
    train, val = (observed(split, persons_only=True, every=every) for split, every in (("train", 2), ("val", 1)))
    sample, rows = val[np.random.default_rng(0).permutation(len(val.row))[:400]], []
    for count in TRIED:
        points, c = with_modes(points_of(network), train, count)
        row = {"modes": count, "c": c, "left-out points, percent": predicted_error(points, sample.seen, Priors())}
        for size in SIZES:
            sets, persons = sets_of(val, size)
            row |= verification(shapes_of(points, val, Priors(), sets), persons, size)
        rows.append(row)
        print(json.dumps(rows[-1], indent=1), flush=True)
        if count == MODES:
            assert points.errors is not None
            described = points.errors.transpose(2, 0, 1).round(3).tolist()
    annotate(network.path, {"point_errors_mm": described})
    about = {"people": len(np.unique(train.person)), "photos": len(train.row)}
    out = {"command": "python studies/calibrate_errors.py", "learnt from": about, "chosen": MODES, "val": rows}
    RESULT.write_text(json.dumps(out, indent=1) + "\n")


def section(r: dict[str, Any]) -> list[Any]:
    names = [name for name in r["val"][0] if name not in ("modes", "c")]
    rows = [[str(v["modes"]), f"{v['c']:.2f}", *(f"{v[name]:.3f}" for name in names)] for v in r["val"]]
    return [
        "What the points of a photo miss together, in so many modes, learnt from "
        f"{r['learnt from']['photos']} photos of {r['learnt from']['people']} people; {r['chosen']} ship. c: the part "
        "of the network's σ that is left to each point alone. Beside it, of people of the val split: how far points "
        "are from where the other half of a photo's points puts them (percent of the face), and who is who by shapes "
        "of 1 and of 4 photos. Both with the prior that ships; without modes it would have to be four times as strong "
        "(λ_id 32) to know people as well.",
        (["modes", "c", *names], rows),
    ]


if __name__ == "__main__":
    main()
