"""Labels for the default network: what MediaPipe sees of a face, and what hands placed on turned ones → a folder that
the data set `pointlabels` reads.

    python tools/label_points.py runs/teacher runs/points

Face table: the teacher's points where the older labels agree, and its blendshapes. AFLW: the teacher's points where
they agree with the hand's and the head is turned by less than 40°; else the model fitted to the 21 hand-placed
points, which says where the dense points lie, in profile too. Points that cannot be seen have weight 0; so have all
points of a row whose labels disagree. Rows with shut, winking or wide eyes and open or pouting mouths are shown more
often, and so are profiles.
"""

import sys
from pathlib import Path

import numpy as np
from calibrate_points import IDS, NAMES, Rows, aflw_rows, places, sizes, start, table_rows, visible, without_floor
from teacher_points import SHARED

from sameface.core.geometry import rotation_from_euler
from sameface.morphable import default
from sameface.morphable.points import Points
from sameface.reconstruction.fit import Fit, Measured, Priors, fit
from sameface.training.datasets import facetable, pointlabels
from sameface.training.dense_points import dense_points

LIDS = [NAMES.index("eyeBlink" + side) for side in ("Left", "Right")]
SOME = {"jawOpen": 0.35, "mouthPucker": 0.8, "eyeWideLeft": 0.35, "mouthFunnel": 0.5}
"""rows with more than this are shown twice"""
LEAST_SEEN = 7
"""of the 21 points; fewer say too little of the head's turn"""
LARGEST_RESIDUAL = 0.045
"""of the face's size, of a fit whose dense points can be believed"""
SHOWN = 0.1
"""cosine between the line of sight and the normal of a point that is seen"""


def repeats(shapes: np.ndarray, yaw: float) -> int:
    """How often an epoch shows a row."""
    shut = shapes[LIDS] > 0.6
    if abs(yaw) >= 40:
        return 1
    if shut.any():
        return 6 if shut.all() else 5
    return 2 if any(shapes[NAMES.index(name)] > least for name, least in SOME.items()) else 1


def of_table(rows: Rows, split: str, floor: np.ndarray) -> list[dict]:
    data = facetable.load(SHARED / "data" / "faces", split)
    weight = visible(rows.rotation, SHOWN) * rows.good[:, None]
    shapes = without_floor(rows.shapes, floor)
    shapes[np.ix_(np.abs(rows.yaw) > 60, LIDS)] = np.nan
    shapes[~rows.good] = np.nan
    zoom = np.array(data.columns["size"]) / facetable.SIDE
    return [
        {"source": "faces", "name": rows.names[k], "split": split, "points": (rows.points[k, IDS] * zoom[k]).ravel(),
         "weight": weight[k], "blendshapes": shapes[k],
         "repeat": repeats(shapes[k], rows.yaw[k]) if rows.good[k] else 1}
        for k in range(len(rows.names))
        if rows.good[k] or data.columns["landmarks68"][k] is not None
    ]  # fmt: skip


def hand_fits(hand: np.ndarray, yaw: np.ndarray, points21: Points) -> tuple[Fit, np.ndarray]:
    """The model fitted to hand-placed points (N, 21, 2) from a head turned by `yaw`, and residuals / sizes (N,)."""
    has, count = np.isfinite(hand).all(-1), len(hand)
    placed = np.where(has[..., None], hand, facetable.SIDE / 2)
    turned = rotation_from_euler(np.zeros(count), np.radians(np.clip(yaw, -110, 110)), np.zeros(count))
    size = np.linalg.norm(np.nanmax(hand, 1) - np.nanmin(hand, 1), axis=1) / 1.2 + 8
    measured = Measured(
        landmarks=placed,
        sigma=np.where(has, 0.03 * size[:, None], 1e3 * size[:, None]),
        identity=np.zeros((count, points21.identity.shape[2])),
        expression=np.zeros((count, len(NAMES))),
        camera=start(turned, placed, points21.mean, np.maximum(has, 1e-6)),
    )
    found = fit(points21, measured, Priors(identity=8.0, network=0.0, expression=40.0, rounds=6), shared=False)
    apart = np.linalg.norm(found.camera.project(points21(found.identity, found.expression)) - placed, axis=2)
    return found, (apart * has).sum(1) / has.sum(1) / size


def of_hand(teacher: Path, floor: np.ndarray) -> list[dict]:
    rows, hand, splits = aflw_rows(teacher)
    where, model, exact = dense_points(), default(), places()
    points21 = Points.of(model, where["aflw21_faces"], where["aflw21_weights"].astype(float))
    points21 = Points(points21.mean + where["aflw21_offsets"], points21.identity, points21.expression)
    dense = Points(exact.mean + where["offsets"], exact.identity, exact.expression)
    known = np.flatnonzero(np.isfinite(hand).all(-1).sum(1) >= LEAST_SEEN)
    shapes, out = without_floor(rows.shapes, floor), []
    for part in np.array_split(known, len(known) // 500 + 1):
        tries = [hand_fits(hand[part], rows.yaw[part] * how_far, points21) for how_far in (1.0, 0.8, 1.15)]
        best = np.stack([residual for _, residual in tries]).argmin(0)
        for j, k in enumerate(part):
            found, residual = tries[best[j]]
            one = found.camera[j : j + 1]
            seen = one.project(dense(found.identity[j : j + 1], found.expression[j : j + 1]))[0]
            weight, said = visible(one.rotation, SHOWN)[0], np.full(len(NAMES), np.nan)
            if rows.good[k] and abs(rows.yaw[k]) < 40:
                seen, said = rows.points[k, IDS], shapes[k]
            else:
                weight *= (0.5 if abs(rows.yaw[k]) > 40 else 0.15) * (residual[j] < LARGEST_RESIDUAL)
            if not sound(seen):
                print(f"{rows.names[k]}: the fit collapsed; left out")
                continue
            often = 2 if abs(rows.yaw[k]) > 50 else repeats(said, rows.yaw[k])
            zoom = 120 / facetable.SIDE
            out.append({"source": "aflw21", "name": rows.names[k], "split": str(splits[k]),
                        "points": (seen * zoom).ravel(), "weight": weight, "blendshapes": said,
                        "repeat": often})  # fmt: skip
    return out


def sound(points: np.ndarray) -> bool:
    """Whether points can be those of the face that a crop was cut for."""
    size, middle = sizes(points[None])[0] / facetable.SIDE, points.mean(0) / facetable.SIDE
    return bool(0.3 < size < 1.3 and (middle > 0.15).all() and (middle < 0.85).all())


def main(teacher: Path, out: Path) -> None:
    train = table_rows(teacher, "train")
    floor = np.percentile(train.shapes[train.good], 20, axis=0)
    rows = of_hand(teacher, floor) + of_table(train, "train", floor)
    for split in ("val", "test"):
        rows += of_table(table_rows(teacher, split), split, floor)
    folders = {name: str((SHARED / "data" / name).resolve()) for name in ("faces", "aflw21")}
    pointlabels.write(out, list(NAMES), rows, **folders)
    print(f"{out}: {len(rows)} rows")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
