"""Models to measure, as ONNX files that every engine reads."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def lstm_onnx(hidden: int, *, states: bool = False, seed: int = 0) -> bytes:
    """One LSTM layer, input size = hidden size, uniform weights within 1/√hidden.

    Input x [T, N, hidden], output y [T, 1, N, hidden]; with `states` also h, c and their outputs.
    """
    rng = np.random.default_rng(seed)
    bound = hidden**-0.5

    def weights(name: str, *shape: int) -> onnx.TensorProto:
        values = rng.uniform(-bound, bound, shape).astype(np.float32)
        return numpy_helper.from_array(values, name)

    def value(name: str, shape: list[int | str]) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    inputs = ["x", "W", "R", "B"] + (["", "h", "c"] if states else [])
    outputs = ["y", "h_out", "c_out"] if states else ["y"]
    state: list[int | str] = [1, "N", hidden]
    graph = helper.make_graph(
        [helper.make_node("LSTM", inputs, outputs, hidden_size=hidden)],
        "lstm",
        [value("x", ["T", "N", hidden]), *(value(n, state) for n in "hc" if states)],
        [value("y", ["T", 1, "N", hidden]), *(value(n, state) for n in outputs[1:])],
        [
            weights("W", 1, 4 * hidden, hidden),
            weights("R", 1, 4 * hidden, hidden),
            weights("B", 1, 8 * hidden),
        ],
    )
    opsets = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    return bytes(model.SerializeToString())
