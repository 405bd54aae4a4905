"""How `version-1.lrnn` and `version-1.npz` were made: `python -m tests.data.version_1 FOLDER`.

The file was written by lightrnn 0.1, the expected outputs were computed by onnxruntime from the
same nodes and weights. Both are kept as they are: files of that version must stay readable.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper

from lightrnn.format import ModelFile, dumps, read, write
from lightrnn.graph import FLOAT32, INT32, INT64, Array, Attr, Graph, Node, TensorType

TEXT = {
    "task": "classification",
    "tokenizer": {"kind": "characters", "characters": "abcdé日 ", "lowercase": True},
    "labels": ["one", "two", "three"],
    "ids": "ids",
    "lengths": "lengths",
    "scores": "logits",
    "scores_are": "logits",
}


def model() -> ModelFile:
    """A classifier with text, and a step with states; they share weights in three encodings."""
    rng = np.random.default_rng(1)
    shapes = {"table": (9, 3), "w": (2, 16, 3), "r": (2, 16, 4), "b": (2, 32), "out": (8, 3)}
    weights = {n: rng.uniform(-1, 1, s).astype(np.float32) for n, s in shapes.items()}
    sizes = {"first": np.array([0, -1]), "flags": np.array([True, False, True])}
    low = {"low": np.array(-9.5, np.float32)}
    classify = (
        Node("Gather", ("table", "ids"), ("rows",), {"axis": 0}, "embedding"),
        Node("Transpose", ("rows",), ("x",), {"perm": (1, 0, 2)}),
        Node(
            "LSTM",
            ("x", "w", "r", "b", "lengths"),
            ("", "last", ""),
            {"hidden_size": 4, "direction": "bidirectional", "clip": 3.0},
            "reader",
        ),
        Node("Transpose", ("last",), ("turned",), {"perm": (1, 0, 2)}),
        Node("Reshape", ("turned", "first"), ("flat",)),
        Node("MatMul", ("flat", "out"), ("raw",), {}, "head"),
        Node("Where", ("flags", "raw", "low"), ("logits",)),
    )
    main = Graph(
        {"ids": TensorType(INT64, ("N", "T")), "lengths": TensorType(INT32, ("N",))},
        {"logits": TensorType(FLOAT32, ("N", 3))},
        classify,
        {**weights, **sizes, **low},
    )
    state = TensorType(FLOAT32, (2, "N", 4))
    attrs: dict[str, Attr] = {
        "hidden_size": 4,
        "direction": "bidirectional",
        "activations": ("Sigmoid", "Tanh", "HardSigmoid") * 2,
    }
    step = Graph(
        {"x": TensorType(FLOAT32, ("T", "N", 3)), "h": state, "c": state},
        {"y": TensorType(FLOAT32, ("T", 2, "N", 4)), "h_next": state, "c_next": state},
        (Node("LSTM", ("x", "w", "r", "b", "", "h", "c"), ("y", "h_next", "c_next"), attrs),),
        {name: weights[name] for name in "wrb"},
        {"h": "h_next", "c": "c_next"},
    )
    encodings = {"table": "float16", "w": "bfloat16"}
    return ModelFile(
        {"main": main, "step": step}, TEXT, {"licence": "Apache-2.0"}, "0.1", encodings
    )


def feeds(graph: str) -> dict[str, Array]:
    """Inputs to compare with."""
    rng = np.random.default_rng(2)
    if graph == "main":
        return {"ids": rng.integers(0, 9, (3, 5)), "lengths": np.array([5, 1, 3], np.int32)}
    shapes = {"x": (4, 2, 3), "h": (2, 2, 4), "c": (2, 2, 4)}
    return {name: rng.standard_normal(s).astype(np.float32) for name, s in shapes.items()}


def by_onnxruntime(graph: Graph, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """The graph's outputs, computed from its nodes and constants by onnxruntime."""

    def infos(types: Mapping[str, TensorType]) -> list[Any]:
        return [
            helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(t.dtype), t.shape)
            for n, t in types.items()
        ]

    nodes = [helper.make_node(n.op, n.inputs, n.outputs, **n.attrs) for n in graph.nodes]
    constants = [numpy_helper.from_array(a, n) for n, a in graph.constants.items()]
    made = helper.make_graph(nodes, "g", infos(graph.inputs), infos(graph.outputs), constants)
    proto = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(proto)
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    return dict(zip(graph.outputs, session.run(None, dict(inputs)), strict=True))


def main() -> None:
    folder = Path(sys.argv[1])
    write(folder / "version-1.lrnn", model())
    arrays: dict[str, Array] = {}
    for name, graph in read(dumps(model())).graphs.items():
        inputs = feeds(name)
        found = by_onnxruntime(graph, inputs)
        arrays |= {f"{name}/in/{k}": v for k, v in inputs.items()}
        arrays |= {f"{name}/out/{k}": v for k, v in found.items()}
    np.savez(folder / "version-1.npz", **arrays)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
