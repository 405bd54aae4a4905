"""Check what a graph means: operators, attributes, and every tensor's type."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from lightrnn.errors import GraphError
from lightrnn.graph.graph import Graph, Node
from lightrnn.graph.types import MAX_RANK, MAX_SIZE, TensorType

_KINDS = {"b": "bool", "i": "signed integers", "u": "unsigned integers", "f": "floats"}


class Inferring(Protocol):
    """What the checker needs of an operator.

    kinds: NumPy's letters for the kinds of elements that the first input may have.
    """

    @property
    def kinds(self) -> str: ...

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
        results = infer(node, build(node), [types[n] if n else None for n in node.inputs])
        types.update((n, t) for n, t in zip(node.outputs, results, strict=False) if n)
    for name, declared in graph.outputs.items():
        if not types[name].admits(declared):
            raise GraphError(f"output {name!r} is {types[name]}, declared as {declared}")
    return types


def infer(
    node: Node, operator: Inferring, inputs: Sequence[TensorType | None]
) -> tuple[TensorType, ...]:
    """Types of a node's outputs. Raises GraphError, naming it, where they do not exist or fit."""
    first = inputs[0] if inputs else None
    if first is not None and first.dtype.kind not in operator.kinds:
        wanted = " or ".join(_KINDS[kind] for kind in operator.kinds)
        raise GraphError(f"{node}: the first input is {first.dtype.name}, expected {wanted}")
    try:
        results = operator.infer(inputs)
    except GraphError as error:
        raise type(error)(f"{node}: {error}") from None
    for result in results:
        if not result.fits:
            raise GraphError(
                f"{node}: {result} is too large, at most rank {MAX_RANK} "
                f"and {MAX_SIZE} elements are allowed"
            )
    return results
