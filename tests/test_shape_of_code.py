"""The map from a person's code to the shape: against numbers made by a known one."""

import numpy as np
import pytest

from sameface import morphable
from sameface.metrics.alignment import align
from sameface.training.shape_of_code import floored, millimetres, regress


@pytest.fixture(scope="module")
def made():
    """Codes of 4 photos each of 300 people, shapes that a known linear map makes of the people's codes."""
    rng = np.random.default_rng(0)
    people, slopes = rng.normal(size=(300, 96)), rng.normal(size=(96, 5))
    slopes[:, 4] = 0  # nobody's code says anything of it
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


def test_without_a_floor_the_map_is_the_regression_and_finds_what_codes_tell(made):
    codes, person, shapes = made
    ridge = regress(codes, person, shapes - shapes.mean(0), penalty=1e-6)
    matrix, offset = floored(ridge, 0.0)
    said = codes @ matrix.T + offset
    np.testing.assert_allclose(said, (codes - ridge.mean) @ ridge.directions @ ridge.slopes, atol=1e-9)
    left = said - (shapes - shapes.mean(0))[person]
    assert np.mean(left**2) < 0.25 * np.mean((shapes - shapes.mean(0)) ** 2)  # 80 of 96 directions are looked at
    assert np.abs(said[:, 4]).max() < 1e-6


def test_a_floor_lets_every_direction_have_a_say_and_changes_no_mean(made):
    codes, person, shapes = made
    ridge = regress(codes, person, shapes - shapes.mean(0))
    plain, with_floor = floored(ridge, 0.0)[0], floored(ridge, 0.5)
    assert np.linalg.matrix_rank(plain, tol=1e-9) == 4
    assert np.linalg.matrix_rank(with_floor[0], tol=1e-9) == 5
    np.testing.assert_allclose(with_floor[0] @ ridge.mean + with_floor[1], 0, atol=1e-9)


def test_twice_the_gain_is_twice_the_shape(made):
    ridge = regress(*made[:2], made[2])
    once, twice = floored(ridge, 0.3, gain=1.0), floored(ridge, 0.6, gain=2.0)
    np.testing.assert_allclose(twice[0], 2 * once[0], rtol=1e-6, atol=1e-9)
