"""Face verification: are two photos of the same person? Accuracy over folds, equal error rate, AUC, TAR at FAR.

P pairs have a score each (a similarity: greater means more alike), a label `same`, and a fold. The threshold of a fold
comes from the other folds. Scores may also be given per held-out fold, (K, P), row k being what every pair scores when
fold k (in the order of sorted fold numbers) is the one held out: that is how anything learnt from the training folds
(a mean, a normalisation) stays out of the test. Scores may be infinite, for pairs that no threshold may mend; NaN,
labels of one kind only and folds that lack a kind are ValueErrors, because no number could be computed honestly.

Four rules choose the threshold; they differ by up to some tenths of a percent, so reports name theirs:

- exact: every midpoint between training scores is tried; of several best, the one in the middle.
- insightface: deepinsight/insightface, recognition/arcface_torch/eval/verification.py: squared distance of unit
  embeddings < t, t in arange(0, 4, 0.01), FIRST best. Its embedding is f(photo) + f(mirrored photo).
- sphereface_pytorch: clcarwin/sphereface_pytorch, lfw_eval.py: cosine (its denominator + 1e-5) > t,
  t in arange(-1, 1, 0.005), LAST best.
- mobilefacenet: Xiaoccer/MobileFaceNet_Pytorch, lfw_eval.py, after SphereFace's Matlab evaluation: [f(photo),
  f(mirrored)] minus the mean of the training folds, cosine, 20,001 thresholds from -1 to 1, the MEAN of all best ones.
"""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

__all__ = [
    "Curves", "FoldAccuracy", "Interpolation", "Roc", "accuracy_exact", "accuracy_insightface",
    "accuracy_mobilefacenet", "accuracy_sphereface_pytorch", "area_under_curve", "centred_cosines", "cosine",
    "equal_error_rate", "euclidean", "fused", "mesh_distance", "roc", "squared_distance", "tar_at_far",
    "tar_insightface", "verification_numbers",
]  # fmt: skip

Interpolation = Literal["step", "linear"]
Curves = Literal["folds", "pooled"]

FARS = {"10": 0.1, "1": 0.01, "01": 0.001}
"""false accept rates that reports ask for, by the ends of their names: 10 %, 1 %, 0.1 %"""

# Lengths that must agree are called `_` below: the functions compare them, so that callers get a sentence.
Scores = Float[np.ndarray, "... P"]
Labels = Bool[np.ndarray, " _"]
FoldNumbers = Int[np.ndarray, " _"]


class FoldAccuracy(NamedTuple):
    """Share of right decisions in each of K folds, with the threshold that the other folds chose."""

    accuracy: Float[np.ndarray, " K"]
    threshold: Float[np.ndarray, " K"]

    @property
    def mean(self) -> float:
        """Mean over the folds."""
        return float(self.accuracy.mean())

    @property
    def std(self) -> float:
        """Standard deviation over the folds, divisor K (`np.std`, ddof 0), as all public evaluations have it."""
        return float(self.accuracy.std())


class Roc(NamedTuple):
    """Corners of a receiver operating characteristic, from (0, 0) to (1, 1): one per distinct score."""

    far: Float[np.ndarray, " C"]
    """false accept rate: share of different pairs with score >= threshold"""
    tar: Float[np.ndarray, " C"]
    """true accept rate: share of same pairs with score >= threshold"""
    threshold: Float[np.ndarray, " C"]


# ── scores ─────────────────────────────────────────────────────────────────────────────────────────────────


def cosine(
    first: Float[np.ndarray, "P D"], second: Float[np.ndarray, "P D"], *, epsilon: float = 0.0
) -> Float[np.ndarray, " P"]:
    """a·b / (|a| |b| + epsilon) of each pair; sphereface_pytorch has epsilon 1e-5.

    >>> cosine(np.array([[1.0, 0.0]]), np.array([[3.0, 4.0]])).tolist()
    [0.6]
    """
    first, second = first.astype(np.float64), second.astype(np.float64)
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1) + epsilon
    if (lengths == 0).any():
        raise ValueError(f"pair {int(np.argmin(lengths))} has a vector of length zero, which has no direction")
    return (first * second).sum(1) / lengths


def euclidean(first: Float[np.ndarray, "P D"], second: Float[np.ndarray, "P D"]) -> Float[np.ndarray, " P"]:
    """-|a - b| of each pair, in the unit of the vectors: negative, so that greater means more alike."""
    return -np.linalg.norm(first.astype(np.float64) - second.astype(np.float64), axis=1)


