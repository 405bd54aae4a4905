"""Load ONNX models: from a path, bytes or a ModelProto, external data included."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

from lightrnn.errors import ConversionError
from lightrnn_converters.optional import first_line, require

Source: TypeAlias = str | os.PathLike[str] | bytes | Any
"""A path to an .onnx file, its bytes, or an onnx.ModelProto."""

_ADVICE = {
    ".pt": "a torch checkpoint: load it in Python and call lightrnn_converters.convert_torch",
    ".pth": "a torch checkpoint: load it in Python and call lightrnn_converters.convert_torch",
    ".torchscript": "TorchScript: call lightrnn_converters.convert_torch on the module itself",
    ".pt2": "an exported torch program: call lightrnn_converters.convert_pt2",
    ".h5": "a Keras model: export it to ONNX first",
}


def load(source: Source) -> Any:
    """The model, checked by onnx. Raises ConversionError, or OSError where it cannot be read."""
    onnx = require("onnx")
    model, folder = _parse(onnx, source)
    _load_external(onnx, model, folder)
    for output in model.graph.output:
        if output.type.WhichOneof("value") in (None, "tensor_type"):
            output.type.tensor_type.shape.SetInParent()
    try:
        onnx.checker.check_model(_with_ranks(model))
    except Exception as error:  # onnx's C++ raises classes of several modules
        raise ConversionError(
            f"{describe(source)} is not a valid ONNX model: {first_line(error)}"
        ) from None
    return model


def _with_ranks(model: Any) -> Any:
    """The model as onnx's checker wants it: inputs of any rank, which runtimes take, have one."""
    kinds = [i.type.tensor_type for i in model.graph.input if i.type.HasField("tensor_type")]
    if all(kind.HasField("shape") for kind in kinds):
        return model
    copy = type(model)()
    copy.CopyFrom(model)
    for value in copy.graph.input:
        if value.type.HasField("tensor_type"):
            value.type.tensor_type.shape.SetInParent()
    return copy


def describe(source: Source) -> str:
    """What to call a source in messages."""
    return repr(os.fspath(source)) if isinstance(source, str | os.PathLike) else "the model"


def _parse(onnx: Any, source: Source) -> tuple[Any, Path | None]:
    if isinstance(source, onnx.ModelProto):
        model = onnx.ModelProto()
        model.CopyFrom(source)
        return model, None
    if not isinstance(source, str | os.PathLike | bytes):
        raise ConversionError(f"cannot convert a {type(source).__name__}, expected a path to .onnx")
    folder = None
    data = source if isinstance(source, bytes) else b""
    if not isinstance(source, bytes):
        path = Path(source)
        if path.suffix in _ADVICE:
            raise ConversionError(f"{describe(source)} is {_ADVICE[path.suffix]}")
        folder, data = path.parent, path.read_bytes()
    try:
        return onnx.load_model_from_string(data), folder
    except Exception as error:  # protobuf raises a class of its own that is not public
        raise ConversionError(f"{describe(source)} is not an ONNX file: {error}") from None


def _load_external(onnx: Any, model: Any, folder: Path | None) -> None:
    for tensor in _tensors(onnx, model):
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        entries = {e.key: e.value for e in tensor.external_data}
        try:
            tensor.raw_data = _read(entries, folder)
        except (ValueError, OSError) as error:
            raise ConversionError(f"external data of tensor {tensor.name!r}: {error}") from None
        tensor.data_location = onnx.TensorProto.DEFAULT
        del tensor.external_data[:]


def _read(entries: dict[str, str], folder: Path | None) -> bytes:
    """The bytes that external_data points to, which must lie in a plain file below `folder`."""
    location = entries.get("location", "")
    if folder is None:
        raise ValueError(f"{location!r} can only be read beside a model that is given by its path")
    parts = location.replace("\\", "/").split("/")
    if not location or ".." in parts or Path(location).is_absolute() or ":" in parts[0]:
        raise ValueError(f"{location!r} does not lie beside the model")
    path = folder
    for part in parts:
        path = path / part
        if path.is_symlink():
            raise ValueError(f"{location!r} is a link")
    offset, size = int(entries.get("offset", 0)), path.stat().st_size
    length = int(entries.get("length", size - offset))
    if offset < 0 or length < 0 or offset + length > size:
        raise ValueError(f"bytes {offset} to {offset + length} of {location!r}, which has {size}")
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(length)


def _tensors(onnx: Any, model: Any) -> Iterator[Any]:
    yield from _graph_tensors(onnx, model.graph)
    for function in model.functions:
        yield from _node_tensors(onnx, function.node)


def _graph_tensors(onnx: Any, graph: Any) -> Iterator[Any]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _node_tensors(onnx, graph.node)


def _node_tensors(onnx: Any, nodes: Any) -> Iterator[Any]:
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            for graph in [*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])]:
                yield from _graph_tensors(onnx, graph)
