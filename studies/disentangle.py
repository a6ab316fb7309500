"""What joint training does: `python studies/disentangle.py LABELS RUNS DATA/faces` → results/disentangle.json.

LABELS holds labels of the test split (`sameface fit-set facetable:DATA/faces --splits test --out LABELS`), RUNS the run
folders one, two and three of the three phases. Measured for each, for the fit of every photo alone and the mean face:

- RMSE: root mean squared distance to the label's shape after Procrustes on the 68 landmarks, mm over the face; of the
  whole shape and its identity part, by |yaw|. The label's identity is the fit of all photos of the person.
- 6,000 pairs of test persons, 10 folds: same person or not, by the identity code and by the neutral mesh in mm.

And the paper's figure 9: columns of the decoders before and after joint training, as faces and as heat maps.
"""

import json
import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from sameface.core.camera import WeakPerspective
from sameface.core.geometry import align
from sameface.metrics import verification
from sameface.morphable import default
from sameface.photo.observe import points_of
from sameface.photo.predictor import load
from sameface.reconstruction import picture
from sameface.reconstruction.fit import fit
from sameface.training.datasets import labelled
from sameface.training.labels import POSE, in_photo
from sameface.training.train import restore
from scnn import NUMBERS, drawn_pairs
from table import observed

TITLE, RESULT = "`disentangle` on fitted labels", Path("results/disentangle.json")

PHASES = {"one": "phase I", "two": "phase II", "three": "phase III"}
YAWS = (0, 15, 30, 45, 60, 91)
TRAIN = "sameface train disentangle --data labelled:TRAIN_LABELS --persons 316 --precision bfloat16 --average 0.998"
COMMANDS = (
    "sameface fit-set facetable:DATA/faces --out TRAIN_LABELS",
    "sameface fit-set facetable:DATA/faces --splits test --out LABELS",
    f"{TRAIN} --phase 1 --steps 2500 --out RUNS/one",
    f"{TRAIN} --phase 2 --steps 300 --start RUNS/one/best.pt --out RUNS/two",
    f"{TRAIN} --phase 3 --steps 2000 --start RUNS/two/best.pt --out RUNS/three",
    "python studies/disentangle.py LABELS RUNS DATA/faces",
)  # fmt: skip


@dataclass(frozen=True)
class Said:
    """What a system says of every photo: neutral (N, V, 3) and whole shape (N, V, 3), mm; code (N, C)."""

    neutral: np.ndarray
    shape: np.ndarray
    code: np.ndarray


@torch.no_grad()
def of_run(run: Path, data: labelled.Labelled) -> Said:
    method, _ = restore(run)
    parts: dict[str, list[np.ndarray]] = {"neutral": [], "shape": [], "embedding": []}
    for start in range(0, len(data), 64):
        rows = range(start, min(start + 64, len(data)))
        crops = np.stack([method.sample(data, k, np.random.default_rng(0), False)["images"] for k in rows])
        output = method(torch.from_numpy(crops).permute(0, 3, 1, 2).float() / 255)
        for name, values in parts.items():
            values.append(output[name].numpy())
    neutral, shape, code = (np.concatenate(values) for values in parts.values())
    return Said(neutral, shape, code)


def of_fit(rows: np.ndarray) -> tuple[Said, np.ndarray]:
    """Every photo fitted alone, and which of `rows` (of the test split) the pipeline found."""
    data = observed("test")
    place = {int(row): k for k, row in enumerate(data.row)}
    found = np.array([int(row) in place for row in rows])
    seen = data[np.array([place[int(row)] for row in rows[found]])]
    answer = fit(points_of(load("default")), seen.measured, person=np.arange(len(seen.row)))
    model = default()
    return Said(
        model.vertices(answer.identity), model.vertices(answer.identity, answer.expression), answer.identity
    ), found


def rmse(shape: np.ndarray, true: np.ndarray) -> np.ndarray:
    """(N,) mm."""
    model = default()
    s, rotation, shift = align(model.landmarks(shape).astype(float), model.landmarks(true).astype(float))
    placed = s[:, None, None] * shape @ rotation.swapaxes(1, 2) + shift[:, None]
    apart = (placed - true)[:, model.regions["face"]]
    return np.sqrt((apart**2).sum(2).mean(1))


def errors(said: Said, true: Said, yaw: np.ndarray) -> dict[str, dict[str, float]]:
    out = {}
    for name, values in (("whole shape", rmse(said.shape, true.shape)), ("identity", rmse(said.neutral, true.neutral))):
        out[name] = {"mean": round(float(values.mean()), 4)}
        for low, high in pairwise(YAWS):
            out[name][f"{low}-{high - high % 5}"] = round(float(values[(yaw >= low) & (yaw < high)].mean()), 4)
    return out


def verified(said: Said, pairs: np.ndarray, same: np.ndarray, fold: np.ndarray) -> dict[str, dict[str, float]]:
    a, b = pairs.T
    face = default().regions["face"]
    apart = np.array([
        np.sqrt(((said.neutral[i][face] - said.neutral[j][face]) ** 2).sum(1).mean()) for i, j in pairs
    ])  # fmt: skip
    code = said.code.astype(float)
    scores = {
        "code, cosine": verification.cosine(code[a], code[b]),
        "code, Euclidean": verification.euclidean(code[a], code[b]),
        "neutral mesh, mm": -apart,
    }  # fmt: skip
    found = {}
    for name, values in scores.items():
        numbers = verification.verification_numbers(values, same, fold)
        found[name] = {key: round(numbers[key], 2) for key in NUMBERS}
    return found


