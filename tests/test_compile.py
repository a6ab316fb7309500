"""How our model is made: each step on small meshes; what came out, as it ships; and that it can be made again."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import identity

from sameface import morphable
from sameface.core.geometry import rotation_from_axis_angle
from sameface.morphable.compile import _closest, compile_model, orthonormal_modes, report
from sameface.morphable.decimate import boundary_loops, clip, collapse_short_edges, flip_to_delaunay, split_long_edges
from sameface.morphable.relax import relax
from sameface.morphable.unwrap import unwrap

seeds = st.integers(0, 2**32 - 1)

ARKIT = """
    eyeBlinkLeft eyeLookDownLeft eyeLookInLeft eyeLookOutLeft eyeLookUpLeft eyeSquintLeft eyeWideLeft
    eyeBlinkRight eyeLookDownRight eyeLookInRight eyeLookOutRight eyeLookUpRight eyeSquintRight eyeWideRight
    jawForward jawLeft jawRight jawOpen
    mouthClose mouthFunnel mouthPucker mouthLeft mouthRight mouthSmileLeft mouthSmileRight mouthFrownLeft
    mouthFrownRight mouthDimpleLeft mouthDimpleRight mouthStretchLeft mouthStretchRight mouthRollLower mouthRollUpper
    mouthShrugLower mouthShrugUpper mouthPressLeft mouthPressRight mouthLowerDownLeft mouthLowerDownRight
    mouthUpperUpLeft mouthUpperUpRight
    browDownLeft browDownRight browInnerUp browOuterUpLeft browOuterUpRight
    cheekPuff cheekSquintLeft cheekSquintRight noseSneerLeft noseSneerRight tongueOut
""".split()
"""Apple's 52 blend shape locations"""


# ── small meshes ───────────────────────────────────────────────────────────────────────────────────────────


def grid(side: int, rng: np.random.Generator | None = None) -> tuple[np.ndarray, np.ndarray]:
    """A flat square of side × side vertices one apart; with `rng`, the inner ones shaken, by less than a quarter:
    more could fold it."""
    x, y = np.meshgrid(np.arange(side, dtype=np.float64), np.arange(side, dtype=np.float64))
    points = np.stack([x.reshape(-1), y.reshape(-1), np.zeros(side * side)], axis=1)
    if rng is not None:
        inner = (np.abs(points[:, :2] - (side - 1) / 2) < (side - 1.5) / 2).all(1)
        points[inner, :2] += rng.uniform(-0.24, 0.24, (int(inner.sum()), 2))
    corner = (np.arange(side - 1)[:, None] * side + np.arange(side - 1)).reshape(-1)
    quads = np.stack([corner, corner + 1, corner + side + 1, corner + side], axis=1)
    return points, np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]]).astype(np.int32)


