"""One step of a recurrent layer once xw holds whole gates: what `gemm` and these do in turn.

Each kernel takes its operator's arguments and the number of the step; `step` == `total` has no
gates, and brings the initial state of an empty sequence to the outputs.
"""

from __future__ import annotations

from lightrnn.cuda.kernels.activation import apply, clipped
from lightrnn.cuda.kernels.cells import (
    check_lengths,
    emit,
    gates_row,
    gru_unit,
    is_active,
    is_usual_gru,
    is_usual_lstm,
    lstm_unit,
    old_cell,
    old_state,
    padded,
    state_place,
    time_of,
)
from lightrnn.cuda.kernels.simt import (
    all_threads,
    at,
    first_item,
    inlined,
    null,
    quotient,
    single,
)


@inlined
def _split(item, batch, units):
    """Direction, row and unit of an item."""
    row = quotient(item, units)
    d = quotient(row, batch)
    return d, row - d * batch, item - row * units


@inlined
def _hand_on(h0, y_h, batch, size, directions, h_row, h_direction):
    """The state of an empty sequence: as it was."""
    if not null(y_h):
        item = first_item()
        while item < directions * batch * size:
            d, n, u = _split(item, batch, size)
            v = single(0.0)
            if not null(h0):
                v = h0[d * h_direction + n * h_row + u]
            y_h[d * h_direction + n * h_row + u] = v
            item += all_threads()


def lstm_cell(
    kind, xw, r, p, projection, lengths, h0, c0, y, y_h, y_c, h, c, full, room, x, x_room, w, bias,
    sync, status, node, steps, start, total, xw_step, inputs, batch, hidden, size, directions,
    reverse, coupled, clip,
    y_step, y_row, y_direction, h_row, h_direction, c_row, c_direction, activations, step,
):  # fmt: skip
    """An LSTM's cells; with a projection their output goes to `full`, else it is the state."""
    limit, width = single(clip), padded(hidden)
    if step == start:
        check_lengths(lengths, batch, total, status, node)
    if step == total:
        _hand_on(h0, y_h, batch, size, directions, h_row, h_direction)
        _hand_on(c0, y_c, batch, hidden, directions, c_row, c_direction)
        return
    item = first_item()
    while item < directions * batch * hidden:
        d, n, u = _split(item, batch, hidden)
        words = at(activations, 9 * d)
        t = time_of(step, total, reverse, d)
        x = gates_row(step, start, steps, batch, reverse, d, n) * 4 * width + u
        cell = old_cell(c, c0, step, batch, hidden, d, n, u, c_row, c_direction)
        active, new = is_active(lengths, n, t), single(0.0)
        if active:
            cell, new = lstm_unit(
                is_usual_lstm(p, coupled, limit, words), xw[x], xw[x + width], xw[x + 2 * width],
                xw[x + 3 * width], cell, p, d, u, width, coupled, limit, words,
            )  # fmt: skip
        c[(d * batch + n) * width + u] = cell
        if step + 1 == total and not null(y_c):
            y_c[d * c_direction + n * c_row + u] = cell
        if not null(projection):
            full[(d * batch + n) * width + u] = new
        else:
            if not active:
                new = old_state(h, h0, step, batch, size, d, n, u, h_row, h_direction)
            emit(
                h, y, y_h, new, active, step, t, total, batch, size, d, n, u, y_step, y_row,
                y_direction, h_row, h_direction,
            )  # fmt: skip
        item += all_threads()


def lstm_project(
    kind, xw, r, p, projection, lengths, h0, c0, y, y_h, y_c, h, c, full, room, x, x_room, w, bias,
    sync, status, node, steps, start, total, xw_step, inputs, batch, hidden, size, directions,
    reverse, coupled, clip,
    y_step, y_row, y_direction, h_row, h_direction, c_row, c_direction, activations, step,
):  # fmt: skip
    """The projected state, which lies in h, to y and y_h; a resting row gets its old state back."""
    item = first_item()
    while item < directions * batch * size:
        d, n, u = _split(item, batch, size)
        t = time_of(step, total, reverse, d)
        active = is_active(lengths, n, t)
        new = h[state_place(step + 1, batch, size, d, n, u)]
        if not active:
            new = old_state(h, h0, step, batch, size, d, n, u, h_row, h_direction)
        emit(
            h, y, y_h, new, active, step, t, total, batch, size, d, n, u, y_step, y_row,
            y_direction, h_row, h_direction,
        )  # fmt: skip
        item += all_threads()


