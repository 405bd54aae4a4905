"""Find the node at which a model begins to differ from its reference."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from lightrnn.format import ModelFile, dumps
from lightrnn.graph import Array, Graph, Node
from lightrnn.graph.check import check
from lightrnn.model import Model
from lightrnn.ops import build
from lightrnn.record import replace
from lightrnn_converters.report import ATOL, RTOL, OutputReport, compare
from lightrnn_converters.save import PRODUCER

Feeds: TypeAlias = Mapping[str, Array]
Tensors: TypeAlias = Callable[[Feeds, Sequence[str]], Mapping[str, Array]]
"""Values of tensors inside a reference, for its inputs: those of the names that it knows."""


@dataclass(frozen=True)
class Bisection:
    """The first node, in the graph's order, whose result differs; None where none does.

    output: how it differs. constants: those of its constants that differ too.
    unseen: nodes that it depends on whose results the reference has under no name; if there are
    any, one of them may be at fault instead.
    compared: results compared until then. total: results of all nodes.
    """

    node: Node | None
    output: OutputReport | None
    constants: tuple[OutputReport, ...]
    unseen: tuple[Node, ...]
    compared: int
    total: int

    def __str__(self) -> str:
        if self.node is None:
            return (
                f"no node differs by itself: {self.compared} of {self.total} results have a name "
                "in the reference"
            )
        nodes = ", ".join(map(str, (*self.unseen, self.node)))
        found = f"one of {nodes}" if self.unseen else nodes
        lines = [f"the first node that differs is {found}", f"  output {self.output}"]
        return "\n".join([*lines, *(f"  constant {report}" for report in self.constants)])


def bisect(
    model: Model,
    name: str,
    feeds: Feeds,
    tensors: Tensors,
    rtol: float = RTOL,
    atol: float = ATOL,
) -> Bisection:
    """Compare the results of a graph's nodes, one after the other, until one differs.

    Each is computed by itself, so that what the engine does with its node is what it does in the
    whole model. Tensors are matched by name. rtol, atol: as `report.compare` takes them.
    """
    graph = model.graph(name)
    results = [(node, output) for node in graph.nodes for output in node.outputs if output]
    wanted = tensors(feeds, [output for _, output in results])
    exposed = _with_outputs(graph, [n for _, n in results if n in wanted], model.encodings)
    given = {n: feeds[n] for n in graph.inputs}
    compared = 0
    for node, result in results:
        if result in wanted:
            found = exposed.run(given, outputs=[result])
            (report,) = compare(found, {result: wanted[result]}, rtol, atol)
            compared += 1
            if not report.passed:
                constants = tuple(_constants(graph, node, feeds, tensors, rtol, atol))
                unseen = tuple(_unseen(graph, node, wanted))
                return Bisection(node, report, constants, unseen, compared, len(results))
    return Bisection(None, None, (), (), compared, len(results))


def _with_outputs(graph: Graph, names: Sequence[str], encodings: Mapping[str, str]) -> Model:
    """The graph as a model that gives these tensors."""
    types = check(graph, build)
    outputs = {name: replace(types[name], value=None) for name in names}
    shown = replace(graph, outputs=outputs or graph.outputs, states={})
    kept = {name: kind for name, kind in encodings.items() if name in graph.constants}
    return Model(dumps(ModelFile({"main": shown}, None, {}, PRODUCER, kept)))


def _constants(
    graph: Graph, node: Node, feeds: Feeds, tensors: Tensors, rtol: float, atol: float
) -> Iterator[OutputReport]:
    """The constants of a node that differ from the tensors of their names."""
    own = {name: graph.constants[name] for name in node.inputs if name in graph.constants}
    wanted = tensors(feeds, list(own))
    for report in compare(own, {n: v for n, v in wanted.items() if n in own}, rtol, atol):
        if not report.passed:
            yield report


def _unseen(graph: Graph, node: Node, known: Mapping[str, Any]) -> list[Node]:
    """Nodes that a node depends on through tensors which nobody compared."""
    open_names, found = set(node.inputs), []
    for earlier in reversed(graph.nodes):
        hidden = open_names.intersection(earlier.outputs) - known.keys()
        if any(hidden):
            found.append(earlier)
            open_names.update(earlier.inputs)
    return found[::-1]
