"""Pairs of photos by person: the same one twice, or two different ones."""

import numpy as np
from jaxtyping import Int

from sameface.core.errors import BadData

__all__ = ["Pairs"]


class Pairs:
    """Draws pairs of rows by person; person −1 is a stranger who appears once."""

    def __init__(self, person: Int[np.ndarray, " N"]):
        self.person = person
        rows = np.argsort(person, kind="stable")
        self.groups: dict[int, np.ndarray] = {
            int(person[group[0]]): group
            for group in np.split(rows, np.flatnonzero(np.diff(person[rows])) + 1)
            if len(group) > 1 and person[group[0]] >= 0
        }
        self.several = np.sort(np.concatenate(list(self.groups.values()))) if self.groups else np.array([], int)

    def genuine(self, rng: np.random.Generator) -> tuple[int, int]:
        """Two photos of one person; every photo of a person with several is equally likely to be the first."""
        if not len(self.several):
            raise BadData("no person of the data set has two photos, so there are no genuine pairs to learn from")
        first = int(rng.choice(self.several))
        group = self.groups[int(self.person[first])]
        return first, int(rng.choice(group[group != first]))

    def impostor(self, index: int, rng: np.random.Generator) -> tuple[int, int]:
        """Row `index` and one of somebody else."""
        for _ in range(1000):
            other = int(rng.integers(len(self.person)))
            if other != index and (self.person[other] < 0 or self.person[other] != self.person[index]):
                return index, other
        raise BadData("the data set shows one person only, so there are no impostor pairs to learn from")
