"""Errors of landmarks and of dense points: NME and its many variants, GTE, CVGTCE, APE, CED curves, means by yaw.

"NME" is one name for some hundred numbers: papers differ in what they divide by, in what they do with z, and in whether
they align first. Here each choice is a word, and nothing is chosen silently. Errors are fractions; times 100 they are
the percent of the papers.
"""

from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from jaxtyping import Bool, Float, Int

from sameface.core.geometry import align

__all__ = [
    "Alignment", "Depth", "Normaliser", "YawMeans", "aligned", "ape", "area_under_curve", "cumulative_errors", "cvgtce",
    "face_size", "failure_rate", "gte", "mean_by_yaw", "nme", "point_errors", "table_by_yaw", "yaw_bin",
]  # fmt: skip

Normaliser = Literal[
    "box_area", "box_diagonal", "box_larger_side", "box_mean_side", "outer_eyes", "outer_eyes_3d", "pupils"
]
"""What an error is divided by, measured on the truth:

box_area: √(width · height) of the box around the points in x and y: 3DDFA (benchmark_aflw2000.py), PRNet, LS3D-W.
box_diagonal: √(width² + height²) of that box: Menpo.
box_larger_side: max(width, height).
box_mean_side: (width + height) / 2.
outer_eyes: from point 36 to 45 in x and y, "interocular": 300-W.
outer_eyes_3d: from point 36 to 45 in x, y and z: 3DFAW, VRN, PRNet's reconstruction error.
pupils: between the means of points 36-41 and of 42-47 in x and y, "interpupil".
"""
Depth = Literal["ignored", "as_given", "minus_min", "minus_mean"]
"""What happens to z, in the prediction and in the truth alike:

ignored: only x and y count: 3DDFA.
as_given: z counts as it is.
minus_min: the least z becomes 0: 3DDFA's answer in its issue 75, 2DASL's nme_for_alignment_68pts_3d.m.
minus_mean: the mean z becomes 0: SADRNet, PRNet-PyTorch by reshow, JVCR.
minus_min depends on which way z points: 3DDFA's grows towards the viewer.
"""
Alignment = Literal["none", "rigid", "similarity"]
"""What may be done to the prediction before it is compared: nothing; rotation and shift; also one scale."""

EYES = (36, 45)
"""outer corners of the subject's right and left eye among the 68 points of iBUG, and among 3DFAW's 66"""


def face_size(truth: Float[np.ndarray, "L D"], normaliser: Normaliser) -> float:
    """What `normaliser` says of these points, in their own unit.

    The box needs no particular points; the eyes need the 68 points of iBUG, or 3DFAW's 66. Raises ValueError for other
    numbers of points, for points that are not finite, and for a face without extent.

    >>> square = np.array([[0.0, 0, 0], [30, 40, 0]])
    >>> face_size(square, "box_diagonal"), face_size(square, "box_larger_side")
    (50.0, 40.0)
    """
    _require_word("normaliser", normaliser, Normaliser)
    _require_finite(truth, "the true points")
    if truth.shape[1] < (3 if normaliser == "outer_eyes_3d" else 2):
        raise ValueError(f"{normaliser} needs more coordinates than the {truth.shape[1]} of the true points")
    points = truth.astype(np.float64)
    size = _box_size(points, normaliser) if normaliser.startswith("box_") else _eye_distance(points, normaliser)
    if not size > 0:
        raise ValueError(f"the {normaliser} of the true points is {size:g}; an error cannot be divided by it")
    return size


def _box_size(points: Float[np.ndarray, "L D"], normaliser: str) -> float:
    width, height = np.ptp(points[:, :2], axis=0).tolist()
    sizes = {
        "box_area": (width * height) ** 0.5,
        "box_diagonal": (width**2 + height**2) ** 0.5,
        "box_larger_side": max(width, height),
        "box_mean_side": (width + height) / 2,
    }
    return sizes[normaliser]


