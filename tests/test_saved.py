"""Answers read again: the numbers are those that were saved, and what is odd in a file is named."""

import json
import os
import pickle
import shutil
from dataclasses import replace

import numpy as np
import pytest

from faces import two_photos
from sameface.core.errors import BadData, BadModel
from sameface.morphable import MorphableModel, default
from sameface.reconstruction.outputs import write_person
from sameface.reconstruction.reconstruct import join
from sameface.reconstruction.result import Reconstruction


@pytest.fixture(scope="module")
def answer() -> Reconstruction:
    return join(two_photos(), ipd=70.0, problems=(("c.jpg", "NoFaceFound", "no face in c.jpg"),))


@pytest.fixture(scope="module")
def saved(answer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    write_person(answer, folder, ["obj", "npz", "glb"])
    return folder


@pytest.fixture
def copy(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "copy")


def alike(told, again):
    """JSON but for the last digit: cameras are kept rounded, and head poses come of them."""
    if isinstance(told, dict):
        assert told.keys() == again.keys()
        for key in told:
            alike(told[key], again[key])
    elif isinstance(told, list):
        assert len(told) == len(again)
        for one, other in zip(told, again, strict=True):
            alike(one, other)
    elif isinstance(told, float):
        assert again == pytest.approx(told, abs=0.0101)
    else:
        assert again == told


@pytest.mark.parametrize("name", ["result.json", "face.npz", "."])
def test_what_was_saved_is_loaded(answer, saved, name):
    again = Reconstruction.load(saved / name)
    alike(json.loads((saved / "result.json").read_text()), again.as_json())
    exact = 5e-3 if name == "result.json" else 1e-5  # mm; the JSON rounds weights to 1e-4, and a jaw opens 42 mm
    for view in (None, 0, 1):
        np.testing.assert_allclose(again.vertices(view), answer.vertices(view), atol=exact, rtol=0)
    for one, other in zip(again.views, answer.views, strict=True):
        np.testing.assert_allclose(one.camera.project(answer.vertices().astype(float)),
                                   other.camera.project(answer.vertices().astype(float)), atol=0.05)  # fmt: skip
        assert one.focal_from == other.focal_from
    if name != "result.json":
        np.testing.assert_array_equal(again.views[1].identity_alone, answer.views[1].identity_alone)
    np.testing.assert_array_equal(again.texture, answer.texture)  # from neutral.png


def test_what_was_loaded_saves_the_same_again(saved, tmp_path):
    again = Reconstruction.load(saved)
    for name in ("neutral.obj", "neutral.png", "face.glb"):
        again.save(tmp_path / "neutral.obj" if name == "neutral.png" else tmp_path / name)
        assert (tmp_path / name).read_bytes() == (saved / name).read_bytes()


def test_without_its_photos_a_result_is_a_shape(copy):
    (copy / "neutral.png").unlink()
    again = Reconstruction.load(copy)
    assert again.skin is None
    assert b"baseColorTexture" not in again.save(copy / "clay.glb").read_bytes()
    for made in (lambda: again.texture, again.overlay, lambda: again.save(copy / "a.html")):
        with pytest.raises(ValueError, match="a loaded result does not hold: reconstruct"):
            made()
    assert not (copy / "a.html").exists()


def test_other_runs_other_models_and_odd_files_are_named(answer, copy, tmp_path):
    told = json.loads((copy / "result.json").read_text())

    def load(**change):
        (tmp_path / "odd.json").write_text(json.dumps({**told, **change}))
        return Reconstruction.load(tmp_path / "odd.json")

    assert load(notes=["a note"]).notes == ("a note",)
    for change, message in (
        ({"version": 99}, r"is no result\.json \(version"),
        ({"model": "theirs"}, "belongs to the model 'theirs', not to"),
        ({"identity": [1.0]}, "something missing or odd"),
        ({"identity": [float("nan")] * 80}, "something missing or odd"),
        ({"views": []}, "has no photos"),
        ({"views": [{**told["views"][0], "expression": {"grin": 1.0}}]}, "something missing or odd"),
        ({"views": [{**told["views"][0], "camera": None}]}, "something missing or odd"),
        ({"scale": {"factor": -1, "from": ""}}, "scale that is not positive"),
    ):
        with pytest.raises(BadData, match=message):
            load(**change)
    (copy / "result.json").write_text(json.dumps({**told, "notes": ["of another run"]}))
    with pytest.raises(BadData, match="are of different runs"):
        Reconstruction.load(copy)
    (copy / "face.npz").write_bytes(b"PK")
    with pytest.raises(BadData, match=r"face\.npz is no \.npz of plain arrays"):
        Reconstruction.load(copy / "face.npz")
    (copy / "neutral.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(8) + 2 * (1 << 20).to_bytes(4, "big"))
    with pytest.raises(BadData, match=r"neutral\.png is no picture of a skin"):
        Reconstruction.load(copy / "result.json")
    np.savez(copy / "face.npz", identity=np.zeros(3))
    with pytest.raises(BadData, match=r"face\.npz is no face\.npz"):
        Reconstruction.load(copy / "face.npz")
    for name, why in (
        ("nowhere.json", "there is no file"),
        ("\0", "cannot be read"),
        ("/dev/zero", "is not an ordinary"),
    ):
        with pytest.raises(BadData, match=why):
            Reconstruction.load(tmp_path / name)
    if hasattr(os, "mkfifo"):
        for name in ("face.npz", "result.json"):  # nobody writes: opening it would wait for ever
            os.mkfifo(tmp_path / name)
            with pytest.raises(BadData, match=f"{name} is not an ordinary file"):
                Reconstruction.load(tmp_path / name)


def test_a_pickle_names_the_model_that_ships(answer, monkeypatch):
    light = pickle.dumps(answer)
    pictures = sum(view.seen.picture.nbytes for view in answer.views)
    assert len(light) < pictures + answer.texture.nbytes + 100_000
    again = pickle.loads(light)
    assert again.model is default()
    np.testing.assert_array_equal(again.vertices(1), answer.vertices(1))
    other = pickle.loads(pickle.dumps(replace(default(), name="mine")))
    assert isinstance(other, MorphableModel)
    np.testing.assert_array_equal(other.mean, default().mean)
    monkeypatch.setattr("sameface.morphable._digest", lambda: "of another version")
    with pytest.raises(BadModel, match="pickled with another version"):
        pickle.loads(light)


def test_notebooks_show_the_face_and_the_numbers(answer):
    page = replace(answer, notes=("<b>",))._repr_html_()
    assert page.startswith('<img width="210"')
    assert "pupil distance 70 mm" in page
    assert "<p>&lt;b&gt;</p>" in page
    assert page.count("<tr>") == page.count("</tr>") == 5
