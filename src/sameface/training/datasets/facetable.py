"""The face table: 49,500 aligned face crops with dense landmarks, poses, persons (Parquet, one row per face).

Size, licences: crops of FairFace (CC BY 4.0), CelebA, AFLW, Helen, LFPW, AFW, PINS (research). Layout: a folder of
.parquet files with the columns `image` (WebP), `landmarks` (164 MediaPipe points, px; ids in the file metadata
`landmark_ids`), `params62` (3DDFA_V2's answer), `agree62`, `landmarks68` or null, `person` or null, `embedding` and
`split`. Landmarks are pseudo-labels except `landmarks68`. Rows whose two labellings disagree by more than 8 % are left
out.
"""

import json
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np

from sameface.core.errors import BadData
from sameface.core.files import names_in
from sameface.core.geometry import nearest_rotation, rotation_from_euler
from sameface.core.tables import read_table, rows_of_lists
from sameface.training.datasets._people import decoded

gives = ("image", "landmarks", "landmarks68", "rotation", "params", "person", "embedding")

SIDE = 160
"""px of every crop that is given; the 128 px crops of AFLW are enlarged"""
LARGEST_DISAGREEMENT = 0.08
SAMPLE_IDS = (*range(154), *range(468, 478))
"""point numbers that `sample` writes"""
COLUMNS = {
    "image": "bytes", "source": "text", "name": "text", "person": "text", "split": "text", "landmarks": "list",
    "params62": "list", "box62": "list", "agree62": "number", "landmarks68": "list", "embedding": "list",
    "size": "number",
}  # fmt: skip
CODE, LARGEST_SIDE = 128, 10_000
"""numbers of an embedding; px"""
NOBODY = np.concatenate([np.eye(3, 4).ravel(), np.zeros(50)]).astype(np.float32)
"""stands for params62 that cannot be read, in rows that nobody is given"""
LABELLED_SIDE = 120
"""px of the square that `params62` refers to"""


