"""Whole models for tests: the language identifier of the examples, and a stack made here."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from lightrnn.format import ModelFile, write
from lightrnn.graph import FLOAT32, INT32, Array, Attr, Graph, Node, TensorType

LANGID = Path(__file__).parents[1] / "examples" / "langid" / "langid.lrnn"


def langid_feeds(batch: int, steps: int, seed: int = 0) -> dict[str, Array]:
    """Random characters in rows of random lengths."""
    rng = np.random.default_rng([seed, batch, steps])
    return {
        "ids": rng.integers(0, 100, (batch, steps)),
        "lengths": rng.integers(1, steps + 1, batch),
    }


def bilstm(hidden: int = 64) -> bytes:
    """Two bidirectional LSTM layers: x [T, N, hidden] and lengths [N], to y [T, 2, N, hidden]."""
    rng = np.random.default_rng(0)
    constants: dict[str, Array] = {"flat": np.array([0, 0, -1])}
    nodes, x = [], "x"
    for k, size in enumerate((hidden, 2 * hidden)):
        for name, shape in (("w", (size,)), ("r", (hidden,)), ("b", ())):
            rows = 8 * hidden if name == "b" else 4 * hidden
            weights = rng.uniform(-(hidden**-0.5), hidden**-0.5, (2, rows, *shape))
            constants[f"{name}{k}"] = weights.astype(np.float32)
        attrs: dict[str, Attr] = {"hidden_size": hidden, "direction": "bidirectional"}
        inputs = (x, f"w{k}", f"r{k}", f"b{k}", "lengths")
        nodes.append(Node("LSTM", inputs, (f"y{k}",), attrs, f"layer {k}"))
        if k == 0:
            nodes.append(Node("Transpose", ("y0",), ("t",), {"perm": (0, 2, 1, 3)}, "turn"))
            nodes.append(Node("Reshape", ("t", "flat"), ("z",), {}, "join"))
            x = "z"
    graph = Graph(
        {"x": TensorType(FLOAT32, ("T", "N", hidden)), "lengths": TensorType(INT32, ("N",))},
        {"y1": TensorType(FLOAT32, ("T", 2, "N", hidden))},
        tuple(nodes),
        constants,
    )
    target = io.BytesIO()
    write(target, ModelFile({"main": graph}, None, {}, "tests", {}))
    return target.getvalue()


def bilstm_feeds(steps: int, batch: int, seed: int = 0, hidden: int = 64) -> dict[str, Array]:
    rng = np.random.default_rng([seed, steps, batch])
    return {
        "x": rng.standard_normal((steps, batch, hidden)).astype(np.float32),
        "lengths": rng.integers(0, steps + 1, batch).astype(np.int32),
    }
