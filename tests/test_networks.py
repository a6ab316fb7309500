"""Networks of `multiview` in files as systems: crops, views by yaw, cameras in perspective. They are made here."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from faces import astronaut, encoded, rendered
from sameface.core.errors import AssetMissing, NoFaceFound
from sameface.core.geometry import euler_from_rotation
from sameface.evaluation import networks, systems
from sameface.evaluation.case import Case
from sameface.morphable import default
from sameface.photo import image
from sameface.photo.predictor import load as load_network
from sameface.training import export, train
from sameface.training.methods import multiview
from sameface.training.train import Loop
from test_systems import network
from test_views import write_video

DATA = """
import sys
sys.path.insert(0, {tests!r})
from test_multiview import People
from sameface.morphable import default
gives = ("image", "identity", "rotation", "translation", "camera_matrix", "landmarks68", "person")
def load(root, split): return People(default())
def sample(root): ...
"""
CONFIG = multiview.Config(size=32, batch=2, steps=1)
YAWS = {"ahead": 0.0, "a little left": -0.25, "left": -0.7, "right": 0.65}
"""of the photos, rad"""
SIDE = 320.0
WIDE = 426
"""px; of a photo as high as that and as wide as a camera's, 4:3"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("photos")
    for name, yaw in YAWS.items():
        (path / f"{name}.png").write_bytes(encoded(rendered(3, yaw)))
    (path / "nobody.png").write_bytes(encoded(np.full((200, 200, 3), 90, np.uint8)))
    (path / "anna.png").write_bytes(encoded(astronaut()))
    return path


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, tuple[str, Any]]:
    """Variant → (file, method). Trained for one step, from heads that do not begin at nothing."""
    path, made = tmp_path_factory.mktemp("runs"), {}
    (path / "people.py").write_text(DATA.format(tests=str(Path(__file__).parent)))
    small = multiview._mlp

    def lively(*sizes: int, **begin: Any) -> Any:
        layers = small(*sizes, **begin)
        torch.nn.init.normal_(layers[-1].weight, std=0.3)
        return layers

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(multiview, "_mlp", lively)
        for variant in ("single", "concatenate", "shape"):
            config = replace(CONFIG, variant=variant)
            run = train.train(
                "multiview", f"{path / 'people.py'}:{path}", path / variant, config, Loop(validate_items=2)
            )
            made[variant] = (str(export.export(run)), train.restore(run)[0])
    return made


def case(folder: Path, *names: str, place: np.ndarray | None = None) -> Case:
    return Case("one", tuple(folder / f"{name}.png" for name in names), (place,) * len(names))


def place() -> np.ndarray:
    """68 points around the middle of a rendered photo, off the middle of the picture."""
    return np.random.default_rng(1).uniform([90, 70], [270, 250], (68, 2))


def crops(folder: Path, method: Any, *names: str) -> torch.Tensor:
    """(N, 3, 32, 32): as in training, around `place`."""
    cut = [image.crop(image.read(folder / f"{n}.png").pixels, method.crop_affine(place()), (32, 32)) for n in names]
    return torch.from_numpy(np.stack(cut)).movedim(-1, 1).float() / 255


@torch.no_grad()
def in_photo(method: Any, said: dict[str, torch.Tensor], focal: float, size: float) -> tuple[np.ndarray, np.ndarray]:
    """Cameras of N photos with the formula of the method itself: R (N, 3, 3) and t (N, 3)."""
    calibration = np.array([[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1]])
    calibration = torch.from_numpy(np.vstack([method.crop_affine(place()), [0, 0, 1]]) @ calibration).float()
    pose = [said[name][None] for name in ("rotation", "translation", "scale")]
    rotation, translation = multiview.in_camera(*pose, calibration.expand(1, len(pose[2][0]), 3, 3), 32)
    return rotation[0].numpy(), translation[0].numpy()


# ── one photo at a time ────────────────────────────────────────────────────────────────────────────────────


