"""How likely two shapes are one person's: `python studies/calibrate_verification.py` → assets/verification.json.

Sets of 1 to 16 photos are drawn from each person, each set is reconstructed exactly as `sameface verify` does it
(reconstruction.join), and disjoint sets are compared. People of the val split teach the logistic regression and the
limits; cross-validation by persons compares what it may look at; people of the test split tell how good it is
(results/verify.json). In every cell of photo counts, same and different pairs weigh the same.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression

from sameface.core.camera import WeakPerspective
from sameface.metrics.verification import area_under_curve, equal_error_rate, tar_at_far
from sameface.morphable import default
from sameface.photo.face import Observation
from sameface.photo.predictor import networks_name, networks_sha256
from sameface.reconstruction.reconstruct import join
from sameface.verification.calibration import FARS, features, limit
from table import CACHE, Observed, observed

TITLE, RESULT = "Same person or not", Path("results/verify.json")

SIZES, SETS, MOST = (1, 2, 3, 4, 6, 8, 12, 16), 4, 16
CELL = 1200
"""different pairs kept per pair of set sizes"""
ASSET = Path("src/sameface/assets/verification.json")
STEP = 0.01
"""ln mm: the limits of neighbouring rates are at least so far apart"""
FOLDS, LIMITS = 5, ("accept", "reject")
Table = dict[str, np.ndarray]


def observation(data: Observed, row: int) -> Observation:
    m = data.measured[row]
    assert isinstance(m.camera, WeakPerspective)  # as the table keeps it
    return Observation(
        photo=str(row), size=(160, 160), focal=None, box=np.zeros(4), score=0.9, landmarks=m.landmarks, sigma=m.sigma,
        identity=m.identity, expression=m.expression, camera=m.camera, quality=float(data.quality[row]),
        picture=np.zeros((8, 8, 3), np.uint8), to_picture=np.eye(2, 3),
    )  # fmt: skip


def sets(split: str, stamp: str) -> Table:
    """Reconstructed sets of photos: person, asked size, photos that counted, disagreement, identity, rows."""
    file = CACHE / f"verification-{split}-{stamp[:12]}.npz"
    if not file.exists():
        data, rng, out = observed(split, persons_only=True), np.random.default_rng(0), []
        for person in np.unique(data.person):
            mine = np.flatnonzero(data.person == person)
            for size in SIZES:
                order = rng.permutation(mine)
                for k in range(min(len(mine) // size, SETS)):
                    rows = order[k * size : (k + 1) * size]
                    one = join([observation(data, row) for row in rows])
                    padded = np.pad(rows, (0, MOST - size), constant_values=-1)
                    out.append((person, size, len(one.views), one.disagreement, one.identity, padded))
        names = ("person", "asked", "n", "dis", "identity", "rows")
        columns: dict[str, Any] = {n: np.array(c) for n, c in zip(names, zip(*out, strict=True), strict=True)}
        np.savez(file, **columns)
    with np.load(file) as kept:
        return {name: kept[name] for name in kept.files}


def distances(identity: np.ndarray, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """What shape_distance gives for the pairs (i, j), by the Gram matrix of the model's modes: no mesh is made."""
    model = default()
    region = model.regions["face"]
    modes = np.concatenate([model.mean[region][..., None], model.identity_basis[region]], axis=2).astype(np.float64)
    modes -= modes.mean(0)
    gram = np.einsum("vas,vbt->abst", modes, modes, optimize=True)
    full = np.concatenate([np.ones((len(identity), 1)), identity], axis=1)
    square = np.einsum("ns,aast,nt->n", full, gram, full, optimize=True)
    left = np.einsum("ns,abst->nabt", full, gram, optimize=True)
    cross = np.concatenate(
        [np.einsum("kabt,kt->kab", left[i[k : k + 5000]], full[j[k : k + 5000]], optimize=True)
         for k in range(0, len(i), 5000)]
    )  # fmt: skip
    s, sign = np.linalg.svd(cross, compute_uv=False), np.sign(np.linalg.det(cross))
    s[:, 2] *= sign
    return np.sqrt(np.maximum(square[i] + square[j] - 2 * s.sum(1), 0) / region.sum())


def pairs(split: str, stamp: str) -> Table:
    """Pairs of disjoint sets, at most CELL different ones per cell, with weights."""
    of, rng = sets(split, stamp), np.random.default_rng(1)
    i, j = np.triu_indices(len(of["n"]), 1)
    i, j = np.where(of["asked"][i] <= of["asked"][j], i, j), np.where(of["asked"][i] <= of["asked"][j], j, i)
    same = of["person"][i] == of["person"][j]
    keep = [k for k in np.flatnonzero(same) if not set(of["rows"][i[k]]) & set(of["rows"][j[k]]) - {-1}]
    cell = of["asked"][i] * 100 + of["asked"][j]
    for number in np.unique(cell):
        other = np.flatnonzero((cell == number) & ~same)
        keep.extend(rng.permutation(other)[:CELL])
    i, j, same, cell = i[keep], j[keep], same[keep], cell[keep]
    weight = np.zeros(len(i))
    for number in np.unique(cell):
        kinds = [(cell == number) & (same == kind) for kind in (True, False)]
        if all(kind.any() for kind in kinds):
            for kind in kinds:
                weight[kind] = 1000 / kind.sum()
    # `_` of each side: number of photos, disagreement, person
    sides = {f"{name}_{side}": of[key][at] for name, key in (("n", "n"), ("apart", "dis"), ("person", "person"))
             for side, at in (("a", i), ("b", j))}  # fmt: skip
    return {"d": distances(of["identity"], i, j), "same": same, "cell": cell, "weight": weight} | sides


