"""NME and its kin: by hand, against slow loops, SciPy and scikit-learn, by their invariances, and on AFLW2000-3D."""

import inspect
import json
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import procrustes
from scipy.spatial.transform import Rotation
from sklearn.metrics import auc

from sameface.metrics.landmarks import (
    Depth,
    Normaliser,
    aligned,
    ape,
    area_under_curve,
    cumulative_errors,
    cvgtce,
    face_size,
    failure_rate,
    gte,
    mean_by_yaw,
    nme,
    point_errors,
    table_by_yaw,
    yaw_bin,
)

seeds = st.integers(0, 2**32 - 1)
NORMALISERS: tuple[Normaliser, ...] = get_args(Normaliser)
DEPTHS: tuple[Depth, ...] = get_args(Depth)


def face(seed: int, count: int = 68) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 3)) * [40, 50, 30] + [100, 120, 7]


def pair(seed: int, count: int = 68) -> tuple[np.ndarray, np.ndarray]:
    truth = face(seed, count)
    return truth + np.random.default_rng(seed + 1).normal(size=truth.shape), truth


def turned(seed: int) -> np.ndarray:
    return Rotation.from_rotvec(np.random.default_rng(seed).normal(size=3)).as_matrix()


# ── what is divided by ─────────────────────────────────────────────────────────────────────────────────────


def test_each_size_by_hand():
    points = np.zeros((68, 3))
    points[0, :2], points[16, :2] = [-10, -30], [80, 10]  # the box is 90 × 40
    points[36], points[45] = [10, 0, 5], [13, 4, 17]
    points[37:42], points[42:45], points[46:48] = [0, 0, 0], [6, 8, 0], [6, 8, 0]
    wanted: dict[Normaliser, float] = {
        "box_area": 60, "box_diagonal": np.hypot(90, 40), "box_larger_side": 90, "box_mean_side": 65, "outer_eyes": 5,
        "outer_eyes_3d": 13, "pupils": np.hypot((30 + 13) / 6 - 10 / 6, (40 + 4) / 6),
    }  # fmt: skip
    assert set(wanted) == set(NORMALISERS)
    for name, value in wanted.items():
        np.testing.assert_allclose(face_size(points, name), value, err_msg=name)


@settings(max_examples=15)
@given(seed=seeds, name=st.sampled_from(NORMALISERS), factor=st.floats(0.1, 10))
def test_sizes_do_not_see_shifts_and_grow_with_the_face(seed, name, factor):
    points = face(seed)
    np.testing.assert_allclose(face_size(factor * points + [5, -7, 11], name), factor * face_size(points, name))


@settings(max_examples=15)
@given(seed=seeds, name=st.sampled_from([n for n in NORMALISERS if n != "outer_eyes_3d"]))
def test_no_size_but_the_3d_one_sees_depth(seed, name):
    points = face(seed)
    assert face_size(points[:, :2], name) == face_size(points, name) == face_size(points * [1, 1, 9], name)


TURN = Rotation.from_euler("xyz", [0.4, 0.6, 0.2]).as_matrix().T


@settings(max_examples=15)
@given(seed=seeds)
def test_turning_in_space_keeps_the_3d_size(seed):
    points = face(seed)
    np.testing.assert_allclose(face_size(points @ TURN, "outer_eyes_3d"), face_size(points, "outer_eyes_3d"))


def test_turning_in_space_changes_every_other_size():
    points = face(0)  # of one face: among all there are some whose box happens to stay
    for name in set(NORMALISERS) - {"outer_eyes_3d"}:
        assert not np.isclose(face_size(points @ TURN, name), face_size(points, name), rtol=1e-2), name


def test_66_points_have_the_eyes_where_68_have_them():
    points = face(0)
    assert face_size(np.delete(points, [60, 64], 0), "outer_eyes_3d") == face_size(points, "outer_eyes_3d")


