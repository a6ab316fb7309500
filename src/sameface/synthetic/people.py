"""People who do not exist, with exact truth: drawn from a morphable model and a model of skin, lit and rendered.

    people = draw(morphable.default(), load_skin(), 10, np.random.default_rng(0))
    head = prepare(people, 3)
    view = look_at(head, np.random.default_rng(1), size=160)
    picture = render(head, view)                       # image, depth, normals, albedo, landmarks, what is visible

`files.write` puts many on disk, for the data set `synthetic`.
Identity and albedo are N(0, 1), cut at 2.5 σ; expressions are a few blendshapes that people use together, and a gaze.
Cameras are pinhole cameras: real lenses on 36 × 24 mm, distances from 30 cm to 3 m, the head anywhere in the frame, and
the picture is the part of the frame around the face, so its principal point is mostly not its middle. Light is one of
the lights fitted to photos (spherical harmonics) and up to two lamps. docs/synthetic.md says what is not like people.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch.nn.functional import avg_pool2d

from sameface.core.arrays import Record
from sameface.core.camera import Perspective
from sameface.core.geometry import rotation_from_axis_angle, rotation_from_euler
from sameface.mesh import render as renderer
from sameface.morphable import MorphableModel
from sameface.photo.augment import augmented
from sameface.synthetic.look import GAMMA, Extras, Skin, atlas, background, extras, fitted, haircut

__all__ = ["Head", "People", "Picture", "View", "draw", "look_at", "prepare", "render"]

CUT = 2.5
"""coefficients beyond this many σ are drawn again"""
LENSES = np.array([24.0, 26.0, 28.0, 35.0, 50.0, 70.0, 85.0, 105.0, 135.0])
"""mm on a frame of 36 × 24 mm: phones, zooms and portrait lenses"""
NEAR, FAR = 300.0, 3000.0
"""mm between camera and face"""
FINE = 2
"""the picture is drawn so many times larger and averaged"""
LEAST_DEPTH = 60.0
"""mm: nothing of a person is nearer to the camera"""
SKIN_SHINE = 0.035
EYE_SHINE = 0.28
"""of the reflection of the brightest direction in an eye, as a part of the light's first coefficient"""
LUMINANCE = np.array([0.2126, 0.7152, 0.0722])
TOGETHER = (
    ("mouthSmileLeft", "mouthSmileRight", "cheekSquintLeft", "cheekSquintRight"),
    ("mouthSmileLeft", "mouthSmileRight", "jawOpen", "mouthUpperUpLeft", "mouthUpperUpRight"),
    ("browInnerUp", "browOuterUpLeft", "browOuterUpRight", "jawOpen", "eyeWideLeft", "eyeWideRight"),
    ("browDownLeft", "browDownRight", "noseSneerLeft", "noseSneerRight", "mouthPressLeft", "mouthPressRight"),
    ("browInnerUp", "mouthFrownLeft", "mouthFrownRight", "mouthShrugLower"),
    ("eyeSquintLeft", "eyeSquintRight", "cheekSquintLeft", "cheekSquintRight"),
    ("mouthPucker", "mouthFunnel"), ("jawOpen", "mouthFunnel"), ("jawOpen",), ("eyeBlinkLeft", "eyeBlinkRight"),
    ("cheekPuff",), ("mouthLeft", "mouthDimpleLeft"), ("mouthRight", "mouthDimpleRight"),
)  # fmt: skip
"""blendshapes of ARKit that faces show at once"""
GAZE = {"Up": ("Up", "Up"), "Down": ("Down", "Down"), "left": ("Out", "In"), "right": ("In", "Out")}
"""directions of both eyes: what the left eye and what the right eye does"""


@dataclass(frozen=True, eq=False, repr=False)
class People(Record):
    """N people."""

    identity: Float[np.ndarray, "N S"]
    albedo: Float[np.ndarray, "N A"]
    appearance: Int[np.ndarray, " N"]
    """what eyes, hair and clothes are drawn from"""
    model: MorphableModel
    skin: Skin


