"""Additive and concatenated attention: one kernel for the scores, and no row multiplied twice."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from lightrnn.engine.executor import Executor
from lightrnn.engine.interpret import evaluate
from lightrnn.engine.plan import Plan
from lightrnn.engine.prepare import PackedStore, prepare
from lightrnn.graph import FLOAT32, Array, Dim, Graph, Node, TensorType
from lightrnn.native import library
from lightrnn.ops.additive import AdditiveScores
from tests.cuda_simulator import GpuEmitter
from tests.kernels import BACKENDS, run_lowered

pytestmark = pytest.mark.native

K = 37
SHAPES: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "query and keys": ((2, 1, K), (2, 5, K)),
    "queries and keys": ((2, 3, 1, K), (2, 1, 5, K)),
    "keys first": ((4, 1, 3, 16), (1, 3, 16)),
    "a row": ((K,), (6, K)),
    "alike": ((3, 4, 33), (3, 4, 33)),
    "one score": ((7,), (7,)),
    "a number in each row": ((2, 3, 1), (2, 1, K)),
    "a number": ((), (3, K)),
    "no keys": ((2, 1, K), (2, 0, K)),
}


def drawn(rng: np.random.Generator, *shape: int) -> Array:
    return rng.standard_normal(shape).astype(np.float32)


def exact(inputs: Sequence[Array | None], keepdims: int) -> Array:
    """In float64, from the definition."""
    a, b, v, bias = (None if x is None else x.astype(np.float64) for x in (*inputs, None)[:4])
    assert a is not None
    assert b is not None
    terms = np.tanh(a + b) * (1.0 if v is None else v.reshape(-1))
    scores = terms.sum(-1, keepdims=bool(keepdims))
    return scores if bias is None else scores + bias


@pytest.mark.parametrize("shapes", SHAPES.values(), ids=list(SHAPES))
@pytest.mark.parametrize(("weighted", "biased", "keepdims"), [(1, 1, 1), (1, 0, 0), (0, 0, 0)])
def test_scores_are_those_of_float64(
    shapes: tuple[tuple[int, ...], tuple[int, ...]], weighted: int, biased: int, keepdims: int
) -> None:
    rng = np.random.default_rng(0)
    size = max(shape[-1] for shape in shapes if shape)
    v = drawn(rng, size, 1) if weighted else None
    inputs = [*(drawn(rng, *s) for s in shapes), v, drawn(rng, 1) if biased else None]
    op, wanted = AdditiveScores(keepdims), exact(inputs, keepdims)
    found: list[Sequence[Array | None] | None] = [op.evaluate(*inputs)]
    constants = [k for k in (2, 3) if inputs[k] is not None]
    for backend in BACKENDS:
        for nth in (1, 3):
            found.append(run_lowered(op, inputs, backend, nth=nth, constants=constants))
    found.append(run_lowered(op, inputs, "cuda", constants=constants, emitter=GpuEmitter))
    scores = [outputs[0] for outputs in found if outputs is not None]
    assert len(scores) == len(found)
    for one in scores:
        assert one is not None
        assert one.shape == wanted.shape
        np.testing.assert_allclose(one, wanted, rtol=0, atol=4e-6)
    bits = {one.tobytes() for one in scores[1:5] if one is not None}
    assert len(bits) == 1, "results depend on the threads, or on how the kernel is run"


def graph_of(
    inputs: dict[str, tuple[Dim, ...]],
    nodes: Sequence[Node],
    constants: dict[str, Array],
    outputs: Sequence[str] = ("y",),
) -> Graph:
    kinds = {name: TensorType(FLOAT32, shape) for name, shape in inputs.items()}
    return Graph(kinds, {n: TensorType(FLOAT32, None) for n in outputs}, tuple(nodes), constants)


def run(graph: Graph, arrays: Sequence[Array], encodings: dict[str, str] | None = None) -> Plan:
    """Run natively and on NumPy semantics; the plan."""
    kernels = library.load()
    assert kernels is not None
    plan = prepare(graph, tuple(graph.outputs), PackedStore(), encodings).plan(
        tuple(a.shape for a in arrays)
    )
    wanted = evaluate(graph, dict(zip(graph.inputs, arrays, strict=True)))
    for found, name in zip(Executor(kernels, 1).run(plan, arrays), graph.outputs, strict=True):
        assert found.shape == wanted[name].shape
        np.testing.assert_allclose(found, wanted[name], rtol=1e-6, atol=3e-6)
    return plan


def kernels_of(plan: Plan) -> list[str]:
    return [i.kernel for i in plan.instructions if i.kernel]


QUERY_AND_KEYS: dict[str, tuple[Dim, ...]] = {"q": ("n", 1, 8), "k": ("n", "t", 8)}
SUM = [Node("Add", ("q", "k"), ("s",)), Node("Tanh", ("s",), ("e",))]
SCORES: dict[str, tuple[list[Node], dict[str, Array]]] = {
    "a product": (
        [Node("MatMul", ("e", "v"), ("y",))], {"v": np.ones((8, 1), np.float32)},
    ),
    "a product with a vector": (
        [Node("MatMul", ("e", "v"), ("y",))], {"v": np.ones(8, np.float32)},
    ),
    "a product and a bias": (
        [Node("MatMul", ("e", "v"), ("p",)), Node("Add", ("c", "p"), ("y",))],
        {"v": np.ones((8, 1), np.float32), "c": np.array([0.5], np.float32)},
    ),
    "a weighted sum": (
        [Node("Mul", ("v", "e"), ("p",)), Node("ReduceSum", ("p", "last"), ("y",))],
        {"v": np.arange(8, dtype=np.float32) / 8, "last": np.array([-1])},
    ),
    "a sum": (
        [Node("ReduceSum", ("e", "last"), ("y",), {"keepdims": 0})], {"last": np.array([2])},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("nodes", "constants"), SCORES.values(), ids=list(SCORES))
def test_written_out_scores_run_as_one_kernel(
    nodes: list[Node], constants: dict[str, Array]
) -> None:
    rng = np.random.default_rng(1)
    graph = graph_of(QUERY_AND_KEYS, [*SUM, *nodes], constants)
    plan = run(graph, [drawn(rng, 3, 1, 8), drawn(rng, 3, 6, 8)])
    assert kernels_of(plan) == ["additive_scores"]


OTHERS: dict[str, tuple[list[Node], dict[str, Array], tuple[str, ...]]] = {
    "tanh is an output": (*SCORES["a product"], ("y", "e")),
    "the sum is an output": (*SCORES["a product"], ("y", "s")),
    "two columns": (
        [Node("MatMul", ("e", "v"), ("y",))], {"v": np.ones((8, 2), np.float32)}, ("y",),
    ),
    "a sum over keys": (
        [Node("ReduceSum", ("e", "keys"), ("y",))], {"keys": np.array([1])}, ("y",),
    ),
    "a weight for each key": (
        [Node("Mul", ("v", "e"), ("p",)), Node("ReduceSum", ("p", "last"), ("y",))],
        {"v": np.ones((6, 1), np.float32), "last": np.array([-1])},
        ("y",),
    ),
    "weights add an axis": (
        [Node("Mul", ("v", "e"), ("p",)), Node("ReduceSum", ("p", "last"), ("y",))],
        {"v": np.ones((1, 1, 1, 8), np.float32), "last": np.array([-1])},
        ("y",),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("nodes", "constants", "outputs"), OTHERS.values(), ids=list(OTHERS))
def test_other_sums_stay_as_they_are(
    nodes: list[Node], constants: dict[str, Array], outputs: tuple[str, ...]
) -> None:
    rng = np.random.default_rng(2)
    graph = graph_of(QUERY_AND_KEYS, [*SUM, *nodes], constants, outputs)
    plan = run(graph, [drawn(rng, 3, 1, 8), drawn(rng, 3, 6, 8)])
    assert "additive_scores" not in kernels_of(plan)


def test_rows_of_one_number_stay_unequal() -> None:
    """[.., 1] + [.., 8] is a sum of eight terms, and weights of 8 for a sum of one are eight."""
    rng = np.random.default_rng(3)
    for shape in ((3, 1, 1), (3, 6, 1)):
        inputs: dict[str, tuple[Dim, ...]] = {"q": ("n", None, None), "k": ("n", "t", None)}
        for nodes, constants in SCORES.values():
            run(
                graph_of(inputs, [*SUM, *nodes], constants),
                [drawn(rng, *shape), drawn(rng, 3, 6, 8)],
            )
    nodes, constants = SCORES["a weighted sum"]
    run(graph_of(inputs, [*SUM, *nodes], constants), [drawn(rng, 3, 1, 1), drawn(rng, 3, 6, 1)])


def joined(
    repeat: Node, *parts: str, width: int = 20, bias: bool = False, axis: int = 2
) -> tuple[list[Node], dict[str, Array]]:
    """A repeated tensor and others joined, times a matrix."""
    rng = np.random.default_rng(4)
    nodes = [repeat, Node("Concat", parts, ("j",), {"axis": axis})]
    nodes.append(Node("MatMul", ("j", "w"), ("p" if bias else "y",)))
    constants = {"w": drawn(rng, width, 5), "times": np.array([1, 6, 1])}
    if bias:
        nodes.append(Node("Add", ("p", "c"), ("y",)))
        constants["c"] = drawn(rng, 5)
    return nodes, constants


EXPAND = Node("Expand", ("q", "times"), ("r",))
JOINED: dict[str, tuple[tuple[list[Node], dict[str, Array]], dict[str, tuple[Dim, ...]]]] = {
    "expanded": (joined(EXPAND, "r", "k"), {"q": ("n", 1, 8), "k": ("n", "t", 12)}),
    "tiled": (
        joined(Node("Tile", ("q", "times"), ("r",)), "r", "k", bias=True),
        {"q": ("n", 1, 8), "k": ("n", "t", 12)},
    ),
    "last": (joined(EXPAND, "k", "r", bias=True), {"q": ("n", 1, 8), "k": ("n", "t", 12)}),
    "a new axis": (joined(EXPAND, "r", "k", axis=-1), {"q": (1, 8), "k": ("n", "t", 12)}),
    "twice": (
        joined(EXPAND, "k", "r", "m", width=28), {
            "q": ("n", 1, 8), "k": ("n", "t", 12), "m": ("n", "t", 8)
        },
    ),
}  # fmt: skip


def arrays_for(inputs: dict[str, tuple[Dim, ...]], **sizes: int) -> list[Array]:
    rng = np.random.default_rng(5)
    return [
        drawn(rng, *(d if isinstance(d, int) else sizes[str(d)] for d in shape))
        for shape in inputs.values()
    ]


@pytest.mark.parametrize(("made", "inputs"), JOINED.values(), ids=list(JOINED))
def test_a_repeated_row_is_multiplied_once(
    made: tuple[list[Node], dict[str, Array]], inputs: dict[str, tuple[Dim, ...]]
) -> None:
    batch = 1 if len(inputs["q"]) == 2 else 3
    plan = run(graph_of(inputs, *made), arrays_for(inputs, n=batch, t=6))
    assert "copy_strided" not in kernels_of(plan)


KEPT: dict[str, tuple[tuple[list[Node], dict[str, Array]], dict[str, tuple[Dim, ...]]]] = {
    "rows of unknown number": (
        joined(EXPAND, "r", "k"), {"q": ("n", "one", 8), "k": ("n", "t", 12)},
    ),
    "a wider axis": (
        joined(Node("Tile", ("q", "twice"), ("r",)), "r", "k"),
        {"q": ("n", 1, 4), "k": ("n", "t", 12)},
    ),
    "nothing has the whole shape": (
        joined(EXPAND, "r", "r", width=16), {"q": ("n", 1, 8)},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("made", "inputs"), KEPT.values(), ids=list(KEPT))
def test_what_may_be_more_than_a_repeated_row_is_kept(
    made: tuple[list[Node], dict[str, Array]], inputs: dict[str, tuple[Dim, ...]]
) -> None:
    nodes, constants = made
    graph = graph_of(inputs, nodes, {**constants, "twice": np.array([1, 6, 2])})
    assert "copy_strided" in kernels_of(run(graph, arrays_for(inputs, n=3, t=6, one=1)))


@pytest.mark.parametrize("stored", ["float16", "int8"])
def test_narrow_weights_stay_what_they_are(stored: str) -> None:
    (nodes, constants), inputs = JOINED["tiled"]
    constants = {**constants, "w": np.round(constants["w"] * 16) / np.float32(16)}
    plan = run(graph_of(inputs, nodes, constants), arrays_for(inputs, n=3, t=6), {"w": stored})
    assert ("copy_strided" in kernels_of(plan)) == (stored == "int8")


def test_concatenated_attention_is_two_products_and_its_scores() -> None:
    (nodes, constants), inputs = JOINED["tiled"]
    nodes = [
        *nodes[:-1],
        Node("Add", ("p", "c"), ("s",)),
        SUM[1],
        Node("MatMul", ("e", "v"), ("y",)),
    ]
    constants = {**constants, "v": np.ones((5, 1), np.float32)}
    plan = run(graph_of(inputs, nodes, constants), arrays_for(inputs, n=3, t=6))
    assert kernels_of(plan) == ["gemm", "gemm", "additive_scores"]


def test_attention_around_a_node_whose_shape_depends_on_values() -> None:
    """What follows such a node is bound when it has run, from what the model itself says."""
    (nodes, constants), inputs = JOINED["tiled"]
    nodes = [
        *nodes[:-1], Node("Add", ("p", "c"), ("s",)), Node("NonZero", ("k",), ("places",)),
        SUM[1], Node("MatMul", ("e", "v"), ("scores",)),
        Node("ReduceMax", ("places",), ("last",), {"keepdims": 0}),
        Node("Cast", ("last",), ("f",), {"to": 1}),
        Node("Mul", ("scores", "f"), ("y",)),
    ]  # fmt: skip
    constants = {**constants, "v": np.ones((5, 1), np.float32)}
    run(graph_of(inputs, nodes, constants), arrays_for(inputs, n=3, t=6))