def test_sizes_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="box_area of the true points is 0; an error cannot be divided"):
        face_size(np.array([[0.0, 0], [5, 0]]), "box_area")
    with pytest.raises(ValueError, match=r"pupils is measured on 68 points of iBUG, .* there are 21; give the size"):
        face_size(face(0, 21), "pupils")
    with pytest.raises(ValueError, match="outer_eyes_3d needs more coordinates than the 2"):
        face_size(face(0)[:, :2], "outer_eyes_3d")
    with pytest.raises(ValueError, match="1 of 68 of the true points are not finite"):
        face_size(np.where(np.arange(68)[:, None] == 3, np.nan, face(0)), "box_area")
    with pytest.raises(ValueError, match="0 of 0 of the true points"):
        face_size(np.zeros((0, 2)), "box_area")
    with pytest.raises(ValueError, match="no normaliser 'eyes'; there are: box_area, box_diagonal, "):
        inspect.unwrap(face_size)(face(0), "eyes")  # the tests' own checker would refuse the word first


# ── the mean error ─────────────────────────────────────────────────────────────────────────────────────────


def test_nme_by_hand():
    truth = np.array([[0.0, 0, 1], [10, 0, 2], [10, 40, 3], [0, 40, 6]])
    predicted = truth + np.array([[3, 4, 0], [0, 0, 12], [0, 0, 0], [6, 8, 0]])
    np.testing.assert_allclose(nme(predicted, truth), (5 + 0 + 0 + 10) / 4 / 20)
    np.testing.assert_allclose(nme(predicted, truth, depth="as_given"), (5 + 12 + 0 + 10) / 4 / 20)
    # least z of the truth 1, of the prediction 1; means 3 and 6
    np.testing.assert_allclose(nme(predicted, truth, depth="minus_min", normaliser=10.0), (5 + 12 + 0 + 10) / 4 / 10)
    by_hand = np.hypot([5, 0, 0, 10], [3, 9, 3, 3]).mean() / 20
    np.testing.assert_allclose(nme(predicted, truth, depth="minus_mean"), by_hand)
    seen = np.array([True, False, True, False])
    np.testing.assert_allclose(nme(predicted, truth, visible=seen), 2.5 / 20)


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("normaliser", NORMALISERS)
def test_every_variant_against_a_slow_loop(depth, normaliser):
    predicted, truth = pair(5)
    gone = {"minus_min": min, "minus_mean": lambda z: sum(z) / len(z)}.get(depth, lambda _: 0.0)
    p0, g0 = gone(predicted[:, 2].tolist()), gone(truth[:, 2].tolist())
    total = 0.0
    for (px, py, pz), (gx, gy, gz) in zip(predicted.tolist(), truth.tolist(), strict=True):
        dz = 0.0 if depth == "ignored" else (pz - p0) - (gz - g0)
        total += ((px - gx) ** 2 + (py - gy) ** 2 + dz**2) ** 0.5
    found = nme(predicted, truth, depth=depth, normaliser=normaliser)
    np.testing.assert_allclose(found, total / 68 / face_size(truth, normaliser))


@settings(max_examples=15)
@given(seed=seeds, depth=st.sampled_from(DEPTHS), normaliser=st.sampled_from(NORMALISERS))
def test_nme_is_free_of_the_unit_and_of_where_the_face_is(seed, depth, normaliser):
    predicted, truth = pair(seed)
    shift = np.array([1, 2, 3])
    again = nme(3 * predicted + shift, 3 * truth + shift, depth=depth, normaliser=normaliser)
    np.testing.assert_allclose(again, nme(predicted, truth, depth=depth, normaliser=normaliser))


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("normaliser", NORMALISERS)
def test_nme_is_free_of_nothing_else(depth, normaliser):
    predicted, truth = pair(0)

    def error(points):
        return nme(points, truth, depth=depth, normaliser=normaliser)

    for other in (predicted + np.array([10, 0, 0]), 1.1 * predicted):
        assert abs(error(other) - error(predicted)) > 1e-3
    assert np.isclose(error(predicted + np.array([0, 0, 50])), error(predicted)) == (depth != "as_given")


@settings(max_examples=15)
@given(seed=seeds, depth=st.sampled_from(DEPTHS))
def test_errors_twice_as_large_give_twice_the_nme(seed, depth):
    predicted, truth = pair(seed)
    once = nme(predicted, truth, depth=depth)
    np.testing.assert_allclose(nme(truth + 2 * (predicted - truth), truth, depth=depth) / once, _doubled(depth, seed))


