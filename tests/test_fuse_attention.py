"""Attention that a model writes out runs as one kernel, and gives what its nodes would."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from lightrnn.engine.executor import Executor
from lightrnn.engine.interpret import evaluate
from lightrnn.engine.plan import Plan
from lightrnn.engine.prepare import PackedStore, Prepared, prepare
from lightrnn.graph import BOOL, FLOAT32, Array, Graph, Node, TensorType
from lightrnn.native import library
from lightrnn.ops.scaled_product import ScaledProduct
from tests.cuda_simulator import GpuEmitter
from tests.kernels import run_lowered

pytestmark = pytest.mark.native

PERMUTED = {3: (0, 2, 1), 4: (0, 1, 3, 2)}


def written_out(
    rank: int,
    *,
    scale: tuple[str, float] | None = ("Mul", 0.3),
    mask: str = "",
    mask_shape: Sequence[int | str] = (),
    fill: float = -1e9,
    axis: int = -1,
    perm: tuple[int, ...] | None = None,
    also: Sequence[str] = (),
    swap: bool = False,
) -> Graph:
    """q, k and v of a rank to y. mask: "", "add" or "where". also: other outputs."""
    batch = ("N", "H")[: rank - 2]
    kinds = {
        "q": TensorType(FLOAT32, (*batch, "L", 6)),
        "k": TensorType(FLOAT32, (*batch, "T", 6)),
        "v": TensorType(FLOAT32, (*batch, "T", 5)),
    }
    if perm is not None:
        kinds["k"] = TensorType(FLOAT32, ("N", "T", "H", 6))
    nodes = [
        Node("Transpose", ("k",), ("kt",), {"perm": perm or PERMUTED[rank]}),
        Node("MatMul", ("q", "kt"), ("s",), {}, "scores"),
    ]
    last, constants = "s", {"fill": np.array(fill, np.float32)}
    if scale is not None:
        constants["c"] = np.array([scale[1]], np.float32)
        pair = ("c", last) if swap else (last, "c")
        nodes.append(Node(scale[0], pair, ("scaled",)))
        last = "scaled"
    if mask:
        dtype = FLOAT32 if mask == "add" else BOOL
        kinds["m"] = TensorType(dtype, tuple(mask_shape))
        inputs = ("m", "fill", last) if mask == "where" else ("m", last) if swap else (last, "m")
        nodes.append(Node("Where" if mask == "where" else "Add", inputs, ("masked",)))
        last = "masked"
    nodes.append(Node("Softmax", (last,), ("p",), {"axis": axis}))
    nodes.append(Node("MatMul", ("p", "v"), ("y",), {}, "context"))
    outputs = {name: TensorType(FLOAT32, (None,) * rank) for name in ("y", *also)}
    return Graph(kinds, outputs, tuple(nodes), constants)


def ready(graph: Graph) -> Prepared:
    return prepare(graph, tuple(graph.outputs), PackedStore())


def sizes(graph: Graph, **named: int) -> list[tuple[int, ...]]:
    return [
        tuple(d if isinstance(d, int) else named[str(d)] for d in t.shape or ())
        for t in graph.inputs.values()
    ]


def feeds(graph: Graph, rng: np.random.Generator, **named: int) -> list[Array]:
    arrays = []
    for kind, shape in zip(graph.inputs.values(), sizes(graph, **named), strict=True):
        values = rng.standard_normal(shape)
        arrays.append(np.asarray(values < -0.4 if kind.dtype == BOOL else values, kind.dtype))
    return arrays


def check(graph: Graph, arrays: list[Array]) -> Plan:
    """Run natively and on NumPy semantics; the plan."""
    kernel_library = library.load()
    assert kernel_library is not None
    prepared = ready(graph)
    plan = prepared.plan(tuple(a.shape for a in arrays))
    with np.errstate(all="ignore"):
        wanted = evaluate(graph, dict(zip(graph.inputs, arrays, strict=True)))
    for found, name in zip(Executor(kernel_library, 1).run(plan, arrays), wanted, strict=True):
        np.testing.assert_allclose(found, wanted[name], rtol=0, atol=3e-6)
    return plan


def kernels(plan: Plan) -> list[str]:
    return [i.kernel for i in plan.instructions if i.kernel]


CASES: dict[str, dict[str, Any]] = {
    "3-d": {"rank": 3},
    "4-d": {"rank": 4},
    "divided": {"rank": 3, "scale": ("Div", 2.5)},
    "no scale": {"rank": 3, "scale": None},
    "number first": {"rank": 3, "swap": True, "mask": "add", "mask_shape": ("L", "T")},
    "added to 3-d": {"rank": 3, "mask": "add", "mask_shape": ("N", 1, "T")},
    "added to 4-d": {"rank": 4, "mask": "add", "mask_shape": ("N", 1, "L", "T")},
    "added row": {"rank": 4, "mask": "add", "mask_shape": ("T",)},
    "replaced": {"rank": 3, "mask": "where", "mask_shape": ("N", "L", "T")},
    "replaced, all alike": {"rank": 4, "mask": "where", "mask_shape": ("N", 1, 1, "T")},
    "replaced by -inf": {
        "rank": 3,
        "mask": "where",
        "mask_shape": ("N", "L", "T"),
        "fill": -np.inf,
    },
    "heads after steps": {"rank": 4, "perm": (0, 2, 3, 1)},
}  # fmt: skip


@pytest.mark.parametrize("options", CASES.values(), ids=list(CASES))
@pytest.mark.parametrize("steps", [1, 11])
def test_one_kernel_gives_what_the_nodes_would(options: dict[str, Any], steps: int) -> None:
    graph = written_out(**options)
    rng = np.random.default_rng(steps)
    plan = check(graph, feeds(graph, rng, N=2, H=3, L=steps, T=70))
    assert "attention" in kernels(plan)
    assert not {"softmax", "gemm"} & set(kernels(plan))
    assert ("copy_strided" in kernels(plan)) == ("perm" in options)
    assert not plan.host_steps


@pytest.mark.parametrize("fill", [-1e9, -np.inf])
@pytest.mark.parametrize("steps", [1, 9])
def test_rows_without_keys_are_what_the_nodes_make_of_them(fill: float, steps: int) -> None:
    graph = written_out(3, mask="where", mask_shape=("N", 1, "T"), fill=fill)
    q, k, v, _ = feeds(graph, np.random.default_rng(0), N=2, H=1, L=steps, T=8)
    mask = np.zeros((2, 1, 8), np.bool_)
    mask[1] = True
    check(graph, [q, k, v, mask])


NOT_FUSED: dict[str, dict[str, Any]] = {
    "scores are an output": {"rank": 3, "also": ("s",)},
    "weights are an output": {"rank": 3, "also": ("p",)},
    "softmax over queries": {"rank": 3, "axis": 1},
    "mask adds an axis": {"rank": 3, "mask": "add", "mask_shape": (1, "N", "L", "T")},
    "number divided by scores": {"rank": 3, "scale": ("Div", 2.0), "swap": True},
}


@pytest.mark.parametrize("options", NOT_FUSED.values(), ids=list(NOT_FUSED))
def test_other_patterns_stay_as_they_are(options: dict[str, Any]) -> None:
    graph = written_out(**options)
    rng = np.random.default_rng(4)
    assert "attention" not in kernels(check(graph, feeds(graph, rng, N=2, H=3, L=4, T=7)))


def test_a_number_that_adds_an_axis_is_no_scale() -> None:
    graph = written_out(3)
    constants = {**graph.constants, "c": np.full((1, 1, 1, 1), 0.3, np.float32)}
    graph = Graph(graph.inputs, {"y": TensorType(FLOAT32, (None,) * 4)}, graph.nodes, constants)
    rng = np.random.default_rng(6)
    q, k, v = (rng.standard_normal(s).astype(np.float32) for s in ((1, 3, 6), (1, 7, 6), (1, 7, 5)))
    assert "attention" not in kernels(check(graph, [q, k, v]))


def test_batches_that_broadcast_give_what_the_nodes_would() -> None:
    graph = written_out(3)
    rng = np.random.default_rng(5)
    q, k, v = (rng.standard_normal(s).astype(np.float32) for s in ((4, 3, 6), (1, 7, 6), (4, 7, 5)))
    assert check(graph, [q, k, v]).host_steps


@pytest.mark.parametrize("mask", ["add", "where"])
def test_masks_that_widen_the_scores_give_what_the_nodes_would(mask: str) -> None:
    """Their batch, their queries, or keys where there is one."""
    graph = written_out(3, mask=mask, mask_shape=("M", "R", "S"))
    rng = np.random.default_rng(7)
    for q, k, m, v in (
        ((1, 1, 6), (1, 7, 6), (4, 1, 7), (1, 7, 5)), ((2, 1, 6), (2, 7, 6), (1, 3, 7), (2, 7, 5)),
        ((2, 3, 6), (2, 1, 6), (2, 3, 7), (2, 7, 5)),
    ):  # fmt: skip
        arrays: list[Array] = [rng.standard_normal(s).astype(np.float32) for s in (q, k, v)]
        values = rng.standard_normal(m)
        arrays.append(values.astype(np.float32) if mask == "add" else values < 0)
        check(graph, arrays)


def as_torch_writes_it(
    shape: tuple[int | str, ...] = ("N", "H", "T", 6),
    *,
    back: tuple[str, str] = ("columns", "rows"),
    joins: int = -1,
    cut: tuple[int, int] = (-2, -1),
) -> Graph:
    """scaled_dot_product_attention: half of the scale each for q and k; k transposed as [-1, T, E].

    back: sizes of the last axes of k'. joins: the joined axis. cut: where the rows' size lies.
    """
    kinds = {
        "q": TensorType(FLOAT32, (*shape[:-2], "L", 6)),
        "k": TensorType(FLOAT32, shape),
        "v": TensorType(FLOAT32, (*shape[:-1], 5)),
    }
    ends = {"low": np.iinfo(np.int64).min, "high": np.iinfo(np.int64).max, "second": -2, "last": -1}
    constants = {name: np.array([value]) for name, value in ends.items()}
    constants.update(root=np.array([0.6], np.float32), joined=np.array([joins]))
    constants.update(start=np.array([cut[0]]), end=np.array([cut[1]]))
    nodes = [
        Node("Shape", ("k",), ("sizes",), {"start": 0}),
        Node("Slice", ("sizes", "last", "high"), ("columns",)),
        Node("Slice", ("sizes", "start", "end"), ("rows",)),
        Node("Slice", ("sizes", "low", "second"), ("leading",)),
        Node("Concat", ("joined", "rows", "columns"), ("flat",), {"axis": 0}),
        Node("Reshape", ("k", "flat"), ("k3",)),
        Node("Transpose", ("k3",), ("kt3",), {"perm": (0, 2, 1)}),
        Node("Concat", ("leading", *back), ("parted",), {"axis": 0}),
        Node("Reshape", ("kt3", "parted"), ("kt",)),
        Node("Mul", ("q", "root"), ("qs",)),
        Node("Mul", ("root", "kt"), ("kts",)),
        Node("MatMul", ("qs", "kts"), ("s",)),
        Node("Softmax", ("s",), ("p",), {"axis": -1}),
        Node("MatMul", ("p", "v"), ("y",)),
    ]
    return Graph(kinds, {"y": TensorType(FLOAT32, None)}, tuple(nodes), constants)


@pytest.mark.parametrize("shape", [("N", "H", "T", 6), (2, 3, 7, 6), ("N", "T", 6)])
@pytest.mark.parametrize("steps", [1, 9])
def test_what_torch_writes_runs_as_one_kernel(shape: tuple[int | str, ...], steps: int) -> None:
    graph = as_torch_writes_it(shape)
    arrays = feeds(graph, np.random.default_rng(steps), N=2, H=3, L=steps, T=7)
    assert kernels(check(graph, arrays)) == ["attention"]


@pytest.mark.parametrize(
    "options", [{"back": ("rows", "columns")}, {"joins": 0}, {"cut": (-3, -2)}], ids=str
)
def test_axes_that_only_seem_to_be_exchanged_stay(options: dict[str, Any]) -> None:
    """Sizes of this run are such that every shape fits."""
    size = 6 if "cut" in options else 1
    graph = as_torch_writes_it(("N", "H", "T", 6), **options)
    arrays = feeds(graph, np.random.default_rng(1), N=1, H=size, L=4, T=6)
    assert "attention" not in kernels(check(graph, arrays))


def guarded(rank: int) -> Graph:
    """A mask that is added, and weights that are NaN made 0: torch's safe softmax."""
    graph = written_out(rank, mask="add", mask_shape=("N", "L", "T") if rank == 3 else ("L", "T"))
    *nodes, context = graph.nodes
    nodes += [
        Node("IsNaN", ("p",), ("gone",)),
        Node("Where", ("gone", "zero", "p"), ("safe",)),
        Node("MatMul", ("safe", "v"), context.outputs, {}, "context"),
    ]
    constants = {**graph.constants, "zero": np.zeros((), np.float32)}
    return Graph(graph.inputs, graph.outputs, tuple(nodes), constants)


