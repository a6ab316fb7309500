"""Losses that several methods can share: landmarks, pictures with confidence, albedo, and identities.

All are scalars, means over the photos of the batch, unless they say otherwise. Photos whose `person` is −1 take no part
in the identity losses, but are counted: so several processes that share a batch compute what one does.
"""

import math

import torch
import torch.distributed as dist
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from sameface.core.errors import BadData
from sameface.core.geometry import euler_from_rotation

__all__ = [
    "centre_distance", "cosface", "gathered", "kl_to_standard_normal", "landmark_distance", "moved_centres",
    "neutral_frontal", "perceptual_with_confidence", "pixel_with_confidence", "roughness",
]  # fmt: skip


# ── landmarks and pictures ─────────────────────────────────────────────────────────────────────────────────


def landmark_distance(predicted: Float[Tensor, "B L 2"], true: Float[Tensor, "B L 2"]) -> Float[Tensor, " B"]:
    """‖q̂ − q‖₂ / L of each photo, the norm over all 2L coordinates together; in the unit of the points.

    Jiang et al., eq. 10, as printed. For points that are all off by d px it is d / √L.
    """
    return ((predicted - true).square().sum((1, 2)) + 1e-12).sqrt() / predicted.shape[1]


def pixel_with_confidence(
    difference: Float[Tensor, "B H W"], sigma: Float[Tensor, "B H W"], mask: Bool[Tensor, "B H W"]
) -> Float[Tensor, ""]:
    """−mean over the masked pixels of ln[1/(√2 σ) · exp(−√2 ℓ/σ)] = ln(√2 σ) + √2 ℓ/σ, ℓ = |Î − I| (L1 distance).

    Jiang et al., eq. 11, after Wu et al. 2020 (unsup3d), eq. 3. For given ℓ it is least at σ = √2 ℓ. The mean is over
    each photo's pixels and then over the photos; a photo without pixels counts as 0.
    """
    return _masked_mean((math.sqrt(2) * sigma).log() + math.sqrt(2) * difference / sigma, mask)


def perceptual_with_confidence(
    difference: Float[Tensor, "B H W"], sigma: Float[Tensor, "B H W"], mask: Bool[Tensor, "B H W"]
) -> Float[Tensor, ""]:
    """−mean over the masked places of ln[1/√(2π σ²) · exp(−ℓ²/(2σ²))], ℓ the distance of two feature vectors.

    Jiang et al., eq. 12, after Wu et al. 2020 (unsup3d), eq. 7. For given ℓ it is least at σ = ℓ.
    """
    return _masked_mean((math.sqrt(2 * math.pi) * sigma).log() + 0.5 * (difference / sigma).square(), mask)


def _masked_mean(values: Float[Tensor, "B H W"], mask: Bool[Tensor, "B H W"]) -> Float[Tensor, ""]:
    return ((values * mask).sum((1, 2)) / mask.sum((1, 2)).clamp_min(1)).mean()


def roughness(texture: Float[Tensor, "B C H W"]) -> Float[Tensor, ""]:
    """Mean over the texels of ‖A(p) − mean of A over p's neighbours‖₂: the first term of Jiang et al., eq. 16.

    Neighbours are the up to four texels that share an edge with p. The paper sums where this takes the mean.
    """
    inside = functional.pad(torch.ones_like(texture[:1, :1]), (1, 1, 1, 1))
    around = _of_neighbours(functional.pad(texture, (1, 1, 1, 1))) / _of_neighbours(inside)
    return ((texture - around).square().sum(1) + 1e-12).sqrt().mean()


def _of_neighbours(padded: Float[Tensor, "B C Y X"]) -> Float[Tensor, "B C H W"]:
    """The sum of the four neighbours that share an edge."""
    return padded[..., :-2, 1:-1] + padded[..., 2:, 1:-1] + padded[..., 1:-1, :-2] + padded[..., 1:-1, 2:]


# ── identities ─────────────────────────────────────────────────────────────────────────────────────────────


