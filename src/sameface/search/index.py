"""An index of people on the disk, and who in it is nearest to somebody, by the shape of the face or by its code.

    index = Index.build("people.index", "faces")       # what `sameface bulk` wrote, saved results, folders of photos
    index.search("anna.jpg").hits[0].person

By shape: the distance of `verify`, in mm. `places` turns it into a Euclidean one within a thousandth, so that people
are found without meshes; whoever may be among the nearest is then compared as `verify` compares. By code: 1 - cosine of
what the packaged recogniser says of the photos (`Observation.code`). Up to 100,000 people every one is looked at; of
more, those in the nearest cells of `approximate.py`, if there are cells.
"""

import hashlib
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from sameface.bulk.bulk import fingerprint_of
from sameface.core.errors import BadData
from sameface.morphable import default
from sameface.photo import MIN_SCORE
from sameface.photo.predictor import networks_name, networks_sha256
from sameface.reconstruction.reconstruct import shape_distance
from sameface.search.approximate import FROM, Nearby, extended
from sameface.search.asked import Asked, asked
from sameface.search.hits import Hit, Hits
from sameface.search.people import Problem, check_source, pieces
from sameface.search.places import SLACK, places
from sameface.search.store import ABOUT, PART, People, Store, writing
from sameface.verification.calibration import FARS, decided, probability, uncalibrated, warning
from sameface.verification.sides import Person

__all__ = ["Added", "Index"]

SECONDS = 60.0
"""after which new people are written"""
FIRST = 20
"""problems that are kept with their words; all are counted"""
SHORTLIST, AND = 20, 200
"""people that cells are asked for: times those that are wanted, and at least so many"""
NEAR_MM, NEAR_CODE = 1e-3, 1e-5
"""how far rounding may shift the order before it is made exact: mm, and 1 - cosine"""
AT_ONCE = 2048
"""people that are compared at a time"""
TELL = 1_000_000
"""people from which on looking at each takes so long that it is said"""


@dataclass
class Added:
    """What became of the people of some sources."""

    new: int = 0
    known: int = 0
    """the same name with the same face was there"""
    errors: Counter[str] = field(default_factory=Counter)
    """kind of problem → people that were not taken"""
    problems: list[Problem] = field(default_factory=list)
    """(person, kind, message) of the first 20 of these"""

    def told(self, some: Sequence[Problem]) -> None:
        """Count problems, and keep the first."""
        self.errors.update(kind for _, kind, _ in some)
        self.problems += some[: max(0, FIRST - len(self.problems))]


