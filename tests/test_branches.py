"""If nodes whose condition the shapes of a model's inputs decide: a plan holds the branch alone."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lightrnn_converters import convert_onnx

import lightrnn
from lightrnn.cli import main
from lightrnn.engine.branches import Decisions
from lightrnn.engine.interpret import evaluate
from lightrnn.errors import GraphError, UnsupportedError
from lightrnn.graph import BOOL, FLOAT32, Array, Graph, Node, TensorType
from lightrnn.ops import build
from tests.onnx_models import BOOL as BOOL_TYPE
from tests.onnx_models import run
from tests.onnx_writer import Writer, weights

OPSET = 17


def converted(proto: Any) -> lightrnn.Model:
    target = io.BytesIO()
    convert_onnx(proto, target)
    return lightrnn.load(target.getvalue())


def is_one(w: Writer, x: str, axis: int) -> Any:
    return w.add("Equal", w.squeeze(w.size(x, axis), 0), w.constant(1, np.int64))


def inside(*names: str) -> list[Writer]:
    return [Writer(OPSET, prefix=f"{name}/") for name in names]


def squeezed(w: Writer, x: str, axis: int) -> Any:
    """torch's squeeze(axis): an axis of size 1 goes, another stays."""
    yes, no = inside(f"{x}/yes", f"{x}/no")
    return w.add(
        "If", is_one(w, x, axis),
        then_branch=yes.branch(yes.squeeze(x, axis), f"{x}/then"),
        else_branch=no.branch(no.add("Identity", x), f"{x}/else"),
    )  # fmt: skip


def products() -> Any:
    """x [N, 5] by one matrix if N is 1, else by another and its transpose, the same in both."""
    w = Writer(OPSET)
    shared = w.constant(weights(5, 5))
    yes, no = inside("yes", "no")
    one = yes.add("MatMul", yes.add("MatMul", "x", shared), yes.constant(weights(5, 3)))
    two = no.add("MatMul", no.add("Tanh", "x"), no.constant(weights(5, 3, seed=1)))
    y = w.add(
        "If", is_one(w, "x", 0),
        then_branch=yes.branch(one, "one"), else_branch=no.branch(two, "two"),
    )  # fmt: skip
    return w.model({"x": ("N", 5)}, {"y": w.add("Relu", y)})


def twice_squeezed() -> Any:
    """squeeze of the first axis, then of the second of what is left, then a sum over the last."""
    w = Writer(OPSET)
    y = squeezed(w, squeezed(w, "x", 0), 0)
    return w.model({"x": ("A", "B", 4)}, {"y": w.reduce("ReduceSum", y, -1, keepdims=0)})


def nested() -> Any:
    """An If in an If: both sizes decide."""
    w = Writer(OPSET)
    yes, no, deep, deeper = inside("yes", "no", "deep", "deeper")
    inner = yes.add(
        "If", is_one(yes, "x", 1),
        then_branch=deep.branch(deep.add("Neg", "x"), "neg"),
        else_branch=deeper.branch(deeper.add("Exp", "x"), "exp"),
    )  # fmt: skip
    y = w.add(
        "If", is_one(w, "x", 0),
        then_branch=yes.branch(inner, "inner"), else_branch=no.branch("x", "same"),
    )  # fmt: skip
    return w.model({"x": ("A", "B")}, {"y": y})


def with_values() -> Any:
    """A branch whose result's shape depends on values, and what follows it."""
    w = Writer(OPSET)
    yes, no = inside("yes", "no")
    places = yes.add("Transpose", yes.add("NonZero", yes.add("Relu", "x")), perm=[1, 0])
    y = w.add(
        "If", is_one(w, "x", 1),
        then_branch=yes.branch(yes.add("GatherND", "x", places), "positive"),
        else_branch=no.branch(no.add("Reshape", "x", no.ints(-1)), "all"),
    )  # fmt: skip
    return w.model({"x": ("A", "B")}, {"y": w.add("Mul", y, w.constant(2))})


MODELS: dict[str, tuple[Any, list[tuple[int, ...]]]] = {
    "products": (products, [(1, 5), (4, 5), (2, 5), (1, 5)]),
    "twice squeezed": (twice_squeezed, [(1, 1, 4), (1, 3, 4), (3, 1, 4), (2, 3, 4)]),
    "nested": (nested, [(1, 1), (1, 3), (2, 1)]),
    "with values": (with_values, [(6, 1), (2, 3)]),
}


