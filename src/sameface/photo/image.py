"""Photos in: read them from files or arrays, gather them from folders, and cut crops out of them."""

import base64
import binascii
import os
import re
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable
from urllib.parse import unquote_to_bytes

import cv2
import numpy as np
from jaxtyping import Float, Shaped, UInt8
from PIL import Image

from sameface.core.errors import BadData, BadPhoto, in_one_line
from sameface.core.files import hint, names_in, read_bytes
from sameface.photo.clip import is_video
from sameface.photo.decode import HEAD, Decoded, array_rgb, decode, is_picture, upright_rgb
from sameface.photo.face import Photo
from sameface.photo.lens import Lens

__all__ = ["PHOTO_SUFFIXES", "counted", "crop", "gather", "left_out", "name_of", "one_by_one", "parted", "read"]

PHOTO_SUFFIXES = frozenset(
    (
        ".jpg", ".jpeg", ".jpe", ".jfif", ".jfi", ".jif", ".pjpeg", ".pjp", ".jpg_large", ".jpeg_large", ".mpo", ".png",
        ".apng", ".webp", ".heic", ".heif", ".hif", ".avif", ".tif", ".tiff", ".gif", ".bmp", ".dib", ".ppm", ".pgm",
        ".pnm",
    )
)  # fmt: skip
"""what `gather` takes out of a folder unseen; of other files it looks at the first bytes"""
LARGEST_FILE = 1_000_000_000
"""bytes"""
AT_ONCE = 1 << 24
"""bytes that an open file is asked for at a time: it takes that much memory before it reads"""
SMALLEST_SIDE = 16
"""px"""
LONGEST_PATH = 4096
"""characters; no system takes more"""
_RAW_SUFFIXES = frozenset((".dng", ".nef", ".cr2", ".cr3", ".arw", ".orf", ".rw2", ".pef", ".raf", ".srw"))

PathLike = str | os.PathLike[str]


@runtime_checkable
class ArrayLike(Protocol):
    """What numpy can take for an array: its own, torch's."""

    def __array__(self, *_: Any, **__: Any) -> np.ndarray: ...


@runtime_checkable
class File(Protocol):
    """What is open for reading bytes."""

    def read(self, size: int, /) -> bytes: ...


Source = PathLike | bytes | bytearray | memoryview | ArrayLike | Image.Image | File


def read(source: Source, *, name: str | None = None) -> Photo:
    """One photo, upright, as 8-bit sRGB: from a path, the bytes of a file, an open file, an array or a Pillow image.

    Files: JPEG, PNG, WebP, HEIC, AVIF, TIFF, BMP, and the first frame of a GIF; also as a data: URL. Arrays (numpy or
    torch, RGB): (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), uint8, uint16 or float in [0, 1]. Transparency is composited
    onto white. `name` is how messages and results call the photo; by default the path. Raises BadPhoto, saying what is
    wrong, for anything that is not a photo.
    """
    name = name or name_of(source) or ("the array" if isinstance(source, ArrayLike) else "the picture in memory")
    if isinstance(source, Image.Image):
        decoded = _from_pillow(source, name)
    elif isinstance(source, bytes | bytearray | memoryview):
        decoded = decode(bytes(source), name)
    elif isinstance(source, str) and source[:5].lower() == "data:":
        decoded = decode(_data_url(source, name), name)
    elif isinstance(source, str | os.PathLike):
        decoded = decode(_file_bytes(Path(source), name), name)
    elif isinstance(source, File):
        decoded = decode(_stream_bytes(source, name), name)
    elif isinstance(source, ArrayLike):
        decoded = Decoded(array_rgb(_array(source, name), name), Lens(None))
    else:
        raise TypeError(
            f"a photo is a path, the bytes of a file, an open file, an array or a Pillow image, not "
            f"{type(source).__name__}"
        )
    height, width = decoded.pixels.shape[:2]
    if min(height, width) < SMALLEST_SIDE:
        raise BadPhoto(f"{name} has {width}×{height} pixels; a photo has at least {SMALLEST_SIDE} on each side")
    focal, note = decoded.lens
    return Photo(decoded.pixels, name, focal, "exif", (note,) if note else ())


