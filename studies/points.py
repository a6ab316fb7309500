"""Are the points true from every side? `python studies/points.py runs/points --today today.onnx` → results/points.json.

runs/points is a folder of the data set `pointlabels`, today.onnx the network that shipped before; test split only. Both
networks see the same crops: around the labels, then once more around what they saw, as `observe` does.
"""

import argparse
import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from sameface.core.camera import WeakPerspective
from sameface.core.geometry import apply_affine, euler_from_rotation
from sameface.morphable import default
from sameface.morphable.points import Points
from sameface.photo import image
from sameface.photo.observe import LAPLACE_TO_SIGMA, QUALITY_HALVES_AT, expectation, points_of
from sameface.photo.predictor import FIVE, Predictor, affine_from_landmarks, load
from sameface.reconstruction.fit import Measured, Priors, fit, tempered
from sameface.training.datasets import pointlabels
from sameface.training.dense_points import POINT_IDS, dense_points

TITLE, RESULT = "Points from every side", Path("results/points.json")
YAWS = ((0, 30), (30, 60), (60, 130))
BINS, PER_BIN = (0, 10, 20, 30, 40, 50, 60), 150
FIVE_AT = [POINT_IDS.index(k) for k in FIVE]
SPOILED = ("as it is", "brightness × 0.12", "brightness × 0.06", "blurred (σ 5 % of the crop)", "lower half covered",
           "eyes covered")  # fmt: skip


@dataclass(frozen=True)
class Seen:
    """N crops as a network saw them, px of the 160 px pictures."""

    measured: Measured
    yaw: np.ndarray
    quality: np.ndarray

    @property
    def points(self) -> np.ndarray:
        return self.measured.landmarks


def looked(network: Predictor, pictures: list[np.ndarray], around: np.ndarray) -> Seen:
    """The second look of a network at pictures, the first being around known points (N, L, 2)."""
    size = network.size
    for _ in range(2):
        affines = np.stack([affine_from_landmarks(p, p[FIVE_AT], size) for p in around])
        said: dict[str, list[np.ndarray]] = {}
        for k in range(0, len(pictures), 32):
            crops = [image.crop(p, a, (size, size), edge=True)
                     for p, a in zip(pictures[k : k + 32], affines[k : k + 32], strict=True)]  # fmt: skip
            for name, values in network(np.stack(crops)).items():
                said.setdefault(name, []).append(values.astype(np.float64))
        s = {name: np.concatenate(parts) for name, parts in said.items()}
        back = np.stack([_inverse(a) for a in affines])
        around = np.stack([apply_affine(b, (p + 0.5) * size) for b, p in zip(back, s["landmarks"], strict=True)])
    zoom = np.sqrt(np.abs(np.linalg.det(back[:, :, :2])))
    turn = back[:, :, :2] / zoom[:, None, None]
    rotation = s["rotation"].copy()
    rotation[:, :2] = turn @ rotation[:, :2]
    shift = np.stack([apply_affine(b, (t[None] + 0.5) * size)[0] for b, t in zip(back, s["translation"], strict=True)])
    camera = WeakPerspective(rotation, shift, s["scale"] * size * zoom, (pointlabels.SIDE, pointlabels.SIDE))
    sigma = LAPLACE_TO_SIGMA * s["landmark_error"] * size * zoom[:, None]
    sigma = tempered(sigma)
    error = np.median(s["landmark_error"], axis=1)
    expression, firm = expectation(network, s["expression"])
    return Seen(
        Measured(around, sigma, s["identity"], expression, camera, None, firm),
        np.degrees(euler_from_rotation(rotation)[1]),
        1 / (1 + (error / QUALITY_HALVES_AT) ** 2),
    )


def _inverse(affine: np.ndarray) -> np.ndarray:
    linear = np.linalg.inv(affine[:, :2])
    return np.concatenate([linear, -linear @ affine[:, 2:]], axis=1)


