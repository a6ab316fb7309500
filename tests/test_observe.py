"""What is seen of the faces of one photo: in whatever file it comes, however it is turned, however large it is."""

import io
import shutil
from dataclasses import replace

import cv2
import numpy as np
import pillow_heif
import pytest
from PIL import Image

from faces import GRACE, astronaut, encoded, scenery, two_people
from sameface.core.errors import AssetMissing, NoFaceFound
from sameface.core.geometry import apply_affine, euler_from_rotation, inverse_affine, similarity_2d
from sameface.photo import observe as module
from sameface.photo.detect import Faces, detect
from sameface.photo.face import Photo
from sameface.photo.image import crop as crop_of
from sameface.photo.image import read
from sameface.photo.observe import observe
from sameface.photo.predictor import SPHEREFACE_FIVE, five_of_68, load, second
from sameface.reconstruction.reconstruct import join
from sameface.training.export import annotate


def seen(source, **options):
    return observe(read(source, name="photo"), load(), **options)


@pytest.fixture(scope="module")
def anna():
    """The observation of the astronaut."""
    return seen(astronaut())[0]


def assert_same_face(one, other, share: float):
    """Landmarks of two observations of a photo agree to a share of the face's size."""
    extent = np.ptp(one.landmarks, axis=0).max()
    assert np.linalg.norm(one.landmarks - other.landmarks, axis=1).mean() < share * extent


# ── one face ───────────────────────────────────────────────────────────────────────────────────────────────


def test_everything_is_in_pixels_of_the_photo(anna):
    height, width = astronaut().shape[:2]
    assert anna.size == anna.camera.size == (width, height)
    low, high = anna.landmarks.min(0), anna.landmarks.max(0)
    box = anna.box.reshape(2, 2)
    assert (np.abs([low, high] - box) < 0.35 * (box[1] - box[0])).all()
    projected = anna.camera.project(load_points()(anna.identity[None], anna.expression[None])[0])
    assert np.linalg.norm(projected - anna.landmarks, axis=1).mean() < 0.1 * (high - low).max()
    assert (anna.sigma > 0).all()
    assert np.median(anna.sigma) < 0.1 * (high - low).max()
    assert 0 < anna.quality < 1
    assert 0.5 <= anna.score <= 1


def load_points():
    return module.points_of(load())


@pytest.mark.parametrize(
    ("errors", "says"),
    [
        ([[[1.0, 2, 3]]], r"shape \(1, 1, 3\)"),
        ([], r"shape \(0,\)"),
        (np.zeros((65, 5, 3)), r"shape \(65, 5, 3\)"),
        (np.full((1, 5, 3), np.nan), "not all finite"),
        ("none", "could not convert"),
    ],
)
def test_errors_of_points_that_cannot_be_meant_are_refused(errors, says, tmp_path):
    with pytest.raises(AssetMissing, match=rf"odd\.onnx has points that cannot be meant \(.*{says}"):
        module.points_of(erring(tmp_path / "odd.onnx", errors))


def test_errors_of_points_are_modes_of_these_points(tmp_path):
    modes = np.random.default_rng(0).normal(size=(2, 5, 3))
    np.testing.assert_array_equal(module.points_of(erring(tmp_path / "x.onnx", modes)).errors[3, :, 1], modes[1, 3])
    assert load_points().errors.shape[:2] == load_points().mean.shape


def erring(path, errors):
    """The packaged network, said to measure five points and to err so."""
    shutil.copy(load().path, path)
    errors = errors.tolist() if isinstance(errors, np.ndarray) else errors
    more = {"point_ids": [468, 473, 4, 61, 291], "point_offsets_mm": [0, 0, 0], "point_errors_mm": errors}
    annotate(path, more)
    return load(str(path))


def test_another_network_may_say_the_identity(anna):
    """It sees the face as SphereFace aligns it; here that is cut out by hand, from the points of a whole fit."""
    network = load("identity")
    one = seen(astronaut(), second=second())[0]
    five = five_of_68(join([anna]).views[0].landmarks)
    crop = crop_of(astronaut(), similarity_2d(five, SPHEREFACE_FIVE), (112, 112))
    by_hand = network(crop[None])["identity"][0]
    assert np.corrcoef(one.identity, by_hand)[0, 1] > 0.95
    assert np.corrcoef(one.identity, anna.identity)[0, 1] < 0.9


