"""Does a model built from scans recover the model that the scans were drawn from? → results/build.json

    python studies/build.py

The truth: the first 20 identity modes of the packaged model, its face region. 100 people; each scan is 12,000 points
spread evenly over the surface, not at its vertices, with noise of 0.3 mm (σ per axis), round holes over a tenth of it,
in a pose of its own. The template: the truth's mean, decimated to some 850 vertices. Three ways of telling where the
face is: 51 landmarks, 7, or none (then the poses are within 10° and 10 mm of the template's).
results/build.json has the first of them only, so far: a way takes some 40 s of CPU.
`ceiling` is the model of the same 100 people with perfect registration.
"""

import json
import time
from pathlib import Path
from typing import Any

import igl
import numpy as np
from scipy.linalg import subspace_angles

from sameface.core.geometry import align, rotation_from_axis_angle
from sameface.mesh.read import Mesh
from sameface.metrics.alignment import Surface
from sameface.morphable import MorphableModel, default
from sameface.morphable.build import laid_on_mean, model_of
from sameface.morphable.register import Landmarks, register

TITLE, RESULT = "A model from scans", Path("results/build.json")

PEOPLE, MODES, NEW, POINTS, NOISE, HOLES, FACES = 100, 20, 200, 12000, 0.3, 0.1, 1600
LANDMARK_NOISE = 1.0
WAYS = {"51 landmarks": tuple(range(17, 68)), "7 landmarks": (36, 39, 42, 45, 30, 48, 54), "no landmarks": ()}


class World:
    """The true model on its face region, and the template: which of its vertices, and triangles of their own."""

    def __init__(self) -> None:
        model = default()
        inside = model.regions["face"][model.faces].all(1)
        used = np.unique(model.faces[inside])
        self.faces = np.searchsorted(used, model.faces[inside]).astype(np.int64)
        self.mean = model.mean[used].astype(np.float64)
        self.basis = model.identity_basis[used][:, :, :MODES].astype(np.float64)
        _, template_faces, _, born = igl.decimate(self.mean, self.faces, FACES)
        self.chosen, self.template_faces = born, template_faces.astype(np.int64)
        self.template = self.mean[born]
        self.landmarks = model.landmarks(model.mean).astype(np.float64)
        carriers, weights = model.landmark_faces, model.landmark_weights
        self.landmark_basis = (model.identity_basis[model.faces[carriers]][..., :MODES] * weights[..., None, None]).sum(
            1
        )
        found = Surface(self.template, self.template_faces).closest(self.landmarks)
        self.corners = self.template_faces[found.triangles]
        a, b, c = (np.ascontiguousarray(self.template[self.corners[:, k]]) for k in range(3))
        self.weights = np.asarray(igl.barycentric_coordinates(found.points, a, b, c))

    def scan(self, identity: np.ndarray, rng: np.random.Generator, near: bool) -> tuple[np.ndarray, ...]:
        """Points, and the pose R, t they were moved by."""
        shape = self.mean + self.basis @ identity
        corners = shape[self.faces]
        area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
        which = rng.choice(len(corners), POINTS, p=area / area.sum())
        points = (corners[which] * rng.dirichlet([1, 1, 1], POINTS)[..., None]).sum(1)
        left = np.ones(POINTS, bool)
        while left.mean() > 1 - HOLES:
            left &= np.linalg.norm(points - points[rng.integers(POINTS)], axis=1) > rng.uniform(4, 12)
        axis = rng.normal(size=3)
        angle = rng.uniform(0, np.radians(10) if near else np.pi)
        rotation = rotation_from_axis_angle(axis / np.linalg.norm(axis) * angle)
        shift = rng.uniform(-1, 1, 3) * (10 if near else 200) / np.sqrt(3)
        points = points[left] + rng.normal(size=(left.sum(), 3)) * NOISE
        return points @ rotation.T + shift, rotation, shift

    def shape(self, identity: np.ndarray) -> np.ndarray:
        """The true places of the template's vertices."""
        return self.template + self.basis[self.chosen] @ identity

    def model(self) -> MorphableModel:
        """The template as a model, so that modes can be made on it."""
        near = np.zeros(68, np.int64)
        return MorphableModel(
            "template", "MIT", self.template.astype(np.float32), np.zeros((len(self.template), 3, 1), np.float32),
            np.zeros((len(self.template), 3, 1), np.float32), self.template_faces, near, np.full((68, 3), 1 / 3),
            ("none",),
        )  # fmt: skip


