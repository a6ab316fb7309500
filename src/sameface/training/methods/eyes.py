"""eyes: the recipe of the network that looks at each eye alone (`photo/eyes.py`). Ours, 2026; not a paper.

What it does: a small residual network looks at the square around one eye, the left one mirrored, and says how far it is
shut and where its corners, lids and iris are, each with its expected error. The first layers see the square with its
own mean and contrast taken away, so that a dark photo looks like a bright one.

Symbols: p how far the eye is shut (0 open, 1 shut), q points, b expected error of a point. Lengths in units of the
square's side: it is [−½, ½]², y down.

Losses:
  blink   cross entropy of p and the label, of which shut counts twice: from hand-placed lids where a row has them, else
          the row's blendshape
  points  mean_i w_i (|q_i − q*_i| / b_i + 2 ln b_i)   Laplace negative log-likelihood, where the points can be seen
"""

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from sameface import __version__
from sameface.core.geometry import apply_affine
from sameface.morphable import default
from sameface.photo.augment import augmented, moved, spoiled
from sameface.photo.eyes import BLINKS, EYES, eye_affine
from sameface.photo.image import crop
from sameface.photo.predictor import FIVE, affine_from_landmarks
from sameface.training.dense_points import POINT_IDS
from sameface.training.nets import one_cycle, parameter_groups, residual

FACE = 96
"""px of the crop of the whole face that the square is a part of; any would do"""
LIDS68 = (((37, 41), (38, 40), (36, 39)), ((44, 46), (43, 47), (45, 42)))
"""iBUG's points of the right and left eye: two pairs of lids, the corners"""
SHUT, OPEN = 0.06, 0.22
"""distance of the lids / width of the eye of a blink of 1, and of 0 (as in tools/calibrate_points.py)"""


@dataclass(frozen=True)
class Config:
    """Settings; all ours."""

    size: int = 48
    """Side of the square, px."""
    widths: tuple[int, ...] = (24, 48)
    """Channels of the stages, at 1/4 and 1/8 of the side."""
    blocks: tuple[int, ...] = (2, 1)
    """Residual blocks per stage."""
    features: int = 64
    """Width of the layer that all heads read."""
    batch: int = 128
    """Eyes per step."""
    steps: int = 4000
    """Steps of the run."""
    lr: float = 3e-3
    """Highest AdamW step size; one cycle: linear warm-up over 3 % of the run, cosine down to 1 %."""
    weight_decay: float = 0.02
    """AdamW."""
    blink_weight: float = 5.0
    """Weight of `blink`."""
    shut_weight: float = 2.0
    """How many times a shut eye called open costs what an open one called shut does."""
    spoiled_share: float = 0.08
    """Share of training squares that are made very dark, very blurred or are half hidden."""


