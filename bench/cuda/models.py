"""Layers to check and to time, as the bytes of .lrnn files."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from lightrnn.format import ModelFile, dumps
from lightrnn.graph import FLOAT32, Array, Graph, Node, TensorType

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}


def weights_of(op: str, hidden: int, seed: int = 0) -> dict[str, Array]:
    """W, R and B of a layer as wide as its input, uniform within 1/√hidden."""
    rng = np.random.default_rng(seed)
    bound, rows = hidden**-0.5, GATES[op] * hidden
    shapes = {"W": (1, rows, hidden), "R": (1, rows, hidden), "B": (1, 2 * rows)}
    return {n: rng.uniform(-bound, bound, s).astype(np.float32) for n, s in shapes.items()}


@lru_cache(maxsize=4)
def layer_file(op: str, hidden: int, dtype: str = "float32", seed: int = 0) -> bytes:
    """x [T, N, hidden] to y [T, 1, N, hidden]; GRU with linear_before_reset, as torch's.

    dtype: how W and R are stored.
    """
    constants = weights_of(op, hidden, seed)
    attrs = {"hidden_size": hidden, **({"linear_before_reset": 1} if op == "GRU" else {})}
    node = Node(op, ("x", "W", "R", "B"), ("y",), attrs, "layer")
    inputs = {"x": TensorType(FLOAT32, ("T", "N", hidden))}
    outputs = {"y": TensorType(FLOAT32, ("T", 1, "N", hidden))}
    graph = Graph(inputs, outputs, (node,), constants)
    kinds = {} if dtype == "float32" else {"W": dtype, "R": dtype}
    return dumps(ModelFile({"main": graph}, encodings=kinds))
