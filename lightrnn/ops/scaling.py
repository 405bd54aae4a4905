"""Elements divided by a norm of those around them: RMSNormalization, LpNormalization, LRN."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod

import numpy as np

from lightrnn.errors import GraphError, UnsupportedError
from lightrnn.graph import FLOAT32, Array, TensorType
from lightrnn.ops.arguments import axis_of, given
from lightrnn.ops.lowering import Emitter, Operand
from lightrnn.ops.normalization import check_broadcasts
from lightrnn.ops.registry import Case, Operator, Types, operator
from lightrnn.ops.reshaping import floats


@operator("RMSNormalization", inputs="X scale", outputs="Y")
class RMSNormalization(Operator):
    """X / sqrt(mean of squares + epsilon) * scale over the axes from `axis` on (ONNX 23).

    The quotient is computed in float32 or wider; Y has the type of `scale`.
    """

    axis: int = -1
    epsilon: float = 1e-5
    stash_type: int = 1

    kinds = "f"

    def __post_init__(self) -> None:
        if self.stash_type != 1:
            raise UnsupportedError(f"stash_type {self.stash_type} is not supported, expected 1")

    def infer(self, inputs: Types) -> tuple[TensorType, ...]:
        x, scale = given(inputs), given(inputs, 1)
        if x.shape is not None:
            check_broadcasts(scale, x.shape[axis_of(self.axis, len(x.shape)) :], "scale")
        return (TensorType(scale.dtype, x.shape),)

    def evaluate(self, *inputs: Array | None) -> tuple[Array, ...]:
        x, scale = given(inputs), given(inputs, 1)
        axes = tuple(range(axis_of(self.axis, x.ndim), x.ndim))
        wide = x.astype(np.float32) if x.dtype.itemsize < 4 else x
        root = np.sqrt((wide * wide).mean(axes, keepdims=True) + self.epsilon)
        return (np.asarray((wide / root).astype(x.dtype) * scale, scale.dtype),)

    def lower(
        self, emit: Emitter, inputs: Sequence[Operand | None], outputs: Sequence[Operand | None]
    ) -> bool:
        x, scale, y = given(inputs), given(inputs, 1), outputs[0]
        axis = axis_of(self.axis, len(x.shape))
        outer, n = prod(x.shape[:axis]), prod(x.shape[axis:])
        if {x.type.dtype, scale.type.dtype} != {FLOAT32} or not n or y is None or scale.size != n:
            return False
        emit.call(
            "layer_norm", x, scale, None, y, None, None, outer, n, 0, self.epsilon, work=4 * x.size
        )
        return True

    @classmethod
    def cases(cls, rng: np.random.Generator) -> Iterator[Case]:
        x = floats(rng, 3, 4, 5)
        yield Case("last", (x, floats(rng, 5)))
        yield Case("two axes", (x, floats(rng, 4, 5)), {"axis": 1, "epsilon": 0.1})
        yield Case("one scale", (x, floats(rng, 1)))
        yield Case("wide", (floats(rng, 2, 37), floats(rng, 37)), {"axis": -1})
        yield Case("float16", (x.astype(np.float16), floats(rng, 5).astype(np.float16)))
        yield Case("no rows", (x[:0], floats(rng, 5)))


@operator("LpNormalization", inputs="input", outputs="output")
class LpNormalization(Operator):
    """The input divided by its norm along an axis, 0 where that is 0 (ONNX 22). p: 1 or 2."""

    axis: int = -1
    p: int = 2

    kinds = "f"

    def __post_init__(self) -> None:
        if self.p not in (1, 2):
            raise UnsupportedError(f"p {self.p} is not supported, expected 1 or 2")

    def infer(self, inputs: Types) -> tuple[TensorType, ...]:
        x = given(inputs)
        if x.shape is not None:
            axis_of(self.axis, len(x.shape))
        return (TensorType(x.dtype, x.shape),)

    def evaluate(self, *inputs: Array | None) -> tuple[Array, ...]:
        x = given(inputs)
        wide = x.astype(np.float32) if x.dtype.itemsize < 4 else x
        norm = np.linalg.norm(wide, self.p, self.axis, keepdims=True) if x.size else 1
        return (np.asarray(wide / np.where(norm == 0, 1, norm), x.dtype),)

    @classmethod
    def cases(cls, rng: np.random.Generator) -> Iterator[Case]:
        x = floats(rng, 3, 4, 5)
        x[1, :, 2], x[0, 1] = 0, 0
        for p in (1, 2):
            for axis in (0, 1, -1):
                yield Case(f"p {p}, axis {axis}", (x,), {"p": p, "axis": axis})
        yield Case("default", (x,))


@operator("LRN", inputs="X", outputs="Y")
class LRN(Operator):
    """X / (bias + alpha / size * the sum of squares of `size` channels around) ** beta."""

    size: int
    alpha: float = 1e-4
    beta: float = 0.75
    bias: float = 1.0

    kinds = "f"

    def __post_init__(self) -> None:
        if self.size < 1:
            raise GraphError(f"size is {self.size}")

    def infer(self, inputs: Types) -> tuple[TensorType, ...]:
        x = given(inputs)
        if x.shape is not None and len(x.shape) < 2:
            raise GraphError(f"X is {x}, expected [N, C, ...]")
        return (TensorType(x.dtype, x.shape),)

    def evaluate(self, *inputs: Array | None) -> tuple[Array, ...]:
        x = given(inputs)
        channels = x.shape[1]
        squares = x.astype(np.float64) ** 2
        total = np.zeros_like(squares)
        for c in range(channels):
            first, last = c - (self.size - 1) // 2, c + self.size // 2
            total[:, c] = squares[:, max(first, 0) : last + 1].sum(1)
        return (np.asarray(x / (self.bias + self.alpha / self.size * total) ** self.beta, x.dtype),)

    @classmethod
    def cases(cls, rng: np.random.Generator) -> Iterator[Case]:
        x = floats(rng, 2, 7, 3, 4)
        yield Case("default", (x,), {"size": 3})
        yield Case("wide", (x,), {"size": 5, "alpha": 0.5, "beta": 0.6, "bias": 2.0})
        yield Case("one", (x,), {"size": 1, "alpha": 0.5})
