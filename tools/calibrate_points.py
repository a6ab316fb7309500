"""Where do the labels' points really lie on the model? → assets/dense_points.npz.

    python tools/calibrate_points.py runs/teacher

The ICT model says where each of MediaPipe's points lies to within a millimetre or two in the plane of the face, and 3
to 4 mm off in depth. That error is the same for everybody, so a fit would give everybody the same wrong brow, jaw and
profile, the more so the farther the head is turned. Here photos of many people (train split) at every yaw to 65°, as
many of each ten degrees, are fitted with the mean face, its own camera and expression per photo; what is left over on
average, per point, in the model's frame, is the point's offset (mm, three dimensions). Then the same for the 21 points
that AFLW's annotators placed, with the cameras that the dense points of the same photos give.

- A point counts only in photos that show it: on the hidden side the labels are guesses.
- The depth of the average face is that of the model, not of the labels: photos turned by up to 65° to both sides leave
  no freedom for it, since a face stretched in depth would need a turn of the camera that is no rotation. (From frontal
  photos alone, depth and turn trade against each other.) A weak pull to the model's own place (RIDGE) holds what is
  left, the lean of the whole face with its average pitch.
- The offsets are mirror-symmetric, and lose what a similarity could explain.
- By construction the average person of the photos then is the average face, seen from everywhere.
- Expressions are held firmly to the teacher's: what they could explain of the average face would else be seen as
  expressions of every neutral face. The 20th percentile of each over the photos is not an expression but an
  offset, since every photo seems to have it.
"""

import os
import sys
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from scipy.optimize import nnls
from teacher_points import BLENDSHAPES, SHARED

from sameface.core.camera import WeakPerspective
from sameface.core.geometry import align, barycentric, euler_from_rotation, rotation_from_euler, vertex_normals
from sameface.morphable import default
from sameface.morphable.points import Points
from sameface.reconstruction.fit import Fit, Measured, Priors, fit
from sameface.training.datasets import facetable
from sameface.training.dense_points import AFLW_MIRRORED, POINT_IDS

OUT = Path("src/sameface/assets/dense_points.npz")
IDS = np.array(POINT_IDS)
NAMES = default().expression_names
LIDS = {"Left": (386, 374, 263, 362), "Right": (159, 145, 33, 133)}
"""MediaPipe's upper lid, lower lid and corners of the subject's eyes"""
SHUT, OPEN = 0.06, 0.22
"""distance of the lids / width of the eye of a blink of 1, and of 0"""
BINS = (0, 5, 15, 25, 35, 45, 55, 65)
PER_BIN, ROUNDS, RIDGE = 250, 7, 0.05
EXPRESSION = 2000.0
"""how firmly expressions are held to the teacher's; at the fit's own 20 a quarter of everybody's longer chin was said
by the jaw, and neutral faces sneered"""
LARGEST_GAP = 0.05
"""of the face's size: where the two MediaPipe networks differ by more, neither is believed"""
AFLW_SIDE = 120


@dataclass(frozen=True)
class Rows:
    """N photos as the teacher saw them, in px of 160 px crops."""

    names: list[str]
    points: np.ndarray
    """(N, 478, 2)"""
    shapes: np.ndarray
    """(N, E) blendshapes of the model"""
    rotation: np.ndarray
    """(N, 3, 3), within some degrees"""
    good: np.ndarray
    """(N,) whether the points can be believed"""

    @property
    def yaw(self) -> np.ndarray:
        return np.degrees(euler_from_rotation(self.rotation)[1])


def table_rows(teacher: Path, split: str) -> Rows:
    """The face table's rows of a split; good where the older labels say the same."""
    data = facetable.load(SHARED / "data" / "faces", split)
    said = [np.load(file) for file in sorted(teacher.glob("*.npz")) if file.stem != "aflw21"]
    where = {str(name): (file, k) for file in said for k, name in enumerate(file["names"])}
    points = {id(file): (file["points"], file["scores"]) for file in said}
    rows = [(points[id(where[name][0])], where[name][1]) for name in data.names]
    zoom = facetable.SIDE / np.array(data.columns["size"])
    seen = np.stack([p[k] for (p, _), k in rows]).astype(float) * zoom[:, None, None]
    rotation = data.rotation.astype(float)
    shapes = blendshapes(seen, np.stack([s[k] for (_, s), k in rows]).astype(float), yaw_of(rotation))
    older = np.stack([data.landmarks(k) for k in range(len(data))])
    gap, shown = np.linalg.norm(seen[:, IDS] - older, axis=2), visible(rotation)
    good = (gap * shown).sum(1) / shown.sum(1) < LARGEST_GAP * sizes(older)
    return Rows(data.names, seen, shapes, rotation, good)


