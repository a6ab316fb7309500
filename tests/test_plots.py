import numpy as np
import pytest
from PIL import Image

from sameface.core.errors import BadOutput
from sameface.evaluation import plots


@pytest.fixture
def drawn(monkeypatch):
    """The axes of every figure that is drawn."""
    seen, make = [], plots._figure

    def figure(title):
        made = make(title)
        seen.append(made[1])
        return made

    monkeypatch.setattr(plots, "_figure", figure)
    return seen


def is_picture(path) -> bool:
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("L"))
    return pixels.shape[0] > 300 and pixels.min() < 100 and pixels.max() == 255


def test_cumulative_errors_count_failures_as_never_reached(tmp_path, drawn):
    plots.cumulative(tmp_path / "ced.png", np.array([3.0, 1.0, np.inf, 2.0]), "nme, %", "a title")
    assert is_picture(tmp_path / "ced.png")
    x, y = drawn[0].lines[0].get_data()
    assert x.tolist() == [0, 1, 2, 3]
    assert y.tolist() == [0, 0.25, 0.5, 0.75]
    assert drawn[0].get_title() == "a title"
    with pytest.raises(ValueError, match="at least one finite error"):
        plots.cumulative(tmp_path / "none.png", np.array([np.inf]), "nme")


def test_error_by_yaw_has_the_median_of_each_bin(tmp_path, drawn):
    yaw, error = np.array([-80.0, -79.0, 1.0, 2.0, 3.0]), np.array([8.0, 10.0, 1.0, 2.0, 6.0])
    plots.error_by_yaw(tmp_path / "yaw.png", yaw, error, "nme")
    assert is_picture(tmp_path / "yaw.png")
    x, y = drawn[0].lines[1].get_data()
    assert list(x) == [-82.5, 7.5]
    assert list(y) == [9, 2]


def test_boxes_are_sorted_by_median_and_not_too_many(tmp_path, drawn):
    plots.boxes(tmp_path / "few.png", {"anna": [3.0, 4.0], "ben": [1.0, 2.0, 9.0]}, "mm")
    assert [label.get_text() for label in drawn[0].get_xticklabels()] == ["ben", "anna"]
    assert drawn[0].get_title() == "2 persons"
    many = {f"person {k}": [float(k), k + 1.0] for k in range(40)}
    plots.boxes(tmp_path / "many.png", many, "mm", "all")
    assert drawn[1].get_title() == "all: 30 of 40 persons"
    assert is_picture(tmp_path / "many.png")


def test_roc_has_a_line_per_score_and_survives_a_zero(tmp_path, drawn):
    x, y = np.array([0.0, 0.01, 1.0]), np.array([0.2, 0.8, 1.0])
    plots.roc(tmp_path / "roc.png", {"identity": (x, y), "perfect": (np.zeros(2), np.ones(2))}, "lfw")
    assert is_picture(tmp_path / "roc.png")
    assert [line.get_label() for line in drawn[0].lines] == ["identity", "perfect"]
    assert drawn[0].lines[0].get_xdata().tolist() == [0.01, 0.01, 1.0]


def test_a_picture_that_cannot_be_written_is_said(tmp_path):
    with pytest.raises(BadOutput, match=r"ced\.png cannot be written"):
        plots.cumulative(tmp_path / "nowhere" / "ced.png", np.ones(2), "nme")
