"""Records of arrays, and the module that an array belongs to."""

from dataclasses import FrozenInstanceError, dataclass

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sameface.core.arrays import Array, Batch, Record, namespace


@dataclass(frozen=True, eq=False, repr=False)
class Inner(Batch):
    point: Array
    label: str = "nose"


@dataclass(frozen=True, eq=False, repr=False)
class Outer(Batch):
    values: Array
    inner: Inner
    missing: Array | None = None
    size: tuple[int, int] = (4, 3)


@pytest.fixture
def record() -> Outer:
    return Outer(np.arange(6.0).reshape(2, 3), Inner(np.float32([[1, 2], [3, 4]])))


def test_each_kind_of_array_has_its_module():
    assert namespace(np.zeros(2)) is np
    assert namespace(np.float64(2)) is np
    assert namespace(torch.zeros(2)) is torch


def test_map_reaches_nested_arrays_and_nothing_else(record):
    doubled = record.map(lambda array: 2 * array)
    np.testing.assert_array_equal(doubled.values, 2 * record.values)
    np.testing.assert_array_equal(doubled.inner.point, [[2, 4], [6, 8]])
    assert (doubled.missing, doubled.size, doubled.inner.label) == (None, (4, 3), "nose")
    np.testing.assert_array_equal(record.inner.point, [[1, 2], [3, 4]])


def test_map_turns_a_record_into_torch(record):
    there = record.map(torch.from_numpy)
    assert isinstance(there.inner.point, torch.Tensor)
    assert there.inner.point.dtype == torch.float32


@given(index=st.integers(0, 1))
def test_indexing_takes_one_of_a_batch_everywhere(index):
    record = Outer(np.arange(6.0).reshape(2, 3), Inner(np.float32([[1, 2], [3, 4]])))
    one = record[index]
    np.testing.assert_array_equal(one.values, record.values[index])
    np.testing.assert_array_equal(one.inner.point, record.inner.point[index])


def test_slices_and_masks_index_too(record):
    assert record[:1].values.shape == (1, 3)
    assert record[np.array([True, False])].inner.point.shape == (1, 2)


def test_a_record_is_no_sequence(record):
    """Python iterates over whatever can be indexed, and a record's arrays have nothing to do with each other."""

    @dataclass(frozen=True, eq=False, repr=False)
    class Alone(Record):
        values: Array

    for one in (record, Alone(np.zeros(3))):
        with pytest.raises(TypeError, match="not iterable"):
            list(one)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="not subscriptable"):
        Alone(np.zeros(3))[0]  # type: ignore[index]


def test_records_are_compared_by_identity(record):
    same = Outer(record.values, record.inner)
    assert (record == same) is False
    assert record in [same, record]


def test_the_repr_prints_shapes_instead_of_numbers(record):
    assert repr(record) == (
        "Outer(values=float64[2, 3], inner=Inner(point=float32[2, 2], label='nose'), missing=None, size=(4, 3))"
    )
    assert "float32[2, 2]" in repr(record.inner.map(torch.from_numpy))


def test_the_repr_of_something_long_is_its_type():
    assert repr(Inner(np.zeros(1), "n" * 100)) == "Inner(point=float64[1], label=<str>)"


def test_records_cannot_be_changed(record):
    with pytest.raises(FrozenInstanceError):
        record.values = np.zeros(1)
