"""300-W and its parts AFW, Helen, LFPW, IBUG: photos with 68 hand-placed points in .pts files (Sagonas et al. 2016).

Research only. Layout: any tree of folders where NAME.pts lies beside its photo NAME.jpg or .png, as the owners' zips
unpack: afw/, helen/trainset/, helen/testset/, lfpw/trainset/, lfpw/testset/, ibug/, 01_Indoor/, 02_Outdoor/. Photos
without a .pts are no part of it. A .pts file says `version: 1`, `n_points: 68`, then 68 lines `x y` in braces, pixel
centres counted from 1.

Splits: test is what lies in a folder testset, ibug, 01_Indoor or 02_Outdoor, so that train and val together are the
3,148 photos everybody trains on (helen and lfpw trainset, afw); val is a twentieth of them, chosen by a hash of the
file's name (an added NAME_mirror goes with NAME). Who is on the photos is not known.
"""

from pathlib import Path

import numpy as np
from jaxtyping import Float

from sameface.core.errors import BadData
from sameface.core.files import read_text, walk
from sameface.training.datasets._people import PICTURES, SPLITS, Item, cartoon, check_split, picture, save, split_of

__all__ = ["Photos", "gives", "load", "read_pts", "sample"]

gives = ("image", "landmarks68")

LAYOUT = "NAME.pts beside NAME.jpg or NAME.png, for example helen/trainset/100032540_1.pts"
TEST = frozenset(("testset", "ibug", "01_indoor", "02_outdoor"))
"""folders of the test split, in lower case"""


class Photos:
    """One split. `photos[i]` → image (H, W, 3) uint8 RGB of its own size; landmarks68 (68, 2) px."""

    def __init__(self, files: list[tuple[Path, Path]]):
        self.files = files

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int, /) -> Item:
        points, photo = self.files[index]
        return {"image": picture(photo), "landmarks68": read_pts(points).astype(np.float32)}


def read_pts(path: Path) -> Float[np.ndarray, "68 2"]:
    """The 68 points of a .pts file, px from the upper left corner: x − ½ of what the file says.

    Raises BadData if the file does not hold 68 pairs of finite numbers in braces.
    """
    try:
        head, _, body = read_text(path).partition("{")
        numbers = np.array(body.partition("}")[0].split(), np.float64)
    except ValueError as error:
        raise BadData(f"{path} is not a .pts file ({error}); expected lines `x y` in braces") from None
    if "n_points" not in head or numbers.size != 136 or not np.isfinite(numbers).all():
        raise BadData(f"{path} has {numbers.size} numbers in its braces; expected n_points: 68 and 68 lines `x y`")
    return numbers.reshape(68, 2) - 0.5


def load(root: Path, split: str) -> Photos:
    """One split (train, val or test) of every .pts file under `root`; only lists the folders."""
    check_split(split)
    root = Path(root)
    files, found = [], 0
    for folder, names in walk(root):
        present = set(names)
        for name in names:
            if not name.endswith(".pts"):
                continue
            found += 1
            if _split(Path(root.name) / folder.relative_to(root), name[:-4]) == split:
                files.append((folder / name, folder / _photo(folder, name[:-4], present)))
    if not found:
        raise BadData(f"{root} has no .pts file in any folder; expected {LAYOUT}")
    if not files:
        raise BadData(f"none of the {found} .pts files under {root} is in split {split}; test are {', '.join(TEST)}")
    return Photos(files)


def _split(folder: Path, name: str) -> str:
    if TEST & {part.lower() for part in folder.parts}:
        return "test"
    return "val" if split_of(name.removesuffix("_mirror")) == "val" else "train"


def _photo(folder: Path, name: str, present: set[str]) -> str:
    """The photo beside a .pts file."""
    for ending in PICTURES:
        for candidate in (name + ending, name + ending.upper()):
            if candidate in present:
                return candidate
    raise BadData(f"{folder / name}.pts has no photo beside it; expected {LAYOUT}")


def sample(root: Path) -> None:
    """Write two cartoons with points for each split, and one in ibug."""
    rng, number, found = np.random.default_rng(0), 0, dict.fromkeys(SPLITS[:2], 0)
    folders = {"train": "helen/trainset", "val": "lfpw/trainset"}
    places = ["helen/testset/test_1", "lfpw/testset/image_0001", "ibug/image_003_1"]
    while min(found.values()) < 2:
        number += 1
        split = "val" if split_of(f"photo_{number}") == "val" else "train"
        if found[split] < 2:
            found[split] += 1
            places.append(f"{folders[split]}/photo_{number}")
    for person, place in enumerate(places):
        drawn = cartoon(rng, 300, person)
        save(root / f"{place}.{'png' if 'lfpw' in place else 'jpg'}", drawn.image)
        lines = "\n".join(f"{x:.6f} {y:.6f}" for x, y in drawn.points[:, :2] + 0.5)
        (root / f"{place}.pts").write_text(f"version: 1\nn_points:  68\n{{\n{lines}\n}}\n")
