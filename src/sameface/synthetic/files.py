"""Synthetic people on disk: one folder per person, every map and number of the truth, no pickle.

    write(Path("people"), persons=1000, views=8, workers=4)

    people/about.json                what was asked for, units
    people/000012/truth.npz          numbers of the person and of every view, see `TRUTH`
    people/000012/03.jpg             the fourth view, sRGB
    people/000012/03-depth.png       16 bit: 0.1 mm along the optical axis; 0 is background
    people/000012/03-normal.png      16 bit RGB: (n + 1) / 2 in the camera's axes (+z away); 0 is background
    people/000012/03-albedo.png      16 bit RGB: linear albedo; 0 is background

What view j of person k shows depends on (seed, k, j) only: not on how many there are, nor on the number of workers.
"""

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import cache, lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from sameface import morphable
from sameface.core.errors import BadData, BadOutput, BadPhoto
from sameface.core.files import make_folder, names_in, read_json, seal, sealed, write_file
from sameface.morphable import MorphableModel
from sameface.photo import image
from sameface.synthetic.look import load_skin
from sameface.synthetic.people import Head, Picture, View, draw, look_at, prepare, render

__all__ = ["ABOUT", "DEPTH_UNIT", "TRUTH", "VERSION", "folder_of", "person", "write"]

VERSION = 2
"""of what is drawn from a seed"""
ABOUT, DEPTH_UNIT = "about.json", 0.1
LAMPS = 2
TRUTH = {
    "identity": "(S,) σ, the same in all views",
    "albedo": "(A,) σ of the model of skin",
    "appearance": "seed of eyes, hair, clothes",
    "expression": "(J, E)",
    "camera_matrix": "(J, 3, 3) K, px",
    "rotation": "(J, 3, 3) R",
    "translation": "(J, 3) t, mm: the image of v is K (R v + t)",
    "landmarks68": "(J, 68, 2) px",
    "landmarks68_3d": "(J, 68, 3) mm, v of those points",
    "visible68": "(J, 68)",
    "light": "(J, 9, 3) spherical harmonics of the shading, camera's axes",
    "lamps": "(J, 2, 3) mm, camera's axes",
    "lamp_colours": "(J, 2, 3), 0 where there is none",
    "seed": "(J,) of background and camera noise",
}
"""arrays of truth.npz, for J views"""
PERSONS_AT_ONCE = 4
MOST_PERSONS, MOST_VIEWS, LARGEST_SIZE = 1_000_000, 1000, 4096
"""what fits into the names of folders and files, and px that fit into memory"""
SEAL = ".sha256"
"""the checksum in a person's folder"""
ENDINGS = (".jpg", "-depth.png", "-normal.png", "-albedo.png")
"""of the files of a view"""


class _Job(NamedTuple):
    """What a process must know."""

    folder: str
    views: int
    seed: int
    size: int
    model: str
    backgrounds: tuple[str, ...]


def write(
    folder: Path,
    persons: int | Sequence[int],
    views: int = 8,
    *,
    seed: int = 0,
    size: int = 160,
    workers: int = 1,
    model: Path | None = None,
    backgrounds: Path | None = None,
    tick: Callable[[int, int], None] | None = None,
) -> int:
    """Persons 0 … persons − 1 (or those listed) with `views` photos of `size` px each; returns how many were new.

    Persons that are there already are kept, so that the same call goes on where it was stopped, and a larger number of
    persons adds to it. `workers` processes of one thread each; 0 works in this process. `model`: a model file other
    than the packaged one; `backgrounds`: a folder of photos to stand behind the people instead of made-up colours;
    `tick` is called with the number of persons done and of all. Raises ValueError for numbers below 1, BadData for a
    folder without photos, and BadOutput if `folder` holds people drawn with other settings.
    """
    numbers = range(min(persons, MOST_PERSONS + 1)) if isinstance(persons, int) else list(persons)
    within = 1 <= views <= MOST_VIEWS and 16 <= size <= LARGEST_SIZE and workers >= 0 and 0 <= seed < 1 << 63
    if not numbers or min(numbers) < 0 or max(numbers) >= MOST_PERSONS or not within:
        given = f"persons {str(persons)[:60]}, views {views}, size {size}, workers {workers}, seed {seed}"
        raise ValueError(
            f"expected persons 1 to {MOST_PERSONS}, views 1 to {MOST_VIEWS}, size 16 to {LARGEST_SIZE}, workers ≥ 0, "
            f"seed ≥ 0, but got {given}"
        )
    job = _Job(str(folder), views, seed, size, "" if model is None else str(model), _photos(backgrounds))
    make_folder(folder, *[] if backgrounds is None else [backgrounds])
    _settle(folder, job)
    todo = [k for k in numbers if not _whole(job, k)]
    done = len(numbers) - len(todo)
    groups = [todo[i : i + PERSONS_AT_ONCE] for i in range(0, len(todo), PERSONS_AT_ONCE)]
    for count in _work(job, groups, workers):
        done += count
        if tick is not None:
            tick(done, len(numbers))
    return len(todo)


