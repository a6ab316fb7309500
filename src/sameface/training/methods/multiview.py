"""multiview: Single and multi-view 3D face reconstruction with Siamese networks (3DFAW challenge, 2019).

What it does: one encoder sees a photo and says the identity of a morphable model and the pose of the head (SV). With
shared weights it sees three photos of a person, frontal, left and right, and a merge block makes one identity of what
it saw (MV). The only loss is how far the predicted face lies from the true one in the pictures.

Symbols: s shape (V×3 mm), m mean, Φ_id basis, α identity; q unit quaternion and t ∈ R³, the pose of a view; K known
calibration; P = K[R(q)|t] full perspective, eqs. 3-4; V views (3, or 1); M merge block.

  s = m + Φ_id α                                                              eq. 1
  SV             encoder → three MLPs with one hidden layer of 256: α, q, t
  MV add|concat  the views' features, added or side by side → MLP (256) → α; a pose for each view
  MV shape       as MV concat with average pooling after the encoder, without poses ("MV Shape-Concat")

Losses:
  reprojection   Σ_v ‖P(q_v, t_v)(s) − P(q̂_v, t̂_v)(ŝ)‖²                        eq. 2; px², alone and without a weight
  shape          |s − ŝ|², mm² ("MV shape" only)
SV is trained first; the others begin with its weights (`--start RUN/best.pt`), which this file adapts.

Differs from the paper:
 1. Eq. 2 is divided by the number of vertices and averaged over the batch; its px are those of the crop. To Adam a
    constant factor is nothing.
 2. The paper's photos have one K. Ours have their own, and are cropped around the face, and no network can see that.
    So the three numbers of t are said as the crop shows them: where the model's origin is, and how large (crop units
    per mm). q is the head's turn against the ray through the middle of the crop. K then gives R(q) and t exactly.
 3. Points nearer than a fifth of the head's distance are projected as if they were there (early in training only).
 4. The poses begin at a frontal face that fills the crop, α at the mean face.
 5. M merges the encoder's features, of which the conclusions speak; `merges` "coefficients" merges every view's α,
    of which sec. 3.2 speaks. Its MLP begins as that of SV, a third for each view, so that MV begins as SV does.
    "MV shape" takes over the encoder only.
 6. The paper's scans are neutral. Photos here may show expressions: the truth in the loss is the true neutral face in
    the true pose, and the network has to see through the expression.
 7. Any MorphableModel gives the modes (64 in the paper). "Symmetrised" is a mirrored photo with its mirrored truth,
    vertex by vertex, so that the basis need not be symmetric.
 8. In training the crop moves a little, the wanted yaws vary, and the photos are degraded.
 9. A larger head farther away looks the same, so nothing takes back a size that once made up for a wrong distance.
    `pose_first` keeps α at 0 until the poses are known.
10. VGG-16 begins at random; the paper does not say. The small preset has one convolution for each stage. `residual`
    has the convolutions of isoface and can begin with theirs (`--start` its best.pt), which know poses already.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from sameface import __version__
from sameface.core.errors import BadData
from sameface.core.geometry import euler_from_rotation, rotation_from_quaternion
from sameface.morphable import MorphableModel
from sameface.morphable.formats import open_or_default
from sameface.photo import image
from sameface.photo.augment import augmented
from sameface.photo.views import WANTED, choose
from sameface.training.nets import VGG16, residual

HIDDEN = 256
VIEWS = len(WANTED)
NEAREST = 0.2
"""of the head's distance: the least depth of a point"""
FOCAL = 1.2
"""larger sides of the photo: what to take for the focal length where nothing is known"""
LARGEST_ZOOM = 3.0
"""logarithm, against the typical size of a head in a crop"""


