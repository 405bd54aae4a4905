"""Branches that the shapes of a graph's inputs decide, put in place of the If nodes around them."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from lightrnn.engine.interpret import evaluate_operator
from lightrnn.errors import GraphError
from lightrnn.graph import Array, Graph, Node, TensorType
from lightrnn.graph.check import infer
from lightrnn.ops import build
from lightrnn.ops.control import Control, If
from lightrnn.record import replace


@dataclass
class Decisions:
    """A graph read once for inputs of known shapes.

    taken: what decided conditions are, in the order in which they are met.
    own: names of the branches' constants.
    """

    graph: Graph
    taken: list[bool] = field(default_factory=list)
    own: set[str] = field(default_factory=set)
    _types: dict[str, TensorType] = field(default_factory=dict)
    _constants: dict[str, Array] = field(default_factory=dict)
    _nodes: list[Node] = field(default_factory=list)

    @staticmethod
    def of(graph: Graph, shapes: Sequence[tuple[int, ...]]) -> Decisions:
        """Decide what these input shapes decide."""
        made = Decisions(graph, _constants=dict(graph.constants))
        kinds = zip(graph.inputs.items(), shapes, strict=True)
        made._types = {name: TensorType(kind.dtype, shape) for (name, kind), shape in kinds}
        left = deque(graph.nodes)
        while left:
            node = left.popleft()
            branch = made._decided(node)
            if branch is None:
                made._infer(node)
                made._nodes.append(node)
            else:
                left.extendleft(reversed(made._unfolded(node, branch)))
        made.graph = replace(graph, nodes=tuple(made._nodes), constants=made._constants)
        return made

    def _type(self, name: str) -> TensorType | None:
        if name in self._constants:
            return TensorType.of(self._constants[name])
        return self._types.get(name)

    def _decided(self, node: Node) -> Graph | None:
        """The branch that an If takes; None where that is not known, and for other nodes."""
        condition = self._type(node.inputs[0]) if node.op == "If" else None
        if condition is None or condition.value is None or condition.value.size != 1:
            return None
        operator = build(node)
        assert isinstance(operator, If)
        self.taken.append(bool(condition.value.item()))
        return operator.then_branch if self.taken[-1] else operator.else_branch

    def _infer(self, node: Node) -> None:
        """Note the types of a node's outputs, and their values where those are known."""
        operator = build(node)
        kinds = [self._type(name) if name else None for name in node.inputs]
        if any(name and kind is None for name, kind in zip(node.inputs, kinds, strict=True)):
            return
        try:
            types = infer(node, operator, kinds)
            known = all(t is None or t.value is not None for t in kinds)
            if known and not isinstance(operator, Control):
                values = evaluate_operator(
                    node, operator, (None if t is None else t.value for t in kinds)
                )
                types = tuple(TensorType.of(v) for v in values)
        except GraphError:
            return  # binding raises it again
        self._types.update((n, t) for n, t in zip(node.outputs, types, strict=False) if n)

    def _prefix(self, name: str) -> str:
        """What no name begins with."""
        prefix = f"{name}/"
        while any(n.startswith(prefix) for n in (*self._types, *self._constants)):
            prefix += "/"
        return prefix

    def _unfolded(self, node: Node, branch: Graph) -> list[Node]:
        """The nodes of a branch, under names of their own, then its outputs under the node's."""
        names = dict(zip(branch.inputs, node.inputs[1:], strict=True))
        prefix = self._prefix(next(o for o in node.outputs if o))
        for name, value in branch.constants.items():
            names[name] = prefix + name
            self._constants[names[name]] = value
            self.own.add(names[name])
        inner = []
        for one in branch.nodes:
            names.update((o, prefix + o) for o in one.outputs if o)
            inputs = tuple(names[i] if i else "" for i in one.inputs)
            outputs = tuple(names[o] if o else "" for o in one.outputs)
            inner.append(replace(one, inputs=inputs, outputs=outputs))
        results = zip(branch.outputs, node.outputs, strict=False)
        copies = (Node("Identity", (names[r],), (o,), {}, node.origin) for r, o in results if o)
        return [*inner, *copies]
