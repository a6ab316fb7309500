"""scnn: Siamese CNN for robust 3D face reconstruction (2018-20).

What it does: one network looks at both photos of a pair and says for each the 62 parameters of a morphable model
(3DDFA's layout) and a 512-vector. The parameters are pulled to their labels by the weighted parameter distance cost
(WPDC, Zhu et al. 2016); two contrastive losses pull the shapes and the vectors of one person together and push those
of two persons apart.

Symbols: g parameters [f·R | t] (3×4, row-major), 40 shape, 10 expression; z whitened g, (g − mean)/deviation; V(g) the
68 points; Q = diag(q) importance; X1, X2 the photos of a pair; Y = 1 for the same person; D Euclidean distance;
m margin; P pairs.

Losses (sums over the two photos, means over the pairs):
  ℓ3d   (z − ẑ)ᵀ Q (z − ẑ)/62,  q_i ∝ ‖V(g^(i)) − V(g)‖, the largest 1         g^(i): element i predicted, the rest true
  ℓshp  ½ [Y D² + (1 − Y) max(0, m − D)²],  D = ‖shape(X1) − shape(X2)‖      eqs. 8-10 (Hadsell et al. 2006)
  ℓid   the same on the 512-vectors                                          eq. 11
Stage 1 trains ℓ3d alone; stage 2 begins with its weights (`--start RUN/best.pt`) and trains ℓ3d + ℓshp + ℓid (eq. 3).

Differs from the paper:
 1. Its three learning rates, one per loss, are one rate and two weights (rate of the loss / rate): for SGD, with or
    without momentum, that is the same step.
 2. "The last two layers replaced" is read literally: no average pooling, the FC layers see the 4×4 map of ResNet-50,
    divided by 4 so that the first steps do not overshoot. ℓ3d is divided by 62, as in 3DDFA's public code, whose
    rates are those of the paper.
 3. The shapes in D are whitened; raw shape parameters of 3DDFA run to 1e6 and expressions to 1. The margins are not
    given; ours are the median distance between two persons' labels in the face table.
 4. A batch is 32 pairs, so 64 photos; the paper's 32 may mean either.
 5. V has the three rows of [f·R | t], as in 3DDFA's public code, except t_z; with the two of eq. 2 nothing would
    train the third.
 6. Momentum, weight decay and the end of the exponential decay are not given; they are 3DDFA's and ours.
 7. 300W-LP turns every photo into many poses. Other tables do not: photos are cropped with some turn, zoom and shift.
 8. Any MorphableModel takes the place of Basel's; its parameters then are mm and σ, and whitening is by typical values.
 9. The small preset is a residual network with group norms, which behaves the same in one process and in several.
"""

from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from sameface import __version__
from sameface.core.geometry import rotation_from_6d
from sameface.morphable import MorphableModel, formats, tddfa
from sameface.morphable.points import Points
from sameface.photo import image
from sameface.training.labels import POSE, in_photo
from sameface.training.pairs import Pairs

BOX_FACTOR = 2**0.5
"""side of the crop / larger side of the box of the 68 points (3DDFA's benchmarkCrop.m: 2√2 · r)"""