class Head(NamedTuple):
    """One of the people, ready to be rendered."""

    people: People
    index: int
    texture: Float[torch.Tensor, "1 3 H T"]
    faces: Int[np.ndarray, "F 3"]
    uv: Float[torch.Tensor, "V 2"]
    extra: Extras | None
    """hair and body, fitted to this head"""


@dataclass(frozen=True, eq=False, repr=False)
class View(Record):
    """What one photo shows of a person, and how."""

    expression: Float[np.ndarray, " E"]
    camera: Perspective
    light: Float[np.ndarray, "9 3"]
    """spherical harmonics of the shading, in the camera's axes"""
    lamps: Float[np.ndarray, "L 3"]
    """mm, in the camera's axes"""
    lamp_colours: Float[np.ndarray, "L 3"]
    """linear RGB, see `render.point_lights`"""
    seed: int
    """of the background and of what the camera does to the picture"""


class Picture(NamedTuple):
    """A rendered photo and its truth; maps are of what is at the centre of each pixel."""

    image: UInt8[np.ndarray, "S S 3"]
    depth: Float[np.ndarray, "S S"]
    """mm along the optical axis; 0 for the background"""
    normals: Float[np.ndarray, "S S 3"]
    """unit, in the camera's axes; zero for the background"""
    albedo: Float[np.ndarray, "S S 3"]
    """linear RGB"""
    face: Bool[np.ndarray, "S S"]
    """which pixels show the morphable model, not hair or clothes"""
    landmarks68: Float[np.ndarray, "68 2"]
    """px"""
    visible68: Bool[np.ndarray, " 68"]
    """in the picture, and behind nothing of the person; occluders that the camera noise adds do not count"""


# ── drawing ────────────────────────────────────────────────────────────────────────────────────────────────


def draw(model: MorphableModel, skin: Skin, count: int, rng: np.random.Generator) -> People:
    """`count` people: identity and albedo from N(0, 1), each coefficient within 2.5 σ.

    Raises ValueError for a model without texture coordinates in the layout of the skin.
    """
    if model.uv is None:
        raise ValueError(f"{model.name} has no texture coordinates (uv), so it cannot carry a skin; `default()` can")
    return People(
        identity=_normal(rng, count, model.n_identity),
        albedo=_normal(rng, count, skin.n_albedo),
        appearance=rng.integers(0, 2**32, count),
        model=model,
        skin=skin,
    )


def _normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """N(0, 1) cut at ±CUT."""
    out = rng.normal(size=shape)
    while (far := np.abs(out) > CUT).any():
        out[far] = rng.normal(size=int(far.sum()))
    return out.astype(np.float32)


def prepare(people: People, index: int) -> Head:
    """One person's texture and mesh."""
    rng, model = np.random.default_rng(int(people.appearance[index])), people.model
    hair = haircut(rng)
    texture = atlas(model, people.skin, people.albedo[index], hair, rng)
    strip = 1 - texture.shape[2] / texture.shape[1]
    assert model.uv is not None
    uv, faces = model.uv * [1, 1 - strip] + [0, strip], model.faces
    extra = extras(model, hair, rng)
    if extra is not None:
        skinned = extra.uv[:, :1] < 0
        own = np.abs(extra.uv)
        uv = np.concatenate([uv, np.where(skinned, own * [1, 1 - strip] + [0, strip], own * [1, strip * 0.96])])
        faces = np.concatenate([faces, extra.faces + model.n_vertices])
        neutral = model.vertices(people.identity[index])
        extra = extra._replace(vertices=fitted(extra.vertices, neutral, model))
    return Head(people, index, torch.from_numpy(texture)[None], faces, torch.from_numpy(uv.astype(np.float32)), extra)


