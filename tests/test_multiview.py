"""multiview: eqs. 1-4 by hand, the crop's camera, mirrored truth, the three views, and MV that begins as SV."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from sameface import morphable
from sameface.core.camera import Perspective
from sameface.core.errors import BadData
from sameface.core.geometry import euler_from_rotation, rotation_from_euler, rotation_from_quaternion
from sameface.training import train
from sameface.training.methods import isoface, multiview
from sameface.training.methods.multiview import in_camera, project, reprojection
from sameface.training.nets import VGG16
from sameface.training.train import Loop

FRONTAL = np.diag([1.0, -1.0, -1.0])
YAWS = (-50.0, -20.0, 4.0, 30.0, 47.0)
VARIANTS = ("single", "add", "concatenate", "shape")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_model) -> Path:
    path = tmp_path_factory.mktemp("multiview")
    tiny_model.save(path / "tiny.npz")
    return path


@pytest.fixture(scope="module")
def config(folder) -> multiview.Config:
    return multiview.Config(morphable=str(folder / "tiny.npz"), size=32, batch=2, steps=2)


def method_of(config: multiview.Config, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return multiview.Method(config)


class People:
    """Two persons in five yaws and a stranger, of a model with full-perspective cameras; pictures of noise."""

    def __init__(self, model, told: bool = False):
        rng, self.reads = np.random.default_rng(0), 0
        identities, self.items, self.model = rng.normal(size=(3, model.n_identity)), [], model
        for person, yaw in [(p, y) for p in (0, 1) for y in YAWS] + [(-1, 0.0)]:
            calibration = np.array([[150.0, 0, 82], [0, 155, 77], [0, 0, 1]])
            rotation = rotation_from_euler(*np.array([0.1, np.radians(yaw), 0.05]))
            translation = np.array([*rng.uniform(-80, 80, 2), rng.uniform(300, 700)])
            seen = model.landmarks(model.vertices(identities[person])) @ rotation.T + translation
            points = seen @ calibration.T
            self.items.append(
                {
                    "image": rng.integers(0, 256, (160, 160, 3), dtype=np.uint8),
                    "identity": identities[person].astype(np.float32),
                    "rotation": rotation.astype(np.float32),
                    "translation": translation.astype(np.float32),
                    "camera_matrix": calibration.astype(np.float32),
                    "landmarks68": (points[:, :2] / points[:, 2:]).astype(np.float32),
                    "person": np.int64(person),
                }
            )
        self.person = np.array([item["person"] for item in self.items])
        if told:
            self.rotation = np.stack([item["rotation"] for item in self.items])

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int):
        self.reads += 1
        return self.items[index]


def batch_of(method: Any, train_items: bool = True) -> dict[str, torch.Tensor]:
    data = People(method.model)
    items = [method.sample(data, k, np.random.default_rng(k), train_items) for k in (0, 3, 6, 10)]
    return train.collate(items, torch.device("cpu"))


# ── formulas ───────────────────────────────────────────────────────────────────────────────────────────────


@given(seed=st.integers(0, 2**32 - 1))
def test_projection_is_the_pinhole_cameras(seed):
    rng = np.random.default_rng(seed)
    rotation, translation = Rotation.random(rng=rng).as_matrix(), np.array([30.0, -20, 600])
    camera = Perspective(rotation, translation, np.array(900.0), np.array([300.0, 200]), (640, 480))
    calibration, shape = np.array([[900.0, 0, 300], [0, 900, 200], [0, 0, 1]]), rng.normal(size=(9, 3)) * 50
    found = project(*(torch.tensor(x)[None] for x in (shape, rotation[None], translation[None], calibration[None])))
    np.testing.assert_allclose(found[0, 0].numpy(), camera.project(shape))


def test_points_behind_the_camera_stay_finite_on_their_side():
    shape = torch.tensor([[[10.0, 0, 900.0], [10.0, 0, 0.0]]])
    pose = torch.tensor(FRONTAL).float()[None, None], torch.tensor([[[0.0, 0, 500]]]), torch.eye(3)[None, None]
    assert project(shape, *pose)[0, 0, :, 0].tolist() == pytest.approx([10 / 100, 10 / 500])


def test_the_loss_is_that_of_a_slow_loop():
    found, true = torch.rand(2, 3, 5, 2), torch.rand(2, 3, 5, 2)
    total = 0.0
    for b in range(2):
        for n in range(3):
            for v in range(5):
                total += float((found[b, n, v] - true[b, n, v]).square().sum()) / 5 / 2
    assert reprojection(found, true).item() == pytest.approx(total, rel=1e-5)


def test_the_gradient_through_pose_and_projection():
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    calibration = torch.tensor([[80.0, 0, 15], [0, 82, 17], [0, 0, 1]], dtype=torch.float64).expand(1, 2, 3, 3)
    shape, q, where, scale = 30 * draw(1, 4, 3), draw(1, 2, 4), 0.1 * draw(1, 2, 2), 0.005 + 0.001 * draw(1, 2).abs()
    true = 30 * draw(1, 2, 4, 2)

    def loss(shape, q, where, scale):
        pose = in_camera(rotation_from_quaternion(q), where, scale, calibration, 32)
        return reprojection(project(shape, *pose, calibration), true)

    assert torch.autograd.gradcheck(loss, [x.requires_grad_() for x in (shape, q, where, scale)])


def test_what_the_crop_shows_becomes_a_pose_in_its_camera():
    calibration = torch.tensor([[200.0, 0, -40], [0, 200, 60], [0, 0, 1]])[None, None]
    frontal = torch.tensor(FRONTAL).float()[None, None]
    where, scale = torch.tensor([[[0.1, -0.2]]]), torch.tensor([[0.01]])
    rotation, translation = in_camera(frontal, where, scale, calibration, 64)
    origin = project(torch.zeros(1, 1, 3), rotation, translation, calibration)
    np.testing.assert_allclose(origin[0, 0, 0].numpy(), [0.6 * 64, 0.3 * 64], atol=1e-4)
    assert translation[0, 0, 2].item() == pytest.approx(200 / 0.64)
    ray = np.array([(32 + 40) / 200, (32 - 60) / 200, 1])
    towards = rotation[0, 0].numpy() @ [0, 0, 1]  # a face that looks frontal in the crop looks along the crop's ray
    np.testing.assert_allclose(towards, -ray / np.linalg.norm(ray), atol=1e-6)
    centred = torch.tensor([[200.0, 0, 32], [0, 200, 32], [0, 0, 1]])[None, None]
    torch.testing.assert_close(in_camera(frontal, where, scale, centred, 64)[0], frontal)


# ── the network ────────────────────────────────────────────────────────────────────────────────────────────


def test_vgg_16_has_the_public_number_of_weights_and_the_heads_have_the_papers_sizes(folder):
    assert sum(p.numel() for p in VGG16().parameters()) == 14_714_688
    assert [k for k, layer in enumerate(VGG16().features) if isinstance(layer, torch.nn.Conv2d)] == [
        0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28,
    ]  # fmt: skip
    config = multiview.Config(network="vgg16", size=64, modes=64)
    method = method_of(config)
    assert method.model is morphable.default()
    sizes = {name: [tuple(layer.weight.shape) for layer in (head[0], head[2])] for name, head in method.heads.items()}
    inputs = 512 * 2 * 2
    assert sizes == {
        "rotation": [(256, inputs), (4, 256)], "translation": [(256, inputs), (3, 256)],
        "identity": [(256, inputs), (64, 256)],
    }  # fmt: skip
    shape = method_of(replace(config, variant="shape"))
    assert shape.merge[0].weight.shape == (256, 3 * 512)
    assert not shape.heads


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("merges", ["features", "coefficients"])
def test_every_variant_begins_at_a_frontal_mean_face_and_gives_its_shapes(config, tiny_model, variant, merges):
    method = method_of(replace(config, variant=variant, merges=merges, modes=5))
    views = () if variant == "single" else (3,)
    said = method(torch.rand(2, *views, 3, 32, 32))
    assert said["identity"].shape == (2, 6)
    assert said["identity"][:, 5].abs().max() == 0  # beyond the modes
    neutral, identity = said["neutral"].detach().numpy(), said["identity"].detach().numpy()
    np.testing.assert_allclose(neutral, method.model.vertices(identity), atol=1e-4)
    np.testing.assert_allclose(neutral[0], tiny_model.mean, atol=3)
    if variant == "shape":
        assert set(said) == {"identity", "neutral"}
        return
    assert said["translation"].shape == (2, *views, 2)
    assert said["scale"].shape == (2, *views)
    expected = np.broadcast_to(FRONTAL, (2, *views, 3, 3))
    np.testing.assert_allclose(said["rotation"].detach().numpy(), expected, atol=0.05)
    np.testing.assert_allclose(said["scale"].detach().numpy(), method.typical_scale, rtol=0.1)


def test_addition_does_not_mind_the_order_of_the_views_and_concatenation_does(config):
    images = torch.rand(2, 3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    for variant, same in (("add", True), ("concatenate", False), ("shape", False)):
        method = method_of(replace(config, variant=variant))
        with torch.no_grad():
            one, other = (method(x)["identity"] for x in (images, images[:, [1, 2, 0]]))
        assert torch.allclose(one, other, atol=1e-7) == same


@pytest.mark.parametrize("variant", ["add", "concatenate"])
def test_a_merging_network_begins_as_the_single_one(config, variant):
    single = method_of(config)
    torch.nn.init.normal_(single.heads["identity"][2].weight)
    merged = method_of(replace(config, variant=variant), seed=1)
    merged.load_state_dict(single.state_dict())
    crops = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        one, three = single(crops), merged(crops[:, None].expand(-1, 3, -1, -1, -1))
    torch.testing.assert_close(one["identity"], three["identity"], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(one["rotation"], three["rotation"][:, 1])


def test_the_other_beginnings_keep_what_fits(config):
    single = method_of(config)
    shape = method_of(replace(config, variant="shape"), seed=1)
    merge = shape.merge[0].weight.detach().clone()
    shape.load_state_dict(single.state_dict())
    assert torch.equal(shape.encoder.features[0].weight, single.encoder.features[0].weight)
    assert torch.equal(shape.merge[0].weight, merge)
    each = method_of(replace(config, variant="add", merges="coefficients"), seed=2)
    merge = each.merge[0].weight.detach().clone()
    each.load_state_dict(single.state_dict())
    assert torch.equal(each.heads["identity"][0].weight, single.heads["identity"][0].weight)
    assert torch.equal(each.merge[0].weight, merge)
    from_concatenation = method_of(replace(config, variant="concatenate"), seed=3)
    shape.load_state_dict(from_concatenation.state_dict())
    assert torch.equal(shape.encoder.features[0].weight, from_concatenation.encoder.features[0].weight)


def test_weights_of_something_else_are_still_refused(config):
    merged = method_of(replace(config, variant="add"))
    with pytest.raises(RuntimeError, match="Missing key"):
        merged.load_state_dict({})
    with pytest.raises(RuntimeError, match="size mismatch"):
        merged.load_state_dict(method_of(replace(config, variant="concatenate")).state_dict())
    with pytest.raises(RuntimeError, match="Unexpected key"):
        method_of(config).load_state_dict(merged.state_dict())


@pytest.mark.parametrize("variant", VARIANTS)
def test_twenty_steps_lower_the_loss_and_every_weight_has_a_gradient(config, variant):
    method = method_of(replace(config, variant=variant, lr=1e-3))
    batch, optimizer, totals = batch_of(method), method.optimizer(), []
    for _ in range(20):
        terms = method.losses(batch, method(batch["images"]))
        assert list(terms) == ["shape" if variant == "shape" else "reprojection"]
        total = torch.stack(list(terms.values())).sum()
        optimizer.zero_grad()
        total.backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in method.parameters())
        optimizer.step()
        totals.append(total.item())
    assert np.mean(totals[-4:]) < 0.9 * np.mean(totals[:4])


def test_the_truth_itself_has_no_loss(config):
    method = method_of(replace(config, variant="add", symmetrised=False))
    batch = batch_of(method)
    calibration, size = batch["camera_matrix"], 32
    at = (calibration @ batch["translation"][..., None])[..., 0]
    focal = torch.linalg.det(calibration[..., :2, :2]).sqrt()
    turn = in_camera(torch.eye(3).expand(4, 3, 3, 3), torch.zeros(4, 3, 2), torch.ones(4, 3), calibration, size)[0]
    said = {
        "neutral": method.shape(batch["identity"]),
        "rotation": turn.transpose(-1, -2) @ batch["rotation"],
        "translation": at[..., :2] / at[..., 2:] / size - 0.5,
        "scale": focal / at[..., 2] / size,
    }
    assert method.losses(batch, said)["reprojection"].item() < 1e-4
    method.config = replace(method.config, variant="shape")
    moved = {"neutral": said["neutral"] + torch.tensor([1.0, 2, 2])}
    assert method.losses(batch, moved)["shape"].item() == pytest.approx(9, abs=1e-3)


# ── training items ─────────────────────────────────────────────────────────────────────────────────────────


def test_the_views_of_an_item_are_its_persons_nearest_to_the_wanted_yaws(config, tiny_model):
    method, data = method_of(replace(config, variant="add")), People(tiny_model)
    item = method.sample(data, 6, np.random.default_rng(0), False)
    yaw = np.degrees(euler_from_rotation(item["rotation"].astype(np.float64))[1])
    np.testing.assert_allclose(yaw, [4, -50, 47], atol=1e-3)
    np.testing.assert_array_equal(item["identity"], data.items[6]["identity"])
    assert item["images"].shape == (3, 32, 32, 3)
    assert not item["mirrored"]
    alone = method.sample(data, 10, np.random.default_rng(0), False)  # a stranger three times
    assert np.ptp(alone["rotation"], axis=0).max() == 0
    single = method_of(config).sample(data, 3, np.random.default_rng(0), False)
    assert single["rotation"].shape == (3, 3)
    np.testing.assert_allclose(single["rotation"], data.items[3]["rotation"], atol=1e-6)


def test_rows_are_read_for_their_yaw_once_or_never(config, tiny_model):
    for told, reads in ((False, [8, 3]), (True, [3, 3])):
        method, data = method_of(replace(config, variant="add")), People(tiny_model, told=told)
        for expected in reads:
            data.reads = 0
            method.sample(data, 0, np.random.default_rng(0), False)
            assert data.reads == expected


def items_of(method: Any, data: People, index: int, mirrored: bool) -> Any:
    """A training item that is mirrored, or not."""
    tries = (method.sample(data, index, np.random.default_rng(k), True) for k in range(50))
    return next(item for item in tries if bool(item["mirrored"]) == mirrored)


def in_pixels(method: Any, item: Any) -> np.ndarray:
    """(V, 2) px of the crop: the true face of an item of one view."""
    batch = train.collate([item], torch.device("cpu"))
    poses = (batch[name][:, None] for name in ("rotation", "translation", "camera_matrix"))
    return project(method.true_shape(batch), *poses)[0, 0].numpy()


def test_the_crops_camera_is_the_photos_warped(config, tiny_model):
    method, data = method_of(config), People(tiny_model)
    for item in data.items:
        item["camera_matrix"] = np.array([[150.0, 0, 82], [0, 150, 77], [0, 0, 1]], np.float32)
    raw = data.items[3]
    affine = method.crop_affine(raw["landmarks68"])
    rotation, translation = (raw[k].astype(np.float64) for k in ("rotation", "translation"))
    photo = Perspective(rotation, translation, np.array(150.0), np.array([82.0, 77]), (160, 160))
    camera = photo.warped(affine, (32, 32))
    found = in_pixels(method, method.sample(data, 3, np.random.default_rng(0), False))
    np.testing.assert_allclose(found, camera.project(tiny_model.vertices(raw["identity"]).astype(float)), atol=1e-3)
    inside = raw["landmarks68"] @ affine[:, :2].T + affine[:, 2]
    np.testing.assert_allclose((inside.min(0) + inside.max(0)) / 2, 16, atol=1e-4)
    assert np.ptp(inside, axis=0).max() == pytest.approx(32 / 1.5, rel=1e-5)


def test_a_mirrored_item_is_the_mirror_image_in_pixels_shape_and_pose(config, tiny_model):
    still = replace(config, zoom=0.0, shift=0.0, degraded=False)
    method, data = method_of(still), People(tiny_model)
    plain, other = (items_of(method, data, 3, mirrored) for mirrored in (False, True))
    np.testing.assert_array_equal(other["images"], plain["images"][:, ::-1])
    expected = in_pixels(method, plain)[tiny_model.mirror]
    expected[:, 0] = 32 - expected[:, 0]
    np.testing.assert_allclose(in_pixels(method, other), expected, atol=1e-3)
    yaw = [float(euler_from_rotation(item["rotation"].astype(float))[1]) for item in (plain, other)]
    assert yaw[1] == pytest.approx(-yaw[0], abs=1e-6)
    several = method_of(replace(still, variant="add", yaw_spread=0.0))
    yaw = np.degrees(euler_from_rotation(items_of(several, data, 3, True)["rotation"].astype(float))[1])
    np.testing.assert_allclose(yaw, [-4, -47, 50], atol=1e-3)  # left is left in the mirrored photo too


def test_the_basis_of_the_shipped_model_says_the_mirrored_face_within_a_hair():
    model = morphable.default()
    basis = model.identity_basis[:, :, :].astype(np.float64)
    mirrored = basis[model.mirror] * np.array([-1.0, 1, 1])[:, None]
    flat, wanted = (b.reshape(-1, b.shape[2]) for b in (basis, mirrored))
    left = (wanted - flat @ np.linalg.lstsq(flat, wanted)[0]) @ np.random.default_rng(0).normal(size=(80, 20))
    assert np.linalg.norm(left.reshape(-1, 3, 20), axis=1).mean() < 0.05  # mm


# ── errors ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_wrong_settings_say_so(config, folder, tiny_model):
    with pytest.raises(ValueError, match="modes is 7, but tiny has 6 identity modes"):
        method_of(replace(config, modes=7))
    with pytest.raises(ValueError, match="size is 31, but five halvings need crops of at least 32 px"):
        method_of(replace(config, size=31))
    replace(tiny_model, mirror=None).save(folder / "one_sided.npz")
    one_sided = replace(config, morphable=str(folder / "one_sided.npz"))
    with pytest.raises(BadData, match="does not know its mirror image; train with --no-symmetrised"):
        method_of(one_sided)
    method = method_of(replace(one_sided, symmetrised=False))
    assert method.losses(batch := batch_of(method), method(batch["images"]))["reprojection"].item() > 0


def test_wrong_inputs_say_so(config, tiny_model):
    with pytest.raises(ValueError, match=r"variant 'single' takes images \(B, 3, H, W\), not \(2, 3, 3, 32, 32\)"):
        method_of(config)(torch.rand(2, 3, 3, 32, 32))
    with pytest.raises(ValueError, match=r"variant 'add' takes images \(B, 3, 3, H, W\), not \(2, 2, 3, 32, 32\)"):
        method_of(replace(config, variant="add"))(torch.rand(2, 2, 3, 32, 32))
    data = People(tiny_model)
    data.items[0] |= {"translation": np.array([0, 0, 20], np.float32)}
    with pytest.raises(BadData, match="a head reaches behind its camera"):
        method_of(config).sample(data, 0, np.random.default_rng(0), False)
    data.items[0] |= {"identity": np.zeros(5, np.float32)}
    with pytest.raises(BadData, match="gives 5 identity coefficients, but tiny has 6; name the labels' model"):
        method_of(config).sample(data, 0, np.random.default_rng(0), False)


# ── runs ───────────────────────────────────────────────────────────────────────────────────────────────────

DATA = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_multiview import People
from sameface import morphable
gives = ("image", "identity", "rotation", "translation", "camera_matrix", "landmarks68", "person")
def load(root, split): return People(morphable.load(Path(root) / "tiny.npz"))
def sample(root): ...
"""


