"""Pickled models are read; pickled programs are not run."""

import builtins
import contextlib
import os
import pickle
import struct
import tempfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from scipy import sparse

from morphable_files import Python2, object_npy, python2_pickle
from sameface.core.errors import BadModel
from sameface.morphable import pickles
from sameface.morphable.pickles import Unread, read_npy, read_pickle

ARRAYS = npst.arrays(
    dtype=st.sampled_from(["f4", "<f8", ">f4", "i4", "u1", "i8", "?", "S3", "U2"]),
    shape=npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
)
PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
VALUES = st.recursive(
    PLAIN | ARRAYS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner), max_leaves=6
)


def read(data: bytes):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.pkl"
        path.write_bytes(data)
        return read_pickle(path)


def same(a, b) -> bool:
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


@given(value=VALUES, protocol=st.integers(0, pickle.HIGHEST_PROTOCOL))
def test_arrays_and_containers_come_back_as_they_were(value, protocol):
    assert same(read(pickle.dumps(value, protocol)), value)


@given(array=npst.arrays("f8", (3, 4)), protocol=st.integers(0, 5))
def test_arrays_stored_column_by_column_keep_their_places(array, protocol):
    np.testing.assert_array_equal(read(pickle.dumps(np.asfortranarray(array), protocol)), array)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_numbers_sets_and_ordered_dicts(protocol):
    value = {"n": np.float32(2.5), "s": {1, 2}, "o": OrderedDict(a=1, b=np.arange(2))}
    out = read(pickle.dumps(value, protocol))
    assert out["n"] == 2.5
    assert out["s"] == {1, 2}
    assert list(out["o"]) == ["a", "b"]
    np.testing.assert_array_equal(out["o"]["b"], [0, 1])


def test_arrays_of_objects_and_shared_objects():
    shared = np.arange(3.0)
    boxed = np.empty(2, object)
    boxed[:] = [shared, {"again": shared}]
    out = read(pickle.dumps(boxed))
    assert out[0] is out[1]["again"]
    np.testing.assert_array_equal(out[0], shared)


@pytest.mark.parametrize("make", [sparse.csc_matrix, sparse.csr_matrix, sparse.coo_matrix, sparse.csc_array])
def test_scipy_matrices_become_dense(make):
    dense = np.array([[0, 2.0, 0], [1.5, 0, 0]])
    np.testing.assert_array_equal(read(pickle.dumps(make(dense))), dense)


def test_repeated_entries_of_a_sparse_matrix_add_up():
    repeated = sparse.coo_matrix(([1.0, 2.0], ([0, 0], [1, 1])), shape=(2, 2))
    np.testing.assert_array_equal(read(pickle.dumps(repeated)), [[0, 3], [0, 0]])
    repeated = sparse.csr_matrix((np.array([1.0, 2.0]), np.array([1, 1]), np.array([0, 2, 2])), shape=(2, 2))
    np.testing.assert_array_equal(read(pickle.dumps(repeated)), [[0, 3], [0, 0]])


def test_python_2_texts_are_arrays_bytes():
    array = np.arange(256, dtype=np.float64).reshape(16, 16)
    np.testing.assert_array_equal(read(python2_pickle({"a": array}))["a"], array)


def test_chumpy_arrays_are_their_numbers_without_chumpy():
    value = Python2("chumpy.ch\nCh", {"x": np.eye(2), "_dirty_vars": ["x"], "_itr": None})
    np.testing.assert_array_equal(read(python2_pickle(value)), np.eye(2))


def test_objects_that_python_2_rebuilt_from_their_base_class():
    empty = b"\x80\x02ccopy_reg\n_reconstructor\n(cchumpy.ch\nCh\nc__builtin__\nobject\nNtR"
    state = python2_pickle({"x": np.ones(2)})[2:-1]
    np.testing.assert_array_equal(read(empty + state + b"b."), [1, 1])


