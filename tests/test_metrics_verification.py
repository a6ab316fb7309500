"""Each number by hand, against scikit-learn or a plain transcription of the public rule, and by its laws."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import interp1d
from scipy.optimize import brentq
from sklearn.metrics import roc_auc_score, roc_curve

from sameface.metrics.verification import (
    accuracy_exact,
    accuracy_insightface,
    accuracy_mobilefacenet,
    accuracy_sphereface_pytorch,
    area_under_curve,
    centred_cosines,
    cosine,
    equal_error_rate,
    euclidean,
    fused,
    mesh_distance,
    roc,
    squared_distance,
    tar_at_far,
    tar_insightface,
    verification_numbers,
)

seeds = st.integers(0, 2**32 - 1)
few = settings(max_examples=15)


def made(seed: int, folds: int = 5, each: int = 8, dimension: int = 6):
    """Vectors of pairs: the same person plus noise, or two persons."""
    rng = np.random.default_rng(seed)
    pairs = 2 * folds * each
    same = np.tile(np.repeat([True, False], each), folds)
    first, second = rng.normal(size=(2, pairs, dimension))
    second = np.where(same[:, None], first + rng.normal(0, 0.9, second.shape), second)
    return first, second, same, np.repeat(np.arange(folds), 2 * each)


# ── scores ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_scores_by_hand():
    first, second = np.array([[1.0, 0], [2, 2]]), np.array([[0.0, 3], [1, 1]])
    np.testing.assert_allclose(cosine(first, second), [0, 1])
    np.testing.assert_allclose(cosine(first, second, epsilon=1e-5), [0, 4 / (4 + 1e-5)], rtol=1e-12)
    np.testing.assert_allclose(euclidean(first, second), [-np.sqrt(10), -np.sqrt(2)])
    np.testing.assert_allclose(squared_distance(first, second), [2, 0], atol=1e-15)


@few
@given(seed=seeds)
def test_cosine_and_the_distance_of_unit_vectors_say_the_same(seed):
    first, second, *_ = made(seed)
    np.testing.assert_allclose(squared_distance(first, second), 2 - 2 * cosine(first, second), atol=1e-12)
    np.testing.assert_allclose(cosine(3 * first, second / 7), cosine(first, second), atol=1e-12)


def test_vectors_without_direction_are_refused():
    zero, one = np.zeros((1, 3)), np.ones((1, 3))
    with pytest.raises(ValueError, match="pair 0 has a vector of length zero"):
        cosine(zero, one)
    with pytest.raises(ValueError, match="vector 0 has length zero"):
        squared_distance(one, zero)
    assert cosine(zero, one, epsilon=1e-5) == [0]


def test_mesh_distance_is_the_mean_over_the_vertices():
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 9, 3))
    slow = sum(np.sqrt(((a - b) ** 2).sum()) for a, b in zip(first, second, strict=True)) / 9
    assert mesh_distance(first, second) == pytest.approx(slow)
    assert mesh_distance(first.astype(np.float32), first.astype(np.float32)) == 0
    assert mesh_distance(first, first + np.array([0, 0, 2.0])) == pytest.approx(2)
    with pytest.raises(ValueError, match="meshes of 9 and 8 vertices"):
        mesh_distance(first, second[:8])


# ── curves ─────────────────────────────────────────────────────────────────────────────────────────────────

some_scores = st.lists(st.tuples(st.integers(-5, 5), st.booleans()), min_size=4, max_size=40).filter(
    lambda pairs: len({label for _, label in pairs}) == 2
)


@few
@given(pairs=some_scores)
def test_the_curve_and_its_area_are_those_of_scikit_learn_ties_included(pairs):
    scores, same = np.array([s for s, _ in pairs]) / 5, np.array([label for _, label in pairs])
    far, tar, thresholds = roc_curve(same, scores, drop_intermediate=False)
    curve = roc(scores, same)
    for ours, theirs in zip(curve, (far, tar, thresholds), strict=True):
        np.testing.assert_allclose(ours, theirs)
    assert area_under_curve(scores, same) == pytest.approx(roc_auc_score(same, scores))
    theirs = brentq(lambda x: 1 - x - interp1d(far + 1e-12 * np.arange(len(far)), tar)(x), 0, 1)
    assert equal_error_rate(scores, same) == pytest.approx(theirs, abs=1e-9)
    for rate in (0.0, 0.1, 0.37, 1.0):
        assert tar_at_far(scores, same, rate) == pytest.approx(tar[far <= rate].max())
        straight = np.interp(rate, far, tar)
        assert tar_at_far(scores, same, rate, "linear") == pytest.approx(straight)
        assert straight >= tar_at_far(scores, same, rate) - 1e-12


def test_curve_numbers_by_hand():
    scores = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2])
    same = np.array([True, True, False, True, True, False, False, False])
    assert area_under_curve(scores, same) == pytest.approx(14 / 16)
    assert equal_error_rate(scores, same) == pytest.approx(0.25)
    assert tar_at_far(scores, same, 0.1) == 0.5
    assert tar_at_far(scores, same, 0.25) == 1
    assert tar_at_far(scores, same, 0.125, "linear") == 0.5
    with pytest.raises(ValueError, match=r"between 0 and 1, not 10; 0\.1 % is 0\.001"):
        tar_at_far(scores, same, 10.0)


@few
@given(seed=seeds)
def test_monotone_transforms_of_the_scores_change_no_curve(seed):
    first, second, same, _ = made(seed)
    scores = cosine(first, second)
    for changed in (np.exp(scores), scores**3 + scores, 100 * scores - 7):
        assert area_under_curve(changed, same) == pytest.approx(area_under_curve(scores, same))
        assert equal_error_rate(changed, same) == pytest.approx(equal_error_rate(scores, same))
        for rule in ("step", "linear"):
            assert tar_at_far(changed, same, 0.1, rule) == pytest.approx(tar_at_far(scores, same, 0.1, rule))


@few
@given(pairs=some_scores)
def test_swapped_labels_give_one_minus_the_area(pairs):
    scores, same = np.array([s for s, _ in pairs]) / 5, np.array([label for _, label in pairs])
    assert area_under_curve(scores, ~same) == pytest.approx(1 - area_under_curve(scores, same))


@few
@given(seed=seeds)
def test_perfect_separation_is_perfect(seed):
    *_, same, folds = made(seed)
    scores = np.where(same, 0.6, 0.1) + np.random.default_rng(seed).uniform(0, 0.2, len(same))
    for curves in ("folds", "pooled"):
        numbers = verification_numbers(scores, same, folds, curves=curves)
        for name, value in numbers.items():
            assert value == pytest.approx(0 if name.endswith("_std") or name == "eer" else 100), name


# ── the rules, each against a plain transcription of the public code ───────────────────────────────────────


def plain_insightface(distance, same, folds, far_target):
    """deepinsight/insightface, recognition/arcface_torch/eval/verification.py, threshold by threshold."""

    def counts(threshold, part):
        predicted = distance[part] < threshold
        return predicted, same[part]

    accuracies, tars = [], []
    for fold in np.unique(folds):
        train, test = folds != fold, folds == fold
        thresholds = np.arange(0, 4, 0.01)
        best = np.argmax([np.mean(np.equal(*counts(t, train))) for t in thresholds])
        accuracies.append(np.mean(np.equal(*counts(thresholds[best], test))))
        thresholds = np.arange(0, 4, 0.001)
        far = np.array([np.sum(distance[train & ~same] < t) / np.sum(train & ~same) for t in thresholds])
        threshold = 0.0
        if far.max() >= far_target:  # SciPy's spline now refuses repeated abscissae: make them differ by a hair
            threshold = interp1d(far + 1e-13 * np.arange(len(far)), thresholds, kind="slinear")(far_target)
        tars.append(np.mean(distance[test & same] < threshold))
    return np.array(accuracies), np.array(tars)


def plain_sphereface_pytorch(cosines, same, folds):
    """clcarwin/sphereface_pytorch, lfw_eval.py: `>=` keeps the last of equally good thresholds."""
    accuracies, found = [], []
    for fold in np.unique(folds):
        best_threshold = best_accuracy = 0
        for threshold in np.arange(-1.0, 1.0, 0.005):
            accuracy = np.mean((cosines[folds != fold] > threshold) == same[folds != fold])
            if accuracy >= best_accuracy:
                best_accuracy, best_threshold = accuracy, threshold
        accuracies.append(np.mean((cosines[folds == fold] > best_threshold) == same[folds == fold]))
        found.append(best_threshold)
    return np.array(accuracies), np.array(found)


def plain_mobilefacenet(first, second, same, folds):
    """Xiaoccer/MobileFaceNet_Pytorch, lfw_eval.py: the mean of all best of 20,001 thresholds."""

    def accuracy(scores, flags, threshold):
        return (np.sum(scores[flags] > threshold) + np.sum(scores[~flags] < threshold)) / len(scores)

    accuracies, found = [], []
    for fold in np.unique(folds):
        train = folds != fold
        mean = np.mean(np.concatenate((first[train], second[train]), 0), 0)
        a, b = first - mean, second - mean
        a, b = a / np.sqrt((a**2).sum(1))[:, None], b / np.sqrt((b**2).sum(1))[:, None]
        scores = (a * b).sum(1)
        thresholds = np.arange(-10000, 10001) * 1.0 / 10000
        values = np.array([accuracy(scores[train], same[train], t) for t in thresholds])
        found.append(np.mean(thresholds[values == values.max()]))
        accuracies.append(accuracy(scores[~train], same[~train], found[-1]))
    return np.array(accuracies), np.array(found)


@pytest.mark.parametrize(("seed", "far"), [(0, 0.001), (1, 0.013), (2, 0.1)])
def test_insightface_agrees_with_a_transcription(seed, far):
    first, second, same, folds = made(seed, folds=4, each=25)
    distance = squared_distance(first, second)
    accuracies, tars = plain_insightface(distance, same, folds, far)
    np.testing.assert_array_equal(accuracy_insightface(distance, same, folds).accuracy, accuracies)
    np.testing.assert_array_equal(tar_insightface(distance, same, folds, far), tars)


@pytest.mark.parametrize("seed", range(4))
def test_sphereface_pytorch_agrees_with_a_transcription(seed):
    first, second, same, folds = made(seed)
    cosines = cosine(first, second, epsilon=1e-5)
    if seed == 3:
        cosines = np.round(cosines * 200) / 200  # scores that lie on thresholds
    accuracies, thresholds = plain_sphereface_pytorch(cosines, same, folds)
    found = accuracy_sphereface_pytorch(cosines, same, folds)
    np.testing.assert_array_equal(found.accuracy, accuracies)
    np.testing.assert_array_equal(found.threshold, thresholds)
    assert found.std == np.std(accuracies)


def test_mobilefacenet_agrees_with_a_transcription():
    first, second, same, folds = made(0, folds=2)
    accuracies, thresholds = plain_mobilefacenet(first, second, same, folds)
    found = accuracy_mobilefacenet(centred_cosines(first, second, folds), same, folds)
    np.testing.assert_array_equal(found.accuracy, accuracies)
    np.testing.assert_array_equal(found.threshold, thresholds)


def test_rules_take_the_first_the_last_and_the_mean_of_the_best():
    same, folds = np.tile([True, False], 2), np.repeat([0, 1], 2)
    distances, cosines = np.tile([0.505, 1.005], 2), np.tile([0.5025, -0.5025], 2)
    np.testing.assert_allclose(accuracy_insightface(distances, same, folds).threshold, 0.51)
    np.testing.assert_allclose(accuracy_sphereface_pytorch(cosines, same, folds).threshold, 0.5)
    np.testing.assert_allclose(accuracy_mobilefacenet(cosines + 0.1, same, folds).threshold, 0.1, atol=1e-9)
    np.testing.assert_allclose(accuracy_exact(cosines + 0.3, same, folds).threshold, 0.3)


def test_a_score_at_the_threshold_counts_as_each_rule_says():
    """Only mobilefacenet's compares with > and <: a score that equals its threshold is wrong either way."""
    same, folds = np.tile([True, False], 2), np.repeat([0, 1], 2)
    scores = np.array([0.2, 0.2, 0.20005, 0.19995])
    assert accuracy_mobilefacenet(scores, same, folds).threshold[0] == 0.2
    assert accuracy_mobilefacenet(scores, same, folds).accuracy[0] == 0
    assert accuracy_exact(scores, same, folds).accuracy[0] == 0.5


