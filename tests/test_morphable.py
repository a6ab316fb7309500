"""The linear model, its landmarks and its file."""

import contextlib
import json
import tracemalloc
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sameface import morphable
from sameface.core.errors import BadModel


def test_vertices_against_a_loop(tiny_model):
    rng = np.random.default_rng(0)
    identity, expression = rng.normal(size=tiny_model.n_identity), rng.uniform(size=tiny_model.n_expression)
    slow = tiny_model.mean.astype(np.float64)
    for vertex in range(tiny_model.n_vertices):
        for axis in range(3):
            for mode in range(tiny_model.n_identity):
                slow[vertex, axis] += tiny_model.identity_basis[vertex, axis, mode] * identity[mode]
            for mode in range(tiny_model.n_expression):
                slow[vertex, axis] += tiny_model.expression_basis[vertex, axis, mode] * expression[mode]
    found = tiny_model.vertices(identity, expression)
    np.testing.assert_allclose(found, slow, atol=1e-4)
    assert found.dtype == np.float32


@given(seed=st.integers(0, 2**32 - 1))
def test_vertices_are_linear_in_the_coefficients(tiny_model, seed):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(2, tiny_model.n_identity))
    moved = tiny_model.vertices(a) + tiny_model.vertices(b) - tiny_model.mean
    np.testing.assert_allclose(tiny_model.vertices(a + b), moved, atol=1e-3)


def test_a_batch_is_its_members(tiny_model):
    rng = np.random.default_rng(0)
    identity, expression = rng.normal(size=(2, 3, 6)), rng.uniform(size=(2, 3, 4))
    many = tiny_model.vertices(identity, expression)
    assert many.shape == (2, 3, 56, 3)
    np.testing.assert_allclose(many[1, 2], tiny_model.vertices(identity[1, 2], expression[1, 2]), atol=1e-4)
    np.testing.assert_allclose(tiny_model.landmarks(many)[1, 2], tiny_model.landmarks(many[1, 2]), atol=1e-4)


def test_landmarks_against_a_loop(tiny_model):
    found = tiny_model.landmarks(tiny_model.mean)
    for point in range(68):
        corners = tiny_model.faces[tiny_model.landmark_faces[point]]
        slow = sum(tiny_model.landmark_weights[point, k] * tiny_model.mean[corners[k]] for k in range(3))
        np.testing.assert_allclose(found[point], slow, atol=1e-4)


def test_the_contour_changes_the_jaw_only(tiny_model):
    plain = tiny_model.landmarks(tiny_model.mean)
    contour = tiny_model.landmarks(tiny_model.mean, contour=True)
    np.testing.assert_array_equal(plain[17:], contour[17:])
    corners = tiny_model.faces[tiny_model.contour_faces[3]]
    np.testing.assert_allclose(contour[3], tiny_model.contour_weights[3] @ tiny_model.mean[corners], atol=1e-4)


def test_a_model_without_contour_says_so(tiny_model):
    without = replace(tiny_model, contour_faces=None)
    with pytest.raises(ValueError, match="tiny has no contour variant"):
        without.landmarks(without.mean, contour=True)


def test_wrong_numbers_of_coefficients_are_named(tiny_model):
    with pytest.raises(ValueError, match=r"tiny has 6 identity coefficients, but \(5,\) was given"):
        tiny_model.vertices(np.zeros(5))
    with pytest.raises(ValueError, match=r"tiny has 4 expressions, but \(9,\) was given"):
        tiny_model.vertices(np.zeros(6), np.zeros(9))


def test_a_saved_model_comes_back(tiny_model, tmp_path):
    full = replace(
        tiny_model, albedo_mean=np.full((56, 3), 0.5, np.float32), albedo_basis=np.ones((56, 3, 2), np.float32)
    )
    full.save(tmp_path / "model")  # the name is kept as it is
    again = morphable.load(tmp_path / "model")
    for name in ("name", "licence", "expression_names", "expression_range"):
        assert getattr(again, name) == getattr(full, name)
    for name in (
        "mean",
        "faces",
        "landmark_faces",
        "landmark_weights",
        "contour_faces",
        "contour_weights",
        "mirror",
        "uv",
    ):
        np.testing.assert_array_equal(getattr(again, name), getattr(full, name))
        assert getattr(again, name).dtype == getattr(full, name).dtype
    for name in ("identity_basis", "expression_basis", "albedo_basis"):
        np.testing.assert_allclose(getattr(again, name), getattr(full, name), rtol=1e-3, atol=1e-5)
        assert getattr(again, name).dtype == np.float32
    np.testing.assert_array_equal(again.regions["face"], full.regions["face"])
    np.testing.assert_array_equal(again.extra["middle"], full.extra["middle"])


