"""The focal length of a photo, in its pixels: from the EXIF block, in every form that makers write it, or as told.

A 35 mm equivalent compares diagonals: f_35 = f · 43.27 mm / diagonal of the sensor (CIPA DCG-001; the EXIF standard,
CIPA DC-008, says no more than "assuming a 35 mm film camera"). So f = f_35 · diagonal of the photo / 43.27 mm, in px,
whatever the number of pixels is. The sides would give 4 % less for a 4:3 sensor. A photo that the camera itself cut
from 4:3 to 16:9 keeps the equivalent of the whole sensor, and f comes out up to 8 % too short.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

__all__ = ["DIAGONAL_35MM", "Lens", "focal_in_px", "from_exif"]

DIAGONAL_35MM = float(np.hypot(36.0, 24.0))
"""mm"""
SENSORS = (4 / 3, 3 / 2, 16 / 9)
"""longer / shorter side of what cameras take; a photo of another shape was cut out of one"""
SHAPE = 0.015
"""a photo's shape may differ by this part of it: sensors are not exactly 3:2"""
RESIZED = 0.02
"""the shape that the EXIF block tells may differ by this part from the photo's, after a resize"""
SANE = (5.0, 2000.0)
"""mm; a 35 mm equivalent outside is no focal length but a slip"""
MOST_ZOOM = 200.0
"""a larger digital zoom is a slip"""
SAME_LENS = 0.03
"""a phone has several cameras; a focal length that differs by more than this part is another one's"""

_MAKE, _MODEL = 0x010F, 0x0110
_FOCAL, _FOCAL_35MM, _ZOOM, _WIDTH, _HEIGHT = 0x920A, 0xA405, 0xA404, 0xA002, 0xA003
_PLANE_RESOLUTION, _PLANE_UNIT = 0xA20E, 0xA210
_UNIT_MM = {2: 25.4, 3: 10.0, 4: 1.0, 5: 0.001}
"""inch and cm are EXIF's; mm and µm those of TIFF/EP, which some write"""

_CAMERAS: tuple[tuple[str, float | None, float, float], ...] = (
    (r"Canon EOS(-1Ds.*|-1D [XC].*| 5D.*| 6D.*| R| Ra| RP| R[13568]( .*)?)", None, 36.0, 24.0),
    (r"Canon EOS-1D( Mark .*)?", None, 28.1, 18.7),
    (r"Canon EOS (\d{2,4}D.*|7D.*|DIGITAL REBEL.*|REBEL.*|Kiss.*|M\d*( .*)?|R7|R10|R50.*|R100)", None, 22.3, 14.9),
    (r"NIKON (D3[SX]?|D4S?|D[56]|D6[01]0|D700|D7[58]0|D8[015]0[AE]?|Df|Z ?[5-9](_\d)?|Z ?f)", None, 35.9, 24.0),
    (r"NIKON (D[12][HX]?s?|D[4-9]0[sX]?|D[1235]00S?|D[357]\d{3}|Z ?[35]0(_2)?|Z ?fc)", None, 23.6, 15.7),
    (r"NIKON 1 .*", None, 13.2, 8.8),
    (r"ILCE-[179].*|DSC-RX1R?(M2)?|DSLR-A(850|900)|SLT-A99V?|ILCA-99M2|ZV-E1", None, 35.8, 23.9),
    (r"NEX-[3567CF].*|ILCE-[356]\d{3}.*|SLT-A[3567]\d.*|DSLR-A[1-57]\d{2}|ILCA-(68|77M2)|ZV-E10.*", None, 23.5, 15.6),
    (r"DSC-RX100?(M\d.*)?", None, 13.2, 8.8),
    (r"DMC-G.*|DC-G.*|E-P\d|E-PL\d+|E-PM\d|E-M\d.*|PEN-F|OM-[135].*|E-\d{1,3}", None, 17.3, 13.0),
    (r"X-[TEAMH]\d.*|X-S\d0|X-Pro\d|(FinePix )?X100.*|X70|XF10", None, 23.5, 15.6),
    (r"GFX.*", None, 43.8, 32.9),
    (r"PENTAX (K1?\d{1,3}0D|K2000|K-[mxr357].*|K-\d\d+|K-S\d|KP|\*ist.*)|(RICOH )?GR( II| III.*)?", None, 23.5, 15.6),
    (r"PENTAX K-1( .*)?", None, 35.9, 24.0),
    (r"iPhone 3GS", 3.85, 3.58, 2.69),
    (r"iPhone 4", 3.85, 4.54, 3.39),
    (r"iPhone 4S", 4.28, 4.57, 3.43),
    (r"iPhone 5c?", 4.13, 4.57, 3.43),
    (r"iPhone 5s|iPhone 6( Plus)?", 4.15, 4.90, 3.67),
    (r"iPhone 6s( Plus)?|iPhone SE", 4.15, 4.92, 3.69),
    (r"iPhone [78]( Plus)?|iPhone X|iPhone SE \([23].*", 3.99, 4.92, 3.69),
    (r"iPhone X[SR].*|iPhone 11.*", 4.25, 5.64, 4.23),
    (r"GT-I9100.*", 3.97, 4.57, 3.43),
    (r"GT-I9300.*", 3.7, 4.57, 3.43),
    (r"GT-I950[05].*", 4.2, 4.69, 3.52),
    (r"SM-G900.*", 4.8, 5.95, 3.35),
    (r"Nexus 5|LG-D80\d.*|LG-D85\d.*", 3.97, 4.62, 3.46),
    (r"LG-H81\d.*", 4.42, 5.95, 3.35),
    (r"Nexus (5X|6P)|Pixel( XL)?", 4.67, 6.27, 4.70),
    (r"Pixel [234]a?( XL)?", 4.42, 5.64, 4.23),
    (r"HTC One", 3.82, 5.38, 3.04),
)
"""Model in the EXIF block, focal length of the main camera (mm; phones), width and height of the sensor (mm).

Cameras: the nominal size of the format, from which models differ by up to 2 %. Phones: pixels × their pitch as in the
data sheets; with the focal length they give the maker's own 35 mm equivalent within 8 %."""


