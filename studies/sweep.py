"""Shape error by yaw and by expression on rendered people: `python studies/sweep.py DISENTANGLE.onnx SCNN.onnx`.

20 synthetic people, whom no network has seen, rendered from 1 m under one light each: neutral at yaw −90 … 90 in steps
of 10, and frontal with seven expressions. RMSE in mm after Procrustes on the 68 landmarks (the paper's table 1, figures
6 and 7): whole shape and identity part over the face, and for `scnn`, whose model has 68 points only, the points.
"""

import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from disentangle import rmse
from sameface.core.camera import Perspective
from sameface.core.errors import SameFaceError
from sameface.core.geometry import align, rotation_from_euler
from sameface.evaluation import networks, systems
from sameface.evaluation.case import Case
from sameface.morphable import default
from sameface.photo.predictor import load
from sameface.synthetic.look import load_skin
from sameface.synthetic.people import draw, look_at, prepare, render

TITLE, RESULT = "Shape by yaw and by expression, rendered people", Path("results/sweep.json")

PEOPLE, SIZE, DISTANCE = 20, 224, 1000.0
YAWS = range(-90, 91, 10)
NAMES = ("68 points", "whole shape", "identity part")
EXPRESSIONS: dict[str, dict[str, float]] = {
    "neutral": {},
    "happiness": {"mouthSmile": 0.9, "cheekSquint": 0.5, "jawOpen": 0.15},
    "sadness": {"mouthFrown": 0.8, "browInnerUp": 0.7, "mouthShrugLower": 0.4},
    "surprise": {"browInnerUp": 0.8, "browOuterUp": 0.8, "eyeWide": 0.7, "jawOpen": 0.6},
    "anger": {"browDown": 0.9, "noseSneer": 0.4, "mouthPress": 0.7, "eyeSquint": 0.4},
    "disgust": {"noseSneer": 0.9, "mouthUpperUp": 0.6, "browDown": 0.5, "eyeSquint": 0.5},
    "fear": {"browInnerUp": 0.9, "eyeWide": 0.8, "mouthStretch": 0.7, "jawOpen": 0.3},
}
"""ARKit weights, both sides alike; ours, after the descriptions of the facial action coding system"""
Answer = tuple[np.ndarray | None, np.ndarray | None, np.ndarray]
"""neutral (V, 3), whole shape (V, 3), whole shape at the 68 points"""


def weights(named: dict[str, float]) -> np.ndarray:
    out = np.zeros(default().n_expression, np.float32)
    for k, name in enumerate(default().expression_names):
        for key, value in named.items():
            if name in (key, f"{key}Left", f"{key}Right"):
                out[k] = value
    return out


def seen_from(yaw: float) -> Perspective:
    """The camera 1 m away whose picture the head fills by two thirds."""
    rotation = rotation_from_euler(*(np.array(a) for a in (0.0, np.radians(yaw), 0.0)))
    middle = default().landmarks(default().mean).mean(0).astype(float)
    away = np.array([0.0, 0.0, DISTANCE]) - rotation @ middle
    return Perspective(rotation, away, np.float64(0.6 * SIZE / 220 * DISTANCE), np.full(2, SIZE / 2), (SIZE, SIZE))


def ours(case: Case) -> Answer:
    told, model = systems.load("default").measure(case), default()
    whole = model.vertices(told["identity"], told["expression"][0])
    return model.vertices(told["identity"]), whole, model.landmarks(whole)


def nobody(case: Case) -> Answer:
    mean = default().mean
    return mean, mean, default().landmarks(mean)


def of_network(path: str) -> Callable[[Case], Answer]:
    network = load(path)

    def say(case: Case) -> Answer:
        (cut,), _ = networks._crops(network, case)
        said = network(cut.pixels[None])
        if "neutral" not in said:
            return None, None, said["landmarks68"][0].astype(float)
        return said["neutral"][0], said["shape"][0], default().landmarks(said["shape"][0])

    return say


def points_rmse(points: np.ndarray, true: np.ndarray) -> float:
    """mm; the axes of a photo are those of the model turned, which Procrustes undoes."""
    s, rotation, shift = align(points.astype(float), true.astype(float))
    return float(np.sqrt(((s * points @ rotation.T + shift - true) ** 2).sum(1).mean()))


