"""Large inputs and outputs, which runs read and write where they are."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lightrnn.engine.arena import SHORT
from lightrnn.engine.bind import LENT
from lightrnn.engine.executor import Executor
from lightrnn.engine.interpret import evaluate
from lightrnn.errors import DataError
from lightrnn.graph import FLOAT32, INT64, Array, Graph, Node, TensorType
from tests.test_engine import executor, prepared, recurrent_graph, run, sequence

pytestmark = pytest.mark.native

SIZE = 24
TIME = LENT // (2 * SIZE * 4) + 1
"""Steps of a batch of two whose inputs are large, and outputs too."""


def chain(*nodes: Node, outputs: dict[str, tuple[int | str, ...]]) -> Graph:
    """Nodes over x [N, 512]."""
    kinds = {name: TensorType(FLOAT32, shape) for name, shape in outputs.items()}
    return Graph({"x": TensorType(FLOAT32, ("N", 512))}, kinds, nodes, {})


def in_a_file(x: Array, folder: Path) -> Array:
    np.save(folder / "x.npy", x)
    return np.asarray(np.load(folder / "x.npy", mmap_mode="r"))


def at_odd_bytes(x: Array, folder: Path) -> Array:
    raw = np.zeros(x.nbytes + 1, np.uint8)
    raw[1:] = np.frombuffer(x.tobytes(), np.uint8)
    return raw[1:].view(np.float32).reshape(x.shape)


def at_an_odd_float(x: Array, folder: Path) -> Array:
    raw = np.concatenate([np.zeros(1, np.float32), x.reshape(-1)])
    return raw[1:].reshape(x.shape)


FORMS: dict[str, Callable[[Array, Path], Array]] = {
    "plain": lambda x, _: x,
    "by columns": lambda x, _: np.asfortranarray(x),
    "every other": lambda x, _: np.repeat(x, 2, axis=2)[..., ::2],
    "backward": lambda x, _: np.ascontiguousarray(x[::-1])[::-1],
    "read-only, in a file": in_a_file,
    "a map": lambda x, folder: np.load(folder / "x.npy", mmap_mode="r"),
    "at odd bytes": at_odd_bytes,
    "at an odd float": at_an_odd_float,
}


@pytest.mark.parametrize("op", ["RNN", "GRU", "LSTM"])
def test_inputs_of_every_form_give_the_same(op: str, tmp_path: Path) -> None:
    graph = recurrent_graph(op, SIZE)
    ready, engine, x = prepared(graph), executor(1), sequence(TIME, 2, SIZE)
    assert all(w is not None for w in ready.plan((x.shape,)).input_words)
    expected = evaluate(graph, {"x": x})["y"]
    np.save(tmp_path / "x.npy", x)
    for _ in range(2):
        for form, made in FORMS.items():
            array = made(x, tmp_path)
            (y,) = run(engine, ready, array)
            np.testing.assert_allclose(y, expected, atol=2e-6, err_msg=form)
            np.testing.assert_array_equal(array, x, err_msg=form)


def test_results_are_arrays_of_their_own() -> None:
    ready, engine, x = prepared(recurrent_graph("GRU", SIZE)), executor(1), sequence(TIME, 2, SIZE)
    results = [run(engine, ready, x * scale)[0] for scale in (1, 2, 1, 2)]
    for k, y in enumerate(results):
        assert y.flags.writeable
        assert y.flags.c_contiguous
        assert not any(np.shares_memory(y, other) for other in results[:k])
        np.testing.assert_array_equal(y, results[k % 2])
    kept = results[0].copy()
    results[1][...] = np.nan
    np.testing.assert_array_equal(run(engine, ready, x)[0], kept)
    np.testing.assert_array_equal(results[0], kept)


@pytest.mark.parametrize("rows", [1, LENT // 2048 - 1, LENT // 2048, LENT // 2048 + 1, 100])
def test_small_and_large_ones_in_turns(rows: int) -> None:
    graph = chain(
        Node("Sigmoid", ("x",), ("a",)),
        Node("Add", ("a", "x"), ("b",)),
        Node("Tanh", ("b",), ("y",)),
        outputs={"b": ("N", 512), "y": ("N", 512)},
    )
    ready, engine = prepared(graph), executor(1)
    for seed in range(3):
        for n in (rows, 1):
            x = sequence(n, 512, 1, seed).reshape(n, 512)
            expected = evaluate(graph, {"x": x})
            for name, y in zip(graph.outputs, run(engine, ready, x), strict=True):
                np.testing.assert_allclose(y, expected[name], atol=1e-6)


SHARED = {
    "an input is an output": chain(
        Node("Sigmoid", ("x",), ("y",)), outputs={"y": ("N", 512), "x": ("N", 512)}
    ),
    "an output is a view of an input": chain(
        Node("Flatten", ("x",), ("z",), {"axis": 0}),
        Node("Sigmoid", ("x",), ("y",)),
        outputs={"z": (1, "M"), "y": ("N", 512)},
    ),
    "an output is a view of another": chain(
        Node("Sigmoid", ("x",), ("y",)),
        Node("Flatten", ("y",), ("z",), {"axis": 0}),
        outputs={"z": (1, "M"), "y": ("N", 512)},
    ),
    "an output is read again": chain(
        Node("Sigmoid", ("x",), ("y",)),
        Node("Add", ("y", "y"), ("z",)),
        Node("Mul", ("z", "y"), ("w",)),
        outputs={"y": ("N", 512), "w": ("N", 512)},
    ),
    "a node that NumPy evaluates": chain(
        Node("Sigmoid", ("x",), ("y",)),
        Node("CumSum", ("y", "axis"), ("z",)),
        outputs={"y": ("N", 512), "z": ("N", 512)},
    ),
}
SHARED["a node that NumPy evaluates"].constants["axis"] = np.array(0)  # type: ignore[index]


@pytest.mark.parametrize("rows", [64, 2048])
@pytest.mark.parametrize("case", SHARED)
def test_tensors_with_several_names(case: str, rows: int) -> None:
    graph = SHARED[case]
    ready, engine = prepared(graph), executor(1)
    x = sequence(rows, 512, 1).reshape(rows, 512)
    whole = ready.plan((x.shape,)).whole
    assert whole is None or (whole.work >= SHORT) == (rows == 2048), "short ones copy outputs"
    results = []
    for scale in (1, -1):
        expected = evaluate(graph, {"x": scale * x})
        found = run(engine, ready, scale * x)
        results.append((found, [y.copy() for y in found]))
        for name, y in zip(graph.outputs, found, strict=True):
            np.testing.assert_allclose(y, expected[name], rtol=1e-6, atol=1e-6, err_msg=name)
    for found, kept in results:
        for y, before in zip(found, kept, strict=True):
            np.testing.assert_array_equal(y, before)


def test_what_kernels_check_is_copied() -> None:
    """Else another thread could change it between the check and the use."""
    kinds = {"x": TensorType(FLOAT32, (64, 512)), "ids": TensorType(INT64, ("N", 512))}
    graph = Graph(
        kinds, {"y": TensorType(FLOAT32, ("N", 512, 512))},
        (Node("Gather", ("x", "ids"), ("y",)),), {},
    )  # fmt: skip
    plan = prepared(graph).plan(((64, 512), (16, 512)))
    assert [words is not None for words in plan.input_words] == [True, False]


def test_a_run_that_fails_changes_nothing() -> None:
    graph = recurrent_graph("LSTM", SIZE, lengths=True)
    ready, engine, x = prepared(graph), executor(1), sequence(TIME, 2, SIZE)
    good, bad = (np.array([TIME, n], np.int32) for n in (3, TIME + 1))
    (expected,) = run(engine, ready, x, good)
    kept = expected.copy()
    with pytest.raises(DataError, match="LSTM node 'layer'"):
        run(engine, ready, -x, bad)
    np.testing.assert_array_equal(expected, kept)
    np.testing.assert_array_equal(run(engine, ready, x, good)[0], kept)


def test_threads_have_results_of_their_own() -> None:
    ready, engine = prepared(recurrent_graph("GRU", SIZE)), executor(2)
    inputs = [sequence(TIME + k % 2, 2, SIZE, seed=k) for k in range(6)]
    expected = [run(executor(1), ready, x)[0] for x in inputs]
    wrong: list[int] = []

    def work(k: int, engine: Executor) -> None:
        found = [run(engine, ready, inputs[k])[0] for _ in range(30)]
        wrong.extend(k for y in found if not np.array_equal(y, expected[k]))

    threads = [threading.Thread(target=work, args=(k, engine)) for k in range(len(inputs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert wrong == []
