"""Hostile run folders for `export` and `train`, data sets to train on, and numbers that no run can have."""

import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from hostile_inputs import Case, Plant, put, variants
from hostile_sets import bad_rows, one_damaged

from sameface.core import plugins
from sameface.training import checkpoints, train
from small_methods import FILES, SMALL, sample, takers

__all__ = ["runs", "small", "trainings"]


def runs(work: Path, rng: np.random.Generator) -> Iterator[Case]:
    """Run folders for `export`."""
    settings = {"method": "detector", "data": "scenes:x", "config": {}, "loop": {}}
    state = io.BytesIO()
    torch.save({"step": 3, "weights": {"a": torch.zeros(3)}}, state)
    config = json.dumps(settings).encode()
    found: list[tuple[str, dict[str, bytes | Plant]]] = []
    found += [
        (f"best-{k}", {"config.json": config, "best.pt": what}) for k, what in variants(state.getvalue(), rng).items()
    ]
    found += [
        (f"config-{k}", {"config.json": what, "best.pt": state.getvalue()}) for k, what in variants(config, rng).items()
    ]
    for k, change in enumerate([
        {"method": "../../x"}, {"method": 7}, {"config": {"widths": [10**9, 10**9]}}, {"config": {"nothing": 1}},
        {"config": []}, {"method": "no-such"}, {"config": {"steps": "many"}}, {"method": "\0"},
    ]):  # fmt: skip
        found.append(
            (f"settings-{k}", {"config.json": json.dumps(settings | change).encode(), "best.pt": state.getvalue()})
        )
    found.append(("code", {"config.json": config, "best.pt": b"\x80\x02cos\nsystem\n(S'touch OWNED'\ntR."}))
    for name, files in found:
        folder = work / f"export-{name}"
        for file, what in files.items():
            put(folder / "run" / file, what)
        yield Case("export", folder.name, ["export", "run", "--out", "out.onnx"])


STEPS = ("--steps", "2", "--batch", "4", "--workers", "1", "--validate-items", "2", "--out", "out")


def trainings(work: Path, rng: np.random.Generator) -> Iterator[Case]:
    """Data sets with a damaged file or bad rows; a run that is gone on with, from a damaged folder; numbers."""
    work.mkdir(parents=True, exist_ok=True)
    taken: dict[str, str] = {}  # data set → a method that needs nothing else
    for method in plugins.names("methods"):
        if method not in FILES:
            for name in takers(plugins.load("methods", method).Method):
                taken.setdefault(name, method)
    for name, method in taken.items():
        folder = work / f"train-set-{name}"
        sample(name, folder)
        for case, inside, _ in one_damaged(work, f"train-{name}", folder / name, rng, 4):
            yield Case("train", case, ["train", method, "--data", f"{name}:{inside}", *small(method), *STEPS])
    method, table = taken["facetable"], work / "train-set-facetable" / "facetable"
    for _field, bad, folder in bad_rows(work, "train", "train", table):
        command = ["train", method, "--data", "facetable:table", *small(method), *STEPS]
        yield Case("train", folder.name, command, len(bad), 1)
    yield from _resumed(work, rng)
    yield from _numbers(work)


def small(method: str) -> list[str]:
    """The flags that make a method small."""
    flags = []
    for name, value in SMALL.get(method, {}).items():
        flags += [f"--{name.replace('_', '-')}", *map(str, value if isinstance(value, tuple) else [value])]
    return flags


def _resumed(work: Path, rng: np.random.Generator) -> Iterator[Case]:
    """A run of two steps of four, one of whose files is damaged, gone on with."""
    begun = work / "train-begun"
    source = sample("scenes", begun)
    config = plugins.load("methods", "detector").Config(**SMALL["detector"], steps=2, batch=4)
    loop = train.Loop(workers=1, validate_items=2, validate_every=1, save_every=1)
    train.train("detector", source, begun / "out", config, loop)
    told = json.loads((begun / "out" / "config.json").read_text())
    told["data"], told["config"]["steps"] = "scenes:scenes", 4
    (begun / "out" / "config.json").write_text(json.dumps(told))
    command = [
        "train", "detector", "--data", "scenes:scenes", *small("detector"), *STEPS, "--steps", "4",
        "--validate-every", "1", "--save-every", "1",
    ]  # fmt: skip
    last = checkpoints.read_state(begun / "out" / "last.pt")
    found: dict[str, dict[str, bytes | Plant]] = {"whole": {}}
    for file in ("last.pt", "best.pt", "config.json", "log.jsonl"):
        found |= {f"{file}-{k}": {file: what} for k, what in variants((begun / "out" / file).read_bytes(), rng).items()}
    for k, change in enumerate([
        {"step": 10**9}, {"step": -1}, {"step": "two"}, {"weights": {}}, {"weights": None}, {"optimizer": None},
        {"optimizer": {"state": {}, "param_groups": []}}, {"best": float("nan")}, {"best": "no"},
    ]):  # fmt: skip
        file = begun / "changed.pt"
        checkpoints.write_state(file, last | change)
        found[f"state-{k}"] = {"last.pt": file.read_bytes()}
    found["code"] = {"last.pt": b"\x80\x02cos\nsystem\n(S'touch OWNED'\ntR."}
    for name, files in found.items():
        folder = work / f"train-resume-{name}"
        shutil.copytree(begun, folder)
        for file, what in files.items():
            put(folder / "out" / file, what)
        yield Case("train", folder.name, command, 1, 1 if name == "whole" else None, 1)
    for name, what in variants((begun / "out" / "best.pt").read_bytes(), rng, 1).items():
        folder = work / f"train-start-{name}"
        shutil.copytree(begun / "scenes", folder / "scenes")
        put(folder / "start.pt", what)
        yield Case("train", folder.name, [*command, "--start", "start.pt"])


NUMBERS = (
    "--batch 0", "--batch 1000000000000", "--batch -1", "--steps 0", "--steps x", "--steps 1e3", "--lr nan", "--lr inf",
    "--lr -1", "--save-every 0", "--log-every 0", "--validate-every 0", "--validate-items 0", "--workers 0",
    "--workers 100000", "--seed -1", f"--seed {10**30}", "--device cuda", "--device nowhere", "--device ''",
    "--precision float8", "--average 1", "--average nan", "--clip -1", "--widths 1000000000 1000000000 8 8 8",
    "--widths", "--widths 0 0 0 0 0", "--size 0", "--size 1000000", "--neck -1", "--start gone.pt", "--start ''",
    "--start scenes", "--data scenes", "--data scenes:", "--data :", "--data no-such:scenes", "--data scenes:gone",
    "--data scenes:/dev/zero", "--data ../x.py:scenes", "--out scenes", "--out /dev/null", "--plugin gone",
)  # fmt: skip
"""flags that no run can have, or hardly any"""


def _numbers(work: Path) -> Iterator[Case]:
    for k, flags in enumerate(NUMBERS):
        folder = work / f"train-flags-{k}"
        sample("scenes", folder)
        words = [word.replace("''", "") for word in flags.split()]
        yield Case("train", folder.name, ["train", "detector", "--data", "scenes:scenes", *small("detector"), *STEPS,
                                          *words])  # fmt: skip
    for k, method in enumerate(["no-such", "../x.py", "scenes/sample.parquet", "\0", "-", "/dev/zero", "gone.py"]):
        folder = work / f"train-method-{k}"
        sample("scenes", folder)
        yield Case("train", folder.name, ["train", method, "--data", "scenes:scenes", "--out", "out"])
