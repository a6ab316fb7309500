"""Open pairs: 6,000 pairs of photos of the face table's test people, for everybody who has the table.

Of the form of LFW: 10 folds of 300 + 300 pairs, from 1,275 photos of 36 people that no training run of this project
sees. Half of each kind of pair is of each of the two sources, and different people are always of one source, so that
what a source looks like gives nothing away. With so few people, folds share them (LFW's do not): only the threshold is
learnt from other folds. Some persons are mislabelled in the table, so 100 % is out of reach; pairs of all but identical
photos were left out. The list is pairs.txt beside this file, drawn once by tools/draw_pairs.py: photos as positions in
the sorted (person, name) of the table's test rows that have a person, and the SHA-256 of those names.

Numbers: percent; the threshold of each fold comes from the other nine; accuracy is the mean over the folds, ± np.std.
Pairs with a photo that the system failed on stay in (option `missing`) and are counted as `failed_pairs`.

Layout: the folder that `python -m sameface.evaluation.benchmarks.pairs TABLE FOLDER` writes from the table's .parquet
files, as LFW's is: FOLDER/pairs.txt (names), FOLDER/photos/<person>/<person>_0001.webp (the crops, 160 px, as they
are).

Licence: the crops are of CelebA and PINS, for research only; keep FOLDER outside of anything you publish.
"""

import hashlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sameface.core.errors import AssetMissing, BadData
from sameface.core.files import names_in, write_file
from sameface.core.tables import read_table
from sameface.evaluation.benchmarks import _pair_lists as pair_lists
from sameface.evaluation.benchmarks import _verification as verification
from sameface.evaluation.case import Case, Published

__all__ = [
    "Options", "asks", "cases", "curves", "fingerprint", "main", "prepare", "published", "sample", "score", "summary",
    "table_rows", "truth",
]  # fmt: skip

LIST = Path(__file__).with_name("pairs.txt")
CROP_MARGIN = 1.5
"""side of a crop / larger side of the landmarks' box in it"""


asks = verification.ASKS


@dataclass(frozen=True)
class Options(verification.PairOptions):
    """Choices of the protocol."""

    face: Literal["centre", "found"] = "centre"
    """centre: the person meant fills the middle of the crop (1 / 1.5 of its side); found: the system must choose"""


published: tuple[Published, ...] = ()


def cases(root: Path, options: Options) -> list[Case]:
    """One case per distinct photo of the pairs, named <person>/<person>_0001.webp. Raises BadData."""
    if not (root / "pairs.txt").is_file():
        raise BadData(
            f"{root} has no pairs.txt; write the folder with: python -m sameface.evaluation.benchmarks.pairs TABLE "
            "FOLDER (TABLE: the folder of the face table's .parquet files)"
        )
    pairs = pair_lists.read_lfw_pairs(root / "pairs.txt", ".webp")
    share = 1 / CROP_MARGIN if options.face == "centre" else None
    return pair_lists.cases_of(pairs, pair_lists.lfw_questions(pairs, root / "photos", share))


def prepare(table: Path, folder: Path) -> None:
    """Write the photos and the list of pairs from the .parquet files in `table`.

    Raises BadData when the table is not the one the list was drawn from, BadOutput when `folder` cannot be written.
    """
    rows = table_rows(table)
    if not LIST.is_file():
        raise AssetMissing(f"{LIST} is not there; it is part of the package: install sameface again")
    lines = pair_lists.read_lines(LIST)
    header = lines[0].split()
    if header[2] != fingerprint(rows):
        raise BadData(
            f"{table} has other test people ({len(rows)} photos) than the table that the pairs were drawn from; "
            "numbers would not be comparable"
        )
    names = _numbered(rows)
    for (person, number), row in zip(names, rows, strict=True):
        photo = folder / "photos" / person / f"{person}_{number:04d}.webp"
        photo.parent.mkdir(parents=True, exist_ok=True)
        write_file(photo, row["image"])
    text = [f"{header[0]}\t{header[1]}"]
    for line in lines[1:]:
        (first, i), (second, j) = (names[int(word)] for word in line.split())
        text.append(f"{first}\t{i}\t{j}" if first == second else f"{first}\t{i}\t{second}\t{j}")
    write_file(folder / "pairs.txt", ("\n".join(text) + "\n").encode())


COLUMNS = dict.fromkeys(("person", "name", "source", "split"), "text") | {"image": "bytes", "embedding": "list"}


def table_rows(table: Path) -> list[dict[str, Any]]:
    """The test rows that have a person, sorted by (person, name): person, name, source, image, embedding."""
    import pyarrow.compute as pc

    rows = []
    for file in (table / name for name in names_in(table, ".parquet")):
        columns = ["person", "name", "source", "image", "embedding"]
        found = read_table(file, COLUMNS, "the face table")
        rows += found.filter(pc.equal(found["split"], "test")).select(columns).to_pylist()  # pyright: ignore[reportAttributeAccessIssue]
    rows = [row for row in rows if row["person"]]
    if not rows:
        raise BadData(f"{table} has no .parquet files with test photos of known persons; give the face table's folder")
    return sorted(rows, key=lambda row: (row["person"], row["name"]))


def fingerprint(rows: Sequence[dict[str, Any]]) -> str:
    """SHA-256 of the names of the photos, in order."""
    return hashlib.sha256("\n".join(row["name"] for row in rows).encode()).hexdigest()


def _numbered(rows: Sequence[dict[str, Any]]) -> list[tuple[str, int]]:
    """(person, number from 1) of each row, the person as a folder may be called."""
    found: list[tuple[str, int]] = []
    for row in rows:
        person = "".join(letter if letter.isalnum() else "_" for letter in row["person"])
        found.append((person, found[-1][1] + 1 if found and found[-1][0] == person else 1))
    return found


score = verification.score
summary = verification.summary
curves = verification.curves
truth = verification.truth


def sample(root: Path) -> None:
    """Two persons with five photos of noise each; ten folds of one pair of either kind."""
    pair_lists.sample_lfw(root, "photos", ("celeba_1", "pins_2"), ".webp", 160)


def main() -> None:
    """The command that writes the folder."""
    if len(sys.argv) != 3:
        sys.exit("usage: python -m sameface.evaluation.benchmarks.pairs TABLE FOLDER")
    prepare(Path(sys.argv[1]), Path(sys.argv[2]))


if __name__ == "__main__":
    main()
