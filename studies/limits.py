"""Where the limits of copies and of poor photos come from: `python studies/limits.py` → results/limits.json.

Three photos each of the people of the face table's val split, as they are, saved again (smaller, larger, compressed),
and made worse (darker, blurred, noisy, half covered). Copies: how far points, own shapes and expressions of a photo
and its copy are apart, and those of two photos of one person. Poor photos: what quality they have, and how far their
own shape is from that of the photo as it is (mm RMS over the face).
"""

import json
import os
from collections.abc import Callable
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from sameface.core.errors import NoFaceFound
from sameface.photo.face import Observation, Photo
from sameface.photo.observe import observe
from sameface.photo.predictor import load, second
from sameface.reconstruction import copies
from sameface.reconstruction.agreement import millimetres
from sameface.reconstruction.doubts import FAIR, POOR
from sameface.reconstruction.reconstruct import join
from sameface.training.datasets import facetable

TITLE, RESULT = "Copies and poor photos", Path("results/limits.json")
SHARED = Path(os.environ.get("SAMEFACE_SHARED", "../shared"))
EACH = 3
"""photos of a person"""
QUALITIES = (0.0, POOR, FAIR, 0.9, 1.0)

Change = Callable[[np.ndarray], np.ndarray]


def scaled(factor: float) -> Change:
    way = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    return lambda pixels: cv2.resize(pixels, None, fx=factor, fy=factor, interpolation=way)


def saved(kind: str, flag: int, quality: int) -> Change:
    return lambda pixels: cv2.imdecode(cv2.imencode(kind, pixels, [flag, quality])[1], cv2.IMREAD_COLOR)


def darker(factor: float) -> Change:
    return lambda pixels: np.round(pixels * factor).astype(np.uint8)


def blurred(sigma: float) -> Change:
    return lambda pixels: cv2.GaussianBlur(pixels, (0, 0), sigma)


def noisy(pixels: np.ndarray) -> np.ndarray:
    return np.clip(pixels + np.random.default_rng(0).normal(0, 25, pixels.shape), 0, 255).astype(np.uint8)


