"""What the app does with the files of a job, in a process of its own, which may be ended at any time.

A job is a folder: `given/` holds what was uploaded, of two people in `given/first/` and `given/second/`; what is made
is put beside it. Messages name files as they lie in `given/`, so nobody reads a path of this machine.
"""

import os
import sys
import traceback
import zipfile
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

from sameface.core import processes
from sameface.core.errors import BadPhoto, SameFaceError
from sameface.core.files import names_in, written

__all__ = ["GIVEN", "KINDS", "Task", "serve"]

GIVEN = "given"
KINDS = {"face": ("",), "verify": ("first", "second"), "video": ("",)}
"""what a job can be, and the folders in `given/` that its files are in"""
OBJ = ("neutral.obj", "neutral.mtl", "neutral.png")
BROKEN = "something went wrong inside the program, which is not your fault; the terminal it runs in says what"

Tell = Callable[[str, int, int], Any]


class Task(NamedTuple):
    """What a worker is asked."""

    kind: str
    folder: str
    """absolute"""
    longest: float
    """s of a video"""


def serve(line: Connection) -> None:  # pragma: no cover - runs in other processes
    """Do one task after the other: each is answered by any number of ("at", text, done, total) and one
    ("done", answer) or ("failed", message)."""
    processes.begin()
    _warm()
    home = os.getcwd()
    while True:
        try:
            task = line.recv()
        except (EOFError, OSError):  # whoever asked is gone
            return
        try:
            line.send(outcome(task, lambda text, done, total: line.send(("at", text, done, total))))
        except OSError:
            return
        finally:
            os.chdir(home)


def _warm() -> None:  # pragma: no cover - runs in other processes
    """Load what every job needs while nobody waits for it yet."""
    from sameface.photo.predictor import load
    from sameface.reconstruction import outputs as outputs

    load("default")


def outcome(task: Task, tell: Tell) -> tuple[str, Any]:
    """What became of a task: an answer for the page, or a message; never an error."""
    try:
        folder = Path(task.folder)
        os.chdir(folder / GIVEN)
        return "done", {"face": _face, "verify": _verify, "video": _video}[task.kind](folder, task, tell)
    except SameFaceError as error:
        return "failed", str(error)
    except MemoryError:
        return "failed", "this does not fit into memory; give fewer or smaller files"
    except Exception:
        traceback.print_exc(file=sys.stderr)
        return "failed", BROKEN


# ── the kinds of jobs ──────────────────────────────────────────────────────────────────────────────────────


def _face(folder: Path, task: Task, tell: Tell) -> dict[str, Any]:
    from sameface.reconstruction import outputs
    from sameface.reconstruction.choice import candidates, choose
    from sameface.reconstruction.reconstruct import first_error, join, look

    names, done = names_in("."), 0

    def seen(name: str) -> None:
        nonlocal done
        done += 1
        tell("looking at the photos", done, len(names))

    tell("looking at the photos", 0, len(names))
    looked = look([Path(name) for name in names], progress=seen)
    if not looked.faces:
        raise first_error(looked.problems)
    tell("fitting the face", 0, 0)
    answer = join(choose([candidates(faces) for faces in looked.faces]), problems=looked.problems)
    tell("writing the files", 0, 0)
    outputs.write_person(answer, folder, ("obj", "stl", "glb", "report"))
    return {
        "headline": "The face is ready",
        "notes": list(answer.notes),
        "left_out": _left_out(answer.dropped),
        "page": "report.html",
        "files": [
            ("face.glb", "3D face with 51 expressions, GLB"),
            _zipped(folder),
            ("neutral.stl", "closed head for printing, STL"),
            ("report.html", "report, one page"),
            ("result.json", "all numbers, JSON"),
        ],
    }


def _verify(folder: Path, task: Task, tell: Tell) -> dict[str, Any]:
    from sameface.verification.differences import HEADLINES, write_differences
    from sameface.verification.verify import compare, read_sides

    tell("looking at the photos of both", 0, 0)
    first, second = ([str(Path(side, name)) for name in names_in(side)] for side in KINDS["verify"])
    sides = read_sides(first, second)
    verdict = compare(*sides)
    tell("writing the files", 0, 0)
    write_differences(*sides, verdict, folder / "differences.html")
    verdict.save(folder / "verdict.json")
    apart = f"The shapes of the two faces are {verdict.distance_mm:.2f} mm apart"
    chance = f"the probability that they are one person's is {verdict.chance}, if it was as likely as not before."
    return {
        "headline": HEADLINES[verdict.same],
        "sentence": f"{apart}; {chance}",
        "notes": list(verdict.notes),
        "left_out": _left_out(verdict.dropped),
        "page": "differences.html",
        "files": [
            ("differences.html", "where they differ, one page"),
            ("verdict.json", "all numbers, JSON"),
        ],
    }


def _video(folder: Path, task: Task, tell: Tell) -> dict[str, Any]:
    from sameface.photo.clip import promised
    from sameface.reconstruction import outputs, video

    name = Path(names_in(".")[0])
    said = promised(name)
    long = said.end or (said.frames / said.rate if said.rate else 0.0)
    if long > task.longest:
        raise BadPhoto(
            f"{name} is {long:.0f} s long; here a video has at most {task.longest:g} s: cut it, "
            "or use `sameface reconstruct`, which takes longer ones"
        )
    track = video.track(name, progress=lambda done, total: tell("looking at the frames", done, total))
    tell("writing the files", 0, 0)
    outputs.write_person(track.person, folder, ("obj", "glb", "report"), animation=track.animation())
    track.save(folder / "animation.glb")
    track.save(folder / "frames.csv")
    return {
        "headline": "The face and its movement are ready",
        "sentence": f"There is a face in {track.found.sum()} of {len(track.found)} frames.",
        "notes": [*track.notes, *track.person.notes],
        "left_out": [],
        "page": "report.html",
        "files": [
            ("animation.glb", "3D face that moves, GLB"),
            ("frames.csv", "camera and 51 weights of every frame, CSV"),
            ("face.glb", "3D face with 51 expressions, GLB"),
            _zipped(folder),
            ("report.html", "report, one page"),
            ("result.json", "all numbers, JSON"),
        ],
    }


def _left_out(dropped: tuple[tuple[str, str, str], ...]) -> list[dict[str, str]]:
    return [{"photo": photo, "why": message} for photo, _, message in dropped]


def _zipped(folder: Path) -> tuple[str, str]:
    """The OBJ with its skin as one file, for neither is of use alone."""
    with written(folder / "neutral-obj.zip") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in OBJ:
            if (folder / name).is_file():
                packed.write(folder / name, name)
    return "neutral-obj.zip", "neutral face with its skin, OBJ in a ZIP"
