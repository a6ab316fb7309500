"""Processes and threads: worker processes compute in one thread each, for they are the parallelism; so does a photo.

A face is small work. More threads end it a little sooner and cost two to three times the processor's time, because they
wait for each other spinning; on a busy machine, or in a container with a quota, that is what others lack. So networks
and linear algebra take one thread unless SAMEFACE_THREADS says otherwise, and only the decoding of a video, which is
large work, takes several.
"""

import math
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

__all__ = ["begin", "cores", "few_threads", "one_thread_each", "quota", "threads", "told_to_stop"]

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "SAMEFACE_THREADS")
LARGE = 4
"""threads for large work, at most: more decode no video faster on a machine that does something else too"""
CGROUPS, OWN = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def cores() -> int:
    """How many this process may compute on: those it may run on, or as many as the quota of its cgroup makes whole."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(allowed, quota())))


def quota() -> float:
    """Cores' worth of time that the cgroups of this process grant it (cpu.max; version 1: cpu.cfs_quota_us); or inf."""
    try:
        lines = OWN.read_text().splitlines()
    except OSError:
        return math.inf
    granted = [math.inf]
    for line in lines:
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers and "cpu" not in controllers.split(","):
            continue
        root = CGROUPS / controllers if controllers else CGROUPS
        own = root / path.strip("/")
        for folder in (own, *own.parents):
            if folder.is_relative_to(root):
                granted.append(_granted(folder))
    return min(granted)


def threads(*, large: bool = False) -> int:
    """Threads for a network or linear algebra: SAMEFACE_THREADS, else OMP_NUM_THREADS, else 1, or up to 4 for `large`.

    Raises ValueError for a SAMEFACE_THREADS that is no positive number.
    """
    asked = os.environ.get("SAMEFACE_THREADS", "").strip()
    if asked:
        if not (asked.isascii() and asked.isdigit() and int(asked)):
            raise ValueError(f"SAMEFACE_THREADS is {asked!r}; give a number of threads from 1")
        return int(asked)
    usual = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    if usual.isascii() and usual.isdigit() and int(usual):
        return int(usual)
    return min(cores(), LARGE) if large else 1


@contextmanager
def few_threads() -> Iterator[None]:
    """Meanwhile the linear algebra of this process takes `threads()`: its matrices are too small for more."""
    with _pools().limit(limits=threads(), user_api="blas"):
        yield


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Processes started meanwhile compute in one thread each: they are fast, and their sums come in one order."""
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def told_to_stop() -> Iterator[None]:
    """SIGTERM (a batch system's time is up) ends the work as Ctrl-C does: what is done is kept and told."""
    try:
        before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    except ValueError:  # not in the main thread: nobody sends signals here
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def begin() -> None:  # pragma: no cover - runs in other processes
    """What a new process does first: Ctrl-C is its parent's affair, and so are threads."""
    import cv2

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)


def _granted(folder: Path) -> float:
    """The quota of one cgroup, in cores."""
    for quota_file, period_file in (("cpu.max", ""), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
        try:
            numbers = (folder / quota_file).read_text().split()
            numbers += (folder / period_file).read_text().split() if period_file else []
            limit, period = float(numbers[0]), float(numbers[1])
        except (OSError, ValueError, IndexError):  # no such file, or "max": no quota
            continue
        if limit > 0 and period > 0:
            return limit / period
    return math.inf


@lru_cache(maxsize=1)
def _pools() -> Any:
    """The libraries that compute in threads of their own, as far as they are loaded."""
    import numpy  # noqa: F401 - whose library is what is limited
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
