"""Which of several faces is taken: by hand for prominence, and the one that the other photos show among rivals."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from faces import GRACE, astronaut, encoded, from_far, person, seen_by, two_people
from sameface.reconstruction.choice import candidates, choose, prominence
from sameface.reconstruction.reconstruct import reconstruct
from sameface.verification.verify import verify


def face(box: tuple[float, ...], identity: float = 0.0, name: str = "a.jpg"):
    """A face of somebody in a photo of 600 × 800 px."""
    seen = seen_by(from_far(), person(1), name=name)
    return replace(seen, box=np.array(box, float), size=(600, 800), identity=np.full(80, identity))


MIDDLE, CORNER, SMALL = (250, 350, 350, 450), (0, 0, 110, 110), (300, 300, 330, 330)


def test_prominence_is_size_times_centrality():
    assert prominence(face(MIDDLE)) == pytest.approx(100.0)
    assert prominence(face((100, 50, 200, 150))) == pytest.approx(100 * (1 - np.hypot(150, 300) / 1000))
    assert prominence(face((-50, -50, 50, 50))) == pytest.approx(50.0)  # in the corner: half


def test_the_largest_loses_against_the_middle_if_it_is_at_the_rim():
    found = candidates([face(CORNER), face(MIDDLE), face(SMALL)])
    assert [(one.number, one.of) for one in found] == [(2, 3), (1, 3)]  # 110 · 0.578 = 64 is a rival, the small is none
    assert [one.number for one in candidates([face(CORNER), face(MIDDLE)], 1)] == [1]
    assert candidates([face(MIDDLE)], 2) == []


def test_alone_the_most_prominent_is_taken_and_it_is_said():
    (taken,) = choose([candidates([face(CORNER), face(MIDDLE)])])
    assert tuple(taken.box) == MIDDLE
    assert taken.notes == ("it shows 2 faces; taken was the largest and most central (number 2 by size; choose another "
                           "by its number)",)  # fmt: skip
    (alone,) = choose([candidates([face(MIDDLE)])])
    assert alone.notes == ()


def test_among_rivals_the_one_is_taken_that_the_other_photos_show():
    sure = [candidates([face(MIDDLE, 0.2, f"{k}.jpg")]) for k in range(2)]
    rivals = candidates([face(MIDDLE, 1.0), face(CORNER, 0.25)])
    *_, taken = choose([*sure, rivals])
    assert tuple(taken.box) == CORNER
    assert "taken was the one most like the other photos (number 2 by size" in taken.notes[0]
    *_, taken = choose([*sure, candidates([face(MIDDLE, 0.5), face(CORNER, 0.45)])])  # hardly nearer: not a reason
    assert tuple(taken.box) == MIDDLE
    assert "and no other is more like the other photos" in taken.notes[0]
    *_, taken = choose([*sure, candidates([face(MIDDLE, 1.0), face(SMALL, 0.2)])])  # somebody in the background
    assert tuple(taken.box) == MIDDLE


def test_photos_that_all_have_rivals_vote_on_each_other():
    both = [candidates([face(MIDDLE, m, "a"), face(CORNER, c, "b")]) for m, c in
            ((0.2, 1.0), (0.22, -1.0), (0.6, 0.21), (0.18, 3.0))]  # fmt: skip
    assert [tuple(one.box) for one in choose(both)] == [MIDDLE, MIDDLE, CORNER, MIDDLE]


def test_a_lone_photo_asks_whom_it_is_compared_with():
    some = [candidates([face(MIDDLE, 1.0), face(CORNER, 0.25)])]
    assert tuple(choose(some, np.full(80, 0.9))[0].box) == MIDDLE
    (taken,) = choose(some, np.full(80, 0.2))
    assert tuple(taken.box) == CORNER
    assert "taken was the one most like whom it is compared with (number 2 by size" in taken.notes[0]


def test_verify_compares_with_the_person_who_is_in_the_photo(tmp_path):
    both, her, him = (tmp_path / f"{name}.png" for name in ("both", "her", "him"))
    both.write_bytes(encoded(two_people()))
    her.write_bytes(encoded(np.ascontiguousarray(astronaut()[:, ::-1])))
    him.write_bytes(encoded(np.asarray(Image.open(GRACE))[:, ::-1]))
    with_her, with_him, alone = verify(both, her), verify(him, both), verify(both, both)
    assert max(with_her.distance_mm, with_him.distance_mm) < 0.8 < verify(her, him).distance_mm
    assert any("both.png: it shows 2 faces; taken was the one most like whom it is" in note for note in with_her.notes)
    assert any("and no other is more like whom it is compared with" in note for note in with_him.notes)
    assert alone.distance_mm < 1e-6


def test_two_people_of_equal_size_in_real_photos():
    """The larger one is taken, unless the other photo shows the smaller one."""
    alone, with_her = reconstruct(two_people()), reconstruct(two_people(), astronaut()[:, ::-1])
    assert alone.views[0].seen.box[0] > 240 > with_her.views[0].seen.box[2]
    assert alone.notes[0].startswith("photo 1: it shows 2 faces; taken was the largest and most central")
    assert with_her.notes[0].startswith(
        "photo 1: it shows 2 faces; taken was the one most like the other photos (number 2"
    )


@pytest.mark.parametrize("number", [1, 2])
def test_nothing_is_said_of_a_choice_where_the_face_is_named(number):
    (view,) = reconstruct(two_people(), face=number).views
    assert (view.seen.box[0] > 240) == (number == 1)
    assert view.seen.notes == ()
