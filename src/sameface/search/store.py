"""The folder of an index: who is in it, in numbered parts of at most PART people, and one file that says which count.

    index.json                       the networks, and of each part its files and their SHA-256
    000000-<digest>-people.json      names, where each comes from, numbers of photos
    000000-<digest>-identities.npy   (N, S) float32, σ
    000000-<digest>-places.npy       (N, S) float32, mm (`places`)
    000000-<digest>-codes.npy        (N, 192) float32 of unit length; zeros where there is none

A part is written whole, under a name of its own, before index.json names it, and index.json is replaced in one step. So
a kill leaves the index of before or the one of after; what it does not name is nothing, and is swept up by the next
who writes. A part is filled up before the next one begins: an index does not depend on how often it was called.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from sameface.core.errors import BadData, BadOutput, in_one_line
from sameface.core.files import make_folder, open_file, read_json, sha256, write_file
from sameface.morphable import default
from sameface.photo.predictor import CODE
from sameface.search.places import places

__all__ = ["PART", "People", "Store"]

VERSION = 1
PART = 65_536
"""people; the arrays of a part take 92 MB"""
MOST_PARTS = 16_384
"""a thousand million people"""
MOST_PHOTOS = 1 << 31
"""of one person"""
ABOUT, LOCK = "index.json", "index.lock"
LARGEST_ABOUT, LARGEST_PEOPLE = 1 << 26, 1 << 30
"""bytes of index.json, and of the names of one part"""
HEADER = 1 << 12
"""bytes of the longest header of an .npy that is read"""
ARRAYS = {"identities": np.dtype("<f4"), "places": np.dtype("<f4"), "codes": np.dtype("<f4")}


@dataclass(frozen=True, eq=False)
class People:
    """Rows to take into an index, or to write to a part."""

    person: list[str]
    source: list[str]
    """the folder or file that each was taken from"""
    photos: Int[np.ndarray, " N"]
    """how many counted"""
    identity: Float[np.ndarray, "N S"]
    """σ"""
    code: Float[np.ndarray, "N C"]
    """of unit length; zeros: none"""

    def __len__(self) -> int:
        return len(self.person)

    def rows(self, some: Any) -> "People":
        """The rows of these numbers."""
        person, source = ([one[k] for k in some] for one in (self.person, self.source))
        return People(person, source, self.photos[some], self.identity[some], self.code[some])

    @classmethod
    def joined(cls, parts: "list[People]") -> "People":
        """One after the other."""
        return cls(
            [name for one in parts for name in one.person],
            [name for one in parts for name in one.source],
            np.concatenate([one.photos for one in parts]),
            np.concatenate([one.identity for one in parts]),
            np.concatenate([one.code for one in parts]),
        )


@dataclass
class Part:
    """One part of an index, read when it is asked for; its arrays stay on the disk until they are."""

    folder: Path
    count: int
    files: Mapping[str, tuple[str, str]]
    """kind → name, SHA-256"""

    @cached_property
    def people(self) -> tuple[list[str], list[str], list[int]]:
        """Names, sources, numbers of photos."""
        path = self.folder / self.files["people"][0]
        told = read_json(path, LARGEST_PEOPLE)
        try:
            person, photos, sources = told["person"], told["photos"], told["sources"]
            source = [sources[k] for k in told["source"]]
            whole = all(type(n) is int and 0 < n <= MOST_PHOTOS for n in photos) and all(
                type(n) is str for n in [*person, *source]
            )
            if not whole or not len(person) == len(source) == len(photos) == self.count:
                raise ValueError(f"{len(person)} names of {self.count} people")
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise BadData(f"{path} is not the people of an index ({error!r}): make the index anew") from None
        return person, source, photos

    @cached_property
    def arrays(self) -> dict[str, np.ndarray]:
        """By kind, mapped from the disk."""
        sides = {"identities": default().n_identity, "places": default().n_identity, "codes": CODE}
        return {
            kind: _mapped(self.folder / self.files[kind][0], (self.count, sides[kind]), number)
            for kind, number in ARRAYS.items()
        }

    @cached_property
    def coded(self) -> Bool[np.ndarray, " N"]:
        """Who has a code."""
        return np.asarray(self.arrays["codes"].any(1))

    def check(self) -> None:
        """Raise BadData for a file that is not to the last bit what was written."""
        for name, digest in self.files.values():
            if sha256(self.folder / name) != digest:
                raise BadData(f"{self.folder / name} is damaged (its checksum differs): copy or make the index anew")


@dataclass
class Store:
    """An index on the disk: `open` one, or `create` it; `writing` holds others off while people are added."""

    folder: Path
    about: dict[str, Any]
    """predictor, networks_sha256, fingerprint, model"""
    parts: list[Part] = field(default_factory=list)
    nearby: dict[str, Any] | None = None
    """what `approximate` wrote: for how many people, and its files"""
    opened: set[str] = field(default_factory=set)
    """the files that counted when it was opened"""

    @property
    def count(self) -> int:
        """People."""
        return sum(part.count for part in self.parts)

    @cached_property
    def begins(self) -> Int[np.ndarray, " P"]:
        """The number of each part's first person."""
        return np.cumsum([0, *(part.count for part in self.parts)])[:-1]

    @classmethod
    def open(cls, folder: Path, *, check: bool = True) -> "Store":
        """The index in a folder; `check` reads every file once, for its checksum. Raises BadData."""
        file = folder / ABOUT
        if not file.is_file():
            raise BadData(f"{folder} is no index: it has no {ABOUT}; `sameface index {folder} FACES` makes one")
        told = read_json(file, LARGEST_ABOUT)
        try:
            if (told["format"], told["version"]) != ("sameface-index", VERSION):
                raise ValueError(f"format {told['format']!r}, version {told['version']!r}")
            about = {name: _text(told[name]) for name in ("predictor", "networks_sha256", "fingerprint", "model")}
            parts = [_part(folder, one) for one in _list(told["parts"], MOST_PARTS)]
            nearby = told["approximate"]
            if nearby is not None:
                files = {kind: _file(*pair) for kind, pair in nearby["files"].items()}
                nearby = {"people": nearby["people"], "trained": nearby["trained"], "files": files}
                trained, people, count = nearby["trained"], nearby["people"], sum(part.count for part in parts)
                if (
                    not {type(trained), type(people)} == {int}
                    or not 0 < trained <= people <= count
                    or not files.keys() <= {"shape", "code"}
                ):
                    raise ValueError(f"cells of {nearby['people']} people, of {count}")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BadData(f"{file} is not what `sameface index` writes ({error!r}): make the index anew") from None
        if about["model"] != default().name:
            raise BadData(
                f"{folder} belongs to the model {about['model']!r}, but this package ships {default().name!r}"
            )
        store = cls(folder, about, parts, nearby)
        store.opened = store.files
        if check:
            for part in parts:
                part.check()
        return store

    @classmethod
    def create(cls, folder: Path, about: dict[str, Any]) -> "Store":
        """A new, empty index. Raises BadOutput for a folder that holds anything else."""
        make_folder(folder)
        if left := [name for name in os.listdir(folder) if name != LOCK and not _ours(name)]:
            raise BadOutput(f"{folder} holds {sorted(left)[0]} and is no index: give a folder that is empty or new")
        with writing(folder):
            if (folder / ABOUT).is_file():  # somebody was faster
                return cls.open(folder)
            store = cls(folder, about)
            store.commit()
            return store

    @property
    def files(self) -> set[str]:
        """The names of the files that count."""
        cells = (self.nearby or {"files": {}})["files"]
        return {name for part in self.parts for name, _ in part.files.values()} | {name for name, _ in cells.values()}

    def commit(self) -> None:
        """Write index.json: from here on it is what `open` finds.

        Sweeps up files that neither it names nor the one before, nor the one when this was opened: somebody may be
        searching there still.
        """
        kept = self.files | self.opened
        if (self.folder / ABOUT).is_file():
            kept |= Store.open(self.folder, check=False).files
        told = {"format": "sameface-index", "version": VERSION, **self.about, "people": self.count}
        told["parts"] = [{"people": one.count, "files": one.files} for one in self.parts]
        told["approximate"] = self.nearby
        write_file(self.folder / ABOUT, (json.dumps(told, indent=1) + "\n").encode(), durable=True)
        for name in os.listdir(self.folder):
            if name not in kept and name != ABOUT and _ours(name):
                with suppress(OSError):  # where somebody searches still; the next one sweeps
                    os.unlink(self.folder / name)

    def add(self, new: People) -> None:
        """Append people: the last part is filled up, then come new ones. All of them are there at once, or none."""
        parts, rest = list(self.parts), new
        if parts and parts[-1].count < PART and len(new):
            rest = People.joined([_rows(parts.pop()), new])
        for begin in range(0, len(rest), PART):
            some = rest.rows(range(begin, min(begin + PART, len(rest))))
            parts.append(_write(self.folder, len(parts), some))
        self.parts = parts
        vars(self).pop("begins", None)
        self.commit()


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Hold others off who would write to the same index; a process that ends lets go. Raises BadOutput."""
    make_folder(folder)
    with (folder / LOCK).open("ab") as file:
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except ImportError:  # pragma: no cover - Windows: nothing holds two writers apart
            pass
        except OSError as error:
            raise BadOutput(f"{folder} is written to by another process ({in_one_line(error)}): wait for it") from None
        yield


# ── inside ─────────────────────────────────────────────────────────────────────────────────────────────────


def _ours(name: str) -> bool:
    """Whether a file of an index may have that name."""
    return name == ABOUT or name.endswith((".faiss", *(f"-{kind}.npy" for kind in ARRAYS), "-people.json"))


def _text(one: Any) -> str:
    if not isinstance(one, str):
        raise TypeError(f"{one!r} is no text")
    return one


def _list(one: Any, most: int) -> list[Any]:
    if not isinstance(one, list) or len(one) > most:
        raise TypeError(f"no list of at most {most}")
    return one


def _file(name: Any, digest: Any) -> tuple[str, str]:
    """A file's name and checksum; a name that leads out of the folder, or to what is not ours, is refused."""
    if os.path.basename(_text(name)) != name or "\\" in name or not _ours(name) or name == ABOUT:
        raise ValueError(f"{name!r} is no file of an index")
    return name, _text(digest)


