"""Run a graph on NumPy semantics alone: the reference, and the path where no library fits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from lightrnn.errors import DataError
from lightrnn.graph import Array, Graph, Node
from lightrnn.ops import Operator, build


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


def evaluate(graph: Graph, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """The graph's outputs by name, for inputs that were checked before."""
    known: dict[str, Array] = {**graph.constants, **feeds}
    for node in graph.nodes:
        outputs = evaluate_node(node, (known[i] if i else None for i in node.inputs))
        known.update(zip(node.outputs, outputs, strict=False))
    return {name: known[name] for name in graph.outputs}
