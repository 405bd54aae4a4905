"""What a model is: nodes in order, named tensors, constants and states."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeAlias

from lightrnn.graph.types import Array, TensorType
from lightrnn.record import EMPTY, Record

Attr: TypeAlias = (
    "int | float | str | tuple[int, ...] | tuple[float, ...] | tuple[str, ...] | Graph"
)
"""The value of an attribute. A graph reads nothing but its own inputs and constants."""

OPSET = 28
"""Operators mean what ONNX says at this opset of its default domain."""

OPSETS = range(26, OPSET + 1)
"""Opsets at which every operator means the same: what files may say."""


class Node(Record):
    """One operator call.

    inputs: tensor names; "" for an optional input left out.
    outputs: tensor names; "" for an output nobody reads.
    origin: the node's name in the model it came from, for error messages.
    """

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attrs: Mapping[str, Attr] = EMPTY
    origin: str = ""

    def __str__(self) -> str:
        name = self.origin or next((o for o in self.outputs if o), "")
        return f"{self.op} node {name!r}"


class Graph(Record):
    """A model's computation. Nodes are in an order in which they can run.

    inputs, outputs: tensor name to type, in the order of the model's signature.
    constants: tensor name to value.
    states: input name to the output that feeds it at the next step.
    """

    inputs: Mapping[str, TensorType]
    outputs: Mapping[str, TensorType]
    nodes: tuple[Node, ...]
    constants: Mapping[str, Array]
    states: Mapping[str, str] = EMPTY

    def walk(self) -> Iterator[Graph]:
        """This graph and all graphs that its nodes hold, each before those inside it."""
        yield self
        for node in self.nodes:
            for value in node.attrs.values():
                if isinstance(value, Graph):
                    yield from value.walk()
