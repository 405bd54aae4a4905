"""Products as tiles: which of them does which rows and panels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import types

from lightrnn.kernels.intrinsic import POINTERS, inlined, outlined
from lightrnn.kernels.pairing import make_pair_tile
from lightrnn.kernels.simd import at
from lightrnn.kernels.tiling import TARGET, TILES, make_tile, moved
from lightrnn.native.abi import AHEAD, WEIGHTS

_F, _I = POINTERS["f32"], types.int64
_A, _B, _C, _D = TILES[TARGET]
(_ROWS_A, _PANELS_A), (_ROWS_B, _PANELS_B), (_ROWS_C, _PANELS_C) = _A, _B, _C
_PANELS_D = _D[1]
_LEAST_PAIRED = 3
"""Panels of a row whose reading hides a tile of other rows."""


def _row_tiles(stored: str, passes: int) -> Callable[..., Any]:
    """One row by up to _PANELS_D panels: sums of few panels wait for each other, so all at once."""
    lines = ["def row_tile(panels, a, b, step, k, init, c, tail):"]
    scope: dict[str, Any] = {}
    for panels in range(1, _PANELS_D + 1):
        scope[f"tile_{panels}"] = make_tile(1, panels, stored, passes=passes)
        lines += [
            f"    if panels == {panels}:",
            f"        tile_{panels}(a, 0, b, step, k, init, 0, c, 0, tail)",
        ]
    exec(compile("\n".join(lines) + "\n", f"<row tiles {stored}>", "exec"), scope)
    return inlined(scope["row_tile"])


def _make_row(stored: str, *, passes: int = 0) -> Callable[..., Any]:
    """The product of one row: c = init + a·b for the panels [first, last).

    The last of them first if turned. passes: as `make_tile` takes them.
    """
    row_tile = _row_tiles(stored, passes)

    @inlined
    def row_product(a, b, step, k, init, c, first, last, n, turned):
        groups = (last - first + _PANELS_D - 1) // _PANELS_D
        for g in range(groups):
            p = first + (groups - 1 - g if turned else g) * _PANELS_D
            panels, j = min(_PANELS_D, last - p), p * 16
            tail = min(16, n - j - 16 * (panels - 1))
            row_tile(panels, a, at(b, j * step), step, k, moved(init, j), at(c, j), tail)

    return row_product


def _make_rows(rows: int, panels: int, stored: str, *, passes: int = 0) -> Callable[..., Any]:
    """The product of so many rows, as `_make_row` makes it for one, `panels` panels at once."""
    wide_tile = make_tile(rows, panels, stored, passes=passes)
    narrow_tile = make_tile(rows, 1, stored, passes=passes)

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


def make_product(stored: str, left: Any, right: Any, *, passes: int = 0) -> Callable[..., Any]:
    """c = init + a·b for one way to store b; left, right: types of the pointers to a and b.

    passes: as `make_tile` takes them.
    """
    tile = make_tile(*_A, stored, passes=passes)
    narrow_tile = make_tile(_ROWS_A, 1, stored, passes=passes)
    product_b = _make_rows(*_B, stored, passes=passes)
    product_c = _make_rows(*_C, stored, passes=passes)
    row_product = _make_row(stored, passes=passes)

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
        p = first if m >= _ROWS_A else last
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

    product.__name__ = product.__qualname__ = f"product_{stored}_{passes}"
    sizes = (_F, _I, _F, _I, _I, _I, _I, _I, _I)
    return outlined(types.void, left, _I, right, _I, _I, *sizes)(product)


SHADED = {"v3": (), "v4": ("float32", "float16", "bfloat16")}.get(TARGET, (*WEIGHTS, "bytes"))
"""How weights are stored of which the level has registers and instructions for pairs of tiles."""


def _pair_tiles(stored: str) -> Callable[..., Any]:
    """A row by so many panels, some of _LEAST_PAIRED to _PANELS_D or none, and AHEAD other rows."""
    lines = ["def pair_tile(panels, a, b, step, k, init, c, x, ldx, w, depth, bias, out, ldo):"]
    scope: dict[str, Any] = {}
    for panels in range(_LEAST_PAIRED, _PANELS_D + 1):
        scope[f"tile_{panels}"] = make_pair_tile(panels, AHEAD, stored)
        lines += [
            f"    if panels == {panels}{' or panels == 0' if panels == _PANELS_D else ''}:",
            f"        tile_{panels}(a, b, step, k, init, c, x, ldx, w, depth, bias, out, ldo)",
        ]
    exec(compile("\n".join(lines) + "\n", f"<pair tiles {stored}>", "exec"), scope)
    return inlined(scope["pair_tile"])


def make_row_ahead(stored: str, left: Any, right: Any) -> Callable[..., Any]:
    """A row by some panels, and AHEAD other rows by an eighth of the panels of other weights.

    stored: as `make_pair_tile` takes it. left, right: types of the pointers to the rows and to the
    weights.
    """
    if stored not in SHADED:
        return inlined(_no_row_ahead)
    passes, kept = {"bytes": 1, "int8": 2}.get(stored, 0), "int8" if stored == "bytes" else stored
    other = "float32" if stored in ("float16", "bfloat16") else stored
    row_tile, pair_tile = _row_tiles(kept, passes), _pair_tiles(stored)

    def row_ahead(
        a, b, step, k, init, c, first, last, turned, x, ldx, w, w_step, depth, bias, out, ldo, part
    ):  # fmt: skip
        """c = init + a·b for the panels [first, last), if k is not 0. out = bias + x·w for part
        `part` of AHEAD of the same panels; w's are 16 * `w_step` apart."""
        count = last - first
        ahead = first + count * part // AHEAD
        stop = first + count * (part + 1) // AHEAD
        groups = (count + _PANELS_D - 1) // _PANELS_D if k > 0 else 0
        for g in range(max(groups, stop - ahead)):
            p, panels, there, apart = first, 0, 0, 0
            if g < groups:
                p = first + (groups - 1 - g if turned else g) * _PANELS_D
                panels, there, apart = min(_PANELS_D, last - p), k, step
            j, q = 16 * p, 16 * ahead
            right, source, target = at(b, j * step), moved(init, j), at(c, j)
            if 0 < panels < _LEAST_PAIRED or ahead == stop:
                row_tile(panels, a, right, step, k, source, target, 16)
                panels = there = apart = 0
            if ahead < stop:
                pair_tile(
                    panels, a, right, apart, there, source, target, x, ldx, at(w, q * w_step),
                    depth, moved(bias, q), at(out, q), ldo,
                )  # fmt: skip
                ahead += 1

    row_ahead.__name__ = row_ahead.__qualname__ = f"row_ahead_{stored}"
    weights = _F if other == "float32" else right
    kinds = (left, right, _I, _I, _F, _F, _I, _I, _I, left, _I, weights, _I, _I, _F, _F, _I, _I)
    return outlined(types.void, *kinds)(row_ahead)


def _no_row_ahead(
    a, b, step, k, init, c, first, last, turned, x, ldx, w, w_step, depth, bias, out, ldo, part
):  # fmt: skip
    pass


def make_split_row(left: Any, right: Any) -> Callable[..., Any]:
    """`make_product` by int8 for a single row that is split in high and low bytes. Needs VNNI."""
    row_product = _make_row("int8", passes=2)

    def split_row(a, b, step, k, init, c, first, last, n, turned):
        row_product(a, b, step, k, init, c, first, last, n, turned)

    kinds = (left, right, _I, _I, _F, _F, _I, _I, _I, _I)
    return outlined(types.void, *kinds)(split_row)
