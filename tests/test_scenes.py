import cv2
import numpy as np
import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest

from sameface.core.errors import BadData
from sameface.training.datasets import scenes


def test_the_sample_is_read_back(tmp_path):
    scenes.sample(tmp_path / "made")
    for split in ("train", "val", "test"):
        data = scenes.load(tmp_path / "made", split)
        assert len(data) == 4
        for i in range(4):
            item = data[i]
            assert set(item) == set(scenes.gives)
            height, width = item["images"].shape[:2]
            assert item["boxes"].shape == (1, 4)
            assert item["points"].shape == (1, 5, 2)
            assert (item["points"] > item["boxes"][:, None, :2]).all()
            assert (item["points"] < item["boxes"][:, None, 2:]).all()
            assert (item["points"] < [width, height]).all()


def test_the_subjects_right_eye_is_left_in_the_picture(tmp_path):
    scenes.sample(tmp_path)
    right_eye, left_eye, nose, right_mouth, left_mouth = scenes.load(tmp_path, "train")[0]["points"][0]
    assert right_eye[0] < nose[0] < left_eye[0]
    assert right_mouth[0] < left_mouth[0]
    assert right_eye[1] < nose[1] < right_mouth[1]


def row(name, split, boxes=1, image=b""):
    image = image or cv2.imencode(".png", np.full((4, 6, 3), (1, 2, 3), np.uint8))[1].tobytes()
    return {
        "image": image,
        "boxes": [[1.0, 2, 3, 4]] * boxes,
        "points": [[0.0] * 10] * boxes,
        "name": name,
        "split": split,
    }


def write(path, rows):
    columns = {"boxes": arrow.list_(arrow.list_(arrow.float64())), "points": arrow.list_(arrow.list_(arrow.float64()))}
    schema = arrow.schema({"image": arrow.binary(), **columns, "name": arrow.string(), "split": arrow.string()})
    parquet.write_table(arrow.Table.from_pylist(rows, schema), path)


def test_boxes_become_corners_and_colours_are_rgb(tmp_path):
    write(tmp_path / "a.parquet", [row("a", "test", 1), row("b", "test", 0)])
    one, none = (scenes.load(tmp_path, "test")[i] for i in (0, 1))
    assert one["boxes"].tolist() == [[1, 2, 4, 6]]
    assert one["images"][0, 0].tolist() == [3, 2, 1]
    assert none["boxes"].shape == (0, 4)
    assert none["points"].shape == (0, 5, 2)


def test_files_without_val_give_a_tenth_of_train_by_name(tmp_path):
    write(tmp_path / "a.parquet", [row(f"a{i}", "train") for i in range(300)] + [row("t", "test")])
    write(tmp_path / "b.parquet", [row("b", "train"), row("v", "val")])
    names = {split: [r["name"] for r in scenes.load(tmp_path, split).rows] for split in ("train", "val", "test")}
    assert 15 < len(names["val"]) < 50
    assert "v" in names["val"]
    assert "b" in names["train"]
    assert names["test"] == ["t"]
    assert len(set(names["train"]) | set(names["val"])) == len(names["train"]) + len(names["val"]) == 302
    write(tmp_path / "a.parquet", [row(f"a{i}", "train") for i in reversed(range(300))])
    assert {r["name"] for r in scenes.load(tmp_path, "val").rows} == set(names["val"])


def test_a_folder_without_scenes_says_what_scenes_are(tmp_path):
    with pytest.raises(BadData, match=r"has no \.parquet file; scenes are Parquet files with the columns image, boxes"):
        scenes.load(tmp_path, "train")


def test_a_missing_column_is_named(tmp_path):
    parquet.write_table(arrow.table({"image": [b""], "name": ["a"], "split": ["test"]}), tmp_path / "a.parquet")
    with pytest.raises(BadData, match=r"a\.parquet lacks the columns boxes, points"):
        scenes.load(tmp_path, "test")


def test_a_broken_image_is_named(tmp_path):
    write(tmp_path / "a.parquet", [row("the-one", "test", image=b"not an image")])
    with pytest.raises(BadData, match="the row the-one holds no picture that can be decoded"):
        scenes.load(tmp_path, "test")[0]
