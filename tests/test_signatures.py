"""What a converted model says of the sizes of its inputs and outputs, and what it knows of them."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lightrnn_converters import convert_onnx, verify
from lightrnn_converters.verify import OnnxRuntime, ReferenceFailedError
from onnx import helper, numpy_helper

import lightrnn
from lightrnn.errors import ConversionError, InputError
from lightrnn.format import read
from lightrnn.graph import Shape
from tests.exporter_forms import FORMS, H, I
from tests.onnx_models import run
from tests.onnx_writer import Writer, weights


def converted(proto: Any, **options: Any) -> lightrnn.Model:
    target = io.BytesIO()
    convert_onnx(proto, target, **options)
    return lightrnn.load(target.getvalue())


def shapes(model: lightrnn.Model) -> dict[str, Shape | None]:
    return {spec.name: spec.shape for spec in (*model.inputs, *model.outputs)}


def lstm(sizes: Mapping[str, Any]) -> Any:
    """x, h and c, of these sizes, to y, hn and cn."""
    w = Writer(17)
    matrices = [w.constant(weights(1, 4 * H, k)) for k in (I, H)]
    y, hn, cn = w.add("LSTM", "x", *matrices, "", "", "h", "c", outputs=3, hidden_size=H)
    return w.model(sizes, {"y": w.squeeze(y, 1), "hn": hn, "cn": cn})


@pytest.mark.parametrize(
    ("sizes", "batch", "time"),
    [
        ({"x": ("t", "n", I), "h": (1, "n", H), "c": (1, "n", H)}, "n", "t"),
        ({"x": ("t", "a", I), "h": (1, "b", H), "c": (1, "c", H)}, "a", "t"),
        ({"x": (None, None, I), "h": (1, None, H), "c": (1, None, H)}, "x_1", "x_0"),
        ({"x": ("t", "n", I), "h": (1, 2, H), "c": (1, None, H)}, 2, "t"),
        ({"x": (None, "x_0", I), "h": (1, "b", H), "c": (1, "b", H)}, "x_0", "x_0_"),
    ],
    ids=["named", "named apart", "unnamed", "known in one place", "a name that is taken"],
)
def test_sizes_that_a_layer_takes_for_one_have_one_name(
    sizes: Mapping[str, Any], batch: str | int, time: str
) -> None:
    model = converted(lstm(sizes))
    state = (1, batch, H)
    assert shapes(model) == {
        "x": (time, batch, I), "h": state, "c": state,
        "y": (time, batch, H), "hn": state, "cn": state,
    }  # fmt: skip


def test_sizes_that_concat_takes_for_one_have_one_name() -> None:
    w = Writer(17)
    joined = w.add("Concat", "x", "y", axis=1)
    proto = w.model({"x": ("a", "b", 3), "y": ("c", "d", 3)}, {"z": joined})
    assert shapes(converted(proto)) == {"x": ("a", "b", 3), "y": ("a", "d", 3), "z": ("a", None, 3)}


def test_sizes_that_may_be_broadcast_keep_their_names() -> None:
    w = Writer(17)
    proto = w.model({"x": ("a", 3), "y": ("b", 3)}, {"z": w.add("Add", "x", "y")})
    assert shapes(converted(proto)) == {"x": ("a", 3), "y": ("b", 3), "z": (None, 3)}


def test_a_stream_takes_the_batch_of_states_named_apart_from_its_input() -> None:
    proto = lstm({"x": ("t", "a", I), "h": (1, "b", H), "c": (1, "c", H)})
    stream = converted(proto, states={"h": "hn", "c": "cn"}).stream()
    x = np.random.default_rng(0).standard_normal((5, 3, I)).astype(np.float32)
    zeros = np.zeros((1, 3, H), np.float32)
    wanted = run(proto, {"x": x, "h": zeros, "c": zeros})[0]
    found = np.concatenate([stream.step({"x": x[a:b]})["y"] for a, b in ((0, 2), (2, 5))])
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_a_stream_names_the_size_that_it_does_not_know() -> None:
    w = Writer(17)
    last = w.reduce("ReduceSum", "x", 0)
    proto = w.model({"x": ("t", 3), "s": (None, 3)}, {"next": w.add("Add", "s", last)})
    model = converted(proto, states={"s": "next"})
    with pytest.raises(InputError, match=r"'s' is not known .* float32\[s_0, 3\]; fix it when"):
        model.stream().step({"x": np.ones((2, 3), np.float32)})
    stream = converted(proto, states={"s": "next"}, dims={"s_0": 1}).stream()
    stream.step({"x": np.ones((2, 3), np.float32)})


def test_sizes_without_a_name_can_be_fixed_by_input_and_axis() -> None:
    proto = lstm({"x": (None, None, I), "h": (1, None, H), "c": (1, None, H)})
    assert shapes(converted(proto, dims={"x_1": 2}))["h"] == (1, 2, H)
    with pytest.raises(ConversionError, match="no dimension 'batch', the model has c_1, h_1, x_0"):
        converted(proto, dims={"batch": 2})


@pytest.mark.parametrize(
    ("form", "output", "shape"),
    [
        ("sizes_in_int32", "y", ("batch", "time", 3)),
        ("flat_weights", "y", ("time", "batch", H)),
        ("keras_gru", "scores", ("batch", 4)),
        ("backward_by_slicing", "y", ("time", "batch", H)),
    ],
)
def test_outputs_have_the_sizes_that_shape_arithmetic_gives_them(
    form: str, output: str, shape: Shape
) -> None:
    assert shapes(converted(FORMS[form].write(Writer(17))))[output] == shape


def _gathered(w: Writer) -> Any:
    return w.add("Gather", w.add("Shape", "x"), w.constant(-2, np.int64), axis=0)


def _sliced(w: Writer) -> Any:
    return w.squeeze(w.slice(w.add("Shape", "x"), 0, 1, 2), 0)


def _backwards(w: Writer) -> Any:
    return w.squeeze(w.slice(w.slice(w.add("Shape", "x"), 0, -1, -4, -1), 0, 1, 2), 0)


def _part_of_shape(w: Writer) -> Any:
    return w.squeeze(w.add("Shape", "x", start=-2, end=-1), 0)


def _cast(w: Writer) -> Any:
    narrow = w.add("Cast", w.add("Shape", "x"), to=6)
    return w.add("Cast", w.squeeze(w.slice(narrow, 0, 1, 2), 0), to=7)


def _joined(w: Writer) -> Any:
    shape = w.add("Shape", "x")
    both = w.add("Concat", w.ints(7), w.unsqueeze(w.squeeze(w.size("x", 0), 0), 0), shape, axis=0)
    return w.add("Gather", w.add("Reshape", both, w.ints(-1)), w.constant(3, np.int64), axis=0)


def _of_a_reshaped(w: Writer) -> Any:
    sizes = w.add("Concat", w.size("x", 2), w.ints(2), w.size("x", 0), axis=0)
    shape = w.add("Shape", w.add("Reshape", "x", sizes))
    return w.add("Gather", shape, w.constant(1, np.int64), axis=0)


@pytest.mark.parametrize(
    "size",
    [_gathered, _sliced, _backwards, _part_of_shape, _cast, _joined, _of_a_reshaped],
)
def test_a_condition_on_a_size_that_is_known_where_others_are_not(
    size: Callable[[Writer], Any],
) -> None:
    w = Writer(17)
    branches = {}
    for name, op in (("then_branch", "Neg"), ("else_branch", "Identity")):
        inner = Writer(17, prefix=name)
        branches[name] = inner.branch(inner.add(op, "x"), name)
    is_two = w.add("Equal", size(w), w.constant(2, np.int64))
    proto = w.model({"x": ("n", 2, "t")}, {"y": w.add("If", is_two, **branches)})
    model = converted(proto)
    assert [node.op for node in model.graph("main").nodes] == ["Neg"]
    x = weights(3, 2, 4)
    np.testing.assert_array_equal(model(x), -x)
    np.testing.assert_array_equal(run(proto, {"x": x})[0], -x)


def test_a_file_knows_the_values_of_its_bound_inputs(tmp_path: Path) -> None:
    w = Writer(17)
    proto = w.model(
        {"x": ("n", 3), "scale": (), "shift": (3,)},
        {"y": w.add("Add", w.add("Mul", "x", "scale"), "shift")},
    )
    path = tmp_path / "m.lrnn"
    convert_onnx(proto, path, bind={"scale": 2.5, "shift": [1, 2, 3]})
    model = lightrnn.load(path)
    assert [s.name for s in model.inputs] == ["x"]
    assert model.metadata == {"bound_inputs": '{"main": {"scale": 2.5, "shift": [1, 2, 3]}}'}
    assert verify(path, proto).passed
    assert verify(path, proto, {"x": weights(2, 3)}).passed
    w = Writer(17)
    other = w.model({"x": ("n", 3), "shift": (3,)}, {"y": w.add("Add", "x", "shift")})
    assert not verify(path, other).passed


def test_an_input_of_any_rank(caplog: pytest.LogCaptureFixture) -> None:
    proto = FORMS["keras_gru"].write(Writer(17))
    proto.graph.input[0].type.tensor_type.ClearField("shape")
    model = converted(proto)
    assert shapes(model)["x"] is None
    assert "the conversion was not verified" in caplog.text
    x = weights(3, 4, I)
    np.testing.assert_allclose(model(x)[1], run(proto, {"x": x})[1], atol=1e-6)


def test_onnxruntime_is_not_run_on_empty_inputs_that_end_its_process() -> None:
    proto = FORMS["keras_lstm"].write(Writer(17))
    with pytest.raises(ReferenceFailedError, match="the empty input 'x'"):
        OnnxRuntime(proto)({"x": np.zeros((0, 3, I), np.float32)})


def test_weights_are_stored_small_whatever_other_graphs_call_their_tensors() -> None:
    def product(weight: str, result: str) -> Any:
        w = Writer(17)
        w.initializers.append(numpy_helper.from_array(weights(I, H), weight))
        w.nodes.append(helper.make_node("MatMul", ["x", weight], [result]))
        return w.model({"x": ("n", I)}, {"y": w.add("Abs", result)})

    target = io.BytesIO()
    convert_onnx({"a": product("w", "v"), "b": product("v", "w")}, target, dtype="float16")
    file = read(target.getvalue())
    assert set(file.encodings.values()) == {"float16"}
    assert len(file.encodings) == len({n for g in file.graphs.values() for n in g.constants})
