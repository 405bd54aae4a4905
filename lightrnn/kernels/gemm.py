"""Matrix products with a packed right-hand side.

B is stored as panels of 16 columns, each panel [k, 16] row after row, columns past the last zero:
`ops.packing` packs constants, `pack_panels` packs what is only known at run time.
"""

from __future__ import annotations

from numba import types

from lightrnn.kernels.simd import POINTERS, at, inlined, null, outlined
from lightrnn.kernels.tiling import TARGET, TILES, make_tile

_F, _I = POINTERS["f32"], types.int64
(ROWS_A, PANELS_A), (ROWS_B, PANELS_B), (ROWS_C, PANELS_C), (_, PANELS_D) = TILES[TARGET]
_tile_a, _narrow_a = make_tile(ROWS_A, PANELS_A), make_tile(ROWS_A, 1)
_tile_b, _narrow_b = make_tile(ROWS_B, PANELS_B), make_tile(ROWS_B, 1)
_tile_c, _narrow_c = make_tile(ROWS_C, PANELS_C), make_tile(ROWS_C, 1)
_tile_d, _narrow_d = make_tile(1, PANELS_D), make_tile(1, 1)


@inlined
def share(total, ith, nth):
    """The part [first, last) of `total` items that thread `ith` of `nth` does."""
    return total * ith // nth, total * (ith + 1) // nth


@inlined
def moved(p, n):
    """The pointer `n` elements on; null stays null."""
    if null(p):
        return p
    return at(p, n)


@outlined(types.void, _F, _I, _F, _I, _F, _I, _F, _I, _I, _I, _I, _I)
def multiply(a, lda, b, k, init, ldi, c, ldc, m, first, last, n):
    """c = init + a·b for `m` rows and the panels [first, last).

    a: [m, k], rows `lda` apart. b: all panels. init, c: [m, n], rows `ldi` and `ldc` apart, both
    beginning at column 0; init may be null for zeros, and may be c.
    """
    p = first
    while p < last:
        panels = min(PANELS_A, last - p)
        if panels < PANELS_A:
            panels = 1
        j = p * 16
        tail = min(16, n - j - 16 * (panels - 1))
        _whole_blocks(
            a, lda, at(b, j * k), k, moved(init, j), ldi, at(c, j), ldc, m // ROWS_A, panels, tail
        )
        p += panels
    row = m // ROWS_A * ROWS_A
    if row < m:
        _last_rows(
            at(a, row * lda), lda, b, k, moved(init, row * ldi), ldi, at(c, row * ldc), ldc,
            m - row, first, last, n,
        )  # fmt: skip


@inlined
def _whole_blocks(a, lda, b, k, init, ldi, c, ldc, blocks, panels, tail):
    """Blocks of ROWS_A rows, while their panels stay in the nearest cache."""
    for block in range(blocks):
        row = block * ROWS_A
        left, start, out = at(a, row * lda), moved(init, row * ldi), at(c, row * ldc)
        if panels == PANELS_A:
            _tile_a(left, lda, b, k, start, ldi, out, ldc, tail)
        else:
            _narrow_a(left, lda, b, k, start, ldi, out, ldc, tail)


@inlined
def _last_rows(a, lda, b, k, init, ldi, c, ldc, m, first, last, n):
    """Fewer than ROWS_A rows, by the largest tiles that fit."""
    row = 0
    while row < m:
        rows, wide = 1, PANELS_D
        if m - row >= ROWS_B:
            rows, wide = ROWS_B, PANELS_B
        elif m - row >= ROWS_C:
            rows, wide = ROWS_C, PANELS_C
        p = first
        while p < last:
            panels = wide if last - p >= wide else 1
            j = p * 16
            tail = min(16, n - j - 16 * (panels - 1))
            left, right, out = at(a, row * lda), at(b, j * k), at(c, row * ldc + j)
            start = moved(init, row * ldi + j)
            _small_tile(rows, panels, left, lda, right, k, start, ldi, out, ldc, tail)
            p += panels
        row += rows


@inlined
def _small_tile(rows, panels, a, lda, b, k, init, ldi, c, ldc, tail):
    if rows == ROWS_B:
        if panels == PANELS_B:
            _tile_b(a, lda, b, k, init, ldi, c, ldc, tail)
        else:
            _narrow_b(a, lda, b, k, init, ldi, c, ldc, tail)
    elif rows == ROWS_C:
        if panels == PANELS_C:
            _tile_c(a, lda, b, k, init, ldi, c, ldc, tail)
        else:
            _narrow_c(a, lda, b, k, init, ldi, c, ldc, tail)
    elif panels == PANELS_D:
        _tile_d(a, lda, b, k, init, ldi, c, ldc, tail)
    else:
        _narrow_d(a, lda, b, k, init, ldi, c, ldc, tail)


def gemm(
    a, b, init, c, batch, m, n, k, lda, ldi, ldc, a_step, b_step, init_step, c_step, ith, nth
):  # fmt: skip
    """c[i] = init[i] + a[i]·b[i] for `batch` matrices, `*_step` elements apart (0 to share one).

    Threads split batch and panels, or rows where there are more of those.
    """
    panels = (n + 15) // 16
    if batch * panels >= nth or m < nth:
        first, last = share(batch * panels, ith, nth)
        row, rows = 0, m
    else:
        first, last = 0, batch * panels
        row, end = share(m, ith, nth)
        rows = end - row
    while first < last:
        i = first // panels
        p = first - i * panels
        stop = min(panels, p + last - first)
        multiply(
            at(a, i * a_step + row * lda), lda, at(b, i * b_step), k,
            moved(init, i * init_step + row * ldi), ldi, at(c, i * c_step + row * ldc), ldc,
            rows, p, stop, n,
        )  # fmt: skip
        first += stop - p


def pack_panels(b, panels, batch, k, n, row_stride, column_stride, b_step, ith, nth):
    """Pack `batch` matrices b [k, n] (strides in elements) into panels, `k * ceil16(n)` apart."""
    count = (n + 15) // 16
    first, last = share(batch * count, ith, nth)
    for item in range(first, last):
        i = item // count
        j = (item - i * count) * 16
        source, panel = at(b, i * b_step + j * column_stride), at(panels, item * k * 16)
        width = min(16, n - j)
        for row in range(k):
            for lane in range(16):
                if lane < width:
                    panel[row * 16 + lane] = source[row * row_stride + lane * column_stride]
                else:
                    panel[row * 16 + lane] = 0.0
