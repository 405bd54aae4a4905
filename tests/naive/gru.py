"""GRU, from ONNX's text (opset 22)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tests.naive import Array
from tests.naive.activations import Function, clipped
from tests.naive.activations import activations as parse
from tests.naive.recurrence import Step, float64, recurrence, zeros_if_none


def gru(
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
    linear_before_reset: int = 0,
) -> tuple[Array, ...]:
    """Y, Y_h."""
    directions = 2 if direction == "bidirectional" else 1
    names = activations or ["Sigmoid", "Tanh"] * directions
    functions = parse(names, activation_alpha, activation_beta)
    W, R = float64(W), float64(R)
    B = zeros_if_none(B, directions, 6 * hidden_size)

    def step_of(d: int, f: Function, g: Function) -> Step:
        Wz, Wr, Wh = np.split(W[d], 3)
        Rz, Rr, Rh = np.split(R[d], 3)
        Wbz, Wbr, Wbh, Rbz, Rbr, Rbh = np.split(B[d], 6)

        def step(Xt: Any, H: Any) -> tuple[Any, ...]:
            zt = f(clipped(Wz @ Xt + Rz @ H + Wbz + Rbz, clip))
            rt = f(clipped(Wr @ Xt + Rr @ H + Wbr + Rbr, clip))
            if linear_before_reset:
                ht = g(clipped(Wh @ Xt + rt * (Rh @ H + Rbh) + Wbh, clip))
            else:
                ht = g(clipped(Wh @ Xt + Rh @ (rt * H) + Rbh + Wbh, clip))
            return ((1 - zt) * ht + zt * H,)

        return step

    steps = [step_of(d, *functions[2 * d : 2 * d + 2]) for d in range(directions)]
    states = [(initial_h, hidden_size)]
    return recurrence(X, sequence_lens, states, steps, direction=direction, layout=layout)
