"""Nodes and graphs on NumPy semantics alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from lightrnn.errors import DataError
from lightrnn.graph import Array, Graph, Node
from lightrnn.ops.registry import Operator, build


def evaluate_node(node: Node, inputs: Iterable[Array | None]) -> tuple[Array, ...]:
    """All outputs of one node. Raises DataError with the node's name."""
    return evaluate_operator(node, build(node), inputs)


def evaluate_operator(
    node: Node, operator: Operator, inputs: Iterable[Array | None]
) -> tuple[Array, ...]:
    """The same for a node whose operator is built; floats overflow and divide without a warning."""
    try:
        with np.errstate(all="ignore"):
            return operator.evaluate(*inputs)
    except DataError as error:
        raise DataError(f"{node}: {error}") from None


class Interpreted:
    """A graph whose operators are built once, to run again and again."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._steps = [(node, build(node)) for node in graph.nodes]

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """The graph's outputs by name, for inputs that were checked before."""
        known: dict[str, Array] = {**self.graph.constants, **feeds}
        for node, operator in self._steps:
            inputs = (known[i] if i else None for i in node.inputs)
            known.update(zip(node.outputs, evaluate_operator(node, operator, inputs), strict=False))
        return {name: known[name] for name in self.graph.outputs}

    def __call__(self, arrays: Sequence[Array]) -> list[Array]:
        """The outputs in order, for inputs in order."""
        return list(self.run(dict(zip(self.graph.inputs, arrays, strict=True))).values())


def evaluate(graph: Graph, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """The graph's outputs by name, for inputs that were checked before."""
    return Interpreted(graph).run(feeds)
