"""How near the pipeline comes to a head whose every vertex is known: `python studies/scan.py --cache RUNS/scan` →
results/scan.json.

The head is "Infinite, 3D Head Scan by Lee Perry-Smith" (triplegangers.com, CC BY 3.0), rendered by our renderer with
its own skin (pores, stubble, shut eyes) from 20 sides, under 4 lights, from 0.5, 1 and 2 m. Pictures are kept in the
folder --cache: after the first run only the networks and the fit are measured. The scan has no unit: it is made as
large as our mean face by the landmarks that were placed on it by hand (no lids: they are shut; no jaw). Its error is
`sameface evaluate photo_scan`'s (NoW's way) on the vertices that are seen from outside: 1,900 of those in the ball are
the inside of the mouth, nose and eyes, to which no photo can come near.
"""

import argparse
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from torch.nn.functional import avg_pool2d, normalize

from sameface.core.camera import Perspective
from sameface.core.errors import NoFaceFound
from sameface.core.geometry import euler_from_rotation, rotation_from_euler
from sameface.evaluation.benchmarks.photo_scan import BASELINES, Options, Scan, baselines, distances
from sameface.mesh import render as renderer
from sameface.mesh.raster import rasterise, screen_points
from sameface.mesh.read import Mesh
from sameface.mesh.write import write_file
from sameface.metrics.alignment import Surface, procrustes
from sameface.metrics.scans import IBUG_SEVEN
from sameface.morphable import default
from sameface.photo.face import Observation, Photo
from sameface.photo.observe import observe
from sameface.photo.predictor import load, second
from sameface.reconstruction.reconstruct import join
from sameface.synthetic.look import GAMMA, background

TITLE, RESULT = "A scanned head", Path("results/scan.json")

SHARED = Path(os.environ.get("SAMEFACE_SHARED", "../shared"))
HEAD = "oracles/lee_perry_smith"
SIDE, WIDE, FINE = 480, 330.0, 2
"""px of a picture; mm of the head that it shows across; drawn so many times larger and averaged"""
SIDES = (
    *((yaw, 0) for yaw in range(-90, 91, 15)),
    (-30, -20), (0, -20), (30, -20), (-30, 20), (0, 20), (30, 20), (0, 10),
)  # fmt: skip
"""yaw and pitch, degrees"""
DISTANCES = (500, 1000, 2000)
"""mm from the lens to the middle of the face"""
LIGHTS = {
    "soft": ((0.8, -0.15, 0.0, -0.15), (0, 0, 0), 0.0),
    "from the left": ((0.45, -0.05, -0.1, -0.05), (-900, -500, -700), 0.55),
    "from above right": ((0.4, -0.1, 0.1, 0.0), (600, -1200, -500), 0.75),
    "dim, from the front": ((0.1, 0.0, 0.0, -0.02), (100, 100, -900), 0.1),
}
"""shading: constant, and by the normal's x, y, z (camera axes); a lamp's place from the face, mm; strength at 1 m"""
EXPOSURE = 1.5
SETS = {
    "1, front": ((0, 0),),
    "1, side": ((45, 0),),
    "3": ((-45, 0), (0, 0), (45, 0)),
    "5": ((-60, 0), (-30, 0), (0, 0), (30, 0), (60, 0)),
    "16": tuple(side for side in SIDES if abs(side[0]) <= 60),
}
PICKED = {
    17: (-1.216, 1.873, 1.621), 18: (-1.053, 2.046, 1.905), 19: (-0.826, 2.101, 2.03), 20: (-0.588, 2.068, 2.1),
    21: (-0.382, 1.981, 2.094), 22: (0.029, 1.988, 2.158), 23: (0.267, 2.051, 2.137), 24: (0.505, 2.057, 2.062),
    25: (0.743, 2.036, 1.938), 26: (0.938, 1.895, 1.642), 27: (-0.144, 1.733, 2.18), 28: (-0.138, 1.538, 2.314),
    29: (-0.133, 1.354, 2.435), 30: (-0.128, 1.103, 2.581), 31: (-0.382, 0.888, 2.176), 32: (-0.267, 0.882, 2.23),
    33: (-0.128, 0.882, 2.312), 34: (0.009, 0.882, 2.277), 35: (0.153, 0.888, 2.164), 36: (-0.962, 1.603, 1.746),
    39: (-0.408, 1.7, 1.839), 42: (0.191, 1.704, 1.837), 45: (0.787, 1.613, 1.688), 48: (-0.505, 0.391, 2.105),
    49: (-0.366, 0.495, 2.226), 50: (-0.218, 0.579, 2.324), 51: (-0.119, 0.575, 2.346), 52: (-0.002, 0.588, 2.332),
    53: (0.197, 0.513, 2.222), 54: (0.343, 0.411, 2.079), 55: (0.197, 0.341, 2.195), 56: (0.043, 0.319, 2.285),
    57: (-0.112, 0.308, 2.293), 58: (-0.256, 0.323, 2.266), 59: (-0.355, 0.341, 2.195), 60: (-0.47, 0.398, 2.096),
    61: (-0.267, 0.44, 2.177), 62: (-0.123, 0.449, 2.211), 63: (0.043, 0.444, 2.2), 64: (0.312, 0.416, 2.066),
    65: (0.043, 0.438, 2.217), 66: (-0.123, 0.44, 2.223), 67: (-0.267, 0.433, 2.19),
}  # fmt: skip
"""iBUG points in the file's units, placed by hand in pictures of the skin"""


