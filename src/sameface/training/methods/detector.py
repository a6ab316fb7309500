"""The face detector of the package: every face's box, score and five points, from one small network.

It follows the anchor-free detectors YuNet (Wu, Peng, Yu, Machine Intelligence Research 2023) and SCRFD (Guo et al.,
ICLR 2022, arXiv:2105.04714): every cell of three grids (strides 8, 16, 32 px) says whether a face is centred near it,
and where its box and points are. Training cells are chosen by task-aligned assignment (TOOD, Feng et al., ICCV 2021,
arXiv:2108.07755): those that already score and fit a labelled face best.

Symbols: p score, u overlap (IoU), t = p^1/2 u^4 alignment (TOOD's eq. 5 with α = 1/2, β = 4).

What is ours:
1. Plain 3x3 convolutions where maps are large and bottlenecks where they are small, instead of depthwise ones: on a
   processor they train and run twice as fast at the same accuracy. One top-down path joins the strides.
2. Quality focal loss (Li et al., arXiv:2006.04388, eq. 4) on p with t, scaled so that a face's best cell gets its u,
   as target; DIoU on boxes; smooth L1 on points in units of the box's longer side.
3. Training pictures are grids of 1 to 36 photos, each turned, mirrored and scaled at random, so that faces from 6 px to
   the whole picture occur, among them tight crops without surroundings.
4. Faces less than half inside their tile, or smaller than 6 px, are neither faces nor background: they are left out.
5. Losses are divided by the sum of targets of the batch, so several processes agree with one only approximately.

The packaged `detect.onnx` is the default Config with `--precision bfloat16 --average 0.999`, on the train parts of the
scenes and of what `tools/scenes_from_faces.py` makes of the face table. Its planned length was shortened underway:
from 12,000 steps to 9,000 after 1,500, to 8,000 after 5,500 and to 7,500 after 7,250.
"""

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from sameface.training.nets import parameter_groups

__all__ = ["Config", "Method"]

STRIDES = (8, 16, 32)
MIRRORED = (1, 0, 2, 4, 3)
"""Where each of the five points goes when left and right change places."""
LONGEST = 40
"""Labelled faces per training picture."""
FACE, LEFT_OUT, NOTHING = 1, 0, -1


@dataclass(frozen=True)
class Config:
    """Settings of the shipped `detect.onnx`."""

    steps: int = 7500
    """Steps of training."""
    batch: int = 32
    """Pictures of a step."""
    size: int = 256
    """Side of a training picture, px: a multiple of 32."""
    lr: float = 2e-3
    """Step size of AdamW, after a warm-up of 3 % and before a cosine to zero."""
    weight_decay: float = 0.02
    """Of convolutions; biases and norms have none."""
    widths: tuple[int, ...] = (16, 24, 48, 64, 80)
    """Channels at strides 2, 4, 8, 16, 32."""
    blocks: tuple[int, ...] = (0, 1, 2, 2, 2)
    """Residual blocks at each of these strides."""
    neck: int = 48
    """Channels where the strides meet."""
    cells: int = 8
    """Cells that learn each face (TOOD uses 13; our pictures are smaller)."""
    box_weight: float = 2.0
    """Weight of the box loss (as TOOD)."""
    points_weight: float = 5.0
    """Weight of the point loss."""


