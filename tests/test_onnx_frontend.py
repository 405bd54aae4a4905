"""What convert_onnx makes of ONNX models, against onnxruntime."""

from __future__ import annotations

import io
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lightrnn_converters import convert_onnx
from onnx import TensorProto, helper, numpy_helper

import lightrnn
from lightrnn.errors import ConversionError, UnsupportedError, VerificationError
from lightrnn.graph import OPSET, Array
from tests.onnx_models import BOOL, FLOAT, INT64, branch, model, node, run

X = {"x": (FLOAT, ("N", 4))}


def floats(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def convert(source: Any, **options: Any) -> lightrnn.Model:
    target = io.BytesIO()
    convert_onnx(source, target, **options)
    return lightrnn.load(target.getvalue())


def assert_agrees(proto: Any, converted: lightrnn.Model, feeds: Mapping[str, Array]) -> None:
    expected = run(proto, feeds)
    known = {s.name: feeds[s.name] for s in converted.inputs}
    for found, want in zip(converted.run(known).values(), expected, strict=True):
        assert found.dtype == want.dtype
        np.testing.assert_allclose(found, want, rtol=1e-5, atol=1e-6)


# Unsupported nodes


def _note(proto: Any, key: str, value: str) -> None:
    entry = proto.metadata_props.add()
    entry.key, entry.value = key, value


def _unsupported_chain(count: int) -> Any:
    nodes = []
    for k in range(count):
        source, result = ("x" if k == 0 else f"t{k}"), (f"t{k + 1}" if k < count - 1 else "y")
        op = "Mystery" if k % 2 else "Fourier"
        one = node(op, [source], [result], name=f"node_{k}", domain="own")
        _note(one, "pkg.torch.onnx.name_scopes", f"['', 'decoder', 'decoder.cell_{k}', 'f_{k}']")
        frames = (("/home/me/model.py", 100 + k), ("/site-packages/torch/nn/modules/rnn.py", 9))
        trace = "\n".join(f'File "{path}", line {n}, in forward\n    y' for path, n in frames)
        _note(one, "pkg.torch.onnx.stack_trace", trace)
        nodes.append(one)
    return model(nodes, X, {"y": (FLOAT, ("N", 4))}, domains={"own": 1})


def test_all_unsupported_nodes_are_named_in_one_error_with_scope_and_line() -> None:
    with pytest.raises(UnsupportedError) as caught:
        convert(_unsupported_chain(200))
    first, *lines = str(caught.value).splitlines()
    assert first == "200 nodes of the model cannot be converted:"
    assert len(lines) == 200
    for k, line in enumerate(lines):
        op = "Mystery" if k % 2 else "Fourier"
        assert line.strip() == (
            f"{op} node 'node_{k}' (decoder.cell_{k}, /home/me/model.py:{100 + k}): "
            "operators of domain 'own' are not supported"
        )


def test_unsupported_nodes_that_no_output_needs_do_not_matter() -> None:
    nodes = [node("Mystery", ["x"], ["unused"], domain="own"), node("Relu", ["x"], ["y"])]
    proto = model(nodes, X, {"y": (FLOAT, ("N", 4))}, domains={"own": 1})
    found = convert(proto, verify=False).run({"x": floats(2, 4)})
    np.testing.assert_array_equal(found["y"], np.maximum(floats(2, 4), 0))


def test_unsupported_attributes_and_types_are_named_too() -> None:
    nodes = [
        node("LSTM", ["s", "w", "r"], ["a"], name="cell", hidden_size=5, activations=["Mish"] * 3),
        node("Cast", ["x"], ["text"], name="print", to=TensorProto.STRING),
        node("Cast", ["text"], ["b"], name="scan", to=TensorProto.FLOAT),
    ]
    proto = model(
        nodes, {**X, "s": (FLOAT, (2, 3, 4))}, {"a": (FLOAT, None), "b": (FLOAT, None)},
        {"w": floats(1, 20, 4), "r": floats(1, 20, 5)},
    )  # fmt: skip
    with pytest.raises(UnsupportedError) as caught:
        convert(proto)
    text = str(caught.value)
    assert "LSTM node 'cell'" in text
    assert "Mish" in text
    assert "Cast node 'print'" in text


# Shapes, inputs and outputs


def test_wrong_declared_output_shapes_are_noted_and_ignored(
    caplog: pytest.LogCaptureFixture,
) -> None:
    nodes = [node("Transpose", ["x"], ["y"], perm=[1, 0]), node("Relu", ["x"], ["z"])]
    proto = model(nodes, X, {"y": (FLOAT, (7, 7)), "z": (FLOAT, ("N", 4, 1))})
    with caplog.at_level(logging.INFO, "lightrnn"):
        converted = convert(proto)
    assert [s.shape for s in converted.outputs] == [(4, "N"), ("N", 4)]
    notes = [r.getMessage() for r in caplog.records]
    assert any("output 'y' is declared as (7, 7)" in n for n in notes)
    assert any("output 'z' is declared as ('N', 4, 1)" in n for n in notes)
    assert converted(floats(3, 4))[0].shape == (4, 3)


def test_outputs_that_are_inputs_or_constants() -> None:
    nodes = [node("Relu", ["x"], ["y"])]
    proto = model(
        nodes, X, {"y": (FLOAT, ("N", 4)), "x": (FLOAT, ("N", 4)), "c": (FLOAT, (3,))},
        {"c": floats(3)},
    )  # fmt: skip
    converted = convert(proto)
    assert_agrees(proto, converted, {"x": floats(2, 4)})


def test_output_that_is_listed_twice_is_refused() -> None:
    proto = model([node("Relu", ["x"], ["y"])], X, {"y": (FLOAT, ("N", 4))})
    proto.graph.output.append(proto.graph.output[0])
    with pytest.raises(ConversionError, match="'y'"):
        convert(proto)


def test_same_tensor_under_two_names() -> None:
    nodes = [
        node("Relu", ["x"], ["y"]), node("Identity", ["y"], ["z"]),
        node("Identity", ["x"], ["same"]), node("Identity", ["c"], ["constant"]),
    ]  # fmt: skip
    proto = model(nodes, X, ["y", "z", "same", "constant"], {"c": floats(2)})
    assert_agrees(proto, convert(proto), {"x": floats(3, 4)})


@pytest.mark.parametrize("dtype", [
    "float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16",
    "uint32", "uint64", "bool",
])  # fmt: skip
def test_inputs_of_every_type(dtype: str) -> None:
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    nodes = [
        node("Transpose", ["x"], ["y"], perm=[1, 0]),
        node("Cast", ["x"], ["z"], to=FLOAT),
        node("Where", ["mask", "x", "x"], ["w"]),
    ]
    proto = model(
        nodes, {"x": (kind, ("N", 3)), "mask": (BOOL, ("N", 1))},
        {"y": (kind, None), "z": (FLOAT, None), "w": (kind, None)},
    )  # fmt: skip
    values = np.random.default_rng(0).integers(0, 2, (4, 3)).astype(dtype)
    found = convert(proto, verify=False).run({"x": values, "mask": values[:, :1] == 0})
    assert [found[n].dtype for n in "yzw"] == [values.dtype, np.float32, values.dtype]
    for name, want in (("y", values.T), ("z", values), ("w", values)):
        np.testing.assert_array_equal(found[name], want)


@pytest.mark.parametrize("kind", [TensorProto.STRING, TensorProto.COMPLEX64])
def test_inputs_of_other_types_are_refused_by_name(kind: int) -> None:
    proto = model([node("Identity", ["x"], ["y"])], {"x": (kind, (2,))}, {"y": (kind, (2,))})
    with pytest.raises(ConversionError, match=r"input 'x': element type (string|complex64)"):
        convert(proto)


def test_initializers_listed_as_inputs_are_constants() -> None:
    proto = model([node("Add", ["x", "c"], ["y"])], {**X, "c": (FLOAT, (4,))}, ["y"],
                  {"c": floats(4)})  # fmt: skip
    converted = convert(proto)
    assert [s.name for s in converted.inputs] == ["x"]
    np.testing.assert_allclose(converted(floats(2, 4)), floats(2, 4) + floats(4), rtol=1e-6)


def test_sparse_initializers_are_refused_by_name() -> None:
    values = numpy_helper.from_array(floats(2), "c")
    indices = numpy_helper.from_array(np.array([0, 3]), "c_indices")
    proto = model([node("Add", ["x", "c"], ["y"])], X, {"y": (FLOAT, ("N", 4))})
    proto.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [4]))
    with pytest.raises(UnsupportedError, match=r"'c'.*sparse tensors"):
        convert(proto)


