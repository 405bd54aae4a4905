"""Walking two or three broadcast operands: rows of the last axis, and where each begins.

A shape's words are its sizes, outermost first, then each operand's strides, 0 where it is repeated.
The last axis is contiguous or repeated in every operand.
"""

from __future__ import annotations

from lightrnn.kernels.gemm import share
from lightrnn.kernels.intrinsic import inlined
from lightrnn.kernels.simd import broadcast, load_first
from lightrnn.kernels.tiling import load_some

BLOCK = 1024
"""Elements of a row that one thread does at a time."""


@inlined
def pieces(rank, shape, ith, nth):
    """The pieces [first, last) of rows that thread `ith` does, and the pieces of a row."""
    size = shape[rank - 1]
    blocks = (size + BLOCK - 1) // BLOCK
    rows = 1
    for k in range(rank - 1):
        rows *= shape[k]
    first, last = share(rows * blocks, ith, nth)
    return first, last, blocks


@inlined
def row_start(row, rank, shape, operand):
    """Where row number `row` begins in an operand, in elements."""
    place = 0
    left = row
    for axis in range(rank - 2, -1, -1):
        size = shape[axis]
        index = left % size
        left = left // size
        place += index * shape[(operand + 1) * rank + axis]
    return place


@inlined
def lanes(p, i, step, n):
    """Lanes i to i + n - 1 of a row, or its one element where it is repeated (step 0)."""
    if step == 0:
        return broadcast(p, 0)
    if n == 16:
        return load_some(p, i, 16)
    return load_first(p, i, n)
