"""Benchmark × system → a table, and on disk the numbers of every case, the failures and pictures.

    evaluate("aflw2000", Path("/data/AFLW2000-3D"), model="default", out=Path("results"))

Cases are answered in processes side by side. What a system measured is kept in OUT/answers under the hash of everything
that decides it (network, code, photos, places), so a second run, or one that was killed, takes seconds for what is
there. A case that fails is a row with its reason, never left out in silence; what the protocol's own numbers make of
it is said by the benchmark's `summary`.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import fields
from functools import lru_cache, partial
from io import BytesIO
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sameface.core import errors, plugins, processes
from sameface.core.errors import BadData, SameFaceError
from sameface.core.files import hint, make_folder, write_file
from sameface.core.npz import read_npz
from sameface.evaluation import systems
from sameface.evaluation.case import Answer, Case, CaseFailed
from sameface.evaluation.report import Failure, LeftOut, Report, Row, draw
from sameface.evaluation.systems import Measured
from sameface.reconstruction.outputs import stem

__all__ = ["evaluate"]

CASES_AT_ONCE = 4
"""that a process is handed"""
LARGEST_ANSWER = 1 << 30
"""bytes of what was measured in one case"""
KINDS = {
    name: kind for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, SameFaceError)
}
"""the failures of a case that are kept"""


def evaluate(
    benchmark: str,
    root: Path,
    options: Any = None,
    *,
    model: str = "default",
    out: Path | None = None,
    limit: int | None = None,
    workers: int = 1,
    cache: bool = True,
    tick: Callable[[str, int], None] | None = None,
) -> Report:
    """Ask a system every case of a benchmark (a name or your own .py file) whose data is in `root`.

    `options` is the benchmark's Options. With `out`, writes OUT/<benchmark>-<model>.json and pictures that fit, and
    keeps what was measured in OUT/answers unless `cache` is off. `limit` takes only the first cases. `tick` is called
    with the name of each finished case and how many there are. Raises BadData or AssetMissing when data is missing.
    """
    _check(limit, workers)
    plugin, system = plugins.load("benchmarks", benchmark), systems.load(model)
    options = plugin.Options() if options is None else options
    cases = _cases(plugin, root, options)
    chosen = cases[:limit]
    values = tuple((field.name, getattr(options, field.name)) for field in fields(options))
    theirs = model not in systems.NAMES
    files = _in_full(benchmark, plugins.is_file(benchmark)), _in_full(model, theirs)
    job = _Job(files[0], values, files[1], _folder(out, cache, root, *[model] * theirs))
    done = []
    for case, outcome in zip(chosen, _outcomes(job, chosen, workers), strict=True):
        done.append(outcome)
        if tick is not None:
            tick(case.name, len(chosen))
    summary = _summary(plugin, chosen, done, options)
    named = list(zip((case.name for case in chosen), done, strict=True))
    report = Report(
        benchmark=Path(benchmark).stem, model=system.name, 
        options={name: value.name if isinstance(value, Path) else value for name, value in values},
        command=_command(benchmark, root, plugin.Options(), options, model, limit),
        cases=len(chosen), of=len(cases), summary=summary,
        rows={name: one.row for name, one in named if one.row is not None},
        failures=tuple(Failure(name, *one.failure) for name, one in named if one.failure),
        left_out=tuple(LeftOut(name, *left) for name, one in named for left in one.left),
        published=tuple(plugin.published),
    )  # fmt: skip
    if out is not None:
        start = out / f"{stem(report.benchmark)}-{stem(report.model)}"
        write_file(f"{start}.json", (json.dumps(report.as_json(), indent=1, default=str) + "\n").encode())
        curves = {}
        if summary and hasattr(plugin, "curves"):
            curves = plugin.curves(chosen, [_kept_answer(plugin, one) for one in done], options)
        draw(report, start, chosen, curves)
    return report


# ── answering ──────────────────────────────────────────────────────────────────────────────────────────────


class _Job(NamedTuple):
    """What a process has to know; only plain values, because Options of your own file cannot travel."""

    benchmark: str
    options: tuple[tuple[str, Any], ...]
    model: str
    answers: str | None
    """folder of what was measured before"""


class _Outcome(NamedTuple):
    """What came of one case."""

    measured: Measured | None
    row: Row | None
    failure: tuple[str, str] | None = None
    """kind, message"""

    @property
    def left(self) -> list[list[str]]:
        """photo, kind, message of photos that were not used."""
        return [] if self.measured is None else self.measured["left_out"].tolist()


def _outcomes(job: _Job, cases: Sequence[Case], workers: int) -> Iterator[_Outcome]:
    """What comes of each case, in order, from this process or from several."""
    if min(workers, len(cases)) < 2:
        yield from map(partial(_one, job), cases)
        return
    context = get_context("spawn")  # a fork would inherit locks of other threads' networks
    with processes.one_thread_each(), ProcessPoolExecutor(workers, context, _begin, (job,)) as pool:
        try:
            yield from pool.map(partial(_one, job), cases, chunksize=CASES_AT_ONCE)
        except BrokenProcessPool:
            kept = f"; what was measured is kept in {job.answers}" if job.answers else ""
            raise SameFaceError(
                f"a process ended before its time (out of memory?): use fewer --workers{kept}"
            ) from None


def _begin(job: _Job) -> None:  # pragma: no cover - runs in other processes
    processes.begin()
    _ready(job)


@lru_cache(maxsize=1)
def _ready(job: _Job) -> tuple[Any, Any, systems.System]:
    """Benchmark, its options and the system, loaded once per process."""
    plugin = plugins.load("benchmarks", job.benchmark)
    return plugin, plugin.Options(**dict(job.options)), systems.load(job.model)


def _one(job: _Job, case: Case) -> _Outcome:
    """Answer and score one case."""
    plugin, options, system = _ready(job)
    measured = None
    try:
        measured = _measured(system, case, job.answers if system.keep else None)
        row = plugin.score(case, systems.answer(measured, _asked(plugin)), options)
        odd = [f"{name} is {value}" for name, value in row.items() if not np.isfinite(value)]
        if odd:
            raise ValueError(f"the score is not a finite number: {', '.join(odd)}")
        return _Outcome(measured, {name: float(value) for name, value in row.items()})
    except Exception as error:  # whatever went wrong with one of thousands of cases is that case's row
        return _Outcome(measured, None, (type(error).__name__, str(error)))


def _measured(system: systems.System, case: Case, folder: str | None) -> Measured:
    """What the system measured, from disk if it did so before; a face that was not found stays not found."""
    file = None if folder is None else Path(folder) / f"{_key(system, case)}.npz"
    measured = None if file is None else _kept(file)
    if measured is None:
        try:
            measured = system.measure(case)
        except SameFaceError as error:
            measured = {"failure": np.array([type(error).__name__, str(error)])}
        if file is not None:
            buffer = BytesIO()
            np.savez_compressed(buffer, **measured)  # type: ignore[arg-type]
            write_file(file, buffer.getvalue())
    if "failure" in measured:
        kind, message = measured["failure"].tolist()
        raise KINDS[kind](message)
    return measured


def _kept(file: Path) -> Measured | None:
    """What was measured before; None if it was not, or is not whole: then it is measured again."""
    if not file.exists():
        return None
    try:
        measured = read_npz(file, LARGEST_ANSWER)
        if "failure" in measured and measured["failure"].tolist()[0] not in KINDS:
            return None
        return measured
    except (BadData, TypeError, IndexError):
        return None


def _key(system: systems.System, case: Case) -> str:
    """A hash of everything that decides what is measured: system, photos (size and time of change), places."""
    told = hashlib.sha256(f"{system.name} {system.fingerprint} {case.name} {case.frames}".encode())
    for path, place in zip(case.photos, case.places, strict=True):
        status = path.stat() if path.exists() else None
        told.update(f"{path.name} {status and (status.st_size, status.st_mtime_ns)}".encode())
        told.update(b"-" if place is None else np.ascontiguousarray(place, np.float64).tobytes())
    return told.hexdigest()


def _asked(plugin: Any) -> tuple[str, ...]:
    """The fields of an answer that a benchmark looks at: its `asks`, by default all."""
    return tuple(getattr(plugin, "asks", systems.ANSWERS))


def _kept_answer(plugin: Any, outcome: _Outcome) -> Answer | None:
    """The answer as `summary` sees it: without `vertices`, which would not fit into memory for thousands of photos."""
    if outcome.row is None or outcome.measured is None:
        return None
    return systems.answer(outcome.measured, [name for name in _asked(plugin) if name != "vertices"])


def _summary(plugin: Any, cases: Sequence[Case], done: list[_Outcome], options: Any) -> Row:
    """The protocol's numbers; a case that fails only now becomes a failure in `done`."""
    names = [case.name for case in cases]
    while any(one.row is not None for one in done):
        answers, rows = [_kept_answer(plugin, one) for one in done], [one.row for one in done]
        try:
            return plugin.summary(cases, answers, rows, options)
        except CaseFailed as error:
            failed = names.index(error.case)
            if rows[failed] is None:
                raise
            done[failed] = done[failed]._replace(row=None, failure=(type(error).__name__, str(error)))
    return {}


