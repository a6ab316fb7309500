"""What the four verification benchmarks share: options, and answers → scores → the table."""

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float

from sameface.evaluation.benchmarks._pair_lists import Pair, pairs_of, read_scores, write_scores
from sameface.evaluation.case import Answer, Case, Published
from sameface.metrics import verification as metric

__all__ = [
    "ASKS", "JIANG", "PairOptions", "check_answer", "curves", "liu", "pair_scores", "score", "summarise", "summary",
    "truth",
]  # fmt: skip

Rule = Literal["exact", "insightface", "sphereface_pytorch", "mobilefacenet"]
FLIPPED = "_flipped"
ASKS = ("codes", "neutral")
"""what of an answer is looked at"""
LIU = "Liu, Zhu, Zhao, Liu: Disentangling Features in 3D Face Shapes …, CVPR 2018, table 3 (shape only; cosine)"
JIANG = "Jiang et al.: Reconstructing Recognizable 3D Face Shapes based on 3D Morphable Models, table II (Euclidean)"


@dataclass(frozen=True)
class PairOptions:
    """Choices that every verification benchmark leaves open; each report prints the ones it used."""

    rule: tuple[Rule, ...] = ("exact",)
    """how thresholds are chosen and which score they belong to (metrics/verification.py names the public sources):
    exact scores cosine, Euclidean distance and mesh distance; the three public rules score codes their own way"""
    missing: Literal["wrong", "different"] = "wrong"
    """what a pair counts when the system failed on one of its photos: wrong = wrong at every threshold, so that TAR at
    a FAR is 0 once a larger share of the different pairs failed; different = a similarity of minus infinity, as NIST's
    FRVT treats failures to enrol, which is right for different pairs. Ours: wrong, since failing must not pay"""
    curves: metric.Curves = "folds"
    """EER, AUC and TAR: mean (and deviation) of the folds' own curves (Liu et al. 2018, table 3; CFP), or one pooled"""
    interpolation: metric.Interpolation = "step"
    """TAR at a FAR: of a threshold that keeps the FAR (step), or on the line between two (linear)"""
    fuse: Path | None = None
    """CSV of another system's scores, one per pair in pair order: adds rows for it and for the sum of z-normalised
    scores (Liu et al. 2018, sec. 4.2; mean and deviation from the training folds)"""
    scores: Path | None = None
    """folder to write every score of every pair to, as CSV files that `fuse` reads"""


def liu(system: str, accuracy: float, std: float, eer: float, auc: float, ten: float, one: float) -> Published:
    """A row of Liu et al. 2018, table 3, in percent: accuracy ± std, 100 − EER, AUC, TAR at FAR 10 % and 1 %."""
    values = {"accuracy": accuracy, "accuracy_std": std, "100-eer": eer, "auc": auc}
    values |= {"tar_at_far_10": ten, "tar_at_far_1": one}
    return Published(system, {f"identity/cosine/{name}": value for name, value in values.items()}, LIU)


# ── a photo's answer ───────────────────────────────────────────────────────────────────────────────────────


def check_answer(case: Case, answer: Answer) -> None:
    """Raise ValueError unless the answer holds something finite that people can be compared by."""
    if not answer.codes and answer.neutral is None:
        raise ValueError(f"{case.name}: the answer has neither codes (identity, embedding …) nor a neutral mesh")
    for name, code in answer.codes.items():
        if not len(code) or not np.isfinite(code).all():
            raise ValueError(f"{case.name}: code {name!r} of shape {code.shape} is empty or not finite")
    if answer.neutral is not None and not np.isfinite(answer.neutral).all():
        raise ValueError(f"{case.name}: the neutral mesh has vertices that are not finite")


def score(case: Case, answer: Answer, options: PairOptions) -> dict[str, float]:
    """No number of its own: photos are judged in pairs. Raises ValueError if nothing can be compared."""
    check_answer(case, answer)
    return {}


def truth(case: Case, options: PairOptions) -> Answer:
    """A system that knows every person: a random code and mesh for each name, the same in all photos."""
    rng = np.random.default_rng(zlib.crc32(case.truth["person"].encode()))
    code = np.tile(rng.normal(size=32), (len(case.photos), 1))
    return Answer(codes={"identity": code}, neutral=rng.normal(0, 30, (20, 3)))


