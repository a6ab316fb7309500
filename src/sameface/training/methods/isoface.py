"""isoface: the recipe of our default network. Ours, 2026; not a paper.

What it does: one small residual network looks at an upright face crop and says identity (σ of the morphable model),
expression (blendshape weights), a weak-perspective camera, 164 dense landmarks each with its expected error, and what
spoils the picture. The landmarks are the morphable model's projected points plus a free offset, so the coefficients
explain what they can and the fit of several photos (`reconstruction/fit.py`) still gets unbiased measurements; and then
a step, from a closer look around each (`training/local_look.py`), which sees what this person differs by.

Symbols: α identity, β expression, (R, s, t) camera, q̂ = s (R v(α, β))_xy + t projected points, q = q̂ + offset + step,
b expected error of a point. Lengths in *crop units*: the crop is [−½, ½]², y down.

Losses (percent of the crop side, so that weights compare):
  model      mean_i w_i |q̂_i − q*_i|                  points the coefficients explain
  points     mean_i w_i (|q_i − q*_i| / b_i + 2 ln b_i) free points with their error (Laplace negative log-likelihood)
  manual     mean_i |v_i^68 − q*_i^68|                  hand-placed iBUG points where a row has them; the jaw at a third
  manual21   mean_i |v_i^21 − q*_i^21| + |(W q)_i − q*_i^21|   AFLW's 21 hand-placed points, at every yaw; W makes them
                                                        of the free points, so that these are right in profile too
  expression λ_exp mean_k |β_k − β*_k|                  a teacher's blendshapes; of blinks the cross entropy
  identity   λ_id mean α²                               prior N(0, 1)
  pairs      mean_i w_i / b_i |(q_i − q'_i) − (q*_i − q'*_i)|, of q̂ without b: the same photo, another identity
  faults     binary cross entropy of what was done to the picture (dark, blurred, hidden)
w is 0 for points that nobody can see: the labels of the hidden side of a turned face are guesses.

Half of the crops show a face that was given another identity by a known amount (`training.reshaped`), and every crop
has a second one, given yet another: what is wrong with a label is the same in both, so their difference is true.
Without them a network learns the average face with its pose and expression, and sees a third of what a person differs
by (studies/edited.py).

Adding a loss: write a function of (batch, output) below, give it a weight in Config, add a line in `Method.losses`.
"""

import re
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from sameface import __version__, morphable
from sameface.core.geometry import apply_affine, rotation_from_6d
from sameface.morphable.points import Points
from sameface.photo.augment import FAULTS, augmented, mirrored, moved, spoiled
from sameface.photo.predictor import FIVE, affine_from_landmarks
from sameface.training.dense_points import AFLW_MIRRORED, OVAL, POINT_IDS, dense_points
from sameface.training.labels import IBUG_MIRRORED
from sameface.training.local_look import LocalLook
from sameface.training.nets import Trunk, one_cycle, parameter_groups
from sameface.training.reshaped import reshaped

OVAL_WEIGHT = 0.4
LID_WEIGHT = 2.0
"""of eyeBlink among the blendshapes: two of 51 that must be right"""
TYPICAL_SCALE = 0.0046
"""crop units per mm of a face that fills the crop"""


@dataclass(frozen=True)
class Config:
    """Settings of our default network; all ours."""

    size: int = 96
    """Side of the crop, px."""
    widths: tuple[int, ...] = (48, 96, 192)
    """Channels of the stages, at 1/4, 1/8 and 1/16 of the crop side."""
    blocks: tuple[int, ...] = (2, 2, 2)
    """Residual blocks per stage."""
    features: int = 256
    """Width of the layer that all heads read."""
    batch: int = 96
    """Crops per step."""
    steps: int = 8000
    """Steps of the run."""
    lr: float = 2e-3
    """Highest AdamW step size; one cycle: linear warm-up over 3 % of the run, cosine down to 1 %."""
    coarse_lr: float = 1.0
    """Of lr, for everything but the local look; 0 keeps what a run starts with, and trains the look alone."""
    weight_decay: float = 0.02
    """AdamW."""
    model_weight: float = 1.0
    """Weight of `model`."""
    points_weight: float = 0.5
    """Weight of `points`."""
    manual_weight: float = 2.0
    """Weight of `manual`."""
    manual21_weight: float = 0.5
    """Weight of `manual21`."""
    faults_weight: float = 0.3
    """Weight of `faults`."""
    identity_weight: float = 0.04
    """λ_id."""
    expression_weight: float = 4.0
    """λ_exp."""
    hard_share: float = 0.2
    """Share of training crops with large turns, shifts and zooms, as a poor detection makes them."""
    spoiled_share: float = 0.15
    """Share of training crops that are made very dark, very blurred or are half hidden."""
    clean_share: float = 0.5
    """Share of training crops whose pictures stay as they are: a person differs by less than a blurred pixel."""
    pairs_weight: float = 1.0
    """Weight of `pairs`; 0 leaves them out."""
    reshaped_share: float = 0.5
    """Share of training crops whose face is given another identity, N(0, 1) from its own, and labels that follow."""


