"""What a photo of a face is made of besides its shape: albedo, light, and how far a render can be trusted.

Parts that methods with a photometric loss share: the region of a morphable model that is drawn, the drawing, the
networks for albedo and confidence, and features of a trained network for perceptual losses.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from sameface.core.errors import BadModel
from sameface.mesh import render
from sameface.morphable import MorphableModel
from sameface.training.nets import SphereFace
from sameface.training.train import restore

__all__ = ["AlbedoDecoder", "ConfidenceNet", "Painter", "placed", "resized", "shipped_trunk", "trunk"]

LEAST_CONFIDENCE = 0.01
"""σ is never less: an 8-bit picture is not known better"""


class Painter(nn.Module):
    """A region of a morphable model, drawn as its coefficients, camera, light and albedo say."""

    mean: Tensor
    """(V, 3) mm, of the region's vertices"""
    modes: Tensor
    """(V, 3, C) mm per unit, identity then expression"""
    faces: Tensor
    """(F, 3)"""
    uv: Tensor
    """(V, 2)"""

    def __init__(self, model: MorphableModel, side: int, region: str = "face"):
        """The triangles whose corners are all in the region, or all of them if the model has no such region.

        Pictures are side × side px. Raises BadModel for a model without texture coordinates.
        """
        super().__init__()
        if model.uv is None:
            raise BadModel(f"{model.name} has no texture coordinates, so no albedo can be drawn on it; take another")
        self.side = side
        inside = model.regions.get(region, np.ones(model.n_vertices, bool))
        faces = model.faces[inside[model.faces].all(1)]
        kept, flat = np.unique(faces, return_inverse=True)
        modes = np.concatenate([model.identity_basis, model.expression_basis], axis=2)
        parts = {"mean": model.mean, "modes": modes, "uv": model.uv}
        for name, values in parts.items():
            self.register_buffer(name, torch.tensor(values[kept]), persistent=False)
        self.register_buffer("faces", torch.tensor(flat.reshape(-1, 3)), persistent=False)

    def forward(
        self, face: Mapping[str, Tensor]
    ) -> tuple[Float[Tensor, "B 3 {self.side} {self.side}"], Bool[Tensor, "B {self.side} {self.side}"]]:
        """albedo(u, v) · Σ_k light_k Y_k(R n) of each pixel, black elsewhere; and which pixels the region covers.

        face: identity, expression, rotation, scale, translation as `placed` has them, albedo (B, 3, T, T), and light
        (B, 9, 3) in the camera's frame and `render.sh_basis`'s order, evaluated at the vertices. Triangles seen from
        behind are not drawn.
        """
        coefficients = torch.cat([face["identity"], face["expression"]], 1)
        vertices = self.mean + torch.einsum("vck,bk->bvc", self.modes, coefficients)
        normals = render.vertex_normals(vertices, self.faces) @ face["rotation"].transpose(1, 2)
        shading = render.sh_shading(normals, face["light"])
        seen = self.side * (placed(vertices, face["rotation"], face["scale"], face["translation"]) + 0.5)
        fragments = render.rasterise(seen, self.faces, (self.side, self.side), cull=True)
        drawn = render.interpolate(torch.cat([self.uv.expand(len(seen), -1, -1), shading], 2), fragments)
        return render.sample_texture(face["albedo"], drawn[:, :2]) * drawn[:, 2:], fragments.mask


def placed(
    points: Float[Tensor, "B L 3"],
    rotation: Float[Tensor, "B 3 3"],
    scale: Float[Tensor, " B"],
    translation: Float[Tensor, "B 2"],
) -> Float[Tensor, "B L 3"]:
    """s R x + t: mm → crop units, 0 the middle of the crop; z from the model's origin, away from the viewer."""
    turned = scale[:, None, None] * (points @ rotation.transpose(1, 2))
    return turned + functional.pad(translation, (0, 1))[:, None]


def resized(pictures: Float[Tensor, "B C H W"], side: int) -> Float[Tensor, "B C {side} {side}"]:
    """Pictures of side × side px, bilinear; averaged where they shrink."""
    if pictures.shape[-2:] == (side, side):
        return pictures
    return functional.interpolate(pictures, (side, side), mode="bilinear", antialias=True)


