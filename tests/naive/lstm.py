"""LSTM, from ONNX's text (opset 22), with a projection of the hidden state as torch has it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tests.naive import Array
from tests.naive.activations import Function, clipped
from tests.naive.activations import activations as parse
from tests.naive.recurrence import Step, float64, recurrence, zeros_if_none


def lstm(
    X: Array,
    W: Array,
    R: Array,
    B: Array | None = None,
    sequence_lens: Array | None = None,
    initial_h: Array | None = None,
    initial_c: Array | None = None,
    P: Array | None = None,
    projection: Array | None = None,
    *,
    hidden_size: int,
    activation_alpha: Sequence[float] = (),
    activation_beta: Sequence[float] = (),
    activations: Sequence[str] | None = None,
    clip: float | None = None,
    direction: str = "forward",
    layout: int = 0,
    input_forget: int = 0,
) -> tuple[Array, ...]:
    """Y, Y_h, Y_c.

    projection: [D, S, H], torch.nn.LSTM's weight_hr: h is projected before anything else sees it.

    The clip bounds what gates give their activations; the cell's state goes into h as it is, as in
    onnxruntime and OpenVINO (ONNX's text, "applied to the input of activations", leaves it open).
    """
    directions = 2 if direction == "bidirectional" else 1
    names = activations or ["Sigmoid", "Tanh", "Tanh"] * directions
    functions = parse(names, activation_alpha, activation_beta)
    W, R, projection = float64(W), float64(R), float64(projection)
    B = zeros_if_none(B, directions, 8 * hidden_size)
    P = zeros_if_none(P, directions, 3 * hidden_size)

    def step_of(d: int, f: Function, g: Function, h: Function) -> Step:
        Wi, Wo, Wf, Wc = np.split(W[d], 4)
        Ri, Ro, Rf, Rc = np.split(R[d], 4)
        Wbi, Wbo, Wbf, Wbc, Rbi, Rbo, Rbf, Rbc = np.split(B[d], 8)
        Pi, Po, Pf = np.split(P[d], 3)

        def step(Xt: Any, H: Any, C: Any) -> tuple[Any, ...]:
            it = f(clipped(Wi @ Xt + Ri @ H + Pi * C + Wbi + Rbi, clip))
            ft = f(clipped(Wf @ Xt + Rf @ H + Pf * C + Wbf + Rbf, clip))
            if input_forget:
                ft = 1 - it
            ct = g(clipped(Wc @ Xt + Rc @ H + Wbc + Rbc, clip))
            Ct = ft * C + it * ct
            ot = f(clipped(Wo @ Xt + Ro @ H + Po * Ct + Wbo + Rbo, clip))
            Ht = ot * h(Ct)
            return (Ht if projection is None else projection[d] @ Ht, Ct)

        return step

    steps = [step_of(d, *functions[3 * d : 3 * d + 3]) for d in range(directions)]
    size = hidden_size if projection is None else projection.shape[1]
    states = [(initial_h, size), (initial_c, hidden_size)]
    return recurrence(X, sequence_lens, states, steps, direction=direction, layout=layout)
