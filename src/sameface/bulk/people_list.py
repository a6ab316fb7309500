"""Who is in the photos: folders or a list → everybody's photos, one person at a time, and the plan of a bulk run."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from csv import reader
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

from sameface.core.errors import BadData, BadPhoto, in_one_line
from sameface.core.files import hint, open_file, plain, walk
from sameface.photo import image

__all__ = ["LIST_SUFFIXES", "MOST_PHOTOS", "people", "write"]

LIST_SUFFIXES = (".parquet", ".csv", ".tsv", ".txt")
MOST_PHOTOS = 2000
"""of one person; they are fitted together, which takes 0.3 MB each"""
AT_ONCE = 65536
"""rows of a list that are Python objects at a time"""
LONGEST_LINE = 1 << 16
"""bytes of the line that names the columns"""


LeftOut = dict[str, tuple[int, str]]
"""what lies in folders and is nobody's photo: videos, other files, folders → how many, and the first one's path"""


def people(
    sources: str | Path | Sequence[str | Path], *, each: bool = False
) -> tuple[Path, Iterator[tuple[str, list[str]]], LeftOut]:
    """(root, everybody as (person, photos), what is left out): paths relative to the root, or in full.

    A folder: every sub-folder is a person, named like it, and its photos are those directly in it. With `each`: every
    photo in the folder, at any depth, is somebody of its own, named like its path; links to folders are not followed.
    What is left out is counted while everybody is read.

    A list: a Parquet file with the columns path and person, or text whose first line names these columns, in any order,
    in capitals or not, with tabs, commas, semicolons or | between them. Paths are relative to the list's folder. Photos
    without a person, and all of them with `each`, are somebody of their own, named like their path. A list is given
    alone.

    Raises ValueError for sources that cannot be meant, BadData for those that cannot be read.
    """
    sources = [sources] if isinstance(sources, str | os.PathLike) else sources
    given = [Path(os.path.abspath(Path(source).expanduser())) for source in sources]
    for source, path in zip(sources, given, strict=True):
        if not path.exists():
            raise BadData(f"there is no file or folder {source}{hint(os.fspath(source))}")
    lists = [path for path in given if not path.is_dir()]
    if not given:
        raise ValueError("give a folder of photos, or a list: sameface bulk PEOPLE --out FACES")
    for path in lists:
        if path.suffix.lower() not in LIST_SUFFIXES or len(given) > 1:
            raise ValueError(
                f"bulk takes folders, or one list ({', '.join(LIST_SUFFIXES)}), but was given {path.name}"
                f"{' among others' if len(given) > 1 else ''}; for single photos there is `sameface reconstruct`"
            )
    if lists:
        return lists[0].parent, _listed(lists[0], each), {}
    for k, folder in enumerate(given):
        for other in given[:k] + given[k + 1 :]:
            if Path(os.path.realpath(folder)).is_relative_to(os.path.realpath(other)):
                raise ValueError(f"{folder} is in {other}, so its photos would count twice; give one of them")
    left: LeftOut = {}
    return Path("/"), _alone(given, left) if each else _in_folders(given, left), left


def write(everybody: Iterator[tuple[str, list[str]]], file: Any, size: int) -> tuple[list[int], int, int, str]:
    """Write the plan to an open binary file: a Parquet file of (path, person) with one row group per shard.

    A shard has at most `size` photos, or is one person. Returns the shards' numbers of photos, the numbers of photos
    and persons, and a hash of the rows. Raises BadData if there is nobody, or a person with more than MOST_PHOTOS.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    sizes, persons, digest = [], 0, hashlib.sha256()
    held: list[tuple[str, str]] = []
    with pq.ParquetWriter(file, pa.schema({"path": pa.string(), "person": pa.string()}), compression="zstd") as writer:

        def flush() -> None:
            if held:
                paths, names = zip(*held, strict=True)
                writer.write_table(pa.table({"path": paths, "person": names}), row_group_size=len(held))
                digest.update("".join(f"{path}\0{name}\n" for path, name in held).encode())
                sizes.append(len(held))
                held.clear()

        for person, paths in everybody:
            if len(paths) > MOST_PHOTOS:
                raise BadData(
                    f"person {person} has {len(paths)} photos, more than {MOST_PHOTOS}: they would not fit into memory "
                    "together. Give fewer of them, or with --each every photo is somebody of its own"
                )
            if len(held) + len(paths) > size:
                flush()
            held += [(path, person) for path in paths]
            persons += 1
        flush()
    if not sizes:
        raise BadData("there is not one photo in what was given; check the folder or the list")
    return sizes, sum(sizes), persons, digest.hexdigest()[:16]


# ── folders ────────────────────────────────────────────────────────────────────────────────────────────────


def _in_folders(folders: Sequence[Path], left: LeftOut) -> Iterator[tuple[str, list[str]]]:
    """The sub-folders' photos; a sub-folder without any stands for itself, so that its row says so."""
    known: dict[str, Path] = {}
    for folder in folders:
        for person in _persons_in(folder, left):
            name = person.name
            if name in known:
                raise ValueError(
                    f"{known[name] / name} and {person} have the same name; are they one person? Give a list "
                    "with the columns path and person"
                )
            known[name] = folder
            try:
                inside = image.parted(person)
            except BadPhoto:
                yield _text(name), [_text(person)]
                continue
            _count(left, inside.videos, inside.others, inside.folders)
            yield _text(name), [_text(photo) for photo in inside.photos or [person]]


