"""What the benchmarks with scans share: the mesh of an answer, scans read once, and the faces of their samples."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float, Int

from sameface.core.errors import BadData
from sameface.core.files import names_in
from sameface.evaluation.case import Answer, Case
from sameface.mesh.read import Mesh, read_mesh
from sameface.metrics.alignment import Surface
from sameface.morphable.plausible import EYE_CENTRES, eye_distance, order_problem, unit_of

__all__ = [
    "ASKS", "PHOTOS", "believable", "mesh_of", "one_file", "photo", "read_scan", "sample_face", "truth_from",
]  # fmt: skip

ASKS = ("neutral", "faces", "neutral_landmarks")
"""what of an answer is looked at"""
PHOTOS = (".jpg", ".jpeg", ".png", ".bmp")
"""endings of the files that are photos"""

read_scan = lru_cache(maxsize=4)(read_mesh)
"""a scan is asked for once per photo of its subject"""


def mesh_of(
    case: Case, answer: Answer, points: Sequence[int], *, unit: float | None = None
) -> tuple[Surface, Float[np.ndarray, "L 3"]]:
    """The answer's neutral mesh and some of its 68 landmarks.

    Raises ValueError that names what the answer lacks, for landmarks in another order than iBUG's (right and left
    swapped), and, where the size counts (`unit` mm per unit of the mesh), for eyes that are not 40 to 90 mm apart.
    """
    missing = [name for name in ASKS if getattr(answer, name) is None]
    if missing or answer.neutral is None or answer.faces is None or answer.neutral_landmarks is None:
        raise ValueError(f"{case.name} needs the person's mesh, but the answer has no {', '.join(missing)}")
    if problem := order_problem(answer.neutral_landmarks) if points else "":
        raise ValueError(f"{case.name}: the answer's mesh {problem}")
    eyes, (least, most) = eye_distance(answer.neutral_landmarks), EYE_CENTRES
    if unit is not None and not np.isnan(eyes) and not least <= eyes * unit <= most:
        found = "millimetres" if least <= eyes <= most else unit_of(eyes / np.sqrt(least * most))
        hint = f"; the mesh looks like {found}" if found else ""
        apart = f"{eyes * unit:.3g} mm apart, not {least:g} to {most:g}"
        raise ValueError(f"{case.name}: the eyes of the answer's mesh are {apart}{hint}")
    landmarks = answer.neutral_landmarks[list(points)].astype(np.float64)
    if not np.isfinite(landmarks).all():
        raise ValueError(f"{case.name}: landmarks of the answer's mesh are NaN or infinite")
    return Surface(answer.neutral.astype(np.float64), answer.faces.astype(np.int64)), landmarks


def believable(points: Float[np.ndarray, "68 3"], path: Path, advice: str = "") -> Float[np.ndarray, "68 3"]:
    """The same landmarks of a scan in mm (NaN: not known), or BadData, ending in `advice`, if they cannot be those."""
    if problem := order_problem(points):
        raise BadData(f"{path} {problem}")
    eyes = eye_distance(points)
    if not np.isnan(eyes) and not EYE_CENTRES[0] / 2 < eyes < 2 * EYE_CENTRES[1]:
        found = unit_of(eyes / float(np.sqrt(np.prod(EYE_CENTRES))))
        hint = f"; it looks like {found}" if found else ""
        raise BadData(f"{path}: the eyes of the scan are {eyes:.3g} mm apart{hint}{advice}")
    return points


def one_file(folder: Path, ending: str, what: str) -> Path:
    """The first file by name that ends so. Raises BadData that says what is missing where."""
    found = names_in(folder, ending)
    if not found:
        raise BadData(f"{folder} has no *{ending}: {what}")
    return folder / found[0]


def truth_from(scan: Mesh, places: Sequence[int], landmarks: Float[np.ndarray, "L 3"]) -> Answer:
    """The scan itself as an answer; landmarks that the benchmark does not know are NaN."""
    points = np.full((68, 3), np.nan)
    points[list(places)] = landmarks
    return Answer(neutral=scan.vertices, faces=scan.faces, neutral_landmarks=points)


def photo(path: Path, seed: int) -> None:
    """A flat disc in front of grey."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = np.full((96, 96, 3), 60, np.uint8)
    cv2.circle(picture, (48, 48), 30, (120 + seed % 100, 160, 190), -1)
    cv2.imwrite(str(path), picture)


def sample_face(
    seed: int, columns: int = 21, rows: int = 25
) -> tuple[Float[np.ndarray, "V 3"], Int[np.ndarray, "F 3"], Float[np.ndarray, "68 3"]]:
    """A bowl of 160 × 200 mm with a nose and waves of its own, +z towards the viewer, and 68 points on its vertices."""
    rng = np.random.default_rng(seed)
    x, y = (g.reshape(-1) for g in np.meshgrid(np.linspace(-80, 80, columns), np.linspace(-100, 100, rows)))
    waves = sum(rng.uniform(1, 4) * np.sin(x / a + y / b + a) for a, b in rng.uniform(12, 30, (4, 2)))
    nose = rng.uniform(14, 18) * np.exp(-(x**2 + (y + 5) ** 2) / 400)
    vertices = np.stack([x, y, 60 - (x**2 + y**2) / 120 + nose + waves], axis=1)
    corner = (np.arange(rows - 1)[:, None] * columns + np.arange(columns - 1)).reshape(-1)
    quads = np.stack([corner, corner + 1, corner + columns + 1, corner + columns], axis=1)
    ring = np.linspace(0, 2 * np.pi, 68, endpoint=False)
    wanted = np.stack([55 * np.cos(ring), 55 * np.sin(ring)], axis=1)
    wanted[[36, 39, 42, 45, 33, 48, 54, 30]] = [
        [-45, 30], [-18, 30], [18, 30], [45, 30], [0, -17], [-25, -45], [25, -45], [0, -5],
    ]  # fmt: skip
    nearest = np.linalg.norm(vertices[None, :, :2] - wanted[:, None], axis=2).argmin(1)
    return vertices, np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]]), vertices[nearest]