def _doubled(depth: str, seed: int) -> float:
    """2, but for `minus_min`: its zero is one point, which may become another when errors grow."""
    if depth != "minus_min":
        return 2.0
    predicted, truth = pair(seed)
    once, twice = (
        np.linalg.norm(e - [0, 0, (truth + e)[:, 2].min() - truth[:, 2].min()], axis=1).mean()
        for e in (predicted - truth, 2 * (predicted - truth))
    )
    return twice / once


@settings(max_examples=15)
@given(seed=seeds)
def test_the_truth_has_no_error(seed):
    truth = face(seed)
    for depth in DEPTHS:
        assert nme(truth, truth, depth=depth) == 0
    for alignment in ("rigid", "similarity"):
        np.testing.assert_allclose(nme(truth, truth, depth="as_given", alignment=alignment), 0, atol=1e-12)


@settings(max_examples=15)
@given(seed=seeds, scale=st.floats(0.3, 0.9) | st.floats(1.1, 3))
def test_alignment_takes_out_what_it_names(seed, scale):
    predicted, truth = pair(seed)
    turn = turned(seed)
    moved, grown = predicted @ turn.T + [3, 9, -4], scale * predicted @ turn.T + [3, 9, -4]

    def error(points, alignment):
        return nme(points, truth, depth="as_given", alignment=alignment)

    np.testing.assert_allclose(error(moved, "rigid"), error(predicted, "rigid"), rtol=1e-7)
    np.testing.assert_allclose(error(grown, "similarity"), error(predicted, "similarity"), rtol=1e-7)
    assert error(grown, "none") > error(predicted, "none")
    assert not np.isclose(error(grown, "rigid"), error(predicted, "rigid"), rtol=1e-3)


@settings(max_examples=15)
@given(seed=seeds)
def test_alignment_agrees_with_scipy(seed):
    predicted, truth = pair(seed, 30)
    _, _, disparity = procrustes(truth, predicted)  # of both, shifted and brought to length 1
    ours = ((aligned(predicted, truth) - truth) ** 2).sum() / ((truth - truth.mean(0)) ** 2).sum()
    np.testing.assert_allclose(ours, disparity, rtol=1e-9)


def test_a_mirrored_face_does_not_align():
    truth = face(3)
    assert nme(truth * [-1, 1, 1], truth, depth="as_given", alignment="similarity") > 0.1


def test_alignment_none_gives_back_the_prediction():
    predicted, truth = pair(0)
    assert aligned(predicted, truth, "none") is predicted


def test_dense_points_take_their_size_as_a_number():
    predicted, truth = pair(1, 1000)
    size = face_size(truth[:68], "box_area")
    errors = point_errors(predicted, truth, depth="minus_mean")
    assert errors.shape == (1000,)
    np.testing.assert_allclose(nme(predicted, truth, normaliser=size, depth="minus_mean"), errors.mean() / size)


def test_comparisons_that_cannot_be_are_refused():
    predicted, truth = pair(0)
    with pytest.raises(ValueError, match="'minus_mean' needs x, y and z, but the points have 2"):
        nme(predicted[:, :2], truth[:, :2], depth="minus_mean")
    with pytest.raises(ValueError, match="size to divide by is -1"):
        nme(predicted, truth, normaliser=-1.0)
    with pytest.raises(ValueError, match="no point is visible"):
        nme(predicted, truth, visible=np.zeros(68, bool))
    with pytest.raises(ValueError, match="1 of 68 of the predicted points are not finite"):
        nme(np.where(np.arange(68)[:, None] == 3, np.inf, predicted), truth)
    with pytest.raises(ValueError, match="all predicted points are one point"):
        nme(np.ones((68, 3)), truth, alignment="similarity")
    unchecked = inspect.unwrap(point_errors)  # the tests' own checker would refuse these first
    with pytest.raises(ValueError, match=r"predicted points have shape \(67, 3\), the true ones \(68, 3\)"):
        inspect.unwrap(aligned)(predicted[:67], truth, "none")
    with pytest.raises(ValueError, match="no treatment of z 'min'; there are: ignored, as_given, minus_min"):
        unchecked(predicted, truth, depth="min")
    with pytest.raises(ValueError, match="no alignment 'icp'; there are: none, rigid, similarity"):
        inspect.unwrap(aligned)(predicted, truth, "icp")


