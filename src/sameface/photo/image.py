"""Photos in: read them from files or arrays, gather them from folders, and cut crops out of them."""

import os
import re
import stat
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float, Shaped, UInt8
from PIL import Image

from sameface.core.errors import BadData, BadPhoto
from sameface.core.files import names_in
from sameface.photo.clip import is_video
from sameface.photo.decode import HEAD, Decoded, array_rgb, decode, is_picture, upright_rgb
from sameface.photo.face import Photo
from sameface.photo.lens import Lens

__all__ = ["PHOTO_SUFFIXES", "crop", "gather", "left_out", "read"]

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
SMALLEST_SIDE = 16
"""px"""
_RAW_SUFFIXES = frozenset((".dng", ".nef", ".cr2", ".cr3", ".arw", ".orf", ".rw2", ".pef", ".raf", ".srw"))

PathLike = str | os.PathLike[str]
Source = PathLike | bytes | Shaped[np.ndarray, "..."] | Image.Image


def read(source: Source, *, name: str | None = None) -> Photo:
    """One photo, upright, as 8-bit sRGB: from a path, the bytes of a file, an array (RGB) or a Pillow image.

    Files: JPEG, PNG, WebP, HEIC, AVIF, TIFF, BMP, and the first frame of a GIF. Arrays: (H, W), (H, W, 3) or (H, W, 4),
    uint8, uint16 or float in [0, 1]. Transparency is composited onto white. `name` is how messages and results call the
    photo; by default the path. Raises BadPhoto, saying what is wrong, for anything that is not a photo.
    """
    if isinstance(source, np.ndarray):
        name = name or "the array"
        decoded = Decoded(array_rgb(source, name), Lens(None))
    elif isinstance(source, Image.Image):
        name = name or str(getattr(source, "filename", "") or "the image")
        decoded = _from_pillow(source, name)
    elif isinstance(source, bytes):
        name = name or "the picture in memory"
        decoded = decode(source, name)
    elif isinstance(source, str | os.PathLike):
        name = name or str(source)
        decoded = decode(_file_bytes(Path(source), name), name)
    else:
        raise TypeError(f"a photo is a path, bytes, a numpy array or a Pillow image, not {type(source).__name__}")
    height, width = decoded.pixels.shape[:2]
    if min(height, width) < SMALLEST_SIDE:
        raise BadPhoto(f"{name} has {width}×{height} pixels; a photo has at least {SMALLEST_SIDE} on each side")
    focal, note = decoded.lens
    return Photo(decoded.pixels, name, focal, "exif", (note,) if note else ())


def _from_pillow(image: Image.Image, name: str) -> Decoded:
    try:
        image.load()
    except (OSError, SyntaxError, ValueError) as error:
        raise BadPhoto(f"{name} cannot be decoded ({error}): open it again, or give its path") from None
    return upright_rgb(image, name)


def _file_bytes(path: Path, name: str) -> bytes:
    """The content of an ordinary file of sane size."""
    if path.suffix.lower() in _RAW_SUFFIXES:
        raise BadPhoto(f"{name} is a camera raw file: develop it to JPEG or TIFF first")
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise BadPhoto(
                f"{name} is a folder; give a photo, or gather the photos in it with sameface.photo.image.gather"
            )
        if not stat.S_ISREG(status.st_mode):
            raise BadPhoto(f"{name} is not an ordinary file (a pipe or a device); give the path of a photo")
        if status.st_size > LARGEST_FILE:
            raise BadPhoto(f"{name} has {status.st_size / 1e9:.2f} GB; a photo has at most {LARGEST_FILE / 1e9:.0f} GB")
        return path.read_bytes()
    except FileNotFoundError:
        raise BadPhoto(f"there is no file {name}{_nearby(path, name)}") from None
    except PermissionError:
        raise BadPhoto(f"{name} may not be read by this user: change its permissions, or copy it") from None
    except (OSError, ValueError) as error:  # ValueError: a path with a null byte in it
        raise BadPhoto(f"{name} cannot be read ({error}): check the path and the disk") from None


def _nearby(path: Path, name: str) -> str:
    """A hint for a path that leads nowhere."""
    if re.match(r"(https?|ftp)://", name):
        return ": it is an address; download the photo first and give its path"
    return (
        "; its folder exists, so check the spelling" if os.path.isdir(path.parent) else f"; nor a folder {path.parent}"
    )


def gather(paths: PathLike | Iterable[PathLike]) -> list[Path]:
    """The photos among files and folders, in the order given.

    Of a folder: the files directly in it with a photo's suffix (`PHOTO_SUFFIXES`, any case) or the first bytes of one,
    hidden ones left out, in natural order (2.jpg before 10.jpg); `left_out` tells of the others. A file reached
    twice counts once. Raises BadPhoto for a missing path and for a folder without photos. Files given by name are not
    opened here.
    """
    given = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    found: dict[Path, Path] = {}
    for path in map(Path, given):
        try:
            folder = stat.S_ISDIR(path.stat().st_mode)
        except FileNotFoundError:
            raise BadPhoto(f"there is no file or folder {path}{_nearby(path, str(path))}") from None
        except (OSError, ValueError) as error:  # ValueError: a null byte
            raise BadPhoto(f"{path} cannot be reached ({error}): check the path and its permissions") from None
        for photo in _photos_in(path) if folder else [path]:
            found.setdefault(photo.resolve(), photo)
    if not found:
        raise BadPhoto("no photos were given; give at least one file or folder")
    return list(found.values())


def _photos_in(folder: Path) -> list[Path]:
    try:
        files = names_in(folder)
    except BadData as error:
        raise BadPhoto(str(error)) from None
    photos = [path for path in (folder / name for name in files) if _is_photo(path)]
    if not photos:
        holds = f"{len(files)} other files" if files else "no files"
        raise BadPhoto(
            f"the folder {folder} holds no photos, only {holds}; photos end in {', '.join(sorted(PHOTO_SUFFIXES))}"
        )
    return sorted(photos, key=_natural)


def left_out(folder: PathLike) -> str:
    """What of a folder's own files `gather` does not take, in one sentence; empty if it takes all, or it is no folder.

    >>> left_out("there is no such folder")
    ''
    """
    files = [path for path in (Path(folder, name) for name in names_in(folder)) if not _is_photo(path)]
    clips = [path for path in files if is_video(path)]
    others = [path for path in files if path not in clips]
    told = [
        f"{len(some)} {what}{'s' if len(some) > 1 else ''} ({some[0].name}{', …' if len(some) > 1 else hint})"
        for some, what, hint in ((clips, "video", "; give it alone"), (others, "other file", ""))
        if some
    ]
    return f"in {os.fspath(folder)}, {' and '.join(told)}" if told else ""


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
