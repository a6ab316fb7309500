"""BU-3DFE: our protocol for it, the choice of photos, and what is missing is named."""

import numpy as np
import pytest

from sameface.core.errors import BadData
from sameface.evaluation.benchmarks import bu3dfe
from sameface.evaluation.benchmarks.bu3dfe import Options
from sameface.evaluation.case import Answer
from sameface.metrics.alignment import Registration, Similarity

OPTIONS = Options()


@pytest.fixture
def root(tmp_path):
    bu3dfe.sample(tmp_path)
    return tmp_path


def test_only_the_metrical_protocol_sees_the_size(root):
    case = bu3dfe.cases(root, OPTIONS)[0]
    right = bu3dfe.truth(case, OPTIONS)
    large = Answer(neutral=1.1 * right.neutral, faces=right.faces, neutral_landmarks=1.1 * right.neutral_landmarks)
    assert bu3dfe.score(case, large, OPTIONS)["rmse"] < 1e-3
    assert bu3dfe.score(case, right, Options(metrical=True))["rmse"] < 1e-3
    assert bu3dfe.score(case, large, Options(metrical=True))["rmse"] > 0.3


def test_the_photos_shown_are_an_option(root):
    count = {
        kind: len(bu3dfe.cases(root, Options(photos=kind))[0].photos) for kind in ("neutral", "expressions", "all")
    }
    assert count == {"neutral": 1, "expressions": 1, "all": 2}
    assert bu3dfe.cases(root, Options(photos="expressions"))[0].photos[0].name == "F0001_HA01WH_F2D.bmp"


def test_the_table_is_the_mean_over_people(root):
    cases = bu3dfe.cases(root, OPTIONS)
    rows = [{"rmse": 1.0, "mean": 2.0, "median": 3.0}, {"rmse": 3.0, "mean": 2.0, "median": 5.0}]
    assert bu3dfe.summary(cases, [], rows, OPTIONS) == {"rmse": 2.0, "mean": 2.0, "median": 4.0, "std": 1.0}
    assert bu3dfe.summary(cases, [], [None, rows[1]], OPTIONS)["rmse"] == 3.0


def test_which_eye_is_the_right_one_is_told_by_x():
    points = np.zeros((83, 3))
    points[:8, 0] = 30
    assert bu3dfe._centres(points, bu3dfe.GROUPS)[:2, 0].tolist() == [0, 30]


def test_a_fit_that_does_not_converge_is_refused(root, monkeypatch):
    monkeypatch.setattr(bu3dfe, "fit_mesh", lambda *_, **__: Registration(Similarity(), 200, False, 7.0))
    case = bu3dfe.cases(root, OPTIONS)[0]
    with pytest.raises(ValueError, match=r"F0001: the alignment did not converge \(rms 7 mm\)"):
        bu3dfe.score(case, bu3dfe.truth(case, OPTIONS), OPTIONS)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("1 0 0 0\n", r"holds points of the shape \(1, 3\); expected 83"),
        ("1 a b c\n", "does not hold lines 'number x y z'"),
        (" " * (bu3dfe.LARGEST + 1), "such a file is read up to"),
    ],
)
def test_broken_points_are_refused(root, content, message):
    case = bu3dfe.cases(root, OPTIONS)[0]
    case.truth["points"].write_text(content)
    with pytest.raises(BadData, match=message):
        bu3dfe.truth(case, OPTIONS)


def test_what_is_missing_is_named(root):
    person = root / "F0001"
    (person / "F0001_HA01WH_F2D.bmp").unlink()
    with pytest.raises(BadData, match=r"has no photos F0001_…_F2D.bmp of the kind 'expressions'"):
        bu3dfe.cases(root, Options(photos="expressions"))
    (person / "F0001_NE00WH_F3D.bnd").unlink()
    with pytest.raises(BadData, match="is missing, the 83 points of the neutral scan"):
        bu3dfe.cases(root, OPTIONS)
    (person / "F0001_NE00WH_F3D.wrl").unlink()
    with pytest.raises(BadData, match=r"has no F0001_NE00…_F3D.wrl, the neutral scan"):
        bu3dfe.cases(root, OPTIONS)
    with pytest.raises(BadData, match="has no folders F0001"):
        bu3dfe.cases(person, OPTIONS)
