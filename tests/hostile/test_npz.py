"""Archives of arrays from outside: what lies is a sentence, and takes no memory."""

import tracemalloc

import numpy as np
import pytest
from hostile_inputs import archives

from sameface.core.errors import BadData
from sameface.core.npz import read_npz

LARGEST = 1 << 28
WHY = {
    "encrypted": "is encrypted", "method": "compression method is not supported", "crc": "Bad CRC-32",
    "petabytes": r"a header of shape \(1125899906842624,\) over 0 bytes", "size": "it unpacks to 4295 MB",
    "zeros": "it unpacks to 90 MB", "objects": "Python objects, which are not read", "no-header": "magic string",
    "negative": r"a header of shape \(-1, 3\)", "many": "10001 arrays",
}  # fmt: skip
HUGE = ("petabytes", "size", "zeros")
READ = {"twice", "outside", "bzip2", "texts"}
"""what is odd, and an archive of plain arrays all the same"""


@pytest.fixture(scope="module")
def lies() -> dict[str, bytes]:
    return archives()


def test_an_archive_that_lies_is_a_sentence_and_takes_no_memory(lies, tmp_path):
    assert lies.keys() == WHY.keys() | READ
    for name, why in WHY.items():
        path = tmp_path / f"{name}.npz"
        path.write_bytes(lies[name])
        if name in HUGE:
            tracemalloc.start()
        with pytest.raises(BadData, match=why):
            read_npz(path, LARGEST)
        if name in HUGE:
            assert tracemalloc.get_traced_memory()[1] < 20_000_000, name
            tracemalloc.stop()


def test_what_is_only_odd_is_read_and_writes_nothing(lies, tmp_path):
    (tmp_path / "inside").mkdir()
    for name in READ:
        path = tmp_path / "inside" / f"{name}.npz"
        path.write_bytes(lies[name])
        (array,) = read_npz(path, LARGEST).values()
        assert array.shape == ((2,) if name == "texts" else (4, 3))
        assert name == "texts" or np.all(array == 1)
    assert [one.name for one in tmp_path.iterdir()] == ["inside"]
