"""The second look at the eyes: where it looks, what it replaces, and that left and right are treated alike."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from faces import astronaut
from sameface.core.geometry import apply_affine, inverse_affine, rotation_from_euler
from sameface.morphable import default
from sameface.photo.eyes import BLINKS, EYES, SIDE, eye_affine, facing, look_again
from sameface.photo.face import Photo
from sameface.photo.observe import observe
from sameface.photo.predictor import Predictor, Second, load
from sameface.training.dense_points import POINT_IDS
from sameface.training.methods.eyes import OPEN, SHUT, Config, Method

NAMES = list(default().expression_names)
FRONTAL = np.diag([1.0, -1, -1])


def flat(width: float) -> np.ndarray:
    """x ↦ width − x."""
    return np.array([[-1.0, 0, width], [0, 1, 0]])


def after(second: np.ndarray, first: np.ndarray) -> np.ndarray:
    """The affine that does `first`, then `second`."""
    return second @ np.vstack([first, [0, 0, 1]])


# ── where it looks ─────────────────────────────────────────────────────────────────────────────────────────


def test_the_square_by_hand():
    """A crop that is the photo: the square's side is SIDE of it, its middle between the corners."""
    face, corners = np.array([[1.0, 0, 0], [0, 1, 0]]), np.array([[30.0, 40], [50, 44]])
    side = 100 * SIDE
    right = eye_affine(face, 100, corners, left=False, side=54)
    left = eye_affine(face, 100, corners, left=True, side=54)
    points = np.array([[40, 42], [40 + side / 2, 42 - side / 2]])
    np.testing.assert_allclose(apply_affine(right, points), [[27, 27], [54, 0]], atol=1e-12)
    np.testing.assert_allclose(apply_affine(left, points), [[27, 27], [0, 0]], atol=1e-12)


@given(seed=st.integers(0, 2**32 - 1))
def test_the_left_eye_of_a_photo_is_the_right_eye_of_its_mirror_image(seed):
    rng = np.random.default_rng(seed)
    turn, zoom = rng.uniform(-np.pi, np.pi), rng.uniform(0.2, 3)
    linear = zoom * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    face, corners, mirror = np.column_stack([linear, rng.normal(0, 50, 2)]), rng.uniform(0, 300, (2, 2)), flat(300)
    there = after(flat(96), after(face, mirror))
    left = eye_affine(face, 96, corners, left=True, side=48)
    right = eye_affine(there, 96, apply_affine(flat(96), corners), left=False, side=48)
    np.testing.assert_allclose(left, after(right, mirror), atol=1e-9)


def test_eyes_that_are_turned_away_are_not_looked_at():
    yaw = np.radians([0, 40, 90, -90])
    turned = rotation_from_euler(np.zeros(4), yaw, np.zeros(4))
    seen = facing(turned)
    assert seen[:2].all()
    assert seen[2].sum() == seen[3].sum() == 1
    np.testing.assert_array_equal(seen[2], seen[3][::-1])
    upwards = rotation_from_euler(np.radians([100.0]), np.zeros(1), np.zeros(1))
    assert not facing(upwards).any()


# ── what it replaces ───────────────────────────────────────────────────────────────────────────────────────


class Stub(Predictor):
    """Stands for a network that says the same of every picture, and remembers them."""

    def __init__(self, size: int, answer: dict[str, np.ndarray]):
        self.__dict__.update(
            description={"point_ids": POINT_IDS, "crop": {"size": size}}, answer=answer, asked=[]
        )  # a frozen record, but what is cached may be written

    def __call__(self, crops: np.ndarray) -> dict[str, np.ndarray]:
        self.__dict__["asked"].append(crops)
        return {name: np.repeat(value[None], len(crops), axis=0) for name, value in self.__dict__["answer"].items()}


def said(rotation: np.ndarray) -> dict[str, np.ndarray]:
    """Of one face: dense points somewhere, no expression."""
    rng = np.random.default_rng(0)
    landmarks = rng.uniform(-0.3, 0.3, (1, len(POINT_IDS), 2)).astype(np.float32)
    for k, x in enumerate((-0.15, 0.15)):  # the subject's right eye is on the picture's left
        outer, inner = (POINT_IDS.index(i) for i in EYES[k][:2])
        landmarks[0, outer], landmarks[0, inner] = (x + (-0.07 if k == 0 else 0.07), -0.1), (x, -0.1)
    error = np.full((1, len(POINT_IDS)), 0.02, np.float32)
    return {"landmarks": landmarks, "landmark_error": error, "expression": np.zeros((1, 51), np.float32),
            "rotation": rotation[None]}  # fmt: skip


def eyes_stub() -> Stub:
    points = np.random.default_rng(1).uniform(-0.4, 0.4, (len(EYES[0]), 2)).astype(np.float32)
    return Stub(
        48, {"points": points, "error": np.full(len(points), 0.1, np.float32), "blink": np.array(0.75, np.float32)}
    )


