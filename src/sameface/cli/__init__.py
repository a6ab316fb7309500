"""`sameface VERB …`: every verb is one function here; its arguments become the flags (tyro).

Exit codes: 0 all done · 1 nothing could be done · 2 wrong usage · 3 done, but some photos or cases could not be used ·
130 stopped by Ctrl-C.
"""

import dataclasses
import os
import sys
from collections.abc import Sequence
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import tyro

from sameface.core.errors import SameFaceError

Kind = Literal["obj", "ply", "glb", "npz", "overlay", "report", "views"]
ALL_KINDS: tuple[Kind, ...] = ("obj", "ply", "glb", "npz", "overlay", "report", "views")

DONE, NOTHING, USAGE, PARTLY, STOPPED = 0, 1, 2, 3, 130


def reconstruct(
    photos: Annotated[tuple[str, ...], tyro.conf.Positional],
    /,
    *,
    out: Path,
    each: bool = False,
    all_faces: bool = False,
    face: int | None = None,
    iris: bool = False,
    ipd: float | None = None,
    focal: str | None = None,
    write: tuple[Kind, ...] = ALL_KINDS,
    min_score: float = 0.6,
    predictor: str = "default",
    smooth: float = 0.3,
    quiet: bool = False,
) -> int:
    """Photos (files or folders) or a video of ONE person -> that person's 3D face; of a video, how it moves too.

    OUT/photos.json says what became of every photo. Exit code: 0 done, 1 nothing could be done, 2 wrong usage, 3 done,
    but some photos could not be used.

    Args:
        photos: Photo files or folders of photos, all of one person unless --each or --all-faces; or one video.
        out: Folder for the results; made if it is not there.
        each: Reconstruct every photo alone, into OUT/<photo>/.
        all_faces: Reconstruct every face of every photo alone, into OUT/<photo>-face<k>/.
        face: Take the k-th largest face of each photo instead of the largest (1).
        iris: Take the scale from the human iris (11.7 mm) instead of the average head.
        ipd: Take the scale from the distance between the pupils, mm.
        focal: Focal length of all photos, instead of what their files say: 50mm (35 mm equivalent) or 1200px.
        write: Which files to write beside result.json.
        min_score: Least score of a detected face, 0 to 1.
        predictor: Network to use: default, or the path of your own .onnx.
        smooth: Seconds of video over which movements are smoothed, without lag; 0: not at all.
        quiet: No progress bar and no summary.
    """
    from sameface.cli import people as many
    from sameface.photo.observe import points_of
    from sameface.photo.predictor import load
    from sameface.photo.views import is_video
    from sameface.reconstruction import outputs
    from sameface.reconstruction.reconstruct import check_options

    if all_faces and (each or face is not None):
        raise ValueError("--all-faces takes every face of every photo alone; leave out --each and --face")
    if not photos:
        raise ValueError("give at least one photo or folder, for example: sameface reconstruct anna.jpg --out anna")
    clips = [photo for photo in photos if is_video(Path(photo))]
    if clips and (len(photos) > 1 or each or all_faces):
        raise ValueError(f"{clips[0]} is a video; give it alone, and leave out --each and --all-faces")
    check_options(face=face, iris=iris, ipd=ipd, min_score=min_score, smooth=smooth, focal=focal)
    points_of(load(predictor))
    asked = many.Asked(each, all_faces, face or 1, iris, ipd, focal, write, min_score, predictor, smooth, quiet)
    given = many.gathered(photos)
    paths, rows = [one for one in given if isinstance(one, Path)], [one for one in given if not isinstance(one, Path)]
    outputs.make_folder(out)
    outputs.write_rows(out, rows)  # what cannot be written is said now, not after an hour
    try:
        with many.Progress("looking", None if clips else len(paths), quiet) as tick:
            if clips:
                rows.append(many.one_clip(paths.pop(), out, asked, tick))
            for person in many.people(paths, asked, rows, tick):
                rows.extend(many.one_person(person, out, asked))
    finally:
        order = [str(one) if isinstance(one, Path) else one.photo for one in given]
        worked, complete = many.finished(out, rows, order)
    return _code(worked, complete)


def _code(worked: bool, complete: bool) -> int:
    return NOTHING if not worked else DONE if complete else PARTLY


# ── training, export, models ───────────────────────────────────────────────────────────────────────────────


def export(
    run: Annotated[Path, tyro.conf.Positional],
    /,
    *,
    out: Path | None = None,
    only: tuple[str, ...] = (),
    half: bool = False,
    weights: Literal["best.pt", "last.pt"] = "best.pt",
) -> int:
    """Run folder -> a self-describing .onnx, compared with torch on the spot.

    Args:
        run: Folder of a training run.
        out: File to write; default: in the folder.
        only: Outputs that are wanted (such as identity); the file holds what these need. Default: all.
        half: Store the weights with 16 bits.
        weights: Those of the lowest held-out loss, or those of the last step.
    """
    from sameface.training.export import export as write

    print(write(run, out, only=only, half=half, weights=weights))
    return DONE


