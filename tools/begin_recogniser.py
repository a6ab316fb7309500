"""A recogniser whose convolutions begin as those of a trained isoface network, which knows faces already.

    python tools/begin_recogniser.py runs/isoface-4/best.pt runs/begin-recogniser.pt
    sameface train recogniser --start runs/begin-recogniser.pt …

What isoface does not have, the last stage and the head, begins as in a new network.
"""

import sys
from pathlib import Path

import torch

from sameface.training.methods.recogniser import Config, Method


def main(file: Path, out: Path) -> None:
    torch.manual_seed(0)
    weights = Method(Config()).state_dict()
    trained = torch.load(file, map_location="cpu", weights_only=True)["weights"]
    taken = 0
    for name, values in trained.items():
        mine = name.removeprefix("trunk.")
        if mine.startswith("layers.") and mine in weights and weights[mine].shape == values.shape:
            weights[mine] = values
            taken += 1
    if not taken:
        raise SystemExit(f"{file} holds no convolutions of isoface that fit a recogniser")
    torch.save({"step": 0, "weights": weights}, out)
    print(f"{out}: {taken} arrays of {file}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
