"""The recipe of our default network: shapes, gradients, losses by value, mirrored crops, export."""

from dataclasses import replace

import cv2
import numpy as np
import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sameface import morphable
from sameface.core.errors import BadData
from sameface.photo.augment import FAULTS, augmented, spoiled
from sameface.training.datasets import pointlabels
from sameface.training.dense_points import AFLW_MIRRORED, OVAL, POINT_IDS, dense_points
from sameface.training.labels import IBUG_MIRRORED
from sameface.training.methods import isoface
from sameface.training.methods.isoface import Config, Method, model_distance, points_likelihood

SMALL = Config(size=32, widths=(8, 8, 8), blocks=(1, 1, 1), features=8, batch=4, steps=2)
DENSE = len(POINT_IDS)


@pytest.fixture(scope="module")
def method() -> Method:
    torch.manual_seed(0)
    return Method(SMALL)


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> pointlabels.Labelled:
    folder = tmp_path_factory.mktemp("points")
    pointlabels.sample(folder)
    return pointlabels.load(folder, "train")


@pytest.fixture
def batch(method, table) -> dict[str, torch.Tensor]:
    rng = np.random.default_rng(0)
    items = [method.sample(table, k, rng, True) for k in (0, 1, len(table) - 2, len(table) - 1)]
    stacked = {name: torch.from_numpy(np.stack([item[name] for item in items])) for name in items[0]}
    return stacked | {name: stacked[name].permute(0, 3, 1, 2) / 255 for name in ("images", "others")}


class Fixed(np.random.Generator):
    """A generator whose every draw from [0, 1) is this number."""

    def __init__(self, value: float):
        super().__init__(np.random.PCG64(0))
        self.value = value

    def random(self) -> float:
        return self.value


@pytest.mark.parametrize(
    ("column", "value", "why"),
    [
        ("points", None, "its points are not 328 numbers"), ("points", [1.0], "its points are not 328 numbers"),
        ("weight", None, "its weight are not 164 numbers"), ("blendshapes", [], "its blendshapes are not 51 numbers"),
        ("name", "nobody", "it has no picture"), ("source", None, "it has no picture"),
        ("repeat", None, "repeated None times"), ("repeat", 1 << 30, "repeated 1073741824 times"),
    ],
)  # fmt: skip
def test_a_bad_row_of_labels_costs_itself_only(table, tmp_path, column, value, why):
    rows = parquet.read_table(table.root / "labels.parquet")
    broken = rows.to_pylist()
    broken[1][column] = value
    for name in ("faces", "aflw21", "about.json"):
        (tmp_path / name).symlink_to(table.root / name)
    parquet.write_table(arrow.Table.from_pylist(broken, rows.schema), tmp_path / "labels.parquet")
    data = pointlabels.load(tmp_path, "train")
    (place,) = np.flatnonzero(data.order == 1)[:1]
    with pytest.raises(BadData, match=f"row .* of labels.parquet: .*{why}"):
        data[int(place)]
    assert data[0]["landmarks"].shape == (164, 2)


# ── network ────────────────────────────────────────────────────────────────────────────────────────────────


def test_outputs_have_the_shapes_that_are_promised(method):
    output = method(torch.rand(2, 3, 32, 32))
    shapes = {name: tuple(value.shape) for name, value in output.items()}
    assert shapes == {
        "identity": (2, 80), "expression": (2, 51), "rotation": (2, 3, 3), "scale": (2,), "translation": (2, 2),
        "landmarks": (2, DENSE, 2), "landmark_error": (2, DENSE), "faults": (2, 3),
    }  # fmt: skip
    assert (output["expression"] > 0).all()
    assert (output["expression"] < 1).all()
    assert (output["scale"] > 0).all()
    assert (output["landmark_error"] > 0).all()


def test_the_default_settings_build_too():
    method = Method(Config()).eval()
    assert method(method.example())["landmarks"].shape == (2, DENSE, 2)


def test_a_new_network_sees_a_frontal_average_face(method):
    method = Method(SMALL).eval()
    output = method(torch.rand(3, 3, 32, 32))
    assert output["identity"].abs().max() < 1
    assert (output["rotation"] - torch.diag(torch.tensor([1.0, -1, -1]))).abs().max() < 0.3
    assert output["landmarks"].abs().max() < 0.7  # inside the crop, or nearly


