"""VGGFace2: 3.31 million pictures of 9,131 persons (Cao, Shen, Xie, Parkhi, Zisserman, FG 2018).

Loosely cropped faces of many sizes; research only. Layout: train/n000002/0001_01.jpg and test/n000001/0001_01.jpg,
with train_list.txt and test_list.txt (lines `n000002/0001_01.jpg`) beside them or in meta/; meta/train.txt and
meta/test.txt, the names in the owners' README, are understood too. Without lists the folders themselves are read.

Splits: the owners' train (8,631 persons) and test (500); val is a twentieth of the persons of train, chosen by a hash
of the folder's name.
"""

from pathlib import Path

import numpy as np

from sameface.core.errors import BadData
from sameface.training.datasets._people import People, cartoon, check_split, folders, listed, save, split_of

__all__ = ["gives", "load", "sample"]

gives = ("image", "person")

LAYOUT = "train/n000002/0001_01.jpg, test/n000001/0001_01.jpg and the lists train_list.txt and test_list.txt"


def load(root: Path, split: str) -> People:
    """One split (train, val or test): images of their own sizes, persons counted from 0 within the split."""
    check_split(split)
    root, part = Path(root), "test" if split == "test" else "train"
    if not (root / part).is_dir():
        raise BadData(f"there is no folder {root / part}; expected {LAYOUT}")
    places = (f"{part}_list.txt", f"meta/{part}_list.txt", f"meta/{part}.txt")
    lists = [root / place for place in places if (root / place).is_file()]
    if lists:
        pictures: dict[str, list[str]] = {}
        for person, name in listed(lists[0]):
            if _belongs(person, split):
                pictures.setdefault(person, []).append(name)
    else:
        pictures = folders(root / part, lambda name: _belongs(name, split), layout=LAYOUT)
    if not pictures:
        raise BadData(f"{root} has no person in split {split}; expected {LAYOUT}")
    return People(root / part, pictures)


def _belongs(person: str, split: str) -> bool:
    """Whether a person of the folder that `split` is taken from is in it."""
    return split == "test" or (split == "val") == (split_of(person) == "val")


def sample(root: Path) -> None:
    """Write two persons per split with two or three cartoons each, and the lists."""
    rng, number, found = np.random.default_rng(0), 0, {"train": 0, "val": 0, "test": 0}
    lines: dict[str, list[str]] = {"train": [], "test": []}
    while min(found.values()) < 2:
        number += 1
        person = f"n{number:06d}"
        split = "test" if found["test"] < 2 else "val" if split_of(person) == "val" else "train"
        if found[split] == 2:
            continue
        found[split] += 1
        part = "test" if split == "test" else "train"
        for k in range(1, 4 if split == "train" else 3):
            save(root / part / person / f"{k:04d}_01.jpg", cartoon(rng, 160 + 20 * k, number).image)
            lines[part].append(f"{person}/{k:04d}_01.jpg")
    for part, names in lines.items():
        (root / f"{part}_list.txt").write_text("\n".join(names) + "\n")
