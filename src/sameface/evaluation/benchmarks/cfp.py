"""Celebrities in Frontal-Profile in the Wild (CFP): are two photos of the same person, even if one is a profile?

Sengupta, Chen, Castillo, Patel, Chellappa, Jacobs: "Frontal to Profile Face Verification in the Wild", WACV 2016.
500 people with 10 frontal and 4 profile pictures each; 10 folds of 350 + 350 pairs, frontal with profile (FP) or
frontal with frontal (FF).

Numbers: percent; keys begin with the protocol, FP/ or FF/. The threshold of each fold comes from the other nine; the
paper reports mean and deviation over the folds of EER, AUC and accuracy, which is our default. Pairs with a photo that
the system failed on (many profiles) stay in (option `missing`) and are counted as `failed_pairs`.

Layout, as its owners distribute it: ROOT/Protocol/Pair_list_F.txt and Pair_list_P.txt (lines `1
../Data/Images/001/frontal/01.jpg`, relative to Protocol), ROOT/Protocol/Split/FP/01 … 10/same.txt and diff.txt (lines
`i,j`: numbers in those lists; i is frontal, j profile), ROOT/Data/Images/.

Licence: for research, on the owners' terms.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sameface.core.errors import BadData
from sameface.evaluation.benchmarks import _pair_lists as pair_lists
from sameface.evaluation.benchmarks import _verification as verification
from sameface.evaluation.case import Answer, Case, Published

__all__ = ["Options", "asks", "cases", "curves", "published", "sample", "score", "summary", "truth"]

FOLDS = tuple(f"{k:02d}" for k in range(1, 11))


asks = verification.ASKS


@dataclass(frozen=True)
class Options(verification.PairOptions):
    """Choices of the protocol."""

    protocol: Literal["FP", "FF"] = "FP"
    """frontal with profile, or frontal with frontal (the paper's two experiments)"""
    face: Literal["found", "centre"] = "found"
    """found: the system finds the face in the whole (tightly cut) picture; centre: it is told that the face is in the
    central half. Ours: the owners say nothing"""


published: tuple[Published, ...] = (
    Published("Jiang et al., no identity loss", {"FP/identity/euclidean/accuracy": 54.16}, verification.JIANG),
    Published("Jiang et al., weighted centre", {"FP/identity/euclidean/accuracy": 80.73}, verification.JIANG),
)


def cases(root: Path, options: Options) -> list[Case]:
    """One case per distinct photo of the pairs, named 001/frontal/01.jpg. Raises BadData."""
    protocol = root / "Protocol"
    first = _list(protocol / "Pair_list_F.txt")
    second = first if options.protocol == "FF" else _list(protocol / "Pair_list_P.txt")
    pairs, photos = [], {}
    for fold, number in enumerate(FOLDS):
        for kind in ("same", "diff"):
            file = protocol / "Split" / options.protocol / number / f"{kind}.txt"
            for i, j in _numbers(file, len(first), len(second)):
                names = ["/".join(path.parts[-3:]) for path in (first[i - 1], second[j - 1])]
                photos |= zip(names, (first[i - 1], second[j - 1]), strict=True)
                pairs.append(pair_lists.Pair(names[0], names[1], kind == "same", fold))
    questions = {}
    for name, photo in photos.items():
        if not photo.is_file():
            raise BadData(f"{photo} is not there; unpack CFP's Data/Images into {root}")
        place = pair_lists.centre_box(photo, 0.5) if options.face == "centre" else None
        questions[name] = pair_lists.Question(name.split("/")[0], (photo,), (place,))
    return pair_lists.cases_of(pairs, questions)


def _list(file: Path) -> list[Path]:
    """The photos of a Pair_list, in order of their numbers 1, 2, 3 …"""
    photos = []
    for line in pair_lists.read_lines(file):
        number, _, path = line.partition(" ")
        if number != str(len(photos) + 1) or not path.strip():
            raise BadData(f"{file}, line {len(photos) + 1}: expected '{len(photos) + 1} path', found {line!r}")
        photos.append(Path(os.path.normpath(file.parent / path.strip().replace("\\", "/"))))  # theirs have .. in them
    return photos


def _numbers(file: Path, most_first: int, most_second: int) -> list[tuple[int, int]]:
    pairs = []
    for line in pair_lists.read_lines(file):
        i, _, j = (word.strip() for word in line.partition(","))
        if not (i.isdigit() and j.isdigit() and 1 <= int(i) <= most_first and 1 <= int(j) <= most_second):
            raise BadData(f"{file}: expected 'i,j' with i up to {most_first} and j up to {most_second}, found {line!r}")
        pairs.append((int(i), int(j)))
    return pairs


def summary(
    cases: list[Case], answers: Sequence[Answer | None], rows: Sequence[dict[str, float] | None], options: Options
) -> dict[str, float]:
    """The table in percent, keys FP/<code>/<score>/<number> (`_verification.summarise`), pairs and failed_pairs."""
    table = verification.summarise(cases, answers, options)
    return {f"{options.protocol}/{name}": value for name, value in table.items()}


score = verification.score
curves = verification.curves
truth = verification.truth


def sample(root: Path) -> None:
    """Two persons with 10 frontal and 4 profile pictures of noise each; ten folds of one pair of either kind."""
    for letter, kind, count in (("F", "frontal", 10), ("P", "profile", 4)):
        lines = []
        for person in ("001", "002"):
            for k in range(1, count + 1):
                pair_lists.noise(root / "Data" / "Images" / person / kind / f"{k:02d}.jpg", 120)
                lines.append(f"{len(lines) + 1} ../Data/Images/{person}/{kind}/{k:02d}.jpg")
        (root / "Protocol").mkdir(exist_ok=True)
        (root / "Protocol" / f"Pair_list_{letter}.txt").write_text("\n".join(lines) + "\n")
    for protocol, other_person in (("FP", 4), ("FF", 10)):
        for k, number in enumerate(FOLDS):
            folder = root / "Protocol" / "Split" / protocol / number
            folder.mkdir(parents=True)
            partner = k % 4 + 1 if protocol == "FP" else (k + 1) % 10 + 1
            (folder / "same.txt").write_text(f"{k + 1},{partner}\n")
            (folder / "diff.txt").write_text(f"{k + 1},{other_person + partner}\n")
