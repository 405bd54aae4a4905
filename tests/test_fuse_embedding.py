"""An embedding that a recurrent layer alone reads: same results, whichever way a plan takes."""

from __future__ import annotations

import numpy as np
import pytest

from bench.models import as_onnx
from lightrnn.engine.prepare import PackedStore, prepare
from lightrnn.errors import DataError
from lightrnn.graph import FLOAT32, INT32, INT64, Array, Attr, Graph, Node, TensorType
from tests.streams import engine, load

__all__ = ["engine"]

ROWS, WIDTH, HIDDEN = 40, 6, 5
GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
RANKS = {"y": 4, "y_h": 3, "y_c": 3, "embedded": 3}


def embedded(
    op: str = "GRU",
    direction: str = "forward",
    *,
    turned: bool = True,
    bias: bool = True,
    dtype: np.dtype[np.int64] | np.dtype[np.int32] = INT64,
    shown: tuple[str, ...] = (),
    **attrs: Attr,
) -> Graph:
    """ids [N, T] (or [T, N]), an embedding of ROWS rows, a layer; Y and the last states.

    shown: further outputs.
    """
    rng = np.random.default_rng(3)
    d, g = (2 if direction == "bidirectional" else 1), GATES[op] * HIDDEN

    def drawn(*shape: int) -> Array:
        return (rng.standard_normal(shape) * 0.5).astype(np.float32)

    constants = {"table": drawn(ROWS, WIDTH), "w": drawn(d, g, WIDTH), "r": drawn(d, g, HIDDEN)}
    if bias:
        constants["b"] = drawn(d, 2 * g)
    nodes = [Node("Gather", ("table", "ids"), ("embedded",), {"axis": 0}, "look up")]
    if turned:
        nodes.append(Node("Transpose", ("embedded",), ("x",), {"perm": (1, 0, 2)}))
    inputs = ("x" if turned else "embedded", "w", "r", "b" if bias else "", "lens")
    results = ("y", "y_h", "y_c")[: 3 if op == "LSTM" else 2]
    attrs = {"direction": direction, "hidden_size": HIDDEN, **attrs}
    nodes.append(Node(op, inputs, results, attrs, "layer"))
    kinds = {
        "ids": TensorType(dtype, ("N", "T") if turned else ("T", "N")),
        "lens": TensorType(INT32, ("N",)),
    }
    outputs = {n: TensorType(FLOAT32, (None,) * RANKS[n]) for n in (*results, *shown)}
    return Graph(kinds, outputs, tuple(nodes), constants)


def fed(graph: Graph, time: int, batch: int) -> dict[str, Array]:
    """Random ids, some counted from the end of the table, and lengths."""
    rng = np.random.default_rng(time)
    shape = (batch, time) if graph.inputs["ids"].shape == ("N", "T") else (time, batch)
    ids = rng.integers(-ROWS, ROWS, shape).astype(graph.inputs["ids"].dtype)
    return {"ids": ids, "lens": rng.integers(1, time + 1, batch).astype(np.int32)}


