"""Verbs whose flags are those of a plug-in or of an options class: train METHOD, evaluate BENCHMARK, fit-set."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import tyro

from sameface.cli.exits import DONE, USAGE, exit_code
from sameface.core import plugins, processes

__all__ = ["evaluate", "evaluate_help", "fit_set", "fit_set_help", "train", "train_help"]

_PLUGIN = (
    "plugin",
    Annotated[tuple[Path, ...], tyro.conf.arg(help="Python files that the data's own files may name")],
    (),
)


def train(arguments: list[str]) -> int:
    """`sameface train METHOD …`: the flags are the fields of the method's Config and of the loop."""
    code = _usage(arguments, "sameface train METHOD --data DATASET:FOLDER --out RUN …", "methods")
    if code is not None:
        return code
    from sameface.training.train import Loop, settings
    from sameface.training.train import train as run

    method, config = arguments[0], settings(arguments[0])
    asked = _flags(
        f"sameface train {method}", arguments[1:], plugins.load("methods", method).__doc__,
        ("data", Annotated[str, tyro.conf.arg(help="DATASET:FOLDER, for example facetable:/data/faces")]),
        ("out", Annotated[Path, tyro.conf.arg(help="run folder; the same one again resumes")]),
        _PLUGIN,
        ("config", config, dataclasses.field(default_factory=config)),
        ("loop", Loop, dataclasses.field(default_factory=Loop)),
    )  # fmt: skip
    plugins.trust(*asked.plugin)
    print(run(method, asked.data, asked.out, asked.config, asked.loop))
    return DONE


def fit_set(arguments: list[str]) -> int:
    """`sameface fit-set DATASET:FOLDER …`: the flags are ours and the fields of its Options."""
    from sameface.cli.people import Progress
    from sameface.training.fit_set import Options
    from sameface.training.fit_set import fit_set as run

    asked = _flags(
        "sameface fit-set", arguments, "A data set -> one row of labels per photo, every person fitted at once "
        "(docs/fit-set.md). Stopped and called again, it goes on.",
        ("source", Annotated[str, tyro.conf.Positional, tyro.conf.arg(help="DATASET:FOLDER, e.g. casia:/data/casia")]),
        ("out", Annotated[Path, tyro.conf.arg(help="folder for labels.parquet and labels.json")]),
        ("workers", Annotated[int, tyro.conf.arg(help="processes")], processes.cores()),
        ("quiet", Annotated[bool, tyro.conf.arg(help="no progress bar")], False),
        _PLUGIN,
        ("options", Options, dataclasses.field(default_factory=Options)),
    )  # fmt: skip
    plugins.trust(*asked.plugin)
    with Progress("fitting", None, asked.quiet) as tick:
        told = run(
            asked.source, asked.out, asked.options, workers=asked.workers,
            tick=lambda done, total: tick("fitting", total, done),
        )  # fmt: skip
    print(f"{asked.out}: {told['kept']} of {told['photos']} photos labelled, {told['persons']} persons")
    for reason, count in told["rejected"].items():
        print(f"  rejected, {reason}: {count}")
    residual = told["percentiles of kept photos"]["residual_percent"]
    print("  residual, % of the face: " + ", ".join(f"{value} ({name} %)" for name, value in residual.items()))
    return DONE


def evaluate(arguments: list[str]) -> int:
    """`sameface evaluate BENCHMARK …`: the flags are ours and the fields of the benchmark's Options."""
    code = _usage(arguments, "sameface evaluate BENCHMARK --data ROOT …", "benchmarks")
    if code is not None:
        return code
    plugin = plugins.load("benchmarks", arguments[0])
    asked = _flags(
        f"sameface evaluate {arguments[0]}", arguments[1:], plugin.__doc__,
        ("data", Annotated[Path, tyro.conf.arg(help="folder of the benchmark, as its owners distribute it")]),
        ("model", Annotated[str, tyro.conf.arg(help="default, mean, exported .onnx, folder of meshes")], "default"),
        ("out", Annotated[Path | None, tyro.conf.arg(help="folder for the numbers, pictures and kept answers")], None),
        ("show", Annotated[Path | None, tyro.conf.arg(help="only draw some cases with their truth, as .png")], None),
        ("limit", Annotated[int | None, tyro.conf.arg(help="only the first cases")], None),
        ("workers", Annotated[int, tyro.conf.arg(help="processes")], processes.cores()),
        ("cache", Annotated[bool, tyro.conf.arg(help="keep what was measured in OUT/answers, and use it")], True),
        ("quiet", Annotated[bool, tyro.conf.arg(help="no progress bar")], False),
        ("options", plugin.Options, dataclasses.field(default_factory=plugin.Options)),
    )  # fmt: skip
    if asked.show is not None:
        from sameface.cli.show import show_cases

        show_cases(plugin, asked.data, asked.show, options=asked.options)
        print(asked.show)
        return DONE
    return _evaluated(arguments[0], asked)


def _evaluated(benchmark: str, asked: Any) -> int:
    from sameface.cli.people import Progress
    from sameface.evaluation.evaluate import evaluate as run

    with Progress(benchmark, None, asked.quiet) as tick:
        report = run(
            benchmark, asked.data.expanduser(), asked.options, model=asked.model, out=asked.out, limit=asked.limit,
            workers=asked.workers, cache=asked.cache, tick=tick,
        )  # fmt: skip
    print(report.as_text())
    if asked.out is not None:
        print(f"\n{asked.out}: the numbers of every case, and pictures")
    return exit_code(bool(report.rows), not report.failures)


def _usage(arguments: list[str], usage: str, kind: str) -> int | None:
    """Print how a verb with a plug-in is used, unless a plug-in is named; the exit code if it was printed."""
    if arguments and not arguments[0].startswith("-"):
        return None
    print(
        f"usage: {usage}\n{kind}: {', '.join(plugins.names(kind)) or 'none yet'}\n"
        f"`{' '.join(usage.split()[:3])} --help` shows every setting with its source"
    )
    return DONE if arguments and arguments[0] in ("-h", "--help") else USAGE


def _flags(program: str, arguments: list[str], description: str | None, *parts: tuple[Any, ...]) -> Any:
    """Parse flags: each part is (name, type) or (name, type, default); the fields of a dataclass become flags."""
    kind = dataclasses.make_dataclass("Arguments", parts)
    return tyro.cli(tyro.conf.OmitArgPrefixes[kind], args=arguments, prog=program, description=description)


def train_help() -> int:
    """Train a method on a data set (sameface train METHOD --help)."""
    return train([])


def evaluate_help() -> int:
    """Measure a system on a benchmark (sameface evaluate BENCHMARK --help)."""
    return evaluate([])


def fit_set_help() -> int:
    """Fit every person of a data set, as labels to learn from (sameface fit-set --help)."""
    return USAGE
