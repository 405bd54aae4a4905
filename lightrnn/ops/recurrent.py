"""RNN, GRU and LSTM: one layer, one or two directions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from lightrnn.errors import GraphError
from lightrnn.graph import FLOAT32, INT32, Array, Attr, Dim, TensorType
from lightrnn.ops import activations as act
from lightrnn.ops.arguments import inferred, same_size
from lightrnn.ops.lowering import Emitter, Operand
from lightrnn.ops.recurrent_lowering import Layer, Slots
from lightrnn.ops.registry import Case, Operator, Types, operator

Cell = Callable[[Array, tuple[Array, ...]], tuple[Array, ...]]
"""Inputs' share of the gates [N, G * H] and the states before a step, to the states after it."""


class Recurrent(Operator):
    """What the three operators share: direction, layout, lengths, states, activations, clip.

    X [T, N, I] (layout 0) or [N, T, I] (layout 1); W [D, G * H, I]; R [D, G * H, S];
    B [D, 2 * G * H]; sequence_lens int32 [N]; initial states [D, N, S] or
    [N, D, S]; Y [T, D, N, S] or [N, T, D, S].
    S is the size of the hidden state: H, or that of the LSTM's projection.

    What X holds past the end of a row is never read, and Y is zero there. Going backward a row
    begins at its own last step. A row without a step keeps its initial states.
    clip bounds what a gate gives its activation; an LSTM's cell state goes into h as it is.
    float16 is computed in float32.
    """

    activation_alpha: tuple[float, ...] = ()
    activation_beta: tuple[float, ...] = ()
    activations: tuple[str, ...] | None = None
    clip: float | None = None
    direction: str = "forward"
    hidden_size: int | None = None
    layout: int = 0

    rtol = 2e-6
    gates: ClassVar[int]
    usual: ClassVar[tuple[str, ...]]
    states: ClassVar[int] = 1
    kinds = "f"

    def __post_init__(self) -> None:
        if self.direction not in ("forward", "reverse", "bidirectional"):
            raise GraphError(
                f"direction is {self.direction!r}, expected forward, reverse or bidirectional"
            )
        if self.layout not in (0, 1):
            raise GraphError(f"layout is {self.layout}, expected 0 or 1")
        if self.clip is not None and not self.clip > 0:
            raise GraphError(f"clip is {self.clip}, expected a positive number")
        wanted = len(self.usual) * self.directions
        if self.activations is not None and len(self.activations) != wanted:
            raise GraphError(f"{len(self.activations)} activations, expected {wanted}")
        _ = self.functions

    @property
    def directions(self) -> int:
        return 2 if self.direction == "bidirectional" else 1

    @property
    def after(self) -> int:
        """Whether a reset gate comes after the candidate's product with R."""
        return 0

    @property
    def coupled(self) -> int:
        """Whether the forget gate is 1 less the input gate."""
        return 0

    @cached_property
    def functions(self) -> tuple[tuple[act.Activation, ...], ...]:
        """The activations of each direction."""
        names = self.activations if self.activations is not None else self.usual * self.directions
        flat = act.parse(names, self.activation_alpha, self.activation_beta)
        count = len(self.usual)
        return tuple(flat[d * count : (d + 1) * count] for d in range(self.directions))

    def infer(self, inputs: Types) -> tuple[TensorType, ...]:
        given = dict(zip(self.inputs.names, inputs, strict=False))
        x, w, r = given["X"], given["W"], given["R"]
        assert x is not None
        assert w is not None
        assert r is not None
        for name, rank in _RANKS.items():
            t = given.get(name)
            if t is not None and t.rank not in (None, rank):
                raise GraphError(f"{name} has rank {t.rank}, expected {rank}")
            if t is not None:
                _check_dtype(name, t, x)
        hidden = self._check_weights(given)
        size = r.shape[2] if r.shape else None
        time, batch = (None, None) if x.shape is None else x.shape[:2]
        if self.layout:
            time, batch = batch, time
        self._check_rows(given, time, batch, size, hidden)
        d = self.directions
        y = (batch, time, d, size) if self.layout else (time, d, batch, size)
        h = (batch, d, size) if self.layout else (d, batch, size)
        c = (*h[:2], hidden)
        return tuple(TensorType(x.dtype, s) for s in (y, h, c)[: 1 + self.states])

    def _check_weights(self, given: dict[str, TensorType | None]) -> Dim:
        x, w, r = given["X"], given["W"], given["R"]
        assert x is not None
        assert w is not None
        assert r is not None
        rows = w.shape[1] if w.shape else r.shape[1] if r.shape else None
        if isinstance(rows, int) and rows % self.gates:
            raise GraphError(f"W has {rows} rows, not a multiple of {self.gates} gates")
        hidden = rows // self.gates if isinstance(rows, int) else self.hidden_size
        if self.hidden_size is not None:
            same_size(hidden, self.hidden_size, "hidden sizes of W and hidden_size")
        for name in ("W", "R", "B", "P", "projection"):
            t = given.get(name)
            if t is not None and t.shape:
                same_size(t.shape[0], self.directions, f"directions of {name} and direction")
        if x.shape and w.shape:
            same_size(x.shape[2], w.shape[2], "input sizes of X and W")
        if isinstance(hidden, int):
            self._check_sizes(given, hidden)
        return hidden

    def _check_sizes(self, given: dict[str, TensorType | None], hidden: int) -> None:
        r, b, p = given["R"], given.get("B"), given.get("P")
        projection = given.get("projection")
        if r is not None and r.shape:
            same_size(r.shape[1], self.gates * hidden, "rows of R and gates")
            size = r.shape[2]
            if projection is not None and projection.shape:
                same_size(projection.shape[1], size, "sizes of projection and R")
                same_size(projection.shape[2], hidden, "sizes of projection and hidden state")
            elif projection is None:
                same_size(size, hidden, "columns of R and hidden size")
        if b is not None and b.shape:
            same_size(b.shape[1], 2 * self.gates * hidden, "size of B and gates")
        if p is not None and p.shape:
            same_size(p.shape[1], 3 * hidden, "size of P and peepholes")

    def _check_rows(
        self, given: dict[str, TensorType | None], time: Dim, batch: Dim, size: Dim, hidden: Dim
    ) -> None:
        lengths = given.get("sequence_lens")
        if lengths is not None and lengths.shape:
            same_size(lengths.shape[0], batch, "batch of sequence_lens and X")
        if lengths is not None and lengths.value is not None and isinstance(time, int):
            _check_lengths(lengths.value, time)
        for name, wanted in (("initial_h", size), ("initial_c", hidden)):
            t = given.get(name)
            if t is not None and t.shape:
                d, n = t.shape[:2] if not self.layout else t.shape[1::-1]
                same_size(d, self.directions, f"directions of {name} and direction")
                same_size(n, batch, f"batch of {name} and X")
                same_size(t.shape[2], wanted, f"sizes of {name} and state")

    def evaluate(self, *inputs: Array | None) -> tuple[Array, ...]:
        types = inferred(self, inputs)
        given = {
            name: a.astype(np.float32) if a is not None and a.dtype == np.float16 else a
            for name, a in zip(self.inputs.names, inputs, strict=False)
        }
        x = given["X"]
        assert x is not None
        if self.layout:
            x = x.swapaxes(0, 1)
        time, batch = x.shape[:2]
        lengths = given.get("sequence_lens")
        if lengths is None:
            lengths = np.full(batch, time)
        directions = [self._direction(d, x, lengths, given) for d in range(self.directions)]
        outputs = [np.stack(parts, axis=-3) for parts in zip(*directions, strict=True)]
        if self.layout:
            outputs = [np.moveaxis(a, -2, 0) for a in outputs]
        return tuple(a.astype(t.dtype, copy=False) for a, t in zip(outputs, types, strict=True))

    def _direction(
        self, d: int, x: Array, lengths: Array, given: dict[str, Array | None]
    ) -> tuple[Array, ...]:
        """Y [T, N, S] and the final states [N, size] of one direction. x [T, N, I]."""
        w, r, b = given["W"], given["R"], given.get("B")
        assert w is not None
        assert r is not None
        time, batch = x.shape[:2]
        hidden = w.shape[1] // self.gates
        sizes = (r.shape[2], hidden)[: self.states]
        states = [
            self._start(given.get(name), d, (batch, size), x.dtype)
            for name, size in zip(("initial_h", "initial_c"), sizes, strict=False)
        ]
        bias = np.zeros((2, self.gates * hidden), x.dtype) if b is None else b[d].reshape(2, -1)
        cell = self.cell(d, r[d], bias, given)
        y = np.zeros((time, batch, r.shape[2]), x.dtype)
        backward = self.direction == "reverse" or d == 1
        for t in range(time - 1, -1, -1) if backward else range(time):
            after = cell(x[t] @ w[d].T + bias[0], tuple(states))
            active = (t < lengths)[:, None]
            states = [np.where(active, n, s) for n, s in zip(after, states, strict=True)]
            y[t] = np.where(active, states[0], 0)
        return (y, *states)

    def _start(
        self, given: Array | None, d: int, shape: tuple[int, int], dtype: np.dtype[Any]
    ) -> Array:
        """A state of direction `d` before the first step."""
        if given is None:
            return np.zeros(shape, dtype)
        return given[:, d] if self.layout else given[d]

    def cell(self, d: int, r: Array, bias: Array, given: dict[str, Array | None]) -> Cell:
        """One step of direction `d`. r [G * H, S]; bias [2, G * H], of the input and of h."""
        raise NotImplementedError

    def clipped(self, x: Array) -> Array:
        """An activation's input within the clip."""
        return x if self.clip is None else np.clip(x, -self.clip, self.clip)

    def has_kernel(self, after_x: Sequence[Operand | None]) -> bool:
        """Whether the inputs after X are such that a kernel can run: constant float32 weights."""
        given = dict(zip(self.inputs.names[1:], after_x, strict=False))
        weights = [given.get(name) for name in ("W", "R", "B", "P", "projection")]
        return all(o is None or o.value is not None for o in weights) and all(
            o is None or o.type.dtype == FLOAT32 for o in weights
        )

    def lower(
        self, emit: Emitter, inputs: Sequence[Operand | None], outputs: Sequence[Operand | None]
    ) -> bool:
        if not self.has_kernel(inputs[1:]):
            return False
        emit.layer(self.layer(inputs, outputs))
        return True

    def layer(
        self,
        inputs: Sequence[Operand | None],
        outputs: Sequence[Operand | None],
        table: Operand | None = None,
    ) -> Layer:
        """The layer as its kernel calls need it.

        table: where X holds numbers of rows of a constant, that constant (`ops.embedded`).
        """
        return Layer.of(
            Slots.of(self.inputs.names, inputs, outputs, table),
            kernel=self.name.lower(),
            after=self.after,
            coupled=self.coupled,
            gates=self.gates,
            directions=self.directions,
            reverse=self.direction == "reverse",
            layout=self.layout,
            clip=self.clip or 0.0,
            functions=self.functions,
        )

    @classmethod
    def cases(cls, rng: np.random.Generator) -> Iterator[Case]:
        for time, batch, size, hidden, attrs, optional in _CASES:
            d = 2 if attrs.get("direction") == "bidirectional" else 1
            g = cls.gates * hidden

            def make(*shape: int) -> Array:
                return (rng.standard_normal(shape) * 0.5).astype(np.float32)

            arrays: dict[str, Array] = {
                "X": make(time, batch, size), "W": make(d, g, size), "R": make(d, g, hidden),
            }  # fmt: skip
            if "B" in optional:
                arrays["B"] = make(d, 2 * g)
            if "lens" in optional:
                arrays["sequence_lens"] = rng.integers(1, time + 1, batch).astype(np.int32)
            if "h" in optional:
                arrays["initial_h"] = make(d, batch, hidden)
                arrays["initial_c"] = make(d, batch, hidden)
            values = tuple(arrays.get(name) for name in cls.inputs.names)
            last = max(k for k, v in enumerate(values) if v is not None)
            yield Case(
                f"T{time} N{batch} I{size} H{hidden} {attrs.get('direction', '')} {optional}",
                values[: last + 1],
                {"hidden_size": hidden, **attrs},
            )