def _eye_distance(points: Float[np.ndarray, "L D"], normaliser: str) -> float:
    if len(points) not in (66, 68):
        raise ValueError(
            f"{normaliser} is measured on 68 points of iBUG, or 66 of 3DFAW, but there are {len(points)}; "
            "give the size as a number, or take a box"
        )
    if normaliser == "pupils":
        return float(np.linalg.norm(points[36:42, :2].mean(0) - points[42:48, :2].mean(0)))
    used = 3 if normaliser == "outer_eyes_3d" else 2
    return float(np.linalg.norm(points[EYES[0], :used] - points[EYES[1], :used]))


def aligned(
    predicted: Float[np.ndarray, "L D"], truth: Float[np.ndarray, "L D"], alignment: Alignment = "similarity"
) -> Float[np.ndarray, "L D"]:
    """s R p_k + t with the (s, R, t) that minimise Σ_k |s R p_k + t − g_k|² (Procrustes; no reflection).

    `rigid` keeps s = 1, `none` returns the prediction. Raises ValueError if points are not finite, or all of the
    prediction's are one.
    """
    _require_word("alignment", alignment, Alignment)
    _require_pair(predicted, truth)
    if alignment == "none":
        return predicted
    source, target = predicted.astype(np.float64), truth.astype(np.float64)
    if not np.ptp(source, axis=0).max() > 0:
        raise ValueError("all predicted points are one point, which nothing can align; check the prediction")
    scale, rotation, shift = align(source, target, scale=alignment == "similarity")
    return scale * source @ rotation.T + shift


def point_errors(
    predicted: Float[np.ndarray, "L D"],
    truth: Float[np.ndarray, "L D"],
    *,
    depth: Depth = "ignored",
    alignment: Alignment = "none",
) -> Float[np.ndarray, " L"]:
    """|p_k − g_k|₂ per point in the unit of the points, after alignment first and then the treatment of z.

    Alignment uses all coordinates that are given. Raises ValueError if z is asked for and there is none, or points are
    not finite.
    """
    _require_word("treatment of z", depth, Depth)
    if depth != "ignored" and truth.shape[1] != 3:
        raise ValueError(f"depth={depth!r} needs x, y and z, but the points have {truth.shape[1]} coordinates")
    difference = [_with_depth(p, depth) for p in (aligned(predicted, truth, alignment), truth)]
    return np.linalg.norm(difference[0] - difference[1], axis=1)


def _with_depth(points: Float[np.ndarray, "L D"], depth: Depth) -> Float[np.ndarray, "L E"]:
    points = points.astype(np.float64)
    if depth == "ignored":
        return points[:, :2]
    if depth == "minus_min":
        return points - [0, 0, points[:, 2].min()]
    if depth == "minus_mean":
        return points - [0, 0, points[:, 2].mean()]
    return points


def nme(
    predicted: Float[np.ndarray, "L D"],
    truth: Float[np.ndarray, "L D"],
    *,
    normaliser: Normaliser | float = "box_area",
    depth: Depth = "ignored",
    alignment: Alignment = "none",
    visible: Bool[np.ndarray, " L"] | None = None,
) -> float:
    """Normalised mean error (1/L) Σ_k |p_k − g_k|₂ / d of 68, 21 or all vertices; a fraction.

    The defaults are 3DDFA's (benchmark_aflw2000.py): x and y, d = √(w h) of the true points. Give d as a number where
    it belongs to other points than these: AFLW's 21 points and dense meshes are divided by the box of the 68. With
    `visible`, the mean is over those points only. Raises ValueError for points that are not finite, sizes that are not
    positive, and if no point is visible.

    >>> truth = np.array([[0.0, 0], [30, 0], [0, 40], [30, 40]])
    >>> round(nme(truth + [3, 4], truth, normaliser="box_diagonal"), 9)
    0.1
    """
    size = face_size(truth, normaliser) if isinstance(normaliser, str) else float(normaliser)
    if not (size > 0 and np.isfinite(size)):
        raise ValueError(f"the size to divide by is {size:g}; expected a positive number")
    errors = point_errors(predicted, truth, depth=depth, alignment=alignment)
    if visible is None:
        return float(errors.mean() / size)
    if not visible.any():
        raise ValueError("no point is visible, so there is no mean; leave the face out before scoring")
    return float(errors[visible].mean() / size)


