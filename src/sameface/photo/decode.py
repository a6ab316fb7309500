"""The bytes of a picture file, decoded: upright 8-bit sRGB pixels and the focal length its EXIF data tells.

The kind of file is told from its first bytes, never from its name; only the decoders named in `_DECODERS` ever see it,
and its size is judged from the header, before any pixel is decoded.
"""

import importlib
import io
import struct
import threading
import warnings
import zlib
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Shaped, UInt8
from PIL import Image, ImageCms, features

from sameface.core.errors import BadPhoto, compared, in_one_line
from sameface.photo.lens import Lens, from_exif

__all__ = ["HEAD", "LARGEST_PHOTO", "Decoded", "array_rgb", "decode", "is_picture", "upright_rgb"]

LARGEST_PHOTO = 200_000_000
"""px; a photo beyond this is refused before it is decoded (the largest phone sensors have 199.8 million)"""

HEAD = 64
"""bytes that tell the kind of a picture file"""
_DECODERS = {
    "JPEG": ("PIL.JpegImagePlugin", "JpegImageFile"),
    "PNG": ("PIL.PngImagePlugin", "PngImageFile"),
    "WebP": ("PIL.WebPImagePlugin", "WebPImageFile"),
    "TIFF": ("PIL.TiffImagePlugin", "TiffImageFile"),
    "GIF": ("PIL.GifImagePlugin", "GifImageFile"),
    "BMP": ("PIL.BmpImagePlugin", "BmpImageFile"),
    "PNM": ("PIL.PpmImagePlugin", "PpmImageFile"),
    "AVIF": ("PIL.AvifImagePlugin", "AvifImageFile"),
}
_STARTS = (
    (b"\xff\xd8\xff", "JPEG"), (b"\x89PNG\r\n\x1a\n", "PNG"), (b"GIF8", "GIF"), (b"BM", "BMP"),
    (b"II*\0", "TIFF"), (b"MM\0*", "TIFF"), (b"II+\0", "TIFF"), (b"MM\0+", "TIFF"), (b"P5\n", "PNM"), (b"P6\n", "PNM"),
    (b"P5 ", "PNM"), (b"P6 ", "PNM"),
)  # fmt: skip
_FOREIGN = (
    (b"%PDF", "a PDF document"), (b"PK\x03\x04", "a zip archive"), (b"\x1a\x45\xdf\xa3", "a video (Matroska or WebM)"),
    (b"\xff\x0a", "a JPEG XL picture (Pillow reads none; save it as JPEG or PNG)"),
    (b"\0\0\0\x0cJXL ", "a JPEG XL picture (Pillow reads none; save it as JPEG or PNG)"),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000 picture"), (b"\xff\x4f\xff\x51", "a JPEG 2000 picture"),
    (b"%!PS", "a PostScript document"), (b"8BPS", "a Photoshop document"), (b"\x1f\x8b", "a gzip archive"),
    (b"\x00\x00\x01\xba", "a video (MPEG)"), (b"\0\0\x01\0", "an icon"), (b"FUJIFILMCCD-RAW", "a camera raw file"),
    (b"IIRO", "a camera raw file"), (b"IIU\0", "a camera raw file"),
)  # fmt: skip
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_AVIF_BRANDS = (b"avif", b"avis")
_READABLE = "JPEG, PNG, WebP, HEIC, AVIF, TIFF, GIF, BMP and PPM"

_DNG_VERSION, _ORIENTATION, _EXIF_BLOCK = 50706, 0x0112, 0x8769

MOST_SCANS = 200
"""of a JPEG file; programs write 1 to 20"""
_BROKEN = (
    OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, EOFError, OverflowError, RuntimeError,
    struct.error, zlib.error, Image.DecompressionBombError,
)  # fmt: skip
"""what the decoders raise on files that are not what their first bytes promise"""
_header_lock = threading.Lock()


class Decoded(NamedTuple):
    """A photo out of its file."""

    pixels: UInt8[np.ndarray, "H W 3"]
    lens: Lens
    """what the EXIF data tell of the focal length, in px of these pixels"""


def decode(data: bytes, name: str) -> Decoded:
    """The upright pixels and the focal length (px) of a picture file; `name` is only used in messages.

    Animations give their first frame. Raises BadPhoto if the bytes are not a whole picture of a kind we read.
    """
    if not data:
        raise BadPhoto(f"{name} is empty (0 bytes): copy or download it again")
    kind = _kind(data)
    if kind is None:
        raise BadPhoto(f"{name} holds {_foreign(data)}, not a photo; {_READABLE} are read")
    try:
        image = _opened(data, kind, name)
        _check_size(image.width, image.height, name)
        if kind == "JPEG" and (scans := data.count(b"\xff\xda")) > MOST_SCANS:
            raise BadPhoto(f"{name} has {scans} scans, each a pass over all its pixels; save it again as JPEG or PNG")
        _load(image, kind)
    except _BROKEN as error:
        why = in_one_line(error)
        if any(word in why.lower() for word in ("truncated", "unexpected end", "premature", "broken data stream")):
            raise BadPhoto(f"{name} is a truncated {kind} file ({why}): copy or download it again") from None
        raise BadPhoto(f"{name} is a damaged or unusual {kind} file ({why}): save it again as JPEG or PNG") from None
    return upright_rgb(image, name)


