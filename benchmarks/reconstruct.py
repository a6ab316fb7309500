"""How long `sameface reconstruct` takes: `python benchmarks/reconstruct.py` → benchmarks/reconstruct.json.

One 1,000 px JPEG (the astronaut, enlarged) through a warm process: read, detect, two crops, network, fit, OBJ with
normals. Medians and quartiles of 40 runs; the parts are timed in the same runs. The peer is MediaPipe's face
landmarker (468 points of one face from the same file, no identity, no mesh of a person), timed in turn in the same
process if it is installed; else the ratio is left out.
Import time: the median of 9 runs of `python -X importtime -c "import sameface"`.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import cv2

from sameface.photo import image
from sameface.photo.detect import detect
from sameface.photo.observe import observe, points_of
from sameface.photo.predictor import load, second
from sameface.reconstruction.fit import fit
from sameface.reconstruction.reconstruct import join, look, measured

TITLE, RESULT = "Speed", Path("benchmarks/reconstruct.json")

RUNS = 40


def photo(folder: Path) -> Path:
    from skimage import data

    path = folder / "astronaut.jpg"
    pixels = cv2.resize(data.astronaut(), (1000, 1000), interpolation=cv2.INTER_CUBIC)
    cv2.imwrite(str(path), cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 92])
    return path


def timed(function, times: list[float]):
    start = time.perf_counter()
    answer = function()
    times.append(1000 * (time.perf_counter() - start))
    return answer


def peer(path: Path):
    """MediaPipe's face mesh as a function of the file, or None if it is not installed (or has lost that interface)."""
    try:
        import mediapipe

        mesh = mediapipe.solutions.face_mesh.FaceMesh(static_image_mode=True, refine_landmarks=True, max_num_faces=1)
    except (ImportError, AttributeError):
        return None
    return lambda: mesh.process(cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB))


def saved(seen, path: Path) -> None:
    join(seen).save(path)


def import_seconds() -> float:
    times = []
    for _ in range(9):
        done = subprocess.run(
            [sys.executable, "-X", "importtime", "-c", "import sameface"], capture_output=True, text=True, check=True
        )
        times.append(int(done.stderr.strip().splitlines()[-1].split("|")[1]) / 1e6)
    return statistics.median(times)


def summary(times: list[float]) -> dict[str, float]:
    low, middle, high = statistics.quantiles(times, n=4)
    return {
        "median ms": round(middle, 2),
        "quartiles ms": [round(low, 2), round(high, 2)],
        "least ms": round(min(times), 2),
    }


def main() -> None:
    names = ("all", "read", "detect", "observe (with detect)", "fit", "fit and save OBJ")
    times: dict[str, list[float]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as folder:
        path, network = photo(Path(folder)), load("default")
        other, theirs = peer(path), []
        for run in range(RUNS + 5):
            if run == 5:
                times = {name: [] for name in names}
                theirs = []
            timed(lambda: join(look([path]).faces[0][:1]).save(Path(folder) / "face.obj"), times["all"])
            read = timed(lambda: image.read(path), times["read"])
            timed(partial(detect, read.pixels), times["detect"])
            seen = timed(partial(observe, read, network, second=second()), times["observe (with detect)"])
            timed(partial(fit, points_of(network), measured(seen[:1]), shared=False), times["fit"])
            timed(partial(saved, seen[:1], Path(folder) / "face.obj"), times["fit and save OBJ"])
            if other is not None:
                timed(other, theirs)
    out = {"command": "python benchmarks/reconstruct.py", "photo": "1000 × 1000 px JPEG", "runs": RUNS,
           "sameface": {name: summary(values) for name, values in times.items()},
           "import sameface, seconds": round(import_seconds(), 3)}  # fmt: skip
    if theirs:
        out["mediapipe face mesh"] = summary(theirs)
        out["ratio sameface / mediapipe"] = round(statistics.median(times["all"]) / statistics.median(theirs), 2)
    Path("benchmarks/reconstruct.json").write_text(json.dumps(out, indent=1, ensure_ascii=False) + "\n")
    print(json.dumps(out, indent=1, ensure_ascii=False))


def section(r: dict[str, Any]) -> list[Any]:
    rows = [
        [
            name,
            f"{v['median ms']:.1f}",
            f"{v['quartiles ms'][0]:.1f} - {v['quartiles ms'][1]:.1f}",
            f"{v['least ms']:.1f}",
        ]
        for name, v in r["sameface"].items()
    ]
    return [
        f"`sameface reconstruct` of a {r['photo']} in a warm process on two cores, {r['runs']} runs.",
        (["step", "median ms", "quartiles", "least"], rows),
        f"`import sameface`: {1000 * r['import sameface, seconds']:.0f} ms.",
    ]


if __name__ == "__main__":
    main()
