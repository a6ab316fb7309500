"""What `sameface reconstruct` does with many photos or a clip: who is one person, and what became of every photo."""

import os
import sys
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import rich.console
import rich.progress

from sameface.cli.terminal import harmless
from sameface.core.errors import BadOutput, BadPhoto, SameFaceError
from sameface.morphable.bridge import bridge
from sameface.morphable.recast import Recaster
from sameface.photo import image
from sameface.photo.face import Observation
from sameface.reconstruction import outputs, reconstruct
from sameface.reconstruction.choice import Candidate, candidates, choose
from sameface.reconstruction.in_model import InModel
from sameface.reconstruction.outputs import PHOTOS, Row, stem, unused
from sameface.reconstruction.result import Reconstruction

__all__ = [
    "Asked",
    "Person",
    "Progress",
    "check_not_written_over",
    "finished",
    "gathered",
    "one_clip",
    "one_person",
    "other_model",
    "people",
]


TAKEN = ("neutral", "face", "result", "report", "photos", "frames", "animation")
"""names of our own results, which another model's files must not take"""
STOPPED = "the command was stopped before it was done with this photo"


class Other(NamedTuple):
    """Another model to answer in."""

    name: str
    """of its files in the results, without ending"""
    recaster: Recaster


class Asked(NamedTuple):
    """The flags of one run."""

    each: bool
    all_faces: bool
    face: int | None
    iris: bool
    ipd: float | None
    focal: str | None
    write: tuple[str, ...]
    min_score: float
    predictor: str
    smooth: float
    unlit: bool
    quiet: bool
    other: Other | None = None

    @property
    def reserved(self) -> tuple[str, ...]:
        """Names that no photo's files may have."""
        return () if self.other is None else (self.other.name,)


def other_model(path: Path, quiet: bool) -> Other:
    """The model of `--model`, joined with ours, which takes half a minute the first time; what is chosen is said."""
    say = (lambda text: None) if quiet else (lambda text: print(harmless(f"{path}: {text}")))
    made = bridge(path, progress=say)
    if made.fresh:
        say("joined with our face, once; `sameface model bridge` shows how well")
    name = stem(path.name)
    return Other(f"in-{name}" if name in TAKEN else name, Recaster(made))


def gathered(photos: Iterable[str], clips: Container[str] = ()) -> list[Path | Row]:
    """The photo files behind files and folders, each once; a row in place of `clips` and of paths that lead nowhere."""
    given: list[Path | Row] = []
    known: set[str] = set()
    for photo in photos:
        if photo in clips:
            given.append(Row(photo, None, "BadPhoto", f"{photo} is a video; give it alone"))
            continue
        if others := image.left_out(photo):
            print(harmless(f"not looked at: {others}"), file=sys.stderr)
        try:
            found = image.gather([photo])
        except BadPhoto as error:
            given.append(Row(photo, None, "BadPhoto", str(error)))
            continue
        real = {os.path.realpath(path): path for path in found}  # which a link to itself does not stop
        new = {name: path for name, path in real.items() if name not in known}
        known |= new.keys()
        given.extend(new.values())
    return given


class Person(NamedTuple):
    """Observations that are fitted together."""

    name: str
    """sub-folder for the results; empty when there is only one person"""
    seen: list[Observation]
    problems: tuple[tuple[str, str, str], ...] = ()


def people(paths: Sequence[Path], asked: Asked, rows: list[Row], tick: Callable[[str], None]) -> Iterator[Person]:
    """The observations of one person at a time; photos that cannot be used are added to `rows`."""
    taken = {PHOTOS}
    together: list[list[Candidate]] = []
    for path in paths:
        looked = reconstruct.look(
            [path], predictor=asked.predictor, min_score=asked.min_score, focal=asked.focal, progress=tick
        )
        rows.extend(Row(photo, None, kind, message) for photo, kind, message in looked.problems)
        for faces in looked.faces:
            if asked.all_faces:
                for k, one in enumerate(faces, 1):
                    yield Person(unused(f"{stem(path.name)}-face{k}", taken), [one])
            elif not (some := candidates(faces, asked.face)):
                photo, kind, message = reconstruct.no_face_of_that_number(faces, asked.face or 1)
                rows.append(Row(photo, None, kind, message))
            elif asked.each:
                yield Person(unused(stem(path.name), taken), choose([some]))
            else:
                together.append(some)
    if together:
        yield Person("", choose(together), tuple((r.photo, r.problem or "", r.message or "") for r in rows))


def one_person(person: Person, out: Path, asked: Asked) -> list[Row]:
    """Reconstruct one person and write the files; a row per photo, also where that failed, so that the rest goes on."""
    folder = out / person.name
    try:
        scale = {"iris": asked.iris, "ipd": asked.ipd}
        answer = reconstruct.join(person.seen, predictor=asked.predictor, **scale, problems=person.problems)
        outputs.write_person(answer, folder, asked.write, unlit=asked.unlit, reserved=asked.reserved)
        if asked.other is not None:
            _in_other(answer, asked.other, folder, asked)
    except SameFaceError as error:
        return [Row(one.photo, None, type(error).__name__, str(error)) for one in person.seen]
    if not asked.quiet:
        _summary(answer, folder)
    dropped = {photo: (kind, message) for photo, kind, message in answer.dropped}
    names = [one.photo for one in person.seen]
    return [Row(name, None, *dropped[name]) if name in dropped else Row(name, person.name or ".") for name in names]


