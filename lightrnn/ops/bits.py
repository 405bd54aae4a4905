"""Operators on the bits of whole numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from lightrnn.errors import GraphError
from lightrnn.graph import Array, TensorType
from lightrnn.ops.arguments import data_type, given, same_dtype
from lightrnn.ops.broadcast import broadcast_shape
from lightrnn.ops.copying import emit_view
from lightrnn.ops.lowering import Emitter, Operand
from lightrnn.ops.registry import Case, Operator, Types, operator

_TYPES = tuple(f"{sign}int{bits}" for bits in (8, 16, 32, 64) for sign in ("u", ""))


def _whole(rng: np.random.Generator, dtype: str, *shape: int) -> Array:
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max, shape, dtype, endpoint=True)


class Bitwise(Operator):
    """Two inputs of one type of whole numbers, broadcast."""

    kinds = "iu"

    def compute(self, a: Array, b: Array) -> Array:
        """The function, in NumPy."""
        raise NotImplementedError

    def infer(self, inputs: Types) -> tuple[TensorType, ...]:
        same_dtype(inputs, "inputs")
        shape = broadcast_shape([given(inputs).shape, given(inputs, 1).shape])
        return (TensorType(given(inputs).dtype, shape),)

    def evaluate(self, *inputs: Array | None) -> tuple[Array, ...]:
        a, b = given(inputs), given(inputs, 1)
        return (np.asarray(self.compute(a, b), a.dtype),)

    @classmethod
    def cases(cls, rng: np.random.Generator) -> Iterator[Case]:
        for dtype in _TYPES:
            yield Case(dtype, (_whole(rng, dtype, 3, 4), _whole(rng, dtype, 4)))
        yield Case("broadcast", (_whole(rng, "int32", 3, 1, 2), _whole(rng, "int32", 4, 1)))


@operator("BitwiseAnd", inputs="A B", outputs="C")
class BitwiseAnd(Bitwise):
    def compute(self, a: Array, b: Array) -> Array:
        return np.bitwise_and(a, b)


@operator("BitwiseOr", inputs="A B", outputs="C")
class BitwiseOr(Bitwise):
    def compute(self, a: Array, b: Array) -> Array:
        return np.bitwise_or(a, b)


@operator("BitwiseXor", inputs="A B", outputs="C")
class BitwiseXor(Bitwise):
    def compute(self, a: Array, b: Array) -> Array:
        return np.bitwise_xor(a, b)


@operator("BitShift", inputs="X Y", outputs="Z")
class BitShift(Bitwise):
    """X moved by Y bits, LEFT or RIGHT; the sign fills from the left (ONNX BitShift 28)."""

    direction: str

    def __post_init__(self) -> None:
        if self.direction not in ("LEFT", "RIGHT"):
            raise GraphError(f"direction is {self.direction!r}, expected LEFT or RIGHT")

    def compute(self, a: Array, b: Array) -> Array:
        bits = 8 * a.dtype.itemsize
        within = (b >= 0) & (b < bits)
        count = np.where(within, b, 0).astype(a.dtype)
        if self.direction == "LEFT":
            return np.where(within, np.left_shift(a, count), np.zeros_like(a))
        beyond = np.right_shift(a, np.asarray(bits - 1, a.dtype)) if a.dtype.kind == "i" else 0 * a
        return np.where(within, np.right_shift(a, count), beyond)

    @classmethod
    def cases(cls, rng: np.random.Generator) -> Iterator[Case]:
        for direction in ("LEFT", "RIGHT"):
            for dtype in _TYPES:
                signed = dtype.startswith("i")
                x = _whole(rng, dtype, 3, 7)
                counts = rng.integers(-2 if signed else 0, 70, (3, 7)).astype(dtype)
                yield Case(f"{dtype} {direction}", (x, counts), {"direction": direction})


@operator("BitwiseNot", inputs="X", outputs="Y")
class BitwiseNot(Operator):
    kinds = "iu"

    def infer(self, inputs: Types) -> tuple[TensorType, ...]:
        x = given(inputs)
        return (TensorType(x.dtype, x.shape),)

    def evaluate(self, *inputs: Array | None) -> tuple[Array, ...]:
        return (np.bitwise_not(given(inputs)),)

    @classmethod
    def cases(cls, rng: np.random.Generator) -> Iterator[Case]:
        for dtype in _TYPES:
            yield Case(dtype, (_whole(rng, dtype, 3, 4),))


@operator("BitCast", inputs="input", outputs="output")
class BitCast(Operator):
    """The same bytes as elements of another type of the same size (ONNX BitCast 26)."""

    to: int

    def infer(self, inputs: Types) -> tuple[TensorType, ...]:
        x, dtype = given(inputs), data_type(self.to)
        if x.dtype.itemsize != dtype.itemsize:
            raise GraphError(f"{x.dtype.name} and {dtype.name} have different sizes")
        return (TensorType(dtype, x.shape),)

    def evaluate(self, *inputs: Array | None) -> tuple[Array, ...]:
        x = given(inputs)
        return (
            np.ascontiguousarray(x).view(self.infer([TensorType.of(x)])[0].dtype).reshape(x.shape),
        )

    def lower(
        self, emit: Emitter, inputs: Sequence[Operand | None], outputs: Sequence[Operand | None]
    ) -> bool:
        if outputs[0] is not None:
            emit_view(emit, given(inputs), outputs[0])
        return True

    @classmethod
    def cases(cls, rng: np.random.Generator) -> Iterator[Case]:
        x = rng.standard_normal((3, 5)).astype(np.float32)
        yield Case("float32 to int32", (x,), {"to": 6})
        yield Case("int64 to float64", (x.astype(np.float64).view(np.int64),), {"to": 11})
        yield Case("int8 to uint8", (_whole(rng, "int8", 7),), {"to": 2})
        yield Case("float16 to uint16", (x.astype(np.float16),), {"to": 4})
        yield Case("scalar", (np.array(1.5, np.float32),), {"to": 12})
