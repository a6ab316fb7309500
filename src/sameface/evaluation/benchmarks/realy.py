"""REALY: photos of 100 people against four regions of their scans, each aligned and compared for itself.

Chai et al.: "REALY: Rethinking the Evaluation of 3D Face Reconstruction", ECCV 2022. Unit: mm, the mean distance of a
region's scan vertices to where a non-rigid ICP says they belong on the prediction (NMSE); `mm` is the mean of nose,
mouth, forehead and cheek. Formulas: `metrics.regions`, after czh-98/REALY. Two sets of photos: frontal (100) and side.

Layout: the folder `data` of czh-98/REALY with the benchmark's files in it: ROOT/REALY_HIFI3D_keypoints/ID.obj (85
points), ROOT/REALY_scan_region/ID/{nose,mouth,forehead,cheek}.obj, ROOT/metrical_scale.txt (a number per ID, from 1),
and for the mesh that is compared ROOT/TEMPLATE.txt: 85 × [triangle, b0, b1], barycentric (b2 = 1 − b0 − b1), JSON, on
the triangles of the answer's own mesh. Photos: ROOT/IMAGES/ID.* or ID_VIEW.*; the name of that folder is from memory
(say --images). The file for your topology has to be made once, by hand or by the benchmark's authors: a barycentric
file of another topology (HIFI3D.txt …) does not fit.

Licence: made from Headspace/LYHM scans; on request, for research; no redistribution.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from sameface.core.errors import AssetMissing, BadData
from sameface.core.files import names_in, read_json, read_text
from sameface.core.geometry import barycentric
from sameface.evaluation.benchmarks._scans import ASKS, PHOTOS, mesh_of, photo, read_scan, sample_face
from sameface.evaluation.case import Answer, Case, Published
from sameface.mesh.write import write_obj
from sameface.metrics.regions import REGIONS, region_error

__all__ = ["Options", "asks", "cases", "published", "sample", "score", "summary", "truth"]

asks = ASKS
COUNT = 85
SCALES = "metrical_scale.txt"
LARGEST = 1 << 20
"""bytes of the file of keypoints"""


@dataclass(frozen=True)
class Options:
    """What the benchmark leaves to whoever takes part."""

    template: str = "sameface"
    """ROOT/TEMPLATE.txt holds the 85 keypoints on the answer's mesh (main.py --template_topology)"""
    images: str = "REALY_image"
    """folder of the photos below the root (from memory); frontal and side photos lie in different ones"""


published: tuple[Published, ...] = ()


def cases(root: Path, options: Options) -> list[Case]:
    """One case per photo; truth: `regions` (paths by name), `scan_keypoints` (path), `keypoints` (path), `scale`.

    Raises AssetMissing without the 85 keypoints of the answer's mesh, BadData for what else is missing.
    """
    keypoints = root / f"{options.template}.txt"
    folder = root / options.images
    photos = sorted((folder / name for name in names_in(folder, *PHOTOS)), key=_number)
    if not photos:
        raise BadData(f"{folder} has no photos named by a subject's number (1.jpg …); say --images where they are")
    if not keypoints.is_file():
        raise AssetMissing(
            f"{keypoints} is missing: REALY needs 85 keypoints on the compared mesh, as JSON [[triangle, b0, b1], …], "
            "on the triangles of the answer; see README 'Keypoints Preparation' of czh-98/REALY for which points"
        )
    scales = _scales(root / SCALES)
    return [_case(root, path, keypoints, scales) for path in photos]


def _number(path: Path) -> tuple[int, str]:
    first = path.stem.split("_")[0]
    if not first.isdigit() or int(first) < 1:
        raise BadData(f"{path} is not named by a subject's number, from 1, as REALY's photos are")
    return int(first), path.stem


def _scales(path: Path) -> Float[np.ndarray, " N"]:
    if not path.is_file():
        raise BadData(f"{path} is missing; it comes with czh-98/REALY in its folder data")
    try:
        scales = np.array(read_text(path).split(), np.float64)
    except ValueError as error:
        raise BadData(f"{path} should hold one number per line ({error})") from None
    if not (np.isfinite(scales).all() and (scales > 0).all()):
        raise BadData(f"{path} holds numbers of mm per unit that are not positive")
    return scales


def _case(root: Path, path: Path, keypoints: Path, scales: np.ndarray) -> Case:
    subject = _number(path)[0]
    regions = {region: root / "REALY_scan_region" / str(subject) / f"{region}.obj" for region in REGIONS}
    scan_keypoints = root / "REALY_HIFI3D_keypoints" / f"{subject}.obj"
    for file in (*regions.values(), scan_keypoints):
        if not file.is_file():
            raise BadData(f"{file} is missing, of subject {subject}, whose photo is {path.name}")
    if subject > len(scales):
        raise BadData(f"{root / SCALES} has {len(scales)} numbers, none for subject {subject}")
    truth = {
        "regions": regions, "scan_keypoints": scan_keypoints, "keypoints": keypoints,
        "scale": float(scales[subject - 1]),
    }  # fmt: skip
    return Case(name=path.stem, photos=(path,), places=(None,), truth=truth)