def cosface(
    features: Float[Tensor, "B D"],
    classes: Float[Tensor, "P D"],
    person: Int[Tensor, " B"],
    scale: float = 64.0,
    margin: float = 0.35,
) -> Float[Tensor, ""]:
    """−ln [e^{s(cos θ_y − m)} / (e^{s(cos θ_y − m)} + Σ_{j≠y} e^{s cos θ_j})], cos θ_j = w_j·x / (‖w_j‖‖x‖).

    CosFace (Wang et al. 2018, eq. 4; s = 64 and m = 0.35 as in its sec. 4.1). Raises BadData for a person who has no
    class.
    """
    _check_persons(person, len(classes))
    cosine = functional.normalize(features) @ functional.normalize(classes).T
    at = person.clamp_min(0)
    logits = scale * (cosine - margin * functional.one_hot(at, len(classes)).to(cosine.dtype))
    each = functional.cross_entropy(logits, at, reduction="none")
    return (each * (person >= 0)).sum() / len(person)


def centre_distance(
    features: Float[Tensor, "B D"], centres: Float[Tensor, "P D"], person: Int[Tensor, " B"]
) -> Float[Tensor, ""]:
    """½ ‖x − c_y‖²: centre loss (Wen et al. 2016, eq. 2), a mean over the batch instead of their sum.

    Centres have no gradient; `moved_centres` moves them. Raises BadData for a person who has no centre.
    """
    _check_persons(person, len(centres))
    each = 0.5 * (features - centres.detach()[person.clamp_min(0)]).square().sum(1)
    return (each * (person >= 0)).sum() / len(person)


@torch.no_grad()
def moved_centres(
    centres: Float[Tensor, "P D"],
    features: Float[Tensor, "B D"],
    person: Int[Tensor, " B"],
    weight: Float[Tensor, " B"] | None = None,
    rate: float = 0.5,
) -> Float[Tensor, "P D"]:
    """c_j − rate · Δc_j,  Δc_j = Σ_i δ(y_i = j) f_i (c_j − x_i) / (1 + Σ_i δ(y_i = j)).

    Jiang et al., eq. 20, with `weight` f; Wen et al. 2016, eq. 4, without. The paper prints · f behind the sum although
    f belongs to a photo; here it is inside. Raises BadData for a person who has no centre.
    """
    _check_persons(person, len(centres))
    known = person >= 0
    at, weight = person[known], (torch.ones_like(features[:, 0]) if weight is None else weight)[known]
    pull = weight[:, None] * (centres[at] - features[known])
    count = torch.zeros_like(centres[:, 0]).index_add(0, at, torch.ones_like(weight))
    return centres - rate * torch.zeros_like(centres).index_add(0, at, pull) / (1 + count)[:, None]


def neutral_frontal(
    rotation: Float[Tensor, "B 3 3"], expression: Float[Tensor, "B E"], decay: float = 1.0
) -> Float[Tensor, " B"]:
    """f = ⅛ (cos a + 1)(cos b + 1)(cos c + 1) · exp(−decay · ‖expression‖₂); a, b, c pitch, yaw and roll.

    Jiang et al., eq. 19: 1 for a neutral face that looks straight into the camera, towards 0 for all others.
    """
    facing = torch.stack([angle.cos() + 1 for angle in euler_from_rotation(rotation)]).prod(0) / 8
    return facing * torch.exp(-decay * torch.linalg.vector_norm(expression, dim=1))


def kl_to_standard_normal(values: Float[Tensor, "B D"]) -> Float[Tensor, ""]:
    """½ Σ_d (μ_d² + v_d − 1 − ln v_d): KL(N(μ, v) ‖ N(0, 1)) of each dimension, μ and v those of the batch.

    Jiang et al., eqs. 8 and 21. v has the divisor B, so that μ² + v is the mean square: then the scale that has the
    least expected loss is exactly 1 for batches of any size. 0 for fewer than two rows, which have no variance.
    """
    if len(values) < 2:
        return 0 * values.sum()
    mean = values.mean(0)
    variance = (values - mean).square().mean(0) + 1e-8
    return 0.5 * (mean.square() + variance - 1 - variance.log()).sum()


def gathered(values: Tensor) -> Tensor:
    """The rows of all processes of a training that shares its batch, with their gradient; alone, the rows themselves.

    For losses that are no mean over photos (centres, the KL term). Every process must call it, so not in validation.
    """
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return values
    if values.requires_grad:
        from torch.distributed.nn.functional import all_gather

        return torch.cat(all_gather(values.contiguous()))
    parts = [torch.empty_like(values) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, values.contiguous())
    return torch.cat(parts)


def _check_persons(person: Int[Tensor, " B"], classes: int) -> None:
    if len(person) and int(person.max()) >= classes:
        raise BadData(f"person {int(person.max())} is beyond the {classes} classes; raise --persons")