@few
@given(seed=seeds)
def test_exact_is_the_best_that_any_threshold_reaches_on_the_training_folds(seed):
    first, second, same, folds = made(seed)
    scores = np.round(cosine(first, second), 1)
    found = accuracy_exact(scores, same, folds)
    for fold, threshold, accuracy in zip(np.unique(folds), found.threshold, found.accuracy, strict=True):
        train = folds != fold
        reached = np.mean((scores[train] > threshold) == same[train])
        tried = max(np.mean((scores[train] > t) == same[train]) for t in np.append(scores, -9))
        assert reached == pytest.approx(tried)
        assert accuracy == np.mean((scores[~train] > threshold) == same[~train])


def test_pairs_with_infinite_scores_are_wrong_under_every_rule():
    *_, same, folds = made(0, folds=3, each=4)
    scores = np.where(same, 0.8, 0.2)
    failed = np.arange(len(same)) % 4 == 1
    scores = np.where(failed, np.where(same, -np.inf, np.inf), scores)
    for rule in (accuracy_exact, accuracy_sphereface_pytorch, accuracy_mobilefacenet):
        assert rule(scores, same, folds).mean == pytest.approx(0.75)
    assert accuracy_insightface(2 - 2 * scores, same, folds).mean == pytest.approx(0.75)
    np.testing.assert_array_equal(tar_insightface(2 - 2 * scores, same, folds), 0)  # too many false accepts at t = 0
    assert tar_at_far(scores, same, 0.1) == 0
    assert accuracy_exact(np.where(same, -np.inf, np.inf), same, folds).mean == 0