class Lens(NamedTuple):
    """What the EXIF block tells of a photo's focal length."""

    focal: float | None
    """px of the photo; None if it is not told, or not to be believed"""
    note: str = ""
    """why it is not believed; empty if nothing was told either"""


def from_exif(main: Mapping[int, object], block: Mapping[int, object], width: int, height: int) -> Lens:
    """The focal length of a photo of (width × height) px from its EXIF tags: those of the file and of the EXIF block.

    The first that is there: the 35 mm equivalent; the focal length in mm and the sensor's pixels per mm (corrected for
    a resize since); the same with the size of the sensor of a known camera. A digital zoom counts once: Apple's 35 mm
    equivalents contain it, others' usually do not, and a known sensor tells. What was cropped since tells nothing.
    """
    camera = " ".join(str(main.get(_MODEL) or "").replace("\0", " ").split())
    focal = _focal(camera, str(main.get(_MAKE) or ""), block, width, height)
    if focal is None:
        return Lens(None)
    shape = max(width, height) / min(width, height)
    stored = _number(block.get(_WIDTH)), _number(block.get(_HEIGHT))
    unused = "so the focal length in its EXIF data was not used"
    if all(stored) and abs(max(stored) / min(stored) / shape - 1) > RESIZED:
        size = f"{stored[0]:.0f}×{stored[1]:.0f}"
        return Lens(None, f"it has {width}×{height} px, but its camera took {size}: it was cropped, {unused}")
    if min(abs(shape / sensor - 1) for sensor in SENSORS) > SHAPE + 1 / min(width, height):
        return Lens(None, f"{width}×{height} px is the shape of no camera's photos: it was cropped, {unused}")
    return Lens(focal)


def focal_in_px(given: float | str, size: tuple[int, int]) -> float:
    """A focal length as people tell it, in px of a photo of (width, height) px.

    A number, or a text that ends in px, counts pixels of the photo; a text that ends in mm is a 35 mm equivalent.
    Raises ValueError for what is not a positive finite length.

    >>> focal_in_px("1200px", (900, 1600)), round(focal_in_px("50mm", (3000, 2000)))
    (1200.0, 4167)
    """
    match = re.fullmatch(r"\s*([0-9.eE+]+)\s*(px|mm)\s*", given) if isinstance(given, str) else None
    if isinstance(given, str) and match is None:
        raise ValueError(f"focal is {given!r}; give a 35 mm equivalent such as 50mm, or pixels of the photo: 1200px")
    try:
        length = float(given if match is None else match[1])
    except (TypeError, ValueError):
        length = float("nan")
    if not (np.isfinite(length) and length > 0):
        raise ValueError(f"focal is {given!r}, but a focal length is a positive number: 50mm, 1200px")
    return length * float(np.hypot(*size)) / DIAGONAL_35MM if match is not None and match[2] == "mm" else length


def _focal(camera: str, make: str, block: Mapping[int, object], width: int, height: int) -> float | None:
    """px, by the first form that is there; whether the photo was cropped is not asked."""
    diagonal = float(np.hypot(width, height))
    focal, equivalent = _number(block.get(_FOCAL)), _number(block.get(_FOCAL_35MM))
    sensor, zoom = _sensor(camera, focal), _number(block.get(_ZOOM))
    zoom = zoom if 1 < zoom < MOST_ZOOM else 1.0
    candidates = []
    if SANE[0] <= equivalent <= SANE[1]:
        plain = focal * DIAGONAL_35MM / float(np.hypot(*sensor)) if sensor else 0.0
        held = abs(np.log(equivalent / plain / zoom)) < abs(np.log(equivalent / plain)) if plain else "Apple" in make
        candidates.append(equivalent * (1.0 if held else zoom) * diagonal / DIAGONAL_35MM)
    if per_mm := _pixels_per_mm(block, width, height):
        candidates.append(focal * per_mm)
    if sensor is not None:
        candidates.append(focal * zoom * max(max(width, height) / sensor[0], min(width, height) / sensor[1]))
    sane = (one for one in candidates if SANE[0] <= one * DIAGONAL_35MM / diagonal <= SANE[1])
    return next(sane, None)


def _pixels_per_mm(block: Mapping[int, object], width: int, height: int) -> float:
    """On the focal plane, of the photo as it is; 0 if that is not told. A digital zoom is contained."""
    resolution, unit = _number(block.get(_PLANE_RESOLUTION)), _number(block.get(_PLANE_UNIT)) or 2
    stored = max(_number(block.get(_WIDTH)), _number(block.get(_HEIGHT)))
    if not (resolution and stored and unit in _UNIT_MM):
        return 0.0
    return resolution / _UNIT_MM[int(unit)] * max(width, height) / stored


def _sensor(camera: str, focal: float) -> tuple[float, float] | None:
    """Width and height of the sensor behind a lens of a known camera, mm."""
    for model, lens, width, height in _CAMERAS:
        if focal and re.fullmatch(model, camera) and (lens is None or abs(focal / lens - 1) <= SAME_LENS):
            return width, height
    return None


def _number(value: object) -> float:
    """A positive finite number from an EXIF field, or 0; 65535 is what some write for unknown."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return 0.0
    return number if np.isfinite(number) and number > 0 and number != 65535 else 0.0
