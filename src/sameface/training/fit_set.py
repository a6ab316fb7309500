"""A data set → labels of all its photos: every person fitted at once, one row per photo (Liu et al. 2018, sec. 3.3.2).

    fit_set("casia:/data/CASIA-WebFace", Path("labels"))      # labels/labels.parquet and labels/labels.json

Persons are dealt into shards; no person is split. A shard (`fit_shard.py`) is written aside and renamed, so a kill
costs only the shards under way: the same call goes on with the others and gives the same file, byte for byte, whatever
the number of processes. `datasets/labelled.py` reads it.

Memory: a process holds one shard (`Options.shard` photos, or all of the largest person, about 0.3 MB each) and what the
data set keeps of SHARDS_PER_PROCESS shards; then a new one takes its place.
"""

import json
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict
from functools import lru_cache
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from sameface.core import plugins, processes
from sameface.core.errors import BadData, BadOutput, SameFaceError
from sameface.core.files import make_folder, read_json, seal, sealed, sha256, write_file, written
from sameface.morphable import default
from sameface.photo import detect
from sameface.photo.observe import points_of
from sameface.photo.predictor import Predictor, load
from sameface.training.datasets.labelled import ABOUT, LABELS, schema
from sameface.training.fit_shard import Options, fit_shard, owners

__all__ = ["Options", "deal", "fit_set"]

VERSION = 1
"""of what is computed: pieces of another version are not gone on with"""
SHARDS_PER_PROCESS = 8
"""a process works on so many shards, since some data sets keep every picture they decoded"""
PERCENTILES = (5, 25, 50, 75, 95, 99, 100)


