"""How long an evaluation takes, and the same again with what it kept → results/evaluate-speed.json

    python studies/evaluation_speed.py PAIRS DISENTANGLE.onnx

PAIRS holds what the benchmark `pairs` reads; its photos are also laid out as LFW's and CFP's are, whose own are not
needed to measure time. The network is an exported run of `disentangle`, trained or not. Every command is a process of
its own, twice: the second finds the answers of the first.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np

TITLE, RESULT = "Speed of an evaluation", Path("results/evaluate-speed.json")
COMMAND = "python studies/evaluation_speed.py PAIRS DISENTANGLE.onnx"
WHAT = (
    "Two processes on two cores, start-up, detection and scoring included; PAIRS are the open pairs, LFW and CFP "
    "photos of the same test split in those layouts (250 px)"
)
SIDE, FRONTAL, PROFILE, FOLDS = 250, 10, 4, 10


def as_jpeg(photo: Path, to: Path) -> None:
    """The crop in the middle of a picture of SIDE px."""
    pixels = cv2.imread(str(photo))
    assert pixels is not None, photo
    before = (SIDE - pixels.shape[0]) // 2
    pixels = cv2.copyMakeBorder(pixels, *[before, SIDE - pixels.shape[0] - before] * 2, cv2.BORDER_REPLICATE)
    to.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(to), pixels, [cv2.IMWRITE_JPEG_QUALITY, 92])


def people(pairs: Path) -> dict[str, list[Path]]:
    """Whose photos there are."""
    return {folder.name: sorted(folder.glob("*.webp")) for folder in sorted((pairs / "photos").iterdir())}


def like_lfw(pairs: Path, root: Path) -> None:
    for name, photos in people(pairs).items():
        for photo in photos:
            as_jpeg(photo, root / "lfw" / name / f"{photo.stem}.jpg")
    (root / "pairs.txt").write_bytes((pairs / "pairs.txt").read_bytes())


def like_cfp(pairs: Path, root: Path) -> None:
    """People with 14 photos: ten count as frontal, four as profile, each of one with each of the other."""
    many = [photos for photos in people(pairs).values() if len(photos) >= FRONTAL + PROFILE]
    for kind, numbers in (("frontal", range(FRONTAL)), ("profile", range(FRONTAL, FRONTAL + PROFILE))):
        lines = []
        for person, photos in enumerate(many):
            for k in numbers:
                path = f"Data/Images/{person + 1:03d}/{kind}/{k - numbers[0] + 1:02d}.jpg"
                as_jpeg(photos[k], root / path)
                lines.append(f"{len(lines) + 1} ../{path}\n")
        (root / "Protocol").mkdir(exist_ok=True)
        (root / "Protocol" / f"Pair_list_{kind[0].upper()}.txt").write_text("".join(lines))
    frontal, profile = np.meshgrid(np.arange(FRONTAL * len(many)), np.arange(PROFILE * len(many)), indexing="ij")
    same = frontal // FRONTAL == profile // PROFILE
    rng = np.random.default_rng(0)
    for kind, which in (("same", same), ("diff", ~same)):
        chosen = rng.permutation(np.argwhere(which))[: same.sum()]
        for fold, part in enumerate(np.array_split(chosen, FOLDS)):
            file = root / "Protocol" / "Split" / "FP" / f"{fold + 1:02d}" / f"{kind}.txt"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("".join(f"{i + 1},{j + 1}\n" for i, j in part.tolist()))


def timed(benchmark: str, folder: str, network: str) -> dict[str, float]:
    """Photos, seconds of the first and of the second run, and photos per second of the first."""
    with tempfile.TemporaryDirectory() as out:
        line = ["sameface", "evaluate", benchmark, "--data", folder, "--model", network, "--out", out, "--quiet"]
        seconds = []
        for _ in range(2):
            start = time.perf_counter()
            done = subprocess.run([sys.executable, "-m", *line], stdout=subprocess.DEVNULL, check=False)
            seconds.append(round(time.perf_counter() - start, 1))
            if done.returncode not in (0, 3):  # 3: some photos could not be used, and were counted
                sys.exit(f"{' '.join(line)} ended with {done.returncode}")
        (report,) = Path(out).glob("*.json")
        photos = json.loads(report.read_text())["cases"]
    return {"photos": photos, "first run, seconds": seconds[0], "second run, seconds": seconds[1],
            "photos per second": round(photos / seconds[0], 1)}  # fmt: skip


def main() -> None:
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    pairs, network = Path(sys.argv[1]), sys.argv[2]
    out: dict[str, Any] = {"command": COMMAND, "what": WHAT}
    with tempfile.TemporaryDirectory() as folder:
        lfw, cfp = Path(folder) / "lfw", Path(folder) / "cfp"
        like_lfw(pairs, lfw)
        like_cfp(pairs, cfp)
        asked = (("pairs", "default", pairs, "default"), ("lfw", "disentangle", lfw, network),
                 ("cfp", "disentangle", cfp, network))  # fmt: skip
        for benchmark, name, root, model in asked:
            out |= {f"{benchmark}, {name}: {key}": v for key, v in timed(benchmark, str(root), model).items()}
    RESULT.write_text(json.dumps(out, indent=1) + "\n")
    print(json.dumps(out, indent=1))


def section(r: dict[str, Any]) -> list[Any]:
    numbers = [[name, str(value)] for name, value in r.items() if isinstance(value, int | float)]
    return [r["what"] + ":", (["", ""], numbers)]


if __name__ == "__main__":
    main()
