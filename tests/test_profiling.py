"""Heads turned further in their photos: where the pixels go, and the data set made of it."""

import json
import shutil

import cv2
import numpy as np
import pytest

from sameface.core import plugins
from sameface.core.camera import WeakPerspective
from sameface.core.errors import BadData
from sameface.core.geometry import euler_from_rotation, rotation_from_euler
from sameface.mesh.raster import interpolate, rasterise, screen_points
from sameface.morphable import default
from sameface.synthetic.profiling import profile, turned
from sameface.training.datasets import profiled

MODEL = default()
MESH = MODEL.mean


def camera_at(yaw, *, pitch=0.1, roll=0.15, scale=0.9) -> WeakPerspective:
    rotation = rotation_from_euler(np.array(pitch), np.array(np.radians(yaw)), np.array(roll))
    return WeakPerspective(rotation, np.array([110.0, 105.0]), np.array(scale), (220, 240))


def painted(camera):
    """The head without light, every vertex in a colour of its own, over grey."""
    raster = rasterise(screen_points(MESH.astype(float), camera), MODEL.faces, camera.size)
    picture = np.full((*raster.face.shape, 3), 90, np.uint8)
    colours = 255 * (MESH - MESH.min(0)) / np.ptp(MESH, axis=0)
    picture[raster.face >= 0] = np.round(interpolate(raster, MODEL.faces, colours)).astype(np.uint8)
    return picture


# ── the turn ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("yaw", [-40, -2, 3, 35])
def test_the_new_camera_has_the_yaw_and_keeps_the_rest(yaw):
    before = camera_at(yaw)
    after = turned(before, np.sign(yaw) * np.radians(80))
    np.testing.assert_allclose(euler_from_rotation(after.rotation), (0.1, np.sign(yaw) * np.radians(80), 0.15))
    middle = np.array([[0.0, 0.0, -30.0]])
    np.testing.assert_allclose(after.project(middle), before.project(middle))
    assert after.scale == before.scale


def test_what_the_photo_hides_is_not_made_up():
    photo = np.zeros((240, 220, 3), np.uint8)
    for yaw, asked in ((30, 10), (30, -60), (-30, 45)):
        with pytest.raises(ValueError, match=r"at yaw -?30.0°; it can only be turned further that way"):
            profile(photo, camera_at(yaw), MESH, MODEL, np.radians(asked))
    with pytest.raises(ValueError, match=r"up to 90°, but yaw 95.0°"):
        profile(photo, camera_at(30), MESH, MODEL, np.radians(95))


def test_a_camera_of_another_photo_is_refused():
    with pytest.raises(ValueError, match=r"camera is for a photo of \(220, 240\), but this one has \(64, 64\)"):
        profile(np.zeros((64, 64, 3), np.uint8), camera_at(0), MESH, MODEL, 0.5)
    away = WeakPerspective(camera_at(0).rotation, np.array([9e3, 9e3]), np.array(0.9), (220, 240))
    with pytest.raises(ValueError, match="shows none of the fitted head"):
        profile(np.zeros((240, 220, 3), np.uint8), away, MESH, MODEL, 0.5)


# ── the picture ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("before", "after"), [(5, 35), (-20, -50), (30, 75)])
def test_the_skin_that_both_views_see_goes_where_the_mesh_goes(before, after):
    """Against a render of the same painted head by the new camera."""
    first = camera_at(before)
    made = profile(painted(first), first, MESH, MODEL, np.radians(after))
    expected = painted(made.camera)
    seen = np.zeros(expected.shape[:2], bool)
    raster = rasterise(screen_points(MESH.astype(float), made.camera), MODEL.faces, (220, 240))
    face = MODEL.regions["face"][MODEL.faces].all(1)
    seen[raster.face >= 0] = face[raster.face[raster.face >= 0]]
    seen = cv2.erode(seen.astype(np.uint8), np.ones((7, 7), np.uint8)) > 0
    error = np.abs(made.image.astype(float) - expected).max(-1)[seen]
    assert seen.sum() > 4000
    assert np.median(error) < 4
    assert np.mean(error > 20) < 0.03


def test_the_frame_stays_and_nothing_tears():
    first = camera_at(20, scale=0.5)
    photo = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (240, 220, 3), np.uint8), (0, 0), 6)
    made = profile(photo, first, MESH, MODEL, np.radians(85)).image
    edge = np.ones(photo.shape[:2], bool)
    edge[2:-2, 2:-2] = False
    assert np.abs(made[edge].astype(float) - photo[edge]).mean() < 6
    marked = profile(np.full_like(photo, 200), first, MESH, MODEL, np.radians(85)).image
    assert (marked == 200).all()  # every pixel comes from the photo


