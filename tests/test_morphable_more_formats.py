"""The layouts that people pass on are read as what they are; what is no model file is called what it is."""

import pickle
import shutil
import struct
import zlib

import numpy as np
import pytest

from more_morphable_files import (
    MORE_WRITERS,
    python2_lines,
    static_embedding,
    write_face3d,
    write_flame_150,
    write_flame_npz,
    write_gnm_web,
    write_ict,
)
from morphable_files import python2_pickle, small_face, write_flame, write_gnm
from sameface.core.errors import BadModel
from sameface.morphable import flame, formats
from sameface.morphable.pickles import read_npy, read_pickle
from test_morphable_formats import outward_faces

MM_PER_UNIT = {"deep3d": 100, "tddfa V3": 100, "face3d": 0.001, "bfm2009 .h5": 1, "ict as published": 10}


@pytest.fixture(scope="module")
def ict_model(tmp_path_factory):
    return write_ict(tmp_path_factory.mktemp("ict"))


@pytest.mark.parametrize("name", MORE_WRITERS)
def test_a_reader_returns_what_was_written_and_is_found_by_content(tmp_path, name, ict_model):
    written = ict_model if name == "ict as published" else MORE_WRITERS[name](tmp_path)
    model = formats.open_model(written.path)
    assert model.unit == MM_PER_UNIT.get(name, 1000)
    used = np.unique(written.faces)
    np.testing.assert_allclose(model.mean[used], written.mean[used], atol=1e-3)
    np.testing.assert_allclose(model.identity_basis, written.identity, rtol=1e-4, atol=2e-4)
    np.testing.assert_allclose(model.expression_basis, written.expression, rtol=1e-4, atol=2e-4)
    np.testing.assert_allclose(model.landmarks(model.mean), written.landmarks, atol=1e-3)
    assert outward_faces(model.faces) == outward_faces(written.faces)


@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
def test_a_python_2_pickle_of_lines_gives_its_arrays_back(tmp_path, newline):
    truth = static_embedding(small_face())
    (tmp_path / "a.pkl").write_bytes(python2_lines(truth).replace(b"\n", newline))
    assert any(byte > 0x7F for byte in truth["lmk_b_coords"].tobytes())
    found = read_pickle(tmp_path / "a.pkl")
    for name, array in truth.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize("end", [1, 40, 200, -1])
def test_a_pickle_of_lines_that_is_cut_is_refused(tmp_path, end):
    (tmp_path / "a.pkl").write_bytes(python2_lines(static_embedding(small_face()))[:end])
    with pytest.raises(BadModel, match="is not a pickle, or is cut short"):
        read_pickle(tmp_path / "a.pkl")


def test_a_program_in_a_pickle_of_lines_is_refused_by_name(tmp_path):
    (tmp_path / "a.pkl").write_bytes(b"cos\nsystem\n(S'true'\ntR.".replace(b"\n", b"\r\n"))
    with pytest.raises(BadModel, match=r"asks for os\.system"):
        read_pickle(tmp_path / "a.pkl")


POSING = {
    "a web page": b"\n<!DOCTYPE html><html><body>Sign in</body></html>",
    "a pointer of git-lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 4416\n",
    "an empty file": b"",
}


@pytest.mark.parametrize(("what", "content"), POSING.items())
def test_what_came_in_the_place_of_a_model_or_its_landmarks_is_named(tmp_path, what, content):
    (tmp_path / "BFM.mat").write_bytes(content)
    with pytest.raises(BadModel, match=what):
        formats.open_model(tmp_path / "BFM.mat")
    written = write_flame(tmp_path)
    (tmp_path / "landmark_embedding.npy").write_bytes(content)
    with pytest.raises(BadModel, match=what):
        written.load()
    with pytest.raises(BadModel, match=what):
        read_npy(tmp_path / "landmark_embedding.npy")


def test_a_download_that_was_cut_is_named(tmp_path):
    path = write_gnm(tmp_path).path
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(BadModel, match="cut short"):
        formats.open_model(path)