def test_a_single_view_network_sees_each_photo_and_its_identities_are_averaged(folder, runs):
    file, method = runs["single"]
    names = ("ahead", "left")
    with torch.no_grad():
        said = method(crops(folder, method, *names))
    measured = systems.load(file).measure(case(folder, *names, place=place()))
    np.testing.assert_allclose(measured["code/identity"], said["identity"], atol=2e-3)
    assert np.abs(np.diff(measured["code/identity"], axis=0)).max() > 0.02  # the photos differ
    np.testing.assert_allclose(measured["identity"], measured["code/identity"].mean(0), atol=1e-9)
    answer = systems.answer(measured)
    model = default()
    np.testing.assert_allclose(answer.neutral, model.vertices(measured["identity"]), atol=1e-3)
    assert answer.faces is model.faces
    assert answer.landmarks.shape == (2, 68, 3)


def test_cameras_are_those_of_the_method_with_the_assumed_focal_length(folder, runs):
    file, method = runs["single"]
    names = ("ahead", "right")
    with torch.no_grad():
        said = method(crops(folder, method, *names))
    rotation, translation = in_photo(method, said, 1.2 * SIDE, SIDE)
    measured = systems.load(file).measure(case(folder, *names, place=place()))
    np.testing.assert_allclose(measured["rotation"], rotation, atol=1e-4)
    np.testing.assert_allclose(measured["translation"], translation, rtol=1e-3, atol=0.05)
    np.testing.assert_allclose(measured["zoom"], 1.2 * SIDE)
    np.testing.assert_allclose(measured["center"], SIDE / 2)
    answer = systems.answer(measured)
    seen = default().vertices(measured["identity"]) @ rotation.swapaxes(1, 2) + translation[:, None]
    flat = 1.2 * SIDE * seen[..., :2] / seen[..., 2:] + SIDE / 2
    np.testing.assert_allclose(answer.vertices[..., :2], flat, atol=0.05)


@pytest.mark.parametrize(
    ("nearest", "focal"), [(networks.NEAREST, np.hypot(WIDE, SIDE) * 200 / np.hypot(36, 24)), (1e6, 1.2 * WIDE)]
)
def test_the_focal_length_of_the_exif_is_taken_unless_the_face_would_touch_the_lens(
    folder, runs, tmp_path, monkeypatch, nearest, focal
):
    monkeypatch.setattr(networks, "NEAREST", nearest)
    wide = np.pad(rendered(3, 0.0), ((0, 0), (0, WIDE - int(SIDE)), (0, 0)), mode="edge")
    (tmp_path / "told.jpg").write_bytes(encoded(wide, "JPEG", focal_35mm=200))
    file, _ = runs["single"]
    measured = systems.load(file).measure(Case("one", (tmp_path / "told.jpg",), (place(),)))
    np.testing.assert_allclose(measured["zoom"], focal, rtol=1e-6)  # by the diagonal of the film
    plain = systems.load(file).measure(case(folder, "ahead", place=place()))
    far = measured["translation"][0, 2] / plain["translation"][0, 2]
    assert far == pytest.approx(measured["zoom"][0] / plain["zoom"][0], rel=0.1)


def test_without_true_landmarks_it_finds_the_face_itself(folder, runs):
    answer = systems.load(runs["single"][0])(case(folder, "ahead"))
    assert answer.landmarks.shape == (1, 68, 3)
    assert answer.neutral is not None


# ── three photos together ──────────────────────────────────────────────────────────────────────────────────


def test_a_merging_network_takes_the_photos_nearest_to_its_views(folder, runs):
    """Frontal, left, right in this order, though the case has them otherwise; the fourth is said to be left out."""
    file, method = runs["concatenate"]
    asked = case(folder, "left", "a little left", "right", "ahead", place=place())
    measured = systems.load(file).measure(asked)
    with torch.no_grad():
        said = method(crops(folder, method, "ahead", "left", "right")[None])
    np.testing.assert_allclose(measured["identity"], said["identity"][0], atol=2e-3)
    assert measured["left_out"][:, :2].tolist() == [["a little left.png", "NotChosen"]]
    assert measured["left_out"][0, 2].startswith("yaw -1")  # −14°
    assert "photos nearest to 0, -45, 45°" in measured["left_out"][0, 2]
    rotation, _ = in_photo(method, {k: v[0] for k, v in said.items() if k not in ("identity", "neutral")}, 384.0, SIDE)
    np.testing.assert_allclose(measured["rotation"], rotation[[1, 2, 0]], atol=1e-4)  # as the case has its photos
    np.testing.assert_allclose(measured["code/identity"], np.tile(measured["identity"], (3, 1)))
    assert systems.answer(measured).landmarks.shape == (3, 68, 3)


