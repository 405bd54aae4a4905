"""What RNN, GRU and LSTM share: directions, rows of a batch, lengths, states, layout."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tests.naive import Array

Step = Callable[..., tuple[Any, ...]]
"""One step of one row: x [I] and the states before it, to the states after it."""


def float64(array: Array | None) -> Any:
    """The array in float64; None stays None."""
    return None if array is None else np.asarray(array, np.float64)


def recurrence(
    X: Array,
    sequence_lens: Array | None,
    states: Sequence[tuple[Array | None, int]],
    steps: Sequence[Step],
    *,
    direction: str,
    layout: int,
) -> tuple[Array, ...]:
    """Y and the states at the end.

    states: initial values, or None for zeros, and sizes; the first state is what Y shows.
    steps: the step function of each direction.

    A row of length 0 has no step: its states stay what they were, its Y is zero, as is Y past the
    end of every row. Going backward a row begins at its own last step.
    """
    x = float64(X)
    if layout:
        x = x.swapaxes(0, 1)
    time, batch = x.shape[:2]
    directions = len(steps)
    y = np.zeros((time, directions, batch, states[0][1]))
    finals = [np.zeros((directions, batch, size)) for _, size in states]
    for final, (initial, _) in zip(finals, states, strict=True):
        if initial is not None:
            final[:] = float64(initial).swapaxes(0, 1) if layout else initial
    for d in range(directions):
        backward = direction == "reverse" or d == 1
        for n in range(batch):
            state = tuple(final[d, n] for final in finals)
            times = range(time if sequence_lens is None else int(sequence_lens[n]))
            for t in reversed(times) if backward else times:
                state = steps[d](x[t, n], *state)
                y[t, d, n] = state[0]
            for final, value in zip(finals, state, strict=True):
                final[d, n] = value
    if layout:
        return y.transpose(2, 0, 1, 3), *(final.swapaxes(0, 1) for final in finals)
    return (y, *finals)


def zeros_if_none(array: Array | None, *shape: int) -> Any:
    """The array in float64, zeros where it is left out."""
    return np.zeros(shape) if array is None else float64(array)
