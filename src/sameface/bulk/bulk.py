"""Thousands to millions of photos → Parquet files: one row per photo and one per person, on all cores or on a cluster.

    bulk(["/data/people"], Path("faces"))        # faces/photos/*.parquet, faces/persons/*.parquet, faces/bulk.json

Photos are dealt into shards; no person is split. The plan (path, person) is a Parquet file with one row group per
shard, so whoever computes is told a number only. A shard (`shard.py`) is written aside and renamed, and a checksum of
its files beside them: a kill costs the shards under way, and the same call goes on with those that are not there or
not what they were, and gives the same files, byte for byte, whatever the number of processes. Ray (its actors, not
Ray Data, whose arguments change from version to version) only deals out the numbers, to processes that hold the
networks.

What ends a process (a crash of a decoder, no more memory, a photo that takes longer than `Options.seconds`) costs that
photo its row: a process notes what it is about to do, another one does the shard again, and what two processes ended at
gets the error WorkerDied.

Memory: this process holds the paths of one shard; a list is held as Arrow columns until the plan is written (0.3 to
0.5 GB for a million photos). A process holds one photo, one shard's rows and one person's observations, which take
0.3 MB a photo while they are fitted.
"""

import json
import logging
import os
import socket
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sameface.bulk import people_list
from sameface.bulk.shard import Options, person_schema, photo_schema, shard_rows
from sameface.core import processes
from sameface.core.errors import AssetMissing, BadData, BadOutput, SameFaceError
from sameface.core.files import make_folder, open_file, read_json, seal, sealed, sha256, write_file, written
from sameface.morphable import default
from sameface.photo import detect
from sameface.photo.observe import points_of
from sameface.photo.predictor import load, networks, networks_name
from sameface.reconstruction.reconstruct import check_options

__all__ = ["ABOUT", "PERSONS", "Options", "bulk", "fingerprint_of", "whole_shards"]

VERSION = 3
"""of what is computed: files of another version are not gone on with"""
PHOTOS, PERSONS, CHECKS, PLAN, ABOUT = "photos", "persons", "checks", "plan.parquet", "bulk.json"
MEMORY = 1_000_000_000
"""bytes that Ray sets aside for a process: a photo of 50 million pixels takes 0.7 GB"""
OBJECT_STORE = 80_000_000
"""bytes of shared memory of a Ray of our own: nothing but numbers is passed"""
TRIES = 2
"""processes that may end at one photo, or before they begin"""
PATIENCE = 300.0
"""s until Ray must have started a first process"""
PERCENTILES = (5, 25, 50, 75, 95, 99, 100)

Tick = Callable[[int, int], None]