def one_by_one(photos: Any) -> Iterator[Any]:
    """What may be photos, out of collections and generators of any depth, one at a time; a photo is no collection."""
    kind = getattr(getattr(photos, "dtype", None), "kind", None)  # a column of a table is an array too, of paths
    photo = isinstance(photos, str | bytes | bytearray | memoryview | Mapping) or isinstance(photos, File)
    if photo or (isinstance(photos, ArrayLike) and kind not in ("U", "O", "T")):
        yield photos
    elif isinstance(photos, Collection | Iterator):
        for one in photos:
            yield from one_by_one(one)
    else:
        yield photos


def name_of(source: Any) -> str | None:
    """The name of the file that a photo comes from, if there is one."""
    if isinstance(source, str | os.PathLike):
        return None if os.fspath(source)[:5].lower() == "data:" else _shown(os.fspath(source))
    name = getattr(source, "filename" if isinstance(source, Image.Image) else "name", None)
    return os.fspath(name) if name and isinstance(name, str | os.PathLike) else None


def _shown(path: str) -> str:
    """A path as messages show it: what no file system takes may be a whole picture as text."""
    return path if len(path) <= LONGEST_PATH else f"{path[:40]}… ({len(path)} characters)"


def _data_url(url: str, name: str) -> bytes:
    """The bytes in data:image/jpeg;base64,… (RFC 2397)."""
    about, comma, text = url[5:].partition(",")
    if not comma:
        raise BadPhoto(
            f"{name} is a data: URL without a comma; expected data:image/jpeg;base64,… with the file after it"
        )
    content = unquote_to_bytes(text)
    if not about.lower().endswith(";base64"):
        return content
    try:
        return base64.b64decode(content + b"=" * (-len(content) % 4))
    except binascii.Error as error:
        raise BadPhoto(f"{name} is a data: URL whose base64 is broken ({error}); give the bytes of the file") from None


def _stream_bytes(stream: Any, name: str) -> bytes:
    """What is left to read of an open file."""
    data = bytearray()
    while len(data) <= LARGEST_FILE:
        try:
            piece = stream.read(min(AT_ONCE, LARGEST_FILE + 1 - len(data)))
        except (OSError, ValueError, TypeError) as error:  # ValueError: a closed file, or one open as text
            raise BadPhoto(f"{name} cannot be read ({error}); open the file with open(path, 'rb')") from None
        if not isinstance(piece, bytes):
            kind = type(piece).__name__
            raise BadPhoto(f"{name} is not open for reading bytes: read() gives {kind}; open it with 'rb'")
        if not piece:
            break
        data += piece
    if not data:
        raise BadPhoto(f"{name} gives no bytes: it is empty, or was read to its end before; call its seek(0)")
    if len(data) > LARGEST_FILE:
        raise BadPhoto(f"{name} has more than {LARGEST_FILE / 1e9:g} GB; that is no photo")
    return bytes(data)


def _array(source: Any, name: str) -> Shaped[np.ndarray, "..."]:
    try:
        return np.asarray(source)
    except (TypeError, ValueError, RuntimeError) as error:  # torch: on a GPU, or with a gradient; it says what to do
        raise BadPhoto(f"{name} cannot be made a numpy array: {in_one_line(error)}") from None


def _from_pillow(image: Image.Image, name: str) -> Decoded:
    try:
        image.load()
    except (OSError, SyntaxError, ValueError) as error:
        raise BadPhoto(f"{name} cannot be decoded ({in_one_line(error)}): open it again, or give its path") from None
    return upright_rgb(image, name)