def data(source: Annotated[str, tyro.conf.Positional], /, *, split: str = "train", show: Path | None = None) -> int:
    """Say what a data set gives: items, shapes, persons; with --show, draw some of them with their labels.

    Args:
        source: DATASET:FOLDER, for example facetable:/data/faces.
        split: Which part: train, val or test.
        show: Picture (.png) to draw a sheet of items into.
    """
    from sameface.core import plugins

    dataset, root = plugins.dataset_at(source)
    items = dataset.load(root, split)
    person = getattr(items, "person", None)
    print(f"{source}, split {split}: {len(items)} items")
    for name, value in items[0].items():
        print(f"  {name:24s} {getattr(value, 'shape', ())} {getattr(value, 'dtype', type(value).__name__)}")
    if person is not None:
        print(f"  persons                  {len({int(k) for k in person if k >= 0})}")
    if show is not None:
        from sameface.cli.show import show_items

        show_items(dataset, root, split, show)
        print(show)
    return DONE


def verify(
    a: Annotated[str, tyro.conf.Positional],
    b: Annotated[str, tyro.conf.Positional],
    /,
    *,
    far: float = 0.1,
    predictor: str = "default",
    min_score: float = 0.6,
    out: Path | None = None,
    quiet: bool = False,
) -> int:
    """Two people (photo, folder of photos, saved result or mesh each) -> same, different or unsure, in millimetres.

    From one photo it is often wrong: identify nobody by it (docs/verify.md).

    Args:
        a: A photo, a folder of photos of one person, a result of `sameface reconstruct`, or a mesh.
        b: The same, of the other.
        far: Error rate: at most about this part of different people is called same (0.01 to 0.5).
        predictor: Network to use: default, or the path of your own .onnx.
        min_score: Least score of a detected face, 0 to 1.
        out: JSON file to write the verdict to.
        quiet: Print only same, different or unsure.
    """
    from sameface.verification.verify import verify as compare

    verdict = compare(a, b, far=far, predictor=predictor, min_score=min_score)
    print(verdict.word if quiet else verdict.as_text())
    for photo, _, message in verdict.dropped:
        print(f"not used: {message if photo in message else f'{photo}: {message}'}", file=sys.stderr)
    if out is not None:
        verdict.save(out)
    return PARTLY if verdict.dropped else DONE


def synth(
    *,
    out: Path,
    persons: int = 1000,
    views: int = 8,
    size: int = 160,
    seed: int = 0,
    workers: int | None = None,
    model: Path | None = None,
    backgrounds: Path | None = None,
    quiet: bool = False,
) -> int:
    """Draw and render people who do not exist, with every number of the truth (docs/synthetic.md).

    Args:
        out: Folder to write; what is there already is kept, so the same call goes on where it was stopped.
        persons: How many.
        views: Photos of each.
        size: Side of a photo, px.
        seed: Every random number follows from it.
        workers: Processes; default: one per core.
        model: Morphable model file other than the packaged one.
        backgrounds: Folder of photos to stand behind the people.
        quiet: No progress bar.
    """
    from sameface.cli.people import Progress
    from sameface.synthetic.files import write

    with Progress("people", None, quiet) as tick:
        new = write(
            out, persons, views, seed=seed, size=size, workers=_cores() if workers is None else workers, model=model,
            backgrounds=backgrounds, tick=lambda done, total: tick("people", total, done),
        )  # fmt: skip
    print(f"{out}: {persons} people with {views} photos each, {new} of them new")
    return DONE


def doctor() -> int:
    """Check this installation: versions, packaged files, and a face through the whole pipeline."""
    from sameface.cli.installation import examine

    lines, healthy = examine()
    print("\n".join(lines))
    return DONE if healthy else NOTHING


def _train(arguments: list[str]) -> int:
    """`sameface train METHOD …`: the flags are the fields of the method's Config and of the loop."""
    from sameface.core import plugins

    code = _usage(arguments, "sameface train METHOD --data DATASET:FOLDER --out RUN …", "methods")
    if code is not None:
        return code
    from sameface.training.train import Loop, settings, train

    method, config = arguments[0], settings(arguments[0])
    asked = _flags(
        f"sameface train {method}", arguments[1:], plugins.load("methods", method).__doc__,
        ("data", Annotated[str, tyro.conf.arg(help="DATASET:FOLDER, for example facetable:/data/faces")]),
        ("out", Annotated[Path, tyro.conf.arg(help="run folder; the same one again resumes")]),
        ("config", config, dataclasses.field(default_factory=config)),
        ("loop", Loop, dataclasses.field(default_factory=Loop)),
    )  # fmt: skip
    print(train(method, asked.data, asked.out, asked.config, asked.loop))
    return DONE


