"""RNN, GRU and LSTM over time, the input projection x·W + bias done before, or on the way.

Rows of `xw` hold the gates of one time and batch row, each gate padded to whole vectors; a step
adds h·R to them in place and then applies the cell. Both directions of a layer run in one call, as
do any number of steps: a long sequence is done in chunks that carry `h` and `c`.

kind: how r, and an LSTM's projection, are stored, as `gemm.multiply` takes it. BYTES: hidden states
have 8 bits, but for what a projection makes them of. Or GATES, the projection being int16 then, and
`room` for each row twice: as int8 weights take it, and as int16 ones do.

With G gates, S = `size` of the hidden state (`hidden` unless projected), Hp and Sp padded to 16:

    xw      [directions, steps, batch, G * Hp], steps `xw_step` apart
    r       [directions, panels of [S, G * Hp]]
    h       [directions, 2, batch, Sp]: the state before step s is at s % 2
    c, full [directions, batch, Hp]
    lengths int32 [batch] or null
    y       `y_step`, `y_row`, `y_direction` apart; null where nobody reads it; so are the states

x, x_room, w, bias: inputs [total, inputs] of a batch of one and what `kernels.ahead` projects them
with. x is null where xw holds the projection of all steps; else of `steps_before(steps)` of them.
start: steps done by earlier calls. total: steps of the sequence. Step s is time s, or
total - 1 - s going backward; a row rests, its state kept and its y zero, while time >= its length.
A first step without an initial state has nothing to multiply by R and does not read it.
clip: limit of the activations' inputs, 0 for none. activations: code, alpha, beta of each
activation of each direction.
"""

from __future__ import annotations

from lightrnn.kernels.activation import SIGMOID, TANH
from lightrnn.kernels.ahead import add_ahead, is_ahead
from lightrnn.kernels.gemm import (
    INT8,
    INT16,
    multiply,
    multiply_prepared,
    prepare,
    room_of,
    weights_at,
    with_all_bits,
)
from lightrnn.kernels.intrinsic import inlined
from lightrnn.kernels.sharing import (
    IDLE,
    UNITS,
    add_recurrent,
    apply,
    check_lengths,
    clipped,
    depth,
    emit_row,
    get_state,
    is_active,
    my_share,
    narrow,
    recurrent_of,
    set_state,
    wide,
)
from lightrnn.kernels.simd import at, f32, fma, load, null, splat, store
from lightrnn.kernels.threads import barrier
from lightrnn.kernels.tiling import moved
from lightrnn.kernels.vmath import sigmoid, tanh
from lightrnn.native.abi import GATES


@inlined
def _lstm_plain(x, c, h, width, first, last):
    """One row of an LSTM cell with its usual activations."""
    for u in range(first * 16, last * 16, 16):
        kept = sigmoid(load(x, 2 * width + u)) * load(c, u)
        cell = fma(sigmoid(load(x, u)), tanh(load(x, 3 * width + u)), kept)
        store(c, u, cell)
        store(h, u, sigmoid(load(x, width + u)) * tanh(cell))


@inlined
def _lstm_general(x, c, h, p, width, first, last, coupled, clip, activations):
    """One row of an LSTM cell with peepholes (p: i, o, f), clip, any activations."""
    for u in range(first * 16, last * 16, 16):
        old = load(c, u)
        gate_i, gate_o, gate_f = load(x, u), load(x, width + u), load(x, 2 * width + u)
        if not null(p):
            gate_i = gate_i + load(p, u) * old
            gate_f = gate_f + load(p, 2 * width + u) * old
        i = apply(activations, 0, clipped(gate_i, clip))
        f = splat(1.0) - i
        if coupled == 0:
            f = apply(activations, 0, clipped(gate_f, clip))
        g = apply(activations, 1, clipped(load(x, 3 * width + u), clip))
        cell = fma(i, g, f * old)
        if not null(p):
            gate_o = gate_o + load(p, width + u) * cell
        o = apply(activations, 0, clipped(gate_o, clip))
        store(c, u, cell)
        store(h, u, o * apply(activations, 2, cell))


