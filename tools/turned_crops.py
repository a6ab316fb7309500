"""Crops of people who look straight ahead → crops of the same people from the side, with the codes of the front.

    python tools/turned_crops.py ../shared/data/faces/pins.parquet runs/crops/pins runs/crops/pins-turned

A recogniser is surer of a face from the front than from the side. So what it says of a photo is also what ours shall
say of that photo with the head turned (`synthetic/profiling.py`), by 30 to 85 degrees, to the side it looks to. The
source is the Parquet file that `tools/people_crops.py` read, the second argument what it wrote, with the codes of
`tools/recognition_teacher.py`. Written are OUT.npy, OUT.npz and OUT.codes.npy, for the train split only.
"""

import argparse
import io
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from people_crops import INNER, SIDE
from PIL import Image

from sameface.core.camera import WeakPerspective
from sameface.core.geometry import euler_from_rotation
from sameface.morphable import default
from sameface.morphable.points import points68
from sameface.photo import image
from sameface.photo.predictor import affine_for_sphereface, five_of_68
from sameface.synthetic.profiling import profile

FRONT, LEAST, MOST = 25.0, 30.0, 85.0
"""degrees of yaw: photos that are turned, and what to"""
GOOD = 0.6
"""quality of photos that are turned"""
WINDOW, DENSITY = 176, 0.6
"""px of the picture that is turned, and px per mm in it"""
Job = tuple[bytes, WeakPerspective, np.ndarray, np.ndarray, float]


def turned(job: Job) -> np.ndarray | None:
    """(128, 128, 3) uint8, or None where the photo does not show what would have to be turned."""
    data, camera, identity, expression, yaw = job
    pixels, model = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")), default()
    shrink = DENSITY / float(camera.scale)
    shift = WINDOW / 2 - shrink * camera.translation
    affine = np.array([[shrink, 0, shift[0]], [0, shrink, shift[1]]])
    window = image.crop(pixels, affine, (WINDOW, WINDOW), edge=True)
    try:
        side = profile(
            window, camera.warped(affine, (WINDOW, WINDOW)), model.vertices(identity, expression), model, yaw
        )
    except ValueError:
        return None
    points = side.camera.project(points68()(identity[None], expression[None])[0])
    aligned = affine_for_sphereface(five_of_68(points), INNER)
    aligned[:, 2] += (SIDE - INNER) / 2
    return image.crop(side.image, aligned, (SIDE, SIDE), edge=True)


def main(source: Path, crops: Path, out: Path, workers: int, limit: int) -> None:
    with np.load(f"{crops}.npz", allow_pickle=False) as file:
        rows = dict(file)
    codes, rng = np.load(f"{crops}.codes.npy", allow_pickle=False), np.random.default_rng(0)
    yaw = np.degrees(euler_from_rotation(rows["rotation"].astype(np.float64))[1])
    fit = (np.abs(yaw) < FRONT) & (rows["quality"] > GOOD) & (rows["split"] == "train")
    which = np.flatnonzero(fit)
    which = np.sort(rng.permutation(which)[: limit or len(which)])
    table = pq.read_table(source, columns=["name", "image"])
    place = {name: k for k, name in enumerate(table["name"].to_pylist())}

    def jobs() -> Iterator[Job]:
        for k in which:
            size = (int(rows["size"][k][0]), int(rows["size"][k][1]))
            rotation, translation, scale = (rows[n][k].astype(np.float64) for n in ("rotation", "translation", "scale"))
            camera = WeakPerspective(rotation, translation, scale, size)
            goal = float(np.sign(yaw[k]) * np.radians(rng.uniform(LEAST, MOST)))
            data = table["image"][place[str(rows["name"][k])]].as_py()
            yield data, camera, rows["identity"][k], rows["expression"][k], goal

    with ProcessPoolExecutor(workers) as pool:
        made = list(pool.map(turned, jobs(), chunksize=16))
    kept = [n for n, crop in enumerate(made) if crop is not None]
    np.save(f"{out}.npy", np.stack([crop for crop in made if crop is not None]))
    np.savez(f"{out}.npz", **{name: rows[name][which[kept]] for name in ("name", "person", "split")})
    np.save(f"{out}.codes.npy", codes[which[kept]])
    print(f"{out}: {len(kept)} crops; {len(which) - len(kept)} photos could not be turned")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("crops", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--limit", type=int, default=0)
    args = parser.parse_args()
    main(args.source, args.crops, args.out, args.workers, args.limit)
