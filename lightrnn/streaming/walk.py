"""Follow time from a graph's inputs through its nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lightrnn.errors import DataError, GraphError
from lightrnn.graph import Array, Graph, TensorType
from lightrnn.ops import Operator, build
from lightrnn.streaming.counts import MAKERS, known_counts, shape_counts
from lightrnn.streaming.marks import RULES, Call, Kind, Mark, Problem, Span, Tensor
from lightrnn.streaming.recurrence import is_layer

_FEW = 4096
"""Elements of a result that is worth computing: lists of sizes, not tensors of zeros."""


@dataclass(frozen=True)
class Typed:
    """Types of all named tensors, and of all results of each node."""

    tensors: Mapping[str, TensorType]
    results: Sequence[Sequence[TensorType]]


def infer(graph: Graph, shapes: Mapping[str, tuple[int, ...]]) -> Typed:
    """Types for inputs of these shapes, with the values that follow from them.

    Raises GraphError, naming the node, where the shapes do not fit.
    """
    made = []
    types = {name: TensorType.of(array) for name, array in graph.constants.items()}
    types.update((n, TensorType(t.dtype, shapes[n])) for n, t in graph.inputs.items())
    for node in graph.nodes:
        operator = build(node)
        inputs = [types[n] if n else None for n in node.inputs]
        try:
            results = _results(operator, inputs)
        except (GraphError, DataError) as error:
            raise GraphError(f"{node}: {error}") from None
        made.append(results)
        types.update((n, t) for n, t in zip(node.outputs, results, strict=False) if n)
    return Typed(types, made)


def _results(operator: Operator, inputs: Sequence[TensorType | None]) -> Sequence[TensorType]:
    results = operator.infer(inputs)
    arrays: list[Array | None] = [None if t is None else t.value for t in inputs]
    if any(t is not None and t.value is None for t in inputs) or not inputs:
        return results
    if any(t.value is None and t.is_concrete and np.prod(t.sizes) > _FEW for t in results):
        return results
    with np.errstate(all="ignore"):
        return [TensorType.of(np.asarray(a)) for a in operator.evaluate(*arrays)]


def walk(
    graph: Graph, types: Typed, starts: Mapping[str, Mark], steps: int
) -> tuple[dict[str, Tensor], list[Problem]]:
    """What is known of every tensor, and every reason for which the graph is no stream.

    types: by `infer`. starts: marks of inputs, STATIC where there is none. steps: the size of time.
    """
    known = types.tensors
    tensors = {name: Tensor(known[name]) for name in graph.constants}
    tensors.update((n, Tensor(known[n], starts.get(n, Kind.STATIC))) for n in graph.inputs)
    problems: list[Problem] = []
    for node, results in zip(graph.nodes, types.results, strict=True):
        inputs = [tensors[n] if n else None for n in node.inputs]
        call = Call(node, build(node), inputs, results, steps, problems)
        tensors.update((n, t) for n, t in zip(node.outputs, _follow(call), strict=False) if n)
    return tensors, problems


def _follow(c: Call) -> list[Tensor]:
    if any(t is not None and t.mark is Kind.REFUSED for t in c.inputs):
        return [Tensor(t, Kind.REFUSED) for t in c.outputs]
    if c.node.op in ("Shape", "Size"):
        return [Tensor(c.outputs[0], Kind.STATIC, shape_counts(c))]
    if all(t.value is not None for t in c.outputs) and not _needs_rule(c):
        counts = known_counts(c)
        if counts is not None:
            return [Tensor(t, Kind.STATIC, m) for t, m in zip(c.outputs, counts, strict=False)]
        return [Tensor(t, Kind.REFUSED) for t in c.outputs]
    found = _marks(c)
    marks = [found] * len(c.outputs) if isinstance(found, Span | Kind) else found
    return [Tensor(t, mark) for t, mark in zip(c.outputs, marks, strict=False)]


def _needs_rule(c: Call) -> bool:
    """Whether a known result is a tensor along time nevertheless, such as zeros for each step."""
    if any(t is not None and not isinstance(t.mark, Kind) for t in c.inputs):
        return True
    shape = c.given(0 if c.node.op == "ConstantOfShape" else 1)
    return c.node.op in MAKERS and shape is not None and shape.counts is not None


def _marks(c: Call) -> Mark | Sequence[Mark]:
    given = [(k, t) for k, t in enumerate(c.inputs) if t is not None]
    kinds = [t.mark for _, t in given if isinstance(t.mark, Kind)]
    highest = max(kinds, default=Kind.STATIC)
    spans = any(t.span is not None for _, t in given)
    counted = {k for k, t in given if t.counts is not None}
    if not spans and not counted and not (is_layer(c.node) and _is_open(c)):
        return highest
    rule = RULES.get(c.node.op)
    if counted and (rule is None or not counted <= rule.counted):
        c.refuse("computes with the number of steps", whole=True)
        return Kind.REFUSED
    if rule is None or not all(rule.takes(k) for k, t in given if t.span is not None):
        c.refuse("is not known to treat every step alike", whole=True)
        return Kind.REFUSED
    if spans and not all(t.is_concrete for t in (*c.outputs, *(t.type for _, t in given))):
        c.refuse("makes or takes a tensor whose shape depends on values", whole=True)
        return Kind.REFUSED
    moments = [k for k, t in given if t.mark in (Kind.STATE, Kind.LAST) and k not in rule.moments]
    if spans and moments:
        c.refuse("joins what is known after a piece with every step of it")
    return rule.marks(c)


def _is_open(c: Call) -> bool:
    """Whether a layer reads an input of the graph at every step, though not along time."""
    x = c.given(0)
    return x is not None and x.mark is Kind.STATIC and x.type.value is None