def bulk(
    sources: str | Path | Sequence[str | Path],
    out: Path,
    options: Options | None = None,
    *,
    workers: int | None = None,
    address: str | None = None,
    tick: Tick | None = None,
) -> dict[str, Any]:
    """Reconstruct everybody in `sources` (folders, or one list: `people_list.people`) into `out`; returns bulk.json.

    So many Ray actors as `workers` compute, each in one thread: by default as many as Ray has processors, which are
    those of this machine, or of the cluster at `address`. 0 computes in this process, without Ray, where nothing
    guards against a crash. `tick` is called with the number of photos done and of all. Shards that are there are not
    computed again; an `out` of other photos or settings is refused (BadOutput). Raises ValueError for sources that
    cannot be meant, BadData for those that cannot be read, SameFaceError if Ray starts nothing.
    """
    options, out = options or Options(), Path(os.path.abspath(out))
    check_options(min_score=options.min_score)
    if (workers or 0) < 0 or options.shard < 1 or not options.seconds > 0:
        raise ValueError(
            f"workers is {workers}, shard {options.shard} and seconds {options.seconds:g}; give at least 0 processes, "
            "1 photo per file and some time"
        )
    if options.predictor.endswith(".onnx"):
        options = replace(options, predictor=os.path.abspath(options.predictor))
    fingerprint = fingerprint_of(options.predictor)
    for source in [sources] if isinstance(sources, str | os.PathLike) else sources:
        inside = os.path.relpath(os.path.realpath(out), os.path.realpath(source))
        if os.path.isdir(source) and (inside == os.curdir or not inside.startswith(".")):
            raise BadOutput(f"{out} lies in {source}, whose folders are persons: choose another --out")
    for folder in (out, out / PHOTOS, out / PERSONS, out / CHECKS):
        make_folder(folder)
    root, people, left = people_list.people(sources, each=options.each)
    told = {
        "version": VERSION, "root": str(root), "morphable": default().name,
        "predictor": networks_name(options.predictor), "fingerprint": fingerprint, "settings": asdict(options),
    }  # fmt: skip
    sizes = _planned(people, out, told, options.shard)
    start = time.perf_counter()
    job = _Job(str(out), str(root), options, fingerprint, told["sha256"])
    todo = [number for number in range(len(sizes)) if not _whole(job, number)]
    new, done = sum(sizes[number] for number in todo), [0]

    def report(photos: int) -> None:
        done[0] += photos
        if tick is not None:
            tick(done[0], sum(sizes))

    report(sum(sizes) - new)
    if workers == 0:
        worker = _Worker(job)
        for number in todo:
            report(worker.write(number, (), guarded=False))
    elif todo:
        with _Ray(address, workers) as free:
            _deal(job, deque(todo), min(free, len(todo)), report)
    last = {"photos": new, "wall_seconds": round(time.perf_counter() - start, 2)}
    if not todo:
        last = read_json(out / ABOUT).get("last_call", last)
    others = {what: {"count": count, "first": first} for what, (count, first) in left.items()}
    summary = told | _summary(out, len(sizes)) | {"not_looked_at": others, "last_call": last}
    write_file(out / ABOUT, _json(summary), durable=True)
    return summary


def fingerprint_of(predictor: str) -> str:
    """What bulk.json says of the networks that measure. Raises AssetMissing for one that cannot."""
    points_of(load(predictor))  # a network that is not what it should be is no photo's fault
    return sha256(detect.NETWORK, *(network.path for network in networks(predictor)))[:16]


