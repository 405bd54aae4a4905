"""Lookups by index: Gather, GatherElements, GatherND."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod

import numpy as np

from lightrnn.errors import DataError, GraphError
from lightrnn.graph import INT32, INT64, Array, Shape, TensorType
from lightrnn.ops.arguments import axis_of, given, inferred
from lightrnn.ops.copying import emit_copy, emit_view, row_major
from lightrnn.ops.lowering import Emitter, Operand
from lightrnn.ops.registry import Case, Operator, Types, operator
from lightrnn.ops.reshaping import floats, longs


def check_indices(indices: TensorType) -> None:
    """Raise GraphError unless indices are int64 or int32."""
    if indices.dtype not in (INT64, INT32):
        raise GraphError(f"indices are {indices.dtype.name}, expected int64 or int32")


def places(indices: Array, size: int) -> Array:
    """Indices from -size to size - 1 as ones from 0 on. Raises DataError for any other."""
    bad = (indices < -size) | (indices >= size)
    if bad.any():
        raise DataError(f"index {indices[bad].flat[0]} is out of range for an axis of size {size}")
    return np.where(indices < 0, indices + size, indices)


def along(indices: Array, axis: int) -> tuple[Array, ...]:
    """An index of the elements that `indices` name along one axis."""
    grid: list[Array] = list(np.ogrid[tuple(slice(n) for n in indices.shape)])
    grid[axis] = indices
    return tuple(grid)


def tuples(indices: Array, sizes: Sequence[int]) -> tuple[Array, ...]:
    """An index of what the tuples on the last axis of `indices` name. Raises DataError."""
    return tuple(places(indices[..., k], size) for k, size in enumerate(sizes))


@operator("Gather", inputs="data indices", outputs="output")
class Gather(Operator):
    """data[..., indices, ...] on one axis (ONNX Gather 13)."""

    axis: int = 0

    def infer(self, inputs: Types) -> tuple[TensorType, ...]:
        data, indices = given(inputs), given(inputs, 1)
        check_indices(indices)
        if data.shape is None or indices.shape is None:
            return (TensorType(data.dtype, None),)
        axis, shape = axis_of(self.axis, len(data.shape)), data.shape
        return (TensorType(data.dtype, (*shape[:axis], *indices.shape, *shape[axis + 1 :])),)

    def evaluate(self, *inputs: Array | None) -> tuple[Array, ...]:
        inferred(self, inputs)
        data, indices = given(inputs), given(inputs, 1)
        return (np.take(data, places(indices, data.shape[self.axis]), self.axis),)

    def lower(
        self, emit: Emitter, inputs: Sequence[Operand | None], outputs: Sequence[Operand | None]
    ) -> bool:
        data, indices, out = given(inputs), given(inputs, 1), outputs[0]
        axis = axis_of(self.axis, len(data.shape))
        if indices.value is not None and indices.size == 1:
            return self._lower_slice(emit, data, int(indices.value.item()), axis, out)
        if out is None or out.size == 0:
            return out is None or indices.size == 0 or data.shape[axis] > 0
        row = prod(data.shape[axis + 1 :]) * data.type.dtype.itemsize
        emit.call(
            "gather_rows", data, indices, out, prod(data.shape[:axis]), data.shape[axis],
            indices.size, row, indices.type.dtype == INT64, work=out.size,
        )  # fmt: skip
        return True

    def _lower_slice(
        self, emit: Emitter, data: Operand, index: int, axis: int, out: Operand | None
    ) -> bool:
        size, strides = data.shape[axis], row_major(data.shape)
        if not -size <= index < size:
            return False
        if out is None or out.size == 0:
            return True
        start = (index % size) * strides[axis]
        if size == 1 or all(d == 1 for d in data.shape[:axis]):
            emit_view(emit, data, out, start)
        else:
            shape = (prod(data.shape[:axis]), strides[axis])
            emit_copy(emit, data, out, shape, (size * strides[axis], 1), (strides[axis], 1), start)
        return True

    @classmethod
    def cases(cls, rng: np.random.Generator) -> Iterator[Case]:
        table = floats(rng, 11, 17)
        yield Case("rows", (table, rng.integers(0, 11, (3, 5))))
        yield Case("negative", (table, longs(-1, -11, 3)))
        yield Case("columns", (table, longs(4, 0, 16, 4)), {"axis": 1})
        yield Case("middle", (floats(rng, 3, 4, 5), rng.integers(-4, 4, (2, 3))), {"axis": -2})
        yield Case("one of many", (floats(rng, 3, 4, 5), np.array(-2, np.int64)), {"axis": 1})
        yield Case("one row", (table, np.array(2, np.int64)))
        yield Case("one row, kept", (table, longs(10)))
        yield Case("the only one", (floats(rng, 3, 1, 5), np.array(-1, np.int64)), {"axis": 1})
        yield Case("from a vector", (longs(5, 6, 7), np.array(1, np.int64)))
        yield Case("int32", (table, rng.integers(0, 11, 4).astype(np.int32)))
        yield Case("no indices", (table, longs()))
        yield Case("empty rows", (floats(rng, 4, 0), longs(1, 2)))
        for dtype in (np.float16, np.float64, np.int64, np.int8, np.bool_):
            x = (floats(rng, 4, 3) * 9).astype(dtype)
            yield Case(np.dtype(dtype).name, (x, longs(2, 0, 3)))
            yield Case(f"{np.dtype(dtype).name} columns", (x, longs(2, 0)), {"axis": 1})


@operator("GatherElements", inputs="data indices", outputs="output")
class GatherElements(Operator):
    """output[i][j] = data[indices[i][j]][j] for axis 0, and so on (ONNX GatherElements 13)."""

    axis: int = 0

    def infer(self, inputs: Types) -> tuple[TensorType, ...]:
        data, indices = given(inputs), given(inputs, 1)
        check_indices(indices)
        if data.shape is not None and indices.shape is not None:
            check_along(data.shape, indices.shape, self.axis)
        return (TensorType(data.dtype, indices.shape),)

    def evaluate(self, *inputs: Array | None) -> tuple[Array, ...]:
        inferred(self, inputs)
        data, indices = given(inputs), given(inputs, 1)
        return (data[along(places(indices, data.shape[self.axis]), self.axis)],)

    def lower(
        self, emit: Emitter, inputs: Sequence[Operand | None], outputs: Sequence[Operand | None]
    ) -> bool:
        data, indices, out = given(inputs), given(inputs, 1), outputs[0]
        axis = axis_of(self.axis, len(data.shape))
        before, after = data.shape[:axis], data.shape[axis + 1 :]
        if indices.shape[:axis] != before or indices.shape[axis + 1 :] != after:
            return False
        if out is not None and out.size:
            emit.call(
                "gather_elements", data, indices, out, prod(before), data.shape[axis],
                indices.shape[axis], prod(after), data.type.dtype.itemsize,
                indices.type.dtype == INT64, work=out.size,
            )  # fmt: skip
        return True

    @classmethod
    def cases(cls, rng: np.random.Generator) -> Iterator[Case]:
        x = floats(rng, 3, 4, 5)
        yield Case("first axis", (x, rng.integers(-3, 3, (2, 4, 5))))
        yield Case("middle", (x, rng.integers(-4, 4, (3, 6, 5))), {"axis": 1})
        yield Case("last", (x, rng.integers(0, 5, (3, 4, 1))), {"axis": -1})
        yield Case("part of the others", (x, rng.integers(0, 5, (2, 3, 4))), {"axis": 2})
        yield Case("int32", (x, rng.integers(0, 3, (1, 4, 5)).astype(np.int32)))
        yield Case("vector", (longs(5, 6, 7), longs(-1, 0)))
        yield Case("no indices", (x, np.zeros((3, 0, 5), np.int64)), {"axis": 1})
        for dtype in (np.float16, np.float64, np.int64, np.uint8, np.bool_):
            y = (floats(rng, 4, 3) * 9).astype(dtype)
            yield Case(np.dtype(dtype).name, (y, rng.integers(-3, 3, (4, 2))), {"axis": 1})


def check_along(data: Shape, indices: Shape, axis: int) -> None:
    """Raise GraphError unless indices have data's rank and no larger sizes beside the axis."""
    if len(data) != len(indices):
        raise GraphError(f"indices have rank {len(indices)}, data has {len(data)}")
    axis = axis_of(axis, len(data))
    for k, (size, wanted) in enumerate(zip(data, indices, strict=True)):
        if k != axis and isinstance(size, int) and isinstance(wanted, int) and wanted > size:
            raise GraphError(f"indices have the size {wanted} on axis {k}, data has {size}")