def _persons_in(folder: Path, left: LeftOut) -> list[Path]:
    inside = image.parted(folder)
    if inside.photos:
        raise ValueError(
            f"{folder} holds photos ({inside.photos[0].name}) outside the folders of persons; whose are they? With "
            "--each every photo is somebody of its own; else put them into a sub-folder of their person"
        )
    _count(left, inside.videos, inside.others)
    return inside.folders


def _alone(folders: Sequence[Path], left: LeftOut) -> Iterator[tuple[str, list[str]]]:
    for top in folders:
        for folder, _ in walk(top):
            inside = image.parted(folder)
            _count(left, inside.videos, inside.others, [one for one in inside.folders if one.is_symlink()])
            for photo in inside.photos:
                path = _text(photo)
                yield path, [path]


def _count(left: LeftOut, *found: Sequence[Path]) -> None:
    for what, some in zip(("video", "other file", "folder"), found, strict=False):
        if some:
            count, first = left.get(what, (0, _text(some[0])))
            left[what] = count + len(some), first


def _text(path: str | Path) -> str:
    """A path as text that can be written to a file."""
    return plain(path)


# ── lists ──────────────────────────────────────────────────────────────────────────────────────────────────


def _listed(file: Path, each: bool) -> Iterator[tuple[str, list[str]]]:
    """Persons in order of appearance; the list is held as Arrow columns, and a piece of it as Python objects."""
    import pyarrow as pa
    import pyarrow.compute

    compute: Any = pyarrow.compute  # whose functions are made when it is imported
    table = _table(file)
    path = table["path"].combine_chunks()
    if path.null_count or compute.any(compute.equal(path, "")).as_py():
        raise BadData(f"{file} has rows without a path; every row of a list names a photo")
    person = path
    if not each and "person" in table.column_names:
        given = table["person"].combine_chunks()
        person = compute.if_else(compute.equal(given.fill_null(""), ""), path, given)
    owner = person.dictionary_encode().indices.to_numpy()  # persons are numbered in order of appearance
    rows, order = pa.table({"path": path, "person": person}), np.argsort(owner, kind="stable")

    def one_by_one() -> Iterator[tuple[str, str]]:
        for start in range(0, len(order), AT_ONCE):
            part = rows.take(order[start : start + AT_ONCE])
            yield from zip(part["person"].to_pylist(), part["path"].to_pylist(), strict=True)

    for name, group in groupby(one_by_one(), itemgetter(0)):
        yield name, [one for _, one in group]


def _table(file: Path) -> Any:
    """The columns path and, if it is there, person, as strings. Raises BadData."""
    import pyarrow as pa
    import pyarrow.csv as csv
    import pyarrow.parquet as pq

    text = pa.large_string()  # more than 2 GB of paths are not too many
    try:
        with open_file(file) as opened:
            if file.suffix.lower() == ".parquet":
                parquet = pq.ParquetFile(opened)
                wanted = _wanted(file, parquet.schema_arrow.names)
                table = parquet.read(columns=list(wanted.values()))
            else:
                first = opened.readline(LONGEST_LINE)
                between, names = _header(first)
                wanted = _wanted(file, names)
                opened.seek(0)
                kinds = csv.ConvertOptions(column_types=dict.fromkeys(names, text), strings_can_be_null=False)
                names_first = csv.ReadOptions(column_names=names, skip_rows=1)
                table = csv.read_csv(opened, names_first, csv.ParseOptions(delimiter=between), kinds)
        return pa.table({name: table[theirs].cast(text) for name, theirs in wanted.items()})
    except (OSError, ValueError, pa.ArrowException) as error:
        why = in_one_line(error)
        raise BadData(f"{file} cannot be read as a list of photos ({why}): check it, or write it as Parquet") from None


def _header(line: bytes) -> tuple[str, list[str]]:
    """What stands between the columns of a list as text, and their names: whatever splits off a column path."""
    first = line.decode("utf-8-sig").rstrip("\r\n")
    split = {between: next(reader([first], delimiter=between), [""]) for between in "\t,;|"}
    return next(((b, names) for b, names in split.items() if "path" in map(_plain, names)), ("\t", split["\t"]))


def _wanted(file: Path, names: Sequence[str]) -> dict[str, str]:
    """path and person → what the list calls them, in capitals or not. Raises BadData."""
    theirs = {name: [one for one in names if _plain(one) == name] for name in ("path", "person")}
    if len(set(names)) < len(names) or max(map(len, theirs.values())) > 1:
        raise BadData(f"{file} has two columns of one name among {', '.join(names)}; name them apart")
    if not theirs["path"]:
        raise BadData(
            f"{file} has no column path, only {', '.join(names) or 'none'}; a list has the columns path and, where "
            "photos belong to persons, person (in text they are named in the first line)"
        )
    return {name: found[0] for name, found in theirs.items() if found}


def _plain(name: str) -> str:
    return name.strip().lower()
