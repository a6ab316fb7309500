"""The focal length of a photo: every form in which a file tells it, every lie, and what people say instead."""

import io
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sameface.photo.image import read
from sameface.photo.lens import _CAMERAS, DIAGONAL_35MM, Lens, focal_in_px, from_exif

MAKE, MODEL, ORIENTATION = 0x010F, 0x0110, 0x0112
FOCAL, FOCAL_35, ZOOM, WIDTH, HEIGHT = 0x920A, 0xA405, 0xA404, 0xA002, 0xA003
PLANE, UNIT = 0xA20E, 0xA210
SIZE = 4000, 3000  # 5000 px diagonal
OF_35MM = 5000 / DIAGONAL_35MM
"""px of a focal length of 1 mm (35 mm equivalent) in a photo of that size"""


def focal(block, main=None, size=SIZE) -> float | None:
    return from_exif(main or {}, block, *size).focal


# ── what files tell ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("size", [(4000, 3000), (3000, 4000), (1000, 750), (640, 480)])
def test_the_35_mm_equivalent_compares_diagonals(size):
    """By hand: 43.27 mm of film are the diagonal, so a lens of 43.27 mm sees it from its own length away."""
    told = {FOCAL_35: 26, WIDTH: 4000, HEIGHT: 3000}
    assert focal(told, size=size) == pytest.approx(26 * math.hypot(*size) / 43.2666, rel=1e-5)


@pytest.mark.parametrize(
    ("unit", "per_unit"), [(2, 25.4 * 160), (3, 1600.0), (4, 160.0), (5, 0.16), (None, 25.4 * 160)]
)
def test_the_sensors_pitch_in_every_unit(unit, per_unit):
    """160 px/mm: 4000 px on 25 mm; a lens of 50 mm is 8000 px, and half of it in a photo of half the size."""
    told = {FOCAL: 50.0, PLANE: per_unit, WIDTH: 4000, HEIGHT: 3000} | ({} if unit is None else {UNIT: unit})
    assert focal(told) == pytest.approx(8000)
    assert focal(told, size=(2000, 1500)) == pytest.approx(4000)
    assert focal(told, size=(1500, 2000)) == pytest.approx(4000)  # turned since
    assert focal({key: value for key, value in told.items() if key not in (WIDTH, HEIGHT)}) is None


@pytest.mark.parametrize(
    ("model", "millimetres", "equivalent"),
    [
        ("Canon EOS 5D Mark II", 85, 85), ("Canon EOS R6m2", 50, None), ("Canon EOS REBEL T3i", 50, 80.5),
        ("Canon EOS 600D", 50, 80.5), ("Canon EOS 6D", 50, 50), ("Canon EOS M50", 32, 51.5), ("Canon EOS R7", 50, 80.5),
        ("NIKON D700", 85, 85), ("NIKON D90", 50, 76), ("NIKON D70s", 50, 76), ("NIKON D7500", 50, 76),
        ("NIKON D850", 50, 50), ("NIKON Z 6_2", 50, 50), ("NIKON Z fc", 50, 76), ("NIKON D300S", 50, 76),
        ("ILCE-7M3", 50, 50), ("ILCE-6000", 50, 76.5), ("NEX-5N", 50, 76.5), ("DSLR-A900", 50, 50),
        ("DSC-RX100M3", 8.8, 24), ("DSC-RX10M4", 8.8, 24), ("DSC-RX1R", 35, 35), ("DMC-GH4", 25, 50), ("E-M5", 25, 50),
        ("X-T2", 35, 53.5), ("FinePix X100", 23, 35), ("PENTAX K-5 II s", 50, 76.5), ("PENTAX K-1 Mark II", 50, 50),
        ("iPhone 6", 4.15, 29), ("iPhone 7", 3.99, 28), ("iPhone XR", 4.25, 26), ("SM-G900F", 4.8, 31),
        ("GT-I9505", 4.2, 31), ("Nexus 5X", 4.67, 26), ("Pixel 3", 4.44, 27), ("HTC One", 3.82, 27),
        ("iPhone 6", 2.65, None), ("a camera that nobody knows", 50, None), ("", 50, None), ("NIKON D700x", 50, None),
    ],
)  # fmt: skip
def test_known_cameras_give_the_equivalents_that_their_makers_print(model, millimetres, equivalent):
    """A phone's lens of another length is its other camera, whose sensor nobody knows."""
    size = (4500, 3000) if equivalent and millimetres > 8 and not model.startswith(("DMC", "E-M")) else SIZE
    size = (5312, 2988) if model.startswith(("SM-G900", "HTC")) else size
    found = focal({FOCAL: millimetres}, {MODEL: model + "\0 "}, size)
    if equivalent is None:
        assert found is None
    else:
        assert found * DIAGONAL_35MM / math.hypot(*size) == pytest.approx(equivalent, rel=0.04)


