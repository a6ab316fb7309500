"""The map from a person's code to the shape: against numbers made by a known one."""

import numpy as np
import pytest

from sameface import morphable
from sameface.metrics.alignment import align
from sameface.morphable.points import points68
from sameface.training.shape_of_code import millimetres, regress, seen, spoken


@pytest.fixture(scope="module")
def made():
    """Codes of 4 photos each of 300 people, shapes that a known linear map makes of the people's codes."""
    rng = np.random.default_rng(0)
    people, slopes = rng.normal(size=(300, 96)), rng.normal(size=(96, 5))
    slopes[:, 3:] = 0  # nobody's code says anything of these
    codes = np.repeat(people, 4, 0) + 0.1 * rng.normal(size=(1200, 96))
    return codes, np.repeat(np.arange(300), 4), people @ slopes + [1, 2, 3, 4, 5]


def test_millimetres_are_the_rms_over_the_face_without_rigid_motion():
    model, rng = morphable.default(), np.random.default_rng(1)
    identity = 0.05 * rng.normal(size=model.n_identity)  # small: a turn by a large angle is not linear
    inside = model.regions["face"]
    moved, mean = model.vertices(identity)[inside].astype(float), model.mean[inside].astype(float)
    _, rotation, shift = align(moved, mean, scale=False)
    wanted = np.sqrt(((moved @ rotation.T + shift - mean) ** 2).sum(1).mean())
    np.testing.assert_allclose(np.linalg.norm(identity @ millimetres(model)), wanted, rtol=0.01)


@pytest.fixture(scope="module")
def ridge(made):
    codes, person, shapes = made
    return regress(codes, person, shapes - shapes.mean(0), penalty=1e-6)


VISIBLE = np.diag([1.0, 1.0, 1.0, 0.1, 0.2])
"""of five directions of shape, photos show the last two least"""


def test_nobody_speaks_freely_at_zero_and_the_map_is_the_regression(made, ridge):
    codes, person, shapes = made
    matrix, offset = spoken(ridge, VISIBLE, 0.0, 2)
    said = codes @ matrix.T + offset
    np.testing.assert_allclose(said, (codes - ridge.mean) @ ridge.directions @ ridge.slopes, atol=1e-9)
    left = said - (shapes - shapes.mean(0))[person]
    assert np.mean(left**2) < 0.25 * np.mean((shapes - shapes.mean(0)) ** 2)  # 80 of 96 directions are looked at
    assert np.abs(said[:, 3:]).max() < 1e-6


def test_codes_speak_freely_only_where_photos_are_blind_and_change_no_mean(ridge):
    plain, (matrix, offset) = spoken(ridge, VISIBLE, 0.0, 2)[0], spoken(ridge, VISIBLE, 0.5, 2)
    np.testing.assert_allclose(matrix[:3], plain[:3], atol=1e-9)
    assert np.linalg.matrix_rank(plain, tol=1e-6) == 3
    assert np.linalg.matrix_rank(matrix, tol=1e-6) == 5
    np.testing.assert_allclose(matrix @ ridge.mean + offset, 0, atol=1e-9)


def test_free_millimetres_are_those_asked_for_and_the_persons_own(made, ridge):
    """Codes differ by one standard deviation within a person; between persons by ten: g is 0.99."""
    codes, person, _ = made
    matrix, _ = spoken(ridge, VISIBLE, 0.5, 2)
    free = codes @ matrix[3:].T
    means = free.reshape(300, 4, 2).mean(1)
    np.testing.assert_allclose((free - means[person]).std(0) * np.sqrt(4 / 3), 0.5, rtol=0.05)
    assert (means.std(0) > 4).all()


def test_what_regression_knows_of_the_unseen_is_kept():
    """With a slope there, however small, the free part points the same way: here, against the code's first number."""
    rng = np.random.default_rng(2)
    people = rng.normal(size=(200, 4)) * [3.0, 2.0, 0.1, 0.1]
    codes = np.repeat(people, 4, 0) + 0.1 * rng.normal(size=(800, 4))
    shapes = people @ np.array([[1.0, 0, 0, -0.01, 0], [0, 1, 0, 0, 0.01], [0, 0, 1, 0, 0], [0, 0, 0, 0, 0]])
    ridge = regress(codes, np.repeat(np.arange(200), 4), shapes - shapes.mean(0), penalty=1e-6)
    matrix = spoken(ridge, VISIBLE, 0.5, 2)[0]
    assert np.corrcoef(codes @ matrix[3], codes[:, 0])[0, 1] < -0.95
    assert np.corrcoef(codes @ matrix[4], codes[:, 1])[0, 1] > 0.95


def test_size_is_not_seen_and_what_moves_points_sideways_is():
    points = points68()
    wide = points.mean * [1.0, 0, 0]
    odd = np.random.default_rng(0).normal(size=wide.shape)
    basis = np.stack([0.01 * points.mean, np.tile([1.0, 2, 3], (68, 1)), 0.01 * wide, odd], -1)
    still = type(points)(points.mean, basis, np.zeros((68, 3, 1)))
    size, shift, stretch, noise = np.sqrt(np.diag(seen(still)).clip(0))
    assert max(size, shift) < 1e-6
    assert 0.05 < stretch < 0.4
    np.testing.assert_allclose(noise, np.sqrt(2), rtol=0.1)
