"""Each formula by a value made by hand or a slow way, by a law, in both numpy and torch, and by its gradient."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from sameface.core.geometry import (
    align,
    apply_affine,
    barycentric,
    euler_from_rotation,
    nearest_rotation,
    rotation_from_6d,
    rotation_from_axis_angle,
    rotation_from_euler,
    rotation_from_quaternion,
    similarity_2d,
    vertex_normals,
)

seeds = st.integers(0, 2**32 - 1)
FRONTAL = np.diag([1.0, -1.0, -1.0])


def assert_rotation(matrix: np.ndarray, tolerance: float = 1e-9) -> None:
    np.testing.assert_allclose(
        matrix @ matrix.swapaxes(-1, -2), np.broadcast_to(np.eye(3), matrix.shape), atol=tolerance
    )
    np.testing.assert_allclose(np.linalg.det(matrix), 1, atol=tolerance)


# ── align ──────────────────────────────────────────────────────────────────────────────────────────────────


@given(seed=seeds, scale=st.floats(0.1, 10), dimension=st.sampled_from([2, 3]))
def test_align_finds_the_similarity_that_was_applied(seed, scale, dimension):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(12, dimension))
    turn = Rotation.random(random_state=rng).as_matrix() if dimension == 3 else _turn(rng.uniform(0, 6))
    shift = rng.normal(size=dimension)
    s, rotation, t = align(x, scale * x @ turn.T + shift)
    np.testing.assert_allclose(s, scale, rtol=1e-9)
    np.testing.assert_allclose(rotation, turn, atol=1e-8)
    np.testing.assert_allclose(t, shift, atol=1e-7)


def _turn(angle: float) -> np.ndarray:
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


@given(seed=seeds)
def test_align_never_reflects(seed):
    x = np.random.default_rng(seed).normal(size=(30, 3))
    _, rotation, _ = align(x, x * [-1, 1, 1])
    np.testing.assert_allclose(np.linalg.det(rotation), 1)


@settings(max_examples=20)
@given(seed=seeds)
def test_no_similarity_near_the_answer_is_better(seed):
    rng = np.random.default_rng(seed)
    x, y, w = rng.normal(size=(9, 3)), rng.normal(size=(9, 3)), rng.uniform(0.1, 1, 9)

    def cost(s, rotation, t):
        return (w * ((s * x @ rotation.T + t - y) ** 2).sum(1)).sum()

    s, rotation, t = align(x, y, weights=w)
    best = cost(s, rotation, t)
    for _ in range(10):
        turn = Rotation.from_rotvec(rng.normal(0, 0.01, 3)).as_matrix()
        assert cost(s * np.exp(rng.normal(0, 0.01)), turn @ rotation, t + rng.normal(0, 0.01, 3)) >= best


def test_align_without_scale_keeps_lengths():
    x = np.random.default_rng(0).normal(size=(10, 3))
    s, rotation, t = align(x, 3 * x + 1, scale=False)
    assert s == 1
    np.testing.assert_allclose(rotation, np.eye(3), atol=1e-9)
    np.testing.assert_allclose(t, 3 * x.mean(0) + 1 - x.mean(0))


def test_points_without_weight_do_not_count():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(10, 3))
    y = 2 * x + [1, 2, 3]
    y[7:] += 100
    s, _, t = align(x, y, weights=np.float64(np.arange(10) < 7))
    np.testing.assert_allclose(s, 2)
    np.testing.assert_allclose(t, [1, 2, 3])


def test_align_takes_batches_and_torch():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(4, 2, 8, 3)), rng.normal(size=(4, 2, 8, 3))
    s, rotation, t = align(x, y)
    one = align(x[3, 1], y[3, 1])
    there = align(torch.tensor(x), torch.tensor(y))
    for many, single, torched in zip((s, rotation, t), one, there, strict=True):
        np.testing.assert_allclose(many[3, 1], single, atol=1e-12)
        np.testing.assert_allclose(torched, many, atol=1e-12)


def test_align_needs_enough_points():
    with pytest.raises(ValueError, match="at least 3 points, but source has 2"):
        align(np.zeros((2, 3)), np.zeros((2, 3)))


def test_similarity_2d_by_hand():
    source = np.array([[0.0, 0], [1, 0], [0, 1]])
    target = np.array([[5.0, 5], [5, 7], [3, 5]])  # a quarter turn, twice as large
    np.testing.assert_allclose(similarity_2d(source, target), [[0, -2, 5], [2, 0, 5]], atol=1e-12)


def test_apply_affine_by_hand():
    affine = np.array([[0.0, -2, 5], [2, 0, 5]])
    np.testing.assert_allclose(apply_affine(affine, np.array([[1.0, 0], [0, 1]])), [[5, 7], [3, 5]])
    many = apply_affine(torch.tensor(affine).expand(3, 2, 3), torch.ones(3, 4, 2, dtype=torch.float64))
    np.testing.assert_allclose(many, np.broadcast_to([3.0, 7], (3, 4, 2)))


# ── rotations ──────────────────────────────────────────────────────────────────────────────────────────────


@given(seed=seeds, size=st.sampled_from([0.0, 1e-12, 1e-4, 1.0, 3.1, 9.0]))
def test_axis_angle_agrees_with_scipy(seed, size):
    vector = np.random.default_rng(seed).normal(size=(3, 3))
    vector *= size / np.linalg.norm(vector, axis=1, keepdims=True)
    np.testing.assert_allclose(rotation_from_axis_angle(vector), Rotation.from_rotvec(vector).as_matrix(), atol=1e-9)


def test_axis_angle_turns_counter_clockwise_about_its_axis():
    quarter = rotation_from_axis_angle(np.array([0, 0, np.pi / 2]))
    np.testing.assert_allclose(quarter @ [1, 0, 0], [0, 1, 0], atol=1e-12)


@pytest.mark.parametrize("start", [[0.0, 0, 0], [0.3, -0.2, 0.9]])
def test_axis_angle_has_a_gradient_even_at_zero(start):
    vector = torch.tensor(start, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(rotation_from_axis_angle, vector)


@given(seed=seeds)
def test_six_numbers_make_a_rotation_and_its_rows_come_back(seed):
    rng = np.random.default_rng(seed)
    apart = rng.uniform(-1, 1, (5, 6)) + np.array([3, 0, 0, 0, 3, 0])  # by 30° or more: a unit vector is off by 1e-12
    assert_rotation(rotation_from_6d(apart))  # of what is left of the second when the first is taken out
    rotation = Rotation.random(random_state=rng).as_matrix()
    np.testing.assert_allclose(
        rotation_from_6d(rotation[:2].reshape(6) * [3, 3, 3, 0.5, 0.5, 0.5]), rotation, atol=1e-9
    )


def test_six_numbers_have_a_gradient():
    vector = torch.tensor([1.0, 0.2, 0, 0.1, -1, 0.3], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(rotation_from_6d, vector)


@given(seed=seeds)
def test_a_quaternion_is_scipys_rotation_whatever_its_sign_and_length(seed):
    q = np.random.default_rng(seed).normal(size=(5, 4))
    expected = Rotation.from_quat(q, scalar_first=True).as_matrix()
    for factor in (1, -1, 7):
        np.testing.assert_allclose(rotation_from_quaternion(factor * q), expected, atol=1e-6)
        np.testing.assert_allclose(rotation_from_quaternion(torch.tensor(factor * q)).numpy(), expected, atol=1e-6)


def test_a_quaternion_has_a_gradient_even_where_it_vanishes():
    q = torch.tensor([0.9, 0.1, -0.3, 0.2], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(rotation_from_quaternion, q)
    nothing = torch.zeros(4, requires_grad=True)
    rotation_from_quaternion(nothing).sum().backward()
    assert nothing.grad is not None
    assert nothing.grad.isfinite().all()


@given(seed=seeds)
def test_the_nearest_rotation_is_a_rotation_and_leaves_rotations_alone(seed):
    rng = np.random.default_rng(seed)
    noisy = rng.normal(size=(4, 3, 3))
    nearest = nearest_rotation(noisy)
    assert_rotation(nearest, 1e-7)
    np.testing.assert_allclose(nearest_rotation(nearest), nearest, atol=1e-7)
    for other in Rotation.random(10, random_state=rng).as_matrix():
        assert (((noisy - other) ** 2).sum((1, 2)) >= ((noisy - nearest) ** 2).sum((1, 2)) - 1e-9).all()
    np.testing.assert_allclose(nearest_rotation(torch.tensor(noisy)), nearest, atol=1e-9)


def test_no_turn_is_a_frontal_face():
    zero = np.zeros(1)
    np.testing.assert_allclose(rotation_from_euler(zero, zero, zero)[0], FRONTAL)


@pytest.mark.parametrize(
    ("pitch", "yaw", "roll", "point", "moves"),
    [
        (0.0, 0.5, 0.0, [0, 0, 1], [1, 0]),  # the nose goes to the image's right
        (0.5, 0.0, 0.0, [0, 0, 1], [0, 1]),  # the nose goes down, which is +y
        (0.0, 0.0, 0.5, [0, 1, 0], [1, 0]),  # the top of the head goes right: clockwise
    ],
)
def test_signs_are_what_a_viewer_would_say(pitch, yaw, roll, point, moves):
    rotation = rotation_from_euler(*(np.array(angle) for angle in (pitch, yaw, roll)))
    moved = ((rotation - FRONTAL) @ point)[:2]
    np.testing.assert_allclose(np.sign(np.round(moved, 12)) * np.abs(moves), moves)
    assert abs(moved @ moves) == pytest.approx(np.sin(0.5))


angles = st.floats(-3.1, 3.1)


@given(pitch=angles, yaw=st.floats(-1.5, 1.5), roll=angles)
def test_euler_angles_come_back(pitch, yaw, roll):
    given_angles = [np.array([angle]) for angle in (pitch, yaw, roll)]
    rotation = rotation_from_euler(*given_angles)
    assert_rotation(rotation)
    np.testing.assert_allclose(np.concatenate(euler_from_rotation(rotation)), [pitch, yaw, roll], atol=1e-6)
    there = euler_from_rotation(torch.tensor(rotation))
    np.testing.assert_allclose(torch.cat(there), [pitch, yaw, roll], atol=1e-6)


# ── meshes ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_barycentric_against_a_loop():
    rng = np.random.default_rng(0)
    vertices, corners = rng.normal(size=(2, 9, 3)), rng.integers(0, 9, (5, 3))
    weights = rng.dirichlet(np.ones(3), 5)
    found = barycentric(vertices, corners, weights)
    for b in range(2):
        for point in range(5):
            slow = sum(weights[point, k] * vertices[b, corners[point, k]] for k in range(3))
            np.testing.assert_allclose(found[b, point], slow)


def test_the_normals_of_a_square_point_at_the_viewer():
    square = np.array([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [9, 9, 9]])
    normals = vertex_normals(square, np.array([[0, 1, 2], [0, 2, 3]]))
    np.testing.assert_allclose(normals, [[0, 0, 1]] * 4 + [[0, 0, 0]])  # the last vertex has no face


@given(seed=seeds)
def test_normals_turn_with_the_mesh_and_have_unit_length(seed):
    rng = np.random.default_rng(seed)
    vertices, faces = rng.normal(size=(2, 6, 3)), np.array([[0, 1, 2], [2, 3, 4], [4, 5, 0], [1, 3, 5]])
    turn = Rotation.random(random_state=rng).as_matrix()
    normals = vertex_normals(vertices, faces)
    np.testing.assert_allclose(np.linalg.norm(normals, axis=-1), 1, atol=1e-9)
    np.testing.assert_allclose(vertex_normals(3 * vertices @ turn.T + 5, faces), normals @ turn.T, atol=1e-7)


def test_normals_weigh_faces_by_area():
    vertices = np.float32([[0, 0, 0], [2, 0, 0], [0, 2, 0], [0, 0, 1]])
    normal = vertex_normals(vertices, np.array([[0, 1, 2], [0, 2, 3]]))[0]
    np.testing.assert_allclose(normal, np.array([2, 0, 4]) / np.sqrt(20), rtol=1e-6)
    assert normal.dtype == np.float32