def upright_rgb(image: Image.Image, name: str) -> Decoded:
    """The pixels of a loaded Pillow image as upright 8-bit sRGB, and its focal length (px).

    Transparency is composited onto white; an embedded colour profile is applied (a profile that cannot be read is
    ignored, as browsers do: the colours are then taken for sRGB); 16-bit values are divided by 257.
    """
    _check_size(image.width, image.height, name)
    try:
        with _header_lock, warnings.catch_warnings():  # Pillow warns of untidy EXIF; a lock, because filters are global
            warnings.simplefilter("ignore")
            exif = image.getexif()
            block = dict(exif.get_ifd(_EXIF_BLOCK))
    except _BROKEN:  # unreadable EXIF data say nothing: neither a turn nor a lens
        exif, block = Image.Exif(), {}
    if _DNG_VERSION in exif:
        raise BadPhoto(f"{name} is a camera raw file (DNG): develop it to JPEG or TIFF first")
    pixels = _turned(_rgb(image, name), exif.get(_ORIENTATION, 1))
    return Decoded(pixels, from_exif(exif, block, image.width, image.height))


def array_rgb(array: Shaped[np.ndarray, "..."], name: str) -> UInt8[np.ndarray, "H W 3"]:
    """Pixels (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) as 8-bit RGB: uint8, uint16 (65535 is white) or float in [0, 1].

    Floats up to 0.001 outside [0, 1], as resampling leaves them, are clipped. The order of channels is RGB(A).
    """
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)):
        hint = "; move its first axis last" if array.ndim == 3 and array.shape[0] in (1, 3, 4) else ""
        hint = "; several photos are given one by one" if array.ndim == 4 else hint
        raise BadPhoto(f"{name} has shape {array.shape}; a photo is (H, W), (H, W, 3) or (H, W, 4){hint}")
    if array.size == 0:
        raise BadPhoto(f"{name} has shape {array.shape}: there are no pixels in it")
    _check_size(array.shape[1], array.shape[0], name)
    if array.dtype.kind == "f":
        array = _float_to_8_bit(array, name)
    elif array.dtype.kind == "u" and array.dtype.itemsize == 2:
        array = ((array.astype(np.uint32) + 128) // 257).astype(np.uint8)
    elif array.dtype != np.uint8:
        raise BadPhoto(f"{name} is an array of {array.dtype}; a photo is uint8, uint16, or float in [0, 1]")
    if array.ndim == 2:
        return np.repeat(array[..., None], 3, axis=2)
    return np.ascontiguousarray(array) if array.shape[2] == 3 else _on_white(array)


def _float_to_8_bit(array: np.ndarray, name: str) -> np.ndarray:
    """round(255 x) for x in [0, 1]."""
    low, high = float(array.min()), float(array.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        count = int((~np.isfinite(array)).sum())
        raise BadPhoto(f"{name} holds {count} values that are NaN or infinite; photos are finite, in [0, 1]")
    if low < -1e-3 or high > 1 + 1e-3:
        hint = "; divide it by 255, or convert it to uint8" if low >= 0 and high <= 256 else "; rescale it"
        raise BadPhoto(f"{name} is a float array with values from {low:g} to {high:g}; expected [0, 1]{hint}")
    return (np.clip(array, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)


def _on_white(rgba: UInt8[np.ndarray, "H W 4"]) -> UInt8[np.ndarray, "H W 3"]:
    """rgb · a + white · (1 − a)."""
    alpha = rgba[..., 3:].astype(np.uint16)
    if alpha.min() == 255:
        return np.ascontiguousarray(rgba[..., :3])
    return ((rgba[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def is_picture(head: bytes) -> bool:
    """Whether a file of these first bytes (HEAD of them are enough) is a picture of a kind that is read."""
    kind = _kind(head)
    return kind is not None and (kind != "BMP" or head[6:10] == bytes(4))  # BM alone begins many a text


def _kind(data: bytes) -> str | None:
    """The kind of picture file, by its first bytes."""
    for start, kind in _STARTS:
        if data.startswith(start):
            return kind
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WebP"
    if data[4:8] == b"ftyp":
        brand = data[8:12]
        if brand in _HEIC_BRANDS:
            return "AVIF" if b"avif" in data[16:40] else "HEIC"
        if brand in _AVIF_BRANDS:
            return "AVIF"
    return None


def _foreign(data: bytes) -> str:
    """What bytes that are no picture seem to be, in words."""
    for start, words in _FOREIGN:
        if data.startswith(start):
            return words
    if data[4:8] == b"ftyp":
        return "a camera raw file" if data[8:11] == b"crx" else "a video (MP4 or QuickTime): save a frame of it as JPEG"
    if data[:4] == b"RIFF":
        return "a video (AVI)" if data[8:11] == b"AVI" else "a sound file"
    head = data[:512]
    if head.lstrip()[:14].lower().startswith((b"<!doctype html", b"<html", b"<?xml", b"<svg")):
        return "a web page or SVG drawing"
    if not set(head) - set(range(32, 256)) - {9, 10, 13}:
        return f"text (it begins {head[:24].decode('latin-1')!r})"
    return "bytes of an unknown kind"


def _check_size(width: int, height: int, name: str) -> None:
    """Refuse what would fill the memory."""
    if width * height > LARGEST_PHOTO:
        millions, most = compared(width * height / 1e6, LARGEST_PHOTO / 1e6, 0)
        raise BadPhoto(
            f"{name} has {width}×{height} = {millions} million pixels; at most {most} million are read: scale it down"
        )


def _opened(data: bytes, kind: str, name: str) -> Image.Image:
    """The image with only its header read (HEIC: decoded, once its size is known to be sane).

    The decoders' classes are called directly because `Image.open` has a limit below the largest phone photos.
    """
    if kind == "HEIC":
        import pillow_heif

        heif = pillow_heif.open_heif(io.BytesIO(data))
        _check_size(*heif.size, name)
        return heif.to_pillow()  # upright already, and says so in its EXIF data
    module, decoder = _DECODERS[kind]
    with _header_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = importlib.import_module(module)
        except ImportError:
            raise BadPhoto(f"{name} is a picture of the kind {kind}, which the installed Pillow does not read: update "
                           "it (pip install -U pillow), or save the picture as JPEG or PNG") from None  # fmt: skip
        if kind == "AVIF" and not features.check("avif"):
            raise BadPhoto(f"{name} is an AVIF picture, and the installed Pillow was built without AVIF: install it "
                           "from a wheel (pip install -U pillow), or save the picture as JPEG or PNG")  # fmt: skip
        return getattr(found, decoder)(io.BytesIO(data))


def _load(image: Image.Image, kind: str) -> None:
    """Decode the pixels; a TIFF then reads its tags once more, and Pillow warns of untidy ones."""
    if kind != "TIFF":
        image.load()
        return
    with _header_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image.load()


def _rgb(image: Image.Image, name: str) -> UInt8[np.ndarray, "H W 3"]:
    """8-bit sRGB pixels of an image of any Pillow mode, as stored (not yet upright)."""
    if image.mode == "F" or image.mode.startswith("I;16"):
        return array_rgb(np.asarray(image), name)
    if image.mode == "I":  # 32-bit integers, also how older Pillow opens 16-bit grey
        wide = np.asarray(image)
        if wide.min() < 0 or wide.max() > 65535:
            raise BadPhoto(f"{name} holds 32-bit integers from {wide.min()} to {wide.max()}; save it as 8 or 16 bit")
        return array_rgb(wide.astype(np.uint16), name)
    if image.mode in ("LA", "La", "PA", "RGBa", "RGBA") or "transparency" in image.info:
        return _on_white(np.asarray(_to_srgb(image.convert("RGBA"))))
    if image.mode in ("1", "P", "HSV", "RGBX"):
        image = image.convert("RGB")
    return np.asarray(_to_srgb(image).convert("RGB"))


def _to_srgb(image: Image.Image) -> Image.Image:
    """Apply the embedded ICC profile, if there is one that is not sRGB itself."""
    profile = image.info.get("icc_profile")
    if not profile or b"sRGB" in profile[:4096] or b"s\0R\0G\0B" in profile[:4096]:
        return image
    target = "RGBA" if image.mode == "RGBA" else "RGB"
    try:
        embedded = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        turned = ImageCms.profileToProfile(image, embedded, ImageCms.createProfile("sRGB"), outputMode=target)
    except (ImageCms.PyCMSError, OSError, ValueError):  # broken, or for another kind of pixel: see `upright_rgb`
        return image
    return image if turned is None else turned


def _turned(pixels: UInt8[np.ndarray, "H W 3"], orientation: object) -> UInt8[np.ndarray, "h w 3"]:
    """The upright pixels for an EXIF orientation 1..8; other values mean upright."""
    if orientation in (5, 6, 7, 8):
        pixels = cv2.transpose(pixels)
    flip = {2: 1, 3: -1, 4: 0, 6: 1, 7: -1, 8: 0}.get(orientation) if isinstance(orientation, int) else None
    return pixels if flip is None else cv2.flip(pixels, flip)  # type: ignore[return-value]