def test_every_parameter_gets_a_finite_gradient(method, batch):
    method.train()
    terms = method.losses(batch, method(batch["images"]))
    assert set(terms) == {"model", "points", "manual", "manual21", "pairs", "identity", "expression", "faults"}
    method.zero_grad()
    sum(terms.values()).backward()
    for name, parameter in method.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    for name, head in method.heads.items():
        assert head.weight.grad.abs().max() > 0, name


def test_pairs_ask_for_the_change_and_not_for_the_place(method, batch):
    """Points that move as the labels do cost nothing, wherever they are."""
    labels = {"landmarks": batch["landmarks"], "other_landmarks": batch["landmarks"]}
    same = batch | labels | {"others": batch["images"]}
    weight = torch.ones(len(batch["images"]), DENSE)
    with torch.no_grad():
        method.eval()
        here = method(batch["images"])
        assert float(method.pairs(same, here, weight)) == pytest.approx(0, abs=1e-3)
        moved = same | {"other_landmarks": batch["landmarks"] + torch.tensor([0.03, -0.04])}
        assert float(method.pairs(moved, here, weight)) == pytest.approx(5.0, rel=1e-3)
        method.train()


def test_twenty_steps_lower_the_loss(batch):
    torch.manual_seed(0)
    method = Method(replace(SMALL, lr=3e-3))
    optimizer = method.optimizer()

    def step() -> float:
        loss = sum(method.losses(batch, method(batch["images"])).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    first = step()
    for _ in range(19):
        last = step()
    assert last < 0.9 * first


def test_the_rate_warms_up_and_comes_down(method):
    assert method.schedule(0.0) < 0.01
    assert method.schedule(0.03) == pytest.approx(1)
    assert method.schedule(1.0) == pytest.approx(0.01)
    rates = [method.schedule(x) for x in np.linspace(0.03, 1, 50)]
    assert (np.diff(rates) < 0).all()


def test_biases_and_norms_do_not_decay(method):
    groups = method.optimizer().param_groups
    assert {p.ndim for group in groups if not group["weight_decay"] for p in group["params"]} == {1}
    assert sum(len(group["params"]) for group in groups) == len(list(method.parameters()))


def test_what_is_not_trained_stays_as_it_is(batch):
    torch.manual_seed(0)
    method = Method(replace(SMALL, coarse_lr=0.0)).train()
    before = {name: value.clone() for name, value in method.state_dict().items()}
    optimizer = method.optimizer()
    sum(method.losses(batch, method(batch["images"])).values()).backward()
    optimizer.step()
    changed = {name for name, value in method.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {name for name, _ in method.look.named_parameters(prefix="look")}


# ── points ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_projected_points_are_those_of_the_model(method):
    model = morphable.default()
    rng = np.random.default_rng(0)
    identity, expression = rng.normal(size=(2, 80)), rng.uniform(size=(2, 51))
    rotation = np.stack([np.diag([1.0, -1, -1])] * 2)
    output = {
        "identity": identity, "expression": expression, "rotation": rotation, "scale": np.array([0.004, 0.005]),
        "translation": np.array([[0.1, 0], [0, -0.2]]),
    }  # fmt: skip
    output = {name: torch.tensor(value, dtype=torch.float32) for name, value in output.items()}
    vertices = model.vertices(identity, expression)
    for which, points in (("ibug", model.landmarks(vertices)), ("contour", model.landmarks(vertices, contour=True))):
        flat = (points @ rotation.swapaxes(1, 2))[..., :2]
        wanted = np.array([0.004, 0.005])[:, None, None] * flat + np.array([[[0.1, 0]], [[0, -0.2]]])
        found = method.project(which, output).numpy()
        np.testing.assert_allclose(found, wanted[:, : found.shape[1]], atol=1e-5)


def test_flip_tables_are_involutions_that_swap_left_and_right(method):
    model = morphable.default()
    points = model.landmarks(model.mean)
    np.testing.assert_array_equal(IBUG_MIRRORED[IBUG_MIRRORED], np.arange(68))
    np.testing.assert_allclose(points[IBUG_MIRRORED], points * [-1, 1, 1], atol=1.5)
    np.testing.assert_array_equal(method.flipped[method.flipped], np.arange(DENSE))
    dense = method.dense_mean.numpy()
    np.testing.assert_allclose(dense[method.flipped], dense * [-1, 1, 1], atol=6)


def test_the_five_points_are_eyes_nose_and_mouth(method):
    right_eye, left_eye, nose, right_mouth, left_mouth = method.dense_mean.numpy()[method.five]
    assert right_eye[0] < nose[0] < left_eye[0]
    assert right_mouth[0] < nose[0] < left_mouth[0]
    assert right_eye[1] > nose[1] > right_mouth[1]
    assert nose[2] > right_eye[2]


def test_points_are_numbered_once_and_the_outline_is_among_them():
    assert len(set(POINT_IDS)) == DENSE == 164
    assert max(POINT_IDS) < 478
    assert set(OVAL) <= set(POINT_IDS)


# ── losses ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_model_distance_by_hand():
    projected = torch.tensor([[[0.0, 0], [0, 0]]])
    target = torch.tensor([[[0.03, 0.04], [0, 0.1]]])
    weight = torch.tensor([[1.0, 0.5]])
    assert float(model_distance(projected, target, weight)) == pytest.approx(100 * (0.05 + 0.05) / 2, rel=1e-4)


def test_points_likelihood_against_a_loop():
    rng = np.random.default_rng(0)
    q, target = rng.normal(0, 0.1, (2, 3, 4, 2))
    error, weight = rng.uniform(0.01, 0.1, (3, 4)), rng.uniform(size=(3, 4))
    slow = 0.0
    for b in range(3):
        for point in range(4):
            distance = np.hypot(*(q[b, point] - target[b, point]))
            slow += weight[b, point] * (distance / error[b, point] + 2 * np.log(error[b, point]) + 10) / 12
    output = {"landmarks": torch.tensor(q), "landmark_error": torch.tensor(error)}
    assert float(points_likelihood(output, torch.tensor(target), torch.tensor(weight))) == pytest.approx(slow, rel=1e-5)


def test_the_likelihood_is_best_at_half_the_distance():
    """d/db (r/b + 2 ln b) = 0 at b = r/2."""
    target, weight = torch.zeros(1, 1, 2), torch.ones(1, 1)
    landmarks = torch.tensor([[[0.06, 0.08]]])

    def at(error: float) -> float:
        output = {"landmarks": landmarks, "landmark_error": torch.tensor([[error]])}
        return float(points_likelihood(output, target, weight))

    assert at(0.05) < min(at(0.049), at(0.051))


def test_losses_have_a_gradient():
    a, b = (torch.rand(2, 3, 2, dtype=torch.float64, requires_grad=True) for _ in range(2))
    weight = torch.rand(2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(model_distance, (a, b, weight))

    def likelihood(points, error, target, weight):
        return points_likelihood({"landmarks": points, "landmark_error": error}, target, weight)

    error = (0.1 + torch.rand(2, 3, dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(likelihood, (a, error, b, weight))


def test_a_distance_of_zero_has_a_finite_gradient():
    points = torch.zeros(1, 2, 2, requires_grad=True)
    model_distance(points, torch.zeros(1, 2, 2), torch.ones(1, 2)).backward()
    assert points.grad.isfinite().all()


def test_priors_by_hand(method, batch):
    output = method(batch["images"])
    output["identity"] = torch.full((4, 80), 2.0)
    output["expression"] = torch.full((4, 51), 0.5)
    taught = torch.full((4, 51), 0.25)
    taught[1:] = torch.nan
    terms = method.losses(batch | {"blendshapes": taught}, output)
    assert float(terms["identity"].detach()) == pytest.approx(0.04 * 4)
    # one row knows 49 blendshapes and two blinks (cross entropy ln 2, twice); in three rows all 51 are drawn to none
    wanted = 4.0 * (49 * 0.25 + 2 * 2 * np.log(2) + 3 * 51 * 0.1 * 0.5) / (4 * 51)
    assert float(terms["expression"].detach()) == pytest.approx(wanted, rel=1e-5)


def test_hidden_points_of_the_hand_do_not_count(method, batch):
    output = {name: value.detach() for name, value in method(batch["images"]).items()}
    none = batch | {"landmarks21": torch.full((4, 21, 2), torch.nan)}
    assert float(method.manual21(none, output)) == 0
    placed, free = torch.full((4, 21, 2), torch.nan), torch.einsum(
        "kl,bla->bka", method.aflw_from_dense, output["landmarks"]
    )  # fmt: skip
    placed[2, 14] = method.project("aflw", output)[2, 14] + torch.tensor([0.03, 0.04])  # the tip of the nose
    placed[2, 12] = method.project("aflw", output)[2, 12] + torch.tensor([0.06, 0.08])  # an ear: no dense point is near
    apart = float(torch.linalg.vector_norm(free[2, 14] - placed[2, 14]))
    wanted = 100 * (0.05 + 0.10 + apart) / (4 * 21)
    assert float(method.manual21(batch | {"landmarks21": placed}, output)) == pytest.approx(wanted, rel=1e-4)


def test_only_rows_with_hand_placed_points_count_as_manual(method, batch):
    output = {name: value.detach() for name, value in method(batch["images"]).items()}
    none = batch | {"landmarks68": torch.full((4, 68, 2), torch.nan)}
    assert float(method.manual(none, output)) == 0
    exact = torch.cat([method.project("contour", output), method.project("ibug", output)[:, 17:]], 1)
    some = torch.full((4, 68, 2), torch.nan)
    some[1] = exact[1] + torch.tensor([0.03, 0.04])
    # 17 jaw points at a third and 51 others, all 5 % off, in one row of four
    wanted = 5 * (17 / 3 + 51) / 68 / 4
    assert float(method.manual(batch | {"landmarks68": some}, output)) == pytest.approx(wanted, rel=1e-4)


# ── samples ────────────────────────────────────────────────────────────────────────────────────────────────


def test_samples_have_the_same_shapes_always(method, table):
    for train in (True, False):
        for k in range(4):
            item = method.sample(table, k, np.random.default_rng(k), train)
            assert {name: value.shape for name, value in item.items()} == {
                "images": (32, 32, 3), "landmarks": (DENSE, 2), "landmarks68": (68, 2), "landmarks21": (21, 2),
                "weight": (DENSE,), "blendshapes": (51,), "faults": (3,), "others": (32, 32, 3),
                "other_landmarks": (DENSE, 2),
            }  # fmt: skip
            assert item["images"].dtype == item["others"].dtype == np.uint8


def test_a_sample_follows_from_its_generator(method, table):
    first, second = (method.sample(table, 0, np.random.default_rng(7), True) for _ in range(2))
    for name, value in first.items():
        np.testing.assert_array_equal(value, second[name])


def test_held_out_samples_are_not_augmented(method, table):
    first, second = (method.sample(table, 0, np.random.default_rng(seed), False) for seed in range(2))
    np.testing.assert_array_equal(first["images"], second["images"])
    size = np.ptp(first["landmarks"], axis=0).max()
    assert size == pytest.approx(1 / 1.4, rel=0.01)  # the landmark box, upright to within its own turn


def test_mirrored_samples_mirror_pixels_and_points_alike(table, monkeypatch):
    method = Method(replace(SMALL, reshaped_share=0.0))
    monkeypatch.setattr(isoface, "_jittered", lambda affine, config, rng: affine)
    monkeypatch.setattr(isoface, "augmented", lambda crop, rng: crop)
    monkeypatch.setattr(isoface, "spoiled", lambda crop, rng: (crop, np.zeros(3, np.float32)))
    plain, mirrored = (method.sample(table, 0, Fixed(value), True) for value in (0.9, 0.1))
    flip = np.float32([-1, 1])
    np.testing.assert_allclose(mirrored["landmarks"], plain["landmarks"][method.flipped] * flip, atol=1e-5)
    np.testing.assert_allclose(mirrored["landmarks68"], plain["landmarks68"][IBUG_MIRRORED] * flip, atol=1e-5)
    np.testing.assert_allclose(mirrored["landmarks21"], plain["landmarks21"][AFLW_MIRRORED] * flip, atol=1e-5)
    np.testing.assert_array_equal(mirrored["weight"], plain["weight"][method.flipped])
    left, right = (method.model.expression_names.index("eyeBlink" + side) for side in ("Left", "Right"))
    assert mirrored["blendshapes"][left] == plain["blendshapes"][right]
    difference = mirrored["images"].astype(int) - plain["images"][:, ::-1]
    assert np.abs(difference).mean() < 1


def test_points_stay_on_their_pixels(method, monkeypatch):
    """A white dot at a landmark is where the sample says that the landmark is, however the crop is jittered."""
    method = Method(replace(SMALL, size=128, spoiled_share=0.0))
    monkeypatch.setattr(isoface, "augmented", lambda crop, rng: crop)
    at = method.dense_mean.numpy()
    points = (np.array([80.0, 85]) + at[:, :2] * [0.55, -0.55]).astype(np.float32)
    eye = method.five[0]
    for seed in range(6):
        image = np.zeros((160, 160, 3), np.uint8)
        cv2.circle(image, [round(16 * (v - 0.5)) for v in points[eye].tolist()], 32, (255,) * 3, -1, cv2.LINE_AA, 4)
        item = {
            "image": image, "landmarks": points, "landmarks68": np.full((68, 2), np.nan, np.float32),
            "landmarks21": np.full((21, 2), np.nan, np.float32), "weight": np.ones(DENSE, np.float32),
            "blendshapes": np.zeros(51, np.float32),
        }  # fmt: skip
        sample = method.sample([item], 0, np.random.default_rng(seed), True)
        light = sample["images"][..., 0].astype(float)
        y, x = np.mgrid[:128, :128] + 0.5
        seen = np.array([(light * x).sum(), (light * y).sum()]) / light.sum()
        told = (sample["landmarks"] + 0.5) * 128
        assert np.linalg.norm(told[[eye, method.flipped[eye]]] - seen, axis=1).min() < 0.5  # mirrored or not


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32 - 1))
def test_augmented_crops_are_crops(seed):
    rng = np.random.default_rng(seed)
    crop = rng.integers(0, 256, (48, 48, 3), dtype=np.uint8)
    before = crop.copy()
    out = augmented(crop, rng)
    assert (out.shape, out.dtype) == (crop.shape, np.uint8)
    np.testing.assert_array_equal(crop, before)  # the cached picture is left alone


@pytest.mark.parametrize("fault", FAULTS)
def test_a_spoiled_crop_says_what_was_done_to_it(fault):
    crop = np.random.default_rng(0).integers(90, 160, (96, 96, 3), dtype=np.uint8)
    kept, seen = crop.copy(), 0
    for seed in range(40):
        out, faults = spoiled(crop, np.random.default_rng(seed))
        assert (out.shape, out.dtype, faults.sum()) == (crop.shape, np.uint8, 1)
        if not faults[FAULTS.index(fault)]:
            continue
        seen += 1
        if fault == "dark":
            assert out.mean() < 0.35 * crop.mean()
        elif fault == "blurred":
            assert (
                np.abs(np.diff(out.astype(int), axis=1)).mean() < 0.5 * np.abs(np.diff(crop.astype(int), axis=1)).mean()
            )
        else:
            assert 0.05 < (out != crop).any(2).mean() < 0.8
    assert seen > 5
    np.testing.assert_array_equal(crop, kept)


# ── points on the model ────────────────────────────────────────────────────────────────────────────────────


def test_where_the_points_lie_is_mirror_symmetric_and_near_the_model(method):
    where = dense_points()
    np.testing.assert_allclose(where["offsets"][method.flipped], where["offsets"] * [-1, 1, 1], atol=0.2)
    assert np.abs(where["offsets"]).max() < 15
    placed = method.aflw_mean.numpy()
    np.testing.assert_allclose(placed[AFLW_MIRRORED], placed * [-1, 1, 1], atol=1.5)
    assert np.linalg.norm(where["aflw21_offsets"], axis=1).max() < 5
    ibug = method.model.landmarks(method.model.mean)
    for point, same in {6: 36, 8: 39, 9: 42, 11: 45, 14: 30, 17: 48, 19: 54, 20: 8}.items():
        assert np.linalg.norm(placed[point] - ibug[same]) < 10, point


def test_hand_placed_points_are_means_of_dense_points_near_them(method):
    weights = dense_points()["aflw21_from_dense"]
    assert (weights >= 0).all()
    total = weights.sum(1)
    np.testing.assert_allclose(total[[12, 16]], 0)
    np.testing.assert_allclose(np.delete(total, [12, 16]), 1, atol=1e-5)
    there = weights @ method.dense_mean.numpy()
    apart = np.linalg.norm((there - method.aflw_mean.numpy())[:, :2], axis=1)
    assert np.delete(apart, [12, 16]).max() < 7


# ── file ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_description_says_what_the_network_needs_and_saw(method):
    about = method.metadata()
    assert about["crop"]["size"] == 32
    assert about["morphable"] == "sameface-ict"
    assert about["point_ids"] == list(POINT_IDS)
    for source in ("FairFace", "CelebA", "AFLW", "Helen", "LFPW", "AFW", "PINS"):
        assert source in about["trained_on"]
