"""Pictures of what a reader reads: items of a data set, or cases of a benchmark, with their labels drawn in.

    show_items(plugins.load("datasets", "w300lp"), Path("300W-LP"), "train", Path("look.png"))

Labels are recognised by their keys: `landmarks…` and `points` are points, `boxes` are boxes, `rotation` is the pose
(arrows from the tip of the nose: red to the subject's left, green up, blue out of the face), `person` goes into the
title. Points with depth go from orange (near) to blue (far). What a reader got wrong shows at a glance here: a shift of
half a face, a mirrored point order, an upside-down pose, two persons under one number.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image, ImageDraw, ImageFont

from sameface.core.errors import BadData
from sameface.core.files import write_file
from sameface.core.geometry import apply_affine, euler_from_rotation
from sameface.evaluation.case_photos import first_photo
from sameface.photo import image
from sameface.reconstruction.picture import contact_sheet

__all__ = ["Labels", "draw", "labels_of", "show_cases", "show_items"]

SIDE = 400
"""px of the longer side of each picture"""
COLUMNS = 4
"""an even number, so that two pictures of a person are in one row"""
MARGIN = 0.45
"""how much around the labels is shown, in their larger side; labels that fill most of the picture show all of it"""

YELLOW, CYAN, GREEN, PINK, WHITE = (255, 214, 64), (80, 225, 255), (120, 240, 120), (255, 120, 190), (235, 245, 255)
NEAR, FAR = np.array([255.0, 176.0, 32.0]), np.array([70.0, 90.0, 255.0])
AXES = ((255, 70, 60), (70, 220, 80), (80, 130, 255))
"""+x to the subject's left, +y up, +z out of the face"""
RIM = (25, 25, 25)
COLOURS = {"landmarks68": YELLOW, "landmarks68_projected": CYAN, "places": PINK, "points": GREEN, "boxes": GREEN}

_FONT = ImageFont.load_default(19)

LINES_68 = (
    (range(17), False), (range(17, 22), False), (range(22, 27), False), (range(27, 31), False), (range(31, 36), False),
    (range(36, 42), True), (range(42, 48), True), (range(48, 60), True), (range(60, 68), True),
)  # fmt: skip
LINES = {
    68: LINES_68,
    66: (*LINES_68[:-1], (range(60, 66), True)),  # without the inner corners of the mouth
    5: (((0, 1, 4, 3), True),),  # eyes and mouth corners
}
"""which points are joined, by how many there are, and whether the line is closed"""


@dataclass(frozen=True)
class Labels:
    """What is to be drawn over one picture; px of that picture."""

    points: dict[str, np.ndarray] = field(default_factory=dict)
    """by name, (N, 2) or (N, 3)"""
    boxes: Float[np.ndarray, "K 4"] = field(default_factory=lambda: np.zeros((0, 4)))
    """left, upper, right, lower"""
    rotation: Float[np.ndarray, "3 3"] | None = None
    """of the camera (docs/conventions.md)"""

    def extent(self) -> Float[np.ndarray, "N 2"]:
        """Every place where something will be drawn; none if nothing is known."""
        parts = [self.boxes.reshape(-1, 2), *(points[:, :2] for points in self.points.values())]
        places = np.concatenate(parts).astype(float)
        return places[np.isfinite(places).all(1)]


def show_items(dataset: ModuleType, root: Path, split: str, out: Path, count: int = 16) -> None:
    """Write a sheet of `count` items of one split, two pictures of a person side by side where persons are known.

    `dataset` is the module of a data set. Raises BadData for an empty split and what its reader raises for broken
    files; BadOutput if `out` cannot be written.
    """
    data = dataset.load(Path(root), split)
    if not len(data):
        raise BadData(f"{root} has no items in split {split!r}; check its folder and layout")
    tiles, titles, legend = [], [], {}
    for index in _chosen(data, count):
        item = data[index]
        labels = labels_of(item)
        legend |= _legend(labels)
        tiles.append(draw(item["image"] if "image" in item else item["images"], labels))
        titles.append(_title(f"{index}", item.get("person"), labels.rotation))
    heading = f"{_name(dataset)} · {split} · {len(tiles)} of {len(data):,} items"
    _write(out, tiles, titles, heading, legend)