@inlined
def _lstm_rows(
    gates, c, out, ldo, p, lengths, t, width, row, end, first, last, coupled, clip, act
):  # fmt: skip
    usual = null(p) and coupled == 0 and clip == 0.0
    usual = usual and act[0] == SIGMOID and act[3] == TANH and act[6] == TANH
    for n in range(row, end):
        if is_active(lengths, n, t):
            x, cell, h = at(gates, n * 4 * width), at(c, n * width), at(out, n * ldo)
            if usual:
                _lstm_plain(x, cell, h, width, first, last)
            else:
                _lstm_general(x, cell, h, p, width, first, last, coupled, clip, act)


@inlined
def _emit_rows(old, new, ldh, y, y_row, lengths, t, size, row, end, first, last):
    for n in range(row, end):
        active = is_active(lengths, n, t)
        h, h_new = at(old, n * ldh), at(new, n * ldh)
        emit_row(h, h_new, moved(y, n * y_row), active, size, first, last)


@inlined
def _add_gate(
    kind, h, ldh, r, k, init, ldi, out, ldo, rows, first, last, width, before, room, turned, fresh,
    ahead,
):  # fmt: skip
    """out = init + h·R for one gate, `before` gates of `width` columns lying before it."""
    if is_ahead(ahead):
        add_ahead(
            kind, h, r, k, init, out, 1, width // 16, first, last, room, turned, before * width,
            fresh, ahead,
        )  # fmt: skip
    else:
        multiply_prepared(
            kind, h, ldh, r, k, init, ldi, out, ldo, rows, first, last, width, room, turned
        )  # fmt: skip


@inlined
def _lstm_direction(
    kind, xw, r, p, projection, lengths, y, h, c, full, room, more, x, x_room, w, bias, sync,
    steps, start, total, xw_step, inputs, batch, hidden, size, d, backward, rested, coupled, clip,
    y_step, y_row, activations, mine, nth,
):  # fmt: skip
    mode, row, end, first, last, s_first, s_last = mine
    blocks, most = (hidden + 15) // 16, max(size, hidden)
    width, ldh = blocks * 16, (size + 15) // 16 * 16
    back = 1 if backward else 0
    for s in range(start, start + steps):
        t = total - 1 - s if backward else s
        local = start + steps - 1 - s if backward else s - start
        old = at(h, (s & 1) * batch * ldh)
        new = at(h, (1 - (s & 1)) * batch * ldh)
        gates, state = at(xw, local * xw_step), at(old, row * ldh)
        state_room, k = room_of(kind, room, row, most), depth(s, rested, size)
        mine_x = at(gates, row * 4 * width)
        ahead = (
            x, x_room, inputs, w, bias, d, 4 * width, xw, xw_step, s, start, steps, total, back,
        )  # fmt: skip
        lead = 3 if kind == GATES else 4
        prepare(narrow(kind), state, ldh, k, end - row, state_room)
        add_recurrent(
            narrow(kind), state, ldh, r, k, mine_x, 4 * width, end - row, lead, blocks, first,
            last, state_room, s & 1, 1, ahead,
        )  # fmt: skip
        if kind == GATES:
            state_room, candidates = room_of(INT16, more, row, most), at(mine_x, 3 * width)
            prepare(INT16, state, ldh, k, end - row, state_room)
            _add_gate(
                INT16, state, ldh, weights_at(INT8, r, 3 * width, size), k, candidates, 4 * width,
                candidates, 4 * width, end - row, first, last, width, 3, state_room, s & 1, 0,
                ahead,
            )  # fmt: skip
        if null(projection):
            _lstm_rows(
                gates, c, new, ldh, p, lengths, t, width, row, end, first, last, coupled, clip,
                activations,
            )  # fmt: skip
        else:
            _lstm_rows(
                gates, c, full, width, p, lengths, t, width, row, end, first, last, coupled, clip,
                activations,
            )  # fmt: skip
            if mode == UNITS:
                barrier(sync, nth)
            exact = with_all_bits(wide(kind))
            multiply(
                exact, at(full, row * width), width, projection, hidden, f32(0), 0,
                at(new, row * ldh), ldh, end - row, s_first, s_last, ldh,
                room_of(exact, room, row, most),
            )  # fmt: skip
        out = moved(y, t * y_step)
        _emit_rows(old, new, ldh, out, y_row, lengths, t, size, row, end, s_first, s_last)
        if mode == UNITS:
            barrier(sync, nth)