def summary(
    cases: list[Case], answers: Sequence[Answer | None], rows: Sequence[dict[str, float] | None], options: PairOptions
) -> dict[str, float]:
    """The table of `summarise`; a photo's rows hold nothing for it."""
    return summarise(cases, answers, options)


# ── answers → scores → table ───────────────────────────────────────────────────────────────────────────────


def summarise(cases: list[Case], answers: Sequence[Answer | None], options: PairOptions) -> dict[str, float]:
    """The table, in percent: <code>/<score>/<number>, then the counts `pairs` and `failed_pairs`.

    Of the first cases only, the pairs among them are scored, if both kinds are in each of two folds; the others are
    counted as `pairs_not_asked`.

    Scores are cosine and euclidean of each code and mesh/mm (exact rule), <code>/insightface, sphereface_pytorch and
    mobilefacenet (own rules; `…_no_flip` where the system gives no <code>_flipped of the mirrored photo), other (the
    file to fuse) and …+other. Numbers: accuracy, accuracy_std, eer, 100-eer, auc, tar_at_far_10, _1, _01.
    """
    pairs, both = pairs_of(cases), _answered(cases, answers)
    same, folds = _labels(pairs)
    counts = {"pairs": float(len(pairs)), "failed_pairs": float((~both).sum())}
    if len(pairs) < cases[0].truth["of"]:
        counts["pairs_not_asked"] = float(cases[0].truth["of"] - len(pairs))
    table: dict[str, float] = {}
    for name, values in pair_scores(cases, answers, options).items():
        kind = name.split("/")[-1].removesuffix("_no_flip")
        for number, value in _numbers(kind, values, same, folds, options).items():
            table[f"{name}/{number}"] = value
        if options.scores is not None:
            own = np.broadcast_to(values, (len(np.unique(folds)), len(pairs)))
            kept = own[np.searchsorted(np.unique(folds), folds), np.arange(len(pairs))]
            options.scores.mkdir(parents=True, exist_ok=True)
            write_scores(options.scores / f"{name.replace('/', '-')}.csv", pairs, kept)
    return table | counts