def _check_dtype(name: str, t: TensorType, x: TensorType) -> None:
    if name == "sequence_lens":
        if t.dtype != INT32:
            raise GraphError(f"sequence_lens is {t.dtype}, expected int32")
    elif name == "X":
        if t.dtype.kind != "f":
            raise GraphError(f"X is {t.dtype}, expected float16, float32 or float64")
    elif t.dtype != x.dtype:
        raise GraphError(f"{name} is {t.dtype}, X is {x.dtype}")


_RANKS = {
    "X": 3, "W": 3, "R": 3, "B": 2, "sequence_lens": 1, "initial_h": 3, "initial_c": 3, "P": 2,
    "projection": 3,
}  # fmt: skip

_CASES: tuple[tuple[int, int, int, int, dict[str, Attr], str], ...] = (
    (5, 2, 3, 4, {}, ""),
    (7, 3, 5, 17, {"direction": "bidirectional"}, "B lens h"),
    (4, 1, 2, 33, {"direction": "reverse"}, "B h"),
    (1, 7, 8, 16, {"clip": 0.4}, "B"),
    (6, 13, 1, 1, {"direction": "bidirectional"}, "lens"),
)


def _check_lengths(lengths: Array, time: int) -> None:
    for n, length in enumerate(lengths):
        if not 0 <= length <= time:
            raise GraphError(f"sequence_lens[{n}] is {length}, outside 0 to {time}")