@pytest.mark.parametrize("name", MODELS)
def test_every_branch_agrees_with_onnxruntime(name: str) -> None:
    make, shapes = MODELS[name]
    proto = make()
    model = converted(proto)
    for shape in shapes:
        x = weights(*shape, seed=7)
        wanted = run(proto, {"x": x})[0]
        found = (model.run({"x": x}), evaluate(model.graph("main"), {"x": x}))
        for one in found:
            np.testing.assert_allclose(one["y"], wanted, rtol=1e-6, atol=1e-6, strict=True)


@pytest.mark.native
@pytest.mark.parametrize("name", ["products", "twice squeezed", "nested"])
def test_plans_hold_the_branch_taken_and_no_host_step(name: str) -> None:
    make, shapes = MODELS[name]
    model = converted(make())
    for shape in shapes:
        plan = model.plan({"x": shape})
        assert plan.host_steps == ()
        assert "If" not in {node.op for node in plan.nodes}


@pytest.mark.native
def test_weights_of_branches_are_packed_once() -> None:
    model = converted(products())
    many = [model.plan({"x": (n, 5)}).packed_bytes for n in (2, 3, 4)]
    alone = model.plan({"x": (1, 5)}).packed_bytes
    assert len(set(many)) == 1
    assert len(model._store._arrays) == 3
    assert alone == 2 * many[0]


def test_inspect_counts_what_branches_hold(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    convert_onnx(products(), tmp_path / "m.lrnn")
    assert main(["inspect", str(tmp_path / "m.lrnn")]) == 0
    shown = capsys.readouterr().out
    assert "3 MatMul" in shown
    assert "parameters  55" in shown


@pytest.mark.native
def test_a_condition_that_values_decide_stays() -> None:
    w = Writer(OPSET)
    yes, no = inside("yes", "no")
    y = w.add(
        "If", "flag",
        then_branch=yes.branch(yes.add("Neg", "x"), "neg"), else_branch=no.branch("x", "same"),
    )  # fmt: skip
    proto = w.model({"x": ("N",), "flag": ()}, {"y": y}, dtypes={"flag": BOOL_TYPE})
    model = converted(proto)
    plan = model.plan({"x": (3,), "flag": ()})
    assert [node.op for node in plan.host_steps] == ["If"]
    x = weights(3)
    for flag in (True, False):
        np.testing.assert_array_equal(model(x, np.array(flag)), -x if flag else x)


def branch(op: str, constants: Mapping[str, Array] | None = None) -> Graph:
    """A graph of one node: x, and constants, to y."""
    known = dict(constants or {})
    node = Node(op, ("x", *known), ("y",), {}, op)
    floats = TensorType(FLOAT32, None)
    return Graph({"x": floats}, {"y": floats}, (node,), known)


def choice(then_branch: Graph, else_branch: Graph) -> Node:
    attrs = {"then_branch": then_branch, "else_branch": else_branch}
    return Node("If", ("flag", "x"), ("z",), attrs, "choice")


def test_names_inside_a_branch_may_be_those_outside() -> None:
    node = choice(branch("Add", {"y": np.ones(3, np.float32)}), branch("Neg"))
    outside = {"flag": np.array(True), "y": np.zeros(3), "z/y": np.full(3, 7, np.float32)}
    whole = Graph(
        {"x": TensorType(FLOAT32, ("N", 3))}, {"z": TensorType(FLOAT32, None)}, (node,), outside
    )
    made = Decisions.of(whole, ((2, 3),))
    assert made.taken == [True]
    x = weights(2, 3)
    np.testing.assert_array_equal(evaluate(made.graph, {"x": x})["z"], x + 1)


def test_a_branch_that_does_not_fit_these_sizes_is_never_taken() -> None:
    """Both branches of a model for two sizes of input cannot be right for one size."""
    flag, x = TensorType(BOOL, ()), TensorType(FLOAT32, (2, 3))
    fits, misfit = branch("Neg"), branch("Add", {"w": np.zeros(4, np.float32)})
    for pair in ((fits, misfit), (misfit, fits)):
        assert build(choice(*pair)).infer([flag, x]) == (x,)
    with pytest.raises(GraphError, match="do not broadcast"):
        build(choice(misfit, misfit)).infer([flag, x])
    with pytest.raises(UnsupportedError, match="'Nothing' is not supported"):
        build(choice(fits, branch("Nothing"))).infer([flag, x])
