"""quality: the recipe of the network that says what spoils a picture of a face, in mm. Ours, 2026; not a paper.

What it does: a small residual network looks at the crop that the network for points looks at, and says for each of dark,
blurred and hidden by how many mm that moves the shape that a reconstruction gives (root mean square over the face). What
is learned from are good photos that were spoiled by a known amount; what such an amount does to the answer is measured
on whole reconstructions (`studies/quality.py`): MOVED below. So the quality of a photo is about what it is used for.

Symbols: d_k mm that spoiling of kind k moves the answer.

Losses:
  moved   mean_k of the smooth L1 distance (linear beyond 0.1 mm) of d_k and the measured shift of what was done

What is ours: everything. In quality assessment of face pictures (for recognition) the target is usually a recogniser's
own score; here it is the shape.
"""

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from sameface import __version__
from sameface.core.geometry import apply_affine
from sameface.photo.augment import FAULTS, covered, darkened, moved, softened
from sameface.photo.image import crop
from sameface.photo.predictor import FIVE, affine_from_landmarks
from sameface.training.dense_points import POINT_IDS
from sameface.training.nets import one_cycle, residual

MOVED = {
    "dark": ((0.0, 0.7, 1.4, 2.1, 3.0, 4.0), (0.0, 0.0, 0.0, 0.0, 0.0, 0.0)),
    "blurred": ((0.0, 0.012, 0.025, 0.045, 0.07), (0.0, 0.0, 0.0, 0.0, 0.0)),
    "hidden": ((0.0, 0.02, 0.1, 0.2, 0.3, 0.4, 0.6, 1.0), (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)),
}
"""by how many mm (root mean square over photos) the answer moves: for −log of the brightness that is left, for the
Gaussian's σ in sides of the crop, for the share of the dense points that is covered (results/quality.json)"""


@dataclass(frozen=True)
class Config:
    """Settings; all ours."""

    size: int = 96
    """Side of the crop, px: that of the network for points."""
    widths: tuple[int, ...] = (16, 32, 64)
    """Channels of the stages, at 1/4, 1/8 and 1/16 of the side."""
    blocks: tuple[int, ...] = (1, 1, 1)
    """Residual blocks per stage."""
    features: int = 64
    """Width of the layer that the head reads."""
    batch: int = 64
    """Crops per step."""
    steps: int = 3000
    """Steps of the run."""
    lr: float = 3e-3
    """Highest AdamW step size; one cycle: linear warm-up over 3 % of the run, cosine down to 1 %."""
    weight_decay: float = 0.02
    """AdamW."""
    clean_share: float = 0.4
    """Share of training crops that are not spoiled."""
    twice_share: float = 0.1
    """Share of training crops that are spoiled in two ways."""


