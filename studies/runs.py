"""What the studies of trained runs share: runs at their last step, their command lines, and numbers over seeds."""

import dataclasses
import json
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sameface.training import train


def restored(runs: Path, names: Iterable[str]) -> dict[str, tuple[Any, dict[str, Any]]]:
    """Name → network at the last step, and what its config.json says; leaves when one is not finished."""
    found = {name: train.restore(runs / name, "last.pt") for name in names}
    unfinished = [name for name, (method, about) in found.items() if about["step"] != method.config.steps]
    if unfinished:
        sys.exit(f"{', '.join(unfinished)} not at the last step yet; give the same command again")
    return found


def command(name: str, about: dict[str, Any], data: str) -> str:
    """The command line of a run on `data`: what differs from the defaults, without the folders of a machine."""
    flags = []
    for part, defaults in (("config", train.settings(about["method"])()), ("loop", train.Loop())):
        usual = json.loads(json.dumps(dataclasses.asdict(defaults)))
        for key, value in about[part].items():
            if value != usual[key] and key not in train.HOW:
                value = f"RUNS/{Path(value).parent.name}/{Path(value).name}" if key == "start" else value
                value = Path(value).name if key in ("morphable", "encoder") else value
                words = [] if isinstance(value, bool) else value if isinstance(value, list) else [value]
                off = "no-" if value is False else ""
                flags.append(shlex.join([f"--{off}{key.replace('_', '-')}", *map(str, words)]))
    return f"sameface train {about['method']} --data {data} --out RUNS/{name} {' '.join(flags)}"


def over(function: Callable[[list[float]], Any], seeds: Sequence[Any]) -> Any:
    """The function of each number over the seeds; trees of dicts in, one such tree out."""
    if isinstance(seeds[0], dict):
        return {name: over(function, [one[name] for one in seeds]) for name in seeds[0]}
    return float(function(list(seeds)))


def deviation(values: list[float]) -> float:
    """Of a sample; 0 for a single seed."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def rounded(value: Any) -> Any:
    """Numbers to four significant figures."""
    if isinstance(value, dict):
        return {key: rounded(v) for key, v in value.items()}
    return float(f"{value:.4g}") if isinstance(value, float | np.floating) else value


def spread_of(mean: float, deviation: float, digits: int = 2) -> str:
    return f"{mean:.{digits}f} ± {deviation:.{digits}f}"
