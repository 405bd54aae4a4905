"""The recurrent cells of one row and hidden unit, and where its state comes from and goes to.

Layouts are those of the CPU's kernels: with S the state's size and Sp, Hp sizes padded to 16, `h`
is [directions, 2, batch, Sp], the state before step s at s % 2, and `c` [directions, batch, Hp].
Step s is time s, or total - 1 - s going backward; a row rests, its state kept and its y zero, while
time >= its length.
"""

from __future__ import annotations

from lightrnn.cuda.kernels.activation import SIGMOID, TANH, apply, clipped
from lightrnn.cuda.kernels.gather import report
from lightrnn.cuda.kernels.simt import (
    all_threads,
    first_item,
    inlined,
    null,
    sigmoid,
    single,
    tanh,
)


@inlined
def padded(size):
    """`size` rounded up to whole panels."""
    return (size + 15) & ~15


@inlined
def check_lengths(lengths, batch, total, status, node):
    """Report a length outside 0 to `total`; the grid's threads share the rows."""
    if not null(lengths):
        n = first_item()
        while n < batch:
            if lengths[n] < 0 or lengths[n] > total:
                report(status, node)
            n += all_threads()


@inlined
def is_active(lengths, n, t):
    """Whether row n has a step at time t."""
    if null(lengths):
        return True
    return t < lengths[n]


@inlined
def time_of(s, total, reverse, d):
    """The time of step s in direction d."""
    if reverse != 0 or d == 1:
        return total - 1 - s
    return s


@inlined
def gates_row(s, start, steps, batch, reverse, d, n):
    """The row of xw that holds the gates of step s and batch row n in direction d."""
    local = s - start
    if reverse != 0 or d == 1:
        local = steps - 1 - local
    return (d * steps + local) * batch + n


@inlined
def state_place(s, batch, size, d, n, u):
    """Where in h unit u of row n lies before step s."""
    return ((d * 2 + (s & 1)) * batch + n) * padded(size) + u


@inlined
def old_state(h, h0, s, batch, size, d, n, u, h_row, h_direction):
    """The state before step s; before step 0 the initial state, or 0."""
    if s > 0:
        return h[state_place(s, batch, size, d, n, u)]
    if null(h0):
        return single(0.0)
    return h0[d * h_direction + n * h_row + u]


@inlined
def old_cell(c, c0, s, batch, hidden, d, n, u, c_row, c_direction):
    """An LSTM's cell before step s; before step 0 the initial one, or 0."""
    if s > 0:
        return c[(d * batch + n) * padded(hidden) + u]
    if null(c0):
        return single(0.0)
    return c0[d * c_direction + n * c_row + u]


@inlined
def emit(
    h, y, y_h, new, active, s, t, total, batch, size, d, n, u, y_step, y_row, y_direction, h_row,
    h_direction,
):  # fmt: skip
    """Write the state after step s to h and, where they are wanted, to y and y_h."""
    h[state_place(s + 1, batch, size, d, n, u)] = new
    if not null(y):
        y[t * y_step + d * y_direction + n * y_row + u] = new if active else single(0.0)
    if s + 1 == total and not null(y_h):
        y_h[d * h_direction + n * h_row + u] = new


@inlined
def is_usual_lstm(p, coupled, clip, activations):
    """Whether a direction's cells are the common ones."""
    plain = null(p) and coupled == 0 and clip == single(0.0)
    usual = activations[0] == SIGMOID and activations[3] == TANH and activations[6] == TANH
    return plain and usual


@inlined
def lstm_unit(usual, i, o, f, g, old, p, d, u, width, coupled, clip, activations):
    """(cell, state) of one unit from its gates. p: peepholes [directions, 3, Hp], of i, o, f."""
    if usual:
        cell = sigmoid(i) * tanh(g) + sigmoid(f) * old
        return cell, sigmoid(o) * tanh(cell)
    place = d * 3 * width + u
    if not null(p):
        i += p[place] * old
        f += p[place + 2 * width] * old
    i = apply(activations, 0, clipped(i, clip))
    if coupled != 0:
        f = single(1.0) - i
    else:
        f = apply(activations, 0, clipped(f, clip))
    cell = i * apply(activations, 1, clipped(g, clip)) + f * old
    if not null(p):
        o += p[place + width] * cell
    return cell, apply(activations, 0, clipped(o, clip)) * apply(activations, 2, cell)


@inlined
def is_usual_gru(clip, activations):
    """Whether a direction's cells have the common activations."""
    return clip == single(0.0) and activations[0] == SIGMOID and activations[3] == TANH


@inlined
def gru_unit(usual, z, r, x, inner, old, clip, activations):
    """The state of one unit. inner: h·Rh + Rbh, to be scaled by the reset gate and added to x."""
    if usual:
        candidate = tanh(x + sigmoid(r) * inner)
        return sigmoid(z) * (old - candidate) + candidate
    reset = apply(activations, 0, clipped(r, clip))
    candidate = apply(activations, 1, clipped(x + reset * inner, clip))
    return apply(activations, 0, clipped(z, clip)) * (old - candidate) + candidate