class Method(nn.Module):
    """The network, how its training pictures are made, and its losses."""

    needs = ("images", "boxes", "points")
    dynamic = {0: "batch", 2: "32*height", 3: "32*width"}  # noqa: RUF012

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        before = (3, *config.widths)
        self.stages = nn.ModuleList(
            nn.Sequential(convolution(before[i], width, stride=2), *[block(width, i < 3) for _ in range(count)])
            for i, (width, count) in enumerate(zip(config.widths, config.blocks, strict=True))
        )
        self.inward = nn.ModuleList(convolution(width, config.neck, size=1) for width in config.widths[2:])
        self.joint = nn.ModuleList(block(config.neck, False) for _ in STRIDES)
        self.heads = nn.ModuleList(answer(config.neck) for _ in STRIDES)

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> dict[str, Tensor]:
        """For each of the A = HW (1/8² + 1/16² + 1/32²) cells: `logits` (B, A) of the scores, `boxes` (B, A, 4):
        x0, y0, x1, y1 px, `points` (B, A, 5, 2) px. H and W are multiples of 32."""
        maps, x = [], images * 2 - 1
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        maps = [inward(x) for inward, x in zip(self.inward, maps[2:], strict=True)]
        for i in (1, 0):
            maps[i] = maps[i] + F.interpolate(maps[i + 1], scale_factor=2.0, mode="nearest")
        raw = [head(joint(x)) for head, joint, x in zip(self.heads, self.joint, maps, strict=True)]
        spots = [grid(x.shape[2], x.shape[3], stride, x.device) for x, stride in zip(raw, STRIDES, strict=True)]
        place, stride = torch.cat([spot for spot, _ in spots]), torch.cat([size for _, size in spots])
        values = torch.cat([x.flatten(2) for x in raw], 2).transpose(1, 2).float()
        middle = place + 2 * stride * values[..., 1:3]
        half = 2 * stride * values[..., 3:5].clamp(-6, 6).exp()
        points = place[:, None] + 4 * stride[:, None] * values[..., 5:].unflatten(2, (5, 2))
        return {"logits": values[..., 0], "boxes": torch.cat([middle - half, middle + half], 2), "points": points}

    def losses(self, batch: dict[str, Tensor], output: dict[str, Tensor]) -> dict[str, Tensor]:
        """Quality focal loss of the scores, DIoU loss of the boxes, smooth L1 of the points."""
        height, width = batch["images"].shape[2:]
        spots = [grid(height // s, width // s, s, batch["images"].device) for s in STRIDES]
        place, stride = torch.cat([spot for spot, _ in spots]), torch.cat([size for _, size in spots])[:, 0]
        p = output["logits"].sigmoid()
        image, slot = (batch["kinds"] == FACE).nonzero(as_tuple=True)  # (N,): the faces of the batch, one by one
        wanted, five = batch["boxes"][image, slot], batch["points"][image, slot]
        learned = assign(p.detach(), output["boxes"].detach(), image, wanted, place, stride, self.config.cells)
        target = most(learned, image, len(p))
        total = target.sum().clamp(min=1)
        focal = (target - p).abs().square() * F.binary_cross_entropy_with_logits(
            output["logits"], target, reduction="none"
        )
        counted = 1 - left_out(batch["boxes"], batch["kinds"], place) * (target == 0)
        face, cell = learned.nonzero(as_tuple=True)
        weight, boxes = learned[face, cell] / total, output["boxes"][image[face], cell]
        longest = (wanted[:, 2:] - wanted[:, :2]).amax(1)[face, None, None]
        far = (output["points"][image[face], cell] - five[face]) / longest
        points = F.smooth_l1_loss(far, torch.zeros_like(far), beta=0.05, reduction="none").sum(2).mean(1)
        return {
            "score": (focal * counted).sum() / total,
            "box": self.config.box_weight * ((1 - distance_iou(boxes, wanted[face])) * weight).sum(),
            "points": self.config.points_weight * (points * weight).sum(),
        }

    def optimizer(self) -> torch.optim.Optimizer:
        """AdamW; weight decay on convolutions only."""
        return torch.optim.AdamW(parameter_groups(self, self.config.weight_decay), lr=self.config.lr)

    def schedule(self, progress: float) -> float:
        """Warm-up over 3 % of the steps, then a cosine to zero."""
        return min(1.0, progress / 0.03 + 0.01) * (1 + math.cos(math.pi * progress)) / 2

    def metadata(self) -> dict[str, Any]:
        """What `photo/detect.py` needs to know."""
        return {
            "input": "images (B, 3, H, W) float32 RGB in [0, 1]; H and W multiples of 32",
            "points": ["right eye", "left eye", "nose tip", "right mouth corner", "left mouth corner"],
            "trained_side": self.config.size,
        }

    def example(self) -> Float[Tensor, "B 3 H W"]:
        """Noise of an uneven size, to trace with."""
        return torch.rand(2, 3, 128, 160, generator=torch.Generator().manual_seed(0))

    def sample(self, data: Any, index: int, rng: np.random.Generator, train: bool) -> dict[str, np.ndarray]:
        """A grid of photos: `images` (S, S, 3) uint8, `boxes` (40, 4), `points` (40, 5, 2) px, `kinds` (40,)."""
        size = self.config.size
        count = int(rng.choice([1, 2, 3, 4, 6], p=[0.5, 0.28, 0.1, 0.08, 0.04]))
        cuts = [
            np.round(size * (np.arange(count + 1) + np.pad(rng.uniform(-0.25, 0.25, count - 1), 1)) / count).astype(int)
            for _ in "xy"
        ]
        picture, labels = np.empty((size, size, 3), np.uint8), []
        for row in range(count):
            for column in range(count):
                photo = data[index if row == column == 0 else int(rng.integers(len(data)))]
                corner = np.array([cuts[0][column], cuts[1][row]])
                cell = np.array([cuts[0][column + 1], cuts[1][row + 1]]) - corner
                tile, boxes, points, kinds = place_photo(photo, cell, rng, train)
                picture[corner[1] : corner[1] + cell[1], corner[0] : corner[0] + cell[0]] = tile
                labels += zip(boxes + np.tile(corner, 2), points + corner, kinds, strict=True)
        labels.sort(key=lambda label: -label[2])
        item = {
            "images": disturb(picture, labels, rng) if train else picture,
            "boxes": np.zeros((LONGEST, 4), np.float32),
            "points": np.zeros((LONGEST, 5, 2), np.float32),
            "kinds": np.full(LONGEST, NOTHING, np.int64),
        }
        for i, (box, five, kind) in enumerate(labels[:LONGEST]):
            item["boxes"][i], item["points"][i], item["kinds"][i] = box, five, kind
        return item


def convolution(inside: int, outside: int, size: int = 3, stride: int = 1, active: bool = True) -> nn.Sequential:
    """Convolution, batch norm and, if `active`, ReLU."""
    layers = [nn.Conv2d(inside, outside, size, stride, size // 2, bias=False), nn.BatchNorm2d(outside)]
    return nn.Sequential(*layers, *([nn.ReLU(inplace=True)] if active else []))


class block(nn.Module):
    """x + two convolutions: both 3x3 and wide, or 1x1 to half the width and 3x3 back."""

    def __init__(self, width: int, wide: bool):
        super().__init__()
        inner = width if wide else width // 2
        self.layers = nn.Sequential(
            convolution(width, inner, 3 if wide else 1), convolution(inner, width, active=False)
        )

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """The sum, rectified."""
        return torch.relu(x + self.layers(x))


def answer(width: int) -> nn.Sequential:
    """The head of one stride: 1 score, 4 numbers for the box, 10 for the points. Every score begins at 0.01."""
    last = nn.Conv2d(width, 15, 1)
    nn.init.normal_(last.weight, std=0.01)
    last.bias = nn.Parameter(torch.tensor([-math.log(99)] + 14 * [0.0]))
    return nn.Sequential(block(width, False), last)


def grid(
    height: int | torch.SymInt, width: int | torch.SymInt, stride: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """The middles (H·W, 2) px of a grid's cells, row by row, and its stride (H·W, 1)."""
    y = (torch.arange(height, device=device) + 0.5) * stride  # pyright: ignore[reportArgumentType, reportCallIssue]
    x = (torch.arange(width, device=device) + 0.5) * stride  # pyright: ignore[reportArgumentType, reportCallIssue]
    middles = torch.stack([x[None, :].expand(height, width), y[:, None].expand(height, width)], 2).flatten(0, 1)
    return middles, torch.full_like(middles[:, :1], stride)


def overlap(a: Float[Tensor, "*n 4"], b: Float[Tensor, "*m 4"]) -> Float[Tensor, "*k"]:
    """Intersection over union of boxes x0, y0, x1, y1, with broadcasting."""
    shared = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0).prod(-1)
    union = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - shared
    return shared / union.clamp(min=1e-6)


def distance_iou(a: Float[Tensor, "N 4"], b: Float[Tensor, "N 4"]) -> Float[Tensor, " N"]:
    """IoU less the squared distance of the middles over the squared diagonal of the hull (arXiv:1911.08287, eq. 6)."""
    apart = ((a[:, :2] + a[:, 2:] - b[:, :2] - b[:, 2:]) / 2).square().sum(1)
    hull = (torch.maximum(a[:, 2:], b[:, 2:]) - torch.minimum(a[:, :2], b[:, :2])).square().sum(1)
    return overlap(a, b) - apart / hull.clamp(min=1e-6)


def most(values: Float[Tensor, "N A"], image: Int[Tensor, " N"], count: int) -> Float[Tensor, "B A"]:
    """For each of `count` images and each cell, the largest of the (non-negative) values of the image's faces."""
    return values.new_zeros(count, values.shape[1]).scatter_reduce(0, image[:, None].expand_as(values), values, "amax")


@torch.no_grad()
def assign(
    scores: Float[Tensor, "B A"],
    boxes: Float[Tensor, "B A 4"],
    image: Int[Tensor, " N"],
    wanted: Float[Tensor, "N 4"],
    place: Float[Tensor, "A 2"],
    stride: Float[Tensor, " A"],
    cells: int,
) -> Float[Tensor, "N A"]:
    """What score each cell should give for each of N faces, 0 where it learns nothing of it: the `cells` best aligned.

    A cell can learn a face if its middle is near the face's and its stride suits the face's size; it learns one face.
    """
    side = (wanted[:, 2:] - wanted[:, :2]).amax(1, keepdim=True)
    near = (place - ((wanted[:, :2] + wanted[:, 2:]) / 2)[:, None]).abs().amax(2) <= torch.maximum(
        0.3 * side, 0.75 * stride
    )
    suits = ((side > 1.5 * stride) | (stride == min(STRIDES))) & ((side < 10 * stride) | (stride == max(STRIDES)))
    able = near & suits
    fit = overlap(boxes[image], wanted[:, None]) * able
    aligned = (scores[image].sqrt() * fit.pow(4) + 1e-9) * able
    best = aligned.topk(cells, dim=1)
    chosen = torch.zeros_like(aligned).scatter_(1, best.indices, (best.values > 0).float())
    fit = fit * chosen
    chosen = chosen * (fit >= most(fit, image, len(scores))[image])
    aligned = aligned * chosen
    peak = aligned.amax(1, keepdim=True).clamp(min=1e-9)
    return aligned / peak * fit.amax(1, keepdim=True).clamp(min=0.05)


def left_out(
    boxes: Float[Tensor, "B M 4"], kinds: Int[Tensor, "B M"], place: Float[Tensor, "A 2"]
) -> Float[Tensor, "B A"]:
    """1 for cells inside a face that is too small, or too much cut, to count as face or background; else 0."""
    image, slot = (kinds == LEFT_OUT).nonzero(as_tuple=True)
    box = boxes[image, slot][:, None]
    inside = ((place >= box[..., :2] - 4) & (place <= box[..., 2:] + 4)).all(2).float()
    return most(inside, image, len(boxes))


def place_photo(
    photo: dict[str, np.ndarray], cell: Int[np.ndarray, "2"], rng: np.random.Generator, train: bool
) -> tuple[UInt8[np.ndarray, "h w 3"], Float[np.ndarray, "n 4"], Float[np.ndarray, "n 5 2"], Int[np.ndarray, " n"]]:
    """Fill a tile of `cell` (w, h) px with a part of a photo; returns it with its boxes, points (tile px) and kinds."""
    image, boxes, points = photo["images"], photo["boxes"], photo["points"]
    height, width = image.shape[:2]
    smallest, largest = 0.6 * float((cell / (width, height)).min()), 3.0
    anchor = rng.uniform((0, 0), (width, height))
    target = cell / 2
    if len(boxes) and rng.random() < 0.85:
        box = boxes[rng.integers(len(boxes))]
        largest = min(largest, 1.1 * float(cell.max()) / float((box[2:] - box[:2]).max()))
        anchor = (box[:2] + box[2:]) / 2
    scale = math.exp(rng.uniform(math.log(min(smallest, largest)), math.log(largest)))
    if len(boxes):
        reach = np.minimum(0.4 * scale * float((boxes[:, 2:] - boxes[:, :2]).max()), 0.45 * cell)
        target = rng.uniform(reach, cell - reach)
    angle = math.radians(rng.normal(0, 8) if rng.random() < 0.6 else rng.uniform(-45, 45)) * train
    flip = -1 if rng.random() < 0.5 else 1
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    matrix = scale * turn * [flip, 1]
    shift = target - matrix @ anchor
    tile = warp(image, matrix, shift, scale, cell, rng)
    middle, half = (boxes[:, :2] + boxes[:, 2:]) / 2 @ matrix.T + shift, (boxes[:, 2:] - boxes[:, :2]) / 2
    half = np.sqrt(half**2 @ (matrix**2).T)  # the hull of the turned ellipse
    boxes = np.concatenate([middle - half, middle + half], 1)
    points = points @ matrix.T + shift
    cut = np.clip(boxes, 0, np.tile(cell, 2))
    seen = (cut[:, 2:] - cut[:, :2]).prod(1) / (boxes[:, 2:] - boxes[:, :2]).prod(1).clip(1e-6)
    kinds = np.where((seen >= 0.5) & (half.max(1) >= 3), FACE, np.where(seen > 0.05, LEFT_OUT, NOTHING))
    boxes = np.where(kinds[:, None] == FACE, boxes, cut)
    return tile, boxes, points[:, list(MIRRORED)] if flip < 0 else points, kinds


def warp(
    image: UInt8[np.ndarray, "H W 3"],
    matrix: np.ndarray,
    shift: np.ndarray,
    scale: float,
    cell: np.ndarray,
    rng: np.random.Generator,
) -> UInt8[np.ndarray, "h w 3"]:
    """`image` under x → matrix x + shift, shrunk by areas first so that small faces do not alias."""
    if scale < 0.7:
        height, width = image.shape[:2]
        size = max(1, round(width * scale)), max(1, round(height * scale))
        matrix = matrix * [width / size[0], height / size[1]]
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    middle = shift + matrix @ [0.5, 0.5] - 0.5  # OpenCV counts from the middle of the first pixel
    border = cv2.BORDER_REPLICATE if rng.random() < 0.3 else cv2.BORDER_CONSTANT
    return cv2.warpAffine(
        image,
        np.column_stack([matrix, middle]),
        cell.tolist(),
        flags=cv2.INTER_LINEAR,
        borderMode=border,
        borderValue=rng.integers(0, 256, 3).tolist(),
    )


def disturb(
    picture: UInt8[np.ndarray, "S S 3"], labels: list[Any], rng: np.random.Generator
) -> UInt8[np.ndarray, "S S 3"]:
    """Cover parts of faces; change light, colour, sharpness; add noise and traces of JPEG."""
    for box, _, kind in labels:
        if kind == FACE and rng.random() < 0.06:
            low, size = rng.uniform(box[:2], box[2:]), rng.uniform(0.2, 0.5, 2) * (box[2:] - box[:2])
            x0, y0, x1, y1 = np.concatenate([low - size / 2, low + size / 2]).clip(0, len(picture)).astype(int)
            picture[y0:y1, x0:x1] = rng.integers(0, 256, 3)
    ramp = np.linspace(0, 1, 256)[:, None] ** math.exp(rng.normal(0, 0.3)) * np.exp(rng.normal(0, 0.08, 3))
    contrast, light = math.exp(rng.normal(0, 0.2)), rng.normal(0, 0.08)
    table = (((ramp - 0.5) * contrast + 0.5 + light) * 255).clip(0, 255).astype(np.uint8)
    picture = cv2.LUT(picture, table[:, None])
    if rng.random() < 0.1:
        picture = np.repeat(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[..., None], 3, 2)
    if rng.random() < 0.1:
        picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.4, 1.6))
    if rng.random() < 0.1:
        noise = rng.normal(0, rng.uniform(2, 14), picture.shape[:2])[..., None]
        picture = (picture + noise).clip(0, 255).astype(np.uint8)
    if rng.random() < 0.15:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 85))]
        picture = np.asarray(cv2.imdecode(cv2.imencode(".jpg", picture, quality)[1], cv2.IMREAD_COLOR))
    return picture
