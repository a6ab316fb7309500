"""REALY's steps: each against a dense or slow version of itself, and what the whole is invariant to."""

import numpy as np
import pytest

from sameface.metrics import regions
from sameface.metrics.alignment import Surface
from sameface.metrics.regions import KEYPOINTS, REGIONS, align_seven, bend, region_error
from scan_meshes import bowl, motion

MESH, FACES = bowl(13, 15)
SCAN = MESH / 10  # their scans are in units of about a centimetre
KEYS = SCAN[np.random.default_rng(0).permutation(len(SCAN))[:85]]
SURFACE = Surface(SCAN, FACES)


def other() -> np.ndarray:
    dent = 0.5 * np.exp(-((SCAN[:, :2] - [2, -3]) ** 2).sum(1) / 8)
    return SCAN - np.array([0, 0, 1]) * dent[:, None]


def test_the_regions_have_their_keypoints():
    assert {region: len(KEYPOINTS[region]) for region in REGIONS} == {
        "nose": 11,
        "mouth": 14,
        "forehead": 22,
        "cheek": 27,
    }


def test_seven_keypoints_give_the_similarity_that_was_applied():
    true = motion(np.random.default_rng(1), 2, 10, 3.0)
    np.testing.assert_allclose(align_seven(KEYS, true.apply(KEYS)).apply(KEYS), true.apply(KEYS), atol=1e-9)


def test_the_scale_of_seven_keypoints_is_a_ratio_of_sums():
    rng = np.random.default_rng(2)
    target = KEYS + rng.normal(0, 0.5, KEYS.shape)
    found = align_seven(KEYS, target)
    x, y = (points[list(regions.SEVEN)] for points in (KEYS, target))
    top = sum(abs(v) for row in y - y.mean(0) for v in row)
    bottom = sum(abs(v) for row in x - x.mean(0) for v in found.rotation @ row)
    assert found.scale == pytest.approx(top / bottom)


def test_maps_of_least_energy_against_a_dense_solver():
    rng = np.random.default_rng(3)
    points, edges = rng.normal(size=(5, 3)), np.array([[0, 1], [1, 2], [2, 3], [3, 4], [0, 4]])
    terms = [(rng.uniform(0.5, 1, 5), rng.normal(size=(5, 3))), (rng.uniform(1, 2, 5), rng.normal(size=(5, 3)))]
    weights, alpha = np.array([2.0, 2, 3, 2]), 0.7
    rows, right = [], []
    for i, j in edges:
        for k in range(4):
            row = np.zeros(20)
            row[4 * i + k], row[4 * j + k] = alpha * weights[k], -alpha * weights[k]
            rows.append(row)
            right.append(np.zeros(3))
    for weight, goal in terms:
        for i in range(5):
            row = np.zeros(20)
            row[4 * i : 4 * i + 4] = weight[i] * np.append(points[i], 1)
            rows.append(row)
            right.append(weight[i] * goal[i])
    dense = np.linalg.lstsq(np.array(rows), np.array(right), rcond=None)[0]
    np.testing.assert_allclose(regions._solve(edges, alpha, weights, points, terms), dense, atol=1e-8)


def test_a_mesh_bent_onto_itself_stays():
    handles = np.array([5, 60, 100, 130, 170])
    for chosen in (handles, handles[:0]):
        np.testing.assert_allclose(bend(SCAN, FACES, SCAN, chosen, SCAN[chosen]), SCAN, atol=1e-6)


def test_keypoints_pull_a_mesh_along_a_surface():
    handles = np.array([5, 60, 100, 130, 170])
    aside = np.array([0.5, 0, 0])
    aims = SCAN[handles] + aside
    bent = bend(SCAN, FACES, SCAN + aside, handles, aims)
    assert np.linalg.norm(bent[handles] - aims, axis=1).mean() < 0.1


@pytest.mark.parametrize("region", REGIONS)
def test_a_region_against_itself_is_zero_and_forgets_similarities(region):
    assert region_error(region, SCAN, FACES, KEYS, SURFACE, KEYS).nmse < 1e-6
    true = motion(np.random.default_rng(4), 2, 10, 3.0)
    plain = region_error(region, SCAN, FACES, KEYS, Surface(other(), FACES), KEYS)
    moved = region_error(region, SCAN, FACES, KEYS, Surface(true.apply(other()), FACES), true.apply(KEYS))
    assert 0.01 < plain.nmse < 0.5
    assert moved.nmse == pytest.approx(plain.nmse, rel=1e-3)
    assert plain.nmse == pytest.approx(plain.distances.mean())
    assert plain.deformed.shape == SCAN.shape


def test_vertices_given_twice_count_once():
    twice = np.concatenate([SCAN, SCAN[:20]])
    faces = FACES.copy()
    faces[:8] = np.where(faces[:8] < 20, faces[:8] + len(SCAN), faces[:8])
    prediction = Surface(other(), FACES)
    once = region_error("cheek", SCAN, FACES, KEYS, prediction, KEYS)
    # the rigid step, like the original's, sees them twice, so the numbers are near, not equal
    assert region_error("cheek", twice, faces, KEYS, prediction, KEYS).nmse == pytest.approx(once.nmse, rel=0.1)


def test_what_cannot_be_done_is_refused():
    with pytest.raises(ValueError, match="there is no region 'ear'; there are: nose, mouth, forehead, cheek"):
        region_error("ear", SCAN, FACES, KEYS, SURFACE, KEYS)
    loose = np.concatenate([SCAN, SCAN[:1] + 50])  # a vertex of no face, beyond every keypoint
    with pytest.raises(ValueError, match="a part of it hangs on to nothing"):
        bend(loose, FACES, loose, np.array([5, 60, 100, 130, 170]), loose[[5, 60, 100, 130, 170]])


def test_a_bend_without_keypoints_that_does_not_settle_is_refused(monkeypatch):
    monkeypatch.setattr(regions, "MOST_STEPS", 2)
    with pytest.raises(ValueError, match="its maps went on changing after 2 steps"):
        bend(SCAN, FACES, other(), np.zeros(0, np.int64), np.zeros((0, 3)))
