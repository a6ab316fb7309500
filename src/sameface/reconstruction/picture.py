"""Pictures of meshes: clay renders, a mesh laid over its photo, and sheets of several pictures with titles.

Light is added up in linear RGB and encoded as sRGB at the end, so that half-covered pixels have the right brightness.
"""

import unicodedata
from collections.abc import Sequence
from math import ceil
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image, ImageDraw, ImageFont

from sameface.core.camera import Camera
from sameface.core.geometry import vertex_normals
from sameface.mesh.raster import Raster, interpolate, rasterise, screen_points
from sameface.photo.image import crop

__all__ = ["contact_sheet", "overlay", "render", "render_both", "shade"]

CLAY = (206, 193, 184)
"""sRGB of a mesh without colours: skin-grey"""
SMALLEST_OVERLAY, LARGEST_OVERLAY = 640, 1000
"""px; overlays whose longer side would be outside of this are scaled to it"""
SUPERSAMPLING = 2

_KEY = np.array([-0.50, -0.62, -0.60]) / np.linalg.norm([-0.50, -0.62, -0.60])
"""direction to the main light, camera frame: from the upper left, behind the viewer"""
_FILL = np.array([0.85, 0.05, -0.52]) / np.linalg.norm([0.85, 0.05, -0.52])
_KEY_COLOUR, _FILL_COLOUR = np.array([1.00, 0.96, 0.91]), np.array([0.82, 0.90, 1.00])
_INSIDE = 0.22
"""how bright the inner side of the surface is, relative to the outer"""
_LANDMARK, _LANDMARK_RIM = (255, 214, 64), (30, 30, 30)


def shade(normals: Float[np.ndarray, "V 3"], albedo: Float[np.ndarray, "V 3"]) -> Float[np.ndarray, "V 3"]:
    """Linear RGB of a clay surface: a warm key light, a cool fill, soft light from the sky, a sheen and a slight rim.

    Normals are unit length in camera axes (x right, y down, z away); albedo is linear RGB.
    """
    key = np.maximum(normals @ _KEY + 0.15, 0.0)[:, None] / 1.15  # wrapped: skin has no hard terminator
    fill = np.maximum(normals @ _FILL, 0.0)[:, None]
    sky = (0.5 - 0.5 * normals[:, 1:2]) * 0.7 + 0.3
    facing = np.clip(-normals[:, 2:], 0.0, 1.0)
    half = _KEY - [0.0, 0.0, 1.0]
    sheen = np.maximum(normals @ (half / np.linalg.norm(half)), 0.0)[:, None] ** 18
    light = 0.80 * key * _KEY_COLOUR + 0.16 * fill * _FILL_COLOUR + 0.24 * sky
    return albedo * light + 0.035 * sheen + 0.06 * (1 - facing) ** 3 * sky


def render(
    vertices: Float[np.ndarray, "V 3"],
    faces: Int[np.ndarray, "F 3"],
    camera: Camera,
    *,
    colours: UInt8[np.ndarray, "V 3"] | None = None,
    skin: tuple[UInt8[np.ndarray, "T S 3"], Float[np.ndarray, "V 2"]] | None = None,
    normals: Float[np.ndarray, "V 3"] | None = None,
    background: UInt8[np.ndarray, "H W 3"] | tuple[int, int, int] | None = None,
) -> UInt8[np.ndarray, "H W 3"]:
    """The mesh (mm) as clay, or in its sRGB vertex `colours`, as the camera sees it; (W, H) is the camera's size.

    `skin` is a texture from photos and the mesh's uv coordinates, shown as it is since it holds the photos' light.
    `normals` default to the mesh's smooth ones. The background is a picture of the camera's size, one sRGB colour, or a
    soft light grey if None.
    """
    width, height = camera.size
    if background is None:
        behind = _studio(width, height)
    elif isinstance(background, tuple):
        behind = np.full((height, width, 3), _linear(np.array(background, np.uint8)), np.float32)
    elif background.shape[:2] == (height, width):
        behind = _linear(background)
    else:
        raise ValueError(f"the background has {background.shape[1::-1]} pixels, but the camera has {camera.size}")
    layer = _layer(_seen(vertices, faces, camera), colours, skin, normals)
    return _srgb(layer.light + (1 - layer.cover) * behind)


