"""Sequences of tensors, as exporters write them around recurrent layers, without sequences.

A sequence is known here by what it was made of: tensors, a tensor split along an axis, of which
one item is a Slice or a Gather, or tensors that a loop appends, which are stacked instead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from lightrnn.errors import UnsupportedError
from lightrnn.graph import Array, Attr, TensorType

Emit: TypeAlias = Callable[[str, tuple[str, ...], str, dict[str, Attr]], None]
"""Adds a node: operator, inputs, output, attributes."""
Constant: TypeAlias = Callable[[Array], str]
"""Names a new constant."""


@dataclass(frozen=True)
class Items:
    """A sequence of tensors that have names."""

    names: tuple[str, ...]

    @property
    def tensors(self) -> tuple[str, ...]:
        """What the sequence is made of."""
        return self.names

    def inserted(self, name: str, position: int | None) -> Value:
        """The sequence with one more item."""
        count = len(self.names)
        place = count if position is None else _within(position, count + 1)
        return Items((*self.names[:place], name, *self.names[place:]))

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

    @property
    def tensors(self) -> tuple[str, ...]:
        """What the sequence is made of."""
        return (self.source,)

    def inserted(self, name: str, position: int | None) -> Value:
        """Refused: the pieces have no names."""
        raise UnsupportedError("SequenceInsert into the pieces of a tensor")

    def read_at(self, position: str, output: str, emit: Emit, constant: Constant) -> None:
        """Write the piece at a position that is a tensor to `output`."""
        if self.ends is not None:
            raise UnsupportedError("a position among pieces of several sizes that is not constant")
        shape = constant(np.ones(int(self.keepdims), np.int64))
        emit("Reshape", (position, shape), f"{output}:position", {})
        emit("Gather", (self.source, f"{output}:position"), output, {"axis": self.axis})

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


@dataclass(frozen=True)
class Growing:
    """A sequence that a loop carries, while its body is read. added: what an iteration appends."""

    added: tuple[str, ...] = ()

    @property
    def tensors(self) -> tuple[str, ...]:
        """What the sequence is made of, as far as it is known."""
        return self.added

    def inserted(self, name: str, position: int | None) -> Value:
        """The sequence with one more item at its end."""
        if position is not None:
            raise UnsupportedError("SequenceInsert inside a sequence that a loop carries")
        return Growing((*self.added, name))


Value: TypeAlias = Items | Pieces | Growing


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
    constant: Constant, kind: TensorType | None,
) -> None:  # fmt: skip
    """Write what ConcatFromSequence makes of a sequence to `output`.

    kind: what is known of the tensor that Pieces are pieces of.
    """
    axis = int(attrs["axis"])  # type: ignore[arg-type]
    if isinstance(value, Pieces):
        return _rejoined(value, axis, bool(attrs.get("new_axis", 0)), output, emit, fresh, constant,
                         kind)  # fmt: skip
    if not isinstance(value, Items):
        raise UnsupportedError("ConcatFromSequence of a sequence that a loop carries")
    names: Sequence[str] = value.names
    if attrs.get("new_axis", 0):
        axes = constant(np.array([axis], np.int64))
        names = [fresh() for _ in names]
        for name, item in zip(names, value.names, strict=True):
            emit("Unsqueeze", (item, axes), name, {})
    emit("Concat", tuple(names), output, {"axis": axis})
    return None


def _rejoined(
    value: Pieces, axis: int, new_axis: bool, output: str, emit: Emit, fresh: Callable[[], str],
    constant: Constant, kind: TensorType | None,
) -> None:  # fmt: skip
    """Write the pieces of a tensor, one beside the other again, to `output`."""
    shape = None if kind is None else kind.shape
    if shape is None or value.ends is not None or value.keepdims:
        raise UnsupportedError("ConcatFromSequence of pieces of a tensor that keep their axis")
    rank, source = len(shape), value.axis % len(shape)
    axis = axis % (rank if new_axis else rank - 1)
    order = [k for k in range(rank) if k != source]
    order.insert(axis, source)
    turned = output if new_axis else fresh()
    if order == list(range(rank)):
        emit("Identity", (value.source,), turned, {})
    else:
        emit("Transpose", (value.source,), turned, {"perm": tuple(order)})
    if not new_axis:
        after = [shape[k] for k in order[axis + 2 :]]
        sizes = [d for d in after if isinstance(d, int)]
        if len(sizes) != len(after):
            raise UnsupportedError("ConcatFromSequence of pieces whose sizes are not known")
        wanted = np.array([*[0] * axis, -1, *sizes], np.int64)
        emit("Reshape", (turned, constant(wanted)), output, {})
