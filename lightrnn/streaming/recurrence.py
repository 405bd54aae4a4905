"""Time through recurrent layers, and the states that they need to have carried."""

from __future__ import annotations

from collections.abc import Sequence

from lightrnn.graph import Graph, Node
from lightrnn.ops.recurrent import Recurrent
from lightrnn.streaming.marks import Call, Kind, Mark, Span, rule

OPERATORS = ("RNN", "GRU", "LSTM")
STATES = (("initial_h", 1), ("initial_c", 2))
"""Inputs that hold a state before the first step, and the output that holds it after the last."""


def slot(operator: Recurrent, name: str) -> int:
    """The place of an input of this name."""
    return operator.inputs.names.index(name)


def state_slots(operator: Recurrent) -> list[tuple[int, int]]:
    """(input, output) of each state of a layer."""
    return [(slot(operator, name), out) for name, out in STATES[: operator.states]]


def is_over_time(operator: Recurrent, span: Span | None) -> bool:
    """Whether a layer whose X has its time there steps along it."""
    return span is not None and span.axis == operator.layout


@rule(*OPERATORS, along=(0, 4, 5, 6), counted=(4,), moments=(5, 6))
def _recurrent(c: Call) -> Sequence[Mark]:
    op, span = c.operator, c.span()
    if span is None:
        c.refuse("runs over an axis that is not found to be an input's")
        return [Kind.REFUSED] * 3
    if span.axis == 2:
        c.refuse("sums over time", whole=True)
        return [Kind.REFUSED] * 3
    if not is_over_time(op, span):
        return _side_by_side(c, span)
    _check_direction(c)
    _check_lengths(c)
    if not span.plain:
        c.refuse("runs over time and another axis in one", whole=True)
    for k, _ in state_slots(op):
        state = c.given(k)
        if state is not None and state.mark not in (Kind.STATIC, Kind.STATE, Kind.REFUSED):
            c.refuse(f"takes its {op.inputs.names[k]} from the steps", whole=True)
    return [Span(op.layout), Kind.LAST, Kind.LAST]


def _check_direction(c: Call) -> None:
    if c.operator.direction != "forward":
        c.refuse(f"is {c.operator.direction}: it begins at the end of the sequence", whole=True)


def _check_lengths(c: Call) -> None:
    """Lengths are of whole sequences; only those that say "all of this piece" can be met."""
    k = slot(c.operator, "sequence_lens")
    numbers = c.values(k)
    if c.given(k) is None:
        return
    if numbers is None or not all(c.counted(k)) or any(n != c.steps for n in numbers):
        c.refuse("takes sequence_lens, the lengths of whole sequences")


def _side_by_side(c: Call, span: Span) -> Sequence[Mark]:
    """A layer that runs within each step, the steps being rows of its batch."""
    op = c.operator
    rows = Span(0, span.outer, span.inner)
    if (lengths := c.given(slot(op, "sequence_lens"))) is not None and lengths.mark != rows:
        c.refuse("takes sequence_lens by position")
    state = rows.at(0 if op.layout else 1)
    for k, _ in state_slots(op):
        initial = c.given(k)
        if initial is not None and initial.mark != state:
            c.refuse(f"takes its {op.inputs.names[k]} by position")
    return [rows.at(0 if op.layout else 2), state, state]


def is_layer(node: Node) -> bool:
    """Whether a node is a recurrent layer."""
    return node.op in OPERATORS


def holds_recurrence(node: Node) -> bool:
    """Whether a node that holds graphs repeats them, or has recurrent layers in them."""
    graphs = [value for value in node.attrs.values() if isinstance(value, Graph)]
    inner = [n for graph in graphs for n in graph.nodes]
    return bool(graphs) and (
        node.op in ("Loop", "Scan") or any(is_layer(n) or holds_recurrence(n) for n in inner)
    )
