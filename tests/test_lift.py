"""Models of every opset from 7 on mean the same after they are lifted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx
import pytest
from lightrnn_converters.lift import lift
from lightrnn_converters.source import load

from lightrnn.errors import ConversionError
from lightrnn.graph import OPSET, Array
from tests.onnx_models import BOOL, FLOAT, INT64, branch, model, node, run

OPSETS = (7, 9, 10, 11, 12, 13, 14, 17, 18, 20, 21, 22, 24, 26, 28)
Made = tuple[list[Any], dict[str, Array]]
X = {"x": (FLOAT, (2, 4, 4))}


def _ints(*values: int) -> Array:
    return np.array(values, np.int64)


def _floats(*shape: int) -> Array:
    return np.random.default_rng(1).standard_normal(shape).astype(np.float32)


def _recurrent(op: str, gates: int) -> Callable[[int], Made]:
    def make(opset: int) -> Made:
        weights = {"w": _floats(1, gates * 5, 4), "r": _floats(1, gates * 5, 5)}
        return [node(op, ["x", "w", "r"], ["y"], hidden_size=5)], weights

    return make


def _axes(op: str, since: int) -> Callable[[int], Made]:
    """An operator whose axes are an attribute before `since` and an input from then on."""

    def make(opset: int) -> Made:
        if opset < since:
            return [node(op, ["x"], ["y"], axes=[1])], {}
        return [node(op, ["x", "axes"], ["y"])], {"axes": _ints(1)}

    return make


def _clip(opset: int) -> Made:
    if opset < 11:
        return [node("Clip", ["x"], ["y"], min=-0.5, max=0.5)], {}
    return [node("Clip", ["x", "a", "b"], ["y"])], {"a": np.float32(-0.5), "b": np.float32(0.5)}


def _pad(opset: int) -> Made:
    if opset < 11:
        return [node("Pad", ["x"], ["y"], pads=[0, 1, 0, 0, 0, 2], value=0.5)], {}
    return [node("Pad", ["x", "p", "v"], ["y"])], {
        "p": _ints(0, 1, 0, 0, 0, 2),
        "v": np.array(0.5, np.float32),
    }


def _slice(opset: int) -> Made:
    if opset < 10:
        return [node("Slice", ["x"], ["y"], starts=[1], ends=[3], axes=[2])], {}
    return [node("Slice", ["x", "s", "e", "a"], ["y"])], {
        "s": _ints(1), "e": _ints(3), "a": _ints(2),
    }  # fmt: skip


def _split(opset: int) -> Made:
    if opset < 13:
        return [node("Split", ["x"], ["y", "z"], axis=2, split=[1, 3])], {}
    return [node("Split", ["x", "s"], ["y", "z"], axis=2)], {"s": _ints(1, 3)}


def _topk(opset: int) -> Made:
    if opset < 10:
        return [node("TopK", ["x"], ["y", "i"], k=2, axis=2)], {}
    return [node("TopK", ["x", "k"], ["y", "i"], axis=2)], {"k": _ints(2)}


def _dropout(opset: int) -> Made:
    if opset < 12:
        return [node("Dropout", ["x"], ["y"], ratio=0.5)], {}
    return [node("Dropout", ["x", "r"], ["y"])], {"r": np.array(0.5, np.float32)}


def _batch_normalization(opset: int) -> Made:
    return [node("BatchNormalization", ["x", "s", "b", "m", "v"], ["y"])], {
        name: np.abs(_floats(4)) for name in "sbmv"
    }


def _if(opset: int) -> Made:
    return [
        node("Not", ["no"], ["yes"]),
        node(
            "If", ["yes"], ["y"],
            then_branch=branch([node("Softmax", ["x"], ["t"], axis=1)], "t"),
            else_branch=branch([node("Neg", ["x"], ["e"])], "e"),
        ),
    ], {"no": np.array(False)}  # fmt: skip


CASES: dict[str, Callable[[int], Made]] = {
    "softmax": lambda opset: ([node("Softmax", ["x"], ["y"], axis=1)], {}),
    "softmax, default axis": lambda opset: ([node("Softmax", ["x"], ["y"])], {}),
    "log softmax": lambda opset: ([node("LogSoftmax", ["x"], ["y"], axis=2)], {}),
    "lstm": _recurrent("LSTM", 4),
    "gru": _recurrent("GRU", 3),
    "rnn": _recurrent("RNN", 1),
    "unsqueeze": _axes("Unsqueeze", 13),
    "reduce sum": _axes("ReduceSum", 13),
    "reduce mean": _axes("ReduceMean", 18),
    "clip": _clip,
    "pad": _pad,
    "slice": _slice,
    "split": _split,
    "top k": _topk,
    "dropout": _dropout,
    "batch normalization": _batch_normalization,
    "if": _if,
}


def _made() -> Iterator[Any]:
    for name, make in CASES.items():
        for opset in OPSETS:
            yield pytest.param(make, opset, id=f"{name} {opset}")


@pytest.mark.parametrize(("make", "opset"), list(_made()))
def test_lifted_model_gives_the_same_results(make: Callable[[int], Made], opset: int) -> None:
    nodes, constants = make(opset)
    proto = load(model(nodes, X, ["y"], constants, opset))
    lifted = lift(proto)
    assert [o.version for o in lifted.opset_import if not o.domain] == [OPSET]
    feeds = {"x": _floats(2, 4, 4)}
    (wanted,), (found,) = run(proto, feeds), run(lifted, feeds)
    np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-6)


def test_local_functions_are_inlined() -> None:
    function = onnx.helper.make_function(
        "own", "Double", ["a"], ["b"], [node("Add", ["a", "a"], ["b"])],
        [onnx.helper.make_opsetid("", 13)],
    )  # fmt: skip
    proto = model([node("Double", ["x"], ["y"], domain="own")], X, {"y": (FLOAT, (2, 4, 4))},
                  opset=13, domains={"own": 1})  # fmt: skip
    proto.functions.append(function)
    lifted = lift(load(proto))
    assert [n.op_type for n in lifted.graph.node] == ["Add"]


def test_operators_that_onnx_defines_by_others_are_written_out() -> None:
    loss = node("NegativeLogLikelihoodLoss", ["x", "target"], ["y"])  # `reduction` by default
    proto = model([loss], X, ["y"], {"target": np.array([[0, 3, 1, 2], [1, 1, 0, 3]])}, opset=18)
    lifted = lift(load(proto))
    assert "NegativeLogLikelihoodLoss" not in [n.op_type for n in lifted.graph.node]
    feeds = {"x": _floats(2, 4, 4)}
    np.testing.assert_allclose(run(lifted, feeds)[0], run(proto, feeds)[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("attributes", [{}, {"periodic": 0}])
def test_definitions_know_the_defaults_of_attributes(attributes: dict[str, int]) -> None:
    nodes = [node("HannWindow", ["n"], ["y"], **attributes)]
    proto = model(nodes, {"n": (INT64, ())}, {"y": (FLOAT, (10,))}, opset=17)
    lifted = lift(load(proto))
    assert "HannWindow" not in [n.op_type for n in lifted.graph.node]
    feeds = {"n": np.array(10)}
    np.testing.assert_allclose(run(lifted, feeds)[0], run(proto, feeds)[0], rtol=1e-5, atol=1e-6)


def test_old_model_whose_operators_never_changed_is_lifted() -> None:
    proto = model([node("Not", ["x"], ["y"])], {"x": (BOOL, (2,))}, {"y": (BOOL, (2,))}, opset=1)
    assert [o.version for o in lift(load(proto)).opset_import] == [OPSET]


@pytest.mark.parametrize(("opset", "message"), [(5, "opset 5, expected 7 to 28"),
                                                (OPSET + 1, "newer than 28")])  # fmt: skip
def test_opset_out_of_range_is_refused(opset: int, message: str) -> None:
    proto = model([node("Relu", ["x"], ["y"])], X, {"y": (FLOAT, (2, 4, 4))}, opset=13)
    proto.opset_import[0].version = opset
    with pytest.raises(ConversionError, match=message):
        lift(proto)
