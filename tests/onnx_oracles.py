"""What others compute for an operator's case: onnxruntime, else onnx's reference evaluator."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import onnxruntime
from onnx import helper
from onnx.reference import ReferenceEvaluator

from lightrnn.graph import OPSET, OPSETS, Array
from lightrnn.ops import Case

_IR_VERSION = 12


class RefusedError(Exception):
    """An oracle does not compute this case."""


def _value(name: str, dtype: np.dtype[np.generic], rank: int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(
        name, helper.np_dtype_to_tensor_dtype(dtype), [None] * rank
    )


def model_of(
    name: str, case: Case, expected: Sequence[Array], opset: int = OPSET
) -> onnx.ModelProto:
    """A model of one node whose inputs are the case's, and whose outputs have the given types."""
    inputs = [f"in{k}" if a is not None else "" for k, a in enumerate(case.inputs)]
    outputs = [f"out{k}" for k in range(len(expected))]
    node = helper.make_node(name, inputs, outputs, **dict(case.attrs))
    graph = helper.make_graph(
        [node],
        "case",
        [
            _value(n, a.dtype, a.ndim)
            for n, a in zip(inputs, case.inputs, strict=True)
            if a is not None
        ],
        [_value(n, a.dtype, a.ndim) for n, a in zip(outputs, expected, strict=True)],
    )
    imports = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=imports, ir_version=_IR_VERSION)


def _feeds(case: Case) -> dict[str, Array]:
    return {f"in{k}": a for k, a in enumerate(case.inputs) if a is not None}


def onnxruntime_says(name: str, case: Case, expected: Sequence[Array]) -> list[Array]:
    """onnxruntime's outputs, unoptimised. Raises RefusedError where it has no kernel."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    state = onnxruntime.capi.onnxruntime_pybind11_state
    refusals = (state.NotImplemented, state.InvalidGraph, state.Fail, state.InvalidArgument,
                state.RuntimeException)  # fmt: skip
    # It has kernels for the older versions of some operators only, which mean the same.
    opset = OPSETS[0] if onnx.defs.has(name, OPSETS[0]) else OPSET
    try:
        data = model_of(name, case, expected, opset).SerializeToString()
        session = onnxruntime.InferenceSession(data, options, ["CPUExecutionProvider"])
        found: list[Array] = session.run(None, _feeds(case))
    except refusals as error:
        raise RefusedError(f"onnxruntime: {error}") from None
    return found


def reference_says(name: str, case: Case, expected: Sequence[Array]) -> list[Array]:
    """The outputs of onnx's reference evaluator. Raises RefusedError where it fails."""
    try:
        with np.errstate(all="ignore"):
            found = ReferenceEvaluator(model_of(name, case, expected)).run(None, _feeds(case))
    except Exception as error:
        raise RefusedError(f"onnx reference: {type(error).__name__}: {error}") from None
    return [np.asarray(a) for a in found]
