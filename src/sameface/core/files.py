"""Files of a user: what a folder holds, without what systems leave in folders, and digests."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from sameface.core.errors import BadData

__all__ = ["names_in", "sha256", "walk"]

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


def names_in(folder: str | os.PathLike[str], *endings: str, folders: bool = False) -> list[str]:
    """The names, sorted, of the files directly in a folder that end so, in any case; with `folders`, of its folders.

    Names with a dot in front and what systems leave in folders do not count. Links are what they lead to; one that
    leads nowhere is a file, so that whoever opens it says so. A folder that is not there holds nothing. Raises BadData
    for one that cannot be listed.
    """
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if _counts(entry.name) and entry.is_dir() == folders]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise _unlistable(error) from None
    return sorted(name for name in names if name.lower().endswith(endings or ("",)))


def walk(folder: str | os.PathLike[str], *endings: str) -> Iterator[tuple[Path, list[str]]]:
    """This folder and each below, in order, with the `names_in` it; links to folders are not followed."""

    def unlistable(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError | NotADirectoryError):
            raise _unlistable(error)

    for path, inside, names in os.walk(folder, onerror=unlistable):
        inside[:] = sorted(filter(_counts, inside))
        yield Path(path), sorted(n for n in names if _counts(n) and n.lower().endswith(endings or ("",)))


def sha256(*files: Path) -> str:
    """Of the content of files, one after the other, as hexadecimal digits."""
    told = hashlib.sha256()
    for file in files:
        told.update(file.read_bytes())
    return told.hexdigest()


def _counts(name: str) -> bool:
    return not name.startswith(".") and name.lower() not in LEFT_BY_SYSTEMS


def _unlistable(error: OSError) -> BadData:
    return BadData(f"the folder {error.filename} cannot be listed ({error.strerror}): check its permissions")
