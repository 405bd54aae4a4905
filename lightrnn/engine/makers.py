"""Looking backward through the steps of a graph: who makes a tensor that nobody else reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from lightrnn.errors import GraphError
from lightrnn.graph import Graph, Node, TensorType
from lightrnn.graph.check import check
from lightrnn.ops import Operator, build

Step = tuple[Node, Operator]


class Makers:
    """The steps of a graph by what they make."""

    def __init__(self, steps: Sequence[Step], graph: Graph) -> None:
        self.graph = graph
        self._makers = {o: step for step in steps for o in step[0].outputs if o}
        self._readers = Counter(name for node, _ in steps for name in node.inputs)
        self._readers.update(list(graph.outputs))

    def step(self, name: str) -> Step | None:
        """The step that makes a tensor."""
        return self._makers.get(name)

    def only(self, name: str, *ops: str, readers: int = 1) -> Node | None:
        """The node, of one of these operators, that makes a tensor with so many readers in all."""
        node, operator = self._makers.get(name, (None, None))
        fits = operator is not None and operator.name in ops and self._readers[name] == readers
        return node if fits else None


def types_of(graph: Graph) -> Mapping[str, TensorType]:
    """What is known of every tensor; nothing where a graph is the rest of another."""
    try:
        return check(graph, build)
    except GraphError:
        return {}
