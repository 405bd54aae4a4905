"""Products with one column, a row at a time: a panel of it would be mostly zeros."""

from __future__ import annotations

from lightrnn.kernels.gemm import share
from lightrnn.kernels.intrinsic import inlined
from lightrnn.kernels.simd import at, fma, lanes_sum, load, load_first, null, splat


@inlined
def _four(a, lda, x, k):
    """The products of four rows with x."""
    s0, s1, s2, s3 = splat(0.0), splat(0.0), splat(0.0), splat(0.0)
    whole = k // 16 * 16
    for i in range(0, whole, 16):
        v = load(x, i)
        s0, s1 = fma(load(a, i), v, s0), fma(load(a, lda + i), v, s1)
        s2, s3 = fma(load(a, 2 * lda + i), v, s2), fma(load(a, 3 * lda + i), v, s3)
    n = k - whole
    if n > 0:
        v = load_first(x, whole, n)
        s0 = fma(load_first(a, whole, n), v, s0)
        s1 = fma(load_first(a, lda + whole, n), v, s1)
        s2 = fma(load_first(a, 2 * lda + whole, n), v, s2)
        s3 = fma(load_first(a, 3 * lda + whole, n), v, s3)
    return lanes_sum(s0), lanes_sum(s1), lanes_sum(s2), lanes_sum(s3)


@inlined
def _one(a, x, k):
    """The product of one row with x, summed as `_four` does."""
    s = splat(0.0)
    whole = k // 16 * 16
    for i in range(0, whole, 16):
        s = fma(load(a, i), load(x, i), s)
    if k > whole:
        s = fma(load_first(a, whole, k - whole), load_first(x, whole, k - whole), s)
    return lanes_sum(s)


@inlined
def _start(init, i):
    return 0.0 if null(init) else init[i]


def matvec(a, x, init, c, rows, k, lda, ldi, ith, nth):
    """c[i] = init[i * ldi] + a[i]·x for `rows` rows of a, `lda` apart. init: null for zeros."""
    first, last = share(rows, ith, nth)
    row = first
    while row + 4 <= last:
        s0, s1, s2, s3 = _four(at(a, row * lda), lda, x, k)
        c[row] = s0 + _start(init, row * ldi)
        c[row + 1] = s1 + _start(init, (row + 1) * ldi)
        c[row + 2] = s2 + _start(init, (row + 2) * ldi)
        c[row + 3] = s3 + _start(init, (row + 3) * ldi)
        row += 4
    while row < last:
        c[row] = _one(at(a, row * lda), x, k) + _start(init, row * ldi)
        row += 1
