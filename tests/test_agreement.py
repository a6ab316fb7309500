"""Who is left out of a person's photos: against meshes, pair by pair, as slowly as it is said."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sameface.morphable import default
from sameface.reconstruction.agreement import disagreeing, millimetres, reason


def apart(first: np.ndarray, second: np.ndarray) -> float:
    """mm RMS over the face between the meshes of two identities."""
    model = default()
    a, b = (model.vertices(one)[model.regions["face"]].astype(np.float64) for one in (first, second))
    return float(np.sqrt(((a - b) ** 2).sum(1).mean()))


def slowly(identity: np.ndarray, quality: np.ndarray, limits: SimpleNamespace) -> tuple[list[int], dict[int, float]]:
    """Who is left out, and at which distance."""

    def far(k: int, group: list[int]) -> float:
        others = [j for j in group if j != k]
        mean = sum(quality[j] * identity[j] for j in others) / sum(quality[j] for j in others)
        return apart(identity[k], mean)

    keep, out, distance = list(range(len(identity))), [], {}
    while len(keep) > 2:
        each = {k: far(k, keep) for k in keep}
        worst = max(each, key=each.__getitem__)
        rest = [k for k in keep if k != worst]
        if each[worst] <= limits.farthest or each[worst] <= limits.apart * np.median([far(k, rest) for k in rest]):
            break
        out.append(worst)
        distance[worst] = each[worst]
        keep = rest
    return out, distance


@settings(max_examples=20)
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(3, 9),
    limits=st.sampled_from([SimpleNamespace(farthest=1.5, apart=1.75), SimpleNamespace(farthest=4.0, apart=2.5)]),
)
def test_it_is_what_meshes_say(seed, count, limits):
    rng = np.random.default_rng(seed)
    identity = rng.normal(0, 0.4, 80) + rng.normal(size=(count, 80)) * rng.uniform(0.1, 2.0, (count, 1))
    quality = rng.uniform(0.1, 0.9, count)
    out, distance = disagreeing(identity, quality, limits.farthest, limits.apart)
    wanted, far = slowly(identity, quality, limits)
    assert out == wanted
    for k, value in far.items():
        assert distance[k] == pytest.approx(value, rel=1e-4)


def test_a_photo_alone_agrees_and_of_two_both_do():
    first, second = np.zeros(80), np.eye(80)[0] * 5
    assert disagreeing(first[None], np.ones(1), 4.0, 2.5)[1].tolist() == [0]
    out, distance = disagreeing(np.stack([first, second]), np.ones(2), 1e-3, 1.0)
    assert out == []
    np.testing.assert_allclose(distance, apart(first, second), rtol=1e-4)


def test_the_metric_is_the_rms_over_the_face():
    alpha = np.random.default_rng(0).normal(size=80)
    assert np.linalg.norm(alpha @ millimetres()) == pytest.approx(apart(alpha, 0 * alpha), rel=1e-5)


def test_the_reason_says_how_far():
    assert reason(4.25).startswith("its shape is 4.2 mm from the other photos'")
