"""The z-buffer against a slow loop, and the laws it keeps."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sameface.core.camera import Perspective, WeakPerspective
from sameface.mesh.raster import interpolate, rasterise, screen_points

SIZE = (23, 17)


def slow_raster(points, faces, size):
    """One pixel and one triangle at a time."""
    width, height = size
    face, depth = np.full((height, width), -1), np.full((height, width), np.inf)
    for number, corners in enumerate(points[faces].astype(float)):
        for j in range(height):
            for i in range(width):
                system = np.vstack([corners[:, :2].T, np.ones(3)])
                if abs(np.linalg.det(system)) < 1e-12:
                    continue
                weights = np.linalg.solve(system, [i + 0.5, j + 0.5, 1.0])
                if weights.min() >= 0 and weights @ corners[:, 2] < depth[j, i]:
                    face[j, i], depth[j, i] = number, weights @ corners[:, 2]
    return face, depth


def soup(seed: int, count: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Triangles anywhere, some partly outside the image."""
    rng = np.random.default_rng(seed)
    points = rng.uniform([-6, -6, 0], [29, 23, 10], (3 * count, 3))
    return points, rng.permutation(3 * count).reshape(count, 3)


def fan(count: int = 40, radius: float = 8.0) -> tuple[np.ndarray, np.ndarray]:
    """A disc about (11.3, 8.6) in `count` slices."""
    angle = np.linspace(0, 2 * np.pi, count, endpoint=False)
    rim = np.stack([11.3 + radius * np.cos(angle), 8.6 + radius * np.sin(angle), 0 * angle], 1)
    index = np.arange(count)
    return np.vstack([rim, [[11.3, 8.6, 0.0]]]), np.stack([index, (index + 1) % count, np.full(count, count)], 1)


def test_one_triangle_by_hand():
    points = np.array([[0, 0, 1], [4, 0, 1], [0, 4, 5.0]])
    raster = rasterise(points, np.array([[0, 1, 2]]), (5, 5))
    expected = [[0, 0, 0, 0, -1], [0, 0, 0, -1, -1], [0, 0, -1, -1, -1], [0, -1, -1, -1, -1], [-1] * 5]
    np.testing.assert_array_equal(raster.face, expected)
    np.testing.assert_allclose(raster.weights[1, 2], [0.0, 0.625, 0.375])
    np.testing.assert_allclose(raster.depth[:4, 0], [1.5, 2.5, 3.5, 4.5])
    assert raster.depth[4, 4] == np.inf
    assert not raster.weights[4, 4].any()


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_against_a_slow_loop(seed):
    points, faces = soup(seed)
    raster = rasterise(points, faces, SIZE)
    face, depth = slow_raster(points, faces, SIZE)
    np.testing.assert_array_equal(raster.face, face)
    np.testing.assert_allclose(raster.depth, depth)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), x=st.integers(-5, 5), y=st.integers(-5, 5))
def test_moving_by_whole_pixels_moves_the_picture(seed, x, y):
    points, faces = soup(seed)
    points = np.round(points * 1024) / 1024  # so that the move is exact
    before = rasterise(points + np.array([8, 8, 0]), faces, (40, 40))
    after = rasterise(points + np.array([8 + x, 8 + y, 0]), faces, (40, 40))
    np.testing.assert_array_equal(np.roll(before.face, (y, x), (0, 1))[5:-5, 5:-5], after.face[5:-5, 5:-5])


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_order_and_the_winding_of_faces_do_not_matter(seed):
    points, faces = soup(seed)
    order = np.random.default_rng(seed).permutation(len(faces))
    plain, mixed = rasterise(points, faces, SIZE), rasterise(points, faces[order][:, ::-1], SIZE)
    np.testing.assert_allclose(mixed.depth, plain.depth)
    np.testing.assert_array_equal(np.where(mixed.face < 0, -1, order[mixed.face]), plain.face)


@pytest.mark.parametrize("candidates", [1, 50, 1 << 15])
def test_the_size_of_the_chunks_does_not_matter(candidates, monkeypatch):
    points, faces = soup(3, 40)
    plain = rasterise(points, faces, SIZE)
    monkeypatch.setattr("sameface.mesh.raster.CANDIDATES", candidates)
    for one, other in zip(rasterise(points, faces, SIZE), plain, strict=True):
        np.testing.assert_array_equal(one, other)


