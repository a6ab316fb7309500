"""A trained recogniser and people with many photos → the recogniser that also says a shape.

    python studies/code_to_shape.py runs/recogniser runs/crops
    sameface export runs/recogniser --half --out src/sameface/assets/identity.onnx

Every person with four good photos or more is fitted jointly, points alone (kept in runs/crops/joint.npz), and
`training/shape_of_code.py` solves for the map from the codes of the train split. The run's best.pt gets it; written is
the curve that FLOOR was chosen on, results/code-to-shape.json: what ridge regression in four folds of the train people
explains of shapes, and how well people of the other splits are told apart by the millimetres of single photos.
"""

import json
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sameface import morphable
from sameface.core.camera import WeakPerspective
from sameface.metrics.verification import area_under_curve
from sameface.photo.observe import points_of
from sameface.photo.predictor import load
from sameface.reconstruction.agreement import disagreeing
from sameface.reconstruction.fit import Measured, Priors, fit, tempered
from sameface.training import train
from sameface.training.shape_of_code import Ridge, floored, millimetres, regress

TITLE, RESULT = "From the code of a person to the shape", Path("results/code-to-shape.json")
SOURCES = ("pins", "tceleba", "fiw", "celeba")
LEAST, MOST, SINGLE = 4, 14, 6
"""photos of a person: for a joint fit, at most in it, and singly in the table"""
PRIORS = Priors(identity=8.0, network=0.0, repeated=0.0)
FLOOR = 0.06
FLOORS = (0.0, 0.02, 0.03, 0.04, 0.05, 0.06, 0.08, 0.1)
FOLDS, MARGIN, BATCH = 4, 8, 64
SEEN = ("landmarks", "sigma", "expression", "rotation", "translation", "scale")


def measured(rows: dict[str, np.ndarray], which: np.ndarray) -> Measured:
    part = {name: rows[name][which].astype(np.float64) for name in SEEN}
    sigma = tempered(part["sigma"])
    camera = WeakPerspective(part["rotation"], part["translation"], part["scale"], (160, 160))
    nobody = np.zeros((len(which), morphable.default().n_identity))
    return Measured(part["landmarks"], sigma, nobody, part["expression"], camera)


@lru_cache(maxsize=1)
def rows_of(file: Path) -> dict[str, np.ndarray]:
    """What was measured in a source, read once for all its people."""
    with np.load(file, allow_pickle=False) as opened:
        return {name: opened[name] for name in (*SEEN, "quality")}