def test_the_same_yaw_gives_the_same_picture():
    first = camera_at(25)
    photo = painted(first)
    made = profile(photo, first, MESH, MODEL, np.radians(25))
    assert np.abs(made.image.astype(float) - photo).mean() < 0.6
    np.testing.assert_allclose(made.camera.rotation, first.rotation, atol=1e-9)


def test_a_model_without_a_named_neck_is_turned_whole():
    from dataclasses import replace

    first = camera_at(25)
    made = profile(painted(first), first, MESH, replace(MODEL, regions={}), np.radians(50))
    assert made.image.shape == (240, 220, 3)


# ── the data set ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("profiled")
    profiled.sample(folder)
    return folder


@pytest.fixture
def copy(root, tmp_path):
    return shutil.copytree(root, tmp_path / "copy")


def say(folder, **said) -> None:
    about = {k: v for k, v in (json.loads((folder / "profiled.json").read_text()) | said).items() if v is not None}
    (folder / "profiled.json").write_text(json.dumps(about))


def test_every_photo_comes_in_all_views_with_one_identity(root):
    data, inner = profiled.load(root, "train"), plugins.load("datasets", "labelled").load(root / "labels", "train")
    assert len(data) == 3 * len(inner)
    for row in (0, 1):
        items = [data[3 * row + view] for view in range(3)]
        np.testing.assert_array_equal(items[0]["image"], inner[row]["image"])
        side = 1 if row % 2 else -1  # they look straight ahead
        yaws = [np.degrees(euler_from_rotation(item["rotation"].astype(float))[1]) for item in items]
        np.testing.assert_allclose(yaws, [0, 30 * side, 60 * side], atol=1e-3)
        for item in items:
            np.testing.assert_array_equal(item["identity"], inner[row]["identity"])
            assert item["person"] == inner[row]["person"]
    assert data.names[4] == f"{inner.names[1]}#1"


def test_labels_of_a_view_say_where_its_points_are(root):
    labelled = plugins.load("datasets", "labelled")
    item = profiled.load(root, "val")[2]
    camera = labelled.camera_of(item["params"], (250, 250))
    np.testing.assert_allclose(camera.rotation, item["rotation"], atol=1e-6)
    points = MODEL.landmarks(MODEL.vertices(item["identity"], item["expression"]))
    np.testing.assert_allclose(camera.project(points), item["landmarks68_projected"], atol=1e-3)


def test_heads_turned_already_are_never_turned_back(copy):
    say(copy, yaws=[20, 40], views=2)
    data = profiled.load(copy, "train")
    assert data._yaw(np.radians(-50), 0, 0) is None
    assert data._yaw(np.radians(-50), 0, 1) is None
    np.testing.assert_allclose(np.degrees([data._yaw(np.radians(-10), 1, v) for v in (0, 1)]), [-20, -40])
    with pytest.raises(IndexError):
        data[len(data)]


def test_a_file_of_your_own_can_be_the_data_set_if_you_name_it(copy, monkeypatch):
    monkeypatch.setattr(plugins, "_trusted", {})
    (copy / "mine.py").write_text("from sameface.training.datasets.labelled import gives, load as _load, sample\n"
                                  "class Unnamed:\n"
                                  "    def __init__(self, data): self.data, self.person = data, data.person\n"
                                  "    def __len__(self): return len(self.data)\n"
                                  "    def __getitem__(self, index): return self.data[index]\n"
                                  "def load(root, split): return Unnamed(_load(root, split))\n")  # fmt: skip
    say(copy, data="mine.py:labels")
    with pytest.raises(BadData, match=r"profiled\.json was made with a data set that is a Python file, mine\.py"):
        profiled.load(copy, "train")
    plugins.trust(copy / "mine.py")
    data = profiled.load(copy, "train")
    assert not hasattr(data, "names")
    assert data[1]["image"].shape == (250, 250, 3)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"data": "casia:labels"}, r"data set casia does not give params, identity.*make them with `sameface fit-set"),
        ({"data": "labelled:gone"}, r"no folder .*gone, where profiled.json says"),
        ({"data": None}, r"does not say data, views and yaws"),
        ({"views": 0}, r"views must be a whole number from 1 to 100, but is 0"),
        ({"yaws": [30, 10]}, r"yaws must be \[least, most\] degrees between 0 and 90, but is \[30, 10\]"),
        ({"yaws": "all"}, r"yaws must be .* but is 'all'"),
    ],
)
def test_a_wrong_description_is_refused(copy, said, message):
    say(copy, **said)
    with pytest.raises(BadData, match=message):
        profiled.load(copy, "train")


def test_a_broken_or_missing_description_is_named(copy):
    (copy / "profiled.json").write_text("{")
    with pytest.raises(BadData, match=r"profiled.json is not JSON"):
        profiled.load(copy, "train")
    (copy / "profiled.json").unlink()
    with pytest.raises(BadData, match=r"there is no profiled.json in .*; expected profiled.json, for example"):
        profiled.load(copy, "train")
