"""Launches of recurrent layers: step by step, or a whole sequence at once where it fits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from lightrnn.cuda import launch_persistent
from lightrnn.cuda.grid import Gpu, Launch, Symbol, spread
from lightrnn.cuda.launch_gemm import product
from lightrnn.cuda.launch_persistent import persistent
from lightrnn.native import abi

_CELLS = {
    "lstm": ("lstm_cell", "lstm_project"),
    "gru": ("gru_cell", "gru_reset"),
    "rnn": ("rnn_cell",),
}
SYMBOLS = (
    *(Symbol(n, "recurrent", kernel, ("step",)) for kernel, names in _CELLS.items() for n in names),
    *launch_persistent.SYMBOLS,
)
Arguments = Mapping[str, int]


def _padded(size: int) -> int:
    return -(-size // abi.LANES) * abi.LANES


class Steps:
    """The launches of one recurrent instruction, step by step, each direction by itself."""

    def __init__(self, a: Arguments, gpu: Gpu, gates: int) -> None:
        self._a, self._gpu, self._gates = a, gpu, gates
        self._batch, self._hidden = a["batch"], a["hidden"]
        self._size = a.get("size", self._hidden)
        self._width, self._state = _padded(self._hidden), _padded(self._size)
        self._weight = 4 if abi.WEIGHTS[a["kind"]] == "float32" else 2

    def cells(self, symbol: str, step: int, size: int) -> tuple[Launch, ...]:
        """The launch of a cell kernel; at the end of time one that hands the state on."""
        items = max(self._a["directions"] * self._batch * size, 1)
        return spread(symbol, items, self._gpu, extra=(step,))

    def gates_at(self, step: int, d: int, gate: int = 0) -> int:
        """The address of a gate of the first row of a step."""
        a, local = self._a, step - self._a["start"]
        if a["reverse"] or d == 1:
            local = a["steps"] - 1 - local
        row = (d * a["steps"] + local) * self._batch
        return a["xw"] + 4 * (row * self._gates + gate) * self._width

    def state(self, step: int, d: int) -> tuple[int, int]:
        """The address of the state before a step, 0 for zeros, and the elements between rows."""
        a = self._a
        if step == 0:
            return a["h0"] + 4 * d * a["h_direction"] if a["h0"] else 0, a["h_row"]
        return a["h"] + 4 * (2 * d + step % 2) * self._batch * self._state, self._state

    def full(self, d: int) -> int:
        """The address of a direction's scratch."""
        return self._a["full"] + 4 * d * self._batch * self._width

    def times(
        self, source: tuple[int, int], d: int, first: int, count: int, init: tuple[int, int],
        out: tuple[int, int],
    ) -> tuple[Launch, ...]:  # fmt: skip
        """out = init + source·R of `count` gates from `first` on; address and row length each."""
        panels = abi.panel_rows(self._size) * self._width * self._weight
        r = self._a["r"] + (d * self._gates + first) * panels
        depth = self._size if source[0] else 0
        shape = (self._batch, count * self._width, depth)
        rows = (source[1], init[1], out[1])
        return product(self._gpu, source[0], r, init[0], out[0], shape, rows, self._a["kind"])

    def add_state(self, step: int, d: int, count: int) -> tuple[Launch, ...]:
        """Add state·R to the first `count` gates of a step; nothing where the state is zeros."""
        source = self.state(step, d)
        place = (self.gates_at(step, d), self._gates * self._width)
        return self.times(source, d, 0, count, place, place) if source[0] else ()

    def project(self, step: int, d: int) -> tuple[Launch, ...]:
        """The projection of an LSTM's cells, to the state after a step."""
        a = self._a
        weights = a["projection"] + d * self._state * abi.panel_rows(self._hidden) * self._weight
        target = a["h"] + 4 * (2 * d + (step + 1) % 2) * self._batch * self._state
        shape, rows = (self._batch, self._state, self._hidden), (self._width, 0, self._state)
        return product(self._gpu, self.full(d), weights, 0, target, shape, rows, a["kind"])


def _lstm_step(plan: Steps, a: Arguments, step: int) -> Sequence[Launch]:
    directions = range(a["directions"])
    made = [one for d in directions for one in plan.add_state(step, d, 4)]
    made += plan.cells("lstm_cell", step, a["hidden"])
    if a["projection"]:
        made += [one for d in directions for one in plan.project(step, d)]
        made += plan.cells("lstm_project", step, a["size"])
    return made


def _gru_step(plan: Steps, a: Arguments, step: int) -> Sequence[Launch]:
    directions, width = range(a["directions"]), _padded(a["hidden"])
    made: list[Launch] = []
    for d in directions:
        made += plan.add_state(step, d, 2)
        if a["after"]:
            bias = a["rb"] + 4 * d * width if a["rb"] else 0
            made += plan.times(plan.state(step, d), d, 2, 1, (bias, 0), (plan.full(d), width))
    if not a["after"] and plan.state(step, 0)[0]:
        made += plan.cells("gru_reset", step, a["hidden"])
        for d in directions:
            place = (plan.gates_at(step, d, 2), 3 * width)
            made += plan.times((plan.full(d), width), d, 2, 1, place, place)
    return [*made, *plan.cells("gru_cell", step, a["hidden"])]


def _rnn_step(plan: Steps, a: Arguments, step: int) -> Sequence[Launch]:
    made = [one for d in range(a["directions"]) for one in plan.add_state(step, d, 1)]
    return [*made, *plan.cells("rnn_cell", step, a["hidden"])]


_STEPS: dict[str, tuple[int, Callable[[Steps, Arguments, int], Sequence[Launch]]]] = {
    "lstm": (4, _lstm_step),
    "gru": (3, _gru_step),
    "rnn": (1, _rnn_step),
}


def recurrent(kernel: str, a: Arguments, gpu: Gpu) -> tuple[Launch, ...]:
    """The launches of rnn, gru or lstm."""
    gates, step = _STEPS[kernel]
    plan = Steps(a, gpu, gates)
    if a["total"] == 0:
        return plan.cells(f"{kernel}_cell", 0, a["hidden"])
    if a["batch"] == 0:
        return ()
    whole = persistent(kernel, a, gpu)
    if whole:
        return whole
    each = range(a["start"], a["start"] + a["steps"])
    return tuple(one for s in each for one in step(plan, a, s))
