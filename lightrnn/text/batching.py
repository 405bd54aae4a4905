"""Group texts of like length, so that little is spent on padding."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, islice
from typing import TypeVar

T = TypeVar("T")

LARGEST = 2**16
"""Places for tokens, padding included, in one run, unless a single text has more."""
SMALL = 2**11
"""Padding that is cheaper than another run."""


def windows(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of up to `size` successive items, each read when it is asked for.

    An error in reading an item is raised after those before it have been given.
    """
    source = iter(items)
    while True:
        window: list[T] = []
        try:
            window.extend(islice(source, size))
        except Exception:
            if window:
                yield window
            raise
        if not window:
            return
        yield window


def batches(lengths: Sequence[int], size: int, *, mixed: bool) -> Iterator[list[int]]:
    """Positions in groups of up to `size`, from the shortest to the longest.

    mixed: whether different lengths may share a group; no more than half of its places, and
    `SMALL` more, are padding. Lengths of 0 are left out.
    """
    order = sorted((k for k, n in enumerate(lengths) if n), key=lengths.__getitem__)
    for _, alike in groupby(order, key=lambda k: mixed or lengths[k]):
        group: list[int] = []
        real = 0
        for k in alike:
            places = (len(group) + 1) * lengths[k]
            if group and (
                len(group) == size or places > min(2 * (real + lengths[k]) + SMALL, LARGEST)
            ):
                yield group
                group, real = [], 0
            group.append(k)
            real += lengths[k]
        yield group
