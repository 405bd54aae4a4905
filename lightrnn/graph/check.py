"""Check what a graph means: operators, attributes, and every tensor's type."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from lightrnn.errors import GraphError
from lightrnn.graph.graph import Graph, Node
from lightrnn.graph.types import TensorType


class Inferring(Protocol):
    """What the checker needs of an operator."""

    def infer(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]: ...


def check(graph: Graph, build: Callable[[Node], Inferring]) -> dict[str, TensorType]:
    """The type of every tensor, inferred. The graph's structure must be right already.

    build: makes a node's operator, raising GraphError with the node's name.

    Raises GraphError, naming the node, where types do not fit, or where an output contradicts its
    declared type.
    """
    types = {name: TensorType.of(array) for name, array in graph.constants.items()}
    types.update(graph.inputs)
    for node in graph.nodes:
        operator = build(node)
        try:
            results = operator.infer([types[n] if n else None for n in node.inputs])
        except GraphError as error:
            raise type(error)(f"{node}: {error}") from None
        types.update((n, t) for n, t in zip(node.outputs, results, strict=False) if n)
    for name, declared in graph.outputs.items():
        if not _compatible(types[name], declared):
            raise GraphError(f"output {name!r} is {types[name]}, declared as {declared}")
    return types


def _compatible(inferred: TensorType, declared: TensorType) -> bool:
    if inferred.dtype != declared.dtype:
        return False
    if inferred.shape is None or declared.shape is None:
        return True
    if len(inferred.shape) != len(declared.shape):
        return False
    return all(
        a == b or not (isinstance(a, int) and isinstance(b, int))
        for a, b in zip(inferred.shape, declared.shape, strict=True)
    )
