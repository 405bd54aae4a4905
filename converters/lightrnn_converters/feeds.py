"""Inputs to try a graph on: random, of the right type and shape, integers within range."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from lightrnn.errors import GraphError
from lightrnn.graph import Array, Dim, Graph, Shape, TensorType
from lightrnn.graph.check import check
from lightrnn.ops import build
from lightrnn.record import replace

_LENGTHS_SLOT = 4
_CARRIES = frozenset({
    "Identity", "Cast", "Squeeze", "Unsqueeze", "Reshape", "Transpose", "Flatten", "Slice",
    "Gather", "Expand", "Split", "Concat", "Max",
})  # fmt: skip
"""Operators whose results hold nothing but elements of their data inputs."""

Dimension: TypeAlias = str | tuple[str, int]
"""A size that may vary: its name, or the input and axis that have it."""

MOST_TRIED = 200
"""How many sizes are tried for all inputs together."""

MOST_ELEMENTS = 2**22
"""How many elements inputs may have to be tried."""

MOST_BETWEEN = 2**23
"""How many elements any tensor may have that depends on them."""

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
    """Shapes for all inputs in which dimensions of equal names are equal and others are not.

    Sizes are `first` and up, or, where no node takes that one, a size that occurs in a constant.
    Raises GraphError where no sizes are found.
    """
    free = list(dict.fromkeys(
        _key(name, axis, dim)
        for name, kind in graph.inputs.items()
        for axis, dim in enumerate(_ranked(name, kind))
        if not isinstance(dim, int)
    ))  # fmt: skip
    usual = {key: first + step * k for k, key in enumerate(free)}
    if _fits(graph, usual):
        return _shapes(graph, usual)
    left = itertools.count(MOST_TRIED, -1)

    def search(sizes: dict[Dimension, int]) -> dict[Dimension, int] | None:
        if len(sizes) == len(free):
            return sizes
        key = free[len(sizes)]
        for size in dict.fromkeys((usual[key], *others)):
            trial = {**sizes, key: size}
            if next(left) > 0 and _fits(graph, trial):
                found = search(trial)
                if found is not None:
                    return found
        return None

    others = _sizes_of_constants(graph)
    found = search({}) if free else None
    if found is None:
        raise GraphError("no sizes of its inputs are found that all nodes take: pass feeds")
    return _shapes(graph, found)


def _ranked(name: str, kind: TensorType) -> Shape:
    if kind.shape is None:
        raise GraphError(f"the rank of input {name!r} is not known: pass feeds")
    return kind.shape


def _key(name: str, axis: int, dim: Dim) -> Dimension:
    return dim if isinstance(dim, str) else (name, axis)


def _with_sizes(graph: Graph, sizes: Mapping[Dimension, int]) -> dict[str, TensorType]:
    """Types of the inputs, with these sizes."""
    types = {}
    for name, kind in graph.inputs.items():
        shape = tuple(
            d if isinstance(d, int) else sizes.get(_key(name, k, d), d)
            for k, d in enumerate(_ranked(name, kind))
        )
        types[name] = replace(kind, shape=shape)
    return types


def _shapes(graph: Graph, sizes: Mapping[Dimension, int]) -> dict[str, tuple[int, ...]]:
    return {name: kind.sizes for name, kind in _with_sizes(graph, sizes).items()}


def _fits(graph: Graph, sizes: Mapping[Dimension, int]) -> bool:
    """Whether all nodes may take inputs of these sizes, and the inputs are of a sensible size."""
    types = _with_sizes(graph, sizes)
    if sum(map(_elements, types.values())) > MOST_ELEMENTS:
        return False
    try:
        found = check(replace(graph, inputs=types), build)
    except GraphError:
        return False
    return all(
        _elements(kind) <= MOST_BETWEEN
        for name, kind in found.items()
        if name not in graph.constants
    )


def _elements(kind: TensorType) -> int:
    return math.prod(d for d in kind.shape or () if isinstance(d, int))


def _sizes_of_constants(graph: Graph) -> tuple[int, ...]:
    """Sizes that a model may demand: those of its weights, and those in its lists of sizes."""
    found: set[int] = set()
    for value in graph.constants.values():
        found.update(value.shape)
        if value.dtype.kind == "i" and value.size <= 16:
            found.update(int(v) for v in value.flat)
    return tuple(sorted(size for size in found if 1 < size <= 4096))


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
