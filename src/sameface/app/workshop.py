"""One worker process for all jobs, in the order they were asked for; it is ended when one takes too long or is left."""

import math
import multiprocessing
import shutil
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sameface.app.work import GIVEN, Task, serve
from sameface.core.processes import one_thread_each

__all__ = ["Job", "Workshop"]

PAUSE = 0.1
"""s between two looks at what the worker says and whether the job is still wanted"""
DIED = "the program ended while it worked on these files, perhaps for want of memory; try fewer or smaller ones"


@dataclass(eq=False)
class Job:
    """What somebody wants done, and how far it is."""

    kind: str
    folder: Path
    state: str = "filling"
    """filling, waiting, working, done, failed"""
    at: tuple[str, int, int] = ("", 0, 0)
    """what is being done, and how much of how much"""
    message: str = ""
    answer: dict[str, Any] = field(default_factory=dict)
    bytes: int = 0
    """of the files that were uploaded"""
    left: bool = False
    """nobody wants it any more"""

    @property
    def given(self) -> Path:
        """The folder of what was uploaded."""
        return self.folder / GIVEN

    def remove(self) -> None:
        """Remove its files."""
        self.left = True
        shutil.rmtree(self.folder, ignore_errors=True)


class Workshop:
    """Jobs wait here for the one worker. `patience`: s that a job of each kind may take."""

    def __init__(self, patience: dict[str, float], longest: float):
        self.patience, self.longest = patience, longest
        self.waiting: deque[Job] = deque()
        self.change = threading.Condition()
        self.closed = False
        self.process: Any = None
        self.line: Any = None
        self.thread = threading.Thread(target=self._run, name="workshop", daemon=True)
        self.thread.start()

    def ask(self, job: Job) -> None:
        """Put a job at the end of the line."""
        with self.change:
            job.state = "waiting"
            self.waiting.append(job)
            self.change.notify()

    def before(self, job: Job) -> int:
        """How many jobs are done before this one."""
        with self.change:
            return 1 + self.waiting.index(job) if job in self.waiting else 0

    def leave(self, job: Job) -> None:
        """Nobody wants the job: its files go now, or, if it is being done, when the worker was ended."""
        with self.change:
            if job in self.waiting:
                self.waiting.remove(job)
            job.left = True
            if job.state != "working":
                job.remove()

    def close(self) -> None:
        """End the work."""
        with self.change:
            self.closed = True
            self.change.notify()
        self.thread.join()

    def _run(self) -> None:
        while True:
            if self.process is None and not self.closed:
                self._start()  # before it is needed: it takes a second or two
            with self.change:
                while not self.waiting and not self.closed:
                    self.change.wait()
                if self.closed:
                    break
                job = self.waiting.popleft()
                job.state = "working"
            state, said = self._done(job)
            with self.change:
                job.answer, job.message = (said, "") if state == "done" else ({}, said)
                job.state = state
                if job.left:
                    job.remove()
        self._end()

    def _done(self, job: Job) -> tuple[str, Any]:
        """What the worker made of a job."""
        patience = self.patience[job.kind]
        ends = time.monotonic() + patience
        try:
            if not self.process.is_alive():
                self._end()
                self._start()
            self.line.send(Task(job.kind, str(job.folder), self.longest))
            while not (job.left or self.closed or time.monotonic() > ends):
                if self.line.poll(PAUSE):
                    kind, *said = self.line.recv()
                    if kind != "at":
                        return kind, said[0]
                    job.at = (said[0], said[1], said[2])
        except (EOFError, OSError):
            self._end()
            return "failed", DIED
        self._end()
        minutes = math.ceil(patience / 60)
        return "failed", f"this took longer than {minutes} minutes and was stopped; give fewer or smaller files"

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.line, other = context.Pipe()
        self.process = context.Process(target=serve, args=(other,), daemon=True)
        with one_thread_each():
            self.process.start()
        other.close()

    def _end(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.join()
            self.line.close()
            self.process = None
