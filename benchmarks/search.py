"""A person among a million: `OMP_NUM_THREADS=1 python benchmarks/search.py` → benchmarks/search.json.

PEOPLE who do not exist, as spread as real ones: of photos of the face table (two each of persons, one each of
FairFace's strangers) come the mean and the covariance of people and of one person's photos, over shape and code
together (80 + 192 numbers). A person is drawn from the first normal distribution, each photo adds one of the second;
queries are second photos of QUERIES people of the index. So recall is that of somebody really looked for, and people
lie as near to each other as a normal distribution lets them.

Looked at: everybody (numpy, from the disk's cache), the cells of faiss that the package makes, and LanceDB's IVF_SQ and
IVF_PQ of as many cells, so many of them looked at, and as many people compared again. Every step has a process of its
own, so its memory is its own; recall@10 is against everybody. Seconds and ms are the processor's, of all threads, which
other programs beside this one change little. A peer that is not installed is named.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from sameface.bulk.bulk import fingerprint_of
from sameface.morphable import default
from sameface.photo.face import Photo
from sameface.photo.predictor import networks_name, networks_sha256
from sameface.reconstruction.reconstruct import join, look
from sameface.search import approximate
from sameface.search.asked import Asked
from sameface.search.index import AND, SHORTLIST, Index
from sameface.search.places import places
from sameface.search.store import PART, People, Store

QUERIES, NEAREST, PAIRS, STRANGERS = 50, 10, 350, 700
LONGEST = 420
"""s that a step may take"""
SHARED = Path(os.environ.get("SAMEFACE_SHARED", "../shared"))


def real(seed: int = 0) -> dict[str, np.ndarray]:
    """The mean of real people, and Cholesky factors of how people and photos of one person differ."""
    from sameface.training.datasets import facetable

    faces, rng, by_person = facetable.load(SHARED / "data" / "faces", "train"), np.random.default_rng(seed), {}
    for row, person in enumerate(faces.persons):
        if person:
            by_person.setdefault(person, []).append(row)
    several = [rows for _, rows in sorted(by_person.items()) if len(rows) > 1]
    pairs = [rng.choice(several[k], 2, replace=False) for k in rng.permutation(len(several))[:PAIRS]]
    strangers = rng.permutation([k for k, source in enumerate(faces.sources) if source == "fairface"])[:STRANGERS]
    told: dict[int, np.ndarray] = {}
    for row in [*np.ravel(pairs), *strangers]:
        if (seen := look(Photo(faces.image(int(row)), str(row))).faces) and seen[0][0].code is not None:
            told[int(row)] = np.concatenate([join([seen[0][0]]).identity, seen[0][0].code])
    both = [(told[int(a)], told[int(b)]) for a, b in pairs if int(a) in told and int(b) in told]
    within = np.cov(np.array([(a - b) / np.sqrt(2) for a, b in both]).T)
    every = np.array([told[int(k)] for k in strangers if int(k) in told] + [a for a, _ in both])
    values, vectors = np.linalg.eigh(np.cov(every.T) - within)
    return {
        "mean": every.mean(0),
        "people": vectors * np.sqrt(np.maximum(values, 0)),
        "photos": np.linalg.cholesky(within + 1e-9 * np.eye(len(within))),
        "counts": np.array([len(every), len(both)]),
    }


def drawn(spread: dict[str, np.ndarray], count: int, piece: int, photo: int) -> np.ndarray:
    """(count, 272): a photo of each person of a piece; the people are the same for every photo."""
    people = np.random.default_rng([1, piece]).standard_normal((count, 272), np.float32)
    photos = np.random.default_rng([2, piece, photo]).standard_normal((count, 272), np.float32)
    parts = people @ spread["people"].T.astype(np.float32) + photos @ spread["photos"].T.astype(np.float32)
    out = spread["mean"].astype(np.float32) + parts
    out[:, 80:] /= np.linalg.norm(out[:, 80:], axis=1, keepdims=True)
    return out


def queries(folder: Path, people: int) -> list[Asked]:
    """Second photos of people of the first piece."""
    rows = drawn(dict(np.load(folder / "spread.npz")), min(people, QUERIES), 0, 1)
    return [Asked(f"query {k}", row[:80].astype(np.float64), row[80:], 1, None) for k, row in enumerate(rows)]


# ── steps, each in a process of its own ────────────────────────────────────────────────────────────────────


def write(folder: Path, people: int) -> dict[str, Any]:
    spread, start, drawing = dict(np.load(folder / "spread.npz")), time.process_time(), 0.0
    about = {
        "predictor": networks_name(), "networks_sha256": networks_sha256(), "fingerprint": fingerprint_of("default"),
        "model": default().name,
    }  # fmt: skip
    store = Store.create(folder / "index", about)
    for piece, begin in enumerate(range(0, people, PART)):
        before = time.process_time()
        rows = drawn(spread, min(PART, people - begin), piece, 0)
        names = [f"person-{begin + k:09d}" for k in range(len(rows))]
        new = People(names, ["drawn"] * len(rows), np.ones(len(rows), int), rows[:, :80], rows[:, 80:])
        drawing += time.process_time() - before
        store.add(new)
    return {"seconds": time.process_time() - start - drawing, "bytes": size(folder / "index")}


def everybody(folder: Path, people: int) -> dict[str, Any]:
    start = time.process_time()
    index = Index(folder / "index")
    opened, out = time.process_time() - start, {}
    for by in ("shape", "code"):
        found, seconds = asked(index, folder, people, by)
        np.save(folder / f"{by}.npy", found)
        place = [np.flatnonzero(row == k) for k, row in enumerate(found)]
        out[by] = {"ms": seconds, "found_first": float(np.mean([0 in one for one in place])),
                   "found_in_ten": float(np.mean([len(one) > 0 for one in place]))}  # fmt: skip
    return {"open_seconds": opened} | out


def asked(index: Index, folder: Path, people: int, by: str) -> tuple[np.ndarray, float]:
    """(QUERIES, NEAREST) rows, and the median ms of a query, the exact comparison included."""
    found, seconds = [], []
    for one in [*queries(folder, people)[:3], *queries(folder, people)]:  # the first three warm up
        start = time.process_time()
        rows, _, compared = index._candidates(one, by, NEAREST)
        hits, _ = index._exact(one, rows, by, NEAREST, 0.1, compared)
        seconds.append(time.process_time() - start)
        found.append([int(hit.person.rpartition("-")[2]) for hit in hits])
    return np.array(found[3:]), 1e3 * float(np.median(seconds[3:]))


def cells(folder: Path, people: int) -> dict[str, Any]:
    index = Index(folder / "index", check=False)
    start, before = time.process_time(), size(folder / "index")
    index._make_cells()
    return {"seconds": time.process_time() - start, "bytes": size(folder / "index") - before}


def cells_asked(folder: Path, people: int) -> dict[str, Any]:
    index, out = Index(folder / "index", check=False), {}
    start = time.process_time()
    _ = index._nearby and index._nearby.cells
    out["open_seconds"] = time.process_time() - start
    for by in ("shape", "code"):
        found, ms = asked(index, folder, people, by)
        out[by] = {"ms": ms, "recall": recall(found, folder, by)}
    return out


def lance(folder: Path, people: int, kind: str) -> dict[str, Any]:
    import lancedb
    import pyarrow as pa

    store, start = Store.open(folder / "index", check=False), time.process_time()
    database = lancedb.connect(folder / f"lance-{kind}")

    def batches(array: str) -> Any:
        row = 0
        for part in store.parts:
            values = np.asarray(part.arrays[array], np.float32)
            vectors = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])
            yield pa.RecordBatch.from_arrays([pa.array(np.arange(row, row + len(values))), vectors], ["row", "vector"])
            row += len(values)

    number = int(np.sqrt(people))
    for by, array in approximate.KINDS.items():
        width = store.parts[0].arrays[array].shape[1]
        schema = pa.schema({"row": pa.int64(), "vector": pa.list_(pa.float32(), width)})
        table = database.create_table(by, batches(array), schema=schema)
        pieces = {"num_sub_vectors": width // 4} if kind == "IVF_PQ" else {}
        table.create_index(
            "l2", num_partitions=number, index_type=kind, sample_rate=approximate.SAMPLE, max_iterations=10, **pieces
        )
    return {"seconds": time.process_time() - start, "bytes": size(folder / f"lance-{kind}")}


def lance_asked(folder: Path, people: int, kind: str) -> dict[str, Any]:
    import lancedb

    database, index, out = lancedb.connect(folder / f"lance-{kind}"), Index(folder / "index", check=False), {}
    again = max(SHORTLIST * NEAREST, AND)
    for by in ("shape", "code"):
        probes = max(1, round(int(np.sqrt(people)) * approximate.CELLS[by]))
        table, found, seconds = database.open_table(by), [], []
        for one in [*queries(folder, people)[:3], *queries(folder, people)]:
            start = time.process_time()
            query = places(one.identity[None])[0] if by == "shape" else one.code
            search = table.search(query).limit(again).nprobes(probes).select(["row", "_distance"])
            rows = search.to_arrow()["row"].to_numpy()
            hits, _ = index._exact(one, few(index, rows, query, by), by, NEAREST, 0.1, people)
            seconds.append(time.process_time() - start)
            found.append([int(hit.person.rpartition("-")[2]) for hit in hits])
        out[by] = {"ms": 1e3 * float(np.median(seconds[3:])), "recall": recall(np.array(found[3:]), folder, by)}
    return out


def few(index: Index, rows: np.ndarray, query: np.ndarray, by: str) -> np.ndarray:
    """The rows that are compared exactly, as `Index` takes them from its cells."""
    from sameface.search.index import _apart

    array = approximate.KINDS[by]
    distance = _apart(index._arrays(rows, array), query, array)
    return rows[np.argsort(distance)[: NEAREST + 3]]


def recall(found: np.ndarray, folder: Path, by: str) -> float:
    true = np.load(folder / f"{by}.npy")
    return float(np.mean([len(set(a) & set(b)) / NEAREST for a, b in zip(found, true, strict=True)]))


# ── the whole ──────────────────────────────────────────────────────────────────────────────────────────────


def memory() -> dict[str, int]:
    """What this process had in memory at most (getrusage would count its parent's), and what of it now is no file's."""
    told = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {name: 1024 * int(told[key].split()[0]) for name, key in (("rss_bytes", "VmHWM"), ("own_bytes", "RssAnon"))}


def size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def step(name: str, folder: Path, people: int, *more: str) -> dict[str, Any]:
    """A step in a new process: its numbers, and its memory."""
    command = [sys.executable, __file__, "--step", name, *more, "--folder", str(folder), "--people", str(people)]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=LONGEST)
    except subprocess.TimeoutExpired:
        return {"failed": f"took longer than {LONGEST} s"}
    lines = ran.stdout.strip().splitlines()
    told = (
        json.loads(lines[-1])
        if ran.returncode == 0
        else {"failed": (ran.stderr.strip().splitlines() or [str(ran.returncode)])[-1][:200]}
    )
    print(name, *more, told, flush=True)
    return told


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--people", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, help="for the index; kept (default: a temporary one)")
    parser.add_argument("--step", nargs="+")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    given = parser.parse_args()
    if given.step:
        name, *more = given.step
        told = globals()[name](given.folder, given.people, *more)
        print(json.dumps(told | memory()))
        return
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        folder.mkdir(exist_ok=True)
        if not (folder / "spread.npz").exists():
            np.savez(folder / "spread.npz", **real())
        for old in ("index", "lance-IVF_SQ", "lance-IVF_PQ"):
            shutil.rmtree(folder / old, ignore_errors=True)
        faces, pairs = np.load(folder / "spread.npz")["counts"].tolist()
        told: dict[str, Any] = {
            "command": "python benchmarks/search.py", "people": given.people, "queries": QUERIES, "nearest": NEAREST,
            "drawn_from": {"faces": faces, "pairs_of_photos_of_one_person": pairs},
            "index": step("write", folder, given.people), "everybody": step("everybody", folder, given.people),
            "faiss": step("cells", folder, given.people), "faiss asked": step("cells_asked", folder, given.people),
        }  # fmt: skip
        for kind in ("IVF_PQ", "IVF_SQ"):
            told[f"lancedb {kind}"] = step("lance", folder, given.people, kind)
            if "failed" not in told[f"lancedb {kind}"]:
                told[f"lancedb {kind} asked"] = step("lance_asked", folder, given.people, kind)
            told["seconds, by the clock"] = time.perf_counter() - start
            write_down(told, given.out)


def write_down(told: dict[str, Any], out: Path) -> None:
    """After each peer, so that one that takes for ever costs itself."""
    fast = {name: one for name, one in told.items() if name.endswith("asked") and "shape" in one}
    told["times_everybody"] = {
        name: {by: one[by]["ms"] / told["everybody"][by]["ms"] for by in ("shape", "code")}
        for name, one in fast.items()
    }
    told["cores"], told["load"] = len(os.sched_getaffinity(0)), [round(value, 1) for value in os.getloadavg()]
    out.write_text(json.dumps(rounded(told), indent=1) + "\n")


def rounded(told: Any) -> Any:
    if isinstance(told, dict):
        return {name: rounded(one) for name, one in told.items()}
    return round(told, 4 if told < 10 else 1) if isinstance(told, float) else told


if __name__ == "__main__":
    main()
