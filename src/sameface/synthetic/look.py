"""What synthetic people look like besides their shape: skin, eyes, hair, clothes, and what stands behind them.

Skin is a linear model of sRGB-like albedo learnt from photos (assets/albedo.npz; `tools/albedo_model.py` says how,
and what it does not contain). Hair, neck and shoulders are plain shapes that hide where the model ends: they belong to
no morphable model, and no truth is claimed for them but that they are what was drawn.
"""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float, Int, UInt8

from sameface.core.arrays import Record
from sameface.core.errors import BadModel
from sameface.core.npz import read_npz
from sameface.mesh.raster import interpolate, rasterise
from sameface.morphable import LARGEST_FILE, MorphableModel

__all__ = ["Extras", "Haircut", "Skin", "atlas", "background", "extras", "fitted", "haircut", "load_skin"]

GAMMA = 2.2
"""albedo = (mean + Σ modes)^GAMMA"""
STRIP = 0.5
"""height of the strip with hair and cloth below the skin in a person's texture, as a part of the skin's height"""
HAIR = np.array([
    [0.010, 0.008, 0.007], [0.016, 0.011, 0.008], [0.030, 0.018, 0.011], [0.055, 0.030, 0.016], [0.11, 0.062, 0.030],
    [0.22, 0.14, 0.070], [0.14, 0.045, 0.018], [0.26, 0.25, 0.24], [0.013, 0.010, 0.009],
])  # fmt: skip
"""linear RGB of hair: from black to brown, fair, red, grey"""
IRIS = np.array([
    [0.045, 0.022, 0.010], [0.022, 0.012, 0.007], [0.08, 0.045, 0.018], [0.07, 0.085, 0.045], [0.09, 0.13, 0.18],
])  # fmt: skip
IRIS_RADIUS, PUPIL_RADIUS = 6.0, (1.6, 2.8)
"""mm"""
LATITUDES, LONGITUDES = 40, 72
SKULL = np.array([0.0, 48.0, -55.0])
"""middle of the average skull, mm"""
HAIRLINE = {
    "short": ((0, 25, 48, 70, 84, 96, 122, 135, 180), (112, 110, 98, 62, 36, 54, 46, -5, -30)),
    "full": ((0, 25, 48, 70, 84, 96, 122, 135, 180), (112, 109, 92, 52, 18, 5, 0, -30, -40)),
}
"""degrees from the front, and mm above the origin where hair begins there"""
ROOT = 4.0
"""mm above the hairline where painted hair becomes a shape of its own"""


class Haircut(NamedTuple):
    """How somebody wears their hair."""

    style: str
    """shaved, short, full or long"""
    lift: float
    """mm above the skull"""
    line: Float[np.ndarray, "2 K"]
    """see HAIRLINE"""
    parting: float
    """how much lower the fringe hangs on one side, mm per mm"""
    density: float
    """0: skin, 1: hair"""

    def above(self, points: Float[np.ndarray, "*N 3"]) -> Float[np.ndarray, "*N"]:
        """How far points of the average head are above the hairline, mm."""
        x, y, z = np.moveaxis(points - SKULL, -1, 0)
        around = np.abs(np.degrees(np.arctan2(x, z)))
        return y + SKULL[1] - np.interp(around, *self.line) + self.parting * np.clip(x, -45, 45) * (around < 60)


def haircut(rng: np.random.Generator) -> Haircut:
    """Somebody's hair: shaved off or bald, short, full, or long; with a fringe or without."""
    style = str(rng.choice(["shaved", "short", "full", "long"], p=[0.10, 0.40, 0.22, 0.28]))
    line = np.array(HAIRLINE["short" if style in ("short", "shaved") else "full"], float)
    line[1] += rng.normal(0, 2, line.shape[1])
    line[1, :3] += rng.uniform(-12, 8) - (rng.uniform(12, 26) if style != "shaved" and rng.random() < 0.3 else 0)
    line[1, 2:4] += rng.uniform(-4, 10)
    return Haircut(
        style=style,
        lift={"shaved": -2.0, "short": 5.0, "full": 12.0, "long": 9.0}[style] + rng.uniform(0, 5),
        line=line,
        parting=float(rng.choice([-0.25, 0.25])) if rng.random() < 0.3 else 0.0,
        density=float(rng.uniform(0, 0.6)) if style == "shaved" else 1.0,
    )


