"""A person in another model: its conventions, its files, one command."""

import json
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from faces import astronaut, encoded, from_far, person, seen_by
from other_models import exact, head, write_flame
from sameface.cli import main
from sameface.cli import people as many
from sameface.core.errors import BadModel
from sameface.morphable import default
from sameface.morphable.flame import load
from sameface.morphable.recast import Recaster
from sameface.reconstruction import in_model as module
from sameface.reconstruction import outputs
from sameface.reconstruction import reconstruct as reconstruction
from sameface.reconstruction.reconstruct import join

NAME = "flame2023_Open"


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return write_flame(tmp_path_factory.mktemp("flame"), head(), modes=80)


@pytest.fixture(scope="module")
def joined(file):
    return exact(load(file), head())


@pytest.fixture(scope="module")
def recaster(joined):
    return Recaster(joined)


@pytest.fixture(scope="module")
def answer():
    seen = [seen_by(from_far(yaw), person(0), name=f"anna{k}.jpg") for k, yaw in enumerate((0.0, 0.4))]
    found = join(seen)
    smile = default().expression_names.index("mouthSmileLeft")
    weights = np.zeros(default().n_expression, np.float32)
    weights[[smile, smile + 1]] = 0.6
    return replace(found, views=(found.views[0], replace(found.views[1], expression=weights)), scale=1.05)


@pytest.fixture(scope="module")
def other(answer, recaster):
    return answer.in_model(recaster)


def test_every_photo_shares_one_identity_and_the_mesh_is_ours_in_its_own_unit(answer, other, joined):
    made, face = head(), default().regions["face"]
    assert other.identity.shape == (100,)
    for view in (None, 0, 1):
        there = other.found.pose.apply(other.vertices(view).astype(np.float64) * 1000)[made.place[face]]
        assert np.linalg.norm(there - answer.vertices(view)[face], axis=1).mean() < 0.6
        assert other.residual(view)[0] < 0.3
        assert other.residual(view)[0] < other.residual(view)[1]
    assert np.abs(other.coefficients(1)["expression"]).max() > 0.5
    assert np.abs(other.coefficients()["expression"]).max() < 1e-4


def test_the_camera_puts_the_other_mesh_where_ours_is_in_the_photo(answer, other):
    made, face = head(), default().regions["face"]
    for view in (0, 1):
        camera = other.camera(view)
        seen = other.vertices(view).astype(np.float64) @ np.array(camera["rotation"]).T + camera["translation"]
        at = camera["focal_px"] * seen[:, :2] / seen[:, 2:] + camera["center"]
        ours = answer.views[view].camera.project(answer.vertices(view).astype(np.float64) / answer.scale)
        assert np.linalg.norm(at[made.place[face]] - ours[face], axis=1).mean() < 1.0


def test_files_hold_the_models_own_vertices(other, tmp_path):
    for name in ("a.obj", "a.glb", "a.npz", "a.json"):
        other.save(tmp_path / name)
    lines = (tmp_path / "a.obj").read_text().splitlines()
    rows = np.array([line.split()[1:] for line in lines if line.startswith("v ")], float)
    np.testing.assert_allclose(rows, other.vertices(), atol=1e-6)
    assert "one unit is 1000 mm" in lines[0]
    held = np.load(tmp_path / "a.npz")
    np.testing.assert_allclose(held["vertices"], other.vertices(), atol=1e-6)
    np.testing.assert_allclose(held["expression"][1], other.coefficients(1)["expression"], atol=1e-6)
    assert held["view_vertices"].shape == (2, *other.vertices().shape)
    told = json.loads((tmp_path / "a.json").read_text())
    assert told["mm_per_unit"] == 1000
    assert [view["photo"] for view in told["views"]] == ["anna0.jpg", "anna1.jpg"]
    assert len(told["neutral"]["identity"]) == 100
    assert len(told["views"][1]["jaw"]) == 3
    assert "identity" not in told["views"][0]
    other.save(tmp_path / "b.obj", view=1)
    assert (tmp_path / "b.obj").read_bytes() != (tmp_path / "a.obj").read_bytes()
    with pytest.raises(ValueError, match=r"\.obj, \.glb, \.npz or \.json"):
        other.save(tmp_path / "a.fbx")


