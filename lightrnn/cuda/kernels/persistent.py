"""Recurrent layers, a whole sequence in one launch: weights stay in shared memory.

A block owns some hidden units of one direction, all their gates, and keeps their columns of R. In
each step it reads the state before from all blocks, multiplies, finishes its units and hands their
new state to the other blocks. Directions, and groups of rows, do not wait for each other.

Columns come in quads, four neighbours in shared memory: the gates of an LSTM's unit; z, r, h and a
column of zeros for a GRU's; four units of an RNN. A thread multiplies some rows by a quad over its
part of k, and `fold` threads of a warp add up before their sums are left in shared memory.

The state is handed on through memory at `sync` (offsets in `cuda.grid`), twice, for even and odd
steps. A single row's elements are words with a tag that says of which step they are, so that a
reader needs no other sign; the tags of launches follow one another. Rows in tiles are floats
[size, rows], and a counter for each direction and tile says how many blocks have handed theirs on;
the last block to leave sets the counters to 0.

A kernel `*_abreast` does chunks of several layers, each with blocks, states and counters of its
own.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Set as AbstractSet
from typing import Any

from lightrnn.cuda import grid
from lightrnn.cuda.kernels import activation, cells, exchange, simt
from lightrnn.cuda.kernels.gemm import made
from lightrnn.cuda.launch_persistent import ABREAST, ABREAST_FORMS, EXTRA, FORMS, GATES
from lightrnn.native import abi

UNROLL = 8
"""Steps of k, or partial sums, whose loads are issued together."""
_PARAMETERS = {
    "lstm": "kind, xw, r, p, projection, lengths, h0, c0, y, y_h, y_c, h, c, full, room, x,"
    " x_room, w, bias, sync, status, node, steps, start, total, xw_step, inputs, batch, hidden,"
    " size, directions, reverse, coupled, clip,"
    " y_step, y_row, y_direction, h_row, h_direction, c_row, c_direction, activations",
    "gru": "kind, xw, r, rb, lengths, h0, y, y_h, h, full, room, x, x_room, w, bias, sync,"
    " status, node, steps, start, total, xw_step, inputs, batch, hidden, directions, reverse,"
    " after, clip, y_step, y_row, y_direction, h_row, h_direction, activations",
    "rnn": "kind, xw, r, lengths, h0, y, y_h, h, room, x, x_room, w, bias, sync, status, node,"
    " steps, start, total, xw_step, inputs, batch, hidden, directions, reverse, clip,"
    " y_step, y_row, y_direction, h_row, h_direction, activations",
}


_RARE = {"h0", "c0", "h", "c", "y_h", "y_c", "h_row", "h_direction", "c_row", "c_direction"}
"""Arguments that are needed before the first step and after the last: many, for registers."""
_READ = {"int": "{}", "node": "{}", "float": "as_float({})", "tail": "i64({})", "status": "i64({})"}


def _read_layer(cell: str) -> list[str]:
    """All but rare arguments of the layer that the block is of, from its words; e is its number."""
    parameters = abi.KERNELS[cell].parameters
    number = {p.name: k for k, p in enumerate(parameters)}
    return [
        f"hidden, batch = ranges[{number['hidden']}], ranges[{number['batch']}]",
        "strip = quotient(block(), quotient(hidden + units - 1, units))",
        "e, d = quotient(strip, groups), 0",
        f"row = at(ranges, e * {len(parameters)})",
        *_read(cell, number.keys() - _RARE - {"sync"}),
    ]


def _read(cell: str, names: AbstractSet[str]) -> list[str]:
    """Arguments of a layer from its words."""
    return [
        f"{p.name} = {_READ.get(p.kind, p.kind + '({})').format(f'row[{k}]')}"
        for k, p in enumerate(abi.KERNELS[cell].parameters)
        if p.name in names
    ]


_OWN = ["strip = quotient(block(), quotient(hidden + units - 1, units))",
        "d = direction + quotient(strip, groups)", "e = d"]  # fmt: skip
"""The same of a launch for one layer; e, where it exchanges states, is its direction."""


def _head(cell: str, rows: int) -> list[str]:
    """What the block owns, and where things lie in its shared memory."""
    each, share = FORMS[rows]
    gates = GATES[cell]
    quads = "units >> 2" if cell == "rnn" else "units"
    return [
        f"quads, limit, width = {quads}, single(clip), padded(hidden)",
        "slices = quotient(hidden + units - 1, units)",
        f"tiles = quotient(batch + {rows - 1}, {rows})",
        "group = strip - quotient(strip, groups) * groups",
        "first = (block() - strip * slices) * units",
        f"part = quotient(thread(), quads * {share})",
        f"parts = quotient(threads(), quads * {share})",
        f"lane = thread() - part * quads * {share}",
        "row_group = quotient(lane, quads)",
        f"quad, row0 = lane - row_group * quads, row_group * {each}",
        "slots, slot = quotient(parts, fold), quotient(part, fold)",
        "kept = shared()",
        "sums = at(kept, hidden * quads * 4)",
        f"gates = at(sums, slots * {rows} * quads * 4)",
        f"own = at(gates, {rows * gates} * units)",
        "turns = quotient(tiles - group + groups - 1, groups)",
        f"{'own_c' if cell == 'lstm' else 'stage'} = at(own, turns * {rows} * units)",
        *([f"stage = at(own_c, turns * {rows} * units)"] if cell == "lstm" else []),
        f"words = at(activations, {3 * {'lstm': 3, 'gru': 2, 'rnn': 1}[cell]} * d)",
        {
            "lstm": "usual = is_usual_lstm(p, coupled, limit, words)",
            "gru": "usual = is_usual_gru(limit, words)",
            "rnn": "usual = False",
        }[cell],
        "epoch, even = sync[EPOCH], (hidden + 1) & ~1",
        "states = f32(address_of(sync) + 8 * TILES)",
        "check_lengths(lengths, batch, total, status, node)",
        f"keep_weights(kind, r, kept, d, first, units, hidden, width, {gates})",
    ]


def _items(rows: int, body: list[str]) -> list[str]:
    """A loop over the rows and units of a tile that exist: item, n, u."""
    return [
        "item = thread()",
        f"while item < {rows} * units:",
        f"    n = tile * {rows} + (item & {rows - 1})",
        f"    u = first + (item >> {rows.bit_length() - 1})",
        "    if n < batch and u < hidden:",
        *(f"        {line}" for line in body),
        "    item += threads()",
    ]


def _hand_on(rows: int) -> list[str]:
    """Give `new`, the state of an item, to the other blocks."""
    place = "((e * tiles + tile) * 2 + (number & 1))"
    if rows == 1:
        tag = "(epoch + number) & 0xFFFFFFFF"
        return [f"put_tagged(sync, TAGGED + {place} * even + u, new, {tag})"]
    return [f"states[({place} * hidden + u) * {rows} + (item & {rows - 1})] = new"]


def _tiles(body: list[str]) -> list[str]:
    """A loop over the tiles of the block's rows: tile, and the place of its states in `own`."""
    return ["turn, tile = 0, group", "while tile < tiles:", *(f"    {b}" for b in body),
            "    turn += 1", "    tile += groups"]  # fmt: skip


