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

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sameface.core.errors import BadData
from sameface.evaluation.benchmarks import _pair_lists as pair_lists
from sameface.evaluation.benchmarks import _verification as verification
from sameface.evaluation.case import Case, Published

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


published: tuple[Published, ...] = (
    verification.liu("3DMM", 66.13, 2.79, 65.70, 72.24, 35.90, 12.37),
    verification.liu("3DDFA", 66.98, 2.56, 67.13, 73.30, 36.76, 10.00),
    verification.liu("3DMM-CNN", 90.53, 1.34, 90.63, 96.60, 91.13, 58.20),
    verification.liu("Liu et al. 2018", 94.43, 1.47, 94.40, 98.12, 95.07, 74.54),
    Published("Jiang et al., no identity loss", {"identity/euclidean/accuracy": 67.67}, verification.JIANG),
    Published("Jiang et al., weighted centre", {"identity/euclidean/accuracy": 94.47}, verification.JIANG),
)


def cases(root: Path, options: Options) -> list[Case]:
    """One case per distinct photo of the pairs, named <name>/<name>_0001.jpg. Raises BadData."""
    folder = root / options.pictures
    if not folder.is_dir():
        raise BadData(f"{folder} is not there; unpack LFW into {root} or name its folder with the option `pictures`")
    pairs = pair_lists.read_lfw_pairs(root / options.pairs, ".jpg")
    share = 0.5 if options.face == "centre" else None
    return pair_lists.cases_of(pairs, pair_lists.lfw_questions(pairs, folder, share))


score = verification.score
summary = verification.summary
curves = verification.curves
truth = verification.truth


def sample(root: Path) -> None:
    """Two persons with five photos of noise each; ten folds of one pair of either kind."""
    pair_lists.sample_lfw(root, "lfw", ("Anna_Sample", "Ben_Sample"), ".jpg", 250)
