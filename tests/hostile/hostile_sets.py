"""Hostile data sets and benchmarks: one file of a good one damaged, or one row."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from hostile_inputs import Case, png, put, variants

from faces import encoded, scenery
from sameface.core import plugins

__all__ = ["bad_rows", "benchmarks", "one_damaged", "sets"]

FITTED = ("--out", "out", "--workers", "0", "--quiet", "--splits", "val")


def sets(work: Path, rng: np.random.Generator) -> Iterator[Case]:
    """Data sets of every kind with one file damaged, for `data`; rows that are bad, for `fit-set`."""
    for name in plugins.names("datasets"):
        sample = work / f"sets-{name}"
        sample.mkdir(parents=True)
        plugins.load("datasets", name).sample(sample)
        for case, folder, _ in one_damaged(work, f"data-{name}", sample, rng, 6):
            yield Case("data", case, ["data", f"{name}:{folder}", "--split", "val"])
    table = work / "sets-facetable"
    for case, folder, _ in one_damaged(work, "fit-set", table, rng, 18):
        yield Case("fit-set", case, ["fit-set", f"facetable:{folder}", *FITTED])
    for _field, bad, folder in bad_rows(work, "fit-set", "val", table):
        yield Case("fit-set", folder.name, ["fit-set", "facetable:table", *FITTED], len(bad), 8)


def bad_rows(work: Path, label: str, split: str, table: Path) -> Iterator[tuple[str, list[Any], Path]]:
    """Folders with a copy of a face table, each with bad values in one column of a split: (column, values, folder)."""
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
        mine = [row for row in rows if row["split"] == split]
        points = next(row["landmarks68"] for row in mine if row["landmarks68"] is not None)
        for row in mine:  # a method that needs points by hand passes over rows without
            row["landmarks68"] = points
        for row, value in zip(mine, bad, strict=False):
            row[field] = value
        folder = work / f"{label}-rows-{field}"
        (folder / "table").mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist(rows, good.schema), folder / "table" / "sample.parquet")
        yield field, bad, folder


def one_damaged(
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
        for case, folder, _ in one_damaged(work, f"evaluate-{name}", sample, rng, 8):
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
