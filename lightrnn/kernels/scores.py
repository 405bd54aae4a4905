"""Scores of attention over broadcast rows: sums, their tanhs and products are never stored."""

from __future__ import annotations

from lightrnn.kernels.broadcasting import row_start
from lightrnn.kernels.gemm import share
from lightrnn.kernels.intrinsic import inlined
from lightrnn.kernels.simd import at, fma, lanes_sum, load, load_first, splat
from lightrnn.kernels.tiling import load_some
from lightrnn.kernels.vmath import tanh


@inlined
def _score(a, b, v, size):
    s = splat(0.0)
    whole = size // 16 * 16
    for i in range(0, whole, 16):
        s = fma(tanh(load(a, i) + load(b, i)), load(v, i), s)
    n = size - whole
    if n > 0:
        both = load_first(a, whole, n) + load_first(b, whole, n)
        s = fma(tanh(both), load_first(v, whole, n), s)
    return lanes_sum(s)


@inlined
def _dot(a, b, size):
    s0, s1, s2, s3 = splat(0.0), splat(0.0), splat(0.0), splat(0.0)
    i = 0
    while i + 64 <= size:
        s0 = fma(load(a, i), load(b, i), s0)
        s1 = fma(load(a, i + 16), load(b, i + 16), s1)
        s2 = fma(load(a, i + 32), load(b, i + 32), s2)
        s3 = fma(load(a, i + 48), load(b, i + 48), s3)
        i += 64
    while i < size:
        n = min(16, size - i)
        s0 = fma(load_some(a, i, n), load_some(b, i, n), s0)
        i += 16
    return lanes_sum((s0 + s1) + (s2 + s3))


def additive_scores(a, b, v, y, size, start, rank, shape, ith, nth):
    """y = start + sum of v * tanh(a + b) over the last axis, of `size` elements.

    shape: the other axes, as `broadcasting` describes them, with strides in rows of `size`.
    """
    count = shape[rank - 1]
    a_step, b_step = shape[2 * rank - 1] * size, shape[3 * rank - 1] * size
    lines = 1
    for k in range(rank - 1):
        lines *= shape[k]
    item, last = share(lines * count, ith, nth)
    while item < last:
        line = item // count
        i = item - line * count
        end = min(count, i + last - item)
        p = at(a, row_start(line, rank, shape, 0) * size)
        q = at(b, row_start(line, rank, shape, 1) * size)
        out = at(y, line * count)
        item += end - i
        while i < end:
            out[i] = start + _score(at(p, i * a_step), at(q, i * b_step), v, size)
            i += 1


def row_dots(a, b, y, size, rank, shape, ith, nth):
    """y = sum of a * b over the last axis, of `size` elements. shape: as of additive_scores."""
    count = shape[rank - 1]
    a_step, b_step = shape[2 * rank - 1] * size, shape[3 * rank - 1] * size
    lines = 1
    for k in range(rank - 1):
        lines *= shape[k]
    item, last = share(lines * count, ith, nth)
    while item < last:
        line = item // count
        i = item - line * count
        end = min(count, i + last - item)
        p = at(a, row_start(line, rank, shape, 0) * size)
        q = at(b, row_start(line, rank, shape, 1) * size)
        out = at(y, line * count)
        item += end - i
        while i < end:
            out[i] = _dot(at(p, i * a_step), at(q, i * b_step), size)
            i += 1
