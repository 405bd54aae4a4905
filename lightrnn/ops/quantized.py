"""Products of small integers: MatMulInteger, QLinearMatMul, ConvInteger, QLinearConv."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from lightrnn.errors import GraphError
from lightrnn.graph import FLOAT32, INT32, Array, TensorType
from lightrnn.ops.arguments import given, inferred, maybe, same_dtype
from lightrnn.ops.conv import Conv
from lightrnn.ops.linear import MatMul
from lightrnn.ops.lowering import Emitter, Operand
from lightrnn.ops.quantization import check_element, saturated
from lightrnn.ops.registry import Case, Operator, Types, operator

_BYTES = ("uint8", "int8")
_SCALES = ("float32", "float16")


def _bytes(rng: np.random.Generator, dtype: type, *shape: int) -> Array:
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max, shape, endpoint=True).astype(dtype)


def _centred(x: Array, zero: Array | None) -> Array:
    """x - zero in float64, whose sums of products of bytes are exact."""
    wide = x.astype(np.float64)
    return wide if zero is None else wide - zero


def _rows(value: Array) -> Array:
    """A vector with an element for each row, as a column."""
    return value.reshape(-1, 1) if value.ndim == 1 and value.size > 1 else value


def _whole(total: Array) -> Array:
    """Exact sums as int32, which may wrap around."""
    return total.astype(np.int64).astype(np.int32)


def _requantized(total: Array, factor: Array, zero: Array) -> Array:
    """saturate(round(total * factor) + zero) in the type of zero; halves to even."""
    scaled = total.astype(np.float32) * factor.astype(np.float32)
    return saturated(np.rint(scaled).astype(np.float64) + zero, zero.dtype)


@operator("MatMulInteger", inputs="A B a_zero_point? b_zero_point?", outputs="Y")
class MatMulInteger(Operator):
    """(A - a_zero_point) · (B - b_zero_point) in int32 (ONNX 10).

    Zero points are scalars, or one for each row of A and each column of B.
    """

    kinds = "iu"

    def infer(self, inputs: Types) -> tuple[TensorType, ...]:
        a, b = given(inputs), given(inputs, 1)
        for t, zero, what in ((a, maybe(inputs, 2), "A"), (b, maybe(inputs, 3), "B")):
            check_element(t, _BYTES, what)
            same_dtype((t, zero), f"{what} and its zero point")
        (y,) = MatMul().infer((TensorType(INT32, a.shape), TensorType(INT32, b.shape)))
        return (y,)

    def evaluate(self, *inputs: Array | None) -> tuple[Array, ...]:
        zero = maybe(inputs, 2)
        a = _centred(given(inputs), None if zero is None else _rows(zero))
        return (_whole(np.matmul(a, _centred(given(inputs, 1), maybe(inputs, 3)))),)

    @classmethod
    def cases(cls, rng: np.random.Generator) -> Iterator[Case]:
        for left in (np.uint8, np.int8):
            for right in (np.uint8, np.int8):
                a, b = _bytes(rng, left, 3, 17), _bytes(rng, right, 17, 5)
                zeros = np.array(3, left), np.array(9, right)
                yield Case(f"{np.dtype(left)} {np.dtype(right)}", (a, b, *zeros))
        a, b = _bytes(rng, np.uint8, 2, 3, 4), _bytes(rng, np.uint8, 4, 5)
        yield Case("no zero points", (a, b))
        yield Case("b alone", (a, b, None, np.array(7, np.uint8)))
        yield Case("columns", (a, b, np.array(7, np.uint8), _bytes(rng, np.uint8, 5)))
        yield Case("rows", (a[0], b, _bytes(rng, np.uint8, 3, 1)))
        yield Case("rows, as a vector", (a[0], b, _bytes(rng, np.uint8, 3)))


@operator(
    "QLinearMatMul",
    inputs="a a_scale a_zero_point b b_scale b_zero_point y_scale y_zero_point",
    outputs="y",
)
class QLinearMatMul(Operator):
    """A product of quantised matrices, quantised (ONNX QLinearMatMul 21)."""

    kinds = "iu"

    def infer(self, inputs: Types) -> tuple[TensorType, ...]:
        for k, what in ((1, "a_scale"), (4, "b_scale"), (6, "y_scale")):
            check_element(given(inputs, k), _SCALES, what)
        zero = given(inputs, 7)
        check_element(zero, _BYTES, "y_zero_point")
        pair = [given(inputs, k) for k in (0, 3, 2, 5)]
        (y,) = MatMulInteger().infer(pair)
        return (TensorType(zero.dtype, y.shape),)

    def evaluate(self, *inputs: Array | None) -> tuple[Array, ...]:
        a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero = (
            given(inputs, k) for k in range(8)
        )
        total = np.matmul(_centred(a, _rows(a_zero)), _centred(b, b_zero))
        factor = _rows(a_scale).astype(np.float32) * b_scale / y_scale
        return (_requantized(_whole(total), factor, y_zero),)

    @classmethod
    def cases(cls, rng: np.random.Generator) -> Iterator[Case]:
        scales = [np.array(s, np.float32) for s in (0.01, 0.03, 0.05)]
        for dtype in (np.uint8, np.int8):
            a, b = _bytes(rng, dtype, 2, 3, 17), _bytes(rng, dtype, 17, 5)
            zeros = [np.array(z, dtype) for z in (3, 100, 7)]
            parts = (a, scales[0], zeros[0], b, scales[1], zeros[1], scales[2], zeros[2])
            yield Case(np.dtype(dtype).name, parts)
        a, b = _bytes(rng, np.uint8, 3, 17), _bytes(rng, np.int8, 17, 5)
        wide = rng.uniform(0.01, 0.05, 5).astype(np.float32), _bytes(rng, np.int8, 5)
        first, last = (scales[0], np.array(3, np.uint8)), (scales[2], np.array(7, np.uint8))
        yield Case("columns", (a, *first, b, *wide, *last))


def _check_bytes(inputs: Types, pairs: tuple[tuple[int, int], ...]) -> None:
    for k, zero in pairs:
        check_element(given(inputs, k), _BYTES, "X" if k == 0 else "W")
        same_dtype((given(inputs, k), maybe(inputs, zero)), "an input and its zero point")


class _Convolution(Conv):
    """The sums of a convolution of bytes; X is centred before its padding, which is 0."""

    kinds = "iu"

    def lower(
        self, emit: Emitter, inputs: Sequence[Operand | None], outputs: Sequence[Operand | None]
    ) -> bool:
        return False

    def _conv(self) -> Conv:
        return Conv(**{name: getattr(self, name) for name in Conv.fields})

    def _types(self, x: TensorType, w: TensorType, b: TensorType | None) -> TensorType:
        wide = [None if t is None else TensorType(INT32, t.shape) for t in (x, w, b)]
        return self._conv().infer(wide)[0]

    def _sums(self, x: Array, x_zero: Array | None, w: Array, w_zero: Array | None) -> Array:
        if w_zero is not None and w_zero.size > 1:
            w_zero = w_zero.reshape(-1, *[1] * (w.ndim - 1))
        one = None if x_zero is None else x_zero.reshape(())
        (total,) = self._conv().evaluate(_centred(x, one), _centred(w, w_zero))
        return total


@operator("ConvInteger", inputs="x w x_zero_point? w_zero_point?", outputs="y")
class ConvInteger(_Convolution):
    """A convolution of bytes in int32 (ONNX ConvInteger 10)."""

    def infer(self, inputs: Types) -> tuple[TensorType, ...]:
        _check_bytes(inputs, ((0, 2), (1, 3)))
        return (self._types(given(inputs), given(inputs, 1), None),)

    def evaluate(self, *inputs: Array | None) -> tuple[Array, ...]:
        inferred(self, inputs)
        x, w = given(inputs), given(inputs, 1)
        return (_whole(self._sums(x, maybe(inputs, 2), w, maybe(inputs, 3))),)

    @classmethod
    def cases(cls, rng: np.random.Generator) -> Iterator[Case]:
        x, w = _bytes(rng, np.uint8, 2, 4, 9), _bytes(rng, np.uint8, 6, 4, 3)
        zeros = np.array(130, np.uint8), np.array(90, np.uint8)
        yield Case("plain", (x, w))
        yield Case("pads", (x, w, *zeros), {"pads": (1, 2), "strides": (2,)})
        yield Case("groups", (x, w[:, :2], zeros[0]), {"group": 2, "dilations": (2,)})
        image, square = _bytes(rng, np.uint8, 1, 3, 5, 6), _bytes(rng, np.uint8, 2, 3, 3, 2)
        yield Case("2-d", (image, square, *zeros), {"auto_pad": "SAME_UPPER"})


@operator(
    "QLinearConv",
    inputs="x x_scale x_zero_point w w_scale w_zero_point y_scale y_zero_point B?",
    outputs="y",
)
class QLinearConv(_Convolution):
    """A convolution of quantised tensors, quantised (ONNX QLinearConv 10).

    w_scale and w_zero_point: scalars, or one for each output channel. B: int32, in steps of
    x_scale * w_scale.
    """

    def infer(self, inputs: Types) -> tuple[TensorType, ...]:
        _check_bytes(inputs, ((0, 2), (3, 5)))
        for k in (1, 4, 6):
            check_element(given(inputs, k), ("float32",), "a scale")
        zero, bias = given(inputs, 7), maybe(inputs, 8)
        check_element(zero, _BYTES, "y_zero_point")
        check_element(bias, ("int32",), "B")
        y = self._types(given(inputs), given(inputs, 3), bias)
        return (TensorType(zero.dtype, y.shape),)

    def evaluate(self, *inputs: Array | None) -> tuple[Array, ...]:
        inferred(self, inputs)
        x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero = (
            given(inputs, k) for k in range(8)
        )
        total, bias = self._sums(x, x_zero, w, w_zero), maybe(inputs, 8)
        channels = (-1, *[1] * (x.ndim - 2))
        if bias is not None:
            total = total + bias.reshape(channels)
        factor = (x_scale.reshape(()) * w_scale).astype(FLOAT32) / y_scale.reshape(())
        if factor.size not in (1, w.shape[0]):
            raise GraphError(f"{factor.size} scales for {w.shape[0]} channels")
        return (_requantized(_whole(total), factor.reshape(channels), y_zero.reshape(())),)

    @classmethod
    def cases(cls, rng: np.random.Generator) -> Iterator[Case]:
        scales = [np.array(s, np.float32) for s in (0.01, 0.03, 0.05)]
        zeros = [np.array(z, np.uint8) for z in (120, 100, 70)]
        x, w = _bytes(rng, np.uint8, 2, 4, 9), _bytes(rng, np.uint8, 6, 4, 3)
        bias = rng.integers(-900, 900, 6).astype(np.int32)
        parts = (x, scales[0], zeros[0], w, scales[1], zeros[1], scales[2], zeros[2])
        yield Case("plain", parts)
        yield Case("bias, pads", (*parts, bias), {"pads": (2, 1), "strides": (2,)})
        wide = rng.uniform(0.01, 0.05, 6).astype(np.float32), np.zeros(6, np.uint8)
        yield Case("channels", (*parts[:4], *wide, *parts[6:], bias))
        image, square = _bytes(rng, np.uint8, 1, 2, 5, 6), _bytes(rng, np.uint8, 4, 1, 3, 2)
        grouped = (image, *parts[1:3], square, *parts[4:])
        yield Case("2-d, groups", grouped, {"group": 2, "pads": (1, 0, 1, 1)})
