"""The seven rows of the 3DFAW 2019 paper on synthetic people whom no network was trained on, over several seeds.

    python studies/multiview.py RUNS DATA/unseen --split train --out results/multiview.json

RUNS holds the run folders `single-1`, `add-1`, `concatenate-1`, `shape-1` of seed 1, and so on (`--seeds`); the last
three were started from the first. DATA/unseen is what `sameface synth` wrote, with at least five photos of each person
(16 for the curve over their number). People drawn with a seed of their own are new whatever `--split` is. Nothing is
trained here, and every run is taken at its last step.

As in the paper, the single-view network says the yaw of every photo, and the three nearest to 0, −45 and 45 degrees go
to the others; the mean of five takes the nearest, the second nearest and so on. Three errors of the neutral face, mm:
ARMSE (`metrics.scans.armse` within 95 mm of the nose tip, after ICP), and the mean distance of the same vertices, after
a rigid motion and after a similarity, because no photo shows how large a head is. Means over persons for each seed;
then mean and deviation over seeds.
"""

import argparse
import json
import platform
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from runs import command, deviation, over, restored, rounded, spread_of
from sameface.core.geometry import align, euler_from_rotation
from sameface.metrics.alignment import Surface
from sameface.metrics.scans import armse
from sameface.photo.image import crop
from sameface.photo.views import choose
from sameface.training.datasets import synthetic
from sameface.training.methods.multiview import in_camera

TITLE, RESULT = "`multiview` on synthetic people", Path("results/multiview.json")

VARIANTS = ("single", "add", "concatenate", "shape")
ROWS = {
    "3DMM mean": 3.02, "SV frontal": 2.62, "SV mean": 2.51, "MV add": 2.43, "MV concat": 2.33, "MV shape-concat": 2.23,
    "MV shape-concat mean": 2.14,
}  # fmt: skip
"""the paper's table 1: ARMSE, mm, of 3DFAW 2019"""
MEAN_OF = 5
DRAWN = (
    "sameface synth --out DATA/synthetic --persons 1600 --views 6 --seed 1",
    "sameface synth --out DATA/unseen --persons 100 --views 16 --seed 2",
)
HERE = "RUNS DATA/unseen --out results/multiview.json"
RADIUS = 95.0
"""mm around the nose tip, as the challenge's program crops predictions; `armse` crops both surfaces"""
COUNTS = (1, 2, 3, 4, 6, 8, 12, 16)
"""numbers of photos whose single-view answers are averaged"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--split", default="test", choices=("train", "val", "test"), help="of DATA")
    parser.add_argument("--persons", type=int, default=100, help="of that split at most")
    given = parser.parse_args()
    torch.set_num_threads(1)
    people = synthetic.load(given.data, given.split)
    persons = min(given.persons, len(people.persons))
    if people.views < MEAN_OF:
        sys.exit(f"the data set has {people.views} photos of each person; the mean of five needs at least {MEAN_OF}")
    seeds, commands = {}, []
    for seed in given.seeds:
        found = restored(given.runs, [f"{variant}-{seed}" for variant in VARIANTS])
        commands += [command(name, about, "synthetic:DATA/synthetic") for name, (_, about) in found.items()]
        methods = dict(zip(VARIANTS, (method for method, _ in found.values()), strict=True))
        seeds[str(seed)] = measured(methods, people, persons)
        print(seed, {row: seeds[str(seed)][row]["ARMSE"] for row in ROWS})
    result = {
        "command": [*DRAWN, *commands, f"python studies/multiview.py {HERE} --split {given.split}"],
        "machine": f"{platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}, one thread",
        "persons": persons,
        "photos of each": people.views,
        "paper, ARMSE mm": ROWS,
        "mean over seeds": over(np.mean, list(seeds.values())),
        "deviation over seeds": over(deviation, list(seeds.values())),
        "seeds": seeds,
    }
    given.out.write_text(json.dumps(rounded(result), indent=1, ensure_ascii=False) + "\n")
    print(given.out)


def measured(methods: dict[str, Any], people: Any, persons: int) -> dict[str, dict[str, float]]:
    """Row → its errors, means over the persons; with the rows of the single-view mean by the number of photos."""
    found: dict[str, list[tuple[float, ...]]] = {}
    for number in range(persons):
        items = [people[k] for k in np.flatnonzero(people.person == number)]
        model = methods["single"].model
        truth = model.vertices(items[0]["identity"].astype(np.float64))
        for row, identity in answers(methods, items).items():
            found.setdefault(row, []).append(errors(model, model.vertices(identity), truth))
    names = ("ARMSE", "vertices after a rigid motion", "vertices after a similarity")
    return {row: dict(zip(names, np.mean(each, axis=0).tolist(), strict=True)) for row, each in found.items()}


@torch.no_grad()
def answers(methods: dict[str, Any], items: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Row → identity (S,) of one person."""
    single = methods["single"]
    said = single(crops(single, items))
    yaw = yaws(single, said, items)
    order = [choose(yaw, rank=rank) for rank in range(MEAN_OF)]
    each = said["identity"].numpy().astype(np.float64)
    found = {"3DMM mean": np.zeros(each.shape[1]), "SV frontal": each[order[0][0]], "SV mean": each.mean(0)}
    for row, variant in (("MV add", "add"), ("MV concat", "concatenate"), ("MV shape-concat", "shape")):
        images = crops(methods[variant], items)
        triples = [methods[variant](images[torch.from_numpy(rows)][None]) for rows in order]
        found[row] = triples[0]["identity"][0].numpy().astype(np.float64)
    found["MV shape-concat mean"] = np.mean([one["identity"][0].numpy() for one in triples], axis=0, dtype=np.float64)
    shuffled = np.random.default_rng(0).permutation(len(each))
    counts = [count for count in COUNTS if count <= len(each)]
    return found | {f"SV mean of {count}": each[shuffled[:count]].mean(0) for count in counts}