def _file_bytes(path: Path, name: str) -> bytes:
    """The content of an ordinary file of sane size."""
    if path.suffix.lower() in _RAW_SUFFIXES:
        raise BadPhoto(f"{name} is a camera raw file: develop it to JPEG or TIFF first")
    if len(str(path)) > LONGEST_PATH:
        raise BadPhoto(f"{name} {_TOO_LONG}")
    if os.path.isdir(path):
        raise BadPhoto(f"{name} is a folder; give a photo, or gather the photos in it with sameface.photo.image.gather")
    return read_bytes(path, LARGEST_FILE, BadPhoto, name)


_TOO_LONG = "is too long for a path; a picture as text is given as its bytes: base64.b64decode(text)"


def gather(paths: PathLike | Iterable[PathLike]) -> list[Path]:
    """The photos among files and folders, in the order given.

    Of a folder: the files directly in it with a photo's suffix (`PHOTO_SUFFIXES`, any case) or the first bytes of one,
    hidden ones left out, in natural order (2.jpg before 10.jpg); `left_out` tells of the others. A file reached
    twice counts once. Raises BadPhoto for a missing path and for a folder without photos. Files given by name are not
    opened here.
    """
    given = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    found: dict[str, Path] = {}
    for name in given:
        path, shown = Path(name), _shown(os.fspath(name))
        if len(str(path)) > LONGEST_PATH:
            raise BadPhoto(f"{shown} {_TOO_LONG}")
        try:
            folder = stat.S_ISDIR(path.stat().st_mode)
        except FileNotFoundError:
            raise BadPhoto(f"there is no file or folder {shown}{hint(shown)}") from None
        except (OSError, ValueError) as error:  # ValueError: a null byte
            raise BadPhoto(f"{shown} cannot be reached ({in_one_line(error)}): check the path") from None
        for photo in _photos_in(path) if folder else [path]:
            found.setdefault(os.path.realpath(photo), photo)  # which a link to itself does not stop
    if not found:
        raise BadPhoto("no photos were given; give at least one file or folder")
    return list(found.values())


class Parted(NamedTuple):
    """What lies directly in a folder."""

    photos: list[Path]
    """in natural order"""
    videos: list[Path]
    others: list[Path]
    """files that are neither"""
    folders: list[Path]


def parted(folder: PathLike) -> Parted:
    """What lies directly in a folder; nothing, where it is no folder. Raises BadPhoto for one that cannot be listed."""
    try:
        files = [Path(folder, name) for name in names_in(folder)]
        folders = [Path(folder, name) for name in names_in(folder, folders=True)]
    except (BadData, ValueError) as error:  # ValueError: a null byte
        raise BadPhoto(str(error)) from None
    kinds = ["photo" if _is_photo(path) else "video" if is_video(path) else "other" for path in files]
    some = {kind: [path for path, its in zip(files, kinds, strict=True) if its == kind] for kind in set(kinds)}
    photos = sorted(some.get("photo", []), key=_natural)
    return Parted(photos, some.get("video", []), some.get("other", []), folders)


def _photos_in(folder: Path) -> list[Path]:
    photos, *others = parted(folder)
    if not photos:
        holds, folders = _in_words(*others), others[-1]
        todo = f"; give such a folder, or all of them to `sameface bulk {folder}`" if folders else ""
        raise BadPhoto(
            f"the folder {folder} holds no photos, only {holds or 'no files'}{todo}; "
            f"photos end in {', '.join(sorted(PHOTO_SUFFIXES))}"
        )
    return photos


def left_out(folder: PathLike) -> str:
    """What in a folder `gather` does not take, in one sentence; empty if it takes all, or takes nothing and says so.

    >>> left_out("there is no such folder")
    ''
    """
    try:
        photos, *others = parted(folder)
    except BadPhoto:
        return ""
    told = _in_words(*others)
    return f"in {os.fspath(folder)}, {told}" if photos and told else ""


def _in_words(videos: list[Path], others: list[Path], folders: list[Path]) -> str:
    kinds = (("video", videos, "; give it alone"), ("other file", others, ""), ("folder", folders, ""))
    return " and ".join(counted(what, len(some), some[0].name, alone) for what, some, alone in kinds if some)


