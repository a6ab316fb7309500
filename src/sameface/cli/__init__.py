"""`sameface VERB …`: every verb is one function here; its arguments become the flags (tyro).

Exit codes: 0 all done · 1 nothing could be done · 2 wrong usage · 3 done, but some photos or cases could not be used ·
130 stopped by Ctrl-C.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import tyro

from sameface import __version__
from sameface.cli.exits import DONE, NOTHING, PARTLY, STOPPED, USAGE, exit_code
from sameface.cli.terminal import harmless, streams
from sameface.core import processes
from sameface.core.errors import SameFaceError
from sameface.core.files import check_output, make_folder
from sameface.photo import MIN_SCORE

Kind = Literal["obj", "ply", "stl", "glb", "npz", "overlay", "report", "views"]
DEFAULT_KINDS: tuple[Kind, ...] = ("obj", "ply", "glb", "npz", "overlay", "report", "views")


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
    write: tuple[Kind, ...] = DEFAULT_KINDS,
    min_score: float = MIN_SCORE,
    predictor: str = "default",
    smooth: float = 0.3,
    unlit: bool = False,
    model: Path | None = None,
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
        face: Take the k-th largest face of each photo; else the one that the other photos show, or the largest and
            most central.
        iris: Take the scale from the human iris (11.7 mm) instead of the average head.
        ipd: Take the scale from the distance between the pupils, mm.
        focal: Focal length of all photos, instead of what their files say: 50mm (35 mm equivalent) or 1200px.
        write: Which files to write beside result.json.
        min_score: Least score of a detected face, 0 to 1.
        predictor: Network to use: default, or the path of your own .onnx.
        smooth: Seconds of video over which movements are smoothed, without lag; 0: not at all.
        unlit: Ask viewers of .glb files to show the skin as it is; the light of the photos is in it.
        model: File or folder of another morphable model (FLAME, GNM, Basel, ICT, 3DDFA …) to answer in, too.
        quiet: No progress bar and no summary.
    """
    from sameface.cli import people as many
    from sameface.photo.clip import is_video
    from sameface.photo.observe import points_of
    from sameface.photo.predictor import load
    from sameface.reconstruction import outputs
    from sameface.reconstruction.reconstruct import check_options

    if all_faces and (each or face is not None):
        raise ValueError("--all-faces takes every face of every photo alone; leave out --each and --face")
    if not photos:
        raise ValueError("give at least one photo or folder, for example: sameface reconstruct anna.jpg --out anna")
    clips = [photo for photo in photos if is_video(Path(photo))]
    if len(clips) == len(photos) and (len(clips) > 1 or each or all_faces):
        raise ValueError(f"{clips[0]} is a video; give it alone, and leave out --each and --all-faces")
    check_options(face=face, iris=iris, ipd=ipd, min_score=min_score, smooth=smooth, focal=focal)
    points_of(load(predictor))
    other = None if model is None else many.other_model(model, quiet)
    asked = many.Asked(
        each, all_faces, face, iris, ipd, focal, write, min_score, predictor, smooth, unlit, quiet, other
    )
    given = many.gathered(photos, () if len(photos) == 1 else clips)
    paths, rows = [one for one in given if isinstance(one, Path)], [one for one in given if not isinstance(one, Path)]
    make_folder(out, *photos)
    many.check_not_written_over(out, paths)
    outputs.write_rows(out, rows)  # what cannot be written is said now, not after an hour
    try:
        with many.Progress("looking", None if clips else len(paths), quiet) as tick:
            if clips and len(photos) == 1:
                rows.append(many.one_clip(paths.pop(), out, asked, tick))
            for person in many.people(paths, asked, rows, tick):
                rows.extend(many.one_person(person, out, asked))
    finally:  # Ctrl-C, too
        order = [str(one) if isinstance(one, Path) else one.photo for one in given]
        worked, complete = many.finished(out, rows, order)
    return exit_code(worked, complete)


# ── training, export, models ───────────────────────────────────────────────────────────────────────────────


def export(
    run: Annotated[Path, tyro.conf.Positional],
    /,
    *,
    out: Path | None = None,
    only: tuple[str, ...] = (),
    half: bool = False,
    weights: Literal["best.pt", "last.pt"] = "best.pt",
    method: Path | None = None,
) -> int:
    """Run folder -> a self-describing .onnx, compared with torch on the spot.

    Args:
        run: Folder of a training run.
        out: File to write; default: in the folder.
        only: Outputs that are wanted (such as identity); the file holds what these need. Default: all.
        half: Store the weights with 16 bits.
        weights: Those of the lowest held-out loss, or those of the last step.
        method: The Python file of the run's method, where it is one: no code is run because a folder names it.
    """
    from sameface.training.export import export as write

    if out is not None:
        check_output(out, run / weights)
    print(write(run, out, only=only, half=half, weights=weights, method=method))
    return DONE


