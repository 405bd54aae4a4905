"""Scores of additive attention as one operator; made by preparing only."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from lightrnn.graph import FLOAT32, Array, TensorType
from lightrnn.ops.arguments import given, maybe, same_size
from lightrnn.ops.broadcast import walk
from lightrnn.ops.elementwise import Add
from lightrnn.ops.linear import emit_gemm
from lightrnn.ops.lowering import Emitter, Operand
from lightrnn.ops.neural import Tanh
from lightrnn.ops.reduction import without
from lightrnn.ops.registry import Operator, Slots, Types


class AdditiveScores(Operator):
    """v · tanh(A + B) + bias over the last axis (Bahdanau et al., 2015); A and B broadcast.

    v: K constants for a last axis of K, by default ones. bias: one constant.
    keepdims: whether the last axis stays, of size 1.
    """

    name = "AdditiveScores"
    inputs = Slots.parse("A B v? bias?")
    outputs = Slots.parse("Y")

    keepdims: int = 1

    def infer(self, inputs: Types) -> tuple[TensorType, ...]:
        (total,) = Add().infer(inputs[:2])
        v = maybe(inputs, 2)
        if not total.shape:
            return (TensorType(total.dtype, None),)
        if v is not None:
            same_size(total.shape[-1], prod(v.sizes), "sizes of A + B and v")
        shape = without(total.shape, [len(total.shape) - 1], bool(self.keepdims))
        return (TensorType(total.dtype, shape),)

    def evaluate(self, *inputs: Array | None) -> tuple[Array, ...]:
        (y,) = Tanh().evaluate(*Add().evaluate(*inputs[:2]))
        v, bias = maybe(inputs, 2), maybe(inputs, 3)
        scores = y.sum(axis=-1, dtype=y.dtype) if v is None else np.matmul(y, v.reshape(-1))
        scores = scores if bias is None else scores + bias.reshape(())
        return (np.asarray(scores[..., None] if self.keepdims else scores, y.dtype),)

    def lower(
        self, emit: Emitter, inputs: Sequence[Operand | None], outputs: Sequence[Operand | None]
    ) -> bool:
        a, b, v, y = given(inputs), given(inputs, 1), maybe(inputs, 2), given(outputs)
        bias, (total,) = maybe(inputs, 3), Add().infer([a.type, b.type])
        if y.type.dtype != FLOAT32:
            return False
        if not y.size:
            return True
        size = total.sizes[-1]
        weights = v
        if weights is None:
            ones = np.ones((size, 1), np.float32)
            weights = Operand("", TensorType.of(ones), emit.constant(ones))
        if a.shape[-1:] != b.shape[-1:]:
            _lower_apart(emit, a, b, weights, bias, y)
            return True
        start = 0.0 if bias is None or bias.value is None else float(bias.value.reshape(()))
        lines = y.shape[:-1] if self.keepdims else y.shape
        words = walk(lines, (a.shape[:-1], b.shape[:-1]))
        emit.call("additive_scores", a, b, weights, y, size, start, *words, work=5 * y.size * size)
        return True


def _lower_apart(
    emit: Emitter, a: Operand, b: Operand, v: Operand, bias: Operand | None, y: Operand
) -> None:
    """As the operators that it is made of, for terms that are one number in every row."""
    (kind,) = Add().infer([a.type, b.type])
    total = Operand("", kind, emit.scratch(4 * prod(kind.sizes)))
    Add().lower(emit, [a, b], [total])
    Tanh().lower(emit, [total], [total])
    emit_gemm(emit, total, v, y, m=y.size, k=kind.sizes[-1], n=1, shared_b=True, init=bias)
