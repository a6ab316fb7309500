"""AFLW with 21 points: its reader, its mapping and its table, on the sample and against a copy of the public loop."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sameface.core.errors import AssetMissing, BadData
from sameface.evaluation.benchmarks.aflw import IBUG, Options, cases, sample, score, summary, to_crop, to_photo, truth
from sameface.evaluation.case import Answer

DEFAULT = Options()


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("aflw")
    sample(folder)
    return folder


def test_cases_hold_crops_points_and_sizes(root):
    found = cases(root, DEFAULT)
    assert [case.truth["yaw"] for case in found] == [0, -25, 31, -60, 75, -90]
    for case in found:
        assert case.photos[0].is_file()
        np.testing.assert_array_equal(case.places[0], [[0, 0], [120, 120]])
        assert case.truth["visible"].tolist() == [k != 16 for k in range(21)]
        assert case.truth["size"] == pytest.approx(np.sqrt(np.prod(np.ptp(case.truth["fitted"], axis=0))))


def test_places_are_the_fitted_points_or_nothing(root):
    told, alone = cases(root, Options(crop="landmarks"))[0], cases(root, Options(crop="detect"))[0]
    np.testing.assert_allclose(to_photo(told.places[0], told.truth["box"]), told.truth["fitted"])
    assert alone.places == (None,)


def test_crops_and_photos_by_hand():
    box = np.array([10.0, 20, 250, 260])
    np.testing.assert_allclose(to_photo(np.array([[9.5, 19.5, 7]]), box), [[30, 60]])
    np.testing.assert_allclose(to_crop(np.array([[30.0, 60]]), box), [[9.5, 19.5]])


def test_the_lists_may_lie_in_the_root(root, tmp_path):
    for folder in ("test.configs", "test.data"):
        shutil.copytree(root / folder, tmp_path, dirs_exist_ok=True)
    assert len(cases(tmp_path, DEFAULT)) == 6


@pytest.mark.parametrize("options", [DEFAULT, Options(normaliser="outer_eyes", crop="landmarks")])
def test_the_truth_scores_zero(root, options):
    found = cases(root, options)
    rows = [score(case, truth(case, options), options) for case in found]
    np.testing.assert_allclose([row["nme"] for row in rows], 0, atol=1e-9)
    table = summary(found, [None] * 6, rows, options)
    assert [table[f"images_{name}"] for name in ("0_30", "30_60", "60_90")] == [2, 2, 2]
    assert "nme_mean" in table


def test_scores_agree_with_the_public_loop(root):
    """The steps of 3DDFA's calc_nme, its numbers of points counted from 1."""
    numbers = [[18], [20], [22], [23], [25], [27], [37], [37, 38, 39, 40, 41, 42], [40], [43], [43, 44, 45, 46, 47, 48]]
    numbers += [[46], [3], [32], [31], [36], [15], [49], [61, 62, 63, 64, 65, 66, 67, 68], [55], [9]]
    assert [[i - 1 for i in where] for where in numbers] == [list(where) for where in IBUG]
    rng = np.random.default_rng(1)
    for case in cases(root, DEFAULT):
        points = rng.uniform(10, 110, (68, 3))
        sx, sy, ex, ey = case.truth["box"]
        x, y = (points[:, 0] + 0.5) * (ex - sx) / 120 + sx, (points[:, 1] + 0.5) * (ey - sy) / 120 + sy
        errors = []
        for k, where in enumerate(numbers):
            goal = case.truth["points"][k]
            if goal[0] != -1 and goal[1] != -1:
                mean = [sum(v[i - 1] for i in where) / len(where) for v in (x, y)]
                errors.append(np.hypot(mean[0] - goal[0], mean[1] - goal[1]))
        low, high = case.truth["fitted"].min(0), case.truth["fitted"].max(0)
        wanted = 100 * np.mean(errors) / np.sqrt((high[0] - low[0]) * (high[1] - low[1]))
        assert score(case, Answer(landmarks=points[None]), DEFAULT)["nme"] == pytest.approx(wanted)


def test_hidden_points_do_not_count(root):
    case = cases(root, DEFAULT)[0]
    answer = truth(case, DEFAULT)
    assert answer.landmarks is not None
    answer.landmarks[0, 14] += 50
    np.testing.assert_allclose(score(case, answer, DEFAULT)["nme"], 0, atol=1e-9)


def test_failures_are_in_no_mean(root):
    found = cases(root, DEFAULT)
    rows: list[dict[str, float] | None] = [None, {"nme": 4.0, "yaw": -25.0}, None, None, None, None]
    table = summary(found, [None] * 6, rows, DEFAULT)
    assert table == {"nme_0_30": 4, "nme_faces": 4, "images_0_30": 1, "images_30_60": 0, "images_60_90": 0}


def test_folders_that_are_not_aflw_are_named(root, tmp_path):
    with pytest.raises(AssetMissing, match=r"AFLW_GT_crop\.list is neither in .*test\.data nor in"):
        cases(tmp_path, DEFAULT)
    shutil.copytree(root, tmp_path, dirs_exist_ok=True)
    np.save(tmp_path / "test.configs" / "AFLW_GT_pts21.npy", np.zeros((5, 2, 21)))
    with pytest.raises(BadData, match=r"21 points of AFLW .* have shape \(5, 2, 21\); .* expected \(6, 2, 21\)"):
        cases(tmp_path, DEFAULT)
    shutil.copytree(root / "test.configs", tmp_path / "test.configs", dirs_exist_ok=True)
    (tmp_path / "test.data" / "AFLW_GT_crop" / "face2.jpg").unlink()
    with pytest.raises(BadData, match=r"face2\.jpg is missing, which AFLW_GT_crop\.list lists"):
        cases(tmp_path, DEFAULT)


def test_answers_that_cannot_be_scored_are_refused(root):
    case = cases(root, DEFAULT)[0]
    with pytest.raises(ValueError, match=r"face0\.jpg needs landmarks of its 1 photo, but the answer has those of 0"):
        score(case, Answer(), DEFAULT)
    with pytest.raises(ValueError, match="those of 2"):
        score(case, Answer(landmarks=np.zeros((2, 68, 3))), DEFAULT)
    blind = replace(case, truth=case.truth | {"visible": np.zeros(21, bool)})
    with pytest.raises(ValueError, match="no point is visible"):
        score(blind, Answer(landmarks=np.zeros((1, 68, 3))), DEFAULT)
