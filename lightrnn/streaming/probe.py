"""Find the time axes of a graph's inputs, and check the graph at sizes made for it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import count
from typing import TypeAlias

from lightrnn.errors import GraphError
from lightrnn.graph import Graph, Node
from lightrnn.ops import build
from lightrnn.ops.recurrent import Recurrent
from lightrnn.streaming.marks import Kind, Mark, Problem, Span, Tensor
from lightrnn.streaming.recurrence import is_layer, is_over_time
from lightrnn.streaming.walk import infer, walk

Dimension: TypeAlias = str | tuple[str, int]
"""A size that may vary: its name, or the input and axis of one without a name."""
Axes: TypeAlias = frozenset[tuple[str, int]]
"""Axes of inputs."""

STEPS = (5, 8191)
"""Numbers of steps to check a graph at: so far apart that a limit between them shows."""


def dimension(graph: Graph, name: str, axis: int) -> Dimension | int:
    """What an axis of an input is as long as."""
    size = (graph.inputs[name].shape or ())[axis]
    return (name, axis) if size is None else size


def input_axes(graph: Graph) -> list[tuple[str, int]]:
    """All axes of all inputs, states too."""
    return [(n, k) for n, t in graph.inputs.items() for k in range(len(t.shape or ()))]


def _primes() -> Iterator[int]:
    return (n for n in count(3) if all(n % k for k in range(2, int(n**0.5) + 1)))


def sizings(graph: Graph) -> Iterator[dict[Dimension, int]]:
    """Sizes to try for the dimensions that vary, equal where nothing else works.

    First all different; then the unnamed ones equal but one; then all 1 but one.
    """
    dims = dict.fromkeys(dimension(graph, *a) for a in input_axes(graph))
    free = [d for d in dims if not isinstance(d, int)]
    different = dict(zip(free, _primes(), strict=False))
    yield different
    for chosen in free:
        if not isinstance(chosen, str):
            yield {d: 3 if d != chosen and not isinstance(d, str) else different[d] for d in free}
    for chosen in free:
        yield {d: 5 if d == chosen else 1 for d in free}


def shapes(graph: Graph, sizes: Mapping[Dimension, int]) -> dict[str, tuple[int, ...]]:
    """Shapes of all inputs at the sizes given."""
    found: dict[str, tuple[int, ...]] = {}
    for name, kind in graph.inputs.items():
        dims = (dimension(graph, name, k) for k in range(len(kind.shape or ())))
        found[name] = tuple(d if isinstance(d, int) else sizes[d] for d in dims)
    return found


def layers(graph: Graph) -> list[tuple[Node, Recurrent]]:
    """The recurrent layers of a graph."""
    found = []
    for node in graph.nodes:
        operator = build(node) if is_layer(node) else None
        if isinstance(operator, Recurrent):
            found.append((node, operator))
    return found


def time_axes(graph: Graph, sizes: Mapping[Dimension, int]) -> Axes:
    """The axes of inputs, states apart, that reach the axis some recurrent layer steps along.

    Axes of the same name are time too. Raises GraphError where the sizes do not fit.
    """
    given = shapes(graph, sizes)
    types = infer(graph, given)
    axes = [a for a in input_axes(graph) if a[0] not in graph.states]
    found = set()
    for name, axis in axes:
        size = given[name][axis]
        if size == 1 and not isinstance(dimension(graph, name, axis), int):
            continue
        tensors, _ = walk(graph, types, {name: Span(axis)}, size)
        spans = ((op, tensors[node.inputs[0]].span) for node, op in layers(graph))
        if any(span is not None and span.plain and is_over_time(op, span) for op, span in spans):
            found.add((name, axis))
    names = {d for a in found if isinstance(d := dimension(graph, *a), str)}
    return frozenset(a for a in axes if a in found or dimension(graph, *a) in names)


def find(graph: Graph) -> tuple[dict[Dimension, int], Axes]:
    """Sizes at which the graph can be checked, and its inputs' time axes; none if none is found.

    Raises GraphError where no sizes fit.
    """
    failure: GraphError | None = None
    fits: dict[Dimension, int] | None = None
    for sizes in sizings(graph):
        try:
            axes = time_axes(graph, sizes)
        except GraphError as error:
            failure = failure or error
            continue
        fits = fits or sizes
        if axes:
            return sizes, axes
    if fits is None:
        assert failure is not None
        raise failure
    return fits, frozenset()


def examine(
    graph: Graph, sizes: Mapping[Dimension, int], axes: Axes
) -> tuple[dict[str, Tensor], list[Problem]]:
    """What is known of every tensor when time is on these axes, and why it is no stream.

    Raises GraphError where the graph does not take another number of steps.
    """
    starts: dict[str, Mark] = dict.fromkeys(graph.states, Kind.STATE)
    starts.update((name, Span(axis)) for name, axis in axes)
    time = {dimension(graph, *a) for a in axes}
    results = []
    for steps in STEPS:
        tried = {d: steps if d in time else size for d, size in sizes.items()}
        given = shapes(graph, tried)
        size = max(given[name][axis] for name, axis in axes)
        tensors, problems = walk(graph, infer(graph, given), starts, size)
        problems += _output_problems(graph, tensors)
        if problems:
            return tensors, problems
        results.append(tensors)
    return results[0], list(_differences(graph, *results))


def _output_problems(graph: Graph, tensors: Mapping[str, Tensor]) -> list[Problem]:
    found = []
    for name in graph.outputs:
        tensor = tensors[name]
        if tensor.counts is not None:
            found.append(Problem(f"output {name!r} counts the steps", True))
        if name in graph.states.values() and tensor.span is not None:
            found.append(Problem(f"state {name!r} is along time", False))
    return found


def _differences(
    graph: Graph, few: Mapping[str, Tensor], many: Mapping[str, Tensor]
) -> Iterable[Problem]:
    for node in graph.nodes:
        if any(n and few[n].mark != many[n].mark for n in node.outputs):
            yield Problem(f"{node} depends on the number of steps", True)
