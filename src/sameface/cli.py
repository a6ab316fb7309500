"""`sameface VERB …`: every verb is one function here; its arguments become the flags (tyro).

Exit codes: 0 all done · 1 nothing could be done · 2 wrong usage · 3 done, but some photos could not be used ·
130 stopped by Ctrl-C.
"""

import dataclasses
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple, NoReturn

import tyro

from sameface.errors import BadOutput, BadPhoto, SameFaceError

if TYPE_CHECKING:
    from sameface.face import Observation
    from sameface.outputs import Row
    from sameface.result import Reconstruction

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
    write: tuple[Kind, ...] = ALL_KINDS,
    min_score: float = 0.6,
    predictor: str = "default",
    quiet: bool = False,
) -> int:
    """Photos (files or folders) of ONE person -> that person's 3D face.

    OUT/photos.json says what became of every photo. Exit code: 0 done, 1 nothing could be done, 2 wrong usage, 3 done,
    but some photos could not be used.

    Args:
        photos: Photo files or folders of photos; all of one person unless --each or --all-faces.
        out: Folder for the results; made if it is not there.
        each: Reconstruct every photo alone, into OUT/<photo>/.
        all_faces: Reconstruct every face of every photo alone, into OUT/<photo>-face<k>/.
        face: Take the k-th largest face of each photo instead of the largest (1).
        iris: Take the scale from the human iris (11.7 mm) instead of the average head.
        ipd: Take the scale from the distance between the pupils, mm.
        write: Which files to write beside result.json.
        min_score: Least score of a detected face, 0 to 1.
        predictor: Network to use: default, or the path of your own .onnx.
        quiet: No progress bar and no summary.
    """
    from sameface.observe import points_of
    from sameface.outputs import make_folder, write_rows
    from sameface.predictor import load
    from sameface.reconstruction import check_options

    if all_faces and (each or face is not None):
        raise ValueError("--all-faces takes every face of every photo alone; leave out --each and --face")
    if not photos:
        raise ValueError("give at least one photo or folder, for example: sameface reconstruct anna.jpg --out anna")
    check_options(face=face, iris=iris, ipd=ipd, min_score=min_score)
    points_of(load(predictor))
    asked = _Asked(each, all_faces, face or 1, iris, ipd, write, min_score, predictor, quiet)
    given = _gathered(photos)
    paths, rows = [one for one in given if isinstance(one, Path)], [one for one in given if not isinstance(one, Path)]
    make_folder(out)
    write_rows(out, rows)  # what cannot be written is said now, not after an hour
    try:
        with _progress(len(paths), quiet) as tick:
            for person in _people(paths, asked, rows, tick):
                rows.extend(_one(person, out, asked))
    finally:
        code = _finished(out, rows, [str(one) if isinstance(one, Path) else one.photo for one in given])
    return code


class _Asked(NamedTuple):
    """The flags of one run."""

    each: bool
    all_faces: bool
    face: int
    iris: bool
    ipd: float | None
    write: tuple[Kind, ...]
    min_score: float
    predictor: str
    quiet: bool


def _gathered(photos: Iterable[str]) -> "list[Path | Row]":
    """The photo files behind files and folders, each once; in place of a path that leads nowhere, a row."""
    from sameface import image
    from sameface.outputs import Row

    given: list[Path | Row] = []
    known: set[Path] = set()
    for photo in photos:
        try:
            found = image.gather([photo])
        except BadPhoto as error:
            given.append(Row(photo, None, "BadPhoto", str(error)))
            continue
        new = {path.resolve(): path for path in found if path.resolve() not in known}
        known |= new.keys()
        given.extend(new.values())
    return given


class _Person(NamedTuple):
    name: str
    """sub-folder for the results; empty when there is only one person"""
    seen: "list[Observation]"
    problems: tuple[tuple[str, str, str], ...] = ()


def _people(paths: Sequence[Path], asked: _Asked, rows: "list[Row]", tick: Callable[[str], None]) -> Iterator[_Person]:
    """The observations of one person at a time; photos that cannot be used are added to `rows`."""
    from sameface.outputs import PHOTOS, Row, stem, unused
    from sameface.reconstruction import look, no_face_of_that_number

    taken = {PHOTOS}
    together: list[Observation] = []
    for path in paths:
        looked = look([path], predictor=asked.predictor, min_score=asked.min_score, progress=tick)
        rows.extend(Row(photo, None, kind, message) for photo, kind, message in looked.problems)
        for faces in looked.faces:
            if asked.all_faces:
                for k, one in enumerate(faces, 1):
                    yield _Person(unused(f"{stem(path.name)}-face{k}", taken), [one])
            elif asked.face > len(faces):
                photo, kind, message = no_face_of_that_number(faces, asked.face)
                rows.append(Row(photo, None, kind, message))
            elif asked.each:
                yield _Person(unused(stem(path.name), taken), [faces[asked.face - 1]])
            else:
                together.append(faces[asked.face - 1])
    if together:
        yield _Person("", together, tuple((r.photo, r.problem or "", r.message or "") for r in rows))