def test_what_a_model_lacks_stays_away(tiny_model, tmp_path):
    replace(tiny_model, uv=None, mirror=None).save(tmp_path / "model.npz")
    again = morphable.load(tmp_path / "model.npz")
    assert again.uv is None
    assert again.mirror is None
    assert again.albedo_mean is None


def test_saving_twice_gives_the_same_arrays(tiny_model, tmp_path):
    tiny_model.save(tmp_path / "first.npz")
    morphable.load(tmp_path / "first.npz").save(tmp_path / "second.npz")
    with np.load(tmp_path / "first.npz") as first, np.load(tmp_path / "second.npz") as second:
        assert sorted(first.files) == sorted(second.files)
        for key in first.files:
            np.testing.assert_array_equal(first[key], second[key])


def test_files_that_are_no_models_are_refused(tmp_path):
    text = tmp_path / "text.npz"
    text.write_text("not a zip file")
    with pytest.raises(BadModel, match=r"text\.npz is no \.npz of plain arrays"):
        morphable.load(text)
    np.savez(tmp_path / "other.npz", mean=np.zeros(3))
    with pytest.raises(BadModel, match=r"other\.npz is not a sameface model file .*sameface model convert"):
        morphable.load(tmp_path / "other.npz")
    header = json.dumps({"format": "sameface-morphable", "version": 99}).encode()
    np.savez(tmp_path / "later.npz", header=np.frombuffer(header, np.uint8))
    with pytest.raises(BadModel, match="not a sameface model of version 1"):
        morphable.load(tmp_path / "later.npz")


