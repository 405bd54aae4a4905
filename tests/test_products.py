"""Products of tensors that are known at run time only: as they lie where packing costs more."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from lightrnn.engine.executor import Executor
from lightrnn.engine.interpret import evaluate
from lightrnn.engine.prepare import PackedStore, prepare
from lightrnn.graph import FLOAT32, Array, Graph, Node, TensorType
from lightrnn.native import library
from lightrnn.ops.linear import MatMul, MatMulTransposed
from lightrnn.ops.registry import Operator
from tests.cuda_simulator import GpuEmitter
from tests.kernels import BACKENDS, run_lowered

pytestmark = pytest.mark.native

TRANSPOSED: list[tuple[tuple[int, ...], tuple[int, ...]]] = [
    ((3, 5, 20), (3, 37, 20)), ((3, 1, 20), (3, 37, 20)), ((3, 5, 20), (3, 1, 20)),
    ((1, 1, 7), (4, 33, 7)), ((2, 7), (19, 7)), ((1, 130), (19, 130)),
    ((2, 3, 9, 17), (2, 3, 16, 17)),
    ((4, 6), (2, 5, 6)), ((2, 4, 6), (1, 5, 6)), ((2, 0, 6), (2, 5, 6)), ((3, 1, 0), (3, 2, 0)),
    ((6,), (3, 5, 6)), ((1, 2, 35), (1, 50, 35)),
]  # fmt: skip


def drawn(rng: np.random.Generator, *shape: int) -> Array:
    return rng.standard_normal(shape).astype(np.float32)


def results(op: Operator, inputs: Sequence[Array]) -> list[Array]:
    """By all ways to run kernels."""
    found = []
    for backend in BACKENDS:
        for nth in (1, 3):
            outputs = run_lowered(op, inputs, backend, nth=nth)
            assert outputs is not None
            assert outputs[0] is not None
            found.append(outputs[0])
    return found


@pytest.mark.parametrize(("a", "b"), TRANSPOSED, ids=str)
def test_products_with_transposed_tensors(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    inputs = drawn(rng, *a), drawn(rng, *b)
    wanted = np.matmul(inputs[0].astype(np.float64), np.swapaxes(inputs[1], -1, -2))
    op = MatMulTransposed()
    gpu = run_lowered(op, inputs, "cuda", emitter=GpuEmitter)
    assert gpu is not None
    for found in (*op.evaluate(*inputs), *results(op, inputs), *gpu):
        assert found is not None
        assert found.shape == wanted.shape
        np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-5)


@pytest.mark.parametrize("k", [1, 127, 128, 300])
@pytest.mark.parametrize("n", [1, 15, 64, 150])
def test_a_row_is_computed_alike_however_many_share_the_batch(k: int, n: int) -> None:
    rng = np.random.default_rng(k * n)
    a, b = drawn(rng, 3, 1, k), drawn(rng, 3, k, n)
    for op, right in ((MatMul(), b), (MatMulTransposed(), np.swapaxes(b, 1, 2).copy())):
        together = {found.tobytes() for found in results(op, (a, right))}
        apart = [results(op, (a[i : i + 1], right[i : i + 1])) for i in range(3)]
        together |= {np.concatenate(rows).tobytes() for rows in zip(*apart, strict=True)}
        assert len(together) == 1


@pytest.mark.parametrize("k", [1, 128, 300])
@pytest.mark.parametrize("n", [15, 64, 150])
def test_one_row_has_the_bits_of_several(k: int, n: int) -> None:
    """A row by a matrix as it lies, and the same row among others by packed panels."""
    rng = np.random.default_rng(k + n)
    a, b = drawn(rng, 2, 3, k), drawn(rng, 2, k, n)
    several = results(MatMul(), (a, b))[0]
    for row in range(3):
        for found in results(MatMul(), (a[:, row : row + 1], b)):
            assert found.tobytes() == several[:, row : row + 1].tobytes()


def turned(perm: tuple[int, ...], *, also: bool = False) -> Graph:
    """a · Transpose(b), with what is transposed as an output besides if asked."""
    kinds = {name: TensorType(FLOAT32, (None, None, None)) for name in "ab"}
    nodes = (
        Node("Transpose", ("b",), ("t",), {"perm": perm}),
        Node("MatMul", ("a", "t"), ("y",), {}, "product"),
    )
    outputs = {name: TensorType(FLOAT32, None) for name in ("y", *(["t"] if also else []))}
    return Graph(kinds, outputs, nodes, {})


@pytest.mark.parametrize("rows", [1, 4])
@pytest.mark.parametrize(
    ("perm", "also", "copies"),
    [((0, 2, 1), False, False), ((0, 2, 1), True, True), ((1, 2, 0), False, True)],
)
def test_what_is_transposed_for_a_product_alone_is_not_made(
    rows: int, perm: tuple[int, ...], also: bool, copies: bool
) -> None:
    rng = np.random.default_rng(1)
    graph = turned(perm, also=also)
    b = drawn(rng, 3, 7, 5) if perm == (0, 2, 1) else drawn(rng, 7, 3, 5)
    arrays = [drawn(rng, 3, rows, 5), b]
    plan = prepare(graph, tuple(graph.outputs), PackedStore()).plan(tuple(a.shape for a in arrays))
    assert ("copy_strided" in [i.kernel for i in plan.instructions]) == copies
    kernels = library.load()
    assert kernels is not None
    wanted = evaluate(graph, dict(zip(graph.inputs, arrays, strict=True)))
    for found, name in zip(Executor(kernels, 1).run(plan, arrays), graph.outputs, strict=True):
        np.testing.assert_allclose(found, wanted[name], rtol=0, atol=1e-5)
