"""Sheets of items and cases: the labels are drawn where they say, and each kind of data set and benchmark is shown."""

from dataclasses import dataclass
from types import ModuleType

import cv2
import numpy as np
import pytest

from sameface.cli import show
from sameface.cli.show import Labels, draw, labels_of, show_cases, show_items
from sameface.core import plugins
from sameface.core.errors import BadData, BadOutput
from sameface.core.geometry import rotation_from_euler
from sameface.evaluation.case import Case

GREY = np.full((100, 100, 3), 90, np.uint8)


def module(name, **contents) -> ModuleType:
    made = ModuleType(name)
    made.__dict__.update(contents)
    return made


class Listed(list):
    """Items as a data set has them."""

    def __init__(self, items, person=None):
        super().__init__(items)
        if person is not None:
            self.person = np.array(person)


def changed(pixels):
    """Where a picture is not grey any more, as left, upper, right, lower in px."""
    rows, columns = np.nonzero(np.abs(pixels.astype(int) - 90).max(2) > 40)
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def test_a_point_is_drawn_where_it_lies():
    """(25, 75) of 100 px comes to (100, 300) of 400, where pixel centres are at halves."""
    out = draw(GREY, Labels({"points": np.array([[25.0, 75], [99, 1]])}))
    assert out.shape == (400, 400, 3)
    left, upper, right, lower = changed(np.where(np.arange(400)[None, :, None] < 200, out, 90))
    assert ((left + right) / 2, (upper + lower) / 2) == pytest.approx((100, 300), abs=0.6)


def test_boxes_are_drawn_at_their_corners():
    out = draw(GREY, Labels(boxes=np.array([[10.0, 20, 90, 95]])))
    assert changed(out) == pytest.approx([40, 80, 360, 380], abs=3)


def test_small_labels_are_shown_large():
    points = np.array([[40.0, 40], [60, 40], [50, 60]])
    photo = np.full((500, 1000, 3), 90, np.uint8)
    out = draw(photo, Labels({"landmarks": points}))
    assert max(out.shape) == 400
    left, _, right, _ = changed(out)
    assert right - left > 180
    large = np.array([[100.0, 100], [900, 400]])
    assert draw(photo, Labels({"landmarks": large})).shape == (200, 400, 3)
    assert draw(photo, Labels()).shape == (200, 400, 3)
    assert draw(photo, Labels({"landmarks": points + 5000})).shape == (200, 400, 3)


def test_axes_start_at_the_nose_and_point_as_the_viewer_says():
    points = np.full((68, 2), np.nan)
    points[30], points[0], points[16] = (50, 50), (5, 50), (95, 50)
    yawed = rotation_from_euler(np.array(0.0), np.array(1.0), np.array(0.0))  # the nose points to the right
    out = draw(GREY, Labels({"landmarks68": points}, rotation=yawed)).astype(int)
    blue = (out[..., 2] > 200) & (out[..., 0] < 120)
    assert np.nonzero(blue)[1].mean() > 220
    green = (out[..., 1] > 180) & (out[..., 0] < 120) & (out[..., 2] < 120)
    assert np.nonzero(green)[0].mean() < 190
    assert np.nonzero(green)[1].mean() == pytest.approx(200, abs=3)
    without_points = draw(GREY, Labels(rotation=yawed)).astype(int)
    assert np.abs(without_points - 90).max() > 100


def test_near_points_are_orange_and_far_ones_blue():
    points = np.array([[20.0, 20, -3], [80, 80, 4], [50, 50, np.nan]])
    out = draw(GREY, Labels({"landmarks66_3d": points})).astype(int)
    near, far = out[79:81, 79:81].mean((0, 1)), out[319:321, 319:321].mean((0, 1))
    assert near[0] > near[2] + 100
    assert far[2] > far[0] + 100


def test_absent_labels_leave_the_picture_as_it_is():
    nothing = Labels({"landmarks68": np.full((68, 2), np.nan), "landmarks68_3d": np.full((68, 3), np.nan)})
    np.testing.assert_array_equal(draw(GREY, nothing), 90)
    np.testing.assert_array_equal(draw(GREY, Labels(rotation=np.full((3, 3), np.nan))), 90)


