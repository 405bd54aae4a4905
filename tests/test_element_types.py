"""Which element types operators take: no more kinds of them than ONNX has for the operator."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
import pytest

from lightrnn.errors import GraphError
from lightrnn.graph import DTYPES, OPSET, Node, TensorType
from lightrnn.graph.check import infer
from lightrnn.ops import REGISTRY, build
from lightrnn.ops.control import Control

NAMES = {"float": "float32", "double": "float64"}
CARRIED = {"DequantizeLinear": "f"}
"""Kinds of the types that carry those that NumPy lacks: float8 and float4 in float32."""


def onnx_kinds(op: str) -> set[str]:
    """NumPy's letters for the kinds of types that ONNX allows for an operator's first input."""
    schema = onnx.defs.get_schema(op, OPSET)
    first = schema.inputs[0]
    allowed = {first.type_str}
    for constraint in schema.type_constraints:
        if constraint.type_param_str == first.type_str:
            allowed = set(constraint.allowed_type_strs)
    names = (t.removeprefix("tensor(").removesuffix(")") for t in allowed)
    return {DTYPES[n].kind for n in (NAMES.get(n, n) for n in names) if n in DTYPES}


def operators() -> Iterator[str]:
    for op in REGISTRY:
        holds_graphs = issubclass(REGISTRY[op], Control)
        if onnx.defs.has(op) and onnx.defs.get_schema(op, OPSET).inputs and not holds_graphs:
            yield op


@pytest.mark.parametrize("op", list(operators()))
def test_kinds_of_the_first_input_are_those_of_onnx(op: str) -> None:
    kinds = REGISTRY[op].kinds
    assert set(kinds) <= set("biuf")
    if kinds != "biuf":  # else the operator itself checks, if it must
        assert set(kinds) == onnx_kinds(op) | set(CARRIED.get(op, ""))
    rng = np.random.default_rng(0)
    case = next(iter(REGISTRY[op].cases(rng)))
    outputs = ("y",) * max(REGISTRY[op].outputs.required, 1)
    node = Node(op, tuple("x" * (a is not None) for a in case.inputs), outputs, case.attrs, "it")
    for dtype in DTYPES.values():
        if dtype.kind in onnx_kinds(op) | set(CARRIED.get(op, "")):
            continue
        first = case.inputs[0]
        same = [
            None
            if a is None
            else TensorType(
                dtype if first is not None and a.dtype == first.dtype else a.dtype, a.shape
            )
            for a in case.inputs
        ]
        with pytest.raises(GraphError, match=f"{op} node 'it'"):
            infer(node, build(node), same)
