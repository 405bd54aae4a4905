"""Inputs to try a graph on: random, of the right type and shape, integers within range."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from lightrnn.errors import GraphError
from lightrnn.graph import Array, Graph, TensorType
from lightrnn.graph.check import check
from lightrnn.ops import build

_LENGTHS_SLOT = 4
_CARRIES = frozenset({
    "Identity", "Cast", "Squeeze", "Unsqueeze", "Reshape", "Transpose", "Flatten", "Slice",
    "Gather", "Expand", "Split", "Concat", "Max",
})  # fmt: skip
"""Operators whose results hold nothing but elements of their data inputs."""

SIZES = ((3, 1), (6, 2), (1, 0))
"""Sizes to try for dimensions of no fixed size: the first one's, and the step to each next."""

LARGE_SIZES = ((64, 8), (512, 64), (576, 0))
"""Sizes to try where a model runs at none of `SIZES`."""


@dataclass(frozen=True)
class Limits:
    """The integers that an input may hold: from `low` below `high`.

    time: an input and an axis whose size is the largest value, in place of `high`.
    """

    low: int = 0
    high: int | None = None
    time: tuple[str, int] | None = None


def shapes(graph: Graph, first: int, step: int) -> dict[str, tuple[int, ...]]:
    """Shapes for all inputs in which dimensions of equal names are equal and others are not."""
    sizes: dict[object, int] = {}
    found = {}
    for name, kind in graph.inputs.items():
        if kind.shape is None:
            raise GraphError(f"the rank of input {name!r} is not known: pass feeds")
        shape = []
        for axis, dim in enumerate(kind.shape):
            if isinstance(dim, int):
                shape.append(dim)
            else:
                key = dim if dim is not None else (name, axis)
                shape.append(sizes.setdefault(key, first + step * len(sizes)))
        found[name] = tuple(shape)
    return found


def fill(
    graph: Graph,
    given: Mapping[str, tuple[int, ...]],
    rng: np.random.Generator,
    examples: Mapping[str, Array] | None = None,
) -> dict[str, Array]:
    """Random inputs of the given shapes.

    Floats are standard normal; truth values are false at the start of each row; integers lie where
    the graph can use them: below the size of what they index, within 1 and the number of steps
    for lengths, else from 0 to the largest of `examples`, else from 1 to the smallest free size.
    """
    limits = integer_limits(graph)
    free = [
        size
        for name, kind in graph.inputs.items()
        for dim, size in zip(kind.shape or (), given[name], strict=True)
        if not isinstance(dim, int)
    ]
    feeds = {}
    for name, kind in graph.inputs.items():
        example = None if examples is None else examples.get(name)
        if kind.dtype.kind in "iu":
            low, high = _range(limits.get(name), given, example, min(free, default=1))
            feeds[name] = rng.integers(low, high, given[name], kind.dtype)
        else:
            feeds[name] = _random(kind, given[name], rng)
    return feeds


def _random(kind: TensorType, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    if kind.dtype.kind == "b":
        values = rng.random(shape) < 0.3
        if shape:
            values[..., :1] = False
        return np.asarray(values)
    return np.asarray(rng.standard_normal(shape), kind.dtype)


def _range(
    limits: Limits | None,
    given: Mapping[str, tuple[int, ...]],
    example: Array | None,
    smallest: int,
) -> tuple[int, int]:
    if limits is not None and limits.time is not None:
        name, axis = limits.time
        return 1, given[name][axis] + 1
    if example is not None and example.size:
        high = int(example.max()) + 1
        return min(0, int(example.min())), max(high, 1)
    if limits is not None and limits.high is not None:
        return limits.low, limits.high
    return 1, max(smallest, 1) + 1


def integer_limits(graph: Graph) -> dict[str, Limits]:
    """What is known of the range of each integer input, from the nodes that use it."""
    types = check(graph, build)
    found = {}
    for name, kind in graph.inputs.items():
        if kind.dtype.kind in "iu":
            uses = list(_uses(graph, name, types))
            times = [u for u in uses if u.time is not None]
            highs = [u.high for u in uses if u.high is not None]
            if times:
                found[name] = times[0]
            elif highs:
                found[name] = Limits(0, min(highs))
    return found


def _uses(graph: Graph, name: str, types: Mapping[str, TensorType]) -> Iterator[Limits]:
    """Limits by every node that the elements of input `name` reach unchanged."""
    carried = {name}
    for node in graph.nodes:
        slots = [k for k, i in enumerate(node.inputs) if i in carried]
        if not slots:
            continue
        if node.op in ("Gather", "GatherElements") and slots[0] == 1:
            high = _indexed(graph, node.inputs[0], int(node.attrs.get("axis", 0)), types)  # type: ignore[arg-type]
            if high is not None:
                yield Limits(0, high)
        elif node.op in ("RNN", "GRU", "LSTM") and slots == [_LENGTHS_SLOT]:
            axis = 1 if node.attrs.get("layout", 0) else 0
            yield from _steps(graph, types.get(node.inputs[0]), axis)
        elif node.op in _CARRIES and (slots[0] == 0 or node.op in ("Concat", "Max")):
            carried.update(o for o in node.outputs if o)


def _indexed(graph: Graph, data: str, axis: int, types: Mapping[str, TensorType]) -> int | None:
    shape = graph.constants[data].shape if data in graph.constants else None
    if shape is None and data in types:
        sizes = types[data].shape or ()
        size = sizes[axis] if -len(sizes) <= axis < len(sizes) else None
        return size if isinstance(size, int) else None
    return None if shape is None else shape[axis]


def _steps(graph: Graph, kind: TensorType | None, axis: int) -> Iterator[Limits]:
    size = kind.shape[axis] if kind is not None and kind.shape else None
    if isinstance(size, int):
        yield Limits(1, size + 1)
    elif size is not None:
        for name, given in graph.inputs.items():
            for k, dim in enumerate(given.shape or ()):
                if dim == size:
                    yield Limits(1, time=(name, k))
                    return