def lstm(
    kind, xw, r, p, projection, lengths, h0, c0, y, y_h, y_c, h, c, full, room, x, x_room, w, bias,
    sync, status, node, steps, start, total, xw_step, inputs, batch, hidden, size, directions,
    reverse, coupled, clip, y_step, y_row, y_direction, h_row, h_direction, c_row, c_direction,
    activations, ith, nth,
):  # fmt: skip
    """LSTM, gates i, o, f, c.

    p: peepholes [directions, 3, Hp], of i, o, f, or null. projection: [directions, panels of
    [hidden, Sp]] or null. coupled: the forget gate is 1 - i. full: scratch for a projection.
    """
    blocks, vectors = (hidden + 15) // 16, (size + 15) // 16
    width, ldh = blocks * 16, vectors * 16
    check_lengths(lengths, batch, total, node, status, ith)
    for d in range(directions):
        mine = my_share(d, directions, batch, blocks, vectors, 4 * width * size, ith, nth)
        mode, row, end, first, last, s_first, s_last = mine
        if mode == IDLE:
            continue
        cells, states = at(c, d * batch * width), at(h, d * 2 * batch * ldh)
        backward = reverse != 0 or d == 1
        if start == 0:
            h_in, c_in = moved(h0, d * h_direction), moved(c0, d * c_direction)
            set_state(states, h_in, ldh, size, h_row, row, end, s_first, s_last)
            set_state(cells, c_in, width, hidden, c_row, row, end, first, last)
            if mode == UNITS:
                barrier(sync, nth)
        _lstm_direction(
            kind, at(xw, d * steps * xw_step), recurrent_of(kind, r, d, 4, width, size),
            moved(p, d * 3 * width), weights_at(wide(kind), projection, d * ldh, hidden),
            lengths, moved(y, d * y_direction), states, cells, moved(full, d * batch * width),
            room_of(kind, room, d * batch, max(size, hidden)),
            room_of(kind, room, (directions + d) * batch, max(size, hidden)), x, x_room, w, bias,
            sync, steps, start, total, xw_step, inputs, batch, hidden, size, d, backward, null(h0),
            coupled, clip, y_step, y_row, at(activations, 9 * d), mine, nth,
        )  # fmt: skip
        if start + steps == total:
            final = at(states, (total & 1) * batch * ldh)
            h_out, c_out = moved(y_h, d * h_direction), moved(y_c, d * c_direction)
            get_state(final, h_out, ldh, size, h_row, row, end, s_first, s_last)
            get_state(cells, c_out, width, hidden, c_row, row, end, first, last)


@inlined
def _gru_reset(x, h, out, width, first, last, clip, act):
    """One row: out = r ⊙ h, for the candidate's own product."""
    for u in range(first * 16, last * 16, 16):
        reset = apply(act, 0, clipped(load(x, width + u), clip))
        store(out, u, reset * load(h, u))


@inlined
def _gru_plain(x, h, h_new, inner, width, first, last):
    """_gru_update with the usual activations, the reset gate coming after the product."""
    for u in range(first * 16, last * 16, 16):
        reset, keep = sigmoid(load(x, width + u)), sigmoid(load(x, u))
        candidate = tanh(fma(reset, load(inner, u), load(x, 2 * width + u)))
        store(h_new, u, fma(keep, load(h, u) - candidate, candidate))


