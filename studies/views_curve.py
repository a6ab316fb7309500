"""Error against the number of photos, on people whose shape is known: `python studies/views_curve.py` →
results/views-curve.json and docs/images/views.png.

Persons are drawn from the model (identity ~ N(0, I)); each gets 16 views with random pose, expression and camera.
`noise`: the dense points themselves with 2 mm of independent noise, which shows the fit alone. `real errors`: the
points with what the network really missed on val photos, photo by photo, so that errors hang together. Both are fits
of points alone, with the average face as prior, since no network can say the identity of bare points. `rendered`:
pictures drawn with the average skin of many photos go through the whole pipeline; it asks more than real photos do,
because the network never saw a rendered, bald, sawn-off head. Error: RMS over the face after the best similarity
(photos without a known focal length do not tell size), mm.
"""

import json
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from sameface.core.camera import WeakPerspective
from sameface.core.errors import NoFaceFound
from sameface.core.geometry import rotation_from_euler
from sameface.morphable import default
from sameface.photo.face import Photo
from sameface.photo.observe import observe, points_of
from sameface.photo.predictor import load, second
from sameface.reconstruction.fit import Measured, fit
from sameface.reconstruction.picture import render
from sameface.reconstruction.reconstruct import join, shape_distance
from sameface.reconstruction.texture import texture
from sameface.training.datasets import facetable
from sameface.training.fit_shard import PRIORS
from table import SHARED, observed

TITLE, RESULT = "More photos, better shape", Path("results/views-curve.json")

PERSONS, VIEWS, SIDE, NOISE_MM, SKINS = 20, (1, 2, 4, 8, 16), 320, 2.0, 150


def average_skin() -> np.ndarray:
    """(512, 512, 3) the mean texture of SKINS faces of the train split.

    One person's skin would not do: its brows and lips lie where that person's fit put them, a few mm off, the same in
    every view. On average over people these errors cancel.
    """
    data, network, model = facetable.load(SHARED / "data" / "faces", "train"), load("default"), default()
    total, weight = np.zeros((512, 512, 3)), np.full((512, 512, 1), 1e-6)
    for i in np.random.default_rng(0).permutation(len(data))[:SKINS].tolist():
        try:
            one = join(observe(Photo(data.image(i), data.names[i]), network, second=second())[:1])
        except NoFaceFound:
            continue
        view = one.views[0]
        camera = view.camera.warped(view.seen.to_picture, (view.seen.picture.shape[1], view.seen.picture.shape[0]))
        mesh = model.vertices(one.identity, view.expression)
        painted = texture([view.seen.picture], [camera], [mesh], model, size=512)
        total += painted.seen[..., None] * painted.pixels.astype(float)
        weight += painted.seen[..., None]
    return np.clip(total / weight + (weight < 1) * total.sum((0, 1)) / weight.sum(), 0, 255).astype(np.uint8)


def views_of(rng: np.random.Generator, count: int) -> tuple[np.ndarray, WeakPerspective]:
    """Random expressions and cameras."""
    expression = rng.uniform(0, 0.6, (count, 51)) * (rng.random((count, 51)) < 0.12)
    names = default().expression_names
    for name in ("jawOpen", "mouthClose"):
        expression[:, names.index(name)] *= 0.5
    rotation = rotation_from_euler(rng.normal(0, 0.15, count), rng.uniform(-0.8, 0.8, count), rng.normal(0, 0.1, count))
    scale = rng.uniform(0.9, 1.4, count)
    return expression, WeakPerspective(rotation, SIDE / 2 + rng.normal(0, 8, (count, 2)), scale, (SIDE, SIDE))


def rendered_error(rng: np.random.Generator, skin: np.ndarray) -> tuple[dict[int, float], float, int]:
    model, network = default(), load("default")
    truth = rng.normal(size=model.n_identity)
    expression, camera = views_of(rng, max(VIEWS))
    seen, missed = [], 0
    for k in range(max(VIEWS)):
        background = cv2.resize(
            rng.integers(0, 255, (4, 4, 3), dtype=np.uint8), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC
        )
        picture = render(model.vertices(truth, expression[k]), model.faces, camera[k], skin=(skin, model.uv),
                         background=background)  # fmt: skip
        try:
            seen.append(observe(Photo(picture, f"view {k}"), network, second=second())[0])
        except NoFaceFound:
            missed += 1
    target = model.vertices(truth)
    errors = {n: shape_distance(join(seen[:n]).vertices(), target, model, scale=True) for n in VIEWS if seen[:n]}
    return errors, shape_distance(model.mean, target, model, scale=True), missed


def real_errors() -> tuple[np.ndarray, np.ndarray]:
    """(P, L, 2) what the network misses on val photos, and (P, L) what it expects to miss, as fractions of the face."""
    data = observed("val", persons_only=True)
    side = np.sqrt(np.ptp(data.label, axis=1).prod(1))[:, None]
    return (data.measured.landmarks - data.label) / side[..., None], data.measured.sigma / side