def test_torch_tensors_are_left_unread():
    blob = b"\x80\x03ctorch.storage\n_load_from_bytes\nC\x03abc\x85R."
    assert read(blob) == Unread("torch tensor")


# ---- what must not happen ----


class Command:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_that_runs_a_command_is_refused_by_name(tmp_path, protocol):
    data = pickle.dumps({"v_template": Command(os.system, f"touch {tmp_path}/ran")}, protocol)
    with pytest.raises(BadModel, match=rf"asks for {os.system.__module__}\.system"):
        read(data)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("function", ["eval", "exec", "getattr", "__import__", "compile", "setattr", "globals"])
def test_no_builtin_function_can_be_reached(function):
    with pytest.raises(BadModel, match=f"builtins.{function}"):
        read(pickle.dumps(Command(getattr(builtins, function), "1")))


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "system"), ("posix", "system"), ("subprocess", "Popen"), ("numpy", "load"), ("numpy", "core"),
        ("numpy", "ndarray.__class__"), ("numpy.core.multiarray", "_reconstruct.__globals__"),
        ("sameface.morphable.pickles", "_Unpickler"), ("functools", "partial"), ("operator", "attrgetter"),
        ("scipy.sparse._csc", "csc_matrix.__init__"), ("chumpy.ch", "Ch.__init__"), ("chumpy.utils", "x"),
        ("codecs", "decode"), ("builtins", "bytearray"), ("", ""),
    ],
)  # fmt: skip
def test_no_name_outside_the_list_can_be_reached(module, name):
    dotted = b"\x80\x04" + b"".join(b"X" + struct.pack("<I", len(t)) + t.encode() for t in (module, name)) + b"\x93."
    with pytest.raises(BadModel, match="which a face model has no use for; nothing was run"):
        read(dotted)


def test_a_chain_of_getattr_and_eval_stops_at_its_first_link():
    chain = b"c__builtin__\ngetattr\n(cnumpy\nndarray\nS'__class__'\ntR(S'eval'\ntR(S'1+1'\ntR."
    with pytest.raises(BadModel, match=r"__builtin__\.getattr"):
        read(chain)


def test_allowed_names_are_not_the_real_things():
    """Even what is on the list is only noted: numpy's own functions never get the arguments."""
    fuse = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(J\xff\xff\xff\x7ftS'f8'\ntR."
    with pytest.raises(BadModel, match="an array without content"):
        read(fuse)


def test_the_listed_classes_cannot_be_changed_from_inside():
    read_before = read(pickle.dumps(np.ones(2)))
    with pytest.raises(BadModel):
        read(b"cnumpy\nndarray\n}(S'__setstate__'\nN" + b"ub.")
    np.testing.assert_array_equal(read(pickle.dumps(np.ones(2))), read_before)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"Pid\n.", "PERSID"),
        (b"\x80\x02\x82\x01.", "EXT1"),
        (b"\x80\x02Nr\xff\xff\xff\x7f.", "numbers an object"),
        (b"\x80\x02}q\x00(U\x01ah\x00u.", "contains itself"),
        (b"\x80\x02]", "not a pickle, or is cut short"),
        (b"", "an empty file"),
        (b"hello", "not a pickle"),
        (b"\x80\x02h\x05.", "not a pickle of arrays"),
        (b"\x80\x02cnumpy\nndarray\n.", "ndarray where a value should be"),
        (b"\x80\x02c_codecs\nencode\n(X\x01\x00\x00\x00aX\x05\x00\x00\x00rot13tR.", "bytes written as 'rot13'"),
        (b"\x80\x02ccopy_reg\n_reconstructor\n(NNNtR.", "an object of an unknown class"),
        (b"\x80\x02cchumpy.ch\nCh\n)\x81.", "a chumpy array without x"),
        (b"\x80\x02cscipy.sparse\ncsc_matrix\n)\x81.", "scipy.sparse.csc_matrix"),
        (b"\x80\x02cscipy.sparse.csc\ncsc_matrix\n)\x81.", "a sparse matrix of shape None"),
        (b"\x80\x02}(c__builtin__\nset\n)RNu.", "a key that is neither"),
    ],
)
def test_malformed_pickles_are_named_as_such(data, message):
    with pytest.raises(BadModel, match=message):
        read(data)