def squared_distance(first: Float[np.ndarray, "P D"], second: Float[np.ndarray, "P D"]) -> Float[np.ndarray, " P"]:
    """|a/|a| - b/|b||² of each pair, 0 to 4: insightface's distance (smaller means more alike)."""
    return ((_unit(first) - _unit(second)) ** 2).sum(1)


def centred_cosines(
    first: Float[np.ndarray, "P D"],
    second: Float[np.ndarray, "P D"],
    folds: FoldNumbers,
    held_out: Int[np.ndarray, " K"] | None = None,
) -> Float[np.ndarray, "K P"]:
    """cos(a - m_k, b - m_k), m_k the mean of all vectors outside fold k: mobilefacenet's score when k is held out.

    `held_out`: the folds k, by default those of the pairs (others are for folds of which no pair is given).
    """
    if len(folds) != len(first):
        raise ValueError(f"there are {len(first)} pairs of vectors but {len(folds)} fold numbers; give one for each")
    rows = []
    for fold in np.unique(folds) if held_out is None else held_out:
        train = folds != fold
        if not train.any():
            raise ValueError(f"there are no vectors outside fold {fold}, whose mean is needed when it is held out")
        mean = np.concatenate([first[train], second[train]]).astype(np.float64).mean(0)
        rows.append((_unit(first - mean) * _unit(second - mean)).sum(1))
    return np.stack(rows)


def mesh_distance(first: Float[np.ndarray, "V 3"], second: Float[np.ndarray, "W 3"]) -> float:
    """mean_v |a_v - b_v|, mm, of two neutral meshes of one topology, both in the model's frame: nothing is aligned.

    >>> mesh_distance(np.zeros((2, 3)), np.array([[3.0, 4.0, 0.0], [0.0, 0.0, 1.0]]))
    3.0
    """
    if len(first) != len(second):
        raise ValueError(f"meshes of {len(first)} and {len(second)} vertices cannot be compared vertex by vertex")
    return float(np.linalg.norm(first.astype(np.float64) - second, axis=1).mean())


def fused(scores: Sequence[Scores], folds: FoldNumbers) -> Float[np.ndarray, "K P"]:
    """sum_i (s_i - mean_i) / std_i: sum of z-normalised scores, the "sum rule" of Liu et al. 2018, sec. 4.2.

    Mean and deviation (ddof 0) of each system are those of the pairs outside the held-out fold, row by row: the test
    fold must not help to normalise itself. Infinite scores do not count there and stay infinite.
    """
    total = np.zeros((len(np.unique(folds)), len(folds)))
    for one in scores:
        if one.shape[-1] != len(folds):
            raise ValueError(f"a file or system has {one.shape[-1]} scores for {len(folds)} pairs; fuse the same pairs")
        for k, (fold, row) in enumerate(zip(np.unique(folds), _per_fold(one, folds), strict=True)):
            known = row[(folds != fold) & np.isfinite(row)]
            deviation = known.std() if len(known) else 0.0
            if not deviation > 0:
                raise ValueError(f"scores outside fold {fold} are all the same; they cannot be normalised")
            total[k] += (row - known.mean()) / deviation
    return total


# ── curves ─────────────────────────────────────────────────────────────────────────────────────────────────


def roc(scores: Float[np.ndarray, " P"], same: Labels) -> Roc:
    """FAR and TAR of `score >= threshold` for every distinct score, and (0, 0) first (threshold +inf)."""
    _check(scores, same)
    order = np.argsort(-scores, kind="stable")
    ranked, labels = scores[order], same[order]
    last = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), len(ranked) - 1)  # of each run of equal scores
    tar, far = np.cumsum(labels)[last] / same.sum(), np.cumsum(~labels)[last] / (~same).sum()
    return Roc(np.append(0.0, far), np.append(0.0, tar), np.append(np.inf, ranked[last]))


def area_under_curve(scores: Float[np.ndarray, " P"], same: Labels) -> float:
    """∫ TAR dFAR by trapezoids = P(score of a same pair > score of a different one), ties counted half.

    >>> area_under_curve(np.array([0.9, 0.8, 0.7, 0.1]), np.array([True, False, True, False]))
    0.75
    """
    curve = roc(scores, same)
    return float((np.diff(curve.far) * (curve.tar[1:] + curve.tar[:-1]) / 2).sum())


