"""REALY: the table, the keypoints of one's own topology, and what is missing is named."""

import json

import numpy as np
import pytest

from sameface.core.errors import AssetMissing, BadData
from sameface.evaluation.benchmarks import realy
from sameface.evaluation.benchmarks.realy import Options
from sameface.evaluation.case import Answer

OPTIONS = Options()


@pytest.fixture
def root(tmp_path):
    realy.sample(tmp_path)
    return tmp_path


def test_the_table_is_the_mean_of_four_regions_in_millimetres(root):
    cases = realy.cases(root, OPTIONS)
    wrong = []
    for case in cases:
        right = realy.truth(case, OPTIONS)
        dent = 0.6 * np.exp(-(right.neutral[:, :2] ** 2).sum(1) / 10)
        bent = 3 * (right.neutral - np.array([0, 0, 1]) * dent[:, None])
        wrong.append(Answer(neutral=bent, faces=right.faces, neutral_landmarks=right.neutral_landmarks))
    rows = [realy.score(case, answer, OPTIONS) for case, answer in zip(cases, wrong, strict=True)]
    table = realy.summary(cases, wrong, rows, OPTIONS)
    assert 0.02 < table["mm"] < 10
    assert table["mm"] == pytest.approx(np.mean([table[region] for region in realy.REGIONS]))
    assert table["nose/std"] == pytest.approx(np.std([row["nose"] for row in rows], ddof=1))
    assert "nose/std" not in realy.summary(cases, [None, wrong[1]], [None, rows[1]], OPTIONS)
    (root / realy.SCALES).write_text("20.0\n10.0\n")
    assert realy.score(realy.cases(root, OPTIONS)[0], wrong[0], OPTIONS)["mm"] == pytest.approx(2 * rows[0]["mm"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON|is no JSON list"),
        ("[[1, 2, 3]]", r"holds a list of the shape \(1, 3\); expected 85"),
        (json.dumps([[100000, 0, 0]] * 85), r"names triangles 100000..100000, but the answer's mesh has"),
        (" " * (realy.LARGEST + 1), "such a file is read up to"),
    ],
)
def test_keypoints_of_another_mesh_are_refused(root, content, message):
    case = realy.cases(root, OPTIONS)[0]
    case.truth["keypoints"].write_text(content)
    with pytest.raises(BadData, match=message):
        realy.score(case, realy.truth(case, OPTIONS), OPTIONS)


def test_what_is_missing_is_named(root):
    with pytest.raises(AssetMissing, match=r"flame.txt is missing: REALY needs 85 keypoints on the compared mesh"):
        realy.cases(root, Options(template="flame"))
    case = realy.cases(root, OPTIONS)[0]
    with pytest.raises(ValueError, match="the answer has no neutral"):
        realy.score(case, Answer(), OPTIONS)
    case.truth["scan_keypoints"].write_text("v 0 0 0\n")
    with pytest.raises(BadData, match="holds 1 points; expected 85"):
        realy.truth(case, OPTIONS)
    scales = root / realy.SCALES
    for content, message in (
        ("1.0\n", "has 1 numbers, none for subject 2"),
        ("-1 1", "not positive"),
        ("x", "one number"),
    ):
        scales.write_text(content)
        with pytest.raises(BadData, match=message):
            realy.cases(root, OPTIONS)
    scales.unlink()
    with pytest.raises(BadData, match="comes with czh-98/REALY"):
        realy.cases(root, OPTIONS)
    realy.sample(root)
    (root / "REALY_scan_region" / "2" / "cheek.obj").unlink()
    with pytest.raises(BadData, match=r"cheek.obj is missing, of subject 2, whose photo is 2.jpg"):
        realy.cases(root, OPTIONS)
    (root / OPTIONS.images / "2.jpg").rename(root / OPTIONS.images / "anna.jpg")
    with pytest.raises(BadData, match=r"anna.jpg is not named by a subject's number"):
        realy.cases(root, OPTIONS)
    with pytest.raises(BadData, match="has no photos named by a subject's number"):
        realy.cases(root, Options(images="elsewhere"))
