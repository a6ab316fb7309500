"""sir: the network's outputs, each loss where it belongs, the ablation's rows, eq. 22, and the exported file."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sameface import morphable
from sameface.core.errors import BadData
from sameface.core.geometry import rotation_from_euler
from sameface.photo.predictor import SPHEREFACE_FIVE
from sameface.training import losses, train
from sameface.training.methods import sir
from sameface.training.methods.sir import Config, Method, share_of_persons
from sameface.training.train import Loop

ROWS = {
    "none": set(),
    "cos": {"cos"},
    "cos+centre": {"cos", "centre"},
    "cos+weighted centre": {"cos", "centre"},
    "all": {"cos", "centre", "kl"},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_model) -> Path:
    path = tmp_path_factory.mktemp("sir")
    tiny_model.save(path / "tiny.npz")
    return path


@pytest.fixture(scope="module")
def config(folder) -> Config:
    return Config(morphable=str(folder / "tiny.npz"), persons=3, features=16, batch=4, steps=2, picture=28)


def method_of(config: Config) -> Method:
    torch.manual_seed(0)
    return Method(config)


class People:
    """Noise with the landmarks of random faces of the tiny model; 4 of 6 photos show one of three persons."""

    def __init__(self):
        tiny = morphable.load(Path(FOLDER) / "tiny.npz") if FOLDER else None
        rng = np.random.default_rng(0)
        self.person = np.array([0, 1, 2, 0, -1, -1])
        self.items = []
        for k in range(6):
            assert tiny is not None
            points = tiny.landmarks(tiny.vertices(rng.normal(size=6), rng.uniform(0, 1, 4)))
            rotation = rotation_from_euler(*np.array([[0.1], [0.2], [0.1 * k]]))[0]
            self.items.append({
                "image": rng.integers(0, 256, (160, 160, 3), dtype=np.uint8),
                "landmarks68_projected": (0.8 * (points @ rotation.T)[:, :2] + 80).astype(np.float32),
                "person": self.person[k],
            })  # fmt: skip

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int):
        return self.items[index]


FOLDER = ""


@pytest.fixture(scope="module")
def people(folder) -> People:
    global FOLDER
    FOLDER = str(folder)
    return People()


def batch_of(method: Method, people: People, recognise: tuple[bool, ...] = (True, True, False, False)):
    items = [method.sample(people, k, np.random.default_rng(k), True) for k in range(4)]
    batch = train.collate(items, torch.device("cpu"))
    return batch | {"recognise": torch.tensor(recognise), "person": torch.tensor([0, 1, 2, 0])}


def test_outputs_begin_as_the_mean_face_in_the_middle_of_the_crop(config, tiny_model):
    said = method_of(config)(torch.rand(2, 3, 112, 112))
    shapes = {name: tuple(value.shape[1:]) for name, value in said.items()}
    assert shapes == {
        "identity": (6,), "embedding": (6,), "expression": (4,), "rotation": (3, 3), "scale": (), "translation": (2,),
        "landmarks68": (68, 3), "light": (9, 3), "albedo": (3, 64, 64),
    }  # fmt: skip
    assert said["identity"].abs().max() < 0.5
    np.testing.assert_allclose(said["rotation"][0].detach(), np.diag([1, -1, -1]), atol=0.2)
    assert 0 < said["expression"].min() < said["expression"].max() < 0.2  # blendshape weights


def test_the_camera_begins_where_the_mean_face_fills_the_crop():
    model = morphable.default()
    scale, *translation = sir._start(model)
    flat = np.exp(scale) * model.landmarks(model.mean)[:, :2] * np.array([1, -1]) + translation
    np.testing.assert_allclose(sir.five_of_68(112 * (flat + 0.5)), SPHEREFACE_FIVE, atol=4)


def test_landmarks_are_those_of_the_model(config, tiny_model):
    said = {name: value.detach().numpy() for name, value in method_of(config)(torch.rand(2, 3, 112, 112)).items()}
    mesh = tiny_model.landmarks(tiny_model.vertices(said["identity"], said["expression"])).astype(np.float64)
    turned = said["scale"][:, None, None] * (mesh @ said["rotation"].swapaxes(1, 2))
    turned[..., :2] += said["translation"][:, None]
    np.testing.assert_allclose(said["landmarks68"], turned, atol=1e-3)


def test_distances_of_embeddings_are_those_of_the_meshes():
    model, method = morphable.default(), method_of(Config(recognition="none"))
    identity = torch.randn(2, 80, generator=torch.Generator().manual_seed(0))
    one, two = model.vertices(identity.numpy()).astype(np.float64)
    rms = np.sqrt(((one - two) ** 2).sum(1).mean())
    assert torch.dist(*(identity * method.spread)).item() == pytest.approx(rms, rel=1e-3)


def test_light_and_mean_albedo_begin_as_a_lit_skin(config):
    method = method_of(config)
    said = method(torch.rand(1, 3, 112, 112))
    picture, mask = method.painter(said | {"light": method.ambient[None], "albedo": method.skin.expand(1, 3, 4, 4)})
    np.testing.assert_allclose(picture[0][:, mask[0]].mean(1).detach(), sir.SKIN, atol=1e-3)


@pytest.mark.parametrize("recognition", list(ROWS))
def test_the_rows_of_the_ablation_are_one_setting_each(config, people, recognition):
    method = method_of(replace(config, recognition=recognition, warm_up=0.0))
    batch = batch_of(method, people)
    terms = method.losses(batch, method(batch["images"]))
    always = {"landmarks", "identity_size", "expression_size", "pixel", "perceptual", "albedo_rough", "albedo_size"}
    assert set(terms) == always | ROWS[recognition]
    torch.stack(list(terms.values())).sum().backward()
    assert all((p.grad is not None) == p.requires_grad for p in method.parameters())
    assert method.classes.requires_grad == (recognition != "none")


def test_each_photo_has_the_terms_of_its_kind(config, people):
    method = method_of(replace(config, warm_up=0.5))
    batch = batch_of(method, people)
    output = method(batch["images"])
    land = losses.landmark_distance(112 * output["landmarks68"][..., :2], 112 * batch["landmarks"])
    method.schedule(0.2)
    early, weight = method.losses(batch, output), method.config.land_weight
    assert early["landmarks"].item() == pytest.approx(weight * land.mean().item(), rel=1e-5)
    assert early["cos"].item() == early["centre"].item() == early["kl"].item() == 0
    assert method.centres.abs().max() == 0
    method.schedule(0.7)
    late = method.losses(batch, output)
    assert late["landmarks"].item() == pytest.approx(weight * land[2:].sum().item() / 4, rel=1e-5)
    person = torch.tensor([0, 1, -1, -1])
    cos = losses.cosface(output["embedding"], method.classes, person)
    assert late["cos"].item() == pytest.approx(0.1 * cos.item(), rel=1e-5)
    kl = losses.kl_to_standard_normal(output["identity"][:2])
    assert late["kl"].item() == pytest.approx(0.1 * 0.1 * kl.item(), rel=1e-5)
    both = method_of(replace(config, landmarks_for_all=True, warm_up=0.0)).losses(batch, output)
    assert both["landmarks"].item() == pytest.approx(weight * land.mean().item(), rel=1e-5)


@pytest.mark.parametrize("recognition", ["cos+centre", "cos+weighted centre"])
def test_centres_follow_in_training_only(config, people, recognition):
    method = method_of(replace(config, recognition=recognition, warm_up=0.0))
    batch = batch_of(method, people)
    output = method(batch["images"])
    method.eval().losses(batch, output)
    assert method.centres.abs().max() == 0
    method.train().losses(batch, output)
    f = losses.neutral_frontal(output["rotation"], output["expression"]).detach()
    weight = f[0] if recognition == "cos+weighted centre" else 1.0
    torch.testing.assert_close(method.centres[0], 0.5 * weight * output["embedding"][0].detach() / 2)
    assert method.centres[2].abs().max() == 0


def test_without_the_photometric_loss_its_networks_rest(config, people):
    method = method_of(replace(config, photometric=False))
    batch = batch_of(method, people)
    terms = method.losses(batch, method(batch["images"]))
    assert not {"pixel", "perceptual", "albedo_rough", "albedo_size"} & set(terms)
    torch.stack(list(terms.values())).sum().backward()
    assert all((p.grad is not None) == p.requires_grad for p in method.parameters())
    assert not any(p.requires_grad for p in method.albedo.parameters())
    assert sum(len(g["params"]) for g in method.optimizer().param_groups) < len(list(method.parameters()))


def test_the_photometric_error_is_the_mean_over_the_face(config):
    method = method_of(config)
    with torch.no_grad():
        said = method(torch.rand(2, 3, 112, 112))
        picture, mask = method.painter(said)
        photo = picture.repeat_interleave(4, 2).repeat_interleave(4, 3) + 0.25
        np.testing.assert_allclose(method.photometric_error(photo, said), 0.25, atol=1e-5)
    assert mask.any()


def test_the_perceptual_loss_sees_the_features_of_another_run(config, people, monkeypatch):
    seen = []

    def trunk(run, stages):
        seen.append((str(run), stages))
        return torch.nn.Conv2d(3, 5, 3, 4, 1)

    monkeypatch.setattr(sir.appearance, "trunk", trunk)
    method = method_of(replace(config, encoder="some/run"))
    batch = batch_of(method, people)
    terms = method.losses(batch, method(batch["images"]))
    torch.stack(list(terms.values())).sum().backward()
    assert terms["perceptual"].isfinite()
    assert seen == [("some/run", 2)]
    assert not any("encoder" in name for name in method.state_dict())
    assert method.metadata()["config"]["encoder"] == "run"


def test_the_shipped_encoder_sees_the_same_face_nearer_than_another(config, people):
    method = method_of(config)
    photos = torch.linspace(-1, 1, 3 * 56 * 56).reshape(1, 3, 56, 56)
    features = method._encoder(photos)
    assert features.shape == (1, 48, 14, 14)
    assert not any(weight.requires_grad for weight in method._encoder.parameters())
    near, far = (method._encoder(other).sub(features).norm() for other in (0.9 * photos, photos.flip(2)))
    assert 0 < near < far
    batch = batch_of(method, people)
    assert method.losses(batch, method(batch["images"]))["perceptual"].isfinite()
    plain = method_of(replace(config, perceptual=False))
    assert "perceptual" not in plain.losses(batch, plain(batch["images"]))


def test_twenty_steps_lower_the_loss(config, people):
    method = method_of(replace(config, warm_up=0.0))
    batch, optimizer, totals = batch_of(method, people), method.optimizer(), []
    for _ in range(20):
        total = torch.stack(list(method.losses(batch, method(batch["images"])).values())).sum()
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(total.item())
    assert np.mean(totals[-3:]) < 0.8 * np.mean(totals[:3])


def test_photos_are_drawn_for_their_persons_as_often_as_equation_22_says(config, people, monkeypatch):
    assert share_of_persons(60, 40) == 0.6
    assert share_of_persons(6, 0) == 0
    method = method_of(config)
    monkeypatch.setattr(sir, "augmented", lambda crop, rng: crop)
    rng = np.random.default_rng(0)
    items = [method.sample(people, k % 6, rng, True) for k in range(400)]
    recognise = np.array([item["recognise"] for item in items])
    assert recognise.mean() == pytest.approx(6 / 10, abs=0.08)
    persons = np.array([item["person"] for item in items])
    assert persons[recognise].min() == 0  # never a stranger
    assert persons[~recognise].min() == -1
    held_out = [method.sample(people, k, np.random.default_rng(k), False) for k in range(6)]
    assert not any(item["recognise"] or item["person"] >= 0 for item in held_out)


def test_the_crop_puts_the_face_where_sphereface_wants_it(config, people):
    item = method_of(config).sample(people, 0, np.random.default_rng(0), False)
    assert item["images"].shape == (112, 112, 3)
    five = sir.five_of_68(112 * (item["landmarks"] + 0.5))
    np.testing.assert_allclose(five.mean(0), SPHEREFACE_FIVE.mean(0), atol=1e-3)


def test_persons_beyond_the_classes_and_odd_pictures_are_refused(config, people):
    method = method_of(replace(config, persons=0, warm_up=0.0))
    batch = batch_of(method, people)
    with pytest.raises(BadData, match="person 1 is beyond the 1 classes; raise --persons"):
        method.losses(batch, method(batch["images"]))
    with pytest.raises(ValueError, match="must divide 112, but is 50; take 28, 56 or 112"):
        Method(replace(config, picture=50))


def test_the_schedule_warms_up_and_cools_down(config):
    method = method_of(config)
    assert method.schedule(0.0) < 0.01
    assert method.schedule(0.03) == pytest.approx(1)
    assert method.schedule(1.0) == pytest.approx(0.01)
    assert method.progress == 1


def test_the_papers_network(folder):
    with torch.device("meta"):
        shared = sir.SphereFace((64, 128), (3, 8))
        branch = sir._branch(sir.PRESETS["sphereface64"], 512, 199)
        maps = shared(torch.zeros(1, 3, 112, 96))
        assert branch(maps).shape == (1, 199)
    assert sum(isinstance(part, torch.nn.Conv2d) for part in [*shared.modules(), *branch.modules()]) == 64
    assert branch[2].weight.shape == (512, 512 * 7 * 6)
    assert (sir.PRESETS["sphereface64"].albedo_code, len(sir.PRESETS["sphereface64"].albedo_widths)) == (512, 6)


def test_the_default_model_gives_the_sizes():
    method = method_of(Config(recognition="none", features=16))
    assert method.branches["identity"][-1].out_features == 80
    assert method.branches["rest"][-1].out_features == 51 + 7 + 27


DATA = """
import sys
sys.path.insert(0, {tests!r})
import test_sir
gives = ("image", "landmarks68_projected", "person")
def load(root, split):
    test_sir.FOLDER = {folder!r}
    return test_sir.People()
def sample(root): ...
"""


def test_a_run_says_what_it_takes_and_gives(config, tmp_path, folder):
    source = tmp_path / "people.py"
    source.write_text(DATA.format(tests=str(Path(__file__).parent), folder=str(folder)))
    run = train.train("sir", f"{source}:{tmp_path}", tmp_path / "run", config, Loop(validate_items=2))
    method, _ = train.restore(run)
    about = method.metadata()
    assert about["crop"]["rule"] == "sphereface5"
    assert about["config"]["morphable"] == "tiny.npz"
    assert list(method(method.example()))[:2] == ["identity", "embedding"]
