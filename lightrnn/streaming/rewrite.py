"""The graphs of a stream: hidden states of recurrent layers become inputs and outputs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from lightrnn.engine.prepare import fold, prune
from lightrnn.errors import GraphError, InputError, UnsupportedError
from lightrnn.graph import Array, Dim, Graph, Node, TensorType
from lightrnn.ops.recurrent import Recurrent
from lightrnn.record import replace
from lightrnn.streaming.marks import Kind, Problem, Tensor
from lightrnn.streaming.probe import Axes, dimension, examine, find, input_axes, layers
from lightrnn.streaming.recurrence import (
    holds_recurrence,
    is_layer,
    is_over_time,
    state_slots,
)

Slot: TypeAlias = tuple[int, int, TensorType]
"""A state of a layer: the input that holds it before, the output that holds it after, its type."""


@dataclass(frozen=True)
class Streamed:
    """A graph whose states are all inputs and outputs.

    first: for the first piece; its inputs are the model's own, its outputs also all states after
    the piece.
    later: for every other piece; its `states` pair all states' inputs with their outputs.
    inputs, outputs: the model's own, states apart; they come first in both graphs.
    fixed: axes of inputs whose sizes stay what they were in the first piece.
    """

    first: Graph
    later: Graph
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    fixed: Axes

    def zeros(self, shapes: Sequence[tuple[int, ...]]) -> list[Array]:
        """Zeros for the model's own states; sizes with names are those of inputs of these shapes.

        Raises InputError where a size is not known.
        """
        sizes: dict[Dim, Dim] = {}
        for name, shape in zip(self.inputs, shapes, strict=True):
            sizes.update(zip(self.first.inputs[name].shape or (), shape, strict=False))
        states = []
        for name in list(self.first.inputs)[len(self.inputs) :]:
            kind = self.first.inputs[name]
            dims = (None,) if kind.shape is None else kind.shape
            known = [d if isinstance(d, int) else sizes.get(d) for d in dims]
            found = [d for d in known if isinstance(d, int)]
            if len(found) < len(dims) or None in dims:
                raise InputError(
                    f"the size of state {name!r} is not known from the inputs: it is {kind}; "
                    "fix it when the model is converted (`--dim`, dims=)"
                )
            states.append(np.zeros(found, kind.dtype))
        return states

    def check(self, began: Sequence[tuple[int, ...]], shapes: Sequence[tuple[int, ...]]) -> None:
        """Raise InputError where a piece's shapes do not go with those of the first piece."""
        for name, before, now in zip(self.inputs, began, shapes, strict=True):
            for axis, (old, new) in enumerate(zip(before, now, strict=False)):
                if old != new and (name, axis) in self.fixed:
                    raise InputError(
                        f"input {name!r} has shape {now}, the stream began with {before}: only "
                        "the number of steps may change; reset() begins another sequence"
                    )


def streamed(graph: Graph, name: str) -> Streamed:
    """Let a graph run piece by piece, so that the pieces' results are those of the whole.

    name: what errors call the graph.

    Raises UnsupportedError, naming each node that is not local along time, where that cannot be.
    """
    names = tuple(graph.outputs)
    pruned = prune(fold(prune(graph, names)), names)
    recurrent = layers(pruned)
    if not recurrent and not graph.states:
        raise _refused(name, "it has no states to carry")
    own = _has_all_states(pruned, recurrent)
    axes, tensors = _checked(pruned, name, own=own)
    first, later = _with_states(pruned, {} if own else _hidden(recurrent, tensors))
    return Streamed(
        first,
        later,
        inputs=tuple(n for n in graph.inputs if n not in graph.states),
        outputs=tuple(n for n in graph.outputs if n not in graph.states.values()),
        fixed=_fixed(pruned, axes, own=own),
    )


def _refused(name: str, reason: str) -> UnsupportedError:
    return UnsupportedError(f"graph {name!r} runs as a whole only, by model.run:\n  {reason}")


def _has_all_states(graph: Graph, recurrent: Sequence[tuple[Node, Recurrent]]) -> bool:
    """Whether states of the graph's own reach all layers, and all nodes that hold others."""
    reached = _reached(graph, graph.states)
    return all(
        op.direction == "forward" and all(_input(node, k) in reached for k, _ in state_slots(op))
        for node, op in recurrent
    ) and all(reached.intersection(n.inputs) for n in graph.nodes if holds_recurrence(n))


def _input(node: Node, k: int) -> str:
    return node.inputs[k] if k < len(node.inputs) else ""


