"""Layers of real size in float32 are no further from float64 than onnxruntime's.

By the root mean square of the errors of a whole sequence, but for a twentieth. The largest error is
one element's luck, as often onnxruntime's as ours; it may be half as large again.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lightrnn.graph import Array
from lightrnn.ops import Case
from tests.onnx_oracles import onnxruntime_says
from tests.recurrent_cases import GATES, Layer
from tests.test_engine import executor, prepared

STEPS, BATCH = 60, 2
LAYERS: dict[str, tuple[str, dict[str, Any]]] = {
    "RNN": ("RNN", {}),
    "RNN relu": ("RNN", {"activations": ("Relu",)}),
    "GRU": ("GRU", {}),
    "GRU torch": ("GRU", {"linear_before_reset": 1}),
    "LSTM": ("LSTM", {}),
}


def layer(op: str, hidden: int, **attrs: Any) -> Layer:
    """Weights within 1 / sqrt(hidden), as torch begins, and normal inputs."""
    rng = np.random.default_rng(hidden)
    rows = GATES[op] * hidden

    def uniform(*shape: int) -> Array:
        return rng.uniform(-(hidden**-0.5), hidden**-0.5, shape).astype(np.float32)

    inputs = {
        "X": rng.standard_normal((STEPS, BATCH, hidden)).astype(np.float32),
        "W": uniform(1, rows, hidden),
        "R": uniform(1, rows, hidden),
        "B": uniform(1, 2 * rows),
    }
    return Layer(hidden, op, inputs, {"hidden_size": hidden, **attrs}, ("Y",))


@pytest.mark.native
@pytest.mark.parametrize("hidden", [64, 128, 192, 256])
@pytest.mark.parametrize("kind", LAYERS)
def test_float32_is_no_further_from_float64_than_onnxruntime(kind: str, hidden: int) -> None:
    op, attrs = LAYERS[kind]
    found = layer(op, hidden, **attrs)
    exact = found.expected["Y"]
    plan = prepared(found.graph).plan((found.inputs["X"].shape,))
    ours = executor(1).run(plan, found.feeds)[0] - exact
    case = Case("", found.values, found.attrs)
    theirs = onnxruntime_says(op, case, [exact.astype(np.float32)])[0] - exact
    rms, their_rms = float(np.sqrt(np.mean(ours**2))), float(np.sqrt(np.mean(theirs**2)))
    most, their_most = float(np.abs(ours).max()), float(np.abs(theirs).max())
    assert rms <= 1.05 * their_rms
    assert most <= 1.5 * their_most