def test_truncated_files_are_refused(tiny_model, tmp_path):
    path = tmp_path / "model.npz"
    tiny_model.save(path)
    content = path.read_bytes()
    for keep in (0, 10, len(content) // 2, len(content) - 10, *range(100, len(content), 997)):
        path.write_bytes(content[:keep])
        with pytest.raises(BadModel):
            morphable.load(path)


def test_damaged_files_are_refused_or_read(tiny_model, tmp_path):
    path = tmp_path / "model.npz"
    tiny_model.save(path)
    content = path.read_bytes()
    for at in range(0, len(content), 17):
        path.write_bytes(content[:at] + bytes([content[at] ^ 0x55]) + content[at + 1 :])
        with contextlib.suppress(BadModel):
            morphable.load(path)


def test_files_without_their_arrays_are_refused(tiny_model, tmp_path):
    tiny_model.save(tmp_path / "model.npz")
    with np.load(tmp_path / "model.npz") as file:
        arrays = {key: file[key] for key in file.files}
    arrays.pop("faces")
    np.savez(tmp_path / "model.npz", **arrays)
    with pytest.raises(BadModel, match="not a whole sameface model: faces missing or unknown"):
        morphable.load(tmp_path / "model.npz")
    np.savez(tmp_path / "model.npz", **arrays, **{"faces": tiny_model.faces, "nose/length": np.zeros(1)})
    with pytest.raises(BadModel, match="nose missing or unknown"):
        morphable.load(tmp_path / "model.npz")


def test_pickles_in_a_file_are_not_run(tiny_model, tmp_path):
    tiny_model.save(tmp_path / "model.npz")
    with np.load(tmp_path / "model.npz") as file:
        arrays = {key: file[key] for key in file.files}
    np.savez(tmp_path / "model.npz", **arrays | {"mean": np.array([print], object)})
    with pytest.raises(BadModel):
        morphable.load(tmp_path / "model.npz")


def test_monstrous_files_are_refused_unread(tiny_model, tmp_path, monkeypatch):
    tiny_model.save(tmp_path / "model.npz")
    monkeypatch.setattr(morphable, "LARGEST_FILE", 100)
    with pytest.raises(BadModel, match="MB are read at most"):
        morphable.load(tmp_path / "model.npz")


BROKEN = {
    "mean": (np.full((56, 3), np.nan, np.float32), "mean holds numbers that are not finite"),
    "identity_basis": (np.zeros((6, 56, 2), np.float16), r"identity_basis is no array of numbers of shape .56, 3, any"),
    "expression_basis": (np.zeros((9, 56, 3), np.float16), r"expression_basis is no array .* \(56, 3, 4\)"),
    "faces": (np.full((2, 3), 56, np.int32), "faces goes from 56 to 56, but counts 56 from 0"),
    "landmark_faces": (np.full(68, -1, np.int32), "landmark_faces goes from -1"),
    "landmark_weights": (np.zeros((67, 3), np.float32), r"landmark_weights is no array of numbers of shape \(68, 3\)"),
    "mirror": (np.zeros(56, np.float32), "mirror is no array of whole numbers"),
    "uv": (np.array("no array"), "uv is no array"),
    "regions/face": (np.ones(3, bool), "region face does not say yes or no for each of 56"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_model_whose_arrays_do_not_fit_is_not_read(tiny_model, tmp_path, name):
    tiny_model.save(tmp_path / "model.npz")
    with np.load(tmp_path / "model.npz") as file:
        arrays = {key: file[key] for key in file.files}
    assert name in arrays
    np.savez(tmp_path / "model.npz", **arrays | {name: BROKEN[name][0]})
    with pytest.raises(BadModel, match=f"model.npz is not a sound model: {BROKEN[name][1]}"):
        morphable.load(tmp_path / "model.npz")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("expression_names", ["a", 3, "c", "d"], "expression_names are not all texts"),
        ("expression_names", "abcd", "expression_names are no list"),
        ("expression_range", [0, "1"], "expression_range is .0, '1'., not two numbers"),
        ("licence", None, "licence and expression_names are not all texts"),
    ],
)
def test_a_model_whose_header_does_not_fit_is_not_read(tiny_model, tmp_path, field, value, message):
    tiny_model.save(tmp_path / "model.npz")
    with np.load(tmp_path / "model.npz") as file:
        arrays = {key: file[key] for key in file.files}
    header = json.loads(arrays["header"].tobytes()) | {field: value}
    np.savez(tmp_path / "model.npz", **arrays | {"header": np.frombuffer(json.dumps(header).encode(), np.uint8)})
    with pytest.raises(BadModel, match=message):
        morphable.load(tmp_path / "model.npz")


def test_a_model_that_could_not_be_read_again_is_not_written(tiny_model, tmp_path):
    with pytest.raises(BadModel, match=r"model.npz is not written: faces goes from 56 to 56"):
        replace(tiny_model, faces=np.full((84, 3), 56, np.int32)).save(tmp_path / "model.npz")
    assert list(tmp_path.iterdir()) == []


def test_modes_that_float16_cannot_hold_are_not_written(tiny_model, tmp_path):
    with pytest.raises(BadModel, match=r"identity_basis holds numbers up to 1e\+06; at most 65504 can be stored"):
        replace(tiny_model, identity_basis=np.full((56, 3, 6), 1e6, np.float32)).save(tmp_path / "model.npz")


def test_a_file_that_claims_more_than_it_can_hold_takes_no_memory(tmp_path):
    with zipfile.ZipFile(tmp_path / "model.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mean.npy", bytes(300_000_000))
    assert (tmp_path / "model.npz").stat().st_size < 400_000
    tracemalloc.start()
    with pytest.raises(BadModel, match=r"it unpacks to 300 MB, but \d+ MB are read at most"):
        morphable.load(tmp_path / "model.npz")
    assert tracemalloc.get_traced_memory()[1] < 2_000_000
    tracemalloc.stop()


def test_the_model_that_ships_is_read_once():
    assert morphable.default() is morphable.default()
    assert morphable.default().name == "sameface-ict"
