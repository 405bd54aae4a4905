"""Plans, arenas, threads: the engine on graphs made here."""

from __future__ import annotations

import multiprocessing
import os
import threading
from typing import Any

import numpy as np
import pytest

from lightrnn.engine.arena import Arena, NativeCall
from lightrnn.engine.executor import TEAM, Executor, team_of
from lightrnn.engine.interpret import evaluate
from lightrnn.engine.memory import Buffer, lay_out, rounded
from lightrnn.engine.prepare import MAX_PLANS, PackedStore, Prepared, prepare
from lightrnn.engine.team import Team, default_threads
from lightrnn.errors import DataError, InputError
from lightrnn.graph import FLOAT32, INT32, INT64, Array, Graph, Node, TensorType
from lightrnn.native import abi, library

pytestmark = pytest.mark.native


def recurrent_graph(op: str, hidden: int, *, lengths: bool = False, seed: int = 0) -> Graph:
    """One bidirectional layer, x [T, N, hidden] to y [T, 2, N, hidden]."""
    rng = np.random.default_rng(seed)
    gates = {"RNN": 1, "GRU": 3, "LSTM": 4}[op]

    def weights(*shape: int) -> Array:
        return rng.uniform(-(hidden**-0.5), hidden**-0.5, shape).astype(np.float32)

    inputs = {"x": TensorType(FLOAT32, ("T", "N", hidden))}
    if lengths:
        inputs["lengths"] = TensorType(INT32, ("N",))
    node = Node(
        op,
        ("x", "w", "r", "b", *(["lengths"] if lengths else [])),
        ("y",),
        {"hidden_size": hidden, "direction": "bidirectional"},
        "layer",
    )
    constants = {
        "w": weights(2, gates * hidden, hidden),
        "r": weights(2, gates * hidden, hidden),
        "b": weights(2, 2 * gates * hidden),
    }
    outputs = {"y": TensorType(FLOAT32, ("T", 2, "N", hidden))}
    return Graph(inputs, outputs, (node,), constants)


def prepared(graph: Graph) -> Prepared:
    return prepare(graph, tuple(graph.outputs), PackedStore())


def executor(threads: int) -> Executor:
    kernels = library.load()
    assert kernels is not None
    return Executor(kernels, threads)


def run(engine: Executor, graph: Prepared, *arrays: Array) -> list[Array]:
    return engine.run(graph.plan(tuple(a.shape for a in arrays)), arrays)


def sequence(time: int, batch: int, size: int, seed: int = 1) -> Array:
    return np.random.default_rng(seed).standard_normal((time, batch, size)).astype(np.float32)


def test_layout_never_overlaps_living_buffers() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        buffers = []
        for _ in range(40):
            first = int(rng.integers(0, 30))
            last = first + int(rng.integers(0, 8))
            buffers.append(Buffer(int(rng.integers(0, 1000)), None, first, last))
        total = lay_out(buffers)
        for k, a in enumerate(buffers):
            assert a.offset % 64 == 0
            assert 0 <= a.offset <= total - rounded(a.nbytes)
            for b in buffers[:k]:
                apart = a.last < b.first or b.last < a.first
                before = a.offset + rounded(a.nbytes) <= b.offset
                after = b.offset + rounded(b.nbytes) <= a.offset
                assert apart or before or after


def test_layout_reuses_memory_of_the_dead() -> None:
    chain = [Buffer(1000, None, k, k + 1) for k in range(100)]
    assert lay_out(chain) == 2 * rounded(1000)


@pytest.mark.parametrize("op", ["RNN", "GRU", "LSTM"])
def test_one_native_call_agrees_with_numpy_semantics(op: str) -> None:
    graph = recurrent_graph(op, 24)
    ready, engine = prepared(graph), executor(1)
    for time, batch in ((1, 1), (7, 3), (120, 2)):
        x = sequence(time, batch, 24)
        plan = ready.plan((x.shape,))
        assert plan.host_steps == ()
        assert plan.native_calls == 1
        (y,) = run(engine, ready, x)
        np.testing.assert_allclose(y, evaluate(graph, {"x": x})["y"], atol=2e-6)


