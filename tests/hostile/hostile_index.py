"""Folders of an index whose files were bent, by somebody who can compute checksums."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from hostile_inputs import Case, npy, put, variants

from sameface.bulk.bulk import fingerprint_of
from sameface.core.errors import SameFaceError
from sameface.core.files import sha256
from sameface.morphable import default
from sameface.photo.predictor import CODE, networks_name, networks_sha256
from sameface.search import approximate
from sameface.search.store import ABOUT, People, Store

PEOPLE = 300
TOLD = (
    {"version": 2}, {"parts": None}, {"parts": [{}] * 20_000}, {"parts": [{"people": -1, "files": {}}]}, {"model": 3},
    {"approximate": {"people": 300, "trained": "x", "files": {}}}, {"approximate": []}, {"networks_sha256": None},
    {"approximate": {"people": 300, "trained": 300, "files": {"shape": ["../../etc/passwd", "0"]}}},
)  # fmt: skip
"""of index.json, what cannot be"""
NAMES = (
    {"person": ["a"] * PEOPLE, "photos": [1] * PEOPLE, "sources": [], "source": [10**9] * PEOPLE},
    {"person": [["a"]] * PEOPLE, "photos": [1] * PEOPLE, "sources": ["a"], "source": [0] * PEOPLE},
    {"person": ["a\x1b[2J\n"] * PEOPLE, "photos": [10**30] * PEOPLE, "sources": ["\x00"], "source": [0] * PEOPLE},
    {"person": ["a"] * PEOPLE, "photos": [-1] * PEOPLE, "sources": ["a"], "source": [-1] * PEOPLE}, [1, 2], None,
)  # fmt: skip
"""of the names, what cannot be"""


def indices(work: Path, rng: np.random.Generator) -> Iterator[Case]:
    """`search` in such a folder; with faiss, in bent cells too."""
    whole = work / "indices" / "whole"
    _written(whole, rng)
    told = json.loads((whole / ABOUT).read_text())
    files = {kind: name for kind, (name, _) in told["parts"][0]["files"].items()}
    cells = {kind: name for kind, (name, _) in (told["approximate"] or {"files": {}})["files"].items()}
    bent: list[tuple[str, str, object]] = []
    for kind, name in {"about": ABOUT, **files, **cells}.items():
        bent += [(f"{kind}-{how}", name, what) for how, what in variants((whole / name).read_bytes(), rng).items()]
    bent += [(f"told-{k}", ABOUT, json.dumps(told | one).encode()) for k, one in enumerate(TOLD)]
    bent += [(f"names-{k}", files["people"], json.dumps(one).encode()) for k, one in enumerate(NAMES)]
    for k, shape in enumerate(((1 << 60, CODE), (PEOPLE, 1 << 60), (0, 0), (-1, -1), (PEOPLE * CODE,), ())):
        bent.append((f"header-{k}", files["codes"], npy(shape, "<f4", b"\0" * 100)))
    bent.append(("nan", files["places"], npy((PEOPLE, 80), "<f4", b"\xff" * (PEOPLE * 320))))
    bent.append(("object", files["codes"], npy((PEOPLE, CODE), "|O", b"\x80\x04." * 100)))
    for how, name, what in bent:
        folder = work / f"index-{how}"
        shutil.copytree(whole, folder / "people.index")
        put(folder / "people.index" / name, what)
        if isinstance(what, bytes) and name != ABOUT:
            _believed(folder / "people.index", name)
        query = ["people.index:p7", "--by", "code" if "code" in how or "header" in how else "shape"]
        yield Case("search", folder.name, ["search", "people.index", *query, "--out", "out.json"])


def _written(folder: Path, rng: np.random.Generator) -> None:
    about = {"predictor": networks_name(), "networks_sha256": networks_sha256(), "model": default().name}
    store = Store.create(folder, about | {"fingerprint": fingerprint_of("default")})
    numbers = rng.normal(size=(PEOPLE, default().n_identity + CODE)).astype(np.float32)
    names = [f"p{k}" for k in range(PEOPLE)]
    store.add(People(names, ["drawn"] * PEOPLE, np.ones(PEOPLE, int), numbers[:, :-CODE], numbers[:, -CODE:]))
    usual, approximate.FROM = approximate.FROM, PEOPLE
    try:
        store.nearby = approximate.extended(store)
    except ImportError:
        pass  # then there are no cells to bend
    finally:
        approximate.FROM = usual
    store.commit()


def _believed(folder: Path, name: str) -> None:
    """Write the checksum that a bent file has now."""
    told = json.loads((folder / ABOUT).read_text())
    for files in (told["parts"][0]["files"], (told["approximate"] or {"files": {}})["files"]):
        for one in files.values():
            if one[0] == name:
                try:
                    one[1] = sha256(folder / name)
                except SameFaceError:  # a pipe, a loop: nobody can
                    return
    (folder / ABOUT).write_text(json.dumps(told))