def gte(predicted: Float[np.ndarray, "L 3"], truth: Float[np.ndarray, "L 3"], *, depth: Depth = "as_given") -> float:
    """Ground Truth Error (1/n) Σ_k |s_k − s̃_k| / d, d between the true outer eye corners in 3D; a fraction.

    Zhao et al. 2016, eq. 13, the measure of the 3DFAW challenge. Its true depths have zero mean: systems whose depth
    has another origin want `minus_mean`, as JVCR's code does.
    """
    return nme(predicted, truth, normaliser="outer_eyes_3d", depth=depth)


def cvgtce(predicted: Float[np.ndarray, "L 3"], truth: Float[np.ndarray, "L 3"]) -> float:
    """Cross View Ground Truth Consistency Error (1/n) Σ_k |c R s_k + t − s̃_k| / d; a fraction.

    Zhao et al. 2016, eq. 14: (c, R, t) is the best similarity from the prediction to `truth`, the 3D points of the same
    face (in the challenge: seen from another camera), and d the distance of its outer eye corners. The equation prints
    the minimised norm without a square; the closed form, and the challenge, minimise squares.
    """
    return nme(predicted, truth, normaliser="outer_eyes_3d", depth="as_given", alignment="similarity")


def ape(predicted: Float[np.ndarray, "L D"], truth: Float[np.ndarray, "L D"], *, depth: Depth = "as_given") -> float:
    """Average of point-wise errors (1/n) Σ_k |s_k − s̃_k| in the unit of the points (Zhao et al. 2016, eq. 15)."""
    return float(point_errors(predicted, truth, depth=depth).mean())


def cumulative_errors(errors: Float[np.ndarray, " N"], thresholds: Float[np.ndarray, " K"]) -> Float[np.ndarray, " K"]:
    """The CED curve: the fraction of errors e ≤ t at each threshold t.

    An infinite error is a face that the system did not find: it stays in the count and never falls under a threshold.
    Raises ValueError for no errors, or for any that is NaN or negative.

    >>> cumulative_errors(np.array([1.0, 2, 3, np.inf]), np.array([0.5, 2, 9])).tolist()
    [0.0, 0.5, 0.75]
    """
    _require_errors(errors)
    return np.searchsorted(np.sort(errors), thresholds, side="right") / len(errors)


def area_under_curve(errors: Float[np.ndarray, " N"], limit: float, *, step: float | None = None) -> float:
    """(1/T) ∫₀ᵀ CED(t) dt with T = `limit`: 1 if all errors are 0.

    Exact by default, the mean of max(0, 1 − e/T). With `step`, by the trapezoidal rule on 0, step, …, T, as the
    evaluation scripts of 300-W and Menpo do. Raises ValueError if the limit or the step is not positive, or no whole
    number of steps makes the limit.
    """
    _require_errors(errors)
    _require_limit(limit)
    if step is None:
        return float(np.maximum(0, 1 - errors / limit).mean())
    count = round(limit / step) if step > 0 else 0
    if count < 1 or not np.isclose(count * step, limit):
        raise ValueError(f"step={step:g} does not divide the limit {limit:g} into whole steps")
    return float(np.trapezoid(cumulative_errors(errors, np.linspace(0, limit, count + 1))) / count)


def failure_rate(errors: Float[np.ndarray, " N"], limit: float) -> float:
    """The fraction of errors e > `limit` = 1 − CED(limit); infinite errors, faces not found, are failures."""
    _require_limit(limit)
    return float(1 - cumulative_errors(errors, np.array([limit]))[0])


class YawMeans(NamedTuple):
    """The table of 3DDFA: errors by how far the head is turned."""

    bins: tuple[float, float, float]
    """mean error for |yaw| ≤ 30°, 30° < |yaw| ≤ 60°, 60° < |yaw|"""
    counts: tuple[int, int, int]
    """faces in each bin"""
    mean: float
    """of the three means, each counting the same"""
    std: float
    """of the three means, divided by 3, not by 2"""


