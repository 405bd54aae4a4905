"""Small ONNX models, made node by node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from lightrnn.graph import Array

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
Shape = Sequence[int | str | None] | None
Types = Mapping[str, tuple[int, Shape]]

node = helper.make_node


def model(
    nodes: Sequence[Any],
    inputs: Types,
    outputs: Types | Sequence[str],
    constants: Mapping[str, Array] | None = None,
    opset: int = 18,
    domains: Mapping[str, int] | None = None,
) -> Any:
    """A ModelProto. outputs: with types, or names alone for float tensors of any shape."""
    if not isinstance(outputs, Mapping):
        outputs = dict.fromkeys(outputs, (FLOAT, None))
    graph = helper.make_graph(
        list(nodes),
        "graph",
        [helper.make_tensor_value_info(n, t, s) for n, (t, s) in inputs.items()],
        [helper.make_tensor_value_info(n, t, s) for n, (t, s) in outputs.items()],
        [numpy_helper.from_array(np.asarray(v), n) for n, v in (constants or {}).items()],
    )
    imports = [helper.make_opsetid("", opset)]
    imports += [helper.make_opsetid(d, v) for d, v in (domains or {}).items()]
    made = helper.make_model(graph, opset_imports=imports, ir_version=8)
    if all(shape is None for _, shape in outputs.values()):
        made = onnx.shape_inference.infer_shapes(made)
    return made


def branch(nodes: Sequence[Any], output: str) -> Any:
    """A subgraph without inputs."""
    return helper.make_graph(
        list(nodes), output, [], [helper.make_tensor_value_info(output, FLOAT, None)]
    )


def run(proto: Any, feeds: Mapping[str, Array]) -> list[Array]:
    """What onnxruntime makes of a model."""
    import onnxruntime

    for output in proto.graph.output:
        output.type.tensor_type.ClearField("shape")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    results: list[Array] = session.run(None, dict(feeds))
    return results