def _one(person: _Person, out: Path, asked: _Asked) -> "list[Row]":
    """Reconstruct one person and write the files; a row per photo, also where that failed, so that the rest goes on."""
    from sameface.outputs import Row, write_person
    from sameface.reconstruction import join

    folder = out / person.name
    try:
        scale = {"iris": asked.iris, "ipd": asked.ipd}
        answer = join(person.seen, predictor=asked.predictor, **scale, problems=person.problems)
        write_person(answer, folder, asked.write)
    except SameFaceError as error:
        return [Row(one.photo, None, type(error).__name__, str(error)) for one in person.seen]
    if not asked.quiet:
        _summary(answer, folder)
    dropped = {photo: (kind, message) for photo, kind, message in answer.dropped}
    names = [one.photo for one in person.seen]
    return [Row(name, None, *dropped[name]) if name in dropped else Row(name, person.name or ".") for name in names]


def _finished(out: Path, rows: "list[Row]", order: Sequence[str]) -> int:
    """Write photos.json, say what could not be used, and how the run went."""
    from sameface.outputs import write_rows

    place = {photo: k for k, photo in enumerate(order)}
    rows.sort(key=lambda row: place[row.photo])
    for message in dict.fromkeys(_line(row) for row in rows if row.problem):
        print(message, file=sys.stderr)
    worked = any(row.folder for row in rows)
    try:
        write_rows(out, rows)
    except BadOutput as error:
        print(f"not written: {error}", file=sys.stderr)
        return PARTLY if worked else NOTHING
    if not worked:
        return NOTHING
    return PARTLY if any(row.problem for row in rows) else DONE


def _line(row: "Row") -> str:
    """A problem in one line; messages about a result do not name the photo themselves."""
    if row.problem == "BadOutput":
        return f"not written: {row.message}"
    return f"not used: {row.message}" if row.photo in (row.message or "") else f"not used: {row.photo}: {row.message}"


def _summary(answer: "Reconstruction", folder: Path) -> None:
    count = len(answer.views)
    apart = f"; the photos agree within {answer.disagreement:.1f} mm (median)" if count > 1 else ""
    print(f"{folder}: one face from {count} photo{'s' if count > 1 else ''}{apart}; scale: {answer.scale_from}")
    for note in answer.notes:
        print(f"  note: {note}")


class _progress:
    """A progress bar on a terminal, for more than one photo."""

    def __init__(self, total: int, quiet: bool):
        from rich.console import Console
        from rich.progress import Progress

        console = Console(stderr=True)
        self.total = total
        off = quiet or total < 2 or not console.is_terminal
        self.bar = Progress(console=console, transient=True, disable=off, redirect_stdout=sys.stdout.isatty())

    def __enter__(self) -> Callable[[str], None]:
        self.bar.start()
        task = self.bar.add_task("looking", total=self.total)
        return lambda name: self.bar.update(task, advance=1, description=Path(name).name[:40])

    def __exit__(self, *error: object) -> None:
        self.bar.stop()


# ── training, export, models ───────────────────────────────────────────────────────────────────────────────


def export(run: Annotated[Path, tyro.conf.Positional], /, *, out: Path | None = None) -> int:
    """Run folder -> a self-describing .onnx, compared with torch on the spot.

    Args:
        run: Folder of a training run.
        out: File to write; default: in the folder.
    """
    from sameface.export import export as write

    print(write(run, out))
    return DONE


def model_show(path: Annotated[Path | None, tyro.conf.Positional] = None, /) -> int:
    """Say what a morphable model holds (any known format; without a path, ours)."""
    from sameface import morphable
    from sameface.morphable.formats import open_model

    model = morphable.default() if path is None else open_model(path)
    eyes = model.landmarks(model.mean)
    print(f"{model.name}\n  licence      {model.licence}")
    print(f"  vertices     {model.n_vertices}, faces {len(model.faces)}")
    print(
        f"  identity     {model.n_identity} modes\n"
        f"  expression   {model.n_expression}: {', '.join(model.expression_names[:6])} …"
    )
    print(f"  eye distance {abs(eyes[42:48].mean(0) - eyes[36:42].mean(0))[0]:.1f} mm between the centres")
    regions = ", ".join(f"{name} {int(flags.sum())}" for name, flags in model.regions.items())
    print(f"  regions      {regions or 'none'}\n  mirror map   {'yes' if model.mirror is not None else 'no'}")
    print(f"  texture uv   {'yes' if model.uv is not None else 'no'}")
    return DONE