def folder_of(folder: Path, number: int) -> Path:
    """Where one person is.

    >>> folder_of(Path("people"), 12).name
    '000012'
    """
    return folder / f"{number:06d}"


def person(model: MorphableModel, seed: int, number: int, views: int, size: int) -> tuple[Head, list[View]]:
    """Person `number` of all those of a seed, and the photos to take."""
    head = prepare(draw(model, load_skin(), 1, np.random.default_rng([seed, number])), 0)
    return head, [look_at(head, np.random.default_rng([seed, number, j + 1]), size) for j in range(views)]


# ── inside ─────────────────────────────────────────────────────────────────────────────────────────────────


def _work(job: _Job, groups: list[list[int]], workers: int) -> Iterator[int]:
    """Yield the number of persons in each group that is done."""
    if not workers:
        yield from (_write_group(job, group) for group in groups)
        return
    with ProcessPoolExecutor(workers, get_context("spawn"), _one_thread) as pool:
        for future in as_completed([pool.submit(_write_group, job, group) for group in groups]):
            yield future.result()


def _one_thread() -> None:
    """Processes are the parallelism."""
    import torch

    torch.set_num_threads(1)
    cv2.setNumThreads(0)


def _write_group(job: _Job, numbers: list[int]) -> int:
    for number in numbers:
        _write_person(job, number)
    return len(numbers)


def _write_person(job: _Job, number: int) -> None:
    """Everything of one person aside, then renamed: a folder whose checksum is right is whole."""
    head, views = person(_model(job.model), job.seed, number, job.views, job.size)
    final = folder_of(Path(job.folder), number)
    aside = final.with_name(f".{final.name}.part")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        aside.mkdir()
        pictures = [render(head, view, photo=_behind(job, view)) for view in views]
        for j, picture in enumerate(pictures):
            for ending, image in _images(picture):
                how = [cv2.IMWRITE_JPEG_QUALITY, 95] if ending == ".jpg" else [cv2.IMWRITE_PNG_COMPRESSION, 1]
                _, code = cv2.imencode(ending[-4:], image, how)
                (aside / f"{j:02d}{ending}").write_bytes(code.tobytes())
        with (aside / "truth.npz").open("wb") as file:
            np.savez(file, **_truth(head, views, pictures))  # pyright: ignore[reportArgumentType]
        seal(aside / SEAL, *_content(job, number, aside))
        shutil.rmtree(final, ignore_errors=True)  # of a run that was stopped, or damaged
        aside.rename(final)
    except OSError as error:
        raise BadOutput(
            f"{final} cannot be written ({error.strerror or error}); free the disk or choose another"
        ) from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _whole(job: _Job, number: int) -> bool:
    """Whether a person is there, drawn with these settings, and whole to the last bit."""
    folder = folder_of(Path(job.folder), number)
    return sealed(folder / SEAL, *_content(job, number, folder))


def _content(job: _Job, number: int, folder: Path) -> tuple[str, *tuple[Path, ...]]:
    """What a person's checksum is of: what it was drawn from, and its files."""
    about = (
        f"synth {VERSION} {number} {job.seed} {job.views} {job.size} {_model(job.model).name} {len(job.backgrounds)}"
    )
    return about, folder / "truth.npz", *(folder / f"{j:02d}{end}" for j in range(job.views) for end in ENDINGS)


