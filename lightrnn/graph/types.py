"""Tensor types: element type and shape, with a value where it is known."""

from __future__ import annotations

from math import prod
from typing import Any, ClassVar, TypeAlias, cast

import numpy as np

from lightrnn.record import Record

Array: TypeAlias = "np.ndarray[tuple[Any, ...], np.dtype[Any]]"
Dim: TypeAlias = int | str | None
"""A size: a number, a name (equal names are equal sizes), or None for one not known yet."""
Shape: TypeAlias = tuple[Dim, ...]

FLOAT32 = np.dtype(np.float32)
INT64 = np.dtype(np.int64)
INT32 = np.dtype(np.int32)
BOOL = np.dtype(np.bool_)

DTYPES: dict[str, np.dtype[Any]] = {
    name: np.dtype(name)
    for name in (
        [
            "float32",
            "float64",
            "float16",
            "int64",
            "int32",
            "int16",
            "int8",
            "uint64",
            "uint32",
            "uint16",
            "uint8",
            "bool",
        ]
    )
}
"""The element types a tensor can have, by name."""

MAX_RANK = 16
MAX_SIZE = 2**48
"""Elements of the largest tensor; no size may be above it either."""


class TensorType(Record):
    """What is known of a tensor before it is computed.

    shape: None when not even the rank is known.
    value: the tensor itself, when it depends on constants and shapes alone.
    """

    dtype: np.dtype[Any]
    shape: Shape | None
    value: Array | None = None

    aside: ClassVar[tuple[str, ...]] = ("value",)

    @staticmethod
    def of(array: Array) -> TensorType:
        """The type of a known array, value included."""
        return TensorType(array.dtype, array.shape, array)

    @property
    def rank(self) -> int | None:
        return None if self.shape is None else len(self.shape)

    @property
    def is_concrete(self) -> bool:
        """Whether every size is a number."""
        return self.shape is not None and set(map(type, self.shape)) <= {int}

    @property
    def sizes(self) -> tuple[int, ...]:
        """The shape of a concrete type."""
        assert self.is_concrete, self
        return cast("tuple[int, ...]", self.shape)

    @property
    def fits(self) -> bool:
        """Whether rank and sizes, those of them that are known, are within the limits."""
        if self.shape is None:
            return True
        sizes = [max(d, 1) for d in self.shape if isinstance(d, int)]
        return len(self.shape) <= MAX_RANK and prod(sizes) <= MAX_SIZE

    def admits(self, other: TensorType) -> bool:
        """Whether a tensor can be of both types, for all that is known of them."""
        if self.dtype != other.dtype:
            return False
        if self.shape is None or other.shape is None:
            return True
        return len(self.shape) == len(other.shape) and all(
            a == b or not (isinstance(a, int) and isinstance(b, int))
            for a, b in zip(self.shape, other.shape, strict=True)
        )

    def __str__(self) -> str:
        if self.shape is None:
            return f"{self.dtype.name}[...]"
        return f"{self.dtype.name}[{', '.join('?' if d is None else str(d) for d in self.shape)}]"