def area(points: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Signed area of each face of a mesh in the plane."""
    (ax, ay), (bx, by), (cx, cy) = (points[faces[:, k], :2].T.astype(np.float64) for k in range(3))
    return ((bx - ax) * (cy - ay) - (by - ay) * (cx - ax)) / 2


def edge_counts(faces: np.ndarray) -> np.ndarray:
    """How many faces each edge has."""
    edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1)
    return np.unique(edges, axis=0, return_counts=True)[1]


def assert_manifold(faces: np.ndarray) -> None:
    """Every edge has one or two faces, and two faces never run along an edge the same way."""
    assert edge_counts(faces).max() <= 2
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    assert len(np.unique(edges, axis=0)) == len(edges)


def covering(uv: np.ndarray, faces: np.ndarray, size: int) -> np.ndarray:
    """(size, size) how many triangles hold each sample point of the unit square in their inside."""
    count = np.zeros((size, size), int)
    for a, b, c in uv[faces].astype(np.float64) * size:
        x0, y0 = np.floor(np.minimum(np.minimum(a, b), c)).astype(int).clip(0)
        x1, y1 = np.ceil(np.maximum(np.maximum(a, b), c)).astype(int)
        x, y = np.meshgrid(np.arange(x0, x1) + 0.5, np.arange(y0, y1) + 0.5)
        inside = np.ones(x.shape, bool)
        for p, q in ((a, b), (b, c), (c, a)):
            inside &= (q[0] - p[0]) * (y - p[1]) - (q[1] - p[1]) * (x - p[0]) > 1e-9
        count[y0:y1, x0:x1] += inside
    return count


def test_a_square_has_one_boundary_that_follows_its_faces():
    (loop,) = boundary_loops(np.array([[0, 1, 2], [0, 2, 3]], np.int32))
    start = loop.index(0)
    assert [*loop[start:], *loop[:start]] == [0, 1, 2, 3]


def test_a_ring_has_two_boundaries_and_a_ball_none():
    _, faces = grid(4)
    middle = {5, 6, 9, 10}
    ring = np.array([face for face in faces if not set(face.tolist()) <= middle])
    assert sorted(len(loop) for loop in boundary_loops(ring)) == [4, 12]
    assert boundary_loops(np.array([[0, 1, 2], [0, 2, 3], [0, 3, 1], [1, 3, 2]])) == []


@settings(max_examples=20)
@given(seed=seeds)
def test_clipping_cuts_exactly_where_the_field_is_zero(seed):
    rng = np.random.default_rng(seed)
    points, faces = grid(6, rng)
    turn, offset = rng.uniform(0, 2 * np.pi), rng.uniform(-1, 1)
    field = (points[:, :2] - 2.5) @ [np.cos(turn), np.sin(turn)] - offset
    weights, kept = clip(identity(36, format="csr"), faces, field)
    at = weights @ points
    assert_manifold(kept)
    np.testing.assert_allclose(weights.sum(1), 1)
    assert np.diff(weights.indptr).max() <= 2  # every point lies on an edge of the source
    new = np.unique(kept[kept >= 36])
    np.testing.assert_allclose(weights[new] @ field, 0, atol=1e-9)
    assert (area(at, kept) > -1e-12).all()
    others, other = clip(identity(36, format="csr"), faces, -field)
    assert area(at, kept).sum() + area(others @ points, other).sum() == pytest.approx(25)


def test_clipping_by_a_field_that_is_positive_everywhere_changes_nothing():
    _, faces = grid(3)
    weights, kept = clip(identity(9, format="csr"), faces, np.ones(9))
    assert weights.shape == (9, 9)
    np.testing.assert_array_equal(kept, faces)


@settings(max_examples=10)
@given(seed=seeds, longest=st.floats(0.4, 1.2))
def test_splitting_leaves_no_long_edge(seed, longest):
    points, faces = grid(4, np.random.default_rng(seed))
    weights, split = split_long_edges(identity(16, format="csr"), faces, lambda made: made @ points, longest)
    at = weights @ points
    assert_manifold(split)
    edges = at[split] - at[np.roll(split, 1, axis=1)]
    assert np.linalg.norm(edges, axis=2).max() <= longest + 1e-9
    assert area(at, split).sum() == pytest.approx(9)
    assert (area(at, split) > 0).all()
    np.testing.assert_allclose(weights.sum(1), 1)
    assert len(boundary_loops(split)) == 1


def test_nothing_is_split_when_no_edge_is_long():
    points, faces = grid(3)
    weights, split = split_long_edges(identity(9, format="csr"), faces, lambda made: made @ points, 2.0)
    assert weights.shape == (9, 9)
    np.testing.assert_array_equal(split, faces)


@settings(max_examples=10)
@given(seed=seeds)
def test_collapsing_keeps_the_surface_its_boundary_and_the_fixed_vertices(seed):
    rng = np.random.default_rng(seed)
    points, faces = grid(7, rng)
    fixed = np.zeros(49, bool)
    fixed[[0, 6, 42, 48]] = True  # corners
    fixed[rng.integers(0, 49, 2)] = True
    made = collapse_short_edges(points, faces, fixed, 25)
    assert_manifold(made)
    assert len(np.unique(made)) == 25
    assert set(np.flatnonzero(fixed)) <= set(made.reshape(-1).tolist())
    assert (area(points, made) > 0).all()
    assert area(points, made).sum() == pytest.approx(36)
    (before,), (after,) = boundary_loops(faces), boundary_loops(made)
    assert set(after) <= set(before)


def test_collapsing_never_closes_a_hole_or_a_ball():
    ball = np.array([[0, 0, 1.0], [1, 0, 0], [0, 1, 0], [-1, 0, 0], [0, -1, 0], [0, 0, -1]])
    faces = np.array([[0, 1, 2], [0, 2, 3], [0, 3, 4], [0, 4, 1], [5, 2, 1], [5, 3, 2], [5, 4, 3], [5, 1, 4]], np.int32)
    made = collapse_short_edges(ball, faces, np.zeros(6, bool), 0)
    assert_manifold(made)
    assert (edge_counts(made) == 2).all()
    assert len(np.unique(made)) >= 4


def test_a_crease_keeps_its_vertices():
    """A roof: the ridge at x = 4 may lose vertices, but the surface stays where it is."""
    points, faces = grid(9)
    points[:, 2] = 3 - 0.75 * np.abs(points[:, 0] - 4)
    fixed = np.zeros(81, bool)
    fixed[[0, 4, 8, 72, 76, 80]] = True
    made = collapse_short_edges(points, faces, fixed, 45)
    middle = points[made].mean(1)
    np.testing.assert_allclose(middle[:, 2], 3 - 0.75 * np.abs(middle[:, 0] - 4), atol=1e-9)


def test_the_long_diagonal_of_a_kite_is_flipped():
    points = np.array([[0.0, 0, 0], [4, 1, 0], [8, 0, 0], [4, -1, 0]])
    flipped = flip_to_delaunay(points, np.array([[0, 2, 1], [0, 3, 2]], np.int32))
    assert {frozenset(face) for face in flipped.tolist()} == {frozenset((0, 1, 3)), frozenset((1, 2, 3))}
    assert (area(points, flipped) > 0).all()


@settings(max_examples=10)
@given(seed=seeds)
def test_flipping_keeps_vertices_area_and_boundary(seed):
    points, faces = grid(7, np.random.default_rng(seed))
    flipped = flip_to_delaunay(points, faces)
    assert_manifold(flipped)
    assert flipped.shape == faces.shape
    assert area(points, flipped).sum() == pytest.approx(36)
    assert (area(points, flipped) > 0).all()
    assert set(boundary_loops(flipped)[0]) == set(boundary_loops(faces)[0])


def test_edges_of_a_fold_are_not_flipped():
    points = np.array([[0.0, 0, 0], [4, 1, 2], [8, 0, 0], [4, -1, 2]])
    faces = np.array([[0, 2, 1], [0, 3, 2]], np.int32)
    np.testing.assert_array_equal(flip_to_delaunay(points, faces), faces)


def test_the_closest_point_by_hand():
    points, faces = grid(2)
    face, weights = _closest(np.array([[0.75, 0.25, 3], [-1, -1, 0], [0.5, 1.5, 1]]), points, faces)
    at = (points[faces[face]] * weights[..., None]).sum(1)
    np.testing.assert_allclose(at, [[0.75, 0.25, 0], [0, 0, 0], [0.5, 1, 0]], atol=1e-12)


def mask() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """A symmetric bowl with two eye holes and an eyeball behind each: points, faces, mirror, eyeball."""
    side = 13
    points, faces = grid(side)
    points[:, :2] -= (side - 1) / 2
    right = points[faces].mean(1)[:, 0] < 0
    column, row = np.arange(side * side) % side, np.arange(side * side) // side
    mirror = row * side + side - 1 - column
    faces = np.concatenate([faces[right], mirror[faces[right]][:, ::-1]])
    holes = [row_ * side + column_ for row_ in (8,) for column_ in (3, 9)]
    faces = faces[~np.isin(faces, holes).any(1)]
    points[:, 2] = -0.06 * (points[:, :2] ** 2).sum(1)
    left = points[holes[1]] + [[0, 0, -0.5], [1, 0, -1], [0, 1, -1], [-1, 0, -1], [0, -1, -1]]
    fan = np.array([[0, 1, 2], [0, 2, 3], [0, 3, 4], [0, 4, 1]])
    n = side * side
    points = np.concatenate([points, left, left * [-1, 1, 1]])
    mirror = np.concatenate([mirror, n + 5 + np.arange(5), n + np.arange(5)])
    faces = np.concatenate([faces, n + fan, n + 5 + fan[:, ::-1]]).astype(np.int32)
    return points, faces, mirror.astype(np.int32), np.repeat([0, 1, 2], [n, 5, 5])


def test_unwrapping_flips_and_overlaps_nothing():
    points, faces, mirror, eyeball = mask()
    uv = unwrap(points, faces, mirror, eyeball, np.ones(len(points)))
    assert uv.min() >= 0
    assert uv.max() <= 1
    assert (area(uv, faces) > 0).all()
    assert covering(uv, faces, 600).max() == 1
    used = np.unique(faces)
    np.testing.assert_allclose(uv[mirror[used]], [1, 0] + uv[used] * [-1, 1], atol=1e-5)


def test_a_flat_surface_is_relaxed_to_itself():
    """From any map without folds, the plane's own coordinates come back, up to a turn and a shift."""
    points, faces = grid(9)
    flat = points[:, :2] / 8 - 0.5
    bent = np.stack([flat[:, 0] * (1.2 + flat[:, 1]), flat[:, 1] + 0.5 * flat[:, 0] ** 2], axis=1)
    found = relax(points, faces, np.ones(len(points)), bent)
    assert (area(found, faces) > 0).all()
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]]])
    length = np.linalg.norm(found[edges[:, 0]] - found[edges[:, 1]], axis=1)
    np.testing.assert_allclose(length, np.linalg.norm(points[edges[:, 0]] - points[edges[:, 1]], axis=1), rtol=0.02)