def joint_fit(job: tuple[Path, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Identity (S,) of a person and the rows (at most MOST) that it comes from; what disagrees is left out."""
    (file, which), points = job, points_of(load("default"))
    rows = rows_of(file)
    alone = fit(points, measured(rows, which), PRIORS, shared=False)
    out, _ = disagreeing(alone.identity, rows["quality"][which], 4.0, 2.5)
    kept = np.delete(which, out)[:MOST]
    return fit(points, measured(rows, kept), PRIORS).identity[0], kept


def people(crops: Path) -> dict[str, np.ndarray]:
    """Of every person: source, split, identity (S,), rows (MOST,) padded with −1."""
    cache = crops / "joint.npz"
    if not cache.exists():
        jobs, about = [], []
        for source in SOURCES:
            with np.load(crops / f"{source}.npz", allow_pickle=False) as rows:
                person, split, quality = rows["person"], rows["split"], rows["quality"]
            for who in np.unique(person[person != ""]):
                mine = np.flatnonzero((person == who) & (quality > 0.5) & (split != "twice"))
                if len(mine) >= LEAST:
                    best = mine[np.argsort(-quality[mine], kind="stable")][: MOST + SINGLE]
                    jobs.append((crops / f"{source}.npz", np.sort(best)))
                    about.append((source, str(split[mine[0]])))
        with ProcessPoolExecutor(2) as pool:
            fitted = list(pool.map(joint_fit, jobs, chunksize=16))
        padded = [np.pad(kept, (0, MOST - len(kept)), constant_values=-1) for _, kept in fitted]
        np.savez(cache, source=np.array([s for s, _ in about]), split=np.array([s for _, s in about]),
                 identity=np.stack([identity for identity, _ in fitted]), rows=np.stack(padded))  # fmt: skip
    with np.load(cache, allow_pickle=False) as file:
        return dict(file)


def codes(method: torch.nn.Module, crops: np.ndarray, which: np.ndarray) -> np.ndarray:
    """(N, 192)"""
    out = []
    for k in range(0, len(which), BATCH):
        pixels = crops[which[k : k + BATCH], MARGIN:-MARGIN, MARGIN:-MARGIN].astype(np.float32) / 255
        with torch.no_grad():
            out.append(method(torch.tensor(pixels).permute(0, 3, 1, 2))["code"].numpy())
    return np.concatenate(out).astype(np.float64)


def by_millimetres(shapes: np.ndarray, person: np.ndarray) -> dict[str, float]:
    first, second = np.triu_indices(len(shapes), 1)
    apart = np.linalg.norm(shapes[first] - shapes[second], axis=1)
    same = person[first] == person[second]
    return {"auc": float(area_under_curve(-apart, same)), "same person, mm": float(apart[same].mean()),
            "different persons, mm": float(apart[~same].mean())}  # fmt: skip


def main() -> None:
    run, folder = Path(sys.argv[1]), Path(sys.argv[2])
    method, described = train.restore(run, "last.pt")
    every, length = people(folder), millimetres(morphable.default())
    shapes, count = every["identity"] @ length, (every["rows"] >= 0).sum(1)
    for source in SOURCES:  # what all people of a source share is the labels' bias
        shapes[every["source"] == source] -= shapes[every["source"] == source].mean(0)
    said: list[np.ndarray] = []
    for source, rows in zip(every["source"], every["rows"], strict=True):
        crops = np.load(folder / f"{source}.npy", mmap_mode="r", allow_pickle=False)
        said.append(codes(method, crops, rows[rows >= 0]))
    learnt = np.flatnonzero(every["split"] == "train")

    def solved(who: np.ndarray) -> Ridge:
        person = np.repeat(np.arange(len(who)), [len(said[k]) for k in who])
        return regress(np.concatenate([said[k] for k in who]), person, shapes[who])

    fold = np.arange(len(learnt)) % FOLDS
    folds, whole = [solved(learnt[fold != k]) for k in range(FOLDS)], solved(learnt)
    others = np.flatnonzero(every["split"] != "train")
    single = np.concatenate([said[k][:SINGLE] for k in others])
    person = np.repeat(others, [len(said[k][:SINGLE]) for k in others])
    table = np.isin(every["source"][person], ("pins", "tceleba"))
    rows = []
    for floor in FLOORS:
        left, left_of_one, total = 0.0, 0.0, 0.0
        for k, ridge in enumerate(folds):
            matrix, offset = floored(ridge, floor)
            for who in learnt[(fold == k) & (count[learnt] >= SINGLE)]:
                predicted = said[who] @ matrix.T + offset
                left += float(((predicted.mean(0) - shapes[who]) ** 2).sum())
                left_of_one += float(((predicted[0] - shapes[who]) ** 2).sum())
                total += float((shapes[who] ** 2).sum())
        matrix, offset = floored(whole, floor)
        shown = single @ matrix.T + offset
        rows.append({"floor": floor, "R2, all photos": 1 - left / total, "R2, one photo": 1 - left_of_one / total,
                     "single photos, all sources": by_millimetres(shown, person),
                     "single photos, face table": by_millimetres(shown[table], person[table])})  # fmt: skip
        print(rows[-1], flush=True)
    matrix, offset = floored(whole, FLOOR)
    back = np.linalg.inv(length).T
    method.matrix.copy_(torch.tensor(back @ matrix))
    method.offset.copy_(torch.tensor(back @ offset))
    torch.save({"step": described["config"]["steps"], "weights": method.state_dict()}, run / "best.pt")
    result = {
        "command": "python studies/code_to_shape.py runs/recogniser runs/crops",
        "people": {split: int((every["split"] == split).sum()) for split in ("train", "val", "test")},
        "photos": int(count.sum()),
        "shipped floor": FLOOR,
        "by the code itself, AUC": {
            "all sources": by_millimetres(single, person)["auc"],
            "face table": by_millimetres(single[table], person[table])["auc"],
        },
        "curve": rows,
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n")


def section(r: dict[str, Any]) -> list[Any]:
    def told(row: dict[str, Any], name: str) -> list[str]:
        v = row[f"single photos, {name}"]
        return [f"{v['auc']:.3f}", f"{v['same person, mm']:.2f}", f"{v['different persons, mm']:.2f}"]

    rows = [
        [f"{row['floor']:g}{' (shipped)' if row['floor'] == r['shipped floor'] else ''}",
         f"{row['R2, all photos']:.2f}", f"{row['R2, one photo']:.2f}", *told(row, "face table"),
         told(row, "all sources")[0]]
        for row in r["curve"]
    ]  # fmt: skip
    code = r["by the code itself, AUC"]
    return [
        f"{r['people']['train']} people of the train split with four photos or more ({r['photos']} photos in all) say "
        "which shape goes with which code; R² is of their joint fits (points alone), in four folds. The floor gives "
        "every direction of the code a say in the shape: people are told apart better by millimetres, and shapes are "
        "truer the lower it is. AUC, same and different: millimetres between shapes that codes of single photos say, "
        f"{r['people']['val'] + r['people']['test']} people of the other splits. By the code itself, AUC "
        f"{code['face table']:.3f} (face table) and {code['all sources']:.3f}.",
        (
            ["floor", "R², all photos", "R², one photo", "AUC, face table", "same, mm", "different, mm", "AUC, all"],
            rows,
        ),
    ]


if __name__ == "__main__":
    main()
