"""Copies that keep the GIL: NumPy gives it up for more than 500 elements, and then waits for it.

Beside a thread that computes in Python that wait is 5 ms, for a copy of microseconds.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from lightrnn.graph import Array

_GIVEN_UP = 500
"""Elements from which on NumPy gives up the GIL."""
_LARGEST = 1 << 20
"""Bytes that are copied without letting others run: some 50 µs."""


def is_kept(place: Array) -> bool:
    """Whether `fill` and `copied` do better for a tensor than NumPy does."""
    return place.size > _GIVEN_UP and place.nbytes <= _LARGEST


def fill(place: Array, array: Array) -> None:
    """place[...] = array, of one type and shape; `place` is contiguous."""
    if type(array) is np.ndarray and array.flags.c_contiguous:
        place.data.cast("B")[:] = array.data.cast("B")
    else:
        place[...] = array


def copied(place: Array) -> Array:
    """A copy of a contiguous array."""
    copy = np.empty(place.shape, place.dtype)
    copy.data.cast("B")[:] = place.data.cast("B")
    return copy


def filler(place: Array) -> Callable[[Array], None]:
    """What copies an array into a place."""
    return partial(fill, place) if is_kept(place) else partial(place.__setitem__, ...)


def copier(place: Array) -> Callable[[], Array]:
    """What copies an array out of a place."""
    return partial(copied, place) if is_kept(place) else place.copy