def test_the_glb_has_arkits_shapes_on_the_other_mesh(other, tmp_path):
    content = other.save(tmp_path / "a.glb").read_bytes()
    document = json.loads(content[20 : 20 + struct.unpack_from("<I", content, 12)[0]])
    assert document["meshes"][0]["extras"]["targetNames"] == list(default().expression_names)
    moved, place = other.arkit["jawOpen"], head().place
    ours = default().expression_basis[..., default().expression_names.index("jawOpen")] * other.scale
    chin = default().regions["face"] & (np.linalg.norm(ours, axis=1) > 5)
    there = moved[place[chin]] @ other.found.pose.rotation.T
    assert np.linalg.norm(there - ours[chin], axis=1).mean() < 0.3 * np.linalg.norm(ours[chin], axis=1).mean()


def test_frames_of_a_video_keep_the_identity(other, answer, tmp_path):
    weights = np.stack([answer.views[1].expression, np.full(51, np.nan), np.zeros(51)]).astype(np.float32)
    frames = other.frames(weights)
    np.testing.assert_allclose(frames["expression"][0], other.coefficients(1)["expression"], atol=0.02)
    assert np.isnan(frames["expression"][1]).all()
    np.testing.assert_allclose(frames["expression"][2], 0, atol=1e-4)
    assert frames["jaw"].shape == (3, 3)
    assert "identity" not in frames
    outputs.write_frames(other, tmp_path / "frames.npz", np.arange(3.0), weights)
    written = np.load(tmp_path / "frames.npz")
    assert set(written) == {"seconds", "identity", *frames}
    np.testing.assert_array_equal(written["expression"], frames["expression"])
    nobody = other.frames(np.full((2, 51), np.nan))
    assert np.isnan(nobody["expression"]).all()


def test_deviations_that_a_file_keeps_apart_are_multiplied(answer, joined):
    deviations = np.linspace(1, 9, 12 + 150, dtype=np.float32)
    target = replace(joined.target, extra={"parameters_std": deviations})
    other = answer.in_model(Recaster(replace(joined, target=target)))
    own = other.coefficients(1)
    np.testing.assert_allclose(own["identity"], own["identity_sigma"] * deviations[12:112], rtol=1e-5)
    np.testing.assert_allclose(own["expression"], own["expression_sigma"] * deviations[112:], rtol=1e-5)


# ---- doors ----


def test_reconstruct_answers_in_the_model_that_is_given(file, joined, monkeypatch):
    monkeypatch.setattr(module, "bridge", lambda path: joined)
    answer = reconstruction.reconstruct(astronaut(), model=file)
    assert answer.target.model.name == f"flame-{NAME}"
    assert answer.target.residual()[0] < 1
    assert reconstruction.reconstruct(astronaut()).target is None


def test_a_model_that_is_none_is_refused_before_any_photo_is_read(tmp_path, monkeypatch):
    (tmp_path / "a.pkl").write_bytes(b"<html>login</html>")
    monkeypatch.setattr(reconstruction, "look", lambda *_, **__: pytest.fail("a photo was read"))
    with pytest.raises(BadModel, match="web page"):
        reconstruction.reconstruct(astronaut(), model=tmp_path / "a.pkl")


def test_one_command_writes_the_other_models_files(file, joined, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(many, "bridge", lambda path, progress: joined)
    (tmp_path / f"{NAME}.png").write_bytes(encoded(astronaut()))  # whose own files must have another name
    out = tmp_path / "out"
    asked = ["--out", str(out), "--model", str(file), "--write", "obj", "glb", "npz", "views"]
    with pytest.raises(SystemExit) as ended:
        main(["reconstruct", str(tmp_path / f"{NAME}.png"), *asked])
    assert ended.value.code == 0
    names = {path.name for path in out.iterdir()}
    assert {f"{NAME}.json", f"{NAME}.obj", f"{NAME}.glb", f"{NAME}.npz", f"{NAME}-{NAME}.obj", f"{NAME}-2.obj"} <= names
    assert "mm from ours in the face" in capsys.readouterr().out


@pytest.mark.parametrize(("path", "name"), [("face.npz", "in-face"), ("BFM.mat", "BFM"), ("FaceXModel", "FaceXModel")])
def test_the_files_of_a_model_take_no_name_of_ours(joined, monkeypatch, path, name):
    monkeypatch.setattr(many, "bridge", lambda path, progress: joined)
    assert many.other_model(Path(path), quiet=True).name == name
