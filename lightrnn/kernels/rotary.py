"""Rotary position embedding: pairs of elements turned by angles that depend on their step."""

from __future__ import annotations

from lightrnn.kernels.gemm import share
from lightrnn.kernels.intrinsic import inlined
from lightrnn.kernels.simd import at, fma, negate, null
from lightrnn.kernels.tiling import load_some, store_some
from lightrnn.native.abi import BAD_INDEX


@inlined
def _halves(x, cos, sin, y, half):
    """Element i is paired with element half + i."""
    for i in range(0, half, 16):
        n = min(16, half - i)
        a, b = load_some(x, i, n), load_some(x, half + i, n)
        c, s = load_some(cos, i, n), load_some(sin, i, n)
        store_some(y, i, fma(c, a, negate(s * b)), n)
        store_some(y, half + i, fma(s, a, c * b), n)


@inlined
def _neighbours(x, cos, sin, y, half):
    """Element 2i is paired with the next."""
    for i in range(half):
        a, b, c, s = x[2 * i], x[2 * i + 1], cos[i], sin[i]
        y[2 * i] = c * a - s * b
        y[2 * i + 1] = s * a + c * b


def rotate(
    x, cos, sin, positions, y, status, node, rows, steps, heads, size, half, limit, interleaved,
    batch_step, row_step, head_step, ith, nth,
):  # fmt: skip
    """y = x with the first 2 * half elements of each head of each step turned.

    x, y: `rows` steps of all samples, `steps` of each; `*_step` elements apart. cos, sin: [limit,
    half] where positions (int64 [rows]) choose their rows, else [rows, half].
    """
    first, last = share(rows, ith, nth)
    for row in range(first, last):
        place = row
        if not null(positions):
            place = positions[row]
            if place < 0 or place >= limit:
                status[0] = BAD_INDEX
                status[1] = node
                place = 0
        c, s = at(cos, place * half), at(sin, place * half)
        n = row // steps
        start = n * batch_step + (row - n * steps) * row_step
        for h in range(heads):
            p, q = at(x, start + h * head_step), at(y, start + h * head_step)
            if interleaved != 0:
                _neighbours(p, c, s, q, half)
            else:
                _halves(p, c, s, q, half)
            for i in range(2 * half, size, 16):
                store_some(q, i, load_some(p, i, min(16, size - i)), min(16, size - i))
