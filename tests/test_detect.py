"""The packaged detector, on a photo that everybody has, and its arithmetic with a network of a known answer."""

import subprocess
import sys

import cv2
import numpy as np
import pytest
import skimage.data
from hypothesis import given
from hypothesis import strategies as st

from sameface.core.errors import AssetMissing
from sameface.photo import detect as module
from sameface.photo.detect import Faces, detect, detect_near, suppress
from sameface.training.datasets import scenes

EYES = np.array([[203, 99], [246, 104]])
"""Of the astronaut (Eileen Collins, NASA, public domain), by hand, px."""


@pytest.fixture(scope="module")
def astronaut() -> np.ndarray:
    return skimage.data.astronaut()


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    shared = np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None).prod()
    return shared / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - shared)


def inside(a: np.ndarray, b: np.ndarray) -> float:
    """Which part of `a` lies in `b`."""
    return np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None).prod() / (a[2:] - a[:2]).prod()


def only(faces: Faces) -> Faces:
    assert len(faces) == 1
    return faces


def test_the_face_of_a_photo_is_found_where_it_is(astronaut):
    face = only(detect(astronaut))
    np.testing.assert_allclose(face.points[0, :2], EYES, atol=5)
    assert overlap(face.boxes[0], np.array([178, 62, 270, 178])) > 0.75
    right_eye, left_eye, nose, right_mouth, left_mouth = face.points[0]
    assert right_eye[0] < nose[0] < left_eye[0]
    assert right_mouth[0] < left_mouth[0]
    assert right_eye[1] < nose[1] < right_mouth[1]


@pytest.mark.parametrize("scale", [0.25, 0.5, 3])
def test_photo_px_follow_the_size_of_the_photo(astronaut, scale):
    size = round(512 * scale)
    face = only(detect(cv2.resize(astronaut, (size, size), interpolation=cv2.INTER_AREA)))
    np.testing.assert_allclose(face.points[0, :2] / scale, EYES, atol=5 + 1 / scale)


def test_a_glance_sees_what_two_looks_see_of_a_large_face(astronaut):
    far = np.pad(astronaut[:260, 100:340], ((150, 150), (600, 600), (0, 0)), mode="edge")  # too small for a glance
    for photo in (astronaut, far):
        face, glanced = only(detect(photo)), only(detect(photo, glance=True))
        assert overlap(face.boxes[0], glanced.boxes[0]) > 0.8
        np.testing.assert_allclose(glanced.points[0], face.points[0], atol=0.05 * np.ptp(face.boxes[0][::2]))


def test_a_glance_is_enough_only_where_nothing_is_doubtful(monkeypatch):
    """A sure face of 80 px of 256, and one of 30 that the first look doubts and the second sees."""
    photo, looks = np.zeros((512, 512, 3), np.uint8), []

    def look(pixels, side, least):
        scores = np.array([0.9, 0.35 if side == module.SMALL else 0.8])
        boxes = np.array([[0, 0, 160, 160], [400, 400, 400 + second, 400 + second]], np.float64)
        looks.append(side)
        return Faces(boxes, np.zeros((2, 5, 2)), scores)[scores >= least]

    monkeypatch.setattr(module, "_look", look)
    for second, glance, expected, sides in ((60, True, 2, 2), (30, True, 1, 1), (30, False, 2, 2), (170, True, 1, 1)):
        looks.clear()
        assert len(detect(photo, min_score=0.6, glance=glance)) == expected, second
        assert len(looks) == sides


def test_a_face_is_found_again_near_where_it_was_and_nowhere_else(astronaut):
    face = only(detect(astronaut))
    size = np.ptp(face.boxes[0][::2])
    near = only(detect_near(astronaut, face.boxes[0] + 0.2 * size))
    assert overlap(near.boxes[0], face.boxes[0]) > 0.8
    np.testing.assert_allclose(near.points, face.points, atol=0.05 * size)
    for gone in (face.boxes[0] + 1.2 * size, face.boxes[0] + 1000, face.boxes[0] - 1000):
        assert len(detect_near(astronaut, gone)) == 0


def test_a_mirrored_photo_swaps_right_and_left(astronaut):
    face, mirrored = only(detect(astronaut)), only(detect(np.ascontiguousarray(astronaut[:, ::-1])))
    np.testing.assert_allclose(512 - mirrored.points[0, [1, 0, 2, 4, 3], 0], face.points[0, :, 0], atol=4)


@pytest.mark.parametrize("angle", [-30, 30])
def test_a_tilted_head_is_found(astronaut, angle):
    matrix = cv2.getRotationMatrix2D((224, 120), angle, 1)
    face = detect(cv2.warpAffine(astronaut, matrix, (512, 512), borderMode=cv2.BORDER_REPLICATE))[:1]  # the surest
    np.testing.assert_allclose(face.points[0, :2], EYES @ matrix[:, :2].T + matrix[:, 2], atol=8)