# Weights, functions, control flow


def test_weights_that_are_put_together_in_the_graph() -> None:
    """Gates in torch's order, sliced and joined by nodes, bias from two Constants."""
    gates = [node("Slice", ["all", f"b{k}", f"b{k + 1}"], [f"g{k}"]) for k in range(4)]
    nodes = [
        node("Constant", [], ["all"], value=numpy_helper.from_array(floats(20, 4))),
        node("Constant", [], ["rs"], value=numpy_helper.from_array(floats(20, 5, seed=1))),
        *gates,
        node("Concat", ["g0", "g3", "g1", "g2"], ["w2"], axis=0),
        node("Unsqueeze", ["w2", "zero"], ["w"]),
        node("Split", ["rs"], ["r0", "r1", "r2", "r3"], axis=0, num_outputs=4),
        node("Concat", ["r0", "r3", "r1", "r2"], ["r_"], axis=0),
        node("Unsqueeze", ["r_", "zero"], ["r"]),
        node("ConstantOfShape", ["size"], ["b"],
             value=numpy_helper.from_array(np.array([0.25], np.float32))),
        node("LSTM", ["s", "w", "r", "b"], ["y", "", "c"], hidden_size=5),
    ]  # fmt: skip
    constants: dict[str, Array] = {f"b{k}": np.array([5 * k]) for k in range(5)}
    constants |= {"zero": np.array([0]), "size": np.array([1, 40])}
    proto = model(nodes, {"s": (FLOAT, ("T", "N", 4))}, ["y", "c"], constants)
    converted = convert(proto)
    assert [n.op for n in converted.graph("main").nodes] == ["LSTM"]
    assert_agrees(proto, converted, {"s": floats(6, 2, 4)})


