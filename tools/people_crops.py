"""Photos of many people → crops that a recogniser sees, and what the default network measures in each.

    python tools/people_crops.py runs/people/fiw.parquet runs/crops/fiw            one source of photos
    python tools/people_crops.py ../shared/data/faces/pins.parquet runs/crops/pins --leave-out ../shared/data/people

A source is a Parquet file with the columns `image` (a coded picture), `name`, and if there is one `source`, `person`,
`split`; tools/people_photos.py makes such files of public repositories. Written are NAME.npy, (N, 128, 128, 3) uint8
crops aligned by five points (a recogniser's 112 px and a margin of 8), and NAME.npz with a row for each: who, which
split, and the measurements that a fit needs. The face nearest to the middle is taken; photos without a face are
counted. With --leave-out, people and rows of leave_out.csv are not looked at, and who is in two sources
(same_person.csv) is taken from one of them.
"""

import argparse
import csv
import hashlib
import io
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from sameface.core.errors import SameFaceError
from sameface.morphable.points import points68
from sameface.photo import image
from sameface.photo.face import Observation, Photo
from sameface.photo.observe import observe
from sameface.photo.predictor import affine_for_sphereface, five_of_68, load

SIDE, INNER = 128, 112
FIELDS = ("landmarks", "sigma", "identity", "expression", "firmness")


def split_of(person: str) -> str:
    """90 % train, 3 % val, 7 % test, by a hash of who it is."""
    part = int(hashlib.sha256(person.encode()).hexdigest()[:8], 16) % 100
    return "train" if part < 90 else "val" if part < 93 else "test"


def left_out(folder: Path | None) -> set[tuple[str, str]]:
    """{(source, person or name)}; source `table` are persons, `row` names of the face table."""
    if folder is None:
        return set()
    with (folder / "leave_out.csv").open(newline="") as file:
        never = {(row["source"], row["person"]) for row in csv.DictReader(file)}
    with (folder / "same_person.csv").open(newline="") as file:
        twice = {tuple(row["a"].split(":", 1)) for row in csv.DictReader(file)}
    return never | twice  # type: ignore[return-value]


def seen(data: bytes) -> dict[str, Any] | None:
    """The crop and the measurements of the face nearest to the middle, or None where there is none."""
    try:
        pixels = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
        faces = observe(Photo(pixels, "photo"), load("default"))
    except (SameFaceError, OSError):
        return None
    middle = np.array([pixels.shape[1], pixels.shape[0]]) / 2
    one = min(faces, key=lambda face: float(np.linalg.norm(face.landmarks.mean(0) - middle)))
    camera = one.camera
    return {
        "crop": aligned(pixels, one),
        **{field: getattr(one, field).astype(np.float32) for field in FIELDS},
        "rotation": camera.rotation.astype(np.float32),
        "translation": camera.translation.astype(np.float32),
        "scale": np.float32(camera.scale),
        "quality": np.float32(one.quality),
        "size": np.array(one.size, np.int32),
    }


def aligned(pixels: np.ndarray, one: Observation) -> np.ndarray:
    """(128, 128, 3): the recogniser's crop of 112 px with a margin."""
    points = one.camera.project(points68()(one.identity[None], one.expression[None])[0])
    affine = affine_for_sphereface(five_of_68(points), INNER)
    affine[:, 2] += (SIDE - INNER) / 2
    return image.crop(pixels, affine, (SIDE, SIDE), edge=True)


def main(source: Path, out: Path, leave_out: Path | None, workers: int, limit: int) -> None:
    table, out_of = pq.read_table(source), left_out(leave_out)
    columns, count = set(table.column_names), min(len(table), limit or len(table))
    rows = []
    for k in range(count):
        row = {name: table[name][k].as_py() for name in ("source", "name", "person", "split") if name in columns}
        origin, person = row.get("source", source.stem), row.get("person")
        barred = {(origin, person), ("table", person), ("row", row["name"]), (origin, row["name"])}
        if barred & out_of or "nonfaces" in row["name"]:
            continue
        split = row.get("split") or split_of(f"{origin}:{person or row['name']}")
        rows.append((k, origin, row["name"], person or "", split))
    print(f"{source}: {count} photos, {count - len(rows)} left out by the list", flush=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    part = Path(f"{out}.npy.part")
    crops = np.lib.format.open_memmap(part, "w+", np.uint8, (len(rows), SIDE, SIDE, 3))
    kept: list[int] = []
    said: list[dict[str, Any]] = []
    with ProcessPoolExecutor(workers) as pool:
        pictures = (table["image"][k].as_py() for k, *_ in rows)
        for n, one in enumerate(pool.map(seen, pictures, chunksize=16)):
            if one is not None:
                crops[len(kept)] = one.pop("crop")
                kept.append(n)
                said.append(one)
            if n % 2000 == 1999:
                print(f"{n + 1} of {len(rows)}, {len(kept)} faces", flush=True)
    crops.flush()
    whole = np.load(part, mmap_mode="r")[: len(kept)]
    with Path(f"{out}.npy.cut").open("wb") as file:
        np.save(file, whole)
    part.unlink()
    who = {
        name: np.array([rows[n][1 + k] for n in kept]) for k, name in enumerate(("source", "name", "person", "split"))
    }
    np.savez(
        f"{out}.part.npz", allow_pickle=False, **who, **{key: np.stack([one[key] for one in said]) for key in said[0]}
    )
    Path(f"{out}.npy.cut").replace(f"{out}.npy")
    Path(f"{out}.part.npz").replace(f"{out}.npz")
    print(f"{out}: {len(kept)} faces; in {len(rows) - len(kept)} photos none was found")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--leave-out", type=Path)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--limit", type=int, default=0)
    args = parser.parse_args()
    main(args.source, args.out, args.leave_out, args.workers, args.limit)
