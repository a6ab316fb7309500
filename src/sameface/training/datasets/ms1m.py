"""MS-Celeb-1M and its cleaned copies as folders of pictures (Guo, Zhang, Hu, He, Gao, ECCV 2016).

Some millions of pictures of 85,000 to 100,000 celebrities; its owners withdrew it in 2019, and it was for research
only. Layouts that go round, told apart by what is there:

- a folder per person, here or in imgs/ (ms1m_align_112 of face.evoLVe's data zoo: 112 × 112 px, aligned);
- the same with C-MS-Celeb's lists clean_list_128Vec_WT051_P010.txt and relabel_list_128Vec_T058.txt (lines
  `person path`; EB-Dodo/C-MS-Celeb): the pictures they name, under the persons they name.

InsightFace's train.rec is not read: unpack it into folders first. The owners ship no splits: val and test are a
twentieth of the persons each, chosen by a hash of the person's name.
"""

from pathlib import Path

import numpy as np

from sameface.core.errors import BadData
from sameface.core.files import names_in
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

LAYOUT = "a folder per person (m.0107_f/7-FaceId-0.jpg or 0/1.jpg, …), here or in imgs/"
LISTS = ("clean_list_128Vec_WT051_P010.txt", "relabel_list_128Vec_T058.txt")


def load(root: Path, split: str) -> People:
    """One split (train, val or test): images of their own sizes, persons counted from 0 within the split."""
    check_split(split)
    root = Path(root)
    pictures_root = root / "imgs" if (root / "imgs").is_dir() else root
    if names_in(root, ".rec"):
        raise BadData(f"{root} holds a .rec file, which is not read; unpack it into {LAYOUT}")
    lists = [root / name for name in LISTS if (root / name).is_file()]
    if lists:
        named: dict[str, set[str]] = {}
        for file in lists:
            for person, name in listed(file, path=1, person=0):
                if split_of(person) == split:
                    named.setdefault(person, set()).add(name)
        pictures = {person: list(names) for person, names in named.items()}
    else:
        pictures = folders(pictures_root, lambda name: split_of(name) == split, layout=LAYOUT)
    if not pictures:
        raise BadData(f"{root} has no person in split {split}: too few persons for a split; expected {LAYOUT}")
    return People(pictures_root, pictures)


def sample(root: Path) -> None:
    """Write two persons per split with three aligned cartoons each, as ms1m_align_112 has them."""
    rng = np.random.default_rng(0)
    for number, person in enumerate(names_per_split(str)):
        for k in (1, 2, 3):
            save(root / "imgs" / person / f"{person}_{k}.jpg", cartoon(rng, 112, number).image)