def _fit_set(arguments: list[str]) -> int:
    """`sameface fit-set DATASET:FOLDER …`: the flags are ours and the fields of its Options."""
    from sameface.cli.people import Progress
    from sameface.training.fit_set import Options, fit_set

    asked = _flags(
        "sameface fit-set", arguments, "A data set -> one row of labels per photo, every person fitted at once "
        "(docs/fit-set.md). Stopped and called again, it goes on.",
        ("source", Annotated[str, tyro.conf.Positional, tyro.conf.arg(help="DATASET:FOLDER, e.g. casia:/data/casia")]),
        ("out", Annotated[Path, tyro.conf.arg(help="folder for labels.parquet and labels.json")]),
        ("workers", Annotated[int, tyro.conf.arg(help="processes")], _cores()),
        ("quiet", Annotated[bool, tyro.conf.arg(help="no progress bar")], False),
        ("options", Options, dataclasses.field(default_factory=Options)),
    )  # fmt: skip
    with Progress("fitting", None, asked.quiet) as tick:
        told = fit_set(
            asked.source, asked.out, asked.options, workers=asked.workers,
            tick=lambda done, total: tick("fitting", total, done),
        )  # fmt: skip
    print(f"{asked.out}: {told['kept']} of {told['photos']} photos labelled, {told['persons']} persons")
    for reason, count in told["rejected"].items():
        print(f"  rejected, {reason}: {count}")
    residual = told["percentiles of kept photos"]["residual_percent"]
    print("  residual, % of the face: " + ", ".join(f"{value} ({name} %)" for name, value in residual.items()))
    return DONE


def _evaluate(arguments: list[str]) -> int:
    """`sameface evaluate BENCHMARK …`: the flags are ours and the fields of the benchmark's Options."""
    from sameface.core import plugins

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
        ("workers", Annotated[int, tyro.conf.arg(help="processes")], _cores()),
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
    from sameface.evaluation.evaluate import evaluate

    with Progress(benchmark, None, asked.quiet) as tick:
        report = evaluate(
            benchmark, asked.data.expanduser(), asked.options, model=asked.model, out=asked.out, limit=asked.limit,
            workers=asked.workers, cache=asked.cache, tick=tick,
        )  # fmt: skip
    print(report.as_text())
    if asked.out is not None:
        print(f"\n{asked.out}: the numbers of every case, and pictures")
    return _code(bool(report.rows), not report.failures)


def _usage(arguments: list[str], usage: str, kind: str) -> int | None:
    """Print how a verb with a plug-in is used, unless a plug-in is named; the exit code if it was printed."""
    from sameface.core import plugins

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


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line: run a verb, print errors as one line, leave with the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    for stream in (sys.stdout, sys.stderr):  # a name that the terminal cannot show is no reason to stop
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        sys.exit(_run(given))
    except (SameFaceError, OSError) as error:
        _leave(str(error), NOTHING)
    except ImportError as error:
        extra = {"model": "compile", "evaluate": "evaluate", "data": "evaluate", "bulk": "bulk"}.get(given[0], "train")
        _leave(f"an optional package is missing ({error}): pip install 'sameface[{extra}]'", NOTHING)
    except ValueError as error:
        _leave(str(error), USAGE)
    except KeyboardInterrupt:
        _leave("stopped", STOPPED)


def _run(given: list[str]) -> int:
    if given[:1] == ["train"]:
        return _train(given[1:])
    if given[:1] == ["evaluate"]:
        return _evaluate(given[1:])
    if given[:1] == ["fit-set"]:
        return _fit_set(given[1:])
    if given[:1] == ["model"]:
        from sameface.cli.model import VERBS

        return tyro.extras.subcommand_cli_from_dict(VERBS, args=given[1:], prog="sameface model")
    from sameface.cli.bulk import bulk

    verbs = {
        "reconstruct": reconstruct, "bulk": bulk, "verify": verify, "evaluate": _evaluate_help, "train": _train_help,
        "export": export, "data": data, "fit-set": _fit_set_help, "synth": synth, "model": _model_help,
        "doctor": doctor,
    }  # fmt: skip
    return tyro.extras.subcommand_cli_from_dict(verbs, args=given, prog="sameface", description=DESCRIPTION)


def _leave(message: str, code: int) -> NoReturn:
    print(f"sameface: {message}", file=sys.stderr)
    sys.exit(code)


DESCRIPTION = "Photos of a person in, that person's 3D face out."


def _train_help() -> int:
    """Train a method on a data set (sameface train METHOD --help)."""
    return _train([])


def _evaluate_help() -> int:
    """Measure a system on a benchmark (sameface evaluate BENCHMARK --help)."""
    return _evaluate([])


def _fit_set_help() -> int:
    """Fit every person of a data set, as labels to learn from (sameface fit-set --help)."""
    return USAGE


def _model_help() -> int:
    """Show, convert, compile or build a morphable model (sameface model --help)."""
    return USAGE
