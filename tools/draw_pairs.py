"""Draw the list of the open verification benchmark, benchmarks/pairs.txt: `python tools/draw_pairs.py TABLE`.

Needs the face table. Drawn once; run again only for another table, since another list gives other numbers. Per source
(half of the pairs): same pairs in rounds over the persons, different pairs in rounds over the pairs of persons, so that
nobody with many photos dominates; none twice; none whose teacher embeddings are closer than 0.95, which are all but the
same photo.
"""

import sys
from collections import Counter
from collections.abc import Sequence
from itertools import combinations, product
from pathlib import Path

import numpy as np

from sameface.evaluation.benchmarks.pairs import LIST, fingerprint, table_rows

FOLDS, EACH = 10, 300
SAME_PHOTO = 0.95


def rounds(groups: Sequence[list[tuple[int, int]]], count: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    """One pair of every group that has some left, then another of each … until there are `count`."""
    queues = [[group[k] for k in rng.permutation(len(group))] for group in groups]
    drawn: list[tuple[int, int]] = []
    while len(drawn) < count:
        if not any(queues):
            raise SystemExit(f"only {len(drawn)} of {count} pairs are there")
        drawn += [queues[k].pop() for k in rng.permutation(len(queues)) if queues[k]]
    return drawn[:count]


def main(table: Path) -> None:
    rows, rng = table_rows(table), np.random.default_rng(0)
    codes = np.array([row["embedding"] for row in rows], np.float64)
    codes /= np.linalg.norm(codes, axis=1, keepdims=True)
    sources = sorted({row["source"] for row in rows})
    same, different = [], []
    for source in sources:
        photos: dict[str, list[int]] = {}
        for k, row in enumerate(rows):
            if row["source"] == source:
                photos.setdefault(row["person"], []).append(k)

        def new(pairs):
            return [(i, j) for i, j in pairs if codes[i] @ codes[j] < SAME_PHOTO]

        share = FOLDS * EACH // len(sources)
        same.append(rounds([new(combinations(mine, 2)) for mine in photos.values()], share, rng))
        strangers = [new(product(a, b)) for a, b in combinations(photos.values(), 2)]
        different.append(rounds(strangers, share, rng))
    lines = [f"{FOLDS} {EACH} {fingerprint(rows)}"]
    for fold in range(FOLDS):  # every tenth pair: each fold has some of every round, of every source
        for kind in (same, different):
            lines += [f"{i} {j}" for source in kind for i, j in source[fold::FOLDS]]
    LIST.write_text("\n".join(lines) + "\n")
    for name, kind in (("same", same), ("different", different)):
        used = Counter(k for source in kind for pair in source for k in pair)
        persons = Counter(rows[i]["person"] for source in kind for i, _ in source)
        print(name, "photos", len(used), "most of one photo", max(used.values()), "persons", len(persons))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
