"""What the pairwise loss of Zhao et al. 2016 brings, how good the depths are, and how fast it all is on this CPU.

    python studies/landmark_depth.py RUNS DATA/faces ORACLES --out results/landmark-depth.json

RUNS holds the run folders that the commands in the result's `command` make: `main`, `pairs-1` … `pairs-3` and
`local-1` … `local-3` (the same budget with and without the pairwise loss), `rate` (the paper's learning rate for the
depth network). DATA/faces is the face table, ORACLES the folder with `aflw2000/`. Nothing is trained here. Every run is
taken as it stands at its last step, so that no run profits from choosing.

Photos: rows of the test split with hand-placed points, cropped around the box of these points as in training; mean
error of 66 points over the distance of the outer eye corners. Depth: the true 2D points of faces that nobody trained
on are given, and only z is asked for. The mean face is the baseline, turned and scaled so that it fits those 2D points
best.
"""

import argparse
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from runs import command, restored, rounded
from sameface.core.geometry import align, apply_affine, nearest_rotation
from sameface.metrics.landmarks import ape, area_under_curve, cumulative_errors, cvgtce, failure_rate, gte, nme, yaw_bin
from sameface.photo.image import crop, read
from sameface.training import train
from sameface.training.datasets import facetable
from sameface.training.export import export
from sameface.training.methods import landmark_depth
from sameface.training.methods.landmark_depth import KEPT, box_affine, faces_in_view, standardised

TITLE, RESULT = "`landmark_depth`", Path("results/landmark-depth.json")

SEEDS = (1, 2, 3)
YAWS = (0, 15, 30, 45, 60, 75, 90)
FACES = 2000
THRESHOLDS = (0.03, 0.05, 0.08, 0.10)
FAILURE = 0.08
"""of the outer eye distance, as 300-W counts failures"""
IMAGES = {28: "image00050", 55: "image00081", 150: "image00251", 258: "image00430", 286: "image00475",
          311: "image00514", 313: "image00516", 611: "image01038", 749: "image01322", 1143: "image02283",
          1196: "image02420", 1238: "image02545", 1263: "image02616", 1536: "image03324", 1636: "image03614",
          1984: "image04331"}  # fmt: skip
"""rows of AFLW2000-3D's list whose photos the oracles hold"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path)
    parser.add_argument("faces", type=Path)
    parser.add_argument("oracles", type=Path)
    parser.add_argument("--out", type=Path, default=RESULT)
    given = parser.parse_args()
    torch.set_num_threads(1)
    names = ["main", *(f"{kind}-{seed}" for seed in SEEDS for kind in ("pairs", "local")), "rate"]
    runs = restored(given.runs, names)
    methods = {name: method for name, (method, _) in runs.items()}
    result = {
        "command": [
            *(command(name, about, "facetable:DATA/faces") for name, (_, about) in runs.items()),
            "python studies/landmark_depth.py RUNS DATA/faces ORACLES --out results/landmark-depth.json",
        ],
        "machine": f"{platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}, one thread",
        "parameters": {"landmarks": parameters(methods["main"].points), "depth": parameters(methods["main"].depth)},
        "full-size parameters": parameters(landmark_depth.Method(landmark_depth.Config())),
        "2D": photos(methods, given.faces),
        "depth, held-out faces of the morphable model": drawn(methods["main"], methods["rate"]),
        "depth, AFLW2000-3D": across(methods["main"], given.oracles / "aflw2000"),
        "3D from photos, AFLW2000-3D": from_photos(methods["main"], given.oracles / "aflw2000"),
        "speed": speed(given.runs / "main", methods["main"]),
    }
    given.out.write_text(json.dumps(rounded(result), indent=1, ensure_ascii=False) + "\n")
    print(given.out)


def parameters(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


# ── 2D ─────────────────────────────────────────────────────────────────────────────────────────────────────


def photos(methods: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The test rows with hand-placed points: as they are, and scaled, turned, moved and covered as in training."""
    test, method = facetable.load(folder, "test"), methods["main"]
    rows = [k for k in range(len(test)) if np.isfinite(test.landmarks68(k)).all()]
    average = mean_shape(folder, method.config)
    result: dict[str, Any] = {"photos": len(rows), "failure": f"mean error above {100 * FAILURE:.0f} %"}
    for kind, changed in (("as they are", False), ("transformed and occluded as in training", True)):
        items = [method.sample(test, k, np.random.default_rng((5, k)), changed) for k in range(len(rows))]
        batch = train.collate(items, torch.device("cpu"))
        truth = batch["landmarks"].numpy()
        table = {"mean face in the middle": errors(np.broadcast_to(average, truth.shape), truth)}
        with torch.no_grad():
            for name, network in methods.items():
                if name == "rate":
                    continue
                found = [network(part)["landmarks66"][..., :2] for part in batch["images"].split(64)]
                table[name] = errors(torch.cat(found).numpy(), truth)
        result[kind] = {"runs": table, "with and without pairs": difference(table)}
    return result


