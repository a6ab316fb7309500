"""Closest points and fits: against trimesh and SciPy, by laws, and where each refuses."""

from functools import partial

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import approx_fprime, least_squares
from scipy.spatial.transform import Rotation

from sameface.metrics import alignment
from sameface.metrics.alignment import Similarity, Surface, fit_mesh, icp, procrustes
from scan_meshes import bowl, motion, on_surface

seeds = st.integers(0, 2**32 - 1)
VERTICES, FACES = bowl()


@pytest.fixture(scope="module")
def surface() -> Surface:
    return Surface(VERTICES, FACES)


def rms_between(a: Similarity, b: Similarity) -> float:
    return float(np.sqrt(((a.apply(VERTICES) - b.apply(VERTICES)) ** 2).sum(1).mean()))


# ── similarities ─────────────────────────────────────────────────────────────────────────────────────────────


@given(seed=seeds)
def test_a_similarity_undoes_itself_and_chains(seed):
    rng = np.random.default_rng(seed)
    first, second = motion(rng, 3, 50, 0.7), motion(rng, 3, 50, 2.5)
    points = rng.normal(size=(5, 3))
    np.testing.assert_allclose(first.inverse().apply(first.apply(points)), points, atol=1e-9)
    np.testing.assert_allclose(second.after(first).apply(points), second.apply(first.apply(points)), atol=1e-9)


def test_a_similarity_by_hand():
    turn = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    assert Similarity(2.0, turn, np.array([1.0, 0, 0])).apply(np.array([[1.0, 0, 3]])).tolist() == [[1, 2, 6]]


@given(seed=seeds, scale=st.floats(0.2, 5))
def test_procrustes_finds_the_similarity_of_seven_points(seed, scale):
    rng = np.random.default_rng(seed)
    points, true = rng.normal(0, 30, (7, 3)), motion(rng, 2, 100, scale)
    found = procrustes(points, true.apply(points))
    np.testing.assert_allclose(found.apply(points), true.apply(points), atol=1e-7)
    assert procrustes(points, true.apply(points), scale=False).scale == 1


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (np.zeros((2, 3)), "must be 3 or more finite points, but are 2, 0 bad"),
        (np.array([[0.0, 0, 0], [1, 1, 1], [np.nan, 0, 0]]), "are 3, 1 bad"),
        (np.arange(5.0)[:, None] * [1.0, 2, 3], "lie on one line"),
        (np.ones((4, 3)), "lie on one line"),
    ],
)
def test_procrustes_refuses_points_that_decide_no_rotation(points, message):
    good = np.random.default_rng(0).normal(size=(len(points), 3))
    with pytest.raises(ValueError, match=message):
        procrustes(points, good)


# ── closest points ───────────────────────────────────────────────────────────────────────────────────────────


def test_closest_points_of_a_triangle_by_hand():
    triangle = Surface(np.array([[0.0, 0, 0], [4, 0, 0], [0, 4, 0]]), np.array([[0, 1, 2]]))
    found = triangle.closest(np.array([[1.0, 1, 5], [2, -3, 0], [-3, -4, 0], [4, 4, 0]]))
    assert found.distances == pytest.approx([5, 3, 5, np.sqrt(8)])  # inside, edge, corner, long edge
    np.testing.assert_allclose(found.points, [[1, 1, 0], [2, 0, 0], [0, 0, 0], [2, 2, 0]], atol=1e-12)
    assert found.triangles.tolist() == [0, 0, 0, 0]


def test_closest_points_agree_with_trimesh(surface):
    points = VERTICES[::30] + np.random.default_rng(1).normal(0, 8, (len(VERTICES[::30]), 3))
    mesh = trimesh.Trimesh(VERTICES, FACES, process=False)
    nearest, distance, _ = trimesh.proximity.closest_point_naive(mesh, points)
    found = surface.closest(points)
    np.testing.assert_allclose(found.distances, distance, atol=1e-9)
    np.testing.assert_allclose(found.points, nearest, atol=1e-6)
    np.testing.assert_allclose(surface.normals, mesh.face_normals, atol=1e-9)


def test_degenerate_triangles_count_as_segments_and_have_no_normal():
    flat = Surface(np.array([[0.0, 0, 0], [2, 0, 0], [1, 0, 0]]), np.array([[0, 1, 2]]))
    assert flat.closest(np.array([[1.5, 1, 0]])).distances == pytest.approx([1])
    assert flat.normals.tolist() == [[0, 0, 0]]


@pytest.mark.parametrize(
    ("vertices", "faces", "message"),
    [
        (VERTICES, FACES[:0], "no faces"),
        (np.where(np.arange(len(VERTICES))[:, None] == 4, np.nan, VERTICES), FACES, "1 vertices of the mesh are NaN"),
        (VERTICES[:9], FACES, "faces name vertices 0..1352, but there are 9"),
        (VERTICES, FACES - 1, "faces name vertices -1"),
    ],
)
def test_a_surface_refuses_a_broken_mesh(vertices, faces, message):
    with pytest.raises(ValueError, match=message):
        Surface(vertices, faces)


