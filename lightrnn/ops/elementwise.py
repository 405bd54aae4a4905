"""Arithmetic and mathematical functions of one element at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import ClassVar

import numpy as np

from lightrnn.errors import GraphError
from lightrnn.graph import FLOAT32, INT32, INT64, Array, TensorType
from lightrnn.native.abi import BINARY, ELEMENTS, UNARY
from lightrnn.ops.arguments import given, maybe, same_dtype, scalar
from lightrnn.ops.broadcast import broadcast_shape, walk
from lightrnn.ops.lowering import Emitter, Operand
from lightrnn.ops.registry import Case, Operator, Types, operator

SPECIAL = np.array(
    [0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 1e-40, -1e-40, 88.0, -88.0, 1e30, -1e30, 0.5],
    np.float32,
)
"""Values that functions get wrong."""


def floats(rng: np.random.Generator, *shape: int) -> Array:
    """Normal float32 numbers."""
    return rng.standard_normal(shape).astype(np.float32)


class Unary(Operator):
    """One input, one output of its type. `code` is the kernel's function, by default the name."""

    code: ClassVar[str] = ""
    domain: ClassVar[tuple[float, float]] = (-4.0, 4.0)
    kinds = "f"

    def compute(self, x: Array) -> Array:
        """The function, in NumPy."""
        raise NotImplementedError

    @property
    def parameters(self) -> tuple[float, float]:
        """The kernel's alpha and beta."""
        return 0.0, 0.0

    def infer(self, inputs: Types) -> tuple[TensorType, ...]:
        x = given(inputs)
        return (TensorType(x.dtype, x.shape),)

    def evaluate(self, *inputs: Array | None) -> tuple[Array, ...]:
        x = given(inputs)
        with np.errstate(all="ignore"):
            return (np.asarray(self.compute(x), x.dtype),)

    def lower(
        self, emit: Emitter, inputs: Sequence[Operand | None], outputs: Sequence[Operand | None]
    ) -> bool:
        x, y = given(inputs), given(outputs)
        code = self.code or self.name
        if x.type.dtype != FLOAT32 or code not in UNARY:
            return False
        emit.call("unary", x, y, x.size, UNARY.index(code), *self.parameters, work=4 * x.size)
        return True

    @classmethod
    def cases(cls, rng: np.random.Generator) -> Iterator[Case]:
        low, high = cls.domain
        for shape in ((3, 7), (), (0, 3), (33,), (2, 16, 5)):
            yield Case(str(shape), (rng.uniform(low, high, shape).astype(np.float32),))
        yield Case("special", (SPECIAL,))


@operator("Abs", inputs="X", outputs="Y")
class Abs(Unary):
    kinds = "iuf"

    def compute(self, x: Array) -> Array:
        return np.abs(x)


@operator("Neg", inputs="X", outputs="Y")
class Neg(Unary):
    kinds = "if"

    def compute(self, x: Array) -> Array:
        return np.negative(x)


@operator("Exp", inputs="input", outputs="output")
class Exp(Unary):
    def compute(self, x: Array) -> Array:
        return np.exp(x)


@operator("Log", inputs="input", outputs="output")
class Log(Unary):
    domain = (0.01, 50.0)

    def compute(self, x: Array) -> Array:
        return np.log(x)


@operator("Sqrt", inputs="X", outputs="Y")
class Sqrt(Unary):
    domain = (0.0, 9.0)

    def compute(self, x: Array) -> Array:
        return np.sqrt(x)


@operator("Reciprocal", inputs="X", outputs="Y")
class Reciprocal(Unary):
    def compute(self, x: Array) -> Array:
        return np.asarray(1, x.dtype) / x


@operator("Floor", inputs="X", outputs="Y")
class Floor(Unary):
    def compute(self, x: Array) -> Array:
        return np.floor(x)


@operator("Ceil", inputs="X", outputs="Y")
class Ceil(Unary):
    def compute(self, x: Array) -> Array:
        return np.ceil(x)


@operator("Round", inputs="X", outputs="Y")
class Round(Unary):
    """To the nearest whole number, halves to even."""

    def compute(self, x: Array) -> Array:
        return np.rint(x)


@operator("Sign", inputs="input", outputs="output")
class Sign(Unary):
    kinds = "iuf"

    def compute(self, x: Array) -> Array:
        return np.sign(x)


