"""The ONNX translation of torch's scaled dot-product attention, for tensors of any rank.

torch's own is for four axes, and where a mask leaves a query no key it gives the mean of all
values; torch's operator gives zeros.
"""

from __future__ import annotations

import math
from typing import Any

_BOOL = 9


def attention(op: Any) -> Any:
    """The translation, its nodes of the opset `op`."""

    def translate(
        query: Any, key: Any, value: Any, attn_mask: Any = None, dropout_p: float = 0.0,
        is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False,
    ) -> Any:  # fmt: skip
        if is_causal:
            attn_mask = _lower_triangle(op, query, key)
        axes = list(range(len(key.shape)))
        if enable_gqa:
            key, value = _repeated(op, query, key), _repeated(op, query, value)
        turned = op.Transpose(key, perm=[*axes[:-2], axes[-1], axes[-2]])
        scores = op.Mul(op.MatMul(query, turned), _factor(op, query, scale))
        if attn_mask is None:
            return op.MatMul(op.Softmax(scores, axis=-1), value)
        number = op.CastLike(op.Constant(value_float=-math.inf), query)
        if is_causal or "BOOL" in str(attn_mask.dtype).upper():
            scores = op.Where(op.Not(attn_mask), number, scores)
        else:
            scores = op.Add(scores, attn_mask)
        weights = op.Softmax(scores, axis=-1)
        zero = op.CastLike(op.Constant(value_float=0.0), query)
        return op.MatMul(op.Where(op.IsNaN(weights), zero, weights), value)

    return translate


def _factor(op: Any, query: Any, scale: float | None) -> Any:
    """What scores are multiplied by: by default one by the square root of the last size."""
    size = query.shape[-1]
    if scale is None and not isinstance(size, int):
        sizes = op.CastLike(op.Shape(query, start=-1), query)
        return op.Reciprocal(op.Sqrt(sizes))
    number = 1 / math.sqrt(size) if scale is None else scale
    return op.CastLike(op.Constant(value_float=number), query)


def _lower_triangle(op: Any, query: Any, key: Any) -> Any:
    """Which of the keys a query may see: those up to its own number, bool [L, S]."""
    steps = [op.Shape(x, start=len(x.shape) - 2, end=len(x.shape) - 1) for x in (query, key)]
    ones = op.Expand(op.Cast(op.Constant(value_int=1), to=_BOOL), op.Concat(*steps, axis=0))
    return op.Trilu(ones, upper=0)


def _repeated(op: Any, query: Any, x: Any) -> Any:
    """Keys or values [N, H, S, E] with each head as often as queries need it."""
    heads, own = query.shape[-3], x.shape[-3]
    if heads == own:
        return x
    if len(x.shape) != 4 or not isinstance(heads, int) or not isinstance(own, int):
        raise NotImplementedError("enable_gqa needs four axes and known numbers of heads")
    ints = op.Constant(value_ints=[1, 1, heads // own, 1, 1])
    wide = op.Expand(op.Unsqueeze(x, op.Constant(value_ints=[2])), ints)
    count = op.Constant(value_ints=[heads])
    shape = op.Concat(op.Shape(x, start=0, end=1), count, op.Shape(x, start=2), axis=0)
    return op.Reshape(wide, shape)