def look_at(head: Head, rng: np.random.Generator, size: int = 160) -> View:
    """A photo of `size` px to take: expression, pose, camera, light."""
    expression = _expression(head.people.model, rng)
    points = _vertices(head, expression)
    camera = _camera(head, points, size, rng)
    lights = head.people.skin.lights
    light = lights[rng.integers(len(lights))].copy()
    if rng.random() < 0.5:
        light[[3, 4, 7]] *= -1  # x, xy, xz: the light from the other side
    light = _balanced(light, rng) * np.exp(rng.normal(0, 0.12))
    lamps = int(rng.choice(3, p=[0.5, 0.35, 0.15]))
    around = camera.translation + np.array([500.0, 400.0, 350.0]) * rng.normal(size=(lamps, 3)) + [0, -250, -550]
    warm = np.clip(np.array([1.0, 0.9, 0.75]) + rng.normal(0, 0.05, (lamps, 3)), 0.2, 1.3)
    distance = np.linalg.norm(around - camera.translation, axis=1, keepdims=True) / 1000
    return View(
        expression=expression,
        camera=camera,
        light=(light * (0.8 if lamps else 1.0)).astype(np.float32),
        lamps=around.astype(np.float32),
        lamp_colours=(warm * rng.uniform(0.1, 0.7, (lamps, 1)) * distance**2).astype(np.float32),
        seed=int(rng.integers(2**32)),
    )


def _balanced(light: Float[np.ndarray, "9 3"], rng: np.random.Generator) -> Float[np.ndarray, "9 3"]:
    """A light with the colour that a camera's white balance leaves: some warmth, hardly any green or magenta.

    Fitted lights hold the photo's light as far as it is no skin, which nobody can tell apart; a fifth of it is kept.
    """
    grey = (light @ LUMINANCE)[:, None]
    light = grey + 0.2 * (light - grey)
    warmth, green = rng.normal(0.04, 0.09), rng.normal(0, 0.025)
    return light * np.exp([warmth, green, -warmth])


def _expression(model: MorphableModel, rng: np.random.Generator) -> Float[np.ndarray, " E"]:
    """Blendshapes that go together, a few at random, and a gaze; other models' coefficients are drawn one by one."""
    low, high = model.expression_range
    names = {name: k for k, name in enumerate(model.expression_names)}
    out = np.zeros(model.n_expression, np.float32)
    if (low, high) != (0.0, 1.0):
        return np.clip(rng.normal(0, 0.7, model.n_expression), low, high).astype(np.float32)
    chosen = [n for n in TOGETHER[rng.integers(len(TOGETHER))] if n in names]
    if rng.random() < 0.7:
        strength = rng.uniform(0.15, 0.9)
        for name in chosen:
            out[names[name]] = strength * rng.uniform(0.6, 1.0) * (0.5 if name == "jawOpen" else 1.0)
    for k in rng.choice(model.n_expression, min(3, model.n_expression), replace=False)[: rng.integers(4)]:
        out[k] = max(float(out[k]), rng.uniform(0, 0.35))
    across, along = GAZE[("left", "right")[rng.integers(2)]], GAZE[("Up", "Down")[rng.integers(2)]]
    for (left, right), how in ((across, rng.uniform(0, 0.5) ** 1.5), (along, rng.uniform(0, 0.4) ** 1.5)):
        for name in (f"eyeLook{left}Left", f"eyeLook{right}Right"):
            if name in names:
                out[names[name]] = how
    return np.clip(out, low, high)


def _camera(head: Head, points: np.ndarray, size: int, rng: np.random.Generator) -> Perspective:
    """A pinhole camera: f and the principal point from where the face is in the frame and how much of it is cut out."""
    wide = rng.random() < 0.35
    yaw = rng.uniform(-1.3, 1.3) if wide else rng.normal(0, 0.4)
    angles = np.clip([rng.normal(0, 0.18), yaw, rng.normal(0, 0.14)], -1.35, 1.35)
    rotation = rotation_from_euler(*(np.array(a) for a in angles))
    model = head.people.model
    landmarks = model.landmarks(points[: model.n_vertices].astype(np.float32))
    distance = np.exp(rng.uniform(np.log(NEAR), np.log(FAR)))
    distance = max(distance, LEAST_DEPTH - float((points @ rotation.T)[:, 2].min()) * 1.15)
    extent = 1.6 * np.ptp(landmarks, axis=0).max() / distance  # of the cut-out, in a picture with f = 1
    fits = LENSES[24 / LENSES > extent]
    lens = float(rng.choice(fits)) if len(fits) else LENSES[0]
    room = np.maximum((np.array([36.0, 24.0]) / lens - extent) / 2, 0)
    away = np.clip(np.tan(0.35) * np.clip(rng.normal(0, 0.4, 2), -1, 1), -room, room)
    ray = np.array([*away, 1.0]) / np.linalg.norm([*away, 1.0])
    axis = np.cross([0, 0, 1], ray)
    norm = np.linalg.norm(axis)
    turn = rotation_from_axis_angle(axis / max(norm, 1e-12) * np.arcsin(min(norm, 1.0)))
    rotation, translation = turn @ rotation, distance * ray
    seen = landmarks @ rotation.T + translation
    flat = seen[:, :2] / seen[:, 2:]
    low, high = flat.min(0), flat.max(0)
    margin = rng.uniform(1.3, 1.75)
    focal = size / (margin * (high - low).max())
    shift = rng.uniform(-0.4, 0.4, 2) * size * (1 - 1 / margin) / 2 - [0, 0.02 * size]
    center = size / 2 + shift - focal * (low + high) / 2
    return Perspective(rotation, translation, np.array(focal), center, (size, size))


