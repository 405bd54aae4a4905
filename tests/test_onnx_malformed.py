"""ONNX files that are damaged, or that reach for files which are not theirs."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from lightrnn_converters import convert_onnx
from onnx import TensorProto, helper, numpy_helper

import lightrnn
from lightrnn.errors import ConversionError, LightRNNError
from lightrnn.graph import Array
from tests.onnx_models import FLOAT, INT64, branch, model, node

X = {"x": (FLOAT, ("N", 4))}
Y = {"y": (FLOAT, ("N", 4))}


def floats(*shape: int) -> Array:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def convert(source: Any, **options: Any) -> lightrnn.Model:
    target = io.BytesIO()
    convert_onnx(source, target, **options)
    return lightrnn.load(target.getvalue())


# External data


def _external(path: Path, location: str, **entries: str) -> Path:
    """A model beside which, or elsewhere, the tensor `c` lies."""
    proto = model([node("Add", ["x", "c"], ["y"])], X, Y, {"c": np.zeros(4, np.float32)})
    (tensor,) = proto.graph.initializer
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **entries}.items():
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    path.write_bytes(proto.SerializeToString())
    return path


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder with weights, a folder in it with others, and weights outside."""
    home = tmp_path / "home"
    (home / "inner").mkdir(parents=True)
    for path in (home / "weights", home / "inner" / "weights", tmp_path / "secret"):
        path.write_bytes(bytes(8) + floats(4).tobytes() + b"rest")
    (home / "link").symlink_to(tmp_path / "secret")
    (home / "folder").symlink_to(tmp_path)
    return home


@pytest.mark.parametrize("location", ["weights", "inner/weights", "./weights"])
def test_external_data_beside_the_model_is_read(home: Path, location: str) -> None:
    path = _external(home / "model.onnx", location, offset="8", length="16")
    np.testing.assert_allclose(convert(path)(np.zeros((2, 4), np.float32))[1], floats(4))


def test_external_weights_that_onnx_wrote_are_read(tmp_path: Path) -> None:
    weights = {"w": floats(1, 20, 4), "r": floats(1, 20, 5)}
    proto = model(
        [node("LSTM", ["s", "w", "r"], ["y"], hidden_size=5)], {"s": (FLOAT, ("T", "N", 4))},
        ["y"], weights,
    )  # fmt: skip
    whole = convert(proto)
    path = tmp_path / "model.onnx"
    onnx.save_model(proto, path, save_as_external_data=True, location="w.bin", size_threshold=0)
    x = floats(3, 2, 4)
    np.testing.assert_array_equal(convert(path)(x), whole(x))


@pytest.mark.parametrize(("location", "entries", "message"), [
    ("../secret", {}, "'../secret' does not lie beside the model"),
    ("inner/../../secret", {}, "does not lie beside the model"),
    ("inner\\..\\..\\secret", {}, "does not lie beside the model"),
    ("{tmp}/secret", {}, "does not lie beside the model"),
    ("c:/secret", {}, "does not lie beside the model"),
    ("link", {}, "'link' is a link"),
    ("folder/secret", {}, "'folder/secret' is a link"),
    ("", {}, "'' does not lie beside the model"),
    ("missing", {}, "No such file"),
    ("inner", {}, "'inner' is not a file|Is a directory"),
    ("weights", {"offset": "8", "length": "21"}, "bytes 8 to 29 of 'weights', which has 28"),
    ("weights", {"offset": "-8", "length": "16"}, "bytes -8 to 8"),
    ("weights", {"offset": "8", "length": "-16"}, "bytes 8 to -8"),
    ("weights", {"offset": "29"}, "bytes 29 to 28"),
    ("weights", {"offset": "eight"}, "external data of tensor 'c'"),
    ("weights", {"offset": "8", "length": "12"}, "model.onnx"),
    ("weights\x00", {}, "external data of tensor 'c'"),
])  # fmt: skip
def test_external_data_elsewhere_is_refused(
    home: Path, location: str, entries: dict[str, str], message: str
) -> None:
    location = location.format(tmp=home.parent)
    path = _external(home / "model.onnx", location, **entries)
    with pytest.raises(ConversionError, match=message.replace("\\", "\\\\")):
        convert(path)


def test_external_data_needs_a_path(home: Path) -> None:
    path = _external(home / "model.onnx", "weights", offset="8", length="16")
    with pytest.raises(ConversionError, match="can only be read beside a model that is given by"):
        convert(path.read_bytes())


