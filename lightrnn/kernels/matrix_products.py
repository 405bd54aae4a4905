"""Products by the matrix unit: 32 rows and two panels at a time, each four of its tiles.

A tile of b is 16 lines of a packed panel as they lie, one of a 16 rows of 64 bytes. So k is a whole
number of those: `ops.packing` and `gemm.prepare` fill up with zeros.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import types

from lightrnn.kernels import matrix_unit
from lightrnn.kernels.integers import BEYOND, broadcast_int, load_words
from lightrnn.kernels.intrinsic import POINTERS, inlined, outlined
from lightrnn.kernels.simd import (
    at,
    bits_float,
    f32,
    fma,
    load,
    null,
    splat,
    splat_int,
    to_float,
    u8,
)
from lightrnn.kernels.threads import address_of
from lightrnn.kernels.tiling import load_some, moved, store_some
from lightrnn.native.abi import BYTES_RUN

_F, _I, _W, _B = POINTERS["f32"], types.int64, POINTERS["i32"], POINTERS["u8"]
_configuration = matrix_unit.stack_bytes(matrix_unit.CONFIGURATION)
_four_tiles = matrix_unit.stack_bytes(4096)
_TILE = 1024


@inlined
def _configure(first, second):
    """Tiles for blocks of so many rows, the second of 0 for none: sums are tiles 0 and 1, and 2 and
    3, of a tiles 4 and 5, of b tiles 6 and 7."""
    p = _configuration()
    for i in range(matrix_unit.CONFIGURATION):
        p[i] = 0
    p[0] = 1
    for t in range(8):
        rows = 16
        if t == 0 or t == 1 or t == 4:
            rows = first
        elif t == 2 or t == 3 or t == 5:
            rows = second
        if rows > 0:
            p[16 + 2 * t] = 64
            p[48 + t] = rows
    matrix_unit.configure(p)


_OPERATIONS = {
    **{f"zero{t}": matrix_unit.tile_zero(t) for t in range(4)},
    **{f"load{t}": matrix_unit.tile_load(t) for t in range(4, 8)},
    **{f"store{t}": matrix_unit.tile_store(t) for t in range(4)},
    **{
        f"{name}{c}_{a}_{b}": matrix_unit.tile_dot(c, a, b, integers=name == "whole")
        for name in ("whole", "float")
        for c in range(4)
        for a in (4, 5)
        for b in (6, 7)
    },
}


def _make_sums(stored: str, blocks: int, panels: int) -> Callable[..., Any]:
    """A function that writes tiles of sums, for tiles of k from `start` to `end`, to `sums`.

    A block's tiles are those of its panels; for int8 of the low and of the high bytes of its rows.
    """
    dot = "float" if stored == "pairs" else "whole"
    lines = ["def tile_sums(a, stride, low, b, step, start, end, sums):"]
    used = [2 * r + p for r in range(blocks) for p in range(2 if stored == "int8" else panels)]
    lines += [f"    zero{t}()" for t in used]
    lines += ["    for i in range(64 * start, 64 * end, 64):"]
    lines += [f"        load{6 + p}(at(b, {p} * step + 16 * i), 64)" for p in range(panels)]
    for r in range(blocks):
        row = f"{16 * r} * stride + i"
        lines += [f"        load{4 + r}(at(a, {row} + low), stride)"]
        lines += [f"        {dot}{2 * r + p}_{4 + r}_{6 + p}()" for p in range(panels)]
        if stored == "int8":
            lines += [f"        load{4 + r}(at(a, {row}), stride)"]
            lines += [f"        {dot}{2 * r + 1}_{4 + r}_6()"]
    lines += [f"    store{t}(at(sums, {_TILE * t}), 64)" for t in used]
    scope: dict[str, Any] = {**_OPERATIONS, "at": at}
    exec(compile("\n".join(lines) + "\n", f"<sums {blocks}x{panels}>", "exec"), scope)
    return inlined(scope["tile_sums"])


@inlined
def _add_floats(sums, init, ldi, c, ldc, rows, tail):
    """c = init + a tile of sums."""
    for r in range(rows):
        v = bits_float(load_words(sums, 64 * r))
        if not null(init):
            v = v + load_some(init, r * ldi, tail)
        store_some(c, r * ldc, v, tail)


def _make_add_integers(*, split: bool) -> Callable[..., Any]:
    """`_add_floats` of sums that rows and columns have a scale for; split: of low bytes in one tile
    and of high ones in the next."""

    @inlined
    def add_integers(sums, a, lda, k, run, scales, init, ldi, c, ldc, rows, tail):
        s = load(scales, 0)
        for r in range(rows):
            n = load_words(sums, 64 * r) + broadcast_int(a, r * lda + 2 * k + 1 + run)
            if split:
                n = n + (load_words(sums, _TILE + 64 * r) << splat_int(8))
            v = splat(0.0)
            if not null(init):
                v = load_some(init, r * ldi, tail)
            scale = bits_float(broadcast_int(a, r * lda + 2 * k))
            store_some(c, r * ldc, fma(to_float(n), scale * s, v), tail)

    return add_integers


def no_product(a, lda, b, step, k, init, ldi, c, ldc, m, first, last, n, turned):
    pass


def make_matrix_product(stored: str) -> Callable[..., Any]:
    """`blocking.make_product` for the matrix unit.

    stored: "bytes", "int8" or "pairs". k: quads of int8, or pairs of bfloat16, a multiple of 16.
    """
    widest = 1 if stored == "int8" else 2
    sums_22, sums_21 = _make_sums(stored, 2, widest), _make_sums(stored, 2, 1)
    sums_12, sums_11 = _make_sums(stored, 1, widest), _make_sums(stored, 1, 1)
    add_integers = _make_add_integers(split=stored == "int8")
    floats, run_tiles = stored == "pairs", BYTES_RUN // 64

    @inlined
    def block(a, lda, b, step, k, init, ldi, c, ldc, first, second, panels, tail, sums):
        """`first` and then `second` rows by so many panels, `tail` columns in the last of them."""
        low = 0 if floats else 4 * k
        start, run, source, ld = 0, 0, init, ldi
        while start == 0 or 16 * start < k:
            end = k // 16 if floats else min(start + run_tiles, k // 16)
            left = u8(address_of(a))
            if second > 0 and panels == widest:
                sums_22(left, 4 * lda, low, b, 16 * step, start, end, sums)
            elif second > 0:
                sums_21(left, 4 * lda, low, b, 16 * step, start, end, sums)
            elif panels == widest:
                sums_12(left, 4 * lda, low, b, 16 * step, start, end, sums)
            else:
                sums_11(left, 4 * lda, low, b, 16 * step, start, end, sums)
            for r in range(2 if second > 0 else 1):
                rows = second if r == 1 else first
                for p in range(panels):
                    columns = tail if p == panels - 1 else 16
                    tile = at(sums, _TILE * (2 * r + p))
                    before, out = moved(source, 16 * (r * ld + p)), at(c, 16 * (r * ldc + p))
                    if floats:
                        _add_floats(tile, before, ld, out, ldc, rows, columns)
                    else:
                        scales = f32(address_of(b) + 16 * p * step + 64 * k)
                        add_integers(
                            tile, at(a, 16 * r * lda), lda, k, run, scales, before, ld, out,
                            ldc, rows, columns,
                        )  # fmt: skip
            source, ld, start, run = c, ldc, end, run + 1

    def product(a, lda, b, step, k, init, ldi, c, ldc, m, first, last, n, turned):
        sums = _four_tiles()
        row = 0
        while row < m:
            rows = max((m - row) // 32 * 32, min(m - row, 32))
            one, other = min(rows, 16), min(max(rows - 16, 0), 16)
            _configure(one, other)
            groups = (last - first + widest - 1) // widest
            for g in range(groups):
                i = groups - 1 - g if turned else g
                p = first + i * widest
                panels = min(widest, last - p)
                j = p * 16
                tail = min(16, n - j - 16 * (panels - 1))
                for top in range(row, row + rows, 32):
                    block(
                        at(a, top * lda), lda, at(b, j * step), step, k,
                        moved(init, top * ldi + j), ldi, at(c, top * ldc + j), ldc, one, other,
                        panels, tail, sums,
                    )  # fmt: skip
            row += rows
        matrix_unit.release()

    if not BEYOND:
        return inlined(no_product)
    product.__name__ = product.__qualname__ = f"matrix_product_{stored}"
    sizes = (_F, _I, _F, _I, _I, _I, _I, _I, _I)
    return outlined(types.void, _W, _I, _B, _I, _I, *sizes)(product)
