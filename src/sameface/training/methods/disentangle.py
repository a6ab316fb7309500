"""disentangle: Disentangling features in 3D face shapes for joint face reconstruction and recognition.

Feng Liu, Ronghang Zhu, Dan Zeng, Qijun Zhao, Xiaoming Liu. CVPR 2018, arXiv:1803.11366.

What it does: an encoder sees a face crop and gives two short codes. Two linear decoders turn them into the identity
and the residual part of the face's shape, vertex by vertex. Trained jointly on shapes and on who is who, the identity
code serves recognition and reconstruction alike.

Symbols: s shape (V×3 mm), s̄ mean, Δs_id, Δs_res identity and residual part; c_id, c_res codes in [−1, 1]; f_id, f_res
decoders; h encoder; α, β labels: identity (σ) and expression of the fitted morphable model; y person; λ_R weight.

  s = s̄ + Δs_id + Δs_res,  Δs_id = f_id(c_id),  Δs_res = f_res(c_res),  [c_id, c_res] = h(I)        eqs. 2-4

Losses:
  phase I    |c − c*|², the mean over the dimensions of each code              c*: the scaled labels α, β
  phase II   |Δs_id − A_id α|² and |Δs_res − A_exp β|², the encoder unchanged   mm², means over the vertices
  phase III  λ_R |s − s*|² + softmax(c_id, y)                                   eq. 5; λ_R 0.5, later 1
Each phase begins with the weights of the one before (`--start RUN/best.pt`). Labels come from the fit of all photos of
a person (eq. 7): `sameface fit-set`.

Differs from the paper:
 1. Any MorphableModel gives the number of vertices and the sizes of the codes (Basel's and FaceWarehouse's are 199 and
    29); ours has 80 identities, and blendshapes instead of expression components.
 2. "Normalised to [−1, 1]" is a tanh. Identity labels are divided by 4 σ, blendshape weights are 2β − 1, other
    expressions are divided by 4 σ; what exceeds that is clipped.
 3. The decoders begin as the morphable model's bases. Phase II then learns what the encoder's codes lack, which is why
    it sees the encoder's codes and not the labels.
 4. The Euclidean loss is a mean over vertices in mm², so that λ_R means the same for every model.
 5. Strangers, whom the data show once, take part in reconstruction only.
 6. Adam with one cycle of the learning rate; the paper names neither optimiser nor rate.
 7. Crops are 112 × 112 with the 96 × 112 px of SphereFace in the middle, cut out in the network. They are placed by the
    eyes, nose and mouth corners of the labels' shape, and moved a little in training; mirrored crops are not used.
 8. The small preset has SphereFace's stages with fewer channels.
"""

from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from sameface import __version__
from sameface.core.errors import BadData
from sameface.morphable.formats import open_or_default
from sameface.photo import image
from sameface.photo.augment import augmented, jostled
from sameface.photo.predictor import affine_for_sphereface, five_of_68
from sameface.training.labels import in_photo
from sameface.training.nets import SphereFace, one_cycle

RANGE = 4.0
"""σ that a code of 1 means"""
SIZE, CUT = 112, 8
"""px of the crop, and of what is cut from its left and right"""


@dataclass(frozen=True)
class Config:
    """Settings of the paper (sec. 3.3); ours where it says so."""

    network: Literal["small", "sphereface20"] = "small"
    """The paper's is sphereface20; small is ours, for CPUs."""
    morphable: str = ""
    """File or folder of the morphable model that the labels belong to. Empty: the one that ships with sameface."""
    phase: Literal[1, 2, 3] = 1
    """1: encoder; 2: decoders; 3: jointly (sec. 3.3.3)."""
    identity: int = 0
    """Length of c_id; 0: as many as the model has identities (paper: 199, which is Basel's number)."""
    residual: int = 0
    """Length of c_res; 0: as many as the model has expressions (paper: 29, which is FaceWarehouse's number)."""
    features: int = 512
    """Width of the layer that both codes read (paper)."""
    persons: int = 0
    """Persons in the train split, the classes of the softmax; phase 3 needs it."""
    first_weight: float = 0.5
    """λ_R at first (paper: until the loss saturates, about 10 epochs)."""
    last_weight: float = 1.0
    """λ_R in the end (paper: about 20 more epochs)."""
    first_share: float = 1 / 3
    """Share of the run with the first λ_R (paper: 10 of 30 epochs)."""
    batch: int = 96
    """Photos per step. Ours."""
    steps: int = 4000
    """Steps of the run. Ours."""
    lr: float = 1e-3
    """Highest Adam step size; linear warm-up over 3 % of the run, cosine down to 1 %. Ours."""
    decoder_lr: float = 0.01
    """Step size of the decoders as a share of `lr`: their bases are in mm. Ours."""
    weight_decay: float = 5e-4
    """AdamW. SphereFace's; the paper does not say."""


