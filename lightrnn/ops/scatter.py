"""Updates by index: ScatterElements, ScatterND, TensorScatter."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from lightrnn.errors import DataError, GraphError, UnsupportedError
from lightrnn.graph import INT64, Array, TensorType
from lightrnn.ops.arguments import axis_of, given, inferred, maybe, merged, same_dtype
from lightrnn.ops.indexing import along, check_along, check_indices, check_tuples, places, tuples
from lightrnn.ops.registry import Case, Operator, Types, operator
from lightrnn.ops.reshaping import floats, longs

REDUCTIONS: dict[str, Callable[..., Any] | None] = {
    "none": None,
    "add": np.add.at,
    "mul": np.multiply.at,
    "max": np.maximum.at,
    "min": np.minimum.at,
}


def _check_reduction(name: str) -> None:
    if name not in REDUCTIONS:
        raise UnsupportedError(f"reduction {name!r} is not one of {', '.join(REDUCTIONS)}")


def _update(data: Array, index: tuple[Array, ...], updates: Array, reduction: str) -> Array:
    """A copy of data with updates put, or reduced, into the indexed places."""
    out = np.array(data)
    apply = REDUCTIONS[reduction]
    with np.errstate(all="ignore"):
        if apply is None:
            out[index] = updates
        else:
            apply(out, index, updates)
    return out


@operator("ScatterElements", inputs="data indices updates", outputs="output")
class ScatterElements(Operator):
    """output[indices[i][j]][j] = updates[i][j] for axis 0, and so on (ONNX ScatterElements 18)."""

    axis: int = 0
    reduction: str = "none"

    def __post_init__(self) -> None:
        _check_reduction(self.reduction)

    def infer(self, inputs: Types) -> tuple[TensorType, ...]:
        data, indices, updates = (given(inputs, k) for k in range(3))
        same_dtype((data, updates), "data and updates")
        check_indices(indices)
        if data.shape is not None and indices.shape is not None:
            check_along(data.shape, indices.shape, self.axis)
        if indices.is_concrete and updates.is_concrete and indices.sizes != updates.sizes:
            raise GraphError(
                f"updates have the shape {list(updates.sizes)}, indices {list(indices.sizes)}"
            )
        return (TensorType(data.dtype, data.shape),)

    def evaluate(self, *inputs: Array | None) -> tuple[Array, ...]:
        inferred(self, inputs)
        data, indices, updates = (given(inputs, k) for k in range(3))
        index = along(places(indices, data.shape[self.axis]), self.axis)
        return (_update(data, index, updates, self.reduction),)

    @classmethod
    def cases(cls, rng: np.random.Generator) -> Iterator[Case]:
        x = floats(rng, 4, 5)
        unique = np.stack([rng.permutation(5)[:2] for _ in range(4)])
        yield Case("rows", (x, unique, floats(rng, 4, 2)), {"axis": 1})
        yield Case("negative", (x, longs(-1, -4)[:, None], floats(rng, 2, 1)))
        yield Case("int32", (x, unique.astype(np.int32), floats(rng, 4, 2)), {"axis": -1})
        for reduction in ("add", "mul", "max", "min"):
            again = rng.integers(0, 4, (6, 5))
            yield Case(reduction, (x, again, floats(rng, 6, 5)), {"reduction": reduction})
        y, two = rng.integers(-9, 9, (3, 3)), np.array([[0, 2]], np.int64)
        yield Case("int64", (y, two, np.array([[7, 8]], np.int64)), {"axis": 1})
        yield Case("bool", (y > 0, two, np.array([[True, False]])), {"axis": 1})
        yield Case("no indices", (x, np.zeros((0, 5), np.int64), floats(rng, 0, 5)))


@operator("ScatterND", inputs="data indices updates", outputs="output")
class ScatterND(Operator):
    """output[indices[..., 0], ..., indices[..., k]] = updates (ONNX ScatterND 18)."""

    reduction: str = "none"

    def __post_init__(self) -> None:
        _check_reduction(self.reduction)

    def infer(self, inputs: Types) -> tuple[TensorType, ...]:
        data, indices, updates = (given(inputs, k) for k in range(3))
        same_dtype((data, updates), "data and updates")
        if indices.dtype != INT64:
            raise GraphError(f"indices are {indices.dtype.name}, expected int64")
        if data.shape is not None and indices.shape is not None:
            depth = check_tuples(data.shape, indices.shape)
            if depth is not None and updates.shape is not None:
                wanted = (*indices.shape[:-1], *data.shape[depth:])
                if len(wanted) != len(updates.shape):
                    raise GraphError(f"updates have rank {updates.rank}, expected {len(wanted)}")
                for a, b in zip(wanted, updates.shape, strict=True):
                    merged(a, b, "sizes of updates, expected and given,")
        return (TensorType(data.dtype, data.shape),)

    def evaluate(self, *inputs: Array | None) -> tuple[Array, ...]:
        inferred(self, inputs)
        data, indices, updates = (given(inputs, k) for k in range(3))
        index = tuples(indices, data.shape[: indices.shape[-1]])
        return (_update(data, index, updates, self.reduction),)

    @classmethod
    def cases(cls, rng: np.random.Generator) -> Iterator[Case]:
        x = floats(rng, 4, 3, 5)
        yield Case("matrices", (x, np.array([[2], [-4]], np.int64), floats(rng, 2, 3, 5)))
        yield Case("rows", (x, np.array([[0, 1], [3, -1]], np.int64), floats(rng, 2, 5)))
        yield Case(
            "elements", (x, np.array([[[0, 1, 2], [1, 2, -5]]], np.int64), floats(rng, 1, 2))
        )
        yield Case("one tuple", (x, longs(3, 2), floats(rng, 5)))
        for reduction in ("add", "mul", "max", "min"):
            again = rng.integers(-4, 4, (7, 1))
            yield Case(reduction, (x, again, floats(rng, 7, 3, 5)), {"reduction": reduction})
        y = rng.integers(-9, 9, (5,))
        yield Case("int64", (y, np.array([[1], [4]], np.int64), longs(70, 80)))
        yield Case("bool", (y > 0, np.array([[0]], np.int64), np.array([True])))
        yield Case("no tuples", (x, np.zeros((0, 1), np.int64), floats(rng, 0, 3, 5)))


@operator("TensorScatter", inputs="past_cache update write_indices?", outputs="present_cache")
class TensorScatter(Operator):
    """A cache with `update` written into each sample's steps from its index on (ONNX 24).

    mode: "linear", or "circular" to go on at the start. write_indices: [N], zeros by default.
    """

    axis: int = -2
    mode: str = "linear"

    def __post_init__(self) -> None:
        if self.mode not in ("linear", "circular"):
            raise UnsupportedError(f"mode {self.mode!r} is not linear or circular")

    def infer(self, inputs: Types) -> tuple[TensorType, ...]:
        cache, update, indices = given(inputs), given(inputs, 1), maybe(inputs, 2)
        same_dtype((cache, update), "past_cache and update")
        if indices is not None and indices.dtype != INT64:
            raise GraphError(f"write_indices is {indices.dtype.name}, expected int64")
        if cache.shape is not None and update.shape is not None:
            if len(cache.shape) != len(update.shape):
                raise GraphError(f"past_cache is {cache}, update is {update}")
            axis = axis_of(self.axis, len(cache.shape))
            if axis == 0:
                raise GraphError("axis is 0, the batch")
            for k, (size, new) in enumerate(zip(cache.shape, update.shape, strict=True)):
                if k != axis:
                    merged(size, new, f"sizes of axis {k}")
                elif isinstance(size, int) and isinstance(new, int) and new > size:
                    raise GraphError(f"update has {new} steps, the cache {size}")
        return (TensorType(cache.dtype, cache.shape),)

    def evaluate(self, *inputs: Array | None) -> tuple[Array, ...]:
        inferred(self, inputs)
        cache, update, indices = given(inputs), given(inputs, 1), maybe(inputs, 2)
        axis = axis_of(self.axis, cache.ndim)
        size, steps = cache.shape[axis], update.shape[axis]
        starts = np.zeros(cache.shape[0], np.int64) if indices is None else indices
        if self.mode == "linear" and ((starts < 0).any() or (starts + steps > size).any()):
            raise DataError(f"write_indices {starts.tolist()} and {steps} steps exceed {size}")
        out = np.moveaxis(np.array(cache), axis, 1)
        for sample, start in enumerate(starts):
            place = (start + np.arange(steps)) % max(size, 1)
            out[sample, place] = np.moveaxis(update, axis, 1)[sample]
        return (np.ascontiguousarray(np.moveaxis(out, 1, axis)),)

    @classmethod
    def cases(cls, rng: np.random.Generator) -> Iterator[Case]:
        cache, update = floats(rng, 2, 3, 6, 4), floats(rng, 2, 3, 2, 4)
        yield Case("linear", (cache, update, longs(1, 4)))
        yield Case("circular", (cache, update, longs(5, 0)), {"mode": "circular"})
        yield Case("from the start", (cache, update))
        yield Case("3-d", (cache[:, 0], update[:, 0], longs(0, 3)), {"axis": 1})
        halves = cache.astype(np.float16), update.astype(np.float16)
        yield Case("float16", (*halves, longs(2, 3)))