def test_what_is_seen_of_the_eyes_stands_where_it_belongs():
    """The crop is the photo, so a point at q in an eye's square is SIDE · q from the middle of the corners."""
    before, stub, net = said(FRONTAL), eyes_stub(), Stub(200, {})
    pixels = np.random.default_rng(2).integers(0, 255, (200, 200, 3), dtype=np.uint8)
    face = np.array([[[1.0, 0, 0], [0, 1, 0]]])
    found = look_again(pixels, face, before, net, stub)
    asked, points = stub.__dict__["asked"], stub.__dict__["answer"]["points"]
    assert len(asked) == 1
    assert asked[0].shape == (2, 48, 48, 3)
    for k in (0, 1):
        where = [POINT_IDS.index(i) for i in EYES[k]]
        middle = before["landmarks"][0, where[:2]].mean(0)
        expected = middle + SIDE * points * ([-1, 1] if k else [1, 1])
        np.testing.assert_allclose(found["landmarks"][0, where], expected, atol=1e-6)
        np.testing.assert_allclose(found["landmark_error"][0, where], 0.1 * SIDE, rtol=1e-6)
        assert found["expression"][0, NAMES.index(BLINKS[k])] == 0.75
    others = np.setdiff1d(np.arange(len(POINT_IDS)), [POINT_IDS.index(i) for eye in EYES for i in eye])
    np.testing.assert_array_equal(found["landmarks"][0, others], before["landmarks"][0, others])
    assert np.count_nonzero(found["expression"]) == 2
    assert not before["expression"].any()  # what was given stays as it was


def test_in_profile_only_the_eye_that_can_be_seen_changes():
    for yaw in (90.0, -90.0):
        turned = rotation_from_euler(np.zeros(1), np.radians([yaw]), np.zeros(1))[0]
        found = look_again(np.zeros((200, 200, 3), np.uint8), np.array([[[1.0, 0, 0], [0, 1, 0]]]), said(turned),
                           Stub(200, {}), eyes_stub())  # fmt: skip
        blinks = [found["expression"][0, NAMES.index(name)] > 0 for name in BLINKS]
        np.testing.assert_array_equal(blinks, facing(turned[None])[0])
    away = rotation_from_euler(np.radians([100.0]), np.zeros(1), np.zeros(1))
    stub = eyes_stub()
    look_again(np.zeros((9, 9, 3), np.uint8), np.zeros((1, 2, 3)), said(away[0]), Stub(9, {}), stub)
    assert not stub.__dict__["asked"]


def test_a_mirrored_photo_has_its_eyes_mirrored():
    """The network that ships, on a face: what it says of the left eye it says of the right one of the mirror image."""
    pixels, net, eyes = astronaut(), load(), load("eyes")
    (seen,) = observe(Photo(pixels, "anna"), net)
    ids = list(net.description["point_ids"])
    swap = np.arange(len(ids))
    for a, b in zip(*EYES, strict=True):
        swap[ids.index(a)], swap[ids.index(b)] = ids.index(b), ids.index(a)
    width, size = pixels.shape[1], net.size
    zoom = size / (1.4 * np.ptp(seen.landmarks, axis=0).max())
    face = np.column_stack([zoom * np.eye(2), size / 2 - zoom * seen.landmarks.mean(0)])
    crop = (apply_affine(face, seen.landmarks) / size - 0.5).astype(np.float32)[None]
    there = after(flat(size), after(face, flat(width)))
    mirrored = crop[:, swap] * np.array([-1, 1], np.float32)
    rest = {"landmark_error": np.full((1, len(ids)), 0.02, np.float32), "expression": np.zeros((1, 51), np.float32),
            "rotation": FRONTAL[None]}  # fmt: skip
    one = look_again(pixels, face[None], {"landmarks": crop, **rest}, net, eyes)
    other = look_again(np.ascontiguousarray(pixels[:, ::-1]), there[None], {"landmarks": mirrored, **rest}, net, eyes)
    blinks = [NAMES.index(name) for name in BLINKS]
    np.testing.assert_allclose(one["expression"][0, blinks], other["expression"][0, blinks[::-1]], atol=0.02)
    np.testing.assert_allclose(one["landmarks"][:, swap] * [-1, 1], other["landmarks"], atol=2e-3)


def test_a_photo_with_open_eyes_says_so_and_its_points_stay_near():
    photo = Photo(astronaut(), "anna")
    (plain,), (again,) = observe(photo, load()), observe(photo, load(), second=Second(None, load("eyes")))
    assert (again.expression[[NAMES.index(name) for name in BLINKS]] < 0.3).all()
    extent = np.ptp(plain.landmarks, axis=0).max()
    apart = np.linalg.norm(again.landmarks - plain.landmarks, axis=1)
    where = [list(load().description["point_ids"]).index(i) for eye in EYES for i in eye]
    assert 0 < apart[where].max() < 0.06 * extent
    assert not np.delete(apart, where).any()
    assert np.median(again.sigma[where]) < np.median(plain.sigma[where])


# ── the recipe ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def method() -> Method:
    torch.manual_seed(0)
    return Method(Config(size=48, widths=(8, 8), blocks=(1, 1), features=8, batch=2, steps=2))