# ── 3DFAW ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_three_errors_of_3dfaw_by_hand():
    truth = np.zeros((66, 3))
    truth[36], truth[45], truth[0] = [0, 0, 0], [30, 0, 40], [7, 7, 7]  # outer eye corners 50 apart
    predicted = truth + np.array([0, 6, 8])
    np.testing.assert_allclose(gte(predicted, truth), 10 / 50)
    np.testing.assert_allclose(gte(predicted, truth, depth="minus_mean"), 6 / 50)
    np.testing.assert_allclose(cvgtce(predicted, truth), 0, atol=1e-9)
    np.testing.assert_allclose(ape(predicted, truth), 10)
    np.testing.assert_allclose(ape(predicted, truth, depth="ignored"), 6)


@settings(max_examples=15)
@given(seed=seeds, scale=st.floats(0.3, 3))
def test_cvgtce_compares_views_and_gte_does_not(seed, scale):
    predicted, truth = pair(seed, 66)
    turn = turned(seed)
    elsewhere = scale * predicted @ turn.T + [1, 2, 3]
    np.testing.assert_allclose(cvgtce(elsewhere, truth), cvgtce(predicted, truth), rtol=1e-7)
    assert gte(elsewhere, truth) > gte(predicted, truth)
    np.testing.assert_allclose(gte(2 * predicted, 2 * truth), gte(predicted, truth))
    np.testing.assert_allclose(ape(2 * predicted, 2 * truth), 2 * ape(predicted, truth))


# ── curves ─────────────────────────────────────────────────────────────────────────────────────────────────

errors_of_any_size = st.lists(st.floats(0, 0.3), min_size=1, max_size=40).map(np.array)


def test_curves_by_hand():
    errors = np.array([0.02, 0.04, 0.10, np.inf])
    np.testing.assert_allclose(cumulative_errors(errors, np.array([0, 0.02, 0.05, 1e9])), [0, 0.25, 0.5, 0.75])
    np.testing.assert_allclose(area_under_curve(errors, 0.08), (0.75 + 0.5) / 4)
    assert failure_rate(errors, 0.08) == 0.5
    assert failure_rate(errors, 0.10) == 0.25


@settings(max_examples=15)
@given(errors=errors_of_any_size)
def test_curves_against_a_loop_and_scikit_learn(errors):
    thresholds = np.linspace(0, 0.1, 101)
    curve = cumulative_errors(errors, thresholds)
    np.testing.assert_allclose(curve, [sum(e <= t for e in errors) / len(errors) for t in thresholds])
    np.testing.assert_allclose(area_under_curve(errors, 0.1, step=0.001), auc(thresholds, curve) / 0.1, atol=1e-12)
    np.testing.assert_allclose(failure_rate(errors, 0.1), np.mean(errors > 0.1), atol=1e-12)


@settings(max_examples=15)
@given(errors=errors_of_any_size)
def test_the_curve_rises_and_its_area_is_the_limit_of_fine_steps(errors):
    assert (np.diff(cumulative_errors(errors, np.linspace(0, 0.3, 50))) >= 0).all()
    np.testing.assert_allclose(area_under_curve(errors, 0.1, step=1e-5), area_under_curve(errors, 0.1), atol=2e-4)


def test_curves_that_cannot_be_are_refused():
    for bad in (np.array([np.nan, 0.1]), np.array([-0.1, 0.1]), np.array([])):
        with pytest.raises(ValueError, match=r"[01] of [02] errors are negative or NaN"):
            cumulative_errors(bad, np.array([0.1]))
    with pytest.raises(ValueError, match="limit is 0; expected a positive"):
        area_under_curve(np.array([0.1]), 0.0)
    with pytest.raises(ValueError, match="limit is inf"):
        failure_rate(np.array([0.1]), np.inf)
    for step in (0.03, 1.0, -0.1):
        with pytest.raises(ValueError, match=r"does not divide the limit 0\.1 into whole steps"):
            area_under_curve(np.array([0.1]), 0.1, step=step)


# ── by yaw ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_means_by_yaw_by_hand():
    yaw = np.array([0.0, -30, 30.001, -60, 60.001, -120])
    np.testing.assert_array_equal(yaw_bin(yaw), [0, 0, 1, 1, 2, 2])
    means = mean_by_yaw(np.array([1.0, 3, 3, 5, 8, 8]), yaw)
    assert (means.bins, means.counts, means.mean) == ((2, 4, 8), (2, 2, 2), 14 / 3)
    np.testing.assert_allclose(means.std, np.std([2, 4, 8]))


