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
from lightrnn.graph import Array, Dim, Node, TensorType
from lightrnn.ops import Operator

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
            found = self._shape(node, types[0])
        elif node.op in _MOVES:
            found = self._moved(node, operator, types)
        else:
            return None
        if found is not None and self._coded(found).any():
            self._lists[node.outputs[0]] = found
            return None
        return found

    def refined(
        self, node: Node, types: Sequence[TensorType | None], result: TensorType
    ) -> TensorType:
        """The type of a Reshape's or Expand's result, with the sizes that its list names."""
        wanted = self._lists.get(node.inputs[1]) if len(node.inputs) > 1 else None
        source = types[0]
        if wanted is None or source is None or result.shape is None:
            return result
        if node.op == "Reshape" and not node.attrs.get("allowzero", 0):
            given: list[Dim] = list(source.shape or ())
            given += [None] * (len(wanted) - len(given))
            dims = [
                None if w == -1 else g if w == 0 else self._dim(w)
                for w, g in zip(wanted.tolist(), given, strict=False)
            ]
        elif node.op == "Expand" and source.shape is not None:
            given = [1] * (len(result.shape) - len(source.shape)) + list(source.shape)
            sizes = [1] * (len(given) - len(wanted)) + [self._dim(w) for w in wanted.tolist()]
            dims = [w if g == 1 else None for g, w in zip(given, sizes, strict=True)]
        else:
            return result
        pairs = zip(result.shape, dims, strict=True)
        return TensorType(result.dtype, tuple(d if r is None else r for r, d in pairs))

    def _shape(self, node: Node, data: TensorType | None) -> Array | None:
        if data is None or data.shape is None:
            return None
        start, end = node.attrs.get("start", 0), node.attrs.get("end")
        dims = data.shape[slice(start, end)]  # type: ignore[misc]
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

