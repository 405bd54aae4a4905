"""Write converted graphs to a .lrnn file."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, BinaryIO, TypeAlias

import numpy as np

from lightrnn.errors import ConversionError, LightRNNError
from lightrnn.format import ModelFile, dumps, write
from lightrnn.graph import FLOAT32, Array, Graph, Node
from lightrnn.model import Model
from lightrnn.ops.packing import MIXED
from lightrnn.record import replace
from lightrnn.text import parse_task
from lightrnn_converters.crf import attach_crf
from lightrnn_converters.feeds import SIZES, fill, shapes
from lightrnn_converters.simplify import rename

Destination: TypeAlias = str | os.PathLike[str] | BinaryIO
Text: TypeAlias = Mapping[str, Any] | None

PRODUCER = "lightrnn_converters"

_log = logging.getLogger("lightrnn")

Storage: TypeAlias = str | Mapping[str, str]
"""How weights are stored: one of STORAGE for all, or by patterns of their names."""

STORAGE = ("float32", "float16", "bfloat16", "int16", "int16+int8", "int8")
"""How weights can be stored; int16+int8: as int16, recurrent ones of gates as int8."""

_WEIGHT_SLOTS = {
    "MatMul": (0, 1), "Gemm": (0, 1), "Gather": (0,), "Conv": (1,), "ConvTranspose": (1,),
    "RNN": (1, 2), "GRU": (1, 2), "LSTM": (1, 2, 8),
}  # fmt: skip
"""Inputs that hold weights, by operator; only these are stored in fewer bits."""

_BY_ROWS = {"Gather": (0,), "RNN": (1, 2), "GRU": (1, 2), "LSTM": (1, 2, 8)}
"""Inputs whose rows each have a scale of their own where they are stored as integers."""


def save(
    destination: Destination,
    graphs: Mapping[str, Graph],
    *,
    dtype: Storage = "float32",
    text: Text = None,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write graphs to a path or a binary file object; equal constants are written once.

    dtype: how float32 weights are stored, as `convert_onnx` takes it. Raises ConversionError for
    one that is not known, TextError for a text that does not fit the graphs.
    """
    if text is not None and "crf" in text:
        first = next(iter(graphs))
        decoded, text = attach_crf(graphs[first], text)
        graphs = {**graphs, first: decoded}
    file = model_file(graphs, dtype=dtype, text=text, metadata=metadata)
    if text is not None:
        parse_task(Model(dumps(file)))
    if file.encodings:
        _tell_cost(graphs, file, dtype)
    write(destination, file)


def _tell_cost(graphs: Mapping[str, Graph], file: ModelFile, dtype: Storage) -> None:
    """Log how far fewer bits move each output on random inputs."""
    whole, narrow = Model(dumps(model_file(graphs))), Model(dumps(file))
    told = dtype if isinstance(dtype, str) else " and ".join(dict.fromkeys(dtype.values()))
    for name, graph in graphs.items():
        feeds = fill(graph, shapes(graph, *SIZES[0]), np.random.default_rng(0))
        try:
            wanted, found = whole.run(feeds, graph=name), narrow.run(feeds, graph=name)
        except LightRNNError:
            continue  # sizes that this graph does not take
        for output, want in wanted.items():
            if want.dtype.kind == "f" and want.size:
                error = found[output].astype(np.float64) - want
                rms, scale = np.sqrt(np.mean(error**2)), np.sqrt(np.mean(np.square(want)))
                _log.warning(
                    "%s weights move output %r by %.1e (root mean square, of %.1e), at most %.1e",
                    told, output, rms, scale, np.abs(error).max(),
                )  # fmt: skip


def check_storage(dtype: Storage) -> None:
    """Raise ConversionError for a dtype in which weights cannot be stored."""
    for one in [dtype] if isinstance(dtype, str) else dtype.values():
        if one not in STORAGE:
            raise ConversionError(f"dtype is {one!r}, expected one of {', '.join(STORAGE)}")


def to_bytes(graph: Graph) -> bytes:
    """A file of one graph in memory."""
    return dumps(model_file({"main": graph}))


def model_file(
    graphs: Mapping[str, Graph],
    *,
    dtype: Storage = "float32",
    text: Text = None,
    metadata: Mapping[str, str] | None = None,
) -> ModelFile:
    """The contents of a file."""
    check_storage(dtype)
    shared = share_between(graphs)
    return ModelFile(
        graphs=shared,
        text=text,
        metadata=dict(metadata or {}),
        producer=PRODUCER,
        encodings=_encodings(shared, dtype),
    )


