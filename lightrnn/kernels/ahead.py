"""Inputs projected ahead of time: x·W of later steps, done while R of this one is being read.

A single row times R takes as long as R takes to come out of a cache; arithmetic costs next to
nothing meanwhile. So each of AHEAD steps also multiplies a part of W by the inputs of the AHEAD
steps after these. Every step's gates are summed in the order of `gemm`: results are the same.

kind: how R is stored, as kernels take it. W is stored so too, but as int8 where R is BYTES, and as
float32 where R is float16 or bfloat16.
"""

from __future__ import annotations

from lightrnn.kernels.blocking import SHADED, make_row_ahead
from lightrnn.kernels.gemm import (
    BFLOAT16,
    FLOAT16,
    FLOAT32,
    INT8,
    INT16,
    between,
    column_bytes,
    multiply,
    quantize_rows,
    row_words,
    weights_at,
)
from lightrnn.kernels.intrinsic import POINTERS, inlined
from lightrnn.kernels.simd import at, i32, null, u8, u16
from lightrnn.kernels.threads import address_of
from lightrnn.kernels.tiling import moved
from lightrnn.native.abi import AHEAD, BYTES, steps_before

_F, _H, _W, _B = (POINTERS[kind] for kind in ("f32", "u16", "i32", "u8"))
first_steps = inlined(steps_before)
_row_float32 = make_row_ahead("float32", _F, _F)
_row_float16 = make_row_ahead("float16", _F, _H)
_row_bfloat16 = make_row_ahead("bfloat16", _F, _H)
_row_int16 = make_row_ahead("int16", _W, _B)
_row_bytes = make_row_ahead("int8", _W, _B)
_FLOATS, _INTEGERS = "float32" in SHADED, "int16" in SHADED


@inlined
def _other_kind(kind):
    """How W is stored where R is stored so."""
    if kind == BYTES:
        return INT8
    return kind if kind >= INT8 else FLOAT32


@inlined
def _is_shaded(kind):
    """Whether there is a pair of tiles for it."""
    if kind >= INT8:
        return _INTEGERS and kind != INT8
    return _FLOATS


@inlined
def ahead_of(
    kind, x, x_room, inputs, w, bias, d, width, xw, xw_step, s, start, steps, total, backward
):  # fmt: skip
    """What step s of direction d projects: the number of rows, the part of AHEAD, x, x_room,
    inputs, W, bias, gates, xw_step.

    x: [total, inputs] of a batch of one, or null: then all is projected already. x_room: as
    `multiply` takes it, of all directions, for the rows of `steps`. w, bias: of all directions,
    `width` columns each. xw: the direction's gates of the steps from `start` on, `xw_step` apart,
    those of the first `first_steps(steps)` projected already.
    """
    if null(x):
        return 0, 0, x, x_room, inputs, w, bias, xw, xw_step
    local = s - start - steps % AHEAD
    row, rows = s - start - local % AHEAD + AHEAD, AHEAD
    if not _is_shaded(kind):
        local = s - start
        row, rows = first_steps(steps), steps - first_steps(steps) if local == 0 else 0
    if local < 0 or row + rows > steps or rows == 0:
        return 0, 0, x, x_room, inputs, w, bias, xw, xw_step
    time = start + row
    if backward:
        row, time = steps - row - rows, total - time - rows
    other, part, mine = _other_kind(kind), local % AHEAD, at(x, time * inputs)
    room = moved(x_room, d * steps * row_words(inputs))
    if part == 0 and other != FLOAT32 and _is_shaded(kind):
        quantize_rows(other, mine, inputs, inputs, rows, 0, i32(address_of(room)))
    return (
        rows, part, mine, room, inputs, weights_at(other, w, d * width, inputs),
        moved(bias, d * width), at(xw, row * xw_step), xw_step,
    )  # fmt: skip


@inlined
def ahead_at(kind, ahead, columns):
    """The same for the columns from one on, a multiple of 16."""
    rows, part, x, room, inputs, w, bias, out, ldo = ahead
    if rows > 0:
        return (
            rows, part, x, room, inputs, weights_at(_other_kind(kind), w, columns, inputs),
            moved(bias, columns), at(out, columns), ldo,
        )  # fmt: skip
    return ahead


@inlined
def project_ahead(kind, a, b, k, init, c, first, last, room, turned, ahead):
    """Project the panels [first, last), and whether c = init + a·b of these was done as well.

    kind to turned: as `multiply_prepared` takes them, for one row.
    """
    rows, part, x, x_room, inputs, w, bias, out, ldo = ahead
    if rows == 0:
        return False
    if _is_shaded(kind):
        if kind == INT16 or kind == BYTES:
            left, right = i32(address_of(room)), u8(address_of(b))
            words, other = i32(address_of(x_room)), u8(address_of(w))
            step, w_step = column_bytes(kind, k), column_bytes(kind, inputs)
            quads, depth, width = (k + 3) // 4, (inputs + 3) // 4, row_words(inputs)
            if kind == BYTES:
                _row_bytes(
                    left, right, step, quads, init, c, first, last, turned, words, width, other,
                    w_step, depth, bias, out, ldo, part,
                )  # fmt: skip
            else:
                _row_int16(
                    left, right, step, quads, init, c, first, last, turned, words, width, other,
                    w_step, depth, bias, out, ldo, part,
                )  # fmt: skip
        elif kind == FLOAT32:
            _row_float32(
                a, b, between(k), k, init, c, first, last, turned, x, inputs, w, between(inputs),
                inputs, bias, out, ldo, part,
            )  # fmt: skip
        elif kind == FLOAT16:
            _row_float16(
                a, u16(address_of(b)), between(k), k, init, c, first, last, turned, x, inputs, w,
                between(inputs), inputs, bias, out, ldo, part,
            )  # fmt: skip
        elif kind == BFLOAT16:
            _row_bfloat16(
                a, u16(address_of(b)), between(k), k, init, c, first, last, turned, x, inputs, w,
                between(inputs), inputs, bias, out, ldo, part,
            )  # fmt: skip
        return k > 0
    multiply(
        _other_kind(kind), x, inputs, w, inputs, bias, 0, out, ldo, rows, first, last, 16 * last,
        x_room,
    )  # fmt: skip
    return False