def _part(folder: Path, told: Any) -> Part:
    count, files = told["people"], {kind: _file(*told["files"][kind]) for kind in ("people", *ARRAYS)}
    if type(count) is not int or not 0 < count <= PART:
        raise ValueError(f"a part of {count!r} people")
    return Part(folder, count, files)


def _mapped(path: Path, shape: tuple[int, int], kind: np.dtype) -> np.ndarray:
    """An .npy as it lies on the disk. Raises BadData unless it is just such an array: its header is not believed."""
    with open_file(path) as file:
        try:
            if np.lib.format.read_magic(file) != (1, 0):
                raise ValueError("a header of another version")
            told = np.lib.format.read_array_header_1_0(file, max_header_size=HEADER)
            if told != (shape, False, kind):
                raise ValueError(f"an array of {told[0]} {told[2]}")
            begin, size = file.tell(), os.fstat(file.fileno()).st_size
            if size - begin != shape[0] * shape[1] * kind.itemsize:
                raise ValueError(f"{size} bytes")
        except (ValueError, EOFError, OSError, SyntaxError) as error:
            why = in_one_line(error)[:200]
            raise BadData(f"{path} is not {shape} numbers of an index ({why}): make the index anew") from None
        return np.memmap(file, kind, "r", begin, shape)


