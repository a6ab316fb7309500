"""Commands that are stopped at random moments, or whose disk is full: nothing half-written stays, nothing is lost.

A command is run to its end first. Then it is killed (SIGKILL), told to end (SIGTERM), given no more room on the disk
(files of a few kilobytes at most) or a folder that may not be written to, after a random part of the time that it took
or from the begin, and run again: what it gives then must be what the undisturbed run gave, and nothing else. A folder
stops nobody who is root, so that the process gives up what root may do more than others.
"""

import ctypes
import json
import os
import resource
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hostile_inputs import put
from hostile_runs import small

from faces import astronaut, encoded, scenery
from sameface.core import plugins
from small_methods import sample

__all__ = ["stopped"]

Run = Callable[[list[str], Path, tuple[Path, Path], Callable[[], None] | None], int]
"""starts a command in a folder, its words in two files, after doing something in the new process; its number"""
ROOM = 3000
"""bytes of the largest file on a full disk"""
CHANGING = ("last_call", "cpu_seconds", "seconds")
"""what differs from run to run"""
HOWS = ("kill", "term", "full", "read-only")
CAPABILITIES_3 = 0x20080522
"""version of the kernel's interface"""


def stopped(work: Path, seed: int, start: Run, times: int = 8) -> Iterator[tuple[str, str, dict[str, str]]]:
    """(name, how it was stopped, what was wrong) of every stop."""
    rng = np.random.default_rng([seed, 99])
    for name, command in _commands(work):
        given, folder = work / f"{name}-given", work / name  # results hold paths in full, so the folder is the same
        shutil.copytree(given, folder)
        begin = time.monotonic()
        os.waitpid(start(command, folder, _words(folder), None), 0)
        took = time.monotonic() - begin
        wanted = _results(folder)
        for k in range(times):
            how = HOWS[k % len(HOWS)]
            shutil.rmtree(folder)
            shutil.copytree(given, folder)
            faults = {}
            if how in ("full", "read-only"):
                if how == "read-only":
                    folder.chmod(0o555)
                pid = start(command, folder, _words(folder), _full if how == "full" else _powerless)
                code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                folder.chmod(0o755)
                said = _words(folder)[1].read_text(errors="replace")
                if code not in (0, 1, 3):
                    faults["traceback"] = said
                elif how == "read-only" and (code != 1 or "ermission denied" not in said):
                    faults["no word"] = f"exit code {code}: {said}"
                if how == "read-only" and _results(folder):
                    faults["outside"] = "written where nothing may be written"
            else:
                pid = start(command, folder, _words(folder), None)
                time.sleep(float(rng.uniform(0, took)))
                os.kill(pid, signal.SIGKILL if how == "kill" else signal.SIGTERM)
                code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                if how == "term" and code not in (0, 1, 3, 130, -signal.SIGTERM):
                    faults["traceback"] = _words(folder)[1].read_text(errors="replace")
            if how != "kill" and list(folder.glob("out/**/*.part")):
                faults["half-written"] = "a .part is left"
            os.waitpid(start(command, folder, _words(folder), None), 0)
            found = _results(folder)
            if odd := sorted(one for one in wanted | found if wanted.get(one) != found.get(one)):
                faults["lost row"] = f"after a {how}: {', '.join(odd[:5])}"
            yield name, how, faults


def _commands(work: Path) -> Iterator[tuple[str, list[str]]]:
    quiet = ["--workers", "0", "--quiet", "--out", "out"]
    for name in ("reconstruct", "bulk", "synth", "fit-set", "convert", "train", "evaluate"):
        (work / f"{name}-given").mkdir(parents=True)
    for k in range(3):
        put(work / "reconstruct-given" / "photos" / f"{k}.png", encoded(astronaut() if k == 1 else scenery(40, 40)))
        put(work / "bulk-given" / "people" / f"p{k}" / "a.png", encoded(astronaut() if k == 1 else scenery(40, 40)))
    yield "reconstruct", ["reconstruct", "photos", "--each", "--write", "npz", "--out", "out"]
    yield "bulk", ["bulk", "people", "--shard", "1", *quiet]
    yield "synth", ["synth", "--persons", "3", "--views", "1", "--size", "32", *quiet]
    (work / "fit-set-given" / "table").mkdir()
    plugins.load("datasets", "facetable").sample(work / "fit-set-given" / "table")
    yield "fit-set", ["fit-set", "facetable:table", "--splits", "val", "--shard", "3", *quiet]
    scenes = sample("scenes", work / "train-given")
    steps = ["--steps", "6", "--validate-every", "2", "--save-every", "1", "--workers", "1", "--out", "out"]
    yield (
        "train",
        ["train", "detector", "--data", f"scenes:{Path(scenes).name}", "--batch", "4", *small("detector"), *steps],
    )
    (work / "evaluate-given" / "set").mkdir()
    plugins.load("benchmarks", "pairs").sample(work / "evaluate-given" / "set")
    yield "evaluate", ["evaluate", "pairs", "--data", "set", "--workers", "1", "--quiet", "--out", "out"]
    from sameface import morphable

    morphable.default().save(work / "convert-given" / "model.npz")
    yield "convert", ["model", "convert", "model.npz", "out.npz"]


def _powerless() -> None:
    """Nothing is allowed any more because the user is root."""
    libc, none = ctypes.CDLL(None, use_errno=True), (ctypes.c_uint32 * 6)()
    if libc.capset((ctypes.c_uint32 * 2)(CAPABILITIES_3, 0), none):
        raise OSError(ctypes.get_errno(), "capset")


def _full() -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM, ROOM))


def _words(folder: Path) -> tuple[Path, Path]:
    return folder.with_name(folder.name + ".out"), folder.with_name(folder.name + ".err")


def _results(folder: Path) -> dict[str, bytes]:
    """What a command gave, without what differs from run to run."""
    found = {}
    for path in sorted(folder.glob("out*")) + sorted(folder.glob("out*/**/*")):
        if path.is_file():
            data = path.read_bytes()
            if path.suffix in (".json", ".jsonl"):
                parts = [data] if path.suffix == ".json" else data.splitlines()
                data = "\n".join(json.dumps(_lasting(json.loads(part))) for part in parts).encode()
            if path.suffix == ".pt":  # a pickle of equal weights may have other bytes
                data = torch.load(path, weights_only=True)["sha256"].encode()
            found[str(path.relative_to(folder))] = data
    return found


def _lasting(told: Any) -> Any:
    return {name: value for name, value in told.items() if name not in CHANGING} if isinstance(told, dict) else told
