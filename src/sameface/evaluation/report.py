"""What came of an evaluation: its table, its JSON, its pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sameface import __version__
from sameface.evaluation import plots
from sameface.evaluation.case import Case, Published

__all__ = ["Failure", "LeftOut", "Report", "Row", "draw"]

EXAMPLES = 3
"""failures of each kind that the text shows; the JSON has all"""
Row = dict[str, float]
"""numbers by name"""


class Failure(NamedTuple):
    """A case that the system or the score could not do."""

    case: str
    kind: str
    message: str


class LeftOut(NamedTuple):
    """A photo that could not be used, of a case with others that could."""

    case: str
    photo: str
    kind: str
    message: str


@dataclass(frozen=True)
class Report:
    """What came of an evaluation."""

    benchmark: str
    model: str
    options: dict[str, Any]
    """every choice of the protocol"""
    command: str
    """that repeats it"""
    cases: int
    """evaluated"""
    of: int
    """cases that the benchmark has"""
    summary: Row
    rows: dict[str, Row]
    """by the case's name"""
    failures: tuple[Failure, ...]
    left_out: tuple[LeftOut, ...]
    published: tuple[Published, ...]

    def as_json(self) -> dict[str, Any]:
        """What the file holds; numbers that are not finite are null."""
        return {
            "command": self.command, "sameface": __version__, "benchmark": self.benchmark, "model": self.model,
            "options": self.options, "cases": self.cases, "of": self.of, "summary": _finite(self.summary),
            "failures": [one._asdict() for one in self.failures], "left_out": [one._asdict() for one in self.left_out],
            "published": [one._asdict() for one in self.published],
            "rows": [{"case": name, **_finite(row)} for name, row in self.rows.items()],
        }  # fmt: skip

    def as_text(self) -> str:
        """The table: our numbers, the published ones beside them, the options, and what failed."""
        part = "" if self.cases == self.of else f" (of {self.of}, so these are not the protocol's numbers)"
        lines = [f"{self.benchmark} · {self.model} · {_count(self.cases, 'case')}{part}", ""]
        lines += _table(self.summary, self.model, self.published)
        lines += [f"[{k}] {one.system}: {one.source}" for k, one in enumerate(self.published, 1)]
        chosen = ", ".join(f"{name} = {value}" for name, value in self.options.items())
        lines += ["", f"options: {chosen or 'none'}", f"failures: {len(self.failures) or 'none'}"]
        lines += _reasons([(one.kind, f"{one.case}: {one.message}") for one in self.failures])
        if self.left_out:
            lines.append(f"left out of cases that went on without: {_count(len(self.left_out), 'photo')}")
            lines += _reasons([(one.kind, f"{one.case}: {one.message}") for one in self.left_out])
        return "\n".join(lines)


def draw(
    report: Report, start: Path, cases: Sequence[Case], curves: Mapping[str, tuple[np.ndarray, np.ndarray]]
) -> None:
    """Write the pictures that fit, START-ced.png, -yaw.png, -persons.png and -roc.png.

    The first number of the rows is the error; `yaw` (degrees) may be another, and `person` in a case's `truth` says
    whose it is. `curves` are false and true accept rates by the score's name.
    """
    title = f"{report.benchmark} · {report.model}"
    rows = [row for row in report.rows.values() if row]
    if rows:
        name = next(iter(rows[0]))
        failed = np.full(len(report.failures), np.inf)
        plots.cumulative(Path(f"{start}-ced.png"), np.append([row[name] for row in rows], failed), name, title)
        if "yaw" in rows[0]:
            yaw, error = (np.array([row[key] for row in rows]) for key in ("yaw", name))
            plots.error_by_yaw(Path(f"{start}-yaw.png"), yaw, error, name, title)
        groups: dict[str, list[float]] = {}
        for case in cases:
            if "person" in case.truth and report.rows.get(case.name):
                groups.setdefault(str(case.truth["person"]), []).append(report.rows[case.name][name])
        if len(groups) > 1 and any(len(group) > 1 for group in groups.values()):
            plots.boxes(Path(f"{start}-persons.png"), groups, name, title)
    if curves:
        plots.roc(Path(f"{start}-roc.png"), curves, title)


def _table(summary: Row, model: str, published: Sequence[Published]) -> list[str]:
    """A line per number: its name, ours, and what others report."""
    if not summary:
        return ["no case could be scored"]
    head = ["", model, *(f"[{k}]" for k in range(1, len(published) + 1))]
    names = [*summary, *dict.fromkeys(name for one in published for name in one.values if name not in summary)]
    columns = [summary, *(one.values for one in published)]
    lines = [head, *([name, *(_number(column.get(name)) for column in columns)] for name in names)]
    widths = [max(len(line[k]) for line in lines) for k in range(len(head))]
    padded = ([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])] for line in lines)
    return ["  ".join(cells).rstrip() for cells in padded]


def _number(value: float | None) -> str:
    return "" if value is None else "–" if not np.isfinite(value) else f"{value:.5g}"


def _reasons(problems: Sequence[tuple[str, str]]) -> list[str]:
    """How often each kind of problem, with examples."""
    lines = []
    for kind in dict.fromkeys(kind for kind, _ in problems):
        messages = [message for one, message in problems if one == kind]
        lines += [f"  {kind}: {len(messages)}", *(f"    {message}" for message in messages[:EXAMPLES])]
        lines += ["    …"] if len(messages) > EXAMPLES else []
    return lines


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _finite(row: Row) -> dict[str, float | None]:
    return {name: float(value) if np.isfinite(value) else None for name, value in row.items()}