def test_the_order_of_the_photos_does_not_matter(folder, runs):
    system = systems.load(runs["concatenate"][0])
    one, other = (system(case(folder, *names)) for names in (("ahead", "left", "right"), ("right", "ahead", "left")))
    np.testing.assert_allclose(one.neutral, other.neutral, atol=1e-4)


@pytest.mark.parametrize(("given", "views"), [(("left",), "left left left"), (("right", "ahead"), "ahead ahead right")])
def test_where_there_are_fewer_photos_the_nearest_serves_again(folder, runs, given, views):
    file, method = runs["concatenate"]
    measured = systems.load(file).measure(case(folder, *given, place=place()))
    with torch.no_grad():
        said = method(crops(folder, method, *views.split())[None])
    np.testing.assert_allclose(measured["identity"], said["identity"][0], atol=2e-3)
    assert len(measured["rotation"]) == len(given)
    assert len(measured["left_out"]) == 0


def test_the_yaw_is_what_the_network_that_ships_says(folder, runs):
    said, _ = networks._crops(load_network(runs["concatenate"][0]), case(folder, *YAWS))
    np.testing.assert_allclose([one.yaw for one in said], np.degrees(list(YAWS.values())), atol=8)


def test_a_photo_without_a_face_is_said_and_no_view(folder, runs):
    measured = systems.load(runs["concatenate"][0]).measure(case(folder, "nobody", "ahead"))
    assert measured["left_out"][:, :2].tolist() == [["nobody.png", "NoFaceFound"]]
    with pytest.raises(NoFaceFound, match=r"no face in nobody\.png"):
        systems.load(runs["concatenate"][0])(case(folder, "nobody"))


def test_the_variant_without_poses_gives_the_mesh_alone(folder, runs):
    file, method = runs["shape"]
    answer = systems.load(file)(case(folder, "ahead", "left", "right", place=place()))
    with torch.no_grad():
        said = method(crops(folder, method, "ahead", "left", "right")[None])
    np.testing.assert_allclose(answer.neutral, said["neutral"][0], atol=0.02)
    assert answer.rotation is None
    assert answer.landmarks is None


def test_the_crops_of_a_merging_network_come_in_threes(runs):
    with pytest.raises(ValueError, match=r"takes \(B, 3, 32, 32, 3\) uint8, but got \(3, 32, 32, 3\)"):
        load_network(runs["concatenate"][0])(np.zeros((3, 32, 32, 3), np.uint8))


def test_a_network_of_another_model_gives_no_mesh_of_ours(folder, runs, monkeypatch):
    monkeypatch.setitem(load_network(runs["single"][0]).description, "morphable", "theirs")
    answer = systems.load(runs["single"][0])(case(folder, "ahead", place=place()))
    assert answer.neutral is None
    assert answer.vertices is None
    assert euler_from_rotation(answer.rotation[0])[1] == pytest.approx(0, abs=np.pi / 2)
    assert answer.codes["identity"].shape == (1, default().n_identity)


def test_several_rotations_for_one_photo_are_refused(tmp_path):
    odd = network(tmp_path / "odd.onnx", {"rotation": np.ones((3, 3, 3))})
    with pytest.raises(AssetMissing, match=r"gives rotation \(1, 3, 3, 3\); expected some of"):
        systems.load(str(odd))


# ── videos ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_video_is_as_many_photos_as_the_case_says(tmp_path, folder, runs):
    """Nobody is in the frames, so each is named with its reason; a folder's photos are taken likewise."""
    video = write_video(tmp_path / "clip.avi", count=9)
    with pytest.raises(NoFaceFound, match=r"no face in clip\.avi frame 0 .*\(and 3 more photos"):
        systems.load(runs["single"][0])(Case("one", (video,), (None,), frames=4))
    measured = systems.load(runs["concatenate"][0]).measure(Case("one", (folder,), (None,), frames=10))
    left = dict(measured["left_out"][:, :2].tolist())
    assert left[f"{folder.name}/nobody.png"] == "NoFaceFound"
    assert len(left) + len(measured["rotation"]) == len(YAWS) + 2