def test_every_sensor_of_the_table_is_one():
    for _, lens, width, height in _CAMERAS:
        assert 1.3 < width / height < 1.8
        assert 3 < width < 44
        assert lens is None or 22 < lens * DIAGONAL_35MM / math.hypot(width, height) < 38


def test_a_sensor_of_another_shape_shows_all_of_its_longer_or_all_of_its_shorter_side():
    """23.6 × 15.7 mm: a 16:9 photo keeps the width, a 4:3 photo the height."""
    assert focal({FOCAL: 50}, {MODEL: "NIKON D90"}, (4288, 2412)) == pytest.approx(50 * 4288 / 23.6)
    assert focal({FOCAL: 50}, {MODEL: "NIKON D90"}, (3797, 2848)) == pytest.approx(50 * 2848 / 15.7)


@pytest.mark.parametrize(
    ("main", "told", "equivalent"),
    [
        ({MAKE: "Apple"}, {FOCAL_35: 52}, 52),
        ({MAKE: "samsung"}, {FOCAL_35: 26}, 52),
        ({MAKE: "Apple", MODEL: "iPhone 7"}, {FOCAL_35: 28, FOCAL: 3.99}, 56),
        ({MAKE: "samsung", MODEL: "GT-I9505"}, {FOCAL_35: 62, FOCAL: 4.2}, 62),
        ({MODEL: "iPhone 7"}, {FOCAL: 3.99}, 56.1),
        ({}, {FOCAL: 10, PLANE: 1600, UNIT: 3, WIDTH: 4000, HEIGHT: 3000}, 1600 / OF_35MM),
    ],
    ids=["Apple's contains it", "others' do not", "not in this one", "in this one", "sensor known", "sensor's pitch"],
)  # fmt: skip
def test_a_digital_zoom_of_two_counts_once(main, told, equivalent):
    assert focal(told | {ZOOM: 2.0}, main) == pytest.approx(equivalent * OF_35MM, rel=2e-3)


@pytest.mark.parametrize("zoom", [0, 1, 0.5, float("nan"), 65535, "two", None, 1e9])
def test_a_zoom_that_is_none_changes_nothing(zoom):
    assert focal({FOCAL_35: 26, ZOOM: zoom}) == pytest.approx(26 * OF_35MM)


@pytest.mark.parametrize("wrong", [0, -26, 65535, float("nan"), float("inf"), "long", b"\0", None, (26, 1), ()])
def test_values_that_are_no_number_are_not_there_and_the_next_form_counts(wrong):
    assert focal({FOCAL_35: wrong}) is None
    assert focal({FOCAL: wrong}, {MODEL: "NIKON D90"}) is None
    assert focal({FOCAL_35: wrong, FOCAL: 50}, {MODEL: "NIKON D90"}) == pytest.approx(50 * 3000 / 15.7)
    assert focal({FOCAL: 50, PLANE: wrong, UNIT: 3, WIDTH: 4000, HEIGHT: 3000}) is None
    assert focal({FOCAL_35: 26, WIDTH: wrong, HEIGHT: wrong}) == pytest.approx(26 * OF_35MM)


