"""`sameface VERB …`: every verb is one function here; its arguments become the flags (tyro).

Exit codes: 0 all done · 1 nothing could be done · 2 wrong usage · 3 done, but some photos could not be used.
"""

import dataclasses
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import tyro

from sameface.errors import BadOutput, BadPhoto, SameFaceError

if TYPE_CHECKING:
    from sameface.face import Observation
    from sameface.result import Reconstruction

Kind = Literal["obj", "ply", "glb", "npz", "overlay", "report", "views"]
ALL_KINDS: tuple[Kind, ...] = ("obj", "ply", "glb", "npz", "overlay", "report", "views")

DONE, NOTHING, USAGE, PARTLY = 0, 1, 2, 3

Problems = list[tuple[str, str, str]]
"""(photo, kind, message)"""


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
    min_score: float = 0.5,
    predictor: str = "default",
    quiet: bool = False,
) -> int:
    """Photos (files or folders) of ONE person -> that person's 3D face.

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
    if all_faces + each > 1 or (all_faces and face is not None):
        return _usage("give only one of --each and --all-faces, and --face only without --all-faces")
    if face is not None and face < 1:
        return _usage(f"--face counts from 1 (the largest face), but {face} was given")
    if not photos:
        return _usage("give at least one photo or folder, for example: sameface reconstruct anna.jpg --out anna")
    paths, problems = _gathered(photos)
    _make_folder(out)
    with _progress(len(paths), quiet) as tick:
        people = _people(paths, problems, each, all_faces, face or 1, (predictor, min_score), tick)
        written = [_one(person, out, (iris, ipd, predictor), write, quiet) for person in people]
    for _, _, message in problems:
        print(f"not used: {message}", file=sys.stderr)
    if not any(written):
        return NOTHING
    return PARTLY if problems or not all(written) else DONE


def _gathered(photos: Iterable[str]) -> tuple[list[Path], Problems]:
    """The photo files behind files and folders; a path that leads nowhere is a problem of its own."""
    from sameface import image

    paths: dict[Path, None] = {}
    problems: Problems = []
    for photo in photos:
        try:
            paths |= dict.fromkeys(image.gather([photo]))
        except BadPhoto as error:
            problems.append((str(photo), "BadPhoto", str(error)))
    return list(paths), problems


class _Person(NamedTuple):
    name: str
    """sub-folder for the results; empty when there is only one person"""
    seen: list["Observation"]
    problems: Problems


def _people(
    paths: Sequence[Path],
    problems: Problems,
    each: bool,
    all_faces: bool,
    number: int,
    options: tuple[str, float],
    tick: Callable[[str], None],
) -> Iterator[_Person]:
    """The observations of one person at a time; photos that cannot be used are added to `problems`."""
    from sameface.reconstruction import look

    predictor, min_score = options
    taken: set[str] = set()
    together: list[Observation] = []
    for path in paths:
        looked = look([path], predictor=predictor, min_score=min_score, progress=tick)
        problems.extend(looked.problems)
        for faces in looked.faces:
            stem = _stem(str(path))
            if all_faces:
                for k, one in enumerate(faces):
                    yield _Person(_unused(f"{stem}-face{k + 1}", taken), [one], [])
            elif number > len(faces):
                problems.append(
                    (str(path), "NoFaceFound", f"{path} has {len(faces)} faces, so there is no face {number}")
                )
            elif each:
                yield _Person(_unused(stem, taken), [faces[number - 1]], [])
            else:
                together.append(faces[number - 1])
    if together:
        yield _Person("", together, problems)


def _one(
    person: _Person, out: Path, options: tuple[bool, float | None, str], kinds: Sequence[Kind], quiet: bool
) -> bool:
    """Reconstruct one person and write the files; whether that went well (if not, it is said and the rest goes on)."""
    from sameface.reconstruction import join

    iris, ipd, predictor = options
    folder = out / person.name
    answer = join(person.seen, predictor=predictor, iris=iris, ipd=ipd, problems=tuple(person.problems))
    try:
        _make_folder(folder)
        _write(answer, folder, kinds)
    except BadOutput as error:
        print(f"not written: {error}", file=sys.stderr)
        return False
    if not quiet:
        _summary(answer, folder)
    return True


def _write(answer: "Reconstruction", folder: Path, kinds: Sequence[Kind]) -> None:
    """The files of one person in one folder."""
    answer.save(folder / "result.json")
    files = {"obj": "neutral.obj", "ply": "neutral.ply", "glb": "face.glb", "npz": "face.npz", "report": "report.html"}
    for kind, file in files.items():
        if kind in kinds:
            answer.save(folder / file)
    names: set[str] = set()
    for k, view in enumerate(answer.views):
        stem = _unused(_stem(view.seen.photo), names)
        if "overlay" in kinds:
            _write_png(folder / f"{stem}-overlay.png", answer.overlay(k))
        if "views" in kinds:
            answer.save(folder / f"{stem}.obj", view=k)


def _write_png(path: Path, pixels) -> None:
    import cv2

    from sameface.mesh_io import write_file

    write_file(path, cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))[1].tobytes())


def _summary(answer: "Reconstruction", folder: Path) -> None:
    count = len(answer.views)
    apart = f"; the photos agree within {answer.disagreement:.1f} mm (median)" if count > 1 else ""
    print(f"{folder}: one face from {count} photo{'s' if count > 1 else ''}{apart}; scale: {answer.scale_from}")
    for photo, kind, message in answer.dropped:
        if kind in ("Disagrees", "PoorPhoto"):
            print(f"  left out {photo}: {message}")
    for note in answer.notes:
        print(f"  note: {note}")


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadOutput(f"{folder} cannot be made or used as a folder for results: {error.strerror or error}") from None


def _stem(photo: str) -> str:
    """A file name for results of a photo, without a path or anything a file system might mind."""
    stem = Path(photo.replace("\\", "/")).stem or "photo"
    return "".join(c if c.isalnum() or c in "-_. " else "_" for c in stem).strip(". ") or "photo"


def _unused(name: str, taken: set[str]) -> str:
    """The name, or name-2, name-3 … if it was given before."""
    unique, number = name, 1
    while unique.lower() in taken:
        number += 1
        unique = f"{name}-{number}"
    taken.add(unique.lower())
    return unique


class _progress:
    """A progress bar on a terminal, for more than one photo."""

    def __init__(self, total: int, quiet: bool):
        from rich.console import Console
        from rich.progress import Progress

        console = Console(stderr=True)
        self.total = total
        self.bar = Progress(console=console, transient=True, disable=quiet or total < 2 or not console.is_terminal)

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
    source: Annotated[Path, tyro.conf.Positional], out: Annotated[Path, tyro.conf.Positional], /, *, faces: int = 200
) -> int:
    """ICT-FaceKit npz -> the model that ships with sameface, with a report of what was lost.

    Args:
        source: The ICT-FaceKit Light npz.
        out: The .npz to write.
        faces: How many random source faces to compare with.
    """
    from sameface import morphable
    from sameface.morphable.compile import compile_model, report

    compile_model(source).save(out)
    print(f"{out}: {out.stat().st_size / 1e6:.2f} MB")
    for name, value in report(morphable.load(out), source, faces).items():
        print(f"  {name:40s} {value:.5g}")
    return DONE


def doctor() -> int:
    """Check this installation: versions, packaged files, and a face through the whole pipeline."""
    import importlib.metadata
    import platform
    import time

    import numpy as np

    from sameface import __version__, morphable, picture
    from sameface.camera import WeakPerspective
    from sameface.errors import NoFaceFound
    from sameface.reconstruction import reconstruct as run

    print(f"sameface {__version__}, Python {platform.python_version()}, {platform.machine()}")
    for package in ("numpy", "onnxruntime", "opencv-python-headless", "pillow", "pillow-heif", "torch", "ray"):
        try:
            print(f"  {package:24s} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            print(f"  {package:24s} not installed")
    model = morphable.default()
    frontal = np.diag([1.0, -1.0, -1.0])
    camera = WeakPerspective(frontal, np.array([256.0, 256.0]), np.array(1.8), (512, 512))
    start = time.perf_counter()
    try:
        answer = run(picture.render(model.mean, model.faces, camera))
    except NoFaceFound:
        print("  a rendered face was not found: something is wrong with the networks or their runtime")
        return NOTHING
    print(f"  a rendered face was found and fitted in {time.perf_counter() - start:.2f} s (with start-up), "
          f"score {answer.views[0].seen.score:.2f}")  # fmt: skip
    return DONE


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
    try:
        if given[:1] == ["train"]:
            sys.exit(_train(given[1:]))
        verbs = {"reconstruct": reconstruct, "export": export, "doctor": doctor}
        if given[:1] == ["model"]:
            verbs = {"show": model_show, "convert": model_convert, "compile": model_compile}
            code = tyro.extras.subcommand_cli_from_dict(verbs, args=given[1:], prog="sameface model")
        else:
            verbs |= {"train": _train_help, "model": _model_help}
            code = tyro.extras.subcommand_cli_from_dict(verbs, args=given, prog="sameface", description=DESCRIPTION)
        sys.exit(code)
    except SameFaceError as error:
        print(f"sameface: {error}", file=sys.stderr)
        sys.exit(NOTHING)
    except (ValueError, FileNotFoundError) as error:
        print(f"sameface: {error}", file=sys.stderr)
        sys.exit(USAGE)
    except KeyboardInterrupt:
        print("sameface: stopped", file=sys.stderr)
        sys.exit(130)


DESCRIPTION = "Photos of a person in, that person's 3D face out."


def _train_help() -> int:
    """Train a method on a data set (sameface train METHOD --help)."""
    return _train([])


def _model_help() -> int:
    """Show, convert or compile a morphable model (sameface model --help)."""
    return USAGE


def _usage(message: str) -> int:
    print(f"sameface: {message}", file=sys.stderr)
    return USAGE