# ── what was asked ─────────────────────────────────────────────────────────────────────────────────────────


def _check(limit: int | None, workers: int) -> None:
    if limit is not None and limit < 1:
        raise ValueError(f"limit is {limit}; take at least 1 case, or leave it out for all")
    if workers < 1:
        raise ValueError(f"workers is {workers}; at least one process has to work")


def _folder(out: Path | None, cache: bool, *inputs: Path | str) -> str | None:
    """Make the folders for results and say where to keep what was measured, if anywhere."""
    if out is None:
        return None
    import matplotlib  # what is missing is said now, not after an hour

    del matplotlib
    make_folder(out, *inputs)
    if cache:
        make_folder(out / "answers")
    return str(out / "answers") if cache else None


def _cases(plugin: Any, root: Path, options: Any) -> list[Case]:
    if not root.is_dir():
        wanted = "give --data the folder of the benchmark as its owners distribute it"
        raise BadData(f"there is no folder {root}{hint(str(root))}; {wanted}")
    cases = plugin.cases(root, options)
    if not cases:
        raise BadData(f"{root} holds no case of this benchmark; its layout: {(plugin.__doc__ or '').strip()}")
    names = [case.name for case in cases]
    twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if twice:
        raise BadData(f"{len(twice)} cases have the name of another, for example {twice[0]}; names are unique")
    return cases


def _in_full(name: str, is_path: bool) -> str:
    """A path in full, so that it is found from every process; other names as they are, whatever files there are."""
    return str(Path(name).resolve()) if is_path else name


def _command(benchmark: str, root: Path, usual: Any, options: Any, model: str, limit: int | None) -> str:
    """The command line that repeats it, without the folders of this machine."""
    parts = ["sameface evaluate", Path(benchmark).name, "--data", root.resolve().name, "--model", Path(model).name]
    for field in fields(options):
        value, flag = getattr(options, field.name), field.name.replace("_", "-")
        if value == getattr(usual, field.name):
            continue
        if isinstance(value, bool):
            parts.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            several = value if isinstance(value, tuple | list) else [value]
            parts += [f"--{flag}", *(one.name if isinstance(one, Path) else str(one) for one in several)]
    return " ".join(parts + (["--limit", str(limit)] if limit is not None else []))
