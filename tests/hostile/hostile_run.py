"""Every hostile input through its door: `make hostile` → results/hostile.json; `--only DOOR …`, `--limit N` for some.

Each case is a process of its own, forked from one that has loaded everything: with a limit on its seconds of
computing, its memory and the size of a file, and the streams it writes to in files. What is counted: tracebacks; hangs
(more than 20 s of computing, or none for 30 s); more than 1.5 GB; rows that are lost; files that are not whole, or lie
outside `out`; inputs that were changed; exit codes without a word. The command ends with 1 unless all are zero.

What cannot be done here is done in its stead: a full disk is a limit on the size of files, and the kills of
`hostile_stops.py` come at random moments.
"""

import argparse
import contextlib
import importlib
import json
import linecache
import os
import re
import resource
import signal
import sys
import tempfile
import time
import traceback
import zipfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hostile_api import NAMES
from hostile_doors import DOORS, cases
from hostile_inputs import Case

SECONDS, STILL, MOST_MEMORY, MOST_WORDS = 20, 30.0, 1_500_000_000, 200_000
"""of computing; without any; bytes; characters"""
EACH = "sameface.cli.bulk sameface.cli.model sameface.cli.people sameface.cli.plugged sameface.reconstruction.outputs"
TABLES = "pyarrow.compute pyarrow.csv pyarrow.parquet"
LOADED = {
    "videos": "av sameface.reconstruction.video", "verify": "sameface.mesh.read sameface.verification.verify",
    "model": "h5py scipy.io sameface.morphable.formats", "bulk": f"{TABLES} sameface.bulk.bulk",
    "data": f"{TABLES} scipy.io sameface.training.fit_set", "export": "sameface.training.export",
    "evaluate": f"{TABLES} matplotlib.pyplot scipy.io scipy.spatial sameface.evaluation.evaluate", "networks": "onnx",
    "synth": "sameface.synthetic.files", "train": f"{TABLES} sameface.training.train",
    "search": "sameface.cli.search sameface.search.index",
    "api": "torch sameface.reconstruction.video sameface.verification.verify",
}  # fmt: skip
"""what the doors would import, each time anew"""
PLUGINS = {"data": ("datasets",), "train": ("datasets", "methods"), "export": ("methods",), "evaluate": ("benchmarks",)}
KINDS = ("traceback", "hang", "memory", "crash", "lost row", "half-written", "outside", "no word", "many words")
STOPS = "stops"
"""no door: commands that are stopped"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=[*DOORS, STOPS], default=[*DOORS, STOPS])
    parser.add_argument("--limit", type=int, default=0, help="at most so many cases of a door, evenly spread")
    parser.add_argument("--keep", type=Path, help="folder to leave the cases in")
    parser.add_argument("--out", type=Path, help="file for the counts")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        table = counted(asked.keep or Path(scratch), asked.seed, asked.only, asked.limit)
    command = "python studies/hostile.py" + (f" --limit {asked.limit}" if asked.limit else "")
    told = {"command": command, "seed": asked.seed, "inputs": sum(row["inputs"] for row in table.values()),
            "limits": {"seconds": SECONDS, "bytes": MOST_MEMORY}, "doors": table}  # fmt: skip
    print(json.dumps(told, indent=1))
    if asked.out is not None:
        asked.out.write_text(json.dumps(told, indent=1) + "\n")
    sys.exit(any(row[kind] for row in table.values() for kind in KINDS))


def counted(work: Path, seed: int, doors: list[str], limit: int = 0) -> dict[str, dict[str, Any]]:
    """Run every case; the counts of each door."""
    loaded(doors)
    table: dict[str, dict[str, Any]] = defaultdict(
        lambda: dict.fromkeys(("cases", "inputs", *KINDS), 0) | {"seconds": 0.0, "MB": 0}
    )
    if STOPS in doors:
        from hostile_stops import stopped

        for name, how, faults in stopped(work / STOPS, seed, start):
            row = table[f"{STOPS}: {how}"]
            row["cases"] += 1
            row["inputs"] += 1
            _note(row, f"{STOPS} {name} {how}", faults)
    for door in doors:
        if door == STOPS:
            continue
        made = list(cases(work, seed, [door]))
        if limit and len(made) > limit:
            made = [made[k * len(made) // limit] for k in range(limit)]
        for case in made:
            faults, seconds, memory = run(case, work / case.name)
            row = table[case.door]
            row["cases"] += 1
            row["inputs"] += case.inputs
            row["seconds"], row["MB"] = round(max(row["seconds"], seconds), 1), max(row["MB"], round(memory / 1e6))
            _note(row, f"{case.door} {case.name}", faults)
    return dict(table)


def _note(row: dict[str, Any], name: str, faults: dict[str, str]) -> None:
    for kind, why in faults.items():
        row[kind] += 1
        print(f"{name}: {kind}: {why[-1500:]}", file=sys.stderr, flush=True)


def loaded(doors: list[str]) -> None:
    """Import what the doors need and run the networks once, so that a fork is ready; in one thread, or it hangs."""
    os.environ["OMP_NUM_THREADS"] = "1"
    import cv2

    from faces import astronaut
    from sameface import reconstruct
    from sameface.core import plugins
    from sameface.photo.predictor import load

    cv2.setNumThreads(1)
    doors = [*LOADED] if STOPS in doors else doors
    for name in " ".join([EACH, *(LOADED.get(door, "") for door in doors)]).split():
        importlib.import_module(name)
    for kind in sorted({kind for door in doors for kind in PLUGINS.get(door, ())}):
        for name in plugins.names(kind):
            plugins.load(kind, name)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    load("identity")
    reconstruct(astronaut())
    from sameface.cli import main

    with contextlib.suppress(SystemExit), open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        main(["verify", "--help"])


# ── one case ───────────────────────────────────────────────────────────────────────────────────────────────


def run(case: Case, folder: Path) -> tuple[dict[str, str], float, int]:
    """What was wrong, by kind; seconds of computing; the most memory."""
    before, there = contents(folder), contents(folder, results=True)
    words = folder.with_suffix(".out"), folder.with_suffix(".err")
    pid = start(case.command, folder, words)
    code, seconds, memory, still = waited(pid)
    out, err = (file.read_text(errors="replace") for file in words)
    faults: dict[str, str] = {}
    if "Traceback (most recent call last)" in err or code == 70:
        faults["traceback"] = err
    elif still or code == -signal.SIGPROF:
        faults["hang"] = f"{seconds:.0f} s of computing"
    elif code not in (0, 1, 2, 3):
        faults["crash"] = f"exit code {code}: {err}"
    if memory > MOST_MEMORY:
        faults["memory"] = f"{memory / 1e6:.0f} MB"
    if not faults and code and not (out + err).strip():
        faults["no word"] = f"exit code {code}"
    if len(out) + len(err) > MOST_WORDS:
        faults["many words"] = f"{len(out) + len(err)} characters"
    changed = before.items() ^ contents(folder).items()
    if changed:
        faults["outside"] = ", ".join(sorted({name for name, _ in changed})[:5])
    if halves := half_written(folder, there):
        faults["half-written"] = ", ".join(halves)
    if case.rows is not None and not faults and (lost := lost_rows(case, folder)):
        faults["lost row"] = lost
    return faults, seconds, memory


def start(command: list[str], folder: Path, words: tuple[Path, Path], first: Callable[[], None] | None = None) -> int:
    """Begin a command in a new process, which does `first` first; returns its number."""
    pid = os.fork()
    if not pid:
        child(command, folder, words, first)
    return pid


def child(command: list[str], folder: Path, words: tuple[Path, Path], first: Callable[[], None] | None) -> None:
    """The command, in a process that ends with it: 70 for a traceback."""
    code = 70
    try:
        for number, file in zip((1, 2), words, strict=True):
            opened = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(opened, number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.chdir(folder)
        resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
        if first is not None:
            first()
        signal.setitimer(signal.ITIMER_PROF, SECONDS)  # whose signal no library catches
        if command[0] == "python":
            code = called(command[1])
        else:
            from sameface.cli import main

            try:
                main(command)
            except SystemExit as error:
                code = error.code if isinstance(error.code, int) else 70
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def called(line: str) -> int:
    """0 if a line of Python ends well; 1, with its words, for an error that sameface raises on purpose, or for what
    Python itself says of the line (that an answer is no list)."""
    names: dict[str, Any] = {}
    exec(NAMES, names)
    try:
        exec(line, names)
    except Exception as error:
        *_, (frame, number) = traceback.walk_tb(error.__traceback__)
        file = frame.f_code.co_filename
        ours = f"{os.sep}sameface{os.sep}" in file and linecache.getline(file, number).lstrip().startswith("raise ")
        if not ours and not (file == "<string>" and isinstance(error, TypeError | AttributeError)):
            raise
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


def waited(pid: int) -> tuple[int, float, int, bool]:
    """Exit code (negative: the signal), seconds of computing, the most memory, and whether it had to be ended."""
    computed, since, still = -1.0, time.monotonic(), False
    while True:
        done, status, used = os.wait4(pid, os.WNOHANG)
        if done:
            break
        now = _computed(pid)
        if now - computed > 0.05:
            computed, since = now, time.monotonic()
        if time.monotonic() - since > STILL:
            os.kill(pid, signal.SIGKILL)
            still = True
        time.sleep(0.01)
    return os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime, used.ru_maxrss * 1024, still


def _computed(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except (OSError, IndexError):
        return 0.0


# ── what is left behind ────────────────────────────────────────────────────────────────────────────────────


def contents(folder: Path, results: bool = False) -> dict[str, tuple[Any, ...]]:
    """Everything in a folder but the results, or these: kind, size, time of change."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = _named(path, folder)
        if bool(re.fullmatch(r"out(\.\w+)?(/.*)?", name, re.DOTALL)) == results:
            status = path.lstat()
            found[name] = (
                status.st_mode,
                0 if path.is_dir() else status.st_size,
                0 if path.is_dir() else status.st_mtime_ns,
            )
    return found


