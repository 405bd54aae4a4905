"""From attention to kernel calls: steps between heads, the cache joined, masks as floats."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from lightrnn.graph import BOOL, FLOAT32, TensorType
from lightrnn.native.abi import FEW_QUERIES, KEYS, MOST_QUERIES, panel_rows
from lightrnn.ops.arguments import given, maybe
from lightrnn.ops.broadcast import walk
from lightrnn.ops.copying import emit_copy, row_major
from lightrnn.ops.lowering import Emitter, Operand, Ref
from lightrnn.record import Record

_PARTS = 64
"""Pieces that the work is cut into, whatever the number of threads."""
_EXACT = 2**24
"""Numbers of keys below which each is exact as a float32."""

Steps = tuple[int, int, int]
"""Elements from a batch, a head and a row to the next."""


class Scores(Record):
    """How scores are made of Q · K': the attributes of Attention that the kernel knows.

    left, right: window sizes, -1 for none. fill: where given, the mask's truth values say which
    scores are replaced by it; otherwise which are kept. total: what the sum of the weights of a
    query without keys counts as: 1 gives zeros, 0 NaN; infinity zeros, also where it is NaN.
    """

    scale: float
    softcap: float = 0.0
    causal: bool = False
    left: int = -1
    right: int = -1
    fill: float | None = None
    total: float = 1.0


def emit_attention(
    emit: Emitter,
    inputs: Sequence[Operand | None],
    outputs: Sequence[Operand | None],
    heads: int,
    kv_heads: int,
    scores: Scores,
) -> bool:
    """Lower Attention's inputs to its first three outputs; False where the kernel does not fit."""
    q, v, mask = given(inputs), given(inputs, 2), maybe(inputs, 3)
    y = outputs[0]
    if y is None or {q.type.dtype, v.type.dtype} != {FLOAT32}:
        return False
    past = maybe(inputs, 4)
    before = 0 if past is None else past.shape[2]
    total = before + _rows(given(inputs, 1))
    if total >= _EXACT or (mask is not None and not mask.shape):
        return False
    keys, k_steps = _cache(emit, inputs, outputs, 1, kv_heads, total)
    values, v_steps = _cache(emit, inputs, outputs, 2, kv_heads, total)
    if y.size == 0:
        return True
    batch, steps, size, v_size = q.shape[0], _rows(q), _size(q, heads), _size(v, kv_heads)
    bias, bias_steps = _bias(emit, mask, scores.fill)
    parts, room = min(batch * heads * steps, _PARTS), _room(steps, size, v_size)
    emit.call(
        "attention", q, keys, values, bias, maybe(inputs, 6), y, emit.scratch(parts * room * 4),
        parts, room, batch, heads, heads // kv_heads, steps, size, v_size,
        total if mask is None else mask.shape[-1], before,
        scores.causal, scores.left, scores.right, scores.scale, scores.softcap,
        scores.fill is not None, scores.total,
        *_steps(q, heads), *k_steps, *v_steps, *_steps(y, heads), *bias_steps,
        work=batch * heads * steps * total * (size + v_size),
    )  # fmt: skip
    return True


def _rows(x: Operand) -> int:
    return x.shape[-2]


def _size(x: Operand, heads: int) -> int:
    return x.shape[3] if len(x.shape) == 4 else x.shape[2] // max(heads, 1)


def _steps(x: Operand, heads: int) -> Steps:
    """Of [N, heads, L, E], or [N, L, heads * E]."""
    rows, size = _rows(x), _size(x, heads)
    if len(x.shape) == 4:
        return heads * rows * size, rows * size, size
    return rows * x.shape[2], size, x.shape[2]


def _cache(
    emit: Emitter,
    inputs: Sequence[Operand | None],
    outputs: Sequence[Operand | None],
    which: int,
    heads: int,
    total: int,
) -> tuple[Operand, Steps]:
    """Keys (which = 1) or values (2) after those of the past, in the present's place if wanted."""
    new, past, present = given(inputs, which), maybe(inputs, which + 3), maybe(outputs, which)
    if past is None and present is None:
        return new, _steps(new, heads)
    shape = (new.shape[0], heads, total, _size(new, heads))
    whole = present or Operand("", TensorType(FLOAT32, shape), emit.scratch(prod(shape) * 4))
    start = 0
    for part in (past, new):
        if part is not None:
            sizes = (*shape[:2], _rows(part), shape[3])
            emit_copy(
                emit, part, whole, sizes, (*_steps(part, heads), 1), row_major(shape),
                target_start=start * shape[3],
            )  # fmt: skip
            start += _rows(part)
    return whole, _steps(whole, heads)


def _bias(
    emit: Emitter, mask: Operand | None, fill: float | None
) -> tuple[Operand | Ref | None, Steps]:
    """The mask as floats to add, and its steps; of truth values 0 and -inf, or `fill` and 0."""
    if mask is None or mask.size == 0:
        return None, (0, 0, 0)
    wide = (1,) * (4 - len(mask.shape)) + mask.shape
    steps = [0 if size == 1 else step for size, step in zip(wide, row_major(wide), strict=True)]
    place: Operand | Ref = mask
    if mask.type.dtype == BOOL:
        place = emit.scratch(mask.size * 4)
        values = (0, -np.inf) if fill is None else (fill, 0)
        ends = [emit.constant(np.array([value], np.float32)) for value in values]
        words = walk((mask.size,), ((mask.size,), (), ()))
        emit.call("where", mask, *ends, place, 4, *words, work=4 * mask.size)
    return place, (steps[0], steps[1], steps[2])


def _room(steps: int, size: int, v_size: int) -> int:
    """Floats that the kernel needs for a block of queries."""
    return (
        KEYS if steps < FEW_QUERIES else MOST_QUERIES * (5 + panel_rows(size) + 3 * KEYS + v_size)
    )
