"""3DFAW 2016: its reader and its three errors, on the sample and by hand."""

from pathlib import Path

import numpy as np
import pytest
from scipy.spatial import procrustes

from sameface.core.errors import BadData
from sameface.core.geometry import rotation_from_euler
from sameface.evaluation.benchmarks.fw3d2016 import KEPT, Options, cases, sample, score, summary, truth
from sameface.evaluation.case import Answer

DEFAULT = Options()


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("3dfaw")
    sample(folder)
    return folder


def landmarks(case, options=DEFAULT) -> np.ndarray:
    points = truth(case, options).landmarks
    assert points is not None
    return points


def test_cases_hold_the_66_points_in_our_pixels(root):
    found = cases(root, DEFAULT)
    assert [case.name for case in found] == ["valid_anna_0", "valid_anna_1", "valid_ben_0", "valid_ben_1"]
    for case in found:
        assert case.photos[0].is_file()
        stored = np.loadtxt(root / "valid_lm" / f"{case.name}_lm.csv", delimiter=",")
        np.testing.assert_allclose(case.truth["points"], stored * [1, 1, -1] - [0.5, 0.5, 0])
        np.testing.assert_allclose(case.places[0][KEPT], case.truth["points"][:, :2])
        np.testing.assert_allclose(case.places[0][[60, 64]], case.truth["points"][[48, 54], :2])
    assert cases(root, Options(part="train"))[0].name == "train_anna_0"
    assert cases(root, Options(crop="detect"))[0].places == (None,)


def test_the_nose_points_to_the_viewer_whatever_the_sign_of_z_in_the_file(root, tmp_path):
    (tmp_path / "valid_img").mkdir()
    (tmp_path / "valid_lm").mkdir()
    (tmp_path / "valid_img" / "a.jpg").touch()
    stored = np.loadtxt(root / "valid_lm" / "valid_anna_0_lm.csv", delimiter=",")
    for sign in (1, -1):
        np.savetxt(tmp_path / "valid_lm" / "a_lm.csv", stored * [1, 1, sign], delimiter=",")
        points = cases(tmp_path, DEFAULT)[0].truth["points"]
        assert points[30, 2] < points[36, 2]
    for yaw in (-1.2, 0.0, 1.2):  # the rule holds in every pose
        turn = rotation_from_euler(np.array([0.3]), np.array([yaw]), np.array([0.2]))[0]
        turned = (stored * [1, -1, 1] - [120, -120, 0]) @ turn.T + [120, 120, 0]
        np.savetxt(tmp_path / "valid_lm" / "a_lm.csv", turned, delimiter=",")
        np.testing.assert_allclose(cases(tmp_path, DEFAULT)[0].truth["points"], turned - [0.5, 0.5, 0])


@pytest.mark.parametrize("options", [DEFAULT, Options(part="train", depth="as_given", crop="detect")])
def test_the_truth_scores_zero(root, options):
    found = cases(root, options)
    rows = [score(case, truth(case, options), options) for case in found]
    np.testing.assert_allclose([list(row.values()) for row in rows], 0, atol=1e-9)
    assert list(summary(found, [None] * 4, [*rows], options)) == ["gte", "cvgtce", "ape"]


def test_scores_by_hand(root):
    case = cases(root, DEFAULT)[0]  # eye corners 80 apart
    moved = Answer(landmarks=landmarks(case) + np.array([3, 4, 12]))
    assert score(case, moved, DEFAULT) == pytest.approx({"gte": 100 * 5 / 80, "cvgtce": 0, "ape": 5}, abs=1e-9)
    strict = score(case, moved, Options(depth="as_given"))
    assert strict == pytest.approx({"gte": 100 * 13 / 80, "cvgtce": 0, "ape": 13}, abs=1e-9)


def test_cvgtce_agrees_with_scipy(root):
    case = cases(root, DEFAULT)[1]
    found = landmarks(case) + np.random.default_rng(0).normal(0, 5, (1, 68, 3))
    goal = case.truth["points"]
    first, second, _ = procrustes(goal, found[0, KEPT])
    size = np.linalg.norm(goal - goal.mean(0))  # SciPy brings the truth to length 1
    wanted = 100 * np.linalg.norm(first - second, axis=1).mean() * size / np.linalg.norm(goal[36] - goal[45])
    assert score(case, Answer(landmarks=found), DEFAULT)["cvgtce"] == pytest.approx(wanted)


def test_means_leave_failures_out(root):
    rows = [None, {"gte": 1.0, "cvgtce": 2.0, "ape": 3.0}, {"gte": 3.0, "cvgtce": 4.0, "ape": 5.0}, None]
    found = cases(root, DEFAULT)
    assert summary(found, [None] * 4, rows, DEFAULT) == {"gte": 2, "cvgtce": 3, "ape": 4}
    with pytest.raises(ValueError, match="failed on all 4 photos"):
        summary(found, [None] * 4, [None] * 4, DEFAULT)


def test_answers_that_cannot_be_scored_are_refused(root):
    case = cases(root, DEFAULT)[0]
    with pytest.raises(ValueError, match="valid_anna_0 needs landmarks of its 1 photo, but the answer has those of 0"):
        score(case, Answer(), DEFAULT)
    with pytest.raises(ValueError, match="those of 2"):
        score(case, Answer(landmarks=np.zeros((2, 68, 3))), DEFAULT)
    points = landmarks(case)
    points[0, 5] = np.nan
    with pytest.raises(ValueError, match="1 of 66 of the predicted points are not finite"):
        score(case, Answer(landmarks=points), DEFAULT)


def test_folders_that_are_not_3dfaw_are_named(tmp_path):
    with pytest.raises(BadData, match=r"valid_img has no photos; expected valid_img/ID\.jpg and valid_lm/ID_lm\.csv"):
        cases(tmp_path, DEFAULT)
    sample(tmp_path)
    file = tmp_path / "valid_lm" / "valid_anna_0_lm.csv"
    file.write_text("1,2,3\n")
    with pytest.raises(BadData, match=r"holds numbers of shape \(1, 3\); expected 66 lines"):
        cases(tmp_path, DEFAULT)
    file.write_text("one,2,3\n")
    with pytest.raises(BadData, match=r"anna_0_lm\.csv is not a list of points"):
        cases(tmp_path, DEFAULT)
    file.unlink()
    with pytest.raises(BadData, match=r"anna_0_lm\.csv is missing, the points of a photo"):
        cases(tmp_path, DEFAULT)