def test_a_map_with_a_fold_is_not_relaxed():
    points, faces = grid(3)
    folded = points[:, :2].copy()
    folded[4] = [5, 5]
    with pytest.raises(ValueError, match="some face of the map is turned over"):
        relax(points, faces, np.ones(9), folded)


def test_a_relaxed_map_stretches_the_mask_little():
    points, faces, mirror, eyeball = mask()
    uv = unwrap(points, faces, mirror, eyeball, np.ones(len(points))).astype(np.float64)
    skin = faces[eyeball[faces[:, 0]] == 0]
    edges = np.concatenate([skin[:, [0, 1]], skin[:, [1, 2]], skin[:, [2, 0]]])
    ratio = np.linalg.norm(uv[edges[:, 0]] - uv[edges[:, 1]], axis=1)
    ratio /= np.linalg.norm(points[edges[:, 0]] - points[edges[:, 1]], axis=1)
    assert np.quantile(ratio, 0.95) / np.quantile(ratio, 0.05) < 1.6


def test_what_has_a_larger_share_gets_more_of_the_texture():
    points, faces, mirror, eyeball = mask()
    top = points[:, 1] > 0

    def share_of_top(weight: float) -> float:
        uv = unwrap(points, faces, mirror, eyeball, np.where(top, weight, 1.0))
        mine = area(uv, faces)
        return float(mine[top[faces].all(1)].sum() / mine.sum())

    assert share_of_top(2.0) > 1.1 * share_of_top(1.0)


