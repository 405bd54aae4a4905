"""Streams: pieces of any size give what the whole gives, or the graph is refused by name."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from lightrnn_converters import convert_torch
from torch import Tensor, nn

import lightrnn
from lightrnn.errors import DataError, InputError, UnsupportedError
from lightrnn.format import ModelFile, write
from lightrnn.graph import FLOAT32, INT32, INT64, Array, Attr, Graph, Node, TensorType
from lightrnn.graph.check import check
from lightrnn.native import library
from lightrnn.ops import build

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


# Recurrent layers


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


STACKS = {
    "rnn": stack("RNN", 1),
    "rnn, relu": stack("RNN", 2, activations=("Relu",), clip=2.0),
    "gru": stack("GRU", 1),
    "gru, three": stack("GRU", 3, linear_before_reset=1),
    "gru, batch first": stack("GRU", 2, layout=1, linear_before_reset=1),
    "gru, starts at constants": stack("GRU", 2, initial="constant"),
    "gru, starts at inputs": stack("GRU", 1, initial="given"),
    "lstm": stack("LSTM", 1),
    "lstm, two": stack("LSTM", 2),
    "lstm, three, batch first": stack("LSTM", 3, layout=1),
    "lstm, projection": stack("LSTM", 2, projection=2),
    "lstm, projection, batch first": stack("LSTM", 2, projection=4, layout=1),
    "lstm, coupled": stack("LSTM", 1, input_forget=1, clip=0.7),
    "lstm, starts at constants": stack("LSTM", 2, initial="constant"),
    "lstm, constants, batch first": stack("LSTM", 1, initial="constant", layout=1),
    "lstm, starts at inputs": stack("LSTM", 2, initial="given"),
}


@pytest.mark.parametrize("name", STACKS)
def test_layers_in_pieces_give_the_whole(name: str, engine: str) -> None:
    graph = STACKS[name]
    model = load(graph)
    axis = 1 if "batch first" in name else 0
    rng = np.random.default_rng(7)
    sizes = {"T": 13, "N": BATCH}
    feeds = {
        n: weights(rng, *(sizes[d] if isinstance(d, str) else d for d in t.shape or ()))
        for n, t in graph.inputs.items()
    }
    outputs = list(graph.outputs)
    assert_whole(model, feeds, {"x0": axis}, {outputs[0]: axis, outputs[1]: None})


@pytest.mark.native
def test_native_pieces_give_the_whole_to_the_last_bit() -> None:
    model = load(STACKS["lstm, two"])
    x = weights(np.random.default_rng(0), 13, 2, SIZE)
    whole = model.run({"x0": x})["x2"]
    for cut in CUTS:
        pieces = in_pieces(model.stream(), {"x0": x}, {"x0": 0}, cut)
        np.testing.assert_array_equal(np.concatenate([p["x2"] for p in pieces]), whole)


def test_no_steps_change_nothing(engine: str) -> None:
    model = load(STACKS["gru, three"])
    rng = np.random.default_rng(1)
    stream, other = model.stream(), model.stream()
    nothing = np.zeros((0, BATCH, SIZE), np.float32)
    assert not stream.step({"x0": nothing})["h2"].any()
    for size in (3, 1, 2):
        x = weights(rng, size, BATCH, SIZE)
        expected = other.step({"x0": x})
        np.testing.assert_array_equal(stream.step({"x0": x})["x3"], expected["x3"])
        empty = stream.step({"x0": nothing})
        assert empty["x3"].shape == (0, BATCH, HIDDEN)
        np.testing.assert_array_equal(empty["h2"], expected["h2"])


# States of the model's own


def own_and_hidden() -> Graph:
    """Two LSTM layers; the model exposes the states of the first, but for its c."""
    graph = stack("LSTM", 2)
    first, *others = graph.nodes
    node = replace(first, inputs=(*first.inputs, "", "start"))
    state = TensorType(FLOAT32, (1, "N", HIDDEN))
    return replace(
        graph,
        inputs={"start": state, **graph.inputs},
        outputs={"h0": state, **graph.outputs},
        nodes=(node, *others),
        states={"start": "h0"},
    )


def test_states_of_the_models_own_and_hidden_ones_go_together(engine: str) -> None:
    model = load(own_and_hidden())
    x = weights(np.random.default_rng(2), 13, BATCH, SIZE)
    whole = model.run({"x0": x, "start": np.zeros((1, BATCH, HIDDEN), np.float32)})
    stream = model.stream()
    for cut in CUTS:
        results = in_pieces(stream, {"x0": x}, {"x0": 0}, cut)
        assert [list(r) for r in results] == [["x2", "h1"]] * len(cut)
        found = np.concatenate([r["x2"] for r in results])
        np.testing.assert_allclose(found, whole["x2"], rtol=2e-6, atol=2e-6)
        stream.reset()


def cell(op: str = "Add") -> Graph:
    """A recurrence written out: total' = f(total, x), with an int64 count beside it."""
    total, number = TensorType(FLOAT32, ("N", 2)), TensorType(INT64, ())
    nodes = (
        Node(op, ("x", "total"), ("total_next",)),
        Node("Add", ("count", "one"), ("count_next",)),
        Node("Neg", ("total_next",), ("y",)),
        Node("Identity", ("count_next",), ("steps",)),
    )
    return Graph(
        {"total": total, "count": number, "x": total},
        {"steps": number, "total_next": total, "count_next": number, "y": total},
        nodes,
        {"one": np.array(1)},
        {"total": "total_next", "count": "count_next"},
    )


