"""Where tensors lie: buffers, their lifetimes, and the arena that holds them."""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import addressof, c_char
from typing import Any

import numpy as np

from lightrnn.graph import Array
from lightrnn.native.abi import ALIGNMENT


class Buffer:
    """A piece of memory that a plan uses.

    array: what it holds before the run, or None for arena memory.
    first, last: the instructions (or steps before them) between which it must keep its contents.
    offset: its place in the arena, once laid out; one that has a place before keeps it, alone.
    """

    def __init__(
        self,
        nbytes: int,
        array: Array | None = None,
        first: int = 0,
        last: int = 0,
        offset: int = -1,
    ) -> None:
        self.nbytes, self.array = nbytes, array
        self.first, self.last, self.offset = first, last, offset


def rounded(nbytes: int) -> int:
    """`nbytes` rounded up to the alignment of buffers; at least one unit."""
    return max(-(-nbytes // ALIGNMENT), 1) * ALIGNMENT


def lay_out(buffers: Sequence[Buffer], start: int = 0) -> int:
    """Give every arena buffer an offset so that no two living at once overlap; the total size.

    Largest first, each at the lowest place from `start` on that is free for all of its life.
    """
    placed: list[Buffer] = []
    total = start
    free = (b for b in buffers if b.array is None and b.offset < 0)
    for buffer in sorted(free, key=lambda b: -b.nbytes):
        size, place = rounded(buffer.nbytes), start
        for other in placed:
            if other.first <= buffer.last and buffer.first <= other.last:
                if place + size <= other.offset:
                    break
                place = max(place, other.offset + rounded(other.nbytes))
        buffer.offset = place
        placed.append(buffer)
        placed.sort(key=lambda b: b.offset)
        total = max(total, place + size)
    return total


def aligned_bytes(nbytes: int) -> Array:
    """Uninitialised bytes whose address is a multiple of the alignment."""
    return aligned_empty((nbytes,), np.uint8, nbytes)


def aligned_empty(shape: tuple[int, ...], dtype: Any, nbytes: int) -> Array:
    """An uninitialised array of so many bytes whose address is a multiple of the alignment."""
    raw = np.empty(nbytes + ALIGNMENT, np.uint8)
    return np.ndarray(shape, dtype, raw, -address(raw) % ALIGNMENT)


def aligned_copy(array: Array) -> Array:
    """A contiguous copy whose address is a multiple of the alignment."""
    copy = aligned_empty(array.shape, array.dtype, array.nbytes)
    copy[...] = array
    return copy


def address(array: Array) -> int:
    """The address of an array's first element."""
    try:  # quicker by a microsecond, for what is writable
        return addressof(c_char.from_buffer(array))  # type: ignore[arg-type]
    except (TypeError, ValueError, BufferError):
        return int(array.__array_interface__["data"][0])