def test_labels_are_recognised_by_their_keys():
    item = {
        "image": GREY, "landmarks68": np.zeros((68, 2)), "points": np.zeros((3, 5, 2)), "boxes": np.zeros((3, 4)),
        "embedding": np.zeros(128), "params": np.zeros(62), "person": np.int64(3), "landmarks_known": np.array(True),
    }  # fmt: skip
    labels = labels_of(item)
    assert list(labels.points) == ["landmarks68", "points", "points 1", "points 2"]
    assert labels.boxes.shape == (3, 4)
    assert labels.rotation is None


@pytest.mark.parametrize("name", ["aflwcrops", "casia", "fw3d", "scenes"])
def test_data_sets_are_shown(name, tmp_path):
    dataset = plugins.load("datasets", name)
    dataset.sample(tmp_path / "data")
    show_items(dataset, tmp_path / "data", "train", tmp_path / "look.png", count=4)
    sheet = cv2.imread(str(tmp_path / "look.png"))
    assert sheet.shape[0] > 800
    assert len(np.unique(sheet.reshape(-1, 3), axis=0)) > 100


def test_two_pictures_of_a_person_stand_side_by_side():
    person = [0, 1, 0, 1, 2, 0, 3, 3]
    assert show._chosen(Listed(range(8), person), 8) == [0, 2, 1, 3, 6, 7]
    assert show._chosen(Listed(range(8), person), 4) == [0, 2, 6, 7]
    assert show._chosen(Listed(range(8), [0, 0, 0, 0, -1, -1, -1, -1]), 4) == [0, 2, 4, 7]
    assert show._chosen(Listed(range(8), range(8)), 3) == [0, 4, 7]
    assert show._chosen(Listed(range(3)), 16) == [0, 1, 2]


def test_an_empty_split_is_refused(tmp_path):
    dataset = module("nothing", load=lambda root, split: [])
    with pytest.raises(BadData, match="has no items in split 'val'"):
        show_items(dataset, tmp_path, "val", tmp_path / "look.png")


def test_a_sheet_that_cannot_be_written_is_refused(tmp_path):
    dataset = module("one", load=lambda root, split: Listed([{"image": GREY, "person": np.int64(-1)}], [-1]))
    with pytest.raises(BadOutput, match=r"look\.png cannot be written"):
        show_items(dataset, tmp_path, "val", tmp_path / "gone" / "look.png")


@dataclass(frozen=True)
class Options:
    """None."""


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    cv2.imwrite(str(path), GREY)
    return path


def benchmark(*cases):
    return module("sameface.evaluation.benchmarks.made", Options=Options, cases=lambda root, options: list(cases))


def test_cases_are_shown_with_the_place_meant_and_the_truth(tmp_path, photo):
    points = np.random.default_rng(0).uniform(20, 80, (68, 2))
    five = np.array([[30.0, 30], [70, 30], [50, 50], [35, 70], [65, 70]])
    truth = {
        "landmarks": np.column_stack([points, points[:, 0]])[None],
        "rotation": np.diag([1.0, -1, -1])[None],
        "name": "x",
    }
    cases = (
        Case("box", (photo,), (np.array([[10.0, 10], [90, 90]]),)),
        Case("five", (photo, photo), (five, None), {"landmarks68": points[None], "landmarks_scan": np.zeros((7, 3))}),
        Case("a very long name of a case that no sheet has the room to show", (photo,), (None,), truth),
    )
    show_cases(benchmark(*cases), tmp_path, tmp_path / "look.png")
    assert cv2.imread(str(tmp_path / "look.png")).shape[0] > 800


def test_what_a_case_says_becomes_labels(photo):
    points = np.zeros((2, 68, 3))
    case = Case("c", (photo, photo), (np.ones((68, 2)), None), {"landmarks": points, "rotation": np.eye(3)[None]})
    labels = show._labels_of_case(case)
    assert {name: value.shape for name, value in labels.points.items()} == {
        "points: the face meant": (68, 2), "landmarks": (68, 3)
    }  # fmt: skip
    assert list(show._legend(labels))[:2] == ["the face meant", "landmarks"]
    assert show._labels_of_case(Case("c", (photo,), (np.array([[1.0, 2], [3, 4]]),))).boxes.tolist() == [[1, 2, 3, 4]]


def test_a_benchmark_without_cases_is_refused(tmp_path):
    with pytest.raises(BadData, match="has no case of made"):
        show_cases(benchmark(), tmp_path, tmp_path / "look.png")


def test_long_names_keep_their_end():
    assert show._short("x" * 40 + "photo_0001.jpg") == "…" + "x" * 19 + "photo_0001.jpg"
    assert show._short("short") == "short"
