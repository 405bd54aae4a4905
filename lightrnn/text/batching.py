"""Group texts of like length, so that little is spent on padding."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, islice
from typing import TypeVar

T = TypeVar("T")


def windows(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of up to `size` successive items, each read when it is asked for."""
    source = iter(items)
    while window := list(islice(source, size)):
        yield window


def batches(lengths: Sequence[int], size: int, *, mixed: bool) -> Iterator[list[int]]:
    """Positions in groups of up to `size`, from the shortest to the longest.

    mixed: whether different lengths may share a group. Lengths of 0 are left out.
    """
    order = sorted((k for k, n in enumerate(lengths) if n), key=lengths.__getitem__)
    for _, group in groupby(order, key=lambda k: mixed or lengths[k]):
        yield from windows(group, size)
