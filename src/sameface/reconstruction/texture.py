"""A person's skin: what the photos show of the face, laid out in the model's texture coordinates.

Each texel is a point of the surface. It is looked up in every photo that sees it; the photos are blended, the better
view counting more; what none of them shows comes from the other half of the face, and the little that is left is filled
smoothly. On ears, neck and jaw only skin is believed: what photos show there is often hair, a collar or the background.
The light of the photos stays in the texture.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from sameface.core.camera import Camera, Perspective
from sameface.core.geometry import vertex_normals
from sameface.mesh.raster import Raster, interpolate, rasterise, screen_points
from sameface.morphable import MorphableModel
from sameface.photo.image import crop

__all__ = ["Texture", "texture"]

GRAZING = 0.12
"""cosine between normal and view below which a photo does not count"""
SHARPNESS = 5.0
"""the weight of a view is (cosine beyond grazing) to this power: high, so that photos are not averaged into a blur"""
CLEARANCE = 1.2
"""mm a point may lie behind the nearest surface and still count as seen, plus what one pixel of slope makes"""
OUTLINE = 0.012
"""border along the outline that is left out, as a part of the face's size in the photo"""
DEPTH_SIDE = 640
"""px of the picture in which visibility is judged"""
FAINT = 1e-3
"""blending weight, relative to a frontal view, below which a texel counts as not seen"""

LARGEST_DIFFERENCE = 40.0
"""levels of 255: what light makes between the halves of a face; more is hair or background"""
OTHER_HALF = 0.02
"""weight of the mirrored half, relative to what a photo shows"""
SKIN_SPREAD = 5.0
"""CIELAB units: the least standard deviation of a* and b* over one person's skin"""
DARKEST_SKIN, LIGHTEST_SKIN = 0.55, 1.3
"""L* of skin in shadow and in full light, relative to the face's median"""
INSIDE_OF_MOUTH = (66.0, 30.0, 28.0)
"""sRGB: the model has no teeth and no tongue, so what photos show of them would be smeared over its throat"""


class Texture(NamedTuple):
    """A texture image; row 0 is the upper edge (v = 1)."""

    pixels: UInt8[np.ndarray, "T T 3"]
    seen: Bool[np.ndarray, "T T"]
    """texels that at least one photo shows"""


def texture(
    photos: Sequence[UInt8[np.ndarray, "_ _ 3"]],
    cameras: Sequence[Camera],
    vertices: Sequence[Float[np.ndarray, "V 3"]],
    model: MorphableModel,
    *,
    size: int = 1024,
    quality: Sequence[float] | None = None,
) -> Texture:
    """The sRGB texture (size × size) of a face: for each photo, its camera (photo px) and the face's mesh in it (mm).

    Blended with weights quality · (px per mm)² · (cos − grazing)^SHARPNESS where the z-buffer shows the point to be
    unoccluded; the photos' colours are first brought to those of the best one by a gain per channel.
    """
    quality = [1.0] * len(photos) if quality is None else quality
    if not len(photos) == len(cameras) == len(vertices) == len(quality) or not len(photos):
        counts = f"{len(photos)}, {len(cameras)}, {len(vertices)} and {len(quality)}"
        raise ValueError(f"a texture needs as many photos, cameras, meshes and qualities, but there are {counts}")
    atlas = _atlas(model, size)
    layers = [_layer(p, c, v, model, atlas) for p, c, v in zip(photos, cameras, vertices, strict=True)]
    finest = max(layer.scale for layer in layers)
    weights = [q * (one.scale / finest) ** 2 * one.weight for q, one in zip(quality, layers, strict=True)]
    colour, weight = _blended([layer.colour for layer in layers], weights)
    weight = np.maximum(weight - FAINT * weight.max(), 0)  # no step at the border
    seen = weight > 0
    if not seen.any():
        raise ValueError("no photo shows any of the face: check that cameras and meshes belong to these photos")
    if atlas.mirrored is not None:
        colour, weight = _with_other_half(colour, weight, atlas.mirrored)
    colour = _filled(colour, weight > 0, atlas)
    return Texture(np.clip(np.round(colour), 0, 255).astype(np.uint8), seen)


class _Atlas(NamedTuple):
    """Where each texel lies on the model."""

    raster: Raster
    charted: Bool[np.ndarray, "T T"]
    mirrored: Float[np.ndarray, "T T 2"] | None
    """texel coordinates (OpenCV's: the first texel's centre is 0) of the point's mirror image; -2 outside the charts"""
    cheeks: Bool[np.ndarray, "T T"]
    """where a face shows its skin, to learn its colour from"""
    bare: Bool[np.ndarray, "T T"]
    """ears, neck and jaw, where nothing but skin is believed"""
    throat: Bool[np.ndarray, "T T"]
    """the inside of the mouth, behind the lips"""


