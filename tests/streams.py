"""Graphs to stream, and the check that pieces give the whole."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

import lightrnn
from lightrnn.format import ModelFile, write
from lightrnn.graph import FLOAT32, Array, Attr, Graph, Node, TensorType
from lightrnn.graph.check import check
from lightrnn.native import library
from lightrnn.ops import build
from lightrnn.record import replace

SIZE, HIDDEN, BATCH = 3, 5, 2
CUTS = ((13,), (1,) * 13, (4, 0, 1, 8), (0, 6, 7), (2, 3, 1, 5, 2))
"""Sizes of pieces; they sum up to 13."""


@pytest.fixture(params=[pytest.param("native", marks=pytest.mark.native), "numpy"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Streams run in the kernel library, and on NumPy semantics where there is none."""
    if request.param == "numpy":
        monkeypatch.setattr(library, "load", lambda: None)
        monkeypatch.setattr("lightrnn.model._warned", True)
    return str(request.param)


def load(graph: Graph) -> lightrnn.Model:
    target = io.BytesIO()
    write(target, ModelFile({"main": graph}, None, {}, "tests", {}))
    return lightrnn.load(target.getvalue(), threads=1)


def in_pieces(
    stream: lightrnn.Stream, feeds: Mapping[str, Array], axes: Mapping[str, int], cut: Sequence[int]
) -> list[dict[str, Array]]:
    """Results of the pieces of these sizes; axes: where the time of inputs is that have one."""
    results, start = [], 0
    for size in cut:
        piece = {
            n: a.take(range(start, start + size), axes[n]) if n in axes else a
            for n, a in feeds.items()
        }
        results.append(stream.step(piece))
        start += size
    return results


def assert_whole(
    model: lightrnn.Model,
    feeds: Mapping[str, Array],
    axes: Mapping[str, int],
    outputs: Mapping[str, int | None],
    cuts: Sequence[Sequence[int]] = CUTS,
) -> None:
    """Check that pieces give the whole.

    outputs: the axis along which an output's pieces join; None for one that the last piece gives.
    """
    stream = model.stream()
    whole = model.run(feeds)
    for cut in cuts:
        results = in_pieces(stream, feeds, axes, cut)
        assert all(list(r) == list(outputs) for r in results)
        for name, axis in outputs.items():
            found = [r[name] for r in results]
            value = found[-1] if axis is None else np.concatenate(found, axis)
            np.testing.assert_allclose(value, whole[name], rtol=2e-6, atol=2e-6, err_msg=f"{cut}")
        stream.reset()


def weights(rng: np.random.Generator, *shape: Any) -> Array:
    return (rng.standard_normal(shape) * 0.5).astype(np.float32)


def layer(
    op: str,
    k: int,
    constants: dict[str, Array],
    attrs: Mapping[str, Attr],
    *,
    initial: str,
    size: int,
    projection: int = 0,
) -> Node:
    """Layer `k` of a stack, from x{k} to y{k}, h{k} and c{k}; its weights go to `constants`."""
    rng = np.random.default_rng(k)
    gates = {"RNN": 1, "GRU": 3, "LSTM": 4}[op]
    state = projection or HIDDEN
    constants[f"w{k}"] = weights(rng, 1, gates * HIDDEN, size)
    constants[f"r{k}"] = weights(rng, 1, gates * HIDDEN, state)
    constants[f"b{k}"] = weights(rng, 1, 2 * gates * HIDDEN)
    inputs = [f"x{k}", f"w{k}", f"r{k}", f"b{k}", "", "", "", "", ""]
    for place, name, width in ((5, "h", state), (6, "c", HIDDEN)):
        if initial == "constant":
            shape = (BATCH, 1, width) if attrs.get("layout") else (1, BATCH, width)
            constants[f"{name}{k}_start"] = weights(rng, *shape)
        if initial != "zeros":
            inputs[place] = f"{name}{k}_start"
    if projection:
        constants[f"p{k}"] = weights(rng, 1, state, HIDDEN)
        inputs[8] = f"p{k}"
    count = 2 if op != "LSTM" else 3
    inputs = inputs[: {"RNN": 6, "GRU": 6, "LSTM": 9}[op]]
    while not inputs[-1]:
        inputs.pop()
    outputs = (f"y{k}", f"h{k}", f"c{k}")[:count]
    attrs = {"hidden_size": HIDDEN, **attrs}
    return Node(op, tuple(inputs), outputs, attrs, f"layer {k}")


def stack(
    op: str, layers: int, *, initial: str = "zeros", projection: int = 0, **attrs: Any
) -> Graph:
    """x0 [T, N, 3] or [N, T, 3] through layers to y [..., H] and the last state of the last one.

    initial: zeros, constant, or given as inputs.
    """
    layout = attrs.get("layout", 0)
    constants: dict[str, Array] = {"two": np.array([2 if layout else 1])}
    nodes: list[Node] = []
    batch = BATCH if initial == "constant" else "N"
    inputs = {"x0": TensorType(FLOAT32, (batch, "T", SIZE) if layout else ("T", batch, SIZE))}
    size = SIZE
    for k in range(layers):
        nodes.append(
            layer(op, k, constants, attrs, initial=initial, size=size, projection=projection)
        )
        size = projection or HIDDEN
        nodes.append(Node("Squeeze", (f"y{k}", "two"), (f"x{k + 1}",), {}, f"squeeze {k}"))
        if initial == "given":
            for name, width in (("h", size), ("c", HIDDEN))[: 2 if op == "LSTM" else 1]:
                shape = ("N", 1, width) if layout else (1, "N", width)
                inputs[f"{name}{k}_start"] = TensorType(FLOAT32, shape)
    last = layers - 1
    any_shape = TensorType(FLOAT32, None)
    outputs = {f"x{layers}": any_shape, f"h{last}": any_shape}
    return Graph(inputs, outputs, tuple(nodes), constants)


def surrounded(
    before: Sequence[Node] = (),
    after: Sequence[Node] = (),
    outputs: Sequence[str] = ("out",),
    inputs: Mapping[str, TensorType] | None = None,
    attrs: Mapping[str, Any] | None = None,
    **constants: Any,
) -> Graph:
    """A GRU from x [T, N, 3] to y [T, 1, N, 5], its squeezed form z [T, N, 5] and h [1, N, 5].

    before: nodes that make x; then the graph's input is `raw`, of the same shape.
    """
    base = stack("GRU", 1, **(attrs or {}))
    gru = replace(base.nodes[0], inputs=("x", "w0", "r0", "b0"), outputs=("y", "h"))
    squeeze = replace(base.nodes[1], inputs=("y", "two"), outputs=("z",))
    x = TensorType(FLOAT32, ("T", "N", SIZE))
    given = inputs if inputs is not None else {"raw" if before else "x": x}
    known = {name: np.asarray(value) for name, value in constants.items()}
    nodes = (*before, gru, squeeze, *after)
    graph = Graph(given, {}, nodes, {**base.constants, **known})
    types = check(graph, build)
    return replace(graph, outputs={o: replace(types[o], value=None) for o in outputs})


def table(size: int) -> Array:
    return weights(np.random.default_rng(9), size, SIZE)
