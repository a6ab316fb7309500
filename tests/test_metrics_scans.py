"""The protocols of meshes against scans: values by hand, what each is invariant to and what not, every refusal."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from sameface.metrics import scans
from sameface.metrics.alignment import Registration, Similarity, Surface
from sameface.metrics.scans import (
    IBUG_SEVEN,
    armse,
    crop,
    distances,
    fw3d2019,
    micc_deep3d,
    micc_ganfit,
    micc_genova,
    micc_mgcnet,
    now,
    now_crop,
    rmse,
    rmse_after_icp,
    stirling,
)
from scan_meshes import bowl, motion, seven, sixty_eight

seeds = st.integers(0, 2**32 - 1)
SCAN, FACES = bowl()
SEVEN, LANDMARKS = seven(SCAN), sixty_eight(SCAN)
TIP = LANDMARKS[30]
few = settings(max_examples=2)


def dented(amount: float = 3.0) -> np.ndarray:
    """Another face of the same size: a dent in a cheek, a longer nose."""
    x, y = SCAN[:, 0], SCAN[:, 1]
    depth = amount * np.exp(-((x - 40) ** 2 + (y + 20) ** 2) / 500) - amount * np.exp(-(x**2 + (y + 5) ** 2) / 200)
    return SCAN - np.array([0, 0, 1]) * depth[:, None]


def moved(vertices: np.ndarray, landmarks: np.ndarray, how: Similarity) -> tuple[Surface, np.ndarray]:
    return Surface(how.apply(vertices), FACES), how.apply(landmarks)


# ── pieces ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_rmse_refuses_nothing_and_nan():
    for errors in (np.zeros(0), np.array([1.0, np.nan])):
        with pytest.raises(ValueError, match="an RMSE needs finite errors"):
            rmse(errors)


def test_crop_keeps_the_ball_and_refuses_an_empty_one():
    points = np.array([[0.0, 0, 0], [3, 4, 0], [0, 0, 5.001], [1, 1, 1]])
    assert crop(points, np.zeros(3), 5.0).tolist() == [0, 1, 3]
    with pytest.raises(ValueError, match=r"only 0 of 4 .* within 5.0 of the centre \(the nearest is 997.0 away\)"):
        crop(points, np.array([1000.0, 4, 0]), 5.0)


def test_distances_to_a_surface_and_to_its_plane_by_hand():
    flat = Surface(np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]), np.array([[0, 1, 2]]))
    found = distances(np.array([[-3.0, 0, 4], [0.2, 0.2, -2]]), flat)
    assert found.surface == pytest.approx([5, 2])
    assert found.plane == pytest.approx([4, 2])
    twice = distances(np.array([[-3.0, 0, 4]]), flat, Similarity(2.0))
    assert twice.surface == pytest.approx([5])
    assert twice.plane == pytest.approx([4])


@few
@given(seed=seeds)
def test_distances_are_unchanged_by_one_motion_of_both(seed):
    rng = np.random.default_rng(seed)
    points, how = dented()[::20], motion(rng, 3, 100)
    before, after = distances(points, Surface(SCAN, FACES)), distances(how.apply(points), Surface(SCAN, FACES), how)
    np.testing.assert_allclose(after.surface, before.surface, atol=1e-9)
    assert np.isclose(after.plane, before.plane, atol=1e-9).mean() > 0.9  # on an edge two triangles are equally near


def test_the_distance_to_the_surface_is_at_most_that_to_its_vertices():
    points = dented()
    found = distances(points, Surface(SCAN, FACES))
    nearest = cKDTree(SCAN).query(points)[0]
    assert (found.surface <= nearest + 1e-9).all()
    assert (found.plane <= found.surface + 1e-9).all()
    assert (nearest - found.surface).max() > 0.5


# ── RMSE after ICP ───────────────────────────────────────────────────────────────────────────────────────────


@few
@given(seed=seeds)
def test_rmse_after_icp_forgets_motions_and_only_with_scale_sizes(seed):
    rng = np.random.default_rng(seed)
    inner = SCAN[np.linalg.norm(SCAN[:, :2], axis=1) < 70]
    plain, found = rmse_after_icp(inner, Surface(dented(), FACES))
    assert 0.2 < plain < 3
    assert isinstance(found, Registration)
    surface = Surface(motion(rng).apply(dented()), FACES)
    assert rmse_after_icp(inner, surface)[0] == pytest.approx(plain, rel=1e-2)
    large = Surface(1.1 * SCAN, FACES)
    assert rmse_after_icp(inner, large, scale=True)[0] < 1e-3
    assert rmse_after_icp(inner, large)[0] > 0.3
    assert rmse_after_icp(inner, large, to="plane")[0] <= rmse_after_icp(inner, large)[0]


def test_rmse_after_icp_refuses_a_fit_that_did_not_converge(monkeypatch):
    monkeypatch.setattr(scans, "icp", lambda *_, **__: Registration(Similarity(), 200, False, 7.0))
    with pytest.raises(ValueError, match=r"ICP did not converge within 200 steps \(rms 7 mm\)"):
        rmse_after_icp(SCAN, Surface(SCAN, FACES))


# ── ARMSE ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_armse_is_zero_on_itself_and_doubles_when_normalised_by_half():
    truth = Surface(SCAN, FACES)
    marks = {"truth_landmarks": LANDMARKS, "landmarks": LANDMARKS}
    assert armse(truth, truth, **marks) < 1e-9
    other = Surface(dented(), FACES)
    millimetres = armse(truth, other, **marks, normalise=False)
    eyes = np.linalg.norm(LANDMARKS[36] - LANDMARKS[45])
    assert armse(truth, other, **marks) == pytest.approx(millimetres / eyes)
    near = armse(truth, other, **marks, normalise=False, radius=60.0)
    assert near > millimetres  # the dents are near the nose


def test_armse_of_a_shifted_plane_with_a_rim_by_hand():
    flat, _ = bowl(5, 5)
    flat[:, 2] = 0
    faces = bowl(5, 5)[1]
    marks = flat[np.arange(68) % 25]
    half = Surface(flat, faces[flat[faces][:, :, 0].max(1) <= 0])  # the left half, with loose vertices on the right
    there = np.maximum(flat[:, 0], 0)
    assert armse(Surface(flat, faces), half, truth_landmarks=marks, landmarks=marks, normalise=False) == pytest.approx(
        np.sqrt((there**2).mean()) / 2, rel=1e-6
    )


@few
@given(seed=seeds)
def test_armse_forgets_rigid_motions_but_not_sizes(seed):
    truth, how = Surface(SCAN, FACES), motion(np.random.default_rng(seed), 2, 100)
    surface, landmarks = moved(SCAN, LANDMARKS, how)
    assert armse(truth, surface, truth_landmarks=LANDMARKS, landmarks=landmarks) < 1e-6
    assert armse(truth, Surface(1.1 * SCAN, FACES), truth_landmarks=LANDMARKS, landmarks=1.1 * LANDMARKS) > 1e-3


# ── 3DFAW 2019 ───────────────────────────────────────────────────────────────────────────────────────────────


def cut(vertices: np.ndarray, radius: float) -> Surface:
    """What is within `radius` of the nose tip, with the vertices beyond it left loose."""
    inside = np.linalg.norm(SCAN - LANDMARKS[30], axis=1) <= radius
    return Surface(vertices, FACES[inside[FACES].all(1)])


def test_fw3d2019_is_that_of_a_slow_loop():
    truth, prediction = cut(SCAN, 80), Surface(dented(), FACES)
    marks = LANDMARKS.copy()
    marks[:17] = np.nan
    goal = SCAN[sorted(set(truth.faces.reshape(-1).tolist()))]
    points = dented()
    inside = [k for k, p in enumerate(points) if np.sqrt(((p - LANDMARKS[30]) ** 2).sum()) <= 60]
    points = points[inside]
    for _ in range(19):
        nearest = np.array([goal[((goal - p) ** 2).sum(1).argmin()] for p in points])
        a, b = points - points.mean(0), nearest - nearest.mean(0)
        turn, scale = Rotation.align_vectors(b, a)[0].as_matrix(), 1.0
        scale = (b * (a @ turn.T)).sum() / (a**2).sum()
        points = scale * a @ turn.T + nearest.mean(0)
    kept = Surface(
        points, np.array([[inside.index(k) for k in face] for face in FACES.tolist() if {*face} <= {*inside}])
    )
    there, here = distances(points[::4], truth).surface, distances(goal[::4], kept).surface
    expected = (np.sqrt((there**2).mean()) + np.sqrt((here**2).mean())) / 2
    found = fw3d2019(truth, marks, prediction, LANDMARKS, radius=60.0)
    assert found == pytest.approx(expected, rel=1e-6)
    assert found > 0.2


@few
@given(seed=seeds, size=st.floats(0.1, 10))
def test_fw3d2019_forgets_similarities(seed, size):
    truth, how = cut(SCAN, 80), motion(np.random.default_rng(seed), 2, 100, size)
    assert fw3d2019(truth, LANDMARKS, cut(how.apply(SCAN), 80), how.apply(LANDMARKS)) < 1e-6
    assert fw3d2019(truth, LANDMARKS, Surface(SCAN, FACES), LANDMARKS) > 0.1  # beyond the scan's rim
    other, marks = Surface(dented(), FACES), LANDMARKS
    turned, turned_marks = moved(dented(), LANDMARKS, how)
    expected = fw3d2019(truth, LANDMARKS, other, marks)
    assert fw3d2019(truth, LANDMARKS, turned, turned_marks) == pytest.approx(expected, rel=1e-3)


def test_fw3d2019_needs_the_nose_tip_of_the_prediction():
    marks = LANDMARKS.copy()
    marks[30] = np.nan
    with pytest.raises(ValueError, match="cropped around its nose tip, which is NaN"):
        fw3d2019(Surface(SCAN, FACES), LANDMARKS, Surface(SCAN, FACES), marks)
    with pytest.raises(ValueError, match="3 or more finite points"):
        fw3d2019(Surface(SCAN, FACES), np.full((68, 3), np.nan), Surface(SCAN, FACES), LANDMARKS)


# ── NoW and Stirling ─────────────────────────────────────────────────────────────────────────────────────────


def test_nows_ball_by_hand():
    landmarks = np.array(
        [[-40.0, 30, 0], [-10, 30, 0], [10, 30, 0], [40, 30, 0], [0, -10, 0], [-20, -40, 0], [20, -40, 0]]
    )
    centre, radius = now_crop(landmarks)
    assert centre.tolist() == [0, 2, 0]  # 0.3 of the 40 mm from the nose bottom to the bridge
    assert radius == pytest.approx(1.4 * (80 + 40) / 2)
    assert now_crop(landmarks, 1.2)[1] == pytest.approx(72)


def test_the_seven_points_are_nows():
    assert IBUG_SEVEN == (36, 39, 42, 45, 33, 48, 54)


@few
@given(seed=seeds, metrical=st.booleans())
def test_now_is_zero_for_the_scan_itself_moved(seed, metrical):
    rng = np.random.default_rng(seed)
    surface, landmarks = moved(SCAN, SEVEN, motion(rng, 2, 300, 1.0 if metrical else rng.uniform(0.01, 3)))
    found = now(SCAN, SEVEN, surface, landmarks, metrical=metrical)
    assert found.distances.max() < 1e-5
    centre, radius = now_crop(SEVEN)
    np.testing.assert_array_equal(found.kept, np.flatnonzero(np.linalg.norm(SCAN - centre, axis=1) <= radius))


def test_now_refines_what_the_landmarks_get_wrong():
    landmarks = SEVEN + np.random.default_rng(0).normal(0, 3, (7, 3))
    assert now(SCAN, SEVEN, Surface(SCAN, FACES), landmarks).distances.max() < 1e-5
    assert stirling(SCAN, SEVEN, Surface(SCAN, FACES), landmarks).distances.mean() > 0.3


def test_only_the_metrical_error_sees_the_size():
    surface, landmarks = Surface(1.1 * SCAN, FACES), 1.1 * SEVEN
    assert now(SCAN, SEVEN, surface, landmarks).distances.max() < 1e-5
    assert now(SCAN, SEVEN, surface, landmarks, metrical=True).distances.mean() > 0.3
    metres = Surface(SCAN / 1000, FACES)
    assert now(SCAN, SEVEN, metres, SEVEN / 1000, metrical=True, unit="m").distances.max() < 1e-5
    assert now(SCAN, SEVEN, Surface(SCAN / 10, FACES), SEVEN / 10, metrical=True, unit="cm").distances.max() < 1e-5


def test_now_doubles_when_millimetres_double():
    once = now(SCAN, SEVEN, Surface(dented(), FACES), SEVEN)
    twice = now(2 * SCAN, 2 * SEVEN, Surface(dented(), FACES), SEVEN)
    assert twice.distances.mean() == pytest.approx(2 * once.distances.mean(), rel=1e-4)
    assert once.distances.mean() > 0.1


def test_a_mirrored_face_scores_worse():
    mirrored = Surface(SCAN * [-1, 1, 1], FACES[:, ::-1])
    left_right = SEVEN[[3, 2, 1, 0, 4, 6, 5]] * [-1, 1, 1]
    assert now(SCAN, SEVEN, mirrored, left_right).distances.mean() > 0.5


def test_now_refuses_other_units_and_a_fit_that_did_not_converge(monkeypatch):
    surface = Surface(SCAN, FACES)
    with pytest.raises(ValueError, match="there is no unit 'inch'; there are: mm, cm, m"):
        now.__wrapped__(SCAN, SEVEN, surface, SEVEN, unit="inch")  # past the tests' type checks
    monkeypatch.setattr(scans, "fit_mesh", lambda *_, **__: Registration(Similarity(), 200, False, 7.0))
    with pytest.raises(ValueError, match="NoW's alignment did not converge"):
        now(SCAN, SEVEN, surface, SEVEN)


@few
@given(seed=seeds)
def test_stirling_forgets_similarities(seed):
    rng = np.random.default_rng(seed)
    plain = stirling(SCAN, SEVEN, Surface(dented(), FACES), SEVEN)
    surface, landmarks = moved(dented(), SEVEN, motion(rng, 3, 100, rng.uniform(0.1, 9)))
    again = stirling(SCAN, SEVEN, surface, landmarks)
    np.testing.assert_allclose(again.distances, plain.distances, atol=1e-6)
    assert plain.registration.rms == pytest.approx(rmse(plain.distances))


# ── MICC ─────────────────────────────────────────────────────────────────────────────────────────────────────

MICC = {
    "deep3d": lambda surface, marks: micc_deep3d(SCAN, LANDMARKS, surface, marks, nose_tip=TIP),
    "mgcnet": lambda surface, marks: micc_mgcnet(SCAN, LANDMARKS, surface, marks, nose_tip=TIP),
    "genova": lambda surface, marks: micc_genova(SCAN, LANDMARKS, surface, marks, nose_tip=TIP)[0],
    "ganfit": lambda surface, marks: micc_ganfit(Surface(SCAN, FACES), LANDMARKS, surface, marks),
}


@pytest.mark.parametrize("protocol", MICC)
def test_micc_is_zero_for_the_scan_itself_and_not_for_another(protocol):
    how = motion(np.random.default_rng(1), 2, 50)
    assert MICC[protocol](*moved(SCAN, LANDMARKS, how)) < 1e-3
    wrong = MICC[protocol](*moved(dented(), LANDMARKS, how))
    assert 0.1 < wrong < 3
    assert wrong == pytest.approx(MICC[protocol](Surface(dented(), FACES), LANDMARKS), rel=2e-2)


@pytest.mark.parametrize("protocol", ["deep3d", "genova", "mgcnet"])
def test_micc_with_its_own_scale_forgets_sizes(protocol):
    plain = MICC[protocol](Surface(dented(), FACES), LANDMARKS)
    assert MICC[protocol](Surface(1.5 * dented(), FACES), 1.5 * LANDMARKS) == pytest.approx(plain, rel=1e-2)


def test_ganfits_two_directions_are_measured_in_two_sizes():
    # a crop of 95 mm of a face of twice the size is another crop: only the order of magnitude can be told
    twice = micc_ganfit(Surface(SCAN, FACES), LANDMARKS, Surface(2 * dented(), FACES), 2 * LANDMARKS, radius=500.0)
    once = micc_ganfit(Surface(SCAN, FACES), LANDMARKS, Surface(dented(), FACES), LANDMARKS, radius=500.0)
    assert twice == pytest.approx(1.5 * once, rel=0.1)


def test_ganfit_refuses_an_alignment_that_shrinks():
    mirrored = Surface(SCAN * [-1, 1, 1], FACES)  # landmarks of the wrong sides: no rotation fits
    with pytest.raises(ValueError, match="alignment shrank the mesh to 0"):
        micc_ganfit(Surface(SCAN, FACES), LANDMARKS, mirrored, LANDMARKS * [-1, 1, 1])


def test_genova_uses_one_scale_for_all():
    large, marks = Surface(1.25 * SCAN, FACES), 1.25 * LANDMARKS
    error, scale = micc_genova(SCAN, LANDMARKS, large, marks, nose_tip=TIP)
    assert scale == pytest.approx(0.8, rel=1e-4)
    again, given_scale = micc_genova(SCAN, LANDMARKS, large, marks, nose_tip=TIP, scale=1.0)
    assert given_scale == 1
    assert again > 1 > error


def test_genova_counts_the_intersection_only():
    low = SCAN[FACES][:, :, 1].max(1) < 0
    half = Surface(SCAN, FACES[low])  # a face without a forehead costs nothing where there is none
    error, _ = micc_genova(SCAN, LANDMARKS, half, LANDMARKS, nose_tip=TIP, scale=1.0)
    assert error < 1
    assert micc_deep3d(SCAN, LANDMARKS, half, LANDMARKS, nose_tip=TIP) > error


def test_genova_refuses_a_mesh_that_the_scan_does_not_face():
    sliver = Surface(SCAN, FACES[:1])
    with pytest.raises(ValueError, match="only 0 of 36 points face the inside of the mesh; ICP needs 3 or more"):
        micc_genova(SCAN, LANDMARKS, sliver, LANDMARKS, nose_tip=TIP, radius=20.0, scale=1.0)