@operator("Sin", inputs="input", outputs="output")
class Sin(Unary):
    domain = (-100.0, 100.0)

    def compute(self, x: Array) -> Array:
        return np.sin(x)

    @classmethod
    def cases(cls, rng: np.random.Generator) -> Iterator[Case]:
        yield from list(super().cases(rng))[:-1]  # 1e30 has no meaningful angle
        yield Case("special", (np.array([0.0, -0.0, np.inf, np.nan, 1e4, -1e5], np.float32),))


@operator("Cos", inputs="input", outputs="output")
class Cos(Unary):
    domain = (-100.0, 100.0)

    def compute(self, x: Array) -> Array:
        return np.cos(x)

    @classmethod
    def cases(cls, rng: np.random.Generator) -> Iterator[Case]:
        yield from list(super().cases(rng))[:-1]
        yield Case("special", (np.array([0.0, -0.0, np.inf, np.nan, 1e4, -1e5], np.float32),))


@operator("Tan", inputs="input", outputs="output")
class Tan(Unary):
    domain = (-1.0, 1.0)

    def compute(self, x: Array) -> Array:
        return np.tan(x)


@operator("Erf", inputs="input", outputs="output")
class Erf(Unary):
    def compute(self, x: Array) -> Array:
        return np.asarray(np.frompyfunc(math.erf, 1, 1)(x), np.float64)


class Arithmetic(Operator):
    """Inputs of one element type, broadcast, joined from left to right."""

    kinds = "iuf"

    def compute(self, a: Array, b: Array) -> Array:
        """The function of two, in NumPy."""
        raise NotImplementedError

    def infer(self, inputs: Types) -> tuple[TensorType, ...]:
        same_dtype(inputs, "inputs")
        shape = broadcast_shape([None if t is None else t.shape for t in inputs])
        return (TensorType(given(inputs).dtype, shape),)

    def evaluate(self, *inputs: Array | None) -> tuple[Array, ...]:
        result = given(inputs)
        dtype = result.dtype
        with np.errstate(all="ignore"):
            for k in range(1, len(inputs)):
                result = self.compute(result, given(inputs, k))
        return (np.asarray(result, dtype),)

    def lower(
        self, emit: Emitter, inputs: Sequence[Operand | None], outputs: Sequence[Operand | None]
    ) -> bool:
        y = given(outputs)
        operands = [given(inputs, k) for k in range(len(inputs))]
        if len(operands) != 2 or self.name not in BINARY:
            return False
        a, b = operands
        code = BINARY.index(self.name)
        if y.type.dtype == FLOAT32:
            if y.size:
                words = walk(y.shape, (a.shape, b.shape))
                emit.call("binary", a, b, y, code, *words, work=y.size)
            return True
        if y.type.dtype not in (INT64, INT32) or self.name in ("Div", "PRelu"):
            return False
        if y.size:
            kind, words = ELEMENTS.index(y.type.dtype.name), walk(y.shape, (a.shape, b.shape))
            emit.call("whole_numbers", a, b, y, code, kind, *words, work=4 * y.size)
        return True

    @classmethod
    def cases(cls, rng: np.random.Generator) -> Iterator[Case]:
        for a, b in (
            ((3, 7), (3, 7)), ((3, 1, 5), (4, 1)), ((), (4,)), ((2, 3), ()), ((17,), (4, 17)),
            ((0, 3), (3,)), ((2, 1, 1, 33), (3, 1, 33)), ((5, 40), (5, 1)), ((1,), (2, 1, 3)),
        ):  # fmt: skip
            yield Case(f"{a} {b}", (floats(rng, *a), floats(rng, *b)))
        pair = np.meshgrid(SPECIAL, SPECIAL)
        yield Case("special", tuple(np.ascontiguousarray(p) for p in pair))
        for dtype in (np.int64, np.int32):
            ints = [rng.integers(1, 50, s).astype(dtype) for s in ((3, 1, 5), (4, 1))]
            yield Case(np.dtype(dtype).name, tuple(ints))


@operator("Add", inputs="A B", outputs="C")
class Add(Arithmetic):
    def compute(self, a: Array, b: Array) -> Array:
        return np.add(a, b)


@operator("Sub", inputs="A B", outputs="C")
class Sub(Arithmetic):
    def compute(self, a: Array, b: Array) -> Array:
        return np.subtract(a, b)


