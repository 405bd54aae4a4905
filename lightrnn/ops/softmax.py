"""Softmax, its logarithm and Hardmax along one axis."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod

import numpy as np

from lightrnn.graph import FLOAT32, Array, TensorType
from lightrnn.ops.arguments import axis_of, given
from lightrnn.ops.elementwise import floats
from lightrnn.ops.lowering import Emitter, Operand
from lightrnn.ops.registry import Case, Operator, Types, operator


class Exponential(Operator):
    """Along `axis`, after the largest element is subtracted."""

    axis: int = -1
    kinds = "f"

    def infer(self, inputs: Types) -> tuple[TensorType, ...]:
        x = given(inputs)
        if x.rank is not None:
            axis_of(self.axis, x.rank)
        return (TensorType(x.dtype, x.shape),)

    def _shifted(self, x: Array) -> tuple[Array, Array]:
        """x - max, and the sum of its exponentials."""
        with np.errstate(all="ignore"):
            shifted = x - np.max(x, self.axis, keepdims=True, initial=-np.inf)
            return shifted, np.sum(np.exp(shifted), self.axis, keepdims=True)

    def lower(
        self, emit: Emitter, inputs: Sequence[Operand | None], outputs: Sequence[Operand | None]
    ) -> bool:
        x, y = given(inputs), given(outputs)
        if x.type.dtype != FLOAT32:
            return False
        axis = axis_of(self.axis, len(x.shape))
        outer, n, inner = prod(x.shape[:axis]), x.shape[axis], prod(x.shape[axis + 1 :])
        if n:
            logarithm = int(self.name == "LogSoftmax")
            emit.call("softmax", x, y, outer, n, inner, logarithm, work=12 * x.size)
        return True

    @classmethod
    def cases(cls, rng: np.random.Generator) -> Iterator[Case]:
        x = floats(rng, 3, 4, 5) * 3
        for axis in (0, 1, -1):
            yield Case(f"axis {axis}", (x,), {"axis": axis})
        yield Case("wide", (floats(rng, 2, 37) * 5,))
        yield Case("wide columns", (floats(rng, 2, 7, 37),), {"axis": 1})
        yield Case("large", (np.array([[1000, 999, -1000], [-1e30, 0, 1]], np.float32),))
        masked = np.array([[0, -np.inf, 1], [-np.inf, -np.inf, -np.inf], [np.nan, 0, 1]])
        yield Case("masked", (masked.astype(np.float32),))
        yield Case("empty", (floats(rng, 0, 3),))


@operator("Softmax", inputs="input", outputs="output")
class Softmax(Exponential):
    """exp(x) / sum(exp(x)); a row of -inf alone gives NaN, as everywhere."""

    def evaluate(self, *inputs: Array | None) -> tuple[Array, ...]:
        shifted, total = self._shifted(given(inputs))
        with np.errstate(all="ignore"):
            return (np.exp(shifted) / total,)


@operator("LogSoftmax", inputs="input", outputs="output")
class LogSoftmax(Exponential):
    def evaluate(self, *inputs: Array | None) -> tuple[Array, ...]:
        shifted, total = self._shifted(given(inputs))
        with np.errstate(all="ignore"):
            return (shifted - np.log(total),)


@operator("Hardmax", inputs="input", outputs="output")
class Hardmax(Operator):
    """1 at the first of the largest elements along `axis`, else 0."""

    axis: int = -1
    kinds = "f"

    def infer(self, inputs: Types) -> tuple[TensorType, ...]:
        x = given(inputs)
        if x.rank is not None:
            axis_of(self.axis, x.rank)
        return (TensorType(x.dtype, x.shape),)

    def evaluate(self, *inputs: Array | None) -> tuple[Array, ...]:
        x = given(inputs)
        y = np.zeros_like(x)
        if x.size:
            np.put_along_axis(y, np.expand_dims(np.argmax(x, self.axis), self.axis), 1, self.axis)
        return (y,)

    @classmethod
    def cases(cls, rng: np.random.Generator) -> Iterator[Case]:
        x = rng.integers(-2, 3, (3, 4, 5)).astype(np.float32)
        for axis in (0, 1, -1):
            yield Case(f"axis {axis}", (x,), {"axis": axis})
        yield Case("no rows", (x[:0],))
