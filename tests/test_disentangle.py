"""disentangle: codes in [−1, 1], decoders that begin as the morphable model, the losses of the phases by hand."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sameface import morphable
from sameface.core.errors import BadData
from sameface.core.geometry import rotation_from_euler
from sameface.photo.predictor import SPHEREFACE_FIVE
from sameface.training import train
from sameface.training.methods import disentangle
from sameface.training.methods.disentangle import Config, Method, identification, squared_distance
from sameface.training.train import Loop


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_model) -> Path:
    path = tmp_path_factory.mktemp("disentangle")
    tiny_model.save(path / "tiny.npz")
    return path


@pytest.fixture(scope="module")
def config(folder) -> Config:
    return Config(morphable=str(folder / "tiny.npz"), persons=3, features=16, batch=2, steps=2)


def method_of(config: Config) -> Method:
    torch.manual_seed(0)
    return Method(config)


class People:
    """Random faces of the tiny model: what a data set of fitted labels gives."""

    def __init__(self, count: int = 6, expressions: int = 4):
        rng = np.random.default_rng(0)
        self.items = []
        for k in range(count):
            rotation = np.array([1.0, -1, -1])[:, None] * rotation_from_euler(*np.array([[0.1], [0.2], [0.1 * k]]))[0]
            matrix = np.concatenate([0.8 * rotation, [[80.0], [80.0], [0.0]]], axis=1)
            params = np.concatenate([matrix.ravel(), rng.normal(size=6), rng.uniform(0, 1, expressions)])
            image, person = rng.integers(0, 256, (160, 160, 3), dtype=np.uint8), np.int64(k % 3 if k < 4 else -1)
            self.items.append({"image": image, "params": params.astype(np.float32), "person": person})

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int):
        return self.items[index]


def batch_of(method: Method) -> dict[str, torch.Tensor]:
    items = [method.sample(People(), k, np.random.default_rng(k), True) for k in range(6)]
    return train.collate(items, torch.device("cpu"))


def test_codes_stay_in_their_interval_and_decoders_begin_as_the_model(config, tiny_model):
    method = method_of(config)
    said = method(torch.rand(2, 3, 112, 112))
    for name, length in (("embedding", 6), ("residual", 4)):
        assert said[name].shape == (2, length)
        assert said[name].abs().max() < 1
    identity, expression = said["identity"].detach().numpy(), said["expression"].detach().numpy()
    np.testing.assert_allclose(said["neutral"].detach().numpy(), tiny_model.vertices(identity), atol=0.02)
    np.testing.assert_allclose(said["shape"].detach().numpy(), tiny_model.vertices(identity, expression), atol=0.02)
    assert expression.min() >= 0
    assert expression.max() <= 1


def test_longer_codes_have_columns_that_begin_as_nothing(config, tiny_model):
    method = method_of(replace(config, identity=9, residual=2))
    said = method(torch.rand(1, 3, 112, 112))
    assert said["embedding"].shape == (1, 9)
    assert method.decoders["identity"].weight[:, 6:].abs().max() == 0
    expected = tiny_model.vertices(said["identity"][:, :6].detach().numpy())
    np.testing.assert_allclose(said["neutral"].detach().numpy(), expected, atol=0.02)


@pytest.mark.parametrize(("phase", "parts"), [(1, {"trunk", "fc5", "code_heads"}), (2, {"decoders"})])
def test_the_first_phases_train_their_part_only(config, phase, parts):
    method = method_of(replace(config, phase=phase))
    assert {name.split(".")[0] for name, p in method.named_parameters() if p.requires_grad} == parts
    batch = batch_of(method)
    torch.stack(list(method.losses(batch, method(batch["images"])).values())).sum().backward()
    assert all((p.grad is not None) == p.requires_grad for p in method.parameters())
    groups = method.optimizer().param_groups
    assert sum(len(group["params"]) for group in groups) == sum(p.requires_grad for p in method.parameters())


def test_phase_one_by_hand(config):
    method = method_of(config)
    batch = {"identity": torch.tensor([[2.0, 0, 0, 0, 0, -9.0]]), "expression": torch.tensor([[1.0, 0.5, 0.5, 0.5]])}
    output = {"embedding": torch.zeros(1, 6), "residual": torch.zeros(1, 4)}
    terms = method.losses(batch, output)
    assert terms["identity"].item() == pytest.approx((0.5**2 + 1) / 6)  # 2 σ are half a code, −9 σ are clipped to −1
    assert terms["residual"].item() == pytest.approx(1 / 4)


def test_phase_two_is_zero_for_the_labels_own_codes(config):
    method = method_of(replace(config, phase=2))
    batch = batch_of(method)
    codes = {"identity": batch["identity"] / 4, "residual": 2 * batch["expression"] - 1}
    neutral = method.mean + method.decode("identity", codes["identity"])
    output = {"neutral": neutral, "shape": neutral + method.decode("residual", codes["residual"])}
    terms = method.losses(batch, output)
    assert max(term.item() for term in terms.values()) < 1e-6
    shifted = {"neutral": output["neutral"] + 1, "shape": output["shape"] + 1}
    assert method.losses(batch, shifted)["identity"].item() == pytest.approx(3, abs=1e-3)


def test_phase_three_weighs_reconstruction_by_the_progress(config):
    method = method_of(replace(config, phase=3))
    batch = batch_of(method)
    output, found = method(batch["images"]), []
    for progress in (0.1, 0.9):
        method.schedule(progress)
        found.append({name: term.item() for name, term in method.losses(batch, output).items()})
    assert found[1]["reconstruction"] == pytest.approx(2 * found[0]["reconstruction"], rel=1e-5)
    assert found[0]["identification"] == found[1]["identification"] > 0
    assert method.schedule(0.0) < 0.01
    assert method.schedule(1.0) == pytest.approx(0.01)


def test_losses_by_hand():
    a = torch.zeros(2, 3, 3)
    assert squared_distance(a + torch.tensor([1.0, 2, 2]), a).item() == pytest.approx(9)
    logits = torch.tensor([[0.0, 0.0], [5.0, -5.0]])
    assert identification(logits, torch.tensor([0, -1])).item() == pytest.approx(np.log(2) / 2)
    assert identification(logits, torch.tensor([-1, -1])).item() == 0
    with pytest.raises(BadData, match="person 2 is beyond the 2 classes; raise --persons"):
        identification(logits, torch.tensor([2, 0]))
    logits = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: identification(x, torch.tensor([0, -1, 3])), (logits,))


def test_the_crop_puts_the_face_where_sphereface_wants_it(config, monkeypatch, tiny_model):
    method, warps, crop = method_of(config), [], disentangle.image.crop

    def noted(pixels, affine, size, edge):
        warps.append(affine)
        return crop(pixels, affine, size, edge=edge)

    monkeypatch.setattr(disentangle.image, "crop", noted)
    item = method.sample(People(), 0, np.random.default_rng(0), False)
    assert item["images"].shape == (112, 112, 3)
    assert item["person"] == -1  # held-out persons are no classes
    params = People()[0]["params"]
    landmarks = tiny_model.landmarks(tiny_model.vertices(params[12:18], params[18:]))
    at = landmarks @ params[:12].reshape(3, 4)[:2, :3].T + params[:12].reshape(3, 4)[:2, 3]
    at[:, 1] = 160 - at[:, 1]
    five = disentangle.five_of_68(at) @ warps[0][:, :2].T + warps[0][:, 2]
    np.testing.assert_allclose(five.mean(0), SPHEREFACE_FIVE.mean(0), atol=1e-3)


def test_labels_of_another_model_are_refused(config):
    with pytest.raises(BadData, match=r"gives 23 parameters, but tiny has 22 .*make labels with `sameface fit-set`"):
        method_of(config).sample(People(expressions=5), 0, np.random.default_rng(0), True)


def test_the_shipped_model_gives_the_sizes():
    method = Method(Config())
    assert method.model is morphable.default()
    assert (method.n_identity, method.n_residual) == (80, 51)


def test_the_papers_sizes(folder):
    method = Method(Config(network="sphereface20", morphable=str(folder / "tiny.npz"), identity=199, residual=29))
    assert method.fc5.weight.shape == (512, 512 * 7 * 6)
    assert method.code_heads["identity"].weight.shape == (199, 512)
    assert method.code_heads["residual"].weight.shape == (29, 512)


DATA = """
import sys
sys.path.insert(0, {tests!r})
from test_disentangle import People
gives = ("image", "params", "person")
def load(root, split): return People()
def sample(root): ...
"""


def test_three_phases_from_one_another(config, tmp_path):
    source = tmp_path / "people.py"
    source.write_text(DATA.format(tests=str(Path(__file__).parent)))
    start = ""
    for phase in (1, 2, 3):
        loop = Loop(validate_items=2, start=start)
        run = train.train(
            "disentangle", f"{source}:{tmp_path}", tmp_path / str(phase), replace(config, phase=phase), loop
        )
        start = str(run / "best.pt")
    about = train.restore(run)[0].metadata()
    assert about["crop"]["rule"] == "sphereface5"
    assert about["config"]["morphable"] == "tiny.npz"