class Faces:
    """One split of the table. `faces[i]` decodes one row:

    image (160, 160, 3) uint8 RGB · landmarks (164, 2) px · landmarks68 (68, 2) px or NaN · rotation (3, 3) of the
    camera (3DDFA's, so within some degrees) · params (62,), 3DDFA's row-major 3×4 [sR | t], 40 shape, 10 expression,
    with (X, 160 − Y) the px of the crop · person, a number, −1 when unknown · embedding (128,) unit length.
    """

    def __init__(self, root: Path, split: str):
        self.columns, self.landmark_ids, self.faults = _read(root, split)
        self.names: list[str] = self.columns["name"]
        self.sources: list[str] = self.columns["source"]
        self.persons: list[str | None] = self.columns["person"]
        self._decoded: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def person(self) -> np.ndarray:
        """(N,) int: a number per person, −1 when unknown."""
        numbers = {name: k for k, name in enumerate(sorted({p for p in self.persons if p}))}
        return np.array([numbers[p] if p else -1 for p in self.persons])

    @cached_property
    def rotation(self) -> np.ndarray:
        """(N, 3, 3) camera rotations from `params62` (rows x right, y up, z towards the viewer → OpenCV's axes)."""
        sr = np.stack(self.columns["params62"])[:, :12].reshape(-1, 3, 4)[:, :, :3].astype(np.float64)
        sr /= np.linalg.norm(sr[:, :2], axis=2).mean(1)[:, None, None]
        sr[:, 2] = np.cross(sr[:, 0], sr[:, 1])
        return (np.array([1.0, -1.0, -1.0])[:, None] * nearest_rotation(sr)).astype(np.float32)

    def image(self, index: int) -> np.ndarray:
        """(160, 160, 3) uint8 RGB; decoded once."""
        if index not in self._decoded:
            pixels = decoded(self.columns["image"][index], f"row {self.names[index]} of the face table")
            if len(pixels) != SIDE:
                pixels = cv2.resize(pixels, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
            self._decoded[index] = pixels
        return self._decoded[index]

    def landmarks(self, index: int) -> np.ndarray:
        """(164, 2) float32 px of the 160 px crop."""
        factor = SIDE / self.columns["size"][index]
        return np.asarray(self.columns["landmarks"][index], np.float32).reshape(-1, 2) * np.float32(factor)

    def landmarks68(self, index: int) -> np.ndarray:
        """(68, 2) float32 px, hand-placed; NaN when the row has none."""
        points = self.columns["landmarks68"][index]
        if points is None:
            return np.full((68, 2), np.nan, np.float32)
        return np.asarray(points, np.float32).reshape(68, 2) * np.float32(SIDE / self.columns["size"][index])

    def params(self, index: int) -> np.ndarray:
        """(62,) float32: the label's 3×4 matrix turned from its 120 px square (x = X − 1, y = 120 − Y) to the crop."""
        params = self.columns["params62"][index].astype(np.float64)
        x, y, side = self.columns["box62"][index].astype(np.float64) * SIDE / self.columns["size"][index]
        matrix, zoom = params[:12].reshape(3, 4) * side / LABELLED_SIDE, side / LABELLED_SIDE
        matrix[:2, 3] += [x - side / 2 - zoom, SIDE - (y + side / 2)]
        return np.concatenate([matrix.ravel(), params[12:]]).astype(np.float32)

    def __getitem__(self, index: int, /) -> dict[str, np.ndarray | np.generic]:
        if index in self.faults:
            raise BadData(f"row {self.names[index]} of the face table: {self.faults[index]}")
        return {
            "image": self.image(index),
            "landmarks": self.landmarks(index),
            "landmarks68": self.landmarks68(index),
            "rotation": self.rotation[index],
            "params": self.params(index),
            "person": self.person[index],
            "embedding": np.asarray(self.columns["embedding"][index], np.float32),
        }


def load(root: Path, split: str) -> Faces:
    """One split (`train`, `val`, `test`) of the table in folder `root`."""
    return Faces(Path(root), split)


def _read(root: Path, split: str) -> tuple[dict[str, list], tuple[int, ...], dict[int, str]]:
    """The columns, the numbers of the landmarks, and what is wrong with rows that cannot be used."""
    import pyarrow as pa
    import pyarrow.compute as pc

    files = [root / name for name in names_in(root, ".parquet")]
    if not files:
        raise BadData(f"{root} has no .parquet files; give the folder that holds the face table")
    tables, ids = [], None
    for file in files:
        table = read_table(file, COLUMNS, "the face table")
        numbers = (table.schema.metadata or {}).get(b"landmark_ids")
        if numbers is None:
            raise BadData(f"{file} does not say which landmarks it holds: its metadata lack landmark_ids")
        try:
            ids = [int(number) for number in json.loads(numbers)]
        except (ValueError, TypeError, RecursionError):
            raise BadData(f"{file} has landmark_ids in its metadata that are no list of numbers") from None
        good = pc.and_(pc.equal(table["split"], split), pc.less_equal(table["agree62"], LARGEST_DISAGREEMENT))  # pyright: ignore[reportAttributeAccessIssue]
        tables.append(table.filter(good).replace_schema_metadata(None))
    table = pa.concat_tables(tables, promote_options="permissive")
    if not table.num_rows:
        raise BadData(f"{root} has no faces of split {split!r}; the splits are train, val and test")
    columns: dict[str, list] = {name: table[name].to_pylist() for name in ("image", "source", "name", "person", "size")}
    faults: dict[int, str] = {}
    for name, width in {"landmarks": 2 * len(ids or ()), "params62": 62, "box62": 3, "embedding": CODE}.items():
        columns[name] = rows_of_lists(table[name])
        for k, values in enumerate(columns[name]):
            if values is None or len(values) != width or not np.isfinite(values).all():
                faults.setdefault(k, f"its {name} are not {width} finite numbers")
                columns[name][k] = NOBODY if name == "params62" else np.zeros(width, np.float32)
    columns["landmarks68"] = table["landmarks68"].to_pylist()
    for k, (points, size) in enumerate(zip(columns["landmarks68"], columns["size"], strict=True)):
        if points is not None and (len(points) != 136 or None in points):
            faults.setdefault(k, "its landmarks68 are not 136 numbers")
            columns["landmarks68"][k] = None
        if size is None or not 1 <= size <= LARGEST_SIDE:
            faults.setdefault(k, f"its size is {size} px")
            columns["size"][k] = SIDE
    return columns, tuple(ids or ()), faults


def sample(root: Path) -> None:
    """Write a table of two persons with four faces each (flat discs with random points) for every split."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = np.random.default_rng(0)
    rows: list[dict] = []
    for split in ("train", "val", "test"):
        for person in ("anna", "ben"):
            for k in range(4):
                picture = np.full((SIDE, SIDE, 3), 60, np.uint8)
                cv2.circle(picture, (80, 80), 55, (150 + 20 * k, 160, 190), -1)
                matrix = np.zeros((3, 4), np.float32)
                rotation = rotation_from_euler(np.zeros(1), rng.uniform(-0.5, 0.5, 1), np.zeros(1))[0]
                matrix[:, :3] = 5e-4 * np.array([1.0, -1.0, -1.0])[:, None] * rotation
                matrix[:2, 3] = LABELLED_SIDE / 2
                embedding = rng.normal(size=128)
                rows.append({
                    "image": cv2.imencode(".webp", picture)[1].tobytes(), "source": "sample",
                    "name": f"{split}-{person}-{k}", "person": person, "split": split, "size": SIDE,
                    "landmarks": rng.uniform(30, 130, 328).astype(np.float16),
                    "params62": np.append(matrix.reshape(-1), np.zeros(50)).astype(np.float32),
                    "box62": np.array([80, 80, 120], np.float32),
                    "agree62": 0.01, "embedding": (embedding / np.linalg.norm(embedding)).astype(np.float16),
                    "landmarks68": rng.uniform(30, 130, 136).astype(np.float32) if k == 0 else None,
                })  # fmt: skip
    types = {
        "landmarks": pa.list_(pa.float16()), "params62": pa.list_(pa.float32()), "embedding": pa.list_(pa.float16()),
        "landmarks68": pa.list_(pa.float32()), "image": pa.binary(), "box62": pa.list_(pa.float32()),
    }  # fmt: skip
    table = pa.table({
        name: pa.array([row[name] for row in rows], types.get(name)) for name in rows[0]
    })  # fmt: skip
    ids = json.dumps(SAMPLE_IDS).encode()
    root.mkdir(parents=True, exist_ok=True)
    pq.write_table(table.replace_schema_metadata({b"landmark_ids": ids}), root / "sample.parquet")