def _say(rows: int) -> list[str]:
    """Say that a tile's states have been handed on."""
    if rows == 1:
        return []
    return [
        "barrier()",
        "if thread() == 0:",
        "    count_up(sync, COUNTERS + 16 * (e * tiles + tile), 1)",
    ]


def _begin(cell: str, rows: int, rare: list[str]) -> list[str]:
    """The states before the first step; tiles are handed on, unless they are all zeros."""
    body = [
        "new = old_state(h, h0, start, batch, hidden, d, n, u, h_row, h_direction)",
        f"own[turn * {rows} * units + item] = new",
    ]
    if cell == "lstm":
        body += [
            f"own_c[turn * {rows} * units + item] ="
            " old_cell(c, c0, start, batch, hidden, d, n, u, c_row, c_direction)"
        ]
    rested = "rested, number = start == 0 and null(h0), 1"
    if rows == 1:
        return [*rare, rested, *_tiles(_items(rows, body)), "number = 0"]
    body += ["if not rested:", *(f"    {b}" for b in _hand_on(rows))]
    said = ["if not rested:", *(f"    {b}" for b in _say(rows))]
    return [*rare, rested, *_tiles([*_items(rows, body), *said]), "if rested:", "    number = 0"]


def _fetch(cell: str, rows: int) -> list[str]:
    """Begin to bring the inputs' share of the gates of a step."""
    gates = GATES[cell]
    return _items(
        rows,
        [
            f"x = gates_row(s, start, steps, batch, reverse, d, n) * {gates} * width + u",
            *(f"fetch(gates, item * {gates} + {g}, xw, x + {g} * width)" for g in range(gates)),
        ],
    )


