"""CASIA-WebFace: 494,414 pictures of 10,575 persons (Yi, Lei, Liao, Li, "Learning face representation from scratch").

Pictures of celebrities collected through IMDb, 250 × 250 px; research only. Layout: a folder per person, named by
seven digits, with 001.jpg, 002.jpg, …; here or in a sub-folder CASIA-WebFace. If there is a cleaned_list.txt (lines
`0000045\\001.jpg 0`, as several cleaned lists go round), only what it names is read.

The owners ship no splits: val and test are a twentieth of the persons each, chosen by a hash of the folder's name.
The three persons that are in LFW too are left out (wy1iu/sphereface, train/code/get_list.m), so that LFW can judge.
"""

from pathlib import Path

import numpy as np

from sameface.core.errors import BadData
from sameface.training.datasets._people import (
    People,
    cartoon,
    check_split,
    folders,
    listed,
    names_per_split,
    save,
    split_of,
)

__all__ = ["gives", "load", "sample"]

gives = ("image", "person")

LAYOUT = "a folder per person (0000045/001.jpg, …), here or in CASIA-WebFace/"
CLEANED = "cleaned_list.txt"
IN_LFW = frozenset(("0166921", "1056413", "1193098"))
"""persons of LFW"""


def load(root: Path, split: str) -> People:
    """One split (train, val or test): images of their own sizes, persons counted from 0 within the split."""
    check_split(split)
    root = Path(root)
    pictures_root = root / "CASIA-WebFace" if (root / "CASIA-WebFace").is_dir() else root
    if (root / CLEANED).is_file():
        pictures: dict[str, list[str]] = {}
        for person, name in listed(root / CLEANED):
            if person not in IN_LFW and split_of(person) == split:
                pictures.setdefault(person, []).append(name)
    else:
        pictures = folders(pictures_root, lambda name: split_of(name) == split, layout=LAYOUT, without=IN_LFW)
    if not pictures:
        raise BadData(f"{root} has no person in split {split}: too few folders for a split; expected {LAYOUT}")
    return People(pictures_root, pictures)


def sample(root: Path) -> None:
    """Write two persons per split with three cartoons each."""
    rng = np.random.default_rng(0)
    for number, person in enumerate(names_per_split(lambda k: f"{k:07d}")):
        for k in (1, 2, 3):
            save(root / person / f"{k:03d}.jpg", cartoon(rng, 250, number).image)