class _Layer(NamedTuple):
    """One photo in texture space."""

    colour: Float[np.ndarray, "T T 3"]
    """0..255 sRGB"""
    weight: Float[np.ndarray, "T T"]
    """0..1, by angle; 0 where the photo does not see the point"""
    scale: float
    """px per mm"""


@lru_cache(maxsize=2)
def _atlas(model: MorphableModel, size: int) -> _Atlas:
    """The texels of a model, once per model and size."""
    if model.uv is None:
        raise ValueError(f"{model.name} has no texture coordinates (uv), so it cannot carry a texture")
    texels = (model.uv * [1.0, -1.0] + [0.0, 1.0]) * size
    raster = rasterise(np.column_stack([texels, np.zeros(len(texels))]), model.faces, (size, size))
    charted = raster.face >= 0
    zones = []
    for flags in _zones(model):
        zones.append(np.zeros((size, size), bool))
        zones[-1][charted] = interpolate(raster, model.faces, flags[:, None].astype(np.float32))[:, 0] > 0.5
    if model.mirror is None:
        return _Atlas(raster, charted, None, *zones)
    mirrored = np.full((size, size, 2), -2.0, np.float32)
    mirrored[charted] = interpolate(raster, model.faces, texels[model.mirror]) - 0.5
    return _Atlas(raster, charted, mirrored, *zones)


def _zones(model: MorphableModel) -> tuple[Bool[np.ndarray, " V"], ...]:
    """Flags for `cheeks`, `bare` and `throat`; all false for a model that does not name its regions."""
    if not {"face", "skin", "sockets", "forehead", "mouth", "eyes"} <= model.regions.keys():
        return (np.zeros(model.n_vertices, bool),) * 3
    named, points = model.regions, model.landmarks(model.mean)
    height, depth = model.mean[:, 1], model.mean[:, 2]
    brows, chin, lips = points[17:27, 1].max(), points[8, 1], points[48:68]
    cheeks = named["face"] & ~(named["forehead"] | named["mouth"] | named["eyes"]) & (height > chin)
    bare = named["skin"] & (height < brows) & (~named["face"] | (height < chin - 8))
    throat = named["sockets"] & (height < lips[:, 1].max() + 15) & (depth < lips[:, 2].min() - 5)
    return cheeks, bare, throat


def _layer(
    photo: UInt8[np.ndarray, "H W 3"],
    camera: Camera,
    vertices: Float[np.ndarray, "V 3"],
    model: MorphableModel,
    atlas: _Atlas,
) -> _Layer:
    """What one photo shows of each texel."""
    size = len(atlas.charted)
    photo, camera = _cut(photo, camera, vertices, 1.5 * size)
    points = screen_points(vertices, camera)
    cosine = _cosine(vertices, model, camera)
    texels = interpolate(atlas.raster, model.faces, np.column_stack([points, cosine]))
    x, y, cosine = texels[:, 0], texels[:, 1], texels[:, 3]
    scale = _scale(points, camera)
    inside = (x > 0.5) & (y > 0.5) & (x < photo.shape[1] - 0.5) & (y < photo.shape[0] - 0.5)
    seen = inside & (cosine > GRAZING) & _unoccluded(texels, points, model, camera, scale)
    weight = np.zeros((size, size), np.float32)
    weight[atlas.charted] = np.where(seen, np.maximum(cosine - GRAZING, 0) / (1 - GRAZING), 0) ** SHARPNESS
    where = np.full((size, size, 2), -2.0, np.float32)
    where[atlas.charted] = texels[:, :2] - 0.5
    colour = cv2.remap(photo, where, None, cv2.INTER_LINEAR).astype(np.float32)  # type: ignore[call-overload]
    weight[atlas.bare & ~_like_skin(colour, weight, atlas)] = 0
    return _Layer(colour, _softened(weight), scale)


def _like_skin(
    colour: Float[np.ndarray, "T T 3"], weight: Float[np.ndarray, "T T"], atlas: _Atlas
) -> Bool[np.ndarray, "T T"]:
    """Where a photo's colour could be this person's skin: within three robust σ of the cheeks' a*, b*, as light."""
    known = atlas.cheeks & (weight > 0.05)
    if known.sum() < 100:
        return np.ones(known.shape, bool)
    lab = cv2.cvtColor(colour / np.float32(255), cv2.COLOR_RGB2LAB)
    middle = np.median(lab[known], axis=0)
    spread = np.maximum(1.48 * np.median(np.abs(lab[known] - middle), axis=0), SKIN_SPREAD)
    hue = (((lab - middle) / spread)[..., 1:] ** 2).sum(-1)
    light = lab[..., 0] / max(float(middle[0]), 1.0)
    like = (hue < 9) & (light > DARKEST_SKIN) & (light < LIGHTEST_SKIN)
    without_specks = cv2.morphologyEx(like.astype(np.uint8), cv2.MORPH_OPEN, _disc(len(like) / 128))
    return cv2.erode(without_specks, _disc(len(like) / 170)) > 0


