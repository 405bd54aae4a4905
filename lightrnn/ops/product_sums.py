"""Products of two tensors summed over an axis, as one operator; made by preparing only."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import ClassVar

import numpy as np

from lightrnn.graph import FLOAT32, Array, TensorType
from lightrnn.native.abi import REDUCTIONS
from lightrnn.ops.arguments import given
from lightrnn.ops.broadcast import walk
from lightrnn.ops.elementwise import Mul
from lightrnn.ops.linear import emit_gemm
from lightrnn.ops.lowering import Emitter, Operand
from lightrnn.ops.reduction import without
from lightrnn.ops.registry import Operator, Slots, Types


class _ProductSum(Operator):
    """The sum of A * B over one axis. keepdims: whether that axis stays, of size 1."""

    axis: ClassVar[int]
    outputs = Slots.parse("Y")

    keepdims: int = 1

    def infer(self, inputs: Types) -> tuple[TensorType, ...]:
        (product,) = Mul().infer(inputs)
        if not product.shape:
            return (TensorType(product.dtype, None),)
        summed = len(product.shape) + self.axis
        shape = without(product.shape, [summed], bool(self.keepdims))
        return (TensorType(product.dtype, shape),)

    def evaluate(self, *inputs: Array | None) -> tuple[Array, ...]:
        (product,) = Mul().evaluate(*inputs)
        return (np.sum(product, axis=self.axis, dtype=product.dtype, keepdims=bool(self.keepdims)),)


class WeightedSum(_ProductSum):
    """The sum over T of W * X for W [..., T, 1] and X [..., T, D]; the other axes broadcast."""

    name = "WeightedSum"
    inputs = Slots.parse("W X")
    axis = -2

    def lower(
        self, emit: Emitter, inputs: Sequence[Operand | None], outputs: Sequence[Operand | None]
    ) -> bool:
        w, x, y = given(inputs), given(inputs, 1), given(outputs)
        (kind,) = Mul().infer([w.type, x.type])
        *outer, rows, n = kind.sizes
        if x.type.dtype != FLOAT32 or not rows:
            return False
        if not y.size:
            return True
        if w.shape[:-1] == x.shape[:-1]:
            unknown = x._replace(type=TensorType(FLOAT32, x.shape))
            emit_gemm(emit, w, unknown, y, batch=prod(outer), m=1, k=rows, n=n)
            return True
        _lower_apart(emit, (w, x), y, kind, (prod(outer), rows, n))
        return True


class RowDots(_ProductSum):
    """The sum of A * B over their last axis; the others broadcast."""

    name = "RowDots"
    inputs = Slots.parse("A B")
    axis = -1

    def lower(
        self, emit: Emitter, inputs: Sequence[Operand | None], outputs: Sequence[Operand | None]
    ) -> bool:
        a, b, y = given(inputs), given(inputs, 1), given(outputs)
        (kind,) = Mul().infer([a.type, b.type])
        *outer, size = kind.sizes
        if a.type.dtype != FLOAT32 or not size:
            return False
        if y.size and a.shape[-1:] == b.shape[-1:]:
            words = walk(outer, (a.shape[:-1], b.shape[:-1]))
            emit.call("row_dots", a, b, y, size, *words, work=y.size * size)
        elif y.size:
            _lower_apart(emit, (a, b), y, kind, (prod(outer), size, 1))
        return True


def _lower_apart(
    emit: Emitter,
    factors: tuple[Operand, Operand],
    y: Operand,
    kind: TensorType,
    sections: tuple[int, int, int],
) -> None:
    """As Mul and ReduceSum over the middle one of three sections."""
    product = Operand("", kind, emit.scratch(4 * prod(kind.sizes)))
    Mul().lower(emit, factors, [product])
    code, work = REDUCTIONS.index("ReduceSum"), prod(kind.sizes)
    emit.call("reduce", product, y, *sections, code, work=work)
