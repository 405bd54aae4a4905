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
def layer_file(
    op: str, hidden: int, dtype: str = "float32", seed: int = 0, layers: int = 1
) -> bytes:
    """x [T, N, hidden] to y [T, 1, N, hidden]; GRU with linear_before_reset, as torch's.

    dtype: how W and R are stored. layers: of a stack, each as wide as the one below.
    """
    attrs = {"hidden_size": hidden, **({"linear_before_reset": 1} if op == "GRU" else {})}
    constants, kinds = {"one": np.array([1])}, dict[str, str]()
    nodes, x = list[Node](), "x"
    for k in range(layers):
        names = {n: f"{n}{k}" for n in "WRB"}
        weights = weights_of(op, hidden, seed + k)
        constants.update({names[n]: a for n, a in weights.items()})
        if dtype != "float32":
            kinds |= {names["W"]: dtype, names["R"]: dtype}
        if k:
            nodes.append(Node("Squeeze", (x, "one"), (f"x{k}",), {}, f"squeeze {k}"))
            x = f"x{k}"
        y = "y" if k == layers - 1 else f"y{k}"
        nodes.append(Node(op, (x, *names.values()), (y,), attrs, f"layer {k}"))
        x = y
    inputs = {"x": TensorType(FLOAT32, ("T", "N", hidden))}
    outputs = {"y": TensorType(FLOAT32, ("T", 1, "N", hidden))}
    graph = Graph(inputs, outputs, tuple(nodes), constants)
    return dumps(ModelFile({"main": graph}, encodings=kinds))
