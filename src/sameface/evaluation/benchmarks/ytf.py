"""YouTube Faces (YTF): are two videos of the same person?

Wolf, Hassner, Maoz: "Face Recognition in Unconstrained Videos with Matched Background Similarity", CVPR 2011. 3,425
videos of 1,595 people; 10 folds of 250 + 250 pairs of videos, no person in two folds.

A video is a case of up to `Options.frames` evenly spaced frames; its code is the mean over them, its mesh the one that
the system joins of them. Numbers: percent; the threshold of each fold comes from the other nine; accuracy is the mean
over the folds, ± np.std. Pairs with a video that the system failed on stay in (option `missing`) and are counted as
`failed_pairs`.

Layout, as its owners distribute it: ROOT/splits.txt (lines `1, 1, Sadie_Frost/1, Sadie_Frost/5, 1`: fold, number, two
videos, same or not; a header may come first), ROOT/frame_images_DB/<name>/<video>/<video>.<frame>.jpg with
ROOT/frame_images_DB/<name>.labeled_faces.txt (lines `name\\video\\file,ignore,x,y,width,height,…`: centre and size of
the face, px), and ROOT/aligned_images_DB/<name>/<video>/aligned_detect_<video>.<frame>.jpg.

Licence: for research, on the owners' terms.
"""

import csv
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Literal

import numpy as np

from sameface.core.errors import BadData
from sameface.core.files import names_in
from sameface.evaluation.benchmarks import _pair_lists as pair_lists
from sameface.evaluation.benchmarks import _verification as verification
from sameface.evaluation.case import Answer, Case, Published

__all__ = ["Options", "asks", "cases", "curves", "published", "sample", "score", "summary", "truth"]

ALIGNED_MARGIN = 2.2
"""side of an aligned picture / side of the face in it (the owners' README)"""


asks = verification.ASKS


@dataclass(frozen=True)
class Options(verification.PairOptions):
    """Choices of the protocol."""

    frames: int = 20
    """evenly spaced frames of each video at most; 0 takes all (180 on average). Ours: the owners leave it open, others
    take all or 100"""
    images: Literal["frame_images_DB", "aligned_images_DB"] = "frame_images_DB"
    """whole frames with the owners' boxes saying whose face is meant, or their aligned pictures"""
    splits: str = "splits.txt"
    """list of pairs inside ROOT; the owners published corrections of some labels, which most papers do not use"""
    face: Literal["labelled", "found"] = "labelled"
    """labelled: the owners' box says which face is meant (aligned pictures: it fills the middle, 1 / 2.2 of the side);
    found: the system must choose"""


published: tuple[Published, ...] = (
    verification.liu("3DMM", 73.26, 2.51, 73.08, 80.41, 51.36, 24.04),
    verification.liu("3DDFA", 68.10, 2.93, 67.96, 74.95, 40.52, 12.20),
    verification.liu("3DMM-CNN", 88.28, 1.84, 88.32, 95.95, 86.60, 51.12),
    verification.liu("Liu et al. 2018", 88.74, 1.03, 88.70, 96.28, 89.00, 53.44),
    Published("Jiang et al., no identity loss", {"identity/euclidean/accuracy": 66.46}, verification.JIANG),
    Published("Jiang et al., weighted centre", {"identity/euclidean/accuracy": 86.40}, verification.JIANG),
)


def cases(root: Path, options: Options) -> list[Case]:
    """One case per distinct video of the pairs, named <name>/<video>. Raises BadData."""
    if options.frames < 0:
        raise ValueError(f"frames is {options.frames}; give how many of a video are used at most, or 0 for all")
    pairs = [_pair(words, root / options.splits) for words in _rows(root / options.splits)]
    labels: dict[str, dict[str, np.ndarray]] = {}
    questions = {}
    for video in dict.fromkeys(name for pair in pairs for name in (pair.first, pair.second)):
        photos = _frames(root / options.images / video, options.frames)
        person = video.split("/")[0]
        if options.face == "found":
            places: tuple = (None,) * len(photos)
        elif options.images == "aligned_images_DB":
            places = tuple(pair_lists.centre_box(photo, 1 / ALIGNED_MARGIN) for photo in photos)
        else:
            if person not in labels:
                labels[person] = _boxes(root / options.images / f"{person}.labeled_faces.txt")
            places = tuple(_box(labels[person], f"{video}/{photo.name}", photo) for photo in photos)
        questions[video] = pair_lists.Question(person, tuple(photos), places)
    return pair_lists.cases_of(pairs, questions)