@dataclass(frozen=True)
class Config:
    """Settings of the paper (sec. III.A) where it gives them; ours where it says so."""

    network: Literal["small", "resnet50"] = "small"
    """The paper's is resnet50; small is ours, for CPUs."""
    morphable: str = ""
    """File or folder of the morphable model that the labels belong to; 3DDFA's 68 points (its c++/weights) for the
    face table and 300W-LP. Empty: the model that ships with sameface."""
    stage: Literal[1, 2] = 1
    """1: ℓ3d alone; 2: all three losses, from the weights of stage 1."""
    size: int = 120
    """Side of the crop, px (paper)."""
    batch: int = 32
    """Pairs per step (paper: batch size 32)."""
    steps: int = 6000
    """Steps of the run. Ours."""
    lr: float = 1e-2
    """SGD step size of ℓ3d (paper)."""
    shape_lr: float = 1e-3
    """Step size of ℓshp (paper)."""
    identity_lr: float = 1e-4
    """Step size of ℓid (paper)."""
    decay_to: float = 0.02
    """Exponential decay of the rates (paper) to this factor at the end of the run (ours)."""
    momentum: float = 0.9
    """SGD. 3DDFA's public code; the paper does not say."""
    weight_decay: float = 5e-4
    """SGD. 3DDFA's public code; the paper does not say."""
    genuine: float = 0.5
    """Share of pairs that show one person (paper)."""
    shape: Literal["shape and expression", "shape"] = "shape and expression"
    """What D of ℓshp compares: all 50 elements (paper), or the 40 of the identity, which no smile should change."""
    shape_margin: float = 3.0
    """m of ℓshp, deviations. Ours."""
    identity_margin: float = 3.0
    """m of ℓid. Ours."""
    features: int = 512
    """Length of the identity vector (paper)."""
    turn: float = 8.0
    """Deviation of the crop's turn in training, degrees. Ours."""
    zoom: float = 0.06
    """Deviation of the crop's zoom in training, logarithm. Ours."""
    shift: float = 0.03
    """Deviation of the crop's shift in training, sides. Ours."""


