"""Whoever is to be found later: from what `sameface bulk` wrote, from saved results, or from folders of photos.

One piece at a time, of at most AT_ONCE people. Who cannot be taken is told with a reason, and costs nobody else.
"""

import os
from collections.abc import Container, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from sameface.bulk import people_list
from sameface.bulk.bulk import ABOUT, PERSONS, whole_shards
from sameface.bulk.shard import Options, shard_rows
from sameface.core.errors import BadData, BadOutput, SameFaceError
from sameface.core.files import hint, names_in, plain, read_json
from sameface.core.tables import read_table, rows_of_lists
from sameface.morphable import default
from sameface.photo.face import mean_code
from sameface.photo.predictor import CODE
from sameface.search.store import People
from sameface.verification.sides import SAVED, Side, read_side

__all__ = ["Piece", "Problem", "check_source", "code_of", "is_bulk", "one_of_bulk", "pieces"]

AT_ONCE = 4096
"""people of saved results in a piece"""
PHOTOS_AT_ONCE = 32
"""people in a piece whose photos are measured here: what a kill costs"""
LAYOUT = "persons/ of `sameface bulk`"
COLUMNS = {
    "person": "text", "used": "whole", "error": "text", "message": "text", "identity": "list", "code": "list",
}  # fmt: skip
RESULT = "result.json"
LONGEST_NAME = 4096
"""characters"""

Problem = tuple[str, str, str]
"""person, kind of problem, message"""


class Piece(NamedTuple):
    """Some people of a source."""

    people: People
    problems: list[Problem]


def pieces(
    source: str | Path, about: dict[str, Any], known: Container[str], *, each: bool, predictor: str, min_score: float
) -> Iterator[Piece]:
    """Everybody in a source: a folder of `sameface bulk`, saved results, or folders of photos (`people_list.people`).

    `about` are the networks of the index; people whose photos would have to be measured and who are `known` are passed
    over. Raises BadData for a source that cannot be read or was made by other networks.
    """
    path = Path(source)
    if is_bulk(path):
        yield from _bulk(path, about)
    elif saved := _saved(path):
        for begin in range(0, len(saved), AT_ONCE):
            yield _results(saved[begin : begin + AT_ONCE], source, about)
    else:
        yield from _photos(source, known, each, Options(each=each, predictor=predictor, min_score=min_score))


def check_source(source: str | Path, folder: Path) -> None:
    """Raise BadData for a source that is not there, ValueError for a file that holds no people, BadOutput for a folder
    that the folder of the index lies in."""
    path = Path(source)
    if not path.exists():
        raise BadData(f"there is no file or folder {source}{hint(str(source))}")
    if path.is_file() and path.suffix.lower() not in people_list.LIST_SUFFIXES and not _saved(path):
        raise ValueError(
            f"{source} is one file; an index takes folders whose sub-folders are persons, a list of photos "
            f"({', '.join(people_list.LIST_SUFFIXES)}), a folder of `sameface bulk`, and saved results"
        )
    inside = Path(os.path.realpath(folder)).is_relative_to(os.path.realpath(source))
    if inside and path.is_dir() and not is_bulk(path):
        raise BadOutput(f"{folder} lies in {source}, whose folders are persons: choose another folder for the index")


def is_bulk(path: Path) -> bool:
    """Whether a folder is what `sameface bulk` writes."""
    return (path / ABOUT).is_file() and (path / PERSONS).is_dir()


def one_of_bulk(folder: Path, person: str, about: dict[str, Any]) -> People:
    """One person of a bulk folder, by name. Raises BadData."""
    for piece in _bulk(folder, about):
        for name, kind, message in piece.problems:
            if name == person:
                raise BadData(f"{person} of {folder} has no face ({kind}: {message})")
        if person in piece.people.person:
            return piece.people.rows([piece.people.person.index(person)])
    raise BadData(f"{folder} has no person {person!r}; the column person of {folder / PERSONS} names them")


def code_of(side: Side) -> Float[np.ndarray, " C"]:
    """Of the photos of a side, of unit length; zeros where there is none."""
    code = mean_code(side.seen)
    return np.zeros(CODE, np.float32) if code is None else code.astype(np.float32)


# ── inside ─────────────────────────────────────────────────────────────────────────────────────────────────


def _bulk(folder: Path, about: dict[str, Any]) -> Iterator[Piece]:
    told = read_json(folder / ABOUT)
    for name, ours in (("morphable", about["model"]), ("fingerprint", about["fingerprint"])):
        if not isinstance(told, dict) or told.get(name) != ours:
            raise BadData(
                f"{folder} was made by other networks or another model ({name} is not that of the index): people can "
                "be compared only where the same networks measured them. Run bulk anew, or make another index"
            )
    files, missing = whole_shards(folder, told)
    for file in files:
        yield _rows(read_table(file, COLUMNS, LAYOUT), file, str(folder))
    if missing:
        message = f"{missing} of {len(files) + missing} files are not there or damaged: call bulk again, then this"
        yield Piece(_nobody(), [(plain(str(folder)), "Unfinished", message)])