# ── modes ──────────────────────────────────────────────────────────────────────────────────────────────────


def smooth(rng: np.random.Generator, vertices: int = 30, modes: int = 7) -> tuple[np.ndarray, np.ndarray]:
    return rng.normal(size=(vertices, 3, modes)), rng.normal(size=(vertices, 3)) * 50


def rigid(mean: np.ndarray) -> np.ndarray:
    """(6, V, 3) the velocities of a mesh that shifts, or turns about the origin."""
    shifts = [np.tile(axis, (len(mean), 1)) for axis in np.eye(3)]
    turns = [(mean @ rotation_from_axis_angle(1e-6 * axis).T - mean) / 1e-6 for axis in np.eye(3)]
    return np.stack(shifts + turns)


@given(seed=seeds)
def test_modes_are_orthogonal_and_hold_no_rigid_motion(seed):
    modes, mean = smooth(np.random.default_rng(seed))
    made, _ = orthonormal_modes(modes, mean, 5)
    flat = made.reshape(-1, 5)
    sigma = np.linalg.norm(flat, axis=0)
    assert (np.diff(sigma) <= 1e-9).all()
    np.testing.assert_allclose((flat / sigma).T @ (flat / sigma), np.eye(5), atol=1e-9)
    np.testing.assert_allclose(rigid(mean).reshape(6, -1) @ flat, 0, atol=2e-3)