class Method(nn.Module):
    """Photos, or pairs of photos → parameters of the morphable model and an identity vector, the same for both."""

    needs = ("image", "params", "person")
    mean: Tensor
    modes: Tensor
    center: Tensor
    deviation: Tensor

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        self._known: dict[int, tuple[Any, Pairs]] = {}
        self.model = _model(config.morphable)
        basis = Basis.of(self.model)
        for name, rows in basis._asdict().items():
            self.register_buffer(name, torch.tensor(rows, dtype=torch.float32), persistent=False)
        self.trunk, width = _resnet50() if config.network == "resnet50" else _small()
        with torch.no_grad():
            side = self.trunk(torch.zeros(1, 3, config.size, config.size)).shape[-1]
        self.parameters_head = nn.Linear(width * side * side, len(basis.center))
        self.embedding_head = nn.Linear(width * side * side, config.features)
        nn.init.normal_(self.parameters_head.weight, std=0.001)
        nn.init.zeros_(self.parameters_head.bias)

    def forward(self, images: Float[Tensor, "... H W"]) -> dict[str, Tensor]:
        """Crops (B, 3, H, W), or pairs (B, 2, 3, H, W), in [0, 1] → `parameters` z and `embedding`, (B, …) or
        (B, 2, …); and what follows from z, of crops: identity (B, S), expression (B, E), rotation (B, 3, 3), scale (B,)
        crop units/mm, translation (B, 2) and landmarks68 (B, 68, 3) in crop units."""
        crops = images.flatten(0, 1) if images.ndim == 5 else images
        maps = self.trunk((crops.contiguous(memory_format=torch.channels_last) - 0.5) * 4.0)
        seen = maps.flatten(1) / maps.shape[-1]
        said = {"parameters": self.parameters_head(seen), "embedding": self.embedding_head(seen)}
        if images.ndim == 5:
            return {name: values.unflatten(0, images.shape[:2]) for name, values in said.items()}
        return said | self.face(said["parameters"].float())

    def face(self, z: Float[Tensor, "B K"]) -> dict[str, Tensor]:
        """What whitened parameters mean, in our conventions: y down, z away from the viewer."""
        g = self.center + self.deviation * z
        matrix, coefficients = g[:, :POSE].unflatten(1, (3, 4)), g[:, POSE:]
        flip = torch.tensor([1.0, -1.0, -1.0]).to(z)
        points = self.points(coefficients) @ matrix[:, :, :3].transpose(1, 2) + matrix[:, None, :, 3]
        size, half = self.config.size, torch.tensor([0.5, 0.5, 0.0]).to(z)
        lengths = torch.linalg.vector_norm(matrix[:, :2, :3], dim=2)
        rows = rotation_from_6d(matrix[:, :2, :3].flatten(1))
        shapes = self.model.n_identity
        return {
            "identity": coefficients[:, :shapes],
            "expression": coefficients[:, shapes:],
            "rotation": flip[:, None] * rows,
            "scale": lengths.mean(1) / size,
            "translation": (flip * (matrix[:, :, 3] / size - half))[:, :2],
            "landmarks68": flip * (points / size - half),
        }

    def points(self, coefficients: Float[Tensor, "B K"]) -> Float[Tensor, "B 68 3"]:
        """The 68 points of the model, mm."""
        return self.mean + torch.einsum("lck,bk->blc", self.modes, coefficients)

    def losses(self, batch: dict[str, Tensor], output: dict[str, Tensor]) -> dict[str, Tensor]:
        """ℓ3d; in stage 2 also ℓshp and ℓid, at their shares of the learning rate."""
        c, z, same = self.config, output["parameters"], batch["same"]
        terms = {"parameters": self.wpdc(z.flatten(0, 1), batch["parameters"].flatten(0, 1)) * 2}
        if c.stage == 2:
            end = POSE + self.model.n_identity if c.shape == "shape" else z.shape[-1]
            shapes = z[..., POSE:end]
            terms["shape"] = c.shape_lr / c.lr * contrastive(shapes[:, 0], shapes[:, 1], same, c.shape_margin)
            vectors = output["embedding"]
            terms["identity"] = (
                c.identity_lr / c.lr * contrastive(vectors[:, 0], vectors[:, 1], same, c.identity_margin)
            )
        return terms

    def wpdc(self, predicted: Float[Tensor, "B K"], true: Float[Tensor, "B K"]) -> Float[Tensor, ""]:
        """ℓ3d of whitened parameters: mean over photos and elements of q_i (z_i − ẑ_i)²; q has no gradient."""
        with torch.no_grad():
            weight = self.importance(predicted, true)
        return (weight * (predicted - true).square()).mean()

    def importance(self, predicted: Float[Tensor, "B K"], true: Float[Tensor, "B K"]) -> Float[Tensor, "B K"]:
        """q_i = ‖V(g^(i)) − V(g)‖ / max_j: how far the 68 points move if element i alone is as predicted.

        V is linear in every single element, so that is |Δg_i| times the norm of a column: of the points' coordinate
        for a rotation, √68 for a shift, of the turned mode for a coefficient.
        """
        g = self.center + self.deviation * true
        change = (self.deviation * (predicted - true)).abs()
        turn = g[:, :POSE].unflatten(1, (3, 4))[:, :, :3]
        columns = torch.linalg.vector_norm(self.points(g[:, POSE:]), dim=1)
        shift = torch.full_like(columns[:, :1], len(self.mean) ** 0.5)
        one_row = torch.cat([columns, shift], dim=1)
        last = torch.cat([columns, torch.zeros_like(shift)], dim=1)  # t_z moves nothing
        modes = torch.einsum("brc,lck->blrk", turn, self.modes)
        moved = torch.linalg.vector_norm(modes.flatten(1, 2), dim=1)
        far = change * torch.cat([one_row, one_row, last, moved], dim=1)
        return far / far.amax(1, keepdim=True).clamp_min(1e-12)

    def optimizer(self) -> torch.optim.Optimizer:
        """SGD."""
        c = self.config
        return torch.optim.SGD(self.parameters(), lr=c.lr, momentum=c.momentum, weight_decay=c.weight_decay)

    def schedule(self, progress: float) -> float:
        """Exponential decay."""
        return self.config.decay_to**progress

    # ── training items ─────────────────────────────────────────────────────────────────────────────────────

    def sample(
        self, data: Any, index: int, rng: np.random.Generator, train: bool
    ) -> dict[str, np.ndarray | np.generic]:
        """A pair: `images` (2, size, size, 3) uint8, `parameters` (2, K) whitened, `same`.

        Genuine pairs are drawn among the persons with several photos; an impostor is anybody else.
        """
        pairs = self._pairs(data)
        same = rng.random() < self.config.genuine
        first, second = pairs.genuine(rng) if same else pairs.impostor(index, rng)
        seen = [self._photo(data[k], rng, train) for k in (first, second)]
        return {
            "images": np.stack([crop for crop, _ in seen]),
            "parameters": np.stack([parameters for _, parameters in seen]),
            "same": np.bool_(same),
        }

    def _pairs(self, data: Any) -> Pairs:
        """The pairs of a data set, made once for each split."""
        if id(data) not in self._known:
            self._known[id(data)] = data, Pairs(np.asarray(data.person))  # with the data, so that no other gets its id
        return self._known[id(data)][1]

    def _photo(self, item: dict[str, Any], rng: np.random.Generator, train: bool) -> tuple[np.ndarray, np.ndarray]:
        """One crop and its whitened parameters."""
        size, pixels = self.config.size, item["image"]
        matrix, coefficients = in_photo(item["params"], self.model, len(pixels))
        affine = self.crop_affine(matrix, coefficients, rng if train else None)
        crop = image.crop(pixels, affine, (size, size), edge=True)
        scale = np.sqrt(np.linalg.det(affine[:, :2]))
        moved = np.vstack([affine[:, :2] @ matrix[:2], scale * matrix[2:]])
        moved[:2, 3] += affine[:, 2]
        moved[1:] *= -1
        moved[1, 3] += size
        whitened = (np.concatenate([moved.ravel(), coefficients]) - self._basis.center) / self._basis.deviation
        whitened[POSE - 1] = 0.0  # t_z cannot be seen
        return crop, whitened.astype(np.float32)

    def crop_affine(
        self, matrix: Float[np.ndarray, "3 4"], coefficients: Float[np.ndarray, " C"], rng: np.random.Generator | None
    ) -> Float[np.ndarray, "2 3"]:
        """Photo px → px of the crop around the 68 points, with `rng` at a random turn, zoom and shift."""
        c, basis = self.config, self._basis
        points = (basis.mean + basis.modes @ coefficients) @ matrix[:2, :3].T + matrix[:2, 3]
        low, high = points.min(0), points.max(0)
        turn, zoom, shift = 0.0, 1.0, np.zeros(2)
        if rng is not None:
            turn, zoom = np.radians(rng.normal(0, c.turn)), np.exp(rng.normal(0, c.zoom))
            shift = rng.normal(0, c.shift, 2) * c.size
        scale = zoom * c.size / (BOX_FACTOR * (high - low).max())
        linear = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        return np.concatenate([linear, (c.size / 2 + shift - linear @ (low + high) / 2)[:, None]], axis=1)

    @cached_property
    def _basis(self) -> "Basis":
        return Basis.of(self.model)

    def metadata(self) -> dict[str, Any]:
        """What the ONNX file says of itself."""
        crop = {"size": self.config.size, "rule": "box68", "factor": BOX_FACTOR, "pixels": "RGB in [0, 1]"}
        return {
            "method": "scnn",
            "version": __version__,
            "crop": crop,
            "morphable": self.model.name,
            "licence": self.model.licence,
            "config": asdict(self.config) | {"morphable": Path(self.config.morphable).name},
        }

    def example(self) -> Tensor:
        """An input for export."""
        return torch.rand(2, 3, self.config.size, self.config.size)