def fit_set(
    data: str,
    out: Path,
    options: Options | None = None,
    *,
    workers: int = 1,
    tick: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Fit every photo of `data`, written DATASET:FOLDER, into the folder `out`; returns what labels.json says.

    The data set gives `image`; where persons are known it gives `person` too and has all of them as its attribute
    `person` (−1 and unknown ones are each a person of their own). `out` may be written as FOLDER/labels.parquet too.
    So many processes as `workers` compute, each in one thread; 0 computes in this process. `tick` is called with the
    number of photos done and of all. A finished `out` is not computed again; one with other settings is refused
    (BadOutput). Raises ValueError for a data set without pictures, BadData for one without photos.
    """
    options, folder = options or Options(), _folder(out)
    _check(options, workers)
    source, items = _opened(data, options.splits)
    network = load(options.predictor)
    points_of(network)  # a network that is not what it should be is no photo's fault
    told = {
        "version": VERSION, "data": source, "morphable": default().name, "predictor": network.name,
        "fingerprint": _fingerprint(network), "settings": json.loads(json.dumps(asdict(options))),
        "splits": {split: len(part) for split, part in items.items()},
    }  # fmt: skip
    told |= {f"data_{key}": value for key, value in plugins.fingerprint(source.partition(":")[0]).items()}
    pieces = folder / f"{LABELS}.shards"
    if not (_same(folder / ABOUT, told) and _finished(folder)):
        make_folder(folder, Path(source.partition(":")[2]))
        make_folder(pieces)
        if not _same(pieces / "settings.json", told):
            write_file(pieces / "settings.json", _json(told))
        shards, start = _shards(items, options), time.perf_counter()
        del items
        job = _Job(source, str(network.path), options, str(pieces), _json(told).decode(), plugins.trusted())
        new = _work(job, shards, workers, tick)
        told |= _assembled(folder / LABELS, pieces, shards)
        last = {"workers": workers, "photos": new, "wall_seconds": round(time.perf_counter() - start, 2)}
        told |= {"labels_sha256": sha256(folder / LABELS), "last_call": last}
        write_file(folder / ABOUT, _json(told), durable=True)
    shutil.rmtree(pieces, ignore_errors=True)
    return read_json(folder / ABOUT)


def deal(person: Int[np.ndarray, " N"], size: int, limit: int = 0) -> list[Int[np.ndarray, " K"]]:
    """Rows in shards of at most `size` that keep every person's rows together, persons in order of appearance.

    A person with more rows than `size` is a shard of its own; each row of person −1 is a person. With `limit`, only the
    first persons that have so many rows together.

    >>> [rows.tolist() for rows in deal(np.array([4, -1, 2, 4, -1, 2]), 3)]
    [[0, 3, 1], [2, 5, 4]]
    """
    owner = owners(person)
    _, first, group, count = np.unique(owner, return_index=True, return_inverse=True, return_counts=True)
    rows = np.lexsort((np.arange(len(person)), first[group]))
    counts = count[np.argsort(first)]
    if limit:
        counts = counts[: int(np.searchsorted(np.cumsum(counts), limit)) + 1]
    ends, filled = [], 0
    for end, more in zip(np.cumsum(counts).tolist(), counts.tolist(), strict=True):
        if filled and filled + more > size:
            ends.append(end - more)
            filled = 0
        filled += more
    return np.split(rows[: counts.sum()], ends)


# ── what was asked ─────────────────────────────────────────────────────────────────────────────────────────


class _Shard(NamedTuple):
    """A piece of the work."""

    number: int
    split: str
    rows: np.ndarray
    persons: int

    def path(self, pieces: str | Path) -> Path:
        """Where its rows are written."""
        return Path(pieces) / f"{self.number:06d}.parquet"


def _folder(out: Path) -> Path:
    if out.name != LABELS and out.suffix == ".parquet":
        raise ValueError(f"the labels are called {LABELS}, but out is {out}; give a folder, or {out.parent / LABELS}")
    return out.parent if out.name == LABELS else out


def _check(options: Options, workers: int) -> None:
    if workers < 0:
        raise ValueError(f"workers is {workers}; give the number of processes, or 0 to compute in this one")
    if options.shard < 1 or options.limit < 0:
        raise ValueError(f"shard is {options.shard} and limit {options.limit}; at least 1 photo, and 0 for all")
    if not options.splits or len(set(options.splits)) < len(options.splits):
        raise ValueError(f"splits are {', '.join(options.splits) or 'none'}; name at least one, and none twice")


def _opened(data: str, splits: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """DATASET:FOLDER with paths in full, and the splits. Raises ValueError or BadData."""
    dataset, root = plugins.dataset_at(data)
    name = data.partition(":")[0]
    if "image" not in dataset.gives:
        raise ValueError(f"fit-set needs items with 'image'; data set {name} gives {', '.join(dataset.gives)}")
    items = {split: dataset.load(root, split) for split in splits}
    for split, part in items.items():
        if "person" in dataset.gives and len(getattr(part, "person", ())) != len(part):
            raise ValueError(f"data set {name} gives 'person', so its split {split} needs all as an attribute `person`")
    if not sum(map(len, items.values())):
        raise BadData(f"{root} holds no photos in {', '.join(splits)}; check the folder and the layout of {name}")
    full = str(Path(name).expanduser().resolve()) if plugins.is_file(name) else name
    return f"{full}:{root.resolve()}", items


def _shards(items: Mapping[str, Any], options: Options) -> list[_Shard]:
    """The work in pieces, split by split."""
    shards: list[_Shard] = []
    for split, part in items.items():
        left = options.limit - sum(len(shard.rows) for shard in shards)
        if options.limit and left <= 0:
            break
        person = np.asarray(getattr(part, "person", np.full(len(part), -1)))
        owner = owners(person)
        for rows in deal(person, options.shard, left if options.limit else 0):
            shards.append(_Shard(len(shards), split, rows, len(np.unique(owner[rows]))))
    return shards


def _fingerprint(network: Predictor) -> str:
    """Of the networks that measure."""
    return sha256(network.path, detect.NETWORK, load("eyes").path)[:16]


def _same(file: Path, told: dict[str, Any]) -> bool:
    """Whether a file is there and was made with these settings; raises BadOutput if it was made with others."""
    if not file.exists():
        return False
    try:
        before = read_json(file)
        differ = [
            f"{key} was {before.get(key)!r}, now {value!r}" for key, value in told.items() if before[key] != value
        ]
    except (BadData, KeyError, TypeError, AttributeError) as error:
        raise BadOutput(f"{file} is not what fit-set writes ({error}); delete it, or choose another --out") from None
    if differ:
        raise BadOutput(
            f"{file.parent} holds labels made with other settings: {'; '.join(differ)}. Delete it, or choose another "
            "--out"
        )
    return True


def _finished(folder: Path) -> bool:
    """Whether the labels are there, and those that labels.json was written for."""
    labels = folder / LABELS
    return labels.is_file() and read_json(folder / ABOUT).get("labels_sha256") == sha256(labels)


def _json(told: dict[str, Any]) -> bytes:
    return (json.dumps(told, indent=1, ensure_ascii=False) + "\n").encode()


# ── processes ──────────────────────────────────────────────────────────────────────────────────────────────


class _Job(NamedTuple):
    """What a process has to know."""

    data: str
    predictor: str
    options: Options
    pieces: str
    told: str
    """everything that the labels depend on"""
    trusted: tuple[Path, ...]
    """Python files that the data may ask for"""


def _work(job: _Job, shards: list[_Shard], workers: int, tick: Callable[[int, int], None] | None) -> int:
    """Make every shard that is not there yet; returns how many photos these had."""
    todo = [shard for shard in shards if not sealed(*_seal(job, shard))]
    total, new = sum(len(shard.rows) for shard in shards), sum(len(shard.rows) for shard in todo)
    done = [total - new]

    def report(photos: int) -> None:
        done[0] += photos
        if tick is not None:
            tick(done[0], total)

    report(0)
    if workers:
        for k in range(0, len(todo), workers * SHARDS_PER_PROCESS):
            _side_by_side(job, todo[k : k + workers * SHARDS_PER_PROCESS], workers, report)
        return new
    try:
        for shard in todo:
            report(_write(job, shard))
    finally:
        _items.cache_clear()
    return new


def _side_by_side(job: _Job, shards: list[_Shard], workers: int, report: Callable[[int], None]) -> None:
    """Make some shards in new processes."""
    context = get_context("spawn")  # a fork would inherit locks of other threads' networks
    with processes.one_thread_each():
        pool = ProcessPoolExecutor(min(workers, len(shards)), context, _begin)
        try:
            for future in as_completed([pool.submit(_write, job, shard) for shard in shards]):
                report(future.result())
        except BrokenProcessPool:
            raise SameFaceError(
                "a process ended before its time (killed, or out of memory?); the same command goes on where it stood; "
                "use fewer --workers if it happens again"
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


def _begin() -> None:  # pragma: no cover - runs in other processes
    """A new process, which ends when its parent is killed."""
    import threading

    def end_with_parent() -> None:
        parent = parent_process()
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()
    processes.begin()


@lru_cache(maxsize=1)
def _items(data: str, split: str) -> Any:
    dataset, root = plugins.dataset_at(data)
    return dataset.load(root, split)


@lru_cache(maxsize=1)
def _network(path: str) -> Predictor:
    return Predictor(Path(path), threads=1)


def _write(job: _Job, shard: _Shard) -> int:
    """Make one shard and write it; returns its number of photos."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    plugins.trust(*job.trusted)
    items = _items(job.data, shard.split)
    records, told = fit_shard(items, shard.split, shard.rows.tolist(), _network(job.predictor), job.options)
    buffer = pa.BufferOutputStream()
    table = pa.Table.from_pylist(records, schema().with_metadata({"sameface": json.dumps(told)}))
    pq.write_table(table, buffer, compression="zstd")
    write_file(shard.path(job.pieces), buffer.getvalue().to_pybytes(), durable=True)
    seal(*_seal(job, shard))
    return len(records)


def _seal(job: _Job, shard: _Shard) -> tuple[Path, str, Path]:
    """The file with the checksum of a shard, and what it is of."""
    file = shard.path(job.pieces)
    return file.with_suffix(".sha256"), f"{job.told} {shard.number} {shard.split} {shard.rows.tolist()}", file


# ── the whole ──────────────────────────────────────────────────────────────────────────────────────────────


def _assembled(out: Path, pieces: Path, shards: list[_Shard]) -> dict[str, Any]:
    """Write the shards' rows as one file, aside and renamed; returns the summary."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    numbers, told = [], []
    with written(out, durable=True) as file, pq.ParquetWriter(file, schema(), compression="zstd") as writer:
        for shard in shards:
            table = pq.read_table(shard.path(pieces))
            told.append(json.loads(table.schema.metadata[b"sameface"]))
            writer.write_table(table.replace_schema_metadata(None))
            numbers.append(table.select(["reason", "residual_px", "residual_percent", "from_others_mm", "kept"]))
    return _summary(pa.concat_tables(numbers), told, sum(shard.persons for shard in shards))


def _summary(table: Any, told: list[dict[str, Any]], persons: int) -> dict[str, Any]:
    """Counts, percentiles over the kept photos, the objective round by round and the processes' seconds."""
    reasons = [reason for reason in table["reason"].to_pylist() if reason is not None]
    kept = table.filter(table["kept"])

    def percentiles(name: str) -> dict[str, float]:
        values = kept[name].drop_null().to_numpy()
        return {str(p): round(float(np.percentile(values, p)), 4) for p in PERCENTILES} if len(values) else {}

    names = ("residual_percent", "residual_px", "from_others_mm")
    return {
        "photos": table.num_rows,
        "persons": persons,
        "kept": kept.num_rows,
        "rejected": {reason: reasons.count(reason) for reason in sorted(set(reasons))},
        "percentiles of kept photos": {name: percentiles(name) for name in names},
        "objective per photo, before the first and after each round": {
            name: _rounds([one[name] for one in told], sum(one["photos"][k] for one in told))
            for k, name in enumerate(("alone", "joint"))
        },
        "cpu_seconds": round(sum(one["cpu_seconds"] for one in told), 2),
    }


def _rounds(objectives: list[list[float]], photos: int) -> list[float]:
    """The shards' objectives added up round by round, per photo; a shard that stopped earlier stays where it was."""
    length = max(map(len, objectives), default=0)
    padded = [one + one[-1:] * (length - len(one)) for one in objectives if one]
    return [round(float(total) / photos, 4) for total in np.sum(padded, axis=0)] if padded else []