def hand_placed(seen: Seen, points: Points, data: Any, rows: np.ndarray) -> dict[str, Any]:
    """Distance to AFLW's 21 points, percent of √(their box), by the |yaw| of an automatic fit of its own."""
    hand = np.stack([data[k]["landmarks21"] for k in rows]).astype(float)
    weights, has = dense_points()["aflw21_from_dense"], np.isfinite(hand).all(-1)
    counted = has & (weights.sum(1) > 0.5)
    box = np.sqrt(np.prod(np.nanmax(hand, 1) - np.nanmin(hand, 1), axis=1))
    yaw = np.abs(hand_yaw(data, rows))

    def table(at: np.ndarray) -> dict[str, float]:
        apart = np.where(counted, np.linalg.norm(at - np.nan_to_num(hand), axis=2), 0)
        error = 100 * apart.sum(1) / counted.sum(1) / box
        out = {f"{low}-{high}": float(error[(yaw >= low) & (yaw < high)].mean()) for low, high in YAWS}
        return out | {"all": float(error.mean()), "mean of bins": float(np.mean(list(out.values())))}

    mean = np.broadcast_to(points.mean, (len(rows), *points.mean.shape))
    flat = seen.measured.camera.project(mean)
    profile = yaw > 80
    return {
        "network's points": table(np.einsum("kl,nla->nka", weights, seen.points)),
        "mean face, the network's camera": table(np.einsum("kl,nla->nka", weights, flat)),
        "yaw of the network's camera where the label is above 80, median": float(np.median(np.abs(seen.yaw[profile]))),
        "the same, 95th percentile": float(np.percentile(np.abs(seen.yaw[profile]), 95)),
        "photos": {f"{low}-{high}": int(((yaw >= low) & (yaw < high)).sum()) for low, high in YAWS},
    }


def hand_yaw(data: Any, rows: np.ndarray) -> np.ndarray:
    import pyarrow.parquet as pq

    about = json.loads((data.root / "about.json").read_text())
    table = pq.read_table(Path(about["aflw21"]) / "aflw21.parquet", columns=["name", "yaw"])
    by_name = dict(zip(table["name"].to_pylist(), table["yaw"].to_pylist(), strict=True))
    return np.array([by_name[data.names[k]] for k in rows])


def bias(points: Points, at: np.ndarray, weight: np.ndarray, start: WeakPerspective) -> dict[str, float]:
    """RMS over the points that can be seen (mm) of what the mean face misses on average, in photos turned alike; best
    camera and expression each; photos turned to the right are mirrored."""
    mirrored = points.mirrored
    yaw = np.degrees(euler_from_rotation(start.rotation)[1])
    left, flip = yaw < 0, np.diag([-1.0, 1, 1])
    at, weight, rotation, shift = at.copy(), weight.copy(), start.rotation.copy(), start.translation.copy()
    at[left] = at[left][:, mirrored] * [-1, 1] + [pointlabels.SIDE, 0]
    weight[left], rotation[left] = weight[left][:, mirrored], flip @ rotation[left] @ flip
    shift[left] = shift[left] * [-1, 1] + [pointlabels.SIDE, 0]
    camera, yaw, rng, out = (
        replace(start, rotation=rotation, translation=shift),
        np.abs(yaw),
        np.random.default_rng(0),
        {},
    )
    for middle in BINS:
        some = rng.permutation(np.flatnonzero(np.abs(yaw - middle) < 5))[:PER_BIN]
        size = np.linalg.norm(np.ptp(at[some], axis=1), axis=1)[:, None] / np.sqrt(2)
        sigma = np.where(weight[some] > 0.5, 0.012, 0.5) * size
        nobody, still = (
            np.zeros((len(some), points.identity.shape[2])),
            np.zeros((len(some), points.expression.shape[2])),
        )
        measured = Measured(at[some], sigma, nobody, still, camera[some])
        found = fit(points, measured, Priors(identity=1e6, network=0.0), shared=False)
        missed = at[some] - found.camera.project(points(0 * found.identity, found.expression))
        missed /= found.camera.scale[:, None, None]
        roll = np.arctan2(found.camera.rotation[:, 1, 0], found.camera.rotation[:, 0, 0])
        c, s = np.cos(roll), np.sin(roll)
        upright = np.stack([np.stack([c, s], -1), np.stack([-s, c], -1)], -2)
        mean = np.einsum("nij,nlj->nli", upright, missed).mean(0)
        shown = weight[some].mean(0) > 0.5
        out[str(middle)] = float(np.sqrt((mean[shown] ** 2).sum(1).mean()))
    return out


