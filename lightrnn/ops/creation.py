"""Operators that make tensors from shapes and numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import ceil

import numpy as np

from lightrnn.errors import GraphError
from lightrnn.graph import INT32, INT64, Array, Shape, TensorType
from lightrnn.ops.arguments import (
    data_type,
    given,
    inferred,
    integers,
    length,
    maybe,
    product,
    same_dtype,
    scalar,
)
from lightrnn.ops.copying import emit_fill
from lightrnn.ops.lowering import Emitter, Operand
from lightrnn.ops.registry import Case, Operator, Types, operator
from lightrnn.ops.reshaping import floats, longs


@operator("Shape", inputs="data", outputs="shape")
class ShapeOf(Operator):
    """The sizes of a tensor, from axis `start` to before `end` (ONNX Shape 25)."""

    start: int = 0
    end: int | None = None

    def infer(self, inputs: Types) -> tuple[TensorType, ...]:
        data = given(inputs)
        if data.shape is None:
            return (TensorType(INT64, (None,)),)
        rank = len(data.shape)
        dims = data.shape[self._clamped(self.start, rank) : self._clamped(self.end, rank)]
        known = [d for d in dims if isinstance(d, int)]
        value = np.array(known, np.int64) if len(known) == len(dims) else None
        return (TensorType(INT64, (len(dims),), value),)

    def _clamped(self, axis: int | None, rank: int) -> int:
        if axis is None:
            return rank
        return min(max(axis + rank if axis < 0 else axis, 0), rank)

    def evaluate(self, *inputs: Array | None) -> tuple[Array, ...]:
        value = inferred(self, inputs)[0].value
        assert value is not None
        return (value,)

    @classmethod
    def cases(cls, rng: np.random.Generator) -> Iterator[Case]:
        x = floats(rng, 2, 3, 4)
        yield Case("all", (x,))
        yield Case("last", (x,), {"start": -1})
        yield Case("some", (x,), {"start": 1, "end": -1})
        yield Case("clamped", (x,), {"start": -9, "end": 9})
        yield Case("none", (x,), {"start": 2, "end": 1})
        yield Case("scalar", (np.array(1, np.int64),))
        yield Case("empty", (floats(rng, 0, 3),))


@operator("Size", inputs="data", outputs="size")
class Size(Operator):
    """The number of elements (ONNX Size 25)."""

    def infer(self, inputs: Types) -> tuple[TensorType, ...]:
        data = given(inputs)
        total = None if data.shape is None else product(data.shape)
        return (TensorType(INT64, (), np.array(total) if isinstance(total, int) else None),)

    def evaluate(self, *inputs: Array | None) -> tuple[Array, ...]:
        return (np.array(given(inputs).size, np.int64),)

    @classmethod
    def cases(cls, rng: np.random.Generator) -> Iterator[Case]:
        yield Case("cube", (floats(rng, 2, 3, 4),))
        yield Case("scalar", (np.array(True),))
        yield Case("empty", (floats(rng, 0, 3),))


@operator("ConstantOfShape", inputs="input", outputs="output")
class ConstantOfShape(Operator):
    """One value everywhere (ONNX ConstantOfShape 25).

    value, dtype: the element of ONNX's attribute `value` and the number of its type; graphs hold
    no tensors in attributes.
    """

    value: int | float = 0.0
    dtype: int = 1

    def __post_init__(self) -> None:
        data_type(self.dtype)

    def infer(self, inputs: Types) -> tuple[TensorType, ...]:
        wanted = given(inputs)
        sizes = integers(wanted, "input")
        if sizes is not None and min(sizes, default=0) < 0:
            raise GraphError(f"the shape {sizes} has a negative size")
        count = length(wanted) if sizes is None else len(sizes)
        shape: Shape | None = None if count is None else (None,) * count
        return (TensorType(data_type(self.dtype), shape if sizes is None else tuple(sizes)),)

    def _element(self) -> Array:
        return np.array(self.value).astype(data_type(self.dtype))

    def evaluate(self, *inputs: Array | None) -> tuple[Array, ...]:
        return (np.full(inferred(self, inputs)[0].sizes, self._element()),)

    def lower(
        self, emit: Emitter, inputs: Sequence[Operand | None], outputs: Sequence[Operand | None]
    ) -> bool:
        if outputs[0] is not None:
            emit_fill(emit, outputs[0], self._element())
        return True

    @classmethod
    def cases(cls, rng: np.random.Generator) -> Iterator[Case]:
        yield Case("zeros", (longs(2, 3, 5),))
        yield Case("scalar", (longs(),), {"value": 2.5})
        yield Case("empty", (longs(0, 4),))
        yield Case("int64", (longs(3, 7),), {"value": -(2**60) - 1, "dtype": 7})
        yield Case("bool", (longs(19),), {"value": 1, "dtype": 9})
        yield Case("int8", (longs(13),), {"value": -7, "dtype": 3})
        yield Case("float64", (longs(5),), {"value": 0.1, "dtype": 11})
        yield Case("float16", (longs(3, 5),), {"value": 0.1, "dtype": 10})


@operator("Range", inputs="start limit delta", outputs="output")
class Range(Operator):
    """Numbers from start to before limit, `delta` apart (ONNX Range 27).

    stash_type: the number of the type that float16 numbers are computed in.
    """

    stash_type: int = 1

    def __post_init__(self) -> None:
        data_type(self.stash_type)

    kinds = "if"

    def infer(self, inputs: Types) -> tuple[TensorType, ...]:
        same_dtype(inputs, "start, limit and delta")
        values = [scalar(given(inputs, k), "a bound") for k in range(3)]
        size = None
        if values[0] is not None and values[1] is not None and values[2] is not None:
            size = self._count(values[0], values[1], values[2])
        return (TensorType(given(inputs).dtype, (size,)),)

    def _count(self, start: float, limit: float, delta: float) -> int:
        if delta == 0:
            raise GraphError("delta is 0")
        if isinstance(start, int) and isinstance(limit, int) and isinstance(delta, int):
            return max(-((start - limit) // delta), 0)
        count = (limit - start) / delta
        if not abs(count) < 2**53:
            raise GraphError(f"no range goes from {start} to {limit} by {delta}")
        return max(ceil(count), 0)

    def evaluate(self, *inputs: Array | None) -> tuple[Array, ...]:
        out = inferred(self, inputs)[0]
        dtype = data_type(self.stash_type) if out.dtype == np.float16 else out.dtype
        start, delta = (given(inputs, k).reshape(()).astype(dtype) for k in (0, 2))
        steps = np.arange(out.sizes[0]).astype(dtype)
        return (np.asarray(start + steps * delta, out.dtype),)

    @classmethod
    def cases(cls, rng: np.random.Generator) -> Iterator[Case]:
        def bounds(dtype: type[np.generic], *values: float) -> tuple[Array, ...]:
            return tuple(np.array(v, dtype) for v in values)

        yield Case("int64", bounds(np.int64, 3, 20, 4))
        yield Case("int32, down", bounds(np.int32, 10, -4, -3))
        yield Case("exact end", bounds(np.int64, 0, 9, 3))
        yield Case("nothing", bounds(np.int64, 5, 5, 1))
        yield Case("wrong way", bounds(np.int64, 5, 9, -1))
        yield Case("float32", bounds(np.float32, 1.0, 2.0, 0.25))
        yield Case("float64", bounds(np.float64, 0.0, 1.0, 0.3))
        yield Case("float16", bounds(np.float16, 0.0, 3.0, 0.1))


@operator("EyeLike", inputs="input", outputs="output")
class EyeLike(Operator):
    """Ones on diagonal `k` of a matrix of the input's shape (ONNX EyeLike 22)."""

    dtype: int | None = None
    k: int = 0

    def infer(self, inputs: Types) -> tuple[TensorType, ...]:
        data = given(inputs)
        if data.rank not in (None, 2):
            raise GraphError(f"input has rank {data.rank}, expected 2")
        return (TensorType(self._dtype(data), data.shape or (None, None)),)

    def _dtype(self, data: TensorType) -> np.dtype[np.generic]:
        return data.dtype if self.dtype is None else data_type(self.dtype)

    def evaluate(self, *inputs: Array | None) -> tuple[Array, ...]:
        out = inferred(self, inputs)[0]
        rows, columns = out.sizes
        return (np.eye(rows, columns, min(max(self.k, -rows), columns), out.dtype),)

    @classmethod
    def cases(cls, rng: np.random.Generator) -> Iterator[Case]:
        yield Case("wide", (floats(rng, 3, 5),))
        yield Case("above", (floats(rng, 4, 3),), {"k": 1})
        yield Case("below, int64", (floats(rng, 4, 3),), {"k": -2, "dtype": 7})
        yield Case("outside", (np.zeros((2, 2), np.int32),), {"k": 5})
        yield Case("empty", (floats(rng, 0, 3),))