def main() -> None:
    model, rng = default(), np.random.default_rng(2026)
    people = draw(model, load_skin(), PEOPLE, rng)
    say = {"default (fit of the photo)": ours, "mean face": nobody, "disentangle": of_network(sys.argv[1]),
           "scnn": of_network(sys.argv[2])}  # fmt: skip
    takes = [(f"yaw {yaw}", float(yaw), weights({})) for yaw in YAWS]
    takes += [(name, 0.0, weights(named)) for name, named in EXPRESSIONS.items()]
    found: dict[str, dict[str, list[list[float]]]] = {name: {take: [] for take, *_ in takes} for name in say}
    failed = {name: 0 for name in say}
    with tempfile.TemporaryDirectory() as folder:
        for k in range(PEOPLE):
            head = prepare(people, k)
            usual = look_at(head, np.random.default_rng(k), SIZE)
            for take, yaw, expression in takes:
                view = replace(usual, expression=expression, camera=seen_from(yaw))
                path = Path(folder) / f"{k}-{take}.png"
                cv2.imwrite(str(path), render(head, view, camera_noise=False).image[:, :, ::-1])
                neutral, whole = model.vertices(people.identity[k]), model.vertices(people.identity[k], expression)
                for name, answer in say.items():
                    try:
                        own, all_of_it, points = answer(Case(path.stem, (path,), (None,)))
                    except SameFaceError:
                        failed[name] += 1
                        continue
                    row = [points_rmse(points, model.landmarks(whole))]
                    if own is not None and all_of_it is not None:
                        row += [float(rmse(all_of_it[None], whole[None])[0]), float(rmse(own[None], neutral[None])[0])]
                    found[name][take].append(row)
    out: dict[str, object] = {
        "command": "python studies/sweep.py DISENTANGLE.onnx SCNN.onnx", "people": PEOPLE,
        "photos": len(takes) * PEOPLE, "expressions": EXPRESSIONS, "faces not found": failed,
    }  # fmt: skip
    for name, by_take in found.items():
        out[name] = {
            take: dict(zip(NAMES, np.mean(rows, axis=0).round(3).tolist(), strict=False))
            for take, rows in by_take.items()
            if rows
        }
    RESULT.write_text(json.dumps(out, indent=1, ensure_ascii=False) + "\n")
    print(json.dumps(out, ensure_ascii=False)[:3000])


def section(r: dict[str, Any]) -> list[Any]:
    names = [
        name for name, value in r.items() if isinstance(value, dict) and "neutral" in value and name != "expressions"
    ]
    yaws = (0, 10, 20, 30, 40, 50, 60, 70, 80, 90)
    parts: list[Any] = [
        f"{r['people']} synthetic people (`sameface synth`'s drawing, whom no network has seen), {r['photos']} "
        "pictures, one light per person, camera at 1 m. RMSE in mm after Procrustes on the 68 landmarks. Faces not "
        "found: " + ", ".join(f"{name} {count}" for name, count in r["faces not found"].items()) + ".",
    ]
    for part in ("whole shape", "identity part", "68 points"):
        rows, faces = [], []
        for name in names:
            take = r[name]
            if part not in take["neutral"]:
                continue
            both = [
                [take[f"yaw {sign * yaw}"][part] for sign in (1, -1) if f"yaw {sign * yaw}" in take] for yaw in yaws
            ]
            rows.append([name, *(f"{sum(v) / len(v):.2f}" if v else "" for v in both)])
            faces.append([name, *(f"{take[e][part]:.2f}" if e in take else "" for e in r["expressions"])])
        parts += [
            ([f"{part}, by |yaw|", *(f"±{yaw}°" for yaw in yaws)], rows),
            ([f"{part}, frontal", *r["expressions"]], faces),
        ]
    parts += [
        "![shape error by yaw](images/sweep.png)",
        "On rendered neutral people no network here is better than the mean face: they have learnt from photos only, "
        "and what they see in a rendering is systematically off, the more the further a head is turned. The identity "
        "part of what shipped when this was measured is as good as the mean face within 30 degrees, since its fit "
        "expected a part of what `sir` says (3.2 mm before that). Training on synthetic people has to mend the rest. "
        "Expressions that change the "
        "face much (happiness, surprise, disgust, fear) they do see. `scnn`'s 68 points belong to another morphable "
        "model, whose jaw and brow lie elsewhere, so its errors hold that too. The paper's own table (BU-3DFE): 2.01 "
        "mm, 3DDFA 2.75.",
    ]
    return parts


def figure(r: dict[str, Any]) -> None:
    """docs/images/sweep.png: RMSE of the whole shape of neutral faces by yaw."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    sheet, axes = pyplot.subplots(figsize=(6, 3.2), layout="constrained")
    for name, take in r.items():
        yaws = [key for key in take if key.startswith("yaw ")] if isinstance(take, dict) else []
        if yaws and "whole shape" in take[yaws[0]]:
            axes.plot(
                [int(key[4:]) for key in yaws], [take[key]["whole shape"] for key in yaws], "o-", ms=4, label=name
            )
    axes.set(xlabel="yaw, degrees", ylabel="RMSE, mm", ylim=(0, None))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    sheet.savefig("docs/images/sweep.png", dpi=110, metadata={"Software": None})
    pyplot.close(sheet)


if __name__ == "__main__":
    main()