def whole_shards(out: Path, told: Mapping[str, Any]) -> tuple[list[Path], int]:
    """The files with the persons of all shards that are whole to the last bit, and how many others there should be.

    `told` is what bulk.json says. Raises BadData for what is not a folder of this version of bulk.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        options = Options(**told["settings"])
        job = _Job(str(out), told["root"], options, told["fingerprint"], told["sha256"])
        if told["version"] != VERSION:
            raise ValueError(f"version {told['version']!r}, not {VERSION}")
        with open_file(out / PLAN) as file:
            count = pq.ParquetFile(file).num_row_groups
    except (KeyError, TypeError, ValueError, OSError, pa.ArrowException) as error:
        raise BadData(f"{out} is not what this version of `sameface bulk` writes ({error}): run it anew") from None
    whole = [_file(out, PERSONS, number) for number in range(count) if _whole(job, number)]
    return whole, count - len(whole)


# ── the plan ───────────────────────────────────────────────────────────────────────────────────────────────


def _planned(people: Iterator[tuple[str, list[str]]], out: Path, told: dict[str, Any], size: int) -> list[int]:
    """Write the plan and the settings, which `told` gets the photos of; returns how many photos each shard has.

    Raises BadOutput if `out` has results of other photos or settings.
    """
    with written(out / PLAN, durable=True) as file:
        sizes, told["photos"], told["persons"], told["sha256"] = people_list.write(people, file, size)
        _check_same(out / ABOUT, told)
    if not (out / ABOUT).exists():
        write_file(out / ABOUT, _json(told))
    return sizes


def _check_same(file: Path, told: dict[str, Any]) -> None:
    """Raise BadOutput if a file says that its folder was made of other photos or with other settings."""
    if not file.exists():
        return
    try:
        before = read_json(file)
        differ = [f"{key} was {before[key]!r}, now {value!r}" for key, value in told.items() if before[key] != value]
    except (BadData, KeyError, TypeError) as error:
        raise BadOutput(f"{file} is not what bulk writes ({error}); delete it, or choose another --out") from None
    if differ:
        raise BadOutput(
            f"{file.parent} holds results of other photos or settings: {'; '.join(differ)}. Delete it, or choose "
            "another --out"
        )


def _whole(job: "_Job", number: int) -> bool:
    """Whether both files of a shard are there, of these very photos and settings, and whole to the last bit."""
    return sealed(*_seal(job, number))


def _seal(job: "_Job", number: int) -> tuple[Path, str, Path, Path]:
    """The file with the checksum of a shard, and what it is of."""
    out = Path(job.out)
    about = f"bulk {VERSION} {job.fingerprint} {job.sha256} {number} {asdict(job.options)}"
    return out / CHECKS / f"{number:06d}.sha256", about, _file(out, PHOTOS, number), _file(out, PERSONS, number)


def _file(out: Path, kind: str, number: int) -> Path:
    return out / kind / f"{number:06d}.parquet"


def _marker(out: Path, number: int) -> Path:
    """Where a process notes what it is about to do; Parquet readers pass over names with a dot."""
    return out / PHOTOS / f".{number:06d}.at"


def _json(told: dict[str, Any]) -> bytes:
    return (json.dumps(told, indent=1, ensure_ascii=False) + "\n").encode()


# ── processes ──────────────────────────────────────────────────────────────────────────────────────────────


class _Job(NamedTuple):
    """What a process has to know."""

    out: str
    root: str
    options: Options
    fingerprint: str
    sha256: str
    """of the plan"""


class _Worker:
    """Makes shards; on Ray an actor, which loads the networks once."""

    def __init__(self, job: _Job):
        import pyarrow.parquet as pq

        self.job, self.out = job, Path(job.out)
        self.plan = pq.ParquetFile(self.out / PLAN)

    def begin(self) -> int:  # pragma: no cover - runs in other processes
        """What a new process does first; returns 0, the photos it made."""
        processes.begin()
        if fingerprint_of(self.job.options.predictor) != self.job.fingerprint:
            raise AssetMissing("a machine of the cluster has other networks: install the same sameface everywhere")
        return 0

    def write(self, number: int, blamed: Collection[str], guarded: bool = True) -> int:
        """Make one shard and write it; returns its number of photos."""
        import faulthandler

        import pyarrow as pa
        import pyarrow.parquet as pq

        marker = _marker(self.out, number)

        def at(what: str, seconds: float) -> None:
            if guarded:
                marker.write_text(what)
                faulthandler.dump_traceback_later(seconds, exit=True, file=nowhere)

        plan = self.plan.read_row_group(number)
        listed = zip(plan["path"].to_pylist(), plan["person"].to_pylist(), strict=True)
        with open(os.devnull, "w") as nowhere:
            try:
                photos, persons = shard_rows(listed, Path(self.job.root), self.job.options, at, blamed)
            finally:
                faulthandler.cancel_dump_traceback_later()
        for kind, rows, schema in ((PERSONS, persons, person_schema()), (PHOTOS, photos, photo_schema())):
            buffer = pa.BufferOutputStream()
            pq.write_table(pa.Table.from_pylist(rows, schema), buffer, compression="zstd")
            write_file(_file(self.out, kind, number), buffer.getvalue().to_pybytes(), durable=True)
        seal(*_seal(self.job, number))
        marker.unlink(missing_ok=True)
        return len(photos)


class _Ray:
    """A connection to Ray: the one there is, the cluster's at `address`, or a Ray of our own on this machine."""

    def __init__(self, address: str | None, workers: int | None):
        self.address, self.workers = address, workers

    def __enter__(self) -> int:
        """The number of processes to start."""
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # nobody is told what runs here
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        import ray

        self.ours = not ray.is_initialized()
        if self.ours and self.address is None:
            with processes.one_thread_each():
                ray.init(
                    "local", num_cpus=self.workers, include_dashboard=False, object_store_memory=OBJECT_STORE,
                    log_to_driver=False, logging_level=logging.ERROR,
                )  # fmt: skip
        elif self.ours and self.address is not None:
            _check_reachable(self.address)
            ray.init(self.address, log_to_driver=False, logging_level=logging.ERROR)
        return self.workers or max(1, int(ray.cluster_resources().get("CPU", 1)))

    def __exit__(self, *error: object) -> None:
        import ray

        if self.ours:
            ray.shutdown()