def _wait(rows: int, rare: list[str]) -> list[str]:
    place = "((e * tiles + tile) * 2 + (number & 1))"
    if rows == 1:
        tag = "(epoch + number) & 0xFFFFFFFF"
        return [
            "if s == start:",
            *(f"    {line}" for line in rare),
            "    stage_state(",
            "        h, h0, s, batch, hidden, d, tile, h_row, h_direction, stage",
            "    )",
            "else:",
            f"    wait_tagged(sync, TAGGED + {place} * even, {tag}, hidden, stage)",
        ]
    return [
        "wait_counter(sync, COUNTERS + 16 * (e * tiles + tile), slices * number)",
        f"old = at(states, {place} * hidden * {rows} + row0)",
    ]


def _multiply(rows: int) -> list[str]:
    """The product of the thread's rows and quad over its part of k, added up in the warp."""
    each, _ = FORMS[rows]
    cells_ = [(n, j) for n in range(each) for j in range(4)]

    def loads(step: int) -> list[str]:
        names = ", ".join(f"w{step}_{j}" for j in range(4))
        lines = [f"{names} = load4(kept, w + {step} * w_step)"]
        if rows == 1:
            return [f"h{step}_0 = stage[k + {step} * parts]", *lines]
        found = [
            f"{', '.join(f'h{step}_{n + i}' for i in range(4))} ="
            f" fresh4(old, x + {step} * x_step + {n})"
            for n in range(0, each, 4)
        ]
        return [*found, *lines]

    def products(step: int) -> list[str]:
        return [f"a{n}_{j} += h{step}_{n} * w{step}_{j}" for n, j in cells_]

    def onward(steps: int) -> list[str]:
        return [f"k += {steps} * parts", f"w += {steps} * w_step", f"x += {steps} * x_step"]

    steps = range(UNROLL)
    lines = [
        "k, w, w_step = part, (part * quads + quad) * 4, parts * quads * 4",
        f"x, x_step = part * {rows}, parts * {rows}",
        f"while k + {len(steps) - 1} * parts < hidden:",
    ]
    lines += [f"    {line}" for step in steps for line in loads(step)]
    lines += [f"    {line}" for step in steps for line in products(step)]
    lines += [f"    {line}" for line in onward(len(steps))]
    lines += ["while k < hidden:"]
    return [*lines, *(f"    {line}" for line in (*loads(0), *products(0), *onward(1)))]


def _add_up(rows: int) -> list[str]:
    each, share = FORMS[rows]
    lines = [f"bit = quads * {share}", f"while bit < quads * {share} * fold:"]
    lines += [f"    a{n}_{j} += other(a{n}_{j}, bit)" for n in range(each) for j in range(4)]
    lines += ["    bit += bit", "if part - slot * fold == 0:"]
    for n in range(each):
        sums = ", ".join(f"a{n}_{j}" for j in range(4))
        lines += [f"    store4(sums, ((slot * {rows} + row0 + {n}) * quads + quad) * 4, {sums})"]
    return lines


def _total(cell: str, rows: int) -> list[str]:
    """g0 to g3: the sums of an item's quad; g0 alone for an RNN."""
    row = f"(item & {rows - 1})"
    unit = f"(item >> {rows.bit_length() - 1})"
    width = 1 if cell == "rnn" else 4

    def loads(step: int) -> str:
        place = f"((k + {step}) * {rows} + {row}) * units + {unit}"
        if width == 1:
            return f"s{step}_0 = sums[{place}]"
        return f"{', '.join(f's{step}_{j}' for j in range(4))} = load4(sums, ({place}) * 4)"

    def pairs(names: list[str]) -> str:
        half = len(names) // 2
        if not half:
            return names[0]
        return f"({pairs(names[:half])} + {pairs(names[half:])})"

    lines = [*(f"g{j} = single(0.0)" for j in range(width)), "k = 0"]
    lines += [f"while k + {UNROLL - 1} < slots:"]
    lines += [f"    {loads(step)}" for step in range(UNROLL)]
    for j in range(width):
        lines += [f"    g{j} += {pairs([f's{step}_{j}' for step in range(UNROLL)])}"]
    lines += [f"    k += {UNROLL}", "while k < slots:", f"    {loads(0)}"]
    return [*lines, *(f"    g{j} += s0_{j}" for j in range(width)), "    k += 1"]