@pytest.mark.parametrize("side", [100, 400, 1200])
def test_a_face_that_fills_the_photo_is_found(astronaut, side):
    crop = cv2.resize(astronaut[60:180, 165:285], (side, side), interpolation=cv2.INTER_CUBIC)
    face = only(detect(crop))
    np.testing.assert_allclose(face.points[0, :2] * 120 / side + [165, 60], EYES, atol=6)


def test_every_face_of_a_crowd_is_found(astronaut):
    small = cv2.resize(astronaut[:300, 100:400], (96, 96), interpolation=cv2.INTER_AREA)
    faces = detect(np.tile(small, (4, 6, 1)), min_score=0.4)
    middles = (faces.boxes[:, :2] + faces.boxes[:, 2:]) / 2
    assert {(int(x // 96), int(y // 96)) for x, y in middles} == {(x, y) for x in range(6) for y in range(4)}
    assert len(faces) == 24


@pytest.mark.parametrize("shape", [(1, 1), (1, 3000), (2500, 2), (33, 31), (700, 10)])
@pytest.mark.parametrize("value", [0, 255])
def test_photos_of_any_shape_are_looked_at(shape, value):
    faces = detect(np.full((*shape, 3), value, np.uint8))
    assert faces.boxes.shape == (0, 4)
    assert faces.points.shape == (0, 5, 2)


def test_noise_has_no_face():
    assert len(detect(np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8))) == 0


@pytest.mark.parametrize("shape", [(4, 4), (4, 4, 4), (0, 4, 3)])
def test_what_is_no_photo_is_refused(shape):
    with pytest.raises((ValueError, TypeError)):  # of detect, or of the shape check that the tests switch on
        detect(np.zeros(shape, np.uint8))


def test_longest_has_a_least_value():
    with pytest.raises(ValueError, match="longest is 16 px; the network needs at least 32"):
        detect(np.zeros((50, 50, 3), np.uint8), longest=16)


class Oracle:
    """A network that sees one face: the red rectangle of its input."""

    def __init__(self):
        self.shapes = []

    def run(self, names, feed):
        images = feed["images"]
        self.shapes.append(images.shape[2:])
        y, x = np.nonzero((images[0, 0] > 0.9) & (images[0, 1] < 0.1))
        box = np.array([x.min(), y.min(), x.max() + 1, y.max() + 1], np.float32)
        points = np.tile(box[:2], (1, 1, 5, 1))
        return [np.array([[2.0]], np.float32), box[None, None], points]


@pytest.mark.parametrize(("height", "width"), [(1000, 2000), (600, 90), (64, 64)])
def test_answers_come_back_in_photo_px(monkeypatch, height, width):
    oracle = Oracle()
    monkeypatch.setattr(module, "_session", lambda: oracle)
    photo = np.zeros((height, width, 3), np.uint8)
    box = np.array([width // 4, height // 4, width // 2, height // 2])
    photo[box[1] : box[3], box[0] : box[2], 0] = 255
    face = only(detect(photo))
    np.testing.assert_allclose(face.boxes[0], box, atol=max(height, width) / 200)
    np.testing.assert_allclose(face.points[0, 0], box[:2], atol=max(height, width) / 200)
    assert face.scores[0] == pytest.approx(1 / (1 + np.exp(-2)))
    assert all(side % 32 == 0 and side <= 640 for shape in oracle.shapes for side in shape)
    assert len(oracle.shapes) == (2 if max(height, width) > 300 else 1)


@given(seed=st.integers(0, 2**32 - 1), count=st.integers(0, 30))
def test_suppression_against_a_loop(seed, count):
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 20, (count, 2))
    boxes, scores = np.concatenate([corner, corner + rng.uniform(1, 15, (count, 2))], 1), rng.permutation(count) / 30
    kept: list[int] = []
    for i in sorted(range(count), key=lambda i: -scores[i]):
        if all(overlap(boxes[i], boxes[j]) <= 0.4 and inside(boxes[i], boxes[j]) <= 0.7 for j in kept):
            kept.append(i)
    assert suppress(boxes, scores).tolist() == kept


def test_a_network_that_is_not_there_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "NETWORK", tmp_path / "detect.onnx")
    module._session.cache_clear()
    with pytest.raises(AssetMissing, match=r"detect\.onnx is not in .*sameface train detector"):
        detect(np.zeros((50, 50, 3), np.uint8))


def test_importing_loads_neither_torch_nor_onnxruntime():
    code = "import sys, sameface.photo.detect; print({'torch', 'onnxruntime'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_large_faces_of_held_out_photos_are_found(shared):
    data, found = scenes.load(shared("data/scenes"), "test"), []
    for i in range(0, len(data), 10):
        faces = detect(data[i]["images"], min_score=0.5)
        for box in data[i]["boxes"]:
            if (box[2:] - box[:2]).max() > 40:
                found.append(any(overlap(box, other) > 0.5 for other in faces.boxes))
    assert len(found) > 40
    assert np.mean(found) > 0.95
