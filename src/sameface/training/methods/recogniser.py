"""recogniser: who it is, as a code, and what shape to expect of somebody with that code. Ours, 2026; not a paper.

What it does: a small residual network looks at a crop aligned by five points and says a code of unit length, close for
photos of one person. It learns to say what a public recogniser (a teacher, tool of training) says of the same photo
before it was turned, darkened, blurred, made small or half hidden: distillation with the teacher's angles and with the
similarities within a batch (Park et al., "Relational knowledge distillation", CVPR 2019, keep distances likewise). Of
people with several photos the teacher's mean code has a share in what is to be said of each, as labels of identity. An
affine map takes the code to the identity coefficients of the morphable model. It is not trained here:
`tools/code_to_shape.py` solves for it from the joint fits of people with many photos.

Symbols: z = f(I) / |f(I)| our code, t = (1 − s) t_photo + s t_person, made unit length, the teacher's, α = A z + b
identity in σ.

Losses:
  angle       1 − mean z·t
  likeness    λ_like mean_{i≠j} (z_i·z_j − t_i·t_j)² / mean (t_i·t_j)²
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from sameface import __version__, morphable
from sameface.photo import image
from sameface.photo.augment import augmented, jostled, mirrored, spoiled
from sameface.training.nets import one_cycle, parameter_groups, residual

SIZE, MARGIN = 112, 8
"""px of the crop that the network sees, and what is around it in the data set's"""
CODE = 192


@dataclass(frozen=True)
class Config:
    """Settings of the network that ships; all ours."""

    widths: tuple[int, ...] = (48, 96, 192, 256)
    """Channels of the stages, at 1/4, 1/8, 1/16 and 1/32 of the crop's side."""
    blocks: tuple[int, ...] = (2, 2, 2, 2)
    """Residual blocks per stage."""
    batch: int = 64
    """Crops per step."""
    steps: int = 4000
    """Steps of the run."""
    lr: float = 2e-3
    """Highest AdamW step size; one cycle: linear warm-up over 3 % of the run, cosine down to 1 %."""
    weight_decay: float = 0.02
    """AdamW."""
    likeness_weight: float = 0.3
    """λ_like."""
    spoiled_share: float = 0.05
    """Share of training crops that are made very dark, very blurred or are half hidden."""
    person_share: float = 0.5
    """s: what a person's mean code counts beside the photo's own, in training."""


class Method(nn.Module):
    """Crops → codes and identities."""

    needs = ("image", "code", "person_code")

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        self.model = morphable.default()
        self.layers = residual(config.widths, config.blocks)
        last, side = config.widths[-1], -(-SIZE // 2 ** (1 + len(config.widths)))
        self.head = nn.Sequential(
            nn.Conv2d(last, last, side, groups=last, bias=False), nn.BatchNorm2d(last), nn.Flatten(),
            nn.Linear(last, CODE, bias=False),
        )  # fmt: skip
        self.register_buffer("matrix", torch.zeros(self.model.n_identity, CODE))
        self.register_buffer("offset", torch.zeros(self.model.n_identity))

    def forward(self, images: Float[Tensor, "B 3 112 112"]) -> dict[str, Tensor]:
        """Crops in [0, 1] → code (B, 192) of unit length and identity (B, S) in σ."""
        code = functional.normalize(self.head(self.layers((images - 0.5) * 4.0)).float(), dim=1)
        return {"code": code, "identity": functional.linear(code, self.matrix, self.offset)}  # pyright: ignore

    def losses(self, batch: dict[str, Tensor], output: dict[str, Tensor]) -> dict[str, Tensor]:
        """The terms of the header, weighted."""
        said, told = output["code"], batch["code"]
        apart = ~torch.eye(len(said), dtype=torch.bool, device=said.device)
        ours, theirs = (said @ said.T)[apart], (told @ told.T)[apart]
        likeness = (ours - theirs).square().mean() / theirs.square().mean().clamp(min=1e-4)
        return {"angle": 1 - (said * told).sum(1).mean(), "likeness": self.config.likeness_weight * likeness}

    def optimizer(self) -> torch.optim.Optimizer:
        """AdamW, no decay on biases and norms."""
        groups = parameter_groups(self, self.config.weight_decay)
        return torch.optim.AdamW(groups, lr=self.config.lr, betas=(0.9, 0.98), fused=True)

    def schedule(self, progress: float) -> float:
        """Linear warm-up over 3 % of the run, cosine to 1 %."""
        return one_cycle(progress)

    def sample(self, data: Any, index: int, rng: np.random.Generator, train: bool) -> dict[str, np.ndarray]:
        """One crop: `images` (112, 112, 3) uint8, `code` (192,)."""
        item = data[index]
        crop, code, affine = item["image"], item["code"], np.array([[1.0, 0, -MARGIN], [0, 1, -MARGIN]])
        if train:
            affine = jostled(affine, SIZE, rng)
            if rng.random() < 0.5:
                affine = mirrored(affine, SIZE)
            crop = augmented(image.crop(crop, affine, (SIZE, SIZE), edge=True), rng)
            if rng.random() < self.config.spoiled_share:
                crop, _ = spoiled(crop, rng)
            code = (1 - self.config.person_share) * code + self.config.person_share * item["person_code"]
            code = code / np.linalg.norm(code).clip(1e-9)
        else:
            crop = crop[MARGIN : MARGIN + SIZE, MARGIN : MARGIN + SIZE]
        return {"images": crop, "code": code.astype(np.float32)}

    def metadata(self) -> dict[str, Any]:
        """What the ONNX file says of itself."""
        return {
            "method": "recogniser",
            "version": __version__,
            "crop": {"size": SIZE, "rule": "sphereface5", "pixels": "RGB in [0, 1]"},
            "morphable": self.model.name,
            "config": asdict(self.config),
            "trained_on": "FairFace, CelebA, AFLW, Helen, LFPW, AFW, PINS, FIW, UTKFace; a teacher's codes",
        }

    def example(self) -> Tensor:
        """An input for export."""
        return torch.rand(2, 3, SIZE, SIZE)
