"""The model fitted to landmarks and to scans: Jacobians by differences, known faces found again, strays ignored."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sameface.core.geometry import barycentric_weights, rotation_from_axis_angle
from sameface.metrics.alignment import Similarity, Surface
from sameface.morphable import default, scan_fit
from sameface.morphable.scan_fit import Fitted, fit_landmarks, fit_scan

MODEL = default()
POSE = Similarity(1.3, rotation_from_axis_angle(np.array([0.5, -1.0, 2.0])), np.array([30.0, -200.0, 80.0]))


def somebody(seed, size=0.8):
    identity = size * np.random.default_rng(seed).normal(size=MODEL.n_identity)
    return identity, MODEL.vertices(identity).astype(np.float64)


def distance(fitted, points):
    mesh = fitted.pose.apply(MODEL.vertices(fitted.identity).astype(np.float64))
    return Surface(mesh, MODEL.faces).closest(points).distances


def test_landmarks_of_a_face_in_any_pose_are_met():
    _, mesh = somebody(0)
    landmarks = POSE.apply(MODEL.landmarks(mesh))
    landmarks[[3, 40]] = np.nan
    found = fit_landmarks(MODEL, landmarks)
    again = found.pose.apply(MODEL.landmarks(MODEL.vertices(found.identity)))
    far = np.linalg.norm(again - landmarks, axis=1)
    assert np.nanmax(far) < 2
    assert np.nanmean(far) < 0.7
    none = fit_landmarks(MODEL, POSE.apply(MODEL.landmarks(MODEL.mean).astype(np.float64)))
    assert np.linalg.norm(none.identity) < 1e-3
    assert none.pose.scale == pytest.approx(1.3, rel=1e-4)


def test_a_scan_is_met_better_than_landmarks_can_whatever_strays_there_are():
    _, mesh = somebody(1)
    points = POSE.apply(mesh[MODEL.regions["face"]])
    near = fit_landmarks(MODEL, POSE.apply(MODEL.landmarks(mesh)))
    best = fit_scan(MODEL, points, near)
    assert distance(best, points).mean() < 0.5 * distance(near, points).mean()
    assert distance(best, points).mean() < 0.3
    strays = points + 0.0
    strays[::20] += np.random.default_rng(0).normal(0, 40, strays[::20].shape)
    assert distance(fit_scan(MODEL, strays, near), points).mean() < 0.4


def test_without_scale_the_size_stays():
    _, mesh = somebody(2)
    landmarks, points = (1.1 * part for part in (MODEL.landmarks(mesh), mesh[MODEL.regions["face"]]))
    near = fit_landmarks(MODEL, landmarks, scale=False)
    assert near.pose.scale == 1
    assert fit_scan(MODEL, points, near, scale=False).pose.scale == 1


@given(st.integers(0, 2**32 - 1))
def test_weights_give_the_points_of_a_triangle_again(seed):
    rng = np.random.default_rng(seed)
    corners, weights = rng.normal(size=(5, 3, 3)), rng.dirichlet(np.ones(3), 5)
    points = np.einsum("nk,nkc->nc", weights, corners)
    again = np.einsum("nk,nkc->nc", barycentric_weights(points, corners), corners)
    np.testing.assert_allclose(again, points, atol=1e-6)


def test_a_triangle_without_area_has_a_first_corner():
    assert barycentric_weights(np.ones((1, 3)), np.ones((1, 3, 3))).tolist() == [[1, 0, 0]]


@pytest.mark.parametrize("fit", ["landmarks", "scan"])
def test_the_jacobian_is_the_derivative(monkeypatch, fit):
    _, mesh = somebody(3)
    taken = {}
    monkeypatch.setattr(scan_fit, "_descend", lambda linearised, start, scale: taken.update(f=linearised) or start)
    monkeypatch.setattr(scan_fit, "STRAY", 1e9)  # weights of strays are no part of the derivative
    start = fit_landmarks(MODEL, MODEL.landmarks(mesh))
    if fit == "scan":
        fit_scan(MODEL, mesh[MODEL.regions["nose"]], start)
    begin = Fitted(
        np.full(MODEL.n_identity, 0.1), Similarity(0.97, rotation_from_axis_angle(np.full(3, 0.02)), np.ones(3))
    )
    here = taken["f"](begin)
    for seed in range(3):
        step = 1e-4 * np.random.default_rng(seed).normal(size=7 + MODEL.n_identity)
        step[6] = 0  # mm of the scan are not those of the model, and their ratio counts as given
        there = taken["f"](scan_fit._moved(begin, step))
        change = there.residual - here.residual
        expected = -here.jacobian @ step
        assert np.corrcoef(change, expected)[0, 1] > 0.97
        assert (change @ expected) / (expected @ expected) == pytest.approx(1, abs=0.03)


def test_nothing_to_fit_is_refused():
    with pytest.raises(ValueError, match="a scan without points cannot be fitted"):
        fit_scan(MODEL, np.zeros((0, 3)), Fitted(np.zeros(MODEL.n_identity), Similarity()))
    with pytest.raises(ValueError, match="landmarks must be 3 or more"):
        fit_landmarks(MODEL, np.full((68, 3), np.nan))