def _choice(condition: str) -> Any:
    return node(
        "If", [condition], ["y"], name="choice",
        then_branch=branch([node("Relu", ["x"], ["t"])], "t"),
        else_branch=branch([node("Neg", ["x"], ["e"])], "e"),
    )  # fmt: skip


@pytest.mark.parametrize("value", [True, False])
def test_if_whose_condition_is_constant_becomes_its_branch(value: bool) -> None:
    nodes = [node("Not", ["c"], ["condition"]), _choice("condition")]
    proto = model(nodes, X, ["y"], {"c": np.array(not value)})
    converted = convert(proto)
    assert [n.op for n in converted.graph("main").nodes] == ["Relu" if value else "Neg"]
    assert_agrees(proto, converted, {"x": floats(3, 4)})


def test_names_in_several_branches_stay_apart() -> None:
    inner = [node("Add", ["x", "x"], ["h"]), node("Mul", ["h", "h"], ["t"])]
    nodes = [
        node("Relu", ["x"], ["outer"]),
        node("If", ["yes"], ["a"], then_branch=branch(inner, "t"), else_branch=branch(inner, "t")),
        node("If", ["no"], ["b"], then_branch=branch(inner, "t"), else_branch=branch(inner, "t")),
        node("Sum", ["a", "b", "outer"], ["y"]),
    ]
    proto = model(nodes, X, ["y"], {"yes": np.array(True), "no": np.array(False)})
    x = floats(3, 4)
    found = convert(proto, verify=False)(x)
    np.testing.assert_allclose(found, 2 * (2 * x) ** 2 + np.maximum(x, 0), rtol=1e-5)


def test_condition_that_binding_makes_constant() -> None:
    nodes = [node("Equal", ["rate", "r"], ["condition"]), _choice("condition")]
    proto = model(nodes, {**X, "rate": (INT64, ())}, ["y"], {"r": np.array(16000)})
    converted = convert(proto, bind={"rate": 16000})
    assert [s.name for s in converted.inputs] == ["x"]
    assert [n.op for n in converted.graph("main").nodes] == ["Relu"]
    assert_agrees(proto, converted, {"x": floats(3, 4), "rate": np.array(16000)})


def test_functions_of_the_model_are_inlined() -> None:
    body = [node("Gemm", ["a", "w"], ["g"], alpha=2.0), node("Tanh", ["g"], ["b"])]
    function = helper.make_function(
        "own", "Step", ["a", "w"], ["b"], body, [helper.make_opsetid("", 18)]
    )
    nodes = [node("Step", ["x", "w"], ["h"], domain="own"),
             node("Step", ["h", "w"], ["y"], domain="own")]  # fmt: skip
    proto = model(nodes, X, {"y": (FLOAT, None)}, {"w": floats(4, 4)}, domains={"own": 1})
    proto.functions.append(function)
    converted = convert(proto)
    assert [n.op for n in converted.graph("main").nodes] == ["Gemm", "Tanh", "Gemm", "Tanh"]
    assert_agrees(proto, converted, {"x": floats(3, 4)})


