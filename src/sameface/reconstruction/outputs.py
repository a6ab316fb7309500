"""The files of an answer; a folder per person; `photos.json`, which says what became of every photo that was given."""

import json
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from sameface.core.files import make_folder, write_file
from sameface.mesh.glb import Animation, Part, write_glb
from sameface.mesh.solid import write_stl
from sameface.mesh.write import write_obj, write_ply
from sameface.morphable.head import eye_centres, normals, surface
from sameface.reconstruction.in_model import InModel
from sameface.reconstruction.report import write_report
from sameface.reconstruction.result import Reconstruction

__all__ = [
    "PHOTOS",
    "Row",
    "stem",
    "unused",
    "write_answer",
    "write_frames",
    "write_in_model",
    "write_person",
    "write_rows",
]

_FILES = {
    "obj": "neutral.obj",
    "ply": "neutral.ply",
    "stl": "neutral.stl",
    "glb": "face.glb",
    "npz": "face.npz",
    "report": "report.html",
}

PHOTOS, OVERLAY, SKIN = "photos.json", "-overlay.png", "neutral.png"
LONGEST_STEM = 120
"""bytes; file systems take names of 255, and endings follow"""


class Row(NamedTuple):
    """What became of one photo (or of one face of it): a folder with results, or a problem."""

    photo: str
    folder: str | None
    """inside the run's folder; "." is that folder itself"""
    problem: str | None = None
    """BadPhoto, NoFaceFound, PoorPhoto, Copy, Disagrees, BadOutput, Stopped"""
    message: str | None = None


def write_answer(
    answer: Reconstruction, path: Path, view: int | None, animation: Animation | None = None, unlit: bool = False
) -> Path:
    """What `Reconstruction.save` does. Raises ValueError for what such a file cannot hold, BadOutput."""
    suffix = path.suffix.lower()
    if suffix not in _WRITERS:
        raise ValueError(f"{path.name}: a reconstruction is saved as {', '.join(_WRITERS)}, not {path.suffix!r}")
    if view is not None and suffix in (".json", ".html"):
        raise ValueError(f"{path.name} tells of all views at once; leave view= out, or save a mesh")
    if suffix == ".glb":
        _glb(answer, path, view, animation, unlit)
    elif unlit:
        raise ValueError(f"{path.name}: only .glb files can be unlit; leave unlit= out")
    elif suffix == ".html":
        write_report(answer, path, animation)
    elif animation is not None:
        raise ValueError(f"{path.name}: only .glb and .html files hold an animation; leave animation= out")
    else:
        _WRITERS[suffix](answer, path, view)
    return path


def write_person(
    answer: Reconstruction,
    folder: Path,
    kinds: Sequence[str],
    *,
    unlit: bool = False,
    reserved: Sequence[str] = (),
    animation: Animation | None = None,
) -> None:
    """result.json of one person and the files asked for (named as by --write). Raises BadOutput.

    Files of photos take no `reserved` name. The report plays the `animation`.
    """
    make_folder(folder)
    answer.save(folder / "result.json")
    for kind, file in _FILES.items():
        if kind in kinds:
            moved = animation if kind == "report" else None
            answer.save(folder / file, unlit=unlit and kind == "glb", animation=moved)
    taken = {"neutral", *map(str.lower, reserved)}  # a photo called neutral.jpg must not overwrite neutral.obj
    for k, view in enumerate(answer.views):
        name = unused(stem(view.seen.photo), taken)
        if "overlay" in kinds:
            write_file(folder / f"{name}{OVERLAY}", _png(answer.overlay(k)))
        if "views" in kinds:
            answer.save(folder / f"{name}.obj", view=k)


def write_in_model(answer: InModel, folder: Path, name: str, kinds: Sequence[str]) -> None:
    """NAME.json and, of the files asked for, NAME.obj, NAME.glb, NAME.npz and one NAME-<photo>.obj per view."""
    make_folder(folder)
    answer.save(folder / f"{name}.json")
    for kind in ("obj", "glb", "npz"):
        if kind in kinds:
            answer.save(folder / f"{name}.{kind}")
    taken: set[str] = set()
    for k, photo in enumerate(answer.photos):
        if "views" in kinds:
            answer.save(folder / f"{name}-{unused(stem(photo), taken)}.obj", view=k)


def write_frames(
    answer: InModel, path: Path, seconds: Float[np.ndarray, " N"], expression: Float[np.ndarray, "N E"]
) -> None:
    """An .npz of the other model's coefficients in every frame of a video, rows of NaN where there is no face."""
    buffer = BytesIO()
    fixed = answer.coefficients()["identity"]
    np.savez_compressed(buffer, seconds=seconds, identity=fixed, **answer.frames(expression))  # type: ignore[arg-type]
    write_file(path, buffer.getvalue())


