"""If, Loop and Scan in the engine: their graphs are prepared once, and bound by shape."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from lightrnn.graph import Array, Graph, Node, TensorType
from lightrnn.ops import Operator
from lightrnn.ops.control import Control
from lightrnn.ops.registry import Types
from lightrnn.record import Record, replace

if TYPE_CHECKING:
    from lightrnn.engine.prepare import Prepared


class PreparedBody(Record):
    """A graph inside a node, without the inputs that are constants around it.

    kept: the places of the inputs that are left.
    """

    prepared: Prepared
    kept: tuple[int, ...]


class PreparedControl(Operator, eq=False):
    """A control operator and its graphs, prepared; it is always a host step."""

    operator: Control
    bodies: Sequence[PreparedBody]

    holds_graphs = True

    @property
    def name(self) -> str:  # type: ignore[override]
        return self.operator.name

    @property
    def kinds(self) -> str:  # type: ignore[override]
        return self.operator.kinds

    def infer(self, inputs: Types) -> tuple[TensorType, ...]:
        return self.operator.infer(inputs)

    def evaluate(self, *inputs: Array | None) -> tuple[Array, ...]:
        return self.operator.evaluate(*inputs)

    def run(
        self,
        run: Callable[[Prepared, Sequence[Array]], list[Array]],
        inputs: Sequence[Array | None],
    ) -> tuple[Array, ...]:
        """All outputs. run: runs a prepared graph."""

        def ready(body: PreparedBody) -> Callable[[Sequence[Array]], list[Array]]:
            return lambda arrays: run(body.prepared, [arrays[k] for k in body.kept])

        return self.operator.run([ready(body) for body in self.bodies], inputs)


def specialized(
    graph: Graph, node: Node, count: int, constants: Mapping[str, Array]
) -> tuple[Graph, tuple[int, ...]]:
    """A graph that `node` holds, with what it captures of `constants` as its own, and the places of
    the inputs that are left.

    count: how many of the node's inputs are captured.
    """
    names, first = list(graph.inputs), len(graph.inputs) - count
    captured = node.inputs[len(node.inputs) - count :]
    known = {first + k: constants[name] for k, name in enumerate(captured) if name in constants}
    values = {names[k]: value for k, value in known.items()}
    inputs = {name: kind for name, kind in graph.inputs.items() if name not in values}
    kept = tuple(k for k in range(len(names)) if k not in known)
    return replace(graph, inputs=inputs, constants={**graph.constants, **values}), kept