def apart_features(t: Table) -> np.ndarray:
    """The disagreement of both sides; one photo has none and gets that of the average set."""
    usual = np.nanmedian(np.concatenate([t["apart_a"], t["apart_b"]]))
    total = np.nan_to_num(t["apart_a"], nan=usual) + np.nan_to_num(t["apart_b"], nan=usual)
    return np.stack([total, total * t["d"]], 1)


def candidates(t: Table) -> dict[str, np.ndarray]:
    x = features(t["d"], t["n_a"], t["n_b"], MOST)[:, 1:]
    return {"ln d": x[:, :1], "ln d, u": x[:, :2], "ln d, u, u ln d": x[:, :3], "ln d, u, u ln d, u² (chosen)": x,
            "the chosen and disagreement": np.concatenate([x, apart_features(t)], 1)}  # fmt: skip


def learnt(x: np.ndarray, t: Table, part: np.ndarray) -> LogisticRegression:
    part = part & (t["weight"] > 0)
    return LogisticRegression(C=1e4, max_iter=2000).fit(x[part], t["same"][part], t["weight"][part])


def log_loss(p: np.ndarray, t: Table, part: np.ndarray) -> float:
    right = np.where(t["same"], p, 1 - p)[part]
    return float(-np.average(np.log(np.maximum(right, 1e-9)), weights=t["weight"][part]))


def cross_validated(x: np.ndarray, t: Table) -> float:
    """Mean log loss over folds of persons; pairs between folds are left out."""
    people = np.random.default_rng(0).permutation(np.unique(t["person_a"]))
    fold = {person: k % FOLDS for k, person in enumerate(people)}
    a, b = (np.array([fold[p] for p in t[f"person_{side}"]]) for side in "ab")
    losses = []
    for k in range(FOLDS):
        model = learnt(x, t, (a != k) & (b != k))
        losses.append(log_loss(model.predict_proba(x)[:, 1], t, (a == k) & (b == k) & (t["weight"] > 0)))
    return float(np.mean(losses))


def limits(t: Table, same: bool) -> list[list[float]]:
    """(a, b) per rate: ln of the distance's quantile is a + b u, least squares over the cells.

    Where lines of neighbouring rates come nearer than STEP or cross, the one that is farther out gives way: it rests
    on fewer pairs.
    """
    spread = features(t["d"], t["n_a"], t["n_b"], MOST)[:, 2]
    rows = []
    for number in np.unique(t["cell"]):
        here = (t["cell"] == number) & (t["same"] == same)
        if here.sum() >= 20:
            rates = [1 - rate if same else rate for rate in FARS]
            rows.append((spread[here].mean(), np.sqrt(here.sum()), *np.log(np.quantile(t["d"][here], rates))))
    table = np.array(rows)
    lines = np.array([np.polyfit(table[:, 0], column, 1, w=table[:, 1]) for column in table[:, 2:].T])
    ends, sign = np.log([2 / MOST, 2]), -1 if same else 1
    values = sign * (lines[:, :1] * ends + lines[:, 1:])  # grow with the rate
    for k in range(len(FARS) - 2, -1, -1):
        values[k] = np.minimum(values[k], values[k + 1] - STEP)
    slope = sign * np.diff(values, axis=1)[:, 0] / np.diff(ends)
    return np.stack([sign * values[:, 0] - slope * ends[0], slope], axis=1).round(5).tolist()


def numbers(t: Table, p: np.ndarray, part: np.ndarray, known: dict) -> dict[str, Any]:
    same, score = t["same"][part], -t["d"][part]
    out = {"same pairs": int(same.sum()), "different pairs": int((~same).sum()),
           "auc": area_under_curve(score, same), "eer": equal_error_rate(score, same),
           "tar at far 10 %": tar_at_far(score, same, 0.1),
           "log loss": log_loss(p, t, part & (t["weight"] > 0))}  # fmt: skip
    counts = list(zip(t["n_a"][part], t["n_b"][part], strict=True))
    accept, reject = ({n: limit(kind, 0.1, int(n[0]), int(n[1]), known) for n in set(counts)} for kind in LIMITS)
    near, far = -score <= np.array([accept[n] for n in counts]), -score >= np.array([reject[n] for n in counts])
    both = near & far
    near, far = near & ~(both & (p[part] < 0.5)), far & ~(both & (p[part] >= 0.5))
    told = {"called same": near, "called different": far, "unsure": ~near & ~far}
    for name, kind in (("one person", same), ("two persons", ~same)):
        out |= {f"{name}, {word}": float(flags[kind].mean()) for word, flags in told.items()}
    return out