@pytest.mark.parametrize(
    ("kind", "shape", "raw", "message"),
    [
        ("f8", (2,), b"12345678", "8 instead of 16 bytes"),
        ("f8", (-1,), b"", "an array of shape"),
        ("V8", (1,), b"12345678", "an array of type 'V8'"),
        ("M8", (1,), b"12345678", "an array of type 'M8'"),
        ("f8", (2**40,), b"", "0 instead of"),
        ("O8", (1,), b"12345678", "8 instead of 1 items"),
        ("f8", (1,), [1], "1 instead of 8 bytes"),
    ],
)
def test_arrays_whose_content_does_not_fit_are_refused(kind, shape, raw, message):
    empty = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nNNtR"
    dtype = b"cnumpy\ndtype\n" + python2_pickle((kind, 0, 1))[2:-1] + b"R"
    parts = b"".join(b"\x8a\x08" + struct.pack("<q", n) for n in shape)
    state = b"(K\x01(" + parts + b"t" + dtype + b"\x89" + python2_pickle(raw)[2:-1] + b"tb."
    with pytest.raises(BadModel, match=message):
        read(b"\x80\x02" + empty + state)


def test_nested_references_do_not_explode():
    """Forty lists that each hold the one before twice: 2^40 paths, 40 objects."""
    value: list = [1]
    for _ in range(40):
        value = [value, value]
    out = read(pickle.dumps(value))
    assert out[0] is out[1]


@settings(max_examples=300)
@given(data=st.data())
def test_a_damaged_pickle_is_read_or_refused_and_nothing_else(data):
    value = {"u": np.arange(4.0), "j": sparse.csc_matrix(np.eye(2)), "n": [1, ("a", b"b")]}
    raw = bytearray(pickle.dumps(value, data.draw(st.integers(0, 5))))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(BadModel):
        read(bytes(raw))


def test_a_pickle_that_is_too_large_is_refused_before_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(pickles, "LARGEST_PICKLE", 10)
    (tmp_path / "big.pkl").write_bytes(pickle.dumps(list(range(100))))
    with pytest.raises(BadModel, match=r"has 0\.0002 MB; such a file is read up to 0\.0000 MB"):
        read_pickle(tmp_path / "big.pkl")


# ---- .npy ----


@given(array=ARRAYS)
def test_plain_npy_files(array):
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "a.npy", array, allow_pickle=False)
        assert same(read_npy(Path(folder) / "a.npy"), array)


@pytest.mark.parametrize("write", ["numpy", "python 2"])
def test_a_dict_in_a_npy_file(tmp_path, write):
    value = {"lmk_face_idx": np.arange(3)}
    if write == "numpy":
        np.save(tmp_path / "d.npy", value, allow_pickle=True)  # type: ignore[arg-type]
    else:
        (tmp_path / "d.npy").write_bytes(object_npy(value))
    np.testing.assert_array_equal(read_npy(tmp_path / "d.npy")["lmk_face_idx"], [0, 1, 2])


def test_a_command_in_a_npy_file_is_refused(tmp_path):
    box = np.empty(1, object)
    box[0] = Command(os.system, f"touch {tmp_path}/ran")
    np.save(tmp_path / "evil.npy", box, allow_pickle=True)
    with pytest.raises(BadModel, match="system"):
        read_npy(tmp_path / "evil.npy")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("data", [b"", b"\x93NUMPY", b"\x93NUMPY\x01\x00\x02\x00{}", b"hello world"])
def test_files_that_are_not_npy_are_named(tmp_path, data):
    (tmp_path / "a.npy").write_bytes(data)
    with pytest.raises(BadModel, match=r"a\.npy is (not a \.npy|an empty) file"):
        read_npy(tmp_path / "a.npy")
