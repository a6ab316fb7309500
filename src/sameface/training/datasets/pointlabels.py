"""Faces with points from every side: the face table with newer labels, and AFLW's 21 points placed by hand.

Size: 40,000 + 19,000 crops, none of them copied: the folder holds labels only. Licences: those of the photos. Layout: a
folder with about.json and labels.parquet, as `tools/label_points.py` writes them. about.json says where the pictures
are (a relative folder is relative to the file) and which blendshapes the columns are about:

    {"faces": "../shared/data/faces", "aflw21": "../shared/data/aflw21", "blendshapes": ["browDownLeft", …]}

labels.parquet has one row per picture: `source` (faces, aflw21), `name` and `split` of the picture, `points` (164 × 2
px of the stored crop), `weight` (164; 0 where the point cannot be seen or nobody knows), `blendshapes` (one per name;
NaN where unknown), `repeat` (how often a training epoch shows the row).

AFLW's crops are enlarged to the 160 px of the face table's.
"""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from sameface.core import plugins
from sameface.core.errors import BadData
from sameface.core.files import read_json
from sameface.core.tables import read_table, rows_of_lists
from sameface.training.datasets._people import decoded

__all__ = ["Labelled", "gives", "load", "sample"]

gives = ("image", "landmarks", "weight", "landmarks68", "landmarks21", "blendshapes")

SIDE = 160
"""px of every crop that is given"""
POINTS, MOST_TIMES = 164, 1000
"""points of a face; how often a row is shown in an epoch, at most"""
AFLW_COLUMNS = ("image", "name", "split", "points21")
LABEL_COLUMNS = ("source", "name", "split", "points", "weight", "blendshapes", "repeat")