def aflw_rows(teacher: Path) -> tuple[Rows, np.ndarray, np.ndarray]:
    """AFLW's rows, their 21 points (N, 21, 2) in px of the 160 px crop, and their splits; good where the teacher's
    points agree with the hand's. Rows that the teacher was not asked about are not good, their points NaN."""
    table = pq.read_table(SHARED / "data" / "aflw21" / "aflw21.parquet", columns=["name", "split", "yaw", "points21"])
    zoom = facetable.SIDE / AFLW_SIDE
    hand = np.array(table["points21"].to_pylist(), float).reshape(-1, 21, 2) * zoom
    yaw = -np.array(table["yaw"].to_pylist(), float)  # its sign is the other one
    with np.load(teacher / "aflw21.npz") as said:
        asked = len(said["names"])
        points, scores = np.full((len(hand), 478, 2), np.nan), np.full((len(hand), len(BLENDSHAPES)), np.nan)
        points[:asked], scores[:asked] = said["points"] * zoom, said["scores"]
    pairs = {6: 33, 8: 133, 9: 362, 11: 263, 14: 4, 17: 61, 19: 291}
    apart = np.linalg.norm(hand[:, list(pairs)] - points[:, list(pairs.values())], axis=2)
    gap = np.nansum(apart, 1) / np.maximum(np.isfinite(apart).sum(1), 1)
    good = np.isfinite(points[:, 0, 0]) & (gap < 0.9 * LARGEST_GAP * sizes(points[:, IDS])) & (np.abs(yaw) < 55)
    turned = rotation_from_euler(np.zeros(len(yaw)), np.radians(yaw), np.zeros(len(yaw)))
    rows = Rows(table["name"].to_pylist(), points, blendshapes(points, scores, yaw), turned, good)
    return rows, hand, np.array(table["split"].to_pylist())


def blendshapes(points: np.ndarray, scores: np.ndarray, yaw: np.ndarray) -> np.ndarray:
    """(N, E): the teacher's scores, but blinks from how far the lids are apart where the head faces the camera."""
    out = scores[:, [BLENDSHAPES.index(name) for name in NAMES]].copy()
    for side, (upper, lower, outer, inner) in LIDS.items():
        k = NAMES.index("eyeBlink" + side)
        width = np.linalg.norm(points[:, outer] - points[:, inner], axis=1)
        ratio = np.linalg.norm(points[:, upper] - points[:, lower], axis=1) / np.maximum(width, 1e-6)
        by_lids, by_score = (OPEN - ratio) / (OPEN - SHUT), (out[:, k] - 0.25) / (0.6 - 0.25)
        out[:, k] = np.clip(np.where(np.abs(yaw) < 30, by_lids, by_score), 0, 1)
    return out


def without_floor(shapes: np.ndarray, floor: np.ndarray) -> np.ndarray:
    """Blendshapes less what every photo seems to have, blinks as they are."""
    lids = np.array([name.startswith("eyeBlink") for name in NAMES])
    return np.clip(shapes - np.where(lids, 0, floor), 0, 1)


def yaw_of(rotation: np.ndarray) -> np.ndarray:
    return np.degrees(euler_from_rotation(rotation)[1])


def sizes(points: np.ndarray) -> np.ndarray:
    """(N,) px of the faces."""
    return np.linalg.norm(np.ptp(points, axis=1), axis=1) / np.sqrt(2)


def visible(rotation: np.ndarray, least: float = 0.15) -> np.ndarray:
    """(N, L) 1 where the mean face's normal at a dense point turns to the viewer by at least this cosine, else 0."""
    model = default()
    corners = model.faces[model.extra["mediapipe_faces"][IDS]]
    normals = barycentric(vertex_normals(model.mean, model.faces), corners, model.extra["mediapipe_weights"][IDS])
    return (np.einsum("nij,lj->nli", rotation, normals)[..., 2] < -least).astype(float)


def places() -> Points:
    """The dense points where the model's table has them."""
    model = default()
    return Points.of(model, model.extra["mediapipe_faces"][IDS], model.extra["mediapipe_weights"][IDS])


def start(rotation: np.ndarray, seen: np.ndarray, mean: np.ndarray, weight: np.ndarray) -> WeakPerspective:
    """The scale and shift that put the mean points on the seen ones, for known rotations."""
    flat = np.einsum("nij,lj->nli", rotation, mean)[..., :2]
    share = weight / weight.sum(1, keepdims=True)
    there, here = ((share[..., None] * v).sum(1) for v in (flat, seen))
    a, b = flat - there[:, None], seen - here[:, None]
    scale = (share[..., None] * a * b).sum((1, 2)) / (share[..., None] * a * a).sum((1, 2))
    scale = np.maximum(scale, 1e-3)
    return WeakPerspective(rotation, here - scale[:, None] * there, scale, (facetable.SIDE, facetable.SIDE))


