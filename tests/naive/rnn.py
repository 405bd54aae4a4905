"""RNN, from ONNX's text (opset 22)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.naive import Array
from tests.naive.activations import Function, clipped
from tests.naive.activations import activations as parse
from tests.naive.recurrence import Step, float64, recurrence, zeros_if_none


def rnn(
    X: Array,
    W: Array,
    R: Array,
    B: Array | None = None,
    sequence_lens: Array | None = None,
    initial_h: Array | None = None,
    *,
    hidden_size: int,
    activation_alpha: Sequence[float] = (),
    activation_beta: Sequence[float] = (),
    activations: Sequence[str] | None = None,
    clip: float | None = None,
    direction: str = "forward",
    layout: int = 0,
) -> tuple[Array, ...]:
    """Y, Y_h."""
    directions = 2 if direction == "bidirectional" else 1
    names = activations or ["Tanh"] * directions
    functions = parse(names, activation_alpha, activation_beta)
    W, R = float64(W), float64(R)
    B = zeros_if_none(B, directions, 2 * hidden_size)

    def step_of(d: int, f: Function) -> Step:
        Wi, Ri = W[d], R[d]
        Wbi, Rbi = B[d, :hidden_size], B[d, hidden_size:]

        def step(Xt: Any, Ht: Any) -> tuple[Any, ...]:
            return (f(clipped(Wi @ Xt + Ri @ Ht + Wbi + Rbi, clip)),)

        return step

    steps = [step_of(d, functions[d]) for d in range(directions)]
    states = [(initial_h, hidden_size)]
    return recurrence(X, sequence_lens, states, steps, direction=direction, layout=layout)