@operator("Trilu", inputs="input k?", outputs="output")
class Trilu(Operator):
    """Matrices with zeros below diagonal `k`, or above it if not `upper` (ONNX Trilu 14)."""

    upper: int = 1

    def infer(self, inputs: Types) -> tuple[TensorType, ...]:
        data, k = given(inputs), maybe(inputs, 1)
        if data.shape is not None and len(data.shape) < 2:
            raise GraphError(f"input has rank {len(data.shape)}, expected at least 2")
        if k is not None:
            scalar(k, "k")
        return (TensorType(data.dtype, data.shape),)

    def evaluate(self, *inputs: Array | None) -> tuple[Array, ...]:
        inferred(self, inputs)
        data, k = given(inputs), maybe(inputs, 1)
        rows, columns = data.shape[-2:]
        diagonal = 0 if k is None else min(max(int(k.item()), -rows - 1), columns + 1)
        return ((np.triu if self.upper else np.tril)(data, diagonal),)

    @classmethod
    def cases(cls, rng: np.random.Generator) -> Iterator[Case]:
        x = floats(rng, 2, 4, 5)
        yield Case("upper", (x,))
        yield Case("lower", (x,), {"upper": 0})
        yield Case("above", (x, np.array(2, np.int64)))
        yield Case("below", (x, np.array(-1, np.int64)), {"upper": 0})
        yield Case("far", (x, np.array(2**40, np.int64)))
        yield Case("bool", (np.ones((3, 3), np.bool_), np.array(1, np.int64)))
        yield Case("int64", (np.ones((3, 4), np.int64),), {"upper": 0})
        yield Case("empty", (floats(rng, 0, 3),))


