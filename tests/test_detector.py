"""The detector's recipe: its pictures, its choice of cells, its losses."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sameface.training.datasets import scenes
from sameface.training.methods import detector
from sameface.training.methods.detector import FACE, LEFT_OUT, NOTHING, Config, Method


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> scenes.Scenes:
    folder = tmp_path_factory.mktemp("scenes")
    scenes.sample(folder)
    return scenes.load(folder, "train")


@pytest.fixture(scope="module")
def method() -> Method:
    torch.manual_seed(0)
    return Method(Config(size=96))


def random_boxes(rng: np.random.Generator, count: int, size: float = 96) -> torch.Tensor:
    corner, side = rng.uniform(0, size * 0.8, (count, 2)), rng.uniform(4, size / 2, (count, 2))
    return torch.tensor(np.concatenate([corner, corner + side], 1), dtype=torch.float32)


def cells() -> tuple[torch.Tensor, torch.Tensor]:
    grids = [detector.grid(96 // stride, 96 // stride, stride, torch.device("cpu")) for stride in detector.STRIDES]
    return torch.cat([middles for middles, _ in grids]), torch.cat([stride for _, stride in grids])


def test_pictures_and_labels_follow_from_the_generator(method, data):
    first, second, other = (method.sample(data, 0, np.random.default_rng(s), True) for s in (1, 1, 2))
    for name in ("images", "boxes", "points", "kinds"):
        np.testing.assert_array_equal(first[name], second[name])
    assert (first["images"] != other["images"]).any()


@pytest.mark.parametrize("train", [False, True])
def test_points_stay_on_the_eyes_of_the_picture(method, data, train):
    """The cartoons' eyes are dark on bright skin, so a label that slips is seen."""
    dark = []
    for seed in range(40):
        item = method.sample(data, 0, np.random.default_rng(seed), train)
        assert item["images"].shape == (96, 96, 3)
        for box, points in zip(
            item["boxes"][item["kinds"] == FACE], item["points"][item["kinds"] == FACE], strict=True
        ):
            if (box[2:] - box[:2]).max() > 40 and (points > 1).all() and (points < 95).all():
                x, y = points[:2].astype(int).T
                dark.append(item["images"][y, x].mean() < 130)
                assert points[0, 0] < points[1, 0]  # the subject's right eye, mirrored or not
    assert len(dark) > 10
    assert np.mean(dark) > 0.9


def test_mirroring_swaps_right_and_left(data):
    cell, right_first = np.array([96, 96]), []
    for seed in range(20):
        _, _, points, kinds = detector.place_photo(data[0], cell, np.random.default_rng(seed), False)
        right_first += (points[kinds != NOTHING][:, 0, 0] < points[kinds != NOTHING][:, 1, 0]).tolist()
    assert right_first
    assert all(right_first)


def test_what_is_cut_or_tiny_is_left_out(data):
    kinds = []
    for seed in range(200):
        _, boxes, _, kind = detector.place_photo(data[0], np.array([64, 64]), np.random.default_rng(seed), False)
        cut = np.clip(boxes, 0, 64)
        seen = (cut[:, 2:] - cut[:, :2]).prod(1) / (boxes[:, 2:] - boxes[:, :2]).prod(1).clip(1e-6)
        assert (seen[kind == FACE] >= 0.5).all()
        kinds += kind.tolist()
    assert {FACE, LEFT_OUT} <= set(kinds)


def test_overlap_against_counting_pixels():
    rng = np.random.default_rng(0)
    for _ in range(20):
        a, b = (np.concatenate([p, p + rng.integers(1, 20, 2)]) for p in rng.integers(0, 20, (2, 2)))
        masks = np.zeros((2, 40, 40), bool)
        for mask, (x0, y0, x1, y1) in zip(masks, (a, b), strict=True):
            mask[y0:y1, x0:x1] = True
        expected = (masks[0] & masks[1]).sum() / (masks[0] | masks[1]).sum()
        found = detector.overlap(torch.tensor(a).float(), torch.tensor(b).float())
        assert found.item() == pytest.approx(expected)


def test_distance_iou_by_hand_and_its_gradient():
    a, b = torch.tensor([[0.0, 0, 2, 2]]), torch.tensor([[1.0, 0, 3, 2]])
    assert detector.distance_iou(a, b).item() == pytest.approx(2 / 6 - 1 / (9 + 4))
    assert detector.distance_iou(a, a).item() == pytest.approx(1)
    pair = [torch.tensor([[0.0, 1, 5, 7], [2, 2, 4, 9]], dtype=torch.float64, requires_grad=True)]
    pair.append((pair[0] + 0.7).detach().requires_grad_())
    assert torch.autograd.gradcheck(lambda p, q: detector.distance_iou(p, q), pair)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(0, 12))
