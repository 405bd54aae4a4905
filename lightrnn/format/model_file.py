"""A .lrnn file as a whole: graphs, text, metadata."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np

from lightrnn.errors import FormatError
from lightrnn.format import container, limits
from lightrnn.format.schema import graph_from_json, graph_to_json
from lightrnn.graph import OPSET, OPSETS, Array, Graph

VERSION = 1
_OURS = ("format", "version", "opset", "producer", "graphs", "text", "encodings")


@dataclass(frozen=True)
class ModelFile:
    """What a .lrnn file holds.

    graphs: by name, the first is the one that runs by default; equal names of constants in
    different graphs are one tensor. text: task, tokenizer, labels, as JSON, or None. metadata: the
    user's own keys. encodings: float32 constants that are stored as "float16" or "bfloat16".
    """

    graphs: Mapping[str, Graph]
    text: Mapping[str, Any] | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    producer: str = "lightrnn"
    encodings: Mapping[str, str] = field(default_factory=dict)


def write(target: str | os.PathLike[str] | BinaryIO, model: ModelFile) -> None:
    """Write a file; under its name only when it is complete. Equal models give equal bytes."""
    tensors, metadata = _tensors(model), _metadata(model)
    if not isinstance(target, str | os.PathLike):
        container.write(target, tensors, metadata)
        return
    import tempfile

    path = os.fspath(target)
    folder, own = os.path.split(path)
    handle, name = tempfile.mkstemp(dir=folder or ".", prefix=f".{own}-")
    try:
        with os.fdopen(handle, "wb") as file:
            container.write(file, tensors, metadata)
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(name, 0o666 & ~umask)
        os.replace(name, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(name)
        raise


def dumps(model: ModelFile) -> bytes:
    """A file's bytes."""
    target = io.BytesIO()
    write(target, model)
    return target.getvalue()


def read(source: str | os.PathLike[str] | bytes | BinaryIO) -> ModelFile:
    """Read a file. A path is mapped into memory and its constants are views of it.

    Raises FormatError, naming the file; OSError where it cannot be read.
    """
    try:
        return _read(source)
    except FormatError as error:
        if isinstance(source, str | os.PathLike):
            raise FormatError(f"{os.fspath(source)}: {error}") from None
        raise


def _read(source: str | os.PathLike[str] | bytes | BinaryIO) -> ModelFile:
    stored, metadata = container.read(container.open_data(source))
    _check_identity(metadata)
    encodings = _json_object(metadata.get("encodings", "{}"), "encodings")
    tensors = {n: _decoded(n, t, encodings.get(n)) for n, t in stored.items()}
    for name in encodings:
        if name not in stored:
            raise FormatError(f"encodings name the tensor {name!r}, which the file lacks")
    graphs = _json_object(metadata["graphs"], "graphs", ordered=True)
    if not 1 <= len(graphs) <= limits.GRAPHS:
        raise FormatError(f"{len(graphs)} graphs")
    found = {n: graph_from_json(g, n, tensors) for n, g in graphs.items()}
    used = {c for graph in found.values() for c in graph.constants}
    if unused := sorted(set(stored) - used):
        raise FormatError(f"tensor {unused[0]!r} belongs to no graph")
    text = _json_object(metadata["text"], "text") if "text" in metadata else None
    own = {k: v for k, v in metadata.items() if k not in _OURS}
    return ModelFile(found, text, own, metadata.get("producer", ""), encodings)


def _check_identity(metadata: Mapping[str, str]) -> None:
    if metadata.get("format") != "lrnn":
        raise FormatError(f"format is {metadata.get('format')!r}, expected 'lrnn'")
    version = metadata.get("version", "")
    if version != str(VERSION):
        newer = version.isdecimal() and int(version[:9]) > VERSION
        raise FormatError(
            f"version {version!r} of the format, this lightrnn reads {VERSION}"
            + ("; install a newer one" if newer else "")
        )
    if metadata.get("opset") not in [str(n) for n in OPSETS]:
        raise FormatError(f"opset is {metadata.get('opset')!r}, expected {OPSETS[0]} to {OPSET}")
    if "graphs" not in metadata:
        raise FormatError("graphs are missing")


def _json_object(text: str, what: str, *, ordered: bool = False) -> dict[str, Any]:
    value = container.parse_json(text, what)
    if ordered and isinstance(value, list):
        names = [e[0] if isinstance(e, list) and len(e) == 2 else None for e in value]
        if all(isinstance(n, str) and n for n in names) and len(set(names)) == len(names):
            return dict(value)
    if ordered or not isinstance(value, dict):
        raise FormatError(f"{what} have the wrong form")
    return value


def _decoded(name: str, tensor: container.Tensor, encoding: Any) -> Array:
    if encoding is None:
        if tensor.code == "BF16":
            raise FormatError(f"tensor {name!r} is BF16 without an encoding")
        return tensor.array
    if encoding == "float16" and tensor.code == "F16":
        return tensor.array.astype(np.float32)
    if encoding == "bfloat16" and tensor.code == "BF16":
        return (tensor.array.astype(np.uint32) << 16).view(np.float32)
    raise FormatError(f"tensor {name!r} is {tensor.code} with the encoding {encoding!r}")


def _tensors(model: ModelFile) -> dict[str, container.Tensor]:
    codes = {dtype.newbyteorder("="): code for code, dtype in container.CODES.items()}
    codes[np.dtype(np.uint16)] = "U16"
    tensors: dict[str, container.Tensor] = {}
    for graph in model.graphs.values():
        for name, array in graph.constants.items():
            code = codes.get(array.dtype.newbyteorder("="))
            if code is None:
                raise FormatError(f"constant {name!r} has the dtype {array.dtype}")
            known = tensors.get(name)
            if known is not None and not _same(known.array, array):
                raise FormatError(f"two graphs have different constants named {name!r}")
            tensors[name] = container.Tensor(code, array)
    for name, encoding in model.encodings.items():
        tensors[name] = _encoded(name, tensors[name].array, encoding)
    return tensors


def _same(a: Array, b: Array) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def _encoded(name: str, array: Array, encoding: str) -> container.Tensor:
    if array.dtype == np.float32 and encoding == "float16":
        return container.Tensor("F16", array.astype(np.float16))
    if array.dtype == np.float32 and encoding == "bfloat16":
        bits = array.view(np.uint32)
        nearest = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
        quiet = np.where(np.isnan(array), (bits >> 16) | 0x40, nearest)
        return container.Tensor("BF16", quiet.astype(np.uint16))
    raise FormatError(f"constant {name!r} of {array.dtype} cannot be stored as {encoding!r}")


def _metadata(model: ModelFile) -> dict[str, str]:
    for key, value in model.metadata.items():
        if key in _OURS or not isinstance(value, str):
            raise FormatError(f"metadata {key!r} is not a free key with a string")
    graphs = [[name, graph_to_json(graph)] for name, graph in model.graphs.items()]
    metadata = {
        **model.metadata,
        "format": "lrnn",
        "version": str(VERSION),
        "opset": str(OPSET),
        "producer": model.producer,
        "graphs": container.dump_json(graphs),
    }
    if model.text is not None:
        metadata["text"] = container.dump_json(model.text)
    if model.encodings:
        metadata["encodings"] = container.dump_json(dict(model.encodings))
    return metadata
