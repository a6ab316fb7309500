"""Who may be near, among so many people that looking at each takes long: an inverted file of faiss, in the index.

People are parted into √N cells around centres (k-means on a sample), 8 bits a number. Of a query the nearest CELLS of
the cells are looked at, and whoever is near there is compared exactly by `index.py`: what may be missed is somebody in
a cell that is not looked at, never a digit of a distance. People that are added fall into the cells there are, until
they are GROWN times as many as those that the centres were made of.
"""

import os
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from sameface.core.errors import BadData, in_one_line
from sameface.core.files import sha256, write_file
from sameface.search.store import Store

__all__ = ["CELLS", "FROM", "Nearby", "extended"]

FROM = 100_000
"""people from which on there is one"""
CELLS = {"shape": 1 / 8, "code": 1 / 4}
"""part of the cells that a query looks at: codes have more directions to lie in (benchmarks/search.json)"""
GROWN = 2.0
SAMPLE = 64
"""people for each centre, to make it of"""
AT_ONCE = 65_536
"""people that are put into cells at a time"""
KINDS = {"shape": "places", "code": "codes"}


class Nearby:
    """The cells of an index, read when they are first asked."""

    def __init__(self, store: Store):
        self.folder, self.about = store.folder, store.nearby or {}

    @cached_property
    def cells(self) -> dict[str, Any]:
        """By kind. Raises BadData for files that are not those that were written."""
        faiss, out = _faiss(), {}
        for kind, (name, digest) in self.about["files"].items():
            path = self.folder / name
            if sha256(path) != digest:
                raise BadData(f"{path} is damaged (its checksum differs): copy or make the index anew")
            faiss.set_deserialization_vector_byte_limit(path.stat().st_size)  # no header is believed that says more
            try:
                out[kind] = faiss.read_index(os.fspath(path))
            except RuntimeError as error:
                raise BadData(f"{path} is not what faiss can read ({in_one_line(error)[:200]})") from None
            if not isinstance(out[kind], faiss.IndexIVF) or out[kind].ntotal > self.about["people"]:
                raise BadData(f"{path} holds no cells, or more people than the index: make the index anew")
        return out

    def rows(self, kind: str, query: Float[np.ndarray, " D"], count: int) -> Int[np.ndarray, " K"]:
        """The numbers of at most `count` people who may be nearest by "shape" or "code"."""
        cells = self.cells[kind]
        if cells.d != len(query):
            raise BadData(f"the cells by {kind} are of {cells.d} numbers, not {len(query)}: make the index anew")
        cells.nprobe = max(1, round(cells.nlist * CELLS[kind]))
        rows = cells.search(query[None].astype(np.float32), count)[1][0]
        return rows[(rows >= 0) & (rows < self.about["people"])]


def extended(store: Store) -> dict[str, Any] | None:
    """Write the cells of all people: of new centres, or of those there are; what index.json should say of them."""
    faiss, count = _faiss(), store.count
    if count < FROM:
        return None
    before = store.nearby or {"people": 0, "trained": 0}
    again = count > GROWN * before["trained"]
    old = {} if again else Nearby(store).cells
    files = {}
    for kind, array in KINDS.items():
        cells, begin = old.get(kind), 0 if again else before["people"]
        if cells is None:
            cells, begin = _centres(faiss, store, array), 0
        if cells is None:
            continue  # nobody has a code
        for rows, values in _pieces(store, array, begin):
            cells.add_with_ids(values, rows)
        content = faiss.serialize_index(cells).tobytes()
        name = f"{count:09d}-{kind}.faiss"
        write_file(store.folder / name, content, durable=True)
        files[kind] = name, sha256(store.folder / name)
    return {"people": count, "trained": count if again else before["trained"], "files": files}


def _faiss() -> Any:
    import faiss  # pyright: ignore[reportMissingImports]

    return faiss


def _pieces(store: Store, array: str, begin: int) -> Any:
    """(numbers, values) of all people from `begin` on who have any."""
    for first, part in zip(store.begins, store.parts, strict=True):
        for k in range(max(0, begin - int(first)), part.count, AT_ONCE):
            values = np.asarray(part.arrays[array][k : k + AT_ONCE], np.float32)
            some = np.flatnonzero(values.any(1))
            yield first + k + some, np.ascontiguousarray(values[some])


def _centres(faiss: Any, store: Store, array: str) -> Any:
    """Empty cells around centres of a sample; None where there is nobody to make them of."""
    number = max(1, int(np.sqrt(store.count)))
    wanted = np.linspace(0, store.count - 1, min(store.count, SAMPLE * number)).astype(int)
    parts = [
        np.asarray(part.arrays[array][wanted[(wanted >= first) & (wanted < first + part.count)] - first], np.float32)
        for first, part in zip(store.begins, store.parts, strict=True)
    ]
    sample = np.concatenate(parts)
    sample = sample[sample.any(1)]
    if len(sample) < 2 * number:
        return None
    cells = faiss.index_factory(sample.shape[1], f"IVF{number},SQ8")
    cells.cp.max_points_per_centroid = SAMPLE
    cells.train(np.ascontiguousarray(sample))
    return cells