def _rows(file: Path) -> list[list[str]]:
    rows = [[word.strip() for word in line.split(",")] for line in pair_lists.read_lines(file)]
    return rows if rows and rows[0][0].isdigit() else rows[1:]


def _pair(words: list[str], file: Path) -> pair_lists.Pair:
    videos = [word for word in words[2:4] if word.count("/") == 1]
    if len(words) != 5 or not words[0].isdigit() or words[4] not in ("0", "1") or len(videos) != 2:
        raise BadData(f"{file}: expected 'fold, number, name/video, name/video, 0 or 1', found {', '.join(words)!r}")
    return pair_lists.Pair(videos[0], videos[1], words[4] == "1", int(words[0]))


def _frames(folder: Path, most: int) -> list[Path]:
    """Evenly spaced frames in the order of their numbers."""

    def number(photo: Path) -> int:
        digits = photo.stem.rsplit(".", 1)[-1]
        if not digits.isdigit():
            raise BadData(f"{photo} is not named like a frame of the owners' (1.123.jpg)")
        return int(digits)

    photos = sorted((folder / name for name in names_in(folder, ".jpg")), key=number)
    if not photos:
        raise BadData(f"{folder} has no frames (*.jpg), but the list of pairs needs this video")
    if not most or len(photos) <= most:
        return photos
    return [photos[k] for k in np.linspace(0, len(photos) - 1, most).round().astype(int)]


def _boxes(file: Path) -> dict[str, np.ndarray]:
    """Corners of the labelled face by `name/video/file`, px."""
    boxes = {}
    for row in csv.reader(pair_lists.read_lines(file)):
        try:
            x, y, width, height = (float(word) for word in row[2:6])
        except ValueError:
            raise BadData(f"{file}: expected 'file,ignore,x,y,width,height,…', found {','.join(row)!r}") from None
        half = np.array([width, height]) / 2
        boxes[row[0].replace("\\", "/")] = np.stack([np.array([x, y]) - half, np.array([x, y]) + half])
    return boxes


def _box(boxes: dict[str, np.ndarray], name: str, photo: Path) -> np.ndarray:
    if name not in boxes:
        raise BadData(f"{photo} has no line in its person's .labeled_faces.txt; use face=found to do without")
    return boxes[name]


def score(case: Case, answer: Answer, options: Options) -> dict[str, float]:
    """`frames`: how many the video's code is the mean of. Raises ValueError if nothing can be compared."""
    verification.check_answer(case, answer)
    return {"frames": float(len(next(iter(answer.codes.values()), case.photos)))}


summary = verification.summary
curves = verification.curves
truth = verification.truth


def sample(root: Path) -> None:
    """Two persons with five videos of three frames of noise each; ten folds of one pair of either kind."""
    names, videos = ("Anna_Sample", "Ben_Sample"), range(5)
    for name in names:
        labels = []
        for video in videos:
            for frame in (8, 9, 10):
                file = f"{video}.{frame}.jpg"
                pair_lists.noise(root / "frame_images_DB" / name / str(video) / file, 120)
                pair_lists.noise(root / "aligned_images_DB" / name / str(video) / f"aligned_detect_{file}", 110)
                labels.append(f"{name}\\{video}\\{file},0,62,58,50,50,0.0,1")
        (root / "frame_images_DB" / f"{name}.labeled_faces.txt").write_text("\n".join(labels) + "\n")
    lines = []
    for k, (i, j) in enumerate(combinations(videos, 2)):
        lines.append(f"{k + 1}, 1, {names[k % 2]}/{i}, {names[k % 2]}/{j}, 1")
        lines.append(f"{k + 1}, 2, {names[0]}/{i}, {names[1]}/{j}, 0")
    (root / "splits.txt").write_text("\n".join(lines) + "\n")
