"""How many faces the detector finds, beside others, on photos that no training has seen.

    python studies/evaluate_detector.py ../shared/data/scenes --turned turned-test.parquet --peers haar mediapipe-far \
        mediapipe-near --out results/detect-scenes-test.json

`turned-test.parquet` comes from `tools/scenes_from_faces.py ../shared/data/faces turned-test.parquet --split test
--files aflw.parquet`: tight crops of one face each, whose labels know how far the head is turned. The peers must be
installed: haar (OpenCV 4 with its cascades), mediapipe-* (a version whose wheel holds the models, such as 0.10.21).

A labelled face is found if a box overlaps it by IoU > 0.3 (boxes of different detectors mean slightly different parts
of the head). The labels come from a public detector and leave some faces out, so precision is a lower bound, and
recall says how far we agree with that detector rather than with people. Times are medians of one process in which
the detectors take turns on every photo; only their ratio should be quoted.
"""

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from sameface.photo.detect import detect
from sameface.training.datasets import scenes
from sameface.training.export import describe

TITLE, RESULT = "The face detector", Path("results/detect-scenes-test.json")

Detector = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]  # RGB pixels → boxes (N, 4), scores (N,)
SIZES = (0, 12, 20, 40, 80, 160, 400)
YAWS = (0, 15, 30, 45, 60, 75, 90)
SCORES = (0.3, 0.4, 0.5, 0.6, 0.7)
OVERLAP = 0.3


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("scenes", type=Path)
    arguments.add_argument("--turned", type=Path, required=True)
    arguments.add_argument("--split", default="test", help="val to choose between versions; test only to report")
    arguments.add_argument("--peers", nargs="*", choices=PEERS, default=[])
    arguments.add_argument("--network", type=Path, help="another detect.onnx than the packaged one")
    arguments.add_argument("--out", type=Path, default=RESULT)
    given = arguments.parse_args()
    from sameface.photo import detect as module

    if given.network:
        module.NETWORK = given.network
    detectors = {"sameface": ours} | {name: PEERS[name]() for name in given.peers}
    data = scenes.load(given.scenes, given.split)
    answers, times = run(detectors, [data[i]["images"] for i in range(len(data))])
    labels = [data[i] for i in range(len(data))]
    result = {
        "command": "python " + " ".join(sys.argv),
        "network": describe(module.NETWORK),
        "machine": f"{platform.machine()}, Python {platform.python_version()}, OpenCV {cv2.__version__}",
        "photos": len(data),
        "faces": int(sum(len(item["boxes"]) for item in labels)),
        "scenes": {name: summary(found, labels) for name, found in answers.items()},
        "points": points_error(labels),
        "turned": turned(detectors, given.turned),
        "ms_per_photo": {name: round(1000 * float(np.median(t)), 2) for name, t in times.items()},
    }
    first = np.array(times["sameface"])
    result["times_ours"] = {name: round(float(np.median(np.array(t) / first)), 2) for name, t in times.items()}
    given.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps({k: v for k, v in result.items() if k != "network"}, indent=1))


def run(detectors: dict[str, Detector], photos: list[np.ndarray]) -> tuple[dict[str, list], dict[str, list[float]]]:
    """Every detector's answer to every photo, and the seconds it took."""
    answers, times = {name: [] for name in detectors}, {name: [] for name in detectors}
    for detector in detectors.values():
        detector(photos[0])  # what is done once is not timed
    for photo in photos:
        for name, detector in detectors.items():
            start = time.perf_counter()
            answers[name].append(detector(photo))
            times[name].append(time.perf_counter() - start)
    return answers, times


def summary(found: list[tuple[np.ndarray, np.ndarray]], labels: list[dict[str, np.ndarray]]) -> dict:
    """Recall by size of face, precision, and both by score."""
    sizes = np.concatenate([(item["boxes"][:, 2:] - item["boxes"][:, :2]).max(1) for item in labels])
    at = {}
    for score in SCORES:
        kept = [boxes[scores >= score] for boxes, scores in found]
        hit = np.concatenate([matched(item["boxes"], boxes) for item, boxes in zip(labels, kept, strict=True)])
        right = np.concatenate([matched(boxes, item["boxes"]) for item, boxes in zip(labels, kept, strict=True)])
        at[str(score)] = {"recall": share(hit), "precision": share(right), "answers": len(right)}
        if score == 0.5:
            by_size = {f"{a}-{b} px": rate(hit[(sizes >= a) & (sizes < b)]) for a, b in pairwise(SIZES)}
    return {"by_score": at, "recall_by_size": by_size}


