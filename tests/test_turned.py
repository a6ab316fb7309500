"""Photos that lie on their side or stand on their head: the face is found, in px of the photo as it is."""

import numpy as np
import pytest
from PIL import Image

from faces import GRACE, astronaut, scenery, two_people
from sameface.core.errors import NoFaceFound
from sameface.core.geometry import apply_affine, euler_from_rotation
from sameface.photo.face import Photo
from sameface.photo.image import read
from sameface.photo.observe import observe
from sameface.photo.predictor import load
from sameface.photo.turned import observe_turned
from sameface.reconstruction.reconstruct import look, reconstruct


def turned(pixels: np.ndarray, quarters: int) -> Photo:
    """The photo turned clockwise."""
    return Photo(np.ascontiguousarray(np.rot90(pixels, -quarters)), "anna.jpg")


def on_turned(points: np.ndarray, size: tuple[int, int], quarters: int) -> np.ndarray:
    """Where points (px) of a photo of (width, height) come to lie: by hand, a quarter turn at a time."""
    width, height = size
    for _ in range(quarters):
        points, width, height = np.stack([height - points[:, 1], points[:, 0]], axis=1), height, width
    return points


@pytest.mark.parametrize("quarters", [1, 2, 3])
@pytest.mark.parametrize("who", ["astronaut", "grace"])
def test_a_face_is_found_from_every_side_where_it_is(who, quarters):
    pixels = astronaut() if who == "astronaut" else np.asarray(Image.open(GRACE))
    (upright,) = observe(Photo(pixels, "anna.jpg"), load("default"))
    photo = turned(pixels, quarters)
    (found,) = observe_turned(photo, load("default"))
    assert found.size == photo.size == found.camera.size
    width = np.ptp(upright.landmarks[:, 0])
    expected = on_turned(upright.landmarks, (pixels.shape[1], pixels.shape[0]), quarters)
    np.testing.assert_allclose(found.landmarks, expected, atol=0.02 * width)
    corners = on_turned(upright.box.reshape(2, 2), (pixels.shape[1], pixels.shape[0]), quarters)
    np.testing.assert_allclose(found.box, np.concatenate([corners.min(0), corners.max(0)]), atol=0.1 * width)
    roll = np.degrees(euler_from_rotation(found.camera.rotation)[2] - euler_from_rotation(upright.camera.rotation)[2])
    assert abs((roll - 90 * quarters + 180) % 360 - 180) < 3
    np.testing.assert_allclose(found.quality, upright.quality, atol=0.03)
    inside = apply_affine(found.to_picture, found.landmarks)
    assert (inside > 0).all()
    assert (inside < found.picture.shape[1::-1]).all()
    if found.notes:
        assert found.notes == (f"it was turned by {360 - 90 * quarters}° clockwise to find its face: its EXIF data did "
                               "not say so",)  # fmt: skip
    if quarters == 2:
        assert found.notes


def test_a_phantom_in_a_face_on_its_head_loses_against_the_face(shared):
    path = str(shared("cases") / "03_upside_down.jpg")
    photo = read(path)
    (phantom,), (found,) = observe(photo, load("default")), observe_turned(photo, load("default"))
    assert abs(np.degrees(euler_from_rotation(phantom.camera.rotation)[2])) < 60
    assert abs(np.degrees(euler_from_rotation(found.camera.rotation)[2])) > 170
    assert found.score * found.quality > 2 * phantom.score * phantom.quality
    answer = reconstruct(path)
    assert any("03_upside_down.jpg: it was turned by 180°" in note for note in answer.notes)


def test_upright_photos_are_looked_at_once_and_stay_as_they_are(monkeypatch):
    from sameface.photo import turned as module

    looks: list[tuple[int, int]] = []

    def counted(photo, *given, **options):
        looks.append(photo.size)
        return observe(photo, *given, **options)

    monkeypatch.setattr(module, "observe", counted)
    for pixels in (astronaut(), two_people()):
        photo = Photo(pixels, "anna.jpg")
        found = observe_turned(photo, load("default"))
        assert [one.notes for one in found] == [()] * len(found)
        assert looks == [photo.size]
        looks.clear()
    with pytest.raises(NoFaceFound, match=r"no face in nothing.jpg \(320×240\)"):
        observe_turned(Photo(scenery(), "nothing.jpg"), load("default"))
    assert looks == [(320, 240), (240, 320), (320, 240), (240, 320)]


def test_every_face_of_a_turned_photo_comes_back():
    photo = turned(two_people(), 2)
    found = observe_turned(photo, load("default"))
    assert len(found) == 2
    assert found[0].box[2] < 340 < found[1].box[0]  # the larger one is on the left now
    assert all(one.notes for one in found)


def test_a_reconstruction_says_that_a_photo_was_turned(tmp_path):
    Image.fromarray(np.rot90(astronaut(), 2)).save(tmp_path / "anna.png")
    answer = reconstruct(tmp_path / "anna.png")
    assert any(note.startswith(f"{tmp_path / 'anna.png'}: it was turned by 180° clockwise") for note in answer.notes)
    assert abs(answer.as_json()["views"][0]["head_pose_degrees"]["roll"]) > 160
    upright = reconstruct(astronaut())
    np.testing.assert_allclose(answer.identity, upright.identity, atol=0.3)
    as_it_lies = look([tmp_path / "anna.png"], turned=False)
    assert not any(one.notes for faces in as_it_lies.faces for one in faces)