def _cut(
    photo: UInt8[np.ndarray, "H W 3"], camera: Camera, vertices: Float[np.ndarray, "V 3"], largest: float
) -> tuple[UInt8[np.ndarray, "h w 3"], Camera]:
    """The part of the photo with the face, no finer than the texture can hold, and its camera."""
    points = screen_points(vertices, camera)[:, :2]
    low = np.clip(np.floor(points.min(0)) - 2, 0, photo.shape[1::-1])
    high = np.clip(np.ceil(points.max(0)) + 2, 0, photo.shape[1::-1])
    side = (high - low).max()
    if (high - low).min() < 2:
        raise ValueError(f"the mesh lies outside its photo of {photo.shape[1]}×{photo.shape[0]} px")
    scale = min(1.0, largest / side)
    affine = np.column_stack([np.eye(2) * scale, -scale * low])
    width, height = np.maximum(np.round((high - low) * scale), 2).astype(int).tolist()
    return crop(photo, affine, (width, height)), camera.warped(affine, (width, height))


def _cosine(vertices: Float[np.ndarray, "V 3"], model: MorphableModel, camera: Camera) -> Float[np.ndarray, " V"]:
    """Cosine between each vertex's normal and the direction to the viewer."""
    normals = vertex_normals(vertices, model.faces) @ camera.rotation.T
    if not isinstance(camera, Perspective):
        return -normals[:, 2]
    seen = camera.in_camera(vertices)
    return -(normals * seen).sum(1) / np.linalg.norm(seen, axis=1)


def _scale(points: Float[np.ndarray, "V 3"], camera: Camera) -> float:
    """Pixels per mm at the face."""
    return float(camera.focal / np.median(points[:, 2])) if isinstance(camera, Perspective) else float(camera.scale)


def _unoccluded(
    texels: Float[np.ndarray, "N 4"],
    points: Float[np.ndarray, "V 3"],
    model: MorphableModel,
    camera: Camera,
    scale: float,
) -> Bool[np.ndarray, " N"]:
    """Whether nothing of the mesh lies in front of each texel (x px, y px, z mm, cosine).

    The nearest depth is taken over a pixel and its neighbours, so that no colour is taken right at an occluding edge;
    at the outline, where a mesh that fits imperfectly shows the background, a wider border is left out.
    """
    shrink = min(1.0, DEPTH_SIDE / max(camera.size))
    size = max(1, round(camera.size[0] * shrink)), max(1, round(camera.size[1] * shrink))
    depth = rasterise(points * [shrink, shrink, 1.0], model.faces, size).depth
    background = cv2.dilate(np.isinf(depth).astype(np.uint8), _disc(OUTLINE * max(size)))
    nearest = np.where(background > 0, -np.inf, cv2.erode(depth, np.ones((3, 3), np.uint8)))
    column = np.clip(texels[:, 0] * shrink, 0, size[0] - 1).astype(int)
    row = np.clip(texels[:, 1] * shrink, 0, size[1] - 1).astype(int)
    cosine = np.clip(texels[:, 3], GRAZING, 1.0)
    slope = np.sqrt(1 - cosine**2) / cosine
    return texels[:, 2] < nearest[row, column] + CLEARANCE + 2.2 * slope / (scale * shrink)


def _disc(radius: float) -> UInt8[np.ndarray, "K K"]:
    """A filter mask of at least 3 × 3."""
    side = 2 * max(1, round(radius)) + 1
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))  # type: ignore[return-value]