def model_convert(path: Annotated[Path, tyro.conf.Positional], out: Annotated[Path, tyro.conf.Positional], /) -> int:
    """Any known morphable model file -> our .npz (millimetres, sigma units, y up)."""
    from sameface.morphable.formats import open_model

    model = open_model(path)
    model.save(out)
    print(f"{out}: {model.name}, {model.n_vertices} vertices, {out.stat().st_size / 1e6:.1f} MB")
    return DONE


def model_compile(
    source: Annotated[Path, tyro.conf.Positional],
    out: Annotated[Path, tyro.conf.Positional],
    /,
    *,
    faces: int = 200,
    save_report: Path | None = None,
) -> int:
    """ICT-FaceKit npz -> the model that ships with sameface, with a report of what was lost.

    Args:
        source: The ICT-FaceKit Light npz.
        out: The .npz to write.
        faces: How many random source faces to compare with.
        save_report: JSON file to write the report to.
    """
    from sameface import morphable
    from sameface.mesh_io import write_file
    from sameface.morphable.compile import compile_model, report

    compile_model(source).save(out)
    lost = {"megabytes": out.stat().st_size / 1e6, **report(morphable.load(out), source, faces)}
    for name, value in lost.items():
        print(f"  {name:40s} {value:.5g}")
    if save_report is not None:
        about = {"command": f"sameface model compile {source.name} {out.name} --faces {faces}", "report": lost}
        write_file(save_report, (json.dumps(about, indent=1, ensure_ascii=False) + "\n").encode())
    return DONE


def doctor() -> int:
    """Check this installation: versions, packaged files, and a face through the whole pipeline."""
    from sameface.doctor import examine

    lines, healthy = examine()
    print("\n".join(lines))
    return DONE if healthy else NOTHING


def _train(arguments: list[str]) -> int:
    """`sameface train METHOD …`: the flags are the fields of the method's Config and of the loop."""
    from sameface import plugins

    if not arguments or arguments[0].startswith("-"):
        print(
            "usage: sameface train METHOD --data DATASET:FOLDER --out RUN …\n"
            f"methods: {', '.join(plugins.names('methods'))}"
              "\n`sameface train METHOD --help` shows every setting with its source")  # fmt: skip
        return DONE if arguments and arguments[0] in ("-h", "--help") else USAGE
    from sameface.train import Loop, settings, train

    method = arguments[0]

    arguments_of = dataclasses.make_dataclass(
        "Arguments",
        [
            ("data", Annotated[str, tyro.conf.arg(help="DATASET:FOLDER, for example facetable:/data/faces")]),
            ("out", Annotated[Path, tyro.conf.arg(help="run folder; the same one again resumes")]),
            ("config", settings(method), dataclasses.field(default_factory=settings(method))),
            ("loop", Loop, dataclasses.field(default_factory=Loop)),
        ],
    )
    asked = tyro.cli(
        tyro.conf.OmitArgPrefixes[arguments_of], args=arguments[1:], prog=f"sameface train {method}",
        description=plugins.load("methods", method).__doc__,
    )  # fmt: skip
    print(train(method, asked.data, asked.out, asked.config, asked.loop))
    return DONE


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
        extra = "compile" if given[:1] == ["model"] else "train"
        _leave(f"an optional package is missing ({error}): pip install 'sameface[{extra}]'", NOTHING)
    except ValueError as error:
        _leave(str(error), USAGE)
    except KeyboardInterrupt:
        _leave("stopped", STOPPED)


def _run(given: list[str]) -> int:
    if given[:1] == ["train"]:
        return _train(given[1:])
    if given[:1] == ["model"]:
        verbs = {"show": model_show, "convert": model_convert, "compile": model_compile}
        return tyro.extras.subcommand_cli_from_dict(verbs, args=given[1:], prog="sameface model")
    verbs = {"reconstruct": reconstruct, "export": export, "doctor": doctor, "train": _train_help, "model": _model_help}
    return tyro.extras.subcommand_cli_from_dict(verbs, args=given, prog="sameface", description=DESCRIPTION)


def _leave(message: str, code: int) -> NoReturn:
    print(f"sameface: {message}", file=sys.stderr)
    sys.exit(code)


DESCRIPTION = "Photos of a person in, that person's 3D face out."


def _train_help() -> int:
    """Train a method on a data set (sameface train METHOD --help)."""
    return _train([])


def _model_help() -> int:
    """Show, convert or compile a morphable model (sameface model --help)."""
    return USAGE
