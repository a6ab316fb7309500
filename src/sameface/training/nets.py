"""Backbones that several methods share, the course of their learning rates, and which weights decay."""

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

__all__ = ["VGG16", "SphereFace", "Trunk", "one_cycle", "parameter_groups", "residual"]

NARROWEST = 8
"""channels of a residual stage. Of narrower ones oneDNN's backward pass spoils the memory of the process on processors
without AVX-512 (torch 2.13.0)"""


class _Unit(nn.Module):
    """Two 3×3 convolutions with PReLU around a shortcut."""

    def __init__(self, width: int):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 3, 1, 1), nn.PReLU(width), nn.Conv2d(width, width, 3, 1, 1), nn.PReLU(width)
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class SphereFace(nn.Module):
    """Stages of SphereFace (Liu et al., CVPR 2017, table 2; public code sphereface_pytorch/net_sphere.py).

    Each stage is a 3×3 convolution of stride 2 with PReLU and then residual units; there are no normalisations, so
    several processes compute what one does. widths (64, 128, 256, 512): units (1, 2, 4, 1) are SphereFace-20,
    (3, 8, 16, 3) are SphereFace-64. `inputs` are the channels of what goes in.
    """

    def __init__(self, widths: Sequence[int], units: Sequence[int], inputs: int = 3):
        super().__init__()
        stages = []
        for width, count in zip(widths, units, strict=True):
            first = nn.Sequential(nn.Conv2d(inputs, width, 3, 2, 1), nn.PReLU(width))
            stages.append(nn.Sequential(first, *(_Unit(width) for _ in range(count))))
            inputs = width
        self.stages = nn.Sequential(*stages)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        for unit in self.modules():
            if isinstance(unit, _Unit):  # a residual unit begins as little more than its shortcut
                nn.init.normal_(unit.body[2].weight, std=0.01)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) → (B, widths[-1], H / 2^stages, W / 2^stages)."""
        return self.stages(x)


class VGG16(nn.Module):
    """The 13 convolutions of VGG-16 (Simonyan & Zisserman, ICLR 2015, table 1, column D): 14,714,688 weights.

    Each stage is some 3×3 convolutions with ReLU and then a 2×2 maximum. `widths` and `counts` other than the defaults
    make smaller networks of the same kind. `features` is numbered as torchvision's `vgg16().features`, so that their
    weights fit. There are no normalisations; weights begin as He et al. 2015 have it, which keeps their variance.
    """

    def __init__(
        self,
        widths: Sequence[int] = (64, 128, 256, 512, 512),
        counts: Sequence[int] = (2, 2, 3, 3, 3),
        inputs: int = 3,
    ):
        super().__init__()
        layers: list[nn.Module] = []
        for width, count in zip(widths, counts, strict=True):
            for _ in range(count):
                layers += [nn.Conv2d(inputs, width, 3, 1, 1), nn.ReLU(inplace=True)]
                inputs = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        for layer in self.features:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) → (B, widths[-1], H / 2^stages, W / 2^stages)."""
        return self.features(x)


def one_cycle(progress: float) -> float:
    """Factor on the learning rate: linear warm-up over 3 % of the run, cosine to 1 %.

    >>> one_cycle(0.03), round(one_cycle(1.0), 6)
    (1.0, 0.01)
    """
    if progress < 0.03:
        return (progress + 1e-4) / 0.03
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (progress - 0.03) / 0.97))


def parameter_groups(network: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """An optimiser's two groups: weights of two axes and more, which decay, and biases and norms, which do not."""
    decay = [p for p in network.parameters() if p.ndim > 1]
    rest = [p for p in network.parameters() if p.ndim <= 1]
    return [{"params": decay, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]


def residual(widths: Sequence[int], blocks: Sequence[int]) -> nn.Sequential:
    """Residual blocks (He et al. 2016) with batch normalisation; the stem halves twice, every stage but the first once:
    (B, 3, H, W) → (B, widths[-1], H / 2^(stages + 1), W / 2^(stages + 1)). Raises ValueError for widths below 8."""
    if min(widths) < NARROWEST:
        raise ValueError(f"widths are {', '.join(map(str, widths))}; give at least {NARROWEST} channels to each stage")
    first = before = widths[0]
    layers: list[nn.Module] = [_convolution(3, first // 2, 2), _convolution(first // 2, first, 2)]
    for stage, (width, count) in enumerate(zip(widths, blocks, strict=True)):
        for k in range(count):
            layers.append(_Block(before, width, 2 if k == 0 and stage > 0 else 1))
            before = width
    return nn.Sequential(*layers)


def _convolution(inputs: int, outputs: int, stride: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


class Trunk(nn.Module):
    """Residual stages of a crop of `size` px, and a fully connected layer on the last map: where things are matters."""

    def __init__(self, size: int, widths: Sequence[int], blocks: Sequence[int], features: int):
        super().__init__()
        self.layers = residual(widths, blocks)
        self.fine = 2 + blocks[0]
        """layers up to the last map at 1/4 of the crop's side"""
        side, last = size // 2 ** (1 + len(widths)), widths[-1]
        self.reduce = nn.Sequential(nn.Conv2d(last, 64, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU(inplace=True))
        self.features = nn.Sequential(
            nn.Flatten(), nn.Linear(64 * side * side, features), nn.BatchNorm1d(features), nn.ReLU()
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Features (B, features), and the maps (B, widths[0] / 2, H/2, W/2) and (B, widths[0], H/4, W/4)."""
        half = self.layers[0](x)
        quarter = self.layers[1 : self.fine](half)
        return self.features(self.reduce(self.layers[self.fine :](quarter))), half, quarter


class _Block(nn.Module):
    """Two 3×3 convolutions around a shortcut (He et al. 2016)."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs),
        )  # fmt: skip
        nn.init.zeros_(self.body[-1].weight)  # type: ignore[arg-type]
        same = inputs == outputs and stride == 1
        self.shortcut = (
            nn.Identity()
            if same
            else nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        )

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.body(x) + self.shortcut(x))
