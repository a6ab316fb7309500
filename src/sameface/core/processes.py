"""Worker processes that compute in one thread each: the processes are the parallelism."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["begin", "cores", "one_thread_each", "told_to_stop"]

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def cores() -> int:
    """How many this process may compute on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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