def _softened(weight: Float[np.ndarray, "T T"]) -> Float[np.ndarray, "T T"]:
    """Weights that fall smoothly to zero towards occluded texels, and are zero there and in specks between them."""
    width = max(3, len(weight) // 40) | 1
    seen = cv2.morphologyEx((weight > 0).astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    distance = cv2.distanceTransform(seen, cv2.DIST_L2, 3)
    return weight * np.clip(distance / width, 0.0, 1.0) ** 2


def _blended(
    colours: list[Float[np.ndarray, "T T 3"]], weights: list[Float[np.ndarray, "T T"]]
) -> tuple[Float[np.ndarray, "T T 3"], Float[np.ndarray, "T T"]]:
    """Σ w c / Σ w over photos, after a gain per photo and channel that brings it to the one that counts most."""
    best = int(np.argmax([w.sum() for w in weights]))
    total, sum_of_weights = np.zeros_like(colours[0]), np.zeros_like(weights[0])
    for colour, weight in zip(colours, weights, strict=True):
        shared = np.minimum(weight, weights[best])
        gain = np.ones(3)
        if (shared > FAINT).mean() > 0.01:  # too small an overlap says nothing about the light
            mean, target = ((c * shared[..., None]).sum((0, 1)) for c in (colour, colours[best]))
            gain = np.clip((target + 1e-6) / (mean + 1e-6), 0.5, 2.0)
        total += weight[..., None] * (colour * gain.astype(np.float32))
        sum_of_weights += weight
    return total / np.maximum(sum_of_weights, 1e-12)[..., None], sum_of_weights


def _with_other_half(
    colour: Float[np.ndarray, "T T 3"], weight: Float[np.ndarray, "T T"], mirrored: Float[np.ndarray, "T T 2"]
) -> tuple[Float[np.ndarray, "T T 3"], Float[np.ndarray, "T T"]]:
    """Fill what is not seen from the mirrored point, shifted by the smooth difference between the halves.

    The light differs from one side to the other. Where both sides are seen their difference is known; continued
    smoothly into the unseen part, it makes the border between seen and mirrored skin invisible.
    """
    other = cv2.remap(colour, mirrored, None, cv2.INTER_LINEAR)  # type: ignore[call-overload]
    other_weight = cv2.remap(weight, mirrored, None, cv2.INTER_LINEAR)  # type: ignore[call-overload]
    other_weight[cv2.remap((weight > 0).astype(np.float32), mirrored, None, cv2.INTER_LINEAR) < 0.999] = 0  # type: ignore
    both = np.sqrt(weight * other_weight)
    if not both.any():
        difference = np.zeros_like(colour)
    else:
        blur = max(3, len(weight) // 24) | 1
        spread = cv2.blur(both, (blur, blur))[..., None]
        difference = cv2.blur((colour - other) * both[..., None], (blur, blur)) / np.maximum(spread, 1e-9)
        difference = np.clip(difference, -LARGEST_DIFFERENCE, LARGEST_DIFFERENCE)
        difference = _pushed_and_pulled(difference, (spread[..., 0] > 1e-6).astype(np.float32))
    own, theirs = weight[..., None], OTHER_HALF * other_weight[..., None]
    mixed = (own * colour + theirs * np.clip(other + difference, 0, 255)) / np.maximum(own + theirs, 1e-12)
    return mixed.astype(np.float32), weight + theirs[..., 0]


def _filled(
    colour: Float[np.ndarray, "T T 3"], known: Bool[np.ndarray, "T T"], atlas: _Atlas
) -> Float[np.ndarray, "T T 3"]:
    """Every texel: the unknown goes on smoothly from its surroundings, skin from skin; the mouth is dark inside."""
    colour = np.where(atlas.throat[..., None], np.array(INSIDE_OF_MOUTH, np.float32), colour)
    known = known | atlas.throat
    out = _pushed_and_pulled(colour, known.astype(np.float32))
    skin = known & (atlas.bare | atlas.cheeks)
    if not skin.any() or not atlas.bare.any():
        return out
    from_skin = _pushed_and_pulled(colour, skin.astype(np.float32))
    blur = (max(3, len(known) // 32) | 1,) * 2
    share = cv2.blur((atlas.bare & ~known).astype(np.float32), blur) * ~known
    out = out + share[..., None] * (from_skin - out)
    half = cv2.blur(known.astype(np.float32), blur)  # and a soft border of what was seen of ears and neck
    share = 4 * half * (1 - half) * cv2.blur(atlas.bare.astype(np.float32), blur)
    return out + share[..., None] * (cv2.GaussianBlur(out, (0, 0), blur[0] / 2) - out)


def _pushed_and_pulled(
    values: Float[np.ndarray, "T S 3"], weight: Float[np.ndarray, "T S"]
) -> Float[np.ndarray, "T S 3"]:
    """Values where the weight is 1, continued smoothly to where it is 0 (push-pull: means of ever coarser levels)."""
    if min(weight.shape) == 1 or weight.min() >= 1:
        mean = (values * weight[..., None]).sum((0, 1)) / max(float(weight.sum()), 1e-12)
        return np.where(weight[..., None] > 0, values, mean).astype(np.float32)
    half = (weight.shape[1] + 1) // 2, (weight.shape[0] + 1) // 2
    small_weight = cv2.resize(weight, half, interpolation=cv2.INTER_AREA)
    small = cv2.resize(values * weight[..., None], half, interpolation=cv2.INTER_AREA)
    small = small / np.maximum(small_weight, 1e-12)[..., None]
    coarse = _pushed_and_pulled(small, np.minimum(small_weight * 4, 1).astype(np.float32))
    fine = cv2.resize(coarse, weight.shape[::-1], interpolation=cv2.INTER_LINEAR)
    return (weight[..., None] * values + (1 - weight[..., None]) * fine).astype(np.float32)
