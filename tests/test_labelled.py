"""Labels read back: beside the pictures they were made for, without the rejected ones, and never for other pictures."""

import json
import shutil

import numpy as np
import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest

from sameface.core import plugins
from sameface.core.camera import WeakPerspective
from sameface.core.errors import BadData
from sameface.core.geometry import rotation_from_euler
from sameface.morphable import default
from sameface.training.datasets import labelled


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("labelled")
    labelled.sample(folder)
    return folder


@pytest.fixture
def copy(root, tmp_path):
    """A copy that may be damaged."""
    return shutil.copytree(root, tmp_path / "copy")


def rewrite(folder, change) -> None:
    """The labels with `change` applied to their rows."""
    table = parquet.read_table(folder / labelled.LABELS)
    rows = table.to_pylist()
    change(rows)
    parquet.write_table(arrow.Table.from_pylist(rows, schema=table.schema), folder / labelled.LABELS)


def claim(folder, **said) -> None:
    """labels.json with some of its claims changed, None for one left out."""
    about = json.loads((folder / labelled.ABOUT).read_text()) | said
    (folder / labelled.ABOUT).write_text(json.dumps({k: v for k, v in about.items() if v is not None}))


# ── what is read ───────────────────────────────────────────────────────────────────────────────────────────


def test_rejected_photos_are_counted_and_no_items(root):
    data = labelled.load(root, "train")
    assert len(data) == 5
    assert data.rejected == {"NoFaceFound": 1}
    assert data.rows.tolist() == [1, 2, 3, 4, 5]
    assert len(data.names) == len(data.person) == 5


def test_an_item_is_the_picture_of_its_row_with_the_labels(root):
    data, pictures = labelled.load(root, "val"), plugins.load("datasets", "casia").load(root / "pictures", "val")
    item = data[2]
    np.testing.assert_array_equal(item["image"], pictures[3]["image"])
    assert item["params"].shape == (12 + 80 + 51,)
    np.testing.assert_array_equal(item["rotation"], np.diag([1, -1, -1]))
    mean = default().landmarks(default().mean)
    expected = mean[:, :2] * [250 / 270, -250 / 270] + 125
    np.testing.assert_allclose(item["landmarks68_projected"], expected, atol=1e-3)


def test_labels_say_where_the_points_are(copy):
    """With a turned head, a shape and a smile, in a picture that is not square."""
    rng, model = np.random.default_rng(0), default()
    identity, expression = rng.normal(size=80), rng.uniform(0, 1, 51)
    rotation = rotation_from_euler(np.array(0.2), np.array(-0.5), np.array(0.1))
    camera = WeakPerspective(rotation, np.array([90.0, 40.0]), np.array(0.7), (200, 100))
    params = labelled.parameters(camera, identity, expression, 100)
    back = labelled.camera_of(params, (200, 100))
    points = model.landmarks(model.vertices(identity, expression)).astype(float)
    np.testing.assert_allclose(back.project(points), camera.project(points), atol=1e-3)
    tall = labelled.parameters(camera, identity, expression, 250)
    rewrite(copy, lambda rows: rows[1].update(params=tall))
    np.testing.assert_allclose(
        labelled.load(copy, "train")[0]["landmarks68_projected"], camera.project(points), atol=1e-2
    )


def test_persons_without_a_photo_left_are_not_counted(copy):
    def reject(rows):
        for row in rows[:3]:
            row.update(kept=False, reason="Disagrees")

    rewrite(copy, reject)
    data = labelled.load(copy, "train")
    assert data.person.tolist() == [0, 0, 0]
    assert data.rejected == {"Disagrees": 3}


def test_unknown_persons_stay_unknown(copy):
    rewrite(copy, lambda rows: [row.update(person=-1) for row in rows[:3]])
    assert labelled.load(copy, "train").person.tolist() == [-1, -1, 0, 0, 0]


def test_everything_else_that_the_data_set_gives_comes_along(copy):
    faces = plugins.load("datasets", "facetable")
    faces.sample(copy / "table")
    names = faces.load(copy / "table", "train").names
    rewrite(copy, lambda rows: [row.update(name=name) for row, name in zip(rows, names, strict=False)])
    claim(copy, data=f"facetable:{(copy / 'table').resolve()}", splits={"train": 8})
    data = labelled.load(copy, "train")
    item = data[0]
    assert set(item) == set(labelled.gives_at(copy)) == {*labelled.gives, *faces.gives}
    assert item["params"].shape == (143,)
    np.testing.assert_array_equal(item["landmarks"], data.inner[1]["landmarks"])


def test_a_file_of_your_own_can_be_the_data_set_if_you_name_it(copy, monkeypatch):
    monkeypatch.setattr(plugins, "_trusted", {})
    (copy / "mine.py").write_text("from sameface.training.datasets.casia import gives, load, sample\n")
    claim(copy, data="mine.py:pictures")
    for door in (labelled.gives_at, lambda root: labelled.load(root, "train")):
        with pytest.raises(BadData, match=r"labels\.json was made with a data set that is a Python file, mine\.py"):
            door(copy)
    plugins.trust(copy / "mine.py")
    assert len(labelled.load(copy, "train")) == 5


# ── what is refused ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"morphable": "flame"}, r"labels for the model 'flame', expected 'sameface-ict'"),
        ({"splits": {"train": 7}}, r"labels for 7 photos of split 'train', but casia:pictures has 6"),
        ({"splits": {"val": 6}}, r"no labels of split 'train'; fitted were val"),
        ({"data": "casia:gone"}, r"no folder .*gone, where labels.json says"),
        ({"data": None}, r"does not say data"),
    ],
)
def test_labels_for_something_else_are_refused(copy, said, message):
    claim(copy, **said)
    with pytest.raises(BadData, match=message):
        labelled.load(copy, "train")


def test_labels_of_another_photo_are_refused(copy):
    rewrite(copy, lambda rows: rows[1].update(name="eve/007.jpg"))
    with pytest.raises(BadData, match=r"labels for eve/007.jpg in row 1, which now is .*/002.jpg"):
        labelled.load(copy, "train")


def test_labels_of_another_length_are_refused(copy):
    rewrite(copy, lambda rows: rows[1].update(params=[0.0] * 62))
    with pytest.raises(BadData, match=r"labels that are not 143 numbers each"):
        labelled.load(copy, "train")


def test_a_split_with_nothing_left_is_refused(copy):
    rewrite(copy, lambda rows: [row.update(kept=False, reason="NoFaceFound") for row in rows[:6]])
    with pytest.raises(BadData, match=r"no photo of split 'train' that was kept; 6 were rejected"):
        labelled.load(copy, "train")


def test_broken_files_are_named(copy):
    (copy / labelled.LABELS).write_bytes(b"PAR1")
    with pytest.raises(BadData, match=r"labels.parquet cannot be read"):
        labelled.load(copy, "train")
    (copy / labelled.ABOUT).write_text("{")
    with pytest.raises(BadData, match=r"labels.json is not JSON"):
        labelled.load(copy, "train")
    (copy / labelled.ABOUT).unlink()
    with pytest.raises(BadData, match=r"there is no labels.json in .*; expected labels.parquet and labels.json"):
        labelled.load(copy, "train")
