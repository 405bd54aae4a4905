"""If, Loop and Scan: against onnxruntime, in the engine, in files."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from lightrnn_converters import convert_onnx
from onnx import helper

import lightrnn
from lightrnn.engine.control import PreparedControl
from lightrnn.engine.interpret import evaluate
from lightrnn.engine.prepare import PackedStore, prepare
from lightrnn.errors import (
    ConversionError,
    DataError,
    FormatError,
    GraphError,
    LightRNNError,
    UnsupportedError,
)
from lightrnn.format import ModelFile, dumps
from lightrnn.graph import FLOAT32, INT64, Array, Graph, Node, TensorType
from lightrnn.ops.control import settled
from tests import onnx_models
from tests.attacks.base import Parts
from tests.control_models import (
    EXAMPLES,
    Example,
    conditional,
    counted,
    floats,
    graph,
    recurrent_cell,
)
from tests.onnx_models import BOOL, FLOAT, node


def converted(proto: Any, **options: Any) -> lightrnn.Model:
    target = io.BytesIO()
    convert_onnx(proto, target, verify=False, **options)
    return lightrnn.load(target.getvalue(), threads=1)


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_models_agree_with_onnxruntime(example: Example) -> None:
    proto = example.make()
    model = converted(proto)
    for feeds in example.feeds:
        wanted = onnx_models.run(proto, feeds)
        stored = model.graph("main")
        for found in (model.run(feeds), evaluate(stored, feeds), model.run(feeds)):
            for a, b in zip(found.values(), wanted, strict=True):
                if b.size == 0:  # onnxruntime forgets the sizes of what no iteration made
                    b = np.empty(a.shape if a.size == 0 else (0,), b.dtype)
                np.testing.assert_allclose(a, b, rtol=2e-6, atol=2e-6, strict=True)


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_conversions_are_verified(example: Example, caplog: pytest.LogCaptureFixture) -> None:
    if example.make().graph.input[-1].type.tensor_type.HasField("shape"):
        with caplog.at_level(logging.WARNING, "lightrnn"):
            convert_onnx(example.make(), io.BytesIO())


def bodies(proto: Any) -> list[Any]:
    """The prepared graphs of a model's control operators."""
    stored = converted(proto).graph("main")
    ready = prepare(stored, tuple(stored.outputs), PackedStore())
    controls = [op for _, op in ready.nodes if isinstance(op, PreparedControl)]
    return [body.prepared for op in controls for body in op.bodies]


@pytest.mark.native
def test_an_iteration_over_a_cell_is_one_native_call() -> None:
    (body,) = bodies(recurrent_cell())
    plan = body.plan(((), (), (1, 2, H), (4, 2, 3)))
    assert list(body.graph.inputs)[3:] == ["x"]
    assert plan.whole is not None
    assert {"w", "r"} <= set(body.graph.constants)


H = 5


@pytest.mark.native
def test_plans_of_a_body_are_found_again() -> None:
    model = converted(recurrent_cell())
    feeds = {"x": floats(30, 2, 3), "h0": floats(1, 2, H)}
    model.run(feeds)
    (op,) = (op for _, op in model._main.prepared.nodes if isinstance(op, PreparedControl))
    (body,) = op.bodies
    assert len(body.prepared.plans) == 1


def test_what_a_graph_captures_is_listed_once_and_used() -> None:
    (loop,) = converted(counted()).graph("main").nodes
    assert loop.inputs == ("count", "", "h0", "x")
    body = loop.attrs["body"]
    assert isinstance(body, Graph)
    assert list(body.inputs)[3:] == ["x"]
    assert "w" in body.constants
    assert "x" not in body.constants


def test_constants_inside_are_stored_like_those_outside() -> None:
    proto = conditional()
    for dtype, tolerance in (("float32", 1e-6), ("float16", 1e-2)):
        model = converted(proto, dtype=dtype)
        feeds = {"x": np.abs(floats(3, H))}
        (wanted,) = onnx_models.run(proto, feeds)
        np.testing.assert_allclose(model.run(feeds)["z"], wanted, rtol=tolerance, atol=tolerance)


