"""Hostile data sets, benchmarks and run folders: one file of a good one damaged, or one row."""

import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from hostile_inputs import Case, Plant, png, put, variants

from faces import encoded, scenery
from sameface.core import plugins

__all__ = ["benchmarks", "runs", "sets"]

FITTED = ("--out", "out", "--workers", "0", "--quiet", "--splits", "val")


def sets(work: Path, rng: np.random.Generator) -> Iterator[Case]:
    """Data sets of every kind with one file damaged, for `data`; rows that are bad, for `fit-set`."""
    for name in plugins.names("datasets"):
        sample = work / f"sets-{name}"
        sample.mkdir(parents=True)
        plugins.load("datasets", name).sample(sample)
        for case, folder, _ in _one_damaged(work, f"data-{name}", sample, rng, 6):
            yield Case("data", case, ["data", f"{name}:{folder}", "--split", "val"])
    table = work / "sets-facetable"
    for case, folder, _ in _one_damaged(work, "fit-set", table, rng, 18):
        yield Case("fit-set", case, ["fit-set", f"facetable:{folder}", *FITTED])
    import pyarrow as pa
    import pyarrow.parquet as pq

    good = pq.read_table(table / "sample.parquet")
    values: dict[str, list[Any]] = {
        "image": [None, b"", b"no picture", png(60_000, 60_000), encoded(scenery(40, 40))[:80]],
        "landmarks": [None, [], [1.0], [np.nan] * 328], "params62": [None, [], [np.inf] * 62], "box62": [None, [1.0]],
        "embedding": [None, [0.0] * 7], "landmarks68": [[], [1.0] * 5], "size": [0, -1, 1 << 30], "person": [""],
    }  # fmt: skip
    for field, bad in values.items():
        rows = good.to_pylist()
        mine = [row for row in rows if row["split"] == "val"]
        for row, value in zip(mine, bad, strict=False):
            row[field] = value
        folder = work / f"fit-set-rows-{field}"
        (folder / "table").mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist(rows, good.schema), folder / "table" / "sample.parquet")
        yield Case("fit-set", folder.name, ["fit-set", "facetable:table", *FITTED], len(bad), 8)


def _one_damaged(
    work: Path, label: str, sample: Path, rng: np.random.Generator, count: int
) -> Iterator[tuple[str, str, str]]:
    """Copies of a folder with one file in it damaged each: (name of the case, of its folder, what is wrong)."""
    files = sorted(one for one in sample.rglob("*") if one.is_file())
    kinds = {}
    for file in files:  # one of each ending and folder
        kinds.setdefault((file.suffix, file.parent), file)
    chosen = list(kinds.values())
    for k in range(count):
        file = chosen[k % len(chosen)]
        options = list(variants(file.read_bytes(), rng, 1).items())
        name, what = options[(k // len(chosen) + k) % len(options)]
        case = work / f"{label}-{k}-{name}"
        shutil.copytree(sample, case / "set", symlinks=True)
        put(case / "set" / file.relative_to(sample), what)
        yield case.name, "set", name


def benchmarks(work: Path, rng: np.random.Generator) -> Iterator[Case]:
    """Benchmarks with one file damaged."""
    for name in plugins.names("benchmarks"):
        sample = work / f"benchmarks-{name}"
        sample.mkdir(parents=True)
        plugins.load("benchmarks", name).sample(sample)
        for case, folder, _ in _one_damaged(work, f"evaluate-{name}", sample, rng, 8):
            command = [
                "evaluate",
                name,
                "--data",
                folder,
                "--model",
                "mean",
                "--limit",
                "2",
                "--workers",
                "1",
                "--quiet",
            ]
            yield Case("evaluate", case, [*command, "--out", "out"])


def runs(work: Path, rng: np.random.Generator) -> Iterator[Case]:
    """Run folders for `export`."""
    import torch

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