@given(seed=seeds)
def test_all_modes_together_keep_the_covariance(seed):
    modes, mean = smooth(np.random.default_rng(seed))
    made, kept = orthonormal_modes(modes, mean, 7)
    basis = np.linalg.qr(rigid(mean).reshape(6, -1).T)[0]
    flat = modes.reshape(-1, 7)
    flat = flat - basis @ (basis.T @ flat)
    np.testing.assert_allclose(made.reshape(-1, 7) @ made.reshape(-1, 7).T, flat @ flat.T, atol=1e-4)
    assert kept == pytest.approx(1)


def test_the_kept_variance_is_that_of_the_kept_modes():
    modes, mean = smooth(np.random.default_rng(0))
    every, _ = orthonormal_modes(modes, mean, 7)
    some, kept = orthonormal_modes(modes, mean, 3)
    np.testing.assert_allclose(some, every[..., :3])
    assert kept == pytest.approx((some**2).sum() / (every**2).sum())


def test_modes_do_not_depend_on_the_signs_of_the_sources():
    modes, mean = smooth(np.random.default_rng(0))
    signs = np.array([1, -1, -1, 1, -1, 1, 1])
    np.testing.assert_allclose(orthonormal_modes(modes * signs, mean, 7)[0], orthonormal_modes(modes, mean, 7)[0])


# ── the model that ships ───────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def shipped() -> morphable.MorphableModel:
    return morphable.default()


def test_it_is_a_small_file_of_a_handy_mesh(shipped):
    path = morphable.__file__.replace("morphable/__init__.py", "assets/face_model.npz")
    with open(path, "rb") as file:
        assert len(file.read()) < 8_000_000
    assert 6_000 <= shipped.n_vertices <= 8_000
    assert shipped.n_identity == 80
    assert len(np.unique(shipped.faces)) == shipped.n_vertices


def test_its_modes_are_orthonormal_after_float16_and_sorted(shipped):
    flat = shipped.identity_basis.reshape(-1, 80).astype(np.float64)
    sigma = np.linalg.norm(flat, axis=0)
    assert (np.diff(sigma) < 0.01).all()
    np.testing.assert_allclose((flat / sigma).T @ (flat / sigma), np.eye(80), atol=1e-4)


def test_its_modes_hold_no_rigid_motion(shipped):
    motions = rigid(shipped.mean.astype(np.float64) - shipped.mean.mean(0)).reshape(6, -1)
    motions /= np.linalg.norm(motions, axis=1, keepdims=True)
    flat = shipped.identity_basis.reshape(-1, 80)
    np.testing.assert_allclose(motions @ (flat / np.linalg.norm(flat, axis=0)), 0, atol=1e-3)


