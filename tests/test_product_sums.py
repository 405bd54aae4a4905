"""Products summed over an axis, as attention scores and pools: what Mul and ReduceSum give."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
import pytest

from lightrnn.engine.executor import Executor
from lightrnn.engine.interpret import evaluate
from lightrnn.engine.plan import Plan
from lightrnn.engine.prepare import PackedStore, prepare
from lightrnn.graph import FLOAT32, Array, Graph, Node, Shape, TensorType
from lightrnn.native import library
from lightrnn.ops.product_sums import RowDots, WeightedSum
from lightrnn.ops.registry import Operator
from tests.cuda_simulator import GpuEmitter
from tests.kernels import BACKENDS, run_lowered

pytestmark = pytest.mark.native

SHAPES: list[tuple[tuple[int, ...], tuple[int, ...]]] = [
    ((3, 7, 1), (3, 7, 20)), ((3, 300, 1), (3, 300, 150)), ((7, 1), (7, 33)),
    ((2, 3, 5, 1), (2, 3, 5, 4)), ((1, 7, 1), (3, 7, 20)), ((3, 1, 1), (3, 7, 20)),
    ((3, 7, 1), (3, 1, 20)), ((3, 7, 1), (3, 7, 1)), ((0, 7, 1), (0, 7, 5)),
]  # fmt: skip


def drawn(rng: np.random.Generator, *shape: int) -> Array:
    return rng.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize(("w", "x"), SHAPES, ids=str)
@pytest.mark.parametrize("keepdims", [0, 1])
def test_sums_are_those_of_float64(w: tuple[int, ...], x: tuple[int, ...], keepdims: int) -> None:
    rng = np.random.default_rng(0)
    check(WeightedSum(keepdims), (drawn(rng, *w), drawn(rng, *x)), -2, keepdims)


ROWS: list[tuple[tuple[int, ...], tuple[int, ...]]] = [
    ((3, 1, 20), (3, 7, 20)), ((1, 3, 64), (7, 3, 64)), ((150,), (6, 150)), ((9,), (9,)),
    ((2, 3, 1, 130), (2, 1, 5, 130)), ((3, 7, 1), (3, 7, 20)), ((), (3, 5)), ((2, 1, 8), (2, 0, 8)),
]  # fmt: skip


@pytest.mark.parametrize(("a", "b"), ROWS, ids=str)
@pytest.mark.parametrize("keepdims", [0, 1])
def test_dots_are_those_of_float64(a: tuple[int, ...], b: tuple[int, ...], keepdims: int) -> None:
    rng = np.random.default_rng(0)
    check(RowDots(keepdims), (drawn(rng, *a), drawn(rng, *b)), -1, keepdims)


def check(op: Operator, inputs: tuple[Array, Array], axis: int, keepdims: int) -> None:
    """Run an operator in all ways, on one thread and on three."""
    wanted = (inputs[0].astype(np.float64) * inputs[1]).sum(axis, keepdims=bool(keepdims))
    found = [op.evaluate(*inputs)[0]]
    for backend, nth in product(BACKENDS, (1, 3)):
        outputs = run_lowered(op, inputs, backend, nth=nth)
        assert outputs is not None
        found += [one for one in outputs if one is not None]
    assert len({one.tobytes() for one in found[1:]}) == 1
    gpu = run_lowered(op, inputs, "cuda", emitter=GpuEmitter)
    assert gpu is not None
    found += [one for one in gpu if one is not None]
    assert len(found) == 6
    for one in found:
        assert one.shape == wanted.shape
        np.testing.assert_allclose(one, wanted, rtol=1e-6, atol=1e-5)


def pooled(w: Shape, x: Shape, axis: int, *, swap: bool = False, also: Sequence[str] = ()) -> Graph:
    kinds = {"w": TensorType(FLOAT32, w), "x": TensorType(FLOAT32, x)}
    nodes = (
        Node("Mul", ("x", "w") if swap else ("w", "x"), ("p",)),
        Node("ReduceSum", ("p", "axis"), ("y",), {"keepdims": 0}),
    )
    outputs = {name: TensorType(FLOAT32, None) for name in ("y", *also)}
    return Graph(kinds, outputs, nodes, {"axis": np.array([axis])})


def run(graph: Graph, arrays: Sequence[Array]) -> Plan:
    kernels = library.load()
    assert kernels is not None
    plan = prepare(graph, tuple(graph.outputs), PackedStore()).plan(tuple(a.shape for a in arrays))
    wanted = evaluate(graph, dict(zip(graph.inputs, arrays, strict=True)))
    for found, name in zip(Executor(kernels, 1).run(plan, arrays), graph.outputs, strict=True):
        assert found.shape == wanted[name].shape
        np.testing.assert_allclose(found, wanted[name], rtol=1e-6, atol=1e-5)
    return plan


@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize("axis", [1, -2])
def test_pooled_rows_are_one_product(swap: bool, axis: int) -> None:
    rng = np.random.default_rng(1)
    graph = pooled(("n", None, 1), ("n", "t", 20), axis, swap=swap)
    plan = run(graph, [drawn(rng, 3, 7, 1), drawn(rng, 3, 7, 20)])
    assert [i.kernel for i in plan.instructions] == ["vecmat"]
    run(graph, [drawn(rng, 3, 1, 1), drawn(rng, 3, 7, 20)])


@pytest.mark.parametrize("axis", [2, -1])
def test_scores_by_products_of_rows_are_one_kernel(axis: int) -> None:
    """As tutorials write them: a hidden state by all outputs of an encoder."""
    rng = np.random.default_rng(3)
    graph = pooled((1, "n", 20), ("t", "n", 20), axis)
    plan = run(graph, [drawn(rng, 1, 3, 20), drawn(rng, 7, 3, 20)])
    assert [i.kernel for i in plan.instructions] == ["row_dots"]


OTHERS = {
    "the product is an output": (pooled(("n", "t", 1), ("n", "t", 20), 1, also=("p",)), (3, 7, 1)),
    "over the first axis": (pooled(("n", "t", 1), ("n", "t", 20), 0), (3, 7, 1)),
    "a weight for each element": (pooled(("n", "t", 20), ("n", "t", 20), 1), (3, 7, 20)),
    "weights of unknown number": (pooled(("n", "t", None), ("n", "t", 20), 1), (3, 7, 1)),
    "of another rank": (pooled(("t", 1), ("n", "t", 20), 1), (7, 1)),
}


@pytest.mark.parametrize(("graph", "shape"), OTHERS.values(), ids=list(OTHERS))
def test_other_products_stay_as_they_are(graph: Graph, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(2)
    plan = run(graph, [drawn(rng, *shape), drawn(rng, 3, 7, 20)])
    assert not {"vecmat", "row_dots"} & {i.kernel for i in plan.instructions}
