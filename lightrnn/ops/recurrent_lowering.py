"""From a recurrent operator to kernel calls: packed weights, one product for many steps, cells."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lightrnn.graph import Array
from lightrnn.native.abi import AHEAD, BYTES, GATES, LANES, MATRIX_BYTES, steps_before
from lightrnn.ops.activations import Activation
from lightrnn.ops.lowering import Emitter, Operand, Ref
from lightrnn.ops.packing import (
    MIXED,
    gate_panels,
    mixed_panels,
    padded,
    padded_gates,
    panel_bytes,
    room_bytes,
    weight_kind,
    weight_panels,
)
from lightrnn.record import Record

_CHUNK_BYTES = 1 << 18
"""Projected inputs of one chunk of steps: small enough to stay in a near cache beside weights."""
_ROW_CHUNK_BYTES = 1 << 20
"""The same of a batch of one, which projects all but the first steps of a chunk on the way."""
_GPU_CHUNK_BYTES = 1 << 30
"""The same on a GPU, where as many steps as possible are one launch."""
_CHUNK_ROWS = 128
"""Rows that make the projection's product worth its packed weights' trip through the cache."""
_LEAST_READ, _MOST_READ = 80 << 10, 10 << 20
"""Bytes of W and R between which inputs are projected ahead: they stay in a cache, but not in the
nearest."""
_AHEAD = {
    "float32": ("float32",), "float16": ("float32",), "bfloat16": ("float32",),
    "int8": ("int8", "int16"), "int16": ("int16",),
}  # fmt: skip
"""How W may be stored that a cell can project inputs by, by how R is stored."""
_IN_BYTES = {"int8": BYTES, "tiles": MATRIX_BYTES}
"""How a cell multiplies hidden states by weights that are stored as int8, those of inputs too."""
Factors = tuple[Operand | Ref | None, ...]
"""What a cell projects inputs by: x, room for it as integers, packed W and bias."""


class Slots(Record):
    """The operands of a recurrent node by role; None where one is left out.

    table: constant rows [V, I]; then x holds their numbers, int32 [T, N], each from 0 to V - 1.
    """

    x: Operand
    w: Operand
    r: Operand
    b: Operand | None = None
    lengths: Operand | None = None
    h0: Operand | None = None
    c0: Operand | None = None
    p: Operand | None = None
    projection: Operand | None = None
    y: Operand | None = None
    y_h: Operand | None = None
    y_c: Operand | None = None
    table: Operand | None = None

    @property
    def outputs(self) -> tuple[Operand | None, ...]:
        return self.y, self.y_h, self.y_c

    @staticmethod
    def of(
        names: Sequence[str],
        inputs: Sequence[Operand | None],
        outputs: Sequence[Operand | None],
        table: Operand | None = None,
    ) -> Slots:
        given = dict(zip(names, inputs, strict=False))
        y, y_h, y_c = [*outputs, None, None, None][:3]
        x, w, r = given["X"], given["W"], given["R"]
        assert x is not None
        assert w is not None
        assert r is not None
        return Slots(
            x, w, r, given.get("B"), given.get("sequence_lens"), given.get("initial_h"),
            given.get("initial_c"), given.get("P"), given.get("projection"), y, y_h, y_c, table,
        )  # fmt: skip


class Layer(Record):
    """A recurrent layer with its sizes. time, batch, inputs, hidden, size (of the hidden state).

    kernel: rnn, gru or lstm. after: GRU's linear_before_reset. coupled: LSTM's input_forget.
    """

    slots: Slots
    kernel: str
    after: int
    coupled: int
    gates: int
    directions: int
    reverse: bool
    layout: int
    clip: float
    functions: tuple[tuple[Activation, ...], ...]
    time: int
    batch: int
    inputs: int
    hidden: int
    size: int

    @property
    def width(self) -> int:
        """Elements of one row's gates, each gate padded to whole vectors."""
        return self.gates * padded(self.hidden)

    @staticmethod
    def of(
        slots: Slots,
        *,
        kernel: str,
        after: int,
        coupled: int,
        gates: int,
        directions: int,
        reverse: bool,
        layout: int,
        clip: float,
        functions: tuple[tuple[Activation, ...], ...],
    ) -> Layer:
        time, batch = slots.x.shape[1::-1] if layout else slots.x.shape[:2]
        inputs = slots.w.shape[2]
        _, rows, size = slots.r.shape
        return Layer(
            slots, kernel, after, coupled, gates, directions, reverse, layout, clip, functions,
            time, batch, inputs, rows // gates, size,
        )  # fmt: skip

    @property
    def step_bytes(self) -> int:
        """Bytes of the projected inputs of a step; at least one."""
        return max(self.directions * self.batch * self.width * 4, 1)

    @property
    def y_strides(self) -> tuple[int, int, int]:
        """Elements from one step, row and direction of Y to the next."""
        d, n, t, s = self.directions, self.batch, self.time, self.size
        return (d * s, t * d * s, s) if self.layout else (d * n * s, s, n * s)

    def state_strides(self, size: int) -> tuple[int, int]:
        """Elements from one row and direction of a state of `size` to the next."""
        return (self.directions * size, size) if self.layout else (size, self.batch * size)

    def backward(self, d: int) -> bool:
        """Whether direction `d` begins at the end of time."""
        return self.reverse or d == 1

    @property
    def words(self) -> list[int]:
        """All activations as a kernel reads them."""
        return [w for functions in self.functions for f in functions for w in f.words]