def points_error(rng: np.random.Generator, errors: tuple[np.ndarray, np.ndarray] | None) -> dict[int, float]:
    """Exact points plus noise: independent (NOISE_MM), or whole photos of the network's real errors."""
    model, points = default(), points_of(load("default"))
    truth = rng.normal(size=model.n_identity)
    expression, camera = views_of(rng, max(VIEWS))
    landmarks = camera.project(points(np.repeat(truth[None], max(VIEWS), 0), expression))
    if errors is None:
        landmarks = landmarks + rng.normal(0, NOISE_MM, landmarks.shape) * camera.scale[:, None, None]
        sigma = np.broadcast_to(NOISE_MM * camera.scale[:, None], landmarks.shape[:2])
    else:
        side = np.sqrt(np.ptp(landmarks, axis=1).prod(1))[:, None]
        photos = rng.integers(0, len(errors[0]), max(VIEWS))
        landmarks, sigma = landmarks + errors[0][photos] * side[..., None], errors[1][photos] * side
    said = np.clip(expression + rng.normal(0, 0.1, expression.shape), 0, 1)
    start = Measured(landmarks, sigma, np.zeros((max(VIEWS), model.n_identity)), said, camera)
    target = model.vertices(truth)
    return {
        n: shape_distance(
            model.vertices(fit(points, start[np.arange(n)], PRIORS).identity[0]), target, model, scale=True
        )
        for n in VIEWS
    }


def summary(rows: list[dict[int, float]]) -> dict[str, dict[str, float]]:
    table = np.array([[row[n] for n in VIEWS] for row in rows])
    return {
        str(n): {"mean": float(m), "std": float(s)} for n, m, s in zip(VIEWS, table.mean(0), table.std(0), strict=True)
    }


def draw(out: dict, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 3.8), layout="constrained")
    labels = {
        "real errors": ("#b5532a", "points with the network's real errors"),
        "noise": ("#33658a", "points with 2 mm of independent noise"),
        "rendered": ("#999999", "rendered heads, whole pipeline"),
    }
    for name, (colour, label) in labels.items():
        mean = np.array([out[name][str(n)]["mean"] for n in VIEWS])
        spread = np.array([out[name][str(n)]["std"] for n in VIEWS]) / np.sqrt(out["persons"])
        axes.errorbar(VIEWS, mean, spread, marker="o", capsize=3, color=colour, label=label)
    axes.axhline(out["mean face"], color="#777777", linestyle="--", label="baseline: the mean face")
    axes.set(xscale="log", xlabel="photos of the person", ylabel="shape error, mm RMS", ylim=(0, None))
    axes.set_xticks(VIEWS, [str(n) for n in VIEWS])
    axes.minorticks_off()
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


def main() -> None:
    skin = average_skin()
    rendered, baseline, missed = [], [], 0
    for k in range(PERSONS):
        errors, mean_face, lost = rendered_error(np.random.default_rng((1, k)), skin)
        rendered.append(errors)
        baseline.append(mean_face)
        missed += lost
        print(k, {n: round(e, 2) for n, e in errors.items()}, round(mean_face, 2), flush=True)
    errors = real_errors()
    out = {
        "command": "python " + " ".join(["studies/views_curve.py", *sys.argv[1:]]), "persons": PERSONS,
        "error": "mm RMS over the face after the best similarity", "faces not found": missed,
        "rendered": summary(rendered),
        "real errors": summary([points_error(np.random.default_rng((2, k)), errors) for k in range(3 * PERSONS)]),
        "noise": summary([points_error(np.random.default_rng((2, k)), None) for k in range(3 * PERSONS)]),
        "mean face": float(np.mean(baseline)),
    }  # fmt: skip
    RESULT.write_text(json.dumps(out, indent=1) + "\n")
    draw(out, Path("docs/images/views.png"))
    print(json.dumps(out, indent=1))


def section(r: dict[str, Any]) -> list[Any]:
    counts = list(r["noise"])
    names = {
        "real errors": "points with the network's real errors (val photos)",
        "noise": "points with 2 mm of independent noise",
        "rendered": "rendered heads, whole pipeline",
    }
    rows = [
        [name, *(f"{r[key][n]['mean']:.2f} ± {r[key][n]['std']:.2f}" for n in counts)] for key, name in names.items()
    ]
    rows.append(["baseline: the mean face", *([f"{r['mean face']:.2f}"] * len(counts))])
    return [
        f"People drawn from the model, whose shape is known; {r['error']}; mean ± std over people "
        f"({r['persons']} rendered, {3 * r['persons']} as points).",
        (["photos", *counts], rows),
        "![error against the number of photos](images/views.png)",
        "The first two rows are fits of points alone: nobody can say the identity of bare points. The networks never "
        "saw a rendered, bald, sawn-off head: on those their errors are systematic, more views do not help, and the "
        "shape is hardly better than the mean face. Rendered people belong into their training.",
    ]


if __name__ == "__main__":
    main()
