"""Large tensors that a program finds where its caller has them, instead of copies in the arena.

An instruction's words that point to such a tensor are set before each run. An arena is used by one
run at a time, and each run sets all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lightrnn.engine.copies import fill
from lightrnn.engine.memory import address, aligned_empty
from lightrnn.graph import Array


class _Pointers:
    """Words that point into one tensor, which lies in the arena until they are set."""

    def __init__(self, memory: Any, words: Sequence[int], place: Array) -> None:
        """memory: of the frame, as int64. words: their places in it. place: in the arena."""
        self._memory = memory
        self._home = address(place)
        self._words = [(word, memory[word] - self._home) for word in words]
        self._now = self._home

    def set(self, start: int) -> None:
        """Let the tensor begin at an address."""
        if start != self._now:
            memory = self._memory
            for word, shift in self._words:
                memory[word] = start + shift
            self._now = start

    def reset(self) -> None:
        """Let it lie in the arena."""
        self.set(self._home)


class Borrowed:
    """An input that is read where it is, if it can be."""

    def __init__(self, memory: Any, words: Sequence[int], place: Array) -> None:
        """As `_Pointers`."""
        self._pointers = _Pointers(memory, words, place)
        self._place = place

    def fill(self, array: Array) -> None:
        """Let the next run read an array, which must live until that has ended."""
        if type(array) is np.ndarray and array.flags.c_contiguous and array.flags.aligned:
            self._pointers.set(address(array))
        else:
            self._pointers.reset()
            fill(self._place, array)


class Lent:
    """An output that is written into an array of the caller's own."""

    def __init__(self, memory: Any, words: Sequence[int], place: Array) -> None:
        """As `_Pointers`."""
        self._pointers = _Pointers(memory, words, place)
        self._place = place
        self._made: Array | None = None

    def make(self) -> None:
        """Let the next run write into a new array."""
        place = self._place
        self._made = made = aligned_empty(place.shape, place.dtype, place.nbytes)
        self._pointers.set(address(made))

    def take(self) -> Array:
        """That array; it is not kept."""
        made, self._made = self._made, None
        assert made is not None
        return made
