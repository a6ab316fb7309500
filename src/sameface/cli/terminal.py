"""What the command line prints: to streams that may be closed, of names that may hold anything."""

import io
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["harmless", "streams"]

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def harmless(text: str) -> str:
    r"""The text in one line, without what would steer a terminal: names of files may hold it.

    >>> harmless("anna\x1b[2J\n.jpg")
    'anna\\x1b[2J\\n.jpg'
    """
    return _CONTROL.sub(lambda found: found.group().encode("unicode_escape").decode(), text)


@contextmanager
def streams() -> Iterator["Lasting"]:
    """Standard streams that can be printed to whatever becomes of them; gives standard output.

    A reader that has seen enough (`| head`) or a stream that was closed (`>&-`) is no reason to stop: the files are
    what was asked for. Characters that a stream cannot show are escaped.
    """
    for number in (0, 1, 2):  # else the next file that is opened would become the standard stream
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    before = sys.stdout, sys.stderr
    lasting: list[Any] = [Lasting(stream) for stream in before]
    sys.stdout, sys.stderr = lasting
    try:
        yield lasting[0]
    finally:
        for one in lasting:
            one.flush()
        sys.stdout, sys.stderr = before


class Lasting:
    """A text stream that goes on when nothing more can be written to it; `failed` is why, unless nobody reads."""

    def __init__(self, stream: Any):
        self.stream = _Nowhere() if stream is None else stream
        self.failed: str | None = None
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")

    def write(self, text: str) -> int:
        """Print, if anybody reads."""
        try:
            return self.stream.write(text)
        except (OSError, ValueError) as error:  # ValueError: closed
            self._given_up(error)
            return len(text)

    def flush(self) -> None:
        """Hand over what is held back."""
        try:
            self.stream.flush()
        except (OSError, ValueError) as error:
            self._given_up(error)

    def _given_up(self, error: OSError | ValueError) -> None:
        stream, self.stream = self.stream, _Nowhere()
        if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
            self.failed = error.strerror or str(error)
        if isinstance(stream, io.TextIOWrapper) and not stream.closed:  # what it holds back would fail at the end
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


class _Nowhere(io.TextIOBase):
    """Takes everything."""

    def write(self, text: str) -> int:
        return len(text)
