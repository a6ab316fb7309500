"""A closer look around each landmark, on the fine maps of a network whose last ones only said roughly where it is.

A network that says all places of a face at once from one small map says those of the average face with the right pose
and expression, and hardly what a person differs by. What lies around one point moves with it, whoever it is: here a
window of each fine map around the rough place goes through one small network for all points, which says how far off it
was (as Kowalski et al., Deep Alignment Network, CVPRW 2017, and Trigeorgis et al., Mnemonic Descent, CVPR 2016, look
again where a first stage pointed). The points share all weights but an embedding and the last layer, so each photo is
164 examples.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["LocalLook"]

CHANNELS = 32
"""of the map that the windows are cut from, at half of the crop's side"""
WINDOW = 5
"""cells of that map on a side of a window"""
HIDDEN = 96
FARTHEST = 0.06
"""crop sides; a rough place is seldom farther off"""


class LocalLook(nn.Module):
    """Maps and rough places → what to add to the places, and to the logarithm of their errors.

    `width` are the channels of the map at a quarter of the crop's side (half as many at half of it), `points` their
    number L.
    """

    def __init__(self, width: int, points: int):
        super().__init__()
        self.stem = nn.Conv2d(3, width // 2, 3, 2, 1)
        self.from_half = nn.Conv2d(width, CHANNELS, 3, 1, 1)
        self.from_quarter = nn.Conv2d(width, CHANNELS, 3, 1, 1)
        self.mix = nn.Conv2d(CHANNELS, CHANNELS, 3, 1, 1)
        self.first = nn.Linear(CHANNELS * WINDOW**2, HIDDEN)
        self.second = nn.Linear(HIDDEN, HIDDEN)
        self.embedding = nn.Parameter(torch.zeros(points, HIDDEN))
        self.gain = nn.Parameter(torch.ones(points, HIDDEN))
        self.last = nn.Parameter(torch.zeros(points, HIDDEN, 3))
        self.bias = nn.Parameter(torch.zeros(points, 3))
        for layer in (self.stem, self.from_half, self.from_quarter, self.mix, self.first, self.second):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        nn.init.normal_(self.embedding, std=0.1)
        nn.init.normal_(self.last, std=1e-3)

    def forward(
        self,
        crops: Float[Tensor, "B 3 _ _"],
        half: Float[Tensor, "B h H W"],
        quarter: Float[Tensor, "B q _ _"],
        places: Float[Tensor, "B L 2"],
    ) -> tuple[Float[Tensor, "B L 2"], Float[Tensor, "B L"]]:
        """Steps in crop units ([−½, ½]², y down) and what to add to log b."""
        half = torch.cat([half, functional.relu(self.stem(crops))], dim=1)
        coarse = functional.interpolate(self.from_quarter(quarter), scale_factor=2.0, mode="bilinear")
        maps = functional.relu(self.mix(functional.relu(self.from_half(half) + coarse)))
        seen = windows(maps.float(), (places + 0.5) * maps.shape[-1])
        hidden = functional.relu(self.first(seen.flatten(2)) * self.gain + self.embedding)
        hidden = functional.relu(self.second(hidden))
        said = torch.einsum("blh,lhk->blk", hidden.float(), self.last) + self.bias
        return FARTHEST * torch.tanh(said[..., :2]), said[..., 2]


def windows(maps: Float[Tensor, "B C H W"], centres: Float[Tensor, "B L 2"]) -> Float[Tensor, "B L w w C"]:
    """Bilinear samples of WINDOW × WINDOW cells around centres (cells; 0 is the corner of the first), outside the map
    those of its border; a centre outside counts as one on the border. The cells of a window share their fractions, so
    one row of channels is read for each, and not four (ONNX Runtime's GridSample takes ten times as long)."""
    count, channels, high, wide = maps.shape
    margin = WINDOW // 2 + 1
    padded = functional.pad(maps, [margin] * 4, mode="replicate").permute(0, 2, 3, 1).reshape(-1, channels)
    inside = torch.minimum(centres.clamp(min=0), torch.tensor([wide, high], device=maps.device).to(centres))
    corner = inside - 0.5 - WINDOW // 2 + margin
    whole = corner.floor()
    x, y = (corner - whole).unsqueeze(-1).unsqueeze(-1).unsqueeze(-1).unbind(2)
    row = whole[..., 1].long() + torch.arange(count, device=maps.device)[:, None] * (high + 2 * margin)
    step = torch.arange(WINDOW + 1, device=maps.device)
    rows = (row[..., None] + step)[..., None] * (wide + 2 * margin)
    at = rows + (whole[..., 0].long()[..., None] + step)[:, :, None, :]
    cells = padded.index_select(0, at.flatten()).reshape(*at.shape, channels)
    cells = cells[:, :, :-1] * (1 - y) + cells[:, :, 1:] * y
    return cells[..., :-1, :] * (1 - x) + cells[..., 1:, :] * x