def test_external_data_that_is_no_plain_file_is_not_waited_for(home: Path) -> None:
    os.mkfifo(home / "pipe")
    path = _external(home / "model.onnx", "pipe", length="16")
    with pytest.raises(ConversionError, match="external data of tensor 'c'"):
        convert(path)


# Bad models


def _cycle() -> Any:
    return model([node("Add", ["x", "b"], ["a"]), node("Relu", ["a"], ["b"]),
                  node("Relu", ["b"], ["y"])], X, Y)  # fmt: skip


def _huge_initializer() -> Any:
    proto = model([node("Add", ["x", "c"], ["y"])], X, Y, {"c": floats(4)})
    proto.graph.initializer[0].dims[:] = [2**40]
    return proto


def _negative_initializer() -> Any:
    proto = model([node("Add", ["x", "c"], ["y"])], X, Y, {"c": floats(4)})
    proto.graph.initializer[0].dims[:] = [-4]
    return proto


def _short_initializer() -> Any:
    proto = model([node("Add", ["x", "c"], ["y"])], X, Y, {"c": floats(4)})
    proto.graph.initializer[0].raw_data = proto.graph.initializer[0].raw_data[:7]
    return proto


def _element_type() -> Any:
    proto = model([node("Relu", ["x"], ["y"])], X, Y)
    proto.graph.input[0].type.tensor_type.elem_type = 77
    return proto


def _bad_text() -> Any:
    proto = model([node("LSTM", ["s", "w", "r"], ["y"], direction="forward", hidden_size=5)],
                  {"s": (FLOAT, ("T", "N", 4))}, {"y": (FLOAT, None)},
                  {"w": floats(1, 20, 4), "r": floats(1, 20, 5)})  # fmt: skip
    next(a for a in proto.graph.node[0].attribute if a.name == "direction").s = b"\xff\xfe"
    return proto


def _no_opset() -> Any:
    proto = model([node("Relu", ["x"], ["y"])], X, Y)
    del proto.opset_import[:]
    return proto


def _own_cycle_in_functions() -> Any:
    opset = [helper.make_opsetid("", 18), helper.make_opsetid("own", 1)]
    functions = [
        helper.make_function("own", a, ["p"], ["q"], [node(b, ["p"], ["q"], domain="own")], opset)
        for a, b in (("F", "G"), ("G", "F"))
    ]
    proto = model([node("F", ["x"], ["y"], domain="own")], X, Y, domains={"own": 1})
    proto.functions.extend(functions)
    return proto


def _nested(depth: int) -> Any:
    other = branch([node("Neg", ["x"], ["e"])], "e")
    graph = branch([node("Relu", ["x"], ["t"])], "t")
    for k in range(depth):
        inner = node("If", ["c"], [f"t{k}"], then_branch=graph, else_branch=other)
        graph = branch([inner], f"t{k}")
    nodes = [node("If", ["c"], ["y"], then_branch=graph, else_branch=other)]
    return model(nodes, X, Y, {"c": np.array(True)})