def test_sequences_around_layers_are_read_as_tensors() -> None:
    nodes = [
        node("SplitToSequence", ["x", "one"], ["pieces"], axis=1),
        node("SequenceAt", ["pieces", "k"], ["first"]),
        node("Neg", ["first"], ["negated"]),
        node("SequenceConstruct", ["negated", "first"], ["both"]),
        node("ConcatFromSequence", ["both"], ["y"], axis=1),
    ]
    proto = model(nodes, X, {"y": (FLOAT, None)}, {"one": np.array(1), "k": np.array(2)})
    assert_agrees(proto, convert(proto), {"x": floats(3, 4)})


# Options


def test_dimension_can_be_fixed() -> None:
    nodes = [node("Shape", ["x"], ["s"]), node("Expand", ["c", "s"], ["e"]),
             node("Add", ["x", "e"], ["y"])]  # fmt: skip
    proto = model(nodes, X, ["y"], {"c": floats(1, 4)})
    converted = convert(proto, dims={"N": 3})
    assert converted.inputs[0].shape == (3, 4)
    assert [n.op for n in converted.graph("main").nodes] == ["Add"]
    assert_agrees(proto, converted, {"x": floats(3, 4)})


GRU_NODES = [node("GRU", ["s", "w", "r", "", "", "h"], ["y", "h_next"], hidden_size=5)]


def _gru() -> Any:
    return model(
        GRU_NODES, {"s": (FLOAT, ("T", "N", 4)), "h": (FLOAT, (1, "N", 5))}, ["y", "h_next"],
        {"w": floats(1, 15, 4), "r": floats(1, 15, 5)},
    )  # fmt: skip


def test_weights_are_stored_by_patterns_of_their_names() -> None:
    feeds = {"s": floats(30, 2, 4), "h": np.zeros((1, 2, 5), np.float32)}
    whole, errors = convert(_gru()).run(feeds)["y"], []
    for dtype, stored in (
        ("int8", {"w": "int8", "r": "int8"}),
        ({"r": "int8", "*": "int16"}, {"w": "int16", "r": "int8"}),
        ("int16+int8", {"w": "int16", "r": "int8_int8_int16"}),
        ({"w*": "int16"}, {"w": "int16"}),
    ):
        converted = convert(_gru(), dtype=dtype)
        assert converted.encodings == stored
        errors.append(float(np.sqrt(np.mean((converted.run(feeds)["y"] - whole) ** 2))))
    assert errors[0] > errors[1] > errors[2] > errors[3] > 0


def test_states_are_kept() -> None:
    converted = convert(_gru(), states={"h": "h_next"})
    assert converted.graph("main").states == {"h": "h_next"}
    x = floats(6, 2, 4)
    whole = converted.run({"s": x, "h": np.zeros((1, 2, 5), np.float32)})["y"]
    stream = converted.stream()
    pieces = [stream.step({"s": part})["y"] for part in (x[:1], x[1:4], x[4:])]
    np.testing.assert_allclose(np.concatenate(pieces), whole, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("options", "message"), [
    ({"bind": {"z": 1}}, "no input 'z', the model has h, s"),
    ({"bind": {"h": np.zeros((1, 2, 4), np.float32)}}, r"value of shape \(1, 2, 4\) bound to 'h'|"
     r"value of shape \(1, 2, 4\) bound to input 'h'"),
    ({"bind": {"h": "text"}}, "value bound to input 'h'"),
    ({"dims": {"M": 1}}, "no dimension 'M', the model has N, T"),
    ({"states": {"z": "h_next"}}, "no input 'z', the model has h, s"),
    ({"states": {"h": "z"}}, "no output 'z', the model has h_next, y"),
    ({"dtype": "float8"}, "dtype is 'float8', expected one of float32"),
    ({"dtype": {"*": "float8"}}, "dtype is 'float8', expected one of float32"),
    ({"dtype": {"w": "int8", "q": "int8"}}, "no weight matches 'q', there are r, w"),
    ({"states": {"s": "h_next"}}, r"'s' is float32\[T, N, 4\], and 'h_next', .* is float32\[1"),
])  # fmt: skip
def test_options_that_do_not_fit_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConversionError, match=message):
        convert(_gru(), **options)


