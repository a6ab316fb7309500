"""Who is to be found: photos of one person, a saved result, or a row of a bulk run or of an index."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from sameface.core.errors import BadData
from sameface.search.people import code_of, is_bulk, one_of_bulk
from sameface.search.store import ABOUT, Store
from sameface.verification.sides import Person, read_side

__all__ = ["Asked", "asked"]


@dataclass(frozen=True)
class Asked:
    """Somebody to find."""

    name: str
    identity: Float[np.ndarray, " S"]
    code: Float[np.ndarray, " C"]
    """zeros: none"""
    photos: int
    sha256: str | None
    dropped: tuple[tuple[str, str, str], ...] = ()
    notes: tuple[str, ...] = ()
    row: int | None = None
    """of themselves, where they are asked for out of this index"""


def asked(given: Sequence[Person], store: Store, predictor: str, min_score: float) -> Asked:
    """Whoever is given, measured or read. Raises as `verify` does, and BadData for what other networks made."""
    if not given:
        raise ValueError("give somebody to find: photos of one person, a saved result, or FOLDER:PERSON")
    one, about = given[0], store.about
    if len(given) == 1 and isinstance(one, str) and (row := _row(one, store)) is not None:
        return row
    several: Any = one if len(given) == 1 else list(given)
    side = read_side(several, predictor, min_score)
    if side.identity is None or side.photos is None:
        raise BadData(f"{side.name} is a mesh, which has no identity; give photos, a result.json or a face.npz")
    if side.predictor != about["predictor"]:
        made = side.predictor or "networks that it does not name"
        raise BadData(f"{side.name} was made by {made}, the index by {about['predictor']}: make it anew")
    return Asked(side.name, side.identity, code_of(side), side.photos, side.sha256, side.dropped, side.notes)


def _row(name: str, store: Store) -> Asked | None:
    """FOLDER:PERSON, if there is such a folder; either may have a colon in its name."""
    if os.path.exists(name):
        return None
    for k in (k for k, letter in enumerate(name) if letter == ":"):
        folder, person = Path(name[:k]), name[k + 1 :]
        if is_bulk(folder):
            row = one_of_bulk(folder, person, store.about)
            return Asked(name, row.identity[0], row.code[0], int(row.photos[0]), store.about["networks_sha256"])
        if (folder / ABOUT).is_file():
            return _of_index(name, folder, person, store)
    return None


def _of_index(name: str, folder: Path, person: str, store: Store) -> Asked:
    here = os.path.samefile(folder, store.folder)
    other = store if here else Store.open(folder)
    if other.about != store.about:
        raise BadData(f"{folder} and {store.folder} were made by different networks: people in them cannot be compared")
    for first, part in zip(other.begins, other.parts, strict=True):
        names, _, photos = part.people
        if person in names:
            k = names.index(person)
            identity, code = (np.array(part.arrays[kind][k], np.float32) for kind in ("identities", "codes"))
            row = int(first) + k if here else None
            return Asked(name, identity, code, photos[k], other.about["networks_sha256"], row=row)
    raise BadData(f"{folder} has no person {person!r}: names are those of the folders or rows that it was made of")