def share_between(graphs: Mapping[str, Graph]) -> dict[str, Graph]:
    """The graphs with one name for each constant that several have, and no name for two."""
    names = _ConstantNames()
    return {label: names.share(label, graph) for label, graph in graphs.items()}


class _ConstantNames:
    """Names given to constants so far: one for each value, and each for one value."""

    def __init__(self) -> None:
        self._names: dict[Any, str] = {}
        self._taken: set[str] = set()

    def share(self, label: str, graph: Graph) -> Graph:
        """A graph, and all that its nodes hold, with these names."""
        own = {*graph.inputs, *graph.outputs, *(o for n in graph.nodes for o in n.outputs)}
        renamed = {}
        for name, value in graph.constants.items():
            key = _identity(value)
            known = self._names.get(key)
            if name in graph.outputs or known is None or known in own:
                known = self._free(label, name)
                self._names.setdefault(key, known)
            renamed[name] = known
            self._taken.add(known)
        kept = {old: new for old, new in renamed.items() if old != new}
        if clash := next((o for o in kept if o in graph.outputs), None):
            raise ConversionError(f"output {clash!r} of graph {label!r} is another's constant")
        shared = rename(graph, kept)
        return replace(shared, nodes=tuple(self._inside(label, n) for n in shared.nodes))

    def _free(self, label: str, name: str) -> str:
        while name in self._taken:
            name = f"{label}.{name}"
        return name

    def _inside(self, label: str, node: Node) -> Node:
        attrs = {
            key: self.share(label, value) if isinstance(value, Graph) else value
            for key, value in node.attrs.items()
        }
        return replace(node, attrs=attrs)


def _identity(value: Array) -> tuple[str, tuple[int, ...], bytes]:
    return value.dtype.str, value.shape, np.ascontiguousarray(value).tobytes()


def _encodings(graphs: Mapping[str, Graph], dtype: Storage) -> dict[str, str]:
    """How each weight is stored: integers by rows or columns as all its uses agree, or float32."""
    wanted = _wanted(sorted(set(_weights(graphs))), dtype)
    uses: dict[str, set[str]] = {name: set() for name in wanted}
    for graph in graphs.values():
        for inside in graph.walk():
            for node in inside.nodes:
                for k, name in enumerate(node.inputs):
                    if name in uses:
                        uses[name].add(_scaling(node, k, wanted[name]))
    return {name: use for name, (use, *more) in uses.items() if use and not more}


def _wanted(names: Sequence[str], dtype: Storage) -> dict[str, str]:
    """What each weight should be stored as, by the first pattern that it matches."""
    patterns = {"*": dtype} if isinstance(dtype, str) else dtype
    for pattern in patterns:
        if names and pattern != "*" and not any(fnmatchcase(name, pattern) for name in names):
            raise ConversionError(f"no weight matches {pattern!r}, there are {', '.join(names)}")
    found = {
        name: next((d for p, d in patterns.items() if fnmatchcase(name, p)), "float32")
        for name in names
    }
    return {name: one for name, one in found.items() if one != "float32"}


def _scaling(node: Node, slot: int, dtype: str) -> str:
    """The encoding that a use of a weight can compute with; "" for none."""
    dtype, _, gates = dtype.partition("+")
    if gates and slot == 2 and (mixed := MIXED.get(node.op.lower())):
        return mixed
    if dtype not in ("int8", "int16"):
        return dtype
    if slot in _BY_ROWS.get(node.op, ()) or (slot == 1 and node.attrs.get("transB", 0)):
        return dtype
    return f"{dtype}_columns" if slot == 1 and node.op in ("MatMul", "Gemm") else ""


def _weights(graphs: Mapping[str, Graph]) -> Iterator[str]:
    """Float32 constants of two or more axes that are nothing but weights in all graphs."""
    every = [inside for graph in graphs.values() for inside in graph.walk()]
    elsewhere = {
        name
        for graph in every
        for node in graph.nodes
        for k, name in enumerate(node.inputs)
        if name in graph.constants and k not in _WEIGHT_SLOTS.get(node.op, ())
    }
    for graph in every:
        for name, value in graph.constants.items():
            is_matrix = value.dtype == FLOAT32 and value.ndim >= 2
            if is_matrix and name not in elsewhere and name not in graph.outputs:
                yield name
