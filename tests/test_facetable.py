"""The reader of the face table, on its own sample, on tables that are none, and on the real one where it is at hand."""

import json
import struct
import zlib

import cv2
import numpy as np
import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest

from sameface.core.errors import BadData
from sameface.core.geometry import rotation_from_euler
from sameface.training.datasets import facetable


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faces")
    facetable.sample(folder)
    return folder


@pytest.fixture(scope="module")
def faces(root) -> facetable.Faces:
    return facetable.load(root, "train")


def rewritten(root, folder, change, metadata=None):
    """The sample's table with `change` applied to its rows."""
    table = parquet.read_table(root / "sample.parquet")
    rows = table.to_pylist()
    change(rows)
    other = arrow.Table.from_pylist(rows, schema=table.schema)
    folder.mkdir(exist_ok=True)
    parquet.write_table(other.replace_schema_metadata(metadata or table.schema.metadata), folder / "changed.parquet")
    return folder


def test_items_hold_exactly_what_is_promised(faces):
    item = faces[3]
    assert set(item) == set(facetable.gives)
    assert (item["image"].shape, item["image"].dtype) == ((160, 160, 3), np.uint8)
    assert (item["landmarks"].shape, item["landmarks"].dtype) == ((164, 2), np.float32)
    assert item["landmarks68"].shape == (68, 2)
    assert item["rotation"].shape == (3, 3)
    assert (item["embedding"].shape, item["embedding"].dtype) == ((128,), np.float32)


def test_landmarks_fall_inside_the_picture(faces):
    for k in range(len(faces)):
        assert faces[k]["landmarks"].min() >= 0
        assert faces[k]["landmarks"].max() <= 160


def test_splits_hold_the_same_persons_under_the_same_numbers(root, faces):
    np.testing.assert_array_equal(faces.person, [0, 0, 0, 0, 1, 1, 1, 1])
    assert [len(facetable.load(root, split)) for split in ("train", "val", "test")] == [8, 8, 8]
    assert faces.names[0] == "train-anna-0"
    assert set(faces.sources) == {"sample"}
    assert faces.landmark_ids == (*range(154), *range(468, 478))


def test_rows_without_hand_placed_landmarks_give_nan(faces):
    with_points = [bool(np.isfinite(faces[k]["landmarks68"]).all()) for k in range(8)]
    assert with_points == [True, False, False, False] * 2
    assert np.isnan(faces[1]["landmarks68"]).all()


def test_embeddings_have_unit_length(faces):
    np.testing.assert_allclose([np.linalg.norm(faces[k]["embedding"]) for k in range(8)], 1, atol=1e-3)


def test_pictures_are_rgb_and_decoded_once(faces):
    image = faces[0]["image"]
    np.testing.assert_allclose(image[80, 80], [190, 160, 150], atol=6)  # the disc was painted in BGR
    assert faces[0]["image"] is image


def test_rotations_come_back_in_our_axes(root, tmp_path):
    """3DDFA's matrix has rows x right, y up, z towards the viewer, scaled; ours is OpenCV's, unscaled."""
    angles = [np.array([value]) for value in (0.2, -0.6, 0.1)]
    wanted = rotation_from_euler(*angles)[0]

    def change(rows):
        matrix = np.zeros((3, 4))
        matrix[:, :3] = 7e-4 * np.diag([1, -1, -1]) @ wanted
        matrix[:, 3] = 60
        rows[0]["params62"] = [*matrix.reshape(-1), *[0.0] * 50]

    found = facetable.load(rewritten(root, tmp_path / "turned", change), "train").rotation
    np.testing.assert_allclose(found[0], wanted, atol=1e-5)
    np.testing.assert_allclose(np.linalg.det(found), 1, atol=1e-5)


def test_small_crops_are_enlarged_with_their_landmarks(root, tmp_path):
    small = cv2.imencode(".webp", np.full((128, 128, 3), 90, np.uint8))[1].tobytes()

    def change(rows):
        rows[0] |= {"size": 128, "image": small, "landmarks": [64.0] * 328, "landmarks68": [32.0] * 136}

    item = facetable.load(rewritten(root, tmp_path / "small", change), "train")[0]
    assert item["image"].shape == (160, 160, 3)
    np.testing.assert_allclose(item["landmarks"], 80)
    np.testing.assert_allclose(item["landmarks68"], 40)


