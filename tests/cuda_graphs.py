"""Small graphs for the GPU backend's tests, and an array of another library."""

from __future__ import annotations

from typing import Any

import numpy as np

from lightrnn.graph import FLOAT32, INT64, Array, Graph, Node, TensorType
from tests.test_engine import recurrent_graph


def lookup() -> Graph:
    """y [N, 8] = the row of a table for each of `ids`, then a product."""
    rng = np.random.default_rng(3)
    constants = {
        "table": rng.standard_normal((9, 6)).astype(np.float32),
        "w": rng.standard_normal((6, 8)).astype(np.float32),
    }
    nodes = (
        Node("Gather", ("table", "ids"), ("rows",), {}, "embedding"),
        Node("MatMul", ("rows", "w"), ("y",), {}, "product"),
    )
    inputs = {"ids": TensorType(INT64, ("N",))}
    return Graph(inputs, {"y": TensorType(FLOAT32, ("N", 8))}, nodes, constants)


def nonzero() -> Graph:
    """Shapes that depend on values: the places of x's non-zeros, and twice x."""
    nodes = (
        Node("Add", ("x", "x"), ("twice",), {}, "add"),
        Node("NonZero", ("twice",), ("places",), {}, "count"),
        Node("Mul", ("twice", "x"), ("square",), {}, "mul"),
    )
    return Graph(
        {"x": TensorType(FLOAT32, ("T", "N"))},
        {"places": TensorType(INT64, (2, "K")), "square": TensorType(FLOAT32, ("T", "N"))},
        nodes,
        {},
    )


def nonzero_free() -> Graph:
    """square [T, N] = (x + x) * x."""
    graph = nonzero()
    nodes = (graph.nodes[0], graph.nodes[2])
    return Graph(graph.inputs, {"square": graph.outputs["square"]}, nodes, {})


def stepping() -> Graph:
    """ids [T, N] to y [T, 1, N, 16]: an embedding and an LSTM."""
    graph = recurrent_graph("LSTM", 16)
    rng = np.random.default_rng(5)
    constants = {n: c[:1] for n, c in graph.constants.items()}
    constants["table"] = rng.standard_normal((9, 16)).astype(np.float32)
    layer = graph.nodes[0]
    nodes = (
        Node("Gather", ("table", "ids"), ("x",), {}, "embedding"),
        Node("LSTM", layer.inputs, layer.outputs, {"hidden_size": 16}, "layer"),
    )
    outputs = {"y": TensorType(FLOAT32, ("T", 1, "N", 16))}
    return Graph({"ids": TensorType(INT64, ("T", "N"))}, outputs, nodes, constants)


class Interface:
    """An array of another library by __cuda_array_interface__ alone, over host memory."""

    def __init__(self, array: Array, stream: int | None = None, **more: Any) -> None:
        self.array = array
        self.__cuda_array_interface__ = {
            "shape": array.shape, "typestr": array.dtype.str, "version": 3, "stream": stream,
            "data": (array.__array_interface__["data"][0], False),
            "strides": None if array.flags.c_contiguous else array.strides, **more,
        }  # fmt: skip
