"""What makes a picture of a face: drawing, albedo, confidence, features of other networks."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from sameface.core.errors import AssetMissing, BadModel
from sameface.mesh import render
from sameface.training import appearance
from sameface.training.appearance import (
    AlbedoDecoder,
    ConfidenceNet,
    Painter,
    placed,
    resized,
    trunk,
)

FRONTAL = torch.diag(torch.tensor([1.0, -1.0, -1.0]))[None]
AMBIENT = torch.zeros(1, 9, 3).index_fill(1, torch.tensor([0]), (4 * np.pi) ** 0.5)


def face(model, **changes) -> dict[str, torch.Tensor]:
    """The mean face of a model, frontal, under white ambient light that shades by 1."""
    said = {
        "identity": torch.zeros(1, model.n_identity),
        "expression": torch.zeros(1, model.n_expression),
        "rotation": FRONTAL,
        "scale": torch.tensor([0.006]),
        "translation": torch.zeros(1, 2),
        "albedo": torch.full((1, 3, 8, 8), 0.5),
        "light": AMBIENT,
    }
    return said | changes


def test_ambient_light_shows_the_albedo(tiny_model):
    picture, mask = Painter(tiny_model, 20)(face(tiny_model))
    assert picture.shape == (1, 3, 20, 20)
    assert 0.2 < mask.float().mean() < 0.8
    torch.testing.assert_close(picture[:, :, mask[0]], torch.full_like(picture[:, :, mask[0]], 0.5))
    assert picture[:, :, ~mask[0]].abs().max() == 0


def test_only_the_region_is_drawn(tiny_model):
    face_only, whole = Painter(tiny_model, 40), Painter(tiny_model, 40, "all of it")
    inside = tiny_model.regions["face"][tiny_model.faces].all(1)
    assert len(face_only.faces) == inside.sum() < len(whole.faces) == len(tiny_model.faces)
    assert face_only(face(tiny_model))[1].sum() < whole(face(tiny_model))[1].sum()


def test_the_upper_left_of_the_map_is_the_upper_left_of_a_frontal_face(tiny_model):
    albedo = torch.zeros(1, 3, 8, 8)
    albedo[:, 0, :4, :4] = 1  # row 0 is the top, u grows with x
    picture, mask = Painter(tiny_model, 40, "all of it")(face(tiny_model, albedo=albedo))
    assert picture[0, 0, 12, 12] > 0.9
    assert mask[0, 12, 27]
    assert picture[0, 0, 12, 27] == picture[0, 0, 27, 12] == 0


def test_light_from_the_viewers_left_brightens_that_side(tiny_model):
    light = AMBIENT.clone()
    light[:, 3] = -1.0  # Y_3 goes with x of the camera's frame
    picture, mask = Painter(tiny_model, 40, "all of it")(face(tiny_model, light=light))
    left, right = picture[..., :20][:, :, mask[0, :, :20]], picture[..., 20:][:, :, mask[0, :, 20:]]
    assert left.mean() > right.mean() + 0.02


def test_the_picture_follows_coefficients_and_camera(tiny_model):
    painter = Painter(tiny_model, 40, "all of it")
    picture, mask = painter(face(tiny_model))
    moved, its = painter(face(tiny_model, translation=torch.tensor([[0.1, 0.0]])))
    torch.testing.assert_close(moved[..., 4:], picture[..., :-4], atol=1e-3, rtol=0)
    assert (its[..., 4:] == mask[..., :-4]).float().mean() > 0.99
    values = {"identity": torch.randn(1, 6), "expression": torch.rand(1, 4)}
    vertices = tiny_model.vertices(values["identity"][0].numpy(), values["expression"][0].numpy())
    pixels = 40 * (placed(torch.tensor(vertices)[None], FRONTAL, torch.tensor([0.006]), torch.zeros(1, 2)) + 0.5)
    expected = render.rasterise(pixels, painter.faces, (40, 40)).mask
    assert (painter(face(tiny_model, **values))[1] == expected).float().mean() > 0.99


def test_light_and_albedo_of_a_picture_can_be_found_again(tiny_model):
    torch.manual_seed(0)
    painter = Painter(tiny_model, 24, "all of it")
    light = AMBIENT + 0.3 * torch.randn(1, 9, 3)
    photo, mask = painter(face(tiny_model, albedo=torch.rand(1, 3, 8, 8), light=light))
    logits, light = torch.zeros(1, 3, 8, 8, requires_grad=True), AMBIENT.clone().requires_grad_()
    optimizer, errors = torch.optim.Adam([logits, light], lr=0.05), []
    for _ in range(150):
        picture, _ = painter(face(tiny_model, albedo=logits.sigmoid(), light=light))
        error = (picture - photo).abs().sum() / mask.sum()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        errors.append(error.item())
    assert errors[-1] < 0.15 * errors[0]


def test_a_model_without_texture_coordinates_is_refused(tiny_model):
    with pytest.raises(BadModel, match="tiny has no texture coordinates"):
        Painter(replace(tiny_model, uv=None), 8)


def test_points_are_placed_in_crop_units():
    points = torch.tensor([[[10.0, 20.0, 30.0]]])
    at = placed(points, FRONTAL, torch.tensor([0.01]), torch.tensor([[0.1, 0.2]]))
    torch.testing.assert_close(at, torch.tensor([[[0.2, 0.0, -0.3]]]))


def test_albedo_begins_as_the_mean_and_has_the_papers_size():
    torch.manual_seed(0)
    decoder = AlbedoDecoder(7, (16, 8), (0.6, 0.5, 0.4))
    albedo = decoder(torch.zeros(2, 7))
    assert albedo.shape == (2, 3, 16, 16)
    np.testing.assert_allclose(albedo.detach().mean((0, 2, 3)), [0.6, 0.5, 0.4], atol=0.03)
    with torch.device("meta"):
        full = AlbedoDecoder(512, (512, 256, 128, 64, 32, 16), (0.6, 0.5, 0.4))
        assert full(torch.zeros(2, 512)).shape == (2, 3, 256, 256)


def test_confidence_is_positive_at_both_sizes():
    torch.manual_seed(0)
    fine, coarse = ConfidenceNet(8)(torch.rand(2, 3, 64, 64))
    assert (fine.shape, coarse.shape) == ((2, 64, 64), (2, 16, 16))
    assert min(fine.min(), coarse.min()) > appearance.LEAST_CONFIDENCE


def test_resized_keeps_what_fits_and_averages_what_shrinks():
    pictures = torch.rand(1, 2, 8, 8)
    assert resized(pictures, 8) is pictures
    torch.testing.assert_close(resized(pictures, 2).mean(), pictures.mean(), atol=0.05, rtol=0)


METHOD = """
from dataclasses import dataclass
from torch import nn
@dataclass(frozen=True)
class Config:
    widths: tuple = (4, 5, 6)
