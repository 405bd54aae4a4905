"""Sizes on their way through the lists of integers that exporters compute shapes with.

A list such as [2, batch, 128] is not a constant, but its first and last elements are, and a
condition on one of them is known. Lists are followed through operators that move elements and do
not compute with them: a size that is not a number travels as a code that no size can have, and
the operators' own semantics move it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lightrnn.errors import DataError, GraphError
from lightrnn.graph import Array, Dim, Node, Shape, TensorType
from lightrnn.ops import Operator
from lightrnn.ops.creation import ShapeOf

_CODES = -(2**62)
"""Codes count from here up."""

_MOVES = frozenset({
    "Identity", "Cast", "Gather", "Slice", "Concat", "Squeeze", "Unsqueeze", "Reshape", "Flatten",
})  # fmt: skip
"""Operators whose one result holds elements of their data inputs, which are not computed with."""


@dataclass
class Sizes:
    """Lists that hold a size that is not a number, by tensor name, as int64 with codes."""

    _lists: dict[str, Array] = field(default_factory=dict)
    _dims: list[Dim] = field(default_factory=list)

    def follow(
        self, node: Node, operator: Operator, types: Sequence[TensorType | None]
    ) -> Array | None:
        """The value of a node's result, if it is made of known sizes alone.

        types: of the node's inputs, values included. Otherwise remembers what is known of it.
        """
        if node.op == "Shape":
            found = self._shape(operator, types[0])
        elif node.op in _MOVES:
            found = self._moved(node, operator, types)
        else:
            return None
        if found is not None and self._coded(found).any():
            self._lists[node.outputs[0]] = found
            return None
        return found

    def refined(
        self, node: Node, types: Sequence[TensorType | None], results: tuple[TensorType, ...]
    ) -> tuple[TensorType, ...]:
        """The types of a node's results; of Reshape and Expand with the sizes that a list names."""
        if node.op not in ("Reshape", "Expand"):
            return results
        wanted, source, (result,) = self._lists.get(node.inputs[1]), types[0], results
        if wanted is None or source is None or source.shape is None or result.shape is None:
            return results
        if node.op == "Expand":
            dims = self._expanded(source.shape, wanted, len(result.shape))
        elif not node.attrs.get("allowzero", 0):
            dims = self._reshaped(source.shape, wanted)
        else:
            return results
        return (finer(result, TensorType(result.dtype, dims)),)

    def _reshaped(self, source: Shape, wanted: Array) -> Shape:
        """Sizes that a list of a Reshape names; 0 copies a size, -1 is what is left."""
        given = (*source, *[None] * len(wanted))
        return tuple(
            None if size == -1 else copied if size == 0 else self._dim(size)
            for size, copied in zip(wanted.tolist(), given, strict=False)
        )

    def _expanded(self, source: Shape, wanted: Array, rank: int) -> Shape:
        """Sizes that a list of an Expand names, where the source is broadcast."""
        given = (*[1] * (rank - len(source)), *source)
        sizes = (*[1] * (rank - len(wanted)), *(self._dim(size) for size in wanted.tolist()))
        return tuple(size if old == 1 else None for old, size in zip(given, sizes, strict=True))

    def _shape(self, operator: Operator, data: TensorType | None) -> Array | None:
        if data is None or data.shape is None or not isinstance(operator, ShapeOf):
            return None
        dims = data.shape[operator.start : operator.end]
        return np.array([self._code(d) for d in dims], np.int64)

    def _moved(
        self, node: Node, operator: Operator, types: Sequence[TensorType | None]
    ) -> Array | None:
        lists = len(node.inputs) if node.op == "Concat" else 1
        arrays: list[Array | None] = [None if t is None else t.value for t in types]
        for k, name in enumerate(node.inputs):
            if k < lists:
                known = arrays[k]
                arrays[k] = self._lists.get(name, self._plain(known))
            if name and arrays[k] is None:
                return None
        if node.op == "Cast":
            return arrays[0] if node.attrs["to"] in (6, 7) else None
        try:
            return operator.evaluate(*arrays)[0]
        except (DataError, GraphError):
            return None

    def _code(self, dim: Dim) -> int:
        if isinstance(dim, int):
            return dim
        if dim is None or dim not in self._dims:
            self._dims.append(dim)
            return _CODES + len(self._dims) - 1
        return _CODES + self._dims.index(dim)

    def _dim(self, element: int) -> Dim:
        return self._dims[element - _CODES] if self._coded(element) else element

    def _coded(self, elements: Any) -> Any:
        return (elements >= _CODES) & (elements < _CODES + len(self._dims))

    def _plain(self, value: Array | None) -> Array | None:
        """A known list, none of whose elements could be taken for a code."""
        if value is None or value.dtype.kind != "i" or self._coded(value).any():
            return None
        return value.astype(np.int64)


def finer(a: TensorType, b: TensorType) -> TensorType:
    """`a` with the sizes that only `b` knows of the same tensor."""
    if b.shape is None or (a.shape is not None and len(a.shape) != len(b.shape)):
        return a
    mine = (None,) * len(b.shape) if a.shape is None else a.shape
    dims = tuple(y if x is None else x for x, y in zip(mine, b.shape, strict=True))
    return TensorType(a.dtype, dims)