def write_rows(out: Path, rows: Iterable[Row]) -> None:
    """`photos.json`: a list with one object per row. Raises BadOutput."""
    write_file(out / PHOTOS, (json.dumps([row._asdict() for row in rows], indent=1) + "\n").encode())


def stem(photo: str) -> str:
    """A file name for the results of a photo, without a path or anything that a file system might mind.

    >>> stem("../Anna & Søren?.jpeg"), stem(".."), stem("clips/a.mp4 frame 12")
    ('Anna _ Søren_', 'photo', 'a.mp4 frame 12')
    """
    path = Path(photo.replace("\\", "/"))
    name = unicodedata.normalize("NFC", path.name if " " in path.suffix else path.stem)
    safe = "".join(c if c.isalnum() or c in "-_. " else "_" for c in name)
    return safe.encode()[:LONGEST_STEM].decode(errors="ignore").strip(". ") or "photo"


def unused(name: str, taken: set[str]) -> str:
    """The name, or name-2, name-3 … if it was given before, in capitals or not; it is added to those taken.

    >>> taken = set()
    >>> [unused(name, taken) for name in ("anna", "Anna", "bert")]
    ['anna', 'Anna-2', 'bert']
    """
    unique, number = name, 1
    while unique.lower() in taken:
        number += 1
        unique = f"{name}-{number}"
    taken.add(unique.lower())
    return unique


# ── one file of an answer ──────────────────────────────────────────────────────────────────────────────────


def _obj(answer: Reconstruction, path: Path, view: int | None) -> None:
    """The neutral face has its skin with it, a .mtl and a .png beside it; those of the views can share that."""
    head, vertices = answer.head, answer.vertices(view, head=True)
    skin = answer.skin if view is None else None
    write_obj(path, vertices, head.faces, normals=normals(head, vertices), uv=head.uv, texture=skin)


def _ply(answer: Reconstruction, path: Path, view: int | None) -> None:
    head, vertices, skin = answer.head, answer.vertices(view, head=True), answer.skin
    colours = None if skin is None or head.uv is None else _sampled(skin, head.uv)
    write_ply(path, vertices, head.faces, normals=normals(head, vertices), colours=colours)


def _sampled(skin: UInt8[np.ndarray, "T S 3"], uv: Float[np.ndarray, "V 2"]) -> UInt8[np.ndarray, "V 3"]:
    """The colour of the skin at every vertex."""
    where = (uv * [1.0, -1.0] + [0.0, 1.0]) * skin.shape[1::-1] - 0.5
    return cv2.remap(skin, np.float32(where)[:, None], None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)[:, 0]  # type: ignore


def _stl(answer: Reconstruction, path: Path, view: int | None) -> None:
    write_stl(path, answer.vertices(view, head=True), surface(answer.head))


def _glb(
    answer: Reconstruction, path: Path, view: int | None, animation: Animation | None = None, unlit: bool = False
) -> None:
    head, vertices = answer.head, answer.vertices(view, head=True)
    targets = dict(zip(head.expression_names, np.float32(answer.scale) * head.expressions, strict=True))
    eyes = [Part(f"eye{side}", mine, centre) for side, mine, centre in eye_centres(head, vertices, answer.scale)]
    write_glb(
        path, vertices, head.faces, normals=normals(head, vertices), uv=head.uv, texture=answer.skin,
        morph_targets=targets, animation=animation, unlit=unlit, licence=head.licence, parts=eyes,
    )  # fmt: skip


def _npz(answer: Reconstruction, path: Path, view: int | None) -> None:
    buffer = BytesIO()
    arrays = {
        "vertices": answer.vertices(view), "faces": answer.model.faces, "identity": answer.identity,
        "expression": np.stack([v.expression for v in answer.views]),
        "rotation": np.stack([v.camera.rotation for v in answer.views]),
        "landmarks": np.stack([v.landmarks for v in answer.views]),
        "identity_alone": np.stack([v.identity_alone for v in answer.views]),
        "disagreement": np.array([v.disagreement for v in answer.views]),
        "photos": np.array([v.seen.photo for v in answer.views]),
        "scale": np.float64(answer.scale),
        "result": np.array(json.dumps(answer.as_json(), allow_nan=False)),
    }  # fmt: skip
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    write_file(path, buffer.getvalue())


def _json(answer: Reconstruction, path: Path, view: int | None) -> None:
    write_file(path, (json.dumps(answer.as_json(), indent=1, allow_nan=False) + "\n").encode())


_WRITERS: dict[str, Callable[..., Any]] = {
    ".obj": _obj, ".ply": _ply, ".stl": _stl, ".glb": _glb, ".npz": _npz, ".json": _json, ".html": write_report,
}  # fmt: skip


def _png(pixels: UInt8[np.ndarray, "H W 3"]) -> bytes:
    return cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))[1].tobytes()
