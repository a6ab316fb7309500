"""Units and orders that are wrong are seen, in any pose; what faces can be is not complained of."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from faces import person
from sameface.core.geometry import rotation_from_axis_angle
from sameface.morphable import default
from sameface.morphable.plausible import POINTS, SWAPPED, eye_distance, order_problem, size_problem, spread, unit_of

seeds = st.integers(0, 2**32 - 1)


def points_of(seed: int, rng: np.random.Generator) -> np.ndarray:
    """(68, 3) of somebody, in any pose and unit, one mm wrong."""
    model = default()
    points = model.landmarks(model.vertices(person(seed))).astype(np.float64) + rng.normal(0, 1, (68, 3))
    turn = rotation_from_axis_angle(rng.normal(0, 2, (1, 3)))[0]
    return 10 ** rng.uniform(-3, 1) * (points @ turn.T + rng.normal(0, 300, 3))


@given(seed=seeds)
def test_the_order_of_faces_is_right_and_is_wrong_when_right_and_left_are_swapped(seed):
    rng = np.random.default_rng(seed)
    points = points_of(seed, rng)
    assert order_problem(points) == ""
    few = np.full((68, 3), np.nan)
    seven = list(POINTS[:7])
    few[seven] = points[seven]
    assert order_problem(few) == ""
    for some in (points, few):
        swapped = some.copy()
        swapped[list(POINTS)] = some[list(SWAPPED)]
        assert "right and left landmarks swapped" in order_problem(swapped)
    assert "swapped" in order_problem(points * [-1.0, 1.0, 1.0])  # a mirrored mesh is the same fault


def test_points_in_another_order_are_seen_and_too_few_are_not_judged():
    points = points_of(0, np.random.default_rng(0))
    assert "not in iBUG's order" in order_problem(points[::-1])
    points = points[::-1].copy()
    points[list(POINTS[4:])] = np.nan
    assert order_problem(points) == ""


@pytest.mark.parametrize(("factor", "name"), [(0.001, "metres"), (0.01, "decimetres"), (0.1, "centimetres"),
                                              (1 / 25.4, "inches"), (1000.0, "micrometres")])  # fmt: skip
def test_units_are_told_from_the_size(factor, name):
    model = default()
    assert unit_of(spread(model.vertices(person(3)) * factor) / spread(model.mean)) == name
    assert size_problem(factor, 0.6, 1.6).endswith(f"it looks like {name}")
    assert size_problem(1.2, 0.6, 1.6) == ""


def test_the_eyes_of_people_are_so_far_apart():
    model = default()
    found = [eye_distance(model.landmarks(model.vertices(person(seed)))) for seed in range(20)]
    assert 40 < min(found) < max(found) < 90
    assert 58 < np.mean(found) < 70