def render_both(
    vertices: Float[np.ndarray, "V 3"],
    faces: Int[np.ndarray, "F 3"],
    camera: Camera,
    colours: UInt8[np.ndarray, "V 3"],
    skin: tuple[UInt8[np.ndarray, "T S 3"], Float[np.ndarray, "V 2"]],
    *,
    normals: Float[np.ndarray, "V 3"] | None = None,
    closed: bool = False,
) -> list[UInt8[np.ndarray, "H W 3"]]:
    """What `render` draws in these colours, and with this skin, on its own background; the mesh is looked at once.

    Of a `closed` mesh, what looks away from the camera need not be drawn.
    """
    seen, behind = _seen(vertices, faces, camera, closed), _studio(*camera.size)
    layers = (_layer(seen, colours, None, normals), _layer(seen, None, skin))
    return [_srgb(layer.light + (1 - layer.cover) * behind) for layer in layers]


def overlay(
    pixels: UInt8[np.ndarray, "H W 3"],
    vertices: Float[np.ndarray, "V 3"],
    faces: Int[np.ndarray, "F 3"],
    camera: Camera,
    *,
    landmarks: Float[np.ndarray, "L 2"] | None = None,
    opacity: float = 0.75,
    wireframe: bool = False,
    margin: float = 0.35,
) -> UInt8[np.ndarray, "h w 3"]:
    """The mesh over its photo, cut to the face with a margin (a fraction of its size); longer side 640..1000 px.

    `camera` and `landmarks` are in photo px. `wireframe` draws the visible edges instead of clay.
    """
    affine, size = _around(screen_points(vertices, camera)[:, :2], pixels.shape[1], pixels.shape[0], margin)
    photo = crop(pixels, affine, size)
    camera = camera.warped(affine, size)
    if opacity == 0:
        out = photo
    elif wireframe:
        out = _wires(photo, vertices, faces, camera, opacity)
    else:
        layer = _layer(_seen(vertices, faces, camera))
        out = _srgb(opacity * layer.light + (1 - opacity * layer.cover) * _linear(photo))
    return out if landmarks is None else _dots(out, landmarks @ affine[:, :2].T + affine[:, 2])


class _Layer(NamedTuple):
    light: Float[np.ndarray, "H W 3"]
    """linear RGB, times `cover`"""
    cover: Float[np.ndarray, "H W 1"]
    """0..1: how much of each pixel the mesh covers"""


class _Seen(NamedTuple):
    """What a camera sees of a mesh, whatever its surface."""

    vertices: Float[np.ndarray, "V 3"]
    faces: Int[np.ndarray, "F 3"]
    camera: Camera
    points: Float[np.ndarray, "V 3"]
    """px of the raster"""
    raster: Raster
    """finer than the picture"""


def _seen(
    vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"], camera: Camera, closed: bool = False
) -> _Seen:
    factor = SUPERSAMPLING
    width, height = camera.size
    fine = camera.warped(np.array([[factor, 0.0, 0.0], [0.0, factor, 0.0]]), (factor * width, factor * height))
    points = screen_points(vertices, fine)
    if not closed:
        return _Seen(vertices, faces, camera, points, rasterise(points, faces, fine.size))
    front = np.flatnonzero(_outside(points, faces))
    raster = rasterise(points, faces[front], fine.size)
    return _Seen(
        vertices, faces, camera, points, raster._replace(face=np.append(front, -1).astype(np.int32)[raster.face])
    )


def _layer(
    seen_mesh: _Seen,
    colours: UInt8[np.ndarray, "V 3"] | None = None,
    skin: tuple[UInt8[np.ndarray, "T S 3"], Float[np.ndarray, "V 2"]] | None = None,
    normals: Float[np.ndarray, "V 3"] | None = None,
) -> _Layer:
    """The antialiased picture of a mesh."""
    vertices, faces, camera, points, raster = seen_mesh
    width, height = camera.size
    picture = np.zeros((*raster.face.shape, 4), np.float32)
    seen = raster.face >= 0
    if skin is None:
        picture[seen, :3] = interpolate(raster, faces, _lit(vertices, faces, camera, colours, normals))
    else:
        picture[seen, :3] = _painted(raster, faces, *skin)
    picture[seen, :3] *= _side(points, faces, raster)[:, None]
    picture[seen, 3] = 1
    small = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
    return _Layer(small[..., :3], small[..., 3:])