def gru_reset(
    kind, xw, r, rb, lengths, h0, y, y_h, h, full, room, x, x_room, w, bias, sync, status, node,
    steps, start, total, xw_step, inputs, batch, hidden, directions, reverse, after, clip,
    y_step, y_row, y_direction, h_row, h_direction, activations, step,
):  # fmt: skip
    """full = reset gate ⊙ state, for a candidate whose product comes after it."""
    limit, width = single(clip), padded(hidden)
    item = first_item()
    while item < directions * batch * hidden:
        d, n, u = _split(item, batch, hidden)
        x = gates_row(step, start, steps, batch, reverse, d, n) * 3 * width + u
        reset = apply(at(activations, 6 * d), 0, clipped(xw[x + width], limit))
        old = old_state(h, h0, step, batch, hidden, d, n, u, h_row, h_direction)
        full[(d * batch + n) * width + u] = reset * old
        item += all_threads()


def gru_cell(
    kind, xw, r, rb, lengths, h0, y, y_h, h, full, room, x, x_room, w, bias, sync, status, node,
    steps, start, total, xw_step, inputs, batch, hidden, directions, reverse, after, clip,
    y_step, y_row, y_direction, h_row, h_direction, activations, step,
):  # fmt: skip
    """A GRU's cells; `full` holds the candidate's product where the reset gate comes after it."""
    limit, width = single(clip), padded(hidden)
    if step == start:
        check_lengths(lengths, batch, total, status, node)
    if step == total:
        _hand_on(h0, y_h, batch, hidden, directions, h_row, h_direction)
        return
    item = first_item()
    while item < directions * batch * hidden:
        d, n, u = _split(item, batch, hidden)
        words = at(activations, 6 * d)
        t = time_of(step, total, reverse, d)
        x = gates_row(step, start, steps, batch, reverse, d, n) * 3 * width + u
        old = old_state(h, h0, step, batch, hidden, d, n, u, h_row, h_direction)
        active, new = is_active(lengths, n, t), old
        if active:
            inner = single(0.0)
            if after != 0:
                inner = full[(d * batch + n) * width + u]
            new = gru_unit(
                is_usual_gru(limit, words), xw[x], xw[x + width], xw[x + 2 * width], inner, old,
                limit, words,
            )  # fmt: skip
        emit(
            h, y, y_h, new, active, step, t, total, batch, hidden, d, n, u, y_step, y_row,
            y_direction, h_row, h_direction,
        )  # fmt: skip
        item += all_threads()


def rnn_cell(
    kind, xw, r, lengths, h0, y, y_h, h, room, x, x_room, w, bias, sync, status, node,
    steps, start, total, xw_step, inputs, batch, hidden, directions, reverse, clip,
    y_step, y_row, y_direction, h_row, h_direction, activations, step,
):  # fmt: skip
    """An RNN's cells."""
    limit, width = single(clip), padded(hidden)
    if step == start:
        check_lengths(lengths, batch, total, status, node)
    if step == total:
        _hand_on(h0, y_h, batch, hidden, directions, h_row, h_direction)
        return
    item = first_item()
    while item < directions * batch * hidden:
        d, n, u = _split(item, batch, hidden)
        t = time_of(step, total, reverse, d)
        x = xw[gates_row(step, start, steps, batch, reverse, d, n) * width + u]
        new = apply(at(activations, 3 * d), 0, clipped(x, limit))
        active = is_active(lengths, n, t)
        if not active:
            new = old_state(h, h0, step, batch, hidden, d, n, u, h_row, h_direction)
        emit(
            h, y, y_h, new, active, step, t, total, batch, hidden, d, n, u, y_step, y_row,
            y_direction, h_row, h_direction,
        )  # fmt: skip
        item += all_threads()
