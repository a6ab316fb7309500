"""sir: Reconstructing recognizable 3D face shapes based on 3D morphable models.

Diqiong Jiang, Yiwei Jin, Risheng Deng, Ruofeng Tong, Fanglue Zhang, Yukun Yai, Ming Tang.

What it does: a network sees a face crop and gives the coefficients of a morphable model, a camera, spherical harmonic
light and an albedo map; it learns from landmarks and from the photo, which the render must match. Photos of known
persons add the shape identity-aware regularisation (SIR): identities of one person come together around those of the
neutral frontal photos, persons come apart, and all are spread as the model says.

Symbols: x, α_id identity (x in mm: ‖x − y‖ is the RMS distance of two meshes; z in σ); α_exp expression; R, t, s
camera; γ light (9 per colour); A albedo minus the mean albedo; I photo, Î render; σ confidence; y person; c_y centre;
e features of an encoder; S_recon, S_id photos with landmarks, with persons.

Losses (eq. 9):
  S_recon  ε_l L_land + L_pix          L_land = ‖V − V̂‖₂ / N, px of the crop                          eq. 10
  S_id     ε_s L_SIR + L_pix           L_SIR = CosFace(x) + ε_c ½‖x − c_y‖² + ε_kl KL(z ‖ N(0, 1))     eqs. 17-21
  L_pix = pixel + perceptual loss, both with confidence, + ε_id ‖α_id/σ_id‖² + ε_exp ‖α_exp/σ_exp‖²
          + ε_rough (roughness of A) + ε_uv ‖A‖²                                                       eqs. 11-16
Centres follow Δc_j = Σ δ(y_i = j) f_i (c_j − x_i) / (1 + Σ δ), f greatest for neutral frontal photos  eqs. 19, 20
Photos are drawn from S_id with P = N_recon / (N_recog + N_recon) (eq. 22), after a first part of the run without SIR.

Differs from the paper:
 1. Any MorphableModel gives the sizes (Basel's and FaceWarehouse's are 199 and 29). L_sm and L_c see mm along the
    model's orthogonal modes, so that condition 3 of the paper (an orthonormal basis) holds for the whole mesh.
 2. The paper gives no weights, rates, scale or margin; ours. Blendshape weights count as 0.2 each in ε_exp.
 3. One data set gives both kinds: S_recon are all its photos, S_id those with persons. Every photo has landmarks (they
    place the crop), so in the first part of the run whatever is drawn, by eq. 22 there too, counts as S_recon.
    `landmarks_for_all` lets S_id use them later too.
 4. VGG-16 becomes two frozen stages of a small network of ours that ship with the package, or the trunk of any trained
    run (`encoder`). ℓ² is a mean over the channels, as in the code of Wu et al.
 5. The rendered part is the model's region "face", drawn at `picture` px; Ω is where it is seen. The render is pasted
    on the photo for the encoder. Losses of A are means over the texels. f stands inside the sum of eq. 20.
 6. Colours are the photo's own, without gamma; the mean albedo is one skin colour (`SKIN`), from which A is a sigmoid.
 7. Crops are 112 × 112 with the 96 × 112 px of SphereFace in the middle, moved a little in training; the camera begins
    where the mean face fills such a crop. ConfNet sees 64 × 64 px, as in Wu et al. (2020).
 8. The small preset has SphereFace's stages with fewer channels and a 64 × 64 albedo map. Adam with one cycle.
"""

from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from sameface import __version__
from sameface.core.geometry import rotation_from_quaternion
from sameface.morphable import MorphableModel
from sameface.morphable.formats import open_or_default
from sameface.morphable.points import Points
from sameface.photo import image
from sameface.photo.augment import augmented, jostled
from sameface.photo.predictor import affine_for_sphereface, five_of_68
from sameface.training import appearance, losses
from sameface.training.appearance import placed, resized
from sameface.training.nets import SphereFace, one_cycle

SIZE, CUT = 112, 8
"""px of the crop, and of what is cut from its left and right for the encoder"""
SKIN = (0.66, 0.49, 0.41)
"""mean albedo: a colour in the middle of those of faces in photos"""
CAMERA, LIGHT = 7, 27
"""numbers of the camera (quaternion, scale, translation) and of the light (nine per colour)"""
BLEND_DEVIATION = 0.2
"""of a blendshape's weight"""