def turned(detectors: dict[str, Detector], path: Path) -> dict:
    """Recall on tight crops by the turn of the head, and how often a face comes with other answers."""
    import pyarrow.parquet as parquet

    rows = parquet.read_table(path).to_pylist()
    yaw, data = np.degrees(np.arcsin(np.clip([row["turn"] for row in rows], 0, 1))), scenes.Scenes(rows)
    answers, _ = run(detectors, [data[i]["images"] for i in range(len(data))])
    result = {}
    for name, found in answers.items():
        kept = [boxes[scores >= 0.5] for boxes, scores in found]
        hit = np.concatenate([matched(data[i]["boxes"], boxes) for i, boxes in enumerate(kept)])
        bins = {f"{a}-{b}°": rate(hit[(yaw >= a) & (yaw < b)]) for a, b in pairwise(YAWS)}
        result[name] = {"recall": share(hit), "answers_per_crop": round(float(np.mean([len(b) for b in kept])), 3)}
        result[name]["recall_by_yaw"] = bins
    return result


def points_error(labels: list[dict[str, np.ndarray]]) -> dict:
    """Mean distance of our five points from the labels', per cent of the longer side of the face's box; mean IoU."""
    errors, overlaps = [], []
    for item in labels:
        faces = detect(item["images"])
        for box, points in zip(item["boxes"], item["points"], strict=True):
            fit = overlap(box[None], faces.boxes)[0]
            if len(fit) and fit.max() > 0.5 and (box[2:] - box[:2]).max() >= 20:
                far = np.linalg.norm(faces.points[fit.argmax()] - points, axis=1)
                errors.append(100 * far.mean() / (box[2:] - box[:2]).max())
                overlaps.append(fit.max())
    return {
        "faces": len(errors),
        "mean_error_percent": round(float(np.mean(errors)), 2),
        "median_error_percent": round(float(np.median(errors)), 2),
        "mean_overlap": round(float(np.mean(overlaps)), 3),
    }


def matched(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Which boxes some other overlaps by more than OVERLAP."""
    return (overlap(boxes, others) > OVERLAP).any(1)


def overlap(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """IoU of every box of `a` with every box of `b`."""
    shared = (np.minimum(a[:, None, 2:], b[:, 2:]) - np.maximum(a[:, None, :2], b[:, :2])).clip(0).prod(2)
    area_a, area_b = (a[:, 2:] - a[:, :2]).prod(1), (b[:, 2:] - b[:, :2]).prod(1)
    return shared / (area_a[:, None] + area_b - shared).clip(1e-9)


def share(claims: np.ndarray) -> float | None:
    return round(float(claims.mean()), 4) if len(claims) else None


def rate(claims: np.ndarray) -> str:
    return f"{share(claims)} of {len(claims)}"


def ours(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    faces = detect(pixels, min_score=SCORES[0])
    return faces.boxes, faces.scores


def haar() -> Detector:
    """OpenCV's frontal cascade (Viola-Jones) with its usual settings; it gives no scores."""
    cascade = cv2.CascadeClassifier(cv2.data.haarcascades + "haarcascade_frontalface_default.xml")

    def find(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        found = cascade.detectMultiScale(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), 1.1, 4, minSize=(12, 12))
        boxes = np.array(found, np.float64).reshape(-1, 4)
        return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1), np.ones(len(boxes))

    return find


def mediapipe(far: bool) -> Detector:
    """MediaPipe's BlazeFace for far or near faces; its squares lack the forehead, so they are raised by a fifth."""
    from mediapipe.python.solutions.face_detection import FaceDetection

    network = FaceDetection(model_selection=int(far), min_detection_confidence=SCORES[0])

    def find(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        height, width = pixels.shape[:2]
        found = network.process(pixels).detections or []
        boxes = [face.location_data.relative_bounding_box for face in found]
        corners = [[b.xmin, b.ymin - 0.2 * b.height, b.xmin + b.width, b.ymin + b.height] for b in boxes]
        scores = np.array([face.score[0] for face in found])
        return np.array(corners).reshape(-1, 4) * [width, height, width, height], scores

    return find


PEERS = {"haar": haar, "mediapipe-far": lambda: mediapipe(True), "mediapipe-near": lambda: mediapipe(False)}


def section(r: dict[str, Any]) -> list[Any]:
    sizes = list(r["scenes"]["sameface"]["recall_by_size"])
    rows = []
    for name, found in r["scenes"].items():
        at = found["by_score"]["0.5"]
        rows.append([name, f"{at['recall']:.3f}", f"{at['precision']:.3f}", *found["recall_by_size"].values()])
    yaws = list(r["turned"]["sameface"]["recall_by_yaw"])
    turned = [[name, f"{v['recall']:.3f}", *v["recall_by_yaw"].values()] for name, v in r["turned"].items()]
    return [
        f"Held-out scenes: {r['photos']} photos, {r['faces']} labelled faces (labels of a public "
        "detector; some faces have none, so precision is a lower bound). Score 0.5; recall by face side in the "
        "photo as the network sees it.",
        (["detector", "recall", "precision", *sizes], rows),
        "Faces turned away (test crops of the face table), recall by |yaw|:",
        (["detector", "recall", *yaws], turned),
    ]


if __name__ == "__main__":
    main()
