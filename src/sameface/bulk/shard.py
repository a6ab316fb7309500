"""Photos of whole persons → rows: what `sameface reconstruct` says of each photo and each person, or why it cannot.

One piece of the work of `bulk.py`, in one process, one person at a time. Nothing that a photo does may cost another
photo's row: whatever goes wrong with it becomes its `error` and `message`.
"""

import json
import os
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass, replace
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

from sameface.core.errors import BadPhoto
from sameface.core.files import named, plain
from sameface.core.geometry import euler_from_rotation
from sameface.morphable import default
from sameface.photo import MIN_SCORE, image
from sameface.photo.face import Observation, mean_code
from sameface.photo.predictor import CODE, load, second
from sameface.photo.turned import observe_turned
from sameface.reconstruction.choice import Candidate, candidates, choose
from sameface.reconstruction.reconstruct import join
from sameface.reconstruction.result import View

__all__ = ["Options", "Row", "person_schema", "photo_schema", "shard_rows"]

Row = dict[str, Any]


@dataclass(frozen=True)
class Options:
    """What the rows depend on."""

    each: bool = False
    """Every photo is somebody of its own."""
    predictor: str = "default"
    """Network that measures the photos: default, or the path of your own .onnx."""
    min_score: float = MIN_SCORE
    """Least score of a detected face, 0 to 1."""
    shard: int = 256
    """Photos per file; more if a person has more."""
    seconds: float = 300.0
    """A photo that takes longer is given up. Ours: 200 million pixels, the most we read, take about 20 s."""


def shard_rows(
    listed: Iterable[tuple[str, str]],
    root: Path,
    options: Options,
    at: Callable[[str, float], None],
    blamed: Container[str] = (),
) -> tuple[list[Row], list[Row]]:
    """One row per photo (columns of `photo_schema`) and one per person (`person_schema`), in the order given.

    `listed` are (path, person), all photos of a person in a row; paths are relative to `root`. `at` is told what is
    begun, "photo K" or "person K" (K the row of the person's first photo), and how many seconds it may take; what is in
    `blamed` is not tried again and has the error WorkerDied.
    """
    photos: list[Row] = []
    persons: list[Row] = []
    for person, group in groupby(listed, itemgetter(1)):
        first = len(photos)
        photos += [{"path": path, "person": person} for path, _ in group]
        mine, found = photos[first:], []
        known: set[str] = set()
        for number, row in enumerate(mine, first):
            if f"photo {number}" in blamed:
                row |= _died(row["path"])
                continue
            at(f"photo {number}", options.seconds)
            try:
                found.append((row, _look(row, root, known, options)))
            except Exception as error:  # whatever a decoder may think of: the others go on
                row |= _problem(row["path"], error)
        seen = _chosen(found)
        if not seen:
            joined = {name: mine[0][name] for name in ("error", "message")}
        elif f"person {first}" in blamed:
            joined = _unjoined(mine, _died(person))
        else:
            at(f"person {first}", options.seconds + len(seen))
            joined = _joined(mine, seen, options)
        persons.append({"person": person, "photos": len(mine), "used": 0} | joined)
    return photos, persons


def photo_schema() -> Any:
    """The columns of photos/ (a pyarrow schema); where `error` is not null, the columns that it cost are."""
    import pyarrow as pa

    model, number = default(), pa.float64()
    return _schema(
        path=pa.string(), person=pa.string(), error=pa.string(), message=pa.string(),
        width=pa.int32(), height=pa.int32(), box=pa.list_(number, 4), score=number, quality=number,
        rotation=pa.list_(number, 9), translation=pa.list_(number, 3), focal_px=number, focal_from=pa.string(),
        center=pa.list_(number, 2), pitch=number, yaw=number, roll=number,
        expression=pa.list_(pa.float32(), model.n_expression), identity=pa.list_(pa.float32(), model.n_identity),
        code=pa.list_(pa.float32(), CODE),
        residual=number, disagreement_mm=number,
    )  # fmt: skip