class Head(NamedTuple):
    """The scan, mm, where and as large as our mean face is."""

    vertices: np.ndarray
    faces: np.ndarray
    uv: np.ndarray
    """origin at the lower left"""
    skin: np.ndarray
    """(T, S, 3) uint8"""
    scan: Scan
    """its vertices that are seen from outside"""


def read_head(folder: Path) -> Head:
    import trimesh

    (mesh,) = trimesh.load_scene(folder / "LeePerrySmith.glb", process=False).geometry.values()
    skin = cv2.imread(str(folder / "Map-COL.jpg"))[..., ::-1]
    picked, model = np.full((68, 3), np.nan), default()
    picked[list(PICKED)] = list(PICKED.values())
    mine = model.landmarks(model.mean).astype(np.float64)[list(PICKED)]
    pose = procrustes(picked[list(PICKED)], mine)
    vertices, faces = pose.apply(np.asarray(mesh.vertices, np.float64)), np.asarray(mesh.faces)
    uv = np.asarray(mesh.visual.uv) * [1, -1] + [0, 1]
    outside = seen_from_outside(vertices, faces)
    scan = Scan(Mesh(vertices[outside], np.zeros((0, 3), np.int64)), pose.apply(picked), False)
    return Head(vertices, faces, uv, np.ascontiguousarray(skin), scan)


def seen_from_outside(vertices: np.ndarray, faces: np.ndarray, side: int = 600) -> np.ndarray:
    """(V,) of a triangle that a pixel shows from some of nine sides."""
    seen = np.zeros(len(vertices), bool)
    for pitch in (-35, 0, 35):
        for yaw in (-70, 0, 70):
            far = camera_at((yaw, pitch), 20_000, side)
            face = rasterise(screen_points(vertices, far), faces, (side, side)).face
            seen[faces[np.unique(face[face >= 0])]] = True
    return seen


def camera_at(side: tuple[int, int], distance: float, size: int = SIDE) -> Perspective:
    """Looks at the middle of the face, and shows WIDE mm there."""
    rotation = rotation_from_euler(*np.radians([side[1], side[0], 0.0]))
    return Perspective(
        rotation, np.array([0.0, 0, distance]), np.array(size * distance / WIDE), np.full(2, size / 2), (size, size)
    )


