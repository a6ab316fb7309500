"""How far to believe an answer: where a photo is poor or photos are far apart, in words and for the report's colours.

There is one limit for each, so that whatever is red in the report is a note too, and the other way round.
"""

from collections.abc import Sequence

from sameface.reconstruction.result import View

__all__ = ["FAIR", "POOR", "doubts", "far_apart"]

POOR, FAIR = 0.7, 0.8
"""quality below which a photo is poor (a note, red in the report), and not good (amber): of 111 ordinary photos of the
face table's val split none and two in a hundred were below; darkened, blurred, noisy or half covered photos of a
quality below 0.8 had moved the shape by 0.8 to 0.9 mm (median), above 0.9 by 0.5 mm (results/limits.json)"""


def far_apart(photos: int, farthest: float) -> float:
    """mm between a photo's own shape and the joint one of so many photos, beyond which they do not agree.

    `farthest`, but of two photos each is half as far from the joint shape as from the other.
    """
    return farthest / 2 if photos == 2 else farthest


def doubts(views: Sequence[View], farthest: float) -> list[str]:
    """What the report colours red, in words, but for two photos that disagree."""
    poor = [view.seen for view in views if view.seen.quality < POOR]
    limit = far_apart(len(views), farthest)
    far = [view for view in views if view.disagreement > limit] if len(views) > 2 else []
    told = []
    if poor:
        which = "every photo is poor" if len(poor) == len(views) else f"{len(poor)} of {len(views)} photos are poor"
        worst = min(poor, key=lambda one: one.quality)
        told.append(
            f"{which} (quality below {POOR:g}; {worst.photo}: {worst.quality:.2f}): a face that is small, blurred, "
            "dark or hidden says little of its shape, and the answer is nearer to an average face"
        )
    if far:
        worst = max(far, key=lambda view: view.disagreement)
        told.append(
            f"the own shapes of {len(far)} of {len(views)} photos are farther than {limit:g} mm from the joint one "
            f"({worst.seen.photo}: {worst.disagreement:.1f} mm)"
        )
    return told