def equal_error_rate(scores: Float[np.ndarray, " P"], same: Labels) -> float:
    """The FAR at which FAR = 1 - TAR, on straight lines between the corners of the ROC curve.

    "100 %-EER" of the papers is 1 minus this.
    """
    curve = roc(scores, same)
    excess = curve.far + curve.tar - 1.0  # grows from -1 to 1
    after = int(np.argmax(excess >= 0))
    step = -excess[after - 1] / (excess[after] - excess[after - 1])
    return float(curve.far[after - 1] + step * (curve.far[after] - curve.far[after - 1]))


def tar_at_far(
    scores: Float[np.ndarray, " P"], same: Labels, far: float, interpolation: Interpolation = "step"
) -> float:
    """TAR where the FAR is `far`.

    step: the greatest TAR of a threshold whose FAR does not exceed `far`, so a rate that the system really reaches.
    linear: read from the straight line between two corners of the ROC curve, which is never lower.
    """
    if not 0 <= far <= 1:
        raise ValueError(f"a false accept rate is between 0 and 1, not {far:g}; 0.1 % is 0.001")
    curve = roc(scores, same)
    if interpolation == "linear":
        return float(np.interp(far, curve.far, curve.tar))
    return float(curve.tar[np.flatnonzero(curve.far <= far)[-1]])


# ── accuracy over folds ────────────────────────────────────────────────────────────────────────────────────


