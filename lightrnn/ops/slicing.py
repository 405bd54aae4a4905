"""Slice: part of a tensor, in steps, forwards or backwards."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from lightrnn.errors import GraphError
from lightrnn.graph import INT64, Array, Dim, TensorType
from lightrnn.ops.arguments import (
    arrays_types,
    axes_of,
    given,
    inferred,
    integers,
    length,
    maybe,
    types_of,
)
from lightrnn.ops.copying import collapse, emit_copy, emit_view, row_major
from lightrnn.ops.lowering import Emitter, Operand
from lightrnn.ops.registry import Case, Operator, Types, operator
from lightrnn.ops.reshaping import floats, longs
from lightrnn.record import Record

_MAX, _MIN = np.iinfo(np.int64).max, np.iinfo(np.int64).min
_END = 2**31 - 1
"""Exporters write the end of an axis as this or more."""


def bounds(size: int, start: int, end: int, step: int) -> tuple[int, int]:
    """(first index, number of elements) of a slice, clamped as ONNX Slice says."""
    start += size if start < 0 else 0
    end += size if end < 0 else 0
    if step > 0:
        start, end = min(max(start, 0), size), min(max(end, 0), size)
        return start, max(-((start - end) // step), 0)
    start, end = min(max(start, 0), size - 1), min(max(end, -1), size - 1)
    return start, max(-((end - start) // -step), 0) if size else 0


class _Range(Record):
    axis: int
    start: int
    end: int
    step: int

    def size(self, size: Dim) -> Dim:
        if isinstance(size, int):
            return bounds(size, self.start, self.end, self.step)[1]
        whole = (self.start, self.step) == (0, 1) and self.end >= _END
        turned = (self.start, self.step) == (-1, -1) and self.end < -_END
        return size if whole or turned else None


@operator("Slice", inputs="data starts ends axes? steps?", outputs="output")
class Slice(Operator):
    """data[start:end:step] on some axes, ends clamped (ONNX Slice 13)."""

    def _ranges(self, types: Types, rank: int) -> list[_Range] | None:
        """The slices, by axis; None where a number is not known."""
        starts, ends = integers(given(types, 1), "starts"), integers(given(types, 2), "ends")
        axes_type, steps_type = maybe(types, 3), maybe(types, 4)
        axes = None if axes_type is None else integers(axes_type, "axes")
        steps = None if steps_type is None else integers(steps_type, "steps")
        if (
            starts is None or ends is None
            or (axes is None and axes_type is not None)
            or (steps is None and steps_type is not None)
        ):  # fmt: skip
            return None
        if axes is None:
            axes = list(range(len(starts)))
        if steps is None:
            steps = [1] * len(starts)
        if not len(starts) == len(ends) == len(axes) == len(steps):
            raise GraphError("starts, ends, axes and steps have different lengths")
        if 0 in steps:
            raise GraphError("a step is 0")
        parts = zip(axes_of(axes, rank), starts, ends, steps, strict=True)
        return [_Range(*part) for part in parts]

    def infer(self, inputs: Types) -> tuple[TensorType, ...]:
        data = given(inputs)
        if data.shape is None:
            return (TensorType(data.dtype, None),)
        ranges = self._ranges(inputs, len(data.shape))
        if ranges is None:
            return (TensorType(data.dtype, self._unknown(inputs, list(data.shape))),)
        shape = list(data.shape)
        for r in ranges:
            shape[r.axis] = r.size(shape[r.axis])
        return (TensorType(data.dtype, tuple(shape)),)

    def _unknown(self, inputs: Types, shape: list[Dim]) -> tuple[Dim, ...]:
        """Sizes where starts or ends are not known: None on the axes that they are for."""
        given_axes = maybe(inputs, 3)
        if given_axes is None:
            count = length(given(inputs, 1))
            touched = range(len(shape) if count is None else min(count, len(shape)))
        elif given_axes.value is None:
            touched = range(len(shape))
        else:
            for axis in axes_of(integers(given_axes, "axes") or [], len(shape)):
                shape[axis] = None
            return tuple(shape)
        for axis in touched:
            shape[axis] = None
        return tuple(shape)

    def evaluate(self, *inputs: Array | None) -> tuple[Array, ...]:
        shape = inferred(self, inputs)[0].sizes
        data = given(inputs)
        types = arrays_types(inputs)
        index: list[slice | Array] = [slice(None)] * data.ndim
        for r in self._ranges(types, data.ndim) or ():
            start, count = bounds(data.shape[r.axis], r.start, r.end, r.step)
            stop = start + r.step * count
            index[r.axis] = slice(start, None if stop < 0 else stop, r.step)
        return (data[tuple(index)].reshape(shape),)

    def lower(
        self, emit: Emitter, inputs: Sequence[Operand | None], outputs: Sequence[Operand | None]
    ) -> bool:
        data, out = given(inputs), outputs[0]
        ranges = self._ranges(types_of(inputs), len(data.shape))
        if ranges is None:
            return False
        if out is None or out.size == 0:
            return True
        strides, start = row_major(data.shape), 0
        for r in ranges:
            first, _ = bounds(data.shape[r.axis], r.start, r.end, r.step)
            start += first * strides[r.axis]
            strides[r.axis] *= r.step
        target = row_major(out.shape)
        dims = collapse(list(zip(out.shape, strides, target, strict=True)))
        if not dims or (len(dims) == 1 and dims[0][1] == 1):
            emit_view(emit, data, out, start)
        else:
            emit_copy(emit, data, out, out.shape, strides, target, source_start=start)
        return True

    @classmethod
    def cases(cls, rng: np.random.Generator) -> Iterator[Case]:
        x = floats(rng, 5, 4, 19)
        yield Case("first axis", (x, longs(1), longs(3)))
        yield Case("last axis", (x, longs(2), longs(18), longs(2)))
        yield Case("negative", (x, longs(-3, -17), longs(-1, -1), longs(0, -1)))
        yield Case("steps", (x, longs(0, 1), longs(5, 19), longs(0, 2), longs(2, 3)))
        yield Case("backwards", (x, longs(-1, 17), longs(_MIN, 2), longs(1, 2), longs(-1, -2)))
        yield Case("to the end", (x, longs(2, 5), longs(_MAX, _MAX), longs(1, 2)))
        yield Case("before the start", (x, longs(_MIN), longs(2), longs(2)))
        yield Case("backwards from far", (x, longs(_MAX), longs(_MIN), longs(0), longs(-1)))
        yield Case("nothing left", (x, longs(3), longs(1)))
        yield Case("past the end", (x, longs(30), longs(40), longs(2)))
        yield Case("big steps", (x, longs(1, 3), longs(5, 0), longs(2, 0), longs(100, -100)))
        yield Case("all steps, no axes", (x, longs(0, 0), longs(5, 4), None, longs(3, 2)))
        int32 = (np.array([v], np.int32) for v in (1, 4, 1, 2))
        yield Case("int32", (x, *int32))
        yield Case("empty", (floats(rng, 0, 3), longs(0, -1), longs(_MAX, _MIN), longs(0, 1),
                             longs(-1, -1)))  # fmt: skip
        for dtype in (np.float16, np.float64, INT64, np.int8, np.bool_):
            y = (floats(rng, 4, 11) * 9).astype(dtype)
            yield Case(np.dtype(dtype).name, (y, longs(9), longs(1), longs(1), longs(-3)))
            yield Case(f"{np.dtype(dtype).name} block", (y, longs(1), longs(8), longs(1)))
