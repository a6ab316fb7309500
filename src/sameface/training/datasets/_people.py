"""What the readers of picture folders share: pictures as stored, splits by a hash, one folder per person, cartoons."""

import hashlib
import os
import struct
from collections.abc import Callable, Iterator
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image

from sameface import morphable
from sameface.core.errors import BadData
from sameface.core.files import names_in, open_file
from sameface.core.geometry import rotation_from_euler

cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)  # what is wrong with a picture is said by us

__all__ = [
    "PICTURES", "SPLITS", "Cartoon", "Item", "People", "cartoon", "check_split", "decoded", "folders", "listed",
    "mean_points", "names_per_split", "picture", "save", "split_of",
]  # fmt: skip

SPLITS = ("train", "val", "test")
PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
"""endings of picture files, in lower case"""
PARTS = 20
"""a twentieth of the names is the val split, another the test split"""

MOST_PIXELS = 50_000_000
"""of a picture in a table"""

Item = dict[str, np.ndarray | np.generic]


def picture(path: Path) -> UInt8[np.ndarray, "H W 3"]:
    """The RGB pixels exactly as stored.

    No turn by EXIF and no colour profile, since labels refer to the stored pixels. A file that is not there, is cut
    short or is no picture raises BadData with its name.
    """
    if not path.exists():
        raise BadData(f"{path} is missing, but the data set counts on it; unpack the data set again")
    try:
        with open_file(path) as file, Image.open(file) as image:
            return np.array(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError) as error:
        raise BadData(f"{path} cannot be decoded ({error}); get this file again, or delete it") from None


def decoded(data: Any, what: str) -> UInt8[np.ndarray, "H W 3"]:
    """The RGB pixels of a picture in a table, called `what`. Raises BadData for one that is broken or huge."""
    try:
        with Image.open(BytesIO(data)) as image:
            if image.width * image.height > MOST_PIXELS:
                raise BadData(f"{what} holds a picture of {image.width}×{image.height} pixels, which is too large")
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    except (OSError, SyntaxError, ValueError, TypeError, struct.error, cv2.error, Image.DecompressionBombError):
        pixels = None
    if pixels is None:
        raise BadData(f"{what} holds no picture that can be decoded; write it again as WebP, JPEG or PNG")
    return pixels


def check_split(split: str, known: tuple[str, ...] = SPLITS) -> None:
    """Refuse the name of a split that there is not."""
    if split not in known:
        raise ValueError(f"there is no split {split!r}; the splits are {', '.join(known)}")


def split_of(name: str) -> str:
    """The split of a person in a data set that ships none: val and test have a twentieth each, train the rest.

    The first 32 bits of SHA-256 of the name, modulo 20: 0 is test, 1 is val. The same on every machine, whatever other
    persons there are.

    >>> [split_of(name) for name in ("0000040", "0000070", "0000042")]
    ['train', 'val', 'test']
    """
    part = int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) % PARTS
    return {0: "test", 1: "val"}.get(part, "train")


class People:
    """Pictures of known persons: `people[i]` → image (H, W, 3) uint8 RGB of its own size; person.

    Persons are counted from 0 within the split, by name; `person` (N,) has them all. Decodes when asked, keeps nothing.
    """

    def __init__(self, root: Path, pictures: dict[str, list[str]]):
        persons = sorted(pictures)
        self.root = root
        # bytes, not str: 6 million names take 200 MB instead of 600
        self.names = np.array([os.fsencode(name) for person in persons for name in sorted(pictures[person])])
        self.person: Int[np.ndarray, " N"] = np.repeat(np.arange(len(persons)), [len(pictures[p]) for p in persons])

    def __len__(self) -> int:
        return len(self.names)

    def path(self, index: int) -> Path:
        """The file of one picture."""
        return self.root / os.fsdecode(self.names[index])

    def __getitem__(self, index: int, /) -> Item:
        return {"image": picture(self.path(index)), "person": self.person[index]}


def folders(
    root: Path, chosen: Callable[[str], bool], *, layout: str, without: frozenset[str] = frozenset()
) -> dict[str, list[str]]:
    """Person → pictures, relative to `root`, of the sub-folders that are `chosen` by name; only those are listed.

    Hidden folders and the persons in `without` do not count. `layout` says in messages what was expected.
    """
    if not root.is_dir():
        raise BadData(f"there is no folder {root}; expected {layout}")
    persons = names_in(root, folders=True)
    if not persons:
        raise BadData(f"{root} has no folders of persons; expected {layout}")
    pictures = {}
    for person in persons:
        if person in without or not chosen(person):
            continue
        names = [f"{person}/{name}" for name in names_in(root / person, *PICTURES)]
        if not names:
            raise BadData(f"{root / person} holds no pictures ({', '.join(PICTURES)}); fill or delete this folder")
        pictures[person] = names
    return pictures


