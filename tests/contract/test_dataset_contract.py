"""What every data set must do: read the copy of its layout that its own `sample` writes."""

import contextlib
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clutter import littered
from sameface.core import plugins
from sameface.core.errors import BadData
from sameface.training.train import Items

SPLITS = ("train", "val", "test")


@pytest.fixture(scope="module", params=plugins.names("datasets"))
def dataset(request) -> Any:
    return plugins.load("datasets", request.param)


@pytest.fixture(scope="module")
def root(dataset, tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    dataset.sample(folder)
    return folder


@pytest.fixture(scope="module")
def splits(dataset, root) -> dict[str, Any]:
    """The splits that the data set has: all have train and val, some have no test."""
    found = {split: dataset.load(root, split) for split in SPLITS[:2]}
    with contextlib.suppress(ValueError, BadData):
        found["test"] = dataset.load(root, "test")
    return found


@pytest.fixture(scope="module")
def items_of(splits) -> dict[str, list[dict[str, Any]]]:
    """By split; some are slow to make."""
    return {split: [data[index] for index in range(len(data))] for split, data in splits.items()}


@pytest.fixture(scope="module")
def items(items_of) -> list[dict[str, Any]]:
    return [item for items in items_of.values() for item in items]


def test_every_split_of_its_own_sample_has_items(splits):
    for split, data in splits.items():
        assert isinstance(data, Items)
        assert len(data) >= 2, split


def test_items_have_exactly_the_promised_keys(dataset, items):
    for item in items:
        assert tuple(item) == dataset.gives
        assert all(isinstance(value, np.ndarray | np.generic) for value in item.values())


def test_images_are_eight_bit_rgb(dataset, items):
    key = "image" if "image" in dataset.gives else "images"
    for item in items:
        assert item[key].dtype == np.uint8
        assert item[key].ndim == 3
        assert item[key].shape[2] == 3
        assert item[key].flags.c_contiguous


def test_the_same_item_comes_twice(dataset, root, splits, items_of):
    for again in (splits["train"][1], dataset.load(root, "train")[1]):
        for key, value in items_of["train"][1].items():
            np.testing.assert_array_equal(value, again[key])


def test_what_systems_leave_in_folders_is_no_item(dataset, root, items_of, tmp_path):
    copy = littered(Path(shutil.copytree(root, tmp_path / "copy")))
    for split, items in items_of.items():
        data = dataset.load(copy, split)
        assert len(data) == len(items)
        for index in (0, len(items) // 2, len(items) - 1):
            for key, value in items[index].items():
                np.testing.assert_array_equal(value, data[index][key])


def test_points_lie_inside_the_image_or_are_absent(dataset, items):
    keys = [key for key in dataset.gives if key.startswith(("landmarks", "points"))]
    for item in items:
        height, width = (item["image"] if "image" in item else item["images"]).shape[:2]
        for key in keys:
            points = item[key][..., :2].reshape(-1, 2)
            absent = np.isnan(points).all(1)
            assert (absent | ((points > 0) & (points < [width, height])).all(1)).all(), key
            assert key == "landmarks21" or absent.all() or not absent.any(), key  # only AFLW hides single points


def test_points_have_their_shapes(items):
    shapes = {
        "landmarks68": (68, 2),
        "landmarks21": (21, 2),
        "landmarks68_projected": (68, 2),
        "landmarks68_3d": (68, 3),
    }
    shapes |= {"landmarks66_3d": (66, 3), "params240": (240,), "rotation": (3, 3), "person": ()}
    for item in items:
        for key in set(shapes) & set(item):
            assert item[key].shape == shapes[key], key
        if "params" in item:  # 12 of [sR | t], then the coefficients of whatever model the labels belong to
            assert item["params"].ndim == 1
            assert len(item["params"]) > 12


def test_the_subjects_right_eye_is_on_the_left_of_the_left_eye(dataset, items):
    """The faces of the samples are upright; a mirrored picture must have had its points renamed."""
    keys = [key for key in dataset.gives if key.startswith("landmarks6")]
    if dataset.__name__.endswith(("facetable", "pointlabels")):
        pytest.skip("the face table's sample has random points")
    for item in items:
        for key in keys:
            assert item[key][36:42, 0].mean() < item[key][42:48, 0].mean()
            assert item[key][36:48, 1].mean() < item[key][48:60, 1].mean()


def test_rotations_are_proper_and_look_at_the_camera(items):
    for item in items:
        if "rotation" in item:
            rotation = np.asarray(item["rotation"], np.float64)
            np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-5)
            assert np.linalg.det(rotation) > 0
            assert rotation[2, 2] < 0  # the face's +z comes towards the viewer


def test_persons_are_small_whole_numbers_and_come_more_than_once(dataset, splits, items_of):
    if "person" not in dataset.gives:
        pytest.skip("this data set does not know who is who")
    for split, data in splits.items():
        numbers = [int(item["person"]) for item in items_of[split]]
        assert np.asarray(data.person).tolist() == numbers  # methods draw pairs from it without decoding pictures
        assert set(numbers) - {-1} == set(range(max(numbers) + 1))
        assert len(set(numbers)) >= 2
        assert max(map(numbers.count, set(numbers) - {-1})) >= 2


def test_params_say_how_big_and_where_the_face_is(dataset, items):
    """The centre of the points lies near the translation, and the size of a head is right."""
    if not {"params", "landmarks68"} <= set(dataset.gives) or dataset.__name__.endswith("facetable"):
        pytest.skip("no parameters, or made-up ones")
    for item in items:
        matrix, height = item["params"][:12].reshape(3, 4).astype(float), len(item["image"])
        center = np.array([matrix[0, 3], height - matrix[1, 3]])
        size = np.ptp(item["landmarks68"], axis=0).max()
        assert np.linalg.norm(item["landmarks68"].mean(0) - center) < 0.3 * size
        face = 150 if dataset.__name__.endswith("synthetic") else 150_000  # mm for our model, µm for 3DDFA's
        assert np.linalg.norm(matrix[0, :3]) * face == pytest.approx(size, rel=0.3)
        rotation = np.array([[1.0], [-1.0], [-1.0]]) * matrix[:, :3] / np.linalg.norm(matrix[0, :3])
        np.testing.assert_allclose(rotation, item["rotation"], atol=1e-3)


def test_an_empty_folder_is_refused(dataset, tmp_path):
    with pytest.raises(BadData, match=r"has no|there is no|expected"):
        dataset.load(tmp_path, "train")


def test_an_unknown_split_is_refused_or_empty(dataset, root):
    """The training loop refuses an empty one."""
    if dataset.__name__.endswith("scenes"):
        assert not len(dataset.load(root, "practice"))
    else:
        with pytest.raises((ValueError, BadData), match="practice"):
            dataset.load(root, "practice")