def show_cases(benchmark: ModuleType, root: Path, out: Path, count: int = 16, options: Any = None) -> None:
    """Write a sheet of `count` cases of a benchmark, each by its first photo, with the place meant and the true labels.

    `options` are the benchmark's Options, by default as they stand. Raises what the benchmark raises for a bad layout,
    BadPhoto for a photo that cannot be read, BadOutput if `out` cannot be written.
    """
    cases = benchmark.cases(Path(root), benchmark.Options() if options is None else options)
    if not cases:
        raise BadData(f"{root} has no case of {_name(benchmark)}; check its folder and layout")
    tiles, titles, legend = [], [], {}
    for index in _spread(len(cases), count):
        case = cases[index]
        labels = _labels_of_case(case)
        legend |= _legend(labels)
        tiles.append(draw(first_photo(case).pixels, labels))
        more = f" (1 of {len(case.photos)})" if len(case.photos) > 1 else ""
        titles.append(_title(_short(case.name) + more, None, labels.rotation))
    heading = f"{_name(benchmark)} · {len(tiles)} of {len(cases):,} cases"
    _write(out, tiles, titles, heading, legend)


def labels_of(item: Mapping[str, Any]) -> Labels:
    """The labels of an item that can be drawn: `landmarks…`, `points…` (…, N, 2 or 3), `boxes` (K, 4), `rotation`."""
    points = {}
    for key, value in item.items():
        value = np.asarray(value)
        if key.startswith(("landmarks", "points")) and value.ndim >= 2 and value.shape[-1] in (2, 3):
            if value.ndim == 2:
                points[key] = value
            else:  # points of several faces
                points |= {f"{key} {k}" if k else key: face for k, face in enumerate(value)}
    boxes = np.asarray(item.get("boxes", np.zeros((0, 4))), float).reshape(-1, 4)
    rotation = item.get("rotation")
    return Labels(points, boxes, None if rotation is None else np.asarray(rotation, float))


def draw(pixels: UInt8[np.ndarray, "H W 3"], labels: Labels) -> UInt8[np.ndarray, "h w 3"]:
    """The part of a picture that has the labels, enlarged or reduced to 400 px, with the labels drawn in."""
    affine, size = _window(pixels.shape[1], pixels.shape[0], labels.extent())
    out = image.crop(pixels, affine, size)
    for box in labels.boxes.reshape(-1, 2, 2):
        low, high = (_fixed(corner) for corner in apply_affine(affine, box))
        cv2.rectangle(out, low, high, RIM, 4, cv2.LINE_AA, 4)
        cv2.rectangle(out, low, high, COLOURS["boxes"], 2, cv2.LINE_AA, 4)
    drawn = set()
    for name, points in labels.points.items():
        inner = len(points) in drawn  # dots of the same points on top of each other: both can be seen
        drawn.add(len(points))
        _draw_points(out, apply_affine(affine, points[:, :2].astype(float)), _colours(name, points), inner)
    if labels.rotation is not None and np.isfinite(labels.rotation).all():
        start = _nose(labels)
        start = np.array(size) / 2 if start is None else apply_affine(affine, start[None])[0]
        _draw_axes(out, start, labels.rotation, 0.22 * max(size))
    return out


# ── which ──────────────────────────────────────────────────────────────────────────────────────────────────


def _spread(length: int, count: int) -> list[int]:
    """At most `count` of 0 … length − 1, evenly apart."""
    return np.unique(np.linspace(0, length - 1, min(count, length)).round().astype(int)).tolist()


