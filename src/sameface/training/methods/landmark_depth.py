"""Fast and Precise Face Alignment and 3D Shape Reconstruction from a Single 2D Image.

Ruiqi Zhao, Yan Wang, C. Fabian Benitez-Quiroz, Yaojie Liu, Aleix M. Martinez. ECCV 2016 Workshops (3DFAW challenge,
second place: CVGTCE 3.97 %, GTE 5.88 %).

What it does: a convolutional network finds 66 landmarks in a face crop, and a small network of six tanh layers adds a
depth to each, looking at nothing but the landmarks. The first learns from photos with hand-placed points, the second
from 3D landmarks seen by random weak-perspective cameras, so it needs no photo at all. Their weights and losses are
disjoint; one run trains both.

Symbols: l = n = 66 landmarks, iBUG's 68 without the inner corners of the mouth (60, 64); o true and f predicted
landmarks of a photo, in crop units ([−½, ½]², y down); (x, y, z) landmarks in the camera's frame, z away from the
viewer; x̂, ŷ, ẑ standardised; a the answer of the depth network.

Losses:
  local  10⁴ (1/l) Σ_j |f_j − o_j|²                                            eq. 2; 10⁴: percent² of the crop side
  pairs  10⁴ 2/(l(l+1)) Σ_{j<k} (|f_j − f_k| − |o_j − o_k|)²                   eq. 4, b = 2
  depth  |ẑ − a|, the Euclidean norm over the 66 depths, mean over the faces   eq. 11

with x̂ = (x − x̄) / ((σ_x + σ_y)/2), and likewise ŷ and ẑ with the same divisor (eq. 9): nothing changes when a face is
moved or enlarged, and the answer is in the unit of the input (eq. 12).

Layers: 4 × [convolution, normalisation, dropout, ReLU], a max-pooling after the first two each, 2 fully connected; then
2n, 2n, 2n, 2n, 2n, n tanh units. The small settings of the CPU results: `--size 64 --channels 16 32 64 64
--features 256`.

Differs from the paper (what it leaves open is marked *open*):
 1. The last tanh layer is multiplied by 4: depths ẑ of turned faces reach 3, which tanh (eq. 10) cannot say.
    The depths of a crop are made to have zero mean exactly.
 2. Early stopping: the paper stops after 10 validations without progress. The loop here runs all its steps and keeps
    the weights of the lowest held-out loss in best.pt, which is what gets exported. No 3D face is drawn twice, so the
    depth network cannot overfit; in the sum of the losses the photos' part decides.
 3. RMSProp for the depth network begins at 0.002 and falls along a cosine to 1 % of it. With the paper's 0.01 the
    tanh units saturate at once and recover only where the rate is low (docs/results.md compares; `--depth-lr 0.01`).
    RMSProp for the convolutional network too (*open*), from 0.001.
 4. 3D landmarks are drawn from our morphable model (the challenge's data are not public): identity N(0, 1), a few
    blendshapes at a time; the jaw is that on the bone, fixed to the skin. Angles of the views: *open*.
 5. Photos: the loop draws rows with 68 hand-placed points; on turned faces their jaw follows the outline. The paper's
    18,600 images also have the 66 points of a 3D annotation.
 6. The crop is a square of 1.5 × the box of the points (the paper: a face detector's box). Its side: *open*, 96 px.
 7. Augmentation makes every item anew; 80,000 of the paper's 98,600 images are transformed, so 81 % of our items are.
    Scale is log-uniform between 1/2 and 2, about the middle of the crop: at 2 a face overflows it, and the points
    outside keep their true places. Translation up to a tenth of the crop (*open*). A box covers a quarter of the
    items, centred anywhere in the box of the points, of one random colour (*open*).
 8. *Open*: channels, kernels (5, then 3), stride 2 in the first layer, width of the first fully connected layer, kind
    of normalisation (batch), share of dropout, weight of the pairs (1), length of training.
"""