@operator("RNN", inputs="X W R B? sequence_lens? initial_h?", outputs="Y? Y_h?")
class RNN(Recurrent):
    """Elman network: h = f(x·Wᵀ + h·Rᵀ + b) (ONNX RNN)."""

    gates = 1
    usual = ("Tanh",)

    def cell(self, d: int, r: Array, bias: Array, given: dict[str, Array | None]) -> Cell:
        (f,) = self.functions[d]

        def step(x: Array, states: tuple[Array, ...]) -> tuple[Array, ...]:
            return (f(self.clipped(x + states[0] @ r.T + bias[1])),)

        return step


@operator("GRU", inputs="X W R B? sequence_lens? initial_h?", outputs="Y? Y_h?")
class GRU(Recurrent):
    """Gated recurrent unit, gates z, r, h (ONNX GRU).

    linear_before_reset: the reset gate comes after the candidate's product with R, as in torch.
    """

    linear_before_reset: int = 0

    gates = 3
    usual = ("Sigmoid", "Tanh")

    @property
    def after(self) -> int:
        return self.linear_before_reset

    def cell(self, d: int, r: Array, bias: Array, given: dict[str, Array | None]) -> Cell:
        f, g = self.functions[d]
        hidden = r.shape[1]
        split = 2 * hidden
        inner_bias = bias[1, split:]

        def step(x: Array, states: tuple[Array, ...]) -> tuple[Array, ...]:
            (h,) = states
            gates = f(self.clipped(x[:, :split] + h @ r[:split].T + bias[1, :split]))
            update, reset = gates[:, :hidden], gates[:, hidden:]
            if self.linear_before_reset:
                inner = reset * (h @ r[split:].T + inner_bias)
            else:
                inner = (reset * h) @ r[split:].T + inner_bias
            candidate = g(self.clipped(x[:, split:] + inner))
            return ((1 - update) * candidate + update * h,)

        return step