def test_rows_whose_labellings_disagree_are_left_out(root, tmp_path):
    def change(rows):
        rows[1]["agree62"] = 0.2
        rows[2]["person"] = None

    faces = facetable.load(rewritten(root, tmp_path / "doubtful", change), "train")
    assert len(faces) == 7
    assert "train-anna-1" not in faces.names
    np.testing.assert_array_equal(faces.person, [0, -1, 0, 1, 1, 1, 1])


def test_a_folder_without_a_table_is_named(tmp_path):
    with pytest.raises(BadData, match=r"has no \.parquet files; give the folder that holds the face table"):
        facetable.load(tmp_path, "train")


def test_missing_columns_are_named(tmp_path):
    parquet.write_table(arrow.table({"image": [b"x"], "name": ["a"]}), tmp_path / "other.parquet")
    with pytest.raises(BadData, match=r"other\.parquet lacks the columns agree62, box62, embedding, landmarks, "):
        facetable.load(tmp_path, "train")


def test_a_table_without_the_numbers_of_its_landmarks_is_refused(root, tmp_path):
    folder = rewritten(root, tmp_path / "unnumbered", lambda rows: None, metadata={"something": "else"})
    with pytest.raises(BadData, match="landmark_ids"):
        facetable.load(folder, "train")


def test_pictures_that_cannot_be_decoded_are_named(root, tmp_path):
    def change(rows):
        rows[0]["image"] = b"not a picture"

    with pytest.raises(BadData, match=r"row train-anna-0 .* holds no picture"):
        _ = facetable.load(rewritten(root, tmp_path / "broken", change), "train")[0]


def huge() -> bytes:
    """A header that claims too much, and nothing behind it."""
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", 13)
        + b"IHDR"
        + header
        + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    )


BAD_ROWS = {
    "box62": ([1.0, 2.0], "its box62 are not 3 finite numbers"),
    "params62": ([np.inf] * 62, "its params62 are not 62 finite numbers"),
    "landmarks": (None, "its landmarks are not 328 finite numbers"),
    "embedding": ([], "its embedding are not 128 finite numbers"),
    "landmarks68": ([1.0] * 7, "its landmarks68 are not 136 numbers"),
    "size": (0, "its size is 0 px"),
    "image": (None, "holds no picture that can be decoded"),
}


@pytest.mark.parametrize(("name", "bad"), [*((name, None) for name in BAD_ROWS), ("image", b""), ("image", huge())])
def test_a_bad_row_costs_itself_only(root, tmp_path, name, bad):
    value, message = BAD_ROWS[name]
    if bad is not None:
        value, message = bad, "holds (no picture|a picture of 60000×60000 pixels)"

    def change(rows):
        rows[1][name] = value

    faces = facetable.load(rewritten(root, tmp_path / "bad", change), "train")
    assert len(faces) == 8
    with pytest.raises(BadData, match=f"row train-anna-1 of the face table:? {message}"):
        faces[1]
    assert all(np.isfinite(faces[k]["params"]).all() for k in (0, *range(2, 8)))
    assert np.isfinite(faces.rotation).all()


def test_columns_of_another_kind_are_named(root, tmp_path):
    table = parquet.read_table(root / "sample.parquet")
    words = arrow.array(["word"] * table.num_rows)
    table = table.set_column(table.column_names.index("params62"), "params62", words)
    parquet.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(BadData, match="columns of another kind: params62 is string; expected the face table"):
        facetable.load(tmp_path, "train")


def test_an_unknown_split_is_refused(root):
    with pytest.raises(BadData, match="no faces of split 'training'; the splits are train, val and test"):
        facetable.load(root, "training")


@pytest.mark.slow
def test_the_real_table_reads(shared):
    faces = facetable.load(shared("data/faces"), "val")
    assert len(faces) > 1000
    for k in range(0, len(faces), 97):
        item = faces[k]
        assert np.isfinite(item["landmarks"]).all()
        np.testing.assert_allclose(np.linalg.norm(item["embedding"]), 1, atol=1e-2)
    np.testing.assert_allclose(np.linalg.det(faces.rotation), 1, atol=1e-4)
    assert json.dumps(faces.landmark_ids[-1]) == "477"