class Labelled:
    """One split. `labelled[i]` → image (160, 160, 3) uint8 RGB · landmarks (164, 2) px · weight (164,) · landmarks68
    (68, 2) and landmarks21 (21, 2) px, hand-placed, NaN where a row or a point has none · blendshapes (E,) or NaN."""

    def __init__(self, root: Path, split: str):
        about = _about(root)
        self.root, labels = root, _read(root / "labels.parquet", LABEL_COLUMNS, split)
        self.blendshapes: list[str] = about["blendshapes"]
        self.faces = plugins.load("datasets", "facetable").load(_folder(root, about, "faces"), split)
        self.hand = _read(_folder(root, about, "aflw21") / "aflw21.parquet", AFLW_COLUMNS, split)
        where = {
            "faces": {name: k for k, name in enumerate(self.faces.names)},
            "aflw21": {name: k for k, name in enumerate(self.hand["name"])},
        }
        places = [where.get(s, {}).get(n, -1) for s, n in zip(labels["source"], labels["name"], strict=True)]
        if max(places) < 0:
            first = labels["name"][0]
            raise BadData(f"{root / 'labels.parquet'}: {len(places)} rows have no picture, the first is {first}")
        self.source, self.row = np.array(labels["source"]), np.array(places)
        self.names: list[str] = labels["name"]
        self.labels = labels
        self.faults = _faults(labels, len(self.blendshapes), places)
        times = np.array([n if k not in self.faults else 1 for k, n in enumerate(labels["repeat"])], int)
        self.order = np.repeat(np.arange(len(self.row)), times if split == "train" else 1)
        self._decoded: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self.order)

    def _image(self, k: int) -> np.ndarray:
        if self.source[k] == "faces":
            return self.faces.image(int(self.row[k]))
        if k not in self._decoded:
            self._decoded[k] = decoded(self.hand["image"][self.row[k]], f"row {self.names[k]} of aflw21.parquet")
        return cv2.resize(self._decoded[k], (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)

    def _zoom(self, k: int) -> np.float32:
        """160 px / the side of the stored crop."""
        if self.source[k] == "faces":
            return np.float32(SIDE / self.faces.columns["size"][self.row[k]])
        self._image(k)
        return np.float32(SIDE / len(self._decoded[k]))

    def __getitem__(self, index: int, /) -> dict[str, Any]:
        k = int(self.order[index])
        if k in self.faults:
            raise BadData(f"row {self.names[k]} of labels.parquet: {self.faults[k]}")
        nowhere, row = np.full((68, 2), np.nan, np.float32), int(self.row[k])
        points21 = np.full((21, 2), np.nan, np.float32)
        if self.source[k] == "aflw21":
            points = self.hand["points21"][row]
            if points is None or len(points) != points21.size:
                raise BadData(f"row {self.names[k]} of aflw21.parquet: its points21 are not {points21.size} numbers")
            points21 = np.asarray(points, np.float32).reshape(21, 2) * self._zoom(k)
        return {
            "image": self._image(k),
            "landmarks": np.asarray(self.labels["points"][k], np.float32).reshape(-1, 2) * self._zoom(k),
            "weight": np.asarray(self.labels["weight"][k], np.float32),
            "landmarks68": self.faces.landmarks68(row) if self.source[k] == "faces" else nowhere,
            "landmarks21": points21,
            "blendshapes": np.asarray(self.labels["blendshapes"][k], np.float32),
        }


def load(root: Path, split: str) -> Labelled:
    """One split (`train`, `val`, `test`). Raises BadData where the folder is not what the header says."""
    return Labelled(Path(root), split)


def sample(root: Path) -> None:
    """Write the face table's own sample with labels, and four AFLW crops per split with every third point hidden."""
    import pyarrow.parquet as pq

    from sameface.morphable import default

    facetable = plugins.load("datasets", "facetable")
    rng, names = np.random.default_rng(0), list(default().expression_names)
    facetable.sample(root / "faces")
    hand: list[dict[str, Any]] = []
    for split in ("train", "val", "test"):
        for k in range(4):
            points = rng.uniform(30, 90, (21, 2)).astype(np.float16)
            points[k::3] = np.nan
            picture = cv2.imencode(".webp", np.full((120, 120, 3), 90 + 20 * k, np.uint8))[1].tobytes()
            hand.append({"image": picture, "name": f"hand-{split}-{k}", "split": split, "points21": points.ravel()})
    (root / "aflw21").mkdir()
    pq.write_table(_table(hand), root / "aflw21" / "aflw21.parquet")
    rows = [("aflw21", row["name"], row["split"], 120) for row in hand]
    for split in ("train", "val", "test"):
        rows += [("faces", name, split, SIDE) for name in facetable.load(root / "faces", split).names]
    write(root, names, [
        {"source": source, "name": name, "split": split, "points": rng.uniform(0.2, 0.8, 328) * side,
         "weight": rng.integers(0, 2, 164), "blendshapes": rng.uniform(0, 0.5, len(names)), "repeat": 1 + n % 2}
        for n, (source, name, split, side) in enumerate(rows)
    ], faces="faces", aflw21="aflw21")  # fmt: skip


def write(root: Path, names: list[str], rows: list[dict[str, Any]], *, faces: str, aflw21: str) -> None:
    """Write a folder of labels: `rows` as in the header, `faces` and `aflw21` the folders of the pictures."""
    import pyarrow.parquet as pq

    root.mkdir(parents=True, exist_ok=True)
    part = root / "labels.parquet.part"
    pq.write_table(_table(rows), part)
    part.replace(root / "labels.parquet")
    about = {"faces": faces, "aflw21": aflw21, "blendshapes": names}
    (root / "about.json").write_text(json.dumps(about, indent=1) + "\n")


# ── inside ─────────────────────────────────────────────────────────────────────────────────────────────────


def _table(rows: list[dict[str, Any]]) -> Any:
    import pyarrow as pa

    lists = {"points": np.float16, "points21": np.float16, "weight": np.float16, "blendshapes": np.float16}
    columns = {}
    for name in rows[0]:
        values = [np.asarray(row[name], lists[name]) if name in lists else row[name] for row in rows]
        columns[name] = pa.array(values, pa.list_(pa.float16()) if name in lists else None)
    return pa.table(columns)


def _about(root: Path) -> dict[str, Any]:
    file = root / "about.json"
    try:
        about = read_json(file)
        good = all(isinstance(about[k], str) for k in ("faces", "aflw21")) and isinstance(about["blendshapes"], list)
    except (BadData, KeyError, TypeError):
        good = False
    if not good:
        raise BadData(
            f"{file} is missing or wrong; expected faces, aflw21 and blendshapes, as label_points.py writes it"
        )
    return about


def _folder(root: Path, about: dict[str, Any], name: str) -> Path:
    folder = root / about[name]
    if not folder.is_dir():
        raise BadData(f"there is no folder {folder}, where {root / 'about.json'} says that {name} lies")
    return folder


def _faults(labels: dict[str, list], expressions: int, places: list[int]) -> dict[int, str]:
    """Row → why it cannot be used; it costs itself only."""
    faults: dict[int, str] = {k: "it has no picture" for k, place in enumerate(places) if place < 0}
    for name, width in {"points": POINTS * 2, "weight": POINTS, "blendshapes": expressions}.items():
        for k, values in enumerate(labels[name]):
            if values is None or len(values) != width:
                faults.setdefault(k, f"its {name} are not {width} numbers")
    for k, times in enumerate(labels["repeat"]):
        if not isinstance(times, int) or not 0 <= times <= MOST_TIMES:
            faults.setdefault(k, f"it is to be repeated {times} times; expected 0 to {MOST_TIMES}")
    return faults


def _read(file: Path, columns: tuple[str, ...], split: str) -> dict[str, list]:
    import pyarrow.compute as pc

    table = read_table(file, dict.fromkeys(columns, "any"), "labels as label_points.py writes them")
    table = table.filter(pc.equal(table["split"], split))  # pyright: ignore[reportAttributeAccessIssue]
    if not table.num_rows:
        raise BadData(f"{file} has no rows of split {split!r}; the splits are train, val and test")
    out: dict[str, list] = {}
    for name in columns:
        column = table[name]
        if str(column.type).startswith("list"):
            out[name] = rows_of_lists(column)
        else:
            out[name] = column.to_pylist()
    return out
