"""Memory for kernels that run as plain Python: spans that check every access.

A compiled kernel sees addresses. Interpreted, the same integers name regions that `Memory` knows,
and every load and store is checked against the region it started from.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]


class Span:
    """A pointer into one region: the region's elements and a position among them."""

    __slots__ = ("items", "start")

    def __init__(self, items: Array, start: int = 0) -> None:
        self.items = items
        self.start = start

    def _check(self, index: int, count: int = 1) -> int:
        first = self.start + int(index)
        if count and (first < 0 or first + count > len(self.items)):
            raise IndexError(
                f"elements {first} to {first + count - 1} of a region of {len(self.items)}"
            )
        return first

    def __getitem__(self, index: int) -> Any:
        return self.items[self._check(index)]

    def __setitem__(self, index: int, value: Any) -> None:
        self.items[self._check(index)] = value

    def lanes(self, index: int, count: int) -> Array:
        """A view of `count` elements from `index` on."""
        first = self._check(index, count)
        return self.items[first : first + count]

    def at(self, count: int) -> Span:
        """The span moved by `count` elements; only an access is checked."""
        return Span(self.items, self.start + int(count))


class Memory:
    """The regions that integers handed to interpreted kernels may point into."""

    def __init__(self) -> None:
        self._regions: list[tuple[int, Array]] = []

    def add(self, array: Array) -> int:
        """Make an array reachable and return its address. The array must be contiguous."""
        data = array.reshape(-1).view(np.uint8)
        assert array.size == 0 or np.shares_memory(data, array)
        address = int(array.__array_interface__["data"][0])
        self._regions.append((address, data))
        return address

    def span(self, address: int, dtype: Any) -> Span | None:
        """The span of elements at an address; None for the null pointer."""
        if address == 0:
            return None
        for start, data in self._regions:
            offset = address - start
            if 0 <= offset < max(len(data), 1):
                return _typed(data, offset, np.dtype(dtype))
        raise IndexError(f"address {address:#x} lies in no region")


def _typed(data: Array, offset: int, dtype: np.dtype[Any]) -> Span:
    phase = offset % dtype.itemsize
    whole = (len(data) - phase) // dtype.itemsize * dtype.itemsize
    return Span(data[phase : phase + whole].view(dtype), offset // dtype.itemsize)


FUNCTIONS: dict[int, Callable[[Span | None, int, int], None]] = {}
"""Kernel entries by the addresses that an interpreted program calls them by."""

MEMORY = Memory()
"""The memory of the interpreted run in progress; tests replace its regions."""