@inlined
def _gru_update(x, h, h_new, inner, width, first, last, clip, act):
    """One row of a GRU cell. inner: h·Rh + Rbh where the reset gate comes after it, else null."""
    for u in range(first * 16, last * 16, 16):
        keep = apply(act, 0, clipped(load(x, u), clip))
        candidate = load(x, 2 * width + u)
        if not null(inner):
            reset = apply(act, 0, clipped(load(x, width + u), clip))
            candidate = fma(reset, load(inner, u), candidate)
        candidate = apply(act, 1, clipped(candidate, clip))
        store(h_new, u, fma(keep, load(h, u) - candidate, candidate))


@inlined
def _gru_step(
    kind, gates, r, rb, lengths, old, new, full, room, more, sync, turned, t, k, hidden, after,
    clip, activations, ahead, mine, nth,
):  # fmt: skip
    mode, row, end, first, last, _, _ = mine
    blocks = (hidden + 15) // 16
    width = blocks * 16
    mine_x, mine_h = at(gates, row * 3 * width), at(old, row * width)
    mine_full, mine_room = at(full, row * width), room_of(kind, room, row, hidden)
    r_h, wide_room = weights_at(narrow(kind), r, 2 * width, hidden), mine_room
    prepare(narrow(kind), mine_h, width, k, end - row, mine_room)
    if kind == GATES:
        wide_room = room_of(kind, more, row, hidden)
        if after:
            prepare(INT16, mine_h, width, k, end - row, wide_room)
    fresh = 1
    for i in range(2):
        if i == turned:
            add_recurrent(
                narrow(kind), mine_h, width, r, k, mine_x, 3 * width, end - row, 2, blocks, first,
                last, mine_room, turned, fresh, ahead,
            )  # fmt: skip
            fresh = 0
        elif after:
            _add_gate(
                wide(kind), mine_h, width, r_h, k, rb, 0, mine_full, width, end - row, first, last,
                width, 2, wide_room, turned, fresh, ahead,
            )  # fmt: skip
            fresh = 0
    if not after:
        for n in range(row, end):
            x, h = at(gates, n * 3 * width), at(old, n * width)
            _gru_reset(x, h, at(full, n * width), width, first, last, clip, activations)
        if mode == UNITS:
            barrier(sync, nth)
        x_h = at(mine_x, 2 * width)
        prepare(wide(kind), mine_full, width, k, end - row, wide_room)
        _add_gate(
            wide(kind), mine_full, width, r_h, k, x_h, 3 * width, x_h, 3 * width, end - row, first,
            last, width, 2, wide_room, 0, 0, ahead,
        )  # fmt: skip
    plain = after and clip == 0.0 and activations[0] == SIGMOID and activations[3] == TANH
    for n in range(row, end):
        if is_active(lengths, n, t):
            x, h, h_new = at(gates, n * 3 * width), at(old, n * width), at(new, n * width)
            inner = at(full, n * width) if after else f32(0)
            if plain:
                _gru_plain(x, h, h_new, inner, width, first, last)
            else:
                _gru_update(x, h, h_new, inner, width, first, last, clip, activations)