def test_a_thousand_shapes_keep_one_arena_and_few_plans() -> None:
    ready, engine = prepared(recurrent_graph("GRU", 8)), executor(1)
    run(engine, ready, sequence(300, 4, 8))
    largest = engine.arena_bytes
    assert largest > 0
    for k in range(1000):
        run(engine, ready, sequence(1 + k % 300, 1 + k % 4, 8))
    assert engine.arena_bytes == largest
    assert len(ready.plans) <= MAX_PLANS


def test_packed_weights_are_shared_by_plans() -> None:
    ready = prepared(recurrent_graph("LSTM", 16))
    plans = [ready.plan(((t, 1, 16),)) for t in (1, 5, 9)]
    projections = [next(i for i in plan.instructions if i.kernel == "project") for plan in plans]
    names = [p.name for p in abi.KERNELS["project"].parameters]
    for name in ("w", "bias"):
        assert len({i.args[names.index(name)] for i in projections}) == 1


def test_outputs_are_the_callers_own() -> None:
    ready, engine = prepared(recurrent_graph("RNN", 8)), executor(1)
    x = sequence(4, 2, 8)
    (first,) = run(engine, ready, x)
    kept = first.copy()
    (second,) = run(engine, ready, -x)
    assert not np.shares_memory(first, second)
    np.testing.assert_array_equal(first, kept)
    assert first.flags.writeable
    assert first.flags.owndata


def big_case() -> tuple[Prepared, Array]:
    """A program long enough for the team."""
    ready = prepared(recurrent_graph("LSTM", 128))
    x = sequence(60, 2, 128)
    assert sum(i.work for i in ready.plan((x.shape,)).instructions) > TEAM
    return ready, x


@pytest.mark.parametrize("shape", [(60, 2, 128), (40, 30, 128), (200, 1, 128)])
def test_bits_do_not_depend_on_the_number_of_threads(shape: tuple[int, int, int]) -> None:
    ready = prepared(recurrent_graph("GRU", 128))
    x = sequence(*shape)
    (expected,) = run(executor(1), ready, x)
    for threads in (2, 3, 5):
        engine = executor(threads)
        for _ in range(3):
            np.testing.assert_array_equal(run(engine, ready, x)[0], expected)


def test_sixteen_threads_may_run_one_model() -> None:
    ready, big = big_case()
    engine = executor(2)
    inputs = [big, *(sequence(1 + k, 1 + k % 3, 128, seed=k) for k in range(15))]
    single = executor(1)
    expected = [run(single, ready, x)[0] for x in inputs]
    wrong: list[int] = []

    def work(k: int) -> None:
        for _ in range(20):
            if not np.array_equal(run(engine, ready, inputs[k])[0], expected[k]):
                wrong.append(k)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert wrong == []


def _in_child(ready: Prepared, x: Array, expected: Array, results: Any) -> None:
    engine = executor(2)
    results.put(all(np.array_equal(run(engine, ready, x)[0], expected) for _ in range(5)))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_has_a_team_of_its_own() -> None:
    ready, x = big_case()
    (expected,) = run(executor(2), ready, x)
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    child = context.Process(target=_in_child, args=(ready, x, expected, results))
    child.start()
    assert results.get(timeout=60) is True
    child.join(60)
    assert child.exitcode == 0
    np.testing.assert_array_equal(run(executor(2), ready, x)[0], expected)


def test_a_busy_team_is_not_waited_for() -> None:
    ready, x = big_case()
    kernels = library.load()
    assert kernels is not None
    team = team_of(kernels)
    (expected,) = run(executor(1), ready, x)
    assert team._busy.acquire(blocking=False)
    try:
        np.testing.assert_array_equal(run(executor(2), ready, x)[0], expected)
    finally:
        team._busy.release()


def test_a_stopped_team_starts_again() -> None:
    kernels = library.load()
    assert kernels is not None
    team = Team(kernels)
    ready, x = big_case()
    (expected,) = run(executor(1), ready, x)
    frame = Arena().make_frame(ready.plan((x.shape,)), kernels.addresses)
    frame.inputs[0][...] = x
    (call,) = frame.steps
    assert isinstance(call, NativeCall)
    for _ in range(2):
        frame.outputs[0][...] = np.nan
        assert team.try_run(call.args, 2, 10**9)
        np.testing.assert_array_equal(frame.outputs[0], expected)
        workers = list(team._workers)
        assert len(workers) == 1
        team.stop()
        assert not any(w.is_alive() for w in workers)