@dataclass(frozen=True)
class Config:
    """Settings of the paper (sec. 4.2); ours where it says so."""

    variant: Literal["single", "add", "concatenate", "shape"] = "single"
    """SV, MV Add, MV Concat, MV Shape-Concat."""
    merges: Literal["features", "coefficients"] = "features"
    """What M merges: the encoder's features, or every view's α."""
    network: Literal["small", "residual", "vgg16"] = "small"
    """The paper's is vgg16; small is ours, for CPUs; residual the convolutions of isoface, which can start it."""
    morphable: str = ""
    """File or folder of the morphable model that the labels belong to. Empty: the one that ships with sameface."""
    modes: int = 0
    """Length of α, the first modes of the model; 0: all of them (paper: 64, which cover 99 % of its variance)."""
    size: int = 96
    """Side of the crop, px. Ours."""
    crop_factor: float = 1.5
    """Side of the crop / larger side of the box of the 68 points. Ours."""
    batch: int = 32
    """Photos, or triples of photos, per step (paper)."""
    steps: int = 6000
    """Steps of the run. Ours (paper: until convergence, 13 h)."""
    lr: float = 1e-4
    """Adam step size (paper)."""
    pose_first: float = 0.0
    """Share of the run in which α stays 0, so that no size makes up for a wrong distance. Ours (paper: none)."""
    decay_to: float = 1.0
    """Exponential decay of the rate to this factor at the end of the run; the paper names none."""
    symmetrised: bool = True
    """Whether half of the training items are mirrored (paper); needs a model that knows its mirror image."""
    yaw_spread: float = 8.0
    """Deviation of the wanted yaws in training, degrees. Ours."""
    zoom: float = 0.06
    """Deviation of the crop's zoom in training, logarithm. Ours."""
    shift: float = 0.03
    """Deviation of the crop's shift in training, sides. Ours."""
    degraded: bool = True
    """Whether photos are degraded in training. Ours."""


