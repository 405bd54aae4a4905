"""Products as tiles: which of them does which rows and panels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import types

from lightrnn.kernels.integers import VNNI
from lightrnn.kernels.intrinsic import POINTERS, inlined, outlined
from lightrnn.kernels.simd import at
from lightrnn.kernels.tiling import TARGET, TILES, make_tile, moved

_F, _I = POINTERS["f32"], types.int64
_A, _B, _C, _D, _E = TILES[TARGET]
(_ROWS_A, _PANELS_A), (_ROWS_B, _PANELS_B), (_ROWS_C, _PANELS_C) = _A, _B, _C
_PANELS_D, _PANELS_E = _D[1], _E[1]

_PAGE = 4096
"""Panels that begin a multiple of these bytes apart meet in the same few places of a cache."""
_COLUMN_STEPS = {"float32": 64, "float16": 32, "bfloat16": 32, "int8": 16, "int16": 16}
"""Bytes between panels for each unit of their step."""


def _make_row(stored: str, *, split: bool = False) -> Callable[..., Any]:
    """The product of one row: c = init + a·b for the panels [first, last).

    The last of them first if turned. split: as `make_tile` takes it.
    """
    wide_tile = make_tile(1, _PANELS_D, stored, split=split)
    half_tile = make_tile(1, _PANELS_E, stored, split=split)
    narrow_tile = make_tile(1, 1, stored, split=split)
    column_step = _COLUMN_STEPS[stored]

    @inlined
    def row_product(a, b, step, k, init, c, first, last, n, turned):
        wide = _PANELS_E if step * column_step % _PAGE == 0 else _PANELS_D
        whole = (last - first) // wide
        rest = last - first - whole * wide
        halves = rest // _PANELS_E
        groups = whole + halves + rest - halves * _PANELS_E
        for g in range(groups):
            i = groups - 1 - g if turned else g
            panels, p = wide, first + i * wide
            if i >= whole + halves:
                panels, p = 1, last - groups + i
            elif i >= whole:
                panels, p = _PANELS_E, first + whole * wide + (i - whole) * _PANELS_E
            j = p * 16
            tail = min(16, n - j - 16 * (panels - 1))
            right, start, out = at(b, j * step), moved(init, j), at(c, j)
            if panels == _PANELS_D:
                wide_tile(a, 0, right, step, k, start, 0, out, 0, tail)
            elif panels == _PANELS_E:
                half_tile(a, 0, right, step, k, start, 0, out, 0, tail)
            else:
                narrow_tile(a, 0, right, step, k, start, 0, out, 0, tail)

    return row_product


def _make_rows(rows: int, panels: int, stored: str) -> Callable[..., Any]:
    """The product of so many rows, as `_make_row` makes it for one, `panels` panels at once."""
    wide_tile, narrow_tile = make_tile(rows, panels, stored), make_tile(rows, 1, stored)

    @inlined
    def rows_product(a, lda, b, step, k, init, ldi, c, ldc, first, last, n, turned):
        whole = (last - first) // panels
        groups = last - first - whole * (panels - 1)
        for g in range(groups):
            i = groups - 1 - g if turned else g
            wide, p = panels, first + i * panels
            if i >= whole:
                wide, p = 1, last - groups + i
            j = p * 16
            tail = min(16, n - j - 16 * (wide - 1))
            right, start, out = at(b, j * step), moved(init, j), at(c, j)
            if wide == panels:
                wide_tile(a, lda, right, step, k, start, ldi, out, ldc, tail)
            else:
                narrow_tile(a, lda, right, step, k, start, ldi, out, ldc, tail)

    return rows_product


def make_product(stored: str, left: Any, right: Any) -> Callable[..., Any]:
    """c = init + a·b for one way to store b; left, right: types of the pointers to a and b."""
    tile, narrow_tile = make_tile(*_A, stored), make_tile(_ROWS_A, 1, stored)
    product_b, product_c = _make_rows(*_B, stored), _make_rows(*_C, stored)
    row_product = _make_row(stored)

    @inlined
    def whole_blocks(a, lda, b, step, k, init, ldi, c, ldc, blocks, panels, tail):
        """Blocks of the most rows, while their panels stay in the nearest cache."""
        for block in range(blocks):
            row = block * _ROWS_A
            left, start, out = at(a, row * lda), moved(init, row * ldi), at(c, row * ldc)
            if panels == _PANELS_A:
                tile(left, lda, b, step, k, start, ldi, out, ldc, tail)
            else:
                narrow_tile(left, lda, b, step, k, start, ldi, out, ldc, tail)

    def product(a, lda, b, step, k, init, ldi, c, ldc, m, first, last, n, turned):
        p = first
        while p < last:
            panels = min(_PANELS_A, last - p)
            if panels < _PANELS_A:
                panels = 1
            j = p * 16
            tail = min(16, n - j - 16 * (panels - 1))
            whole_blocks(
                a, lda, at(b, j * step), step, k, moved(init, j), ldi, at(c, j), ldc, m // _ROWS_A,
                panels, tail,
            )  # fmt: skip
            p += panels
        row = m // _ROWS_A * _ROWS_A
        while row < m:
            x, start, out = at(a, row * lda), moved(init, row * ldi), at(c, row * ldc)
            if m - row >= _ROWS_B:
                product_b(x, lda, b, step, k, start, ldi, out, ldc, first, last, n, turned)
                row += _ROWS_B
            elif m - row >= _ROWS_C:
                product_c(x, lda, b, step, k, start, ldi, out, ldc, first, last, n, turned)
                row += _ROWS_C
            else:
                row_product(x, b, step, k, start, out, first, last, n, turned)
                row += 1

    product.__name__ = product.__qualname__ = f"product_{stored}"
    sizes = (_F, _I, _F, _I, _I, _I, _I, _I, _I)
    return outlined(types.void, left, _I, right, _I, _I, *sizes)(product)


def make_split_row(stored: str, left: Any, right: Any) -> Callable[..., Any]:
    """`make_product` for a single row that is split in bytes: with VNNI; else there is none."""
    if not VNNI:
        return inlined(_no_split_row)
    row_product = _make_row(stored, split=True)

    def split_row(a, b, step, k, init, c, first, last, n, turned):
        row_product(a, b, step, k, init, c, first, last, n, turned)

    kinds = (left, right, _I, _I, _F, _F, _I, _I, _I, _I)
    return outlined(types.void, *kinds)(split_row)


def _no_split_row(a, b, step, k, init, c, first, last, n, turned):
    pass
