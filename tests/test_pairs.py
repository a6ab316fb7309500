import numpy as np
import pytest

from sameface.core.errors import BadData
from sameface.training.pairs import Pairs


def test_pairs_keep_their_promise():
    person = np.array([3, -1, 3, 5, 5, -1, 7, 5])
    pairs, rng = Pairs(person), np.random.default_rng(0)
    for index in range(8):
        a, b = pairs.genuine(rng)
        assert a != b
        assert person[a] == person[b] >= 0
        a, b = pairs.impostor(index, rng)
        assert a == index != b
        assert person[a] != person[b] or person[a] < 0
    with pytest.raises(BadData, match="no genuine pairs"):
        Pairs(np.array([1, 2, -1, -1])).genuine(rng)
    with pytest.raises(BadData, match="no impostor pairs"):
        Pairs(np.array([1, 1, 1])).impostor(0, rng)