def _check_reachable(address: str) -> None:
    """Raise SameFaceError if nothing listens at HOST:PORT, where Ray itself would wait for ever."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
        except OSError as error:
            raise SameFaceError(f"no Ray cluster answers at {address} ({error}): check the address") from None


def _deal(job: _Job, todo: deque[int], workers: int, report: Callable[[int], None]) -> None:
    """Make shards on Ray. A process is dealt the next one when it has made one; who ended is replaced."""
    import ray
    from ray.exceptions import OutOfMemoryError, RayActorError, RayTaskError

    actor_class: Any = ray.remote(num_cpus=1, memory=MEMORY)(_Worker)
    busy: dict[Any, tuple[Any, int | None]] = {}  # what is awaited → the actor, and the shard it makes
    ended: dict[int, Counter[str]] = {}  # shard → how many processes ended at what
    unborn, left = 0, len(todo)

    def start() -> None:
        actor = actor_class.remote(job)
        busy[actor.begin.remote()] = (actor, None)

    for _ in range(workers):
        start()
    while left:
        answered, _ = ray.wait(list(busy), timeout=PATIENCE)
        if not answered:
            if all(number is None for _, number in busy.values()):
                there = ray.cluster_resources()
                raise SameFaceError(
                    f"Ray has started no process in {PATIENCE:.0f} s; each needs a processor and {MEMORY / 1e9:g} GB, "
                    f"and all machines together have {there.get('CPU', 0):g} processors and "
                    f"{there.get('memory', 0) / 1e9:.1f} GB, some of it in use. Give Ray more, or use --workers 0"
                )
            continue
        actor, number = busy.pop(answered[0])
        try:
            made = ray.get(answered[0])
        except (RayActorError, OutOfMemoryError) as error:
            if number is None:
                unborn += 1
                if unborn >= TRIES:
                    raise SameFaceError(f"the processes of Ray end before they begin: {error}") from None
            else:
                marker = _marker(Path(job.out), number)
                at = marker.read_text() if marker.exists() else ""
                ended.setdefault(number, Counter())[at] += 1
                if ended[number][at] > TRIES:  # what is blamed is left out, so it is something else
                    raise SameFaceError(f"the processes of Ray end, whatever they do: {error}") from None
                todo.appendleft(number)
            start()
            continue
        except RayTaskError as error:
            raise (error.cause if isinstance(error.cause, SameFaceError | OSError) else error) from None
        if number is not None:
            left -= 1
            report(made)
        if todo:
            number = todo.popleft()
            blamed = [what for what, times in ended.get(number, Counter()).items() if times >= TRIES]
            busy[actor.write.remote(number, blamed)] = (actor, number)


# ── the whole ──────────────────────────────────────────────────────────────────────────────────────────────


def _summary(out: Path, shards: int) -> dict[str, Any]:
    """How many photos and persons could be used, what was wrong with the others, and how far photos disagree.

    Of our own files only: whatever else lies in the folders is nobody's row.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    def columns(kind: str, *names: str) -> Any:
        files = (_file(out, kind, number) for number in range(shards))
        return pa.concat_tables([pq.ParquetFile(file).read(columns=list(names)) for file in files])

    photos, persons = columns(PHOTOS, "error")["error"], columns(PERSONS, "error", "disagreement_mm")
    apart = persons["disagreement_mm"].drop_null().to_numpy()
    return {
        "photos_used": photos.null_count,
        "persons_used": persons["error"].null_count,
        "errors": dict(sorted(Counter(photos.drop_null().to_pylist()).items())),
        "disagreement_mm": {str(p): round(float(np.percentile(apart, p)), 3) for p in PERCENTILES}
        if len(apart)
        else {},
    }
