"""How long our renderer takes on a CPU: `python benchmarks/render.py` → benchmarks/render.json.

Batches of our model (6,975 vertices, 13,680 triangles) in random poses on 128 px, in float32 with one thread:
which triangle each pixel sees, where in it, and how deep (`rasterise`); the same with three attributes per vertex
interpolated; and that with the gradients of points and attributes.

The peers answer the first question only, one image after the other, and have no gradient: our numpy z-buffer
(sameface.mesh.raster) and, if installed (`pip install trimesh embreex`), Intel's Embree by trimesh, which builds its
tree and casts a ray through each pixel's centre (of one image per run). Pixels where it sees another triangle are
counted.

All are timed in turn, in the same process; the least of the runs counts, because other programs may be running: the
load is in the file, and beside the time on the wall the processor time. One thread is also what a busy machine should
be given: with two, each of the many short steps waits until the other programs let both run (at a load of 9 on two
processors it took a hundred times as long).
"""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from sameface.core.camera import WeakPerspective
from sameface.core.geometry import rotation_from_euler
from sameface.mesh.raster import rasterise as rasterise_numpy
from sameface.mesh.raster import screen_points
from sameface.mesh.render import interpolate, rasterise
from sameface.morphable import default

SIDE, THREADS = 128, 1
SECONDS = 12.0
"""of processor time spent on each batch size"""


def heads(count: int) -> np.ndarray:
    """(count, V, 3) points: the mean face filling the image, turned at random."""
    model, rng, points = default(), np.random.default_rng(0), []
    centred = model.mean - (model.mean.min(0) + model.mean.max(0)) / 2
    for angles in rng.uniform(-0.5, 0.5, (count, 3)):
        rotation = rotation_from_euler(*(np.array(angle) for angle in angles))
        camera = WeakPerspective(rotation, np.full(2, SIDE / 2), np.array(0.95 * SIDE / 245), (SIDE, SIDE))
        points.append(screen_points(centred, camera))
    return np.stack(points).astype(np.float32)


def embree(points: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """The triangle each pixel sees, by ray casting."""
    from trimesh import Trimesh
    from trimesh.ray.ray_pyembree import RayMeshIntersector

    j, i = np.mgrid[0:SIDE, 0:SIDE] + 0.5
    origins = np.stack([i.ravel(), j.ravel(), np.full(i.size, -1000.0)], 1)
    along = np.tile([0.0, 0.0, 1.0], (len(origins), 1))
    seen = RayMeshIntersector(Trimesh(points, faces, process=False)).intersects_first(origins, along)
    return seen.reshape(1, SIDE, SIDE)


def contenders(points: np.ndarray, faces: np.ndarray) -> dict[str, Callable]:
    ours, triangles = torch.tensor(points), torch.tensor(faces).long()
    values = torch.rand(*points.shape)
    leaf, leaf_values = ours.clone().requires_grad_(), values.clone().requires_grad_()

    def train():
        picture = interpolate(leaf_values, rasterise(leaf, triangles, (SIDE, SIDE)))
        torch.autograd.grad(picture.square().sum(), (leaf, leaf_values))

    runs = {
        "rasterise": lambda: rasterise(ours, triangles, (SIDE, SIDE)),
        "rasterise and interpolate": lambda: interpolate(values, rasterise(ours, triangles, (SIDE, SIDE))),
        "rasterise, interpolate, gradients": train,
        "sameface.mesh.raster (numpy)": lambda: np.stack(
            [rasterise_numpy(one, faces, (SIDE, SIDE)).face for one in points]
        ),
    }
    try:
        embree(points[0], faces)
    except ImportError:
        return runs
    return runs | {"Embree (trimesh)": lambda: embree(points[0], faces)}


def measured(batch: int) -> dict:
    points, faces = heads(batch), default().faces
    runs = contenders(points, faces)
    wall, processors = ({name: [] for name in runs} for _ in range(2))
    start, answers = time.process_time(), {}
    while time.process_time() - start < SECONDS:
        for name, run in runs.items():
            before = time.perf_counter(), time.process_time()
            answers[name] = run()
            images = 1 if "Embree" in name else batch
            wall[name].append(1000 * (time.perf_counter() - before[0]) / images)
            processors[name].append(1000 * (time.process_time() - before[1]) / images)
    ours, theirs = answers["rasterise"].face.numpy(), {name: answers[name] for name in list(runs)[3:]}
    return {
        "runs": len(wall["rasterise"]),
        "least ms per image": {name: round(min(times), 2) for name, times in wall.items()},
        "least processor ms per image": {name: round(min(times), 2) for name, times in processors.items()},
        "ratio of processor times, rasterise / peer": {
            name: round(min(processors["rasterise"]) / min(processors[name]), 2) for name in theirs
        },
        "other triangle than ours, % of covered pixels": {
            name: round(100 * float((seen != ours[: len(seen)]).sum() / (ours[: len(seen)] >= 0).sum()), 3)
            for name, seen in theirs.items()
        },
    }


def main() -> None:
    torch.set_num_threads(THREADS)
    out = {
        "command": "python benchmarks/render.py",
        "what": f"a head of 6,975 vertices at {SIDE} px, {THREADS} thread on a machine of {os.cpu_count()} processors",
        "load of the machine before (1 minute)": round(os.getloadavg()[0], 1),
        "batch of 8": measured(8),
        "batch of 32": measured(32),
    }
    Path("benchmarks/render.json").write_text(json.dumps(out, indent=1, ensure_ascii=False) + "\n")
    print(json.dumps(out, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