# ── rendering ──────────────────────────────────────────────────────────────────────────────────────────────


def _vertices(head: Head, expression: Float[np.ndarray, " E"]) -> Float[np.ndarray, "V 3"]:
    """The model's vertices, then hair and body."""
    own = head.people.model.vertices(head.people.identity[head.index], expression)
    return own if head.extra is None else np.concatenate([own, head.extra.vertices])


@torch.no_grad()
def render(
    head: Head, view: View, *, camera_noise: bool = True, photo: UInt8[np.ndarray, "_ _ 3"] | None = None
) -> Picture:
    """The person as seen: drawn twice as fine and averaged, in front of a background (part of `photo`, if given).

    Colour = (albedo · (SH shading + lamps) + lamps' shine)^(1/2.2). Without `camera_noise` the picture stays as it is;
    with it, blur, noise, JPEG, colour casts and occluders come over it as `augment.augmented` draws them.
    """
    rng, size = np.random.default_rng(view.seed), view.camera.size[0]
    points = _vertices(head, view.expression)
    seen = torch.from_numpy(view.camera.in_camera(points).astype(np.float32))[None]
    screen = torch.from_numpy(view.camera.project(points).astype(np.float32))[None]
    faces = torch.from_numpy(head.faces)
    normals = renderer.vertex_normals(seen, faces)
    marked = _marked(head.people.model, len(points))[None, :, None]
    values = torch.cat([normals, head.uv[None], marked, seen], 2)
    colour, cover = _coloured(head, view, values, screen, seen, faces)
    behind = background(size, rng, photo)
    lit = 255 * np.clip(colour, 0, 1) ** (1 / GAMMA)
    image = np.clip(np.round(behind + cover[..., None] * (lit - behind)), 0, 255).astype(np.uint8)
    if camera_noise and rng.random() < 0.6:
        image = augmented(image, rng)
    fragments = renderer.rasterise(
        torch.cat([screen, seen[..., 2:]], 2), faces, (size, size), perspective=True, cull=True
    )
    maps = renderer.interpolate(values[..., :6], fragments)
    depth = torch.where(fragments.mask, fragments.depth, 0)[0].numpy()
    normal = torch.nn.functional.normalize(maps[:, :3], dim=1)[0].permute(1, 2, 0).numpy()
    albedo = (renderer.sample_texture(head.texture, maps[:, 3:5]) * fragments.mask[:, None])[0].permute(1, 2, 0).numpy()
    model = head.people.model
    own = points[: model.n_vertices].astype(np.float32)
    landmarks = model.landmarks(own)
    visible = _visible(head, view.camera, landmarks, normals[0].numpy(), depth)
    flat = view.camera.project(landmarks).astype(np.float32)
    return Picture(image, depth, normal, albedo, maps[0, 5].numpy() > 0.5, flat, visible)


def _marked(model: MorphableModel, vertices: int) -> Float[torch.Tensor, " V"]:
    """2 on eyes, 1 on the rest of the morphable model, 0 on hair and body."""
    out = (torch.arange(vertices) < model.n_vertices).float()
    if "eyeballs" in model.regions:
        out[: model.n_vertices] += torch.from_numpy(model.regions["eyeballs"]).float()
    return out


