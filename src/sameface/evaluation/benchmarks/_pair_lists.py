"""Pairs of photos: as cases, as lists on disk (LFW's, and of scores), and in samples of the verification benchmarks."""

import csv
import io
import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float
from PIL import Image

from sameface.core.errors import BadData
from sameface.core.files import open_file, read_text, write_file
from sameface.evaluation.case import Case

__all__ = [
    "Pair", "Question", "cases_of", "centre_box", "lfw_questions", "noise", "pairs_of", "read_lfw_pairs", "read_lines",
    "read_scores", "sample_lfw", "write_scores",
]  # fmt: skip


class Pair(NamedTuple):
    """Two cases, by name, and whether they show one person."""

    first: str
    second: str
    same: bool
    fold: int


class Question(NamedTuple):
    """What becomes a case: who is seen (as far as the files' names tell) and in which photos."""

    person: str
    photos: tuple[Path, ...]
    places: tuple[Float[np.ndarray, "2 2"] | None, ...]


def cases_of(pairs: Sequence[Pair], questions: Mapping[str, Question]) -> list[Case]:
    """One case for each distinct name, in order of appearance; the first of each pair carries the pair in its truth."""
    carried: dict[str, list[tuple[int, Pair]]] = {}
    for number, pair in enumerate(pairs):
        carried.setdefault(pair.first, []).append((number, pair))
        carried.setdefault(pair.second, [])
    found = []
    for name, theirs in carried.items():
        person, photos, places = questions[name]
        found.append(Case(name, photos, places, {"person": person, "pairs": tuple(theirs), "of": len(pairs)}))
    return found


def pairs_of(cases: Iterable[Case]) -> list[Pair]:
    """The benchmark's pairs in their order, gathered from its cases; of some of the cases, the pairs among them."""
    cases = list(cases)
    names = {case.name for case in cases}
    numbered = sorted((entry for case in cases for entry in case.truth["pairs"]), key=lambda entry: entry[0])
    return [pair for _, pair in numbered if pair.second in names]


# ── on disk ────────────────────────────────────────────────────────────────────────────────────────────────


def write_scores(path: Path, pairs: Sequence[Pair], scores: Float[np.ndarray, " P"]) -> None:
    """CSV with a header and a line per pair: fold, first, second, same (0 or 1), score. Raises BadOutput."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["fold", "first", "second", "same", "score"])
    for pair, score in zip(pairs, scores, strict=True):
        writer.writerow([pair.fold, pair.first, pair.second, int(pair.same), repr(float(score))])
    write_file(path, text.getvalue().encode())


def read_scores(path: Path, pairs: Sequence[Pair]) -> Float[np.ndarray, " P"]:
    """Scores in pair order: one number per line, or a CSV with a header that has `score`. Greater is more alike.

    If the header has `same` too it must agree with the pairs: a file of another list must not pass. Raises BadData.
    """
    rows = list(csv.reader(read_lines(path)))
    header = [cell.strip() for cell in rows[0]] if rows else []
    column = 0
    if "score" in header:
        column, rows = header.index("score"), rows[1:]
    try:
        values = np.array([float(row[column]) for row in rows])
    except (ValueError, IndexError):
        raise BadData(f"{path} is no list of scores: give a number per line, or a CSV with a column `score`") from None
    if len(values) != len(pairs):
        raise BadData(f"{path} has {len(values)} scores, but the benchmark has {len(pairs)} pairs; give one for each")
    if np.isnan(values).any():
        raise BadData(f"{path} has {int(np.isnan(values).sum())} scores that are NaN; decide what a failed pair counts")
    labels = [row[header.index("same")].strip() for row in rows] if "same" in header else None
    if labels is not None and labels != [str(int(pair.same)) for pair in pairs]:
        raise BadData(f"{path} has other labels in its column `same` than the benchmark: it belongs to other pairs")
    return values


def read_lines(path: Path) -> list[str]:
    """The lines of a text file that are not empty. Raises BadData when it is not there or is no text."""
    try:
        lines = read_text(path).splitlines()
    except BadData as error:
        raise BadData(f"{error}; see the benchmark's docstring for the layout it needs") from None
    return [line.strip() for line in lines if line.strip()]


def read_lfw_pairs(path: Path, suffix: str) -> list[Pair]:
    """LFW's pairs.txt: header `folds n`; per fold n lines `name i j`, then n lines `name i name j`.

    Cases are named as the files: name/name_0001.jpg. Raises BadData.
    """
    lines = [line.split() for line in read_lines(path)]
    header = lines[0] if lines else []
    if len(header) != 2 or not all(word.isdigit() for word in header):
        raise BadData(f"{path} must begin with two numbers, folds and pairs (LFW: 10 300), not {' '.join(header)!r}")
    folds, each = map(int, header)
    if len(lines) - 1 != 2 * folds * each:
        raise BadData(f"{path} promises {folds} × 2 × {each} pairs but has {len(lines) - 1}; download it again")

    def photo(name: str, number: str) -> str:
        return f"{name}/{name}_{int(number):04d}{suffix}"

    pairs = []
    for position, words in enumerate(lines[1:]):
        fold, same = position // (2 * each), position % (2 * each) < each
        if len(words) != (3 if same else 4) or not words[1].isdigit() or not words[-1].isdigit():
            wanted = "name i j" if same else "name i name j"
            raise BadData(f"{path}, pair {position + 1}: expected {wanted!r}, found {' '.join(words)!r}")
        other = words[0] if same else words[2]
        pairs.append(Pair(photo(words[0], words[1]), photo(other, words[-1]), same, fold))
    return pairs


def lfw_questions(pairs: Iterable[Pair], folder: Path, share: float | None) -> dict[str, Question]:
    """The photos of LFW-like pairs; `share`: the face is in that central part of the picture. Raises BadData."""
    questions = {}
    for name in dict.fromkeys(name for pair in pairs for name in (pair.first, pair.second)):
        photo = folder / name
        if not photo.is_file():
            raise BadData(f"{photo} is not there; the benchmark's list of pairs needs it")
        questions[name] = Question(name.split("/")[0], (photo,), (centre_box(photo, share) if share else None,))
    return questions


def centre_box(photo: Path, share: float) -> Float[np.ndarray, "2 2"]:
    """Corners of the central part of a picture, `share` of its width and height, px. Reads the header only."""
    try:
        with open_file(photo) as file, Image.open(file) as image:
            size = np.array(image.size, np.float64)
    except (OSError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError) as error:
        raise BadData(f"{photo} is no picture that can be read ({error}); download it again") from None
    return np.stack([size * (1 - share) / 2, size * (1 + share) / 2])


def noise(path: Path, side: int) -> None:
    """Write a square picture of noise, its own for each file name: what `sample` puts where photos belong."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(zlib.crc32(path.name.encode())).integers(0, 256, (side, side, 3), np.uint8)
    cv2.imwrite(str(path), pixels)


def sample_lfw(root: Path, folder: str, names: tuple[str, str], suffix: str, side: int) -> None:
    """Two persons with five photos of noise each in LFW's layout; ten folds of one pair of either kind."""
    numbers = range(1, 6)
    for name in names:
        for number in numbers:
            noise(root / folder / name / f"{name}_{number:04d}{suffix}", side)
    lines = ["10\t1"]
    for k, (i, j) in enumerate(combinations(numbers, 2)):
        lines += [f"{names[k % 2]}\t{i}\t{j}", f"{names[0]}\t{i}\t{names[1]}\t{j}"]
    (root / "pairs.txt").write_text("\n".join(lines) + "\n")