@operator("Mul", inputs="A B", outputs="C")
class Mul(Arithmetic):
    def compute(self, a: Array, b: Array) -> Array:
        return np.multiply(a, b)


@operator("Div", inputs="A B", outputs="C")
class Div(Arithmetic):
    """Quotient; of whole numbers toward zero, by zero some number."""

    def compute(self, a: Array, b: Array) -> Array:
        if not np.issubdtype(a.dtype, np.integer):
            return np.divide(a, b)
        quotient = np.abs(a) // np.where(b == 0, 1, np.abs(b))
        return np.where((a < 0) != (b < 0), -quotient, quotient)


@operator("Min", inputs="data_0 rest*", outputs="min")
class Min(Arithmetic):
    def compute(self, a: Array, b: Array) -> Array:
        return np.minimum(a, b)


@operator("Max", inputs="data_0 rest*", outputs="max")
class Max(Arithmetic):
    def compute(self, a: Array, b: Array) -> Array:
        return np.maximum(a, b)


@operator("Sum", inputs="data_0 rest*", outputs="sum")
class Sum(Arithmetic):
    kinds = "f"

    def compute(self, a: Array, b: Array) -> Array:
        return np.add(a, b)

    @classmethod
    def cases(cls, rng: np.random.Generator) -> Iterator[Case]:
        yield from super().cases(rng)
        yield Case("three", (floats(rng, 3, 1), floats(rng, 4), floats(rng, 3, 4)))
        yield Case("one", (floats(rng, 3, 5),))


@operator("Mean", inputs="data_0 rest*", outputs="mean")
class Mean(Arithmetic):
    kinds = "f"

    def compute(self, a: Array, b: Array) -> Array:
        return np.add(a, b)

    def infer(self, inputs: Types) -> tuple[TensorType, ...]:
        if not np.issubdtype(given(inputs).dtype, np.floating):
            raise GraphError(f"inputs are {given(inputs).dtype.name}, expected a float type")
        return super().infer(inputs)

    def evaluate(self, *inputs: Array | None) -> tuple[Array, ...]:
        (total,) = super().evaluate(*inputs)
        return (np.asarray(total / np.asarray(len(inputs), total.dtype), total.dtype),)

    @classmethod
    def cases(cls, rng: np.random.Generator) -> Iterator[Case]:
        yield from (case for case in super().cases(rng) if not case.name.startswith("int"))
        yield Case("three", (floats(rng, 3, 1), floats(rng, 4), floats(rng, 3, 4)))
        yield Case("one", (floats(rng, 3, 5),))


@operator("Mod", inputs="A B", outputs="C")
class Mod(Arithmetic):
    """Remainder with the sign of B, or of A if fmod is 1 (ONNX Mod 28)."""

    fmod: int = 0

    def compute(self, a: Array, b: Array) -> Array:
        return np.fmod(a, b) if self.fmod else np.mod(a, b)

    @classmethod
    def cases(cls, rng: np.random.Generator) -> Iterator[Case]:
        ints = rng.integers(-50, 50, (4, 5)), rng.integers(1, 9, (5,)) * np.array([1, -1, 1, -1, 1])
        yield Case("int64", ints)
        yield Case("int64 fmod", ints, {"fmod": 1})
        reals = floats(rng, 3, 5) * 5, floats(rng, 5)
        yield Case("float32 fmod", reals, {"fmod": 1})
        yield Case("float32", reals)
        yield Case("float16", tuple(a.astype(np.float16) for a in reals))


@operator("PRelu", inputs="X slope", outputs="Y")
class PRelu(Arithmetic):
    def infer(self, inputs: Types) -> tuple[TensorType, ...]:
        (y,) = super().infer(inputs)
        x = given(inputs)
        if y.shape is not None and x.shape is not None and len(y.shape) != len(x.shape):
            raise GraphError(f"slope does not broadcast to X {x}")
        return (TensorType(x.dtype, x.shape),)

    def compute(self, a: Array, b: Array) -> Array:
        return np.where(a < 0, a * b, a)

    @classmethod
    def cases(cls, rng: np.random.Generator) -> Iterator[Case]:
        for a, b in (((3, 7), (3, 7)), ((2, 3, 5), (3, 1)), ((4, 17), (1,))):
            yield Case(f"{a} {b}", (floats(rng, *a), floats(rng, *b)))


