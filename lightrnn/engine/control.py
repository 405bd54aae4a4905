"""If, Loop and Scan in the engine: their graphs are prepared once, and bound by shape."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from lightrnn.graph import Array, Attr, Graph, Node, TensorType
from lightrnn.ops import Operator, build
from lightrnn.ops.control import Control
from lightrnn.ops.registry import Types

if TYPE_CHECKING:
    from lightrnn.engine.prepare import Prepared


class PreparedControl(Operator):
    """A control operator and its graphs, prepared; it is always a host step."""

    def __init__(self, operator: Control, bodies: Sequence[Prepared]) -> None:
        self.name = operator.name  # type: ignore[misc]
        self.kinds = operator.kinds  # type: ignore[misc]
        self._operator = operator
        self._bodies = bodies

    def infer(self, inputs: Types) -> tuple[TensorType, ...]:
        return self._operator.infer(inputs)

    def evaluate(self, *inputs: Array | None) -> tuple[Array, ...]:
        return self._operator.evaluate(*inputs)

    def run(
        self,
        run: Callable[[Prepared, Sequence[Array]], list[Array]],
        inputs: Sequence[Array | None],
    ) -> tuple[Array, ...]:
        """All outputs. run: runs a prepared graph."""

        def ready(body: Prepared) -> Callable[[Sequence[Array]], list[Array]]:
            return lambda arrays: run(body, arrays)

        return self._operator.run([ready(body) for body in self._bodies], inputs)


def absorb(graph: Graph) -> Graph:
    """The graph with constants that its nodes hand to their graphs as constants of these."""
    return replace(graph, nodes=tuple(_absorbed(node, graph) for node in graph.nodes))


def _absorbed(node: Node, graph: Graph) -> Node:
    operator = build(node) if any(isinstance(a, Graph) for a in node.attrs.values()) else None
    if not isinstance(operator, Control):
        return node
    count = operator.captured(len(node.inputs))
    own, captured = node.inputs[: len(node.inputs) - count], node.inputs[len(node.inputs) - count :]
    known = {k: graph.constants[n] for k, n in enumerate(captured) if n in graph.constants}
    attrs: dict[str, Attr] = {
        name: _with_constants(a, count, known) if isinstance(a, Graph) else a
        for name, a in node.attrs.items()
    }
    if "captures" in attrs:
        attrs["captures"] = count - len(known)
    left = (n for k, n in enumerate(captured) if k not in known)
    return replace(node, inputs=(*own, *left), attrs=attrs)


def _with_constants(graph: Graph, count: int, known: dict[int, Array]) -> Graph:
    """The graph with some of its last `count` inputs as constants."""
    names = list(graph.inputs)[len(graph.inputs) - count :]
    values = {names[k]: value for k, value in known.items()}
    inputs = {n: t for n, t in graph.inputs.items() if n not in values}
    return replace(graph, inputs=inputs, constants={**graph.constants, **values})