def one_clip(clip: Path, out: Path, asked: Asked, tick: Callable[..., None]) -> Row:
    """Reconstruct the person of a video and write the files of a person, frames.csv, and animation.glb."""
    from sameface.reconstruction import video  # which needs scipy, as photos do not

    try:
        track = video.track(
            clip, smooth=asked.smooth, face=asked.face, predictor=asked.predictor, iris=asked.iris, ipd=asked.ipd,
            min_score=asked.min_score, focal=asked.focal, progress=lambda done, total: tick(clip.name, total, done),
        )  # fmt: skip
        outputs.write_person(
            track.person, out, asked.write, unlit=asked.unlit, reserved=asked.reserved, animation=track.animation()
        )
        track.save(out / "frames.csv")
        if "glb" in asked.write:
            track.save(out / "animation.glb", unlit=asked.unlit)
        if asked.other is not None:
            person = _in_other(track.person, asked.other, out, asked)
            outputs.write_frames(person, out / f"{asked.other.name}-frames.npz", track.seconds, track.expression)
    except SameFaceError as error:
        return Row(str(clip), None, type(error).__name__, str(error))
    if not asked.quiet:
        _summary(track.person, out)
        print(f"{out / 'frames.csv'}: a face in {track.found.sum()} of {len(track.found)} frames")
        for note in track.notes:
            print(harmless(f"  note: {note}"))
    return Row(str(clip), ".")


def check_not_written_over(out: Path, photos: Iterable[Path]) -> None:
    """Raise BadOutput if results would be written over a photo that is given."""
    for photo in photos:
        named = photo.name == outputs.SKIN or photo.name.endswith(outputs.OVERLAY)
        written_over = named and os.path.isdir(photo.parent)
        if written_over and os.path.samefile(photo.parent, out):
            raise BadOutput(f"{photo} might be written over by a result of that name; choose another --out")


def finished(out: Path, rows: list[Row], order: Sequence[str]) -> tuple[bool, bool]:
    """Write photos.json and say what could not be used; returns whether anything worked, and whether all did."""
    place = {photo: k for k, photo in enumerate(order)}
    done = {row.photo for row in rows}
    rows.extend(Row(photo, None, "Stopped", STOPPED) for photo in place if photo not in done)
    rows.sort(key=lambda row: place[row.photo])
    for message in dict.fromkeys(_line(row) for row in rows if row.problem):
        print(harmless(message), file=sys.stderr)
    worked = any(row.folder for row in rows)
    try:
        outputs.write_rows(out, rows)
    except BadOutput as error:
        print(f"not written: {error}", file=sys.stderr)
        return worked, False
    return worked, not any(row.problem for row in rows)


def _line(row: Row) -> str:
    """A problem in one line; messages about a result do not name the photo themselves."""
    if row.problem == "BadOutput":
        return f"not written: {row.message}"
    return f"not used: {row.message}" if row.photo in (row.message or "") else f"not used: {row.photo}: {row.message}"


def _in_other(answer: Reconstruction, other: Other, folder: Path, asked: Asked) -> InModel:
    found = answer.in_model(other.recaster)
    outputs.write_in_model(found, folder, other.name, asked.write)
    if not asked.quiet:
        mean, p95 = found.residual()
        where = folder / f"{other.name}.json"
        print(harmless(f"{where}: in {found.model.name}, {mean:.2f} mm from ours in the face (95 %: {p95:.2f})"))
    return found


def _summary(answer: Reconstruction, folder: Path) -> None:
    count = len(answer.views)
    apart = f"; its photos differ from it by {answer.disagreement:.1f} mm (median)" if count > 1 else ""
    what = f"one face from {count} photo{'s' if count > 1 else ''}{apart}; scale: {answer.scale_from}"
    print(harmless(f"{folder}: {what}"))
    for note in answer.notes:
        print(harmless(f"  note: {note}"))


class Progress:
    """A progress bar on a terminal, unless there is only one thing to do; `total` None: the first tick says it."""

    def __init__(self, what: str, total: int | None, quiet: bool):
        console = rich.console.Console(stderr=True)
        self.what, self.total = what, total
        off, captured = quiet or total in (0, 1) or not console.is_terminal, sys.stdout.isatty()
        self.bar = rich.progress.Progress(console=console, transient=True, disable=off, redirect_stdout=captured)

    def __enter__(self) -> Callable[..., None]:
        self.bar.start()
        task = self.bar.add_task(self.what, total=self.total)

        def tick(name: str, total: int | None = None, done: int | None = None) -> None:
            now = self.bar.tasks[0].completed + 1 if done is None else done
            self.bar.update(task, completed=now, total=total, description=Path(name).name[:40])

        return tick

    def __exit__(self, *error: object) -> None:
        self.bar.stop()
