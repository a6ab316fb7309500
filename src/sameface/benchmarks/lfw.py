"""Labeled Faces in the Wild (LFW), View 2: are two photos of the same person?

Huang, Ramesh, Berg, Learned-Miller: "Labeled Faces in the Wild: A Database for Studying Face Recognition in
Unconstrained Environments", UMass Amherst TR 07-49, 2007. 13,233 photos (250×250 px) of 5,749 people collected from
the news; 10 folds of 300 + 300 pairs, no person in two folds.

Numbers: percent; the threshold of each fold comes from the other nine; accuracy is the mean over the folds, ± np.std.
Pairs with a photo that the system failed on stay in (option `missing`) and are counted as `failed_pairs`.

Layout, as its owners distribute it: ROOT/pairs.txt (header `10 300`) and ROOT/lfw/<name>/<name>_0001.jpg. Pictures show
several people now and then; by convention the one meant is in the centre.

Licence: published for research; the photos belong to those who took them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Literal

import numpy as np

from sameface.benchmarks import _verification as verification
from sameface.case import Answer, Case, Published
from sameface.errors import BadData

__all__ = ["Options", "asks", "cases", "curves", "published", "sample", "score", "summary", "truth"]


asks = verification.ASKS


@dataclass(frozen=True)
class Options(verification.PairOptions):
    """Choices of the protocol."""

    pictures: str = "lfw"
    """folder of the pictures inside ROOT; that of the aligned version is called lfw-deepfunneled"""
    pairs: str = "pairs.txt"
    """list of pairs inside ROOT (View 2; restricted and unrestricted protocols share it)"""
    face: Literal["centre", "found"] = "centre"
    """centre: the person meant is in the central half (125 of 250 px), as LFW's README says; found: the system sees the
    whole picture and must choose"""


_LIU = "Liu, Zhu, Zhao, Liu: Disentangling Features in 3D Face Shapes …, CVPR 2018, table 3 (shape only; cosine)"
_JIANG = "Jiang et al.: Reconstructing Recognizable 3D Face Shapes based on 3D Morphable Models, table II (Euclidean)"


def _liu(system: str, code: str, accuracy: float, std: float, eer: float, auc: float, ten: float, one: float):
    values = {"accuracy": accuracy, "accuracy_std": std, "100-eer": eer, "auc": auc}
    values |= {"tar_at_far_10": ten, "tar_at_far_1": one}
    return Published(system, {f"{code}/cosine/{name}": value for name, value in values.items()}, _LIU)


published: tuple[Published, ...] = (
    _liu("3DMM", "identity", 66.13, 2.79, 65.70, 72.24, 35.90, 12.37),
    _liu("3DDFA", "identity", 66.98, 2.56, 67.13, 73.30, 36.76, 10.00),
    _liu("3DMM-CNN", "identity", 90.53, 1.34, 90.63, 96.60, 91.13, 58.20),
    _liu("Liu et al. 2018", "identity", 94.43, 1.47, 94.40, 98.12, 95.07, 74.54),
    Published("Jiang et al., no identity loss", {"identity/euclidean/accuracy": 67.67}, _JIANG),
    Published("Jiang et al., weighted centre", {"identity/euclidean/accuracy": 94.47}, _JIANG),
)


def cases(root: Path, options: Options) -> list[Case]:
    """One case per distinct photo of the pairs, named <name>/<name>_0001.jpg. Raises BadData."""
    folder = root / options.pictures
    if not folder.is_dir():
        raise BadData(f"{folder} is not there; unpack LFW into {root} or name its folder with the option `pictures`")
    pairs = verification.read_lfw_pairs(root / options.pairs, ".jpg")
    share = 0.5 if options.face == "centre" else None
    return verification.cases_of(pairs, verification.lfw_questions(pairs, folder, share))


def score(case: Case, answer: Answer, options: Options) -> dict[str, float]:
    """No number of its own: photos are judged in pairs. Raises ValueError if nothing can be compared."""
    verification.check_answer(case, answer)
    return {}


def summary(
    cases: list[Case], answers: Sequence[Answer | None], rows: Sequence[dict[str, float] | None], options: Options
) -> dict[str, float]:
    """The table in percent, keys <code>/<score>/<number> (`_verification.summarise`), `pairs` and `failed_pairs`."""
    return verification.summarise(cases, answers, options)


def curves(
    cases: list[Case], answers: Sequence[Answer | None], options: Options
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The pooled ROC curve (FAR, TAR) of each score."""
    return verification.roc_curves(cases, answers, options)


def truth(case: Case, options: Options) -> Answer:
    """A code and a mesh for each person."""
    return verification.perfect(case)


def sample(root: Path) -> None:
    """Two persons with five photos of noise each; ten folds of one pair of either kind."""
    names, numbers = ("Anna_Sample", "Ben_Sample"), range(1, 6)
    for name in names:
        for number in numbers:
            verification.noise(root / "lfw" / name / f"{name}_{number:04d}.jpg", 250)
    lines = ["10\t1"]
    for k, (i, j) in enumerate(combinations(numbers, 2)):
        lines += [f"{names[k % 2]}\t{i}\t{j}", f"{names[0]}\t{i}\t{names[1]}\t{j}"]
    (root / "pairs.txt").write_text("\n".join(lines) + "\n")