@operator("Pow", inputs="X Y", outputs="Z")
class Pow(Operator):
    """X to the power of Y, in the type of X."""

    rtol = 3e-6
    kinds = "if"

    def infer(self, inputs: Types) -> tuple[TensorType, ...]:
        x, y = given(inputs), given(inputs, 1)
        return (TensorType(x.dtype, broadcast_shape([x.shape, y.shape])),)

    def evaluate(self, *inputs: Array | None) -> tuple[Array, ...]:
        x, y = given(inputs), given(inputs, 1)
        with np.errstate(all="ignore"):
            if np.issubdtype(y.dtype, np.integer) and np.issubdtype(x.dtype, np.floating):
                y = y.astype(x.dtype)
            elif np.issubdtype(x.dtype, np.integer):
                y = y.astype(np.float64) if (y < 0).any() else y
            return (np.power(x, y).astype(x.dtype),)

    def lower(
        self, emit: Emitter, inputs: Sequence[Operand | None], outputs: Sequence[Operand | None]
    ) -> bool:
        x, y, z = given(inputs), given(inputs, 1), given(outputs)
        codes = {0.5: "Sqrt", -1.0: "Reciprocal", 2.0: "Square", 3.0: "Cube"}
        power = scalar(y.type, "Y") if y.size == 1 else None
        if x.type.dtype != FLOAT32 or power not in codes or x.size != z.size:
            return False
        code = UNARY.index(codes[float(power)])
        emit.call("unary", x, z, x.size, code, 0.0, 0.0, work=x.size)
        return True

    @classmethod
    def cases(cls, rng: np.random.Generator) -> Iterator[Case]:
        x = rng.uniform(0.1, 3, (3, 17)).astype(np.float32)
        for power in (2.0, 3.0, 0.5, -1.0, 1.7):
            yield Case(f"to {power}", (x, np.array(power, np.float32)))
        yield Case("broadcast", (x, floats(rng, 3, 1)))
        yield Case("int64 power", (x, np.array([2], np.int64)))
        yield Case("int64", (np.arange(6).reshape(2, 3), np.array([2, 0, 3])))


@operator("Clip", inputs="input min? max?", outputs="output")
class Clip(Operator):
    """Within min and max, scalars that may be left out; max wins where they cross."""

    kinds = "iuf"

    def infer(self, inputs: Types) -> tuple[TensorType, ...]:
        x = given(inputs)
        same_dtype(inputs, "input, min and max")
        for k, name in ((1, "min"), (2, "max")):
            bound = maybe(inputs, k)
            if bound is not None and bound.rank not in (None, 0):
                scalar(bound, name)
        return (TensorType(x.dtype, x.shape),)

    def evaluate(self, *inputs: Array | None) -> tuple[Array, ...]:
        x, low, high = given(inputs), maybe(inputs, 1), maybe(inputs, 2)
        x = x if low is None else np.maximum(x, low.reshape(()))
        x = x if high is None else np.minimum(x, high.reshape(()))
        return (np.array(x),)

    def lower(
        self, emit: Emitter, inputs: Sequence[Operand | None], outputs: Sequence[Operand | None]
    ) -> bool:
        x, y = given(inputs), given(outputs)
        bounds = []
        for k, default in ((1, -math.inf), (2, math.inf)):
            bound = maybe(inputs, k)
            value = default if bound is None else scalar(bound.type, "bound")
            if value is None:
                return False
            bounds.append(float(value))
        if x.type.dtype != FLOAT32:
            return False
        emit.call("unary", x, y, x.size, UNARY.index("Clip"), *bounds, work=x.size)
        return True

    @classmethod
    def cases(cls, rng: np.random.Generator) -> Iterator[Case]:
        low, high = np.array(-0.5, np.float32), np.array(0.7, np.float32)
        for name, bounds in (("both", (low, high)), ("low", (low,)), ("high", (None, high))):
            yield Case(name, (floats(rng, 3, 17), *bounds))
        yield Case("neither", (floats(rng, 5),))
        yield Case("crossed", (floats(rng, 5), high, low))
        yield Case("special", (SPECIAL, low, high))
        yield Case("int64", (np.arange(-3, 4), np.array(-1), np.array(2)))