def item(k: int | None = None) -> dict[str, Any]:
    """A row with noise for a picture; of its hand-placed lids one eye is half shut."""
    rng = np.random.default_rng(0)
    hand = np.full((68, 2), np.nan, np.float32)
    if k is not None:
        hand[:] = 0
        for eye, lids in enumerate(([(36, 39), (37, 41), (38, 40)], [(45, 42), (44, 46), (43, 47)])):
            gap = 0.5 * (SHUT + OPEN) if eye == k else 0.4
            hand[lids[0][0]], hand[lids[0][1]] = (0, 0), (100, 0)
            for upper, lower in lids[1:]:
                hand[upper], hand[lower] = (50, 0), (50, 100 * gap)
    landmarks = (80 + 160 * said(FRONTAL)["landmarks"][0]).astype(np.float32)
    for number, x, y in ((468, 50, 64), (473, 110, 64), (4, 80, 90), (61, 65, 110), (291, 95, 110)):
        landmarks[POINT_IDS.index(number)] = x, y
    blendshapes = np.zeros(51, np.float32)
    blendshapes[[NAMES.index(name) for name in BLINKS]] = 0.25, 0.875
    return {"image": rng.integers(0, 255, (160, 160, 3), dtype=np.uint8), "landmarks": landmarks,
            "weight": np.ones(len(POINT_IDS), np.float32), "landmarks68": hand, "blendshapes": blendshapes}  # fmt: skip


def test_how_far_an_eye_is_shut_is_read_off_hand_placed_lids_else_told_by_the_row(method):
    assert [method.blink(item(), k) for k in (0, 1)] == [0.25, 0.875]
    for shut in (0, 1):
        np.testing.assert_allclose([method.blink(item(shut), k) for k in (0, 1)], [0.5 * (k == shut) for k in (0, 1)],
                                   atol=1e-6)  # fmt: skip


def test_the_mirror_image_of_a_row_gives_the_same_squares_with_the_eyes_exchanged(method):
    row = item()
    width, swap = 160, np.arange(len(POINT_IDS))
    for a, b in [*zip(*EYES, strict=True), (61, 291)]:
        swap[POINT_IDS.index(a)], swap[POINT_IDS.index(b)] = POINT_IDS.index(b), POINT_IDS.index(a)
    blinks = [NAMES.index(name) for name in BLINKS]
    other = row | {"image": np.ascontiguousarray(row["image"][:, ::-1]), "blendshapes": row["blendshapes"].copy(),
                   "landmarks": (apply_affine(flat(width), row["landmarks"])[swap]).astype(np.float32)}  # fmt: skip
    other["blendshapes"][blinks] = row["blendshapes"][blinks[::-1]]
    rng = np.random.default_rng(0)
    for k in (0, 1):
        one = method.sample([row, row], k, rng, False)
        mirror = method.sample([other, other], 1 - k, rng, False)
        assert one["blink"] == mirror["blink"]
        np.testing.assert_allclose(one["points"], mirror["points"], atol=1e-5)
        apart = np.abs(one["images"].astype(int) - mirror["images"].astype(int))
        assert np.median(apart) <= 1  # a bilinear sample of noise differs by a last bit of its place
        assert np.corrcoef(one["images"].ravel(), mirror["images"].ravel())[0, 1] > 0.99


def test_points_of_a_square_lie_on_their_pixels(method):
    """The middle of the corners is the middle of the square; x of the left eye runs the other way."""
    row, rng = item(), np.random.default_rng(0)
    for k in (0, 1):
        one = method.sample([row, row], k, rng, False)
        np.testing.assert_allclose(one["points"][:2].mean(0), 0, atol=1e-6)
        assert one["points"][0, 0] < 0 < one["points"][1, 0]  # the outer corner is on the left


def test_losses_by_hand(method):
    output = {"blink": torch.tensor([0.5, 0.25]), "points": torch.zeros(2, 11, 2), "error": torch.ones(2, 11)}
    batch = {"blink": torch.tensor([1.0, float("nan")]), "points": torch.zeros(2, 11, 2), "weight": torch.zeros(2, 11)}
    batch["points"][0, 3], batch["weight"][0, 3], batch["weight"][1] = torch.tensor([3.0, 4.0]), 1.0, 0.0
    terms = method.losses(batch, output)
    config = method.config
    assert terms["blink"].item() == pytest.approx(config.blink_weight * config.shut_weight * np.log(2) / 2)
    assert terms["points"].item() == pytest.approx((5 + 8) / 22, rel=1e-5)


def test_brightness_and_contrast_of_a_square_do_not_matter(method):
    network, square = method.eval(), torch.rand(2, 3, 48, 48)
    with torch.no_grad():
        bright, dark = network(square), network(0.3 * square + 0.1)
    torch.testing.assert_close(bright["points"], dark["points"], atol=0.02, rtol=0)


def test_an_affine_undone():
    affine = np.array([[2.0, 1, 5], [0, 4, -3]])
    np.testing.assert_allclose(after(inverse_affine(affine), affine), [[1, 0, 0], [0, 1, 0]], atol=1e-12)