def _chosen(data: Any, count: int) -> list[int]:
    """Two pictures each of some persons; rows of unknown persons fill half of the sheet, or all of it."""
    person: Int[np.ndarray, " N"] = np.asarray(getattr(data, "person", np.full(len(data), -1)))
    rows = np.argsort(person, kind="stable")
    groups = np.split(rows, np.flatnonzero(np.diff(person[rows])) + 1)
    several = [group for group in groups if len(group) > 1 and person[group[0]] >= 0]
    strangers = np.flatnonzero(person < 0)
    pairs = min(len(several), count // 2 if not len(strangers) else count // 4)
    chosen = [int(k) for g in _spread(len(several), pairs) for k in (several[g][0], several[g][len(several[g]) // 2])]
    if not pairs:
        return _spread(len(data), count)
    return chosen + [int(strangers[k]) for k in _spread(len(strangers), count - len(chosen)) if len(strangers)]


def _labels_of_case(case: Any) -> Labels:
    """What a case says about its first photo: its place, and true landmarks and rotation where they are known."""
    item: dict[str, Any] = {}
    place = case.places[0] if case.places else None
    if place is not None and len(place) == 2:
        item["boxes"] = np.asarray(place).reshape(1, 4)
    elif place is not None:
        item["points: the face meant"] = place
    for key, value in case.truth.items():
        array = value if isinstance(value, np.ndarray) else np.zeros(0)
        if key == "rotation" and array.shape[-2:] == (3, 3):
            item[key] = array.reshape(-1, 3, 3)[0]
        elif key.startswith("landmarks") and array.shape[-2:] in {(n, d) for n in (66, 68) for d in (2, 3)}:
            item[key] = array.reshape(-1, *array.shape[-2:])[0]
    return labels_of(item)


# ── drawing ────────────────────────────────────────────────────────────────────────────────────────────────


def _window(width: int, height: int, places: np.ndarray) -> tuple[Float[np.ndarray, "2 3"], tuple[int, int]]:
    """The shift and scale to the part of a picture around some places, and its size."""
    low, high = np.zeros(2), np.array([width, height], float)
    if len(places):
        margin = MARGIN * np.ptp(places, axis=0).max()
        near = np.clip([places.min(0) - margin, places.max(0) + margin], low, high).round()
        if 1 < np.prod(near[1] - near[0]) < 0.6 * width * height:
            low, high = near
    scale = SIDE / (high - low).max()
    size = np.maximum(np.round((high - low) * scale), 1).astype(int)
    return np.column_stack([np.eye(2) * scale, -scale * low]), (int(size[0]), int(size[1]))


def _colours(name: str, points: np.ndarray) -> Int[np.ndarray, "N 3"]:
    """One colour, or by depth."""
    if points.shape[1] == 2:
        return np.tile(COLOURS.get(_kind(name), WHITE), (len(points), 1))
    depth = points[np.isfinite(points).all(1), 2]
    if not len(depth):
        return np.tile(WHITE, (len(points), 1))
    share = (np.nan_to_num(points[:, 2:], nan=depth.min()) - depth.min()) / max(np.ptp(depth), 1e-9)
    return np.round(NEAR * (1 - share) + FAR * share).astype(int)


def _kind(name: str) -> str:
    """The colour's name of a group of points."""
    return "places" if name.startswith("points:") else name.split(" ")[0]


def _draw_points(out: UInt8[np.ndarray, "h w 3"], points: np.ndarray, colours: np.ndarray, inner: bool) -> None:
    """Lines between the points, where it is known how they follow each other, and a dot at each."""
    seen = points[np.isfinite(points).all(1)]
    if not len(seen):
        return
    veil = out.copy()
    for part, closed in LINES.get(len(points), ()):
        for a, b in zip(part, [*part[1:], part[0]] if closed else part[1:], strict=False):
            if np.isfinite(points[[a, b]]).all():
                cv2.line(veil, _fixed(points[a]), _fixed(points[b]), colours[b].tolist(), 1, cv2.LINE_AA, 4)
    cv2.addWeighted(veil, 0.7, out, 0.3, 0, out)
    largest = 1.5 if len(points) > 68 else 2.6 if len(points) > 5 else 4.0
    radius = float(np.clip(np.ptp(seen, axis=0).max() / 25, 1.2, largest)) * (0.6 if inner else 1.0)
    for point, colour in zip(points, colours.tolist(), strict=True):
        if np.isfinite(point).all():
            if not inner:
                cv2.circle(out, _fixed(point), round((radius + 0.9) * 16), RIM, -1, cv2.LINE_AA, 4)
            cv2.circle(out, _fixed(point), round(radius * 16), colour, -1, cv2.LINE_AA, 4)


def _nose(labels: Labels) -> Float[np.ndarray, " 2"] | None:
    """Where the axes start, px of the picture: the tip of the nose, else the middle of the labels."""
    for points in labels.points.values():
        if len(points) in (66, 68) and np.isfinite(points[30]).all():
            return points[30, :2].astype(float)
    extent = labels.extent()
    return extent.mean(0) if len(extent) else None


def _draw_axes(out: UInt8[np.ndarray, "h w 3"], origin: np.ndarray, rotation: np.ndarray, length: float) -> None:
    """The model's axes as the camera sees them, the farthest first."""
    for k in np.argsort(-rotation[2]):
        tip = _fixed(origin + length * rotation[:2, k])
        for width, colour in ((5, RIM), (3, AXES[k])):
            cv2.arrowedLine(out, _fixed(origin), tip, colour, width, cv2.LINE_AA, 4, 0.14)


def _fixed(point: np.ndarray) -> tuple[int, int]:
    """Px from the upper left corner → OpenCV's sixteenths, counted from the centre of the first pixel."""
    x, y = np.round(np.clip(point, -1e6, 1e6) * 16 - 8).astype(int).tolist()
    return x, y


# ── the sheet ──────────────────────────────────────────────────────────────────────────────────────────────


def _title(name: str, person: Any, rotation: Float[np.ndarray, "3 3"] | None) -> str:
    parts = [name]
    if person is not None:
        parts.append(f"person {int(person)}" if person >= 0 else "person unknown")
    if rotation is not None and np.isfinite(rotation).all():
        pitch, yaw, roll = (round(float(np.degrees(angle))) for angle in euler_from_rotation(rotation))
        parts.append(f"{pitch:+d}° {yaw:+d}° {roll:+d}°")
    return " · ".join(parts)


def _legend(labels: Labels) -> dict[str, tuple[int, int, int] | None]:
    """What is drawn and in which colour; None: from near to far."""
    entries: dict[str, Any] = {}
    for name, points in labels.points.items():
        if np.isfinite(points).any():
            shown = "the face meant" if name.startswith("points:") else name.split(" ")[0]
            entries[shown] = None if points.shape[1] == 3 else COLOURS.get(_kind(name), WHITE)
    if len(labels.boxes):
        entries["boxes"] = COLOURS["boxes"]
    if labels.rotation is not None and np.isfinite(labels.rotation).all():
        entries["subject's left"], entries["up"], entries["out of the face; angles: pitch, yaw, roll"] = AXES
    return entries


def _short(name: str) -> str:
    return name if len(name) <= 34 else f"…{name[-33:]}"


def _name(module: ModuleType) -> str:
    return module.__name__.rpartition(".")[2]


def _write(out: Path, tiles: list, titles: list[str], heading: str, legend: dict[str, tuple | None]) -> None:
    """The sheet with its heading and legend as a PNG file."""
    sheet = contact_sheet(tiles, COLUMNS if len(tiles) > 4 else 2, titles, height=SIDE)
    strip = np.vstack([_line(sheet.shape[1], [(heading, ())]), *_legend_lines(sheet.shape[1], legend)])
    png = cv2.imencode(".png", np.ascontiguousarray(np.vstack([strip, sheet])[..., ::-1]))[1].tobytes()
    write_file(out, png)


def _legend_lines(width: int, legend: dict[str, tuple | None]) -> list[UInt8[np.ndarray, "h w 3"]]:
    """The legend in as many lines as it needs."""
    lines: list[list] = [[]]
    left = float(width)
    for name, colour in legend.items():
        text = name if colour else f"{name}, near to far"
        needed = 60 + _FONT.getlength(text)
        if needed > left and lines[-1]:
            lines.append([])
            left = float(width)
        left -= needed
        lines[-1].append((text, [colour] * 2 if colour else [NEAR, FAR]))
    return [_line(width, line) for line in lines if line]


def _line(width: int, entries: list) -> UInt8[np.ndarray, "h w 3"]:
    """A line of texts on white, each after a chip that shades from one colour to another, if it has them."""
    line = Image.new("RGB", (width, 42), "white")
    pen, x = ImageDraw.Draw(line), 16.0
    for text, ends in entries:
        if len(ends):
            for k, share in enumerate(np.linspace(0, 1, 24)):
                shade = np.round((1 - share) * np.array(ends[0]) + share * np.array(ends[1])).astype(int)
                pen.line([(x + k, 11), (x + k, 31)], tuple(shade.tolist()))
            pen.rectangle([x, 11, x + 23, 31], outline="#555555")
            x += 32
        pen.text((x, 21), text, "#333333", _FONT, "lm")
        x += 28 + _FONT.getlength(text)
    return np.asarray(line)