@torch.no_grad()
def picture(head: Head, camera: Perspective, light: str, seed: int) -> np.ndarray:
    """(H, W, 3) uint8: albedo of the skin × (shading + a lamp), before a background out of focus."""
    constant, place, strength = LIGHTS[light]
    size = camera.size[0]
    seen = torch.from_numpy(camera.in_camera(head.vertices).astype(np.float32))[None]
    flat = torch.from_numpy(camera.project(head.vertices).astype(np.float32))[None]
    faces = torch.from_numpy(head.faces)
    points = torch.cat([flat * FINE, seen[..., 2:]], 2)
    fragments = renderer.rasterise(points, faces, (size * FINE, size * FINE), perspective=True, cull=True)
    uv = torch.from_numpy(head.uv.astype(np.float32))[None]
    values = renderer.interpolate(torch.cat([renderer.vertex_normals(seen, faces), seen, uv], 2), fragments)
    texture = torch.from_numpy((head.skin / 255.0) ** GAMMA).float().permute(2, 0, 1)[None]
    normals = normalize(values[:, :3], dim=1).permute(0, 2, 3, 1)
    lamp = torch.tensor(camera.translation + place, dtype=torch.float32)[None, None]
    lit = renderer.point_lights(values[:, 3:6].permute(0, 2, 3, 1), normals, lamp, torch.full((1, 1, 3), strength))
    shading = (constant[0] + normals @ torch.tensor(constant[1:])).clamp_min(0.05)[..., None] + lit
    colour = renderer.sample_texture(texture, values[:, 6:]) * shading.permute(0, 3, 1, 2) * EXPOSURE
    cover = fragments.mask[:, None].float()
    small = avg_pool2d(torch.cat([colour * cover, cover], 1), FINE)[0].permute(1, 2, 0).numpy()
    rgb, part = small[..., :3] / np.maximum(small[..., 3:], 1e-6), small[..., 3:]
    behind = background(size, np.random.default_rng(seed))
    front = 255 * np.clip(rgb, 0, 1) ** (1 / GAMMA)
    return np.clip(np.round(behind + part * (front - behind)), 0, 255).astype(np.uint8)


def photos(head: Head, cache: Path) -> Iterator[tuple[tuple[Any, ...], Photo]]:
    """(side, light, distance) and its picture, drawn once."""
    cache.mkdir(parents=True, exist_ok=True)
    for number, (side, light, far) in enumerate((s, li, d) for s in SIDES for li in LIGHTS for d in DISTANCES):
        file = cache / f"{side[0]}_{side[1]}-{light.replace(' ', '_')}-{far}.png"
        if not file.is_file():
            drawn = picture(head, camera_at(side, far), light, number)
            write_file(file, cv2.imencode(".png", drawn[..., ::-1])[1].tobytes())
        yield (side, light, far), Photo(np.ascontiguousarray(cv2.imread(str(file))[..., ::-1]), file.stem)


def observed(head: Head, cache: Path) -> dict[tuple[Any, ...], Observation | None]:
    """What the networks see in every picture; None where they find no face."""
    seen = {}
    for key, photo in photos(head, cache):
        try:
            seen[key] = observe(photo, load("default"), second=second())[0]
        except NoFaceFound:
            seen[key] = None
    return seen


def error_of(head: Head, seen: Sequence[Observation], focal: float | None) -> tuple[float, float]:
    """mm, and the distance (mm) of the first photo that was found."""
    found = join([replace(one, focal=focal) for one in seen])
    mesh = found.model.vertices(found.identity).astype(np.float64)
    seven = found.model.landmarks(mesh)[list(IBUG_SEVEN)]
    far = float(found.views[0].camera.translation[2])
    return float(distances(head.scan, Surface(mesh, found.model.faces), seven, Options()).mean()), far