@dataclass(frozen=True)
class Config:
    """Settings of the paper (sec. III) where it gives them; ours where it says so."""

    network: Literal["small", "sphereface64"] = "small"
    """The paper's is sphereface64, with 512 albedo numbers and a 256 × 256 map; small is ours, for CPUs."""
    morphable: str = ""
    """File or folder of the morphable model. Empty: the one that ships with sameface."""
    recognition: Literal["none", "cos", "cos+centre", "cos+weighted centre", "all"] = "all"
    """The rows of the ablation (table II); all: CosFace, weighted centres and the KL term."""
    persons: int = 0
    """Persons in the train split, the classes of L_sm; every `recognition` but none needs it."""
    photometric: bool = True
    """Whether L_recon takes part (pixel and perceptual loss, and the albedo's regularisers)."""
    perceptual: bool = True
    """Whether the perceptual loss takes part in L_recon."""
    encoder: str = ""
    """Run folder of a trained method with a `trunk` (disentangle, scnn) for it. Empty: the one that ships."""
    encoder_gain: float = 2.0
    """What that trunk takes is gain · (pixels − 0.5): 2 for ours and disentangle, 4 for scnn."""
    encoder_stages: int = 2
    """How many of its first stages make the features. Ours (Wu et al.: relu3_3 of VGG-16)."""
    features: int = 512
    """Width of the hidden layer of each MLP (SphereFace's fc5)."""
    picture: int = 56
    """Side of the rendered picture, px; a divisor of 112. Ours; the paper has the photo's own size."""
    warm_up: float = 0.4
    """Share of the run without SIR. The paper has such a stage and does not say how long."""
    landmarks_for_all: bool = False
    """Whether photos drawn for their persons use their landmarks too (paper: no)."""
    land_weight: float = 8.0
    """ε_l, per px of the crop. Ours: with a quarter of it the photometric loss costs landmarks."""
    sir_weight: float = 0.1
    """ε_s. Ours."""
    centre_weight: float = 0.1
    """ε_c, per mm². Ours."""
    kl_weight: float = 0.1
    """ε_kl. Ours."""
    identity_weight: float = 1e-3
    """ε_id. Ours."""
    expression_weight: float = 1e-3
    """ε_exp. Ours."""
    rough_weight: float = 1.0
    """ε_rega. Ours."""
    albedo_weight: float = 1.0
    """ε_uv. Ours."""
    cos_scale: float = 64.0
    """s of CosFace (Wang et al. 2018, sec. 4.1)."""
    cos_margin: float = 0.35
    """m of CosFace (Wang et al. 2018, sec. 4.1)."""
    centre_rate: float = 0.5
    """How far centres move (Wen et al. 2016, sec. 4.1: α = 0.5)."""
    frontal_decay: float = 1.0
    """λ of eq. 19. Ours."""
    batch: int = 32
    """Photos per step. Ours."""
    steps: int = 4000
    """Steps of the run. Ours."""
    lr: float = 1e-3
    """Highest Adam step size; linear warm-up over 3 % of the run, cosine down to 1 %. Ours."""
    weight_decay: float = 5e-4
    """AdamW. SphereFace's; the paper does not say."""


class Sizes(NamedTuple):
    """What `network` stands for."""

    widths: tuple[int, ...]
    units: tuple[int, ...]
    albedo_code: int
    albedo_widths: tuple[int, ...]
    """channels of the maps of 4, 8, 16 … px; the last step makes the three colours of twice the last map"""
    confidence_width: int


PRESETS = {
    "small": Sizes((24, 48, 96, 160), (1, 1, 1, 1), 128, (64, 48, 32, 16), 16),
    "sphereface64": Sizes((64, 128, 256, 512), (3, 8, 16, 3), 512, (512, 256, 128, 64, 32, 16), 64),
}