BAD: dict[str, tuple[Callable[[], Any], str]] = {
    "cycle": (_cycle, "sorted"),
    "input that nothing makes": (
        lambda: model([node("Add", ["x", "nothing"], ["y"])], X, Y), "nothing",
    ),
    "output that nothing makes": (lambda: model([node("Relu", ["x"], ["z"])], X, Y), "'y'|y"),
    "tensor made twice": (
        lambda: model([node("Relu", ["x"], ["y"]), node("Neg", ["x"], ["y"])], X, Y), "y",
    ),
    "huge initializer": (_huge_initializer, "c"),
    "negative initializer": (_negative_initializer, "c"),
    "short initializer": (_short_initializer, "c"),
    "unknown element type": (_element_type, "'x'|77"),
    "text that is not UTF-8": (_bad_text, "LSTM"),
    "no opset": (_no_opset, "opset"),
    "functions that call each other": (_own_cycle_in_functions, "Cycle|recursive"),
    "unknown operator": (lambda: model([node("Relux", ["x"], ["y"])], X, Y), "Relux"),
    "attribute of the wrong type": (
        lambda: model([node("Softmax", ["x"], ["y"], axis="last")], X, Y), "axis",
    ),
    "missing attribute": (lambda: model([node("Concat", ["x", "x"], ["y"])], X, Y), "axis"),
    "too few inputs": (lambda: model([node("Add", ["x"], ["y"])], X, Y), "Add"),
    "axis out of range": (
        lambda: model([node("Softmax", ["x"], ["y"], axis=7)], X, Y), "Softmax|axis",
    ),
    "permutation out of range": (
        lambda: model([node("Transpose", ["x"], ["y"], perm=[0, 5])], X, Y), "Transpose|perm",
    ),
    "sizes that do not fit": (
        lambda: model([node("Add", ["x", "c"], ["y"])], X, Y, {"c": floats(3)}), "Add node",
    ),
    "index out of range": (
        lambda: model([node("Gather", ["c", "i"], ["y"])], X, Y,
                      {"c": floats(3), "i": np.array([9])}), "Gather node",
    ),
    "empty file": (lambda: b"", "is not an ONNX file|is not a valid ONNX model"),
    "text": (lambda: b"a text, not a model", "is not an ONNX file|is not a valid ONNX model"),
    "zeros": (lambda: bytes(1000), "is not an ONNX file|is not a valid ONNX model"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_model_gives_one_clear_error(name: str) -> None:
    make, message = BAD[name]
    with pytest.raises(LightRNNError, match=message) as caught:
        convert(make())
    assert len(str(caught.value)) < 1000


def test_nested_subgraphs_are_read() -> None:
    found = convert(_nested(20).SerializeToString(), verify=False)(floats(2, 4))
    np.testing.assert_array_equal(found, np.maximum(floats(2, 4), 0))


# Models that ask for too much


def _chain(*nodes: Any, **constants: Array) -> Any:
    return model(nodes, X, {"y": (FLOAT, None)}, constants)


MUCH: dict[str, Any] = {
    "constant of shape": _chain(
        node("ConstantOfShape", ["s"], ["c"]), node("Neg", ["c"], ["d"]),
        node("Slice", ["d", "a", "b"], ["e"]), node("Add", ["x", "e"], ["y"]),
        s=np.array([2**20, 2**20, 4]), a=np.array([0]), b=np.array([1]),
    ),
    "tiled constant": _chain(
        node("Tile", ["c", "n"], ["d"]), node("ReduceSum", ["d"], ["e"], keepdims=0),
        node("Add", ["x", "e"], ["y"]), c=floats(4), n=np.array([2**40]),
    ),
    "range": _chain(
        node("Range", ["a", "b", "c"], ["d"]), node("Cast", ["d"], ["e"], to=FLOAT),
        node("ReduceMax", ["e"], ["f"], keepdims=0), node("Add", ["x", "f"], ["y"]),
        a=np.array(0), b=np.array(2**50), c=np.array(1),
    ),
    "padding": _chain(node("Pad", ["x", "p"], ["y"]), p=np.array([0, 0, 0, 2**40])),
    "expanded input": _chain(node("Expand", ["x", "s"], ["y"]), s=np.array([2**20, 2**20, 1, 4])),
    "one hot": _chain(
        node("OneHot", ["i", "d", "v"], ["o"]), node("ReduceMax", ["o"], ["m"], keepdims=0),
        node("Add", ["x", "m"], ["y"]),
        i=np.arange(4), d=np.array(2**40), v=np.array([0, 1], np.float32),
    ),
    "outer product": _chain(
        node("Expand", ["c", "s"], ["a"]), node("Transpose", ["a"], ["b"]),
        node("MatMul", ["b", "a"], ["m"]), node("ReduceMax", ["m"], ["f"], keepdims=0),
        node("Add", ["x", "f"], ["y"]), c=floats(1, 1), s=np.array([1, 2**20]),
    ),
    "fixed size of an input": model(
        [node("Relu", ["z"], ["y"])], {"z": (FLOAT, (2**20, 2**20))}, {"y": (FLOAT, None)}
    ),
}  # fmt: skip

_PROGRAM = """
import io, resource, sys
from lightrnn_converters import convert_onnx
from lightrnn.errors import LightRNNError
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
try:
    convert_onnx(sys.stdin.buffer.read(), io.BytesIO())
    print("converted")
except LightRNNError as error:
    print(type(error).__name__)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.parametrize("name", MUCH)
def test_memory_stays_small_whatever_a_model_asks_for(name: str) -> None:
    """Measured in a process of its own: kilobytes above what importing takes."""
    data = MUCH[name].SerializeToString()
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _PROGRAM], input=data, capture_output=True,
        check=True,
    )  # fmt: skip
    _, kilobytes = done.stdout.split()
    assert int(kilobytes) < 500_000


# Damage


def _whole() -> Iterator[bytes]:
    lstm = model(
        [node("LSTM", ["x", "w", "r", "b", "", "h"], ["y"], hidden_size=5,
              direction="bidirectional"),
         node("Transpose", ["y"], ["t"], perm=[0, 2, 1, 3]), node("Reshape", ["t", "s"], ["u"]),
         node("MatMul", ["u", "m"], ["z"]), node("Softmax", ["z"], ["out"], axis=-1)],
        {"x": (FLOAT, ("T", "N", 4)), "h": (FLOAT, (2, "N", 5))}, ["out"],
        {"w": floats(2, 20, 4), "r": floats(2, 20, 5), "b": floats(2, 40),
         "s": np.array([0, 0, -1]), "m": floats(10, 3)},
    )  # fmt: skip
    shapes = model(
        [node("Shape", ["x"], ["s"]), node("Gather", ["s", "i"], ["n"], axis=0),
         node("Unsqueeze", ["n", "a"], ["nn"]), node("Concat", ["nn", "k"], ["t"], axis=0),
         node("Expand", ["c", "t"], ["e"]), node("Add", ["x", "e"], ["o"]),
         node("Split", ["o"], ["q", "v"], axis=1, num_outputs=2),
         node("If", ["yes"], ["w"], then_branch=branch([node("Relu", ["q"], ["tt"])], "tt"),
              else_branch=branch([node("Neg", ["q"], ["ee"])], "ee"))],
        X, ["w", "v"],
        {"i": np.array(0), "a": np.array([0]), "k": np.array([4]), "c": floats(1, 4),
         "yes": np.array(True)},
    )  # fmt: skip
    for proto in (lstm, shapes):
        yield proto.SerializeToString()


def _damaged(data: bytes, rng: np.random.Generator, kind: str) -> bytes:
    at = int(rng.integers(len(data)))
    if kind == "truncated":
        return data[:at]
    if kind == "random":
        return rng.bytes(at)
    if kind == "cut":
        return data[:at] + data[at + int(rng.integers(1, 20)) :]
    changed = bytearray(data)
    for place in rng.integers(0, len(data), 3):
        flip = 1 << int(rng.integers(8)) if kind == "flipped" else int(rng.integers(1, 256))
        changed[place] ^= flip
    return bytes(changed)


@pytest.mark.parametrize("kind", ["truncated", "random", "cut", "flipped", "overwritten"])
def test_damaged_file_converts_or_gives_one_error(kind: str) -> None:
    rng, outcomes = np.random.default_rng(0), set()
    for data in _whole():
        for _ in range(60):
            try:
                convert_onnx(_damaged(data, rng, kind), io.BytesIO())
                outcomes.add("converted")
            except LightRNNError:
                outcomes.add("refused")
    assert "refused" in outcomes


def test_names_of_tensors_may_be_anything() -> None:
    names = ["a/b", "a b", "ä", ":1", "x" * 900, '"', "\n"]
    nodes = [node("Relu", [a], [b]) for a, b in zip(["x", *names], [*names, "y"], strict=True)]
    nodes[-1].name = "n" * 5000
    converted = convert(model(nodes, X, Y))
    np.testing.assert_array_equal(converted(floats(2, 4)), np.maximum(floats(2, 4), 0))


def test_name_that_files_cannot_hold_is_refused() -> None:
    proto = model([node("Relu", ["x"], ["y" * 2000])], X, {"y" * 2000: (FLOAT, ("N", 4))})
    with pytest.raises(LightRNNError, match="name"):
        convert(proto)


def test_constant_attributes_of_every_kind() -> None:
    kinds: dict[str, Any] = {
        "value_float": 1.5, "value_floats": [1.5, 2.5], "value_int": 3, "value_ints": [3, 4],
        "value": numpy_helper.from_array(np.array([2, 3], np.float32)),
    }  # fmt: skip
    for key, value in kinds.items():
        nodes = [node("Constant", [], ["c"], **{key: value}), node("Identity", ["c"], ["y"])]
        kind = INT64 if "int" in key else FLOAT
        found = convert(model(nodes, X, {"y": (kind, None)}), verify=False)(floats(1, 4))
        want = numpy_helper.to_array(value) if key == "value" else np.asarray(value)
        np.testing.assert_array_equal(found, want)
    nodes = [node("Constant", [], ["c"], value_string="text"), node("Identity", ["c"], ["y"])]
    with pytest.raises(LightRNNError, match="value_string"):
        convert(model(nodes, X, {"y": (TensorProto.STRING, None)}))