def common(points: Points, seen: Seen, person: np.ndarray, photos: int = 6) -> dict[str, float]:
    """Points alone, weak prior (λ 2), people with at least six photos: how far shapes are from the mean face, from each
    other, and what all have in common (RMS over the points, mm); and whether halves of the photos know each other."""
    people, counts = np.unique(person[person >= 0], return_counts=True)
    chosen = [np.flatnonzero(person == p)[:photos] for p in people[counts >= photos]]
    model = default()
    basis = model.identity_basis[model.regions["face"]].astype(float)

    def shapes(sets: list[np.ndarray]) -> np.ndarray:
        rows, owner = np.concatenate(sets), np.repeat(np.arange(len(sets)), [len(s) for s in sets])
        found = fit(points, seen.measured[rows], Priors(identity=2.0, network=0.0), person=owner)
        first = np.concatenate([[0], np.cumsum([len(s) for s in sets])[:-1]])
        return np.tensordot(found.identity[first], basis, (1, 2))

    def rms(values: np.ndarray) -> float:
        return float(np.sqrt((values**2).sum(-1).mean()))

    all_of_them = shapes(chosen)
    mean = all_of_them.mean(0)
    noise = rms(all_of_them - mean) / np.sqrt(len(chosen))
    halves = shapes([s[0::2] for s in chosen]), shapes([s[1::2] for s in chosen])
    apart = np.sqrt(((halves[0][:, None] - halves[1][None]) ** 2).sum(-1).mean(-1))
    same, other = np.diag(apart), apart[~np.eye(len(apart), dtype=bool)]
    return {
        "people": len(chosen),
        "from the mean face, mm": rms(all_of_them),
        "between people, mm": rms(all_of_them - mean),
        "common to all, mm": rms(mean),
        "of which chance, mm": noise,
        "halves, AUC": float((same[:, None] < other[None]).mean() + 0.5 * (same[:, None] == other[None]).mean()),
    }


def spoil(picture: np.ndarray, how: str, at: np.ndarray) -> np.ndarray:
    """A picture made worse; the face is at the points `at`."""
    low, high = at.min(0), at.max(0)
    if how.startswith("brightness"):
        return (picture * float(how.split("×")[1])).astype(np.uint8)
    if how.startswith("blurred"):
        return cv2.GaussianBlur(picture, (0, 0), 0.05 * float((high - low).max()) * 1.4)
    out, height = picture.copy(), high[1] - low[1]
    top, bottom = (low[1] + 0.55 * height, high[1] + 20) if how.startswith("lower") else (
        low[1] + 0.18 * height, low[1] + 0.42 * height)  # fmt: skip
    if how != SPOILED[0]:
        out[int(max(top, 0)) : int(bottom), int(max(low[0], 0)) : int(high[0])] = (40, 60, 110)
    return out


def quality(network: Predictor, points: Points, data: Any, rows: np.ndarray) -> dict[str, dict[str, float]]:
    """What spoiling a picture does to the answer, and whether the quality says so."""
    items = [data[k] for k in rows]
    around = np.stack([item["landmarks"] for item in items]).astype(float)
    basis = default().identity_basis[default().regions["face"]].astype(float)
    clean, out = None, {}
    for how in SPOILED:
        pictures = [spoil(item["image"], how, at) for item, at in zip(items, around, strict=True)]
        seen = looked(network, pictures, around)
        shape = np.tensordot(fit(points, seen.measured, shared=False).identity, basis, (1, 2))
        clean = shape if clean is None else clean
        moved = np.sqrt(((shape - clean) ** 2).sum(-1).mean(-1))
        out[how] = {
            "quality, median": float(np.median(seen.quality)),
            "shape moved, median mm": float(np.median(moved)),
        }
    return out