def test_closest_refuses_points_that_are_not_finite(surface):
    with pytest.raises(ValueError, match="1 of 2 points are NaN"):
        surface.closest(np.array([[0.0, 0, np.inf], [1, 1, 1]]))


# ── ICP ──────────────────────────────────────────────────────────────────────────────────────────────────────


@settings(max_examples=10)
@given(seed=seeds, scale=st.sampled_from([None, 0.9, 1.0, 1.1]), moves=st.sampled_from(["points", "mesh"]))
def test_icp_finds_the_motion_that_was_applied(surface, seed, scale, moves):
    rng = np.random.default_rng(seed)
    true = motion(rng, scale=scale or 1.0)
    inner = np.linalg.norm(VERTICES[:, :2], axis=1) < 70
    points = true.apply(VERTICES[inner])
    found = icp(points, surface, scale=scale is not None, moves=moves)
    pose = found.similarity if moves == "mesh" else found.similarity.inverse()
    assert found.converged
    assert found.iterations < 30
    assert found.rms < 1e-3
    assert rms_between(pose, true) < 1e-2


def test_a_scan_against_itself_does_not_move(surface):
    for residual in ("point", "plane"):
        found = icp(VERTICES, surface, residual=residual, scale=True)
        assert found.converged
        assert found.iterations == 1
        assert found.rms < 1e-9


def test_icp_between_points_goes_where_trimesh_goes():
    points = motion(np.random.default_rng(3)).apply(VERTICES[::5])
    options = {"max_iterations": 25, "threshold": 0, "reflection": False, "scale": False}
    matrix, _, cost = trimesh.registration.icp(points, VERTICES, **options)
    cloud = Surface(VERTICES, np.arange(len(VERTICES))[:, None].repeat(3, 1))  # triangles that are points
    found = icp(points, cloud, residual="point", moves="points", iterations=25, tolerance=0.0)
    np.testing.assert_allclose(found.similarity.rotation, matrix[:3, :3], atol=1e-9)
    np.testing.assert_allclose(found.similarity.translation, matrix[:3, 3], atol=1e-7)
    assert found.rms**2 == pytest.approx(cost)


def test_trimming_forgives_points_that_are_elsewhere(surface):
    true = motion(np.random.default_rng(4))
    points = true.apply(VERTICES[::6])
    points[:20] += [0, 0, 60]  # a hand before the face
    assert rms_between(icp(points, surface, trimmed=0.2).similarity, true) < 1e-2
    assert rms_between(icp(points, surface).similarity, true) > 1


def test_a_sample_of_the_points_is_enough(surface):
    true = motion(np.random.default_rng(6))
    points = true.apply(on_surface(VERTICES, FACES, 5000, np.random.default_rng(7)))
    assert rms_between(icp(points, surface, sample=300).similarity, true) < 1e-2


def test_icp_begins_where_it_is_told(surface):
    true = Similarity(1.0, Rotation.from_euler("y", 170, degrees=True).as_matrix(), np.array([500.0, 0, 0]))
    found = icp(true.apply(VERTICES), surface, start=true)
    assert found.iterations == 1
    assert rms_between(found.similarity, true) < 1e-6


def test_icp_says_when_it_ran_out_of_steps(surface):
    points = motion(np.random.default_rng(8)).apply(VERTICES)
    found = icp(points, surface, iterations=1)
    assert (found.iterations, found.converged) == (1, False)


def test_icp_refuses_what_it_cannot_do(surface):
    with pytest.raises(ValueError, match=r"trimmed is the part .* but is 1"):
        icp(VERTICES, surface, trimmed=1.0)
    with pytest.raises(ValueError, match="the points lie on one line"):
        icp(VERTICES[:1].repeat(5, 0), surface)
    dot = Surface(np.array([[0.0, 0, 0], [1e-6, 0, 0], [0, 1e-6, 0]]), np.array([[0, 1, 2]]))
    with pytest.raises(ValueError, match=r"ICP left the size that the landmarks give \(scale 1 became .*e-"):
        icp(VERTICES, dot, scale=True, moves="points", residual="point")


# ── the fit of NoW ───────────────────────────────────────────────────────────────────────────────────────────


@settings(max_examples=10)
@given(seed=seeds, scale=st.sampled_from([0.9, 1.0, 1.1]))
def test_the_fit_finds_the_similarity_that_was_applied(surface, seed, scale):
    true = motion(np.random.default_rng(seed), scale=scale)
    points = true.apply(VERTICES[np.linalg.norm(VERTICES[:, :2], axis=1) < 70])
    found = fit_mesh(points, surface)
    assert found.converged
    assert found.rms < 1e-6
    assert rms_between(found.similarity, true) < 1e-4