def person_schema() -> Any:
    """The columns of persons/ (a pyarrow schema); `identity` is null where no photo could be used."""
    import pyarrow as pa

    return _schema(
        person=pa.string(), photos=pa.int32(), used=pa.int32(), error=pa.string(), message=pa.string(),
        identity=pa.list_(pa.float32(), default().n_identity), code=pa.list_(pa.float32(), CODE),
        disagreement_mm=pa.float64(),
        notes=pa.list_(pa.string()),
    )  # fmt: skip


# ── inside ─────────────────────────────────────────────────────────────────────────────────────────────────


def _schema(**columns: Any) -> Any:
    import pyarrow as pa

    about = {"morphable": default().name, "expression_names": default().expression_names}
    return pa.schema(list(columns.items()), {"sameface": json.dumps(about)})


def _look(row: Row, root: Path, known: set[str], options: Options) -> list[Candidate]:
    """The faces of a photo that may be meant."""
    file = named(root / row["path"])
    if file.is_dir():
        image.gather(file)  # which says what is in it, if there is no photo
    real = os.path.realpath(file)
    if real in known:
        raise BadPhoto(f"{row['path']} was given twice; it counts once")
    known.add(real)
    photo = image.read(file, name=row["path"])
    faces = observe_turned(photo, load(options.predictor), second=second(), min_score=options.min_score)
    bare = [replace(one, picture=np.zeros((0, 0, 3), np.uint8)) for one in faces]  # pictures would fill the memory
    return candidates(bare)


def _chosen(found: list[tuple[Row, list[Candidate]]]) -> list[Observation]:
    """One face of each of a person's photos; fills in what was seen of it."""
    seen = choose([some for _, some in found])
    for (row, _), one in zip(found, seen, strict=True):
        row |= {"width": one.size[0], "height": one.size[1], "box": one.box, "score": one.score, "quality": one.quality}
    return seen


def _joined(rows: list[Row], seen: list[Observation], options: Options) -> Row:
    """The columns of the person, once its photos are fitted together; fills in those of the photos."""
    try:
        answer = join(seen, predictor=options.predictor)
    except Exception as error:  # a fit that cannot be made is no other person's fault
        return _unjoined(rows, _problem(f"person {rows[0]['person']}", error))
    by_path = {row["path"]: row for row in _seen(rows)}
    for path, kind, message in answer.dropped:
        by_path[path] |= {"error": kind, "message": message}
    together = len(answer.views) > 1
    for view in answer.views:
        by_path[view.seen.photo] |= _view(view, together)
    apart = answer.disagreement if together else None
    code = mean_code([view.seen for view in answer.views])
    told = {"identity": answer.identity, "code": code, "disagreement_mm": apart, "notes": answer.notes}
    return {"used": len(answer.views)} | told


def _view(view: View, together: bool) -> Row:
    """The columns of a photo that counted."""
    camera = view.camera
    pitch, yaw, roll = (float(np.degrees(angle)) for angle in euler_from_rotation(camera.pose))
    return {
        "rotation": camera.rotation.ravel(),
        "translation": camera.translation,
        "focal_px": float(camera.focal),
        "focal_from": view.focal_from,
        "center": camera.center,
        "pitch": pitch,
        "yaw": yaw,
        "roll": roll,
        "expression": view.expression,
        "identity": view.identity_alone,
        "code": view.seen.code,
        "residual": view.residual,
        "disagreement_mm": view.disagreement if together else None,
    }


def _unjoined(rows: list[Row], problem: Row) -> Row:
    """The columns of a person that could not be fitted, and of the photos that were seen."""
    for row in _seen(rows):
        row |= problem
    return problem


def _seen(rows: list[Row]) -> list[Row]:
    return [row for row in rows if "score" in row]


def _died(name: str) -> Row:
    why = "the processes that worked on it ended before their time (it took too long or too much memory, or a crash)"
    return {"error": "WorkerDied", "message": f"{name}: {why}"}


def _problem(name: str, error: Exception) -> Row:
    message = f"{name} does not fit into memory; make it smaller" if isinstance(error, MemoryError) else str(error)
    return {"error": type(error).__name__, "message": plain(message)}