def _places(path: Path, faces: Int[np.ndarray, "F 3"]) -> tuple[Int[np.ndarray, "85 3"], Float[np.ndarray, "85 3"]]:
    """Corners and weights of the 85 keypoints."""
    try:
        rows = np.array(read_json(path, LARGEST), np.float64)
    except (ValueError, TypeError, OverflowError) as error:
        raise BadData(f"{path} is no JSON list of [triangle, b0, b1] ({error})") from None
    if rows.shape != (COUNT, 3) or not np.isfinite(rows).all():
        raise BadData(f"{path} holds a list of the shape {rows.shape}; expected 85 × [triangle, b0, b1]")
    triangles = rows[:, 0].astype(np.int64)
    if triangles.min() < 0 or triangles.max() >= len(faces):
        raise BadData(
            f"{path} names triangles {triangles.min()}..{triangles.max()}, but the answer's mesh has {len(faces)}: "
            "it is of another topology"
        )
    weights = np.column_stack([rows[:, 1:], 1 - rows[:, 1] - rows[:, 2]])
    return faces[triangles].astype(np.int64), weights


def _scan_keypoints(case: Case) -> Float[np.ndarray, "85 3"]:
    points = read_scan(case.truth["scan_keypoints"]).vertices
    if len(points) != COUNT:
        raise BadData(f"{case.truth['scan_keypoints']} holds {len(points)} points; expected 85")
    return points


def score(case: Case, answer: Answer, options: Options) -> dict[str, float]:
    """`mm`, the mean of the four regions, then `nose`, `mouth`, `forehead`, `cheek`, all in mm.

    Raises ValueError when the answer has no neutral mesh, BadData when the keypoints do not belong to it.
    """
    surface, _ = mesh_of(case, answer, ())
    keypoints = barycentric(surface.vertices, *_places(case.truth["keypoints"], surface.faces))
    scan_keypoints, errors = _scan_keypoints(case), {}
    for region, path in case.truth["regions"].items():
        scan = read_scan(path)
        found = region_error(region, scan.vertices, scan.faces, scan_keypoints, surface, keypoints)
        errors[region] = case.truth["scale"] * found.nmse
    return {"mm": float(np.mean(list(errors.values())))} | errors


def summary(
    cases: list[Case], answers: list[Answer | None], rows: list[dict[str, float] | None], options: Options
) -> dict[str, float]:
    """`mm` and each region: mean over the photos; `REGION/std` with ddof 1, as main.py (none for a single photo).

    Photos that the system failed on are in no mean.
    """
    done = [row for row in rows if row is not None]
    table = {name: float(np.mean([row[name] for row in done])) for name in ("mm", *REGIONS)}
    if len(done) > 1:
        table |= {f"{name}/std": float(np.std([row[name] for row in done], ddof=1)) for name in REGIONS}
    return table


def truth(case: Case, options: Options) -> Answer:
    """The four regions as one mesh, in this order, which the keypoints of the sample belong to."""
    scans = [read_scan(case.truth["regions"][region]) for region in REGIONS]
    before = np.cumsum([0, *(len(scan.vertices) for scan in scans)])
    vertices = np.concatenate([scan.vertices for scan in scans])
    faces = np.concatenate([scan.faces + first for scan, first in zip(scans, before, strict=False)])
    return Answer(neutral=vertices, faces=faces, neutral_landmarks=_scan_keypoints(case)[:68])


def sample(root: Path) -> None:
    """Two subjects with one photo each, in units of 10 mm; every region holds the middle, where the keypoints are."""
    (root / "REALY_HIFI3D_keypoints").mkdir(parents=True, exist_ok=True)
    parts, keypoints = [], np.zeros((0, 3))
    for number in (1, 2):
        vertices, faces, _ = sample_face(20 + number)
        vertices = vertices / 10
        x, y = np.abs(vertices[:, 0]), vertices[:, 1]
        middle = np.flatnonzero((x < 6) & (np.abs(y) < 5))
        keypoints = vertices[np.random.default_rng(0).permutation(middle)[:COUNT]]
        folder = root / "REALY_scan_region" / str(number)
        folder.mkdir(parents=True, exist_ok=True)
        parts = []
        for region, inside in zip(REGIONS, (np.abs(y) < 6, y < 6, y > -6, x < 7), strict=True):
            kept = faces[inside[faces].all(1)]
            used, renumbered = np.unique(kept, return_inverse=True)
            parts.append((vertices[used], renumbered.reshape(-1, 3)))
            write_obj(folder / f"{region}.obj", *parts[-1])
        write_obj(root / "REALY_HIFI3D_keypoints" / f"{number}.obj", keypoints, np.zeros((0, 3), np.int64))
        photo(root / Options().images / f"{number}.jpg", number)
    (root / f"{Options().template}.txt").write_text(json.dumps(_on_corners(parts, keypoints)))
    (root / SCALES).write_text("10.0\n10.0\n")


def _on_corners(parts: list[tuple[np.ndarray, np.ndarray]], keypoints: np.ndarray) -> list:
    """[triangle, b0, b1] of keypoints that are vertices of the parts put together."""
    corners = np.concatenate([vertices[faces] for vertices, faces in parts])
    rows = []
    for point in keypoints:
        triangle, corner = divmod(int(np.linalg.norm(corners[..., :2] - point[:2], axis=2).argmin()), 3)
        rows.append([triangle, float(corner == 0), float(corner == 1)])
    return rows
