"""softmax(Q · K' * scale, masked) · V as one operator; made by preparing only."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from lightrnn.graph import BOOL, FLOAT32, Array, TensorType
from lightrnn.ops.arguments import given, maybe
from lightrnn.ops.attention_lowering import Scores, emit_attention
from lightrnn.ops.broadcast import broadcast_shape
from lightrnn.ops.linear import MatMul
from lightrnn.ops.lowering import Emitter, Operand
from lightrnn.ops.registry import Operator, Slots, Types
from lightrnn.ops.softmax import Softmax


def _swapped(t: TensorType) -> TensorType:
    """The type with its last two axes exchanged."""
    if t.shape is None:
        return TensorType(t.dtype, None)
    return TensorType(t.dtype, (*t.shape[:-2], t.shape[-1], t.shape[-2]))


def _four_dimensional(x: Operand, rank: int) -> Operand:
    """A tensor of `rank` 3 or 4, or one that broadcasts to it, with an axis of heads."""
    shape = (1,) * (rank - len(x.shape)) + x.shape
    wide = shape if rank == 4 else (shape[0], 1, *shape[1:])
    return x._replace(type=TensorType(x.type.dtype, wide))


class ScaledProduct(Operator):
    """MatMul, Mul, masking, Softmax and MatMul with ONNX's broadcasting.

    scale multiplies Q · K'. mask: numbers to add to that, or with `fill` truth values: where they
    hold, it is replaced. zeroed: whether weights that are NaN count as 0.
    """

    name = "ScaledProduct"
    inputs = Slots.parse("Q K V mask?")
    outputs = Slots.parse("Y")

    scale: float = 1.0
    fill: float | None = None
    zeroed: bool = False

    def infer(self, inputs: Types) -> tuple[TensorType, ...]:
        (scores,) = MatMul().infer((given(inputs), _swapped(given(inputs, 1))))
        mask = maybe(inputs, 3)
        if mask is not None:
            scores = TensorType(scores.dtype, broadcast_shape([scores.shape, mask.shape]))
        return MatMul().infer((scores, given(inputs, 2)))

    def evaluate(self, *inputs: Array | None) -> tuple[Array, ...]:
        q, k, v, mask = given(inputs), given(inputs, 1), given(inputs, 2), maybe(inputs, 3)
        (scores,) = MatMul().evaluate(q, np.swapaxes(k, -1, -2))
        scores = scores * np.asarray(self.scale, scores.dtype)
        if mask is not None and self.fill is None:
            scores = scores + mask
        elif mask is not None:
            scores = np.where(mask, np.asarray(self.fill, scores.dtype), scores)
        (weights,) = Softmax(-1).evaluate(scores)
        if self.zeroed:
            weights = np.where(np.isnan(weights), np.zeros((), weights.dtype), weights)
        return MatMul().evaluate(weights, v)

    def lower(
        self, emit: Emitter, inputs: Sequence[Operand | None], outputs: Sequence[Operand | None]
    ) -> bool:
        q, k, v, mask = given(inputs), given(inputs, 1), given(inputs, 2), maybe(inputs, 3)
        y = outputs[0]
        rank, keys = len(q.shape), k.shape[-2]
        same = q.shape[:-2] == k.shape[:-2] == v.shape[:-2]
        if y is None or not same or rank not in (3, 4) or not keys or q.type.dtype != FLOAT32:
            return False
        if mask is not None:
            kind = FLOAT32 if self.fill is None else BOOL
            fits = len(mask.shape) <= rank and mask.shape[-1:] == (keys,)
            if mask.type.dtype != kind or not fits or y.shape[:-1] != q.shape[:-1]:
                return False
        tensors = [None if x is None else _four_dimensional(x, rank) for x in (q, k, v, mask)]
        heads = q.shape[1] if rank == 4 else 1
        scores = Scores(self.scale, fill=self.fill, total=math.inf if self.zeroed else 0.0)
        return emit_attention(emit, tensors, [_four_dimensional(y, rank)], heads, heads, scores)