def test_it_has_arkits_expressions_but_for_the_tongue(shipped):
    assert len(ARKIT) == 52
    assert set(shipped.expression_names) == set(ARKIT) - {"tongueOut"}
    assert shipped.n_expression == 51
    assert shipped.expression_range == (0.0, 1.0)
    assert (np.abs(shipped.expression_basis).max((0, 1)) > 0.5).all()  # every one moves something by half a millimetre


def test_left_and_right_expressions_are_on_their_sides(shipped):
    for k, name in enumerate(shipped.expression_names):
        moved = np.linalg.norm(shipped.expression_basis[..., k], axis=1)
        side = (shipped.mean[:, 0] * moved).sum() / moved.sum()
        if name.endswith("Left") and name not in ("jawLeft", "mouthLeft"):
            assert side > 5, name
        if name.endswith("Right") and name not in ("jawRight", "mouthRight"):
            assert side < -5, name


def test_its_mirror_is_an_involution_that_mirrors_the_mean_and_the_mesh(shipped):
    np.testing.assert_array_equal(shipped.mirror[shipped.mirror], np.arange(shipped.n_vertices))
    np.testing.assert_allclose(shipped.mean[shipped.mirror], shipped.mean * [-1, 1, 1], atol=1e-4)
    faces = {frozenset(face) for face in shipped.faces.tolist()}
    assert {frozenset(face) for face in shipped.mirror[shipped.faces].tolist()} == faces


def test_its_mesh_is_a_surface_with_five_boundaries(shipped):
    """The outer cut, the two eye sockets and the rims of the two eyeballs: mouth and nostrils are closed."""
    assert_manifold(shipped.faces)
    loops = boundary_loops(shipped.faces)
    eyeballs = [loop for loop in loops if shipped.regions["eyeballs"][loop].all()]
    assert len(eyeballs) == 2
    outer, *sockets = sorted((loop for loop in loops if loop not in eyeballs), key=len, reverse=True)
    assert len(sockets) == 2
    assert shipped.mean[outer][:, 2].mean() < -50
    for loop, side in zip(sorted(sockets, key=lambda loop: shipped.mean[loop, 0].mean()), (-1, 1), strict=True):
        np.testing.assert_allclose(shipped.mean[loop].mean(0), [side * 32, 39, -16], atol=6)
        assert shipped.regions["sockets"][loop].mean() > 0.5


def test_no_face_is_without_area(shipped):
    a, b, c = (shipped.mean[shipped.faces[:, k]].astype(np.float64) for k in range(3))
    assert np.linalg.norm(np.cross(b - a, c - a), axis=1).min() > 1e-4


def test_its_texture_coordinates_neither_flip_nor_overlap(shipped):
    assert shipped.uv.min() >= 0
    assert shipped.uv.max() <= 1
    assert area(shipped.uv, shipped.faces).min() > 0
    covered = covering(shipped.uv, shipped.faces, 2048)
    assert covered.max() == 1
    assert covered.mean() > 0.65


def test_its_landmarks_are_where_the_names_say(shipped):
    points = shipped.landmarks(shipped.mean)
    right_eye, left_eye, tip, chin = points[36:42].mean(0), points[42:48].mean(0), points[30], points[8]
    assert 55 < np.linalg.norm(left_eye - right_eye) < 70
    assert (np.diff(points[:17, 0]) > 0).all()
    assert right_eye[0] < tip[0] < left_eye[0]
    assert right_eye[1] > tip[1] > points[51, 1] > points[57, 1] > chin[1]
    assert tip[2] == pytest.approx(points[:, 2].max(), abs=1e-3)
    contour = shipped.landmarks(shipped.mean, contour=True)
    assert (np.diff(contour[:17, 0]) > 0).all()
    np.testing.assert_allclose(points.mean(0), 0, atol=0.1)  # the origin
    np.testing.assert_allclose(points[[36, 39, 48]] * [-1, 1, 1], points[[45, 42, 54]], atol=0.5)