@pytest.mark.parametrize("rank", [3, 4])
@pytest.mark.parametrize("steps", [1, 9, 40])
def test_weights_that_are_not_a_number_count_as_none(rank: int, steps: int) -> None:
    graph = guarded(rank)
    q, k, v, mask = feeds(graph, np.random.default_rng(steps), N=2, H=3, L=steps, T=70)
    assert "attention" in kernels(check(graph, [q, k, v, mask]))
    mask[..., steps // 2, :] = -np.inf
    mask[..., 0, 3] = -np.inf
    check(graph, [q, k, v, mask])
    q[0, ..., -1, 2] = np.nan
    k[1, ..., 65, 1] = np.inf
    check(graph, [q, k, v, mask])


def test_a_gpu_counts_them_as_none_too() -> None:
    rng = np.random.default_rng(0)
    q, k, v = (rng.standard_normal((2, 1, n, 6)).astype(np.float32) for n in (5, 7, 7))
    mask = np.where(rng.random((2, 1, 5, 7)) < 0.3, -np.inf, 0).astype(np.float32)
    mask[0, 0, 1], q[1, 0, 3, 0] = -np.inf, np.nan
    op = ScaledProduct(0.4, None, True)
    with np.errstate(all="ignore"):
        (wanted,) = op.evaluate(q, k, v, mask)
        found = run_lowered(op, (q, k, v, mask), "cuda", emitter=GpuEmitter)
    assert found is not None
    assert found[0] is not None
    assert not wanted[0, 0, 1].any()
    assert not wanted[1, 0, 3].any()
    np.testing.assert_allclose(found[0], wanted, rtol=0, atol=3e-6)


def test_a_guard_against_other_numbers_stays() -> None:
    graph = guarded(3)
    constants = {**graph.constants, "zero": np.ones((), np.float32)}
    graph = Graph(graph.inputs, graph.outputs, graph.nodes, constants)
    arrays = feeds(graph, np.random.default_rng(0), N=2, H=1, L=3, T=7)
    assert "attention" not in kernels(check(graph, arrays))