def lower_layer(emit: Emitter, layer: Layer) -> None:
    """Emit a layer: for each chunk of steps, x·W + bias of all directions, then the cell."""
    most = _CHUNK_BYTES if layer.batch > 1 else _ROW_CHUNK_BYTES
    if emit.target != "cpu":
        most = _GPU_CHUNK_BYTES
    chunk = max(most // layer.step_bytes, -(-_CHUNK_ROWS // max(layer.batch, 1)), 1)
    calls = LayerCalls(emit, layer, chunk)
    for start in range(0, layer.time, chunk):
        calls.emit(start)
    if layer.time == 0:
        calls.emit_states()


class LayerCalls:
    """The kernel calls of a layer, `chunk` steps at a time."""

    def __init__(self, emit: Emitter, layer: Layer, chunk: int) -> None:
        self._layer, self._chunk = layer, chunk
        rows = min(chunk, layer.time) * layer.batch
        kind = _Product if layer.slots.table is None else _Lookup
        self._project = kind(emit, layer, rows)
        self._step = layer.batch * layer.width + self._project.gap
        self._xw = emit.scratch(layer.directions * min(chunk, layer.time) * self._step * 4)
        self._cell = _Cell(emit, layer, self._xw, self._step, self._project.stored)
        self._ahead = self._project.factors if self._cell.projects_ahead else None

    def emit(self, start: int) -> None:
        """Emit the chunk that begins at step `start`."""
        layer = self._layer
        steps = min(self._chunk, layer.time - start)
        ahead = self._ahead if steps >= 2 * AHEAD else None
        before = steps if ahead is None else steps_before(steps)
        self._project.emit(start, steps, before, self._xw)
        self._cell.emit(start, steps, ahead)

    def emit_states(self) -> None:
        """Emit what leads from the initial states to the final ones without a step."""
        self._cell.emit(0, 0)


class _Product:
    """Inputs' share of the gates as a matrix product.

    gap: elements between one row of a batch of one and the next: rows a multiple of 4 KiB apart
    share the few places of a cache, and several are written together.
    """

    def __init__(self, emit: Emitter, layer: Layer, rows: int) -> None:
        """rows: of a chunk."""
        self._emit, self._layer = emit, layer
        gates, after = layer.gates, layer.after
        stored, self._kind = weight_kind(emit, rows, layer.slots.w, batch=layer.batch)
        self.stored = stored
        self.gap = LANES if layer.batch == 1 and emit.target == "cpu" else 0
        self._weights = emit.packed(
            (layer.slots.w,), ("gates", gates, stored), lambda w: gate_panels(w, gates, stored)
        )
        words = room_bytes(layer.directions * rows, layer.inputs, stored)
        self._room = emit.scratch(words) if words else None
        b, hidden = layer.slots.b, layer.hidden
        self._bias = None
        if b is not None:
            self._bias = emit.packed(
                (b,), ("bias", gates, hidden, after), lambda v: _input_bias(v, gates, hidden, after)
            )

    @property
    def factors(self) -> Factors:
        """For a cell that projects inputs itself."""
        return self._layer.slots.x, self._room, self._weights, self._bias

    def emit(self, start: int, steps: int, before: int, out: Ref) -> None:
        """out [D, steps, N, G * Hp] = x·W + bias, for the first `before` steps of a chunk."""
        layer, batch, k = self._layer, self._layer.batch, self._layer.inputs
        step = batch * layer.width + self.gap
        at_step, at_row = (k, layer.time * k) if layer.layout else (batch * k, k)
        times, places = zip(*_places(layer, start, steps, before), strict=True)
        self._emit.call(
            "project", self._kind, layer.slots.x.ref + times[0] * at_step * 4, self._weights,
            self._bias, out + places[0] * step * 4, self._room, before, batch, k, layer.hidden,
            layer.size, layer.gates, layer.directions, at_step, at_row,
            (times[-1] - times[0]) * at_step, step, (places[-1] - places[0]) * step,
            work=layer.directions * before * batch * layer.width * k,
        )  # fmt: skip


class _Lookup:
    """Inputs' share of the gates where every row of x is one of a table: kept for each of them."""

    stored = factors = None
    gap = 0

    def __init__(self, emit: Emitter, layer: Layer, rows: int) -> None:
        self._emit, self._layer = emit, layer
        slots, gates, hidden, after = layer.slots, layer.gates, layer.hidden, layer.after
        assert slots.table is not None
        self._rows = slots.table.shape[0]

        def pack(table: Array, w: Array, b: Array | None = None) -> Array:
            shares: Array = np.matmul(table, np.swapaxes(padded_gates(w, gates), 1, 2))
            if b is not None:
                shares += _input_bias(b, gates, hidden, after)[:, None]
            return shares

        sources = (slots.table, slots.w) if slots.b is None else (slots.table, slots.w, slots.b)
        self._shares = emit.packed(sources, ("lookup", gates, hidden, after), pack)

    def emit(self, start: int, steps: int, before: int, out: Ref) -> None:
        """out [D, steps, N, G * Hp] = the rows' shares, for the first `before` steps of a chunk."""
        layer = self._layer
        count, row = before * layer.batch, layer.width * 4
        for d, (time, place) in enumerate(_places(layer, start, steps, before)):
            self._emit.call(
                "gather_rows", self._shares + d * self._rows * row,
                layer.slots.x.ref + time * layer.batch * 4, out + place * layer.batch * row, 1,
                self._rows, count, row, 0, work=count * layer.width,
            )  # fmt: skip


def _places(layer: Layer, start: int, steps: int, before: int) -> list[tuple[int, int]]:
    """Where the first `before` of a chunk's steps lie in each direction: the earliest of their
    times, and its place among all steps of the chunks of [D, steps].

    start: steps that have been done. Going backward, the first steps have the latest times.
    """
    forward, backward = (start, 0), (layer.time - start - before, steps - before)
    return [
        (time, d * steps + place)
        for d in range(layer.directions)
        for time, place in [backward if layer.backward(d) else forward]
    ]


def _input_bias(bias: Array, gates: int, hidden: int, after: int) -> Array:
    """[D, G * Hp]: biases of input and state added, but for a candidate's own (see _Cell)."""
    both = bias.reshape(len(bias), 2, gates * hidden)
    total = both.sum(axis=1, dtype=np.float32)
    if after:
        total[:, 2 * hidden :] = both[:, 0, 2 * hidden :]
    return padded_gates(total, gates)


class _Cell:
    """The calls of one layer's cell kernel: all arguments but the steps are the same."""

    def __init__(
        self, emit: Emitter, layer: Layer, xw: Ref, step: int, inputs_stored: str | None
    ) -> None:
        """step: elements of xw from one step to the next.

        inputs_stored: how W is packed; None where it is not multiplied by.
        """
        self._emit, self._layer, kernel = emit, layer, layer.kernel
        slots, gates = layer.slots, layer.gates
        rows = layer.directions * layer.batch
        wide = rows * padded(layer.hidden) * 4
        h = emit.scratch(2 * rows * padded(layer.size) * 4)
        stored, self._kind = self._how_stored()
        mixed = self._kind == GATES
        r = emit.packed(
            (slots.r,), ("gates", gates, self._kind),
            lambda v: mixed_panels(v, MIXED[kernel]) if mixed else gate_panels(v, gates, stored),
        )  # fmt: skip
        words = room_bytes(rows * (2 if mixed else 1), max(layer.size, layer.hidden), stored)
        room = emit.scratch(words) if words else None
        if stored == inputs_stored and stored in _IN_BYTES:  # their rounding is most of the error
            self._kind = _IN_BYTES[stored]
        self.projects_ahead = (
            emit.target == "cpu"
            and layer.batch == 1
            and layer.inputs <= 2 * layer.size
            and inputs_stored in _AHEAD.get(stored, ())
            and _LEAST_READ <= self._read(stored, inputs_stored) <= _MOST_READ
        )
        self._options: list[int | float] = [layer.directions, int(layer.reverse)]
        self._strides = [*layer.y_strides, *layer.state_strides(layer.size)]
        self._sizes = [layer.time, step, layer.inputs, layer.batch, layer.hidden]
        if kernel == "lstm":
            full = None if slots.projection is None else emit.scratch(wide)
            self._memory: tuple[Ref | Operand | None, ...] = (
                xw, r, self._peepholes(), self._projection(), slots.lengths, slots.h0, slots.c0,
                slots.y, slots.y_h, slots.y_c, h, emit.scratch(wide), full, room,
            )  # fmt: skip
            self._sizes.append(layer.size)
            self._options.append(layer.coupled)
            self._strides += layer.state_strides(layer.hidden)
        elif kernel == "gru":
            self._memory = (
                xw, r, self._candidate_bias(), slots.lengths, slots.h0, slots.y, slots.y_h, h,
                emit.scratch(wide), room,
            )  # fmt: skip
            self._options.append(layer.after)
        else:
            self._memory = (xw, r, slots.lengths, slots.h0, slots.y, slots.y_h, h, room)

    def _how_stored(self) -> tuple[str, int]:
        """How the recurrent weights are packed, GATES beside a projection packed as "int16"."""
        layer, emit = self._layer, self._emit
        r, projection = layer.slots.r, layer.slots.projection
        whole = projection is None or projection.stored == "int16"
        if emit.target == "cpu" and MIXED.get(layer.kernel) == r.stored and whole:
            return "int16", GATES
        return weight_kind(emit, layer.batch, r, projection)

    def _read(self, stored: str, inputs_stored: str) -> int:
        """Bytes of R and W of a direction."""
        layer = self._layer
        r = panel_bytes(layer.width, layer.size, stored)
        return r + panel_bytes(layer.width, layer.inputs, inputs_stored)

    def _peepholes(self) -> Ref | None:
        p = self._layer.slots.p
        if p is None:
            return None
        return self._emit.packed((p,), "peepholes", lambda v: padded_gates(v, 3))

    def _projection(self) -> Ref | None:
        projection = self._layer.slots.projection
        if projection is None:
            return None
        stored, _ = self._how_stored()
        return self._emit.packed(
            (projection,), ("projection", stored),
            lambda v: weight_panels(v.swapaxes(1, 2), stored),
        )  # fmt: skip

    def _candidate_bias(self) -> Ref | None:
        """Rbh [D, Hp], added inside the reset gate's product."""
        b, hidden = self._layer.slots.b, self._layer.hidden
        if b is None or not self._layer.after:
            return None
        inner = slice(5 * hidden, 6 * hidden)
        return self._emit.packed((b,), "candidate bias", lambda v: padded_gates(v[:, inner], 1))

    def emit(self, start: int, steps: int, ahead: Factors | None = None) -> None:
        """Emit the cell for `steps` steps, `start` steps having been done.

        ahead: what the kernel projects inputs with, all but those of the first steps.
        """
        layer = self._layer
        depth = steps * layer.size
        if ahead is not None:
            depth += (steps - steps_before(steps)) * layer.inputs
        self._emit.call(
            layer.kernel, self._kind, *self._memory, *(ahead or (None,) * 4), steps, start,
            *self._sizes, *self._options, float(layer.clip), *self._strides, *layer.words,
            work=depth * layer.batch * layer.directions * layer.width,
        )  # fmt: skip