class Method(nn.Module):
    def __init__(self, config):
        super().__init__()
        a, b, c = config.widths
        self.trunk = nn.Sequential(nn.Conv2d(3, a, 3, 2, 1), nn.Conv2d(a, b, 3, 2, 1), nn.Conv2d(b, c, 3, 2, 1))
"""


def test_the_trunk_of_a_run_gives_features(tmp_path):
    source = tmp_path / "mine.py"
    source.write_text(METHOD)
    from sameface.core import plugins

    plugin = plugins.load("methods", str(source))
    method, run = plugin.Method(plugin.Config()), tmp_path / "run"
    with pytest.raises(AssetMissing, match=r"has no config\.json: it is not the folder of a run"):
        trunk(run, 2)
    run.mkdir()
    (run / "config.json").write_text(
        json.dumps({"method": str(source), "data": "", "config": asdict(plugin.Config()), "loop": {}})
    )
    torch.save({"step": 1, "weights": method.state_dict()}, run / "best.pt")
    found, pictures = trunk(run, 2), torch.rand(1, 3, 16, 16)
    torch.testing.assert_close(found(pictures), method.trunk[:2](pictures))
    assert not any(p.requires_grad for p in found.parameters())
    with pytest.raises(ValueError, match="has a trunk of 3 stages, so it cannot give 4"):
        trunk(run, 4)
