"""A copy of a photo is no second witness, whatever was done to the file; another photo of the person is one."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from faces import GRACE, astronaut, encoded, from_far, person, seen_by
from sameface.morphable import default
from sameface.photo.image import read
from sameface.photo.observe import observe
from sameface.photo.predictor import load, second
from sameface.reconstruction.copies import counted, originals, same_pictures
from sameface.reconstruction.reconstruct import join, reconstruct
from sameface.verification.verify import verify


def changed(size: float = 1.0, **options) -> bytes:
    """The astronaut's photo, saved again."""
    picture, out = Image.fromarray(astronaut()), io.BytesIO()
    picture.resize((round(size * picture.width), round(size * picture.height))).save(out, **options)
    return out.getvalue()


CHANGES = {
    "bytes": {"format": "PNG"},
    "JPEG": {"format": "JPEG", "quality": 40},
    "small": {"size": 0.6, "format": "JPEG", "quality": 80},
    "large": {"size": 1.7, "format": "PNG"},
    "WebP": {"format": "WEBP", "quality": 60},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("copies")
    (folder / "original.png").write_bytes(encoded(astronaut()))
    for name, options in CHANGES.items():
        (folder / name).write_bytes(changed(**options))
    return folder


@pytest.mark.parametrize("change", CHANGES)
def test_a_copy_changes_nothing_and_is_said(folder, change):
    alone = reconstruct(folder / "original.png")
    answer = reconstruct(folder / "original.png", folder / change)
    assert len(answer.views) == 1
    kept, ((copy, kind, message),) = answer.views[0].seen.photo, answer.dropped
    assert {kept, copy} == {str(folder / "original.png"), str(folder / change)}
    assert (kind, message) == ("Copy", f"it is the same picture as {kept}, which counts once")
    assert answer.notes[-1] == "1 photo is a copy of others; each picture counts once"
    if change == "bytes":
        np.testing.assert_array_equal(answer.identity, alone.identity)


def test_another_photo_of_the_person_and_another_person_count(folder):
    turned = np.asarray(Image.fromarray(astronaut()).transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    assert len(reconstruct(astronaut(), turned).views) == 2  # as if she looked the other way
    assert len(reconstruct(astronaut(), GRACE).views) == 2


def test_eight_copies_on_each_side_say_what_one_says(folder, tmp_path):
    """They once turned "unsure, 67 %" into "different, under 1 %"."""
    for side, picture in (("a", encoded(astronaut())), ("b", GRACE.read_bytes())):
        (tmp_path / side).mkdir()
        for k in range(8):
            (tmp_path / side / f"{k}.png").write_bytes(picture)
    one, many = verify(tmp_path / "a" / "0.png", tmp_path / "b" / "0.png"), verify(tmp_path / "a", tmp_path / "b")
    assert many.photos == (1, 1)
    assert (many.distance_mm, many.probability, many.word) == (one.distance_mm, one.probability, one.word)
    assert "7 photos are copies of others; each picture counts once" in many.notes
    assert [kind for _, kind, _ in many.dropped] == ["Copy"] * 14


def test_a_copy_on_the_other_side_is_said(folder):
    verdict = verify(folder / "original.png", folder / "small")
    assert verdict.notes[0].startswith(f"{folder / 'original.png'} is on both sides: of course that is alike")


def test_the_best_of_equals_counts():
    camera = from_far()
    seen = [seen_by(camera, person(1), name=str(k), quality=q) for k, q in enumerate((0.5, 0.9, 0.9, 0.7))]
    seen.append(seen_by(from_far(0.4), person(1), name="turned", quality=0.2))
    assert originals(seen).tolist() == [1, 1, 1, 1, 4]
    kept, copies = counted(seen)
    assert [one.photo for one in kept] == ["1", "turned"]
    assert copies == [(name, "Copy", "it is the same picture as 1, which counts once") for name in "023"]
    answer = join(seen)
    assert [view.seen.photo for view in answer.views] == ["1", "turned"]
    assert answer.notes[-1].startswith("3 photos are copies of others")


def test_neither_equal_points_nor_equal_shapes_nor_equal_expressions_alone_make_a_copy():
    camera, first = from_far(), seen_by(from_far(), person(1), name="a")
    other = seen_by(camera, person(1), name="b")
    other.identity[:] = 0.5 * person(2)
    shut = np.zeros(default().n_expression)
    shut[[default().expression_names.index(f"eyeBlink{side}") for side in ("Left", "Right")]] = 1
    asleep, turned = seen_by(camera, person(1), name="e", expression=shut), seen_by(from_far(0.3), person(1), name="c")
    assert not same_pictures([first], [other, turned, asleep]).any()
    moved = seen_by(from_far(size=(1280, 960), scale=3.0), person(1), name="d")
    assert same_pictures([moved], [first]).all()


def test_the_code_of_a_copy_is_that_of_the_photo(folder):
    """What the limits rest on: real copies are far inside, another photo far outside."""
    (first,) = observe(read(folder / "original.png"), load("default"), second=second())
    for name in CHANGES:
        (copy,) = observe(read(folder / name), load("default"), second=second())
        assert same_pictures([first], [copy]).all(), name
    (other,) = observe(read(GRACE), load("default"), second=second())
    assert not same_pictures([first], [other]).any()