def test_its_mediapipe_points_run_from_nose_to_irises(shipped):
    faces, weights = shipped.extra["mediapipe_faces"], shipped.extra["mediapipe_weights"]
    at = (shipped.mean[shipped.faces[faces]] * weights[..., None]).sum(1)
    points = shipped.landmarks(shipped.mean)
    assert at.shape == (478, 3)
    np.testing.assert_allclose(at[4], points[30], atol=6)  # tip of the nose
    np.testing.assert_allclose(at[468], points[36:42].mean(0), atol=8)  # the subject's right iris
    np.testing.assert_allclose(at[473], points[42:48].mean(0), atol=8)
    np.testing.assert_allclose(at[[61, 291]], points[[48, 54]], atol=6)  # corners of the mouth


def test_lips_open_and_lids_close(shipped):
    def gap(name: str, above: list[int], below: list[int]) -> tuple[float, float]:
        weights = np.eye(51)[shipped.expression_names.index(name)]
        moved = shipped.landmarks(shipped.vertices(np.zeros(80), weights))
        neutral = shipped.landmarks(shipped.mean)
        return (
            float(np.linalg.norm(neutral[above].mean(0) - neutral[below].mean(0))),
            float(np.linalg.norm(moved[above].mean(0) - moved[below].mean(0))),
        )

    closed, opened = gap("jawOpen", [62], [66])
    assert closed < 3
    assert opened > 15
    opened, closed = gap("eyeBlinkLeft", [43, 44], [46, 47])
    assert closed < 0.4 * opened


def test_looking_turns_the_eyeballs_as_named(shipped):
    ball = shipped.regions["eyeballs"] & (shipped.mean[:, 0] > 0)  # the subject's left
    pupil = np.flatnonzero(ball)[shipped.mean[ball, 2].argmax()]
    for name, axis, sign in (("Up", 1, 1), ("Down", 1, -1), ("In", 0, -1), ("Out", 0, 1)):
        moved = shipped.expression_basis[pupil, :, shipped.expression_names.index(f"eyeLook{name}Left")]
        assert moved[axis] * sign > 3, name


def cycles(faces: np.ndarray) -> set[tuple[int, ...]]:
    """The triangles with the way they turn; their order, and which corner comes first, hang on the last bits."""
    return {tuple(np.roll(face, -face.argmin()).tolist()) for face in faces}


def on_vertices(model: morphable.MorphableModel, kind: str) -> np.ndarray:
    """(68 or 17, V): what each landmark takes of each vertex."""
    corners = model.faces[getattr(model, f"{kind}_faces")]
    out = np.zeros((len(corners), model.n_vertices))
    np.put_along_axis(out, corners, getattr(model, f"{kind}_weights"), axis=1)
    return out


@pytest.mark.slow
def test_compiling_again_gives_the_shipped_model(shipped, shared, tmp_path):
    source = shared("data/ict_face.npz")
    compile_model(source).save(tmp_path / "again.npz")
    again = morphable.load(tmp_path / "again.npz")
    assert (again.name, again.licence, again.expression_names) == (
        shipped.name,
        shipped.licence,
        shipped.expression_names,
    )
    assert cycles(again.faces) == cycles(shipped.faces)
    np.testing.assert_array_equal(again.mirror, shipped.mirror)
    for kind in ("landmark", "contour"):
        np.testing.assert_allclose(on_vertices(again, kind), on_vertices(shipped, kind), atol=1e-3)
    for name in ("mean", "uv"):
        np.testing.assert_allclose(getattr(again, name), getattr(shipped, name), atol=1e-3)
    for name in ("identity_basis", "expression_basis"):
        np.testing.assert_allclose(getattr(again, name), getattr(shipped, name), atol=2e-2)
    for name, region in shipped.regions.items():
        np.testing.assert_array_equal(again.regions[name], region)
    found = report(again, source, faces=3)
    assert found["variance kept"] > 0.98
    assert found["resampling and 80 modes: mean mm"] < 0.5