def test_two_models_in_one_file_share_constants_inside_graphs() -> None:
    target = io.BytesIO()
    convert_onnx({"a": conditional(), "b": conditional()}, target, verify=False)
    once = io.BytesIO()
    convert_onnx(conditional(), once, verify=False)
    model = lightrnn.load(target.getvalue())
    feeds = {"x": np.abs(floats(3, H))}
    first, second = (model.run(feeds, graph=name)["z"] for name in ("a", "b"))
    np.testing.assert_array_equal(first, second)
    names = [c for graph in model.graph("b").walk() for c in graph.constants]
    assert set(names) == {c for graph in model.graph("a").walk() for c in graph.constants}


def test_a_bad_value_inside_names_both_nodes() -> None:
    model = converted(counted())
    feeds = {"h0": floats(2, H), "x": floats(2, 2, H), "count": np.array(3)}
    with pytest.raises(DataError, match=r"Loop node 'steps': Gather node 'row'"):
        model.run(feeds)


def test_unsupported_nodes_inside_are_all_named() -> None:
    yes = graph([node("Resample", ["x"], ["yes"], "r", domain="other")], {}, {"yes": (FLOAT, None)})
    no = graph([node("Gradient", ["x"], ["no"], "g", domain="other")], {}, {"no": (FLOAT, None)})
    proto = onnx_models.model(
        [node("If", ["flag"], ["y"], "choice", then_branch=yes, else_branch=no)],
        {"x": (FLOAT, [1, 2, 4]), "flag": (BOOL, [])},
        {"y": (FLOAT, [2])},
        domains={"other": 1},
    )
    with pytest.raises(UnsupportedError, match=r"'choice': Gradient node 'g'.*Resample node 'r'"):
        converted(proto)


def test_a_carried_sequence_that_is_not_collected_is_refused() -> None:
    sequence = helper.make_sequence_type_proto(helper.make_tensor_type_proto(FLOAT, None))
    body = graph(
        [
            node("SequenceInsert", ["s", "x"], ["s1"]),
            node("SequenceInsert", ["s1", "x"], ["s2"]),
            node("Identity", ["go"], ["again"]),
        ],
        {"i": (onnx_models.INT64, []), "go": (BOOL, [])},
        {"again": (BOOL, [])},
    )
    body.input.append(helper.make_value_info("s", sequence))
    body.output.append(helper.make_value_info("s2", sequence))
    proto = onnx_models.model(
        [
            node("SequenceEmpty", [], ["empty"]),
            node("Loop", ["count", "", "empty"], ["s"], "steps", body=body),
            node("ConcatFromSequence", ["s"], ["y"], axis=0),
        ],
        {"x": (FLOAT, [2]), "count": (onnx_models.INT64, [])},
        {"y": (FLOAT, ["M"])},
    )
    with pytest.raises(UnsupportedError, match=r"'steps'.*sequence values are not supported"):
        converted(proto)


def test_a_scan_over_batches_is_refused() -> None:
    body = graph([node("Identity", ["a"], ["b"])], {"a": (FLOAT, None)}, {"b": (FLOAT, None)})
    proto = onnx_models.model(
        [node("Scan", ["", "x"], ["y"], "old", body=body, num_scan_inputs=1)],
        {"x": (FLOAT, [1, 3, 2])}, {"y": (FLOAT, [1, 3, 2])}, opset=8,
    )  # fmt: skip
    with pytest.raises(ConversionError, match=r"Scan node 'old'.*opset 8"):
        converted(proto)


def test_shapes_that_move_from_tensor_to_tensor_settle_soon() -> None:
    calls = []

    def delayed(states: list[TensorType]) -> list[TensorType]:
        calls.append(states)
        return [states[0], *states[:-1]]

    initial = [TensorType(FLOAT32, (k, 7)) for k in range(30)]
    states, results = settled(delayed, initial)
    assert len(calls) <= 5
    assert states[0].shape in ((0, 7), None)
    assert all(t.shape is None or t.shape[0] is None for t in states[1:])
    assert results == delayed(states)


# Files


def holding() -> Graph:
    """y = x + 1, n times."""
    body = Graph(
        {"i": TensorType(INT64, None), "go": TensorType(np.dtype(bool), None),
         "v": TensorType(FLOAT32, None)},
        {"again": TensorType(np.dtype(bool), None), "w": TensorType(FLOAT32, None)},
        (Node("Add", ("v", "one"), ("w",), {}, "more"), Node("Identity", ("go",), ("again",))),
        {"one": np.array([1], np.float32)},
    )  # fmt: skip
    return Graph(
        {"n": TensorType(INT64, ()), "x": TensorType(FLOAT32, ("N",))},
        {"y": TensorType(FLOAT32, ("N",))},
        (Node("Loop", ("n", "", "x"), ("y",), {"body": body}, "steps"),),
        {},
    )


