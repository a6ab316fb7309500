"""Both cameras: values by hand, and that a camera moves with its image."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from sameface.core.camera import Camera, Perspective, WeakPerspective
from sameface.core.geometry import apply_affine

seeds = st.integers(0, 2**32 - 1)
FRONTAL = np.diag([1.0, -1.0, -1.0])


def weak(rng: np.random.Generator, *batch: int) -> WeakPerspective:
    count = int(np.prod(batch))
    return WeakPerspective(
        rotation=Rotation.random(count, random_state=rng).as_matrix().reshape(*batch, 3, 3),
        translation=rng.uniform(0, 640, (*batch, 2)),
        scale=rng.uniform(0.5, 5, batch),
        size=(640, 480),
    )


def pinhole(rng: np.random.Generator, *batch: int) -> Perspective:
    count = int(np.prod(batch))
    return Perspective(
        rotation=Rotation.random(count, random_state=rng).as_matrix().reshape(*batch, 3, 3),
        translation=rng.uniform(-100, 100, (*batch, 3)) + np.array([0, 0, 700]),
        focal=rng.uniform(300, 2000, batch),
        center=rng.uniform(200, 400, (*batch, 2)),
        size=(640, 480),
    )


both = pytest.mark.parametrize("make", [weak, pinhole])


def test_weak_perspective_by_hand():
    camera = WeakPerspective(FRONTAL, np.array([50.0, 40]), np.array(2.0), (100, 80))
    found = camera.project(np.array([[0.0, 0, 0], [10, 5, 99]]))
    np.testing.assert_allclose(found, [[50, 40], [70, 30]])  # +y up goes up in the image, depth does not matter


def test_perspective_by_hand():
    camera = Perspective(FRONTAL, np.array([0.0, 0, 500]), np.array(1000.0), np.array([50.0, 40]), (100, 80))
    found = camera.project(np.array([[0.0, 0, 0], [10, 5, 0], [10, 5, 100]]))
    np.testing.assert_allclose(found, [[50, 40], [70, 30], [75, 27.5]])  # nearer is larger


def test_depth_grows_away_from_the_viewer():
    points = np.array([[0.0, 0, 0], [0, 0, 30]])  # the second is nearer to the viewer of a frontal face
    for camera in (
        WeakPerspective(FRONTAL, np.zeros(2), np.array(1.0), (9, 9)),
        Perspective(FRONTAL, np.array([0.0, 0, 500]), np.array(1.0), np.zeros(2), (9, 9)),
    ):
        depth = camera.in_camera(points)[:, 2]
        assert depth[0] - depth[1] == pytest.approx(30)


@both
@given(seed=seeds)
def test_a_camera_moves_with_its_image(make, seed):
    rng = np.random.default_rng(seed)
    camera: Camera = make(rng, 3)
    points = rng.normal(0, 60, (3, 5, 3))
    turn, zoom = rng.uniform(-3, 3), rng.uniform(0.2, 4)
    linear = zoom * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    affine = np.concatenate([linear, rng.uniform(-200, 200, (2, 1))], axis=1)
    warped = camera.warped(affine, (96, 96))
    np.testing.assert_allclose(
        warped.project(points), apply_affine(np.stack([affine] * 3), camera.project(points)), atol=1e-6
    )
    np.testing.assert_allclose(np.linalg.det(warped.rotation), 1)
    assert warped.size == (96, 96)


@both
def test_warping_there_and_back_changes_nothing(make):
    camera = make(np.random.default_rng(0), 2)
    affine = np.array([[0.0, -2, 30], [2, 0, 10]])
    back = np.linalg.inv(np.vstack([affine, [0, 0, 1]]))[:2]
    again = camera.warped(affine, (9, 9)).warped(back, camera.size)
    for name in ("rotation", "translation"):
        np.testing.assert_allclose(getattr(again, name), getattr(camera, name), atol=1e-9)


@both
def test_torch_projects_the_same_and_has_a_gradient(make):
    camera = make(np.random.default_rng(0), 2)
    points = np.random.default_rng(1).normal(0, 60, (2, 5, 3))
    there = camera.map(torch.from_numpy)
    np.testing.assert_allclose(there.project(torch.from_numpy(points)), camera.project(points), atol=1e-9)
    assert torch.autograd.gradcheck(there.project, torch.from_numpy(points).requires_grad_())


@both
@pytest.mark.parametrize(
    "linear", [[[1, 0.5], [0, 1]], [[2, 0], [0, 1]], [[-1, 0], [0, 1]]], ids=["sheared", "stretched", "mirrored"]
)
def test_only_similarities_can_warp_a_camera(make, linear):
    camera = make(np.random.default_rng(0))
    affine = np.concatenate([np.array(linear, float), np.zeros((2, 1))], axis=1)
    with pytest.raises(ValueError, match="only be warped by rotation, scale and shift"):
        camera.warped(affine, (9, 9))


def test_far_away_both_cameras_agree():
    rng = np.random.default_rng(0)
    near = weak(rng)
    points = rng.normal(0, 60, (5, 3))
    far = Perspective(near.rotation, np.array([0, 0, 1e7]), near.scale * 1e7, near.translation, near.size)
    np.testing.assert_allclose(far.project(points), near.project(points), atol=0.05)