def test_a_larger_photo_of_the_same_face_says_the_same(anna):
    large = seen(cv2.resize(astronaut(), None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC))[0]
    assert_same_face(anna, replace(large, landmarks=large.landmarks / 2), 0.04)
    np.testing.assert_allclose(large.camera.scale / anna.camera.scale, 2, rtol=0.05)
    np.testing.assert_allclose(np.median(large.sigma) / np.median(anna.sigma), 2, rtol=0.25)


def test_a_blurred_photo_has_less_quality(anna):
    blurred = seen(cv2.GaussianBlur(astronaut(), None, 5), min_score=0.05)[0]
    assert blurred.quality < anna.quality
    assert np.median(blurred.sigma) > np.median(anna.sigma)


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_turning_the_photo_turns_the_camera_and_nothing_else(anna, monkeypatch, quarters):
    """The detector is told where to look: how far it sees turned faces is its own test's business."""
    pixels = np.ascontiguousarray(np.rot90(astronaut(), quarters))
    height, width = astronaut().shape[:2]
    turn = {
        1: np.array([[0.0, 1, 0], [-1, 0, width]]), 2: np.array([[-1.0, 0, width], [0, -1, height]]),
        3: np.array([[0.0, -1, height], [1, 0, 0]]),
    }[quarters]  # fmt: skip
    found = detect(astronaut())
    boxes = np.sort(apply_affine(turn, found.boxes.reshape(-1, 2)).reshape(-1, 2, 2), axis=1).reshape(-1, 4)
    points = apply_affine(turn, found.points.reshape(-1, 2)).reshape(-1, 5, 2)
    monkeypatch.setattr(module, "detect", lambda *_, **__: Faces(boxes, points, found.scores))
    turned = seen(pixels)[0]
    extent = np.ptp(anna.landmarks, axis=0).max()
    assert np.abs(turned.landmarks - apply_affine(turn, anna.landmarks)).max() < 0.03 * extent
    np.testing.assert_allclose(turned.identity, anna.identity, atol=0.15)
    np.testing.assert_allclose(turned.expression, anna.expression, atol=0.1)
    roll = [float(np.degrees(euler_from_rotation(one.camera.rotation)[2])) for one in (anna, turned)]
    assert abs((roll[1] - roll[0] + 90 * quarters + 180) % 360 - 180) < 3


# ── files ──────────────────────────────────────────────────────────────────────────────────────────────────


def heic(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(pixels)).save(out, quality=92)
    return out.getvalue()


def image_bytes(image: Image.Image, kind: str, **options) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def turned_by_exif() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return image_bytes(Image.fromarray(np.ascontiguousarray(np.rot90(astronaut()))), "PNG", exif=exif)


WAYS = {
    "png": lambda: encoded(astronaut()),
    "jpeg": lambda: encoded(astronaut(), "JPEG", quality=92),
    "webp": lambda: encoded(astronaut(), "WebP", quality=92),
    "tiff": lambda: encoded(astronaut(), "TIFF"),
    "gif": lambda: encoded(astronaut(), "GIF"),
    "heic": lambda: heic(astronaut()),
    "turned by EXIF": turned_by_exif,
    "alpha": lambda: encoded(np.dstack([astronaut(), np.full(astronaut().shape[:2], 255, np.uint8)])),
    "grey": lambda: image_bytes(Image.fromarray(astronaut()).convert("L"), "PNG"),
    "16 bit": lambda: cv2.imencode(".png", astronaut()[..., ::-1].astype(np.uint16) * 257)[1].tobytes(),
    "CMYK": lambda: image_bytes(Image.fromarray(astronaut()).convert("CMYK"), "JPEG", quality=92),
    "float": lambda: astronaut() / 255,
}


@pytest.mark.parametrize("way", WAYS)
def test_a_face_is_seen_in_every_kind_of_file(anna, way):
    found = seen(WAYS[way]())
    assert len(found) == 1
    assert found[0].size == anna.size
    assert_same_face(anna, found[0], 1e-6 if way in ("png", "tiff", "turned by EXIF", "alpha", "16 bit") else 0.05)