# ── losses ─────────────────────────────────────────────────────────────────────────────────────────────────


def contrastive(
    first: Float[Tensor, "P N"], second: Float[Tensor, "P N"], same: Bool[Tensor, " P"], margin: float
) -> Float[Tensor, ""]:
    """Mean over the pairs of ½ [Y D² + (1 − Y) max(0, m − D)²], D = ‖first − second‖ (Hadsell et al. 2006, eq. 4)."""
    squared = (first - second).square().sum(1)
    apart = (margin - (squared + 1e-12).sqrt()).clamp_min(0).square()
    return 0.5 * torch.where(same, squared, apart).mean()


# ── the morphable model's 68 points ────────────────────────────────────────────────────────────────────────


class Basis(NamedTuple):
    """The 68 points as a linear function of the coefficients, and the whitening of all parameters."""

    mean: Float[np.ndarray, "68 3"]
    """mm"""
    modes: Float[np.ndarray, "68 3 C"]
    """mm/σ, identity then expression"""
    center: Float[np.ndarray, " K"]
    """K = 12 + C; rotations in px of a 120 px crop per mm"""
    deviation: Float[np.ndarray, " K"]

    @classmethod
    def of(cls, model: MorphableModel) -> "Basis":
        """Of a model; the whitening is 3DDFA's where the model came with it."""
        points = Points.of(model, model.landmark_faces, model.landmark_weights)
        modes = np.concatenate([points.identity, points.expression], axis=2)
        if "parameters_std" in model.extra:
            center, deviation = (model.extra[f"parameters_{name}"].astype(np.float64) for name in ("mean", "std"))
            center, deviation = center.copy(), deviation.copy()
            for values in (center, deviation):
                values[:POSE].reshape(3, 4)[:, :3] *= 1000
            center[POSE:] /= deviation[POSE:]
            deviation[POSE:] = 1
            return cls(points.mean, modes, center, deviation)
        blends = model.expression_range == (0.0, 1.0)
        pose = np.array([0.45, 0, 0, 60, 0, 0.45, 0, 60, 0, 0, 0.45, 0], np.float64)
        spread = np.array([0.15, 0.1, 0.4, 8, 0.1, 0.15, 0.1, 8, 0.4, 0.1, 0.15, 8], np.float64)
        face = np.zeros(modes.shape[2]), np.ones(modes.shape[2])
        face[1][model.n_identity :] = 0.2 if blends else 1.0
        return cls(points.mean, modes, np.concatenate([pose, face[0]]), np.concatenate([spread, face[1]]))


