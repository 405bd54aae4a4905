"""What the recurrent cells have in common: who does which rows and units, and states in and out."""

from __future__ import annotations

from lightrnn.kernels.activation import activate
from lightrnn.kernels.ahead import add_ahead, is_ahead
from lightrnn.kernels.gemm import INT8, INT16, multiply_prepared, share, weights_at
from lightrnn.kernels.intrinsic import inlined
from lightrnn.kernels.simd import as_float, load, maximum, minimum, null, splat, store
from lightrnn.kernels.tiling import load_some, store_some
from lightrnn.native.abi import BAD_INDEX, GATES

IDLE, ALONE, ROWS, UNITS = -1, 0, 1, 2
"""What a thread does in a direction: nothing, all of it, some batch rows, some hidden units."""

_OWN_CACHE = 128 * 1024
"""Weights, in elements, that stay in a core's own cache."""
_WORTH_A_BARRIER = 32 * 1024
"""Multiply-adds of a step above which splitting it pays for its barriers."""


@inlined
def sharing(batch, units, weights, parts):
    """How `parts` threads share one direction: ALONE, ROWS or UNITS."""
    if parts == 1:
        return ALONE
    if batch >= 4 * parts or (batch >= 2 * parts and weights <= _OWN_CACHE):
        return ROWS
    if units >= 2 * parts and batch * weights >= _WORTH_A_BARRIER:
        return UNITS
    return ALONE


@inlined
def my_part(d, directions, ith, nth):
    """(part, parts): which part of direction d a thread is, -1 for none, and of how many.

    Threads are dealt to directions first.
    """
    parts = max(nth // directions, 1)
    part = ith
    if nth >= directions:
        group = min(ith // parts, directions - 1)
        part = ith - group * parts
        if d != group:
            part = -1
    return part, parts


@inlined
def my_share(d, directions, batch, units, vectors, weights, ith, nth):
    """(mode, first row, end row, first unit vector, end, first state vector, end) in direction d.

    In the mode UNITS every thread of every direction passes the same barriers, those with an empty
    share included.
    """
    part, parts = my_part(d, directions, ith, nth)
    if part < 0:
        return IDLE, 0, 0, 0, 0, 0, 0
    mode = sharing(batch, units, weights, parts)
    if mode == UNITS:
        if part >= parts:
            return UNITS, 0, 0, 0, 0, 0, 0
        u, u_end = share(units, part, parts)
        v, v_end = share(vectors, part, parts)
        return UNITS, 0, batch, u, u_end, v, v_end
    if mode == ROWS and part < parts:
        row, end = share(batch, part, parts)
        return ROWS, row, end, 0, units, 0, vectors
    if part == 0:
        return ALONE, 0, batch, 0, units, 0, vectors
    return IDLE, 0, 0, 0, 0, 0, 0


@inlined
def check_lengths(lengths, batch, total, node, status, ith):
    """Report a length outside 0 to `total`."""
    if ith == 0 and not null(lengths):
        for n in range(batch):
            if lengths[n] < 0 or lengths[n] > total:
                status[0] = BAD_INDEX
                status[1] = node


@inlined
def is_active(lengths, n, t):
    """Whether row n has a step at time t."""
    return null(lengths) or t < lengths[n]


@inlined
def set_state(target, source, width, size, row_step, row, end, first, last):
    """Copy rows [row, end), vectors [first, last) of a state into padded rows; null is zeros."""
    for n in range(row, end):
        for u in range(first, last):
            v = splat(0.0)
            if not null(source):
                v = load_some(source, n * row_step + u * 16, min(16, size - u * 16))
            store(target, n * width + u * 16, v)


@inlined
def get_state(source, target, width, size, row_step, row, end, first, last):
    """Copy padded rows to an output, if it is wanted."""
    if not null(target):
        for n in range(row, end):
            for u in range(first, last):
                v = load(source, n * width + u * 16)
                store_some(target, n * row_step + u * 16, v, min(16, size - u * 16))


@inlined
def emit_row(h, h_new, y, active, size, first, last):
    """Write vectors [first, last) of a row's new state to y; a resting row keeps `h`, y is zero."""
    for u in range(first, last):
        if not active:
            store(h_new, u * 16, load(h, u * 16))
        if not null(y):
            v = splat(0.0)
            if active:
                v = load(h_new, u * 16)
            store_some(y, u * 16, v, min(16, size - u * 16))


@inlined
def depth(s, rested, size):
    """How much of the state counts in step s: nothing in a first step that starts from zeros."""
    return 0 if s == 0 and rested else size


@inlined
def narrow(kind):
    """How the recurrent weights of all gates but the last are stored."""
    return INT8 if kind == GATES else kind


@inlined
def wide(kind):
    """How those of the last gate are stored."""
    return INT16 if kind == GATES else kind


@inlined
def recurrent_of(kind, r, d, gates, width, k):
    """Packed recurrent weights of direction d: `gates` gates of `width` columns."""
    r = weights_at(narrow(kind), r, d * (gates - 1) * width, k)
    return weights_at(wide(kind), r, d * width, k)


@inlined
def add_recurrent(
    kind, h, ldh, r, k, xw, ldx, rows, gates, blocks, first, last, room, turned, fresh, ahead
):  # fmt: skip
    """xw += h·R for the first `gates` gates of the hidden blocks [first, last).

    kind, room, turned: as `multiply_prepared` takes them. k: the size of the state, or 0 where that
    is zero. fresh, ahead: as `add_ahead` takes them.
    """
    if is_ahead(ahead):
        add_ahead(
            kind, h, r, k, xw, xw, gates, blocks, first, last, room, turned, 0, fresh, ahead
        )  # fmt: skip
        return
    if k == 0:
        return
    parts, end = gates, last
    if last - first == blocks:
        parts, end = 1, gates * blocks
    for g in range(parts):
        p = g * blocks
        multiply_prepared(
            kind, h, ldh, r, k, xw, ldx, xw, ldx, rows, p + first, p + end, ldx, room, turned
        )  # fmt: skip


@inlined
def clipped(x, clip):
    """x within [-clip, clip]; clip 0 means no limit."""
    if clip > 0.0:
        return maximum(minimum(x, splat(clip)), splat(-clip))
    return x


@inlined
def apply(activations, k, x):
    """Activation number k of a direction: code, alpha, beta."""
    alpha, beta = as_float(activations[3 * k + 1]), as_float(activations[3 * k + 2])
    return activate(activations[3 * k], alpha, beta, x)
