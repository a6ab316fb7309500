"""How many photos a second `sameface bulk` does: `OMP_NUM_THREADS=1 python benchmarks/bulk.py` → benchmarks/bulk.json.

The astronaut, enlarged, turned and compressed again: PERSONS persons of four photos of 600 px. A plain loop over
`sameface.reconstruct` in this process, and bulk runs on Ray with one and two processes, in turn, ROUNDS times; the best
round of each. Rates of the bulk runs count from the end of the first shard on, so that they say what a long run does;
`start_seconds` is what comes before: Ray itself, once, and the processes of a run with their networks. Ray's processes
usually yield to all others (niceness 15); here they have the priority of this process, like the loop.
"""

import json
import os
import sys
import tempfile
import time
from pathlib import Path

import cv2
import skimage.data

import sameface
from sameface.bulk.bulk import Options, _Ray, bulk
from sameface.photo.image import gather

PERSONS, ROUNDS, SHARD = 16, 4, 4


def photos(folder: Path) -> None:
    person = cv2.cvtColor(skimage.data.astronaut()[:300, 70:370], cv2.COLOR_RGB2BGR)
    for k in range(4 * PERSONS):
        turn = cv2.getRotationMatrix2D((150, 150), 7 * k % 31 - 15, 2.0)
        turn[:, 2] += 150
        path = folder / f"{k // 4:03d}" / f"{k}.jpg"
        path.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(path), cv2.warpAffine(person, turn, (600, 600), borderMode=cv2.BORDER_REPLICATE))


def loop(folder: Path) -> float:
    """Photos per second."""
    start = time.perf_counter()
    for person in sorted(folder.iterdir()):
        sameface.reconstruct(*gather(person))
    return 4 * PERSONS / (time.perf_counter() - start)


def on_ray(folder: Path, workers: int) -> tuple[float, float]:
    """Photos per second from the first shard on, and seconds until the first shard, less what a shard takes."""
    start, times = time.perf_counter(), []
    with tempfile.TemporaryDirectory() as out:
        options = Options(shard=SHARD)
        bulk(
            [folder],
            Path(out),
            options,
            workers=workers,
            tick=lambda done, _: times.append((time.perf_counter(), done)),
        )
    (first, before), (last, after) = times[1], times[-1]
    rate = (after - before) / (last - first)
    return rate, first - start - workers * SHARD / rate


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        photos(folder)
        sameface.reconstruct(*gather(folder / "000"))  # loads the networks
        os.environ["RAY_worker_niceness"] = "0"
        start = time.perf_counter()
        with _Ray(None, 2):
            ray_seconds = time.perf_counter() - start
            loops, ones, twos = [], [], []
            for _ in range(ROUNDS):
                loops.append(loop(folder))
                ones.append(on_ray(folder, 1))
                twos.append(on_ray(folder, 2))
    best, one, two = max(loops), max(ones), max(twos)
    told = {
        "photos": 4 * PERSONS,
        "rounds": ROUNDS,
        "photos_per_second": {"loop": round(best, 1), "bulk, 1": round(one[0], 1), "bulk, 2": round(two[0], 1)},
        "times_the_loop": {"bulk, 1": round(one[0] / best, 2), "bulk, 2": round(two[0] / best, 2)},
        "start_seconds": {"ray": round(ray_seconds, 1), "processes": round(min(s for _, s in ones + twos), 1)},
        "cores": len(os.sched_getaffinity(0)),
        "load": [round(value, 1) for value in os.getloadavg()],
        "note": " ".join(sys.argv[1:]),
    }
    Path(__file__).with_suffix(".json").write_text(json.dumps(told, indent=1) + "\n")
    print(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