@pytest.mark.parametrize("wrong", [1, 4, 9920, 54200])
def test_lengths_that_cannot_be_are_passed_over(wrong):
    """Cameras that wrote 35 mm equivalents of ten metres were sold."""
    assert focal({FOCAL_35: wrong}) is None
    assert focal({FOCAL_35: wrong, FOCAL: 50}, {MODEL: "NIKON D90"}) == pytest.approx(50 * 3000 / 15.7)
    assert focal({FOCAL: 3000}, {MODEL: "NIKON D90"}) is None
    assert focal({FOCAL: 50, PLANE: 100.0, UNIT: 5, WIDTH: 4000, HEIGHT: 3000}) is None


anything = st.one_of(
    st.none(), st.text(max_size=5), st.binary(max_size=5), st.integers(), st.floats(), st.tuples(st.integers())
)


@given(
    block=st.dictionaries(st.sampled_from([FOCAL, FOCAL_35, ZOOM, WIDTH, HEIGHT, PLANE, UNIT]), anything),
    main=st.dictionaries(st.sampled_from([MAKE, MODEL]), anything),
    size=st.tuples(st.integers(16, 9000), st.integers(16, 9000)),
)
def test_whatever_stands_in_a_file_gives_a_lens_that_can_be_or_none(block, main, size):
    found = from_exif(main, block, *size)
    assert found.focal is None or 5 <= found.focal * DIAGONAL_35MM / math.hypot(*size) <= 2000
    assert found.focal is None or not found.note


# ── crops ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("size", [(1200, 900), (900, 1200), (1500, 1000), (1600, 900), (1000, 669)])
def test_a_resized_photo_is_believed(size):
    long, short = max(size), min(size)
    assert from_exif({}, {FOCAL_35: 26, WIDTH: 3 * long, HEIGHT: 3 * short}, *size).focal is not None
    assert from_exif({}, {FOCAL_35: 26}, *size).focal is not None


def test_a_crop_that_kept_its_exif_is_not_believed_and_that_is_said():
    told = {FOCAL_35: 26, WIDTH: 4000, HEIGHT: 3000}
    assert from_exif({}, told, 1500, 1000) == Lens(
        None,
        "it has 1500×1000 px, but its camera took 4000×3000: it was cropped, so the focal length in its EXIF data was "
        "not used",
    )
    for size in ((1000, 1000), (3000, 1000), (1080, 1350)):
        found = from_exif({}, {FOCAL_35: 26}, *size)
        assert found.focal is None
        assert "the shape of no camera's photos" in found.note
    assert from_exif({}, {WIDTH: 4000, HEIGHT: 3000}, 1000, 1000) == Lens(None)  # nothing told, nothing to say


def test_the_focal_length_arrives_with_the_photo():
    exif = Image.Exif()
    exif[MAKE], exif[MODEL], exif[ORIENTATION] = "NIKON CORPORATION", "NIKON D90", 6
    exif.get_ifd(0x8769)[FOCAL] = 50.0
    for size, known in (((96, 64), True), ((96, 96), False)):
        out = io.BytesIO()
        Image.new("RGB", size).save(out, "JPEG", exif=exif)
        photo = read(out.getvalue())
        assert photo.size == size[::-1]
        assert photo.focal_from == "exif"
        assert (photo.focal is not None) == known == (not photo.notes)
    assert read(np.zeros((64, 96, 3), np.uint8)).focal is None


# ── what people tell ───────────────────────────────────────────────────────────────────────────────────────


def test_px_and_millimetres_by_hand():
    assert focal_in_px(1200.0, SIZE) == focal_in_px("1200px", SIZE) == focal_in_px(" 1.2e3 px ", (10, 10)) == 1200
    assert focal_in_px("50mm", SIZE) == focal_in_px("50 mm", SIZE[::-1]) == pytest.approx(50 * OF_35MM)


@pytest.mark.parametrize(
    "wrong",
    [
        0.0,
        -1.0,
        float("nan"),
        float("inf"),
        "50",
        "mm",
        "0mm",
        "-50mm",
        "nanpx",
        "infmm",
        "1e999px",
        "50 cm",
        "5e5e5mm",
        "",
    ],
)
def test_what_is_no_focal_length_is_refused(wrong):
    with pytest.raises(ValueError, match=r"focal is .*50mm.*1200px"):
        focal_in_px(wrong, SIZE)
