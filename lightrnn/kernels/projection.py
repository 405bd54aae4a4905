"""Inputs' share of a recurrent layer's gates, x·W + bias for many steps, made by who reads it.

Threads share it as the cells share what follows: what another core has written takes as long to
come from its cache as the products of a small layer take.
"""

from __future__ import annotations

from lightrnn.kernels.gemm import multiply_prepared, prepare, room_of, share, weights_at
from lightrnn.kernels.intrinsic import inlined
from lightrnn.kernels.sharing import ROWS, UNITS, my_part, sharing
from lightrnn.kernels.simd import at
from lightrnn.kernels.tiling import TARGET, TILES, moved

_PANELS = 8
"""Panels that stay in a near cache while all groups of rows are multiplied by them."""
_TILE = TILES[TARGET][0][0]
"""Rows of the largest tile."""


@inlined
def _products(kind, x, w, k, bias, xw, width, room, rows, pieces, first, last, blocks):
    """xw = bias + x·w for the panels [first, last) of each of `pieces` times `blocks`.

    rows: so many groups, elements of x and xw from one to the next, rows of a group, elements of
    x and xw from one to the next.
    """
    groups, x_next, xw_next, m, lda, ldc = rows
    for i in range(groups):
        prepare(kind, at(x, i * x_next), lda, k, m, room_of(kind, room, i * m, k))
    most = max(last - first, 1) if groups == 1 else _PANELS
    for piece in range(0, pieces * blocks, blocks):
        for p in range(piece + first, piece + last, most):
            for i in range(groups):
                multiply_prepared(
                    kind, at(x, i * x_next), lda, w, k, bias, 0, at(xw, i * xw_next), ldc, m, p,
                    min(p + most, piece + last), width, room_of(kind, room, i * m, k), 0,
                )  # fmt: skip


@inlined
def _groups(steps, batch, row, end, x_step, x_row, xw_step, width):
    """Batch rows [row, end) of all steps as `_products` takes them: one group if they can be."""
    count = end - row
    if count == batch and x_step == batch * x_row:
        return 1, 0, 0, steps * batch, x_row, xw_step // batch
    if x_step < x_row or (steps >= count and count % _TILE > 0):
        return count, x_row, width, steps, x_step, xw_step
    return steps, x_step, xw_step, count, x_row, width


def project(
    kind, x, w, bias, xw, room, steps, batch, inputs, hidden, size, gates, directions, x_step,
    x_row, x_direction, xw_step, xw_direction, ith, nth,
):  # fmt: skip
    """xw = bias + x·W for `steps` steps of each direction, as `kernels.recurrent` reads it.

    kind, room: as `gemm.multiply` takes them, the room for the rows of all directions. x: inputs
    of `steps` times, `x_step`, `x_row` and, from those of one direction to those of the other,
    `x_direction` apart. w: panels of [inputs, G * Hp] for each direction. bias: [directions, G *
    Hp] or null. size: of the hidden state.
    """
    blocks = (hidden + 15) // 16
    width = gates * blocks * 16
    for d in range(directions):
        part, parts = my_part(d, directions, ith, nth)
        if part < 0 or part >= parts or batch == 0:
            continue
        mode = sharing(batch, blocks, width * size, parts)
        row, end, pieces, first, last = 0, batch, 1, 0, gates * blocks
        if mode == UNITS:
            pieces = gates
            first, last = share(blocks, part, parts)
        elif mode == ROWS:
            row, end = share(batch, part, parts)
        else:
            first, last = share(last, part, parts)
        _products(
            kind, at(x, d * x_direction + row * x_row), weights_at(kind, w, d * width, inputs),
            inputs, moved(bias, d * width), at(xw, d * xw_direction + row * width), width,
            room_of(kind, room, (d * batch + row) * steps, inputs),
            _groups(steps, batch, row, end, x_step, x_row, xw_step, width), pieces, first, last,
            blocks,
        )  # fmt: skip