@settings(max_examples=40, deadline=None)
@given(count=st.integers(20, 200), turn=st.floats(0, 7), radius=st.floats(3, 8))
def test_a_disc_is_covered_without_holes_and_without_spill(count, turn, radius):
    points, faces = fan(count, radius)
    centre = points[-1, :2]
    spin = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    points[:, :2] = (points[:, :2] - centre) @ spin.T + centre
    j, i = np.mgrid[0 : SIZE[1], 0 : SIZE[0]] + 0.5
    distance = np.hypot(i - centre[0], j - centre[1])
    covered = rasterise(points, faces, SIZE).face >= 0
    assert covered[distance < radius * np.cos(np.pi / count) - 1e-9].all()
    assert not covered[distance > radius + 1e-9].any()


def test_edges_through_pixel_centres_leave_no_pinholes():
    """A grid whose every edge passes through pixel centres: each centre is covered."""
    j, i = np.mgrid[0:17, 0:23] + 0.5
    points = np.stack([i.ravel(), j.ravel(), 0 * i.ravel()], 1)
    corner = (np.arange(16)[:, None] * 23 + np.arange(22)).ravel()
    faces = np.concatenate([corner[:, None] + [0, 1, 23], corner[:, None] + [1, 24, 23]])
    assert (rasterise(points, faces, SIZE).face >= 0).all()


def test_interpolation_of_the_positions_gives_the_pixel_centres():
    points, faces = fan()
    raster = rasterise(points, faces, SIZE)
    j, i = np.nonzero(raster.face >= 0)
    np.testing.assert_allclose(interpolate(raster, faces, points)[:, :2], np.stack([i, j], 1) + 0.5, atol=1e-5)


def test_the_centroid_at_a_pixel_centre_is_inside():
    points = np.array([[0.5, 0.5, 3], [3.5, 0.5, 3], [0.5, 3.5, 3.0]])
    np.testing.assert_allclose(rasterise(points, np.array([[0, 1, 2]]), (5, 5)).weights[1, 1], 1 / 3)


def test_nothing_to_see():
    empty = rasterise(np.zeros((3, 3)), np.array([[0, 1, 2]]), SIZE)  # a triangle without area
    assert (empty.face == -1).all()
    assert (rasterise(np.zeros((3, 3)), np.zeros((0, 3), int), SIZE).face == -1).all()
    far = rasterise(np.array([[1e9, 0, 0], [1e9, 9, 0], [2e9, 0, 0]]), np.array([[0, 1, 2]]), SIZE)
    assert (far.face == -1).all()


def test_points_that_are_not_finite_are_refused():
    points, faces = fan()
    points[0, 2], points[1, 0] = np.nan, np.inf
    with pytest.raises(ValueError, match="2 of 41 points are NaN or infinite"):
        rasterise(points, faces, SIZE)


def test_screen_points_of_both_cameras_agree_far_away():
    rotation = np.diag([1.0, -1.0, -1.0])
    points = np.random.default_rng(0).normal(size=(9, 3)) * 50
    weak = WeakPerspective(rotation, np.array([50.0, 40.0]), np.array(0.5), (100, 80))
    strong = Perspective(rotation, np.array([0, 0, 1e6]), np.array(0.5e6), np.array([50.0, 40.0]), (100, 80))
    one, other = screen_points(points, weak), screen_points(points, strong)
    np.testing.assert_allclose(one[:, :2], other[:, :2], atol=1e-2)
    np.testing.assert_allclose(other[:, 2] - one[:, 2], 1e6)


def test_points_behind_the_camera_are_refused():
    camera = Perspective(np.eye(3), np.array([0, 0, 10.0]), np.array(100.0), np.array([5.0, 5.0]), (10, 10))
    with pytest.raises(ValueError, match="1 of 2 vertices lie behind the camera"):
        screen_points(np.array([[0, 0, 5.0], [0, 0, -20.0]]), camera)