def yaw_bin(yaw: Float[np.ndarray, " N"]) -> Int[np.ndarray, " N"]:
    """0 where |yaw| ≤ 30, 1 where 30 < |yaw| ≤ 60, 2 where it is larger; degrees.

    3DDFA's `ana` (benchmark_aflw2000.py): the last bin is called 60 to 90 and holds everything above 60.
    """
    if not np.isfinite(yaw).all():
        raise ValueError(f"{(~np.isfinite(yaw)).sum()} of {len(yaw)} yaws are not finite; every face needs one")
    return np.digitize(np.abs(yaw), [30, 60], right=True)


def mean_by_yaw(errors: Float[np.ndarray, " N"], yaw: Float[np.ndarray, " N"]) -> YawMeans:
    """Means m_0, m_1, m_2 of the errors in the three bins of |yaw| (degrees), (m_0 + m_1 + m_2) / 3, and std(m).

    As 3DDFA prints them (benchmark_aflw2000.py, `ana`): the mean of the three means, not of the faces, so that the few
    profiles count as much as the many frontal faces. Raises ValueError if a bin is empty or an error is not finite.
    """
    _require_finite(errors[:, None], "the errors")
    bins = yaw_bin(yaw)
    counts = np.bincount(bins, minlength=3)
    if not counts.all():
        names = ("0 to 30", "30 to 60", "60 to 90")
        empty = " and ".join(name for name, count in zip(names, counts, strict=True) if not count)
        raise ValueError(f"no face has a yaw of {empty} degrees, so there is no mean of the three bins")
    means = np.bincount(bins, errors, 3) / counts
    zero, one, two = means.tolist()
    frontal, half, profile = counts.tolist()
    return YawMeans((zero, one, two), (frontal, half, profile), float(means.mean()), float(means.std()))


def table_by_yaw(errors: Float[np.ndarray, " N"], yaw: Float[np.ndarray, " N"]) -> dict[str, float]:
    """The same table by name, for any part of the faces: nme_0_30, nme_30_60, nme_60_90, nme_mean, nme_std, nme_faces.

    nme_faces is the mean of the faces, as other papers report it; images_0_30 … count. A bin without faces has no mean,
    and then there are no nme_mean and nme_std of the three.
    """
    _require_finite(errors[:, None], "the errors")
    bins, table = yaw_bin(yaw), {}
    counts = np.bincount(bins, minlength=3)
    for k, name in enumerate(("0_30", "30_60", "60_90")):
        if counts[k]:
            table[f"nme_{name}"] = float(errors[bins == k].mean())
    if counts.all():
        table |= {"nme_mean": mean_by_yaw(errors, yaw).mean, "nme_std": mean_by_yaw(errors, yaw).std}
    table["nme_faces"] = float(errors.mean())
    return table | {f"images_{name}": float(n) for name, n in zip(("0_30", "30_60", "60_90"), counts, strict=True)}


def _require_word(what: str, word: str, kind: Any) -> None:
    if word not in get_args(kind):
        raise ValueError(f"there is no {what} {word!r}; there are: {', '.join(get_args(kind))}")


def _require_finite(points: Float[np.ndarray, "L D"], what: str) -> None:
    bad = ~np.isfinite(points).all(axis=1)
    if bad.any() or not len(points):
        raise ValueError(f"{bad.sum()} of {len(points)} of {what} are not finite; expected at least one, all finite")


def _require_pair(predicted: Float[np.ndarray, "L D"], truth: Float[np.ndarray, "M E"]) -> None:
    if predicted.shape != truth.shape:
        raise ValueError(f"the predicted points have shape {predicted.shape}, the true ones {truth.shape}")
    _require_finite(predicted, "the predicted points")
    _require_finite(truth, "the true points")


def _require_errors(errors: Float[np.ndarray, " N"]) -> None:
    if not len(errors) or not (errors >= 0).all():
        raise ValueError(
            f"{(~(errors >= 0)).sum()} of {len(errors)} errors are negative or NaN; expected some, all ≥ 0"
        )


def _require_limit(limit: float) -> None:
    if not (limit > 0 and np.isfinite(limit)):
        raise ValueError(f"the limit is {limit:g}; expected a positive number")
