"""What a search found: who is near, how near, and how likely one person; as text, JSON, CSV or Parquet."""

import csv
import json
import os
from dataclasses import asdict, dataclass
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

from sameface.core.files import write_file
from sameface.verification.calibration import percent

__all__ = ["Hit", "Hits", "check_suffix", "save", "text_of"]

SUFFIXES = (".json", ".csv", ".parquet")
FORMAT, VERSION = "sameface-hits", 1


@dataclass(frozen=True)
class Hit:
    """Somebody in the index."""

    person: str
    source: str
    """what they were taken from"""
    photos: int
    """that counted"""
    distance_mm: float
    """what `verify` says: RMS over the face after the best rigid motion, mm of an average head"""
    code_distance: float | None
    """1 - cosine of the codes, 0 to 2; None where one of the two has no code"""
    probability: float | None
    """what `verify` says, from even odds, given the distance in mm; None without a calibration"""
    probability_among: float | None
    """the same if, before, each person of the index was as likely"""
    same: bool | None
    """True or False at the error rate asked for; None where the shapes cannot say"""

    @property
    def word(self) -> str:
        """same, different or unsure."""
        return {True: "same", False: "different", None: "unsure"}[self.same]

    def as_json(self) -> dict[str, Any]:
        """The fields, rounded; `same` as a word."""
        told = asdict(self) | {"verdict": self.word if self.probability is not None else None}
        del told["same"]
        digits = {"distance_mm": 4, "code_distance": 6, "probability": 4, "probability_among": 8}
        return {
            name: round(value, digits[name]) if name in digits and isinstance(value, float) else value
            for name, value in told.items()
        }


@dataclass(frozen=True)
class Hits:
    """The nearest people to one query, the nearest first."""

    query: str
    by: str
    """shape or code: what they are sorted by"""
    people: int
    """in the index that could be compared"""
    approximate: bool
    """whether somebody near may be missing"""
    hits: tuple[Hit, ...]
    dropped: tuple[tuple[str, str, str], ...] = ()
    """(photo, kind of problem, message) of photos that did not count"""
    notes: tuple[str, ...] = ()

    def as_text(self) -> str:
        """A table for a terminal, warnings included."""
        how = ", approximately" if self.approximate else ""
        lines = [f"{self.query}: the {len(self.hits)} nearest of {self.people:,} people by {self.by}{how}"]
        lines += [f"{'':4s}{'mm':>6s}{'code':>7s}{'probability':>13s}{'among all':>11s}  {'verdict':11s}photos  person"]
        for rank, hit in enumerate(self.hits, 1):
            code = "–" if hit.code_distance is None else f"{hit.code_distance:.3f}"
            said = [percent(one) if one is not None else "–" for one in (hit.probability, hit.probability_among)]
            word = hit.word if hit.probability is not None else "–"
            lines.append(
                f"{rank:3d} {hit.distance_mm:6.2f}{code:>7s}{said[0]:>13s}{said[1]:>11s}  {word:11s}{hit.photos:6d}  "
                f"{hit.person}"
            )
        return "\n".join(lines + [f"  note: {note}" for note in self.notes])

    def as_json(self) -> dict[str, Any]:
        """What the file holds; every key is explained in docs/search.md."""
        return {
            "query": self.query,
            "by": self.by,
            "people": self.people,
            "approximate": self.approximate,
            "hits": [hit.as_json() for hit in self.hits],
            "dropped": [{"photo": p, "problem": kind, "message": text} for p, kind, text in self.dropped],
            "notes": list(self.notes),
        }


def text_of(found: list[Hits]) -> str:
    """The JSON of several queries."""
    told = {"format": FORMAT, "version": VERSION, "queries": [one.as_json() for one in found]}
    return json.dumps(told, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def check_suffix(path: Path) -> None:
    """Raise ValueError for a file that hits cannot be written to."""
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"{path.name}: hits are saved as {', '.join(SUFFIXES)}, not {path.suffix!r}")


def save(path: str | os.PathLike[str], found: list[Hits]) -> Path:
    """Write the hits of queries: .json with everything, or a row per hit as .csv or .parquet. Raises BadOutput."""
    path = Path(path)
    check_suffix(path)
    if path.suffix.lower() == ".json":
        write_file(path, text_of(found).encode())
        return path
    about = [{"query": one.query, "by": one.by} for one in found]
    rows = [
        told | {"rank": rank} | hit.as_json()
        for told, one in zip(about, found, strict=True)
        for rank, hit in enumerate(one.hits, 1)
    ]
    write_file(path, _csv(rows) if path.suffix.lower() == ".csv" else _parquet(rows))
    return path


COLUMNS = (
    "query", "by", "rank", "person", "source", "photos", "distance_mm", "code_distance", "probability",
    "probability_among", "verdict",
)  # fmt: skip


def _csv(rows: list[dict[str, Any]]) -> bytes:
    out = StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerows([COLUMNS, *([row[name] for name in COLUMNS] for row in rows)])
    return out.getvalue().encode()


def _parquet(rows: list[dict[str, Any]]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {"rank": pa.int32(), "photos": pa.int32()} | dict.fromkeys(COLUMNS[6:10], pa.float64())
    schema = pa.schema([(name, kinds.get(name, pa.string())) for name in COLUMNS])
    out = BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema), out, compression="zstd")
    return out.getvalue()