# ── fusion, and the whole table ────────────────────────────────────────────────────────────────────────────


def test_fusion_normalises_by_the_training_folds_only():
    first, second, same, folds = made(1)
    one, other = cosine(first, second), euclidean(first, second)
    rows = fused([one, other], folds)
    for fold in range(5):
        train = folds != fold
        slow = (one - one[train].mean()) / one[train].std() + (other - other[train].mean()) / other[train].std()
        np.testing.assert_allclose(rows[fold], slow)
    np.testing.assert_allclose(fused([np.tile(one, (5, 1)), other], folds), rows)
    changed = np.where(folds == 2, one + 100, one)
    np.testing.assert_allclose(fused([changed, other], folds)[2, folds != 2], rows[2, folds != 2])
    assert verification_numbers(rows, same, folds)["accuracy"] > 50


@few
@given(seed=seeds, factor=st.floats(0.1, 10), shift=st.floats(-5, 5))
def test_fusion_does_not_care_for_the_unit_of_a_score(seed, factor, shift):
    first, second, _, folds = made(seed)
    one, other = cosine(first, second), euclidean(first, second)
    np.testing.assert_allclose(fused([one, other * factor + shift], folds), fused([one, other], folds), atol=1e-8)


def test_failed_pairs_do_not_move_the_fusion_of_the_others():
    first, second, same, folds = made(2)
    one, other = cosine(first, second), euclidean(first, second)
    one[3] = -np.inf
    rows = fused([one, other], folds)
    assert (rows[:, 3] == -np.inf).all()
    assert np.isfinite(np.delete(rows, 3, axis=1)).all()
    assert same[3]


