"""Are eyes shut that are shut, and mouths as they are? `python studies/expressions.py runs/points --today today.onnx` →
results/expressions.json.

runs/points is a folder of the data set `pointlabels`, today.onnx the network for points that shipped before there was a
second look at the eyes; test split only. Both see the same photos through the whole pipeline, one after the other, and
every photo is fitted alone: what is counted is what a reconstruction says, with `today` without the second look.

An eye's lid ratio is the distance of its lids / its width, by the label's points; counted where the head is turned by
less than 30°. Shut: below SHUT. A photo is neutral where the teacher (MediaPipe's blendshapes) sees no smile, no open
and no rounded mouth, heads turned by less than 25°, and hand-placed lips, if there are any, touch.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from evaluate_default import percent, projected68
from sameface.core.errors import NoFaceFound
from sameface.core.geometry import euler_from_rotation
from sameface.morphable import default
from sameface.photo import observe as observing
from sameface.photo.eyes import BLINKS, EYES
from sameface.photo.face import Observation, Photo
from sameface.photo.observe import points_of
from sameface.photo.predictor import Predictor, load, second
from sameface.reconstruction.fit import Fit, fit
from sameface.reconstruction.reconstruct import measured
from sameface.training.datasets import pointlabels
from sameface.training.dense_points import POINT_IDS, dense_points
from sameface.training.methods import eyes as eyes_recipe

TITLE, RESULT = "Eyes and mouths", Path("results/expressions.json")
NAMES = list(default().expression_names)
RANDOM, SHUT, HALF = 1200, 0.1, (eyes_recipe.SHUT + eyes_recipe.OPEN) / 2
PACED, REPEATS = 40, 7
SPURIOUS = {name: [k for k, n in enumerate(NAMES) if n.startswith(name)]
            for name in ("noseSneer", "cheekSquint", "cheekPuff", "mouthStretch")}  # fmt: skip
REAL = ("mouthSmileLeft", "jawOpen", "mouthPucker", "browInnerUp")
EYE_AT = [POINT_IDS.index(i) for eye in EYES for i in eye]


def looked(photo: Photo, network: Predictor, again: bool) -> list[Observation]:
    """The faces of a photo; with the second look at the eyes, or as before there was one."""
    try:
        if again:
            return observing.observe(photo, network, second=second())
        with patch.object(observing, "look_again", lambda pixels, affines, said, *networks: said):
            return observing.observe(photo, network, second=second())
    except NoFaceFound:
        return []


def nearest(faces: list[Observation], label: np.ndarray) -> Observation | None:
    """The face where the label is, if one is there."""
    one = min(faces, key=lambda f: np.linalg.norm(f.landmarks.mean(0) - label.mean(0)), default=None)
    if one is None or np.linalg.norm(one.landmarks.mean(0) - label.mean(0)) > 0.25 * np.ptp(label, axis=0).max():
        return None
    return one


def pace(photos: list[Photo], ways: dict[str, tuple[Predictor, bool]]) -> dict[str, float]:
    """Mean ms of one thread from a photo in memory to its fit: of each photo the least of REPEATS, in turns."""
    least = {way: np.full(len(photos), np.inf) for way in ways}
    for k, photo in enumerate(photos):
        for way in sorted(ways) * REPEATS:
            start = time.process_time()
            faces = looked(photo, *ways[way])
            fit(points_of(ways[way][0]), measured(faces[:1]), shared=False)
            least[way][k] = min(least[way][k], 1000 * (time.process_time() - start))
    return {way: float(ms.mean()) for way, ms in least.items()}


def lid_ratio(points: np.ndarray) -> np.ndarray:
    """(N, 2) of the right and left eye, from dense points (N, L, 2)."""
    out = []
    for eye in EYES:
        outer, inner, low0, low1, up0, up1 = (points[:, POINT_IDS.index(i)] for i in eye[:6])
        lids = np.linalg.norm(up0 - low1, axis=1) + np.linalg.norm(up1 - low0, axis=1)
        out.append(lids / 2 / np.linalg.norm(outer - inner, axis=1))
    return np.stack(out, axis=1)


def eyes(blink: np.ndarray, ratio: np.ndarray, told: np.ndarray, random: np.ndarray) -> dict[str, float]:
    """Of `blink` (N, 2): which shut eyes are found; false ones among photos that were drawn at random."""
    shut, others, wide = ratio < SHUT, random[:, None] & (ratio >= SHUT), random[:, None] & (ratio >= HALF)
    one = (told.max(1) > 0.75) & (told.min(1) < 0.2) & np.isfinite(ratio).all(1)
    return {
        "shut eyes": int(shut.sum()), "found (blink > 0.5)": float((blink[shut] > 0.5).mean()),
        "other eyes": int(others.sum()), "called shut": float((blink[others] > 0.5).mean()),
        "of which more than half open": int(wide.sum()), "these called shut": float((blink[wide] > 0.5).mean()),
        "photos with both shut": int(shut.all(1).sum()),
        "both found": float((blink[shut.all(1)] > 0.5).all(1).mean()),
        "winks": int(one.sum()),
        "winks found, the right eye of the two": float(((blink[one] > 0.5) == (told[one] > 0.5)).all(1).mean()),
    }  # fmt: skip


def mouths(expression: np.ndarray, told: np.ndarray, neutral: np.ndarray) -> dict[str, float]:
    """Of expressions (N, E): how often neutral photos have one, and whether real ones are still seen."""
    mine, jaw = expression[neutral], expression[neutral, NAMES.index("jawOpen")]
    there = {f"{name} above 0.2": (mine[:, k] > 0.2).any(1) for name, k in SPURIOUS.items()}
    there["jawOpen 0.1 to 0.28"] = (jaw > 0.1) & (jaw < 0.28)
    out = {"neutral photos": int(neutral.sum())} | {name: float(v.mean()) for name, v in there.items()}
    out["any of these"] = float(np.any(list(there.values()), axis=0).mean())
    known = np.isfinite(told).all(1)
    for name in REAL:
        k = NAMES.index(name)
        out[f"{name}, correlation"] = float(np.corrcoef(expression[known, k], told[known, k])[0, 1])
    strong = known & (told[:, NAMES.index("mouthSmileLeft")] > 0.6)
    return out | {"smiles still above 0.4": float((expression[strong, NAMES.index("mouthSmileLeft")] > 0.4).mean())}


def errors(
    seen: list[Observation], fitted: Fit, network: Predictor, label: np.ndarray, weight: np.ndarray, hand: np.ndarray
) -> dict[str, float]:
    """Percent of √(box area)."""
    at = np.stack([one.landmarks for one in seen])
    side = np.sqrt(np.ptp(label, axis=1).prod(1))

    def dense(points: np.ndarray, which: Any = slice(None)) -> float:
        far, shown = np.linalg.norm(points - label, axis=2)[:, which], (weight > 0.5)[:, which]
        good = shown.any(1)
        return float(100 * ((far * shown).sum(1)[good] / shown.sum(1)[good] / side[good]).mean())

    has = np.isfinite(hand).all((1, 2))
    shape = points_of(network)(fitted.identity, fitted.expression)
    at68 = projected68(fitted.identity[has], fitted.expression[has], fitted.camera[has])
    inner = 100 * np.linalg.norm(at68 - hand[has], axis=2)[:, 17:].mean(1) / np.sqrt(np.ptp(hand[has], axis=1).prod(1))
    return {
        "dense points that can be seen, measured": dense(at),
        "the same of the eyes": dense(at, EYE_AT),
        "the same, fitted": dense(fitted.camera.project(shape)),
        "68 hand-placed, fitted": float(percent(at68, hand[has]).mean()),
        "51 inner, fitted": float(inner.mean()),
    }


def main() -> None:
    asked = argparse.ArgumentParser()
    asked.add_argument("labels", type=Path)
    asked.add_argument("--today", required=True, help="the network that shipped before, .onnx")
    asked = asked.parse_args()
    data = pointlabels.load(asked.labels, "test")
    faces = np.flatnonzero(data.source == "faces")
    label, weight, told, hand = (
        np.stack([np.asarray(v, float) for v in values])
        for values in zip(*[labels_of(data, k) for k in faces.tolist()], strict=True)
    )
    yaw = np.degrees(euler_from_rotation(data.faces.rotation[data.row[faces]].astype(float))[1])
    ratio = np.where((np.abs(yaw) < 30)[:, None], lid_ratio(label), np.nan)
    blinks = [NAMES.index(name) for name in BLINKS]
    wink = (told[:, blinks].max(1) > 0.75) & (told[:, blinks].min(1) < 0.2)
    random = np.zeros(len(faces), bool)
    random[np.random.default_rng(0).permutation(len(faces))[:RANDOM]] = True
    rows = np.flatnonzero(random | (ratio < SHUT).any(1) | wink | np.isfinite(hand).all((1, 2)))
    ways = {"today": (load(asked.today), False), "new": (load("default"), True)}
    seen: dict[str, list] = {way: [] for way in ways}
    for k in rows.tolist():
        photo = photo_of(data, int(faces[k]))
        for way in ways:
            seen[way].append(nearest(looked(photo, *ways[way]), label[k]))
    found = np.array([all(seen[way][j] is not None for way in ways) for j in range(len(rows))])
    rows = rows[found]
    gap = np.linalg.norm(hand[rows][:, [61, 62, 63]] - hand[rows][:, [67, 66, 65]], axis=2).mean(1)
    gap /= np.linalg.norm(hand[rows][:, 36] - hand[rows][:, 45], axis=1)
    quiet = {"jawOpen": 0.03, "mouthSmileLeft": 0.1, "mouthSmileRight": 0.1, "mouthFunnel": 0.1}
    neutral = (np.abs(yaw[rows]) < 25) & ~(gap >= 0.03)
    for name, most in quiet.items():
        neutral &= told[rows, NAMES.index(name)] < most
    out: dict[str, Any] = {
        "command": "python " + " ".join(["studies/expressions.py", *sys.argv[1:]]), "split": "test",
        "photos": len(found), "not found by one of the two": int((~found).sum()),
        "with 68 hand-placed points": int(np.isfinite(hand[rows]).all((1, 2)).sum()),
    }  # fmt: skip
    for way, (network, _) in ways.items():
        mine = [one for one, good in zip(seen[way], found, strict=True) if good]
        fitted = fit(points_of(network), measured(mine), shared=False)
        out[way] = {
            "eyes": eyes(fitted.expression[:, blinks], ratio[rows], told[rows][:, blinks], random[rows]),
            "mouths": mouths(fitted.expression, told[rows], neutral),
            "percent of √(box area)": errors(mine, fitted, network, label[rows], weight[rows], hand[rows]),
        }
        print(way, json.dumps(out[way], indent=1, ensure_ascii=False), flush=True)
    out["ms per photo, one thread"] = pace([photo_of(data, int(faces[k])) for k in rows[:PACED]], ways)
    out["where the points lie on the model, mm"] = places(ways["today"][0])
    RESULT.write_text(json.dumps(out, indent=1, ensure_ascii=False) + "\n")
    print(out["ms per photo, one thread"], out["where the points lie on the model, mm"])


def photo_of(data: Any, k: int) -> Photo:
    """A face of the table as a photo."""
    return Photo(data.faces.image(int(data.row[k])), data.names[k])


def labels_of(data: Any, k: int) -> tuple[np.ndarray, ...]:
    """Points, weights, blendshapes and hand-placed points of a face of the table, px of the photo."""
    row = int(data.row[k])
    zoom = pointlabels.SIDE / data.faces.columns["size"][row]
    points = np.asarray(data.labels["points"][k], float).reshape(-1, 2) * zoom
    return points, data.labels["weight"][k], data.labels["blendshapes"][k], data.faces.landmarks68(row)


def places(today: Predictor) -> dict[str, float]:
    """How far the dense points moved on the model."""
    moved = np.linalg.norm(dense_points()["offsets"] - np.array(today.description["point_offsets_mm"]), axis=1)
    return {"moved, RMS": float(np.sqrt((moved**2).mean())), "median": float(np.median(moved)),
            "most": float(moved.max()), "of point": POINT_IDS[int(moved.argmax())]}  # fmt: skip


def section(r: dict[str, Any]) -> list[Any]:
    def table(part: str) -> tuple[list[str], list[list[str]]]:
        def cell(name: str, v: float) -> str:
            share = not part.startswith("percent") and "correlation" not in name
            return str(v) if isinstance(v, int) else f"{100 * v:.1f} %" if share else f"{v:.2f}"

        rows = [[name, *(cell(name, r[way][part][name]) for way in ("today", "new"))] for name in r["new"][part]]
        return ["", "today", "new"], rows

    moved = r["where the points lie on the model, mm"]
    before, now = (r["ms per photo, one thread"][way] for way in ("today", "new"))
    return [
        f"{r['photos']} photos of the test split ({r['not found by one of the two']} not found by one of the two), "
        "each fitted alone. `today` is the network that shipped before there was a second look at the eyes, alone. "
        f"Shut: lids nearer than a tenth of the eye's width by the label; false ones are counted in {RANDOM} photos "
        f"drawn at random, among all other eyes and among those more than half open (lids farther than {HALF:.2f}).",
        table("eyes"),
        "Expressions of photos on which the teacher sees none, as the fit gives them; and whether real ones are still "
        "seen (correlation with the teacher over all photos; smiles above 0.6 by the teacher).",
        table("mouths"),
        f"Percent of √(box area); {r['with 68 hand-placed points']} photos have hand-placed points:",
        table("percent of √(box area)"),
        f"A photo of 160 px takes {before:.1f} ms before and {now:.1f} now ({now / before:.3f} times as long; one "
        f"thread, detector to fit, {PACED} photos, in turns). With expressions held firmly to the teacher's, the "
        f"calibration puts the dense points elsewhere on the model: by {moved['median']:.2f} mm in the median, by "
        f"{moved['most']:.1f} at most (MediaPipe's point {moved['of point']}).",
    ]


if __name__ == "__main__":
    main()
