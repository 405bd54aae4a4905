"""Graphs whose state a torch module kept in its attributes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from lightrnn.errors import VerificationError
from lightrnn.graph import Array, Graph
from lightrnn.model import Model
from lightrnn.record import replace
from lightrnn_converters.report import OutputReport, Report, compare
from lightrnn_converters.save import to_bytes
from lightrnn_converters.simplify import simplify
from lightrnn_converters.torch_reference import TorchReference

_STEPS = 3
"""How many calls in a row are compared."""

Feeds = Mapping[str, Array]


def without_idle_states(graph: Graph, names: Sequence[str]) -> Graph:
    """The graph without those of its states that nothing but themselves is computed from."""
    read = {
        name
        for node in graph.nodes
        for name in node.inputs
        if not (node.op == "Identity" and node.outputs[0] == graph.states.get(name))
    }
    idle = {name for name in names if name not in read}
    gone = {graph.states[name] for name in idle}
    return simplify(
        replace(
            graph,
            inputs={n: t for n, t in graph.inputs.items() if n not in idle},
            outputs={n: t for n, t in graph.outputs.items() if n not in gone},
            states={n: o for n, o in graph.states.items() if n not in idle},
        )
    )


def require_agreement_in_a_row(graph: Graph, reference: TorchReference, feeds: Feeds) -> None:
    """Raise VerificationError unless a module called several times gives what its graph gives.

    reference: the module itself, which carries its state. feeds: inputs of the graph; what they
    hold of its state is not used, since that starts as zeros.
    """
    report = Report(tuple(_compared(graph, reference, [feeds] * _STEPS)))
    if not report.passed:
        lines = "\n  ".join(str(o) for o in report.failures)
        raise VerificationError(
            "the module keeps more from call to call than tensors in its attributes, or they do "
            f"not start as zeros; {_STEPS} calls in a row differ:\n  {lines}",
            report,
        )


def _compared(
    graph: Graph, reference: TorchReference, calls: Sequence[Feeds]
) -> Iterator[OutputReport]:
    model = Model(to_bytes(graph))
    own = {n: output for n, output in graph.states.items() if n not in reference.inputs}
    states = {n: np.zeros_like(calls[0][n]) for n in own}
    for feeds, wanted in zip(calls, reference.in_a_row(calls), strict=True):
        found = model.run({**{n: feeds[n] for n in graph.inputs}, **states})
        states = {name: found[output] for name, output in own.items()}
        yield from compare({n: found[n] for n in wanted}, wanted)
