"""Operators that choose or reorder elements by their values or by lengths."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod

import numpy as np

from lightrnn.errors import DataError, GraphError
from lightrnn.graph import BOOL, INT64, Array, Dim, Shape, TensorType
from lightrnn.ops.arguments import axis_of, given, inferred, integers, merged, product
from lightrnn.ops.lowering import Emitter, Operand
from lightrnn.ops.registry import Case, Operator, Types, operator
from lightrnn.ops.reshaping import floats, longs


@operator("TopK", inputs="X K", outputs="Values? Indices?")
class TopK(Operator):
    """The K largest or smallest along an axis, in order; of equals the first (ONNX TopK 24)."""

    axis: int = -1
    largest: int = 1
    sorted: int = 1
    kinds = "iuf"

    def infer(self, inputs: Types) -> tuple[TensorType, ...]:
        x, k = given(inputs), given(inputs, 1)
        values = integers(k, "K")
        if values is not None and (len(values) != 1 or values[0] < 0):
            raise GraphError(f"K is {values}")
        if x.shape is None:
            return (TensorType(x.dtype, None), TensorType(INT64, None))
        axis = axis_of(self.axis, len(x.shape))
        count: Dim = None if values is None else values[0]
        size = x.shape[axis]
        if isinstance(count, int) and isinstance(size, int) and count > size:
            raise GraphError(f"K is {count}, the axis has the size {size}")
        shape = (*x.shape[:axis], count, *x.shape[axis + 1 :])
        return (TensorType(x.dtype, shape), TensorType(INT64, shape))

    def evaluate(self, *inputs: Array | None) -> tuple[Array, ...]:
        x, axis = given(inputs), self.axis
        count = inferred(self, inputs)[0].sizes[axis]
        if self.largest:  # a stable ascending order of the reversed axis, read from its end
            reverse = np.argsort(np.flip(x, axis), axis, kind="stable")
            order = x.shape[axis] - 1 - np.flip(reverse, axis)
        else:
            order = np.argsort(x, axis, kind="stable")
        order = np.take(order, np.arange(count), axis)
        return (np.take_along_axis(x, order, axis), order.astype(np.int64))

    @classmethod
    def cases(cls, rng: np.random.Generator) -> Iterator[Case]:
        x = floats(rng, 3, 7)
        yield Case("largest", (x, longs(3)))
        yield Case("smallest", (x, longs(4)), {"largest": 0})
        yield Case("first axis", (x, longs(2)), {"axis": 0})
        yield Case("all", (x, longs(7)))
        yield Case("none", (x, longs(0)))
        yield Case("values alone", (x, longs(3)), outputs=("Values",))
        yield Case("equals", (np.array([2, 5, 5, 2, 5], np.float32), longs(4)))
        yield Case("equal smallest", (longs(2, 5, 5, 2, 5), longs(4)), {"largest": 0})
        yield Case("int64", (rng.integers(-9, 9, (2, 6)), longs(2)), {"axis": -1})
        yield Case("float64", (x.astype(np.float64), longs(1)))


@operator("NonZero", inputs="X", outputs="Y")
class NonZero(Operator):
    """Indices of the elements that are not 0: [rank, count] (ONNX NonZero 13)."""

    def infer(self, inputs: Types) -> tuple[TensorType, ...]:
        return (TensorType(INT64, (given(inputs).rank, None)),)

    def evaluate(self, *inputs: Array | None) -> tuple[Array, ...]:
        x = given(inputs)
        places = np.array(np.nonzero(np.atleast_1d(x)), np.int64)
        return (places[: x.ndim],)

    @classmethod
    def cases(cls, rng: np.random.Generator) -> Iterator[Case]:
        yield Case("bool", (floats(rng, 3, 4) > 0,))
        yield Case("int64", (rng.integers(0, 2, (2, 3, 2)),))
        yield Case("float32", (np.array([0.0, 1.0, -0.0, 2.0], np.float32),))
        yield Case("scalar", (np.array(3, np.int64),))
        yield Case("empty", (np.zeros((0, 2), np.bool_),))


@operator("Compress", inputs="input condition", outputs="output")
class Compress(Operator):
    """Slices, or elements of the flat tensor, where a condition holds (ONNX Compress 11)."""

    axis: int | None = None

    def infer(self, inputs: Types) -> tuple[TensorType, ...]:
        data, condition = given(inputs), given(inputs, 1)
        if condition.dtype != BOOL or condition.rank not in (None, 1):
            raise GraphError(f"condition is {condition}, expected a list of bool")
        count = None if condition.value is None else int(np.count_nonzero(condition.value))
        if self.axis is None:
            return (TensorType(data.dtype, (count,)),)
        if data.shape is None:
            return (TensorType(data.dtype, None),)
        axis = axis_of(self.axis, len(data.shape))
        shape = (*data.shape[:axis], count, *data.shape[axis + 1 :])
        return (TensorType(data.dtype, shape),)

    def evaluate(self, *inputs: Array | None) -> tuple[Array, ...]:
        inferred(self, inputs)
        data, condition = given(inputs), given(inputs, 1)
        size = data.size if self.axis is None else data.shape[self.axis]
        if condition[size:].any():
            raise DataError(f"condition holds past the axis of size {size}")
        return (np.compress(condition[:size], data, self.axis),)

    @classmethod
    def cases(cls, rng: np.random.Generator) -> Iterator[Case]:
        x = floats(rng, 3, 4)
        yield Case("rows", (x, np.array([False, True, True])), {"axis": 0})
        yield Case("columns", (x, np.array([True, False, True])), {"axis": -1})
        yield Case("flat", (x, np.array([False, True, False, False, True])))
        yield Case("nothing", (x, np.array([False])), {"axis": 1})


@operator("ReverseSequence", inputs="input sequence_lens", outputs="Y")
class ReverseSequence(Operator):
    """The first steps of each sequence in reverse, the others kept (ONNX ReverseSequence 10)."""

    batch_axis: int = 1
    time_axis: int = 0

    def __post_init__(self) -> None:
        if {self.batch_axis, self.time_axis} != {0, 1}:
            axes = f"batch_axis {self.batch_axis} and time_axis {self.time_axis}"
            raise GraphError(f"{axes}, expected 0 and 1 or 1 and 0")

    def infer(self, inputs: Types) -> tuple[TensorType, ...]:
        data, lengths = given(inputs), given(inputs, 1)
        if lengths.dtype != INT64 or lengths.rank not in (None, 1):
            raise GraphError(f"sequence_lens is {lengths}, expected a list of int64")
        if data.shape is not None:
            if len(data.shape) < 2:
                raise GraphError(f"input has rank {len(data.shape)}, expected at least 2")
            if lengths.shape is not None:
                merged(data.shape[self.batch_axis], lengths.shape[0], "batch sizes")
        return (TensorType(data.dtype, data.shape),)

    def evaluate(self, *inputs: Array | None) -> tuple[Array, ...]:
        inferred(self, inputs)
        data, lengths = given(inputs), given(inputs, 1)
        steps = data.shape[self.time_axis]
        if ((lengths < 0) | (lengths > steps)).any():
            raise DataError(f"sequence_lens {lengths.tolist()} do not fit {steps} steps")
        t = np.arange(steps)[:, None]
        source = np.where(t < lengths, lengths - 1 - t, t)
        if self.time_axis == 0:
            return (data[source, np.arange(len(lengths))],)
        return (data[np.arange(len(lengths))[:, None], source.T],)

    def lower(
        self, emit: Emitter, inputs: Sequence[Operand | None], outputs: Sequence[Operand | None]
    ) -> bool:
        data, lengths, out = given(inputs), given(inputs, 1), outputs[0]
        if out is None or out.size == 0:
            return out is None or lengths.size == 0
        row = prod(data.shape[2:]) * data.type.dtype.itemsize
        steps = [data.shape[1] * row, row]
        emit.call(
            "reverse_sequences", data, lengths, out, data.shape[self.time_axis], lengths.size,
            steps[self.time_axis], steps[self.batch_axis], row, work=out.size,
        )  # fmt: skip
        return True

    @classmethod
    def cases(cls, rng: np.random.Generator) -> Iterator[Case]:
        x = floats(rng, 4, 3, 5)
        yield Case("time first", (x, longs(4, 1, 2)))
        yield Case("batch first", (x, longs(3, 1, 2, 3)), {"batch_axis": 0, "time_axis": 1})
        yield Case("matrix", (floats(rng, 5, 2), longs(5, 3)))
        yield Case("many axes", (floats(rng, 3, 2, 2, 9), longs(3, 2)))
        yield Case("int64", (rng.integers(0, 9, (4, 2)), longs(4, 2)))
        yield Case("bool", (floats(rng, 4, 3, 3) > 0, longs(1, 4, 3)))
        yield Case("float16", (x.astype(np.float16), longs(2, 3, 4)))
        yield Case("no batch", (floats(rng, 4, 0, 3), longs()))


@operator("Unique", inputs="X", outputs="Y indices? inverse_indices? counts?")
class Unique(Operator):
    """Different elements, or parts along `axis`: sorted, or as they first occur (ONNX Unique 28).

    indices: where each occurs first. inverse_indices: which one each element of X is.
    """

    axis: int | None = None
    sorted: int = 1

    def infer(self, inputs: Types) -> tuple[TensorType, ...]:
        x = given(inputs)
        shape: Shape | None = (None,)
        size: Dim = product(x.shape) if x.shape is not None else None
        if self.axis is not None:
            shape = None
            if x.shape is not None:
                axis = axis_of(self.axis, len(x.shape))
                shape, size = (*x.shape[:axis], None, *x.shape[axis + 1 :]), x.shape[axis]
        count = TensorType(INT64, (None,))
        return TensorType(x.dtype, shape), count, TensorType(INT64, (size,)), count

    def evaluate(self, *inputs: Array | None) -> tuple[Array, ...]:
        x = given(inputs)
        axis = None if self.axis is None else axis_of(self.axis, x.ndim)
        y, first, inverse, counts = np.unique(x, True, True, True, axis)
        inverse = inverse.reshape(-1)
        if not self.sorted:
            order = np.argsort(first)
            y = np.take(y, order, 0 if axis is None else axis)
            first, counts, inverse = first[order], counts[order], np.argsort(order)[inverse]
        return y, *(a.astype(np.int64) for a in (first, inverse, counts))

    @classmethod
    def cases(cls, rng: np.random.Generator) -> Iterator[Case]:
        x = rng.integers(-2, 3, (4, 3)).astype(np.float32)
        for order in (1, 0):
            yield Case(f"all, sorted {order}", (x,), {"sorted": order})
            rows = x[[0, 1, 0, 2, 1, 3]]
            yield Case(f"rows, sorted {order}", (rows,), {"sorted": order, "axis": 0})
            columns = {"sorted": order, "axis": -1}
            yield Case(f"columns, sorted {order}", (rows.T.copy(),), columns)
        yield Case("int64", (longs(2, 1, 1, 3, 4, 3),))
        yield Case("values alone", (x,), {}, ("Y",))
