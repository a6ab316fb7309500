"""Faces of another shape: what is known of the change is what the picture and the labels do."""

import cv2
import numpy as np
import pytest

from sameface.training.methods.isoface import Config, Method
from sameface.training.reshaped import reshaped

SIDE = 160


@pytest.fixture(scope="module")
def model() -> tuple[np.ndarray, np.ndarray]:
    return Method(Config(size=32, widths=(8, 8), blocks=(1, 1), features=8)).dense_model


def points_of(mean: np.ndarray) -> np.ndarray:
    """In a picture of 160 px: looked at from straight ahead."""
    return np.array([80.0, 85]) + mean[:, :2] * [0.5, -0.5]


def test_points_move_as_the_camera_sees_the_model_move(model):
    mean, basis = model
    points, seen = points_of(mean), np.ones(len(mean), bool)
    change = basis @ np.random.default_rng(1).normal(size=basis.shape[2])
    _, labels = reshaped(np.zeros((SIDE, SIDE, 3), np.uint8), {"landmarks": points}, points, seen, mean, change)
    true = change[:, :2] * [0.5, -0.5]
    off = labels["landmarks"] - points - true
    assert np.sqrt((true**2).sum(1).mean()) > 0.8
    assert np.sqrt((off**2).sum(1).mean()) < 0.4  # between the knots the spline goes its own way


@pytest.mark.parametrize("seed", range(3))
def test_labels_stay_on_their_pixels(model, seed):
    """A dot that is drawn at a label is where the label says that it went."""
    mean, basis = model
    rng, points = np.random.default_rng(seed), points_of(mean)
    change = basis @ rng.normal(size=basis.shape[2])
    for label in rng.permutation(len(mean))[:4]:
        rows, columns = np.indices((SIDE, SIDE)) + 0.5
        dot = 255 * np.exp(-((columns - points[label, 0]) ** 2 + (rows - points[label, 1]) ** 2) / 2)
        picture = np.repeat(dot[..., None], 3, axis=2).astype(np.uint8)
        moved, labels = reshaped(picture, {"one": points[[label]]}, points, np.ones(len(mean), bool), mean, change)
        light = moved[..., 0].astype(float)
        found = np.array([(light * columns).sum(), (light * rows).sum()]) / light.sum()
        np.testing.assert_allclose(found, labels["one"][0], atol=0.35)


def test_nothing_moves_without_a_change_and_at_the_border(model):
    mean, basis = model
    points, seen = points_of(mean), np.ones(len(mean), bool)
    noise = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8), (0, 0), 3)
    corners = np.array([[0.0, 0], [SIDE, 0], [np.nan, np.nan]])
    same, labels = reshaped(noise, {"a": points, "b": corners}, points, seen, mean, 0 * mean)
    np.testing.assert_array_equal(same, noise)
    np.testing.assert_allclose(labels["a"], points)
    change = basis @ np.ones(basis.shape[2])
    _, labels = reshaped(noise, {"b": corners}, points, seen, mean, change)
    np.testing.assert_allclose(labels["b"][:2], corners[:2], atol=0.5)
    assert np.isnan(labels["b"][2]).all()


def test_a_face_of_which_too_little_is_seen_stays(model):
    mean, basis = model
    points, seen = points_of(mean), np.arange(len(mean)) < 19
    picture = np.full((SIDE, SIDE, 3), 9, np.uint8)
    same, labels = reshaped(picture, {"a": points}, points, seen, mean, basis @ np.ones(basis.shape[2]))
    np.testing.assert_array_equal(same, picture)
    np.testing.assert_array_equal(labels["a"], points)
