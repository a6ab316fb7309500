"""Synthetic people: what is drawn is what the truth says, the same for the same seed, and readable again."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from sameface import morphable
from sameface.core.camera import WeakPerspective
from sameface.core.errors import BadData, BadModel, BadOutput
from sameface.mesh import raster
from sameface.synthetic import files
from sameface.synthetic.files import folder_of, person, write
from sameface.synthetic.look import Skin, background, extras, haircut, load_skin
from sameface.synthetic.people import Head, People, Picture, View, draw, look_at, prepare, render
from sameface.training.datasets import synthetic as reader
from sameface.training.labels import in_photo

SIZE = 64


@pytest.fixture(scope="module")
def people() -> People:
    return draw(morphable.default(), load_skin(), 3, np.random.default_rng(0))


@pytest.fixture(scope="module")
def head(people) -> Head:
    return prepare(people, 0)


@pytest.fixture(scope="module")
def shot(head) -> tuple[View, Picture]:
    view = look_at(head, np.random.default_rng(1), SIZE)
    return view, render(head, view, camera_noise=False)


@pytest.fixture(scope="module")
def plain_skin() -> Skin:
    rng = np.random.default_rng(0)
    mean, modes = np.full((24, 12, 3), 0.6, np.float32), 0.01 * rng.normal(size=(2, 24, 12, 3)).astype(np.float32)
    light = np.zeros((1, 9, 3), np.float32)
    light[:, 0] = 3.5
    return Skin(mean, modes, np.full((24, 12), 0.02, np.float32), light, {})


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("people") / "new"
    assert write(out, 2, 2, size=SIZE, workers=0) == 2
    return out


# ── drawing ──


def test_people_are_normal_cut_at_two_and_a_half_sigma_and_the_same_for_the_same_seed(people):
    again = draw(people.model, people.skin, 3, np.random.default_rng(0))
    np.testing.assert_array_equal(people.identity, again.identity)
    many = draw(people.model, people.skin, 400, np.random.default_rng(1))
    assert np.abs(many.identity).max() <= 2.5
    assert many.identity.std() == pytest.approx(0.95, abs=0.03)
    assert many.albedo.shape == (400, people.skin.n_albedo)


def test_a_model_without_texture_coordinates_is_refused(people):
    with pytest.raises(ValueError, match="no texture coordinates"):
        draw(replace(people.model, uv=None), people.skin, 1, np.random.default_rng(0))


def test_other_models_get_coefficients_one_by_one_and_no_hair(tiny_model, plain_skin):
    model = replace(tiny_model, expression_range=(-3.0, 3.0))
    one = prepare(draw(model, plain_skin, 1, np.random.default_rng(0)), 0)
    assert one.extra is None
    assert extras(model, haircut(np.random.default_rng(0)), np.random.default_rng(0)) is None
    view = look_at(one, np.random.default_rng(0), 24)
    assert (view.expression != 0).all()
    picture = render(one, view, camera_noise=False)
    assert picture.image.shape == (24, 24, 3)
    assert picture.face.any()


def test_cameras_are_from_30_cm_to_3_m_away_and_the_face_is_in_the_picture(head):
    distances = []
    for k in range(60):
        view = look_at(head, np.random.default_rng(k), SIZE)
        distances.append(np.linalg.norm(view.camera.translation))
        points = head.people.model.vertices(head.people.identity[0], view.expression)
        flat = view.camera.project(head.people.model.landmarks(points))
        assert ((flat > 0) & (flat < SIZE)).all()
        assert view.camera.in_camera(points)[:, 2].min() > 0
        np.testing.assert_allclose(view.camera.rotation @ view.camera.rotation.T, np.eye(3), atol=1e-6)
    assert 290 < min(distances) < 450
    assert 2000 < max(distances) < 3100


def test_eyes_look_the_same_way_and_weights_stay_in_their_range(head):
    names = head.people.model.expression_names
    for k in range(20):
        e = dict(zip(names, look_at(head, np.random.default_rng(k), SIZE).expression.tolist(), strict=True))
        assert all(0 <= value <= 1 for value in e.values())


# ── skin ──


def test_skin_is_symmetric_but_for_its_grain_and_within_bounds(people):
    smooth = people.skin.albedo(people.albedo[0])
    np.testing.assert_array_equal(smooth, smooth[:, ::-1])
    grainy = people.skin.albedo(people.albedo[0], np.random.default_rng(0))
    assert 0 < grainy.min()
    assert grainy.max() <= 1
    assert 0.001 < np.abs(grainy - smooth).mean() < 0.05


def test_the_shipped_skin_shows_nobody():
    """No photo makes up much of a mode, or is near the mean or what the modes can say (tools/albedo_model.py)."""
    skin = load_skin()
    about = skin.about
    assert about["photos"] > 20 * skin.n_albedo
    assert about["largest_share_of_a_photo_in_a_mode"] < 0.05
    assert about["effective_photos_per_mode_least"] > 100
    assert about["nearest_photo_to_its_reconstruction"] > 2
    assert (Path(morphable.__file__).parent.parent / "assets" / "albedo.npz").stat().st_size < 6_000_000


def test_a_file_that_is_no_skin_is_refused(tmp_path):
    (tmp_path / "x.npz").write_bytes(b"no")
    with pytest.raises(BadModel, match=r"is no \.npz of plain arrays"):
        load_skin(tmp_path / "x.npz")


# ── rendering ──


def test_depth_is_that_of_our_other_rasteriser(head, shot):
    view, picture = shot
    points = head.people.model.vertices(head.people.identity[0], view.expression)
    assert head.extra is not None
    points = np.concatenate([points, head.extra.vertices])
    screen = np.column_stack([view.camera.project(points), 1 / view.camera.in_camera(points)[:, 2]])
    screen[:, 2] *= -1  # 1 / z is linear on the screen, and less is nearer
    other = raster.rasterise(screen, head.faces, (SIZE, SIZE))
    there = (other.face >= 0) & (picture.depth > 0)
    assert ((other.face >= 0) == (picture.depth > 0)).mean() > 0.99
    near = np.abs(-1 / other.depth[there] - picture.depth[there]) < 0.5
    assert near.mean() > 0.97  # but for faces seen from behind, which are left out


def test_visible_landmarks_lie_on_the_depth_map_and_on_the_face(shot, head):
    view, picture = shot
    points = head.people.model.vertices(head.people.identity[0], view.expression)
    depth = view.camera.in_camera(head.people.model.landmarks(points))[:, 2]
    column, row = np.floor(picture.landmarks68).astype(int).T
    found = picture.depth[row, column]
    inner = picture.visible68 & (np.arange(68) > 16)
    assert inner.sum() > 15
    assert np.median(np.abs(found - depth)[inner]) < 3
    assert picture.face[row, column][inner].mean() > 0.9


def test_the_far_side_of_a_profile_is_hidden(head):
    from sameface.core.geometry import rotation_from_euler

    view = look_at(head, np.random.default_rng(3), SIZE)
    turn = rotation_from_euler(np.array(0.0), np.array(1.2), np.array(0.0))
    camera = replace(view.camera, rotation=turn, translation=np.array([0, 0, 1000.0]), center=np.full(2, SIZE / 2))
    camera = replace(camera, focal=np.array(0.25 * SIZE / 150 * 1000))
    picture = render(head, replace(view, camera=camera), camera_noise=False)
    right, left = picture.visible68[36:42].mean(), picture.visible68[42:48].mean()
    assert {right > 0.6, left > 0.6} == {True, False}


def test_normals_are_unit_and_face_the_camera_and_albedo_is_the_textures(shot, head):
    _, picture = shot
    there = picture.depth > 0
    np.testing.assert_allclose(np.linalg.norm(picture.normals[there], axis=1), 1, atol=1e-4)
    assert (picture.normals[there][:, 2] < 0.2).mean() > 0.98
    assert (picture.normals[~there] == 0).all()
    assert (picture.albedo[~there] == 0).all()
    assert picture.albedo.max() <= float(head.texture.max()) + 1e-5


def test_lamps_make_it_brighter_and_the_same_view_gives_the_same_picture(head, shot):
    view, picture = shot
    none = np.zeros((0, 3), np.float32)
    dark = render(head, replace(view, lamps=none, lamp_colours=none), camera_noise=False).image
    lamp = view.camera.translation[None].astype(np.float32) * 0.3
    bright = render(head, replace(view, lamps=lamp, lamp_colours=np.full((1, 3), 0.5, np.float32)), camera_noise=False)
    face = picture.face
    assert bright.image[face].mean() > dark[face].mean() + 5
    np.testing.assert_array_equal(render(head, view, camera_noise=False).image, picture.image)
    noisy = [render(head, replace(view, seed=k)).image for k in range(4)]
    assert any((image != picture.image).mean() > 0.5 for image in noisy)


def test_backgrounds_are_made_up_or_part_of_a_photo():
    photo = np.full((40, 60, 3), 77, np.uint8)
    assert (background(16, np.random.default_rng(0), photo) == 77).all()
    for seed in range(8):
        made = background(16, np.random.default_rng(seed))
        assert made.shape == (16, 16, 3)
        assert 0 <= made.min() <= made.max() <= 255


# ── on disk ──


def test_what_a_view_shows_depends_on_seed_person_and_view_only(folder, tmp_path):
    write(tmp_path, [1], 1, size=SIZE, workers=0)
    for ending in (".jpg", "-depth.png", "-normal.png", "-albedo.png"):
        name = f"00{ending}"
        assert (folder_of(tmp_path, 1) / name).read_bytes() == (folder_of(folder, 1) / name).read_bytes()
    _, views = person(morphable.default(), 0, 1, 2, SIZE)
    with np.load(folder_of(folder, 1) / "truth.npz") as truth:
        assert set(truth.files) == set(files.TRUTH)
        np.testing.assert_allclose(truth["translation"][1], views[1].camera.translation)


def test_writing_goes_on_where_it_was_stopped_and_refuses_other_settings(tmp_path, monkeypatch):
    done = []
    assert write(tmp_path, 1, 1, size=32, workers=0, tick=lambda *n: done.append(n)) == 1
    assert write(tmp_path, 2, 1, size=32, workers=0, tick=lambda *n: done.append(n)) == 1
    assert done == [(1, 1), (2, 2)]
    assert write(tmp_path, 2, 1, size=32, workers=0) == 0
    with pytest.raises(BadOutput, match="drawn with another views, size"):
        write(tmp_path, 2, 3, size=40, workers=0)
    pictures = {file: file.read_bytes() for file in tmp_path.glob("*/*")}
    shutil.rmtree(folder_of(tmp_path, 0))
    folder_of(tmp_path, 0).mkdir()  # left by a disk that was full
    cut = folder_of(tmp_path, 1) / "truth.npz"
    cut.write_bytes(cut.read_bytes()[:-100])
    assert write(tmp_path, 2, 1, size=32, workers=0) == 2
    assert {file: file.read_bytes() for file in tmp_path.glob("*/*")} == pictures
    (tmp_path / "about.json").write_text("{")
    with pytest.raises(BadOutput, match="another format"):
        write(tmp_path, 2, 1, size=32, workers=0)


def test_processes_do_the_same_work(folder, tmp_path, monkeypatch):
    """The pool is replaced by one that works here: starting processes takes seconds."""
    from concurrent.futures import ThreadPoolExecutor

    def pool(workers, context, start):
        start()
        return ThreadPoolExecutor(1)

    monkeypatch.setattr(files, "ProcessPoolExecutor", pool)
    write(tmp_path, [0], 2, size=SIZE, workers=1)
    assert (folder_of(tmp_path, 0) / "01.jpg").read_bytes() == (folder_of(folder, 0) / "01.jpg").read_bytes()


def test_photos_can_stand_behind(tmp_path, folder):
    photos = tmp_path / "photos"
    photos.mkdir()
    with pytest.raises(BadData, match="has no photos"):
        write(tmp_path / "a", 1, 1, size=32, workers=0, backgrounds=photos)
    cv2.imwrite(str(photos / "red.png"), np.full((64, 64, 3), (0, 0, 255), np.uint8))
    model = tmp_path / "model.npz"
    morphable.default().save(model)
    with pytest.raises(BadOutput, match="is what is read"):
        write(photos, 1, 1, size=32, workers=0, backgrounds=photos)
    write(tmp_path / "b", 1, 1, size=32, workers=0, backgrounds=photos, model=model)
    (photos / "red.png").write_bytes(b"no picture")
    files._decoded.cache_clear()
    with pytest.raises(BadData, match="cannot be used as a background"):
        write(tmp_path / "c", 1, 1, size=32, workers=0, backgrounds=photos)


def test_wrong_numbers_and_full_disks_are_told(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="expected persons 1 to 1000000"):
        write(tmp_path, 0, 1)
    for numbers in ({"persons": 10**12}, {"views": 10**9}, {"size": 10**6}, {"seed": -1}):
        with pytest.raises(ValueError, match="but got persons"):
            write(tmp_path, **{"persons": 1, "views": 1, **numbers})
    (tmp_path / "file").write_text("")
    with pytest.raises(BadOutput, match="cannot be made"):
        write(tmp_path / "file" / "x", 1, 1, workers=0)

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.np, "savez", full)
    with pytest.raises(BadOutput, match="No space left"):
        write(tmp_path / "d", 1, 1, size=32, workers=0)


# ── the reader ──


def test_the_reader_gives_the_exact_camera_and_a_near_weak_one(tmp_path):
    reader.sample(tmp_path)
    data = reader.load(tmp_path, "train")
    item, truth = data[1], data.truth(0)
    points = truth["landmarks68_3d"][1] @ item["rotation"].T + item["translation"]
    exact = points @ item["camera_matrix"].T
    np.testing.assert_allclose(exact[:, :2] / exact[:, 2:], item["landmarks68"], atol=0.01)
    matrix, coefficients = in_photo(item["params"], morphable.default(), len(item["image"]))
    near = truth["landmarks68_3d"][1] @ matrix[:2, :3].T + matrix[:2, 3]
    assert np.linalg.norm(near - item["landmarks68"], axis=1).mean() < 0.08 * len(item["image"])
    np.testing.assert_allclose(coefficients[:80], item["identity"], atol=1e-6)
    assert data[-1]["person"] == 1
    with pytest.raises(IndexError):
        _ = data[4]
    maps = data.maps(0)
    assert maps["depth"].max() > 250
    there = maps["depth"] > 0
    np.testing.assert_allclose(np.linalg.norm(maps["normal"][there], axis=1), 1, atol=1e-3)
    assert 0 < maps["albedo"][there].mean() < 1
    (tmp_path / data.names[0].replace(".jpg", "-depth.png")).unlink()
    with pytest.raises(BadData, match=r"there is no file .*-depth\.png"):
        data.maps(0)
    (tmp_path / data.persons[1] / "truth.npz").write_bytes(b"")
    with pytest.raises(BadData, match=r"truth\.npz is no \.npz .*: delete its folder and run the same command"):
        reader.load(tmp_path, "train").truth(1)


def test_the_weak_camera_is_exact_for_a_face_far_away():
    rng = np.random.default_rng(0)
    points, rotation = rng.normal(size=(68, 3)) * 60, np.diag([1.0, -1.0, -1.0])
    camera = WeakPerspective(rotation, np.array([30.0, 40.0]), np.array(0.7), (90, 80))
    found = reader.weak(points, camera.project(points), rotation, (90, 80))
    np.testing.assert_allclose(found.scale, 0.7)
    np.testing.assert_allclose(found.translation, [30, 40])


def test_folders_that_are_not_ours_are_refused(tmp_path):
    with pytest.raises(BadData, match=r"there is no .*about.json"):
        reader.load(tmp_path, "train")
    (tmp_path / "about.json").write_text("{")
    with pytest.raises(BadData, match="is not JSON"):
        reader.load(tmp_path, "train")
    (tmp_path / "about.json").write_text("[]")
    with pytest.raises(BadData, match="not about synthetic people"):
        reader.load(tmp_path, "train")
    (tmp_path / "about.json").write_text(json.dumps({"format": "sameface-synthetic", "views": 1, "depth_unit_mm": 1}))
    with pytest.raises(BadData, match="has no persons of split 'val'"):
        reader.load(tmp_path, "val")