def _images(picture: Picture) -> list[tuple[str, np.ndarray]]:
    """File endings and what OpenCV is to write (blue first)."""
    there = (picture.depth > 0)[..., None]
    normal = np.where(there, np.round((np.clip(picture.normals, -1, 1) + 1) * 32767.5), 0)
    return list(zip(ENDINGS, (
        picture.image[..., ::-1],
        np.clip(np.round(picture.depth / DEPTH_UNIT), 0, 65535).astype(np.uint16),
        normal[..., ::-1].astype(np.uint16),
        np.round(np.clip(picture.albedo, 0, 1) * 65535)[..., ::-1].astype(np.uint16),
    ), strict=True))  # fmt: skip


def _truth(head: Head, views: list[View], pictures: list[Picture]) -> dict[str, np.ndarray]:
    """The arrays of truth.npz."""
    people = head.people
    shapes = [people.model.vertices(people.identity[head.index], view.expression) for view in views]
    matrices, lamps = np.zeros((len(views), 3, 3)), np.zeros((2, len(views), LAMPS, 3), np.float32)
    for j, view in enumerate(views):
        matrices[j] = np.diag([view.camera.focal, view.camera.focal, 1.0])
        matrices[j, :2, 2] = view.camera.center
        lamps[0, j, : len(view.lamps)], lamps[1, j, : len(view.lamps)] = view.lamps, view.lamp_colours
    return {
        "identity": people.identity[head.index],
        "albedo": people.albedo[head.index],
        "appearance": people.appearance[head.index],
        "expression": np.stack([view.expression for view in views]),
        "camera_matrix": matrices,
        "rotation": np.stack([view.camera.rotation for view in views]),
        "translation": np.stack([view.camera.translation for view in views]),
        "landmarks68": np.stack([picture.landmarks68 for picture in pictures]),
        "landmarks68_3d": np.stack([people.model.landmarks(v) for v in shapes]),
        "visible68": np.stack([picture.visible68 for picture in pictures]),
        "light": np.stack([view.light for view in views]),
        "lamps": lamps[0],
        "lamp_colours": lamps[1],
        "seed": np.array([view.seed for view in views], np.int64),
    }


def _settle(folder: Path, job: _Job) -> None:
    """Write what was asked for, or see that it was the same before."""
    told = {
        "format": "sameface-synthetic", "version": VERSION, "morphable": _model(job.model).name, "views": job.views,
        "seed": job.seed, "size": job.size, "backgrounds": len(job.backgrounds), "depth_unit_mm": DEPTH_UNIT,
        "truth": TRUTH,
    }  # fmt: skip
    file = folder / ABOUT
    if file.is_file():
        try:
            before = dict(read_json(file))
        except (BadData, ValueError, TypeError):
            before = {}
        if odd := [name for name in told if before.get(name) != told[name]]:
            raise BadOutput(f"{folder} holds people drawn with another {', '.join(odd)}; choose another folder")
        return
    write_file(file, (json.dumps(told, indent=1, ensure_ascii=False) + "\n").encode())


@cache
def _model(path: str) -> MorphableModel:
    return morphable.load(Path(path)) if path else morphable.default()


def _photos(folder: Path | None) -> tuple[str, ...]:
    """The photos of a folder, by name."""
    if folder is None:
        return ()
    files = names_in(folder, ".jpg", ".jpeg", ".png", ".webp", ".bmp")
    if not files:
        raise BadData(f"{folder} has no photos (.jpg, .png, .webp, .bmp) to stand behind the people")
    return tuple(str(folder / name) for name in files)


def _behind(job: _Job, view: View) -> np.ndarray | None:
    """The photo behind the person in a view; which one depends on the view's seed."""
    if not job.backgrounds:
        return None
    return _decoded(job.backgrounds[np.random.default_rng([view.seed, 1]).integers(len(job.backgrounds))])


@lru_cache(64)
def _decoded(path: str) -> np.ndarray:
    try:
        return image.read(path).pixels
    except BadPhoto as error:
        raise BadData(f"{path} cannot be used as a background: {error}") from None