@pytest.mark.parametrize("bad", [-1, 6, 2**31 - 1])
def test_a_bad_length_is_named_and_harmless(bad: int) -> None:
    ready, engine = prepared(recurrent_graph("GRU", 8, lengths=True)), executor(1)
    x = sequence(5, 2, 8)
    with pytest.raises(DataError, match="GRU node 'layer'"):
        run(engine, ready, x, np.array([5, bad], np.int32))
    (y,) = run(engine, ready, x, np.array([5, 0], np.int32))
    assert np.all(y[:, :, 1] == 0)


def test_threads_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIGHTRNN_THREADS", "3")
    assert default_threads() == 3
    monkeypatch.setenv("LIGHTRNN_THREADS", "none")
    with pytest.raises(InputError, match="LIGHTRNN_THREADS"):
        default_threads()
    monkeypatch.delenv("LIGHTRNN_THREADS")
    assert 1 <= default_threads() <= len(os.sched_getaffinity(0))


def test_elements_keep_their_type_after_a_shape_that_depends_on_values() -> None:
    int64 = np.dtype(np.int64)
    nodes = (
        Node("Compress", ("x", "keep"), ("kept",), {"axis": 0}),
        Node("Add", ("kept", "kept"), ("y",)),
    )
    inputs = {"x": TensorType(int64, ("N",)), "keep": TensorType(np.dtype(np.bool_), ("N",))}
    outputs = {"kept": TensorType(int64, (None,)), "y": TensorType(int64, (None,))}
    ready, x = prepared(Graph(inputs, outputs, nodes, {})), np.array([2**53 + 1, 5, -7])
    kept, y = run(executor(1), ready, x, np.array([True, False, True]))
    np.testing.assert_array_equal(kept, x[[0, 2]], strict=True)
    np.testing.assert_array_equal(y, 2 * x[[0, 2]], strict=True)


def test_what_is_made_from_values_keeps_its_type() -> None:
    graph = Graph(
        {"x": TensorType(FLOAT32, ("N",))},
        {"found": TensorType(INT64, (1, None)), "twice": TensorType(INT64, (1, None))},
        (Node("NonZero", ("x",), ("found",)), Node("Add", ("found", "found"), ("twice",))),
        {},
    )
    found, twice = run(executor(1), prepared(graph), np.array([0, 3, 0, 1], np.float32))
    assert found.dtype == twice.dtype == np.int64
    np.testing.assert_array_equal(found, [[1, 3]])
    np.testing.assert_array_equal(twice, [[2, 6]])


def test_folding_stays_within_memory_and_raises_no_warnings() -> None:
    graph = Graph(
        {},
        {"big": TensorType(FLOAT32, (2**20, 2**20)), "inf": TensorType(FLOAT32, (1,))},
        (
            Node("Expand", ("one", "sizes"), ("big",)),
            Node("Div", ("one", "zero"), ("inf",)),
        ),
        {
            "one": np.ones(1, np.float32),
            "zero": np.zeros(1, np.float32),
            "sizes": np.array([2**20, 2**20]),
        },
    )
    ready = prepared(graph)
    assert [node.op for node, _ in ready.nodes] == ["Expand"]
    assert np.isposinf(ready.graph.constants["inf"]).all()


def test_a_fused_node_before_a_shape_that_depends_on_values_is_not_needed_after_it() -> None:
    nodes = (
        Node("MatMul", ("x", "w"), ("product",)),
        Node("Add", ("product", "b"), ("sum",)),
        Node("Compress", ("sum", "keep"), ("kept",), {"axis": 0}),
        Node("Neg", ("kept",), ("y",)),
    )
    inputs = {
        "x": TensorType(FLOAT32, ("N", 4)), "keep": TensorType(np.dtype(np.bool_), ("N",)),
    }  # fmt: skip
    constants = {"w": np.ones((4, 3), np.float32), "b": np.ones(3, np.float32)}
    graph = Graph(inputs, {"y": TensorType(FLOAT32, (None, 3))}, nodes, constants)
    x, keep = np.eye(3, 4, dtype=np.float32), np.array([True, False, True])
    (y,) = run(executor(1), prepared(graph), x, keep)
    np.testing.assert_array_equal(y, np.full((2, 3), -2))
