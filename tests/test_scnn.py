"""scnn: WPDC against a loop that moves one parameter at a time, contrastive losses by hand, pairs, labels, export."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from morphable_files import write_tddfa_sparse, write_tddfa_sparse_v2
from sameface import morphable
from sameface.core.errors import BadData
from sameface.core.geometry import rotation_from_euler
from sameface.training import train
from sameface.training.datasets import facetable
from sameface.training.methods import scnn
from sameface.training.methods.scnn import POSE, Basis, Config, Method, contrastive
from sameface.training.train import Loop


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("scnn")
    (path / "basel").mkdir()
    write_tddfa_sparse_v2(path / "basel")
    facetable.sample(path / "faces")
    return path


@pytest.fixture(scope="module")
def config(folder) -> Config:
    return Config(morphable=str(folder / "basel"), size=40, batch=2, steps=2, features=8)


@pytest.fixture(scope="module")
def method(config) -> Method:
    torch.manual_seed(0)
    return Method(config)


@pytest.fixture(scope="module")
def table(folder) -> facetable.Faces:
    return facetable.load(folder / "faces", "train")


def whitened(count: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(count, 62)).astype(np.float32))


# ── the weighted parameter distance cost ───────────────────────────────────────────────────────────────────


def seen(method: Method, z: torch.Tensor) -> np.ndarray:
    """V(g): the 68 points by plain matrix products; t_z moves nothing."""
    g = (method.center + method.deviation * z).double().numpy()
    basis = Basis.of(method.model)
    points = basis.mean + basis.modes @ g[POSE:]
    matrix = g[:POSE].reshape(3, 4)
    return points @ matrix[:, :3].T + matrix[:, 3] * [1, 1, 0]


def test_importance_is_how_far_the_points_move_when_one_element_is_as_predicted(method):
    true, predicted = whitened(2), whitened(2, seed=1)
    found = method.importance(predicted, true).numpy()
    for row in range(2):
        far = np.zeros(62)
        for i in range(62):
            one = true[row].clone()
            one[i] = predicted[row, i]
            far[i] = np.linalg.norm(seen(method, one) - seen(method, true[row]))
        np.testing.assert_allclose(found[row], far / far.max(), rtol=2e-3, atol=1e-5)
        assert found[row, POSE - 1] == 0


def test_wpdc_is_the_weighted_mean_and_its_weights_carry_no_gradient(method):
    true, predicted = whitened(3), whitened(3, seed=1).requires_grad_()
    loss = method.wpdc(predicted, true)
    weight = method.importance(predicted.detach(), true)
    assert loss.item() == pytest.approx((weight * (predicted - true) ** 2).mean().item(), rel=1e-6)
    loss.backward()
    torch.testing.assert_close(predicted.grad, 2 * weight * (predicted.detach() - true) / (3 * 62))
    assert method.wpdc(true, true).item() == 0


# ── contrastive losses ─────────────────────────────────────────────────────────────────────────────────────


def test_contrastive_by_hand():
    first, second = torch.zeros(3, 2), torch.tensor([[3.0, 4.0], [0.6, 0.8], [3.0, 4.0]])
    same = torch.tensor([True, False, False])  # ½ (25 + (2 − 1)² + 0) / 3
    assert float(contrastive(first, second, same, 2.0)) == pytest.approx((25 + 1) / 6, abs=1e-5)


@given(seed=st.integers(0, 2**32 - 1))
def test_contrastive_does_not_care_which_photo_comes_first(seed):
    a, b = torch.from_numpy(np.random.default_rng(seed).normal(size=(2, 5, 4)))
    same = torch.from_numpy(np.random.default_rng(seed).random(5) < 0.5)
    torch.testing.assert_close(contrastive(a, b, same, 3.0), contrastive(b, a, same, 3.0))
    shifted = contrastive(a + 7, b + 7, same, 3.0)
    torch.testing.assert_close(shifted, contrastive(a, b, same, 3.0))


def test_contrastive_gradient_also_where_two_persons_coincide():
    rng = np.random.default_rng(0)
    a, b = (torch.from_numpy(rng.normal(size=(4, 3))).requires_grad_() for _ in range(2))
    same = torch.tensor([True, False, True, False])
    assert torch.autograd.gradcheck(lambda x, y: contrastive(x, y, same, 3.0), (a, b))
    a = torch.zeros(2, 3, requires_grad=True)
    contrastive(a, torch.zeros(2, 3), torch.tensor([True, False]), 1.0).backward()
    assert torch.isfinite(a.grad).all()


def test_stage_two_adds_both_losses_at_their_share_of_the_rate(config):
    torch.manual_seed(0)
    second = Method(replace(config, stage=2))
    only_shape = Method(replace(config, stage=2, shape="shape"))
    z, vectors = whitened(4).reshape(2, 2, 62), torch.randn(2, 2, 8)
    batch = {"parameters": whitened(4, seed=2).reshape(2, 2, 62), "same": torch.tensor([True, False])}
    terms = second.losses(batch, {"parameters": z, "embedding": vectors})
    assert set(terms) == {"parameters", "shape", "identity"}
    expected = 0.1 * contrastive(z[:, 0, POSE:], z[:, 1, POSE:], batch["same"], 3.0)
    torch.testing.assert_close(terms["shape"], expected)
    torch.testing.assert_close(terms["identity"], 0.01 * contrastive(vectors[:, 0], vectors[:, 1], batch["same"], 3.0))
    expected = 0.1 * contrastive(z[:, 0, POSE:52], z[:, 1, POSE:52], batch["same"], 3.0)
    torch.testing.assert_close(only_shape.losses(batch, {"parameters": z, "embedding": vectors})["shape"], expected)


# ── labels and crops ───────────────────────────────────────────────────────────────────────────────────────


def test_labels_in_the_crop_follow_the_photo(method, table, monkeypatch):
    """The points that a training item's parameters stand for lie where the same warp takes the table's points."""
    params = np.random.default_rng(0).normal(size=62)
    rotation = np.array([1.0, -1, -1])[:, None] * rotation_from_euler(*np.array([[0.2], [0.5], [0.1]]))[0]
    params[:12] = np.concatenate([7e-4 * rotation, [[70.0], [85.0], [3.0]]], axis=1).ravel()
    params[12:] *= method.model.extra["parameters_std"][12:]
    model = method.model
    coefficients = (params[12:] / model.extra["parameters_std"][12:]).astype(np.float32)
    face = model.vertices(coefficients[:40], coefficients[40:])
    at = (face * 1000) @ params[:12].reshape(3, 4)[:, :3].T + params[:12].reshape(3, 4)[:, 3]
    in_photo = np.stack([at[:, 0], 160 - at[:, 1]], axis=1)
    warps = []
    crop = scnn.image.crop
    monkeypatch.setattr(
        scnn.image, "crop", lambda pixels, affine, *a, **k: warps.append(affine) or crop(pixels, affine, *a, **k)
    )
    for train_it in (False, True):
        rng = np.random.default_rng(5)
        item = {"image": np.zeros((160, 160, 3), np.uint8), "params": params}
        pixels, parameters = method._photo(item, rng, train_it)
        assert pixels.shape == (40, 40, 3)
        found = method.face(torch.from_numpy(parameters)[None])
        expected = (in_photo @ warps[-1][:, :2].T + warps[-1][:, 2]) / 40 - 0.5
        np.testing.assert_allclose(found["landmarks68"][0, :, :2].numpy(), expected, atol=1e-3)
        np.testing.assert_allclose(
            found["identity"][0].numpy(), params[12:52] / model.extra["parameters_std"][12:52], rtol=1e-3, atol=1e-4
        )
        camera = found["scale"].item() * face @ found["rotation"][0].numpy().T[:, :2] + found["translation"][0].numpy()
        np.testing.assert_allclose(camera, expected, atol=2e-3)
    lowest = (in_photo @ warps[0][:, :2].T + warps[0][:, 2]).min()  # the box fills 1/√2 of an unmoved crop
    assert lowest == pytest.approx(40 * (1 - 2**-0.5) / 2, abs=0.05)


def test_a_pair_is_one_item(method, table):
    items = [method.sample(table, k % 8, np.random.default_rng(k), True) for k in range(40)]
    assert items[0]["images"].shape == (2, 40, 40, 3)
    assert items[0]["parameters"].shape == (2, 62)
    assert items[0]["parameters"][0, POSE - 1] == 0
    assert 8 <= sum(bool(item["same"]) for item in items) <= 32


def test_labels_of_another_model_are_refused(config, table):
    other = Method(replace(config, morphable=""))
    assert other.model is morphable.default()
    with pytest.raises(BadData, match=r"gives 62 parameters, but .* has 143"):
        other.sample(table, 0, np.random.default_rng(0), True)


def test_the_newer_statistics_are_taken_where_they_are(method, tmp_path, config):
    assert method.deviation[3] == 20
    assert method.deviation[0] == pytest.approx(0.2)
    write_tddfa_sparse(tmp_path)
    older = Method(replace(config, morphable=str(tmp_path)))
    assert older.deviation[3] == pytest.approx(np.loadtxt(tmp_path / "param_std.txt")[3], rel=1e-5)


# ── networks ───────────────────────────────────────────────────────────────────────────────────────────────


def test_resnet50_has_the_papers_size(folder):
    method = Method(Config(network="resnet50", morphable=str(folder / "basel")))
    count = sum(p.numel() for p in method.trunk.parameters())
    assert count == 25_557_032 - 2048 * 1000 - 1000  # torchvision's resnet50 without its classifier
    assert method.parameters_head.weight.shape == (62, 2048 * 16)
    assert method.embedding_head.weight.shape == (512, 2048 * 16)
    with torch.no_grad():
        said = method.eval()(torch.rand(1, 3, 120, 120))
    assert said["landmarks68"].shape == (1, 68, 3)


def test_both_photos_of_a_pair_see_the_same_network(method):
    images = torch.rand(3, 2, 3, 40, 40)
    with torch.no_grad():
        both, first = method(images), method(images[:, 0])
    torch.testing.assert_close(both["embedding"][:, 0], first["embedding"], rtol=1e-4, atol=1e-5)
    assert set(both) == {"parameters", "embedding"}


def test_twenty_steps_on_one_batch_lower_every_loss(config, table):
    torch.manual_seed(0)
    method = Method(replace(config, stage=2, shape_lr=1e-2, identity_lr=1e-2))
    items = [method.sample(table, k, np.random.default_rng(k), True) for k in range(4)]
    batch = train.collate(items, torch.device("cpu"))
    optimizer, terms = method.optimizer(), []
    for _ in range(20):
        losses = method.losses(batch, method(batch["images"]))
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
        terms.append({name: loss.item() for name, loss in losses.items()})
    assert all(terms[-1][name] < terms[0][name] for name in terms[0]), terms
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in method.parameters())
    assert method.schedule(0.0) == 1
    assert method.schedule(1.0) == pytest.approx(0.02)


def test_stage_two_begins_with_stage_one(config, folder, tmp_path):
    data = f"facetable:{folder / 'faces'}"
    loop = Loop(validate_items=2)
    first = train.train("scnn", data, tmp_path / "one", config, loop)
    start = replace(loop, start=str(first / "best.pt"))
    second = train.train("scnn", data, tmp_path / "two", replace(config, stage=2), start)
    said = train.restore(second)[0].metadata()
    assert said["crop"]["rule"] == "box68"
    assert said["config"]["stage"] == 2
    assert str(folder) not in str(said)