class Method(nn.Module):
    """Crops → codes, identity shape, whole shape."""

    needs = ("image", "params", "person")
    mean: Tensor
    progress: Tensor

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        self.model = open_or_default(config.morphable)
        self.n_identity = config.identity or self.model.n_identity
        self.n_residual = config.residual or self.model.n_expression
        full = config.network == "sphereface20"
        widths = (64, 128, 256, 512) if full else (24, 48, 96, 160)
        self.trunk = SphereFace(widths, (1, 2, 4, 1) if full else (1, 1, 1, 1))
        self.fc5 = nn.Linear(widths[-1] * (SIZE // 16) * ((SIZE - 2 * CUT) // 16), config.features)
        self.code_heads = nn.ModuleDict(
            {"identity": nn.Linear(config.features, self.n_identity),
             "residual": nn.Linear(config.features, self.n_residual)})  # fmt: skip
        self.decoders = nn.ModuleDict(
            {"identity": _decoder(self.model.identity_basis, self.n_identity, RANGE, 0.0),
             "residual": _decoder(self.model.expression_basis, self.n_residual, *self._residual_range)})  # fmt: skip
        self.classes = nn.Linear(self.n_identity, max(config.persons, 1))
        self.register_buffer("mean", torch.tensor(self.model.mean), persistent=False)
        self.register_buffer("progress", torch.zeros(()))
        self._freeze()

    @property
    def _residual_range(self) -> tuple[float, float]:
        """(a, b): an expression weight is a c + b."""
        return (0.5, 0.5) if self.model.expression_range == (0.0, 1.0) else (RANGE, 0.0)

    def _freeze(self) -> None:
        """Let only what the phase trains carry gradients."""
        trained = {1: ("trunk", "fc5", "code_heads"), 2: ("decoders",), 3: ("",)}[self.config.phase]
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(name.startswith(trained))

    def encode(self, images: Float[Tensor, "B 3 112 112"]) -> dict[str, Tensor]:
        """c_id (B, S) and c_res (B, E), in [−1, 1]."""
        crops = images[..., CUT:-CUT].contiguous(memory_format=torch.channels_last)
        features = self.fc5(self.trunk((crops - 0.5) * 2).flatten(1))
        return {name: torch.tanh(head(features)) for name, head in self.code_heads.items()}

    def decode(self, which: str, code: Float[Tensor, "B C"]) -> Float[Tensor, "B V 3"]:
        """Δs_id or Δs_res, mm."""
        return self.decoders[which](code.float()).unflatten(1, (-1, 3))

    def forward(self, images: Float[Tensor, "B 3 112 112"]) -> dict[str, Tensor]:
        """Crops in [0, 1] → identity (B, S) in σ, expression (B, E), embedding (c_id), neutral (B, V, 3) and shape
        (B, V, 3), mm; `residual` is c_res."""
        codes = self.encode(images)
        neutral = self.mean + self.decode("identity", codes["identity"])
        scale, shift = self._residual_range
        return {
            "embedding": codes["identity"],
            "residual": codes["residual"],
            "identity": RANGE * codes["identity"],
            "expression": scale * codes["residual"] + shift,
            "neutral": neutral,
            "shape": neutral + self.decode("residual", codes["residual"]),
        }

    def losses(self, batch: dict[str, Tensor], output: dict[str, Tensor]) -> dict[str, Tensor]:
        """The terms of the phase."""
        identity, expression = batch["identity"], batch["expression"]
        if self.config.phase == 1:
            scale, shift = self._residual_range
            return {
                "identity": (output["embedding"] - (identity / RANGE).clamp(-1, 1)).square().mean(),
                "residual": (output["residual"] - ((expression - shift) / scale).clamp(-1, 1)).square().mean(),
            }
        neutral = self.mean + torch.einsum("vcs,bs->bvc", self.identity_basis, identity)
        changed = torch.einsum("vce,be->bvc", self.expression_basis, expression)
        if self.config.phase == 2:
            return {
                "identity": squared_distance(output["neutral"], neutral),
                "residual": squared_distance(output["shape"] - output["neutral"], changed),
            }
        first = (self.progress < self.config.first_share) & self.training  # held-out losses compare over the run
        weight = torch.where(first, self.config.first_weight, self.config.last_weight)
        return {
            "reconstruction": weight * squared_distance(output["shape"], neutral + changed),
            "identification": identification(self.classes(output["embedding"]), batch["person"]),
        }

    @cached_property
    def identity_basis(self) -> Tensor:
        """(V, 3, S) mm/σ, of the labels."""
        return torch.tensor(self.model.identity_basis).to(self.mean.device)

    @cached_property
    def expression_basis(self) -> Tensor:
        """(V, 3, E) mm, of the labels."""
        return torch.tensor(self.model.expression_basis).to(self.mean.device)

    def optimizer(self) -> torch.optim.Optimizer:
        """AdamW; the decoders at their share of the rate and without decay."""
        c = self.config
        trained = [(name, p) for name, p in self.named_parameters() if p.requires_grad]
        decoders = [p for name, p in trained if name.startswith("decoders")]
        rest = [p for name, p in trained if not name.startswith("decoders")]
        groups = [{"params": rest, "lr": c.lr, "weight_decay": c.weight_decay},
                  {"params": decoders, "lr": c.lr * c.decoder_lr, "weight_decay": 0.0}]  # fmt: skip
        return torch.optim.AdamW([group for group in groups if group["params"]])

    def schedule(self, progress: float) -> float:
        """Linear warm-up over 3 % of the run, cosine to 1 %; λ_R follows the progress too."""
        self.progress.fill_(progress)
        return one_cycle(progress)

    # ── training items ─────────────────────────────────────────────────────────────────────────────────────

    def sample(self, data: Any, index: int, rng: np.random.Generator, train: bool) -> dict[str, Any]:
        """One crop: `images` (112, 112, 3) uint8, identity (S,), expression (E,), person (−1: takes no part)."""
        item = data[index]
        matrix, coefficients = in_photo(item["params"], self.model, len(item["image"]))
        identity, expression = np.split(coefficients.astype(np.float32), [self.model.n_identity])
        points = self._points(identity, expression) @ matrix[:2, :3].T + matrix[:2, 3]
        affine = affine_for_sphereface(five_of_68(points))
        if train:
            affine = jostled(affine, SIZE, rng)
        crop = image.crop(item["image"], affine, (SIZE, SIZE), edge=True)
        return {
            "images": augmented(crop, rng) if train else crop,
            "identity": identity,
            "expression": expression,
            "person": np.int64(item["person"] if train else -1),
        }

    def _points(self, identity: Float[np.ndarray, " S"], expression: Float[np.ndarray, " E"]) -> np.ndarray:
        """(68, 3) mm."""
        return self._landmarks[0] + self._landmarks[1] @ identity + self._landmarks[2] @ expression

    @cached_property
    def _landmarks(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        at = self.model.landmarks
        identity, expression = (
            np.moveaxis(at(np.moveaxis(basis, 2, 0)), 0, 2)
            for basis in (self.model.identity_basis, self.model.expression_basis)
        )
        return at(self.model.mean), identity, expression

    def metadata(self) -> dict[str, Any]:
        """What the ONNX file says of itself."""
        return {
            "method": "disentangle",
            "version": __version__,
            "crop": {"size": SIZE, "rule": "sphereface5", "pixels": "RGB in [0, 1]"},
            "morphable": self.model.name,
            "licence": self.model.licence,
            "config": asdict(self.config) | {"morphable": Path(self.config.morphable).name},
        }

    def example(self) -> Tensor:
        """An input for export."""
        return torch.rand(2, 3, SIZE, SIZE)


# ── losses ─────────────────────────────────────────────────────────────────────────────────────────────────


def squared_distance(predicted: Float[Tensor, "B V 3"], true: Float[Tensor, "B V 3"]) -> Float[Tensor, ""]:
    """Mean over photos and vertices of |s_v − s*_v|², mm²."""
    return (predicted - true).square().sum(2).mean()


def identification(logits: Float[Tensor, "B P"], person: Int[Tensor, " B"]) -> Float[Tensor, ""]:
    """Softmax cross entropy over the photos whose person is known (≥ 0); 0 if none is."""
    known = person >= 0
    if int(person.max()) >= logits.shape[1]:
        raise BadData(f"person {int(person.max())} is beyond the {logits.shape[1]} classes; raise --persons")
    each = functional.cross_entropy(logits, person.clamp_min(0), reduction="none")
    return (each * known).sum() / len(person)


# ── parts ──────────────────────────────────────────────────────────────────────────────────────────────────


def _decoder(basis: Float[np.ndarray, "V 3 S"], length: int, scale: float, shift: float) -> nn.Linear:
    """c ↦ B (scale c + shift), as a layer; a code longer than the basis has further columns of nothing."""
    columns = basis.reshape(-1, basis.shape[2]).astype(np.float32)
    layer, used = nn.Linear(length, len(columns)), min(length, basis.shape[2])
    with torch.no_grad():
        layer.weight.zero_()
        layer.weight[:, :used] = torch.from_numpy(scale * columns[:, :used])
        layer.bias.copy_(torch.from_numpy(shift * columns[:, :used].sum(1)))
    return layer