class Index:
    """People in a folder, to be found again by who looks like them (docs/search.md)."""

    def __init__(self, folder: str | os.PathLike[str], *, predictor: str = "default", check: bool = True):
        """Open an index; `check` reads every file once, for its checksum.

        Raises BadData for what is no index or damaged, and for one that other networks than `predictor` and the
        packaged ones made.
        """
        self.folder, self.predictor = Path(folder), predictor
        self.store = Store.open(self.folder, check=check)
        made, ours = self.store.about["networks_sha256"], networks_sha256(predictor)
        if made != ours:
            raise BadData(
                f"{folder} was made by {self.store.about['predictor']} (SHA-256 {made[:12]}), but the networks here "
                f"are {networks_name(predictor)} ({ours[:12]}): give its --predictor, or make the index anew"
            )
        self._nearby = Nearby(self.store) if self.store.nearby else None

    @classmethod
    def build(
        cls,
        folder: str | os.PathLike[str],
        *sources: str | os.PathLike[str],
        each: bool = False,
        predictor: str = "default",
        min_score: float = MIN_SCORE,
    ) -> "Index":
        """An index of the people in `sources`, appended to what is in the folder; how `add` went is in its `added`."""
        for source in sources:
            check_source(os.fspath(source), Path(folder))
        if not (Path(folder) / ABOUT).exists():
            about = {
                "predictor": networks_name(predictor), "networks_sha256": networks_sha256(predictor),
                "fingerprint": fingerprint_of(predictor), "model": default().name,
            }  # fmt: skip
            Store.create(Path(folder), about)
        index = cls(folder, predictor=predictor)
        index.add(*sources, each=each, min_score=min_score)
        return index

    added: Added | None = None
    """of the last call of `add`"""

    def __len__(self) -> int:
        return self.store.count

    def add(
        self,
        *sources: str | os.PathLike[str],
        each: bool = False,
        min_score: float = MIN_SCORE,
        tick: Callable[[int], None] | None = None,
    ) -> Added:
        """Take in the people of sources: folders of `sameface bulk`, saved results, folders or a list of photos.

        Whoever is there already under the same name with the same face is passed over, so that the same call after a
        kill goes on; with another face they are told as a problem. What is new is written every minute, so much a kill
        costs. Photos are measured in one process: thousands of them are for `sameface bulk` first.
        `tick` is called with the number of people so far.
        """
        for source in sources:
            check_source(os.fspath(source), self.folder)
        out = self.added = Added()
        with writing(self.folder):
            self.store = Store.open(self.folder, check=False)  # as others left it
            known, held, last = self._known(), list[People](), time.monotonic()
            for source in sources:
                for piece in pieces(
                    os.fspath(source), self.store.about, known, each=each, predictor=self.predictor, min_score=min_score
                ):
                    out.told(piece.problems)
                    people = _unknown(piece.people, known, out)
                    held += [people] if len(people) else []
                    if len(people) and tick is not None:
                        tick(out.new)
                    late = time.monotonic() - last > SECONDS
                    if held and (late or sum(map(len, held)) >= PART):
                        self.store.add(People.joined(held))
                        held, last = [], time.monotonic()
            if held:
                self.store.add(People.joined(held))
            self._make_cells()
        return out

    def search(
        self,
        *given: Person,
        by: str = "shape",
        count: int = 10,
        far: float = 0.1,
        min_score: float = MIN_SCORE,
    ) -> Hits:
        """The `count` people nearest to somebody, by "shape" or by "code", with what `verify` would say of each.

        `given` is what `verify` takes as one side (photos of ONE person, a saved result, a Reconstruction), or
        FOLDER:PERSON for a row of a folder of `sameface bulk` or of an index. Raises as `verify`; ValueError for a
        query that has no code where codes are asked for.
        """
        if by not in ("shape", "code") or count < 1 or not FARS[0] <= far <= FARS[-1]:
            raise ValueError(
                f"by is {by!r}, count {count} and far {far:g}; give shape or code, at least 1, and an error rate from "
                f"{FARS[0]:g} to {FARS[-1]:g}"
            )
        somebody = asked(given, self.store, self.predictor, min_score)
        if by == "code" and not somebody.code.any():
            raise ValueError(
                f"{somebody.name} has no code: saved results hold none. Give the photos, or search by shape"
            )
        rows, approximate, compared = self._candidates(somebody, by, count)
        hits, notes = self._exact(somebody, rows, by, count, far, compared)
        if approximate:
            notes.append("of so many people only those in the nearest cells were looked at: somebody may be missing")
        elif compared >= TELL:
            notes.append(
                "everybody was looked at; with `pip install 'sameface[search]'`, `sameface index` makes it fast"
            )
        if without := len(self) - compared - (somebody.row is not None):
            notes.append(f"{without} of the people in the index have no code, and were not compared")
        return Hits(somebody.name, by, compared, approximate, tuple(hits), somebody.dropped, (*notes, *somebody.notes))

    # ── inside ─────────────────────────────────────────────────────────────────────────────────────────────

    def _known(self) -> dict[str, bytes]:
        """Name → digest of the face of everybody who is there."""
        return {
            name: _digest(face)
            for part in self.store.parts
            for name, face in zip(part.people[0], part.arrays["identities"], strict=True)
        }

    def _make_cells(self) -> None:
        """Take everybody into the cells, from 100,000 people on; without faiss, every search says what to install."""
        if self.store.count >= FROM and (self.store.nearby or {}).get("people") != self.store.count:
            with suppress(ImportError):
                self.store.nearby = extended(self.store)
                self.store.commit()
        self._nearby = Nearby(self.store) if self.store.nearby else None

    def _arrays(self, rows: Int[np.ndarray, " K"], kind: str) -> Float[np.ndarray, "K D"]:
        part = np.searchsorted(self.store.begins, rows, side="right") - 1
        each = [self.store.parts[p].arrays[kind][r - self.store.begins[p]] for p, r in zip(part, rows, strict=True)]
        return np.array(each, np.float32)

    def _candidates(self, asked: Asked, by: str, count: int) -> tuple[Int[np.ndarray, " K"], bool, int]:
        """Rows among which the nearest are, whether some may be missing, and how many people could be compared."""
        query, array = (places(asked.identity[None])[0], "places") if by == "shape" else (_unit(asked.code), "codes")
        cells = self._nearby if self._nearby is not None and by in self._nearby.cells else None
        begin = 0 if cells is None else int(cells.about["people"])
        rows, distance = np.arange(begin, self.store.count), self._distances(query, array, begin)
        compared = int(np.isfinite(distance).sum())
        if cells is not None:
            near = cells.rows(by, query, max(SHORTLIST * count, AND))
            rows = np.concatenate([near, rows])
            distance = np.concatenate([_apart(self._arrays(near, array), query, array), distance])
            compared += int(cells.cells[by].ntotal)
        others = np.isfinite(distance) & (rows != asked.row)
        compared -= int(asked.row is not None and (by == "shape" or bool(asked.code.any())))
        rows, distance = rows[others], distance[others]
        if len(rows) > count:
            last = np.partition(distance, count - 1)[count - 1]
            most = last * (1 + SLACK) / (1 - SLACK) + NEAR_MM if by == "shape" else last + NEAR_CODE
            rows = rows[distance <= most]
        return rows, cells is not None, compared

    def _distances(self, query: Float[np.ndarray, " D"], array: str, begin: int) -> Float[np.ndarray, " N"]:
        """Of everybody from row `begin` on; infinite for those who cannot be compared."""
        out = [np.zeros(0, np.float32)]
        for first, part in zip(self.store.begins, self.store.parts, strict=True):
            for k in range(max(0, begin - int(first)), part.count, AT_ONCE):
                some = slice(k, k + AT_ONCE)
                apart = _apart(part.arrays[array][some], query, array)
                out.append(np.where(part.coded[some], apart, np.inf) if array == "codes" else apart)
        return np.concatenate(out)

    def _exact(
        self, asked: Asked, rows: Int[np.ndarray, " K"], by: str, count: int, far: float, among: int
    ) -> tuple[list[Hit], list[str]]:
        """The hits, the nearest first, compared as `verify` compares; and what is to be said of them."""
        if not len(rows):
            return [], ["there is nobody in the index to compare with"]
        model, about, memory = default(), self.store.about, dict[bytes, float]()
        why = uncalibrated(asked.name, about["predictor"], asked.sha256)
        why = why or uncalibrated(str(self.folder), about["predictor"], about["networks_sha256"])
        own, code, hits = model.vertices(asked.identity), _unit(asked.code.astype(np.float64)), []
        identities, codes = self._arrays(rows, "identities"), self._arrays(rows, "codes").astype(np.float64)
        if not np.isfinite(identities).all():
            raise BadData(f"{self.folder} has identities that are not finite numbers: make the index anew")
        for row, identity, other in zip(rows, identities, codes, strict=True):
            if (key := identity.tobytes()) not in memory:  # copies of one face are compared once
                memory[key] = shape_distance(own, model.vertices(identity), model)
            apart = max(0.0, float(1 - code @ _unit(other))) if code.any() and other.any() else None
            part = int(np.searchsorted(self.store.begins, row, side="right")) - 1
            person, source, photos = (one[row - self.store.begins[part]] for one in self.store.parts[part].people)
            hits.append(Hit(person, source, photos, memory[key], apart, None, None, None))
        nearest = sorted(hits, key=lambda one: (_key(one, by), one.person, one.source))[:count]
        if why:
            return nearest, [f"no probability: {why}"]
        judged = [_judged(one, asked.photos, among, far) for one in nearest]
        notes = [warning([asked.photos, nearest[0].photos])]
        notes.append(
            "probabilities begin at even odds; “among all” begins with everybody in the index as likely as another"
        )
        if among * far >= 1:
            notes.append(f"at this error rate about {among * far:,.0f} of {among:,} strangers are called same")
        return judged, notes