def test_several_models_are_graphs_of_one_file() -> None:
    target = io.BytesIO()
    step = model([node("Gemm", ["x", "m"], ["y"])], {"x": (FLOAT, ("N", 5))}, ["y"],
                 {"m": floats(5, 5)})  # fmt: skip
    convert_onnx(
        {"encoder": _gru(), "decoder": step}, target,
        states={"encoder": {"h": "h_next"}}, dims={"decoder": {"N": 1}},
    )  # fmt: skip
    converted = lightrnn.load(target.getvalue())
    assert converted.graphs == ("encoder", "decoder")
    assert converted.graph("encoder").states == {"h": "h_next"}
    assert converted.graph("decoder").inputs["x"].shape == (1, 5)
    with pytest.raises(ConversionError, match="no graph 'other', the model has decoder, encoder"):
        convert_onnx({"encoder": _gru(), "decoder": step}, target, bind={"other": {}})


@pytest.mark.parametrize("opset", [6, OPSET + 1])
def test_opset_out_of_range_is_refused(opset: int) -> None:
    proto = model([node("Softmax", ["x"], ["y"])], X, {"y": (FLOAT, ("N", 4))})
    proto.opset_import[0].version = opset
    with pytest.raises(ConversionError, match=f"opset {opset}|opset version {opset}"):
        convert(proto)


def test_text_metadata_and_storage() -> None:
    converted = convert(_gru(), metadata={"licence": "MIT"}, dtype="float16")
    assert converted.metadata == {"licence": "MIT"}
    w = next(c for c in converted.graph("main").constants.values() if c.shape == (1, 15, 4))
    np.testing.assert_array_equal(w, floats(1, 15, 4).astype(np.float16).astype(np.float32))


# Verification


def test_conversion_is_compared_with_onnxruntime(monkeypatch: pytest.MonkeyPatch) -> None:
    from lightrnn_converters import onnx_frontend

    def wrong(graph: Any) -> Any:
        constants = {n: c * 1.01 for n, c in graph.constants.items()}
        return type(graph)(graph.inputs, graph.outputs, graph.nodes, constants, graph.states)

    monkeypatch.setattr(onnx_frontend, "simplify", wrong)
    target = io.BytesIO()
    with pytest.raises(VerificationError, match="differs from onnxruntime"):
        convert_onnx(_gru(), target)
    assert target.getvalue() == b""
    convert_onnx(_gru(), target, verify=False)
    assert target.getvalue()


def test_conversion_that_cannot_be_verified_says_so(caplog: pytest.LogCaptureFixture) -> None:
    """onnxruntime refuses layout 1."""
    proto = model(
        [node("GRU", ["s", "w", "r"], ["y"], hidden_size=5, layout=1)],
        {"s": (FLOAT, ("N", "T", 4))}, {"y": (FLOAT, None)},
        {"w": floats(1, 15, 4), "r": floats(1, 15, 5)},
    )  # fmt: skip
    converted = convert(proto)
    assert any("was not verified" in r.getMessage() for r in caplog.records)
    assert converted(floats(2, 3, 4)).shape == (2, 3, 1, 5)  # type: ignore[union-attr]


def test_sizes_that_the_model_needs_are_found_for_verification(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Every axis has a name of its own, and one list of sizes fixes the number of steps."""
    nodes = [
        node("Reshape", ["x", "flat"], ["r"]),
        node("MatMul", ["r", "w"], ["m"]),
        node("Add", ["m", "x2"], ["y"]),
    ]
    proto = model(
        nodes, {"x": (FLOAT, ("a", "b", "c")), "x2": (FLOAT, ("d", "e", "f"))},
        {"y": (FLOAT, None)}, {"flat": np.array([-1, 7, 12]), "w": floats(12, 5)},
    )  # fmt: skip
    convert(proto)
    assert caplog.records == []


def test_failing_conversion_leaves_no_file_and_keeps_an_old_one(tmp_path: Path) -> None:
    path = tmp_path / "model.lrnn"
    for before in (None, b"old"):
        if before is not None:
            path.write_bytes(before)
        with pytest.raises(UnsupportedError):
            convert_onnx(_unsupported_chain(1), path)
        files: Sequence[bytes] = [p.read_bytes() for p in tmp_path.iterdir()]
        assert files == ([] if before is None else [before])
