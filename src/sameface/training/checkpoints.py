"""What a run folder holds: its settings, and weights that are what was written or are refused."""

import hashlib
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sameface.core.errors import AssetMissing, TrainingFailed, in_one_line
from sameface.core.files import open_file, read_json, written

__all__ = ["described", "fill", "read_state", "write_state"]

CONFIG = "config.json"
LARGEST_STATE = 20_000_000_000
"""bytes of a file of weights"""


def described(run: Path) -> dict[str, Any]:
    """What config.json of a run folder says. Raises AssetMissing, or TrainingFailed for any other file."""
    if not (run / CONFIG).exists():
        raise AssetMissing(f"{run} has no {CONFIG}: it is not the folder of a run, or the run has not got so far yet")
    told = read_json(run / CONFIG, error=TrainingFailed)
    kinds = {"method": str, "data": str, "config": dict, "loop": dict}
    if not isinstance(told, dict) or any(not isinstance(told.get(name), kind) for name, kind in kinds.items()):
        raise TrainingFailed(f"{run / CONFIG} does not say {', '.join(kinds)}: it is not the folder of a run")
    return told


def write_state(path: Path, state: dict[str, Any]) -> None:
    """Write numbers and weights with a digest of them, whole and on the disk, or not at all. Raises BadOutput."""
    with written(path, durable=True) as file:
        torch.save(state | {"sha256": _digest(state)}, file)


def read_state(path: Path, device: Any = "cpu") -> dict[str, Any]:
    """What `write_state` wrote, `step` and `weights` among it; nothing of the file is run.

    Files of sameface 0.1 have no digest and are read without. Raises AssetMissing for a path that leads nowhere,
    TrainingFailed for what is not such a file, or not what was written.
    """
    if not path.exists():
        raise AssetMissing(
            f"there is no file {path}: {path.parent} is not the folder of a run, or has not got so far yet"
        )
    try:
        with open_file(path, TrainingFailed) as file:
            if os.fstat(file.fileno()).st_size > LARGEST_STATE:
                raise ValueError("it is too large")
            state = torch.load(file, map_location=device, weights_only=True)
        told = state.pop("sha256", None)
        if type(state["step"]) is not int or state["step"] < 0 or not isinstance(state["weights"], dict):
            raise ValueError("step or weights are not what they should be")
        if not isinstance(state.get("best", 0.0), float | int):
            raise ValueError("best is no number")
    except TrainingFailed:
        raise
    except Exception as error:  # torch's reader raises whatever the pickle and the archive inside make of damage
        why = in_one_line(error)[:200]
        raise TrainingFailed(f"{path} holds no state of a run ({why}); delete it, or give another folder") from None
    if told is not None and told != _digest(state):
        raise TrainingFailed(f"{path} is damaged: it is not what was written; delete it, or take an earlier copy")
    return state


def fill(module: nn.Module | torch.optim.Optimizer, weights: Any, path: Path) -> None:
    """Put weights of a file into a network. Raises TrainingFailed where they are another's."""
    try:
        module.load_state_dict(weights)
    except (RuntimeError, TypeError, AttributeError, ValueError, KeyError) as error:
        why = in_one_line(error)[:300]
        raise TrainingFailed(f"{path} has weights of another network ({why}); it belongs to another run") from None


def _digest(thing: Any) -> str:
    """Of numbers, texts, tensors, and lists and dicts of them."""
    told = hashlib.sha256()

    def add(one: Any) -> None:
        if isinstance(one, Tensor):
            array = one.detach().to("cpu").contiguous()
            told.update(f"{tuple(array.shape)} {array.dtype} ".encode())
            told.update(array.view(-1).view(torch.uint8).numpy().tobytes() if array.numel() else b"")
        elif isinstance(one, dict):
            told.update(f"dict {len(one)} ".encode())
            for key, value in one.items():
                add(key)
                add(value)
        elif isinstance(one, list | tuple):
            told.update(f"list {len(one)} ".encode())
            for value in one:
                add(value)
        else:
            told.update(f"{type(one).__name__} {one!r} ".encode())

    add(thing)
    return told.hexdigest()