CASES = {
    "gru": embedded(),
    "gru of torch": embedded(linear_before_reset=1),
    "gru both ways": embedded(direction="bidirectional", linear_before_reset=1),
    "lstm": embedded("LSTM", "bidirectional"),
    "lstm backward, no bias": embedded("LSTM", "reverse", bias=False),
    "rnn, ids by time": embedded("RNN", turned=False),
    "gru, int32 ids by time": embedded(turned=False, dtype=INT32),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(("time", "batch"), [(2, 1), (9, 1), (33, 3), (600, 40)])
def test_results_are_those_of_onnxruntime(name: str, time: int, batch: int, engine: str) -> None:
    """600 steps are done in chunks."""
    onnxruntime = pytest.importorskip("onnxruntime")
    graph = CASES[name]
    feeds = fed(graph, time, batch)
    session = onnxruntime.InferenceSession(as_onnx(graph), providers=["CPUExecutionProvider"])
    wanted = dict(zip(graph.outputs, session.run(list(graph.outputs), feeds), strict=True))
    found = load(graph).run(feeds)
    for output, values in wanted.items():
        np.testing.assert_allclose(found[output], values, rtol=0, atol=2e-6)


@pytest.mark.native
@pytest.mark.parametrize("limit", ["LARGEST_TABLE", "MOST_PRODUCTS"])
def test_a_small_table_spares_the_product(limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = embedded(direction="bidirectional")

    def kernels() -> list[str]:
        plan = load(graph).plan({"ids": (3, 2), "lens": (3,)})
        assert not plan.host_steps
        return [i.kernel for i in plan.instructions]

    assert "project" not in kernels()
    assert kernels().count("gather_rows") == 3
    wanted = load(graph).run(fed(graph, 9, 3))
    monkeypatch.setattr(f"lightrnn.ops.embedded.{limit}", 2000)
    assert kernels().count("project") == 1
    for name, values in load(graph).run(fed(graph, 9, 3)).items():
        np.testing.assert_allclose(values, wanted[name], rtol=0, atol=2e-6)


@pytest.mark.native
def test_results_do_not_depend_on_what_shares_a_batch() -> None:
    graph = embedded("LSTM", "bidirectional")
    model, feeds = load(graph), fed(graph, 40, 30)
    feeds["lens"][:] = 40
    whole = model.run(feeds)
    for n in range(30):
        alone = model.run({name: array[n : n + 1] for name, array in feeds.items()})
        for name, values in alone.items():
            np.testing.assert_array_equal(values[..., 0, :], whole[name][..., n, :])


@pytest.mark.parametrize("bad", [ROWS, -ROWS - 1])
@pytest.mark.parametrize("batch", [1, 20])
def test_an_id_out_of_range_is_the_look_ups(bad: int, batch: int, engine: str) -> None:
    model, feeds = load(embedded()), fed(embedded(), 3, batch)
    feeds["ids"][0, 1] = bad
    with pytest.raises(DataError, match="Gather node 'look up'"):
        model.run(feeds)


@pytest.mark.parametrize(
    "graph",
    [embedded(shown=("embedded",)), embedded(turned=False, shown=("embedded",))],
    ids=["turned", "as it is"],
)
def test_an_embedding_that_others_read_is_made(graph: Graph, engine: str) -> None:
    feeds = fed(graph, 4, 20)
    found = load(graph).run(feeds)["embedded"]
    np.testing.assert_array_equal(found, graph.constants["table"][feeds["ids"]])


def test_tensors_named_like_the_added_constant_are_left_alone(engine: str) -> None:
    plain = embedded()
    named = Graph(
        {**plain.inputs, "numbers of table": TensorType(FLOAT32, (1,))},
        {**plain.outputs, "same": TensorType(FLOAT32, (1,))},
        (*plain.nodes, Node("Neg", ("numbers of table",), ("same",))),
        plain.constants,
    )
    feeds = fed(plain, 4, 20)
    found = load(named).run({**feeds, "numbers of table": np.array([3], np.float32)})
    np.testing.assert_array_equal(found["y"], load(plain).run(feeds)["y"])
    assert found["same"] == -3


def test_a_table_that_others_read_too_is_one_constant() -> None:
    twice = embedded()
    again = tuple(
        Node(n.op, n.inputs, tuple(f"{o}2" for o in n.outputs), n.attrs, n.origin)
        if n.op == "Gather" else
        Node(n.op, tuple(f"{i}2" if i in ("x", "embedded") else i for i in n.inputs),
             tuple(f"{o}2" for o in n.outputs), n.attrs, n.origin)
        for n in twice.nodes
    )  # fmt: skip
    both = Graph(
        twice.inputs, {**twice.outputs, "y2": twice.outputs["y"]}, (*twice.nodes, *again),
        twice.constants,
    )  # fmt: skip
    prepared = prepare(both, tuple(both.outputs), PackedStore())
    added = [n for n in prepared.graph.constants if n not in both.constants]
    assert added == ["numbers of table"]
    found = load(both).run(fed(twice, 5, 20))
    np.testing.assert_array_equal(found["y"], found["y2"])
