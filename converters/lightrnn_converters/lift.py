"""Bring a model to the opset that lightrnn's operators mean, with its functions inlined."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lightrnn.errors import ConversionError
from lightrnn.graph import OPSET
from lightrnn.ops import REGISTRY
from lightrnn_converters.optional import first_line, require

OLDEST = 7
"""The oldest opset that is converted; operators of earlier ones broadcast by attributes."""

READ = frozenset({
    "Constant", "ConstantOfShape", "Identity", "Dropout", "If", "Loop", "Scan", "SplitToSequence",
    "SequenceConstruct", "SequenceAt", "SequenceLength", "ConcatFromSequence", "SequenceEmpty",
    "SequenceInsert",
})  # fmt: skip
"""Operators that the reader knows itself."""


def lift(model: Any) -> Any:
    """The model at opset `OPSET`, or at the newest that the onnx package has, without functions.

    Since opset 24 operators have gained types and attributes, never another meaning, so it makes
    no difference which of the two it is. Operators that lightrnn lacks and that ONNX defines by
    others are written out. Raises ConversionError where onnx cannot do it.
    """
    onnx = require("onnx")
    from onnx import inliner, version_converter

    opset = _default_opset(model)
    _refuse_old_scans(model, opset)
    if opset > OPSET:
        raise ConversionError(f"the model has opset {opset}, newer than {OPSET}")
    target = max(opset, min(OPSET, onnx.defs.onnx_opset_version()))
    try:
        if len(model.functions):
            model = inliner.inline_local_functions(model, convert_version=True)
        if _is_unchanged(model, opset, target):
            model = _renumbered(model, target)
        elif opset < OLDEST:
            raise ConversionError(f"the model has opset {opset}, expected {OLDEST} to {OPSET}")
        else:
            model = version_converter.convert_version(model, target)
    except ConversionError:
        raise
    except Exception as error:  # onnx's C++ raises classes of several modules
        first = first_line(error)
        raise ConversionError(f"opset {opset} cannot be lifted to {target}: {first}") from None
    return _write_out(model)


def _refuse_old_scans(model: Any, opset: int) -> None:
    """Raise ConversionError for a Scan over batches, which onnx passes on as one without."""
    for node in _nodes(model.graph):
        if opset < 9 and node.op_type == "Scan":
            raise ConversionError(
                f"Scan node {node.name or node.output[0]!r}: control flow of opset {opset} "
                "is not supported, expected opset 9 or later: export the model again"
            )


def _is_unchanged(model: Any, opset: int, target: int) -> bool:
    """Whether every operator of the model is the same at both opsets."""
    from onnx import defs

    return all(
        defs.has(op, target)
        and defs.has(op, opset)
        and defs.get_schema(op, opset).since_version == defs.get_schema(op, target).since_version
        for op in {node.op_type for node in _nodes(model.graph)}
    )


def _renumbered(model: Any, opset: int) -> Any:
    copy = type(model)()
    copy.CopyFrom(model)
    for one in copy.opset_import:
        if one.domain in ("", "ai.onnx"):
            one.version = opset
    return copy


def _write_out(model: Any) -> Any:
    """The model with operators that lightrnn lacks as ONNX defines them, where it does.

    One operator at a time, since a definition may hold others.
    """
    undefined: set[str] = set()
    while missing := _missing(model) - undefined:
        op = min(missing)
        written = _without(model, op)
        if written is None:
            undefined.add(op)
        else:
            model = written
    return model


def _missing(model: Any) -> set[str]:
    return {node.op_type for node in _nodes(model.graph)} - set(REGISTRY) - READ


def _without(model: Any, op: str) -> Any | None:
    """The model with all nodes of an operator written out; None where ONNX cannot do it."""
    from onnx import defs, inliner, shape_inference

    if not defs.has(op):
        return None  # the reader names this operator, as those below
    try:
        typed = shape_inference.infer_shapes(model)
        typed.graph.value_info.extend(_value_info(i) for i in typed.graph.initializer)
        _fill_in_defaults(typed, op)
        written = inliner.inline_selected_functions(typed, [("", op)], inline_schema_functions=True)
    except Exception:  # as above; the reader names the operator
        return None
    return None if op in _missing(written) else written


def _fill_in_defaults(model: Any, op: str) -> None:
    """Give the nodes of an operator every attribute: the inliner knows no defaults."""
    from onnx import defs

    schema = defs.get_schema(op, _default_opset(model))
    for node in _nodes(model.graph):
        if node.op_type == op:
            given = {a.name for a in node.attribute}
            node.attribute.extend(
                spec.default_value
                for name, spec in schema.attributes.items()
                if name not in given and spec.default_value.name
            )


def _value_info(tensor: Any) -> Any:
    """The inliner looks up types here alone."""
    from onnx import helper

    return helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))


def _default_opset(model: Any) -> int:
    """The opset of the default domain; `OPSET` if the model has no operators of it."""
    versions = [o.version for o in model.opset_import if o.domain in ("", "ai.onnx")]
    return int(versions[0]) if versions else OPSET


def _nodes(graph: Any) -> Iterator[Any]:
    """Nodes of the default domain, those of subgraphs included."""
    for node in graph.node:
        if node.domain in ("", "ai.onnx"):
            yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _nodes(attribute.g)
