"""Files of a user: what a folder holds, without what systems leave in folders; read and written without surprises.

Nothing is read but ordinary files of a size that was judged before, and nothing is written but whole files: a pipe with
nobody behind it is not waited for, and a kill, a full disk or a power cut leaves the old file or the new one.
"""

import hashlib
import json
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from sameface.core.errors import BadData, BadOutput, SameFaceError, compared, in_one_line

__all__ = [
    "PathLike", "check_output", "hint", "make_folder", "named", "names_in", "open_file", "plain", "posing",
    "read_bytes", "read_json", "read_text", "runs", "seal", "sealed", "sha256", "walk", "write_file", "written",
]  # fmt: skip

PathLike = str | os.PathLike[str]

LEFT_BY_SYSTEMS = frozenset(
    (
        "thumbs.db",
        "ehthumbs.db",
        "desktop.ini",
        "icon\r",
        "__macosx",
        "@eadir",
        "#recycle",
        "$recycle.bin",
        "lost+found",
    )
)
"""beside names with a dot in front: .DS_Store, and ._photo.jpg, which macOS puts beside photo.jpg on foreign disks"""


def names_in(folder: PathLike, *endings: str, folders: bool = False) -> list[str]:
    """The names, sorted, of the files directly in a folder that end so, in any case; with `folders`, of its folders.

    Names with a dot in front and what systems leave in folders do not count. Links are what they lead to; one that
    leads nowhere is a file, so that whoever opens it says so. A folder that is not there holds nothing. Raises BadData
    for one that cannot be listed.
    """
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if _counts(entry.name) and _is_folder(entry) == folders]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise _unlistable(error) from None
    return sorted(name for name in names if name.lower().endswith(endings or ("",)))


def walk(folder: PathLike, *endings: str) -> Iterator[tuple[Path, list[str]]]:
    """This folder and each below, in order, with the `names_in` it; links to folders are not followed."""

    def unlistable(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError | NotADirectoryError):
            raise _unlistable(error)

    for path, inside, names in os.walk(folder, onerror=unlistable):
        inside[:] = sorted(filter(_counts, inside))
        yield Path(path), sorted(n for n in names if _counts(n) and n.lower().endswith(endings or ("",)))


def hint(path: str) -> str:
    """What to say after "there is no file PATH", for the path as the user wrote it.

    >>> hint("https://example.org/anna.jpg")
    ': it is an address; download it first and give the path of the file'
    """
    if re.match(r"(https?|ftps?|s3|gs|file):/", path):  # one slash is left where it was taken for a path before
        return ": it is an address; download it first and give the path of the file"
    if path[:5].lower() == "data:":
        return ": it is a picture as text; save it as a file first"
    parent = os.path.dirname(path) or "."
    return "; its folder exists, so check the spelling" if os.path.isdir(parent) else f"; nor a folder {parent}"