def _coloured(
    head: Head, view: View, values: torch.Tensor, screen: torch.Tensor, seen: torch.Tensor, faces: torch.Tensor
) -> tuple[np.ndarray, np.ndarray]:
    """Linear RGB (S, S, 3) of the person, and which part of each pixel the person covers (S, S)."""
    size = view.camera.size[0]
    fine = torch.cat([screen * FINE, seen[..., 2:]], 2)
    fragments = renderer.rasterise(fine, faces, (size * FINE, size * FINE), perspective=True, cull=True)
    flat = (
        fragments.weight[..., None] * values[0].index_select(0, fragments.corner.reshape(-1)).reshape(-1, 3, 9)
    ).sum(1)
    normal = torch.nn.functional.normalize(flat[:, :3], dim=1)[None]
    albedo = renderer.sample_texture(head.texture, flat[None, :, 3:5].transpose(1, 2)[..., None])[0, :, :, 0].T[None]
    light = torch.from_numpy(view.light)[None]
    shade = renderer.sh_shading(normal, light)
    shade = torch.maximum(shade, 0.12 * 0.282 * light[:, :1].clamp_min(0))
    position = flat[None, :, 6:]
    colour = albedo * shade
    if len(view.lamps):
        lamps, strength = torch.from_numpy(view.lamps)[None], torch.from_numpy(view.lamp_colours)[None]
        colour = colour + albedo * renderer.point_lights(position, normal, lamps, strength)
        half = torch.nn.functional.normalize(lamps[:, :, None] - position[:, None], dim=3)
        half = torch.nn.functional.normalize(half - torch.nn.functional.normalize(position, dim=2)[:, None], dim=3)
        shine = ((half * normal[:, None]).sum(3).clamp_min(0) ** 24).transpose(1, 2) @ strength
        colour = colour + SKIN_SHINE * flat[None, :, 5:6].clamp_max(1) * shine
    grey = light[0] @ torch.from_numpy(LUMINANCE.astype(np.float32))
    sun = torch.nn.functional.normalize(grey[[3, 1, 2]] + torch.tensor([0.0, -0.3, -0.6]) * grey[0].abs(), dim=0)
    half = torch.nn.functional.normalize(sun - torch.nn.functional.normalize(position, dim=2), dim=2)
    glint = (half * normal).sum(2, keepdim=True).clamp_min(0) ** 150 * (flat[None, :, 5:6] - 1).clamp_min(0)
    colour = colour + EYE_SHINE * glint * light[:, :1].clamp_min(0)
    image = torch.zeros(size * FINE * size * FINE, 4)
    image[fragments.pixel] = torch.cat([colour[0].clamp(0, 4), torch.ones(len(flat), 1)], 1)
    small = (
        avg_pool2d(image.reshape(1, size * FINE, size * FINE, 4).permute(0, 3, 1, 2), FINE)[0].permute(1, 2, 0).numpy()
    )
    return small[..., :3] / np.maximum(small[..., 3:], 1e-6), small[..., 3]


def _visible(
    head: Head, camera: Perspective, landmarks: np.ndarray, normals: np.ndarray, depth: np.ndarray
) -> Bool[np.ndarray, " 68"]:
    """In the picture, on skin that is turned to the viewer, and not 4 mm behind what the pixels around show."""
    model, size = head.people.model, len(depth)
    seen, flat = camera.in_camera(landmarks), camera.project(landmarks)
    corners = normals[model.faces[model.landmark_faces]]
    towards = -((corners * model.landmark_weights[..., None]).sum(1) * seen).sum(1) > 0
    inside = ((flat >= 0) & (flat < size)).all(1)
    padded = np.pad(np.where(depth > 0, depth, np.nan), 1, constant_values=np.nan)
    column, row = np.clip(np.floor(flat), 0, size - 1).astype(int).T
    around = np.stack([padded[row + i, column + j] for i in range(3) for j in range(3)])
    nearest = np.where(np.isnan(around).all(0), np.inf, np.nanmax(np.where(np.isnan(around), -1, around), axis=0))
    return inside & towards & (seen[:, 2] < nearest + 4)