def measured(head: Head, seen: dict[tuple[Any, ...], Observation | None], sides: Sequence[tuple[int, int]]) -> dict:
    """Of a set of sides, by distance, each light once (in sets every photo has the next one)."""
    lights, out = list(LIGHTS), {}
    for name, known in (("unknown focal length", False), ("known", True)):
        row: dict[str, Any] = {"by distance": {}, "distance found": {}}
        every = []
        for far in DISTANCES:
            errors = []
            for first in range(len(lights)):
                keys = [(side, lights[(first + k) % len(lights)], far) for k, side in enumerate(sides)]
                there = [one for one in (seen[key] for key in keys) if one is not None]
                if there:
                    errors.append(error_of(head, there, SIDE * far / WIDE if known else None))
            every += errors
            mm, found = zip(*errors, strict=True)
            row["by distance"][f"{far / 1000:g} m"] = float(np.mean(mm))
            row["distance found"][f"{far / 1000:g} m"] = float(np.median(found)) / 1000
        row |= {"mm": float(np.mean([mm for mm, _ in every])), "sd": float(np.std([mm for mm, _ in every]))}
        out[name] = row
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--cache", type=Path, required=True, help="folder where the pictures are kept")
    cache = parser.parse_args().cache
    head = read_head(SHARED / HEAD)
    seen = observed(head, cache)
    yaws = {
        str(yaw): [float(np.degrees(euler_from_rotation(one.camera.rotation)[1]))
                   for (side, _, _), one in seen.items() if side == (yaw, 0) and one is not None]
        for yaw, pitch in SIDES if not pitch
    }  # fmt: skip
    out: dict[str, Any] = {
        "command": "python studies/scan.py --cache RUNS/scan",
        "pictures": len(seen), "without a face": sum(one is None for one in seen.values()),
        "baselines": dict(zip(BASELINES, baselines(head.scan, Options()), strict=True)),
        "sets": {name: measured(head, seen, sides) for name, sides in SETS.items()},
        "yaw": {name: float(np.mean(read)) for name, read in yaws.items() if read},
    }  # fmt: skip
    for name, row in out["sets"].items():
        print(name, {known: round(cell["mm"], 3) for known, cell in row.items()}, flush=True)
    print(out["baselines"], out["without a face"])
    RESULT.write_text(json.dumps(out, indent=1) + "\n")


def section(r: dict[str, Any]) -> list[Any]:
    far = [f"{d / 1000:g} m" for d in DISTANCES]
    mean = r["baselines"]["mean face"]
    rows = [[name, f"{mm:.2f}", *["" for _ in range(2 * len(far) + 1)], f"{mm / mean - 1:+.0%}"]
            for name, mm in r["baselines"].items()]  # fmt: skip
    for name, row in r["sets"].items():
        unknown, known = row["unknown focal length"], row["known"]
        cells = [f"{unknown['mm']:.2f}", *(f"{unknown['by distance'][d]:.2f}" for d in far), f"{known['mm']:.2f}",
                 *(f"{known['by distance'][d]:.2f}" for d in far), f"{unknown['mm'] / mean - 1:+.0%}"]  # fmt: skip
        rows.append([name, *cells])
    head = ["photos", "mm", *far, "focal known", *(f"{d} " for d in far), "against the mean face"]
    found = r["sets"]["1, front"]["unknown focal length"]["distance found"]
    return [
        f"{r['pictures']} pictures of one scanned head (\"Infinite, 3D Head Scan by Lee Perry-Smith\", CC BY 3.0, "
        "based on a work at triplegangers.com) with its own skin: 20 sides, 4 lights, 3 distances; "
        f"in {r['without a face']} no face was found. NoW's error, mean mm, over the four lights.",
        (head, rows),
        "Yaw as read (mean): " + ", ".join(f"{yaw}° as {read:.0f}°" for yaw, read in r["yaw"].items())
        + ". Distance found from one front photo: " + ", ".join(f"{d} as {m:.2f} m" for d, m in found.items()) + ".",
        "One head: what is better here need not be better for people. Its eyes are shut, our neutral face's open.",
    ]  # fmt: skip


if __name__ == "__main__":
    main()