def _lit(
    vertices: Float[np.ndarray, "V 3"],
    faces: Int[np.ndarray, "F 3"],
    camera: Camera,
    colours: UInt8[np.ndarray, "V 3"] | None,
    normals: Float[np.ndarray, "V 3"] | None,
) -> Float[np.ndarray, "V 3"]:
    """Linear RGB of each vertex under the lights."""
    base = np.tile(_linear(np.array(CLAY, np.uint8)), (len(vertices), 1)) if colours is None else _linear(colours)
    normals = vertex_normals(vertices, faces) if normals is None else normals
    albedo = base * _cavity(vertices, normals, faces)[:, None]
    return shade(normals @ camera.rotation.T, albedo).astype(np.float32)


def _painted(
    raster: Raster,
    faces: Int[np.ndarray, "F 3"],
    texture: UInt8[np.ndarray, "T S 3"],
    uv: Float[np.ndarray, "V 2"],
) -> Float[np.ndarray, "N 3"]:
    """Linear RGB of the pixels that see the mesh, from its texture."""
    size = np.array(texture.shape[1::-1])
    where = np.full((*raster.face.shape, 2), -2.0, np.float32)
    where[raster.face >= 0] = interpolate(raster, faces, (uv * [1.0, -1.0] + [0.0, 1.0]) * size) - 0.5
    sampled = cv2.remap(texture, where, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)  # type: ignore
    return _linear(sampled[raster.face >= 0])