class Method(nn.Module):
    """Crops → mm by which what spoils them moves the answer."""

    needs = ("image", "landmarks")

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        last, side = config.widths[-1], config.size // 2 ** (1 + len(config.widths))
        self.trunk = nn.Sequential(
            residual(config.widths, config.blocks),
            nn.Conv2d(last, 32, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU(inplace=True), nn.Flatten(),
            nn.Linear(32 * side * side, config.features), nn.BatchNorm1d(config.features), nn.ReLU(inplace=True),
        )  # fmt: skip
        self.head = nn.Linear(config.features, len(FAULTS))
        nn.init.constant_(self.head.bias, -2.0)

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> dict[str, Tensor]:
        """Crops in [0, 1] → moved (B, 3) mm, in the order of FAULTS."""
        return {"moved": nn.functional.softplus(self.head(self.trunk((images - 0.5) * 4.0)).float())}

    def losses(self, batch: dict[str, Tensor], output: dict[str, Tensor]) -> dict[str, Tensor]:
        """The term of the header."""
        return {"moved": nn.functional.smooth_l1_loss(output["moved"], batch["moved"], beta=0.1)}

    def optimizer(self) -> torch.optim.Optimizer:
        """AdamW, no decay on biases and norms."""
        groups = [
            {"params": [p for p in self.parameters() if p.ndim > 1], "weight_decay": self.config.weight_decay},
            {"params": [p for p in self.parameters() if p.ndim <= 1], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=self.config.lr, betas=(0.9, 0.98))

    def schedule(self, progress: float) -> float:
        """Linear warm-up over 3 % of the run, cosine to 1 %."""
        return one_cycle(progress)

    def sample(self, data: Any, index: int, rng: np.random.Generator, train: bool) -> dict[str, np.ndarray]:
        """One crop: `images` (size, size, 3) uint8, `moved` (3,) mm. Held-out crops are spoiled too."""
        item, size = data[index], self.config.size
        landmarks = item["landmarks"].astype(np.float64)
        affine = affine_from_landmarks(landmarks, landmarks[self.five], size)
        turn, zoom, shift = np.radians(rng.normal(0, 6)), np.exp(rng.normal(0, 0.06)), rng.normal(0, 0.025, 2) * size
        affine = moved(affine, size, turn=turn, zoom=zoom, shift=shift)
        picture = crop(item["image"], affine, (size, size), edge=True)
        if rng.random() < 0.5:
            picture = np.ascontiguousarray(picture[:, ::-1])
            affine = np.array([[-1.0, 0, size], [0, 1, 0]]) @ np.vstack([affine, [0, 0, 1]])
        picture = _ordinary(picture, rng)
        kinds, chance = rng.permutation(len(FAULTS)), rng.random()
        many = 0 if chance < self.config.clean_share else 2 if chance > 1 - self.config.twice_share else 1
        moves = np.zeros(len(FAULTS), np.float32)
        for kind in sorted(kinds[:many].tolist(), reverse=True):  # what hides is in front of what blurs and darkens
            picture, amount = spoil(picture, FAULTS[kind], apply_affine(affine, landmarks), rng)
            moves[kind] = np.interp(amount, *MOVED[FAULTS[kind]])
        return {"images": picture, "moved": moves}

    @cached_property
    def five(self) -> np.ndarray:
        """Where the irises, the nose tip and the mouth corners stand among the dense points."""
        return np.array([POINT_IDS.index(k) for k in FIVE])

    def metadata(self) -> dict[str, Any]:
        """What the ONNX file says of itself."""
        return {
            "method": "quality",
            "version": __version__,
            "crop": {"size": self.config.size, "kind": "upright landmark box × 1.4", "pixels": "RGB in [0, 1]"},
            "faults": list(FAULTS),
            "config": asdict(self.config),
            "trained_on": "FairFace, CelebA, AFLW, Helen, LFPW, AFW, PINS (train splits)",
        }

    def example(self) -> Tensor:
        """An input for export."""
        return torch.rand(2, 3, self.config.size, self.config.size)


def spoil(
    picture: UInt8[np.ndarray, "S S 3"], kind: str, points: Float[np.ndarray, "L 2"], rng: np.random.Generator
) -> tuple[UInt8[np.ndarray, "S S 3"], float]:
    """An upright crop with one of FAULTS, and how much of it, in the units of MOVED; the face's points are `points`."""
    if kind == "dark":
        much = rng.uniform(0.3, 3.7)
        return darkened(picture, float(np.exp(-much)), rng), much
    if kind == "blurred":
        sigma = float(rng.uniform(0.008, 0.07))
        return softened(picture, sigma, rng), sigma
    out, mask = covered(picture, rng)
    at = np.clip(points.astype(int), 0, len(picture) - 1)
    return out, float(mask[at[:, 1], at[:, 0]].mean())


# ── inside ─────────────────────────────────────────────────────────────────────────────────────────────────


def _ordinary(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What cameras do to good photos: light and colours, no colours at all, a little noise, compression."""
    out = picture.astype(np.float32)
    if rng.random() < 0.15:
        out = np.repeat(out.mean(2, keepdims=True), 3, axis=2)
    if rng.random() < 0.7:
        out = (out - 128) * np.exp(rng.normal(0, 0.15)) * np.exp(rng.normal(0, 0.08, 3)) + 128 + rng.normal(0, 12)
    if rng.random() < 0.2:
        out += rng.normal(0, rng.uniform(1, 8), out.shape)
    out = np.clip(out, 0, 255).astype(np.uint8)
    if rng.random() < 0.2:
        _, code = cv2.imencode(".jpg", out, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(30, 90))])
        out = cv2.imdecode(code, cv2.IMREAD_COLOR)
    return np.asarray(out)
