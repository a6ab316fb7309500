"""How far what a network draws is from the photo, pixel by pixel: what the study of `sir` and its test share."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from sameface.training import train

BATCH = 64
ERRORS = ("network's albedo and light", "network's albedo, best light", "mean albedo, network's light",
          "mean albedo, best light")  # fmt: skip


@torch.no_grad()
def colours(method: Any, items: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    """(N,) each: mean |Î − I| of the covered pixels, in the four ways of `ERRORS` to explain the same geometry."""
    rows = []
    for batch, output in answers(method, items):
        photo, skin = method.small(batch["images"]), method.skin[None]
        albedo, functions, mask = layers(method.painter, output)
        shading = torch.einsum("bkhw,bkc->bchw", functions, output["light"])
        drawn = (
            best_light(albedo, functions, photo, mask),
            skin * shading,
            best_light(skin.expand_as(albedo), functions, photo, mask),
        )
        own = method.photometric_error(batch["images"], output)
        rows.append([own, *(mean_distance(each, photo, mask) for each in drawn)])
    return {name: torch.cat([row[k] for row in rows]).numpy() for k, name in enumerate(ERRORS)}


def answers(method: Any, items: list[dict[str, Any]]) -> Iterator[tuple[dict[str, torch.Tensor], ...]]:
    """Batches, and what the network says of them."""
    for start in range(0, len(items), BATCH):
        batch = train.collate(items[start : start + BATCH], torch.device("cpu"))
        yield batch, method(batch["images"])


def layers(painter: Any, output: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The albedo (B, 3, P, P) and the nine functions of light (B, 9, P, P) that each pixel sees, and the mask.

    A picture is linear in its light: three functions at a time are the colours of a white face.
    """
    count = len(output["scale"])
    flat = torch.zeros(count, 9, 3)
    flat[:, 0] = math.sqrt(4 * math.pi)
    albedo, mask = painter(output | {"light": flat})
    functions = []
    for first in (0, 3, 6):
        light = torch.zeros(count, 9, 3)
        light[:, first : first + 3] = torch.eye(3)
        functions.append(painter(output | {"light": light, "albedo": torch.ones(count, 3, 2, 2)})[0])
    return albedo, torch.cat(functions, 1), mask


def best_light(albedo: torch.Tensor, functions: torch.Tensor, photo: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """albedo · Σ_k light_k Y_k (B, 3, P, P), with the nine numbers of each colour that come nearest to the photo.

    albedo, photo (B, 3, P, P), functions (B, 9, P, P); least squares over the masked pixels of each photo.
    """
    lit = (albedo[:, :, None] * functions[:, None]).flatten(3).mT
    inside = mask.flatten(1)[:, None, :, None]
    light = torch.linalg.lstsq((lit * inside).double(), (photo.flatten(2)[..., None] * inside).double(), driver="gelsd")
    return (lit @ light.solution.float()).view_as(photo)


def mean_distance(drawn: torch.Tensor, photo: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """(B,) mean over the masked pixels and colours of |drawn − photo|."""
    return ((drawn - photo).abs().mean(1) * mask).sum((1, 2)) / mask.sum((1, 2)).clamp_min(1)