def _named(path: Path, folder: Path) -> str:
    return os.fsencode(path.relative_to(folder)).decode(errors="backslashreplace")


def half_written(folder: Path, before: dict[str, tuple[Any, ...]]) -> list[str]:
    """Results that are not whole, but for files that were there before and are as they were."""
    bad = []
    now = contents(folder, results=True)
    for path in folder.rglob("*"):
        name = _named(path, folder)
        if name not in now or now[name] == before.get(name) or not path.is_file():
            continue
        try:
            if path.suffix == ".part":
                raise ValueError("left over")
            if path.suffix == ".json":
                json.loads(path.read_text())
            if path.suffix == ".parquet":
                import pyarrow.parquet

                pyarrow.parquet.read_table(path)
            if path.suffix == ".npz":
                with zipfile.ZipFile(path) as file:
                    assert file.testzip() is None
        except Exception as error:
            bad.append(f"{name} ({error})")
    return bad


def lost_rows(case: Case, folder: Path) -> str:
    """How many rows are told of, and how many worked, where that is less than it should be."""
    import pyarrow.parquet as pq

    out = folder / "out"
    try:
        if case.door == "bulk":
            rows = [row["error"] for row in pq.read_table(out / "photos").to_pylist()]
        elif case.door == "train":  # one that ends as it should is whole
            return "" if (out / "last.pt").is_file() and (out / "best.pt").is_file() else "the run did not end"
        elif case.door == "fit-set":
            rows = [row["reason"] for row in pq.read_table(out / "labels.parquet").to_pylist()]
        else:
            rows = [row["problem"] for row in json.loads((out / "photos.json").read_text())]
    except (OSError, ValueError) as error:
        return f"no rows: {error}"
    good = rows.count(None)
    return "" if len(rows) >= case.rows and good >= case.good else f"{len(rows)} rows of {case.rows}, {good} good"


if __name__ == "__main__":
    main()