def test_any_pair_of_an_input_and_an_output_is_a_state(engine: str) -> None:
    stream = load(cell()).stream()
    x = np.array([[1, 2]], np.float32)
    for k in (1, 2, 3):
        result = stream.step({"x": x})
        np.testing.assert_array_equal(result["y"], -k * x)
        assert list(result) == ["steps", "y"]
        assert result["steps"] == k


def test_states_may_shift_through_each_other_and_be_constant(engine: str) -> None:
    kind = TensorType(FLOAT32, (2,))
    graph = Graph(
        {"x": kind, "a": kind, "b": kind, "c": kind},
        {"a_next": kind, "b_next": kind, "c_next": kind, "y": kind},
        (
            Node("Identity", ("x",), ("a_next",)),
            Node("Identity", ("a",), ("b_next",)),
            Node("Identity", ("seven",), ("c_next",)),
            Node("Concat", ("b", "c"), ("both",), {"axis": 0}),
            Node("Identity", ("both",), ("y",)),
        ),
        {"seven": np.full(2, 7, np.float32)},
        {"a": "a_next", "b": "b_next", "c": "c_next"},
    )
    graph = replace(graph, outputs={**graph.outputs, "y": TensorType(FLOAT32, (4,))})
    stream = load(graph).stream()
    found = [stream.step({"x": np.full(2, k, np.float32)})["y"][[0, 3]].tolist() for k in range(5)]
    assert found == [[0, 0], [0, 7], [0, 7], [1, 7], [2, 7]]


def test_a_state_may_grow(engine: str) -> None:
    """Past values kept along an axis, as in attention with a cache."""
    kind = TensorType(FLOAT32, ("N", "S"))
    graph = Graph(
        {"x": TensorType(FLOAT32, ("N", 1)), "past": TensorType(FLOAT32, ("N", None))},
        {"past_next": kind, "sum": TensorType(FLOAT32, ("N", 1))},
        (
            Node("Concat", ("past", "x"), ("past_next",), {"axis": 1}),
            Node("ReduceSum", ("past_next", "last"), ("sum",)),
        ),
        {"last": np.array([1])},
        {"past": "past_next"},
    )
    with pytest.raises(InputError, match="the size of state 'past' is not known"):
        load(graph).stream().step({"x": np.ones((2, 1), np.float32)})
    graph = replace(graph, inputs={**graph.inputs, "past": TensorType(FLOAT32, ("N", "N"))})
    stream = load(graph).stream()
    sums = [stream.step({"x": np.full((2, 1), k, np.float32)})["sum"][0, 0] for k in (1, 2, 3)]
    assert sums == [1, 3, 6]


def test_a_layer_whose_states_are_the_models_own_may_read_windows() -> None:
    """What a piece is, is such a model's own affair: here two steps make one."""
    base = stack("GRU", 1)
    node = replace(base.nodes[0], inputs=("x", "w0", "r0", "b0", "", "h"), outputs=("y0", "h0"))
    state = TensorType(FLOAT32, (1, "N", HIDDEN))
    graph = Graph(
        {"wave": TensorType(FLOAT32, ("N", SIZE, "T")), "h": state},
        {"y0": TensorType(FLOAT32, None), "h0": state},
        (
            Node("AveragePool", ("wave",), ("pooled",), {"kernel_shape": (2,), "strides": (2,)}),
            Node("Transpose", ("pooled",), ("x",), {"perm": (2, 0, 1)}),
            node,
        ),
        base.constants,
        {"h": "h0"},
    )
    wave = weights(np.random.default_rng(3), BATCH, SIZE, 12)
    model = load(graph)
    whole = model.run({"wave": wave, "h": np.zeros((1, BATCH, HIDDEN), np.float32)})["y0"]
    found = in_pieces(model.stream(), {"wave": wave}, {"wave": 2}, (2, 4, 6))
    np.testing.assert_allclose(np.concatenate([r["y0"] for r in found]), whole, atol=1e-6)
    mixed = Node("Softmax", ("y0",), ("y",), {"axis": 0}, "over steps")
    outputs = {"y": TensorType(FLOAT32, None), "h0": state}
    with pytest.raises(UnsupportedError, match="Softmax node 'over steps' normalises over time"):
        load(replace(graph, nodes=(*graph.nodes, mixed), outputs=outputs)).stream()