def test_the_table_by_name_says_what_there_is():
    errors, yaw = np.array([1.0, 3, 5, 9]), np.array([0.0, 20, -40, 70])
    table = table_by_yaw(errors, yaw)
    means = mean_by_yaw(errors, yaw)
    assert [table[f"nme_{name}"] for name in ("0_30", "30_60", "60_90")] == list(means.bins) == [2, 5, 9]
    assert (table["nme_mean"], table["nme_std"], table["nme_faces"]) == (means.mean, means.std, 4.5)
    assert (table["images_0_30"], table["images_30_60"], table["images_60_90"]) == (2, 1, 1)
    part = table_by_yaw(errors[:3], yaw[:3])
    assert set(table) - set(part) == {"nme_60_90", "nme_mean", "nme_std"}
    assert part["images_60_90"] == 0


@settings(max_examples=15)
@given(seed=seeds)
def test_repeating_the_faces_of_a_bin_changes_no_mean(seed):
    rng = np.random.default_rng(seed)
    errors, yaw = rng.uniform(size=9), np.repeat([10.0, -45, 80], 3)
    more = np.r_[0:9, 0:3, 0:3]
    once, again = mean_by_yaw(errors, yaw), mean_by_yaw(errors[more], -yaw[more])
    np.testing.assert_allclose([again.mean, again.std, *again.bins], [once.mean, once.std, *once.bins])
    assert again.counts == (9, 3, 3)


def test_bins_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="no face has a yaw of 30 to 60 and 60 to 90 degrees"):
        mean_by_yaw(np.ones(2), np.zeros(2))
    with pytest.raises(ValueError, match="1 of 2 yaws are not finite"):
        yaw_bin(np.array([0, np.nan]))
    with pytest.raises(ValueError, match="1 of 2 of the errors are not finite"):
        mean_by_yaw(np.array([0.1, np.inf]), np.zeros(2))


# ── AFLW2000-3D ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def labels(shared) -> dict[str, np.ndarray]:
    folder = shared("oracles/aflw2000")
    names = {"original": ".pts68", "again": "-Reannotated.pts68", "yaw": ".pose", "new_yaw": "-new.pose"}
    arrays = {key: np.load(folder / f"AFLW2000-3D{name}.npy").astype(float) for key, name in names.items()}
    return {k: a.swapaxes(1, 2) if a.ndim == 3 else a for k, a in arrays.items()}


def test_the_bins_of_aflw2000_have_as_many_faces_as_3ddfa_says(labels):
    assert np.bincount(yaw_bin(labels["yaw"])).tolist() == [1312, 383, 305]
    assert np.bincount(yaw_bin(labels["new_yaw"])).tolist() == [1306, 462, 232]


def test_the_two_annotations_differ_by_what_3ddfa_s_code_says(labels):
    original, again = labels["original"], labels["again"]
    errors = np.array([nme(b, a[:, :2]) for a, b in zip(original, again, strict=True)])
    means = mean_by_yaw(100 * errors, labels["yaw"])
    np.testing.assert_allclose(means.bins, [2.81, 3.23, 4.10], atol=0.005)
    np.testing.assert_allclose(means.mean, 3.38, atol=0.005)
    np.testing.assert_allclose(100 * errors.mean(), 3.09, atol=0.005)


def test_the_true_boxes_of_aflw2000_are_as_large_as_in_3ddfa_s_code(labels):
    sizes = [face_size(points, "box_area") for points in labels["original"]]
    np.testing.assert_allclose(np.mean(sizes), 189.26, atol=0.005)


def test_16_predictions_of_3ddfa_v2_have_the_known_errors(shared, labels):
    file = shared("oracles/aflw2000_mb05.json")
    images = json.loads(file.read_text())["images"]
    assert len(images) == 16
    for image in images.values():
        truth = labels["original"][image["aflw2000_index"]]
        again = labels["again"][image["aflw2000_index"]]
        for crop in ("v1roi", "lm"):
            predicted = np.array(image[crop]["pts68"]).T
            np.testing.assert_allclose(100 * nme(predicted, truth), image[crop]["nme_pct"], atol=0.01)
            np.testing.assert_allclose(
                100 * nme(predicted[:, :2], again), image[crop]["nme_reannotated_pct"], atol=0.01
            )
