"""Streams: pieces of any size give what the whole gives, and what steps, resets and copies do."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from lightrnn.errors import DataError, InputError, UnsupportedError
from lightrnn.graph import FLOAT32, INT64, Array, Graph, Node, TensorType
from lightrnn.record import replace
from tests.streams import (
    BATCH,
    CUTS,
    HIDDEN,
    SIZE,
    assert_whole,
    engine,
    in_pieces,
    load,
    stack,
    surrounded,
    table,
    weights,
)  # fmt: skip

__all__ = ["engine"]

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
    calls = stream._session._calls
    assert (len(calls), calls.latest[0]) == (1, ((1, BATCH, SIZE),))
