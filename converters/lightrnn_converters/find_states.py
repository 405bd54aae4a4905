"""Find inputs that are initial states of recurrent layers, and the outputs that are their ends.

An input and an output are paired where this is sure: the input is moved to the initial states of
layers that run forward and to nothing else, and the output is put together from those layers'
final states just as the input was. That is so if the output would be the input itself, were every
layer to end as it started; numbers that stand for the input's elements are moved through the graph
to see it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from lightrnn.errors import DataError, GraphError
from lightrnn.graph import Array, Graph, Node
from lightrnn.ops import build
from lightrnn_converters.feeds import shapes

_LAYERS = ("RNN", "GRU", "LSTM")
_STATES = ((5, 1), (6, 2))
"""The slot of an initial state, and of the final state that belongs to it."""

_MOVES = frozenset({
    "Concat", "Flatten", "Gather", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Transpose",
    "Unsqueeze",
})  # fmt: skip

_SIZES = ((3, 1), (5, 2))
"""Sizes to move numbers at: those of `feeds.shapes`."""


def find_states(graph: Graph) -> dict[str, str]:
    """Input name to output name, for all pairs that are sure at two sets of sizes."""
    found = [dict(_pairs(graph, *sizes)) for sizes in _SIZES]
    return {name: output for name, output in found[0].items() if found[1].get(name) == output}


def _pairs(graph: Graph, first: int, step: int) -> Iterator[tuple[str, str]]:
    try:
        codes = _codes(graph, shapes(graph, first, step))
    except GraphError:
        return
    moved = _Moved(graph.constants, dict(codes), {name: {name} for name in codes})
    for node in graph.nodes:
        moved.through(node)
    for name, code in codes.items():
        ends = [o for o in graph.outputs if np.array_equal(moved.after.get(o, ()), code)]
        if name in moved.used and name not in moved.lost and len(ends) == 1:
            yield name, ends[0]


def _codes(graph: Graph, given: Mapping[str, tuple[int, ...]]) -> dict[str, Array]:
    """A number for each element of each input of floats, no two of them alike."""
    codes, start = {}, 1
    for name, kind in graph.inputs.items():
        if kind.dtype.kind == "f" and given[name]:
            size = int(np.prod(given[name]))
            codes[name] = np.arange(start, start + size, dtype=np.int64).reshape(given[name])
            start += size
    return codes


@dataclass
class _Moved:
    """Where numbers are found.

    before: tensors made of inputs by moving. after: tensors made of final states by moving, with
    the numbers of the initial ones. sources: the inputs that a tensor of `before` holds.
    used: inputs that are initial states. lost: inputs that are something else too.
    """

    constants: Mapping[str, Array]
    before: dict[str, Array]
    sources: dict[str, set[str]]
    after: dict[str, Array] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    lost: set[str] = field(default_factory=set)

    def through(self, node: Node) -> None:
        """Follow numbers through one node."""
        if node.op in _LAYERS and node.attrs.get("direction", "forward") == "forward":
            self._layer(node)
        elif node.op not in _MOVES or not self._move(node):
            self._lose(node.inputs)

    def _lose(self, names: tuple[str, ...]) -> None:
        self.lost.update(*(self.sources.get(name, ()) for name in names))

    def _layer(self, node: Node) -> None:
        ends = dict(_STATES)
        for slot, name in enumerate(node.inputs):
            if slot not in ends:
                self._lose((name,))
                continue
            self.used.update(self.sources.get(name, ()))
            start = self.before.get(name, self.after.get(name))
            output = node.outputs[ends[slot]] if len(node.outputs) > ends[slot] else ""
            if start is not None and output:
                self.after[output] = start

    def _move(self, node: Node) -> bool:
        data = node.inputs if node.op == "Concat" else node.inputs[:1]
        rest = node.inputs[len(data) :]
        table = next((t for t in (self.before, self.after) if all(i in t for i in data)), None)
        if table is None or not all(i in self.constants for i in rest if i):
            return False
        inputs = [*(table[i] for i in data), *(self.constants.get(i) for i in rest)]
        try:
            results = build(node).evaluate(*inputs)
        except (GraphError, DataError):
            return False
        table.update(zip(node.outputs, results, strict=False))
        if table is self.before:
            held = set().union(*(self.sources[i] for i in data))
            self.sources.update((o, held) for o in node.outputs)
        return True