def data(
    source: Annotated[str, tyro.conf.Positional],
    /,
    *,
    split: str = "train",
    show: Path | None = None,
    plugin: tuple[Path, ...] = (),
) -> int:
    """Say what a data set gives: items, shapes, persons; with --show, draw some of them with their labels.

    Args:
        source: DATASET:FOLDER, for example facetable:/data/faces.
        split: Which part: train, val or test.
        show: Picture (.png) to draw a sheet of items into.
        plugin: Python files that the folder's own files may name: no code is run because a folder names it.
    """
    from sameface.core import plugins

    plugins.trust(*plugin)
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
    min_score: float = MIN_SCORE,
    out: Path | None = None,
    page: Path | None = None,
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
        page: HTML file to show the difference in: a face to turn, coloured by mm, that becomes the other one.
        quiet: Print only same, different or unsure.
    """
    from sameface.verification.differences import write_differences
    from sameface.verification.verify import check_far, compare, read_sides

    check_far(far)
    for path in filter(None, (out, page)):
        check_output(path, a, b)
    first, second = read_sides(a, b, predictor=predictor, min_score=min_score)
    verdict = compare(first, second, far=far)
    print(verdict.word if quiet else verdict.as_text())
    for photo, _, message in verdict.dropped:
        print(harmless(f"not used: {message if photo in message else f'{photo}: {message}'}"), file=sys.stderr)
    if out is not None:
        verdict.save(out)
    if page is not None:
        write_differences(first, second, verdict, page)
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

    workers = processes.cores() if workers is None else workers
    with Progress("people", None, quiet) as tick:
        new = write(
            out, persons, views, seed=seed, size=size, workers=workers, model=model, backgrounds=backgrounds,
            tick=lambda done, total: tick("people", total, done),
        )  # fmt: skip
    print(f"{out}: {persons} people with {views} photos each, {new} of them new")
    return DONE


def doctor() -> int:
    """Check this installation: versions, packaged files, and a face through the whole pipeline."""
    from sameface.cli.installation import examine

    lines, healthy = examine()
    print("\n".join(lines))
    return DONE if healthy else NOTHING


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line: run a verb, print errors as one line, leave with the exit code."""
    given = [_at_home(one) for one in (sys.argv[1:] if arguments is None else arguments)]
    with streams() as printed:
        message, code = _outcome(given)
        if message:
            print("sameface:", "\n".join(map(harmless, message.splitlines())), file=sys.stderr)
        printed.flush()
        if printed.failed:
            print(f"sameface: standard output cannot be written ({printed.failed})", file=sys.stderr)
            code = code or NOTHING
    sys.exit(code)


def _at_home(argument: str) -> str:
    """An argument with ~ for the user's folder, which shells leave alone in --out=~/faces and between quotes."""
    flag, equals, value = argument.partition("=") if argument.startswith("--") else ("", "", argument)
    return flag + equals + os.path.expanduser(value) if value == "~" or value.startswith("~/") else argument


def _outcome(given: list[str]) -> tuple[str, int]:
    """Run a verb: what went wrong, if anything did, and the exit code."""
    try:
        with processes.told_to_stop():
            return "", _run(given)
    except ImportError as error:
        extras = {"model": "compile", "data": "evaluate", "index": "search"}
        named = given[0] in ("evaluate", "bulk", "search")
        extra = given[0] if named else extras.get(given[0], "train")
        return f"an optional package is missing ({error}): pip install 'sameface[{extra}]'", NOTHING
    except (SameFaceError, OSError) as error:
        return str(error), NOTHING
    except ValueError as error:
        return str(error), USAGE
    except KeyboardInterrupt:
        return "stopped", STOPPED


def _run(given: list[str]) -> int:
    from sameface.cli import plugged
    from sameface.cli.app import app
    from sameface.cli.bulk import bulk
    from sameface.cli.model import VERBS, model_help
    from sameface.cli.search import index, search

    if given == ["--version"]:
        print(f"sameface {__version__}")
        return DONE
    own_flags = {"train": plugged.train, "evaluate": plugged.evaluate, "fit-set": plugged.fit_set}
    if given and given[0] in own_flags:
        return own_flags[given[0]](given[1:])
    if given[:1] == ["model"]:
        return tyro.extras.subcommand_cli_from_dict(VERBS, args=given[1:], prog="sameface model")
    verbs = {
        "reconstruct": reconstruct, "bulk": bulk, "verify": verify, "index": index, "search": search,
        "evaluate": plugged.evaluate_help, "train": plugged.train_help, "export": export, "data": data,
        "fit-set": plugged.fit_set_help, "synth": synth, "model": model_help, "app": app,
        "doctor": doctor,
    }  # fmt: skip
    return tyro.extras.subcommand_cli_from_dict(verbs, args=given, prog="sameface", description=DESCRIPTION)


DESCRIPTION = "Photos of a person in, that person's 3D face out. `sameface --version` says which sameface this is."
