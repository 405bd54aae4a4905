"""Moving data: N-d strided copies and fills, bits unchanged."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from lightrnn.kernels import simd
from lightrnn.kernels.gemm import share
from lightrnn.kernels.interpreted import Span
from lightrnn.kernels.intrinsic import (
    F16,
    LANES,
    POINTERS,
    Twin,
    compiled,
    inlined,
    outlined,
    signature,
)
from lightrnn.kernels.simd import broadcast, f32, i64, load, load_first, store, store_first, u16
from lightrnn.kernels.tiling import load_some, store_some

_B, _I = POINTERS["u8"], types.int64
_LINE = 64
"""Bytes in which a single large block is dealt to threads."""


@compiled(signature(types.int64, "pointer"), lambda c, b, sig, a: b.ptrtoint(a[0], ir.IntType(64)))
def address_of(p: Span) -> int:
    """The address of p[0]."""
    return int(p.items.__array_interface__["data"][0]) + p.start * p.items.itemsize


def _shuffle(order: list[int]) -> Callable[[Twin], Twin]:
    lanes = ir.Constant(ir.VectorType(ir.IntType(32), LANES), order)
    return compiled(
        signature(F16, F16, F16), lambda c, b, sig, a: b.shuffle_vector(a[0], a[1], lanes)
    )


@_shuffle([k // 2 + LANES * (k % 2) for k in range(LANES)])
def interleave_low(x: Any, y: Any) -> Any:
    """x[0] y[0] x[1] y[1] ... x[7] y[7]."""
    return np.stack([x[:8], y[:8]], axis=1).reshape(-1)


@_shuffle([8 + k // 2 + LANES * (k % 2) for k in range(LANES)])
def interleave_high(x: Any, y: Any) -> Any:
    """x[8] y[8] x[9] y[9] ... x[15] y[15]."""
    return np.stack([x[8:], y[8:]], axis=1).reshape(-1)


def _make_transpose() -> Any:
    """A function that copies a tile of `rows` by `columns` float32, at most 16 of each, transposed.

    Element (r, c) comes from p[r + c * stride] and goes to q[r * step + c]. Four rounds of
    interleaving rotate the eight bits of (row, lane) by four.
    """
    lines = ["def transpose_tile(p, stride, q, step, rows, columns):"]
    for k in range(LANES):
        lines.append(f"    a{k} = load_some(p, {k} * stride, rows if {k} < columns else 0)")
    names = [f"a{k}" for k in range(LANES)]
    for turn in "bcde":
        made = [f"{turn}{k}" for k in range(LANES)]
        for k in range(LANES):
            half = "high" if k % 2 else "low"
            lines.append(f"    {made[k]} = interleave_{half}({names[k // 2]}, {names[k // 2 + 8]})")
        names = made
    for k in range(LANES):
        lines.append(f"    store_some(q, {k} * step, {names[k]}, columns if {k} < rows else 0)")
    scope: dict[str, Any] = {
        **vars(simd), "load_some": load_some, "store_some": store_some,
        "interleave_low": interleave_low, "interleave_high": interleave_high,
    }  # fmt: skip
    exec(compile("\n".join(lines) + "\n", "<transpose_tile>", "exec"), scope)
    return inlined(scope["transpose_tile"])


_transpose_tile = _make_transpose()


@inlined
def f32_at(p, n):
    """The float32 elements `n` bytes on from a byte pointer."""
    return f32(address_of(p) + n)


@inlined
def u16_at(p, n):
    """The uint16 elements `n` bytes on from a byte pointer."""
    return u16(address_of(p) + n)


@inlined
def i64_at(p, n):
    """The int64 elements `n` bytes on from a byte pointer."""
    return i64(address_of(p) + n)


@inlined
def copy_bytes(source, s, target, t, count):
    """Copy `count` bytes from byte `s` of source to byte `t` of target."""
    p, q = f32_at(source, s), f32_at(target, t)
    words = count >> 2
    i = 0
    while i + 16 <= words:
        store(q, i, load(p, i))
        i += 16
    if i < words:
        store_first(q, i, load_first(p, i, words - i), words - i)
    done = words << 2
    if count & 2:
        u16_at(target, t + done)[0] = u16_at(source, s + done)[0]
        done += 2
    if count & 1:
        target[t + done] = source[s + done]


@outlined(types.void, _B, _I, _B, _I, _I, _I, _I, _I, _I, _I, _I)
def copy_blocks(source, s, target, t, run, rows, columns, s_row, s_column, t_row, t_column):
    """Copy rows by columns blocks of `run` bytes; all places and strides in bytes."""
    for r in range(rows):
        for c in range(columns):
            copy_bytes(
                source, s + r * s_row + c * s_column, target, t + r * t_row + c * t_column, run
            )


@inlined
def copy_items(p, s, q, t, rows, columns, s_row, s_column, t_row, t_column):
    """Copy rows by columns elements; places and strides in elements."""
    for r in range(rows):
        i, j = s + r * s_row, t + r * t_row
        for c in range(columns):
            q[j + c * t_column] = p[i + c * s_column]


@inlined
def spread_rows(p, s, q, t, rows, columns, s_row, t_row):
    """Fill each row of `columns` float32 with one element."""
    for r in range(rows):
        v, j = broadcast(p, s + r * s_row), t + r * t_row
        c = 0
        while c + 16 <= columns:
            store(q, j + c, v)
            c += 16
        if c < columns:
            store_first(q, j + c, v, columns - c)


@inlined
def transpose_plane(p, s, q, t, rows, columns, stride, step):
    """Copy rows by columns float32, transposed, in tiles."""
    for r in range(0, rows, 16):
        for c in range(0, columns, 16):
            _transpose_tile(
                simd.at(p, s + r + c * stride), stride, simd.at(q, t + r * step + c), step,
                min(16, rows - r), min(16, columns - c),
            )  # fmt: skip


@outlined(types.void, _B, _I, _B, _I, _I, _I, _I, _I, _I, _I, _I)
def copy_plane(source, s, target, t, item, rows, columns, s_row, s_column, t_row, t_column):
    """Copy rows by columns elements of `item` bytes; places and strides in elements."""
    if item == 4:
        p, q = f32_at(source, 0), f32_at(target, 0)
        if t_column == 1 and s_column == 0:
            spread_rows(p, s, q, t, rows, columns, s_row, t_row)
        elif t_column == 1 and s_row == 1 and rows >= 4 and columns >= 4:
            transpose_plane(p, s, q, t, rows, columns, s_column, t_row)
        else:
            copy_items(p, s, q, t, rows, columns, s_row, s_column, t_row, t_column)
    elif item == 8:
        p, q = i64_at(source, 0), i64_at(target, 0)
        copy_items(p, s, q, t, rows, columns, s_row, s_column, t_row, t_column)
    elif item == 2:
        p, q = u16_at(source, 0), u16_at(target, 0)
        copy_items(p, s, q, t, rows, columns, s_row, s_column, t_row, t_column)
    else:
        copy_items(source, s, target, t, rows, columns, s_row, s_column, t_row, t_column)


def copy_strided(source, target, source_start, target_start, run, item, rank, shape, ith, nth):
    """Copy an N-d array of blocks of `run` bytes.

    source, target: base addresses; source_start, target_start: bytes to the first block.
    item: 0, or `run` where it is 1, 2, 4 or 8 and all places are multiples of it.
    shape: [3 * rank] sizes, source strides and target strides, in bytes; rank >= 2; a source
    stride may be 0, any may be negative. No two blocks of the target may overlap.
    """
    rows, columns = shape[rank - 2], shape[rank - 1]
    lines = rows
    for k in range(rank - 2):
        lines *= shape[k]
    first, last, left, right, skip, length = 0, lines, 0, columns, 0, run
    if lines >= nth:
        first, last = share(lines, ith, nth)
    elif columns >= nth or run <= _LINE:
        left, right = share(columns, ith, nth)
    else:
        begin, end = share((run + _LINE - 1) // _LINE, ith, nth)
        skip = begin * _LINE
        length = min(run, end * _LINE) - skip
    if right <= left or length <= 0:
        return
    s_row, s_column = shape[2 * rank - 2], shape[2 * rank - 1]
    t_row, t_column = shape[3 * rank - 2], shape[3 * rank - 1]
    shift = int(item >= 2) + int(item >= 4) + int(item >= 8)
    while first < last:
        plane = first // rows
        row = first - plane * rows
        count = min(rows - row, last - first)
        s = source_start + skip + row * s_row + left * s_column
        t = target_start + skip + row * t_row + left * t_column
        for k in range(rank - 3, -1, -1):
            outer = plane // shape[k]
            i = plane - outer * shape[k]
            s += i * shape[rank + k]
            t += i * shape[2 * rank + k]
            plane = outer
        if item == 0:
            copy_blocks(
                source, s, target, t, length, count, right - left, s_row, s_column, t_row, t_column
            )
        else:
            copy_plane(
                source, s >> shift, target, t >> shift, item, count, right - left,
                s_row >> shift, s_column >> shift, t_row >> shift, t_column >> shift,
            )  # fmt: skip
        first += count


def fill(target, count, pattern, ith, nth):
    """Fill `count` bytes with the eight bytes of `pattern`, again and again."""
    words = count >> 3
    p = i64_at(target, 0)
    first, last = share(words, ith, nth)
    for i in range(first, last):
        p[i] = pattern
    if ith == 0:
        for i in range(words * 8, count):
            target[i] = (pattern >> (8 * (i & 7))) & 255
