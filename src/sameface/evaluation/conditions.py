"""Are faces recognizable? The conditions of Jiang et al. (sec. III.B), as numbers for any system that gives identities.

1. together: meshes of one person are close (RMS, mm);
2. apart: meshes of different people are far;
3. frontal: a person's mesh from the most neutral and frontal photo is that of all others;
4. spread: identity coefficients are distributed as the model says, N(0, 1) in each dimension.

That distances of coefficients are those of meshes needs modes that are orthogonal; `orthogonality` says how far they
are. Nothing is aligned: neutral meshes are compared in the model's own frame, vertex by vertex.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from sameface.core.arrays import Record
from sameface.core.files import write_file
from sameface.core.geometry import euler_from_rotation
from sameface.evaluation.case import Case, pose
from sameface.metrics.verification import area_under_curve
from sameface.morphable import MorphableModel, default

__all__ = [
    "Faces",
    "apart",
    "conditions",
    "facing",
    "frontal",
    "gather",
    "orthogonality",
    "plot_spread",
    "spread",
    "together",
]

SIZE, DOTS_PER_INCH = (7.2, 4.0), 120
"""inches; px per inch"""


@dataclass(frozen=True, eq=False, repr=False)
class Faces(Record):
    """What a system said of N photos, each looked at alone."""

    neutral: Float[np.ndarray, "N V 3"]
    """mm"""
    person: Int[np.ndarray, " N"]
    """who is in the photo"""
    rotation: Float[np.ndarray, "N 3 3"]
    """of the cameras (docs/conventions.md)"""
    expression: Float[np.ndarray, "N E"]
    identity: Float[np.ndarray, "N S"] | None = None
    """σ, where the system speaks of a morphable model"""


def gather(measure: Callable[[Case], dict[str, np.ndarray]], cases: Sequence[Case], person: Sequence[int]) -> Faces:
    """What `System.measure` says of cases of one photo each, and who is in them.

    Raises ValueError for a case of several photos, or when the system says no identity mesh, rotation or expression.
    Photos that it cannot use raise what the system raises: leave them out beforehand, and count them.
    """
    if len(cases) != len(person) or not cases:
        raise ValueError(f"{len(cases)} cases and {len(person)} persons were given; expected as many, and at least one")
    rows: list[dict[str, np.ndarray]] = []
    for case in cases:
        if len(case.photos) != 1:
            raise ValueError(f"{case.name} has {len(case.photos)} photos; a condition looks at each photo alone")
        rows.append(_row(measure(case), case.name))
    stacked = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    return Faces(person=np.asarray(person, dtype=np.int64), **stacked)


def _row(measured: dict[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    missing = {"rotation", "expression"} - set(measured)
    if not {"neutral", "identity"} & set(measured):
        missing.add("neutral or identity")
    if missing:
        raise ValueError(f"of {name} the system does not say {', '.join(sorted(missing))}, which the conditions need")
    row = {"rotation": pose(measured)[0].astype(np.float64), "expression": measured["expression"][0].astype(np.float64)}
    if "identity" in measured:
        row["identity"] = measured["identity"].astype(np.float64)
    mesh = measured["neutral"] if "neutral" in measured else default().vertices(measured["identity"])
    return row | {"neutral": mesh.astype(np.float32)}


def conditions(faces: Faces, decay: float = 1.0) -> dict[str, float]:
    """All four as one row of numbers: `together`, `apart`, `frontal` and the summary of `spread`.

    The last only where there are coefficients: `spread/mean` is the root mean square of the dimensions' means,
    `spread/variance` the mean of their variances, `spread/kl` the KL divergence from N(0, 1), inf if one never varies.
    """
    row = together(faces.neutral, faces.person) | apart(faces.neutral, faces.person)
    row |= frontal(faces.neutral, faces.person, faces.rotation, faces.expression, decay)
    if faces.identity is not None:
        mean, variance = spread(faces.identity)
        row["spread/mean"] = float(np.sqrt(np.mean(mean**2)))
        row["spread/variance"] = float(variance.mean())
        dead = variance.min() <= 0
        row["spread/kl"] = np.inf if dead else float(0.5 * (mean**2 + variance - 1 - np.log(variance)).sum())
    return row


# ── the four ───────────────────────────────────────────────────────────────────────────────────────────────


def together(neutral: Float[np.ndarray, "N V 3"], person: Int[np.ndarray, " _"]) -> dict[str, float]:
    """RMS distance in mm, √(1/V Σ_v |x_v − y_v|²), of meshes of one person, over all pairs: its mean and 95 % quantile.

    And the RMS distance from the person's own mean mesh, over the photos: mean and largest. Raises ValueError when no
    person has two photos.
    """
    distances, same = _pairs(neutral, person)
    if not same.any():
        raise ValueError("no person has two photos, so nothing can be said of photos of one person")
    flat = neutral.reshape(len(neutral), -1).astype(np.float64)
    from_mean = np.concatenate([
        np.sqrt(((flat[person == who] - flat[person == who].mean(0)) ** 2).sum(1) / neutral.shape[1])
        for who in _with_several(person)
    ])  # fmt: skip
    return {
        "together/mm": float(distances[same].mean()),
        "together/mm_95": float(np.quantile(distances[same], 0.95)),
        "together/from_mean_mm": float(from_mean.mean()),
        "together/farthest_from_mean_mm": float(from_mean.max()),
    }


def apart(neutral: Float[np.ndarray, "N V 3"], person: Int[np.ndarray, " _"]) -> dict[str, float]:
    """RMS distance in mm of meshes of different people: mean and 5 % quantile; and how well it tells people apart.

    `apart/auc` is the share of (same, different) pairs of pairs in which the different people are farther apart;
    `apart/ratio` the mean distance of different people over that of one person, where there are pairs of both kinds.
    Raises ValueError when all photos show one person.
    """
    distances, same = _pairs(neutral, person)
    if same.all():
        raise ValueError("all photos show one person, so nothing can be said of different people")
    far = distances[~same]
    row = {"apart/mm": float(far.mean()), "apart/mm_05": float(np.quantile(far, 0.05))}
    if same.any():
        row["apart/ratio"] = float(far.mean() / max(distances[same].mean(), 1e-12))
        row["apart/auc"] = area_under_curve(-distances, same)
    return row


def frontal(
    neutral: Float[np.ndarray, "N V 3"],
    person: Int[np.ndarray, " N"],
    rotation: Float[np.ndarray, "N 3 3"],
    expression: Float[np.ndarray, "N E"],
    decay: float = 1.0,
) -> dict[str, float]:
    """RMS distance in mm of each person's most neutral and frontal mesh from the mean of that person's other meshes.

    That photo has the greatest f = ⅛ (cos a + 1)(cos b + 1)(cos c + 1) exp(−decay ‖expression‖₂) (eq. 19). `/chance` is
    the same for any of the person's photos in its place (their mean), `/ratio` their quotient: below 1 the person's
    meshes gather around the neutral frontal one. Raises ValueError when no person has two photos.
    """
    several = _with_several(person)
    if not len(several):
        raise ValueError("no person has two photos, so nothing can be said of photos of one person")
    f = facing(rotation, expression, decay)
    flat = neutral.reshape(len(neutral), -1).astype(np.float64)
    best, chance = [], []
    for who in several:
        mine, order = flat[person == who], f[person == who]
        others = (mine.sum(0) - mine) / (len(mine) - 1)
        far = np.sqrt(((mine - others) ** 2).sum(1) / neutral.shape[1])
        best.append(far[order.argmax()])
        chance.append(far.mean())
    row = {"frontal/mm": float(np.mean(best)), "frontal/chance_mm": float(np.mean(chance))}
    return row | {"frontal/ratio": row["frontal/mm"] / max(row["frontal/chance_mm"], 1e-12)}


def facing(
    rotation: Float[np.ndarray, "N 3 3"], expression: Float[np.ndarray, "N E"], decay: float = 1.0
) -> Float[np.ndarray, " N"]:
    """f of eq. 19: 1 for a neutral face that looks straight into the camera."""
    turned = np.stack([np.cos(angle) + 1 for angle in euler_from_rotation(rotation)]).prod(0) / 8
    return turned * np.exp(-decay * np.linalg.norm(expression, axis=1))


def spread(
    identity: Float[np.ndarray, "N S"], person: Int[np.ndarray, " N"] | None = None
) -> tuple[Float[np.ndarray, " S"], Float[np.ndarray, " S"]]:
    """(mean, variance) of each identity coefficient, σ; the model says 0 and 1. With `person`, of the people's means.

    The variance has the divisor N. Raises ValueError for fewer than two rows.
    """
    rows = identity.astype(np.float64)
    if person is not None:
        rows = np.stack([rows[person == who].mean(0) for who in np.unique(person)])
    if len(rows) < 2:
        raise ValueError("a variance needs at least two photos (or people), but one was given")
    return rows.mean(0), rows.var(0)


def orthogonality(model: MorphableModel, region: str = "") -> dict[str, float]:
    """How far distances of coefficients are those of meshes, on the whole model or on one of its regions.

    `largest_cosine`: the largest |b_i · b_j| / (|b_i| |b_j|) of two different identity modes; 0 for orthogonal ones.
    `distortion`: the largest relative error of ‖Σ_i z_i b_i‖ if the modes are taken for orthogonal ones of their
    lengths, over all z. Raises ValueError for a region that the model has not.
    """
    if region and region not in model.regions:
        raise ValueError(f"{model.name} has no region {region!r}; there are: {', '.join(sorted(model.regions))}")
    inside = model.regions[region] if region else np.ones(model.n_vertices, bool)
    modes = model.identity_basis[inside].reshape(-1, model.n_identity).astype(np.float64)
    cosines = (modes / np.linalg.norm(modes, axis=0)).T @ (modes / np.linalg.norm(modes, axis=0))
    stretch = np.sqrt(np.clip(np.linalg.eigvalsh(cosines), 0, None))
    largest = float(np.abs(cosines - np.eye(len(cosines))).max())
    return {"largest_cosine": largest, "distortion": float(np.abs(stretch - 1).max())}


# ── pictures ───────────────────────────────────────────────────────────────────────────────────────────────


def plot_spread(path: Path, identities: dict[str, Float[np.ndarray, "N S"]], title: str = "") -> None:
    """Mean (dots) and variance (bars, logarithmic) of each coefficient, one colour per system; PNG, by matplotlib.

    The model's own 0 and 1 are the dashed lines.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE, dpi=DOTS_PER_INCH, layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True)
    upper.set_title(title, fontsize=9)
    for axes, level, label in ((upper, 0, "mean, σ"), (lower, 1, "variance, σ²")):
        axes.axhline(level, color="grey", linestyle="--", linewidth=1)
        axes.set_ylabel(label)
        axes.grid(alpha=0.3)
    for name, identity in identities.items():
        mean, variance = spread(identity)
        number = np.arange(1, len(mean) + 1)
        upper.plot(number, mean, ".", label=name)
        lower.plot(number, np.maximum(variance, 1e-6), ".-", linewidth=0.8, label=name)
    lower.set(xlabel="identity coefficient", yscale="log")
    lower.legend(fontsize=8)
    _write(figure, path)


def _write(figure: Any, path: Path) -> None:
    from io import BytesIO

    buffer = BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    write_file(path, buffer.getvalue())


# ── inside ─────────────────────────────────────────────────────────────────────────────────────────────────


def _with_several(person: Int[np.ndarray, " N"]) -> np.ndarray:
    who, count = np.unique(person, return_counts=True)
    return who[count > 1]


def _pairs(
    neutral: Float[np.ndarray, "N V 3"], person: Int[np.ndarray, " _"]
) -> tuple[Float[np.ndarray, " P"], Bool[np.ndarray, " P"]]:
    """RMS distance, mm, of every two meshes, and whether they are of one person."""
    if len(neutral) != len(person):
        raise ValueError(f"there are {len(neutral)} meshes and {len(person)} persons; give one for each")
    if len(neutral) < 2:
        raise ValueError("distances need at least two meshes")
    from scipy.spatial.distance import pdist

    distances = pdist(neutral.reshape(len(neutral), -1).astype(np.float64)) / np.sqrt(neutral.shape[1])
    # lengths that must agree are called `_` above: callers get a sentence
    first, second = np.triu_indices(len(neutral), 1)
    return distances, person[first] == person[second]
