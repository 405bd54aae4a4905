"""Sequences of tensors, as exporters write them around recurrent layers, without sequences.

A sequence is known here by what it was made of: tensors, or a tensor split along an axis, of
which one item is a Slice or a Gather. Only a constant position can be read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from lightrnn.errors import UnsupportedError
from lightrnn.graph import Array, Attr

Emit: TypeAlias = Callable[[str, tuple[str, ...], str, dict[str, Attr]], None]
"""Adds a node: operator, inputs, output, attributes."""
Constant: TypeAlias = Callable[[Array], str]
"""Names a new constant."""


@dataclass(frozen=True)
class Items:
    """A sequence of tensors that have names."""

    names: tuple[str, ...]

    def read(self, position: int, output: str, emit: Emit, constant: Constant) -> None:
        """Write one item to `output`."""
        emit("Identity", (self.names[_within(position, len(self.names))],), output, {})


@dataclass(frozen=True)
class Pieces:
    """A tensor split along an axis.

    ends: the ends of its pieces; None where every piece has size 1.
    keepdims: whether the pieces keep the axis; always true where `ends` are known.
    """

    source: str
    axis: int
    ends: tuple[int, ...] | None
    keepdims: bool

    def read(self, position: int, output: str, emit: Emit, constant: Constant) -> None:
        """Write one piece to `output`."""
        if self.ends is None:
            index = np.array([position] if self.keepdims else position, np.int64)
            emit("Gather", (self.source, constant(index)), output, {"axis": self.axis})
            return
        position = _within(position, len(self.ends))
        start = self.ends[position - 1] if position else 0
        bounds = (np.array([v], np.int64) for v in (start, self.ends[position], self.axis))
        emit("Slice", (self.source, *(constant(b) for b in bounds)), output, {})


Value: TypeAlias = Items | Pieces


def _within(position: int, count: int) -> int:
    if not -count <= position < count:
        raise UnsupportedError(f"position {position} of a sequence of {count}")
    return position % count


def split(
    inputs: Sequence[str], attrs: dict[str, Attr], sizes: Array | None, known: int | None
) -> Value:
    """The sequence that SplitToSequence makes of its inputs.

    sizes: the second input where there is one, which must be constant.
    known: the size of the axis, if it is.
    """
    axis = int(attrs.get("axis", 0))  # type: ignore[arg-type]
    if len(inputs) < 2:
        return Pieces(inputs[0], axis, None, bool(attrs.get("keepdims", 1)))
    if sizes is None:
        raise UnsupportedError("sizes to split into that are not constant")
    if sizes.ndim:
        return Pieces(inputs[0], axis, tuple(int(e) for e in np.cumsum(sizes)), True)
    if int(sizes) == 1:
        return Pieces(inputs[0], axis, None, True)
    if known is None:
        raise UnsupportedError("a split of an axis whose size is not known")
    ends = [*range(int(sizes), known, int(sizes)), known]
    return Pieces(inputs[0], axis, tuple(ends), True)


def joined(
    value: Value, attrs: dict[str, Attr], output: str, emit: Emit, fresh: Callable[[], str],
    constant: Constant,
) -> None:  # fmt: skip
    """Write what ConcatFromSequence makes of a sequence to `output`."""
    if not isinstance(value, Items):
        raise UnsupportedError("ConcatFromSequence of the pieces of a tensor")
    axis = int(attrs["axis"])  # type: ignore[arg-type]
    names: Sequence[str] = value.names
    if attrs.get("new_axis", 0):
        axes = constant(np.array([axis], np.int64))
        names = [fresh() for _ in names]
        for name, item in zip(names, value.names, strict=True):
            emit("Unsqueeze", (item, axes), name, {})
    emit("Concat", tuple(names), output, {"axis": axis})
