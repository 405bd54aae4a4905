"""Inputs projected ahead of time: x·W of later steps, done while R of this one is being read.

A single row times R takes as long as R takes to come out of a cache; arithmetic costs next to
nothing meanwhile. So each of AHEAD steps also multiplies a part of W by the inputs of the AHEAD
steps after these. Every step's gates are summed in the order of `gemm`: results are the same.

kind: how R is stored, as kernels take it. W is stored so too, but as int8 where R is BYTES, as
int16 where R is int8, and as float32 where R is float16 or bfloat16.
"""

from __future__ import annotations

from numba import types

from lightrnn.kernels.blocking import SHADED, make_row_ahead
from lightrnn.kernels.gemm import (
    FLOAT16,
    FLOAT32,
    INT8,
    INT16,
    between,
    column_bytes,
    multiply,
    multiply_prepared,
    quantize_rows,
    row_words,
    weights_at,
)
from lightrnn.kernels.intrinsic import POINTERS, inlined, outlined
from lightrnn.kernels.simd import at, i32, null, u8, u16
from lightrnn.kernels.threads import address_of
from lightrnn.kernels.tiling import moved
from lightrnn.native.abi import AHEAD, BYTES, steps_before

_I, _F, _H, _W, _B = types.int64, *(POINTERS[kind] for kind in ("f32", "u16", "i32", "u8"))
first_steps = inlined(steps_before)
_row_float32 = make_row_ahead("float32", _F, _F)
_row_float16 = make_row_ahead("float16", _F, _H)
_row_bfloat16 = make_row_ahead("bfloat16", _F, _H)
_row_int16 = make_row_ahead("int16", _W, _B)
_row_int8 = make_row_ahead("int8", _W, _B)
_row_bytes = make_row_ahead("bytes", _W, _B)
_FLOATS, _INTEGERS = "float32" in SHADED, "int16" in SHADED


@inlined
def _other_kind(kind):
    """How W is stored where R is stored so."""
    if kind == BYTES:
        return INT8
    return INT16 if kind >= INT8 else FLOAT32


@inlined
def _is_shaded(kind):
    """Whether there is a pair of tiles for it."""
    return _INTEGERS if kind >= INT8 else _FLOATS


@inlined
def _block(kind, s, start, steps):
    """What step s projects: rows, the first of them after `start`, and which part of AHEAD."""
    local = s - start - steps % AHEAD
    first, rows = s - start - local % AHEAD + AHEAD, AHEAD
    if not _is_shaded(kind):
        local = s - start
        first, rows = first_steps(steps), steps - first_steps(steps)
        if local > 0:
            rows = 0
    if local < 0 or first + rows > steps:
        rows = 0
    return rows, first, local % AHEAD


@inlined
def _project(
    kind, a, b, k, init, c, first, last, room, turned, rows, part, x, x_room, inputs, w, bias, out,
    ldo,
):  # fmt: skip
    """Project the panels [first, last), and whether c = init + a·b of these was done as well."""
    if not _is_shaded(kind):
        multiply(
            _other_kind(kind), x, inputs, w, inputs, bias, 0, out, ldo, rows, first, last,
            16 * last, x_room,
        )  # fmt: skip
        return False
    if kind >= INT8:
        left, right = i32(address_of(room)), u8(address_of(b))
        words, other = i32(address_of(x_room)), u8(address_of(w))
        step, w_step = column_bytes(kind, k), column_bytes(_other_kind(kind), inputs)
        quads, depth, width = (k + 3) // 4, (inputs + 3) // 4, row_words(INT8, inputs)
        if kind == BYTES:
            _row_bytes(
                left, right, step, quads, init, c, first, last, turned, words, width, other,
                w_step, depth, bias, out, ldo, part,
            )  # fmt: skip
        elif kind == INT8:
            _row_int8(
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
    else:
        _row_bfloat16(
            a, u16(address_of(b)), between(k), k, init, c, first, last, turned, x, inputs, w,
            between(inputs), inputs, bias, out, ldo, part,
        )  # fmt: skip
    return k > 0


@outlined(
    types.void, _I, _F, _F, _I, _F, _F, _I, _I, _I, _I, _F, _I, _I, _I, _F, _F, _I, _F, _F, _I, _I,
    _F, _I, _I, _I, _I, _I, _I,
)  # fmt: skip
def step_ahead(
    kind, a, b, k, init, c, gates, blocks, first, last, room, turned, shift, fresh, x, x_room,
    inputs, w, bias, d, width, xw, xw_step, s, start, steps, total, backward,
):  # fmt: skip
    """One row of c = init + a·b for blocks [first, last) of `gates` gates, and the share that step
    s has in projecting the same panels, `shift` columns on.

    kind to turned: as `multiply_prepared` takes them. fresh: whether it is the step's first call.
    x: [total, inputs], of a batch of one. x_room: as `multiply` takes it, of all directions, for
    the rows of `steps`. w, bias: of all directions, `width` columns each. xw: the gates of
    direction d in the steps from `start` on, `xw_step` apart; `first_steps(steps)` are projected.
    """
    rows, row, part = _block(kind, s, start, steps)
    other, out = _other_kind(kind), xw
    if rows > 0:
        time = start + row
        if backward != 0:
            row, time = steps - row - rows, total - time - rows
        x = at(x, time * inputs)
        x_room = moved(x_room, d * steps * row_words(INT8, inputs))
        if fresh != 0 and part == 0 and other != FLOAT32 and _is_shaded(kind):
            split = 2 if kind == BYTES else 0
            quantize_rows(other, x, inputs, inputs, rows, split, i32(address_of(x_room)))
        w = weights_at(other, w, d * width + shift, inputs)
        bias = moved(bias, d * width + shift)
        out = at(xw, row * xw_step + shift)
    parts, end = gates, last
    if last - first == blocks:
        parts, end = 1, gates * blocks
    for g in range(parts):
        p, q = g * blocks + first, g * blocks + end
        done = False
        if rows > 0:
            done = _project(
                kind, a, b, k, init, c, p, q, room, turned, rows, part, x, x_room, inputs, w, bias,
                out, xw_step,
            )  # fmt: skip
        if not done and (k > 0 or shift > 0):
            multiply_prepared(
                kind, a, k, b, k, init, 0, c, 0, 1, p, q, 16 * q, room, turned
            )  # fmt: skip


@inlined
def is_ahead(ahead):
    """Whether inputs are projected while R is being read."""
    return not null(ahead[0])


@inlined
def add_ahead(
    kind, a, b, k, init, c, gates, blocks, first, last, room, turned, shift, fresh, ahead
):  # fmt: skip
    """`step_ahead`, its other arguments in a tuple."""
    x, x_room, inputs, w, bias, d, width, xw, xw_step, s, start, steps, total, backward = ahead
    step_ahead(
        kind, a, b, k, init, c, gates, blocks, first, last, room, turned, shift, fresh, x, x_room,
        inputs, w, bias, d, width, xw, xw_step, s, start, steps, total, backward,
    )  # fmt: skip