def crops(method: Any, items: list[dict[str, np.ndarray]]) -> torch.Tensor:
    """(N, 3, H, W) in [0, 1], cut as in training."""
    side = (method.config.size, method.config.size)
    cut = [crop(item["image"], method.crop_affine(item["landmarks68"]), side) for item in items]
    return torch.from_numpy(np.stack(cut)).movedim(-1, 1).float() / 255


def yaws(method: Any, said: dict[str, torch.Tensor], items: list[dict[str, np.ndarray]]) -> np.ndarray:
    """Predicted, in the photos' cameras, degrees."""
    affines = [np.vstack([method.crop_affine(item["landmarks68"]), [0, 0, 1]]) for item in items]
    calibration = np.stack([a @ item["camera_matrix"] for a, item in zip(affines, items, strict=True)])
    turn, where, scale = (said[name][:, None] for name in ("rotation", "translation", "scale"))
    rotation, _ = in_camera(turn, where, scale, torch.from_numpy(calibration).float()[:, None], method.config.size)
    return np.degrees(euler_from_rotation(rotation[:, 0].numpy().astype(np.float64))[1])


def errors(model: Any, found: np.ndarray, truth: np.ndarray) -> tuple[float, ...]:
    """ARMSE, mean vertex distance after a rigid motion and after a similarity, mm."""
    landmarks, wanted = (model.landmarks(x).astype(np.float64) for x in (found, truth))
    surfaces = Surface(truth, model.faces), Surface(found, model.faces)
    value = armse(*surfaces, truth_landmarks=wanted, landmarks=landmarks, radius=RADIUS, normalise=False)
    after = []
    for scale in (False, True):
        size, rotation, shift = align(found.astype(np.float64), truth.astype(np.float64), scale=scale)
        after.append(float(np.linalg.norm(size * found @ rotation.T + shift - truth, axis=1).mean()))
    return value, *after


def section(r: dict[str, Any]) -> list[Any]:
    mean, deviation, paper = r["mean over seeds"], r["deviation over seeds"], r["paper, ARMSE mm"]
    errors = list(next(iter(mean.values())))
    rows = [
        [name, *(spread_of(mean[name][e], deviation[name][e]) for e in errors), f"{paper[name]:.2f}"] for name in paper
    ]
    counts = [name for name in mean if name.startswith("SV mean of ")]
    curve = [["ARMSE, mm", *(spread_of(mean[name]["ARMSE"], deviation[name]["ARMSE"]) for name in counts)]]
    return [
        "`multiview` with its network for CPUs (`residual`), trained on 1,440 synthetic people with 6 photos each; "
        f"{r['persons']} others, {r['photos of each']} photos each. Errors of the neutral face in mm, mean ± "
        f"deviation over {len(r['seeds'])} seeds of the training; ARMSE within 95 mm of the nose tip after ICP, then "
        "the distance of the same vertices after a rigid motion and after a similarity. Last column: the paper's "
        "table, on the scans of 3DFAW 2019.",
        (["mm", *errors, "paper, ARMSE"], rows),
        "The single-view answers averaged over more and more photos of a person:",
        (["photos", *(name.removeprefix("SV mean of ") for name in counts)], curve),
        TEXT,
    ]


TEXT = (
    "What this shows. By ARMSE the seven rows stand in the paper's order. Three of the steps are larger than what the "
    "seeds differ by, and are there in every seed: any network is better than the mean face, three photos together "
    "with the shape's own error as the loss are better than those with the reprojection, and the mean of five triples "
    "is better than one triple. SV frontal and SV mean are as good as each other, MV add and MV concat too; these two "
    "are better than SV by less than 0.02 mm on average, and not after a rigid motion.\n\n"
    "All steps are small: 7 % from the first row to the last, 29 % in the paper. What limits them: the identity shows "
    "in 1 to 2.6 px² of the reprojection, the poses in 5 to 60, and after 8,000 steps of 32 photos (27 minutes on a "
    "busy core; the paper: 13 hours on a GPU) the poses still cost 3 to 4. No photo shows how large a head is, so "
    "only the networks whose loss is in mm are better after a rigid motion, and the reprojection's are the best after "
    "a similarity. More photos for the single-view network help little: its answers stay near the mean face and err "
    "alike.\n\n"
    "The people were drawn with version 1 of the synthetic look (commit 19224ae). The baselines in the same units: "
    "mean face above; what ships was not trained on rendered people and is as good as the mean face there (the "
    "section on shape by yaw)."
)


if __name__ == "__main__":
    main()
