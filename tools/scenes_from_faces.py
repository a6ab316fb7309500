"""Turn rows of the face table into scenes of one face each: large poses and a wide variety of people.

    python tools/scenes_from_faces.py ../shared/data/faces OUT.parquet --split train

The detector's photos are mostly frontal portraits. The face table has tight crops with mesh landmarks at every pose;
the box of the 164 points is within a few per cent of the boxes of the scenes, and the five points are among them.
Rows are taken where two labellings agree, as evenly over the head's turn as the table allows.
"""

import argparse
import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as arrow
import pyarrow.parquet as parquet

FIVE = ((33, 133), (263, 362), (4,), (61,), (291,))
"""MediaPipe's points whose means are the right eye, left eye, nose tip, right and left mouth corners."""
AGREE = 0.06
TURNS = np.array([0, 0.15, 0.3, 0.45, 0.6, 0.8, 1.01])


def turn(matrix: np.ndarray) -> float:
    """|sin(yaw)| of the head: how far its forward axis leans sideways, from the 3x4 pose of the second labelling."""
    first, second = matrix.reshape(3, 4)[:2, :3]
    forward = np.cross(first / np.linalg.norm(first), second / np.linalg.norm(second))
    return float(abs(forward[0]))


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("faces", type=Path)
    arguments.add_argument("out", type=Path)
    arguments.add_argument("--split", default="train", help="which split of the face table")
    arguments.add_argument("--files", nargs="+", default=["aflw.parquet", "fairface-0.parquet"])
    arguments.add_argument("--per-turn", type=int, default=300, help="most rows per file and bin of the head's turn")
    given = arguments.parse_args()
    parts = [scenes(given.faces / file, given.split, given.per_turn) for file in given.files]
    parquet.write_table(arrow.concat_tables(parts), given.out)


def scenes(path: Path, split: str, per_turn: int) -> arrow.Table:
    """Rows of one file of the face table, as scenes."""
    columns = ["image", "source", "name", "split", "size", "landmarks", "params62", "agree62"]
    file = parquet.ParquetFile(path)
    ids = json.loads(file.metadata.metadata[b"landmark_ids"])
    rows = [row for row in file.read(columns=columns).to_pylist() if row["split"] == split and row["agree62"] < AGREE]
    turns = np.array([turn(np.array(row["params62"][:12])) for row in rows])
    order, chosen = np.random.default_rng(0).permutation(len(rows)), []
    for low, high in pairwise(TURNS):
        inside = order[(turns[order] >= low) & (turns[order] < high)]
        print(f"{path.name}: {len(inside)} with |sin yaw| in [{low}, {high}), {min(len(inside), per_turn)} taken")
        chosen += inside[:per_turn].tolist()
    return arrow.Table.from_pylist([scene(rows[i], ids, float(turns[i])) for i in chosen])


def scene(row: dict, ids: list[int], turned: float) -> dict:
    """One crop as a scene of one face."""
    mesh = np.array(row["landmarks"], np.float64).reshape(-1, 2)
    face = mesh[[i < 468 for i in ids]]
    low, high = face.min(0), face.max(0)
    five = [mesh[[ids.index(i) for i in group]].mean(0) for group in FIVE]
    return {
        "image": row["image"],
        "boxes": [[*low.tolist(), *(high - low).tolist()]],
        "points": [np.concatenate(five).tolist()],
        "name": row["name"],
        "source": row["source"],
        "split": row["split"],
        "turn": turned,
    }


if __name__ == "__main__":
    main()
