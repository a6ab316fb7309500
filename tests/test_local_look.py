"""The closer look around landmarks: its windows against torch's own sampling, and that it finds what lies beside."""

import pytest
import torch
from torch.nn import functional

from sameface.training.local_look import FARTHEST, WINDOW, LocalLook, windows


def sampled(maps: torch.Tensor, centres: torch.Tensor) -> torch.Tensor:
    """The same windows by `grid_sample`."""
    steps = torch.arange(WINDOW) - WINDOW // 2
    offsets = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), dim=-1).reshape(-1, 2)
    high, wide = maps.shape[2:]
    grid = (centres[:, :, None] + offsets) / torch.tensor([wide, high]) * 2 - 1
    seen = functional.grid_sample(maps, grid.to(maps), padding_mode="border", align_corners=False)
    return seen.permute(0, 2, 3, 1).reshape(*centres.shape[:2], WINDOW, WINDOW, maps.shape[1])


def test_windows_are_bilinear_samples_and_beyond_the_border_those_of_the_border():
    torch.manual_seed(0)
    maps = torch.randn(3, 4, 12, 10, dtype=torch.float64)
    centres = torch.rand(3, 40, 2, dtype=torch.float64) * torch.tensor([10.0, 12.0])
    assert torch.allclose(windows(maps, centres), sampled(maps, centres), atol=1e-12)
    edges = torch.tensor([[[0.0, 0.0], [10.0, 12.0], [0.0, 12.0], [5.0, 6.0]]], dtype=torch.float64)
    assert torch.allclose(windows(maps[:1], edges), sampled(maps[:1], edges), atol=1e-12)


def test_a_place_outside_counts_as_one_on_the_border():
    maps = torch.arange(4.0).reshape(1, 1, 2, 2)
    outside, border = torch.tensor([[[-50.0, -50.0], [50.0, 1.0]]]), torch.tensor([[[0.0, 0.0], [2.0, 1.0]]])
    assert torch.equal(windows(maps, outside), windows(maps, border))


def test_gradients_reach_the_maps():
    torch.manual_seed(1)
    maps = torch.randn(2, 2, 5, 6, dtype=torch.float64, requires_grad=True)
    centres = torch.rand(2, 3, 2, dtype=torch.float64) * 5
    assert torch.autograd.gradcheck(lambda m: windows(m, centres), (maps,))


def test_it_learns_to_step_onto_a_dot_from_where_it_was_pointed():
    """Maps show one bright dot; the rough places are up to 3 px beside it. Untrained, the step is nearly none. An
    eighth of the way is left from this seed: room for the last bits of a float, which two hundred steps multiply."""
    torch.manual_seed(1)
    size, look = 32, LocalLook(4, 1)
    optimizer, generator = torch.optim.Adam(look.parameters(), 3e-3), torch.Generator().manual_seed(1)
    pixels = (torch.arange(size // 2) + 0.5) * 2
    for step in range(201):
        dot = 10 + 12 * torch.rand(64, 1, 2, generator=generator)
        rough = dot + 3 * (2 * torch.rand(64, 1, 2, generator=generator) - 1)
        square = (pixels[None, :, None] - dot[:, :, 1:]) ** 2 + (pixels[None, None, :] - dot[:, :, :1]) ** 2
        bright = torch.exp(-square / 8)[:, None].expand(-1, 2, -1, -1)
        crops = torch.zeros(64, 3, size, size)
        found, _ = look(crops, bright, torch.zeros(64, 4, size // 4, size // 4), rough / size - 0.5)
        off = (rough / size + found - dot / size).norm(dim=-1).mean() * size
        if step == 0:
            assert float(found.detach().abs().max()) < FARTHEST / 10
            before = float(off.detach())
        optimizer.zero_grad()
        off.backward()
        optimizer.step()
    assert float(off.detach()) < 0.2 * before


@pytest.mark.parametrize("points", [1, 164])
def test_it_gives_a_step_and_an_error_for_each_point(points):
    look = LocalLook(8, points)
    step, error = look(
        torch.rand(2, 3, 32, 32), torch.rand(2, 4, 16, 16), torch.rand(2, 8, 8, 8), torch.zeros(2, points, 2)
    )
    assert step.shape == (2, points, 2)
    assert error.shape == (2, points)
