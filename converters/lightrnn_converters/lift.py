"""Bring a model to the opset that lightrnn's operators mean, with its functions inlined."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lightrnn.errors import ConversionError
from lightrnn.graph import OPSET
from lightrnn.ops import REGISTRY
from lightrnn_converters.optional import require

OLDEST = 7
"""The oldest opset that is converted; earlier ones broadcast by attributes."""

READ = frozenset({
    "Constant", "ConstantOfShape", "Identity", "Dropout", "If", "Loop", "Scan", "SplitToSequence",
    "SequenceConstruct", "SequenceAt", "SequenceLength", "ConcatFromSequence", "SequenceEmpty",
    "SequenceInsert",
})  # fmt: skip
"""Operators that the reader knows itself."""


def lift(model: Any) -> Any:
    """The model at opset `OPSET`, without functions.

    Operators that lightrnn lacks and that ONNX defines by others are written out.
    Raises ConversionError where onnx cannot do it.
    """
    require("onnx")
    from onnx import inliner, version_converter

    opset = _default_opset(model)
    if not opset >= OLDEST:
        raise ConversionError(f"the model has opset {opset}, expected {OLDEST} to {OPSET}")
    if opset > OPSET:
        raise ConversionError(f"the model has opset {opset}, newer than {OPSET}")
    try:
        if len(model.functions):
            model = inliner.inline_local_functions(model, convert_version=True)
        if opset != OPSET:
            model = version_converter.convert_version(model, OPSET)
    except (RuntimeError, ValueError, IndexError) as error:
        first = str(error).strip().splitlines()[0]
        raise ConversionError(f"opset {opset} cannot be lifted to {OPSET}: {first}") from None
    return _write_out(model)


def _write_out(model: Any) -> Any:
    """The model with operators that lightrnn lacks as ONNX defines them, where it does."""
    from onnx import inliner, shape_inference

    missing = sorted(_operators(model.graph) - set(REGISTRY) - READ)
    if not missing:
        return model
    _give_defaults(model.graph, missing)
    try:
        typed = shape_inference.infer_shapes(model)
        typed.graph.value_info.extend(_value_info(i) for i in typed.graph.initializer)
        pairs = [("", op) for op in missing]
        return inliner.inline_selected_functions(typed, pairs, inline_schema_functions=True)
    except (RuntimeError, ValueError):
        return model  # the reader names these operators


def _give_defaults(graph: Any, operators: Sequence[str]) -> None:
    """Write down attributes left at their defaults, which the inliner does not know."""
    from onnx import defs

    for node in graph.node:
        if node.domain in ("", "ai.onnx") and node.op_type in operators:
            given = {a.name for a in node.attribute}
            for name, attribute in defs.get_schema(node.op_type, OPSET).attributes.items():
                if attribute.default_value.name and name not in given:
                    node.attribute.append(attribute.default_value)


def _value_info(tensor: Any) -> Any:
    """The inliner looks up types here alone."""
    from onnx import helper

    return helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))


def _default_opset(model: Any) -> int:
    versions = [o.version for o in model.opset_import if o.domain in ("", "ai.onnx")]
    if not versions:
        raise ConversionError("the model imports no opset of the default domain")
    return int(versions[0])


def _operators(graph: Any) -> set[str]:
    """Operators of the default domain, those of subgraphs included."""
    found = set()
    for node in graph.node:
        if node.domain in ("", "ai.onnx"):
            found.add(node.op_type)
        for attribute in node.attribute:
            if attribute.HasField("g"):
                found |= _operators(attribute.g)
    return found