def _finish(cell: str, rows: int, rare: list[str]) -> list[str]:
    """One step of an item: new, from its gates."""
    unit = {
        "lstm": [
            f"cell = own_c[turn * {rows} * units + item]",
            "if active:",
            "    cell, new = lstm_unit(",
            "        usual, g0 + gates[4 * item], g1 + gates[4 * item + 1],",
            "        g2 + gates[4 * item + 2], g3 + gates[4 * item + 3], cell, p, d, u, width,",
            "        coupled, limit, words,",
            "    )",
            f"own_c[turn * {rows} * units + item] = cell",
        ],
        "gru": [
            "if active:",
            "    if not null(rb):",
            "        g2 += rb[d * width + u]",
            "    new = gru_unit(",
            "        usual, g0 + gates[3 * item], g1 + gates[3 * item + 1], gates[3 * item + 2],",
            "        g2, new, limit, words,",
            "    )",
        ],
        "rnn": [
            "if active:",
            "    new = apply(words, 0, clipped(g0 + gates[item], limit))",
        ],
    }[cell]
    last = [
        *rare,
        "h[state_place(s + 1, batch, hidden, d, n, u)] = new",
        *(["c[(d * batch + n) * width + u] = cell"] if cell == "lstm" else []),
        "if s + 1 == total and not null(y_h):",
        "    y_h[d * h_direction + n * h_row + u] = new",
    ]
    if cell == "lstm":
        last += ["if s + 1 == total and not null(y_c):",
                 "    y_c[d * c_direction + n * c_row + u] = cell"]  # fmt: skip
    return _items(
        rows,
        [
            *_total(cell, rows),
            f"active, new = is_active(lengths, n, t), own[turn * {rows} * units + item]",
            *unit,
            "if s + 1 < start + steps:",
            *(f"    {line}" for line in _hand_on(rows)),
            "else:",
            *(f"    {line}" for line in last),
            f"own[turn * {rows} * units + item] = new",
            "if not null(y):",
            "    out = new if active else single(0.0)",
            "    y[t * y_step + d * y_direction + n * y_row + u] = out",
        ],
    )


def _step(cell: str, rows: int, rare: list[str]) -> list[str]:
    each, _ = FORMS[rows]
    names = [f"a{n}_{j}" for n in range(each) for j in range(4)]
    return [
        *_fetch(cell, rows),
        *(f"{name} = single(0.0)" for name in names),
        "if s > start or not rested:",
        *(f"    {line}" for line in (*_wait(rows, rare), *_multiply(rows))),
        *_add_up(rows),
        "fetched()",
        "barrier()",
        "number += 1",
        *_finish(cell, rows, rare),
        *_say(rows),
        "number -= 1",
    ]


def _make(cell: str, rows: int, abreast: bool = False) -> Callable[..., Any]:
    """The kernel of a cell for tiles of `rows` rows; abreast: of chunks of several layers."""
    name = f"{cell}_{rows}{'_abreast' * abreast}"
    rare = _read(cell, _RARE) if abreast else []
    given = "table, sync, branches, ranges" if abreast else _PARAMETERS[cell]
    lines = [f"def {name}({given}, {', '.join(ABREAST if abreast else EXTRA)}):"]
    body = [
        *(_read_layer(cell) if abreast else _OWN),
        *_head(cell, rows),
        *_begin(cell, rows, rare),
        "s = start",
        "while s < start + steps:",
        "    t = time_of(s, total, reverse, d)",
        *(f"    {line}" for line in _tiles(_step(cell, rows, rare))),
        "    number += 1",
        "    s += 1",
        f"leave(sync, blocks(), {'most, branches' if abreast else 'steps, directions'} * tiles)",
    ]
    scope = {**vars(simt), **vars(activation), **vars(cells), **vars(grid), **vars(exchange)}
    return made(name, [*lines, *(f"    {line}" for line in body)], scope, __name__)


lstm_1, lstm_8, lstm_32 = (_make("lstm", rows) for rows in FORMS)
gru_1, gru_8, gru_32 = (_make("gru", rows) for rows in FORMS)
rnn_1, rnn_8, rnn_32 = (_make("rnn", rows) for rows in FORMS)
lstm_1_abreast, lstm_8_abreast = (_make("lstm", rows, True) for rows in ABREAST_FORMS)
gru_1_abreast, gru_8_abreast = (_make("gru", rows, True) for rows in ABREAST_FORMS)
rnn_1_abreast, rnn_8_abreast = (_make("rnn", rows, True) for rows in ABREAST_FORMS)