def test_runs_start_from_one_another_and_say_how_many_views_they_see(config, folder, tmp_path):
    source = tmp_path / "people.py"
    source.write_text(DATA.format(tests=str(Path(__file__).parent)))
    start = ""
    for variant in ("single", "concatenate", "shape"):
        loop = Loop(validate_items=2, start=start)
        run = train.train("multiview", f"{source}:{folder}", tmp_path / variant, replace(config, variant=variant), loop)
        start = str(run / "best.pt")
    assert train.restore(tmp_path / "concatenate")[0].metadata()["views"] == [0.0, -45.0, 45.0]
    about = method_of(config).metadata()
    assert about["crop"] == {"size": 32, "rule": "box68", "factor": 1.5, "pixels": "RGB in [0, 1]"}
    assert about["views"] == []
    assert about["camera"]["focal / larger side of the photo, if unknown"] == multiview.FOCAL
    assert about["config"]["morphable"] == "tiny.npz"


def test_the_residual_network_begins_with_the_convolutions_of_isoface(tmp_path):
    torch.manual_seed(0)
    other, method = isoface.Method(isoface.Config()), multiview.Method(multiview.Config(network="residual"))
    before = method.heads["rotation"][0].weight.clone()  # pyright: ignore[reportIndexIssue]
    torch.save({"step": 0, "weights": other.state_dict()}, tmp_path / "best.pt")
    train._begun(method, str(tmp_path / "best.pt"))
    images = torch.rand(2, 3, 96, 96)
    with torch.no_grad():
        assert torch.equal(method.eval().encoder(images), other.eval().trunk.layers(images))
    assert torch.equal(method.heads["rotation"][0].weight, before)  # pyright: ignore[reportIndexIssue]
    with pytest.raises(ValueError, match="size is 100, but the network residual needs a multiple of 16"):
        multiview.Method(multiview.Config(network="residual", size=100))


def test_poses_come_first_where_asked(folder):
    torch.manual_seed(0)
    method = multiview.Method(multiview.Config(morphable=str(folder / "tiny.npz"), size=32, pose_first=0.5))
    torch.nn.init.ones_(method.heads["identity"][-1].bias)  # pyright: ignore[reportIndexIssue]
    images = torch.rand(2, 3, 32, 32)
    for progress, known in ((0.0, False), (0.49, False), (0.5, True)):
        method.schedule(progress)
        assert bool(method(images)["identity"].any()) == known
    method.schedule(0.0)
    assert method.eval()(images)["identity"].all()
