"""Photos changed by a known change of identity: points go where the model says, and nothing else happens."""

import cv2
import numpy as np
import pytest

from sameface.core.camera import Perspective, WeakPerspective
from sameface.core.geometry import rotation_from_euler
from sameface.mesh.raster import interpolate, rasterise, screen_points
from sameface.morphable import default
from sameface.synthetic.editing import edited

MODEL = default()
STILL = np.zeros(MODEL.n_expression)
NOBODY = np.zeros(MODEL.n_identity)
SMILE = STILL.copy()
SMILE[[MODEL.expression_names.index(name) for name in ("mouthSmileLeft", "mouthSmileRight", "jawOpen")]] = 0.4
SIZE = (220, 240)


def camera_at(yaw, near=False):
    rotation = rotation_from_euler(np.array(0.1), np.array(np.radians(yaw)), np.array(0.15))
    if near:
        return Perspective(rotation, np.array([10.0, -5, 400]), np.array(360.0), np.array([105.0, 112.0]), SIZE)
    return WeakPerspective(rotation, np.array([110.0, 105.0]), np.array(0.9), SIZE)


def painted(camera, identity, expression):
    """The head without light, every vertex in a colour of its own whatever its shape, over grey."""
    mesh = MODEL.vertices(identity, expression).astype(float)
    raster = rasterise(screen_points(mesh, camera), MODEL.faces, camera.size)
    picture = np.full((*raster.face.shape, 3), 90, np.uint8)
    colours = 255 * (MODEL.mean - MODEL.mean.min(0)) / np.ptp(MODEL.mean, axis=0)
    picture[raster.face >= 0] = np.round(interpolate(raster, MODEL.faces, colours)).astype(np.uint8)
    face = MODEL.regions["face"][MODEL.faces].all(1)
    inner = cv2.erode((face[raster.face] & (raster.face >= 0)).astype(np.uint8), np.ones((7, 7), np.uint8)) > 0
    return picture, inner


def change_of(seed, size=1.0):
    return size * np.random.default_rng(seed).normal(size=MODEL.n_identity)


def smooth(seed):
    picture = cv2.GaussianBlur(np.random.default_rng(seed).normal(size=(SIZE[1], SIZE[0], 3)), (0, 0), 6)
    return np.round(255 * (picture - picture.min()) / np.ptp(picture)).astype(np.uint8)


@pytest.mark.parametrize(("yaw", "near"), [(5, False), (-35, False), (60, False), (10, True), (-40, True)])
def test_the_skin_goes_where_the_model_says(yaw, near):
    """Against a render of the other face, painted alike: what differs is where colours are."""
    camera, change = camera_at(yaw, near), change_of(yaw % 7)
    before, _ = painted(camera, NOBODY, SMILE)
    expected, inner = painted(camera, change, SMILE)
    made = edited(before, camera, NOBODY, SMILE, change, MODEL)
    error, without = (np.abs(one.astype(float) - expected).max(-1)[inner] for one in (made, before))
    assert inner.sum() > 3000
    assert np.median(error) < 1.5
    assert error.mean() < 0.3 * without.mean()


def test_no_change_is_the_photo():
    photo = smooth(0)
    made = edited(photo, camera_at(25), NOBODY, STILL, NOBODY, MODEL)
    assert np.abs(made.astype(float) - photo).max() <= 2


def test_there_and_back_is_the_photo():
    photo, camera, change = smooth(1), camera_at(20), change_of(3, 0.7)
    there = edited(photo, camera, NOBODY, SMILE, change, MODEL)
    back = edited(there, camera, change, SMILE, -change, MODEL)
    _, inner = painted(camera, NOBODY, SMILE)
    away, left = (np.abs(one.astype(float) - photo)[inner] for one in (there, back))
    assert left.mean() < 0.15 * away.mean()


def test_every_pixel_comes_from_the_photo_and_the_frame_stays():
    camera, change = camera_at(0), change_of(5, 2.0)
    grey = np.full((SIZE[1], SIZE[0], 3), 200, np.uint8)
    assert (edited(grey, camera, NOBODY, STILL, change, MODEL) == 200).all()
    small = WeakPerspective(camera.rotation, camera.translation, np.array(0.5), SIZE)
    photo = smooth(2)
    edge = np.ones(photo.shape[:2], bool)
    edge[2:-2, 2:-2] = False
    made = edited(photo, small, NOBODY, STILL, change, MODEL)
    assert np.abs(made[edge].astype(float) - photo[edge]).mean() < 2
    assert np.abs(made[~edge].astype(float) - photo[~edge]).mean() > 2


def test_the_background_gives_way_without_a_seam():
    """Beside the outline pixels move nearly as the outline does: no step larger than the change itself asks for."""
    camera, change = camera_at(0), change_of(8, 1.5)
    ramp = np.tile(np.linspace(0, 255, SIZE[0])[None, :, None], (SIZE[1], 1, 3)).astype(np.uint8)
    made = edited(ramp, camera, NOBODY, STILL, change, MODEL).astype(float)
    step = np.abs(np.diff(made[..., 0], axis=1))
    assert step.max() < 8  # px values; an untouched ramp has steps of 1 to 2
    assert (np.diff(made[..., 0], axis=1) > -3).all()


def test_a_camera_of_another_photo_is_refused():
    with pytest.raises(ValueError, match=r"camera is for a photo of \(220, 240\), but this one has \(64, 64\)"):
        edited(np.zeros((64, 64, 3), np.uint8), camera_at(0), NOBODY, STILL, change_of(0), MODEL)