import math
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from sameface import __version__, morphable
from sameface.core.errors import BadData
from sameface.core.geometry import apply_affine, rotation_from_euler
from sameface.photo.image import crop
from sameface.training.labels import IBUG_MIRRORED

__all__ = ["Config", "Method", "depth_distance", "faces_in_view", "local_distance", "pairs_distance", "standardised"]

KEPT = np.delete(np.arange(68), [60, 64])
"""iBUG number of each of the 66 landmarks"""
REACH = 4.0
"""largest |ẑ| that the depth network can say"""


@dataclass(frozen=True)
class Config:
    """Settings of the paper; ours where it leaves them open."""

    size: int = 96
    """Side of the crop, px (open in the paper)."""
    channels: tuple[int, int, int, int] = (32, 64, 128, 128)
    """Channels of the four convolutional layers (open)."""
    features: int = 512
    """Width of the first fully connected layer (open)."""
    dropout: float = 0.1
    """Share of activations dropped after each convolution (sec. 4.2; the share is open)."""
    batch: int = 32
    """Photos per step (open)."""
    steps: int = 20000
    """Steps of the run (open)."""
    lr: float = 1e-3
    """Highest RMSProp step size of the convolutional network (open); a cosine takes both rates to 1 %."""
    depth_lr: float = 2e-3
    """Highest RMSProp step size of the depth network; the paper's is 0.01 (sec. 5.1), difference 3."""
    pairs_weight: float = 1.0
    """Weight of the pairwise loss, eq. 4 (open); 0 switches it off."""
    depth_weight: float = 1.0
    """Weight of the depth loss, eq. 11; RMSProp does not feel it, but the held-out sum does."""
    crop_factor: float = 1.5
    """Side of the crop / larger side of the box of the 68 points; ours."""
    transformed: float = 0.81
    """Share of training crops that are scaled, turned, moved and perhaps mirrored (sec. 4.2)."""
    scale: tuple[float, float] = (0.5, 2.0)
    """Range of the scale (sec. 4.2), log-uniform."""
    turn: float = 10.0
    """Largest rotation, degrees (sec. 4.2)."""
    shift: float = 0.1
    """Largest translation, crop sides (open)."""
    occluded: float = 0.25
    """Share of training crops with an occluding box (sec. 4.2)."""
    box: tuple[float, float] = (0.2, 0.4)
    """Side of the box / inter-eye distance (sec. 4.2)."""
    views: int = 64
    """3D faces, each seen by a camera of its own, that the depth network learns from with every photo; ours."""
    expressions: int = 4
    """Blendshapes that a 3D face shows on average, each with a weight uniform in [0, 1]; ours."""
    yaw: float = 90.0
    """Largest yaw of a view, degrees, uniform (open)."""
    pitch: float = 40.0
    """Largest pitch of a view, degrees, uniform (open)."""
    roll: float = 40.0
    """Largest roll of a view, degrees, uniform (open)."""