def test_the_table_is_in_percent_and_its_folds_are_averaged():
    first, second, same, folds = made(3)
    scores = cosine(first, second)
    numbers = verification_numbers(scores, same, folds)
    per_fold = [area_under_curve(scores[folds == k], same[folds == k]) for k in range(5)]
    assert numbers["auc"] == pytest.approx(100 * np.mean(per_fold))
    assert numbers["auc_std"] == pytest.approx(100 * np.std(per_fold))
    assert numbers["accuracy"] == pytest.approx(100 * accuracy_exact(scores, same, folds).mean)
    assert numbers["accuracy_std"] == pytest.approx(100 * accuracy_exact(scores, same, folds).accuracy.std())
    assert numbers["eer"] + numbers["100-eer"] == pytest.approx(100)
    pooled = verification_numbers(scores, same, folds, curves="pooled", interpolation="linear")
    assert pooled["auc"] == pytest.approx(100 * area_under_curve(scores, same))
    assert pooled["tar_at_far_1"] == pytest.approx(100 * tar_at_far(scores, same, 0.01, "linear"))
    assert pooled["tar_at_far_01"] == pytest.approx(100 * tar_at_far(scores, same, 0.001, "linear"))
    assert "auc_std" not in pooled
    assert pooled["accuracy"] == numbers["accuracy"]


