"""Activation functions as operators of their own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

import numpy as np

from lightrnn.errors import GraphError
from lightrnn.graph import FLOAT32, Array, TensorType
from lightrnn.native.abi import BINARY, UNARY
from lightrnn.ops.arguments import given, merged, same_dtype
from lightrnn.ops.broadcast import walk
from lightrnn.ops.elementwise import Erf, Unary
from lightrnn.ops.lowering import Emitter, Operand
from lightrnn.ops.registry import Case, Operator, Types, operator


@operator("Tanh", inputs="input", outputs="output")
class Tanh(Unary):
    def compute(self, x: Array) -> Array:
        return np.tanh(x)


@operator("Sigmoid", inputs="X", outputs="Y")
class Sigmoid(Unary):
    def compute(self, x: Array) -> Array:
        e = np.exp(-np.abs(x))
        return np.where(x < 0, e, 1) / (1 + e)


@operator("Relu", inputs="X", outputs="Y")
class Relu(Unary):
    kinds = "if"

    def compute(self, x: Array) -> Array:
        return np.maximum(x, 0)


@operator("Softplus", inputs="X", outputs="Y")
class Softplus(Unary):
    def compute(self, x: Array) -> Array:
        return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


@operator("Softsign", inputs="input", outputs="output")
class Softsign(Unary):
    def compute(self, x: Array) -> Array:
        return x / (1 + np.abs(x))


@operator("Mish", inputs="X", outputs="Y")
class Mish(Unary):
    def compute(self, x: Array) -> Array:
        return x * np.tanh(np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))))


@operator("HardSwish", inputs="X", outputs="Y")
class HardSwish(Unary):
    def compute(self, x: Array) -> Array:
        return x * np.clip(x / 6 + 0.5, 0, 1)


class Parametric(Unary):
    """An activation with parameters; `other` is a set of them to try."""

    other: ClassVar[dict[str, float]] = {"alpha": 0.3}

    @classmethod
    def cases(cls, rng: np.random.Generator) -> Iterator[Case]:
        yield from super().cases(rng)
        x = rng.standard_normal((3, 17)).astype(np.float32)
        yield Case("parameters", (x,), dict(cls.other))


@operator("LeakyRelu", inputs="X", outputs="Y")
class LeakyRelu(Parametric):
    alpha: float = 0.01

    @property
    def parameters(self) -> tuple[float, float]:
        return self.alpha, 0.0

    def compute(self, x: Array) -> Array:
        return np.where(x < 0, self.alpha * x, x)


@operator("Elu", inputs="X", outputs="Y")
class Elu(Parametric):
    alpha: float = 1.0

    @property
    def parameters(self) -> tuple[float, float]:
        return self.alpha, 0.0

    def compute(self, x: Array) -> Array:
        return np.where(x < 0, self.alpha * (np.exp(x) - 1), x)


@operator("Celu", inputs="X", outputs="Y")
class Celu(Parametric):
    alpha: float = 1.0

    def __post_init__(self) -> None:
        if self.alpha == 0:
            raise GraphError("alpha is 0")

    @property
    def parameters(self) -> tuple[float, float]:
        return self.alpha, 0.0

    def compute(self, x: Array) -> Array:
        return np.maximum(x, 0) + np.minimum(self.alpha * (np.exp(x / self.alpha) - 1), 0)


@operator("Selu", inputs="X", outputs="Y")
class Selu(Parametric):
    alpha: float = 1.67326319217681884765625
    gamma: float = 1.05070102214813232421875

    other = {"alpha": 1.1, "gamma": 0.9}  # noqa: RUF012

    @property
    def parameters(self) -> tuple[float, float]:
        return self.alpha, self.gamma

    def compute(self, x: Array) -> Array:
        return self.gamma * np.where(x > 0, x, self.alpha * (np.exp(x) - 1))


@operator("HardSigmoid", inputs="X", outputs="Y")
class HardSigmoid(Parametric):
    alpha: float = 0.2
    beta: float = 0.5

    other = {"alpha": 0.4, "beta": 0.1}  # noqa: RUF012

    @property
    def parameters(self) -> tuple[float, float]:
        return self.alpha, self.beta

    def compute(self, x: Array) -> Array:
        return np.clip(self.alpha * x + self.beta, 0, 1)


@operator("ThresholdedRelu", inputs="X", outputs="Y")
class ThresholdedRelu(Parametric):
    alpha: float = 1.0

    @property
    def parameters(self) -> tuple[float, float]:
        return self.alpha, 0.0

    def compute(self, x: Array) -> Array:
        return np.where(x > self.alpha, x, 0)


@operator("Swish", inputs="X", outputs="Y")
class Swish(Parametric):
    alpha: float = 1.0

    @property
    def parameters(self) -> tuple[float, float]:
        return self.alpha, 0.0

    def compute(self, x: Array) -> Array:
        return x * (1 / (1 + np.exp(-self.alpha * x)))


@operator("Gelu", inputs="X", outputs="Y")
class Gelu(Unary):
    """Gaussian error linear unit; approximate "none" or "tanh"."""

    approximate: str = "none"

    def __post_init__(self) -> None:
        if self.approximate not in ("none", "tanh"):
            raise GraphError(f"approximate is {self.approximate!r}")
        object.__setattr__(self, "code", "Gelu" if self.approximate == "none" else "GeluTanh")

    def compute(self, x: Array) -> Array:
        if self.approximate == "tanh":
            return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
        return 0.5 * x * (1 + Erf().compute(x / np.sqrt(np.float64(2))))

    @classmethod
    def cases(cls, rng: np.random.Generator) -> Iterator[Case]:
        yield from list(super().cases(rng))
        x = rng.standard_normal((3, 17)).astype(np.float32)
        yield Case("tanh", (x,), {"approximate": "tanh"})


@operator("SwiGLU", inputs="A B", outputs="Y")
class SwiGLU(Operator):
    """A * sigmoid(alpha * A) * B, of one shape (ONNX SwiGLU 28)."""

    alpha: float = 1.0
    kinds = "f"

    def infer(self, inputs: Types) -> tuple[TensorType, ...]:
        a, b = given(inputs), given(inputs, 1)
        same_dtype(inputs, "A and B")
        if a.shape is None or b.shape is None:
            return (TensorType(a.dtype, b.shape if a.shape is None else a.shape),)
        if len(a.shape) != len(b.shape):
            raise GraphError(f"A is {a}, B is {b}: expected one shape")
        shape = (merged(x, y, "sizes of A and B") for x, y in zip(a.shape, b.shape, strict=True))
        return (TensorType(a.dtype, tuple(shape)),)

    def evaluate(self, *inputs: Array | None) -> tuple[Array, ...]:
        a, b = given(inputs), given(inputs, 1)
        gate = Swish(self.alpha).compute(a).astype(a.dtype)
        return (gate * b,)

    def lower(
        self, emit: Emitter, inputs: Sequence[Operand | None], outputs: Sequence[Operand | None]
    ) -> bool:
        a, b, y = given(inputs), given(inputs, 1), outputs[0]
        if a.type.dtype != FLOAT32 or y is None:
            return False
        emit.call("unary", a, y, a.size, UNARY.index("Swish"), self.alpha, 0.0, work=4 * a.size)
        if y.size:
            words = walk(y.shape, (y.shape, b.shape))
            emit.call("binary", y, b, y, BINARY.index("Mul"), *words, work=y.size)
        return True

    @classmethod
    def cases(cls, rng: np.random.Generator) -> Iterator[Case]:
        a, b = (rng.standard_normal((3, 17)).astype(np.float32) for _ in range(2))
        yield Case("default", (a, b))
        yield Case("alpha", (a, b), {"alpha": 1.7})
        yield Case("float16", (a.astype(np.float16), b.astype(np.float16)))
        yield Case("empty", (a[:0], b[:0]))
