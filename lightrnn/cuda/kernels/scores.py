"""Scores of attention over broadcast rows, each a block's."""

from __future__ import annotations

from lightrnn.cuda.kernels.broadcasting import places, size_of
from lightrnn.cuda.kernels.reduce import across
from lightrnn.cuda.kernels.simt import at, block, blocks, single, tanh, thread, threads
from lightrnn.native.abi import REDUCTIONS

_SUM = REDUCTIONS.index("ReduceSum")


def additive_scores(a, b, v, y, size, start, rank, shape):
    """y = start + sum of v * tanh(a + b) over the last axis, of `size` elements.

    shape: the other axes, as `broadcasting` describes them, with strides in rows of `size`.
    """
    row, rows = block(), size_of(rank, shape)
    while row < rows:
        first, second = places(row, rank, shape)
        p, q = at(a, first * size), at(b, second * size)
        s = single(0.0)
        i = thread()
        while i < size:
            s += v[i] * tanh(p[i] + q[i])
            i += threads()
        s = across(_SUM, s)
        if thread() == 0:
            y[row] = single(start) + s
        row += blocks()


def row_dots(a, b, y, size, rank, shape):
    """y = sum of a * b over the last axis, of `size` elements. shape: as of additive_scores."""
    row, rows = block(), size_of(rank, shape)
    while row < rows:
        first, second = places(row, rank, shape)
        p, q = at(a, first * size), at(b, second * size)
        s = single(0.0)
        i = thread()
        while i < size:
            s += p[i] * q[i]
            i += threads()
        s = across(_SUM, s)
        if thread() == 0:
            y[row] = s
        row += blocks()
