"""Between real numbers and small integers: QuantizeLinear, DequantizeLinear, the dynamic form."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from lightrnn.errors import DataError, GraphError, UnsupportedError
from lightrnn.graph import DTYPES, FLOAT32, Array, Shape, TensorType
from lightrnn.ops.arguments import axis_of, data_type, given, inferred, maybe, merged, same_dtype
from lightrnn.ops.narrow import NARROW, Float, Integer
from lightrnn.ops.registry import Case, Operator, Types, operator
from lightrnn.ops.reshaping import floats

UINT8 = DTYPES["uint8"]
_SMALL = ("uint8", "int8", "uint16", "int16")
_REAL = ("float32", "float16", "int32")


def check_element(t: TensorType | None, allowed: tuple[str, ...], what: str) -> None:
    """Raise UnsupportedError for an element type that is not allowed."""
    if t is not None and t.dtype.name not in allowed:
        raise UnsupportedError(
            f"{what}: element type {t.dtype.name} is not supported, expected {', '.join(allowed)}"
        )


def saturated(x: Array, dtype: np.dtype[Any]) -> Array:
    """Whole numbers in `dtype`, those outside its range at its ends."""
    limits = np.iinfo(dtype)
    with np.errstate(invalid="ignore"):
        return np.clip(x, limits.min, limits.max).astype(dtype)


def spread(value: Array, shape: tuple[int, ...], axis: int, block_size: int) -> Array:
    """A scale or zero point as it multiplies a tensor of `shape`: of all, of an axis, of blocks."""
    if value.size == 1:
        return value.reshape(())
    if not block_size:
        return value.reshape(-1, *[1] * (len(shape) - axis_of(axis, len(shape)) - 1))
    axis = axis_of(axis, len(shape))
    return value.take(np.arange(shape[axis]) // block_size, axis)


class Quantization(Operator):
    """What QuantizeLinear and DequantizeLinear share: one scale for all, an axis, or blocks."""

    axis: int = 1
    block_size: int = 0
    output_dtype: int = 0

    def __post_init__(self) -> None:
        if self.block_size < 0:
            raise GraphError(f"block_size is {self.block_size}")

    def _check_scale(self, inputs: Types) -> None:
        x = given(inputs)
        if x.shape is None:
            return
        for t in (given(inputs, 1), maybe(inputs, 2)):
            if t is None or t.shape is None or all(d == 1 for d in t.shape):
                continue
            wanted = self._blocks(x.shape)
            if len(t.shape) != len(wanted):
                raise GraphError(f"a scale or zero point is {t}, expected {list(wanted)}")
            for have, want in zip(t.shape, wanted, strict=True):
                merged(have, want, "sizes of a scale or zero point and its blocks,")

    def _blocks(self, shape: Shape) -> Shape:
        """The shape of scales for an input of `shape`."""
        axis = axis_of(self.axis, len(shape))
        if not self.block_size:
            return (shape[axis],)
        size = shape[axis]
        count = -(-size // self.block_size) if isinstance(size, int) else None
        return (*shape[:axis], count, *shape[axis + 1 :])

    def _spread(self, value: Array, x: Array) -> Array:
        return spread(value, x.shape, self.axis, self.block_size)


@operator("QuantizeLinear", inputs="x y_scale y_zero_point?", outputs="y")
class QuantizeLinear(Quantization):
    """saturate(round(x / y_scale) + y_zero_point), halves to even (ONNX QuantizeLinear 25).

    precision: the type of the division, by default that of y_scale. output_dtype: may be a type
    that NumPy lacks; y is then of the type that carries it.
    """

    precision: int = 0
    saturate: int = 1

    kinds = "if"

    def _dtype(self, zero: TensorType | None) -> np.dtype[Any]:
        if self.output_dtype in NARROW:
            return np.dtype(NARROW[self.output_dtype].carrier)
        wanted = data_type(self.output_dtype) if self.output_dtype else None
        if zero is not None and wanted not in (None, zero.dtype):
            raise GraphError(f"output_dtype is {wanted}, the zero point is {zero.dtype}")
        return wanted or (UINT8 if zero is None else zero.dtype)

    def infer(self, inputs: Types) -> tuple[TensorType, ...]:
        x, zero = given(inputs), maybe(inputs, 2)
        check_element(x, _REAL, "x")
        check_element(given(inputs, 1), _REAL, "y_scale")
        dtype = self._dtype(zero)
        if self.output_dtype not in NARROW:
            check_element(TensorType(dtype, None), _SMALL, "y")
        self._check_scale(inputs)
        return (TensorType(dtype, x.shape),)

    def evaluate(self, *inputs: Array | None) -> tuple[Array, ...]:
        dtype = inferred(self, inputs)[0].dtype
        x, scale, zero = given(inputs), given(inputs, 1), maybe(inputs, 2)
        kind = data_type(self.precision) if self.precision else scale.dtype
        narrow = NARROW.get(self.output_dtype)
        shift = 0.0 if zero is None else self._spread(zero, x).astype(np.float64)
        with np.errstate(all="ignore"):
            scaled = x.astype(kind) / self._spread(scale.astype(kind), x)
            if isinstance(narrow, Float):
                return (narrow.convert(scaled + shift, bool(self.saturate), "nearest"),)
            whole = np.rint(scaled).astype(np.float64) + shift
            if isinstance(narrow, Integer):
                whole = np.clip(whole, *narrow.limits)
            return (saturated(whole, dtype),)

    @classmethod
    def cases(cls, rng: np.random.Generator) -> Iterator[Case]:
        x = floats(rng, 3, 4, 5) * 40
        one, none = np.array(0.5, np.float32), np.array(7, np.uint8)
        yield Case("default type", (x, one))
        yield Case("halves", (np.arange(-9, 9).astype(np.float32), np.array(2, np.float32), none))
        for dtype in (np.uint8, np.int8, np.uint16, np.int16):
            yield Case(np.dtype(dtype).name, (x, one, np.array(3, dtype)))
        scale = rng.uniform(0.1, 2, 4).astype(np.float32)
        yield Case("axis", (x, scale, rng.integers(0, 9, 4).astype(np.uint8)))
        yield Case("last axis", (x, scale[[0, 1, 2, 3, 0]]), {"axis": -1})
        blocks = rng.uniform(0.1, 2, (3, 4, 3)).astype(np.float32)
        attrs = {"axis": 2, "block_size": 2}
        yield Case("blocks", (x, blocks, np.ones((3, 4, 3), np.int8)), attrs)
        yield Case("output type", (x, one), {"output_dtype": 3})
        yield Case("int32", ((x * 9).astype(np.int32), one, none))
        yield Case("float16", (x.astype(np.float16), one.astype(np.float16), none))
        yield Case("empty", (floats(rng, 0, 4), one, none))


@operator("DequantizeLinear", inputs="x x_scale x_zero_point?", outputs="y")
class DequantizeLinear(Quantization):
    """(x - x_zero_point) * x_scale (ONNX DequantizeLinear 25).

    x is float32 where it carries elements of eight or four bits.
    """

    kinds = "iuf"

    def infer(self, inputs: Types) -> tuple[TensorType, ...]:
        x, scale, zero = given(inputs), given(inputs, 1), maybe(inputs, 2)
        check_element(x, (*_SMALL, "int32", "float32"), "x")
        check_element(scale, ("float32", "float16"), "x_scale")
        same_dtype((x, zero), "x and x_zero_point")
        self._check_scale(inputs)
        dtype = data_type(self.output_dtype) if self.output_dtype else scale.dtype
        check_element(TensorType(dtype, None), ("float32", "float16"), "y")
        return (TensorType(dtype, x.shape),)

    def evaluate(self, *inputs: Array | None) -> tuple[Array, ...]:
        dtype = inferred(self, inputs)[0].dtype
        x, scale, zero = given(inputs), given(inputs, 1), maybe(inputs, 2)
        wide = x.astype(np.float64)
        wide = wide if zero is None else wide - self._spread(zero, x)
        with np.errstate(all="ignore"):
            return ((wide.astype(FLOAT32) * self._spread(scale, x)).astype(dtype),)

    @classmethod
    def cases(cls, rng: np.random.Generator) -> Iterator[Case]:
        one = np.array(0.3, np.float32)
        for dtype in (np.uint8, np.int8, np.uint16, np.int16):
            x = rng.integers(0, 100, (3, 4, 5)).astype(dtype)
            yield Case(np.dtype(dtype).name, (x, one, np.array(9, dtype)))
        x = rng.integers(0, 255, (3, 4, 5)).astype(np.uint8)
        scale = rng.uniform(0.1, 2, 4).astype(np.float32)
        yield Case("int32", (rng.integers(-(10**6), 10**6, (3, 4)).astype(np.int32), one))
        yield Case("axis", (x, scale, rng.integers(0, 9, 4).astype(np.uint8)))
        yield Case("first axis", (x, scale[:3]), {"axis": -3})
        blocks = rng.uniform(0.1, 2, (2, 4, 5)).astype(np.float32)
        yield Case("blocks", (x, blocks), {"axis": 0, "block_size": 2})
        yield Case("float16", (x, one.astype(np.float16)))
        yield Case("empty", (x[:0], one))


@operator("DynamicQuantizeLinear", inputs="x", outputs="y? y_scale? y_zero_point?")
class DynamicQuantizeLinear(Operator):
    """uint8 with a scale and zero point that cover all of x and 0 (ONNX 11)."""

    kinds = "f"

    def infer(self, inputs: Types) -> tuple[TensorType, ...]:
        x = given(inputs)
        check_element(x, ("float32",), "x")
        return TensorType(UINT8, x.shape), TensorType(FLOAT32, ()), TensorType(UINT8, ())

    def evaluate(self, *inputs: Array | None) -> tuple[Array, ...]:
        x = given(inputs)
        if not np.isfinite(x).all():
            raise DataError("x holds NaN or an infinity, which has no scale")
        low = np.float32(min(x.min(initial=0), 0))
        high = np.float32(max(x.max(initial=0), 0))
        scale = np.float32(1 if high == low else (high - low) / np.float32(255))
        zero = np.rint(np.clip(np.float32(0) - low / scale, 0, 255))
        y = saturated(np.rint(x / scale) + zero, UINT8)
        return y, np.asarray(scale), np.asarray(zero, UINT8)

    @classmethod
    def cases(cls, rng: np.random.Generator) -> Iterator[Case]:
        x = floats(rng, 3, 17)
        for name, value in (("both signs", x), ("positive", abs(x) + 1), ("negative", -abs(x) - 1)):
            yield Case(name, (value,))
        yield Case("zeros", (np.zeros((2, 3), np.float32),))
        yield Case("scalar", (np.array(2.5, np.float32),))
        yield Case("numbers alone", (x,), outputs=("y",))