@operator("OneHot", inputs="indices depth values", outputs="output")
class OneHot(Operator):
    """values[1] where an index says, values[0] elsewhere, on a new axis (ONNX OneHot 11)."""

    axis: int = -1
    kinds = "iuf"

    def infer(self, inputs: Types) -> tuple[TensorType, ...]:
        indices, depth, values = (given(inputs, k) for k in range(3))
        if values.is_concrete and values.sizes != (2,):
            raise GraphError(f"values has the shape {list(values.sizes)}, expected [2]")
        number = scalar(depth, "depth")
        if number is not None and number < 0:
            raise GraphError(f"depth is {number}")
        if indices.shape is None:
            return (TensorType(values.dtype, None),)
        at, size = self._at(len(indices.shape)), None if number is None else int(number)
        return (TensorType(values.dtype, (*indices.shape[:at], size, *indices.shape[at:])),)

    def _at(self, rank: int) -> int:
        if not -rank - 1 <= self.axis <= rank:
            raise GraphError(f"axis {self.axis} is out of range for indices of rank {rank}")
        return self.axis + rank + 1 if self.axis < 0 else self.axis

    def evaluate(self, *inputs: Array | None) -> tuple[Array, ...]:
        shape = inferred(self, inputs)[0].sizes
        indices, values = given(inputs), given(inputs, 2)
        at = self._at(indices.ndim)
        depth = shape[at]
        with np.errstate(invalid="ignore"):
            wanted = indices.astype(np.int64) if indices.dtype.kind != "u" else indices
        wanted = np.where(indices < 0, wanted + depth, wanted)
        places = np.arange(depth).reshape([-1 if k == at else 1 for k in range(len(shape))])
        return (np.where(np.expand_dims(wanted, at) == places, values[1], values[0]),)

    def lower(
        self, emit: Emitter, inputs: Sequence[Operand | None], outputs: Sequence[Operand | None]
    ) -> bool:
        indices, values, out = given(inputs), given(inputs, 2), outputs[0]
        if indices.type.dtype not in (INT64, INT32):
            return False
        if out is None or out.size == 0:
            return True
        outer, inner = self._around(indices.shape)
        emit.call(
            "one_hot", indices, values, out, outer, out.shape[self._at(len(indices.shape))], inner,
            out.type.dtype.itemsize, indices.type.dtype == INT64, work=out.size,
        )  # fmt: skip
        return True

    def _around(self, shape: tuple[int, ...]) -> tuple[int, int]:
        at = self._at(len(shape))
        return int(np.prod(shape[:at], dtype=np.int64)), int(np.prod(shape[at:], dtype=np.int64))

    @classmethod
    def cases(cls, rng: np.random.Generator) -> Iterator[Case]:
        indices, depth = longs(0, 3, -1, 7, 9, -20), np.array(7, np.int64)
        yield Case("last", (indices, depth, np.array([0.0, 1.0], np.float32)))
        yield Case("first", (indices, depth, longs(3, 4)), {"axis": 0})
        square, five = rng.integers(-5, 5, (2, 3)), np.array([5], np.int64)
        yield Case("middle", (square, five, np.array([0.5, 2.5], np.float32)), {"axis": 1})
        yield Case(
            "int32", (indices.astype(np.int32), depth.astype(np.int32), np.array([2, 9], np.int32))
        )
        yield Case("bool", (square, five, np.array([False, True])))
        yield Case("float indices", (indices.astype(np.float32), depth, longs(0, 1)))
        yield Case("scalar", (np.array(2, np.int64), depth, longs(0, 1)))
        yield Case("empty", (longs(), depth, longs(0, 1)))