class AlbedoDecoder(nn.Module):
    """A code → an albedo map by transposed convolutions: 4, 8, 16 … px; sigmoid(logit(mean) + what it says).

    `widths` are the channels of those maps; the last step makes three colours of twice the last map's size.
    """

    def __init__(self, code: int, widths: Sequence[int], mean: Sequence[float]):
        super().__init__()
        layers: list[nn.Module] = [nn.ConvTranspose2d(code, widths[0], 4)]
        for inputs, outputs in pairwise(widths):
            layers += [nn.GroupNorm(8, inputs), nn.ReLU(), nn.ConvTranspose2d(inputs, outputs, 4, 2, 1)]
        layers += [nn.GroupNorm(8, widths[-1]), nn.ReLU(), nn.ConvTranspose2d(widths[-1], 3, 4, 2, 1)]
        self.layers = nn.Sequential(*layers)
        last = self.layers[-1]
        nn.init.normal_(last.weight, std=0.01)  # type: ignore[arg-type]
        with torch.no_grad():
            last.bias.copy_(torch.logit(torch.tensor(tuple(mean))))  # type: ignore[operator,union-attr]

    def forward(self, code: Float[Tensor, "B C"]) -> Float[Tensor, "B 3 T T"]:
        """In [0, 1]."""
        return torch.sigmoid(self.layers(code[:, :, None, None]))


class ConfidenceNet(nn.Module):
    """A picture → σ at its own size and at a quarter of it (Wu et al. 2020, unsup3d, ConfNet; 64 px, width 64 there).

    Convolutions of stride 2 down to one code, transposed ones up again; softplus, never below 0.01.
    """

    def __init__(self, width: int):
        super().__init__()
        self.down = nn.Sequential(
            nn.Conv2d(3, width, 4, 2, 1, bias=False), nn.GroupNorm(8, width), nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, 4, 2, 1, bias=False), nn.GroupNorm(8, 2 * width), nn.LeakyReLU(0.2),
            nn.Conv2d(2 * width, 4 * width, 4, 2, 1, bias=False), nn.GroupNorm(8, 4 * width), nn.LeakyReLU(0.2),
            nn.Conv2d(4 * width, 8 * width, 4, 2, 1, bias=False), nn.LeakyReLU(0.2),
            nn.Conv2d(8 * width, 2 * width, 4, bias=False), nn.ReLU(),
        )  # fmt: skip
        self.up = nn.Sequential(
            nn.ConvTranspose2d(2 * width, 8 * width, 4, bias=False), nn.ReLU(),
            nn.ConvTranspose2d(8 * width, 4 * width, 4, 2, 1, bias=False), nn.GroupNorm(8, 4 * width), nn.ReLU(),
            nn.ConvTranspose2d(4 * width, 2 * width, 4, 2, 1, bias=False), nn.GroupNorm(8, 2 * width), nn.ReLU(),
        )  # fmt: skip
        self.fine = nn.Sequential(
            nn.ConvTranspose2d(2 * width, width, 4, 2, 1, bias=False), nn.GroupNorm(8, width), nn.ReLU(),
            nn.ConvTranspose2d(width, width, 4, 2, 1, bias=False), nn.GroupNorm(8, width), nn.ReLU(),
            nn.Conv2d(width, 1, 5, 1, 2), nn.Softplus(),
        )  # fmt: skip
        self.coarse = nn.Sequential(nn.Conv2d(2 * width, 1, 3, 1, 1), nn.Softplus())

    def forward(
        self, pictures: Float[Tensor, "B 3 64 64"]
    ) -> tuple[Float[Tensor, "B 64 64"], Float[Tensor, "B 16 16"]]:
        """Pictures in [0, 1] → σ > 0."""
        maps = self.up(self.down((pictures - 0.5) * 2))
        return self.fine(maps)[:, 0] + LEAST_CONFIDENCE, self.coarse(maps)[:, 0] + LEAST_CONFIDENCE


def shipped_trunk() -> nn.Module:
    """The two frozen stages that ship with the package: (B, 3, H, W) in [−1, 1] → (B, 48, H/4, W/4).

    Features of faces, learnt by `disentangle` (small preset, all three phases) on the train split of the face table,
    each channel divided by its root mean square over photos (assets/features.npz).
    """
    with np.load(Path(__file__).parent.parent / "assets" / "features.npz", allow_pickle=False) as file:
        state = {name: torch.from_numpy(file[name]).float() for name in file.files}
    widths = [len(state[f"0.stages.{stage}.0.0.weight"]) for stage in range(2)]
    divided = nn.Conv2d(widths[-1], widths[-1], 1, groups=widths[-1], bias=False)
    network = nn.Sequential(SphereFace(widths, (1, 1)), divided)
    network.load_state_dict(state)
    return network.eval().requires_grad_(False)


def trunk(run: Path, stages: int, weights: str = "best.pt") -> nn.Module:
    """The first stages of the `trunk` of a trained method, frozen, for perceptual losses.

    Raises AssetMissing for a folder that is no run, BadData for a method that is a file nobody trusts, ValueError for
    one without a trunk of so many stages.
    """
    method, described = restore(run, weights)
    whole = getattr(method, "trunk", nn.Sequential())
    parts = list(getattr(whole, "stages", whole))
    if not 0 < stages <= len(parts):
        raise ValueError(f"{described['method']} has a trunk of {len(parts)} stages, so it cannot give {stages}")
    return nn.Sequential(*parts[:stages]).eval().requires_grad_(False)