def left_over(
    points: Points, seen: np.ndarray, rotation: np.ndarray, shapes: np.ndarray, shown: np.ndarray, rounds: int = 4
) -> tuple[np.ndarray, Fit]:
    """(N, L, 2) mm: what the mean face misses in each photo under its best camera and expression; and the fits."""
    size = sizes(seen)[:, None]
    measured = Measured(
        landmarks=seen,
        sigma=np.where(shown > 0.5, 0.012 * size, 0.5 * size),
        identity=np.zeros((len(seen), points.identity.shape[2])),
        expression=shapes,
        camera=start(rotation, seen, points.mean, np.maximum(shown, 1e-3)),
    )
    found = fit(points, measured, Priors(identity=1e6, network=0.0, expression=EXPRESSION, rounds=rounds), shared=False)
    missed = seen - found.camera.project(points(0 * found.identity, found.expression))
    return missed / found.camera.scale[:, None, None], found


def averaged(missed: np.ndarray, axes: np.ndarray, weight: np.ndarray, pull: float, now: np.ndarray) -> np.ndarray:
    """(L, 3) mm: the step of the points, now off by `now`, that explains what is missed (N, L, 2) in cameras whose
    first two axes are (N, 2, 3); robust beyond 2.5 mm, pulled to no offset by `pull` of the mean curvature."""
    weight = weight * np.minimum(1, 2.5 / np.maximum(np.linalg.norm(missed, axis=2), 1e-9))
    normal = np.einsum("nl,nak,nam->lkm", weight, axes, axes, optimize=True)
    slope = np.einsum("nl,nak,nla->lk", weight, axes, missed, optimize=True)
    ridge = pull / 3 * np.trace(normal, axis1=1, axis2=2)
    return np.linalg.solve(
        normal + ridge[:, None, None] * np.eye(3), (slope - ridge[:, None] * now)[..., None]
    )[..., 0]  # fmt: skip