@operator(
    "LSTM",
    inputs="X W R B? sequence_lens? initial_h? initial_c? P? projection?",
    outputs="Y? Y_h? Y_c?",
)
class LSTM(Recurrent):
    """Long short-term memory, gates i, o, f, c, with peepholes P of i, o, f (ONNX LSTM).

    One extension: projection [D, S, H], by which h = (o ⊙ h(c))·projectionᵀ (torch's proj_size;
    https://arxiv.org/abs/1402.1128).
    """

    input_forget: int = 0

    gates = 4
    usual = ("Sigmoid", "Tanh", "Tanh")
    states = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.input_forget not in (0, 1):
            raise GraphError(f"input_forget is {self.input_forget}, expected 0 or 1")

    @property
    def coupled(self) -> int:
        return self.input_forget

    def cell(self, d: int, r: Array, bias: Array, given: dict[str, Array | None]) -> Cell:
        f, g, h_act = self.functions[d]
        hidden = r.shape[0] // 4
        p, projection = given.get("P"), given.get("projection")
        peephole = np.zeros((3, hidden), r.dtype) if p is None else p[d].reshape(3, hidden)

        def step(x: Array, states: tuple[Array, ...]) -> tuple[Array, ...]:
            h, c = states
            i, o, fg, ct = np.split(x + h @ r.T + bias[1], 4, axis=1)
            i = f(self.clipped(i + peephole[0] * c))
            fg = 1 - i if self.input_forget else f(self.clipped(fg + peephole[2] * c))
            c = fg * c + i * g(self.clipped(ct))
            o = f(self.clipped(o + peephole[1] * c))
            out = o * h_act(c)
            return (out if projection is None else out @ projection[d].T, c)

        return step
