"""Who may see what: a session is one browser, known by a random name in a cookie, and its jobs are nobody else's.

All files lie in one temporary folder, which only this user of the machine may read. They go when their page is
closed, when a session was not heard of for a while, and when the app ends; what a killed app left goes when the next
one begins.
"""

import os
import re
import secrets
import shutil
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from io import BufferedIOBase
from pathlib import Path
from typing import Any, NamedTuple

from sameface.app.work import KINDS
from sameface.app.workshop import Job, Workshop
from sameface.core.errors import BadOutput
from sameface.core.files import make_folder, names_in, runs, written
from sameface.reconstruction.outputs import stem, unused

__all__ = ["Limits", "Refused", "Sessions"]

PREFIX = "sameface-app-"
IDLE = 600.0
"""s after which a session that was not heard of is over; its page asks once a minute"""
MOST_SESSIONS, MOST_JOBS = 64, 12
AT_ONCE = 1 << 20
"""bytes read at a time"""
_ENDING = re.compile(r"\.[A-Za-z0-9]{1,6}")


class Limits(NamedTuple):
    """How much one job may be."""

    photos: int = 40
    """of one person"""
    megabytes: int = 300
    """of all its files"""
    seconds: float = 60.0
    """of a video"""


class Refused(Exception):
    """What cannot be done, as a status of HTTP and a sentence for people."""

    def __init__(self, status: HTTPStatus, message: str):
        super().__init__(message)
        self.status = status


@dataclass(eq=False)
class Session:
    """One browser."""

    jobs: dict[str, Job] = field(default_factory=dict)
    heard: float = field(default_factory=time.monotonic)


class Sessions:
    """All sessions and their files. Methods raise Refused."""

    def __init__(self, limits: Limits, workshop: Workshop):
        self.limits, self.workshop = limits, workshop
        self.sessions: dict[str, Session] = {}
        self.lock = threading.RLock()
        _remove_left()
        self.root = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))

    def known(self, name: str | None) -> Session | None:
        """The session of that name, which was heard of just now."""
        with self.lock:
            session = self.sessions.get(name or "")
            if session is not None:
                session.heard = time.monotonic()
            return session

    def begin(self) -> str:
        """A new session: its name."""
        with self.lock:
            self.forget()
            if len(self.sessions) >= MOST_SESSIONS:
                raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, "too many people use this app now; try again later")
            name = secrets.token_urlsafe(32)
            self.sessions[name] = Session()
            return name

    def forget(self, idle: float = IDLE) -> None:
        """End the sessions that were not heard of for so many seconds, and remove their files."""
        with self.lock:
            for name, session in list(self.sessions.items()):
                if time.monotonic() - session.heard > idle:
                    self.leave(session, list(session.jobs))
                    del self.sessions[name]

    def close(self) -> None:
        """Remove everything."""
        shutil.rmtree(self.root, ignore_errors=True)

    # ── jobs ──

    def new_job(self, session: Session, kind: str) -> str:
        """A job to put files into: its number."""
        if kind not in KINDS:
            raise Refused(HTTPStatus.BAD_REQUEST, f"a job is one of {', '.join(KINDS)}")
        with self.lock:
            if len(session.jobs) >= MOST_JOBS:
                raise Refused(HTTPStatus.TOO_MANY_REQUESTS, "too many faces are open; close some of their pages")
            number = secrets.token_urlsafe(12)
            job = Job(kind, self.root / number)
            for side in KINDS[kind]:
                make_folder(job.given / side)
            session.jobs[number] = job
            return number

    def job(self, session: Session, number: str) -> Job:
        """A job of this session."""
        job = session.jobs.get(number)
        if job is None or job.left:
            raise Refused(HTTPStatus.NOT_FOUND, "this is gone, or is not yours; load the page again")
        return job

    def take(self, session: Session, number: str, side: str, name: str, length: int, source: BufferedIOBase) -> None:
        """Write `length` bytes of an uploaded file into a job."""
        job = self.job(session, number)
        if job.state != "filling" or side not in KINDS[job.kind]:
            raise Refused(HTTPStatus.CONFLICT, "this job takes no such file")
        with self.lock:
            self._check_room(job, side, length)
            safe, ending = stem(name), os.path.splitext(name)[1]
            safe += ending.lower() if _ENDING.fullmatch(ending) else ""
            taken = {one.lower() for one in names_in(job.given / side)}
            path = job.given / side / _unused_file(safe, taken)
            path.touch()  # so that it counts while it comes
        try:
            with written(path) as file:
                while length:
                    piece = _piece(source, min(length, AT_ONCE))
                    if not piece:
                        raise Refused(HTTPStatus.BAD_REQUEST, f"{name} broke off on its way; try again")
                    file.write(piece)
                    length -= len(piece)
        except (Refused, BadOutput):
            path.unlink(missing_ok=True)
            raise

    def start(self, session: Session, number: str) -> None:
        """The files of a job are all there: do it."""
        job = self.job(session, number)
        if job.state != "filling":
            raise Refused(HTTPStatus.CONFLICT, "this job was started before")
        if not all(names_in(job.given / side) for side in KINDS[job.kind]):
            raise Refused(HTTPStatus.BAD_REQUEST, "a file is missing; choose one first")
        self.workshop.ask(job)

    def leave(self, session: Session, numbers: list[str]) -> None:
        """These jobs are not wanted any more."""
        with self.lock:
            for number in numbers:
                if job := session.jobs.pop(number, None):
                    self.workshop.leave(job)

    def told(self, session: Session, number: str) -> dict[str, Any]:
        """How far a job is, for its page."""
        job = self.job(session, number)
        text, done, total = job.at
        told: dict[str, Any] = {"state": job.state, "at": text, "done": done, "total": total, "message": job.message}
        if job.state == "waiting":
            told["before"] = self.workshop.before(job)
        if job.state == "done":
            files = [
                {"name": name, "what": what, "bytes": (job.folder / name).stat().st_size}
                for name, what in job.answer["files"]
            ]
            told["answer"] = {**job.answer, "files": files}
        return told

    def file(self, session: Session, number: str, name: str) -> Path:
        """One of the files that a job made."""
        job = self.job(session, number)
        if job.state != "done" or name not in {one for one, _ in job.answer["files"]}:
            raise Refused(HTTPStatus.NOT_FOUND, "there is no such file")
        return job.folder / name

    def _check_room(self, job: Job, side: str, length: int) -> None:
        """Whether one more file may come: by how many there are, and how large all are together."""
        most = self.limits.photos if job.kind != "video" else 1
        if len(names_in(job.given / side)) >= most:
            what = f"at most {most} photos of a person are taken here" if most > 1 else "give one video"
            raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, what)
        job.bytes += length
        if job.bytes > self.limits.megabytes * 1_000_000:
            raise Refused(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f"all files together may have {self.limits.megabytes} MB here; give fewer or smaller ones",
            )


def _piece(source: BufferedIOBase, length: int) -> bytes:
    """Some of what comes; nothing where it does not come any more."""
    try:
        return source.read(length)
    except OSError:
        return b""


def _unused_file(name: str, taken: set[str]) -> str:
    """The name, with -2, -3 … before its ending where it was given before."""
    begin, ending = os.path.splitext(name)
    stems = {os.path.splitext(one)[0] for one in taken}
    return unused(begin, stems) + ending


def _remove_left() -> None:
    """Remove what apps left that were killed."""
    with suppress(OSError):
        for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
            number = folder.name.removeprefix(PREFIX).partition("-")[0]
            if number.isdigit() and not runs(int(number)):
                shutil.rmtree(folder, ignore_errors=True)