class Method(nn.Module):
    """Crops, or triples of crops (frontal, left, right) → identity, neutral face, and the pose of every view."""

    needs = ("image", "identity", "rotation", "translation", "camera_matrix", "landmarks68", "person")
    mean: Tensor
    basis: Tensor
    progress: Tensor

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        self.model = open_or_default(config.morphable)
        self.modes = config.modes or self.model.n_identity
        _check(config, self.model)
        self._yaws: dict[int, tuple[Any, dict[int, float]]] = {}
        self.encoder, channels, stride = _encoder(config.network)
        width = channels * (1 if config.variant == "shape" else (config.size // stride) ** 2)
        heads: dict[str, nn.Module] = {}
        if config.variant != "shape":
            heads |= {"rotation": _mlp(width, 4, bias=(0.0, 1.0, 0.0, 0.0)), "translation": _mlp(width, 3)}
        coefficients = config.merges == "coefficients"
        if config.variant == "single" or coefficients:
            heads["identity"] = _mlp(width, self.modes)
        self.heads = nn.ModuleDict(heads)
        if config.variant != "single":
            inputs = (self.modes if coefficients else width) * (1 if config.variant == "add" else VIEWS)
            self.merge = _mlp(inputs, self.modes)
        self.register_buffer("mean", torch.tensor(self.model.mean), persistent=False)
        self.register_buffer("basis", torch.tensor(self.model.identity_basis), persistent=False)
        self.register_buffer("progress", torch.zeros(()), persistent=False)
        self.register_load_state_dict_pre_hook(_adapt)

    @cached_property
    def typical_scale(self) -> float:
        """Crop units per mm of a frontal mean face."""
        points = self.model.landmarks(self.model.mean)[:, :2]
        return 1 / (self.config.crop_factor * float(np.ptp(points, axis=0).max()))

    def forward(self, images: Float[Tensor, "... H W"]) -> dict[str, Tensor]:
        """Crops (B, 3, H, W), for the merging variants (B, 3, 3, H, W), in [0, 1] → identity (B, S) in σ and neutral
        (B, V, 3), mm; and of every view, (B, …) or (B, 3, …), as the crop shows it: rotation (…, 3, 3), translation
        (…, 2), the model's origin in crop units, and scale (…), crop units/mm."""
        several = self.config.variant != "single"
        if images.ndim != 4 + several or (several and images.shape[1] != VIEWS):
            wanted = f"(B, {VIEWS}, 3, H, W)" if several else "(B, 3, H, W)"
            raise ValueError(f"variant {self.config.variant!r} takes images {wanted}, not {tuple(images.shape)}")
        crops = images.flatten(0, 1) if several else images
        maps = self.encoder((crops.contiguous(memory_format=torch.channels_last) - 0.5) * 4.0)
        seen = (maps.mean((2, 3)) if self.config.variant == "shape" else maps.flatten(1)).float()
        with torch.autocast(images.device.type, enabled=False):  # a 256th of a crop, bfloat16's step, is too coarse
            said = {name: head(seen) for name, head in self.heads.items()}
            if several:
                merged = said.pop("identity", seen).unflatten(0, (-1, VIEWS))
                identity = self.merge(merged.sum(1) if self.config.variant == "add" else merged.flatten(1))
            else:
                identity = said.pop("identity")
        if self.training and self.progress < self.config.pose_first:
            identity = 0 * identity
        pose = self._pose(said) if said else {}
        if several:
            pose = {name: values.unflatten(0, (-1, VIEWS)) for name, values in pose.items()}
        identity = functional.pad(identity, (0, self.model.n_identity - self.modes))
        return {"identity": identity, "neutral": self.shape(identity), **pose}

    def _pose(self, said: dict[str, Tensor]) -> dict[str, Tensor]:
        rotation, where = rotation_from_quaternion(said["rotation"]), said["translation"]
        zoom = LARGEST_ZOOM * torch.tanh(where[:, 2] / LARGEST_ZOOM)
        return {"rotation": rotation, "translation": where[:, :2], "scale": self.typical_scale * torch.exp(zoom)}

    def shape(self, identity: Float[Tensor, "B S"]) -> Float[Tensor, "B V 3"]:
        """s = m + Φ_id α, mm."""
        return self.mean + torch.einsum("vcs,bs->bvc", self.basis, identity)

    def true_shape(self, batch: dict[str, Tensor]) -> Float[Tensor, "B V 3"]:
        """s of the labels, mirrored where the photos are."""
        shape = self.shape(batch["identity"])
        if self.model.mirror is None:
            return shape
        other = shape[:, torch.as_tensor(self.model.mirror, dtype=torch.long, device=shape.device)]
        return torch.where(batch["mirrored"][:, None, None], other * other.new_tensor([-1.0, 1.0, 1.0]), shape)

    def losses(self, batch: dict[str, Tensor], output: dict[str, Tensor]) -> dict[str, Tensor]:
        """The one loss of the variant."""
        true, found = self.true_shape(batch), output["neutral"]
        if self.config.variant == "shape":
            return {"shape": (found - true).square().sum(2).mean()}
        views = {name: batch[name] for name in ("rotation", "translation", "camera_matrix")}
        said = {name: output[name] for name in ("rotation", "translation", "scale")}
        if self.config.variant == "single":
            views, said = ({k: v.unsqueeze(1) for k, v in values.items()} for values in (views, said))
        calibration = views["camera_matrix"]
        pose = in_camera(said["rotation"], said["translation"], said["scale"], calibration, self.config.size)
        seen = project(found, *pose, calibration)
        return {"reprojection": reprojection(seen, project(true, views["rotation"], views["translation"], calibration))}

    def optimizer(self) -> torch.optim.Optimizer:
        """Adam."""
        return torch.optim.Adam(self.parameters(), lr=self.config.lr)

    def schedule(self, progress: float) -> float:
        """Exponential decay, if any; α begins with the progress too."""
        self.progress.fill_(progress)
        return self.config.decay_to**progress

    # ── training items ─────────────────────────────────────────────────────────────────────────────────────

    def sample(self, data: Any, index: int, rng: np.random.Generator, train: bool) -> dict[str, Any]:
        """One view (or V stacked views of the person): `images` (size, size, 3) uint8, rotation (3, 3), translation
        (3,) mm, camera_matrix (3, 3) of the crop; identity (S,), and whether all of it is `mirrored`."""
        mirrored = bool(train and self.config.symmetrised and rng.random() < 0.5)
        single = self.config.variant == "single"
        rows = [index] if single else self._rows(data, index, rng if train else None, mirrored)
        items = [data[row] for row in rows]
        views = [self._view(item, rng if train else None, mirrored) for item in items]
        stacked = {name: np.stack([view[name] for view in views]) for name in views[0]}
        if single:
            stacked = {name: values[0] for name, values in stacked.items()}
        return {**stacked, "identity": items[0]["identity"].astype(np.float32), "mirrored": np.bool_(mirrored)}

    def _rows(self, data: Any, index: int, rng: np.random.Generator | None, mirrored: bool) -> list[int]:
        """The rows of the person of row `index` that come nearest to the wanted yaws; a stranger has one row."""
        person, wanted = np.asarray(data.person), np.array(WANTED)
        rows = np.flatnonzero(person == person[index]) if person[index] >= 0 else np.array([index])
        if rng is not None:
            wanted = wanted + rng.normal(0, self.config.yaw_spread, VIEWS)
        yaw = np.array([self._yaw(data, int(row)) for row in rows])
        return rows[choose(yaw, (-wanted if mirrored else wanted).tolist())].tolist()

    def _yaw(self, data: Any, row: int) -> float:
        """Degrees; a row is read once for it, unless the data set tells the rotation of all rows."""
        known = self._yaws.setdefault(id(data), (data, {}))[1]  # with the data, so that no other gets its id
        if row not in known:
            rotation = data.rotation[row] if hasattr(data, "rotation") else data[row]["rotation"]
            known[row] = float(np.degrees(euler_from_rotation(np.asarray(rotation, np.float64))[1]))
        return known[row]

    def _view(self, item: dict[str, Any], rng: np.random.Generator | None, mirrored: bool) -> dict[str, np.ndarray]:
        if len(item["identity"]) != self.model.n_identity:
            raise BadData(
                f"the data set gives {len(item['identity'])} identity coefficients, but {self.model.name} has "
                f"{self.model.n_identity}; name the labels' model with --morphable"
            )
        rotation, translation = (item[name].astype(np.float64) for name in ("rotation", "translation"))
        nearest = float((self.model.mean @ rotation[2] + translation[2]).min())
        if not nearest > 0:
            raise BadData(f"a head reaches behind its camera (to {nearest:.0f} mm); translations are in mm, z ahead")
        size = self.config.size
        affine = self.crop_affine(item["landmarks68"], rng)
        crop = image.crop(item["image"], affine, (size, size))
        calibration = np.vstack([affine, [0, 0, 1]]) @ item["camera_matrix"].astype(np.float64)
        if mirrored:
            flip, side = np.diag([-1.0, 1.0, 1.0]), np.array([[-1.0, 0, size], [0, 1, 0], [0, 0, 1]])
            crop, calibration = np.ascontiguousarray(crop[:, ::-1]), side @ calibration @ flip
            rotation, translation = flip @ rotation @ flip, flip @ translation
        if rng is not None and self.config.degraded:
            crop = augmented(crop, rng)
        truth = {"rotation": rotation, "translation": translation, "camera_matrix": calibration}
        return {"images": crop, **{name: values.astype(np.float32) for name, values in truth.items()}}

    def crop_affine(
        self, landmarks: Float[np.ndarray, "68 2"], rng: np.random.Generator | None = None
    ) -> Float[np.ndarray, "2 3"]:
        """Photo px → px of the upright square around the 68 points, with `rng` at a random zoom and shift."""
        c, points = self.config, landmarks.astype(np.float64)
        low, high = points.min(0), points.max(0)
        zoom, shift = 1.0, np.zeros(2)
        if rng is not None:
            zoom, shift = np.exp(rng.normal(0, c.zoom)), rng.normal(0, c.shift, 2) * c.size
        scale = zoom * c.size / (c.crop_factor * (high - low).max())
        return np.column_stack([scale * np.eye(2), c.size / 2 + shift - scale * (low + high) / 2])

    def metadata(self) -> dict[str, Any]:
        """What the ONNX file says of itself."""
        c = self.config
        where = f"t = f/(scale·{c.size}) K⁻¹[{c.size}(translation + ½), 1]; R = turn((0, 0, 1) → ray) · rotation"
        return {
            "method": "multiview",
            "version": __version__,
            "crop": {"size": c.size, "rule": "box68", "factor": c.crop_factor, "pixels": "RGB in [0, 1]"},
            "views": [] if c.variant == "single" else list(WANTED),
            "camera": {"kind": "perspective", "focal / larger side of the photo, if unknown": FOCAL, "pose": where},
            "morphable": self.model.name,
            "licence": self.model.licence,
            "config": asdict(c) | {"morphable": Path(c.morphable).name},
        }

    def example(self) -> Tensor:
        """An input for export."""
        views = () if self.config.variant == "single" else (VIEWS,)
        return torch.rand(2, *views, 3, self.config.size, self.config.size)


# ── the camera and the loss ────────────────────────────────────────────────────────────────────────────────


def in_camera(
    rotation: Float[Tensor, "B N 3 3"],
    translation: Float[Tensor, "B N 2"],
    scale: Float[Tensor, "B N"],
    calibration: Float[Tensor, "B N 3 3"],
    size: int,
) -> tuple[Float[Tensor, "B N 3 3"], Float[Tensor, "B N 3"]]:
    """(R, t) in mm from what a crop shows: t = z K⁻¹[size (translation + ½), 1] with z = f / (scale · size), and
    R = the shortest turn of (0, 0, 1) to the ray through the crop's middle, after `rotation`. f = √|det of K's 2×2|."""
    inverse = torch.linalg.inv(calibration)
    focal = torch.linalg.det(calibration[..., :2, :2]).abs().sqrt()
    ray = functional.normalize((inverse @ inverse.new_tensor([size / 2, size / 2, 1.0])), dim=-1)
    turn = torch.stack([1 + ray[..., 2], -ray[..., 1], ray[..., 0], torch.zeros_like(ray[..., 0])], -1)
    at = functional.pad(size * (translation + 0.5), (0, 1), value=1.0)
    depth = (focal / (scale * size))[..., None]
    return rotation_from_quaternion(turn) @ rotation, depth * (inverse @ at[..., None])[..., 0]


def project(
    shape: Float[Tensor, "B V 3"],
    rotation: Float[Tensor, "B N 3 3"],
    translation: Float[Tensor, "B N 3"],
    calibration: Float[Tensor, "B N 3 3"],
) -> Float[Tensor, "B N V 2"]:
    """(u'/w', v'/w') with (u', v', w') = K (R s + t), px (eqs. 3-4); w' at least NEAREST times that of the origin."""
    seen = shape[:, None] @ rotation.transpose(-1, -2) + translation[..., None, :]
    u = seen @ calibration.transpose(-1, -2)
    return u[..., :2] / torch.maximum(u[..., 2:], NEAREST * translation[..., None, 2:])


def reprojection(found: Float[Tensor, "B N V 2"], true: Float[Tensor, "B N V 2"]) -> Float[Tensor, ""]:
    """Σ over the views of the mean over the vertices of |p − p̂|², px²; mean over the batch (eq. 2, divided by V)."""
    return (found - true).square().sum(3).mean(2).sum(1).mean()


# ── parts ──────────────────────────────────────────────────────────────────────────────────────────────────


def _mlp(inputs: int, outputs: int, bias: Sequence[float] = ()) -> nn.Sequential:
    """One hidden layer of 256; begins at `bias`, or zero."""
    last = nn.Linear(HIDDEN, outputs)
    nn.init.normal_(last.weight, std=0.001)
    with torch.no_grad():
        last.bias.copy_(torch.tensor(bias or (0.0,)))
    return nn.Sequential(nn.Linear(inputs, HIDDEN), nn.ReLU(inplace=True), last)


def _encoder(network: str) -> tuple[nn.Module, int, int]:
    """The network, its channels, and how many pixels of the crop make one of its last map."""
    if network == "vgg16":
        return VGG16(), 512, 32
    if network == "residual":
        return residual((48, 96, 192), (2, 2, 2)), 192, 16
    return VGG16((16, 32, 64, 128, 128), (1,) * 5), 128, 32


def _adapt(method: Method, state: dict[str, Tensor], *_: Any) -> None:
    """Turn the weights of another variant, or of isoface, given by --start, into a beginning of this one; leave all
    others alone."""
    own, several = method.state_dict(), method.config.variant != "single"
    convolutions = "trunk.layers."
    if method.config.network == "residual" and any(name.startswith(convolutions) for name in state):
        new = {"encoder." + name.removeprefix(convolutions): values for name, values in state.items()}
        state.clear()
        state.update({name: new[name] if name in new else values for name, values in own.items()})
        return
    encoder = {name for name in own if name.startswith("encoder.")}
    other = "heads.identity.0.weight" in state or "merge.0.weight" in state
    if not (several and other and encoder <= set(state)) or set(state) == set(own):
        return
    new = {name: state[name] for name in encoder} if method.config.variant == "shape" else dict(state)
    if "merge.0.weight" not in new:
        new |= {name: values for name, values in own.items() if name.startswith("merge.")}
        if method.config.variant != "shape" and method.config.merges == "features":
            new |= {name.replace("heads.identity", "merge"): new[name] for name in state if "heads.identity" in name}
            copies = 1 if method.config.variant == "add" else VIEWS
            new["merge.0.weight"] = new["merge.0.weight"].repeat(1, copies) / VIEWS
    state.clear()
    state.update({name: values for name, values in (own | new).items() if name in own})


def _check(config: Config, model: MorphableModel) -> None:
    if not 0 < (config.modes or 1) <= model.n_identity:
        raise ValueError(f"modes is {config.modes}, but {model.name} has {model.n_identity} identity modes")
    if config.size < 32:
        raise ValueError(f"size is {config.size}, but five halvings need crops of at least 32 px")
    if config.network == "residual" and config.size % 16:
        raise ValueError(f"size is {config.size}, but the network residual needs a multiple of 16")
    if config.symmetrised and model.mirror is None:
        raise BadData(f"{model.name} does not know its mirror image; train with --no-symmetrised")