def _side(points: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"], raster: Raster) -> Float[np.ndarray, " N"]:
    """1 at pixels that see the outside of the surface, `_INSIDE` at those that see its inner side."""
    return np.where(_outside(points, faces), 1.0, _INSIDE).astype(np.float32)[raster.face[raster.face >= 0]]


def _outside(points: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"]) -> Bool[np.ndarray, " F"]:
    """Whether a face shows its outside: counter-clockwise seen from there; the image's y axis points down."""
    a, b, c = (points[faces[:, k], :2] for k in range(3))
    return (b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0] < 0


def _cavity(
    vertices: Float[np.ndarray, "V 3"], normals: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"]
) -> Float[np.ndarray, " V"]:
    """0.55..1.1: hollows darker, ridges lighter, from how far the neighbours' mean lies above each vertex."""
    start, end = faces[:, [0, 1, 2]].ravel(), faces[:, [1, 2, 0]].ravel()
    count = len(vertices)
    number = np.maximum(np.bincount(start, minlength=count), 1)
    step = vertices[end] - vertices[start]
    length = np.bincount(start, np.linalg.norm(step, axis=1), count) / number
    mean = np.stack([np.bincount(start, step[:, k], count) for k in range(3)], 1) / number[:, None]
    bend = (mean * normals).sum(1) / np.maximum(length, 1e-9)
    for _ in range(2):  # a soft look; single vertices should not stand out
        bend = 0.5 * bend + 0.5 * np.bincount(start, bend[end], count) / number
    return np.clip(1.0 - 1.6 * bend, 0.55, 1.1)


def _around(
    points: Float[np.ndarray, "V 2"], width: int, height: int, margin: float
) -> tuple[Float[np.ndarray, "2 3"], tuple[int, int]]:
    """The scale and shift, and the size, of the picture of some image points within a photo."""
    pad = margin * (points.max(0) - points.min(0)).max()
    low = np.clip(np.floor(points.min(0) - pad), 0, [width, height])
    high = np.clip(np.ceil(points.max(0) + pad), 0, [width, height])
    if (high - low).min() < 1:
        raise ValueError(
            f"the mesh lies outside the photo: around {points.mean(0).round().tolist()} of {width}×{height} px"
        )
    side = (high - low).max()
    scale = np.clip(side, SMALLEST_OVERLAY, LARGEST_OVERLAY) / side
    size = np.maximum(np.round((high - low) * scale), 1).astype(int)
    return np.column_stack([np.eye(2) * scale, -scale * low]), (int(size[0]), int(size[1]))


def _wires(
    photo: UInt8[np.ndarray, "H W 3"], vertices: np.ndarray, faces: np.ndarray, camera: Camera, opacity: float
) -> UInt8[np.ndarray, "H W 3"]:
    """The edges of the triangles that are seen, thin and light."""
    points = screen_points(vertices, camera)
    visible = np.unique(rasterise(points, faces, camera.size).face)
    lines = np.round(points[faces[visible[visible >= 0]], :2] * 16 - 8).astype(np.int32)
    drawn = photo.copy()
    cv2.polylines(drawn, list(lines), True, (190, 235, 255), 1, cv2.LINE_AA, 4)
    return cv2.addWeighted(drawn, 0.55 * opacity, photo, 1 - 0.55 * opacity, 0)  # type: ignore[return-value]


def _dots(image: UInt8[np.ndarray, "H W 3"], points: Float[np.ndarray, "L 2"]) -> UInt8[np.ndarray, "H W 3"]:
    """Landmarks as small bright discs with a dark rim."""
    out = np.ascontiguousarray(image)
    radius = max(1.6, max(image.shape[:2]) / 320)
    for x, y in points[np.isfinite(points).all(1)]:
        centre = (round((x - 0.5) * 16), round((y - 0.5) * 16))
        for size, colour in ((radius + 1, _LANDMARK_RIM), (radius, _LANDMARK)):
            cv2.circle(out, centre, round(size * 16), colour, -1, cv2.LINE_AA, 4)
    return out


def contact_sheet(
    images: Sequence[UInt8[np.ndarray, "_ _ 3"]],
    columns: int,
    titles: Sequence[str] | None = None,
    *,
    height: int = 360,
) -> UInt8[np.ndarray, "H W 3"]:
    """Pictures in rows of `columns`, each scaled to the same cell (`height` px high) on white, titles beneath."""
    if not images or columns < 1:
        raise ValueError(f"a contact sheet needs pictures and columns, but has {len(images)} and {columns}")
    if titles is not None and len(titles) != len(images):
        raise ValueError(f"{len(images)} pictures have {len(titles)} titles; give one each")
    width = round(height * float(np.clip(max(i.shape[1] / i.shape[0] for i in images), 0.4, 2.5)))
    gap, line = height // 30 + 2, height // 12 + 8 if titles else 0
    columns = min(columns, len(images))
    rows = ceil(len(images) / columns)
    sheet = Image.new("RGB", (gap + columns * (width + gap), gap + rows * (height + line + gap)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(max(10, height // 20))
    for number, image in enumerate(images):
        left, top = gap + number % columns * (width + gap), gap + number // columns * (height + line + gap)
        scale = min(width / image.shape[1], height / image.shape[0])
        size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
        sheet.paste(Image.fromarray(small), (left + (width - size[0]) // 2, top + (height - size[1]) // 2))
        if titles:
            draw.text((left + width / 2, top + height + line / 2), _plain(titles[number]), "#333333", font, "mm")
    return np.asarray(sheet)


def _plain(title: str) -> str:
    """A title in the letters that Pillow's own font has: accents are dropped."""
    folded = unicodedata.normalize("NFKD", title)
    return "".join(letter for letter in folded if not unicodedata.combining(letter))


def _studio(width: int, height: int) -> Float[np.ndarray, "H W 3"]:
    """A light grey backdrop, brightest behind the head (linear RGB)."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    distance = np.hypot((x / width - 0.5) * 1.1, y / height - 0.42)
    return (0.80 - 0.55 * distance**1.5)[..., None] * np.array([0.985, 0.992, 1.0], np.float32)


_CODES = np.arange(256) / 255
_TO_LINEAR = np.where(_CODES <= 0.04045, _CODES / 12.92, ((_CODES + 0.055) / 1.055) ** 2.4).astype(np.float32)
_STEPS = np.arange(4097) / 4096
_TO_SRGB = np.round(255 * np.where(_STEPS <= 0.0031308, 12.92 * _STEPS, 1.055 * _STEPS ** (1 / 2.4) - 0.055))
_TO_SRGB = _TO_SRGB.astype(np.uint8)


def _linear(srgb: UInt8[np.ndarray, "*b 3"]) -> Float[np.ndarray, "*b 3"]:
    """IEC 61966-2-1, decoded."""
    return _TO_LINEAR[srgb]


def _srgb(linear: Float[np.ndarray, "*b 3"]) -> UInt8[np.ndarray, "*b 3"]:
    """IEC 61966-2-1, encoded (by a table of 4097 steps) and clipped to [0, 1]."""
    return _TO_SRGB[(np.clip(linear, 0.0, 1.0) * 4096 + 0.5).astype(np.int16)]
