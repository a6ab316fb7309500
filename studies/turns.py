"""Photos that lie on their side or stand on their head, without a word of it in the file: `python studies/turns.py` →
results/turns.json.

Photos of the face table's val split, each as it is and turned by 90°, 180° and 270°, are looked at as they lie
(`observe`) and with a look at the other sides where nothing good is found (`observe_turned`). A face is right if its
dense points lie within 10 % of √(box area) of the turned labels (median over the points). Milliseconds: one thread.
"""

import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from sameface.core.errors import NoFaceFound
from sameface.photo import turned
from sameface.photo.face import Observation, Photo
from sameface.photo.image import read
from sameface.photo.observe import observe
from sameface.photo.predictor import load, second
from sameface.training.datasets import facetable

TITLE, RESULT = "Photos that are not upright", Path("results/turns.json")

SHARED = Path(os.environ.get("SAMEFACE_SHARED", "../shared"))
PHOTOS, RIGHT = 300, 0.1
WAYS = {"as it lies": observe, "other sides too": turned.observe_turned}


def turned_points(points: np.ndarray, size: int, quarters: int) -> np.ndarray:
    """Points (px) of a square photo after so many quarter turns counter-clockwise."""
    for _ in range(quarters):
        points = np.stack([points[:, 1], size - points[:, 0]], axis=1)
    return points


def look(way: str, photo: Photo) -> tuple[list[Observation], float]:
    start = time.process_time()
    try:
        seen = WAYS[way](photo, load("default"), second=second())
    except NoFaceFound:
        seen = []
    return seen, 1000 * (time.process_time() - start)


def measured(seen: list[Observation], label: np.ndarray) -> tuple[bool, bool]:
    """Whether the largest face is right, and whether the photo was turned."""
    if not seen:
        return False, False
    far = np.median(np.linalg.norm(seen[0].landmarks - label, axis=1)) / np.sqrt(np.ptp(label, axis=0).prod())
    return bool(far < RIGHT), bool(seen[0].notes)


def main() -> None:
    data = facetable.load(SHARED / "data" / "faces", "val")
    rows = np.random.default_rng(0).permutation(len(data))[:PHOTOS].tolist()
    table: dict[str, Any] = {way: {} for way in WAYS}
    for quarters in range(4):
        found: dict[str, list] = {way: [] for way in WAYS}
        for row in rows:
            pixels = data.image(row)
            photo = Photo(np.ascontiguousarray(np.rot90(pixels, quarters)), data.names[row])
            label = turned_points(data.landmarks(row).astype(np.float64), len(pixels), quarters)
            for way in WAYS:
                seen, ms = look(way, photo)
                found[way].append((*measured(seen, label), ms))
        for way, three in found.items():
            right, turns, ms = np.array(three, float).T
            table[way][f"{90 * quarters}°"] = {
                "right": float(right.mean()), "turned": float(turns.mean()),
                "turned and right": float((turns * right).mean()),
                "ms, mean": float(ms.mean()), "ms, median": float(np.median(ms)),
            }  # fmt: skip
            print(quarters, way, table[way][f"{90 * quarters}°"], flush=True)
    case, _ = look("other sides too", read(str(SHARED / "cases" / "03_upside_down.jpg")))
    out = {
        "command": "python studies/turns.py", "photos": PHOTOS, "good": turned.GOOD, "better": turned.BETTER,
        "ways": table, "a portrait that stands on its head": [{"score": o.score, "quality": o.quality,
                                                              "notes": o.notes} for o in case],
    }  # fmt: skip
    RESULT.write_text(json.dumps(out, indent=1, ensure_ascii=False) + "\n")


def section(r: dict[str, Any]) -> list[Any]:
    rows = [
        [f"turned by {angle}, {way}", f"{100 * v['right']:.1f} %", f"{100 * v['turned']:.1f} %", f"{v['ms, mean']:.0f}",
         f"{v['ms, median']:.0f}"]
        for angle in next(iter(r["ways"].values()))
        for way, v in ((way, angles[angle]) for way, angles in r["ways"].items())
    ]  # fmt: skip
    return [
        f"{r['photos']} photos of the val split, each as it is and turned. The other sides are looked at when score × "
        f"quality of the best face is below {r['good']:g}, and taken when theirs is more than {r['better']:g} times as "
        "good. Right: the points lie within 10 % of the face of the labels.",
        (["photo", "face right", "photo turned", "mean ms", "median ms"], rows),
    ]


if __name__ == "__main__":
    main()
