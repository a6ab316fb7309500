"""Our faces in another model: people drawn from it come back, within its conventions."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import lsq_linear

from other_models import Head, exact, head, write_flame
from sameface.core.geometry import rotation_from_axis_angle
from sameface.metrics.alignment import Similarity
from sameface.morphable import MorphableModel, default
from sameface.morphable.flame import load
from sameface.morphable.joints import Joints, joints_of
from sameface.morphable.recast import Recaster, _axis_angle, _within

MODES = 20


@pytest.fixture(scope="module")
def made() -> Head:
    return head()


@pytest.fixture(scope="module")
def flame_model(made, tmp_path_factory) -> MorphableModel:
    return load(write_flame(tmp_path_factory.mktemp("flame"), made))


@pytest.fixture(scope="module")
def recaster(flame_model, made) -> Recaster:
    return Recaster(exact(flame_model, made))


def ours_of(mesh: np.ndarray, made: Head, pose: Similarity) -> np.ndarray:
    """Our face where a head's mesh (mm) is; what is not skin stays at the mean."""
    out = default().mean.astype(np.float64)
    known = made.place >= 0
    out[known] = pose.apply(mesh[made.place[known]].astype(np.float64))
    return out.astype(np.float32)


def drawn(model: MorphableModel, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(identity, expression, jaw, meshes (2, V, 3) mm, neutral first) by FLAME's formula."""
    identity, expression = np.zeros(100, np.float32), np.zeros(50, np.float32)
    identity[:MODES] = rng.normal(size=MODES)
    expression[:30] = np.abs(rng.normal(size=30)) * 0.5
    jaw = np.array([0.2, 0.02, 0.01])
    neutral, shaped = model.vertices(identity), model.vertices(identity, expression)
    joints = joints_of(model)
    assert joints is not None
    angles = np.zeros((3, 3))
    angles[0] = jaw
    return identity, expression, jaw, np.stack([neutral, joints.turned(shaped, angles)])


@pytest.mark.parametrize("seed", [0, 1])
def test_people_drawn_from_flame_come_back_with_their_jaw_open(flame_model, made, recaster, seed):
    identity, _, jaw, meshes = drawn(flame_model, np.random.default_rng(seed))
    turn = rotation_from_axis_angle(np.array([0.03, -0.05, 0.02]))  # the head is not where the mean's was
    pose = Similarity(1.0, turn, np.array([-1.0, -18.0, 63.0]))
    ours = [ours_of(mesh, made, pose) for mesh in meshes]
    found = recaster(ours[0], ours[1][None])
    skin = made.place[default().regions["face"]]
    for k, mesh in enumerate(meshes):
        there = found.pose.apply(recaster.mesh(found, k).astype(np.float64))
        apart = np.linalg.norm(there - pose.apply(mesh.astype(np.float64)), axis=1)[skin]
        assert apart.mean() < 0.3
    assert found.residual[:, 0].max() < 0.2
    assert np.abs(found.identity[:MODES] - identity[:MODES]).max() < 0.5
    np.testing.assert_allclose(found.angles[1, 0], jaw, atol=0.05)
    np.testing.assert_allclose(found.angles[0, 0], 0, atol=1e-3)


def test_the_mean_face_has_no_coefficients(made, recaster):
    found = recaster(default().mean)
    assert np.abs(found.identity).max() < 0.02
    assert np.abs(found.expression).max() < 1e-5
    np.testing.assert_allclose(found.pose.rotation, np.eye(3), atol=1e-3)
    np.testing.assert_allclose(found.pose.translation, [-3, -20, 60], atol=0.1)


def test_eyes_turn_as_ours_do(made, recaster):
    ours = default()
    looked = ours.mean.astype(np.float64)
    angle = np.array([0.0, 0.2, 0.0])
    for side in (ours.mean[:, 0] > 0, ours.mean[:, 0] < 0):
        ball = ours.regions["eyeballs"] & side
        middle = looked[ball].mean(0)
        looked[ball] = (looked[ball] - middle) @ rotation_from_axis_angle(angle).T + middle
    found = recaster(ours.mean, np.float32(looked)[None])
    names = recaster.joints.names
    np.testing.assert_allclose(found.angles[1, names.index("left eye")], angle, atol=1e-3)
    np.testing.assert_allclose(found.angles[1, names.index("right eye")], angle, atol=1e-3)


def test_gnms_eyes_are_its_joints_and_its_mouth_is_blended(flame_model, made):
    weights, regressor = flame_model.extra["weights"][:, [1, 0, 3, 4]], flame_model.extra["J_regressor"][[1, 0, 3, 4]]
    names = np.array(["neck", "head", "left eye", "right eye"])
    extra = {"joint_names": names, "weights": weights, "J_regressor": regressor}
    basis, opened = np.float32(made.expression), default().expression_names.index("jawOpen")
    shaped = replace(flame_model, extra=extra, expression_basis=basis, expression_names=default().expression_names)
    recaster = Recaster(exact(shaped, made))
    found = recaster(default().mean, default().mean[None] + default().expression_basis[..., opened] * np.float32(0.7))
    assert recaster.joints.names == ("left eye", "right eye")
    np.testing.assert_allclose(found.expression[1, opened], 0.7, atol=0.05)
    np.testing.assert_allclose(found.angles, 0, atol=1e-3)


def shapes_model(model: MorphableModel, made: Head) -> MorphableModel:
    ours = default()
    return replace(
        model, expression_basis=np.float32(made.expression), expression_names=ours.expression_names,
        expression_range=(0.0, 1.0), extra={},
    )  # fmt: skip


def test_weights_of_blendshapes_go_there_and_back_and_keep_to_their_range(flame_model, made):
    ours, rng = default(), np.random.default_rng(5)
    recaster = Recaster(exact(shapes_model(flame_model, made), made))
    weights = np.where(rng.uniform(size=(3, ours.n_expression)) < 0.2, rng.uniform(size=(3, ours.n_expression)), 0)
    identity = np.float32(rng.normal(size=ours.n_identity) * np.where(np.arange(ours.n_identity) < MODES, 1, 0))
    faces = np.stack([ours.vertices(identity, np.float32(row)) for row in weights])
    found = recaster(ours.vertices(identity), faces)
    seen = np.abs(ours.expression_basis[ours.regions["face"]]).max((0, 1)) > 3  # eyes are no skin
    assert np.abs(found.expression[1:, seen] - weights[:, seen]).mean() < 0.03
    assert found.expression.min() >= 0
    assert found.expression.max() <= 1
    assert found.residual[:, 0].max() < 0.3


def test_a_mean_expression_of_the_file_is_undone(flame_model, made):
    """Basel's files say that every face has it, so a neutral one has the coefficients that take it away."""
    ours = default()
    smile = made.expression[..., ours.expression_names.index("mouthSmileLeft")]
    model = replace(
        shapes_model(flame_model, made), expression_range=(-3.0, 3.0), extra={"expression_mean": np.float32(smile)}
    )
    recaster = Recaster(exact(model, made))
    found = recaster(ours.mean)
    assert found.expression[0, ours.expression_names.index("mouthSmileLeft")] < -0.8
    assert found.residual[0, 0] < 0.1


def test_a_model_without_expressions_has_only_the_neutral_face(flame_model, made):
    model = replace(
        flame_model, expression_basis=np.zeros((len(made.mean), 3, 0), np.float32), expression_names=(), extra={}
    )
    ours = default()
    recaster = Recaster(exact(model, made))
    found = recaster(ours.mean, ours.mean[None])
    assert found.expression.shape == (2, 0)
    np.testing.assert_array_equal(recaster.mesh(found, 0), recaster.mesh(found, 1))


# ---- joints ----


def small_joints(rng: np.random.Generator) -> Joints:
    regressor = np.float32(rng.dirichlet(np.ones(6), 2))
    correctives = np.float32(rng.normal(size=(6, 3, 2, 9)))
    return Joints(("jaw", "left eye"), np.float32(rng.uniform(size=(6, 2)) / 2), regressor, correctives)


@settings(max_examples=15)
@given(seed=st.integers(0, 2**32 - 1))
def test_joints_turn_vertices_as_a_slow_loop_does(seed):
    rng = np.random.default_rng(seed)
    joints, v, angles = small_joints(rng), rng.normal(size=(6, 3)), rng.normal(size=(2, 3))
    turns = [rotation_from_axis_angle(one) for one in angles]
    centres = joints.regressor @ v
    expected = np.zeros_like(v)
    for i in range(6):
        point = v[i].copy()
        for j in range(2):
            point += joints.correctives[i, :, j] @ (turns[j] - np.eye(3)).reshape(9)
        expected[i] = point * (1 - joints.weights[i].sum())
        for j in range(2):
            expected[i] += joints.weights[i, j] * (turns[j] @ (point - centres[j]) + centres[j])
    np.testing.assert_allclose(joints.turned(v, angles), expected, atol=1e-5)


@settings(max_examples=15)
@given(seed=st.integers(0, 2**32 - 1))
def test_slopes_are_the_derivatives_at_rest(seed):
    rng = np.random.default_rng(seed)
    joints, v, small = small_joints(rng), rng.normal(size=(6, 3)), 1e-5
    centre = (joints.regressor @ v)[0]
    slopes = joints.slopes(v, 0, centre)
    for axis in range(3):
        angles = np.zeros((2, 3))
        angles[0, axis] = small
        up, down = joints.turned(v, angles), joints.turned(v, -angles)
        np.testing.assert_allclose(slopes[:, :, axis], (up - down) / (2 * small), atol=1e-3)


def test_models_without_what_joints_need_have_none(flame_model):
    assert joints_of(flame_model).names == ("jaw", "left eye", "right eye")
    for name in ("weights", "J_regressor"):
        kept = {key: value for key, value in flame_model.extra.items() if key != name}
        assert joints_of(replace(flame_model, extra=kept)) is None


# ---- small algebra ----


@settings(max_examples=15)
@given(seed=st.integers(0, 2**32 - 1))
def test_weights_in_a_range_are_scipys(seed):
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 12))
    matrix, aim = rng.normal(size=(20, count)), rng.normal(size=20) * 3
    expected = lsq_linear(matrix, aim, (0, 1), method="bvls", tol=1e-14).x
    np.testing.assert_allclose(_within(matrix.T @ matrix, matrix.T @ aim, 0.0, 1.0), expected, atol=1e-7)


@settings(max_examples=15)
@given(seed=st.integers(0, 2**32 - 1))
def test_axis_angles_are_those_of_the_rotation(seed):
    rng = np.random.default_rng(seed)
    vector = rng.normal(size=3)
    vector *= rng.uniform(0, 3) / np.linalg.norm(vector)
    np.testing.assert_allclose(_axis_angle(rotation_from_axis_angle(vector)[None])[0], vector, atol=1e-6)