def spread(rows: Rows, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """As many good rows of each bin of |yaw|, and weights that make the bins count alike."""
    chosen, weight = [], []
    for low, high in pairwise(BINS):
        fit_in = np.flatnonzero((np.abs(rows.yaw) >= low) & (np.abs(rows.yaw) < high) & rows.good)
        some = rng.permutation(fit_in)[:PER_BIN]
        chosen.append(some)
        weight.append(np.full(len(some), 1 / max(len(some), 1)))
    return np.concatenate(chosen), np.concatenate(weight)


def dense_offsets(rows: Rows, floor: np.ndarray) -> np.ndarray:
    """(L, 3) mm of the dense points."""
    exact, (chosen, weight) = places(), spread(rows, np.random.default_rng(0))
    mirrored = exact.mirrored
    seen, turned = rows.points[chosen][:, IDS], rows.rotation[chosen]
    shapes, shown = np.clip(rows.shapes[chosen] - floor, 0, 1), visible(turned)
    with np.load(OUT) as before:
        offset = before["offsets"].astype(float)
    for _ in range(ROUNDS):
        missed, found = left_over(replace(exact, mean=exact.mean + offset), seen, turned, shapes, shown)
        step = averaged(missed, found.camera.rotation[:, :2], shown * weight[:, None], RIDGE, offset)
        moved = exact.mean + offset + step
        moved = 0.5 * (moved + moved[mirrored] * [-1, 1, 1])
        s, turn, shift = align(moved, exact.mean, scale=True)
        before, offset = offset, s * moved @ turn.T + shift - exact.mean
        axes = np.sqrt((offset**2).mean(0)).round(2).tolist()
        print(f"rms {axes} mm, moved {np.sqrt(((offset - before) ** 2).sum(1).mean()):.2f}", flush=True)
    return offset


def hand_points(rows: Rows, hand: np.ndarray, splits: np.ndarray, offset: np.ndarray, floor: np.ndarray) -> dict:
    """The 21 points on the model: face, weights (a vertex), offset (mm), and as weighted means of the dense points."""
    model, exact, rng = default(), places(), np.random.default_rng(0)
    mirrored = exact.mirrored
    train = rows.good & (splits == "train")
    chosen = np.concatenate([
        rng.permutation(np.flatnonzero(train & (side * rows.yaw >= low) & (side * rows.yaw < high)))[:130]
        for low, high in ((0, 10), (10, 20), (20, 30), (30, 40), (40, 55)) for side in (1, -1)
    ])  # fmt: skip
    dense = replace(exact, mean=exact.mean + offset)
    turned, seen = rows.rotation[chosen], rows.points[chosen][:, IDS]
    shapes = np.clip(rows.shapes[chosen] - floor, 0, 1)
    _, found = left_over(dense, seen, turned, shapes, visible(turned), rounds=5)
    placed, skin = hand[chosen], np.flatnonzero(model.regions["skin"])
    has, axes = np.isfinite(placed).all(-1), found.camera.rotation[:, :2]

    def step(base: np.ndarray) -> np.ndarray:
        """(21, 3) mm from the places `base` (N, 21, 3) to where the hand put the points."""
        out = np.zeros((21, 3))
        missed = np.where(has[..., None], placed - found.camera.project(base), 0) / found.camera.scale[:, None, None]
        for _ in range(4):
            rest = missed - np.einsum("nij,lj->nli", axes, out)
            out = out + averaged(rest, axes, has.astype(float), 2e-3, out)
        return 0.5 * (out + out[AFLW_MIRRORED] * [-1, 1, 1])

    middle = model.mean[model.regions["face"]].mean(0).astype(float)
    at, points = middle + step(np.broadcast_to(middle, (len(chosen), 21, 3))), exact
    faces, weights, away = np.zeros(21, int), np.zeros((21, 3)), np.zeros((21, 3))
    for _ in range(3):  # the nearest vertex of the neutral face moves with the expressions as the point does
        near = skin[np.linalg.norm(model.mean[skin] - at[:, None], axis=2).argmin(1)]
        for k, other in enumerate(AFLW_MIRRORED):
            if other > k:
                near[other] = skin[np.linalg.norm(model.mean[skin] - model.mean[near[k]] * [-1, 1, 1], axis=1).argmin()]
        faces = np.array([np.flatnonzero((model.faces == v).any(1))[0] for v in near])
        weights = np.stack([(model.faces[f] == v).astype(float) for f, v in zip(faces, near, strict=True)])
        points = Points.of(model, faces, weights)
        away = step(points(0 * found.identity, found.expression))
        at = points.mean + away
    frontal = np.flatnonzero(train & (np.abs(rows.yaw) < 40))
    return {
        "aflw21_faces": faces.astype(np.int32),
        "aflw21_weights": weights.astype(np.float32),
        "aflw21_offsets": away.astype(np.float32),
        "aflw21_from_dense": from_dense(
            dense.mean, at, rows.points[frontal][:, IDS], hand[frontal], mirrored
        ).astype(np.float32),
    }  # fmt: skip


def from_dense(
    dense: np.ndarray, at: np.ndarray, seen: np.ndarray, hand: np.ndarray, mirrored: np.ndarray, near: int = 8
) -> np.ndarray:
    """(21, L) weights, at least 0 and 1 in all, that make each hand-placed point of the dense points near it; zeros for
    the lobes of the ears, which no dense point is near."""
    out, size = np.zeros((21, len(dense))), sizes(seen)
    for k, other in enumerate(AFLW_MIRRORED):
        if k in (12, 16):
            continue
        if other < k:
            out[k] = out[other][mirrored]
            continue
        candidates = np.argsort(np.linalg.norm(dense - at[k], axis=1))[:near]
        rows = np.isfinite(hand[:, k]).all(1)
        middle, scale = seen[rows].mean(1), size[rows, None]
        left = [(seen[rows][:, candidates, axis] - middle[:, axis, None]) / scale for axis in (0, 1)]
        right = [(hand[rows, k, axis] - middle[:, axis]) / scale[:, 0] for axis in (0, 1)]
        sum_to_one = 100 * np.ones((1, near))
        weights, _ = nnls(np.concatenate([*left, sum_to_one]), np.concatenate([*right, [100.0]]))
        out[k, candidates] = weights / weights.sum()
        if other == k:
            out[k] = 0.5 * (out[k] + out[k][mirrored])
    return out


def main(teacher: Path) -> None:
    rows = table_rows(teacher, "train")
    floor = np.percentile(rows.shapes[rows.good], 20, axis=0)
    offset = dense_offsets(rows, floor)
    found = hand_points(*aflw_rows(teacher), offset, floor)
    np.savez(OUT, ids=IDS.astype(np.int32), offsets=offset.astype(np.float32), floor=floor.astype(np.float32), **found)
    print(f"{OUT}: offsets of the 21 points, mm", found["aflw21_offsets"].round(1).tolist())


if __name__ == "__main__":
    if not (os.environ.get("SAMEFACE_SHARED") or SHARED.exists()):
        sys.exit("no research data found; set SAMEFACE_SHARED")
    main(Path(sys.argv[1]))
