"""Arrays that may be numpy or torch, and frozen records of them."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import numpy as np

__all__ = ["Array", "Batch", "Record", "namespace"]

Array = Any  # numpy or torch: jaxtyping checks shape and dtype of either; a union would make every caller say which

Kind = TypeVar("Kind", bound="Record")  # not typing.Self: the tests' shape checker refuses that on methods


def namespace(array: Array) -> Any:
    """The module (numpy or torch) whose functions apply to `array`; torch is never imported for a numpy array.

    >>> namespace(np.zeros(3)).__name__
    'numpy'
    """
    if isinstance(array, np.ndarray | np.generic):
        return np
    import torch

    return torch


@dataclass(frozen=True, eq=False, repr=False)
class Record:
    """Base of our value types: a frozen dataclass whose fields are arrays, records, or plain values.

    Equality is identity (`==` on arrays is not a bool) and the repr prints shapes, not numbers.
    """

    def map(self: Kind, function: Callable[[Array], Array]) -> Kind:
        """The same record with `function` applied to every array field, nested records included."""
        changes = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Record):
                changes[field.name] = value.map(function)
            elif hasattr(value, "shape"):
                changes[field.name] = function(value)
        return replace(self, **changes)

    def __repr__(self) -> str:
        def show(value: Any) -> str:
            if hasattr(value, "shape"):
                return f"{value.dtype}{list(value.shape)}".replace("torch.", "")
            return repr(value) if len(repr(value)) < 80 else f"<{type(value).__name__}>"

        inside = ", ".join(f"{f.name}={show(getattr(self, f.name))}" for f in fields(self))
        return f"{type(self).__name__}({inside})"


class Batch(Record):
    """A record whose arrays share leading axes, which can be indexed."""

    __iter__ = None
    """else Python would count the index up, over what is no sequence too"""

    def __getitem__(self: Kind, index: Any) -> Kind:
        """Index the leading (batch) axes of every array field."""
        return self.map(lambda array: array[index])
