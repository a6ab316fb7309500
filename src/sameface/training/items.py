"""Items of a data set → batches, in an order that follows from seed and step alone, and in spite of bad rows."""

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import islice
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from sameface.core.errors import BadData, SameFaceError

__all__ = ["Item", "Items", "ahead", "batches", "collate", "permutation", "sampled"]

MOST_BAD = 100
"""items one after the other that may be bad; each is said in the log, and the next one takes its place"""

Item = dict[str, np.ndarray | np.generic]


@runtime_checkable
class Items(Protocol):
    """One split of a data set, as its file's `load` returns it."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Item: ...


def collate(items: Sequence[Item], device: torch.device) -> dict[str, Tensor]:
    """Stack items into a batch on `device`; uint8 pictures (..., H, W, C) become float (B, ..., C, H, W) in [0, 1]."""
    batch = {}
    for name in items[0]:
        stacked = torch.from_numpy(np.stack([item[name] for item in items])).to(device, non_blocking=True)
        if stacked.dtype == torch.uint8 and stacked.ndim >= 4:
            stacked = stacked.movedim(-1, -3).float() / 255
        batch[name] = stacked
    return batch


def sampled(method: Any, data: Items, index: int, seed: tuple[int, ...], train: bool, bad: dict[str, str]) -> Item:
    """A training item; of the next item where this one cannot be read, which is noted in `bad`."""
    last = ""
    tried = min(MOST_BAD, len(data))
    for k in range(tried):
        place = (index + k) % len(data)
        try:
            return method.sample(data, place, np.random.default_rng(seed), train)
        except SameFaceError as error:
            bad[f"{'item' if train else 'held-out item'} {place}"] = last = str(error)
    raise BadData(f"{tried} items one after the other cannot be used, the last: {last}")


def batches(items: Iterator[Item], size: int, device: torch.device) -> Iterator[dict[str, Tensor]]:
    """Batches of `size` items; the last may be smaller."""
    while group := list(islice(items, size)):
        yield collate(group, device)


def ahead(calls: Iterator[Callable[[], Item]], workers: int, most: int) -> Generator[Item]:
    """The results of `calls` in order, made by `workers` threads, at most so many waiting."""
    pool = ThreadPoolExecutor(workers)
    try:
        waiting = deque(pool.submit(call) for call in islice(calls, most))
        while waiting:
            item = waiting.popleft().result()
            waiting.extend(pool.submit(call) for call in islice(calls, 1))
            yield item
    finally:
        pool.shutdown(cancel_futures=True)


@lru_cache(maxsize=2)
def permutation(seed: int, epoch: int, length: int) -> np.ndarray:
    """The order of the items in an epoch."""
    return np.random.default_rng((seed, 0, epoch)).permutation(length)