def auc_of(t: Table, size: int) -> float:
    here = t["cell"] == 101 * size
    return area_under_curve(-t["d"][here], t["same"][here])


def reliability(t: Table, p: np.ndarray) -> dict:
    """Ten bins of the probability: what was said and what was true; and the mean gap between the two."""
    bins, rows, error = np.minimum((10 * p).astype(int), 9), [], 0.0
    for k in range(10):
        here = (bins == k) & (t["weight"] > 0)
        if here.any():
            w = t["weight"][here]
            said, true = np.average(p[here], weights=w), np.average(t["same"][here], weights=w)
            rows.append({"from": k / 10, "said": float(said), "true": float(true), "pairs": int(here.sum())})
            error += float(w.sum() / t["weight"].sum() * abs(said - true))
    return {"expected calibration error": error, "bins": rows}


def rounded(value):
    if isinstance(value, dict):
        return {name: rounded(one) for name, one in value.items()}
    return (
        [rounded(v) for v in value]
        if isinstance(value, list)
        else round(value, 4)
        if isinstance(value, float)
        else value
    )


def main() -> None:
    sha = networks_sha256()
    val, test = pairs("val", sha), pairs("test", sha)
    compared = {name: cross_validated(x, val) for name, x in candidates(val).items()}
    model: Any = learnt(features(val["d"], val["n_a"], val["n_b"], MOST)[:, 1:], val, np.ones(len(val["d"]), bool))
    known: dict[str, Any] = {
        "name": "verification-2", "command": "python studies/calibrate_verification.py",
        "predictor": networks_name(),
        "networks_sha256": sha, "model": default().name, "most_photos": MOST,
        "coefficients": [round(float(v), 5) for v in [model.intercept_[0], *model.coef_[0]]],
        "accept": limits(val, False), "reject": limits(val, True),
    }  # fmt: skip
    report: dict[str, Any] = {
        "command": "python " + " ".join(["studies/calibrate_verification.py", *sys.argv[1:]]),
        "calibrated on": "val split", "measured on": "test split",
        "persons": {"val": len(np.unique(val["person_a"])), "test": len(np.unique(test["person_a"]))},
        "photos per side": list(SIZES), "cross-validated log loss on val": compared,
        "chance": "log loss 0.6931; auc 0.5",
        "groups": "not measured: the persons' rows carry no labels of gender, age or origin",
    }  # fmt: skip
    p = 1 / (1 + np.exp(-features(test["d"], test["n_a"], test["n_b"], MOST) @ np.array(known["coefficients"])))
    report["test, all counts"] = numbers(test, p, test["weight"] > 0, known) | {"reliability": reliability(test, p)}
    for a, b in [(n, n) for n in SIZES] + [(1, 4), (1, 16), (4, 16)]:
        report[f"test, {a} and {b} photos"] = numbers(test, p, test["cell"] == 100 * a + b, known)
    by_size = {split: {str(n): auc_of(t, n) for n in SIZES} for split, t in (("val", val), ("test", test))}
    report["auc of the distance, n and n photos (nothing is learnt in it, so val counts too)"] = by_size
    known["auc"] = {n: round((auc + by_size["test"][n]) / 2, 3) for n, auc in by_size["val"].items()}
    ASSET.write_text(json.dumps(known, indent=1) + "\n")
    RESULT.write_text(json.dumps(rounded(report), indent=1, ensure_ascii=False) + "\n")
    print(json.dumps(rounded(report), indent=1, ensure_ascii=False))


def section(r: dict[str, Any]) -> list[Any]:
    rows = []
    for name, v in r.items():
        if name.startswith("test, "):
            shares = [
                f"{100 * v[k]:.0f} %"
                for k in ("eer", "tar at far 10 %", "one person, called same", "two persons, called same")
            ]
            rows.append([name.removeprefix("test, "), f"{v['auc']:.3f}", *shares])
    val = r["auc of the distance, n and n photos (nothing is learnt in it, so val counts too)"]["val"]
    return [
        f"`sameface verify`, calibrated on {r['persons']['val']} persons of the val split, measured on "
        f"{r['persons']['test']} of the test split: pairs of disjoint sets of photos, the distance of their neutral "
        "meshes in mm.",
        (
            [
                "photos on each side",
                "AUC",
                "EER",
                "TAR at FAR 10 %",
                "one person, called same",
                "two persons, called same",
            ],
            rows,
        ),
        "Few persons make these figures rough: on the val persons the AUC is "
        + ", ".join(f"{auc:.2f} ({n})" for n, auc in val.items())
        + " (photos on each side).",
    ]


if __name__ == "__main__":
    main()