def test_a_cell_learns_one_face_and_a_face_few_cells(seed, count):
    rng = np.random.default_rng(seed)
    place, stride = cells()
    boxes = random_boxes(rng, 2 * len(place)).reshape(2, len(place), 4)
    wanted, image = random_boxes(rng, count), torch.tensor(rng.integers(0, 2, count))
    scores = torch.rand(2, len(place), generator=torch.Generator().manual_seed(seed % 2**31))
    target = detector.assign(scores, boxes, image, wanted, place, stride[:, 0], 5)
    assert target.shape == (count, len(place))
    assert ((target >= 0) & (target <= 1)).all()
    assert ((target > 0).sum(1) <= 5).all()
    for i in (0, 1):
        learned = target[image == i] > 0
        fits = detector.overlap(boxes[i], wanted[image == i][:, None]) * learned
        assert (fits[:, learned.sum(0) > 1] == 0).all()  # only cells that fit nobody yet may be shared


def test_the_smallest_face_has_a_cell(method):
    place, stride = cells()
    for x in range(8, 88, 3):
        wanted = torch.tensor([[x - 3.0, 37, x + 3, 43]])
        target = detector.assign(
            torch.full((1, len(place)), 0.1),
            torch.zeros(1, len(place), 4),
            torch.zeros(1, dtype=torch.long),
            wanted,
            place,
            stride[:, 0],
            5,
        )
        assert (target > 0).any()


def test_cells_of_faces_left_out_are_neither_face_nor_background(method):
    images = torch.rand(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    batch = {
        "images": images,
        "boxes": torch.tensor([[[20.0, 20, 70, 70]]]),
        "points": torch.full((1, 1, 5, 2), 40.0),
    }
    with torch.no_grad():
        output = method.eval()(images)
        scores = [method.losses(batch | {"kinds": torch.tensor([[k]])}, output)["score"] for k in (LEFT_OUT, NOTHING)]
        none = method.losses(batch | {"kinds": torch.tensor([[NOTHING]])}, output)
    assert scores[0] < scores[1]
    assert none["box"] == none["points"] == 0


def test_perfect_answers_cost_nothing(method):
    place, stride = cells()
    box, points = torch.tensor([20.0, 24, 60, 70]), torch.rand(5, 2) * 96
    inside = detector.assign(
        torch.ones(1, len(place)),
        box.expand(1, len(place), 4),
        torch.zeros(1, dtype=torch.long),
        box[None],
        place,
        stride[:, 0],
        method.config.cells,
    )[0]
    output = {
        "logits": torch.where(inside > 0, 20.0, -20.0)[None],
        "boxes": box.expand(1, len(place), 4),
        "points": points.expand(1, len(place), 5, 2),
    }
    batch = {
        "images": torch.zeros(1, 3, 96, 96),
        "boxes": box[None, None],
        "points": points[None, None],
        "kinds": torch.tensor([[FACE]]),
    }
    losses = method.losses(batch, output)
    assert {name: round(loss.item(), 4) for name, loss in losses.items()} == {"score": 0, "box": 0, "points": 0}


def test_every_weight_learns_and_the_loss_falls(data):
    torch.manual_seed(0)
    method = Method(Config(size=64, widths=(8, 8, 16, 16, 16), neck=16, lr=5e-3))
    optimizer = method.optimizer()
    items = [method.sample(data, i, np.random.default_rng(i), True) for i in range(4)]
    batch = {name: torch.from_numpy(np.stack([item[name] for item in items])) for name in items[0]}
    batch["images"] = batch["images"].movedim(-1, 1).float() / 255
    curve = []
    for _ in range(20):
        losses = method.losses(batch, method(batch["images"]))
        optimizer.zero_grad()
        sum(losses.values()).backward()
        for name, weight in method.named_parameters():
            assert weight.grad is not None, name
            assert weight.grad.isfinite().all(), name
        optimizer.step()
        curve.append(sum(losses.values()).item())
    assert curve[-1] < 0.7 * curve[0]


def test_the_schedule_rises_then_falls_to_nothing(method):
    values = [method.schedule(p) for p in np.linspace(0, 1, 101)]
    assert 0 < values[0] < 0.02
    assert max(values) > 0.98
    assert values[-1] == pytest.approx(0, abs=1e-6)