def listed(file: Path, path: int = 0, person: int | None = None) -> Iterator[tuple[str, str]]:
    """(person, picture) of each line of a list; the columns `path` and `person` are counted from 0.

    Without a column `person`, a picture's folder says who it is. Blank lines do not count; Windows' \\ becomes /.
    """
    with open_file(file) as lines:
        for number, content in enumerate(lines, 1):
            try:
                line = content.decode()
            except UnicodeDecodeError:
                raise BadData(f"line {number} of {file} is not UTF-8 text; save it as UTF-8") from None
            columns = line.split()
            if not columns:
                continue
            if len(columns) <= max(path, person or 0):
                raise BadData(f"line {number} of {file} is {line.strip()!r}, which has too few columns for this list")
            name = columns[path].replace("\\", "/")
            if "/" not in name or name.startswith("/") or ".." in name.split("/"):
                raise BadData(f"line {number} of {file} names {name!r}; expected a picture as FOLDER/FILE")
            yield (name.split("/")[-2] if person is None else columns[person]), name


# ── made-up copies ─────────────────────────────────────────────────────────────────────────────────────────


class Cartoon(NamedTuple):
    """A made-up face."""

    image: UInt8[np.ndarray, "S S 3"]
    points: Float[np.ndarray, "68 3"]
    """px, origin at the upper left corner; z grows away from the viewer"""
    rotation: Float[np.ndarray, "3 3"]
    """of the camera"""
    scale: float
    """px/mm"""
    shift: Float[np.ndarray, " 3"]
    """points = scale · R x + shift, for the points x of the mean face, mm"""


@cache
def mean_points() -> Float[np.ndarray, "68 3"]:
    """The iBUG points of the model that ships with sameface, mm."""
    model = morphable.default()
    return model.landmarks(model.mean).astype(np.float64)


def cartoon(rng: np.random.Generator, side: int, person: int) -> Cartoon:
    """A mean face in a random pose, painted with a few polygons; each person has a colour of skin."""
    pitch, yaw, roll = rng.uniform([-0.2, -0.6, -0.3], [0.2, 0.6, 0.3])
    rotation = rotation_from_euler(np.array(pitch), np.array(yaw), np.array(roll))
    scale, shift = side / 270, np.array([*rng.uniform(0.47, 0.53, 2) * side, 0.0])
    points = scale * mean_points() @ rotation.T + shift
    image = rng.integers(70, 110, (side, side, 3), dtype=np.uint8)
    up = scale * rotation[:2, 1] * 45
    skin = tuple(np.random.default_rng(person).integers([150, 110, 80], [236, 190, 160]).tolist())
    flat = points[:, :2]
    outline = cv2.convexHull(np.vstack([flat, flat[17:27] + up]).astype(np.float32))
    paint(image, outline, skin)
    for part, colour in ((slice(36, 42), "white"), (slice(42, 48), "white"), (slice(48, 60), "red")):
        paint(image, flat[part], {"white": (240, 240, 235), "red": (170, 60, 70)}[colour])
    for eye in (flat[36:42], flat[42:48]):
        x, y = eye.mean(0)
        cv2.circle(
            image, (round(x * 16 - 8), round(y * 16 - 8)), round(3 * scale * 16), (40, 30, 30), -1, cv2.LINE_AA, 4
        )
    for part in (slice(17, 22), slice(22, 27), slice(27, 31), slice(31, 36)):
        line = np.round(flat[part] * 16 - 8).astype(np.int32)
        cv2.polylines(image, [line], False, (70, 50, 40), max(1, round(2 * scale)), cv2.LINE_AA, 4)
    return Cartoon(image, points, rotation, scale, shift)


def paint(image: np.ndarray, polygon: np.ndarray, colour: tuple[int, int, int]) -> None:
    """Fill a polygon, px from the upper left corner, in place."""
    cv2.fillPoly(image, [np.round(polygon * 16 - 8).astype(np.int32)], colour, cv2.LINE_AA, 4)


def save(path: Path, image: UInt8[np.ndarray, "H W 3"]) -> None:
    """Write a picture and the folders it needs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, quality=90)


def names_per_split(make: Callable[[int], str], count: int = 2) -> list[str]:
    """The first names make(1), make(2), … so that each split has at least `count` of them."""
    names: dict[str, list[str]] = {split: [] for split in SPLITS}
    number = 0
    while min(map(len, names.values())) < count:
        number += 1
        name = make(number)
        if len(names[split_of(name)]) < count:
            names[split_of(name)].append(name)
    return [name for split in SPLITS for name in names[split]]
