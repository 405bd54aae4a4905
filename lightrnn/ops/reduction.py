"""Operators that reduce axes: sums, extremes, places of extremes, running sums."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from typing import Any, ClassVar

import numpy as np

from lightrnn.errors import GraphError
from lightrnn.graph import FLOAT32, INT32, INT64, Array, Shape, TensorType
from lightrnn.native.abi import ELEMENTS, REDUCTIONS
from lightrnn.ops.arguments import axes_of, axis_of, given, integers, length, maybe, scalar
from lightrnn.ops.lowering import Emitter, Operand
from lightrnn.ops.registry import Case, Operator, Types, operator
from lightrnn.ops.reshaping import longs

WHOLE = ("ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd")
"""Reductions with a kernel for whole numbers."""


def sections(shape: Sequence[int], axes: Sequence[int]) -> tuple[int, int, int] | None:
    """A shape as [outer, n, inner] around reduced axes; None where they are not neighbours."""
    wide = [k for k in sorted(axes) if shape[k] != 1]
    if not wide:
        return prod(shape), 1, 1
    first, last = wide[0], wide[-1]
    if any(shape[k] != 1 and k not in wide for k in range(first, last)):
        return None
    return prod(shape[:first]), prod(shape[first : last + 1]), prod(shape[last + 1 :])


def without(shape: Shape, axes: Sequence[int], keepdims: bool) -> Shape:
    """A shape after its axes are reduced."""
    if keepdims:
        return tuple(1 if k in axes else d for k, d in enumerate(shape))
    return tuple(d for k, d in enumerate(shape) if k not in axes)


class Reduction(Operator):
    """Over the axes given, over all without any (or over none if noop_with_empty_axes)."""

    keepdims: int = 1
    noop_with_empty_axes: int = 0
    kinds = "iuf"

    def compute(self, x: Array, axes: tuple[int, ...]) -> Array:
        """The reduction, in NumPy, without the reduced axes."""
        raise NotImplementedError

    def _axes(self, inputs: Types) -> list[int] | None:
        """The axes, from 0 on; None where they are not known yet."""
        x, axes = given(inputs), maybe(inputs, 1)
        found = [] if axes is None else integers(axes, "axes")
        if found is None and axes is not None and length(axes) == 0:
            found = []
        if found is None or x.rank is None:
            return None
        if not found:
            return [] if self.noop_with_empty_axes else list(range(x.rank))
        return axes_of(found, x.rank)

    def infer(self, inputs: Types) -> tuple[TensorType, ...]:
        x, axes = given(inputs), self._axes(inputs)
        if x.shape is None or axes is None:
            keeps = bool(self.keepdims) and x.shape is not None
            unknown: Shape | None = (None,) * len(x.shape or ()) if keeps else None
            return (TensorType(x.dtype, unknown),)
        return (TensorType(x.dtype, without(x.shape, axes, bool(self.keepdims))),)

    def evaluate(self, *inputs: Array | None) -> tuple[Array, ...]:
        x = given(inputs)
        axes = self._axes([None if a is None else TensorType.of(a) for a in inputs])
        assert axes is not None
        with np.errstate(all="ignore"):
            result = self.compute(x, tuple(axes))
        shape = without(x.shape, axes, bool(self.keepdims))
        return (np.asarray(result, x.dtype).reshape([d for d in shape if isinstance(d, int)]),)

    def lower(
        self, emit: Emitter, inputs: Sequence[Operand | None], outputs: Sequence[Operand | None]
    ) -> bool:
        x, y = given(inputs), given(outputs)
        axes = self._axes([None if o is None else o.type for o in inputs])
        parts = None if axes is None else sections(x.shape, axes)
        if parts is None or parts[1] == 0:
            return False
        kind = x.type.dtype.name
        code = REDUCTIONS.index(self.name)
        if x.type.dtype == FLOAT32:
            emit.call("reduce", x, y, *parts, code, work=x.size)
            return True
        if kind not in ("int64", "int32") or self.name not in WHOLE:
            return False
        emit.call("reduce_whole", x, y, *parts, code, ELEMENTS.index(kind), work=2 * x.size)
        return True

    @classmethod
    def cases(cls, rng: np.random.Generator) -> Iterator[Case]:
        x = rng.uniform(0.5, 2.0, (3, 4, 5)).astype(np.float32)
        yield Case("all", (x,))
        yield Case("all, no dims", (x,), {"keepdims": 0})
        for axes in ((0,), (1,), (-1,), (0, 2), (1, 2), (-3, 1)):
            yield Case(f"axes {axes}", (x, longs(*axes)))
        yield Case("axis 1, no dims", (x, longs(1)), {"keepdims": 0})
        yield Case("empty axes", (x, longs()))
        yield Case("no axes", (x, longs()), {"noop_with_empty_axes": 1})
        wide = rng.uniform(0.5, 1.5, (2, 7, 37)).astype(np.float32)
        yield Case("wide rows", (wide, longs(2)))
        yield Case("wide columns", (wide, longs(1)))
        yield Case("scalar", (np.array(2.5, np.float32),))
        yield Case("no rows", (np.ones((0, 3), np.float32), longs(1)))
        if cls.name in WHOLE:
            for dtype in (np.int64, np.int32):
                ints = rng.integers(-4, 5, (3, 4, 5)).astype(dtype)
                yield Case(f"{np.dtype(dtype).name}", (ints, longs(1)))


SLOTS: dict[str, Any] = {"inputs": "data axes?", "outputs": "reduced"}


@operator("ReduceSum", **SLOTS)
class ReduceSum(Reduction):
    def compute(self, x: Array, axes: tuple[int, ...]) -> Array:
        return np.sum(x, axis=axes, dtype=x.dtype)


@operator("ReduceMean", **SLOTS)
class ReduceMean(Reduction):
    def compute(self, x: Array, axes: tuple[int, ...]) -> Array:
        return np.asarray(np.mean(x, axis=axes))


@operator("ReduceMax", **SLOTS)
class ReduceMax(Reduction):
    kinds = "biuf"

    def compute(self, x: Array, axes: tuple[int, ...]) -> Array:
        return np.asarray(np.max(x, axis=axes, initial=lowest(x.dtype)))


@operator("ReduceMin", **SLOTS)
class ReduceMin(Reduction):
    kinds = "biuf"

    def compute(self, x: Array, axes: tuple[int, ...]) -> Array:
        return np.asarray(np.min(x, axis=axes, initial=highest(x.dtype)))


@operator("ReduceProd", **SLOTS)
class ReduceProd(Reduction):
    def compute(self, x: Array, axes: tuple[int, ...]) -> Array:
        return np.prod(x, axis=axes, dtype=x.dtype)


@operator("ReduceSumSquare", **SLOTS)
class ReduceSumSquare(Reduction):
    def compute(self, x: Array, axes: tuple[int, ...]) -> Array:
        return np.sum(x * x, axis=axes, dtype=x.dtype)


@operator("ReduceL1", **SLOTS)
class ReduceL1(Reduction):
    def compute(self, x: Array, axes: tuple[int, ...]) -> Array:
        return np.sum(np.abs(x), axis=axes, dtype=x.dtype)


@operator("ReduceL2", **SLOTS)
class ReduceL2(Reduction):
    def compute(self, x: Array, axes: tuple[int, ...]) -> Array:
        return np.sqrt(np.sum(x * x, axis=axes, dtype=x.dtype))


@operator("ReduceLogSum", **SLOTS)
class ReduceLogSum(Reduction):
    kinds = "f"

    def compute(self, x: Array, axes: tuple[int, ...]) -> Array:
        return np.log(np.sum(x, axis=axes, dtype=x.dtype))


@operator("ReduceLogSumExp", **SLOTS)
class ReduceLogSumExp(Reduction):
    kinds = "f"

    def compute(self, x: Array, axes: tuple[int, ...]) -> Array:
        top = np.max(x, axis=axes, keepdims=True, initial=lowest(x.dtype))
        top = np.where(np.isfinite(top), top, 0)
        total = np.sum(np.exp(x - top), axis=axes, keepdims=True)
        return np.log(total) + top


def lowest(dtype: np.dtype[Any]) -> Any:
    """The value that is a maximum of nothing."""
    return -np.inf if dtype.kind == "f" else False if dtype.kind == "b" else np.iinfo(dtype).min


def highest(dtype: np.dtype[Any]) -> Any:
    """The value that is a minimum of nothing."""
    return np.inf if dtype.kind == "f" else True if dtype.kind == "b" else np.iinfo(dtype).max


class ArgReduction(Operator):
    """The place of an extreme along an axis; the first, or the last if select_last_index."""

    axis: int = 0
    keepdims: int = 1
    select_last_index: int = 0
    kinds = "iuf"

    def compute(self, x: Array, axis: int) -> Array:
        """The first place, in NumPy."""
        raise NotImplementedError

    def infer(self, inputs: Types) -> tuple[TensorType, ...]:
        x = given(inputs)
        if x.shape is None:
            return (TensorType(INT64, None),)
        axis = axis_of(self.axis, len(x.shape))
        if x.shape[axis] == 0:
            raise GraphError(f"axis {axis} has no elements")
        return (TensorType(INT64, without(x.shape, [axis], bool(self.keepdims))),)

    def evaluate(self, *inputs: Array | None) -> tuple[Array, ...]:
        x = given(inputs)
        axis = axis_of(self.axis, x.ndim)
        if self.select_last_index:
            places = x.shape[axis] - 1 - self.compute(np.flip(x, axis), axis)
        else:
            places = self.compute(x, axis)
        return (np.asarray(np.expand_dims(places, axis) if self.keepdims else places, INT64),)

    def lower(
        self, emit: Emitter, inputs: Sequence[Operand | None], outputs: Sequence[Operand | None]
    ) -> bool:
        x, y = given(inputs), given(outputs)
        if x.type.dtype != FLOAT32:
            return False
        axis = axis_of(self.axis, len(x.shape))
        parts = prod(x.shape[:axis]), x.shape[axis], prod(x.shape[axis + 1 :])
        largest = int(self.name == "ArgMax")
        emit.call("arg_reduce", x, y, *parts, largest, self.select_last_index, work=2 * x.size)
        return True

    @classmethod
    def cases(cls, rng: np.random.Generator) -> Iterator[Case]:
        x = rng.integers(-3, 4, (3, 4, 5)).astype(np.float32)
        for axis in (0, 1, -1):
            yield Case(f"axis {axis}", (x,), {"axis": axis})
        yield Case("last", (x,), {"axis": 1, "select_last_index": 1})
        yield Case("no dims", (x,), {"axis": 2, "keepdims": 0})
        yield Case("int64", (x.astype(np.int64),), {"axis": 1})


@operator("ArgMax", inputs="data", outputs="reduced")
class ArgMax(ArgReduction):
    def compute(self, x: Array, axis: int) -> Array:
        return np.asarray(np.argmax(x, axis))


@operator("ArgMin", inputs="data", outputs="reduced")
class ArgMin(ArgReduction):
    def compute(self, x: Array, axis: int) -> Array:
        return np.asarray(np.argmin(x, axis))


class Cumulative(Operator):
    """Running results along an axis; exclusive leaves the element itself out, reverse runs back."""

    exclusive: int = 0
    reverse: int = 0
    kinds = "iuf"
    neutral: ClassVar[int]

    def accumulate(self, x: Array, axis: int) -> Array:
        """The running results with the elements themselves, in NumPy and the type of x."""
        raise NotImplementedError

    def infer(self, inputs: Types) -> tuple[TensorType, ...]:
        x, axis = given(inputs), given(inputs, 1)
        if axis.dtype not in (INT64, INT32):
            raise GraphError(f"axis is {axis.dtype.name}, expected int64")
        known = scalar(axis, "axis")
        if known is not None and x.rank is not None:
            axis_of(int(known), x.rank)
        return (TensorType(x.dtype, x.shape),)

    def evaluate(self, *inputs: Array | None) -> tuple[Array, ...]:
        x = given(inputs)
        axis = axis_of(int(given(inputs, 1).item()), x.ndim)
        x = np.flip(x, axis) if self.reverse else x
        if self.exclusive and x.shape[axis]:
            first = np.full_like(np.take(x, [0], axis), self.neutral)
            x = np.concatenate([first, np.take(x, np.arange(x.shape[axis] - 1), axis)], axis)
        with np.errstate(all="ignore"):
            total = self.accumulate(x, axis)
        return (np.ascontiguousarray(np.flip(total, axis) if self.reverse else total),)

    @classmethod
    def cases(cls, rng: np.random.Generator) -> Iterator[Case]:
        x = rng.integers(-9, 9, (3, 4, 5)).astype(np.float32)
        for axis in (0, -1):
            yield Case(f"axis {axis}", (x, np.array(axis)))
        for name in ("exclusive", "reverse"):
            yield Case(name, (x, np.array(1)), {name: 1})
        yield Case("both", (x, np.array(1, np.int32)), {"exclusive": 1, "reverse": 1})
        yield Case("int64", (x.astype(np.int64), np.array(0)))
        yield Case("nothing", (x[:0], np.array(0)), {"exclusive": 1})


@operator("CumSum", inputs="x axis", outputs="y")
class CumSum(Cumulative):
    neutral = 0

    def accumulate(self, x: Array, axis: int) -> Array:
        return np.cumsum(x, axis, dtype=x.dtype)


@operator("CumProd", inputs="x axis", outputs="y")
class CumProd(Cumulative):
    neutral = 1

    def accumulate(self, x: Array, axis: int) -> Array:
        return np.cumprod(x, axis, dtype=x.dtype)