def mean_shape(folder: Path, config: landmark_depth.Config) -> np.ndarray:
    """(66, 2) the mean of the train split's points in held-out crops."""
    data = facetable.load(folder, "train")
    shapes = [data.landmarks68(k).astype(np.float64) for k in range(len(data))]
    shapes = [s for s in shapes if np.isfinite(s).all()]
    crops = [apply_affine(box_affine(s, config.size, config.crop_factor), s)[KEPT] for s in shapes]
    return np.mean(crops, axis=0) / config.size - 0.5


def errors(found: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
    """Of N faces: mean error, its distribution, the worst point of a face, and the shape's error once aligned."""
    each = np.array([nme(f, t, normaliser="outer_eyes") for f, t in zip(found, truth, strict=True)])
    shape = [nme(f, t, normaliser="outer_eyes", alignment="similarity") for f, t in zip(found, truth, strict=True)]
    eyes = np.linalg.norm(truth[:, 36] - truth[:, 45], axis=1)
    return {
        "mean %": 100 * each.mean(),
        "median %": 100 * float(np.median(each)),
        "worst point of a face, mean %": 100 * float((np.linalg.norm(found - truth, axis=2).max(1) / eyes).mean()),
        "after a similarity, mean %": 100 * float(np.mean(shape)),
        "failures": failure_rate(each, FAILURE),
        f"area under the curve to {FAILURE}": area_under_curve(each, FAILURE),
        "share below": {
            f"{100 * t:.0f} %": s
            for t, s in zip(THRESHOLDS, cumulative_errors(each, np.array(THRESHOLDS)), strict=True)
        },
    }


def difference(table: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Over the seeds: mean of each kind, and the mean and deviation of pairs − local of the same seed."""
    result = {}
    for key in ("mean %", "worst point of a face, mean %", "after a similarity, mean %", "failures"):
        pairs, local = (np.array([table[f"{kind}-{seed}"][key] for seed in SEEDS]) for kind in ("pairs", "local"))
        result[key] = {
            "with pairs": pairs.mean(), "local only": local.mean(), "difference": (pairs - local).mean(),
            "deviation of the difference over seeds": (pairs - local).std(ddof=1),
        }  # fmt: skip
    return result


# ── depth ──────────────────────────────────────────────────────────────────────────────────────────────────


def drawn(method: Any, paper_rate: Any) -> dict[str, Any]:
    """Faces of the morphable model that no run has drawn, mm: all views as in training, and by yaw."""

    def draw(seed: int, yaw: float | None) -> np.ndarray:
        config, rng = landmark_depth.Config(), np.random.default_rng((2016, seed))
        return faces_in_view(method.mean, method.basis, config, rng, FACES, yaw).astype(np.float64)

    views = {"all": draw(0, None)} | {f"yaw {yaw}°": draw(1 + yaw, float(yaw)) for yaw in YAWS}
    result: dict[str, Any] = {"faces per row": FACES}
    for name, truth in views.items():
        result[name] = compared(method, truth) if name != "all" else compared(method, truth, paper_rate)
    return result


def across(method: Any, folder: Path) -> dict[str, Any]:
    """The 2,000 faces of AFLW2000-3D: another morphable model fitted to photos, its points seen from the photo."""
    truth, yaw = aflw2000(folder)
    bins = yaw_bin(yaw)
    result = {f"{len(truth)} faces": compared(method, truth, unit=None)}
    for k, name in enumerate(("0-30°", "30-60°", "60-90°")):
        result[f"|yaw| {name}, {(bins == k).sum()} faces"] = compared(method, truth[bins == k], unit=None)
    return result


def aflw2000(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """(N, 66, 3) px, y down, z away from the viewer (theirs grows towards it), and (N,) yaws in degrees."""
    points = np.load(folder / "AFLW2000-3D.pts68.npy").swapaxes(1, 2).astype(np.float64)[:, KEPT]
    return points * [1, 1, -1], np.load(folder / "AFLW2000-3D.pose.npy").astype(np.float64)


def compared(method: Any, truth: np.ndarray, paper_rate: Any = None, unit: str | None = "mm") -> dict[str, Any]:
    """Depth network and mean face on the true 2D points of (N, 66, 3) faces."""
    posed = posed_mean(method.mean.astype(np.float64) * [1, -1, -1], truth[..., :2])
    answers = {
        "depth network": with_depth(method, truth[..., :2]),
        "mean face's depth": np.concatenate([truth[..., :2], posed[..., 2:]], axis=2),
        "mean face": posed,
    }
    if paper_rate is not None:
        answers["depth network, rate 0.01"] = with_depth(paper_rate, truth[..., :2])
    return {name: scores(found, truth, unit) for name, found in answers.items()}


def scores(found: np.ndarray, truth: np.ndarray, unit: str | None) -> dict[str, float]:
    pairs = list(zip(found, truth, strict=True))
    result = {
        "GTE %": 100 * float(np.mean([gte(f, t, depth="minus_mean") for f, t in pairs])),
        "CVGTCE %": 100 * float(np.mean([cvgtce(f, t) for f, t in pairs])),
    }
    if unit:
        result[f"APE {unit}"] = float(np.mean([ape(f, t, depth="minus_mean") for f, t in pairs]))
    return result


def with_depth(method: Any, flat: np.ndarray) -> np.ndarray:
    """(N, 66, 3): the 2D points with what the depth network adds, in their unit."""
    with torch.no_grad():
        seen, spread = standardised(torch.tensor(flat, dtype=torch.float32))
        depth = method.depth(seen)[..., None] * spread
    return np.concatenate([flat, depth.numpy()], axis=2)


def posed_mean(mean: np.ndarray, flat: np.ndarray, rounds: int = 50) -> np.ndarray:
    """(N, 66, 3): s R mean + t that fits the 2D points best in the squared sense (weak perspective).

    Begins at the rotation nearest to the best affine map, then takes turns: depths of the fitted face → the best
    similarity in 3D with those depths. Each turn lowers the error of the 2D points.
    """
    centred = mean - mean.mean(0)
    rows = np.linalg.lstsq(centred, (flat - flat.mean(1, keepdims=True)).swapaxes(0, 1).reshape(len(mean), -1))[0]
    rows = rows.reshape(3, -1, 2).transpose(1, 2, 0)
    third = np.cross(rows[:, 0], rows[:, 1]) / np.linalg.norm(rows, axis=2).mean(1)[:, None]
    rotation = nearest_rotation(np.concatenate([rows, third[:, None]], axis=1))
    size = np.linalg.norm(rows, axis=2).mean(1)[:, None, None]
    posed = size * centred @ rotation.swapaxes(1, 2)
    for _ in range(rounds):
        target = np.concatenate([flat, posed[..., 2:]], axis=2)
        scale, rotation, shift = align(np.broadcast_to(centred, target.shape), target)
        posed = scale[:, None, None] * centred @ rotation.swapaxes(1, 2) + shift[:, None]
    return posed


def from_photos(method: Any, folder: Path) -> dict[str, Any]:
    """Both networks after each other on the 16 photos of AFLW2000-3D that the oracles hold."""
    truth, _ = aflw2000(folder)
    rows, size = list(IMAGES), method.config.size
    full = np.load(folder / "AFLW2000-3D.pts68.npy").swapaxes(1, 2)[rows, :, :2].astype(np.float64)
    affines = [box_affine(points, size, method.config.crop_factor) for points in full]
    pictures = [read(folder / f"{IMAGES[k]}.jpg").pixels for k in rows]
    crops = np.stack([crop(p, a, (size, size), edge=True) for p, a in zip(pictures, affines, strict=True)])
    with torch.no_grad():
        found = method(torch.tensor(crops).movedim(-1, 1).float() / 255)["landmarks66"].numpy()
    true = [apply_affine(a, t[:, :2]) / size - 0.5 for a, t in zip(affines, truth[rows], strict=True)]
    depth = [a[0, 0] / size * t[:, 2:] for a, t in zip(affines, truth[rows], strict=True)]
    wanted = np.concatenate([np.stack(true), np.stack(depth)], axis=2)
    flat = [nme(f, t, normaliser="outer_eyes_3d") for f, t in zip(found, wanted, strict=True)]
    return {"photos": len(rows), **scores(found.astype(np.float64), wanted, None), "2D part %": 100 * np.mean(flat)}


# ── speed ──────────────────────────────────────────────────────────────────────────────────────────────────


def speed(run: Path, method: Any) -> dict[str, Any]:
    """Crops and depth steps per second of CPU time, one thread, one at a time."""
    import onnxruntime

    path = export(run, run / "speed.onnx", weights="last.pt")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options)
    path.unlink()
    photo, size = np.random.default_rng(0).integers(0, 256, (160, 160, 3), dtype=np.uint8), method.config.size
    points = np.random.default_rng(1).uniform(30, 130, (68, 2))

    def photo_to_landmarks(answer: Callable[[np.ndarray], Any], side: int) -> None:
        pixels = crop(photo, box_affine(points, side, 1.5), (side, side), edge=True)
        answer(pixels.transpose(2, 0, 1)[None].astype(np.float32) / 255)

    full = landmark_depth.Method(landmark_depth.Config()).eval()
    flat = torch.rand(1, 66, 2)

    def one_depth() -> torch.Tensor:
        seen, spread = standardised(flat)
        return spread * method.depth(seen)[..., None]

    with torch.no_grad():
        return {
            "photos/s, this size, ONNX, crop included": rate(
                lambda: photo_to_landmarks(lambda x: session.run(None, {"images": x}), size)
            ),
            "photos/s, full size, torch, crop included": rate(
                lambda: photo_to_landmarks(lambda x: full(torch.from_numpy(x)), full.config.size)
            ),
            "depth steps/s, torch": rate(one_depth),
        }


def rate(work: Callable[[], Any], repeats: int = 200) -> float:
    """Per second of CPU time, so that other work on the machine does not count; median of ten blocks."""
    work()
    times = []
    for _ in range(10):
        start = time.process_time()
        for _ in range(repeats // 10):
            work()
        times.append((time.process_time() - start) / (repeats // 10))
    return 1 / float(np.median(times))


def section(r: dict[str, Any]) -> list[Any]:
    plain, hard = r["2D"]["as they are"], r["2D"]["transformed and occluded as in training"]
    rows = []
    for name, key in (("as they are", plain), ("turned, zoomed, occluded", hard)):
        for what in ("mean %", "after a similarity, mean %"):
            v = key["with and without pairs"][what]
            apart = f"{v['difference']:+.2f} ± {v['deviation of the difference over seeds']:.2f}"
            rows.append([f"{name}, {what}", f"{v['with pairs']:.2f}", f"{v['local only']:.2f}", apart])
    longer = {name: plain["runs"][name]["mean %"] for name in ("main", "mean face in the middle")}
    depth = r["depth, held-out faces of the morphable model"]
    yaws = [key for key in depth if key.startswith("yaw")]
    names = list(depth["all"])[:3]
    by_yaw = [[name, *(f"{depth[key][name]['GTE %']:.2f}" for key in ("all", *yaws))] for name in names]
    numbers = [[name, *(f"{value:.2f}" for value in depth["all"][name].values())] for name in depth["all"]]
    real = r["depth, AFLW2000-3D"]
    across = [[key, *(f"{real[key][name]['GTE %']:.2f}" for name in names)] for key in real]
    both = r["3D from photos, AFLW2000-3D"]
    speed = ", ".join(f"{name} {value:.0f}" for name, value in r["speed"].items())
    return [
        f"The small settings of `landmark_depth`. 66 points of {r['2D']['photos']} test photos with hand-placed "
        "points, percent of the outer eye distance; three seeds, equal budget.",
        (["mean error", "with the pairwise loss", "local loss only", "difference over seeds"], rows),
        f"The pairwise loss makes no difference that three seeds could show. Trained twice as long: "
        f"{longer['main']:.2f} %; a mean face in the middle of the crop: {longer['mean face in the middle']:.2f} %.",
        f"Depth from true 2D points, {depth['faces per row']} faces of the morphable model with unseen identities; the "
        "baselines are the mean face, and its depth in the best pose for the 2D points:",
        (["", *depth["all"][names[0]]], numbers),
        "GTE %, by yaw:",
        (["", "all", *(key.removeprefix("yaw ") for key in yaws)], by_yaw),
        "![depth error by yaw](images/landmark-depth.png)",
        "Across data sets, as in the paper's section 6.1: true 2D points of AFLW2000-3D, whose depths are fits of "
        "another morphable model. GTE %; here the network is NOT better than the posed mean face but between 30° and "
        "60°.",
        (["", *names], across),
        f"Both networks one after the other on {both['photos']} photos of AFLW2000-3D: GTE {both['GTE %']:.1f} %, "
        f"CVGTCE {both['CVGTCE %']:.1f} %; the 2D part alone is {both['2D part %']:.1f} % (the paper, on its own "
        f"data: 5.88 and 3.97 %). Speed, one thread: {speed}.",
    ]


def figure(r: dict[str, Any]) -> None:
    """docs/images/landmark-depth.png: GTE by yaw: depth network, posed mean face, mean face."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    depth = r["depth, held-out faces of the morphable model"]
    yaws = [key for key in depth if key.startswith("yaw")]
    sheet, axes = pyplot.subplots(figsize=(6, 3.2), layout="constrained")
    for name in list(depth["all"])[:3]:
        values = [depth[key][name]["GTE %"] for key in yaws]
        axes.plot([int(key.removeprefix("yaw ").rstrip("°")) for key in yaws], values, "o-", label=name)
    axes.set(xlabel="yaw, degrees", ylabel="GTE, %", ylim=(0, None))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    sheet.savefig("docs/images/landmark-depth.png", dpi=110, metadata={"Software": None})
    pyplot.close(sheet)


if __name__ == "__main__":
    main()