@dataclass(frozen=True, eq=False, repr=False)
class Skin(Record):
    """albedo = clip(mean + Σ_k c_k modes_k, 0, 1)^GAMMA, linear RGB, of one half; the other is its mirror image."""

    mean: Float[np.ndarray, "T U 3"]
    modes: Float[np.ndarray, "A T U 3"]
    """per standard deviation"""
    rest: Float[np.ndarray, "T U"]
    """standard deviation of what no mode explains"""
    lights: Float[np.ndarray, "L 9 3"]
    """spherical harmonics of the shading fitted to photos, in `render.sh_basis`'s order, in the camera's axes"""
    about: dict

    @property
    def n_albedo(self) -> int:
        """A, the number of albedo coefficients."""
        return len(self.modes)

    def albedo(
        self, coefficients: Float[np.ndarray, " A"], rng: np.random.Generator | None = None
    ) -> Float[np.ndarray, "T T 3"]:
        """Linear RGB in [0, 1], row 0 at the top (v = 1); with `rng`, also fine grain that is nobody's."""
        half = self.mean + np.tensordot(coefficients.astype(np.float32), self.modes, 1)
        whole = np.concatenate([half, half[:, ::-1]], axis=1)
        if rng is not None:
            side = len(whole)
            grain = sum(weight * cv2.resize(rng.normal(size=(side // k, side // k)).astype(np.float32), (side, side),
                        interpolation=cv2.INTER_CUBIC) for k, weight in ((1, 0.35), (3, 0.35), (12, 0.3)))  # fmt: skip
            whole = whole + 0.45 * (np.concatenate([self.rest, self.rest[:, ::-1]], axis=1) * grain)[..., None]
        return np.clip(whole, 0.02, 1).astype(np.float32) ** GAMMA


def load_skin(path: Path | None = None) -> Skin:
    """The skin that ships with the package, or another file of the same kind. Raises BadModel for any other file."""
    return _skin(path or Path(__file__).parent.parent / "assets" / "albedo.npz")


@cache
def _skin(path: Path) -> Skin:
    try:
        file = read_npz(path, LARGEST_FILE, error=BadModel)
        arrays = {name: file[name].astype(np.float32) for name in ("mean", "modes", "rest", "lights")}
        about = json.loads(file["about"].tobytes())
    except (ValueError, KeyError) as error:
        raise BadModel(f"{path} is no albedo model ({error}); make one with tools/albedo_model.py") from None
    return Skin(**arrays, about=about)


# ── the texture of a person ────────────────────────────────────────────────────────────────────────────────


class _Painted(NamedTuple):
    """Texels (T × T) that are painted and not learnt."""

    charted: np.ndarray
    eyes: np.ndarray
    """mm from the axis of the eye; −1 outside the eyeballs"""
    lids: np.ndarray
    """mm above the axis of the eye"""
    places: np.ndarray
    """mm: where on the average head"""
    ears: np.ndarray
    """1 on ears"""
    sockets: np.ndarray
    """1 in the sockets of the eyes"""
    throat: np.ndarray
    """1 inside the mouth"""


@cache
def _painted(model: MorphableModel, side: int) -> _Painted:
    assert model.uv is not None
    texels = (model.uv * [1.0, -1.0] + [0.0, 1.0]) * side
    raster = rasterise(np.column_stack([texels, np.zeros(len(texels))]), model.faces, (side, side))
    charted, nothing = raster.face >= 0, np.zeros(model.n_vertices, bool)
    balls, sockets = (model.regions.get(name, nothing) for name in ("eyeballs", "sockets"))
    axis, lids = np.zeros((model.n_vertices, 1), np.float32), np.zeros(model.n_vertices, np.float32)
    for mine in (balls & (model.mean[:, 0] > 0), balls & (model.mean[:, 0] <= 0)):
        if mine.any():
            front = model.mean[mine][model.mean[mine, 2].argmax()]
            axis[mine, 0] = np.linalg.norm((model.mean[mine] - front)[:, :2], axis=1)
            lids[mine] = (model.mean[mine] - front)[:, 1]
    low = model.mean[:, 1] < model.landmarks(model.mean)[33, 1]

    def image(values: np.ndarray) -> np.ndarray:
        out = np.zeros((side, side), np.float32)
        out[charted] = interpolate(raster, model.faces, values.reshape(-1, 1).astype(np.float32))[:, 0]
        return out

    eyes = np.where(image(balls) > 0.5, image(axis), -1.0)
    reach = max(1, side // 48)
    grown = cv2.dilate(eyes, np.ones((2 * reach + 1,) * 2, np.uint8))  # bilinear lookups reach over the border
    eyes = np.where((eyes < 0) & ~charted, grown, eyes)
    places = np.stack([image(model.mean[:, k]) for k in range(3)], -1)
    _, nearest = cv2.distanceTransformWithLabels(
        (~charted).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    places = places[charted][np.searchsorted(np.unique(nearest[charted]), nearest)]
    return _Painted(
        charted, eyes, image(lids), places, image(model.regions.get("ears", nothing)), image(sockets & ~low),
        image(sockets & low),
    )  # fmt: skip


def atlas(
    model: MorphableModel, skin: Skin, coefficients: Float[np.ndarray, " A"], hair: Haircut, rng: np.random.Generator
) -> Float[np.ndarray, "3 H T"]:
    """A person's texture, linear RGB: skin, eyes, mouth, roots of hair above, hair (left) and cloth (right) below."""
    face = skin.albedo(coefficients, rng)
    side, painted = len(face), _painted(model, len(face))
    tone = float(skin.albedo(coefficients).mean())
    strip = int(side * STRIP)
    own = _hair(rng, strip, side // 2, tone)
    if "neck" in model.regions:
        face, own = _dressed(face, own, painted, hair, rng)
    face *= 1 - 0.55 * painted.sockets[..., None] * np.array([0.7, 1.0, 1.0], np.float32)
    throat = painted.throat[..., None]
    face = face * (1 - throat) + throat * np.array([0.045, 0.012, 0.010], np.float32)
    eye = painted.eyes
    iris = IRIS[rng.choice(len(IRIS), p=[0.35, 0.3, 0.15, 0.1, 0.1] if tone > 0.2 else [0.4, 0.6, 0, 0, 0])]
    iris = iris * np.exp(rng.normal(0, 0.15, 3))
    pupil = rng.uniform(*PUPIL_RADIUS)
    white = np.array([0.50, 0.45, 0.42]) * rng.uniform(0.75, 1.0) * (1 - 0.6 * np.clip((eye[..., None] - 6) / 6, 0, 1))
    inside = np.clip((IRIS_RADIUS - eye) / 0.8, 0, 1)[..., None]
    rim = np.clip(1.15 - 0.6 * (eye / IRIS_RADIUS) ** 4, 0.3, 1)[..., None]
    ball = white + inside * (iris * rim - white)
    ball = ball + np.clip((pupil - eye) / 0.8, 0, 1)[..., None] * (0.004 - ball)
    ball = ball * (1 - 0.6 * np.clip((painted.lids[..., None] - 1.5) / 5, 0, 1))  # the shadow of the upper lid
    face = np.where(eye[..., None] >= 0, ball, face)
    below = np.concatenate([own, _cloth(rng, strip, side - side // 2)], axis=1)
    return np.concatenate([face, below]).transpose(2, 0, 1).astype(np.float32)


def _dressed(
    face: np.ndarray, own: np.ndarray, painted: _Painted, hair: Haircut, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Skin with roots of hair above the hairline and an even neck, and the hair as dense as it is."""
    places, side = painted.places, len(face)
    x, y, z = np.moveaxis(places, -1, 0)
    cheeks = face[painted.charted & (y > -70) & (y < 15) & (np.abs(x) > 30) & (z > -45)].mean(0)
    low = 1 / (1 + np.exp((y + 84) / 5))[..., None]
    face = face * (1 - low) + low * 0.72 * cheeks
    scalp = 0.85 * cheeks
    own = scalp + hair.density * (own - scalp)
    roots = cv2.resize(own.astype(np.float32), (side, side), interpolation=cv2.INTER_AREA)
    strands = cv2.resize(rng.normal(size=(side // 8, side)).astype(np.float32), (side, side))
    soft = 2.0 if hair.density == 1 else 5.0
    amount = 1 / (1 + np.exp(-(hair.above(places) + 3 * strands) / soft))
    amount = (amount * (1 - painted.ears))[..., None]
    return (face + amount * (roots - face)).astype(np.float32), own


def _hair(rng: np.random.Generator, height: int, width: int, tone: float) -> np.ndarray:
    """Strands along the columns: from the crown (row 0) down."""
    dark = rng.random() < 0.85 if tone < 0.12 else rng.random() < 0.35
    colour = HAIR[rng.integers(3) if dark else rng.integers(len(HAIR))] * np.exp(rng.normal(0, 0.15))
    fine = (
        rng.normal(size=(height // 12 + 2, width))
        + 0.7 * np.repeat(rng.normal(size=(height // 12 + 2, width // 4 + 1)), 4, 1)[:, :width]
    )
    strands = cv2.resize(fine.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    return colour * np.exp(0.38 * strands)[..., None]


def _cloth(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """One colour with a weave, sometimes stripes."""
    colour = rng.uniform(0.01, 0.6) * np.clip(1 + rng.normal(0, 0.35, 3), 0.2, 2)
    out = np.tile(colour, (height, width, 1)) * np.exp(0.06 * rng.normal(size=(height, width, 1)))
    if rng.random() < 0.3:
        row = np.sin(np.arange(height) * rng.uniform(0.3, 1.2)) > 0
        out[row] *= rng.uniform(0.3, 1.8)
    return np.clip(out, 0.004, 0.9)


# ── shapes that hide where the model ends ──────────────────────────────────────────────────────────────────


class Extras(NamedTuple):
    """A mesh around the average head."""

    vertices: Float[np.ndarray, "V 3"]
    faces: Int[np.ndarray, "F 3"]
    uv: Float[np.ndarray, "V 2"]
    """in the strip: u < ½ hair, u > ½ cloth; v from 0 (bottom) to 1; a negative u: the skin's texel at (−u, v)"""


def extras(model: MorphableModel, hair: Haircut, rng: np.random.Generator) -> Extras | None:
    """Hair, the back of the head, neck and shoulders of somebody; None for models without a neck to hide."""
    if not {"skin", "neck", "ears"} <= model.regions.keys():
        return None
    parts = [_body(rng), _scalp(hair, rng)]
    if hair.style == "long":
        length = rng.uniform(80, 170)
        centre = np.array([0.0, 60 - length, -100 + rng.uniform(-5, 15)])
        parts.append(_ellipsoid(centre, np.array([86 + hair.lift, length + 55, 62]), rng, 0.05))
    counts = np.cumsum([0] + [len(p.vertices) for p in parts[:-1]])
    return Extras(
        np.concatenate([p.vertices for p in parts]).astype(np.float32),
        np.concatenate([p.faces + n for p, n in zip(parts, counts, strict=True)]).astype(np.int32),
        np.concatenate([p.uv for p in parts]).astype(np.float32),
    )


def _grid(rows: int, columns: int) -> Int[np.ndarray, "F 3"]:
    """Triangles of a tube of rows × columns vertices, closed around; outside is to the left of going down."""
    i, j = np.meshgrid(np.arange(rows - 1), np.arange(columns), indexing="ij")
    a, b = (i * columns + j).ravel(), (i * columns + (j + 1) % columns).ravel()
    return np.concatenate([np.stack([a, a + columns, b], 1), np.stack([b, a + columns, b + columns], 1)])


def _ellipsoid(centre: np.ndarray, radii: np.ndarray, rng: np.random.Generator, rough: float) -> Extras:
    """A wavy ellipsoid of hair; longitude 0 is the front."""
    latitude, longitude = np.linspace(0.02, np.pi - 0.02, LATITUDES), np.arange(LONGITUDES) * 2 * np.pi / LONGITUDES
    t, p = np.meshgrid(latitude, longitude, indexing="ij")
    small = rng.normal(size=(5, 8))
    wave = cv2.resize(
        np.hstack([small, small[:, :1]]).astype(np.float32), (LONGITUDES, LATITUDES), interpolation=cv2.INTER_CUBIC
    )
    r = 1 + rough * wave
    direction = np.stack([np.sin(t) * np.sin(p), np.cos(t), np.sin(t) * np.cos(p)], -1)
    vertices = centre + radii * direction * r[..., None]
    fold = np.abs(((p / (2 * np.pi) * 2) % 2) - 1)  # there and back, so that the texture has no seam
    uv = np.stack([0.01 + 0.48 * fold, 1 - t / np.pi], -1)
    return Extras(vertices.reshape(-1, 3), _grid(LATITUDES, LONGITUDES), uv.reshape(-1, 2))


def _scalp(hair: Haircut, rng: np.random.Generator) -> Extras:
    """An ellipsoid around the skull, deeper behind than before, that comes out of the skin above the hairline."""
    lift = hair.lift
    shell = _ellipsoid(
        np.zeros(3), np.array([79 + lift, 86 + lift, 71 + lift]), rng, 0.0 if hair.style == "shaved" else 0.018
    )
    vertices = shell.vertices.copy()
    vertices[:, 2] *= np.where(vertices[:, 2] < 0, (113 + lift) / (71 + lift), 1)
    height = hair.above(vertices + SKULL) - ROOT
    vertices *= (0.6 + 0.4 / (1 + np.exp(-height / 4.0)))[:, None]
    return shell._replace(vertices=vertices + SKULL)


def _body(rng: np.random.Generator) -> Extras:
    """Neck and shoulders: ellipses on top of each other (y, half width, half depth, z of the middle; mm)."""
    rings = np.array([
        [-5, 46, 26, -98], [-55, 48, 33, -93], [-100, 52, 39, -88], [-116, 55, 41, -87], [-124, 57, 42, -87],
        [-128, 61, 46, -87], [-134, 76, 52, -88], [-142, 112, 60, -90], [-152, 146, 68, -92], [-170, 176, 80, -94],
        [-200, 192, 90, -95], [-280, 200, 95, -95],
    ], float)  # fmt: skip
    rings[4:, 0] += rng.uniform(-2, 8)
    rings[6:, 1] *= rng.uniform(0.85, 1.08)
    columns = 40
    turn = np.arange(columns) * 2 * np.pi / columns
    y, wide, deep, back = (rings[:, k, None] for k in range(4))
    vertices = np.stack([wide * np.sin(turn), y + 0 * turn, back + deep * np.cos(turn)], -1)
    opening = rng.uniform(0, 26)  # of a collar, at the front
    dip = np.clip(np.cos(turn), 0, 1) ** 3 * opening
    vertices[4:7, :, 1] -= dip * np.array([[1.0], [0.9], [0.6]])
    uv = np.stack(
        [0.51 + 0.48 * np.abs(((turn / np.pi) % 2) - 1) + 0 * y, np.clip((y + 290) / 300, 0, 1) + 0 * turn], -1
    )
    uv[:4] = [-0.5, 0.13]  # skin of the throat
    return Extras(vertices.reshape(-1, 3), _grid(len(rings), columns), uv.reshape(-1, 2))


def fitted(extra: Float[np.ndarray, "V 3"], neutral: Float[np.ndarray, "W 3"], model: MorphableModel) -> np.ndarray:
    """The shapes brought from the average head to one of another size: stretched along x, y, z as its box is."""
    skull = model.regions["skin"] & ~model.regions["ears"]
    low, high = model.mean[skull].min(0), model.mean[skull].max(0)
    to_low, to_high = neutral[skull].min(0), neutral[skull].max(0)
    low[2], to_low[2] = (v[skull][:, 2].min() for v in (model.mean, neutral))
    return (to_low + (extra - low) * (to_high - to_low) / (high - low)).astype(np.float32)


# ── what stands behind ─────────────────────────────────────────────────────────────────────────────────────


def background(
    size: int, rng: np.random.Generator, photo: UInt8[np.ndarray, "H W 3"] | None = None
) -> Float[np.ndarray, "S S 3"]:
    """sRGB 0..255: part of a photo, or a gradient, blurred patches and noise, out of focus as behind portraits."""
    if photo is not None:
        side = int(min(photo.shape[:2]) * rng.uniform(0.4, 1.0))
        y, x = (int(rng.integers(0, n - side + 1)) for n in photo.shape[:2])
        part = cv2.resize(photo[y : y + side, x : x + side], (size, size), interpolation=cv2.INTER_AREA)
        return part.astype(np.float32)
    base = np.clip(rng.uniform(20, 235) + rng.normal(0, 9, 3), 0, 255)
    corners = np.clip(base + rng.normal(0, 30, (2, 2, 1)) + rng.normal(0, 4, (2, 2, 3)), 0, 255).astype(np.float32)
    out = cv2.resize(corners, (size, size), interpolation=cv2.INTER_LINEAR)
    kind = rng.random()
    if kind < 0.75:
        for cells in (3, 7, 17):
            noise = rng.normal(0, rng.uniform(2, 22), (cells, cells, 1)) + rng.normal(0, 2.5, (cells, cells, 3))
            out = out + cv2.resize(noise.astype(np.float32), (size, size), interpolation=cv2.INTER_CUBIC)
    if kind < 0.45:
        for _ in range(int(rng.integers(2, 9))):
            colour = np.clip(base + rng.normal(0, 45) + rng.normal(0, 20, 3), 0, 255).tolist()
            a, b = rng.integers(-size // 4, size * 5 // 4, (2, 2)).tolist()
            if rng.random() < 0.6:
                cv2.rectangle(out, a, b, colour, -1)
            else:
                cv2.circle(out, a, int(rng.integers(size // 16, size // 3)), colour, -1)
    return np.clip(cv2.GaussianBlur(out, (0, 0), size * rng.uniform(0.006, 0.06)), 0, 255)