def columns(runs: Path, out: Path, count: int = 6) -> None:
    """Figure 9: the first columns of each decoder, before (top) and after (below) joint training."""
    model, rows = default(), []
    mean = model.mean
    camera = WeakPerspective(np.diag([1.0, -1, -1]), np.array([80.0, 84.0]), np.float64(0.62), (160, 172))
    for name in ("identity", "residual"):
        for run in ("one", "three"):
            method, _ = restore(runs / run)
            weight = method.decoders[name].weight.detach().numpy().reshape(-1, 3, method.decoders[name].in_features)
            chosen = range(count) if name == "identity" else [model.expression_names.index(k) for k in SHOWN[:count]]
            tiles = []
            for k in chosen:
                column = weight[:, :, k]
                if name == "identity":
                    tiles.append(picture.render(mean + column, model.faces, camera))
                else:
                    far = np.linalg.norm(column, axis=1) / np.linalg.norm(column, axis=1).max()
                    heat = cv2.applyColorMap((255 * far).astype(np.uint8)[:, None], cv2.COLORMAP_TURBO)[:, 0, ::-1]
                    tiles.append(picture.render(mean, model.faces, camera, colours=np.ascontiguousarray(heat)))
            rows.append(np.concatenate(tiles, axis=1))
    cv2.imwrite(str(out), np.concatenate(rows)[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])


SHOWN = ("jawOpen", "mouthSmileLeft", "browInnerUp", "mouthPucker", "eyeBlinkLeft", "cheekPuff")


def main() -> None:
    labels, runs = Path(sys.argv[1]), Path(sys.argv[2])
    data = labelled.load(labels, "test")
    model = default()
    identity, expression = np.split(data.params[:, POSE:], [model.n_identity], axis=1)
    turned = np.stack([in_photo(params, model, 160)[0][:, :3] for params in data.params])
    sine = turned[:, 2, 0] / np.linalg.norm(turned[:, 2], axis=1)
    yaw = np.abs(np.degrees(np.arcsin(np.clip(sine, -1, 1))))
    true = Said(model.vertices(identity), model.vertices(identity, expression), identity)
    pairs, same, fold = drawn_pairs(np.asarray(data.person))
    out: dict[str, Any] = {"command": list(COMMANDS), "split": "test", "photos": len(data), "pairs": len(pairs)}
    nobody = Said(
        np.broadcast_to(model.mean, true.neutral.shape), np.broadcast_to(model.mean, true.shape.shape), identity
    )
    out["mean face"] = {"RMSE, mm": errors(nobody, true, yaw)}
    alone, found = of_fit(data.rows)
    if not found.all():
        raise SystemExit(f"{(~found).sum()} labelled photos are not in the cache of the test split: remove the cache")
    systems = {"fit of each photo": alone} | {title: of_run(runs / run, data) for run, title in PHASES.items()}
    for name, said in systems.items():
        out[name] = {"RMSE, mm": errors(said, true, yaw), "verification": verified(said, pairs, same, fold)}
        print(name, json.dumps(out[name], indent=1))
    RESULT.write_text(json.dumps(out, indent=1, ensure_ascii=False) + "\n")
    columns(runs, Path("docs/images/disentangle-columns.jpg"))


def section(r: dict[str, Any]) -> list[Any]:
    systems = [name for name in r if isinstance(r[name], dict) and "RMSE, mm" in r[name]]
    bins = list(r["mean face"]["RMSE, mm"]["identity"])
    tables = {}
    for part in ("whole shape", "identity"):
        tables[part] = [[name, *(f"{r[name]['RMSE, mm'][part][b]:.2f}" for b in bins)] for name in systems]
    pairs = []
    for name in systems:
        for code, v in r[name].get("verification", {}).items():
            numbers = (f"{v[k]:.1f}" for k in ("eer", "auc", "tar_at_far_10", "tar_at_far_1"))
            pairs.append([f"{name}: {code}", f"{v['accuracy']:.1f} ± {v['accuracy_std']:.1f}", *numbers])
    return [
        f"The small preset of `disentangle`, trained on fitted labels of the train split; test split, {r['photos']} "
        "photos. RMSE to the label's shape (the fit of all photos of the person), mm over the face after Procrustes "
        "on 68 landmarks, by |yaw|. The fit of each photo alone shares its measurements with the label, so it is no "
        "fair opponent in the whole shape.",
        (["whole shape, mm", *bins], tables["whole shape"]),
        (["identity part, mm", *bins], tables["identity"]),
        f"{r['pairs']} pairs of test persons, half genuine, 10 folds; percent.",
        (["verification", "accuracy", "EER", "AUC", "TAR at FAR 10 %", "at 1 %"], pairs),
        "What this shows. Joint training (phase III) improves verification by the code and by the mesh over phases I "
        "and II, and the whole shape too; the identity part pays 0.02 mm. It is still improving: 2,000 steps are five "
        "rounds of the photos whose person is known. Phase II changes nothing that can be seen, since the decoders "
        "begin as the morphable model's own bases and the encoder's codes need no others. A person's photos fitted "
        "together (the labels) tell people apart better than any network here does from one photo (see the section on "
        "same persons above).",
        "What the decoders learnt (the paper's figure 9): six columns of the identity decoder as faces before and "
        "after joint training, then six of the residual decoder as heat maps.",
        "![columns of the decoders](images/disentangle-columns.jpg)",
    ]


if __name__ == "__main__":
    main()
