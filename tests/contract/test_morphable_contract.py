"""What every morphable model must do, whatever file it came from: each reader's format, and the model we ship.

Real files are tested too where they are at hand, in the folder that SAMEFACE_SHARED names (default ../shared).
"""

from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
import pytest

from morphable_files import WRITERS
from sameface import morphable
from sameface.core.geometry import barycentric
from sameface.morphable import MorphableModel, formats
from sameface.morphable._checks import EYE_DISTANCE, outwardness

SHIPPED = "shipped"
REAL = {"ICT-FaceKit, real": "data/ict_face.npz", "tddfa, 68 real points": "oracles/tddfa"}


@pytest.fixture(scope="module", params=[SHIPPED, *WRITERS, *REAL])
def model(request, tmp_path_factory) -> MorphableModel:
    if request.param in WRITERS:
        return WRITERS[request.param](tmp_path_factory.mktemp("model")).load()
    if request.param in REAL:
        return formats.open_model(request.getfixturevalue("shared")(REAL[request.param]))
    asset = files("sameface") / "assets" / "face_model.npz"
    if not asset.is_file():
        pytest.skip("src/sameface/assets/face_model.npz is not there: the shipped model is NOT tested")
    with as_file(asset) as path:
        return morphable.load(Path(path))


@pytest.fixture
def points(model) -> np.ndarray:
    return model.landmarks(model.mean)


def test_zero_coefficients_are_the_mean(model):
    neutral = model.vertices(np.zeros(model.n_identity), np.zeros(model.n_expression))
    np.testing.assert_allclose(neutral, model.mean, atol=1e-4)


def test_each_coefficient_moves_the_face_by_its_mode(model):
    if model.n_identity:
        moved = model.vertices(np.eye(model.n_identity)[0] * 2) - model.mean
        np.testing.assert_allclose(moved, 2 * model.identity_basis[..., 0], atol=1e-3)
    if model.n_expression:
        expression = np.eye(model.n_expression)[-1]
        moved = model.vertices(np.zeros(model.n_identity), expression) - model.mean
        np.testing.assert_allclose(moved, model.expression_basis[..., -1], atol=1e-3)


def test_faces_are_counter_clockwise_from_outside(model):
    assert outwardness(model.mean, model.faces) > 0.2
    assert model.faces.min() >= 0
    assert model.faces.max() < model.n_vertices


def test_most_of_the_front_looks_at_the_viewer(model, points):
    """The faces that carry the inner landmarks point forward."""
    a, b, c = (model.mean[model.faces[model.landmark_faces[17:48], k]] for k in range(3))
    assert (np.cross(b - a, c - a)[:, 2] > 0).mean() > 0.8


def test_eye_centres_are_as_far_apart_as_peoples(points):
    low, high = EYE_DISTANCE
    assert low < np.linalg.norm(points[42:48].mean(0) - points[36:42].mean(0)) < high


def test_the_jaw_runs_from_the_subjects_right_to_left(points):
    assert (np.diff(points[:17, 0]) > 0).all()


def test_brows_eyes_nose_mouth_and_chin_follow_each_other_downwards(points):
    sets = (slice(17, 22), slice(22, 27), slice(36, 42), slice(42, 48))
    right_brow, left_brow, right_eye, left_eye = (points[k, 1].mean() for k in sets)
    assert right_brow > right_eye
    assert left_brow > left_eye
    assert min(right_eye, left_eye) > points[30, 1] > points[48:68, 1].max()
    assert points[8, 1] < points[48:68, 1].min()
    assert points[8, 1] == pytest.approx(points[:, 1].min(), abs=1.0)


def test_the_right_side_of_the_subject_is_at_negative_x(points):
    assert points[36:42, 0].max() < points[42:48, 0].min()
    assert points[17:22, 0].max() < points[22:27, 0].min()
    assert points[48, 0] < points[51, 0] < points[54, 0]


def test_the_nose_is_in_front_of_the_eyes(points):
    assert points[30, 2] > points[36:48, 2].max()


def test_the_mirror_is_an_involution(model):
    if model.mirror is not None:
        np.testing.assert_array_equal(model.mirror[model.mirror], np.arange(model.n_vertices))


def test_barycentric_weights_sum_to_one(model):
    np.testing.assert_allclose(model.landmark_weights.sum(1), 1, atol=1e-5)
    assert model.landmark_weights.min() > -1e-6
    if model.contour_weights is not None:
        np.testing.assert_allclose(model.contour_weights.sum(1), 1, atol=1e-5)


def test_landmarks_move_linearly_with_the_face(model, points):
    """The landmarks of a face are the mean's plus the modes at the landmarks."""
    coefficients = np.random.default_rng(0).normal(size=model.n_identity)
    corners = model.faces[model.landmark_faces]
    modes = np.moveaxis(model.identity_basis, 2, 0)
    moved = np.tensordot(coefficients, barycentric(modes, corners, model.landmark_weights), 1)
    np.testing.assert_allclose(model.landmarks(model.vertices(coefficients)), points + moved, atol=1e-2)


def test_every_expression_has_a_name(model):
    assert len(model.expression_names) == model.n_expression
    assert len(set(model.expression_names)) == model.n_expression


def test_it_says_what_it_is_and_who_may_use_it(model):
    assert model.name
    assert model.licence


def test_saving_and_loading_changes_less_than_float16_does(model, tmp_path):
    model.save(tmp_path / "model.npz")
    again = morphable.load(tmp_path / "model.npz")
    assert (again.name, again.licence, again.expression_names) == (model.name, model.licence, model.expression_names)
    for name in ("mean", "faces", "landmark_faces", "landmark_weights"):
        np.testing.assert_allclose(getattr(again, name), getattr(model, name), rtol=1e-6)
    for name in ("identity_basis", "expression_basis"):
        np.testing.assert_allclose(getattr(again, name), getattr(model, name), rtol=1e-3, atol=1e-4)
    assert set(again.extra) == set(model.extra)
    for name, region in model.regions.items():
        np.testing.assert_array_equal(again.regions[name], region)