def registered(world: World, people: np.ndarray, way: str) -> tuple[np.ndarray, dict[str, float]]:
    """All scans registered, in the pose of the truth, and how far they are from it."""
    rng, chosen = np.random.default_rng(1), list(WAYS[way])
    shapes, off, beside, rigid = [], [], [], []
    begin = time.process_time()
    for identity in people:
        points, rotation, shift = world.scan(identity, rng, near=not chosen)
        marks = None
        if chosen:
            true = (world.landmarks + world.landmark_basis @ identity)[chosen] @ rotation.T + shift
            true = true + rng.normal(size=true.shape) * LANDMARK_NOISE
            marks = Landmarks(world.corners[chosen], world.weights[chosen], true)
        scan = Mesh(points, np.zeros((0, 3), np.int64))
        found = register(world.template, world.template_faces, scan, landmarks=marks)
        back, start = ((v - shift) @ rotation for v in (found.vertices, found.pose.apply(world.template)))
        truth = world.shape(identity)
        surface = Surface(world.mean + world.basis @ identity, world.faces)
        shapes.append(back)
        off.append(np.linalg.norm(back - truth, axis=1))
        rigid.append(np.linalg.norm(start - truth, axis=1))
        beside.append(surface.closest(back).distances)
    numbers = {
        "to the true point, mean mm": np.mean(off), "to the true point, median mm": np.median(off),
        "to the true surface, mean mm": np.mean(beside), "rigid template to the true point, mean mm": np.mean(rigid),
        "cpu seconds per scan": (time.process_time() - begin) / len(people),
    }  # fmt: skip
    return np.stack(shapes), {name: round(float(value), 4) for name, value in numbers.items()}


def judged(world: World, shapes: np.ndarray, new: np.ndarray) -> dict[str, object]:
    """What the model of these shapes knows of the true one."""
    built = model_of(shapes, world.model(), modes=MODES)
    mean = built.model.mean.astype(np.float64)
    own = built.model.identity_basis.reshape(-1, MODES).astype(np.float64)
    _, rotation, shift = align(new, np.broadcast_to(mean, new.shape), scale=False)
    faces = new @ rotation.swapaxes(-1, -2) + shift[:, None] - mean
    flat = faces.reshape(len(faces), -1)
    directions = np.linalg.qr(own)[0]
    rest = (flat - flat @ directions @ directions.T).reshape(faces.shape)
    aligned = laid_on_mean(new)
    spread = (aligned - aligned.mean(0)).reshape(len(new), -1)
    _, values, rows = np.linalg.svd(spread, full_matrices=False)
    true = values[:MODES] ** 2 / (len(new) - 1)
    angles = np.degrees(np.sort(subspace_angles(own, rows[:MODES].T)))
    return {
        "new faces left unexplained, mean mm": round(float(np.linalg.norm(rest, axis=2).mean()), 4),
        "new faces from the mean, mean mm": round(float(np.linalg.norm(faces, axis=2).mean()), 4),
        "variance of new faces explained": round(1 - float((rest**2).sum() / (flat**2).sum()), 5),
        "angles to the true subspace, degrees": np.round(angles, 2).tolist(),
        "eigenvalues over the true ones": np.round(built.variances / true, 3).tolist(),
    }


def main() -> None:
    world, rng = World(), np.random.default_rng(0)
    people, new = rng.normal(size=(PEOPLE, MODES)), rng.normal(size=(NEW, MODES))
    shapes = np.stack([world.shape(identity) for identity in people])
    fresh = np.stack([world.shape(identity) for identity in new])
    out: dict[str, object] = {
        "command": "python studies/build.py", "people": PEOPLE, "modes": MODES,
        "template vertices": len(world.template), "points per scan": POINTS, "noise mm": NOISE,
        "holes": HOLES, "landmark noise mm": LANDMARK_NOISE,
        "ceiling": judged(world, shapes, fresh),
    }  # fmt: skip
    for way in WAYS:
        made, numbers = registered(world, people, way)
        out[way] = {"registration": numbers, "model": judged(world, made, fresh)}
        RESULT.write_text(json.dumps(out, indent=1) + "\n")


def section(r: dict[str, Any]) -> list[Any]:
    placed = ("to the true surface, mean mm", "to the true point, mean mm", "rigid template to the true point, mean mm")
    judged = ("variance of new faces explained", "new faces left unexplained, mean mm")
    found = {name: r[name] for name in WAYS if name in r} | {"perfect registration": {"model": r["ceiling"]}}
    rows = []
    for name, one in found.items():
        near = [f"{one['registration'][k]:.2f}" if "registration" in one else "" for k in placed]
        share, rest = (one["model"][k] for k in judged)
        rows.append([name, *near, f"{100 * share:.1f}", f"{rest:.2f}"])
    return [
        f"{r['people']} scans sampled from a known model ({r['modes']} modes), {r['points per scan']} points each "
        f"with {r['noise mm']} mm noise and {100 * r['holes']:.0f} % holes, in any pose; the template has "
        f"{r['template vertices']} vertices.",
        (["registered with", "to the surface, mm", "to the true point, mm", "rigid only, mm",
          "variance of new faces, %", "left over, mm"], rows),
        "The surface is met within the noise, but points slide along smooth skin, so the small modes are blurred.",
    ]  # fmt: skip


if __name__ == "__main__":
    main()