def accuracy_exact(scores: Scores, same: Labels, folds: FoldNumbers) -> FoldAccuracy:
    """score > t, t of all midpoints between neighbouring training scores; of several best, the middle one."""

    def candidates(train: np.ndarray) -> np.ndarray:
        known = np.unique(train[np.isfinite(train)])
        if not len(known):
            return np.zeros(1)  # every training pair failed: any threshold is as good
        return np.concatenate([[known[0] - 1], (known[1:] + known[:-1]) / 2, [known[-1] + 1]])

    def middle(thresholds: np.ndarray, best: np.ndarray) -> float:
        return float(thresholds[np.flatnonzero(best)[best.sum() // 2]])

    return _over_folds(scores, same, folds, candidates, middle)


def accuracy_insightface(distances: Scores, same: Labels, folds: FoldNumbers) -> FoldAccuracy:
    """distance < t, t in arange(0, 4, 0.01), the first best; for `squared_distance`."""
    grid = -np.arange(0, 4, 0.01)  # -d > -t is d < t to the last bit
    found = _over_folds(-distances, same, folds, lambda _: grid, lambda t, best: float(t[np.argmax(best)]))
    return FoldAccuracy(found.accuracy, -found.threshold)


def accuracy_sphereface_pytorch(cosines: Scores, same: Labels, folds: FoldNumbers) -> FoldAccuracy:
    """score > t, t in arange(-1, 1, 0.005), the last best; for `cosine` with epsilon 1e-5."""
    grid = np.arange(-1.0, 1.0, 0.005)
    return _over_folds(cosines, same, folds, lambda _: grid, lambda t, best: float(t[best][-1]))


def accuracy_mobilefacenet(scores: Scores, same: Labels, folds: FoldNumbers) -> FoldAccuracy:
    """score > t says same, score < t different, t in -1, -0.9999 … 1, the mean of all best; for `centred_cosines`."""
    grid = np.arange(-10000, 10001) * 1.0 / 10000
    return _over_folds(scores, same, folds, lambda _: grid, lambda t, best: float(t[best].mean()), strict=True)


def tar_insightface(distances: Scores, same: Labels, folds: FoldNumbers, far: float = 1e-3) -> Float[np.ndarray, " K"]:
    """TAR of each fold at the threshold where the other folds have FAR `far`; report mean and `np.std`.

    The threshold is interpolated over FAR as a first-order spline (SciPy's "slinear"), t in arange(0, 4, 0.001).
    Many t share a FAR: between two FARs the line runs from the last t of the lower to the first of the higher, and
    at a FAR itself the last t counts. A FAR that no t reaches gives t = 0, as there; so does one that t = 0 exceeds.
    """
    _check(distances, same, folds)
    grid, found = np.arange(0, 4, 0.001), []
    for fold, row in zip(np.unique(folds), _per_fold(distances, folds), strict=True):
        train, test = (folds != fold) & ~same, (folds == fold) & same
        rates = np.searchsorted(np.sort(row[train]), grid, "left") / train.sum()  # d < t
        threshold = np.interp(far, rates, grid) if rates[0] <= far <= rates[-1] else 0.0
        found.append(np.mean(row[test] < threshold))
    return np.array(found)


def verification_numbers(
    scores: Scores, same: Labels, folds: FoldNumbers, *, curves: Curves = "folds", interpolation: Interpolation = "step"
) -> dict[str, float]:
    """accuracy (exact rule), eer, 100-eer, auc, tar_at_far_10, _1 and _01 (FAR 10 %, 1 %, 0.1 %), all in percent.

    curves "folds": the mean over the folds of each fold's own curve, with `…_std` (ddof 0), as Liu et al. 2018,
    table 3, and CFP's protocol; "pooled": one curve of all pairs, whose FARs are finer.
    """
    accuracy = accuracy_exact(scores, same, folds)
    numbers = np.unique(folds)
    own = _per_fold(scores, folds)[np.searchsorted(numbers, folds), np.arange(len(folds))]
    parts = [folds == fold for fold in numbers] if curves == "folds" else [np.ones(len(folds), bool)]
    table = {"eer": np.array([equal_error_rate(own[part], same[part]) for part in parts])}
    table["100-eer"] = 1 - table["eer"]
    table["auc"] = np.array([area_under_curve(own[part], same[part]) for part in parts])
    for name, far in FARS.items():
        table[f"tar_at_far_{name}"] = np.array([tar_at_far(own[p], same[p], far, interpolation) for p in parts])
    found = {"accuracy": 100 * accuracy.mean, "accuracy_std": 100 * accuracy.std}
    for name, values in table.items():
        found[name] = 100 * float(values.mean())
        if curves == "folds":
            found[f"{name}_std"] = 100 * float(values.std())
    return found


def _over_folds(
    scores: Scores, same: Labels, folds: FoldNumbers,
    candidates: Callable[[np.ndarray], np.ndarray], choose: Callable[[np.ndarray, np.ndarray], float],
    *, strict: bool = False,
) -> FoldAccuracy:  # fmt: skip
    """Threshold from all other folds, accuracy in this one; `strict`: a score at the threshold is always wrong."""
    _check(scores, same, folds)
    accuracies, thresholds = [], []
    for fold, row in zip(np.unique(folds), _per_fold(scores, folds), strict=True):
        train, test = folds != fold, folds == fold
        grid = candidates(row[train])
        right = _right(row[train], same[train], grid, strict)
        threshold = choose(grid, right == right.max())
        thresholds.append(threshold)
        accuracies.append(_right(row[test], same[test], np.array([threshold]), strict)[0] / test.sum())
    return FoldAccuracy(np.array(accuracies), np.array(thresholds, np.float64))


def _right(scores: np.ndarray, same: np.ndarray, thresholds: np.ndarray, strict: bool) -> np.ndarray:
    """How many decisions are right at each threshold (score > t says same)."""
    alike, unlike = np.sort(scores[same]), np.sort(scores[~same])
    accepted = len(alike) - np.searchsorted(alike, thresholds, "right")
    return accepted + np.searchsorted(unlike, thresholds, "left" if strict else "right")


def _per_fold(scores: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """(K, P), whichever way the scores were given."""
    return np.broadcast_to(scores, (len(np.unique(folds)), len(folds)))


def _unit(vectors: np.ndarray) -> np.ndarray:
    vectors = vectors.astype(np.float64)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    if (lengths == 0).any():
        raise ValueError(f"vector {int(np.argmin(lengths))} has length zero, so it has no direction")
    return vectors / lengths


def _check(scores: np.ndarray, same: np.ndarray, folds: np.ndarray | None = None) -> None:
    if scores.shape[-1] != len(same) or (folds is not None and len(folds) != len(same)):
        given = "" if folds is None else f" and {len(folds)} fold numbers"
        raise ValueError(f"{scores.shape[-1]} scores, {len(same)} labels{given}; each pair needs one of each")
    if np.isnan(scores).any():
        raise ValueError(f"{int(np.isnan(scores).sum())} scores are NaN; decide first what a failed pair counts")
    if same.all() or not same.any():
        raise ValueError(f"all {len(same)} pairs are {'same' if same.any() else 'different'}; both kinds are needed")
    if folds is None:
        return
    numbers = np.unique(folds)
    if len(numbers) < 2:
        raise ValueError("all pairs are in one fold; the threshold must come from other folds")
    if scores.ndim > 2 or (scores.ndim == 2 and len(scores) != len(numbers)):
        raise ValueError(f"scores have shape {scores.shape}; with {len(numbers)} folds they are (P,) or (K, P)")
    for fold in numbers:
        inside = same[folds == fold]
        if inside.all() or not inside.any():
            missing = "different" if inside.any() else "same"
            raise ValueError(f"fold {fold} has no {missing} pairs; every fold needs both kinds")
