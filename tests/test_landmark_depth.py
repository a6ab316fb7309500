"""Zhao et al. 2016: losses against loops, gradients, crops and their boxes, the depth network's blindness, export."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sameface import morphable
from sameface.core.errors import BadData
from sameface.core.geometry import apply_affine
from sameface.training import train
from sameface.training.datasets import facetable
from sameface.training.methods import landmark_depth
from sameface.training.methods.landmark_depth import (
    IBUG_MIRRORED,
    KEPT,
    Config,
    Method,
    box_affine,
    depth_distance,
    faces_in_view,
    local_distance,
    occluded,
    pairs_distance,
    standardised,
    transformed,
)

SMALL = Config(size=32, channels=(4, 6, 8, 8), features=16, batch=4, steps=2, views=3)
SEEDS = st.integers(0, 2**32 - 1)


class Photos:
    """Rows of a grey photo with 68 random points, every third of which has none."""

    def __init__(self, count: int = 6, bare: int = 3):
        self.points = np.random.default_rng(0).uniform(30, 130, (count, 68, 2)).astype(np.float32)
        self.points[:: bare or count + 1] = np.nan

    def __len__(self) -> int:
        return len(self.points)

    def landmarks68(self, index: int) -> np.ndarray:
        return self.points[index]

    def __getitem__(self, index: int, /) -> dict[str, np.ndarray]:
        return {"image": np.full((160, 160, 3), 10 * index, np.uint8), "landmarks68": self.points[index]}


class Plain:
    """The same without a way to ask for the points alone."""

    def __init__(self, photos: Photos):
        self.photos = photos

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, index: int, /) -> dict[str, np.ndarray]:
        return self.photos[index]


@pytest.fixture(scope="module")
def method() -> Method:
    torch.manual_seed(0)
    return Method(SMALL)


@pytest.fixture
def batch(method) -> dict[str, torch.Tensor]:
    rng, data = np.random.default_rng(0), Photos()
    return train.collate([method.sample(data, k, rng, True) for k in range(4)], torch.device("cpu"))


@pytest.fixture
def points() -> np.ndarray:
    """A face of 68 points in a crop of 100 px."""
    model = morphable.default()
    return 50 + 0.4 * model.landmarks(model.mean)[:, :2].astype(np.float64) * [1, -1]


# ── losses ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_losses_by_hand():
    true = torch.tensor([[[0.0, 0.0], [0.3, 0.0]]])
    found = torch.tensor([[[0.0, 0.1], [0.3, 0.5]]])
    assert local_distance(found, true).item() == pytest.approx(1e4 * (0.1**2 + 0.5**2) / 2)
    # one pair, 0.5 apart instead of 0.3; 2 / (2 · 3) of it
    assert pairs_distance(found, true).item() == pytest.approx(1e4 * (0.5 - 0.3) ** 2 / 3, rel=1e-5)
    assert depth_distance(torch.tensor([[3.0, 4.0], [0, 1]]), torch.zeros(2, 2)).item() == pytest.approx((5 + 1) / 2)


def test_the_pairwise_loss_against_a_loop():
    rng = np.random.default_rng(0)
    found, true = rng.normal(size=(2, 3, 5, 2))
    total = 0.0
    for f, o in zip(found, true, strict=True):
        for j, k in combinations(range(5), 2):
            total += (np.linalg.norm(f[j] - f[k]) - np.linalg.norm(o[j] - o[k])) ** 2
    wanted = 1e4 * total * 2 / (5 * 6) / 3
    assert pairs_distance(torch.tensor(found), torch.tensor(true)).item() == pytest.approx(wanted)


@given(seed=SEEDS)
def test_the_pairwise_loss_is_zero_at_the_truth_and_blind_to_rigid_motion(seed):
    rng = np.random.default_rng(seed)
    found, true = torch.tensor(rng.normal(size=(2, 3, 7, 2)))
    angle = rng.uniform(-np.pi, np.pi)
    turn = torch.tensor([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    assert pairs_distance(true, true).item() == 0
    assert pairs_distance(true @ turn + torch.tensor(rng.normal(size=2)), true).item() == pytest.approx(0, abs=1e-9)
    moved = found + torch.tensor(rng.normal(size=2))
    assert pairs_distance(moved, true).item() == pytest.approx(pairs_distance(found, true).item())


@pytest.mark.parametrize("loss", [local_distance, pairs_distance])
def test_gradients_of_the_point_losses(loss):
    found, true = torch.rand(2, 2, 4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.autograd.gradcheck(loss, (found.requires_grad_(), true))


def test_gradients_of_the_depth_loss_and_of_standardising():
    found, true = torch.rand(2, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.autograd.gradcheck(depth_distance, (found.requires_grad_(), true))
    faces = torch.rand(2, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    assert torch.autograd.gradcheck(lambda x: standardised(x)[0], (faces.requires_grad_(),))


def test_standardising_is_equation_9():
    face = np.random.default_rng(0).normal(size=(66, 3)) * [3, 2, 5] + [7, 8, 9]
    wanted = (face - face.mean(0)) / ((face[:, 0].std() + face[:, 1].std()) / 2)
    found, spread = standardised(torch.tensor(face))
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-10)
    assert spread.item() == pytest.approx((face[:, 0].std() + face[:, 1].std()) / 2)


# ── networks ───────────────────────────────────────────────────────────────────────────────────────────────


def test_the_full_networks_have_the_layers_of_the_paper():
    method = Method(Config())
    convolutions = 25 * 3 * 32 + 9 * 32 * 64 + 9 * 64 * 128 + 9 * 128 * 128 + 2 * (32 + 64 + 128 + 128)
    connected = (12 * 12 * 128 + 1) * 512 + (512 + 1) * 132
    assert sum(p.numel() for p in method.points.parameters()) == convolutions + connected
    assert [layer.weight.shape for layer in method.depth.layers] == [(132, 132)] * 5 + [(66, 132)]  # pyright: ignore[reportAttributeAccessIssue]
    kinds = [type(layer).__name__ for layer in method.points.layers]
    assert kinds.count("Conv2d") == 4
    assert kinds.count("MaxPool2d") == 2
    assert kinds.count("Linear") == 2
    assert kinds[:4] == ["Conv2d", "BatchNorm2d", "Dropout", "ReLU"]


def test_a_new_network_sees_the_mean_face_in_the_middle(method):
    points = method.eval()(torch.rand(2, 3, 32, 32))["landmarks66"]
    assert points.shape == (2, 66, 3)
    assert points.mean(1).abs().max() < 0.03
    assert (points[:, 36, 0] < points[:, 45, 0]).all()  # the subject's right eye is on the left
    assert (points[:, 36, 1] < points[:, 8, 1]).all()  # the chin is below
    assert points[..., :2].abs().max() < 0.5


@given(seed=SEEDS)
def test_depth_is_blind_to_shift_and_follows_scale(seed):
    rng = np.random.default_rng(seed)
    torch.manual_seed(0)
    method = Method(SMALL).depth
    flat, factor = torch.tensor(rng.normal(size=(2, 66, 2)), dtype=torch.float32), float(np.exp(rng.normal()))
    first, spread = standardised(flat)
    second, larger = standardised(factor * flat + torch.tensor(rng.normal(size=(2, 1, 2)), dtype=torch.float32))
    torch.testing.assert_close(method(first), method(second), atol=1e-4, rtol=0)
    torch.testing.assert_close(larger, factor * spread)
    assert method(first).abs().max() <= landmark_depth.REACH


def test_the_depth_of_a_crop_is_that_of_its_own_landmarks(method):
    method.eval()
    output = method(torch.rand(3, 3, 32, 32))["landmarks66"]
    flat, spread = standardised(output[..., :2])
    depth = method.depth(flat)
    torch.testing.assert_close(output[..., 2], spread[..., 0] * (depth - depth.mean(1, keepdim=True)))


def test_each_loss_reaches_its_own_network_only(method, batch):
    method.train()
    terms = method.losses(batch, method(batch["images"]))
    assert set(terms) == {"local", "pairs", "depth"}
    for name, mine, other in (("depth", "depth", "points"), ("local", "points", "depth"), ("pairs", "points", "depth")):
        method.zero_grad()
        terms[name].backward(retain_graph=True)
        for parameter in getattr(method, mine).parameters():
            assert parameter.grad is not None
            assert parameter.grad.isfinite().all()
        assert all(p.grad is None or not p.grad.any() for p in getattr(method, other).parameters())


def test_without_weight_there_are_no_pairs(batch):
    method = Method(replace(SMALL, pairs_weight=0.0))
    assert set(method.losses(batch, method(batch["images"]))) == {"local", "depth"}


def test_twenty_steps_lower_the_loss(batch):
    torch.manual_seed(0)
    method = Method(replace(SMALL, dropout=0.0))
    optimizer, history = method.optimizer(), []
    for _ in range(21):
        losses = method.losses(batch, method(batch["images"]))
        history.append({name: loss.item() for name, loss in losses.items()})
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
    for name in ("local", "pairs", "depth"):
        assert history[-1][name] < 0.9 * history[0][name], name


def test_both_rates_fall_along_a_cosine(method):
    assert [group["lr"] for group in method.optimizer().param_groups] == [1e-3, 2e-3]
    assert method.schedule(0.0) == pytest.approx(1)
    assert method.schedule(0.5) == pytest.approx(0.505)
    assert method.schedule(1.0) == pytest.approx(0.01)


# ── items ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_points_of_a_held_out_crop_are_where_the_rule_says(method):
    data = Photos()
    item = method.sample(data, 0, np.random.default_rng(0), False)  # row 0 has no points, so row 1
    points = data.points[1].astype(np.float64)
    side = 1.5 * np.ptp(points, axis=0).max()
    wanted = (points - (points.min(0) + points.max(0)) / 2) / side
    np.testing.assert_allclose(item["landmarks"], wanted[KEPT], atol=1e-6)
    assert np.abs(item["landmarks"]).max() == pytest.approx(1 / 3, rel=1e-5)
    assert item["images"].shape == (32, 32, 3)
    assert (item["images"] == 10).all()
    assert item["views"].shape == (3, 66, 3)
    again = method.sample(data, 0, np.random.default_rng(0), False)
    assert all((again[name] == item[name]).all() for name in item)


def test_only_rows_with_points_are_drawn(method):
    data = Photos()
    shades = {int(method.sample(data, k, np.random.default_rng(k), False)["images"].max()) for k in range(12)}
    assert shades == {10, 20, 40, 50}


def test_rows_without_points_are_refused(method):
    with pytest.raises(BadData, match="none of the 6 rows has 68 hand-placed points"):
        method.sample(Photos(bare=1), 0, np.random.default_rng(0), True)
    with pytest.raises(BadData, match="row 3 has no 68 points"):
        method.sample(Plain(Photos()), 3, np.random.default_rng(0), True)
    assert method.sample(Plain(Photos()), 4, np.random.default_rng(0), True)["landmarks"].shape == (66, 2)


def test_points_that_coincide_make_no_crop():
    with pytest.raises(ValueError, match=r"all are at \[3.0, 3.0\]"):
        box_affine(np.full((68, 2), 3.0), 32, 1.5)


@given(seed=SEEDS)
def test_transformed_crops_keep_to_the_ranges_of_the_paper(seed):
    config = Config(size=100)
    affine = np.array([[1.0, 0, 0], [0, 1, 0]])
    move, mirrored = transformed(affine, config, np.random.default_rng(seed))
    scale = np.sqrt(abs(np.linalg.det(move[:, :2])))
    assert 0.5 <= scale <= 2
    assert (np.linalg.det(move[:, :2]) < 0) == mirrored
    unmirrored = move[:, :2] @ np.diag([-1.0 if mirrored else 1.0, 1]) / scale
    assert abs(np.degrees(np.arctan2(unmirrored[1, 0], unmirrored[0, 0]))) <= 10
    centre = apply_affine(move, np.array([[50.0, 50.0]]))[0]
    assert np.abs(centre - 50).max() <= 10 + 1e-9


def test_mirrored_points_keep_their_names(points):
    assert (IBUG_MIRRORED[IBUG_MIRRORED] == np.arange(68)).all()
    mirrored = (points * [-1, 1] + [100, 0])[IBUG_MIRRORED]
    assert np.abs(mirrored - points).max() < 1.0  # our mean face is symmetrical to a millimetre
    kept = mirrored[KEPT]
    assert kept.shape == (66, 2)
    assert kept[36, 0] < kept[45, 0]


def test_flips_and_boxes_come_as_often_as_configured(points):
    class Discs(Photos):
        def __init__(self):
            super().__init__(bare=0)
            self.points[:] = points

    method, data = Method(replace(SMALL, size=64, views=1)), Discs()
    plain = Method(replace(SMALL, size=64, views=1, transformed=0.0, scale=(1.0, 1.0), turn=0.0, shift=0.0))
    items = [plain.sample(data, 1, np.random.default_rng(k), True) for k in range(200)]
    boxes = [(item["images"] != 10).any(-1) for item in items]
    covered = [box for box in boxes if box.any()]
    assert len(covered) / 200 == pytest.approx(0.25, abs=0.1)
    eyes = np.linalg.norm(items[0]["landmarks"][36:42].mean(0) - items[0]["landmarks"][42:48].mean(0)) * 64
    sides = [box.any(0).sum() for box in covered]
    assert 0.2 * eyes - 1 <= min(sides) <= max(sides) <= 0.4 * eyes + 1
    frontal = plain.sample(data, 1, np.random.default_rng(0), False)["landmarks"]
    moved = [method.sample(data, 1, np.random.default_rng(k), True)["landmarks"] for k in range(200)]
    share = np.mean([np.abs(landmarks - frontal).max() > 1e-6 for landmarks in moved])
    assert share == pytest.approx(80 / 98.6, abs=0.1)


def test_occluding_boxes_leave_the_photo_alone(points):
    photo = np.zeros((100, 100, 3), np.uint8)
    out = occluded(photo, points[KEPT], (0.4, 0.4), np.random.default_rng(0))
    assert not photo.any()
    eyes = np.linalg.norm(points[36:42].mean(0) - points[42:48].mean(0))
    ys, xs = np.nonzero(out.any(-1))
    assert np.ptp(xs) + 1 == pytest.approx(0.4 * eyes, abs=1)
    assert np.ptp(ys) + 1 == pytest.approx(0.4 * eyes, abs=1)


# ── 3D faces ───────────────────────────────────────────────────────────────────────────────────────────────


def test_views_are_rigid_motions_of_the_models_own_landmarks(method):
    """Every view has the pairwise distances of a face that the model itself makes of the same draws."""
    model, config, count = morphable.default(), replace(SMALL, expressions=2), 5
    views = faces_in_view(method.mean, method.basis, config, np.random.default_rng(3), count)
    rng = np.random.default_rng(3)
    identity = rng.standard_normal((count, model.n_identity), np.float32)
    shown = rng.random((count, model.n_expression), np.float32) < 2 / model.n_expression
    expression = shown * rng.random((count, model.n_expression), np.float32)
    faces = model.landmarks(model.vertices(identity, expression))[:, KEPT]

    def distances(x: np.ndarray) -> np.ndarray:
        return np.linalg.norm(x[:, :, None] - x[:, None], axis=-1)

    np.testing.assert_allclose(distances(views), distances(faces), atol=1e-2)


def test_views_at_a_given_yaw_look_that_way(method):
    config = replace(SMALL, pitch=0.0, roll=0.0)
    frontal = faces_in_view(method.mean, method.basis, config, np.random.default_rng(0), 20, yaw=0.0)
    assert (frontal[:, 30, 2] < frontal[:, [36, 45], 2].min(1)).all()  # the nose is nearer to the viewer
    assert (frontal[:, 8, 1] > frontal[:, 27, 1]).all()  # y down
    right = faces_in_view(method.mean, method.basis, config, np.random.default_rng(0), 20, yaw=60.0)
    assert (right[:, 30, 0] - right[:, 27, 0] > 5).all()  # the nose points to the image's right


def test_depths_stay_within_reach(method):
    views = faces_in_view(method.mean, method.basis, Config(), np.random.default_rng(0), 2000)
    depths = standardised(torch.tensor(views))[0][..., 2].abs()
    assert 1 < depths.max() < landmark_depth.REACH


# ── as a plug-in ───────────────────────────────────────────────────────────────────────────────────────────


def test_one_command_trains_on_the_face_table(tmp_path):
    facetable.sample(tmp_path / "faces")
    run = train.train("landmark_depth", f"facetable:{tmp_path / 'faces'}", tmp_path / "run", SMALL)
    method, described = train.restore(run, "last.pt")  # nothing in it that only a pickle could hold
    assert described["step"] == 2
    about = method.metadata()
    assert about["crop"] == {"size": 32, "rule": "box68", "factor": 1.5, "pixels": "RGB in [0, 1]"}
    assert about["landmarks66"].startswith("iBUG's 68 without 60 and 64")
