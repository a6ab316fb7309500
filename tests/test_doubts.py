"""What is red in the report is a note, at one limit for both; what is not red is none."""

import numpy as np
import pytest

from faces import from_near, person, seen_by
from sameface.reconstruction.doubts import FAIR, POOR, doubts, far_apart
from sameface.reconstruction.reconstruct import FARTHEST
from sameface.reconstruction.report import _photo_bars
from sameface.reconstruction.result import View

EPSILON = 1e-6


def view(quality: float = 0.9, disagreement: float = 0.1, photo: str = "a.jpg") -> View:
    seen = seen_by(from_near(), person(1), name=photo, quality=quality)
    return View(
        seen=seen, camera=from_near(), expression=seen.expression, landmarks=np.zeros((68, 2)), residual=0.01,
        identity_alone=seen.identity, disagreement=disagreement,
    )  # fmt: skip


def shades(photos: int, quality: float, apart: float | None) -> list[str]:
    return [bar.partition('class="bar ')[2].partition('"')[0] for bar in _photo_bars(photos, quality, apart)]


@pytest.mark.parametrize(
    ("quality", "shade"), [(POOR - EPSILON, "poor"), (POOR, "fair"), (FAIR - EPSILON, "fair"), (FAIR, "good")]
)
@pytest.mark.parametrize("others", [0, 2])
def test_a_poor_photo_is_red_and_a_note(quality, shade, others):
    told = doubts([view(quality, photo="b.jpg"), *[view() for _ in range(others)]], FARTHEST)
    assert shades(1 + others, quality, None) == [shade]
    assert len(told) == (shade == "poor")
    if told:
        which = "1 of 3 photos are poor" if others else "every photo is poor"
        assert told[0].startswith(f"{which} (quality below 0.7; b.jpg: 0.70): a face that is small")


@pytest.mark.parametrize(("apart", "shade"), [(FARTHEST + EPSILON, "poor"), (FARTHEST, "fair"), (FARTHEST / 2, "good")])
def test_photos_far_from_the_joint_shape_are_red_and_a_note(apart, shade):
    told = doubts([view(disagreement=apart, photo="b.jpg"), view(), view()], FARTHEST)
    assert shades(3, 0.9, apart) == ["good", shade]
    assert len(told) == (shade == "poor")
    if told:
        assert told[0] == "the own shapes of 1 of 3 photos are farther than 1.75 mm from the joint one (b.jpg: 1.8 mm)"


def test_of_two_photos_each_has_half_the_way():
    assert (far_apart(2, FARTHEST), far_apart(3, FARTHEST)) == (0.875, 1.75)
    assert shades(2, 0.9, 0.88) == ["good", "poor"]
    assert shades(2, 0.9, 0.87) == ["good", "fair"]
