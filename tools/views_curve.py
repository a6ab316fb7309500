"""Error against the number of photos, on people whose shape is known: `python tools/views_curve.py` →
results/views-curve.json and docs/images/views.png.

Persons are drawn from the model (identity ~ N(0, I)); each gets 16 views with random pose, expression and camera.
`rendered`: pictures are drawn with a skin taken from a public-domain photo and go through the whole pipeline. `points`:
the dense points themselves with 2 mm of noise, which shows the fit without the network. Error: RMS over the face after
the best similarity (photos without a known focal length do not tell size), mm.
"""

import json
import sys
from pathlib import Path

import cv2
import numpy as np

from sameface.camera import WeakPerspective
from sameface.errors import NoFaceFound
from sameface.face import Photo
from sameface.fit import Measured, fit
from sameface.geometry import rotation_from_euler
from sameface.image import read
from sameface.morphable import default
from sameface.observe import observe, points_of
from sameface.picture import render
from sameface.predictor import load
from sameface.reconstruction import join, reconstruct, shape_distance

PERSONS, VIEWS, SIDE, NOISE_MM = 20, (1, 2, 4, 8, 16), 320, 2.0


def skins() -> list[np.ndarray]:
    """Textures of the two public-domain photos."""
    from matplotlib import cbook
    from skimage import data

    hopper = cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)
    return [reconstruct(read(photo)).texture for photo in (data.astronaut(), str(hopper))]


def views_of(rng: np.random.Generator, count: int) -> tuple[np.ndarray, WeakPerspective]:
    """Random expressions and cameras."""
    expression = rng.uniform(0, 0.6, (count, 51)) * (rng.random((count, 51)) < 0.12)
    names = default().expression_names
    for name in ("jawOpen", "mouthClose"):
        expression[:, names.index(name)] *= 0.5
    rotation = rotation_from_euler(rng.normal(0, 0.15, count), rng.uniform(-0.8, 0.8, count), rng.normal(0, 0.1, count))
    scale = rng.uniform(0.9, 1.4, count)
    return expression, WeakPerspective(rotation, SIDE / 2 + rng.normal(0, 8, (count, 2)), scale, (SIDE, SIDE))


def rendered_error(rng: np.random.Generator, textures: list[np.ndarray]) -> tuple[dict[int, float], float, int]:
    model, network = default(), load("default")
    truth = rng.normal(size=model.n_identity)
    expression, camera = views_of(rng, max(VIEWS))
    skin, seen, missed = textures[int(rng.integers(len(textures)))], [], 0
    for k in range(max(VIEWS)):
        background = cv2.resize(
            rng.integers(0, 255, (4, 4, 3), dtype=np.uint8), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC
        )
        picture = render(model.vertices(truth, expression[k]), model.faces, camera[k], skin=(skin, model.uv),
                         background=background)  # fmt: skip
        try:
            seen.append(observe(Photo(picture, f"view {k}"), network)[0])
        except NoFaceFound:
            missed += 1
    target = model.vertices(truth)
    errors = {n: shape_distance(join(seen[:n]).vertices(), target, model, scale=True) for n in VIEWS if seen[:n]}
    return errors, shape_distance(model.mean, target, model, scale=True), missed


def points_error(rng: np.random.Generator) -> dict[int, float]:
    model, points = default(), points_of(load("default"))
    truth = rng.normal(size=model.n_identity)
    expression, camera = views_of(rng, max(VIEWS))
    exact = points(np.repeat(truth[None], max(VIEWS), 0), expression)
    landmarks = camera.project(exact) + rng.normal(0, NOISE_MM, exact.shape)[..., :2] * camera.scale[:, None, None]
    sigma = np.broadcast_to(NOISE_MM * camera.scale[:, None], landmarks.shape[:2])
    start = Measured(landmarks, sigma, np.zeros((max(VIEWS), model.n_identity)), np.clip(
        expression + rng.normal(0, 0.1, expression.shape), 0, 1), camera)  # fmt: skip
    target = model.vertices(truth)
    return {n: shape_distance(model.vertices(fit(points, start[np.arange(n)]).identity[0]), target, model, scale=True)
            for n in VIEWS}  # fmt: skip


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
    for name, colour in (("rendered", "#b5532a"), ("points", "#33658a")):
        mean = np.array([out[name][str(n)]["mean"] for n in VIEWS])
        spread = np.array([out[name][str(n)]["std"] for n in VIEWS]) / np.sqrt(out["persons"])
        label = "rendered photos, whole pipeline" if name == "rendered" else "exact points + 2 mm noise, fit only"
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
    textures = skins()
    rendered, baseline, missed = [], [], 0
    for k in range(PERSONS):
        errors, mean_face, lost = rendered_error(np.random.default_rng((1, k)), textures)
        rendered.append(errors)
        baseline.append(mean_face)
        missed += lost
        print(k, {n: round(e, 2) for n, e in errors.items()}, round(mean_face, 2), flush=True)
    out = {
        "command": "python " + " ".join(["tools/views_curve.py", *sys.argv[1:]]), "persons": PERSONS,
        "error": "mm RMS over the face after the best similarity", "faces not found": missed,
        "rendered": summary(rendered),
        "points": summary([points_error(np.random.default_rng((2, k))) for k in range(PERSONS)]),
        "mean face": float(np.mean(baseline)),
    }  # fmt: skip
    Path("results/views-curve.json").write_text(json.dumps(out, indent=1) + "\n")
    draw(out, Path("docs/images/views.png"))
    print(json.dumps(out, indent=1))


if __name__ == "__main__":
    main()