@operator("GatherND", inputs="data indices", outputs="output")
class GatherND(Operator):
    """data[indices[..., 0], ..., indices[..., k]], after shared batch axes (ONNX GatherND 13)."""

    batch_dims: int = 0

    def __post_init__(self) -> None:
        if self.batch_dims < 0:
            raise GraphError(f"batch_dims is {self.batch_dims}")

    def infer(self, inputs: Types) -> tuple[TensorType, ...]:
        data, indices = given(inputs), given(inputs, 1)
        if indices.dtype != INT64:
            raise GraphError(f"indices are {indices.dtype.name}, expected int64")
        if data.shape is None or indices.shape is None:
            return (TensorType(data.dtype, None),)
        depth = check_tuples(data.shape, indices.shape, self.batch_dims)
        if depth is None:
            return (TensorType(data.dtype, None),)
        rest = data.shape[self.batch_dims + depth :]
        return (TensorType(data.dtype, (*indices.shape[:-1], *rest)),)

    def evaluate(self, *inputs: Array | None) -> tuple[Array, ...]:
        shape = inferred(self, inputs)[0].sizes
        data, indices = given(inputs), given(inputs, 1)
        b, depth = self.batch_dims, indices.shape[-1]
        lead = indices.shape[:b]
        flat = indices.reshape(prod(lead), prod(indices.shape[b:-1]), depth)
        index = tuples(flat, data.shape[b : b + depth])
        index = (np.arange(prod(lead))[:, None], *index)
        return (data.reshape(prod(lead), *data.shape[b:])[index].reshape(shape),)

    def lower(
        self, emit: Emitter, inputs: Sequence[Operand | None], outputs: Sequence[Operand | None]
    ) -> bool:
        data, indices, out = given(inputs), given(inputs, 1), outputs[0]
        if out is None:
            return True
        if out.size == 0:
            return indices.size == 0
        b, depth = self.batch_dims, indices.shape[-1]
        item = data.type.dtype.itemsize
        emit.call(
            "gather_tuples", data, indices, out, prod(data.shape[:b]), prod(indices.shape[b:-1]),
            depth, prod(data.shape[b + depth :]) * item, prod(data.shape[b:]) * item, 1,
            *data.shape[b : b + depth], work=out.size,
        )  # fmt: skip
        return True

    @classmethod
    def cases(cls, rng: np.random.Generator) -> Iterator[Case]:
        x = floats(rng, 3, 4, 5)
        yield Case("elements", (x, np.array([[0, 1, 2], [-1, -4, 4]], np.int64)))
        yield Case("rows", (x, rng.integers(0, 3, (2, 6, 2))))
        yield Case("matrices", (x, np.array([[2], [-3]], np.int64)))
        yield Case("one tuple", (x, longs(1, 2)))
        yield Case("batch", (x, rng.integers(-4, 4, (3, 2, 1))), {"batch_dims": 1})
        batch = (floats(rng, 2, 3, 4, 5), rng.integers(0, 4, (2, 3, 2)))
        yield Case("two batch axes", batch, {"batch_dims": 2})
        yield Case("last steps", (x, rng.integers(0, 4, (3, 1))), {"batch_dims": 1})
        yield Case("no tuples", (x, np.zeros((0, 2), np.int64)))
        for dtype in (np.float16, np.float64, np.int64, np.int8, np.bool_):
            y = (floats(rng, 4, 3) * 9).astype(dtype)
            yield Case(np.dtype(dtype).name, (y, rng.integers(0, 3, (5, 2))))


def check_tuples(data: Shape, indices: Shape, batch: int = 0) -> int | None:
    """The length of the index tuples, None if not known. Raises GraphError if they do not fit."""
    if not data or not indices:
        raise GraphError("data or indices is a scalar")
    if batch >= len(indices) or batch >= len(data):
        raise GraphError(f"batch_dims {batch} with ranks {len(data)} and {len(indices)}")
    for k in range(batch):
        a, b = data[k], indices[k]
        if isinstance(a, int) and isinstance(b, int) and a != b:
            raise GraphError(f"batch sizes {a} and {b} differ")
    depth = indices[-1]
    if not isinstance(depth, int):
        return None
    if not 1 <= depth <= len(data) - batch:
        raise GraphError(f"tuples of {depth} indices into rank {len(data)}")
    return depth