class Method(nn.Module):
    """Crops → 66 landmarks in 3D."""

    needs = ("image", "landmarks68")

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        model = morphable.default()
        self.morphable = model.name
        self.mean, self.basis = landmark_basis(model)
        mean = standardised(torch.tensor(self.mean * [1, -1, -1], dtype=torch.float32))[0][:, :2]
        self.points = _Points(config, 0.22 * mean)
        self.depth = _Depth(len(KEPT))

    def forward(self, images: Float[Tensor, "B 3 S S"]) -> dict[str, Tensor]:
        """Crops in [0, 1] → landmarks66 (B, 66, 3) in crop units, y down, z away from the viewer with zero mean."""
        found = self.points(images).float()
        flat, spread = standardised(found)
        depth = self.depth(flat)
        depth = (depth - depth.mean(1, keepdim=True))[..., None] * spread
        return {"landmarks66": torch.cat([found, depth], dim=-1)}

    def losses(self, batch: dict[str, Tensor], output: dict[str, Tensor]) -> dict[str, Tensor]:
        """The terms of the header, weighted; with `pairs_weight` 0 there are no pairs."""
        found, true = output["landmarks66"][..., :2], batch["landmarks"]
        terms = {"local": local_distance(found, true)}
        if self.config.pairs_weight:
            terms["pairs"] = self.config.pairs_weight * pairs_distance(found, true)
        seen, _ = standardised(batch["views"].flatten(0, 1))
        terms["depth"] = self.config.depth_weight * depth_distance(self.depth(seen[..., :2]), seen[..., 2])
        return terms

    def optimizer(self) -> torch.optim.Optimizer:
        """RMSProp with Keras's memory of 0.9, one rate per network."""
        groups = [
            {"params": list(self.points.parameters()), "lr": self.config.lr},
            {"params": list(self.depth.parameters()), "lr": self.config.depth_lr},
        ]
        return torch.optim.RMSprop(groups, alpha=0.9)

    def schedule(self, progress: float) -> float:
        """A cosine from 1 to 1 %."""
        return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress))

    def sample(self, data: Any, index: int, rng: np.random.Generator, train: bool) -> dict[str, np.ndarray]:
        """One photo and many 3D faces: `images` (size, size, 3) uint8, `landmarks` (66, 2) in crop units, `views`
        (views, 66, 3) in mm. Data sets with a method `landmarks68(index)` are asked which rows have the points."""
        rows, size = _usable(data), self.config.size
        item = data[int(rows[index % len(rows)])]
        points = np.asarray(item["landmarks68"], np.float64)
        if not np.isfinite(points).all():
            raise BadData(
                f"row {index} has no 68 points; landmark_depth needs them (or `landmarks68(index)` to choose)"
            )
        affine = box_affine(points, size, self.config.crop_factor)
        mirrored = False
        if train and rng.random() < self.config.transformed:
            affine, mirrored = transformed(affine, self.config, rng)
        image = crop(item["image"], affine, (size, size), edge=True)
        points = apply_affine(affine, points[IBUG_MIRRORED] if mirrored else points)[KEPT]
        if train and rng.random() < self.config.occluded:
            image = occluded(image, points, self.config.box, rng)
        return {
            "images": image,
            "landmarks": (points / size - 0.5).astype(np.float32),
            "views": faces_in_view(self.mean, self.basis, self.config, rng, self.config.views),
        }

    def metadata(self) -> dict[str, Any]:
        """What the ONNX file says of itself."""
        c = self.config
        return {
            "method": "landmark_depth",
            "version": __version__,
            "crop": {"size": c.size, "rule": "box68", "factor": c.crop_factor, "pixels": "RGB in [0, 1]"},
            "landmarks66": "iBUG's 68 without 60 and 64; x right, y down, z away from the viewer with zero mean, "
            "in crop sides, origin at the centre of the crop",
            "morphable": self.morphable,
            "config": asdict(c),
        }

    def example(self) -> Tensor:
        """An input for export."""
        return torch.rand(2, 3, self.config.size, self.config.size)


# ── losses ─────────────────────────────────────────────────────────────────────────────────────────────────


def local_distance(found: Float[Tensor, "B L 2"], true: Float[Tensor, "B L 2"]) -> Float[Tensor, ""]:
    """10⁴ mean_j |f_j − o_j|² (eq. 2), mean over the batch: percent² of the crop side."""
    return 1e4 * (found - true).square().sum(-1).mean()


def pairs_distance(found: Float[Tensor, "B L 2"], true: Float[Tensor, "B L 2"]) -> Float[Tensor, ""]:
    """10⁴ · 2/(l(l+1)) Σ_{j<k} (|f_j − f_k| − |o_j − o_k|)² (eq. 4, b = 2), mean over the batch: percent².

    The paper divides by l(l+1)/2, one pair per landmark more than there are. Blind to moved and turned faces.
    """
    count = found.shape[1]
    j, k = torch.triu_indices(count, count, 1, device=found.device)
    error = torch.linalg.vector_norm(found[:, j] - found[:, k], dim=-1)
    error = error - torch.linalg.vector_norm(true[:, j] - true[:, k], dim=-1)
    return 1e4 * 2 / (count * (count + 1)) * error.square().sum(-1).mean()


