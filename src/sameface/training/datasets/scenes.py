"""Scenes: photos with every face in them, for the detector.

The folder holds one or more Parquet files, one row per photo: `image` (bytes of any format OpenCV reads), `boxes`
(n x 4: x, y, w, h px), `points` (n x 10 px: right eye, left eye, nose tip, right mouth corner, left mouth corner;
right is the subject's), `name` (a stable id) and `split` (train, val or test). (0, 0) is the top-left corner of the
photo. Files without a val split give a tenth of train for it, chosen by the hash of the name.

Ours are 3,400 photos of CelebA, Helen, AFW and LFPW (non-commercial research) with the pseudo-labels of a public
detector: some faces are unlabelled. `tools/scenes_from_faces.py` makes a second file from the face table, with large
poses. Neither is shipped; this reader and the layout are.
"""

import hashlib
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from sameface.core.errors import BadData
from sameface.core.files import names_in
from sameface.core.tables import read_table
from sameface.training.datasets._people import decoded

__all__ = ["gives", "load", "sample"]

gives = ("images", "boxes", "points")
COLUMNS = ("image", "boxes", "points", "name", "split")


class Scenes:
    """The photos of one split; decoded when first asked for, then kept (3,000 small photos take about 1 GB)."""

    def __init__(self, rows: list[dict]):
        self.rows = rows
        self.decoded: dict[int, UInt8[np.ndarray, "H W 3"]] = {}

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        """`images` (H, W, 3) uint8 RGB; `boxes` (n, 4): x0, y0, x1, y1 px; `points` (n, 5, 2) px."""
        row = self.rows[index]
        if index not in self.decoded:
            self.decoded[index] = decoded(row["image"], f"the row {row['name']}")
        boxes, points = _numbers(row, "boxes", 4), _numbers(row, "points", 10)
        if len(boxes) != len(points):
            raise BadData(f"the row {row['name']} has {len(boxes)} boxes and points of {len(points)} faces")
        return {
            "images": self.decoded[index],
            "boxes": np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1),
            "points": points.reshape(-1, 5, 2),
        }


def load(root: Path, split: str) -> Scenes:
    """Every photo of `split` in the Parquet files of `root`."""

    files = [root / name for name in names_in(root, ".parquet")]
    if not files:
        raise BadData(f"{root} has no .parquet file; scenes are Parquet files with the columns {', '.join(COLUMNS)}")
    rows = []
    for file in files:
        table = read_table(file, dict.fromkeys(COLUMNS, "any"), f"scenes: {', '.join(COLUMNS)}").to_pylist()
        has_val = any(row["split"] == "val" for row in table)
        rows += [row for row in table if (row["split"] if has_val else _split(row)) == split]
    return Scenes(rows)


def _numbers(row: dict, name: str, width: int) -> Float[np.ndarray, "N width"]:
    """So many numbers for each face. Raises BadData."""
    try:
        return np.asarray(row[name], np.float32).reshape(-1, width)
    except (ValueError, TypeError) as error:
        raise BadData(f"the row {row['name']} has no {width} {name} for each face ({error})") from None


def _split(row: dict) -> str:
    tenth = int(hashlib.sha256(row["name"].encode()).hexdigest(), 16) % 10 == 0
    return "val" if row["split"] == "train" and tenth else row["split"]


def sample(root: Path) -> None:
    """Write 12 made-up photos of one cartoon face each."""
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    rng = np.random.default_rng(0)
    rows = [_cartoon(rng) | {"name": f"cartoon-{n}", "split": ("train", "val", "test")[n % 3]} for n in range(12)]
    root.mkdir(parents=True, exist_ok=True)
    parquet.write_table(arrow.Table.from_pylist(rows), root / "scenes.parquet")


def _cartoon(rng: np.random.Generator) -> dict:
    """A noisy photo with an ellipse of skin, two dark eyes, a nose and a mouth."""
    height, width = rng.integers(120, 200, 2).tolist()
    image = rng.integers(0, 120, (height, width, 3), dtype=np.uint8)
    size = rng.uniform(40, 90)
    center = np.array([rng.uniform(size / 2, width - size / 2), rng.uniform(size / 2, height - size / 2)])
    points: Float[np.ndarray, "5 2"] = center + size * np.array(
        [[-0.17, -0.12], [0.17, -0.12], [0, 0.05], [-0.14, 0.24], [0.14, 0.24]]
    )
    x, y = (center * 16).astype(int).tolist()
    axes = (int(0.38 * size * 16), int(0.5 * size * 16))
    cv2.ellipse(image, (x, y), axes, 0, 0, 360, (225, 180, 150), -1, cv2.LINE_AA, 4)
    for eye in (points * 16).astype(int).tolist()[:3]:
        cv2.circle(image, eye, int(0.05 * size * 16), (40, 30, 30), -1, cv2.LINE_AA, 4)
    right, left = (points * 16).astype(int).tolist()[3:]
    cv2.line(image, right, left, (170, 40, 50), max(1, int(0.06 * size)), cv2.LINE_AA, 4)
    box = [center[0] - 0.38 * size, center[1] - 0.5 * size, 0.76 * size, size]
    return {
        "image": cv2.imencode(".png", image[..., ::-1])[1].tobytes(),
        "boxes": [box],
        "points": [points.reshape(-1).tolist()],
    }
