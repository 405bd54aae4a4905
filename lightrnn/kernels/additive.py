"""Scores of additive attention: a sum is never stored, nor is its tanh."""

from __future__ import annotations

from lightrnn.kernels.broadcasting import row_start
from lightrnn.kernels.gemm import share
from lightrnn.kernels.intrinsic import inlined
from lightrnn.kernels.simd import at, fma, lanes_sum, load, load_first, splat
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