def _rows(table: Any, file: Path, source: str) -> Piece:
    names, errors, messages = (table[name].to_pylist() for name in ("person", "error", "message"))
    used, identities, codes = table["used"].to_pylist(), *(rows_of_lists(table[n]) for n in ("identity", "code"))
    sizes, taken, problems = {"identity": default().n_identity, "code": CODE}, [], []
    for k, (name, error) in enumerate(zip(names, errors, strict=True)):
        if error is not None or identities[k] is None:
            problems.append((str(name), error or "NoFaceFound", messages[k] or "the row has no identity"))
        elif _odd(identities[k], sizes["identity"]) or (codes[k] is not None and _odd(codes[k], sizes["code"])):
            raise BadData(f"{file} has rows whose identity or code is not {sizes} finite numbers: run bulk anew")
        elif not name or type(used[k]) is not int or used[k] < 1 or len(name) > LONGEST_NAME:
            raise BadData(f"{file} has a person without a name, or of {used[k]!r} photos: run bulk anew")
        else:
            taken.append(k)
    if not taken:
        return Piece(_nobody(), problems)
    none = np.zeros(CODE, np.float32)
    people = People(
        [names[k] for k in taken], [source] * len(taken), np.array([used[k] for k in taken]),
        np.stack([identities[k] for k in taken]).astype(np.float32),
        np.stack([none if codes[k] is None else codes[k] for k in taken]).astype(np.float32),
    )  # fmt: skip
    return Piece(people, problems)


def _odd(values: np.ndarray, size: int) -> bool:
    return len(values) != size or not np.isfinite(values).all()


def _nobody() -> People:
    return People([], [], np.zeros(0, int), np.zeros((0, default().n_identity)), np.zeros((0, CODE)))


def _saved(path: Path) -> list[tuple[str, Path]]:
    """(name, file) of saved results: one, or those in the folders of a folder; none if these hold photos."""
    if not path.is_dir():
        own = path.name in (RESULT, "face.npz") and path.absolute().parent.name
        return [(plain(own or path.stem), path)] if path.suffix.lower() in SAVED else []
    if (path / RESULT).is_file():
        return [(plain(path.absolute().name), path / RESULT)]
    inside = names_in(path, folders=True)
    return [(plain(name), path / name / RESULT) for name in inside if (path / name / RESULT).is_file()]


def _results(saved: list[tuple[str, Path]], source: str | Path, about: dict[str, Any]) -> Piece:
    rows, problems = [], []
    for name, file in saved:
        try:
            side = read_side(file, "default", 0.0)
            if side.identity is None or side.photos is None:
                raise BadData(f"{file} is a mesh, which has no identity; give photos, a result.json or a face.npz")
            if side.predictor != about["predictor"]:
                made = side.predictor or "networks that it does not name"
                raise BadData(f"{file} was made by {made}, the index by {about['predictor']}: make it anew")
            rows.append((name, side.photos, side.identity, code_of(side)))
        except SameFaceError as error:
            problems.append((name, type(error).__name__, str(error)))
    return Piece(_of(rows, plain(source)), problems)


def _photos(source: str | Path, known: Container[str], each: bool, options: Options) -> Iterator[Piece]:
    root, everybody, _ = people_list.people(source, each=each)
    new = ((name, paths) for name, paths in everybody if name not in known)
    while some := list(islice(new, PHOTOS_AT_ONCE)):
        most = people_list.MOST_PHOTOS
        many = [(name, "BadData", f"{name} has {len(paths)} photos; at most {most}") for name, paths in some
                if len(paths) > most]  # fmt: skip
        listed = [(path, name) for name, paths in some if len(paths) <= most for path in paths]
        _, persons = shard_rows(listed, root, options, _nothing)
        found = [row for row in persons if row.get("error") is None]
        rows = [(row["person"], row["used"], row["identity"], row["code"]) for row in found]
        problems = [(row["person"], row["error"], row["message"]) for row in persons if row.get("error") is not None]
        yield Piece(_of(rows, plain(source)), many + problems)


def _nothing(what: str, seconds: float) -> None: ...


def _of(rows: list[tuple[str, int, np.ndarray, np.ndarray | None]], source: str) -> People:
    if not rows:
        return _nobody()
    names, photos, identities, codes = zip(*rows, strict=True)
    codes = [np.zeros(CODE) if code is None else code for code in codes]
    values = (np.stack(some).astype(np.float32) for some in (identities, codes))
    return People(list(names), [source] * len(names), np.array(photos), *values)