class Method(nn.Module):
    """Crops → identity, expression, camera, light, albedo."""

    needs = ("image", "landmarks68_projected", "person")
    progress: Tensor
    centres: Tensor
    landmark_mean: Tensor
    landmark_modes: Tensor
    spread: Tensor
    """mm (RMS) per σ of each identity mode"""
    start: Tensor
    upright: Tensor
    """the quaternion that turns nothing, and the diagonal of a frontal face's rotation"""
    frontal: Tensor
    ambient: Tensor
    skin: Tensor

    def __init__(self, config: Config):
        super().__init__()
        if SIZE % config.picture:
            raise ValueError(f"the picture's side must divide {SIZE}, but is {config.picture}; take 28, 56 or 112")
        self.config = config
        self.model = open_or_default(config.morphable)
        sizes, shapes, count = PRESETS[config.network], self.model.n_identity, max(config.persons, 1)
        self.shared = SphereFace(sizes.widths[:2], sizes.units[:2])
        lengths = {"identity": shapes, "albedo": sizes.albedo_code, "rest": self.model.n_expression + CAMERA + LIGHT}
        self.branches = nn.ModuleDict({name: _branch(sizes, config.features, n) for name, n in lengths.items()})
        self.albedo = appearance.AlbedoDecoder(sizes.albedo_code, sizes.albedo_widths, SKIN)
        self.confidence = appearance.ConfidenceNet(sizes.confidence_width)
        self.classes = nn.Parameter(nn.init.xavier_uniform_(torch.empty(count, shapes)))
        self.register_buffer("centres", torch.zeros(count, shapes))
        self.register_buffer("progress", torch.zeros(()))
        for name, values in self._constants().items():
            self.register_buffer(name, torch.as_tensor(values), persistent=False)
        self.painter = appearance.Painter(self.model, config.picture) if config.photometric else nn.Identity()
        self._freeze()

    def _constants(self) -> dict[str, np.ndarray]:
        """What the model gives, as arrays."""
        model = self.model
        points = Points.of(model, model.landmark_faces, model.landmark_weights)
        lengths = np.linalg.norm(model.identity_basis.reshape(-1, model.n_identity), axis=0)
        floats = {
            "landmark_mean": points.mean,
            "landmark_modes": np.concatenate([points.identity, points.expression], axis=2),
            "spread": lengths / np.sqrt(model.n_vertices),
            "start": _start(model),
            "upright": np.array([1.0, 0, 0, 0]),
            "frontal": np.array([1.0, -1, -1]),
            "ambient": np.eye(9, 1) * np.sqrt(4 * np.pi) * np.ones((9, 3)),
            "skin": np.array(SKIN)[:, None, None],
        }
        return {name: values.astype(np.float32) for name, values in floats.items()}

    def _freeze(self) -> None:
        """Let only what the settings train carry gradients."""
        frozen: tuple[str, ...] = () if self.config.photometric else ("confidence", "albedo", "branches.albedo")
        frozen += ("classes",) if self.config.recognition == "none" else ()
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(not name.startswith(frozen))

    def forward(self, images: Float[Tensor, "B 3 112 112"]) -> dict[str, Tensor]:
        """Crops in [0, 1] → identity (B, S) σ; embedding, the same in mm, whose distances are the meshes' (RMS);
        expression (B, E), rotation (B, 3, 3), scale (B,) crop units/mm, translation (B, 2) and landmarks68 (B, 68, 3)
        in crop units, light (B, 9, 3) and albedo (B, 3, T, T)."""
        crops = images[..., CUT:-CUT].contiguous(memory_format=torch.channels_last)
        maps = self.shared((crops - 0.5) * 2)
        code = {name: branch(maps) for name, branch in self.branches.items()}
        raw, camera, light = code["rest"].float().split((self.model.n_expression, CAMERA, LIGHT), 1)
        identity = code["identity"].float()
        expression = torch.sigmoid(raw - 2.5) if self.model.expression_range == (0.0, 1.0) else raw
        rotation = rotation_from_quaternion(camera[:, :4] + self.upright) * self.frontal
        scale, translation = (0.1 * camera[:, 4] + self.start[0]).exp(), 0.1 * camera[:, 5:] + self.start[1:]
        coefficients = torch.cat([identity, expression], 1)
        points = self.landmark_mean + torch.einsum("lck,bk->blc", self.landmark_modes, coefficients)
        return {
            "identity": identity,
            "embedding": identity * self.spread,
            "expression": expression,
            "rotation": rotation,
            "scale": scale,
            "translation": translation,
            "landmarks68": placed(points, rotation, scale, translation),
            "light": 0.3 * light.unflatten(1, (9, 3)) + self.ambient,
            "albedo": self.albedo(code["albedo"]),
        }

    def small(self, images: Float[Tensor, "B 3 112 112"]) -> Float[Tensor, "B 3 P P"]:
        """Crops at `Config.picture` px."""
        return functional.avg_pool2d(images, SIZE // self.config.picture)

    def photometric_error(self, images: Float[Tensor, "B 3 112 112"], output: dict[str, Tensor]) -> Float[Tensor, " B"]:
        """Mean over the covered pixels and colours of |Î − I|, for tables: no confidence is in it."""
        drawn, mask = self.painter(output)
        far = (drawn - self.small(images)).abs().mean(1)
        return (far * mask).sum((1, 2)) / mask.sum((1, 2)).clamp_min(1)

    # ── losses ─────────────────────────────────────────────────────────────────────────────────────────────

    def losses(self, batch: dict[str, Tensor], output: dict[str, Tensor]) -> dict[str, Tensor]:
        """L_land, L_pix and L_SIR, each for the photos that have it."""
        c, known = self.config, batch["recognise"] & (self.progress >= self.config.warm_up)
        use = torch.ones_like(known) if c.landmarks_for_all else ~known
        land = losses.landmark_distance(SIZE * output["landmarks68"][..., :2], SIZE * batch["landmarks"])
        terms = {"landmarks": c.land_weight * (land * use).mean()}
        deviation = BLEND_DEVIATION if self.model.expression_range == (0.0, 1.0) else 1.0
        terms["identity_size"] = c.identity_weight * output["identity"].square().sum(1).mean()
        terms["expression_size"] = c.expression_weight * (output["expression"] / deviation).square().sum(1).mean()
        if c.photometric:
            terms |= self.photometric(batch["images"], output)
        if c.recognition != "none":
            terms |= self.recognition(output, batch["person"].masked_fill(~known, -1))
        return terms

    def photometric(self, images: Float[Tensor, "B 3 112 112"], output: dict[str, Tensor]) -> dict[str, Tensor]:
        """L_recon and the regularisers of the albedo."""
        c, photo = self.config, self.small(images)
        drawn, mask = self.painter(output)
        fine, coarse = self.confidence(resized(images, 64))
        sigma = resized(fine[:, None], c.picture)[:, 0]
        terms = {"pixel": losses.pixel_with_confidence((drawn - photo).abs().mean(1), sigma, mask)}
        if c.perceptual:
            pasted = torch.where(mask[:, None], drawn, photo)
            ours, theirs = (self._encoder(c.encoder_gain * (picture - 0.5)) for picture in (pasted, photo))
            far = ((ours - theirs).square().mean(1) + 1e-12).sqrt()
            seen = functional.adaptive_avg_pool2d(mask[:, None].float(), ours.shape[-1])[:, 0] > 0
            sigma = resized(coarse[:, None], ours.shape[-1])[:, 0]
            terms["perceptual"] = losses.perceptual_with_confidence(far, sigma, seen)
        else:  # so that several processes find a gradient for every weight
            terms["pixel"] = terms["pixel"] + 0 * coarse.sum()
        residual = output["albedo"] - self.skin
        terms["albedo_rough"] = c.rough_weight * losses.roughness(residual)
        terms["albedo_size"] = c.albedo_weight * residual.square().sum(1).mean()
        return terms

    def recognition(self, output: dict[str, Tensor], person: Int[Tensor, " B"]) -> dict[str, Tensor]:
        """L_SIR of the photos whose person is not −1; in training the centres follow, without gradient."""
        c = self.config
        f = losses.neutral_frontal(output["rotation"].detach(), output["expression"].detach(), c.frontal_decay)
        together = output["embedding"], output["identity"], person, f
        features, identity, person, f = (losses.gathered(values) if self.training else values for values in together)
        terms = {"cos": c.sir_weight * losses.cosface(features, self.classes, person, c.cos_scale, c.cos_margin)}
        if c.recognition != "cos":
            far = losses.centre_distance(features, self.centres, person)
            terms["centre"] = c.sir_weight * c.centre_weight * far
            if self.training:
                pull = None if c.recognition == "cos+centre" else f
                self.centres.copy_(losses.moved_centres(self.centres, features, person, pull, c.centre_rate))
        if c.recognition == "all":
            terms["kl"] = c.sir_weight * c.kl_weight * losses.kl_to_standard_normal(identity[person >= 0])
        return terms

    @cached_property
    def _encoder(self) -> nn.Module:
        """Not a part of the module: its weights are those of another run, and no export needs them."""
        c = self.config
        stages = appearance.trunk(Path(c.encoder), c.encoder_stages) if c.encoder else appearance.shipped_trunk()
        return stages.to(self.start.device)

    def optimizer(self) -> torch.optim.Optimizer:
        """AdamW."""
        trained = [p for p in self.parameters() if p.requires_grad]
        return torch.optim.AdamW(trained, lr=self.config.lr, weight_decay=self.config.weight_decay, fused=True)

    def schedule(self, progress: float) -> float:
        """Linear warm-up over 3 % of the run, cosine to 1 %; SIR begins with the progress too."""
        self.progress.fill_(progress)
        return one_cycle(progress)

    # ── training items ─────────────────────────────────────────────────────────────────────────────────────

    def sample(self, data: Any, index: int, rng: np.random.Generator, train: bool) -> dict[str, Any]:
        """One crop: `images` (112, 112, 3) uint8, landmarks (68, 2) crop units, `recognise` (drawn from S_id), person.

        In training a photo is of S_id with the probability of eq. 22; `index` counts within either set.
        """
        recognise = False
        if train:
            identified = np.flatnonzero(np.asarray(data.person) >= 0)
            recognise = bool(rng.random() < share_of_persons(len(data), len(identified)))
            index = int(identified[index * len(identified) // len(data)]) if recognise else index
        item = data[index]
        landmarks = item["landmarks68_projected"].astype(np.float64)
        affine = affine_for_sphereface(five_of_68(landmarks))
        if train:
            affine = jostled(affine, SIZE, rng)
        crop = image.crop(item["image"], affine, (SIZE, SIZE), edge=True)
        return {
            "images": augmented(crop, rng) if train else crop,
            "landmarks": ((landmarks @ affine[:, :2].T + affine[:, 2]) / SIZE - 0.5).astype(np.float32),
            "recognise": np.bool_(recognise),
            "person": np.int64(item["person"] if train else -1),
        }

    def metadata(self) -> dict[str, Any]:
        """What the ONNX file says of itself."""
        names = {name: Path(getattr(self.config, name)).name for name in ("morphable", "encoder")}
        return {
            "method": "sir",
            "version": __version__,
            "crop": {"size": SIZE, "rule": "sphereface5", "pixels": "RGB in [0, 1]"},
            "morphable": self.model.name,
            "licence": self.model.licence,
            "config": asdict(self.config) | names,
        }

    def example(self) -> Tensor:
        """An input for export."""
        return torch.rand(2, 3, SIZE, SIZE)


def share_of_persons(reconstruction: int, recognition: int) -> float:
    """P = N_recon / (N_recog + N_recon), eq. 22: how often a photo is drawn for its person; 0 if there is none.

    >>> share_of_persons(60, 180), share_of_persons(60, 0)
    (0.25, 0.0)
    """
    return reconstruction / (recognition + reconstruction) if recognition else 0.0


# ── parts ──────────────────────────────────────────────────────────────────────────────────────────────────


def _branch(sizes: Sizes, features: int, outputs: int) -> nn.Sequential:
    """Modules 2-4: the last two stages and an MLP, which begins near zero."""
    stages = SphereFace(sizes.widths[2:], sizes.units[2:], sizes.widths[1])
    flat = sizes.widths[-1] * (SIZE // 16) * ((SIZE - 2 * CUT) // 16)
    last = nn.Linear(features, outputs)
    nn.init.normal_(last.weight, std=0.01)
    nn.init.zeros_(last.bias)
    return nn.Sequential(stages, nn.Flatten(), nn.Linear(flat, features), nn.PReLU(features), last)


def _start(model: MorphableModel) -> Float[np.ndarray, " 3"]:
    """ln scale and translation, crop units, of the mean face looking straight into a SphereFace crop."""
    flat = model.landmarks(model.mean)[:, :2] * np.array([1, -1])
    affine = affine_for_sphereface(five_of_68(flat))
    scale = np.sqrt(np.linalg.det(affine[:, :2]))
    return np.array([np.log(scale / SIZE), *(affine[:, 2] / SIZE - 0.5)])
