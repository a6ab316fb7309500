"""Faces to test with: two public photos, faces rendered from our model, and observations made from it."""

import io
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
import skimage.data
from PIL import Image

from sameface.core.camera import Camera, Perspective, WeakPerspective
from sameface.core.geometry import rotation_from_euler
from sameface.morphable import default
from sameface.photo.face import Observation
from sameface.photo.observe import points_of
from sameface.photo.predictor import load
from sameface.reconstruction import picture

GRACE = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
FOCAL_35MM = 0xA405


@cache
def astronaut() -> np.ndarray:
    """(260, 240, 3): the head of scikit-image's astronaut; her face is about 100 px large."""
    return np.ascontiguousarray(skimage.data.astronaut()[:260, 100:340])


@cache
def two_people() -> np.ndarray:
    """Both photos side by side; the right face is the larger one."""
    right = np.asarray(Image.open(GRACE))[60:400, 100:440]
    left = np.full((340, 240, 3), 200, np.uint8)
    left[:260] = astronaut()
    return np.concatenate([left, right], axis=1)


def scenery(width: int = 320, height: int = 240) -> np.ndarray:
    """A photo without a face."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([90 + 60 * x / width, 120 + 50 * y / height, 140 + 0 * x], -1).astype(np.uint8)


def encoded(pixels: np.ndarray, kind: str = "PNG", *, focal_35mm: float = 0, **options: object) -> bytes:
    """The bytes of a picture file, with an EXIF focal length if one is given."""
    image, out = Image.fromarray(pixels), io.BytesIO()
    if focal_35mm:
        exif = Image.Exif()
        exif.get_ifd(0x8769)[FOCAL_35MM] = int(focal_35mm)
        options["exif"] = exif
    image.save(out, kind, **options)
    return out.getvalue()


def person(seed: int) -> np.ndarray:
    """The identity of somebody who looks unlike others."""
    return 1.5 * np.random.default_rng(seed).normal(size=default().n_identity)


@cache
def rendered(seed: int, yaw: float = 0.0, size: tuple[int, int] = (320, 320)) -> np.ndarray:
    """A clay photo of `person(seed)`."""
    middle, scale = np.array(size) / 2, 1.1 * min(size) / 320
    camera = WeakPerspective(turned(yaw), middle, np.array(scale), size)
    return picture.render(default().vertices(person(seed)), default().faces, camera)


def turned(yaw: float, pitch: float = 0.0) -> np.ndarray:
    return rotation_from_euler(np.array(pitch), np.array(yaw), np.array(0.0))


def seen_by(
    camera: Camera, identity: np.ndarray, *, name: str, focal: float | None = None, quality: float = 0.8,
    expression: np.ndarray | None = None, sigma: float = 0.4,
) -> Observation:  # fmt: skip
    """What a perfect network would say of a face in a photo, but that it knows only the average face."""
    points, model = points_of(load("default")), default()
    expression = np.zeros(model.n_expression) if expression is None else expression
    landmarks = camera.project(points(identity[None], expression[None])[0])
    rough = camera
    if isinstance(camera, Perspective):
        scale = camera.focal / camera.translation[2]
        rough = WeakPerspective(camera.rotation, scale * camera.translation[:2] + camera.center, scale, camera.size)
    low, high = landmarks.min(0), landmarks.max(0)
    return Observation(
        photo=name, size=camera.size, focal=focal, box=np.concatenate([low, high]), score=0.9, landmarks=landmarks,
        sigma=np.full(len(landmarks), sigma), identity=np.zeros(model.n_identity), expression=expression, camera=rough,
        quality=quality, picture=np.full((60, 50, 3), 170, np.uint8),
        to_picture=np.array([[0.2, 0, -0.2 * low[0] + 5], [0, 0.2, -0.2 * low[1] + 5]]),
    )  # fmt: skip


def from_far(yaw: float = 0.0, size: tuple[int, int] = (640, 480), scale: float = 1.5) -> WeakPerspective:
    return WeakPerspective(turned(yaw, 0.1 * yaw), np.array(size) / 2 + [20.0, -10.0], np.array(scale), size)


def from_near(
    yaw: float = 0.0, size: tuple[int, int] = (640, 480), focal: float = 700.0, distance: float = 450.0
) -> Perspective:
    return Perspective(
        turned(yaw, 0.1 * yaw), np.array([25.0, -10.0, distance]), np.array(focal), np.array(size) / 2, size
    )


def two_photos() -> list[Observation]:
    """Of one person: one of a known focal length, one not, smiling."""
    smile = np.zeros(51)
    smile[3:5] = 0.6
    return [
        seen_by(from_near(0.3), person(0), name="a.jpg", focal=700.0),
        seen_by(from_far(-0.3, (800, 600)), person(0), name="b.jpg", expression=smile),
    ]