def _unknown(people: People, known: dict[str, bytes], out: Added) -> People:
    """Those who are not there yet, whom `known` then has too."""
    taken = []
    for k, (name, face) in enumerate(zip(people.person, people.identity, strict=True)):
        digest = _digest(face)
        if name not in known:
            known[name] = digest
            taken.append(k)
        elif known[name] == digest:
            out.known += 1
        else:
            message = f"{name} is in the index with another face; if they are two people, name them apart"
            out.told([(name, "OtherFace", message)])
    out.new += len(taken)
    return people.rows(taken)


def _digest(identity: np.ndarray) -> bytes:
    return hashlib.blake2b(identity.astype("<f4").tobytes(), digest_size=8).digest()


def _judged(hit: Hit, photos: int, among: int, far: float) -> Hit:
    """The hit with what `verify` says of such a distance."""
    chance = probability(hit.distance_mm, photos, hit.photos)
    same = decided(hit.distance_mm, (photos, hit.photos), chance, far)
    return replace(
        hit, probability=chance, probability_among=chance / (chance + (1 - chance) * max(1, among - 1)), same=same
    )


def _key(hit: Hit, by: str) -> float:
    return hit.distance_mm if by == "shape" or hit.code_distance is None else round(hit.code_distance, 6)


def _apart(rows: Float[np.ndarray, "N D"], query: Float[np.ndarray, " D"], array: str) -> Float[np.ndarray, " N"]:
    """mm, or 1 - cosine."""
    if array == "codes":
        return 1 - rows @ query.astype(np.float32)
    apart = rows - query
    return np.sqrt(np.einsum("nd,nd->n", apart, apart))


def _unit(code: Float[np.ndarray, " C"]) -> Float[np.ndarray, " C"]:
    length = np.linalg.norm(code)
    return code / length if length > 0 else code
