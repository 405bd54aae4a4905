"""A small valid file, its parts, and the form of an attack: one edit that makes it bad."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from lightrnn.errors import LightRNNError
from lightrnn.format import ModelFile, dumps
from lightrnn.graph import BOOL, FLOAT32, INT64, Graph, Node, TensorType


def valid_file() -> bytes:
    """Two graphs that share a tensor, states, two encodings, constants of three types.

    main: ids [N, T], h [1, N, 4] to logits [N, 3], h_next [1, N, 4]: lookup, GRU, product, choice.
    score: flat [N, 4] to scores [N, 3].
    """
    rng = np.random.default_rng(0)
    shapes = {"table": (5, 3), "w": (1, 12, 3), "r": (1, 12, 4), "b": (1, 24), "out": (4, 3)}
    weights = {n: rng.uniform(-1, 1, s).astype(np.float32) for n, s in shapes.items()}
    constants = {
        **weights,
        "first": np.array([0]),
        "flags": np.array([True, False, True]),
        "low": np.array([-1], np.float32),
    }
    nodes = (
        Node("Gather", ("table", "ids"), ("rows",), {"axis": 0}, "lookup"),
        Node("Transpose", ("rows",), ("x",), {"perm": (1, 0, 2)}),
        Node("GRU", ("x", "w", "r", "b", "", "h"), ("", "h_next"), {"hidden_size": 4}, "layer"),
        Node("Squeeze", ("h_next", "first"), ("flat",)),
        Node("MatMul", ("flat", "out"), ("product",)),
        Node("Where", ("flags", "product", "low"), ("logits",)),
    )
    state = TensorType(FLOAT32, (1, "N", 4))
    main = Graph(
        {"ids": TensorType(INT64, ("N", "T")), "h": state},
        {"logits": TensorType(FLOAT32, ("N", 3)), "h_next": state},
        nodes,
        constants,
        {"h": "h_next"},
    )
    score = Graph(
        {"flat": TensorType(FLOAT32, ("N", 4))},
        {"scores": TensorType(FLOAT32, ("N", 3))},
        (Node("MatMul", ("flat", "out"), ("scores",)),),
        {"out": constants["out"]},
    )
    assert constants["flags"].dtype == BOOL
    encodings = {"table": "float16", "out": "bfloat16"}
    return dumps(ModelFile({"main": main, "score": score}, None, {}, "tests", encodings))


FEEDS = {"ids": np.array([[1, 2], [0, 4]]), "h": np.zeros((1, 2, 4), np.float32)}


@dataclass
class Parts:
    """A file taken apart.

    tensors: the header's entries. metadata: its strings. graphs: by name, as JSON values; they are
    written unless the metadata's text of them is another than it `was`.
    """

    tensors: dict[str, Any]
    metadata: dict[str, Any]
    graphs: dict[str, Any]
    data: bytes
    was: str

    @staticmethod
    def of(file: bytes) -> Parts:
        (length,) = struct.unpack("<Q", file[:8])
        header = json.loads(file[8 : 8 + length])
        metadata = header.pop("__metadata__")
        text = metadata["graphs"]
        return Parts(header, metadata, dict(json.loads(text)), file[8 + length :], text)

    @property
    def main(self) -> dict[str, Any]:
        graph: dict[str, Any] = self.graphs["main"]
        return graph

    def node(self, op: str) -> dict[str, Any]:
        """The main graph's only node of an operator."""
        (node,) = (n for n in self.main["nodes"] if n["op"] == op)
        return node

    def add_tensor(self, name: str, dtype: str, shape: list[int], data: bytes) -> None:
        """A new tensor at the end of the data, as a constant of the main graph."""
        start = len(self.data)
        self.data += data
        self.tensors[name] = {"dtype": dtype, "shape": shape}
        self.tensors[name]["data_offsets"] = [start, len(self.data)]
        self.main["constants"].append(name)

    def file(self) -> bytes:
        """Put together again; nothing is checked."""
        metadata = dict(self.metadata)
        if metadata.get("graphs") == self.was:
            metadata["graphs"] = json.dumps(list(self.graphs.items()))
        return with_header(json.dumps({"__metadata__": metadata, **self.tensors}), self.data)


def with_header(text: str | bytes, data: bytes) -> bytes:
    """A container with this header."""
    encoded = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(encoded)) + encoded + data


def header_of(file: bytes) -> str:
    """The text of a file's header, without padding."""
    (length,) = struct.unpack("<Q", file[:8])
    return file[8 : 8 + length].decode().rstrip()


@dataclass(frozen=True)
class Attack:
    """A bad file: how the valid one becomes it, the error that names the problem.

    message: a regular expression that the error's message must match.
    """

    name: str
    make: Callable[[bytes], bytes]
    error: type[LightRNNError]
    message: str


def edited(edit: Callable[[Parts], object]) -> Callable[[bytes], bytes]:
    """An edit of the parts as an edit of the file."""

    def make(file: bytes) -> bytes:
        parts = Parts.of(file)
        edit(parts)
        return parts.file()

    return make


def rewritten(old: str, new: str, count: int = 1) -> Callable[[bytes], bytes]:
    """A replacement in the header's text, which must hold `old`."""

    def make(file: bytes) -> bytes:
        text = header_of(file)
        assert old in text, old
        return with_header(text.replace(old, new, count), Parts.of(file).data)

    return make