def test_the_names_of_folds_do_not_matter():
    first, second, same, folds = made(4)
    scores = cosine(first, second)
    assert verification_numbers(scores, same, 100 - 10 * folds) == pytest.approx(
        verification_numbers(scores, same, folds)
    )


def test_fold_scores_are_taken_from_the_row_of_the_fold():
    *_, same, folds = made(5)
    rows = np.zeros((5, len(same)))
    for k in range(5):
        rows[k] = np.where(same == (folds == k), 1.0, 0.0)  # right for fold k, wrong for its training folds
    numbers = verification_numbers(rows, same, folds, curves="pooled")
    assert numbers["auc"] == 100
    assert numbers["accuracy"] == 50  # a threshold learnt from reversed scores refuses or accepts everything


# ── errors ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_numbers_that_cannot_be_honest_are_refused():
    scores, same, folds = np.arange(8.0), np.arange(8) % 2 == 0, np.repeat([0, 1], 4)
    with pytest.raises(ValueError, match="1 scores are NaN; decide first what a failed pair counts"):
        roc(np.where(scores == 3, np.nan, scores), same)
    with pytest.raises(ValueError, match="all 8 pairs are same; both kinds are needed"):
        area_under_curve(scores, np.ones(8, bool))
    with pytest.raises(ValueError, match="all 8 pairs are different"):
        equal_error_rate(scores, np.zeros(8, bool))
    with pytest.raises(ValueError, match="8 scores, 7 labels; each pair needs one of each"):
        roc(scores, same[:7])
    with pytest.raises(ValueError, match="8 scores, 8 labels and 6 fold numbers"):
        accuracy_exact(scores, same, folds[:6])
    with pytest.raises(ValueError, match="all pairs are in one fold"):
        accuracy_exact(scores, same, np.zeros(8, int))
    with pytest.raises(ValueError, match="fold 1 has no different pairs"):
        accuracy_exact(scores, same, np.where(same & (scores > 3), 1, 0))
    with pytest.raises(ValueError, match="fold 1 has no same pairs"):
        accuracy_exact(scores, same, np.where(~same & (scores > 3), 1, 0))
    with pytest.raises(ValueError, match=r"scores have shape \(3, 8\); with 2 folds they are"):
        accuracy_exact(np.zeros((3, 8)), same, folds)
    with pytest.raises(ValueError, match="8 pairs of vectors but 7 fold numbers"):
        centred_cosines(np.ones((8, 2)), np.ones((8, 2)), folds[:7])
    with pytest.raises(ValueError, match="there are no vectors outside fold 0"):
        centred_cosines(np.ones((8, 2)), np.ones((8, 2)), 0 * folds)
    with pytest.raises(ValueError, match="7 scores for 8 pairs; fuse the same pairs"):
        fused([scores, scores[:7]], folds)
    with pytest.raises(ValueError, match="scores outside fold 0 are all the same"):
        fused([np.ones(8)], folds)
    with pytest.raises(ValueError, match="scores outside fold 1 are all the same"):
        fused([np.where(folds == 0, np.inf, scores)], folds)
