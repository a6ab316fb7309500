"""The answer and its files: what is in them, that they can be read back, and that none is ever half written."""

import errno
import json
import re
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from faces import from_far, from_near, person, seen_by, two_photos
from sameface.core.errors import BadOutput
from sameface.core.geometry import euler_from_rotation
from sameface.mesh import write
from sameface.reconstruction.reconstruct import join
from sameface.reconstruction.result import RESULT_VERSION, Reconstruction

PAGE = (Path(__file__).parent.parent / "docs" / "result.md").read_text()
PROBLEMS = (("c.jpg", "NoFaceFound", "no face in c.jpg"),)


@pytest.fixture(scope="module")
def answer() -> Reconstruction:
    """The scale is known."""
    return join(two_photos(), ipd=70.0, problems=PROBLEMS)


@pytest.fixture(scope="module")
def alone() -> Reconstruction:
    return join([seen_by(from_far(), person(0), name="a.jpg")])


def strictly(text: str) -> dict:
    """JSON as the standard has it: without NaN and Infinity."""

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


def keys_of_table(page: str, heading: str) -> set[str]:
    """The names in backticks in the first column of the first table after a heading."""
    table = re.split(r"\n\n(?=\|)", page.split(heading, 1)[1], maxsplit=1)[1].split("\n\n")[0]
    return {key for row in table.splitlines()[2:] for key in re.findall(r"`(\w+)`", row.split("|")[1])}


# ── result.json ────────────────────────────────────────────────────────────────────────────────────────────


def test_result_json_holds_what_its_page_explains(answer, alone, tmp_path):
    for one in (answer, alone):
        result = strictly(one.save(tmp_path / "result.json").read_text())
        assert set(result) == keys_of_table(PAGE, "## result.json")
        for view in result["views"]:
            assert set(view) == keys_of_table(PAGE, "\nEach view:")
            assert set(view["camera"]) - {"kind"} == keys_of_table(PAGE, "The camera's `kind` is")
        assert (result["format"], result["version"]) == ("sameface-result", RESULT_VERSION)


def test_result_json_says_what_the_answer_says(answer):
    result = strictly(json.dumps(answer.as_json()))
    np.testing.assert_allclose(result["identity"], answer.identity, atol=1e-5)
    assert result["scale"] == {"factor": round(answer.scale, 6), "from": "pupil distance 70 mm"}
    assert result["dropped"] == [{"photo": "c.jpg", "problem": "NoFaceFound", "message": "no face in c.jpg"}]
    near, far = result["views"]
    assert (near["photo"], near["size"], far["size"]) == ("a.jpg", [640, 480], [800, 600])
    assert near["camera"]["kind"] == "perspective"
    assert near["camera"]["focal_px"] == 700
    assert far["camera"]["kind"] == "perspective"
    assert (near["camera"]["focal_from"], far["camera"]["focal_from"]) == ("given", "estimated")
    true = np.degrees(euler_from_rotation(from_near(0.3).pose))  # against the line of sight: 3° aside of the axis
    np.testing.assert_allclose([near["head_pose_degrees"][name] for name in ("pitch", "yaw", "roll")], true, atol=3)
    assert all(0 < weight <= 1 for weight in far["expression"].values())
    assert np.shape(near["landmarks"]) == (68, 2)


def test_one_photo_disagrees_with_nothing(alone):
    result = strictly(json.dumps(alone.as_json()))
    assert result["disagreement_mm"] is None
    assert result["views"][0]["disagreement_mm"] is None


def test_a_number_that_is_not_finite_is_never_written(alone, tmp_path):
    broken = replace(alone, identity=np.full_like(alone.identity, np.nan))
    with pytest.raises(ValueError, match="JSON compliant"):
        broken.save(tmp_path / "result.json")
    assert list(tmp_path.iterdir()) == []


# ── the other files ────────────────────────────────────────────────────────────────────────────────────────


def test_the_scale_is_in_every_mesh(answer):
    bare = replace(answer, scale=1.0)
    np.testing.assert_allclose(answer.vertices(), answer.scale * bare.vertices(), rtol=1e-5)
    np.testing.assert_allclose(answer.vertices(1), answer.scale * bare.vertices(1), rtol=1e-5)
    assert not np.allclose(answer.vertices(), answer.vertices(1), atol=0.1)


def test_npz_holds_the_arrays(answer, tmp_path):
    with np.load(answer.save(tmp_path / "face.npz")) as arrays:
        assert set(arrays) == set(re.findall(r"`(\w+)`", PAGE.split("The keys of `face.npz`")[1]))
        np.testing.assert_array_equal(arrays["vertices"], answer.vertices())
        assert arrays["photos"].tolist() == ["a.jpg", "b.jpg"]
        assert arrays["landmarks"].shape == (2, 68, 2)


def test_meshes_have_the_vertices_of_the_view_asked_for(answer, tmp_path):
    for view in (None, 1):
        lines = answer.save(tmp_path / "a.obj", view=view).read_text().splitlines()
        rows = [[float(x) for x in line.split()[1:]] for line in lines if line.startswith("v ")]
        np.testing.assert_allclose(rows, answer.vertices(view, head=True), atol=1e-3)
        first = answer.vertices(view, head=True)[: answer.model.n_vertices]
        np.testing.assert_allclose(first, answer.vertices(view), atol=1e-4)
    ply = answer.save(tmp_path / "a.PLY").read_bytes()
    assert f"element vertex {answer.head.n_vertices}".encode() in ply[:400]


def test_glb_carries_the_blendshapes_by_name(answer, tmp_path):
    content = answer.save(tmp_path / "face.glb").read_bytes()
    length = int.from_bytes(content[12:16], "little")
    document = json.loads(content[20 : 20 + length])
    assert document["meshes"][0]["extras"]["targetNames"] == list(answer.model.expression_names)


def test_an_overlay_is_a_picture_of_the_head(answer):
    for k, view in enumerate(answer.views):
        assert view.focal_from == ("given" if k == 0 else "estimated")
        picture = answer.overlay(k)
        assert picture.dtype == np.uint8
        assert cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).std() > 1  # a face was drawn on the plain picture


@pytest.mark.parametrize("name", ["face.fbx", "face", "face.tar.gz", ".obj"])
def test_an_unknown_suffix_names_those_that_are_known(alone, tmp_path, name):
    with pytest.raises(ValueError, match=r"is saved as \.obj, \.ply, \.stl, \.glb, \.npz, \.json, \.html, not"):
        alone.save(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", ["obj", "ply", "npz", "json"])
def test_what_cannot_be_written_says_so_and_leaves_nothing(alone, tmp_path, monkeypatch, suffix):
    (tmp_path / "taken").write_text("a file")
    for folder in (tmp_path / "missing", tmp_path / "taken"):
        first = "png" if suffix == "obj" else suffix  # a mesh that refers to a skin comes after it
        with pytest.raises(BadOutput, match=rf"x.{first} cannot be written .*: choose a"):
            alone.save(folder / f"x.{suffix}")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(write.os, "replace", full)
    with pytest.raises(BadOutput, match="No space left on device"):
        alone.save(tmp_path / f"x.{suffix}")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]
