"""Products with one column, or of one row with a matrix as it lies: packing takes longer."""

from __future__ import annotations

from lightrnn.kernels.gemm import share
from lightrnn.kernels.intrinsic import inlined
from lightrnn.kernels.simd import at, f32, fma, lanes_sum, load, load_first, null, splat
from lightrnn.kernels.tiling import TARGET, TILES, make_tile, moved

_WIDE = TILES[TARGET][-1][1]
_HALF = _WIDE // 2
_wide, _half, _narrow = (make_tile(1, panels, packed=False) for panels in (_WIDE, _HALF, 1))


@inlined
def four_rows(a, lda, x, k):
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
def one_row(a, x, k):
    """The product of one row with x, summed as `four_rows` does."""
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


def matvec(a, x, init, c, batch, rows, k, lda, ldi, a_step, x_step, ith, nth):
    """c[i] = init[i * ldi] + a[i]·x for `rows` rows of each of `batch` matrices, `lda` apart.

    a_step, x_step: elements between matrices, and between their vectors. init: null for zeros.
    """
    item, last = share(batch * rows, ith, nth)
    while item < last:
        i = item // rows
        row = item - i * rows
        end = min(rows, row + last - item)
        item += end - row
        p, v, out = at(a, i * a_step), at(x, i * x_step), at(c, i * rows)
        start = moved(init, i * rows * ldi)
        while row + 4 <= end:
            s0, s1, s2, s3 = four_rows(at(p, row * lda), lda, v, k)
            out[row] = s0 + _start(start, row * ldi)
            out[row + 1] = s1 + _start(start, (row + 1) * ldi)
            out[row + 2] = s2 + _start(start, (row + 2) * ldi)
            out[row + 3] = s3 + _start(start, (row + 3) * ldi)
            row += 4
        while row < end:
            out[row] = one_row(at(p, row * lda), v, k) + _start(start, row * ldi)
            row += 1


def vecmat(a, b, c, batch, k, n, a_step, b_step, ith, nth):
    """c[i] [n] = a[i] [k] · b[i] [k, n] for `batch` matrices as they lie, `*_step` elements apart.

    Each is what `gemm` gives for one row, bit for bit.
    """
    panels = (n + 15) // 16
    item, last = share(batch * panels, ith, nth)
    while item < last:
        i = item // panels
        j = (item - i * panels) * 16
        x, right, y = at(a, i * a_step), at(b, i * b_step + j), at(c, i * n + j)
        left = min((i + 1) * panels, last) - item
        if left >= _WIDE:
            _wide(x, 0, right, n, k, f32(0), 0, y, 0, min(16, n - j - 16 * (_WIDE - 1)))
            item += _WIDE
        elif left >= _HALF:
            _half(x, 0, right, n, k, f32(0), 0, y, 0, min(16, n - j - 16 * (_HALF - 1)))
            item += _HALF
        else:
            _narrow(x, 0, right, n, k, f32(0), 0, y, 0, min(16, n - j))
            item += 1
