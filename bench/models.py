"""Models to measure, as ONNX files that every engine reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from lightrnn.graph import OPSET, Array, Graph

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}


def weights_of(op: str, hidden: int, directions: int = 1, seed: int = 0) -> dict[str, Array]:
    """W, R and B of a layer whose input is as wide as its state, uniform within 1/√hidden."""
    rng = np.random.default_rng(seed)
    bound, rows = hidden**-0.5, GATES[op] * hidden
    shapes = {"W": (rows, hidden), "R": (rows, hidden), "B": (2 * rows,)}
    return {
        name: rng.uniform(-bound, bound, (directions, *shape)).astype(np.float32)
        for name, shape in shapes.items()
    }


def layer_onnx(
    op: str, hidden: int, *, directions: int = 1, states: bool = False, seed: int = 0
) -> bytes:
    """One RNN, GRU (linear_before_reset, as torch's) or LSTM layer.

    Input x [T, N, hidden], output y [T, directions, N, hidden]; with `states` also h (and c of an
    LSTM) and their outputs.
    """
    kept = ["h", "c"][: 1 + (op == "LSTM")] if states else []
    inputs = ["x", "W", "R", "B", *(["", *kept] if states else [])]
    outputs = ["y", *(f"{name}_out" for name in kept)]
    state: list[int | str] = [directions, "N", hidden]
    attrs: dict[str, Any] = {"hidden_size": hidden}
    if directions == 2:
        attrs["direction"] = "bidirectional"
    if op == "GRU":
        attrs["linear_before_reset"] = 1
    graph = helper.make_graph(
        [helper.make_node(op, inputs, outputs, **attrs)],
        op.lower(),
        [_value("x", ["T", "N", hidden]), *(_value(n, state) for n in kept)],
        [_value("y", ["T", directions, "N", hidden]), *(_value(n, state) for n in outputs[1:])],
        [
            numpy_helper.from_array(v, n)
            for n, v in weights_of(op, hidden, directions, seed).items()
        ],
    )
    return _saved(graph, 17)


def lstm_onnx(hidden: int, *, states: bool = False, seed: int = 0) -> bytes:
    """One LSTM layer, as `layer_onnx` makes it."""
    return layer_onnx("LSTM", hidden, states=states, seed=seed)


def as_onnx(graph: Graph) -> bytes:
    """A graph of a .lrnn file as the ONNX model that it is."""
    nodes = [
        helper.make_node(n.op, n.inputs, n.outputs, name=n.origin, **dict(n.attrs))
        for n in graph.nodes
    ]
    constants = [numpy_helper.from_array(np.asarray(v, order="C"), n)
                 for n, v in graph.constants.items()]  # fmt: skip
    return _saved(
        helper.make_graph(nodes, "graph", _values(graph.inputs), _values(graph.outputs), constants),
        OPSET,
    )


def _values(types: Mapping[str, Any]) -> list[onnx.ValueInfoProto]:
    return [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(t.dtype), t.shape)
        for n, t in types.items()
    ]


def _value(name: str, shape: list[int | str]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def _saved(graph: onnx.GraphProto, opset: int) -> bytes:
    imports = [helper.make_opsetid("", opset)]
    ir_version = helper.find_min_ir_version_for(imports)
    model = helper.make_model(graph, opset_imports=imports, ir_version=ir_version)
    return bytes(model.SerializeToString())