def depth_distance(found: Float[Tensor, "F L"], true: Float[Tensor, "F L"]) -> Float[Tensor, ""]:
    """|ẑ − a| (eq. 11), mean over the faces: the norm is over a face's landmarks and is not squared."""
    return torch.linalg.vector_norm(found - true, dim=-1).mean()


def standardised(points: Float[Tensor, "*b L C"]) -> tuple[Float[Tensor, "*b L C"], Float[Tensor, "*b 1 1"]]:
    """((x − x̄) / s, s) with s = (σ_x + σ_y)/2, in 2D or 3D (eqs. 9 and 12): z is divided by s too."""
    centred = points - points.mean(-2, keepdim=True)
    spread = centred[..., :2].square().mean(-2, keepdim=True).sqrt().mean(-1, keepdim=True).clamp_min(1e-6)
    return centred / spread, spread


# ── networks ───────────────────────────────────────────────────────────────────────────────────────────────


class _Points(nn.Module):
    """Four convolutional and two fully connected layers (sec. 4.2): crop → 2D landmarks; begins at the mean face."""

    def __init__(self, config: Config, mean: Float[Tensor, "L 2"]):
        super().__init__()
        a, b, c, d = config.channels
        side = -(-config.size // 2) // 2 // 2
        self.layers = nn.Sequential(
            *_convolution(3, a, config.dropout, kernel=5, stride=2), nn.MaxPool2d(2),
            *_convolution(a, b, config.dropout), nn.MaxPool2d(2),
            *_convolution(b, c, config.dropout), *_convolution(c, d, config.dropout),
            nn.Flatten(), nn.Linear(d * side * side, config.features), nn.ReLU(),
            nn.Linear(config.features, 2 * len(mean)),
        )  # fmt: skip
        last = self.layers[-1]
        nn.init.normal_(last.weight, std=1e-3)  # type: ignore[arg-type]
        with torch.no_grad():
            last.bias.copy_(mean.flatten())  # type: ignore[operator,union-attr]

    def forward(self, images: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B L 2"]:
        return self.layers(4 * (images - 0.5)).unflatten(1, (-1, 2))


def _convolution(inputs: int, outputs: int, dropout: float, kernel: int = 3, stride: int = 1) -> list[nn.Module]:
    return [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(outputs),
        nn.Dropout(dropout), nn.ReLU(),
    ]  # fmt: skip


class _Depth(nn.Module):
    """Six tanh layers of 2n, 2n, 2n, 2n, 2n, n units (sec. 5.1), drawn as Keras draws them: (x̂, ŷ) → ẑ."""

    def __init__(self, count: int):
        super().__init__()
        widths = [2 * count] * 6 + [count]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        for layer in self.layers:
            nn.init.xavier_uniform_(layer.weight)  # type: ignore[arg-type]
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, flat: Float[Tensor, "B L 2"]) -> Float[Tensor, "B L"]:
        a = flat.transpose(1, 2).flatten(1)  # all x̂, then all ŷ
        for layer in self.layers:
            a = torch.tanh(layer(a))
        return REACH * a


# ── 3D faces ───────────────────────────────────────────────────────────────────────────────────────────────


def landmark_basis(model: morphable.MorphableModel) -> tuple[Float[np.ndarray, "L 3"], Float[np.ndarray, "M K"]]:
    """The 66 landmarks of the mean face (mm) and, flat (66·3 columns), what each mode and blendshape adds to them."""
    modes = np.concatenate([model.identity_basis, model.expression_basis], axis=2)
    basis = model.landmarks(np.moveaxis(modes, 2, 0))[:, KEPT]
    return model.landmarks(model.mean)[KEPT], basis.reshape(len(basis), -1).astype(np.float32)


def faces_in_view(
    mean: Float[np.ndarray, "L 3"],
    basis: Float[np.ndarray, "M K"],
    config: Config,
    rng: np.random.Generator,
    count: int,
    yaw: float | None = None,
) -> Float[np.ndarray, "N L 3"]:
    """R (mean + Σ_m w_m basis_m): `count` random faces in the camera's frame (mm, y down, z away from the viewer).

    Scale and translation of the camera are left out: the depth network standardises them away. With `yaw` (degrees)
    every face is turned by just that; else each of the angles is uniform up to the config's largest.
    """
    blendshapes = len(morphable.default().expression_names)
    identity = rng.standard_normal((count, len(basis) - blendshapes), np.float32)
    shown = rng.random((count, blendshapes), np.float32) < config.expressions / blendshapes
    expression = shown * rng.random((count, blendshapes), np.float32)
    faces = mean + (np.concatenate([identity, expression], axis=1) @ basis).reshape(count, -1, 3)
    largest = np.radians([config.pitch, config.yaw, config.roll])
    pitch, turn, roll = largest[:, None] * rng.uniform(-1, 1, (3, count))
    turn = turn if yaw is None else np.full(count, np.radians(yaw))
    return (faces @ rotation_from_euler(pitch, turn, roll).swapaxes(1, 2)).astype(np.float32)


# ── crops ──────────────────────────────────────────────────────────────────────────────────────────────────


def box_affine(points: Float[np.ndarray, "68 2"], size: int, factor: float) -> Float[np.ndarray, "2 3"]:
    """Photo px → crop px: the upright square of `factor` × the larger side of the points' box, around its centre."""
    low, high = points.min(0), points.max(0)
    side = factor * float((high - low).max())
    if not side > 0:
        raise ValueError(f"a crop needs a box of points with an area, but all are at {points[0].tolist()}")
    return size / side * np.column_stack([np.eye(2), side / 2 - (low + high) / 2])


def transformed(
    affine: Float[np.ndarray, "2 3"], config: Config, rng: np.random.Generator
) -> tuple[Float[np.ndarray, "2 3"], bool]:
    """The crop scaled and turned about its centre, moved, half of the time mirrored; and whether it is mirrored."""
    zoom = np.exp(rng.uniform(*np.log(config.scale)))
    turn = np.radians(rng.uniform(-config.turn, config.turn))
    shift = rng.uniform(-config.shift, config.shift, 2) * config.size
    mirrored = bool(rng.random() < 0.5)
    linear = zoom * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    linear = linear @ np.diag([-1.0 if mirrored else 1.0, 1.0])
    middle = np.full(2, config.size / 2)
    move = np.column_stack([linear, middle + shift - linear @ middle])
    return move @ np.vstack([affine, [0, 0, 1]]), mirrored


def occluded(
    image: UInt8[np.ndarray, "S S 3"],
    points: Float[np.ndarray, "66 2"],
    box: tuple[float, float],
    rng: np.random.Generator,
) -> UInt8[np.ndarray, "S S 3"]:
    """The crop with a square of one colour, of `box` × the inter-eye distance, centred anywhere in the points' box."""
    eyes = np.linalg.norm(points[36:42].mean(0) - points[42:48].mean(0))
    side = rng.uniform(*box) * eyes
    corner = rng.uniform(points.min(0), points.max(0)) - side / 2
    (left, top), (right, bottom) = (np.clip(np.round(at), 0, len(image)).astype(int) for at in (corner, corner + side))
    image = image.copy()
    image[top:bottom, left:right] = rng.integers(0, 256, 3, dtype=np.uint8)
    return image


@lru_cache(maxsize=2)  # the train and the val split of a run
def _usable(data: Any) -> np.ndarray:
    """Rows of a data set that have their 68 points; all of them where the data set cannot say so without pictures."""
    ask = getattr(data, "landmarks68", None)
    rows = np.arange(len(data))
    if ask is not None:
        rows = np.array([k for k in rows.tolist() if np.isfinite(ask(k)).all()], int)
    if not len(rows):
        raise BadData(f"none of the {len(data)} rows has 68 hand-placed points, which landmark_depth learns from")
    return rows