def test_a_file_of_ict_that_is_cut_or_missing_is_named(tmp_path, ict_model):
    shutil.copytree(ict_model.path, tmp_path, dirs_exist_ok=True)
    mesh = tmp_path / "FaceXModel" / "identity000.obj"
    mesh.write_bytes(mesh.read_bytes()[:5000])
    with pytest.raises(BadModel, match=r"identity000\.obj has \d+ vertices.*cut short"):
        formats.open_model(tmp_path)
    mesh.write_bytes(POSING["a pointer of git-lfs"])
    with pytest.raises(BadModel, match=r"identity000\.obj is a pointer of git-lfs"):
        formats.open_model(tmp_path / "FaceXModel")


def test_a_matlab_structure_that_unpacks_to_too_much_is_refused_before(tmp_path, monkeypatch):
    from sameface.morphable import _matlab

    path = write_face3d(tmp_path).path
    monkeypatch.setattr(_matlab, "LARGEST_FILE", 20_000)
    monkeypatch.setattr("scipy.io.loadmat", lambda *_: pytest.fail("it was read"))
    with pytest.raises(BadModel, match="claim"):
        formats.open_model(path)


def test_elements_of_matlab_files_are_counted_packed_or_not(tmp_path):
    from sameface.morphable._matlab import _unpacked

    packed = zlib.compress(bytes(50_000))
    elements = struct.pack("<II", 15, len(packed)) + packed + struct.pack("<II", 14, 16) + bytes(16)
    (tmp_path / "a.mat").write_bytes(b"MATLAB 5.0".ljust(124) + b"\x00\x01IM" + elements)
    with (tmp_path / "a.mat").open("rb") as file:
        assert _unpacked(file, 10**9) == 50_016
        assert _unpacked(file, 1000) > 1000


def test_flame_as_npz_keeps_scipys_regressor_and_mediapipes_points(tmp_path):
    model = write_flame_npz(tmp_path).load()
    assert model.extra["J_regressor"].shape == (5, model.n_vertices)
    assert model.extra["mediapipe_ids"].tolist() == [100, 101, 102, 103, 104]


def test_an_npz_with_a_program_in_it_is_refused_by_name(tmp_path):
    write_flame_npz(tmp_path)
    import os

    boxed = np.empty((), object)
    boxed[()] = {"a": os.getcwd}
    np.savez(tmp_path / "bad.npz", shapedirs=boxed, v_template=np.ones((3, 3)), f=np.zeros((1, 3), int))
    with pytest.raises(BadModel, match="getcwd"):
        formats.open_model(tmp_path / "bad.npz")


def test_flame_with_another_number_of_modes_asks_how_many_are_of_identity(tmp_path):
    path = write_flame_150(tmp_path).path
    found = read_pickle(path)
    found["shapedirs"] = found["shapedirs"][..., :80]
    path.write_bytes(pickle.dumps(found))
    with pytest.raises(BadModel, match="identity_modes"):
        flame.load(path)
    assert flame.load(path, identity_modes=50).n_expression == 30


def test_flame_without_numbers_in_it_is_refused(tmp_path):
    path = write_flame(tmp_path).path
    path.write_bytes(python2_pickle({"v_template": "none", "shapedirs": "none", "f": "none"}))
    with pytest.raises(BadModel, match="v_template is no array of numbers"):
        flame.load(path)


@pytest.mark.parametrize("change", [(b'"version"', b"x"), (b'"offset": 0', b'"offset": 9999999'), (b"int8", b"int9")])
def test_a_web_container_that_lies_is_refused(tmp_path, change):
    path = write_gnm_web(tmp_path).path
    content = path.read_bytes()
    old, new = change
    path.write_bytes(content.replace(old, new.ljust(len(old))[: len(old)]) if old in content else content[:200])
    with pytest.raises(BadModel, match="no whole web container"):
        formats.open_model(path)
