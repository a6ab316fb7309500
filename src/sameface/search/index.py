"""An index of people on the disk, and who in it is nearest to somebody, by the shape of the face or by its code.

    index = Index.build("people.index", "faces")       # what `sameface bulk` wrote, saved results, folders of photos
    index.search("anna.jpg").hits[0].person

By shape: the distance of `verify`, in mm. `places` turns it into a Euclidean one within a thousandth, so that people
are found without meshes; whoever may be among the nearest is then compared as `verify` compares. By code: 1 - cosine of
what the packaged recogniser says of the photos (`Observation.code`). Up to 100,000 people every one is looked at; of
more, those in the nearest cells of `approximate.py`, if there are cells.
"""

import os
from collections import Counter
from collections.abc import Callable, Sequence
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
from sameface.search.hits import Hit, Hits
from sameface.search.people import Problem, code_of, is_bulk, one_of_bulk, pieces
from sameface.search.places import SLACK, places
from sameface.search.store import ABOUT, PART, People, Store, writing
from sameface.verification.calibration import FARS, decided, probability, uncalibrated, warning
from sameface.verification.sides import Person, read_side

__all__ = ["Added", "Index"]

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


@dataclass(frozen=True)
class Asked:
    """Somebody to find."""

    name: str
    identity: Float[np.ndarray, " S"]
    code: Float[np.ndarray, " C"]
    """zeros: none"""
    photos: int
    sha256: str | None
    dropped: tuple[tuple[str, str, str], ...] = ()
    notes: tuple[str, ...] = ()
    row: int | None = None
    """of themselves, where they are asked for out of this index"""


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
        if not (Path(folder) / ABOUT).exists():
            about = {
                "predictor": networks_name(predictor), "networks_sha256": networks_sha256(predictor),
                "fingerprint": fingerprint_of(predictor), "model": default().name,
            }  # fmt: skip
            with writing(Path(folder)):
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
        kill goes on; with another face they are told as a problem. What is in memory is written when it is PART people,
        and photos are measured in one process, 32 people at a time: thousands of them are for `sameface bulk` first.
        `tick` is called with the number of people so far.
        """
        out = self.added = Added()
        with writing(self.folder):
            self.store = Store.open(self.folder, check=False)  # as others left it
            known = {name: row for row, name in enumerate(self._names())}
            held: list[People] = []
            for source in sources:
                for piece in pieces(
                    os.fspath(source), self.store.about, known, each=each, predictor=self.predictor, min_score=min_score
                ):
                    out.told(piece.problems)
                    people = self._unknown(piece.people, known, held, out)
                    held += [people] if len(people) else []
                    if len(people) and tick is not None:
                        tick(out.new)
                    if sum(map(len, held)) >= PART or (held and not is_bulk(Path(source))):
                        self.store.add(People.joined(held))
                        held = []
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
        asked = self._asked(given, min_score)
        if by == "code" and not asked.code.any():
            raise ValueError(f"{asked.name} has no code: saved results hold none. Give the photos, or search by shape")
        rows, approximate, compared = self._candidates(asked, by, count)
        hits, notes = self._exact(asked, rows, by, count, far, compared)
        if approximate:
            notes.append("of so many people only those in the nearest cells were looked at: somebody may be missing")
        elif compared >= TELL:
            notes.append(
                "everybody was looked at; with `pip install 'sameface[search]'`, `sameface index` makes it fast"
            )
        if without := len(self) - compared - (asked.row is not None):
            notes.append(f"{without} of the people in the index have no code, and were not compared")
        return Hits(asked.name, by, compared, approximate, tuple(hits), asked.dropped, (*notes, *asked.notes))

    # ── inside ─────────────────────────────────────────────────────────────────────────────────────────────

    def _names(self) -> list[str]:
        return [name for part in self.store.parts for name in part.people[0]]

    def _unknown(self, people: People, known: dict[str, int], held: list[People], out: Added) -> People:
        """Those who are not there yet, whom `known` then has too."""
        taken, first = [], self.store.count + sum(map(len, held))
        pending = [(one, k) for one in held for k in range(len(one))]
        for k, name in enumerate(people.person):
            if name not in known:
                known[name] = first + len(taken)
                taken.append(k)
                continue
            row = known[name]
            if row < self.store.count:
                there = self._arrays(np.array([row]), "identities")[0]
            elif row < first:
                one, place = pending[row - self.store.count]
                there = one.identity[place]
            else:
                there = people.identity[taken[row - first]]
            if np.array_equal(there, people.identity[k].astype(np.float32)):
                out.known += 1
            else:
                message = f"{name} is in the index with another face; if they are two people, name them apart"
                out.told([(name, "OtherFace", message)])
        out.new += len(taken)
        return people.rows(taken)

    def _make_cells(self) -> None:
        if self.store.count < FROM or (self.store.nearby or {}).get("people") == self.store.count:
            return
        try:
            self.store.nearby = extended(self.store)
        except ImportError:
            return  # every search says what to install
        self.store.commit()
        self._nearby = Nearby(self.store)

    def _asked(self, given: Sequence[Person], min_score: float) -> Asked:
        if not given:
            raise ValueError("give somebody to find: photos of one person, a saved result, or FOLDER:PERSON")
        one = given[0]
        if len(given) == 1 and isinstance(one, str) and ":" in one and not os.path.exists(one):
            for k in (k for k, letter in enumerate(one) if letter == ":"):
                folder = Path(one[:k])
                if is_bulk(folder):
                    row = one_of_bulk(folder, one[k + 1 :], self.store.about)
                    photos = int(row.photos[0])
                    return Asked(one, row.identity[0], row.code[0], photos, self.store.about["networks_sha256"])
                if (folder / ABOUT).is_file():
                    return self._of_index(one, folder, one[k + 1 :])
        side = read_side(one if len(given) == 1 else [path for path in given], self.predictor, min_score)  # type: ignore
        if side.identity is None or side.photos is None:
            raise BadData(f"{side.name} is a mesh without an identity; give photos, a result.json or a face.npz")
        if side.predictor != self.store.about["predictor"]:
            made = side.predictor or "networks that it does not name"
            raise BadData(f"{side.name} was made by {made}, the index by {self.store.about['predictor']}: make it anew")
        return Asked(side.name, side.identity, code_of(side), side.photos, side.sha256, side.dropped, side.notes)

    def _of_index(self, name: str, folder: Path, person: str) -> Asked:
        other = self if os.path.samefile(folder, self.folder) else Index(folder, predictor=self.predictor)
        first = 0
        for part in other.store.parts:
            names, _, photos = part.people
            if person in names:
                k = names.index(person)
                identity, code = (np.array(part.arrays[kind][k], np.float32) for kind in ("identities", "codes"))
                row = first + k if other is self else None
                return Asked(name, identity, code, photos[k], other.store.about["networks_sha256"], row=row)
            first += part.count
        raise BadData(f"{folder} has no person {person!r}: names are those of the folders or rows that it was made of")

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
            apart = float(1 - code @ _unit(other)) if code.any() and other.any() else None
            part = int(np.searchsorted(self.store.begins, row, side="right")) - 1
            person, source, photos = (one[row - self.store.begins[part]] for one in self.store.parts[part].people)
            hits.append(Hit(person, source, photos, memory[key], apart, None, None, None))
        nearest = sorted(hits, key=lambda one: (_key(one, by), one.person, one.source))[:count]
        if why:
            return nearest, [f"no probability: {why}"]
        judged = [_judged(one, asked.photos, among, far) for one in nearest]
        notes = [warning([asked.photos, nearest[0].photos])] if nearest else []
        notes.append(
            f"at this error rate about {among * far:,.0f} of {among:,} strangers are called same. Probabilities begin "
            "at even odds; “among all” begins with each of them as likely as another"
        )
        return judged, notes


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
