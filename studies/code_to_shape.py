"""A trained recogniser and people with many photos → the recogniser that also says a shape.

    python studies/code_to_shape.py runs/recogniser-2 runs/crops
    sameface export runs/recogniser-2 --half --out src/sameface/assets/identity.onnx

Every person with four good photos or more is fitted jointly, points alone (kept in runs/crops/joint.npz), and
`training/shape_of_code.py` solves for the map from the codes of the train split. The run's best.pt gets it; written is
the curve that FREE was chosen on, results/code-to-shape.json: what the map of three quarters of the train people
explains of the shapes of the others, and how well people of the other splits are told apart by the millimetres of
single photos.
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
from sameface.training.shape_of_code import Ridge, millimetres, regress, seen, spoken

TITLE, RESULT = "From the code of a person to the shape", Path("results/code-to-shape.json")
SOURCES = ("pins", "tceleba", "fiw", "celeba")
LEAST, MOST, SINGLE = 4, 14, 6
"""photos of a person: for a joint fit, at most in it, and singly in the table"""
PRIORS = Priors(identity=8.0, network=0.0, repeated=0.0)
FREE = 0.15
TRIED = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4)
FOLDS, MARGIN, BATCH = 4, 8, 64
SEEN = ("landmarks", "sigma", "expression", "firmness", "rotation", "translation", "scale")


def measured(rows: dict[str, np.ndarray], which: np.ndarray) -> Measured:
    part = {name: rows[name][which].astype(np.float64) for name in SEEN}
    sigma = tempered(part["sigma"])
    camera = WeakPerspective(part["rotation"], part["translation"], part["scale"], (160, 160))
    nobody = np.zeros((len(which), morphable.default().n_identity))
    return Measured(part["landmarks"], sigma, nobody, part["expression"], camera, None, part["firmness"])


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


def explained(wrong: np.ndarray, truth: np.ndarray, metric: np.ndarray) -> float:
    """R²: 1 − Σ e M eᵀ / Σ y M yᵀ"""
    left, whole = (float(np.einsum("ni,ij,nj->", rows, metric, rows)) for rows in (wrong, truth))
    return 1 - left / whole


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

    back = np.linalg.inv(length).T
    visible = back.T @ seen(points_of(load("default"))) @ back
    fold = np.arange(len(learnt)) % FOLDS
    folds, whole = [solved(learnt[fold != k]) for k in range(FOLDS)], solved(learnt)
    others = np.flatnonzero(every["split"] != "train")
    single = np.concatenate([said[k][:SINGLE] for k in others])
    person = np.repeat(others, [len(said[k][:SINGLE]) for k in others])
    table = np.isin(every["source"][person], ("pins", "tceleba"))
    asked = [learnt[(fold == k) & (count[learnt] >= SINGLE)] for k in range(FOLDS)]
    truth = shapes[np.concatenate(asked)]
    rows = []
    for free in TRIED:
        wrong: dict[str, list[np.ndarray]] = {"all photos": [], "one photo": []}
        for ridge, mine in zip(folds, asked, strict=True):
            matrix, offset = spoken(ridge, visible, free)
            for who in mine:
                predicted = said[who] @ matrix.T + offset
                wrong["all photos"].append(predicted.mean(0) - shapes[who])
                wrong["one photo"].append(predicted[0] - shapes[who])
        matrix, offset = spoken(whole, visible, free)
        shown = single @ matrix.T + offset
        row: dict[str, Any] = {"free": free}
        for name, errors in wrong.items():
            row[f"R2, {name}"] = explained(np.array(errors), truth, np.eye(len(visible)))
            row[f"R2 as seen, {name}"] = explained(np.array(errors), truth, visible)
        row["single photos, all sources"] = by_millimetres(shown, person)
        row["single photos, face table"] = by_millimetres(shown[table], person[table])
        rows.append(row)
        print(row, flush=True)
    matrix, offset = spoken(whole, visible, FREE)
    method.matrix.copy_(torch.tensor(back @ matrix))
    method.offset.copy_(torch.tensor(back @ offset))
    torch.save({"step": described["config"]["steps"], "weights": method.state_dict()}, run / "best.pt")
    result = {
        "command": "python studies/code_to_shape.py runs/recogniser-2 runs/crops",
        "people": {split: int((every["split"] == split).sum()) for split in ("train", "val", "test")},
        "photos": int(count.sum()),
        "shipped": FREE,
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
        [f"{row['free']:g}{' (shipped)' if row['free'] == r['shipped'] else ''}",
         *(f"{row[name]:.2f}" for name in ("R2, all photos", "R2, one photo", "R2 as seen, one photo")),
         *told(row, "face table"), told(row, "all sources")[0]]
        for row in r["curve"]
    ]  # fmt: skip
    code = r["by the code itself, AUC"]
    return [
        f"{r['people']['train']} people of the train split with four photos or more ({r['photos']} photos in all) say "
        "which shape goes with which code; R² is of their joint fits (points alone), in four folds; as seen: of what "
        "moves points in photos. Free millimetres let codes speak where photos see least: people are told apart "
        "better, but what is said there no fit has shown. AUC, same and different: millimetres between shapes that "
        f"codes of single photos say, {r['people']['val'] + r['people']['test']} people of the other splits. By the "
        f"code itself, AUC {code['face table']:.3f} (face table) and {code['all sources']:.3f}.",
        (
            ["free, mm", "R², all photos", "R², one photo", "as seen, one photo", "AUC, face table", "same, mm",
             "different, mm", "AUC, all"],
            rows,
        ),
    ]  # fmt: skip


if __name__ == "__main__":
    main()