def gru(
    kind, xw, r, rb, lengths, h0, y, y_h, h, full, room, x, x_room, w, bias, sync, status, node,
    steps, start, total, xw_step, inputs, batch, hidden, directions, reverse, after, clip,
    y_step, y_row, y_direction, h_row, h_direction, activations, ith, nth,
):  # fmt: skip
    """GRU, gates z, r, h.

    after: linear_before_reset, the reset gate comes after the candidate's product, whose bias is
    rb [directions, Hp]; else rb is in xw already. full: scratch.
    """
    blocks = (hidden + 15) // 16
    width = blocks * 16
    check_lengths(lengths, batch, total, node, status, ith)
    for d in range(directions):
        mine = my_share(d, directions, batch, blocks, blocks, 3 * width * hidden, ith, nth)
        mode, row, end, first, last, _, _ = mine
        if mode == IDLE:
            continue
        states, backward = at(h, d * 2 * batch * width), reverse != 0 or d == 1
        back = 1 if backward else 0
        if start == 0:
            h_in = moved(h0, d * h_direction)
            set_state(states, h_in, width, hidden, h_row, row, end, first, last)
            if mode == UNITS:
                barrier(sync, nth)
        for s in range(start, start + steps):
            t = total - 1 - s if backward else s
            local = start + steps - 1 - s if backward else s - start
            old = at(states, (s & 1) * batch * width)
            new = at(states, (1 - (s & 1)) * batch * width)
            mine_xw = at(xw, d * steps * xw_step)
            _gru_step(
                kind, at(mine_xw, local * xw_step),
                recurrent_of(kind, r, d, 3, width, hidden),
                moved(rb, d * width), lengths, old, new, at(full, d * batch * width),
                room_of(kind, room, d * batch, hidden),
                room_of(kind, room, (directions + d) * batch, hidden), sync, s & 1, t,
                depth(s, null(h0), hidden), hidden, after != 0, clip, at(activations, 6 * d),
                (
                    x, x_room, inputs, w, bias, d, 3 * width, mine_xw, xw_step, s, start, steps,
                    total, back,
                ),
                mine, nth,
            )  # fmt: skip
            out = moved(y, t * y_step + d * y_direction)
            _emit_rows(old, new, width, out, y_row, lengths, t, hidden, row, end, first, last)
            if mode == UNITS:
                barrier(sync, nth)
        if start + steps == total:
            final, h_out = at(states, (total & 1) * batch * width), moved(y_h, d * h_direction)
            get_state(final, h_out, width, hidden, h_row, row, end, first, last)


def rnn(
    kind, xw, r, lengths, h0, y, y_h, h, room, x, x_room, w, bias, sync, status, node,
    steps, start, total, xw_step, inputs, batch, hidden, directions, reverse, clip,
    y_step, y_row, y_direction, h_row, h_direction, activations, ith, nth,
):  # fmt: skip
    """RNN: one gate, h = f(x·W + h·R + bias)."""
    blocks = (hidden + 15) // 16
    width = blocks * 16
    check_lengths(lengths, batch, total, node, status, ith)
    for d in range(directions):
        mine = my_share(d, directions, batch, blocks, blocks, width * hidden, ith, nth)
        mode, row, end, first, last, _, _ = mine
        if mode == IDLE:
            continue
        states, backward = at(h, d * 2 * batch * width), reverse != 0 or d == 1
        back = 1 if backward else 0
        act = at(activations, 3 * d)
        if start == 0:
            h_in = moved(h0, d * h_direction)
            set_state(states, h_in, width, hidden, h_row, row, end, first, last)
            if mode == UNITS:
                barrier(sync, nth)
        for s in range(start, start + steps):
            t = total - 1 - s if backward else s
            local = start + steps - 1 - s if backward else s - start
            old = at(states, (s & 1) * batch * width)
            new = at(states, (1 - (s & 1)) * batch * width)
            mine_xw = at(xw, d * steps * xw_step)
            gates, state = at(mine_xw, local * xw_step), at(old, row * width)
            k, state_room = depth(s, null(h0), hidden), room_of(kind, room, d * batch + row, hidden)
            prepare(kind, state, width, k, end - row, state_room)
            add_recurrent(
                kind, state, width, weights_at(kind, r, d * width, hidden), k,
                at(gates, row * width), width, end - row, 1, blocks, first, last, state_room,
                s & 1, 1,
                (
                    x, x_room, inputs, w, bias, d, width, mine_xw, xw_step, s, start, steps, total,
                    back,
                ),
            )  # fmt: skip
            for n in range(row, end):
                for u in range(first * 16, last * 16, 16):
                    gate = clipped(load(gates, n * width + u), clip)
                    store(new, n * width + u, apply(act, 0, gate))
            out = moved(y, t * y_step + d * y_direction)
            _emit_rows(old, new, width, out, y_row, lengths, t, hidden, row, end, first, last)
            if mode == UNITS:
                barrier(sync, nth)
        if start + steps == total:
            final, h_out = at(states, (total & 1) * batch * width), moved(y_h, d * h_direction)
            get_state(final, h_out, width, hidden, h_row, row, end, first, last)