def test_a_face_is_seen_in_24_million_pixels(anna):
    pixels = np.full((6000, 4000, 3), 128, np.uint8)
    head = cv2.resize(astronaut(), None, fx=10, fy=10, interpolation=cv2.INTER_CUBIC)
    pixels[1000:3600, 700:3100] = head
    found = seen(encoded(pixels, "JPEG", quality=90))[0]
    assert found.size == (4000, 6000)
    assert_same_face(anna, replace(found, landmarks=(found.landmarks - [700, 1000]) / 10), 0.05)
    assert max(found.picture.shape) <= module.PICTURE_SIDE


# ── no face, many faces ────────────────────────────────────────────────────────────────────────────────────


def test_the_largest_face_comes_first():
    left, right = 240, 340
    found = seen(two_people())
    assert len(found) == 2
    assert found[0].landmarks[:, 0].min() > left > found[1].landmarks[:, 0].max()
    assert found[0].size == found[1].size == (left + right, 340)


def test_a_crowd_goes_through_the_network_a_few_faces_at_a_time(monkeypatch):
    together = seen(two_people())
    monkeypatch.setattr(module, "AT_ONCE", 1)
    for one, other in zip(seen(two_people()), together, strict=True):
        assert_same_face(one, other, 1e-3)


def test_a_photo_without_a_face_says_its_name_and_size():
    for pixels in (scenery(), np.zeros((16, 16, 3), np.uint8), scenery(20_000, 64), scenery(17, 3000)):
        size = f"{pixels.shape[1]}×{pixels.shape[0]}"
        with pytest.raises(NoFaceFound, match=rf"no face in photo \({size}\); .*(lower min_score|Crop closer)"):
            seen(pixels)


def test_a_face_below_the_least_score_says_what_it_scored():
    with pytest.raises(NoFaceFound, match=r"scored 0\.\d\d, below 1\.00.*lower min_score"):
        seen(astronaut(), min_score=1.0)


def test_a_tiny_face_is_too_little_to_measure(monkeypatch):
    found = detect(astronaut())
    tiny = Faces(found.boxes * 0.1, found.points * 0.1, found.scores)
    monkeypatch.setattr(module, "detect", lambda *_, **__: tiny)
    with pytest.raises(NoFaceFound, match=r"the largest found is \d+ px, below 20. Crop closer or enlarge it"):
        seen(scenery())


# ── the picture that is kept ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("low", "high"),
    [((300, 200), (420, 330)), ((-60, 30), (150, 260)), ((1190, 850), (1330, 1000)), ((101, 52), (1003, 848))],
)
def test_the_picture_lies_where_to_picture_says_to_half_a_pixel(low, high):
    """In a photo whose colours are the coordinates."""
    height, width = 900, 1250
    y, x = np.mgrid[0:height, 0:width] + 0.5
    pixels = np.stack([255 * x / width, 255 * y / height, 0 * x], -1).round().astype(np.uint8)
    picture, affine = module.picture_around(pixels, np.array([low, high], np.float64))
    rows, columns = picture.shape[:2]
    assert max(rows, columns) <= module.PICTURE_SIDE
    v, u = np.mgrid[0:rows, 0:columns] + 0.5
    back = apply_affine(inverse_affine(affine), np.stack([u, v], -1).reshape(-1, 2)).reshape(rows, columns, 2)
    shown = picture[..., :2] / 255 * [width, height]
    error = (shown - back) * affine[0, 0]
    step = affine[0, 0] * np.array([width, height]) / 255  # a level of grey is so many picture px
    assert np.abs(error).max() < 1.0 + step.max()
    assert np.abs(error[2:-2, 2:-2].mean((0, 1))).max() < 0.1
    middle = apply_affine(affine, np.array([np.clip(np.add(low, high) / 2, 0, [width, height])]))[0]
    assert (middle >= -1).all()
    assert (middle <= [columns + 1, rows + 1]).all()


def test_a_picture_does_not_keep_its_photo_alive(anna):
    photo = Photo(astronaut().copy(), "photo")
    assert observe(photo, load())[0].picture.base is None
    assert not np.shares_memory(observe(photo, load())[0].picture, photo.pixels)


def test_a_real_photo_in_colour_and_small_is_seen():
    with Image.open(GRACE) as image:
        small = np.asarray(image.resize((image.width // 3, image.height // 3)))
    assert len(seen(small)) == 1