def covered(pixels: np.ndarray) -> np.ndarray:
    out = pixels.copy()
    out[len(out) * 6 // 10 :] = 128
    return out


COPIES: dict[str, Change] = {
    "half the size": scaled(0.5), "1.5 times the size": scaled(1.5),
    "JPEG, quality 30": saved(".jpg", cv2.IMWRITE_JPEG_QUALITY, 30),
    "JPEG, quality 70": saved(".jpg", cv2.IMWRITE_JPEG_QUALITY, 70),
    "WebP, quality 60": saved(".webp", cv2.IMWRITE_WEBP_QUALITY, 60),
}  # fmt: skip
WORSE: dict[str, Change] = {
    "brightness × 0.3": darker(0.3), "brightness × 0.06": darker(0.06), "blur, σ 2 px": blurred(2.0),
    "blur, σ 4 px": blurred(4.0), "noise, σ 25": noisy, "the lower 40 % covered": covered,
}  # fmt: skip


def main() -> None:
    data, rng = facetable.load(SHARED / "data" / "faces", "val"), np.random.default_rng(0)
    people, counts = np.unique(data.person[data.person >= 0], return_counts=True)
    rows = [
        rng.choice(np.flatnonzero(data.person == one), EACH, replace=False).tolist() for one in people[counts >= EACH]
    ]
    missed = dict.fromkeys(["as it is", *COPIES, *WORSE], 0)

    def look(row: int, name: str, change: Change | None = None) -> Observation | None:
        pixels = data.image(row)
        try:
            return observe(Photo(pixels if change is None else change(pixels), data.names[row]), load("default"),
                           second=second())[0]  # fmt: skip
        except NoFaceFound:
            missed[name] += 1

    apart: dict[str, list[np.ndarray]] = {"copies": [], "photos of one person": []}
    seen: list[tuple[str, float, float]] = []
    for mine in rows:
        as_is = {row: first for row in mine if (first := look(row, "as it is")) is not None}
        apart["photos of one person"] += [copies.apart([a], [b])[:, 0, 0] for a, b in combinations(as_is.values(), 2)]
        for row, first in as_is.items():
            own = join([first]).identity
            seen.append(("as it is", first.quality, 0.0))
            for name, change in COPIES.items():
                if (other := look(row, name, change)) is not None:
                    apart["copies"].append(copies.apart([first], [other])[:, 0, 0])
            for name, change in WORSE.items():
                if (other := look(row, name, change)) is not None:
                    moved = np.linalg.norm((join([other]).identity - own) @ millimetres())
                    seen.append((name, other.quality, float(moved)))
    RESULT.write_text(json.dumps(told(len(rows), apart, seen, missed), indent=1) + "\n")
    print(RESULT.read_text())


def told(
    people: int, apart: dict[str, Any], seen: list[tuple[str, float, float]], missed: dict[str, int]
) -> dict[str, Any]:
    limits = np.array([copies.SAME_POINTS, copies.SAME_SHAPE, copies.SAME_EXPRESSION])
    pairs = {}
    for name, found in apart.items():
        far = np.array(found)
        pairs[name] = {
            "pairs": len(far), "one picture": float((far <= limits).all(1).mean()),
            "5, 50, 95 %": np.percentile(far, [5, 50, 95], axis=0).T.round(4).tolist(),
        }  # fmt: skip
    worse = {}
    for name in dict.fromkeys(one for one, *_ in seen):
        quality, moved = np.array([(q, mm) for one, q, mm in seen if one == name]).T
        worse[name] = {
            "photos": len(quality), "no face": missed[name], "poor": float((quality < POOR).mean()),
            "fair": float((quality < FAIR).mean()), "quality": float(np.median(quality)), "mm": float(np.median(moved)),
        }  # fmt: skip
    changed = np.array([(q, mm) for name, q, mm in seen if name != "as it is"])
    by_quality = []
    for low, high in pairwise(QUALITIES):
        moved = changed[(changed[:, 0] >= low) & (changed[:, 0] < high), 1]
        by_quality.append({"from": low, "to": high, "photos": len(moved), "mm": float(np.median(moved))})
    return {"command": "python studies/limits.py", "people": people, "limits": limits.tolist(),
            "quality": [POOR, FAIR], "pairs": pairs, "worse": worse, "by_quality": by_quality}  # fmt: skip


def section(r: dict[str, Any]) -> list[Any]:
    points, shape, expression = r["limits"]
    rows = []
    for name, pair in r["pairs"].items():
        spread = [" / ".join(f"{value:.3g}" for value in values) for values in pair["5, 50, 95 %"]]
        rows.append([name, f"{pair['pairs']}", *spread, f"{100 * pair['one picture']:.1f} %"])
    worse = [
        [name, str(one["photos"]), str(one["no face"]), f"{one['quality']:.2f}", f"{100 * one['poor']:.0f} %",
         f"{100 * one['fair']:.0f} %", "" if name == "as it is" else f"{one['mm']:.2f}"]
        for name, one in r["worse"].items()
    ]  # fmt: skip
    moved = ", ".join(
        f"{one['mm']:.2f} mm from {one['from']:g} to {one['to']:g} ({one['photos']} photos)" for one in r["by_quality"]
    )
    return [
        f"{EACH} photos each of {r['people']} people (val split, crops of 160 px). A photo is a copy of another one, "
        f"and does not count, where their points are within {100 * points:g} % of the face's spread, their own shapes "
        f"within {shape:g} mm and their expressions within {expression:g}; copies are photos at half or 1.5 times the "
        "size, and compressed again (JPEG of quality 30 and 70, WebP). Distances: 5 % / median / 95 %.",
        (["", "pairs", "points", "shape, mm", "expression", "one picture"], rows),
        f"A photo is poor (a note, red in the report) below a quality of {r['quality'][0]:g}, and not good (amber) "
        f"below {r['quality'][1]:g}. Photos that were made worse: their quality and how far their own shape moved "
        "(medians).",
        (["photo", "photos", "no face", "quality", "poor", "not good", "moved, mm"], worse),
        f"By their quality, the photos that were made worse moved (median) by {moved}.",
    ]


if __name__ == "__main__":
    main()
