"""Two people → the same person or not, by the shape of their faces, in millimetres.

Each side is a photo, several photos or a folder of photos (reconstructed as ONE person), a saved result, or a mesh of
any network. The distance d is the RMS over the face between the two neutral meshes after the best rigid motion. With
n_A and n_B photos (at most 16 count) and u = ln(1/n_A + 1/n_B), the probability that it is one person is

    1 / (1 + exp(-(w_0 + w_1 ln d + w_2 u + w_3 u ln d + w_4 u²))),

fitted by logistic regression on people of the val split (studies/calibrate_verification.py), same and different being
equally likely beforehand. It belongs to the networks that ship, so others get a distance and no probability. From one
photo it is often wrong: docs/verify.md has the numbers. Nobody should be identified by it.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sameface.core.errors import BadData
from sameface.core.files import write_file
from sameface.core.geometry import align
from sameface.metrics.verification import mesh_distance
from sameface.morphable import default
from sameface.photo import MIN_SCORE
from sameface.reconstruction.copies import same_pictures
from sameface.reconstruction.reconstruct import shape_distance
from sameface.verification.calibration import FARS, decided, packaged, percent, probability, uncalibrated, warning
from sameface.verification.sides import Person, Side, read_side

__all__ = ["Verdict", "check_far", "compare", "read_sides", "verify"]


@dataclass(frozen=True)
class Verdict:
    """What the shapes of two faces say."""

    distance_mm: float
    """RMS over the face after the best rigid motion, mm of an average head; over all vertices for foreign meshes"""
    vertex_distance_mm: float
    """mean distance of corresponding vertices, nothing aligned (Liu et al. 2018): for meshes in one frame"""
    probability: float | None
    """that it is one person, if that is as likely as not beforehand; None without a calibration"""
    same: bool | None
    """True or False at the error rate `far`; None where the shapes cannot say"""
    far: float
    """at most about this part of different people is called same, and of same ones different"""
    photos: tuple[int | None, int | None]
    """that counted on each side; None: unknown"""
    disagreement: tuple[float | None, float | None]
    """mm, median over each side's photos; None for a single photo"""
    calibration: str | None
    """its name; None if none belongs to this network"""
    dropped: tuple[tuple[str, str, str], ...] = ()
    """(photo, kind of problem, message) of photos that did not count"""
    notes: tuple[str, ...] = ()

    @property
    def word(self) -> str:
        """same, different or unsure."""
        return {True: "same", False: "different", None: "unsure"}[self.same]

    @property
    def chance(self) -> str:
        """The probability in words."""
        return "unknown" if self.probability is None else percent(self.probability)

    def as_text(self) -> str:
        """The verdict for a terminal, warnings included."""
        counts = " and ".join("?" if n is None else str(n) for n in self.photos)
        apart = [f"{x:.2f} mm" if x is not None else "–" for x in self.disagreement]
        lines = [
            f"{self.word} (at an error rate of {100 * self.far:g} %)",
            f"  distance       {self.distance_mm:.2f} mm RMS over the face after the best rigid motion",
            f"  vertices       {self.vertex_distance_mm:.2f} mm mean distance, nothing aligned",
            f"  probability    {self.chance} that it is one person, if that was as likely as not before",
            f"  photos         {counts}; they disagree by {' and '.join(apart)} (median)",
        ]
        return "\n".join(lines + [f"  note: {note}" for note in self.notes])

    def as_json(self) -> dict[str, Any]:
        """What the file holds; every key is explained in docs/verify.md."""
        return {
            "format": "sameface-verdict",
            "version": 1,
            "verdict": self.word,
            "distance_mm": round(self.distance_mm, 4),
            "vertex_distance_mm": round(self.vertex_distance_mm, 4),
            "probability": None if self.probability is None else round(self.probability, 4),
            "far": self.far,
            "photos": list(self.photos),
            "disagreement_mm": [None if x is None else round(x, 3) for x in self.disagreement],
            "calibration": self.calibration,
            "dropped": [{"photo": p, "problem": kind, "message": text} for p, kind, text in self.dropped],
            "notes": list(self.notes),
        }

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the verdict as .json. Raises BadOutput when it cannot be written."""
        path = Path(path)
        if path.suffix.lower() != ".json":
            raise ValueError(f"{path.name}: a verdict is saved as .json, not {path.suffix!r}")
        write_file(path, (json.dumps(self.as_json(), indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode())
        return path


def verify(
    a: Person, b: Person, *, far: float = 0.1, predictor: str = "default", min_score: float = MIN_SCORE
) -> Verdict:
    """Do A and B show one person? Each is photos (paths), a folder of them, a saved result, a mesh or a Reconstruction.

    `same` is True if at most about `far` of the pairs of different people are so near, False if at most about `far` of
    the pairs of one person are so far apart, and None (unsure) between. Of several faces in a photo the one
    counts that `reconstruct` takes, and in a lone photo the one most like the other side. Raises BadPhoto or
    NoFaceFound, naming the photos, if a side has no usable photo, BadData for a broken saved result and for meshes of
    two topologies, ValueError for a `far` outside 0.01 … 0.5.
    """
    check_far(far)
    return compare(*read_sides(a, b, predictor=predictor, min_score=min_score), far=far)


def check_far(far: float) -> None:
    """Raise ValueError for an error rate that the calibration does not know."""
    if not FARS[0] <= far <= FARS[-1]:
        raise ValueError(f"far is {far:g}; the calibration knows error rates from {FARS[0]:g} to {FARS[-1]:g}")


def read_sides(a: Person, b: Person, *, predictor: str = "default", min_score: float = MIN_SCORE) -> tuple[Side, Side]:
    """Both people, whatever they come from, as `verify` reads them, and with its errors."""
    first, second = (read_side(one, predictor, min_score) for one in (a, b))
    return _decided_by(first, second), _decided_by(second, first)


def compare(first: Side, second: Side, *, far: float = 0.1) -> Verdict:
    """What the shapes of two people say. Raises BadData for meshes of two topologies, ValueError for a bad `far`."""
    check_far(far)
    sides = (first, second)
    if len(first.vertices) != len(second.vertices):
        raise BadData(
            f"{first.name} has {len(first.vertices)} vertices and {second.name} {len(second.vertices)}; give two "
            "meshes of one topology"
        )
    distance, notes = _distance(first.vertices, second.vertices), []
    if shared := _on_both(first, second):
        names = ", ".join(shared[:3])
        notes.append(f"{names} is on both sides: of course that is alike; give other photos on one side")
    known = packaged()
    why = next(filter(None, (uncalibrated(one.name, one.predictor, one.sha256, known) for one in sides)), "")
    chance = same = None
    if why:
        notes.append(f"no probability: {why}")
    else:
        counts = [side.photos or 1 for side in sides]
        chance = probability(distance, counts[0], counts[1], known)
        same = decided(distance, counts, chance, far, known)
        notes.append(warning(counts, known))
    return Verdict(
        distance_mm=distance,
        vertex_distance_mm=mesh_distance(first.vertices, second.vertices),
        probability=chance,
        same=same,
        far=far,
        photos=(first.photos, second.photos),
        disagreement=(first.disagreement, second.disagreement),
        calibration=None if why else known["name"],
        dropped=first.dropped + second.dropped,
        notes=tuple(dict.fromkeys([*notes, *first.notes, *second.notes])),
    )


# ── inside ─────────────────────────────────────────────────────────────────────────────────────────────────


def _distance(first: np.ndarray, second: np.ndarray) -> float:
    """mm RMS after the best rigid motion: over the face of our topology, over all vertices of another."""
    if len(first) == default().n_vertices:
        return shape_distance(first, second, default())
    first, second = first.astype(np.float64), second.astype(np.float64)
    _, rotation, shift = align(first, second, scale=False)
    return float(np.sqrt(((first @ rotation.T + shift - second) ** 2).sum(1).mean()))


def _decided_by(side: Side, other: Side) -> Side:
    """The side, with the face of a lone photo that is most like the other side, where several may be meant."""
    known = other.identity if other.again is None else None
    return side if side.again is None or known is None else side.again(known)


def _on_both(first: Side, second: Side) -> list[str]:
    """The names on the first side of files, and of pictures, that are on the other one too."""
    names = [first.files[key] for key in sorted(first.files.keys() & second.files.keys())]
    if first.seen and second.seen and first.predictor == second.predictor:
        same = [bool(row.any()) for row in same_pictures(first.seen, second.seen)]
        names += [one.photo for one, known in zip(first.seen, same, strict=True) if known]
    return list(dict.fromkeys(names))
