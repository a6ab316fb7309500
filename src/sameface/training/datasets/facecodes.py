"""Aligned crops with a recogniser's code of each: what our own recogniser learns from.

Size: as many as you have photos of; ours, some 75,000. Licences: those of the photos. Layout: a folder with, for each
source of photos, NAME.npy (N, 128, 128, 3) uint8 RGB, NAME.npz (`name`, `person` and `split` of each, texts; a person
of "" is nobody known) as `tools/people_crops.py` writes them, and NAME.codes.npy (N, 192) float32 as
`tools/recognition_teacher.py` does. The five points of a crop are where SphereFace's alignment puts them, and around
its 112 px there is a margin of 8 for augmentation. A source without codes is left for later.
"""

from pathlib import Path
from typing import Any

import numpy as np

from sameface.core.errors import BadData
from sameface.core.files import names_in, open_file
from sameface.core.npz import read_npy, read_npz

__all__ = ["Coded", "gives", "load", "sample"]

gives = ("image", "code", "person_code", "person")

SIDE, CODE = 128, 192
CODES = ".codes.npy"
LARGEST = 1 << 33
"""bytes of the codes of one file of crops"""


class Coded:
    """One split. `coded[i]` → image (128, 128, 3) uint8 RGB · code (192,), |code| = 1 · person (−1: unknown) ·
    person_code (192,), of unit length as well: the mean over the person's photos; the photo's own of unknown people.
    """

    def __init__(self, root: Path, split: str):
        self.crops, places, codes, who = [], [], [], []
        for name in names_in(root, CODES):
            stem = root / name.removesuffix(CODES)
            open_file(f"{stem}.npy").close()  # no pipe
            try:
                crops = np.load(f"{stem}.npy", mmap_mode="r", allow_pickle=False)
            except (ValueError, OSError, EOFError) as error:
                raise BadData(f"{stem}.npy is no array of crops ({error}): make the crops again") from None
            said, rows = read_npy(root / name, LARGEST), read_npz(f"{stem}.npz", LARGEST, only=("person", "split"))
            if set(rows) != {"person", "split"}:
                raise BadData(f"{stem}.npz lacks person or split; make the codes again")
            person, splits = rows["person"], rows["split"]
            if crops.shape != (len(said), SIDE, SIDE, 3) or said.shape != (len(person), CODE):
                raise BadData(
                    f"{stem}.npy holds {crops.shape} crops for {said.shape} codes and {len(person)} rows; expected "
                    f"(N, {SIDE}, {SIDE}, 3), (N, {CODE}) and N: make the codes again"
                )
            mine = np.flatnonzero(splits == split)
            places.append(np.stack([np.full(len(mine), len(self.crops)), mine], 1))
            self.crops.append(crops)
            codes.append(said[mine] / np.linalg.norm(said[mine], axis=1, keepdims=True).clip(1e-9))
            who.append(person[mine])
        if not self.crops:
            raise BadData(f"{root} has no file NAME{CODES}; tools/people_crops.py and tools/recognition_teacher.py do")
        self.places, self.codes = np.concatenate(places), np.concatenate(codes).astype(np.float32)
        self.names = [f"{source}:{row}" for source, row in self.places.tolist()]
        text = np.concatenate(who)
        known = text != ""
        self.person = np.full(len(text), -1)
        self.person[known] = np.unique(text[known], return_inverse=True)[1]
        self.person_codes = np.zeros((self.person.max() + 1, CODE), np.float32)
        np.add.at(self.person_codes, self.person[known], self.codes[known])
        self.person_codes /= np.linalg.norm(self.person_codes, axis=1, keepdims=True).clip(1e-9)

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int, /) -> dict[str, Any]:
        source, row = self.places[index]
        code, person = self.codes[index], self.person[index]
        return {
            "image": np.array(self.crops[source][row]),
            "code": code,
            "person_code": code if person < 0 else self.person_codes[person],
            "person": person,
        }


def load(root: Path, split: str) -> Coded:
    """One split (`train`, `val`, `test`). Raises BadData where the folder is not what the header says."""
    if split not in ("train", "val", "test"):
        raise ValueError(f"there is no split {split!r}; the splits are train, val, test")
    return Coded(Path(root), split)


def sample(root: Path) -> None:
    """Write two sources of twelve crops each, four of a split."""
    root.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for name in ("some", "more"):
        crops = np.clip(rng.normal(128, 40, (12, SIDE, SIDE, 3)), 0, 255).astype(np.uint8)
        np.save(root / f"{name}.npy", crops)
        np.save(root / f"{name}{CODES}", rng.normal(size=(12, CODE)).astype(np.float32))
        np.savez(
            root / f"{name}.npz",
            name=np.array([f"{name}-{k}" for k in range(12)]),
            person=np.array(["", *(f"{name}-{k % 3}-{k // 6}" for k in range(1, 12))]),
            split=np.array(["train", "val", "test"] * 4),
        )