def main() -> None:
    asked = argparse.ArgumentParser()
    asked.add_argument("labels", type=Path)
    asked.add_argument("--today", required=True, help="the network that shipped before, .onnx")
    asked = asked.parse_args()
    data = pointlabels.load(asked.labels, "test")
    hand = np.flatnonzero(data.source == "aflw21")
    faces = np.flatnonzero((data.source == "faces") & np.array([w.sum() > 0 for w in data.labels["weight"]]))
    items = {k: data[k] for k in np.concatenate([hand, faces]).tolist()}
    label, weight = (np.stack([items[k][name] for k in faces]).astype(float) for name in ("landmarks", "weight"))
    turned = data.faces.rotation[data.row[faces]].astype(float)
    out: dict[str, Any] = {
        "command": "python " + " ".join(["studies/points.py", *sys.argv[1:]]), "split": "test",
        "photos": {"hand-placed": len(hand), "face table": len(faces)},
    }  # fmt: skip
    some = np.random.default_rng(0).permutation(np.flatnonzero(np.abs(yaw_of(turned)) < 20))[:200]
    for name, file in (("today", asked.today), ("new", "default")):
        network = load(file)
        points = points_of(network)
        alone = replace(points, errors=None)  # what the points say, whatever the fit believes of it
        seen_hand = looked(network, [items[k]["image"] for k in hand],
                           np.stack([items[k]["landmarks"] for k in hand]).astype(float))  # fmt: skip
        seen = looked(network, [items[k]["image"] for k in faces], label)
        start = replace(seen.measured.camera, rotation=turned)
        out[name] = {
            "21 hand-placed points, percent of √box": hand_placed(seen_hand, alone, data, hand),
            "the average turned face against the mean face, mm": {
                "labels": bias(alone, label, weight, start),
                "network's points": bias(alone, seen.points, weight, start),
            },
            "the part of the shape that everybody shares": common(alone, seen, data.faces.person[data.row[faces]]),
            "spoiled pictures": quality(network, points, data, faces[some]),
        }
        print(name, json.dumps(out[name], indent=1, ensure_ascii=False), flush=True)
    RESULT.write_text(json.dumps(out, indent=1, ensure_ascii=False) + "\n")


def yaw_of(rotation: np.ndarray) -> np.ndarray:
    return np.degrees(euler_from_rotation(rotation)[1])


def section(r: dict[str, Any]) -> list[Any]:
    both, parts = ("today", "new"), []

    def table(title: str, pick: Any, digits: int = 2) -> None:
        names = list(pick(r["new"]))
        rows = [[side, *(f"{pick(r[side])[n]:.{digits}f}" for n in names)] for side in both]
        parts.extend([title, (["network", *names], rows)])

    hand = "21 hand-placed points, percent of √box"
    table(
        f"{r['photos']['hand-placed']} photos of AFLW's with 21 points placed by hand (no ears), percent of √(box "
        "of the points), by |yaw|. `today` is the network that shipped before, seen on the same crops.",
        lambda s: s[hand]["network's points"],
    )
    turned = "yaw of the network's camera where the label is above 80, median"
    parts.append("Heads turned by more than 80° are seen at " + " and ".join(
        f"{r[side][hand][turned]:.0f}° ({side})" for side in both) + " in the median.")  # fmt: skip
    for which in ("labels", "network's points"):
        table(
            f"What the mean face misses on average in {PER_BIN} photos turned alike ({which}; best camera and "
            "expression each): RMS over the points that can be seen, mm, by |yaw|.",
            lambda s, which=which: s["the average turned face against the mean face, mm"][which],
        )
    table(
        "What everybody's shape shares: people with six photos, points alone, weak prior (λ 2).",
        lambda s: s["the part of the shape that everybody shares"],
    )
    names = list(r["new"]["spoiled pictures"])
    rows = [[side, name, *(f"{v:.2f}" for v in r[side]["spoiled pictures"][name].values())]
            for side in both for name in names]  # fmt: skip
    parts += ["Pictures made worse: does the quality say that the answer moved?",
              (["network", "picture", "quality, median", "shape moved, median mm"], rows)]  # fmt: skip
    return parts


if __name__ == "__main__":
    main()
