"""A .lrnn file as a whole: graphs, text, metadata."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, BinaryIO

import numpy as np

from lightrnn.errors import FormatError
from lightrnn.format import container, encodings, limits
from lightrnn.format.schema import checked_name, graph_from_json, graph_to_json
from lightrnn.graph import OPSET, OPSETS, Array, Graph
from lightrnn.record import EMPTY, Record

VERSION = 1
_OURS = ("format", "version", "opset", "producer", "graphs", "text", "encodings")


class ModelFile(Record):
    """What a .lrnn file holds.

    graphs: by name, the first is the one that runs by default; equal names of constants in
    different graphs are one tensor. text: task, tokenizer, labels, as JSON, or None. metadata: the
    user's own keys. encodings: float32 constants that are stored otherwise, and how (see
    lightrnn.format.encodings).
    """

    graphs: Mapping[str, Graph]
    text: Mapping[str, Any] | None = None
    metadata: Mapping[str, str] = EMPTY
    producer: str = "lightrnn"
    encodings: Mapping[str, str] = EMPTY


def write(target: str | os.PathLike[str] | BinaryIO, model: ModelFile) -> None:
    """Write a file; under its name only when it is complete. Equal models give equal bytes.

    Raises FormatError for what `read` would refuse; OSError where the file cannot be written.
    """
    tensors, metadata = _tensors(model), _metadata(model)
    if not isinstance(target, str | os.PathLike):
        container.write(target, tensors, metadata)
        return
    path = os.fspath(target)
    temporary = os.path.join(os.path.dirname(path), f".lrnn-{os.urandom(8).hex()}")
    try:
        with open(temporary, "xb") as file:
            container.write(file, tensors, metadata)
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
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
    encoded = _object(metadata.get("encodings", "{}"), "encodings")
    encodings.check(encoded, stored)
    beside = set(encodings.beside(encoded))
    tensors = {n: encodings.decoded(n, encoded.get(n), stored) for n in stored if n not in beside}
    graphs = _graphs(metadata["graphs"], tensors)
    used = {c for graph in every_graph(graphs) for c in graph.constants}
    if unused := sorted(set(tensors) - used):
        raise FormatError(f"tensor {unused[0]!r} belongs to no graph")
    text = _object(metadata["text"], "text") if "text" in metadata else None
    own = {k: v for k, v in metadata.items() if k not in _OURS}
    return ModelFile(graphs, text, own, metadata.get("producer", ""), encoded)


def every_graph(graphs: Mapping[str, Graph]) -> Iterator[Graph]:
    """The graphs of a file and all that their nodes hold."""
    for graph in graphs.values():
        yield from graph.walk()


def _check_identity(metadata: Mapping[str, str]) -> None:
    for key in ("format", "version", "opset", "graphs"):
        if key not in metadata:
            raise FormatError(f"{container.METADATA} lacks {key!r}")
    if metadata["format"] != "lrnn":
        raise FormatError(f"format is {container.shown(metadata['format'])}, expected 'lrnn'")
    version, opset = metadata["version"], metadata["opset"]
    if version != str(VERSION):
        newer = version.isdecimal() and int(version[:9]) > VERSION
        raise FormatError(
            f"version of the format is {container.shown(version)}, this lightrnn reads {VERSION}"
            + ("; install a newer one" if newer else "")
        )
    if opset not in map(str, OPSETS):
        raise FormatError(
            f"opset is {container.shown(opset)}, this lightrnn reads {OPSETS[0]} to {OPSETS[-1]}"
        )


def _object(text: str, what: str) -> dict[str, Any]:
    value = container.parse_json(text, what)
    if not isinstance(value, dict):
        raise FormatError(f"{what} is not an object")
    return value


def _graphs(text: str, tensors: Mapping[str, Array]) -> dict[str, Graph]:
    """Graphs by name, in the order of the list of [name, graph] that the file holds."""
    pairs = container.parse_json(text, "graphs")
    if not isinstance(pairs, list) or not all(isinstance(p, list) and len(p) == 2 for p in pairs):
        raise FormatError("graphs is not a list of [name, graph]")
    if not 1 <= len(pairs) <= limits.GRAPHS:
        raise FormatError(f"the file has {len(pairs)} graphs, expected 1 to {limits.GRAPHS}")
    graphs: dict[str, Graph] = {}
    for name, value in pairs:
        if checked_name(name, "a graph") in graphs:
            raise FormatError(f"two graphs have the name {name!r}")
        graphs[name] = graph_from_json(value, name, tensors)
    return graphs


def _tensors(model: ModelFile) -> dict[str, container.Tensor]:
    codes = {dtype.newbyteorder("="): code for code, dtype in container.CODES.items()}
    codes[np.dtype(np.uint16)] = "U16"
    tensors: dict[str, container.Tensor] = {}
    for graph in every_graph(model.graphs):
        for name, array in graph.constants.items():
            code = codes.get(array.dtype.newbyteorder("="))
            if code is None:
                raise FormatError(f"constant {name!r} has the dtype {array.dtype}")
            known = tensors.get(name)
            if known is not None and not _same(known.array, array):
                raise FormatError(f"two graphs have different constants named {name!r}")
            tensors[name] = container.Tensor(code, array)
    for name, encoding in model.encodings.items():
        if name not in tensors:
            raise FormatError(f"encodings name the constant {name!r}, which no graph has")
        more = encodings.encoded(name, tensors[name].array, encoding)
        if clash := next((n for n in more if n != name and n in tensors), None):
            raise FormatError(f"a constant has the name {clash!r}, which {name!r} needs")
        tensors.update(more)
    return tensors


def _same(a: Array, b: Array) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


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
        "graphs": container.dump_json(graphs, "graphs"),
    }
    if model.text is not None:
        metadata["text"] = container.dump_json(dict(model.text), "text")
    if model.encodings:
        metadata["encodings"] = container.dump_json(dict(model.encodings), "encodings")
    constants = {n: a for graph in every_graph(model.graphs) for n, a in graph.constants.items()}
    _graphs(metadata["graphs"], constants)
    return metadata
