"""Textures: a known skin is painted on a dome, photographed, and has to come back."""

from dataclasses import replace

import numpy as np
import pytest

from sameface.core.camera import Camera, Perspective, WeakPerspective
from sameface.core.geometry import rotation_from_euler
from sameface.mesh.raster import interpolate, rasterise, screen_points
from sameface.morphable import MorphableModel
from sameface.reconstruction.texture import texture

SIDE = 41
SIZE = 128


@pytest.fixture(scope="module")
def dome() -> MorphableModel:
    """Half an ellipsoid, 120 × 140 × 70 mm, its uv the frontal view of a margin around it."""
    y, x = np.mgrid[1 : -1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    radius = np.maximum(np.abs(x), np.abs(y))
    length = np.maximum(np.hypot(x, y), 1e-9)
    x, y = x * radius / length, y * radius / length  # the square becomes a disc
    mean = np.stack([60 * x, 70 * y, 70 * np.sqrt(np.maximum(1 - x**2 - y**2, 0))], -1).reshape(-1, 3)
    index = np.arange(SIDE**2).reshape(SIDE, SIDE)
    a, b, c, d = (index[r, s].ravel() for r in (slice(-1), slice(1, None)) for s in (slice(-1), slice(1, None)))
    faces = np.concatenate([np.stack([a, c, b], 1), np.stack([b, c, d], 1)])
    return MorphableModel(
        name="dome", licence="none", mean=mean.astype(np.float32),
        identity_basis=np.zeros((SIDE**2, 3, 1), np.float32), expression_basis=np.zeros((SIDE**2, 3, 1), np.float32),
        faces=faces, landmark_faces=np.zeros(68, int), landmark_weights=np.zeros((68, 3)), expression_names=("none",),
        mirror=index[:, ::-1].ravel(), uv=(0.45 * np.stack([x, y], -1).reshape(-1, 2) + 0.5).astype(np.float32),
    )  # fmt: skip


def skin(uv: np.ndarray, *, symmetric: bool = False) -> np.ndarray:
    """The painted colour at texture coordinates (..., 2), 0..255."""
    u, v = (np.abs(uv[..., 0] - 0.5) if symmetric else uv[..., 0]), uv[..., 1]
    return np.stack([60 + 150 * u, 90 + 100 * v, 128 + 60 * np.sin(9 * u) * np.cos(7 * v)], -1)


def texel_skin(size: int = SIZE, *, symmetric: bool = False) -> np.ndarray:
    row, column = (np.mgrid[0:size, 0:size] + 0.5) / size
    return skin(np.stack([column, 1 - row], -1), symmetric=symmetric)


def photographed(model: MorphableModel, camera: Camera, *, gain: float = 1.0, symmetric: bool = False) -> np.ndarray:
    """A photo of the painted mesh without any light, pixel by pixel; magenta behind it."""
    raster = rasterise(screen_points(model.mean, camera), model.faces, camera.size)
    image = np.full((camera.size[1], camera.size[0], 3), (255, 0, 255), float)
    image[raster.face >= 0] = skin(interpolate(raster, model.faces, model.uv), symmetric=symmetric) * gain
    return np.clip(np.round(image), 0, 255).astype(np.uint8)


def turned(yaw: float, scale: float = 2.0) -> WeakPerspective:
    rotation = rotation_from_euler(np.array(0.0), np.array(yaw), np.array(0.0))
    return WeakPerspective(rotation, np.array([200.0, 160.0]), np.array(scale), (400, 320))


def errors(found: np.ndarray, where: np.ndarray, **kind: bool) -> np.ndarray:
    return np.abs(found.astype(float) - texel_skin(len(found), **kind))[where].max(-1)


def distance_from_middle() -> np.ndarray:
    row, column = (np.mgrid[0:SIZE, 0:SIZE] + 0.5) / SIZE - 0.5
    return np.hypot(row, column) / 0.45


def test_what_one_photo_shows_comes_back(dome):
    pixels, seen = texture([photographed(dome, turned(0.0))], [turned(0.0)], [dome.mean], dome, size=SIZE)
    assert seen[distance_from_middle() < 0.9].all()
    assert not seen[distance_from_middle() > 1.02].any()
    assert np.quantile(errors(pixels, seen), 0.99) < 2.5
    assert errors(pixels, seen).mean() < 1


def test_three_photos_show_all_of_it_in_one_light(dome):
    """The side views are taken brighter and darker: their gains are found."""
    cameras = [turned(yaw) for yaw in (0.0, 0.9, -0.9)]
    photos = [photographed(dome, c, gain=g) for c, g in zip(cameras, (1.0, 1.15, 0.85), strict=True)]
    pixels, seen = texture(photos, cameras, [dome.mean] * 3, dome, size=SIZE)
    assert seen[distance_from_middle() < 0.97].mean() > 0.98
    assert np.quantile(errors(pixels, seen & (distance_from_middle() < 0.95)), 0.98) < 8


def test_what_no_photo_shows_comes_from_the_other_half(dome):
    camera = turned(1.0)
    photo = photographed(dome, camera, symmetric=True)
    pixels, seen = texture([photo], [camera], [dome.mean], dome, size=SIZE)
    hidden = ~seen & (distance_from_middle() < 0.9)
    assert 0.05 < hidden.mean() < 0.4
    assert np.quantile(errors(pixels, hidden, symmetric=True), 0.95) < 6


def test_no_colour_of_the_background_bleeds_in(dome):
    camera = turned(0.7)
    pixels, _ = texture([photographed(dome, camera)], [camera], [dome.mean], dome, size=SIZE)
    magenta = (pixels[..., 0] > 240) & (pixels[..., 1] < 40)
    assert not magenta.any()
    assert pixels.min() > 20  # and beyond the charts the skin goes on


def test_occluded_skin_is_not_seen(dome):
    """A second, smaller dome floats before the first: its colour must not be painted on what it hides."""
    vertices = np.concatenate([dome.mean, dome.mean * 0.3 + np.array([0, 0, 100], np.float32)])
    uv = np.concatenate([dome.uv, dome.uv * 0 + 0.001])
    faces = np.concatenate([dome.faces, dome.faces + len(dome.mean)])
    modes = np.zeros((len(vertices), 3, 1), np.float32)
    changes = {"mean": vertices, "faces": faces, "uv": uv, "identity_basis": modes, "expression_basis": modes}
    both = replace(dome, **changes, mirror=None)
    _, seen = texture([photographed(both, turned(0.0))], [turned(0.0)], [vertices], both, size=SIZE)
    assert not seen[distance_from_middle() < 0.28].any()
    assert seen[(distance_from_middle() > 0.4) & (distance_from_middle() < 0.85)].all()


def named(dome: MorphableModel) -> MorphableModel:
    """The dome with a face in its middle, bare skin below it, and a throat behind the face's lower part."""
    x, y, _ = dome.mean.T / 70
    face, lips = np.hypot(x, y) < 0.5, np.hypot(x, y + 0.3) < 0.1
    regions = {name: np.zeros(len(dome.mean), bool) for name in ("forehead", "mouth", "eyes")}
    regions |= {"face": face & ~lips, "skin": ~lips, "sockets": lips}
    at = [(0.3, -0.3, 30.0)] * 68  # (faces at) the landmarks: brows at half height, the chin below the face
    at[8], at[17:27] = (0, -0.55, 0), [(0, 0.6, 0)] * 10
    middle = dome.mean[dome.faces].mean(1) / 70
    nearest = [np.hypot(*(middle[:, :2] - p[:2]).T).argmin() for p in at]
    weights = np.full((68, 3), 1 / 3, np.float32)
    mean = np.where(lips[:, None], dome.mean - [0, 0, 30], dome.mean).astype(np.float32)
    return replace(dome, mean=mean, regions=regions, landmark_faces=np.array(nearest), landmark_weights=weights)


def test_hair_and_collars_are_not_painted_on_bare_skin(dome):
    model, camera = named(dome), turned(0.0)
    pink = np.full((320, 400, 3), (224, 172, 150), np.uint8)
    pink[:150] = (30, 160, 30)  # hair, in its own right above the brows
    pink[230:] = (20, 20, 25)  # a collar
    pixels, _ = texture([pink], [camera], [model.mean], model, size=SIZE)
    row, column = np.mgrid[0:SIZE, 0:SIZE] / SIZE - 0.5
    below = (row > 0.25) & (np.hypot(row, column) < 0.42)
    assert np.abs(pixels[below].astype(int) - (224, 172, 150)).max() < 45  # the collar is 200 away
    above = (row < -0.33) & (np.hypot(row, column) < 0.42)
    assert np.abs(pixels[above].astype(int) - (30, 160, 30)).max() < 25


def test_the_mouth_is_dark_inside(dome):
    model, camera = named(dome), turned(0.0)
    pixels, _ = texture([np.full((320, 400, 3), 200, np.uint8)], [camera], [model.mean], model, size=SIZE)
    row, column = np.mgrid[0:SIZE, 0:SIZE] / SIZE - 0.5
    inside = np.hypot(row - 0.3 * 0.45, column) < 0.03
    np.testing.assert_array_equal(pixels[inside], np.broadcast_to((66, 30, 28), (inside.sum(), 3)))


def test_quality_and_resolution_decide_who_counts(dome):
    cameras = [turned(0.0), turned(0.0)]
    dark, light = photographed(dome, cameras[0], gain=0.4), photographed(dome, cameras[0])  # beyond what gains mend
    pixels, seen = texture([dark, light], cameras, [dome.mean] * 2, dome, size=SIZE, quality=[0.01, 1.0])
    assert errors(pixels, seen).mean() < 3
    sharp = turned(0.0, 4.0)
    sharp = sharp.warped(np.array([[1.0, 0, 100], [0, 1.0, 100]]), (800, 640))
    pixels, seen = texture([dark, photographed(dome, sharp)], [cameras[0], sharp], [dome.mean] * 2, dome, size=SIZE)
    assert errors(pixels, seen).mean() < 20


def test_perspective_cameras_and_large_photos(dome):
    rotation = rotation_from_euler(np.array(0.1), np.array(0.3), np.array(0.2))
    camera = Perspective(
        rotation, np.array([5.0, -8.0, 500.0]), np.array(4000.0), np.array([900.0, 800.0]), (1800, 1600)
    )
    photo = photographed(dome, camera, symmetric=True)  # at grazing angles the other half is trusted more
    pixels, seen = texture([photo], [camera], [dome.mean], dome, size=SIZE)
    assert seen[distance_from_middle() < 0.6].all()
    assert np.quantile(errors(pixels, seen, symmetric=True), 0.98) < 4


def test_what_is_missing_is_said(dome):
    photo, camera = photographed(dome, turned(0.0)), turned(0.0)
    with pytest.raises(ValueError, match="as many photos, cameras, meshes and qualities, but there are 1, 1, 2 and 1"):
        texture([photo], [camera], [dome.mean] * 2, dome)
    with pytest.raises(ValueError, match="but there are 0, 0, 0 and 0"):
        texture([], [], [], dome)
    bare = replace(dome, uv=None)
    with pytest.raises(ValueError, match="dome has no texture coordinates"):
        texture([photo], [camera], [dome.mean], bare)
    away = WeakPerspective(camera.rotation, np.array([9000.0, 0.0]), camera.scale, camera.size)
    with pytest.raises(ValueError, match="the mesh lies outside its photo of 400×320 px"):
        texture([photo], [away], [dome.mean], dome)
    behind = turned(np.pi)
    with pytest.raises(ValueError, match="no photo shows any of the face"):
        texture([photo], [behind], [dome.mean], dome)