def posing(head: bytes) -> str | None:
    """What a file is that came in the place of another one, by its first bytes; None for all others.

    >>> posing(b"<!DOCTYPE html>"), posing(b"\\x80\\x04")
    ('a web page, as a site sends where one must log in or the file has moved; download it in a browser', None)
    """
    start = head[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<?xml")):
        return "a web page, as a site sends where one must log in or the file has moved; download it in a browser"
    if start.startswith(b"version https://git-lfs.github.com/"):
        return "a pointer of git-lfs, not the file it stands for; run `git lfs pull` there, or download the file itself"
    return "an empty file: the download failed" if not head else None


def sha256(*files: Path) -> str:
    """Of the content of files, one after the other, as hexadecimal digits. Raises BadData, as `open_file`."""
    told = hashlib.sha256()
    for file in files:
        with open_file(file) as opened:
            while piece := opened.read(1 << 20):
                told.update(piece)
    return told.hexdigest()


# ── reading ────────────────────────────────────────────────────────────────────────────────────────────────


def open_file(path: PathLike, error: type[SameFaceError] = BadData, name: str | None = None) -> BinaryIO:
    """An ordinary file, open for reading; `name` is what messages call it.

    Raises `error` for what is not there, no ordinary file, or locked.
    """
    name = name or os.fspath(path)
    try:
        _ordinary(name, os.stat(path), error)
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        opened = os.fdopen(os.open(path, flags), "rb")
        _ordinary(name, os.fstat(opened.fileno()), error)  # if it was exchanged meanwhile
        return opened
    except FileNotFoundError:
        raise error(f"there is no file {name}{hint(os.fspath(path))}") from None
    except PermissionError:
        raise error(f"{name} may not be read by this user: change its permissions, or copy it") from None
    except (OSError, ValueError) as problem:  # ValueError: a path with a null byte in it
        raise error(f"{name} cannot be read ({in_one_line(problem)}): check the path and the disk") from None


def _ordinary(name: str, status: os.stat_result, error: type[SameFaceError]) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise error(f"{name} is a folder; give a file")
    if not stat.S_ISREG(status.st_mode):
        raise error(f"{name} is not an ordinary file (a pipe or a device); give the path of a file")


def read_bytes(path: PathLike, largest: int, error: type[SameFaceError] = BadData, name: str | None = None) -> bytes:
    """The content of an ordinary file of at most `largest` bytes. Raises `error`, as `open_file`."""
    name = name or os.fspath(path)
    with open_file(path, error, name) as file:
        size = os.fstat(file.fileno()).st_size
        if size > largest:
            found, most = compared(size / 1e6, largest / 1e6, 0)
            raise error(f"{name} has {found} MB; such a file is read up to {most} MB")
        try:
            return file.read(size)  # which takes that much memory before it reads
        except OSError as problem:
            raise error(f"{name} cannot be read ({in_one_line(problem)}): check the disk") from None


def read_text(path: PathLike, largest: int = 1 << 26, error: type[SameFaceError] = BadData) -> str:
    """The text (UTF-8, with or without a mark at its beginning) of an ordinary file. Raises `error`."""
    try:
        return read_bytes(path, largest, error).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise error(f"{path} cannot be read (not UTF-8 text); save it as UTF-8") from None


def read_json(path: PathLike, largest: int = 1 << 26, error: type[SameFaceError] = BadData) -> Any:
    """What a JSON file says. Raises `error`."""
    content = read_bytes(path, largest, error)
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as problem:
        raise error(f"{path} is not JSON ({in_one_line(problem)})") from None


# ── writing ────────────────────────────────────────────────────────────────────────────────────────────────


def write_file(path: PathLike, content: bytes, *, durable: bool = False) -> None:
    """Write a whole file, or nothing: `written`. Raises BadOutput with the path and the reason."""
    with written(path, durable=durable) as file:
        file.write(content)


@contextmanager
def written(path: PathLike, *, durable: bool = False) -> Iterator[BinaryIO]:
    """A file to write, which gets its name when all of it is written, and is gone if anything is raised before.

    With `durable` it is on the disk by then: what later runs will rely on outlives a power cut. Raises BadOutput, with
    the path and the reason, for what cannot be written.
    """
    path = Path(path)
    check_output(path)
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        aside.unlink(missing_ok=True)  # a link planted under this name would be followed
        with aside.open("xb") as file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.replace(aside, path)
        if durable:
            _settle(path.parent)
    except OSError as error:
        raise BadOutput(
            f"{path} cannot be written ({in_one_line(error)}): choose a folder that exists and has space"
        ) from None
    finally:
        with suppress(OSError):
            aside.unlink(missing_ok=True)


def plain(name: PathLike) -> str:
    r"""A name of a file as text that can be written anywhere; what is no UTF-8 in it is escaped.

    >>> plain(os.fsdecode(b"J\xfcrgen.jpg"))
    'J\\xfcrgen.jpg'
    """
    return os.fsencode(name).decode(errors="backslashreplace")


def named(path: PathLike) -> Path:
    """The file that `plain` was told the name of, if there is one, else the path as it is."""
    path = Path(path)
    if "\\x" in str(path) and not path.exists():
        escaped = re.sub(rb"\\x([89a-f][0-9a-f])", lambda found: bytes([int(found[1], 16)]), os.fsencode(path))
        other = Path(os.fsdecode(escaped))
        return other if other.exists() else path
    return path


def make_folder(folder: PathLike, *inputs: PathLike) -> None:
    """Make a folder for results, unless it is there, and clear it of what killed runs left.

    Raises BadOutput for a path that cannot be a folder, or is one of the `inputs`.
    """
    for given in inputs:
        if os.path.isdir(given) and os.path.isdir(folder) and os.path.samefile(given, folder):
            raise BadOutput(f"{folder} is what is read: results would lie among it; choose another folder")
    try:
        os.makedirs(folder, exist_ok=True)
        for name in os.listdir(folder):
            left = _LEFT.fullmatch(name)
            if left and not runs(int(left[1])):
                os.unlink(os.path.join(folder, name))
    except (OSError, ValueError) as error:
        why = in_one_line(error)
        raise BadOutput(f"{folder} cannot be made or used as a folder for results ({why}): choose another") from None


_LEFT = re.compile(r"\..+\.([0-9]{1,10})\.part")
"""what `written` calls a file until it is whole"""


def runs(process: int) -> bool:
    """Whether there is such a process on this machine; True where nobody can tell."""
    if os.name != "posix":
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    return True


def seal(file: PathLike, about: str, *files: PathLike) -> None:
    """Note, in a small file, that `files` are finished: a digest of `about` (what they were made from) and of them."""
    write_file(file, _digest(about, *files).encode(), durable=True)


def sealed(file: PathLike, about: str, *files: PathLike) -> bool:
    """Whether `files` are those that were sealed, made from the same, and whole to the last bit."""
    try:
        return read_bytes(file, 1000) == _digest(about, *files).encode()
    except BadData:
        return False


def _digest(about: str, *files: PathLike) -> str:
    return hashlib.sha256("\n".join([about, *(sha256(Path(file)) for file in files)]).encode()).hexdigest()


def check_output(path: PathLike, *inputs: PathLike) -> None:
    """Raise BadOutput, before any work, for a path that no file can be written to, or that is one of the `inputs`."""
    path = Path(path)
    try:
        status = path.stat()
    except FileNotFoundError:
        status = None
    except (OSError, ValueError) as error:  # ValueError: a path with a null byte in it
        raise BadOutput(f"{path} cannot be written ({in_one_line(error)}): choose another path") from None
    if status is not None and not stat.S_ISREG(status.st_mode):
        what = "a folder" if stat.S_ISDIR(status.st_mode) else "not an ordinary file (a pipe or a device)"
        raise BadOutput(f"{path} is {what}, and is not written over: choose another path")
    for given in inputs:
        if status is not None and os.path.exists(given) and os.path.samefile(given, path):
            raise BadOutput(f"{path} is what is read, and would be written over: choose another path")
    if not os.path.isdir(path.parent):
        raise BadOutput(f"{path} cannot be written (there is no folder {path.parent}): choose a folder that exists")
    if not os.access(path.parent, os.W_OK):
        raise BadOutput(f"{path} cannot be written (Permission denied): choose a folder that you may write to")


def _settle(folder: Path) -> None:
    """Put what was renamed in a folder on the disk; systems that cannot open folders do it by themselves."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself: whoever opens it says so
        return False


def _counts(name: str) -> bool:
    return not name.startswith(".") and name.lower() not in LEFT_BY_SYSTEMS


def _unlistable(error: OSError) -> BadData:
    return BadData(f"the folder {error.filename} cannot be listed ({error.strerror}): check its permissions")