def _model(path: str) -> MorphableModel:
    newer = Path(path) / tddfa.V2_STATISTICS
    if path and formats.recognise(Path(path)) == "tddfa-sparse" and newer.exists():
        return tddfa.load_sparse(Path(path), statistics=newer)
    return formats.open_or_default(path)


# ── networks ───────────────────────────────────────────────────────────────────────────────────────────────


class _Bottleneck(nn.Module):
    """1×1, 3×3 (with the stride), 1×1 to four times the width, around a shortcut (He et al. 2016, fig. 5)."""

    def __init__(self, inputs: int, width: int, stride: int):
        super().__init__()
        outputs = 4 * width
        self.body = nn.Sequential(
            nn.Conv2d(inputs, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True),
            nn.Conv2d(width, outputs, 1, bias=False), nn.BatchNorm2d(outputs),
        )  # fmt: skip
        same = stride == 1 and inputs == outputs
        projection = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        self.shortcut = nn.Identity() if same else projection

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.body(x) + self.shortcut(x))


def _resnet50() -> tuple[nn.Module, int]:
    """ResNet-50 without its average pooling and classifier (He et al. 2016, table 1): 120 px → (2048, 4, 4)."""
    layers: list[nn.Module] = [
        nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1),
    ]  # fmt: skip
    inputs = 64
    for stage, count in enumerate((3, 4, 6, 3)):
        for k in range(count):
            layers.append(_Bottleneck(inputs, 64 * 2**stage, 2 if stage and not k else 1))
            inputs = 256 * 2**stage
    return nn.Sequential(*layers), inputs


class _Block(nn.Module):
    """Two 3×3 convolutions around a shortcut, with group norms."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.GroupNorm(8, outputs), nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.GroupNorm(8, outputs),
        )  # fmt: skip
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same else nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.body(x) + self.shortcut(x))


def _small() -> tuple[nn.Module, int]:
    """Ten layers, 120 px → (256, 4, 4)."""
    stem = nn.Sequential(nn.Conv2d(3, 32, 5, 4, 2, bias=False), nn.GroupNorm(8, 32), nn.ReLU(inplace=True))
    blocks = _Block(32, 48, 1), _Block(48, 96, 2), _Block(96, 192, 2), _Block(192, 256, 2)
    return nn.Sequential(stem, *blocks), 256