def curves(
    cases: list[Case], answers: Sequence[Answer | None], options: PairOptions
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The pooled ROC curve (FAR, TAR) of each score of `pair_scores`, for pictures."""
    pairs = pairs_of(cases)
    same, folds = _labels(pairs)
    rows = np.searchsorted(np.unique(folds), folds)
    found = {}
    for name, values in pair_scores(cases, answers, options).items():
        own = values if values.ndim == 1 else values[rows, np.arange(len(pairs))]
        curve = metric.roc(-own if _is_distance(name) else own, same)
        found[name] = (curve.far, curve.tar)
    return found


def pair_scores(
    cases: list[Case], answers: Sequence[Answer | None], options: PairOptions
) -> dict[str, Float[np.ndarray, "... P"]]:
    """The score of every pair by name, failed pairs infinite as `options.missing` says.

    (P,), or (folds, P) where a score depends on the fold that is held out. Similarities, but for insightface's, which
    is a distance. A case's code is the mean over its photos. Nothing but `other` when every pair failed, and nothing
    when too few of the cases are there.
    """
    pairs, both = pairs_of(cases), _answered(cases, answers)
    same, folds = _labels(pairs)
    found: dict[str, np.ndarray] = {}
    kinds = {(pair.fold, pair.same) for pair in pairs}
    if len(pairs) < cases[0].truth["of"] and len(kinds) < max(4, 2 * len(set(folds.tolist()))):
        return found
    if both.any():
        known = {case.name: answer for case, answer in zip(cases, answers, strict=True) if answer is not None}
        asked = [pair for pair, good in zip(pairs, both, strict=True) if good]
        found = _known_scores(
            [known[pair.first] for pair in asked], [known[pair.second] for pair in asked], folds[both], folds, options
        )
    lost = np.where(same | (options.missing == "different"), -np.inf, np.inf)
    for name, values in found.items():
        full = np.broadcast_to(-lost if _is_distance(name) else lost, (*values.shape[:-1], len(pairs))).copy()
        full[..., both] = values
        found[name] = full
    if options.fuse is not None:
        other = read_scores(options.fuse, pairs)
        plain = {name: values for name, values in found.items() if name.split("/")[-1] in ("cosine", "euclidean", "mm")}
        found |= {f"{name}+other": metric.fused([values, other], folds) for name, values in plain.items()}
        found["other/score"] = other
    return found


def _known_scores(
    first: list[Answer], second: list[Answer], folds: np.ndarray, all_folds: np.ndarray, options: PairOptions
) -> dict[str, np.ndarray]:
    """Every score of pairs that were answered; some fold may have none of them."""
    found: dict[str, np.ndarray] = {}
    for name in _common_codes([*first, *second]):
        a, b = _features(first, name), _features(second, name)
        if "exact" in options.rule:
            found[f"{name}/cosine"], found[f"{name}/euclidean"] = metric.cosine(a, b), metric.euclidean(a, b)
        if "sphereface_pytorch" in options.rule:
            found[f"{name}/sphereface_pytorch"] = metric.cosine(a, b, epsilon=1e-5)
        ending = ""
        mirrored = (_features(first, name + FLIPPED), _features(second, name + FLIPPED))
        if not mirrored[0].size:
            ending, mirrored = "_no_flip", (a[:, :0], b[:, :0])
        if "insightface" in options.rule:
            sums = (a, b) if ending else (a + mirrored[0], b + mirrored[1])
            found[f"{name}/insightface{ending}"] = metric.squared_distance(*sums)
        if "mobilefacenet" in options.rule:
            long = [np.concatenate(parts, axis=1) for parts in zip((a, b), mirrored, strict=True)]
            found[f"{name}/mobilefacenet{ending}"] = metric.centred_cosines(
                long[0], long[1], folds, np.unique(all_folds)
            )
    meshes = {answer.neutral is not None for answer in (*first, *second)}
    if len(meshes) > 1:
        raise ValueError("some answers have a neutral mesh and some have none; a system answers all cases alike")
    if meshes == {True} and "exact" in options.rule:
        together = [(a.neutral, b.neutral) for a, b in zip(first, second, strict=True)]
        found["mesh/mm"] = np.array([-metric.mesh_distance(a, b) for a, b in together if not (a is None or b is None)])
    return found


def _numbers(
    kind: str, values: np.ndarray, same: np.ndarray, folds: np.ndarray, options: PairOptions
) -> dict[str, float]:
    """The row of the table for one score, in percent."""
    rules = {
        "insightface": metric.accuracy_insightface,
        "sphereface_pytorch": metric.accuracy_sphereface_pytorch,
        "mobilefacenet": metric.accuracy_mobilefacenet,
    }
    if kind not in rules:
        return metric.verification_numbers(
            values, same, folds, curves=options.curves, interpolation=options.interpolation
        )
    found = rules[kind](values, same, folds)
    numbers = {"accuracy": 100 * found.mean, "accuracy_std": 100 * found.std}
    if kind == "insightface":
        tars = metric.tar_insightface(values, same, folds)
        numbers |= {"tar_at_far_01": 100 * float(tars.mean()), "tar_at_far_01_std": 100 * float(tars.std())}
    return numbers


def _is_distance(name: str) -> bool:
    """Only insightface's score grows as two photos become less alike."""
    return name.split("/")[-1].startswith("insightface")


def _labels(pairs: list[Pair]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([pair.same for pair in pairs], bool), np.array([pair.fold for pair in pairs], np.int64)


def _answered(cases: list[Case], answers: Sequence[Answer | None]) -> np.ndarray:
    """Of each pair, whether both photos were answered."""
    if len(cases) != len(answers):
        raise ValueError(f"{len(cases)} cases but {len(answers)} answers; give None where the system failed")
    good = {case.name for case, answer in zip(cases, answers, strict=True) if answer is not None}
    return np.array([pair.first in good and pair.second in good for pair in pairs_of(cases)], bool)


def _common_codes(answers: Iterable[Answer]) -> list[str]:
    """Names of the codes that all answers have, without those of the mirrored photos."""
    sets = {frozenset(answer.codes) for answer in answers}
    if len(sets) > 1:
        odd = sorted(frozenset.union(*sets) - frozenset.intersection(*sets))
        raise ValueError(f"only some answers have the codes {', '.join(odd)}; a system answers all cases alike")
    return sorted(name for name in next(iter(sets)) if not name.endswith(FLIPPED))


def _features(answers: list[Answer], name: str) -> np.ndarray:
    """(P, D): each answer's code, the mean over its photos; (P, 0) if there is no such code."""
    empty = np.zeros((1, 0))
    return np.stack([np.asarray(answer.codes.get(name, empty), np.float64).mean(0) for answer in answers])