def noisy(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    points = VERTICES[np.linalg.norm(VERTICES[:, :2], axis=1) < 70]
    return motion(rng, scale=1.04).apply(points + rng.normal(0, 1.5, points.shape))


def test_the_fit_ends_where_a_tighter_solver_of_another_kind_ends(surface):
    points = noisy(9)
    found = fit_mesh(points, surface)

    def unsigned(x):
        pose = Similarity(x[6], Rotation.from_rotvec(x[:3]).as_matrix(), x[3:6])
        away = pose.scale * surface.closest(pose.inverse().apply(points)).distances
        return np.append(away, 100 * (abs(x[6]) - x[6]))

    tight = {"ftol": 1e-14, "xtol": 1e-14, "gtol": 1e-14}
    other = least_squares(unsigned, [0.0] * 6 + [1], x_scale=[0.01] * 3 + [1] * 3 + [0.01], method="trf", **tight)
    assert found.rms == pytest.approx(np.sqrt(2 * other.cost / len(points)), rel=1e-6)
    assert found.similarity.scale == pytest.approx(other.x[6], rel=1e-4)


def test_the_fit_without_scale_keeps_the_scale_of_its_start(surface):
    points = noisy(10)
    found = fit_mesh(points, surface, start=Similarity(0.9, np.eye(3), np.zeros(3)), scale=False)
    assert found.similarity.scale == pytest.approx(0.9)
    assert found.rms > fit_mesh(points, surface).rms


def test_point_icp_creeps_towards_the_optimum_of_the_fit(surface):
    points = noisy(11)
    best = fit_mesh(points, surface).rms
    creeping = [icp(points, surface, scale=True, residual="point", iterations=n, tolerance=0.0).rms for n in (5, 60)]
    assert best < creeping[1] < creeping[0]


@settings(max_examples=10)
@given(seed=seeds, scale=st.booleans())
def test_the_fits_jacobian_is_the_derivative_of_its_residuals(surface, seed, scale):
    rng = np.random.default_rng(seed)
    points = VERTICES[::97] + rng.normal(0, 5, VERTICES[::97].shape)
    problem = alignment._ScanToMesh(points, surface, motion(rng), VERTICES.mean(0), scale)
    at = problem.begin() + rng.normal(0, 0.05, 6 + scale)
    numeric = approx_fprime(at, problem.residuals, 1e-7)
    exact = problem.jacobian(at)
    bad = ~np.isclose(numeric, exact, atol=2e-3, rtol=1e-3).all(axis=1)
    assert bad.mean() < 0.2  # where the nearest point jumps to another triangle there is no derivative


def test_a_mesh_that_does_not_fit_does_not_grow_without_end():
    """A flat square of 100 mm under a bowl: the larger it is, the better it fits, and it need not be nearer."""
    corners = 50 * np.array([[-1.0, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]])
    points = VERTICES[np.linalg.norm(VERTICES[:, :2], axis=1) < 70]
    start = Similarity(2.0, np.eye(3), points.mean(0))
    with pytest.raises(ValueError, match=r"left the size .* \(scale 2 became 3; at most 1.5 times"):
        fit_mesh(points, Surface(corners / 2, np.array([[0, 1, 2], [0, 2, 3]])), start=start)


@pytest.mark.parametrize("true", [1.45, 1.55, 1 / 1.45, 1 / 1.55])
def test_landmarks_may_be_wrong_by_half_and_no_more(surface, true):
    """The bound by hand: the bowl itself, `true` times as large as its start says."""
    points = true * VERTICES[np.linalg.norm(VERTICES[:, :2], axis=1) < 40]
    if 1 / 1.5 < true < 1.5:
        found = fit_mesh(points, surface)
        assert found.similarity.scale == pytest.approx(true, rel=1e-6)
    else:
        for fit in (fit_mesh, partial(icp, scale=True)):
            with pytest.raises(ValueError, match="left the size that the landmarks give"):
                fit(points, surface)


def test_the_fit_refuses_points_on_a_line(surface):
    with pytest.raises(ValueError, match="the points lie on one line"):
        fit_mesh(np.arange(9.0)[:, None] * [1.0, 1, 0], surface)


@pytest.mark.slow
def test_scans_of_100_000_points_take_few_steps():
    vertices, faces = bowl(200, 250)
    surface = Surface(vertices, faces)
    rng = np.random.default_rng(12)
    points = on_surface(vertices, faces, 180_000, rng)
    points = points[np.linalg.norm(points[:, :2], axis=1) < 70][:100_000]
    true = motion(rng, scale=1.05)
    scan = true.apply(points + rng.normal(0, 0.3, points.shape))
    found = icp(scan, surface, scale=True)
    fit = fit_mesh(scan, surface)
    assert found.iterations <= 8
    assert fit.iterations <= 12
    assert found.similarity.scale == pytest.approx(1.05, rel=1e-3)
    assert fit.rms <= found.rms * 1.001