# What surrounds layers


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


X = TensorType(FLOAT32, ("T", "N", SIZE))
LOCAL: dict[str, tuple[Graph, Mapping[str, int], Mapping[str, int | None]]] = {
    "embedding": (
        surrounded(
            [Node("Gather", ("table", "ids"), ("x",))],
            [Node("Identity", ("z",), ("out",))],
            inputs={"ids": TensorType(INT64, ("T", "N"))},
            table=table(10),
        ),
        {"ids": 0},
        {"out": 0},
    ),
    "features, then batch, then time": (
        surrounded(
            [Node("Transpose", ("raw",), ("x",), {"perm": (2, 1, 0)})],
            [
                Node("Transpose", ("z",), ("turned",), {"perm": (1, 2, 0)}),
                Node("Softmax", ("turned",), ("out",), {"axis": 1}),
            ],
            inputs={"raw": TensorType(FLOAT32, (SIZE, "N", "T"))},
        ),
        {"raw": 2},
        {"out": 2},
    ),
    "dense on rows of all steps": (
        surrounded(
            (),
            [
                Node("Reshape", ("z", "rows"), ("flat",)),
                Node("Gemm", ("flat", "w", "b"), ("dense",)),
                Node("Shape", ("z",), ("shape",)),
                Node("Slice", ("shape", "zero", "two_"), ("front",)),
                Node("Concat", ("front", "four"), ("wanted",), {"axis": 0}),
                Node("Reshape", ("dense", "wanted"), ("out",)),
            ],
            rows=np.array([-1, HIDDEN]), w=table(HIDDEN)[:, [0, 1, 2, 0]], b=np.ones(4, np.float32),
            zero=np.array([0]), two_=np.array([2]), four=np.array([4]),
        ),
        {"x": 0},
        {"out": 0},
    ),
    "layer normalisation, residual, split features": (
        surrounded(
            [Node("LayerNormalization", ("raw", "scale"), ("x",))],
            [
                Node("Split", ("z", "parts"), ("left", "right"), {"axis": 2}),
                Node("Add", ("left", "raw"), ("sum",)),
                Node("ReduceMean", ("right", "axis"), ("mean",)),
                Node("Mul", ("sum", "mean"), ("out",)),
            ],
            scale=np.ones(SIZE, np.float32), parts=np.array([3, 2]), axis=np.array([-1]),
        ),
        {"raw": 0},
        {"out": 0},
    ),
    "convolution of one step, norm and pooling over features": (
        surrounded(
            [
                Node("Transpose", ("raw",), ("channels",), {"perm": (1, 2, 0)}),
                Node("Conv", ("channels", "kernel"), ("mixed",)),
                Node("BatchNormalization", ("mixed", "s", "b", "m", "v"), ("normal",)),
                Node("Transpose", ("normal",), ("x",), {"perm": (2, 0, 1)}),
            ],
            [
                Node("Unsqueeze", ("z", "one"), ("image",)),
                Node("MaxPool", ("image",), ("out",), {"kernel_shape": (1, 2)}),
            ],
            kernel=table(SIZE)[:, :, None], s=np.ones(SIZE, np.float32),
            b=np.full(SIZE, 0.1, np.float32), m=np.full(SIZE, 0.2, np.float32),
            v=np.ones(SIZE, np.float32), one=np.array([1]),
        ),
        {"raw": 0},
        {"out": 0},
    ),
    "zeros for each step": (
        surrounded(
            (),
            [
                Node("Shape", ("x",), ("sizes",), {"end": 2}),
                Node("Concat", ("sizes", "four"), ("wanted",), {"axis": 0}),
                Node("Expand", ("half", "wanted"), ("halves",)),
                Node("Concat", ("z", "halves"), ("out",), {"axis": 2}),
            ],
            four=np.array([4]), half=np.float32(0.5),
        ),
        {"x": 0},
        {"out": 0},
    ),
    "one vector for all steps": (
        surrounded(
            [
                Node("Shape", ("raw",), ("steps",), {"end": 1}),
                Node("Concat", ("steps", "ones"), ("wanted",), {"axis": 0}),
                Node("Unsqueeze", ("speaker", "zero"), ("row",)),
                Node("Expand", ("row", "wanted"), ("rows",)),
                Node("Add", ("raw", "rows"), ("x",)),
            ],
            [Node("Identity", ("z",), ("out",))],
            inputs={"raw": X, "speaker": TensorType(FLOAT32, ("N", SIZE))},
            ones=np.array([1, 1]), zero=np.array([0]),
        ),
        {"raw": 0},
        {"out": 0},
    ),
    "the last state, classified": (
        surrounded(
            (),
            [
                Node("MatMul", ("h", "w"), ("scores",)),
                Node("Softmax", ("scores",), ("out",)),
                Node("ReduceMax", ("h",), ("largest",)),
            ],
            ("out", "largest"),
            w=table(HIDDEN),
        ),
        {"x": 0},
        {"out": None, "largest": None},
    ),
    "the last step, in three ways": (
        surrounded(
            (),
            [
                Node("Gather", ("z", "last"), ("out",), {"axis": 0}),
                Node("Slice", ("z", "lasts", "end", "zero"), ("slice",)),
                Node("Shape", ("z",), ("steps",), {"end": 1}),
                Node("Sub", ("steps", "one"), ("index",)),
                Node("Gather", ("z", "index"), ("computed",), {"axis": 0}),
            ],
            ("out", "slice", "computed"),
            last=np.array(-1), lasts=np.array([-1]), end=np.array([2**63 - 1]),
            zero=np.array([0]), one=np.array([1]),
        ),
        {"x": 0},
        {"out": None, "slice": None, "computed": None},
    ),
    "lengths that say all of the piece": (
        surrounded(
            [
                Node("Shape", ("raw",), ("shape",)),
                Node("Gather", ("shape", "zero"), ("steps",), {"axis": 0}),
                Node("Slice", ("shape", "one", "two_"), ("batch",)),
                Node("Expand", ("steps", "batch"), ("repeated",)),
                Node("Cast", ("repeated",), ("lengths",), {"to": 6}),
                Node("Identity", ("raw",), ("x",)),
            ],
            [
                Node("GRU", ("z", "w1", "r1", "", "lengths"), ("more", "out"), {"hidden_size": 2}),
            ],
            ("out", "more"),
            zero=np.array(0), one=np.array([1]), two_=np.array([2]),
            w1=weights(np.random.default_rng(4), 1, 6, HIDDEN),
            r1=weights(np.random.default_rng(5), 1, 6, 2),
        ),
        {"raw": 0},
        {"out": None, "more": 0},
    ),
    "a layer that runs within each step": (
        surrounded(
            [
                Node("Reshape", ("raw", "letters"), ("long",)),
                Node("Transpose", ("long",), ("seen",), {"perm": (1, 0, 2)}),
                Node("LSTM", ("seen", "w1", "r1"), ("", "word"), {"direction": "bidirectional"}),
                Node("Transpose", ("word",), ("turned",), {"perm": (1, 0, 2)}),
                Node("Shape", ("raw",), ("sizes",), {"end": 2}),
                Node("Concat", ("sizes", "six"), ("wanted",), {"axis": 0}),
                Node("Reshape", ("turned", "wanted"), ("words",)),
                Node("MatMul", ("words", "w"), ("x",)),
            ],
            [Node("Identity", ("z",), ("out",))],
            inputs={"raw": TensorType(FLOAT32, ("T", "N", 8))},
            letters=np.array([-1, 4, 2]), six=np.array([6]), w=table(6),
            w1=weights(np.random.default_rng(4), 2, 12, 2),
            r1=weights(np.random.default_rng(5), 2, 12, 3),
        ),
        {"raw": 0},
        {"out": 0},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LOCAL)
def test_what_is_local_along_time_runs_in_pieces(name: str, engine: str) -> None:
    graph, axes, outputs = LOCAL[name]
    rng = np.random.default_rng(5)
    sizes: dict[Any, int] = {"T": 13, "N": BATCH}
    feeds = {
        n: weights(rng, *(sizes.get(d, d) for d in t.shape or ()))
        if t.dtype == FLOAT32
        else rng.integers(0, 10, [sizes[d] for d in t.shape or ()])
        for n, t in graph.inputs.items()
    }
    takes_none = not name.startswith(("the last step", "convolution"))
    cuts = [cut for cut in CUTS if takes_none or 0 not in cut]
    assert_whole(load(graph), feeds, axes, outputs, cuts)


# What is refused


def once(op: str, *inputs: str, **attrs: Any) -> list[Node]:
    """A node called "it" from z, or what is named, to out."""
    return [Node(op, inputs or ("z",), ("out",), attrs, "it")]


def mixing(*nodes: Node, **constants: Any) -> Graph:
    return surrounded((), nodes, **constants)


BACKWARD = {"direction": "reverse"}
ONE = np.array([1])
MASK = TensorType(FLOAT32, ("T", 1, 1))
REFUSED: dict[str, tuple[Graph, str]] = {
    "softmax": (mixing(*once("Softmax", axis=0)), "Softmax node 'it' normalises over time"),
    "reduction": (
        mixing(*once("ReduceMax", "z", "a"), a=np.array([0])),
        "ReduceMax node 'it' reduces over time",
    ),
    "reduction of everything": (mixing(*once("ReduceSum")), "reduces over time"),
    "arg max": (mixing(*once("ArgMax", axis=0)), "ArgMax node 'it' reduces over time"),
    "layer norm": (
        mixing(*once("LayerNormalization", "z", "s", axis=0), s=np.float32(1)),
        "normalises over time",
    ),
    "running sum": (
        mixing(*once("CumSum", "z", "a"), a=np.array(0)),
        "CumSum node 'it' sums up from the first step on",
    ),
    "top": (
        surrounded((), [Node("TopK", ("z", "a"), ("out", ""), {"axis": 0}, "it")], a=ONE),
        "selects over time",
    ),
    "reversal": (
        surrounded(
            [Node("Identity", ("raw",), ("x",))],
            once("ReverseSequence", "z", "l"),
            inputs={"raw": X, "l": TensorType(INT64, ("N",))},
        ),
        "reverses time",
    ),
    "convolution": (
        surrounded(
            [
                Node("Transpose", ("raw",), ("c",), {"perm": (1, 2, 0)}),
                Node("Conv", ("c", "k"), ("d",), {"pads": (1, 1)}, "it"),
                Node("Transpose", ("d",), ("x",), {"perm": (2, 0, 1)}),
            ],
            once("Identity"),
            k=weights(np.random.default_rng(0), SIZE, SIZE, 3),
        ),
        "Conv node 'it' has windows of 3 over time, 1 apart",
    ),
    "pooling": (
        surrounded(
            (),
            [
                Node("Transpose", ("z",), ("c",), {"perm": (1, 2, 0)}),
                *once("GlobalMaxPool", "c"),
            ],
        ),
        "GlobalMaxPool node 'it' pools over time",
    ),
    "attention": (
        surrounded(
            (),
            [
                Node("Transpose", ("z",), ("q",), {"perm": (1, 0, 2)}),
                Node("Transpose", ("z",), ("k",), {"perm": (1, 2, 0)}),
                *once("MatMul", "q", "k"),
            ],
        ),
        "MatMul node 'it' multiplies each step with every other",
    ),
    "sum by a product": (
        mixing(
            Node("Transpose", ("z",), ("q",), {"perm": (1, 2, 0)}),
            Node("Transpose", ("z",), ("k",), {"perm": (1, 0, 2)}),
            *once("MatMul", "q", "k"),
        ),
        "MatMul node 'it' sums over time",
    ),
    "joined along time": (mixing(*once("Concat", "z", "z", axis=0)), "joins tensors along time"),
    "padded": (
        mixing(*once("Pad", "z", "p"), p=np.array([1, 0, 0, 0, 0, 0])),
        "Pad node 'it' pads time",
    ),
    "split": (mixing(*once("Split", num_outputs=1)), "splits time"),
    "the first step": (
        mixing(*once("Gather", "z", "a", axis=0), a=np.array(0)),
        "Gather node 'it' selects steps by their number, other than the last one alone",
    ),
    "the last but one": (
        mixing(*once("Gather", "z", "a", axis=0), a=np.array(-2)),
        "selects steps by their number",
    ),
    "all but the last": (
        mixing(*once("Slice", "z", "s", "e"), s=np.array([0]), e=np.array([-1])),
        "Slice node 'it' selects steps by their number",
    ),
    "a limit far away": (
        mixing(*once("Slice", "z", "s", "e"), s=np.array([0]), e=np.array([100000])),
        "selects steps by their number",
    ),
    "every other step": (
        mixing(
            *once("Slice", "z", "s", "e", "a", "two_"),
            s=np.array([0]), e=np.array([2**62]), a=np.array([0]), two_=np.array([2]),
        ),
        "selects steps by their number",
    ),
    "backwards": (
        mixing(
            *once("Slice", "z", "s", "e", "a", "m"),
            s=np.array([-1]), e=np.array([-(2**62)]), a=np.array([0]), m=np.array([-1]),
        ),
        "selects steps by their number",
    ),
    "positions": (
        mixing(
            Node("Shape", ("z",), ("n",), {"end": 1}),
            Node("Squeeze", ("n",), ("count",)),
            Node("Range", ("zero", "count", "one"), ("at",), {}, "numbers"),
            Node("Gather", ("table", "at"), ("rows",)),
            Node("Unsqueeze", ("rows", "a"), ("wide",)),
            *once("Add", "z", "wide"),
            zero=np.array(0), one=np.array(1), a=ONE, table=weights(np.random.default_rng(0), 9, 5),
        ),
        "Range node 'numbers' computes with the number of steps",
    ),
    "positions, sliced": (
        mixing(
            Node("Shape", ("z",), ("n",), {"end": 1}),
            Node("Slice", ("table", "zero", "n"), ("rows",), {}, "some"),
            *once("Add", "z", "rows"),
            zero=np.array([0]), table=weights(np.random.default_rng(0), 9000, 1, 5),
        ),
        "Slice node 'some' computes with the number of steps",
    ),
    "the mean, written out": (
        mixing(
            Node("Shape", ("z",), ("n",), {"end": 1}),
            Node("Cast", ("n",), ("count",), {"to": 1}),
            *once("Div", "z", "count"),
        ),
        "Div node 'it' computes with the number of steps",
    ),
    "steps counted": (
        mixing(*once("Size"), Node("Identity", ("z",), ("other",))),
        "output 'out' counts the steps",
    ),
    "the last state at every step": (
        mixing(*once("Add", "z", "h")),
        "Add node 'it' joins what is known after a piece with every step of it",
    ),
    "begun from the last state": (
        mixing(
            Node("GRU", ("z", "w0_", "r0", "", "", "h"), ("", "out"), {}, "it"),
            w0_=weights(np.random.default_rng(0), 1, 15, 5),
        ),
        "GRU node 'it' takes its initial_h from the steps",
    ),
    "reverse": (
        surrounded((), once("Identity"), attrs=BACKWARD),
        "GRU node 'layer 0' is reverse: it begins at the end of the sequence",
    ),
    "lengths": (
        surrounded(
            [Node("Identity", ("raw",), ("x",))],
            [Node("RNN", ("z", "w1", "r1", "", "lengths"), ("", "out"), {}, "it")],
            inputs={"raw": X, "lengths": TensorType(INT32, ("N",))},
            w1=weights(np.random.default_rng(4), 1, 2, 5),
            r1=weights(np.random.default_rng(5), 1, 2, 2),
        ),
        "RNN node 'it' takes sequence_lens, the lengths of whole sequences",
    ),
    "all axes of size one dropped": (
        mixing(*once("Squeeze")),
        "Squeeze node 'it' drops every axis of size 1, time too in a piece of one step",
    ),
    "scrambled": (
        mixing(
            Node("Shape", ("z",), ("shape",)),
            Node("Gather", ("shape", "order"), ("wanted",)),
            *once("Reshape", "z", "wanted"),
            order=np.array([1, 0, 2]),
        ),
        "Reshape node 'it' puts elements of different steps on one place of an axis",
    ),
    "a factor for each position": (
        mixing(*once("Mul", "z", "mask"), mask=weights(np.random.default_rng(0), 5, 1, 1)),
        "Mul node 'it' joins each step with a value for its position",
    ),
    "chosen by value": (
        mixing(
            Node("Reshape", ("z", "flat"), ("row",)),
            Node("Greater", ("row", "zero"), ("positive",)),
            Node("Compress", ("row", "positive"), ("out",), {"axis": 0}, "it"),
            flat=np.array([-1]), zero=np.float32(0),
        ),
        "Compress node 'it' is not known to treat every step alike",
    ),
    "two axes of time": (
        surrounded(
            [Node("Gemm", ("pairs", "pairs"), ("square",), {"transB": 1}),
             Node("Identity", ("raw",), ("x",))],
            once("Identity"),
            ("out", "square"),
            inputs={"raw": X, "pairs": TensorType(FLOAT32, ("T", "T"))},
        ),
        "input 'pairs' has two axes that would be time",
    ),
    "no time in sight": (
        surrounded(
            [
                Node("ConstantOfShape", ("three",), ("zeros",)),
                Node("Add", ("zeros", "raw"), ("x",)),
            ],
            once("Identity"),
            inputs={"raw": TensorType(FLOAT32, (1,))},
            three=np.array([4, 1, 3]),
        ),
        "GRU node 'layer 0' runs over an axis that is not found to be an input's",
    ),
    "no states": (
        Graph({"x": X}, {"out": X}, (Node("Relu", ("x",), ("out",)),), {}),
        "it has no states to carry",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_local_is_refused_by_name(name: str) -> None:
    graph, message = REFUSED[name]
    with pytest.raises(UnsupportedError, match="graph 'main' runs as a whole only") as raised:
        load(graph).stream()
    assert message in str(raised.value)


def test_every_node_at_fault_is_named() -> None:
    graph = mixing(
        Node("Softmax", ("z",), ("a",), {"axis": 0}, "one"),
        Node("Concat", ("a", "a"), ("b",), {"axis": 0}, "two"),
        Node("ReduceSum", ("b",), ("out",), {}, "three"),
    )
    with pytest.raises(UnsupportedError) as raised:
        load(graph).stream()
    assert [line.split("'")[1] for line in str(raised.value).splitlines()[1:]] == [
        "one", "two", "three",
    ]  # fmt: skip


# Steps, resets, copies, errors


def tagger() -> Graph:
    """ids [T, N] to out [T, N, 5] by a table of ten rows, and h."""
    return surrounded(
        [Node("Gather", ("table", "ids"), ("x",), {}, "lookup")],
        [Node("Identity", ("z",), ("out",))],
        ("out", "h"),
        inputs={"ids": TensorType(INT64, ("T", "N"))},
        table=table(10),
    )


IDS = np.random.default_rng(0).integers(0, 10, (13, BATCH))


def test_a_failed_step_leaves_the_stream_as_it_was(engine: str) -> None:
    stream, whole = load(tagger()).stream(), load(tagger()).run({"ids": IDS})
    bad = np.full((3, BATCH), 10)
    with pytest.raises(DataError, match="Gather node 'lookup'"):
        stream.step({"ids": bad})
    found = [stream.step({"ids": IDS[:3]})["out"]]
    for wrong, error in (
        ({"ids": bad}, DataError),
        ({"ids": bad[:2]}, DataError),
        ({}, InputError),
        ({"ids": IDS[:3].astype(np.float32)}, InputError),
        ({"ids": IDS[:3], "more": IDS}, InputError),
        ({"ids": IDS[:3, :1]}, InputError),
        ({"ids": IDS[0]}, InputError),
    ):
        with pytest.raises(error):
            stream.step(wrong)
    found += [stream.step({"ids": IDS[a:b]})["out"] for a, b in ((3, 6), (6, 13))]
    np.testing.assert_allclose(np.concatenate(found), whole["out"], atol=1e-6)


@pytest.mark.parametrize("steps", [1, 4])
def test_another_batch_needs_a_reset(engine: str, steps: int) -> None:
    stream = load(tagger()).stream()
    first = stream.step({"ids": IDS[:1]})
    message = re.escape(f"input 'ids' has shape ({steps}, 1), the stream began with (1, 2)")
    with pytest.raises(InputError, match=f"{message}.*reset"):
        stream.step({"ids": IDS[:steps, :1]})
    stream.reset()
    one = stream.step({"ids": IDS[:1, :1]})
    np.testing.assert_allclose(one["h"], first["h"][:, :1], atol=1e-6)
    stream.reset()
    np.testing.assert_array_equal(stream.step({"ids": IDS[:1]})["h"], first["h"])


def test_states_of_the_models_own_fix_their_batch_too(engine: str) -> None:
    for batch in ("N", None):
        graph = cell()
        types = {n: replace(t, shape=(batch, 2)) if t.shape else t for n, t in graph.inputs.items()}
        stream = load(replace(graph, inputs={**types, "total": graph.inputs["total"]})).stream()
        if batch is None:
            with pytest.raises(InputError, match="the size of state 'total' is not known"):
                stream.step({"x": np.ones((1, 2), np.float32)})
            continue
        stream.step({"x": np.ones((1, 2), np.float32)})
        with pytest.raises(InputError, match="reset"):
            stream.step({"x": np.ones((3, 2), np.float32)})
        assert stream.step({"x": np.ones((1, 2), np.float32)})["steps"] == 2


def test_results_belong_to_the_caller(engine: str) -> None:
    stream, other = load(tagger()).stream(), load(tagger()).stream()
    for k in range(4):
        result = stream.step({"ids": IDS[k : k + 1]})
        expected = other.step({"ids": IDS[k : k + 1]})
        np.testing.assert_array_equal(result["h"], expected["h"])
        for array in result.values():
            array[...] = np.nan


def test_a_copy_goes_its_own_way(engine: str) -> None:
    stream = load(tagger()).stream()
    fresh = stream.copy()
    stream.step({"ids": IDS[:2]})
    fork = stream.copy()
    assert fresh.step({"ids": IDS[:2]})["h"].any()
    left, right = (s.step({"ids": IDS[2:5]})["h"] for s in (stream, fork))
    np.testing.assert_array_equal(left, right)
    fork.step({"ids": IDS[5:9]})
    copy = stream.copy()
    np.testing.assert_array_equal(
        stream.step({"ids": IDS[5:6]})["h"], copy.step({"ids": IDS[5:6]})["h"]
    )
    fork.reset()
    np.testing.assert_array_equal(
        fork.step({"ids": IDS[:5]})["h"], load(tagger()).stream().step({"ids": IDS[:5]})["h"]
    )


def test_lists_and_views_are_taken_as_run_takes_them(engine: str) -> None:
    stream, other = load(tagger()).stream(), load(tagger()).stream()
    wide = np.repeat(IDS, 2, axis=1)[:, ::2]
    for k in (0, 2, 4):
        a = stream.step({"ids": IDS[k : k + 2].tolist()})["out"]
        b = other.step({"ids": wide[k : k + 2]})["out"]
        np.testing.assert_array_equal(a, b)


def test_more_lengths_than_a_stream_remembers() -> None:
    """Memory grows and is given new contents while states go on."""
    model = load(tagger())
    rng = np.random.default_rng(8)
    sizes = [1, 70, 2, *range(3, 69), 1, 70, 500, 1]
    ids = rng.integers(0, 10, (sum(sizes), 1))
    found = in_pieces(model.stream(), {"ids": ids}, {"ids": 0}, sizes)
    whole = model.run({"ids": ids})["out"]
    np.testing.assert_allclose(np.concatenate([r["out"] for r in found]), whole, atol=1e-6)


def test_streams_of_one_model_are_independent() -> None:
    model = load(STACKS["lstm, two"])
    x = weights(np.random.default_rng(6), 4, 40, BATCH, SIZE)
    whole = [model.run({"x0": one})["x2"] for one in x]

    def run(k: int) -> Array:
        stream = model.stream()
        for _ in range(3):
            stream.reset()
            cut = (1, 3) * 10
            found = in_pieces(stream, {"x0": x[k]}, {"x0": 0}, cut)
        return np.concatenate([r["x2"] for r in found])

    with ThreadPoolExecutor(4) as pool:
        for found, wanted in zip(pool.map(run, range(4)), whole, strict=True):
            np.testing.assert_allclose(found, wanted, atol=1e-6)


@pytest.mark.native
def test_a_step_runs_where_its_states_lie() -> None:
    """The states' memory is the arena's front: what a step reads and leaves there."""
    model = load(STACKS["lstm, two"])
    stream = model.stream()
    for _ in range(3):
        stream.step({"x0": np.ones((1, BATCH, SIZE), np.float32)})
    assert list(stream._session._calls) == [((1, BATCH, SIZE),)]


# torch


class Tagger(nn.Module):
    """Embedding, two layers, linear: scores for each step, and for the last."""

    def __init__(self, kind: type[nn.RNNBase], *, batch_first: bool) -> None:
        super().__init__()
        self.embedding = nn.Embedding(10, 8)
        self.rnn = kind(8, 6, 2, batch_first=batch_first)
        self.norm = nn.LayerNorm(6)
        self.linear = nn.Linear(6, 4)
        self.last = -1 if not batch_first else (slice(None), -1)

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        y, state = self.rnn(self.embedding(ids))
        h = state[0] if isinstance(state, tuple) else state
        scores = torch.log_softmax(self.linear(self.norm(y)), -1)
        return scores, self.linear(h[-1]) + y[self.last].sum(-1, keepdim=True)


class Around(nn.Module):
    """A layer between two other modules; channels first where the first one wants it so."""

    def __init__(self, before: nn.Module, rnn: nn.RNNBase, after: nn.Module) -> None:
        super().__init__()
        self.before, self.rnn, self.after = before, rnn, after

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(self.before, nn.Conv1d):
            x = self.before(x.transpose(1, 2)).transpose(1, 2)
        y: Tensor = self.after(self.rnn(x)[0])
        return y


def converted(module: nn.Module, *example: Tensor) -> lightrnn.Model:
    target = io.BytesIO()
    convert_torch(module.eval(), example, target)
    return lightrnn.load(target.getvalue())


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM])
def test_torch_models_in_pieces(kind: type[nn.RNNBase], batch_first: bool) -> None:
    torch.manual_seed(0)
    module = Tagger(kind, batch_first=batch_first)
    model = converted(module, torch.ones((3, 4), dtype=torch.int64))
    ids = IDS.T if batch_first else IDS
    with torch.no_grad():
        scores, last = (t.numpy() for t in module(torch.from_numpy(ids)))
    axis = 1 if batch_first else 0
    names = list(model.graph("main").outputs)
    for cut in ((13,), (1,) * 13, (5, 1, 7)):
        found = in_pieces(model.stream(), {"ids": ids}, {"ids": axis}, cut)
        pieces = np.concatenate([r[names[0]] for r in found], axis)
        np.testing.assert_allclose(pieces, scores, atol=1e-5)
        np.testing.assert_allclose(found[-1][names[1]], last, atol=1e-5)


@pytest.mark.parametrize(
    ("before", "rnn", "after", "message"),
    [
        (
            nn.Conv1d(4, 4, 3, padding=1), nn.GRU(4, 4, batch_first=True), nn.Identity(),
            "Conv node .* has windows of 3 over time",
        ),
        (
            nn.Identity(), nn.LSTM(4, 4, batch_first=True, bidirectional=True), nn.Identity(),
            "LSTM node .* is bidirectional",
        ),
        (nn.Identity(), nn.GRU(4, 4, batch_first=True), nn.Softmax(1), "Softmax node .* over time"),
    ],
)  # fmt: skip
def test_torch_models_that_need_the_whole(
    before: nn.Module, rnn: nn.RNNBase, after: nn.Module, message: str
) -> None:
    model = converted(Around(before, rnn, after), torch.randn(3, 7, 4))
    with pytest.raises(UnsupportedError, match=message):
        model.stream()


def test_a_convolution_of_one_step_is_no_obstacle() -> None:
    torch.manual_seed(0)
    module = Around(nn.Conv1d(4, 3, 1), nn.LSTM(3, 5, batch_first=True), nn.Linear(5, 2))
    model = converted(module, torch.randn(3, 7, 4))
    x = torch.randn(2, 13, 4)
    with torch.no_grad():
        whole = module(x).numpy()
    found = in_pieces(model.stream(), {"x": x.numpy()}, {"x": 1}, (3, 1, 9))
    np.testing.assert_allclose(np.concatenate([r["output"] for r in found], 1), whole, atol=1e-5)
