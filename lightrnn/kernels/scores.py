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


@inlined
def _scores(rank, shape):
    """How many scores there are: the elements of the axes that are not summed over."""
    total = 1
    for k in range(rank):
        total *= shape[k]
    return total


@inlined
def _run(item, last, a, b, size, rank, shape):
    """(end, p, p_step, q, q_step): scores [item, end) are of rows p and q on, steps apart."""
    line = item // shape[rank - 1]
    i = item - line * shape[rank - 1]
    end = min(item - i + shape[rank - 1], last)
    p_step, q_step = shape[2 * rank - 1] * size, shape[3 * rank - 1] * size
    p = at(a, row_start(line, rank, shape, 0) * size + i * p_step)
    q = at(b, row_start(line, rank, shape, 1) * size + i * q_step)
    return end, p, p_step, q, q_step


def additive_scores(a, b, v, y, size, start, rank, shape, ith, nth):
    """y = start + sum of v * tanh(a + b) over the last axis, of `size` elements.

    shape: the other axes, as `broadcasting` describes them, with strides in rows of `size`.
    """
    first, last = share(_scores(rank, shape), ith, nth)
    while first < last:
        end, p, p_step, q, q_step = _run(first, last, a, b, size, rank, shape)
        for k in range(end - first):
            y[first + k] = start + _score(at(p, k * p_step), at(q, k * q_step), v, size)
        first = end


def row_dots(a, b, y, size, rank, shape, ith, nth):
    """y = sum of a * b over the last axis, of `size` elements. shape: as of additive_scores."""
    first, last = share(_scores(rank, shape), ith, nth)
    while first < last:
        end, p, p_step, q, q_step = _run(first, last, a, b, size, rank, shape)
        for k in range(end - first):
            y[first + k] = _dot(at(p, k * p_step), at(q, k * q_step), size)
        first = end