def _rows(part: Part) -> People:
    person, source, photos = part.people
    arrays = part.arrays
    return People(person, source, np.array(photos), np.array(arrays["identities"]), np.array(arrays["codes"]))


def _write(folder: Path, number: int, some: People) -> Part:
    sources = list(dict.fromkeys(some.source))
    place = {name: k for k, name in enumerate(sources)}
    told = {
        "person": some.person, "photos": some.photos.tolist(), "sources": sources,
        "source": [place[name] for name in some.source],
    }  # fmt: skip
    contents = {"people": (json.dumps(told, ensure_ascii=False) + "\n").encode()}
    length = np.linalg.norm(some.code.astype(np.float64), axis=1, keepdims=True)
    codes = some.code / np.where(length > 0, length, 1)
    values = {"identities": some.identity, "places": places(some.identity), "codes": codes}
    for kind, values_of in values.items():
        buffer = BytesIO()
        np.lib.format.write_array(buffer, np.ascontiguousarray(values_of, ARRAYS[kind]), (1, 0), allow_pickle=False)
        contents[kind] = buffer.getvalue()
    digests = {kind: hashlib.sha256(content).hexdigest() for kind, content in contents.items()}
    mark = hashlib.sha256("".join(digests.values()).encode()).hexdigest()[:12]
    files = {}
    for kind, content in contents.items():
        name = f"{number:06d}-{mark}-{kind}.{'json' if kind == 'people' else 'npy'}"
        write_file(folder / name, content, durable=True)
        files[kind] = name, digests[kind]
    return Part(folder, len(some), files)
