"""Weights stored in fewer bits: kernels widen them, and give the bits of the decoded weights."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest

import lightrnn
from lightrnn.engine.interpret import evaluate
from lightrnn.format import ModelFile, dumps, read
from lightrnn.graph import FLOAT32, Array, Graph, Node, TensorType
from lightrnn.native.abi import WEIGHTS
from lightrnn.ops.packing import narrow, panels
from tests.kernels import BACKENDS, guarded, run_kernel

KINDS = ("float16", "bfloat16")


def layer(op: str, hidden: int, projection: int = 0) -> Graph:
    """x [T, N, 10] through a layer and a product."""
    rng = np.random.default_rng(hidden)
    gates, size = {"RNN": 1, "GRU": 3, "LSTM": 4}[op], projection or hidden

    def make(*shape: int) -> Array:
        return rng.standard_normal(shape).astype(np.float32) * np.float32(0.3)

    constants = {
        "w": make(2, gates * hidden, 10), "r": make(2, gates * hidden, size),
        "b": make(2, 2 * gates * hidden), "out": make(size, 7),
    }  # fmt: skip
    inputs = ["x", "w", "r", "b"]
    if projection:
        constants["p"] = make(2, projection, hidden)
        inputs += ["", "", "", "", "p"]
    attrs: dict[str, Any] = {"direction": "bidirectional"}
    if op == "GRU":
        attrs["linear_before_reset"] = 1
    nodes = (Node(op, tuple(inputs), ("h",), attrs), Node("MatMul", ("h", "out"), ("y",)))
    return Graph(
        {"x": TensorType(FLOAT32, ("T", "N", 10))},
        {"y": TensorType(FLOAT32, ("T", 2, "N", 7))},
        nodes,
        constants,
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("op", "projection"), [("RNN", 0), ("GRU", 0), ("LSTM", 0), ("LSTM", 9)])
def test_narrow_weights_give_the_bits_of_their_values(op: str, projection: int, kind: str) -> None:
    graph = layer(op, 21, projection)
    matrices = [n for n, v in graph.constants.items() if v.ndim > 1 and n != "b"]
    data = dumps(ModelFile({"main": graph}, encodings=dict.fromkeys(matrices, kind)))
    decoded = read(io.BytesIO(data)).graphs["main"]
    plain = lightrnn.load(dumps(ModelFile({"main": decoded})))
    narrow = lightrnn.load(data)
    for steps, batch in ((1, 1), (5, 3), (9, 20)):
        x = np.random.default_rng(0).standard_normal((steps, batch, 10)).astype(np.float32)
        found = narrow.run({"x": x})["y"]
        np.testing.assert_array_equal(found, plain.run({"x": x})["y"])
        np.testing.assert_allclose(found, evaluate(decoded, {"x": x})["y"], atol=3e-6)
        assert np.abs(found - evaluate(graph, {"x": x})["y"]).max() > 1e-6


@pytest.mark.native
@pytest.mark.parametrize("kind", KINDS)
def test_narrow_weights_take_half_the_memory(kind: str) -> None:
    graph = layer("LSTM", 64)
    sizes = {}
    for stored in ("float32", kind):
        encodings = {} if stored == "float32" else dict.fromkeys(("w", "r", "out"), stored)
        model = lightrnn.load(dumps(ModelFile({"main": graph}, encodings=encodings)))
        sizes[stored] = model.plan({"x": (1, 1, 10)}).packed_bytes
    assert sizes[kind] < 0.6 * sizes["float32"]


@pytest.mark.native
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", range(3))
def test_products_with_narrow_weights(backend: str, kind: int) -> None:
    rng = np.random.default_rng(kind)
    for m, k, n in ((1, 5, 17), (3, 8, 33), (9, 7, 150)):
        a, b = (rng.standard_normal(s).astype(np.float32) for s in ((m, k), (k, n)))
        packed = narrow(panels(b), WEIGHTS[kind])
        widened = packed.astype(np.float32)
        if WEIGHTS[kind] == "bfloat16":
            widened = (packed.astype(np.uint32) << 16).view(np.float32)
        matrix = np.moveaxis(widened, 0, 1).reshape(k, -1)[:, :n]
        c = guarded(np.zeros((m, n), np.float32))
        sizes = (1, m, n, k, k, 0, n, 0, 0, 0, 0, kind, None)
        run_kernel("gemm", guarded(a), guarded(packed), None, c, *sizes, backend=backend)
        np.testing.assert_allclose(c, a.astype(np.float64) @ matrix, atol=1e-5)