def _reached(graph: Graph, names: Mapping[str, str]) -> set[str]:
    """Tensors that depend on some of the names."""
    found = set(names)
    for node in graph.nodes:
        if found.intersection(node.inputs):
            found.update(o for o in node.outputs if o)
    return found


def _checked(graph: Graph, name: str, *, own: bool) -> tuple[Axes, Mapping[str, Tensor]]:
    """Time axes and all tensors of a graph that is a stream.

    own: whether all states are the model's own. Then what a piece is may be the model's own affair
    too, and only what no state can make good is refused.
    """
    if any(kind.shape is None for kind in graph.inputs.values()):
        if own:
            return frozenset(), {}
        raise _refused(name, "an input's rank is not known")
    tensors: Mapping[str, Tensor] = {}
    try:
        sizes, axes = find(graph)
        problems = _two_axes(axes)
        if axes and not problems:
            tensors, problems = examine(graph, sizes, axes)
    except GraphError as error:
        if own:
            return frozenset(), {}
        raise _refused(name, str(error)) from None
    if not own and not axes:
        node = next(n for n in graph.nodes if is_layer(n) or holds_recurrence(n))
        problems = [Problem(f"{node} runs over an axis that is not found to be an input's", True)]
    lines = dict.fromkeys(str(p) for p in problems if p.whole or not own)
    if lines:
        raise _refused(name, "\n  ".join(lines))
    return axes, tensors


def _two_axes(axes: Axes) -> list[Problem]:
    counts = Counter(name for name, _ in axes)
    twice = sorted(name for name, count in counts.items() if count > 1)
    return [Problem(f"input {name!r} has two axes that would be time", True) for name in twice]


def _hidden(
    recurrent: Sequence[tuple[Node, Recurrent]], tensors: Mapping[str, Tensor]
) -> dict[int, list[Slot]]:
    """The states that layers over time do not expose, by the id of the node."""
    found = {}
    for node, op in recurrent:
        if is_over_time(op, tensors[node.inputs[0]].span):
            kinds = op.infer([tensors[n].type if n else None for n in node.inputs])
            found[id(node)] = [
                (k, out, _any_batch(kinds[out], 0 if op.layout else 1))
                for k, out in state_slots(op)
                if (given := tensors.get(_input(node, k))) is None or given.mark is not Kind.STATE
            ]
    return found


def _any_batch(kind: TensorType, axis: int) -> TensorType:
    shape = tuple(None if k == axis else d for k, d in enumerate(kind.sizes))
    return TensorType(kind.dtype, shape)


def _with_states(graph: Graph, hidden: Mapping[int, Sequence[Slot]]) -> tuple[Graph, Graph]:
    """The graphs for the first piece and for later ones, what is the caller's first in both."""
    states = dict(graph.states)
    inputs = _ordered(graph.inputs, states)
    outputs = _ordered(graph.outputs, states.values())
    begins = replace(graph, inputs=dict(inputs))
    taken = {*inputs, *graph.constants, *(o for node in graph.nodes for o in node.outputs)}
    first, later = [], []
    for node in graph.nodes:
        given, made = list(node.inputs), list(node.outputs)
        for k, out, kind in hidden.get(id(node), ()):
            given += [""] * (k + 1 - len(given))
            made += [""] * (out + 1 - len(made))
            given[k] = _fresh(f"{node.outputs[0]}.before.{out}", taken)
            made[out] = made[out] or _fresh(f"{node.outputs[0]}.after.{out}", taken)
            states[given[k]] = made[out]
            inputs[given[k]] = kind
            outputs.setdefault(made[out], kind)
        exposed = replace(node, outputs=tuple(made))
        first.append(exposed)
        later.append(replace(exposed, inputs=tuple(given)))
    return (
        replace(begins, outputs=outputs, nodes=tuple(first)),
        replace(graph, inputs=inputs, outputs=outputs, nodes=tuple(later), states=states),
    )


def _ordered(types: Mapping[str, TensorType], last: Collection[str]) -> dict[str, TensorType]:
    """The types with those of the names in `last` at the end."""
    first = {n: t for n, t in types.items() if n not in last}
    return {**first, **{n: types[n] for n in last}}


def _fresh(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "'"
    taken.add(name)
    return name


def _fixed(graph: Graph, axes: Axes, *, own: bool) -> Axes:
    """Axes of inputs that keep their size: all but time, or those as long as a state's."""
    given = [a for a in input_axes(graph) if a[0] not in graph.states]
    if not own:
        return frozenset(a for a in given if a not in axes)
    held = {d for name in graph.states for d in graph.inputs[name].shape or ()}
    return frozenset(a for a in given if dimension(graph, *a) in held)