class Method(nn.Module):
    """Squares around an eye → how far it is shut, its points."""

    needs = ("image", "landmarks", "weight", "landmarks68", "blendshapes")

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        last, side = config.widths[-1], config.size // 2 ** (1 + len(config.widths))
        self.trunk = nn.Sequential(
            residual(config.widths, config.blocks),
            nn.Conv2d(last, 32, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU(inplace=True), nn.Flatten(),
            nn.Linear(32 * side * side, config.features), nn.BatchNorm1d(config.features), nn.ReLU(inplace=True),
        )  # fmt: skip
        self.n_points = len(EYES[0])
        self.heads = nn.ModuleDict({
            "blink": nn.Linear(config.features, 1), "points": nn.Linear(config.features, 2 * self.n_points),
            "error": nn.Linear(config.features, self.n_points),
        })  # fmt: skip
        nn.init.constant_(self.heads["error"].bias, -3.0)  # type: ignore[arg-type]

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> dict[str, Tensor]:
        """Squares in [0, 1] → blink (B,) probabilities, points (B, P, 2) and error (B, P) in units of the side."""
        mean = images.mean((1, 2, 3), keepdim=True)
        contrast = (images - mean).square().mean((1, 2, 3), keepdim=True).sqrt()
        features = self.trunk((images - mean) / (contrast + 0.01))
        raw = {name: head(features).float() for name, head in self.heads.items()}
        return {
            "blink": torch.sigmoid(raw["blink"][:, 0]),
            "points": 0.1 * raw["points"].reshape(-1, self.n_points, 2),
            "error": torch.exp(raw["error"].clamp(-6, 0)),
        }

    def losses(self, batch: dict[str, Tensor], output: dict[str, Tensor]) -> dict[str, Tensor]:
        """The terms of the header, weighted."""
        known, told = batch["blink"].isfinite(), torch.nan_to_num(batch["blink"])
        said = output["blink"].clamp(1e-5, 1 - 1e-5)
        entropy = -(self.config.shut_weight * told * said.log() + (1 - told) * (1 - said).log())
        distance = torch.linalg.vector_norm(output["points"] - batch["points"] + 1e-9, dim=-1)
        likelihood = distance / output["error"] + 2 * torch.log(output["error"]) + 8
        return {
            "blink": self.config.blink_weight * (known * entropy).mean(),
            "points": (batch["weight"] * likelihood).mean(),
        }

    def optimizer(self) -> torch.optim.Optimizer:
        """AdamW, no decay on biases and norms."""
        groups = parameter_groups(self, self.config.weight_decay)
        return torch.optim.AdamW(groups, lr=self.config.lr, betas=(0.9, 0.98))

    def schedule(self, progress: float) -> float:
        """Linear warm-up over 3 % of the run, cosine to 1 %."""
        return one_cycle(progress)

    def sample(self, data: Any, index: int, rng: np.random.Generator, train: bool) -> dict[str, np.ndarray]:
        """One eye of a row: `images` (size, size, 3) uint8, `points` (P, 2), `weight` (P,), `blink` (). In training a
        row that says nothing of the eye is replaced by another."""
        item, k = data[index], int(rng.integers(2)) if train else index % 2
        while train and not np.isfinite(self.blink(item, k)):
            item, k = data[int(rng.integers(len(data)))], int(rng.integers(2))
        landmarks, size = item["landmarks"].astype(np.float64), self.config.size
        face = affine_from_landmarks(landmarks, landmarks[self.five], FACE)
        where, blink = self.where[k], self.blink(item, k)
        affine = eye_affine(face, FACE, apply_affine(face, landmarks[where[:2]]), left=k == 1, side=size)
        affine = _jittered(affine, size, rng) if train else affine
        square = crop(item["image"], affine, (size, size), edge=True)
        if train:
            square = augmented(square, rng)
            if rng.random() < self.config.spoiled_share:
                square, _ = spoiled(square, rng)
        weight = (item["weight"][where] > 0.5) & np.isfinite(blink)
        return {
            "images": square,
            "points": (apply_affine(affine, landmarks[where]) / size - 0.5).astype(np.float32),
            "weight": weight.astype(np.float32),
            "blink": np.array(blink if weight.mean() > 0.5 else np.nan, np.float32),
        }

    def blink(self, item: dict[str, Any], k: int) -> float:
        """How far the right (0) or left (1) eye of a row is shut; NaN where nobody knows."""
        hand = item["landmarks68"].astype(np.float64)
        if np.isfinite(hand).all():
            *lids, width = (float(np.linalg.norm(hand[a] - hand[b])) for a, b in LIDS68[k])
            return float(np.clip((OPEN - np.mean(lids) / max(width, 1e-6)) / (OPEN - SHUT), 0, 1))
        return float(item["blendshapes"][self.shapes[k]])

    @cached_property
    def five(self) -> np.ndarray:
        """Where the irises, the nose tip and the mouth corners stand among the dense points."""
        return np.array([POINT_IDS.index(k) for k in FIVE])

    @cached_property
    def where(self) -> np.ndarray:
        """(2, P) where the points of the right and left eye stand among the dense points."""
        return np.array([[POINT_IDS.index(k) for k in eye] for eye in EYES])

    @cached_property
    def shapes(self) -> list[int]:
        """Where the blinks of the right and left eye stand among the blendshapes."""
        return [default().expression_names.index(name) for name in BLINKS]

    def metadata(self) -> dict[str, Any]:
        """What the ONNX file says of itself."""
        return {
            "method": "eyes",
            "version": __version__,
            "crop": {"size": self.config.size, "kind": "square around an eye, the left one mirrored",
                     "pixels": "RGB in [0, 1]"},
            "config": asdict(self.config),
            "trained_on": "FairFace, CelebA, AFLW, Helen, LFPW, AFW, PINS (train splits)",
        }  # fmt: skip

    def example(self) -> Tensor:
        """An input for export."""
        return torch.rand(2, 3, self.config.size, self.config.size)


# ── inside ─────────────────────────────────────────────────────────────────────────────────────────────────


def _jittered(affine: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """The square turned, zoomed and shifted about its middle, as the first network's errors do."""
    hard = rng.random() < 0.2
    turn = np.radians(rng.normal(0, 15 if hard else 6))
    zoom = np.exp(rng.normal(0, 0.2 if hard else 0.08))
    shift = rng.normal(0, 0.1 if hard else 0.04, 2) * size
    return moved(affine, size, turn=turn, zoom=zoom, shift=shift)
