"""Operators that put elements elsewhere: they lower to one strided copy an input or output."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate

import numpy as np

from lightrnn.errors import GraphError, UnsupportedError
from lightrnn.graph import Array, Dim, TensorType
from lightrnn.ops.arguments import (
    axis_of,
    given,
    inferred,
    integers,
    length,
    maybe,
    merged,
    same_dtype,
)
from lightrnn.ops.broadcast import broadcast_shape
from lightrnn.ops.copying import collapse, emit_copy, emit_view, row_major
from lightrnn.ops.lowering import Emitter, Operand
from lightrnn.ops.registry import Case, Operator, Types, operator
from lightrnn.ops.reshaping import floats, longs


@operator("Transpose", inputs="data", outputs="transposed")
class Transpose(Operator):
    """Axes in another order: `perm`, or reversed (ONNX Transpose 25)."""

    perm: tuple[int, ...] | None = None

    def _order(self, rank: int) -> tuple[int, ...]:
        if self.perm is None:
            return tuple(range(rank))[::-1]
        if sorted(self.perm) != list(range(rank)):
            raise GraphError(f"perm {list(self.perm)} is no order of {rank} axes")
        return self.perm

    def infer(self, inputs: Types) -> tuple[TensorType, ...]:
        data = given(inputs)
        if data.shape is None:
            rank = None if self.perm is None else len(self.perm)
            return (TensorType(data.dtype, None if rank is None else (None,) * rank),)
        shape = data.shape
        return (TensorType(data.dtype, tuple(shape[k] for k in self._order(len(shape)))),)

    def evaluate(self, *inputs: Array | None) -> tuple[Array, ...]:
        inferred(self, inputs)
        return (np.transpose(given(inputs), self.perm),)

    def lower(
        self, emit: Emitter, inputs: Sequence[Operand | None], outputs: Sequence[Operand | None]
    ) -> bool:
        data, out = given(inputs), outputs[0]
        if out is None:
            return True
        strides = row_major(data.shape)
        strides = [strides[k] for k in self._order(len(strides))]
        target = row_major(out.shape)
        if out.size == 0 or len(collapse(list(zip(out.shape, strides, target, strict=True)))) < 2:
            emit_view(emit, data, out)
        else:
            emit_copy(emit, data, out, out.shape, strides, target)
        return True

    @classmethod
    def cases(cls, rng: np.random.Generator) -> Iterator[Case]:
        yield Case("matrix", (floats(rng, 17, 35),))
        yield Case("small matrix", (floats(rng, 3, 5),))
        yield Case("rows", (floats(rng, 3, 5, 17),), {"perm": (1, 0, 2)})
        yield Case("last two", (floats(rng, 2, 3, 16, 5),), {"perm": (0, 1, 3, 2)})
        yield Case("first to last", (floats(rng, 6, 3, 4),), {"perm": (1, 2, 0)})
        yield Case("reversed", (floats(rng, 5, 4, 3, 2),))
        yield Case("nothing moves", (floats(rng, 1, 5, 1, 3),), {"perm": (1, 0, 3, 2)})
        yield Case("vector", (floats(rng, 5),))
        yield Case("scalar", (np.array(1.5, np.float32),))
        yield Case("empty", (floats(rng, 4, 0, 3),), {"perm": (2, 0, 1)})
        for dtype in (np.float16, np.float64, np.int64, np.int8, np.bool_):
            x = (floats(rng, 5, 6, 3) * 9).astype(dtype)
            yield Case(np.dtype(dtype).name, (x,), {"perm": (2, 1, 0)})


@operator("Concat", inputs="inputs rest*", outputs="concat_result")
class Concat(Operator):
    """Tensors one after the other along an axis (ONNX Concat 13)."""

    axis: int

    def infer(self, inputs: Types) -> tuple[TensorType, ...]:
        same_dtype(inputs, "inputs")
        dtype = given(inputs).dtype
        shapes = [t.shape for t in inputs if t is not None and t.shape is not None]
        if not shapes:
            return (TensorType(dtype, None),)
        rank = len(shapes[0])
        if any(len(s) != rank for s in shapes):
            raise GraphError(f"inputs have different ranks: {[len(s) for s in shapes]}")
        axis = axis_of(self.axis, rank)
        dims: list[Dim] = list(shapes[0])
        total: Dim = 0
        for shape in shapes:
            for k, d in enumerate(shape):
                if k != axis:
                    dims[k] = merged(dims[k], d, f"sizes of axis {k}")
            size = shape[axis]
            total = total + size if isinstance(total, int) and isinstance(size, int) else None
        if len(inputs) == 1:
            total = shapes[0][axis]
        dims[axis] = total if len(shapes) == len(inputs) else None
        return (TensorType(dtype, tuple(dims)),)

    def evaluate(self, *inputs: Array | None) -> tuple[Array, ...]:
        inferred(self, inputs)
        return (np.concatenate([given(inputs, k) for k in range(len(inputs))], self.axis),)

    def lower(
        self, emit: Emitter, inputs: Sequence[Operand | None], outputs: Sequence[Operand | None]
    ) -> bool:
        out = outputs[0]
        if out is None:
            return True
        strides = row_major(out.shape)
        axis = axis_of(self.axis, len(out.shape))
        start = 0
        for k in range(len(inputs)):
            part = given(inputs, k)
            emit_copy(
                emit, part, out, part.shape, row_major(part.shape), strides,
                target_start=start * strides[axis],
            )  # fmt: skip
            start += part.shape[axis]
        return True

    @classmethod
    def cases(cls, rng: np.random.Generator) -> Iterator[Case]:
        yield Case("first axis", (floats(rng, 2, 3), floats(rng, 4, 3)), {"axis": 0})
        parts = (floats(rng, 3, 17), floats(rng, 3, 1), floats(rng, 3, 15))
        yield Case("last axis", parts, {"axis": -1})
        yield Case("middle", (floats(rng, 2, 3, 4), floats(rng, 2, 5, 4)), {"axis": 1})
        yield Case("one", (floats(rng, 2, 3),), {"axis": 1})
        yield Case("an empty part", (floats(rng, 2, 0), floats(rng, 2, 3)), {"axis": 1})
        yield Case("nothing", (floats(rng, 0, 2), floats(rng, 0, 3)), {"axis": -1})
        yield Case("int64", (longs(1, 2), longs(3)), {"axis": 0})
        for dtype in (np.float16, np.float64, np.int32, np.uint8, np.bool_):
            x, y = ((floats(rng, 3, n) * 9).astype(dtype) for n in (5, 6))
            yield Case(np.dtype(dtype).name, (x, y), {"axis": 1})


@operator("Split", inputs="input split?", outputs="output rest*")
class Split(Operator):
    """Parts of an axis: of the sizes `split`, or `num_outputs` equal ones (ONNX Split 18)."""

    axis: int = 0
    num_outputs: int | None = None

    def __post_init__(self) -> None:
        if self.num_outputs is not None and self.num_outputs < 1:
            raise GraphError(f"num_outputs is {self.num_outputs}")

    def _sizes(self, size: Dim, split: TensorType | None) -> list[Dim]:
        """Sizes of the parts."""
        if split is None:
            return self._equal_sizes(size)
        if self.num_outputs is not None:
            raise GraphError("both split and num_outputs are given")
        values = integers(split, "split")
        if values is None:
            count = length(split)
            if count is None:
                raise UnsupportedError("the number of outputs is not known")
            return [None] * count
        if min(values, default=0) < 0 or (isinstance(size, int) and sum(values) != size):
            raise GraphError(f"split {values} does not fit the size {size}")
        return list(values)

    def _equal_sizes(self, size: Dim) -> list[Dim]:
        count = self.num_outputs
        if count is None:
            raise GraphError("neither split nor num_outputs is given")
        if not isinstance(size, int):
            return [size if count == 1 else None] * count
        each = -(-size // count)
        last = size - each * (count - 1)
        if last < 0:
            raise GraphError(f"the size {size} does not split into {count} parts")
        return [*[each] * (count - 1), last]

    def infer(self, inputs: Types) -> tuple[TensorType, ...]:
        data, split = given(inputs), maybe(inputs, 1)
        if data.shape is None:
            return tuple(TensorType(data.dtype, None) for _ in self._sizes(None, split))
        axis, shape = axis_of(self.axis, len(data.shape)), data.shape
        return tuple(
            TensorType(data.dtype, (*shape[:axis], size, *shape[axis + 1 :]))
            for size in self._sizes(shape[axis], split)
        )

    def evaluate(self, *inputs: Array | None) -> tuple[Array, ...]:
        data = given(inputs)
        sizes = [t.sizes[self.axis] for t in inferred(self, inputs)]
        return tuple(np.split(data, list(accumulate(sizes))[:-1], self.axis))

    def lower(
        self, emit: Emitter, inputs: Sequence[Operand | None], outputs: Sequence[Operand | None]
    ) -> bool:
        data, split = given(inputs), maybe(inputs, 1)
        if split is not None and split.value is None:
            return False
        strides, axis = row_major(data.shape), axis_of(self.axis, len(data.shape))
        sizes = self._sizes(data.shape[axis], None if split is None else split.type)
        whole = all(d == 1 for d in data.shape[:axis])
        start = 0
        for size, out in zip(sizes, outputs, strict=False):
            if out is not None and whole:
                emit_view(emit, data, out, start * strides[axis])
            elif out is not None:
                emit_copy(
                    emit, data, out, out.shape, strides, row_major(out.shape),
                    source_start=start * strides[axis],
                )  # fmt: skip
            assert isinstance(size, int)
            start += size
        return True

    @classmethod
    def cases(cls, rng: np.random.Generator) -> Iterator[Case]:
        x = floats(rng, 4, 21)
        yield Case("equal", (x,), {"num_outputs": 2})
        yield Case("last one smaller", (x,), {"num_outputs": 5, "axis": 1})
        yield Case("sizes", (x, longs(16, 1, 4)), {"axis": -1})
        yield Case("an empty part", (x, longs(0, 4)))
        yield Case("rows of one batch", (floats(rng, 1, 6, 3), longs(2, 4)), {"axis": 1})
        yield Case("one part", (x,), {"num_outputs": 1, "axis": 1})
        yield Case("empty", (floats(rng, 0, 4), longs(1, 3)), {"axis": 1})
        for dtype in (np.float16, np.float64, np.int64, np.int8):
            y = (floats(rng, 3, 10) * 9).astype(dtype)
            yield Case(np.dtype(dtype).name, (y, longs(7, 3)), {"axis": 1})


@operator("Expand", inputs="input shape", outputs="output")
class Expand(Operator):
    """The input broadcast with a shape, in both directions (ONNX Expand 13)."""

    def infer(self, inputs: Types) -> tuple[TensorType, ...]:
        data, wanted = given(inputs), given(inputs, 1)
        values = integers(wanted, "shape")
        if values is not None and min(values, default=0) < 0:
            raise GraphError(f"the shape {values} has a negative size")
        count = length(wanted) if values is None else len(values)
        if data.shape is None or count is None:
            return (TensorType(data.dtype, None),)
        sizes = (None,) * count if values is None else tuple(values)
        return (TensorType(data.dtype, broadcast_shape([data.shape, sizes])),)

    def evaluate(self, *inputs: Array | None) -> tuple[Array, ...]:
        return (np.broadcast_to(given(inputs), inferred(self, inputs)[0].sizes),)

    def lower(
        self, emit: Emitter, inputs: Sequence[Operand | None], outputs: Sequence[Operand | None]
    ) -> bool:
        data, out = given(inputs), outputs[0]
        if out is None:
            return True
        if data.size == out.size:
            emit_view(emit, data, out)
            return True
        strides = [0] * (len(out.shape) - len(data.shape)) + [
            0 if size == 1 else stride
            for size, stride in zip(data.shape, row_major(data.shape), strict=True)
        ]
        emit_copy(emit, data, out, out.shape, strides, row_major(out.shape))
        return True

    @classmethod
    def cases(cls, rng: np.random.Generator) -> Iterator[Case]:
        yield Case("rows", (floats(rng, 1, 17), longs(5, 17)))
        yield Case("columns", (floats(rng, 5, 1), longs(5, 19)))
        yield Case("more axes", (floats(rng, 3), longs(2, 4, 3)))
        yield Case("both ways", (floats(rng, 3, 1), longs(2, 1, 5)))
        yield Case("smaller shape", (floats(rng, 2, 3), longs(1)))
        yield Case("scalar", (np.array(2.5, np.float32), longs(3, 2)))
        yield Case("to nothing", (floats(rng, 1, 3), longs(0, 3)))
        yield Case("inside", (floats(rng, 2, 1, 3), longs(2, 4, 3)))
        for dtype in (np.float16, np.float64, np.int64, np.int8, np.bool_):
            x = (floats(rng, 3, 1, 2) * 9).astype(dtype)
            yield Case(np.dtype(dtype).name, (x, longs(4, 1, 5, 2)))


@operator("Tile", inputs="input repeats", outputs="output")
class Tile(Operator):
    """The input repeated along each axis (ONNX Tile 13)."""

    def infer(self, inputs: Types) -> tuple[TensorType, ...]:
        data, repeats = given(inputs), given(inputs, 1)
        values = integers(repeats, "repeats")
        count = length(repeats) if values is None else len(values)
        if data.shape is None:
            return (TensorType(data.dtype, None if count is None else (None,) * count),)
        if count is not None and count != len(data.shape):
            raise GraphError(f"{count} repeats for rank {len(data.shape)}")
        if values is None:
            return (TensorType(data.dtype, (None,) * len(data.shape)),)
        if min(values, default=0) < 0:
            raise GraphError(f"repeats {values} has a negative number")
        sizes = (
            n if d == 1 else d if n == 1 else d * n if isinstance(d, int) else None
            for d, n in zip(data.shape, values, strict=True)
        )
        return (TensorType(data.dtype, tuple(sizes)),)

    def evaluate(self, *inputs: Array | None) -> tuple[Array, ...]:
        inferred(self, inputs)
        return (np.tile(given(inputs), given(inputs, 1).tolist()),)

    def lower(
        self, emit: Emitter, inputs: Sequence[Operand | None], outputs: Sequence[Operand | None]
    ) -> bool:
        data, out = given(inputs), outputs[0]
        if out is None:
            return True
        if data.size == out.size:
            emit_view(emit, data, out)
            return True
        sizes, source, target = [], [], []
        for size, whole, s, t in zip(
            data.shape, out.shape, row_major(data.shape), row_major(out.shape), strict=True
        ):
            sizes += [whole // size if size else 0, size]
            source += [0, s]
            target += [t * size, t]
        emit_copy(emit, data, out, sizes, source, target)
        return True

    @classmethod
    def cases(cls, rng: np.random.Generator) -> Iterator[Case]:
        yield Case("both axes", (floats(rng, 2, 3), longs(2, 3)))
        yield Case("rows", (floats(rng, 3, 17), longs(4, 1)))
        yield Case("ones", (floats(rng, 2, 3), longs(1, 1)))
        yield Case("no repeats", (floats(rng, 2, 3), longs(0, 2)))
        yield Case("empty", (floats(rng, 0, 3), longs(2, 2)))
        yield Case("one element a row", (floats(rng, 3, 1), longs(1, 18)))
        for dtype in (np.float64, np.int64, np.uint8, np.bool_):
            x = (floats(rng, 2, 2, 3) * 9).astype(dtype)
            yield Case(np.dtype(dtype).name, (x, longs(2, 1, 2)))