def test_a_file_keeps_graphs_inside_nodes() -> None:
    model = lightrnn.load(dumps(ModelFile({"main": holding()})))
    feeds = {"n": np.array(3), "x": np.zeros(2, np.float32)}
    np.testing.assert_array_equal(model.run(feeds)["y"], [3, 3])


def body_of(parts: Parts) -> Any:
    return parts.node("Loop")["attrs"]["body"]


def deeper(parts: Parts) -> None:
    """The body inside itself, again and again."""
    for _ in range(20):
        body = body_of(parts)
        loop = json.loads(json.dumps(parts.node("Loop")))
        loop["inputs"], loop["outputs"] = ["i", "", "v"], ["w"]
        body["nodes"] = [loop, body["nodes"][1]]


def with_graph(parts: Parts) -> None:
    """A graph where none is wanted."""
    copy = json.loads(json.dumps(body_of(parts)))
    body_of(parts)["nodes"][1]["attrs"] = {"a": copy}


def without_graph(parts: Parts) -> None:
    parts.node("Loop")["attrs"]["body"] = 3
    parts.main["constants"] = ["one"]


Edit = tuple[str, Callable[[Parts], object], type[LightRNNError], str]


def inner(name: str, message: str, error: type[LightRNNError] = FormatError, **fields: Any) -> Edit:
    """Fields of the body changed."""
    return name, lambda parts: body_of(parts).update(fields), error, message


def outer(name: str, message: str, **fields: Any) -> Edit:
    """Fields of the Loop changed."""
    return name, lambda parts: parts.node("Loop").update(fields), GraphError, message


def first(name: str, message: str, error: type[LightRNNError], **fields: Any) -> Edit:
    """Fields of the body's first node changed."""
    return name, lambda parts: body_of(parts)["nodes"][0].update(fields), error, message


def captures(count: int) -> Edit:
    def edit(parts: Parts) -> None:
        parts.node("Loop")["attrs"]["captures"] = count

    return f"{count} captures", edit, GraphError, "captures"


PLACE = "attribute 'body' of node 0 of graph 'main'"
EDITS: tuple[Edit, ...] = (
    ("depth", deeper, FormatError, "lies in more than 6 others"),
    ("not a graph", without_graph, GraphError, "'steps'.*'body'"),
    ("no graph wanted", with_graph, GraphError, "unknown attribute 'a'"),
    inner("states", f"{PLACE}.*states", states={"v": "w"}),
    inner("unknown tensor", "'two'", constants=["one", "two"]),
    inner("no outputs", "no outputs", outputs=[]),
    first("reads from around", f"{PLACE}: Add node 'more' reads 'x'", FormatError,
          inputs=["v", "x"]),
    first("operator", "Loop node 'steps': Nothing node 'more'", UnsupportedError, op="Nothing"),
    outer("too few inputs", "inputs", inputs=["n", ""]),
    outer("never ends", "never ends", inputs=["", "", "x"]),
    captures(5),
    captures(-1),
)  # fmt: skip


@pytest.mark.parametrize(
    ("edit", "error", "message"), [e[1:] for e in EDITS], ids=[e[0] for e in EDITS]
)
def test_bad_graphs_inside_nodes_are_refused(
    edit: Callable[[Parts], object], error: type[LightRNNError], message: str
) -> None:
    parts = Parts.of(dumps(ModelFile({"main": holding()})))
    edit(parts)
    with pytest.raises(error, match=message):
        lightrnn.load(parts.file())


def test_loading_runs_no_loop() -> None:
    endless = holding()
    (loop,) = endless.nodes
    forever = Node("Loop", ("", "yes", "x"), ("y",), loop.attrs, "steps")
    constants: dict[str, Array] = {"yes": np.array(True), "x": np.zeros(1, np.float32)}
    stored = Graph({}, endless.outputs, (forever,), constants)
    assert lightrnn.load(dumps(ModelFile({"main": stored}))).outputs[0].name == "y"