def counted(what: str, count: int, first: str, alone: str = "") -> str:
    """So many of a kind in words, with the first for an example, and what to say of one alone.

    >>> counted("other file", 3, "notes.txt")
    '3 other files (notes.txt, …)'
    """
    return f"{count} {what}{'s' if count > 1 else ''} ({first}{', …' if count > 1 else alone})"


def _is_photo(path: Path) -> bool:
    """Whether a file in a folder is called a photo, or begins like one."""
    if path.name.lower().endswith(tuple(PHOTO_SUFFIXES)):
        return True
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return is_picture(file.read(HEAD))
    except (OSError, ValueError):
        return False


def _natural(path: Path) -> tuple[list[tuple[int, int, str]], str]:
    """Sort key: numbers inside names by value, letters regardless of case."""
    parts = re.findall(r"[0-9]+|[^0-9]+", path.name.lower())
    return [(0, int(part), "") if part.isascii() and part.isdigit() else (1, 0, part) for part in parts], path.name


def crop(
    pixels: UInt8[np.ndarray, "H W 3"], affine: Float[np.ndarray, "2 3"], size: tuple[int, int], *, edge: bool = False
) -> UInt8[np.ndarray, "h w 3"]:
    """The photo warped by x ↦ A x + b (photo px → crop px, (0, 0) the top-left corner of each), (w, h) = `size`.

    Bilinear. Where the crop shrinks the photo by 2 or more, the photo is first averaged down by the whole part of that
    factor, so that fine texture does not alias. Outside the photo: black, or with `edge` its nearest pixels.
    """
    linear, shift = affine[:, :2].astype(np.float64), affine[:, 2].astype(np.float64)
    determinant = abs(linear[0, 0] * linear[1, 1] - linear[0, 1] * linear[1, 0])
    if not (np.isfinite(affine).all() and determinant > 1e-12):
        raise ValueError(f"a crop needs a finite affine that can be inverted, but it is {affine.tolist()}")
    corners = np.array([[0, 0], [size[0], 0], [0, size[1]], size], float)
    sources = np.linalg.solve(linear, (corners - shift).T).T
    shrink = max(1, int(determinant**-0.5 + 1e-6))
    region, origin = _region(pixels, sources, margin=2 * shrink)
    if region.size == 0:
        return np.zeros((size[1], size[0], 3), np.uint8)
    shift = shift + linear @ origin
    if shrink > 1:
        height, width = (max(1, round(side / shrink)) for side in region.shape[:2])
        linear = linear @ np.diag([region.shape[1] / width, region.shape[0] / height])
        region = cv2.resize(region, (width, height), interpolation=cv2.INTER_AREA)
    region = cv2.copyMakeBorder(region, 1, 1, 1, 1, cv2.BORDER_REPLICATE)  # the outer halves of the edge's own pixels
    shift = shift - linear @ [0.5, 0.5] - 0.5  # that border, and: OpenCV counts from the centre of the first pixel
    border = cv2.BORDER_REPLICATE if edge else cv2.BORDER_CONSTANT
    return cv2.warpAffine(region, np.column_stack([linear, shift]), size, flags=cv2.INTER_LINEAR, borderMode=border)  # type: ignore


def _region(
    pixels: UInt8[np.ndarray, "H W 3"], points: Float[np.ndarray, "L 2"], margin: int
) -> tuple[UInt8[np.ndarray, "h w 3"], Float[np.ndarray, " 2"]]:
    """The part of the photo around points, and where its corner lies in the photo (px)."""
    height, width = pixels.shape[:2]
    limits = np.array([width, height])
    low = np.clip(np.floor(points.min(0)) - margin, 0, limits).astype(int)
    high = np.clip(np.ceil(points.max(0)) + margin, 0, limits).astype(int)
    return pixels[low[1] : high[1], low[0] : high[0]], low.astype(float)
