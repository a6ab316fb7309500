"""Our fit against SciPy's general solver on the same objective: `python benchmarks/fit.py` → benchmarks/fit.json.

Both minimise the objective of `sameface.reconstruction.fit` for one synthetic face (164 points, 80 + 51 coefficients, a
camera) from the same start. The peer is scipy.optimize.least_squares (trust region, box bounds, 2-point Jacobian as a
user would write it). Median of 5 runs each, taken in turn.
"""

import json
import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import least_squares

from sameface.core.camera import WeakPerspective
from sameface.core.geometry import rotation_from_axis_angle, rotation_from_euler
from sameface.morphable import default
from sameface.morphable.points import Points
from sameface.photo.observe import points_of
from sameface.photo.predictor import load
from sameface.reconstruction.fit import Measured, Priors, fit

TITLE, RESULT = "Speed of the fit against a general solver", Path("benchmarks/fit.json")


def problem(points: Points, seed: int = 0) -> Measured:
    rng = np.random.default_rng(seed)
    identity, expression = rng.normal(size=(1, 80)), np.clip(rng.normal(0, 0.3, (1, 51)), 0, 1)
    rotation = rotation_from_euler(np.array([0.1]), np.array([0.4]), np.array([0.05]))
    camera = WeakPerspective(rotation, np.array([[200.0, 210.0]]), np.array([1.5]), (400, 400))
    seen = camera.project(points(identity, expression)) + rng.normal(0, 1.5, (1, len(points.mean), 2))
    start = replace(camera, scale=camera.scale * 1.05, translation=camera.translation + 4)
    return Measured(seen, np.full(seen.shape[:2], 1.5), np.zeros((1, 80)), np.full((1, 51), 0.1), start)


def by_scipy(points: Points, measured: Measured, priors: Priors) -> float:
    """The objective reached."""
    n, e = points.identity.shape[2], points.expression.shape[2]

    def residuals(x: np.ndarray) -> np.ndarray:
        identity, expression, turn = x[:n], x[n : n + e], x[n + e : n + e + 3]
        camera = replace(
            measured.camera,
            rotation=rotation_from_axis_angle(turn[None]) @ measured.camera.rotation,
            scale=measured.camera.scale * np.exp(x[-3]),
            translation=measured.camera.translation + x[None, -2:],
        )
        off = (camera.project(points(identity[None], expression[None])) - measured.landmarks)[0] / measured.sigma[0][
            :, None
        ]
        distance = np.linalg.norm(off, axis=1)
        cost = np.where(distance <= priors.huber, distance**2, 2 * priors.huber * distance - priors.huber**2)
        root = off * (np.sqrt(cost) / np.maximum(distance, 1e-12))[:, None]
        prior = np.sqrt(priors.expression) * (expression - measured.expression[0])
        return np.concatenate([root.ravel(), np.sqrt(priors.identity) * identity, prior])

    start = np.concatenate([np.zeros(n), measured.expression[0], np.zeros(6)])
    low = np.concatenate([np.full(n, -np.inf), np.zeros(e), np.full(6, -np.inf)])
    high = np.concatenate([np.full(n, np.inf), np.ones(e), np.full(6, np.inf)])
    answer = least_squares(residuals, start, bounds=(low, high), max_nfev=30)
    return float(2 * answer.cost)


def main() -> None:
    points, priors = points_of(load("default")), replace(Priors(), network=0.0)
    assert default().n_identity == 80
    times: dict[str, list[float]] = {"sameface.reconstruction.fit": [], "scipy.optimize.least_squares": []}
    reached: dict[str, float] = {}
    for run in range(6):
        measured = problem(points)
        start = time.perf_counter()
        reached["sameface.reconstruction.fit"] = fit(points, measured, priors).objective[-1]
        middle = time.perf_counter()
        reached["scipy.optimize.least_squares"] = by_scipy(points, measured, priors)
        if run:
            times["sameface.reconstruction.fit"].append(1000 * (middle - start))
            times["scipy.optimize.least_squares"].append(1000 * (time.perf_counter() - middle))
    medians = {name: statistics.median(values) for name, values in times.items()}
    ratio = medians["scipy.optimize.least_squares"] / medians["sameface.reconstruction.fit"]
    out = {
        "command": "python benchmarks/fit.py",
        "what": "One photo's fit, the same objective and start for both.",
        "solvers": {
            name: {"median ms": round(ms, 2), "objective": round(reached[name], 3)} for name, ms in medians.items()
        },
        "ratio": f"{ratio:.0f} times faster",
    }
    Path("benchmarks/fit.json").write_text(json.dumps(out, indent=1) + "\n")
    print(json.dumps(out, indent=1))


def section(r: dict[str, Any]) -> list[Any]:
    rows = [[name, f"{v['median ms']:.1f}", f"{v['objective']:.1f}"] for name, v in r["solvers"].items()]
    return [r["what"], (["solver", "median ms", "objective reached"], rows), f"Ratio: {r['ratio']}."]


if __name__ == "__main__":
    main()