class Method(nn.Module):
    """Crops → coefficients, camera, landmarks."""

    needs = ("image", "landmarks", "weight", "landmarks68", "landmarks21", "blendshapes")

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        self.model = morphable.default()
        points, weights = _dense_points(self.model)
        self.n_points = len(points)
        extra = self.model.extra
        self.register_buffer("point_weight", torch.tensor(weights), persistent=False)
        dense = dense_points()
        offsets = torch.tensor(dense["offsets"])
        for name, (faces, at) in {
            "dense": (extra["mediapipe_faces"][points], extra["mediapipe_weights"][points]),
            "ibug": (self.model.landmark_faces, self.model.landmark_weights),
            "contour": (self.model.contour_faces, self.model.contour_weights),
            "aflw": (dense["aflw21_faces"], dense["aflw21_weights"]),
        }.items():
            seen = Points.of(self.model, faces, at)  # type: ignore[arg-type]
            parts = {"mean": seen.mean, "identity_basis": seen.identity, "expression_basis": seen.expression}
            for part, rows in parts.items():
                self.register_buffer(f"{name}_{part}", torch.tensor(rows, dtype=torch.float32), persistent=False)
        self.dense_mean += offsets
        self.aflw_mean += torch.tensor(dense["aflw21_offsets"])
        self.register_buffer("aflw_from_dense", torch.tensor(dense["aflw21_from_dense"]), persistent=False)
        lids = [name.startswith("eyeBlink") for name in self.model.expression_names]
        self.register_buffer("lids", torch.tensor(lids), persistent=False)
        self.trunk = Trunk(config.size, config.widths, config.blocks, config.features)
        heads = {"identity": self.model.n_identity, "expression": self.model.n_expression, "camera": 9,
                 "offset": 2 * self.n_points, "error": self.n_points, "faults": len(FAULTS)}  # fmt: skip
        self.heads = nn.ModuleDict({name: nn.Linear(config.features, width) for name, width in heads.items()})
        self.look = LocalLook(config.widths[0], self.n_points)
        self._start_at_the_mean()
        if not config.coarse_lr:
            self.trunk.requires_grad_(False)
            self.heads.requires_grad_(False)

    def train(self, mode: bool = True) -> "Method":
        """Batch statistics of what is not trained stay too."""
        super().train(mode)
        if not self.config.coarse_lr:
            self.trunk.eval()
        return self

    def _start_at_the_mean(self) -> None:
        for head in self.heads.values():
            nn.init.normal_(head.weight, std=0.01)  # type: ignore[arg-type]
            nn.init.zeros_(head.bias)  # type: ignore[arg-type]
        with torch.no_grad():
            self.heads["expression"].bias.fill_(-2.5)  # type: ignore[union-attr]
            self.heads["camera"].bias[:6] = torch.tensor([1.0, 0, 0, 0, -1, 0])  # type: ignore[union-attr,index]
            self.heads["error"].bias.fill_(-3.5)  # type: ignore[union-attr]

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> dict[str, Tensor]:
        """Crops in [0, 1] → identity (B, S), expression (B, E), rotation (B, 3, 3), scale (B,) crop units/mm,
        translation (B, 2), landmarks (B, L, 2) and landmark_error (B, L) in crop units, faults (B, 3) probabilities."""
        crops = (images - 0.5) * 4.0
        features, half, quarter = self.trunk(crops)
        raw = {name: head(features).float() for name, head in self.heads.items()}
        identity, expression = raw["identity"], torch.sigmoid(raw["expression"])
        rotation = rotation_from_6d(raw["camera"][:, :6])
        scale = TYPICAL_SCALE * torch.exp(raw["camera"][:, 6].clamp(-3, 3))
        translation = raw["camera"][:, 7:]
        out = {"identity": identity, "expression": expression, "rotation": rotation, "scale": scale,
               "translation": translation}  # fmt: skip
        coarse = self.project("dense", out).detach() + 0.1 * raw["offset"].reshape(-1, self.n_points, 2)
        step, error = self.look(crops, half, quarter, coarse.detach())
        return out | {
            "landmarks": coarse + step,
            "landmark_error": torch.exp((raw["error"] + error).clamp(-7, 0)),
            "faults": torch.sigmoid(raw["faults"]),
        }

    def project(self, which: str, output: dict[str, Tensor]) -> Float[Tensor, "B L 2"]:
        """The model's `dense`, `ibug` or `contour` points in crop units."""
        mean, identity, expression = (
            getattr(self, f"{which}_{p}") for p in ("mean", "identity_basis", "expression_basis")
        )
        points = mean + torch.einsum("lcs,bs->blc", identity, output["identity"])
        points = points + torch.einsum("lce,be->blc", expression, output["expression"])
        seen = points @ output["rotation"].transpose(1, 2)[:, :, :2]
        return output["scale"][:, None, None] * seen + output["translation"][:, None]

    def losses(self, batch: dict[str, Tensor], output: dict[str, Tensor]) -> dict[str, Tensor]:
        """The terms of the header, weighted."""
        c = self.config
        weight = self.point_weight * batch["weight"]  # pyright: ignore[reportOperatorIssue]
        weight = weight / weight.mean().clamp(min=1e-6)
        pairs = self.pairs(batch, output, weight) if c.pairs_weight else torch.zeros(())
        return {
            "model": c.model_weight * model_distance(self.project("dense", output), batch["landmarks"], weight),
            "points": c.points_weight * points_likelihood(output, batch["landmarks"], weight),
            "manual": c.manual_weight * self.manual(batch, output),
            "manual21": c.manual21_weight * self.manual21(batch, output),
            "pairs": c.pairs_weight * pairs,
            "identity": c.identity_weight * output["identity"].square().mean(),
            "expression": c.expression_weight * self.expression(batch, output),
            "faults": c.faults_weight
            * nn.functional.binary_cross_entropy(output["faults"].clamp(1e-4, 1 - 1e-4), batch["faults"]),
        }

    def pairs(self, batch: dict[str, Tensor], output: dict[str, Tensor], weight: Tensor) -> Tensor:
        """How far the change of the points from a crop to its other one is from the true change, percent."""
        other = self(batch["others"])
        true = batch["landmarks"] - batch["other_landmarks"]
        model = self.project("dense", output) - self.project("dense", other)
        free = output["landmarks"] - other["landmarks"]
        error = output["landmark_error"].detach()
        sure = (error.mean() / error).clamp(max=3)
        return 0.5 * (model_distance(model, true, weight) + model_distance(free, true, weight * sure))

    def manual(self, batch: dict[str, Tensor], output: dict[str, Tensor]) -> Tensor:
        """Distance to the hand-placed points where a row has them, percent; the jaw follows the outline."""
        points = torch.cat([self.project("contour", output), self.project("ibug", output)[:, 17:]], dim=1)
        has = batch["landmarks68"].isfinite().all(-1).all(-1)
        weight = has[:, None] * torch.cat([torch.full((17,), 1 / 3), torch.ones(51)]).to(points)
        distance = torch.linalg.vector_norm(points - torch.nan_to_num(batch["landmarks68"]) + 1e-9, dim=-1)
        return 100 * (weight * distance).sum() / weight.shape[1] / len(weight)

    def manual21(self, batch: dict[str, Tensor], output: dict[str, Tensor]) -> Tensor:
        """Distance to AFLW's hand-placed points that are seen, percent: of the coefficients' and of the free points."""
        target, near = torch.nan_to_num(batch["landmarks21"]), batch["landmarks"].mean(1, keepdim=True)
        has = batch["landmarks21"].isfinite().all(-1)
        free = torch.einsum("kl,bla->bka", self.aflw_from_dense, output["landmarks"])
        target = torch.where(has[..., None], target, near)
        total = torch.linalg.vector_norm(self.project("aflw", output) - target + 1e-9, dim=-1)
        # a point that nothing around it can stand for (the lobes of the ears) has no row in W
        stands = has & (self.aflw_from_dense.sum(1) > 0.5)  # pyright: ignore[reportCallIssue]
        direct = torch.linalg.vector_norm(free - target + 1e-9, dim=-1)
        return 100 * ((has * total).sum() + (stands * direct).sum()) / has.numel()

    def expression(self, batch: dict[str, Tensor], output: dict[str, Tensor]) -> Tensor:
        """Distance of the blendshapes to those that a row knows, the cross entropy for blinks; the others are drawn to
        none. (A blink that a network never says has no slope to learn from, but in its cross entropy.)"""
        known, told = batch["blendshapes"].isfinite(), torch.nan_to_num(batch["blendshapes"])
        said = output["expression"]
        entropy = nn.functional.binary_cross_entropy(said.clamp(1e-5, 1 - 1e-5), told, reduction="none")
        apart = torch.where(self.lids, LID_WEIGHT * entropy, (said - told).abs())  # pyright: ignore
        return torch.where(known, apart, 0.1 * said).mean()

    def optimizer(self) -> torch.optim.Optimizer:
        """AdamW, no decay on biases and norms."""
        c = self.config
        groups = parameter_groups(self.look, c.weight_decay)
        if c.coarse_lr:
            coarse = nn.ModuleList([self.trunk, self.heads])
            groups += [{**group, "lr": c.lr * c.coarse_lr} for group in parameter_groups(coarse, c.weight_decay)]
        return torch.optim.AdamW(groups, lr=c.lr, betas=(0.9, 0.98))

    def schedule(self, progress: float) -> float:
        """Linear warm-up over 3 % of the run, cosine to 1 %."""
        return one_cycle(progress)

    def sample(self, data: Any, index: int, rng: np.random.Generator, train: bool) -> dict[str, np.ndarray]:
        """One augmented crop: `images` (size, size, 3) uint8, landmarks of three kinds in crop units, `weight` (L,),
        `blendshapes` (E,), `faults` (3,); `others` and `other_landmarks` of the same face with another identity."""
        item = data[index]
        points = {name: item[name].astype(np.float64) for name in ("landmarks", "landmarks68", "landmarks21")}
        picture, weight, shapes = item["image"], item["weight"], item["blendshapes"]
        other, there = self.somebody_else(picture, points, weight > 0, rng)
        if train and rng.random() < self.config.reshaped_share:
            picture, points = self.somebody_else(picture, points, weight > 0, rng)
        affine = affine_from_landmarks(points["landmarks"], points["landmarks"][self.five], self.config.size)
        affine = _jittered(affine, self.config, rng) if train else affine
        flip = train and rng.random() < 0.5
        if flip:
            affine = mirrored(affine, self.config.size)
        crop, other = (_warp(one, affine, self.config.size) for one in (picture, other))
        points["other_landmarks"] = there["landmarks"]
        points = {name: apply_affine(affine, at) / self.config.size - 0.5 for name, at in points.items()}
        if flip:
            others = {"landmarks": self.flipped, "other_landmarks": self.flipped, "landmarks68": IBUG_MIRRORED,
                      "landmarks21": AFLW_MIRRORED}  # fmt: skip
            points = {name: at[others[name]] for name, at in points.items()}
            weight, shapes = weight[self.flipped], shapes[self.flipped_shapes]
        faults = np.zeros(len(FAULTS), np.float32)
        if train:
            if rng.random() >= self.config.clean_share:
                crop, other = augmented(crop, rng), augmented(other, rng)
            if rng.random() < self.config.spoiled_share:
                crop, faults = spoiled(crop, rng)
        return {
            "images": crop,
            "others": other,
            **{name: at.astype(np.float32) for name, at in points.items()},
            "weight": weight.astype(np.float32),
            "blendshapes": shapes.astype(np.float32),
            "faults": faults,
        }

    def somebody_else(
        self, picture: np.ndarray, points: dict[str, np.ndarray], seen: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """The photo and its points with the face of another person."""
        mean, basis = self.dense_model
        change = basis @ rng.normal(size=self.model.n_identity)
        return reshaped(picture, points, points["landmarks"], seen, mean, change)

    @cached_property
    def five(self) -> np.ndarray:
        """Where the irises, the nose tip and the mouth corners stand among the dense points."""
        return np.array([POINT_IDS.index(k) for k in FIVE])

    @cached_property
    def dense_model(self) -> tuple[np.ndarray, np.ndarray]:
        """(L, 3) mean and (L, 3, S) identity basis of the dense points, mm."""
        return self.dense_mean.double().numpy(), self.dense_identity_basis.double().numpy()  # type: ignore[operator]

    @cached_property
    def flipped_shapes(self) -> np.ndarray:
        """(E,) the blendshape of the other side of the face."""
        names = list(self.model.expression_names)
        swapped = {"Left": "Right", "Right": "Left"}
        return np.array([names.index(re.sub("Left|Right", lambda m: swapped[m[0]], name)) for name in names])

    @cached_property
    def flipped(self) -> np.ndarray:
        """(L,) the dense point on the other side of the face."""
        at = self.dense_mean.numpy()  # type: ignore[operator]
        far = np.linalg.norm(at[:, None] - at[None] * [-1, 1, 1], axis=2)
        pairs = far.argmin(1)
        if not (pairs[pairs] == np.arange(len(pairs))).all():
            raise ValueError("the dense points are not symmetric, so crops cannot be mirrored")
        return pairs

    def metadata(self) -> dict[str, Any]:
        """What the ONNX file says of itself."""
        return {
            "method": "isoface",
            "version": __version__,
            "crop": {"size": self.config.size, "kind": "upright landmark box × 1.4", "pixels": "RGB in [0, 1]"},
            "morphable": self.model.name,
            "point_ids": list(POINT_IDS),
            "point_offsets_mm": np.round(dense_points()["offsets"].astype(float), 3).tolist(),
            "faults": list(FAULTS),
            "config": asdict(self.config),
            "trained_on": "FairFace, CelebA, AFLW, Helen, LFPW, AFW, PINS (train splits); hand-placed points of AFLW",
        }

    def example(self) -> Tensor:
        """An input for export."""
        return torch.rand(2, 3, self.config.size, self.config.size)


# ── losses ─────────────────────────────────────────────────────────────────────────────────────────────────


def model_distance(
    projected: Float[Tensor, "B L 2"], target: Float[Tensor, "B L 2"], weight: Float[Tensor, "B L"]
) -> Float[Tensor, ""]:
    """100 · mean w |q̂ − q*|: percent of the crop side."""
    return 100 * (weight * torch.linalg.vector_norm(projected - target + 1e-9, dim=-1)).mean()


def points_likelihood(
    output: dict[str, Tensor], target: Float[Tensor, "B L 2"], weight: Float[Tensor, "B L"]
) -> Float[Tensor, ""]:
    """mean w (|q − q*| / b + 2 ln b + 10): negative log-likelihood of a point with an isotropic Laplace error in 2D."""
    error = output["landmark_error"]
    distance = torch.linalg.vector_norm(output["landmarks"] - target + 1e-9, dim=-1)
    return (weight * (distance / error + 2 * torch.log(error) + 10)).mean()


# ── points ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _dense_points(model: morphable.MorphableModel) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the model's MediaPipe points that are dense landmarks, and their weights."""
    weights = [OVAL_WEIGHT if k in OVAL else 1.0 for k in POINT_IDS]
    return np.array(POINT_IDS), np.array(weights, np.float32)


# ── augmentation ───────────────────────────────────────────────────────────────────────────────────────────


def _jittered(affine: np.ndarray, config: Config, rng: np.random.Generator) -> np.ndarray:
    """The crop turned, zoomed and shifted about its middle."""
    hard = rng.random() < config.hard_share
    turn = np.radians(rng.normal(0, 28 if hard else 8))
    zoom = np.exp(rng.normal(0, 0.22 if hard else 0.09))
    shift = rng.normal(0, 0.09 if hard else 0.035, 2) * config.size
    return moved(affine, config.size, turn=turn, zoom=zoom, shift=shift)


def _warp(image: np.ndarray, affine: np.ndarray, size: int) -> np.ndarray:
    """cv2.warpAffine with our pixel convention (0 is the corner, not the centre, of the first pixel)."""
    shifted = affine.copy()
    shifted[:, 2] += 0.5 * (affine[:, :2].sum(1) - 1)
    return cv2.warpAffine(image, shifted, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
